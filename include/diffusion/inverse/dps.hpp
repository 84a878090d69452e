#ifndef DIFFUSION_INVERSE_DPS_HPP
#define DIFFUSION_INVERSE_DPS_HPP

#include <diffusion/denoiser/denoiser.hpp>
#include <diffusion/denoiser/vector_jacobian.hpp>
#include <diffusion/denoiser/wrapped.hpp>
#include <diffusion/inverse/jacobians.hpp>
#include <diffusion/inverse/pigdm.hpp>
#include <diffusion/inverse/problem.hpp>
#include <diffusion/plan/stage.hpp>

#include <Eigen/Core>

#include <cstddef>
#include <limits>
#include <type_traits>
#include <utility>
#include <vector>

namespace diffusion {

/// Options of Dps. Plain data: threads may share what none of them writes.
struct DpsOptions {
  double zeta = 1;         ///< the step size, >= 0; the paper's experiments have 0.3 to 1
  bool normalised = true;  ///< divide by |y - A x0|, as the paper does; false: the plain gradient
};

/// DPS, diffusion posterior sampling (Chung et al. 2022, arXiv 2209.14687, algorithm 1): an edit.
/// After each stage that changes the level the state moves against the gradient of the residual,
///
///     x' += zeta J^T A^T (y - A x0) / |y - A x0|,   J = d x0 / d x at the x before the stage
///
/// (not `normalised`: without the division, half of the gradient of the squared residual). The step
/// does not know the noise level, sigma_y or the sampler: zeta is found by trying, and the law of
/// the samples is not the posterior, whatever zeta is. For any sampler, schedule and prediction
/// type; samplers of several steps keep their history of estimates, which the moves are not in. To
/// be given to `sample` among the callbacks.
///
/// J^T comes from `vjp`, a VectorJacobian; by default the IsotropicJacobian for data of deviation
/// 1, without derivatives; FrozenNoiseJacobian takes 1 / alpha. Without the network's derivative
/// the move is A^T (y - A x0), scaled: it reaches only what A sees. The true J spreads it along
/// what goes together in the data.
///
/// Not thread-safe: it holds the move; one object per run at a time. Fails for a state that does
/// not fit the problem.
template <LinearOperator A, class J = IsotropicJacobian>
class Dps {
 public:
  explicit Dps(InverseProblem<A> problem, J vjp = {}, DpsOptions options = {})
      : problem_(std::move(problem)), vjp_(std::move(vjp)), options_(options) {
    detail::require_range("DpsOptions::zeta", options.zeta, 0.0,
                          (std::numeric_limits<double>::max)());
  }
  Dps(InverseProblem<A> problem, DpsOptions options) requires std::is_default_constructible_v<J>
      : Dps(std::move(problem), J{}, options) {}

  const InverseProblem<A>& problem() const { return problem_; }

  template <class Run, class T>
  void edit_start(const Run& run, T& x) {
    problem_.template blocks<T>(StateTraits<T>::shape(x), run.options().batch);
    move_.clear();
  }

  /// Finds the move; x0 stays as it is.
  template <class Run, class Tensor>
  void edit_x0(const Run& run, Tensor& x0) {
    using T = std::remove_cvref_t<decltype(run.state())>;
    using Owner = TensorOf<T>;
    move_.clear();
    if (same_level(run.stage().at, run.stage().to)) return;
    const auto shape = StateTraits<T>::shape(run.state());
    const Blocks blocks = problem_.template blocks<T>(shape, run.options().batch);
    const Owner v = detail::gradients<T>(shape, blocks, [&](std::size_t sample) {
      return gradient(
          sample,
          detail::sample_vector(StateTraits<Tensor>::data(x0) + sample * blocks.size, blocks.size));
    });
    Owner pulled = StateTraits<Owner>::make(shape);
    detail::pull_back(vjp_, run.state(), run.query(), v, pulled);
    const auto* moves = StateTraits<Owner>::data(pulled);
    for (std::size_t i = 0; i < blocks.total(); ++i)
      move_.push_back(options_.zeta * static_cast<double>(moves[i]));
  }

