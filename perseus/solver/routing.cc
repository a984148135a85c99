// SPDX-License-Identifier: Apache-2.0
#include "perseus/solver/routing.h"

#include <algorithm>

namespace perseus::solver {
namespace {

using core::ComputationId;
using core::Edge;
using core::EdgeId;

/// A transport problem: ends of computations supply, starts demand. Vertex i is the end of computation i,
/// vertex n + i its start.
class Transport {
 public:
  Transport(const core::Pipeline& pipeline, const std::vector<bool>& open,
            std::span<const std::int64_t> computation)
      : edges_(pipeline.edges()), open_(open), n_(pipeline.size()), left_(2 * std::size_t{n_}, 0) {
    flow_.assign(edges_.size(), 0);
    degree_.assign(left_.size(), 0);
    last_.assign(left_.size(), 0);
    for (EdgeId e = 0; e < edges_.size(); ++e) {
      left_[from(e)] = computation[edges_[e].from];
      left_[to(e)] = computation[edges_[e].to];
      if (!open[e]) continue;
      for (const std::uint32_t v : {from(e), to(e)}) {
        ++degree_[v];
        last_[v] ^= e;  // with one edge left, the xor of all that are left is that edge
      }
    }
  }

  [[nodiscard]] bool solve() {
    settled_.assign(edges_.size(), false);
    for (std::uint32_t v = 0; v < degree_.size(); ++v) {
      if (degree_[v] == 1) single_.push_back(v);
    }
    peel();
    for (EdgeId e = 0; e < edges_.size(); ++e) {
      if (!open_[e] || settled_[e]) continue;
      settle(e);
      peel();
    }
    for (ComputationId i = 0; i < n_; ++i) {
      while (left_[i] > 0) {
        if (!augment(i)) return false;
      }
    }
    return std::ranges::all_of(left_, [](std::int64_t left) { return left == 0; });
  }

  std::vector<std::int64_t> take() { return std::move(flow_); }

 private:
  [[nodiscard]] std::uint32_t from(EdgeId e) const { return edges_[e].from; }
  [[nodiscard]] std::uint32_t to(EdgeId e) const { return n_ + edges_[e].to; }

  /// Gives an edge all that both its ends allow and takes it out of the game.
  void settle(EdgeId e) {
    settled_[e] = true;
    const std::int64_t amount = std::min(left_[from(e)], left_[to(e)]);
    flow_[e] += amount;
    for (const std::uint32_t v : {from(e), to(e)}) {
      left_[v] -= amount;
      last_[v] ^= e;
      if (--degree_[v] == 1) single_.push_back(v);
    }
  }

  void peel() {
    while (!single_.empty()) {
      const std::uint32_t v = single_.back();
      single_.pop_back();
      if (degree_[v] == 1) settle(last_[v]);
    }
  }

  void index_edges() {
    if (!incident_.empty()) return;
    incident_.resize(left_.size());
    for (EdgeId e = 0; e < edges_.size(); ++e) {
      if (!open_[e]) continue;
      incident_[from(e)].push_back(e);
      incident_[to(e)].push_back(e);
    }
  }

  /// One shortest alternating path from an end with supply to a start with demand.
  bool augment(std::uint32_t end) {
    index_edges();
    constexpr EdgeId kUnseen = 0xffffffff;
    std::vector<EdgeId> reached_by(left_.size(), kUnseen);
    std::vector<std::uint32_t> queue{end};
    reached_by[end] = kUnseen - 1;
    for (std::size_t head = 0; head < queue.size(); ++head) {
      const std::uint32_t v = queue[head];
      if (v >= n_ && left_[v] > 0) return push(end, v, reached_by);
      for (const EdgeId e : incident_[v]) {
        const std::uint32_t next = v < n_ ? to(e) : from(e);
        if (reached_by[next] != kUnseen || (v >= n_ && flow_[e] == 0)) continue;
        reached_by[next] = e;
        queue.push_back(next);
      }
    }
    return false;
  }

  bool push(std::uint32_t end, std::uint32_t start, const std::vector<EdgeId>& reached_by) {
    std::int64_t amount = std::min(left_[end], left_[start]);
    for (std::uint32_t v = start; v != end;) {
      const EdgeId e = reached_by[v];
      if (v < n_) amount = std::min(amount, flow_[e]);
      v = v < n_ ? to(e) : from(e);
    }
    for (std::uint32_t v = start; v != end;) {
      const EdgeId e = reached_by[v];
      flow_[e] += v < n_ ? -amount : amount;
      v = v < n_ ? to(e) : from(e);
    }
    left_[end] -= amount;
    left_[start] -= amount;
    return true;
  }

  std::span<const Edge> edges_;
  const std::vector<bool>& open_;
  std::uint32_t n_;
  std::vector<std::int64_t> left_;  ///< supply or demand not yet met, per vertex
  std::vector<std::int64_t> flow_;
  std::vector<std::uint32_t> degree_;
  std::vector<EdgeId> last_;
  std::vector<bool> settled_;
  std::vector<std::uint32_t> single_;
  std::vector<std::vector<EdgeId>> incident_;
};

}  // namespace

std::vector<std::int64_t> route(const core::Pipeline& pipeline, const std::vector<bool>& open,
                                std::span<const std::int64_t> computation) {
  Transport transport(pipeline, open, computation);
  if (!transport.solve()) return {};
  return transport.take();
}

}  // namespace perseus::solver
