#ifndef DIFFUSION_SAMPLERS_ANCESTRAL_HPP
#define DIFFUSION_SAMPLERS_ANCESTRAL_HPP

#include <diffusion/samplers/sampler.hpp>

#include <cmath>

namespace diffusion::detail {

/// s = sigma / alpha, infinite where alpha is 0.
inline double ratio_at(const Knot& knot) { return knot.sigma / knot.alpha; }

/// A step of ancestral sampling: of the noise at its end `kept` is that of its start and `fresh`
/// is new; kept^2 + fresh^2 = sigma'^2. At eta = 1 kept is sigma' s' / s, the posterior's; at 0
/// nothing is new.
struct Ancestral {
  double kept, fresh;
};

/// The shares of step number `step`. Fails where it leads to more noise.
inline Ancestral ancestral(const Knot& at, const Knot& to, double eta, int step) {
  if (eta == 0) return {to.sigma, 0};
  Stage row;
  row.at = at;
  row.to = to;
  const double share = noise_share(row, step);
  const double older = std::exp(at.log_snr() - to.log_snr());  // SNR / SNR', exact near 0
  return {to.sigma * std::sqrt((1 - eta) * (1 + eta) + eta * eta * older),
          eta * to.sigma * std::sqrt(share)};
}

}  // namespace diffusion::detail

#endif  // DIFFUSION_SAMPLERS_ANCESTRAL_HPP
