#ifndef DIFFUSION_SCHEDULE_TRIG_FLOW_HPP
#define DIFFUSION_SCHEDULE_TRIG_FLOW_HPP

#include <diffusion/error.hpp>
#include <diffusion/schedule/knot.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

namespace diffusion {

/// Options of TrigFlow. Plain data: threads may share what none of them writes.
struct TrigFlowOptions {
  double sigma_data = 0.5;  ///< standard deviation of the data, > 0 and finite
  double time_scale = 1;    ///< the network is told t * time_scale, > 0
};

/// The quarter circle from data to noise of the data's own deviation: alpha = cos t, sigma =
/// sigma_data sin t, t in [0, pi / 2]. Its networks answer PredictionType{Kind::v, sigma_data}. Lu
/// and Song 2024, arXiv 2410.11081. Immutable; safe to share between threads.
class TrigFlow {
 public:
  explicit TrigFlow(const TrigFlowOptions& options = {}) : options_(options) {
    const double infinity = std::numeric_limits<double>::infinity();
    detail::require_inside("sigma_data", options.sigma_data, 0.0, infinity);
    detail::require_inside("time_scale", options.time_scale, 0.0, infinity);
  }

  const TrigFlowOptions& options() const { return options_; }
  double first_time() const { return 0; }
  double last_time() const { return std::numbers::pi / 2; }

  double alpha(double t) const {
    detail::require_range("time t", t, first_time(), last_time());
    return t == last_time() ? 0 : std::cos(t);
  }
  double sigma(double t) const {
    detail::require_range("time t", t, first_time(), last_time());
    return options_.sigma_data * std::sin(t);
  }
  double log_snr(double t) const { return Knot{t, alpha(t), sigma(t)}.log_snr(); }

  double time(double log_snr) const {
    if (detail::is_nan(log_snr)) fail("log_snr is not a number; it must be one or infinite");
    const double t = std::atan(std::exp(-log_snr / 2) / options_.sigma_data);
    return std::clamp(t, first_time(), last_time());
  }

  Knot knot(double t) const { return {t * options_.time_scale, alpha(t), sigma(t)}; }

 private:
  TrigFlowOptions options_;
};

}  // namespace diffusion

#endif  // DIFFUSION_SCHEDULE_TRIG_FLOW_HPP
