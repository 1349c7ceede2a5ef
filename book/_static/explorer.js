/* The explorer: stored runs by quantity, setting, parameters, method and seed; data of subspace_lib/book/explorer.py. */
(function () {
  "use strict";

  const BASE = 91; // of a digit: the characters from "#" to "~" without the backslash
  const LEVELS = BASE ** 2 - 1;
  const USUAL = "usual"; // of each method, the parameters that most of its runs have
  const STEPS = "steps"; // the views
  const END = "end";
  const LIMIT = 30; // lines that can be told apart at all
  const FEW = 6; // values of a parameter that are an axis' ticks
  const REACH = 40; // pixels from the mouse to the point that it means
  const NAMED = [8, 12]; // labels of lines that have room, and their characters
  const FIRST = { view: STEPS, quantity: "train_loss", end: "progress", against: "k", setting: "MLP · MNIST-5k · pixels x/255", methods: ["SGD", "Dom-SGD", "Bulk-SGD"] };
  const PARTS = [["Dom-", [7, 3]], ["Bulk-", [9, 3, 2, 3]], ["", []]];
  const GRID = { grid: { stroke: "rgba(128,128,128,0.25)" }, ticks: { stroke: "rgba(128,128,128,0.5)" }, font: "12px sans-serif" };

  // ---- The data --------------------------------------------------------------------------------------

  /** A digit's value. */
  function digit(text, i) {
    const code = text.charCodeAt(i);
    return code - 35 - (code > 92);
  }

  /** The values that packing.py's pack was given. */
  function unpack(low, high, log, text) {
    const values = [];
    for (let i = 0; i < text.length; i += 2) {
      const scaled = low + ((BASE * digit(text, i) + digit(text, i + 1)) / LEVELS) * (high - low);
      values.push(log ? Math.exp(scaled) : scaled);
    }
    return values;
  }

  /** What runs hold by place, by name. */
  function named(data) {
    const by = (names, values, known) => Object.fromEntries(Object.keys(names).map((name, i) => [name, values[i]]).filter(([, value]) => known(value)));
    for (const run of data.runs) {
      for (const name of ["method", "setting", "parameters"]) run[name] = data.words[run[name]];
      run.series = by(data.quantities, run.series || [], Boolean);
      run.at = by(data.axes, run.at, (value) => value !== null && value !== undefined);
      run.ends = by(data.ends, run.ends, (value) => value !== null && value !== undefined);
    }
    return data;
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
  const shown = (value) => (value === null ? "–" : String(Number(value.toPrecision(3))));

  /** The parameters that most of a method's runs in a setting have, by method. */
  function usual(data, setting) {
    const counts = {};
    for (const run of data.runs.filter((r) => r.setting === setting && Object.keys(r.series).length)) {
      const own = (counts[run.method] ??= {});
      own[run.parameters] = (own[run.parameters] || 0) + 1;
    }
    const most = (own) => Object.keys(own).sort((a, b) => own[b] - own[a] || a.localeCompare(b))[0];
    return Object.fromEntries(Object.entries(counts).map(([method, own]) => [method, most(own)]));
  }

  const order = (run) => PARTS.length - PARTS.findIndex(([p]) => run.method.startsWith(p));
  const inOrder = (runs) => runs.sort((a, b) => order(a) - order(b) || a.method.localeCompare(b.method) || a.seed - b.seed);

  /** Runs that a choice leaves; "parameters" and "seeds" that are empty leave all. */
  function chosen(data, choice) {
    const own = usual(data, choice.setting);
    const fits = (run) => !choice.parameters || run.parameters === (choice.parameters === USUAL ? own[run.method] : choice.parameters);
    return inOrder(
      data.runs.filter(
        (run) =>
          run.setting === choice.setting &&
          choice.quantity in run.series &&
          choice.methods.includes(run.method) &&
          fits(run) &&
          (!choice.seeds.length || choice.seeds.includes(run.seed)),
      ),
    );
  }

  /** A run's parameters but for that of an axis. */
  function rest(data, run, against) {
    const { parts } = data.axes[against];
    return run.parameters.split(" · ").filter((part) => !parts.some((start) => part.startsWith(start))).join(" · ");
  }

  function grouped(items, key) {
    const groups = new Map();
    for (const item of items) {
      const name = key(item);
      if (!groups.has(name)) groups.set(name, []);
      groups.get(name).push(item);
    }
    return [...groups.values()];
  }

  /** Runs of a setting that have both an end and a parameter, and others like them but for that parameter. */
  function varied(data, { setting, end, against }) {
    const there = data.runs.filter((run) => run.setting === setting && end in run.ends && against in run.at);
    const groups = grouped(there, (run) => JSON.stringify([run.method, rest(data, run, against)]));
    return groups.filter((group) => distinct(group.map((run) => run.at[against])).length > 1).flat();
  }

  /** The points of a view of ends, in lines: by method, the other parameters, seed. */
  function pointed(data, choice) {
    const left = varied(data, choice).filter(
      (run) =>
        choice.methods.includes(run.method) &&
        (!choice.parameters || choice.parameters === USUAL || choice.parameters === rest(data, run, choice.against)) &&
        (!choice.seeds.length || choice.seeds.includes(run.seed)),
    );
    const { up } = data.axes[choice.against]; // of a map: the parameter on its other axis
    const points = inOrder(left).map((run) => {
      const value = run.ends[choice.end];
      return { run, x: run.at[choice.against], y: up ? run.at[up] : value, value, rest: rest(data, run, choice.against) };
    });
    // Of several with the same parameter each but the first makes a line of its own.
    const seen = {};
    for (const point of points) {
      const line = JSON.stringify([point.run.method, point.rest, point.run.seed]);
      const place = `${line} ${point.x}`;
      seen[place] = (seen[place] || 0) + 1;
      point.line = `${line} ${seen[place]}`;
    }
    return grouped(points, (point) => point.line).map((line) => line.sort((a, b) => a.x - b.x));
  }

  /** By a line's place what tells it from others of its method, once each; nothing where there is no room. */
  function labels(lines) {
    const told = lines.map((line) => {
      const others = lines.filter((other) => other[0].run.method === line[0].run.method).map((other) => other[0].rest.split(" · "));
      return line[0].rest.split(" · ").filter((part) => !others.every((other) => other.includes(part))).join(" · ");
    });
    const once = told.map((label, i) => (told.indexOf(label) === i ? label : ""));
    const room = once.filter(Boolean).length <= NAMED[0] && once.every((label) => label.length <= NAMED[1]);
    return room ? once : told.map(() => "");
  }

  /** Round numbers between two on a logarithmic axis. */
  function decades(low, high, leading = [1, 2, 5]) {
    const found = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) found.push(...leading.map((n) => n * 10 ** power));
    return found.filter((n) => n >= low && n <= high);
  }

  const powers = (low, high) => decades(low, high, [1]);

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
      this.colours = data.colours;
      this.step = Infinity;
      this.choice = { ...FIRST, parameters: USUAL, seeds: [] };
      const settings = distinct(data.runs.map((run) => run.setting));
      if (!settings.includes(this.choice.setting)) this.choice.setting = settings[0];
      this.read();
      this.log = this.drawn().log;
      this.build();
      this.update();
    }

    /** The choice that the address holds, as far as it makes sense. */
    read() {
      const asked = new URLSearchParams(location.hash.slice(1));
      const { quantities, ends, axes, runs } = this.data;
      if (asked.get("view") === END) this.choice.view = END;
      if (asked.get("end") in ends) this.choice.end = asked.get("end");
      if (asked.get("against") in axes) this.choice.against = asked.get("against");
      if (asked.get("quantity") in quantities) this.choice.quantity = asked.get("quantity");
      if (runs.some((run) => run.setting === asked.get("setting"))) this.choice.setting = asked.get("setting");
      if (asked.has("methods")) this.choice.methods = asked.get("methods").split(",");
      if (asked.has("parameters")) this.choice.parameters = asked.get("parameters");
      if (asked.has("seeds")) this.choice.seeds = asked.get("seeds").split(",").map(Number);
    }

    write() {
      const { view, quantity, end, against, setting, methods, parameters, seeds } = this.choice;
      const what = view === END ? { view, end, against } : { quantity };
      const told = new URLSearchParams({ ...what, setting, methods: methods.join(",") });
      if (parameters !== USUAL) told.set("parameters", parameters);
      if (seeds.length) told.set("seeds", seeds.join(","));
      history.replaceState(null, "", `#${told}`);
    }

    /** What is drawn, over steps or at the end: its name, its axis, its criteria. */
    drawn() {
      const { view, quantity, end } = this.choice;
      return view === END ? this.data.ends[end] : this.data.quantities[quantity];
    }

    stroke(run) {
      const dash = PARTS.find(([prefix]) => run.method.startsWith(prefix))[1];
      return { colour: this.colours[run.method], dash };
    }

    build() {
      const names = ["View", "Quantity", "Against", "Setting", "Parameters"];
      const [view, quantity, against, setting, parameters] = names.map((label) => select(label, `explorer-${label.toLowerCase()}`));
      [this.view, this.quantity, this.against, this.setting, this.parameters] = [view[1], quantity[1], against[1], setting[1], parameters[1]];
      this.againstField = against[0];
      this.methods = element("fieldset", { class: "explorer-boxes" }, element("legend", {}, "Methods"));
      this.seeds = element("fieldset", { class: "explorer-boxes" }, element("legend", {}, "Seeds"));
      this.logBox = element("input", { type: "checkbox", id: "explorer-log" });
      this.slider = element("input", { type: "range", id: "explorer-step", min: 0, value: 0 });
      this.stepText = element("output", { for: "explorer-step" });
      this.stepLabel = element("label", { for: "explorer-step" });
      this.note = element("p", { class: "explorer-note", role: "status" });
      this.plot = element("div", { class: "explorer-plot", role: "img" });
      this.spectrum = element("div", { class: "explorer-spectrum", role: "img" });
      this.hover = element("p", { class: "explorer-hover" });
      this.table = element("tbody");
      this.head = element("th", { scope: "col" });
      const heads = ["", "Method", "Seed", "Parameters"].map((name) => element("th", { scope: "col" }, name || element("span", { class: "explorer-hidden" }, "Line")));
      const table = element("table", { class: "explorer-table" }, element("thead", {}, element("tr", {}, ...heads, this.head, element("th", { scope: "col" }, "Run"))), this.table);
      this.root.replaceChildren(
        element("div", { class: "explorer-selects" }, view[0], quantity[0], against[0], setting[0], parameters[0]),
        this.methods,
        this.seeds,
        element("label", { class: "explorer-box" }, this.logBox, " Logarithmic axis"),
        this.note,
        this.plot,
        element("div", { class: "explorer-step" }, this.stepLabel, this.slider, this.stepText),
        this.hover,
        this.spectrum,
        element("div", { class: "explorer-scroll" }, table),
      );
      this.listen();
    }

    listen() {
      const anew = (part) => {
        Object.assign(this.choice, part);
        this.log = this.drawn().log;
        this.update();
      };
      this.view.addEventListener("change", () => anew({ view: this.view.value, parameters: USUAL }));
      this.quantity.addEventListener("change", () => anew({ [this.choice.view === END ? "end" : "quantity"]: this.quantity.value }));
      this.against.addEventListener("change", () => this.change({ against: this.against.value, parameters: USUAL }));
      this.setting.addEventListener("change", () => this.change({ setting: this.setting.value, parameters: USUAL, seeds: [] }));
      this.parameters.addEventListener("change", () => this.change({ parameters: this.parameters.value }));
      this.logBox.addEventListener("change", () => {
        this.log = this.logBox.checked;
        this.update();
      });
      this.slider.addEventListener("input", () => (this.choice.view === END ? this.near(Number(this.slider.value) - 1) : this.point(Number(this.slider.value), true)));
      new ResizeObserver(() => this.charts.forEach((chart) => chart.setSize(chart === this.chart ? this.size() : { ...this.size(), height: chart.height }))).observe(this.plot);
      new MutationObserver(() => this.draw()).observe(document.documentElement, { attributeFilter: ["data-theme"] });
    }

    change(part) {
      Object.assign(this.choice, part);
      this.update();
    }

    /** Bring controls, chart and table in step with the choice. */
    update() {
      const { data, choice } = this;
      const atEnd = choice.view === END;
      fill(this.view, [[STEPS, "Over the steps"], [END, "At the end, against a parameter"]], choice.view);
      fill(this.setting, distinct(data.runs.map((run) => run.setting)).map((s) => [s, s]), choice.setting);
      this.againstField.hidden = !atEnd;
      const here = atEnd ? this.endsHere() : data.runs.filter((run) => run.setting === choice.setting && Object.keys(run.series).length);
      if (!atEnd) fill(this.quantity, Object.entries(data.quantities).map(([key, q]) => [key, q.name]), choice.quantity);
      const methods = distinct(here.map((run) => run.method)).sort();
      if (!choice.methods.some((m) => methods.includes(m))) choice.methods = methods.slice(0, 3);
      const seeds = distinct(here.map((run) => run.seed)).sort((a, b) => a - b);
      const told = (run) => (atEnd ? rest(data, run, choice.against) : run.parameters);
      const sets = distinct(here.filter((run) => choice.methods.includes(run.method)).map(told)).sort();
      if (choice.parameters && !sets.includes(choice.parameters)) choice.parameters = USUAL;
      const kinds = atEnd ? [[USUAL, `any (${sets.length})`]] : [[USUAL, "most frequent of each method"], ["", `any (${sets.length})`]];
      fill(this.parameters, [...kinds, ...sets.map((s) => [s, s || "no other"])], choice.parameters);
      boxes(this.methods, methods, choice.methods, () => this.change({ methods: ticked(this.methods) }));
      boxes(this.seeds, seeds, choice.seeds.length ? choice.seeds : seeds, () => this.change({ seeds: ticked(this.seeds).map(Number) }));
      this.logBox.disabled = atEnd && Boolean(data.axes[choice.against].up); // a map's axes are parameters
      this.logBox.checked = this.log && !this.logBox.disabled;
      if (atEnd) this.takeEnds();
      else this.takeSeries();
      this.write();
      this.rows();
      this.draw();
    }

    /** What can be chosen of ends and parameters in this setting; the runs of that choice. */
    endsHere() {
      const { data, choice } = this;
      const against = (end) => Object.keys(data.axes).filter((axis) => varied(data, { ...choice, end, against: axis }).length);
      const ends = Object.keys(data.ends).filter((end) => against(end).length);
      if (ends.length && !ends.includes(choice.end)) {
        choice.end = ends[0];
        this.log = this.drawn().log;
      }
      const axes = against(choice.end);
      if (axes.length && !axes.includes(choice.against)) choice.against = axes[0];
      fill(this.quantity, (ends.length ? ends : [choice.end]).map((key) => [key, data.ends[key].name]), choice.end);
      fill(this.against, (axes.length ? axes : [choice.against]).map((key) => [key, data.axes[key].name]), choice.against);
      return varied(data, choice);
    }

    takeSeries() {
      const all = chosen(this.data, this.choice);
      const few = new Set(inTurn(all).slice(0, LIMIT));
      this.runs = all.filter((run) => few.has(run));
      this.note.textContent = this.says(all.length);
      this.lines = this.runs.map((run) => series(this.data, run, this.choice.quantity));
    }

    takeEnds() {
      const all = pointed(this.data, this.choice);
      this.pointLines = all.slice(0, LIMIT * 2);
      this.points = this.pointLines.flat();
      this.runs = this.points.map((point) => point.run);
      this.note.textContent = this.says(this.runs.length);
    }

    says(count) {
      const { name, lines } = this.drawn();
      if (!count && this.choice.view === END) return "No runs of this choice differ in one of these parameters alone.";
      if (!count) return `No stored run of this choice has measured: ${name}.`;
      const many = this.choice.view === STEPS && count > LIMIT;
      const drawn = many ? `${LIMIT} of ${count} runs are drawn; choose parameters or seeds to see the others.` : `${count} ${count === 1 ? "run" : "runs"}.`;
      if (this.logBox.disabled) return `${drawn} Of several seeds the first is written.`;
      const bounds = distinct(lines.map((line) => line.says));
      return bounds.length ? `${drawn} Dashed: ${bounds.join("; ")}.` : drawn;
    }

    rows() {
      const atEnd = this.choice.view === END;
      this.cells = this.runs.map((_, i) => element("td", { class: "explorer-value" }, atEnd ? shown(this.points[i].value) : ""));
      const { status, data } = this.root.dataset;
      this.table.replaceChildren(
        ...this.runs.map((run, i) => {
          const { colour, dash } = this.stroke(run);
          const swatch = element("span", { class: "explorer-swatch", style: `border-top: 3px ${dash.length ? "dashed" : "solid"} ${colour}` });
          const row = element(
            "tr", {},
            element("td", {}, swatch),
            element("th", { scope: "row" }, run.method),
            element("td", { "data-label": "seed " }, String(run.seed)),
            element("td", {}, this.where(i) + run.parameters + (run.status ? `, ${run.status}` : "")),
            this.cells[i],
            element("td", {}, element("a", { href: `${status}#run-${run.key}` }, run.key.slice(-10)), " ", element("a", { href: `${data}/${run.key}.csv`, download: "", "aria-label": `Data of ${run.key}` }, "CSV")),
          );
          row.addEventListener("mouseenter", () => (atEnd ? this.near(i) : this.chart?.setSeries(i + 1, { focus: true })));
          row.addEventListener("mouseleave", () => !atEnd && this.chart?.setSeries(null, { focus: false }));
          return row;
        }),
      );
    }

    size() {
      return { width: Math.max(200, this.plot.clientWidth), height: window.innerWidth < 600 ? 280 : 400 };
    }

    /** Of a point, its parameter where the run's own parameters do not say it. */
    where(i) {
      if (this.choice.view !== END) return "";
      const { sign, parts, measured } = this.data.axes[this.choice.against];
      const told = this.runs[i].parameters.split(" · ").some((part) => parts.some((start) => part.startsWith(start)));
      return told && !measured ? "" : `${sign} ${shown(this.points[i].x)} · `;
    }

    draw() {
      this.charts?.forEach((chart) => chart.destroy());
      this.charts = [];
      for (const holder of [this.plot, this.spectrum]) holder.replaceChildren();
      this.spectrum.hidden = true;
      this.hover.textContent = "";
      this.chart = null;
      this.ink = getComputedStyle(this.root).color;
      this.ground = getComputedStyle(document.body).backgroundColor;
      const atEnd = this.choice.view === END;
      const { name } = this.drawn();
      const x = atEnd ? this.data.axes[this.choice.against].name : "step";
      this.plot.setAttribute("aria-label", `${name} by ${x}: ${this.note.textContent} The table below has the values.`);
      this.stepLabel.textContent = atEnd ? "Point" : "Step";
      if (!this.runs.length) return;
      if (atEnd) this.drawEnds();
      else this.drawSeries();
    }

    /** A chart of these series; "more" are uPlot's options beside what all have. */
    add(holder, data, { x, y, up, height, ...more }) {
      const number = (t) => (t === null ? "" : String(Number(t.toPrecision(6))));
      const chart = new uPlot(
        {
          ...this.size(),
          ...(height && { height }),
          legend: { show: false },
          scales: { x: { time: false, ...x.scale }, y },
          axes: [{ stroke: this.ink, ...GRID, values: (u, ticks) => ticks.map((t) => t.toLocaleString("en")), ...x.axis }, { stroke: this.ink, ...GRID, size: 64, values: (u, ticks) => ticks.map(number), ...up }],
          ...more,
        },
        data,
        holder,
      );
      this.charts.push(chart);
      return chart;
    }

    drawSeries() {
      const joined = uPlot.join(this.lines);
      const line = (run) => ({ label: run.key, stroke: this.stroke(run).colour, dash: this.stroke(run).dash, width: 1.5, spanGaps: true, points: { show: false } });
      this.chart = this.add(this.plot, joined, {
        x: {},
        y: { distr: this.log && this.positive() ? 3 : 1, range: this.range() },
        cursor: { focus: { prox: 20 }, drag: { x: true, y: false } },
        focus: { alpha: 0.25 },
        series: [{}, ...this.runs.map(line)],
        hooks: { draw: [(u) => this.criteria(u)], setCursor: [(u) => u.cursor.left >= 0 && this.point(u.posToVal(u.cursor.left, "x"), false)], setSeries: [(u, i) => this.mark(i)] },
      });
      const last = joined[0][joined[0].length - 1];
      this.slider.max = last;
      this.slider.min = joined[0][0];
      this.point(Math.min(Math.max(this.step, joined[0][0]), last), false);
    }

    drawEnds() {
      const { axes, spectra } = this.data;
      const { against, setting, seeds } = this.choice;
      const axis = axes[against];
      const under = against === "k" ? spectra.filter((s) => s.setting === setting && (!seeds.length || seeds.includes(s.seed))) : [];
      this.head.textContent = this.drawn().name;
      [this.slider.min, this.slider.max] = [1, this.points.length];
      const xs = this.points.map((point) => point.x);
      const x = this.across(axis, [...xs, ...under.flatMap((s) => s.values.map((_, i) => i + 1))]);
      const line = ([{ run }]) => {
        const { colour, dash } = this.stroke(run);
        const fill = run.method.startsWith("Bulk-") ? this.ground : colour; // hollow, as in the figures
        return { stroke: colour, dash, width: 1, spanGaps: true, ...(axis.measured && { paths: () => null }), points: { show: true, size: 8, width: 1.5, fill } };
      };
      if (axis.up) return this.drawMap(axis, x);
      this.labels = axis.measured ? [] : labels(this.pointLines);
      this.chart = this.add(this.plot, this.joined(), {
        x,
        y: { distr: this.log && this.positive() ? 3 : 1, range: this.range() },
        padding: [null, 16 + 6 * Math.max(0, ...this.labels.map((label) => label.length)), null, null],
        cursor: { x: false, y: false, points: { show: false }, drag: { x: false, y: false } },
        series: [{}, ...this.pointLines.map(line)],
        hooks: { draw: [(u) => this.criteria(u), (u) => this.name(u)], setCursor: [(u) => this.seek(u)] },
      });
      this.near(0);
      if (under.length) this.drawSpectrum(under, x);
    }

    joined() {
      return uPlot.join(this.pointLines.map((points) => [points.map((point) => point.x), points.map((point) => point.y)]));
    }

    /** A value at each pair of parameters. */
    drawMap(axis, x) {
      const up = this.across(this.data.axes[axis.up], this.points.map((point) => point.y));
      this.labels = [];
      this.chart = this.add(this.plot, this.joined(), {
        x,
        y: up.scale,
        up: up.axis,
        cursor: { x: false, y: false, points: { show: false }, drag: { x: false, y: false } },
        series: [{}, ...this.pointLines.map(() => ({ paths: () => null, points: { show: false } }))],
        hooks: { draw: [(u) => this.values(u), (u) => this.name(u)], setCursor: [(u) => this.seek(u)] },
      });
      this.near(0);
    }

    /** The values of a map, on a ground that is the stronger the larger they are; of several the first. */
    values(u) {
      const { ctx } = u;
      const [wide, high] = [34 * devicePixelRatio, 18 * devicePixelRatio];
      const most = Math.max(...this.points.map((point) => point.value));
      const first = new Map([...this.points].reverse().map((point) => [`${point.x} ${point.y}`, point]));
      ctx.save();
      ctx.font = `${12 * devicePixelRatio}px sans-serif`;
      [ctx.textAlign, ctx.textBaseline] = ["center", "middle"];
      for (const { run, x, y, value } of first.values()) {
        const [left, top] = [u.valToPos(x, "x", true), u.valToPos(y, "y", true)];
        ctx.fillStyle = this.ground;
        ctx.fillRect(left - wide / 2, top - high / 2, wide, high);
        ctx.fillStyle = this.stroke(run).colour;
        ctx.globalAlpha = 0.5 * Math.max(0, value / most);
        ctx.fillRect(left - wide / 2, top - high / 2, wide, high);
        ctx.globalAlpha = 1;
        ctx.fillStyle = this.ink;
        ctx.fillText(shown(value), left, top);
      }
      ctx.restore();
    }

    /** An axis that holds these numbers, with ticks at them where they are few. */
    across(axis, xs) {
      const [low, high] = [Math.min(...xs), Math.max(...xs)];
      const log = axis.log && low > 0;
      const room = log ? (high / low) ** 0.06 : (high - low) * 0.06 || 1;
      const scale = { distr: log ? 3 : 1, range: () => (log ? [low / room, high * room] : [low - room, high + room]) };
      const few = distinct(xs).sort((a, b) => a - b);
      const own = few.length <= FEW && { splits: () => few };
      const ticks = own || (log && { splits: (u, i, least, most) => decades(least, most) });
      return { scale, axis: { label: axis.up ? axis.sign : axis.name, labelFont: GRID.font, labelSize: 20, ...(ticks && { ...ticks, filter: (u, all) => all }) } };
    }

    /** Below progress against k: where the spectrum would be cut. */
    drawSpectrum(spectra, x) {
      this.spectrum.hidden = false;
      this.spectrum.setAttribute("aria-label", `Eigenvalues over the largest, at the switch, seeds ${spectra.map((s) => s.seed).join(", ")}; from ${shown(Math.min(...spectra.map((s) => s.values.at(-1))))} to 1.`);
      this.spectrum.append(element("p", {}, "λᵢ/λ₁ at the switch, against i: what each k would cut off."));
      const dots = { stroke: this.ink, paths: () => null, points: { show: true, size: 5, width: 1, fill: this.ink } };
      this.add(this.spectrum, uPlot.join(spectra.map((s) => [s.values.map((_, i) => i + 1), s.values])), {
        x: { ...x, axis: { ...x.axis, label: "i" } },
        y: { distr: 3, range: (u, low, high) => [low / 1.2, high * 1.2] },
        height: 190,
        padding: this.chart.padding,
        cursor: { show: false },
        series: [{}, ...spectra.map(() => dots)],
      });
    }

    /** The point that the mouse is near. */
    seek(u) {
      const { left, top } = u.cursor;
      if (left < 0) return;
      const far = this.points.map(({ x, y }) => Math.hypot(u.valToPos(x, "x") - left, u.valToPos(y, "y") - top));
      const least = Math.min(...far);
      if (least <= REACH) this.near(far.indexOf(least));
    }

    /** Show a point: ringed, in words, and its row. */
    near(i) {
      const { run, x, value } = this.points[i];
      const { sign, up } = this.data.axes[this.choice.against];
      const where = up ? "" : `, ${sign} ${shown(x)}`;
      this.nearest = i;
      this.slider.value = i + 1;
      this.stepText.textContent = `${i + 1} of ${this.points.length}`;
      this.hover.textContent = `${run.method}, seed ${run.seed}${where}: ${shown(value)} (${run.parameters})`;
      this.slider.setAttribute("aria-valuetext", this.hover.textContent);
      this.mark(i + 1);
      this.chart.redraw(false);
    }

    /** A ring around the point that is shown, and what tells lines from each other at their ends. */
    name(u) {
      const { ctx } = u;
      const place = ({ x, y }) => [u.valToPos(x, "x", true), u.valToPos(y, "y", true)];
      ctx.save();
      ctx.strokeStyle = ctx.fillStyle = this.ink;
      ctx.lineWidth = 1.5 * devicePixelRatio;
      ctx.font = `${12 * devicePixelRatio}px sans-serif`;
      [ctx.textAlign, ctx.textBaseline] = ["left", "middle"];
      const ends = this.labels.map((label, i) => [label, ...place(this.pointLines[i].at(-1))]).filter(([label]) => label);
      let free = 0; // below it there is room
      for (const [label, x, y] of ends.sort((a, b) => a[2] - b[2])) {
        const at = Math.max(y, free);
        ctx.fillText(label, x + 10 * devicePixelRatio, at);
        free = at + 13 * devicePixelRatio;
      }
      if (this.nearest in this.points) {
        const wide = this.data.axes[this.choice.against].up ? 20 : 8;
        ctx.beginPath();
        ctx.ellipse(...place(this.points[this.nearest]), wide * devicePixelRatio, Math.min(wide, 12) * devicePixelRatio, 0, 0, 2 * Math.PI);
        ctx.stroke();
      }
      ctx.restore();
    }

    positive() {
      const values = this.choice.view === END ? this.points.map((point) => point.y) : this.lines.flatMap(([, own]) => own);
      return values.every((v) => v > 0);
    }

    /** A range that shows the data and, on a linear axis, the criteria. */
    range() {
      const bounds = this.drawn().lines.map((line) => line.at);
      return (u, low, high) => {
        if (low === null) return [0, 1];
        if (this.log && this.positive()) return uPlot.rangeLog(Math.min(low, ...bounds), Math.max(high, ...bounds), 10, false);
        return uPlot.rangeNum(Math.min(low, ...bounds), Math.max(high, ...bounds), 0.05, true);
      };
    }

    criteria(u) {
      const { ctx, bbox } = u;
      ctx.save();
      ctx.strokeStyle = ctx.fillStyle = this.ink;
      ctx.lineWidth = devicePixelRatio;
      ctx.setLineDash([6 * devicePixelRatio, 4 * devicePixelRatio]);
      ctx.font = `${12 * devicePixelRatio}px sans-serif`;
      ctx.textAlign = "right";
      for (const { at: bound, says } of this.drawn().lines) {
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
      const { name } = this.drawn();
      this.slider.removeAttribute("aria-valuetext");
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

  window.subspaceTools = { distinct, element, fill, grid: GRID, powers, select, shown, unpack }; // for densities.js

  document.addEventListener("DOMContentLoaded", () => {
    const root = document.querySelector(".explorer");
    if (root && window.subspaceRuns && window.subspaceRuns.runs.length) window.subspaceExplorer = new Explorer(root, named(window.subspaceRuns));
  });
})();
