// SPDX-License-Identifier: Apache-2.0
//
// The node agent's published files as HTTP answers. The agent itself serves no HTTP: it is privileged. This
// reads metrics.prom and intended.json beside its socket, which everybody may read, and nothing else.
//
//   GET /metrics   metrics.prom, and the age of both files
//   GET /intended  intended.json
//
// A file that is absent, stale or unreadable is answered with 503 and the reason: a scrape that shows what
// was true an hour ago is worse than one that fails.
#pragma once

#include <chrono>
#include <functional>
#include <string>

#include "perseus/core/units.h"
#include "perseus/server/http_handler.h"

namespace perseus::server {

struct TelemetryFiles {
  std::string folder = "/run/perseus";  ///< of the agent's socket
  /// Older files are stale. The agent renews them each `telemetry.write_period_s`, 1 s by default and 60 s at
  /// most (assumed: fifteen of the default periods).
  core::Seconds max_age{15};
};

/// Largest file that is read: 64 GPUs with 60 lines of 200 bytes each are 768 KB (assumed: four times that).
inline constexpr std::size_t kMaxPublishedBytes = std::size_t{4} << 20U;

/// One thread.
class TelemetryPages final : public HttpHandler {
 public:
  using WallClock = std::function<std::chrono::system_clock::time_point()>;

  /// `now` is monotonic; `wall` is the clock by which the file system dates its files.
  TelemetryPages(TelemetryFiles files, std::function<Moment()> now, WallClock wall);

  void handle(const Principal& principal, HttpRequest request, Reply reply) override;
  /// No request has a body.
  [[nodiscard]] std::size_t body_limit(const Target& target) const override;
  [[nodiscard]] std::size_t body_limit_most() const override;
  [[nodiscard]] Moment now() const override { return now_(); }

 private:
  [[nodiscard]] HttpResponse metrics() const;
  [[nodiscard]] HttpResponse intended() const;

  TelemetryFiles files_;
  std::function<Moment()> now_;
  WallClock wall_;
};

}  // namespace perseus::server
