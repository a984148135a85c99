// SPDX-License-Identifier: Apache-2.0
#include "perseus/server/job_state.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "perseus/server/deployment.h"
#include "perseus/server/test_jobs.h"
#include "tests/support/property.h"

namespace perseus::server {
namespace {

using core::ErrorCode;
using core::Seconds;
using testing::ElementsAre;

class JobStateTest : public testing::Test {
 protected:
  JobStateTest() : solved_(solved(registration())), fence_(*fence_of(registration())) {}

  JobState job(std::uint64_t incarnation = 1) const {
    return {"gpt", registration(incarnation), fence_, settings_};
  }
  /// A job that runs its fastest plan with both pipelines' ranks known.
  JobState running() const {
    JobState out = job();
    for (std::uint32_t dp = 0; dp < 2; ++dp) {
      for (std::uint32_t pp = 0; pp < 2; ++pp) EXPECT_TRUE(out.hello(hello({dp, pp, 0}), Seconds(0)));
    }
    out.set_solved(solved_);
    deploy(out, Seconds(0));
    confirm_all(out, 10, Seconds(0));
    out.commit(*out.commit_due(Seconds(0)));
    return out;
  }
  RankHello hello(RankId rank, std::uint64_t sequence = 1, std::uint64_t incarnation = 1) const {
    return {{incarnation, sequence}, rank, "GPU-" + to_text(rank), {}, fence_, 10};
  }
  /// Does what the wish asks for; answers it.
  Wish deploy(JobState& job, Moment now) const {
    const auto wish = job.wish(now);
    EXPECT_TRUE(wish);
    Deployment next{.generation = job.next_generation(),
                    .incarnation = job.incarnation(),
                    .schedule_sha256 = job.fence(),
                    .reason = wish->reason,
                    .profile_sha256 = job.solved() ? job.solved()->profile_sha256 : "",
                    .targets = wish->targets};
    if (wish->targets) {
      for (const Seconds t : wish->targets->pipeline) {
        next.plans.push_back(std::make_shared<PlanBody>(*make_plan(*job.solved(), {t, wish->targets->sync})));
      }
    }
    if (wish->urgent) next.from_step = job.next_step();
    job.deploy(next, job.deployment().has_value(), now);
    return *wish;
  }
  static void confirm_all(JobState& job, std::uint64_t step, Moment now) {
    for (const auto& [id, rank] : job.ranks()) {
      EXPECT_TRUE(job.poll(id, job.incarnation(), job.deployment()->generation, step, now));
    }
  }
  static StragglerNotice slow_pipeline(std::uint32_t pipeline, double slowdown) {
    return {.pipeline = pipeline, .slowdown = slowdown, .cause = "thermal"};
  }

