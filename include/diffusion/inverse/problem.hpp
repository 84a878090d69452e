#ifndef DIFFUSION_INVERSE_PROBLEM_HPP
#define DIFFUSION_INVERSE_PROBLEM_HPP

#include <diffusion/denoiser/estimate.hpp>
#include <diffusion/inverse/operators.hpp>
#include <diffusion/noise/noise.hpp>
#include <diffusion/tensor/normals.hpp>
#include <diffusion/tensor/state.hpp>

#include <Eigen/Core>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <type_traits>
#include <utility>
#include <vector>

/// What is measured of the samples of a run, and what all methods for inverse problems share.
namespace diffusion {

namespace detail {

/// One sample of a state as a vector, in double, times `scale`.
template <class S>
Eigen::VectorXd sample_vector(const S* sample, std::size_t size, double scale = 1) {
  Eigen::VectorXd x(static_cast<Eigen::Index>(size));
  for (std::size_t i = 0; i < size; ++i)
    x[static_cast<Eigen::Index>(i)] = scale * static_cast<double>(sample[i]);
  return x;
}

template <class S>
void store_sample(const Eigen::VectorXd& x, S* sample) {
  for (Eigen::Index i = 0; i < x.size(); ++i) sample[i] = static_cast<S>(x[i]);
}

/// The u that minimises |A u - w|^2 + shift |u|^2, the shortest where there are several, by
/// conjugate gradients on the normal equations (CGLS; Paige and Saunders 1982). Ends when the
/// gradient has fallen to 1e-12 of its start, or after 4 min(m, d) + 20 turns.
template <LinearOperator A>
Eigen::VectorXd least_squares(const A& a, const Eigen::VectorXd& w, double shift) {
  Eigen::VectorXd u = Eigen::VectorXd::Zero(a.inputs());
  Eigen::VectorXd r = w, g = a.transpose(w), p = g;
  const double enough = 1e-24 * g.squaredNorm();
  double gg = g.squaredNorm();
  const Eigen::Index turns = 4 * (std::min)(a.inputs(), a.outputs()) + 20;
  for (Eigen::Index turn = 0; turn < turns && gg > enough; ++turn) {
    const Eigen::VectorXd ap = a.apply(p);
    const double step = gg / (ap.squaredNorm() + shift * p.squaredNorm());
    u += step * p;
    r -= step * ap;
    g = a.transpose(r) - shift * u;
    const double next = g.squaredNorm();
    p = g + next / gg * p;
    gg = next;
  }
  return u;
}

/// A^T (variance A A^T + noise_variance)^-1 w for variance > 0; with noise_variance 0 the
/// pseudoinverse of A over the variance. By the decomposition where there is one.
template <LinearOperator A>
Eigen::VectorXd regularised_inverse(const A& a, const Eigen::VectorXd& w, double variance,
                                    double noise_variance) {
  if constexpr (SpectralOperator<A>) {
    const Eigen::VectorXd& s = a.singular_values();
    Eigen::VectorXd z = a.to_left(w);
    for (Eigen::Index i = 0; i < z.size(); ++i)
      z[i] = s[i] > 0 ? z[i] * s[i] / (variance * s[i] * s[i] + noise_variance) : 0;
    return a.from_right(z);
  } else {
    return least_squares(a, w, noise_variance / variance) / variance;
  }
}

}  // namespace detail

/// A x of every sample of a state, one a column, (m, batch). Fails where a sample has not
/// `inputs()` elements.
template <LinearOperator A, ReadableState T>
Eigen::MatrixXd measure(const A& a, const T& x, bool batched = true) {
  const auto shape = StateTraits<T>::shape(x);
  const Blocks blocks = blocks_of<T>(shape, batched);
  if (blocks.size != static_cast<std::size_t>(a.inputs()))
    fail(detail::text("a sample of the state ", shape_text(shape), " has ", blocks.size,
                      " elements; the operator takes ", a.inputs()));
  Eigen::MatrixXd y(a.outputs(), static_cast<Eigen::Index>(blocks.batch));
  for (std::size_t sample = 0; sample < blocks.batch; ++sample)
    y.col(static_cast<Eigen::Index>(sample)) =
        a.apply(detail::sample_vector(StateTraits<T>::data(x) + sample * blocks.size, blocks.size));
  return y;
}

/// The same with noise of deviation sigma_y, finite and at least 0: draw 0 of an addressed source,
/// with which a run starts too, so give it another seed than the run's.
template <LinearOperator A, ReadableState T, class N>
Eigen::MatrixXd measure(const A& a, const T& x, double sigma_y, N&& noise, bool batched = true) {
  detail::require_range("sigma_y", sigma_y, 0.0, (std::numeric_limits<double>::max)());
  Eigen::MatrixXd y = measure(a, x, batched);
  const Blocks blocks{static_cast<std::size_t>(y.cols()), static_cast<std::size_t>(y.rows())};
  detail::require_draws(noise, 1, blocks);
  detail::for_each_normal<double>(noise, 0, blocks,
                                  [&](std::size_t i, double n) { y.data()[i] += sigma_y * n; });
  return y;
}

/// Of every sample of a run y = A x0 + sigma_y n was measured, n standard normal: the operator, the
/// measurements and the noise. Immutable; safe to share between threads if the operator is.
template <LinearOperator A>
class InverseProblem {
 public:
  /// y: one column of `outputs()` numbers for each sample of the run, as `measure` returns them, or
  /// one column for all samples. sigma_y >= 0 and finite; 0: without noise. Fails for other sizes
  /// and numbers.
  InverseProblem(A a, Eigen::MatrixXd y, double sigma_y = 0)
      : a_(std::move(a)), y_(std::move(y)), sigma_y_(sigma_y) {
    if (y_.rows() != a_.outputs())
      fail(detail::text("the measurement is ", y_.rows(), "x", y_.cols(), "; the operator's have ",
                        a_.outputs(), " rows, and one column a sample"));
    detail::require_numbers("the measurement", y_);
    detail::require_range("sigma_y", sigma_y, 0.0, (std::numeric_limits<double>::max)());
  }

