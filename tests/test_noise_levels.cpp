// Distributions of noise levels in training: quantiles and densities against closed forms, the
// uniforms they are fed with, and stratification.

#include "catch.hpp"
#include "support.hpp"

#include <diffusion/forward/level_distribution.hpp>
#include <diffusion/forward/normal_distribution.hpp>
#include <diffusion/noise/philox.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numbers>
#include <vector>

using namespace diffusion;
using support::Vector;

namespace {

/// Kolmogorov and Smirnov's distance of values from a distribution function.
template <class Cdf>
double distance(Vector values, const Cdf& cdf) {
  std::sort(values.begin(), values.end());
  const double n = static_cast<double>(values.size());
  double worst = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double p = cdf(values[i]), rank = static_cast<double>(i);
    worst = std::max({worst, p - rank / n, (rank + 1) / n - p});
  }
  return worst;
}

/// The integral of f over [low, high] by Simpson's rule.
template <class F>
double integral(const F& f, double low, double high, int steps = 20000) {
  const double h = (high - low) / steps;
  double sum = f(low) + f(high);
  for (int i = 1; i < steps; ++i) sum += (i % 2 == 1 ? 4 : 2) * f(low + i * h);
  return sum * h / 3;
}

}  // namespace

TEST_CASE("Quantiles of the normal distribution") {
  // Published values (NIST's tables and Wichura's AS 241 test cases), 1e-15.
  CHECK(normal_quantile(0.5) == Approx(0).margin(1e-16));
  CHECK(normal_quantile(0.975) == Approx(1.959963984540054).epsilon(1e-15));
  CHECK(normal_quantile(0.25) == Approx(-0.6744897501960817).epsilon(1e-15));
  CHECK(normal_quantile(0.001) == Approx(-3.090232306167813).epsilon(1e-15));
  CHECK(normal_quantile(1e-20) == Approx(-9.262340089798408).epsilon(1e-15));
  // Its inverse, in the bulk and far into the tail, where Phi is told by erfc.
  for (double p = 1e-300; p < 0.5; p *= 1.7)
    CHECK(normal_cdf(normal_quantile(p)) == Approx(p).epsilon(1e-12));  // 5 x^2 2^-53 at x = -37
  for (double x = -5; x < 5; x += 0.01) {
    // A rounding of p near 1 is a rounding of 1 - p, divided by the density.
    const double slack = 1e-15 * std::max(1.0, std::abs(x)) + 2e-16 / normal_density(x);
    CHECK(std::abs(normal_quantile(normal_cdf(x)) - x) < slack);
    CHECK(normal_quantile(normal_cdf(-x)) == Approx(-normal_quantile(normal_cdf(x))).margin(slack));
  }
  for (const double p : {0.0, 1.0, -0.1, 1.5, std::nan("")})
    CHECK_THROWS_WITH(normal_quantile(p), contains("probability p"));
}

