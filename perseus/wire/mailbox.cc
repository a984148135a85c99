// SPDX-License-Identifier: Apache-2.0
#include "perseus/wire/mailbox.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <limits>
#include <new>
#include <system_error>

#include "perseus/format/unique_fd.h"

namespace perseus::wire {
namespace {

using core::ErrorCode;

static_assert(sizeof(MailboxPage) <= kMailboxBytes);

constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

std::unexpected<core::Error> system_error(const char* what) {
  return core::fail(ErrorCode::kIo, fmt::format("{}: {}", what, std::generic_category().message(errno)));
}

/// A memfd that can be sealed and never executed. Kernels before 6.3 do not know MFD_NOEXEC_SEAL
/// (linux/memfd.h), some later ones refuse a memfd without it.
format::UniqueFd make_memfd() {
  constexpr unsigned kNoExecSeal = 0x0008;
  constexpr unsigned kFlags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  format::UniqueFd fd(::memfd_create("perseus-mailbox", kFlags | kNoExecSeal));
  if (!fd && errno == EINVAL) fd.reset(::memfd_create("perseus-mailbox", kFlags));
  return fd;
}

core::Result<MailboxPage*> map_page(int fd) {
  void* memory = ::mmap(nullptr, kMailboxBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED) return system_error("cannot map a mailbox");
  // The page holds atomics of a layout that is part of the protocol; both processes look at the same bytes,
  // zeroed by the kernel, so nothing may be constructed here.
  return std::launder(reinterpret_cast<MailboxPage*>(memory));
}

void unmap(MailboxPage* page) {
  if (page != nullptr) ::munmap(page, kMailboxBytes);
}

std::uint64_t monotonic_ns() {
  return static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
}

}  // namespace

core::Result<MailboxOwner> MailboxOwner::create() {
  format::UniqueFd fd = make_memfd();
  if (!fd) return system_error("cannot make a mailbox");
  if (::ftruncate(fd.get(), kMailboxBytes) != 0) return system_error("cannot size a mailbox");
  if (::fcntl(fd.get(), F_ADD_SEALS, kSeals) != 0) return system_error("cannot seal a mailbox");
  PERSEUS_ASSIGN_OR_RETURN(MailboxPage* const page, map_page(fd.get()));
  return MailboxOwner(page, fd.release());
}

MailboxOwner& MailboxOwner::operator=(MailboxOwner&& other) noexcept {
  std::swap(page_, other.page_);
  std::swap(fd_, other.fd_);
  return *this;
}

MailboxOwner::~MailboxOwner() {
  unmap(page_);
  const format::UniqueFd closes(fd_);
}

void MailboxOwner::answer(ClockWord word, std::uint64_t called_ns, std::uint64_t applied_ns) {
  page_->owner.called_ns.store(called_ns, std::memory_order_relaxed);
  page_->owner.applied_ns.store(applied_ns, std::memory_order_relaxed);
  page_->owner.applied.store(word.packed(), std::memory_order_release);
}

core::Result<MailboxUser> MailboxUser::map(int fd) {
  const format::UniqueFd closes(fd);
  struct stat status{};
  if (::fstat(fd, &status) != 0) return system_error("cannot look at what came for a mailbox");
  const int seals = ::fcntl(fd, F_GET_SEALS);
  if (seals < 0) return core::fail(ErrorCode::kInvalidInput, "what came for a mailbox is no memfd");
  if (status.st_size != static_cast<off_t>(kMailboxBytes)) {
    return core::fail(ErrorCode::kInvalidInput, fmt::format("the mailbox has {} bytes; it must have {}",
                                                            status.st_size, kMailboxBytes));
  }
  if ((seals & (F_SEAL_SHRINK | F_SEAL_GROW)) != (F_SEAL_SHRINK | F_SEAL_GROW)) {
    return core::fail(ErrorCode::kInvalidInput, "the mailbox is not sealed against shrinking and growing");
  }
  PERSEUS_ASSIGN_OR_RETURN(MailboxPage* const page, map_page(fd));
  return MailboxUser(page);
}

MailboxUser& MailboxUser::operator=(MailboxUser&& other) noexcept {
  std::swap(page_, other.page_);
  std::swap(sequence_, other.sequence_);
  return *this;
}

MailboxUser::~MailboxUser() {
  unmap(page_);
}

std::uint32_t MailboxUser::post(core::Megahertz clock) {
  // A clock that does not fit becomes one that no GPU has, so that it is refused rather than cut to another.
  constexpr std::uint32_t kMost = std::numeric_limits<std::uint16_t>::max();
  return publish(static_cast<std::uint16_t>(std::min(clock.value(), kMost)), ClockRequest::kClock);
}

std::uint32_t MailboxUser::post_baseline() {
  return publish(0, ClockRequest::kBaseline);
}

void MailboxUser::touch_hook() {
  page_->user.hook_ns.store(monotonic_ns(), std::memory_order_relaxed);
}

std::uint32_t MailboxUser::publish(std::uint16_t mhz, ClockRequest kind) {
  const ClockWord word{++sequence_, mhz, static_cast<std::uint16_t>(kind)};
  page_->user.posted_ns.store(monotonic_ns(), std::memory_order_relaxed);
  page_->user.request.store(word.packed(), std::memory_order_release);
  return word.sequence;
}

}  // namespace perseus::wire
