// SPDX-License-Identifier: Apache-2.0
//
// Colours of plots and page. The ramps are computed here (and handed to the page as data), so that every
// output uses the same ones. Lightness rises steadily along each ramp: they read the same in grey and to
// colour-blind eyes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "perseus/report/report.h"

namespace perseus::report {

/// sRGB with opacity.
struct Color {
  std::uint8_t red = 0, green = 0, blue = 0;
  double alpha = 1;
  friend bool operator==(const Color&, const Color&) = default;
};

/// "#rrggbb"; opacity is not included.
[[nodiscard]] std::string hex(Color color);

/// A colour in OKLCH (Ottosson 2020, "A perceptual color space for image processing"), clipped to sRGB.
/// lightness 0 to 1, chroma from 0, hue in degrees.
[[nodiscard]] Color oklch(double lightness, double chroma, double hue_degrees);

/// The ramp of `color_by` at `position` 0 (low) to 1 (high); positions outside are clamped, NaN counts as 0.
[[nodiscard]] Color ramp(ColorBy color_by, double position);

inline constexpr std::size_t kRampStops = 17;
/// Evenly spaced samples of a ramp, close enough for linear interpolation.
[[nodiscard]] std::array<Color, kRampStops> ramp_stops(ColorBy color_by);

// The light theme, as the page's style sheet has it too.
inline constexpr Color kPaper{255, 255, 255};
inline constexpr Color kInk{24, 28, 33};
inline constexpr Color kMuted{92, 100, 110};
inline constexpr Color kHairline{226, 229, 233};
inline constexpr Color kIdle{238, 240, 243};
inline constexpr Color kAccent{0, 114, 93};     ///< Perseus
inline constexpr Color kBaseline{178, 72, 16};  ///< what is run without it
inline constexpr Color kBound{120, 130, 142};   ///< the proven bound

}  // namespace perseus::report
