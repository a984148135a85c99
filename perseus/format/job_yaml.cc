// SPDX-License-Identifier: Apache-2.0
#include "perseus/format/job_yaml.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <span>
#include <utility>

#include "perseus/core/profile.h"
#include "perseus/core/schedule.h"
#include "perseus/format/numbers.h"
#include "perseus/format/text.h"
#include "perseus/format/yaml_fields.h"

namespace perseus::format {
namespace {

using core::ErrorCode;
using core::fail;
using core::Status;

constexpr std::array<std::string_view, 7> kTopKeys = {"profile",   "pipeline", "parallel", "blocking_power_w",
                                                      "p2p_lag_s", "inserts",  "fit"};
constexpr std::array<std::string_view, 5> kPipelineKeys = {"schedule", "schedule_file", "microbatches",
                                                           "virtual_stages", "group_size"};
constexpr std::array<std::string_view, 3> kParallelKeys = {"pipeline", "tensor", "data"};
constexpr std::array<std::string_view, 3> kInsertKeys = {"instruction", "stage", "position"};
constexpr std::array<std::string_view, 2> kFits = {"none", "convex"};
/// In the order of core::Position.
constexpr std::array<std::string_view, 6> kPositions = {"before_forward", "after_forward", "before_backward",
                                                        "after_backward", "start",         "end"};
constexpr std::uint32_t kMaxCount = static_cast<std::uint32_t>(core::kMaxComputations);

/// Reads one job file; one use.
class JobReader {
 public:
  explicit JobReader(const std::string& source) : fields_(source) {}

  core::Result<core::JobSpec> read(const YamlNode& root) {
    PERSEUS_RETURN_IF_ERROR(
        read_map(root, "the job", kTopKeys,
                 [this](std::size_t key, const YamlNode& value) { return read_top(key, value); }));
    return std::move(job_);
  }

 private:
  /// Where a key of another map would have been right.
  static std::string other_home(std::string_view key) {
    const auto has = [&](std::span<const std::string_view> keys) {
      return std::ranges::find(keys, key) != keys.end();
    };
    if (has(kPipelineKeys)) return "; it belongs under pipeline";
    if (has(kParallelKeys)) return "; it belongs under parallel";
    if (has(kTopKeys)) return "; it belongs at the top";
    return {};
  }

  template <class Member>
  Status read_map(const YamlNode& node, std::string_view name, std::span<const std::string_view> keys,
                  Member&& member) const {
    return fields_.map(node, name, keys, std::forward<Member>(member), other_home);
  }

  Status read_top(std::size_t key, const YamlNode& value) {
    switch (key) {
      case 0:
        return read_text(value, "profile", job_.profile);
      case 1:
        return read_pipeline(value);
      case 2:
        return read_map(value, "parallel", kParallelKeys, [this](std::size_t which, const YamlNode& degree) {
          auto& out = which == 0 ? job_.pipeline : which == 1 ? job_.tensor : job_.data;
          return read_count(degree, kParallelKeys.at(which), out);
        });
      case 3:
        return read_blocking_power(value);
      case 4:
        return read_lags(value);
      case 5:
        return read_inserts(value);
      default:
        return read_word(value, "fit", kFits, job_.fit);
    }
  }

  Status read_pipeline(const YamlNode& node) {
    PERSEUS_RETURN_IF_ERROR(
        read_map(node, "pipeline", kPipelineKeys, [this](std::size_t key, const YamlNode& value) -> Status {
          switch (key) {
            case 0:
              return read_text(value, "schedule", job_.schedule);
            case 1:
              return read_text(value, "schedule_file", job_.schedule_file);
            case 2:
              return read_count(value, "microbatches", job_.microbatches);
            case 3:
              return read_count(value, "virtual_stages", job_.virtual_stages);
            default:
              return read_count(value, "group_size", job_.group_size);
          }
        }));
    if (!job_.schedule || !job_.schedule_file) return {};
    return fail(ErrorCode::kInvalidInput, "both schedule and schedule_file are given; give one",
                fields_.origin(node));
  }

