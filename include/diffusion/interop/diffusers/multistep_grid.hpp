#ifndef DIFFUSION_INTEROP_DIFFUSERS_MULTISTEP_GRID_HPP
#define DIFFUSION_INTEROP_DIFFUSERS_MULTISTEP_GRID_HPP

#include <diffusion/interop/diffusers_keys.hpp>
#include <diffusion/schedule/beta_quantile.hpp>
#include <diffusion/schedule/flow_shift.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

/// The levels of DPM-Solver, DEIS, UniPC and SA-Solver as diffusers picks them: by s = sigma /
/// alpha from the table of betas, or, for a flow, by s = sigma of (1 - s, s). Every operation is in
/// the precision and order of the reference, for timesteps are rounded down at the end.
namespace diffusion::detail {

/// How the levels are chosen.
enum class MultistepSigmas {
  timesteps,  ///< the table's at the timesteps
  karras,     ///< the others find timesteps for their levels; on a flow s becomes s / (1 + s)
  exponential,
  beta,
  lu,
  flow,           ///< from 1 - 1/N, shifted
  flow_from_one,  ///< from 1, shifted, stretched (UniPC)
};

/// Where the last step ends.
enum class FinalSigma {
  zero,      ///< at clean data
  table,     ///< at the sigma of timestep 0
  repeated,  ///< where it starts
};

inline constexpr std::array<Named<FinalSigma>, 2> final_sigma_names = {{
    {"zero", FinalSigma::zero},
    {"sigma_min", FinalSigma::table},
}};

/// What the classes' configurations say of their grids. Plain data: threads may share what none of
/// them writes.
struct MultistepRule {
  TimestepSpacing spacing = TimestepSpacing::linspace;  ///< of n + 1 points, the least dropped
  int steps_offset = 0;                                 ///< added to leading timesteps
  double lambda_min_clipped = -std::numeric_limits<double>::infinity();
  MultistepSigmas sigmas = MultistepSigmas::timesteps;
  bool flow = false;    ///< states are (1 - s, s), not (1, s) / sqrt(1 + s^2)
  bool rounds = false;  ///< Karras' and Lu's timesteps are rounded, not cut off
  FinalSigma final_sigma = FinalSigma::zero;
  bool rises = false;  ///< from data to noise, the greatest of the n + 1 points dropped
  std::optional<double> sigma_min, sigma_max;  ///< ends of karras, exponential, beta
  double flow_shift = 1;                       ///< see `shifted_time`
  bool dynamic_shift = false;                  ///< the shift may come from the run's mu
  bool demands_mu = false;  ///< UniPC: then it must, and otherwise mu is passed over
  TimeShift time_shift = TimeShift::exponential;
  double shift_terminal = 0;  ///< of flow_from_one: > 0: see `stretched_to_terminal`
};

/// The table of a schedule by s, in the type of the reference's tables.
template <class Scalar>
struct SigmaTable {
  std::vector<Scalar> sigmas, logs;  ///< rising, but for the last one of some with `terminal`

  /// `terminal` > 0: what an alphas_cumprod of 0 becomes.
  explicit SigmaTable(const NoiseSchedule<Scalar>& schedule, double terminal = 0) {
    for (Scalar product : schedule.alphas_cumprod()) {
      if (product == 0) product = static_cast<Scalar>(terminal);
      if (product == 0)
        fail("the last alphas_cumprod is 0, where sigma / alpha is infinite; it must be positive");
      sigmas.push_back(std::sqrt((1 - product) / product));
      logs.push_back(std::log(sigmas.back()));
    }
  }

  int count() const { return static_cast<int>(sigmas.size()); }
  double least() const { return static_cast<double>(sigmas.front()); }
  double most() const { return static_cast<double>(sigmas.back()); }
  /// s at a whole timestep; beyond the ends, the end.
  double at(double t) const {
    const double whole = (std::min)((std::max)(t, 0.0), static_cast<double>(count() - 1));
    return static_cast<double>(sigmas[static_cast<std::size_t>(whole)]);
  }

  /// The time of a level, log s interpolated between whole timesteps.
  double time(double sigma) const {
    if (count() == 1) return 0;
    const auto log_sigma = static_cast<Scalar>(std::log((std::max)(sigma, 1e-10)));
    std::size_t low = logs.size() - 2;
    while (low > 0 && logs[low] > log_sigma && logs.back() > log_sigma) --low;
    const Scalar share = (logs[low] - log_sigma) / (logs[low] - logs[low + 1]);
    const Scalar w = (std::min)((std::max)(share, Scalar(0)), Scalar(1));
    return static_cast<double>(1 - w) * static_cast<double>(low) +
           static_cast<double>(w) * static_cast<double>(low + 1);
  }

