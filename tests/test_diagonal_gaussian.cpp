// The diagonal Gaussian of an autoencoder, and the scaling of its latents.

#include "catch.hpp"
#include "support.hpp"

#include <diffusion/forward/diagonal_gaussian.hpp>
#include <diffusion/forward/latent_scaling.hpp>
#include <diffusion/noise/philox.hpp>
#include <diffusion/noise/recorded.hpp>
#include <diffusion/noise/torch_cpu_noise.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numbers>
#include <string>
#include <vector>

using namespace diffusion;
using support::Vector;
using Tensor = support::RowMajor<double, 3>;

namespace {

/// The integral of p log(p / q) of two normal densities, by Simpson's rule over 12 deviations.
double kl_by_quadrature(double m1, double v1, double m2, double v2) {
  const auto log_density = [](double x, double m, double v) {
    return -((x - m) * (x - m) / v + std::log(2 * std::numbers::pi * v)) / 2;
  };
  const int steps = 4000;
  const double low = m1 - 12 * std::sqrt(v1), h = 24 * std::sqrt(v1) / steps;
  double sum = 0;
  for (int i = 0; i <= steps; ++i) {
    const double x = low + i * h, lp = log_density(x, m1, v1);
    const double weight = i == 0 || i == steps ? 1 : i % 2 == 1 ? 4 : 2;
    sum += weight * std::exp(lp) * (lp - log_density(x, m2, v2));
  }
  return sum * h / 3;
}

/// Moments whose channels are told apart: means from `mean`, log variances from `log_variance`.
struct Moments {
  Vector mean, log_variance;  ///< per sample: channels x size
};

Moments random_moments(std::size_t count) {
  support::Random random(6);
  Moments moments{random.normals(count), random.normals(count)};
  for (double& v : moments.log_variance) v = 1.5 * v - 1;
  return moments;
}

}  // namespace

TEST_CASE("KL and likelihood of a diagonal Gaussian, against quadrature") {
  const auto moments = random_moments(12), others = random_moments(24);
  const auto shape = ShapeOf<Tensor>{2, 2, 3};
  const DiagonalGaussian<Tensor> p(support::tensor_of<Tensor>(shape, moments.mean),
                                   support::tensor_of<Tensor>(shape, moments.log_variance));
  const Vector m2(others.mean.begin() + 12, others.mean.end());
  const Vector v2(others.log_variance.begin() + 12, others.log_variance.end());
  const DiagonalGaussian<Tensor> q(support::tensor_of<Tensor>(shape, m2),
                                   support::tensor_of<Tensor>(shape, v2));
  Vector to_standard(2), to_q(2), nll(2);
  for (std::size_t i = 0; i < 12; ++i) {
    const double m = moments.mean[i], v = std::exp(moments.log_variance[i]);
    to_standard[i / 6] += kl_by_quadrature(m, v, 0, 1);
    to_q[i / 6] += kl_by_quadrature(m, v, m2[i], std::exp(v2[i]));
    nll[i / 6] += std::log(2 * std::numbers::pi * v) / 2 + (m2[i] - m) * (m2[i] - m) / (2 * v);
  }
  for (std::size_t sample = 0; sample < 2; ++sample) {
    CHECK(p.kl()[sample] == Approx(to_standard[sample]).epsilon(1e-9));
    CHECK(p.kl(q)[sample] == Approx(to_q[sample]).epsilon(1e-9));
    CHECK(p.nll(q.mean())[sample] == Approx(nll[sample]).epsilon(1e-12));
    CHECK(p.kl(p)[sample] == 0);
  }
  CHECK(&p.mode() == &p.mean());
  // In words of the autoencoder paper: -1/2 sum (1 + log v - m^2 - v).
  const DiagonalGaussian<Tensor> one(support::tensor_of<Tensor>({1, 1, 1}, {0.7}),
                                     support::tensor_of<Tensor>({1, 1, 1}, {-0.4}));
  CHECK(one.kl()[0] == Approx(-0.5 * (1 - 0.4 - 0.49 - std::exp(-0.4))).epsilon(1e-14));
  // Nearly standard: the leading terms m^2 / 2 + (log v)^2 / 4 are not lost to rounding.
  const DiagonalGaussian<Tensor> near(support::tensor_of<Tensor>({1, 1, 1}, {0}),
                                      support::tensor_of<Tensor>({1, 1, 1}, {1e-5}));
  CHECK(near.kl()[0] == Approx(2.5e-11).epsilon(1e-4));
}

