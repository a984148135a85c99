// SPDX-License-Identifier: Apache-2.0
//
// What the agent adds between a rank's wish and the driver call, measured with the code that runs in both:
// mailbox, pacing, clock thread; the driver is one that returns at once. Prints Markdown:
//
//   build/bench/bin/agent_latency > table.md
//
// A post and its driver call are told apart by their own time stamps (CLOCK_MONOTONIC): no measuring call
// lies between them.
#include <fcntl.h>
#include <fmt/format.h>
#include <pthread.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "perseus/agent/mailbox_requests.h"
#include "perseus/lease/clock_thread.h"
#include "perseus/lease/state_directory.h"
#include "perseus/wire/agent_messages.h"
#include "perseus/wire/seqpacket.h"

namespace perseus {
namespace {

using core::Megahertz;
using Clock = std::chrono::steady_clock;
using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;

/// A GPU whose driver returns at once.
class NullDevice final : public gpu::Device {
 public:
  [[nodiscard]] const gpu::Identity& identity() const override { return identity_; }
  [[nodiscard]] core::Result<std::vector<Megahertz>> supported_clocks() override { return clocks(); }
  [[nodiscard]] core::Result<gpu::ClockControl> clock_control() override {
    return gpu::ClockControl{true, ""};
  }
  [[nodiscard]] core::Status lock_clock(Megahertz) override { return {}; }
  [[nodiscard]] core::Status reset_clock() override { return {}; }
  [[nodiscard]] core::Result<Megahertz> sm_clock() override { return Megahertz{900}; }
  [[nodiscard]] core::Result<gpu::PowerReading> power() override { return gpu::PowerReading{}; }
  [[nodiscard]] core::Result<gpu::EnergyReading> energy() override { return gpu::EnergyReading{}; }
  [[nodiscard]] core::Result<core::Celsius> temperature() override { return core::Celsius{40}; }
  [[nodiscard]] core::Result<gpu::ClockReasons> clock_reasons() override { return gpu::ClockReasons{}; }
  [[nodiscard]] core::Result<double> utilization() override { return 1.0; }
  [[nodiscard]] core::Result<core::Watts> enforced_power_limit() override { return core::Watts{400}; }
  [[nodiscard]] core::Result<std::vector<pid_t>> processes() override { return std::vector<pid_t>{}; }

  static std::vector<Megahertz> clocks() {
    std::vector<Megahertz> all;
    for (std::uint32_t mhz = 210; mhz <= 1410; mhz += 15) all.emplace_back(mhz);
    return all;
  }

 private:
  gpu::Identity identity_{.index = 0, .uuid = "GPU-bench", .name = "none"};
};

/// A lease on the null device, with both ends of its mailbox in this process.
class Rig {
 public:
  explicit Rig(lease::Duration min_interval) : directory_(open()), thread_(make_thread()) {
    auto owner = wire::MailboxOwner::create().value();
    user_ = std::make_unique<wire::MailboxUser>(
        wire::MailboxUser::map(::fcntl(owner.fd(), F_DUPFD_CLOEXEC, 3)).value());
    requests_ = std::make_shared<agent::MailboxRequests>(std::move(owner), lease::SystemTime::instance(),
                                                         min_interval, std::make_shared<agent::HeldClocks>());
    std::atomic<bool> held{false};
    const lease::LeaseTerms terms{
        {.pid = ::getpid(), .uid = ::getuid(), .client = "bench"}, {}, NullDevice::clocks()};
    if (!thread_->acquire(terms, requests_, [&](const core::Status& status) { held = status.has_value(); }))
      std::abort();
    while (!held) std::this_thread::yield();
  }
  Rig(const Rig&) = delete;
  Rig& operator=(const Rig&) = delete;
  ~Rig() {
    thread_.reset();
    directory_.reset();
    std::filesystem::remove_all(folder_);
  }
  wire::MailboxUser& user() { return *user_; }
  /// Posts the next clock and returns the time until its driver call began.
  nanoseconds post_and_wait() {
    turn_ = (turn_ + 1) % 60;
    const auto posted = Clock::now();
    const std::uint32_t sequence = user_->post(Megahertz{600 + 15 * (turn_ % 2)});
    while (user_->applied().sequence != sequence) {
    }
    return nanoseconds(static_cast<std::int64_t>(user_->called_ns()) - posted.time_since_epoch().count());
  }

