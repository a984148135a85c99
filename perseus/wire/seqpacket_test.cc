// SPDX-License-Identifier: Apache-2.0
#include "perseus/wire/seqpacket.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <vector>

#include "tests/support/temporary_folder.h"

namespace perseus::wire {
namespace {

using core::ErrorCode;
using format::UniqueFd;

/// Does only what is possible at once.
constexpr Deadline kNow{};

Deadline soon() {
  return deadline_in(std::chrono::seconds(10));
}

int open_descriptors() {
  int count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) ++count;
  return count;
}

class SeqpacketFiles : public testing::Test {
 protected:
  [[nodiscard]] std::string path(const char* name) const { return folder_.file(name); }

 private:
  const tests::TemporaryFolder folder_;
};

TEST(Seqpacket, CarriesPacketsWhole) {
  const auto pair = seqpacket_pair();
  ASSERT_TRUE(pair);
  ASSERT_TRUE(send_packet(pair->ours.get(), "one", -1, kNow));
  ASSERT_TRUE(send_packet(pair->ours.get(), std::string(1000, '2'), -1, kNow));
  auto first = receive_packet(pair->theirs.get(), 1000, kNow);
  ASSERT_TRUE(first);
  EXPECT_EQ(first->bytes, "one");
  EXPECT_FALSE(first->fd);
  EXPECT_FALSE(first->end);
  EXPECT_EQ(receive_packet(pair->theirs.get(), 1000, kNow)->bytes, std::string(1000, '2'));
}

TEST(Seqpacket, CarriesOneDescriptorThatIsClosedOnExec) {
  const auto pair = seqpacket_pair();
  const UniqueFd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(send_packet(pair->ours.get(), "x", null.get(), kNow));
  const auto packet = receive_packet(pair->theirs.get(), 16, kNow);
  ASSERT_TRUE(packet);
  ASSERT_TRUE(packet->fd);
  EXPECT_NE(packet->fd.get(), null.get());
  EXPECT_NE(::fcntl(packet->fd.get(), F_GETFD) & FD_CLOEXEC, 0);
}

TEST(Seqpacket, TellsTheEnd) {
  auto pair = seqpacket_pair();
  pair->ours.reset();
  const auto packet = receive_packet(pair->theirs.get(), 16, kNow);
  ASSERT_TRUE(packet);
  EXPECT_TRUE(packet->end);
}

TEST(Seqpacket, SendingToNobodyIsAnErrorAndNoSignal) {
  auto pair = seqpacket_pair();
  pair->theirs.reset();
  EXPECT_EQ(send_packet(pair->ours.get(), "x", -1, kNow).error().text(), "cannot send: Broken pipe");
}

TEST(Seqpacket, NeverWaitsBeyondItsDeadline) {
  const auto pair = seqpacket_pair();
  EXPECT_EQ(receive_packet(pair->ours.get(), 16, kNow).error().text(),
            "nothing came within the time allowed");
  const std::string large(60'000, 'x');
  core::Status status;
  while (status) status = send_packet(pair->ours.get(), large, -1, kNow);
  EXPECT_EQ(status.error().code(), ErrorCode::kTimeout);
  EXPECT_EQ(status.error().text(), "the peer did not read within the time allowed");
}

TEST(Seqpacket, ABlockingSocketKeepsItsDeadlineToo) {
  const auto pair = seqpacket_pair();
  ASSERT_EQ(::fcntl(pair->ours.get(), F_SETFL, 0), 0);
  EXPECT_EQ(receive_packet(pair->ours.get(), 16, kNow).error().code(), ErrorCode::kTimeout);
}

TEST(Seqpacket, RefusesWhatIsTooLongAndKeepsNothingOfIt) {
  const auto pair = seqpacket_pair();
  const UniqueFd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(send_packet(pair->ours.get(), std::string(17, 'x'), null.get(), kNow));
  ASSERT_TRUE(send_packet(pair->ours.get(), "next", -1, kNow));
  const int before = open_descriptors();
  const auto packet = receive_packet(pair->theirs.get(), 16, kNow);
  ASSERT_FALSE(packet);
  EXPECT_EQ(packet.error().code(), ErrorCode::kLimit);
  EXPECT_EQ(packet.error().text(), "a packet of 17 bytes; the limit is 16");
  EXPECT_EQ(open_descriptors(), before);
  EXPECT_EQ(receive_packet(pair->theirs.get(), 16, kNow)->bytes, "next");
}

/// Sends a packet with any number of descriptors.
void send_many(int socket, const std::vector<int>& fds) {
  std::vector<char> control(CMSG_SPACE(fds.size() * sizeof(int)));
  char byte = 'x';
  iovec part{.iov_base = &byte, .iov_len = 1};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
  std::memcpy(CMSG_DATA(header), fds.data(), fds.size() * sizeof(int));
  ASSERT_EQ(::sendmsg(socket, &message, MSG_NOSIGNAL), 1);
}

TEST(Seqpacket, ClosesSurplusDescriptors) {
  const auto pair = seqpacket_pair();
  const UniqueFd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  for (const std::size_t count : {2UL, 253UL}) {
    send_many(pair->ours.get(), std::vector<int>(count, null.get()));
    const int before = open_descriptors();
    const auto packet = receive_packet(pair->theirs.get(), 16, kNow);
    ASSERT_FALSE(packet);
    EXPECT_EQ(packet.error().code(), ErrorCode::kInvalidInput);
    EXPECT_EQ(packet.error().text(),
              "a packet with " + std::to_string(count) + " file descriptors; the limit is 1");
    EXPECT_EQ(open_descriptors(), before);
  }
}

TEST(Seqpacket, RefusesOtherAncillaryData) {
  const auto pair = seqpacket_pair();
  const int on = 1;
  ASSERT_EQ(::setsockopt(pair->theirs.get(), SOL_SOCKET, SO_PASSCRED, &on, sizeof on), 0);
  ASSERT_TRUE(send_packet(pair->ours.get(), "x", -1, kNow));
  EXPECT_EQ(receive_packet(pair->theirs.get(), 16, kNow).error().text(),
            "a packet with ancillary data that is no file descriptor");
}

TEST(Seqpacket, KnowsThePeer) {
  const auto pair = seqpacket_pair();
  const auto peer = peer_of(pair->ours.get());
  ASSERT_TRUE(peer);
  EXPECT_EQ(peer->pid, ::getpid());
  EXPECT_EQ(peer->uid, ::geteuid());
  EXPECT_EQ(peer->gid, ::getegid());
  EXPECT_EQ(peer_of(-1).error().text(), "cannot tell who is at the other end: Bad file descriptor");
}

TEST_F(SeqpacketFiles, ListensAndConnects) {
  const auto listener = listen_seqpacket(path("s"), 0660);
  ASSERT_TRUE(listener) << listener.error().text();
  struct stat status{};
  ASSERT_EQ(::stat(path("s").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777U, 0660U);
  const auto client = connect_seqpacket(path("s"), kNow);
  ASSERT_TRUE(client) << client.error().text();
  EXPECT_NE(::fcntl(client->get(), F_GETFD) & FD_CLOEXEC, 0);
  const UniqueFd server(::accept4(listener->socket.get(), nullptr, nullptr, SOCK_CLOEXEC));
  ASSERT_TRUE(server);
  ASSERT_TRUE(send_packet(client->get(), "hello", -1, kNow));
  const auto request = receive_request(server.get(), 16, soon());
  ASSERT_TRUE(request) << request.error().text();
  EXPECT_EQ(request->bytes, "hello");
  EXPECT_EQ(request->sender, ::getpid());
}

TEST_F(SeqpacketFiles, WhatWasSentBeforeTheAcceptHasItsSenderToo) {
  const auto listener = listen_seqpacket(path("s"), 0600);
  ASSERT_TRUE(listener);
  const auto client = connect_seqpacket(path("s"), kNow);
  ASSERT_TRUE(client);
  ASSERT_TRUE(send_packet(client->get(), "early", -1, kNow));
  const UniqueFd server(::accept4(listener->socket.get(), nullptr, nullptr, SOCK_CLOEXEC));
  EXPECT_EQ(receive_request(server.get(), 16, soon())->sender, ::getpid());
}

TEST(Seqpacket, ARequestBringsNoDescriptorIn) {
  const auto pair = seqpacket_pair();
  ASSERT_TRUE(pair);
  ASSERT_TRUE(identify_senders(pair->ours.get()));
  const UniqueFd gift(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(send_packet(pair->theirs.get(), "gift", gift.get(), kNow));
  // The next descriptor that is made has the lowest free number: the same before and after, if none came in.
  const int free_before = UniqueFd(::open("/dev/null", O_RDONLY | O_CLOEXEC)).get();
  EXPECT_EQ(receive_request(pair->ours.get(), 16, soon()).error().text(),
            "a packet with a file descriptor; none is taken");
  EXPECT_EQ(UniqueFd(::open("/dev/null", O_RDONLY | O_CLOEXEC)).get(), free_before);
  EXPECT_FALSE(has_input(pair->ours.get()));
}

TEST_F(SeqpacketFiles, SaysWhyItCannotConnect) {
  const auto refusal = [&](const std::string& where) {
    return connect_seqpacket(where, kNow).error().text();
  };
  EXPECT_EQ(refusal(path("none")), path("none") + ": there is no such socket");
  EXPECT_EQ(refusal(""), "a socket's path has 0 bytes; it must have 1 to 107");
  const std::string long_path(108, 'x');
  EXPECT_EQ(refusal(long_path), long_path + ": a socket's path has 108 bytes; it must have 1 to 107");
  std::ofstream(path("file")) << "x";
  EXPECT_EQ(refusal(path("file")), path("file") + ": nobody listens at this socket");
  const UniqueFd stream(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::ranges::copy(path("stream"), std::begin(address.sun_path));
  ASSERT_EQ(::bind(stream.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(::listen(stream.get(), 1), 0);
  EXPECT_EQ(refusal(path("stream")), path("stream") + ": this is another kind of socket");
}

TEST_F(SeqpacketFiles, AFullQueueIsWaitedForUntilTheDeadlineOnly) {
  const auto listener = listen_seqpacket(path("s"), 0600);
  std::vector<UniqueFd> waiting;
  for (;;) {
    auto client = connect_seqpacket(path("s"), kNow);
    if (!client) {
      EXPECT_EQ(client.error().text(), path("s") + ": too many connections wait at this socket");
      break;
    }
    waiting.push_back(*std::move(client));
    ASSERT_LT(waiting.size(), 10'000U);
  }
}

TEST_F(SeqpacketFiles, ALiveSocketIsNeverReplaced) {
  auto first = listen_seqpacket(path("s"), 0600);
  ASSERT_TRUE(first);
  const auto second = listen_seqpacket(path("s"), 0600);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code(), ErrorCode::kBusy);
  EXPECT_EQ(second.error().text(), path("s") + ": another process listens at this socket, or is about to");
  // Who stopped listening and still has the name keeps it.
  first->socket.reset();
  EXPECT_EQ(listen_seqpacket(path("s"), 0600).error().code(), ErrorCode::kBusy);
}

/// A socket file as an agent leaves it that knew no lock, or whose lock the kernel has let go of.
UniqueFd bind_by_hand(const std::string& path) {
  UniqueFd fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::ranges::copy(path, std::begin(address.sun_path));
  EXPECT_EQ(::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  return fd;
}

TEST_F(SeqpacketFiles, AStaleSocketIsReplacedAndTheNewOneRemovedAtTheEnd) {
  bind_by_hand(path("s")).reset();  // as after SIGKILL: the file stays, nobody listens
  {
    const auto listener = listen_seqpacket(path("s"), 0600);
    ASSERT_TRUE(listener) << listener.error().text();
    EXPECT_TRUE(connect_seqpacket(path("s"), kNow));
  }
  EXPECT_FALSE(std::filesystem::exists(path("s")));
}

TEST_F(SeqpacketFiles, ALiveSocketOfSomebodyWithoutALockIsLeftAloneToo) {
  const UniqueFd live = bind_by_hand(path("s"));
  ASSERT_EQ(::listen(live.get(), 1), 0);
  const auto listener = listen_seqpacket(path("s"), 0600);
  ASSERT_FALSE(listener);
  EXPECT_EQ(listener.error().text(), path("s") + ": another process listens at this socket");
  EXPECT_TRUE(connect_seqpacket(path("s"), kNow));
}

TEST_F(SeqpacketFiles, WhatAKilledProcessLeftHalfMadeIsNoHindrance) {
  bind_by_hand(path("s.new")).reset();
  EXPECT_TRUE(listen_seqpacket(path("s"), 0600));
  EXPECT_FALSE(std::filesystem::exists(path("s.new")));
  std::ofstream(path("s.new")) << "precious";
  EXPECT_EQ(listen_seqpacket(path("s"), 0600).error().text(),
            path("s.new") + ": there is something here that is no socket; it is left alone");
  EXPECT_TRUE(std::filesystem::exists(path("s.new")));
}

TEST_F(SeqpacketFiles, OnlyItsOwnSocketIsRemovedAtTheEnd) {
  UniqueFd other;
  {
    const auto listener = listen_seqpacket(path("s"), 0600);
    ASSERT_TRUE(listener);
    std::filesystem::rename(path("s"), path("moved"));
    other = bind_by_hand(path("s"));
  }
  EXPECT_TRUE(std::filesystem::exists(path("s")));
}

TEST_F(SeqpacketFiles, ALockThatIsALinkIsNotFollowed) {
  std::filesystem::create_symlink(path("elsewhere"), path("s.lock"));
  EXPECT_EQ(listen_seqpacket(path("s"), 0600).error().text(),
            "cannot open " + path("s") + ".lock: Too many levels of symbolic links");
  EXPECT_FALSE(std::filesystem::exists(path("elsewhere")));
}

TEST(Seqpacket, WhatWasSaidLastCanBeReadAlthoughThePeerSpokeToo) {
  auto pair = seqpacket_pair();
  ASSERT_TRUE(pair);
  const UniqueFd gift(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(send_packet(pair->theirs.get(), "hello", -1, kNow));
  ASSERT_TRUE(send_packet(pair->theirs.get(), "gift", gift.get(), kNow));
  ASSERT_TRUE(send_packet(pair->ours.get(), "no", -1, kNow));
  hear_no_more(pair->ours.get());
  pair->ours.reset();
  // Nothing can be sent any more, and what stands there is the answer all the same.
  const auto answer = exchange_packets(pair->theirs.get(), "again", 16, soon());
  ASSERT_TRUE(answer) << answer.error().text();
  EXPECT_EQ(answer->bytes, "no");
  EXPECT_EQ(exchange_packets(pair->theirs.get(), "again", 16, soon()).error().text(),
            "cannot send: Broken pipe");
}

TEST(Seqpacket, AnExchangeIsAPacketEachWay) {
  const auto pair = seqpacket_pair();
  ASSERT_TRUE(pair);
  ASSERT_TRUE(send_packet(pair->theirs.get(), "answer", -1, kNow));
  EXPECT_EQ(exchange_packets(pair->ours.get(), "question", 16, soon())->bytes, "answer");
  EXPECT_EQ(receive_packet(pair->theirs.get(), 16, soon())->bytes, "question");
  EXPECT_EQ(exchange_packets(pair->ours.get(), "question", 16, kNow).error().code(), ErrorCode::kTimeout);
}

TEST_F(SeqpacketFiles, RemovesNothingThatIsNoSocket) {
  std::ofstream(path("file")) << "precious";
  const auto listener = listen_seqpacket(path("file"), 0600);
  ASSERT_FALSE(listener);
  EXPECT_EQ(listener.error().text(),
            path("file") + ": there is something here that is no socket; it is left alone");
  EXPECT_TRUE(std::filesystem::exists(path("file")));
  EXPECT_EQ(listen_seqpacket(path("no/s"), 0600).error().code(), ErrorCode::kNotFound);
}

}  // namespace
}  // namespace perseus::wire
