#ifndef DIFFUSION_DENOISER_TIMESTEP_EMBEDDING_HPP
#define DIFFUSION_DENOISER_TIMESTEP_EMBEDDING_HPP

#include <diffusion/error.hpp>

#include <cmath>
#include <cstddef>
#include <span>

namespace diffusion {

/// Options of `timestep_embedding`; the defaults are those of diffusers' function. Plain data:
/// threads may share what none of them writes.
struct TimestepEmbeddingOptions {
  bool cosine_first = false;   ///< cosines before sines ("flip_sin_to_cos")
  double frequency_shift = 1;  ///< subtracted from half the width: 1 makes the last period exact
  double max_period = 10000;   ///< of the slowest sinusoid, in units of 2 pi, > 0
  double scale = 1;            ///< multiplies t
};

/// The sinusoids by which most networks are told the time, for networks of the user's own making:
/// with n = out.size() / 2 and w_i = max_period^(-i / (n - frequency_shift)),
///
///     out = sin(t w_0), ..., sin(t w_(n-1)), cos(t w_0), ..., cos(t w_(n-1)),
///     and 0 at the end where the size is odd.
///
/// Vaswani et al. 2017, arXiv 1706.03762, section 3.5, as Ho et al. 2020 use it. Worked out in
/// double and rounded to Scalar, float or double. Networks trained with PyTorch saw phases in
/// float32, which are off by up to 3e-5 at t = 1000. Fails where n = frequency_shift, or an option
/// is out of its range.
template <class Scalar>
void timestep_embedding(double t, std::span<Scalar> out,
                        const TimestepEmbeddingOptions& options = {}) {
  const std::size_t half = out.size() / 2;
  const double divisor = static_cast<double>(half) - options.frequency_shift;
  if (!detail::is_finite(options.frequency_shift) || divisor == 0)
    fail(detail::text("TimestepEmbeddingOptions::frequency_shift is ", options.frequency_shift,
                      "; it must be finite and other than half the width, ", half));
  if (!detail::is_finite(options.max_period) || !(options.max_period > 0))
    fail(detail::text("TimestepEmbeddingOptions::max_period is ", options.max_period,
                      "; it must be positive and finite"));
  const auto sines = out.subspan(options.cosine_first ? half : 0, half);
  const auto cosines = out.subspan(options.cosine_first ? 0 : half, half);
  for (std::size_t i = 0; i < half; ++i) {
    const double exponent = -std::log(options.max_period) * static_cast<double>(i) / divisor;
    const double phase = options.scale * t * std::exp(exponent);
    sines[i] = static_cast<Scalar>(std::sin(phase));
    cosines[i] = static_cast<Scalar>(std::cos(phase));
  }
  if (out.size() % 2 == 1) out.back() = 0;
}

}  // namespace diffusion

#endif  // DIFFUSION_DENOISER_TIMESTEP_EMBEDDING_HPP
