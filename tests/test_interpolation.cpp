// Interpolation: lengths and angles along the great circle, the law of what lies between two
// noises, vectors that are nearly parallel or opposite, and conditions between two.

#include "catch.hpp"
#include "support.hpp"

#include <diffusion/denoiser/exact/gaussian.hpp>
#include <diffusion/edit/interpolation.hpp>
#include <diffusion/guidance/classifier_free.hpp>
#include <diffusion/noise/philox.hpp>
#include <diffusion/samplers/ddim.hpp>
#include <diffusion/sampling/sample.hpp>
#include <diffusion/schedule/noise_schedule.hpp>

#include <cmath>
#include <functional>
#include <limits>
#include <numbers>
#include <span>
#include <string>
#include <vector>

using namespace diffusion;

namespace {

using Vector = std::vector<double>;
using Points = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Floats = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

double dot(const Vector& a, const Vector& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}
double length(const Vector& a) { return std::sqrt(dot(a, a)); }

/// One vector, not a batch of numbers.
Vector between(const Vector& a, const Vector& b, double share,
               Interpolation path = Interpolation::spherical) {
  return interpolate(a, b, share, path, false);
}

Vector random_vector(std::uint64_t seed, std::size_t n) { return support::Random(seed).normals(n); }

/// b at an angle to a: cos(angle) a / |a| + sin(angle) u, with u at right angles.
Vector at_angle(const Vector& a, double angle) {
  Vector u = random_vector(99, a.size());
  const double along = dot(u, a) / dot(a, a);
  for (std::size_t i = 0; i < a.size(); ++i) u[i] -= along * a[i];
  Vector b(a.size());
  for (std::size_t i = 0; i < a.size(); ++i)
    b[i] = std::cos(angle) * a[i] / length(a) + std::sin(angle) * u[i] / length(u);
  return b;
}

std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

}  // namespace

TEST_CASE("On the great circle the angle grows evenly and the length goes straight") {
  constexpr double pi = std::numbers::pi;
  Vector a = random_vector(1, 17);
  const double scale = 3 / length(a);
  for (double& x : a) x *= scale;
  for (const double angle : {1e-9, 1e-7, 1e-5, 0.01, 0.5, pi / 2, 2.5, pi - 0.01, pi - 1e-5}) {
    const Vector b = at_angle(a, angle);  // of length 1
    CHECK(between(a, b, 0) == a);
    CHECK(between(a, b, 1) == b);
    for (const double share : {0.1, 0.5, 0.8}) {
      const Vector c = between(a, b, share);
      INFO("angle " << angle << ", share " << share);
      CHECK(length(c) == Approx(3 + share * (1 - 3)).epsilon(1e-5));
      Vector off = c;  // what is not along a
      const double along = dot(c, a) / dot(a, a);
      for (std::size_t i = 0; i < c.size(); ++i) off[i] -= along * a[i];
      const double turned = std::atan2(length(off), along * length(a));
      // Below 1e-6 the way is straight, which for unequal lengths shifts the angle by as little.
      CHECK(turned == Approx(share * angle).epsilon(angle < 1e-6 ? 1 : 1e-4).margin(1e-12));
    }
  }
}

TEST_CASE("Opposite vectors are joined by a half circle") {
  for (const std::size_t n : {2u, 3u, 8u, 9u}) {
    Vector a = random_vector(n, n), b = a;
    for (double& x : b) x *= -2;
    for (const double share : {0.25, 0.5, 0.75}) {
      const Vector c = between(a, b, share);
      CHECK(length(c) == Approx(length(a) * (1 + share)));
      CHECK(dot(c, a) / length(c) / length(a) ==
            Approx(std::cos(share * std::numbers::pi)).margin(1e-12));
    }
  }
  // Only the element that is left over is not 0.
  const Vector c = between({0, 0, 2}, {0, 0, -2}, 0.5);
  CHECK(c[0] == Approx(2));
  CHECK(std::abs(c[2]) < 1e-12);
  CHECK(message_of([] { between({1}, {-1}, 0.5); }) ==
        "two opposite vectors of one element have no great circle; interpolate linearly");
}

TEST_CASE("A vector of length 0 has no direction: the way is straight") {
  const Vector zero{0, 0}, a{3, 4};
  CHECK(between(zero, a, 0.5) == Vector{1.5, 2});
  CHECK(between(zero, zero, 0.5) == zero);
  CHECK(between(a, a, 0.3)[0] == Approx(3));
}

