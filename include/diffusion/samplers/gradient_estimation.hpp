#ifndef DIFFUSION_SAMPLERS_GRADIENT_ESTIMATION_HPP
#define DIFFUSION_SAMPLERS_GRADIENT_ESTIMATION_HPP

#include <diffusion/error.hpp>
#include <diffusion/samplers/sampler.hpp>

#include <utility>

namespace diffusion {

/// Options of GradientEstimationSampler. Plain data: threads may share what none of them writes.
struct GradientEstimationOptions {
  int steps = 20;       ///< steps of the grid, >= 1, at most the training timesteps
  double gamma = 2;     ///< how far eps is extrapolated, in [1, 10]: 1 is DDIM, 2 the paper's
  GridOptions grid{};   ///< which timesteps
  Clipping clipping{};  ///< what is done to the estimate of x0
};

/// The rows of DDIM, s = sigma / alpha, with gamma eps + (1 - gamma) eps_before for eps:
/// x' = alpha' x0 + sigma' eps + alpha' (s' - s) (gamma - 1) (eps - eps_before).
inline SamplingPlan make_plan(const Grid& grid, const GradientEstimationOptions& options) {
  detail::require_range("GradientEstimationOptions::gamma", options.gamma, 1.0, 10.0);
  PlanRows rows(grid, Basis::eps);
  for (int i = 0; i < grid.size(); ++i) {
    const auto [from, to] = grid[i];
    // The first step has nothing to extrapolate from; one to clean data is the estimate itself.
    const bool extrapolates = i > 0 && to.sigma > 0 && from.alpha > 0;
    const double bend =
        extrapolates ? (to.sigma - to.alpha / from.alpha * from.sigma) * (options.gamma - 1) : 0;
    rows.ddim(i).eps += bend;
    rows.weigh(1, -bend);
  }
  return std::move(rows).plan({.clipping = options.clipping});
}

/// Sampling with gradient estimation (Permenter and Yuan 2023, arXiv 2306.04848): DDIM
/// whose eps is moved away from that of the step before, as gradient descent with momentum. With
/// even steps of s, gamma = 1.5 is the second-order method of Adams and Bashforth, other gamma are
/// of first order. One network call a step, one earlier estimate; any schedule. Immutable; safe to
/// share between threads.
template <class S>
struct GradientEstimationSampler : GridSampler<S, GradientEstimationOptions> {
  using GridSampler<S, GradientEstimationOptions>::GridSampler;
};
/// Deduced from schedule and options.
template <class S>
GradientEstimationSampler(S, GradientEstimationOptions = {}) -> GradientEstimationSampler<S>;

}  // namespace diffusion

#endif  // DIFFUSION_SAMPLERS_GRADIENT_ESTIMATION_HPP
