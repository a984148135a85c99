// SPDX-License-Identifier: Apache-2.0
// Everything beside the two plots: key figures, readout, tables, stragglers, inputs.

/** A number with a smaller unit behind it. @param {number} value @param {Unit} unit @param {number} [more] */
function figure(value, unit, more = 0) {
  const node = document.createDocumentFragment();
  node.append(inUnit(value, unit, more), el("span", "unit", unit.name));
  return node;
}

/** T with an index. @param {string} index */
function timeName(index) {
  const name = el("span", "", "T");
  name.append(index === "*" ? "*" : el("sub", "", index));
  return name;
}

/** @param {string|Node} name @param {string|Node} value @param {string} note @param {string} evidence */
function keyFigure(name, value, note, evidence) {
  return el("div", "", el("dt", "", name, el("span", "tag", evidence)), el("dd", "figure", value), el("dd", "", note));
}

/** @param {Report} report */
function renderHead(report) {
  const {data} = report;
  const parts = [data.profile, data.schedule, `${data.pipeline} pipeline ranks × ${data.microbatches} microbatches`];
  if (data.virtual_stages > 1) parts.push(`${data.virtual_stages} stages a rank`);
  if (data.tensor > 1) parts.push(`tensor ${data.tensor}`);
  if (data.data > 1) parts.push(`data ${data.data}`);
  byId("subtitle").textContent = `${parts.filter(Boolean).join(" · ")}. ${data.provenance}`;

  const {allMax, timeUnit: time} = report;
  const equal = report.bestWithin(allMax.time_s);
  const shown = equal ?? data.points[0];
  const saving = 1 - shown.energy_j / allMax.energy_j;
  const cause = equal ? "at all-max's own iteration time" : `at ${signedPercent(shown.time_s / allMax.time_s - 1, 2)} time`;
  const amount = `${withUnit(allMax.energy_j, report.energyUnit)} with all-max, ${withUnit(shown.energy_j, report.energyUnit)} with Perseus, ${cause}`;
  const big = document.createDocumentFragment();
  big.append(fixed(100 * saving, 1), el("span", "unit", "%"));
  byId("headline").replaceChildren(
    keyFigure(equal ? "Energy saved at equal time" : "Energy saved", big, amount, data.evidence),
    keyFigure(timeName("min"), figure(data.t_min_s, time), `fastest, ${relativeTime(data.t_min_s, allMax.time_s)}`, data.evidence),
    keyFigure(timeName("*"), figure(data.t_star_s, time), `least energy, ${relativeTime(data.t_star_s, allMax.time_s)}`, data.evidence),
    keyFigure(timeName("max"), figure(data.t_max_s, time), `slower never pays, ${relativeTime(data.t_max_s, allMax.time_s)}`, data.evidence));
}

/** @param {number} seconds @param {number} reference */
function relativeTime(seconds, reference) {
  const change = seconds / reference - 1;
  return Math.abs(change) < 5e-5 ? "all-max's own time" : `${signedPercent(change)}`;
}

/** @param {Report} report @param {FrontierPoint} point */
function renderReadout(report, point) {
  const {allMax, timeUnit: time, energyUnit: energy} = report;
  const item = (/** @type {string} */ name, /** @type {Node|string} */ value, /** @type {string} */ delta, isOptional = false) =>
    el("div", isOptional ? "optional" : "", el("dt", "", name), el("dd", "", value, el("span", "delta", delta)));
  byId("readout").replaceChildren(
    item("Iteration time", figure(point.time_s, time), `${signedPercent(point.time_s / allMax.time_s - 1)} time`),
    item("Energy", figure(point.energy_j, energy), `${signedPercent(point.energy_j / allMax.energy_j - 1)} energy`),
    item("Above the bound", fixed(100 * point.gap, 3) + "\u202f%", "at most"),
    item("Average power", figure(point.energy_j / point.time_s, powerUnit(allMax.energy_j / allMax.time_s)), "whole pipeline", true),
    item("A second more saves", alone(point.marginal_w, energyUnit), "marginal", true));
}

/** @param {[number, string][]} parts share of the full width and class of each segment @param {boolean} [isThin] */
function bar(parts, isThin = false) {
  const box = el("div", isThin ? "bar thin" : "bar");
  for (const [share, className] of parts) {
    const segment = el("span", className);
    segment.style.width = `${Math.max(0, 100 * share)}%`;
    box.append(segment);
  }
  return box;
}

