#ifndef DIFFUSION_SAMPLERS_DPM2_HPP
#define DIFFUSION_SAMPLERS_DPM2_HPP

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

/// The rows of DPM2, two a step: Euler's to the level s_m = sqrt(s s_d), then from there with
/// eps_m of that level, x' = alpha' (x_m / alpha_m + (s_d - s) eps_m - (s_m - s) eps) + u n, where
/// s_d = s' and u = 0 without new noise. `knot_at` gives the levels in between.
inline SamplingPlan make_plan(const Grid& grid, const Dpm2Options& options, const KnotAt& knot_at) {
  detail::require_range("Dpm2Options::eta", options.eta, 0.0, 1.0);
  detail::require_range("Dpm2Options::s_noise", options.s_noise, 0.0, 1e6);
  if (!knot_at) fail("DPM2 needs the knots between those of the grid: a KnotAt");
  detail::Rows rows(grid, Basis::eps);
  for (int i = 0; i < grid.size(); ++i) {
    const auto& [at, to] = grid[i];
    const detail::Ancestral part = detail::ancestral(at, to, options.eta, i);
    if (to.sigma == 0 || at.alpha == 0 || to.alpha == 0) {  // Euler: s' = 0, or a step without end
      Stage& row = rows.ask(i);
      row.x0 = to.alpha;
      row.eps = part.kept;
      if (part.fresh > 0) rows.noise(options.s_noise * part.fresh);
      continue;
    }
    const double s = detail::ratio_at(at), down = part.kept / to.alpha;
    const Knot middle = knot_at(-std::log(s) - std::log(down));
    Stage& half = rows.ask(i, at, middle);
    half.x0 = middle.alpha;
    half.eps = middle.sigma;

    rows.ask(i, middle, to).x = to.alpha / middle.alpha;
    rows.weigh(0, to.alpha * (down - s));
    rows.weigh(1, to.alpha * (s - detail::ratio_at(middle)));
    if (options.eta > 0) rows.noise(options.s_noise * part.fresh);
  }
  return std::move(rows).plan({.clipping = options.clipping});
}

/// The midpoint method for dx/ds = eps, x / alpha against s = sigma / alpha, with the midpoint in
/// log s: k-diffusion's DPM2, after DPM-Solver-2 (Lu et al. 2022, arXiv 2206.00927, algorithm 1),
/// and with eta = 1 its DPM2 ancestral, whose middle level is s' itself. Second order (first with
/// new noise), two network calls a step (one in a step to clean data or from pure noise); one
/// estimate is kept, no state. Immutable; safe to share between threads.
template <class S>
struct Dpm2Sampler : GridSampler<S, Dpm2Options> {
  using GridSampler<S, Dpm2Options>::GridSampler;
};
template <class S>
Dpm2Sampler(S, Dpm2Options = {}) -> Dpm2Sampler<S>;

}  // namespace diffusion

#endif  // DIFFUSION_SAMPLERS_DPM2_HPP