  std::shared_ptr<const Solved> solved_;
  std::string fence_;
  JobSettings settings_;
};

TEST_F(JobStateTest, the_first_plan_is_the_fastest_and_is_switched_to_at_an_agreed_step) {
  JobState job = running();
  ASSERT_TRUE(job.deployment());
  EXPECT_EQ(job.deployment()->generation, 1U);
  EXPECT_EQ(job.deployment()->reason, "fastest");
  EXPECT_EQ(job.deployment()->from_step, 12U);  // newest step 10 and a margin of 2
  for (const auto& plan : job.deployment()->plans) EXPECT_EQ(plan->target_time, solved_->t_min);
  EXPECT_FALSE(job.wish(Seconds(1)));
}

TEST_F(JobStateTest, the_others_get_the_plan_for_the_stragglers_time_and_the_straggler_stays_fast) {
  JobState job = running();
  job.put_notice("s1", slow_pipeline(1, 1.2), Seconds(600));
  const Wish wish = deploy(job, Seconds(1));
  EXPECT_EQ(wish.reason, "straggler");
  EXPECT_FALSE(wish.urgent);
  EXPECT_EQ(wish.targets->sync, 1.2 * solved_->t_min);
  EXPECT_THAT(wish.targets->pipeline, ElementsAre(1.2 * solved_->t_min, solved_->t_min));
  EXPECT_FALSE(job.deployment()->from_step);
}

TEST_F(JobStateTest, of_two_stragglers_the_less_slow_one_is_slowed_up_to_the_slower) {
  JobState job = running();
  job.put_notice("a", slow_pipeline(0, 1.1), Seconds(600));
  job.put_notice("b", slow_pipeline(1, 1.21), Seconds(600));
  const Targets targets = job.wanted(Seconds(1));
  EXPECT_DOUBLE_EQ(targets.pipeline[0] / solved_->t_min, 1.1);
  EXPECT_EQ(targets.pipeline[1], solved_->t_min);
}

TEST_F(JobStateTest, a_slow_rank_slows_its_pipeline_by_less_than_itself) {
  JobState job = running();
  job.put_notice("r", {.rank = RankId{0, 0, 0}, .slowdown = 1.5, .cause = "ecc"}, Seconds(600));
  const double factor = job.wanted(Seconds(1)).sync / solved_->t_min;
  EXPECT_GT(factor, 1.0);
  EXPECT_LT(factor, 1.5);
  EXPECT_EQ(job.wanted(Seconds(1)).sync, time_with_slow_rank(*solved_, 0, 1.5));
}

TEST_F(JobStateTest, a_time_below_t_min_is_no_straggler) {
  JobState job = running();
  job.put_notice("s", {.pipeline = 0, .iteration_time = 0.5 * solved_->t_min, .cause = "measured"},
                 Seconds(600));
  EXPECT_FALSE(job.wish(Seconds(1)));
}

TEST_F(JobStateTest, recovery_is_urgent_and_takes_effect_at_the_next_step) {
  JobState job = running();
  job.put_notice("s1", slow_pipeline(1, 1.2), Seconds(600));
  deploy(job, Seconds(1));
  confirm_all(job, 20, Seconds(1));
  job.commit(*job.commit_due(Seconds(1)));
  EXPECT_TRUE(job.drop_notice("s1"));
  const Wish wish = deploy(job, Seconds(1.5));
  EXPECT_EQ(wish.reason, "recovered");
  EXPECT_TRUE(wish.urgent);
  EXPECT_EQ(job.deployment()->from_step, 21U);
}

TEST_F(JobStateTest, a_notice_ends_by_itself) {
  JobState job = running();
  job.put_notice("s1", slow_pipeline(1, 1.2), Seconds(600));
  deploy(job, Seconds(1));
  EXPECT_FALSE(job.wish(Seconds(599)));
  const auto wish = job.wish(Seconds(600));
  ASSERT_TRUE(wish);
  EXPECT_EQ(wish->reason, "recovered");
  EXPECT_THAT(job.expire_notices(Seconds(600)), ElementsAre("s1"));
  EXPECT_FALSE(job.drop_notice("s1"));
}

TEST_F(JobStateTest, the_switch_waits_for_every_live_rank_but_not_for_ever) {
  JobState job = running();
  job.put_notice("s1", slow_pipeline(1, 1.2), Seconds(600));
  deploy(job, Seconds(1));
  const std::uint64_t generation = job.deployment()->generation;
  EXPECT_FALSE(job.commit_due(Seconds(1)));
  EXPECT_TRUE(job.poll({0, 0, 0}, 1, generation, 30, Seconds(1)));
  EXPECT_TRUE(job.poll({0, 1, 0}, 1, generation, 30, Seconds(1)));
  EXPECT_TRUE(job.poll({1, 0, 0}, 1, generation, 31, Seconds(1)));
  EXPECT_FALSE(job.commit_due(Seconds(5.9)));
  EXPECT_EQ(job.next_look(Seconds(5.9)), Seconds(6));
  // Five seconds after step 31 was reported the ranks may be so many steps on.
  const auto over = static_cast<std::uint64_t>(Seconds(5) / solved_->t_min);
  EXPECT_GT(over, 1U);
  EXPECT_EQ(job.commit_due(Seconds(6)), 33 + over);
  // A rank that is still in it then says how slow they are.
  EXPECT_TRUE(job.renew({1, 0, 0}, {{1, 2}, 31}, Seconds(6)));
  EXPECT_EQ(job.commit_due(Seconds(6)), 33U);
}

TEST_F(JobStateTest, who_leaves_is_not_waited_for) {
  JobState job = running();
  job.put_notice("s1", slow_pipeline(1, 1.2), Seconds(600));
  deploy(job, Seconds(1));
  const std::uint64_t generation = job.deployment()->generation;
  for (const RankId& rank : {RankId{0, 0, 0}, RankId{0, 1, 0}, RankId{1, 0, 0}}) {
    EXPECT_TRUE(job.poll(rank, 1, generation, 31, Seconds(1)));
  }
  EXPECT_FALSE(job.commit_due(Seconds(1)));
  EXPECT_TRUE(job.leave({1, 1, 0}, {1, 2}, Seconds(1)));
  EXPECT_EQ(job.commit_due(Seconds(1)), 33U);
}

TEST_F(JobStateTest, a_silent_rank_is_gone_and_is_not_waited_for) {
  JobState job = running();
  EXPECT_EQ(job.live_count(Seconds(29)), 4U);
  EXPECT_TRUE(job.renew({0, 0, 0}, {{1, 2}, 11}, Seconds(29)));
  EXPECT_EQ(job.live_count(Seconds(30)), 1U);
  job.put_notice("s1", slow_pipeline(1, 1.2), Seconds(600));
  deploy(job, Seconds(31));
  EXPECT_TRUE(job.poll({0, 0, 0}, 1, job.deployment()->generation, 12, Seconds(31)));
  EXPECT_EQ(job.commit_due(Seconds(31)), 14U);
}

TEST_F(JobStateTest, a_new_incarnation_replaces_the_old_one_and_refuses_its_messages) {
  JobState job = running();
  EXPECT_TRUE(*job.is_next(registration(2), fence_));
  EXPECT_FALSE(job.begin_incarnation(registration(2), fence_));  // the frontier is still good
  EXPECT_TRUE(job.ranks().empty());
  const auto late = job.renew({0, 0, 0}, {{1, 99}, 50}, Seconds(2));
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().code(), ErrorCode::kBusy);
  EXPECT_EQ(late.error().message(), "incarnation 1 is not that of job gpt, which is in incarnation 2");
  const auto unknown = job.renew({0, 0, 0}, {{2, 1}, 0}, Seconds(2));
  EXPECT_EQ(unknown.error().message(), "rank 0.0.0 of job gpt is not registered; register it again");
  EXPECT_EQ(unknown.error().code(), ErrorCode::kNotFound);
  const auto early = job.renew({0, 0, 0}, {{3, 1}, 0}, Seconds(2));
  EXPECT_EQ(early.error().code(), ErrorCode::kNotFound);
  EXPECT_EQ(early.error().message(),
            "incarnation 3 of job gpt is not registered yet; the job is in incarnation 2");
  // The plan of the old incarnation is nobody's; the next one carries the new one.
  EXPECT_EQ(deploy(job, Seconds(3)).reason, "fastest");
  EXPECT_EQ(job.deployment()->incarnation, 2U);
  EXPECT_EQ(job.deployment()->generation, 2U);
  EXPECT_FALSE(job.commit_due(Seconds(3)));  // its ranks may be on their way
  EXPECT_EQ(job.commit_due(Seconds(8)), 0U);
}

TEST_F(JobStateTest, an_old_incarnation_and_a_changed_one_are_refused) {
  JobState job = running();
  job.begin_incarnation(registration(5), fence_);
  EXPECT_EQ(job.is_next(registration(4), fence_).error().message(),
            "incarnation 4 of job gpt is over; it is in incarnation 5");
  EXPECT_FALSE(*job.is_next(registration(5), fence_));
  Registration other = registration(5, 2, 2, 8);
  EXPECT_EQ(
      job.is_next(other, *fence_of(other)).error().message(),
      "job gpt is registered in incarnation 5 with other content; a changed job needs a higher incarnation");
}

TEST_F(JobStateTest, other_orders_withdraw_the_plan_until_they_are_solved) {
  JobState job = running();
  Registration other = registration(2, 2, 2, 8);
  EXPECT_TRUE(job.begin_incarnation(other, *fence_of(other)));
  const Wish wish = deploy(job, Seconds(1));
  EXPECT_EQ(wish.reason, "order changed");
  EXPECT_TRUE(job.deployment()->baseline());
  job.set_solved(solved(other));
  EXPECT_EQ(deploy(job, Seconds(2)).reason, "fastest");
}

TEST_F(JobStateTest, a_rank_with_another_order_is_refused) {
  JobState job = this->job();
  RankHello other = hello({0, 0, 0});
  other.schedule_sha256 = std::string(64, '0');
  const auto refused = job.hello(other, Seconds(0));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::kBusy);
  EXPECT_EQ(refused.error().message(),
            "rank 0.0.0 built another order of computations than job gpt registered "
            "(schedule_sha256 " +
                std::string(64, '0') + ", registered " + fence_ + ")");
}

