#ifndef DIFFUSION_FORWARD_NORMAL_DISTRIBUTION_HPP
#define DIFFUSION_FORWARD_NORMAL_DISTRIBUTION_HPP

#include <algorithm>
#include <cmath>
#include <numbers>

#include <diffusion/error.hpp>

/// The normal distribution in one dimension: logarithms of its probabilities far into the tails,
/// quantiles, and the divergences and likelihoods that bounds and losses are sums of. All
/// logarithms are natural: results are in nats.
namespace diffusion {

namespace detail {

inline constexpr double log_sqrt_two_pi = 0.91893853320467274178;

/// log(P(N(0, 1) > z) exp(z^2 / 2)) for z >= 0: Mills' ratio over sqrt(2 pi). Beyond z = 30, where
/// erfc would soon underflow, its asymptotic series (first term left out: 2e-14).
inline double log_mills(double z) {
  if (z < 30) return std::log(std::erfc(z / std::numbers::sqrt2) / 2) + z * z / 2;
  const double y = 1 / (z * z);
  const double series = 1 - y * (1 - 3 * y * (1 - 5 * y * (1 - 7 * y * (1 - 9 * y))));
  return std::log(series / z) - log_sqrt_two_pi;
}

/// log(Phi(-inner) - Phi(-outer)) for 0 <= inner < outer: an interval in one tail. Only the
/// difference of the two exponents is formed, never a difference of squares.
inline double log_tail_mass(double inner, double outer) {
  const double drop = (inner - outer) * (inner + outer) / 2 + log_mills(outer) - log_mills(inner);
  return -inner * inner / 2 + log_mills(inner) + std::log(-std::expm1(drop));
}

/// A first quantile, for 0 < p <= 1/2, to 5e-4: Hastings' approximation (Abramowitz and Stegun,
/// 26.2.23).
inline double rough_normal_quantile(double p) {
  const double t = std::sqrt(-2 * std::log(p));
  const double above = 2.515517 + t * (0.802853 + t * 0.010328);
  const double below = 1 + t * (1.432788 + t * (0.189269 + t * 0.001308));
  return above / below - t;
}

}  // namespace detail

/// P(N(0, 1) <= x), with full relative accuracy in the lower tail.
inline double normal_cdf(double x) { return std::erfc(-x / std::numbers::sqrt2) / 2; }

/// The density of N(0, 1).
inline double normal_density(double x) { return std::exp(-x * x / 2 - detail::log_sqrt_two_pi); }

/// log P(N(0, 1) <= x) for any finite x: no underflow in the tails.
inline double log_normal_cdf(double x) {
  return x < 0 ? -x * x / 2 + detail::log_mills(-x) : std::log1p(-normal_cdf(-x));
}

/// log P(a <= N(0, 1) <= b) for finite a < b, however narrow and however far out.
inline double log_normal_mass(double a, double b) {
  const double width = b - a, middle = a + width / 2;
  if (width * (std::max)(1.0, std::abs(middle)) < 0.02) {  // the density, integrated term by term
    const double m2 = middle * middle, w2 = width * width;
    const double rest = w2 * ((m2 - 1) / 24 + w2 * ((m2 - 6) * m2 + 3) / 1920);
    return std::log(width) + std::log1p(rest) - m2 / 2 - detail::log_sqrt_two_pi;
  }
  if (a >= 0) return detail::log_tail_mass(a, b);
  if (b <= 0) return detail::log_tail_mass(-b, -a);
  const double outside = normal_cdf(a) + normal_cdf(-b);
  if (outside < 0.5) return std::log1p(-outside);
  return std::log((std::erf(b / std::numbers::sqrt2) - std::erf(a / std::numbers::sqrt2)) / 2);
}

/// The x with P(N(0, 1) <= x) = p, for 0 < p < 1: to 4e-16 of max(1, |x|). Upper quantiles are as
/// exact as p is: where 1 - p is known, -normal_quantile(1 - p) is the better way to write them.
inline double normal_quantile(double p) {
  detail::require_inside("probability p", p, 0.0, 1.0);
  if (p > 0.5) return -normal_quantile(1 - p);  // 1 - p is exact
  double x = detail::rough_normal_quantile(p);
  for (int i = 0; i < 3; ++i) {  // Halley's method on log Phi: cubic, and no underflow
    const double log_cdf = log_normal_cdf(x);
    const double slope = std::exp(-x * x / 2 - detail::log_sqrt_two_pi - log_cdf);
    const double step = (log_cdf - std::log(p)) / slope;
    x -= step / (1 + step * (x + slope) / 2);
  }
  return (std::min)(x, 0.0);
}

/// KL(N(m1, v1) || N(m2, v2)) of one dimension in nats, >= 0, from (m1 - m2)^2, log v1 and log v2.
inline double normal_kl(double squared_difference, double log_v1, double log_v2) {
  const double ratio = log_v1 - log_v2;
  return (std::expm1(ratio) - ratio + squared_difference * std::exp(-log_v2)) / 2;
}

/// -log of the density of N(mean, exp(log_variance)) at x, from (x - mean)^2.
inline double normal_nll(double squared_difference, double log_variance) {
  return detail::log_sqrt_two_pi +
         (log_variance + squared_difference * std::exp(-log_variance)) / 2;
}

/// Nats as bits: divided by log 2.
constexpr double bits(double nats) { return nats / std::numbers::ln2; }

}  // namespace diffusion

#endif  // DIFFUSION_FORWARD_NORMAL_DISTRIBUTION_HPP
