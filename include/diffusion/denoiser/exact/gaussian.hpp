#ifndef DIFFUSION_DENOISER_EXACT_GAUSSIAN_HPP
#define DIFFUSION_DENOISER_EXACT_GAUSSIAN_HPP

#include <diffusion/error.hpp>
#include <diffusion/schedule/knot.hpp>

#include <Eigen/Core>
#include <Eigen/Eigenvalues>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <utility>

namespace diffusion {

namespace detail {

inline void require_finite(const char* name, const Eigen::Ref<const Eigen::MatrixXd>& values) {
  for (Eigen::Index column = 0; column < values.cols(); ++column)
    for (Eigen::Index row = 0; row < values.rows(); ++row)
      if (!is_finite(values(row, column)))
        fail(text(name, " holds ", values(row, column), "; every number must be finite"));
}

inline void require_size(const char* name, Eigen::Index size, Eigen::Index wanted) {
  if (size != wanted) fail(text(name, " has ", size, " elements; it must have ", wanted));
}

/// Fails unless alpha, sigma are finite, at least 0 and not both 0.
inline void require_level(const Knot& at) {
  constexpr double largest = (std::numeric_limits<double>::max)();
  require_range("alpha of the knot", at.alpha, 0.0, largest);
  require_range("sigma of the knot", at.sigma, 0.0, largest);
  if (at.alpha == 0 && at.sigma == 0)
    fail("alpha and sigma of the knot are both 0; one must be positive");
}

/// What is left of a symmetric matrix: its eigenvalues, where those within rounding of 0 are 0, and
/// eigenvectors, one a column. Plain data: threads may share what none of them writes.
struct PrincipalAxes {
  Eigen::VectorXd variances;
  Eigen::MatrixXd axes;
};

/// Fails unless `covariance` is square, finite, symmetric and positive semidefinite, up to rounding
/// relative to its largest entry or to `scale`, whichever is larger.
inline PrincipalAxes principal_axes(const char* name, const Eigen::MatrixXd& covariance,
                                    double scale = 0) {
  const Eigen::Index n = covariance.rows();
  if (n != covariance.cols())
    fail(text(name, " is ", n, "x", covariance.cols(), "; it must be square"));
  require_finite(name, covariance);
  if (n == 0) return {};
  scale = (std::max)(scale, covariance.cwiseAbs().maxCoeff());
  const double asymmetry = (covariance - covariance.transpose()).cwiseAbs().maxCoeff();
  if (asymmetry > 1e-9 * scale)
    fail(text(name, " differs from its transpose by ", asymmetry, "; it must be symmetric"));
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> solver(
      (covariance + covariance.transpose()) / 2);
  if (solver.info() != Eigen::Success)
    fail(text("the eigenvalues of ", name,
              " were not found; its entries must not lie so far apart"));
  PrincipalAxes result{solver.eigenvalues(), solver.eigenvectors()};
  const double rounding =
      4 * static_cast<double>(n) * std::numeric_limits<double>::epsilon() * scale;
  for (double& variance : result.variances) {
    if (variance < -1e3 * rounding)
      fail(text(name, " has the eigenvalue ", variance, "; none may be negative"));
    if (variance <= rounding) variance = 0;
  }
  return result;
}

}  // namespace detail

/// Data x0 ~ N(mean, covariance) in d dimensions, and everything that a diffusion of it is,
/// exactly: at the level x = alpha x0 + sigma eps the state is N(alpha mean, D), D = alpha^2
/// covariance + sigma^2. For debugging a pipeline without a trained network; `exact_denoiser` makes
/// a denoiser of it. With covariance = U diag(l) U^T, found once, a question at any level costs
/// O(d^2), or O(d) where the covariance is diagonal.
///
/// The covariance may be singular (data on a subspace, or one point). Levels: alpha, sigma >= 0,
/// finite, not both 0. At alpha = 0 the state knows nothing of x0; at sigma = 0 x0 = x / alpha and
/// eps = 0. x = alpha x0(x) + sigma eps(x) at every level. All functions fail for an x of another
/// size than d. Immutable; safe to share between threads.
class Gaussian {
 public:
  using Vector = Eigen::VectorXd;
  using Matrix = Eigen::MatrixXd;
  using VectorView = Eigen::Ref<const Vector>;

