// SPDX-License-Identifier: Apache-2.0
#include "perseus/lease/state_directory.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>

#include "perseus/lease/test_folder.h"

namespace perseus::lease {
namespace {

using core::ErrorCode;
using format::LeaseRecord;
using testing::ElementsAre;
using testing::IsEmpty;

LeaseRecord record_of(const std::string& gpu) {
  return {.gpu = gpu,
          .owner = {.pid = 71, .uid = 0, .job = "gpt3", .client = "test"},
          .baseline = core::Megahertz(1305),
          .boot_id = kBoot,
          .acquired_unix_s = 1'795'000'000};
}

TEST(StateDirectory, KeepsOneRecordPerGpu) {
  const TestFolder folder;
  const auto directory = folder.open();
  ASSERT_TRUE(directory) << directory.error().text();
  ASSERT_TRUE(directory->write(record_of("GPU-a")));
  ASSERT_TRUE(directory->write(record_of("GPU-b")));
  LeaseRecord second = record_of("GPU-a");
  second.owner.job = "bloom";
  ASSERT_TRUE(directory->write(second));
  EXPECT_THAT(folder.names(), ElementsAre("GPU-a.lease", "GPU-b.lease"));
  const auto journal = directory->read_all();
  ASSERT_TRUE(journal);
  EXPECT_THAT(journal->records, ElementsAre(second, record_of("GPU-b")));
  ASSERT_TRUE(directory->remove("GPU-a"));
  ASSERT_TRUE(directory->remove("GPU-a"));  // nothing there: done
  EXPECT_THAT(folder.names(), ElementsAre("GPU-b.lease"));
}

TEST(StateDirectory, WritesFilesForItsOwnerOnly) {
  const TestFolder folder;
  const auto directory = folder.open();
  ASSERT_TRUE(directory->write(record_of("GPU-a")));
  struct stat status{};
  ASSERT_EQ(::stat(folder.file("GPU-a.lease").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777U, 0600U);
}

TEST(StateDirectory, StampsTheBoot) {
  const TestFolder folder;
  {
    const auto directory = folder.open(Hold::kAgent, kEarlierBoot);
    LeaseRecord record = record_of("GPU-a");
    record.boot_id = "ignored";
    ASSERT_TRUE(directory->write(record));
  }
  EXPECT_EQ(format::parse_lease_record(folder.read("GPU-a.lease"), "x")->boot_id, kEarlierBoot);
  EXPECT_EQ(read_boot_id()->size(), 36U);
}

TEST(StateDirectory, ARecordOfAnEarlierBootIsDropped) {  // fault table, row 14
  const TestFolder folder;
  {
    ASSERT_TRUE(folder.open(Hold::kAgent, kEarlierBoot)->write(record_of("GPU-a")));
  }
  const auto directory = folder.open();
  const auto journal = directory->read_all();
  ASSERT_TRUE(journal);
  EXPECT_THAT(journal->records, IsEmpty());
  EXPECT_THAT(journal->dropped, ElementsAre("GPU-a"));
  EXPECT_THAT(folder.names(), IsEmpty());
}

TEST(StateDirectory, MakesItsFolderWithParents) {
  const TestFolder folder;
  const auto directory =
      StateDirectory::open({.path = folder.file("a//b/"), .hold = Hold::kAgent, .boot_id = kBoot});
  ASSERT_TRUE(directory) << directory.error().text();
  struct stat status{};
  ASSERT_EQ(::stat(folder.file("a/b").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777U, 0700U);
}

std::string refusal(const std::string& path) {
  const auto directory = StateDirectory::open({.path = path, .hold = Hold::kAgent, .boot_id = kBoot});
  return directory ? "opened" : directory.error().text();
}

TEST(StateDirectory, RefusesAFolderThatOthersCouldChange) {
  const TestFolder folder;
  EXPECT_EQ(refusal("relative"), "the folder \"relative\" must be given by an absolute path");
  EXPECT_EQ(refusal("/"), "/: the root folder cannot be used for this");
  EXPECT_EQ(refusal(folder.file("../x")),
            folder.file("../x") + R"(: "." and ".." may not stand in this path)");
  std::filesystem::create_directory(folder.file("open"));
  ASSERT_EQ(::chmod(folder.file("open").c_str(), 0750), 0);
  EXPECT_EQ(refusal(folder.file("open")),
            folder.file("open") + ": this folder has mode 0750; it must be closed to others: chmod 700");
  ASSERT_EQ(::chmod(folder.file("open").c_str(), 0777), 0);
  EXPECT_EQ(refusal(folder.file("open/state")),
            folder.file("open") + ": this folder has mode 0777: others could replace what is in it");
  ASSERT_EQ(::chmod(folder.file("open").c_str(), 01777), 0);  // sticky, as /tmp is
  EXPECT_EQ(refusal(folder.file("open/state")), "opened");
  std::filesystem::create_directory_symlink(folder.path(), folder.file("link"));
  EXPECT_EQ(refusal(folder.file("link")),
            folder.file("link") + ": this is a symbolic link; give the real path");
  EXPECT_EQ(refusal(folder.file("link/state")),
            folder.file("link") + ": this is a symbolic link; give the real path");
  folder.write("file", "x");
  EXPECT_EQ(refusal(folder.file("file")), folder.file("file") + ": cannot open this folder: Not a directory");
}

TEST(StateDirectory, RefusesAFolderOfSomebodyElse) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can give a folder away";
  const TestFolder folder;
  std::filesystem::create_directory(folder.file("theirs"));
  ASSERT_EQ(::chown(folder.file("theirs").c_str(), 12345, 0), 0);
  EXPECT_EQ(refusal(folder.file("theirs")),
            folder.file("theirs") + ": this folder belongs to user 12345; it must belong to user 0");
  EXPECT_EQ(
      refusal(folder.file("theirs/state")),
      folder.file("theirs") + ": this folder belongs to user 12345; it must belong to user 0 or to root");
}

TEST(StateDirectory, IsHeldByOneAgent) {
  const TestFolder folder;
  const std::string held =
      fmt::format("{}: this state folder is held by process {}", folder.path(), ::getpid());
  {
    const auto first = folder.open();
    ASSERT_TRUE(first);
    const auto second = folder.open();
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().code(), ErrorCode::kBusy);
    EXPECT_EQ(second.error().text(), held);
    EXPECT_EQ(folder.open(Hold::kGpus).error().text(), held);
  }
  EXPECT_TRUE(folder.open());
}

TEST(StateDirectory, IsSharedByHoldersOfGpus) {
  const TestFolder folder;
  const auto first = folder.open(Hold::kGpus);
  const auto second = folder.open(Hold::kGpus);
  ASSERT_TRUE(first && second);
  EXPECT_EQ(folder.open().error().code(), ErrorCode::kBusy);
  auto lock = first->lock_gpu("GPU-a");
  ASSERT_TRUE(lock);
  const auto refused = second->lock_gpu("GPU-a");  // fault table, row 31
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().text(),
            fmt::format("{}: GPU-a is held by process {}", folder.path(), ::getpid()));
  EXPECT_TRUE(second->lock_gpu("GPU-b"));
  {
    const GpuLock gone = *std::move(lock);
  }
  EXPECT_TRUE(second->lock_gpu("GPU-a"));
}

TEST(StateDirectory, NoUuidBecomesAPath) {
  const TestFolder folder;
  const auto directory = folder.open();
  const std::string text = R"("../x" is no GPU's UUID: 1 to 96 letters, digits and '-')";
  EXPECT_EQ(directory->write(record_of("../x")).error().text(), text);
  EXPECT_EQ(directory->remove("../x").error().text(), text);
  EXPECT_EQ(directory->lock_gpu("../x").error().text(), text);
  EXPECT_EQ(directory->read_one("../x").error().text(), text);
}

/// No file of this process may grow beyond `bytes` while it lives.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    ::getrlimit(RLIMIT_FSIZE, &former_);
    rlimit limit{.rlim_cur = bytes, .rlim_max = former_.rlim_max};
    old_handler_ = ::signal(SIGXFSZ, SIG_IGN);
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &former_);
    static_cast<void>(::signal(SIGXFSZ, old_handler_));
  }

 private:
  rlimit former_{};
  sighandler_t old_handler_ = SIG_DFL;
};

