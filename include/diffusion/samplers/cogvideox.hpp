#ifndef DIFFUSION_SAMPLERS_COGVIDEOX_HPP
#define DIFFUSION_SAMPLERS_COGVIDEOX_HPP

#include <diffusion/samplers/dpm_solver.hpp>

#include <utility>

namespace diffusion {

/// The rows of diffusers' CogVideoXDPMScheduler: DPM++ 2M SDE of the midpoint type
/// (DpmSolverOptions with order 2, eta 1), told apart by its bookkeeping. It draws the noise of a
/// first-order step before that of a second-order one, every step asks, and the last is of second
/// order unless `first_order_end` says that it leaves the list.
inline SamplingPlan cogvideox_dpm_plan(const Grid& grid, bool first_order_end) {
  PlanRows rows(grid, Basis::x0);
  for (int i = 0; i < grid.size(); ++i) {
    const auto [from, to] = grid[i];
    const detail::ExponentialStep step(from, to, SolverForm::data, 1);
    const bool first_order = i == 0 || (first_order_end && i + 1 == grid.size());
    rows.ask(i).x = step.x();
    double bend = 0;  // h / (2 h0), 0 where the step before came from alpha = 0
    if (!first_order) {
      if (!step.infinite()) bend = -0.5 / step.place(grid[i - 1].from);
      rows.noise(0);
    }
    rows.weigh(0, step.moment(0) * (1 + bend));
    rows.weigh(1, -step.moment(0) * bend);
    rows.noise(step.noise());
  }
  return std::move(rows).plan();
}

}  // namespace diffusion

#endif  // DIFFUSION_SAMPLERS_COGVIDEOX_HPP
