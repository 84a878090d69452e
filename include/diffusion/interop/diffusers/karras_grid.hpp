#ifndef DIFFUSION_INTEROP_DIFFUSERS_KARRAS_GRID_HPP
#define DIFFUSION_INTEROP_DIFFUSERS_KARRAS_GRID_HPP

#include <diffusion/interop/diffusers/multistep_grid.hpp>
#include <diffusion/interop/diffusers_keys.hpp>
#include <diffusion/samplers/sampler.hpp>
#include <diffusion/schedule/timesteps.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

/// The levels of diffusers' classes that came from k-diffusion: Euler, Heun, LMS, KDPM2, DPM-Solver
/// SDE, EDM. Their state is x / alpha, at a level s = sigma / alpha.
namespace diffusion::detail {

/// What the classes' configurations say of their grids. Plain data: threads may share what none of
/// them writes.
struct KarrasRule {
  TimestepSpacing spacing = TimestepSpacing::linspace;  ///< linspace is not rounded
  int steps_offset = 0;                                 ///< added to leading timesteps
  MultistepSigmas sigmas = MultistepSigmas::timesteps;  ///< or karras, exponential, beta
  std::optional<double> sigma_min, sigma_max;           ///< ends of these three
  bool rounds = false;                        ///< Karras' timesteps are told rounded (KDPM2)
  FinalSigma final_sigma = FinalSigma::zero;  ///< or table
  bool tells_log_sigma = false;               ///< the network is told log(s) / 4
  /// Levels even in log s, whatever the timesteps. The reference takes n + 1 of them for n steps,
  /// so that the last step ends at the least, and tells the network the timesteps of the spacing.
  bool log_linear = false;
  bool log_linear_told_right = false;  ///< n levels and the final one, told their own times

