#ifndef DIFFUSION_SCHEDULE_KNOT_HPP
#define DIFFUSION_SCHEDULE_KNOT_HPP

#include <cmath>
#include <limits>

namespace diffusion {

/// A noise level x = alpha x0 + sigma eps, and the time that the network is told there.
/// Only (alpha, sigma) is the level; t is what the network was trained to read, in its own units
/// (training timesteps, [0, 1], a sigma ...), and no weight is computed from it. Plain data:
/// threads may share what none of them writes.
struct Knot {
  double t = 0;      ///< what the network is told
  double alpha = 1;  ///< weight of the clean data, >= 0
  double sigma = 0;  ///< standard deviation of the noise, >= 0

  /// log(alpha^2 / sigma^2), from -inf (alpha = 0) to +inf (sigma = 0).
  double log_snr() const {
    const double infinity = std::numeric_limits<double>::infinity();
    if (sigma == 0) return infinity;
    return alpha == 0 ? -infinity : 2 * (std::log(alpha) - std::log(sigma));
  }

  friend bool operator==(const Knot&, const Knot&) = default;
};

/// Whether two knots are the same noise level, whatever the network is told there.
inline bool same_level(const Knot& a, const Knot& b, double tolerance = 0) {
  return std::abs(a.alpha - b.alpha) <= tolerance && std::abs(a.sigma - b.sigma) <= tolerance;
}

namespace detail {

/// sigma / alpha, infinite where alpha is 0.
inline double ratio_of(const Knot& knot) {
  return knot.alpha == 0 ? std::numeric_limits<double>::infinity() : knot.sigma / knot.alpha;
}

/// What of the noise at `noisy` is not yet there at the cleaner level `clean`: 1 - SNR(noisy) /
/// SNR(clean) = sigma_{t|s}^2 / sigma_t^2, in [0, 1], without cancellation.
inline double fresh_share(const Knot& noisy, const Knot& clean) {
  return -std::expm1(noisy.log_snr() - clean.log_snr());
}

}  // namespace detail
}  // namespace diffusion

#endif  // DIFFUSION_SCHEDULE_KNOT_HPP