/** @param {...string} cells */
function headRow(...cells) {
  const row = el("tr");
  for (const text of cells) {
    const th = el("th", "", text);
    th.setAttribute("scope", "col");
    row.append(th);
  }
  return row;
}

/** @param {Report} report @param {Numbers} choice @param {FrontierPoint} point */
function renderRanks(report, choice, point) {
  const dag = /** @type {Dag} */ (report.dag);
  const before = dag.rankEnergies(/** @type {Numbers} */ (report.allMaxChoice), report.allMax.time_s);
  const after = dag.rankEnergies(choice, point.time_s);
  const most = Math.max(...[...before, ...after].map((e) => e.computing + e.blocking), 1e-300);
  const unit = energyUnit(most);
  const isThin = dag.ranks > 24;
  const key = el("th", "bar-cell");
  key.setAttribute("scope", "col");
  for (const [className, text] of [["fill-baseline", "all-max"], ["fill-plan", "chosen"], ["fill-waiting", "waiting"]]) {
    key.append(el("span", `key ${className}`), el("span", "", text), el("span", "gap"));
  }
  const head = headRow("Rank", "", `all-max ${unit.name}`, `chosen ${unit.name}`);
  head.children[1].replaceWith(key);
  const body = el("tbody");
  for (let r = 0; r < dag.ranks; ++r) {
    const bars = el("td", "bar-cell",
      bar([[before[r].computing / most, "fill-baseline"], [before[r].blocking / most, "fill-waiting"]], isThin),
      bar([[after[r].computing / most, "fill-plan"], [after[r].blocking / most, "fill-waiting"]], isThin));
    const name = el("th", "", String(r));
    name.setAttribute("scope", "row");
    body.append(el("tr", "", name, bars, el("td", "", inUnit(before[r].computing + before[r].blocking, unit, -1)),
      el("td", "", inUnit(after[r].computing + after[r].blocking, unit, -1))));
  }
  byId("ranks").replaceChildren(el("table", "bars", el("thead", "", head), body));
}

/** @param {Report} report @param {FrontierPoint} chosen */
function renderSavings(report, chosen) {
  const {data, timeUnit: time, energyUnit: energy} = report;
  const body = el("tbody");
  for (const b of data.baselines) {
    const best = report.bestWithin(b.time_s);
    const change = best ? best.energy_j / b.energy_j - 1 : NaN;
    const name = el("th", "", b.name);
    name.setAttribute("scope", "row");
    body.append(el("tr", "", name, el("td", "", inUnit(b.time_s, time)), el("td", "", inUnit(b.energy_j, energy)),
      el("td", change < 0 ? "good" : "", best ? signedPercent(change) : "none as fast"),
      el("td", "", signedPercent(chosen.time_s / b.time_s - 1)),
      el("td", "", signedPercent(chosen.energy_j / b.energy_j - 1))));
  }
  const head = headRow("", `Time ${time.name}`, `Energy ${energy.name}`, "Perseus, no slower", "Chosen: time", "Chosen: energy");
  byId("savings").replaceChildren(el("table", "", el("thead", "", head), body));
}

/** @param {Report} report @param {number} sync s */
function renderBloat(report, sync) {
  const {energyUnit: energy, data} = report;
  const e = report.stragglerEnergies(sync);
  byId("straggler-value").textContent =
    `${withUnit(sync, report.timeUnit)}, ${fixed(sync / data.t_min_s, 3)} `;
  byId("straggler-value").append(" × ", timeName("min"));
  const row = (/** @type {string} */ name, /** @type {number} */ value, /** @type {string} */ fill) => {
    const saved = 1 - value / e.allMax;
    const parts = /** @type {[number, string][]} */ ([[value / e.allMax, fill]]);
    if (saved > 0) parts.push([saved, "fill-saved"]);
    return el("div", "bloat-row", el("span", "name", name), bar(parts), el("span", "number", withUnit(value, energy)),
      el("span", "good", saved > 0 ? signedPercent(-saved) : ""));
  };
  byId("bloat").replaceChildren(
    el("div", "bloat",
      row("all-max, then waiting", e.allMax, "fill-baseline"),
      row("without intrinsic bloat", e.intrinsic, "fill-plan"),
      row("without extrinsic bloat too", e.extrinsic, "fill-plan")),
    el("p", "hint", `Energy of this pipeline until the straggler ends the iteration (${data.evidence}). ` +
      `Intrinsic bloat ${withUnit(e.allMax - e.intrinsic, energy)}, extrinsic ${withUnit(e.intrinsic - e.extrinsic, energy)}; ` +
      `the plan used ends after ${withUnit(e.planTime, report.timeUnit)}.` +
      (data.straggler_points.length ? "" : " This report carries plans up to T* only; beyond it slowing further may still pay.")));
}

