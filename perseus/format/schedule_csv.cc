// SPDX-License-Identifier: Apache-2.0
#include "perseus/format/schedule_csv.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <utility>

#include "perseus/core/profile.h"
#include "perseus/format/numbers.h"
#include "perseus/format/text.h"

namespace perseus::format {
namespace {

using core::Computation;
using core::ErrorCode;
using core::fail;
using core::Kind;
using core::Origin;
using core::Result;
using core::Schedule;
using core::Status;

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
constexpr std::string_view kBlanks = " \t";
constexpr std::string_view kDigits = "0123456789";
constexpr std::string_view kOverlap = "OVERLAP_F_B";
// PyTorch's communication actions: with a microbatch, and without.
constexpr std::array<std::string_view, 4> kTransfers = {"SEND_F", "RECV_F", "SEND_B", "RECV_B"};
constexpr std::array<std::string_view, 3> kParameterActions = {"UNSHARD", "RESHARD", "REDUCE_GRAD"};

std::string_view trimmed(std::string_view text) {
  const std::size_t first = text.find_first_not_of(kBlanks);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlanks) - first + 1);
}

bool holds(const auto& words, std::string_view word) {
  return std::ranges::find(words, word) != words.end();
}

/// A cell (or one half of an overlapped pair) taken apart: leading digits, a word, trailing digits.
struct Op {
  std::string_view stage;
  std::string_view word;
  std::string_view microbatch;  ///< empty if there is none
};

std::optional<Op> split(std::string_view text) {
  const std::size_t word = text.find_first_not_of(kDigits);
  if (word == std::string_view::npos || word == 0) return std::nullopt;
  const std::size_t end = text.find_last_not_of(kDigits) + 1;
  return Op{text.substr(0, word), text.substr(word, end - word), text.substr(end)};
}

std::optional<Kind> kind_of(std::string_view word) {
  for (const Kind kind :
       {Kind::kForward, Kind::kBackward, Kind::kBackwardInput, Kind::kBackwardWeight, Kind::kRecompute}) {
    if (word == core::letter(kind)) return kind;
  }
  return std::nullopt;
}

bool is_communication(const Op& op) {
  return op.microbatch.empty() ? holds(kParameterActions, op.word) : holds(kTransfers, op.word);
}

/// Reads one file; one use.
class Parser {
 public:
  explicit Parser(std::string source) : source_(std::move(source)) { parsed_.schedule.name = source_; }

  Result<ParsedSchedule> parse(std::string_view text) {
    text = text.substr(0, text.find_last_not_of(" \t\r\n") + 1);
    if (text.empty())
      return fail(ErrorCode::kInvalidInput, "the schedule has no computation", Origin{source_});
    while (true) {
      const std::size_t end = text.find('\n');
      std::string_view line = text.substr(0, end);
      if (line.ends_with('\r')) line.remove_suffix(1);
      PERSEUS_RETURN_IF_ERROR(parse_line(line));
      if (end == std::string_view::npos) break;
      text.remove_prefix(end + 1);
    }
    PERSEUS_RETURN_IF_ERROR(finish());
    return std::move(parsed_);
  }

 private:
  Status parse_line(std::string_view line) {
    ++line_;
    order_.clear();
    for (std::size_t begin = 0; begin <= line.size();) {
      const std::size_t end = std::min(line.find(',', begin), line.size());
      const std::string_view cell = line.substr(begin, end - begin);
      const std::string_view text = trimmed(cell);
      if (!text.empty()) {
        column_ = static_cast<std::uint64_t>(text.data() - line.data()) + 1;
        PERSEUS_RETURN_IF_ERROR(parse_cell(text));
      }
      begin = end + 1;
    }
    if (order_.empty()) {
      return fail(ErrorCode::kInvalidInput,
                  fmt::format("this line, pipeline rank {}, has no computation", line_ - 1),
                  {source_, line_, 0});
    }
    // A copy of its own size: the next line reuses the buffer.
    parsed_.schedule.ranks.push_back(order_);
    return {};
  }

  Status parse_cell(std::string_view text) {
    if (text.front() == '(') return parse_overlapped(text);
    const std::optional<Op> op = split(text);
    if (!op) return no_computation(text);
    if (is_communication(*op)) return skip_communication(*op, text);
    return parse_computation(*op, text);
  }

  Status parse_computation(const Op& op, std::string_view text) {
    const std::optional<Kind> kind = kind_of(op.word);
    if (op.microbatch.empty() || (!kind && !core::fits_cell(op.word))) return no_computation(text);
    Computation c{.kind = kind.value_or(Kind::kOther)};
    PERSEUS_ASSIGN_OR_RETURN(c.stage, stage(op, text));
    PERSEUS_ASSIGN_OR_RETURN(c.microbatch, microbatch(op, text));
    if (!kind) c.instruction = instruction(op.word);
    return add(c);
  }

  Status parse_overlapped(std::string_view text) {
    const std::size_t close = text.find(')');
    const std::size_t middle = text.find(';');
    if (close == std::string_view::npos || middle >= close || text.substr(close + 1) != kOverlap) {
      return no_computation(text);
    }
    const std::optional<Op> forward = split(trimmed(text.substr(1, middle - 1)));
    const std::optional<Op> backward = split(trimmed(text.substr(middle + 1, close - middle - 1)));
    const bool pair = forward && backward && !forward->microbatch.empty() && !backward->microbatch.empty() &&
                      kind_of(forward->word) == Kind::kForward && kind_of(backward->word) == Kind::kBackward;
    if (!pair) {
      return fail(ErrorCode::kInvalidInput,
                  fmt::format("cell {}: an overlapped pair is a forward, then a full backward, as in "
                              "(0F7;7B3)OVERLAP_F_B",
                              quoted(text)),
                  here());
    }
    Computation c{.kind = Kind::kForwardBackward};
    PERSEUS_ASSIGN_OR_RETURN(c.stage, stage(*forward, text));
    PERSEUS_ASSIGN_OR_RETURN(c.microbatch, microbatch(*forward, text));
    PERSEUS_ASSIGN_OR_RETURN(c.stage_b, stage(*backward, text));
    PERSEUS_ASSIGN_OR_RETURN(c.microbatch_b, microbatch(*backward, text));
    return add(c);
  }

