#ifndef DIFFUSION_LIKELIHOOD_FLOW_PATH_HPP
#define DIFFUSION_LIKELIHOOD_FLOW_PATH_HPP

#include <diffusion/denoiser/prediction_type.hpp>
#include <diffusion/error.hpp>
#include <diffusion/schedule/knot.hpp>
#include <diffusion/schedule/schedule.hpp>

#include <cmath>

namespace diffusion {

/// The variable in which the probability flow is integrated, s = sigma / alpha.
enum class FlowVariable {
  automatic,  ///< log_snr where both ends have noise and signal, else angle
  log_snr,    ///< log s = -log-SNR / 2: even for data on a thin set, such as pictures
  sigma,      ///< s, from 0 on: the end needs alpha > 0
  angle,      ///< atan s, in [0, pi/2]: any schedule, from clean data to zero SNR
};

namespace detail {

/// The probability flow of any schedule in one form. With r^2 = alpha^2 + sigma^2, theta = atan(s)
/// and y = x / r the flow is
///
///     dy / dtheta = v(y) = E[cos(theta) eps - sin(theta) x0 | y],
///
/// as in TrigFlow (Lu and Song 2024, arXiv 2410.11081), bounded at both ends; another
/// variable only scales it. Immutable; safe to share between threads.
template <class S>
class FlowPath {
 public:
  /// A point of the path and dtheta / d(variable). Plain data: threads may share what none of them
  /// writes.
  struct Point {
    Knot knot;
    double rate;

    double radius() const { return std::hypot(knot.alpha, knot.sigma); }
  };

  /// From the cleaner time to the noisier.
  FlowPath(const S& schedule, FlowVariable variable, double from, double to)
      : schedule_(schedule), from_(knot_at(schedule, from)), to_(knot_at(schedule, to)) {
    require_enumerator("LikelihoodOptions::variable", variable, 4);
    if (!(from_.log_snr() > to_.log_snr()))
      fail(text("the likelihood was asked from t = ", from, " (sigma / alpha = ", from_.sigma,
                " / ", from_.alpha, ") to t = ", to, " (", to_.sigma, " / ", to_.alpha,
                "); the second must have more noise"));
    const bool both = from_.sigma > 0 && to_.alpha > 0;
    variable_ = variable != FlowVariable::automatic ? variable
                : both                              ? FlowVariable::log_snr
                                                    : FlowVariable::angle;
    if (variable_ == FlowVariable::log_snr && from_.sigma == 0)
      fail(
          "sigma is 0 where the likelihood starts, where log-SNR has no end; take another "
          "FlowVariable, or LikelihoodOptions::from a time with some noise");
    if (variable_ != FlowVariable::angle && to_.alpha == 0)
      fail(
          "alpha is 0 where the likelihood ends, where sigma / alpha has no end; take "
          "FlowVariable::angle, or LikelihoodOptions::to a time with some signal");
  }

  FlowVariable variable() const { return variable_; }
  double begin() const { return place(from_); }
  double end() const { return place(to_); }
  const Knot& from() const { return from_; }
  const Knot& to() const { return to_; }

  Point at(double place) const {
    const Knot knot = place == begin() ? from_
                      : place == end() ? to_
                                       : knot_at(schedule_, schedule_.time(log_snr(place)));
    const double square = knot.alpha * knot.alpha + knot.sigma * knot.sigma;
    switch (variable_) {
      case FlowVariable::log_snr:
        return {knot, knot.alpha * knot.sigma / square};
      case FlowVariable::sigma:
        return {knot, knot.alpha * knot.alpha / square};
      case FlowVariable::angle:
      case FlowVariable::automatic:
        break;
    }
    return {knot, 1};
  }

 private:
  double place(const Knot& knot) const {
    if (variable_ == FlowVariable::log_snr) return -knot.log_snr() / 2;
    if (variable_ == FlowVariable::sigma) return knot.sigma / knot.alpha;
    return std::atan2(knot.sigma, knot.alpha);
  }
  double log_snr(double place) const {
    if (variable_ == FlowVariable::log_snr) return -2 * place;
    if (variable_ == FlowVariable::sigma) return -2 * std::log(place);
    return 2 * (std::log(std::cos(place)) - std::log(std::sin(place)));
  }

  const S& schedule_;
  Knot from_, to_;
  FlowVariable variable_ = FlowVariable::angle;
};

/// v = on_x x + on_f f at a level: f is the network's answer to input_scale x. Plain data: threads
/// may share what none of them writes.
struct FlowWeights {
  double on_x, on_f;

  FlowWeights(PredictionType type, const Knot& at, double input_scale) {
    const Conversion c = conversion(type, at, input_scale);
    const double radius = std::hypot(at.alpha, at.sigma);
    on_x = (at.alpha * c.p - at.sigma * c.a) / radius;
    on_f = (at.alpha * c.q - at.sigma * c.b) / radius;
    if (!is_finite(on_x) || !is_finite(on_f))
      fail(text("the flow is undefined for prediction type ", name(type), " at t = ", at.t,
                " (alpha = ", at.alpha, ", sigma = ", at.sigma,
                "); use one that is finite there (v at both ends), or LikelihoodOptions::from "
                "and to that stop short of it"));
  }
};

}  // namespace detail
}  // namespace diffusion

#endif  // DIFFUSION_LIKELIHOOD_FLOW_PATH_HPP
