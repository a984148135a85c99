// SPDX-License-Identifier: Apache-2.0
#include "perseus/demo/rank.h"

#include <fmt/format.h>

#include <array>
#include <chrono>
#include <memory>
#include <optional>
#include <thread>
#include <utility>

#include "perseus/client/perseus.h"
#include "perseus/core/schedule.h"
#include "perseus/format/numbers.h"
#include "perseus/schedule/generate.h"
#include "perseus/simgpu/node.h"

namespace perseus::demo {
namespace {

using core::ErrorCode;

constexpr double kLongestWait = 3600;                 ///< s, of an action. Assumed: no test takes longer
constexpr std::uint64_t kContextBytes = 1ULL << 30U;  ///< what the driver's list says of a rank. Assumed

struct CloseClient {
  void operator()(perseus_client* client) const { perseus_close(client); }
};
using ClientHandle = std::unique_ptr<perseus_client, CloseClient>;

/// As a framework's adapter opens it. Options that Perseus refuses are an error here: the demo's own mistake.
core::Result<ClientHandle> open_client(const RankOptions& options) {
  const std::string gpu = fmt::format("{}", options.gpu);
  perseus_options o = PERSEUS_OPTIONS_INIT;
  o.job = options.job.c_str();
  o.incarnation = options.incarnation;
  o.dp = options.place.pipelines;
  o.pp = options.place.stages;
  o.dp_rank = options.place.pipeline;
  o.pp_rank = options.place.stage;
  o.schedule = "1f1b";
  o.microbatches = options.microbatches;
  o.gpu = gpu.c_str();
  o.blocking_power_w = options.blocking_power_w;
  if (!options.fingerprint.empty()) o.fingerprint = options.fingerprint.c_str();
  perseus_client* client = nullptr;
  std::array<char, 512> message{};
  if (const int error = perseus_open(&o, &client, message.data(), message.size()); error != 0) {
    return core::fail(ErrorCode::kInvalidInput,
                      fmt::format("perseus_open: {} (error {})", message.data(), error));
  }
  return ClientHandle(client);
}

void sleep_for(double seconds) {
  std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
}

class Rank final : public TrainingRank {
 public:
  Rank(RankOptions options, simgpu::Node node, Mesh mesh, ClientHandle client,
       std::vector<core::Computation> order)
      : options_(std::move(options)),
        node_(std::move(node)),
        mesh_(std::move(mesh)),
        client_(std::move(client)),
        order_(std::move(order)) {}

  core::Status train(const std::atomic<bool>& stop,
                     const std::function<void(const std::string&)>& tell) override {
    tell(fmt::format(R"({{"event":"joined","pipeline":{},"stage":{},"gpu":{}}})", options_.place.pipeline,
                     options_.place.stage, options_.gpu));
    std::uint64_t step = 0;
    for (bool over = false; !over; ++step) {
      if (const Action* pause = action(ActionKind::kPause, step)) sleep_for(pause->seconds);
      const std::int64_t begin_ns = node_.now_ns();
      perseus_begin_step_at(client_.get(), step);
      PERSEUS_RETURN_IF_ERROR(run_order(step));
      const bool last = options_.steps != 0 && step + 1 >= options_.steps;
      PERSEUS_ASSIGN_OR_RETURN(const std::uint32_t asked, mesh_.reduce(step, stop || last ? 1 : 0));
      over = asked != 0;
      perseus_end_step(client_.get());
      tell(step_line(step, begin_ns));
    }
    tell(fmt::format(R"({{"event":"end","pipeline":{},"stage":{},"steps":{}}})", options_.place.pipeline,
                     options_.place.stage, step));
    return {};
  }

 private:
  const Action* action(ActionKind kind, std::uint64_t step) const {
    for (const Action& each : options_.actions) {
      if (each.kind == kind && each.step == step) return &each;
    }
    return nullptr;
  }

  core::Status run_order(std::uint64_t step) {
    const Action* stall = action(ActionKind::kStall, step);
    const bool missing = action(ActionKind::kMissing, step) != nullptr;
    const bool reorder = action(ActionKind::kReorder, step) != nullptr;
    if (action(ActionKind::kExtra, step) != nullptr) announce_strangers();
    for (std::size_t i = 0; i < order_.size(); ++i) {
      const core::Computation& computation = order_[i];
      if (stall != nullptr && i == order_.size() / 2) sleep_for(stall->seconds);
      std::uint32_t announced = computation.microbatch;
      if (reorder && announced < 2 && options_.microbatches > 1) announced ^= 1U;
      const bool hooks = !missing || computation.microbatch != 0;
      PERSEUS_RETURN_IF_ERROR(computation.kind == core::Kind::kForward
                                  ? forward(step, computation.microbatch, announced, hooks)
                                  : backward(step, computation.microbatch, announced, hooks));
    }
    return {};
  }

  core::Status forward(std::uint64_t step, std::uint32_t microbatch, std::uint32_t announced, bool hooks) {
    PERSEUS_RETURN_IF_ERROR(mesh_.await_activation(step, microbatch));
    PERSEUS_RETURN_IF_ERROR(compute(PERSEUS_FORWARD, options_.work.forward, announced, hooks));
    return mesh_.send_activation(step, microbatch);
  }

