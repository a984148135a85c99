// SPDX-License-Identifier: Apache-2.0
//
// Inside of job_yaml: YAML as a small tree with the place of every node, read from yaml-cpp's events.
// Nesting, anchors and tags are refused while they are read, so neither depth nor expansion can be used
// against the reader.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "perseus/core/result.h"

namespace perseus::format {

/// One node. Lines and columns count from 1.
struct YamlNode {
  enum class Type : std::uint8_t {
    kNull,    ///< nothing, or `~` or `null`
    kPlain,   ///< a scalar without quotes: a number may be meant
    kQuoted,  ///< a scalar in quotes or a block scalar: text
    kSequence,
    kMap,
  };
  Type type = Type::kNull;
  std::string text;  ///< of a scalar
  std::uint64_t line = 0;
  std::uint64_t column = 0;
  std::string key;  ///< of a child of a map
  std::uint64_t key_line = 0;
  std::uint64_t key_column = 0;
  std::vector<YamlNode> children;  ///< of a sequence or map, in order
};

/// Most levels of maps and lists; a job file has three.
inline constexpr std::size_t kMaxYamlDepth = 8;

/// Reads exactly one document of at most `limit` bytes. Refused with line and column: what yaml-cpp refuses,
/// more than one document, none, keys that are no scalars, repeated keys, anchors, aliases, tags, deep
/// nesting.
core::Result<YamlNode> parse_yaml(std::string_view bytes, const std::string& source, std::size_t limit,
                                  std::string_view what);

}  // namespace perseus::format
