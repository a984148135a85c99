// SPDX-License-Identifier: Apache-2.0
#include "perseus/solver/contraction.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace perseus::solver {
namespace {

constexpr std::uint32_t kSource = 0;
constexpr std::uint32_t kSink = 1;
std::uint32_t start_event(core::ComputationId i) {
  return 2 + 2 * i;
}
std::uint32_t end_event(core::ComputationId i) {
  return 3 + 2 * i;
}

/// An edge is dropped if a path of at most so many arcs implies it; looked for with at most so many steps.
/// Measured on 1F1B: longer searches drop nothing more.
constexpr int kPathArcs = 4;
constexpr int kPathSteps = 64;
/// Longest merged curve. Chains of computations with equal options stay short anyway: their slopes coincide.
constexpr std::uint32_t kMaxComposedPoints = 4096;

}  // namespace

Contraction::Contraction(const core::Problem& problem, const Scaled& scaled) : curves_(scaled.curves) {
  const core::Pipeline& pipeline = problem.pipeline();
  const std::uint32_t events = 2 + 2 * problem.size();
  in_.resize(events);
  out_.resize(events);
  gone_.assign(events, false);
  queued_.assign(events, false);
  expansion_.anchor_.resize(events);
  for (std::uint32_t v = 0; v < events; ++v) expansion_.anchor_[v] = {v, 0};
  arcs_.reserve(problem.size() + pipeline.edges().size());
  for (core::ComputationId i = 0; i < problem.size(); ++i) {
    add_arc(start_event(i), end_event(i), problem.option_set_of(i), false);
  }
  for (core::EdgeId e = 0; e < pipeline.edges().size(); ++e) {
    const core::Edge& edge = pipeline.edges()[e];
    add_arc(end_event(edge.from), start_event(edge.to), edge_curve(scaled.lag[e]), true);
  }
  for (core::ComputationId i = 0; i < problem.size(); ++i) {
    if (in_[start_event(i)].empty()) add_arc(kSource, start_event(i), edge_curve(0), true);
    if (out_[end_event(i)].empty()) add_arc(end_event(i), kSink, edge_curve(0), true);
  }
}

ArcId Contraction::add_arc(std::uint32_t tail, std::uint32_t head, CurveId curve, bool edge) {
  const auto a = static_cast<ArcId>(arcs_.size());
  arcs_.push_back({tail, head, curve, edge, false});
  out_[tail].push_back(a);
  in_[head].push_back(a);
  return a;
}

void Contraction::kill(ArcId a) {
  arcs_[a].dead = true;
  std::erase(out_[arcs_[a].tail], a);
  std::erase(in_[arcs_[a].head], a);
}

CurveId Contraction::edge_curve(std::int64_t lag) {
  const auto [it, fresh] = edge_curves_.try_emplace(lag, 0);
  if (fresh) {
    const std::int64_t zero = 0;
    it->second = curves_.add({&lag, 1}, {&zero, 1});
  }
  return it->second;
}

CurveId Contraction::shifted(CurveId c, std::int64_t by) {
  if (by == 0) return c;
  const auto [it, fresh] = shifted_.try_emplace({c, by}, 0);
  if (fresh) {
    std::vector<std::int64_t> times(curves_.times(c).begin(), curves_.times(c).end());
    const std::vector<std::int64_t> slopes(curves_.slopes(c).begin(), curves_.slopes(c).end());
    for (std::int64_t& t : times) t += by;
    it->second = curves_.add(times, slopes);
  }
  return it->second;
}

CurveId Contraction::composed(CurveId a, CurveId b) {
  if (b < a) std::swap(a, b);
  const auto [it, fresh] = composed_.try_emplace({a, b}, 0);
  if (!fresh) return it->second;
  std::vector<std::int64_t> times{curves_.fastest(a) + curves_.fastest(b)};
  std::vector<std::int64_t> slopes;
  const auto append = [&](std::int64_t length, std::int64_t slope) {
    if (!slopes.empty() && slopes.back() == slope) {
      times.back() += length;
    } else {
      times.push_back(times.back() + length);
      slopes.push_back(slope);
    }
  };
  std::size_t i = 0;
  std::size_t k = 0;
  const auto at = curves_.times(a);
  const auto as = curves_.slopes(a);
  const auto bt = curves_.times(b);
  const auto bs = curves_.slopes(b);
  while (i + 1 < at.size() || k + 1 < bt.size()) {
    if (as[i] >= bs[k]) {
      append(at[i + 1] - at[i], as[i]);
      ++i;
    } else {
      append(bt[k + 1] - bt[k], bs[k]);
      ++k;
    }
  }
  slopes.push_back(0);
  return it->second = curves_.add(times, slopes);
}

void Contraction::wake(std::uint32_t event) {
  if (!queued_[event] && !gone_[event]) {
    queued_[event] = true;
    work_.push_back(event);
  }
}

