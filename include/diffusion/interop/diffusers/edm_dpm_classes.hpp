#ifndef DIFFUSION_INTEROP_DIFFUSERS_EDM_DPM_CLASSES_HPP
#define DIFFUSION_INTEROP_DIFFUSERS_EDM_DPM_CLASSES_HPP

#include <diffusion/interop/diffusers/dpm_classes.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <vector>

/// EDMDPMSolverMultistepScheduler, CosineDPMSolverMultistepScheduler: DPM-Solver++ on states
/// x0 + sigma eps whose levels need no table.
namespace diffusion::detail {

/// The levels of these classes, and the time that the network is told. Plain data: threads may
/// share what none of them writes.
struct EdmLevels {
  double sigma_min = 0, sigma_max = 0, sigma_data = 1, rho = 7;
  bool karras = true;  ///< else exponential
  bool to_zero = true;
  bool cosine = false;  ///< tells 2 / pi arctan sigma, not log(sigma) / 4

  double time(double sigma) const {
    return cosine ? std::atan(sigma) / std::numbers::pi * 2 : std::log(sigma) / 4;
  }

  /// n levels in the type of the reference's tables.
  template <class Scalar>
  std::vector<double> sigmas(int n) const {
    const auto ramp = karras ? torch_linspace<Scalar>(0, 1, n)
                             : torch_linspace<Scalar>(std::log(sigma_min), std::log(sigma_max), n);
    std::vector<double> levels;
    const double first = std::pow(sigma_max, 1 / rho), last = std::pow(sigma_min, 1 / rho);
    for (const Scalar u : ramp) {
      const Scalar root = static_cast<Scalar>(first) +
                          rounded(static_cast<Scalar>(u * static_cast<Scalar>(last - first)));
      levels.push_back(
          static_cast<double>(karras ? std::pow(root, static_cast<Scalar>(rho)) : std::exp(u)));
    }
    if (!karras) std::reverse(levels.begin(), levels.end());
    return levels;
  }

  template <class Scalar>
  Grid grid(const DiffusersRun& run) const {
    if (!run.timesteps.empty() || !run.sigmas.empty())
      fail("own timesteps or sigmas are given; this class takes only a number of steps");
    require_range("steps", run.steps, 1, 1'000'000);
    std::vector<Knot> knots;
    for (const double s : sigmas<Scalar>(run.steps))
      knots.push_back({static_cast<double>(static_cast<Scalar>(time(s))), 1, s});
    const double end = to_zero ? 0 : static_cast<double>(static_cast<Scalar>(sigma_min));
    knots.push_back({to_zero ? knots.back().t : time(sigma_min), 1, end});
    return Grid::through(knots, {sigma_data, std::hypot(sigma_max, 1)});
  }
};

/// What the two classes share. `levels` holds the defaults of the class.
inline EdmLevels read_edm_levels(ConfigKeys& keys, DiffusersConfig& config, EdmLevels levels,
                                 std::string_view prediction) {
  static constexpr std::array<Named<bool>, 2> schedules = {
      {{"karras", true}, {"exponential", false}}};
  using Kind = PredictionType::Kind;
  static constexpr std::array<Named<Kind>, 2> predictions = {
      {{"epsilon", Kind::edm}, {"v_prediction", Kind::v}}};
  levels.sigma_min = keys.number("sigma_min", levels.sigma_min, positive);
  levels.sigma_max = keys.number("sigma_max", levels.sigma_max, positive);
  levels.sigma_data = keys.number("sigma_data", levels.sigma_data, positive);
  levels.karras =
      keys.choice<bool>("sigma_schedule", levels.karras ? "karras" : "exponential", schedules);
  levels.rho = keys.number("rho", levels.rho, positive);
  levels.to_zero =
      keys.choice<FinalSigma>("final_sigmas_type", "zero", final_sigma_names) == FinalSigma::zero;
  if (!(levels.sigma_min < levels.sigma_max))
    fail(text(keys.class_name(), ": sigma_min is ", levels.sigma_min,
              "; it must be below sigma_max, which is ", levels.sigma_max));
  config.train_timesteps = keys.integer("num_train_timesteps", 1000, 1, 1'000'000);
  config.prediction_type = PredictionType{
      keys.choice<Kind>("prediction_type", prediction, predictions), levels.sigma_data};
  config.method.grid = [levels](const DiffusersRun& run, TablePrecision precision) {
    return precision == TablePrecision::float32 ? levels.grid<float>(run)
                                                : levels.grid<double>(run);
  };
  config.method.level = [grid = config.method.grid](double t, const DiffusersRun& run,
                                                    TablePrecision precision) {
    return multistep_level(grid(run, precision), t);
  };
  config.method.sigmas = multistep_sigmas_of(false);
  return levels;
}

inline void read_edm_dpm(ConfigKeys& keys, DiffusersConfig& config) {
  EdmLevels levels{.sigma_min = 0.002, .sigma_max = 80, .sigma_data = 0.5};
  levels = read_edm_levels(keys, config, levels, "epsilon");
  const auto algorithm = read_dpm_algorithm(keys, 3);
  if (algorithm.renamed && levels.to_zero)
    fail(keys.class_name() +
         ": algorithm_type is \"deis\"; with final_sigmas_type zero it must be another");
  DpmClass dpm = read_dpm_class(keys, algorithm, config.behaviour);
  dpm.third_order_sde = false;
  dpm.options.euler_at_final = keys.flag("euler_at_final", false);
  dpm.options.clipping = read_thresholding(keys);
  set_plan(config, dpm);
}

inline void read_cosine_dpm(ConfigKeys& keys, DiffusersConfig& config) {
  read_edm_levels(keys, config,
                  {.sigma_min = 0.3, .sigma_max = 500, .karras = false, .cosine = true},
                  "v_prediction");
  DpmClass dpm = read_dpm_class(keys, {SolverForm::data, 1}, config.behaviour);
  dpm.third_order_sde = false;
  dpm.options.euler_at_final = keys.flag("euler_at_final", false);
  set_plan(config, dpm);
}

}  // namespace diffusion::detail

#endif  // DIFFUSION_INTEROP_DIFFUSERS_EDM_DPM_CLASSES_HPP
