#ifndef DIFFUSION_SAMPLERS_LMS_HPP
#define DIFFUSION_SAMPLERS_LMS_HPP

#include <diffusion/error.hpp>
#include <diffusion/samplers/sampler.hpp>
#include <diffusion/samplers/weights.hpp>

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

namespace diffusion {

inline constexpr int max_lms_order = max_history + 1;  ///< largest order of LmsSampler

/// Options of LmsSampler. Plain data: threads may share what none of them writes.
struct LmsOptions {
  int steps = 20;       ///< steps of the grid, >= 1, at most the training timesteps
  GridOptions grid{};   ///< which levels
  Clipping clipping{};  ///< what is done to the estimate of x0
  int order = 4;        ///< 1 to max_lms_order
  /// Falling s of the steps that a cut left out: as diffusers, counted in the order, not weighed.
  std::vector<double> cut_levels = {};
};

namespace detail {

/// Integrals over [s, to] of the Lagrange polynomials through the last levels; s is the last of
/// them, and the weights are the newest first, at most `known`.
inline std::vector<double> lagrange_integrals(const std::vector<double>& levels, double to,
                                              int order, int known) {
  const double s = levels.back(), h = to - s;
  std::vector<double> nodes, moments;  // (level - s) / h
  for (auto level = levels.rbegin(); level != levels.rend() && order > 0; ++level, --order) {
    nodes.push_back(h == 0 ? static_cast<double>(nodes.size()) : (*level - s) / h);
    moments.push_back(1.0 / static_cast<double>(nodes.size()));
  }
  std::vector<double> weights = interpolatory_weights(nodes, moments);
  weights.resize((std::min)(weights.size(), static_cast<std::size_t>(known)));
  for (double& weight : weights) weight *= h;
  return weights;
}

}  // namespace detail

/// The rows of LMS: x' = alpha' (x0 + s eps + sum of c_k eps_k), eps_k of k steps ago, c_k the
/// integral over [s, s'] of the Lagrange polynomial of s_k through the last `order` levels.
inline SamplingPlan make_plan(const Grid& grid, const LmsOptions& options) {
  detail::require_range("LmsOptions::order", options.order, 1, max_lms_order);
  PlanRows rows(grid, Basis::eps);
  std::vector<double> levels = options.cut_levels;
  for (int i = 0; i < grid.size(); ++i) {
    Stage& row = rows.ddim(i);
    if (row.at.alpha == 0 || row.to.alpha == 0) {  // s or s' is infinite: Euler's step, no history
      levels.clear();
      continue;
    }
    const double s = detail::ratio_of(row.at);
    if (!levels.empty() && !(s < levels.back())) levels.clear();  // no polynomial through one level
    levels.push_back(s);
    row.eps = row.to.alpha * s;
    const double s_to = detail::ratio_of(row.to);
    rows.weigh(detail::lagrange_integrals(levels, s_to, options.order, rows.asked()), row.to.alpha);
  }
  return std::move(rows).plan({.clipping = options.clipping});
}

/// Adams and Bashforth's linear multistep method for dx/ds = eps, x / alpha against s, on uneven
/// levels: k-diffusion's LMS. Of its order after as many steps, order 1 is Euler; one network call
/// a step, order - 1 earlier estimates, deterministic. A cut run starts again with order 1.
/// Immutable; safe to share between threads.
template <class S>
struct LmsSampler : GridSampler<S, LmsOptions> {
  using GridSampler<S, LmsOptions>::GridSampler;
};
/// Deduced from schedule and options.
template <class S>
LmsSampler(S, LmsOptions = {}) -> LmsSampler<S>;

}  // namespace diffusion

#endif  // DIFFUSION_SAMPLERS_LMS_HPP
