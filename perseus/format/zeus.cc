// SPDX-License-Identifier: Apache-2.0
#include "perseus/format/zeus.h"

#include <fmt/format.h>

#include <array>
#include <iterator>

#include "perseus/format/numbers.h"
#include "perseus/format/text.h"

namespace perseus::format {
namespace {

using core::Status;

constexpr std::size_t kMaxNameBytes = 64;  // as check_instruction_name() has it
constexpr std::array<std::string_view, 3> kCostNames = {"cost change", "total cost", "total cost with P2P"};

void append_python_string(std::string& out, std::string_view text) {
  out += '\'';
  for (const char c : text) {
    if (c == '\'' || c == '\\') out += '\\';
    out += c;
  }
  out += '\'';
}

/// Reads one file; one use.
class ZeusReader {
 public:
  ZeusReader(std::string_view bytes, std::string source) : bytes_(bytes), source_(std::move(source)) {}

  core::Result<ZeusSchedule> read() {
    PERSEUS_RETURN_IF_ERROR(check_text(bytes_, kMaxZeusBytes, "Zeus schedule", source_));
    PERSEUS_RETURN_IF_ERROR(list([this] { return row(); }));
    after_list_ = true;
    skip_blanks();
    if (!at_end()) return unexpected("the end of the file");
    PERSEUS_RETURN_IF_ERROR(read_costs());
    return std::move(schedule_);
  }

 private:
  [[nodiscard]] bool at_end() const { return position_ == bytes_.size(); }
  [[nodiscard]] bool at(char c) const { return !at_end() && bytes_[position_] == c; }

  [[nodiscard]] std::unexpected<core::Error> refuse(
      std::size_t place, std::string message, core::ErrorCode code = core::ErrorCode::kInvalidInput) const {
    return core::fail(code, std::move(message), origin_of(bytes_, place, source_));
  }

  [[nodiscard]] std::unexpected<core::Error> unexpected(std::string_view wanted) const {
    if (at_end()) return refuse(position_, fmt::format("the file ends where {} must stand", wanted));
    const std::string_view rest = bytes_.substr(position_);
    const std::size_t length = std::min(rest.size(), rest.find_first_of(" \t\r\n,)]", 1));
    return refuse(position_, fmt::format("{} where {} must stand", quoted(rest.substr(0, length)), wanted));
  }

  void skip_blanks() {
    while (!at_end()) {
      if (at('#')) {
        const std::size_t end = std::min(bytes_.find('\n', position_), bytes_.size());
        if (after_list_) comments_.push_back(position_);
        position_ = end;
      } else if (std::string_view(" \t\r\n").contains(bytes_[position_])) {
        ++position_;
      } else {
        return;
      }
    }
  }

  Status take(char c, std::string_view what) {
    skip_blanks();
    if (!at(c)) return unexpected(what);
    ++position_;
    return {};
  }

  template <class Item>
  Status list(Item&& item) {
    PERSEUS_RETURN_IF_ERROR(take('[', "'['"));
    for (;;) {
      skip_blanks();
      if (at(']')) break;
      PERSEUS_RETURN_IF_ERROR(item());
      skip_blanks();
      if (at(']')) break;
      PERSEUS_RETURN_IF_ERROR(take(',', "a comma or ']'"));
    }
    ++position_;
    return {};
  }

  Status row() {
    skip_blanks();
    if (!at('[')) return unexpected("'['");  // checked first, so that no row is added for it
    schedule_.rows.emplace_back();
    return list([this] { return instruction(); });
  }

  Status instruction() {
    if (++count_ > core::kMaxComputations) {
      return refuse(position_, fmt::format("more than {} computations, the limit", core::kMaxComputations),
                    core::ErrorCode::kLimit);
    }
    ZeusInstruction& out = schedule_.rows.back().emplace_back();
    PERSEUS_RETURN_IF_ERROR(take('(', "'('"));
    PERSEUS_RETURN_IF_ERROR(name(out.name));
    PERSEUS_RETURN_IF_ERROR(take(',', "a comma"));
    PERSEUS_RETURN_IF_ERROR(clock(out.clock));
    return take(')', "')'");
  }

  Status name(std::string& out) {
    skip_blanks();
    if (!at('\'') && !at('"')) return unexpected("an instruction in quotes");
    const std::size_t start = position_;
    const char quote = bytes_[position_++];
    while (!at(quote)) {
      if (at_end() || at('\n')) return refuse(start, "a string that is never closed");
      if (at('\\')) {
        ++position_;
        if (!at('\\') && !at('\'') && !at('"'))
          return refuse(position_ - 1, "an escape of other than a quote or a backslash");
      }
      out += bytes_[position_++];
      if (out.size() > kMaxNameBytes) {
        return refuse(start, fmt::format("an instruction of more than {} bytes, the limit", kMaxNameBytes),
                      core::ErrorCode::kLimit);
      }
    }
    ++position_;
    if (out.empty()) return refuse(start, "an instruction without a name");
    return {};
  }

