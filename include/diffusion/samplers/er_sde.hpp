#ifndef DIFFUSION_SAMPLERS_ER_SDE_HPP
#define DIFFUSION_SAMPLERS_ER_SDE_HPP

#include <diffusion/error.hpp>
#include <diffusion/samplers/quadrature.hpp>
#include <diffusion/samplers/sampler.hpp>
#include <diffusion/samplers/weights.hpp>

#include <cmath>
#include <cstddef>
#include <functional>
#include <utility>
#include <vector>

namespace diffusion {

/// The paper's own noise scale, "ER-SDE 5": phi(s) = s (exp(s^0.3) + 10).
inline double er_sde_5(double s) { return s * (std::exp(std::pow(s, 0.3)) + 10); }

/// Options of ErSdeSampler. Plain data: threads may share what none of them writes.
struct ErSdeOptions {
  int steps = 20;  ///< steps of the grid, >= 1, at most the training timesteps
  int order = 3;   ///< estimates that a step reads, 1 to 3; the first steps read fewer
  /// phi(s) of s = sigma / alpha, positive for s > 0, growing at least as fast as s: s is the ODE,
  /// s^2 the reverse SDE, between them part of its noise.
  std::function<double(double s)> noise_scale = er_sde_5;
  GridOptions grid{};   ///< which timesteps
  Clipping clipping{};  ///< what is done to the estimate of x0
};

namespace detail {

/// The integral of (u - s)^m / phi(u) over u from s_to to s.
inline double noise_scale_integral(const std::function<double(double)>& phi, double s, double s_to,
                                   int m) {
  const auto of_log = [&](double log_u) {
    const double u = std::exp(log_u);
    return u / phi(u) * std::pow(u - s, m);
  };
  return integral(of_log, std::log(s_to), std::log(s));
}

/// phi'/phi * s/s' of a step from s to s': the share of its noise that a step keeps. In the limit
/// where it comes from pure noise, s = infinity.
inline double kept_noise(const std::function<double(double)>& phi, double s, double s_to, int i) {
  const double from = is_finite(s) ? s : 1e150;
  const double kept = from / phi(from) * (phi(s_to) / s_to);
  if (!(kept >= 0 && kept <= 1 + 1e-12))
    fail(text("ErSdeOptions::noise_scale is ", phi(from), " at s = ", from, " and ", phi(s_to),
              " at s = ", s_to, " (step ", i,
              "); it must be positive and grow at least as s does"));
  return 1 - kept < 1e-14 ? 1 : kept;
}

}  // namespace detail

/// The rows of ER-SDE: with s = sigma / alpha, r = phi(s') / phi(s), and the polynomial x0(s)
/// through the newest estimates,
/// x' / alpha' = r x / alpha + phi(s') int phi'(u) / phi(u)^2 x0(u) du + sqrt(s'^2 - r^2 s^2) n.
inline SamplingPlan make_plan(const Grid& grid, const ErSdeOptions& options) {
  detail::require_range("ErSdeOptions::order", options.order, 1, 3);
  const auto& phi = options.noise_scale;
  if (!phi) fail("ErSdeOptions::noise_scale is empty; it must be a function of s");
  PlanRows rows(grid, Basis::x0);
  std::vector<double> levels;  // of the estimates, the newest first
  for (int i = 0; i < grid.size(); ++i) {
    const auto [from, to] = grid[i];
    const double s = detail::ratio_of(from), s_to = detail::ratio_of(to);
    if (from.sigma == 0 || to.alpha == 0 || !(s_to < s))
      fail(detail::text("step ", i, " of the grid goes from sigma / alpha = ", s, " to ", s_to,
                        "; ER-SDE needs each step to lead to less noise"));
    levels.insert(levels.begin(), s);
    Stage& row = rows.ask(i);
    if (to.sigma == 0) {
      row.x0 = to.alpha;
      continue;
    }
    const double kept = detail::kept_noise(phi, s, s_to, i);
    std::vector<double> nodes{0}, moments{1 - phi(s_to) / phi(s)};
    for (int m = 1; m < options.order && m < static_cast<int>(levels.size()); ++m) {
      const double node = levels[static_cast<std::size_t>(m)] - s;
      if (!detail::is_finite(node)) break;  // pure noise
      nodes.push_back(node);
      moments.push_back(std::pow(s_to - s, m) +
                        m * phi(s_to) * detail::noise_scale_integral(phi, s, s_to, m - 1));
    }
    // r x / alpha = r x0 + r s eps, which is finite from pure noise too.
    std::vector<double> weights = detail::interpolatory_weights(nodes, moments);
    weights[0] += 1 - moments[0];
    rows.weigh(weights, to.alpha);
    row.eps = to.sigma * kept;
    if (kept < 1) rows.noise(to.sigma * std::sqrt((1 - kept) * (1 + kept)));
  }
  return std::move(rows).plan({.clipping = options.clipping});
}

/// ER-SDE-Solver: multistep solvers of the extended reverse-time SDE, whose noise is a choice (Cui
/// et al. 2023, arXiv 2309.06169; variance preserving schedules are walked in x / alpha, as there).
/// One network call a step, order - 1 earlier estimates. Without noise (phi = s) of the given
/// order; the paper's third-order formula, whose slope is a first difference, is of second. Any
/// schedule; a step to clean data is the estimate itself. Immutable; safe to share between threads.
template <class S>
struct ErSdeSampler : GridSampler<S, ErSdeOptions> {
  using GridSampler<S, ErSdeOptions>::GridSampler;
};
/// Deduced from schedule and options.
template <class S>
ErSdeSampler(S, ErSdeOptions = {}) -> ErSdeSampler<S>;

}  // namespace diffusion

#endif  // DIFFUSION_SAMPLERS_ER_SDE_HPP
