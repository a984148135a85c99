// SPDX-License-Identifier: Apache-2.0
#include "perseus/server/tokens.h"

#include <fmt/format.h>
#include <openssl/crypto.h>
#include <openssl/sha.h>

#include <algorithm>

#include "perseus/server/names.h"

namespace perseus::server {
namespace {

using core::ErrorCode;
using core::fail;
using format::is_token;
using format::kLeastTokenBytes;
using format::kMostTokenBytes;

std::array<std::uint8_t, 32> digest_of(std::string_view token) {
  std::array<std::uint8_t, 32> out{};
  SHA256(reinterpret_cast<const unsigned char*>(token.data()), token.size(), out.data());
  return out;
}

std::vector<std::string_view> words_of(std::string_view line) {
  std::vector<std::string_view> words;
  constexpr std::string_view kBlanks = " \t\r";
  while (true) {
    const std::size_t begin = line.find_first_not_of(kBlanks);
    if (begin == std::string_view::npos) return words;
    line.remove_prefix(begin);
    const std::size_t end = std::min(line.find_first_of(kBlanks), line.size());
    words.push_back(line.substr(0, end));
    line.remove_prefix(end);
  }
}

/// Whom a line names; its last word is the token. No message shows a token.
core::Result<Principal> principal_of(const std::vector<std::string_view>& words, const core::Origin& origin) {
  const std::string_view role = words.front();
  if ((role == "admin" || role == "read") && words.size() == 2) {
    return Principal{role == "admin" ? Role::kAdmin : Role::kRead, ""};
  }
  if (role == "job" && words.size() == 3) {
    if (const auto fits = check_name(words[1], "job"); !fits) return std::unexpected(fits.error().at(origin));
    return Principal{Role::kJob, std::string(words[1])};
  }
  return fail(ErrorCode::kInvalidInput, "is neither 'admin TOKEN', 'read TOKEN' nor 'job NAME TOKEN'",
              origin);
}

}  // namespace

bool Principal::may_read(std::string_view of) const {
  return role != Role::kJob || (!of.empty() && of == job);
}

bool Principal::may_change(std::string_view of) const {
  return role == Role::kAdmin || (role == Role::kJob && !of.empty() && of == job);
}

core::Result<TokenTable> TokenTable::parse(std::string_view text, const std::string& source) {
  TokenTable out;
  for (std::uint64_t line = 1; !text.empty(); ++line) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const auto words = words_of(text.substr(0, end));
    text.remove_prefix(std::min(text.size(), end + 1));
    if (words.empty() || words.front().starts_with('#')) continue;
    const core::Origin origin{source, line, 0};
    PERSEUS_ASSIGN_OR_RETURN(Principal principal, principal_of(words, origin));
    if (!is_token(words.back())) {
      return fail(ErrorCode::kInvalidInput,
                  fmt::format("the token is not {} to {} of A-Z a-z 0-9 - . _ ~ + / =", kLeastTokenBytes,
                              kMostTokenBytes),
                  origin);
    }
    if (out.find(words.back()))
      return fail(ErrorCode::kInvalidInput, "the token stands in an earlier line", origin);
    out.entries_.push_back({digest_of(words.back()), std::move(principal)});
  }
  if (out.entries_.empty()) return fail(ErrorCode::kInvalidInput, "holds no token", {source});
  return out;
}

core::Result<TokenTable> TokenTable::read(const std::string& path) {
  PERSEUS_ASSIGN_OR_RETURN(const std::string text, format::read_private_file(path));
  return parse(text, path);
}

std::optional<Principal> TokenTable::find(std::string_view token) const {
  const auto digest = digest_of(token);
  const Entry* found = nullptr;
  for (const Entry& entry : entries_) {
    if (CRYPTO_memcmp(entry.digest.data(), digest.data(), digest.size()) == 0) found = &entry;
  }
  return found == nullptr ? std::nullopt : std::optional(found->principal);
}

std::optional<std::string_view> bearer_token(std::string_view header) {
  constexpr std::string_view kScheme = "bearer ";
  if (header.size() <= kScheme.size()) return std::nullopt;
  for (std::size_t i = 0; i < kScheme.size(); ++i) {
    const char c = header[i];
    if ((c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c) != kScheme[i]) return std::nullopt;
  }
  const std::string_view token = header.substr(kScheme.size());
  return is_token(token) ? std::optional(token) : std::nullopt;
}

}  // namespace perseus::server
