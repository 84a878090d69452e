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

/// The names of such a table, in order.
template <class Value>
std::vector<std::string> keys(const std::map<std::string, Value>& names) {
  std::vector<std::string> list;
  for (const auto& [name, value] : names) list.push_back(name);
  return list;
}

}  // namespace examples

#endif  // DIFFUSION_EXAMPLES_NAMES_HPP
