#ifndef DIFFUSION_GUIDANCE_LOSS_GUIDANCE_HPP
#define DIFFUSION_GUIDANCE_LOSS_GUIDANCE_HPP

#include <diffusion/denoiser/denoiser.hpp>
#include <diffusion/denoiser/estimate.hpp>
#include <diffusion/denoiser/vector_jacobian.hpp>
#include <diffusion/denoiser/wrapped.hpp>
#include <diffusion/guidance/slices.hpp>

#include <concepts>
#include <cstddef>
#include <functional>
#include <type_traits>
#include <utility>

namespace diffusion {

/// The gradient in x0 of a loss L(x0), which the user supplies:
///
///     void gradient(const Tensor& x0, const Query& query, Tensor& out)    out = dL/dx0
///
/// x0 is the network's estimate of the clean data, not clipped; out has its shape. Both own their
/// memory: TensorOf.
// clang-format off
template <class G, class T>
concept LossGradient =
    State<T> && std::invocable<G&, const TensorOf<T>&, const Query&, TensorOf<T>&>;
// clang-format on

/// Options of LossGuidance. Threads may share what none of them writes, if `strength_at` may be
/// called by several at once.
struct LossGuidanceOptions {
  double strength = 1;                                ///< k, any finite number: 0 is no guidance
  std::function<double(const Query&)> strength_at{};  ///< if set: k of a moment
};

/// Guidance by a loss: a denoiser made of a denoiser whose estimate of x0 takes one step down the
/// gradient of L(x0) at every call,
///
///     x0 <- x0 - k dL/dx0                    without a Jacobian
///     x0 <- x0 - k (d x0 / d x)^T dL/dx0     with the user's vector-Jacobian product
///
/// The second is k grad_x L(x0(x)), the gradient through the network (VectorJacobian says what is
/// asked). With k = s sigma^2 / alpha it is classifier guidance of scale s with -L as the log
/// likelihood: forward universal guidance (Bansal et al. 2023, arXiv 2302.07121) and
/// the energy guidance of FreeDoM (Yu et al. 2023, arXiv 2303.09833), both in their plain forms
/// without repeated steps. The first needs no reverse mode; it pulls on each number of x0 as if it
/// depended on the same number of x alone.
///
/// How strong: for a loss that is a mean over n elements the gradient is of the size 1 / n.
/// Strengths that fade in as the estimate becomes worth guiding are alpha (sqrt(abar)) and alpha^2
/// (abar); one that fades out as noise goes is sigma (sqrt(1 - abar)):
///
///     LossGuidance guided{network, gradient,
///                         {.strength_at = [](const Query& q) { return 50 * q.alpha; }}};
///
/// Where the answer has no say in x0 (sigma = 0) it stays. Slices may have levels of their own.
/// Fails for a strength that is not finite, where a gradient is not finite or has another shape,
/// and where x0 is undefined (epsilon at alpha = 0). Not thread-safe: it holds buffers, made at the
/// first call and kept; one object per run at a time.
template <class Inner, class Gradient, class Jacobian = NoVectorJacobian>
class LossGuidance : public WrappedDenoiser<Inner> {
 public:
  LossGuidance(Inner inner, Gradient gradient, LossGuidanceOptions options = {}, Jacobian vjp = {})
      : WrappedDenoiser<Inner>(std::move(inner)),
        gradient_(std::move(gradient)),
        options_(std::move(options)),
        vjp_(std::move(vjp)) {
    detail::scale_at("LossGuidanceOptions::strength", options_.strength, {}, {});
  }

  template <State T>
  void operator()(const T& x, const Query& query, TensorOf<T>& out) {
    static_assert(LossGradient<Gradient, T>,
                  "the gradient of a loss must be callable as (const Tensor& x0, const Query& "
                  "query, Tensor& out)");
    using Owner = TensorOf<T>;
    ask<T>(this->inner(), x, query, out);
    const auto shape = StateTraits<T>::shape(x);
    const Blocks blocks = blocks_of<T>(shape, query.batched);
    bool guides = false;
    detail::for_each_slice(query, blocks,
                           [&](const Query& at, auto...) { guides = guides || strength(at) != 0; });
    if (!guides) return;
    Owner& x0 = kept_x0_.template get<Owner>(shape);
    Owner& gradient = kept_gradient_.template get<Owner>(shape);
    const Stretches<T> all{query, blocks, x, out};
    all.each([&](const Query& at, const auto* input, auto* f, std::size_t begin, std::size_t n) {
      estimate_x0(at, input, f, n, StateTraits<Owner>::data(x0) + begin);
    });
    gradient_(std::as_const(x0), query, gradient);
    detail::require_gradient<T>("the gradient of the loss", gradient, shape, query);
    const Owner& down = through_network(x, query, gradient);
    all.each([&](const Query& at, const auto* input, auto* f, std::size_t begin, std::size_t n) {
      using S = ScalarOf<T>;
      const auto k = static_cast<detail::Compute<S>>(strength(at));
      S* estimate = StateTraits<Owner>::data(x0) + begin;
      if (k == 0) return;
      detail::transform_lanes<S>(estimate, StateTraits<Owner>::data(down) + begin, estimate, n,
                                 [k](const auto& a, const auto& g) { return a - k * g; });
      prediction_from_x0(at, input, estimate, n, f);
    });
  }

 private:
  /// The stretches of an input and an answer that stand at one level.
  template <class T>
  struct Stretches {
    const Query& query;
    const Blocks& blocks;
    const T& x;
    TensorOf<T>& out;

    /// act(moment, input, answer, where the stretch begins in the state, how long it is)
    template <class F>
    void each(const F& act) const {
      using Output = StateTraits<TensorOf<T>>;
      const std::size_t stride =
          blocks_of<TensorOf<T>>(Output::shape(out), false).total() / blocks.batch;
      detail::for_each_slice(
          query, blocks,
          [&](const Query& at, std::size_t sample, std::size_t first, std::size_t count) {
            const std::size_t begin = sample * blocks.size + first;
            act(at, StateTraits<T>::data(x) + begin, Output::data(out) + sample * stride + first,
                begin, count);
          });
    }
  };

  double strength(const Query& at) const {
    return detail::scale_at("LossGuidanceOptions::strength_at", options_.strength,
                            options_.strength_at, at);
  }

  template <class T>
  const TensorOf<T>& through_network(const T& x, const Query& query, const TensorOf<T>& gradient) {
    if constexpr (std::is_same_v<Jacobian, NoVectorJacobian>) {
      return gradient;
    } else {
      using Owner = TensorOf<T>;
      const auto shape = StateTraits<T>::shape(x);
      Owner& pulled = kept_pulled_.template get<Owner>(shape);
      detail::at_state(x, query, kept_state_, [&](const T& state) {
        detail::pull_back<T>(vjp_, state, query, gradient, pulled);
      });
      detail::require_gradient<T>("the vector-Jacobian product", pulled, shape, query);
      return pulled;
    }
  }

  Gradient gradient_;
  LossGuidanceOptions options_;
  Jacobian vjp_;
  detail::KeptTensor kept_x0_, kept_gradient_, kept_pulled_, kept_state_;
};

}  // namespace diffusion

#endif  // DIFFUSION_GUIDANCE_LOSS_GUIDANCE_HPP
