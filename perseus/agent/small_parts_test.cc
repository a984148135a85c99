// SPDX-License-Identifier: Apache-2.0
//
// The small parts of the agent: rate limit, mailbox adapter, trusted files, audit log, service notification.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "perseus/agent/audit_log.h"
#include "perseus/agent/mailbox_requests.h"
#include "perseus/agent/rate_limit.h"
#include "perseus/agent/service_notify.h"
#include "perseus/agent/trusted_file.h"
#include "perseus/format/files.h"
#include "tests/support/temporary_folder.h"

namespace perseus::agent {
namespace {

using core::ErrorCode;
using core::Megahertz;
using lease::Instant;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;

TEST(TokenBucket, gives_its_depth_at_once_and_then_its_rate) {
  Instant now{seconds{5}};
  TokenBucket bucket(10, now);
  for (int i = 0; i < 10; ++i) EXPECT_TRUE(bucket.take(now));
  EXPECT_FALSE(bucket.take(now));
  EXPECT_EQ(bucket.next(), now + milliseconds{100});
  EXPECT_FALSE(bucket.take(now + milliseconds{100} - nanoseconds{1}));
  EXPECT_TRUE(bucket.take(now + milliseconds{100}));
  EXPECT_FALSE(bucket.take(now + milliseconds{100}));
}

TEST(TokenBucket, never_holds_more_than_its_depth) {
  Instant now{seconds{5}};
  TokenBucket bucket(10, now);
  now += seconds{1000};
  int taken = 0;
  while (bucket.take(now)) ++taken;
  EXPECT_EQ(taken, 10);
}

TEST(MailboxRequests, what_no_version_of_us_posts_is_unknown) {
  EXPECT_EQ(request_of({}).kind, lease::RequestKind::kNone);
  EXPECT_EQ(request_of({1, 900, 1}).kind, lease::RequestKind::kClock);
  EXPECT_EQ(request_of({1, 900, 1}).clock, Megahertz{900});
  EXPECT_EQ(request_of({1, 0, 2}).kind, lease::RequestKind::kBaseline);
  EXPECT_EQ(request_of({1, 0, 1}).kind, lease::RequestKind::kUnknown);
  EXPECT_EQ(request_of({1, 900, 0}).kind, lease::RequestKind::kUnknown);
  EXPECT_EQ(request_of({0, 0, 65'535}).kind, lease::RequestKind::kUnknown);
}

TEST(MailboxRequests, paces_new_words_and_shows_only_the_latest) {
  lease::ManualTime time;
  auto owner = wire::MailboxOwner::create();
  ASSERT_TRUE(owner);
  auto user = wire::MailboxUser::map(::fcntl(owner->fd(), F_DUPFD_CLOEXEC, 3));
  ASSERT_TRUE(user) << user.error().text();
  const auto held = std::make_shared<HeldClocks>();
  MailboxRequests requests(*std::move(owner), time, milliseconds{5}, held);
  EXPECT_EQ(requests.latest().kind, lease::RequestKind::kNone);

  user->post(Megahertz{900});
  const lease::Request first = requests.latest();
  EXPECT_EQ(first.clock, Megahertz{900});
  requests.answer({first.sequence, lease::Outcome::kApplied, Megahertz{900}, time.now(), time.now()});
  EXPECT_EQ(user->applied().mhz, 900);
  EXPECT_EQ(user->applied().kind, static_cast<std::uint16_t>(wire::ClockAnswer::kApplied));

  user->post(Megahertz{1000});
  user->post(Megahertz{1200});
  EXPECT_EQ(requests.latest(), first);  // too soon
  time.advance(milliseconds{5} - nanoseconds{1});
  EXPECT_EQ(requests.latest(), first);
  time.advance(nanoseconds{1});
  EXPECT_EQ(requests.latest().clock, Megahertz{1200});
  EXPECT_EQ(requests.latest().sequence, first.sequence + 2);
}

TEST(MailboxRequests, keeps_book_of_what_is_held) {
  lease::ManualTime time;
  auto owner = wire::MailboxOwner::create();
  ASSERT_TRUE(owner);
  const auto held = std::make_shared<HeldClocks>();
  MailboxRequests requests(*std::move(owner), time, milliseconds{5}, held);
  const auto answer = [&](lease::Outcome outcome, std::optional<Megahertz> clock) {
    requests.answer({1, outcome, clock, time.now(), time.now() + milliseconds{20}});
    time.advance(seconds{1});
    return held->range(time.now(), milliseconds{1});
  };
  EXPECT_EQ(answer(lease::Outcome::kApplied, Megahertz{900})->least, Megahertz{900});
  EXPECT_EQ(answer(lease::Outcome::kRefused, std::nullopt)->least, Megahertz{900});
  EXPECT_FALSE(answer(lease::Outcome::kFailed, std::nullopt));
  EXPECT_EQ(answer(lease::Outcome::kApplied, Megahertz{1200})->least, Megahertz{1200});
  EXPECT_FALSE(answer(lease::Outcome::kEnded, std::nullopt));
  EXPECT_EQ(held->call_time(), milliseconds{100});
}

TEST(TrustedFile, is_read_if_only_its_owner_may_write) {
  const tests::TemporaryFolder folder;
  const std::string path = folder.path() + "/agent.yaml";
  std::ofstream(path) << "{}";
  ASSERT_EQ(::chmod(path.c_str(), 0644), 0);
  EXPECT_EQ(read_trusted_file(path, 100).value(), "{}");
  for (const mode_t mode : {0664U, 0646U, 0666U}) {
    ASSERT_EQ(::chmod(path.c_str(), mode), 0);
    const auto refused = read_trusted_file(path, 100);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code(), ErrorCode::kPermission);
    EXPECT_THAT(refused.error().message(), testing::StartsWith("others may write to it (mode 06"));
  }
}

TEST(TrustedFile, links_folders_pipes_and_foreign_files_are_refused) {
  const tests::TemporaryFolder folder;
  const std::string path = folder.path() + "/agent.yaml";
  EXPECT_EQ(read_trusted_file(path, 100).error().code(), ErrorCode::kNotFound);
  std::filesystem::create_symlink("/etc/passwd", path);
  EXPECT_EQ(read_trusted_file(path, 100).error().code(), ErrorCode::kInvalidInput);
  EXPECT_EQ(read_trusted_file(folder.path(), 100).error().message(), "it is no regular file");
  const std::string pipe = folder.path() + "/pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_EQ(read_trusted_file(pipe, 100).error().message(), "it is no regular file");
  if (::geteuid() != 0) return;
  const std::string foreign = folder.path() + "/foreign";
  std::ofstream(foreign) << "{}";
  ASSERT_EQ(::chown(foreign.c_str(), 65'534, 0), 0);
  EXPECT_EQ(read_trusted_file(foreign, 100).error().message(),
            "it belongs to uid 65534; it must belong to root or to the agent's own user");
}

TEST(AuditLog, a_line_is_json_with_what_is_known) {
  const auto at = std::chrono::system_clock::time_point(milliseconds{1'798'740'000'007});
  EXPECT_EQ(
      audit_line({.event = AuditEvent::kAcquire,
                  .index = 0,
                  .gpu = "GPU-a",
                  .lease = 7,
                  .uid = 1000,
                  .pid = 71,
                  .cgroup = "/job \"7\"",
                  .client = "rank 3",
                  .job = "gpt3",
                  .result = "busy",
                  .detail = "leased"},
                 at),
      R"({"time":"2026-12-31T18:00:00.007Z","event":"acquire","gpu":"GPU-a","index":0,"lease":7,"uid":1000,)"
      R"("pid":71,"cgroup":"/job \"7\"","client":"rank 3","job":"gpt3","result":"busy","detail":"leased"})");
  EXPECT_EQ(audit_line({.event = AuditEvent::kDriver}, at),
            R"({"time":"2026-12-31T18:00:00.007Z","event":"driver","result":"ok"})");
}

TEST(AuditLog, is_appended_to_for_its_owner_only_and_follows_a_rotation) {
  const tests::TemporaryFolder folder;
  const std::string path = folder.path() + "/audit.log";
  auto log = AuditLog::open(path);
  ASSERT_TRUE(log);
  struct stat status{};
  ASSERT_EQ(::stat(path.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777U, 0600U);
  log->write({.event = AuditEvent::kStart});
  std::filesystem::rename(path, path + ".1");
  log->write({.event = AuditEvent::kStop});  // still into the old one
  ASSERT_TRUE(log->reopen());
  log->write({.event = AuditEvent::kResume});
  EXPECT_THAT(format::read_file(path + ".1", 1000).value(), testing::HasSubstr("\"stop\""));
  const std::string now = format::read_file(path, 1000).value();
  EXPECT_THAT(now, testing::HasSubstr("\"resume\""));
  EXPECT_THAT(now, testing::Not(testing::HasSubstr("\"stop\"")));
  EXPECT_EQ(log->lost(), 0U);
}

TEST(AuditLog, what_cannot_be_written_is_counted) {
  auto log = AuditLog::open("/dev/full");
  ASSERT_TRUE(log);
  log->write({.event = AuditEvent::kStart});
  EXPECT_EQ(log->lost(), 1U);
}

/// A service manager's end.
class Manager {
 public:
  explicit Manager(const std::string& path)
      : socket_(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.data(), path.size());
    EXPECT_EQ(::bind(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  }
  std::string next() const {
    std::string text(500, '\0');
    const ssize_t size = ::recv(socket_.get(), text.data(), text.size(), 0);
    text.resize(size < 0 ? 0 : static_cast<std::size_t>(size));
    return text;
  }

 private:
  format::UniqueFd socket_;
};

TEST(ServiceNotify, speaks_the_managers_words) {
  const tests::TemporaryFolder folder;
  const Manager manager(folder.path() + "/notify");
  const auto notify = ServiceNotify::open(folder.path() + "/notify", "3000000", std::to_string(::getpid()));
  ASSERT_TRUE(notify) << notify.error().text();
  EXPECT_EQ(notify->watchdog_period(), milliseconds{1500});
  notify->ready("8 GPUs");
  EXPECT_EQ(manager.next(), "READY=1\nSTATUS=8 GPUs");
  notify->alive();
  EXPECT_EQ(manager.next(), "WATCHDOG=1");
  notify->reloading();
  EXPECT_THAT(manager.next(), testing::MatchesRegex("RELOADING=1\nMONOTONIC_USEC=[0-9]+"));
  notify->stopping("restoring");
  EXPECT_EQ(manager.next(), "STOPPING=1\nSTATUS=restoring");
  for (int i = 0; i < 100'000; ++i) notify->alive();  // a manager that does not read does not hold us up
}

TEST(ServiceNotify, without_a_manager_it_says_nothing) {
  const auto notify = ServiceNotify::open("", "3000000", "");
  ASSERT_TRUE(notify);
  EXPECT_FALSE(notify->watchdog_period());
  notify->ready("");
}

TEST(ServiceNotify, a_watchdog_of_another_process_is_not_ours) {
  const tests::TemporaryFolder folder;
  const Manager manager(folder.path() + "/notify");
  EXPECT_FALSE(ServiceNotify::open(folder.path() + "/notify", "3000000", "1")->watchdog_period());
  EXPECT_EQ(ServiceNotify::open("relative", "", "").error().message(),
            "NOTIFY_SOCKET is \"relative\", which is no socket's name");
  EXPECT_EQ(ServiceNotify::open(folder.path() + "/notify", "soon", "").error().message(),
            "WATCHDOG_USEC is \"soon\", which is no time");
}

}  // namespace
}  // namespace perseus::agent
