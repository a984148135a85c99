// SPDX-License-Identifier: Apache-2.0
#include <cairo.h>

#include <cmath>
#include <numbers>

#include "perseus/report/canvas.h"
#include "perseus/report/json_out.h"

namespace perseus::report {
namespace {

struct SurfaceDeleter {
  void operator()(cairo_surface_t* surface) const { cairo_surface_destroy(surface); }
};
struct ContextDeleter {
  void operator()(cairo_t* context) const { cairo_destroy(context); }
};

cairo_status_t append(void* closure, const unsigned char* data, unsigned int length) {
  try {
    static_cast<std::string*>(closure)->append(reinterpret_cast<const char*>(data), length);
  } catch (const std::exception&) {
    return CAIRO_STATUS_NO_MEMORY;  // no exception may pass through cairo's C code
  }
  return CAIRO_STATUS_SUCCESS;
}

class PngCanvas final : public Canvas {
 public:
  PngCanvas(Size size, double scale)
      : surface_(cairo_image_surface_create(CAIRO_FORMAT_RGB24,
                                            static_cast<int>(std::ceil(size.width * scale)),
                                            static_cast<int>(std::ceil(size.height * scale)))),
        context_(cairo_create(surface_.get())) {
    cairo_scale(context_.get(), scale, scale);
    fill_rect({0, 0, size.width, size.height}, kPaper);
  }

  void fill_rects(std::span<const Rect> rects, Color color) override {
    for (const Rect& r : rects) cairo_rectangle(context_.get(), r.x, r.y, r.width, r.height);
    set_color(color);
    cairo_fill(context_.get());
  }

  void polyline(std::span<const Point> points, const Stroke& stroke) override {
    trace(points);
    cairo_set_line_join(context_.get(), CAIRO_LINE_JOIN_ROUND);
    cairo_set_line_cap(context_.get(), CAIRO_LINE_CAP_ROUND);
    apply(stroke);
  }

  void fill_polygon(std::span<const Point> points, Color color) override {
    trace(points);
    cairo_close_path(context_.get());
    set_color(color);
    cairo_fill(context_.get());
  }

  void disc(Point centre, double radius, Color fill, const Stroke& ring) override {
    cairo_new_sub_path(context_.get());
    cairo_arc(context_.get(), centre.x, centre.y, radius, 0, 2 * std::numbers::pi);
    set_color(fill);
    cairo_fill_preserve(context_.get());
    apply(ring);
  }

  void text(Point at, std::string_view text, const TextStyle& style) override {
    const std::string valid = valid_utf8(text.substr(0, text.find('\0')));
    cairo_select_font_face(context_.get(), "sans-serif", CAIRO_FONT_SLANT_NORMAL,
                           style.bold ? CAIRO_FONT_WEIGHT_BOLD : CAIRO_FONT_WEIGHT_NORMAL);
    cairo_set_font_size(context_.get(), style.size);
    cairo_text_extents_t extents{};
    cairo_text_extents(context_.get(), valid.c_str(), &extents);
    const double shift = style.anchor == Anchor::kStart ? 0 : extents.x_advance;
    cairo_move_to(context_.get(), at.x - (style.anchor == Anchor::kMiddle ? shift / 2 : shift), at.y);
    set_color(style.color);
    cairo_show_text(context_.get(), valid.c_str());
    cairo_new_path(context_.get());
  }

  core::Result<std::string> finish() override {
    std::string bytes;
    cairo_surface_flush(surface_.get());
    cairo_status_t status = cairo_status(context_.get());
    if (status == CAIRO_STATUS_SUCCESS) {
      status = cairo_surface_write_to_png_stream(surface_.get(), append, &bytes);
    }
    if (status == CAIRO_STATUS_SUCCESS) return bytes;
    return core::fail(core::ErrorCode::kInternal,
                      std::string("cairo could not draw the PNG: ") + cairo_status_to_string(status));
  }

 private:
  void set_color(Color c) {
    cairo_set_source_rgba(context_.get(), c.red / 255.0, c.green / 255.0, c.blue / 255.0, c.alpha);
  }

  void trace(std::span<const Point> points) {
    cairo_new_path(context_.get());
    for (const Point& p : points) cairo_line_to(context_.get(), p.x, p.y);
  }

  void apply(const Stroke& stroke) {
    constexpr double kDashes[] = {4, 4};
    cairo_set_dash(context_.get(), kDashes, stroke.dashed ? 2 : 0, 0);
    cairo_set_line_width(context_.get(), stroke.width);
    set_color(stroke.color);
    cairo_stroke(context_.get());
  }

  std::unique_ptr<cairo_surface_t, SurfaceDeleter> surface_;
  std::unique_ptr<cairo_t, ContextDeleter> context_;
};

}  // namespace

std::unique_ptr<Canvas> png_canvas(Size size, double scale) {
  return std::make_unique<PngCanvas>(size, scale);
}

}  // namespace perseus::report
