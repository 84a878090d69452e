#ifndef DIFFUSION_SAMPLERS_CHURN_HPP
#define DIFFUSION_SAMPLERS_CHURN_HPP

#include <diffusion/error.hpp>
#include <diffusion/samplers/sampler.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

namespace diffusion {

/// Churn: before a step noise is added, which raises the level s = sigma / alpha by the factor
/// 1 + min(amount / N, sqrt(2) - 1), N the steps of the whole run (Karras et al. 2022, arXiv
/// 2206.00364, algorithm 2). Levels end at the schedule's. Plain data: threads may share what none
/// of them writes.
struct Churn {
  double amount = 0;  ///< S_churn, >= 0; 0: none
  double s_min = 0;   ///< S_tmin, >= 0: only at levels s from here ...
  double s_max = std::numeric_limits<double>::infinity();  ///< ... to here, S_tmax
  double s_noise = 1;  ///< S_noise, >= 0: factor on the noise; other than 1 breaks its variance
};

namespace detail {

inline void check_churn(const Churn& churn) {
  const double largest = (std::numeric_limits<double>::max)();
  require_range("Churn::amount", churn.amount, 0.0, largest);
  require_range("Churn::s_min", churn.s_min, 0.0, largest);
  require_at_least("Churn::s_max", churn.s_max, 0.0);
  require_range("Churn::s_noise", churn.s_noise, 0.0, largest);
}

/// By which share churn raises the level at which step i of the grid starts.
inline double churn_share(const Grid& grid, int i, const Churn& churn) {
  const Knot& at = grid[i].from;
  if (churn.amount == 0 || at.alpha == 0 || at.sigma == 0) return 0;
  if (ratio_of(at) < churn.s_min || ratio_of(at) > churn.s_max) return 0;
  return (std::min)(churn.amount / (grid.first_step() + grid.size()), std::numbers::sqrt2 - 1);
}

/// Adds the stage of noise before step i, where there is one; returns the level that it leads to.
inline Knot churned(PlanRows& rows, const Grid& grid, int i, const Churn& churn,
                    const KnotAt& knot_at) {
  const Knot& at = grid[i].from;
  const double share = churn_share(grid, i, churn);
  if (share == 0) return at;
  require_knots(knot_at, "churn");
  const Knot raised = knot_at(at.log_snr() - 2 * std::log1p(share));
  if (!(ratio_of(raised) > ratio_of(at))) return at;
  Stage& row = rows.move(i, at, raised);
  row.x = raised.alpha / at.alpha;
  rows.noise(churn.s_noise * raised.sigma * std::sqrt(fresh_share(raised, at)));
  return raised;
}

}  // namespace detail
}  // namespace diffusion

#endif  // DIFFUSION_SAMPLERS_CHURN_HPP
