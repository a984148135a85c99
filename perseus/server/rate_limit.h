// SPDX-License-Identifier: Apache-2.0
//
// Token buckets by name: so many at once, so many a second.
#pragma once

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <string>
#include <string_view>
#include <unordered_map>

#include "perseus/server/settings.h"

namespace perseus::server {

/// Not thread-safe. Memory is bounded: past kMostNames the full buckets are dropped, and if none is full,
/// all.
class RateLimit {
 public:
  static constexpr std::size_t kMostNames = 65'536;

  RateLimit(double per_second, double burst) : per_second_(per_second), burst_(burst) {}

  /// Takes one from the bucket of `name`; false if it is empty.
  bool take(std::string_view name, Moment now) {
    if (buckets_.size() >= kMostNames) make_room(now);
    const auto [entry, fresh] = buckets_.try_emplace(std::string(name), Bucket{burst_, now});
    Bucket& bucket = entry->second;
    refill(bucket, now);
    if (bucket.left < 1) return false;
    bucket.left -= 1;
    return true;
  }

  [[nodiscard]] std::size_t names() const { return buckets_.size(); }

 private:
  struct Bucket {
    double left = 0;
    Moment at;
  };
  void refill(Bucket& bucket, Moment now) const {
    bucket.left = std::min(burst_, bucket.left + per_second_ * (now - bucket.at).value());
    bucket.at = now;
  }
  void make_room(Moment now) {
    for (auto entry = buckets_.begin(); entry != buckets_.end();) {
      refill(entry->second, now);
      entry = entry->second.left >= burst_ ? buckets_.erase(entry) : std::next(entry);
    }
    if (buckets_.size() >= kMostNames) buckets_.clear();
  }

  double per_second_;
  double burst_;
  std::unordered_map<std::string, Bucket> buckets_;
};

}  // namespace perseus::server
