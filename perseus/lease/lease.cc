// SPDX-License-Identifier: Apache-2.0
#include "perseus/lease/lease.h"

#include <chrono>
#include <utility>

#include "perseus/gpu/clock_table.h"

namespace perseus::lease {
namespace {

using core::ErrorCode;

std::int64_t unix_seconds() {
  using std::chrono::system_clock;
  return std::chrono::duration_cast<std::chrono::seconds>(system_clock::now().time_since_epoch()).count();
}

}  // namespace

core::Status apply_baseline(gpu::Device& device, std::optional<core::Megahertz> baseline) {
  if (!baseline) return device.reset_clock();
  core::Status status = device.lock_clock(*baseline);
  if (!status && status.error().code() == ErrorCode::kInvalidInput) return device.reset_clock();
  return status;
}

core::Result<Lease> Lease::acquire(gpu::Device& device, const StateDirectory& directory, LeaseTerms terms) {
  if (terms.clocks.empty()) {
    return core::fail(ErrorCode::kInvalidInput, "a lease without clocks that may be set");
  }
  PERSEUS_RETURN_IF_ERROR(directory.write({.gpu = device.identity().uuid,
                                           .owner = terms.owner,
                                           .baseline = terms.baseline,
                                           .boot_id = {},
                                           .acquired_unix_s = unix_seconds()}));
  return Lease(device, directory, std::move(terms));
}

Lease::Lease(Lease&& other) noexcept
    : device_(std::exchange(other.device_, nullptr)),
      directory_(other.directory_),
      terms_(std::move(other.terms_)),
      intended_(other.intended_),
      off_baseline_(other.off_baseline_),
      touched_(other.touched_) {}

Lease& Lease::operator=(Lease&& other) noexcept {
  std::swap(device_, other.device_);
  std::swap(directory_, other.directory_);
  std::swap(terms_, other.terms_);
  std::swap(intended_, other.intended_);
  std::swap(off_baseline_, other.off_baseline_);
  std::swap(touched_, other.touched_);
  return *this;
}

Lease::~Lease() {
  // What cannot be restored now stands in the journal.
  if (device_ != nullptr) static_cast<void>(restore());
}

core::Status Lease::set(core::Megahertz clock) {
  if (over()) return core::fail(ErrorCode::kInvalidInput, "the lease is over");
  PERSEUS_RETURN_IF_ERROR(gpu::check_clock(terms_.clocks, clock, device_->identity()));
  touched_ = true;
  off_baseline_ = true;
  intended_.reset();
  PERSEUS_RETURN_IF_ERROR(device_->lock_clock(clock));
  intended_ = clock;
  return {};
}

core::Status Lease::to_baseline() {
  if (over() || !off_baseline_) return {};
  PERSEUS_RETURN_IF_ERROR(apply_baseline(*device_, terms_.baseline));
  intended_.reset();
  off_baseline_ = false;
  return {};
}

core::Status Lease::restore() {
  if (over()) return {};
  if (touched_) off_baseline_ = true;  // once more, whatever we believe: another writer may have been there
  PERSEUS_RETURN_IF_ERROR(to_baseline());
  touched_ = false;
  return finish();
}

core::Status Lease::yield() {
  if (over()) return {};
  intended_.reset();
  off_baseline_ = false;
  touched_ = false;
  return finish();
}

void Lease::forget() {
  intended_.reset();
}

core::Status Lease::finish() {
  PERSEUS_RETURN_IF_ERROR(directory_->remove(device_->identity().uuid));
  device_ = nullptr;
  return {};
}

}  // namespace perseus::lease
