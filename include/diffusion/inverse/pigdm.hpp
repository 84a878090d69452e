#ifndef DIFFUSION_INVERSE_PIGDM_HPP
#define DIFFUSION_INVERSE_PIGDM_HPP

#include <diffusion/denoiser/denoiser.hpp>
#include <diffusion/denoiser/vector_jacobian.hpp>
#include <diffusion/denoiser/wrapped.hpp>
#include <diffusion/inverse/jacobians.hpp>
#include <diffusion/inverse/problem.hpp>

#include <Eigen/Core>

#include <cstddef>
#include <functional>
#include <limits>
#include <utility>

namespace diffusion {

namespace detail {

/// For guidance by a likelihood: the answer f of each sample moves so that its estimate becomes
/// x0 + sigma^2 / alpha J^T g, with g = gradient(sample, x0) in x0's space. By Tweedie's formula
/// that is E[x0 | x, y] where J^T g is the gradient of log p(y | x).
/// `at_zero`: what the move is, as a multiple of g, at alpha = 0, where J is 0 and the quotient
/// cannot be formed.
template <class Operator, State T, class J, class Gradient>
void guide_x0(const InverseProblem<Operator>& problem, const T& input, const Query& query, J& vjp,
              double at_zero, TensorOf<T>& out, const Gradient& gradient) {
  if (query.alpha == 0)
    return move_x0(problem, input, query, out, [&](std::size_t sample, const Eigen::VectorXd& x0) {
      return Eigen::VectorXd(at_zero * gradient(sample, x0));
    });
  using Owner = TensorOf<T>;
  if (!says_x0(query)) return;
  const auto shape = StateTraits<T>::shape(input);
  const Blocks blocks = problem.template blocks<T>(shape, query.batched);
  Owner v = StateTraits<Owner>::make(shape), pulled = StateTraits<Owner>::make(shape);
  move_x0(problem, input, query, out, [&](std::size_t sample, const Eigen::VectorXd& x0) {
    store_sample(gradient(sample, x0), StateTraits<Owner>::data(v) + sample * blocks.size);
    return Eigen::VectorXd(Eigen::VectorXd::Zero(x0.size()));
  });
  with_state(input, query, [&](const T& x) { pull_back(vjp, x, query, v, pulled); });
  const double weight = query.sigma * query.sigma / query.alpha;
  move_x0(problem, input, query, out, [&](std::size_t sample, const Eigen::VectorXd&) {
    return sample_vector(StateTraits<Owner>::data(pulled) + sample * blocks.size, blocks.size,
                         weight);
  });
}

}  // namespace detail

/// Options of Pigdm. Plain data: threads may share what none of them writes.
struct PigdmOptions {
  /// sd of r^2 = sd^2 sigma^2 / (alpha^2 sd^2 + sigma^2), the variance of x0 given x for data of
  /// that deviation in every direction, > 0. The paper's r^2 has sd = 1.
  double data_deviation = 1;
  /// Another r^2, > 0, where given.
  std::function<double(const Query&)> variance{};
};

/// PiGDM, pseudoinverse-guided diffusion (Song, Vahdat, Mardani and Kautz 2023, "Pseudoinverse-
/// Guided Diffusion Models for Inverse Problems", ICLR 2023, openreview 9_gsMA8MRKQ): a denoiser
/// made of a denoiser. It takes x0 given x to be N(x0(x), r^2), so that
///
///     grad log p(y | x) = J^T A^T (r^2 A A^T + sigma_y^2)^-1 (y - A x0),   J = d x0 / d x
///
/// and answers E[x0 | x, y] by Tweedie's formula, x0' = x0 + sigma^2 / alpha J^T A^T (...)^-1
/// (y - A x0). For any operator, noise, sampler, schedule and prediction type. Exact for data of
/// one deviation in every direction with that `data_deviation`: only the sampler's own error is
/// left. Elsewhere r^2 takes every direction for equally uncertain.
///
/// J^T comes from `vjp`, a VectorJacobian; by default the IsotropicJacobian of data_deviation, for
/// which the move is r^2 A^T (...)^-1 (y - A x0), without derivatives: DDNM, but with the noise of
/// y weighed. At alpha = 0 it is that whatever the vjp.
///
/// As thread-safe as the denoiser inside and the vjp. Fails for a state that does not fit.
template <class Inner, LinearOperator A, class J = IsotropicJacobian>
class Pigdm : public WrappedDenoiser<Inner> {
 public:
  Pigdm(Inner inner, InverseProblem<A> problem, PigdmOptions options = {})
      : Pigdm(std::move(inner), std::move(problem), IsotropicJacobian{options.data_deviation},
              std::move(options)) {}
  Pigdm(Inner inner, InverseProblem<A> problem, J vjp, PigdmOptions options = {})
      : WrappedDenoiser<Inner>(std::move(inner)),
        problem_(std::move(problem)),
        vjp_(std::move(vjp)),
        options_(std::move(options)) {
    detail::require_inside("PigdmOptions::data_deviation", options_.data_deviation, 0.0,
                           std::numeric_limits<double>::infinity());
  }

  const InverseProblem<A>& problem() const { return problem_; }
  /// r^2 at a level.
  double variance(const Query& query) const {
    if (!options_.variance) return IsotropicJacobian{options_.data_deviation}.variance(query);
    const double variance = options_.variance(query);
    detail::require_inside("PigdmOptions::variance", variance, 0.0,
                           std::numeric_limits<double>::infinity());
    return variance;
  }

  template <State T>
  void operator()(const T& input, const Query& query, TensorOf<T>& out) {
    ask(this->inner(), input, query, out);
    if (query.sigma == 0) return;  // x0 is known
    const double r2 = variance(query);
    detail::guide_x0(problem_, input, query, vjp_, r2, out,
                     [&](std::size_t sample, const Eigen::VectorXd& x0) {
                       return problem_.likelihood_gradient(sample, x0, r2);
                     });
  }

 private:
  InverseProblem<A> problem_;
  J vjp_;
  PigdmOptions options_;
};

/// Deduced from what it is made of.
template <class Inner, class A>
Pigdm(Inner, InverseProblem<A>, PigdmOptions) -> Pigdm<Inner, A>;
/// The same.
template <class Inner, class A>
Pigdm(Inner, InverseProblem<A>) -> Pigdm<Inner, A>;
/// The same.
template <class Inner, class A, class J>
Pigdm(Inner, InverseProblem<A>, J, PigdmOptions) -> Pigdm<Inner, A, J>;
/// The same.
template <class Inner, class A, class J>
Pigdm(Inner, InverseProblem<A>, J) -> Pigdm<Inner, A, J>;

}  // namespace diffusion

#endif  // DIFFUSION_INVERSE_PIGDM_HPP
