// SPDX-License-Identifier: Apache-2.0
//
// Internal to solver/: the work of contract() in network.h.
#pragma once

#include <map>
#include <utility>
#include <vector>

#include "perseus/solver/network.h"

namespace perseus::solver {

/// One use per network: load, shrink, finish.
class Contraction {
 public:
  Contraction(const core::Problem& problem, const Scaled& scaled);
  /// Applies the rules until none fits.
  void shrink();
  [[nodiscard]] Contracted finish() &&;

 private:
  struct WorkArc {
    std::uint32_t tail = 0, head = 0;
    CurveId curve = 0;
    bool edge = false;  ///< a precedence edge: its flow need not be remembered
    bool dead = false;
  };

  ArcId add_arc(std::uint32_t tail, std::uint32_t head, CurveId curve, bool edge);
  void kill(ArcId a);
  CurveId edge_curve(std::int64_t lag);
  CurveId shifted(CurveId c, std::int64_t by);
  CurveId composed(CurveId a, CurveId b);
  void wake(std::uint32_t event);

  // The rules; each answers whether it changed something at this event.
  bool drop_redundant(std::uint32_t event);
  bool merge_into_tail(std::uint32_t event);
  bool merge_into_head(std::uint32_t event);
  bool merge_biclique(std::uint32_t event);
  bool compose_series(std::uint32_t event);

  [[nodiscard]] bool implied(ArcId edge) const;
  [[nodiscard]] bool reaches(std::uint32_t from, std::uint32_t to, std::int64_t least, ArcId without,
                             int depth, int& budget) const;
  /// `gone` happens `offset` after `kept` from now on; its arcs move.
  void merge(std::uint32_t gone, std::uint32_t kept, std::int64_t offset);

  std::vector<WorkArc> arcs_;
  std::vector<std::vector<ArcId>> in_, out_;
  std::vector<bool> gone_;
  std::vector<std::uint32_t> work_;
  std::vector<bool> queued_;
  Curves curves_;
  std::map<std::pair<CurveId, std::int64_t>, CurveId> shifted_;
  std::map<std::pair<CurveId, CurveId>, CurveId> composed_;
  std::map<std::int64_t, CurveId> edge_curves_;
  Expansion expansion_;
};

}  // namespace perseus::solver
