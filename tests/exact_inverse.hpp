#ifndef DIFFUSION_TESTS_EXACT_INVERSE_HPP
#define DIFFUSION_TESTS_EXACT_INVERSE_HPP

// The exact law of what a plan and a method for inverse problems make of Gaussian data: with a
// perfect network everything is affine in the noises, so a state is a matrix of weights on 1, on
// the initial noise, on the plan's draws and on draws of the method's own. Written from the
// definitions, with dense matrices: knows nothing of singular vectors, lowering or Jacobians.
// `read_off` finds the same matrix in a real run, by giving it unit impulses for noise.

#include <diffusion/denoiser/exact/exact_denoiser.hpp>
#include <diffusion/denoiser/exact/linear_posterior.hpp>
#include <diffusion/plan/plan.hpp>
#include <diffusion/sampling/sample.hpp>

#include <Eigen/Dense>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <numbers>
#include <span>
#include <vector>

namespace inverse {

using namespace diffusion;
using Matrix = Eigen::MatrixXd;
using Vector = Eigen::VectorXd;
using Points = Eigen::Tensor<double, 2, Eigen::RowMajor>;

/// The law of an affine map of standard normals: column 0 is the constant.
struct Law {
  Vector mean;
  Matrix covariance;
};
inline Law law_of(const Matrix& weights) {
  const Matrix rest = weights.rightCols(weights.cols() - 1);
  return {weights.col(0), rest * rest.transpose()};
}

/// What a method does, on weights. A missing function does nothing.
struct Method {
  std::function<void(Matrix& x, const Knot& at)> start{};
  std::function<Matrix(const Matrix& x0, const Stage& stage)> x0{};
  /// The new state of the stage, its draw of the method's own (d, width), the state before, x0.
  std::function<void(Matrix& x, const Stage& stage, const Matrix& own, const Matrix& before,
                     const Matrix& x0)>
      state{};
};

class Propagation {
 public:
  explicit Propagation(const Gaussian& prior) : prior_(prior), d_(prior.dimension()) {}

  Matrix run(const SamplingPlan& plan, const PredictionType& type, const Method& method) {
    width_ = 1 + d_ * (1 + plan.draws() + plan.size());
    slots_.assign(static_cast<std::size_t>(plan.traits().slots), zero());
    saved_ = zero();
    Matrix x = unit(0) * plan.traits().initial_scale;
    if (method.start) method.start(x, plan[0].at);
    for (int k = 0; k < plan.size(); ++k) x = step(plan, k, type, method, x);
    return x;
  }

  /// The weights of draw `draw` of the run, 0 being the initial one, on itself.
  Matrix unit(Eigen::Index draw) const {
    Matrix weights = zero();
    weights.middleCols(1 + draw * d_, d_).setIdentity();
    return weights;
  }
  Matrix constant(const Vector& v) const {
    Matrix weights = zero();
    weights.col(0) = v;
    return weights;
  }

 private:
  Matrix zero() const { return Matrix::Zero(d_, width_); }

  Matrix step(const SamplingPlan& plan, int k, const PredictionType& type, const Method& method,
              const Matrix& x) {
    const Stage& s = plan[k];
    if (s.save) saved_ = x;
    Matrix next = s.x * x;
    Matrix x0 = zero(), eps = zero(), raw = zero();
    if (s.ask) {
      x0 = network_x0(x, s.at);
      if (method.x0) x0 = method.x0(x0, s);
      if (s.at.sigma > 0) eps = (x - s.at.alpha * x0) / s.at.sigma;
      const Target f =
          target(type, {s.at.t, s.input_scale * s.at.alpha, s.input_scale * s.at.sigma});
      raw = f.on_x0 * x0 + f.on_eps * eps;
      next += s.x0 * x0 + s.eps * eps + s.raw * raw;
    }
    if (s.saved != 0) next += s.saved * saved_;
    for (const Term& term : s.history)
      if (term.source >= 0) next += term.weight * slots_[static_cast<std::size_t>(term.source)];
    for (const Term& term : s.noise)
      if (term.source >= 0) next += term.weight * unit(1 + term.source);
    if (s.keep >= 0)
      slots_[static_cast<std::size_t>(s.keep)] = plan.traits().basis == Basis::x0    ? x0
                                                 : plan.traits().basis == Basis::eps ? eps
                                                                                     : raw;
    if (method.state && s.ask) method.state(next, s, unit(1 + plan.draws() + k), x, x0);
    return next;
  }