  /// One more than the largest timestep whose log(alpha / sigma) is not below the limit.
  int unclipped(double lambda_min) const {
    const auto below = std::upper_bound(logs.begin(), logs.end(), static_cast<Scalar>(-lambda_min));
    return static_cast<int>(below - logs.begin());
  }
};

/// What is left of the last alphas_cumprod of a rescaling to zero terminal SNR.
inline constexpr double terminal_alpha_cumprod = 0x1p-24;

/// Puts that into a table that is rescaled, where it is less than the entry before; elsewhere only
/// `sigma_table` knows it.
inline void keep_terminal(DiffusersBetas& betas) {
  if (!betas.options.rescale_zero_terminal_snr) return;
  const auto schedule = betas.schedule<float>();
  const auto table = schedule.alphas_cumprod();
  if (static_cast<double>(table[table.size() - 2]) > terminal_alpha_cumprod)
    betas.options.terminal_alpha_cumprod = terminal_alpha_cumprod;
}

template <class Scalar>
SigmaTable<Scalar> sigma_table(const DiffusersBetas& betas, const NoiseSchedule<Scalar>& schedule) {
  const bool rescaled = betas.options.rescale_zero_terminal_snr;
  return SigmaTable<Scalar>(schedule, rescaled ? terminal_alpha_cumprod : 0);
}

/// Of n + 1 timesteps spread over 0 ... last - 1 the n greatest, falling, or, for a rule that
/// rises, the n least, rising. Trailing spacing has n, or fewer where `last` is below N.
inline std::vector<double> multistep_timesteps(const MultistepRule& rule, int train_timesteps,
                                               int last, int steps) {
  if (last < 1)
    fail(text("lambda_min_clipped is ", rule.lambda_min_clipped,
              "; no timestep has log(alpha / sigma) as high as that"));
  std::vector<double> times;  // falling
  if (rule.spacing == TimestepSpacing::trailing) {
    const double first = last;
    const double stride = rounded(first - static_cast<double>(train_timesteps) / steps) - first;
    for (int i = 0; i < steps; ++i) {  // as arange rounds; it may make one more, -1
      const double t = std::nearbyint(rounded(i * stride) + first) - 1;
      if (t >= 0) times.push_back(t);
    }
  } else if (rule.spacing == TimestepSpacing::leading) {
    const int stride = last / (steps + 1);
    if (stride == 0)
      fail(text("steps is ", steps, "; leading spacing over ", last, " timesteps allows at most ",
                last - 1));
    for (int i = steps; i >= 0; --i) times.push_back(i * stride + rule.steps_offset);
  } else {
    times = numpy_linspace(0, last - 1, steps + 1);
    for (double& t : times) t = std::nearbyint(t);
    std::reverse(times.begin(), times.end());
  }
  if (rule.spacing != TimestepSpacing::trailing)
    times.erase(rule.rises ? times.begin() : times.end() - 1);
  if (rule.rises) std::reverse(times.begin(), times.end());
  return times;
}

/// n levels from `first` to `last`, falling or rising, by a rule that has two ends.
inline std::vector<double> multistep_sigmas(MultistepSigmas kind, int n, double first,
                                            double last) {
  const auto exponential = [&] {
    auto sigmas = numpy_linspace(std::log(first), std::log(last), n);
    for (double& s : sigmas) s = std::exp(s);
    return sigmas;
  };
  if (kind == MultistepSigmas::exponential) return exponential();
  std::vector<double> sigmas = numpy_linspace(0, 1, n);
  const double inverse = 1.0 / 7;
  for (double& s : sigmas) switch (kind) {
      case MultistepSigmas::karras: {
        const double start = std::pow(first, inverse);
        s = std::pow(start + rounded(s * (std::pow(last, inverse) - start)), 7.0);
        break;
      }
      case MultistepSigmas::lu:
        s = std::exp(std::log(first) + rounded(s * (std::log(last) - std::log(first))));
        break;
      default:
        s = last + rounded(beta_quantile(1 - s, 0.6, 0.6) * (first - last));
    }
  return sigmas;
}

/// n flow levels from 1 - 1/N, shifted, without the 0 that would follow.
inline std::vector<double> multistep_flow_sigmas(int train_timesteps, int n, double shift) {
  std::vector<double> sigmas = numpy_linspace(1, 1.0 / train_timesteps, n + 1);
  for (double& s : sigmas) {
    s = 1 - s;
    s = rounded(shift * s) / (1 + rounded((shift - 1) * s));
  }
  std::reverse(sigmas.begin(), sigmas.end());
  sigmas.pop_back();
  return sigmas;
}

/// The same from 1 (less 1e-6, so that alpha is not 0), or the run's own levels, stretched too:
/// `shifted_time` and `stretched_to_terminal`, rounded as the reference rounds them.
inline std::vector<double> multistep_flow_sigmas_from_one(int train_timesteps, double shift,
                                                          const MultistepRule& rule,
                                                          const DiffusersRun& run) {
  std::vector<double> sigmas = run.sigmas;
  if (sigmas.empty()) {
    sigmas = numpy_linspace(1, 1.0 / train_timesteps, run.steps + 1);
    sigmas.pop_back();
  }
  for (double& s : sigmas) {
    require_range("a sigma of the flow", s, 0.0, 1.0);
    s = rule.dynamic_shift ? shift / (shift + (1 / s - 1))
                           : rounded(shift * s) / (1 + rounded((shift - 1) * s));
  }
  const double stretch = (1 - sigmas.back()) / (1 - rule.shift_terminal);
  if (rule.shift_terminal > 0 && stretch > 0)
    for (double& s : sigmas) s = 1 - rounded((1 - s) / stretch);
  if (std::abs(sigmas.front() - 1) < 1e-6) sigmas.front() -= 1e-6;
  return sigmas;
}

/// The shift of a run: exp(mu) or mu where the run has one.
inline double multistep_shift(const MultistepRule& rule, const DiffusersRun& run) {
  if (rule.demands_mu && rule.dynamic_shift && !run.mu)
    fail("mu is missing; use_dynamic_shifting needs it");
  if (!run.mu || (rule.demands_mu && !rule.dynamic_shift)) return rule.flow_shift;
  if (!rule.dynamic_shift)
    fail(text("mu is ", *run.mu, "; without use_dynamic_shifting it must not be given"));
  return shift_of_mu(*run.mu, rule.time_shift);
}

/// A level s, told t. `flow`: of (1 - s, s).
inline Knot multistep_knot(double t, double s, bool flow) {
  if (flow && !(s <= 1))
    fail(text("a level of the flow has sigma ", s,
              "; it must be at most 1 (use_flow_sigmas goes with levels of its own)"));
  if (flow) return {t, 1 - s, s};
  const double alpha = 1 / std::hypot(1.0, s);
  return {t, alpha, s * alpha};
}

/// The number that the classes call sigma.
inline double multistep_sigma(const Knot& knot, bool flow) {
  return flow ? knot.sigma : knot.sigma / knot.alpha;
}

/// Timesteps and levels of a run, the final level included. Plain data: threads may share what none
/// of them writes.
struct MultistepLevels {
  std::vector<double> timesteps, sigmas;
  double final_time = 0;  ///< the final level's
};

/// Steps from each level to the next, one for each timestep.
template <class Scalar>
Grid grid_of_levels(const MultistepLevels& levels, bool flow) {
  std::vector<Knot> knots;
  for (std::size_t i = 0; i <= levels.timesteps.size(); ++i) {
    const double t = i < levels.timesteps.size() ? levels.timesteps[i] : levels.final_time;
    const auto s = static_cast<double>(static_cast<Scalar>(levels.sigmas[i]));
    knots.push_back(multistep_knot(t, s, flow));
  }
  return Grid::through(knots, {.initial_scale = 1});
}

/// Times that are told again are left out, but not their levels: so the times of the steps after
/// them are not those of their levels, and the last levels are not reached, as in the reference's
/// inverse.
inline void drop_repeated_times(MultistepLevels& levels) {
  std::vector<double> times;
  for (const double t : levels.timesteps)
    if (std::find(times.begin(), times.end(), t) == times.end()) times.push_back(t);
  levels.timesteps = times;
}

/// Own timesteps: whole, falling, of the table.
inline void check_own_timesteps(const DiffusersRun& run, const MultistepRule& rule, int count) {
  if (rule.sigmas != MultistepSigmas::timesteps)
    fail("own timesteps are given beside a rule that picks sigmas; one of the two must go");
  for (std::size_t i = 0; i < run.timesteps.size(); ++i) {
    const double& t = run.timesteps[i];
    if (is_nan(t) || t < 0 || t > count - 1 || t != std::floor(t) ||
        (i > 0 && !(t < run.timesteps[i - 1])))
      fail(text("timesteps[", i, "] is ", t, "; it must be a whole number in [0, ", count - 1,
                "], below the one before it"));
  }
}

/// The levels of a rule, without the final one, and, of a rule by sigmas, no timesteps yet.
template <class Scalar>
void choose_levels(const SigmaTable<Scalar>& table, const MultistepRule& rule,
                   const DiffusersRun& run, MultistepLevels& levels) {
  const int count = table.count();
  const double shift = multistep_shift(rule, run);
  switch (rule.sigmas) {
    case MultistepSigmas::timesteps:
      levels.timesteps =
          !run.timesteps.empty()
              ? run.timesteps
              : multistep_timesteps(rule, count, table.unclipped(rule.lambda_min_clipped),
                                    run.steps);
      for (const double t : levels.timesteps) levels.sigmas.push_back(table.at(t));
      return;
    case MultistepSigmas::flow:
      levels.sigmas = multistep_flow_sigmas(count, run.steps, shift);
      return;
    case MultistepSigmas::flow_from_one:
      levels.sigmas = multistep_flow_sigmas_from_one(count, shift, rule, run);
      return;
    default:
      break;
  }
  const double most = rule.rises ? table.least() : table.most();
  const double least = rule.rises ? table.most() : table.least();
  levels.sigmas = multistep_sigmas(rule.sigmas, run.steps, rule.sigma_max.value_or(most),
                                   rule.sigma_min.value_or(least));
  if (rule.flow && rule.sigmas == MultistepSigmas::karras) {
    for (double& s : levels.sigmas) s /= s + 1;
    return;
  }
  for (const double s : levels.sigmas) {
    const double t = table.time(s);
    levels.timesteps.push_back(rule.rounds ? std::nearbyint(t) : t);
  }
}

template <class Scalar>
MultistepLevels multistep_levels(const SigmaTable<Scalar>& table, const MultistepRule& rule,
                                 const DiffusersRun& run) {
  const int count = table.count();
  if (!run.timesteps.empty())
    check_own_timesteps(run, rule, count);
  else if (run.sigmas.empty())
    require_range("steps", run.steps, 1, count);
  if (!run.sigmas.empty() && rule.sigmas != MultistepSigmas::flow_from_one)
    fail(text("own sigmas are given (", run.sigmas.size(),
              "); this class takes none, or only with ", "use_flow_sigmas and no other rule"));
  MultistepLevels levels;
  choose_levels(table, rule, run, levels);
  if (levels.timesteps.empty())
    for (const double s : levels.sigmas) levels.timesteps.push_back(s * count);
  if (rule.rises) drop_repeated_times(levels);
  for (double& t : levels.timesteps) t = std::trunc(t);
  if (rule.rises && rule.sigmas == MultistepSigmas::timesteps) {
    levels.final_time = table.unclipped(rule.lambda_min_clipped) - 1;
    levels.sigmas.push_back(table.at(levels.final_time));
  } else if (rule.final_sigma == FinalSigma::repeated) {
    levels.final_time = levels.timesteps.back();
    levels.sigmas.push_back(levels.sigmas.back());
  } else {
    const bool zero = rule.final_sigma == FinalSigma::zero;
    levels.final_time = zero ? -1 : 0;
    levels.sigmas.push_back(zero ? 0 : table.least());
  }
  return levels;
}

/// The grid of a run by a rule, from noise to data also for one that rises.
inline Grid multistep_grid(const DiffusersBetas& betas, const MultistepRule& rule,
                           const DiffusersRun& run, TablePrecision precision) {
  const auto make = [&]<class Scalar>(const NoiseSchedule<Scalar>& schedule) {
    const auto levels = multistep_levels(sigma_table(betas, schedule), rule, run);
    const Grid grid = grid_of_levels<Scalar>(levels, rule.flow);
    return rule.rises ? grid.reversed() : grid;
  };
  return with_schedule(betas, precision, make);
}

/// The level at which add_noise puts a timestep: that of the run's list; the second where it is
/// there twice, the last where it is not there.
inline Knot multistep_level(const Grid& grid, double t) {
  int found = -1, times = 0;
  for (int i = 0; i < grid.size() && times < 2; ++i)
    if (grid[i].from.t == t) {
      found = i;
      ++times;
    }
  return grid[found < 0 ? grid.size() - 1 : found].from;
}

}  // namespace diffusion::detail

#endif  // DIFFUSION_INTEROP_DIFFUSERS_MULTISTEP_GRID_HPP
