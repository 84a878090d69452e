// The exact denoisers against the definitions: brute-force quadrature, differences of the density,
// direct conditioning, the closed form of the probability flow, and the laws that follow from
// x = alpha x0 + sigma eps.

#include "catch.hpp"
#include "support.hpp"

#include <diffusion/denoiser/exact/exact_denoiser.hpp>
#include <diffusion/denoiser/exact/linear_posterior.hpp>
#include <diffusion/guidance/classifier_free.hpp>
#include <diffusion/noise/philox.hpp>
#include <diffusion/samplers/ddim.hpp>
#include <diffusion/samplers/ddpm.hpp>
#include <diffusion/sampling/sample.hpp>
#include <diffusion/schedule/continuous.hpp>
#include <diffusion/schedule/noise_schedule.hpp>

#include <Eigen/Cholesky>
#include <Eigen/LU>
#include <Eigen/QR>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <limits>
#include <numbers>
#include <span>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

using namespace diffusion;

namespace {

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;
using support::ColMajor;
using support::RowMajor;
using Points = RowMajor<double, 2>;

/// Variance preserving, exploding, flow, none of them, and no signal at all.
const std::vector<Knot> levels = {{0, 0.9, std::sqrt(0.19)},
                                  {0, 0.3, std::sqrt(0.91)},
                                  {0, 1, 5},
                                  {0, 1, 0.02},
                                  {0, 0.7, 0.3},
                                  {0, 0.02, 0.98},
                                  {0, 0.6, 1.4},
                                  {0, 0, 1},
                                  {0, 0, 80}};

VectorXd random_vector(support::Random& random, Index n) {
  VectorXd v(n);
  for (double& value : v) value = random.normal();
  return v;
}
MatrixXd random_matrix(support::Random& random, Index rows, Index columns) {
  MatrixXd m(rows, columns);
  for (Index i = 0; i < m.size(); ++i) m.data()[i] = random.normal();
  return m;
}
MatrixXd random_rotation(support::Random& random, Index n) {
  return random_matrix(random, n, n).householderQr().householderQ();
}
MatrixXd random_covariance(support::Random& random, Index n) {
  const MatrixXd m = random_matrix(random, n, n);
  return m * m.transpose() / static_cast<double>(n) + 0.05 * MatrixXd::Identity(n, n);
}

/// Every kind of component.
GaussianMixture random_mixture(support::Random& random, Index n) {
  return {
      {.weight = 0.5, .gaussian = Gaussian(random_vector(random, n), random_covariance(random, n))},
      {.weight = 1.5, .gaussian = Gaussian::isotropic(2 * random_vector(random, n), 0.3)},
      {.weight = 1,
       .gaussian =
           Gaussian::diagonal(random_vector(random, n), random_vector(random, n).cwiseAbs2())}};
}

/// Within `tolerance` of the largest expected number or 1. NaN is not.
template <class A, class B>
bool close(const A& value, const B& expected, double tolerance) {
  if constexpr (std::is_arithmetic_v<A>) {
    return std::abs(value - expected) <= tolerance * std::max<double>(1, std::abs(expected));
  } else {
    const MatrixXd a = value, b = expected;
    if (a.rows() != b.rows() || a.cols() != b.cols()) return false;
    const double scale = std::max(1.0, b.cwiseAbs().maxCoeff());
    for (Index i = 0; i < a.size(); ++i)
      if (!(std::abs(a.data()[i] - b.data()[i]) <= tolerance * scale)) return false;
    return true;
  }
}

/// The derivative of f along v at x, central differences of fourth order: error h^4, and rounding
/// over h.
template <class F>
auto derivative(const F& f, const VectorXd& x, const VectorXd& v, double h) {
  const auto difference = [&](double step) {
    using Result = std::invoke_result_t<const F&, const VectorXd&>;
    const Result ahead = f(x + step * v), behind = f(x - step * v);
    return Result(ahead - behind);
  };
  using Result = std::invoke_result_t<const F&, const VectorXd&>;
  return Result((8 * difference(h) - difference(2 * h)) / (12 * h));
}
template <class F>
VectorXd gradient(const F& f, const VectorXd& x, double h) {
  VectorXd result(x.size());
  for (Index i = 0; i < x.size(); ++i) result[i] = derivative(f, x, VectorXd::Unit(x.size(), i), h);
  return result;
}

/// log N(x; mean, covariance), by a Cholesky decomposition.
double log_normal(const VectorXd& x, const VectorXd& mean, const MatrixXd& covariance) {
  const Eigen::LLT<MatrixXd> root(covariance);
  const VectorXd z = root.matrixL().solve(x - mean);
  const double log_det = 2 * root.matrixLLT().diagonal().array().log().sum();
  const auto d = static_cast<double>(x.size());
  return -(z.squaredNorm() + log_det + d * std::log(2 * std::numbers::pi)) / 2;
}
double density(const GaussianMixture& mixture, const VectorXd& x) {
  double sum = 0;
  for (int k = 0; k < mixture.size(); ++k) {
    const auto& [weight, gaussian] = mixture.component(k);
    sum += weight * std::exp(log_normal(x, gaussian.mean(), gaussian.covariance()));
  }
  return sum;
}

/// What integrals over x0 say of p(x0) likelihood(x0): the evidence, mean and covariance. The
/// trapezoidal rule, whose error for such functions is beyond double once the step is below their
/// width.
struct Integrals {
  double evidence = 0;
  VectorXd mean;
  MatrixXd covariance;
};
Integrals integrate(const GaussianMixture& prior, double low, double high, int count,
                    const std::function<double(const VectorXd&)>& likelihood) {
  const Index d = prior.dimension();
  const double step = (high - low) / (count - 1);
  Integrals result{0, VectorXd::Zero(d), MatrixXd::Zero(d, d)};
  const int rows = d == 1 ? 1 : count;
  for (int i = 0; i < count; ++i)
    for (int j = 0; j < rows; ++j) {
      VectorXd x0(d);
      x0[0] = low + i * step;
      if (d == 2) x0[1] = low + j * step;
      const double mass = density(prior, x0) * likelihood(x0) * std::pow(step, d);
      result.evidence += mass;
      result.mean += mass * x0;
      result.covariance += mass * x0 * x0.transpose();
    }
  result.mean /= result.evidence;
  result.covariance =
      result.covariance / result.evidence - result.mean * result.mean.transpose().eval();
  return result;
}

const GaussianMixture in_one_dimension = {
    {.weight = 2, .gaussian = Gaussian::isotropic(VectorXd::Constant(1, -0.8), 0.09)},
    {.weight = 1, .gaussian = Gaussian::isotropic(VectorXd::Constant(1, 1.1), 0.25)}};
const GaussianMixture in_two_dimensions = {
    {.weight = 1,
     .gaussian = Gaussian(Eigen::Vector2d(-0.7, 0.2), Eigen::Matrix2d{{0.3, 0.2}, {0.2, 0.4}})},
    {.weight = 3,
     .gaussian = Gaussian::diagonal(Eigen::Vector2d(0.9, -0.5), Eigen::Vector2d(0.2, 0.5))},
    {.weight = 2, .gaussian = Gaussian::isotropic(Eigen::Vector2d(0.3, 1), 0.25)}};

template <class F>
std::string message_of(F&& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

}  // namespace

// ---- one Gaussian ------------------------------------------------------------------------------

TEST_CASE(
    "A Gaussian's answers are those of conditioning the joint distribution of x0, eps and x") {
  support::Random random(1);
  for (const Index n : {1, 2, 5, 9}) {
    const VectorXd mean = random_vector(random, n);
    const MatrixXd C = random_covariance(random, n);
    const Gaussian data(mean, C);
    CHECK(close(data.covariance(), C, 1e-13));
    for (const Knot& at : levels) {
      const VectorXd x = 2 * random_vector(random, n);
      const MatrixXd D = at.alpha * at.alpha * C + at.sigma * at.sigma * MatrixXd::Identity(n, n);
      const VectorXd solved = D.llt().solve(x - at.alpha * mean);
      CAPTURE(n, at.alpha, at.sigma);
      CHECK(close(data.log_density(x, at), log_normal(x, at.alpha * mean, D), 1e-10));
      CHECK(close(data.score(x, at), -solved, 1e-10));
      CHECK(close(data.x0(x, at), mean + at.alpha * C * solved, 1e-10));
      CHECK(close(data.eps(x, at), at.sigma * solved, 1e-10));
      CHECK(
          close(data.x0_covariance(x, at), C - at.alpha * at.alpha * C * D.llt().solve(C), 1e-10));
      CHECK(close(data.noised(at).covariance(), D, 1e-12));
      CHECK(close(data.noised(at).mean(), at.alpha * mean, 1e-15));
    }
  }
}

TEST_CASE("Isotropic, diagonal, full and given axes say the same of the same Gaussian") {
  support::Random random(2);
  const Index n = 4;
  const VectorXd mean = random_vector(random, n);
  const VectorXd variances = random_vector(random, n).cwiseAbs2();
  const MatrixXd turn = random_rotation(random, n);
  const MatrixXd one = MatrixXd::Identity(n, n);
  const auto check = [&](const Gaussian& a, const Gaussian& b) {
    CHECK(close(a.covariance(), b.covariance(), 1e-13));
    for (const Knot& at : levels) {
      const VectorXd x = random_vector(random, n);
      CHECK(close(a.log_density(x, at), b.log_density(x, at), 1e-11));
      CHECK(close(a.score(x, at), b.score(x, at), 1e-11));
      CHECK(close(a.x0(x, at), b.x0(x, at), 1e-11));
      CHECK(close(a.eps(x, at), b.eps(x, at), 1e-11));
      CHECK(close(a.x0_covariance(x, at), b.x0_covariance(x, at), 1e-12));
      CHECK(close(a.x0_jacobian_times(x, at, mean), b.x0_jacobian_times(x, at, mean), 1e-11));
      CHECK(close(a.flow(x, at, levels[0]), b.flow(x, at, levels[0]), 1e-11));
    }
  };
  check(Gaussian::isotropic(mean, 0.7), Gaussian::diagonal(mean, VectorXd::Constant(n, 0.7)));
  check(Gaussian::isotropic(mean, 0.7), Gaussian(mean, 0.7 * one));
  check(Gaussian::diagonal(mean, variances), Gaussian(mean, variances.asDiagonal()));
  check(Gaussian::along_axes(mean, variances, turn),
        Gaussian(mean, turn * variances.asDiagonal() * turn.transpose()));
}

TEST_CASE("Data on a subspace stays there, and a point mass is always answered by its point") {
  support::Random random(3);
  const Index n = 5;
  const MatrixXd basis = random_matrix(random, n, 2);  // rank 2
  const VectorXd mean = random_vector(random, n);
  const Gaussian data(mean, basis * basis.transpose());
  CHECK((data.variances().array() == 0).count() == 3);
  const MatrixXd inside = basis * (basis.transpose() * basis).inverse() * basis.transpose();
  for (const Knot& at : levels) {
    const VectorXd x = random_vector(random, n);
    const VectorXd offset = data.x0(x, at) - mean;
    CHECK(close(inside * offset, offset, 1e-12));
    CHECK(close(at.alpha * data.x0(x, at) + at.sigma * data.eps(x, at), x, 1e-12));
    const Gaussian point = Gaussian::isotropic(mean, 0);
    CHECK(point.x0(x, at) == mean);
    CHECK(close(point.eps(x, at), (x - at.alpha * mean) / at.sigma, 1e-12));
    CHECK(point.x0_covariance(x, at).cwiseAbs().maxCoeff() == 0);
  }
  const VectorXd drawn = data.from_normals(random_vector(random, n)) - mean;
  CHECK(close(inside * drawn, drawn, 1e-12));
}

TEST_CASE("The probability flow keeps the standardised deviation, there and back") {
  support::Random random(4);
  const Gaussian data(random_vector(random, 4), random_covariance(random, 4));
  for (const Knot& from : levels)
    for (const Knot& to : levels) {
      const VectorXd x = random_vector(random, 4), y = data.flow(x, from, to);
      const auto deviation = [&](const VectorXd& z, const Knot& at) {
        const MatrixXd D = data.noised(at).covariance();
        return (z - at.alpha * data.mean()).dot(D.llt().solve(z - at.alpha * data.mean()));
      };
      CHECK(close(deviation(y, to), deviation(x, from), 1e-9));
      CHECK(close(data.flow(y, to, from), x, 1e-10));
    }
}

TEST_CASE("DDIM in many steps follows a full covariance's probability flow, at first order") {
  support::Random random(5);
  const Gaussian data(random_vector(random, 6), random_covariance(random, 6));
  const auto check = [&](const auto& schedule, PredictionType type) {
    using S = std::remove_cvref_t<decltype(schedule)>;
    std::vector<double> errors;
    for (int steps = 160; steps <= 1280; steps *= 2) {
      const DdimOptions options{.steps = steps, .grid = {.set_alpha_to_one = false}};
      const SamplingPlan plan = DdimSampler<S>{schedule, options}.plan();
      const Knot from = plan[0].at, to = plan[steps - 1].to;
      const VectorXd start =
          from.alpha * data.mean() + from.sigma * VectorXd::LinSpaced(6, -1, 1.5);
      Points x(1, 6);
      for (Index i = 0; i < 6; ++i) x(0, i) = start[i];
      const auto network = exact_denoiser(data, type);
      REQUIRE(sample_in_place(plan, network, x, PhiloxNoise{1}).done());
      const VectorXd exact = data.flow(start, from, to);
      errors.push_back((Eigen::Map<VectorXd>(x.data(), 6) - exact).cwiseAbs().maxCoeff());
    }
    for (std::size_t i = 0; i + 1 < errors.size(); ++i) {
      CAPTURE(i, errors[i], errors[i + 1]);
      CHECK(std::log2(errors[i] / errors[i + 1]) > 0.85);
      CHECK(std::log2(errors[i] / errors[i + 1]) < 1.15);
    }
    CHECK(errors.back() < 0.02);
  };
  check(VpLinear(), PredictionType::epsilon);
  check(VpCosine(), PredictionType::v);
  check(RectifiedFlow(), PredictionType::flow);
  check(VarianceExploding(), PredictionType::score);
}

// ---- mixtures ----------------------------------------------------------------------------------

TEST_CASE("Every answer of a mixture is what quadrature over x0 gives") {
  const auto check = [](const GaussianMixture& data, const VectorXd& x, const Knot& at, int count) {
    CAPTURE(data.dimension(), at.alpha, at.sigma);
    const auto likelihood = [&](const VectorXd& x0) {
      const auto d = static_cast<double>(x.size());
      return std::exp(-(x - at.alpha * x0).squaredNorm() / (2 * at.sigma * at.sigma)) /
             std::pow(2 * std::numbers::pi * at.sigma * at.sigma, d / 2);
    };
    const Integrals expected = integrate(data, -7, 7, count, likelihood);
    CHECK(data.log_density(x, at) == Approx(std::log(expected.evidence)).epsilon(1e-10));
    CHECK(close(data.x0(x, at), expected.mean, 1e-10));
    CHECK(close(data.eps(x, at), (x - at.alpha * expected.mean) / at.sigma, 1e-9));
    CHECK(close(data.x0_covariance(x, at), expected.covariance, 1e-9));
    const VectorXd p = data.posterior(x, at);
    for (int k = 0; k < data.size(); ++k) {
      const GaussianMixture alone{{.weight = 1, .gaussian = data.component(k).gaussian}};
      const double part =
          data.component(k).weight * integrate(alone, -7, 7, count, likelihood).evidence;
      CHECK(close(p[k], part / expected.evidence, 1e-10));
    }
  };
  for (const Knot& at : levels) {
    if (at.sigma < 0.1) continue;  // narrower than the steps
    check(in_one_dimension, VectorXd::Constant(1, 0.4), at, 1500);
    check(in_two_dimensions, Eigen::Vector2d(0.3, -0.4), at, 150);
  }
}

TEST_CASE("Scores, classifier gradients and Jacobians are the derivatives that they claim to be") {
  support::Random random(6);
  for (const Index n : {1, 3, 8}) {
    const GaussianMixture data = random_mixture(random, n);
    for (const Knot& at : levels) {
      CAPTURE(n, at.alpha, at.sigma);
      const double h = 3e-3 * at.sigma;
      const VectorXd x = at.alpha * data.component(1).gaussian.mean() +
                         (0.5 * at.alpha + at.sigma) * random_vector(random, n);
      const double unit = 1 / at.sigma;  // of a score
      const auto log_density = [&](const VectorXd& y) { return data.log_density(y, at); };
      CHECK(close(data.score(x, at) / unit, gradient(log_density, x, h) / unit, 1e-8));
      for (int k = 0; k < data.size(); ++k) {
        const auto log_posterior = [&](const VectorXd& y) { return data.log_posterior(y, at)[k]; };
        CHECK(close(data.log_posterior_gradient(k, x, at) / unit,
                    gradient(log_posterior, x, h) / unit, 1e-8));
      }
      const VectorXd v = random_vector(random, n);
      const auto x0 = [&](const VectorXd& y) { return VectorXd(data.x0(y, at)); };
      const VectorXd product = data.x0_jacobian_times(x, at, v);
      CHECK(close(product, derivative(x0, x, v, h), 1e-7));
      CHECK(close(product, at.alpha / (at.sigma * at.sigma) * data.x0_covariance(x, at) * v, 1e-9));
    }
  }
}

TEST_CASE("Tweedie's identity holds at every level, and alpha x0 + sigma eps is x") {
  support::Random random(7);
  const GaussianMixture data = random_mixture(random, 4);
  for (const Knot& at : levels)
    for (const double far : {1.0, 30.0, 1e6}) {
      const VectorXd x = far * random_vector(random, 4);
      const VectorXd score = data.score(x, at), x0 = data.x0(x, at), eps = data.eps(x, at);
      CHECK(close(eps, -at.sigma * score, 1e-12));
      CHECK(close(at.alpha * x0 + at.sigma * eps, x, 1e-12));
      CHECK(close(at.alpha * x0 - at.sigma * at.sigma * score, x, 1e-12));
      if (at.alpha == 0) CHECK(close(x0, data.mean(), far > 100 ? 1e-3 : 1e-12));  // x^2 cancels
    }
}

TEST_CASE("A mixture of one component is its Gaussian, bit for bit") {
  support::Random random(8);
  const Gaussian one(random_vector(random, 3), random_covariance(random, 3));
  const GaussianMixture mixture = one;
  for (const Knot& at : levels) {
    const VectorXd x = random_vector(random, 3), v = random_vector(random, 3);
    CHECK(mixture.log_density(x, at) == one.log_density(x, at));
    CHECK(mixture.score(x, at) == one.score(x, at));
    CHECK(mixture.x0(x, at) == one.x0(x, at));
    CHECK(mixture.eps(x, at) == one.eps(x, at));
    CHECK(mixture.x0_covariance(x, at) == one.x0_covariance(x, at));
    CHECK(mixture.x0_jacobian_times(x, at, v) == one.x0_jacobian_times(x, at, v));
    CHECK(mixture.posterior(x, at)[0] == 1);
    CHECK(mixture.log_posterior_gradient(0, x, at).cwiseAbs().maxCoeff() == 0);
  }
  const VectorXd z = random_vector(random, 4);
  CHECK(mixture.from_normals(z) == one.from_normals(z.head(3)));
}

TEST_CASE("Turning the data turns the answers; the order of components does not matter") {
  support::Random random(9);
  const Index n = 4;
  const GaussianMixture data = random_mixture(random, n);
  const MatrixXd turn = random_rotation(random, n);
  std::vector<WeightedGaussian> turned, reversed;
  for (int k = 0; k < data.size(); ++k) {
    const auto& [weight, g] = data.component(k);
    turned.push_back({weight, Gaussian(turn * g.mean(), turn * g.covariance() * turn.transpose())});
    reversed.insert(reversed.begin(), data.component(k));
  }
  const GaussianMixture other(turned), backwards(reversed);
  for (const Knot& at : levels) {
    const VectorXd x = 2 * random_vector(random, n);
    CHECK(close(other.log_density(turn * x, at), data.log_density(x, at), 1e-10));
    CHECK(close(other.x0(turn * x, at), turn * data.x0(x, at), 1e-10));
    CHECK(close(other.eps(turn * x, at), turn * data.eps(x, at), 1e-10));
    CHECK(close(other.x0_covariance(turn * x, at),
                turn * data.x0_covariance(x, at) * turn.transpose(), 1e-10));
    CHECK(close(other.posterior(turn * x, at), data.posterior(x, at), 1e-10));
    CHECK(close(backwards.x0(x, at), data.x0(x, at), 1e-13));
    CHECK(close(backwards.posterior(x, at).reverse(), data.posterior(x, at), 1e-13));
  }
}

TEST_CASE("Moments, levels and classes of a mixture agree with each other") {
  support::Random random(10);
  const GaussianMixture data = random_mixture(random, 3);
  const Knot none{0, 0, 1};
  const VectorXd anywhere = random_vector(random, 3);
  CHECK(close(data.mean(), data.x0(anywhere, none), 1e-12));  // x tells nothing
  CHECK(close(data.covariance(), data.x0_covariance(anywhere, none), 1e-12));
  const Knot clean{0, 1, 0};
  for (const Knot& at : levels) {
    const VectorXd x = random_vector(random, 3);
    CHECK(close(data.noised(at).log_density(x, clean), data.log_density(x, at), 1e-10));
    // A class of two components: p(class | x) = p(class) p(x | class) / p(x).
    const double weight = data.component(0).weight + data.component(2).weight;
    const VectorXd p = data.posterior(x, at);
    CHECK(close(std::log(weight) + data.only({0, 2}).log_density(x, at) - data.log_density(x, at),
                std::log(p[0] + p[2]), 1e-10));
    CHECK(close(p.sum(), 1, 1e-14));
  }
}

TEST_CASE("Far from the data and between very different scales nothing overflows") {
  const GaussianMixture data = {
      {.weight = 1e-300, .gaussian = Gaussian::isotropic(Eigen::Vector2d(0, 0), 1e-12)},
      {.weight = 1, .gaussian = Gaussian::isotropic(Eigen::Vector2d(5, 0), 1e-12)}};
  const Knot at{0, 1, 1e-4};
  for (const double distance : {0.0, 2.6, 1e3, 1e9}) {
    const Eigen::Vector2d x(-distance, 0.1);
    const VectorXd p = data.posterior(x, at);
    CHECK(p[0] == Approx(1));  // nearer, whatever its weight
    CHECK(detail::is_finite(data.log_posterior(x, at)[1]));
    CHECK(close(data.x0(x, at), data.component(0).gaussian.x0(x, at), 1e-12));
    CHECK(data.score(x, at).allFinite());
    CHECK(data.x0_covariance(x, at).allFinite());
  }
  const double nan = std::nan("");
  CHECK(!data.x0(Eigen::Vector2d(nan, 0), at).allFinite());  // not hidden
}

TEST_CASE("A finite data set is answered by the points that are near") {
  MatrixXd points{{0, 1, 4}, {0, 2, -1}};
  const auto data = GaussianMixture::about_points(points, 0);
  const Knot near{0, 0.8, 0.05}, none{0, 0, 1};
  CHECK(close(data.x0(0.8 * points.col(1) + Eigen::Vector2d(0.03, -0.02), near), points.col(1),
              1e-12));
  CHECK(close(data.x0(Eigen::Vector2d(3, 3), none), points.rowwise().mean(), 1e-14));
  const Eigen::Vector2d z(0.4, 0.9);
  Eigen::Vector3d weight;
  for (Index i = 0; i < 3; ++i)
    weight[i] = std::exp(-(z - 0.5 * points.col(i)).squaredNorm() / (2 * 0.49));
  CHECK(close(data.x0(z, {0, 0.5, 0.7}), points * weight / weight.sum(), 1e-13));
}

TEST_CASE("Without noise x0 is x / alpha and eps is 0, for singular data too") {
  support::Random random(11);
  const Knot clean{0, 0.5, 0};
  const GaussianMixture data = random_mixture(random, 3);
  const GaussianMixture points = GaussianMixture::about_points(random_matrix(random, 3, 4), 0);
  const VectorXd x = random_vector(random, 3), v = random_vector(random, 3);
  for (const GaussianMixture* mixture : {&data, &points}) {
    CHECK(mixture->x0(x, clean) == 2 * x);
    CHECK(mixture->eps(x, clean) == VectorXd::Zero(3));
    CHECK(mixture->x0_covariance(x, clean) == MatrixXd::Zero(3, 3));
    CHECK(mixture->x0_jacobian_times(x, clean, v) == 2 * v);
  }
  CHECK(std::exp(data.log_density(x, clean)) == Approx(density(data, 2 * x) * 8).epsilon(1e-10));
  const auto log_density = [&](const VectorXd& y) { return data.log_density(y, clean); };
  CHECK(close(data.score(x, clean), gradient(log_density, x, 1e-3), 1e-7));
  CHECK(message_of([&] { points.score(x, clean); }).find("sigma must be positive") !=
        std::string::npos);
}

// ---- linear measurements -----------------------------------------------------------------------

TEST_CASE("A Gaussian posterior is that of the information form") {
  support::Random random(12);
  for (const Index n : {1, 3, 6})
    for (const Index m : {1, 2, 8}) {
      const Gaussian prior(random_vector(random, n), random_covariance(random, n));
      const LinearMeasurement measured{random_matrix(random, m, n), random_vector(random, m),
                                       random_covariance(random, m)};
      const auto& [A, y, R] = measured;
      const MatrixXd C = prior.covariance();
      const MatrixXd expected = (C.inverse() + A.transpose() * R.inverse() * A).inverse();
      const VectorXd mean =
          expected * (C.inverse() * prior.mean() + A.transpose() * R.inverse() * y);
      const Gaussian result = posterior(prior, measured);
      CAPTURE(n, m);
      CHECK(close(result.covariance(), expected, 1e-9));
      CHECK(close(result.mean(), mean, 1e-9));
      const MatrixXd S = A * C * A.transpose() + R;
      CHECK(close(log_evidence(prior, measured), log_normal(y, A * prior.mean(), S), 1e-9));
    }
}

TEST_CASE("A mixture's posterior is what quadrature gives") {
  const LinearMeasurement measured{MatrixXd{{0.8, -0.5}}, VectorXd::Constant(1, 0.3),
                                   MatrixXd::Constant(1, 1, 0.2)};
  const auto likelihood = [&](const VectorXd& x0) {
    return std::exp(log_normal(measured.y, measured.A * x0, measured.R));
  };
  const Integrals expected = integrate(in_two_dimensions, -7, 7, 200, likelihood);
  const GaussianMixture result = posterior(in_two_dimensions, measured);
  CHECK(close(result.mean(), expected.mean, 1e-10));
  CHECK(close(result.covariance(), expected.covariance, 1e-10));
  CHECK(log_evidence(in_two_dimensions, measured) ==
        Approx(std::log(expected.evidence)).epsilon(1e-10));
  for (int k = 0; k < result.size(); ++k) {
    const GaussianMixture alone = in_two_dimensions.component(k).gaussian;
    const double part = integrate(alone, -7, 7, 200, likelihood).evidence;
    CHECK(close(result.component(k).weight,
                in_two_dimensions.component(k).weight * part / expected.evidence, 1e-10));
  }
}

TEST_CASE(
    "A noisy state is a measurement: its posterior has the mean x0 and the covariance of x0") {
  support::Random random(13);
  const GaussianMixture data = random_mixture(random, 3);
  for (const Knot& at : levels) {
    const VectorXd x = random_vector(random, 3);
    const MatrixXd one = MatrixXd::Identity(3, 3);
    const LinearMeasurement measured{at.alpha * one, x, at.sigma * at.sigma * one};
    const GaussianMixture result = posterior(data, measured);
    CHECK(close(result.mean(), data.x0(x, at), 1e-10));
    CHECK(close(result.covariance(), data.x0_covariance(x, at), 1e-10));
    CHECK(close(log_evidence(data, measured), data.log_density(x, at), 1e-10));
  }
}

TEST_CASE("Two measurements may be taken one after the other; none leaves the prior") {
  support::Random random(14);
  const GaussianMixture prior = random_mixture(random, 4);
  const LinearMeasurement first{random_matrix(random, 1, 4), random_vector(random, 1),
                                random_covariance(random, 1)};
  const LinearMeasurement second{random_matrix(random, 2, 4), random_vector(random, 2),
                                 random_covariance(random, 2)};
  LinearMeasurement both{MatrixXd(3, 4), VectorXd(3), MatrixXd::Zero(3, 3)};
  both.A << first.A, second.A;
  both.y << first.y, second.y;
  both.R.topLeftCorner(1, 1) = first.R;
  both.R.bottomRightCorner(2, 2) = second.R;
  const GaussianMixture once = posterior(prior, both);
  const GaussianMixture twice = posterior(posterior(prior, first), second);
  CHECK(close(twice.mean(), once.mean(), 1e-10));
  CHECK(close(twice.covariance(), once.covariance(), 1e-10));
  for (int k = 0; k < once.size(); ++k)
    CHECK(close(twice.component(k).weight, once.component(k).weight, 1e-10));
  CHECK(close(log_evidence(prior, first) + log_evidence(posterior(prior, first), second),
              log_evidence(prior, both), 1e-10));

  const LinearMeasurement nothing{MatrixXd(0, 4), VectorXd(0), MatrixXd(0, 0)};
  CHECK(close(posterior(prior, nothing).mean(), prior.mean(), 1e-12));
  CHECK(close(posterior(prior, nothing).covariance(), prior.covariance(), 1e-12));
}

TEST_CASE("Without noise in the measurement the posterior lies where A x0 = y") {
  support::Random random(15);
  const Gaussian prior(random_vector(random, 5), random_covariance(random, 5));
  LinearMeasurement measured{random_matrix(random, 2, 5), random_vector(random, 2),
                             MatrixXd::Zero(2, 2)};
  const Gaussian result = posterior(prior, measured);
  CHECK((result.variances().array() == 0).count() == 2);
  CHECK(close(measured.A * result.mean(), measured.y, 1e-10));
  for (int i = 0; i < 5; ++i)
    CHECK(close(measured.A * result.from_normals(random_vector(random, 5)), measured.y, 1e-7));
  // It is the limit of little noise.
  measured.R = 1e-9 * MatrixXd::Identity(2, 2);
  CHECK(close(result.mean(), posterior(prior, measured).mean(), 1e-7));
  CHECK(close(result.covariance(), posterior(prior, measured).covariance(), 1e-7));
  // All of x0 measured: one point. Twice the same row: allowed if it says twice the same.
  const VectorXd y = random_vector(random, 5);
  const Gaussian point = posterior(prior, {MatrixXd::Identity(5, 5), y, MatrixXd::Zero(5, 5)});
  CHECK(close(point.mean(), y, 1e-10));
  CHECK(point.variances().maxCoeff() < 1e-12);
  MatrixXd rows(2, 5);
  rows << measured.A.row(0), measured.A.row(0);
  const auto again = [&](double a, double b) {
    return posterior(prior, {rows, Eigen::Vector2d(a, b), MatrixXd::Zero(2, 2)});
  };
  CHECK(close(rows * again(0.7, 0.7).mean(), Eigen::Vector2d(0.7, 0.7), 1e-10));
  CHECK(message_of([&] { again(0.7, 0.8); }).find("outside of what the prior and R can give") !=
        std::string::npos);
}

// ---- as a denoiser -----------------------------------------------------------------------------

namespace {

/// One sample of 6 elements, whatever the type's rank and layout.
template <class T>
void check_state(const ShapeOf<T>& shape, double tolerance) {
  support::Random random(16);
  const GaussianMixture data = random_mixture(random, 6);
  const Blocks blocks = blocks_of<T>(shape, true);
  REQUIRE(blocks.size == 6);
  const T x = support::tensor_of<T>(shape, random.normals(blocks.total()));
  const Query query{.t = 3, .alpha = 0.6, .sigma = 0.8};
  for (const PredictionType type : all_prediction_types) {
    T out = StateTraits<T>::make(shape);
    const auto network = exact_denoiser(data, type);
    network(x, query, out);
    CHECK(network.prediction_type() == type);
    const auto [on_x0, on_eps] = support::definition(type, 0.6, 0.8);
    for (std::size_t sample = 0; sample < blocks.batch; ++sample) {
      VectorXd point(6), answer(6);
      for (Index i = 0; i < 6; ++i) {
        point[i] = static_cast<double>(x.data()[sample * 6 + static_cast<std::size_t>(i)]);
        answer[i] = static_cast<double>(out.data()[sample * 6 + static_cast<std::size_t>(i)]);
      }
      const Knot at{0, 0.6, 0.8};
      CHECK(close(answer, on_x0 * data.x0(point, at) + on_eps * data.eps(point, at), tolerance));
    }
  }
}

}  // namespace

TEST_CASE("The denoiser takes states of any rank, layout and scalar, a sample as one point") {
  check_state<RowMajor<double, 2>>({3, 6}, 1e-13);
  check_state<RowMajor<double, 4>>({3, 1, 2, 3}, 1e-13);
  check_state<ColMajor<double, 3>>({2, 3, 4}, 1e-13);
  check_state<RowMajor<float, 3>>({2, 3, 2}, 2e-7);
  check_state<RowMajor<Eigen::half, 2>>({3, 6}, 1e-3);
  check_state<RowMajor<Eigen::bfloat16, 2>>({3, 6}, 8e-3);
  check_state<MatrixXd>({6, 4}, 1e-13);  // a sample in each column
}

TEST_CASE("A sample's answer does not depend on its batch, and a state may be one sample") {
  support::Random random(17);
  const auto network = exact_denoiser(random_mixture(random, 4));
  const Query query{.alpha = 0.5, .sigma = 0.9};
  const auto x = support::tensor_of<Points>({5, 4}, random.normals(20));
  Points out(5, 4);
  network(x, query, out);
  for (Index i = 0; i < 5; ++i) {
    const Points one = x.slice(Eigen::array<Index, 2>{i, 0}, Eigen::array<Index, 2>{1, 4});
    Points answer(1, 4);
    network(one, query, answer);
    for (Index k = 0; k < 4; ++k) CHECK(answer(0, k) == out(i, k));
    const RowMajor<double, 2> whole = one.reshape(Eigen::array<Index, 2>{2, 2});
    Points square(2, 2);
    network(whole, {.alpha = 0.5, .sigma = 0.9, .batched = false}, square);
    CHECK(support::same_bits(square, answer));
  }
}

TEST_CASE("All prediction types sample the same, and the prediction type need not be told") {
  support::Random random(18);
  const GaussianMixture data = random_mixture(random, 2);
  const SamplingPlan plan = DdimSampler{VpLinear(), {.steps = 25, .eta = 0.5}}.plan();
  const Points expected = sample<Points>(plan, exact_denoiser(data), {20, 2}, PhiloxNoise{3});
  for (const PredictionType type : all_prediction_types) {
    const Points x = sample<Points>(plan, exact_denoiser(data, type), {20, 2}, PhiloxNoise{3});
    CHECK(support::relative_error(support::values_of(x), support::values_of(expected)) < 1e-9);
  }
}

TEST_CASE("A plan that scales the network's input samples the same") {
  support::Random random(19);
  const GaussianMixture data = random_mixture(random, 2);
  const SamplingPlan plan = DdimSampler{VpLinear(), {.steps = 25, .eta = 0.5}}.plan();
  std::vector<Stage> rows(plan.stages().begin(), plan.stages().end());
  for (Stage& row : rows) row.input_scale = 0.25 + row.at.sigma;
  const SamplingPlan scaled(rows, plan.traits());
  const Points expected = sample<Points>(plan, exact_denoiser(data), {20, 2}, PhiloxNoise{3});
  for (const PredictionType type : all_prediction_types) {
    const Points x = sample<Points>(scaled, exact_denoiser(data, type), {20, 2}, PhiloxNoise{3});
    CHECK(support::relative_error(support::values_of(x), support::values_of(expected)) < 1e-9);
  }
}

TEST_CASE("Samplers arrive at the data: shares and moments of a mixture, drawn and sampled") {
  const GaussianMixture& data = in_two_dimensions;
  const Index count = 5'000;
  const auto check = [&](const Points& x, double bias) {
    VectorXd mean = VectorXd::Zero(2), shares = VectorXd::Zero(3);
    MatrixXd squares = MatrixXd::Zero(2, 2);
    const Knot clean{0, 1, 0};
    for (Index i = 0; i < count; ++i) {
      const Eigen::Vector2d point(x(i, 0), x(i, 1));
      mean += point / static_cast<double>(count);
      squares += point * point.transpose() / static_cast<double>(count);
      shares += data.posterior(point, clean) / static_cast<double>(count);
    }
    const MatrixXd covariance = squares - mean * mean.transpose();
    const double five = 5 / std::sqrt(static_cast<double>(count));  // standard errors of order 1
    CHECK(close(mean, data.mean(), five + bias));
    CHECK(close(covariance, data.covariance(), 2 * five + bias));
    for (int k = 0; k < 3; ++k)
      CHECK(std::abs(shares[k] - data.component(k).weight) < five / 2 + bias);
  };
  check(draw_data<Points>(data, {count, 2}, PhiloxNoise{5}), 0);
  const auto network = exact_denoiser(data, PredictionType::v);
  check(sample<Points>(DdpmSampler{VpCosine(), {.steps = 50}}, network, {count, 2}, PhiloxNoise{6}),
        0.03);
  check(sample<Points>(DdimSampler{VpCosine(), {.steps = 50}}, network, {count, 2}, PhiloxNoise{7}),
        0.03);
}

namespace {

/// 0.25, 0.5, 0.75, ...
struct Counting {
  double next = 0;
  void fill(std::span<float> out) { write(out); }
  void fill(std::span<double> out) { write(out); }

