#ifndef DIFFUSION_SCHEDULE_SIGMA_SPACING_HPP
#define DIFFUSION_SCHEDULE_SIGMA_SPACING_HPP

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <vector>

#include <diffusion/error.hpp>
#include <diffusion/schedule/beta_quantile.hpp>

/// Rules that pick noise levels by s = sigma / alpha, k-diffusion's "sigma", or times. Numbers
/// only; `make_grid` turns them into the grid of a schedule. The rules of levels return n values
/// that fall strictly from sigma_max to sigma_min, the ends exact, and sigma_max alone for n = 1;
/// they fail unless 1 <= n <= 1000000 and 0 < sigma_min < sigma_max.
namespace diffusion {

namespace detail {

inline constexpr int max_levels = 1'000'001;

inline void check_levels(int n, double sigma_min, double sigma_max) {
  require_range("number of levels", n, 1, max_levels);
  require_range("sigma_max", sigma_max, 1e-150, 1e150);
  require_range("sigma_min", sigma_min, 1e-150, sigma_max);
  if (n > 1 && !(sigma_min < sigma_max))
    fail(text("sigma_min is ", sigma_min, "; for ", n, " levels it must be below sigma_max, which ",
              "is the same"));
}

/// The values of `level` at `n` even numbers from 0 to 1; the ends are set. Fails where
/// neighbours are too close to be told apart.
template <class Level>
std::vector<double> falling_levels(int n, double sigma_min, double sigma_max, Level level) {
  std::vector<double> sigmas{sigma_max};
  for (int i = 1; i < n; ++i) {
    sigmas.push_back(i == n - 1 ? sigma_min : level(static_cast<double>(i) / (n - 1)));
    if (!(sigmas.back() < sigmas[sigmas.size() - 2]))
      fail(text("level ", i, " of ", n, " is ", sigmas.back(), "; it must be below level ", i - 1,
                ", which is ", sigmas[sigmas.size() - 2], " (take fewer steps or another rho)"));
  }
  return sigmas;
}

}  // namespace detail

/// Even in s^(1/rho): Karras et al. 2022 (arXiv 2206.00364), eq. 5. The larger rho (0.01 to 1000),
/// the more levels lie near sigma_min; 7 is the paper's.
inline std::vector<double> karras_sigmas(int n, double sigma_min, double sigma_max,
                                         double rho = 7) {
  detail::check_levels(n, sigma_min, sigma_max);
  detail::require_range("rho", rho, 0.01, 1000.0);
  const double first = std::pow(sigma_max, 1 / rho), last = std::pow(sigma_min, 1 / rho);
  return detail::falling_levels(n, sigma_min, sigma_max, [&](double gone) {
    return std::pow(first + gone * (last - first), rho);
  });
}

/// log s = log sigma_min + u^rho (log sigma_max - log sigma_min), u even from 1 to 0: k-diffusion's
/// polyexponential. rho in [0.01, 1000].
inline std::vector<double> polyexponential_sigmas(int n, double sigma_min, double sigma_max,
                                                  double rho = 1) {
  detail::check_levels(n, sigma_min, sigma_max);
  detail::require_range("rho", rho, 0.01, 1000.0);
  const double range = std::log(sigma_max / sigma_min);
  return detail::falling_levels(n, sigma_min, sigma_max, [&](double gone) {
    return sigma_min * std::exp(range * std::pow(1 - gone, rho));
  });
}

/// Even in log s, which is even in log SNR = -2 log s and in DPM-Solver's lambda = -log s (Lu et
/// al. 2022, arXiv 2206.00927: what diffusers calls Lu's lambdas are the same numbers).
inline std::vector<double> exponential_sigmas(int n, double sigma_min, double sigma_max) {
  return polyexponential_sigmas(n, sigma_min, sigma_max, 1);
}

/// sigma_min + x (sigma_max - sigma_min), x the quantiles of a Beta(a, b) law at even shares from 1
/// to 0: most levels at both ends. diffusers' reading of Lee et al. 2024 (arXiv 2407.12173); the
/// paper means times, see `beta_times`. a and b in [0.1, 50].
inline std::vector<double> beta_sigmas(int n, double sigma_min, double sigma_max, double a = 0.6,
                                       double b = 0.6) {
  detail::check_levels(n, sigma_min, sigma_max);
  detail::check_beta_law(a, b);
  return detail::falling_levels(n, sigma_min, sigma_max, [&](double gone) {
    return sigma_min + beta_quantile(1 - gone, a, b) * (sigma_max - sigma_min);
  });
}

/// Even in arctan(s / c): brings n Euler (DDIM) steps nearest to the exact solution for data
/// N(0, c^2), since what they miss of it is the factor prod cos(step of the angle), which is
/// nearest to 1 for even steps (Sabour, Fidler and Kreis 2024, arXiv 2404.14507). ComfyUI's
/// kl_optimal is c = 1. c in [0.001, 1000].
inline std::vector<double> kl_optimal_sigmas(int n, double sigma_min, double sigma_max,
                                             double c = 1) {
  detail::check_levels(n, sigma_min, sigma_max);
  detail::require_range("c", c, 0.001, 1000.0);
  const double first = std::atan(sigma_max / c), last = std::atan(sigma_min / c);
  const double first_rest = std::atan(c / sigma_max), last_rest = std::atan(c / sigma_min);
  return detail::falling_levels(n, sigma_min, sigma_max, [&](double gone) {
    // tan near pi / 2 magnifies the rounding of its angle; there the complement is exact.
    const double rest = first_rest + gone * (last_rest - first_rest);
    return rest < 0.5 ? c / std::tan(rest) : c * std::tan(first + gone * (last - first));
  });
}

/// The networks that Align Your Steps has tables for.
enum class AlignYourSteps {
  stable_diffusion_1,      ///< 14.615 to 0.029
  stable_diffusion_xl,     ///< 14.615 to 0.029
  stable_video_diffusion,  ///< 700 to 0.002
  deepfloyd_stage_1        ///< 160.41 to 0.006
};

namespace detail {

/// The published tables of arXiv 2404.14507.
inline const std::array<double, 11>& align_your_steps_table(AlignYourSteps network) {
  static constexpr std::array<std::array<double, 11>, 4> tables{{
      {14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029},
      {14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029},
      {700.00, 54.5, 15.886, 7.977, 4.248, 1.789, 0.981, 0.403, 0.173, 0.034, 0.002},
      {160.41, 8.081, 3.315, 1.885, 1.207, 0.785, 0.553, 0.293, 0.186, 0.030, 0.006},
  }};
  require_enumerator("Align Your Steps table", network, 4);
  return tables[static_cast<std::size_t>(network)];
}

}  // namespace detail

/// The levels that Sabour, Fidler and Kreis 2024 (arXiv 2404.14507) found for 10 steps of a
/// network; for n other than the table's 11, log s is interpolated between them, as the authors
/// say.
inline std::vector<double> align_your_steps_sigmas(AlignYourSteps network, int n) {
  const auto& table = detail::align_your_steps_table(network);
  detail::check_levels(n, table.back(), table.front());
  const int span = (std::max)(n - 1, 1), intervals = static_cast<int>(table.size()) - 1;
  std::vector<double> sigmas;
  for (int i = 0; i < n; ++i) {
    const auto below = static_cast<std::size_t>(i * intervals / span);
    const double share = static_cast<double>(i * intervals % span) / span;
    sigmas.push_back(share == 0 ? table[below]
                                : table[below] * std::pow(table[below + 1] / table[below], share));
  }
  return sigmas;
}

/// The 10 timesteps of Stable Diffusion's schedule that the authors publish beside the levels, for
/// `GridOptions::timesteps`. Only the first two tables have them.
inline std::vector<double> align_your_steps_timesteps(AlignYourSteps network) {
  if (network == AlignYourSteps::stable_diffusion_1)
    return {999, 850, 736, 645, 545, 455, 343, 233, 124, 24};
  if (network == AlignYourSteps::stable_diffusion_xl)
    return {999, 845, 730, 587, 443, 310, 193, 116, 53, 13};
  fail(detail::text("Align Your Steps table ", static_cast<int>(network),
                    " has no timesteps; take its levels, align_your_steps_sigmas"));
}

/// n times, even from `last` down, the next of which would be `first`: ComfyUI's sgm_uniform.
/// Times need not be whole. last >= first.
inline std::vector<double> sgm_uniform_times(int n, double first, double last) {
  detail::require_range("number of times", n, 1, detail::max_levels);
  detail::require_at_least("last time", last, first);
  std::vector<double> times;
  for (int i = 0; i < n; ++i) times.push_back(last - (last - first) * i / n);
  return times;
}

/// T - 1 - floor(i T / n), i = 0, ..., n - 1: ComfyUI's simple. n whole timesteps from T - 1 down;
/// fails unless 1 <= n <= T.
inline std::vector<double> simple_timesteps(int train_timesteps, int n) {
  detail::require_at_least("train_timesteps", train_timesteps, 1);
  detail::require_range("steps", n, 1, train_timesteps);
  std::vector<double> times;
  for (long long i = 0; i < n; ++i)
    times.push_back(static_cast<double>(train_timesteps - 1 - i * train_timesteps / n));
  return times;
}

/// first + x (last - first), x the quantiles of a Beta(a, b) law at 1, 1 - 1/n, ..., 1/n: Lee et
/// al. 2024 (arXiv 2407.12173). ComfyUI's "beta" rounds these to whole timesteps and drops
/// repeated ones, so that it may make fewer steps than asked for; here they are left as they are.
inline std::vector<double> beta_times(int n, double first, double last, double a = 0.6,
                                      double b = 0.6) {
  detail::require_range("number of times", n, 1, detail::max_levels);
  detail::require_at_least("last time", last, first);
  std::vector<double> times{last};
  for (int i = 1; i < n; ++i)
    times.push_back(first + beta_quantile(1 - static_cast<double>(i) / n, a, b) * (last - first));
  return times;
}

/// A rule of levels or times, see `SigmaSpacing`.
enum class SigmaRule {
  none,              ///< by times, as the other options say
  karras,            ///< `karras_sigmas`, rho 7
  exponential,       ///< `exponential_sigmas`: uniform in log SNR, Lu's lambdas
  polyexponential,   ///< `polyexponential_sigmas`, rho 1
  beta,              ///< `beta_sigmas`, of the levels
  kl_optimal,        ///< `kl_optimal_sigmas`
  align_your_steps,  ///< `align_your_steps_sigmas`
  sgm_uniform,       ///< `sgm_uniform_times`
  simple,            ///< `simple_timesteps`; on continuous schedules the same as sgm_uniform
  beta_times         ///< `beta_times`, of the times
};

/// The names of the rules, in their order.
inline constexpr std::array<const char*, 10> sigma_rule_names{
    "none",       "karras",           "exponential", "polyexponential", "beta",
    "kl_optimal", "align_your_steps", "sgm_uniform", "simple",          "beta_times"};

/// What a network trained at whole timesteps is told at a level that lies between two.
enum class ToldTime {
  exact,    ///< the time between them
  nearest,  ///< the nearer one, half to even
  below     ///< the one below
};

/// How `make_grid` picks noise levels by s = sigma / alpha instead of time. Whatever is told, the
/// levels are those of the rule. Plain data: threads may share what none of them writes.
struct SigmaSpacing {
  SigmaRule rule = SigmaRule::none;
  double rho = 0;  ///< of karras and polyexponential, 0.01 to 1000; 0: the rule's own
  double beta_a = 0.6, beta_b = 0.6;  ///< of beta and beta_times, 0.1 to 50
  AlignYourSteps table = AlignYourSteps::stable_diffusion_1;
  /// The least and the largest s, within the schedule's; 0: the schedule's own. Not for
  /// align_your_steps and simple, which have none.
  double sigma_min = 0, sigma_max = 0;
  ToldTime told = ToldTime::exact;  ///< other than exact on discrete schedules only
};

namespace detail {

/// Whether a rule picks times.
inline bool is_time_rule(SigmaRule rule) { return rule >= SigmaRule::sgm_uniform; }

inline void check_sigma_spacing(const SigmaSpacing& spacing) {
  require_enumerator("SigmaSpacing::rule", spacing.rule, 10);
  require_enumerator("SigmaSpacing::told", spacing.told, 3);
  require_range("SigmaSpacing::rho", spacing.rho, 0.0, 1000.0);
  require_range("SigmaSpacing::sigma_min", spacing.sigma_min, 0.0, 1e150);
  require_range("SigmaSpacing::sigma_max", spacing.sigma_max, 0.0, 1e150);
  check_beta_law(spacing.beta_a, spacing.beta_b);
  const bool fixed =
      spacing.rule == SigmaRule::align_your_steps || spacing.rule == SigmaRule::simple;
  if (fixed && (spacing.sigma_min > 0 || spacing.sigma_max > 0))
    fail(text("SigmaSpacing::sigma_min, sigma_max are ", spacing.sigma_min, ", ", spacing.sigma_max,
              "; with rule ", sigma_rule_names[static_cast<std::size_t>(spacing.rule)],
              ", which has its own ends, both must be 0"));
}

/// n levels of a rule that is not one of times.
inline std::vector<double> spaced_sigmas(const SigmaSpacing& spacing, int n, double sigma_min,
                                         double sigma_max) {
  const double rho = spacing.rho;
  switch (spacing.rule) {
    case SigmaRule::karras:
      return karras_sigmas(n, sigma_min, sigma_max, rho == 0 ? 7 : rho);
    case SigmaRule::polyexponential:
      return polyexponential_sigmas(n, sigma_min, sigma_max, rho == 0 ? 1 : rho);
    case SigmaRule::beta:
      return beta_sigmas(n, sigma_min, sigma_max, spacing.beta_a, spacing.beta_b);
    case SigmaRule::kl_optimal:
      return kl_optimal_sigmas(n, sigma_min, sigma_max);
    case SigmaRule::align_your_steps:
      return align_your_steps_sigmas(spacing.table, n);
    default:
      return exponential_sigmas(n, sigma_min, sigma_max);
  }
}

}  // namespace detail
}  // namespace diffusion

#endif  // DIFFUSION_SCHEDULE_SIGMA_SPACING_HPP
