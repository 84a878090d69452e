#ifndef DIFFUSION_VIDEO_CONTINUATION_HPP
#define DIFFUSION_VIDEO_CONTINUATION_HPP

#include <diffusion/denoiser/denoiser.hpp>
#include <diffusion/denoiser/estimate.hpp>
#include <diffusion/denoiser/vector_jacobian.hpp>
#include <diffusion/denoiser/wrapped.hpp>
#include <diffusion/edit/inpaint.hpp>
#include <diffusion/guidance/asking.hpp>
#include <diffusion/video/frames.hpp>

#include <cstddef>
#include <utility>

/// Continuation of a clip whose first frames are known.
namespace diffusion {

/// Continuation by replacement (Song et al. 2020, arXiv 2011.13456, appendix I.2; Ho et al. 2022,
/// arXiv 2204.03458, section 3.1): at every stage the known frames are put in at the level where
/// the state stands. An edit for `sample`; see Inpaint for `noise` and its kinds. `context` holds
/// the known frames, the first of a clip of `frames`.
///
/// The network sees the known frames noised, never clean: what it makes of them goes with the
/// noised ones, so the continuation is biased, and the less noise the later. ReconstructionGuidance
/// mends some of it.
template <State T, class N>
auto continue_by_replacement(const T& context, Eigen::Index frames, std::size_t dimension,
                             N&& noise, KnownNoise kind = KnownNoise::fresh) {
  const auto known = with_frames_after(context, frames, dimension);
  using Tensor = TensorOf<T>;
  const auto mask = first_frames_mask<Tensor>(
      StateTraits<Tensor>::shape(known), dimension,
      static_cast<Eigen::Index>(StateTraits<T>::shape(context)[dimension]));
  return Inpaint(known, mask, std::forward<N>(noise), kind);
}

/// Options of ReconstructionGuidance. Plain data: threads may share what none of them writes.
struct ReconstructionOptions {
  double weight = 1;  ///< w, at least 0; the paper takes more than 1
};

/// Reconstruction guidance (Ho et al. 2022, arXiv 2204.03458, section 3.1): a denoiser made of a
/// denoiser and its vector-Jacobian product (VectorJacobian). Where elements a are known and b are
/// not, it moves the estimate of b so that the network's own estimate of a comes nearer to what is
/// known:
///
///     x0_b <- x0_b - (w alpha / 2) grad_(x_b) |y_a - x0_a(x)|^2
///
/// which for w = 1 is the score of y_a under the guess N(x0_a(x), sigma^2 / alpha^2). That guess is
/// too wide where data is narrower than the noise (alpha small), so w above 1 helps early. Together
/// with replacement of the known elements, as in the paper:
///
///     ReconstructionGuidance guided{network, vjp, known, mask};
///     sample<Clip>(sampler, guided, shape, noise, {}, Inpaint(known, mask, noise));
///
/// `known` and `mask` as for Inpaint, the mask 1 where y is known. Without a Jacobian nothing could
/// pass from frame to frame, so there is no form without. One level for all slices. Costs one vjp a
/// call. Fails for masks outside [0, 1], a negative weight, and shapes that do not fit. Not
/// thread-safe: it holds buffers; one object per run at a time.
template <class Inner, class Jacobian, State Tensor>
class ReconstructionGuidance : public WrappedDenoiser<Inner> {
 public:
  template <ReadableState Y, ReadableState M>
  ReconstructionGuidance(Inner inner, Jacobian vjp, const Y& known, const M& mask,
                         const ReconstructionOptions& options = {})
      : WrappedDenoiser<Inner>(std::move(inner)),
        vjp_(std::move(vjp)),
        known_("the known picture", known),
        mask_("the mask", mask),
        weight_(options.weight) {
    mask_.require_unit();
    detail::require_range("ReconstructionOptions::weight", options.weight, 0.0, 1e6);
  }

  template <State T>
  void operator()(const T& x, const Query& query, TensorOf<T>& out) {
    using S = ScalarOf<T>;
    using Real = detail::Compute<S>;
    using Owner = TensorOf<T>;
    ask<T>(this->inner(), x, query, out);
    if (weight_ == 0) return;
    const auto shape = StateTraits<T>::shape(x);
    fit(shape);
    const Blocks blocks = blocks_of<T>(shape, query.batched);
    const std::size_t stride =
        blocks_of<Owner>(StateTraits<Owner>::shape(out), false).total() / blocks.batch;
    const S* input = StateTraits<T>::data(x);
    S* f = StateTraits<Owner>::data(out);
    Owner& x0 = x0_.template get<Owner>(shape);
    Owner& v = v_.template get<Owner>(shape);
    Owner& gradient = gradient_.template get<Owner>(shape);
    Owner& state = state_.template get<Owner>(shape);
    S* estimate = StateTraits<Owner>::data(x0);
    for (std::size_t k = 0; k < blocks.batch; ++k)
      estimate_x0(query, input + k * blocks.size, f + k * stride, blocks.size,
                  estimate + k * blocks.size);
    const auto per_scale = static_cast<Real>(1 / query.input_scale);
    for (std::size_t i = 0; i < blocks.total(); ++i) {
      const Real m = mask_[i];
      StateTraits<Owner>::data(v)[i] =
          static_cast<S>(m * m * (static_cast<Real>(estimate[i]) - known_[i]));
      StateTraits<Owner>::data(state)[i] = static_cast<S>(per_scale * static_cast<Real>(input[i]));
    }
    decltype(auto) seen = detail::seen_as<T>(state);
    const T& at = seen;
    detail::pull_back<T>(vjp_, at, query, v, gradient);  // half the gradient of the square
    const auto by = static_cast<Real>(weight_ * query.alpha);
    for (std::size_t i = 0; i < blocks.total(); ++i)
      estimate[i] = static_cast<S>(static_cast<Real>(estimate[i]) -
                                   (1 - mask_[i]) * by *
                                       static_cast<Real>(StateTraits<Owner>::data(gradient)[i]));
    for (std::size_t k = 0; k < blocks.batch; ++k)
      prediction_from_x0(query, input + k * blocks.size, estimate + k * blocks.size, blocks.size,
                         f + k * stride);
  }

 private:
  void fit(const ShapeOf<Tensor>& shape) {
    if (fitted_ && shape == shape_) return;
    known_.fit(shape);
    mask_.fit(shape);
    shape_ = shape;
    fitted_ = true;
  }

  Jacobian vjp_;
  detail::Repeated<Tensor> known_, mask_;
  double weight_;
  bool fitted_ = false;
  ShapeOf<Tensor> shape_{};
  detail::KeptTensor x0_, v_, gradient_, state_;
};
/// Deduced from the known picture.
template <class Inner, class Jacobian, ReadableState Y, ReadableState M, class... Options>
ReconstructionGuidance(Inner, Jacobian, const Y&, const M&, Options...)
    -> ReconstructionGuidance<Inner, Jacobian, TensorOf<Y>>;

}  // namespace diffusion

#endif  // DIFFUSION_VIDEO_CONTINUATION_HPP
