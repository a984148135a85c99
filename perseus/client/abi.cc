// SPDX-License-Identifier: Apache-2.0
//
// The C interface: a shell around RankSession that lets nothing through, no exception and no call of a fork.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "perseus/client/client_config.h"
#include "perseus/client/fork_guard.h"
#include "perseus/client/open_session.h"
#include "perseus/client/perseus.h"
#include "perseus/client/rank_session.h"

using perseus::client::RankSession;
namespace core = perseus::core;
namespace client = perseus::client;

struct perseus_client {
  std::uint32_t generation = 0;  ///< of the process that opened it (fork_guard.h)
  std::unique_ptr<RankSession> session;
};

static_assert(PERSEUS_FORWARD == static_cast<int>(core::Kind::kForward));
static_assert(PERSEUS_BACKWARD == static_cast<int>(core::Kind::kBackward));
static_assert(PERSEUS_BACKWARD_INPUT == static_cast<int>(core::Kind::kBackwardInput));
static_assert(PERSEUS_BACKWARD_WEIGHT == static_cast<int>(core::Kind::kBackwardWeight));
static_assert(PERSEUS_FORWARD_BACKWARD == static_cast<int>(core::Kind::kForwardBackward));
static_assert(PERSEUS_RECOMPUTE == static_cast<int>(core::Kind::kRecompute));

namespace {

/// Clients that are open, so that a process which just ends closes them: clocks are back at once, the server
/// hears of it, and no thread of ours runs on while the process is taken apart. Never destroyed.
class OpenClients {
 public:
  static OpenClients& instance() {
    static auto* const kClients = new OpenClients;
    return *kClients;
  }
  void add(perseus_client* client) {
    const std::lock_guard lock(mutex_);
    if (!std::exchange(registered_, true)) static_cast<void>(std::atexit([] { instance().close_all(); }));
    clients_.push_back(client);
  }
  void remove(perseus_client* client) {
    const std::lock_guard lock(mutex_);
    std::erase(clients_, client);
  }

 private:
  /// Closed, not deleted: another thread may still call hooks, which do nothing any more.
  void close_all();

  std::mutex mutex_;
  bool registered_ = false;
  std::vector<perseus_client*> clients_;
};

/// perseus_close takes 2 s at most (perseus.h), of which a driver that hangs has 0.5 s (~EnergySampler).
constexpr core::Seconds kGoodbye{1.5};
/// The smallest perseus_options that was ever published.
constexpr std::size_t kLeastOptions = sizeof(perseus_options);

/// The session, unless there is none or this is a child of the process that opened it.
RankSession* session_of(const perseus_client* client) {
  if (client == nullptr || client->generation != client::fork_generation()) return nullptr;
  return client->session.get();
}

core::Kind kind_of(perseus_kind kind) {
  const auto value = static_cast<std::uint32_t>(kind);
  return value <= PERSEUS_RECOMPUTE ? static_cast<core::Kind>(value) : core::Kind::kOther;
}

int number_of(core::ErrorCode code) {
  return static_cast<int>(code) + 1;
}

void say(std::string_view text, char* message, std::size_t message_size) {
  if (message == nullptr || message_size == 0) return;
  const std::size_t length = std::min(text.size(), message_size - 1);
  std::memcpy(message, text.data(), length);
  message[length] = '\0';
}

/// Standard error is written to by one call, so that lines of many ranks do not mix.
void log_to_stderr(bool warning, std::string_view line) {
  const std::string text = fmt::format("perseus: {}{}\n", warning ? "warning: " : "", line);
  static_cast<void>(!::write(STDERR_FILENO, text.data(), text.size()));
}

/// The process ends: whoever gave a log function may be gone (an interpreter), so nobody is called any more.
std::atomic<bool> ending = false;

void OpenClients::close_all() {
  ending.store(true);
  // In a fork the lock may be held for ever; its clients are the parent's, which session_of() leaves alone.
  const std::unique_lock lock(mutex_, std::try_to_lock);
  if (!lock.owns_lock()) return;
  for (const perseus_client* client : clients_) {
    try {
      if (RankSession* session = session_of(client)) session->close(kGoodbye);
    } catch (const std::exception&) {
      continue;  // its lease ends with this process
    }
  }
}

client::SessionLog log_of(const perseus_options& options) {
  if (options.log == nullptr) return log_to_stderr;
  return [function = options.log, user = options.log_user](bool warning, std::string_view line) {
    if (!ending.load(std::memory_order_relaxed)) function(user, warning ? 1 : 0, std::string(line).c_str());
  };
}

core::Status open(const perseus_options& options, perseus_client** out) {
  PERSEUS_ASSIGN_OR_RETURN(const auto config,
                           client::resolve_config(options, client::environment_of_process()));
  if (config.off) return {};
  if (!client::watch_forks()) return core::fail(core::ErrorCode::kInternal, "forks cannot be watched");
  auto opened = std::make_unique<perseus_client>();
  opened->generation = client::fork_generation();
  PERSEUS_ASSIGN_OR_RETURN(opened->session, client::open_session(config, options.stream, log_of(options)));
  *out = opened.release();
  OpenClients::instance().add(*out);
  return {};
}

perseus_state picture(const client::SessionState& s) {
  perseus_state out{};
  out.step = s.step;
  out.generation = s.generation;
  out.clock_mhz = s.clock_mhz;
  out.server_connected = s.server_contact ? 1 : 0;
  out.clock_connected = s.clock_connected ? 1 : 0;
  out.steps = s.steps;
  out.operations = s.operations;
  out.unknown_operations = s.unknown;
  out.missing_operations = s.missing;
  out.posts = s.posts;
  out.guard_trips = s.guard_trips;
  out.plans_taken = s.plans_taken;
  out.plans_expired = s.plans_expired;
  out.hook_timeouts = s.hook_timeouts;
  out.dropped_reports = s.link.dropped_reports;
  out.refused_answers = s.link.refused_answers + s.refused_plans;
  out.link_failures = s.link.failures;
  out.promised_time_s = s.promised.value();
  out.iteration_time_s = s.iteration_time.value();
  out.reordered_operations = s.reordered;
  out.lost_records = s.lost_records;
  return out;
}

}  // namespace

