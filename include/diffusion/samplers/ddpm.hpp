#ifndef DIFFUSION_SAMPLERS_DDPM_HPP
#define DIFFUSION_SAMPLERS_DDPM_HPP

#include <diffusion/error.hpp>
#include <diffusion/samplers/sampler.hpp>

#include <algorithm>
#include <cmath>
#include <functional>
#include <utility>

namespace diffusion {

/// The variance of the noise that a DDPM step adds.
enum class VarianceType {
  fixed_small,      ///< that of q(x_s | x_t, x_0): right for data that is one point
  fixed_small_log,  ///< the same
  fixed_large,      ///< that of q(x_t | x_s): right for standard normal data
  fixed_large_log,  ///< the same (NaN in the reference, which takes the root of a logarithm)
  learned,          ///< the second half of the network's channels
  learned_range,    ///< between the two fixed ones in logarithm, by that half as -1 .. 1
};

/// Options of DdpmSampler. Plain data: threads may share what none of them writes.
struct DdpmOptions {
  int steps = 1000;     ///< steps of the grid, >= 1, at most the training timesteps
  GridOptions grid{};   ///< which timesteps
  Clipping clipping{};  ///< what is done to the estimate of x0
  VarianceType variance = VarianceType::fixed_small;
  /// The last step ends at clean data and adds no noise. The reference adds noise there too where
  /// its timestep is not 0, with the variance held above 1e-20; true: as it does.
  bool noise_at_end = false;
  /// The last step adds no noise wherever it ends, though it draws some: Wuerstchen's scheduler,
  /// whose cosine ends at alpha^2 = 0.9999.
  bool silent_end = false;
  /// The variance that the forward process adds in a step of the grid, 0 to 1, where a variance
  /// preserving schedule keeps it apart from its levels; empty: sigma^2 - (alpha/alpha')^2
  /// sigma'^2.
  std::function<double(const GridStep&)> beta = {};
};

/// The rows of DDPM, x' = (alpha/alpha') (sigma'^2/sigma^2) x + alpha' k x0 + s n with
/// k = 1 - SNR / SNR': mean and variance of the posterior q(x' | x, x0).
inline SamplingPlan make_plan(const Grid& grid, const DdpmOptions& options) {
  detail::require_enumerator("DdpmOptions::variance", options.variance, 6);
  PlanRows rows(grid, Basis::x0);
  for (int i = 0; i < grid.size(); ++i) {
    Stage& row = rows.ask(i);
    const Knot& to = row.to;
    if (to.alpha == 0 || row.at.sigma == 0)
      fail(detail::text("step ", i, " of the grid goes from sigma = ", row.at.sigma,
                        " to alpha = ", to.alpha, "; DDPM needs sigma > 0 and alpha > 0 there"));
    double k = detail::noise_share(grid[i], i), kept = row.at.alpha / to.alpha;
    if (options.beta) {
      const double beta = options.beta(grid[i]);
      detail::require_range("DdpmOptions::beta of a step", beta, 0.0, 1.0);
      k = beta / (row.at.sigma * row.at.sigma);
      kept = std::sqrt(1 - beta);
    }
    const double ratio = to.sigma / row.at.sigma;
    row.x = kept * ratio * ratio;
    row.x0 = to.alpha * k;

    const bool ends = to.sigma == 0;
    const bool noisy = options.noise_at_end ? row.at.t > 0 : !ends;
    const double lower = (std::max)(to.sigma * to.sigma * k, options.noise_at_end ? 1e-20 : 0.0);
    const double upper = row.at.sigma * row.at.sigma * k;
    double weight = 1;
    // A learned variance is declared also where no noise is added: its network has 2C channels.
    switch (options.variance) {
      case VarianceType::fixed_small:
      case VarianceType::fixed_small_log:
        weight = std::sqrt(lower);
        break;
      case VarianceType::fixed_large:
      case VarianceType::fixed_large_log:
        weight = std::sqrt(upper);
        break;
      case VarianceType::learned:
        row.noise_scale = {NoiseScale::Kind::root, 0, 0};
        break;
      case VarianceType::learned_range:  // log s = (log lower + (v + 1) / 2 log(upper/lower)) / 2
        row.noise_scale.kind = NoiseScale::Kind::exponential;
        row.noise_scale.offset = lower > 0 ? (std::log(lower) + std::log(upper)) / 4 : 0;
        row.noise_scale.slope = lower > 0 ? std::log(upper / lower) / 4 : 0;
        if (lower == 0) weight = 0;
        break;
    }
    if (noisy) rows.noise(options.silent_end && i + 1 == grid.size() ? 0 : weight);
  }
  return std::move(rows).plan({.clipping = options.clipping});
}

/// Ancestral sampling of denoising diffusion probabilistic models (Ho, Jain and Abbeel 2020, arXiv
/// 2006.11239, eq. 6, 7, algorithm 2; learned variances: Nichol and Dhariwal 2021, arXiv
/// 2102.09672, eq. 15). First order, one network call a step, no history, stochastic; any number
/// of steps. With fixed_small and no clipping it equals DDIM with eta = 1. Immutable; safe to share
/// between threads.
template <class S>
struct DdpmSampler : GridSampler<S, DdpmOptions> {
  using GridSampler<S, DdpmOptions>::GridSampler;
};
/// Deduced from schedule and options.
template <class S>
DdpmSampler(S, DdpmOptions = {}) -> DdpmSampler<S>;

}  // namespace diffusion

#endif  // DIFFUSION_SAMPLERS_DDPM_HPP
