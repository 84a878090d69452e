#ifndef DIFFUSION_DENOISER_EXACT_GAUSSIAN_MIXTURE_HPP
#define DIFFUSION_DENOISER_EXACT_GAUSSIAN_MIXTURE_HPP

#include <diffusion/denoiser/exact/gaussian.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <initializer_list>
#include <limits>
#include <numbers>
#include <utility>
#include <vector>

namespace diffusion {

/// One component of a mixture. Plain data: threads may share what none of them writes.
struct WeightedGaussian {
  double weight = 1;  ///< > 0, relative to the others: a mixture divides by the sum
  Gaussian gaussian;
};

/// Data from a mixture of Gaussians, and everything that a diffusion of it is, exactly: at every
/// level the state is a mixture again, of the components' states with the same weights. Each
/// question is answered by every component's own answer, weighed by how likely the component is
/// given x, in logarithms, so that nothing overflows far from the data. Costs one Gaussian's answer
/// for each component. The components are also classes: `posterior` is the exact classifier, and
/// `component(k).gaussian` the exact conditional model.
///
/// At sigma = 0 x0 = x / alpha and eps = 0, as for one Gaussian; what weighs components there fails
/// if one of them has no density. All functions fail for an x of another size than d. Immutable;
/// safe to share between threads.
class GaussianMixture {
 public:
  using Vector = Eigen::VectorXd;
  using Matrix = Eigen::MatrixXd;
  using VectorView = Eigen::Ref<const Vector>;

  /// At least one component, all of the same dimension.
  GaussianMixture(std::initializer_list<WeightedGaussian> components)
      : GaussianMixture(std::vector<WeightedGaussian>(components)) {}
  explicit GaussianMixture(std::vector<WeightedGaussian> components)
      : components_(std::move(components)) {
    detail::require_at_least("the number of components", components_.size(), std::size_t{1});
    double sum = 0;
    for (const WeightedGaussian& component : components_) {
      detail::require_inside("the weight of a component", component.weight, 0.0,
                             std::numeric_limits<double>::infinity());
      detail::require_size("the mean of a component", component.gaussian.dimension(), dimension());
      sum += component.weight;
    }
    detail::require_range("the sum of the weights", sum, 0.0, (std::numeric_limits<double>::max)());
    for (WeightedGaussian& component : components_) component.weight /= sum;
  }

  /// A Gaussian is a mixture of one component.
  GaussianMixture(const Gaussian& gaussian)  // NOLINT(google-explicit-constructor)
      : GaussianMixture(std::vector<WeightedGaussian>{{1, gaussian}}) {}

  /// A component of equal weight and variance >= 0 about each column of `points` (d, count). With
  /// variance 0 this is a finite data set, whose ideal denoiser it gives (Karras et al. 2022, arXiv
  /// 2206.00364, appendix B.3).
  static GaussianMixture about_points(const Matrix& points, double variance) {
    std::vector<WeightedGaussian> components;
    for (Eigen::Index i = 0; i < points.cols(); ++i)
      components.push_back({1, Gaussian::isotropic(points.col(i), variance)});
    return GaussianMixture(std::move(components));
  }

  /// d, the size of a sample.
  Eigen::Index dimension() const { return components_.front().gaussian.dimension(); }
  int size() const { return static_cast<int>(components_.size()); }
  /// Component k, 0 <= k < size(); the weights of all sum to 1.
  const WeightedGaussian& component(int k) const {
    detail::require_range("component", k, 0, size() - 1);
    return components_[static_cast<std::size_t>(k)];
  }
  /// The mixture of some components alone, weights in proportion: a class of several components.
  GaussianMixture only(const std::vector<int>& chosen) const {
    std::vector<WeightedGaussian> components;
    for (const int k : chosen) components.push_back(component(k));
    return GaussianMixture(std::move(components));
  }

  Vector mean() const {
    Vector sum = Vector::Zero(dimension());
    for (const WeightedGaussian& c : components_) sum += c.weight * c.gaussian.mean();
    return sum;
  }
  Matrix covariance() const {
    const Vector center = mean();
    Matrix sum = Matrix::Zero(dimension(), dimension());
    for (const WeightedGaussian& c : components_) {
      const Vector d = c.gaussian.mean() - center;
      sum += c.weight * (c.gaussian.covariance() + d * d.transpose());
    }
    return sum;
  }

  /// The state's own distribution at a level.
  GaussianMixture noised(const Knot& at) const {
    std::vector<WeightedGaussian> components;
    for (const WeightedGaussian& c : components_)
      components.push_back({c.weight, c.gaussian.noised(at)});
    return GaussianMixture(std::move(components));
  }

  /// log p_t(x), with its normalisation. Fails where there is no density: at sigma = 0 with a
  /// singular component.
  double log_density(const VectorView& x, const Knot& at) const {
    return log_sum(log_joint(x, at));
  }

