// SPDX-License-Identifier: Apache-2.0
#include "perseus/format/yaml_fields.h"

#include "perseus/format/numbers.h"

namespace perseus::format {
namespace {

using core::ErrorCode;

/// What stands there, for messages.
std::string describe(const YamlNode& node) {
  switch (node.type) {
    case YamlNode::Type::kNull:
      return "empty";
    case YamlNode::Type::kPlain:
      return quoted(node.text);
    case YamlNode::Type::kQuoted:
      return fmt::format("the text {}", quoted(node.text));
    case YamlNode::Type::kSequence:
      return "a list";
    case YamlNode::Type::kMap:
      return "a map";
  }
  return {};
}

bool is_control(char c) {
  return static_cast<unsigned char>(c) < 0x20 || c == 0x7F;
}

}  // namespace

std::unexpected<core::Error> YamlFields::refuse(const YamlNode& node, std::string_view name,
                                                std::string_view wanted) const {
  return core::fail(ErrorCode::kInvalidInput,
                    fmt::format("{} is {}; it must be {}", name, describe(node), wanted), origin(node));
}

core::Status YamlFields::text(const YamlNode& node, std::string_view name, std::string& out) const {
  const bool scalar = node.type == YamlNode::Type::kPlain || node.type == YamlNode::Type::kQuoted;
  if (!scalar || node.text.empty() || std::ranges::any_of(node.text, is_control)) {
    return refuse(node, name, "a text of one line");
  }
  if (node.text.size() > kMaxYamlTextBytes) {
    return core::fail(
        ErrorCode::kLimit,
        fmt::format("{} has {} bytes; the limit is {}", name, node.text.size(), kMaxYamlTextBytes),
        origin(node));
  }
  out = node.text;
  return {};
}

core::Status YamlFields::texts(const YamlNode& node, std::string_view name, std::size_t limit,
                               std::vector<std::string>& out) const {
  if (node.type != YamlNode::Type::kSequence || node.children.empty()) {
    return refuse(node, name, "a list of texts");
  }
  if (node.children.size() > limit) {
    return core::fail(ErrorCode::kLimit,
                      fmt::format("{} has {} elements; the limit is {}", name, node.children.size(), limit),
                      origin(node));
  }
  out.clear();
  for (const YamlNode& child : node.children) {
    PERSEUS_RETURN_IF_ERROR(
        text(child, fmt::format("element {} of {}", out.size() + 1, name), out.emplace_back()));
  }
  return {};
}

core::Status YamlFields::whole(const YamlNode& node, std::string_view name, std::uint32_t least,
                               std::uint32_t most, std::uint32_t& out) const {
  const auto value = parse_integer<std::uint32_t>(node.text);
  if (node.type == YamlNode::Type::kPlain && value && *value >= least && *value <= most) {
    out = *value;
    return {};
  }
  return refuse(node, name, fmt::format("a whole number from {} to {}", least, most));
}

core::Status YamlFields::number(const YamlNode& node, std::string_view name, std::string_view unit,
                                double least, double most, double& out) const {
  const auto value = parse_number(node.text);
  if (node.type == YamlNode::Type::kPlain && value && *value >= least && *value <= most) {
    out = *value;
    return {};
  }
  return refuse(node, name,
                fmt::format("a number of {} from {} to {}", unit, number_text(least), number_text(most)));
}

}  // namespace perseus::format
