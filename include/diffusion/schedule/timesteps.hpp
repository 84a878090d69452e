#ifndef DIFFUSION_SCHEDULE_TIMESTEPS_HPP
#define DIFFUSION_SCHEDULE_TIMESTEPS_HPP

#include <algorithm>
#include <cmath>
#include <vector>

#include <diffusion/error.hpp>
#include <diffusion/schedule/arithmetic.hpp>

/// Which n of the N training timesteps 0 ... N-1 a sampler visits. Every function returns exactly
/// n different whole timesteps, the largest first, and fails unless 1 <= n <= N.
namespace diffusion {

/// The spacings of Lin et al. 2023 (arXiv 2305.08891, table 2) and DDIM's quadratic one.
enum class TimestepSpacing { leading, trailing, linspace, quadratic };

namespace detail {

inline void check_timestep_counts(int train_timesteps, int steps) {
  require_at_least("train_timesteps", train_timesteps, 1);
  require_range("steps", steps, 1, train_timesteps);
}

inline void check_steps_offset(int train_timesteps, int steps, int steps_offset, int largest) {
  const int room = train_timesteps - 1 - largest;
  if (steps_offset >= 0 && steps_offset <= room) return;
  fail(text("steps_offset is ", steps_offset, "; it must lie in [0, ", room, "]: ", steps,
            " steps start at timestep ", largest, " + steps_offset, and the last of ",
            train_timesteps, " is ", train_timesteps - 1));
}

}  // namespace detail

/// Every (N / n)-th timestep from `steps_offset` up, N / n rounded down: the reference's default.
/// Never reaches N - 1 unless n = N, so sampling starts from a level with some signal left.
/// Fails where the offset moves the first timestep past N - 1.
inline std::vector<double> leading_timesteps(int train_timesteps, int steps, int steps_offset = 0) {
  detail::check_timestep_counts(train_timesteps, steps);
  const int stride = train_timesteps / steps;
  detail::check_steps_offset(train_timesteps, steps, steps_offset, (steps - 1) * stride);
  std::vector<double> timesteps;
  for (int i = steps - 1; i >= 0; --i) timesteps.push_back(i * stride + steps_offset);
  return timesteps;
}

/// N, N - N/n, N - 2N/n, ..., rounded half to even, minus 1: starts at N - 1. Counted with an
/// integer, so that there are n of them: the reference's `arange(N, 0, -N/n)` makes one too many,
/// timestep -1, for some n (of N = 1000: 61, 103, 121, ...).
inline std::vector<double> trailing_timesteps(int train_timesteps, int steps) {
  detail::check_timestep_counts(train_timesteps, steps);
  const double count = train_timesteps;
  const double stride = detail::rounded(count - count / steps) - count;  // as arange rounds it
  std::vector<double> timesteps;
  for (int i = 0; i < steps; ++i)
    timesteps.push_back(std::nearbyint(detail::rounded(i * stride) + count) - 1);
  return timesteps;
}

/// n numbers from N - 1 down to 0, both included, rounded half to even; n = 1 is timestep 0.
inline std::vector<double> linspace_timesteps(int train_timesteps, int steps) {
  detail::check_timestep_counts(train_timesteps, steps);
  std::vector<double> timesteps = detail::numpy_linspace(0, train_timesteps - 1, steps);
  for (double& t : timesteps) t = std::nearbyint(t);
  std::reverse(timesteps.begin(), timesteps.end());
  return timesteps;
}

/// Squares of n even numbers from 0 to sqrt(0.8 N), rounded down, plus `steps_offset`: small steps
/// near the data (Song et al. 2021, arXiv 2010.02502, section D.3; latent diffusion adds 1). Where
/// the squares are less than 1 apart DDIM's own code repeats timesteps; here the next free one is
/// taken. Fails where the offset moves the first timestep past N - 1.
inline std::vector<double> quadratic_timesteps(int train_timesteps, int steps,
                                               int steps_offset = 0) {
  detail::check_timestep_counts(train_timesteps, steps);
  std::vector<double> timesteps =
      detail::numpy_linspace(0, std::sqrt(train_timesteps * 0.8), steps);
  double free = 0;
  for (double& t : timesteps) {
    t = (std::max)(std::floor(detail::rounded(t * t)), free);
    free = t + 1;
  }
  const int largest = static_cast<int>(timesteps.back());
  detail::check_steps_offset(train_timesteps, steps, steps_offset, largest);
  for (double& t : timesteps) t += steps_offset;
  std::reverse(timesteps.begin(), timesteps.end());
  return timesteps;
}

/// The timesteps of `spacing`. As in the reference, `steps_offset` moves leading (and quadratic)
/// timesteps only; trailing and linspace already reach the end and ignore it.
inline std::vector<double> spaced_timesteps(int train_timesteps, int steps, TimestepSpacing spacing,
                                            int steps_offset = 0) {
  detail::check_timestep_counts(train_timesteps, steps);
  detail::require_range("steps_offset", steps_offset, 0, train_timesteps - 1);
  switch (spacing) {
    case TimestepSpacing::leading:
      return leading_timesteps(train_timesteps, steps, steps_offset);
    case TimestepSpacing::trailing:
      return trailing_timesteps(train_timesteps, steps);
    case TimestepSpacing::linspace:
      return linspace_timesteps(train_timesteps, steps);
    case TimestepSpacing::quadratic:
      return quadratic_timesteps(train_timesteps, steps, steps_offset);
  }
  fail(detail::text("spacing is ", static_cast<int>(spacing), "; it must lie in [0, 3]"));
}

}  // namespace diffusion

#endif  // DIFFUSION_SCHEDULE_TIMESTEPS_HPP
