#ifndef DIFFUSION_VIDEO_FORCING_HPP
#define DIFFUSION_VIDEO_FORCING_HPP

#include <diffusion/error.hpp>
#include <diffusion/sampling/sliced_schedule.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>
#include <vector>

/// Schedules for runs in slices: when which frame, token or action is denoised. `steps` is the
/// number of steps of the plan, SamplingPlan::steps().
namespace diffusion {

namespace detail {

inline void require_steps_and_slices(int steps, std::size_t slices) {
  require_at_least("the number of steps", steps, 1);
  require_at_least("the number of slices", slices, std::size_t{1});
}

/// Slice k begins when `delay(k)` rounds of one step each have passed.
template <class Delay>
SliceSchedule delayed(int steps, std::size_t slices, const Delay& delay) {
  SliceSchedule schedule = SliceSchedule::from_noise(slices, {});
  int rounds = 0;
  for (std::size_t k = 0; k < slices; ++k) rounds = (std::max)(rounds, steps + delay(k));
  for (int r = 1; r <= rounds; ++r) {
    std::vector<int> row;
    for (std::size_t k = 0; k < slices; ++k) row.push_back((std::clamp)(r - delay(k), 0, steps));
    schedule.rows.push_back(std::move(row));
  }
  return schedule;
}

}  // namespace detail

/// All slices together: a plain run.
inline SliceSchedule full_sequence(int steps, std::size_t slices) {
  detail::require_steps_and_slices(steps, slices);
  return detail::delayed(steps, slices, [](std::size_t) { return 0; });
}

/// One block of frames after the other, each from noise to clean data while those before are clean
/// and those behind are noise.
inline SliceSchedule autoregressive(int steps, std::size_t frames, std::size_t block = 1) {
  detail::require_steps_and_slices(steps, frames);
  detail::require_at_least("block", block, std::size_t{1});
  return detail::delayed(steps, frames,
                         [&](std::size_t k) { return steps * static_cast<int>(k / block); });
}

/// Each frame `uncertainty` steps behind the one before it, so that the near future is sharper than
/// the far one (Chen et al. 2024, arXiv 2407.01392: the pyramid schedule and its uncertainty
/// scale). 0 is `full_sequence`, `steps` or more `autoregressive`. At least 0; a fraction is
/// rounded down frame by frame.
inline SliceSchedule pyramid(int steps, std::size_t frames, double uncertainty) {
  detail::require_steps_and_slices(steps, frames);
  detail::require_range("uncertainty", uncertainty, 0.0, 1e6);
  const double lag = (std::min)(uncertainty, static_cast<double>(steps));
  return detail::delayed(steps, frames, [&](std::size_t k) {
    return static_cast<int>(std::floor(static_cast<double>(k) * lag + 1e-9));
  });
}

/// A window of `window` frames rolls over the clip: in it the levels rise evenly from clean to
/// noise, and only its frames are denoised (Ruhe et al. 2024, arXiv 2402.09470). At its ends the
/// window grows out of noise and shrinks into clean frames. `pyramid` with the uncertainty steps /
/// window; for clips without an end see FrameQueue.
inline SliceSchedule rolling(int steps, std::size_t frames, std::size_t window) {
  detail::require_at_least("window", window, std::size_t{1});
  return pyramid(steps, frames, static_cast<double>(steps) / static_cast<double>(window));
}

/// A plain run that slices join where it comes to their level: `start[k]` is the step at which
/// slice k begins, and until then it waits there. 0: generated; `steps`: known, kept as it is;
/// between: kept the more, the later it joins (a soft mask). So image-to-video networks with a time
/// for each token are given pictures, and each token its own strength.
inline SliceSchedule joining(int steps, std::vector<int> start) {
  detail::require_steps_and_slices(steps, start.size());
  for (const int step : start)
    detail::require_range("the step where a slice joins", step, 0, steps);
  SliceSchedule schedule{std::move(start), {}};
  const int first = *std::min_element(schedule.start.begin(), schedule.start.end());
  for (int r = first + 1; r <= steps; ++r) {
    std::vector<int> row = schedule.start;
    for (int& step : row) step = (std::max)(step, r);
    schedule.rows.push_back(std::move(row));
  }
  return schedule;
}

/// The step of `joining` for a strength in [0, 1]: 1 generates the slice, 0 keeps it; between them,
/// the fraction of the steps that it goes through, rounded to the nearest.
inline int step_at_strength(int steps, double strength) {
  detail::require_at_least("the number of steps", steps, 1);
  detail::require_range("strength", strength, 0.0, 1.0);
  return steps - static_cast<int>(std::lround(strength * steps));
}

}  // namespace diffusion

#endif  // DIFFUSION_VIDEO_FORCING_HPP