  Matrix network_x0(const Matrix& x, const Knot& at) const {
    const Matrix C = prior_.covariance();
    const Matrix D = at.alpha * at.alpha * C + at.sigma * at.sigma * Matrix::Identity(d_, d_);
    const Matrix gain = at.alpha * C * D.inverse();
    Matrix x0 = gain * x;
    x0.col(0) += prior_.mean() - at.alpha * gain * prior_.mean();
    return x0;
  }

  const Gaussian& prior_;
  Eigen::Index d_, width_ = 0;
  std::vector<Matrix> slots_;
  Matrix saved_;
};

/// Noise of one of two kinds, so that tests compile one kind of run. Impulses: sample 0 has only
/// zeros and sample j + 1 a one, at number j of all normals: of draw k, element i, number
/// first + (k - before) d + i. Or independent normals, the same on every compiler.
struct Source {
  std::uint64_t d = 1, first = 0, before = 0;
  bool random = false;
  std::uint64_t seed = 0;

  void fill(std::uint64_t sample, std::uint64_t draw, std::uint64_t element,
            std::span<float> out) const {
    for (std::size_t i = 0; i < out.size(); ++i)
      out[i] = static_cast<float>(random ? normal(sample, draw, element + i)
                                         : impulse(sample, draw, element + i));
  }

 private:
  double impulse(std::uint64_t sample, std::uint64_t draw, std::uint64_t element) const {
    if (draw < before) return 0;
    return sample == 1 + first + (draw - before) * d + element ? 1 : 0;
  }
  /// The finaliser of splitmix64, and Box-Muller.
  double normal(std::uint64_t sample, std::uint64_t draw, std::uint64_t element) const {
    const std::uint64_t key = ((seed * 1009 + sample) * 1013 + draw) * 1021 + element;
    const double radius = std::sqrt(-2 * std::log(1 - uniform(2 * key)));
    return radius * std::cos(2 * std::numbers::pi * uniform(2 * key + 1));
  }
  static double uniform(std::uint64_t z) {
    z = (z + 1) * 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return static_cast<double>((z ^ (z >> 31)) >> 11) * 0x1p-53;
  }
};

using Shape = typename StateTraits<Points>::Shape;
/// A run of a method: the run's noise, the method's own, how many samples.
using RealRun = std::function<Points(const SamplingPlan&, const PredictionType&, const Source&,
                                     const Source& own, const Shape&)>;

/// The weights that a real run has, exactly.
inline Matrix read_off(const SamplingPlan& plan, const PredictionType& type, Eigen::Index d,
                       const RealRun& run) {
  const Eigen::Index numbers = d * (1 + plan.draws() + plan.size());
  const auto size = static_cast<std::uint64_t>(d);
  const std::uint64_t own = size * static_cast<std::uint64_t>(1 + plan.draws());
  const Points x = run(plan, type, Source{.d = size}, Source{.d = size, .first = own, .before = 1},
                       Shape{1 + numbers, d});
  Matrix weights = Eigen::Map<const Matrix>(x.data(), d, 1 + numbers);
  for (Eigen::Index j = 1; j < weights.cols(); ++j) weights.col(j) -= weights.col(0);
  return weights;
}

/// Mean and covariance of the rows of a batch.
inline Law law_of_samples(const Points& x) {
  const Eigen::Index n = x.dimension(0), d = x.dimension(1);
  const Matrix rows = Eigen::Map<const Matrix>(x.data(), d, n);
  const Vector mean = rows.rowwise().mean();
  const Matrix centred = rows.colwise() - mean;
  return {mean, centred * centred.transpose() / static_cast<double>(n)};
}

/// How far a law is from the exact posterior: the largest error of its mean, in deviations of the
/// prior, and the square root of its total variance over the exact one.
struct Bias {
  double mean = 0, spread = 1;
};
inline Bias bias_of(const Law& law, const Gaussian& exact, const Gaussian& prior) {
  const double deviation = std::sqrt(prior.covariance().diagonal().maxCoeff());
  return {(law.mean - exact.mean()).cwiseAbs().maxCoeff() / deviation,
          std::sqrt(law.covariance.trace() / exact.covariance().trace())};
}

}  // namespace inverse

#endif  // DIFFUSION_TESTS_EXACT_INVERSE_HPP
