// SPDX-License-Identifier: Apache-2.0
// The report's data, and what follows from it: when each computation of a plan runs and what it costs.

/**
 * @typedef {{bytes: number, data: string}} Packed little-endian unsigned numbers in base64
 * @typedef {{target_time_s: number, time_s: number, energy_j: number, sync_time_s?: number, lower_bound_j: number,
 *            gap: number, marginal_w: number}} FrontierPoint
 * @typedef {{name: string, time_s: number, energy_j: number}} Baseline
 * @typedef {{kind: string, instruction: string, stage: number, stage_b?: number, clock_mhz: (number|null)[],
 *            time_s: number[], energy_j: number[]}} ComputationClass computations alike but for the microbatch; the
 *            options are those that the plans of this report use, per GPU
 * @typedef {{first_of_rank: number[], classes: ComputationClass[], class_of: Packed, microbatch: Packed,
 *            microbatch_b?: Packed, edge_from: Packed, edge_to: Packed, lags_s: number[], edge_lag?: Packed}} DagData
 * @typedef {{point: number, choice: Packed}} PackedPlan
 * @typedef {{format: string, title: string, profile: string, provenance: string, evidence: string, fit: string,
 *            schedule: string, facts: [string, string][], warnings: string[], pipeline: number,
 *            virtual_stages: number, microbatches: number, tensor: number, data: number, computations: number,
 *            p2p_lag_s: number, blocking_power_w: number[], t_min_s: number, t_star_s: number, t_max_s: number,
 *            solver_s?: number, breakpoints?: number, baselines: Baseline[], curve: [number, number][],
 *            points: FrontierPoint[], straggler_points: FrontierPoint[],
 *            ramps: {clock: string[], power: string[]}, dag?: DagData,
 *            plans?: {all_max: Packed, points: PackedPlan[], straggler_points: PackedPlan[]}}} ReportData
 * @typedef {Uint8Array|Uint16Array|Uint32Array} Numbers
 * @typedef {{start: Float64Array, slack: Float64Array, makespan: number}} Timing seconds
 * @typedef {{computing: number, blocking: number}} RankEnergy joules, tensor width included
 */

/** @param {Packed} packed @returns {Numbers} */
function unpack(packed) {
  const text = atob(packed.data);
  const count = text.length / packed.bytes;
  const numbers = packed.bytes === 1 ? new Uint8Array(count) :
                  packed.bytes === 2 ? new Uint16Array(count) : new Uint32Array(count);
  for (let i = 0, at = 0; i < count; ++i) {
    let value = 0;
    for (let k = 0; k < packed.bytes; ++k) value += text.charCodeAt(at++) * 256 ** k;
    numbers[i] = value;
  }
  return numbers;
}

/** Slack below this share of the iteration is rounding: sums of doubles are not exact, the C++ side's are. */
const CRITICAL_SHARE = 1e-9;

/** The DAG of one iteration in flat arrays; only for reports that carry it. */
class Dag {
  /** @param {ReportData} data @param {DagData} dag */
  constructor(data, dag) {
    this.size = data.computations;
    this.hasChunks = data.virtual_stages > 1;
    this.tensor = data.tensor;
    this.blocking = data.blocking_power_w;
    this.firstOfRank = dag.first_of_rank;
    this.ranks = this.firstOfRank.length - 1;
    this.classes = dag.classes;
    this.classOf = unpack(dag.class_of);
    this.microbatch = unpack(dag.microbatch);
    this.microbatchB = dag.microbatch_b ? unpack(dag.microbatch_b) : null;
    this.rankOf = new Uint16Array(this.size);
    for (let r = 0; r < this.ranks; ++r) this.rankOf.fill(r, this.firstOfRank[r], this.firstOfRank[r + 1]);
    this.outFirst = new Uint32Array(this.size + 1);
    this.outTo = new Uint32Array(0);
    this.outLag = new Float64Array(0);
    this.order = new Uint32Array(this.size);
    this.collectEdges(dag);
    this.sortTopologically();
  }

