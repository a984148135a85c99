// SPDX-License-Identifier: Apache-2.0
#include "perseus/agent/metrics.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <system_error>
#include <utility>

#include "perseus/format/grants.h"
#include "perseus/format/numbers.h"
#include "perseus/format/text.h"

namespace perseus::agent {
namespace {

constexpr std::array<MetricInfo, 25> kTable = {{
    {"perseus_gpu_sm_clock_megahertz", "gauge", "", "SM clock at this moment; low while the GPU idles"},
    {"perseus_gpu_intended_clock_megahertz", "gauge", "",
     "Clock at which the agent holds the GPU; absent while it is at its baseline"},
    {"perseus_gpu_baseline_clock_megahertz", "gauge", "",
     "Configured baseline; absent where it is the driver's default"},
    {"perseus_gpu_power_watts", "gauge", "",
     "Power drawn, momentary where the product tells it, else averaged"},
    {"perseus_gpu_energy_joules_total", "counter", "",
     "Energy since the agent started; what falls into a restart of the driver is left out"},
    {"perseus_gpu_energy_gaps_total", "counter", "", "Restarts of the energy counter that left a gap"},
    {"perseus_gpu_temperature_celsius", "gauge", "", "Temperature of the GPU"},
    {"perseus_gpu_utilization_ratio", "gauge", "", "Share of time in which a kernel ran, 0 to 1"},
    {"perseus_gpu_clock_reason_seconds_total", "counter", "reason",
     "Time for which this reason held the clock down; divide by perseus_gpu_observed_seconds_total"},
    {"perseus_gpu_observed_seconds_total", "counter", "", "Time for which the reasons were observed"},
    {"perseus_gpu_state", "gauge", "state", "1 for the state the GPU is in, else 0"},
    {"perseus_gpu_clock_requests_total", "counter", "result",
     "Clocks asked for by lease holders: applied, equal (nothing to do), refused, failed (by the driver)"},
    {"perseus_gpu_clock_driver_seconds_total", "counter", "",
     "Time spent in driver calls for these requests"},
    {"perseus_gpu_lease_events_total", "counter", "event",
     "Leases acquired, refused, released, expired, ended (by the agent, or because the holder is gone), "
     "yielded"},
    {"perseus_gpu_restores_total", "counter", "result",
     "Returns to the baseline: ok, failed (and tried again)"},
    {"perseus_gpu_readings_total", "counter", "result", "Rounds of readings: ok, failed"},
    {"perseus_gpu_reading_driver_seconds_total", "counter", "", "Time spent in driver calls for readings"},
    {"perseus_agent_info", "gauge", "version, backend, driver", "1"},
    {"perseus_agent_uptime_seconds", "gauge", "", "Time since the agent started"},
    {"perseus_agent_quiesced", "gauge", "", "1 while the agent has let go of all GPUs"},
    {"perseus_agent_connections", "gauge", "", "Open connections"},
    {"perseus_agent_connections_total", "counter", "result",
     "Connections accepted, turned_away (over a limit), timed_out (silent)"},
    {"perseus_agent_requests_total", "counter", "", "Requests read"},
    {"perseus_agent_requests_refused_total", "counter", "reason",
     "Requests refused, and packets that were malformed (counted as refused too)"},
    {"perseus_agent_audit_lines_lost_total", "counter", "", "Audit lines that could not be written"},
}};

constexpr std::array<std::string_view, 7> kStates = {"free",     "leased", "yielded", "uncontrollable",
                                                     "degraded", "lost",   "quiesced"};

/// A label's value as the format wants it: backslash, quote and newline escaped.
std::string label(std::string_view value) {
  std::string out;
  for (const char c : value) {
    if (c == '\\' || c == '"') out += '\\';
    if (c == '\n') {
      out += "\\n";
    } else {
      out += c;
    }
  }
  return out;
}

/// Writes metric after metric, in the order of the table, and so that none is forgotten.
class Writer {
 public:
  explicit Writer(const AgentMetrics& metrics) : metrics_(metrics) {}

