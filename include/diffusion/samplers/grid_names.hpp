#ifndef DIFFUSION_SAMPLERS_GRID_NAMES_HPP
#define DIFFUSION_SAMPLERS_GRID_NAMES_HPP

#include <diffusion/schedule/grid.hpp>

#include <string>
#include <vector>

/// The names that A1111's web UI, ComfyUI and diffusers give to grids, as data.
namespace diffusion {

/// A grid by its names elsewhere. Plain data: threads may share what none of them writes.
struct GridName {
  std::string name;                  ///< ours
  std::vector<std::string> aliases;  ///< of all three programs
  std::string diffusers;             ///< keys of a configuration
  GridOptions options;
  std::string note;  ///< where the programs do otherwise
};

/// A name that is known elsewhere and not supported here, and why. Plain data: threads may share
/// what none of them writes.
struct RefusedName {
  std::string name, reason;
};

/// All grids that have a name.
inline const std::vector<GridName>& grid_names() {
  const auto rule = [](SigmaRule which) { return GridOptions{.sigmas = {.rule = which}}; };
  const auto aligned = [](AlignYourSteps table) {
    return GridOptions{.sigmas = {.rule = SigmaRule::align_your_steps, .table = table}};
  };
  const auto spaced = [](TimestepSpacing spacing) { return GridOptions{.spacing = spacing}; };
  using enum SigmaRule;
  static const std::vector<GridName> names = {
      {"Normal",
       {"uniform", "linspace"},
       "timestep_spacing linspace",
       spaced(TimestepSpacing::linspace),
       ""},
      {"Karras", {"ka"}, "use_karras_sigmas", rule(karras), ""},
      {"Exponential",
       {"exp", "lu lambdas"},
       "use_exponential_sigmas, use_lu_lambdas",
       rule(exponential),
       ""},
      {"Polyexponential", {}, "", rule(polyexponential), ""},
      {"SGM uniform",
       {},
       "timestep_spacing trailing",
       rule(sgm_uniform),
       "diffusers rounds the times"},
      {"Simple", {}, "timestep_spacing trailing", rule(simple), ""},
      {"Trailing", {}, "timestep_spacing trailing", spaced(TimestepSpacing::trailing), ""},
      {"Leading", {}, "timestep_spacing leading", spaced(TimestepSpacing::leading), ""},
      {"DDIM uniform",
       {},
       "timestep_spacing leading, steps_offset 1",
       {.spacing = TimestepSpacing::leading, .steps_offset = 1},
       "ComfyUI makes more steps than asked for where their number does not divide the times"},
      {"Beta",
       {"beta times"},
       "",
       rule(beta_times),
       "of the times, as in its paper and ComfyUI, which rounds them; A1111's Beta is Beta sigmas"},
      {"Beta sigmas", {}, "use_beta_sigmas", rule(beta), "of the levels; A1111's Beta"},
      {"KL optimal", {}, "", rule(kl_optimal), "A1111's ends at sigma_min"},
      {"Align Your Steps",
       {"AYS"},
       "",
       aligned(AlignYourSteps::stable_diffusion_1),
       "for Stable Diffusion 1; A1111 has one level more before 0"},
      {"AYS XL", {"Align Your Steps XL"}, "", aligned(AlignYourSteps::stable_diffusion_xl), ""},
      {"AYS SVD",
       {"Align Your Steps SVD"},
       "",
       aligned(AlignYourSteps::stable_video_diffusion),
       ""},
  };
  return names;
}

/// Names of grids that are refused.
inline const std::vector<RefusedName>& refused_grid_names() {
  static const std::vector<RefusedName> names = {
      {"linear_quadratic", "give its times as GridOptions::timesteps"},
      {"Karras Exponential", "give its levels as GridOptions::own_sigmas"},
      {"Turbo", "give its times as GridOptions::timesteps: 999, 899, 799, ..."},
  };
  return names;
}

}  // namespace diffusion

#endif  // DIFFUSION_SAMPLERS_GRID_NAMES_HPP