 private:
  template <class S>
  void write(std::span<S> out) {
    for (S& value : out) value = static_cast<S>(next += 0.25);
  }
};

}  // namespace

TEST_CASE("Drawn data is the same alone and in a batch, and comes from sequential sources too") {
  const GaussianMixture& data = in_two_dimensions;
  const Points many = draw_data<Points>(data, {7, 2}, PhiloxNoise{5});
  const Points one = draw_data<Points>(data, {1, 2}, PhiloxNoise{5, 6});
  CHECK(one(0, 0) == many(6, 0));
  CHECK(one(0, 1) == many(6, 1));
  Counting counting;
  const Points drawn =
      draw_data<Points>(Gaussian::isotropic(Eigen::Vector2d(1, 2), 4), {2, 2}, counting);
  CHECK(drawn(0, 0) == 1 + 2 * 0.25);
  CHECK(drawn(1, 1) == 2 + 2 * 1.0);
}

TEST_CASE("Sampling with the posterior's denoiser solves the inverse problem") {
  const LinearMeasurement measured{MatrixXd{{1, 0}}, VectorXd::Constant(1, 0.4),
                                   MatrixXd::Constant(1, 1, 0.01)};
  const GaussianMixture exact = posterior(in_two_dimensions, measured);
  const Index count = 4'000;
  const Points x =
      sample<Points>(DdimSampler{VpCosine(), {.steps = 50}},
                     exact_denoiser(exact, PredictionType::v), {count, 2}, PhiloxNoise{8});
  const Eigen::Map<const Eigen::Matrix2Xd> points(x.data(), 2, count);
  const VectorXd mean = points.rowwise().mean();
  CHECK(close(mean, exact.mean(), 0.05));
  CHECK(std::abs(mean[0] - 0.4) < 0.05);
  const MatrixXd centered = points.colwise() - mean;
  const MatrixXd covariance = centered * centered.transpose() / static_cast<double>(count);
  CHECK(close(covariance, exact.covariance(), 0.07));
}

// ---- guidance ----------------------------------------------------------------------------------

TEST_CASE("Guided by its own classes a mixture gives them at scale 1 and itself at scale 0") {
  support::Random random(19);
  const GaussianMixture data = random_mixture(random, 2);
  const SamplingPlan plan = DdimSampler{VpCosine(), {.steps = 20}}.plan();
  const auto type = PredictionType::v;
  const std::vector<int> classes{0, 2, 1, 1};
  for (const GuidanceCalls calls : {GuidanceCalls::joined, GuidanceCalls::separate}) {
    const auto run = [&](double scale) {
      return sample<Points>(
          plan,
          ClassifierFreeGuidance{exact_conditional_denoiser(data, type), classes, -1,
                                 GuidanceOptions{.scale = scale, .calls = calls}},
          {4, 2}, PhiloxNoise{9});
    };
    const Points none = run(0), full = run(1);
    const Points expected =
        sample<Points>(plan, exact_denoiser(data, type), {4, 2}, PhiloxNoise{9});
    CHECK(support::relative_error(support::values_of(none), support::values_of(expected)) < 1e-12);
    for (std::size_t i = 0; i < 4; ++i) {
      const Points one =
          sample<Points>(plan, exact_denoiser(data.component(classes[i]).gaussian, type), {1, 2},
                         PhiloxNoise{9, i});
      for (Index k = 0; k < 2; ++k)
        CHECK(full(static_cast<Index>(i), k) == Approx(one(0, k)).epsilon(1e-12).margin(1e-12));
    }
  }
}

TEST_CASE("Guidance between N(0, 1) and N(0, 2) gives the variance 2^(1 - g)") {
  const auto centered = [](double variance) {
    return GaussianMixture(Gaussian::isotropic(VectorXd::Zero(1), variance));
  };
  const auto schedule = VarianceExploding({.sigma_min = 0.01, .sigma_max = 200});
  const SamplingPlan plan = DdimSampler{schedule, {.steps = 1000}}.plan();
  for (const double g : {-1.0, 0.0, 1.0, 2.0, 4.0}) {
    const ExactConditionalDenoiser network({centered(1)}, centered(2));
    Points x(1, 1);
    x.setConstant(plan[0].at.sigma);  // one standard deviation; the flow is linear
    ClassifierFreeGuidance guided{network, std::vector<int>{0}, -1, GuidanceOptions{.scale = g}};
    REQUIRE(sample_in_place(plan, guided, x, PhiloxNoise{1}).done());
    CHECK(x(0, 0) * x(0, 0) == Approx(std::pow(2, 1 - g)).epsilon(0.02));
  }
}

// ---- errors and threads ------------------------------------------------------------------------

TEST_CASE("What does not fit is refused by name") {
  const Eigen::Vector2d mean(1, 2);
  const Eigen::Matrix2d one = Eigen::Matrix2d::Identity();
  const double infinity = std::numeric_limits<double>::infinity();
  const Gaussian good(mean, one);
  const auto expect = [](const char* part, const std::function<void()>& f) {
    const std::string message = message_of(f);
    CAPTURE(message, part);
    CHECK(message.find(part) != std::string::npos);
  };
  expect("it must have 2", [&] { Gaussian(mean, MatrixXd::Identity(3, 3)); });
  expect("it must be square", [&] { Gaussian(mean, MatrixXd::Zero(2, 3)); });
  expect("it must be symmetric", [&] { Gaussian(mean, Eigen::Matrix2d{{1, 0.5}, {0, 1}}); });
  expect("none may be negative", [&] { Gaussian(mean, Eigen::Matrix2d{{1, 2}, {2, 1}}); });
  expect("must be finite", [&] { Gaussian(mean, infinity * one); });
  expect("must be finite", [&] { Gaussian(infinity * mean, one); });
  expect("must be finite", [&] { Gaussian::isotropic(mean, std::nan("")); });
  expect("the size of the mean is 0", [&] { Gaussian::isotropic(VectorXd(0), 1); });
  expect("least variance is -1", [&] { Gaussian::isotropic(mean, -1); });
  expect("the list of variances has 3", [&] { Gaussian::diagonal(mean, VectorXd::Ones(3)); });
  expect("must be orthonormal", [&] { Gaussian::along_axes(mean, mean, 2 * one); });
  expect("axes holds", [&] {
    MatrixXd axes = one;
    axes(0, 0) = std::nan("");
    Gaussian::along_axes(mean, mean, axes);
  });
  expect("the size of the mean is 0",
         [&] { Gaussian::along_axes(VectorXd(0), VectorXd(0), MatrixXd(0, 0)); });
  expect("x has 3 elements", [&] { good.x0(VectorXd::Zero(3), {0, 1, 1}); });
  expect("x has 3 elements", [&] { good.x0_covariance(VectorXd::Zero(3), {0, 1, 1}); });
  expect("v has 1 elements", [&] { good.x0_jacobian_times(mean, {0, 1, 1}, VectorXd::Zero(1)); });
  expect("both 0", [&] { good.score(mean, {0, 0, 0}); });
  expect("alpha of the knot is -1", [&] { good.x0(mean, {0, -1, 1}); });
  expect("sigma of the knot is inf", [&] { good.eps(mean, {0, 1, infinity}); });
  expect("no density", [&] { Gaussian::isotropic(mean, 0).log_density(mean, {0, 1, 0}); });
  expect("list of normals has 3", [&] { good.from_normals(VectorXd::Zero(3)); });

  expect("number of components is 0", [] { GaussianMixture(std::vector<WeightedGaussian>{}); });
  expect("weight of a component is 0", [&] { GaussianMixture{{0, good}}; });
  expect("weight of a component is -1", [&] { GaussianMixture{{1, good}, {-1, good}}; });
  expect("mean of a component has 1", [&] {
    GaussianMixture{{1, good}, {1, Gaussian::isotropic(VectorXd::Zero(1), 1)}};
  });
  expect("component is 1", [&] { GaussianMixture(good).component(1); });
  expect("component is -1", [&] {
    GaussianMixture(good).log_posterior_gradient(-1, mean, {0, 1, 1});
  });
  expect("number of components is 0", [&] { GaussianMixture(good).only({}); });

  const LinearMeasurement measured{one, mean, one};
  const auto wrong = [&](auto change) {
    LinearMeasurement m = measured;
    change(m);
    posterior(good, m);
  };
  expect("a row of A", [&] { wrong([](auto& m) { m.A = MatrixXd::Zero(2, 3); }); });
  expect("y has 3", [&] { wrong([](auto& m) { m.y = VectorXd::Zero(3); }); });
  expect("y holds", [&] { wrong([&](auto& m) { m.y[0] = infinity; }); });
  expect("A holds", [&] { wrong([&](auto& m) { m.A(0, 0) = infinity; }); });
  expect("a column of R", [&] { wrong([](auto& m) { m.R = MatrixXd::Zero(3, 3); }); });
  expect("R has the eigenvalue -1", [&] { wrong([](auto& m) { m.R = -m.R; }); });
  expect("y has no density", [&] {
    const Gaussian point = Gaussian::isotropic(mean, 0);
    posterior(GaussianMixture{{1, point}, {1, good}}, {one, mean, MatrixXd::Zero(2, 2)});
  });

  const auto network = exact_denoiser(good);
  Points x(4, 3), out(4, 3);
  x.setZero();
  expect("has 3 elements; the distribution has 2", [&] { network(x, Query{.sigma = 1}, out); });
  expect("has 3 elements", [&] {
    sample<Points>(DdimSampler{VpLinear(), {.steps = 2}}, network, {4, 3}, PhiloxNoise{1});
  });
  expect("has 3 elements", [&] { draw_data<Points>(good, {4, 3}, PhiloxNoise{1}); });
  Points fitting(4, 2), wide(4, 4);
  fitting.setZero();
  expect("answers no variance", [&] { network(fitting, Query{.sigma = 1}, wide); });
  const std::vector<double> times(4);
  expect("needs one time for all samples",
         [&] { network(fitting, Query{.sigma = 1, .times = times}, fitting); });
  expect("prediction type number 9",
         [&] { exact_denoiser(good, static_cast<PredictionType::Kind>(9)); });
  expect("no density", [&] {
    exact_prediction(Gaussian::isotropic(mean, 0), PredictionType::score, mean, {0, 1, 0});
  });
  expect("number of classes is 0", [&] { ExactConditionalDenoiser({}, good); });
  expect("condition is 1", [&] {
    const ExactConditionalDenoiser conditional({GaussianMixture(good)}, good);
    Points to(4, 2);
    conditional(fitting, Query{.sigma = 1}, std::vector<int>{0, 0, -1, 1}, to);
  });
}

TEST_CASE("One denoiser answers several threads at once") {
  support::Random random(20);
  const auto network = exact_denoiser(random_mixture(random, 5), PredictionType::v);
  const auto x = support::tensor_of<Points>({40, 5}, random.normals(200));
  const Query query{.alpha = 0.6, .sigma = 0.8};
  Points expected(40, 5);
  network(x, query, expected);
  std::vector<Points> answers(4, Points(40, 5));
  std::vector<std::thread> threads;
  for (Points& answer : answers)
    threads.emplace_back([&network, &x, &query, &answer] {
      for (int i = 0; i < 20; ++i) network(x, query, answer);
    });
  for (std::thread& thread : threads) thread.join();
  for (const Points& answer : answers) CHECK(support::same_bits(answer, expected));
}
