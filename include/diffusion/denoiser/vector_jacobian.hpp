#ifndef DIFFUSION_DENOISER_VECTOR_JACOBIAN_HPP
#define DIFFUSION_DENOISER_VECTOR_JACOBIAN_HPP

#include <diffusion/denoiser/query.hpp>
#include <diffusion/error.hpp>
#include <diffusion/tensor/state.hpp>

#include <concepts>

namespace diffusion {

/// Reverse mode through a denoiser, which the user supplies: how a change of the state changes the
/// estimate of x0, transposed.
///
///     void vjp(const Tensor& x, const Query& query, const Tensor& v, Tensor& out)
///     out = (d x0 / d x)^T v, sample by sample
///
/// x is the state itself at the level (query.alpha, query.sigma): a network that is shown
/// query.input_scale times the state is shown that here too, and the factor counts in the
/// derivative. x0 is what the network's answer means there, a x + b f by query.prediction_type and
/// not clipped, so with an autodiff library out = a v + b input_scale (d f / d input)^T v. v and
/// out have the shape of x; v does not depend on x; out never aliases x or v. Where the state is a
/// view, x is a view and v and out own their memory: TensorOf. Called by the thread that samples,
/// once at a time, after the denoiser was asked at the same x and query.
///
/// For data of a known distribution: exact/exact_vector_jacobian.hpp.
// clang-format off
template <class J, class T>
concept VectorJacobian =
    State<T> && std::invocable<J&, const T&, const Query&, const TensorOf<T>&, TensorOf<T>&>;
// clang-format on

/// Stands for a vector-Jacobian product that is not there: methods then take d x0 / d x as a
/// multiple of the identity, and say so. Plain data: threads may share what none of them writes.
struct NoVectorJacobian {};

namespace detail {

/// out = (d x0 / d x)^T v; fails where the callable gave `out` another shape.
template <State T, class J>
void pull_back(J& vjp, const T& x, const Query& query, const TensorOf<T>& v, TensorOf<T>& out) {
  static_assert(VectorJacobian<J, T>,
                "a vector-Jacobian product must be callable as (const Tensor& x, const Query& "
                "query, const Tensor& v, Tensor& out)");
  const auto shape = StateTraits<T>::shape(x);
  vjp(x, query, v, out);
  if (StateTraits<TensorOf<T>>::shape(out) != shape)
    fail(text("the vector-Jacobian product has the shape ",
              shape_text(StateTraits<TensorOf<T>>::shape(out)),
              "; it must have that of the state, ", shape_text(shape)));
}

}  // namespace detail
}  // namespace diffusion

#endif  // DIFFUSION_DENOISER_VECTOR_JACOBIAN_HPP
