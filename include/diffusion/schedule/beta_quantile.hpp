#ifndef DIFFUSION_SCHEDULE_BETA_QUANTILE_HPP
#define DIFFUSION_SCHEDULE_BETA_QUANTILE_HPP

#include <algorithm>
#include <cmath>

#include <diffusion/error.hpp>

/// The Beta(a, b) law on [0, 1], whose density is proportional to x^(a-1) (1-x)^(b-1): its
/// distribution function and quantiles, without a special function of a library.
namespace diffusion {
namespace detail {

inline void check_beta_law(double a, double b) {
  require_range("a of the Beta law", a, 0.1, 50.0);
  require_range("b of the Beta law", b, 0.1, 50.0);
}

inline double beta_function(double a, double b) {
  return std::tgamma(a) / std::tgamma(a + b) * std::tgamma(b);
}

/// The continued fraction of I_x(a, b) by Lentz' method (DLMF 8.17.22), which converges fast for
/// x < (a + 1) / (a + b + 2).
inline double beta_fraction(double x, double a, double b) {
  double numerator = 1, denominator = 1 / (1 - (a + b) * x / (a + 1)), value = denominator;
  for (int m = 1; m < 1000; ++m) {
    const auto advance = [&](double d) {
      denominator = 1 / (1 + d * denominator);
      numerator = 1 + d / numerator;
      value *= denominator * numerator;
    };
    advance(m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)));
    advance(-(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)));
    if (std::abs(denominator * numerator - 1) < 1e-16) break;
  }
  return value;
}

/// I_x(a, b) for x in (0, 1).
inline double beta_share(double x, double a, double b) {
  const double weight = std::pow(x, a) * std::pow(1 - x, b) / beta_function(a, b);
  if (x < (a + 1) / (a + b + 2)) return weight / a * beta_fraction(x, a, b);
  return 1 - weight / b * beta_fraction(1 - x, b, a);
}

/// The x with I_x(a, b) = q, 0 < q <= 1/2: Newton's method for log I over log x, nearly a line of
/// slope a for small x, held between bounds by halving.
inline double beta_lower_quantile(double q, double a, double b) {
  const double line = std::log(q * a * beta_function(a, b)) / a;  // log x if b were 1
  double low = b < 1 ? -800 : line, high = b < 1 ? (std::min)(line, 0.0) : 0;
  double log_x = b < 1 ? (std::min)(line, std::log(0.5)) : line;
  for (int i = 0; i < 100; ++i) {
    const double x = std::exp(log_x);
    const double share = beta_share(x, a, b);
    if (!(share > 0)) return x;  // q is below what a double can tell from 0
    const double excess = std::log(share / q);
    (excess > 0 ? high : low) = log_x;
    const double slope = std::pow(x, a) * std::pow(1 - x, b - 1) / (beta_function(a, b) * share);
    double next = log_x - excess / slope;
    if (!(next >= low && next <= high)) next = (low + high) / 2;
    const double moved = std::abs(next - log_x);
    log_x = next;
    if (moved <= 1e-16 * (std::max)(1.0, std::abs(log_x))) break;
  }
  return std::exp(log_x);
}

}  // namespace detail

/// The share of a Beta(a, b) law below x in [0, 1]: the regularised incomplete beta function
/// I_x(a, b), to some 1e-14. a and b in [0.1, 50].
inline double beta_distribution(double x, double a, double b) {
  detail::check_beta_law(a, b);
  detail::require_range("x of the Beta law", x, 0.0, 1.0);
  return x == 0 || x == 1 ? x : detail::beta_share(x, a, b);
}

/// The x in [0, 1] below which the share q in [0, 1] of a Beta(a, b) law lies, the inverse of
/// `beta_distribution`. Right to some 1e-13 of x for q <= 1/2, else of 1 - x.
inline double beta_quantile(double q, double a, double b) {
  detail::check_beta_law(a, b);
  detail::require_range("q of the Beta law", q, 0.0, 1.0);
  if (q == 0 || q == 1) return q;
  if (q <= 0.5) return detail::beta_lower_quantile(q, a, b);
  return 1 - detail::beta_lower_quantile(1 - q, b, a);
}

}  // namespace diffusion

#endif  // DIFFUSION_SCHEDULE_BETA_QUANTILE_HPP
