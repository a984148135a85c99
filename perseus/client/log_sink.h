// SPDX-License-Identifier: Apache-2.0
//
// A dry run's clocks: each change becomes a line of a file, and no GPU is touched.
//
//   {"t_s":12.034512,"step":7,"kind":"F","stage":0,"microbatch":3,"clock_mhz":1410}
//   {"t_s":12.100000,"step":7,"kind":"baseline","clock_mhz":0}
//
// t_s is seconds of the machine's monotonic clock. kind, stage and microbatch are those of the computation
// that the clock is for; the baseline is for none.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "perseus/client/bounded_ring.h"
#include "perseus/client/clock_sink.h"
#include "perseus/format/unique_fd.h"
#include "perseus/lease/clock.h"

namespace perseus::client {

/// Thread rules of ClockSink: posts go to a bounded ring, work() writes them.
class LogSink final : public ClockSink {
 public:
  /// Appends to `path`, made with mode 0644 if absent, close-on-exec; a symbolic link is not followed.
  /// kIo: it cannot be opened, with the system's reason. `time` must outlive the sink.
  [[nodiscard]] static core::Result<std::unique_ptr<LogSink>> open(const std::string& path,
                                                                   const lease::TimeSource& time);

  void post(const ClockPost& post) override;
  [[nodiscard]] std::uint32_t wanted() const override { return wanted_.load(std::memory_order_relaxed); }
  void work() override;
  [[nodiscard]] SinkState state() override;
  void close(core::Seconds patience) override;

  /// Changes between two looks of the native thread, about 20 ms: a step of 1,000 computations fits.
  static constexpr std::size_t kRoom = 4096;

 private:
  struct Line {
    std::uint64_t t_ns = 0;
    ClockPost post;
  };
  LogSink(format::UniqueFd file, std::string path, const lease::TimeSource& time)
      : file_(std::move(file)), path_(std::move(path)), time_(time) {}
  void write_out(const std::string& text);

  format::UniqueFd file_;
  std::string path_;
  const lease::TimeSource& time_;
  MpscRing<Line> lines_{kRoom};
  std::atomic<std::uint32_t> wanted_{0};
  std::atomic<std::uint64_t> dropped_{0};
  std::uint64_t dropped_told_ = 0;
  bool open_told_ = false;
  bool broken_ = false;
  std::string trouble_;
};

}  // namespace perseus::client
