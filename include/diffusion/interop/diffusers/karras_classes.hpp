#ifndef DIFFUSION_INTEROP_DIFFUSERS_KARRAS_CLASSES_HPP
#define DIFFUSION_INTEROP_DIFFUSERS_KARRAS_CLASSES_HPP

#include <diffusion/interop/diffusers/karras_grid.hpp>
#include <diffusion/samplers/dpm2.hpp>
#include <diffusion/samplers/dpm_solver_sde.hpp>
#include <diffusion/samplers/euler.hpp>
#include <diffusion/samplers/heun.hpp>
#include <diffusion/samplers/lms.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

/// EulerDiscreteScheduler, EulerAncestralDiscreteScheduler, HeunDiscreteScheduler,
/// LMSDiscreteScheduler, KDPM2DiscreteScheduler, KDPM2AncestralDiscreteScheduler,
/// DPMSolverSDEScheduler.
namespace diffusion::detail {

inline constexpr std::array<Named<BetaSchedule>, 4> heun_beta_names = {{
    {"linear", BetaSchedule::linear},
    {"scaled_linear", BetaSchedule::scaled_linear},
    {"squaredcos_cap_v2", BetaSchedule::squaredcos_cap_v2},
    {"exp", BetaSchedule::exp},
}};

inline constexpr std::array<Named<PredictionType>, 4> euler_prediction_names = {{
    {"epsilon", PredictionType::epsilon},
    {"sample", PredictionType::sample},
    {"v_prediction", PredictionType::v},
    {"original_sample", PredictionType::sample},
}};

/// Those of the classes whose step refuses "sample".
inline constexpr std::array<Named<PredictionType>, 2> noisy_prediction_names = {{
    {"epsilon", PredictionType::epsilon},
    {"v_prediction", PredictionType::v},
}};

using PredictionNames = std::span<const Named<PredictionType>>;

inline void read_karras_trained(ConfigKeys& keys, DiffusersConfig& config, BetaNames known,
                                BetaDefaults defaults, PredictionNames predictions) {
  config.betas = read_betas(keys, known, defaults);
  config.train_timesteps = config.betas->options.train_timesteps;
  config.prediction_type = keys.choice<PredictionType>("prediction_type", "epsilon", predictions);
  keep_terminal(*config.betas);
}

/// What a class's step makes of prediction types beyond epsilon and v_prediction.
inline PredictionNames karras_predictions(const DiffusersConfig& config, bool knows_sample) {
  if (knows_sample || config.behaviour == Behaviour::correct) return prediction_type_names;
  return noisy_prediction_names;
}

inline void read_karras_spacing(ConfigKeys& keys, KarrasRule& rule, int train_timesteps) {
  read_spacing(keys, spacing_names, "linspace", train_timesteps, rule);
}

inline void read_karras_sigmas(ConfigKeys& keys, KarrasRule& rule) {
  static constexpr std::array<Named<MultistepSigmas>, 3> rules = {{
      {"use_karras_sigmas", MultistepSigmas::karras},
      {"use_exponential_sigmas", MultistepSigmas::exponential},
      {"use_beta_sigmas", MultistepSigmas::beta},
  }};
  rule.sigmas = only_true<MultistepSigmas>(keys, rules).value_or(rule.sigmas);
}

/// The keys of the grid that Heun, LMS, KDPM2 and DPM-Solver SDE share.
inline KarrasRule read_karras_rule(ConfigKeys& keys, const DiffusersConfig& config) {
  KarrasRule rule;
  read_karras_spacing(keys, rule, config.train_timesteps);
  read_karras_sigmas(keys, rule);
  return rule;
}

/// What all the classes do with their grid: the level of a timestep is that of its place in the
/// run's lists.
inline void set_karras_levels(DiffusersMethod& method) {
  const auto level = [grid = method.grid, plan = method.plan, sigmas = method.sigmas](
                         double t, DiffusersRun run, TablePrecision precision) {
    run.s_churn = 0;
    const SamplingPlan rows = plan(grid(run, precision), run);
    std::vector<double> timesteps;
    for (const Stage& stage : rows.stages()) timesteps.push_back(stage.at.t);
    return Knot{t, 1, sigmas(rows)[place_of(t, timesteps)]};
  };
  method.level = level;
}

/// Sets the method of a class: `make_plan(grid, run)`.
template <class MakePlan>
void set_karras_method(DiffusersConfig& config, MakePlan make_plan) {
  config.method.plan = std::move(make_plan);
  if (!config.method.sigmas) config.method.sigmas = step_levels;
  set_karras_levels(config.method);
}

/// The grids of a class, and the levels between their knots.
struct KarrasGrids {
  MakeGrid make;
  std::function<KnotAt(const Grid&, const DiffusersRun&)> knots;
};

inline KarrasGrids set_karras_grid(DiffusersConfig& config, const KarrasRule& rule) {
  const DiffusersBetas betas = *config.betas;
  const auto make = [betas, rule](const DiffusersRun& run, TablePrecision precision) {
    return karras_grid(betas, rule, run, precision);
  };
  config.method.grid = make;
  return {make, [betas, make](const Grid& grid, const DiffusersRun& run) {
            return karras_knots(betas, make, grid, run);
          }};
}

inline Churn churn_of(const DiffusersRun& run) {
  return {run.s_churn, run.s_tmin, run.s_tmax, run.s_noise};
}

/// The keys of Euler's grid beyond those that others have too.
inline KarrasRule read_euler_rule(ConfigKeys& keys, const DiffusersConfig& config) {
  static constexpr std::array<Named<bool>, 2> interpolations = {
      {{"linear", false}, {"log_linear", true}}};
  static constexpr std::array<Named<bool>, 2> types = {{{"discrete", false}, {"continuous", true}}};
  KarrasRule rule = read_karras_rule(keys, config);
  const bool by_rule = rule.sigmas != MultistepSigmas::timesteps;
  rule.log_linear = keys.choice<bool>("interpolation_type", "linear", interpolations);
  rule.log_linear_told_right = config.behaviour == Behaviour::correct;
  rule.sigma_min = keys.optional_number("sigma_min", positive);
  rule.sigma_max = keys.optional_number("sigma_max", positive);
  rule.final_sigma = keys.choice<FinalSigma>("final_sigmas_type", "zero", final_sigma_names);
  const bool continuous = keys.choice<bool>("timestep_type", "discrete", types);
  rule.tells_log_sigma = continuous && config.prediction_type == PredictionType::v;
  if (continuous && !rule.tells_log_sigma)
    keys.note(DiffusersNote::Kind::overruled, "timestep_type",
              "only with prediction_type v_prediction is the network told log(sigma) / 4");
  if (rule.stops_short())
    keys.note(DiffusersNote::Kind::questionable, "interpolation_type",
              "the network is told the timesteps of timestep_spacing, which are not those of the "
              "levels, and the last step ends at the least level whatever final_sigmas_type says");
  for (const char* key : {"sigma_min", "sigma_max"})
    if (keys.has(key) && !by_rule)
      keys.note(DiffusersNote::Kind::overruled, key,
                "only use_karras_sigmas, use_exponential_sigmas and use_beta_sigmas have ends of "
                "their own");
  return rule;
}

/// The level that Euler's get_velocity takes: it looks up the timestep's place in the run's list in
/// the table of alphas_cumprod, which runs the other way and has other entries.
inline void set_euler_velocity(DiffusersConfig& config) {
  const auto velocity = [betas = *config.betas, grid = config.method.grid](
                            double t, const DiffusersRun& run, TablePrecision precision) {
    std::vector<double> timesteps;
    for (const GridStep& step : grid(run, precision)) timesteps.push_back(step.from.t);
    const auto place = static_cast<double>(place_of(t, timesteps));
    return with_schedule(betas, precision, [&](const auto& schedule) {
      return schedule.knot((std::min)(place, schedule.last_time()));
    });
  };
  if (config.behaviour == Behaviour::compatible) config.method.velocity_level = velocity;
}

inline void read_euler(ConfigKeys& keys, DiffusersConfig& config) {
  read_karras_trained(keys, config, BetaNames(beta_schedule_names).first(3), {},
                      euler_prediction_names);
  const KarrasRule rule = read_euler_rule(keys, config);
  EulerOptions options;
  options.prediction_type = config.prediction_type;
  if (config.behaviour == Behaviour::compatible)
    options.order = config.prediction_type == PredictionType::v ? ChurnOrder::after_ask_read_before
                                                                : ChurnOrder::after_ask;
  // The list of sigmas is one longer here than in other runs, and churn is divided by its length.
  const bool longer = rule.stops_short();
  if (longer)
    config.method.sigmas = [rule, betas = *config.betas](const SamplingPlan& plan) {
      std::vector<double> levels = step_levels(plan);
      if (is_log_linear(levels, sigma_table(betas, betas.schedule())))  // not a run's own
        levels.push_back(rule.final_sigma == FinalSigma::zero ? 0 : levels.back());
      return levels;
    };
  const KarrasGrids grids = set_karras_grid(config, rule);
  set_karras_method(config, [options, longer, grids](const Grid& grid, const DiffusersRun& run) {
    EulerOptions chosen = options;
    chosen.churn = churn_of(run);
    const double n = grid.first_step() + grid.size();
    if (longer && run.sigmas.empty()) chosen.churn.amount *= n / (n + 1);
    return make_plan(grid, chosen, run.s_churn > 0 ? grids.knots(grid, run) : KnotAt{});
  });
  set_euler_velocity(config);
}

inline void read_euler_ancestral(ConfigKeys& keys, DiffusersConfig& config) {
  read_karras_trained(keys, config, BetaNames(beta_schedule_names).first(3), {},
                      karras_predictions(config, false));
  KarrasRule rule;
  read_karras_spacing(keys, rule, config.train_timesteps);
  set_karras_grid(config, rule);
  set_karras_method(config, [](const Grid& grid, const DiffusersRun&) {
    return make_plan(grid, EulerAncestralOptions{});
  });
}

inline void read_heun(ConfigKeys& keys, DiffusersConfig& config) {
  read_karras_trained(keys, config, heun_beta_names, {0.00085, 0.012, "linear", false},
                      prediction_type_names);
  const KarrasRule rule = read_karras_rule(keys, config);
  HeunOptions options;
  const bool clips = keys.flag("clip_sample", false);
  const double limit = keys.number("clip_sample_range", 1, positive);
  if (clips) options.clipping = Clipping::range(limit);
  config.method.sigmas = [](const SamplingPlan& plan) { return doubled_levels(plan, false); };
  set_karras_grid(config, rule);
  set_karras_method(config, [options](const Grid& grid, const DiffusersRun&) {
    return make_plan(grid, options);
  });
}

/// The levels of the steps that a cut left out, where the grid is the end of a run's own.
inline std::vector<double> levels_before(const Grid& grid, const MakeGrid& make_grid,
                                         const DiffusersRun& run) {
  std::vector<double> levels;
  for (const auto precision : {TablePrecision::float64, TablePrecision::float32})
    if (levels.empty() && ends_run(grid, make_grid, run, precision)) {
      const Grid whole = make_grid(run, precision);
      for (int i = 0; i < grid.first_step(); ++i) levels.push_back(whole[i].from.sigma);
    }
  return levels;
}

inline void read_lms(ConfigKeys& keys, DiffusersConfig& config) {
  read_karras_trained(keys, config, BetaNames(beta_schedule_names).first(3),
                      {0.0001, 0.02, "linear", false}, prediction_type_names);
  const KarrasGrids grids = set_karras_grid(config, read_karras_rule(keys, config));
  const bool compatible = config.behaviour == Behaviour::compatible;
  set_karras_method(config, [compatible, grids](const Grid& grid, const DiffusersRun& run) {
    LmsOptions options;
    options.order = run.order;
    if (compatible && grid.first_step() > 0)
      options.cut_levels = levels_before(grid, grids.make, run);
    return make_plan(grid, options);
  });
}

inline void read_dpm2(ConfigKeys& keys, DiffusersConfig& config, double eta) {
  read_karras_trained(keys, config, BetaNames(beta_schedule_names).first(3),
                      {0.00085, 0.012, "linear", false}, karras_predictions(config, false));
  KarrasRule rule = read_karras_rule(keys, config);
  rule.rounds = config.behaviour == Behaviour::compatible;
  Dpm2Options options;
  options.eta = eta;
  config.method.sigmas = [](const SamplingPlan& plan) { return doubled_levels(plan, true); };
  const KarrasGrids grids = set_karras_grid(config, rule);
  set_karras_method(config, [options, grids](const Grid& grid, const DiffusersRun& run) {
    return make_plan(grid, options, grids.knots(grid, run));
  });
}

inline void read_kdpm2(ConfigKeys& keys, DiffusersConfig& config) { read_dpm2(keys, config, 0); }
inline void read_kdpm2_ancestral(ConfigKeys& keys, DiffusersConfig& config) {
  read_dpm2(keys, config, 1);
}

inline void read_dpm_solver_sde(ConfigKeys& keys, DiffusersConfig& config) {
  read_karras_trained(keys, config, BetaNames(beta_schedule_names).first(3),
                      {0.00085, 0.012, "linear", false}, karras_predictions(config, false));
  const KarrasRule rule = read_karras_rule(keys, config);
  if (keys.optional_number("noise_sampler_seed", {0, 0x1p64, "it must be null or a whole number"}))
    keys.note(DiffusersNote::Kind::overruled, "noise_sampler_seed",
              "the noise is that of the source given to the run, with its own seed");
  DpmSolverSdeOptions options;
  if (config.behaviour == Behaviour::compatible) options.noise = SdeNoise::independent;
  config.method.sigmas = [](const SamplingPlan& plan) { return doubled_levels(plan, false); };
  const KarrasGrids grids = set_karras_grid(config, rule);
  set_karras_method(config, [options, grids](const Grid& grid, const DiffusersRun& run) {
    DpmSolverSdeOptions chosen = options;
    chosen.s_noise = run.s_noise;
    return make_plan(grid, chosen, grids.knots(grid, run));
  });
}

}  // namespace diffusion::detail

#endif  // DIFFUSION_INTEROP_DIFFUSERS_KARRAS_CLASSES_HPP