TEST_CASE("Logarithms of normal probabilities, also where the probabilities underflow") {
  for (double x = -35; x < 0; x += 0.05)
    CHECK(log_normal_cdf(x) == Approx(std::log(std::erfc(-x / std::sqrt(2.0)) / 2)).epsilon(1e-13));
  for (double x = 4; x < 30; x += 0.05) {
    const double q = std::erfc(x / std::sqrt(2.0)) / 2;  // log(1 - q) = -q - q^2/2 - ...
    CHECK(log_normal_cdf(x) / q == Approx(-1 - q / 2 - q * q / 3).epsilon(1e-13));
  }
  // log(1 - Phi(z)) ~ -z^2/2 - log z - log sqrt(2 pi) - 1/z^2 ...; the next term is 2.5/z^4.
  for (const double z : {50.0, 300.0, 1e4, 1e8}) {
    const double leading = -z * z / 2 - std::log(z) - std::log(2 * std::numbers::pi) / 2;
    CHECK(log_normal_cdf(-z) == Approx(leading - 1 / (z * z)).epsilon(1e-9));
  }
  // Continuous where the formula changes.
  const double h = 1e-9;
  CHECK(log_normal_cdf(-30 - h) == Approx(log_normal_cdf(-30) - 30 * h).epsilon(1e-13));

  // Bins add up: log(exp(a) + exp(b)) = mass of both, from wide to very narrow, out to 1000 sigma.
  for (const double start : {-1000.0, -40.0, -8.0, -0.7, -1e-5, 0.0, 0.3, 5.0, 33.0, 900.0})
    for (const double width : {3.0, 0.5, 0.02, 0.0199, 1e-3, 1e-6}) {
      CAPTURE(start, width);
      const double a = log_normal_mass(start, start + width);
      const double b = log_normal_mass(start + width, start + 2 * width);
      const double both = log_normal_mass(start, start + 2 * width);
      const double high = std::max(a, b), low = std::min(a, b);
      CHECK(high + std::log1p(std::exp(low - high)) == Approx(both).epsilon(1e-9));
    }
  // Narrow ones, integrated term by term, against differences.
  for (const double half : {0.001, 0.009, 0.0099})
    CHECK(log_normal_mass(-half, half) ==
          Approx(std::log(std::erf(half / std::sqrt(2.0)))).epsilon(1e-14));
  CHECK(log_normal_mass(3, 3.006) ==
        Approx(std::log((std::erfc(3 / std::sqrt(2.0)) - std::erfc(3.006 / std::sqrt(2.0))) / 2))
            .epsilon(1e-14));
  // One bin with all there is, and the mirror image.
  CHECK(log_normal_mass(-50, 50) == Approx(0).margin(1e-300));
  CHECK(log_normal_mass(-1, 2) == Approx(log_normal_mass(-2, 1)).epsilon(1e-14));
  CHECK(log_normal_mass(7, 8) == Approx(log_normal_mass(-8, -7)).epsilon(1e-14));
  CHECK(std::exp(log_normal_mass(-1, 1)) == Approx(0.6826894921370859).epsilon(1e-14));
}

TEST_CASE("Levels have the quantiles and moments that their distributions say") {
  const LogNormalSigmas sigmas;  // P_mean = -1.2, P_std = 1.2
  CHECK(sigmas.quantile(0.5) == Approx(std::exp(-1.2)).epsilon(1e-14));
  CHECK(sigmas.quantile(0.975) == Approx(std::exp(-1.2 + 1.2 * 1.959963984540054)).epsilon(1e-13));
  const LogitNormalTimes times({.mean = 0.5, .standard_deviation = 0.8});
  CHECK(times.quantile(0.5) == Approx(1 / (1 + std::exp(-0.5))).epsilon(1e-14));
  // Symmetric where the mean is 0.
  const LogitNormalTimes centred;
  for (const double u : {1e-3, 0.01, 0.3}) {
    CHECK(centred.quantile(u) + centred.quantile(1 - u) == Approx(1).epsilon(1e-12));
    CHECK(centred.density(u) == Approx(centred.density(1 - u)).epsilon(1e-9));
  }
  const UniformTimes flat(1e-5, 1);
  CHECK(flat.quantile(0.25) == Approx(1e-5 + 0.25 * (1 - 1e-5)).epsilon(1e-15));
  const UniformTimesteps steps(1000);
  CHECK(steps.quantile(0.0005) == 0);
  CHECK(steps.quantile(0.001) == 1);
  CHECK(steps.quantile(0.5) == 500);
  CHECK(steps.quantile(1 - 0x1p-53) == 999);

  // E[sigma] = exp(m + s^2/2), from the quantile function: the mean over evenly spread uniforms.
  const LogNormalSigmas narrow({0.3, 0.4});
  double mean = 0;
  const int n = 200000;
  for (int i = 0; i < n; ++i) mean += narrow.quantile((i + 0.5) / n) / n;
  CHECK(mean == Approx(std::exp(0.3 + 0.08)).epsilon(1e-5));
}

