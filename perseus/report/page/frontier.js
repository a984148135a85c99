// SPDX-License-Identifier: Apache-2.0
// The frontier plot: SVG, redrawn when its width or the chosen point changes.

/** @typedef {{x: number, y: number, width: number, height: number}} Box */

/** Labels that find no place beside their mark stand this far to its right or left, with a leader. */
const FAR = 34;
/** How many such places there are, above and below. */
const FAR_PLACES = 14;

/** Puts labels beside marks, each at the first place that is free. */
class LabelPlacer {
  /** @param {Box} bounds */
  constructor(bounds) {
    this.bounds = bounds;
    /** @type {Box[]} */
    this.taken = [];
    this.measure = document.createElement("canvas").getContext("2d");
  }

  /** @param {string} text @param {number} size @param {boolean} isBold */
  width(text, size, isBold) {
    if (!this.measure) return 0.6 * size * text.length;
    this.measure.font = `${isBold ? 650 : 400} ${size}px ${getComputedStyle(document.body).fontFamily}`;
    return this.measure.measureText(text).width;
  }

  /** @param {Box} box */
  isFree(box) {
    const b = this.bounds;
    const isInside = box.x >= b.x && box.y >= b.y && box.x + box.width <= b.x + b.width && box.y + box.height <= b.y + b.height;
    return isInside && !this.taken.some((t) => box.x < t.x + t.width && t.x < box.x + box.width &&
                                               box.y < t.y + t.height && t.y < box.y + box.height);
  }

  /** True if a straight line stays clear of everything but the mark that it starts from. @param {number} x1 @param {number} y1 @param {number} x2 @param {number} y2 */
  isClear(x1, y1, x2, y2) {
    const steps = 8;
    for (let k = 2; k < steps; ++k) {
      const at = {x: x1 + (x2 - x1) * k / steps, y: y1 + (y2 - y1) * k / steps};
      if (this.taken.some((t) => at.x > t.x && at.x < t.x + t.width && at.y > t.y && at.y < t.y + t.height)) return false;
    }
    return true;
  }

  /**
   * @param {number} x of the mark @param {number} y @param {string} text
   * @returns {{x: number, y: number, anchor: string, isFar: boolean}|null} where the text's base line is anchored
   */
  place(x, y, text) {
    const size = 13;
    const width = this.width(text, size, true);
    const height = 18;
    /** @type {[number, number, string, boolean][]} anchor point, top, anchor, needs a leader */
    const places = [[x + 11, y - 9, "start", false], [x + 11, y - 20, "start", false], [x + 11, y + 2, "start", false],
                    [x - 11, y - 9, "end", false], [x, y - 29, "middle", false], [x, y + 11, "middle", false]];
    for (let k = 1; k <= FAR_PLACES; ++k) {
      for (const top of [y - 9 + 9 * k, y - 9 - 9 * k]) places.push([x + FAR, top, "start", true], [x - FAR, top, "end", true]);
    }
    for (const [at, top, anchor, isFar] of places) {
      const left = anchor === "start" ? at : anchor === "end" ? at - width : at - width / 2;
      const box = {x: left, y: top, width, height};
      if (!this.isFree(box)) continue;
      const side = at > x ? 1 : -1;
      if (isFar && !this.isClear(x + 6 * side, y, at - 4 * side, top + 9)) continue;
      this.taken.push(box);
      return {x: at, y: top + size, anchor, isFar};
    }
    return null;
  }
}

class FrontierPlot {
  /**
   * @param {HTMLElement} holder
   * @param {Report} report
   * @param {(stop: number) => void} onChoose called with the slider's stop when a dot is clicked
   */
  constructor(holder, report, onChoose) {
    this.holder = holder;
    this.report = report;
    this.onChoose = onChoose;
    this.chosen = report.stops[0];
    this.energy = report.energyUnit;
    this.width = 0;
    this.height = 0;
    this.isNarrow = false;
    /** @type {Box} */
    this.plot = {x: 0, y: 0, width: 0, height: 0};
    /** @type {[number, number]} least and greatest time, s */
    this.xRange = [0, 1];
    /** @type {[number, number]} least and greatest energy, J */
    this.yRange = [0, 1];
    this.root = svg("svg", {});
    this.labels = new LabelPlacer(this.plot);
    new ResizeObserver(() => this.draw()).observe(holder);
  }

  /** @param {number} point index into the points */
  choose(point) {
    this.chosen = point;
    this.draw();
  }

