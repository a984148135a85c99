// SPDX-License-Identifier: Apache-2.0
//
// Clocks by the node's agent or by a guardian process: a ClockLink that is opened in the background, so that
// nobody ever waits for an agent that is not there.
//
//   HoldSink sink([] { return std::make_unique<AgentEndpoint>(path); }, {.gpu = "GPU-...", .job = "gpt3"});
//   sink.wait_for_first_try(core::Seconds{0.5});   // optional
//   sink.post({.mhz = 900});                     // kept until there is a lease, then asked for
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "perseus/client/clock_link.h"
#include "perseus/client/clock_sink.h"

namespace perseus::client {

struct HoldSinkOptions {
  std::string gpu;  ///< UUID, or an index of the other end
  std::string job;  ///< for the other end's audit
  ClockLinkOptions link;
  std::chrono::milliseconds patience{5'000};  ///< of one attempt; a guardian loads the driver first (assumed)
  std::chrono::milliseconds first_retry{200};   ///< assumed
  std::chrono::milliseconds most_retry{5'000};  ///< a restarted agent is found within it (assumed)
};

using EndpointMaker = std::function<std::unique_ptr<Endpoint>()>;

/// Thread rules of ClockSink. Refusals that no patience mends (no permission, GPU unknown) are tried again as
/// well: an administrator may grant it meanwhile. Not so where another writer sets that GPU's clock, or it
/// does not obey.
class HoldSink final : public ClockSink {
 public:
  /// `endpoint` makes a fresh one for each attempt; called on the sink's own thread.
  HoldSink(EndpointMaker endpoint, HoldSinkOptions options);
  HoldSink(const HoldSink&) = delete;
  HoldSink& operator=(const HoldSink&) = delete;
  ~HoldSink() override;

  void post(const ClockPost& post) override;
  [[nodiscard]] std::uint32_t wanted() const override;
  void touch() override;
  [[nodiscard]] SinkState state() override;
  [[nodiscard]] SinkGpu gpu() override;
  void close(core::Seconds patience) override;

  /// Waits until there is a lease, the first try has failed, or `patience` is over. Whether there is one.
  bool wait_for_first_try(core::Seconds patience);

 private:
  void keep_held();
  [[nodiscard]] core::Status try_open();
  void deliver(ClockHold& hold) const;
  void tell(std::string news, bool warning);
  void note_state(const ClockHold& hold, HoldState state);

  EndpointMaker endpoint_;
  HoldSinkOptions options_;
  std::atomic<std::uint64_t> wanted_{0};  ///< a count of posts in the upper half, MHz in the lower
  std::atomic<ClockHold*> hold_{nullptr};

  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;
  bool tried_ = false;
  bool ended_ = false;  ///< the lease is over, and another one is to be asked for
  std::unique_ptr<ClockLink> link_;
  std::string news_;
  bool news_is_warning_ = false;
  std::string last_trouble_;
  HoldState last_state_ = HoldState::kWaiting;
  std::thread opener_;
};

}  // namespace perseus::client
