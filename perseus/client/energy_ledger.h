// SPDX-License-Identifier: Apache-2.0
//
// Sets the energy between two updates of a GPU's counter against what the GPU ran in between.
//
//   EnergyLedger ledger;
//   ledger.add_step(begin_ns, end_ns, true);
//   ledger.add_operation({Kind::kForward, 0, 1410}, begin_ns, end_ns);
//   ledger.add_update({.t_ns = ..., .joules = ..., .epoch = 0});
//   std::optional<EnergySums> sums = ledger.sums();
//
// An energy counter changes only every 20 to 100 ms (RELIABILITY.md 6), so no single computation can be
// measured; but the mix of computations differs from interval to interval, and each interval is one equation
// for the powers: joules = sum of (seconds in a column) x (power of the column). Here the equations are only
// added up; whoever has the sums of all ranks of a stage solves them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "perseus/client/kind_times.h"
#include "perseus/client/rank_plan.h"
#include "perseus/core/units.h"

namespace perseus::client {

/// The counter's value and the moment at which it took it.
struct EnergyUpdate {
  std::uint64_t t_ns = 0;
  core::Joules total;
  std::uint32_t epoch = 0;  ///< a difference between epochs means nothing
};

/// Not thread-safe. Steps, computations (which do not overlap) and updates are each added in their order.
class EnergyLedger {
 public:
  static constexpr std::size_t kMostColumns = 64;  ///< of the sums, "idle" included
  /// Updates that are kept; of more the older half is forgotten. 20 minutes of the fastest counter known.
  static constexpr std::size_t kMostUpdates = 65'536;
  /// A pause between two steps that is longer is no part of training: a checkpoint, an evaluation.
  static constexpr core::Seconds kLongestPause{0.5};

  /// `good` false: its computations are not those of the columns; intervals that touch it are left out.
  void add_step(std::uint64_t begin_ns, std::uint64_t end_ns, bool good);
  void add_operation(const KindKey& key, std::uint64_t begin_ns, std::uint64_t end_ns);
  void add_update(const EnergyUpdate& update);

  /// Over the intervals that lie inside good steps and the short pauses between them. Nothing: there is no
  /// such interval, or there are too many columns. Time outside of computations is "idle".
  [[nodiscard]] std::optional<EnergySums> sums() const;
  /// Mean power over the same intervals.
  [[nodiscard]] std::optional<core::Watts> mean_power() const;
  /// Forgets steps, computations, and the updates before `from_ns` but for the last of them, with which the
  /// next interval begins.
  void clear(std::uint64_t from_ns);

 private:
  struct Operation {
    std::uint64_t begin_ns, end_ns;
    std::size_t column;
  };
  struct Stretch {
    std::uint64_t begin_ns, end_ns;
  };
  /// Calls `use(interval's begin, its end, joules)` for each that counts.
  template <class Use>
  void each_interval(Use&& use) const;
  [[nodiscard]] bool covered(std::uint64_t begin_ns, std::uint64_t end_ns, std::size_t& from) const;

  std::vector<KindKey> columns_;
  std::vector<Operation> operations_;
  std::vector<Stretch> good_;  ///< steps without a bad one or a long pause between them, joined
  bool broken_ = true;         ///< the next good step begins a new stretch
  std::vector<EnergyUpdate> updates_;
};

}  // namespace perseus::client
