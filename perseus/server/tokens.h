// SPDX-License-Identifier: Apache-2.0
//
// Who may do what: bearer tokens from a file.
//
//   # one token a line; blank lines and lines with '#' first are skipped
//   admin TOKEN
//   read TOKEN
//   job gpt3-175b TOKEN
//
// A token is 32 to 256 of the characters of RFC 6750's b68token: A-Z a-z 0-9 - . _ ~ + / =
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "perseus/core/result.h"

namespace perseus::server {

enum class Role : std::uint8_t {
  kRead,   ///< may look at everything, change nothing
  kJob,    ///< may do everything to one job and see nothing else
  kAdmin,  ///< everything
};

/// Whom a token stands for.
struct Principal {
  Role role = Role::kAdmin;
  std::string job;  ///< kJob only

  /// Whether it may look at or change `job`; an empty `job` is the whole server.
  [[nodiscard]] bool may_read(std::string_view job) const;
  [[nodiscard]] bool may_change(std::string_view job) const;
};

/// Tokens by their SHA-256; the tokens themselves are not kept. Immutable; thread-safe to read.
class TokenTable {
 public:
  /// Refused with the line (kInvalidInput): another role, a job that is no name, a token that is too short,
  /// too long or of other characters, a token that stands twice, a file without tokens.
  static core::Result<TokenTable> parse(std::string_view text, const std::string& source);
  /// Reads a file, which must be a regular one that only its owner (this user or root) can read or write
  /// (kPermission).
  static core::Result<TokenTable> read(const std::string& path);

  /// Whom a token stands for; nothing for an unknown one. Takes the same time for every token of one length.
  [[nodiscard]] std::optional<Principal> find(std::string_view token) const;

 private:
  struct Entry {
    std::array<std::uint8_t, 32> digest{};
    Principal principal;
  };
  std::vector<Entry> entries_;
};

/// The token of an Authorization header "Bearer TOKEN" (the scheme in any case), or nothing.
[[nodiscard]] std::optional<std::string_view> bearer_token(std::string_view header);

}  // namespace perseus::server
