// SPDX-License-Identifier: Apache-2.0
#include "perseus/agent/lease_table.h"

#include <gmock/gmock.h>

#include <map>

#include "tests/support/property.h"

namespace perseus::agent {
namespace {

using core::ErrorCode;
using lease::Instant;
using lease::Outcome;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;
using testing::IsEmpty;

constexpr WallTime kWall{seconds{1'800'000'000}};
const Instant kStart{seconds{100}};

LeaseAsk ask_of(ConnectionId connection, milliseconds time_to_live = seconds{10}) {
  return {.connection = connection,
          .owner = {.pid = 71, .uid = 1000, .job = "gpt3", .client = "rank 3"},
          .time_to_live = time_to_live};
}

LeaseTable two_gpus() {
  return LeaseTable({"GPU 0", "GPU 1"});
}

/// A lease that is held.
LeaseId hold(LeaseTable& table, GpuIndex gpu, ConnectionId connection, Instant now = kStart) {
  const auto lease = table.begin(gpu, ask_of(connection), now);
  EXPECT_TRUE(lease) << lease.error().text();
  EXPECT_TRUE(table.started(*lease, true));
  return *lease;
}

TEST(LeaseTable, a_second_asker_is_refused_with_the_owners_name) {
  LeaseTable table = two_gpus();
  ASSERT_TRUE(table.begin(0, ask_of(1), kStart));
  const auto second = table.begin(0, ask_of(2), kStart);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code(), ErrorCode::kBusy);
  EXPECT_EQ(second.error().message(), "GPU 0 is leased by gpt3 (pid 71, uid 1000)");
  EXPECT_TRUE(table.begin(1, ask_of(2), kStart));
}

TEST(LeaseTable, a_lease_expires_at_its_deadline_and_not_a_nanosecond_before) {
  LeaseTable table = two_gpus();
  const LeaseId lease = hold(table, 0, 1);
  const Instant deadline = kStart + seconds{10};
  EXPECT_EQ(table.next_deadline(), deadline);
  EXPECT_THAT(table.expire(deadline - nanoseconds{1}, kWall), IsEmpty());
  const auto endings = table.expire(deadline, kWall);
  ASSERT_EQ(endings.size(), 1U);
  EXPECT_EQ(endings[0].lease, lease);
  EXPECT_EQ(endings[0].connection, 1U);
  EXPECT_EQ(endings[0].outcome, Outcome::kEnded);
  EXPECT_EQ(endings[0].reason, "expired: not renewed within its time to live");
  EXPECT_TRUE(endings[0].tell);
  EXPECT_EQ(table.next_deadline(), std::nullopt);
}

TEST(LeaseTable, a_renewal_counts_from_when_it_is_made) {
  LeaseTable table = two_gpus();
  const LeaseId lease = hold(table, 0, 1);
  ASSERT_TRUE(table.renew(lease, 1, kStart + seconds{9}));
  EXPECT_THAT(table.expire(kStart + seconds{19} - nanoseconds{1}, kWall), IsEmpty());
  EXPECT_EQ(table.expire(kStart + seconds{19}, kWall).size(), 1U);
  const auto late = table.renew(lease, 1, kStart + seconds{20});
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().message(), "this connection holds no lease 1");
}

TEST(LeaseTable, only_its_own_connection_may_renew_or_release_a_lease) {
  LeaseTable table = two_gpus();
  const LeaseId lease = hold(table, 0, 1);
  EXPECT_EQ(table.renew(lease, 2, kStart).error().code(), ErrorCode::kNotFound);
  EXPECT_EQ(table.release(lease, 2).error().code(), ErrorCode::kNotFound);
  EXPECT_EQ(table.release(0, 1).error().code(), ErrorCode::kNotFound);
  const auto ending = table.release(lease, 1);
  ASSERT_TRUE(ending);
  EXPECT_FALSE(ending->tell);
}

TEST(LeaseTable, a_gpu_is_free_again_only_when_its_clock_is_back) {
  LeaseTable table = two_gpus();
  const LeaseId lease = hold(table, 0, 1);
  ASSERT_TRUE(table.release(lease, 1));
  const auto early = table.begin(0, ask_of(2), kStart);
  ASSERT_FALSE(early);
  EXPECT_EQ(early.error().message(),
            "GPU 0 is on its way back to its baseline from the lease of gpt3 (pid 71, uid 1000)");
  table.restored(0, false);
  const auto owing = table.begin(0, ask_of(2), kStart);
  ASSERT_FALSE(owing);
  EXPECT_EQ(owing.error().code(), ErrorCode::kDriver);
  EXPECT_FALSE(table.at_rest());
  table.restored(0, true);
  EXPECT_TRUE(table.at_rest());
  EXPECT_TRUE(table.begin(0, ask_of(2), kStart));
}

TEST(LeaseTable, what_goes_while_it_starts_is_ended_once) {
  LeaseTable table = two_gpus();
  const auto lease = table.begin(0, ask_of(1), kStart);
  ASSERT_TRUE(lease);
  EXPECT_EQ(table.drop(1, "the connection was closed").size(), 1U);
  EXPECT_FALSE(table.started(*lease, true));
  EXPECT_THAT(table.expire(kStart + seconds{60}, kWall), IsEmpty());
  table.restored(0, true);
  EXPECT_TRUE(table.at_rest());
}

TEST(LeaseTable, a_lease_that_could_not_be_journalled_leaves_nothing) {
  LeaseTable table = two_gpus();
  const auto lease = table.begin(0, ask_of(1), kStart);
  ASSERT_TRUE(lease);
  EXPECT_FALSE(table.started(*lease, false));
  EXPECT_TRUE(table.at_rest());
  EXPECT_EQ(table.begin(0, ask_of(1), kStart).value(), *lease + 1);
}

TEST(LeaseTable, a_grants_end_ends_its_lease) {
  LeaseTable table = two_gpus();
  LeaseAsk ask = ask_of(1);
  ask.until = kWall + seconds{5};
  const auto lease = table.begin(0, ask, kStart);
  ASSERT_TRUE(table.started(*lease, true));
  EXPECT_THAT(table.expire(kStart, kWall + seconds{4}), IsEmpty());
  const auto endings = table.expire(kStart, kWall + seconds{5});
  ASSERT_EQ(endings.size(), 1U);
  EXPECT_EQ(endings[0].reason, "the grant that allowed it has expired");
}

TEST(LeaseTable, obstacles_end_the_lease_and_refuse_the_next_with_their_reason) {
  LeaseTable table = two_gpus();
  hold(table, 0, 1);
  hold(table, 1, 1);
  const auto yielded = table.set_obstacle(0, Obstacle::kYielded, "somebody else sets it");
  ASSERT_TRUE(yielded);
  EXPECT_EQ(yielded->outcome, Outcome::kYielded);
  const auto lost = table.set_obstacle(1, Obstacle::kLost, "fell off the bus");
  ASSERT_TRUE(lost);
  EXPECT_EQ(lost->outcome, Outcome::kEnded);
  table.restored(0, true);
  table.restored(1, true);
  EXPECT_EQ(table.begin(0, ask_of(2), kStart).error().text(), "GPU 0: somebody else sets it");
  EXPECT_EQ(table.begin(1, ask_of(2), kStart).error().code(), ErrorCode::kDeviceLost);
  table.resume();  // takes away what evidence has put there, not what the hardware says
  EXPECT_TRUE(table.begin(0, ask_of(2), kStart));
  EXPECT_FALSE(table.begin(1, ask_of(2), kStart));
}

TEST(LeaseTable, quiesced_it_gives_nothing_until_it_is_resumed) {
  LeaseTable table = two_gpus();
  hold(table, 0, 1);
  const auto endings = table.quiesce(kStart + seconds{3});
  ASSERT_EQ(endings.size(), 1U);
  EXPECT_EQ(endings[0].reason, "the agent was quiesced by an administrator");
  EXPECT_EQ(table.begin(1, ask_of(2), kStart).error().code(), ErrorCode::kBusy);
  EXPECT_EQ(table.next_deadline(), kStart + seconds{3});
  table.resume();
  EXPECT_EQ(table.next_deadline(), std::nullopt);
  EXPECT_TRUE(table.begin(1, ask_of(2), kStart));
}

TEST(LeaseTable, stopped_it_never_gives_anything_again) {
  LeaseTable table = two_gpus();
  hold(table, 1, 1);
  EXPECT_EQ(table.stop().size(), 1U);
  table.restored(1, true);
  table.resume();
  EXPECT_EQ(table.begin(1, ask_of(2), kStart).error().message(), "the agent is stopping");
}

TEST(LeaseTable, what_evidence_says_outlasts_the_loss_of_the_gpu_until_an_administrator_resumes) {
  LeaseTable table({"GPU 0"});
  EXPECT_FALSE(table.set_obstacle(0, Obstacle::kYielded, "another program sets this clock"));
  EXPECT_FALSE(table.set_obstacle(0, Obstacle::kLost, "fell off the bus"));
  EXPECT_EQ(table.gpu(0).obstacle_reason, "fell off the bus");
  EXPECT_FALSE(table.set_obstacle(0, Obstacle::kNone, ""));  // it is back
  EXPECT_EQ(table.gpu(0).obstacle, Obstacle::kYielded);
  EXPECT_EQ(table.gpu(0).obstacle_reason, "another program sets this clock");
  table.resume();
  EXPECT_EQ(table.gpu(0).obstacle, Obstacle::kNone);
  EXPECT_FALSE(table.set_obstacle(0, Obstacle::kLost, "again"));
  EXPECT_FALSE(table.set_obstacle(0, Obstacle::kNone, ""));
  EXPECT_EQ(table.gpu(0).obstacle, Obstacle::kNone);
}

/// The simplest table that is right: who holds what until when.
struct Model {
  struct Held {
    LeaseId lease;
    ConnectionId connection;
    Instant deadline;
  };
  std::map<GpuIndex, Held> live;
  std::map<GpuIndex, bool> coming_back;  ///< ended, not yet restored
};

/// Removes from the model what the table has ended; each must have been live.
void apply_endings(Model& model, const std::vector<Ending>& endings) {
  for (const Ending& ending : endings) {
    const auto found = model.live.find(ending.gpu);
    RC_ASSERT(found != model.live.end());
    RC_ASSERT(found->second.lease == ending.lease);
    RC_ASSERT(found->second.connection == ending.connection);
    model.live.erase(found);
    model.coming_back[ending.gpu] = true;
  }
}

/// Random requests of three connections for three GPUs, against the model after each step.
void play_against_model() {
  constexpr GpuIndex kGpus = 3;
  LeaseTable table({"GPU 0", "GPU 1", "GPU 2"});
  Model model;
  Instant now = kStart;
  const auto steps = *rc::gen::inRange(1, 120);
  for (int step = 0; step < steps; ++step) {
    now += milliseconds{*rc::gen::inRange(0, 900)};
    const auto gpu = *rc::gen::inRange<GpuIndex>(0, kGpus);
    const auto connection = *rc::gen::inRange<ConnectionId>(1, 4);
    const LeaseId lease = model.live.contains(gpu) ? model.live[gpu].lease : 999;
    const bool owns = model.live.contains(gpu) && model.live[gpu].connection == connection;
    switch (*rc::gen::inRange(0, 6)) {
      case 0: {
        const milliseconds time_to_live{*rc::gen::inRange(1000, 3000)};
        const auto begun = table.begin(gpu, ask_of(connection, time_to_live), now);
        RC_ASSERT(begun.has_value() == (!model.live.contains(gpu) && !model.coming_back[gpu]));
        if (!begun) break;
        RC_ASSERT(table.started(*begun, true));
        model.live[gpu] = {*begun, connection, now + time_to_live};
        break;
      }
      case 1: {
        const auto renewed = table.renew(lease, connection, now);
        RC_ASSERT(renewed.has_value() == owns);
        if (owns) model.live[gpu].deadline = now + table.gpu(gpu).ask.time_to_live;
        break;
      }
      case 2: {
        const auto released = table.release(lease, connection);
        RC_ASSERT(released.has_value() == owns);
        if (released) apply_endings(model, {*released});
        break;
      }
      case 3:
        apply_endings(model, table.drop(connection, "gone"));
        for (const auto& [index, held] : model.live) RC_ASSERT(held.connection != connection);
        break;
      case 4:
        apply_endings(model, table.expire(now, kWall));
        for (const auto& [index, held] : model.live) RC_ASSERT(held.deadline > now);
        break;
      default:
        if (model.coming_back[gpu]) table.restored(gpu, true);
        model.coming_back[gpu] = false;
    }
    std::optional<Instant> next;
    for (const auto& [index, held] : model.live) {
      if (!next || held.deadline < *next) next = held.deadline;
      RC_ASSERT(table.find(held.lease) == std::optional<GpuIndex>(index));
    }
    RC_ASSERT(table.next_deadline() == next);
  }
}

TEST(LeaseTable, every_lease_has_one_owner_and_one_end) {
  tests::check_property(play_against_model, 300);
}

}  // namespace
}  // namespace perseus::agent
