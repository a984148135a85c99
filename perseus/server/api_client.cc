// SPDX-License-Identifier: Apache-2.0
#include "perseus/server/api_client.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <netdb.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <system_error>

#include "perseus/format/json_reader.h"
#include "perseus/format/numbers.h"
#include "perseus/format/text.h"

namespace perseus::server {
namespace {

using core::ErrorCode;
using core::fail;
using core::Seconds;

constexpr std::size_t kMostAnswerBytes = std::size_t{64} << 20U;

struct CloseFd {
  int fd = -1;
  CloseFd() = default;
  explicit CloseFd(int f) : fd(f) {}
  CloseFd(const CloseFd&) = delete;
  CloseFd& operator=(const CloseFd&) = delete;
  CloseFd(CloseFd&& other) noexcept : fd(std::exchange(other.fd, -1)) {}
  CloseFd& operator=(CloseFd&&) = delete;
  ~CloseFd() {
    if (fd >= 0) ::close(fd);
  }
};

std::string reason(int error) {
  return std::generic_category().message(error);
}

/// Connects within the deadline; 0 or the reason why not.
int connect_by(int fd, const addrinfo& to, Seconds deadline) {
  if (::connect(fd, to.ai_addr, to.ai_addrlen) == 0) return 0;
  if (errno != EINPROGRESS) return errno;
  pollfd ready{fd, POLLOUT, 0};
  if (poll(&ready, 1, static_cast<int>(deadline.value() * 1000)) <= 0) return ETIMEDOUT;
  int error = 0;
  socklen_t size = sizeof error;
  getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
  return error;
}

core::Result<CloseFd> connect_to(const ServerUrl& server, Seconds deadline) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int looked_up = getaddrinfo(server.host.c_str(), std::to_string(server.port).c_str(), &hints, &found);
  const std::string where = fmt::format("{}:{}", server.host, server.port);
  if (looked_up != 0) return fail(ErrorCode::kIo, gai_strerror(looked_up), {where});
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owned(found, freeaddrinfo);
  int error = EHOSTUNREACH;
  for (const addrinfo* to = found; to != nullptr; to = to->ai_next) {
    CloseFd fd(::socket(to->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, to->ai_protocol));
    if (fd.fd < 0) continue;
    error = connect_by(fd.fd, *to, deadline);
    if (error != 0) continue;
    fcntl(fd.fd, F_SETFL, fcntl(fd.fd, F_GETFL) & ~O_NONBLOCK);
    const auto ms = static_cast<long>(deadline.value() * 1000);
    const timeval limit{ms / 1000, ms % 1000 * 1000};
    setsockopt(fd.fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd.fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    return fd;
  }
  return fail(error == ETIMEDOUT ? ErrorCode::kTimeout : ErrorCode::kIo, "cannot connect: " + reason(error),
              {where});
}

/// A connection that is read and written alike with and without TLS.
class Channel {
 public:
  static core::Result<Channel> open(const ServerUrl& server, const GetOptions& options) {
    PERSEUS_ASSIGN_OR_RETURN(CloseFd fd, connect_to(server, options.deadline));
    Channel out(std::move(fd));
    if (server.tls) PERSEUS_RETURN_IF_ERROR(out.start_tls(server, options));
    return out;
  }

