#ifndef DIFFUSION_INTEROP_DIFFUSERS_VIDEO_CLASSES_HPP
#define DIFFUSION_INTEROP_DIFFUSERS_VIDEO_CLASSES_HPP

#include <diffusion/interop/diffusers_keys.hpp>
#include <diffusion/samplers/cogvideox.hpp>
#include <diffusion/samplers/ddim.hpp>
#include <diffusion/samplers/dpm_solver.hpp>

/// CogVideoXDDIMScheduler and CogVideoXDPMScheduler.
namespace diffusion::detail {

/// The keys of both classes; leaves the grid's options, and `method.grid` made of them. Neither
/// class clips, whatever its keys say.
inline GridOptions read_cogvideox(ConfigKeys& keys, DiffusersConfig& config) {
  read_trained(keys, config, 3, scaled_latent_betas);
  config.betas->options.snr_shift_scale = keys.number("snr_shift_scale", 3, positive);
  GridOptions grid = read_grid(keys, spacing_names, config.train_timesteps);
  grid.set_alpha_to_one = keys.flag("set_alpha_to_one", true);
  const bool clips = keys.flag("clip_sample", true);
  if (clips && keys.has("clip_sample"))
    keys.note(DiffusersNote::Kind::questionable, "clip_sample", "this class never clips");
  keys.number("clip_sample_range", 1, positive);
  keys.number("sample_max_value", 1, at_least_one);
  if (config.behaviour == Behaviour::compatible) grid.previous = PreviousTimestep::stride;

  // scaled_linear's tables are in double precision in Python too.
  const bool exact =
      config.betas->trained.empty() && config.betas->kind == BetaSchedule::scaled_linear;
  const auto make = grid_of_timesteps(*config.betas, grid);
  config.method.grid = [make, exact](const DiffusersRun& run, TablePrecision precision) {
    return make(run, exact ? TablePrecision::float64 : precision);
  };
  return grid;
}

inline void read_cogvideox_ddim(ConfigKeys& keys, DiffusersConfig& config) {
  DdimOptions options;
  options.grid = read_cogvideox(keys, config);
  config.method.plan = [options](const Grid& grid, const DiffusersRun&) {
    return make_plan(grid, options);
  };
}

inline void read_cogvideox_dpm(ConfigKeys& keys, DiffusersConfig& config) {
  read_cogvideox(keys, config);
  if (config.behaviour == Behaviour::correct) {
    config.method.plan = [](const Grid& grid, const DiffusersRun&) {
      return make_plan(grid, DpmSolverOptions{.order = 2, .eta = 1});
    };
    return;
  }
  config.method.plan = [n = config.train_timesteps](const Grid& grid, const DiffusersRun& run) {
    const int steps = run.timesteps.empty() ? run.steps : static_cast<int>(run.timesteps.size());
    return cogvideox_dpm_plan(grid, grid[grid.size() - 1].from.t < n / steps);
  };
}

}  // namespace diffusion::detail

#endif  // DIFFUSION_INTEROP_DIFFUSERS_VIDEO_CLASSES_HPP
