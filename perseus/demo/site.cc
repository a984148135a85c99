// SPDX-License-Identifier: Apache-2.0
#include "perseus/demo/site.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <thread>

#include "perseus/format/files.h"
#include "perseus/format/json_reader.h"

namespace perseus::demo {
namespace {

using core::ErrorCode;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

// Assumed, all of them: what a busy machine may need.
constexpr milliseconds kStart{20'000};  ///< for agent and server to answer
constexpr milliseconds kStop{12'000};   ///< and to end: the agent gives a driver 10 s
constexpr milliseconds kLookAgain{20};
/// Of the folder's path: a socket's path has at most 107 bytes, and the longest name of ours about 15.
constexpr std::size_t kLongestFolder = 90;
constexpr std::string_view kOwnName = "/perseus-demo-XXXXXX";
/// So that a straggler of seconds is answered and a recovery too: the server's own default, 60 s, is for
/// clusters.
constexpr int kMinHoldS = 2;

/// "127.0.0.1:41234" out of the server's log, once it is there.
std::optional<std::string> listening_address(const std::string& log) {
  const auto text = format::read_file(log, std::size_t{1} << 20U);
  if (!text) return std::nullopt;
  const std::size_t at = text->find(R"("event":"server.listening")");
  if (at == std::string::npos) return std::nullopt;
  constexpr std::string_view kKey = R"("address":")";
  const std::size_t begin = text->find(kKey, at);
  if (begin == std::string::npos) return std::nullopt;
  const std::size_t end = text->find('"', begin + kKey.size());
  if (end == std::string::npos) return std::nullopt;
  return text->substr(begin + kKey.size(), end - begin - kKey.size());
}

/// A folder that was empty or not there, so that nobody's files are mixed with ours.
core::Result<std::string> make_kept_folder(const std::string& keep) {
  std::error_code error;
  std::string folder = std::filesystem::absolute(keep, error).lexically_normal().string();
  if (folder.size() > kLongestFolder) {
    return core::fail(ErrorCode::kLimit,
                      fmt::format("sockets are made in it: its path may have {} bytes, and has {}",
                                  kLongestFolder, folder.size()),
                      {folder});
  }
  std::filesystem::create_directories(folder, error);
  if (error) return core::fail(ErrorCode::kIo, error.message(), {folder});
  const bool empty = std::filesystem::is_empty(folder, error);
  if (error) return core::fail(ErrorCode::kIo, error.message(), {folder});
  if (!empty) return core::fail(ErrorCode::kInvalidInput, "the folder is not empty", {folder});
  return folder;
}

core::Result<std::string> make_folder(const std::string& keep) {
  if (!keep.empty()) return make_kept_folder(keep);
  std::error_code error;
  std::string base = std::filesystem::temp_directory_path(error).string();  // $TMPDIR, else /tmp
  if (error || base.size() > kLongestFolder - kOwnName.size()) base = "/tmp";
  std::string folder = base + std::string(kOwnName);
  if (::mkdtemp(folder.data()) == nullptr) {
    return core::fail(ErrorCode::kIo,
                      fmt::format("cannot make a folder: {}", std::generic_category().message(errno)),
                      {base});
  }
  return folder;
}

}  // namespace

core::Result<std::unique_ptr<Site>> Site::open(const SiteOptions& options, const std::atomic<bool>& stop) {
  PERSEUS_ASSIGN_OR_RETURN(std::string folder, make_folder(options.keep));
  auto node = simgpu::Node::create(folder + "/gpus", options.node);
  if (!node) {
    std::error_code ignored;
    if (options.keep.empty()) std::filesystem::remove_all(folder, ignored);
    return std::unexpected(node.error());
  }
  std::unique_ptr<Site> site(new Site(options, std::move(folder), *std::move(node)));
  PERSEUS_RETURN_IF_ERROR(site->start_agent());
  PERSEUS_RETURN_IF_ERROR(site->start_server());
  PERSEUS_RETURN_IF_ERROR(site->wait_ready(stop));
  return site;
}

Site::~Site() {
  static_cast<void>(close());
  static_cast<void>(simgpu::Node::destroy(node_.path()));
  std::error_code ignored;
  if (options_.keep.empty()) std::filesystem::remove_all(folder_, ignored);
}

core::Status Site::start_agent() {
  // No configuration of the machine that this happens to run on.
  PERSEUS_RETURN_IF_ERROR(format::write_file_atomically(folder_ + "/agent.yaml", "{}\n"));
  PERSEUS_RETURN_IF_ERROR(format::write_file_atomically(folder_ + "/grants.yaml", "grants: []\n"));
  std::error_code error;
  for (const char* file : {"/agent.yaml", "/grants.yaml"}) {
    std::filesystem::permissions(
        folder_ + file, std::filesystem::perms::owner_read | std::filesystem::perms::owner_write, error);
  }
  ChildOptions child{
      .name = "agent",
      .arguments = {options_.agent, "--socket", agent_socket(), "--state-dir", folder_ + "/agent",
                    "--backend", "sim", "--config", folder_ + "/agent.yaml", "--grants",
                    folder_ + "/grants.yaml"},
      .environment = {{simgpu::kEnvironment, node_.path()}, {"PERSEUS_SIM_NVML", options_.library}},
      .log = log_of("agent")};
  PERSEUS_ASSIGN_OR_RETURN(Child started, Child::start(std::move(child)));
  agent_ = std::make_unique<Child>(std::move(started));
  return {};
}

core::Status Site::start_server() {
  ChildOptions child{.name = "server",
                     .arguments = {options_.perseus, "serve", "--state", folder_ + "/server", "--listen",
                                   "127.0.0.1:0", "--min-hold", std::to_string(kMinHoldS)},
                     .environment = {},
                     .log = log_of("server")};
  PERSEUS_ASSIGN_OR_RETURN(Child started, Child::start(std::move(child)));
  server_ = std::make_unique<Child>(std::move(started));
  return {};
}

bool Site::agent_answers() const {
  const format::UniqueFd fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string path = agent_socket();
  if (!fd || path.size() >= sizeof address.sun_path) return false;
  std::memcpy(static_cast<char*>(address.sun_path), path.c_str(), path.size() + 1);
  return ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
}

bool Site::find_server() {
  const auto address = listening_address(log_of("server"));
  if (!address) return false;
  const auto url = server::parse_server_url("http://" + *address);
  if (!url) return false;
  url_ = *url;
  return server::get(url_, "/readyz").has_value();
}

core::Status Site::wait_ready(const std::atomic<bool>& stop) {
  const auto deadline = steady_clock::now() + kStart;
  bool agent = false;
  bool server = false;
  while (!agent || !server) {
    PERSEUS_RETURN_IF_ERROR(check());
    if (stop) return core::fail(ErrorCode::kBusy, "interrupted");
    if (steady_clock::now() > deadline) {
      Child& late = agent ? *server_ : *agent_;
      return core::fail(ErrorCode::kTimeout,
                        fmt::format("{} does not answer: {}", late.name(), late.obituary()));
    }
    agent = agent || agent_answers();
    server = server || find_server();
    std::this_thread::sleep_for(kLookAgain);
  }
  return {};
}

std::vector<std::pair<std::string, std::string>> Site::rank_environment(bool with_perseus) const {
  std::vector<std::pair<std::string, std::string>> all = {{simgpu::kEnvironment, node_.path()},
                                                          {"PERSEUS_SIM_NVML", options_.library}};
  if (!with_perseus) {
    all.emplace_back("PERSEUS", "0");
    return all;
  }
  all.insert(all.end(), {{"PERSEUS", "1"},
                         {"PERSEUS_SERVER", fmt::format("http://{}:{}", url_.host, url_.port)},
                         {"PERSEUS_BACKEND", "agent"},
                         {"PERSEUS_AGENT_SOCKET", agent_socket()},
                         {"PERSEUS_PROFILE", "online"}});
  all.insert(all.end(), options_.environment.begin(), options_.environment.end());
  return all;
}

core::Status Site::check() {
  for (const auto* child : {&agent_, &server_}) {
    if (*child && (*child)->ended()) return core::fail(ErrorCode::kIo, (*child)->obituary());
  }
  return {};
}

core::Result<std::uint32_t> Site::locked_gpus() const {
  std::uint32_t locked = 0;
  for (std::uint32_t gpu = 0; gpu < node_.gpu_count(); ++gpu) {
    PERSEUS_ASSIGN_OR_RETURN(const simgpu::Observation seen, node_.observe(gpu));
    if (seen.locked || seen.locked_low) ++locked;
  }
  return locked;
}

core::Status Site::close() {
  core::Status first;
  for (auto* child : {&server_, &agent_}) {
    if (!*child) continue;
    if (!(*child)->stop(kStop) && first) first = core::fail(ErrorCode::kIo, (*child)->obituary());
    child->reset();
  }
  return first;
}

}  // namespace perseus::demo
