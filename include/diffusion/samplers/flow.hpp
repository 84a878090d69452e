#ifndef DIFFUSION_SAMPLERS_FLOW_HPP
#define DIFFUSION_SAMPLERS_FLOW_HPP

#include <diffusion/error.hpp>
#include <diffusion/samplers/churn.hpp>
#include <diffusion/samplers/sampler.hpp>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <utility>

/// Samplers that were made for rectified flow and that DDIM (Euler's method on a flow) and LCM
/// (stochastic Euler) are not. Both are written for any level (alpha, sigma).
namespace diffusion {

/// Options of FlowHeunSampler. Plain data: threads may share what none of them writes.
struct FlowHeunOptions {
  int steps = 20;       ///< steps of the grid, >= 1, at most the training timesteps
  GridOptions grid{};   ///< which times
  Clipping clipping{};  ///< what is done to the estimate of x0
  Churn churn{};        ///< noise added before a step; without it the method is deterministic
  /// Churn as diffusers does it, which breaks the laws: the noise comes after the network was
  /// asked, sigma grows while alpha stays, `amount` is shared by the network's calls instead of the
  /// steps, and the limits are for sigma.
  bool churn_after_ask = false;
};

namespace detail {

/// By which share the reference's churn raises sigma in step i.
inline double churn_after_ask(const Grid& grid, int i, const FlowHeunOptions& options) {
  const Churn& churn = options.churn;
  const double alpha = grid[i].from.alpha, sigma = grid[i].from.sigma;
  if (!options.churn_after_ask || churn.amount == 0) return 0;
  if (std::abs(alpha + sigma - 1) > 1e-6)
    fail(text("step ", i, " of the grid starts at alpha = ", alpha, ", sigma = ", sigma,
              "; churn after the ask is the reference's, which knows alpha + sigma = 1 only"));
  if (sigma < churn.s_min || sigma > churn.s_max) return 0;
  const int calls = 2 * (grid.first_step() + grid.size()) - 1;
  return (std::min)(churn.amount / calls, std::numbers::sqrt2 - 1);
}

}  // namespace detail

/// The rows of Heun's method for dx = x0 d(alpha) + eps d(sigma), two a step, the second only where
/// sigma' > 0 (x~, x0~ and eps~ are what the first leads to, and what is asked there):
///
///     x~ = alpha' x0 + sigma' eps
///     x' = (x + x~ + (alpha' - alpha) x0~ + (sigma' - sigma) eps~) / 2
///
/// `knot_at` is asked for churn's levels.
inline SamplingPlan make_plan(const Grid& grid, const FlowHeunOptions& options,
                              const KnotAt& knot_at = {}) {
  detail::check_churn(options.churn);
  PlanRows rows(grid, Basis::x0);
  for (int i = 0; i < grid.size(); ++i) {
    const Knot& to = grid[i].to;
    const Knot at = options.churn_after_ask
                        ? grid[i].from
                        : detail::churned(rows, grid, i, options.churn, knot_at);
    Stage& euler = rows.ddim(i, at, to);
    euler.save = to.sigma > 0;
    double run = to.alpha - at.alpha, rise = to.sigma - at.sigma, added = 0;
    int draw = 0;
    const double after = detail::churn_after_ask(grid, i, options);
    if (after > 0) {
      rise = to.sigma - at.sigma * (1 + after);
      run = -rise;  // as on a flow
      added = options.churn.s_noise * at.sigma * std::sqrt(after * (2 + after));
      euler.x = 1;
      euler.x0 = run / (1 + after);
      euler.eps = rise / (1 + after);
      draw = rows.noise(added);
    }
    if (to.sigma == 0) continue;

    Stage& mean = rows.ask(i, to, to);
    mean.saved = mean.x = 0.5;
    mean.x0 = run / 2;
    mean.eps = rise / 2;
    if (after == 0) continue;
    rows.again(draw, added / 2);
    rows.noise(0);  // drawn once more and not used
  }
  return std::move(rows).plan({.clipping = options.clipping});
}

/// Heun's method for the velocity of rectified flow, the trapezoidal rule with an Euler step ahead
/// (Karras et al. 2022, arXiv 2206.00364, algorithm 1, with this velocity for theirs); on alpha = 1
/// it is their method. Second order, two network calls a step, the last step one where it ends at
/// clean data; no history, one saved state; stochastic with churn. Works on any schedule.
/// Immutable; safe to share between threads.
template <class S>
struct FlowHeunSampler : GridSampler<S, FlowHeunOptions> {
  using GridSampler<S, FlowHeunOptions>::GridSampler;
};
/// Deduced from schedule and options.
template <class S>
FlowHeunSampler(S, FlowHeunOptions = {}) -> FlowHeunSampler<S>;

/// Options of FlowAncestralSampler. Plain data: threads may share what none of them writes.
struct FlowAncestralOptions {
  int steps = 20;       ///< steps of the grid, >= 1
  GridOptions grid{};   ///< which times
  Clipping clipping{};  ///< what is done to the estimate of x0
  double eta = 1;       ///< noise per step, >= 0: 0 is DDIM
  double s_noise = 1;   ///< factor on the noise, >= 0; the laws hold for 1
  /// As diffusers: alpha_down is raised by 1e-12, the state stays at sigma_down where s_noise is 0,
  /// and a step that leads nowhere asks the network and ignores it.
  bool as_diffusers = false;
};

/// The rows of ancestral sampling on a flow with times t = sigma / (alpha + sigma): Euler's step to
/// t_down = t' (1 + (t' / t - 1) eta), and up to t' with fresh noise,
///
///     x' = alpha' x0 + r eps + sqrt(sigma'^2 - r^2) n,   r = alpha' t_down / (1 - t_down)
///
/// A step that leads to the level where it starts is no step.
inline SamplingPlan make_plan(const Grid& grid, const FlowAncestralOptions& options) {
  detail::require_range("FlowAncestralOptions::eta", options.eta, 0.0, 1e6);
  detail::require_range("FlowAncestralOptions::s_noise", options.s_noise, 0.0, 1e6);
  const double guard = options.as_diffusers ? 1e-12 : 0;
  const bool renoised = options.s_noise > 0 || !options.as_diffusers;
  PlanRows rows(grid, Basis::eps);
  for (int i = 0; i < grid.size(); ++i) {
    const auto& [from, to] = grid[i];
    if (same_level(from, to)) {
      if (options.as_diffusers) rows.ask(i).x = 1;
      continue;
    }
    const double t = from.sigma / (from.alpha + from.sigma), end = to.sigma / (to.alpha + to.sigma);
    const double down = end == 0 ? 0 : end * (1 + (end / t - 1) * options.eta);
    if (!(t > 0 && down >= 0 && down <= end))
      fail(detail::text("with eta = ", options.eta, " step ", i, " of the grid, from t = ", t,
                        " to ", end, ", goes down to ", down, "; that must lie in [0, ", end,
                        "], and t be positive"));
    Stage& row = rows.ddim(i);
    if (down == end) continue;  // eta = 0, or to clean data
    if (renoised) {
      row.x0 = to.alpha * (1 - down) / (1 - down + guard);
      row.eps = to.alpha * down / (1 - down + guard);
      const double kept = to.alpha * down / std::sqrt((1 - down) * (1 - down) + guard);
      const double fresh = std::sqrt((std::max)((to.sigma - kept) * (to.sigma + kept), 0.0));
      rows.noise(options.s_noise * fresh);
    } else {
      row.x0 = 1 - down;
      row.eps = down;
    }
  }
  return std::move(rows).plan({.clipping = options.clipping});
}

/// Euler's ancestral method on rectified flow (known as euler_ancestral in ComfyUI for flow models,
/// and in diffusers as LTXEulerAncestralRF). First order, one network call a step, no history,
/// stochastic where eta > 0. Works on any schedule, as a flow: x / (alpha + sigma). Immutable; safe
/// to share between threads.
template <class S>
struct FlowAncestralSampler : GridSampler<S, FlowAncestralOptions> {
  using GridSampler<S, FlowAncestralOptions>::GridSampler;
};
/// Deduced from schedule and options.
template <class S>
FlowAncestralSampler(S, FlowAncestralOptions = {}) -> FlowAncestralSampler<S>;

}  // namespace diffusion

#endif  // DIFFUSION_SAMPLERS_FLOW_HPP
