#ifndef DIFFUSION_EXAMPLES_NAMES_HPP
#define DIFFUSION_EXAMPLES_NAMES_HPP

#include <diffusion/schedule/noise_schedule.hpp>
#include <diffusion/schedule/timesteps.hpp>

#include <map>
#include <string>
#include <vector>

namespace examples {

/// What command lines call the timestep spacings.
inline const std::map<std::string, diffusion::TimestepSpacing>& spacing_names() {
  static const std::map<std::string, diffusion::TimestepSpacing> names{
      {"leading", diffusion::TimestepSpacing::leading},
      {"trailing", diffusion::TimestepSpacing::trailing},
      {"linspace", diffusion::TimestepSpacing::linspace},
      {"quadratic", diffusion::TimestepSpacing::quadratic}};
  return names;
}

/// What command lines and plots call the beta schedules.
inline const std::map<std::string, diffusion::BetaSchedule>& beta_schedule_names() {
  static const std::map<std::string, diffusion::BetaSchedule> names{
      {"linear", diffusion::BetaSchedule::linear},
      {"scaled_linear", diffusion::BetaSchedule::scaled_linear},
      {"squaredcos_cap_v2", diffusion::BetaSchedule::squaredcos_cap_v2},
      {"sigmoid", diffusion::BetaSchedule::sigmoid},
      {"laplace", diffusion::BetaSchedule::laplace},
      {"exp", diffusion::BetaSchedule::exp},
      {"quadratic", diffusion::BetaSchedule::quadratic},
      {"const", diffusion::BetaSchedule::constant},
      {"jsd", diffusion::BetaSchedule::jsd}};
  return names;
}

inline std::vector<std::string> schedule_names() {
  std::vector<std::string> names;
  for (const auto& [name, schedule] : beta_schedule_names()) names.push_back(name);
  return names;
}

inline diffusion::BetaSchedule schedule_named(const std::string& name) {
  return beta_schedule_names().at(name);
}

}  // namespace examples

#endif  // DIFFUSION_EXAMPLES_NAMES_HPP
