#ifndef DIFFUSION_FORWARD_LEVEL_DISTRIBUTION_HPP
#define DIFFUSION_FORWARD_LEVEL_DISTRIBUTION_HPP

#include <diffusion/error.hpp>
#include <diffusion/forward/normal_distribution.hpp>
#include <diffusion/noise/philox.hpp>
#include <diffusion/schedule/arithmetic.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

/// Which noise levels a network is trained at. A distribution is its inverse distribution function,
/// applied to uniforms; where the uniforms come from, independent or stratified, is a choice of its
/// own. Uniforms lie strictly between 0 and 1.
namespace diffusion {

/// A distribution of times or of sigmas: what its values mean is in each one's comment.
template <class D>
concept LevelDistribution = requires(const D& distribution, double x) {
  { distribution.quantile(x) } -> std::convertible_to<double>;  ///< of a uniform in (0, 1)
  { distribution.density(x) } -> std::convertible_to<double>;   ///< at a value
};

/// Whole timesteps 0 ... T - 1, all alike (Ho et al. 2020, arXiv 2006.11239, algorithm 1). The
/// density is the probability, 1 / T. Immutable; safe to share between threads.
class UniformTimesteps {
 public:
  /// Fails unless there is at least one timestep.
  explicit UniformTimesteps(int train_timesteps) : count_(train_timesteps) {
    detail::require_at_least("train_timesteps", train_timesteps, 1);
  }
  /// The value below which this share of the distribution lies, 0 < uniform < 1.
  double quantile(double uniform) const {
    detail::require_inside("uniform", uniform, 0.0, 1.0);
    return (std::min)(std::floor(uniform * count_), count_ - 1.0);
  }
  /// The density at t; 0 where there is none.
  double density(double t) const {
    return t >= 0 && t < count_ && t == std::floor(t) ? 1.0 / count_ : 0.0;
  }

 private:
  int count_;
};

/// Times between `low` and `high`, all alike: the loss is an integral over time. A schedule that
/// starts without noise is trained from a `low` above 0 (1e-5, 1e-3). low < high, both finite.
/// Immutable; safe to share between threads.
class UniformTimes {
 public:
  /// Fails unless low < high and both are finite.
  explicit UniformTimes(double low = 0, double high = 1) : low_(low), high_(high) {
    if (!(detail::is_finite(low) && detail::is_finite(high) && low < high))
      fail(detail::text("times run from ", low, " to ", high,
                        "; both must be finite, the first below the second"));
  }
  /// The value below which this share of the distribution lies, 0 < uniform < 1.
  double quantile(double uniform) const {
    detail::require_inside("uniform", uniform, 0.0, 1.0);
    return (std::min)(low_ + uniform * (high_ - low_), high_);
  }
  /// The density at t; 0 where there is none.
  double density(double t) const { return t >= low_ && t <= high_ ? 1 / (high_ - low_) : 0.0; }

 private:
  double low_, high_;
};

/// Mean and standard deviation of the normal distribution that lies under another. Plain data:
/// threads may share what none of them writes.
struct NormalOptions {
  double mean = 0;                ///< finite
  double standard_deviation = 1;  ///< > 0
};

namespace detail {
inline NormalOptions checked(const NormalOptions& o) {
  if (!is_finite(o.mean)) fail(text("the mean is ", o.mean, "; it must be finite"));
  require_inside("the standard deviation", o.standard_deviation, 0.0,
                 std::numeric_limits<double>::infinity());
  return o;
}
}  // namespace detail

/// Sigmas (of a level with alpha = 1; elsewhere sigma / alpha) whose logarithm is normal: Karras et
/// al. 2022, arXiv 2206.00364, table 1, with its P_mean and P_std as defaults. Immutable; safe to
/// share between threads.
class LogNormalSigmas {
 public:
  /// Mean and standard deviation of log sigma.
  explicit LogNormalSigmas(const NormalOptions& options = {-1.2, 1.2})
      : normal_(detail::checked(options)) {}
  /// The value below which this share of the distribution lies, 0 < uniform < 1.
  double quantile(double uniform) const {
    return std::exp(normal_.mean + normal_.standard_deviation * normal_quantile(uniform));
  }
  /// The density at sigma; 0 where there is none.
  double density(double sigma) const {
    if (!(sigma > 0)) return 0;
    const double z = (std::log(sigma) - normal_.mean) / normal_.standard_deviation;
    return normal_density(z) / (normal_.standard_deviation * sigma);
  }

