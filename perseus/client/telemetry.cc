// SPDX-License-Identifier: Apache-2.0
#include "perseus/client/telemetry.h"

namespace perseus::client {

std::optional<EnergyUpdate> UpdateCatcher::note(std::uint64_t begin_ns, std::uint64_t end_ns,
                                                const gpu::EnergyReading& reading) {
  const std::uint64_t now = begin_ns + (end_ns - begin_ns) / 2;
  std::optional<EnergyUpdate> out;
  const bool changed = last_ && (last_->total != reading.total || last_->epoch != reading.epoch);
  if (changed) {
    out = EnergyUpdate{
        .t_ns = last_seen_ns_ + (now - last_seen_ns_) / 2, .total = reading.total, .epoch = reading.epoch};
  }
  last_ = reading;
  last_seen_ns_ = now;
  return out;
}

}  // namespace perseus::client