/** @param {Report} report */
function renderInputs(report) {
  const {data} = report;
  const powers = data.blocking_power_w;
  const low = Math.min(...powers);
  const high = Math.max(...powers);
  /** @type {[string, string][]} */
  const rows = [
    ["Profile", data.profile], ["Origin of the figures", data.provenance], ["Fit", data.fit],
    ["Schedule", data.schedule],
    ["Degrees", `pipeline ${data.pipeline}, tensor ${data.tensor}, data ${data.data}`],
    ["Microbatches", String(data.microbatches)], ["Stages a rank", String(data.virtual_stages)],
    ["Computations", data.computations.toLocaleString("en")],
    ["Blocking power of a GPU", low === high ? `${low}\u202fW` : `${low} to ${high}\u202fW`],
    ["P2P lag", alone(data.p2p_lag_s, timeUnit)],
  ];
  if (data.breakpoints !== undefined) rows.push(["Corners of the exact frontier", data.breakpoints.toLocaleString("en")]);
  if (data.solver_s !== undefined) rows.push(["Time to solve", alone(data.solver_s, timeUnit)]);
  rows.push(...data.facts);
  byId("inputs").replaceChildren(...rows.map(([name, value]) => el("div", "", el("dt", "", name), el("dd", "", value || "not given"))));
  const notes = [...data.warnings, ...limitNotes(report)];
  if (!notes.length) return;
  byId("warnings").replaceChildren(el("h3", "", notes.length === 1 ? "A note" : "Notes and warnings"),
    el("ul", "", ...notes.map((text) => el("li", "", text))));
}

/** What this page leaves out because of its size. @param {Report} report */
function limitNotes(report) {
  const {data} = report;
  const notes = [];
  if (!report.dag) notes.push("The pipeline has too many computations for a timeline in this page; all numbers are complete.");
  else if (report.stops.length < data.points.length) {
    notes.push(`To keep the file small, ${report.stops.length} of ${data.points.length} points carry their plan; the slider stops at those.`);
  }
  return notes;
}

/** @param {Report} report */
function renderFooter(report) {
  const {data} = report;
  byId("footer").textContent = `Energies are those of one pipeline with all its GPUs, waiting included` +
    (data.data > 1 ? `; the job runs ${data.data} such pipelines` : "") +
    `. Every figure on this page is ${data.evidence}. Made by Perseus; this file needs no network.`;
}

/** Says how to read the timeline. @param {Dag} dag */
function renderTimelineLead(dag) {
  const kinds = [...new Set(dag.classes.map((c) => c.kind))].sort((a, b) => KIND_HEIGHT[a] - KIND_HEIGHT[b]);
  byId("timeline-lead").textContent = "Both pipelines run to the same scale. The line under the blocks is the critical path. " +
    (kinds.length > 1 ? `Blocks from low to tall: ${kinds.map((kind) => KIND_NAME[kind]).join(", ")}.` : "");
}

/** The colour scale of the timeline. @param {TimelinePlot} plot */
function renderLegend(plot) {
  const {low, high} = plot.ranges[plot.colourBy];
  const unit = plot.colourBy === "clock" ? "MHz" : "W per GPU";
  const ramp = el("span", "ramp");
  ramp.style.background = `linear-gradient(to right, ${plot.report.data.ramps[plot.colourBy].join(", ")})`;
  const items = Number.isFinite(low) && high > low ? [el("span", "", fixed(low, 0)), ramp, el("span", "", `${fixed(high, 0)} ${unit}`)] :
    [el("span", "", Number.isFinite(low) ? `${fixed(low, 0)} ${unit}` : "no clock")];
  byId("legend").replaceChildren(...items, el("span", "waiting"), el("span", "", "waiting"));
}
