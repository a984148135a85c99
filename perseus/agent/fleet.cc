// SPDX-License-Identifier: Apache-2.0
#include "perseus/agent/fleet.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "perseus/agent/durations.h"
#include "perseus/format/numbers.h"

namespace perseus::agent {
namespace {

using core::ErrorCode;

/// Between tries of opening the driver's library: soon at first, since clocks may be waiting to come back.
constexpr lease::Backoff::Limits kReopenLimits{std::chrono::milliseconds(100), std::chrono::seconds(5)};
/// The same while a GPU is lost: it may have been reset by somebody, but most stay lost until a reboot, and
/// each try makes all others wait (assumed).
constexpr lease::Backoff::Limits kLostLimits{std::chrono::seconds(10), std::chrono::minutes(10)};

std::vector<std::string> names_of(const gpu::Backend& backend) {
  std::vector<std::string> names;
  for (const gpu::Device* device : backend.devices()) {
    names.push_back(fmt::format("GPU {}", device->identity().index));
  }
  return names;
}

WallTime wall_now() {
  return std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
}

void add_owner(AuditEntry& entry, const format::LeaseOwner& owner) {
  entry.uid = owner.uid;
  entry.pid = owner.pid;
  entry.client = owner.client;
  entry.job = owner.job;
}

std::string clock_text(std::optional<core::Megahertz> clock) {
  return clock ? fmt::format("{} MHz", clock->value()) : "the driver's default";
}

}  // namespace

Abilities find_abilities(gpu::Device& device) {
  Abilities found;
  auto clocks = device.supported_clocks();
  auto control = device.clock_control();
  if (clocks) found.clocks = *clocks;
  if (control) {
    found.control = *control;
  } else {
    found.control.reason = control.error().message();
    found.lost = control.error().code() == ErrorCode::kDeviceLost;
  }
  if (!clocks && found.control.possible) {
    found.control = {false, clocks.error().message()};
    found.lost = clocks.error().code() == ErrorCode::kDeviceLost;
  }
  return found;
}

Fleet::Fleet(FleetContext context, format::AgentConfig config)
    : context_(context),
      config_(std::move(config)),
      table_(names_of(context.backend)),
      driver_version_(context.backend.driver_version()),
      lost_backoff_(kLostLimits) {
  const auto& devices = context_.backend.devices();
  for (GpuIndex i = 0; i < devices.size(); ++i) {
    units_.push_back(make_unit(i, *devices[i]));
    (void)table_.set_obstacle(i, Obstacle::kUnsupported, "the driver has not told yet what this GPU can do");
  }
  for (GpuIndex i = 0; i < units_.size(); ++i) {
    ask_abilities(i);
    units_[i]->sampler->resume();
  }
  keeper_ = std::make_unique<BackendKeeper>(context_.backend, kReopenLimits, [this](core::Status status) {
    context_.loop.post([this, status = std::move(status), version = context_.backend.driver_version()] {
      on_reopened(status, version);
    });
  });
}

void Fleet::ask_abilities(GpuIndex gpu) {
  // On the GPU's own thread: one that hangs keeps nobody from using, or restoring, the others.
  units_[gpu]->sampler->run_with_device([this, gpu](gpu::Device& device) {
    context_.loop.post([this, gpu, found = find_abilities(device)] {
      units_[gpu]->known = true;
      adopt_abilities(gpu, found);
    });
  });
}

bool Fleet::all_known() const {
  return std::ranges::all_of(units_, [](const auto& unit) { return unit->known; });
}

Fleet::~Fleet() {
  keeper_.reset();
  units_.clear();
}

std::unique_ptr<GpuUnit> Fleet::make_unit(GpuIndex index, gpu::Device& device) {
  auto unit = std::make_unique<GpuUnit>();
  unit->device = &device;
  unit->watch = WriterWatch({.spacing = to_duration(config_.settle)});
  lease::ClockThreadOptions options;
  options.on_event = [this, index](const lease::ClockEvent& event) {
    context_.loop.post([this, index, event] { on_clock_event(index, event); });
  };
  unit->thread =
      std::make_unique<lease::ClockThread>(device, context_.directory, context_.time, std::move(options));
  SamplerOptions sampling;
  sampling.period = to_duration(config_.sample_period);
  sampling.settle = to_duration(config_.settle);
  sampling.paused = true;  // until all units are there
  sampling.on_reading = [this, index](const Reading& reading, const std::optional<ClockReading>& judged) {
    context_.loop.post([this, index, reading, judged] { on_reading(index, reading, judged); });
  };
  unit->sampler = std::make_unique<Sampler>(device, unit->held, context_.time, std::move(sampling));
  return unit;
}

void Fleet::adopt_abilities(GpuIndex index, Abilities abilities) {
  GpuUnit& unit = *units_[index];
  unit.abilities = std::move(abilities);
  Obstacle obstacle = Obstacle::kNone;
  std::string reason = unit.abilities.control.reason;
  if (unit.abilities.lost) {
    obstacle = Obstacle::kLost;
  } else if (!unit.abilities.control.possible) {
    obstacle = Obstacle::kUnsupported;
  } else if (config_.baseline && !std::ranges::binary_search(unit.abilities.clocks, *config_.baseline)) {
    obstacle = Obstacle::kUnsupported;
    reason =
        fmt::format("the configured baseline of {} MHz is not one of its clocks", config_.baseline->value());
  }
  if (const auto ending = table_.set_obstacle(index, obstacle, std::move(reason))) {
    carry_out(*ending, AuditEvent::kEnd);
  }
}

void Fleet::recover(const lease::Journal& journal) {
  const auto report = lease::plan_recovery(journal, [this](std::string_view) { return config_.baseline; });
  for (const lease::BadRecord& bad : report.bad) {
    context_.audit.write({.event = AuditEvent::kRestore,
                          .gpu = bad.gpu,
                          .result = "invalid_input",
                          .detail = fmt::format("{}; kept as {}", bad.problem, bad.kept_as)});
  }
  for (const std::string& dropped : report.dropped) {
    context_.audit.write({.event = AuditEvent::kRestore,
                          .gpu = dropped,
                          .detail = "journalled in an earlier boot: the driver has forgotten the clock"});
  }
  for (const lease::Restored& left : report.gpus) {
    const auto index = find(left.gpu);
    if (!index) {
      context_.audit.write({.event = AuditEvent::kRestore,
                            .gpu = left.gpu,
                            .result = "not_found",
                            .detail = "journalled, but no such GPU is here; the record is kept"});
      continue;
    }
    table_.owe(*index);
    units_[*index]->thread->owe(
        left.baseline, [this, gpu = *index, owner = left.owner](const core::Status& status) {
          context_.loop.post([this, gpu, owner, status] { on_owed(gpu, owner, status); });
        });
  }
}

void Fleet::on_owed(GpuIndex gpu, const std::string& owner, const core::Status& status) {
  table_.restored(gpu, status.has_value());
  ++(status ? units_[gpu]->leases.restored : units_[gpu]->leases.restore_failures);
  AuditEntry audit = entry(AuditEvent::kRestore, gpu);
  audit.detail = fmt::format("left by an earlier agent's lease of {}", owner);
  if (!status) {
    audit.result = core::info(status.error().code()).name;
    audit.detail += ": " + status.error().message();
  }
  context_.audit.write(audit);
}

void Fleet::set_config(const format::AgentConfig& config) {
  config_ = config;
  for (GpuIndex i = 0; i < units_.size(); ++i) {
    GpuUnit& unit = *units_[i];
    unit.watch = WriterWatch({.spacing = to_duration(config_.settle)});
    unit.sampler->set_times(to_duration(config_.sample_period), to_duration(config_.settle));
    if (unit.known) adopt_abilities(i, unit.abilities);  // the baseline may be another
  }
}

core::Result<GpuIndex> Fleet::find(std::string_view name) const {
  const auto number = format::parse_integer<std::uint32_t>(name);
  for (GpuIndex i = 0; i < units_.size(); ++i) {
    const gpu::Identity& identity = units_[i]->device->identity();
    if (identity.uuid == name || (number && identity.index == *number)) return i;
  }
  return core::fail(ErrorCode::kNotFound,
                    fmt::format("there is no GPU {}; the agent has {}", name, units_.size()));
}

std::vector<core::Megahertz> Fleet::allowed_clocks(GpuIndex gpu, std::optional<core::Megahertz> floor) const {
  std::vector<core::Megahertz> allowed;
  for (const core::Megahertz clock : units_[gpu]->abilities.clocks) {
    const bool high_enough =
        (!config_.min_clock || clock >= *config_.min_clock) && (!floor || clock >= *floor);
    if (high_enough && (!config_.max_clock || clock <= *config_.max_clock)) allowed.push_back(clock);
  }
  return allowed;
}

void Fleet::ask_processes(GpuIndex gpu, std::function<void(core::Result<std::vector<pid_t>>)> reply) {
  units_[gpu]->sampler->ask_processes(
      [this, reply = std::move(reply)](core::Result<std::vector<pid_t>> pids) {
        context_.loop.post([reply, pids = std::move(pids)] { reply(pids); });
      });
}

void Fleet::acquire(GpuIndex gpu, LeaseAsk ask, const Permit& permit, GrantedReply reply) {
  GpuUnit& unit = *units_[gpu];
  auto clocks = allowed_clocks(gpu, permit.floor);
  ask.until = permit.until;
  const format::LeaseOwner owner = ask.owner;
  auto begun = table_.begin(gpu, std::move(ask), context_.time.now());
  if (!begun) return reply(std::unexpected(begun.error()));
  const LeaseId lease = *begun;
  core::Status ready;
  auto mailbox = wire::MailboxOwner::create();
  if (clocks.empty()) {
    ready = core::fail(ErrorCode::kInfeasible,
                       fmt::format("no clock of GPU {} lies within the site's limits and the grant's floor",
                                   unit.device->identity().index));
  } else if (!mailbox) {
    ready = std::unexpected(mailbox.error());
  }
  if (!ready) {
    (void)table_.started(lease, false);
    return reply(std::unexpected(ready.error()));
  }
  const auto interval = lease::Duration(std::chrono::seconds(1)) / config_.max_changes_per_second;
  auto requests = std::make_shared<MailboxRequests>(*std::move(mailbox), context_.time, interval, unit.held);
  unit.starting = GpuUnit::Starting{lease, clocks, requests, std::move(reply)};
  unit.watch.reset();
  unit.baseline = config_.baseline;
  const lease::LeaseTerms terms{owner, config_.baseline, std::move(clocks)};
  auto accepted = unit.thread->acquire(terms, requests, [this, gpu, lease](const core::Status& status) {
    context_.loop.post([this, gpu, lease, status] { on_started(gpu, lease, status); });
  });
  if (!accepted) on_started(gpu, lease, accepted);
}

void Fleet::on_started(GpuIndex gpu, LeaseId lease, const core::Status& status) {
  GpuUnit& unit = *units_[gpu];
  const bool held = table_.started(lease, status.has_value());
  if (!unit.starting || unit.starting->lease != lease) return;
  const GpuUnit::Starting starting = *std::exchange(unit.starting, std::nullopt);
  if (!status) return starting.reply(std::unexpected(status.error()));
  if (!held) {
    return starting.reply(core::fail(ErrorCode::kBusy, "the lease was taken back while it was being made"));
  }
  ++unit.leases.acquired;
  starting.reply(Granted{lease, unit.device->identity().uuid, starting.requests->fd(), config_.baseline,
                         starting.clocks});
}

core::Status Fleet::renew(LeaseId lease, ConnectionId connection) {
  return table_.renew(lease, connection, context_.time.now());
}

void Fleet::release(LeaseId lease, ConnectionId connection, Reply reply) {
  const auto ending = table_.release(lease, connection);
  if (!ending) return reply(std::unexpected(ending.error()));
  ++units_[ending->gpu]->leases.released;
  units_[ending->gpu]->when_back.push_back(std::move(reply));
  carry_out(*ending, AuditEvent::kRelease);
}

void Fleet::drop(ConnectionId connection, std::string_view reason) {
  carry_out(table_.drop(connection, reason), AuditEvent::kEnd);
}

void Fleet::revoke(LeaseId lease, std::string_view reason) {
  if (const auto ending = table_.revoke(lease, reason)) carry_out(*ending, AuditEvent::kEnd);
}

AuditEntry Fleet::entry(AuditEvent event, GpuIndex gpu) const {
  const gpu::Identity& identity = units_[gpu]->device->identity();
  return {.event = event, .index = identity.index, .gpu = identity.uuid};
}

void Fleet::carry_out(const std::vector<Ending>& endings, AuditEvent event) {
  for (const Ending& ending : endings) carry_out(ending, event);
}

void Fleet::carry_out(const Ending& ending, AuditEvent event) {
  GpuUnit& unit = *units_[ending.gpu];
  unit.watch.reset();
  if (event == AuditEvent::kExpire) ++unit.leases.expired;
  if (event == AuditEvent::kEnd) ++unit.leases.ended;
  if (event == AuditEvent::kYield) ++unit.leases.yielded;
  unit.thread->end(ending.outcome, [this, ending](const core::Status& status) {
    context_.loop.post([this, ending, status] { on_restored(ending.gpu, ending, status); });
  });
  AuditEntry audit = entry(event, ending.gpu);
  audit.lease = ending.lease;
  add_owner(audit, ending.owner);
  audit.detail = ending.reason;
  context_.audit.write(audit);
  if (ending.tell && told_) told_(ending);
}

void Fleet::on_restored(GpuIndex gpu, const Ending& ending, const core::Status& status) {
  GpuUnit& unit = *units_[gpu];
  table_.restored(gpu, status.has_value());
  if (ending.outcome != lease::Outcome::kYielded) {
    ++(status ? unit.leases.restored : unit.leases.restore_failures);
    AuditEntry audit = entry(AuditEvent::kRestore, gpu);
    audit.lease = ending.lease;
    audit.detail = fmt::format("to {}", clock_text(unit.baseline));
    if (!status) {
      audit.result = core::info(status.error().code()).name;
      audit.detail = status.error().message();
    }
    context_.audit.write(audit);
  }
  for (const Reply& reply : std::exchange(unit.when_back, {})) reply(status);
  close_when_free();
}

void Fleet::quiesce(std::optional<lease::Duration> resume_after, Reply reply) {
  std::optional<lease::Instant> resume_at;
  if (resume_after) resume_at = context_.time.now() + *resume_after;
  const auto endings = table_.quiesce(resume_at);
  reopen_when_closed_ = false;
  overtake_quiesce("another quiesce has taken its place");
  quiesce_reply_ = std::move(reply);
  carry_out(endings, AuditEvent::kEnd);
  close_when_free();
}

void Fleet::overtake_quiesce(std::string_view by) {
  if (quiesce_reply_) std::exchange(quiesce_reply_, {})(core::fail(ErrorCode::kBusy, std::string(by)));
}

void Fleet::close_when_free() {
  if (!table_.quiesced() || closing_) return;
  if (closed_ && !reopening_) {
    if (quiesce_reply_) std::exchange(quiesce_reply_, {})({});
    return;
  }
  for (GpuIndex i = 0; i < table_.size(); ++i) {
    if (table_.gpu(i).phase != LeasePhase::kFree) return;
  }
  closing_ = true;
  for (auto& unit : units_) unit->sampler->pause();
  keeper_->close([this] { context_.loop.post([this] { on_closed(); }); });
}

core::Status Fleet::all_back() const {
  std::string names;
  for (GpuIndex i = 0; i < table_.size(); ++i) {
    if (!table_.gpu(i).owing) continue;
    names += (names.empty() ? "" : ", ") + table_.gpu(i).name;
  }
  if (names.empty()) return {};
  return core::fail(ErrorCode::kDriver,
                    fmt::format("not at its baseline, since the driver refused: {}", names));
}

void Fleet::on_closed() {
  closing_ = false;
  closed_ = true;
  reopening_ = false;
  if (quiesce_reply_) std::exchange(quiesce_reply_, {})(all_back());
  if (!std::exchange(reopen_when_closed_, false)) return;
  reopening_ = true;
  keeper_->reopen();
}

void Fleet::resume(Reply reply) {
  const bool let_go = closed_ || closing_;
  const bool any_lost = [this] {
    for (GpuIndex i = 0; i < table_.size(); ++i) {
      if (table_.gpu(i).obstacle == Obstacle::kLost) return true;
    }
    return false;
  }();
  table_.resume();
  if (!closing_) overtake_quiesce("the agent was resumed before it had let go of its GPUs");
  for (auto& unit : units_) unit->watch.reset();
  // A GPU that was reset is found again only by opening the library anew.
  if (!let_go && !any_lost) return reply({});
  resume_reply_ = std::move(reply);
  if (closing_) {
    reopen_when_closed_ = true;
  } else {
    reopening_ = true;
    keeper_->reopen();
  }
}

void Fleet::stop() {
  carry_out(table_.stop(), AuditEvent::kEnd);
}

void Fleet::reopen_for_lost() {
  if (!lost_retry_at_ || context_.time.now() < *lost_retry_at_) return;
  lost_retry_at_.reset();
  if (table_.quiesced() || closed_) return;
  for (GpuIndex i = 0; i < table_.size(); ++i) {
    if (table_.gpu(i).obstacle != Obstacle::kLost) continue;
    lost_retry_at_ = context_.time.now() + lost_backoff_.next();
    return keeper_->reopen();
  }
  lost_backoff_.reset();
}

std::optional<lease::Instant> Fleet::next_deadline() const {
  auto next = table_.next_deadline();
  if (lost_retry_at_ && (!next || *lost_retry_at_ < *next)) next = lost_retry_at_;
  return next;
}

void Fleet::tick() {
  carry_out(table_.expire(context_.time.now(), wall_now()), AuditEvent::kExpire);
  reopen_for_lost();
  const auto resume_at = table_.resume_at();
  if (!resume_at || context_.time.now() < *resume_at) return;
  context_.audit.write({.event = AuditEvent::kResume, .detail = "by itself, as asked"});
  resume([](const core::Status&) {});
}

}  // namespace perseus::agent
