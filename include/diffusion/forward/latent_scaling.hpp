#ifndef DIFFUSION_FORWARD_LATENT_SCALING_HPP
#define DIFFUSION_FORWARD_LATENT_SCALING_HPP

#include <diffusion/error.hpp>
#include <diffusion/tensor/lane.hpp>
#include <diffusion/tensor/state.hpp>

#include <cstddef>
#include <vector>

namespace diffusion {

/// Between what an autoencoder says and what a network was trained on:
///
///     latent = (z - shift) scale,   z = latent / scale + shift.
///
/// 0.18215 for Stable Diffusion 1 and 2, 0.13025 for XL; 1.5305 and shift 0.0609 for 3. Where
/// channels have numbers of their own (a mean and 1 / a standard deviation), these come first:
/// latent = (z - shift - channel_shift[c]) channel_scale[c] scale. Plain data: any thread may read.
struct LatentScaling {
  double scale = 1;                     ///< finite, not 0
  double shift = 0;                     ///< finite
  std::vector<double> channel_scale{};  ///< empty, or one a channel: finite, not 0
  std::vector<double> channel_shift{};  ///< empty, or one a channel: finite

  /// The latent of z, in place. With channel numbers z is (batch, channels, ...).
  template <State T>
  void encode(T& z) const {
    for_each_channel(z, [](auto x, auto by, auto from) { return (x - from) * by; });
  }
  /// What the decoder is given for a latent, in place.
  template <State T>
  void decode(T& latent) const {
    for_each_channel(latent, [](auto x, auto by, auto from) { return x / by + from; });
  }

 private:
  template <class T, class F>
  void for_each_channel(T& x, const F& f) const {
    using Scalar = ScalarOf<T>;
    using Real = detail::Compute<Scalar>;
    const Blocks blocks = blocks_of<T>(StateTraits<T>::shape(x), true);
    const std::size_t channels = checked_channels<T>(StateTraits<T>::shape(x));
    const std::size_t size = blocks.size / channels;
    Scalar* element = StateTraits<T>::data(x);
    for (std::size_t i = 0; i < blocks.batch * channels; ++i) {
      const std::size_t c = i % channels;
      const auto by = static_cast<Real>(channel_scale.empty() ? scale : scale * channel_scale[c]);
      const auto from = static_cast<Real>(channel_shift.empty() ? shift : shift + channel_shift[c]);
      for (std::size_t k = 0; k < size; ++k, ++element)
        *element = static_cast<Scalar>(f(static_cast<Real>(*element), by, from));
    }
  }

  /// How many channels have numbers of their own, 1 where none do; fails where they do not fit.
  template <class T>
  std::size_t checked_channels(const ShapeOf<T>& shape) const {
    check("scale", scale, true);
    check("shift", shift, false);
    for (const double value : channel_scale) check("channel_scale", value, true);
    for (const double value : channel_shift) check("channel_shift", value, false);
    if (channel_scale.empty() && channel_shift.empty()) return 1;
    const std::size_t channel = StateTraits<T>::row_major ? 1 : shape.size() - 2;
    const auto channels = shape.size() < 2 ? 0 : static_cast<std::size_t>(shape[channel]);
    for (const auto* numbers : {&channel_scale, &channel_shift})
      if (!numbers->empty() && numbers->size() != channels)
        fail(detail::text("the latent scaling has numbers for ", numbers->size(),
                          " channels; the state ", shape_text(shape), " has ", channels));
    return channels;
  }

  static void check(const char* name, double value, bool divides) {
    if (detail::is_finite(value) && !(divides && value == 0)) return;
    fail(detail::text("LatentScaling::", name, " is ", value, "; it must be finite",
                      divides ? " and not 0" : ""));
  }
};

}  // namespace diffusion

#endif  // DIFFUSION_FORWARD_LATENT_SCALING_HPP
