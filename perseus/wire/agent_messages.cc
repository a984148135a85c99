// SPDX-License-Identifier: Apache-2.0
//
// Writing. Texts are made printable first, so that whatever is written is read by the other side.
#include "perseus/wire/agent_messages.h"

#include <fmt/format.h>

#include <algorithm>
#include <span>

#include "perseus/format/numbers.h"
#include "perseus/format/text.h"
#include "perseus/wire/agent_limits.h"

namespace perseus::wire {
namespace {

/// A JSON object that is being written, member by member.
class ObjectWriter {
 public:
  explicit ObjectWriter(std::string& out) : out_(out) { out_ += '{'; }
  ObjectWriter(std::string& out, std::string_view type) : ObjectWriter(out) {
    text("type", type, kMaxMessage);
  }

  void text(std::string_view name, std::string_view value, std::size_t limit) {
    member(name);
    format::append_json_string(out_, format::printable(value, limit));
  }
  void whole(std::string_view name, std::uint64_t value) {
    member(name);
    out_ += fmt::to_string(value);
  }
  void truth(std::string_view name, bool value) {
    member(name);
    out_ += value ? "true" : "false";
  }
  void real(std::string_view name, double value) {
    member(name);
    format::append_number(out_, value);
  }
  void clock(std::string_view name, std::optional<core::Megahertz> value) {
    member(name);
    out_ += value ? fmt::to_string(value->value()) : "null";
  }
  template <class Unit>
  void reading(std::string_view name, std::optional<core::Quantity<Unit>> value) {
    member(name);
    if (value) {
      format::append_number(out_, value->value());
    } else {
      out_ += "null";
    }
  }
  void clocks(std::string_view name, std::span<const core::Megahertz> values) {
    member(name);
    out_ += '[';
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (i > 0) out_ += ',';
      out_ += fmt::to_string(values[i].value());
    }
    out_ += ']';
  }
  /// Begins a member that the caller writes.
  void member(std::string_view name) {
    if (!first_) out_ += ',';
    first_ = false;
    out_ += fmt::format("\"{}\":", name);
  }
  void close() { out_ += '}'; }

 private:
  std::string& out_;
  bool first_ = true;
};

template <class T, class Write>
void write_array(std::string& out, const std::vector<T>& items, Write&& write) {
  out += '[';
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (i > 0) out += ',';
    write(items[i]);
  }
  out += ']';
}

void write_agent_gpu(std::string& out, const AgentGpu& gpu) {
  ObjectWriter json(out);
  json.whole("index", gpu.index);
  json.text("uuid", gpu.uuid, kMaxProduct);
  json.text("name", gpu.name, kMaxProduct);
  json.clocks("clocks_mhz", gpu.clocks);
  json.truth("controllable", gpu.controllable);
  json.text("reason", gpu.reason, kMaxReason);
  json.close();
}

void write_gpu_status(std::string& out, const GpuStatus& gpu) {
  ObjectWriter json(out);
  json.whole("index", gpu.index);
  json.text("uuid", gpu.uuid, kMaxProduct);
  json.text("name", gpu.name, kMaxProduct);
  json.text("state", gpu.state, kMaxVersion);
  json.text("reason", gpu.reason, kMaxReason);
  json.clock("intended_mhz", gpu.intended);
  json.clock("sm_clock_mhz", gpu.sm_clock);
  json.reading("power_w", gpu.power);
  json.reading("energy_j", gpu.energy);
  json.reading("temperature_c", gpu.temperature);
  json.text("owner", gpu.owner, kMaxOwner);
  json.whole("clock_changes", gpu.clock_changes);
  json.whole("refused", gpu.refused);
  json.whole("failed", gpu.failed);
  json.close();
}

/// One overload for each message; `out` gets the object.
struct Writer {
  std::string& out;

  void operator()(const Hello& m) const {
    ObjectWriter json(out, "hello");
    json.whole("protocol", m.protocol);
    json.text("client", m.client, kMaxAgentName);
    json.close();
  }
  void operator()(const Acquire& m) const {
    ObjectWriter json(out, "acquire");
    json.text("gpu", m.gpu, kMaxProduct);
    json.text("job", m.job, kMaxAgentName);
    json.whole("time_to_live_ms", static_cast<std::uint64_t>(m.time_to_live.count()));
    json.close();
  }
  void operator()(const Renew& m) const { of_lease("renew", m.lease); }
  void operator()(const Release& m) const { of_lease("release", m.lease); }
  void operator()(const GetStatus&) const { ObjectWriter(out, "status").close(); }
  void operator()(const Quiesce& m) const {
    ObjectWriter json(out, "quiesce");
    if (m.resume_after) json.whole("resume_after_ms", static_cast<std::uint64_t>(m.resume_after->count()));
    json.close();
  }
  void operator()(const Resume&) const { ObjectWriter(out, "resume").close(); }

  void operator()(const Welcome& m) const {
    ObjectWriter json(out, "welcome");
    json.whole("protocol", m.protocol);
    json.text("version", m.version, kMaxVersion);
    json.text("backend", m.backend, kMaxVersion);
    json.member("gpus");
    write_array(out, m.gpus, [&](const AgentGpu& gpu) { write_agent_gpu(out, gpu); });
    json.close();
  }
  void operator()(const Acquired& m) const {
    ObjectWriter json(out, "acquired");
    json.whole("lease", m.lease);
    json.text("gpu", m.gpu, kMaxProduct);
    json.clock("baseline_mhz", m.baseline);
    json.clocks("clocks_mhz", m.clocks);
    json.whole("time_to_live_ms", static_cast<std::uint64_t>(m.time_to_live.count()));
    json.close();
  }
  void operator()(const Ok&) const { ObjectWriter(out, "ok").close(); }
  void operator()(const AgentStatus& m) const {
    ObjectWriter json(out, "status");
    json.text("version", m.version, kMaxVersion);
    json.text("backend", m.backend, kMaxVersion);
    json.text("driver", m.driver, kMaxVersion);
    json.truth("quiesced", m.quiesced);
    json.real("uptime_s", m.uptime_s);
    json.member("gpus");
    write_array(out, m.gpus, [&](const GpuStatus& gpu) { write_gpu_status(out, gpu); });
    json.close();
  }
  void operator()(const Refusal& m) const {
    ObjectWriter json(out, "error");
    json.text("code", core::info(m.code).name, kMaxVersion);
    json.text("message", m.message, kMaxMessage);
    json.close();
  }
  void operator()(const Ended& m) const {
    ObjectWriter json(out, "ended");
    json.whole("lease", m.lease);
    json.text("reason", m.reason, kMaxReason);
    json.close();
  }

 private:
  void of_lease(std::string_view type, std::uint64_t lease) const {
    ObjectWriter json(out, type);
    json.whole("lease", lease);
    json.close();
  }
};

}  // namespace

std::string encode(const AgentRequest& request) {
  std::string out;
  std::visit(Writer{out}, request);
  return out;
}

std::string encode(const AgentReply& reply) {
  std::string out;
  std::visit(Writer{out}, reply);
  return out;
}

}  // namespace perseus::wire