TEST_F(JobStateTest, a_place_outside_the_job_is_refused) {
  JobState job = this->job();
  EXPECT_EQ(job.hello(hello({2, 0, 0}), Seconds(0)).error().message(),
            "there is no rank 2.0.0 in job gpt of 2 pipelines x 2 ranks x 1 GPUs");
  EXPECT_EQ(job.check_notice(slow_pipeline(7, 2)).error().message(),
            "there is no pipeline 7 in job gpt of 2 pipelines");
}

TEST_F(JobStateTest, one_gpu_has_one_living_rank) {
  JobState job = this->job();
  RankHello first = hello({0, 0, 0});
  RankHello second = hello({0, 1, 0});
  second.gpu_uuid = first.gpu_uuid;
  EXPECT_TRUE(job.hello(first, Seconds(0)));
  EXPECT_EQ(job.hello(second, Seconds(1)).error().message(),
            "GPU \"GPU-0.0.0\" is that of rank 0.0.0 already");
  EXPECT_TRUE(job.hello(second, Seconds(31)));  // the first is gone
}

TEST_F(JobStateTest, the_guard_takes_all_plans_back_until_it_is_released) {
  JobState job = running();
  const GuardReport report{{1, 2}, 1, Seconds(1), Seconds(1.2), 5};
  EXPECT_EQ(*job.guard({0, 1, 0}, report, Seconds(1)), Applied::kApplied);
  const Wish wish = deploy(job, Seconds(1));
  EXPECT_EQ(wish.reason, "guard");
  EXPECT_TRUE(wish.urgent);
  EXPECT_TRUE(job.deployment()->baseline());
  EXPECT_FALSE(job.wish(Seconds(1)));
  job.release_guard();
  EXPECT_EQ(deploy(job, Seconds(2)).reason, "fastest");
}