  Status clock(std::optional<core::Megahertz>& out) {
    skip_blanks();
    const std::string_view rest = bytes_.substr(position_);
    const std::size_t length = std::min(rest.size(), rest.find_first_not_of("0123456789"));
    const std::string_view digits = rest.substr(0, length);
    const auto value = parse_integer<std::uint32_t>(digits);
    // Python refuses leading zeros too.
    const bool formed = value && (digits == "0" || !digits.starts_with('0')) && *value <= core::kMaxClockMhz;
    if (!formed) {
      return unexpected(fmt::format("a whole number of MHz from 0 to {}", core::kMaxClockMhz));
    }
    position_ += length;
    if (*value != 0) out = core::Megahertz(*value);
    return {};
  }

  /// "# Iteration N NAME: X" of the comment at `place`.
  core::Result<double> cost(std::size_t place, std::string_view name, std::uint64_t& iteration) const {
    std::string_view line = bytes_.substr(place, bytes_.find('\n', place) - place);
    if (line.ends_with('\r')) line.remove_suffix(1);
    constexpr std::string_view kStart = "# Iteration ";
    const std::size_t number_end = line.find(' ', kStart.size());
    const std::string middle = fmt::format(" {}: ", name);
    if (line.starts_with(kStart) && number_end != std::string_view::npos &&
        line.substr(number_end).starts_with(middle)) {
      const auto number =
          parse_integer<std::uint64_t>(line.substr(kStart.size(), number_end - kStart.size()));
      const auto value = parse_number(line.substr(number_end + middle.size()));
      if (number && value) {
        iteration = *number;
        return *value;
      }
    }
    return refuse(place, fmt::format("{} where \"# Iteration N {}: X\" must stand", quoted(line), name));
  }

  static bool is_cost(std::string_view line) { return line.starts_with("# Iteration "); }

  Status read_costs() {
    std::erase_if(comments_, [this](std::size_t place) { return !is_cost(bytes_.substr(place)); });
    if (comments_.empty()) return {};
    if (comments_.size() != kCostNames.size()) {
      return refuse(comments_.front(), fmt::format("{} lines of costs; there are {} or none",
                                                   comments_.size(), kCostNames.size()));
    }
    std::array<double, kCostNames.size()> values{};
    std::array<std::uint64_t, kCostNames.size()> iterations{};
    for (std::size_t i = 0; i < kCostNames.size(); ++i) {
      PERSEUS_ASSIGN_OR_RETURN(values.at(i), cost(comments_[i], kCostNames.at(i), iterations.at(i)));
      if (iterations.at(i) != iterations.front()) {
        return refuse(comments_[i], fmt::format("costs of iteration {} beside those of iteration {}",
                                                iterations.at(i), iterations.front()));
      }
    }
    schedule_.costs =
        ZeusCosts{iterations[0], core::Joules(values[0]), core::Joules(values[1]), core::Joules(values[2])};
    return {};
  }

  std::string_view bytes_;
  std::string source_;
  ZeusSchedule schedule_;
  std::size_t position_ = 0;
  std::size_t count_ = 0;
  bool after_list_ = false;
  std::vector<std::size_t> comments_;  ///< places of the comments behind the list
};

}  // namespace

std::string write_zeus_schedule(const ZeusSchedule& schedule) {
  std::string out = "[\n";
  for (const auto& row : schedule.rows) {
    out += '[';
    for (std::size_t i = 0; i < row.size(); ++i) {
      out += i == 0 ? "(" : ", (";
      const auto& entry = row[i];
      append_python_string(out, entry.name);
      fmt::format_to(std::back_inserter(out), ", {})", entry.clock ? entry.clock->value() : 0);
    }
    out += "],\n";
  }
  out += "]\n";
  if (!schedule.costs) return out;
  const std::array<core::Joules, 3> costs = {schedule.costs->change, schedule.costs->total,
                                             schedule.costs->total_with_p2p};
  for (std::size_t i = 0; i < costs.size(); ++i) {
    fmt::format_to(std::back_inserter(out), "# Iteration {} {}: ", schedule.costs->iteration,
                   kCostNames.at(i));
    append_number(out, costs.at(i).value());
    out += '\n';
  }
  return out;
}

std::string write_zeus_schedule(const core::Problem& problem, const core::Plan& plan, std::uint64_t iteration,
                                core::Joules change) {
  const core::Pipeline& pipeline = problem.pipeline();
  ZeusSchedule out;
  out.rows.resize(pipeline.schedule().pipeline());
  long double total = 0;
  for (core::ComputationId i = 0; i < problem.size(); ++i) {
    const core::Computation& c = pipeline.computation(i);
    const core::Option& option = problem.options(i)[plan.choice.at(i)];
    const std::string_view name = c.kind == core::Kind::kOther
                                      ? std::string_view(pipeline.schedule().instructions.at(c.instruction))
                                      : core::instruction_name(c.kind);
    out.rows[pipeline.rank_of(i)].push_back({std::string(name), option.clock});
    total += problem.effective_cost(i, option).value();
  }
  const core::Joules effective(static_cast<double>(total));
  out.costs = ZeusCosts{iteration, change, effective, effective + problem.total_blocking_power() * plan.time};
  return write_zeus_schedule(out);
}

core::Result<ZeusSchedule> parse_zeus_schedule(std::string_view bytes, std::string source) {
  return ZeusReader(bytes, std::move(source)).read();
}

}  // namespace perseus::format
