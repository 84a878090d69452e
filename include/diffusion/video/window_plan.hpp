#ifndef DIFFUSION_VIDEO_WINDOW_PLAN_HPP
#define DIFFUSION_VIDEO_WINDOW_PLAN_HPP

#include <diffusion/error.hpp>

#include <Eigen/Core>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <set>
#include <vector>

/// Where overlapping windows lie along one dimension, how each of their elements weighs, and how
/// the answers for all windows become one: numbers only. For windows of a denoiser
/// (video/windows.hpp) and tiles of a codec (latent/tiling.hpp).
namespace diffusion {

/// The weight of an element by its place in the window. Every weight is positive.
enum class WindowBlend {
  uniform,     ///< 1: the plain average (MultiDiffusion, Bar-Tal et al. 2023, arXiv 2302.08113)
  triangular,  ///< 1, 2, 3, ... towards the middle (a pyramid in several dimensions)
  gaussian,    ///< exp(-d^2 / 2), d: distance from the middle over `deviation` window sizes
  ramp,        ///< 1 in the middle, linear over the overlap with the next window
};

/// Windows along one dimension of a state. Plain data: threads may share what none of them writes.
struct WindowAxis {
  std::size_t dimension = 0;  ///< as the state's type counts them
  Eigen::Index size = 1;      ///< elements of a window, at least 1, at most the extent
  /// From one window to the next, 1 to size; the last one is moved back to end where the state
  /// does.
  Eigen::Index stride = 1;
  /// The dimension is closed: what lies after its last element is its first (a panorama all
  /// around).
  bool wrap = false;
  WindowBlend blend = WindowBlend::triangular;
  double deviation = 0.2;  ///< of the gaussian blend, > 0, in window sizes
  /// Windows lie elsewhere at each step, by less than a stride, so that seams do not add up.
  bool jitter = false;
  /// Where windows begin, in place of the stride (which then is the ramp's): a cover of your own.
  std::vector<Eigen::Index> starts{};
};

namespace detail {

/// Fails for windows that a dimension of `extent` elements has not.
inline void check_axis(const WindowAxis& axis, Eigen::Index extent) {
  const auto of = [&](const char* name) {
    return text("WindowAxis::", name, " of dimension ", axis.dimension);
  };
  require_range(of("size").c_str(), axis.size, Eigen::Index{1}, extent);
  if (axis.starts.empty())
    require_range(of("stride").c_str(), axis.stride, Eigen::Index{1}, axis.size);
  require_enumerator("WindowAxis::blend", axis.blend, 4);
  require_inside("WindowAxis::deviation", axis.deviation, 0.0, 1e6);
  if (axis.jitter && !axis.starts.empty())
    fail(text("the windows of dimension ", axis.dimension,
              " have both jitter and starts of their own; choose one"));
  for (const Eigen::Index start : axis.starts)
    if (start < 0 || start > (axis.wrap ? extent - 1 : extent - axis.size))
      fail(text("a window of dimension ", axis.dimension, " begins at ", start, "; with a size of ",
                axis.size, " in ", extent, " elements it must begin in [0, ",
                axis.wrap ? extent - 1 : extent - axis.size, "]"));
}

}  // namespace detail

/// Where the windows of an axis begin in a dimension of `extent` elements; `offset` (0 to
/// stride - 1) moves them. Fails for windows that do not fit and strides that leave gaps.
inline std::vector<Eigen::Index> window_starts(const WindowAxis& axis, Eigen::Index extent,
                                               Eigen::Index offset = 0) {
  detail::check_axis(axis, extent);
  if (!axis.starts.empty()) return axis.starts;
  detail::require_range("the offset of windows", offset, Eigen::Index{0}, axis.stride - 1);
  if (axis.wrap) {
    std::vector<Eigen::Index> starts;
    const Eigen::Index count = (extent + axis.stride - 1) / axis.stride;
    for (Eigen::Index k = 0; k < count; ++k) starts.push_back((offset + k * axis.stride) % extent);
    return starts;
  }
  std::set<Eigen::Index> starts{0, extent - axis.size};
  for (Eigen::Index start = offset; start < extent - axis.size; start += axis.stride)
    starts.insert(start);
  return {starts.begin(), starts.end()};
}

/// The weights of a window's elements.
inline std::vector<double> window_weights(const WindowAxis& axis) {
  std::vector<double> weights(static_cast<std::size_t>(axis.size));
  const auto size = static_cast<double>(axis.size);
  const auto overlap = static_cast<double>((std::max)(axis.size - axis.stride, Eigen::Index{0}));
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const double middle = static_cast<double>(i) + 0.5;
    const double edge = (std::min)(middle, size - middle);  // distance from the nearer end
    const double d = (middle - size / 2) / (axis.deviation * size);
    weights[i] = 1;
    if (axis.blend == WindowBlend::triangular) weights[i] = edge + 0.5;
    if (axis.blend == WindowBlend::gaussian) weights[i] = (std::max)(std::exp(-d * d / 2), 1e-30);
    if (axis.blend == WindowBlend::ramp && edge < overlap) weights[i] = edge / overlap;
  }
  return weights;
}

