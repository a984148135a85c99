// SPDX-License-Identifier: Apache-2.0
// The timeline: all-max above the chosen plan, drawn on one canvas at one time scale.

/** How tall a block stands in its row, so that kinds are told apart without colour. @type {Record<string, number>} */
const KIND_HEIGHT = {F: 0.66, B: 1, I: 0.84, W: 0.5, FB: 1, R: 0.5, X: 0.5};
/** @type {Record<string, string>} */
const KIND_NAME = {F: "forward", B: "backward", I: "input gradient", W: "weight gradient", FB: "forward and backward",
                   R: "recomputation", X: "other"};
const CRITICAL_HEIGHT = 2.5;
const PANEL_TITLE = 30;
const PANEL_GAP = 20;
const AXIS_HEIGHT = 34;
/** Narrower blocks than this, in CSS pixels, are drawn once per half pixel: more would not be seen. */
const LEAST_BLOCK = 0.5;

/**
 * @typedef {{title: string, detail: string, choice: Numbers, timing: Timing}} Panel
 * @typedef {{panel: number, id: number}} Hit
 */

class TimelinePlot {
  /** @param {HTMLCanvasElement} canvas @param {Report} report @param {Dag} dag @param {HTMLElement} live */
  constructor(canvas, report, dag, live) {
    this.canvas = canvas;
    this.report = report;
    this.dag = dag;
    this.live = live;
    this.context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    this.ramps = {clock: makeRamp(report.data.ramps.clock), power: makeRamp(report.data.ramps.power)};
    /** @type {"clock"|"power"} */
    this.colourBy = "clock";
    this.ranges = {clock: this.rangeOf((c, k) => c.clock_mhz[k]),
                   power: this.rangeOf((c, k) => c.time_s[k] > 0 ? c.energy_j[k] / c.time_s[k] : null)};
    this.row = Math.min(26, Math.max(5, Math.floor(360 / dag.ranks)));
    /** @type {Panel[]} */
    this.panels = [];
    /** @type {Hit|null} */
    this.marked = null;
    this.from = 0;
    this.to = 1;
    this.isWhole = true;
    this.span = 0;
    this.width = 0;
    this.height = 0;
    this.left = 0;
    this.panelHeight = 0;
    this.font = "";
    this.colours = {ink: "", muted: "", idle: "", bound: ""};
    this.frame = 0;
    /** @type {Map<number, {x: number, y: number}>} */
    this.pointers = new Map();
    new ResizeObserver(() => this.redraw()).observe(/** @type {HTMLElement} */ (canvas.parentElement));
    this.listen();
  }

  /** Least and greatest value over all options in use. @param {(c: ComputationClass, k: number) => number|null} value */
  rangeOf(value) {
    let low = Infinity;
    let high = -Infinity;
    for (const c of this.dag.classes) {
      for (let k = 0; k < c.time_s.length; ++k) {
        const v = value(c, k);
        if (v === null || c.time_s[k] === 0) continue;
        low = Math.min(low, v);
        high = Math.max(high, v);
      }
    }
    return {low, high};
  }

  /** @param {Panel[]} panels top to bottom */
  show(panels) {
    this.panels = panels;
    this.span = Math.max(...panels.map((p) => p.timing.makespan)) || 1;
    if (this.isWhole) [this.from, this.to] = [0, this.span];
    else this.clampView();
    this.redraw();
  }

  /** @param {"clock"|"power"} colourBy */
  setColour(colourBy) {
    this.colourBy = colourBy;
    this.redraw();
  }

  redraw() {
    if (!this.frame) this.frame = requestAnimationFrame(() => { this.frame = 0; this.draw(); });
  }

