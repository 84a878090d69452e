#ifndef DIFFUSION_GUIDANCE_ARITHMETIC_HPP
#define DIFFUSION_GUIDANCE_ARITHMETIC_HPP

#include <diffusion/tensor/lane.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>

namespace diffusion {

namespace detail {

/// A difference of predictions and how far to go along it. Plain data: threads may share what none
/// of them writes.
template <class S>
struct Direction {
  const S* to;
  const S* from;
  double scale;
};

/// out = base + sum scale (to - from), on n numbers, lane by lane. `out` may be one of the others.
template <class S>
void go(const S* base, std::span<const Direction<S>> ways, S* out, std::size_t n) {
  const auto lane = [n](const S* p, std::size_t i) -> Lane<S> {
    if (i + lane_size <= n) return load(p + i);
    S padded[lane_size] = {};
    std::copy(p + i, p + n, padded);
    return load(padded);
  };
  for (std::size_t i = 0; i < n; i += lane_size) {
    Lane<S> sum = lane(base, i);
    for (const Direction<S>& way : ways)
      sum += static_cast<Compute<S>>(way.scale) * (lane(way.to, i) - lane(way.from, i));
    if (i + lane_size <= n) {
      store(out + i, sum);
    } else {
      S padded[lane_size];
      store(padded, sum);
      std::copy_n(padded, n - i, out + i);
    }
  }
}

/// The sum of a_i b_i.
template <class S>
double dot(const S* a, const S* b, std::size_t n) {
  double sum = 0;
  for (std::size_t i = 0; i < n; ++i) sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return sum;
}

/// The standard deviation of n numbers, over n - 1; 0 for a single one.
template <class S>
double standard_deviation(const S* x, std::size_t n) {
  if (n < 2) return 0;
  double mean = 0;
  for (std::size_t i = 0; i < n; ++i) mean += static_cast<double>(x[i]);
  mean /= static_cast<double>(n);
  double squares = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const double d = static_cast<double>(x[i]) - mean;
    squares += d * d;
  }
  return std::sqrt(squares / static_cast<double>(n - 1));
}

}  // namespace detail

/// Brings n numbers towards the standard deviation of `like`: x (1 + r (std(like) / std(x) - 1)).
/// Numbers that are all equal stay. r is in [0, 1] (Lin et al. 2023, arXiv 2305.08891, eq. 15, 16).
template <class S>
void rescale_guided(S* x, const S* like, std::size_t n, double r) {
  const double found = detail::standard_deviation(x, n);
  if (found == 0) return;
  const double factor = 1 + r * (detail::standard_deviation(like, n) / found - 1);
  for (std::size_t i = 0; i < n; ++i) x[i] = static_cast<S>(factor * static_cast<double>(x[i]));
}

}  // namespace diffusion

#endif  // DIFFUSION_GUIDANCE_ARITHMETIC_HPP