TEST_CASE("Densities are the derivatives of the distributions") {
  // They integrate to the distribution function: from quantile(u) to quantile(v) lies v - u.
  const auto check = [](const auto& distribution) {
    for (const double u : {0.001, 0.2, 0.5})
      for (const double v : {0.6, 0.99})
        CHECK(integral([&](double x) { return distribution.density(x); }, distribution.quantile(u),
                       distribution.quantile(v)) == Approx(v - u).epsilon(1e-9));
  };
  check(LogNormalSigmas());
  check(LogNormalSigmas({0.4, 0.3}));
  check(LogitNormalTimes());
  check(LogitNormalTimes({-0.5, 1.5}));
  check(UniformTimes(-2, 3));
  const UniformTimesteps steps(8);
  double total = 0;
  for (int t = -1; t <= 8; ++t) total += steps.density(t);
  CHECK(total == Approx(1).epsilon(1e-15));
  CHECK(steps.density(2.5) == 0);
  CHECK(LogNormalSigmas().density(0) == 0);
  CHECK(LogitNormalTimes().density(1) == 0);
  CHECK(LogitNormalTimes().density(0) == 0);
  CHECK(UniformTimes().density(1.5) == 0);
}

TEST_CASE("Independent uniforms: their address, their distribution, no neighbours alike") {
  const PhiloxUniforms uniforms(42);
  Vector values, next_draw;
  const std::size_t n = 50000;
  for (std::size_t i = 0; i < n; ++i) {
    values.push_back(uniforms(7, i));
    next_draw.push_back(uniforms(8, i));
  }
  const auto identity = [](double u) { return u; };
  // 1.95 / sqrt(n) is passed by one sequence in a thousand.
  CHECK(distance(values, identity) < 1.95 / std::sqrt(static_cast<double>(n)));
  CHECK(distance(next_draw, identity) < 1.95 / std::sqrt(static_cast<double>(n)));
  const auto correlation = [](const Vector& a, const Vector& b, std::size_t lag) {
    double sum = 0;
    for (std::size_t i = 0; i + lag < a.size(); ++i) sum += 12 * (a[i + lag] - 0.5) * (b[i] - 0.5);
    return std::abs(sum) / std::sqrt(static_cast<double>(a.size() - lag));  // a standard normal
  };
  CHECK(correlation(values, values, 1) < 4);
  CHECK(correlation(values, next_draw, 0) < 4);
  CHECK(*std::min_element(values.begin(), values.end()) > 0);
  CHECK(*std::max_element(values.begin(), values.end()) < 1);
  CHECK(uniforms(7, 3) == values[3]);
  CHECK(PhiloxUniforms(42)(8, 5) == next_draw[5]);
  CHECK(PhiloxUniforms(43)(7, 3) != values[3]);
  CHECK(PhiloxUniforms(42 + (std::uint64_t{1} << 32))(7, 3) != values[3]);
  CHECK(uniforms(7 + (std::uint64_t{1} << 32), 3) != values[3]);
  CHECK(uniforms(7, 3 + (std::uint64_t{1} << 32)) != values[3]);

  // The layout, word by word.
  const auto key = philox4x32_10({0, 0, 0, 1}, {42, 0});
  const auto words = philox4x32_10({3, 0, 7, 0}, {key[0], key[1]});
  const std::uint64_t k = words[0] | (std::uint64_t{words[1]} & 0xFFFFF) << 32;
  CHECK(values[3] == (static_cast<double>(k) + 0.5) / 4503599627370496.0);
}

TEST_CASE("Stratified uniforms: exactly one in every stratum, each uniform by itself") {
  support::Random random(3);
  const double tiny = std::numeric_limits<double>::min();
  for (const std::size_t n : {1u, 2u, 3u, 7u, 64u, 1000u, 65536u}) {
    Vector firsts = {tiny, 0x1p-52, 0.5, 1 - 0x1p-53, 1.0 / static_cast<double>(n + 1)};
    for (int i = 0; i < 20; ++i) firsts.push_back(random.uniform(1e-9, 1));
    for (const double first : firsts) {
      std::vector<int> hits(n);
      for (std::size_t i = 0; i < n; ++i) {
        const double u = stratified_uniform(first, i, n);
        if (u > 0 && u < 1) ++hits[static_cast<std::size_t>(u * static_cast<double>(n))];
      }
      CAPTURE(n, first);
      CHECK(*std::min_element(hits.begin(), hits.end()) == 1);
      CHECK(*std::max_element(hits.begin(), hits.end()) == 1);
    }
  }
  // (u + i / n) mod 1.
  for (std::size_t i = 0; i < 10; ++i)
    CHECK(stratified_uniform(0.83, i, 10) ==
          Approx(std::fmod(0.83 + static_cast<double>(i) / 10, 1.0)).epsilon(1e-12));
  // One place of the batch over many draws.
  const PhiloxUniforms uniforms(9);
  Vector fifth;
  for (std::uint64_t draw = 0; draw < 20000; ++draw)
    fifth.push_back(stratified_uniform(uniforms(draw, 0), 5, 8));
  CHECK(distance(fifth, [](double u) { return u; }) < 1.95 / std::sqrt(20000.0));
  CHECK_THROWS_WITH(stratified_uniform(0.5, 4, 4), contains("index is 4"));
  CHECK_THROWS_WITH(stratified_uniform(0.5, 0, 0), contains("index is 0"));
  CHECK_THROWS_AS(stratified_uniform(1, 0, 4), Error);
}

