// SPDX-License-Identifier: Apache-2.0
//
// Addresses of a host name with a deadline. getaddrinfo() has none, so it runs on a thread of its own that
// nobody waits for: it owns what it writes to, and its answer finds nobody when it comes too late.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "perseus/core/result.h"

namespace perseus::client {

/// Used on the io_context's thread; must outlive its run(). At most one lookup at a time, also where the one
/// before has not ended yet.
class NameLookup {
 public:
  using Addresses = std::vector<boost::asio::ip::tcp::endpoint>;
  /// More addresses of a name are not tried (assumed).
  static constexpr std::size_t kMostAddresses = 8;

  NameLookup(boost::asio::io_context& io, std::string host, std::uint16_t port);
  NameLookup(const NameLookup&) = delete;
  NameLookup& operator=(const NameLookup&) = delete;
  ~NameLookup();

  /// At least one address. A number is no question to anybody. kTimeout; kIo with the resolver's reason.
  boost::asio::awaitable<core::Result<Addresses>> find(std::chrono::steady_clock::time_point deadline);
  /// Ends a find() that waits, with kTimeout, and every later one.
  void cancel();

 private:
  struct Question;
  core::Status ask();
  void forget();

  boost::asio::io_context& io_;
  std::string host_;
  std::uint16_t port_;
  boost::asio::steady_timer timer_;
  std::shared_ptr<Question> question_;
  bool cancelled_ = false;
};

}  // namespace perseus::client
