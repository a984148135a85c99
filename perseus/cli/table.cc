// SPDX-License-Identifier: Apache-2.0
#include "perseus/cli/table.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace perseus::cli {
namespace {

constexpr int kSignificantDigits = 6;

/// Columns of a terminal that `text` takes: code points, as all our cells are made of narrow ones.
std::size_t width_of(const std::string& text) {
  return static_cast<std::size_t>(
      std::ranges::count_if(text, [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; }));
}

bool is_number(const std::string& cell) {
  return !cell.empty() && std::string_view("0123456789-+<").find(cell.front()) != std::string_view::npos;
}

std::string fixed(double value, int significant) {
  if (value == 0 || !std::isfinite(value)) return fmt::format("{}", value);
  const int before = static_cast<int>(std::floor(std::log10(std::abs(value)))) + 1;
  return fmt::format("{:.{}f}", value, std::max(0, significant - before));
}

}  // namespace

std::string Table::text() const {
  const std::size_t columns = header_.size();
  std::vector<std::size_t> width(columns, 0);
  std::vector<bool> right(columns, false);
  for (std::size_t c = 0; c < columns; ++c) {
    width[c] = width_of(header_[c]);
    for (const auto& row : rows_) width[c] = std::max(width[c], width_of(row[c]));
    right[c] = !rows_.empty() && is_number(rows_.front()[c]);
  }
  std::string out;
  const auto line = [&](const std::vector<std::string>& cells) {
    std::string text;
    for (std::size_t c = 0; c < columns; ++c) {
      const std::string pad(width[c] - width_of(cells[c]), ' ');
      text += (c == 0 ? "" : "  ") + (right[c] ? pad + cells[c] : cells[c] + pad);
    }
    text.erase(text.find_last_not_of(' ') + 1);
    out += text + '\n';
  };
  line(header_);
  std::vector<std::string> rule;
  for (const std::size_t w : width) {
    std::string dashes;
    for (std::size_t i = 0; i < w; ++i) dashes += "─";
    rule.push_back(dashes);
  }
  line(rule);
  for (const auto& row : rows_) line(row);
  return out;
}

std::string EnergyUnit::text(core::Joules e) const {
  return fixed(e.value() / joules, kSignificantDigits);
}

EnergyUnit energy_unit(core::Joules largest) {
  const double size = std::abs(largest.value());
  if (size < 1e4) return {"J", 1};
  if (size < 1e7) return {"kJ", 1e3};
  return {"MJ", 1e6};
}

std::string seconds_text(core::Seconds t) {
  const double size = std::abs(t.value());
  if (size != 0 && (size < 1e-6 || size > 1e9)) return fmt::format("{:.6g}", t.value());
  return fixed(t.value(), kSignificantDigits);
}

std::string percent_text(double share) {
  const double percent = 100 * share;
  if (std::abs(percent) >= 1 || percent == 0) return fmt::format("{:.1f} %", percent);
  if (std::abs(percent) < 0.001) return fmt::format("{:.1g} %", percent);
  return fmt::format("{:.3f} %", percent);
}

}  // namespace perseus::cli