void Contraction::shrink() {
  for (auto v = static_cast<std::uint32_t>(in_.size()); v-- > 0;) wake(v);
  while (!work_.empty()) {
    const std::uint32_t v = work_.back();
    work_.pop_back();
    queued_[v] = false;
    if (gone_[v]) continue;
    const bool changed = drop_redundant(v) || merge_into_tail(v) || merge_into_head(v) || merge_biclique(v) ||
                         compose_series(v);
    if (changed) wake(v);
  }
}

bool Contraction::reaches(std::uint32_t from, std::uint32_t to, std::int64_t least, ArcId without, int depth,
                          int& budget) const {
  for (const ArcId a : out_[from]) {
    if (a == without) continue;
    if (--budget < 0) return false;
    const std::int64_t rest = least - curves_.fastest(arcs_[a].curve);
    if (arcs_[a].head == to) {
      if (rest <= 0) return true;
    } else if (depth > 1 && reaches(arcs_[a].head, to, rest, without, depth - 1, budget)) {
      return true;
    }
  }
  return false;
}

bool Contraction::implied(ArcId edge) const {
  const WorkArc& arc = arcs_[edge];
  if (arc.tail == arc.head) return true;  // its events were merged with an offset that keeps it
  int budget = kPathSteps;
  return reaches(arc.tail, arc.head, curves_.fastest(arc.curve), edge, kPathArcs, budget);
}

bool Contraction::drop_redundant(std::uint32_t event) {
  bool changed = false;
  const std::vector<ArcId> candidates = out_[event];
  for (const ArcId a : candidates) {
    if (!arcs_[a].edge || !implied(a)) continue;
    wake(arcs_[a].head);
    kill(a);
    changed = true;
  }
  return changed;
}

void Contraction::merge(std::uint32_t gone, std::uint32_t kept, std::int64_t offset) {
  gone_[gone] = true;
  expansion_.anchor_[gone] = {kept, offset};
  for (const ArcId a : out_[gone]) {
    arcs_[a].tail = kept;  // span from kept = span from gone + offset
    arcs_[a].curve = arcs_[a].edge ? edge_curve(curves_.fastest(arcs_[a].curve) + offset)
                                   : shifted(arcs_[a].curve, offset);
    out_[kept].push_back(a);
    wake(arcs_[a].head);
  }
  for (const ArcId a : in_[gone]) {
    arcs_[a].head = kept;
    arcs_[a].curve = arcs_[a].edge ? edge_curve(curves_.fastest(arcs_[a].curve) - offset)
                                   : shifted(arcs_[a].curve, -offset);
    in_[kept].push_back(a);
    wake(arcs_[a].tail);
  }
  out_[gone].clear();
  in_[gone].clear();
  wake(kept);
}

bool Contraction::merge_into_tail(std::uint32_t event) {
  if (event == kSource || event == kSink || in_[event].size() != 1) return false;
  const ArcId a = in_[event].front();
  if (!arcs_[a].edge) return false;
  const std::uint32_t tail = arcs_[a].tail;
  const std::int64_t lag = curves_.fastest(arcs_[a].curve);
  kill(a);
  merge(event, tail, lag);
  return true;
}

bool Contraction::merge_into_head(std::uint32_t event) {
  if (event == kSource || event == kSink || out_[event].size() != 1) return false;
  const ArcId a = out_[event].front();
  if (!arcs_[a].edge) return false;
  const std::uint32_t head = arcs_[a].head;
  const std::int64_t lag = curves_.fastest(arcs_[a].curve);
  kill(a);
  merge(event, head, -lag);
  return true;
}

bool Contraction::merge_biclique(std::uint32_t event) {
  if (event == kSink || out_[event].size() < 2) return false;
  // Heads and tails that make the biclique; all its edges must carry one lag and be all that the sides have.
  const CurveId lag = arcs_[out_[event].front()].curve;
  std::vector<std::uint32_t> heads;
  for (const ArcId a : out_[event]) {
    if (!arcs_[a].edge || arcs_[a].curve != lag || arcs_[a].head == kSink) return false;
    heads.push_back(arcs_[a].head);
  }
  std::ranges::sort(heads);
  std::vector<std::uint32_t> tails;
  for (const ArcId a : in_[heads.front()]) tails.push_back(arcs_[a].tail);
  std::ranges::sort(tails);
  const auto ends_are = [&](const std::vector<ArcId>& list, bool want_heads,
                            const std::vector<std::uint32_t>& want) {
    if (list.size() != want.size()) return false;
    std::vector<std::uint32_t> got;
    for (const ArcId a : list) {
      if (!arcs_[a].edge || arcs_[a].curve != lag) return false;
      got.push_back(want_heads ? arcs_[a].head : arcs_[a].tail);
    }
    std::ranges::sort(got);
    return got == want;
  };
  for (const std::uint32_t t : tails) {
    if (t == kSource || !ends_are(out_[t], true, heads)) return false;
  }
  for (const std::uint32_t h : heads) {
    if (!ends_are(in_[h], false, tails)) return false;
  }
  // The last of the tails is the moment; the heads follow by the lag.
  for (const std::uint32_t t : tails) {
    const std::vector<ArcId> edges = out_[t];
    for (const ArcId a : edges) kill(a);
  }
  for (const std::uint32_t t : tails) {
    if (t != event) merge(t, event, 0);
  }
  for (const std::uint32_t h : heads) merge(h, event, curves_.fastest(lag));
  return true;
}

