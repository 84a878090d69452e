#ifndef DIFFUSION_SAMPLERS_SA_SOLVER_HPP
#define DIFFUSION_SAMPLERS_SA_SOLVER_HPP

#include <diffusion/error.hpp>
#include <diffusion/samplers/predictor_corrector.hpp>

#include <functional>

namespace diffusion {

/// How much noise SA-Solver adds in a step that starts at a knot: 0 none (the ODE), 1 as much as
/// the reverse SDE; at least 0. Any function of the knot.
using SaTau = std::function<double(const Knot&)>;

/// The same tau everywhere.
inline SaTau constant_tau(double tau) {
  return [tau](const Knot&) { return tau; };
}
/// tau where first <= t <= last, else 0; the reference has 1 from t = 200 to 800.
inline SaTau tau_between_times(double tau, double first, double last) {
  return [=](const Knot& at) { return at.t >= first && at.t <= last ? tau : 0; };
}
/// tau where low <= sigma / alpha <= high, else 0, as the paper's experiments have it.
inline SaTau tau_between_levels(double tau, double low, double high) {
  return [=](const Knot& at) {
    return at.sigma >= low * at.alpha && at.sigma <= high * at.alpha ? tau : 0;
  };
}

/// Options of SaSolverSampler. Plain data: threads may share what none of them writes.
struct SaSolverOptions {
  int steps = 20;      ///< steps of the grid, >= 1, at most the training timesteps
  int predictor = 2;   ///< estimates that the predictor reads, 1 to 4: its order
  int corrector = 2;   ///< those of the corrector, that of its result too, 1 to 4; 0: none
  GridOptions grid{};  ///< which timesteps
  Clipping clipping{};
  SolverForm form = SolverForm::data;  ///< what is interpolated, x0 or eps
  SaTau tau = constant_tau(1);
  bool lower_order_final = true;  ///< no more estimates than steps are left
  /// Takes 1/2 for phi_2 where the data form reads two estimates, as the reference does ("helps
  /// with few steps"): a difference of third order in the step.
  bool halved_line = false;
  bool asks_at_zero_step = false;  ///< as in UniPcOptions
  bool draws_unused = false;       ///< draw noise where tau is 0 too, as the reference does
  bool learned_variance = false;  ///< the network has 2C channels, of which the second half is idle
};

/// The rows of SA-Solver.
inline SamplingPlan make_plan(const Grid& grid, const SaSolverOptions& options) {
  detail::require_range("SaSolverOptions::predictor", options.predictor, 1, 4);
  detail::require_range("SaSolverOptions::corrector", options.corrector, 0, 4);
  const bool halved = options.halved_line && options.form == SolverForm::data;
  return detail::predictor_corrector_plan(
      grid,
      {.form = options.form,
       .line = halved ? detail::LineMoment::half : detail::LineMoment::exact,
       .predictor = options.predictor,
       .corrector = options.corrector,
       .lower_order_final = options.lower_order_final,
       .asks_at_zero_step = options.asks_at_zero_step,
       .draws_unused = options.draws_unused,
       .learned_variance = options.learned_variance,
       .tau = options.tau},
      options.clipping);
}

/// SA-Solver, the stochastic Adams method (Xue et al. 2023, arXiv 2309.05019). One network call a
/// step, up to 4 earlier estimates, stochastic. With tau = 0 of order `corrector`, at most
/// `predictor` + 1, or, without corrector, `predictor`; and, with halved_line and `corrector` one
/// above `predictor`, UniPC with bh1. With tau > 0 mean and variance converge with second order.
/// The last step to clean data is of order 1 and free of noise.
///
/// In the data form the variance of a step is exact for data of one point. In the noise form a
/// first-order step's is too large by the factor 1 + (tau^2 + tau^4) (exp(h) - 1)^2, and over few
/// steps the noise can grow without bound: prefer the data form; it cannot start at alpha = 0
/// either. Immutable; safe to share between threads.
template <class S>
struct SaSolverSampler : GridSampler<S, SaSolverOptions> {
  using GridSampler<S, SaSolverOptions>::GridSampler;
};
/// Deduced from schedule and options.
template <class S>
SaSolverSampler(S, SaSolverOptions = {}) -> SaSolverSampler<S>;

}  // namespace diffusion

#endif  // DIFFUSION_SAMPLERS_SA_SOLVER_HPP
