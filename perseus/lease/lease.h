// SPDX-License-Identifier: Apache-2.0
//
// The right to set one GPU's clock, and the duty to bring it back.
//
//   PERSEUS_ASSIGN_OR_RETURN(auto lease, Lease::acquire(device, directory, {.owner = owner, .clocks =
//   clocks})); PERSEUS_RETURN_IF_ERROR(lease.set(Megahertz{900})); PERSEUS_RETURN_IF_ERROR(lease.restore());
//   // baseline; the journal's record is gone
//
// A lease is journalled before the first driver call, so whatever happens afterwards, somebody can bring the
// clock back (recover.h). States: held -> restored | owing. "Owing" is a restore that the driver refused: the
// record stays on disk, restore() may be tried again, and the next start tries in any case.
#pragma once

#include <optional>
#include <vector>

#include "perseus/core/result.h"
#include "perseus/core/units.h"
#include "perseus/format/lease_journal.h"
#include "perseus/gpu/device.h"
#include "perseus/lease/state_directory.h"

namespace perseus::lease {

struct LeaseTerms {
  format::LeaseOwner owner;
  std::optional<core::Megahertz> baseline;  ///< absent: the driver's default
  std::vector<core::Megahertz> clocks;  ///< all that may be set, ascending: supported and within the limits
};

/// Brings a GPU to `baseline`, by reset_clock() or lock_clock(). One driver call; its errors. A baseline that
/// the device does not offer (another GPU than the site has thought of) would never be reached: it is
/// replaced by the driver's default.
[[nodiscard]] core::Status apply_baseline(gpu::Device& device, std::optional<core::Megahertz> baseline);

/// Belongs to one thread at a time. Device and directory must outlive it. Every function but the getters may
/// block for as long as the driver does.
class Lease {
 public:
  /// Journals the lease; makes no driver call. That nobody else holds the GPU is the caller's to know (one
  /// agent per folder, one GpuLock per GPU). kIo: the record could not be written (disk full), nothing is
  /// changed; kInvalidInput: no clocks, or the owner's names are not fit to be written.
  [[nodiscard]] static core::Result<Lease> acquire(gpu::Device& device, const StateDirectory& directory,
                                                   LeaseTerms terms);
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;
  Lease(Lease&& other) noexcept;
  Lease& operator=(Lease&& other) noexcept;
  /// Restores once if that is still to be done; if the driver refuses, the record stays for the next start.
  ~Lease();

  /// Locks `clock`. kInvalidInput: not one of the terms' clocks, naming the nearest two: nothing is changed.
  /// Errors of the driver: what the GPU runs at is then unknown; call to_baseline() or restore().
  core::Status set(core::Megahertz clock);
  /// Back to the baseline; the lease goes on. No driver call if nothing was set since.
  core::Status to_baseline();
  /// Baseline, then the record is removed. Whatever was set before, one driver call is made, except if none
  /// was ever made under this lease. Done twice it does nothing. On an error of the driver the lease is
  /// owing: kDriver: re-open the backend and try again (backoff.h). kDeviceLost: the GPU fell off the bus,
  /// its lock most likely with it; the record is kept all the same, since it costs nothing, and one restore
  /// more when the GPU is back harms nobody while a clock left low does. kIo: the clock is back but the
  /// record could not be removed; the next start restores once more.
  core::Status restore();
  /// Ends the lease without touching the clock: somebody else sets it now (invariant I4). kIo as restore().
  core::Status yield();
  /// The driver was loaded anew and may have forgotten what was set: intended() is unknown from now on. The
  /// next restore makes its call all the same.
  void forget();

  /// What the GPU is held at; absent: the baseline, or unknown after an error.
  [[nodiscard]] std::optional<core::Megahertz> intended() const { return intended_; }
  /// Whether the GPU may be off its baseline: a driver call was made or tried since it was last known there.
  [[nodiscard]] bool off_baseline() const { return off_baseline_; }
  /// Whether restore() or yield() has succeeded.
  [[nodiscard]] bool over() const { return device_ == nullptr; }
  [[nodiscard]] const LeaseTerms& terms() const { return terms_; }

 private:
  Lease(gpu::Device& device, const StateDirectory& directory, LeaseTerms terms)
      : device_(&device), directory_(&directory), terms_(std::move(terms)) {}
  core::Status finish();

  gpu::Device* device_ = nullptr;
  const StateDirectory* directory_ = nullptr;
  LeaseTerms terms_;
  std::optional<core::Megahertz> intended_;
  bool off_baseline_ = false;
  bool touched_ = false;  ///< a driver call was made under this lease
};

}  // namespace perseus::lease
