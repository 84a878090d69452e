#ifndef DIFFUSION_GUIDANCE_LAPLACIAN_PYRAMID_HPP
#define DIFFUSION_GUIDANCE_LAPLACIAN_PYRAMID_HPP

#include <diffusion/error.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <utility>
#include <vector>

/// Pictures in bands of frequency, from the finest to what is left (Burt and Adelson 1983).
namespace diffusion {

/// One plane of a picture, row by row. Plain data: threads may share what none of them writes.
struct Plane {
  std::size_t height = 0, width = 0;
  std::vector<double> values;
  double operator()(std::size_t row, std::size_t column) const {
    return values[row * width + column];
  }
};

namespace detail {

/// A filter on every line in one direction, which makes lines of a length of their own.
template <class Line>
Plane along_columns(const Plane& in, std::size_t height, const Line& line) {
  Plane out{height, in.width, std::vector<double>(height * in.width)};
  std::vector<double> from(in.height), to(height);
  for (std::size_t x = 0; x < in.width; ++x) {
    for (std::size_t y = 0; y < in.height; ++y) from[y] = in(y, x);
    line(from, to);
    for (std::size_t y = 0; y < height; ++y) out.values[y * out.width + x] = to[y];
  }
  return out;
}
template <class Line>
Plane along_rows(const Plane& in, std::size_t width, const Line& line) {
  Plane out{in.height, width, std::vector<double>(in.height * width)};
  std::vector<double> from(in.width), to(width);
  for (std::size_t y = 0; y < in.height; ++y) {
    std::copy_n(in.values.begin() + static_cast<std::ptrdiff_t>(y * in.width), in.width,
                from.begin());
    line(from, to);
    std::copy(to.begin(), to.end(), out.values.begin() + static_cast<std::ptrdiff_t>(y * width));
  }
  return out;
}

/// The number at a place outside of a line of n, mirrored at the first and the last, which are not
/// repeated.
inline std::size_t mirrored(std::ptrdiff_t i, std::size_t n) {
  if (n == 1) return 0;
  const auto period = static_cast<std::ptrdiff_t>(2 * (n - 1));
  i = ((i % period) + period) % period;
  return static_cast<std::size_t>((std::min)(i, period - i));
}

/// The binomial filter 1 4 6 4 1.
inline void blur_line(const std::vector<double>& from, std::vector<double>& to) {
  constexpr std::array<double, 5> kernel{1.0 / 16, 4.0 / 16, 6.0 / 16, 4.0 / 16, 1.0 / 16};
  for (std::size_t i = 0; i < from.size(); ++i) {
    to[i] = 0;
    for (std::size_t k = 0; k < 5; ++k)
      to[i] += kernel[k] * from[mirrored(static_cast<std::ptrdiff_t>(i + k) - 2, from.size())];
  }
}

/// Linear interpolation between the centres of the cells that a line is divided into.
inline void resize_line(const std::vector<double>& from, std::vector<double>& to) {
  const double ratio = static_cast<double>(from.size()) / static_cast<double>(to.size());
  const auto last = from.size() - 1;
  for (std::size_t i = 0; i < to.size(); ++i) {
    const double at = (std::max)(0.0, (static_cast<double>(i) + 0.5) * ratio - 0.5);
    const std::size_t below = (std::min)(static_cast<std::size_t>(at), last);
    const double share = (std::min)(at - static_cast<double>(below), 1.0);
    to[i] = (1 - share) * from[below] + share * from[(std::min)(below + 1, last)];
  }
}

inline Plane blurred(const Plane& in) {
  return along_rows(along_columns(in, in.height, blur_line), in.width, blur_line);
}
inline Plane resized(const Plane& in, std::size_t height, std::size_t width) {
  return along_rows(along_columns(in, height, resize_line), width, resize_line);
}

}  // namespace detail

/// Half the size, rounded down: blurred by the binomial filter 1 4 6 4 1 in both directions,
/// mirrored at the edges, then averaged. Fails for a height or width of 1.
inline Plane pyramid_down(const Plane& plane) {
  if (plane.height < 2 || plane.width < 2)
    fail(detail::text("a plane of ", plane.height, "x", plane.width,
                      " cannot be halved; height and width must be at least 2"));
  return detail::resized(detail::blurred(plane), plane.height / 2, plane.width / 2);
}

/// The given size, about twice its own: interpolated, then blurred by the same filter.
inline Plane pyramid_up(const Plane& plane, std::size_t height, std::size_t width) {
  return detail::blurred(detail::resized(plane, height, width));
}

/// The plane in bands: the details of the whole size, of half the size and so on, and what is left
/// at the end. One band is the plane itself. Fails where a plane on the way cannot be halved.
inline std::vector<Plane> laplacian_pyramid(const Plane& plane, std::size_t bands) {
  detail::require_at_least("laplacian_pyramid: bands", bands, std::size_t{1});
  std::vector<Plane> pyramid{plane};
  while (pyramid.size() < bands) {
    Plane& finer = pyramid.back();
    Plane coarser = pyramid_down(finer);
    const Plane rest = pyramid_up(coarser, finer.height, finer.width);
    for (std::size_t i = 0; i < finer.values.size(); ++i) finer.values[i] -= rest.values[i];
    pyramid.push_back(std::move(coarser));
  }
  return pyramid;
}

/// The plane whose bands these are: the inverse of laplacian_pyramid. Fails for no bands.
inline Plane from_laplacian_pyramid(const std::vector<Plane>& pyramid) {
  detail::require_at_least("from_laplacian_pyramid: bands", pyramid.size(), std::size_t{1});
  Plane plane = pyramid.back();
  for (std::size_t k = pyramid.size() - 1; k-- > 0;) {
    plane = pyramid_up(plane, pyramid[k].height, pyramid[k].width);
    for (std::size_t i = 0; i < plane.values.size(); ++i) plane.values[i] += pyramid[k].values[i];
  }
  return plane;
}

}  // namespace diffusion

#endif  // DIFFUSION_GUIDANCE_LAPLACIAN_PYRAMID_HPP
