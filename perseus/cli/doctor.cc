// SPDX-License-Identifier: Apache-2.0
#include "perseus/cli/doctor.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <grp.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <system_error>

#include "perseus/cli/version.h"
#include "perseus/client/clock_link.h"
#include "perseus/format/files.h"
#include "perseus/format/unique_fd.h"
#include "perseus/lease/process_handle.h"
#include "perseus/wire/seqpacket.h"

namespace perseus::cli {
namespace {

namespace fs = std::filesystem;
using core::ErrorCode;

bool exists(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

/// Why a backend does not open, as advice.
std::string driver_advice(const core::Error& error) {
  if (error.code() == ErrorCode::kNotFound) {
    return "install the GPU's driver, or name its library with --library; without GPUs, try perseus sim "
           "create";
  }
  if (error.code() == ErrorCode::kPermission) return "run perseus doctor as root";
  return "see dmesg; load the driver (modprobe nvidia) and run perseus doctor again";
}

Finding examine_device(gpu::Device& device) {
  const gpu::Identity& identity = device.identity();
  const std::string what = fmt::format("gpu_{}", identity.index);
  const auto control = device.clock_control();
  if (!control) {
    return {what, Health::kProblem, fmt::format("{}: {}", identity.name, control.error().message()),
            "see dmesg for what the driver says of this GPU"};
  }
  if (!control->possible) {
    return {what, Health::kProblem,
            fmt::format("{}: clocks cannot be set: {}", identity.name, control->reason),
            "readings work all the same; clocks need bare metal or a passed-through GPU, MIG off (nvidia-smi "
            "-mig 0), "
            "and root or the agent"};
  }
  const auto clocks = device.supported_clocks();
  if (!clocks)
    return {what, Health::kProblem, fmt::format("{}: {}", identity.name, clocks.error().message()),
            "see dmesg"};
  return {what, Health::kOk,
          fmt::format("{}: {} clocks from {} to {} MHz", identity.name, clocks->size(),
                      clocks->front().value(), clocks->back().value()),
          ""};
}

Finding examine_persistence(const gpu::Backend& backend, const DoctorOptions& options) {
  const std::string what = "persistence";
  if (backend.name() != "nvml") return {what, Health::kOk, "not a matter of this driver", ""};
  if (exists(options.root + "/var/run/nvidia-persistenced") ||
      exists(options.root + "/run/nvidia-persistenced")) {
    return {what, Health::kOk, "nvidia-persistenced runs", ""};
  }
  return {what, Health::kNotice,
          "nvidia-persistenced does not run; without it the driver may be unloaded while nobody uses it",
          "systemctl enable --now nvidia-persistenced"};
}

Finding examine_group() {
  struct group entry{};
  struct group* found = nullptr;
  std::array<char, 16'384> buffer{};
  if (::getgrnam_r("perseus", &entry, buffer.data(), buffer.size(), &found) == 0 && found != nullptr) {
    return {"group", Health::kOk, fmt::format("group perseus is there (gid {})", entry.gr_gid), ""};
  }
  return {"group", Health::kNotice, "there is no group perseus: the socket belongs to the agent's own group",
          "systemd-sysusers, or groupadd --system perseus; then add the users of the agent to it"};
}

Finding socket_finding(const DoctorOptions& options, const core::Error& error) {
  std::string repair =
      "systemctl enable --now perseus-agent, or start perseus-agent as root; its log says why it ended";
  if (error.code() == ErrorCode::kPermission) {
    repair = "add your user to the socket's group (usermod -aG perseus USER) and log in again";
  }
  return {"socket", Health::kProblem,
          fmt::format("no agent answers at {}: {}", options.socket, error.message()), repair};
}

void add_status(std::vector<Finding>& findings, const wire::AgentStatus& status) {
  if (status.version == kVersion) {
    findings.push_back({"agent_version", Health::kOk, fmt::format("the agent is {} too", kVersion), ""});
  } else {
    findings.push_back({"agent_version", Health::kNotice,
                        fmt::format("the agent is {}, this program {}", status.version, kVersion),
                        "install the same release of both, then systemctl restart perseus-agent"});
  }
  if (status.quiesced) {
    findings.push_back(
        {"agent_quiesced", Health::kNotice, "the agent has let go of all GPUs", "perseus agent resume"});
  }
  for (const wire::GpuStatus& gpu : status.gpus) {
    if (gpu.state == "free" || gpu.state == "leased" || gpu.state == "quiesced") continue;
    findings.push_back({fmt::format("agent_gpu_{}", gpu.index), Health::kProblem,
                        fmt::format("GPU {} is {}: {}", gpu.index, gpu.state, gpu.reason),
                        "stop whatever else sets clocks, or repair the GPU; then perseus agent resume"});
  }
}

Finding examine_state_dir(const DoctorOptions& options) {
  const std::string path = options.root + options.state_dir;
  struct stat status{};
  if (::stat(path.c_str(), &status) != 0) {
    const std::string reason = std::generic_category().message(errno);
    return {"state_dir", Health::kNotice, fmt::format("{}: {}", options.state_dir, reason),
            "the agent makes it (0700) when it starts"};
  }
  if ((status.st_mode & 07777U) != 0700U) {
    return {"state_dir", Health::kProblem,
            fmt::format("{} has mode {:04o}; the agent refuses to use it", options.state_dir,
                        status.st_mode & 07777U),
            fmt::format("chmod 0700 {}", options.state_dir)};
  }
  struct statfs system{};
  const bool in_memory = ::statfs(path.c_str(), &system) == 0 && system.f_type == TMPFS_MAGIC;
  if (in_memory) return {"state_dir", Health::kOk, fmt::format("{} lies in memory", options.state_dir), ""};
  return {"state_dir", Health::kNotice,
          fmt::format("{} lies on a disk: taking a lease waits for it", options.state_dir),
          "use a folder below /run"};
}

Finding examine_memfd() {
  const format::UniqueFd fd(::memfd_create("perseus-doctor", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (fd && ::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == 0) {
    return {"kernel_memfd", Health::kOk, "sealed shared memory works", ""};
  }
  return {"kernel_memfd", Health::kProblem,
          fmt::format("memfd_create with seals: {}", std::generic_category().message(errno)),
          "Linux 3.17 or later, and a system call filter that allows memfd_create"};
}

}  // namespace

const char* health_name(Health health) {
  switch (health) {
    case Health::kOk:
      return "ok";
    case Health::kNotice:
      return "notice";
    case Health::kProblem:
      break;
  }
  return "problem";
}

std::vector<Finding> examine_gpus(const DoctorOptions& options) {
  const auto backend = gpu::open_backend(options.backend);
  if (!backend) {
    return {{"driver", Health::kProblem, backend.error().text(), driver_advice(backend.error())}};
  }
  const auto& devices = (*backend)->devices();
  std::vector<Finding> findings = {
      {"driver", Health::kOk,
       fmt::format("{} {}, {} GPUs", (*backend)->name(), (*backend)->driver_version(), devices.size()), ""}};
  findings.push_back(examine_persistence(**backend, options));
  for (gpu::Device* device : devices) findings.push_back(examine_device(*device));
  return findings;
}

std::vector<Finding> examine_agent(const DoctorOptions& options) {
  std::vector<Finding> findings = {examine_group(), examine_state_dir(options)};
  const auto deadline = wire::deadline_in(std::chrono::seconds(5));
  auto link = client::ClockLink::open(std::make_unique<client::AgentEndpoint>(options.socket),
                                      {.client = "perseus doctor", .reconnect = false}, deadline);
  if (!link) {
    findings.push_back(socket_finding(options, link.error()));
    return findings;
  }
  findings.push_back({"socket", Health::kOk, fmt::format("an agent answers at {}", options.socket), ""});
  const auto reply = (*link)->request(wire::GetStatus{}, deadline);
  if (const auto* status = reply ? std::get_if<wire::AgentStatus>(&*reply) : nullptr) {
    add_status(findings, *status);
  } else {
    findings.push_back({"agent_version", Health::kProblem, "the agent does not tell its status",
                        "systemctl restart perseus-agent"});
  }
  return findings;
}

std::vector<Finding> examine_kernel(const DoctorOptions& options) {
  std::vector<Finding> findings;
  if (const auto self = lease::ProcessHandle::open(::getpid()); self) {
    findings.push_back({"kernel_pidfd", Health::kOk, "processes can be watched by pidfd", ""});
  } else {
    findings.push_back({"kernel_pidfd", Health::kProblem, self.error().message(),
                        "Linux 5.3 or later, and a system call filter that allows pidfd_open"});
  }
  findings.push_back(examine_memfd());
  if (exists(options.root + "/sys/fs/cgroup/cgroup.controllers")) {
    findings.push_back({"cgroup_v2", Health::kOk, "cgroup v2 is mounted", ""});
  } else {
    findings.push_back(
        {"cgroup_v2", Health::kNotice,
         "cgroup v2 is not mounted: jobs in containers get clocks by no rule but a grant to a user",
         "boot with systemd.unified_cgroup_hierarchy=1"});
  }
  return findings;
}

std::vector<Finding> examine_service(const DoctorOptions& options) {
  const std::string advice =
      "where no service manager restarts the agent, start it from a supervisor that runs `perseus agent "
      "--restore` "
      "after it, or use direct mode (perseus lease --direct)";
  if (!exists(options.root + "/run/systemd/system")) {
    return {{"supervisor", Health::kNotice,
             "systemd does not run here: nobody restores clocks within 3 s if the agent is killed", advice}};
  }
  for (const char* folder : {"/etc/systemd/system", "/usr/local/lib/systemd/system",
                             "/usr/lib/systemd/system", "/lib/systemd/system"}) {
    const std::string unit = fmt::format("{}{}/perseus-agent.service", options.root, folder);
    if (exists(unit)) return {{"supervisor", Health::kOk, fmt::format("systemd has {}", unit), ""}};
  }
  return {{"supervisor", Health::kNotice, "systemd runs, but has no perseus-agent.service",
           "cmake --install installs the unit; then systemctl daemon-reload and systemctl enable --now "
           "perseus-agent"}};
}

std::vector<Finding> examine_neighbours(const DoctorOptions& options) {
  struct Known {
    std::string_view command;  ///< as in /proc/PID/comm, 15 bytes at most
    std::string_view repair;
  };
  static constexpr std::array<Known, 4> kKnown = {{
      {"nv-hostengine", "DCGM sets clocks if a policy or dcgmi config tells it to: dcgmi config --get"},
      {"zeusd", "Zeus's daemon sets clocks for anybody who asks: stop it, or run jobs of one of the two"},
      {"geopmd", "GEOPM sets GPU clocks in its write sessions: keep jobs of both apart"},
      {"dynologd", "dynolog reads GPUs by way of DCGM; it sets nothing"},
  }};
  std::vector<Finding> findings;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(options.root + "/proc", ignored)) {
    const auto comm = format::read_file(entry.path() / "comm", 64);
    if (!comm) continue;
    const std::string_view name(comm->data(), std::min(comm->find('\n'), comm->size()));
    const auto known = std::ranges::find(kKnown, name, &Known::command);
    if (known == kKnown.end()) continue;
    findings.push_back({"neighbour", Health::kNotice,
                        fmt::format("{} runs (pid {})", name, entry.path().filename().string()),
                        std::string(known->repair)});
  }
  if (findings.empty())
    findings.push_back({"neighbour", Health::kOk, "no other program that sets clocks was seen", ""});
  return findings;
}

std::vector<Finding> examine(const DoctorOptions& options) {
  std::vector<Finding> all;
  for (auto* part : {examine_gpus, examine_agent, examine_kernel, examine_service, examine_neighbours}) {
    std::ranges::move(part(options), std::back_inserter(all));
  }
  return all;
}

}  // namespace perseus::cli
