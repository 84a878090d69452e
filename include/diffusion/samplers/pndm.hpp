#ifndef DIFFUSION_SAMPLERS_PNDM_HPP
#define DIFFUSION_SAMPLERS_PNDM_HPP

#include <diffusion/error.hpp>
#include <diffusion/samplers/sampler.hpp>
#include <diffusion/samplers/weights.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>
#include <vector>

namespace diffusion {

/// How PNDM makes the estimates that its multistep method starts from.
enum class PndmWarmUp {
  runge_kutta,  ///< three steps of the classical method of four calls (F-PNDM)
  multistep,    ///< one step of two calls, then the order grows: n + 1 calls for n steps (PLMS)
};

/// Options of PndmSampler. Plain data: threads may share what none of them writes.
struct PndmOptions {
  int steps = 50;  ///< steps of the grid, >= 1, at most the training timesteps
  PndmWarmUp warm_up = PndmWarmUp::multistep;
  GridOptions grid{};  ///< which timesteps
  Clipping clipping{};
  /// What is averaged: eps, or raw, the outputs of a network that predicts v on a variance
  /// preserving schedule, as the reference does. v of other levels is no estimate of this level's.
  Basis history = Basis::eps;
};

namespace detail {

/// One call of PNDM: asks at `at`, and leads from `from`, where its step began, to `to`.
struct PndmAsk {
  enum class Role { first, middle, last, again, multistep };  // the first three: Runge-Kutta
  Role role;
  int step;
  Knot at, from, to;
};

/// x' = carry x + change eps, or, for v of a variance preserving level, change v.
struct PndmTransfer {
  double carry, change;
  PndmTransfer(const PndmAsk& ask, Basis history) {
    const Knot &a = ask.from, &b = ask.to;
    const bool raw = history == Basis::raw;
    if (!raw && a.alpha == 0) fail_at_pure_noise("PNDM", ask.step);
    carry = raw ? a.alpha * b.alpha + a.sigma * b.sigma : b.alpha / a.alpha;
    change = raw ? a.alpha * b.sigma - a.sigma * b.alpha : b.sigma - a.sigma * carry;
  }
};

inline SamplingPlan pndm_rows(const Grid& grid, const std::vector<PndmAsk>& asks,
                              const PndmOptions& options) {
  require_enumerator("PndmOptions::history", options.history, 3);
  if (options.history == Basis::x0) fail("PndmOptions::history is x0; it must be eps or raw");
  PlanRows rows(grid, options.history);
  std::vector<int> kept;  // the estimates that the multistep method reads
  using enum PndmAsk::Role;
  for (std::size_t j = 0; j < asks.size(); ++j) {
    const PndmAsk& ask = asks[j];
    const auto [carry, change] = PndmTransfer(ask, options.history);
    Stage& row = rows.ask(ask.step, ask.at, ask.to);
    const int number = rows.asked() - 1;
    if (ask.role == first || ask.role == multistep) kept.push_back(number);
    if (ask.role == again) {  // the step before with the mean of both: what it was is replaced
      const PndmTransfer before(asks[j - 1], options.history);
      row.x = carry / before.carry;
      rows.weigh(0, change / 2);
      rows.weigh(1, change / 2 - row.x * before.change);
      continue;
    }
    (ask.role == middle || ask.role == last ? row.saved : row.x) = carry;
    row.save = ask.role == first;
    if (ask.role == first || ask.role == middle) {
      rows.weigh(0, change);
    } else if (ask.role == last) {
      for (int age = 0; age < 4; ++age) rows.weigh(age, change / (age % 3 == 0 ? 6 : 3));
    } else {
      const auto weights = adams_bashforth_weights((std::min)(static_cast<int>(kept.size()), 4));
      for (std::size_t age = 0; age < weights.size(); ++age)
        rows.weigh(number - kept[kept.size() - 1 - age], change * weights[age]);
    }
  }
  return std::move(rows).plan({.clipping = options.clipping});
}

}  // namespace detail

/// The rows of PNDM. `between` gives the levels in the middle of Runge-Kutta steps.
inline SamplingPlan make_plan(const Grid& grid, const PndmOptions& options, const KnotAt& between) {
  detail::require_enumerator("PndmOptions::warm_up", options.warm_up, 2);
  using enum detail::PndmAsk::Role;
  const bool runge_kutta = options.warm_up == PndmWarmUp::runge_kutta;
  std::vector<detail::PndmAsk> asks;
  for (int i = 0; i < grid.size(); ++i) {
    const auto& [from, to] = grid[i];
    const bool warms_up = i < (runge_kutta ? 3 : 1) && to.sigma > 0;  // data is not asked about
    if (warms_up && runge_kutta) {
      if (from.alpha == 0) detail::fail_at_pure_noise("PNDM", i);
      detail::require_knots(between, "PNDM's Runge-Kutta warm-up");
      const Knot half = between(-2 * std::log((detail::ratio_of(from) + detail::ratio_of(to)) / 2));
      asks.insert(asks.end(), {{first, i, from, from, half},
                               {middle, i, half, from, half},
                               {middle, i, half, from, to},
                               {last, i, to, from, to}});
    } else {
      asks.push_back({multistep, i, from, from, to});
      if (warms_up) asks.push_back({again, i, to, from, to});
    }
  }
  return detail::pndm_rows(grid, asks, options);
}

/// Pseudo numerical methods for diffusion models (Liu et al. 2022, arXiv 2202.09778): DDIM's step
/// with epsilons averaged by Adams and Bashforth's weights of order four for even steps, after a
/// warm-up. n + 1 network calls (`multistep`; known as PLMS) or, with `runge_kutta`, n + 9 where n
/// is above 3, four earlier estimates, a saved state in Runge-Kutta steps, deterministic. Where the
/// steps are even in sigma / alpha of order 3, and of order 4 after Runge and Kutta's; of order 2
/// where they change smoothly. Needs alpha > 0 where it starts. A run that starts in the middle
/// warms up there. Immutable; safe to share between threads.
template <class S>
struct PndmSampler : GridSampler<S, PndmOptions> {
  using GridSampler<S, PndmOptions>::GridSampler;
};
/// Deduced from schedule and options.
template <class S>
PndmSampler(S, PndmOptions = {}) -> PndmSampler<S>;

}  // namespace diffusion

#endif  // DIFFUSION_SAMPLERS_PNDM_HPP
