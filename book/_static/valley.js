/* The valley of subspace_lib/theory/valley.py as an interactive figure; the rules are those of optimizers.py. */
(function () {
  "use strict";

  // ---- The model: no drawing; the same arithmetic as in Python, in the same order -------------------

  const METHODS = {
    "SGD": { rule: "sgd", part: "none", noisy: true },
    "GD": { rule: "sgd", part: "none", noisy: false },
    "Dom-SGD": { rule: "sgd", part: "dominant", noisy: true },
    "Bulk-SGD": { rule: "sgd", part: "bulk", noisy: true },
    "heavy ball": { rule: "momentum", part: "none", noisy: true },
    "Adam": { rule: "adam", part: "none", noisy: true },
    "SAM": { rule: "sam", part: "none", noisy: true },
  };

  /** A function that returns the next sign, ±1, of the seed: mulberry32, as valley.signs. */
  function signSource(seed) {
    let state = seed | 0;
    return () => {
      state = (state + 0x6d2b79f5) | 0;
      let t = Math.imul(state ^ (state >>> 15), state | 1);
      t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
      return (t ^ (t >>> 14)) >>> 0 < 2 ** 31 ? -1 : 1;
    };
  }

  function signs(seed, count) {
    return Array.from({ length: count }, signSource(seed));
  }

  function loss(valley, x, y) {
    return (valley.condition * (x * x) + y * y) / 2;
  }

  /** χ₁ = |κx|/‖∇L‖; NaN at the minimum. */
  function alignment(valley, x, y) {
    return Math.abs(valley.condition * x) / Math.hypot(valley.condition * x, y);
  }

  /** Gradient of the sample loss of a sign; sign 0: of L itself. */
  function gradient(valley, x, y, sign) {
    return [valley.condition * x + sign * valley.cross * y, y + sign * valley.cross * x];
  }

  /** Progress of Bulk-SGD in closed form, (1 − f)/(1 + a); NaN where SGD does not converge. */
  function bulkProgress(valley, rate) {
    const slack = 2 - rate * valley.condition;
    const share = (rate * valley.cross ** 2) / slack;
    const lost = (share * rate * valley.cross ** 2) / (valley.condition * (2 - rate));
    return slack > 0 && lost < 1 ? (1 - lost) / (1 + share) : NaN;
  }

  function sgd(rate) {
    return (g) => g.map((a) => -rate * a);
  }

  function momentum(rate, beta) {
    let m = [0, 0];
    return (g) => {
      m = m.map((a, i) => beta * a + g[i]);
      return m.map((a) => -rate * a);
    };
  }

  function adam(rate, beta) {
    const beta2 = 0.999;
    let first = [0, 0];
    let second = [0, 0];
    let count = 0;
    return (g) => {
      first = first.map((a, i) => beta * a + (1 - beta) * g[i]);
      second = second.map((a, i) => beta2 * a + (1 - beta2) * (g[i] * g[i]));
      count += 1;
      const scale = second.map((a) => Math.sqrt(a / (1 - beta2 ** count)) + 1e-8);
      const step = rate / (1 - beta ** count);
      return first.map((a, i) => (-step * a) / scale[i]);
    };
  }

  const RULES = { sgd, momentum, adam, sam: sgd };

  /** SAM's displacement ρ g/‖g‖. */
  function ascent(g, rho) {
    const norm = Math.max(Math.sqrt(g[0] * g[0] + g[1] * g[1]), 1e-30);
    return g.map((a) => (rho * a) / norm);
  }

  /** A function that takes one step and returns the new point [x, y]. */
  function walker(valley, method, rate, start, seed, { beta = 0.9, rho = 0.05 } = {}) {
    const { rule, part, noisy } = METHODS[method];
    const update = RULES[rule](rate, beta);
    const draw = noisy ? signSource(seed) : () => 0;
    let [x, y] = start;
    return () => {
      const sign = draw();
      let g = gradient(valley, x, y, sign);
      if (rule === "sam") {
        const [dx, dy] = ascent(g, rho);
        g = gradient(valley, x + dx, y + dy, sign);
      }
      const [ux, uy] = update(g);
      if (part !== "bulk") x += ux;
      if (part !== "dominant") y += uy;
      return [x, y];
    };
  }

  /** Points [x, y] before and after each of the steps. */
  function path(valley, method, rate, start, steps, seed = 0, options = {}) {
    const step = walker(valley, method, rate, start, seed, options);
    return [start, ...Array.from({ length: steps }, step)];
  }

  const model = { METHODS, signs, loss, alignment, bulkProgress, path };
  if (typeof module !== "undefined") module.exports = model;
  if (typeof window === "undefined") return;
  window.SubspaceValley = model;

  // ---- A run: the walker's points and what is shown of them -----------------------------------------

  const TIMES = 2; // a run is so many of the valley's own times, 1/η, long
  const SHORTEST = 1000; // steps of one, where η is large
  const POINTS = 5000; // of a run that are kept as it plays; drawing stays cheap and memory small
  const DIVERGED = 1e6; // far above any loss in view
  const KEPT = 6; // earlier curves at once
  const FAINT = 0.55; // their strength

  /** A run of settings that has taken no step yet; start is [√κ x, y], so that L does not depend on κ. */
  function newRun(settings, start) {
    const condition = settings.condition;
    const valley = { condition, cross: settings.cross };
    const first = [start[0] / Math.sqrt(condition), start[1]];
    const rate = settings.sharp / condition;
    const step = walker(valley, settings.method, rate, first, settings.seed, { rho: settings.rho });
    const steps = Math.max(SHORTEST, Math.round(TIMES / rate));
    const run = {
      valley, step, steps, every: Math.ceil(steps / POINTS), method: settings.method, label: label(settings),
      expected: bulkProgress(valley, rate), point: first, taken: 0, count: -1, diverged: false,
      at: [], x: [], y: [], loss: [], chi: [], recent: [], low: Infinity, high: 0,
    };
    keep(run, first);
    return run;
  }

  /** Keep a point after `taken` steps as the run's last, number `count`. */
  function keep(run, [x, y]) {
    run.count += 1;
    const now = loss(run.valley, x, y);
    run.at.push(run.taken);
    run.x.push(x);
    run.y.push(y);
    run.loss.push(now);
    run.chi.push(alignment(run.valley, x, y));
    run.recent.push(recentAlignment(run));
    run.low = Math.min(run.low, now);
    run.high = Math.max(run.high, now);
    run.diverged = isDiverged(now);
  }

  function isDiverged(now) {
    return !(now <= DIVERGED);
  }

  /** Keep the point where the run is, unless it is kept already. */
  function keepLast(run) {
    if (run.at[run.count] < run.taken) keep(run, run.point);
  }

  /** Take steps, and keep one of `every` so many. */
  function advance(run, steps, every = run.every) {
    for (let i = 0; i < steps && !finished(run); i += 1) {
      run.taken += 1;
      run.point = run.step();
      if (run.taken % every === 0 || isDiverged(loss(run.valley, ...run.point))) keep(run, run.point);
    }
  }

  function finished(run) {
    return run.diverged || run.taken === run.steps;
  }

  /** Mean alignment over those of the last hundred kept points that have one. */
  function recentAlignment(run) {
    const found = run.chi.slice(-100).filter((chi) => !isNaN(chi));
    return found.reduce((sum, chi) => sum + chi, 0) / found.length;
  }

  function label(s) {
    const noise = s.method === "GD" ? "" : `, c = ${s.cross}`;
    const ascent = s.method === "SAM" ? `, ρ = ${s.rho}` : "";
    return `${s.method}: ηκ = ${s.sharp}, κ = ${s.condition}${noise}${ascent}`;
  }

  // ---- Numbers as text ------------------------------------------------------------------------------

  function power(exponent) {
    const raised = { "-": "⁻", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹" };
    return "10" + [...String(exponent)].map((c) => raised[c]).join("");
  }

  /** A number of steps, short enough for an axis. */
  function whole(value) {
    return value < 1e4 ? `${value}` : `${value / 1000}k`;
  }

  /** Three digits; a dash where there is no number. */
  function text(value) {
    if (!isFinite(value)) return "–";
    if (value === 0 || (Math.abs(value) >= 1e-3 && Math.abs(value) < 1e4)) return value.toPrecision(3);
    const [digits, exponent] = value.toExponential(2).split("e");
    return `${digits} × ${power(Number(exponent))}`;
  }

  // ---- Surfaces: a back with axes and earlier curves, and a live canvas that only grows ----------------

  function element(tag, attributes = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.append(...children);
    return node;
  }

  function surface(name, attributes) {
    const [back, live] = [element("canvas"), element("canvas")];
    for (const canvas of [back, live]) canvas.setAttribute("aria-hidden", "true");
    const box = element("div", { class: `valley-surface valley-${name}`, ...attributes }, back, live);
    return { box, back: back.getContext("2d"), live: live.getContext("2d"), drawn: 0, map: null };
  }

  /** Give both canvases the box's size in device pixels; empties them. */
  function fit(area) {
    const scale = Math.min(window.devicePixelRatio || 1, 2);
    [area.width, area.height] = [area.box.clientWidth, area.box.clientHeight];
    for (const context of [area.back, area.live]) {
      context.canvas.width = Math.round(area.width * scale);
      context.canvas.height = Math.round(area.height * scale);
      context.setTransform(scale, 0, 0, scale, 0, 0);
      context.lineJoin = context.lineCap = "round"; // no seams between the pieces of a growing line
    }
  }

  /** The page's colours of today: read whenever something is drawn anew, for the theme may change. */
  function palette(box) {
    const style = getComputedStyle(box);
    const ofMethod = (method) => style.getPropertyValue(`--valley-${method.toLowerCase()}`).trim();
    return { ink: style.color, font: `12px ${style.fontFamily}`, ofMethod };
  }

  function clear(context, area) {
    context.clearRect(0, 0, area.width, area.height);
  }

  /** From data to pixels: limits [from, to] in each direction, margins left for the ticks. */
  function mapping(area, horizontal, vertical) {
    const [left, right] = [54, Math.max(55, area.width - 18)]; // a hidden box has no width
    const [top, bottom] = [8, Math.max(9, area.height - 36)];
    const scaleX = (right - left) / (horizontal[1] - horizontal[0]);
    const scaleY = (bottom - top) / (vertical[1] - vertical[0]);
    return {
      left, right, top, bottom, scaleX, scaleY,
      x: (value) => left + (value - horizontal[0]) * scaleX,
      y: (value) => bottom - (value - vertical[0]) * scaleY,
    };
  }

  function clip(context, { left, right, top, bottom }) {
    context.beginPath();
    context.rect(left, top - 2, right - left, bottom - top + 4);
    context.clip();
  }

  /** Ticks are [value, text]; the titles stand outside them. */
  function axes(area, colours, { across, up, titleAcross, titleUp }) {
    const [c, m] = [area.back, area.map];
    c.font = colours.font;
    c.fillStyle = c.strokeStyle = colours.ink;
    c.lineWidth = 1;
    c.textAlign = "center";
    c.textBaseline = "alphabetic";
    for (const [value, words] of across) c.fillText(words, m.x(value), m.bottom + 15);
    c.fillText(titleAcross, (m.left + m.right) / 2, m.bottom + 31);
    c.textAlign = "right";
    c.textBaseline = "middle";
    for (const [value, words] of up) c.fillText(words, m.left - 6, m.y(value));
    c.save();
    c.translate(9, (m.top + m.bottom) / 2);
    c.rotate(-Math.PI / 2);
    c.textAlign = "center";
    c.fillText(titleUp, 0, 0);
    c.restore();
  }

  function grid({ back: c, map: m }, across, up) {
    c.globalAlpha = 0.15;
    c.beginPath();
    for (const [value] of across) line(c, m.x(value), m.top, m.x(value), m.bottom);
    for (const [value] of up) line(c, m.left, m.y(value), m.right, m.y(value));
    c.stroke();
    c.globalAlpha = 1;
  }

  function line(context, x0, y0, x1, y1) {
    context.moveTo(x0, y0);
    context.lineTo(x1, y1);
  }

  /** A polyline through points from … to; where many share a pixel column, only its range is drawn. */
  function trace(context, from, to, x, y) {
    let [column, low, high, pen] = [NaN, 0, 0, false];
    const flush = () => {
      if (isNaN(column)) return;
      pen ? context.lineTo(column, low) : context.moveTo(column, low);
      if (high > low) context.lineTo(column, high);
      pen = true;
    };
    context.beginPath();
    for (let i = from; i <= to; i += 1) {
      const [px, py] = [Math.round(x(i) * 2) / 2, y(i)];
      if (isNaN(py) || px !== column) {
        flush();
        column = isNaN(py) ? NaN : px;
        [low, high] = [py, py];
        if (isNaN(py)) pen = false;
      } else {
        [low, high] = [Math.min(low, py), Math.max(high, py)];
      }
    }
    flush();
    context.stroke();
  }

  // ---- The contour plot: y along the valley to the right, x across it upwards -------------------------

  const VIEW = { y: [-0.3, 1.3], u: 1.5 }; // u = √κ x; in these units the picture is the same for every κ

  function drawContours(area, run, colours, kept) {
    const half = VIEW.u / Math.sqrt(run.valley.condition);
    area.map = mapping(area, VIEW.y, [-half, half]);
    clear(area.back, area);
    ellipses(area, run.valley.condition, colours);
    const tick = Number((half / 1.5).toPrecision(1));
    const stretch = (area.map.scaleY / area.map.scaleX).toPrecision(2);
    axes(area, colours, {
      across: [[0, "0"], [0.5, "0.5"], [1, "1"]],
      up: [[-tick, `−${tick}`], [0, "0"], [tick, `${tick}`]],
      titleAcross: "y, along the valley",
      titleUp: `x, across (scaled ×${Number(stretch)})`,
    });
    for (const old of kept) drawTrail(area, area.back, old, 0, colours, FAINT);
  }

  /** Contours of L at ½r², r = 0.2, 0.4, …: ellipses, each a little darker inside the next. */
  function ellipses({ back: c, map: m }, condition, colours) {
    c.save();
    clip(c, m);
    c.fillStyle = c.strokeStyle = colours.ink;
    c.lineWidth = 1;
    for (let r = 0.2; r < 2.1; r += 0.2) {
      c.beginPath();
      c.ellipse(m.x(0), m.y(0), r * m.scaleX, (r / Math.sqrt(condition)) * m.scaleY, 0, 0, 2 * Math.PI);
      c.globalAlpha = 0.015;
      c.fill();
      c.globalAlpha = 0.25;
      c.stroke();
    }
    c.restore();
  }

  function drawTrail(area, context, run, from, colours, alpha) {
    const m = area.map;
    context.save();
    clip(context, m);
    context.strokeStyle = colours.ofMethod(run.method);
    context.globalAlpha = alpha;
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(m.x(run.y[from]), m.y(run.x[from]));
    for (let i = from + 1; i <= run.count; i += 1) context.lineTo(m.x(run.y[i]), m.y(run.x[i]));
    context.stroke();
    context.restore();
  }

  // ---- The two charts over steps ----------------------------------------------------------------------

  const FLOOR = 1e-12; // smaller losses are drawn here

  function lossHeight(value) {
    return Math.log10(Math.max(value, FLOOR));
  }

  /** Decades that hold all losses, three at least. */
  function lossLimits(runs) {
    const top = Math.ceil(lossHeight(Math.max(...runs.map((r) => r.high))) + 0.1);
    const bottom = Math.floor(lossHeight(Math.min(...runs.map((r) => r.low))) - 0.1);
    return [Math.min(bottom, top - 3), top];
  }

  function lossTicks([bottom, top]) {
    const every = Math.ceil((top - bottom) / 4);
    const ticks = [];
    for (let e = top; e >= bottom; e -= every) ticks.push([e, power(e)]);
    return ticks;
  }

  function stepLimit(runs) {
    const most = Math.max(100, ...runs.map((r) => r.taken));
    const decade = 10 ** Math.floor(Math.log10(most));
    return [1, 2, 5, 10].map((digit) => digit * decade).find((limit) => most <= limit);
  }

  // What each chart shows, as [height, strength] of its lines: the alignment beside its mean, in front.
  const CHARTS = {
    loss: {
      title: "loss L", limits: lossLimits, ticks: lossTicks,
      lines: [[(run, i) => lossHeight(run.loss[i]), 1]],
    },
    chi: {
      title: "χ₁, bold: mean of 100", limits: () => [0, 1], ticks: () => [[0, "0"], [0.5, "0.5"], [1, "1"]],
      lines: [[(run, i) => run.chi[i], 0.25], [(run, i) => run.recent[i], 1]],
    },
  };

  /** Redraw the chart where its limits have changed, else only add the new points. */
  function drawChart(area, chart, run, kept, colours, anew) {
    const runs = [run, ...kept];
    const [end, limits] = [stepLimit(runs), chart.limits(runs)];
    const frame = [end, ...limits].join();
    if (anew || frame !== area.frame) {
      area.frame = frame;
      area.map = mapping(area, [0, end], limits);
      clear(area.back, area);
      const across = [[0, "0"], [end / 2, whole(end / 2)], [end, whole(end)]];
      const up = chart.ticks(limits);
      axes(area, colours, { across, up, titleAcross: "step", titleUp: chart.title });
      grid(area, across, up);
      for (const old of kept) drawCurve(area, area.back, chart, old, 0, colours, FAINT);
      clear(area.live, area);
      area.drawn = 0;
    }
    drawCurve(area, area.live, chart, run, area.drawn, colours, 1);
    area.drawn = run.count;
  }

  function drawCurve(area, context, chart, run, from, colours, alpha) {
    context.strokeStyle = colours.ofMethod(run.method);
    for (const [height, strength] of chart.lines) {
      context.globalAlpha = alpha * strength;
      context.lineWidth = strength < 1 ? 1 : 1.8;
      trace(context, from, run.count, (i) => area.map.x(run.at[i]), (i) => area.map.y(height(run, i)));
    }
    context.globalAlpha = 1;
  }

  // ---- Controls -----------------------------------------------------------------------------------------

  const two = (value) => Number(value.toPrecision(2));
  const power10 = (digits) => ({ of: (p) => digits(10 ** p), at: Math.log10 });
  const plain = { of: Number, at: Number };

  // Position on the slider → value; logarithmic ones keep round values within reach.
  const SLIDERS = [
    { name: "sharp", words: "learning rate", from: -2.3, to: 0.4, by: 0.01, first: 0.01, ...power10(two),
      show: (v, s) => `ηκ = ${v}, η = ${text(v / s.condition)}` },
    { name: "cross", words: "noise", from: 0, to: 200, by: 1, first: 100, ...plain,
      show: (v) => `c = ${v}` },
    { name: "condition", words: "condition number", from: 1, to: 3.3, by: 0.02, first: 1000,
      ...power10(two), show: (v) => `κ = ${v}` },
    { name: "rho", words: "SAM’s radius", from: -3.3, to: -1.3, by: 0.02, first: 0.005, ...power10(two),
      show: (v) => `ρ = ${v}` },
    { name: "seconds", words: "a whole run takes", from: 0.3, to: 2.5, by: 0.05, first: 10, ...power10(two),
      show: (v) => `${v} s` },
  ];

  function slider(spec) {
    const input = element("input", {
      type: "range", name: spec.name, min: spec.from, max: spec.to, step: spec.by,
    });
    input.value = spec.at(spec.first);
    const output = element("output");
    const node = element("label", { class: "valley-slider" }, element("span", {}, spec.words), output, input);
    return { spec, input, output, node };
  }

  function button(words) {
    return element("button", { type: "button", class: "valley-button" }, words);
  }

  function controls() {
    const options = Object.keys(METHODS).map((name) => element("option", {}, name));
    const method = element("select", { name: "method" }, ...options);
    const seed = element("input", { type: "number", name: "seed", min: 0, max: 999999, step: 1, value: 0 });
    const keep = element("input", { type: "checkbox", name: "keep" });
    const [play, step, reset] = [button("Play"), button("Step"), button("Reset")];
    const sliders = SLIDERS.map(slider);
    const field = (words, input) => element("label", { class: "valley-field" }, words, input);
    const row = element("div", { class: "valley-row" }, play, step, reset,
      field("method ", method), field("seed ", seed),
      element("label", { class: "valley-field" }, keep, " keep curves"));
    const panel = element("div", { class: "valley-sliders" }, ...sliders.map((s) => s.node));
    return { method, seed, keep, play, step, reset, sliders, row, panel };
  }

  /** What the controls say, and their values written beside them. */
  function readSettings(ui) {
    const settings = { method: ui.method.value, seed: Math.trunc(Number(ui.seed.value)) || 0 };
    for (const { spec, input } of ui.sliders) settings[spec.name] = spec.of(Number(input.value));
    for (const { spec, input, output, node } of ui.sliders) {
      output.textContent = spec.show(settings[spec.name], settings);
      input.setAttribute("aria-valuetext", output.textContent);
      node.hidden = spec.name === "rho" && settings.method !== "SAM";
    }
    return settings;
  }

  // ---- The handle: the starting point -----------------------------------------------------------------

  function within(value, low, high) {
    return Math.min(high, Math.max(low, value));
  }

  function newHandle() {
    return element("div", {
      class: "valley-handle", role: "slider", tabindex: 0, "aria-label": "Starting point",
      "aria-roledescription": "two-dimensional slider", "aria-valuemin": VIEW.y[0], "aria-valuemax": VIEW.y[1],
    });
  }

  /** Tell move(right, up) the wanted displacement of the handle, in pixels of the plot. */
  function listenToHandle(handle, move) {
    let last = null;
    handle.addEventListener("pointerdown", (event) => {
      handle.setPointerCapture(event.pointerId);
      last = event;
    });
    handle.addEventListener("pointermove", (event) => {
      if (!last) return;
      move(event.clientX - last.clientX, last.clientY - event.clientY);
      last = event;
    });
    for (const end of ["pointerup", "pointercancel"]) handle.addEventListener(end, () => { last = null; });
    const keys = { ArrowLeft: [-6, 0], ArrowRight: [6, 0], ArrowUp: [0, 6], ArrowDown: [0, -6] };
    handle.addEventListener("keydown", (event) => {
      if (!keys[event.key]) return;
      event.preventDefault(); // the page must not scroll
      move(...keys[event.key]);
    });
  }

  function placeHandle(handle, area, run) {
    const [x, y] = [run.x[0], run.y[0]];
    place(handle, area.map.x(y), area.map.y(x));
    handle.setAttribute("aria-valuenow", y.toFixed(3));
    handle.setAttribute("aria-valuetext", `x = ${text(x)}, y = ${text(y)}`);
  }

  function place(node, left, top) {
    node.style.transform = `translate(${left}px, ${top}px)`;
  }

  // ---- All together -----------------------------------------------------------------------------------

  const NUMBERS = { start: "start", step: "step", loss: "loss L", chi: "χ₁", recent: "mean χ₁, last 100",
    expected: "Bulk-SGD’s progress, closed form" };

  /** A list of the numbers as text; returns it with a function that writes them. */
  function numbers() {
    const cells = {};
    const list = element("div", { class: "valley-numbers" });
    for (const [name, words] of Object.entries(NUMBERS)) {
      cells[name] = element("output", { "data-number": name, "aria-live": "off" });
      list.append(element("div", {}, element("span", {}, words), cells[name]));
    }
    const write = (run) => {
      const i = run.count;
      const values = {
        start: `(${text(run.x[0])}, ${text(run.y[0])})`, step: `${run.at[i]}`, loss: text(run.loss[i]),
        chi: text(run.chi[i]), recent: text(run.recent[i]), expected: text(run.expected),
      };
      for (const [name, value] of Object.entries(values)) cells[name].textContent = value;
    };
    return { list, write };
  }

  function stateOf(run, playing) {
    if (run.diverged) return `diverged at step ${run.taken}`;
    if (finished(run)) return `stopped at step ${run.taken}`;
    if (playing) return "running";
    if (run.taken) return `paused at step ${run.taken}`;
    return "Drag the ring to choose where to start, then press Play.";
  }

  function legendEntry(run, colours, faint) {
    const swatch = element("span", { class: "valley-swatch" });
    swatch.style.background = colours.ofMethod(run.method);
    swatch.style.opacity = faint ? FAINT : 1;
    return element("li", {}, swatch, run.label);
  }

  function mount(box) {
    const ui = controls();
    const plane = surface("plane", { role: "group", "aria-label": "Contour plot of the loss L(x, y)" });
    const charts = Object.fromEntries(Object.entries(CHARTS).map(([name, chart]) =>
      [name, surface("chart", { role: "img", "aria-label": `${chart.title}; over steps` })]));
    const [handle, dot] = [newHandle(), element("div", { class: "valley-dot" })];
    const [shown, legend] = [numbers(), element("ul", { class: "valley-legend" })];
    const status = element("p", { class: "valley-status", role: "status" });
    const areas = [plane, charts.loss, charts.chi];
    plane.box.append(dot, handle);
    const pair = element("div", { class: "valley-charts" }, charts.loss.box, charts.chi.box);
    box.append(element("div", { class: "valley-app" },
      plane.box, ui.row, status, shown.list, pair, legend, ui.panel));
    box.classList.add("valley-live");

    let settings = readSettings(ui);
    let start = [0.2, 1];
    let run = newRun(settings, start);
    let kept = [];
    let colours = palette(box);
    let [playing, last, due, written] = [false, 0, 0, 0];

    const drawProgress = (anew) => {
      drawTrail(plane, plane.live, run, plane.drawn, colours, 0.7);
      plane.drawn = run.count;
      for (const name of Object.keys(CHARTS)) drawChart(charts[name], CHARTS[name], run, kept, colours, anew);
      const [x, y] = [plane.map.x(run.y[run.count]), plane.map.y(run.x[run.count])];
      dot.hidden = x < plane.map.left || x > plane.map.right || y < plane.map.top || y > plane.map.bottom;
      if (!dot.hidden) place(dot, x, y);
    };
    const drawRun = (anew) => {
      for (const area of areas) {
        clear(area.live, area);
        area.drawn = 0;
      }
      placeHandle(handle, plane, run);
      drawProgress(anew);
      shown.write(run);
    };
    const drawAll = () => {
      colours = palette(box);
      drawContours(plane, run, colours, kept);
      drawRun(true);
      dot.style.background = colours.ofMethod(run.method);
      legend.replaceChildren(...[run, ...kept].map((r) => legendEntry(r, colours, r !== run)));
    };
    const say = () => {
      ui.play.textContent = playing ? "Pause" : "Play";
      status.textContent = stateOf(run, playing);
    };
    const pause = () => {
      playing = false;
      keepLast(run);
      drawProgress(false);
      shown.write(run);
      say();
    };
    const frame = (now) => {
      if (!playing) return;
      due += (run.steps * Math.min(now - last, 50)) / (1000 * settings.seconds); // a hidden page does not catch up
      last = now;
      advance(run, Math.floor(due));
      due %= 1;
      drawProgress(false);
      if (finished(run)) return pause();
      if (now - written > 100) { // nobody reads sixty numbers a second
        shown.write(run);
        written = now;
      }
      requestAnimationFrame(frame);
    };
    /** Put the run among the earlier curves, or drop those; whether that changed anything. */
    const shelve = () => {
      const before = kept;
      if (!ui.keep.checked && kept.length) kept = [];
      else if (ui.keep.checked && run.taken) {
        kept = [run, ...kept.filter((r) => r.label !== run.label)].slice(0, KEPT);
      }
      return kept !== before;
    };
    const restart = () => {
      settings = readSettings(ui);
      shelve();
      run = newRun(settings, start);
      drawAll();
      pause();
    };
    const play = () => {
      if (playing) return pause();
      if (finished(run)) restart();
      [playing, last, due] = [true, performance.now(), 0];
      say();
      requestAnimationFrame(frame);
    };
    const single = () => {
      if (finished(run)) restart();
      advance(run, 1, 1);
      pause();
    };
    const moveStart = (right, up) => {
      const u = start[0] + (up / plane.map.scaleY) * Math.sqrt(settings.condition);
      start = [within(u, -VIEW.u, VIEW.u), within(start[1] + right / plane.map.scaleX, ...VIEW.y)];
      const changed = shelve();
      run = newRun(settings, start);
      changed ? drawAll() : drawRun(false);
      pause();
    };

    ui.play.addEventListener("click", play);
    ui.step.addEventListener("click", single);
    ui.reset.addEventListener("click", restart);
    for (const input of [ui.method, ui.seed, ui.keep]) input.addEventListener("change", restart);
    for (const { spec, input } of ui.sliders) {
      input.addEventListener("input", spec.name === "seconds" ? () => { settings = readSettings(ui); } : restart);
    }
    listenToHandle(handle, moveStart);
    const layOut = () => {
      areas.forEach(fit);
      drawAll();
    };
    layOut();
    new ResizeObserver(layOut).observe(box);
    new MutationObserver(drawAll).observe(document.documentElement, { attributeFilter: ["data-theme"] });
    say();
  }

  const mountAll = () => document.querySelectorAll(".valley").forEach(mount);
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", mountAll);
  else mountAll();
})();
