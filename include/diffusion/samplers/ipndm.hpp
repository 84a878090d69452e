#ifndef DIFFUSION_SAMPLERS_IPNDM_HPP
#define DIFFUSION_SAMPLERS_IPNDM_HPP

#include <diffusion/samplers/sampler.hpp>
#include <diffusion/samplers/weights.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

namespace diffusion {

namespace detail {

/// The weights of Adams and Bashforth's method of an order for even steps, on the newest
/// derivative, the one before, and so on: 1; 3/2, -1/2; 23/12, -16/12, 5/12; ...
inline std::vector<double> adams_bashforth_weights(int order) {
  constexpr std::array<double, 4> nodes = {0, -1, -2, -3};
  constexpr std::array<double, 4> moments = {1, 1.0 / 2, 1.0 / 3, 1.0 / 4};
  const auto n = static_cast<std::size_t>(order);
  return interpolatory_weights(std::span(nodes).first(n), std::span(moments).first(n));
}

[[noreturn]] inline void fail_at_pure_noise(const char* method, int step) {
  fail(text("step ", step, " of the grid starts at alpha = 0, where ", method,
            " needs sigma / alpha; start from a level with some signal"));
}

}  // namespace detail

/// Options of IpndmSampler. Plain data: threads may share what none of them writes.
struct IpndmOptions {
  int steps = 20;      ///< steps of the grid, >= 1, at most the training timesteps
  int order = 4;       ///< epsilons that are averaged, 1 to 4
  GridOptions grid{};  ///< which timesteps
  Clipping clipping{};
  /// The reference divides by max(alpha, 1e-8), so its first step, which starts at alpha = 0, takes
  /// 0 for x0. 1e-8: as it does.
  double least_alpha = 0;
};

/// The rows of iPNDM: x' = alpha'/alpha x + (sigma' - sigma alpha'/alpha) sum w_j eps_j.
inline SamplingPlan make_plan(const Grid& grid, const IpndmOptions& options) {
  detail::require_range("IpndmOptions::order", options.order, 1, 4);
  detail::require_range("IpndmOptions::least_alpha", options.least_alpha, 0.0, 1.0);
  detail::Rows rows(grid, Basis::eps);
  for (int i = 0; i < grid.size(); ++i) {
    Stage& row = rows.ask(i);
    const double alpha = (std::max)(row.at.alpha, options.least_alpha);
    const int order = (std::min)(rows.asked(), options.order);
    if (order == 1) {  // with x0 it is finite at alpha = 0
      row.x0 = alpha == 0 ? row.to.alpha : row.to.alpha * (row.at.alpha / alpha);
      row.eps = row.to.sigma;
      continue;
    }
    if (alpha == 0) detail::fail_at_pure_noise("iPNDM", i);
    row.x = row.to.alpha / alpha;
    const double change = row.to.sigma - row.at.sigma * row.x;
    const auto weights = detail::adams_bashforth_weights(order);
    for (int age = 0; age < order; ++age)
      rows.weigh(age, change * weights[static_cast<std::size_t>(age)]);
  }
  return std::move(rows).plan({.clipping = options.clipping});
}

/// Improved pseudo linear multistep sampling: DDIM's step with the mean of up to four epsilons by
/// Adams and Bashforth's weights for even steps, whose order grows with the first steps (Zhang and
/// Chen 2022, arXiv 2204.13902; after Liu et al. 2022, arXiv 2202.09778). One network call a step,
/// `order` - 1 earlier estimates, deterministic. Of that order (from its own start of 2) where the
/// steps are even in sigma / alpha; of order 2 where they change smoothly. Immutable; safe to share
/// between threads.
template <class S>
struct IpndmSampler : GridSampler<S, IpndmOptions> {
  using GridSampler<S, IpndmOptions>::GridSampler;
};
template <class S>
IpndmSampler(S, IpndmOptions = {}) -> IpndmSampler<S>;

}  // namespace diffusion

#endif  // DIFFUSION_SAMPLERS_IPNDM_HPP