  /// Any covariance, (d, d), symmetric and positive semidefinite; eigenvalues within rounding of 0
  /// (4 d 2^-52 of the largest entry) count as 0.
  Gaussian(Vector mean, const Matrix& covariance) : mean_(std::move(mean)) {
    detail::require_size("a column of the covariance", covariance.rows(), dimension());
    auto [variances, axes] = detail::principal_axes("the covariance", covariance);
    set(std::move(variances), std::move(axes));
  }

  /// Independent coordinates, variances >= 0.
  static Gaussian diagonal(Vector mean, Vector variances) {
    detail::require_size("the list of variances", variances.size(), mean.size());
    return Gaussian(std::move(mean), std::move(variances), Matrix());
  }

  /// The same variance >= 0 in every direction; 0: all data is the point `mean`.
  static Gaussian isotropic(Vector mean, double variance) {
    Vector variances = Vector::Constant(mean.size(), variance);
    return Gaussian(std::move(mean), std::move(variances), Matrix());
  }

  /// covariance = axes diag(variances) axes^T, the columns of `axes` (d, d) orthonormal to 1e-9.
  static Gaussian along_axes(Vector mean, Vector variances, Matrix axes) {
    detail::require_size("the list of variances", variances.size(), mean.size());
    detail::require_size("a row of axes", axes.cols(), mean.size());
    detail::require_size("a column of axes", axes.rows(), mean.size());
    detail::require_finite("axes", axes);
    const double error = (axes.transpose() * axes - Matrix::Identity(axes.rows(), axes.cols()))
                             .lpNorm<Eigen::Infinity>();
    if (!(error <= 1e-9))
      fail(detail::text("axes^T axes differs from 1 by ", error, "; axes must be orthonormal"));
    return Gaussian(std::move(mean), std::move(variances), std::move(axes));
  }

  /// d, the size of a sample.
  Eigen::Index dimension() const { return mean_.size(); }
  const Vector& mean() const { return mean_; }
  /// The eigenvalues of the covariance.
  const Vector& variances() const { return variances_; }
  /// Its eigenvectors, one a column.
  Matrix axes() const {
    return axes_.size() > 0 ? axes_ : Matrix::Identity(dimension(), dimension());
  }
  Matrix covariance() const { return matrix(variances_); }
  /// Whether the covariance is a diagonal matrix that was given as one.
  bool axis_aligned() const { return axes_.size() == 0; }

  /// The state's own distribution at a level: N(alpha mean, alpha^2 covariance + sigma^2).
  Gaussian noised(const Knot& at) const {
    return Gaussian(at.alpha * mean_, level_variances(at), axes_);
  }

  /// log p_t(x), with its normalisation. Fails where there is no density: at sigma = 0 for a
  /// singular covariance.
  double log_density(const VectorView& x, const Knot& at) const {
    const Vector d = density_variances(at);
    const Vector z = deviation(x, at);
    return -(z.array().square() / d.array() + d.array().log() + std::log(2 * std::numbers::pi))
                .sum() /
           2;
  }

  /// The gradient of log p_t in x, -D^-1 (x - alpha mean). Fails where log_density does.
  Vector score(const VectorView& x, const Knot& at) const {
    const Vector d = density_variances(at);
    return turned_back(-(deviation(x, at).array() / d.array()).matrix());
  }

  /// E[x0 | x] = mean + alpha covariance D^-1 (x - alpha mean).
  Vector x0(const VectorView& x, const Knot& at) const {
    const Vector z = deviation(x, at);
    if (at.sigma == 0) return x / at.alpha;
    return mean_ + turned_back((x0_gains(at).array() * z.array()).matrix());
  }

  /// E[eps | x] = sigma D^-1 (x - alpha mean).
  Vector eps(const VectorView& x, const Knot& at) const {
    const Vector z = deviation(x, at);
    if (at.sigma == 0) return Vector::Zero(dimension());
    return turned_back((at.sigma * z.array() / level_variances(at).array()).matrix());
  }

