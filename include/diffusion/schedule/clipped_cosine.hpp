#ifndef DIFFUSION_SCHEDULE_CLIPPED_COSINE_HPP
#define DIFFUSION_SCHEDULE_CLIPPED_COSINE_HPP

#include <algorithm>
#include <cmath>

#include <diffusion/error.hpp>
#include <diffusion/schedule/continuous.hpp>
#include <diffusion/schedule/knot.hpp>

namespace diffusion {

/// Options of ClippedCosine. Plain data: threads may share what none of them writes.
struct ClippedCosineOptions {
  double s = 0.008;          ///< offset of the cosine, 0 to 1
  double scaler = 1;         ///< exponent of the time's warp, > 0
  double smallest = 0.0001;  ///< least alpha^2, and least sigma^2; above 0 and below 1/2
  double time_scale = 1;     ///< the network is told t * time_scale, > 0
};

/// The cosine of VpCosine with alpha^2 held in [smallest, 1 - smallest], read at a warped time:
/// 1 - (1 - t)^scaler for scaler > 1, t^scaler below 1. Both ends have signal and noise. Wuerstchen
/// and Stable Cascade (Pernias et al. 2023, arXiv 2306.00637) train on it. Immutable; safe to share
/// between threads.
class ClippedCosine {
 public:
  explicit ClippedCosine(const ClippedCosineOptions& options = {})
      : options_(options), cosine_({.s = options.s}) {
    detail::require_positive("scaler", options.scaler);
    detail::require_inside("smallest", options.smallest, 0.0, 0.5);
    detail::require_positive("time_scale", options.time_scale);
  }

  const ClippedCosineOptions& options() const { return options_; }
  double first_time() const { return 0; }
  double last_time() const { return 1; }

  double alpha(double t) const { return held(cosine_.alpha(warped(t))); }
  double sigma(double t) const { return held(cosine_.sigma(warped(t))); }
  /// A time of the level; of the ends, which last for a while, their beginning or end at t = 0, 1.
  double time(double log_snr) const { return unwarped(cosine_.time(log_snr)); }
  Knot knot(double t) const { return {t * options_.time_scale, alpha(t), sigma(t)}; }

 private:
  double held(double part) const {
    return std::clamp(part, std::sqrt(options_.smallest), std::sqrt(1 - options_.smallest));
  }
  double warped(double t) const {
    detail::require_time(t);
    return warp(t, options_.scaler);
  }
  double unwarped(double t) const { return warp(t, 1 / options_.scaler, options_.scaler > 1); }
  static double warp(double t, double exponent) { return warp(t, exponent, exponent > 1); }
  static double warp(double t, double exponent, bool from_the_end) {
    return from_the_end ? 1 - std::pow(1 - t, exponent) : std::pow(t, exponent);
  }

  ClippedCosineOptions options_;
  VpCosine cosine_;
};

}  // namespace diffusion

#endif  // DIFFUSION_SCHEDULE_CLIPPED_COSINE_HPP
