#ifndef DIFFUSION_INVERSE_DDNM_HPP
#define DIFFUSION_INVERSE_DDNM_HPP

#include <diffusion/denoiser/denoiser.hpp>
#include <diffusion/denoiser/wrapped.hpp>
#include <diffusion/inverse/problem.hpp>

#include <Eigen/Core>

#include <algorithm>
#include <cstddef>
#include <utility>

namespace diffusion {

/// DDNM, the denoising diffusion null-space model (Wang, Yu and Zhang 2022, arXiv 2212.00490): a
/// denoiser made of a denoiser, whose estimate is brought in line with the measurement,
///
///     x0' = A^+ y + (1 - A^+ A) x0 = x0 + A^+ (y - A x0)
///
/// so that what was measured comes from y and the rest from the network. For any sampler, schedule
/// and prediction type; no derivatives. Exact data consistency: without clipping, A x = y at the
/// end of a run to clean data.
///
/// With noise (sigma_y > 0) A^+ y carries the deviation sigma_y / s into direction i of the
/// operator's singular vectors, s its singular value. As in DDNM+ (section 3.3 there) the
/// correction is then weakened where that is more than the level to which the stage leads can
/// hide:
///
///     x0' = x0 + V diag(min(1, s to_sigma / (to_alpha sigma_y)) / s) U^T (y - A x0)
///
/// which leaves the sampler's own noise alone, so that samplers without any can be used too; the
/// paper also takes the measurement's share out of the noise that is added: DdnmPlus. This needs a
/// SpectralOperator, without noise any operator will do (A^+ by conjugate gradients). It is biased:
/// what the last steps see of y is little.
///
/// As thread-safe as the denoiser inside; fails for a state that does not fit the problem.
template <class Inner, LinearOperator A>
class Ddnm : public WrappedDenoiser<Inner> {
 public:
  Ddnm(Inner inner, InverseProblem<A> problem)
      : WrappedDenoiser<Inner>(std::move(inner)), problem_(std::move(problem)) {
    if constexpr (!SpectralOperator<A>)
      if (problem_.sigma_y() > 0)
        fail(detail::text("sigma_y is ", problem_.sigma_y(),
                          " and the operator has no singular "
                          "value decomposition; DDNM needs one unless sigma_y is 0"));
  }

  const InverseProblem<A>& problem() const { return problem_; }

  template <State T>
  void operator()(const T& input, const Query& query, TensorOf<T>& out) {
    ask(this->inner(), input, query, out);
    detail::move_x0(problem_, input, query, out, [&](std::size_t sample, const Vector& x0) {
      return correction(problem_.residual(sample, x0), query);
    });
  }

 private:
  using Vector = Eigen::VectorXd;

  Vector correction(const Vector& residual, const Query& query) const {
    const A& a = problem_.op();
    if (problem_.sigma_y() == 0) return detail::regularised_inverse(a, residual, 1, 0);
    if constexpr (SpectralOperator<A>) {
      const Vector& s = a.singular_values();
      Vector z = a.to_left(residual);
      for (Eigen::Index i = 0; i < z.size(); ++i)
        z[i] = s[i] > 0 ? share(s[i], query) / s[i] * z[i] : 0;
      return a.from_right(z);
    } else {
      return Vector::Zero(a.inputs());
    }
  }

  /// min(1, s to_sigma / (to_alpha sigma_y)).
  double share(double s, const Query& query) const {
    const double hidden = s * query.to_sigma, carried = query.to_alpha * problem_.sigma_y();
    return hidden >= carried ? 1 : hidden / carried;
  }

  InverseProblem<A> problem_;
};

}  // namespace diffusion

#endif  // DIFFUSION_INVERSE_DDNM_HPP
