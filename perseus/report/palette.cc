// SPDX-License-Identifier: Apache-2.0
#include "perseus/report/palette.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace perseus::report {
namespace {

struct RampEnds {
  double lightness_low, lightness_high;
  double chroma_low, chroma_high;
  double hue_low, hue_high;
};

// Blue over teal to yellow, and violet over red to yellow: chosen by eye for contrast with both themes'
// backgrounds.
constexpr RampEnds kClockRamp{0.43, 0.88, 0.13, 0.155, 285, 105};
constexpr RampEnds kPowerRamp{0.40, 0.87, 0.15, 0.145, 300, 450};

double clamp_unit(double x) {
  return x > 0 ? std::min(x, 1.0) : 0.0;
}

std::uint8_t gamma_byte(double linear) {
  const double x = clamp_unit(linear);
  const double encoded = x <= 0.0031308 ? 12.92 * x : 1.055 * std::pow(x, 1 / 2.4) - 0.055;  // IEC 61966-2-1
  return static_cast<std::uint8_t>(std::lround(255 * encoded));
}

double cube(double x) {
  return x * x * x;
}

}  // namespace

std::string hex(Color color) {
  return fmt::format("#{:02x}{:02x}{:02x}", color.red, color.green, color.blue);
}

Color oklch(double lightness, double chroma, double hue_degrees) {
  const double hue = hue_degrees * std::numbers::pi / 180;
  const double a = chroma * std::cos(hue);
  const double b = chroma * std::sin(hue);
  // The matrices of the OKLab definition.
  const double l = cube(lightness + 0.3963377774 * a + 0.2158037573 * b);
  const double m = cube(lightness - 0.1055613458 * a - 0.0638541728 * b);
  const double s = cube(lightness - 0.0894841775 * a - 1.2914855480 * b);
  return {gamma_byte(4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s),
          gamma_byte(-1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s),
          gamma_byte(-0.0041960863 * l - 0.7034186147 * m + 1.7076147010 * s)};
}

Color ramp(ColorBy color_by, double position) {
  const double t = clamp_unit(position);
  const RampEnds& ends = color_by == ColorBy::kClock ? kClockRamp : kPowerRamp;
  return oklch(std::lerp(ends.lightness_low, ends.lightness_high, t),
               std::lerp(ends.chroma_low, ends.chroma_high, t), std::lerp(ends.hue_low, ends.hue_high, t));
}

std::array<Color, kRampStops> ramp_stops(ColorBy color_by) {
  std::array<Color, kRampStops> stops;
  for (std::size_t i = 0; i < kRampStops; ++i) {
    stops[i] = ramp(color_by, static_cast<double>(i) / (kRampStops - 1));
  }
  return stops;
}

}  // namespace perseus::report