  [[nodiscard]] core::Result<std::string> text_of(const YamlNode& node, std::string_view name) const {
    std::string out;
    PERSEUS_RETURN_IF_ERROR(fields_.text(node, name, out));
    return out;
  }

  Status read_text(const YamlNode& node, std::string_view name, std::optional<std::string>& out) const {
    PERSEUS_ASSIGN_OR_RETURN(out, text_of(node, name));
    return {};
  }

  [[nodiscard]] core::Result<std::string> word_of(const YamlNode& node, std::string_view name,
                                                  std::span<const std::string_view> words) const {
    PERSEUS_ASSIGN_OR_RETURN(std::string word, text_of(node, name));
    if (std::ranges::find(words, word) != words.end()) return word;
    return fields_.refuse(node, name,
                          fmt::format("one of {}{}", fmt::join(words, ", "), suggestion(word, words)));
  }

  Status read_word(const YamlNode& node, std::string_view name, std::span<const std::string_view> words,
                   std::optional<std::string>& out) const {
    PERSEUS_ASSIGN_OR_RETURN(out, word_of(node, name, words));
    return {};
  }

  Status read_whole(const YamlNode& node, std::string_view name, std::uint32_t least, std::uint32_t most,
                    std::uint32_t& out) const {
    const auto value = parse_integer<std::uint32_t>(node.text);
    if (node.type == YamlNode::Type::kPlain && value && *value >= least && *value <= most) {
      out = *value;
      return {};
    }
    return fields_.refuse(node, name, fmt::format("a whole number from {} to {}", least, most));
  }

  Status read_count(const YamlNode& node, std::string_view name, std::optional<std::uint32_t>& out) const {
    return read_whole(node, name, 1, kMaxCount, out.emplace());
  }

  Status read_watts(const YamlNode& node, std::string_view name, core::Watts& out) const {
    const auto value = parse_number(node.text);
    if (node.type == YamlNode::Type::kPlain && value && *value >= 0 && *value <= core::kMaxPower.value()) {
      out = core::Watts(*value + 0.0);
      return {};
    }
    return fields_.refuse(node, name, fmt::format("a number of W from 0 to {}", core::kMaxPower.value()));
  }

  Status read_blocking_power(const YamlNode& node) {
    if (node.type != YamlNode::Type::kMap) {
      return read_watts(node, "blocking_power_w", job_.blocking_power.emplace());
    }
    for (const YamlNode& child : node.children) {
      const auto rank = parse_integer<std::uint32_t>(child.key);
      // The second test refuses other spellings of a number, such as 01.
      if (!rank || *rank >= kMaxCount || fmt::format("{}", *rank) != child.key) {
        return fail(ErrorCode::kInvalidInput,
                    fmt::format("{} in blocking_power_w is no rank; ranks are whole numbers from 0 to {}",
                                quoted(child.key), kMaxCount - 1),
                    fields_.key_origin(child));
      }
      const std::string name = fmt::format("blocking_power_w of rank {}", *rank);
      PERSEUS_RETURN_IF_ERROR(read_watts(child, name, job_.blocking_power_of_rank[*rank]));
    }
    return check_complete(node);
  }

  /// Ranks of blocking power are 0 .. n-1.
  Status check_complete(const YamlNode& node) const {
    std::uint32_t expected = 0;
    for (const auto& [rank, power] : job_.blocking_power_of_rank) {
      if (rank != expected) break;
      ++expected;
    }
    if (expected != 0 && expected == job_.blocking_power_of_rank.size()) return {};
    return fail(ErrorCode::kInvalidInput, fmt::format("blocking_power_w has no rank {}", expected),
                fields_.origin(node));
  }