TEST_F(JobStateTest, a_guard_blames_nobody_while_a_rank_has_not_heard_of_the_plan) {
  JobState job = running();
  job.put_notice("s1", slow_pipeline(1, 1.2), Seconds(600));
  deploy(job, Seconds(1));
  for (const RankId& rank : {RankId{0, 0, 0}, RankId{0, 1, 0}, RankId{1, 0, 0}}) {
    EXPECT_TRUE(job.poll(rank, 1, 2, 30, Seconds(1)));
  }
  job.commit(*job.commit_due(Seconds(6)));
  EXPECT_EQ(*job.guard({0, 0, 0}, {{1, 2}, 2, Seconds(1), Seconds(1.2), 60}, Seconds(20)),
            Applied::kRepeated);
  EXPECT_FALSE(job.guard_trip());
  EXPECT_FALSE(job.take_suspect());
  EXPECT_FALSE(job.wish(Seconds(20)));
  const Targets targets = *job.deployment()->targets;
  EXPECT_TRUE(job.poll({1, 1, 0}, 1, 2, 90, Seconds(21)));
  // Rank 0.0.0 is at its baseline until another generation comes.
  const Wish wish = deploy(job, Seconds(21));
  EXPECT_EQ(wish.reason, "straggler");
  EXPECT_EQ(wish.targets, targets);
  EXPECT_FALSE(wish.urgent);
  EXPECT_EQ(job.deployment()->generation, 3U);
  EXPECT_FALSE(job.wish(Seconds(21)));
}