  template <class Run, class T>
  void edit_state(const Run&, T& x) {
    auto* to = StateTraits<T>::data(x);
    for (std::size_t i = 0; i < move_.size(); ++i)
      to[i] = static_cast<ScalarOf<T>>(static_cast<double>(to[i]) + move_[i]);
    move_.clear();
  }

 private:
  Eigen::VectorXd gradient(std::size_t sample, const Eigen::VectorXd& x0) const {
    const Eigen::VectorXd residual = problem_.residual(sample, x0);
    const double length = residual.norm();
    const Eigen::VectorXd back = problem_.op().transpose(residual);
    return options_.normalised && length > 0 ? Eigen::VectorXd(back / length) : back;
  }

  InverseProblem<A> problem_;
  J vjp_;
  DpsOptions options_;
  std::vector<double> move_;
};

/// Deduced from what it is made of.
template <class A>
Dps(InverseProblem<A>) -> Dps<A>;
/// The same.
template <class A>
Dps(InverseProblem<A>, DpsOptions) -> Dps<A>;
/// The same.
template <class A, class J>
Dps(InverseProblem<A>, J) -> Dps<A, J>;
/// The same.
template <class A, class J>
Dps(InverseProblem<A>, J, DpsOptions) -> Dps<A, J>;

/// The approximation on which DPS rests, as a denoiser made of a denoiser: p(y | x) is taken to be
/// N(y; A x0(x), sigma_y^2) (Chung et al. 2022, arXiv 2209.14687, eq. 10 to 13),
///
///     x0' = x0 + strength sigma^2 / (alpha sigma_y^2) J^T A^T (y - A x0)
///
/// No zeta to be found, and the law that it samples is known where the data's is; but the
/// uncertainty of x0 itself is left out (PiGDM's r^2), so it trusts y far too much in noise: with
/// sigma_y well below the data's deviation and few steps the state overshoots and the run diverges.
/// J^T as for Dps. Needs sigma_y > 0.
///
/// As thread-safe as the denoiser inside and the vjp.
template <class Inner, LinearOperator A, class J = IsotropicJacobian>
class DpsScore : public WrappedDenoiser<Inner> {
 public:
  /// strength >= 0: 1 is the formula.
  explicit DpsScore(Inner inner, InverseProblem<A> problem, J vjp = {}, double strength = 1)
      : WrappedDenoiser<Inner>(std::move(inner)),
        problem_(std::move(problem)),
        vjp_(std::move(vjp)),
        strength_(strength) {
    detail::require_range("the strength of DpsScore", strength, 0.0,
                          (std::numeric_limits<double>::max)());
    if (problem_.sigma_y() == 0)
      fail("sigma_y is 0; DpsScore divides by its square, it must be positive");
  }

  const InverseProblem<A>& problem() const { return problem_; }

  template <State T>
  void operator()(const T& input, const Query& query, TensorOf<T>& out) {
    ask(this->inner(), input, query, out);
    if (query.sigma == 0) return;
    const double weight = strength_ / problem_.sigma_y() / problem_.sigma_y();
    detail::guide_x0(
        problem_, input, query, vjp_, IsotropicJacobian{}.variance(query), out,
        [&](std::size_t sample, const Eigen::VectorXd& x0) {
          return Eigen::VectorXd(weight * problem_.op().transpose(problem_.residual(sample, x0)));
        });
  }

 private:
  InverseProblem<A> problem_;
  J vjp_;
  double strength_;
};

/// Deduced from what it is made of.
template <class Inner, class A>
DpsScore(Inner, InverseProblem<A>) -> DpsScore<Inner, A>;
/// The same.
template <class Inner, class A, class J>
DpsScore(Inner, InverseProblem<A>, J) -> DpsScore<Inner, A, J>;
/// The same.
template <class Inner, class A, class J>
DpsScore(Inner, InverseProblem<A>, J, double) -> DpsScore<Inner, A, J>;

}  // namespace diffusion

#endif  // DIFFUSION_INVERSE_DPS_HPP