  setScales() {
    const {data} = this.report;
    this.width = Math.max(280, this.holder.clientWidth);
    this.isNarrow = this.width < 560;
    this.height = Math.round(Math.min(470, Math.max(330, this.width * 0.42)));
    this.plot = {x: 58, y: 44, width: this.width - 58 - (this.isNarrow ? 6 : 20), height: this.height - 44 - 52};
    const times = [...data.points, ...data.baselines].map((p) => p.time_s).concat(data.curve.map((c) => c[0]));
    const energies = [...data.points, ...data.baselines].map((p) => p.energy_j).concat(data.curve.map((c) => c[1]));
    this.xRange = this.padded(times, 0.05);
    this.yRange = this.padded(energies, 0.1);
  }

  /** @param {number[]} values @param {number} share @returns {[number, number]} */
  padded(values, share) {
    const low = values.reduce((a, b) => Math.min(a, b));
    const high = values.reduce((a, b) => Math.max(a, b));
    const pad = high > low ? share * (high - low) : Math.max(1e-9, 0.05 * Math.abs(high));
    return [low - pad, high + pad];
  }

  /** @param {number} t s */
  x(t) { return this.plot.x + (t - this.xRange[0]) / (this.xRange[1] - this.xRange[0]) * this.plot.width; }
  /** @param {number} e J */
  y(e) { return this.plot.y + (1 - (e - this.yRange[0]) / (this.yRange[1] - this.yRange[0])) * this.plot.height; }

  draw() {
    if (this.holder.clientWidth === 0) return;
    this.setScales();
    const {data} = this.report;
    const point = data.points[this.chosen];
    this.root = svg("svg", {viewBox: `0 0 ${this.width} ${this.height}`, role: "img"});
    this.root.setAttribute("aria-label",
      `Iteration time against energy. Chosen point: ${withUnit(point.time_s, this.report.timeUnit)}, ` +
      `${withUnit(point.energy_j, this.energy)}.`);
    this.labels = new LabelPlacer({x: this.plot.x, y: this.plot.y - 2, width: this.width - this.plot.x, height: this.plot.height});
    this.drawBound();
    this.drawAxes();
    this.drawTimeMark(data.t_min_s, "T_min");
    this.drawTimeMark(data.t_star_s, "T*");
    this.drawPoints();
    const measures = this.reserveMeasures(point);
    this.drawBaselines();
    if (measures) this.drawMeasures(point, measures);
    this.root.append(svg("circle", {class: "chosen-dot", cx: this.x(point.time_s), cy: this.y(point.energy_j), r: 6.5}));
    this.root.addEventListener("pointermove", (event) => this.hover(event));
    this.root.addEventListener("pointerleave", () => tip.hide());
    this.root.addEventListener("click", (event) => this.click(event));
    this.holder.replaceChildren(this.root);
  }

  drawBound() {
    const {data} = this.report;
    const curve = data.curve.length ? data.curve :
      data.points.map((p) => /** @type {[number, number]} */ ([p.target_time_s, p.lower_bound_j]));
    const line = curve.map(([t, e]) => `${this.x(t).toFixed(2)} ${this.y(e).toFixed(2)}`);
    const bottom = this.plot.y + this.plot.height;
    const first = this.x(curve[0][0]);
    const last = this.x(curve[curve.length - 1][0]);
    this.root.append(
      svg("path", {class: "bound-area", d: `M${line.join("L")}L${last} ${bottom}L${first} ${bottom}z`}),
      svg("path", {class: "bound-line", d: `M${line.join("L")}`}));
    const text = this.isNarrow ? "ruled out by the bound" : "ruled out by the proven bound";
    if (this.labels.width(text, 13, false) < (last - first) / 2) {
      this.root.append(svg("text", {class: "bound-text", x: first + 20, y: bottom - 16}, text));
    }
  }

