// SPDX-License-Identifier: Apache-2.0
#include "perseus/demo/mesh.h"

#include <gmock/gmock.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

namespace perseus::demo {
namespace {

/// A short path, since sockets lie in it.
class Folder {
 public:
  Folder() { EXPECT_NE(::mkdtemp(path_.data()), nullptr); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() { std::filesystem::remove_all(path_); }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_ = "/tmp/perseus-mesh-XXXXXX";
};

Deadline soon() {
  return std::chrono::steady_clock::now() + std::chrono::seconds(30);
}

/// Runs `rank` on a thread for each place of a job of that size.
template <class Body>
void run_job(const Folder& folder, std::uint32_t pipelines, std::uint32_t stages, Body&& body) {
  std::vector<std::thread> threads;
  for (std::uint32_t pipeline = 0; pipeline < pipelines; ++pipeline) {
    for (std::uint32_t stage = 0; stage < stages; ++stage) {
      threads.emplace_back([&, pipeline, stage] {
        auto mesh = Mesh::join({.folder = folder.path(),
                                .pipelines = pipelines,
                                .stages = stages,
                                .pipeline = pipeline,
                                .stage = stage},
                               soon());
        ASSERT_TRUE(mesh) << mesh.error().text();
        body(*mesh, pipeline, stage);
      });
    }
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(MeshTest, ActivationsGoDownAndGradientsComeBackInEachPipeline) {
  const Folder folder;
  run_job(folder, 2, 3, [](Mesh& mesh, std::uint32_t, std::uint32_t) {
    for (std::uint32_t microbatch = 0; microbatch < 2; ++microbatch) {
      EXPECT_TRUE(mesh.await_activation(7, microbatch));
      EXPECT_TRUE(mesh.send_activation(7, microbatch));
      EXPECT_TRUE(mesh.await_gradient(7, microbatch));
      EXPECT_TRUE(mesh.send_gradient(7, microbatch));
    }
    EXPECT_TRUE(mesh.reduce(7, 0));
  });
}

TEST(MeshTest, AllRanksHearTheLargestValue) {
  const Folder folder;
  run_job(folder, 2, 2, [](Mesh& mesh, std::uint32_t pipeline, std::uint32_t stage) {
    EXPECT_EQ(mesh.reduce(1, 10 * pipeline + stage).value(), 11U);
    EXPECT_EQ(mesh.reduce(2, pipeline == 0 && stage == 1 ? 5U : 0U).value(), 5U);
  });
}

TEST(MeshTest, WhatComesOutOfOrderIsRefused) {
  const Folder folder;
  run_job(folder, 1, 2, [](Mesh& mesh, std::uint32_t, std::uint32_t stage) {
    if (stage == 0) {
      EXPECT_TRUE(mesh.send_activation(3, 1));
      return;
    }
    const auto got = mesh.await_activation(3, 0);
    ASSERT_FALSE(got);
    EXPECT_EQ(
        got.error().message(),
        "rank 0.0 sent kind 2 of step 3, microbatch 1, where kind 2 of step 3, microbatch 0 should come");
  });
}

TEST(MeshTest, ANeighbourThatIsGoneIsNamed) {
  const Folder folder;
  run_job(folder, 1, 2, [](Mesh& mesh, std::uint32_t, std::uint32_t stage) {
    if (stage == 0) return;  // its sockets close
    const auto got = mesh.await_activation(0, 0);
    ASSERT_FALSE(got);
    EXPECT_EQ(got.error().message(), "rank 0.0 is gone");
  });
}

TEST(MeshTest, ARankWhoseOthersDoNotComeSaysSo) {
  const Folder folder;
  const auto now = std::chrono::steady_clock::now();
  const auto first = Mesh::join({.folder = folder.path(), .stages = 2, .stage = 0}, now);
  ASSERT_FALSE(first);
  EXPECT_EQ(first.error().text(), "the other ranks did not come");
  const auto second =
      Mesh::join({.folder = folder.path(), .pipelines = 2, .stages = 2, .pipeline = 1, .stage = 1}, now);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().text(), "nobody listens at " + folder.path() + "/rank-1.0");
}

TEST(ChannelTest, AnotherProgramsBytesAreRefused) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
  Channel channel(format::UniqueFd{ends[0]}, "rank 0.3");
  const format::UniqueFd other(ends[1]);
  const std::string bytes(40, 'x');
  ASSERT_EQ(::send(other.get(), bytes.data(), bytes.size(), 0), 40);
  const auto got = channel.receive();
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().message(),
            "rank 0.3 sent 2021161080 bytes of kind 2021161080: that is none of our messages");
}

TEST(ChannelTest, APathThatIsTooLongForASocketIsRefused) {
  const auto listener = Listener::open("/tmp/" + std::string(120, 'x'));
  ASSERT_FALSE(listener);
  EXPECT_EQ(listener.error().message(), "a socket's path has at most 107 bytes, and this has 125");
}

}  // namespace
}  // namespace perseus::demo