namespace detail {

/// One window of one dimension: for each of its elements the place in the whole, its weight, the
/// weights of earlier windows at that place and those of all windows.
struct AxisWindow {
  std::vector<std::size_t> at{};
  std::vector<double> weight{}, before{}, total{};

  /// A dimension without windows.
  static AxisWindow whole(std::size_t extent) {
    AxisWindow side{std::vector<std::size_t>(extent), std::vector<double>(extent, 1),
                    std::vector<double>(extent, 0), std::vector<double>(extent, 1)};
    for (std::size_t i = 0; i < extent; ++i) side.at[i] = i;
    return side;
  }
};

/// Fills in what windows weigh together. Fails where an element has no weight; `dimension` names
/// it.
inline void weigh_together(std::vector<AxisWindow>& windows, std::size_t extent,
                           std::size_t dimension) {
  std::vector<double> sum(extent, 0);
  for (AxisWindow& window : windows) {
    window.before.clear();
    for (std::size_t i = 0; i < window.at.size(); ++i) {
      window.before.push_back(sum[window.at[i]]);
      sum[window.at[i]] += window.weight[i];
    }
  }
  for (std::size_t i = 0; i < extent; ++i)
    if (!(sum[i] > 0))
      fail(text("element ", i, " of dimension ", dimension, " (of ", extent,
                " elements) is in no window: windows must cover everything"));
  for (AxisWindow& window : windows) {
    window.total.clear();
    for (const std::size_t at : window.at) window.total.push_back(sum[at]);
  }
}

/// The windows of an axis, weighed.
inline std::vector<AxisWindow> axis_windows(const WindowAxis& axis, Eigen::Index extent,
                                            Eigen::Index offset = 0) {
  std::vector<AxisWindow> windows;
  const std::vector<double> weights = window_weights(axis);
  for (const Eigen::Index start : window_starts(axis, extent, offset)) {
    AxisWindow window;
    window.weight = weights;
    for (Eigen::Index i = 0; i < axis.size; ++i)
      window.at.push_back(static_cast<std::size_t>((start + i) % extent));
    windows.push_back(std::move(window));
  }
  weigh_together(windows, static_cast<std::size_t>(extent), axis.dimension);
  return windows;
}

/// A window of all dimensions, the slowest in memory first.
using Box = std::vector<const AxisWindow*>;

inline std::size_t elements_of(const Box& box) {
  std::size_t product = 1;
  for (const AxisWindow* side : box) product *= side->at.size();
  return product;
}

/// f(place in the whole, place in the box, share) for every element of a box, in the box's order.
/// `share` is its weight over that of all boxes up to this one at the same place, where boxes come
/// in the order of their windows, the last dimension first: mean += share (answer - mean), begun at
/// 0, makes the weighted mean of all boxes, and changes nothing where answers agree.
template <class F>
void for_each_in_box(const Box& box, const std::vector<std::size_t>& extents, const F& f) {
  std::size_t in_box = 0;
  // weight: of the dimensions so far; earlier: of boxes that come before by one of them.
  const auto walk = [&](const auto& self, std::size_t d, std::size_t place, double weight,
                        double earlier) -> void {
    const AxisWindow& side = *box[d];
    const bool last = d + 1 == box.size();
    for (std::size_t i = 0; i < side.at.size(); ++i) {
      const std::size_t at = place * extents[d] + side.at[i];
      const double before = earlier * side.total[i] + weight * side.before[i];
      const double now = weight * side.weight[i];
      if (last)
        f(at, in_box++, now > 0 ? now / (before + now) : 0.0);
      else
        self(self, d + 1, at, now, before);
    }
  };
  walk(walk, 0, 0, 1, 0);
}

}  // namespace detail
}  // namespace diffusion

#endif  // DIFFUSION_VIDEO_WINDOW_PLAN_HPP
