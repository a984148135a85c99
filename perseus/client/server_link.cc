// SPDX-License-Identifier: Apache-2.0
#include "perseus/client/server_link.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <exception>
#include <random>
#include <utility>

#include "perseus/client/conversation.h"
#include "perseus/client/fork_guard.h"
#include "perseus/format/api_access.h"
#include "perseus/format/sha256.h"
#include "perseus/format/text.h"

namespace perseus::client {
namespace {

using core::ErrorCode;
using core::fail;
using core::Status;

/// A Conversation that is left alone in children of fork().
class ForkSafeLink final : public ServerLink {
 public:
  explicit ForkSafeLink(std::unique_ptr<Conversation> conversation)
      : conversation_(std::move(conversation)), generation_(fork_generation()) {}
  ForkSafeLink(const ForkSafeLink&) = delete;
  ForkSafeLink& operator=(const ForkSafeLink&) = delete;
  ~ForkSafeLink() override {
    // Its thread is not here to be joined, its locks may be held by nobody: it stays where it is.
    if (in_child()) static_cast<void>(conversation_.release());
  }

  void start(ControlListener& listener) override {
    if (!in_child()) conversation_->start(listener);
  }
  void at_step(std::uint64_t step) noexcept override { conversation_->at_step(step); }
  void report(RankReport report) override {
    if (!in_child()) conversation_->report(std::move(report));
  }
  void set_gpu(GpuFacts facts) override {
    if (!in_child()) conversation_->set_gpu(std::move(facts));
  }
  void stop(std::chrono::milliseconds patience) override {
    if (!in_child()) conversation_->stop(patience);
  }
  [[nodiscard]] Counters counters() const override { return conversation_->counters(); }

 private:
  [[nodiscard]] bool in_child() const { return fork_generation() != generation_; }

  std::unique_ptr<Conversation> conversation_;
  std::uint32_t generation_;
};

std::string variable(const char* name) {
  const char* value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): read only
  return value == nullptr ? "" : value;
}

std::unexpected<core::Error> refuse(std::string message) {
  return fail(ErrorCode::kInvalidInput, std::move(message), {"server link"});
}

Status check_place(const JobFacts& job, const RankPlace& place) {
  const std::uint32_t pipeline = job.schedule.pipeline();
  if (place.dp < job.data && place.pp < pipeline && place.tp < job.tensor) return {};
  return refuse(fmt::format("there is no rank {} in a job of {} pipelines x {} ranks x {} GPUs",
                            place_text(place), job.data, pipeline, job.tensor));
}

Status check_job(const JobFacts& job) {
  PERSEUS_RETURN_IF_ERROR(format::check_name(job.name, "job"));
  if (job.incarnation < 1 || job.incarnation > static_cast<std::uint64_t>(kLargestWhole)) {
    return refuse(fmt::format("incarnation {} is outside 1 to {}", job.incarnation, kLargestWhole));
  }
  const std::size_t powers = job.blocking_power.size();
  if (powers > 1 && powers != job.schedule.pipeline()) {
    return refuse(fmt::format("{} blocking powers for {} pipeline ranks", powers, job.schedule.pipeline()));
  }
  constexpr std::size_t kMostFingerprint = 128;
  if (!format::is_printable(job.fingerprint, kMostFingerprint)) {
    return refuse(fmt::format("the fingerprint {} is not 1 to {} printable characters",
                              format::quoted(job.fingerprint), kMostFingerprint));
  }
  return {};
}

std::uint64_t random_seed() {
  std::random_device device;
  return (std::uint64_t{device()} << 32U) | device();
}

core::Result<CheckedOptions> checked(ServerLinkOptions options) {
  CheckedOptions out;
  PERSEUS_RETURN_IF_ERROR(check_job(options.job));
  PERSEUS_RETURN_IF_ERROR(check_place(options.job, options.place));
  PERSEUS_ASSIGN_OR_RETURN(out.fence, schedule_fence(options.job));
  PERSEUS_ASSIGN_OR_RETURN(out.url, format::parse_server_url(options.server.url));
  if (!options.server.token_file.empty()) {
    PERSEUS_ASSIGN_OR_RETURN(out.token, format::read_token(options.server.token_file));
  }
  if (out.url.tls) {
    PERSEUS_ASSIGN_OR_RETURN(out.tls, make_client_tls(options.server.ca_file));
  }
  out.seed = options.seed ? *options.seed : random_seed();
  out.options = std::move(options);
  return out;
}

}  // namespace

ServerAddress server_from_environment() {
  return {variable("PERSEUS_SERVER"), variable("PERSEUS_TOKEN_FILE"), variable("PERSEUS_CA_FILE")};
}

core::Result<std::string> schedule_fence(const JobFacts& job) {
  return format::sha256_hex(core::canonical_text(job.schedule, job.tensor, job.data));
}

core::Result<std::unique_ptr<ServerLink>> make_server_link(ServerLinkOptions options) {
  try {
    PERSEUS_ASSIGN_OR_RETURN(CheckedOptions given, checked(std::move(options)));
    auto conversation = std::make_unique<Conversation>(std::move(given));
    return std::make_unique<ForkSafeLink>(std::move(conversation));
  } catch (const std::exception& error) {  // no memory, no descriptors, no source of randomness
    return fail(ErrorCode::kLimit, fmt::format("the system refuses what a link needs: {}", error.what()),
                {"server link"});
  }
}

}  // namespace perseus::client
