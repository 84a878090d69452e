#ifndef DIFFUSION_DENOISER_EXACT_LINEAR_POSTERIOR_HPP
#define DIFFUSION_DENOISER_EXACT_LINEAR_POSTERIOR_HPP

#include <diffusion/denoiser/exact/gaussian.hpp>
#include <diffusion/denoiser/exact/gaussian_mixture.hpp>

#include <Eigen/Core>

#include <cmath>
#include <limits>
#include <numbers>
#include <utility>
#include <vector>

/// The exact answer of a linear inverse problem. Of x0 with a known prior we have measured
///
///     y = A x0 + n,   n ~ N(0, R)
///
/// with A (m, d) and R (m, m), symmetric and positive semidefinite. The posterior p(x0 | y) is of
/// the prior's own kind, so `exact_denoiser(posterior(...))` samples from it, and any method for
/// inverse problems can be held against it. R = 0, a measurement without noise, is allowed.
namespace diffusion {

/// A linear measurement y = A x0 + n of noise covariance R. Plain data: threads may share what none
/// of them writes.
struct LinearMeasurement {
  Eigen::MatrixXd A;  ///< (m, d)
  Eigen::VectorXd y;  ///< m
  Eigen::MatrixXd R;  ///< (m, m)
};

namespace detail {

/// A prior seen through a measurement: y ~ N(A mean, S), S = A C A^T + R, and what y then says.
/// Immutable; safe to share between threads.
class MeasuredGaussian {
 public:
  using Vector = Eigen::VectorXd;
  using Matrix = Eigen::MatrixXd;

  MeasuredGaussian(const Gaussian& prior, const LinearMeasurement& measured)
      : prior_(prior), measured_(measured) {
    const auto& [A, y, R] = measured;
    require_size("a row of A", A.cols(), prior.dimension());
    require_size("y", y.size(), A.rows());
    require_size("a column of R", R.rows(), A.rows());
    require_size("a row of R", R.cols(), A.rows());
    require_finite("A", A);
    require_finite("y", y);
    principal_axes("R", R);
    // C = root root^T, so that nothing of the prior is lost to rounding in C itself.
    root_ = prior.axes() * prior.variances().cwiseSqrt().asDiagonal();
    seen_ = A * root_;
    auto [variances, axes] = principal_axes("A C A^T + R", seen_ * seen_.transpose() + R);
    variances_ = std::move(variances);
    axes_ = std::move(axes);
    surprise_ = axes_.transpose() * (y - A * prior.mean());
    require_possible();
  }

  /// Fails where y has no density: S is singular.
  double log_evidence() const {
    if (variances_.size() > 0 && variances_.minCoeff() == 0)
      fail("y has no density: A C A^T + R is singular; R must leave no direction without noise");
    return -(surprise_.array().square() / variances_.array() + variances_.array().log() +
             std::log(2 * std::numbers::pi))
                .sum() /
           2;
  }

  /// mean + K (y - A mean), and the covariance (1 - K A) C (1 - K A)^T + K R K^T, which stays
  /// positive where C - K A C would not (Joseph's form); K = C A^T S^-1.
  Gaussian posterior() const {
    const Vector inverse =
        (variances_.array() > 0).select(variances_.array().inverse(), 0.0).matrix();
    const Matrix gain = root_ * seen_.transpose() * axes_ * inverse.asDiagonal();  // times axes_^T
    const Matrix K = gain * axes_.transpose();
    const Matrix left = root_ - K * seen_;
    const Matrix covariance = left * left.transpose() + K * measured_.R * K.transpose();
    auto [variances, axes] =
        principal_axes("the posterior's covariance", covariance, prior_.variances().maxCoeff());
    return Gaussian::along_axes(prior_.mean() + gain * surprise_, std::move(variances),
                                std::move(axes));
  }

 private:
  /// In a direction without variance y must be what the prior's mean says.
  void require_possible() const {
    const double scale = 1 + measured_.y.cwiseAbs().sum() + surprise_.cwiseAbs().sum();
    for (Eigen::Index i = 0; i < variances_.size(); ++i)
      if (variances_[i] == 0 && std::abs(surprise_[i]) > 1e-7 * scale)
        fail(text("y lies ", std::abs(surprise_[i]),
                  " outside of what the prior and R can give; it must be possible: give R some "
                  "variance"));
  }

  const Gaussian& prior_;
  const LinearMeasurement& measured_;
  Matrix root_, seen_;  // C = root root^T; A root
  Vector variances_;    // S = axes diag(variances) axes^T
  Matrix axes_;
  Vector surprise_;  // axes^T (y - A mean)
};

}  // namespace detail

/// log p(y). Fails where y has no density, A C A^T + R being singular.
inline double log_evidence(const Gaussian& prior, const LinearMeasurement& measured) {
  return detail::MeasuredGaussian(prior, measured).log_evidence();
}

/// p(x0 | y) for a Gaussian prior: a Gaussian (Bishop 2006, Pattern Recognition and Machine
/// Learning, eq. 2.116). Its variances below 4 d 2^-52 of the prior's largest count as 0: a
/// measurement with that little noise is taken as one without. Fails for sizes that do not fit and
/// a y that cannot be.
inline Gaussian posterior(const Gaussian& prior, const LinearMeasurement& measured) {
  return detail::MeasuredGaussian(prior, measured).posterior();
}

/// p(x0 | y) for a mixture: the components' posteriors, each weighed by how well it explains y.
/// Fails where a component has no density of y; components that y rules out (by more than e^-700)
/// are left out.
inline GaussianMixture posterior(const GaussianMixture& prior, const LinearMeasurement& measured) {
  if (prior.size() == 1) return posterior(prior.component(0).gaussian, measured);
  Eigen::VectorXd log_weights(prior.size());
  for (int k = 0; k < prior.size(); ++k)
    log_weights[k] =
        std::log(prior.component(k).weight) + log_evidence(prior.component(k).gaussian, measured);
  const double largest = log_weights.maxCoeff();
  std::vector<WeightedGaussian> components;
  for (int k = 0; k < prior.size(); ++k)
    if (log_weights[k] > largest - 700)
      components.push_back(
          {std::exp(log_weights[k] - largest), posterior(prior.component(k).gaussian, measured)});
  return GaussianMixture(std::move(components));
}

/// log p(y) for a mixture.
inline double log_evidence(const GaussianMixture& prior, const LinearMeasurement& measured) {
  Eigen::VectorXd logs(prior.size());
  for (int k = 0; k < prior.size(); ++k)
    logs[k] =
        std::log(prior.component(k).weight) + log_evidence(prior.component(k).gaussian, measured);
  const double largest = logs.maxCoeff();
  return largest + std::log((logs.array() - largest).exp().sum());
}

}  // namespace diffusion

#endif  // DIFFUSION_DENOISER_EXACT_LINEAR_POSTERIOR_HPP
