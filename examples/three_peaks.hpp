#ifndef DIFFUSION_EXAMPLES_THREE_PEAKS_HPP
#define DIFFUSION_EXAMPLES_THREE_PEAKS_HPP

#include <diffusion/denoiser/exact/exact_denoiser.hpp>
#include <diffusion/noise/philox.hpp>
#include <diffusion/sampling/sample.hpp>

#include <Eigen/Core>
#include <unsupported/Eigen/CXX11/Tensor>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numbers>
#include <span>
#include <utility>
#include <vector>

/// Data on a line for which everything is known: three peaks, whose perfect network and whose exact
/// flow have closed forms, so that what is wrong with a sample is the sampler's fault alone.
namespace examples::three_peaks {

using diffusion::Knot;
using Points = Eigen::Tensor<double, 2, Eigen::RowMajor>;  // (point, 1)

inline constexpr std::array<double, 3> weights{0.5, 0.3, 0.2}, means{-0.95, 0.55, 1.55};
inline constexpr double deviation = 0.2;  // of each peak; the whole has mean 0 and variance 1.06

inline diffusion::GaussianMixture peaks() {
  std::vector<diffusion::WeightedGaussian> components;
  for (std::size_t k = 0; k < means.size(); ++k) {
    const Eigen::VectorXd mean = Eigen::VectorXd::Constant(1, means[k]);
    components.push_back({weights[k], diffusion::Gaussian::isotropic(mean, deviation * deviation)});
  }
  return diffusion::GaussianMixture(std::move(components));
}

/// The share of states below x at a level.
inline double share_below(double x, const Knot& at) {
  const double spread = std::hypot(at.alpha * deviation, at.sigma);
  double share = 0;
  for (std::size_t k = 0; k < means.size(); ++k)
    share += weights[k] * std::erfc((at.alpha * means[k] - x) / spread / std::numbers::sqrt2) / 2;
  return share;
}

/// The state that a share of all lies below.
inline double quantile(double share, const Knot& at) {
  double low = -9, high = 9;
  while (high - low > 1e-14) {
    const double middle = (low + high) / 2;
    if (middle == low || middle == high) break;
    (share_below(middle, at) < share ? low : high) = middle;
  }
  return (low + high) / 2;
}

/// Where the exact flow leads: on a line no path overtakes another, so it keeps a point's quantile.
inline double flow(double x, const Knot& from, const Knot& to) {
  return quantile(share_below(x, from), to);
}

/// Standard normal points, times `scale`.
inline Points noise(int count, double scale, std::uint64_t seed) {
  Points x(count, 1);
  for (int i = 0; i < count; ++i)
    diffusion::PhiloxNoise{seed}.fill(static_cast<std::uint64_t>(i), 0, 0,
                                      std::span<double>(x.data() + i, 1));
  return x * scale;
}

/// Root mean square distance of points from where the exact flow leads from `noise`.
inline double flow_error(const Points& points, const Points& noise, const Knot& from,
                         const Knot& to) {
  double sum = 0;
  for (Eigen::Index i = 0; i < points.size(); ++i) {
    const double off = points(i, 0) - flow(noise(i, 0), from, to);
    sum += off * off;
  }
  return std::sqrt(sum / static_cast<double>(points.size()));
}

/// That of a plan's results, by so many points.
inline double flow_error(const diffusion::SamplingPlan& plan, int count,
                         diffusion::PredictionType type = diffusion::PredictionType::epsilon) {
  const Points start = noise(count, plan.traits().initial_scale, 1);
  Points x = start;
  diffusion::sample_in_place(plan, diffusion::exact_denoiser(peaks(), type), x,
                             diffusion::PhiloxNoise{1});
  return flow_error(x, start, plan.stages().front().at, plan.stages().back().to);
}

/// How far points must be moved on average for their distribution to be right at a level: the
/// Wasserstein distance, which on a line is that of the sorted points from even quantiles.
inline double law_error(Points x, const Knot& at) {
  std::sort(x.data(), x.data() + x.size());
  const auto count = static_cast<double>(x.size());
  double sum = 0;
  for (Eigen::Index i = 0; i < x.size(); ++i)
    sum += std::abs(x(i, 0) - quantile((static_cast<double>(i) + 0.5) / count, at));
  return sum / count;
}

/// That of a plan's results, by so many points.
inline double law_error(const diffusion::SamplingPlan& plan, int count) {
  Points x = noise(count, plan.traits().initial_scale, 2);
  diffusion::sample_in_place(plan, diffusion::exact_denoiser(peaks()), x,
                             diffusion::PhiloxNoise{2});
  return law_error(x, plan.stages().back().to);
}

}  // namespace examples::three_peaks

#endif  // DIFFUSION_EXAMPLES_THREE_PEAKS_HPP
