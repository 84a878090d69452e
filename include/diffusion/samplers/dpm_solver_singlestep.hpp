#ifndef DIFFUSION_SAMPLERS_DPM_SOLVER_SINGLESTEP_HPP
#define DIFFUSION_SAMPLERS_DPM_SOLVER_SINGLESTEP_HPP

#include <diffusion/error.hpp>
#include <diffusion/samplers/ancestral.hpp>
#include <diffusion/samplers/dpm_solver.hpp>

#include <algorithm>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

namespace diffusion {

/// Options of DpmSolverSinglestepSampler. Plain data: threads may share what none of them writes.
struct DpmSolverSinglestepOptions {
  int steps = 20;  ///< network calls: steps of the grid, >= 1, at most the training timesteps
  int order = 2;   ///< network calls of a Runge-Kutta step, 1 to 3
  SolverForm form = SolverForm::data;
  double eta = 0;                            ///< as in DpmSolverOptions
  SolverType solver = SolverType::midpoint;  ///< read by orders 2 and 3
  /// The last Runge-Kutta steps are of lower order, also where the number of steps is a multiple of
  /// the order (DPM-Solver-fast).
  bool lower_order_final = true;
  ThirdOrder third_order = ThirdOrder::exact;  ///< `halved` is the same as exact
  bool learned_variance = false;               ///< as in DpmSolverOptions
  GridOptions grid{};
  Clipping clipping{};
};

/// Which call of its Runge-Kutta step each of n steps is: 1, 2, 3, 1, 2, 3, ... and the end that
/// DPM-Solver-fast gives it (Lu et al. 2022, arXiv 2206.00927).
inline std::vector<int> singlestep_orders(int n, int order, bool lower_order_final,
                                          bool ends_clean) {
  detail::require_range("DpmSolverSinglestepOptions::order", order, 1, 3);
  std::vector<int> orders;
  for (int i = 0; i < n; ++i) orders.push_back(1 + i % order);
  if (lower_order_final && order > 1 && n % order == 0) orders.back() = 1;
  if (ends_clean) orders.back() = 1;
  return orders;
}

/// The rows of singlestep DPM-Solver. `orders` says which call of its Runge-Kutta step each step
/// is; one that lacks the calls before it is the first.
inline SamplingPlan make_plan(const Grid& grid, const DpmSolverSinglestepOptions& options,
                              std::span<const int> orders) {
  detail::require_range("DpmSolverSinglestepOptions::eta", options.eta, 0.0, 10.0);
  detail::require_enumerator("DpmSolverSinglestepOptions::form", options.form, 2);
  detail::require_enumerator("DpmSolverSinglestepOptions::solver", options.solver, 2);
  detail::require_enumerator("DpmSolverSinglestepOptions::third_order", options.third_order, 3);
  const bool midpoint = options.solver == SolverType::midpoint;
  const bool flipped = options.third_order == ThirdOrder::diffusers && options.eta > 0;
  PlanRows rows(grid, options.form == SolverForm::data ? Basis::x0 : Basis::eps);
  int call = 0;
  for (int i = 0; i < grid.size(); ++i) {
    call = (std::min)(orders[static_cast<std::size_t>(i)], call + 1);
    if (grid[i - call + 1].from.alpha == 0) call = 1;  // infinitely long: first order
    const detail::ExponentialStep step(grid[i - call + 1].from, grid[i].to, options.form,
                                       options.eta);
    Stage& row = rows.ask(i);
    row.save = call == 1;
    (call == 1 ? row.x : row.saved) = step.x();
    if (options.learned_variance) row.noise_scale.kind = NoiseScale::Kind::exponential;

    std::vector<double> nodes;  // from the newest estimate to the one of the first call
    for (int age = 0; age < call; ++age)
      nodes.push_back(age + 1 == call ? 0 : step.place(grid[i - age].from));
    const bool skips = call == 3 && midpoint;  // the paper's third order leaves one out
    if (skips) nodes.erase(nodes.begin() + 1);
    auto weights =
        detail::estimate_weights(step, nodes, call == 2 && midpoint, false, call == 3 && flipped);
    if (skips) weights.insert(weights.begin() + 1, 0);
    rows.weigh(weights);
    if (options.eta > 0) rows.noise(step.noise());
  }
  return std::move(rows).plan({.clipping = options.clipping});
}

/// The same with the orders of DPM-Solver-fast, counted from the grid's first step.
inline SamplingPlan make_plan(const Grid& grid, const DpmSolverSinglestepOptions& options) {
  const bool ends_clean = grid.finish().sigma == 0;
  return make_plan(
      grid, options,
      singlestep_orders(grid.size(), options.order, options.lower_order_final, ends_clean));
}

/// DPM-Solver and DPM-Solver++, singlestep: Runge-Kutta steps of `order` calls over as many steps
/// of the grid (arXiv 2206.00927, algorithms 1 and 2; 2211.01095, algorithm 1, "DPM++ 2S"), for
/// the ODE or the SDE. Of its order on a grid even in log SNR, else of order 2 unless heun. One
/// network call a step of the grid, a saved state. Immutable; safe to share between threads.
template <class S>
struct DpmSolverSinglestepSampler : GridSampler<S, DpmSolverSinglestepOptions> {
  using GridSampler<S, DpmSolverSinglestepOptions>::GridSampler;
};
/// Deduced from schedule and options.
template <class S>
DpmSolverSinglestepSampler(S, DpmSolverSinglestepOptions = {}) -> DpmSolverSinglestepSampler<S>;

/// Options of DpmSolverAncestralSampler. Plain data: threads may share what none of them writes.
struct DpmSolverAncestralOptions {
  int steps = 20;      ///< steps of the grid, >= 1, at most the training timesteps
  double eta = 1;      ///< noise per step as in DDIM, in [0, 1]
  GridOptions grid{};  ///< which timesteps
  Clipping clipping{};
};

/// The rows of DPM-Solver++ 2S ancestral; `knot_at` finds the level in the middle of a step.
inline SamplingPlan make_plan(const Grid& grid, const DpmSolverAncestralOptions& options,
                              const KnotAt& knot_at) {
  detail::require_range("DpmSolverAncestralOptions::eta", options.eta, 0.0, 1.0);
  detail::require_knots(knot_at, "DPM-Solver++ 2S ancestral");
  PlanRows rows(grid, Basis::x0);
  for (int i = 0; i < grid.size(); ++i) {
    const auto [from, to] = grid[i];
    // The step of the ODE goes below the level of its end; noise brings the state back up.
    const detail::Ancestral part = detail::ancestral(from, to, options.eta, i);
    const Knot down{to.t, to.alpha, part.kept};
    const detail::ExponentialStep whole(from, down, SolverForm::data, 0);
    if (whole.infinite()) {
      rows.ddim(i).eps = part.kept;
    } else {
      const Knot middle = knot_at((from.log_snr() + down.log_snr()) / 2);
      rows.ddim(i, from, middle).save = true;
      rows.ask(i, middle, to).saved = whole.x();
      rows.weigh(0, whole.moment(0));
    }
    if (options.eta > 0) rows.noise(part.fresh);
  }
  return std::move(rows).plan({.clipping = options.clipping});
}

/// DPM-Solver++ 2S with r = 1/2 (arXiv 2211.01095, algorithm 1) and ancestral noise: k-diffusion's
/// dpmpp_2s_ancestral. Two network calls a step, one to sigma = 0; a saved state; second order with
/// eta = 0. Immutable; safe to share between threads.
template <class S>
struct DpmSolverAncestralSampler : GridSampler<S, DpmSolverAncestralOptions> {
  using GridSampler<S, DpmSolverAncestralOptions>::GridSampler;
};
/// Deduced from schedule and options.
template <class S>
DpmSolverAncestralSampler(S, DpmSolverAncestralOptions = {}) -> DpmSolverAncestralSampler<S>;

}  // namespace diffusion

#endif  // DIFFUSION_SAMPLERS_DPM_SOLVER_SINGLESTEP_HPP
