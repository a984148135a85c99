// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>

#include "perseus/report/canvas.h"
#include "perseus/report/json_out.h"

namespace perseus::report {
namespace {

constexpr std::string_view kFontFamily = "Inter, 'Helvetica Neue', Arial, sans-serif";

/// At most two decimals, none that say nothing: "12", "12.5", "-0.25".
std::string num(double x) {
  std::string text = fmt::format("{:.2f}", x);
  while (text.back() == '0') text.pop_back();
  if (text.back() == '.') text.pop_back();
  return text == "-0" ? "0" : text;
}

std::string opacity(std::string_view attribute, Color color) {
  return color.alpha < 1 ? fmt::format(" {}=\"{}\"", attribute, num(color.alpha)) : std::string();
}

std::string stroke_attributes(const Stroke& stroke) {
  return fmt::format("stroke=\"{}\" stroke-width=\"{}\"{}{}", hex(stroke.color), num(stroke.width),
                     opacity("stroke-opacity", stroke.color),
                     stroke.dashed ? " stroke-dasharray=\"4 4\"" : "");
}

std::string path_of(std::span<const Point> points) {
  std::string path;
  for (const Point& p : points) {
    path += fmt::format("{}{} {}", path.empty() ? "M" : "L", num(p.x), num(p.y));
  }
  return path;
}

class SvgCanvas final : public Canvas {
 public:
  SvgCanvas(Size size, std::string_view title) {
    out_ = fmt::format(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" viewBox=\"0 0 {0} {1}\" "
        "role=\"img\" "
        "font-family=\"{2}\">\n<title>{3}</title>\n",
        num(size.width), num(size.height), kFontFamily, escape_html(title));
    fill_rect({0, 0, size.width, size.height}, kPaper);
  }

  void fill_rects(std::span<const Rect> rects, Color color) override {
    if (rects.empty()) return;
    out_ += fmt::format("<path fill=\"{}\"{} d=\"", hex(color), opacity("fill-opacity", color));
    for (const Rect& r : rects) {
      out_ += fmt::format("M{} {}h{}v{}h{}z", num(r.x), num(r.y), num(r.width), num(r.height), num(-r.width));
    }
    out_ += "\"/>\n";
  }

  void polyline(std::span<const Point> points, const Stroke& stroke) override {
    if (points.empty()) return;
    out_ +=
        fmt::format("<path fill=\"none\" stroke-linejoin=\"round\" stroke-linecap=\"round\" {} d=\"{}\"/>\n",
                    stroke_attributes(stroke), path_of(points));
  }

  void fill_polygon(std::span<const Point> points, Color color) override {
    if (points.empty()) return;
    out_ += fmt::format("<path fill=\"{}\"{} d=\"{}z\"/>\n", hex(color), opacity("fill-opacity", color),
                        path_of(points));
  }

  void disc(Point centre, double radius, Color fill, const Stroke& ring) override {
    out_ +=
        fmt::format("<circle cx=\"{}\" cy=\"{}\" r=\"{}\" fill=\"{}\"{} {}/>\n", num(centre.x), num(centre.y),
                    num(radius), hex(fill), opacity("fill-opacity", fill), stroke_attributes(ring));
  }

  void text(Point at, std::string_view text, const TextStyle& style) override {
    constexpr std::string_view kAnchors[] = {"start", "middle", "end"};
    out_ += fmt::format(
        "<text x=\"{}\" y=\"{}\" font-size=\"{}\" fill=\"{}\"{}{}>{}</text>\n", num(at.x), num(at.y),
        num(style.size), hex(style.color),
        style.anchor == Anchor::kStart
            ? std::string()
            : fmt::format(" text-anchor=\"{}\"", kAnchors[static_cast<std::size_t>(style.anchor)]),
        style.bold ? " font-weight=\"600\"" : "", escape_html(text));
  }

  core::Result<std::string> finish() override {
    out_ += "</svg>\n";
    return std::move(out_);
  }

 private:
  std::string out_;
};

}  // namespace

std::unique_ptr<Canvas> svg_canvas(Size size, std::string_view title) {
  return std::make_unique<SvgCanvas>(size, title);
}

double text_width(std::string_view text, double font_size) {
  constexpr double kMeanAdvance = 0.56;  // em; assumed, a little wider than Inter's digits and lower case
  const auto starts =
      std::ranges::count_if(text, [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; });
  return kMeanAdvance * font_size * static_cast<double>(starts);
}

}  // namespace perseus::report
