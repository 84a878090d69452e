#ifndef DIFFUSION_SCHEDULE_CONTINUOUS_HPP
#define DIFFUSION_SCHEDULE_CONTINUOUS_HPP

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include <diffusion/error.hpp>
#include <diffusion/schedule/arithmetic.hpp>
#include <diffusion/schedule/knot.hpp>

/// Schedules in continuous time t in [0, 1], from the least noise to the most. All are immutable
/// values; all functions of time fail outside [0, 1]; `time` is the inverse of `log_snr`, clamped
/// to the ends. The network is told t * time_scale.
namespace diffusion {

namespace detail {
inline void require_time(double t) { require_range("time t", t, 0.0, 1.0); }
inline void require_number(const double& log_snr) {
  if (is_nan(log_snr)) fail("log_snr is not a number; it must be one or infinite");
}
/// Fails unless 0 < value and value is finite.
inline void require_positive(const char* name, double value) {
  require_inside(name, value, 0.0, std::numeric_limits<double>::infinity());
}
}  // namespace detail

/// Options of VpLinear. Plain data: threads may share what none of them writes.
struct VpLinearOptions {
  double beta_min = 0.1;  ///< noise rate at t = 0, >= 0 and finite
  double beta_max = 20;   ///< noise rate at t = 1, > beta_min
  double time_scale = 1;  ///< the network is told t * time_scale, > 0 (often 999 or 1000)
};

/// Variance preserving, noise rate beta(t) = beta_min + t (beta_max - beta_min):
/// alpha^2 = exp(-B), sigma^2 = 1 - exp(-B), B(t) = beta_min t + (beta_max - beta_min) t^2 / 2.
/// Its discrete twin of T steps is `linear` with betas beta_min/T to beta_max/T, whose timestep
/// i stands for t = (i + 1) / T. Song et al. 2021, arXiv 2011.13456, eq. 32-33. Immutable; safe to
/// share between threads.
class VpLinear {
 public:
  explicit VpLinear(const VpLinearOptions& options = {}) : options_(options) {
    detail::require_range("beta_min", options.beta_min, 0.0, (std::numeric_limits<double>::max)());
    detail::require_inside("beta_max", options.beta_max, options.beta_min,
                           std::numeric_limits<double>::infinity());
    detail::require_positive("time_scale", options.time_scale);
  }

  const VpLinearOptions& options() const { return options_; }
  double first_time() const { return 0; }
  double last_time() const { return 1; }

  double alpha(double t) const { return std::exp(-integral(t) / 2); }
  double sigma(double t) const { return std::sqrt(-std::expm1(-integral(t))); }
  double log_snr(double t) const { return -std::log(std::expm1(integral(t))); }

  double time(double log_snr) const {
    detail::require_number(log_snr);
    const double integral = detail::softplus(-log_snr);  // solve B(t) = integral, stably
    const double slope = options_.beta_max - options_.beta_min, rate = options_.beta_min;
    if (integral >= rate + slope / 2) return 1;
    if (integral == 0) return 0;
    return (std::min)(2 * integral / (rate + std::sqrt(rate * rate + 2 * slope * integral)), 1.0);
  }

  Knot knot(double t) const { return {t * options_.time_scale, alpha(t), sigma(t)}; }

 private:
  double integral(double t) const {
    detail::require_time(t);
    return t * (options_.beta_min + t * (options_.beta_max - options_.beta_min) / 2);
  }

  VpLinearOptions options_;
};

/// Options of VpCosine. Plain data: threads may share what none of them writes.
struct VpCosineOptions {
  double s = 0.008;       ///< offset that keeps the first steps from being too small, 0 to 1
  double time_scale = 1;  ///< the network is told t * time_scale, > 0
};

/// Variance preserving, alpha = cos(a) / cos(b), a = pi/2 (t + s) / (1 + s), b = a at t = 0.
/// Ends at zero SNR: at t = 1 alpha is exactly 0. Nichol and Dhariwal 2021, arXiv 2102.09672,
/// eq. 17. sigma is worked out as sin(a - b) sin(a + b) / cos^2(b), which does not cancel.
/// Immutable; safe to share between threads.
class VpCosine {
 public:
  explicit VpCosine(const VpCosineOptions& options = {}) : options_(options) {
    detail::require_range("s", options.s, 0.0, 1.0);
    detail::require_positive("time_scale", options.time_scale);
  }

  const VpCosineOptions& options() const { return options_; }
  double first_time() const { return 0; }
  double last_time() const { return 1; }

  double alpha(double t) const {
    detail::require_time(t);
    return t == 0 ? 1 : std::sin(quarter() * (1 - t)) / std::cos(start());
  }
  double sigma(double t) const {
    detail::require_time(t);
    const double angle = quarter() * t;
    const double squared = std::sin(angle) * std::sin(angle + 2 * start());
    return (std::min)(std::sqrt(squared) / std::cos(start()), 1.0);
  }
  double log_snr(double t) const { return Knot{t, alpha(t), sigma(t)}.log_snr(); }

