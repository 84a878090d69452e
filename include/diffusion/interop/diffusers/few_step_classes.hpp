#ifndef DIFFUSION_INTEROP_DIFFUSERS_FEW_STEP_CLASSES_HPP
#define DIFFUSION_INTEROP_DIFFUSERS_FEW_STEP_CLASSES_HPP

#include <diffusion/interop/diffusers_keys.hpp>
#include <diffusion/samplers/consistency.hpp>
#include <diffusion/samplers/lcm.hpp>
#include <diffusion/samplers/tcd.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <functional>
#include <numbers>
#include <utility>
#include <vector>

/// LCMScheduler, TCDScheduler, CMStochasticIterativeScheduler, ConsistencyDecoderScheduler,
/// SCMScheduler.
namespace diffusion::detail {

/// How many of a run's own timesteps its strength leaves out.
inline int skipped_by_strength(const DiffusersRun& run) {
  require_range("strength", run.strength, 0.0, 1.0);
  const int n = static_cast<int>(run.timesteps.size());
  return n - static_cast<int>(n * run.strength);
}

/// The grid of LCM and TCD: timesteps of the distillation, or own ones.
inline Grid distilled_grid(const DiffusersBetas& betas, TablePrecision precision,
                           const DiffusersRun& run, std::vector<double> timesteps) {
  GridOptions options;
  options.timesteps = std::move(timesteps);
  if (!run.timesteps.empty()) {
    const int skipped = skipped_by_strength(run);
    if (skipped == static_cast<int>(run.timesteps.size()))
      fail(text("strength is ", run.strength, ", which leaves none of the ", run.timesteps.size(),
                " timesteps"));
    options.timesteps.assign(run.timesteps.begin() + skipped, run.timesteps.end());
    for (double& t : options.timesteps) t = std::trunc(t);
  }
  return with_schedule(betas, precision,
                       [&](const auto& schedule) { return make_grid(schedule, 1, options); });
}

/// The same grid, its last step leading elsewhere.
inline Grid with_end(const Grid& grid, const Knot& end) {
  std::vector<GridStep> steps(grid.begin(), grid.end());
  steps.back().to = end;
  return Grid(std::move(steps), grid.first_step(), grid.space());
}

/// The keys that LCM and TCD share.
struct DistilledKeys {
  int original_steps;
  Clipping clipping;
  double timestep_scaling;
};

inline DistilledKeys read_distilled(ConfigKeys& keys, DiffusersConfig& config) {
  read_trained(keys, config, 3, scaled_latent_betas);
  DistilledKeys read;
  read.original_steps = keys.integer("original_inference_steps", 50, 1, 1'000'000);
  read.clipping = read_clipping(keys, false);
  read.timestep_scaling = keys.number("timestep_scaling", 10, positive);
  const GridOptions spacing = read_grid(keys, spacing_names, config.train_timesteps);
  const bool to_one = keys.flag("set_alpha_to_one", true);
  const auto no_effect = [&](const char* key, const char* why) {
    if (keys.has(key)) keys.note(DiffusersNote::Kind::overruled, key, why);
  };
  const char* const spaced = "the timesteps are those of original_inference_steps";
  if (spacing.spacing != TimestepSpacing::leading) no_effect("timestep_spacing", spaced);
  if (spacing.steps_offset > 0) no_effect("steps_offset", spaced);
  if (!to_one) no_effect("set_alpha_to_one", "where the last step ends does not depend on it");
  return read;
}

inline void read_lcm(ConfigKeys& keys, DiffusersConfig& config) {
  const DistilledKeys read = read_distilled(keys, config);
  const bool compatible = config.behaviour == Behaviour::compatible;
  LcmOptions options;
  options.clipping = read.clipping;
  options.timestep_scaling = read.timestep_scaling;
  config.method.grid = [betas = *config.betas, read, compatible](const DiffusersRun& run,
                                                                 TablePrecision precision) {
    std::vector<double> timesteps;
    if (run.timesteps.empty())
      timesteps = lcm_timesteps(betas.options.train_timesteps, run.steps,
                                run.original_steps.value_or(read.original_steps), run.strength);
    const Grid grid = distilled_grid(betas, precision, run, std::move(timesteps));
    // The reference counts the timesteps before it cuts them, and then noises its result again.
    if (!compatible || run.timesteps.empty() || skipped_by_strength(run) == 0) return grid;
    return with_end(grid, grid[grid.size() - 1].from);
  };
  config.method.plan = [options](const Grid& grid, const DiffusersRun&) {
    return make_plan(grid, options);
  };
}

/// In which precision the table is that a grid was made from.
inline TablePrecision precision_of(const DiffusersBetas& betas, const Grid& grid) {
  const auto schedule = betas.schedule<double>();
  for (const GridStep& step : grid)
    for (const Knot& knot : {step.from, step.to})
      if (!same_level(schedule.knot((std::max)(knot.t, 0.0)), knot)) return TablePrecision::float32;
  return TablePrecision::float64;
}

/// The level to which the reference's TCD jumps: (1 - eta) t', rounded down.
inline std::function<Knot(const Knot&)> tcd_jump(const DiffusersBetas& betas, const Grid& grid,
                                                 double eta) {
  const TablePrecision precision = precision_of(betas, grid);
  const auto time = [eta, precision](double t) -> double {
    if (t < 0) return 0;
    if (precision == TablePrecision::float64) return std::floor((1 - eta) * t);
    return static_cast<double>(std::floor(static_cast<float>(1 - eta) * static_cast<float>(t)));
  };
  return with_schedule(betas, precision, [&](const auto& schedule) {
    return std::function<Knot(const Knot&)>(
        [schedule, time](const Knot& to) { return schedule.knot(time(to.t)); });
  });
}

inline void read_tcd(ConfigKeys& keys, DiffusersConfig& config) {
  const DistilledKeys read = read_distilled(keys, config);
  const bool compatible = config.behaviour == Behaviour::compatible;
  if (compatible)
    for (const char* key : {"clip_sample", "thresholding"})
      if (read.clipping.kind != Clipping::Kind::none && keys.flag(key, false))
        keys.note(DiffusersNote::Kind::overruled, key, "the class does not look at it");
  if (keys.has("timestep_scaling"))
    keys.note(DiffusersNote::Kind::overruled, "timestep_scaling",
              "the class has no boundary condition");
  TcdOptions options;
  options.clipping = compatible ? Clipping::none() : read.clipping;
  config.method.grid = [betas = *config.betas, read, compatible](const DiffusersRun& run,
                                                                 TablePrecision precision) {
    const int train = betas.options.train_timesteps;
    std::vector<double> timesteps;
    if (run.timesteps.empty()) {
      if (run.original_steps) require_range("steps", run.steps, 1, *run.original_steps);
      const int original = run.original_steps ? train : read.original_steps;
      timesteps = lcm_timesteps(train, run.steps, original, run.strength);
    }
    const Grid grid = distilled_grid(betas, precision, run, std::move(timesteps));
    if (!compatible) return grid;
    const Knot least =
        with_schedule(betas, precision, [](const auto& schedule) { return schedule.knot(0); });
    return with_end(grid, {-1, least.alpha, least.sigma});
  };
  config.method.plan = [betas = *config.betas, options, compatible](const Grid& grid,
                                                                    const DiffusersRun& run) {
    TcdOptions chosen = options;
    chosen.eta = run.eta.value_or(options.eta);
    // As in LCM: what is cut off by the strength is counted, so the last step is not known as such.
    chosen.draw_at_end = compatible && !run.timesteps.empty() && skipped_by_strength(run) > 0;
    if (compatible) return tcd_plan(grid, chosen, tcd_jump(betas, grid, chosen.eta));
    const auto schedule = betas.schedule<double>();
    return TcdSampler(schedule, chosen).plan(grid);
  };
}

/// What CMStochasticIterativeScheduler is configured with.
struct ConsistencyKeys {
  int train_timesteps;
  double sigma_min, sigma_max, sigma_data, s_noise, rho;
};

/// Its indices of a run, falling from data's side: 0 is sigma_max.
inline std::vector<double> consistency_indices(const ConsistencyKeys& k, const DiffusersRun& run) {
  const int last = k.train_timesteps - 1;
  std::vector<double> indices(run.timesteps.rbegin(), run.timesteps.rend());
  for (double& index : indices) index = std::trunc(index);
  if (indices.empty()) {
    require_range("steps", run.steps, 1, k.train_timesteps);
    const int stride = k.train_timesteps / run.steps;
    for (int i = 0; i < run.steps; ++i) indices.push_back(i * stride);
  }
  for (std::size_t i = 0; i < indices.size(); ++i) {
    require_range("a timestep", indices[i], 0.0, static_cast<double>(last));
    if (i > 0 && !(indices[i] > indices[i - 1]))
      fail(text("the timesteps must fall; ", indices[i - 1], " follows ", indices[i]));
  }
  return indices;
}

inline Grid consistency_grid(const ConsistencyKeys& k, const DiffusersRun& run,
                             TablePrecision precision) {
  const double most = std::pow(k.sigma_max, 1 / k.rho), least = std::pow(k.sigma_min, 1 / k.rho);
  const auto told = [](double sigma) { return 250 * std::log(sigma + 1e-44); };
  std::vector<Knot> knots;
  for (const double index : consistency_indices(k, run)) {
    const double sigma = std::pow(most + index / (k.train_timesteps - 1) * (least - most), k.rho);
    knots.push_back({told(sigma), 1, in_precision(sigma, precision)});
  }
  knots.push_back({told(k.sigma_min), 1, k.sigma_min});
  return Grid::through(knots, {k.sigma_data, k.sigma_max});
}

inline void read_consistency(ConfigKeys& keys, DiffusersConfig& config) {
  ConsistencyKeys k;
  k.train_timesteps = keys.integer("num_train_timesteps", 40, 2, 1'000'000);
  k.sigma_min = keys.number("sigma_min", 0.002, positive);
  k.sigma_max = keys.number("sigma_max", 80, {k.sigma_min, 1e6, "it must be above sigma_min"});
  k.sigma_data = keys.number("sigma_data", 0.5, positive);
  k.s_noise = keys.number("s_noise", 1, {0, 1e6, "it must be at least 0"});
  k.rho = keys.number("rho", 7, positive);
  const bool clips = keys.flag("clip_denoised", true);
  const bool compatible = config.behaviour == Behaviour::compatible;
  config.train_timesteps = k.train_timesteps;
  config.prediction_type = {PredictionType::Kind::edm, k.sigma_data, k.sigma_min};
  config.method.grid = [k](const DiffusersRun& run, TablePrecision precision) {
    return consistency_grid(k, run, precision);
  };
  config.method.plan = [k, clips, compatible](const Grid& grid, const DiffusersRun&) {
    const bool several = grid.first_step() + grid.size() > 1;
    return make_plan(above_sigma_min(grid, k.sigma_min),
                     LcmOptions{.clipping = clips ? Clipping::range(1) : Clipping::none(),
                                .s_noise = k.s_noise,
                                .draw_at_end = compatible && several});
  };
  config.method.level = [](double t, const DiffusersRun&, TablePrecision) {
    return Knot{t, 1, std::exp(t / 250)};
  };
  config.method.sigmas = [k](const SamplingPlan& plan) {
    std::vector<double> sigmas;
    for (const Stage& stage : plan.stages()) sigmas.push_back(stage.at.sigma);
    sigmas.push_back(k.sigma_min);
    return sigmas;
  };
}

inline void read_consistency_decoder(ConfigKeys& keys, DiffusersConfig& config) {
  DiffusersBetas betas;
  betas.kind = BetaSchedule::squaredcos_cap_v2;
  betas.options.train_timesteps = keys.integer("num_train_timesteps", 1024, 1009, 1'000'000);
  const double sigma_data = keys.number("sigma_data", 0.5, positive);
  config.betas = betas;
  config.train_timesteps = betas.options.train_timesteps;
  config.prediction_type = {PredictionType::Kind::edm, sigma_data};
  config.method.grid = [betas, sigma_data](const DiffusersRun& run, TablePrecision precision) {
    if (run.steps != 2 || !run.timesteps.empty())
      fail(text("steps is ", run.steps,
                "; ConsistencyDecoderScheduler knows 2 steps, at its own "
                "timesteps 1008 and 512, only"));
    const Grid grid = with_schedule(betas, precision, [](const auto& schedule) {
      return make_grid(schedule, 2, {.timesteps = {1008, 512}});
    });
    return grid.with_space({sigma_data, grid.start().sigma});
  };
  config.method.plan = [](const Grid& grid, const DiffusersRun&) {
    return make_plan(grid, LcmOptions{});
  };
}

inline constexpr std::array<Named<bool>, 1> trig_flow_name = {{{"trigflow", true}}};

/// The times of SCMScheduler, the end included.
inline std::vector<double> scm_run_times(const DiffusersRun& run, int train_timesteps) {
  std::vector<double> times = run.timesteps;
  if (!times.empty()) {
    if (times.size() < 2) fail("timesteps has 1 entry; with the end it must have at least 2");
    if (run.max_timestep)
      fail("timesteps are given beside max_timestep; it must be one of the two");
    return times;
  }
  require_range("steps", run.steps, 1, train_timesteps);
  const double start = run.max_timestep.value_or(1.5708);
  const double between = run.intermediate_timestep.value_or(run.steps == 2 ? 1.3 : 0);
  if (between != 0 && run.steps != 2)
    fail(text("intermediate_timestep is ", between, "; it is for runs of 2 steps, not of ",
              run.steps));
  if (between != 0) return {start, between, 0};
  return torch_linspace<double>(start, 0, run.steps + 1);
}

/// The level of TrigFlow; a little past pi / 2, where diffusers starts by default, alpha is below
/// zero.
inline Knot trig_flow_level(double t, double sigma_data) {
  return {t, std::cos(t), sigma_data * std::sin(t)};
}

inline void read_scm(ConfigKeys& keys, DiffusersConfig& config) {
  const bool compatible = config.behaviour == Behaviour::compatible;
  const int train = keys.integer("num_train_timesteps", 1000, 1, 1'000'000);
  keys.choice<bool>("prediction_type", "trigflow", trig_flow_name);
  const double sigma_data = keys.number("sigma_data", 0.5, positive);
  config.train_timesteps = train;
  config.prediction_type = {PredictionType::Kind::v, sigma_data};
  config.method.grid = [train, sigma_data, compatible](const DiffusersRun& run,
                                                       TablePrecision precision) {
    std::vector<Knot> knots;
    for (double t : scm_run_times(run, train)) {
      t = in_precision(t, precision);
      require_range("a timestep of TrigFlow", t, 0.0, std::numbers::pi / 2 + 1e-4);
      Knot knot = trig_flow_level(t, sigma_data);
      knot.alpha = (std::max)(knot.alpha, 0.0);
      knots.push_back(knot);
    }
    // Its pipeline multiplies the initial noise by sigma_data, the class itself does not.
    return Grid::through(knots, {0, compatible ? 1.0 : 0.0});
  };
  config.method.plan = [sigma_data, compatible](const Grid& grid, const DiffusersRun&) {
    const SamplingPlan plan = make_plan(grid, LcmOptions{.draw_at_end = compatible});
    std::vector<Stage> rows(plan.stages().begin(), plan.stages().end());
    if (compatible)
      for (Stage& row : rows) row.at = trig_flow_level(row.at.t, sigma_data);
    return SamplingPlan(std::move(rows), plan.traits());
  };
  config.method.level = [sigma_data](double t, const DiffusersRun&, TablePrecision) {
    return trig_flow_level(t, sigma_data);
  };
  config.method.timesteps = [](const SamplingPlan& plan) {
    std::vector<double> times;
    for (const Stage& stage : plan.stages()) times.push_back(stage.at.t);
    times.push_back(plan.stages().back().to.t);
    return times;
  };
}

}  // namespace diffusion::detail

#endif  // DIFFUSION_INTEROP_DIFFUSERS_FEW_STEP_CLASSES_HPP