namespace {

/// Two samples of 2 x 2 channels and 3 elements, for any state of rank 2 or more.
template <class T>
void check_state(const ShapeOf<T>& shape, double tolerance) {
  using Real = detail::Compute<ScalarOf<T>>;
  INFO(shape_text(shape));
  const auto moments = random_moments(12);  // sample, channel, element
  Vector both;
  for (std::size_t sample = 0; sample < 2; ++sample) {
    const auto part = [&](const Vector& from) {
      both.insert(both.end(), from.begin() + static_cast<std::ptrdiff_t>(6 * sample),
                  from.begin() + static_cast<std::ptrdiff_t>(6 * sample + 6));
    };
    part(moments.mean);
    part(moments.log_variance);
  }
  const auto p = DiagonalGaussian<T>::from_moments(support::tensor_of<T>(shape, both));
  REQUIRE(static_cast<std::size_t>(p.mean().size()) == 12);
  const T z = p.sample(PhiloxNoise{4}, 3);
  for (std::size_t sample = 0; sample < 2; ++sample) {
    std::vector<double> n(6);
    PhiloxNoise{4}.fill(sample, 3, 0, std::span<double>(n));
    for (std::size_t i = 0; i < 6; ++i) {
      const std::size_t k = 6 * sample + i;
      const double expected = moments.mean[k] + std::exp(moments.log_variance[k] / 2) * n[i];
      CHECK(static_cast<double>(static_cast<Real>(z.data()[k])) ==
            Approx(expected).epsilon(tolerance).margin(tolerance));
    }
  }
}

}  // namespace

TEST_CASE("The encoder's output is split by channels, in any state, and sampled") {
  check_state<Tensor>({2, 4, 3}, 1e-14);
  check_state<support::RowMajor<float, 4>>({2, 4, 1, 3}, 1e-6);
  check_state<support::RowMajor<Eigen::half, 3>>({2, 4, 3}, 1e-2);
  check_state<support::ColMajor<float, 3>>({3, 4, 2}, 1e-6);
  check_state<Eigen::MatrixXd>({12, 2}, 1e-14);
}

TEST_CASE("Samples have the mean and the variance; the source may be of any kind") {
  const Eigen::Index n = 40000;
  Tensor mean(1, 1, n), log_variance(1, 1, n);
  mean.setConstant(0.3);
  log_variance.setConstant(-1.5);
  const DiagonalGaussian<Tensor> p(mean, log_variance);
  TorchCpuNoise torch(7), again(7);
  const double variance = std::exp(-1.5);
  for (const Tensor& z : {p.sample(PhiloxNoise{2}), p.sample(torch)}) {
    double sum = 0, squares = 0;
    for (Eigen::Index i = 0; i < n; ++i) {
      sum += z.data()[i] - 0.3;
      squares += std::pow(z.data()[i] - 0.3, 2);
    }
    const double count = static_cast<double>(n);
    CHECK(std::abs(sum / count) < 4 * std::sqrt(variance / count));
    CHECK(std::abs(squares / count - variance) < 4 * variance * std::sqrt(2 / count));
    // E[-log p] is the entropy.
    CHECK(p.nll(z)[0] / count ==
          Approx((1 + std::log(2 * std::numbers::pi) - 1.5) / 2).margin(4 / std::sqrt(2 * count)));
  }
  // The same by hand.
  Tensor eps(1, 1, n);
  again.fill(std::span<double>(eps.data(), static_cast<std::size_t>(n)));
  TorchCpuNoise once_more(7);
  CHECK(support::same_bits(p.reparameterised(eps), p.sample(once_more)));
  CHECK_FALSE(support::same_bits(p.sample(PhiloxNoise{2}, 0), p.sample(PhiloxNoise{2}, 1)));
  // A sequential source gives its next tensor, whatever the draw: one tensor is enough.
  RecordedNoise recorded({std::vector<double>(eps.data(), eps.data() + n)});
  CHECK(support::same_bits(p.reparameterised(eps), p.sample(recorded, 3)));
}

