#ifndef DIFFUSION_LIKELIHOOD_EXACT_JACOBIAN_HPP
#define DIFFUSION_LIKELIHOOD_EXACT_JACOBIAN_HPP

#include <diffusion/denoiser/exact/exact_denoiser.hpp>
#include <diffusion/denoiser/prediction_type.hpp>
#include <diffusion/denoiser/query.hpp>
#include <diffusion/tensor/state.hpp>

#include <Eigen/Core>

#include <cstddef>
#include <utility>

namespace diffusion {

/// The derivative of an ExactDenoiser, for `log_likelihood`: out = J(z) w for each sample, J the
/// Jacobian of what a perfect network of this type answers at z. With x = alpha x0 + sigma eps and
/// f = on_x0 x0 + on_eps eps it is on_x0 J0 + on_eps (1 - alpha J0) / sigma, J0 that of E[x0 | z].
/// Const calls are thread-safe.
template <class P>
class ExactJacobian {
 public:
  explicit ExactJacobian(P data, PredictionType type = PredictionType::epsilon)
      : data_(std::move(data)), type_(type) {
    detail::check_prediction_type(type);
  }

  template <class Tensor>
  void operator()(const Tensor& z, const Query& query, const Tensor& w, Tensor& out) const {
    const Knot at = detail::level_of(query);
    const auto size = static_cast<std::size_t>(data_.dimension());
    detail::predict_points(
        z, query.batched, data_.dimension(), out,
        [&](std::size_t sample, const Eigen::VectorXd& point) {
          return times(point, at,
                       detail::point_from(StateTraits<Tensor>::data(w) + sample * size, size));
        });
  }

  /// J(z) w for one point at a level.
  Eigen::VectorXd times(const Eigen::VectorXd& z, const Knot& at, const Eigen::VectorXd& w) const {
    const auto [on_x0, on_eps] = target(type_, at);
    const Eigen::VectorXd x0 = data_.x0_jacobian_times(z, at, w);
    if (on_eps == 0 || at.sigma == 0) return on_x0 * x0;
    return on_x0 * x0 + on_eps / at.sigma * (w - at.alpha * x0);
  }

 private:
  P data_;
  PredictionType type_;
};

}  // namespace diffusion

#endif  // DIFFUSION_LIKELIHOOD_EXACT_JACOBIAN_HPP
