// SPDX-License-Identifier: Apache-2.0
#include "perseus/schedule/render.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>
#include <vector>

#include "perseus/core/pipeline.h"

namespace perseus::schedule {
namespace {

using core::Computation;
using core::ComputationId;
using core::Kind;
using core::Pipeline;
using core::Schedule;

std::size_t computations(const Schedule& schedule) {
  std::size_t count = 0;
  for (const auto& rank : schedule.ranks) count += rank.size();
  return count;
}

std::string counted(std::size_t count, std::string_view noun) {
  return fmt::format("{} {}{}", count, noun, count == 1 ? "" : "s");
}

std::string head(const Schedule& schedule) {
  return fmt::format(
      "{}: {}, {}, {}, {}\n", schedule.name, counted(schedule.pipeline(), "rank"),
      counted(schedule.stages(), "stage"),
      schedule.microbatches == 1 ? "1 microbatch" : fmt::format("{} microbatches", schedule.microbatches),
      counted(computations(schedule), "computation"));
}

std::string cell(const Schedule& schedule, const Computation& c) {
  if (c.kind == Kind::kForwardBackward) {
    return fmt::format("{}F{}+{}B{}", c.stage, c.microbatch, c.stage_b, c.microbatch_b);
  }
  return core::to_string(schedule, c);
}

/// "F=1 B=2" of the kinds that occur.
std::string used_times(const Schedule& schedule, const UnitTimes& times) {
  constexpr std::array kKinds = {Kind::kForward,        Kind::kBackward,        Kind::kBackwardInput,
                                 Kind::kBackwardWeight, Kind::kForwardBackward, Kind::kRecompute,
                                 Kind::kOther};
  std::array<bool, kKinds.size()> used{};
  for (const auto& rank : schedule.ranks) {
    for (const Computation& c : rank) used[static_cast<std::size_t>(c.kind)] = true;
  }
  std::string text;
  for (const Kind kind : kKinds) {
    if (!used[static_cast<std::size_t>(kind)]) continue;
    const std::string_view name = kind == Kind::kOther ? "other" : core::letter(kind);
    text += fmt::format("{}{}={}", text.empty() ? "" : " ", name, times.of(kind));
  }
  return text;
}

std::string row_head(std::uint32_t rank, std::uint32_t ranks) {
  const std::size_t digits = fmt::formatted_size("{}", ranks - 1);
  return fmt::format("rank {:>{}} | ", rank, digits);
}

/// Columns left for cells; at least one cell's worth, however narrow the bound.
std::size_t cell_columns(const Schedule& schedule, std::size_t width) {
  if (width == 0) return std::numeric_limits<std::size_t>::max() - 1;
  const std::size_t used = row_head(0, schedule.pipeline()).size();
  return width > used ? width - used : 0;
}

void append_row(std::string& out, std::string row) {
  row.erase(row.find_last_not_of(' ') + 1);
  out += row;
  out += '\n';
}

/// Draws computations at their unit times, `unit_width` columns per unit.
class Drawing {
 public:
  Drawing(const Pipeline& pipeline, const RenderOptions& options)
      : pipeline_(pipeline),
        options_(options),
        run_(run_in_units(pipeline, options.times)),
        unit_width_(narrowest_unit()) {
    const std::size_t columns = cell_columns(pipeline.schedule(), options.width);
    shown_ = std::min<std::uint64_t>(run_.end, std::max<std::size_t>(1, (columns + 1) / unit_width_));
  }

  [[nodiscard]] std::string text() const {
    const Schedule& schedule = pipeline_.schedule();
    std::string out = fmt::format("unit times {}: {}, ranks idle {:.1f} % of the time ('.' = idle)\n\n",
                                  used_times(schedule, options_.times), counted(run_.end, "unit"),
                                  100 * run_.idle_share(schedule.pipeline()));
    for (std::uint32_t r = 0; r < schedule.pipeline(); ++r) append_row(out, row(r));
    if (shown_ < run_.end) {
      out += fmt::format("\ncut: units 0 to {} of {} are shown; a width of {} shows all\n", shown_ - 1,
                         run_.end, full_width());
    }
    return out;
  }

 private:
  /// Columns per unit with which every cell's text and a blank fit its duration.
  [[nodiscard]] std::size_t narrowest_unit() const {
    std::size_t width = 2;
    for (ComputationId i = 0; i < pipeline_.size(); ++i) {
      const std::uint32_t units = std::max(1U, duration(i));
      const std::size_t text = cell(pipeline_.schedule(), pipeline_.computation(i)).size() + 1;
      width = std::max(width, (text + units - 1) / units);
    }
    return width;
  }

  [[nodiscard]] std::uint32_t duration(ComputationId i) const {
    return options_.times.of(pipeline_.computation(i).kind);
  }

  [[nodiscard]] std::size_t full_width() const {
    return row_head(0, pipeline_.schedule().pipeline()).size() + run_.end * unit_width_ - 1;
  }

  [[nodiscard]] std::string row(std::uint32_t rank) const {
    const std::uint32_t ranks = pipeline_.schedule().pipeline();
    std::string line = row_head(rank, ranks);
    std::uint64_t now = 0;
    const ComputationId end = pipeline_.first_of_rank(rank + 1);
    for (ComputationId i = pipeline_.first_of_rank(rank); i < end && now < shown_; ++i) {
      wait(line, now, run_.start[i]);
      if (now >= shown_ || duration(i) == 0) continue;
      const std::uint64_t units = std::min<std::uint64_t>(duration(i), shown_ - now);
      std::string text = cell(pipeline_.schedule(), pipeline_.computation(i));
      text.resize(units * unit_width_ - 1, '-');  // a computation that the cut divides loses its end
      line += text + ' ';
      now += units;
    }
    wait(line, now, run_.end);
    return line;
  }

  void wait(std::string& line, std::uint64_t& now, std::uint64_t until) const {
    for (; now < std::min(until, shown_); ++now) line += '.' + std::string(unit_width_ - 1, ' ');
  }

  const Pipeline& pipeline_;
  const RenderOptions& options_;
  UnitRun run_;
  std::size_t unit_width_;
  std::uint64_t shown_ = 0;
};

/// Cells one after the other, without times.
std::string list_orders(const Schedule& schedule, const RenderOptions& options) {
  const std::size_t columns = cell_columns(schedule, options.width);
  std::string out;
  std::size_t left_out = 0;
  for (std::uint32_t r = 0; r < schedule.pipeline(); ++r) {
    std::string cells;
    std::size_t shown = 0;
    for (const Computation& c : schedule.ranks[r]) {
      const std::string text = cell(schedule, c);
      if (shown != 0 && cells.size() + text.size() > columns) break;
      cells += text + ' ';
      ++shown;
    }
    left_out += schedule.ranks[r].size() - shown;
    append_row(out, row_head(r, schedule.pipeline()) + cells);
  }
  if (left_out != 0)
    out += fmt::format("\ncut: {} at the rows' ends are not shown\n", counted(left_out, "computation"));
  return out;
}

}  // namespace

std::string render_text(const Schedule& schedule, const RenderOptions& options) {
  std::string out = head(schedule);
  if (computations(schedule) > options.max_drawn) {
    out +=
        fmt::format("order only: more than {} computations are not drawn over time\n\n", options.max_drawn);
    return out + list_orders(schedule, options);
  }
  const auto pipeline = Pipeline::build(schedule);
  if (!pipeline) {
    out += fmt::format("order only, since this schedule cannot run: {}\n\n", pipeline.error().text());
    return out + list_orders(schedule, options);
  }
  return out + Drawing(*pipeline, options).text();
}

}  // namespace perseus::schedule
