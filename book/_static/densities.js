/* The spectral densities of the explorer's page; data of subspace_lib/book/densities.py. */
(function () {
  "use strict";

  const DOMINANT = "Dom-SGD"; // whose colours the two parts have
  const BULK = "SGD";

  class Densities {
    constructor(root, data, tools) {
      Object.assign(this, { root, tools, colours: data.colours, all: data.densities });
      const names = ["Operator", "Network and data", "Seed"];
      const fields = names.map((name, i) => tools.select(name, `density-${["operator", "setting", "seed"][i]}`));
      [this.operator, this.setting, this.seed] = fields.map(([, control]) => control);
      const { element } = tools;
      this.plot = element("div", { class: "density-plot", role: "img" });
      this.slider = element("input", { type: "range", id: "density-step", min: 0, value: 0 });
      this.stepText = element("output", { for: "density-step" });
      this.told = element("p", { class: "density-told", role: "status" });
      this.table = element("tbody");
      const heads = ["Step", "λ₁", "λₖ", "λₖ₊₁", "Run"].map((name) => element("th", { scope: "col" }, name));
      root.replaceChildren(
        element("div", { class: "density-selects" }, ...fields.map(([field]) => field)),
        this.plot,
        element("div", { class: "density-step-field" }, element("label", { for: "density-step" }, "Step"), this.slider, this.stepText),
        this.told,
        element("table", { class: "density-table" }, element("thead", {}, element("tr", {}, ...heads)), this.table),
      );
      for (const control of [this.operator, this.setting, this.seed]) control.addEventListener("change", () => this.update());
      this.slider.addEventListener("input", () => this.show(Number(this.slider.value)));
      window.addEventListener("resize", () => this.show(this.place));
      new MutationObserver(() => this.show(this.place)).observe(document.documentElement, { attributeFilter: ["data-theme"] });
      this.update();
    }

    /** Offer of each control what the ones before it leave, and keep the choice where it is still there. */
    update() {
      let left = this.all;
      for (const [control, name] of [[this.operator, "operator"], [this.setting, "setting"], [this.seed, "seed"]]) {
        const there = this.tools.distinct(left.map((one) => String(one[name])));
        this.tools.fill(control, there.map((value) => [value, value]), there.includes(control.value) ? control.value : there[0]);
        left = left.filter((one) => String(one[name]) === control.value);
      }
      const step = this.lines?.[this.place]?.step; // the same step as before, or the last
      this.lines = left.sort((a, b) => a.step - b.step);
      this.slider.max = this.lines.length - 1;
      const same = this.lines.findIndex((one) => one.step === step);
      this.rows();
      this.show(same < 0 ? this.lines.length - 1 : same);
    }

    rows() {
      const { element, shown } = this.tools;
      const { status, data } = this.root.dataset;
      this.table.replaceChildren(
        ...this.lines.map((one) =>
          element(
            "tr", {},
            element("th", { scope: "row" }, one.step.toLocaleString("en")),
            ...one.top.map((value, i) => element("td", { "data-label": `${["λ₁", "λₖ", "λₖ₊₁"][i]} ` }, shown(value))),
            element("td", {}, element("a", { href: `${status}#run-${one.key}` }, one.key.slice(-10)), " ", element("a", { href: `${data}/${one.key}.csv`, download: "", "aria-label": `Data of ${one.key}` }, "CSV")),
          ),
        ),
      );
    }

    /** The density at one of the steps. */
    show(place) {
      const { shown, unpack } = this.tools;
      const one = this.lines[place];
      this.place = place;
      this.slider.value = place;
      this.stepText.textContent = one.step.toLocaleString("en");
      const [first, last, next] = one.top;
      const cut = last === null || next === null ? Infinity : (last + next) / 2;
      const parts = cut < Infinity ? `the ${one.k} eigenvalues above λₖ₊₁ are drawn as the dominant part` : "the gap behind λₖ is not known, so nothing is drawn as dominant";
      this.told.textContent = `${one.operator}, step ${one.step.toLocaleString("en")}: λ₁ = ${shown(first)}, λₖ = ${shown(last)}, λₖ₊₁ = ${shown(next)}; ${parts}.`;
      this.slider.setAttribute("aria-valuetext", this.told.textContent);
      this.plot.setAttribute("aria-label", `Spectral density. ${this.told.textContent}`);
      [...this.table.rows].forEach((row, i) => row.classList.toggle("density-near", i === place));
      const y = unpack(...one.values);
      const x = y.map((_, i) => one.low + ((one.high - one.low) * i) / (y.length - 1));
      const bulk = y.map((value, i) => (x[i] <= cut ? value : null));
      const dominant = y.map((value, i) => (x[i] > cut ? value : null));
      this.draw(one, [x, bulk, dominant]);
    }

    draw(one, data) {
      const { grid, powers, shown } = this.tools;
      const ink = getComputedStyle(this.root).color;
      const line = (label, colour) => ({ label, stroke: colour, fill: `${colour}40`, width: 1.5, points: { show: false } });
      const axis = (label) => ({ stroke: ink, label, labelFont: grid.font, labelSize: 20, ...grid });
      this.chart?.destroy();
      this.plot.replaceChildren();
      this.chart = new uPlot(
        {
          width: Math.max(200, this.plot.clientWidth),
          height: window.innerWidth < 600 ? 260 : 320,
          legend: { show: false },
          cursor: { show: false },
          scales: { x: { time: false }, y: { distr: 3, range: (u, low, high) => [low, high * 2] } },
          axes: [axis("eigenvalue"), { ...axis("density"), size: 64, splits: (u, i, low, high) => powers(low, high), filter: (u, all) => all, values: (u, ticks) => ticks.map((t) => t.toExponential(0)) }],
          series: [{}, line("bulk", this.colours[BULK]), line("dominant", this.colours[DOMINANT])],
          hooks: { draw: [(u) => this.single(u, one, ink)] },
        },
        data,
        this.plot,
      );
    }

    /** How high a single eigenvalue stands. */
    single(u, { single }, ink) {
      const { ctx, bbox } = u;
      const y = u.valToPos(single, "y", true);
      ctx.save();
      ctx.strokeStyle = ink;
      ctx.setLineDash([2 * devicePixelRatio, 4 * devicePixelRatio]);
      ctx.beginPath();
      ctx.moveTo(bbox.left, y);
      ctx.lineTo(bbox.left + bbox.width, y);
      ctx.stroke();
      ctx.restore();
    }
  }

  document.addEventListener("DOMContentLoaded", () => {
    const root = document.querySelector(".densities");
    const data = window.subspaceRuns;
    if (root && data && data.densities.length) new Densities(root, data, window.subspaceTools);
  });
})();
