// SPDX-License-Identifier: Apache-2.0
#include "perseus/client/stream_trigger.h"

#include <dlfcn.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "perseus/client/test_session.h"
#include "tests/cuda/standin.h"

namespace perseus::client {
namespace {

using core::ErrorCode;
using core::Kind;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using tests::CudaStandin;

constexpr CudaResult kInvalidValue = 1;  // CUDA_ERROR_INVALID_VALUE

/// A driver of some age with everything fresh.
class StreamTriggerTest : public testing::Test {
 protected:
  void load(const std::string& age) {
    const std::string path = std::string(PERSEUS_CUDA_STANDINS) + age + ".so";
    auto loaded = CudaDriver::load(path);
    ASSERT_TRUE(loaded) << loaded.error().text();
    driver_ = *std::move(loaded);
    void* const handle = ::dlopen(path.c_str(), RTLD_NOW | RTLD_NOLOAD);
    ASSERT_NE(handle, nullptr);
    auto* const state = reinterpret_cast<CudaStandin* (*)()>(::dlsym(handle, tests::kCudaStandinFunction));
    cuda_ = state();
    ::dlclose(handle);
  }
  core::Result<std::unique_ptr<StreamTrigger>> open(StreamMode mode, TriggerSettings settings = {}) {
    settings.thread = false;
    settings.time = &time_;
    return StreamTrigger::open(driver_, &cuda_->stream, mode, settings);
  }
  void start(StreamMode mode, TriggerSettings settings = {}) {
    auto opened = open(mode, settings);
    ASSERT_TRUE(opened) << opened.error().text();
    trigger_ = *std::move(opened);
    trigger_->start({.post = [this](const ClockPost& post) { posts_.push_back(post.mhz); },
                     .record = [this](const StepRecord& record) { records_.push_back(record); }});
  }
  void TearDown() override {
    trigger_.reset();
    if (cuda_ == nullptr) return;
    EXPECT_EQ(cuda_->events_alive, 0U);
    EXPECT_EQ(cuda_->streams_alive, 0U);
    EXPECT_EQ(cuda_->host_blocks, 0U);
    EXPECT_THAT(cuda_->pushed, IsEmpty());
  }

  /// One step of two computations of 5 and 7 ms at 900 and 915 MHz, as hooks queue it.
  void queue_step(std::uint64_t step) {
    StepRecord record;
    record.step = step;
    trigger_->begin_step(record);
    const ClockPost first{.mhz = 900, .step = step};
    trigger_->begin_operation(&first);
    cuda_->work(5);
    record.type = StepRecord::Type::kOperation;
    record.mhz = 900;
    trigger_->end_operation(record);
    cuda_->work(1);  // something between them
    const ClockPost second{.mhz = 915, .step = step};
    trigger_->begin_operation(&second);
    cuda_->work(7);
    record.mhz = 915;
    trigger_->end_operation(record);
    record.type = StepRecord::Type::kStepEnd;
    trigger_->end_step(record);
  }