  /** Edges grouped by where they start: outTo and outLag hold those of i at outFirst[i] .. outFirst[i + 1] - 1. */
  collectEdges(/** @type {DagData} */ dag) {
    const from = unpack(dag.edge_from);
    const to = unpack(dag.edge_to);
    const lagOf = dag.edge_lag ? unpack(dag.edge_lag) : null;
    const isLastOfRank = (/** @type {number} */ i) => i + 1 === this.firstOfRank[this.rankOf[i] + 1];
    for (let i = 0; i < this.size; ++i) this.outFirst[i + 1] = isLastOfRank(i) ? 0 : 1;
    for (const i of from) this.outFirst[i + 1] += 1;
    for (let i = 0; i < this.size; ++i) this.outFirst[i + 1] += this.outFirst[i];
    const next = this.outFirst.slice(0, this.size);
    this.outTo = new Uint32Array(this.outFirst[this.size]);
    this.outLag = new Float64Array(this.outTo.length);
    for (let i = 0; i < this.size; ++i) if (!isLastOfRank(i)) this.outTo[next[i]++] = i + 1;
    for (let e = 0; e < from.length; ++e) {
      const at = next[from[e]]++;
      this.outTo[at] = to[e];
      this.outLag[at] = dag.lags_s[lagOf ? lagOf[e] : 0];
    }
  }

  sortTopologically() {
    const waitsFor = new Uint32Array(this.size);
    for (const to of this.outTo) waitsFor[to] += 1;
    let end = 0;
    for (let i = 0; i < this.size; ++i) if (waitsFor[i] === 0) this.order[end++] = i;
    for (let k = 0; k < end; ++k) {
      const i = this.order[k];
      for (let e = this.outFirst[i]; e < this.outFirst[i + 1]; ++e) {
        if (--waitsFor[this.outTo[e]] === 0) this.order[end++] = this.outTo[e];
      }
    }
  }

  /** Time of computation i under a plan, s. @param {Numbers} choice @param {number} i */
  time(choice, i) { return this.classes[this.classOf[i]].time_s[choice[i]]; }
  /** Its energy on one GPU, J. @param {Numbers} choice @param {number} i */
  energy(choice, i) { return this.classes[this.classOf[i]].energy_j[choice[i]]; }
  /** Its clock, MHz; null if it does nothing. @param {Numbers} choice @param {number} i */
  clock(choice, i) { return this.classes[this.classOf[i]].clock_mhz[choice[i]]; }

  /** Longest paths to and from every computation. @param {Numbers} choice @returns {Timing} */
  timing(choice) {
    const start = new Float64Array(this.size);
    let makespan = 0;
    for (const i of this.order) {
      const end = start[i] + this.time(choice, i);
      if (end > makespan) makespan = end;
      for (let e = this.outFirst[i]; e < this.outFirst[i + 1]; ++e) {
        const ready = end + this.outLag[e];
        if (ready > start[this.outTo[e]]) start[this.outTo[e]] = ready;
      }
    }
    const latestEnd = new Float64Array(this.size).fill(makespan);
    const slack = new Float64Array(this.size);
    for (let k = this.size - 1; k >= 0; --k) {
      const i = this.order[k];
      for (let e = this.outFirst[i]; e < this.outFirst[i + 1]; ++e) {
        const to = this.outTo[e];
        latestEnd[i] = Math.min(latestEnd[i], latestEnd[to] - this.time(choice, to) - this.outLag[e]);
      }
      slack[i] = latestEnd[i] - start[i] - this.time(choice, i);
      if (slack[i] < CRITICAL_SHARE * makespan) slack[i] = 0;
    }
    return {start, slack, makespan};
  }

  /** Per rank in an iteration that ends at `sync`. @param {Numbers} choice @param {number} sync @returns {RankEnergy[]} */
  rankEnergies(choice, sync) {
    const energies = [];
    for (let r = 0; r < this.ranks; ++r) {
      let busy = 0;
      let computing = 0;
      for (let i = this.firstOfRank[r]; i < this.firstOfRank[r + 1]; ++i) {
        busy += this.time(choice, i);
        computing += this.energy(choice, i);
      }
      energies.push({computing: this.tensor * computing, blocking: this.tensor * this.blocking[r] * (sync - busy)});
    }
    return energies;
  }

