#ifndef DIFFUSION_SAMPLERS_DPM_SOLVER_HPP
#define DIFFUSION_SAMPLERS_DPM_SOLVER_HPP

#include <diffusion/samplers/sampler.hpp>
#include <diffusion/samplers/weights.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

namespace diffusion {

/// What a solver takes for smooth along lambda = log(alpha / sigma), and keeps as its history.
enum class SolverForm {
  data,   ///< x0: DPM-Solver++ (Lu et al. 2022, arXiv 2211.01095)
  noise,  ///< eps: DPM-Solver (Lu et al. 2022, arXiv 2206.00927); for unguided networks
};

/// How second-order steps weigh the difference of two estimates.
enum class SolverType {
  midpoint,  ///< by half of what the newest estimate weighs: the papers' choice
  heun,      ///< by the integral of the straight line through both
};

/// How third-order steps weigh the second difference of three estimates.
enum class ThirdOrder {
  exact,      ///< by the integral of the parabola through them
  halved,     ///< by half of that: the authors' code and k-diffusion's 3M SDE, of second order
  diffusers,  ///< halved in multistep solvers, and with eta > 0 with the wrong sign
};

/// When the last steps fall to order 1 (the last) and 2 (the one before).
enum class LowerOrderFinal { never, short_runs /**< below 15 steps */, always };

/// Options of DpmSolverSampler. Plain data: threads may share what none of them writes.
struct DpmSolverOptions {
  int steps = 20;  ///< steps of the grid, >= 1, at most the training timesteps
  int order = 2;   ///< estimates weighed in a step, 1 to 4; the first steps have fewer
  SolverForm form = SolverForm::data;
  /// 0: the ODE. Above, the SDE with eta times its noise, tau^2 in SA-Solver's terms, at most 10.
  double eta = 0;
  SolverType solver = SolverType::midpoint;  ///< read by steps of order 2
  LowerOrderFinal lower_order_final = LowerOrderFinal::short_runs;
  bool euler_at_final = false;  ///< the last step is first order; one to sigma = 0 always is
  ThirdOrder third_order = ThirdOrder::exact;
  bool learned_variance = false;  ///< the network has 2C channels, of which the second half is idle
  GridOptions grid{};             ///< which timesteps
  Clipping clipping{};            ///< what is done to the estimate of x0
};

namespace detail {

/// An exponential integrator's step between two levels, h = lambda' - lambda apart:
///   data:  x' = (sigma'/sigma) e^(-eta h) x + alpha' c h int e^(-c h (1 - u)) x0(u) du + s n
///   noise: x' = (alpha'/alpha) x - sigma' c h int e^(h (1 - u)) eps(u) du + s n,  c = 1 + eta,
/// u from 0 to 1 along lambda. A step to sigma' = 0, or from alpha = 0, is infinitely long.
class ExponentialStep {
 public:
  ExponentialStep(const Knot& from, const Knot& to, SolverForm form, double eta)
      : from_(from),
        to_(to),
        form_(form),
        eta_(eta),
        lambda_(from.log_snr() / 2),
        h_(to.log_snr() / 2 - lambda_) {
    if (h_ < 0 && h_ > -1e-6 && eta > 0) h_ = 0;  // a level told twice, rounded to single precision
    if (is_finite(h_) ? eta > 0 && h_ < 0 : h_ < 0 && form == SolverForm::data)
      fail(text("a step goes from sigma / alpha = ", from.sigma, " / ", from.alpha, " to ",
                to.sigma, " / ", to.alpha, "; this solver needs one to less noise",
                form == SolverForm::data ? ", from sigma > 0" : ""));
    if (form == SolverForm::noise && from.alpha == 0)
      fail(
          "a step starts at alpha = 0, where an estimate of the noise does not tell x0; the noise "
          "form cannot start there, the data form can");
    if (form == SolverForm::noise && to.sigma == 0) eta_ = 0;  // the SDE has no end in this form
  }

  bool infinite() const { return !is_finite(h_); }
  bool stays() const { return h_ == 0; }

  double x() const {
    if (form_ == SolverForm::noise) return to_.alpha / from_.alpha;
    return to_.sigma / from_.sigma * (eta_ == 0 ? 1 : std::exp(-eta_ * h_));
  }
  double noise() const {
    if (eta_ == 0) return 0;
    return form_ == SolverForm::data ? to_.sigma * std::sqrt(-std::expm1(-2 * eta_ * h_))
                                     : to_.sigma * std::sqrt(eta_ * std::expm1(2 * h_));
  }
  /// The estimates' weight where u^m stands for them.
  double moment(int m) const {
    const double c = 1 + eta_;
    if (form_ == SolverForm::data)
      return to_.alpha *
             (m == 0 ? -std::expm1(-c * h_) : c * h_ * factorial(m) * phi(m + 1, -c * h_));
    if (m > 0) return -c * to_.sigma * h_ * factorial(m) * phi(m + 1, h_);
    return infinite() ? c * (to_.sigma - to_.alpha / from_.alpha * from_.sigma)
                      : -c * to_.sigma * std::expm1(h_);
  }
  /// diffusers' weight of the second difference where eta > 0: the sign of 1/2 is wrong.
  double flipped_moment() const { return -to_.alpha * (2 * phi(2, -(1 + eta_) * h_) + 1); }
  /// moment(1) with its limit for short steps, 1/2, for the integral (UniPC, SA-Solver).
  double half_moment() const {
    return (form_ == SolverForm::data ? to_.alpha : -to_.sigma) * (1 + eta_) * h_ / 2;
  }
  /// u of another level.
  double place(const Knot& knot) const { return (knot.log_snr() / 2 - lambda_) / h_; }

