// SPDX-License-Identifier: Apache-2.0
#include "perseus/client/open_session.h"

#include <fmt/format.h>

#include <chrono>
#include <utility>

#include "perseus/client/agent_link.h"
#include "perseus/client/energy_sampler.h"
#include "perseus/client/guard_link.h"
#include "perseus/client/hold_sink.h"
#include "perseus/client/log_sink.h"

namespace perseus::client {
namespace {

/// An agent that lives answers in milliseconds; closing waits for an attempt in progress.
constexpr std::chrono::milliseconds kAgentLimit{1'000};

/// What the agent's audit calls this rank.
std::string rank_name(const ClientConfig& config) {
  return fmt::format("rank dp{} pp{} tp{}", config.place.dp, config.place.pp, config.place.tp);
}

EndpointMaker endpoint_of(const ClientConfig& config) {
  if (config.backend == ClockBackend::kAgent) {
    return [socket = config.agent_socket] { return std::make_unique<AgentEndpoint>(socket); };
  }
  GuardOptions guard;
  if (config.reader == gpu::BackendKind::kSim) guard.backend = "sim";
  guard.state_dir = config.state_dir;
  return [guard] { return std::make_unique<GuardEndpoint>(guard); };
}

StreamMode mode_of(TriggerKind kind) {
  if (kind == TriggerKind::kStreamWrite) return StreamMode::kWrite;
  return kind == TriggerKind::kEventPoll ? StreamMode::kEventPoll : StreamMode::kBest;
}

/// Null for host time. A driver that offers no stream signals at all is an error only where one was asked for
/// by name.
core::Result<std::unique_ptr<StreamTrigger>> make_trigger(const ClientConfig& config, void* stream,
                                                          const SessionLog& log) {
  std::unique_ptr<StreamTrigger> none;
  if (config.trigger == TriggerKind::kHost) return none;
  auto trigger = [&]() -> core::Result<std::unique_ptr<StreamTrigger>> {
    PERSEUS_ASSIGN_OR_RETURN(auto cuda, CudaDriver::load());
    return StreamTrigger::open(std::move(cuda), stream, mode_of(config.trigger), {});
  }();
  if (trigger || config.trigger != TriggerKind::kStreamBest) return trigger;
  log(true, fmt::format("clocks at host time, ahead of the GPU: {}", trigger.error().text()));
  return none;
}

core::Result<std::unique_ptr<ClockSink>> make_sink(const ClientConfig& config) {
  if (config.backend == ClockBackend::kLog) {
    return LogSink::open(config.log_file, lease::SystemTime::instance());
  }
  // Without a server there is never a clock to ask for, and so no lease to take.
  if (config.server.url.empty()) return std::make_unique<NullSink>();
  HoldSinkOptions options{.gpu = config.gpu, .job = config.job.name, .link = {.client = rank_name(config)}};
  if (config.backend == ClockBackend::kAgent) options.patience = options.link.reply_limit = kAgentLimit;
  auto sink = std::make_unique<HoldSink>(endpoint_of(config), std::move(options));
  sink->wait_for_first_try(kAgentPatience);
  return sink;
}

}  // namespace

core::Result<std::unique_ptr<RankSession>> open_session(const ClientConfig& config, void* stream,
                                                        SessionLog log) {
  SessionParts parts;
  PERSEUS_ASSIGN_OR_RETURN(parts.trigger, make_trigger(config, stream, log));
  if (!config.server.url.empty()) {
    ServerLinkOptions options;
    options.server = config.server;
    options.job = config.job;
    options.place = config.place;
    options.log = log;
    PERSEUS_ASSIGN_OR_RETURN(auto link, make_server_link(std::move(options)));
    parts.on_gpu = [server = link.get()](const TelemetryGpu& gpu, bool clock_control) {
      server->set_gpu({gpu.uuid, gpu.clocks, gpu.counter_period, clock_control});
    };
    parts.link = std::move(link);
  }
  PERSEUS_ASSIGN_OR_RETURN(parts.sink, make_sink(config));
  parts.log = std::move(log);
  SamplerSettings sampler;
  sampler.gpu = config.gpu;
  sampler.backend.kind = config.reader;
  parts.telemetry = std::make_unique<EnergySampler>(std::move(sampler));
  SessionSettings settings;
  settings.recorder.guard = config.guard;
  return std::make_unique<RankSession>(settings, std::move(parts));
}

}  // namespace perseus::client
