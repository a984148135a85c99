// SPDX-License-Identifier: Apache-2.0
//
// A library with AMD SMI's ABI, written from amdsmi.h, whose every answer a test decides. It has the
// structures of ROCm 6.3 (version 24) or of ROCm 7 (version 26), declared member by member as AMD does, so
// that the offsets that the backend uses are checked against the structures and not against themselves.
//
// It refuses what amdgpu refuses: a lower bound of the clock above the upper one. It also notices two calls
// at a time, which AMD SMI does not stand before ROCm 7.2.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace perseus::tests {

struct AmdStandinGpu {
  std::string uuid;
  std::string name = "AMD Instinct MI300X";
  std::uint64_t bdf = 0;
  std::vector<std::uint64_t> levels_hz = {132'000'000, 700'000'000, 2'100'000'000};
  std::uint32_t current_level = 1;
  std::uint64_t low_mhz = 132;  ///< the widest range
  std::uint64_t high_mhz = 2'100;
  std::uint64_t min_mhz = 132;  ///< the bounds in force
  std::uint64_t max_mhz = 2'100;
  std::uint32_t current_power_w = 180;
  std::uint32_t average_power_w = 0xFFFF'FFFF;
  float resolution_uj = 15.25878906F;  ///< 2^-16 J, as MI200 and MI300 report it
  std::function<double()> energy_j = [] { return 1.0; };
  std::int64_t hotspot = 55;
  std::int64_t edge = 48;
  std::uint32_t busy = 40;
  std::uint64_t cap = 750'000'000;
  std::vector<std::uint32_t> processes;
  std::uint32_t virtualization = 1;
};

/// All of it is guarded by `mutex`, except `inside` and `overlapped`.
struct AmdStandin {
  std::mutex mutex;
  std::vector<std::vector<AmdStandinGpu>> sockets;
  std::map<std::string, std::pair<std::uint32_t, int>, std::less<>>
      failures;                       ///< status and times; < 0: always
  std::vector<std::string> settings;  ///< "min 900", "max 900", "auto"
  std::uint32_t version[3] = {26, 1, 0};
  int started = 0;
  std::atomic<int> inside = 0;
  std::atomic<bool> overlapped = false;  ///< two calls were in the library at a time

  AmdStandin() {
    for (unsigned i = 0; i < 2; ++i) {
      sockets.push_back({{}});
      sockets[i][0].uuid = "2aff74a1-0000-1000-80de-9ddd9d87000" + std::to_string(i);
      sockets[i][0].bdf = (0xC1ULL + i) << 8U;
    }
  }
};

inline constexpr const char* kAmdStandinFunction = "amd_standin";

}  // namespace perseus::tests
