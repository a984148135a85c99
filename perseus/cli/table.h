// SPDX-License-Identifier: Apache-2.0
//
// Tables for people: aligned columns under a header with units.
//
//   Table table({"time s", "energy kJ"});
//   table.row({"1.250", "310.2"});
//   out << table.text();
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "perseus/core/units.h"

namespace perseus::cli {

/// A plain text table. Cells that begin with a digit, sign or '<' are aligned right, others left, by the
/// column's first row.
class Table {
 public:
  explicit Table(std::vector<std::string> header) : header_(std::move(header)) {}
  /// Appends a row of as many cells as the header has.
  void row(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
  /// The rendered table, each line ended by '\n' and without trailing blanks.
  [[nodiscard]] std::string text() const;

 private:
  std::vector<std::string> header_;
  std::vector<std::vector<std::string>> rows_;
};

/// Scale for a column of energies: J below 10 kJ, kJ below 10 MJ, then MJ.
struct EnergyUnit {
  const char* name;
  double joules;
  /// The number without the unit, 6 significant digits.
  [[nodiscard]] std::string text(core::Joules e) const;
};
/// The unit in which the largest of a column reads well.
[[nodiscard]] EnergyUnit energy_unit(core::Joules largest);

/// Seconds with 6 significant digits, never in exponent form between 1e-6 and 1e9.
[[nodiscard]] std::string seconds_text(core::Seconds t);
/// "12.3 %" with one digit, or "<0.1 %"-like small values with two significant digits.
[[nodiscard]] std::string percent_text(double share);

}  // namespace perseus::cli
