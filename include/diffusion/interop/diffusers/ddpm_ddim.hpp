#ifndef DIFFUSION_INTEROP_DIFFUSERS_DDPM_DDIM_HPP
#define DIFFUSION_INTEROP_DIFFUSERS_DDPM_DDIM_HPP

#include <diffusion/interop/diffusers_keys.hpp>
#include <diffusion/samplers/ddim.hpp>
#include <diffusion/samplers/ddpm.hpp>

#include <array>

/// DDPMScheduler, DDIMScheduler, their parallel twins, DDIMInverseScheduler.
namespace diffusion::detail {

inline constexpr std::array<Named<VarianceType>, 6> variance_type_names = {{
    {"fixed_small", VarianceType::fixed_small},
    {"fixed_small_log", VarianceType::fixed_small_log},
    {"fixed_large", VarianceType::fixed_large},
    {"fixed_large_log", VarianceType::fixed_large_log},
    {"learned", VarianceType::learned},
    {"learned_range", VarianceType::learned_range},
}};

inline void read_ddpm(ConfigKeys& keys, DiffusersConfig& config) {
  read_trained(keys, config, 5);
  DdpmOptions options;
  options.grid = read_grid(keys, spacing_names, config.train_timesteps);
  options.clipping = read_clipping(keys);
  options.variance = VarianceType::fixed_small;  // what null means: DPM-Solver's files hold it
  if (!keys.is_null("variance_type"))
    options.variance =
        keys.choice<VarianceType>("variance_type", "fixed_small", variance_type_names);
  options.noise_at_end = config.behaviour == Behaviour::compatible;
  if (options.variance == VarianceType::fixed_large_log)
    keys.note(DiffusersNote::Kind::questionable, "variance_type",
              "read as fixed_large; diffusers itself makes NaN of it");
  config.method.grid = grid_of_timesteps(*config.betas, options.grid);
  config.method.plan = [options](const Grid& grid, const DiffusersRun&) {
    return make_plan(grid, options);
  };
}

inline void read_ddim(ConfigKeys& keys, DiffusersConfig& config) {
  read_trained(keys, config, 3);
  DdimOptions options;
  options.grid = read_grid(keys, spacing_names, config.train_timesteps);
  options.grid.set_alpha_to_one = keys.flag("set_alpha_to_one", true);
  options.clipping = read_clipping(keys);
  if (config.behaviour == Behaviour::compatible) {
    options.grid.previous = PreviousTimestep::stride;
    options.epsilon = EpsilonRule::raw;
  }
  config.method.grid = grid_of_timesteps(*config.betas, options.grid);
  config.method.plan = [options](const Grid& grid, const DiffusersRun& run) {
    DdimOptions chosen = options;
    chosen.eta = run.eta.value_or(0);
    if (run.use_clipped_model_output) chosen.epsilon = EpsilonRule::rederived;
    return make_plan(grid, chosen);
  };
}

inline void read_ddim_inverse(ConfigKeys& keys, DiffusersConfig& config) {
  read_trained(keys, config, 3);
  DdimInverseOptions options;
  options.grid = read_grid(keys, SpacingNames(spacing_names).first(2), config.train_timesteps);
  options.grid.set_alpha_to_one = keys.renamed_flag("set_alpha_to_one", "set_alpha_to_zero", true);
  options.clipping = read_range_clipping(keys);
  if (config.behaviour == Behaviour::compatible) {
    options.grid.previous = PreviousTimestep::stride;
    options.epsilon = EpsilonRule::raw;
  }
  config.method.grid = grid_of_timesteps(*config.betas, options.grid);
  config.method.plan = [options](const Grid& grid, const DiffusersRun&) {
    return make_plan(grid, options);
  };
}

}  // namespace diffusion::detail

#endif  // DIFFUSION_INTEROP_DIFFUSERS_DDPM_DDIM_HPP