 private:
  static double factorial(int m) { return m < 2 ? 1 : m * factorial(m - 1); }

  Knot from_, to_;
  SolverForm form_;
  double eta_, lambda_, h_;
};

/// Weights of estimates at `nodes` (places u), all different.
inline std::vector<double> estimate_weights(const ExponentialStep& step,
                                            const std::vector<double>& nodes, bool midpoint,
                                            bool halved, bool flipped) {
  for (std::size_t i = 1; i < nodes.size(); ++i)
    if (nodes[i] == nodes[i - 1] || is_nan(nodes[i]) || is_nan(nodes[i - 1]))
      fail(
          "two neighbouring levels of the grid are the same, so a higher-order step cannot be made "
          "of their estimates; take fewer steps");
  std::vector<double> moments;
  for (std::size_t m = 0; m < nodes.size(); ++m)
    moments.push_back(step.moment(static_cast<int>(m)));
  if (midpoint && moments.size() > 1) moments[1] = moments[0] / 2;
  if (flipped && moments.size() > 2) moments[2] = step.flipped_moment();
  if (halved && moments.size() > 2) moments[2] /= 2;
  return interpolatory_weights(nodes, moments);
}

/// The order of step i of n that runs down to `order` - 2 steps less at the end where `lowers`.
inline int order_of_step(int i, int n, int order, bool lowers, bool euler_at_final) {
  const int left = n - 1 - i;
  if (left == 0 && (lowers || euler_at_final)) return 1;
  return left == 1 && lowers ? (std::min)(order, 2) : order;
}

}  // namespace detail

/// The rows of multistep DPM-Solver.
inline SamplingPlan make_plan(const Grid& grid, const DpmSolverOptions& options) {
  detail::require_range("DpmSolverOptions::order", options.order, 1, 4);
  detail::require_range("DpmSolverOptions::eta", options.eta, 0.0, 10.0);
  detail::require_enumerator("DpmSolverOptions::form", options.form, 2);
  detail::require_enumerator("DpmSolverOptions::solver", options.solver, 2);
  detail::require_enumerator("DpmSolverOptions::lower_order_final", options.lower_order_final, 3);
  detail::require_enumerator("DpmSolverOptions::third_order", options.third_order, 3);
  const int n = grid.size();
  const bool lowers = options.lower_order_final == LowerOrderFinal::always ||
                      (options.lower_order_final == LowerOrderFinal::short_runs && n < 15);
  detail::Rows rows(grid, options.form == SolverForm::data ? Basis::x0 : Basis::eps);
  std::vector<Knot> asked;  // the levels of the history, the newest first
  for (int i = 0; i < n; ++i) {
    const auto [from, to] = grid[i];
    const detail::ExponentialStep step(from, to, options.form, options.eta);
    if (step.stays()) {  // nothing changes, so there is nothing to ask
      rows.move(i, from, to).x = 1;
      if (options.eta > 0) rows.noise(0);
      continue;
    }
    Stage& row = rows.ask(i);
    row.x = step.x();
    if (options.learned_variance) row.noise_scale.kind = NoiseScale::Kind::exponential;
    asked.insert(asked.begin(), from);
    if (asked.size() > max_history) asked.pop_back();

    const int order = detail::order_of_step(i, n, options.order, lowers,
                                            options.euler_at_final || step.infinite());
    const int known = (std::min)(order, static_cast<int>(asked.size()));
    std::vector<double> nodes{0};
    for (int age = 1; age < (step.infinite() ? 1 : known); ++age) {
      const double place = step.place(asked[static_cast<std::size_t>(age)]);
      if (detail::is_finite(place)) nodes.push_back(place);  // alpha = 0 is infinitely long ago
    }
    const bool reference = options.third_order == ThirdOrder::diffusers;
    rows.weigh(detail::estimate_weights(step, nodes,
                                        known == 2 && options.solver == SolverType::midpoint,
                                        known == 3 && options.third_order != ThirdOrder::exact,
                                        known == 3 && reference && options.eta > 0));
    if (options.eta > 0) rows.noise(step.noise());
  }
  return std::move(rows).plan({.clipping = options.clipping});
}

/// DPM-Solver and DPM-Solver++, multistep, for the ODE or the SDE. Order 2 in the data form is
/// "DPM++ 2M" (arXiv 2211.01095, algorithm 2), with eta = 1 "DPM++ 2M SDE" (section 5, and
/// k-diffusion's, whose eta this is); order 3 with eta = 1 is the 3M SDE (k-diffusion's with
/// ThirdOrder::halved). Of the order that it is given, 1 to 4, after as many first steps; order 1
/// without noise is DDIM. One network call a step, order - 1 earlier estimates. Any schedule; the
/// end may be sigma = 0 and, in the data form, the start alpha = 0.
///
/// diffusers' third order is second (ThirdOrder). Immutable; safe to share between threads.
template <class S>
struct DpmSolverSampler : GridSampler<S, DpmSolverOptions> {
  using GridSampler<S, DpmSolverOptions>::GridSampler;
};
template <class S>
DpmSolverSampler(S, DpmSolverOptions = {}) -> DpmSolverSampler<S>;

}  // namespace diffusion

#endif  // DIFFUSION_SAMPLERS_DPM_SOLVER_HPP
