// SPDX-License-Identifier: Apache-2.0
#include "perseus/agent/admin.h"

#include <fmt/format.h>
#include <unistd.h>

#include <ostream>
#include <utility>
#include <variant>

#include "perseus/lease/recover.h"
#include "perseus/wire/seqpacket.h"

namespace perseus::agent {
namespace {

using core::ErrorCode;

core::Result<wire::AgentReply> exchange(int socket, const wire::AgentRequest& request,
                                        wire::Deadline deadline) {
  PERSEUS_ASSIGN_OR_RETURN(const auto packet, wire::exchange_packets(socket, wire::encode(request),
                                                                     wire::kMaxAgentPacket, deadline));
  if (packet.end) return core::fail(ErrorCode::kIo, "the agent has closed the connection");
  PERSEUS_ASSIGN_OR_RETURN(auto reply, wire::parse_agent_reply(packet.bytes));
  if (const auto* refusal = std::get_if<wire::Refusal>(&reply))
    return core::fail(refusal->code, refusal->message);
  return reply;
}

core::Status expect_ok(const core::Result<wire::AgentReply>& reply) {
  if (!reply) return std::unexpected(reply.error());
  if (std::holds_alternative<wire::Ok>(*reply)) return {};
  return core::fail(ErrorCode::kInvalidInput, "the agent answers with another message than asked for");
}

std::string or_dash(const std::string& text) {
  return text.empty() ? "-" : text;
}

void print_status(const wire::AgentStatus& status, std::ostream& out) {
  out << fmt::format("perseus-agent {}, backend {}, driver {}, up {:.0f} s{}\n", status.version,
                     status.backend, or_dash(status.driver), status.uptime_s,
                     status.quiesced ? ", quiesced" : "");
  out << fmt::format("{:>3}  {:<14} {:>12} {:>9} {:>8} {:>7}  {}\n", "GPU", "state", "intended MHz",
                     "now MHz", "W", "C", "owner or reason");
  for (const wire::GpuStatus& gpu : status.gpus) {
    const auto mhz = [](const auto& clock, const char* absent) {
      return clock ? fmt::format("{}", clock->value()) : std::string(absent);
    };
    const auto real = [](const auto& value) {
      return value ? fmt::format("{:.0f}", value->value()) : std::string("-");
    };
    out << fmt::format("{:>3}  {:<14} {:>12} {:>9} {:>8} {:>7}  {}\n", gpu.index, gpu.state,
                       mhz(gpu.intended, "baseline"), mhz(gpu.sm_clock, "-"), real(gpu.power),
                       real(gpu.temperature), gpu.reason.empty() ? or_dash(gpu.owner) : gpu.reason);
  }
}

/// One line for a GPU that was to be restored.
void print_restored(const lease::Restored& gpu, std::ostream& out) {
  const std::string where =
      gpu.baseline ? fmt::format("{} MHz", gpu.baseline->value()) : std::string("the driver's default");
  if (gpu.result) {
    out << fmt::format("{}: back at {}{}\n", gpu.gpu, where,
                       gpu.owner.empty() ? "" : fmt::format(", left by {}", gpu.owner));
    return;
  }
  const bool held = gpu.result.error().code() == ErrorCode::kBusy;
  out << fmt::format("{}: {}: {}\n", gpu.gpu, held ? "left alone" : "not restored",
                     gpu.result.error().text());
}

}  // namespace

core::Result<wire::AgentReply> ask_agent(const std::string& socket, const wire::AgentRequest& request) {
  const auto deadline = wire::deadline_in(kAskPatience);
  auto connection = wire::connect_seqpacket(socket, deadline);
  if (!connection) {
    return core::fail(connection.error().code(),
                      fmt::format("cannot reach the agent: {}; is it running? perseus doctor tells more",
                                  connection.error().text()));
  }
  PERSEUS_ASSIGN_OR_RETURN(const auto welcome,
                           exchange(connection->get(), wire::Hello{.client = "perseus agent"}, deadline));
  if (!std::holds_alternative<wire::Welcome>(welcome)) {
    return core::fail(ErrorCode::kInvalidInput, "the agent did not answer hello with a welcome");
  }
  return exchange(connection->get(), request, deadline);
}

core::Status run_status(const std::string& socket, bool json, std::ostream& out) {
  PERSEUS_ASSIGN_OR_RETURN(const auto reply, ask_agent(socket, wire::GetStatus{}));
  const auto* status = std::get_if<wire::AgentStatus>(&reply);
  if (status == nullptr)
    return core::fail(ErrorCode::kInvalidInput, "the agent did not answer with a status");
  if (json) {
    out << wire::encode(reply) << '\n';
  } else {
    print_status(*status, out);
  }
  return {};
}

core::Status run_quiesce(const std::string& socket, std::optional<std::chrono::milliseconds> resume_after,
                         std::ostream& out) {
  PERSEUS_RETURN_IF_ERROR(expect_ok(ask_agent(socket, wire::Quiesce{resume_after})));
  out << "quiesced: all GPUs are at their baselines and the driver's library is closed\n";
  return {};
}

core::Status run_resume(const std::string& socket, std::ostream& out) {
  PERSEUS_RETURN_IF_ERROR(expect_ok(ask_agent(socket, wire::Resume{})));
  out << "resumed\n";
  return {};
}

core::Status run_restore(const DaemonSettings& settings, bool all, std::ostream& out) {
  PERSEUS_ASSIGN_OR_RETURN(const auto config, load_config(settings));
  PERSEUS_ASSIGN_OR_RETURN(const auto directory, lease::StateDirectory::open({.path = settings.state_dir,
                                                                              .hold = lease::Hold::kGpus}));
  PERSEUS_ASSIGN_OR_RETURN(const auto owed, directory.list());
  if (owed.empty() && !all) {
    out << "nothing to restore\n";
    return {};
  }
  PERSEUS_ASSIGN_OR_RETURN(const auto backend, gpu::open_backend(backend_options(settings.backend, config)));
  lease::RecoverOptions options;
  options.all = all;
  options.site_baseline = [&config](std::string_view) { return config.baseline; };
  PERSEUS_ASSIGN_OR_RETURN(const auto report, lease::recover(directory, *backend, options));
  for (const std::string& gpu : report.dropped)
    out << fmt::format("{}: journalled in an earlier boot, dropped\n", gpu);
  for (const lease::BadRecord& bad : report.bad) {
    out << fmt::format("{}: unreadable record kept as {}: {}\n", bad.gpu, bad.kept_as, bad.problem);
  }
  for (const lease::Restored& gpu : report.gpus) print_restored(gpu, out);
  if (report.complete()) return {};
  return core::fail(ErrorCode::kDriver, "not every GPU is back at its baseline");
}

}  // namespace perseus::agent