  const A& op() const { return a_; }
  double sigma_y() const { return sigma_y_; }
  /// What was measured of a sample.
  Eigen::VectorXd y(std::size_t sample) const {
    return y_.col(y_.cols() == 1 ? 0 : static_cast<Eigen::Index>(sample));
  }
  /// y - A x0.
  Eigen::VectorXd residual(std::size_t sample, const Eigen::VectorXd& x0) const {
    return y(sample) - a_.apply(x0);
  }
  /// A^T (variance A A^T + sigma_y^2)^-1 (y - A x0), variance > 0: how the log likelihood of y
  /// grows in x0, if x0 is known up to that variance. Without noise and at variance 1 it is
  /// A^+ (y - A x0).
  Eigen::VectorXd likelihood_gradient(std::size_t sample, const Eigen::VectorXd& x0,
                                      double variance) const {
    return detail::regularised_inverse(a_, residual(sample, x0), variance, sigma_y_ * sigma_y_);
  }

  /// How a state of this shape splits into samples; fails unless the problem has a measurement for
  /// each and the operator takes them.
  template <State T>
  Blocks blocks(const ShapeOf<T>& shape, bool batched) const {
    const Blocks found = blocks_of<T>(shape, batched);
    if (found.size != static_cast<std::size_t>(a_.inputs()))
      fail(detail::text("a sample of the state ", shape_text(shape), " has ", found.size,
                        " elements; the operator takes ", a_.inputs()));
    if (y_.cols() != 1 && found.batch != static_cast<std::size_t>(y_.cols()))
      fail(detail::text("there are ", y_.cols(), " measurements for ", found.batch,
                        " samples; there must be one for each, or one for all"));
    return found;
  }

 private:
  A a_;
  Eigen::MatrixXd y_;
  double sigma_y_;
};

namespace detail {

/// Whether an answer tells x0 (epsilon does not at alpha = 0) and has a say in it (few do at sigma
/// = 0). Where not, no x0' makes another answer. Fails where slices have levels of their own.
inline bool says_x0(const Query& query) {
  const Conversion c = conversion_of(query);
  return is_finite(c.a) && is_finite(c.b) && c.b != 0;
}

/// For denoisers that change the estimate of another: the answer f of each sample, in `out`, is
/// changed so that its x0 moves by move(sample, x0); where it does not say x0 it stays.
template <class Operator, State T, class Move>
void move_x0(const InverseProblem<Operator>& problem, const T& input, const Query& query,
             TensorOf<T>& out, const Move& move) {
  using Out = StateTraits<TensorOf<T>>;
  const Blocks blocks = problem.template blocks<T>(StateTraits<T>::shape(input), query.batched);
  const std::size_t answers = blocks_of<TensorOf<T>>(Out::shape(out), false).total();
  if (answers < blocks.total() || answers % blocks.batch != 0)
    fail(text("the network's output has ", answers, " elements for ", blocks.batch, " samples of ",
              blocks.size));
  if (!says_x0(query)) return;
  const Conversion c = conversion_of(query);
  const std::size_t stride = answers / blocks.batch;
  for (std::size_t sample = 0; sample < blocks.batch; ++sample) {
    auto* f = Out::data(out) + sample * stride;
    const Eigen::VectorXd answer = sample_vector(f, blocks.size);
    const Eigen::VectorXd x0 =
        c.b * answer +
        sample_vector(StateTraits<T>::data(input) + sample * blocks.size, blocks.size, c.a);
    store_sample(answer + move(sample, x0) / c.b, f);
  }
}

}  // namespace detail
}  // namespace diffusion

#endif  // DIFFUSION_INVERSE_PROBLEM_HPP
