#ifndef DIFFUSION_DENOISER_THRESHOLDING_HPP
#define DIFFUSION_DENOISER_THRESHOLDING_HPP

#include <diffusion/error.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>

namespace diffusion {

/// The q-quantile of the values, with linear interpolation between the two nearest ranks (torch's
/// and NumPy's default). Reorders the values; O(n). Fails for an empty span or q outside [0, 1].
template <class Real>
Real quantile(std::span<Real> values, double q) {
  if (values.empty()) fail("the quantile of 0 values is undefined; at least 1 is needed");
  detail::require_range("quantile q", q, 0.0, 1.0);
  const double rank = q * static_cast<double>(values.size() - 1);
  const auto below = static_cast<std::ptrdiff_t>(std::floor(rank));
  const auto nth = values.begin() + below;
  std::nth_element(values.begin(), nth, values.end());
  const Real low = *nth;
  const double fraction = rank - static_cast<double>(below);
  if (fraction == 0) return low;
  const Real high = *std::min_element(nth + 1, values.end());
  return low + static_cast<Real>(fraction) * (high - low);
}

/// The threshold s of dynamic thresholding: the quantile of |x0|, held within [1, maximum]; a
/// maximum below 1 is s itself. The estimate is then clamped to [-s, s] and divided by s (Saharia
/// et al. 2022, arXiv 2205.11487, section 2.3). Takes the absolute values of one sample and
/// reorders them.
template <class Real>
Real dynamic_threshold(std::span<Real> absolute, double ratio, double maximum) {
  const Real least = (std::max)(quantile(absolute, ratio), Real{1});
  return (std::min)(least, static_cast<Real>(maximum));
}

}  // namespace diffusion

#endif  // DIFFUSION_DENOISER_THRESHOLDING_HPP
