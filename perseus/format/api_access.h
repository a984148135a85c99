// SPDX-License-Identifier: Apache-2.0
//
// What both ends of the server's API read alike: where a server is, the file with a token, names in paths.
//
//   PERSEUS_ASSIGN_OR_RETURN(const ServerUrl at, parse_server_url("https://head-node:7787"));
//   PERSEUS_ASSIGN_OR_RETURN(const std::string token, read_token("/etc/perseus/token"));
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "perseus/core/result.h"

namespace perseus::format {

/// Where a server is.
struct ServerUrl {
  bool tls = false;
  std::string host;  ///< a name or a number, without brackets
  std::uint16_t port = 7787;
};

/// "http://127.0.0.1:7787", "https://head-node", "[::1]:7787" (http is meant). kUsage for anything else.
[[nodiscard]] core::Result<ServerUrl> parse_server_url(const std::string& text);

/// Most bytes of a file of tokens (assumed: some thousand jobs).
inline constexpr std::size_t kMaxTokenFileBytes = std::size_t{1} << 20U;
/// Least and most bytes of a token: 128 bits in hexadecimal; RFC 6750 names no upper limit (assumed).
inline constexpr std::size_t kLeastTokenBytes = 32;
inline constexpr std::size_t kMostTokenBytes = 256;

/// Whether `text` is kLeastTokenBytes to kMostTokenBytes of the characters of RFC 6750's b68token:
/// A-Z a-z 0-9 - . _ ~ + / =
[[nodiscard]] bool is_token(std::string_view text);

/// The bytes of a file with secrets: regular, closed to all but its owner, who is this user or root
/// (kPermission); at most kMaxTokenFileBytes (kLimit). kNotFound, kIo. Never waits for a pipe.
[[nodiscard]] core::Result<std::string> read_private_file(const std::string& path);

/// One token for a client: the last word of the first line of such a file, so that a line of the server's own
/// file will do. kInvalidInput where that is no token. No message shows it.
[[nodiscard]] core::Result<std::string> read_token(const std::string& path);

/// Refuses a name that is not 1 to 128 of the characters A-Z a-z 0-9 . _ + - with a letter or digit first
/// (kInvalidInput). `what` says whose name it is. So no name is a path, a number with a sign, or needs
/// escaping.
[[nodiscard]] core::Status check_name(std::string_view name, std::string_view what);

}  // namespace perseus::format
