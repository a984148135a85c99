// SPDX-License-Identifier: Apache-2.0
#include "perseus/client/name_lookup.h"

#include <fmt/format.h>
#include <netdb.h>

#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <cstring>
#include <functional>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

namespace perseus::client {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;
using core::ErrorCode;
using core::fail;

NameLookup::Addresses addresses_of(const addrinfo* found) {
  NameLookup::Addresses out;
  for (; found != nullptr && out.size() < NameLookup::kMostAddresses; found = found->ai_next) {
    tcp::endpoint endpoint;
    if (found->ai_addrlen > endpoint.capacity()) continue;
    std::memcpy(endpoint.data(), found->ai_addr, found->ai_addrlen);
    endpoint.resize(found->ai_addrlen);
    out.push_back(endpoint);
  }
  return out;
}

}  // namespace

/// What the link's thread and the lookup's share. The latter holds it as long as it needs.
struct NameLookup::Question {
  std::mutex mutex;
  bool done = false;
  int code = 0;  ///< of getaddrinfo
  Addresses found;
  std::function<void()> wake;  ///< empty: nobody waits
};

NameLookup::NameLookup(asio::io_context& io, std::string host, std::uint16_t port)
    : io_(io), host_(std::move(host)), port_(port), timer_(io) {}

NameLookup::~NameLookup() {
  forget();
}

void NameLookup::forget() {
  if (!question_) return;
  const std::lock_guard lock(question_->mutex);
  question_->wake = nullptr;
}

void NameLookup::cancel() {
  cancelled_ = true;
  timer_.cancel();
}

core::Status NameLookup::ask() {
  auto question = std::make_shared<Question>();
  const auto work = [question, host = host_, port = std::to_string(port_)] {
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* found = nullptr;
    const int code = getaddrinfo(host.c_str(), port.c_str(), &hints, &found);
    const std::lock_guard lock(question->mutex);
    question->code = code;
    if (code == 0) {
      question->found = addresses_of(found);
      freeaddrinfo(found);
    }
    question->done = true;
    if (question->wake) question->wake();
  };
  try {
    std::thread(work).detach();
  } catch (const std::system_error& error) {
    return fail(ErrorCode::kLimit, fmt::format("the system refuses a thread: {}", error.code().message()));
  }
  question_ = std::move(question);
  return {};
}

asio::awaitable<core::Result<NameLookup::Addresses>> NameLookup::find(
    std::chrono::steady_clock::time_point deadline) {
  error_code no_number;
  const auto number = asio::ip::make_address(host_, no_number);
  if (!no_number) co_return Addresses{tcp::endpoint(number, port_)};
  if (!question_) {
    if (const core::Status asked = ask(); !asked) co_return std::unexpected(asked.error());
  }
  for (;;) {
    {
      const std::lock_guard lock(question_->mutex);
      if (question_->done) break;
      question_->wake = [this] { asio::post(io_, [this] { timer_.cancel(); }); };
    }
    if (cancelled_ || std::chrono::steady_clock::now() >= deadline) {
      forget();  // the next find() waits for the same answer
      co_return fail(ErrorCode::kTimeout, fmt::format("no address of {} within the deadline", host_));
    }
    timer_.expires_at(deadline);
    error_code ignored;
    co_await timer_.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
  }
  const auto answered = std::exchange(question_, nullptr);
  if (answered->code != 0) {
    co_return fail(ErrorCode::kIo, fmt::format("{}: {}", host_, gai_strerror(answered->code)));
  }
  if (answered->found.empty()) co_return fail(ErrorCode::kIo, fmt::format("{} has no address", host_));
  co_return std::move(answered->found);
}

}  // namespace perseus::client
