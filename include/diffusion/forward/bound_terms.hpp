#ifndef DIFFUSION_FORWARD_BOUND_TERMS_HPP
#define DIFFUSION_FORWARD_BOUND_TERMS_HPP

#include <cmath>
#include <limits>

#include <diffusion/error.hpp>
#include <diffusion/forward/normal_distribution.hpp>
#include <diffusion/schedule/knot.hpp>

/// The terms of the variational bound, each by itself and in numbers only; VariationalBound sums
/// them over data. All are in nats a dimension; `bits` makes them bits.
namespace diffusion {

/// KL(q(x_T | x0) || N(0, prior_scale^2)) at the last level, for data with the mean square
/// `mean_square` = E[x0^2] over the elements.
inline double prior_kl(const Knot& last, double mean_square, double prior_scale = 1) {
  detail::require_inside("sigma of the last level", last.sigma, 0.0,
                         std::numeric_limits<double>::infinity());
  detail::require_inside("prior_scale", prior_scale, 0.0, std::numeric_limits<double>::infinity());
  detail::require_range("mean_square", mean_square, 0.0, (std::numeric_limits<double>::max)());
  return normal_kl(last.alpha * last.alpha * mean_square, 2 * std::log(last.sigma),
                   2 * std::log(prior_scale));
}

/// One step of the model, from the level `from` to the next cleaner one, `to` (sigma > 0 at both):
/// what its two Gaussians have in common and what not. Plain data; safe to share between threads.
struct BoundStep {
  double on_x0;      ///< weight of x0 in the mean of q(x_s | x_t, x0): the means differ by it only
  double log_small;  ///< log variance of q(x_s | x_t, x0): fixed_small
  double log_large;  ///< log variance of q(x_t | x_s): fixed_large

  /// Fails unless `to` has less noise than `from`, and alpha and sigma above 0.
  BoundStep(const Knot& from, const Knot& to) {
    if (!(to.sigma > 0 && to.alpha > 0 && from.log_snr() < to.log_snr()))
      fail(detail::text("a step of the bound goes from alpha = ", from.alpha,
                        ", sigma = ", from.sigma, " to alpha = ", to.alpha, ", sigma = ", to.sigma,
                        "; it must end at less noise, with alpha and sigma above 0"));
    const double k = detail::fresh_share(from, to);
    on_x0 = to.alpha * k;
    log_small = 2 * std::log(to.sigma) + std::log(k);
    log_large = 2 * std::log(from.sigma) + std::log(k);
  }

  /// KL(q(x_s | x_t, x0) || p(x_s | x_t)) where the model's x0 is off by `error` in the mean
  /// square and its log variance is `log_variance`.
  double kl(double error, double log_variance) const {
    return normal_kl(on_x0 * on_x0 * error, log_small, log_variance);
  }
};

/// -log P(x0 falls into its bin) for N(mean, exp(log_variance)): of values low, low + bin, ...,
/// high the bin reaches half way to the neighbours, and the outer two are open to infinity. The
/// reference has an approximation of the normal distribution function here and stops at log 1e-12;
/// this one is exact and has no floor. (Ho et al., eq. 13.)
inline double discretised_normal_nll(double x0, double mean, double log_variance,
                                     double bin = 2.0 / 255, double low = -1, double high = 1) {
  const double scale = std::exp(-log_variance / 2), half = bin / 2;
  const double below = (x0 - half - mean) * scale, above = (x0 + half - mean) * scale;
  if (x0 < low + half) return -log_normal_cdf(above);
  if (x0 > high - half) return -log_normal_cdf(-below);
  return -log_normal_mass(below, above);
}

}  // namespace diffusion

#endif  // DIFFUSION_FORWARD_BOUND_TERMS_HPP
