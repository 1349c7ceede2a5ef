/* The explorer: stored runs by quantity, setting, parameters, method and seed; data of subspace_lib/book/explorer.py. */
(function () {
  "use strict";

  const DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  const LEVELS = 64 ** 3 - 1;
  const USUAL = "usual"; // of each method, the parameters that most of its runs have
  const LIMIT = 30; // lines that can be told apart at all
  const FIRST = { quantity: "train_loss", setting: "MLP · MNIST-5k · pixels x/255", methods: ["SGD", "Dom-SGD", "Bulk-SGD"] };
  // As in the figures: SGD, Dom-SGD and Bulk-SGD; other rules have colours of their own, and the same dashes.
  const COLOURS = { SGD: "#0072B2", "Dom-SGD": "#D55E00", "Bulk-SGD": "#009E73", GD: "#CC79A7", Momentum: "#E69F00", Adam: "#56B4E9" };
  const PARTS = [["Dom-", [7, 3]], ["Bulk-", [9, 3, 2, 3]], ["", []]];
  const OTHER = "#8a8a8a";

  // ---- The data --------------------------------------------------------------------------------------

  /** The values that explorer.py's pack was given. */
  function unpack(low, high, log, text) {
    const values = [];
    for (let i = 0; i < text.length; i += 3) {
      const level = (DIGITS.indexOf(text[i]) << 12) + (DIGITS.indexOf(text[i + 1]) << 6) + DIGITS.indexOf(text[i + 2]);
      const scaled = low + (level / LEVELS) * (high - low);
      values.push(log ? Math.exp(scaled) : scaled);
    }
    return values;
  }

  function running(differences) {
    let sum = 0;
    return differences.map((d) => (sum += d));
  }

  /** Steps and values of a run's quantity. */
  function series(data, run, quantity) {
    const [place, ...packed] = run.series[quantity];
    return [running(data.steps[place]), unpack(...packed)];
  }

  /** The value of the last row up to a step, null outside of the rows. */
  function at([steps, values], step) {
    if (step < steps[0] || step > steps[steps.length - 1]) return null;
    let low = 0;
    let high = steps.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (steps[middle] <= step) low = middle;
      else high = middle - 1;
    }
    return values[low];
  }

  const distinct = (items) => [...new Set(items)];

  /** The runs, one of each method in turn: what is cut off at the end then leaves no method out. */
  function inTurn(runs) {
    const groups = distinct(runs.map((run) => run.method)).map((m) => runs.filter((run) => run.method === m));
    const longest = Math.max(0, ...groups.map((group) => group.length));
    return Array.from({ length: longest }, (_, i) => groups.flatMap((group) => group.slice(i, i + 1))).flat();
  }
  const shown = (value) => (value === null ? "–" : String(Number(value.toPrecision(4))));

  /** The parameters that most of a method's runs in a setting have, by method. */
  function usual(data, setting) {
    const counts = {};
    for (const run of data.runs.filter((r) => r.setting === setting)) {
      const own = (counts[run.method] ??= {});
      own[run.parameters] = (own[run.parameters] || 0) + 1;
    }
    const most = (own) => Object.keys(own).sort((a, b) => own[b] - own[a] || a.localeCompare(b))[0];
    return Object.fromEntries(Object.entries(counts).map(([method, own]) => [method, most(own)]));
  }

  /** Runs that a choice leaves; "parameters" and "seeds" that are empty leave all. */
  function chosen(data, choice) {
    const own = usual(data, choice.setting);
    const fits = (run) => !choice.parameters || run.parameters === (choice.parameters === USUAL ? own[run.method] : choice.parameters);
    const order = (run) => PARTS.length - PARTS.findIndex(([p]) => run.method.startsWith(p));
    const left = data.runs.filter(
      (run) =>
        run.setting === choice.setting &&
        choice.quantity in run.series &&
        choice.methods.includes(run.method) &&
        fits(run) &&
        (!choice.seeds.length || choice.seeds.includes(run.seed)),
    );
    return left.sort((a, b) => order(a) - order(b) || a.method.localeCompare(b.method) || a.seed - b.seed);
  }

  function stroke(run) {
    const [prefix, dash] = PARTS.find(([p]) => run.method.startsWith(p));
    return { colour: COLOURS[run.method] || COLOURS[run.method.slice(prefix.length)] || OTHER, dash };
  }

  // ---- The page --------------------------------------------------------------------------------------

  function element(name, attributes = {}, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  }

  function select(label, id) {
    const control = element("select", { id });
    return [element("div", { class: "explorer-field" }, element("label", { for: id }, label), control), control];
  }

  function fill(control, options, value) {
    control.replaceChildren(...options.map(([key, says]) => element("option", { value: key }, says)));
    control.value = value;
  }

  /** Check boxes with their names beside them, in a fieldset. */
  function boxes(holder, items, checked, change) {
    const focus = document.activeElement && holder.contains(document.activeElement) ? document.activeElement.value : null;
    holder.replaceChildren(
      holder.firstChild,
      ...items.map((item) => {
        const box = element("input", { type: "checkbox", value: String(item) });
        box.checked = checked.includes(item);
        box.addEventListener("change", change);
        return element("label", { class: "explorer-box" }, box, ` ${item}`);
      }),
    );
    if (focus !== null) [...holder.querySelectorAll("input")].find((box) => box.value === focus)?.focus();
  }

  const ticked = (holder) => [...holder.querySelectorAll("input:checked")].map((box) => box.value);

  class Explorer {
    constructor(root, data) {
      this.root = root;
      this.data = data;
      this.step = Infinity;
      this.choice = { ...FIRST, parameters: USUAL, seeds: [] };
      const settings = distinct(data.runs.map((run) => run.setting));
      if (!settings.includes(this.choice.setting)) this.choice.setting = settings[0];
      this.read();
      this.log = data.quantities[this.choice.quantity].log;
      this.build();
      this.update();
    }

    /** The choice that the address holds, as far as it makes sense. */
    read() {
      const asked = new URLSearchParams(location.hash.slice(1));
      const { quantities, runs } = this.data;
      if (asked.get("quantity") in quantities) this.choice.quantity = asked.get("quantity");
      if (runs.some((run) => run.setting === asked.get("setting"))) this.choice.setting = asked.get("setting");
      if (asked.has("methods")) this.choice.methods = asked.get("methods").split(",");
      if (asked.has("parameters")) this.choice.parameters = asked.get("parameters");
      if (asked.has("seeds")) this.choice.seeds = asked.get("seeds").split(",").map(Number);
    }

    write() {
      const { quantity, setting, methods, parameters, seeds } = this.choice;
      const told = new URLSearchParams({ quantity, setting, methods: methods.join(",") });
      if (parameters !== USUAL) told.set("parameters", parameters);
      if (seeds.length) told.set("seeds", seeds.join(","));
      history.replaceState(null, "", `#${told}`);
    }

    build() {
      const [quantity, setting, parameters] = ["Quantity", "Setting", "Parameters"].map((label) => select(label, `explorer-${label.toLowerCase()}`));
      [this.quantity, this.setting, this.parameters] = [quantity[1], setting[1], parameters[1]];
      this.methods = element("fieldset", { class: "explorer-boxes" }, element("legend", {}, "Methods"));
      this.seeds = element("fieldset", { class: "explorer-boxes" }, element("legend", {}, "Seeds"));
      this.logBox = element("input", { type: "checkbox", id: "explorer-log" });
      this.slider = element("input", { type: "range", id: "explorer-step", min: 0, value: 0 });
      this.stepText = element("output", { for: "explorer-step" });
      this.note = element("p", { class: "explorer-note", role: "status" });
      this.plot = element("div", { class: "explorer-plot", role: "img" });
      this.table = element("tbody");
      this.head = element("th", { scope: "col" });
      const names = ["", "Method", "Seed", "Parameters"].map((name) => element("th", { scope: "col" }, name || element("span", { class: "explorer-hidden" }, "Line")));
      const table = element("table", { class: "explorer-table" }, element("thead", {}, element("tr", {}, ...names, this.head, element("th", { scope: "col" }, "Run"))), this.table);
      this.root.replaceChildren(
        element("div", { class: "explorer-selects" }, quantity[0], setting[0], parameters[0]),
        this.methods,
        this.seeds,
        element("label", { class: "explorer-box" }, this.logBox, " Logarithmic axis"),
        this.note,
        this.plot,
        element("div", { class: "explorer-step" }, element("label", { for: "explorer-step" }, "Step"), this.slider, this.stepText),
        element("div", { class: "explorer-scroll" }, table),
      );
      this.listen();
    }

    listen() {
      this.quantity.addEventListener("change", () => {
        this.choice.quantity = this.quantity.value;
        this.log = this.data.quantities[this.quantity.value].log;
        this.update();
      });
      this.setting.addEventListener("change", () => this.change({ setting: this.setting.value, parameters: USUAL, seeds: [] }));
      this.parameters.addEventListener("change", () => this.change({ parameters: this.parameters.value }));
      this.logBox.addEventListener("change", () => {
        this.log = this.logBox.checked;
        this.update();
      });
      this.slider.addEventListener("input", () => this.point(Number(this.slider.value), true));
      new ResizeObserver(() => this.chart?.setSize(this.size())).observe(this.plot);
      new MutationObserver(() => this.draw()).observe(document.documentElement, { attributeFilter: ["data-theme"] });
    }

    change(part) {
      Object.assign(this.choice, part);
      this.update();
    }

    /** Bring controls, chart and table in step with the choice. */
    update() {
      const { data, choice } = this;
      const here = data.runs.filter((run) => run.setting === choice.setting);
      fill(this.quantity, Object.entries(data.quantities).map(([key, q]) => [key, q.name]), choice.quantity);
      fill(this.setting, distinct(data.runs.map((run) => run.setting)).map((s) => [s, s]), choice.setting);
      const methods = distinct(here.map((run) => run.method)).sort();
      if (!choice.methods.some((m) => methods.includes(m))) choice.methods = methods.slice(0, 3);
      const seeds = distinct(here.map((run) => run.seed)).sort((a, b) => a - b);
      const sets = distinct(here.filter((run) => choice.methods.includes(run.method)).map((run) => run.parameters)).sort();
      if (choice.parameters && !sets.includes(choice.parameters)) choice.parameters = USUAL;
      const kinds = [[USUAL, "most frequent of each method"], ["", `any (${sets.length})`]];
      fill(this.parameters, [...kinds, ...sets.map((s) => [s, s])], choice.parameters);
      boxes(this.methods, methods, choice.methods, () => this.change({ methods: ticked(this.methods) }));
      boxes(this.seeds, seeds, choice.seeds.length ? choice.seeds : seeds, () => this.change({ seeds: ticked(this.seeds).map(Number) }));
      this.logBox.checked = this.log;
      const all = chosen(data, choice);
      const drawn = new Set(inTurn(all).slice(0, LIMIT));
      this.runs = all.filter((run) => drawn.has(run));
      this.note.textContent = this.says(all.length);
      this.lines = this.runs.map((run) => series(data, run, choice.quantity));
      this.write();
      this.rows();
      this.draw();
    }

    says(count) {
      const name = this.data.quantities[this.choice.quantity].name;
      if (!count) return `No stored run of this choice has measured: ${name}.`;
      const drawn = count > LIMIT ? `${LIMIT} of ${count} runs are drawn; choose parameters or seeds to see the others.` : `${count} ${count === 1 ? "run" : "runs"}.`;
      const lines = distinct(this.data.quantities[this.choice.quantity].lines.map((line) => line.says));
      return lines.length ? `${drawn} Dashed: ${lines.join("; ")}.` : drawn;
    }

    rows() {
      this.cells = this.runs.map(() => element("td", { class: "explorer-value" }));
      const { status, data } = this.root.dataset;
      this.table.replaceChildren(
        ...this.runs.map((run, i) => {
          const { colour, dash } = stroke(run);
          const swatch = element("span", { class: "explorer-swatch", style: `border-top: 3px ${dash.length ? "dashed" : "solid"} ${colour}` });
          const row = element(
            "tr", {},
            element("td", {}, swatch),
            element("th", { scope: "row" }, run.method),
            element("td", { "data-label": "seed " }, String(run.seed)),
            element("td", {}, run.parameters + (run.status ? `, ${run.status}` : "")),
            this.cells[i],
            element("td", {}, element("a", { href: `${status}#run-${run.key}` }, run.key.slice(-10)), " ", element("a", { href: `${data}/${run.key}.csv`, download: "", "aria-label": `Data of ${run.key}` }, "CSV")),
          );
          row.addEventListener("mouseenter", () => this.chart?.setSeries(i + 1, { focus: true }));
          row.addEventListener("mouseleave", () => this.chart?.setSeries(null, { focus: false }));
          return row;
        }),
      );
    }

    size() {
      return { width: Math.max(200, this.plot.clientWidth), height: window.innerWidth < 600 ? 280 : 400 };
    }

    draw() {
      this.chart?.destroy();
      this.plot.replaceChildren();
      this.chart = null;
      const quantity = this.data.quantities[this.choice.quantity];
      this.plot.setAttribute("aria-label", `${quantity.name} by step: ${this.note.textContent} The table below has the values.`);
      if (!this.runs.length) return;
      const ink = getComputedStyle(this.root).color;
      const axis = { stroke: ink, grid: { stroke: "rgba(128,128,128,0.25)" }, ticks: { stroke: "rgba(128,128,128,0.5)" }, font: "12px sans-serif" };
      const joined = uPlot.join(this.lines);
      this.chart = new uPlot(
        {
          ...this.size(),
          legend: { show: false },
          cursor: { focus: { prox: 20 }, drag: { x: true, y: false } },
          focus: { alpha: 0.25 },
          scales: { x: { time: false }, y: { distr: this.log && this.positive() ? 3 : 1, range: this.range() } },
          axes: [{ ...axis, values: (u, ticks) => ticks.map((t) => t.toLocaleString("en")) }, { ...axis, size: 64, values: (u, ticks) => ticks.map((t) => (t === null ? "" : String(Number(t.toPrecision(6))))) }],
          series: [{}, ...this.runs.map((run) => ({ label: run.key, stroke: stroke(run).colour, dash: stroke(run).dash, width: 1.5, spanGaps: true, points: { show: false } }))],
          hooks: { draw: [(u) => this.criteria(u, ink)], setCursor: [(u) => u.cursor.left >= 0 && this.point(u.posToVal(u.cursor.left, "x"), false)], setSeries: [(u, i) => this.mark(i)] },
        },
        joined,
        this.plot,
      );
      const last = joined[0][joined[0].length - 1];
      this.slider.max = last;
      this.slider.min = joined[0][0];
      this.point(Math.min(Math.max(this.step, joined[0][0]), last), false);
    }

    positive() {
      return this.lines.every(([, values]) => values.every((v) => v > 0));
    }

    /** A range that shows the data and, on a linear axis, the criteria. */
    range() {
      const bounds = this.data.quantities[this.choice.quantity].lines.map((line) => line.at);
      return (u, low, high) => {
        if (low === null) return [0, 1];
        if (this.log && this.positive()) return uPlot.rangeLog(Math.min(low, ...bounds), Math.max(high, ...bounds), 10, false);
        return uPlot.rangeNum(Math.min(low, ...bounds), Math.max(high, ...bounds), 0.05, true);
      };
    }

    criteria(u, ink) {
      const { ctx, bbox } = u;
      ctx.save();
      ctx.strokeStyle = ctx.fillStyle = ink;
      ctx.lineWidth = devicePixelRatio;
      ctx.setLineDash([6 * devicePixelRatio, 4 * devicePixelRatio]);
      ctx.font = `${12 * devicePixelRatio}px sans-serif`;
      ctx.textAlign = "right";
      for (const { at: bound, says } of this.data.quantities[this.choice.quantity].lines) {
        const y = u.valToPos(bound, "y", true);
        ctx.beginPath();
        ctx.moveTo(bbox.left, y);
        ctx.lineTo(bbox.left + bbox.width, y);
        ctx.stroke();
        ctx.fillText(says, bbox.left + bbox.width - 4 * devicePixelRatio, y - 5 * devicePixelRatio);
      }
      ctx.restore();
    }

    /** Show the values at a step, and the cursor there where it is not the mouse that asks. */
    point(step, move) {
      this.step = Math.round(step);
      const name = this.data.quantities[this.choice.quantity].name;
      this.head.textContent = `${name} at step ${this.step.toLocaleString("en")}`;
      this.stepText.textContent = this.step.toLocaleString("en");
      if (this.slider.value !== String(this.step)) this.slider.value = this.step;
      this.lines.forEach((line, i) => (this.cells[i].textContent = shown(at(line, this.step))));
      if (move) this.chart?.setCursor({ left: this.chart.valToPos(this.step, "x"), top: 0 }, false);
    }

    mark(index) {
      [...this.table.rows].forEach((row, i) => row.classList.toggle("explorer-near", i + 1 === index));
    }
  }

  document.addEventListener("DOMContentLoaded", () => {
    const root = document.querySelector(".explorer");
    if (root && window.subspaceRuns && window.subspaceRuns.runs.length) window.subspaceExplorer = new Explorer(root, window.subspaceRuns);
  });
})();