  /// A metric of every GPU with one value or none.
  template <class Value>
  void per_gpu(std::string_view name, Value&& value) {
    head(name);
    for (const GpuMetrics& gpu : metrics_.gpus) {
      if (const std::optional<double> number = value(gpu)) line(name, gpu_labels(gpu), *number);
    }
  }
  /// A metric of every GPU with one value for each value of a label.
  template <class Values>
  void per_gpu(std::string_view name, std::string_view label_name, Values&& values) {
    head(name);
    for (const GpuMetrics& gpu : metrics_.gpus) {
      for (const auto& [key, number] : values(gpu)) {
        line(name, fmt::format("{},{}=\"{}\"", gpu_labels(gpu), label_name, label(key)), number);
      }
    }
  }
  void one(std::string_view name, double value, std::string_view labels = {}) {
    head(name);
    line(name, labels, value);
  }
  void many(std::string_view name, std::string_view label_name,
            std::span<const std::pair<std::string_view, double>> values) {
    head(name);
    for (const auto& [key, number] : values) line(name, fmt::format("{}=\"{}\"", label_name, key), number);
  }
  [[nodiscard]] std::string take() { return std::move(out_); }

 private:
  static std::string gpu_labels(const GpuMetrics& gpu) {
    return fmt::format("gpu=\"{}\",uuid=\"{}\"", gpu.status.index, label(gpu.status.uuid));
  }
  void head(std::string_view name) {
    const MetricInfo& info = kTable.at(next_++);
    out_ += fmt::format("# HELP {} {}\n# TYPE {} {}\n", info.name, info.help, info.name, info.type);
    if (info.name != name) out_ += "# a metric out of its order\n";  // excluded by a test
  }
  void line(std::string_view name, std::string_view labels, double value) {
    out_ += name;
    if (!labels.empty()) out_ += fmt::format("{{{}}}", labels);
    out_ += ' ';
    format::append_number(out_, value);
    out_ += '\n';
  }

