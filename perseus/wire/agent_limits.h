// SPDX-License-Identifier: Apache-2.0
//
// Ranges of what the agent's messages may say, one table for writer and reader. They keep the longest welcome
// (64 GPUs with 256 clocks of four digits each) and the longest status within kMaxAgentPacket.
#pragma once

#include <cstddef>
#include <cstdint>

namespace perseus::wire {

inline constexpr std::size_t kMaxGpus = 64;     ///< of one node (assumed: today's have 16 at most)
inline constexpr std::size_t kMaxClocks = 256;  ///< of one GPU (an H200 has about 120)
inline constexpr std::size_t kMaxProduct = 96;  ///< bytes of a GPU's name (NVML_DEVICE_NAME_V2_BUFFER_SIZE)
inline constexpr std::size_t kMaxVersion =
    80;  ///< bytes of a version (NVML_SYSTEM_DRIVER_VERSION_BUFFER_SIZE)
inline constexpr std::size_t kMaxReason = 160;        ///< bytes of one sentence about a GPU
inline constexpr std::size_t kMaxOwner = 320;         ///< bytes of "job (pid, uid)"
inline constexpr std::size_t kMaxMessage = 1024;      ///< bytes of a refusal
inline constexpr std::int64_t kMaxClockMhz = 65'535;  ///< what a mailbox can carry
inline constexpr std::int64_t kMaxResumeMs =
    604'800'000;  ///< a week: longer than any maintenance that should resume by itself
inline constexpr double kMaxReading =
    1e15;  ///< of watts, joules, degrees, seconds: beyond any that can occur

}  // namespace perseus::wire