 private:
  NormalOptions normal_;
};

/// Times in (0, 1) whose logit log(t / (1 - t)) is normal: rectified flow in Stable Diffusion 3
/// (Esser et al. 2024, arXiv 2403.03206, section 3.1). Time runs from data to noise, as in
/// RectifiedFlow: a mean above 0 favours the noisy end. Immutable; safe to share between threads.
class LogitNormalTimes {
 public:
  /// Mean and standard deviation of the logit.
  explicit LogitNormalTimes(const NormalOptions& options = {})
      : normal_(detail::checked(options)) {}
  /// The value below which this share of the distribution lies, 0 < uniform < 1.
  double quantile(double uniform) const {
    const double t =
        detail::logistic(normal_.mean + normal_.standard_deviation * normal_quantile(uniform));
    return std::clamp(t, (std::numeric_limits<double>::min)(), 1 - 0x1p-53);
  }
  /// The density at t; 0 where there is none.
  double density(double t) const {
    if (!(t > 0 && t < 1)) return 0;
    const double z = (std::log(t) - std::log1p(-t) - normal_.mean) / normal_.standard_deviation;
    return normal_density(z) / (normal_.standard_deviation * t * (1 - t));
  }

 private:
  NormalOptions normal_;
};

/// Independent uniforms by address, (k + 1/2) / 2^52 with k of 52 bits: a pure function of (seed,
/// draw, index), so that every process of a training run can make its own part of a batch. From
/// Philox 4x32-10 like PhiloxNoise, under another key: the same seed may be used for both.
///
/// Address layout, the same in every version of the library:
///   key      the words 0 and 1 of Philox for the counter {0, 0, 0, 1} and the seed as key
///   counter  {index, low word; index, high word; draw, low word; draw, high word}
///   k        word 0 and the 20 lower bits of word 1 above it
///
/// Immutable; safe to share between threads.
class PhiloxUniforms {
 public:
  /// Any seed, that of the noise too.
  explicit PhiloxUniforms(std::uint64_t seed) {
    const auto block = philox4x32_10({0, 0, 0, 1}, {low(seed), low(seed >> 32)});
    key_ = {block[0], block[1]};
  }
  /// Any draw (say, the number of the training step) and index (the sample's in the batch).
  double operator()(std::uint64_t draw, std::uint64_t index) const {
    const auto words =
        philox4x32_10({low(index), low(index >> 32), low(draw), low(draw >> 32)}, key_);
    const std::uint64_t k = words[0] | std::uint64_t{words[1] & 0xFFFFFu} << 32;
    return (static_cast<double>(k) + 0.5) * 0x1p-52;
  }

 private:
  static std::uint32_t low(std::uint64_t x) { return static_cast<std::uint32_t>(x); }
  std::array<std::uint32_t, 2> key_{};
};

/// Uniform `index` of `count` evenly spread ones, (uniform + index / count) mod 1: each of the
/// `count` equal parts of (0, 1) holds exactly one, and each is uniform by itself. A batch then
/// sees all levels, and the loss varies less from batch to batch: Kingma et al. 2021, arXiv
/// 2107.00630. All of a batch share one `uniform`. Fails unless index < count.
inline double stratified_uniform(double uniform, std::size_t index, std::size_t count) {
  detail::require_inside("uniform", uniform, 0.0, 1.0);
  if (index >= count)
    fail(detail::text("index is ", index, "; it must lie below the count, ", count));
  const double n = static_cast<double>(count);
  const double part = (std::min)(std::floor(uniform * n), n - 1);
  const double within = std::clamp(uniform * n - part, 0x1p-30, 1 - 0x1p-30);  // off the borders
  const double stratum = std::fmod(part + static_cast<double>(index), n);
  return (std::min)((stratum + within) / n, 1 - 0x1p-53);
}

/// How the levels of a batch hang together.
enum class LevelSampling { independent, stratified };

/// The levels of a batch: `count` values of the distribution for draw `draw`, the number of the
/// training step.
template <LevelDistribution D>
std::vector<double> draw_levels(const D& distribution, const PhiloxUniforms& uniforms,
                                std::uint64_t draw, std::size_t count,
                                LevelSampling sampling = LevelSampling::stratified) {
  detail::require_enumerator("LevelSampling", sampling, 2);
  std::vector<double> levels;
  levels.reserve(count);
  for (std::size_t i = 0; i < count; ++i)
    levels.push_back(distribution.quantile(sampling == LevelSampling::independent
                                               ? uniforms(draw, i)
                                               : stratified_uniform(uniforms(draw, 0), i, count)));
  return levels;
}

}  // namespace diffusion

#endif  // DIFFUSION_FORWARD_LEVEL_DISTRIBUTION_HPP