  /// log p(k | x) of every component k.
  Vector log_posterior(const VectorView& x, const Knot& at) const {
    const Vector joint = log_joint(x, at);
    const Vector relative = (joint.array() - joint.maxCoeff()).matrix();  // huge far from the data
    return (relative.array() - std::log(relative.array().exp().sum())).matrix();
  }

  /// p(k | x) of every component k: the exact classifier of noisy data.
  Vector posterior(const VectorView& x, const Knot& at) const {
    return log_posterior(x, at).array().exp().matrix();
  }

  /// The gradient of log p(k | x) in x, the difference of two scores: what classifier guidance adds
  /// to the score (Dhariwal and Nichol 2021, arXiv 2105.05233, section 4).
  Vector log_posterior_gradient(int k, const VectorView& x, const Knot& at) const {
    return component(k).gaussian.score(x, at) - score(x, at);
  }

  /// The gradient of log p_t in x. Fails where log_density does.
  Vector score(const VectorView& x, const Knot& at) const {
    return average(x, at, [&](const Gaussian& g) { return g.score(x, at); });
  }

  /// E[x0 | x].
  Vector x0(const VectorView& x, const Knot& at) const {
    if (at.sigma == 0) return components_.front().gaussian.x0(x, at);
    return average(x, at, [&](const Gaussian& g) { return g.x0(x, at); });
  }

  /// E[eps | x].
  Vector eps(const VectorView& x, const Knot& at) const {
    if (at.sigma == 0) return components_.front().gaussian.eps(x, at);
    return average(x, at, [&](const Gaussian& g) { return g.eps(x, at); });
  }

  /// Cov[x0 | x], (d, d): the components' own and that of their answers.
  Matrix x0_covariance(const VectorView& x, const Knot& at) const {
    if (at.sigma == 0) return components_.front().gaussian.x0_covariance(x, at);
    const Vector p = posterior(x, at), center = x0(x, at);
    Matrix sum = Matrix::Zero(dimension(), dimension());
    for (int k = 0; k < size(); ++k) {
      const Vector d = component(k).gaussian.x0(x, at) - center;
      sum += p[k] * (component(k).gaussian.x0_covariance(x, at) + d * d.transpose());
    }
    return sum;
  }

  /// The Jacobian of x0(x), alpha / sigma^2 Cov[x0 | x], times v; it is symmetric.
  Vector x0_jacobian_times(const VectorView& x, const Knot& at, const VectorView& v) const {
    if (at.sigma == 0) return components_.front().gaussian.x0_jacobian_times(x, at, v);
    detail::require_size("v", v.size(), dimension());
    const Vector p = posterior(x, at), center = score(x, at);
    Vector sum = Vector::Zero(dimension());
    for (int k = 0; k < size(); ++k) {  // d/dx of p(k | x) x0_k(x)
      const Gaussian& g = component(k).gaussian;
      sum +=
          p[k] * (g.x0_jacobian_times(x, at, v) + (g.score(x, at) - center).dot(v) * g.x0(x, at));
    }
    return sum;
  }

  /// How many standard normals make one sample of the data: d, and one that picks the component.
  Eigen::Index normals() const { return dimension() + 1; }
  /// The component that the last of them picks.
  int component_from_normals(const VectorView& z) const {
    detail::require_size("the list of normals", z.size(), normals());
    const double uniform = std::erfc(-z[dimension()] / std::numbers::sqrt2) / 2;
    double sum = 0;
    for (int k = 0; k + 1 < size(); ++k)
      if (uniform < (sum += component(k).weight)) return k;
    return size() - 1;
  }
  /// The sample that they make.
  Vector from_normals(const VectorView& z) const {
    return component(component_from_normals(z)).gaussian.from_normals(z.head(dimension()));
  }

 private:
  /// log(weight p_t(x | k)) of every component.
  Vector log_joint(const VectorView& x, const Knot& at) const {
    Vector joint(size());
    for (int k = 0; k < size(); ++k)
      joint[k] = std::log(component(k).weight) + component(k).gaussian.log_density(x, at);
    return joint;
  }
  static double log_sum(const Vector& logs) {
    const double largest = logs.maxCoeff();
    return largest + std::log((logs.array() - largest).exp().sum());
  }
  template <class Answer>
  Vector average(const VectorView& x, const Knot& at, const Answer& answer) const {
    const Vector p = posterior(x, at);
    Vector sum = Vector::Zero(dimension());
    for (int k = 0; k < size(); ++k)
      if (p[k] != 0) sum += p[k] * answer(component(k).gaussian);
    return sum;
  }

  std::vector<WeightedGaussian> components_;
};

}  // namespace diffusion

#endif  // DIFFUSION_DENOISER_EXACT_GAUSSIAN_MIXTURE_HPP
