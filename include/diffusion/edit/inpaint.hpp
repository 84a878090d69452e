#ifndef DIFFUSION_EDIT_INPAINT_HPP
#define DIFFUSION_EDIT_INPAINT_HPP

#include <diffusion/edit/known_picture.hpp>
#include <diffusion/tensor/state.hpp>

#include <cstddef>
#include <utility>

/// Inpainting: a part of the picture is known, the rest is sampled to go with it. Two edits of a
/// run, for any sampler, schedule and prediction type.
namespace diffusion {

/// Inpainting by blending states (Song et al. 2020, arXiv 2011.13456, appendix I.2; Lugmayr et al.
/// 2022, arXiv 2201.09865, eq. 8): before the first stage and after each that asks the network, at
/// the level `to` where it has led,
///
///     x <- m (alpha' y + sigma' n) + (1 - m) x
///
/// so the known part y has the right amount of noise at every stage, and is y itself at the end
/// (sigma' = 0). m is 1 where the picture is known, 0 where it is not, and may lie between: but the
/// noise of a mean of two noises is less than either's, so for seams as soft as that InpaintX0 is
/// the better form. Stages that only add noise (churn, jumps) add it to the known part, too.
///
/// Picture and mask are of the state's kind (or views of it); each of their extents is that of the
/// state, or 1 and then repeated: a mask of (1, 1, height, width) holds for all samples and
/// channels. `noise` is a noise source, by KnownNoise.
///
/// In a multistep method the history keeps the estimates of x0 as they were; in the known part what
/// it says is overwritten by the next blend, elsewhere it is untouched. A corrector in the form
/// x' + weights * differences of estimates (Heun, DPM2, UniPC) carries the blend of its predictor
/// on.
///
/// Fails for masks outside [0, 1], numbers that are not finite and, when the run starts, shapes
/// that do not fit. Not thread-safe: it holds buffers, made at the start; one object per run at a
/// time. No network calls of its own.
///
///     sample<Image>(sampler, network, shape, PhiloxNoise{1}, options,
///                   Inpaint(picture, mask, PhiloxNoise{1}));
template <State Tensor, class Held>
class Inpaint {
 public:
  template <ReadableState P, ReadableState M, class N>
  Inpaint(const P& picture, const M& mask, N&& noise, KnownNoise kind = KnownNoise::fresh)
      : known_(picture, noise, kind), mask_("the mask", mask) {
    detail::require_edit_source<N>();
    mask_.require_unit();
  }

  template <class Run, class T>
  void edit_start(const Run& run, T& x) {
    known_.start(run);
    mask_.fit(StateTraits<Tensor>::shape(run.state()));
    if (known_.kind() != KnownNoise::draw) blend(run.stage().at, x);
  }

  template <class Run, class T>
  void edit_state(const Run& run, T& x) {
    if (!run.last().ask) return;
    known_.next(run);
    blend(run.last().to, x);
  }

 private:
  template <class T>
  void blend(const Knot& level, T& x) const {
    using S = ScalarOf<Tensor>;
    using Real = detail::Compute<S>;
    S* to = StateTraits<T>::data(x);
    for (std::size_t i = 0; i < known_.size(); ++i) {
      const Real m = mask_[i];
      to[i] = static_cast<S>(m * known_.at(i, level) + (1 - m) * static_cast<Real>(to[i]));
    }
  }

  detail::KnownPicture<Tensor, Held> known_;
  detail::Repeated<Tensor> mask_;
};
/// Deduced from picture and noise source.
template <ReadableState P, ReadableState M, class N, class... Kind>
Inpaint(const P&, const M&, N&&, Kind...) -> Inpaint<TensorOf<P>, detail::HeldNoise<N&&>>;

/// Inpainting by replacing the estimate of x0 (Chung et al. 2022, arXiv 2206.00941; the range-null
/// split of Wang et al. 2022, arXiv 2212.00490, for a mask): at each stage that asks,
///
///     x0 <- m y + (1 - m) x0
///
/// before the sampler makes its step from it. The noise of the known part is then the one that the
/// state has already, so no source is needed, and a mask may be as soft as one likes: the level of
/// the noise is right everywhere. In a multistep method the history holds the replaced estimates.
/// At the end the known part is y to rounding with every sampler whose last step leads to its x0.
///
/// Picture and mask as for Inpaint. Clipping comes before it, not after. Fails like Inpaint; not
/// thread-safe: one object per run at a time.
template <State Tensor>
class InpaintX0 {
 public:
  template <ReadableState P, ReadableState M>
  InpaintX0(const P& picture, const M& mask)
      : picture_("the known picture", picture), mask_("the mask", mask) {
    mask_.require_unit();
  }

  template <class Run, class T>
  void edit_start(const Run& run, T&) {
    picture_.fit(StateTraits<Tensor>::shape(run.state()));
    mask_.fit(StateTraits<Tensor>::shape(run.state()));
  }

  template <class Run, class X0>
  void edit_x0(const Run&, X0& x0) const {
    if (mask_.size() == 0) fail("an edit is used before its edit_start was called with the run");
    using S = ScalarOf<Tensor>;
    using Real = detail::Compute<S>;
    S* to = StateTraits<X0>::data(x0);
    for (std::size_t i = 0; i < mask_.size(); ++i) {
      const Real m = mask_[i];
      to[i] = static_cast<S>(m * picture_[i] + (1 - m) * static_cast<Real>(to[i]));
    }
  }

 private:
  detail::Repeated<Tensor> picture_, mask_;
};
/// Deduced from the picture.
template <ReadableState P, ReadableState M>
InpaintX0(const P&, const M&) -> InpaintX0<TensorOf<P>>;

}  // namespace diffusion

#endif  // DIFFUSION_EDIT_INPAINT_HPP