  layout() {
    const holder = /** @type {HTMLElement} */ (this.canvas.parentElement);
    this.width = Math.max(200, holder.clientWidth);
    this.left = this.width < 560 ? 30 : 64;
    this.panelHeight = PANEL_TITLE + this.row * this.dag.ranks;
    this.height = this.panels.length * (this.panelHeight + PANEL_GAP) - PANEL_GAP + AXIS_HEIGHT;
    const ratio = devicePixelRatio || 1;
    const [pixelWidth, pixelHeight] = [Math.round(this.width * ratio), Math.round(this.height * ratio)];
    if (this.canvas.width !== pixelWidth || this.canvas.height !== pixelHeight) {
      this.canvas.width = pixelWidth;
      this.canvas.height = pixelHeight;
      this.canvas.style.height = `${this.height}px`;
    }
    this.context.setTransform(ratio, 0, 0, ratio, 0, 0);
  }

  /** @param {number} t s */
  x(t) { return this.left + (t - this.from) / (this.to - this.from) * (this.width - this.left - 1); }
  /** @param {number} x CSS pixels */
  timeAt(x) { return this.from + (x - this.left) / (this.width - this.left - 1) * (this.to - this.from); }
  /** Top of the rows of a panel. @param {number} panel */
  rowsTop(panel) { return panel * (this.panelHeight + PANEL_GAP) + PANEL_TITLE; }

  draw() {
    if (!this.panels.length) return;
    this.layout();
    const c = this.context;
    this.colours = {ink: themeColor("--ink"), muted: themeColor("--muted"), idle: themeColor("--idle"), bound: themeColor("--bound")};
    this.font = getComputedStyle(document.body).fontFamily;
    c.clearRect(0, 0, this.width, this.height);
    this.panels.forEach((panel, p) => this.drawPanel(panel, p));
    this.drawAxis();
    this.drawMark();
  }

  /** @param {Panel} panel @param {number} p */
  drawPanel(panel, p) {
    const c = this.context;
    const top = this.rowsTop(p);
    c.textBaseline = "alphabetic";
    c.textAlign = "left";
    c.fillStyle = this.colours.ink;
    c.font = `620 14px ${this.font}`;
    c.fillText(panel.title, 0, top - 11);
    const titleWidth = c.measureText(panel.title).width;
    c.font = `400 13px ${this.font}`;
    c.fillStyle = this.colours.muted;
    if (titleWidth + 16 + c.measureText(panel.detail).width < this.width) c.fillText(panel.detail, titleWidth + 14, top - 11);
    c.font = `400 12px ${this.font}`;
    c.textAlign = "right";
    const labelEvery = Math.ceil(13 / this.row);
    for (let r = 0; r < this.dag.ranks; r += labelEvery) {
      c.fillText(this.left < 40 ? String(r) : `rank ${r}`, this.left - 10, top + this.row * (r + 0.5) + 3);
    }
    c.save();
    c.beginPath();
    c.rect(this.left, top, this.width - this.left, this.row * this.dag.ranks);
    c.clip();
    c.fillStyle = this.colours.idle;
    const end = this.x(panel.timing.makespan);
    const begin = this.x(0);
    for (let r = 0; r < this.dag.ranks; ++r) c.fillRect(begin, top + r * this.row, end - begin, this.row - this.gap());
    this.drawBlocks(panel, top);
    this.drawCriticalPath(panel, top);
    c.restore();
  }

  gap() { return this.row > 10 ? 2 : 1; }

