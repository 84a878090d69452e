#ifndef DIFFUSION_SAMPLERS_RES_HPP
#define DIFFUSION_SAMPLERS_RES_HPP

#include <diffusion/samplers/sampler.hpp>
#include <diffusion/samplers/weights.hpp>

#include <utility>

namespace diffusion {

/// Options of ResSampler. Plain data: threads may share what none of them writes.
struct ResOptions {
  int steps = 20;       ///< steps of the grid, >= 1, at most the training timesteps
  GridOptions grid{};   ///< which timesteps
  Clipping clipping{};  ///< what is done to the estimate of x0
};

/// Options of ResSinglestepSampler. Plain data: threads may share what none of them writes.
struct ResSinglestepOptions {
  int steps = 20;       ///< as in ResOptions
  double c2 = 0.5;      ///< where a step asks again, as a share of h; in [0.01, 1]
  GridOptions grid{};   ///< which timesteps
  Clipping clipping{};  ///< what is done to the estimate of x0
};

namespace detail {

/// h = lambda' - lambda of a step, lambda = log(alpha / sigma); infinite from pure noise and to
/// clean data. Fails unless it is positive.
inline double res_step(const GridStep& step, int i) {
  const double h = (step.to.log_snr() - step.from.log_snr()) / 2;
  if (!(h > 0))
    fail(text("step ", i, " of the grid goes from sigma / alpha = ", step.from.sigma, " / ",
              step.from.alpha, " to ", step.to.sigma, " / ", step.to.alpha,
              "; RES needs each step to lead to less noise"));
  return h;
}

/// b2 of a step whose other estimate lies at c h: h phi_2(-h) / c.
inline double res_weight(double h, double c) { return is_finite(h) ? h * phi(2, -h) / c : 0; }

}  // namespace detail

/// The rows of multistep RES: x' = alpha' ((1 - b2) x0 + b2 x0_before) + sigma' eps, where the
/// estimate before lies at c = -h_before / h.
inline SamplingPlan make_plan(const Grid& grid, const ResOptions& options) {
  detail::Rows rows(grid, Basis::x0);
  double before = 0;
  for (int i = 0; i < grid.size(); ++i) {
    const double h = detail::res_step(grid[i], i);
    const double b2 = i > 0 ? detail::res_weight(h, -before / h) : 0;
    Stage& row = rows.ask(i);
    row.x0 = row.to.alpha * (1 - b2);
    row.eps = row.to.sigma;
    rows.weigh(1, row.to.alpha * b2);
    before = h;
  }
  return std::move(rows).plan({.clipping = options.clipping});
}

/// The rows of single-step RES: DDIM to the level at c2 h, then from the step's start
/// x' = (sigma'/sigma) x + alpha' ((1 - exp(-h) - b2) x0_start + b2 x0). A step from pure noise or
/// to clean data is DDIM's, of one call.
inline SamplingPlan make_plan(const Grid& grid, const ResSinglestepOptions& options,
                              const KnotAt& knot_at) {
  detail::require_range("ResSinglestepOptions::c2", options.c2, 0.01, 1.0);
  detail::Rows rows(grid, Basis::x0);
  for (int i = 0; i < grid.size(); ++i) {
    const auto [from, to] = grid[i];
    const double h = detail::res_step(grid[i], i);
    const bool single = !detail::is_finite(h);
    const Knot middle = single            ? to
                        : options.c2 == 1 ? to
                                          : knot_at(from.log_snr() + 2 * options.c2 * h);
    Stage& first = rows.ask(i, from, middle);
    first.x0 = middle.alpha;
    first.eps = middle.sigma;
    if (single) continue;
    first.save = true;
    const double b2 = detail::res_weight(h, options.c2);
    Stage& second = rows.ask(i, middle, to);
    second.saved = to.sigma / from.sigma;
    second.x0 = to.alpha * b2;
    rows.weigh(1, to.alpha * (h * detail::phi(1, -h) - b2));
  }
  return std::move(rows).plan({.clipping = options.clipping});
}

/// The refined exponential solver, multistep (Zhang et al. 2023, arXiv 2308.02157):
/// second order, one network call a step, one earlier estimate. It meets the order conditions of
/// exponential integrators with the phi functions themselves, as DPM-Solver++ (2M) of the heun type
/// does, whose equal it is. Any schedule; ends at sigma = 0 and starts at alpha = 0 with DDIM's
/// step. Immutable; safe to share between threads.
template <class S>
struct ResSampler : GridSampler<S, ResOptions> {
  using GridSampler<S, ResOptions>::GridSampler;
};
template <class S>
ResSampler(S, ResOptions = {}) -> ResSampler<S>;

/// The same, single step (there, without its noise): second order, two network calls a
/// step, no history. Immutable; safe to share between threads.
template <class S>
struct ResSinglestepSampler : GridSampler<S, ResSinglestepOptions> {
  using GridSampler<S, ResSinglestepOptions>::GridSampler;
};
template <class S>
ResSinglestepSampler(S, ResSinglestepOptions = {}) -> ResSinglestepSampler<S>;

}  // namespace diffusion

#endif  // DIFFUSION_SAMPLERS_RES_HPP