 private:
  std::unique_ptr<lease::StateDirectory> open() {
    std::string name = "/dev/shm/agent_latency_XXXXXX";
    folder_ = ::mkdtemp(name.data());
    return std::make_unique<lease::StateDirectory>(
        lease::StateDirectory::open({.path = folder_ + "/state"}).value());
  }
  std::unique_ptr<lease::ClockThread> make_thread() {
    return std::make_unique<lease::ClockThread>(device_, *directory_, lease::SystemTime::instance(),
                                                lease::ClockThreadOptions{});
  }
  std::string folder_;
  NullDevice device_;
  std::unique_ptr<lease::StateDirectory> directory_;
  std::unique_ptr<lease::ClockThread> thread_;
  std::unique_ptr<wire::MailboxUser> user_;
  std::shared_ptr<agent::MailboxRequests> requests_;
  std::uint32_t turn_ = 0;
};

double cpu_of_process() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto s = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
  };
  return s(usage.ru_utime) + s(usage.ru_stime);
}
double cpu_of_this_thread() {
  timespec time{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

void print_row(std::string_view what, std::vector<nanoseconds> times) {
  std::ranges::sort(times);
  const auto at = [&](double share) {
    const auto index = static_cast<std::size_t>(share * static_cast<double>(times.size() - 1));
    return static_cast<double>(times[index].count()) / 1000;
  };
  fmt::print("| {} | {} | {:.2f} | {:.2f} | {:.2f} | {:.2f} |\n", what, times.size(), at(0.5), at(0.99),
             at(0.999), at(1));
}

/// Posts every `interval`, first left alone for that long too.
std::vector<nanoseconds> latencies(Rig& rig, nanoseconds interval, int count) {
  std::vector<nanoseconds> times;
  for (int i = 0; i < count; ++i) {
    const auto until = Clock::now() + interval;
    if (interval > milliseconds{1}) std::this_thread::sleep_until(until - microseconds{200});
    while (Clock::now() < until) {
    }
    times.push_back(rig.post_and_wait());
  }
  return times;
}

void measure_post() {
  Rig rig{nanoseconds{0}};
  constexpr int kPosts = 2'000'000;
  double best = 1e9;
  for (int round = 0; round < 5; ++round) {
    const auto start = Clock::now();
    for (int i = 0; i < kPosts; ++i) rig.user().post(Megahertz{600});
    best = std::min(best, std::chrono::duration<double, std::nano>(Clock::now() - start).count() / kPosts);
  }
  fmt::print(
      "One post: {:.0f} ns (best of 5 runs of {} posts, beside a clock thread that reads the page).\n\n",
      best, kPosts);
}

/// Share of a core that the clock thread takes, over `time` with a post every `interval`.
void measure_cpu(std::string_view what, nanoseconds interval, nanoseconds time) {
  Rig rig{nanoseconds{0}};
  std::this_thread::sleep_for(milliseconds{50});
  const double all = cpu_of_process();
  const double mine = cpu_of_this_thread();
  const auto start = Clock::now();
  std::uint32_t turn = 0;
  while (Clock::now() - start < time) {
    std::this_thread::sleep_for(interval);
    rig.user().post(Megahertz{600 + 15 * (++turn % 2)});
  }
  const double wall = std::chrono::duration<double>(Clock::now() - start).count();
  fmt::print("| {} | {:.1f} % |\n", what,
             100 * ((cpu_of_process() - all) - (cpu_of_this_thread() - mine)) / wall);
}

/// A renewal over the agent's kind of socket, answered by a thread that does nothing else.
std::vector<nanoseconds> socket_round_trips(int count) {
  auto pair = wire::seqpacket_pair().value();
  std::thread agent([&] {
    while (true) {
      const auto packet =
          wire::receive_packet(pair.theirs.get(), wire::kMaxAgentRequest, wire::deadline_in(seconds{60}));
      if (!packet || packet->end || !wire::parse_agent_request(packet->bytes)) return;
      (void)wire::send_packet(pair.theirs.get(), wire::encode(wire::AgentReply(wire::Ok{})), -1,
                              wire::deadline_in(seconds{1}));
    }
  });
  std::vector<nanoseconds> times;
  for (int i = 0; i < count; ++i) {
    const auto start = Clock::now();
    (void)wire::send_packet(pair.ours.get(), wire::encode(wire::AgentRequest(wire::Renew{7})), -1,
                            wire::deadline_in(seconds{1}));
    const auto reply =
        wire::receive_packet(pair.ours.get(), wire::kMaxAgentPacket, wire::deadline_in(seconds{1}));
    if (!reply || !wire::parse_agent_reply(reply->bytes)) std::abort();
    times.push_back(Clock::now() - start);
  }
  pair.ours.reset();
  agent.join();
  return times;
}

/// All rows; the exit code.
int measure() {
  measure_post();
  fmt::print(
      "| post to driver call | posts | p50 us | p99 us | p99.9 us | max us |\n|---|---|---|---|---|---|\n");
  {
    Rig rig{nanoseconds{0}};
    print_row("spinning: 200 us after the last post", latencies(rig, microseconds{200}, 20'000));
    print_row("spinning: 1 ms after the last post", latencies(rig, milliseconds{1}, 5'000));
    print_row("napping: 5 ms after", latencies(rig, milliseconds{5}, 1'000));
    print_row("napping: 50 ms after", latencies(rig, milliseconds{50}, 200));
    print_row("napping: 500 ms after", latencies(rig, milliseconds{500}, 20));
  }
  print_row("beside: request and reply over the socket", socket_round_trips(20'000));
  fmt::print("\n| clock thread | share of a core |\n|---|---|\n");
  measure_cpu("a post every 1 ms: spins all the time", milliseconds{1}, seconds{2});
  measure_cpu("a post every 20 ms: spins 2 ms after each, then naps", milliseconds{20}, seconds{2});
  measure_cpu("a post every 500 ms", milliseconds{500}, seconds{3});
  return 0;
}

}  // namespace
}  // namespace perseus

int main() {
  return perseus::measure();
}
