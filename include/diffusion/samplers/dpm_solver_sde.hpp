#ifndef DIFFUSION_SAMPLERS_DPM_SOLVER_SDE_HPP
#define DIFFUSION_SAMPLERS_DPM_SOLVER_SDE_HPP

#include <diffusion/error.hpp>
#include <diffusion/samplers/ancestral.hpp>
#include <diffusion/samplers/sampler.hpp>

#include <cmath>
#include <utility>

namespace diffusion {

/// How the two draws of a step hang together.
enum class SdeNoise {
  /// Both are the noise of one path, as in the SDE: that of the whole step holds that of its first
  /// half with correlation rho, rho^2 = (SNR_m - SNR) / (SNR' - SNR).
  one_path,
  /// The same with rho^2 = (s - s_m) / (s - s'): the Brownian path in sigma of k-diffusion.
  path_in_sigma,
  /// Two draws. For a source that is itself a path, such as calls of torchsde that were recorded.
  independent
};

/// Options of DpmSolverSdeSampler. Plain data: threads may share what none of them writes.
struct DpmSolverSdeOptions {
  int steps = 20;       ///< steps of the grid, >= 1, at most the training timesteps
  GridOptions grid{};   ///< which levels
  Clipping clipping{};  ///< what is done to the estimate of x0
  double eta = 1;       ///< share of new noise, in [0, 1]; 0: the ODE
  double s_noise = 1;   ///< factor on the new noise, >= 0; other than 1 breaks its variance
  SdeNoise noise = SdeNoise::one_path;
};

namespace detail {

/// rho of a step through `middle`.
inline double path_correlation(SdeNoise noise, const Knot& at, const Knot& middle, const Knot& to) {
  if (noise == SdeNoise::independent) return 0;
  const double s = ratio_of(at), m = ratio_of(middle), end = ratio_of(to);
  if (!(end < m && m < s)) return 0;  // a step of no length has no noise
  if (noise == SdeNoise::path_in_sigma) return std::sqrt((s - m) / (s - end));
  return end / m * std::sqrt(fresh_share(at, middle) / fresh_share(at, to));
}

}  // namespace detail

/// The rows of DPM-Solver SDE: x_m = k_m / sigma x + (alpha_m - k_m alpha / sigma) x0 + u_m n at
/// log s_m = (log s + log s') / 2, then x' = k / sigma x + (alpha' - k alpha / sigma) x0_m + u n'
/// with the estimate of the middle, from the same x; k and u are `ancestral`'s kept and fresh.
inline SamplingPlan make_plan(const Grid& grid, const DpmSolverSdeOptions& options,
                              const KnotAt& knot_at) {
  detail::check_ancestral("DpmSolverSdeOptions", options.eta, options.s_noise);
  detail::require_enumerator("DpmSolverSdeOptions::noise", options.noise, 3);
  detail::require_knots(knot_at, "DPM-Solver SDE");
  PlanRows rows(grid, Basis::x0);
  for (int i = 0; i < grid.size(); ++i) {
    const auto& [at, to] = grid[i];
    if (at.sigma == 0)
      fail(detail::text("step ", i,
                        " of the grid starts at sigma = 0; DPM-Solver "
                        "SDE needs a level with noise"));
    const detail::Ancestral whole = detail::ancestral(at, to, options.eta, i);
    const double kept = whole.kept / at.sigma;
    const double fresh = options.s_noise * whole.fresh;
    const bool single = to.sigma == 0 || at.alpha == 0 || to.alpha == 0;  // the middle has no level
    if (single) {
      Stage& row = rows.ask(i);
      row.x = kept;
      row.x0 = to.alpha - kept * at.alpha;
      if (fresh > 0) rows.noise(fresh);
      continue;
    }
    const Knot middle = knot_at((at.log_snr() + to.log_snr()) / 2);
    const detail::Ancestral part = detail::ancestral(at, middle, options.eta, i);
    Stage& half = rows.ask(i, at, middle);
    half.save = true;
    half.x = part.kept / at.sigma;
    half.x0 = middle.alpha - half.x * at.alpha;
    const int first = options.eta > 0 ? rows.noise(options.s_noise * part.fresh) : 0;

    Stage& row = rows.ask(i, middle, to);
    row.saved = kept;
    row.x0 = to.alpha - kept * at.alpha;
    if (options.eta == 0) continue;
    const double rho = detail::path_correlation(options.noise, at, middle, to);
    if (rho > 0) rows.again(first, fresh * rho);
    rows.noise(fresh * std::sqrt((1 - rho) * (1 + rho)));
  }
  return std::move(rows).plan({.clipping = options.clipping});
}

/// DPM-Solver++ (SDE), single step, r = 1/2: DPM-Solver++ 2S (Lu et al. 2022, arXiv 2211.01095,
/// algorithm 1) for the reverse SDE, k-diffusion's dpmpp_sde. Two network calls a step (one in a
/// step to clean data or from pure noise); saves the state of the step's start; stochastic. Second
/// order with eta = 0. Immutable; safe to share between threads.
template <class S>
struct DpmSolverSdeSampler : GridSampler<S, DpmSolverSdeOptions> {
  using GridSampler<S, DpmSolverSdeOptions>::GridSampler;
};
/// Deduced from schedule and options.
template <class S>
DpmSolverSdeSampler(S, DpmSolverSdeOptions = {}) -> DpmSolverSdeSampler<S>;

}  // namespace diffusion

#endif  // DIFFUSION_SAMPLERS_DPM_SOLVER_SDE_HPP
