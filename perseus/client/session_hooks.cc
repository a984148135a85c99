// SPDX-License-Identifier: Apache-2.0
//
// The hot path: what runs in the training loop.
#include <algorithm>

#include "perseus/client/rank_session.h"

namespace perseus::client {
namespace {

/// How often the other end is told that the loop lives: it looks every second or so (assumed).
constexpr std::uint64_t kTouchNs = 50'000'000;

/// Of the stream at a step's begin: no GPU has it.
constexpr std::uint32_t kUnknownClock = 0xffff'ffff;

/// Counts for readers of other threads; this thread is the only writer, so no locked instruction is needed.
void count(std::atomic<std::uint64_t>& counter, std::uint64_t by = 1) {
  counter.store(counter.load(std::memory_order_relaxed) + by, std::memory_order_relaxed);
}

std::uint64_t to_whole_ns(core::Seconds time) {
  return time > core::Seconds(0) ? static_cast<std::uint64_t>(std::min(time.value(), 1e9) * 1e9) : 0;
}

}  // namespace

std::uint64_t RankSession::hook_now() {
  const std::uint64_t now = lease::to_ns(time_.now());
  published_.hook_ns.store(now, std::memory_order_relaxed);
  if (now - hooks_.touched_ns > kTouchNs) {
    hooks_.touched_ns = now;
    parts_.sink->touch();
  }
  return now;
}

void RankSession::publish_plan(const PlanTable* table) {
  const bool any = table != nullptr;
  published_.plan_generation.store(any ? table->plan().generation : 0, std::memory_order_relaxed);
  const bool mortal = any && !table->baseline();
  published_.ttl_ns.store(mortal ? to_whole_ns(table->plan().ttl) : 0, std::memory_order_relaxed);
  const core::Seconds promised =
      any ? table->plan().promised_time.value_or(core::Seconds(0)) : core::Seconds(0);
  published_.promised_ns.store(to_whole_ns(promised), std::memory_order_relaxed);
}

std::uint32_t RankSession::clock_ahead() const {
  return parts_.trigger ? hooks_.queued_mhz : parts_.sink->wanted();
}

void RankSession::record(const StepRecord& record) {
  if (ring_.push(record)) return;
  count(published_.lost);
  hooks_.clean = false;
}

// NOLINTNEXTLINE(readability-make-member-function-const): it changes what comes next
void RankSession::set_stream(void* stream) noexcept {
  if (parts_.trigger) parts_.trigger->set_stream(stream);
}

void RankSession::begin_step(std::uint64_t step) noexcept {
  Hooks& h = hooks_;
  if (h.in_step) end_step();
  const std::uint64_t now = hook_now();
  PlanTable* const table = plans_.at_step(step);
  if (table != h.table) {
    h.table = table;
    publish_plan(table);
  }
  const std::uint64_t generation = table == nullptr ? 0 : table->plan().generation;
  h.step = step;
  h.next_step = step + 1;
  h.begin_ns = now;
  h.window = table == nullptr ? PlanTable::kNone : table->window_of(step);
  const bool nothing =
      table == nullptr || table->baseline() || (table->sweep() && h.window == PlanTable::kNone);
  const bool broken = parts_.trigger && parts_.trigger->broken();
  const bool ordered = broken || orders_.refused() || orders_.banned(generation) ||
                       orders_.expired(now, published_.ttl_ns.load(std::memory_order_relaxed));
  h.baseline = nothing || ordered;
  h.clean = table != nullptr && !ordered && (!nothing || table->plan().baseline);
  h.in_step = true;
  h.open = false;
  ++h.tag;
  h.next_slot = h.seen = h.unknown = h.missing = 0;
  published_.generation.store(h.baseline ? 0 : generation, std::memory_order_relaxed);
  published_.step_word.store(2 * step + 1, std::memory_order_release);
  if (parts_.link) parts_.link->at_step(step);
  StepRecord begin;
  begin.step = step;
  begin.begin_ns = now;
  begin.table = table;
  if (parts_.trigger) {
    h.queued_mhz = kUnknownClock;  // the first computation says it anew, whatever came in between
    parts_.trigger->begin_step(begin);
    return;
  }
  if (h.baseline && parts_.sink->wanted() != 0) {
    parts_.sink->post({.mhz = 0, .step = step});
    count(published_.posts);
  }
  record(begin);
}

void RankSession::end_step() noexcept {
  Hooks& h = hooks_;
  if (!h.in_step) return;
  const std::uint64_t now = hook_now();
  if (h.table != nullptr && h.seen < h.table->expected()) {
    h.missing = h.table->expected() - h.seen;
    h.clean = false;
    count(published_.missing, h.missing);
  }
  count(published_.steps);
  published_.iteration_ns.store(now - h.begin_ns, std::memory_order_relaxed);
  StepRecord end;
  end.type = StepRecord::Type::kStepEnd;
  end.clean = h.clean && !h.open && !orders_.suspended(h.step);
  end.unknown = h.unknown;
  end.missing = h.missing;
  end.step = h.step;
  end.end_ns = now;
  end.table = h.table;
  if (parts_.trigger) {
    parts_.trigger->end_step(end);
  } else {
    record(end);
  }
  h.in_step = false;
  published_.step_word.store(2 * h.step, std::memory_order_release);
}

void RankSession::unknown_computation(core::Kind kind, std::uint32_t stage, std::uint32_t microbatch) {
  Hooks& h = hooks_;
  ++h.unknown;
  h.baseline = true;
  h.clean = false;
  count(published_.unknown);
  published_.generation.store(0, std::memory_order_relaxed);
  const std::uint64_t what =
      (static_cast<std::uint64_t>(kind) + 1) << 56U | (std::uint64_t{stage} & 0xff'ffffU) << 32U | microbatch;
  published_.unknown_what.store(what, std::memory_order_relaxed);
}

void RankSession::note_order(std::uint32_t slot) {
  Hooks& h = hooks_;
  ++h.seen;
  if (slot >= h.next_slot) {
    h.next_slot = slot + 1;
    return;
  }
  // It should have come before another one that has been: the plan was made for another order.
  count(published_.reordered);
  h.baseline = true;
  h.clean = false;
  published_.generation.store(0, std::memory_order_relaxed);
}

PlanTable::Hit RankSession::look_up(core::Kind kind, std::uint32_t stage, std::uint32_t microbatch) {
  Hooks& h = hooks_;
  PlanTable* const table = h.table;
  if (table == nullptr || table->baseline() || (table->sweep() && h.window == PlanTable::kNone)) return {};
  const PlanTable::Hit hit = table->find(kind, stage, microbatch, h.window);
  if (!hit.found() || (!table->sweep() && table->seen[hit.slot] == h.tag)) {
    unknown_computation(kind, stage, microbatch);
    return {};
  }
  if (!table->sweep()) {
    table->seen[hit.slot] = h.tag;
    note_order(hit.slot);
  }
  if (!h.baseline && orders_.suspended(h.step)) {
    h.baseline = true;
    h.clean = false;
  }
  return hit;
}

void RankSession::begin(core::Kind kind, std::uint32_t stage, std::uint32_t microbatch) noexcept {
  Hooks& h = hooks_;
  if (!h.in_step) return;
  const std::uint64_t now = hook_now();
  count(published_.operations);
  if (h.open) h.clean = false;  // whose energy would it be?
  h.open = true;
  h.open_kind = kind;
  h.open_stage = stage;
  h.open_microbatch = microbatch;
  h.open_ns = now;
  h.open_hit = look_up(kind, stage, microbatch);

  const std::uint32_t before = clock_ahead();
  const bool matters = h.baseline || h.open_hit.mhz != 0;
  const std::uint32_t mhz = h.baseline ? 0 : h.open_hit.mhz;
  const bool changes = matters && mhz != before;
  h.open_mhz = matters ? mhz : (before == kUnknownClock ? 0 : before);
  if (changes) count(published_.posts);
  const ClockPost post{mhz, h.step, kind, stage, microbatch};
  if (parts_.trigger) {
    if (changes) h.queued_mhz = mhz;
    parts_.trigger->begin_operation(changes ? &post : nullptr);
  } else if (changes) {
    parts_.sink->post(post);
  }
}

void RankSession::end(core::Kind kind, std::uint32_t stage, std::uint32_t microbatch) noexcept {
  Hooks& h = hooks_;
  if (!h.in_step || !h.open || kind != h.open_kind || stage != h.open_stage ||
      microbatch != h.open_microbatch) {
    return;
  }
  const std::uint64_t now = hook_now();
  h.open = false;
  if (!h.open_hit.found() || !h.clean) {
    if (parts_.trigger) parts_.trigger->drop_operation();
    return;
  }
  StepRecord operation;
  operation.type = StepRecord::Type::kOperation;
  operation.kind = kind;
  operation.stage = stage;
  operation.slot = h.open_hit.slot;
  operation.mhz = h.open_mhz;
  operation.begin_ns = h.open_ns;
  operation.end_ns = now;
  operation.table = h.table;
  if (parts_.trigger) {
    parts_.trigger->end_operation(operation);
  } else {
    record(operation);
  }
}

}  // namespace perseus::client
