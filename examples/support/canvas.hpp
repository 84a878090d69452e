#ifndef DIFFUSION_EXAMPLES_CANVAS_HPP
#define DIFFUSION_EXAMPLES_CANVAS_HPP

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "support/image.hpp"
#include "support/stroke_font.hpp"

namespace examples {

/// Red, green, blue in 0..255, and how opaque, in [0, 1].
struct Color {
  std::uint8_t red = 0;
  std::uint8_t green = 0;
  std::uint8_t blue = 0;
  double opacity = 1;

  Color with_opacity(double value) const { return {red, green, blue, value}; }
};

inline constexpr Color black{20, 20, 20};
inline constexpr Color grey{120, 120, 120};
inline constexpr Color light_grey{226, 226, 226};

/// Distinct colours for the lines of a plot, told apart by the colour-blind as well (the set of
/// Okabe and Ito); after twelve they repeat.
inline Color series_color(std::size_t i) {
  constexpr std::array<Color, 12> colors{
      Color{0, 114, 178}, Color{213, 94, 0},   Color{0, 158, 115},  Color{204, 121, 167},
      Color{230, 159, 0}, Color{86, 180, 233}, Color{110, 85, 160}, Color{100, 100, 100},
      Color{140, 20, 20}, Color{20, 60, 30},   Color{160, 110, 60}, Color{30, 30, 120}};
  return colors[i % colors.size()];
}

/// Where a text stands relative to its point.
enum class Align { left, center, right };

/// A picture to draw on, with smooth edges. Coordinates are in pixels from the upper left corner;
/// (0.5, 0.5) is the middle of the first pixel.
class Canvas {
 public:
  Canvas(int width, int height, std::uint8_t background = 255)
      : image_(width, height, 3, background),
        coverage_(image_.pixels.size() / 3, 0.0F),
        clip_right_(width),
        clip_bottom_(height) {}

  const Image& image() const { return image_; }
  int width() const { return image_.width; }
  int height() const { return image_.height; }

  /// Draws nothing outside this rectangle until the next call.
  void clip(double left, double top, double right, double bottom) {
    clip_left_ = pixel(left, width());
    clip_top_ = pixel(top, height());
    clip_right_ = pixel(right, width());
    clip_bottom_ = pixel(bottom, height());
  }
  void unclip() { clip(0, 0, width(), height()); }

  void rectangle(double left, double top, double right, double bottom, Color color) {
    for (int y = std::max(clip_top_, pixel(top, height()));
         y < std::min(clip_bottom_, pixel(bottom, height())); ++y) {
      for (int x = std::max(clip_left_, pixel(left, width()));
           x < std::min(clip_right_, pixel(right, width())); ++x) {
        blend(x, y, color, 1);
      }
    }
  }

  /// A line through the points with round ends and joints. Where a coordinate is not finite the
  /// line is interrupted; a single point gives a dot.
  void polyline(std::span<const Point> points, Color color, double line_width = 1.6) {
    Box touched;
    for (std::size_t i = 0; i < points.size(); ++i) {
      const Point b = points[i];
      const Point a = i > 0 && finite(points[i - 1]) ? points[i - 1] : b;
      if (finite(b)) cover_segment(a, b, line_width / 2, touched);
    }
    paint(touched, color);
  }

  void line(Point a, Point b, Color color, double line_width = 1) {
    polyline(std::array{a, b}, color, line_width);
  }

  void disc(Point center, double radius, Color color) {
    if (!finite(center)) return;
    Box touched;
    cover_segment(center, center, radius, touched);
    paint(touched, color);
  }

  /// A line of text whose capitals are `size` pixels high and which stands on y; `upward` turns it
  /// by a quarter, to be read from below to above.
  void text(Point at, std::string_view words, double size = 9, Color color = black,
            Align align = Align::left, bool upward = false) {
    const double unit = size / 9;
    const double width = stroke_text_width(words) * unit;
    const double shift = align == Align::left ? 0 : align == Align::center ? width / 2 : width;
    Box touched;
    for (const std::vector<Point>& stroke : stroke_text(words)) {
      Point before;
      for (std::size_t i = 0; i < stroke.size(); ++i) {
        const double along = stroke[i].x * unit - shift;
        const double across = stroke[i].y * unit;
        const Point now =
            upward ? Point{at.x + across, at.y - along} : Point{at.x + along, at.y + across};
        cover_segment(i == 0 ? now : before, now, 0.07 * size, touched);
        before = now;
      }
    }
    paint(touched, color);
  }

