// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "perseus/report/inputs.h"
#include "perseus/report/json_out.h"
#include "perseus/report/page_data.h"
#include "perseus/report/page_files.h"
#include "perseus/report/report.h"

namespace perseus::report {
namespace {

std::string joined(std::string_view suffix) {
  std::string text;
  for (const PageFile& file : page_files()) {
    if (file.name.ends_with(suffix)) text += file.text;
  }
  return text;
}

/// The source expression that lets exactly this inline text run under a Content-Security-Policy.
core::Result<std::string> csp_hash(std::string_view text) {
  std::array<std::uint8_t, EVP_MAX_MD_SIZE> digest{};
  unsigned length = 0;
  if (EVP_Digest(text.data(), text.size(), digest.data(), &length, EVP_sha256(), nullptr) != 1) {
    return core::fail(core::ErrorCode::kInternal, "OpenSSL could not compute a SHA-256");
  }
  return fmt::format("'sha256-{}'", base64({digest.data(), length}));
}

using Filling = std::pair<std::string_view, std::string_view>;

/// One pass over the template, so that a filling may contain what looks like a slot.
core::Result<std::string> fill(std::string_view text, std::span<const Filling> fillings) {
  std::string out;
  for (;;) {
    const std::size_t open = text.find("{{");
    out += text.substr(0, open);
    if (open == std::string_view::npos) return out;
    const std::size_t close = text.find("}}", open);
    const std::string_view slot = text.substr(open + 2, close - open - 2);
    const auto it = std::ranges::find(fillings, slot, &Filling::first);
    if (close == std::string_view::npos || it == fillings.end()) {
      return core::fail(core::ErrorCode::kInternal, fmt::format("the page has an unknown slot {}", slot));
    }
    out += it->second;
    text.remove_prefix(close + 2);
  }
}

}  // namespace

core::Result<std::string> write_html(const ReportInputs& inputs) {
  PERSEUS_RETURN_IF_ERROR(check_inputs(inputs));
  const std::string style = joined(".css");
  const std::string script = joined(".js");
  PERSEUS_ASSIGN_OR_RETURN(const std::string style_hash, csp_hash(style));
  PERSEUS_ASSIGN_OR_RETURN(const std::string script_hash, csp_hash(script));
  const std::string policy =
      fmt::format("default-src 'none'; script-src {}; style-src {}; base-uri 'none'; form-action 'none'",
                  script_hash, style_hash);
  const std::string title = escape_html(inputs.title);
  const std::string data = page_data(inputs);
  const std::array<Filling, 5> fillings{
      {{"policy", policy}, {"title", title}, {"style", style}, {"script", script}, {"data", data}}};
  return fill(joined(".html"), fillings);
}

}  // namespace perseus::report