  Status read_seconds(const YamlNode& node, std::string_view name, core::Seconds& out) const {
    const auto value = parse_number(node.text);
    const core::Seconds lag(value.value_or(-1) + 0.0);
    const bool in_range = lag == core::Seconds(0) || (lag >= core::kMinTime && lag <= core::kMaxTime);
    if (node.type == YamlNode::Type::kPlain && in_range) {
      out = lag;
      return {};
    }
    return fields_.refuse(
        node, name,
        fmt::format("0, or a number of s from {} to {}", core::kMinTime.value(), core::kMaxTime.value()));
  }

  Status read_lags(const YamlNode& node) {
    if (node.type != YamlNode::Type::kMap) return read_seconds(node, "p2p_lag_s", job_.p2p_lag.emplace());
    for (const YamlNode& child : node.children) {
      const std::string name = fmt::format("p2p_lag_s of {}", quoted(child.key));
      if (child.key == "default") {
        PERSEUS_RETURN_IF_ERROR(read_seconds(child, name, job_.p2p_lag.emplace()));
        continue;
      }
      const auto pair = parse_pair(child.key);
      if (!pair) {
        return fail(ErrorCode::kInvalidInput,
                    fmt::format("{} in p2p_lag_s is neither default nor two ranks such as \"0->1\"",
                                quoted(child.key)),
                    fields_.key_origin(child));
      }
      PERSEUS_RETURN_IF_ERROR(read_seconds(child, name, job_.edge_lag[*pair]));
    }
    return {};
  }

  /// "0->1" with two different ranks, each in its shortest spelling.
  static std::optional<std::pair<std::uint32_t, std::uint32_t>> parse_pair(std::string_view text) {
    const std::size_t arrow = text.find("->");
    if (arrow == std::string_view::npos) return std::nullopt;
    const auto from = parse_integer<std::uint32_t>(text.substr(0, arrow));
    const auto to = parse_integer<std::uint32_t>(text.substr(arrow + 2));
    const bool ranks = from && to && *from != *to && *from < kMaxCount && *to < kMaxCount;
    if (!ranks || fmt::format("{}->{}", *from, *to) != text) return std::nullopt;
    return std::pair(*from, *to);
  }

  Status read_inserts(const YamlNode& node) {
    if (node.type != YamlNode::Type::kSequence) {
      return fields_.refuse(node, "inserts", "a list of maps with the keys instruction, stage, position");
    }
    if (node.children.size() > kMaxInserts) {
      return fail(ErrorCode::kLimit,
                  fmt::format("inserts has {} elements; the limit is {}", node.children.size(), kMaxInserts),
                  fields_.origin(node));
    }
    for (const YamlNode& child : node.children) PERSEUS_RETURN_IF_ERROR(read_insert(child));
    return {};
  }

  Status read_insert(const YamlNode& node) {
    core::Insert insert;
    std::array<bool, kInsertKeys.size()> seen{};
    PERSEUS_RETURN_IF_ERROR(
        read_map(node, "an insert", kInsertKeys, [&](std::size_t key, const YamlNode& value) -> Status {
          seen.at(key) = true;
          if (key == 0) return read_instruction(value, insert.instruction);
          if (key == 1) return read_whole(value, "stage", 0, kMaxCount - 1, insert.stage);
          return read_position(value, insert.position);
        }));
    for (std::size_t key = 0; key < seen.size(); ++key) {
      if (seen.at(key)) continue;
      return fail(ErrorCode::kInvalidInput, fmt::format("an insert without {}", kInsertKeys.at(key)),
                  fields_.origin(node));
    }
    job_.inserts.push_back(std::move(insert));
    return {};
  }

  Status read_instruction(const YamlNode& node, std::string& out) const {
    PERSEUS_ASSIGN_OR_RETURN(std::string text, text_of(node, "instruction"));
    PERSEUS_RETURN_IF_ERROR(check_instruction_name(text, fields_.origin(node)));
    for (auto kind = core::Kind::kForward; kind != core::Kind::kOther;
         kind = static_cast<core::Kind>(static_cast<int>(kind) + 1)) {
      if (core::instruction_name(kind) == text) {
        return fields_.refuse(node, "instruction", "an extra one; the schedule itself places this one");
      }
    }
    out = std::move(text);
    return {};
  }

