// SPDX-License-Identifier: Apache-2.0
#include "perseus/lease/state_directory.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <optional>
#include <set>
#include <system_error>

#include "perseus/format/files.h"
#include "perseus/format/text.h"
#include "perseus/lease/safe_folder.h"

namespace perseus::lease {
namespace {

using core::ErrorCode;
using format::UniqueFd;

constexpr std::string_view kLease = ".lease";
constexpr std::string_view kNew = ".lease.new";
constexpr const char* kLockName = "lock";
/// A line with a number.
constexpr std::size_t kMaxLockBytes = 64;
/// Records of one GPU that are kept for a person to look at; the last one is overwritten then.
constexpr int kKeptBad = 8;

std::unexpected<core::Error> system_error(std::string_view what, std::string path) {
  return core::fail(ErrorCode::kIo,
                    fmt::format("cannot {}: {}", what, std::generic_category().message(errno)),
                    {std::move(path)});
}

core::Status check_uuid(std::string_view gpu) {
  if (format::is_gpu_uuid(gpu)) return {};
  return core::fail(ErrorCode::kInvalidInput,
                    fmt::format("{} is no GPU's UUID: 1 to {} letters, digits and '-'", format::quoted(gpu),
                                format::kMaxGpuUuid));
}

std::string record_name(std::string_view gpu) {
  return fmt::format("{}{}", gpu, kLease);
}

/// Who wrote himself into a lock file: "process 71", or "another process".
std::string holder(int fd) {
  std::string text(kMaxLockBytes, '\0');
  const ssize_t length = ::pread(fd, text.data(), text.size(), 0);
  text.resize(length > 0 ? static_cast<std::size_t>(length) : 0);
  text.resize(std::min(text.find('\n'), text.size()));
  const bool digits = !text.empty() && std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; });
  return digits ? "process " + text : "another process";
}

/// Locks an open file and writes our pid into it. `what` names what is locked.
core::Status lock_file(int fd, int operation, std::string_view what, const std::string& path) {
  while (::flock(fd, operation | LOCK_NB) != 0) {
    if (errno == EINTR) continue;
    if (errno != EWOULDBLOCK) return system_error(fmt::format("lock {}", what), path);
    return core::fail(ErrorCode::kBusy, fmt::format("{} is held by {}", what, holder(fd)), {path});
  }
  const std::string line = fmt::format("{}\n", ::getpid());
  // For messages only; whoever holds the lock holds it even if this fails.
  if (::ftruncate(fd, 0) == 0) static_cast<void>(::pwrite(fd, line.data(), line.size(), 0) == 0);
  return {};
}

core::Result<UniqueFd> open_lock(int folder, const std::string& name, const std::string& path) {
  UniqueFd fd(::openat(folder, name.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0600));
  if (!fd) return system_error("open a lock file", path + '/' + name);
  return fd;
}

/// Fills a new file and flushes it; 0 or an errno.
int fill(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return written == 0 ? EIO : errno;
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
  return ::fsync(fd) == 0 ? 0 : errno;
}

/// The bytes of a regular file in the folder, or what is wrong with it. Nothing: there is no such file.
core::Result<std::optional<std::string>> read_entry(int folder, const std::string& name) {
  const UniqueFd fd(::openat(folder, name.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK));
  if (!fd && errno == ENOENT) return std::nullopt;
  struct stat status{};
  if (!fd || ::fstat(fd.get(), &status) != 0) return system_error("read this record", name);
  if (!S_ISREG(status.st_mode))
    return core::fail(ErrorCode::kInvalidInput, "this is no regular file", {name});
  std::string bytes(format::kMaxLeaseRecordBytes + 1, '\0');
  std::size_t length = 0;
  while (length < bytes.size()) {
    const ssize_t got = ::read(fd.get(), bytes.data() + length, bytes.size() - length);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return system_error("read this record", name);
    if (got == 0) break;
    length += static_cast<std::size_t>(got);
  }
  bytes.resize(length);
  return bytes;
}

bool same_file(int folder, const std::string& a, const std::string& b) {
  struct stat first{};
  struct stat second{};
  return ::fstatat(folder, a.c_str(), &first, AT_SYMLINK_NOFOLLOW) == 0 &&
         ::fstatat(folder, b.c_str(), &second, AT_SYMLINK_NOFOLLOW) == 0 && first.st_ino == second.st_ino &&
         first.st_dev == second.st_dev;
}

