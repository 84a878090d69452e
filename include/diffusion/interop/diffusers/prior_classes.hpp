#ifndef DIFFUSION_INTEROP_DIFFUSERS_PRIOR_CLASSES_HPP
#define DIFFUSION_INTEROP_DIFFUSERS_PRIOR_CLASSES_HPP

#include <diffusion/interop/diffusers_keys.hpp>
#include <diffusion/samplers/ddpm.hpp>
#include <diffusion/schedule/arithmetic.hpp>
#include <diffusion/schedule/clipped_cosine.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <numbers>
#include <span>
#include <vector>

/// UnCLIPScheduler and DDPMWuerstchenScheduler: DDPM for the stages of larger models, between any
/// two timesteps.
namespace diffusion::detail {

inline constexpr std::array<Named<VarianceType>, 2> unclip_variance_names = {{
    {"fixed_small_log", VarianceType::fixed_small_log},
    {"learned_range", VarianceType::learned_range},
}};

/// Whether a knot is the table's at a whole timestep.
inline bool is_of_table(const NoiseSchedule<float>& table, const Knot& knot) {
  return knot.t >= 0 && knot.t < table.train_timesteps() && knot.t == std::floor(knot.t) &&
         knot == table.knot(knot.t);
}

/// The variance that a step adds, in single precision, where it is not what the levels give:
/// between neighbours Python takes its table of betas, else 1 minus the ratio of two products.
inline double unclip_beta(const NoiseSchedule<float>& single, const GridStep& step) {
  const auto& [from, to] = step;
  if (!is_of_table(single, from) || !(to.t < 0 || is_of_table(single, to)))
    return from.sigma * from.sigma * fresh_share(from, to);
  const auto t = static_cast<std::size_t>(from.t);
  if (to.t == from.t - 1) return static_cast<double>(single.betas()[t]);
  const float after = to.t < 0 ? 1 : single.alphas_cumprod()[static_cast<std::size_t>(to.t)];
  return static_cast<double>(1 - single.alphas_cumprod()[t] / after);
}

inline void read_unclip(ConfigKeys& keys, DiffusersConfig& config) {
  DiffusersBetas betas;
  betas.options.train_timesteps = keys.integer("num_train_timesteps", 1000, 1, 1'000'000);
  betas.kind = keys.choice<BetaSchedule>("beta_schedule", "squaredcos_cap_v2",
                                         BetaNames(beta_schedule_names).subspan(2, 1));
  config.betas = betas;
  config.train_timesteps = betas.options.train_timesteps;
  config.prediction_type = keys.choice<PredictionType>("prediction_type", "epsilon",
                                                       std::span(prediction_type_names).first(2));
  DdpmOptions options;
  options.variance =
      keys.choice<VarianceType>("variance_type", "fixed_small_log", unclip_variance_names);
  options.clipping = read_range_clipping(keys);
  options.noise_at_end = config.behaviour == Behaviour::compatible;
  options.grid.spacing = TimestepSpacing::linspace;
  const auto make = grid_of_timesteps(betas, options.grid);
  config.method.grid = [make](const DiffusersRun& run, TablePrecision precision) {
    if (run.steps == 1 && run.timesteps.empty())
      fail("num_inference_steps is 1; UnCLIPScheduler divides by one less, it must be at least 2");
    return make(run, precision);
  };
  const bool compatible = config.behaviour == Behaviour::compatible;
  config.method.plan = [options, compatible, single = betas.schedule<float>()](
                           const Grid& grid, const DiffusersRun&) {
    DdpmOptions chosen = options;
    if (compatible && is_of_table(single, grid.start()))
      chosen.beta = [&single](const GridStep& step) { return unclip_beta(single, step); };
    return make_plan(grid, chosen);
  };
}

/// The times of the class, from 1 to 0; own ones include the end.
inline std::vector<double> wuerstchen_times(const DiffusersRun& run, TablePrecision precision) {
  std::vector<double> times = run.timesteps;
  if (times.empty()) {
    require_range("num_inference_steps of DDPMWuerstchenScheduler", run.steps, 1, 1'000'000);
    if (precision == TablePrecision::float64)
      times = torch_linspace<double>(1, 0, run.steps + 1);
    else
      for (const float t : torch_linspace<float>(1, 0, run.steps + 1))
        times.push_back(static_cast<double>(t));
  }
  require_at_least("number of timesteps of DDPMWuerstchenScheduler, the end included", times.size(),
                   std::size_t{2});
  for (std::size_t i = 0; i < times.size(); ++i) {
    const std::string name = text("timesteps[", i, "]");
    require_range(name.c_str(), times[i], 0.0, 1.0);
    if (i > 0 && !(times[i] < times[i - 1]))
      fail(text(name, " is ", times[i], "; it must be less than the one before, ", times[i - 1]));
    if (precision == TablePrecision::float32)
      times[i] = static_cast<double>(static_cast<float>(times[i]));
  }
  return times;
}

/// A level as Python works it out in single precision, which tells where alpha is next to nothing.
inline Knot single_wuerstchen_knot(const ClippedCosineOptions& options, double time) {
  constexpr auto pi = static_cast<float>(std::numbers::pi);
  const auto scaler = static_cast<float>(options.scaler), s = static_cast<float>(options.s);
  auto t = static_cast<float>(time);
  if (scaler > 1) t = rounded(1 - rounded(std::pow(1 - t, scaler)));
  if (scaler < 1) t = rounded(std::pow(t, scaler));
  const auto squared_cosine = [](float angle) {
    const float cosine = rounded(std::cos(rounded(rounded(angle * pi) * 0.5f)));
    return rounded(cosine * cosine);
  };
  const float product =
      std::clamp(squared_cosine((t + s) / (1 + s)) / squared_cosine(s / (1 + s)), 1e-4f, 0.9999f);
  return {time, std::sqrt(static_cast<double>(product)),
          std::sqrt(static_cast<double>(1 - product))};
}

inline void read_wuerstchen(ConfigKeys& keys, DiffusersConfig& config) {
  ClippedCosineOptions cosine;
  cosine.scaler = keys.number("scaler", 1, positive);
  cosine.s = keys.number("s", 0.008, unit);
  const ClippedCosine schedule(cosine);
  const bool compatible = config.behaviour == Behaviour::compatible;

  config.method.level = [schedule](double t, const DiffusersRun&, TablePrecision precision) {
    return precision == TablePrecision::float64 ? schedule.knot(t)
                                                : single_wuerstchen_knot(schedule.options(), t);
  };
  config.method.grid = [level = config.method.level, compatible](const DiffusersRun& run,
                                                                 TablePrecision precision) {
    std::vector<Knot> knots;
    for (const double t : wuerstchen_times(run, precision))
      knots.push_back(level(t, run, precision));
    if (!compatible && knots.back().t == 0) knots.back() = {0, 1, 0};
    return Grid::through(knots);
  };
  // Python leaves out the last noise where time ends at 0, although sigma^2 is 0.0001 there.
  config.method.plan = [compatible](const Grid& grid, const DiffusersRun&) {
    DdpmOptions options;
    options.silent_end = compatible && grid.finish().t == 0;
    return make_plan(grid, options);
  };
  config.method.timesteps = [](const SamplingPlan& plan) {
    std::vector<double> times{plan[0].at.t};
    for (const Stage& stage : plan.stages()) times.push_back(stage.to.t);
    return times;
  };
}

}  // namespace diffusion::detail

#endif  // DIFFUSION_INTEROP_DIFFUSERS_PRIOR_CLASSES_HPP