  drawAxes() {
    const {evidence} = this.report.data;
    const unit = this.report.timeUnit;
    const bottom = this.plot.y + this.plot.height;
    const right = this.plot.x + this.plot.width;
    const ys = ticks(this.yRange[0] / this.energy.size, this.yRange[1] / this.energy.size, this.isNarrow ? 4 : 6);
    for (const v of ys.values) {
      const y = this.y(v * this.energy.size);
      this.root.append(svg("line", {class: "grid-line", x1: this.plot.x, x2: right, y1: y, y2: y}),
        svg("text", {class: "axis-text", x: this.plot.x - 10, y: y + 4.5, "text-anchor": "end"}, fixed(v, ys.digits)));
    }
    this.root.append(svg("line", {class: "axis-line", x1: this.plot.x, x2: right, y1: bottom, y2: bottom}));
    const xs = ticks(this.xRange[0] / unit.size, this.xRange[1] / unit.size, this.isNarrow ? 4 : 9);
    for (const v of xs.values) {
      const x = this.x(v * unit.size);
      this.root.append(svg("line", {class: "axis-line", x1: x, x2: x, y1: bottom, y2: bottom + 5}),
        svg("text", {class: "axis-text", x, y: bottom + 21, "text-anchor": "middle"}, fixed(v, xs.digits)));
    }
    this.root.append(
      svg("text", {class: "axis-text", x: 0, y: 14}, `energy of one iteration, ${this.energy.name} (${evidence})`),
      svg("text", {class: "axis-text", x: right, y: bottom + 44, "text-anchor": "end"}, `iteration time, ${unit.name} (${evidence})`));
  }

  /** @param {number} time @param {string} text */
  drawTimeMark(time, text) {
    const x = this.x(time);
    this.root.append(svg("line", {class: "time-mark", x1: x, x2: x, y1: this.plot.y, y2: this.plot.y + this.plot.height}));
    const label = svg("text", {class: "axis-text", x, y: this.plot.y - 7, "text-anchor": "middle"}, "T");
    label.append(text === "T*" ? "*" : svg("tspan", {dy: 3, "font-size": 10}, text.slice(1).replace("_", "")));
    this.root.append(label);
  }

  drawPoints() {
    const {points} = this.report.data;
    const radius = points.length > 60 ? 2.5 : 3.5;
    for (const p of points) {
      const x = this.x(p.time_s);
      const y = this.y(p.energy_j);
      this.root.append(svg("circle", {class: "frontier-dot", cx: x, cy: y, r: radius}));
      this.labels.taken.push({x: x - 4, y: y - 4, width: 8, height: 8});
    }
  }

  /**
   * Where the lines from all-max to the chosen point run: first the change in time, then the change in energy. Null
   * where the energies are too near each other to show. Keeps labels off the lines.
   * @param {FrontierPoint} point
   */
  reserveMeasures(point) {
    const {allMax} = this.report;
    const from = {x: this.x(allMax.time_s), y: this.y(allMax.energy_j)};
    const to = {x: this.x(point.time_s), y: this.y(point.energy_j)};
    if (to.y < from.y + 30) return null;
    this.labels.taken.push({x: Math.min(from.x, to.x), y: from.y - 4, width: Math.abs(to.x - from.x), height: 8},
      {x: to.x - 5, y: from.y, width: 10, height: to.y - from.y});
    return {from, to};
  }

  /** @param {FrontierPoint} point @param {{from: {x: number, y: number}, to: {x: number, y: number}}} lines */
  drawMeasures(point, {from, to}) {
    const {allMax} = this.report;
    const saving = signedPercent(point.energy_j / allMax.energy_j - 1);
    this.root.append(svg("path", {class: "measure", d: `M${from.x} ${from.y}L${to.x} ${from.y}L${to.x} ${to.y - 14}`}),
      svg("path", {class: "measure-head", d: `M${to.x - 5} ${to.y - 17}h10l-5 9z`}));
    const isEqual = Math.abs(point.time_s / allMax.time_s - 1) < 5e-4;
    this.measureText(isEqual && !this.isNarrow ? `${saving} energy at equal time` : `${saving}${this.isNarrow ? "" : " energy"}`,
      to.x, from.y, to.y);
    const text = `${signedPercent(point.time_s / allMax.time_s - 1)} time`;
    const width = this.labels.width(text, 13, true);
    const box = {x: (from.x + to.x - width) / 2, y: from.y - 22, width, height: 18};
    if (Math.abs(to.x - from.x) < width + 12 || !this.labels.isFree(box)) return;
    this.root.append(svg("text", {class: "measure-text small", x: (from.x + to.x) / 2, y: from.y - 8, "text-anchor": "middle"}, text));
    this.labels.taken.push(box);
  }