  Status skip_communication(const Op& op, std::string_view text) {
    PERSEUS_RETURN_IF_ERROR(number(op.stage, "stage", text));
    if (!op.microbatch.empty()) PERSEUS_RETURN_IF_ERROR(number(op.microbatch, "microbatch", text));
    if (skipped_++ == 0) {
      first_skipped_ = text;
      first_skipped_at_ = here();
    }
    return {};
  }

  Result<std::uint32_t> stage(const Op& op, std::string_view text) {
    PERSEUS_ASSIGN_OR_RETURN(const std::uint32_t value, number(op.stage, "stage", text));
    if (value >= stage_seen_.size()) stage_seen_.resize(std::size_t{value} + 1);
    stage_seen_[value] = true;
    return value;
  }

  Result<std::uint32_t> microbatch(const Op& op, std::string_view text) {
    PERSEUS_ASSIGN_OR_RETURN(const std::uint32_t value, number(op.microbatch, "microbatch", text));
    std::uint32_t& count = parsed_.schedule.microbatches;
    count = std::max(count, value + 1);
    return value;
  }

  /// `digits` are digits only; as many stages or microbatches as computations would be too many.
  [[nodiscard]] Result<std::uint32_t> number(std::string_view digits, std::string_view what,
                                             std::string_view text) const {
    const std::optional<std::uint32_t> value = parse_integer<std::uint32_t>(digits);
    if (value && *value < core::kMaxComputations) return *value;
    return fail(ErrorCode::kLimit,
                fmt::format("cell {}: {} {} is above the limit of {}", quoted(text), what,
                            digits.substr(0, 20), core::kMaxComputations - 1),
                here());
  }

  std::uint32_t instruction(std::string_view name) {
    std::vector<std::string>& names = parsed_.schedule.instructions;
    const auto [place, added] =
        instruction_index_.try_emplace(std::string(name), static_cast<std::uint32_t>(names.size()));
    if (added) names.emplace_back(name);
    return place->second;
  }

  Status add(const Computation& c) {
    if (++count_ > core::kMaxComputations) {
      return fail(
          ErrorCode::kLimit,
          fmt::format("the schedule has more than {} computations, the limit", core::kMaxComputations),
          here());
    }
    order_.push_back(c);
    return {};
  }

  [[nodiscard]] Status no_computation(std::string_view text) const {
    return fail(
        ErrorCode::kInvalidInput,
        fmt::format("cell {} is no computation: expected a stage, F, B, I or W, and a microbatch, as in 3F0, "
                    "or a pair as in (0F7;7B3)OVERLAP_F_B",
                    quoted(text)),
        here());
  }

  Status finish() {
    Schedule& schedule = parsed_.schedule;
    const auto absent = std::ranges::find(stage_seen_, false);
    if (absent != stage_seen_.end()) {
      return fail(ErrorCode::kInvalidInput,
                  fmt::format("stage {} has no cell, but stage {} has", absent - stage_seen_.begin(),
                              stage_seen_.size() - 1),
                  Origin{source_});
    }
    if (stage_seen_.size() % schedule.ranks.size() != 0) {
      return fail(ErrorCode::kInvalidInput,
                  fmt::format("{} stages on {} ranks (lines): every rank needs as many stages as the others",
                              stage_seen_.size(), schedule.ranks.size()),
                  Origin{source_});
    }
    schedule.virtual_stages = static_cast<std::uint32_t>(stage_seen_.size() / schedule.ranks.size());
    if (skipped_ != 0) {
      parsed_.warnings.push_back(
          {fmt::format("{} communication cell{} skipped, from {} on: transfers follow from the "
                       "order of the computations",
                       skipped_, skipped_ == 1 ? "" : "s", first_skipped_),
           first_skipped_at_});
    }
    return {};
  }

  [[nodiscard]] Origin here() const { return {source_, line_, column_}; }

  std::string source_;
  ParsedSchedule parsed_;
  std::vector<Computation> order_;
  std::vector<bool> stage_seen_;
  std::map<std::string, std::uint32_t, std::less<>> instruction_index_;
  std::uint64_t line_ = 0;
  std::uint64_t column_ = 0;
  std::size_t count_ = 0;
  std::size_t skipped_ = 0;
  std::string first_skipped_;
  Origin first_skipped_at_;
};

}  // namespace

Result<ParsedSchedule> parse_schedule_csv(std::string_view bytes, std::string source) {
  PERSEUS_RETURN_IF_ERROR(check_text(bytes, kMaxScheduleBytes, "schedule", source));
  if (bytes.starts_with(kByteOrderMark)) bytes.remove_prefix(kByteOrderMark.size());
  return Parser(std::move(source)).parse(bytes);
}

std::string write_schedule_csv(const Schedule& schedule) {
  std::string out;
  for (const auto& rank : schedule.ranks) {
    for (std::size_t i = 0; i < rank.size(); ++i) {
      if (i != 0) out += ',';
      out += core::to_string(schedule, rank[i]);
    }
    out += '\n';
  }
  return out;
}

}  // namespace perseus::format