TEST_CASE("Log variances are held within -30 and 20, as the reference's autoencoder holds them") {
  const DiagonalGaussian<Tensor> p(support::tensor_of<Tensor>({1, 1, 3}, {1, 2, 3}),
                                   support::tensor_of<Tensor>({1, 1, 3}, {-100, 0.5, 1000}));
  CHECK(support::values_of(p.log_variance()) == Vector{-30, 0.5, 20});
  Tensor zero(1, 1, 3);
  zero.setZero();
  CHECK(support::values_of(p.reparameterised(zero)) == Vector{1, 2, 3});
}

TEST_CASE("Latents are scaled and shifted, and come back") {
  const LatentScaling flux{.scale = 0.3611, .shift = 0.1159};
  Tensor z = support::tensor_of<Tensor>({1, 2, 2}, {-2, 0.1159, 3, 40});
  flux.encode(z);
  CHECK(z(0, 0, 0) == Approx((-2 - 0.1159) * 0.3611).epsilon(1e-15));
  CHECK(z(0, 0, 1) == 0);
  CHECK(z(0, 1, 1) == Approx((40 - 0.1159) * 0.3611).epsilon(1e-15));
  flux.decode(z);
  CHECK(support::relative_error(support::values_of(z), {-2, 0.1159, 3, 40}) < 1e-15);

  // Stable Diffusion: a latent is z times 0.18215.
  Eigen::VectorXf plain = Eigen::VectorXf::Constant(5, 10.0F);
  LatentScaling{.scale = 0.18215}.encode(plain);
  CHECK(plain[4] == Approx(1.8215F).epsilon(1e-6));

  // Numbers of each channel, in both layouts: (batch, channel, ...) in memory.
  const LatentScaling each{
      .scale = 2, .shift = 1, .channel_scale = {0.5, 4}, .channel_shift = {10, -1}};
  const Vector values = {11, 12, 0, 5, 21, 13, 1, -3};
  const Vector expected = {0, 1, 0, 40, 10, 2, 8, -24};
  Tensor rows = support::tensor_of<Tensor>({2, 2, 2}, values);
  auto columns = support::tensor_of<support::ColMajor<float, 3>>({2, 2, 2}, values);
  each.encode(rows);
  each.encode(columns);
  CHECK(support::values_of(rows) == expected);
  CHECK(support::relative_error(Vector(columns.data(), columns.data() + 8), expected) < 1e-6);
  each.decode(rows);
  CHECK(support::relative_error(support::values_of(rows), values) < 1e-15);
}

TEST_CASE("What does not fit is refused by name") {
  Tensor x(2, 3, 4), other(2, 3, 5), none(0, 2, 4);
  x.setZero();
  other.setZero();
  CHECK_THROWS_WITH((DiagonalGaussian<Tensor>(x, other)),
                    contains("log variance") && contains("2x3x5") && contains("2x3x4"));
  CHECK_THROWS_WITH((DiagonalGaussian<Tensor>(none, none)), contains("0x2x4"));
  CHECK_THROWS_WITH(DiagonalGaussian<Tensor>::from_moments(x),
                    contains("2x3x4") && contains("even"));
  const Eigen::VectorXd flat = Eigen::VectorXd::Zero(4);
  CHECK_THROWS_WITH(DiagonalGaussian<Eigen::VectorXd>::from_moments(flat), contains("even"));
  const DiagonalGaussian<Tensor> p(x, x), q(other, other);
  CHECK_THROWS_WITH(p.kl(q), contains("2x3x5"));
  CHECK_THROWS_WITH(p.nll(other), contains("2x3x5"));
  CHECK_THROWS_WITH(p.reparameterised(other), contains("eps"));
  RecordedNoise short_of({Vector(7)});
  CHECK_THROWS_WITH(p.sample(short_of), contains("7 numbers"));

  CHECK_THROWS_WITH(LatentScaling{.scale = 0}.encode(x), contains("scale is 0"));
  CHECK_THROWS_WITH(LatentScaling{.shift = std::numeric_limits<double>::infinity()}.decode(x),
                    contains("shift is inf"));
  CHECK_THROWS_WITH((LatentScaling{.channel_scale = {1, 2}}.encode(x)),
                    contains("2 channels") && contains("has 3"));
  CHECK_THROWS_WITH((LatentScaling{.channel_shift = {1, 2}}.encode(x)), contains("2 channels"));
  CHECK_THROWS_WITH((LatentScaling{.channel_scale = {1, 0, 1}}.encode(x)),
                    contains("channel_scale is 0"));
}
