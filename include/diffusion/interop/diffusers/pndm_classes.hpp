#ifndef DIFFUSION_INTEROP_DIFFUSERS_PNDM_CLASSES_HPP
#define DIFFUSION_INTEROP_DIFFUSERS_PNDM_CLASSES_HPP

#include <diffusion/interop/diffusers_keys.hpp>
#include <diffusion/samplers/ipndm.hpp>
#include <diffusion/samplers/pndm.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numbers>
#include <utility>
#include <vector>

/// PNDMScheduler and IPNDMScheduler.
namespace diffusion::detail {

/// The calls of the reference's PNDM as a grid with a step for each of them: from the level where
/// its formula starts, to the one where it ends, by t - T / n whatever its list says.
template <class S>
Grid pndm_reference_grid(const S& schedule, const PndmOptions& options, int n) {
  const int trained = schedule.train_timesteps();
  const auto times = spaced_timesteps(trained, n, options.grid.spacing, options.grid.steps_offset);
  const bool runge_kutta = options.warm_up == PndmWarmUp::runge_kutta;
  if (runge_kutta && n < 4)
    fail(text("steps is ", n, "; PNDM with Runge-Kutta steps needs at least 4 in diffusers"));
  const Knot end = end_knot(schedule, options.grid.set_alpha_to_one);
  const int stride = trained / n, half = stride / 2;
  std::vector<GridStep> calls;
  const auto add = [&](double from, double to) {
    calls.push_back({schedule.knot(from), to < 0 ? end : schedule.knot(to)});
  };
  for (std::size_t i = 0; i < times.size(); ++i) {
    if (runge_kutta && i < 3) {
      for (const double to : {times[i] - half, times[i + 1] + half, times[i + 1], times[i + 1]})
        add(times[i], to);
      continue;
    }
    add(times[i], times[i] - stride);
    if (!runge_kutta && i == 0 && n > 1) add(times[1] + stride, times[1]);
  }
  return Grid(std::move(calls));
}

/// What the reference asks about in these calls: it tells a call that ends a try of a step that
/// step's end. A list of times that is cut in front makes it repeat the first step of what is left
/// with the next entry, and so be a level ahead of the state for the rest of the run. `level` gives
/// the level of a timestep.
template <class Level>
std::vector<PndmAsk> pndm_reference_asks(const Grid& calls, bool runge_kutta, int stride,
                                         const Level& level) {
  using enum PndmAsk::Role;
  if (calls.first_step() > 0 && runge_kutta)
    fail(
        "PNDM with Runge-Kutta steps starts in the middle; diffusers cannot do it (set "
        "skip_prk_steps, or read with the correct behaviour)");
  const bool at_again = calls.first_step() == 1 && calls.size() > 1;
  std::vector<PndmAsk> asks;
  for (int i = 0; i < calls.size(); ++i) {
    const auto& [from, to] = calls[at_again && i < 2 ? 1 - i : i];
    const int part = i % 4;
    if (runge_kutta && i < 12)
      asks.push_back({part == 0   ? first
                      : part == 3 ? last
                                  : middle,
                      i,
                      part == 0   ? from
                      : part == 2 ? calls[i - 1].to
                                  : to,
                      from, to});
    else if (runge_kutta || i != 1)
      asks.push_back({multistep, i, from, from, to});
    else if (calls.first_step() > 1)
      asks.push_back({again, i, from,
                      from.t + stride == calls[0].from.t ? calls[0].from : level(from.t + stride),
                      from});
    else
      asks.push_back({again, i, to, from, to});
  }
  return asks;
}

inline void read_pndm(ConfigKeys& keys, DiffusersConfig& config) {
  read_trained(keys, config, 3, {.rescales = false});
  PndmOptions options;
  options.grid = read_grid(keys, spacing_names, config.train_timesteps);
  options.grid.set_alpha_to_one = keys.flag("set_alpha_to_one", false);
  options.warm_up =
      keys.flag("skip_prk_steps", false) ? PndmWarmUp::multistep : PndmWarmUp::runge_kutta;
  if (config.prediction_type == PredictionType::sample)
    keys.note(DiffusersNote::Kind::questionable, "prediction_type",
              "diffusers' PNDMScheduler makes no step with it; here epsilon is worked out");
  if (config.behaviour == Behaviour::correct) {
    config.method.grid = grid_of_timesteps(*config.betas, options.grid);
    config.method.plan = [options, betas = *config.betas](const Grid& grid, const DiffusersRun&) {
      return make_plan(grid, options, knots_between(betas.schedule<double>(), grid));
    };
    return;
  }
  if (config.prediction_type == PredictionType::v) options.history = Basis::raw;
  config.method.grid = [options, betas = *config.betas](const DiffusersRun& run,
                                                        TablePrecision precision) {
    if (!run.timesteps.empty())
      fail(text("own timesteps are given (", run.timesteps.size(),
                "); diffusers' PNDMScheduler takes none"));
    return with_schedule(betas, precision, [&](const auto& schedule) {
      return pndm_reference_grid(schedule, options, run.steps);
    });
  };
  config.method.plan = [options, betas = *config.betas](const Grid& calls,
                                                        const DiffusersRun& run) {
    const auto level = [&](double t) { return betas.schedule<double>().knot(t); };
    return pndm_rows(
        calls,
        pndm_reference_asks(calls, options.warm_up == PndmWarmUp::runge_kutta,
                            betas.options.train_timesteps / (std::max)(run.steps, 1), level),
        options);
  };
}

/// The levels of IPNDMScheduler: sigma = sin^2(u pi / 2) for n + 1 even u from 1 to 0, or a list.
template <class Scalar>
Grid ipndm_grid(int n, const std::vector<double>& trained) {
  std::vector<Scalar> sigmas(trained.begin(), trained.end());
  if (trained.empty()) {
    require_range("steps", n, 1, 1'000'000);
    for (const Scalar u : torch_linspace<Scalar>(1, 0, n + 1)) {
      const Scalar sine = std::sin(rounded(u * std::numbers::pi_v<Scalar>) / 2);
      sigmas.push_back(sine * sine);
    }
    sigmas.back() = 0;
  }
  std::vector<Knot> knots;
  for (const Scalar sigma : sigmas) {
    const Scalar alpha = std::sqrt(1 - rounded(sigma * sigma));
    const Scalar t = std::atan2(sigma, alpha) / std::numbers::pi_v<Scalar> * 2;
    knots.push_back(
        {static_cast<double>(t), static_cast<double>(alpha), static_cast<double>(sigma)});
  }
  return Grid::through(knots);
}

inline void read_ipndm(ConfigKeys& keys, DiffusersConfig& config) {
  config.train_timesteps = keys.integer("num_train_timesteps", 1000, 1, 1'000'000);
  const auto trained = keys.numbers("trained_betas", unit, nullptr, 1'000'000);
  if (trained.size() == 1)
    fail(keys.class_name() +
         ": trained_betas has 1 entry; it must have at least 2 (they are its "
         "sigmas, with the final one)");
  if (!trained.empty())
    keys.note(DiffusersNote::Kind::questionable, "trained_betas",
              "they are read as sigmas, with the final one, whatever the number of steps");
  config.prediction_type = PredictionType::v;  // epsilon = sigma x + alpha f
  config.method.grid = [trained](const DiffusersRun& run, TablePrecision precision) {
    if (!run.timesteps.empty())
      fail(text("own timesteps are given (", run.timesteps.size(),
                "); diffusers' IPNDMScheduler takes none"));
    return precision == TablePrecision::float32 ? ipndm_grid<float>(run.steps, trained)
                                                : ipndm_grid<double>(run.steps, trained);
  };
  config.method.level = [](double t, const DiffusersRun&, TablePrecision) {
    require_range("timestep", t, 0.0, 1.0);
    const double angle = t * std::numbers::pi / 2;
    return Knot{t, std::cos(angle), std::sin(angle)};
  };
  IpndmOptions options;
  if (config.behaviour == Behaviour::compatible) options.least_alpha = 1e-8;
  config.method.plan = [options](const Grid& grid, const DiffusersRun&) {
    return make_plan(grid, options);
  };
}

}  // namespace diffusion::detail

#endif  // DIFFUSION_INTEROP_DIFFUSERS_PNDM_CLASSES_HPP