  /** Beside the vertical measure at x, as near to its middle as is free. @param {string} text @param {number} x @param {number} top @param {number} bottom */
  measureText(text, x, top, bottom) {
    const size = 17;
    const width = this.labels.width(text, size, true);
    const middle = (top + bottom) / 2 - size / 2 - 2;
    const corners = [];
    for (const left of [x + 12, x - 12 - width, ...(this.isNarrow ? [] : [x + 170]), x + 70]) {
      for (let k = 0; k <= 5; ++k) corners.push([left, middle + k * 8], [left, middle - k * 8]);
    }
    const box = corners.map(([left, y]) => ({x: left, y, width, height: size + 5})).find((b) => this.labels.isFree(b)) ??
      {x: x + 12, y: middle, width, height: size + 5};
    this.root.append(svg("text", {class: "measure-text", x: box.x, y: box.y + size - 1}, text));
    this.labels.taken.push(box);
  }

  drawBaselines() {
    const {baselines} = this.report.data;
    for (const b of baselines) {
      this.labels.taken.push({x: this.x(b.time_s) - 5, y: this.y(b.energy_j) - 5, width: 10, height: 10});
    }
    for (const b of baselines) {
      const x = this.x(b.time_s);
      const y = this.y(b.energy_j);
      this.root.append(svg("circle", {class: "baseline-dot", cx: x, cy: y, r: 5}));
      const at = this.labels.place(x, y, b.name);
      if (!at) continue;
      const side = at.x > x ? 1 : -1;
      if (at.isFar) this.root.append(svg("line", {class: "leader", x1: x + 6 * side, y1: y, x2: at.x - 4 * side, y2: at.y - 4.5}));
      this.root.append(svg("text", {class: "baseline-text halo", x: at.x, y: at.y, "text-anchor": at.anchor}, b.name));
    }
  }

  /** The point or baseline nearest to the pointer. @param {MouseEvent} event */
  nearest(event) {
    const {points, baselines} = this.report.data;
    const box = this.root.getBoundingClientRect();
    const scale = this.width / box.width;
    const px = (event.clientX - box.left) * scale;
    const py = (event.clientY - box.top) * scale;
    let best = {distance: Infinity, point: -1, baseline: -1};
    const consider = (/** @type {Baseline|FrontierPoint} */ p, /** @type {number} */ point, /** @type {number} */ baseline) => {
      const distance = Math.hypot(this.x(p.time_s) - px, this.y(p.energy_j) - py);
      if (distance < best.distance) best = {distance, point, baseline};
    };
    points.forEach((p, i) => consider(p, i, -1));
    baselines.forEach((b, i) => consider(b, -1, i));
    return best;
  }

  /** @param {PointerEvent} event */
  hover(event) {
    const {point, baseline, distance} = this.nearest(event);
    if (distance > 60) return tip.hide();
    const {data} = this.report;
    if (point >= 0) tip.show(event.clientX, event.clientY, `Point ${point + 1} of ${data.points.length}`, this.pointRows(data.points[point]));
    else tip.show(event.clientX, event.clientY, data.baselines[baseline].name, this.baselineRows(data.baselines[baseline]));
  }

  /** @param {FrontierPoint} p @returns {[string, string][]} */
  pointRows(p) {
    const {allMax, timeUnit: time} = this.report;
    return [
      ["Time", withUnit(p.time_s, time, 1)],
      ["Energy", withUnit(p.energy_j, this.energy, 1)],
      ["Energy against all-max", signedPercent(p.energy_j / allMax.energy_j - 1, 2)],
      ["Time against all-max", signedPercent(p.time_s / allMax.time_s - 1, 2)],
      ["Proven lower bound", withUnit(p.lower_bound_j, this.energy, 1)],
      ["Above the bound", fixed(100 * p.gap, 3) + "\u202f%"],
      ["One second more saves", alone(p.marginal_w, energyUnit)],
    ];
  }

  /** @param {Baseline} b @returns {[string, string][]} */
  baselineRows(b) {
    const best = this.report.bestWithin(b.time_s);
    /** @type {[string, string][]} */
    const rows = [["Time", withUnit(b.time_s, this.report.timeUnit, 1)], ["Energy", withUnit(b.energy_j, this.energy, 1)]];
    if (best) rows.push(["Perseus in that time", signedPercent(best.energy_j / b.energy_j - 1, 2)]);
    return rows;
  }

  /** @param {MouseEvent} event */
  click(event) {
    const {point} = this.nearest(event);
    if (point < 0) return;
    const {stops} = this.report;
    let stop = 0;
    stops.forEach((p, k) => { if (Math.abs(p - point) < Math.abs(stops[stop] - point)) stop = k; });
    this.onChoose(stop);
  }
}