  lease::ManualTime time_;
  std::shared_ptr<const CudaDriver> driver_;
  CudaStandin* cuda_ = nullptr;
  std::unique_ptr<StreamTrigger> trigger_;
  std::vector<std::uint32_t> posts_;
  std::vector<StepRecord> records_;
};

class BothModes : public StreamTriggerTest, public testing::WithParamInterface<StreamMode> {};
INSTANTIATE_TEST_SUITE_P(Modes, BothModes, testing::Values(StreamMode::kWrite, StreamMode::kEventPoll),
                         [](const auto& mode) {
                           return mode.param == StreamMode::kWrite ? "Write" : "EventPoll";
                         });

TEST_P(BothModes, ClocksComeWhenTheStreamIsThere) {
  load("current");
  start(GetParam());
  EXPECT_EQ(trigger_->mode(), GetParam());
  queue_step(7);
  trigger_->poll();
  EXPECT_THAT(posts_, IsEmpty());  // the host is ahead
  EXPECT_NE(trigger_->done(), trigger_->queued());
  const std::size_t signal = GetParam() == StreamMode::kWrite ? 1 : 0;  // a write behind each event
  cuda_->advance(1 + signal);                                           // the step's begin
  trigger_->poll();
  EXPECT_THAT(posts_, IsEmpty());
  cuda_->advance(1 + signal);
  trigger_->poll();
  EXPECT_THAT(posts_, ElementsAre(900));
  cuda_->advance(3);  // the work, its end, and what is between
  trigger_->poll();
  EXPECT_THAT(posts_, ElementsAre(900));
  cuda_->advance(1 + signal);
  trigger_->poll();
  EXPECT_THAT(posts_, ElementsAre(900, 915));
  cuda_->finish();
  trigger_->poll();
  EXPECT_EQ(trigger_->done(), trigger_->queued());
}

TEST_P(BothModes, TimesAreTheGpus) {
  load("current");
  start(GetParam());
  queue_step(7);
  time_.advance(std::chrono::seconds(2));
  cuda_->finish();
  trigger_->poll();
  ASSERT_EQ(records_.size(), 4U);
  const std::uint64_t base = lease::to_ns(time_.now());
  EXPECT_EQ(records_[0].type, StepRecord::Type::kStepBegin);
  EXPECT_EQ(records_[0].step, 7U);
  EXPECT_EQ(records_[0].begin_ns, base);
  EXPECT_EQ(records_[1].begin_ns, base);
  EXPECT_EQ(records_[1].end_ns, base + 5'000'000);
  EXPECT_EQ(records_[2].begin_ns, base + 6'000'000);
  EXPECT_EQ(records_[2].end_ns, base + 13'000'000);
  EXPECT_EQ(records_[2].mhz, 915U);
  EXPECT_EQ(records_[3].type, StepRecord::Type::kStepEnd);
  EXPECT_EQ(records_[3].end_ns, base + 13'000'000);
  EXPECT_TRUE(records_[3].clean);
  EXPECT_EQ(trigger_->last_done_ns(), base);
}

TEST_P(BothModes, EventsAreUsedAgain) {
  load("current");
  start(GetParam(), {.events = 6, .most_events = 6});
  for (std::uint64_t step = 0; step < 20; ++step) {
    queue_step(step);
    cuda_->finish();
    trigger_->poll();
    ASSERT_TRUE(records_.back().clean);
  }
  EXPECT_EQ(cuda_->events.size(), 6U);
  EXPECT_EQ(posts_.size(), 40U);
}

TEST_P(BothModes, StepsInFlightKeepTheirOrder) {
  load("current");
  start(GetParam());
  for (std::uint64_t step = 0; step < 3; ++step) queue_step(step);
  cuda_->finish();
  trigger_->poll();
  EXPECT_THAT(posts_, ElementsAre(900, 915, 900, 915, 900, 915));
  ASSERT_EQ(records_.size(), 12U);
  EXPECT_EQ(records_[11].step, 2U);
}

TEST_P(BothModes, WithoutFreeEventsTheStepIsNotMeasuredAndMoreAreMade) {
  load("current");
  start(GetParam(), {.events = 4, .most_events = 64});
  queue_step(0);
  cuda_->finish();
  trigger_->poll();
  EXPECT_FALSE(records_.back().clean);
  queue_step(1);
  cuda_->finish();
  trigger_->poll();
  EXPECT_TRUE(records_.back().clean);
}

TEST_P(BothModes, AComputationThatIsDroppedGivesItsEventBack) {
  load("current");
  start(GetParam(), {.events = 6, .most_events = 6});
  for (int i = 0; i < 20; ++i) {
    StepRecord record;
    trigger_->begin_step(record);
    const ClockPost post{.mhz = 900};
    trigger_->begin_operation(&post);
    trigger_->drop_operation();
    trigger_->begin_operation(nullptr);  // without its end
    trigger_->begin_operation(nullptr);
    record.type = StepRecord::Type::kStepEnd;
    trigger_->end_step(record);
    cuda_->finish();
    trigger_->poll();
    ASSERT_TRUE(records_.back().clean) << i;
  }
  EXPECT_EQ(posts_.size(), 20U);
}

TEST_P(BothModes, ADriverThatRefusesEndsTheSignals) {
  load("current");
  start(GetParam());
  queue_step(0);
  cuda_->failures["cuEventRecord"] = kInvalidValue;
  queue_step(1);
  cuda_->failures.clear();
  EXPECT_TRUE(trigger_->broken());
  EXPECT_EQ(trigger_->trouble(),
            "stream-ordered clocks have ended, baseline clocks: the CUDA driver refuses a signal: "
            "CUDA_ERROR_INVALID_VALUE");
  trigger_->poll();  // nobody waits for the stream any more
  EXPECT_EQ(trigger_->done(), trigger_->queued());
  EXPECT_THAT(posts_, IsEmpty());
  EXPECT_FALSE(records_.back().clean);
}

TEST_F(StreamTriggerTest, WritesAskTheDriverForNothingWhileTheyWait) {
  load("current");
  start(StreamMode::kWrite);
  cuda_->calls.clear();
  queue_step(0);
  for (int i = 0; i < 5; ++i) trigger_->poll();
  EXPECT_EQ(cuda_->calls["cuEventQuery"], 0);
  EXPECT_EQ(cuda_->calls["cuStreamWriteValue32_v2"], 4);
  EXPECT_EQ(cuda_->calls["cuStreamWriteValue32"], 0);
  EXPECT_EQ(cuda_->calls["cuEventRecord"], 6);
  cuda_->finish();
  trigger_->poll();
  EXPECT_EQ(cuda_->calls["cuEventElapsedTime"], 5);
  EXPECT_EQ(cuda_->calls["cuEventQuery"], 0);
}

TEST_F(StreamTriggerTest, TheBestIsWhatTheDriverHas) {
  load("current");
  start(StreamMode::kBest);
  EXPECT_EQ(trigger_->mode(), StreamMode::kWrite);
  cuda_->writes_get_lost = true;
  start(StreamMode::kBest);
  EXPECT_EQ(trigger_->mode(), StreamMode::kEventPoll);
  cuda_->writes_get_lost = false;
  load("old");
  start(StreamMode::kBest);
  EXPECT_EQ(trigger_->mode(), StreamMode::kWrite);
  trigger_.reset();
  EXPECT_EQ(cuda_->calls["cuDeviceGetAttribute"], 1);
  cuda_->memory_operations = 0;
  start(StreamMode::kBest);
  EXPECT_EQ(trigger_->mode(), StreamMode::kEventPoll);
  trigger_.reset();
  EXPECT_EQ(open(StreamMode::kWrite).error().text(),
            "this driver and device have no stream-ordered writes; event_poll works everywhere");
  cuda_->memory_operations = 1;
  load("ancient");
  start(StreamMode::kBest);
  EXPECT_EQ(trigger_->mode(), StreamMode::kEventPoll);
  trigger_.reset();
  EXPECT_EQ(open(StreamMode::kWrite).error().code(), ErrorCode::kUnsupported);
}

TEST_F(StreamTriggerTest, OpeningTellsWhatTheDriverRefuses) {
  EXPECT_THAT(CudaDriver::load("/nowhere/libcuda.so.1").error().text(),
              HasSubstr("no CUDA driver: /nowhere"));
  EXPECT_EQ(CudaDriver::load("libm.so.6").error().text(),
            "the CUDA driver libm.so.6 has no function cuStreamGetCtx");
  load("current");
  for (const auto& [function, words] : std::vector<std::pair<std::string, std::string>>{
           {"cuStreamGetCtx", "the stream"},
           {"cuCtxPushCurrent", "the context"},
           {"cuMemHostAlloc", "mapped host memory"},
           {"cuMemHostGetDevicePointer", "the address of mapped host memory"}}) {
    cuda_->failures[function] = 2;
    EXPECT_EQ(open(StreamMode::kBest).error().text(), "the CUDA driver refuses " + words + ": error 2");
    cuda_->failures.clear();
  }
  cuda_->failures["cuEventCreate"] = 2;
  EXPECT_EQ(open(StreamMode::kBest).error().text(), "the CUDA driver makes no events");
  cuda_->failures.clear();
}

TEST_F(StreamTriggerTest, ASessionPostsInStreamOrder) {
  load("current");
  auto trigger = open(StreamMode::kWrite);
  ASSERT_TRUE(trigger);
  StreamTrigger* const stream = trigger->get();
  SessionRig rig({}, *std::move(trigger));
  rig.give(small_plan());
  rig.step();
  EXPECT_THAT(rig.clocks(), IsEmpty());
  rig.pass(2);
  rig.session->work();  // the host waits, and so do clocks: the stream is still to get there
  EXPECT_THAT(rig.clocks(), IsEmpty());
  time_.advance(rig.time.now() - time_.now());
  cuda_->finish();
  stream->poll();
  EXPECT_THAT(rig.clocks(), ElementsAre(900, 915, 1200, 1215));
  rig.pass(0.4);
  rig.session->work();
  EXPECT_THAT(rig.clocks(), IsEmpty());  // the stream was seen at work not long ago
  rig.pass(0.2);
  rig.session->work();
  EXPECT_THAT(rig.clocks(), ElementsAre(0));
  // What comes in between does not hide a clock: each step says its first one anew.
  rig.step();
  rig.sink->post({.mhz = 0});
  static_cast<void>(rig.clocks());
  cuda_->finish();
  stream->poll();
  EXPECT_THAT(rig.clocks(), ElementsAre(900, 915, 1200, 1215));
}

TEST_F(StreamTriggerTest, AFixedTimeAtAStepsBeginIsAtNoClock) {
  load("current");
  auto trigger = open(StreamMode::kWrite);
  ASSERT_TRUE(trigger);
  StreamTrigger* const stream = trigger->get();
  SessionRig rig({.recorder = {.report_iterations = 1, .report_time = core::Seconds(0)}},
                 *std::move(trigger));
  RankPlan plan = small_plan();
  plan.operations[0].clock.reset();
  rig.give(plan);
  rig.step();
  cuda_->finish();
  stream->poll();
  rig.session->work();
  EXPECT_THAT(rig.clocks(), ElementsAre(915, 1200, 1215));
  const auto reports = rig.link->all<StepReport>();
  ASSERT_EQ(reports.size(), 1U);
  EXPECT_EQ(reports[0].kinds.size(), 3U);
}

TEST_F(StreamTriggerTest, ClocksThatAStreamGetsToAfterAHangAreDropped) {
  load("current");
  auto trigger = open(StreamMode::kWrite);
  ASSERT_TRUE(trigger);
  StreamTrigger* const stream = trigger->get();
  SessionRig rig({}, *std::move(trigger));
  rig.give(small_plan());
  rig.session->begin_step();
  rig.session->begin(Kind::kForward, 0, 0);
  rig.session->end(Kind::kForward, 0, 0);
  rig.pass(11);
  rig.session->work();
  EXPECT_EQ(rig.session->state().hook_timeouts, 1U);
  cuda_->finish();
  stream->poll();
  EXPECT_THAT(rig.clocks(), IsEmpty());
  rig.session->end_step();
  rig.step();
  cuda_->finish();
  stream->poll();
  EXPECT_THAT(rig.clocks(), ElementsAre(900, 915, 1200, 1215));
}

TEST_F(StreamTriggerTest, ABrokenTriggerMeansBaselineClocks) {
  load("current");
  auto trigger = open(StreamMode::kEventPoll);
  ASSERT_TRUE(trigger);
  StreamTrigger* const stream = trigger->get();
  SessionRig rig({}, *std::move(trigger));
  rig.give(small_plan());
  rig.step();
  cuda_->finish();
  stream->poll();
  static_cast<void>(rig.clocks());
  cuda_->failures["cuEventRecord"] = kInvalidValue;
  rig.step();
  cuda_->failures.clear();
  stream->poll();
  rig.session->work();
  EXPECT_THAT(rig.clocks(), ElementsAre(0));
  EXPECT_THAT(rig.lines, testing::Contains(HasSubstr("! stream-ordered clocks have ended, baseline clocks")));
  rig.step();
  stream->poll();
  rig.session->work();
  EXPECT_THAT(rig.clocks(), IsEmpty());
  EXPECT_EQ(rig.session->state().generation, 0U);
}

TEST_F(StreamTriggerTest, OldPlansStayUntilTheStreamIsThroughThem) {
  load("current");
  auto trigger = open(StreamMode::kWrite);
  ASSERT_TRUE(trigger);
  StreamTrigger* const stream = trigger->get();
  SessionRig rig({.recorder = {.report_iterations = 1, .report_time = core::Seconds(0)}},
                 *std::move(trigger));
  rig.give(small_plan(1, 0));
  rig.step();
  rig.give(small_plan(2, 1));
  rig.step();
  for (int i = 0; i < 3; ++i) rig.session->work();  // address sanitizer sees a table that went too early
  cuda_->finish();
  stream->poll();
  rig.session->work();
  EXPECT_EQ(rig.link->all<StepReport>().size(), 2U);
}

}  // namespace
}  // namespace perseus::client
