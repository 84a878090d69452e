#ifndef DIFFUSION_SAMPLERS_SDE_HPP
#define DIFFUSION_SAMPLERS_SDE_HPP

#include <diffusion/error.hpp>
#include <diffusion/samplers/sampler.hpp>

#include <cmath>
#include <functional>
#include <utility>

namespace diffusion {

/// How the predictor of a predictor-corrector sampler adds noise.
enum class SdePredictor {
  /// As much as the forward process adds between the levels (reverse diffusion): one step
  /// ends with r + 1/r - 1 times the right variance, r = s'^2 / s^2, which the corrector mends.
  reverse_diffusion,
  ancestral,  ///< as much as the posterior has: the right variance
};

/// Options of ReverseSdeSampler. Plain data: threads may share what none of them writes.
struct ReverseSdeOptions {
  int steps = 1000;       ///< steps of the grid, >= 1
  GridOptions grid{};     ///< which levels
  int correct_steps = 1;  ///< Langevin steps before each predictor, 0 to 1000; each is a call
  double snr = 0.16;      ///< their signal-to-noise ratio r, >= 0; 0.16 is the paper's
  SdePredictor predictor = SdePredictor::reverse_diffusion;
  /// Add noise also in a last step to clean data, as diffusers does; else its mean is the result.
  bool noise_at_end = false;
};

namespace detail {

/// Fails where a score-based sampler has no step: at pure noise and at clean data, and, for the
/// variance preserving SDE, at a level of another kind.
inline void require_score(const Knot& from, int i, bool preserving) {
  const bool off = preserving && std::abs(std::hypot(from.alpha, from.sigma) - 1) > 1e-6;
  if (from.alpha > 0 && from.sigma > 0 && !off) return;
  fail(text("step ", i, " of the grid starts at alpha = ", from.alpha, ", sigma = ", from.sigma,
            preserving
                ? "; the variance preserving SDE needs both above 0, and alpha^2 + sigma^2 = 1"
                : "; a score-based sampler needs both above 0"));
}

}  // namespace detail

/// The rows of the predictor-corrector method, with s = sigma / alpha:
/// x' / alpha' = x / alpha - (s^2 - s'^2) / s eps + sqrt(s^2 - s'^2) n (ancestral: times s' / s).
inline SamplingPlan make_plan(const Grid& grid, const ReverseSdeOptions& options) {
  detail::require_range("ReverseSdeOptions::correct_steps", options.correct_steps, 0, 1000);
  detail::require_range("ReverseSdeOptions::snr", options.snr, 0.0, 1e6);
  detail::require_enumerator("ReverseSdeOptions::predictor", options.predictor, 2);
  PlanRows rows(grid, Basis::eps);
  for (int i = 0; i < grid.size(); ++i) {
    const auto& [from, to] = grid[i];
    detail::require_score(from, i, false);
    for (int k = 0; k < options.correct_steps; ++k) {
      Stage& row = rows.ask(i, from, from);
      row.x = 1;
      row.langevin_snr = options.snr;
      rows.noise(options.snr > 0 ? 1 : 0);
    }
    Stage& row = rows.ask(i);
    const double share = detail::noise_share(grid[i], i);  // 1 - s'^2 / s^2
    const double s = detail::ratio_of(from);
    row.x = to.alpha / from.alpha;
    row.eps = -to.alpha * s * share;
    const bool ancestral = options.predictor == SdePredictor::ancestral;
    const double spread = ancestral ? to.sigma : to.alpha * s;
    if (to.sigma > 0 || options.noise_at_end) rows.noise(spread * std::sqrt(share));
  }
  return std::move(rows).plan();
}

/// The predictor-corrector sampler of score-based models (Song et al. 2020, arXiv 2011.13456,
/// algorithms 1, 2 and 4): at each level `correct_steps` Langevin steps, whose size comes from the
/// norms of score and noise, then a step of the reverse SDE. Made for variance exploding schedules;
/// elsewhere it walks x / alpha. First order in distribution, correct_steps + 1 network calls a
/// step, no history, stochastic. Immutable; safe to share between threads.
template <class S>
struct ReverseSdeSampler : GridSampler<S, ReverseSdeOptions> {
  using GridSampler<S, ReverseSdeOptions>::GridSampler;
};
/// Deduced from schedule and options.
template <class S>
ReverseSdeSampler(S, ReverseSdeOptions = {}) -> ReverseSdeSampler<S>;

/// Options of EulerMaruyamaSampler. Plain data: threads may share what none of them writes.
struct EulerMaruyamaOptions {
  int steps = 1000;    ///< steps of the grid, >= 1
  GridOptions grid{};  ///< which times
  /// The integral of the noise rate beta over a step, >= 0; empty: log(alpha'^2 / alpha^2), which
  /// is what it is between the step's levels.
  std::function<double(const GridStep&)> beta_integral = {};
  bool noise_at_end = false;  ///< as in ReverseSdeOptions
};

/// The rows of Euler and Maruyama: x' = (1 + B / 2) x - B / sigma eps + sqrt(B) n.
inline SamplingPlan make_plan(const Grid& grid, const EulerMaruyamaOptions& options) {
  PlanRows rows(grid, Basis::eps);
  for (int i = 0; i < grid.size(); ++i) {
    const auto& [from, to] = grid[i];
    detail::require_score(from, i, true);
    const double B = options.beta_integral ? options.beta_integral(grid[i])
                                           : 2 * std::log(to.alpha / from.alpha);
    detail::require_range("the integral of beta over a step", B, 0.0, 1e6);
    Stage& row = rows.ask(i);
    row.x = 1 + B / 2;
    row.eps = -B / from.sigma;
    if (to.sigma > 0 || options.noise_at_end) rows.noise(std::sqrt(B));
  }
  return std::move(rows).plan();
}

/// The Euler-Maruyama method for the reverse of the variance preserving SDE (Song et al. 2020,
/// arXiv 2011.13456, eq. 6 and 32): the discretisation without any correction, hence many steps; a
/// step's mean is (1 + B / 2) exp(-B / 2) times what it should be. First order, one network call a
/// step, no history, stochastic. Immutable; safe to share between threads.
template <class S>
struct EulerMaruyamaSampler : GridSampler<S, EulerMaruyamaOptions> {
  using GridSampler<S, EulerMaruyamaOptions>::GridSampler;
};
/// Deduced from schedule and options.
template <class S>
EulerMaruyamaSampler(S, EulerMaruyamaOptions = {}) -> EulerMaruyamaSampler<S>;

}  // namespace diffusion

#endif  // DIFFUSION_SAMPLERS_SDE_HPP