TEST_F(JobStateTest, a_guard_that_speaks_of_an_earlier_plan_is_too_late) {
  JobState job = running();
  EXPECT_EQ(*job.guard({0, 1, 0}, {{1, 2}, 7, Seconds(1), Seconds(2), 5}, Seconds(1)), Applied::kRepeated);
  EXPECT_FALSE(job.guard_trip());
}

TEST_F(JobStateTest, a_new_profile_answers_the_guard) {
  JobState job = running();
  EXPECT_TRUE(job.guard({0, 1, 0}, {{1, 2}, 1, Seconds(1), Seconds(1.2), 5}, Seconds(1)));
  deploy(job, Seconds(1));
  job.set_solved(solved_);
  EXPECT_TRUE(job.guard_trip());  // the same measurements once more
  job.set_solved(solved(registration(), profile_csv(2, 1.1)));
  EXPECT_FALSE(job.guard_trip());
}

TEST_F(JobStateTest, a_planner_that_fails_leaves_the_plan_alone) {
  JobState job = running();
  job.set_planner_error("out of memory");
  EXPECT_EQ(job.planner_error(), "out of memory");
  EXPECT_FALSE(job.wish(Seconds(1)));
  EXPECT_EQ(job.deployment()->generation, 1U);
}

TEST_F(JobStateTest, the_end_of_a_job_is_baseline) {
  JobState job = running();
  job.end();
  EXPECT_EQ(deploy(job, Seconds(1)).reason, "ended");
  EXPECT_TRUE(job.deployment()->baseline());
  EXPECT_FALSE(job.wish(Seconds(2)));
}

TEST_F(JobStateTest, measurements_are_means_over_one_generation) {
  JobState job = running();
  const RankId rank{0, 0, 0};
  EXPECT_TRUE(job.measure(rank, {{1, 2}, 1, 13, 1, Seconds(1.0), core::Joules(100)}, Seconds(1)));
  EXPECT_TRUE(job.measure(rank, {{1, 3}, 1, 16, 3, Seconds(2.0), std::nullopt}, Seconds(2)));
  EXPECT_EQ(*job.measure(rank, {{1, 4}, 0, 17, 1, Seconds(9.0), std::nullopt}, Seconds(3)),
            Applied::kRepeated);
  const RunningMean& mean = job.ranks().at(rank).measured;
  EXPECT_EQ(mean.iterations, 4U);
  EXPECT_DOUBLE_EQ(mean.time_s, 1.75);
  EXPECT_DOUBLE_EQ(mean.energy_j, 100);
  EXPECT_EQ(mean.energy_iterations, 1U);
}

/// One message of the kinds whose effect is easily compared.
struct Letter {
  RankId rank;
  std::uint64_t sequence;
  bool goodbye;
};