  /// Whether a run of n steps has n + 1 levels beside the final one, which it does not reach.
  /// (Where the network is told log(s) / 4 there is a step for each level: n + 1.)
  bool stops_short() const {
    return log_linear && !log_linear_told_right && !tells_log_sigma &&
           sigmas == MultistepSigmas::timesteps;
  }
};

/// n timesteps; those of a double are not all whole.
template <class Scalar>
std::vector<double> karras_timesteps(const KarrasRule& rule, int train_timesteps,
                                     const DiffusersRun& run) {
  std::vector<double> times = run.timesteps;
  if (!times.empty()) {
    check_times(times, {0, train_timesteps - 1.0, false, train_timesteps});
  } else if (rule.spacing == TimestepSpacing::linspace) {
    require_range("steps", run.steps, 1, 1'000'000);
    times = numpy_linspace(0, train_timesteps - 1, run.steps);
    std::reverse(times.begin(), times.end());
  } else {
    times = spaced_timesteps(train_timesteps, run.steps, rule.spacing);
    if (rule.spacing == TimestepSpacing::leading)
      for (double& t : times) t += rule.steps_offset;
  }
  for (double& t : times) t = static_cast<double>(static_cast<Scalar>(t));
  return times;
}

/// s between whole timesteps on the straight line, beyond the ends at the end.
template <class Scalar>
double interpolated_sigma(const SigmaTable<Scalar>& table, double t) {
  const double below = std::floor(t);
  const double low = table.at(below);
  return low + (table.at(below + 1) - low) * (t - below);
}

/// The levels of a run's own sigmas, the final one included.
template <class Scalar>
MultistepLevels own_karras_levels(const SigmaTable<Scalar>& table, const DiffusersRun& run) {
  MultistepLevels levels;
  levels.sigmas = run.sigmas;
  if (levels.sigmas.size() < 2)
    fail(text("sigmas has ", levels.sigmas.size(),
              " entries; it must have at least 2, the last of which is where the run ends"));
  for (std::size_t i = 0; i < levels.sigmas.size(); ++i) {
    const double& s = levels.sigmas[i];
    const bool last = i + 1 == levels.sigmas.size();
    if (is_finite(s) && (last ? s >= 0 : s > 0) && (i == 0 || s <= levels.sigmas[i - 1])) continue;
    fail(text("sigmas[", i, "] is ", s,
              "; it must be finite, above 0 (or 0 at the end), and not "
              "above the one before it"));
  }
  for (std::size_t i = 0; i + 1 < levels.sigmas.size(); ++i)
    levels.timesteps.push_back(
        table.time(static_cast<double>(static_cast<Scalar>(levels.sigmas[i]))));
  return levels;
}

template <class Scalar>
MultistepLevels karras_levels(const SigmaTable<Scalar>& table, const KarrasRule& rule,
                              const DiffusersRun& run) {
  if (!run.sigmas.empty() && !run.timesteps.empty())
    fail("timesteps and sigmas are both given; one of the two must be empty");
  if (!run.sigmas.empty()) return own_karras_levels(table, run);
  const bool by_rule = rule.sigmas != MultistepSigmas::timesteps;
  if (by_rule && !run.timesteps.empty())
    fail(
        "own timesteps are given beside use_karras_sigmas, use_exponential_sigmas or "
        "use_beta_sigmas, which pick their own; one of the two must go");
  MultistepLevels levels;
  levels.timesteps = karras_timesteps<Scalar>(rule, table.count(), run);
  const int n = static_cast<int>(levels.timesteps.size());
  for (const double t : levels.timesteps) levels.sigmas.push_back(interpolated_sigma(table, t));
  if (rule.log_linear) {
    const int count = rule.log_linear_told_right ? n : n + 1;
    const auto logs =
        torch_linspace<Scalar>(std::log(table.most()), std::log(table.least()), count);
    levels.sigmas.clear();
    for (const Scalar log : logs) levels.sigmas.push_back(static_cast<double>(std::exp(log)));
  }
  if (by_rule)
    levels.sigmas = multistep_sigmas(rule.sigmas, n, rule.sigma_max.value_or(levels.sigmas.front()),
                                     rule.sigma_min.value_or(levels.sigmas.back()));
  if (by_rule || (rule.log_linear && rule.log_linear_told_right))
    for (std::size_t i = 0; i < levels.timesteps.size(); ++i) {
      const double t = table.time(levels.sigmas[i]);
      levels.timesteps[i] =
          rule.rounds && rule.sigmas == MultistepSigmas::karras ? std::nearbyint(t) : t;
    }
  if (rule.tells_log_sigma) levels.timesteps.resize(levels.sigmas.size());  // not read
  if (levels.sigmas.size() == levels.timesteps.size())
    levels.sigmas.push_back(rule.final_sigma == FinalSigma::zero ? 0 : table.least());
  return levels;
}

/// The steps through levels in sigma space.
template <class Scalar>
Grid sigma_space_grid(const MultistepLevels& levels, bool tells_log_sigma, StateSpace space) {
  std::vector<Knot> knots;
  for (std::size_t i = 0; i < levels.sigmas.size(); ++i) {
    const auto s = static_cast<Scalar>(levels.sigmas[i]);
    const bool ends = i >= levels.timesteps.size();
    double t = ends ? (s == 0 ? -1 : 0) : levels.timesteps[i];
    if (tells_log_sigma && !ends) t = static_cast<double>(std::log(s) / 4);
    knots.push_back({t, 1, static_cast<double>(s)});
  }
  return Grid::through(knots, space);
}

/// The grid of a run. Its initial noise has the largest s, or, with leading spacing, the deviation
/// sqrt(s^2 + 1) of a state whose data has deviation 1.
inline Grid karras_grid(const DiffusersBetas& betas, const KarrasRule& rule,
                        const DiffusersRun& run, TablePrecision precision) {
  return with_schedule(betas, precision, [&]<class Scalar>(const NoiseSchedule<Scalar>& schedule) {
    const auto levels = karras_levels(sigma_table(betas, schedule), rule, run);
    const double most = *std::max_element(levels.sigmas.begin(), levels.sigmas.end());
    const double scale = rule.spacing == TimestepSpacing::leading ? std::hypot(most, 1.0) : most;
    return sigma_space_grid<Scalar>(levels, rule.tells_log_sigma, {1, scale});
  });
}

using MakeGrid = std::function<Grid(const DiffusersRun&, TablePrecision)>;

/// Whether a grid is the end of a run's own, whose tables have this precision.
inline bool ends_run(const Grid& grid, const MakeGrid& make_grid, const DiffusersRun& run,
                     TablePrecision precision) {
  // Tables of double precision need not exist in single.
  const bool single = std::all_of(grid.begin(), grid.end(), [](const GridStep& step) {
    return step.from.sigma == static_cast<double>(static_cast<float>(step.from.sigma));
  });
  if (precision == TablePrecision::float32 && !single) return false;
  const Grid whole = make_grid(run, precision);
  return whole.size() > grid.first_step() && whole.cut(grid.first_step()) == grid;
}

/// The levels between those of a grid, told the times that the table finds for them: that in single
/// precision, where the grid is of a run that was made with it.
inline KnotAt karras_knots(const DiffusersBetas& betas, const MakeGrid& make_grid, const Grid& grid,
                           const DiffusersRun& run) {
  const auto knots = [&](const auto& schedule) -> KnotAt {
    return [table = sigma_table(betas, schedule)](double log_snr) {
      const double s = std::exp(-log_snr / 2);
      return Knot{table.time(s), 1, s};
    };
  };
  const bool single = ends_run(grid, make_grid, run, TablePrecision::float32);
  return with_schedule(betas, single ? TablePrecision::float32 : TablePrecision::float64, knots);
}

/// The level s at which each step of a plan starts, and the one where the last ends.
inline std::vector<double> step_levels(const SamplingPlan& plan) {
  std::vector<double> levels;
  int step = -1;
  for (const Stage& stage : plan.stages()) {
    if (stage.step != step) levels.push_back(stage.at.sigma / stage.at.alpha);
    step = stage.step;
  }
  levels.push_back(plan.stages().back().to.sigma / plan.stages().back().to.alpha);
  return levels;
}

/// Whether levels run evenly in log s through the whole table.
inline bool is_log_linear(const std::vector<double>& levels, const SigmaTable<double>& table) {
  constexpr double tolerance = 1e-3;  // of log s; single precision is 2e-4 off at timestep 0
  const double first = std::log(table.most()), last = std::log(table.least());
  const double steps = static_cast<double>(levels.size() - 1);
  for (std::size_t i = 0; i < levels.size(); ++i) {
    const double even = first + (last - first) * static_cast<double>(i) / steps;
    if (!(std::abs(std::log(levels[i]) - even) < tolerance)) return false;
  }
  return true;
}

/// A plan's levels, those between first and last twice, as the classes of two asks a step list
/// them; `ends_too`: the final one three times (KDPM2).
inline std::vector<double> doubled_levels(const SamplingPlan& plan, bool ends_too) {
  const std::vector<double> levels = step_levels(plan);
  std::vector<double> doubled{levels.front()};
  for (std::size_t i = 1; i + 1 < levels.size(); ++i) doubled.insert(doubled.end(), 2, levels[i]);
  doubled.insert(doubled.end(), ends_too ? 3 : 1, levels.back());
  return doubled;
}

/// The place of a timestep in the list of a run, the second where it is there twice. Fails where it
/// is not there.
inline std::size_t place_of(double t, const std::vector<double>& timesteps) {
  std::size_t found = 0;
  for (std::size_t i = 1; i < timesteps.size(); ++i)
    if (std::abs(timesteps[i] - t) < std::abs(timesteps[found] - t)) found = i;
  const double distance = timesteps.empty() ? 1 : std::abs(timesteps[found] - t);
  if (!(distance <= 2e-3))
    fail(text("timestep ", t, " is not one of the run's; noise can be added at those only"));
  const bool twice = found + 1 < timesteps.size() && timesteps[found + 1] == timesteps[found];
  return twice ? found + 1 : found;
}

}  // namespace diffusion::detail

#endif  // DIFFUSION_INTEROP_DIFFUSERS_KARRAS_GRID_HPP
