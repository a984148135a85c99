// SPDX-License-Identifier: Apache-2.0
#include "perseus/agent/guard_worker.h"

#include <fmt/format.h>
#include <sys/epoll.h>

#include <algorithm>
#include <utility>

#include "perseus/agent/version.h"
#include "perseus/format/numbers.h"
#include "perseus/format/text.h"
#include "perseus/gpu/clock_table.h"
#include "perseus/lease/recover.h"
#include "perseus/wire/seqpacket.h"

namespace perseus::agent {
namespace {

using core::ErrorCode;
using lease::Outcome;

template <class... Functions>
struct Overloaded : Functions... {
  using Functions::operator()...;
};

/// Between two tries to open a driver that refuses (BackendKeeper has its own back-off within one).
constexpr lease::Duration kReopenInterval = std::chrono::seconds(1);
/// The program has a buffer for many packets; one that does not read is not waited for.
constexpr wire::Deadline kAtOnce{};

}  // namespace

/// What acquire() has asked of a GPU's thread.
struct GuardWorker::Grant {
  std::string gpu;
  std::shared_ptr<MailboxRequests> mailbox;
  std::chrono::milliseconds time_to_live;
  std::vector<core::Megahertz> clocks;
};

GuardWorker::GuardWorker(format::UniqueFd socket, EventLoop& loop, gpu::Backend& backend,
                         const lease::StateDirectory& directory, const lease::TimeSource& time)
    : socket_(std::move(socket)), loop_(loop), backend_(backend), directory_(directory), time_(time) {
  keeper_ =
      std::make_unique<BackendKeeper>(backend_, lease::Backoff::Limits{}, [this](const core::Status& opened) {
        if (!opened) return;
        loop_.post([this] {
          for (auto& [gpu, unit] : units_) unit.thread->driver_reloaded();
        });
      });
}

GuardWorker::~GuardWorker() {
  if (socket_) loop_.forget(socket_.get());
  if (program_) loop_.forget(program_->fd());
}

core::Status GuardWorker::start() {
  return loop_.watch(socket_.get(), EPOLLIN, [this](std::uint32_t events) {
    if ((events & (EPOLLHUP | EPOLLERR)) != 0) return stop();
    on_socket();
  });
}

void GuardWorker::stop() {
  if (give_up_) return;
  give_up_ = time_.now() + kPatience;
  loop_.change(socket_.get(), 0);
  for (auto& [gpu, unit] : units_) {
    if (unit.lease != 0 || waiting_) end_lease(unit, Outcome::kEnded, {});
  }
}

bool GuardWorker::Unit::at_rest() const {
  const lease::ClockThreadState state = thread->state();
  return lease == 0 && !starting && !ending && !state.leased && !state.owing;
}

bool GuardWorker::all_back() const {
  return std::ranges::all_of(units_, [](const auto& entry) { return entry.second.at_rest(); });
}

void GuardWorker::let_go() {
  std::erase_if(units_, [](const auto& entry) { return entry.second.at_rest(); });
}

bool GuardWorker::done() const {
  return give_up_ && (all_back() || time_.now() >= *give_up_);
}

std::optional<lease::Instant> GuardWorker::next_deadline() const {
  std::optional<lease::Instant> next = give_up_;
  const auto at = [&](lease::Instant instant) { next = next ? std::min(*next, instant) : instant; };
  for (const auto& [gpu, unit] : units_) {
    if (unit.lease != 0 && !give_up_) at(unit.expires);
    if (unit.thread->state().owing) at(next_reopen_);
  }
  return next;
}

void GuardWorker::tick() {
  const lease::Instant now = time_.now();
  bool owing = false;
  if (!give_up_) let_go();
  for (auto& [gpu, unit] : units_) {
    owing = owing || unit.thread->state().owing;
    if (unit.lease == 0 || give_up_ || waiting_ || now < unit.expires) continue;
    const std::uint64_t lease = unit.lease;
    end_lease(unit, Outcome::kEnded, {});
    reply(wire::Ended{.lease = lease, .reason = "it was not renewed in time"});
  }
  if (owing && now >= next_reopen_) {
    next_reopen_ = now + kReopenInterval;
    keeper_->reopen();
  }
}

void GuardWorker::on_socket() {
  if (give_up_ || waiting_) return;
  auto packet = wire::receive_request(socket_.get(), wire::kMaxAgentRequest, kAtOnce);
  if (!packet) {
    if (packet.error().code() == ErrorCode::kTimeout) return;
    if (packet.error().code() == ErrorCode::kIo) return stop();
    return refuse(packet.error());
  }
  if (packet->end) return stop();
  const auto request = wire::parse_agent_request(packet->bytes);
  if (!request) return refuse(request.error());
  dispatch(*request);
}

void GuardWorker::dispatch(const wire::AgentRequest& request) {
  if (const auto* first = std::get_if<wire::Hello>(&request)) return hello(*first);
  if (!greeted_) return refuse(core::Error(ErrorCode::kInvalidInput, "the first request must be hello"));
  const auto unsupported = [this] {
    refuse(core::Error(ErrorCode::kUnsupported, "this is a guardian of one program; ask the node's agent"));
  };
  std::visit(Overloaded{
                 [](const wire::Hello&) {},  // above
                 [&](const wire::Acquire& ask) { acquire(ask); },
                 [&](const wire::Renew& ask) { renew(ask); },
                 [&](const wire::Release& ask) { release(ask); },
                 [&](const wire::GetStatus&) { unsupported(); },
                 [&](const wire::Quiesce&) { unsupported(); },
                 [&](const wire::Resume&) { unsupported(); },
             },
             request);
}

void GuardWorker::hello(const wire::Hello& request) {
  if (greeted_) return refuse(core::Error(ErrorCode::kInvalidInput, "hello was said before"));
  if (request.protocol != wire::kAgentProtocol) {
    return refuse(core::Error(ErrorCode::kUnsupported, fmt::format("this guardian speaks protocol {}, not {}",
                                                                   wire::kAgentProtocol, request.protocol)));
  }
  if (const core::Status watched = watch_program(); !watched) return refuse(watched.error());
  greeted_ = true;
  owner_.client = request.client;
  reply(welcome());
}

core::Status GuardWorker::watch_program() {
  // Who made the pair of sockets: the program that started us, whose user we are too.
  PERSEUS_ASSIGN_OR_RETURN(const wire::Peer peer, wire::peer_of(socket_.get()));
  PERSEUS_ASSIGN_OR_RETURN(auto program, lease::ProcessHandle::open(peer.pid));
  PERSEUS_RETURN_IF_ERROR(loop_.watch(program.fd(), EPOLLIN, [this](std::uint32_t) { stop(); }));
  program_ = std::move(program);
  owner_ = {.pid = peer.pid, .uid = peer.uid, .job = {}, .client = {}};
  return {};
}

wire::Welcome GuardWorker::welcome() const {
  wire::Welcome message{.version = kVersion, .backend = std::string(backend_.name()), .gpus = {}};
  for (gpu::Device* device : backend_.devices()) {
    wire::AgentGpu gpu{.index = device->identity().index,
                       .uuid = device->identity().uuid,
                       .name = device->identity().name,
                       .clocks = {},
                       .controllable = false,
                       .reason = {}};
    const auto control = device->clock_control();
    const auto clocks = device->supported_clocks();
    gpu.controllable = control && control->possible && clocks;
    if (clocks) gpu.clocks = *clocks;
    if (!control) gpu.reason = control.error().message();
    if (control && !control->possible) gpu.reason = control->reason;
    if (control && control->possible && !clocks) gpu.reason = clocks.error().message();
    message.gpus.push_back(std::move(gpu));
  }
  return message;
}

core::Result<gpu::Device*> GuardWorker::find_device(const std::string& name) const {
  const auto index = format::parse_integer<std::uint32_t>(name);
  for (gpu::Device* device : backend_.devices()) {
    if (device->identity().uuid == name || index == device->identity().index) return device;
  }
  return core::fail(ErrorCode::kNotFound,
                    fmt::format("there is no GPU {}; this machine has {}", name, backend_.devices().size()));
}

void GuardWorker::acquire(const wire::Acquire& request) {
  const auto device = find_device(request.gpu);
  if (!device) return refuse(device.error());
  if (const core::Status started = start_lease(**device, request); !started) refuse(started.error());
}

core::Status GuardWorker::start_lease(gpu::Device& device, const wire::Acquire& request) {
  PERSEUS_ASSIGN_OR_RETURN(const gpu::ClockControl control, device.clock_control());
  if (!control.possible) return core::fail(ErrorCode::kUnsupported, control.reason);
  PERSEUS_ASSIGN_OR_RETURN(auto clocks, device.supported_clocks());
  PERSEUS_ASSIGN_OR_RETURN(auto mailbox, wire::MailboxOwner::create());
  PERSEUS_ASSIGN_OR_RETURN(Unit* const unit, take_unit(device));
  Grant grant{.gpu = device.identity().uuid,
              .mailbox = std::make_shared<MailboxRequests>(std::move(mailbox), time_, lease::Duration::zero(),
                                                           std::make_shared<HeldClocks>()),
              .time_to_live = request.time_to_live,
              .clocks = clocks};
  lease::LeaseTerms terms{.owner = owner_, .baseline = {}, .clocks = std::move(clocks)};
  terms.owner.job = request.job;
  const auto source = grant.mailbox;
  PERSEUS_RETURN_IF_ERROR(unit->thread->acquire(
      std::move(terms), source, [this, grant = std::move(grant)](core::Status result) mutable {
        loop_.post([this, grant = std::move(grant), result = std::move(result)] { acquired(grant, result); });
      }));
  unit->starting = true;
  wait_for_answer(true);
  return {};
}

core::Result<GuardWorker::Unit*> GuardWorker::take_unit(gpu::Device& device) {
  const std::string& gpu = device.identity().uuid;
  if (const auto found = units_.find(gpu); found != units_.end()) return &found->second;
  auto lock = directory_.lock_gpu(gpu);
  if (!lock) {
    const auto holder = directory_.peek(gpu);
    if (lock.error().code() != ErrorCode::kBusy || !holder) return std::unexpected(lock.error());
    return core::fail(ErrorCode::kBusy, fmt::format("{} is leased to {}", gpu::describe(device.identity()),
                                                    format::owner_text(holder->owner)));
  }
  PERSEUS_ASSIGN_OR_RETURN(const lease::Journal journal, directory_.read_one(gpu));
  Unit& unit = units_.try_emplace(gpu, *std::move(lock)).first->second;
  unit.thread = std::make_unique<lease::ClockThread>(device, directory_, time_, lease::ClockThreadOptions{});
  restore_leftovers(unit, journal);
  return &unit;
}

void GuardWorker::restore_leftovers(Unit& unit, const lease::Journal& journal) {
  // Commands are carried out in order: what the last guardian of this GPU has left is restored before the
  // lease begins.
  for (const lease::Restored& owed : lease::plan_recovery(journal, {}).gpus)
    unit.thread->owe(owed.baseline, {});
}

void GuardWorker::acquired(const Grant& grant, const core::Status& status) {
  Unit& unit = units_.at(grant.gpu);
  unit.starting = false;
  if (give_up_) return;  // stop() has ended it
  if (status) {
    unit.lease = ++last_lease_;
    unit.time_to_live = grant.time_to_live;
    unit.expires = time_.now() + unit.time_to_live;
    reply(wire::Acquired{.lease = unit.lease,
                         .gpu = grant.gpu,
                         .baseline = {},
                         .clocks = grant.clocks,
                         .time_to_live = grant.time_to_live},
          grant.mailbox->fd());
  } else {
    refuse(status.error());
  }
  wait_for_answer(false);
}

GuardWorker::Unit* GuardWorker::find(std::uint64_t lease) {
  const auto found =
      std::ranges::find_if(units_, [&](const auto& entry) { return entry.second.lease == lease; });
  if (found != units_.end()) return &found->second;
  refuse(core::Error(ErrorCode::kNotFound, fmt::format("there is no lease {}", lease)));
  return nullptr;
}

void GuardWorker::renew(const wire::Renew& request) {
  Unit* unit = find(request.lease);
  if (unit == nullptr) return;
  unit->expires = time_.now() + unit->time_to_live;
  reply(wire::Ok{});
}

void GuardWorker::release(const wire::Release& request) {
  Unit* unit = find(request.lease);
  if (unit == nullptr) return;
  wait_for_answer(true);
  end_lease(*unit, Outcome::kEnded, [this](const core::Status& status) {
    if (give_up_) return;
    settle(status);
    wait_for_answer(false);
  });
}

void GuardWorker::end_lease(Unit& unit, Outcome outcome, lease::Done done) {
  unit.lease = 0;
  unit.ending = true;
  unit.thread->end(outcome, [this, &unit, done = std::move(done)](core::Status status) mutable {
    // A unit that is ending is not let go of, and this worker outlives what it has posted.
    loop_.post([this, &unit, done = std::move(done), status = std::move(status)]() mutable {
      unit.ending = false;
      if (!give_up_) let_go();  // before the answer: who reads it may let another program have the GPU
      if (done) done(std::move(status));
    });
  });
}

void GuardWorker::wait_for_answer(bool waiting) {
  waiting_ = waiting;
  if (give_up_) return;
  loop_.change(socket_.get(), waiting ? 0U : std::uint32_t{EPOLLIN});
  if (waiting) return;
  // Renewals that came meanwhile have not been read yet.
  for (auto& [gpu, unit] : units_) unit.expires = std::max(unit.expires, time_.now() + unit.time_to_live);
}

void GuardWorker::settle(const core::Status& status) {
  status ? reply(wire::Ok{}) : refuse(status.error());
}

void GuardWorker::refuse(const core::Error& error) {
  reply(wire::Refusal{.code = error.code(), .message = error.text()});
}

void GuardWorker::reply(const wire::AgentReply& message, int fd) {
  const core::Status sent = wire::send_packet(socket_.get(), wire::encode(message), fd, kAtOnce);
  if (!sent) stop();  // it is gone, or has stopped reading
}

}  // namespace perseus::agent
