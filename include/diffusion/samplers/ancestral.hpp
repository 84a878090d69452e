#ifndef DIFFUSION_SAMPLERS_ANCESTRAL_HPP
#define DIFFUSION_SAMPLERS_ANCESTRAL_HPP

#include <diffusion/error.hpp>
#include <diffusion/samplers/sampler.hpp>

#include <cmath>

namespace diffusion::detail {

/// A step of ancestral sampling: of the noise at its end `kept` is that of its start and `fresh`
/// is new; kept^2 + fresh^2 = sigma'^2. At eta = 1 kept is sigma' s' / s, the posterior's; at 0
/// nothing is new.
struct Ancestral {
  double kept, fresh;
};

inline void check_ancestral(const char* options, double eta, double s_noise) {
  require_range(text(options, "::eta").c_str(), eta, 0.0, 1.0);
  require_range(text(options, "::s_noise").c_str(), s_noise, 0.0, 1e6);
}

/// The shares of step number i. Fails where it leads to more noise.
inline Ancestral ancestral(const Knot& at, const Knot& to, double eta, int i) {
  if (eta == 0) return {to.sigma, 0};
  const double share = noise_share({at, to}, i);
  const double older = std::exp(at.log_snr() - to.log_snr());  // SNR / SNR', exact near 0
  return {to.sigma * std::sqrt((1 - eta) * (1 + eta) + eta * eta * older),
          eta * to.sigma * std::sqrt(share)};
}

/// Adds step i, x' = alpha' x0 + kept eps + s_noise fresh n.
inline void add_ancestral_step(PlanRows& rows, const Grid& grid, int i, double eta,
                               double s_noise) {
  const Ancestral part = ancestral(grid[i].from, grid[i].to, eta, i);
  rows.ddim(i).eps = part.kept;
  if (eta > 0) rows.noise(s_noise * part.fresh);
}

}  // namespace diffusion::detail

#endif  // DIFFUSION_SAMPLERS_ANCESTRAL_HPP