bool Contraction::compose_series(std::uint32_t event) {
  if (event == kSource || event == kSink || in_[event].size() != 1 || out_[event].size() != 1) return false;
  const ArcId first = in_[event].front();
  const ArcId second = out_[event].front();
  const WorkArc a = arcs_[first];
  const WorkArc b = arcs_[second];
  if (curves_.size(a.curve) + curves_.size(b.curve) > kMaxComposedPoints) return false;
  kill(first);
  kill(second);
  gone_[event] = true;
  const ArcId whole = add_arc(a.tail, b.head, composed(a.curve, b.curve), false);
  expansion_.series_.push_back({a.tail, event, b.head, a.curve, b.curve, first, second, whole});
  wake(a.tail);
  wake(b.head);
  return true;
}

Contracted Contraction::finish() && {
  // Number the live events by their earliest time at the fastest options.
  const auto events = static_cast<std::uint32_t>(in_.size());
  std::vector<std::uint32_t> waits(events, 0);
  std::vector<std::int64_t> time(events, 0);
  std::vector<std::uint32_t> order;
  for (std::uint32_t v = 0; v < events; ++v) {
    waits[v] = static_cast<std::uint32_t>(in_[v].size());
    if (!gone_[v] && waits[v] == 0) order.push_back(v);
  }
  for (std::size_t done = 0; done < order.size(); ++done) {
    for (const ArcId a : out_[order[done]]) {
      const std::uint32_t head = arcs_[a].head;
      time[head] = std::max(time[head], time[order[done]] + curves_.fastest(arcs_[a].curve));
      if (--waits[head] == 0) order.push_back(head);
    }
  }
  // Events at one time stay in topological order. (Not std::stable_sort: libstdc++ 12's uses what clang calls
  // deprecated.)
  std::vector<std::size_t> rank(events);
  for (std::size_t place = 0; place < order.size(); ++place) rank[order[place]] = place;
  std::ranges::sort(order, {}, [&](std::uint32_t v) { return std::pair(time[v], rank[v]); });

  Contracted result;
  Network& network = result.network;
  network.nodes = static_cast<std::uint32_t>(order.size());
  expansion_.node_.assign(events, Expansion::kNoNode);
  for (NodeId n = 0; n < network.nodes; ++n) expansion_.node_[order[n]] = n;
  network.source = expansion_.node_[kSource];
  network.sink = expansion_.node_[kSink];

  std::vector<ArcId> live;
  for (ArcId a = 0; a < arcs_.size(); ++a) {
    if (!arcs_[a].dead) live.push_back(a);
  }
  const auto ends = [&](ArcId a) {
    return std::pair(expansion_.node_[arcs_[a].tail], expansion_.node_[arcs_[a].head]);
  };
  std::ranges::sort(live, {}, [&](ArcId a) { return std::pair(ends(a), a); });
  std::vector<CurveId> renamed(curves_.count(), curves_.count());
  for (const ArcId a : live) {
    CurveId& curve = renamed[arcs_[a].curve];
    if (curve == curves_.count()) {
      curve = network.curves.add(curves_.times(arcs_[a].curve), curves_.slopes(arcs_[a].curve));
    }
    const auto [tail, head] = ends(a);
    network.arcs.push_back({tail, head, curve});
  }
  // Every event points straight at a live one or at a series' middle.
  for (std::uint32_t v = 0; v < events; ++v) {
    Expansion::Anchor& anchor = expansion_.anchor_[v];
    while (expansion_.anchor_[anchor.event].event != anchor.event) {
      const Expansion::Anchor next = expansion_.anchor_[anchor.event];
      anchor = {next.event, anchor.offset + next.offset};
    }
  }
  expansion_.live_arc_ = std::move(live);
  expansion_.working_arcs_ = static_cast<std::uint32_t>(arcs_.size());
  expansion_.curves_ = std::move(curves_);
  result.expansion = std::move(expansion_);
  return result;
}

Contracted contract(const core::Problem& problem, const Scaled& scaled) {
  Contraction contraction(problem, scaled);
  contraction.shrink();
  return std::move(contraction).finish();
}

}  // namespace perseus::solver