  /** Kind and microbatch, "B12" or "FB3/1"; where a rank holds several stages the stage leads: "7B12". @param {number} i */
  shortName(i) {
    const {kind, stage} = this.classes[this.classOf[i]];
    const second = kind === "FB" && this.microbatchB ? "/" + this.microbatchB[i] : "";
    return (this.hasChunks ? stage : "") + kind + this.microbatch[i] + second;
  }
}

/** All that the page shows, with what is derived from it once. */
class Report {
  /** @param {ReportData} data */
  constructor(data) {
    this.data = data;
    this.allMax = data.baselines[0];
    this.dag = data.dag ? new Dag(data, data.dag) : null;
    /** Points that the slider stops at: those that carry a plan, or all if none does. @type {number[]} */
    this.stops = data.plans ? data.plans.points.map((plan) => plan.point) : data.points.map((_, p) => p);
    this.allMaxChoice = data.plans ? unpack(data.plans.all_max) : null;
    this.allMaxTiming = this.dag && this.allMaxChoice ? this.dag.timing(this.allMaxChoice) : null;
    /** @type {Map<number, {choice: Numbers, timing: Timing}>} */
    this.timed = new Map();
    this.blockingTotal = data.tensor * data.blocking_power_w.reduce((sum, p) => sum + p, 0);
    this.timeUnit = timeUnit(data.t_min_s);
    this.energyUnit = energyUnit(this.allMax.energy_j);
  }

  /** The plan of the point at one stop of the slider; null if the report carries none. @param {number} stop */
  planAt(stop) {
    if (!this.dag || !this.data.plans) return null;
    let plan = this.timed.get(stop);
    if (!plan) {
      const choice = unpack(this.data.plans.points[stop].choice);
      plan = {choice, timing: this.dag.timing(choice)};
      this.timed.set(stop, plan);
    }
    return plan;
  }

  /** Least-energy point that is no slower than `limit`; null if all are. @param {number} limit s */
  bestWithin(limit) {
    let best = null;
    for (const point of this.data.points) {
      if (point.time_s <= limit && (!best || point.energy_j < best.energy_j)) best = point;
    }
    return best;
  }

  /** The stop that the page opens with: least energy at all-max's time, else the fastest. */
  firstStop() {
    const best = this.bestWithin(this.allMax.time_s);
    const points = this.data.points;
    const distance = (/** @type {number} */ p) => best ? Math.abs(points[p].time_s - best.time_s) : p;
    let stop = 0;
    this.stops.forEach((p, k) => { if (distance(p) < distance(this.stops[stop])) stop = k; });
    return stop;
  }

  /** What a plan costs apart from the blocking power that runs all the time, J. @param {FrontierPoint|Baseline} point */
  effectiveCost(point) {
    const counted = "sync_time_s" in point && point.sync_time_s !== undefined ? point.sync_time_s : point.time_s;
    return point.energy_j - this.blockingTotal * counted;
  }

  /**
   * Energy of this pipeline when a straggler ends the iteration at `sync`: with all-max, with the plan that costs no
   * time, and with the best plan that ends by then.
   * @param {number} sync s
   */
  stragglerEnergies(sync) {
    const waiting = this.blockingTotal * sync;
    const intrinsicPoint = this.bestWithin(this.allMax.time_s) ?? this.data.points[0];
    let best = this.effectiveCost(intrinsicPoint);
    let time = intrinsicPoint.time_s;
    for (const point of [...this.data.points, ...this.data.straggler_points]) {
      if (point.time_s > sync || this.effectiveCost(point) >= best) continue;
      best = this.effectiveCost(point);
      time = point.time_s;
    }
    return {
      allMax: this.effectiveCost(this.allMax) + waiting,
      intrinsic: this.effectiveCost(intrinsicPoint) + waiting,
      extrinsic: best + waiting,
      planTime: time,
    };
  }
}
