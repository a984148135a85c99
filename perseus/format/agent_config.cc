// SPDX-License-Identifier: Apache-2.0
#include "perseus/format/agent_config.h"

#include <fmt/format.h>

#include <array>
#include <span>

#include "perseus/format/numbers.h"
#include "perseus/format/text.h"
#include "perseus/format/yaml_fields.h"

namespace perseus::format {
namespace {

using core::ErrorCode;
using core::Status;

constexpr std::array<std::string_view, 5> kTopKeys = {"clocks", "clients", "telemetry", "driver", "command"};
constexpr std::array<std::string_view, 4> kClockKeys = {"min_mhz", "max_mhz", "baseline",
                                                        "max_changes_per_s"};
constexpr std::array<std::string_view, 5> kClientKeys = {"max_connections", "max_connections_per_uid",
                                                         "requests_per_s", "first_message_s", "idle_s"};
constexpr std::array<std::string_view, 2> kTelemetryKeys = {"sample_period_s", "write_period_s"};
constexpr std::array<std::string_view, 2> kDriverKeys = {"degraded_after_s", "settle_s"};
constexpr std::array<std::string_view, 3> kCommandKeys = {"lock", "reset", "time_limit_s"};

/// The mailbox has 16 bits for a clock.
constexpr std::uint32_t kMaxMegahertz = 65'535;
constexpr std::uint32_t kMaxConnections = 65'536;
constexpr std::uint32_t kMaxRate = 10'000;

/// Reads one file; one use.
class ConfigReader {
 public:
  explicit ConfigReader(const std::string& source) : fields_(source) {}

  core::Result<AgentConfig> read(const YamlNode& root) {
    PERSEUS_RETURN_IF_ERROR(
        fields_.map(root, "the configuration", kTopKeys, [this](std::size_t key, const YamlNode& value) {
          using Section = Status (ConfigReader::*)(const YamlNode&);
          constexpr std::array<Section, kTopKeys.size()> kSections = {
              &ConfigReader::clocks, &ConfigReader::clients, &ConfigReader::telemetry, &ConfigReader::driver,
              &ConfigReader::command};
          return (this->*kSections.at(key))(value);
        }));
    return std::move(config_);
  }

 private:
  Status megahertz(const YamlNode& node, std::string_view name, std::optional<core::Megahertz>& out) const {
    std::uint32_t mhz = 0;
    PERSEUS_RETURN_IF_ERROR(fields_.whole(node, name, 1, kMaxMegahertz, mhz));
    out = core::Megahertz(mhz);
    return {};
  }

  Status seconds(const YamlNode& node, std::string_view name, double least, double most,
                 core::Seconds& out) const {
    double value = 0;
    PERSEUS_RETURN_IF_ERROR(fields_.number(node, name, "s", least, most, value));
    out = core::Seconds(value);
    return {};
  }

  Status clocks(const YamlNode& node) {
    PERSEUS_RETURN_IF_ERROR(
        fields_.map(node, "clocks", kClockKeys, [this](std::size_t key, const YamlNode& value) -> Status {
          if (key == 0) return megahertz(value, "min_mhz", config_.min_clock);
          if (key == 1) return megahertz(value, "max_mhz", config_.max_clock);
          if (key == 2) return baseline(value);
          return fields_.whole(value, "max_changes_per_s", 1, kMaxRate, config_.max_changes_per_second);
        }));
    return check_clocks(node);
  }

  Status baseline(const YamlNode& node) {
    if (node.type == YamlNode::Type::kPlain && node.text == "default") {
      config_.baseline.reset();
      return {};
    }
    if (megahertz(node, "baseline", config_.baseline)) return {};
    return fields_.refuse(node, "baseline",
                          fmt::format("default, or a whole number of MHz from 1 to {}", kMaxMegahertz));
  }

  [[nodiscard]] Status check_clocks(const YamlNode& node) const {
    const auto& [least, most, base] = std::tie(config_.min_clock, config_.max_clock, config_.baseline);
    if (least && most && *least > *most) {
      return core::fail(ErrorCode::kInvalidInput,
                        fmt::format("min_mhz {} is over max_mhz {}", least->value(), most->value()),
                        fields_.origin(node));
    }
    if (base && ((least && *base < *least) || (most && *base > *most))) {
      return core::fail(ErrorCode::kInvalidInput,
                        fmt::format("baseline {} lies outside min_mhz and max_mhz", base->value()),
                        fields_.origin(node));
    }
    return {};
  }

