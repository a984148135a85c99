// SPDX-License-Identifier: Apache-2.0
#include "face_bound.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <utility>
#include <vector>

#include "perseus/solver/realise_events.h"
#include "perseus/solver/realise_flat.h"

namespace perseus::bench {
namespace {

using namespace solver::internal;  // NOLINT(google-build-using-namespace): of one file

/// One rung, or one pair of rungs in series.
struct Pick {
  Ticks time = 0;
  double loss = 0;  ///< J per GPU over the cheapest at the price of time
};

/// One or two computations in series.
struct Way {
  std::vector<Position> computations;
  Event end = 0;
};

/// Two ways between the same events that share no computation.
struct Face {
  double loss = 0;  ///< least of all picks, J per GPU
  std::vector<Position> computations;
};

class Faces {
 public:
  explicit Faces(const FlatProblem& flat)
      : flat_(flat), graph_(flat), tick_(std::ldexp(1.0, flat.tick_exponent)), out_(graph_.size()) {
    for (Position p = 0; p < flat.size; ++p) out_[graph_.start_of(p)].push_back(p);
  }

  /// Sum over disjoint faces, those of the largest loss first.
  double disjoint_loss() {
    for (Event u = 0; u < graph_.size(); ++u) add_faces_from(u);
    std::ranges::stable_sort(faces_, std::greater<>(), &Face::loss);
    std::vector<bool> used(flat_.size);
    double sum = 0;
    for (const Face& face : faces_) {
      if (std::ranges::any_of(face.computations, [&](Position p) { return used[p]; })) continue;
      for (const Position p : face.computations) used[p] = true;
      sum += face.loss;
    }
    return sum;
  }

 private:
  void add_faces_from(Event u) {
    std::vector<Way> ways;
    for (const Position p : out_[u]) {
      ways.push_back({{p}, graph_.end_of(p)});
      for (const Position q : out_[graph_.end_of(p)]) ways.push_back({{p, q}, graph_.end_of(q)});
    }
    for (std::size_t i = 0; i < ways.size(); ++i) {
      for (std::size_t k = 0; k < i; ++k) {
        const Way& a = ways[i];
        const Way& b = ways[k];
        if (a.end != b.end || a.computations.front() == b.computations.front()) continue;
        if (a.computations.back() == b.computations.back()) continue;
        Face face{least_loss(a, b), a.computations};
        face.computations.insert(face.computations.end(), b.computations.begin(), b.computations.end());
        if (face.loss > 0) faces_.push_back(std::move(face));
      }
    }
  }

  [[nodiscard]] std::vector<Pick> rungs(Position p) const {
    const Ladder& ladder = flat_.ladder(p);
    std::vector<Pick> all;
    double least = std::numeric_limits<double>::infinity();
    for (std::uint32_t r = ladder.first; r < ladder.first + ladder.count; ++r) {
      // Less those of the first rung, so that the doubles hold small differences.
      const double loss =
          flat_.cost[r] - flat_.cost[ladder.first] +
          flat_.flow[p] * tick_ * static_cast<double>(flat_.time[r] - flat_.time[ladder.first]);
      least = std::min(least, loss);
      all.push_back({flat_.time[r], loss});
    }
    for (Pick& pick : all) pick.loss -= least;
    return all;
  }

  /// All picks of a way that lose less than `most`.
  [[nodiscard]] std::vector<Pick> picks(const Way& way, double most) const {
    std::vector<Pick> all{{}};
    for (const Position p : way.computations) {
      std::vector<Pick> longer;
      for (const Pick& pick : rungs(p)) {
        for (const Pick& before : all) {
          const double loss = before.loss + pick.loss;
          if (loss < most) longer.push_back({before.time + pick.time, loss});
        }
      }
      all = std::move(longer);
    }
    return all;
  }

  /// The least price of idling on a way, J per tick.
  [[nodiscard]] double price(const Way& way) const {
    double least = std::numeric_limits<double>::infinity();
    for (const Position p : way.computations) least = std::min(least, flat_.flow[p]);
    return least * tick_;
  }

  [[nodiscard]] double least_loss(const Way& a, const Way& b) const {
    const double price_a = price(a);
    const double price_b = price(b);
    if (price_a <= 0 || price_b <= 0) return 0;
    const auto loss = [&](const Pick& x, const Pick& y) {
      const auto later = static_cast<double>(y.time - x.time);
      return x.loss + y.loss + (later > 0 ? price_a * later : -price_b * later);
    };
    // A first pick of each way without a loss of its own bounds what is worth looking at.
    const auto cheapest = [&](const Way& way) {
      const auto all = picks(way, std::numeric_limits<double>::infinity());
      return *std::ranges::min_element(all, {}, &Pick::loss);
    };
    double least = loss(cheapest(a), cheapest(b));
    const auto of_b = picks(b, least);
    for (const Pick& x : picks(a, least)) {
      for (const Pick& y : of_b) least = std::min(least, loss(x, y));
    }
    return least;
  }

  const FlatProblem& flat_;
  EventGraph graph_;
  double tick_;  ///< s
  std::vector<std::vector<Position>> out_;
  std::vector<Face> faces_;
};

}  // namespace

core::Result<core::Joules> unavoidable_loss(const core::Problem& problem, const solver::Relaxed& relaxed) {
  PERSEUS_ASSIGN_OR_RETURN(const FlatProblem flat, flatten(problem, problem.pipeline().topological_order(),
                                                           relaxed.target, relaxed.certificate, false));
  return core::Joules(Faces(flat).disjoint_loss() * problem.parallel().tensor);
}

}  // namespace perseus::bench