  /** First computation on rank r that ends after `time`. @param {Panel} panel @param {number} r @param {number} time */
  firstVisible(panel, r, time) {
    let low = this.dag.firstOfRank[r];
    let high = this.dag.firstOfRank[r + 1];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (panel.timing.start[middle] + this.dag.time(panel.choice, middle) <= time) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** @param {Panel} panel @param {number} i */
  shade(panel, i) {
    const {dag} = this;
    const range = this.ranges[this.colourBy];
    const value = this.colourBy === "clock" ? dag.clock(panel.choice, i) :
      dag.energy(panel.choice, i) / dag.time(panel.choice, i);
    if (value === null) return {css: this.colours.bound, isLight: false};
    return this.ramps[this.colourBy](range.high > range.low ? (value - range.low) / (range.high - range.low) : 1);
  }

  /** @param {Panel} panel @param {number} top */
  drawBlocks(panel, top) {
    const c = this.context;
    const {dag} = this;
    const height = this.row - this.gap();
    c.textAlign = "center";
    c.font = `500 11px ${this.font}`;
    for (let r = 0; r < dag.ranks; ++r) {
      const bottom = top + r * this.row + height;
      let drawnTo = -Infinity;
      for (let i = this.firstVisible(panel, r, this.from); i < dag.firstOfRank[r + 1]; ++i) {
        const start = panel.timing.start[i];
        if (start > this.to) break;
        const time = dag.time(panel.choice, i);
        const x = this.x(start);
        const right = this.x(start + time);
        if (time === 0 || right - drawnTo < LEAST_BLOCK) continue;
        drawnTo = right;
        const tall = height * (KIND_HEIGHT[dag.classes[dag.classOf[i]].kind] ?? 1);
        const shade = this.shade(panel, i);
        c.fillStyle = shade.css;
        const width = right - x;
        c.fillRect(x, bottom - tall, width > 3 ? width - 0.75 : Math.max(width, LEAST_BLOCK), tall);
        if (width > 20 && tall > 13) this.drawBlockName(i, x, right, bottom - tall / 2, shade.isLight);
      }
    }
  }

  /** In the middle of what is visible of the block. @param {number} i @param {number} x @param {number} right @param {number} y @param {boolean} isLight */
  drawBlockName(i, x, right, y, isLight) {
    const c = this.context;
    const name = this.dag.shortName(i);
    const from = Math.max(x, this.left);
    const to = Math.min(right, this.width);
    if (c.measureText(name).width > to - from - 6) return;
    c.fillStyle = isLight ? "rgb(20 24 28 / 82%)" : "rgb(255 255 255 / 92%)";
    c.textBaseline = "middle";
    c.fillText(name, (from + to) / 2, y);
    c.textBaseline = "alphabetic";
  }

  /** A bar under each critical block, and a line where the path goes to another rank. @param {Panel} panel @param {number} top */
  drawCriticalPath(panel, top) {
    const c = this.context;
    const {dag} = this;
    const {start, slack} = panel.timing;
    const height = this.row - this.gap();
    const tolerance = CRITICAL_SHARE * panel.timing.makespan;
    c.fillStyle = this.colours.ink;
    c.strokeStyle = this.colours.ink;
    c.lineWidth = 1;
    c.beginPath();
    for (let r = 0; r < dag.ranks; ++r) {
      const bottom = top + r * this.row + height;
      const bar = Math.min(CRITICAL_HEIGHT, height / 2);
      for (let i = this.firstVisible(panel, r, this.from); i < dag.firstOfRank[r + 1]; ++i) {
        if (start[i] > this.to) break;
        const time = dag.time(panel.choice, i);
        if (slack[i] > 0 || time === 0) continue;
        const x = this.x(start[i]);
        c.fillRect(x, bottom - bar, Math.max(this.x(start[i] + time) - x, LEAST_BLOCK), bar);
        for (let e = dag.outFirst[i]; e < dag.outFirst[i + 1]; ++e) {
          const to = dag.outTo[e];
          if (dag.rankOf[to] === r || slack[to] > 0 || Math.abs(start[i] + time + dag.outLag[e] - start[to]) > tolerance) continue;
          c.moveTo(this.x(start[i] + time), bottom - bar / 2);
          c.lineTo(this.x(start[to]), top + dag.rankOf[to] * this.row + height - bar / 2);
        }
      }
    }
    c.globalAlpha = 0.55;
    c.stroke();
    c.globalAlpha = 1;
  }

  drawAxis() {
    const c = this.context;
    const unit = this.report.timeUnit;
    const y = this.height - AXIS_HEIGHT + 5;
    const marks = ticks(this.from / unit.size, this.to / unit.size, this.width < 560 ? 4 : 9);
    c.font = `400 12px ${this.font}`;
    c.fillStyle = this.colours.muted;
    c.textAlign = "center";
    marks.values.forEach((v, k) => {
      const x = this.x(v * unit.size);
      const text = fixed(v, marks.digits) + (k === 0 ? ` ${unit.name}` : "");
      const half = c.measureText(text).width / 2;
      c.fillRect(x - 0.5, y, 1, 5);
      c.fillText(text, Math.min(this.width - half, x), y + 20);
    });
  }

  drawMark() {
    if (!this.marked) return;
    const {panel: p, id} = this.marked;
    const panel = this.panels[p];
    const c = this.context;
    const x = this.x(panel.timing.start[id]);
    const right = this.x(panel.timing.start[id] + this.dag.time(panel.choice, id));
    c.strokeStyle = this.colours.ink;
    c.lineWidth = 2;
    c.strokeRect(x - 1, this.rowsTop(p) + this.dag.rankOf[id] * this.row - 1, Math.max(right - x, 1) + 1, this.row - this.gap() + 2);
  }

  /** What lies under a point of the canvas. @param {number} px @param {number} py @returns {Hit|null} */
  hit(px, py) {
    for (let p = 0; p < this.panels.length; ++p) {
      const r = Math.floor((py - this.rowsTop(p)) / this.row);
      if (r < 0 || r >= this.dag.ranks || px < this.left) continue;
      const time = this.timeAt(px);
      const id = this.firstVisible(this.panels[p], r, time);
      const isThere = id < this.dag.firstOfRank[r + 1] && this.panels[p].timing.start[id] <= time;
      return isThere ? {panel: p, id} : null;
    }
    return null;
  }

  /** @param {Hit} hit @returns {{title: string, rows: [string, string][]}} */
  describe(hit) {
    const {dag} = this;
    const {choice, timing} = this.panels[hit.panel];
    const i = hit.id;
    const c = dag.classes[dag.classOf[i]];
    const clock = dag.clock(choice, i);
    const time = dag.time(choice, i);
    /** @type {[string, string][]} */
    const rows = [
      ["Plan", this.panels[hit.panel].title],
      ["Rank, stage", `${dag.rankOf[i]}, ${c.stage}${c.stage_b !== undefined ? ` and ${c.stage_b}` : ""}`],
      ["Microbatch", String(dag.microbatch[i]) + (c.stage_b !== undefined && dag.microbatchB ? ` and ${dag.microbatchB[i]}` : "")],
      ["Clock", clock === null ? "none" : `${clock}\u202fMHz`],
      ["Time", alone(time, timeUnit)],
      ["Start", withUnit(timing.start[i], this.report.timeUnit)],
      ["Energy of one GPU", alone(dag.energy(choice, i), energyUnit)],
      ["Power of one GPU", time > 0 ? `${fixed(dag.energy(choice, i) / time, 0)}\u202fW` : "none"],
      ["Slack", timing.slack[i] === 0 ? "none: critical" : alone(timing.slack[i], timeUnit)],
    ];
    return {title: `${dag.shortName(i)}, ${c.instruction.replaceAll("_", " ")}`, rows};
  }

  /** Keeps the view inside the iteration and not absurdly narrow. */
  clampView() {
    const {span} = this;
    const width = Math.min(span, Math.max(this.to - this.from, span * 1e-5));
    this.from = Math.min(Math.max(0, this.from), span - width);
    this.to = this.from + width;
    this.isWhole = width >= span * 0.9999;
  }

  /** @param {number} factor > 1 shows less time @param {number} [px] the place that stays; default the middle */
  zoom(factor, px = (this.left + this.width) / 2) {
    const centre = this.timeAt(px);
    this.from = centre - (centre - this.from) / factor;
    this.to = centre + (this.to - centre) / factor;
    this.clampView();
    this.redraw();
  }

  /** @param {number} share of what is visible */
  pan(share) {
    const move = share * (this.to - this.from);
    this.from += move;
    this.to += move;
    this.clampView();
    this.redraw();
  }

  showAll() {
    [this.from, this.to, this.isWhole] = [0, this.span, true];
    this.redraw();
  }

  listen() {
    const {canvas} = this;
    canvas.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.metaKey && Math.abs(event.deltaX) <= Math.abs(event.deltaY)) return;
      event.preventDefault();
      if (event.ctrlKey || event.metaKey) this.zoom(Math.exp(-event.deltaY * 0.004), event.offsetX);
      else this.pan(event.deltaX / this.width);
    }, {passive: false});
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.pointers.set(event.pointerId, {x: event.offsetX, y: event.offsetY});
    });
    canvas.addEventListener("pointermove", (event) => this.pointerMoved(event));
    for (const name of /** @type {const} */ (["pointerup", "pointercancel"])) {
      canvas.addEventListener(name, (event) => this.pointers.delete(event.pointerId));
    }
    canvas.addEventListener("pointerleave", () => this.mark(null));
    canvas.addEventListener("blur", () => this.mark(null));
    canvas.addEventListener("dblclick", (event) => this.zoom(2.5, event.offsetX));
    canvas.addEventListener("keydown", (event) => this.key(event));
  }

  /** One pointer drags, two pinch, none hovers. @param {PointerEvent} event */
  pointerMoved(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return this.mark(this.hit(event.offsetX, event.offsetY), event);
    const others = [...this.pointers].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
    if (others.length) {
      const was = Math.abs(before.x - others[0].x);
      const is = Math.abs(event.offsetX - others[0].x);
      if (was > 8 && is > 8) this.zoom(is / was, others[0].x);
    } else {
      this.pan((before.x - event.offsetX) / (this.width - this.left));
      tip.hide();
    }
    this.pointers.set(event.pointerId, {x: event.offsetX, y: event.offsetY});
  }

  /** Outlines a computation and tells about it. @param {Hit|null} hit @param {PointerEvent} [event] */
  mark(hit, event) {
    const isSame = hit?.id === this.marked?.id && hit?.panel === this.marked?.panel;
    this.marked = hit;
    if (!isSame) this.redraw();
    if (!hit) return tip.hide();
    const {title, rows} = this.describe(hit);
    const box = this.canvas.getBoundingClientRect();
    const x = event ? event.clientX : box.left + this.x(this.panels[hit.panel].timing.start[hit.id]);
    const y = event ? event.clientY : box.top + this.rowsTop(hit.panel) + (this.dag.rankOf[hit.id] + 1) * this.row;
    tip.show(x, y, title, rows);
    if (!event) this.live.textContent = `${title}. ${rows.map(([name, value]) => `${name}: ${value}`).join(". ")}`;
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    const step = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[event.key];
    if (step && event.shiftKey) this.pan(0.2 * step[0]);
    else if (step) this.stepTo(step[0], step[1]);
    else if (event.key === "+" || event.key === "=") this.zoom(1.5);
    else if (event.key === "-") this.zoom(1 / 1.5);
    else if (event.key === "0") this.showAll();
    else if (event.key === "Escape") this.mark(null);
    else return;
    event.preventDefault();
  }

  /** Moves the mark along its rank, or to what runs at that time on the rank above or below. @param {number} along @param {number} across */
  stepTo(along, across) {
    const {dag} = this;
    const bottom = this.panels.length - 1;
    if (!this.marked) return this.mark({panel: bottom, id: dag.firstOfRank[0]});
    let {panel, id} = this.marked;
    let rank = dag.rankOf[id];
    if (across) {
      const time = this.panels[panel].timing.start[id];
      rank += across;
      if (rank < 0 && panel > 0) [panel, rank] = [panel - 1, dag.ranks - 1];
      else if (rank >= dag.ranks && panel < bottom) [panel, rank] = [panel + 1, 0];
      if (rank < 0 || rank >= dag.ranks) return;
      id = Math.min(this.firstVisible(this.panels[panel], rank, time), dag.firstOfRank[rank + 1] - 1);
    } else {
      id = Math.min(Math.max(id + along, dag.firstOfRank[rank]), dag.firstOfRank[rank + 1] - 1);
    }
    this.reveal(this.panels[panel].timing.start[id], dag.time(this.panels[panel].choice, id));
    this.mark({panel, id});
  }

  /** Moves the view so that a block is inside. @param {number} start @param {number} time */
  reveal(start, time) {
    const width = this.to - this.from;
    if (start >= this.from && start + time <= this.to) return;
    this.from = start + time / 2 - width / 2;
    this.to = this.from + width;
    this.clampView();
    this.redraw();
  }
}
