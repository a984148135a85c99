// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <map>

#include "perseus/core/schedule.h"
#include "perseus/format/profile_csv.h"
#include "perseus/format/profile_rows.h"

namespace perseus::format {
namespace {

using core::Option;
using core::ProfileEntry;

/// Options below this many leave a planner almost nothing to trade.
constexpr std::size_t kFewOptions = 3;

/// Options that no other beats in time or energy without losing in the other, seen so far: time -> option,
/// energy falling as time rises.
class Staircase {
 public:
  /// An option that is faster than `option` and uses less energy, or nullptr.
  [[nodiscard]] const Option* better(const Option& option) const {
    const auto after = steps_.lower_bound(option.time);
    if (after == steps_.begin()) return nullptr;
    const Option* fastest_rival = std::prev(after)->second;
    return fastest_rival->energy < option.energy ? fastest_rival : nullptr;
  }
  void add(const Option& option) {
    auto at = steps_.upper_bound(option.time);
    if (at != steps_.begin() && std::prev(at)->second->energy <= option.energy) return;
    at = steps_.lower_bound(option.time);
    while (at != steps_.end() && at->second->energy >= option.energy) at = steps_.erase(at);
    steps_.emplace(option.time, &option);
  }
  [[nodiscard]] std::size_t size() const { return steps_.size(); }

 private:
  std::map<core::Seconds, const Option*> steps_;
};

std::string name(const ProfileEntry& entry) {
  return fmt::format("stage {}, {}", entry.stage, entry.instruction);
}

std::string figures(const Option& option) {
  return fmt::format("{} MHz ({} s, {} J)", option.clock->value(), option.time.value(),
                     option.energy.value());
}

bool is_custom(const ProfileEntry& entry) {
  constexpr std::array kNamed = {core::Kind::kForward,         core::Kind::kBackward,
                                 core::Kind::kBackwardInput,   core::Kind::kBackwardWeight,
                                 core::Kind::kForwardBackward, core::Kind::kRecompute};
  return std::ranges::none_of(kNamed,
                              [&](core::Kind k) { return core::instruction_name(k) == entry.instruction; });
}

/// Warnings of one entry.
class Judge {
 public:
  Judge(const ProfileEntry& entry, const std::vector<std::uint64_t>& lines, const std::string& source,
        double tolerance, std::vector<core::Warning>& out)
      : entry_(entry), lines_(lines), source_(source), tolerance_(tolerance), out_(out) {}

  void run() {
    // From the lowest clock up; options of one clock are judged against lower clocks only.
    for (std::size_t end = entry_.options.size(); end > 0;) {
      std::size_t begin = end - 1;
      while (begin > 0 && entry_.options[begin - 1].clock == entry_.options[begin].clock) --begin;
      for (std::size_t i = end; i-- > begin;) judge(i);
      for (std::size_t i = begin; i < end; ++i) remember(entry_.options[i]);
      end = begin;
    }
    count_useful();
  }

 private:
  void warn(std::size_t option, std::string message) {
    out_.push_back({std::move(message), {source_, lines_[option]}});
  }

  void judge(std::size_t i) {
    const Option& option = entry_.options[i];
    if (const Option* better = staircase_.better(option)) {
      warn(i, fmt::format("{} at {} is slower and hungrier than at {}", name(entry_), figures(option),
                          figures(*better)));
    }
    const auto fastest = fastest_.find(option.knobs);
    if (fastest == fastest_.end() || option.time <= (1 + tolerance_) * fastest->second->time) return;
    warn(i, fmt::format(
                "{} at {} is more than {}% slower than at {}, a lower clock: did the GPU throttle while it "
                "was profiled?",
                name(entry_), figures(option), 100 * tolerance_, figures(*fastest->second)));
  }

  void remember(const Option& option) {
    staircase_.add(option);
    const auto [it, fresh] = fastest_.emplace(option.knobs, &option);
    if (!fresh && option.time < it->second->time) it->second = &option;
  }

  void count_useful() {
    const std::size_t useful = staircase_.size();
    const bool fixed_on_purpose = entry_.options.size() == 1 && is_custom(entry_);
    if (useful >= kFewOptions || fixed_on_purpose) return;
    const auto first = std::ranges::min_element(lines_) - lines_.begin();
    warn(
        static_cast<std::size_t>(first),
        fmt::format(
            "{} has {} useful option{} (no other is both as fast and as thrifty); fewer than {} leave little "
            "to plan",
            name(entry_), useful, useful == 1 ? "" : "s", kFewOptions));
  }

  const ProfileEntry& entry_;
  const std::vector<std::uint64_t>& lines_;
  const std::string& source_;
  double tolerance_;
  std::vector<core::Warning>& out_;
  Staircase staircase_;
  std::map<std::vector<std::string>, const Option*> fastest_;  ///< of each setting of the knobs, lower clocks
};

}  // namespace

std::vector<core::Warning> profile_warnings(const LinedProfile& lined, const std::string& source,
                                            double throttle_tolerance) {
  std::vector<core::Warning> warnings;
  for (std::size_t e = 0; e < lined.profile.entries.size(); ++e) {
    Judge(lined.profile.entries[e], lined.lines[e], source, throttle_tolerance, warnings).run();
  }
  return warnings;
}

}  // namespace perseus::format
