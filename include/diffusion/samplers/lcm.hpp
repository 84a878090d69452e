#ifndef DIFFUSION_SAMPLERS_LCM_HPP
#define DIFFUSION_SAMPLERS_LCM_HPP

#include <diffusion/error.hpp>
#include <diffusion/samplers/sampler.hpp>
#include <diffusion/schedule/arithmetic.hpp>

#include <cmath>
#include <utility>
#include <vector>

namespace diffusion {

/// Options of LcmSampler. Plain data: threads may share what none of them writes.
struct LcmOptions {
  int steps = 4;  ///< steps of the grid, >= 1
  /// Which timesteps; those of the distillation are `lcm_timesteps`.
  GridOptions grid{.spacing = TimestepSpacing::trailing};
  Clipping clipping{};  ///< what is done to the estimate of x0
  /// > 0: the boundary condition of latent consistency models, f = c_skip x + c_out x0 with
  /// c_skip = sd^2 / (u^2 + sd^2), c_out = u / sqrt(u^2 + sd^2), u = t * timestep_scaling (10 in
  /// their code). 0: none, f = x0; they differ by some 1e-6.
  double timestep_scaling = 0;
  double sigma_data = 0.5;   ///< sd of the boundary condition, > 0
  double s_noise = 1;        ///< factor on the noise, >= 0; the laws hold for 1
  bool draw_at_end = false;  ///< consume a draw also where a step ends without noise
};

/// The rows of multistep consistency sampling: x' = alpha' f + sigma' n, all noise fresh.
inline SamplingPlan make_plan(const Grid& grid, const LcmOptions& options) {
  detail::require_range("LcmOptions::timestep_scaling", options.timestep_scaling, 0.0, 1e6);
  detail::require_range("LcmOptions::sigma_data", options.sigma_data, 1e-6, 1e6);
  detail::require_range("LcmOptions::s_noise", options.s_noise, 0.0, 1e6);
  PlanRows rows(grid, Basis::x0);
  for (int i = 0; i < grid.size(); ++i) {
    Stage& row = rows.ask(i);
    row.x0 = row.to.alpha;
    if (options.timestep_scaling > 0) {
      const double time = row.at.t * options.timestep_scaling;
      const double norm = std::hypot(time, options.sigma_data);
      row.x0 = row.to.alpha * time / norm;
      row.x = row.to.alpha * (options.sigma_data / norm) * (options.sigma_data / norm);
    }
    if (row.to.sigma > 0 || options.draw_at_end) rows.noise(options.s_noise * row.to.sigma);
  }
  return std::move(rows).plan({.clipping = options.clipping});
}

/// Multistep sampling of consistency models and their kin, which answer for any noise with clean
/// data: estimate x0, add fresh noise for the next level, and so on (Song et al. 2023, arXiv
/// 2303.01469, algorithm 1; Luo et al. 2023, arXiv 2310.04378, algorithm 3). First order, one
/// network call a step, no history, stochastic from two steps on; made for 1 to 8 steps. On any
/// schedule: on rectified flow it is what diffusers calls stochastic sampling and FlowMatchLCM, on
/// TrigFlow sCM. With a network that is no consistency model it does not converge to the data's
/// distribution. Immutable; safe to share between threads.
template <class S>
struct LcmSampler : GridSampler<S, LcmOptions> {
  using GridSampler<S, LcmOptions>::GridSampler;
};
/// Deduced from schedule and options.
template <class S>
LcmSampler(S, LcmOptions = {}) -> LcmSampler<S>;

/// n of the timesteps at which a latent consistency model was distilled, evenly picked, the largest
/// first, for GridOptions::timesteps. Those are k - 1, 2 k - 1, ... with k = train_timesteps /
/// original_steps, rounded down; of them the first int(original_steps * strength) are in use, where
/// strength in (0, 1] is less than 1 for image to image. Fails unless 1 <= steps <= their number.
inline std::vector<double> lcm_timesteps(int train_timesteps, int steps, int original_steps = 50,
                                         double strength = 1) {
  detail::require_at_least("train_timesteps", train_timesteps, 1);
  detail::require_range("original_steps", original_steps, 1, train_timesteps);
  detail::require_range("strength", strength, 0.0, 1.0);
  const int count = static_cast<int>(original_steps * strength);
  if (steps < 1 || steps > count)
    fail(detail::text("steps is ", steps, "; it must lie in [1, ", count, "]: of ", original_steps,
                      " original steps, strength ", strength, " leaves ", count));
  const int stride = train_timesteps / original_steps;
  const double skip = static_cast<double>(count) / steps;
  std::vector<double> timesteps;
  for (int i = 0; i < steps; ++i)
    timesteps.push_back((count - std::floor(detail::rounded(i * skip))) * stride - 1);
  return timesteps;
}

}  // namespace diffusion

#endif  // DIFFUSION_SAMPLERS_LCM_HPP
