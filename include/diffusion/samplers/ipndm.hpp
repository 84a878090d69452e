#ifndef DIFFUSION_SAMPLERS_IPNDM_HPP
#define DIFFUSION_SAMPLERS_IPNDM_HPP

#include <diffusion/error.hpp>
#include <diffusion/samplers/sampler.hpp>
#include <diffusion/samplers/weights.hpp>

#include <algorithm>
#include <utility>

namespace diffusion {

/// Options of IpndmSampler. Plain data: threads may share what none of them writes.
struct IpndmOptions {
  int steps = 20;      ///< steps of the grid, >= 1, at most the training timesteps
  int order = 4;       ///< epsilons that are averaged, 1 to 4
  GridOptions grid{};  ///< which timesteps
  Clipping clipping{};
  /// The step divides by max(alpha, this). 1e-8: as the reference, which then takes 0 for x0 in a
  /// first step from alpha = 0.
  double least_alpha = 0;
};

/// The rows of iPNDM: x' = alpha'/alpha x + (sigma' - sigma alpha'/alpha) sum w_j eps_j.
inline SamplingPlan make_plan(const Grid& grid, const IpndmOptions& options) {
  detail::require_range("IpndmOptions::order", options.order, 1, 4);
  detail::require_range("IpndmOptions::least_alpha", options.least_alpha, 0.0, 1.0);
  PlanRows rows(grid, Basis::eps);
  for (int i = 0; i < grid.size(); ++i) {
    const double alpha = (std::max)(grid[i].from.alpha, options.least_alpha);
    const int order = (std::min)(i + 1, options.order);
    Stage& row = order == 1 ? rows.ddim(i) : rows.ask(i);
    if (order == 1) {  // with x0 it is finite at alpha = 0
      if (alpha > 0) row.x0 *= row.at.alpha / alpha;
      continue;
    }
    if (alpha == 0) detail::fail_at_pure_noise("iPNDM", i);
    row.x = row.to.alpha / alpha;
    const double change = row.to.sigma - row.at.sigma * row.x;
    rows.weigh(detail::adams_bashforth_weights(order), change);
  }
  return std::move(rows).plan({.clipping = options.clipping});
}

/// Improved PNDM without a warm-up: DDIM's step with the mean of up to four epsilons by Adams and
/// Bashforth's weights for even steps (Zhang and Chen 2022, arXiv 2204.13902). One network call a
/// step, `order` - 1 earlier estimates, deterministic. Of its order (from its own start of 2) where
/// steps are even in sigma / alpha, else of order 2. Immutable; safe to share between threads.
template <class S>
struct IpndmSampler : GridSampler<S, IpndmOptions> {
  using GridSampler<S, IpndmOptions>::GridSampler;
};
/// Deduced from schedule and options.
template <class S>
IpndmSampler(S, IpndmOptions = {}) -> IpndmSampler<S>;

}  // namespace diffusion

#endif  // DIFFUSION_SAMPLERS_IPNDM_HPP
