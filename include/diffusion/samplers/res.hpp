#ifndef DIFFUSION_SAMPLERS_RES_HPP
#define DIFFUSION_SAMPLERS_RES_HPP

#include <diffusion/error.hpp>
#include <diffusion/samplers/dpm_solver.hpp>
#include <diffusion/samplers/sampler.hpp>

#include <utility>

namespace diffusion {

/// Options of ResSampler. Plain data: threads may share what none of them writes.
struct ResOptions {
  int steps = 20;       ///< steps of the grid, >= 1, at most the training timesteps
  GridOptions grid{};   ///< which timesteps
  Clipping clipping{};  ///< what is done to the estimate of x0
};

namespace detail {

/// A step of RES, which must lead to less noise.
inline ExponentialStep res_step(const GridStep& step, int i) {
  if (!(step.to.log_snr() > step.from.log_snr()))
    fail(text("step ", i, " of the grid goes from sigma / alpha = ", step.from.sigma, " / ",
              step.from.alpha, " to ", step.to.sigma, " / ", step.to.alpha,
              "; RES needs each step to lead to less noise"));
  return {step.from, step.to, SolverForm::data, 0};
}

}  // namespace detail

/// The rows of multistep RES, which are those of DPM++ 2M of the heun type.
inline SamplingPlan make_plan(const Grid& grid, const ResOptions& options) {
  for (int i = 0; i < grid.size(); ++i) detail::res_step(grid[i], i);
  return make_plan(grid, DpmSolverOptions{.order = 2,
                                          .solver = SolverType::heun,
                                          .lower_order_final = LowerOrderFinal::never,
                                          .clipping = options.clipping});
}

/// The refined exponential solver, multistep (Zhang et al. 2023, arXiv 2308.02157): second order,
/// one network call a step, one earlier estimate. Any schedule; ends at sigma = 0 and starts at
/// alpha = 0 with DDIM's step. Immutable; safe to share between threads.
template <class S>
struct ResSampler : GridSampler<S, ResOptions> {
  using GridSampler<S, ResOptions>::GridSampler;
};
/// Deduced from schedule and options.
template <class S>
ResSampler(S, ResOptions = {}) -> ResSampler<S>;

/// Options of ResSinglestepSampler. Plain data: threads may share what none of them writes.
struct ResSinglestepOptions {
  int steps = 20;       ///< as in ResOptions
  double c2 = 0.5;      ///< where a step asks again, as a share of its log SNR; in [0.01, 1]
  GridOptions grid{};   ///< which timesteps
  Clipping clipping{};  ///< what is done to the estimate of x0
};

/// The rows of single-step RES: DDIM to the level at c2 h, then, from the step's start, the line
/// through both estimates. A step from pure noise or to clean data is DDIM's, of one call.
inline SamplingPlan make_plan(const Grid& grid, const ResSinglestepOptions& options,
                              const KnotAt& knot_at) {
  detail::require_range("ResSinglestepOptions::c2", options.c2, 0.01, 1.0);
  detail::require_knots(knot_at, "single-step RES");
  PlanRows rows(grid, Basis::x0);
  for (int i = 0; i < grid.size(); ++i) {
    const auto& [from, to] = grid[i];
    const double c = options.c2;
    const detail::ExponentialStep step = detail::res_step(grid[i], i);
    const bool whole = step.infinite() || c == 1;
    const Knot middle = whole ? to : knot_at((1 - c) * from.log_snr() + c * to.log_snr());
    rows.ddim(i, from, middle).save = !step.infinite();
    if (step.infinite()) continue;
    rows.ask(i, middle, to).saved = step.x();
    rows.weigh(detail::estimate_weights(step, {c, 0}, false, false, false));
  }
  return std::move(rows).plan({.clipping = options.clipping});
}

/// RES, single step (without the paper's noise): second order, two network calls a step, one in a
/// step from pure noise or to clean data; a saved state. Immutable; safe to share between threads.
template <class S>
struct ResSinglestepSampler : GridSampler<S, ResSinglestepOptions> {
  using GridSampler<S, ResSinglestepOptions>::GridSampler;
};
/// Deduced from schedule and options.
template <class S>
ResSinglestepSampler(S, ResSinglestepOptions = {}) -> ResSinglestepSampler<S>;

}  // namespace diffusion

#endif  // DIFFUSION_SAMPLERS_RES_HPP
