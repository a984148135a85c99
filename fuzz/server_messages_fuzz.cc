// SPDX-License-Identifier: Apache-2.0
//
// Everything that the server reads from others. The first byte says which reader; what is accepted keeps its
// bounds, and a stored deployment is the same after being written and read again.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "perseus/server/api_client.h"
#include "perseus/server/deployment.h"
#include "perseus/server/energy_fit.h"
#include "perseus/server/http_types.h"
#include "perseus/server/messages.h"
#include "perseus/server/tokens.h"
#include "perseus/server/zeus_routes.h"

namespace {

using namespace perseus::server;  // NOLINT(google-build-using-namespace): a program of one file

void check(bool holds) {
  if (!holds) std::abort();
}

void registration(std::string_view text) {
  Limits small;
  small.computations = 4096;  // larger ones are slow, not different
  const auto parsed = parse_registration(text, small);
  if (!parsed) return;
  check(parsed->incarnation >= 1);
  check(parsed->blocking_power.size() == parsed->schedule.pipeline() ||
        (parsed->blocking_power.empty() && parsed->profiling.online));
  check(fence_of(*parsed).has_value());
}

void target(std::string_view text) {
  const auto parsed = parse_target(text);
  if (!parsed) return;
  for (const auto& segment : parsed->path) {
    check(!segment.empty() && segment != "." && segment != ".." && segment.find('\0') == std::string::npos);
  }
}

void notice(std::string_view text) {
  const auto parsed = parse_straggler_notice(text, "gpt");
  if (!parsed) return;
  check(parsed->pipeline.has_value() != parsed->rank.has_value());
  check(parsed->slowdown.has_value() != parsed->iteration_time.has_value());
  check(!parsed->slowdown || *parsed->slowdown >= 1);
}

void tokens(std::string_view text) {
  const auto table = TokenTable::parse(text, "fuzz");
  check(!table || !table->find(""));
  if (const auto token = bearer_token(text)) check(token->size() >= 32);
}

void deployment(std::string_view text) {
  const auto parsed = parse_deployment(text);
  if (!parsed || !parsed->plans.empty()) return;
  const std::string written = write_deployment(parsed->deployment);
  const auto again = parse_deployment(written);
  check(again && write_deployment(again->deployment) == written);
}

void rank_messages(std::string_view text) {
  if (const auto hello = parse_rank_hello(text)) check(hello->stamp.sequence >= 1);
  if (const auto renewal = parse_renewal(text)) check(renewal->stamp.incarnation >= 1);
  if (const auto measured = parse_measurement(text))
    check(measured->iteration_time > perseus::core::Seconds(0));
  if (const auto report = parse_guard_report(text)) check(report->iterations >= 1);
  if (const auto window = parse_window_report(text)) {
    check(window->throttled >= 0 && window->throttled <= 1);
    // Sums that no intervals can have are refused, not believed.
    if (window->energy) static_cast<void>(fit_powers({&*window->energy, 1}));
  }
  if (const auto column = parse_energy_column(text)) check(to_text(*column) == text);
}

void zeus(std::string_view text) {
  if (const auto job = parse_zeus_job(text))
    check(job->world_size == std::uint64_t{job->pp} * job->dp * job->tp);
  static_cast<void>(parse_zeus_rank(text));
  static_cast<void>(parse_zeus_result(text));
}

void rest(std::string_view text) {
  if (const auto rank = parse_rank(text)) check(to_text(*rank) == text);
  static_cast<void>(parse_utc(text));
  static_cast<void>(is_loopback_host(text));
  static_cast<void>(parse_jobs(text));
  static_cast<void>(parse_server_url(std::string(text)));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using Reader = void (*)(std::string_view);
  static constexpr Reader kReaders[] = {registration, target,        notice, tokens,
                                        deployment,   rank_messages, zeus,   rest};
  if (size == 0) return 0;
  // Letters, so that a corpus file can be read: 'a' is the first.
  kReaders[data[0] % 8 == 0 ? 7 : data[0] % 8 - 1](
      std::string_view(reinterpret_cast<const char*>(data) + 1, size - 1));
  return 0;
}