extern "C" {

int perseus_open(const perseus_options* options, perseus_client** client, char* message,
                 std::size_t message_size) {
  say("", message, message_size);
  if (client == nullptr) return number_of(core::ErrorCode::kUsage);
  *client = nullptr;
  if (options == nullptr || options->size < kLeastOptions) {
    say("perseus_options without its size: use PERSEUS_OPTIONS_INIT", message, message_size);
    return number_of(core::ErrorCode::kUsage);
  }
  try {
    const core::Status opened = open(*options, client);
    if (opened) return 0;
    say(opened.error().text(), message, message_size);
    return number_of(opened.error().code());
  } catch (const std::exception& error) {  // no memory, no thread
    say(error.what(), message, message_size);
    return number_of(core::ErrorCode::kInternal);
  }
}

void perseus_begin_step(perseus_client* client) {
  if (RankSession* session = session_of(client)) session->begin_step();
}

void perseus_begin_step_at(perseus_client* client, std::uint64_t step) {
  if (RankSession* session = session_of(client)) session->begin_step(step);
}

void perseus_end_step(perseus_client* client) {
  if (RankSession* session = session_of(client)) session->end_step();
}

void perseus_begin(perseus_client* client, perseus_kind kind, std::uint32_t stage, std::uint32_t microbatch) {
  if (RankSession* session = session_of(client)) session->begin(kind_of(kind), stage, microbatch);
}

void perseus_end(perseus_client* client, perseus_kind kind, std::uint32_t stage, std::uint32_t microbatch) {
  if (RankSession* session = session_of(client)) session->end(kind_of(kind), stage, microbatch);
}

void perseus_set_stream(perseus_client* client, void* stream) {
  if (RankSession* session = session_of(client)) session->set_stream(stream);
}

int perseus_get_state(perseus_client* client, perseus_state* state) {
  if (state == nullptr || state->size < sizeof(state->size)) return number_of(core::ErrorCode::kUsage);
  perseus_state out{};
  try {
    if (const RankSession* session = session_of(client)) out = picture(session->state());
  } catch (const std::exception&) {
    return number_of(core::ErrorCode::kInternal);
  }
  out.size = state->size;
  std::memcpy(state, &out, std::min(state->size, sizeof(out)));
  return 0;
}

void perseus_close(perseus_client* client) {
  RankSession* session = session_of(client);
  if (session == nullptr) return;  // of a fork, the parent's: left alone, since its threads are not here
  try {
    OpenClients::instance().remove(client);
    session->close(kGoodbye);
    delete client;
  } catch (const std::exception&) {
    return;  // the lease ends with this process
  }
}

std::uint32_t perseus_abi_version(void) {
  return PERSEUS_ABI_VERSION;
}

}  // extern "C"
