// SPDX-License-Identifier: Apache-2.0
#include "perseus/format/grants.h"

#include <fmt/format.h>

#include <array>
#include <limits>
#include <span>

#include "perseus/format/numbers.h"
#include "perseus/format/text.h"
#include "perseus/format/yaml_fields.h"

namespace perseus::format {
namespace {

using core::ErrorCode;
using core::Status;

constexpr std::array<std::string_view, 1> kTopKeys = {"grants"};
constexpr std::array<std::string_view, 6> kGrantKeys = {"uid",     "cgroup",  "gpus",
                                                        "min_mhz", "expires", "comment"};
/// The mailbox has 16 bits for a clock.
constexpr std::uint32_t kMaxMegahertz = 65'535;
/// The kernel's "no user".
constexpr std::uint32_t kNoUid = std::numeric_limits<std::uint32_t>::max();

/// Two or four digits at a place of a text that is long enough.
std::optional<unsigned> digits(std::string_view text, std::size_t at, std::size_t count) {
  for (const char c : text.substr(at, count)) {
    if (c < '0' || c > '9') return std::nullopt;
  }
  return parse_integer<unsigned>(text.substr(at, count));
}

/// "YYYY-MM-DDTHH:MM:SSZ" from 1970 on.
std::optional<std::chrono::sys_seconds> parse_utc(std::string_view text) {
  constexpr std::string_view kShape = "dddd-dd-ddTdd:dd:ddZ";
  if (text.size() != kShape.size()) return std::nullopt;
  for (std::size_t i = 0; i < kShape.size(); ++i) {
    if (kShape[i] != 'd' && text[i] != kShape[i]) return std::nullopt;
  }
  const auto year = digits(text, 0, 4);
  const auto month = digits(text, 5, 2);
  const auto day = digits(text, 8, 2);
  const auto hour = digits(text, 11, 2);
  const auto minute = digits(text, 14, 2);
  const auto second = digits(text, 17, 2);
  if (!year || !month || !day || !hour || !minute || !second) return std::nullopt;
  const std::chrono::year_month_day date{std::chrono::year(static_cast<int>(*year)),
                                         std::chrono::month(*month), std::chrono::day(*day)};
  if (!date.ok() || *year < 1970 || *hour > 23 || *minute > 59 || *second > 59) return std::nullopt;
  return std::chrono::sys_days(date) + std::chrono::hours(*hour) + std::chrono::minutes(*minute) +
         std::chrono::seconds(*second);
}

/// A path that names one place only: '/' and names between single slashes.
bool is_plain_path(std::string_view path) {
  if (path.size() < 2 || path.front() != '/' || path.back() == '/') return false;
  while (!path.empty()) {
    path.remove_prefix(1);
    const std::string_view name = path.substr(0, path.find('/'));
    if (name.empty() || name == "." || name == "..") return false;
    path.remove_prefix(name.size());
  }
  return true;
}

bool is_gpu_name(std::string_view text) {
  constexpr std::string_view kAllowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-";
  constexpr std::size_t kMaxUuidBytes = 96;  // gpu::Identity
  return text.size() <= kMaxUuidBytes && text.find_first_not_of(kAllowed) == std::string_view::npos;
}

/// Reads one file; one use.
class GrantsReader {
 public:
  explicit GrantsReader(const std::string& source) : fields_(source) {}

  core::Result<std::vector<Grant>> read(const YamlNode& root) {
    PERSEUS_RETURN_IF_ERROR(fields_.map(root, "the grants file", kTopKeys,
                                        [this](std::size_t, const YamlNode& value) { return list(value); }));
    return std::move(grants_);
  }

 private:
  Status list(const YamlNode& node) {
    if (node.type != YamlNode::Type::kSequence) {
      return fields_.refuse(node, "grants", "a list of maps; [] for none");
    }
    if (node.children.size() > kMaxGrants) {
      return core::fail(ErrorCode::kLimit,
                        fmt::format("{} grants; the limit is {}", node.children.size(), kMaxGrants),
                        fields_.origin(node));
    }
    for (const YamlNode& child : node.children) PERSEUS_RETURN_IF_ERROR(grant(child));
    return {};
  }