TEST_F(JobStateTest, late_repeated_and_reordered_messages_are_harmless) {
  const JobState start = running();
  tests::check_property([&] {
    const auto seed = *rc::gen::arbitrary<std::uint32_t>();
    std::mt19937 random(seed);
    std::vector<Letter> sent;
    std::map<RankId, std::uint64_t> sequence;
    for (int i = 0; i < 40; ++i) {
      const RankId rank{static_cast<std::uint32_t>(random() % 2), static_cast<std::uint32_t>(random() % 2),
                        0};
      sent.push_back({rank, ++sequence[rank] + 1, random() % 10 == 0});
    }
    const auto deliver = [](JobState& job, const Letter& letter) {
      const Stamp stamp{1, letter.sequence};
      const auto done = letter.goodbye ? job.leave(letter.rank, stamp, Seconds(1))
                                       : job.renew(letter.rank, {stamp, 10 + letter.sequence}, Seconds(1));
      RC_ASSERT(done.has_value());
      return *done;
    };
    JobState once = start;
    for (const Letter& letter : sent) RC_ASSERT(deliver(once, letter) == Applied::kApplied);

    JobState mangled = start;
    std::vector<Letter> arriving = sent;
    arriving.insert(arriving.end(), sent.begin(), sent.end());
    std::ranges::shuffle(arriving, random);
    std::map<RankId, std::uint64_t> newest;
    for (const Letter& letter : arriving) {
      const bool news = letter.sequence > newest[letter.rank];
      RC_ASSERT((deliver(mangled, letter) == Applied::kApplied) == news);
      newest[letter.rank] = std::max(newest[letter.rank], letter.sequence);
    }
    for (const auto& [id, rank] : once.ranks()) {
      RC_ASSERT(mangled.ranks().at(id).sequence == rank.sequence);
      RC_ASSERT(mangled.ranks().at(id).step <= rank.step);
    }
  });
}

TEST_F(JobStateTest, a_deployment_reads_back_as_it_was_written) {
  JobState job = running();
  job.put_notice("s1", slow_pipeline(1, 1.2), Seconds(600));
  deploy(job, Seconds(1));
  for (const bool committed : {false, true}) {
    if (committed) job.commit(17);
    const Deployment& d = *job.deployment();
    const auto read = parse_deployment(write_deployment(d));
    ASSERT_TRUE(read) << read.error().text();
    EXPECT_EQ(read->deployment.generation, d.generation);
    EXPECT_EQ(read->deployment.incarnation, d.incarnation);
    EXPECT_EQ(read->deployment.schedule_sha256, d.schedule_sha256);
    EXPECT_EQ(read->deployment.profile_sha256, d.profile_sha256);
    EXPECT_EQ(read->deployment.reason, "straggler");
    EXPECT_EQ(read->deployment.targets, d.targets);
    EXPECT_EQ(read->deployment.from_step, d.from_step);
    EXPECT_THAT(read->plans, ElementsAre(d.plans[0]->sha256, d.plans[1]->sha256));
  }
  const auto records = records_of("gpt", *job.deployment());
  ASSERT_EQ(records.size(), 3U);
  const auto again = read_plan(std::get<PlanRecord>(records[0]).json);
  ASSERT_TRUE(again) << again.error().text();
  const auto& original =
      *job.deployment()->plans[again->sha256 == job.deployment()->plans[0]->sha256 ? 0 : 1];
  EXPECT_EQ(again->operations, original.operations);
  EXPECT_EQ(again->zeus_rows, original.zeus_rows);
  EXPECT_EQ(again->energy, original.energy);
}

TEST_F(JobStateTest, a_plan_says_what_each_rank_runs) {
  const PlanBody plan = *make_plan(*solved_, {solved_->t_min, std::nullopt});
  ASSERT_EQ(plan.operations.size(), 2U);
  EXPECT_THAT(plan.operations[1], testing::StartsWith("[[\"F\",1,0,1410,0.035],[\"B\",1,0,1410,0.07],"));
  EXPECT_EQ(plan.zeus_rows[1].front(), std::make_pair(std::string("forward"), 1410U));
  EXPECT_EQ(plan.zeus_rows[0].size(), 8U);
}

}  // namespace
}  // namespace perseus::server
