// SPDX-License-Identifier: Apache-2.0
//
// Inside of the readers of small YAML files (job, agent configuration, grants): values of a YamlNode with
// their checks and refusals, every one with line and column.
//
//   YamlFields fields(source);
//   PERSEUS_RETURN_IF_ERROR(fields.map(root, "the configuration", kKeys, [&](std::size_t key, const YamlNode&
//   value) {
//     return fields.whole(value, kKeys[key], 1, 100, config.number);
//   }));
#pragma once

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "perseus/core/result.h"
#include "perseus/format/text.h"
#include "perseus/format/yaml_tree.h"

namespace perseus::format {

/// Longest text value, as operating systems limit paths.
inline constexpr std::size_t kMaxYamlTextBytes = 4096;

/// Reads values of one file; keeps its name for messages. All functions are pure and thread-safe.
class YamlFields {
 public:
  explicit YamlFields(std::string source) : source_(std::move(source)) {}

  [[nodiscard]] core::Origin origin(const YamlNode& node) const { return {source_, node.line, node.column}; }
  [[nodiscard]] core::Origin key_origin(const YamlNode& node) const {
    return {source_, node.key_line, node.key_column};
  }
  /// "NAME is VALUE; it must be WANTED" at the value's place.
  [[nodiscard]] std::unexpected<core::Error> refuse(const YamlNode& node, std::string_view name,
                                                    std::string_view wanted) const;

  /// A map whose keys are among `keys`; calls member(index of the key, value) for each in the file's order.
  /// other_home(key) may add a hint to the refusal of an unknown key that resembles none of `keys`.
  template <class Member>
  core::Status map(const YamlNode& node, std::string_view name, std::span<const std::string_view> keys,
                   Member&& member, std::string (*other_home)(std::string_view) = nullptr) const {
    if (node.type != YamlNode::Type::kMap) {
      return refuse(node, name, fmt::format("a map with the keys {}", fmt::join(keys, ", ")));
    }
    for (const YamlNode& child : node.children) {
      const auto found = std::ranges::find(keys, child.key);
      if (found == keys.end()) {
        std::string hint = suggestion(child.key, keys);
        if (hint.empty() && other_home != nullptr) hint = other_home(child.key);
        return core::fail(core::ErrorCode::kInvalidInput,
                          fmt::format("unknown key {} in {}{}", quoted(child.key), name, hint),
                          key_origin(child));
      }
      PERSEUS_RETURN_IF_ERROR(member(static_cast<std::size_t>(found - keys.begin()), child));
    }
    return {};
  }

  /// A text of one line, quoted or not, of 1 to kMaxYamlTextBytes bytes without control characters.
  core::Status text(const YamlNode& node, std::string_view name, std::string& out) const;
  /// A list of 1 to `limit` such texts.
  core::Status texts(const YamlNode& node, std::string_view name, std::size_t limit,
                     std::vector<std::string>& out) const;
  /// A whole number without quotes from `least` to `most`.
  core::Status whole(const YamlNode& node, std::string_view name, std::uint32_t least, std::uint32_t most,
                     std::uint32_t& out) const;
  /// A number without quotes from `least` to `most`, of the unit that `unit` names.
  core::Status number(const YamlNode& node, std::string_view name, std::string_view unit, double least,
                      double most, double& out) const;

 private:
  std::string source_;
};

}  // namespace perseus::format
