// SPDX-License-Identifier: Apache-2.0
#include "perseus/format/grants.h"

#include <gmock/gmock.h>

#include "perseus/format/files.h"

namespace perseus::format {
namespace {

using core::Megahertz;
using testing::ElementsAre;

std::string error_of(std::string_view bytes) {
  const auto parsed = parse_grants(bytes, "grants.yaml");
  return parsed ? "accepted" : parsed.error().text();
}

TEST(Grants, every_key_is_read) {
  const auto bytes = read_file(PERSEUS_SOURCE_DIR "/fuzz/corpus/grants/full.yaml", kMaxGrantsBytes);
  ASSERT_TRUE(bytes);
  const auto grants = parse_grants(*bytes, "grants.yaml");
  ASSERT_TRUE(grants) << grants.error().text();
  ASSERT_EQ(grants->size(), 2U);
  EXPECT_EQ(grants->at(0).uid, 1000U);
  EXPECT_TRUE(grants->at(0).all_gpus);
  EXPECT_FALSE(grants->at(0).cgroup);
  EXPECT_FALSE(grants->at(0).expires);
  const Grant& second = grants->at(1);
  EXPECT_EQ(second.cgroup, "/system.slice/slurmstepd.scope/job_7");
  EXPECT_THAT(second.gpus, ElementsAre("GPU-5c1e0000-aaaa-bbbb-cccc-000000000001", "3"));
  EXPECT_EQ(second.min_clock, Megahertz{900});
  EXPECT_EQ(second.expires, std::chrono::sys_seconds{std::chrono::seconds{1798740000}});
  EXPECT_EQ(second.comment, "trial of team A");
  EXPECT_EQ(second.line, 3U);
}

TEST(Grants, what_is_written_reads_back_to_the_same) {
  const std::vector<Grant> grants = {{.uid = 0, .all_gpus = true, .comment = "\"quoted\" \\ text: #1"},
                                     {.cgroup = "/a b/c",
                                      .gpus = {"0", "GPU-1"},
                                      .expires = std::chrono::sys_seconds{std::chrono::seconds{0}}}};
  EXPECT_EQ(parse_grants(write_grants(grants), "again").value(), grants);
  EXPECT_EQ(parse_grants(write_grants({}), "again").value(), std::vector<Grant>{});
}

TEST(Grants, a_grant_has_one_holder_and_names_its_gpus) {
  EXPECT_EQ(error_of("grants:\n  - {gpus: all}\n"), "grants.yaml:2:5: a grant needs either uid or cgroup");
  EXPECT_EQ(error_of("grants:\n  - {uid: 1, cgroup: /a, gpus: all}\n"),
            "grants.yaml:2:5: a grant needs either uid or cgroup");
  EXPECT_EQ(error_of("grants:\n  - {uid: 1}\n"), "grants.yaml:2:5: a grant without gpus");
  EXPECT_EQ(error_of("grants:\n  - {uid: 1, gpus: []}\n"),
            "grants.yaml:2:20: gpus is a list; it must be all, or a list of UUIDs or indices");
  EXPECT_EQ(error_of("grants:\n  - {uid: 1, gpus: ['../x']}\n"),
            "grants.yaml:2:21: element 1 of gpus is the text \"../x\"; it must be a UUID or an index");
  EXPECT_EQ(error_of("grants:\n  - {uid: 4294967295, gpus: all}\n"),
            "grants.yaml:2:11: uid is \"4294967295\"; it must be a whole number from 0 to 4294967294");
  EXPECT_EQ(error_of("grants:\n  - {user: 1, gpus: all}\n"),
            "grants.yaml:2:6: unknown key \"user\" in a grant");
}

TEST(Grants, a_cgroup_is_one_plain_path_below_the_root) {
  for (const std::string_view path : {"/", "a", "/a/", "/a//b", "/./a", "/a/..", "/.."}) {
    EXPECT_EQ(error_of("grants: [{cgroup: \"" + std::string(path) + "\", gpus: all}]"),
              "grants.yaml:1:19: cgroup is the text \"" + std::string(path) +
                  "\"; it must be a cgroup v2 path such as /system.slice/job.scope, not the root");
  }
  EXPECT_TRUE(parse_grants("grants: [{cgroup: /a..b/.c, gpus: all}]", "g"));
}

TEST(Grants, a_time_is_a_real_moment_in_utc) {
  for (const std::string_view text :
       {"2026-12-31", "2026-02-30T00:00:00Z", "2026-12-31T24:00:00Z", "2026-12-31T18:00:00+01:00",
        "1969-12-31T18:00:00Z", "2026-1 -31T18:00:00Z"}) {
    EXPECT_EQ(error_of("grants: [{uid: 1, gpus: all, expires: \"" + std::string(text) + "\"}]"),
              "grants.yaml:1:39: expires is the text \"" + std::string(text) +
                  "\"; it must be a time in UTC such as 2026-12-31T18:00:00Z");
  }
  EXPECT_EQ(utc_text(std::chrono::sys_seconds{std::chrono::seconds{1798740000}}), "2026-12-31T18:00:00Z");
}

}  // namespace
}  // namespace perseus::format
