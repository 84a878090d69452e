#ifndef DIFFUSION_SAMPLERS_DEIS_HPP
#define DIFFUSION_SAMPLERS_DEIS_HPP

#include <diffusion/error.hpp>
#include <diffusion/samplers/dpm_solver.hpp>

namespace diffusion {

/// Options of DeisSampler. Plain data: threads may share what none of them writes.
struct DeisOptions {
  int steps = 20;  ///< steps of the grid, >= 1, at most the training timesteps
  int order = 3;   ///< estimates weighed in a step, 1 to 4; the first steps have fewer
  LowerOrderFinal lower_order_final = LowerOrderFinal::short_runs;
  GridOptions grid{};   ///< which timesteps
  Clipping clipping{};  ///< what is done to the estimate of x0
};

/// The rows of DEIS: the integral over rho = sigma / alpha of the polynomial in log rho through the
/// newest estimates of eps, x' = alpha' (x / alpha + int eps drho). As log rho = -lambda, that is
/// DPM-Solver's noise form without its shortcuts.
inline SamplingPlan make_plan(const Grid& grid, const DeisOptions& options) {
  detail::require_range("DeisOptions::order", options.order, 1, 4);
  return make_plan(grid, DpmSolverOptions{.order = options.order,
                                          .form = SolverForm::noise,
                                          .solver = SolverType::heun,
                                          .lower_order_final = options.lower_order_final,
                                          .clipping = options.clipping});
}

/// Diffusion exponential integrator sampler (Zhang and Chen 2022, arXiv 2204.13902),
/// tAB-DEIS with the polynomial in log rho as diffusers has it. (In rho it is LMS.) Of the order
/// that it is given, after as many first steps; order 1 is DDIM. One network call a step, order - 1
/// earlier estimates, deterministic. Any schedule, not from alpha = 0; a step to sigma = 0 is first
/// order. Immutable; safe to share between threads.
template <class S>
struct DeisSampler : GridSampler<S, DeisOptions> {
  using GridSampler<S, DeisOptions>::GridSampler;
};
/// Deduced from schedule and options.
template <class S>
DeisSampler(S, DeisOptions = {}) -> DeisSampler<S>;

}  // namespace diffusion

#endif  // DIFFUSION_SAMPLERS_DEIS_HPP
