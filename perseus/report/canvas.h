// SPDX-License-Identifier: Apache-2.0
//
// The few marks that a plot is made of. One drawing code, two canvases: SVG text and PNG pixels.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "perseus/core/result.h"
#include "perseus/report/palette.h"

namespace perseus::report {

/// In canvas units (CSS pixels); y grows downwards.
struct Point {
  double x = 0, y = 0;
};
struct Rect {
  double x = 0, y = 0, width = 0, height = 0;
};
struct Size {
  double width = 0, height = 0;
};

enum class Anchor : std::uint8_t { kStart, kMiddle, kEnd };

struct TextStyle {
  double size = 13;  ///< of the font, canvas units
  Color color = kInk;
  Anchor anchor = Anchor::kStart;
  bool bold = false;
};

struct Stroke {
  Color color = kInk;
  double width = 1;
  bool dashed = false;
};

/// A drawing in progress. Not thread-safe; used by one function at a time.
class Canvas {
 public:
  virtual ~Canvas() = default;
  /// Many rectangles of one colour; cheaper than one call each.
  virtual void fill_rects(std::span<const Rect> rects, Color color) = 0;
  virtual void polyline(std::span<const Point> points, const Stroke& stroke) = 0;
  virtual void fill_polygon(std::span<const Point> points, Color color) = 0;
  /// A disc with a ring around it.
  virtual void disc(Point centre, double radius, Color fill, const Stroke& ring) = 0;
  /// `at` is on the text's base line.
  virtual void text(Point at, std::string_view text, const TextStyle& style) = 0;
  /// Ends the drawing and gives its bytes. Errors: kInternal (the graphics library failed). Call once.
  virtual core::Result<std::string> finish() = 0;

  void fill_rect(const Rect& rect, Color color) { fill_rects({&rect, 1}, color); }
  void line(Point from, Point to, const Stroke& stroke) {
    const Point ends[] = {from, to};
    polyline(ends, stroke);
  }
};

/// An SVG 1.1 document; `title` is its accessible name.
[[nodiscard]] std::unique_ptr<Canvas> svg_canvas(Size size, std::string_view title);
/// PNG bytes of `scale` pixels per unit on a white ground.
[[nodiscard]] std::unique_ptr<Canvas> png_canvas(Size size, double scale);

/// Estimated width of a text in a usual sans-serif; for placing labels. Counts code points.
[[nodiscard]] double text_width(std::string_view text, double font_size);

}  // namespace perseus::report