  core::Status backward(std::uint64_t step, std::uint32_t microbatch, std::uint32_t announced, bool hooks) {
    PERSEUS_RETURN_IF_ERROR(mesh_.await_gradient(step, microbatch));
    PERSEUS_RETURN_IF_ERROR(compute(PERSEUS_BACKWARD, options_.work.backward, announced, hooks));
    return mesh_.send_gradient(step, microbatch);
  }

  core::Status compute(perseus_kind kind, core::Seconds duration, std::uint32_t announced, bool hooks) {
    if (hooks) perseus_begin(client_.get(), kind, options_.place.stage, announced);
    auto done = node_.run(options_.gpu, {.duration = duration,
                                         .memory_bound = options_.work.memory_bound,
                                         .utilization = options_.work.utilization,
                                         .memory_utilization = options_.work.memory_utilization});
    if (hooks) perseus_end(client_.get(), kind, options_.place.stage, announced);
    return done ? core::Status() : core::Status(std::unexpected(std::move(done).error()));
  }

  /// A kind that 1F1B does not have, and a microbatch beyond the last.
  void announce_strangers() {
    const std::uint32_t stage = options_.place.stage;
    perseus_begin(client_.get(), PERSEUS_RECOMPUTE, stage, 0);
    perseus_end(client_.get(), PERSEUS_RECOMPUTE, stage, 0);
    perseus_begin(client_.get(), PERSEUS_FORWARD, stage, options_.microbatches);
    perseus_end(client_.get(), PERSEUS_FORWARD, stage, options_.microbatches);
  }

  std::string step_line(std::uint64_t step, std::int64_t begin_ns) const {
    perseus_state s{};
    s.size = sizeof s;
    static_cast<void>(perseus_get_state(client_.get(), &s));  // without a client everything stays 0
    return fmt::format(
        R"({{"event":"step","pipeline":{},"stage":{},"step":{},"begin_ns":{},"end_ns":{},)"
        R"("generation":{},"clock_mhz":{},"server":{},"clock":{},"posts":{},"unknown":{},"missing":{},)"
        R"("guard_trips":{},"plans_taken":{},"plans_expired":{},"hook_timeouts":{}}})",
        options_.place.pipeline, options_.place.stage, step, begin_ns, node_.now_ns(), s.generation,
        s.clock_mhz, s.server_connected, s.clock_connected, s.posts, s.unknown_operations,
        s.missing_operations, s.guard_trips, s.plans_taken, s.plans_expired, s.hook_timeouts);
  }

  RankOptions options_;
  simgpu::Node node_;
  Mesh mesh_;
  ClientHandle client_;
  std::vector<core::Computation> order_;
};

constexpr std::array<std::pair<std::string_view, ActionKind>, 5> kActions = {
    {{"pause", ActionKind::kPause},
     {"stall", ActionKind::kStall},
     {"extra", ActionKind::kExtra},
     {"missing", ActionKind::kMissing},
     {"reorder", ActionKind::kReorder}}};

}  // namespace

core::Result<Action> parse_action(std::string_view text) {
  const auto refuse = [&] {
    return core::fail(ErrorCode::kUsage,
                      fmt::format("\"{}\" is no action: STEP=pause:SECONDS, STEP=stall:SECONDS, STEP=extra, "
                                  "STEP=missing or STEP=reorder",
                                  text));
  };
  const std::size_t equals = text.find('=');
  if (equals == std::string_view::npos) return refuse();
  const auto step = format::parse_integer<std::uint64_t>(text.substr(0, equals));
  std::string_view name = text.substr(equals + 1);
  const std::size_t colon = name.find(':');
  std::optional<double> seconds;
  if (colon != std::string_view::npos) {
    seconds = format::parse_number(name.substr(colon + 1));
    if (!seconds || *seconds < 0 || *seconds > kLongestWait) return refuse();
    name = name.substr(0, colon);
  }
  for (const auto& [known, kind] : kActions) {
    if (known != name || !step) continue;
    const bool waits = kind == ActionKind::kPause || kind == ActionKind::kStall;
    if (waits != seconds.has_value()) return refuse();
    return Action{.kind = kind, .step = *step, .seconds = seconds.value_or(0)};
  }
  return refuse();
}

core::Result<std::unique_ptr<TrainingRank>> join_training(RankOptions options) {
  PERSEUS_ASSIGN_OR_RETURN(simgpu::Node node, simgpu::Node::open_environment());
  PERSEUS_RETURN_IF_ERROR(node.attach_process(options.gpu, kContextBytes));
  PERSEUS_ASSIGN_OR_RETURN(core::Schedule order, schedule::generate({.name = "1f1b",
                                                                     .pipeline = options.place.stages,
                                                                     .microbatches = options.microbatches}));
  const auto patience = std::chrono::duration<double>(options.patience.value());
  const Deadline deadline =
      std::chrono::steady_clock::now() + std::chrono::duration_cast<std::chrono::nanoseconds>(patience);
  PERSEUS_ASSIGN_OR_RETURN(ClientHandle client, open_client(options));
  PERSEUS_ASSIGN_OR_RETURN(Mesh mesh, Mesh::join(options.place, deadline));
  std::vector<core::Computation> own = std::move(order.ranks[options.place.stage]);
  return std::make_unique<Rank>(std::move(options), std::move(node), std::move(mesh), std::move(client),
                                std::move(own));
}

}  // namespace perseus::demo
