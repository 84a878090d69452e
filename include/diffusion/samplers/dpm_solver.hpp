#ifndef DIFFUSION_SAMPLERS_DPM_SOLVER_HPP
#define DIFFUSION_SAMPLERS_DPM_SOLVER_HPP

#include <diffusion/error.hpp>
#include <diffusion/samplers/exponential_step.hpp>
#include <diffusion/samplers/sampler.hpp>

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

namespace diffusion {

/// How second-order steps weigh the difference of two estimates.
enum class SolverType {
  midpoint,  ///< by half of what the newest estimate weighs: the papers' choice
  heun,      ///< by the integral of the straight line through both
};

/// How third-order steps weigh the second difference of three estimates.
enum class ThirdOrder {
  exact,      ///< by the integral of the parabola through them
  halved,     ///< by half of that: the authors' code and k-diffusion's 3M SDE, of second order
  diffusers,  ///< halved in multistep solvers, and with eta > 0 with the wrong sign
};

/// When the last steps fall to order 1 (the last) and 2 (the one before).
enum class LowerOrderFinal { never, short_runs /**< below 15 steps */, always };

/// Options of DpmSolverSampler. Plain data: threads may share what none of them writes.
struct DpmSolverOptions {
  int steps = 20;  ///< steps of the grid, >= 1, at most the training timesteps
  int order = 2;   ///< estimates weighed in a step, 1 to 4; the first steps have fewer
  SolverForm form = SolverForm::data;
  /// 0: the ODE. Above, the SDE with eta times its noise, tau^2 in SA-Solver's terms, at most 10.
  double eta = 0;
  SolverType solver = SolverType::midpoint;  ///< read by steps of order 2
  LowerOrderFinal lower_order_final = LowerOrderFinal::short_runs;
  bool euler_at_final = false;  ///< the last step is first order; one to sigma = 0 always is
  ThirdOrder third_order = ThirdOrder::exact;
  bool learned_variance = false;  ///< the network has 2C channels, of which the second half is idle
  GridOptions grid{};             ///< which timesteps
  Clipping clipping{};            ///< what is done to the estimate of x0
};

namespace detail {

/// The order of step i of n that runs down to `order` - 2 steps less at the end where `lowers`.
inline int order_of_step(int i, int n, int order, bool lowers, bool euler_at_final) {
  const int left = n - 1 - i;
  if (left == 0 && (lowers || euler_at_final)) return 1;
  return left == 1 && lowers ? (std::min)(order, 2) : order;
}

}  // namespace detail

/// The rows of multistep DPM-Solver.
inline SamplingPlan make_plan(const Grid& grid, const DpmSolverOptions& options) {
  detail::require_range("DpmSolverOptions::order", options.order, 1, 4);
  detail::require_range("DpmSolverOptions::eta", options.eta, 0.0, 10.0);
  detail::require_enumerator("DpmSolverOptions::form", options.form, 2);
  detail::require_enumerator("DpmSolverOptions::solver", options.solver, 2);
  detail::require_enumerator("DpmSolverOptions::lower_order_final", options.lower_order_final, 3);
  detail::require_enumerator("DpmSolverOptions::third_order", options.third_order, 3);
  const int n = grid.size();
  const bool lowers = options.lower_order_final == LowerOrderFinal::always ||
                      (options.lower_order_final == LowerOrderFinal::short_runs && n < 15);
  PlanRows rows(grid, options.form == SolverForm::data ? Basis::x0 : Basis::eps);
  std::vector<Knot> asked;  // the levels of the history, the newest first
  for (int i = 0; i < n; ++i) {
    const auto [from, to] = grid[i];
    const detail::ExponentialStep step(from, to, options.form, options.eta);
    if (step.stays()) {  // nothing changes, so there is nothing to ask
      rows.move(i, from, to).x = 1;
      if (options.eta > 0) rows.noise(0);
      continue;
    }
    Stage& row = rows.ask(i);
    row.x = step.x();
    if (options.learned_variance) row.noise_scale.kind = NoiseScale::Kind::exponential;
    asked.insert(asked.begin(), from);
    if (asked.size() > max_history) asked.pop_back();

    const int order = detail::order_of_step(i, n, options.order, lowers,
                                            options.euler_at_final || step.infinite());
    const int known = (std::min)(order, static_cast<int>(asked.size()));
    std::vector<double> nodes{0};
    for (int age = 1; age < (step.infinite() ? 1 : known); ++age) {
      const double place = step.place(asked[static_cast<std::size_t>(age)]);
      if (detail::is_finite(place)) nodes.push_back(place);  // alpha = 0 is infinitely long ago
    }
    const bool reference = options.third_order == ThirdOrder::diffusers;
    rows.weigh(detail::estimate_weights(step, nodes,
                                        known == 2 && options.solver == SolverType::midpoint,
                                        known == 3 && options.third_order != ThirdOrder::exact,
                                        known == 3 && reference && options.eta > 0));
    if (options.eta > 0) rows.noise(step.noise());
  }
  return std::move(rows).plan({.clipping = options.clipping});
}

/// DPM-Solver and DPM-Solver++, multistep, for the ODE or the SDE. Order 2 in the data form is
/// "DPM++ 2M" (arXiv 2211.01095, algorithm 2), with eta = 1 "DPM++ 2M SDE" (section 5, and
/// k-diffusion's, whose eta this is); order 3 with eta = 1 is the 3M SDE (k-diffusion's with
/// ThirdOrder::halved). Of the order that it is given, 1 to 4, after as many first steps; order 1
/// without noise is DDIM. One network call a step, order - 1 earlier estimates. Any schedule; the
/// end may be sigma = 0 and, in the data form, the start alpha = 0.
///
/// diffusers' third order is second (ThirdOrder). Immutable; safe to share between threads.
template <class S>
struct DpmSolverSampler : GridSampler<S, DpmSolverOptions> {
  using GridSampler<S, DpmSolverOptions>::GridSampler;
};
/// Deduced from schedule and options.
template <class S>
DpmSolverSampler(S, DpmSolverOptions = {}) -> DpmSolverSampler<S>;

}  // namespace diffusion

#endif  // DIFFUSION_SAMPLERS_DPM_SOLVER_HPP
