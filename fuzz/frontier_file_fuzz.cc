// SPDX-License-Identifier: Apache-2.0
//
// A stored frontier from its bytes to a plan. The input is the file without its envelope (magic, version,
// SHA-256): no fuzzer guesses a digest, and whoever forges a file can compute one. What is read is written
// back the same; what Frontier::from_data accepts answers every target between T_min and beyond its end.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "perseus/core/problem.h"
#include "perseus/format/frontier_file.h"
#include "perseus/format/sha256.h"
#include "perseus/solver/frontier.h"

namespace {

constexpr std::size_t kMostComputations = 2000;  // keeps one run short

std::string in_envelope(std::string_view body) {
  std::string file("PERSEUSF\x01\0\0\0", 12);
  file += body;
  const auto hex = perseus::format::sha256_hex(file);
  if (!hex) std::abort();
  for (std::size_t i = 0; i < hex->size(); i += 2) {
    file += static_cast<char>(std::stoi(hex->substr(i, 2), nullptr, 16));
  }
  return file;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using perseus::core::Seconds;
  const std::string file = in_envelope({reinterpret_cast<const char*>(data), size});
  auto stored = perseus::format::parse_frontier_file(file, "fuzz");
  if (!stored) return 0;
  const auto written = perseus::format::write_frontier_file(stored->problem, stored->data, stored->fit);
  if (!written) std::abort();
  const auto again = perseus::format::parse_frontier_file(*written, "again");
  if (!again || !(again->data == stored->data) || again->fit != stored->fit) std::abort();

  if (stored->problem.size() > kMostComputations) return 0;
  const auto frontier = perseus::solver::Frontier::from_data(stored->problem, std::move(stored->data));
  if (!frontier) return 0;
  if (frontier->t_min() > frontier->t_star() || frontier->t_star() > frontier->t_max()) std::abort();
  if (frontier->breakpoints().size() != frontier->breakpoint_count()) std::abort();
  for (const Seconds target :
       {frontier->t_min(), 0.5 * (frontier->t_min() + frontier->t_star()), frontier->t_max()}) {
    const auto relaxed = frontier->at(target);
    if (relaxed && relaxed->duration.size() != frontier->problem().size()) std::abort();
  }
  return 0;
}
