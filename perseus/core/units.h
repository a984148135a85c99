// SPDX-License-Identifier: Apache-2.0
//
// Physical quantities as types, so that a time is never added to an energy.
//
//   Seconds t{0.25};
//   Joules e = Watts{300} * t;        // 75 J
//   double ratio = t / Seconds{0.5};  // 0.5
//   // t + e;                         // does not compile (tests/compile_fail)
//
// Outside C++ a unit is a suffix of the name: time_s, energy_j, power_w, clock_mhz.
#pragma once

#include <compare>
#include <concepts>
#include <cstdint>

namespace perseus::core {

/// A real number with a unit. `Unit` is a tag type; the value is in the SI unit that the tag names.
/// Trivially copyable, as cheap as a double; all operations are pure and thread-safe.
template <class Unit>
class Quantity {
 public:
  constexpr Quantity() = default;
  /// Takes a number that is already in the SI unit of `Unit`. Explicit: a bare number has no unit.
  constexpr explicit Quantity(double value) : value_(value) {}
  /// The number in the SI unit of `Unit`; for edges of the program (printing, parsing, kernels) only.
  [[nodiscard]] constexpr double value() const { return value_; }

  constexpr Quantity& operator+=(Quantity other) { return value_ += other.value_, *this; }
  constexpr Quantity& operator-=(Quantity other) { return value_ -= other.value_, *this; }
  friend constexpr Quantity operator+(Quantity a, Quantity b) { return Quantity(a.value_ + b.value_); }
  friend constexpr Quantity operator-(Quantity a, Quantity b) { return Quantity(a.value_ - b.value_); }
  friend constexpr Quantity operator-(Quantity a) { return Quantity(-a.value_); }
  friend constexpr Quantity operator*(double k, Quantity a) { return Quantity(k * a.value_); }
  friend constexpr Quantity operator*(Quantity a, double k) { return Quantity(k * a.value_); }
  friend constexpr Quantity operator/(Quantity a, double k) { return Quantity(a.value_ / k); }
  friend constexpr double operator/(Quantity a, Quantity b) { return a.value_ / b.value_; }
  friend constexpr auto operator<=>(Quantity, Quantity) = default;

 private:
  double value_ = 0;
};

using Seconds = Quantity<struct SecondsTag>;  ///< time, s
using Joules = Quantity<struct JoulesTag>;    ///< energy, J
using Watts = Quantity<struct WattsTag>;      ///< power, W
using Celsius = Quantity<struct CelsiusTag>;  ///< temperature, degrees Celsius

constexpr Joules operator*(Watts p, Seconds t) {
  return Joules(p.value() * t.value());
}
constexpr Joules operator*(Seconds t, Watts p) {
  return p * t;
}
constexpr Watts operator/(Joules e, Seconds t) {
  return Watts(e.value() / t.value());
}

/// A GPU clock in MHz. Drivers offer whole megahertz only, so it is an integer; a clock that does not exist
/// is an absent std::optional, never 0.
class Megahertz {
 public:
  constexpr Megahertz() = default;
  constexpr explicit Megahertz(std::uint32_t mhz) : mhz_(mhz) {}
  /// A fraction is not silently cut off: round it first.
  explicit Megahertz(std::floating_point auto mhz) = delete;
  /// The number of megahertz; for edges of the program.
  [[nodiscard]] constexpr std::uint32_t value() const { return mhz_; }
  friend constexpr auto operator<=>(Megahertz, Megahertz) = default;

 private:
  std::uint32_t mhz_ = 0;
};

}  // namespace perseus::core