  Status grant(const YamlNode& node) {
    Grant out;
    out.line = node.line;
    PERSEUS_RETURN_IF_ERROR(
        fields_.map(node, "a grant", kGrantKeys, [&](std::size_t key, const YamlNode& value) -> Status {
          if (key == 0) return fields_.whole(value, "uid", 0, kNoUid - 1, out.uid.emplace());
          if (key == 1) return cgroup(value, out.cgroup.emplace());
          if (key == 2) return gpus(value, out);
          if (key == 3) return min_clock(value, out);
          if (key == 4) return expires(value, out);
          return fields_.text(value, "comment", out.comment);
        }));
    if (out.uid.has_value() == out.cgroup.has_value()) {
      return refuse(node, "a grant needs either uid or cgroup");
    }
    if (!out.all_gpus && out.gpus.empty()) return refuse(node, "a grant without gpus");
    grants_.push_back(std::move(out));
    return {};
  }

  [[nodiscard]] std::unexpected<core::Error> refuse(const YamlNode& node, std::string message) const {
    return core::fail(ErrorCode::kInvalidInput, std::move(message), fields_.origin(node));
  }

  Status cgroup(const YamlNode& node, std::string& out) const {
    PERSEUS_RETURN_IF_ERROR(fields_.text(node, "cgroup", out));
    if (is_plain_path(out)) return {};
    return fields_.refuse(node, "cgroup", "a cgroup v2 path such as /system.slice/job.scope, not the root");
  }

  Status gpus(const YamlNode& node, Grant& out) const {
    if (node.type == YamlNode::Type::kPlain && node.text == "all") {
      out.all_gpus = true;
      return {};
    }
    if (node.type != YamlNode::Type::kSequence || node.children.empty()) {
      return fields_.refuse(node, "gpus", "all, or a list of UUIDs or indices");
    }
    PERSEUS_RETURN_IF_ERROR(fields_.texts(node, "gpus", kMaxGrantGpus, out.gpus));
    for (std::size_t i = 0; i < out.gpus.size(); ++i) {
      if (is_gpu_name(out.gpus[i])) continue;
      return fields_.refuse(node.children[i], fmt::format("element {} of gpus", i + 1), "a UUID or an index");
    }
    return {};
  }

  Status min_clock(const YamlNode& node, Grant& out) const {
    std::uint32_t mhz = 0;
    PERSEUS_RETURN_IF_ERROR(fields_.whole(node, "min_mhz", 1, kMaxMegahertz, mhz));
    out.min_clock = core::Megahertz(mhz);
    return {};
  }

  Status expires(const YamlNode& node, Grant& out) const {
    std::string text;
    PERSEUS_RETURN_IF_ERROR(fields_.text(node, "expires", text));
    out.expires = parse_utc(text);
    if (out.expires) return {};
    return fields_.refuse(node, "expires", "a time in UTC such as 2026-12-31T18:00:00Z");
  }

  YamlFields fields_;
  std::vector<Grant> grants_;
};

void append_gpus(std::string& out, const Grant& grant) {
  if (grant.all_gpus) {
    out += "    gpus: all\n";
    return;
  }
  out += "    gpus: [";
  for (std::size_t i = 0; i < grant.gpus.size(); ++i) {
    if (i != 0) out += ", ";
    append_json_string(out, grant.gpus[i]);
  }
  out += "]\n";
}

}  // namespace

core::Result<std::vector<Grant>> parse_grants(std::string_view bytes, const std::string& source) {
  PERSEUS_ASSIGN_OR_RETURN(const YamlNode root, parse_yaml(bytes, source, kMaxGrantsBytes, "grants file"));
  return GrantsReader(source).read(root);
}

std::string utc_text(std::chrono::sys_seconds time) {
  const auto day = std::chrono::floor<std::chrono::days>(time);
  const std::chrono::year_month_day date(day);
  const std::chrono::hh_mm_ss clock(time - day);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z", static_cast<int>(date.year()),
                     static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()),
                     clock.hours().count(), clock.minutes().count(), clock.seconds().count());
}

std::string write_grants(const std::vector<Grant>& grants) {
  if (grants.empty()) return "grants: []\n";
  std::string out = "grants:\n";
  for (const Grant& grant : grants) {
    if (grant.uid) {
      out += fmt::format("  - uid: {}\n", *grant.uid);
    } else {
      out += "  - cgroup: ";
      append_json_string(out, grant.cgroup.value_or(""));
      out += '\n';
    }
    append_gpus(out, grant);
    if (grant.min_clock) out += fmt::format("    min_mhz: {}\n", grant.min_clock->value());
    if (grant.expires) out += fmt::format("    expires: {}\n", utc_text(*grant.expires));
    if (!grant.comment.empty()) {
      out += "    comment: ";
      append_json_string(out, grant.comment);
      out += '\n';
    }
  }
  return out;
}

}  // namespace perseus::format
