// SPDX-License-Identifier: Apache-2.0
// Puts the page together and keeps it in step with its controls.

/** Steps of the straggler's slider. */
const STRAGGLER_STEPS = 200;

class Page {
  /** @param {Report} report */
  constructor(report) {
    this.report = report;
    this.slider = /** @type {HTMLInputElement} */ (byId("point"));
    this.frontier = new FrontierPlot(byId("frontier"), report, (stop) => this.choose(stop));
    this.timeline = report.dag ? new TimelinePlot(/** @type {HTMLCanvasElement} */ (byId("timeline-canvas")), report,
      report.dag, byId("timeline-live")) : null;
    this.stop = 0;
    renderHead(report);
    renderInputs(report);
    renderFooter(report);
    this.setUpTheme();
    this.setUpSlider();
    this.setUpTimeline();
    this.setUpStraggler();
    this.choose(report.firstStop());
  }

  /** Shows the point at one stop of the slider everywhere. @param {number} stop */
  choose(stop) {
    const {report} = this;
    this.stop = stop;
    const index = report.stops[stop];
    const point = report.data.points[index];
    this.slider.value = String(stop);
    this.slider.setAttribute("aria-valuetext",
      `${withUnit(point.time_s, report.timeUnit)}, ${withUnit(point.energy_j, report.energyUnit)}`);
    this.frontier.choose(index);
    renderReadout(report, point);
    renderSavings(report, point);
    const plan = report.planAt(stop);
    if (!plan || !this.timeline || !report.allMaxChoice || !report.allMaxTiming) return;
    renderRanks(report, plan.choice, point);
    const detail = (/** @type {FrontierPoint|Baseline} */ p) =>
      `${withUnit(p.time_s, report.timeUnit)}, ${withUnit(p.energy_j, report.energyUnit)}`;
    const change = signedPercent(point.energy_j / report.allMax.energy_j - 1);
    this.timeline.show([
      {title: "all-max", detail: detail(report.allMax), choice: report.allMaxChoice, timing: report.allMaxTiming},
      {title: "Perseus", detail: `${detail(point)}, ${change} energy`, choice: plan.choice, timing: plan.timing},
    ]);
  }

  setUpSlider() {
    this.slider.max = String(this.report.stops.length - 1);
    this.slider.disabled = this.report.stops.length < 2;
    this.slider.addEventListener("input", () => this.choose(Number(this.slider.value)));
  }

  setUpTimeline() {
    const {timeline} = this;
    if (!timeline) {
      byId("timeline-section").hidden = true;
      (/** @type {HTMLElement} */ (byId("ranks").closest("section"))).hidden = true;
      return;
    }
    renderTimelineLead(timeline.dag);
    renderLegend(timeline);
    for (const radio of document.querySelectorAll("input[name=colour]")) {
      radio.addEventListener("change", () => {
        timeline.setColour(/** @type {HTMLInputElement} */ (radio).value === "power" ? "power" : "clock");
        renderLegend(timeline);
      });
    }
    byId("zoom-in").addEventListener("click", () => timeline.zoom(1.6));
    byId("zoom-out").addEventListener("click", () => timeline.zoom(1 / 1.6));
    byId("zoom-all").addEventListener("click", () => timeline.showAll());
  }

  setUpStraggler() {
    const {data, allMax} = this.report;
    const first = Math.max(data.t_min_s, allMax.time_s);
    const points = [...data.points, ...data.straggler_points];
    const last = Math.max(first * 1.02, ...points.map((p) => p.time_s)) * 1.02;
    const slider = /** @type {HTMLInputElement} */ (byId("straggler"));
    slider.max = String(STRAGGLER_STEPS);
    slider.value = String(Math.round(STRAGGLER_STEPS * 0.4));
    const update = () => {
      const sync = first + Number(slider.value) / STRAGGLER_STEPS * (last - first);
      slider.setAttribute("aria-valuetext", withUnit(sync, this.report.timeUnit));
      renderBloat(this.report, sync);
    };
    slider.addEventListener("input", update);
    update();
  }

  setUpTheme() {
    const system = matchMedia("(prefers-color-scheme: dark)");
    let isDark = system.matches;
    const apply = () => {
      document.documentElement.dataset.theme = isDark ? "dark" : "light";
      byId("theme").textContent = isDark ? "Light" : "Dark";
      this.timeline?.redraw();
    };
    byId("theme").addEventListener("click", () => { isDark = !isDark; apply(); });
    system.addEventListener("change", () => { isDark = system.matches; apply(); });
    // Paper is white: the canvas is drawn in the light theme for the printer.
    addEventListener("beforeprint", () => {
      document.documentElement.dataset.theme = "light";
      this.timeline?.draw();
    });
    addEventListener("afterprint", apply);
    apply();
  }
}

/** The page as an object, for tests and for the curious at the browser's console. */
const perseusPage = new Page(new Report(JSON.parse(byId("report-data").textContent ?? "")));
Object.assign(window, {perseusPage});
