// SPDX-License-Identifier: Apache-2.0
#include "perseus/client/promise_guard.h"

namespace perseus::client {

void PromiseGuard::begin_plan(std::uint64_t generation, std::optional<core::Seconds> promised) {
  generation_ = generation;
  promised_ = promised;
  slow_ = own_slow_ = 0;
  sum_ = own_sum_ = core::Seconds(0);
}

std::optional<GuardTripReport> PromiseGuard::add(core::Seconds measured, bool attributable) {
  if (!promised_) return std::nullopt;
  if (measured <= *promised_ * (1.0 + settings_.margin)) {
    begin_plan(generation_, promised_);
    return std::nullopt;
  }
  ++slow_;
  sum_ += measured;
  own_slow_ = attributable ? own_slow_ + 1 : 0;
  own_sum_ = attributable ? own_sum_ + measured : core::Seconds(0);
  const bool own = own_slow_ >= settings_.iterations;
  if (!own && slow_ < settings_.patience) return std::nullopt;
  const std::uint32_t count = own ? own_slow_ : slow_;
  const GuardTripReport report{.generation = generation_,
                               .promised = *promised_,
                               .measured = (own ? own_sum_ : sum_) / static_cast<double>(count),
                               .iterations = count};
  promised_.reset();  // once per plan
  return report;
}

}  // namespace perseus::client
