#ifndef DIFFUSION_SAMPLERS_DPM2_HPP
#define DIFFUSION_SAMPLERS_DPM2_HPP

#include <diffusion/error.hpp>
#include <diffusion/samplers/ancestral.hpp>
#include <diffusion/samplers/sampler.hpp>

#include <cmath>
#include <utility>

namespace diffusion {

/// Options of Dpm2Sampler. Plain data: threads may share what none of them writes.
struct Dpm2Options {
  int steps = 20;       ///< steps of the grid, >= 1, at most the training timesteps
  GridOptions grid{};   ///< which levels
  Clipping clipping{};  ///< what is done to the estimate of x0
  double eta = 0;       ///< share of new noise, in [0, 1]: 0 DPM2, 1 DPM2 ancestral
  double s_noise = 1;   ///< factor on the new noise, >= 0; other than 1 breaks its variance
};

/// The rows of DPM2, two a step: Euler's to the level s_m = sqrt(s s_d), then from there
/// x' = alpha' (x_m / alpha_m + (s_d - s) eps_m - (s_m - s) eps) + u n; s_d = s' where u = 0.
inline SamplingPlan make_plan(const Grid& grid, const Dpm2Options& options, const KnotAt& knot_at) {
  detail::check_ancestral("Dpm2Options", options.eta, options.s_noise);
  detail::require_knots(knot_at, "DPM2");
  PlanRows rows(grid, Basis::eps);
  for (int i = 0; i < grid.size(); ++i) {
    const auto& [at, to] = grid[i];
    const detail::Ancestral part = detail::ancestral(at, to, options.eta, i);
    if (to.sigma == 0 || at.alpha == 0 || to.alpha == 0) {  // Euler: s' = 0, or a step without end
      rows.ddim(i).eps = part.kept;
      if (part.fresh > 0) rows.noise(options.s_noise * part.fresh);
      continue;
    }
    const double s = detail::ratio_of(at), down = part.kept / to.alpha;
    const Knot middle = knot_at(-std::log(s) - std::log(down));
    rows.ddim(i, at, middle);
    rows.ask(i, middle, to).x = to.alpha / middle.alpha;
    rows.weigh(0, to.alpha * (down - s));
    rows.weigh(1, to.alpha * (s - detail::ratio_of(middle)));
    if (options.eta > 0) rows.noise(options.s_noise * part.fresh);
  }
  return std::move(rows).plan({.clipping = options.clipping});
}

/// The midpoint method for dx/ds = eps, with the midpoint in log s: k-diffusion's DPM2, after
/// DPM-Solver-2 (Lu et al. 2022, arXiv 2206.00927, algorithm 1), and with eta = 1 its DPM2
/// ancestral. Second order (first with new noise), two network calls a step (one to clean data or
/// from pure noise); one estimate is kept, no state. Immutable; safe to share between threads.
template <class S>
struct Dpm2Sampler : GridSampler<S, Dpm2Options> {
  using GridSampler<S, Dpm2Options>::GridSampler;
};
/// Deduced from schedule and options.
template <class S>
Dpm2Sampler(S, Dpm2Options = {}) -> Dpm2Sampler<S>;

}  // namespace diffusion

#endif  // DIFFUSION_SAMPLERS_DPM2_HPP
