#ifndef DIFFUSION_SAMPLERS_DDIM_HPP
#define DIFFUSION_SAMPLERS_DDIM_HPP

#include <diffusion/error.hpp>
#include <diffusion/samplers/ancestral.hpp>
#include <diffusion/samplers/sampler.hpp>

#include <utility>

namespace diffusion {

/// Options of DdimSampler. Plain data: threads may share what none of them writes.
struct DdimOptions {
  int steps = 50;       ///< steps of the grid, >= 1, at most the training timesteps
  double eta = 0;       ///< noise per step, in [0, 1]: 0 deterministic, 1 as much as DDPM
  GridOptions grid{};   ///< which timesteps
  Clipping clipping{};  ///< what is done to the estimate of x0
  EpsilonRule epsilon = EpsilonRule::rederived;  ///< eps beside a clipped x0
};

/// The rows of DDIM: x' = alpha' x0 + sqrt(sigma'^2 - u^2) eps + u n, with
/// u = eta sigma' sqrt(1 - SNR / SNR').
inline SamplingPlan make_plan(const Grid& grid, const DdimOptions& options) {
  detail::require_range("DdimOptions::eta", options.eta, 0.0, 1.0);
  PlanRows rows(grid, Basis::eps);
  for (int i = 0; i < grid.size(); ++i) detail::add_ancestral_step(rows, grid, i, options.eta, 1);
  return std::move(rows).plan({.epsilon_rule = options.epsilon, .clipping = options.clipping});
}

/// Denoising diffusion implicit models (Song, Meng and Ermon 2020, arXiv 2010.02502, eq. 12, 16).
/// First order, one network call a step, no history; stochastic where eta > 0. Works on any
/// schedule: on alpha = 1 it is Euler (ancestral), on rectified flow the flow's Euler method.
///
/// diffusers' DDIMScheduler steps to t - T / n (PreviousTimestep::stride) instead of its list's
/// next entry, and weighs a clipped x0 beside the raw epsilon (EpsilonRule::raw). Immutable; safe
/// to share between threads.
template <class S>
struct DdimSampler : GridSampler<S, DdimOptions> {
  using GridSampler<S, DdimOptions>::GridSampler;
};
/// Deduced from schedule and options.
template <class S>
DdimSampler(S, DdimOptions = {}) -> DdimSampler<S>;

/// Which time the network is told in a step of an inversion.
enum class InversionTime {
  target,  ///< that of the noisier level where the step ends (the reference's choice)
  source,  ///< that of the level where the state stands
};

/// Options of DdimInverseSampler. Plain data: threads may share what none of them writes.
struct DdimInverseOptions {
  int steps = 50;      ///< as in DdimOptions
  GridOptions grid{};  ///< the grid of the sampling that is inverted, from noise to data
  Clipping clipping{};
  EpsilonRule epsilon = EpsilonRule::rederived;
  InversionTime time = InversionTime::target;
};

/// The rows of DDIM run from data to noise over a grid that leads from noise to data.
inline SamplingPlan make_plan(const Grid& grid, const DdimInverseOptions& options) {
  detail::require_enumerator("DdimInverseOptions::time", options.time, 2);
  const Grid reversed = grid.reversed();
  PlanRows rows(reversed, Basis::eps);
  for (int i = 0; i < reversed.size(); ++i) {
    Stage& row = rows.ddim(i);
    if (options.time == InversionTime::target) row.at.t = row.to.t;
  }
  return std::move(rows).plan({.epsilon_rule = options.epsilon, .clipping = options.clipping});
}

/// DDIM inversion: carries data to the noise from which DDIM makes it again, by the same ODE
/// walked backwards (Song, Meng and Ermon 2020, section 4.3; Mokady et al. 2022, arXiv 2211.09794).
/// First order, one network call a step. At the clean end sigma is 0, where a network that
/// predicts x0 says nothing of the noise: that combination is refused. Immutable; safe to share
/// between threads.
template <class S>
struct DdimInverseSampler : GridSampler<S, DdimInverseOptions> {
  using GridSampler<S, DdimInverseOptions>::GridSampler;
};
/// Deduced from schedule and options.
template <class S>
DdimInverseSampler(S, DdimInverseOptions = {}) -> DdimInverseSampler<S>;

}  // namespace diffusion

#endif  // DIFFUSION_SAMPLERS_DDIM_HPP