  const AgentMetrics& metrics_;
  std::string out_;
  std::size_t next_ = 0;
};

using Labelled = std::vector<std::pair<std::string_view, double>>;

double number(std::uint64_t count) {
  return static_cast<double>(count);
}

template <class Quantity>
std::optional<double> value_of(const std::optional<Quantity>& quantity) {
  if (!quantity) return std::nullopt;
  return static_cast<double>(quantity->value());
}

Labelled reason_times(const GpuMetrics& gpu) {
  Labelled values;
  for (std::size_t i = 0; i < kReasonNames.size(); ++i) {
    values.emplace_back(kReasonNames.at(i), gpu.telemetry.reason_time().at(i).value());
  }
  return values;
}

Labelled states(const GpuMetrics& gpu) {
  Labelled values;
  for (const std::string_view state : kStates) values.emplace_back(state, state == gpu.status.state ? 1 : 0);
  return values;
}

void write_readings(Writer& out) {
  out.per_gpu(kTable[0].name, [](const GpuMetrics& g) { return value_of(g.status.sm_clock); });
  out.per_gpu(kTable[1].name, [](const GpuMetrics& g) { return value_of(g.status.intended); });
  out.per_gpu(kTable[2].name, [](const GpuMetrics& g) { return value_of(g.baseline); });
  out.per_gpu(kTable[3].name, [](const GpuMetrics& g) { return value_of(g.status.power); });
  out.per_gpu(kTable[4].name, [](const GpuMetrics& g) { return value_of(g.telemetry.energy()); });
  out.per_gpu(kTable[5].name, [](const GpuMetrics& g) -> std::optional<double> {
    return number(g.telemetry.dropped_energy_deltas());
  });
  out.per_gpu(kTable[6].name, [](const GpuMetrics& g) { return value_of(g.status.temperature); });
  out.per_gpu(kTable[7].name, [](const GpuMetrics& g) { return g.telemetry.last().utilization; });
  out.per_gpu(kTable[8].name, "reason", reason_times);
  out.per_gpu(kTable[9].name,
              [](const GpuMetrics& g) -> std::optional<double> { return g.telemetry.observed().value(); });
  out.per_gpu(kTable[10].name, "state", states);
}

void write_leases(Writer& out) {
  out.per_gpu(kTable[11].name, "result", [](const GpuMetrics& g) {
    return Labelled{{"applied", number(g.changes.applied)},
                    {"equal", number(g.changes.equal)},
                    {"refused", number(g.changes.refused)},
                    {"failed", number(g.changes.failed)}};
  });
  out.per_gpu(kTable[12].name,
              [](const GpuMetrics& g) -> std::optional<double> { return g.clock_call_time.value(); });
  out.per_gpu(kTable[13].name, "event", [](const GpuMetrics& g) {
    return Labelled{{"acquired", number(g.leases.acquired)}, {"refused", number(g.leases.refused)},
                    {"released", number(g.leases.released)}, {"expired", number(g.leases.expired)},
                    {"ended", number(g.leases.ended)},       {"yielded", number(g.leases.yielded)}};
  });
  out.per_gpu(kTable[14].name, "result", [](const GpuMetrics& g) {
    return Labelled{{"ok", number(g.leases.restored)}, {"failed", number(g.leases.restore_failures)}};
  });
  out.per_gpu(kTable[15].name, "result", [](const GpuMetrics& g) {
    const Telemetry& t = g.telemetry;
    return Labelled{{"ok", number(t.readings() - t.failed_readings())},
                    {"failed", number(t.failed_readings())}};
  });
  out.per_gpu(kTable[16].name,
              [](const GpuMetrics& g) -> std::optional<double> { return g.telemetry.driver_time().value(); });
}

void write_agent(Writer& out, const AgentMetrics& metrics) {
  out.one(kTable[17].name, 1,
          fmt::format("version=\"{}\",backend=\"{}\",driver=\"{}\"", label(metrics.status.version),
                      label(metrics.status.backend), label(metrics.status.driver)));
  out.one(kTable[18].name, metrics.status.uptime_s);
  out.one(kTable[19].name, metrics.status.quiesced ? 1 : 0);
  out.one(kTable[20].name, number(metrics.connections));
  const ServerCounters& server = metrics.server;
  out.many(kTable[21].name, "result",
           Labelled{{"accepted", number(server.accepted)},
                    {"turned_away", number(server.turned_away)},
                    {"timed_out", number(server.timed_out)}});
  out.one(kTable[22].name, number(server.requests));
  out.many(kTable[23].name, "reason",
           Labelled{{"refused", number(server.refused)}, {"malformed", number(server.malformed)}});
  out.one(kTable[24].name, number(metrics.audit_lines_lost));
}

std::string json_clock(std::optional<core::Megahertz> clock) {
  return clock ? fmt::format("{}", clock->value()) : "null";
}

std::unexpected<core::Error> refuse(const std::string& path) {
  const core::ErrorCode code = errno == ENOENT ? core::ErrorCode::kNotFound : core::ErrorCode::kIo;
  return core::fail(code, fmt::format("cannot write: {}", std::generic_category().message(errno)), {path});
}

}  // namespace

std::span<const MetricInfo> metric_table() {
  return kTable;
}

std::span<const std::string_view> state_names() {
  return kStates;
}

std::string metrics_text(const AgentMetrics& metrics) {
  Writer out(metrics);
  write_readings(out);
  write_leases(out);
  write_agent(out, metrics);
  return out.take();
}

std::string intended_json(const AgentMetrics& metrics, std::chrono::system_clock::time_point at) {
  std::string out = fmt::format("{{\"format\":\"perseus-intended/1\",\"time\":\"{}\",\"gpus\":[",
                                format::utc_text(std::chrono::floor<std::chrono::seconds>(at)));
  for (const GpuMetrics& gpu : metrics.gpus) {
    if (&gpu != metrics.gpus.data()) out += ',';
    out += fmt::format("{{\"index\":{},\"uuid\":", gpu.status.index);
    format::append_json_string(out, gpu.status.uuid);
    out +=
        fmt::format(",\"state\":\"{}\",\"intended_mhz\":{},\"baseline_mhz\":{},\"reason\":", gpu.status.state,
                    json_clock(gpu.status.intended), json_clock(gpu.baseline));
    format::append_json_string(out, gpu.status.reason);
    out += '}';
  }
  return out + "]}\n";
}

core::Status publish_file(const std::string& path, std::string_view bytes) {
  // The agent is alone in its folder: a fixed name for the new file leaves nothing behind.
  const std::string fresh = path + ".new";
  (void)::unlink(fresh.c_str());
  format::UniqueFd file(::open(fresh.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644));
  if (!file) return refuse(path);
  constexpr mode_t kReadable = S_IRUSR | S_IWUSR | S_IRGRP | S_IROTH;
  const bool whole = ::write(file.get(), bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size());
  if (whole && ::fchmod(file.get(), kReadable) == 0 && ::rename(fresh.c_str(), path.c_str()) == 0) return {};
  auto refused = refuse(path);
  (void)::unlink(fresh.c_str());
  return refused;
}

}  // namespace perseus::agent