  double time(double log_snr) const {
    detail::require_number(log_snr);
    const double c = std::cos(start()), s = std::sin(start());
    const double cosine = std::sqrt(detail::logistic(log_snr)) * c;  // of a
    const double sine = std::sqrt(s * s + detail::logistic(-log_snr) * c * c);
    return std::clamp(1 - std::atan2(cosine, sine) / quarter(), 0.0, 1.0);
  }

  Knot knot(double t) const { return {t * options_.time_scale, alpha(t), sigma(t)}; }

 private:
  double quarter() const { return std::numbers::pi / 2 / (1 + options_.s); }  // da/dt
  double start() const { return quarter() * options_.s; }                     // b

  VpCosineOptions options_;
};

/// What a network on a variance exploding schedule is told.
enum class VeTimeInput {
  time,              ///< t
  sigma,             ///< sigma
  quarter_log_sigma  ///< log(sigma) / 4, as EDM's networks are (arXiv 2206.00364, table 1)
};

/// Options of VarianceExploding. Plain data: threads may share what none of them writes.
struct VarianceExplodingOptions {
  double sigma_min = 0.01;  ///< at t = 0, > 0
  double sigma_max = 50;    ///< at t = 1, > sigma_min
  VeTimeInput time_input = VeTimeInput::time;
  double time_scale = 1;  ///< the network is told the time input times this, > 0
};

/// Variance exploding: alpha = 1, sigma = sigma_min (sigma_max / sigma_min)^t. Song et al. 2021,
/// arXiv 2011.13456, eq. 30-31. The least noise is sigma_min, not 0. Immutable; safe to share
/// between threads.
class VarianceExploding {
 public:
  explicit VarianceExploding(const VarianceExplodingOptions& options = {}) : options_(options) {
    detail::require_positive("sigma_min", options.sigma_min);
    detail::require_inside("sigma_max", options.sigma_max, options.sigma_min,
                           std::numeric_limits<double>::infinity());
    detail::require_range("time_input", static_cast<int>(options.time_input), 0,
                          static_cast<int>(VeTimeInput::quarter_log_sigma));
    detail::require_positive("time_scale", options.time_scale);
  }

  const VarianceExplodingOptions& options() const { return options_; }
  double first_time() const { return 0; }
  double last_time() const { return 1; }

  double alpha(double t) const {
    detail::require_time(t);
    return 1;
  }
  double sigma(double t) const {
    detail::require_time(t);
    return t == 1 ? options_.sigma_max : options_.sigma_min * std::exp(t * log_ratio());
  }
  double log_snr(double t) const { return -2 * std::log(sigma(t)); }

  double time(double log_snr) const {
    detail::require_number(log_snr);
    return std::clamp((-log_snr / 2 - std::log(options_.sigma_min)) / log_ratio(), 0.0, 1.0);
  }

  Knot knot(double t) const { return {told(t) * options_.time_scale, alpha(t), sigma(t)}; }

 private:
  double log_ratio() const { return std::log(options_.sigma_max / options_.sigma_min); }
  double told(double t) const {
    if (options_.time_input == VeTimeInput::time) return t;
    const double s = sigma(t);
    return options_.time_input == VeTimeInput::sigma ? s : std::log(s) / 4;
  }

  VarianceExplodingOptions options_;
};

/// Options of RectifiedFlow. Plain data: threads may share what none of them writes.
struct RectifiedFlowOptions {
  double time_scale = 1;  ///< the network is told t * time_scale, > 0 (often 1000)
};

/// The straight path from data to noise: alpha = 1 - t, sigma = t. Liu et al. 2023, arXiv
/// 2209.03003; Lipman et al. 2023, arXiv 2210.02747. (Papers that let time run from noise to data
/// mean 1 - t.) Immutable; safe to share between threads.
class RectifiedFlow {
 public:
  explicit RectifiedFlow(const RectifiedFlowOptions& options = {}) : options_(options) {
    detail::require_positive("time_scale", options.time_scale);
  }

  const RectifiedFlowOptions& options() const { return options_; }
  double first_time() const { return 0; }
  double last_time() const { return 1; }

  double alpha(double t) const {
    detail::require_time(t);
    return 1 - t;
  }
  double sigma(double t) const {
    detail::require_time(t);
    return t;
  }
  double log_snr(double t) const { return Knot{t, alpha(t), sigma(t)}.log_snr(); }

  double time(double log_snr) const {
    detail::require_number(log_snr);
    return detail::logistic(-log_snr / 2);
  }

  Knot knot(double t) const { return {t * options_.time_scale, alpha(t), sigma(t)}; }

 private:
  RectifiedFlowOptions options_;
};

}  // namespace diffusion

#endif  // DIFFUSION_SCHEDULE_CONTINUOUS_HPP
