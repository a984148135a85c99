// SPDX-License-Identifier: Apache-2.0
//
// Clocks set by a command of the site; everything else by another backend. Private to the room: users call
// open_backend().
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "perseus/gpu/backend.h"

namespace perseus::gpu {

/// A device whose clock the command sets. Thread-safe: one command at a time for each device.
class CommandDevice final : public Device {
 public:
  CommandDevice(Device& inner, const CommandOverride& command) : inner_(inner), command_(command) {}

  [[nodiscard]] const Identity& identity() const override { return inner_.identity(); }
  [[nodiscard]] core::Result<std::vector<core::Megahertz>> supported_clocks() override {
    return inner_.supported_clocks();
  }
  [[nodiscard]] core::Result<ClockControl> clock_control() override;
  [[nodiscard]] core::Status lock_clock(core::Megahertz clock) override;
  [[nodiscard]] core::Status reset_clock() override;
  [[nodiscard]] core::Result<core::Megahertz> sm_clock() override { return inner_.sm_clock(); }
  [[nodiscard]] core::Result<PowerReading> power() override { return inner_.power(); }
  [[nodiscard]] core::Result<EnergyReading> energy() override { return inner_.energy(); }
  [[nodiscard]] core::Result<core::Celsius> temperature() override { return inner_.temperature(); }
  [[nodiscard]] core::Result<ClockReasons> clock_reasons() override { return inner_.clock_reasons(); }
  [[nodiscard]] core::Result<double> utilization() override { return inner_.utilization(); }
  [[nodiscard]] core::Result<core::Watts> enforced_power_limit() override {
    return inner_.enforced_power_limit();
  }
  [[nodiscard]] core::Result<std::vector<pid_t>> processes() override { return inner_.processes(); }

 private:
  [[nodiscard]] core::Status run(const std::vector<std::string>& pattern, std::string_view mhz);

  Device& inner_;
  const CommandOverride& command_;
  std::mutex running_;
};

/// As Backend says.
class CommandBackend final : public Backend {
 public:
  /// kInvalidInput: the two commands cannot work (no "{mhz}", say). Whether the files may be run is asked at
  /// each run, and by clock_control().
  [[nodiscard]] static core::Result<std::unique_ptr<Backend>> open(std::unique_ptr<Backend> inner,
                                                                   CommandOverride command);

  [[nodiscard]] std::string_view name() const override { return "command"; }
  [[nodiscard]] const std::string& driver_version() const override { return inner_->driver_version(); }
  [[nodiscard]] const std::vector<Device*>& devices() const override { return devices_; }
  [[nodiscard]] std::vector<core::Error> unreadable() const override { return inner_->unreadable(); }
  [[nodiscard]] core::Status reopen() override;
  void close() override { inner_->close(); }

 private:
  CommandBackend(std::unique_ptr<Backend> inner, CommandOverride command)
      : inner_(std::move(inner)), command_(std::move(command)) {}
  void wrap_new_devices();

  std::unique_ptr<Backend> inner_;
  CommandOverride command_;
  std::vector<std::unique_ptr<CommandDevice>> owned_;
  std::vector<Device*> devices_;
};

}  // namespace perseus::gpu
