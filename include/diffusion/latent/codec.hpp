#ifndef DIFFUSION_LATENT_CODEC_HPP
#define DIFFUSION_LATENT_CODEC_HPP

#include <diffusion/error.hpp>
#include <diffusion/forward/latent_scaling.hpp>
#include <diffusion/tensor/state.hpp>

#include <concepts>
#include <cstddef>
#include <utility>
#include <vector>

/// Latents: an autoencoder around the loop. The library has no autoencoder; it knows what shapes
/// one makes of which, scales and shifts, and cuts work into tiles (latent/tiling.hpp).
namespace diffusion {

/// A dimension that an autoencoder shortens. Plain data: threads may share what none of them
/// writes.
struct CodecAxis {
  std::size_t dimension = 2;  ///< as the type counts them, the same in pictures and latents
  Eigen::Index factor = 8;    ///< elements of the picture to one of the latent, at least 1
  /// The first element stands alone: n latents are 1 + factor (n - 1) pictures, as the frames of
  /// causal video autoencoders, whose first latent frame is a still picture.
  bool causal = false;
};

/// How the shapes of pictures and latents belong together. Plain data: threads may share what none
/// of them writes.
struct CodecShape {
  std::size_t channel_dimension = 1;
  Eigen::Index picture_channels = 3;
  Eigen::Index latent_channels = 4;
  std::vector<CodecAxis> axes{{2, 8}, {3, 8}};

  /// (batch, 3, height, width) to (batch, channels, height / factor, width / factor).
  static CodecShape pictures(Eigen::Index latent_channels = 4, Eigen::Index factor = 8) {
    return {1, 3, latent_channels, {{2, factor}, {3, factor}}};
  }
  /// (batch, 3, frames, height, width), frames = 1 + time_factor (latent frames - 1).
  static CodecShape clips(Eigen::Index latent_channels = 16, Eigen::Index factor = 8,
                          Eigen::Index time_factor = 4) {
    return {1, 3, latent_channels, {{2, time_factor, true}, {3, factor}, {4, factor}}};
  }

  /// The shape of the picture that is decoded from a latent of this shape.
  template <class Shape>
  Shape picture_of(Shape shape) const {
    check(shape, "a latent", latent_channels);
    set(shape, channel_dimension, picture_channels);
    for (const CodecAxis& axis : axes) {
      const auto n = static_cast<Eigen::Index>(shape[axis.dimension]);
      set(shape, axis.dimension, axis.causal ? 1 + axis.factor * (n - 1) : axis.factor * n);
    }
    return shape;
  }

  /// The shape of a picture's latent. Fails where a factor does not divide.
  template <class Shape>
  Shape latent_of(Shape shape) const {
    check(shape, "a picture", picture_channels);
    set(shape, channel_dimension, latent_channels);
    for (const CodecAxis& axis : axes) {
      const auto n = static_cast<Eigen::Index>(shape[axis.dimension]);
      if ((axis.causal ? n - 1 : n) % axis.factor != 0)
        fail(detail::text("a picture has ", n, " elements along dimension ", axis.dimension,
                          "; the autoencoder needs ",
                          axis.causal ? "one more than a multiple of " : "a multiple of ",
                          axis.factor));
      set(shape, axis.dimension, axis.causal ? 1 + (n - 1) / axis.factor : n / axis.factor);
    }
    return shape;
  }

  /// Fails unless the shape has these dimensions and that many channels.
  template <class Shape>
  void check(const Shape& shape, const char* what, Eigen::Index channels) const {
    detail::require_extents(what, shape);
    const auto require_dimension = [&](std::size_t dimension) {
      if (dimension >= shape.size())
        fail(detail::text(what, " has the shape ", shape_text(shape),
                          "; the autoencoder works along dimension ", dimension));
    };
    require_dimension(channel_dimension);
    if (static_cast<Eigen::Index>(shape[channel_dimension]) != channels)
      fail(detail::text(what, " has the shape ", shape_text(shape), "; it must have ", channels,
                        " channels in dimension ", channel_dimension));
    for (std::size_t k = 0; k < axes.size(); ++k) {
      require_dimension(axes[k].dimension);
      detail::require_at_least("CodecAxis::factor", axes[k].factor, Eigen::Index{1});
      if (axes[k].dimension == channel_dimension)
        fail(detail::text("CodecAxis::dimension is ", channel_dimension, ", that of the channels"));
      for (std::size_t j = 0; j < k; ++j)
        if (axes[j].dimension == axes[k].dimension)
          fail(detail::text("the autoencoder has dimension ", axes[k].dimension, " twice"));
    }
  }

