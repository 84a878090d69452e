#ifndef DIFFUSION_SAMPLERS_EULER_HPP
#define DIFFUSION_SAMPLERS_EULER_HPP

#include <diffusion/denoiser/prediction_type.hpp>
#include <diffusion/error.hpp>
#include <diffusion/samplers/ancestral.hpp>
#include <diffusion/samplers/churn.hpp>
#include <diffusion/samplers/sampler.hpp>

#include <cmath>
#include <utility>

namespace diffusion {

/// When churn adds its noise.
enum class ChurnOrder {
  before_ask,  ///< as in the paper: the network sees the raised state and is told its level
  /// As diffusers' EDMEulerScheduler: the network sees the state before the noise, and its output
  /// is read as if it had seen the raised one.
  after_ask,
  after_ask_read_before,  ///< the same, read at the level before: its EulerDiscreteScheduler and v
};

/// Options of EulerSampler. Plain data: threads may share what none of them writes.
struct EulerOptions {
  int steps = 20;       ///< steps of the grid, >= 1, at most the training timesteps
  GridOptions grid{};   ///< which levels
  Clipping clipping{};  ///< what is done to the estimate of x0
  Churn churn{};
  ChurnOrder order = ChurnOrder::before_ask;
  /// Read only where churn comes after the ask: the rows then depend on it.
  PredictionType prediction_type = PredictionType::epsilon;
};

namespace detail {

/// Euler's step with churn after the ask, in sigma space: x^ = x + w n and
/// x' = r x^ + (1 - r) (a x^ + b f), r = s' / s^.
inline void euler_churned_late(PlanRows& rows, const Grid& grid, int i,
                               const EulerOptions& options) {
  const auto& [at, to] = grid[i];
  if (at.alpha != 1 || to.alpha != 1)
    fail(text("step ", i, " of the grid has alpha = ", at.alpha,
              "; churn after the ask is the reference's, which knows alpha = 1 only"));
  const double s = at.sigma * (1 + churn_share(grid, i, options.churn));
  const bool before = options.order == ChurnOrder::after_ask_read_before;
  const Knot level{at.t, 1, before ? at.sigma : s};
  const Conversion c = conversion(options.prediction_type, level, grid.input_scale(level));
  const double r = to.sigma / s;
  Stage& row = rows.ask(i);
  row.x = r + (1 - r) * c.a;
  row.raw = (1 - r) * c.b;
  rows.noise(options.churn.s_noise * row.x * std::sqrt((s - at.sigma) * (s + at.sigma)));
}

}  // namespace detail

/// The rows of Euler's method: x' = alpha' x0 + sigma' eps. `knot_at` is asked for churn's levels.
inline SamplingPlan make_plan(const Grid& grid, const EulerOptions& options,
                              const KnotAt& knot_at = {}) {
  detail::check_churn(options.churn);
  detail::require_enumerator("EulerOptions::order", options.order, 3);
  const bool late = options.order != ChurnOrder::before_ask;
  PlanRows rows(grid, Basis::eps);
  for (int i = 0; i < grid.size(); ++i) {
    if (late && detail::churn_share(grid, i, options.churn) > 0) {
      detail::euler_churned_late(rows, grid, i, options);
      continue;
    }
    const Knot at = late ? grid[i].from : detail::churned(rows, grid, i, options.churn, knot_at);
    rows.ddim(i, at, grid[i].to);
  }
  return std::move(rows).plan({.clipping = options.clipping});
}

/// Euler's method for dx/ds = eps, x / alpha against s = sigma / alpha (Karras et al. 2022, arXiv
/// 2206.00364, algorithm 1 without its correction), with churn if asked for. First order, one
/// network call a step, no history; stochastic with churn. Without churn it is DDIM. Immutable;
/// safe to share between threads.
template <class S>
struct EulerSampler : GridSampler<S, EulerOptions> {
  using GridSampler<S, EulerOptions>::GridSampler;
};
/// Deduced from schedule and options.
template <class S>
EulerSampler(S, EulerOptions = {}) -> EulerSampler<S>;

/// Options of EulerAncestralSampler. Plain data: threads may share what none of them writes.
struct EulerAncestralOptions {
  int steps = 20;       ///< as in EulerOptions
  GridOptions grid{};   ///< which levels
  Clipping clipping{};  ///< what is done to the estimate of x0
  double eta = 1;       ///< how much of the noise is new, in [0, 1]; 0: Euler
  double s_noise = 1;   ///< factor on the new noise, >= 0; other than 1 breaks its variance
};

/// The rows of Euler ancestral: those of DDIM with eta, but for s_noise.
inline SamplingPlan make_plan(const Grid& grid, const EulerAncestralOptions& options) {
  detail::check_ancestral("EulerAncestralOptions", options.eta, options.s_noise);
  PlanRows rows(grid, Basis::eps);
  for (int i = 0; i < grid.size(); ++i)
    detail::add_ancestral_step(rows, grid, i, options.eta, options.s_noise);
  return std::move(rows).plan({.clipping = options.clipping});
}

/// Euler's method to a lower level s'^2 / s and fresh noise up to s': k-diffusion's and diffusers'
/// "Euler a". The posterior of Ho et al. 2020 (arXiv 2006.11239, eq. 6, 7), so at eta = 1 the same
/// as DDPM and as DDIM with eta = 1. First order, one network call a step, no history, stochastic.
/// Immutable; safe to share between threads.
template <class S>
struct EulerAncestralSampler : GridSampler<S, EulerAncestralOptions> {
  using GridSampler<S, EulerAncestralOptions>::GridSampler;
};
/// Deduced from schedule and options.
template <class S>
EulerAncestralSampler(S, EulerAncestralOptions = {}) -> EulerAncestralSampler<S>;

}  // namespace diffusion

#endif  // DIFFUSION_SAMPLERS_EULER_HPP
