#ifndef DIFFUSION_INTEROP_DIFFUSERS_REPAINT_CLASS_HPP
#define DIFFUSION_INTEROP_DIFFUSERS_REPAINT_CLASS_HPP

#include <diffusion/edit/repaint.hpp>
#include <diffusion/interop/diffusers_keys.hpp>
#include <diffusion/samplers/ddim.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <span>
#include <utility>
#include <vector>

/// RePaintScheduler: its plan. What is known of the picture is the edit `Inpaint` on its run.
namespace diffusion::detail {

inline constexpr std::array<Named<BetaSchedule>, 4> repaint_beta_names = {{
    {"linear", BetaSchedule::linear},
    {"scaled_linear", BetaSchedule::scaled_linear},
    {"squaredcos_cap_v2", BetaSchedule::squaredcos_cap_v2},
    {"sigmoid", BetaSchedule::sigmoid},
}};

/// Where a step of the walk back leads, as a timestep; one call of the reference is one step.
inline std::vector<double> repaint_times(const SamplingPlan& plan) {
  std::vector<double> times;
  for (int i = 0; i < plan.size(); ++i)
    if (plan[i].ask)
      times.push_back(plan[i].at.t);
    else if (i + 1 == plan.size() || plan[i + 1].step != plan[i].step || plan[i + 1].ask)
      times.push_back(plan[i].to.t);
  return times;
}

/// The rows of the reference. A call of its undo_step goes through the betas of one stretch of the
/// table, a stage for each. The stretch begins at the timestep that the network was told last,
/// which is a step above the level of the state: so after a jump the state has more noise than the
/// network is told. Each step makes one draw, which the known part uses, too, also where the step
/// itself adds no noise.
inline SamplingPlan repaint_reference_plan(const Grid& grid, std::span<const double> betas,
                                           const DdimOptions& options,
                                           const RepaintOptions& jumps) {
  PlanRows rows(grid, Basis::eps);
  const int n = grid.size();
  int step = grid.first_step();
  const auto draw = [&](double weight) { rows.again(rows.noise(0), weight); };
  const auto down = [&](int i) {
    const GridStep& one = grid[i];
    const Ancestral part = ancestral(one.from, one.to, options.eta, i);
    Stage& row = rows.ddim(i);
    row.eps = part.kept;
    row.step = step++;
    draw(one.from.t > 0 ? part.fresh : 0);
  };
  const auto undo = [&](Knot at, double first, double end) {
    for (double t = first; t < end; ++t) {
      const double beta = betas[static_cast<std::size_t>(t)], kept = std::sqrt(1 - beta);
      const Knot to{t + 1, kept * at.alpha, std::sqrt(beta + kept * at.sigma * kept * at.sigma)};
      Stage& row = rows.move(0, at, to);
      row.x = kept;
      row.step = step;
      draw(std::sqrt(beta));
      at = to;
    }
    ++step;
    return at;
  };
  for (const RepaintStretch& stretch : repaint_walk(n, jumps)) {
    for (int i = n - stretch.begin; i < n - stretch.end; ++i) down(i);
    if (!stretch.jumps) continue;
    Knot at = grid[n - stretch.end - 1].to;
    for (int i = n - stretch.end - 1, k = 0; k < jumps.jump_length; --i, ++k)
      at = undo(at, grid[i].from.t, grid[i - 1].from.t);
  }
  return std::move(rows).plan({.epsilon_rule = options.epsilon, .clipping = options.clipping});
}

inline void read_repaint(ConfigKeys& keys, DiffusersConfig& config) {
  config.betas = read_betas(keys, repaint_beta_names, {.rescales = false});
  config.train_timesteps = config.betas->options.train_timesteps;
  DdimOptions options;
  options.eta = keys.number("eta", 0, unit);
  if (keys.flag("clip_sample", true)) options.clipping = Clipping::range();
  const auto grid = grid_of_timesteps(*config.betas, options.grid);
  config.method.grid = [grid, most = config.train_timesteps](DiffusersRun run,
                                                             TablePrecision precision) {
    if (!run.timesteps.empty())
      fail(text("own timesteps are given (", run.timesteps.size(),
                "); diffusers' RePaintScheduler takes none"));
    run.steps = (std::min)(run.steps, most);
    return grid(run, precision);
  };
  config.method.timesteps = repaint_times;
  const auto jumps_of = [](const DiffusersRun& run) {
    return RepaintOptions{.jump_length = run.jump_length, .jump_n_sample = run.jump_n_sample};
  };
  if (config.behaviour == Behaviour::correct) {
    config.method.plan = [options, jumps_of](const Grid& whole, const DiffusersRun& run) {
      RepaintOptions jumps = jumps_of(run);
      if (repaint_places(whole.size(), jumps).empty()) jumps.jump_n_sample = 1;
      return repaint_plan(
          whole, [&](const Grid& part) { return make_plan(part, options); }, jumps);
    };
    return;
  }
  options.epsilon = EpsilonRule::raw;
  config.method.plan = [options, jumps_of, betas = *config.betas](const Grid& whole,
                                                                  const DiffusersRun& run) {
    RepaintOptions jumps = jumps_of(run);
    jumps.from_clean = true;
    return repaint_reference_plan(whole, betas.schedule<double>().betas(), options, jumps);
  };
}

}  // namespace diffusion::detail

#endif  // DIFFUSION_INTEROP_DIFFUSERS_REPAINT_CLASS_HPP
