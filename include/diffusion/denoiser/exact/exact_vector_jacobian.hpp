#ifndef DIFFUSION_DENOISER_EXACT_EXACT_VECTOR_JACOBIAN_HPP
#define DIFFUSION_DENOISER_EXACT_EXACT_VECTOR_JACOBIAN_HPP

#include <diffusion/denoiser/exact/exact_denoiser.hpp>
#include <diffusion/denoiser/vector_jacobian.hpp>

#include <Eigen/Core>

#include <concepts>
#include <cstddef>
#include <utility>

namespace diffusion {

/// An exact distribution that also knows the Jacobian of x0(x), which is symmetric: Gaussian,
/// GaussianMixture.
// clang-format off
template <class P>
concept DifferentiableDistribution =
    ExactDistribution<P> && requires(const P& p, const Eigen::VectorXd& x, const Knot& at) {
      { p.x0_jacobian_times(x, at, x) } -> std::convertible_to<Eigen::VectorXd>;
    };
// clang-format on

/// The vector-Jacobian product of the exact denoiser, for any prediction type: (d x0 / d x)^T v
/// with the Jacobian alpha / sigma^2 Cov[x0 | x]. See VectorJacobian. Const calls are thread-safe.
///
///     const auto network = exact_denoiser(mixture);
///     const auto vjp = exact_vector_jacobian(network);
template <DifferentiableDistribution P>
class ExactVectorJacobian {
 public:
  explicit ExactVectorJacobian(P data) : data_(std::move(data)) {}

  const P& data() const { return data_; }

  /// Fails where a sample of x or v has not dimension() elements, and where slices have times of
  /// their own.
  template <State T>
  void operator()(const T& x, const Query& query, const TensorOf<T>& v, TensorOf<T>& out) const {
    using Owner = StateTraits<TensorOf<T>>;
    if (!query.times.empty())
      fail(detail::text("the query has ", query.times.size(),
                        " times; an exact Jacobian needs one time for all samples"));
    if (Owner::shape(v) != StateTraits<T>::shape(x))
      fail(detail::text("v has the shape ", shape_text(Owner::shape(v)),
                        "; it must have that of the state, ",
                        shape_text(StateTraits<T>::shape(x))));
    const auto size = static_cast<std::size_t>(data_.dimension());
    const Knot at{query.t, query.alpha, query.sigma};
    detail::predict_points(x, query.batched, data_.dimension(), out,
                           [&](std::size_t sample, const Eigen::VectorXd& point) {
                             return data_.x0_jacobian_times(
                                 point, at,
                                 detail::point_from(Owner::data(v) + sample * size, size));
                           });
  }

 private:
  P data_;
};

/// The vector-Jacobian product of a distribution's exact denoiser.
template <DifferentiableDistribution P>
ExactVectorJacobian<P> exact_vector_jacobian(P data) {
  return ExactVectorJacobian<P>(std::move(data));
}
/// The same of the denoiser itself.
template <DifferentiableDistribution P>
ExactVectorJacobian<P> exact_vector_jacobian(const ExactDenoiser<P>& denoiser) {
  return ExactVectorJacobian<P>(denoiser.data());
}

}  // namespace diffusion

#endif  // DIFFUSION_DENOISER_EXACT_EXACT_VECTOR_JACOBIAN_HPP
