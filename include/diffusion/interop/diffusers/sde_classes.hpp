#ifndef DIFFUSION_INTEROP_DIFFUSERS_SDE_CLASSES_HPP
#define DIFFUSION_INTEROP_DIFFUSERS_SDE_CLASSES_HPP

#include <diffusion/interop/diffusers_keys.hpp>
#include <diffusion/samplers/sde.hpp>
#include <diffusion/schedule/arithmetic.hpp>

#include <cmath>
#include <cstddef>
#include <vector>

/// ScoreSdeVeScheduler and ScoreSdeVpScheduler: stochastic differential equations of score models.
namespace diffusion::detail {

/// The continuous times of both classes: even, from 1 to the last one.
inline std::vector<double> sde_times(const char* class_name, int steps, double last,
                                     TablePrecision precision) {
  require_range(text("num_inference_steps of ", class_name).c_str(), steps, 1, 1'000'000);
  if (precision == TablePrecision::float64) return torch_linspace<double>(1, last, steps);
  const auto times = torch_linspace<float>(1, last, steps);
  return {times.begin(), times.end()};
}

inline void refuse_own_times(const char* class_name, const DiffusersRun& run) {
  if (!run.timesteps.empty() || !run.sigmas.empty())
    fail(text(class_name, " takes a number of steps; it was given ", run.timesteps.size(),
              " timesteps and ", run.sigmas.size(), " sigmas"));
}

/// The levels of the variance exploding class. It keeps two lists: what the network is told, by
/// exact times, and what the weights are made of, even in log sigma. They differ by sampling_eps.
struct VeLevels {
  double sigma_min, sigma_max, sampling_eps;

  double told(double time, TablePrecision precision) const {
    return in_precision(sigma_min * std::pow(sigma_max / sigma_min, time), precision);
  }

  std::vector<double> discrete(int n, TablePrecision precision) const {
    const double low = std::log(sigma_min), high = std::log(sigma_max);
    std::vector<double> sigmas;
    if (precision == TablePrecision::float64)
      for (const double x : torch_linspace<double>(low, high, n)) sigmas.push_back(std::exp(x));
    else
      for (const float x : torch_linspace<float>(low, high, n))
        sigmas.push_back(static_cast<double>(std::exp(x)));
    return sigmas;
  }

  /// Where a step starts in `discrete`: the time, multiplied and cut in the precision it is kept.
  static std::size_t index(double time, int n, TablePrecision precision) {
    const double place =
        precision == TablePrecision::float32
            ? static_cast<double>(rounded(static_cast<float>(time) * static_cast<float>(n - 1)))
            : rounded(time * (n - 1));
    return static_cast<std::size_t>(place);
  }

  Grid grid(const DiffusersRun& run, TablePrecision precision) const {
    refuse_own_times("ScoreSdeVeScheduler", run);
    const auto times = sde_times("ScoreSdeVeScheduler", run.steps, sampling_eps, precision);
    const auto sigmas = discrete(run.steps, precision);
    std::vector<GridStep> steps;
    for (std::size_t i = 0; i < times.size(); ++i) {
      const std::size_t at = index(times[i], run.steps, precision);
      const Knot from{told(times[i], precision), 1, sigmas[at]};
      const double next = i + 1 < times.size() ? told(times[i + 1], precision) : 0;
      steps.push_back({from, {next, 1, at > 0 ? sigmas[at - 1] : 0}});
    }
    return Grid(std::move(steps), 0, {0, sigma_max});
  }

