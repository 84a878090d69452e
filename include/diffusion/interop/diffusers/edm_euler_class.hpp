#ifndef DIFFUSION_INTEROP_DIFFUSERS_EDM_EULER_CLASS_HPP
#define DIFFUSION_INTEROP_DIFFUSERS_EDM_EULER_CLASS_HPP

#include <diffusion/interop/diffusers/karras_classes.hpp>
#include <diffusion/samplers/euler.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <vector>

/// EDMEulerScheduler.
namespace diffusion::detail {

/// What EDM's configuration says. Plain data: threads may share what none of them writes.
struct EdmRule {
  double sigma_min = 0.002, sigma_max = 80, sigma_data = 0.5, rho = 7;
  bool exponential = false;
  FinalSigma final_sigma = FinalSigma::zero;  ///< or repeated
  /// The reference takes own sigmas as places between sigma_max (0) and sigma_min (1).
  bool own_sigmas_are_places = true;
};

inline std::vector<double> edm_sigmas(const EdmRule& rule, const DiffusersRun& run) {
  const bool own = !run.sigmas.empty();
  if (own && !rule.own_sigmas_are_places) return run.sigmas;
  if (!own) require_range("steps", run.steps, 1, 1'000'000);
  const int n = own ? static_cast<int>(run.sigmas.size()) : run.steps;
  if (rule.exponential) {
    std::vector<double> sigmas =
        torch_linspace<double>(std::log(rule.sigma_min), std::log(rule.sigma_max), n);
    for (double& s : sigmas) s = std::exp(s);
    std::reverse(sigmas.begin(), sigmas.end());
    return sigmas;
  }
  std::vector<double> places = own ? run.sigmas : torch_linspace<double>(0, 1, n);
  const double first = std::pow(rule.sigma_max, 1 / rule.rho);
  const double last = std::pow(rule.sigma_min, 1 / rule.rho);
  for (double& place : places) place = std::pow(first + rounded(place * (last - first)), rule.rho);
  return places;
}

inline Grid edm_grid(const EdmRule& rule, const DiffusersRun& run, TablePrecision precision) {
  if (!run.timesteps.empty())
    fail("own timesteps are given; an EDM class takes a number of steps or sigmas");
  MultistepLevels levels;
  levels.sigmas = edm_sigmas(rule, run);
  for (std::size_t i = 0; i < levels.sigmas.size(); ++i)
    if (!is_finite(levels.sigmas[i]) || !(levels.sigmas[i] > 0))
      fail(text("level ", i, " of the run has sigma ", levels.sigmas[i],
                "; it must be positive and finite"));
  levels.timesteps.resize(levels.sigmas.size());
  levels.sigmas.push_back(rule.final_sigma == FinalSigma::zero ? 0 : levels.sigmas.back());
  const StateSpace space{rule.sigma_data, std::hypot(rule.sigma_max, 1.0)};
  return precision == TablePrecision::float32 ? sigma_space_grid<float>(levels, true, space)
                                              : sigma_space_grid<double>(levels, true, space);
}

inline void read_edm_euler(ConfigKeys& keys, DiffusersConfig& config) {
  static constexpr std::array<Named<bool>, 2> schedules = {
      {{"karras", false}, {"exponential", true}}};
  static constexpr std::array<Named<FinalSigma>, 2> finals = {
      {{"zero", FinalSigma::zero}, {"sigma_min", FinalSigma::repeated}}};
  static constexpr std::array<Named<PredictionType::Kind>, 2> predictions = {
      {{"epsilon", PredictionType::Kind::edm}, {"v_prediction", PredictionType::Kind::v}}};
  EdmRule rule;
  rule.sigma_min = keys.number("sigma_min", 0.002, positive);
  rule.sigma_max = keys.number("sigma_max", 80, positive);
  rule.sigma_data = keys.number("sigma_data", 0.5, positive);
  rule.rho = keys.number("rho", 7, positive);
  rule.exponential = keys.choice<bool>("sigma_schedule", "karras", schedules);
  rule.final_sigma = keys.choice<FinalSigma>("final_sigmas_type", "zero", finals);
  rule.own_sigmas_are_places = config.behaviour == Behaviour::compatible;
  config.train_timesteps = keys.integer("num_train_timesteps", 1000, 1, 1'000'000);
  config.prediction_type = {
      keys.choice<PredictionType::Kind>("prediction_type", "epsilon", predictions),
      rule.sigma_data};

  EulerOptions options;
  options.prediction_type = config.prediction_type;
  if (config.behaviour == Behaviour::compatible) options.order = ChurnOrder::after_ask;
  config.method.grid = [rule](const DiffusersRun& run, TablePrecision precision) {
    return edm_grid(rule, run, precision);
  };
  config.method.plan = [options](const Grid& grid, const DiffusersRun& run) {
    EulerOptions chosen = options;
    chosen.churn = churn_of(run);
    return make_plan(grid, chosen, [](double log_snr) {
      return Knot{-log_snr / 8, 1, std::exp(-log_snr / 2)};
    });
  };
  config.method.sigmas = step_levels;
  set_karras_levels(config.method);
}

}  // namespace diffusion::detail

#endif  // DIFFUSION_INTEROP_DIFFUSERS_EDM_EULER_CLASS_HPP