  /// Cov[x0 | x] = covariance - alpha^2 covariance D^-1 covariance, (d, d); the same for every x.
  Matrix x0_covariance(const VectorView& x, const Knot& at) const {
    detail::require_size("x", x.size(), dimension());
    const Vector d = level_variances(at);
    if (at.sigma == 0) return Matrix::Zero(dimension(), dimension());
    return matrix((at.sigma * at.sigma * variances_.array() / d.array()).matrix());
  }

  /// The Jacobian of x0(x), alpha / sigma^2 Cov[x0 | x], times v. It is symmetric, so this is the
  /// vector-Jacobian product that guidance by a loss on x0 asks for.
  Vector x0_jacobian_times(const VectorView& x, const Knot& at, const VectorView& v) const {
    detail::require_size("x", x.size(), dimension());
    detail::require_size("v", v.size(), dimension());
    detail::require_level(at);
    if (at.sigma == 0) return v / at.alpha;
    return turned_back((x0_gains(at).array() * turned(v).array()).matrix());
  }

  /// Where the probability flow equation takes x from one level to another: along it
  /// D^-1/2 (x - alpha mean) is constant. Fails where log_density does at `from`.
  Vector flow(const VectorView& x, const Knot& from, const Knot& to) const {
    const Vector d = density_variances(from);
    const Vector scale = (level_variances(to).array() / d.array()).sqrt();
    return to.alpha * mean_ + turned_back((scale.array() * deviation(x, from).array()).matrix());
  }

  /// How many standard normals make one sample of the data.
  Eigen::Index normals() const { return dimension(); }
  /// The sample that they make: mean + U sqrt(l) z.
  Vector from_normals(const VectorView& z) const {
    detail::require_size("the list of normals", z.size(), normals());
    return mean_ + turned_back((variances_.array().sqrt() * z.array()).matrix());
  }

 private:
  Gaussian(Vector mean, Vector variances, Matrix axes) : mean_(std::move(mean)) {
    set(std::move(variances), std::move(axes));
  }

  void set(Vector variances, Matrix axes) {
    detail::require_at_least("the size of the mean", mean_.size(), Eigen::Index{1});
    detail::require_finite("the mean", mean_);
    detail::require_finite("the covariance", variances);
    detail::require_at_least("the least variance", variances.minCoeff(), 0.0);
    variances_ = std::move(variances);
    axes_ = std::move(axes);
  }

  Vector turned(const VectorView& v) const {
    return axis_aligned() ? Vector(v) : Vector(axes_.transpose() * v);
  }
  Vector turned_back(const Vector& z) const { return axis_aligned() ? z : Vector(axes_ * z); }
  Matrix matrix(const Vector& values) const {
    if (axis_aligned()) return values.asDiagonal();
    return axes_ * values.asDiagonal() * axes_.transpose();
  }

  /// x - alpha mean along the axes.
  Vector deviation(const VectorView& x, const Knot& at) const {
    detail::require_size("x", x.size(), dimension());
    detail::require_level(at);
    return turned(x - at.alpha * mean_);
  }
  /// The eigenvalues of D.
  Vector level_variances(const Knot& at) const {
    detail::require_level(at);
    return (at.alpha * at.alpha * variances_.array() + at.sigma * at.sigma).matrix();
  }
  Vector density_variances(const Knot& at) const {
    Vector d = level_variances(at);
    if (d.minCoeff() == 0)
      fail(detail::text("the state has no density at alpha = ", at.alpha, ", sigma = ", at.sigma,
                        ": ", (d.array() == 0).count(), " of ", dimension(),
                        " directions have no variance; sigma must be positive"));
    return d;
  }
  Vector x0_gains(const Knot& at) const {
    const Vector d = level_variances(at);
    return (variances_.array() > 0).select(at.alpha * variances_.array() / d.array(), 0.0);
  }

  Vector mean_;
  Vector variances_;
  Matrix axes_;  ///< empty: the coordinate axes
};

}  // namespace diffusion

#endif  // DIFFUSION_DENOISER_EXACT_GAUSSIAN_HPP