  /// The same with levels that are what the network is told.
  Grid correct_grid(const DiffusersRun& run, TablePrecision precision) const {
    refuse_own_times("ScoreSdeVeScheduler", run);
    std::vector<Knot> knots;
    for (const double t : sde_times("ScoreSdeVeScheduler", run.steps, sampling_eps, precision)) {
      const double sigma = told(t, precision);
      knots.push_back({sigma, 1, sigma});
    }
    knots.push_back({0, 1, 0});
    return Grid::through(knots, {0, sigma_max});
  }
};

/// What is told at each step, that is at its predictor.
inline std::vector<double> told_by_step(const SamplingPlan& plan) {
  std::vector<double> told;
  for (int i = 0; i < plan.size(); ++i)
    if (i + 1 == plan.size() || plan[i + 1].step != plan[i].step) told.push_back(plan[i].at.t);
  return told;
}

inline void read_ve_sde(ConfigKeys& keys, DiffusersConfig& config) {
  constexpr NumberLimit level{1e-100, 1e6, "it must be a number in [1e-100, 1e6]"};
  config.train_timesteps = keys.integer("num_train_timesteps", 2000, 1, 1'000'000);
  const double snr = keys.number("snr", 0.15, {0, 1e6, "it must be a number in [0, 1e6]"});
  const VeLevels levels{keys.number("sigma_min", 0.01, level),
                        keys.number("sigma_max", 1348, level),
                        keys.number("sampling_eps", 1e-5, unit)};
  if (!(levels.sigma_min < levels.sigma_max))
    fail(text(keys.class_name(), ": sigma_min is ", levels.sigma_min,
              "; it must be below sigma_max, which is ", levels.sigma_max));
  const bool compatible = config.behaviour == Behaviour::compatible;
  ReverseSdeOptions options;
  options.correct_steps = keys.integer("correct_steps", 1, 0, 1000);
  options.snr = snr;
  options.noise_at_end = compatible;
  config.prediction_type = PredictionType::score;

  config.method.grid = [levels, compatible](const DiffusersRun& run, TablePrecision precision) {
    return compatible ? levels.grid(run, precision) : levels.correct_grid(run, precision);
  };
  config.method.plan = [options](const Grid& grid, const DiffusersRun&) {
    return make_plan(grid, options);
  };
  config.method.sigmas = told_by_step;
  config.method.timesteps = [levels](const SamplingPlan& plan) {
    std::vector<double> times = told_by_step(plan);
    for (double& t : times)
      t = std::log(t / levels.sigma_min) / std::log(levels.sigma_max / levels.sigma_min);
    return times;
  };
  // add_noise counts the even levels from the least noise, those of the last set_sigmas.
  const int trained = config.train_timesteps;
  config.method.level = [levels, trained](double t, const DiffusersRun& run,
                                          TablePrecision precision) {
    const auto sigmas = levels.discrete(run.timesteps.empty() ? run.steps : trained, precision);
    require_range("the index of a sigma", t, 0.0, static_cast<double>(sigmas.size() - 1));
    const double sigma = sigmas[static_cast<std::size_t>(t)];
    return Knot{sigma, 1, sigma};
  };
}

/// Rates and levels of the variance preserving class.
struct VpRates {
  double beta_min, beta_max, sampling_eps;

  double beta(double t) const { return beta_min + t * (beta_max - beta_min); }
  Knot knot(double t) const {
    const double integral = t * (beta_min + t * (beta_max - beta_min) / 2);
    return {t, std::exp(-integral / 2), std::sqrt(-std::expm1(-integral))};
  }

  /// The same as Python works it out, which loses digits at small t.
  template <class Scalar>
  Knot rounded_knot(double time) const {
    const auto t = static_cast<Scalar>(time), rise = static_cast<Scalar>(beta_max - beta_min);
    const Scalar squares = rounded(rounded(Scalar(-0.25) * rounded(t * t)) * rise);
    const Scalar log_alpha =
        rounded(squares - rounded(rounded(Scalar(0.5) * t) * static_cast<Scalar>(beta_min)));
    const auto variance = static_cast<double>(1 - rounded(std::exp(2 * log_alpha)));
    return {time, std::sqrt(1 - variance), std::sqrt(variance)};
  }

  Grid grid(const DiffusersRun& run, TablePrecision precision, bool compatible) const {
    refuse_own_times("ScoreSdeVpScheduler", run);
    std::vector<Knot> knots;
    for (const double t : sde_times("ScoreSdeVpScheduler", run.steps, sampling_eps, precision))
      knots.push_back(!compatible                            ? knot(t)
                      : precision == TablePrecision::float32 ? rounded_knot<float>(t)
                                                             : rounded_knot<double>(t));
    knots.push_back({0, 1, 0});
    return Grid::through(knots);
  }
};

inline void read_vp_sde(ConfigKeys& keys, DiffusersConfig& config) {
  constexpr NumberLimit rate{0, 1000, "it must be a number in [0, 1000]"};
  config.train_timesteps = keys.integer("num_train_timesteps", 2000, 1, 1'000'000);
  const VpRates rates{keys.number("beta_min", 0.1, rate), keys.number("beta_max", 20, rate),
                      keys.number("sampling_eps", 1e-3, unit)};
  if (rates.beta_min == 0 && rates.beta_max == 0)
    fail(text(keys.class_name(), ": beta_max is 0, as is beta_min; one must be positive"));
  const bool compatible = config.behaviour == Behaviour::compatible;
  config.method.grid = [rates, compatible](const DiffusersRun& run, TablePrecision precision) {
    return rates.grid(run, precision, compatible);
  };
  // Python takes n steps of 1 / n at times that are (1 - sampling_eps) / (n - 1) apart.
  config.method.plan = [rates, compatible](const Grid& grid, const DiffusersRun& run) {
    EulerMaruyamaOptions options;
    options.noise_at_end = compatible;
    if (compatible)
      options.beta_integral = [rates, n = run.steps](const GridStep& step) {
        return rates.beta(step.from.t) / n;
      };
    return make_plan(grid, options);
  };
}

}  // namespace diffusion::detail

#endif  // DIFFUSION_INTEROP_DIFFUSERS_SDE_CLASSES_HPP
