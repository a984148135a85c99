// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <span>

#include "perseus/core/schedule.h"
#include "perseus/format/csv_reader.h"
#include "perseus/format/numbers.h"
#include "perseus/format/profile_csv.h"
#include "perseus/format/profile_rows.h"
#include "perseus/format/text.h"

namespace perseus::format {
namespace {

using core::ErrorCode;
using core::fail;
using core::Origin;
using core::Status;

/// Most samples of one row; sums over a whole profile then fit 64 bits with room (assumed).
constexpr std::uint32_t kMaxSamples = 1'000'000'000;

enum class Column : std::uint8_t {
  kStage,
  kInstruction,
  kFrequency,
  kTime,
  kEnergy,
  kRank,
  kDpRank,
  kPpRank,
  kTpRank,
  kChunk,
  kStageB,
  kSamples,
  kTimeStd,
  kEnergyStd,
  kKnob,
};

/// The known columns in the order of Column; the first kNeeded must be there.
constexpr std::array<std::string_view, 14> kColumns = {
    "stage",   "instruction", "frequency", "time",    "energy",  "rank",     "dp_rank",
    "pp_rank", "tp_rank",     "chunk",     "stage_b", "samples", "time_std", "energy_std"};
constexpr std::size_t kNeeded = 5;

class TableReader {
 public:
  TableReader(CsvReader reader, const std::string& source) : reader_(std::move(reader)), source_(source) {}

  core::Result<ProfileTable> read() {
    PERSEUS_ASSIGN_OR_RETURN(const bool has_header, reader_.next(record_));
    if (!has_header) return fail(ErrorCode::kInvalidInput, "the profile is empty", {source_});
    PERSEUS_RETURN_IF_ERROR(read_header());
    for (;;) {
      PERSEUS_ASSIGN_OR_RETURN(const bool more, reader_.next(record_));
      if (!more) break;
      PERSEUS_RETURN_IF_ERROR(read_row());
    }
    if (table_.rows.empty()) {
      return fail(ErrorCode::kInvalidInput, "the profile has a header but no measurement", {source_});
    }
    return std::move(table_);
  }

 private:
  Origin origin(const CsvField& field) const { return {source_, field.line, field.column}; }

  Status read_header() {
    std::map<std::string_view, std::size_t> seen;
    for (std::size_t i = 0; i < record_.size(); ++i) {
      PERSEUS_RETURN_IF_ERROR(check_name(record_[i], i));
      if (const auto [it, fresh] = seen.emplace(record_[i].text, i); !fresh) {
        return fail(ErrorCode::kInvalidInput,
                    fmt::format("column {} is there twice, as columns {} and {}", quoted(it->first),
                                it->second + 1, i + 1),
                    origin(record_[i]));
      }
      const auto known = std::ranges::find(kColumns, record_[i].text);
      roles_.push_back(static_cast<Column>(known - kColumns.begin()));
      if (known == kColumns.end()) table_.knob_names.push_back(record_[i].text);
      if (roles_.back() == Column::kSamples) table_.has_samples = true;
    }
    return check_needed(seen);
  }

  Status check_name(const CsvField& field, std::size_t index) const {
    if (field.text.empty()) {
      return fail(ErrorCode::kInvalidInput,
                  fmt::format("column {} has no name; pandas writes its index so, unless told index=False",
                              index + 1),
                  origin(field));
    }
    constexpr std::string_view kBlanks = " \t";
    if (kBlanks.contains(field.text.front()) || kBlanks.contains(field.text.back())) {
      return fail(ErrorCode::kInvalidInput,
                  fmt::format("column name {} has blanks around it", quoted(field.text)), origin(field));
    }
    return {};
  }

  Status check_needed(const std::map<std::string_view, std::size_t>& seen) const {
    for (const std::string_view name : std::span(kColumns).first(kNeeded)) {
      if (seen.contains(name)) continue;
      std::vector<std::string_view> unknown(table_.knob_names.begin(), table_.knob_names.end());
      const std::string_view near = nearest_name(name, unknown);
      return fail(
          ErrorCode::kInvalidInput,
          fmt::format(
              "column {} is missing; a profile has the columns stage, instruction, frequency, time and "
              "energy{}",
              name, near.empty() ? "" : fmt::format("; is {} meant?", quoted(near))),
          {source_, record_.front().line, 1});
    }
    return {};
  }

  Status read_row() {
    if (record_.size() != roles_.size()) {
      return fail(ErrorCode::kInvalidInput,
                  fmt::format("{} fields in a row; the header has {}", record_.size(), roles_.size()),
                  {source_, record_.front().line, 1});
    }
    if (table_.rows.size() == kMaxProfileRows) {
      return fail(ErrorCode::kLimit, fmt::format("more than {} measurements, the limit", kMaxProfileRows),
                  {source_, record_.front().line, 1});
    }
    ProfileRow& row = table_.rows.emplace_back();
    row.line = record_.front().line;
    row.knobs.reserve(table_.knob_names.size());
    for (std::size_t i = 0; i < roles_.size(); ++i)
      PERSEUS_RETURN_IF_ERROR(read_field(roles_[i], record_[i], row));
    return check_stage_b(row);
  }

