// SPDX-License-Identifier: Apache-2.0
#include "perseus/client/client_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <string_view>
#include <utility>

#include "perseus/client/agent_link.h"
#include "perseus/format/schedule_csv.h"
#include "perseus/format/text.h"
#include "perseus/schedule/generate.h"

namespace perseus::client {
namespace {

using core::ErrorCode;

constexpr const char* kJob = "PERSEUS_JOB_ID";
constexpr const char* kBackend = "PERSEUS_BACKEND";
constexpr const char* kTrigger = "PERSEUS_TRIGGER";

/// A text and where it was found.
struct Said {
  std::string value;
  std::string source;
};

/// The option, else the variable; an empty value is none.
std::optional<Said> said(const char* option, const char* option_name, const Environment& environment,
                         const char* variable) {
  if (option != nullptr) return Said{option, option_name};
  if (auto value = environment(variable)) return Said{*std::move(value), variable};
  return std::nullopt;
}

template <class T>
core::Result<T> number(const Said& said) {
  T out{};
  const char* end = said.value.data() + said.value.size();
  const auto [stop, error] = std::from_chars(said.value.data(), end, out);
  if (error == std::errc() && stop == end) return out;
  return core::fail(ErrorCode::kInvalidInput, fmt::format("{} is no number", format::quoted(said.value)),
                    {said.source});
}

/// A whole number of the environment, if it is there.
template <class T>
core::Result<std::optional<T>> environment_number(const Environment& environment, const char* variable) {
  const auto value = environment(variable);
  if (!value) return std::optional<T>();
  PERSEUS_ASSIGN_OR_RETURN(const T out, number<T>({*value, variable}));
  return std::optional<T>(out);
}

core::Result<std::uint64_t> find_incarnation(const perseus_options& options, const Environment& environment) {
  if (options.incarnation != 0) return options.incarnation;
  PERSEUS_ASSIGN_OR_RETURN(const auto own,
                           environment_number<std::uint64_t>(environment, "PERSEUS_INCARNATION"));
  if (own) return *own;
  // Restarts are counted from 0, incarnations from 1.
  for (const char* variable : {"TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT"}) {
    PERSEUS_ASSIGN_OR_RETURN(const auto restarts, environment_number<std::uint64_t>(environment, variable));
    if (restarts) return *restarts + 1;
  }
  return std::uint64_t{1};
}

core::Status take_place(const perseus_options& options, ClientConfig& config) {
  struct Axis {
    const char* name;
    std::uint32_t degree, rank;
    std::uint32_t& out_rank;
  };
  const std::array<Axis, 3> axes = {{{"dp", std::max(options.dp, 1U), options.dp_rank, config.place.dp},
                                     {"pp", std::max(options.pp, 1U), options.pp_rank, config.place.pp},
                                     {"tp", std::max(options.tp, 1U), options.tp_rank, config.place.tp}}};
  for (const Axis& axis : axes) {
    if (axis.rank >= axis.degree) {
      return core::fail(ErrorCode::kInvalidInput, fmt::format("{}_rank is {}; it must be below {} = {}",
                                                              axis.name, axis.rank, axis.name, axis.degree));
    }
    axis.out_rank = axis.rank;
  }
  config.job.data = axes[0].degree;
  config.job.tensor = axes[2].degree;
  return {};
}

core::Result<core::Schedule> orders_of(const perseus_options& options, std::uint32_t pipeline) {
  std::string text;
  for (std::uint32_t rank = 0; rank < pipeline; ++rank) {
    if (options.orders[rank] == nullptr) {
      return core::fail(
          ErrorCode::kInvalidInput,
          fmt::format("the order of pipeline rank {} is missing; there must be pp = {}", rank, pipeline));
    }
    text.append(options.orders[rank]).append("\n");
  }
  PERSEUS_ASSIGN_OR_RETURN(auto parsed, format::parse_schedule_csv(text, "orders"));
  if (parsed.schedule.pipeline() != pipeline) {
    return core::fail(ErrorCode::kInvalidInput, fmt::format("there are orders of {} pipeline ranks; pp is {}",
                                                            parsed.schedule.pipeline(), pipeline));
  }
  return std::move(parsed.schedule);
}

core::Status take_schedule(const perseus_options& options, JobFacts& job) {
  const std::uint32_t pipeline = std::max(options.pp, 1U);
  if (options.schedule != nullptr) {
    job.named = schedule::Request{.name = options.schedule,
                                  .pipeline = pipeline,
                                  .microbatches = options.microbatches,
                                  .virtual_stages = options.virtual_stages,
                                  .group_size = options.group_size};
    // 1 is what PERSEUS_OPTIONS_INIT says: the schedule's own number, where that is another one.
    if (const auto* known = schedule::find_schedule(options.schedule);
        known != nullptr && !known->any_virtual_stages && options.virtual_stages <= 1) {
      job.named->virtual_stages = 0;
    }
    PERSEUS_ASSIGN_OR_RETURN(job.schedule, schedule::generate(*job.named));
    return {};
  }
  if (options.orders == nullptr) {
    return core::fail(ErrorCode::kUsage, "neither schedule nor orders are given; a server needs one of them");
  }
  PERSEUS_ASSIGN_OR_RETURN(job.schedule, orders_of(options, pipeline));
  return {};
}

core::Status take_profiling(const Environment& environment, ClientConfig& config) {
  ProfilingSettings settings;
  // Where clocks are set a missing profile is measured; a dry run must be asked.
  settings.online = config.backend != ClockBackend::kLog;
  if (const auto mode = environment("PERSEUS_PROFILE")) {
    if (*mode != "online" && *mode != "off") {
      return core::fail(ErrorCode::kInvalidInput,
                        fmt::format("{} is neither online nor off", format::quoted(*mode)),
                        {"PERSEUS_PROFILE"});
    }
    settings.online = *mode == "online";
  }
  const auto take = [&]<class T, class To>(const char* variable, To& to) -> core::Status {
    PERSEUS_ASSIGN_OR_RETURN(const auto value, environment_number<T>(environment, variable));
    if (value) to = To(*value);
    return {};
  };
  PERSEUS_RETURN_IF_ERROR(take.operator()<std::uint32_t>("PERSEUS_PROFILE_CLOCKS", settings.clocks));
  PERSEUS_RETURN_IF_ERROR(take.operator()<std::uint32_t>("PERSEUS_PROFILE_STEPS", settings.steps));
  PERSEUS_RETURN_IF_ERROR(take.operator()<double>("PERSEUS_PROFILE_WINDOW_S", settings.window));
  PERSEUS_RETURN_IF_ERROR(take.operator()<double>("PERSEUS_PROFILE_BUDGET_S", settings.budget));
  PERSEUS_RETURN_IF_ERROR(
      take.operator()<double>("PERSEUS_PROFILE_MAX_SLOWDOWN_PCT", settings.max_slowdown_pct));
  config.job.profiling = settings;
  return {};
}

core::Status take_guard(const Environment& environment, GuardSettings& guard) {
  constexpr const char* kMargin = "PERSEUS_GUARD_MARGIN_PCT";
  constexpr const char* kIterations = "PERSEUS_GUARD_ITERATIONS";
  PERSEUS_ASSIGN_OR_RETURN(const auto margin, environment_number<double>(environment, kMargin));
  const bool sound = !margin || (*margin >= 0 && *margin <= 1'000);  // not so for a NaN
  if (!sound) {
    return core::fail(ErrorCode::kInvalidInput, fmt::format("{} is not in 0 to 1000", *margin), {kMargin});
  }
  if (margin) guard.margin = *margin / 100;
  PERSEUS_ASSIGN_OR_RETURN(const auto iterations,
                           environment_number<std::uint32_t>(environment, kIterations));
  if (!iterations) return {};
  if (*iterations == 0 || *iterations > 1'000) {
    return core::fail(ErrorCode::kInvalidInput, fmt::format("{} is not in 1 to 1000", *iterations),
                      {kIterations});
  }
  // What others may be to blame for keeps its multiple.
  guard.patience = guard.patience / guard.iterations * *iterations;
  guard.iterations = *iterations;
  return {};
}

core::Status take_backend(const perseus_options& options, const Environment& environment,
                          ClientConfig& config) {
  const auto name =
      said(options.backend, "backend", environment, kBackend).value_or(Said{"agent", "backend"});
  constexpr std::string_view kLogPrefix = "log:";
  if (name.value == "agent") {
    config.backend = ClockBackend::kAgent;
  } else if (name.value == "direct") {
    config.backend = ClockBackend::kDirect;
  } else if (name.value.starts_with(kLogPrefix) && name.value.size() > kLogPrefix.size()) {
    config.backend = ClockBackend::kLog;
    config.log_file = name.value.substr(kLogPrefix.size());
  } else {
    return core::fail(ErrorCode::kInvalidInput,
                      fmt::format("{} is none of agent, direct and log:FILE", format::quoted(name.value)),
                      {name.source});
  }
  const auto socket = said(options.agent_socket, "agent_socket", environment, "PERSEUS_AGENT_SOCKET");
  config.agent_socket = socket ? socket->value : std::string(kDefaultAgentSocket);
  config.state_dir = environment("PERSEUS_STATE_DIR").value_or("");
  if (environment("PERSEUS_SIM_NVML")) config.reader = gpu::BackendKind::kSim;
  return {};
}

core::Status take_trigger(const perseus_options& options, const Environment& environment,
                          ClientConfig& config) {
  const bool stream = options.stream != nullptr;
  const auto name = said(options.trigger, "trigger", environment, kTrigger);
  if (!name) {
    config.trigger = stream ? TriggerKind::kStreamBest : TriggerKind::kHost;
    return {};
  }
  static constexpr std::array<std::pair<std::string_view, TriggerKind>, 3> kNames = {
      {{"host", TriggerKind::kHost},
       {"stream_write", TriggerKind::kStreamWrite},
       {"event_poll", TriggerKind::kEventPoll}}};
  const auto* const known = std::ranges::find(kNames, name->value, [](const auto& n) { return n.first; });
  if (known == kNames.end()) {
    return core::fail(
        ErrorCode::kInvalidInput,
        fmt::format("{} is none of host, stream_write and event_poll", format::quoted(name->value)),
        {name->source});
  }
  config.trigger = known->second;
  if (config.trigger != TriggerKind::kHost && !stream) {
    return core::fail(ErrorCode::kInvalidInput, fmt::format("{} needs a stream", known->first),
                      {name->source});
  }
  return {};
}

/// The GPU of this rank in the driver's own words. Frameworks count the devices that CUDA_VISIBLE_DEVICES
/// leaves them; a driver counts all.
std::string find_gpu(const perseus_options& options, const Environment& environment) {
  if (options.gpu != nullptr) return options.gpu;
  std::string local = environment("LOCAL_RANK").value_or("0");
  const auto visible = environment("CUDA_VISIBLE_DEVICES");
  std::size_t index = 0;
  const auto [stop, error] = std::from_chars(local.data(), local.data() + local.size(), index);
  if (!visible || error != std::errc() || stop != local.data() + local.size()) return local;
  std::string_view rest = *visible;
  for (;; --index) {
    const std::size_t comma = rest.find(',');
    if (index == 0) return std::string(rest.substr(0, comma));
    if (comma == std::string_view::npos) return local;  // not there: a launcher that hides nothing
    rest.remove_prefix(comma + 1);
  }
}

core::Status take_job(const perseus_options& options, const Environment& environment, ClientConfig& config) {
  PERSEUS_RETURN_IF_ERROR(take_place(options, config));
  const auto job = said(options.job, "job", environment, kJob);
  if (job) config.job.name = job->value;
  PERSEUS_ASSIGN_OR_RETURN(config.job.incarnation, find_incarnation(options, environment));
  if (std::isnan(options.blocking_power_w) || std::isinf(options.blocking_power_w)) {
    return core::fail(ErrorCode::kInvalidInput,
                      fmt::format("blocking_power_w is {}", options.blocking_power_w));
  }
  if (options.blocking_power_w >= 0) config.job.blocking_power = {core::Watts(options.blocking_power_w)};
  const auto fingerprint = said(options.fingerprint, "fingerprint", environment, "PERSEUS_FINGERPRINT");
  if (fingerprint) config.job.fingerprint = fingerprint->value;

  const auto server = said(options.server, "server", environment, "PERSEUS_SERVER");
  config.server = {.url = server ? server->value : "",
                   .token_file = environment("PERSEUS_TOKEN_FILE").value_or(""),
                   .ca_file = environment("PERSEUS_CA_FILE").value_or("")};
  if (config.server.url.empty()) return {};
  if (config.job.name.empty()) {
    return core::fail(ErrorCode::kUsage, fmt::format("no job is named; set job or {}", kJob));
  }
  PERSEUS_RETURN_IF_ERROR(take_schedule(options, config.job));
  return take_profiling(environment, config);
}

}  // namespace

Environment environment_of_process() {
  return [](const char* name) -> std::optional<std::string> {
    // NOLINTNEXTLINE(concurrency-mt-unsafe): nobody changes the environment while Perseus opens
    const char* value = std::getenv(name);
    if (value == nullptr || *value == '\0') return std::nullopt;
    return std::string(value);
  };
}

core::Result<ClientConfig> resolve_config(const perseus_options& options, const Environment& environment) {
  ClientConfig config;
  config.off = environment("PERSEUS") == "0";
  if (config.off) return config;
  PERSEUS_RETURN_IF_ERROR(take_backend(options, environment, config));
  PERSEUS_RETURN_IF_ERROR(take_trigger(options, environment, config));
  PERSEUS_RETURN_IF_ERROR(take_guard(environment, config.guard));
  PERSEUS_RETURN_IF_ERROR(take_job(options, environment, config));
  config.gpu = find_gpu(options, environment);
  return config;
}

}  // namespace perseus::client
