// SPDX-License-Identifier: Apache-2.0
//
// What a clock request costs on both sides of the mailbox.
//
//   build/bench/bin/lease_bench
//
// Post: the training thread's share, with the agent's thread spinning on the same cache line on another core,
// and with nobody there. Hold: the same through client::ClockHold. Nap: processor time that a GPU's thread
// takes of one core while its lease is idle, by how long ago the last request was (its policy is in
// perseus/lease/apply_loop.h). The way from a post to the driver call is measured with the real agent in
// agent_bench.
#include <benchmark/benchmark.h>
#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "perseus/lease/apply_loop.h"
#include "perseus/lease/clock_thread.h"
#include "perseus/wire/mailbox.h"

namespace perseus {
namespace {

using core::Megahertz;

/// Both ends of a mailbox.
struct Box {
  wire::MailboxOwner owner = *wire::MailboxOwner::create();
  wire::MailboxUser user = *wire::MailboxUser::map(::dup(owner.fd()));
};

void post_alone(benchmark::State& state) {
  Box box;
  std::uint32_t mhz = 900;
  for ([[maybe_unused]] auto _ : state) benchmark::DoNotOptimize(box.user.post(Megahertz(mhz = 1815 - mhz)));
}
BENCHMARK(post_alone);

void post_while_the_owner_spins(benchmark::State& state) {
  Box box;
  std::atomic<bool> stop{false};
  std::thread owner([&] {
    std::uint32_t seen = 0;
    while (!stop.load(std::memory_order_relaxed)) {
      const wire::ClockWord word = box.owner.latest();
      if (word.sequence == seen) continue;
      seen = word.sequence;
      box.owner.answer({word.sequence, word.mhz, 1}, 1, 2);
    }
  });
  std::uint32_t mhz = 900;
  for ([[maybe_unused]] auto _ : state) benchmark::DoNotOptimize(box.user.post(Megahertz(mhz = 1815 - mhz)));
  stop = true;
  owner.join();
}
BENCHMARK(post_while_the_owner_spins)->UseRealTime();

/// A device whose driver is instant.
class NullDevice final : public gpu::Device {
 public:
  NullDevice() { identity_.uuid = "GPU-null"; }
  const gpu::Identity& identity() const override { return identity_; }
  core::Result<std::vector<Megahertz>> supported_clocks() override {
    return std::vector{Megahertz(900), Megahertz(915)};
  }
  core::Result<gpu::ClockControl> clock_control() override {
    return gpu::ClockControl{.possible = true, .reason = {}};
  }
  core::Status lock_clock(Megahertz) override { return ++calls, core::Status(); }
  core::Status reset_clock() override { return ++calls, core::Status(); }
  core::Result<Megahertz> sm_clock() override { return Megahertz(900); }
  core::Result<gpu::PowerReading> power() override { return gpu::PowerReading{}; }
  core::Result<gpu::EnergyReading> energy() override { return gpu::EnergyReading{}; }
  core::Result<core::Celsius> temperature() override { return core::Celsius(40); }
  core::Result<gpu::ClockReasons> clock_reasons() override { return gpu::ClockReasons(); }
  core::Result<double> utilization() override { return 0.0; }
  core::Result<core::Watts> enforced_power_limit() override { return core::Watts(400); }
  core::Result<std::vector<pid_t>> processes() override { return std::vector<pid_t>(); }
  std::atomic<std::uint64_t> calls{0};

 private:
  gpu::Identity identity_;
};

/// The mailbox as the loop's source, as the agent has it.
class BoxRequests final : public lease::ClockRequests {
 public:
  lease::Request latest() override {
    const wire::ClockWord word = box.owner.latest();
    return {.sequence = word.sequence,
            .kind = word.kind == 1 ? lease::RequestKind::kClock : lease::RequestKind::kNone,
            .clock = Megahertz(word.mhz)};
  }
  std::uint64_t posted_ns() override { return box.owner.posted_ns(); }
  void answer(const lease::Answer& answer) override {
    box.owner.answer({answer.sequence, 0, 1}, lease::to_ns(answer.called), lease::to_ns(answer.applied));
  }
  Box box;
};

/// Processor seconds that this process has taken.
double cpu_seconds() {
  timespec time{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

/// A GPU's thread with a lease, requests coming every state.range(0) microseconds (0: never).
void thread_of_a_gpu(benchmark::State& state) {
  std::string folder = "/tmp/perseus-bench-XXXXXX";
  if (::mkdtemp(folder.data()) == nullptr) return state.SkipWithError("no folder");
  {
    const auto directory =
        *lease::StateDirectory::open({.path = folder, .hold = lease::Hold::kAgent, .boot_id = {}});
    NullDevice device;
    const auto requests = std::make_shared<BoxRequests>();
    lease::ClockThread thread(device, directory, lease::SystemTime::instance(), {});
    std::atomic<bool> leased{false};
    if (!thread.acquire({.owner = {}, .baseline = {}, .clocks = *device.supported_clocks()}, requests,
                        [&](const core::Status&) { leased = true; })) {
      return state.SkipWithError("no lease");
    }
    while (!leased) std::this_thread::yield();
    const timespec pause{.tv_sec = 0, .tv_nsec = state.range(0) * 1000};
    std::this_thread::sleep_for(std::chrono::milliseconds(300));  // past the spinning and the shortest naps
    std::vector<double> waits_us;
    const double before = cpu_seconds();
    const auto start = std::chrono::steady_clock::now();
    std::uint32_t mhz = 900;
    for ([[maybe_unused]] auto _ : state) {
      if (state.range(0) == 0) {
        std::this_thread::sleep_for(std::chrono::seconds(2));
        continue;
      }
      ::nanosleep(&pause, nullptr);
      const std::uint32_t sequence = requests->box.user.post(Megahertz(mhz = 1815 - mhz));
      while (requests->box.user.applied().sequence != sequence) std::this_thread::yield();
      const auto called = static_cast<double>(requests->box.user.called_ns());
      waits_us.push_back((called - static_cast<double>(requests->box.owner.posted_ns())) * 1e-3);
    }
    const double wall = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    state.counters["cpu_percent"] = 100 * (cpu_seconds() - before) / wall;
    if (!waits_us.empty()) {
      std::ranges::sort(waits_us);
      state.counters["p50_us"] = waits_us[waits_us.size() / 2];
      state.counters["p99_us"] = waits_us[waits_us.size() * 99 / 100];
    }
  }
  std::filesystem::remove_all(folder);
}
BENCHMARK(thread_of_a_gpu)->Arg(0)->Iterations(1)->UseRealTime();
BENCHMARK(thread_of_a_gpu)->Arg(1'000)->Iterations(2000)->UseRealTime();
BENCHMARK(thread_of_a_gpu)->Arg(10'000)->Iterations(300)->UseRealTime();
BENCHMARK(thread_of_a_gpu)->Arg(100'000)->Iterations(50)->UseRealTime();

}  // namespace
}  // namespace perseus