  /// Copies a picture with its upper left corner at (left, top), every pixel `scale` wide.
  void picture(const Image& tile, int left, int top, int scale = 1) {
    paste(image_, to_rgb(upscale(tile, scale)), left, top);
  }

 private:
  struct Box {
    int left = std::numeric_limits<int>::max();
    int top = std::numeric_limits<int>::max();
    int right = 0;
    int bottom = 0;
  };

  static bool finite(Point p) { return std::isfinite(p.x) && std::isfinite(p.y); }

  static int pixel(double value, int limit) {
    return static_cast<int>(std::lround(std::clamp(value, 0.0, static_cast<double>(limit))));
  }

  // Notes, pixel by pixel, how much of it the segment from a to b, `radius` thick to each side,
  // covers. The maximum, not the sum: the joints of a transparent line are not darker.
  void cover_segment(Point a, Point b, double radius, Box& touched) {
    const double reach = radius + 1;
    const int left = std::max(clip_left_, pixel(std::min(a.x, b.x) - reach, width()));
    const int right = std::min(clip_right_, pixel(std::max(a.x, b.x) + reach, width()));
    const int top = std::max(clip_top_, pixel(std::min(a.y, b.y) - reach, height()));
    const int bottom = std::min(clip_bottom_, pixel(std::max(a.y, b.y) + reach, height()));
    const Point d{b.x - a.x, b.y - a.y};
    const double length_squared = d.x * d.x + d.y * d.y;
    for (int y = top; y < bottom; ++y) {
      for (int x = left; x < right; ++x) {
        const Point p{x + 0.5 - a.x, y + 0.5 - a.y};
        const double along =
            length_squared > 0 ? std::clamp((p.x * d.x + p.y * d.y) / length_squared, 0.0, 1.0) : 0;
        const double distance = std::hypot(p.x - along * d.x, p.y - along * d.y);
        const double inside = std::clamp(radius + 0.5 - distance, 0.0, std::min(1.0, 2 * radius));
        float& covered = coverage_[image_.index(x, y) / 3];
        covered = std::max(covered, static_cast<float>(inside));
      }
    }
    touched = {std::min(touched.left, left), std::min(touched.top, top),
               std::max(touched.right, right), std::max(touched.bottom, bottom)};
  }

  void paint(const Box& touched, Color color) {
    for (int y = touched.top; y < touched.bottom; ++y) {
      for (int x = touched.left; x < touched.right; ++x) {
        float& covered = coverage_[image_.index(x, y) / 3];
        if (covered > 0) blend(x, y, color, static_cast<double>(covered));
        covered = 0;
      }
    }
  }

  void blend(int x, int y, Color color, double covered) {
    const double weight = std::clamp(color.opacity, 0.0, 1.0) * covered;
    const std::array<std::uint8_t, 3> target{color.red, color.green, color.blue};
    for (int channel = 0; channel < 3; ++channel) {
      std::uint8_t& value = image_.at(x, y, channel);
      const double mixed =
          value + weight * (target[static_cast<std::size_t>(channel)] - double{1} * value);
      value = static_cast<std::uint8_t>(std::lround(mixed));
    }
  }

  Image image_;
  std::vector<float> coverage_;  // all 0 between two calls
  int clip_left_ = 0;
  int clip_top_ = 0;
  int clip_right_;
  int clip_bottom_;
};

// ---- plots --------------------------------------------------------------------------------------

/// One axis of a plot. Without a range it spans the data.
struct Axis {
  std::string label{};
  double low = std::numeric_limits<double>::quiet_NaN();
  double high = std::numeric_limits<double>::quiet_NaN();
  bool logarithmic = false;  ///< values that are not above 0 are left out
};

/// Points that belong together, drawn as a line, as dots, or both.
struct Series {
  std::string label{};          ///< in the legend; empty for none
  std::vector<Point> points{};  ///< in the units of the axes
  Color color{};
  double line_width = 1.8;  ///< pixels; 0 for no line
  double dot_radius = 0;    ///< pixels; 0 for no dots
};

/// Where a plot's legend stands.
enum class Legend {
  none,
  automatic,
  upper_left,
  upper_right,
  lower_left,
  lower_right,
  upper_center,
  lower_center
};

/// One plot: axes, a title, and what is drawn in it.
struct Panel {
  std::string title{};
  Axis x{};
  Axis y{};
  std::vector<Series> series{};
  bool same_scale = false;  ///< a unit of x is as long as one of y
  bool show_axes = true;
  Legend legend = Legend::automatic;  ///< automatic: the place that hides the fewest points

