#ifndef DIFFUSION_SAMPLERS_CONSISTENCY_HPP
#define DIFFUSION_SAMPLERS_CONSISTENCY_HPP

#include <diffusion/error.hpp>
#include <diffusion/samplers/lcm.hpp>
#include <diffusion/schedule/arithmetic.hpp>
#include <diffusion/schedule/trig_flow.hpp>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <optional>
#include <utility>
#include <vector>

namespace diffusion {

/// Options of ConsistencySampler. Plain data: threads may share what none of them writes.
struct ConsistencyOptions {
  int steps = 2;                                           ///< steps of the grid, >= 1
  GridOptions grid{.spacing = TimestepSpacing::trailing};  ///< which levels
  Clipping clipping{};                                     ///< what is done to the estimate of x0
  double sigma_min = 0.002;  ///< sigma / alpha of the state that the network answers with, >= 0
  /// Standard deviation of the data; the network sees x / sqrt(sigma^2 + sigma_data^2 alpha^2).
  /// 0: it sees x itself.
  double sigma_data = 0.5;
  double s_noise = 1;  ///< factor on the noise, >= 0; the laws hold for 1
};

/// The grid whose steps end with that part of the noise which is missing to an answer that has
/// sigma_min already: sigma' becomes sqrt(sigma'^2 - (sigma_min alpha')^2), 0 below sigma_min. Each
/// step still starts from the whole level, so law C is broken by this much.
inline Grid above_sigma_min(const Grid& grid, double sigma_min) {
  detail::require_range("sigma_min", sigma_min, 0.0, 1e6);
  std::vector<GridStep> steps(grid.begin(), grid.end());
  for (auto& [from, to] : steps) {
    const double least = sigma_min * to.alpha;
    const double rest = detail::rounded(to.sigma * to.sigma) - detail::rounded(least * least);
    to.sigma = std::sqrt((std::max)(rest, 0.0));
  }
  return Grid(std::move(steps), grid.first_step(), grid.space());
}

/// The rows of a consistency model whose answer is the state at sigma_min: x' = alpha' f +
/// sqrt(sigma'^2 - (sigma_min alpha')^2) n.
inline SamplingPlan make_plan(const Grid& grid, const ConsistencyOptions& options) {
  const StateSpace space{options.sigma_data, grid.space().initial_scale};
  return make_plan(above_sigma_min(grid, options.sigma_min).with_space(space),
                   LcmOptions{.clipping = options.clipping, .s_noise = options.s_noise});
}

/// Multistep sampling of consistency models (Song et al. 2023, arXiv 2303.01469, algorithm 1), for
/// networks with `PredictionType{Kind::edm, sigma_data, sigma_min}`. First order, one network call
/// a step, no history, stochastic from two steps on; made for 1 to 8 steps. The published models
/// run on VarianceExploding{{.sigma_min = 0.002, .sigma_max = 80, .time_input =
/// VeTimeInput::quarter_log_sigma, .time_scale = 1000}}. Immutable; safe to share between threads.
template <class S>
struct ConsistencySampler : GridSampler<S, ConsistencyOptions> {
  using GridSampler<S, ConsistencyOptions>::GridSampler;
};
/// Deduced from schedule and options.
template <class S>
ConsistencySampler(S, ConsistencyOptions = {}) -> ConsistencySampler<S>;

/// The falling times of sCM's n steps on TrigFlow, for GridOptions::timesteps: even from pi / 2
/// towards 0, but for two steps pi / 2 and 1.3 or what `between` says (Chen et al. 2025, arXiv
/// 2503.09641, Sana-Sprint).
inline std::vector<double> scm_times(int steps, std::optional<double> between = {}) {
  detail::require_range("steps", steps, 1, 1'000'000);
  const double start = std::numbers::pi / 2;
  if (steps == 2) {
    const double time = between.value_or(1.3);
    detail::require_inside("between", time, 0.0, start);
    return {start, time};
  }
  std::vector<double> times;
  for (int i = 0; i < steps; ++i) times.push_back(start * (steps - i) / steps);
  return times;
}

/// sCM, continuous-time consistency models on TrigFlow (Lu and Song 2024, arXiv 2410.11081): the
/// same multistep sampling, x' = cos t' x0 + sigma_data sin t' n, for networks with
/// `PredictionType{Kind::v, sigma_data}`.
inline LcmSampler<TrigFlow> scm_sampler(int steps = 2, const TrigFlowOptions& options = {}) {
  return LcmSampler{TrigFlow(options),
                    LcmOptions{.steps = steps, .grid = {.timesteps = scm_times(steps)}}};
}

}  // namespace diffusion

#endif  // DIFFUSION_SAMPLERS_CONSISTENCY_HPP