  core::Status write(std::string_view bytes) {
    while (!bytes.empty()) {
      const auto sent = ssl_ ? SSL_write(ssl_.get(), bytes.data(), static_cast<int>(bytes.size()))
                             : ::send(fd_.fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return fail(ErrorCode::kIo, "the request could not be sent: " + reason(errno));
      bytes.remove_prefix(static_cast<std::size_t>(sent));
    }
    return {};
  }

  /// All up to the end of the connection.
  core::Result<std::string> read_all() {
    std::string out;
    while (out.size() <= kMostAnswerBytes) {
      char chunk[16384];
      const auto got =
          ssl_ ? SSL_read(ssl_.get(), chunk, sizeof chunk) : ::recv(fd_.fd, chunk, sizeof chunk, 0);
      if (got > 0) {
        out.append(chunk, static_cast<std::size_t>(got));
        continue;
      }
      const bool ended =
          got == 0 || (ssl_ && SSL_get_error(ssl_.get(), static_cast<int>(got)) == SSL_ERROR_ZERO_RETURN);
      if (ended) return out;
      if (errno == EAGAIN) return fail(ErrorCode::kTimeout, "no answer within the deadline");
      return fail(ErrorCode::kIo, "the answer could not be read: " + reason(errno));
    }
    return fail(ErrorCode::kLimit, fmt::format("an answer of more than {} bytes", kMostAnswerBytes));
  }

 private:
  explicit Channel(CloseFd fd) : fd_(std::move(fd)) {}

  core::Status start_tls(const ServerUrl& server, const GetOptions& options) {
    context_.reset(SSL_CTX_new(TLS_client_method()));
    SSL_CTX_set_min_proto_version(context_.get(), TLS1_2_VERSION);
    SSL_CTX_set_verify(context_.get(), SSL_VERIFY_PEER, nullptr);
    const bool trusts = options.ca_file
                            ? SSL_CTX_load_verify_file(context_.get(), options.ca_file->c_str()) == 1
                            : SSL_CTX_set_default_verify_paths(context_.get()) == 1;
    if (!trusts)
      return fail(ErrorCode::kInvalidInput, "no authorities could be read", {options.ca_file.value_or("")});
    ssl_.reset(SSL_new(context_.get()));
    SSL_set_fd(ssl_.get(), fd_.fd);
    std::string name = server.host;  // OpenSSL's macro for this casts in C's way
    SSL_ctrl(ssl_.get(), SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name, name.data());
    // An address is checked as an address, a name as a name.
    if (X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl_.get()), server.host.c_str()) != 1) {
      SSL_set1_host(ssl_.get(), server.host.c_str());
    }
    if (SSL_connect(ssl_.get()) == 1) return {};
    const long verdict = SSL_get_verify_result(ssl_.get());
    if (verdict != X509_V_OK) {
      return fail(ErrorCode::kPermission, fmt::format("the server's certificate does not hold: {}",
                                                      X509_verify_cert_error_string(verdict)));
    }
    return fail(ErrorCode::kIo, "the server does not speak TLS here");
  }

  CloseFd fd_;
  std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> context_{nullptr, SSL_CTX_free};
  std::unique_ptr<SSL, decltype(&SSL_free)> ssl_{nullptr, SSL_free};
};

/// What the server said of a refusal, or its beginning where it is of another shape.
std::string words_of(std::string_view body) {
  constexpr std::string_view kMessage = R"("message":)";
  const std::size_t at = body.find(kMessage);
  if (at != std::string_view::npos) {
    const std::string_view rest = body.substr(at + kMessage.size());
    format::JsonReader json(rest, "answer");
    if (auto message = json.string()) return *message;
  }
  return format::quoted(body.substr(0, 60));
}

core::Result<std::string> body_of(const std::string& answer) {
  const std::size_t end = answer.find("\r\n\r\n");
  const auto status = answer.starts_with("HTTP/1.") && answer.size() > 12
                          ? format::parse_integer<int>(std::string_view(answer).substr(9, 3))
                          : std::nullopt;
  if (end == std::string::npos || !status) return fail(ErrorCode::kIo, "the answer is not HTTP");
  std::string body = answer.substr(end + 4);
  if (*status >= 200 && *status < 300) return body;
  const ErrorCode code = *status == 401 || *status == 403 ? ErrorCode::kPermission
                         : *status == 404                 ? ErrorCode::kNotFound
                                                          : ErrorCode::kIo;
  return fail(code, fmt::format("the server answers {}: {}", *status, words_of(body)));
}

using Json = format::JsonReader;

core::Status read_figures(Json& json, std::optional<Seconds>& time, std::optional<core::Joules>& energy) {
  if (json.take_null()) return {};
  return json.map(64, [&](const std::string& name) -> core::Status {
    if ((name != "time_s" && name != "energy_j") || json.take_null()) {
      return name != "time_s" && name != "energy_j" ? json.skip_value() : core::Status();
    }
    PERSEUS_ASSIGN_OR_RETURN(const double value, json.number());
    if (name == "time_s") time = Seconds(value);
    if (name == "energy_j") energy = core::Joules(value);
    return {};
  });
}

core::Status read_savings(Json& json, JobRow& row) {
  if (json.take_null()) return {};
  return json.map(64, [&](const std::string& name) -> core::Status {
    if (name != "intrinsic_pct" && name != "extrinsic_pct") return json.skip_value();
    PERSEUS_ASSIGN_OR_RETURN(const double value, json.number());
    (name == "intrinsic_pct" ? row.intrinsic_pct : row.extrinsic_pct) = value;
    return {};
  });
}

core::Status read_profiling(Json& json, JobRow& row) {
  if (json.take_null()) return {};
  return json.map(64, [&](const std::string& name) -> core::Status {
    if (name != "windows_done" && name != "windows_planned") return json.skip_value();
    PERSEUS_ASSIGN_OR_RETURN(const std::int64_t value, json.integer(0, INT64_MAX));
    (name == "windows_done" ? row.windows_done : row.windows_planned) = static_cast<std::uint64_t>(value);
    return {};
  });
}

core::Status read_planner(Json& json, JobRow& row) {
  if (json.take_null()) return {};
  return json.map(64, [&](const std::string& name) -> core::Status {
    if (name != "done_pct") return json.skip_value();
    PERSEUS_ASSIGN_OR_RETURN(row.planned_pct, json.number());
    return {};
  });
}

core::Status read_member(Json& json, const std::string& name, JobRow& row) {
  const std::pair<std::string_view, std::string*> texts[] = {
      {"job", &row.job}, {"state", &row.state}, {"schedule", &row.schedule}};
  for (const auto& [known, to] : texts) {
    if (name != known) continue;
    PERSEUS_ASSIGN_OR_RETURN(*to, json.string());
    return {};
  }
  const std::pair<std::string_view, std::uint64_t*> numbers[] = {{"incarnation", &row.incarnation},
                                                                 {"ranks_live", &row.ranks_live},
                                                                 {"ranks_known", &row.ranks_known},
                                                                 {"generation", &row.generation},
                                                                 {"stragglers", &row.stragglers}};
  for (const auto& [known, to] : numbers) {
    if (name != known) continue;
    PERSEUS_ASSIGN_OR_RETURN(const std::int64_t value, json.integer(0, INT64_MAX));
    *to = static_cast<std::uint64_t>(value);
    return {};
  }
  if (name == "predicted") return read_figures(json, row.predicted_time, row.predicted_energy);
  if (name == "measured") return read_figures(json, row.measured_time, row.measured_energy);
  if (name == "saved_predicted") return read_savings(json, row);
  if (name == "profiling") return read_profiling(json, row);
  if (name == "planner") return read_planner(json, row);
  if (name == "dry_run") {
    PERSEUS_ASSIGN_OR_RETURN(row.dry_run, json.boolean());
    return {};
  }
  if (name == "planner_error" && !json.take_null()) {
    PERSEUS_ASSIGN_OR_RETURN(row.planner_error, json.string());
    return {};
  }
  return name == "planner_error" ? core::Status() : json.skip_value();
}

}  // namespace

