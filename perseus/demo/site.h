// SPDX-License-Identifier: Apache-2.0
//
// The machine that the demo runs on: a private folder, a simulated node, the agent and the server as
// processes of their own.
//
//   PERSEUS_ASSIGN_OR_RETURN(auto site, Site::open(options, gpu_spec, gpus, stop));
//   site->rank_environment(false);   // what a rank needs to find them
//   site->close();
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "perseus/core/result.h"
#include "perseus/demo/child.h"
#include "perseus/server/api_client.h"
#include "perseus/simgpu/node.h"

namespace perseus::demo {

/// Where the demo's programs and files are.
struct SiteOptions {
  std::string perseus;  ///< `perseus`, for `perseus serve` and `perseus report`
  std::string agent;    ///< `perseus-agent`
  std::string rank;     ///< `perseus-demo-rank`
  std::string library;  ///< the simulated driver's
  std::string keep;  ///< folder for logs and files, absent or empty; "": a temporary one, removed at the end
  simgpu::NodeSpec node;
  std::vector<std::pair<std::string, std::string>> environment;  ///< of ranks with Perseus, on top
};

/// Belongs to one thread. All processes end with it, whatever happens.
class Site {
 public:
  /// Starts agent and server and waits until both answer. kInvalidInput, kLimit: of the folder; kIo, kTimeout
  /// with the end of a log; kBusy if `stop` is set meanwhile.
  [[nodiscard]] static core::Result<std::unique_ptr<Site>> open(const SiteOptions& options,
                                                                const std::atomic<bool>& stop);
  Site(const Site&) = delete;
  Site& operator=(const Site&) = delete;
  ~Site();

  [[nodiscard]] simgpu::Node& node() { return node_; }
  [[nodiscard]] const server::ServerUrl& server() const { return url_; }
  [[nodiscard]] const std::string& folder() const { return folder_; }
  [[nodiscard]] const SiteOptions& options() const { return options_; }
  [[nodiscard]] std::string log_of(const std::string& name) const { return folder_ + "/" + name + ".log"; }
  /// Of a rank; without Perseus it is told to do nothing.
  [[nodiscard]] std::vector<std::pair<std::string, std::string>> rank_environment(bool with_perseus) const;

  /// kIo with the end of its log if the agent or the server has ended.
  [[nodiscard]] core::Status check();
  /// GPUs whose clock the simulated driver holds at this moment.
  [[nodiscard]] core::Result<std::uint32_t> locked_gpus() const;
  /// Ends the server, then the agent, in order. kIo if one of them does not end well.
  core::Status close();

 private:
  Site(SiteOptions options, std::string folder, simgpu::Node node)
      : options_(std::move(options)), folder_(std::move(folder)), node_(std::move(node)) {}
  core::Status start_agent();
  core::Status start_server();
  core::Status wait_ready(const std::atomic<bool>& stop);
  [[nodiscard]] bool agent_answers() const;
  bool find_server();
  [[nodiscard]] std::string agent_socket() const { return folder_ + "/agent.sock"; }

  SiteOptions options_;
  std::string folder_;
  simgpu::Node node_;
  server::ServerUrl url_;
  std::unique_ptr<Child> agent_, server_;  ///< null: not started yet, or over
};

}  // namespace perseus::demo
