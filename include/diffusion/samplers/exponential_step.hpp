#ifndef DIFFUSION_SAMPLERS_EXPONENTIAL_STEP_HPP
#define DIFFUSION_SAMPLERS_EXPONENTIAL_STEP_HPP

#include <diffusion/error.hpp>
#include <diffusion/samplers/weights.hpp>
#include <diffusion/schedule/knot.hpp>

#include <cmath>
#include <cstddef>
#include <vector>

/// What DPM-Solver, DEIS, UniPC and SA-Solver share: the step that is exact for the linear part of
/// the diffusion ODE or SDE, and integrates a polynomial through estimates for the rest.
namespace diffusion {

/// What a solver takes for smooth along lambda = log(alpha / sigma), and keeps as its history.
enum class SolverForm {
  data,   ///< x0: DPM-Solver++ (Lu et al. 2022, arXiv 2211.01095)
  noise,  ///< eps: DPM-Solver (Lu et al. 2022, arXiv 2206.00927); for unguided networks
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
        h_(same_level(from, to) ? 0 : to.log_snr() / 2 - lambda_) {
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
    if (same_level(from_, to_)) return 1;
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

}  // namespace detail
}  // namespace diffusion

#endif  // DIFFUSION_SAMPLERS_EXPONENTIAL_STEP_HPP