  Status read_field(Column role, const CsvField& field, ProfileRow& row) {
    switch (role) {
      case Column::kStage:
        return read_whole(field, role, core::kMaxComputations - 1, row.stage);
      case Column::kInstruction:
        row.instruction = field.text;
        return check_instruction_name(field.text, origin(field));
      case Column::kFrequency:
        return read_clock(field, row.clock_mhz);
      case Column::kTime:
        return read_real(field, role, "s", core::kMinTime.value(), core::kMaxTime.value(), row.time);
      case Column::kEnergy:
        return read_real(field, role, "J", 0, core::kMaxEnergy.value(), row.energy);
      case Column::kRank:
      case Column::kDpRank:
      case Column::kPpRank:
      case Column::kTpRank: {
        const auto which = static_cast<std::size_t>(role) - static_cast<std::size_t>(Column::kRank);
        return read_optional_whole(field, role, row.rank.at(which));
      }
      case Column::kChunk:
        return read_optional_whole(field, role, row.chunk);
      case Column::kStageB:
        return read_optional_whole(field, role, row.stage_b);
      case Column::kSamples:
        return read_samples(field, row.samples);
      case Column::kTimeStd:
        return read_optional_real(field, role, "s", core::kMaxTime.value(), row.time_std);
      case Column::kEnergyStd:
        return read_optional_real(field, role, "J", core::kMaxEnergy.value(), row.energy_std);
      case Column::kKnob:
        row.knobs.push_back(field.text);
        return {};
    }
    return fail(ErrorCode::kInternal, "unknown column of a profile");
  }

  static std::string_view name(Column role) { return kColumns.at(static_cast<std::size_t>(role)); }

  Status read_whole(const CsvField& field, Column role, std::uint64_t most, std::uint32_t& out) const {
    const auto value = parse_integer<std::uint32_t>(field.text);
    if (value && *value <= most) {
      out = *value;
      return {};
    }
    return fail(
        ErrorCode::kInvalidInput,
        fmt::format("{} is {}; it must be a whole number from 0 to {}", name(role), quoted(field.text), most),
        origin(field));
  }

  Status read_optional_whole(const CsvField& field, Column role, std::optional<std::uint32_t>& out) const {
    if (field.text.empty()) return {};
    return read_whole(field, role, core::kMaxComputations - 1, out.emplace());
  }

  Status read_clock(const CsvField& field, std::uint32_t& out) const {
    const auto value = parse_integer<std::uint32_t>(field.text);
    if (value && *value >= 1 && *value <= core::kMaxClockMhz) {
      out = *value;
      return {};
    }
    return fail(ErrorCode::kInvalidInput,
                fmt::format("frequency is {}; it must be a whole number of MHz from 1 to {}",
                            quoted(field.text), core::kMaxClockMhz),
                origin(field));
  }

  Status read_samples(const CsvField& field, std::uint32_t& out) const {
    if (field.text.empty()) return {};  // one, as without the column
    const auto value = parse_integer<std::uint32_t>(field.text);
    if (value && *value >= 1 && *value <= kMaxSamples) {
      out = *value;
      return {};
    }
    return fail(
        ErrorCode::kInvalidInput,
        fmt::format("samples is {}; it must be a whole number from 1 to {}", quoted(field.text), kMaxSamples),
        origin(field));
  }

  Status read_real(const CsvField& field, Column role, std::string_view unit, double least, double most,
                   double& out) const {
    const auto value = parse_number(field.text);
    if (value && *value >= least && *value <= most) {
      out = *value + 0.0;  // turns -0 into 0
      return {};
    }
    return fail(ErrorCode::kInvalidInput,
                fmt::format("{} is {}; it must be a number of {} from {} to {}", name(role),
                            quoted(field.text), unit, least, most),
                origin(field));
  }

  Status read_optional_real(const CsvField& field, Column role, std::string_view unit, double most,
                            std::optional<double>& out) const {
    if (field.text.empty()) return {};
    return read_real(field, role, unit, 0, most, out.emplace());
  }

  Status check_stage_b(const ProfileRow& row) const {
    const bool overlapped = row.instruction == core::instruction_name(core::Kind::kForwardBackward);
    if (overlapped == row.stage_b.has_value()) return {};
    return fail(ErrorCode::kInvalidInput,
                overlapped ? "forward_backward without stage_b, the stage of its backward half"
                           : fmt::format("stage_b is {} for {}; only forward_backward has one", *row.stage_b,
                                         row.instruction),
                {source_, row.line, 1});
  }

  CsvReader reader_;
  const std::string& source_;
  std::vector<CsvField> record_;
  std::vector<Column> roles_;
  ProfileTable table_;
};

}  // namespace

core::Result<ProfileTable> read_profile_table(std::string_view bytes, const std::string& source) {
  constexpr CsvLimits kLimits{kMaxProfileBytes, kMaxProfileColumns, kMaxProfileFieldBytes};
  PERSEUS_ASSIGN_OR_RETURN(auto reader, CsvReader::open(bytes, source, "profile", kLimits));
  return TableReader(std::move(reader), source).read();
}

}  // namespace perseus::format