TEST_CASE("A batch of levels, independent or stratified, has the distribution") {
  const PhiloxUniforms uniforms(11);
  const std::size_t n = 20000;
  const double limit = 1.95 / std::sqrt(static_cast<double>(n));
  const auto log_normal = [](double s) { return normal_cdf((std::log(s) + 1.2) / 1.2); };
  const auto logit_normal = [](double t) { return normal_cdf(std::log(t / (1 - t))); };
  const auto independent = LevelSampling::independent;
  CHECK(distance(draw_levels(LogNormalSigmas(), uniforms, 0, n, independent), log_normal) < limit);
  CHECK(distance(draw_levels(LogitNormalTimes(), uniforms, 1, n, independent), logit_normal) <
        limit);
  CHECK(distance(draw_levels(UniformTimes(), uniforms, 2, n, independent),
                 [](double t) { return t; }) < limit);
  // Stratified, the distance is at most 1 / n.
  const double stratum = 1.0001 / static_cast<double>(n);
  CHECK(distance(draw_levels(LogNormalSigmas(), uniforms, 0, n), log_normal) < stratum);
  CHECK(distance(draw_levels(LogitNormalTimes(), uniforms, 1, n), logit_normal) < stratum);
  CHECK(distance(draw_levels(UniformTimes(), uniforms, 2, n), [](double t) { return t; }) <
        stratum);
  // A thousand timesteps, a batch of a thousand: each once.
  Vector steps = draw_levels(UniformTimesteps(1000), uniforms, 5, 1000);
  std::sort(steps.begin(), steps.end());
  for (std::size_t i = 0; i < 1000; ++i) CHECK(steps[i] == static_cast<double>(i));

  // Why: the mean over a stratified batch varies less, here of a smooth loss in t.
  const auto spread = [&](LevelSampling sampling) {
    double squares = 0;
    for (std::uint64_t draw = 0; draw < 400; ++draw) {
      double mean = 0;
      for (const double t : draw_levels(UniformTimes(), uniforms, draw, 64, sampling))
        mean += std::exp(-3 * t) / 64;
      squares += std::pow(mean - (1 - std::exp(-3.0)) / 3, 2) / 400;
    }
    return std::sqrt(squares);
  };
  CHECK(spread(LevelSampling::stratified) < spread(independent) / 4);
}

TEST_CASE("Options out of range are refused") {
  CHECK_THROWS_WITH(UniformTimesteps(0), contains("train_timesteps is 0"));
  CHECK_THROWS_WITH(UniformTimes(1, 1), contains("from 1 to 1"));
  CHECK_THROWS_AS(UniformTimes(0, std::numeric_limits<double>::infinity()), Error);
  CHECK_THROWS_WITH(LogNormalSigmas({0, 0}), contains("standard deviation is 0"));
  CHECK_THROWS_WITH(LogitNormalTimes({std::nan(""), 1}), contains("mean is nan"));
  for (const double u : {0.0, 1.0, -1.0, std::nan("")}) {
    CHECK_THROWS_AS(UniformTimesteps(10).quantile(u), Error);
    CHECK_THROWS_AS(UniformTimes().quantile(u), Error);
    CHECK_THROWS_AS(LogNormalSigmas().quantile(u), Error);
    CHECK_THROWS_AS(LogitNormalTimes().quantile(u), Error);
  }
  CHECK_THROWS_AS(
      draw_levels(UniformTimes(), PhiloxUniforms(1), 0, 4, static_cast<LevelSampling>(2)), Error);
}