/// Gives a bad record a second name, and returns it. The first name stays until the GPU is back (remove()):
/// were it gone before, a crash in between would leave nobody who knows of the GPU. Empty: it has no second
/// name.
std::string put_aside(int folder, const std::string& gpu) {
  const std::string name = record_name(gpu);
  std::string aside;
  for (int i = 1; i <= kKeptBad; ++i) {
    aside = fmt::format("{}.corrupt-{}", name, i);
    if (::linkat(folder, name.c_str(), folder, aside.c_str(), 0) == 0) return aside;
    if (errno == EPERM) {  // a folder, or a file system without hard links
      return ::renameat2(folder, name.c_str(), folder, aside.c_str(), RENAME_NOREPLACE) == 0 ? aside
                                                                                             : std::string();
    }
    if (errno != EEXIST) return {};
    if (same_file(folder, name, aside)) return aside;  // the crash in between has happened
  }
  ::unlinkat(folder, aside.c_str(), 0);
  return ::linkat(folder, name.c_str(), folder, aside.c_str(), 0) == 0 ? aside : std::string();
}

struct CloseDir {
  void operator()(DIR* dir) const { ::closedir(dir); }
};

/// Calls visit(name) for every entry.
template <class Visit>
core::Status for_each_entry(int folder, const std::string& path, Visit&& visit) {
  UniqueFd fd(::openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) return system_error("read this folder", path);
  const std::unique_ptr<DIR, CloseDir> dir(::fdopendir(fd.get()));
  if (!dir) return system_error("read this folder", path);
  static_cast<void>(fd.release());
  std::size_t count = 0;
  for (;;) {
    errno = 0;
    const dirent* entry =
        ::readdir(dir.get());  // NOLINT(concurrency-mt-unsafe): the stream is this call's own
    if (entry == nullptr) break;
    const std::string_view name = entry->d_name;
    if (name == "." || name == "..") continue;
    if (++count > StateDirectory::kMaxFiles) {
      return core::fail(ErrorCode::kLimit,
                        fmt::format("more than {} files in this folder", StateDirectory::kMaxFiles), {path});
    }
    visit(name);
  }
  if (errno != 0) return system_error("read this folder", path);
  return {};
}

/// The UUID in front of `ending`, or empty if the name is another.
std::string_view uuid_before(std::string_view name, std::string_view ending) {
  if (!name.ends_with(ending)) return {};
  const std::string_view gpu = name.substr(0, name.size() - ending.size());
  return format::is_gpu_uuid(gpu) ? gpu : std::string_view();
}

}  // namespace