TEST(StateDirectory, AFullDiskIsRefusedAtEveryByteAndChangesNothing) {  // fault table, row 29
  const TestFolder folder;
  const auto directory = folder.open();
  ASSERT_TRUE(directory->write(record_of("GPU-a")));
  const std::string before = folder.read("GPU-a.lease");
  LeaseRecord next = record_of("GPU-a");
  next.owner.pid = 99;
  for (rlim_t room = 0; room < before.size(); ++room) {
    core::Status status;
    {
      const FileSizeLimit limit(room);
      status = directory->write(next);
    }
    ASSERT_FALSE(status) << room;
    ASSERT_EQ(status.error().code(), ErrorCode::kIo);
    ASSERT_EQ(status.error().text(),
              folder.file("GPU-a.lease") + ": cannot write the lease's record: File too large");
    ASSERT_EQ(folder.read("GPU-a.lease"), before);
    ASSERT_THAT(folder.names(), ElementsAre("GPU-a.lease"));
  }
  EXPECT_TRUE(directory->write(next));
}

TEST(StateDirectory, ABadRecordIsKeptAsideAndItsGpuKnown) {  // fault table, row 29
  const TestFolder folder;
  const auto directory = folder.open();
  ASSERT_TRUE(directory->write(record_of("GPU-a")));
  ASSERT_TRUE(directory->write(record_of("GPU-b")));
  const std::string whole = folder.read("GPU-a.lease");
  for (std::size_t length = 0; length < whole.size(); ++length) {
    folder.write("GPU-a.lease", whole.substr(0, length));
    const auto journal = directory->read_all();
    ASSERT_TRUE(journal);
    ASSERT_EQ(journal->records.size(), 1U) << length;
    ASSERT_EQ(journal->bad.size(), 1U) << length;
    ASSERT_EQ(journal->bad[0].gpu, "GPU-a");
    ASSERT_EQ(folder.read(journal->bad[0].kept_as), whole.substr(0, length));
    ASSERT_TRUE(directory->remove("GPU-a"));
  }
  EXPECT_THAT(folder.names(),
              ElementsAre("GPU-a.lease.corrupt-1", "GPU-a.lease.corrupt-2", "GPU-a.lease.corrupt-3",
                          "GPU-a.lease.corrupt-4", "GPU-a.lease.corrupt-5", "GPU-a.lease.corrupt-6",
                          "GPU-a.lease.corrupt-7", "GPU-a.lease.corrupt-8", "GPU-b.lease"));
}

