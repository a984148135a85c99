// SPDX-License-Identifier: Apache-2.0
#include "perseus/agent/daemon.h"

#include <fmt/format.h>
#include <grp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <filesystem>
#include <system_error>
#include <utility>

#include "perseus/agent/durations.h"
#include "perseus/agent/trusted_file.h"
#include "perseus/agent/version.h"
#include "perseus/wire/seqpacket.h"

namespace perseus::agent {
namespace {

using core::ErrorCode;

/// The group that may use the socket, where the machine has it.
constexpr const char* kSocketGroup = "perseus";
constexpr mode_t kSocketMode = S_IRUSR | S_IWUSR | S_IRGRP | S_IWGRP;
constexpr mode_t kFolderMode = S_IRWXU | S_IRGRP | S_IXGRP | S_IROTH | S_IXOTH;
/// Timers of this process may fire this late at most: the naps of the clock threads are 20 us at least.
constexpr unsigned long kTimerSlackNs = 1'000;

std::string system_message(int number) {
  return std::generic_category().message(number);
}

std::string folder_of(const std::string& path) {
  const std::string folder = std::filesystem::path(path).parent_path().string();
  return folder.empty() ? "." : folder;
}

/// The socket's folder, for everybody to look into.
core::Status make_folder(const std::string& socket) {
  const std::string folder = folder_of(socket);
  std::error_code error;
  if (std::filesystem::is_directory(folder, error)) return {};
  if (!std::filesystem::create_directories(folder, error) && error) {
    return core::fail(ErrorCode::kIo, fmt::format("cannot make the folder: {}", error.message()), {folder});
  }
  if (::chmod(folder.c_str(), kFolderMode) != 0) {
    return core::fail(ErrorCode::kIo, fmt::format("cannot set its mode: {}", system_message(errno)),
                      {folder});
  }
  return {};
}

core::Result<wire::Listener> listen_at(const std::string& socket, std::optional<gid_t> group) {
  PERSEUS_RETURN_IF_ERROR(make_folder(socket));
  PERSEUS_ASSIGN_OR_RETURN(auto listener, wire::listen_seqpacket(socket, kSocketMode));
  if (!group || *group == ::getegid()) return listener;
  if (::chown(socket.c_str(), static_cast<uid_t>(-1), *group) == 0 || ::geteuid() != 0) return listener;
  return core::fail(ErrorCode::kPermission,
                    fmt::format("cannot give the socket to group {}: {}", *group, system_message(errno)),
                    {socket});
}

}  // namespace

std::optional<gid_t> find_socket_group() {
  struct group entry{};
  struct group* found = nullptr;
  std::array<char, 16'384> buffer{};
  if (::getgrnam_r(kSocketGroup, &entry, buffer.data(), buffer.size(), &found) != 0 || found == nullptr)
    return std::nullopt;
  return entry.gr_gid;
}

core::Result<format::AgentConfig> load_config(const DaemonSettings& settings) {
  auto bytes = read_trusted_file(settings.config, format::kMaxAgentConfigBytes);
  if (bytes) return format::parse_agent_config(*bytes, settings.config);
  const bool absent = bytes.error().code() == ErrorCode::kNotFound && !settings.config_required;
  if (absent) return format::AgentConfig{};
  return std::unexpected(bytes.error());
}

core::Result<std::vector<format::Grant>> load_grants(const DaemonSettings& settings) {
  auto bytes = read_trusted_file(settings.grants, format::kMaxGrantsBytes);
  if (bytes) return format::parse_grants(*bytes, settings.grants);
  const bool absent = bytes.error().code() == ErrorCode::kNotFound && !settings.grants_required;
  if (absent) return std::vector<format::Grant>{};
  return std::unexpected(bytes.error());
}

gpu::BackendOptions backend_options(gpu::BackendOptions options, const format::AgentConfig& config) {
  options.command.lock = config.lock_command;
  options.command.reset = config.reset_command;
  options.command.time_limit =
      std::chrono::duration_cast<std::chrono::milliseconds>(to_duration(config.command_time_limit));
  return options;
}

core::Result<std::unique_ptr<Daemon>> Daemon::open(const DaemonSettings& settings) {
  std::unique_ptr<Daemon> daemon(new Daemon);
  PERSEUS_RETURN_IF_ERROR(daemon->start(settings, nullptr, ProcTree()));
  return daemon;
}

core::Result<std::unique_ptr<Daemon>> Daemon::open(const DaemonSettings& settings,
                                                   std::unique_ptr<gpu::Backend> backend,
                                                   ProcTree processes) {
  std::unique_ptr<Daemon> daemon(new Daemon);
  PERSEUS_RETURN_IF_ERROR(daemon->start(settings, std::move(backend), std::move(processes)));
  return daemon;
}

core::Status Daemon::start(const DaemonSettings& settings, std::unique_ptr<gpu::Backend> backend,
                           ProcTree processes) {
  settings_ = settings;
  processes_ = std::move(processes);
  PERSEUS_ASSIGN_OR_RETURN(notify_, ServiceNotify::from_environment());
  PERSEUS_ASSIGN_OR_RETURN(auto config, load_config(settings));
  PERSEUS_ASSIGN_OR_RETURN(auto grants, load_grants(settings));
  if (!settings.audit_log.empty()) {
    PERSEUS_ASSIGN_OR_RETURN(audit_, AuditLog::open(settings.audit_log));
  }
  PERSEUS_ASSIGN_OR_RETURN(loop_, EventLoop::create());
  PERSEUS_RETURN_IF_ERROR(watch_signals());  // before there is another thread
  PERSEUS_ASSIGN_OR_RETURN(directory_, lease::StateDirectory::open({.path = settings.state_dir}));
  PERSEUS_ASSIGN_OR_RETURN(const auto journal, directory_->read_all());
  if (!backend) {
    PERSEUS_ASSIGN_OR_RETURN(backend, open_driver(config));
  }
  backend_ = std::move(backend);
  // Inherited by the threads that are started from here on.
  (void)::prctl(PR_SET_TIMERSLACK, kTimerSlackNs, 0, 0, 0);
  const lease::TimeSource& time = lease::SystemTime::instance();
  fleet_ =
      std::make_unique<Fleet>(FleetContext{*loop_, *backend_, *directory_, audit_, time}, std::move(config));
  fleet_->recover(journal);
  // So that the first client finds GPUs that can be leased; one that hangs is told of later.
  const auto known_by = time.now() + to_duration(fleet_->config().degraded_after);
  while (!fleet_->all_known() && time.now() < known_by) loop_->turn(known_by);
  PERSEUS_ASSIGN_OR_RETURN(auto listener, listen_at(settings.socket, settings.find_group()));
  name_.emplace(std::move(listener.name));
  server_ = std::make_unique<Server>(ServerContext{*loop_, *fleet_, audit_, processes_, time},
                                     std::move(listener.socket),
                                     std::make_shared<const Authority>(::geteuid(), std::move(grants)));
  return server_->start();
}

Daemon::~Daemon() {
  server_.reset();
  fleet_.reset();
}

core::Status Daemon::watch_signals() {
  // A log reader that went away must not end the agent; systemd ignores this one for its services, others do
  // not.
  (void)::signal(SIGPIPE, SIG_IGN);
  sigset_t set{};
  ::sigemptyset(&set);
  for (const int signal : {SIGTERM, SIGINT, SIGQUIT, SIGHUP}) ::sigaddset(&set, signal);
  if (::pthread_sigmask(SIG_BLOCK, &set, nullptr) != 0)
    return core::fail(ErrorCode::kIo, "cannot block signals");
  signals_ = format::UniqueFd(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals_)
    return core::fail(ErrorCode::kIo, fmt::format("cannot make a signalfd: {}", system_message(errno)));
  return loop_->watch(signals_.get(), EPOLLIN, [this](std::uint32_t) { on_signal(); });
}

core::Result<std::unique_ptr<gpu::Backend>> Daemon::open_driver(const format::AgentConfig& config) {
  const auto options = backend_options(settings_.backend, config);
  const auto deadline = lease::SystemTime::instance().now() + settings_.driver_patience;
  lease::Backoff backoff({std::chrono::milliseconds(500), std::chrono::seconds(5)});
  for (bool told = false;; told = true) {
    auto backend = gpu::open_backend(options);
    const bool may_pass = !backend && (backend.error().code() == ErrorCode::kNotFound ||
                                       backend.error().code() == ErrorCode::kDriver);
    const auto wait = backoff.next();
    if (!may_pass || lease::SystemTime::instance().now() + wait > deadline) return backend;
    if (!told) tell_waiting(backend.error());
    // SIGTERM is not to wait for the driver.
    pollfd signal{.fd = signals_.get(), .events = POLLIN, .revents = 0};
    if (::poll(&signal, 1, static_cast<int>(wait / std::chrono::milliseconds(1))) == 1) return backend;
  }
}

void Daemon::tell_waiting(const core::Error& error) {
  audit_.write({.event = AuditEvent::kDriver,
                .result = std::string(core::info(error.code()).name),
                .detail = "waiting for the driver: " + error.text()});
  notify_.status("waiting for the driver");
}

void Daemon::on_signal() {
  signalfd_siginfo info{};
  while (::read(signals_.get(), &info, sizeof(info)) == static_cast<ssize_t>(sizeof(info))) {
    if (info.ssi_signo == SIGHUP) {
      reload();
    } else {
      stopping_ = true;
    }
  }
}

void Daemon::request_stop() {
  loop_->post([this] { stopping_ = true; });
}

void Daemon::reload() {
  notify_.reloading();
  AuditEntry audit{.event = AuditEvent::kReload};
  auto config = load_config(settings_);
  auto grants = load_grants(settings_);
  core::Status log = audit_.reopen();
  // All or nothing of the two: a mistake in one leaves what was in force.
  if (config && grants) {
    fleet_->set_config(*config);
    server_->set_authority(std::make_shared<const Authority>(::geteuid(), *std::move(grants)));
  } else {
    const core::Error& error = config ? grants.error() : config.error();
    audit.result = core::info(error.code()).name;
    audit.detail = error.text() + "; the former configuration and grants stay in force";
  }
  if (!log) {
    audit.result = core::info(log.error().code()).name;
    audit.detail += (audit.detail.empty() ? "" : "; ") + log.error().text();
  }
  audit_.write(audit);
  notify_.ready(summary());
}

AgentMetrics Daemon::metrics() const {
  AgentMetrics all{.status = {.version = kVersion,
                              .backend = std::string(backend_->name()),
                              .driver = fleet_->driver_version()},
                   .server = server_->counters(),
                   .connections = server_->connections(),
                   .audit_lines_lost = audit_.lost()};
  all.status = server_->status();
  for (GpuIndex i = 0; i < fleet_->size(); ++i) {
    const GpuUnit& unit = fleet_->unit(i);
    const std::chrono::duration<double> called = unit.held->call_time();
    all.gpus.push_back({.status = std::move(all.status.gpus.at(i)),
                        .telemetry = unit.telemetry,
                        .leases = unit.leases,
                        .changes = unit.thread->state().counters,
                        .clock_call_time = core::Seconds(called.count()),
                        .baseline = fleet_->config().baseline});
  }
  all.status.gpus.clear();
  return all;
}

void Daemon::publish() {
  const AgentMetrics now = metrics();
  const std::string folder = folder_of(settings_.socket);
  core::Status done = publish_file(folder + "/metrics.prom", metrics_text(now));
  const auto intended =
      publish_file(folder + "/intended.json", intended_json(now, std::chrono::system_clock::now()));
  if (done && !intended) done = intended;
  if (!done && !publish_failed_) {
    audit_.write({.event = AuditEvent::kTelemetry,
                  .result = std::string(core::info(done.error().code()).name),
                  .detail = "it cannot be published: " + done.error().text()});
  }
  publish_failed_ = !done;
}

std::string Daemon::summary() const {
  std::size_t leased = 0;
  std::size_t troubled = 0;
  for (const wire::GpuStatus& gpu : fleet_->status()) {
    if (gpu.state == "leased") {
      ++leased;
    } else if (gpu.state != "free" && gpu.state != "quiesced") {
      ++troubled;
    }
  }
  return fmt::format("{}{} GPUs, {} leased, {} not usable", fleet_->table().quiesced() ? "quiesced; " : "",
                     fleet_->size(), leased, troubled);
}

void Daemon::tick() {
  const auto now = lease::SystemTime::instance().now();
  server_->tick();  // first: it keeps alive the leases of peers that wait for us
  fleet_->tick();
  if (const auto period = notify_.watchdog_period(); period && now >= next_alive_) {
    notify_.alive();
    next_alive_ = now + *period;
  }
  if (now < next_publish_) return;
  next_publish_ = now + to_duration(fleet_->config().write_period);
  publish();
  if (std::string text = summary(); text != last_summary_) {
    notify_.status(text);
    last_summary_ = std::move(text);
  }
}

lease::Instant Daemon::next_deadline() const {
  lease::Instant next = next_publish_;
  if (notify_.watchdog_period()) next = std::min(next, next_alive_);
  if (const auto fleet = fleet_->next_deadline()) next = std::min(next, *fleet);
  if (const auto server = server_->next_deadline()) next = std::min(next, *server);
  return next;
}

bool Daemon::run() {
  audit_.write({.event = AuditEvent::kStart,
                .detail = fmt::format("perseus-agent {}, backend {}, {} GPUs", kVersion, backend_->name(),
                                      fleet_->size())});
  last_summary_ = summary();
  notify_.ready(last_summary_);
  tick();
  while (!stopping_) {
    loop_->turn(next_deadline());
    tick();
  }
  notify_.stopping("restoring all clocks");
  server_->close_listener();
  fleet_->stop();
  const auto deadline = lease::SystemTime::instance().now() + kStopPatience;
  while (!fleet_->at_rest() && lease::SystemTime::instance().now() < deadline) {
    loop_->turn(std::min(deadline, next_deadline()));
    tick();
  }
  const bool back = fleet_->at_rest();
  publish();
  audit_.write({.event = AuditEvent::kStop,
                .result = back ? "ok" : "driver",
                .detail = back ? "every GPU is at its baseline"
                               : "a driver did not answer; the journal knows what is still to be restored"});
  name_.reset();
  return back;
}

}  // namespace perseus::agent