namespace {

core::Result<std::string> ask(const ServerUrl& server, std::string_view method, const std::string& path,
                              std::optional<std::string_view> json, const GetOptions& options) {
  PERSEUS_ASSIGN_OR_RETURN(Channel channel, Channel::open(server, options));
  const std::string host = server.host.find(':') == std::string::npos ? server.host : '[' + server.host + ']';
  std::string request =
      fmt::format("{} {} HTTP/1.1\r\nHost: {}:{}\r\nConnection: close\r\n", method, path, host, server.port);
  if (json) {
    request += fmt::format("Content-Type: application/json\r\nContent-Length: {}\r\n", json->size());
  }
  if (options.token) request += fmt::format("Authorization: Bearer {}\r\n", *options.token);
  request += "\r\n";
  if (json) request += *json;
  PERSEUS_RETURN_IF_ERROR(channel.write(request));
  PERSEUS_ASSIGN_OR_RETURN(const std::string answer, channel.read_all());
  return body_of(answer);
}

}  // namespace

core::Result<std::string> get(const ServerUrl& server, const std::string& path, const GetOptions& options) {
  return ask(server, "GET", path, std::nullopt, options);
}

core::Result<std::string> post(const ServerUrl& server, const std::string& path, std::string_view json,
                               const GetOptions& options) {
  return ask(server, "POST", path, json, options);
}

core::Result<std::string> remove(const ServerUrl& server, const std::string& path,
                                 const GetOptions& options) {
  return ask(server, "DELETE", path, std::nullopt, options);
}

core::Result<std::string> read_token_file(const std::string& path) {
  return format::read_token(path);
}

core::Result<std::vector<JobRow>> parse_jobs(std::string_view body) {
  Json json(body, "answer");
  std::vector<JobRow> rows;
  PERSEUS_RETURN_IF_ERROR(json.check(kMostAnswerBytes, "answer"));
  const core::Status read = json.map(64, [&](const std::string& list) -> core::Status {
    if (list != "jobs") return json.skip_value();
    return json.array(100'000, [&](std::size_t) -> core::Status {
      JobRow& row = rows.emplace_back();
      return json.map(256, [&](const std::string& name) { return read_member(json, name, row); });
    });
  });
  if (!read) return std::unexpected(read.error());
  PERSEUS_RETURN_IF_ERROR(json.end());
  return rows;
}

}  // namespace perseus::server