TEST(StateDirectory, ABadRecordStaysUntilItsGpuIsBack) {
  const TestFolder folder;
  const auto directory = folder.open();
  folder.write("GPU-a.lease", "garbage");
  EXPECT_EQ(directory->read_all()->bad.size(), 1U);
  // A crash now: the next start must know of the GPU, and not fill the folder with copies.
  const auto again = directory->read_all();
  ASSERT_EQ(again->bad.size(), 1U);
  EXPECT_EQ(again->bad[0].kept_as, "GPU-a.lease.corrupt-1");
  EXPECT_EQ(again->bad[0].problem,
            "GPU-a.lease: 7 bytes that are no lease record: it is cut off, or something else");
  EXPECT_THAT(folder.names(), ElementsAre("GPU-a.lease", "GPU-a.lease.corrupt-1"));
  ASSERT_TRUE(directory->remove("GPU-a"));
  EXPECT_THAT(folder.names(), ElementsAre("GPU-a.lease.corrupt-1"));
}

TEST(StateDirectory, TrustsNoFileThatOnlyLooksLikeARecord) {
  const TestFolder folder;
  const auto directory = folder.open();
  ASSERT_TRUE(directory->write(record_of("GPU-a")));
  std::filesystem::copy_file(folder.file("GPU-a.lease"), folder.file("GPU-b.lease"));
  std::filesystem::create_symlink(folder.file("GPU-a.lease"), folder.file("GPU-c.lease"));
  std::filesystem::create_directory(folder.file("GPU-d.lease"));
  ASSERT_EQ(::mkfifo(folder.file("GPU-e.lease").c_str(), 0600), 0);
  folder.write("GPU-f.lease", std::string(5000, 'x'));
  folder.write("not a uuid.lease", "x");
  folder.write("GPU-g.lease.new", "half");
  const auto journal = directory->read_all();
  ASSERT_TRUE(journal);
  EXPECT_THAT(journal->records, ElementsAre(record_of("GPU-a")));
  std::vector<std::string> problems;
  for (const BadRecord& bad : journal->bad) problems.push_back(bad.problem);
  EXPECT_THAT(problems,
              ElementsAre("GPU-b.lease: this record is that of GPU-a",
                          "GPU-c.lease: cannot read this record: Too many levels of symbolic links",
                          "GPU-d.lease: this is no regular file", "GPU-e.lease: this is no regular file",
                          "GPU-f.lease: the lease record has 4097 bytes; the limit is 4096"));
  EXPECT_FALSE(std::filesystem::exists(folder.file("GPU-g.lease.new")));
  for (const char* gpu : {"GPU-b", "GPU-c", "GPU-d", "GPU-e", "GPU-f"})
    EXPECT_TRUE(directory->remove(gpu)) << gpu;
  EXPECT_TRUE(directory->read_all()->bad.empty());
}

TEST(StateDirectory, BoundsWhatItLooksAt) {
  const TestFolder folder;
  const auto directory = folder.open();
  for (std::size_t i = 0; i < StateDirectory::kMaxFiles; ++i) folder.write(fmt::format("x{}", i), "");
  const auto journal = directory->read_all();
  ASSERT_FALSE(journal);
  EXPECT_EQ(journal.error().text(), folder.path() + ": more than 4096 files in this folder");
}

}  // namespace
}  // namespace perseus::lease
