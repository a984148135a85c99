// SPDX-License-Identifier: Apache-2.0
#include "perseus/server/http_types.h"

#include <fmt/format.h>

#include <algorithm>

#include "perseus/format/text.h"
#include "perseus/server/json_text.h"

namespace perseus::server {
namespace {

using core::ErrorCode;
using core::fail;

std::unexpected<core::Error> refuse(std::string_view what) {
  return fail(ErrorCode::kInvalidInput, fmt::format("the request target {}", what));
}

int hex(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

core::Result<std::string> decoded(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    const int high = i + 2 < text.size() ? hex(text[i + 1]) : -1;
    const int low = i + 2 < text.size() ? hex(text[i + 2]) : -1;
    if (high < 0 || low < 0) return refuse("has a broken escape");
    out += static_cast<char>(high * 16 + low);
    i += 2;
  }
  const auto control = [](char c) { return (c >= 0 && c < ' ') || c == '\x7f'; };
  if (format::find_bad_byte(out) || std::ranges::any_of(out, control)) {
    return refuse("holds what is no text");
  }
  return out;
}

core::Status read_path(std::string_view path, Target& out) {
  path.remove_prefix(1);
  while (!path.empty()) {
    const std::size_t end = std::min(path.find('/'), path.size());
    PERSEUS_ASSIGN_OR_RETURN(std::string segment, decoded(path.substr(0, end)));
    if (segment.empty() || segment == "." || segment == "..")
      return refuse("has an empty or relative segment");
    out.path.push_back(std::move(segment));
    path.remove_prefix(std::min(path.size(), end + 1));
  }
  return {};
}

core::Status read_query(std::string_view query, Target& out) {
  while (!query.empty()) {
    const std::size_t end = std::min(query.find('&'), query.size());
    const std::string_view item = query.substr(0, end);
    const std::size_t equals = std::min(item.find('='), item.size());
    PERSEUS_ASSIGN_OR_RETURN(std::string name, decoded(item.substr(0, equals)));
    PERSEUS_ASSIGN_OR_RETURN(std::string value, decoded(item.substr(std::min(item.size(), equals + 1))));
    if (out.find(name)) return refuse(fmt::format("names {} twice", format::quoted(name)));
    out.query.emplace_back(std::move(name), std::move(value));
    query.remove_prefix(std::min(query.size(), end + 1));
  }
  return {};
}

}  // namespace

std::optional<std::string_view> Target::find(std::string_view name) const {
  const auto found =
      std::ranges::find(query, name, [](const auto& pair) -> std::string_view { return pair.first; });
  return found == query.end() ? std::nullopt : std::optional<std::string_view>(found->second);
}

core::Result<Target> parse_target(std::string_view target) {
  if (target.size() > kMaxTargetBytes) {
    return fail(ErrorCode::kLimit, fmt::format("the request target has {} bytes; the limit is {}",
                                               target.size(), kMaxTargetBytes));
  }
  if (!target.starts_with('/')) return refuse("does not begin with '/'");
  if (!std::ranges::all_of(target, [](char c) { return c > ' ' && c <= '~'; })) {
    return refuse("holds a byte outside printable ASCII");
  }
  Target out;
  const std::size_t question = std::min(target.find('?'), target.size());
  PERSEUS_RETURN_IF_ERROR(read_path(target.substr(0, question), out));
  PERSEUS_RETURN_IF_ERROR(read_query(target.substr(std::min(target.size(), question + 1)), out));
  return out;
}

bool is_loopback_host(std::string_view host) {
  const std::size_t bracket = host.starts_with('[') ? host.find(']') : 0;
  if (bracket == std::string_view::npos) return false;
  const std::size_t colon = host.find(':', bracket);
  const std::string_view name = host.substr(0, colon);
  if (colon != std::string_view::npos) {
    const std::string_view port = host.substr(colon + 1);
    if (port.empty() || port.find_first_not_of("0123456789") != std::string_view::npos) return false;
  }
  return name == "localhost" || name == "127.0.0.1" || name == "[::1]";
}

HttpResponse json_response(std::string body, unsigned status) {
  return {status, "application/json", std::make_shared<const std::string>(std::move(body)), std::nullopt};
}

unsigned http_status(ErrorCode code) {
  switch (code) {
    case ErrorCode::kUsage:
    case ErrorCode::kInvalidInput:
      return 400;
    case ErrorCode::kPermission:
      return 403;
    case ErrorCode::kNotFound:
      return 404;
    case ErrorCode::kBusy:
      return 409;
    case ErrorCode::kLimit:
      return 413;
    case ErrorCode::kInfeasible:
    case ErrorCode::kClaimFalse:
    case ErrorCode::kOverflow:
    case ErrorCode::kUnsupported:
      return 422;
    case ErrorCode::kIo:
    case ErrorCode::kTimeout:
      return 503;
    case ErrorCode::kDeviceLost:
    case ErrorCode::kDriver:
    case ErrorCode::kInternal:
      break;
  }
  return 500;
}

HttpResponse error_response(unsigned status, std::string_view code, std::string_view message) {
  JsonText out;
  out.begin_object().key("error").begin_object().key("code").text(code).key("message").text(message);
  out.end_object().end_object();
  return json_response(out.take(), status);
}

HttpResponse method_not_allowed(std::string_view allowed) {
  HttpResponse answer = error_response(405, "usage", fmt::format("this path takes {}", allowed));
  answer.allow = allowed;
  return answer;
}

HttpResponse error_response(const core::Error& error) {
  return error_response(http_status(error.code()), core::info(error.code()).name, error.text());
}

}  // namespace perseus::server
