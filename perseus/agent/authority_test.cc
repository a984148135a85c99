// SPDX-License-Identifier: Apache-2.0
#include "perseus/agent/authority.h"

#include <gmock/gmock.h>

namespace perseus::agent {
namespace {

using core::Megahertz;
using std::chrono::seconds;

constexpr WallTime kNow{seconds{1'800'000'000}};
const gpu::Identity kGpu{.index = 3, .uuid = "GPU-aa"};

PeerFacts host_user(uid_t uid) {
  return {.pid = 71, .uid = uid, .in_our_pid_namespace = true, .cgroup = "/user.slice/a"};
}

TEST(Authority, the_agents_own_user_on_the_host_may_do_everything) {
  const Authority authority(0, {});
  EXPECT_TRUE(authority.is_administrator(host_user(0)));
  EXPECT_EQ(authority.by_rule(host_user(0), kGpu, kNow)->why, "own user");
  EXPECT_FALSE(authority.by_rule(host_user(1000), kGpu, kNow));
}

TEST(Authority, root_of_a_container_is_nobody) {
  const Authority authority(0, {{.uid = 0, .all_gpus = true}});
  PeerFacts container = host_user(0);
  container.in_our_pid_namespace = false;
  EXPECT_FALSE(authority.is_administrator(container));
  EXPECT_FALSE(authority.by_rule(container, kGpu, kNow));
}

TEST(Authority, a_grant_names_user_gpu_floor_and_end) {
  const Authority authority(
      0,
      {{.uid = 1000, .gpus = {"3"}, .min_clock = Megahertz{900}, .expires = kNow + seconds{10}, .line = 7}});
  const auto permit = authority.by_rule(host_user(1000), kGpu, kNow);
  ASSERT_TRUE(permit);
  EXPECT_EQ(permit->why, "grant (line 7)");
  EXPECT_EQ(permit->floor, Megahertz{900});
  EXPECT_EQ(permit->until, kNow + seconds{10});
  EXPECT_FALSE(authority.by_rule(host_user(1001), kGpu, kNow));
  EXPECT_FALSE(authority.by_rule(host_user(1000), {.index = 4, .uuid = "GPU-bb"}, kNow));
  EXPECT_FALSE(authority.by_rule(host_user(1000), kGpu, kNow + seconds{10}));
  EXPECT_FALSE(authority.is_administrator(host_user(1000)));
}

TEST(Authority, a_grant_by_uuid_is_not_a_prefix) {
  const Authority authority(0, {{.uid = 1000, .gpus = {"GPU-aa"}}});
  EXPECT_TRUE(authority.by_rule(host_user(1000), kGpu, kNow));
  EXPECT_FALSE(authority.by_rule(host_user(1000), {.index = 9, .uuid = "GPU-aab"}, kNow));
}

TEST(Authority, of_several_grants_the_one_that_allows_most_counts) {
  const Authority authority(0, {{.uid = 1000, .all_gpus = true, .min_clock = Megahertz{900}, .line = 2},
                                {.uid = 1000, .all_gpus = true, .min_clock = Megahertz{600}, .line = 3},
                                {.uid = 1000, .all_gpus = true, .expires = kNow, .line = 4}});
  EXPECT_EQ(authority.by_rule(host_user(1000), kGpu, kNow)->why, "grant (line 3)");
  EXPECT_EQ(authority.by_rule(host_user(1000), kGpu, kNow - seconds{1})->why, "grant (line 4)");
}

TEST(Authority, a_cgroup_grant_covers_what_lies_below_and_works_for_containers) {
  const Authority authority(0, {{.cgroup = "/jobs/7", .all_gpus = true}});
  PeerFacts peer{.pid = 71, .uid = 0, .cgroup = "/jobs/7/step"};
  EXPECT_TRUE(authority.by_rule(peer, kGpu, kNow));
  peer.cgroup = "/jobs/7";
  EXPECT_TRUE(authority.by_rule(peer, kGpu, kNow));
  for (const char* other : {"/jobs/77", "/jobs", "/", "", "/x/jobs/7", "/jobs/7/step (deleted)"}) {
    peer.cgroup = other;
    EXPECT_FALSE(authority.by_rule(peer, kGpu, kNow)) << other;
  }
}

TEST(Authority, a_process_of_the_peers_cgroup_on_the_gpu_is_a_right) {
  PeerFacts peer{.pid = 71, .uid = 1000, .cgroup = "/jobs/7"};
  const std::vector<Authority::GpuProcess> processes = {{80, "/jobs/8"}, {81, "/jobs/7"}};
  EXPECT_EQ(Authority::by_process(peer, processes)->why, "process 81 on the GPU");
  EXPECT_FALSE(Authority::by_process(peer, std::span(processes).first(1)));
  peer.cgroup = "/jobs";
  EXPECT_FALSE(Authority::by_process(peer, processes));
}

TEST(Authority, the_root_cgroup_is_everybodys_and_so_nobodys_right) {
  const std::vector<Authority::GpuProcess> processes = {{81, "/"}, {82, ""}};
  EXPECT_FALSE(Authority::by_process({.pid = 71, .cgroup = "/"}, processes));
  EXPECT_FALSE(Authority::by_process({.pid = 71, .cgroup = ""}, processes));
}

TEST(Authority, a_denial_says_who_and_what_would_help) {
  EXPECT_EQ(denial(host_user(1000), kGpu),
            "uid 1000 (pid 71) may not set the clock of GPU 3: it is not the agent's own user on the host, "
            "no grant "
            "names it, and no process of its cgroup uses that GPU");
}

}  // namespace
}  // namespace perseus::agent
