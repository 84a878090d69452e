#ifndef DIFFUSION_SAMPLERS_RESTART_HPP
#define DIFFUSION_SAMPLERS_RESTART_HPP

#include <diffusion/error.hpp>
#include <diffusion/plan/join.hpp>
#include <diffusion/samplers/sampler.hpp>
#include <diffusion/schedule/sigma_spacing.hpp>

#include <cmath>
#include <concepts>
#include <cstddef>
#include <utility>
#include <vector>

namespace diffusion {

/// One interval that a run goes through again. Levels are s = sigma / alpha. Plain data: threads
/// may share what none of them writes.
struct RestartInterval {
  double s_min = 0.1;  ///< where it jumps back from: the level of the grid that is nearest
  double s_max = 0.3;  ///< to which noise, above that
  int steps = 3;       ///< steps that it takes down again, >= 1
  int repeats = 1;     ///< how often, >= 0
};

/// Options of `restart_plan`. Plain data: threads may share what none of them writes.
struct RestartOptions {
  std::vector<RestartInterval> intervals = {RestartInterval{}};
  double rho = 7;      ///< spacing of the steps down (karras_sigmas), 0.01 to 1000
  double s_noise = 1;  ///< factor on the noise of a jump, 0 to 10
};

namespace detail {

inline void check_restart(const RestartOptions& options) {
  require_range("RestartOptions::rho", options.rho, 0.01, 1000.0);
  require_range("RestartOptions::s_noise", options.s_noise, 0.0, 10.0);
  for (std::size_t i = 0; i < options.intervals.size(); ++i) {
    const RestartInterval& one = options.intervals[i];
    const auto require = [&](const char* part, const auto& value, auto low, auto high) {
      require_range(text("RestartInterval::", part, " of intervals[", i, "]").c_str(), value, low,
                    high);
    };
    require("s_min", one.s_min, 1e-150, 1e150);
    require("s_max", one.s_max, one.s_min, 1e150);
    require("steps", one.steps, 1, 10'000);
    require("repeats", one.repeats, 0, 10'000);
  }
}

/// The step of a grid that ends nearest to s in log s, of those that end with noise; -1: none.
inline int nearest_end(const Grid& grid, double s) {
  int nearest = -1;
  double least = 0;
  for (int i = 0; i < grid.size(); ++i) {
    const Knot& to = grid[i].to;
    if (to.sigma == 0 || to.alpha == 0) continue;
    const double distance = std::abs(std::log(ratio_of(to) / s));
    if (nearest >= 0 && distance >= least) continue;
    nearest = i;
    least = distance;
  }
  return nearest;
}

}  // namespace detail

/// Restart sampling (Xu et al. 2023, arXiv 2306.14878) with any sampler: where the run
/// comes to s_min of an interval, noise takes it back to s_max and it comes down again, `repeats`
/// times. `plan_of(grid)` is the sampler's plan on a part of the run; a multistep method starts
/// anew after each jump. `between` gives the knots of the steps down. Keeps the laws if the sampler
/// does; the network calls are those of the parts. Fails where an interval lies outside the grid.
template <class PlanOf>
SamplingPlan restart_plan(const Grid& grid, const KnotAt& between, const PlanOf& plan_of,
                          const RestartOptions& options) {
  detail::check_restart(options);
  PlanJoin join;
  int begin = 0;  // the step of the grid that comes next
  for (const RestartInterval& interval : options.intervals) {
    const int end = detail::nearest_end(grid, interval.s_min) + 1;
    if (end == 0) fail("no step of the grid ends with noise, so there is none to restart from");
    if (end < begin)
      fail(detail::text("RestartInterval::s_min is ", interval.s_min, "; after ", begin, " of ",
                        grid.size(), " steps there is less noise than that: give the intervals ",
                        "from the noisier to the cleaner"));
    if (end > begin) join.add(plan_of(grid.cut(begin, end)));
    begin = end;
    const Knot low = grid[end - 1].to;
    const double s_low = detail::ratio_of(low);
    const double s_most = detail::ratio_of(grid.start());
    if (!(interval.s_max > s_low && interval.s_max <= s_most * (1 + 1e-12)))
      fail(detail::text("RestartInterval::s_max is ", interval.s_max,
                        "; it must be above the level where the jump starts, ", s_low,
                        ", and at most that where the run starts, ", s_most));
    std::vector<Knot> down;
    for (const double s : karras_sigmas(interval.steps + 1, s_low, interval.s_max, options.rho))
      down.push_back(between(-2 * std::log(s)));
    down.back() = low;
    for (int k = 0; k < interval.repeats; ++k) {
      join.add_noise(low, down.front(), options.s_noise);
      join.add(plan_of(Grid::through(down, {grid.space().sigma_data, 0})));
    }
  }
  if (begin < grid.size()) join.add(plan_of(grid.cut(begin)));
  return std::move(join).plan();
}

/// The same with a sampler on its own grid.
template <class Sampler>
requires requires(const Sampler& sampler, const Grid& grid) {
  { sampler.plan(grid) } -> std::same_as<SamplingPlan>;
  { sampler.grid() } -> std::same_as<Grid>;
}
SamplingPlan restart_plan(const Sampler& sampler, const RestartOptions& options = {}) {
  const Grid grid = sampler.grid();
  return restart_plan(
      grid, knots_between(sampler.schedule(), grid),
      [&](const Grid& part) { return sampler.plan(part); }, options);
}

}  // namespace diffusion

#endif  // DIFFUSION_SAMPLERS_RESTART_HPP
