#ifndef DIFFUSION_SAMPLERS_TCD_HPP
#define DIFFUSION_SAMPLERS_TCD_HPP

#include <diffusion/error.hpp>
#include <diffusion/samplers/sampler.hpp>

#include <algorithm>
#include <cmath>
#include <functional>
#include <utility>

namespace diffusion {

/// Options of TcdSampler. Plain data: threads may share what none of them writes.
struct TcdOptions {
  int steps = 4;  ///< steps of the grid, >= 1
  /// gamma of the paper, in [0, 1]: 0 is DDIM, 1 starts every step from clean data (a consistency
  /// model's sampling); more steps want more.
  double eta = 0.3;
  GridOptions grid{.spacing = TimestepSpacing::trailing};  ///< which timesteps
  Clipping clipping{};                                     ///< what is done to the estimate of x0
  EpsilonRule epsilon = EpsilonRule::rederived;            ///< eps beside a clipped x0
  bool draw_at_end = false;  ///< consume a draw also in the last step, which adds no noise
};

/// The rows of TCD: with the estimates to the level (alpha_s, sigma_s) = lower(to), then with fresh
/// noise back up to `to`: x' = alpha' x0 + (alpha' / alpha_s) sigma_s eps + the rest of sigma' n.
/// `lower` gives a level with at most the noise of its argument.
inline SamplingPlan tcd_plan(const Grid& grid, const TcdOptions& options,
                             const std::function<Knot(const Knot& to)>& lower) {
  detail::require_range("TcdOptions::eta", options.eta, 0.0, 1.0);
  PlanRows rows(grid, Basis::eps);
  for (int i = 0; i < grid.size(); ++i) {
    Stage& row = rows.ask(i);
    const Knot s = lower(row.to);
    const bool renoised = options.eta > 0 && row.to.sigma > 0 && !same_level(s, row.to);
    const double fresh = renoised ? (std::max)(detail::fresh_share(row.to, s), 0.0) : 0;
    row.x0 = row.to.alpha;
    const double older = fresh > 0 ? std::exp(row.to.log_snr() - s.log_snr()) : 1;  // 1 - fresh
    row.eps = row.to.sigma * std::sqrt(older);
    const bool last = i + 1 == grid.size();
    if (options.eta > 0 && (!last || fresh > 0 || options.draw_at_end))
      rows.noise(row.to.sigma * std::sqrt(fresh));
  }
  return std::move(rows).plan({.epsilon_rule = options.epsilon, .clipping = options.clipping});
}

/// Strategic stochastic sampling of trajectory consistency distillation (Zheng et al. 2024, arXiv
/// 2402.19159): each step jumps to the time s = (1 - eta) t' of less noise and returns
/// to t' with fresh noise. First order, one network call a step, no history, stochastic where
/// eta > 0; made for few steps. With eta = 0 it is DDIM. Works on any schedule.
///
/// diffusers' TCDScheduler rounds s down to a timestep, ends at the level of timestep 0 instead of
/// clean data, and does not clip. Immutable; safe to share between threads.
template <class S>
struct TcdSampler : GridSampler<S, TcdOptions> {
  using GridSampler<S, TcdOptions>::GridSampler;
  SamplingPlan plan() const { return plan(this->grid()); }
  SamplingPlan plan(const Grid& grid) const {
    const S& schedule = this->schedule();
    const double first = schedule.first_time(), kept = 1 - this->options().eta;
    return tcd_plan(grid, this->options(), [&](const Knot& to) {
      const double time = schedule.time(to.log_snr());
      return time <= first ? to : knot_at(schedule, first + kept * (time - first));
    });
  }
};
/// Deduced from schedule and options.
template <class S>
TcdSampler(S, TcdOptions = {}) -> TcdSampler<S>;

}  // namespace diffusion

#endif  // DIFFUSION_SAMPLERS_TCD_HPP
