#ifndef DIFFUSION_TESTS_NOISE_STATISTICS_DISCRETISATION_HPP
#define DIFFUSION_TESTS_NOISE_STATISTICS_DISCRETISATION_HPP

#include <diffusion/noise/philox.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numbers>

/// What the finite number of uniforms changes in the distribution of `PhiloxNoise`, without
/// sampling: a radius has 2^30 values and an angle 2^24, so there are sums over all of them.
namespace statistics {

/// E[r^2k], k = 1 to 4, over the radii in the library's own float arithmetic, as a multiple of its
/// value for a normal, 2^k k!, less 1. The angles are evenly spaced, and of those every moment
/// below 2^24 is that of the circle: the moment 2k of the normals is off by as much. From each
/// octave of the uniform at most `most` radii stand for all; 2^30 takes every one.
inline std::array<double, 4> moment_errors(std::uint64_t most) {
  std::array<long double, 4> sums{};
  constexpr std::uint64_t radii = std::uint64_t{1} << 30;
  for (std::uint64_t octave = 1; octave <= radii; octave *= 2) {
    const std::uint64_t low = octave == 1 ? 0 : octave / 2;
    const std::uint64_t step = std::max<std::uint64_t>(1, (octave - low) / most);
    std::array<double, 4> part{};
    for (std::uint64_t k = low + step / 2; k < octave; k += step) {
      const auto word = static_cast<std::uint32_t>(4 * k);
      const auto r = static_cast<double>(diffusion::detail::square_root(
          diffusion::detail::minus_two_log(diffusion::detail::radius_uniform(word))));
      double power = 1;
      for (double& sum : part) sum += power *= r * r;
    }
    for (std::size_t i = 0; i < part.size(); ++i)
      sums[i] += static_cast<long double>(static_cast<double>(step) * part[i]);
  }
  std::array<double, 4> errors{};
  long double expected = radii;
  for (std::size_t i = 0; i < errors.size(); ++i) {
    expected *= 2 * static_cast<long double>(i + 1);
    errors[i] = static_cast<double>(sums[i] / expected - 1);
  }
  return errors;
}

/// P(x > bound) over all radii and angles, by the documented formula; bound > 2.
inline double exact_tail(double bound) {
  constexpr double radii = 0x1p30, turn = 0x1p24;
  double sum = 0;
  for (int angle = 0; angle < 1 << 22; ++angle) {
    const double cosine = std::cos(2 * std::numbers::pi * angle / turn);
    // The radii beyond bound / cosine are those of k + 1/2 < 2^30 exp(-bound^2 / (2 cosine^2)).
    const double least = bound / cosine;
    const double k = std::ceil(radii * std::exp(-least * least / 2) - 0.5);
    if (k <= 0) break;
    sum += angle == 0 ? k : 2 * k;  // the angle and its negative
  }
  return sum / radii / turn;
}

}  // namespace statistics

#endif  // DIFFUSION_TESTS_NOISE_STATISTICS_DISCRETISATION_HPP