  /// Adds a line in the next colour; ys[i] stands at xs[i].
  void add_line(std::string label, std::span<const double> xs, std::span<const double> ys) {
    series.push_back({.label = std::move(label),
                      .points = joined(xs, ys),
                      .color = series_color(series.size())});
  }

  /// Adds dots without a line.
  void add_dots(std::string label, std::vector<Point> points, Color color, double radius = 1.5) {
    series.push_back({.label = std::move(label),
                      .points = std::move(points),
                      .color = color,
                      .line_width = 0,
                      .dot_radius = radius});
  }

 private:
  static std::vector<Point> joined(std::span<const double> xs, std::span<const double> ys) {
    if (xs.size() != ys.size()) {
      throw std::invalid_argument("a line of " + std::to_string(xs.size()) + " x and " +
                                  std::to_string(ys.size()) + " y");
    }
    std::vector<Point> points(xs.size());
    for (std::size_t i = 0; i < xs.size(); ++i) points[i] = {xs[i], ys[i]};
    return points;
  }
};

/// A value of an axis that is marked and named.
struct Tick {
  double value = 0;
  std::string label{};
};

/// About `wanted` round values (1, 2 or 5 times a power of ten apart) in [low, high]. On a
/// logarithmic axis low and high are positive and the values are powers of ten.
inline std::vector<Tick> ticks(double low, double high, int wanted, bool logarithmic = false) {
  const auto label = [](double value) {
    std::array<char, 32> text{};
    std::snprintf(text.data(), text.size(), "%.6g", value);
    return std::string(text.data());
  };
  std::vector<Tick> result;
  const double first = logarithmic ? std::log10(low) : low;
  const double last = logarithmic ? std::log10(high) : high;
  if (!(last > first) || !std::isfinite(last - first) || wanted < 1) return result;
  const double rough = (last - first) / wanted;
  const double power = std::pow(10, std::floor(std::log10(rough)));
  double step = power;
  for (const double factor : {2.0, 5.0, 10.0}) {
    if (step < 0.8 * rough) step = factor * power;
  }
  if (logarithmic) step = std::max(1.0, std::round(step));
  const double slack = 1e-9 * (last - first);
  for (double i = std::ceil((first - slack) / step); i * step <= last + slack; ++i) {
    const double value = i * step + 0.0;  // + 0.0: no "-0"
    result.push_back(logarithmic ? Tick{std::pow(10, value), "1e" + label(value)}
                                 : Tick{value, label(value)});
  }
  return result;
}

namespace detail {

/// Maps one axis to pixels; `from` is where its low end lies.
struct AxisMap {
  double low = 0;
  double high = 1;
  double from = 0;
  double to = 1;
  bool logarithmic = false;

  double operator()(double value) const {
    if (logarithmic) value = value > 0 ? std::log10(value) : std::nan("");
    const double a = logarithmic ? std::log10(low) : low;
    const double b = logarithmic ? std::log10(high) : high;
    return from + (value - a) / (b - a) * (to - from);
  }
};

/// The ends of an axis: those given, or those of the data and a little more.
inline std::pair<double, double> axis_range(const Axis& axis, const Panel& panel,
                                            double Point::*member) {
  double low = std::numeric_limits<double>::infinity();
  double high = -low;
  for (const Series& series : panel.series) {
    for (const Point& point : series.points) {
      const double value = point.*member;
      if (!std::isfinite(value) || (axis.logarithmic && value <= 0)) continue;
      low = std::min(low, value);
      high = std::max(high, value);
    }
  }
  if (low > high) low = high = 1;  // no data
  if (axis.logarithmic) {
    const double margin = std::pow(high / low, 0.04) * (high > low ? 1 : 2);
    low /= margin;
    high *= margin;
  } else {
    const double margin = high > low ? 0.04 * (high - low) : 0.5 + 0.1 * std::abs(low);
    low -= margin;
    high += margin;
  }
  if (std::isfinite(axis.low)) low = axis.low;
  if (std::isfinite(axis.high)) high = axis.high;
  if (!(low < high) || (axis.logarithmic && low <= 0)) {
    throw std::invalid_argument("the axis '" + axis.label + "' runs from " + std::to_string(low) +
                                " to " + std::to_string(high));
  }
  return {low, high};
}

/// Widens the range of the axis that has room to spare, so that both have one scale.
inline void equalise(AxisMap& x, AxisMap& y) {
  const double x_length = std::abs(x.to - x.from);
  const double y_length = std::abs(y.to - y.from);
  const double unit = std::max((x.high - x.low) / x_length, (y.high - y.low) / y_length);
  const auto widen = [unit](AxisMap& axis, double length) {
    const double middle = (axis.low + axis.high) / 2;
    axis.low = middle - unit * length / 2;
    axis.high = middle + unit * length / 2;
  };
  widen(x, x_length);
  widen(y, y_length);
}

struct Rectangle {
  double left = 0;
  double top = 0;
  double right = 0;
  double bottom = 0;

