// SPDX-License-Identifier: Apache-2.0
#include "perseus/gpu/command_backend.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "perseus/gpu/clock_table.h"
#include "perseus/gpu/command_runner.h"

namespace perseus::gpu {

using core::ErrorCode;

namespace {

constexpr std::string_view kGpu = "{gpu}";
constexpr std::string_view kUuid = "{uuid}";
constexpr std::string_view kMhz = "{mhz}";

std::unexpected<core::Error> refuse(std::string_view which, std::string_view why) {
  return core::fail(ErrorCode::kInvalidInput, fmt::format("the command that {}: {}", which, why));
}

/// A command that could not do its work is refused before it is needed.
core::Status check_pattern(const std::vector<std::string>& pattern, std::string_view which, bool with_clock) {
  if (pattern.empty()) return refuse(which, "is missing");
  if (!pattern[0].starts_with('/'))
    return refuse(which, fmt::format("'{}' is not an absolute path", pattern[0]));
  bool names_gpu = false;
  bool names_clock = false;
  for (std::size_t i = 1; i < pattern.size(); ++i) {
    for (const std::string_view placeholder : {kGpu, kUuid, kMhz}) {
      if (pattern[i] == placeholder) {
        (placeholder == kMhz ? names_clock : names_gpu) = true;
      } else if (pattern[i].find(placeholder) != std::string::npos) {
        return refuse(which, fmt::format("'{}': {} must be an argument of its own", pattern[i], placeholder));
      }
    }
  }
  if (!names_gpu) return refuse(which, "has neither {gpu} nor {uuid}, so it cannot know which GPU is meant");
  if (with_clock && !names_clock) return refuse(which, "has no {mhz}, so it cannot know the clock");
  if (!with_clock && names_clock) return refuse(which, "has {mhz}, which has no value there");
  return {};
}

}  // namespace

core::Result<ClockControl> CommandDevice::clock_control() {
  PERSEUS_ASSIGN_OR_RETURN(const auto clock, inner_.sm_clock());  // lost or closed comes first
  static_cast<void>(clock);
  for (const auto* pattern : {&command_.lock, &command_.reset}) {
    const auto allowed = check_command(pattern->front());
    if (!allowed) return ClockControl{.possible = false, .reason = allowed.error().text()};
  }
  return ClockControl{.possible = true, .reason = ""};
}

core::Status CommandDevice::run(const std::vector<std::string>& pattern, std::string_view mhz) {
  std::vector<std::string> argv = pattern;
  for (auto& argument : argv) {
    if (argument == kGpu) argument = std::to_string(identity().index);
    if (argument == kUuid) argument = identity().uuid;
    if (argument == kMhz) argument = mhz;
  }
  const std::lock_guard lock(running_);
  return run_command(argv, command_.time_limit);
}

core::Status CommandDevice::lock_clock(core::Megahertz clock) {
  PERSEUS_ASSIGN_OR_RETURN(const auto supported, inner_.supported_clocks());
  PERSEUS_RETURN_IF_ERROR(check_clock(supported, clock, identity()));
  return run(command_.lock, std::to_string(clock.value()));
}

core::Status CommandDevice::reset_clock() {
  return run(command_.reset, "");
}

core::Result<std::unique_ptr<Backend>> CommandBackend::open(std::unique_ptr<Backend> inner,
                                                            CommandOverride command) {
  PERSEUS_RETURN_IF_ERROR(check_pattern(command.lock, "locks a clock", true));
  PERSEUS_RETURN_IF_ERROR(check_pattern(command.reset, "resets a clock", false));
  if (command.time_limit <= std::chrono::milliseconds{0}) {
    return core::fail(ErrorCode::kInvalidInput,
                      fmt::format("the time limit of the commands is {} ms; it must be "
                                  "above 0",
                                  command.time_limit.count()));
  }
  std::unique_ptr<CommandBackend> backend(new CommandBackend(std::move(inner), std::move(command)));
  backend->wrap_new_devices();
  return std::unique_ptr<Backend>(std::move(backend));
}

void CommandBackend::wrap_new_devices() {
  const auto& inner = inner_->devices();  // known ones keep their place
  for (std::size_t i = owned_.size(); i < inner.size(); ++i) {
    owned_.push_back(std::make_unique<CommandDevice>(*inner[i], command_));
    devices_.push_back(owned_.back().get());
  }
}

core::Status CommandBackend::reopen() {
  auto status = inner_->reopen();
  wrap_new_devices();
  return status;
}

}  // namespace perseus::gpu
