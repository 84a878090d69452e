#ifndef DIFFUSION_EXAMPLES_ADAMS_BASHFORTH_HPP
#define DIFFUSION_EXAMPLES_ADAMS_BASHFORTH_HPP

// A sampler of one's own: docs/writing-a-sampler.md builds it line by line.
#include <diffusion/samplers/sampler.hpp>

#include <utility>

struct AdamsBashforthOptions {
  int steps = 20;
  diffusion::GridOptions grid{};
};

/// The method of Adams and Bashforth, of second order, for d(x / alpha) / du = eps with
/// u = sigma / alpha: the line through the last two eps instead of the last one alone.
inline diffusion::SamplingPlan make_plan(const diffusion::Grid& grid,
                                         const AdamsBashforthOptions&) {
  diffusion::PlanRows rows(grid, diffusion::Basis::eps);
  double h_before = 0;
  for (int i = 0; i < grid.size(); ++i) {
    const auto& [from, to] = grid[i];
    const double h = to.sigma / to.alpha - from.sigma / from.alpha;
    const double bend = i == 0 ? 0 : h / (2 * h_before);  // 0: a first step is Euler's
    rows.ask(i).x = to.alpha / from.alpha;
    rows.weigh(0, to.alpha * h * (1 + bend));
    rows.weigh(1, -to.alpha * h * bend);  // the estimate of the step before
    h_before = h;
  }
  return std::move(rows).plan();
}

template <class S>
struct AdamsBashforthSampler : diffusion::GridSampler<S, AdamsBashforthOptions> {
  using diffusion::GridSampler<S, AdamsBashforthOptions>::GridSampler;
};
template <class S>
AdamsBashforthSampler(S, AdamsBashforthOptions = {}) -> AdamsBashforthSampler<S>;

#endif  // DIFFUSION_EXAMPLES_ADAMS_BASHFORTH_HPP
