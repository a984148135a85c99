// SPDX-License-Identifier: Apache-2.0
#include "perseus/format/yaml_tree.h"

#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <exception>
#include <set>
#include <sstream>

#include "perseus/format/text.h"

namespace perseus::format {
namespace {

/// Thrown through yaml-cpp to stop it at once; caught in parse_yaml().
struct Refused {
  YAML::Mark mark;
  std::string message;
};

core::Origin origin_at(const YAML::Mark& mark, const std::string& source) {
  if (mark.is_null()) return {source};
  return {source, static_cast<std::uint64_t>(mark.line) + 1, static_cast<std::uint64_t>(mark.column) + 1};
}

/// Builds the tree of one document.
class TreeBuilder final : public YAML::EventHandler {
 public:
  explicit TreeBuilder(YamlNode& root) : root_(root) {}

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (++documents_ > 1) throw Refused{mark, "a second document; one is allowed"};
  }
  void OnDocumentEnd() override {}
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    throw Refused{mark, "an alias; none is allowed"};
  }
  void OnAnchor(const YAML::Mark& mark, const std::string&) override {
    throw Refused{mark, "an anchor; none is allowed"};
  }

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    check(mark, "?", anchor);
    if (wants_key()) throw Refused{mark, "an empty key"};
    add(mark, YamlNode::Type::kNull);
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    check(mark, tag, anchor);
    if (wants_key()) {
      set_key(mark, value);
    } else {
      add(mark, tag == "!" ? YamlNode::Type::kQuoted : YamlNode::Type::kPlain).text = value;
    }
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(mark, tag, anchor, YamlNode::Type::kSequence);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(mark, tag, anchor, YamlNode::Type::kMap);
  }
  void OnMapEnd() override { close(); }

 private:
  struct Level {
    YamlNode* node;
    bool has_key = false;  ///< maps: the last child has its key and waits for its value
    std::set<std::string, std::less<>> keys;
  };

  static void check(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor) {
    if (anchor != YAML::NullAnchor) throw Refused{mark, "an anchor; none is allowed"};
    // yaml-cpp's own marks for "no tag": plain and quoted.
    if (!tag.empty() && tag != "?" && tag != "!") {
      throw Refused{mark, fmt::format("tag {}; none is allowed", quoted(tag))};
    }
  }

  [[nodiscard]] bool wants_key() const {
    return !levels_.empty() && levels_.back().node->type == YamlNode::Type::kMap && !levels_.back().has_key;
  }

  void set_key(const YAML::Mark& mark, const std::string& key) {
    Level& level = levels_.back();
    if (!level.keys.insert(key).second)
      throw Refused{mark, fmt::format("key {} is there twice", quoted(key))};
    YamlNode& child = level.node->children.emplace_back();
    child.key = key;
    child.key_line = static_cast<std::uint64_t>(mark.line) + 1;
    child.key_column = static_cast<std::uint64_t>(mark.column) + 1;
    level.has_key = true;
  }

  /// The place in the tree for the value that comes now.
  YamlNode& add(const YAML::Mark& mark, YamlNode::Type type) {
    YamlNode* node = &root_;
    if (!levels_.empty()) {
      Level& level = levels_.back();
      if (level.node->type == YamlNode::Type::kSequence) level.node->children.emplace_back();
      node = &level.node->children.back();
      level.has_key = false;
    }
    node->type = type;
    node->line = static_cast<std::uint64_t>(mark.line) + 1;
    node->column = static_cast<std::uint64_t>(mark.column) + 1;
    return *node;
  }

  void open(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, YamlNode::Type type) {
    check(mark, tag, anchor);
    if (wants_key()) throw Refused{mark, "a key that is no word"};
    if (levels_.size() == kMaxYamlDepth) {
      throw Refused{mark, fmt::format("more than {} levels of nesting, the limit", kMaxYamlDepth)};
    }
    YamlNode& node = add(mark, type);
    levels_.push_back({&node, false, {}});
  }

  void close() { levels_.pop_back(); }

  YamlNode& root_;
  std::vector<Level> levels_;
  int documents_ = 0;
};

/// A node that no document has filled.
bool is_absent(const YamlNode& node) {
  return node.type == YamlNode::Type::kNull;
}

}  // namespace

core::Result<YamlNode> parse_yaml(std::string_view bytes, const std::string& source, std::size_t limit,
                                  std::string_view what) {
  PERSEUS_RETURN_IF_ERROR(check_text(bytes, limit, what, source));
  YamlNode root;
  try {
    std::istringstream stream{std::string(bytes)};
    YAML::Parser parser(stream);
    TreeBuilder builder(root);
    while (parser.HandleNextDocument(builder)) {
    }
  } catch (const Refused& refused) {
    return core::fail(core::ErrorCode::kInvalidInput, refused.message, origin_at(refused.mark, source));
  } catch (const YAML::Exception& error) {
    return core::fail(core::ErrorCode::kInvalidInput, fmt::format("not YAML: {}", error.msg),
                      origin_at(error.mark, source));
  } catch (const std::exception& error) {
    return core::fail(core::ErrorCode::kInternal, fmt::format("the YAML library failed: {}", error.what()),
                      {source});
  }
  if (is_absent(root)) {
    return core::fail(core::ErrorCode::kInvalidInput, fmt::format("the {} is empty", what), {source});
  }
  return root;
}

}  // namespace perseus::format
