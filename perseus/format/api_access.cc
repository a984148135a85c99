// SPDX-License-Identifier: Apache-2.0
#include "perseus/format/api_access.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "perseus/format/numbers.h"
#include "perseus/format/text.h"

namespace perseus::format {
namespace {

using core::ErrorCode;
using core::fail;

constexpr std::size_t kMostNameBytes = 128;

bool is_alphanumeric(char c) {
  return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

core::Status check_private(int fd, const std::string& path) {
  struct stat status{};
  if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
    return fail(ErrorCode::kPermission, "is no regular file", {path});
  }
  if ((status.st_mode & 077U) != 0) {
    return fail(ErrorCode::kPermission,
                fmt::format("has mode {:04o}; tokens need 0600 or less", status.st_mode & 07777U), {path});
  }
  if (status.st_uid != geteuid() && status.st_uid != 0) {
    return fail(ErrorCode::kPermission,
                fmt::format("belongs to uid {}, not to this user or root", status.st_uid), {path});
  }
  return {};
}

/// The last word of a line.
std::string_view last_word(std::string_view line) {
  constexpr std::string_view kBlanks = " \t\r";
  const std::size_t end = line.find_last_not_of(kBlanks);
  if (end == std::string_view::npos) return {};
  line = line.substr(0, end + 1);
  return line.substr(line.find_last_of(kBlanks) + 1);
}

}  // namespace

core::Result<ServerUrl> parse_server_url(const std::string& text) {
  ServerUrl out;
  std::string_view left = text;
  if (left.starts_with("https://")) out.tls = true;
  for (const std::string_view scheme : {"https://", "http://"}) {
    if (left.starts_with(scheme)) left.remove_prefix(scheme.size());
  }
  if (left.ends_with('/')) left.remove_suffix(1);
  const auto refuse = [&] {
    return fail(ErrorCode::kUsage,
                fmt::format("{} is no server: http://HOST:PORT or https://HOST:PORT", quoted(text)));
  };
  const bool bracketed = left.starts_with('[');
  const std::size_t end = bracketed ? left.find(']') : std::min(left.find(':'), left.size());
  if (end == std::string_view::npos) return refuse();
  out.host = left.substr(bracketed ? 1 : 0, bracketed ? end - 1 : end);
  left.remove_prefix(std::min(left.size(), bracketed ? end + 1 : end));
  if (out.host.empty() || out.host.find_first_of("/@? \r\n") != std::string::npos) return refuse();
  if (left.empty()) return out;
  const auto port = parse_integer<std::uint16_t>(left.substr(1));
  if (left.front() != ':' || !port || *port == 0) return refuse();
  out.port = *port;
  return out;
}

bool is_token(std::string_view text) {
  return text.size() >= kLeastTokenBytes && text.size() <= kMostTokenBytes &&
         std::ranges::all_of(text, [](char c) {
           return is_alphanumeric(c) || std::string_view("-._~+/=").find(c) != std::string_view::npos;
         });
}

core::Result<std::string> read_private_file(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) {
    return fail(errno == ENOENT ? ErrorCode::kNotFound : ErrorCode::kIo,
                std::generic_category().message(errno), {path});
  }
  core::Status fits = check_private(fd, path);
  std::string text(kMaxTokenFileBytes + 1, '\0');
  std::size_t size = 0;
  while (fits && size < text.size()) {
    const ssize_t got = ::read(fd, text.data() + size, text.size() - size);
    if (got < 0) fits = fail(ErrorCode::kIo, std::generic_category().message(errno), {path});
    if (got <= 0) break;
    size += static_cast<std::size_t>(got);
  }
  ::close(fd);
  if (!fits) return std::unexpected(fits.error());
  if (size > kMaxTokenFileBytes)
    return fail(ErrorCode::kLimit, fmt::format("more than {} bytes", kMaxTokenFileBytes), {path});
  text.resize(size);
  return text;
}

core::Result<std::string> read_token(const std::string& path) {
  PERSEUS_ASSIGN_OR_RETURN(const std::string text, read_private_file(path));
  const std::string_view token = last_word(std::string_view(text).substr(0, text.find('\n')));
  if (is_token(token)) return std::string(token);
  return fail(ErrorCode::kInvalidInput, "does not hold a token in its first line", {path});
}

core::Status check_name(std::string_view name, std::string_view what) {
  const bool fits = !name.empty() && name.size() <= kMostNameBytes && is_alphanumeric(name.front()) &&
                    std::ranges::all_of(name, [](char c) {
                      return is_alphanumeric(c) || c == '.' || c == '_' || c == '+' || c == '-';
                    });
  if (fits) return {};
  return fail(ErrorCode::kInvalidInput,
              fmt::format("{} is no name of a {}: 1 to {} of A-Z a-z 0-9 . _ + -, a letter or digit first",
                          quoted(name), what, kMostNameBytes));
}

}  // namespace perseus::format