 private:
  template <class Shape>
  static void set(Shape& shape, std::size_t dimension, Eigen::Index extent) {
    shape[dimension] = static_cast<typename Shape::value_type>(extent);
  }
};

/// What encodes or decodes: `void f(const Tensor& from, Tensor& to)`, `to` of the right shape
/// already, or `Tensor f(const Tensor& from)`.
// clang-format off
template <class F, class T>
concept CodecFunction = State<T> && (std::invocable<F&, const T&, T&> || std::invocable<F&, const T&>);
// clang-format on

namespace detail {

/// to = f(from); fails where f gives it another shape.
template <class T, class F>
void apply_codec(const char* what, F& f, const T& from, T& to) {
  static_assert(CodecFunction<F, T>,
                "an encoder or decoder must be callable as (const Tensor& from, Tensor& to), or "
                "return a Tensor from (const Tensor& from)");
  const auto wanted = StateTraits<T>::shape(to);
  if constexpr (std::invocable<F&, const T&, T&>)
    f(from, to);
  else
    to = f(from);
  if (StateTraits<T>::shape(to) != wanted)
    fail(text("the ", what, " made the shape ", shape_text(StateTraits<T>::shape(to)), " of ",
              shape_text(StateTraits<T>::shape(from)), "; its CodecShape says ",
              shape_text(wanted)));
}

}  // namespace detail

/// An autoencoder: two functions of the user's, the shapes that they go between, and the scale of
/// the latents that the denoiser was trained on,
///
///     latent  = scaling.encode(encode(picture))
///     picture = decode(scaling.decode(latent))
///
/// As thread-safe as its functions.
template <class Encode, class Decode>
class LatentCodec {
 public:
  LatentCodec(Encode encoder, Decode decoder, CodecShape shapes, LatentScaling latent_scaling = {})
      : encode_(std::move(encoder)),
        decode_(std::move(decoder)),
        shape_(std::move(shapes)),
        scaling_(std::move(latent_scaling)) {}

  const CodecShape& shape() const { return shape_; }
  const LatentScaling& scaling() const { return scaling_; }

  /// The denoiser's latent of a picture. Fails for shapes that the autoencoder has not.
  template <State T>
  T encode(const T& picture) {
    T latent = StateTraits<T>::make(shape_.latent_of(StateTraits<T>::shape(picture)));
    encode_raw(picture, latent);
    scaling_.encode(latent);
    return latent;
  }

  /// The picture of a denoiser's latent.
  template <State T>
  T decode(const T& latent) {
    T z = latent;
    scaling_.decode(z);
    T picture = StateTraits<T>::make(shape_.picture_of(StateTraits<T>::shape(latent)));
    decode_raw(z, picture);
    return picture;
  }

  /// The functions alone, without the scaling; the shapes must fit.
  template <State T>
  void encode_raw(const T& picture, T& z) {
    detail::apply_codec("encoder", encode_, picture, z);
  }
  template <State T>
  void decode_raw(const T& z, T& picture) {
    detail::apply_codec("decoder", decode_, z, picture);
  }

 private:
  Encode encode_;
  Decode decode_;
  CodecShape shape_;
  LatentScaling scaling_;
};

/// A callback for `sample`: decodes the estimate of x0 at every `every`-th step and hands it on,
/// `show(step, picture)`. The codec is referred to and must outlive the run; as thread-safe as it
/// is.
template <class Codec, class Show>
class DecodedPreview {
 public:
  DecodedPreview(Codec& codec, Show show, int every = 1)
      : codec_(&codec), show_(std::move(show)), every_(every) {
    detail::require_at_least("every", every, 1);
  }

  template <class Run>
  void operator()(const Run& run) {
    if (run.asks() && run.step() % every_ == 0) show_(run.step(), codec_->decode(run.preview()));
  }

 private:
  Codec* codec_;
  Show show_;
  int every_;
};

}  // namespace diffusion

#endif  // DIFFUSION_LATENT_CODEC_HPP