  Status clients(const YamlNode& node) {
    return fields_.map(
        node, "clients", kClientKeys, [this](std::size_t key, const YamlNode& value) -> Status {
          const std::string_view name = kClientKeys.at(key);
          if (key == 0) return fields_.whole(value, name, 1, kMaxConnections, config_.max_connections);
          if (key == 1)
            return fields_.whole(value, name, 1, kMaxConnections, config_.max_connections_per_uid);
          if (key == 2) return fields_.whole(value, name, 1, kMaxRate, config_.requests_per_second);
          if (key == 3) return seconds(value, name, 0.1, 60, config_.first_message);
          return seconds(value, name, 1, 3600, config_.idle);
        });
  }

  Status telemetry(const YamlNode& node) {
    return fields_.map(node, "telemetry", kTelemetryKeys, [this](std::size_t key, const YamlNode& value) {
      return key == 0 ? seconds(value, kTelemetryKeys[0], 0.02, 10, config_.sample_period)
                      : seconds(value, kTelemetryKeys[1], 0.1, 60, config_.write_period);
    });
  }

  Status driver(const YamlNode& node) {
    return fields_.map(node, "driver", kDriverKeys, [this](std::size_t key, const YamlNode& value) {
      return key == 0 ? seconds(value, kDriverKeys[0], 0.1, 60, config_.degraded_after)
                      : seconds(value, kDriverKeys[1], 0.01, 60, config_.settle);
    });
  }

  Status argv(const YamlNode& node, std::string_view name, std::vector<std::string>& out) const {
    PERSEUS_RETURN_IF_ERROR(fields_.texts(node, name, kMaxCommandArguments, out));
    if (out.front().starts_with('/')) return {};
    return fields_.refuse(node.children.front(), fmt::format("element 1 of {}", name),
                          "the absolute path of a program");
  }

  Status command(const YamlNode& node) {
    PERSEUS_RETURN_IF_ERROR(
        fields_.map(node, "command", kCommandKeys, [this](std::size_t key, const YamlNode& value) {
          if (key == 0) return argv(value, "lock", config_.lock_command);
          if (key == 1) return argv(value, "reset", config_.reset_command);
          return seconds(value, "time_limit_s", 0.1, 60, config_.command_time_limit);
        }));
    if (config_.lock_command.empty() == config_.reset_command.empty()) return {};
    return core::fail(ErrorCode::kInvalidInput, "command needs both lock and reset", fields_.origin(node));
  }

  YamlFields fields_;
  AgentConfig config_;
};

void append_argv(std::string& out, std::string_view name, const std::vector<std::string>& argv) {
  out += fmt::format("  {}: [", name);
  for (std::size_t i = 0; i < argv.size(); ++i) {
    if (i != 0) out += ", ";
    append_json_string(out, argv[i]);
  }
  out += "]\n";
}

}  // namespace

core::Result<AgentConfig> parse_agent_config(std::string_view bytes, const std::string& source) {
  PERSEUS_ASSIGN_OR_RETURN(const YamlNode root,
                           parse_yaml(bytes, source, kMaxAgentConfigBytes, "configuration"));
  return ConfigReader(source).read(root);
}

std::string write_agent_config(const AgentConfig& config) {
  std::string out = "clocks:\n";
  if (config.min_clock) out += fmt::format("  min_mhz: {}\n", config.min_clock->value());
  if (config.max_clock) out += fmt::format("  max_mhz: {}\n", config.max_clock->value());
  out +=
      config.baseline ? fmt::format("  baseline: {}\n", config.baseline->value()) : "  baseline: default\n";
  out += fmt::format("  max_changes_per_s: {}\n", config.max_changes_per_second);
  out += fmt::format("clients:\n  max_connections: {}\n  max_connections_per_uid: {}\n  requests_per_s: {}\n",
                     config.max_connections, config.max_connections_per_uid, config.requests_per_second);
  out += fmt::format("  first_message_s: {}\n  idle_s: {}\n", number_text(config.first_message.value()),
                     number_text(config.idle.value()));
  out += fmt::format("telemetry:\n  sample_period_s: {}\n  write_period_s: {}\n",
                     number_text(config.sample_period.value()), number_text(config.write_period.value()));
  out += fmt::format("driver:\n  degraded_after_s: {}\n  settle_s: {}\n",
                     number_text(config.degraded_after.value()), number_text(config.settle.value()));
  out += "command:\n";
  if (!config.lock_command.empty()) {
    append_argv(out, "lock", config.lock_command);
    append_argv(out, "reset", config.reset_command);
  }
  out += fmt::format("  time_limit_s: {}\n", number_text(config.command_time_limit.value()));
  return out;
}

}  // namespace perseus::format
