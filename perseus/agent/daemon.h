// SPDX-License-Identifier: Apache-2.0
//
// The agent as a whole: fleet and server on one event loop, with the signals, the files and the service
// manager around them.
#pragma once

#include <sys/types.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "perseus/agent/audit_log.h"
#include "perseus/agent/authority.h"
#include "perseus/agent/event_loop.h"
#include "perseus/agent/fleet.h"
#include "perseus/agent/metrics.h"
#include "perseus/agent/proc_tree.h"
#include "perseus/agent/server.h"
#include "perseus/agent/service_notify.h"
#include "perseus/core/result.h"
#include "perseus/format/agent_config.h"
#include "perseus/gpu/backend.h"
#include "perseus/lease/state_directory.h"
#include "perseus/wire/agent_messages.h"
#include "perseus/wire/seqpacket.h"

namespace perseus::agent {

using wire::kDefaultAgentSocket;
inline constexpr std::string_view kDefaultConfig = "/etc/perseus/agent.yaml";
inline constexpr std::string_view kDefaultGrants = "/etc/perseus/grants.yaml";

/// The id of the group `perseus`, which may use the agent's socket, if the machine has it. Not thread-safe,
/// as the data base of groups is not.
[[nodiscard]] std::optional<gid_t> find_socket_group();

/// What the command line says.
struct DaemonSettings {
  std::string socket = std::string(kDefaultAgentSocket);
  std::string state_dir = std::string(lease::kDefaultStateDirectory);
  std::string config = std::string(kDefaultConfig);
  std::string grants = std::string(kDefaultGrants);
  /// Whether the files must be there; otherwise an absent one means the defaults, or no grants.
  bool config_required = false;
  bool grants_required = false;
  std::string audit_log;  ///< path; empty: standard error
  gpu::BackendOptions backend;
  /// How long start() tries to open a driver that is not there yet; 0: once.
  lease::Duration driver_patience{};
  /// Whose the socket is to be; nothing: our own group's. Asked once, at start; tests give their own.
  std::function<std::optional<gid_t>()> find_group = find_socket_group;
};

/// How long SIGTERM waits for drivers to bring all clocks back. Under the 90 s after which systemd kills.
inline constexpr lease::Duration kStopPatience = std::chrono::seconds(10);

/// Reads the configuration file. Errors of read_trusted_file() and parse_agent_config().
[[nodiscard]] core::Result<format::AgentConfig> load_config(const DaemonSettings& settings);
/// The same for grants.
[[nodiscard]] core::Result<std::vector<format::Grant>> load_grants(const DaemonSettings& settings);
/// The backend's options with what the configuration says of the command override.
[[nodiscard]] gpu::BackendOptions backend_options(gpu::BackendOptions options,
                                                  const format::AgentConfig& config);

/// Belongs to one thread.
class Daemon {
 public:
  /// Opens everything in the order in which a crash harms least: state folder and its lock, driver, what the
  /// journal owes, then the socket. Ignores SIGPIPE and blocks the signals TERM, INT, QUIT and HUP in this
  /// thread and those it starts.
  [[nodiscard]] static core::Result<std::unique_ptr<Daemon>> open(const DaemonSettings& settings);
  /// The same on a backend that is open already; for tests.
  [[nodiscard]] static core::Result<std::unique_ptr<Daemon>> open(const DaemonSettings& settings,
                                                                  std::unique_ptr<gpu::Backend> backend,
                                                                  ProcTree processes);
  Daemon(const Daemon&) = delete;
  Daemon& operator=(const Daemon&) = delete;
  ~Daemon();

  /// Serves until a signal or request_stop(), then restores. True: every GPU is back at its baseline; false:
  /// a driver did not answer in kStopPatience, and the journal knows.
  [[nodiscard]] bool run();
  /// From any thread.
  void request_stop();
  [[nodiscard]] const Fleet& fleet() const { return *fleet_; }

 private:
  Daemon() = default;
  core::Status start(const DaemonSettings& settings, std::unique_ptr<gpu::Backend> backend,
                     ProcTree processes);
  core::Status watch_signals();
  core::Result<std::unique_ptr<gpu::Backend>> open_driver(const format::AgentConfig& config);
  void tell_waiting(const core::Error& error);
  void on_signal();
  void reload();
  void publish();
  void tick();
  [[nodiscard]] lease::Instant next_deadline() const;
  [[nodiscard]] AgentMetrics metrics() const;
  [[nodiscard]] std::string summary() const;

  DaemonSettings settings_;
  ServiceNotify notify_;
  AuditLog audit_;
  ProcTree processes_;
  std::optional<lease::StateDirectory> directory_;
  std::unique_ptr<gpu::Backend> backend_;
  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<Fleet> fleet_;
  std::optional<wire::SocketName> name_;
  std::unique_ptr<Server> server_;
  format::UniqueFd signals_;
  bool stopping_ = false;
  bool publish_failed_ = false;  ///< so that a full disk is said once
  lease::Instant next_publish_;
  lease::Instant next_alive_;
  std::string last_summary_;
};

}  // namespace perseus::agent
