#ifndef DIFFUSION_SAMPLERS_HEUN_HPP
#define DIFFUSION_SAMPLERS_HEUN_HPP

#include <diffusion/samplers/churn.hpp>
#include <diffusion/samplers/sampler.hpp>

#include <utility>

namespace diffusion {

/// Options of HeunSampler. Plain data: threads may share what none of them writes.
struct HeunOptions {
  int steps = 20;       ///< steps of the grid, >= 1, at most the training timesteps
  GridOptions grid{};   ///< which levels
  Clipping clipping{};  ///< what is done to the estimate of x0
  Churn churn{};        ///< noise added before a step; without it Heun is deterministic
};

/// The rows of Heun's method, two a step: Euler's x' = alpha' x0 + sigma' eps, then, asked at x',
/// x' + alpha' (s' - s) / 2 (eps' - eps). `knot_at` is asked for churn's levels.
inline SamplingPlan make_plan(const Grid& grid, const HeunOptions& options,
                              const KnotAt& knot_at = {}) {
  detail::check_churn(options.churn);
  PlanRows rows(grid, Basis::eps);
  for (int i = 0; i < grid.size(); ++i) {
    const Knot& to = grid[i].to;
    const Knot at = detail::churned(rows, grid, i, options.churn, knot_at);
    rows.ddim(i, at, to);
    if (to.sigma == 0 || at.alpha == 0 || to.alpha == 0) continue;  // s' = 0, or a step without end

    rows.ask(i, to, to).x = 1;
    const double half = to.alpha * (detail::ratio_of(to) - detail::ratio_of(at)) / 2;
    rows.weigh(0, half);
    rows.weigh(1, -half);
  }
  return std::move(rows).plan({.clipping = options.clipping});
}

/// Heun's method for dx/ds = eps, x / alpha against s = sigma / alpha, with churn if asked for
/// (Karras et al. 2022, arXiv 2206.00364, algorithms 1 and 2). Second order, two network calls a
/// step (one in a step to clean data or from pure noise, which are Euler's); one estimate is kept,
/// no state. Stochastic with churn. Immutable; safe to share between threads.
template <class S>
struct HeunSampler : GridSampler<S, HeunOptions> {
  using GridSampler<S, HeunOptions>::GridSampler;
};
/// Deduced from schedule and options.
template <class S>
HeunSampler(S, HeunOptions = {}) -> HeunSampler<S>;

}  // namespace diffusion

#endif  // DIFFUSION_SAMPLERS_HEUN_HPP
