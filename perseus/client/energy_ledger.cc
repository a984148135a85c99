// SPDX-License-Identifier: Apache-2.0
#include "perseus/client/energy_ledger.h"

#include <fmt/format.h>

#include <algorithm>

namespace perseus::client {
namespace {

double seconds(std::uint64_t ns) {
  return static_cast<double>(ns) / 1e9;
}

std::string column_name(const KindKey& key) {
  return fmt::format("{}{}@{}", core::letter(key.kind), key.stage, key.mhz);
}

/// Adds the equation `joules = x . powers`.
void add_equation(EnergySums& sums, const std::vector<double>& x, double length, double joules) {
  ++sums.intervals;
  sums.seconds += core::Seconds(length);
  sums.joules += core::Joules(joules);
  std::size_t cell = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    for (std::size_t j = i; j < x.size(); ++j) sums.xtx[cell++] += x[i] * x[j];
    sums.xty[i] += x[i] * joules;
  }
  sums.yty += joules * joules;
}

}  // namespace

void EnergyLedger::add_step(std::uint64_t begin_ns, std::uint64_t end_ns, bool good) {
  if (!good) {
    broken_ = true;
    return;
  }
  const bool joins = !broken_ && !good_.empty() && begin_ns >= good_.back().end_ns &&
                     seconds(begin_ns - good_.back().end_ns) <= kLongestPause.value();
  if (joins) {
    good_.back().end_ns = end_ns;
  } else {
    good_.push_back({begin_ns, end_ns});
  }
  broken_ = false;
}

void EnergyLedger::add_operation(const KindKey& key, std::uint64_t begin_ns, std::uint64_t end_ns) {
  const auto known = std::find(columns_.begin(), columns_.end(), key);
  operations_.push_back({begin_ns, end_ns, static_cast<std::size_t>(known - columns_.begin())});
  if (known == columns_.end()) columns_.push_back(key);
}

void EnergyLedger::add_update(const EnergyUpdate& update) {
  if (updates_.size() >= kMostUpdates) {
    updates_.erase(updates_.begin(), updates_.begin() + static_cast<std::ptrdiff_t>(kMostUpdates / 2));
  }
  updates_.push_back(update);
}

bool EnergyLedger::covered(std::uint64_t begin_ns, std::uint64_t end_ns, std::size_t& from) const {
  while (from < good_.size() && good_[from].end_ns < end_ns) ++from;
  return from < good_.size() && good_[from].begin_ns <= begin_ns;
}

template <class Use>
void EnergyLedger::each_interval(Use&& use) const {
  std::size_t stretch = 0;
  for (std::size_t i = 1; i < updates_.size(); ++i) {
    const EnergyUpdate& before = updates_[i - 1];
    const EnergyUpdate& after = updates_[i];
    // A counter that restarted, whether its source noticed or not: that difference is dropped.
    if (before.epoch != after.epoch || after.total < before.total || after.t_ns <= before.t_ns) continue;
    if (!covered(before.t_ns, after.t_ns, stretch)) continue;
    use(before.t_ns, after.t_ns, (after.total - before.total).value());
  }
}

std::optional<EnergySums> EnergyLedger::sums() const {
  const std::size_t n = columns_.size() + 1;
  if (n > kMostColumns) return std::nullopt;
  EnergySums out;
  for (const KindKey& key : columns_) out.columns.push_back(column_name(key));
  out.columns.emplace_back("idle");
  out.xtx.assign(n * (n + 1) / 2, 0);
  out.xty.assign(n, 0);
  std::vector<double> x(n);
  std::size_t first = 0;  // operations before it are over
  each_interval([&](std::uint64_t begin_ns, std::uint64_t end_ns, double joules) {
    std::fill(x.begin(), x.end(), 0.0);
    while (first < operations_.size() && operations_[first].end_ns <= begin_ns) ++first;
    double busy = 0;
    for (std::size_t i = first; i < operations_.size() && operations_[i].begin_ns < end_ns; ++i) {
      const Operation& operation = operations_[i];
      const std::uint64_t from = std::max(operation.begin_ns, begin_ns);
      const std::uint64_t to = std::min(operation.end_ns, end_ns);
      if (to <= from) continue;
      x[operation.column] += seconds(to - from);
      busy += seconds(to - from);
    }
    const double length = seconds(end_ns - begin_ns);
    x.back() = std::max(0.0, length - busy);
    add_equation(out, x, length, joules);
  });
  if (out.intervals == 0) return std::nullopt;
  return out;
}

std::optional<core::Watts> EnergyLedger::mean_power() const {
  double joules = 0;
  double length = 0;
  each_interval([&](std::uint64_t begin_ns, std::uint64_t end_ns, double energy) {
    joules += energy;
    length += seconds(end_ns - begin_ns);
  });
  if (length == 0) return std::nullopt;
  return core::Watts(joules / length);
}

void EnergyLedger::clear(std::uint64_t from_ns) {
  columns_.clear();
  operations_.clear();
  good_.clear();
  broken_ = true;
  auto first = std::lower_bound(updates_.begin(), updates_.end(), from_ns,
                                [](const EnergyUpdate& update, std::uint64_t t) { return update.t_ns < t; });
  if (first != updates_.begin()) --first;
  updates_.erase(updates_.begin(), first);
}

}  // namespace perseus::client