  Status read_position(const YamlNode& node, core::Position& out) const {
    PERSEUS_ASSIGN_OR_RETURN(const std::string word, word_of(node, "position", kPositions));
    out = static_cast<core::Position>(std::ranges::find(kPositions, word) - kPositions.begin());
    return {};
  }

  YamlFields fields_;
  core::JobSpec job_;
};

/// Appends `name: value` lines and the braces of flow maps.
class JobWriter {
 public:
  explicit JobWriter(const core::JobSpec& job) : job_(job) {}

  std::string write() {
    if (job_.profile) line("profile", text(*job_.profile));
    section("pipeline", {item("schedule", job_.schedule), item("schedule_file", job_.schedule_file),
                         item("microbatches", job_.microbatches), item("virtual_stages", job_.virtual_stages),
                         item("group_size", job_.group_size)});
    section("parallel",
            {item("pipeline", job_.pipeline), item("tensor", job_.tensor), item("data", job_.data)});
    blocking_power();
    lags();
    inserts();
    if (job_.fit) line("fit", text(*job_.fit));
    return out_.empty() ? "{}\n" : std::move(out_);
  }

 private:
  /// JSON's strings are YAML's double-quoted ones.
  static std::string text(std::string_view value) {
    std::string out;
    append_json_string(out, value);
    return out;
  }
  static std::string item(std::string_view key, const std::optional<std::string>& value) {
    return value ? fmt::format("{}: {}", key, text(*value)) : std::string();
  }
  static std::string item(std::string_view key, const std::optional<std::uint32_t>& value) {
    return value ? fmt::format("{}: {}", key, *value) : std::string();
  }

  void line(std::string_view key, std::string_view value) { out_ += fmt::format("{}: {}\n", key, value); }

  void section(std::string_view key, std::vector<std::string> items) {
    std::erase(items, std::string());
    if (!items.empty()) line(key, fmt::format("{{{}}}", fmt::join(items, ", ")));
  }

  void blocking_power() {
    if (job_.blocking_power) line("blocking_power_w", number_text(job_.blocking_power->value()));
    std::vector<std::string> items;
    items.reserve(job_.blocking_power_of_rank.size());
    for (const auto& [rank, power] : job_.blocking_power_of_rank) {
      items.push_back(fmt::format("{}: {}", rank, number_text(power.value())));
    }
    section("blocking_power_w", std::move(items));
  }

  void lags() {
    if (job_.edge_lag.empty()) {
      if (job_.p2p_lag) line("p2p_lag_s", number_text(job_.p2p_lag->value()));
      return;
    }
    std::vector<std::string> items;
    if (job_.p2p_lag) items.push_back(fmt::format("default: {}", number_text(job_.p2p_lag->value())));
    for (const auto& [ranks, lag] : job_.edge_lag) {
      items.push_back(fmt::format("\"{}->{}\": {}", ranks.first, ranks.second, number_text(lag.value())));
    }
    section("p2p_lag_s", std::move(items));
  }

  void inserts() {
    if (!job_.inserts.empty()) out_ += "inserts:\n";
    for (const core::Insert& insert : job_.inserts) {
      out_ += fmt::format("  - {{instruction: {}, stage: {}, position: {}}}\n", text(insert.instruction),
                          insert.stage, position_name(insert.position));
    }
  }

  const core::JobSpec& job_;
  std::string out_;
};

}  // namespace

core::Result<core::JobSpec> parse_job_yaml(std::string_view bytes, const std::string& source) {
  PERSEUS_ASSIGN_OR_RETURN(const YamlNode root, parse_yaml(bytes, source, kMaxJobBytes, "job file"));
  return JobReader(source).read(root);
}

std::string write_job_yaml(const core::JobSpec& job) {
  return JobWriter(job).write();
}

std::string_view position_name(core::Position position) {
  return kPositions.at(static_cast<std::size_t>(position));
}

}  // namespace perseus::format
