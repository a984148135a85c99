// SPDX-License-Identifier: Apache-2.0
//
// What a server answers a rank: a plan that is taken keeps its bounds and is the same after being written and
// read again, one that leaves its operations out is completed from itself only. The other answers are short.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "perseus/client/rank_plan_json.h"
#include "perseus/client/test_rank_plan.h"
#include "perseus/core/profile.h"

namespace {

using namespace perseus;  // NOLINT(google-build-using-namespace): a program of one file

void check(bool holds) {
  if (!holds) std::abort();
}

void check_bounds(const client::RankPlan& plan) {
  check(plan.revision / 2 == plan.generation && (plan.revision % 2 == 1) == plan.from_step.has_value());
  check(plan.operations.empty() || plan.windows.empty());
  check(!plan.baseline || (plan.operations.empty() && plan.windows.empty() && !plan.promised_time));
  for (const auto& operation : plan.operations) {
    check(!operation.clock ||
          (operation.clock->value() >= 1 && operation.clock->value() <= core::kMaxClockMhz));
    check(operation.expected_time >= core::Seconds(0) && operation.expected_time <= core::kMaxTime);
    check((operation.computation.kind == core::Kind::kOther) == !operation.instruction.empty());
  }
  for (const auto& window : plan.windows) check(window.skip < window.steps);
}

void plan(std::string_view text) {
  auto received = client::parse_rank_plan(text);
  if (!received) return;
  check_bounds(received->plan);
  if (!received->complete) {
    check(!client::complete(*received, nullptr));
    return;
  }
  const auto whole = client::complete(*std::move(received), nullptr);
  check(whole.has_value());
  const auto again = client::parse_rank_plan(client::rank_plan_text(*whole));
  check(again && again->complete && again->plan == *whole);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  plan(text);
  if (const auto applied = client::parse_applied(text)) check(applied->rank_ttl > core::Seconds(0));
  check(client::refusal_words(text).size() <= 2048);
  return 0;
}