  bool holds(Point p) const { return p.x >= left && p.x <= right && p.y >= top && p.y <= bottom; }
};

/// Where a box of this size lies in that corner of the plot.
inline Rectangle corner_box(const Rectangle& plot, Legend corner, double width, double height) {
  const bool at_left = corner == Legend::upper_left || corner == Legend::lower_left;
  const bool at_right = corner == Legend::upper_right || corner == Legend::lower_right;
  const bool at_top = corner == Legend::upper_left || corner == Legend::upper_right ||
                      corner == Legend::upper_center;
  const double left = at_left    ? plot.left + 8
                      : at_right ? plot.right - 8 - width
                                 : (plot.left + plot.right - width) / 2;
  const double top = at_top ? plot.top + 8 : plot.bottom - 8 - height;
  return {left, top, left + width, top + height};
}

/// The box of the legend, in its corner or in the emptiest. `places` are the data in pixels.
inline Rectangle legend_box(const Rectangle& plot, Legend legend, double width, double height,
                            std::span<const Point> places) {
  if (legend != Legend::automatic) return corner_box(plot, legend, width, height);
  Rectangle best;
  auto fewest = std::numeric_limits<std::ptrdiff_t>::max();
  for (const Legend corner : {Legend::upper_right, Legend::upper_left, Legend::lower_right,
                              Legend::lower_left, Legend::upper_center, Legend::lower_center}) {
    const Rectangle box = corner_box(plot, corner, width, height);
    const auto hidden =
        std::count_if(places.begin(), places.end(), [&box](Point p) { return box.holds(p); });
    if (hidden >= fewest) continue;
    fewest = hidden;
    best = box;
  }
  return best;
}

inline void draw_legend(Canvas& canvas, const Panel& panel, const Rectangle& plot,
                        std::span<const Point> places, double size) {
  double width = 0;
  int rows = 0;
  for (const Series& series : panel.series) {
    if (series.label.empty()) continue;
    width = std::max(width, stroke_text_width(series.label) * size / 9);
    ++rows;
  }
  if (rows == 0 || panel.legend == Legend::none) return;
  const double row_height = 2 * size;
  const double mark = 22;
  const Rectangle box =
      legend_box(plot, panel.legend, width + mark + 22, rows * row_height + 6, places);
  canvas.rectangle(box.left, box.top, box.right, box.bottom, Color{255, 255, 255, 0.85});
  double y = box.top + 3 + row_height / 2;
  for (const Series& series : panel.series) {
    if (series.label.empty()) continue;
    const Color solid = series.color.with_opacity(1);
    if (series.line_width > 0) {
      canvas.line({box.left + 6, y}, {box.left + 6 + mark, y}, solid, series.line_width);
    }
    if (series.dot_radius > 0) {
      canvas.disc({box.left + 6 + mark / 2, y}, std::max(2.5, series.dot_radius), solid);
    }
    canvas.text({box.left + mark + 14, y + size / 2}, series.label, size);
    y += row_height;
  }
}

}  // namespace detail

/// Draws the panel into the rectangle of the canvas, its labels included.
inline void draw_panel(Canvas& canvas, const Panel& panel, double left, double top, double width,
                       double height) {
  const double size = 9;  // of the letters
  const auto [x_low, x_high] = detail::axis_range(panel.x, panel, &Point::x);
  const auto [y_low, y_high] = detail::axis_range(panel.y, panel, &Point::y);

  const double plot_top = top + (panel.title.empty() ? 12 : 34);
  const double plot_right = left + width - 16;
  const bool axes = panel.show_axes;
  const double plot_bottom = top + height - (!axes ? 8 : panel.x.label.empty() ? 28 : 48);
  detail::AxisMap y{y_low, y_high, plot_bottom, plot_top, panel.y.logarithmic};
  const int y_ticks = std::max(2, static_cast<int>((plot_bottom - plot_top) / 42));

  double label_width = 0;
  for (const Tick& tick : ticks(y.low, y.high, y_ticks, y.logarithmic)) {
    label_width = std::max(label_width, stroke_text_width(tick.label) * size / 9);
  }
  const double plot_left = left + (!axes ? 8 : label_width + (panel.y.label.empty() ? 20 : 42));
  if (plot_right - plot_left < 20 || plot_bottom - plot_top < 20) {
    throw std::invalid_argument("a plot of " + std::to_string(width) + " x " +
                                std::to_string(height) + " pixels leaves no room for its data");
  }
  detail::AxisMap x{x_low, x_high, plot_left, plot_right, panel.x.logarithmic};
  if (panel.same_scale) detail::equalise(x, y);
  const int x_ticks = std::max(2, static_cast<int>((plot_right - plot_left) / 80));

  canvas.text({(plot_left + plot_right) / 2, top + 22}, panel.title, size + 1, black,
              Align::center);
  if (axes) {
    for (const Tick& tick : ticks(x.low, x.high, x_ticks, x.logarithmic)) {
      canvas.line({x(tick.value), plot_top}, {x(tick.value), plot_bottom}, light_grey);
      canvas.text({x(tick.value), plot_bottom + 8 + size}, tick.label, size, grey, Align::center);
    }
    for (const Tick& tick : ticks(y.low, y.high, y_ticks, y.logarithmic)) {
      canvas.line({plot_left, y(tick.value)}, {plot_right, y(tick.value)}, light_grey);
      canvas.text({plot_left - 8, y(tick.value) + size / 2}, tick.label, size, grey, Align::right);
    }
    canvas.text({(plot_left + plot_right) / 2, top + height - 10}, panel.x.label, size, black,
                Align::center);
    canvas.text({left + 8 + size, (plot_top + plot_bottom) / 2}, panel.y.label, size, black,
                Align::center, /*upward=*/true);
  }

  canvas.clip(plot_left, plot_top, plot_right, plot_bottom);
  std::vector<Point> all_places;
  for (const Series& series : panel.series) {
    std::vector<Point> places;
    places.reserve(series.points.size());
    for (const Point& point : series.points) places.push_back({x(point.x), y(point.y)});
    all_places.insert(all_places.end(), places.begin(), places.end());
    if (series.line_width > 0) canvas.polyline(places, series.color, series.line_width);
    if (series.dot_radius > 0) {
      for (const Point& place : places) canvas.disc(place, series.dot_radius, series.color);
    }
  }
  canvas.unclip();

  const std::array<Point, 5> frame{Point{plot_left, plot_top}, Point{plot_right, plot_top},
                                   Point{plot_right, plot_bottom}, Point{plot_left, plot_bottom},
                                   Point{plot_left, plot_top}};
  canvas.polyline(frame, grey, 1);
  detail::draw_legend(canvas, panel, {plot_left, plot_top, plot_right, plot_bottom}, all_places,
                      size);
}

/// The panels in rows of `columns`, each of the given size, on white.
inline Image draw_panels(std::span<const Panel> panels, int columns, int panel_width = 480,
                         int panel_height = 340) {
  if (panels.empty() || columns < 1) {
    throw std::invalid_argument(std::to_string(panels.size()) + " panels in " +
                                std::to_string(columns) + " columns; at least 1 of each is needed");
  }
  const int count = static_cast<int>(panels.size());
  columns = std::min(columns, count);
  const int rows = (count + columns - 1) / columns;
  Canvas canvas(columns * panel_width, rows * panel_height);
  for (int i = 0; i < count; ++i) {
    const int left = i % columns * panel_width;
    const int top = i / columns * panel_height;
    draw_panel(canvas, panels[static_cast<std::size_t>(i)], left, top, panel_width, panel_height);
  }
  return canvas.image();
}

}  // namespace examples

#endif  // DIFFUSION_EXAMPLES_CANVAS_HPP