TEST_CASE("Between two noises lies noise, sample by sample") {
  constexpr Eigen::Index samples = 8, size = 4000;
  Points a(samples, size), b(samples, size);
  for (Eigen::Index i = 0; i < samples; ++i)
    for (Points* x : {&a, &b})
      PhiloxNoise{x == &a ? 1u : 2u}.fill(
          static_cast<std::uint64_t>(i), 0, 0,
          std::span<double>(x->row(i).data(), static_cast<std::size_t>(size)));
  for (const double share : {0.2, 0.5, 0.9}) {
    const Points c = interpolate(a, b, share);
    const Points line = interpolate(a, b, share, Interpolation::linear);
    const double straight = share * share + (1 - share) * (1 - share);
    for (Eigen::Index i = 0; i < samples; ++i) {
      CHECK(c.row(i).squaredNorm() / size == Approx(1).margin(0.1));
      CHECK(line.row(i).squaredNorm() / size == Approx(straight).margin(0.1));
      CHECK(c.row(i).array().pow(4).mean() == Approx(3).margin(0.5));
      // Each sample by itself.
      const Points alone = interpolate(Points(a.row(i)), Points(b.row(i)), share);
      CHECK(Points(c.row(i)) == alone);
    }
  }
  // A share for each sample; in place; other types.
  const Vector shares{0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 1};
  Points walk = a;
  interpolate(walk, b, shares, walk);
  for (Eigen::Index i = 0; i < samples; ++i)
    CHECK(Points(walk.row(i)) ==
          Points(interpolate(a, b, shares[static_cast<std::size_t>(i)]).row(i)));
  const Floats floats = interpolate(Floats(a.cast<float>()), Floats(b.cast<float>()), 0.3);
  CHECK((floats.cast<double>() - interpolate(a, b, 0.3)).cwiseAbs().maxCoeff() < 1e-5);
}

TEST_CASE("What cannot be interpolated is refused") {
  const Points a = Points::Random(3, 4);
  CHECK(message_of([&] { interpolate(a, Points(Points::Random(3, 5)), 0.5); }) ==
        "b has the shape 3x5; it must have that of a, 3x4");
  Points out(2, 4);
  CHECK(message_of([&] { interpolate(a, a, Vector{0.5}, out); }) ==
        "out has the shape 2x4; it must have that of a, 3x4");
  Points right = a;
  CHECK(message_of([&] {
          interpolate(a, a, Vector{0.5, 0.6}, right);
        }) == "there are 2 shares for a batch of 3; there must be 1 or one for each sample");
  CHECK(message_of([&] { interpolate(a, a, 1.5); }) == "share is 1.5; it must lie in [0, 1]");
  CHECK(message_of([&] { interpolate(a, a, std::numeric_limits<double>::quiet_NaN()); }) ==
        "share is nan; it must lie in [0, 1]");
  CHECK(message_of([&] { interpolate(a, a, 0.5, static_cast<Interpolation>(2)); }) ==
        "Interpolation is 2; it must lie in [0, 1]");
  CHECK(message_of([] {
          interpolate_condition(Vector{1, 2}, Vector{1}, 0.5);
        }) == "b has the shape 1; it must have that of a, 2");
}

TEST_CASE("A conditional network takes a condition between two") {
  // Data about the point that the condition names, so that what lies between is known.
  const auto network = [](const Points& x, const Query& query, const Conditions<Vector>& conditions,
                          Points& eps) {
    for (Eigen::Index i = 0; i < x.rows(); ++i) {
      const Vector& mean = conditions[static_cast<std::size_t>(i)];
      const Gaussian data = Gaussian::isotropic(Eigen::Vector2d(mean[0], mean[1]), 0.04);
      eps.row(i) = data.eps(x.row(i).transpose(), {query.t, query.alpha, query.sigma}).transpose();
    }
  };
  const Vector a{2, 0}, b{0, 1};
  const auto mean_of = [&](const Vector& condition) {
    ClassifierFreeGuidance one{network, std::vector<Vector>(200, condition), Vector{0, 0}, {}};
    const Points x = sample<Points>(DdimSampler(NoiseSchedule<>::linear(), {.steps = 50}), one,
                                    {200, 2}, PhiloxNoise{1});
    return Eigen::RowVector2d(x.colwise().mean());
  };
  const auto linear = mean_of(interpolate_condition(a, b, 0.25));
  CHECK(linear[0] == Approx(1.5).margin(0.05));
  CHECK(linear[1] == Approx(0.25).margin(0.05));
  const auto round = mean_of(interpolate_condition(a, b, 0.25, Interpolation::spherical));
  CHECK(round[0] == Approx(1.75 * std::cos(std::numbers::pi / 8)).margin(0.05));
  CHECK(round[1] == Approx(1.75 * std::sin(std::numbers::pi / 8)).margin(0.05));
}
