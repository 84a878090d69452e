#ifndef DIFFUSION_SAMPLERS_LMS_HPP
#define DIFFUSION_SAMPLERS_LMS_HPP

#include <diffusion/samplers/ancestral.hpp>
#include <diffusion/samplers/sampler.hpp>
#include <diffusion/samplers/weights.hpp>

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

namespace diffusion {

inline constexpr int max_lms_order = 4;  ///< largest order of LmsSampler

/// Options of LmsSampler. Plain data: threads may share what none of them writes.
struct LmsOptions {
  int steps = 20;       ///< steps of the grid, >= 1, at most the training timesteps
  GridOptions grid{};   ///< which levels
  Clipping clipping{};  ///< what is done to the estimate of x0
  int order = 4;        ///< 1 to max_lms_order
  /// Levels s = sigma / alpha of the steps that a cut left out, falling. diffusers counts them in
  /// the order of a cut run, though it has no estimates there, and leaves their weights out.
  std::vector<double> cut_levels = {};
};

namespace detail {

/// Integrals over [s, to] of the Lagrange polynomials through the last levels; s is the last of
/// them, and the weights are the newest first.
inline std::vector<double> lagrange_integrals(const std::vector<double>& levels, double to,
                                              int order) {
  const double s = levels.back(), h = to - s;
  std::vector<double> nodes, moments;  // (level - s) / h
  for (auto level = levels.rbegin(); level != levels.rend() && order > 0; ++level, --order) {
    nodes.push_back(h == 0 ? static_cast<double>(nodes.size()) : (*level - s) / h);
    moments.push_back(1.0 / static_cast<double>(nodes.size()));
  }
  std::vector<double> weights = interpolatory_weights(nodes, moments);
  for (double& weight : weights) weight *= h;
  return weights;
}

}  // namespace detail

/// The rows of LMS: x' = alpha' (x0 + s eps + sum of c_k eps_k), eps_k of k steps ago, c_k the
/// integral over [s, s'] of the Lagrange polynomial of s_k through the last `order` levels.
inline SamplingPlan make_plan(const Grid& grid, const LmsOptions& options) {
  detail::require_range("LmsOptions::order", options.order, 1, max_lms_order);
  detail::Rows rows(grid, Basis::eps);
  std::vector<double> levels = options.cut_levels;
  for (int i = 0; i < grid.size(); ++i) {
    Stage& row = rows.ask(i);
    row.x0 = row.to.alpha;
    if (row.at.alpha == 0 || row.to.alpha == 0) {  // s or s' is infinite: Euler's step, no history
      row.eps = row.to.sigma;
      levels.clear();
      continue;
    }
    const double s = detail::ratio_at(row.at), alpha = row.to.alpha;
    if (!levels.empty() && !(s < levels.back())) levels.clear();  // no polynomial through one level
    levels.push_back(s);
    std::vector<double> weights =
        detail::lagrange_integrals(levels, detail::ratio_at(row.to), options.order);
    weights.resize((std::min)(weights.size(), static_cast<std::size_t>(rows.asked())));
    for (double& weight : weights) weight *= alpha;
    weights[0] += alpha * s;
    rows.weigh(weights);
  }
  return std::move(rows).plan({.clipping = options.clipping});
}

/// The linear multistep method of Adams and Bashforth for dx/ds = eps, x / alpha against
/// s = sigma / alpha, on uneven levels: k-diffusion's LMS (Liu et al. 2022, arXiv 2202.09778, eq. 9
/// with exact weights). Order up to max_lms_order, reached after as many steps; one network call a
/// step; keeps order - 1 estimates; deterministic. LMS of order 1 is Euler. A cut run starts again
/// with order 1. Immutable; safe to share between threads.
template <class S>
struct LmsSampler : GridSampler<S, LmsOptions> {
  using GridSampler<S, LmsOptions>::GridSampler;
};
template <class S>
LmsSampler(S, LmsOptions = {}) -> LmsSampler<S>;

}  // namespace diffusion

#endif  // DIFFUSION_SAMPLERS_LMS_HPP