core::Result<std::string> read_boot_id() {
  constexpr std::size_t kMaxBootId = 64;  // a UUID and a newline
  PERSEUS_ASSIGN_OR_RETURN(std::string text,
                           format::read_file("/proc/sys/kernel/random/boot_id", kMaxBootId));
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

core::Result<StateDirectory> StateDirectory::open(StateDirectoryOptions options) {
  if (options.boot_id.empty()) {
    PERSEUS_ASSIGN_OR_RETURN(options.boot_id, read_boot_id());
  }
  PERSEUS_ASSIGN_OR_RETURN(UniqueFd folder, open_private_folder(options.path));
  PERSEUS_ASSIGN_OR_RETURN(UniqueFd lock, open_lock(folder.get(), kLockName, options.path));
  const int operation = options.hold == Hold::kAgent ? LOCK_EX : LOCK_SH;
  PERSEUS_RETURN_IF_ERROR(lock_file(lock.get(), operation, "this state folder", options.path));
  return StateDirectory(std::move(options), std::move(folder), std::move(lock));
}

core::Result<GpuLock> StateDirectory::lock_gpu(std::string_view gpu) const {
  PERSEUS_RETURN_IF_ERROR(check_uuid(gpu));
  PERSEUS_ASSIGN_OR_RETURN(UniqueFd fd, open_lock(folder_.get(), fmt::format("{}.lock", gpu), path_));
  PERSEUS_RETURN_IF_ERROR(lock_file(fd.get(), LOCK_EX, gpu, path_));
  return GpuLock(std::move(fd));
}

core::Status StateDirectory::write(format::LeaseRecord record) const {
  PERSEUS_RETURN_IF_ERROR(check_uuid(record.gpu));
  record.boot_id = boot_id_;
  PERSEUS_ASSIGN_OR_RETURN(const std::string bytes, format::write_lease_record(record));
  const std::string temporary = fmt::format("{}{}", record.gpu, kNew);
  const std::string path = path_ + '/' + record_name(record.gpu);
  UniqueFd fd(::openat(folder_.get(), temporary.c_str(),
                       O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!fd) return system_error("write the lease's record", path);
  int number = fill(fd.get(), bytes);
  fd.reset();
  if (number == 0 &&
      ::renameat(folder_.get(), temporary.c_str(), folder_.get(), record_name(record.gpu).c_str()) != 0) {
    number = errno;
  }
  if (number != 0) {
    ::unlinkat(folder_.get(), temporary.c_str(), 0);
    errno = number;
    return system_error("write the lease's record", path);
  }
  return flush_folder(folder_.get(), path);
}

core::Status StateDirectory::remove(std::string_view gpu) const {
  PERSEUS_RETURN_IF_ERROR(check_uuid(gpu));
  const std::string name = record_name(gpu);
  if (::unlinkat(folder_.get(), name.c_str(), 0) != 0) {
    if (errno == ENOENT) return {};
    return system_error("remove the lease's record", path_ + '/' + name);
  }
  return flush_folder(folder_.get(), path_ + '/' + name);
}

core::Result<std::vector<std::string>> StateDirectory::list() const {
  std::set<std::string> gpus;
  PERSEUS_RETURN_IF_ERROR(for_each_entry(folder_.get(), path_, [&](std::string_view name) {
    if (const auto gpu = uuid_before(name, kLease); !gpu.empty()) gpus.emplace(gpu);
  }));
  return std::vector(gpus.begin(), gpus.end());
}

core::Result<Journal> StateDirectory::read_all() const {
  std::vector<std::string> unfinished;
  PERSEUS_RETURN_IF_ERROR(for_each_entry(folder_.get(), path_, [&](std::string_view name) {
    if (!uuid_before(name, kNew).empty()) unfinished.emplace_back(name);
  }));
  for (const std::string& name : unfinished) ::unlinkat(folder_.get(), name.c_str(), 0);
  PERSEUS_ASSIGN_OR_RETURN(const auto gpus, list());
  Journal journal;
  for (const std::string& gpu : gpus) PERSEUS_RETURN_IF_ERROR(read_into(journal, gpu));
  return journal;
}

core::Result<Journal> StateDirectory::read_one(std::string_view gpu) const {
  PERSEUS_RETURN_IF_ERROR(check_uuid(gpu));
  ::unlinkat(folder_.get(), fmt::format("{}{}", gpu, kNew).c_str(), 0);
  Journal journal;
  PERSEUS_RETURN_IF_ERROR(read_into(journal, std::string(gpu)));
  return journal;
}

core::Result<format::LeaseRecord> StateDirectory::peek(std::string_view gpu) const {
  PERSEUS_RETURN_IF_ERROR(check_uuid(gpu));
  const std::string name = record_name(gpu);
  PERSEUS_ASSIGN_OR_RETURN(const auto bytes, read_entry(folder_.get(), name));
  if (!bytes) return core::fail(ErrorCode::kNotFound, "there is no such record", {name});
  return format::parse_lease_record(*bytes, name);
}

core::Status StateDirectory::read_into(Journal& journal, const std::string& gpu) const {
  const std::string name = record_name(gpu);
  const auto quarantine = [&](const core::Error& error) {
    journal.bad.push_back({.gpu = gpu, .problem = error.text(), .kept_as = put_aside(folder_.get(), gpu)});
    return core::Status();
  };
  const auto bytes = read_entry(folder_.get(), name);
  if (!bytes) return quarantine(bytes.error());
  if (!*bytes) return {};
  const auto record = format::parse_lease_record(**bytes, name);
  if (!record) return quarantine(record.error());
  if (record->gpu != gpu) {
    return quarantine(
        core::Error(ErrorCode::kInvalidInput, fmt::format("this record is that of {}", record->gpu), {name}));
  }
  if (record->boot_id == boot_id_) {
    journal.records.push_back(*record);
    return {};
  }
  PERSEUS_RETURN_IF_ERROR(remove(gpu));
  journal.dropped.push_back(gpu);
  return {};
}

}  // namespace perseus::lease
