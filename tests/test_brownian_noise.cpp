#include "catch.hpp"

#include <diffusion/denoiser/exact/exact_denoiser.hpp>
#include <diffusion/denoiser/exact/gaussian.hpp>
#include <diffusion/noise/brownian_noise.hpp>
#include <diffusion/noise/philox.hpp>
#include <diffusion/samplers/ddim.hpp>
#include <diffusion/samplers/ddpm.hpp>
#include <diffusion/sampling/sample.hpp>
#include <diffusion/schedule/continuous.hpp>
#include <diffusion/schedule/noise_schedule.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numbers>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "support.hpp"

using namespace diffusion;

namespace {

using Tree = detail::BrownianTree;
using Points = Eigen::Tensor<double, 2, Eigen::RowMajor>;

static_assert(AddressedNoise<BrownianNoise> && !SequentialNoise<BrownianNoise>);

constexpr std::array clocks{BrownianClock::snr, BrownianClock::sigma, BrownianClock::variance};

/// The clock, by its definition.
double clock_at(BrownianClock clock, double log_snr) {
  return std::exp(clock == BrownianClock::snr     ? log_snr
                  : clock == BrownianClock::sigma ? -log_snr / 2
                                                  : -log_snr);
}

/// A level of the tree that stands for a log-SNR without rounding: whole multiples of 2^-16 do.
double exact_log_snr(support::Random& random) { return random.integer(-700000, 700000) / 65536.0; }

template <class Scalar = float>
std::vector<Scalar> normals(const BrownianNoise& noise, std::uint64_t sample, std::uint64_t draw,
                            std::uint64_t element, std::size_t size) {
  std::vector<Scalar> out(size);
  noise.fill(sample, draw, element, std::span<Scalar>(out));
  return out;
}

std::vector<float> philox(std::uint64_t seed, std::uint64_t sample, std::uint64_t draw,
                          std::size_t size) {
  std::vector<float> out(size);
  PhiloxNoise{seed}.fill(sample, draw, 0, std::span(out));
  return out;
}

double correlation(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i)
    sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return sum / static_cast<double>(a.size());
}

/// The level with this log-SNR, variance preserving.
Knot knot_of(double log_snr) {
  return {log_snr, std::sqrt(detail::logistic(log_snr)), std::sqrt(detail::logistic(-log_snr))};
}

/// Steps of the same length in log SNR.
Grid uniform_grid(double first, double last, int steps) {
  std::vector<Knot> knots;
  for (int i = 0; i <= steps; ++i) knots.push_back(knot_of(first + (last - first) * i / steps));
  return Grid::through(knots);
}

SamplingPlan ancestral(const Grid& grid) { return make_plan(grid, DdimOptions{.eta = 1}); }

/// Plans of which only levels and draws matter.
SamplingPlan plan_of(std::vector<Stage> rows) {
  for (Stage& row : rows) row.x = 1;
  return SamplingPlan(std::move(rows), {});
}
Stage stage(double from, double to, std::vector<int> reads, int draws) {
  Stage row;
  row.at = knot_of(from);
  row.to = knot_of(to);
  for (std::size_t i = 0; i < reads.size(); ++i) row.noise[i] = {reads[i], 0.5};
  row.draws = draws;
  return row;
}

double rms_difference(const Points& a, const Points& b) {
  double sum = 0;
  for (Eigen::Index i = 0; i < a.size(); ++i)
    sum += (a.data()[i] - b.data()[i]) * (a.data()[i] - b.data()[i]);
  return std::sqrt(sum / static_cast<double>(a.size()));
}

template <class F>
void check_error(const F& f, const std::vector<std::string>& parts) {
  std::string message = "nothing was refused";
  try {
    f();
  } catch (const Error& error) {
    message = error.what();
  }
  INFO(message);
  for (const std::string& part : parts) CHECK(message.find(part) != std::string::npos);
}

}  // namespace

TEST_CASE("Increments of the tree have the covariance of a Brownian path") {
  support::Random random(1);
  for (const BrownianClock clock : clocks) {
    const Tree tree(clock);
    double norm_error = 0, covariance_error = 0;
    for (int trial = 0; trial < 300; ++trial) {
      // Two intervals, of any size and place, sometimes with a common end.
      const double a = exact_log_snr(random), c = exact_log_snr(random), d = exact_log_snr(random);
      const double b = random.chance(0.2)   ? c
                       : random.chance(0.5) ? exact_log_snr(random)
                                            : a + random.integer(1, 9000) / 65536.0;
      if (a == b || c == d) continue;
      const auto first = tree.increment(tree.level(a), tree.level(b));
      const auto second = tree.increment(tree.level(c), tree.level(d));
      double norm = 0, product = 0;
      for (const auto& [node, weight] : first) {
        norm += weight * weight;
        const auto other = second.find(node);
        if (other != second.end()) product += weight * other->second;
      }
      const auto interval = [&](double from, double to) {
        return std::minmax({clock_at(clock, from), clock_at(clock, to)});  // no references
      };
      const auto [l1, r1] = interval(a, b);
      const auto [l2, r2] = interval(c, d);
      const double overlap = std::max(std::min(r1, r2) - std::max(l1, l2), 0.0);
      const double sign = (b - a) * (d - c) > 0 ? 1 : -1;
      const double expected = sign * overlap / std::sqrt((r1 - l1) * (r2 - l2));
      norm_error = std::max(norm_error, std::abs(norm - 1));
      covariance_error = std::max(covariance_error, std::abs(product - expected));
    }
    CHECK(norm_error < 1e-11);
    CHECK(covariance_error < 1e-9);
  }
}

TEST_CASE("Levels of the tree lie 2^-16 apart in log SNR and end at 64") {
  const Tree rising(BrownianClock::snr), falling(BrownianClock::sigma);
  const double infinity = std::numeric_limits<double>::infinity();
  CHECK(rising.level(-infinity) == 0);
  CHECK(rising.level(infinity) == Tree::levels);
  CHECK(falling.level(infinity) == 0);
  CHECK(falling.level(-infinity) == Tree::levels);
  CHECK(rising.level(0) == Tree::levels / 2);
  CHECK(rising.level(1) - rising.level(0) == 65536);
  CHECK(falling.level(1) - falling.level(0) == -65536);
  CHECK(rising.level(0.4 / 65536) == rising.level(0));
  CHECK(rising.level(0.6 / 65536) == rising.level(0) + 1);
}

TEST_CASE("Every draw is standard normal and independent of the others") {
  const std::size_t n = 30'000;
  const double limit = 4 / std::sqrt(static_cast<double>(n));
  const SamplingPlan plan = ancestral(uniform_grid(-9, 9.37, 6));
  for (const BrownianClock clock : clocks) {
    const BrownianNoise noise(77, plan, {.clock = clock});
    std::vector<std::vector<float>> draws;
    for (std::uint64_t draw = 0; draw <= 6; ++draw) {
      CHECK(noise.on_path(draw) == (draw > 0));
      draws.push_back(normals(noise, 0, draw, 0, n));
    }
    draws.push_back(normals(noise, 1, 3, 0, n));
    draws.push_back(normals(BrownianNoise(78, plan, {.clock = clock}), 0, 3, 0, n));
    for (std::size_t i = 0; i < draws.size(); ++i) {
      double sum = 0, fourth = 0;
      for (const float x : draws[i]) {
        const double value = static_cast<double>(x);
        sum += value;
        fourth += value * value * value * value;
      }
      CHECK(std::abs(sum / static_cast<double>(n)) < limit);
      CHECK(std::abs(correlation(draws[i], draws[i]) - 1) < std::numbers::sqrt2 * limit);
      CHECK(std::abs(fourth / static_cast<double>(n) - 3) < std::sqrt(96.0) * limit);
      for (std::size_t j = 0; j < i; ++j) CHECK(std::abs(correlation(draws[i], draws[j])) < limit);
      const std::vector<float> shifted(draws[i].begin() + 1, draws[i].end());
      CHECK(std::abs(correlation(shifted, draws[i])) < limit);
    }
  }
}

TEST_CASE("Increments of a coarse plan are sums of those of a finer one") {
  const std::size_t n = 1000;
  const double first = -7.3, last = 8.1;  // no levels of the tree
  for (const BrownianClock clock : clocks)
    for (const int steps : {1, 3, 10}) {
      const int parts = 8;
      const Grid coarse = uniform_grid(first, last, steps);
      const Grid fine = uniform_grid(first, last, steps * parts);
      const SamplingPlan coarse_plan = ancestral(coarse), fine_plan = ancestral(fine);
      const BrownianNoise from_coarse(5, coarse_plan, {.clock = clock});
      const BrownianNoise from_fine(5, fine_plan, {.clock = clock});
      const auto length = [&](const GridStep& step) {
        return std::abs(clock_at(clock, step.to.log_snr()) - clock_at(clock, step.from.log_snr()));
      };
      double error = 0;
      for (int i = 0; i < steps; ++i) {
        std::vector<double> sum(n, 0.0);
        for (int k = i * parts; k < (i + 1) * parts; ++k) {
          const auto z = normals<double>(from_fine, 2, static_cast<std::uint64_t>(k) + 1, 0, n);
          for (std::size_t e = 0; e < n; ++e) sum[e] += std::sqrt(length(fine[k])) * z[e];
        }
        const auto z = normals<double>(from_coarse, 2, static_cast<std::uint64_t>(i) + 1, 0, n);
        for (std::size_t e = 0; e < n; ++e)
          error = std::max(error, std::abs(sum[e] / std::sqrt(length(coarse[i])) - z[e]));
      }
      // Rounding of float, and of the lengths here to levels: 2^-16 of log SNR in steps of 0.19.
      CHECK(error < 2e-4);
    }
  // On levels of the tree itself there is the rounding of float alone.
  const SamplingPlan coarse = ancestral(uniform_grid(-4, 4, 4));
  const SamplingPlan fine = ancestral(uniform_grid(-4, 4, 8));
  const BrownianNoise from_coarse(5, coarse), from_fine(5, fine);
  const auto whole = normals<double>(from_coarse, 0, 2, 0, n);
  const auto left = normals<double>(from_fine, 0, 3, 0, n);
  const auto right = normals<double>(from_fine, 0, 4, 0, n);
  double error = 0;
  for (std::size_t e = 0; e < n; ++e) {
    const double lengths[] = {std::exp(-1.0) - std::exp(-2.0), 1 - std::exp(-1.0)};
    const double sum = std::sqrt(lengths[0]) * left[e] + std::sqrt(lengths[1]) * right[e];
    error = std::max(error, std::abs(sum / std::sqrt(lengths[0] + lengths[1]) - whole[e]));
  }
  CHECK(error < 2e-6);
}

TEST_CASE("The initial state is PhiloxNoise's, and so is a draw without a stretch of path") {
  const std::size_t n = 100;
  const SamplingPlan plan = plan_of({stage(-4, -1, {0, 1}, 2),  // the second shares its stretch
                                     stage(-1, 2, {3, 0}, 2),   // draw 2 unread, 0 read again
                                     stage(2, -2, {4}, 1),      // back to noise
                                     stage(-2, 1, {5}, 1),      // been there
                                     stage(1, 3, {6}, 1),       // from 2 on
                                     stage(3, 3, {7}, 1)});     // nowhere
  const BrownianNoise noise(9, plan);
  const std::array<bool, 9> on_path{false, true, false, false, true, false, false, true, false};
  for (std::uint64_t draw = 0; draw < on_path.size(); ++draw) {
    CAPTURE(draw);
    CHECK(noise.on_path(draw) == on_path[static_cast<std::size_t>(draw)]);
    CHECK((normals(noise, 3, draw, 0, n) == philox(9, 3, draw, n)) != noise.on_path(draw));
  }
  CHECK_FALSE(noise.on_path(9));

  // What is left of an overlapping step is what a plan of that rest has.
  const SamplingPlan rest = plan_of({stage(2, 3, {0}, 1)});
  CHECK(normals(BrownianNoise(9, rest), 3, 1, 0, n) == normals(noise, 3, 7, 0, n));
  // The cut of a plan sees the part of the path that it walks.
  const Grid grid = uniform_grid(-6, 6, 12);
  const SamplingPlan whole = ancestral(grid), cut = ancestral(grid.cut(5));
  CHECK(normals(BrownianNoise(1, whole), 0, 6, 0, n) == normals(BrownianNoise(1, cut), 0, 1, 0, n));
}

TEST_CASE("A number does not depend on how it is asked for") {
  const SamplingPlan plan = ancestral(uniform_grid(-5, 5, 7));
  const BrownianNoise noise(123, plan);
  const std::size_t n = 400;
  const std::vector<float> whole = normals(noise, 4, 3, 0, n);
  support::Random random(3);
  for (int trial = 0; trial < 50; ++trial) {
    const auto element = static_cast<std::size_t>(16 * random.integer(0, 24));
    const auto size = static_cast<std::size_t>(random.integer(0, static_cast<int>(n - element)));
    const auto part = normals(noise, 4, 3, element, size);
    CHECK(
        std::equal(part.begin(), part.end(), whole.begin() + static_cast<std::ptrdiff_t>(element)));
  }
  const auto wide = normals<double>(noise, 4, 3, 0, n);
  CHECK(std::equal(wide.begin(), wide.end(), whole.begin(),
                   [](double a, float b) { return a == static_cast<double>(b); }));
  CHECK(normals(BrownianNoise(123, plan, {.first_sample = 4}), 0, 3, 0, n) == whole);
  CHECK(normals(BrownianNoise(noise), 4, 3, 0, n) == whole);
  CHECK(normals(noise, 4, 3, (std::uint64_t{1} << 34) - 16, 16).size() == 16);  // the last elements

  // In a run: a sample of a batch and the sample alone.
  const auto network = exact_denoiser(Gaussian::isotropic(Eigen::VectorXd::Constant(21, 0.3), 0.2));
  const Points batch = sample<Points>(plan, network, {5, 21}, BrownianNoise{8, plan});
  const Points alone =
      sample<Points>(plan, network, {1, 21}, BrownianNoise{8, plan, {.first_sample = 3}});
  for (Eigen::Index i = 0; i < 21; ++i) CHECK(batch(3, i) == alone(0, i));
}

TEST_CASE("With one clean picture the number of steps makes no difference at all") {
  // The bridge to a known x0 is Brownian in SNR: every ancestral step follows the path exactly.
  const Eigen::VectorXd point = Eigen::VectorXd::LinSpaced(6, -1, 1);
  const auto network = exact_denoiser(Gaussian::isotropic(point, 0));
  const auto run = [&](int steps, BrownianClock clock) {
    const SamplingPlan plan = ancestral(uniform_grid(-8, 3, steps));  // ends amid noise
    return sample<Points>(plan, network, {20, 6}, BrownianNoise{4, plan, {.clock = clock}});
  };
  const Points coarse = run(2, BrownianClock::snr), fine = run(64, BrownianClock::snr);
  CHECK(rms_difference(coarse, fine) < 1e-5);
  // Another clock's path is walked along only in the limit.
  CHECK(rms_difference(run(2, BrownianClock::sigma), run(64, BrownianClock::sigma)) > 1e-2);
}

TEST_CASE("More steps refine the same sample") {
  Eigen::VectorXd mean(60), variances(60);
  for (Eigen::Index i = 0; i < 60; ++i) {
    mean[i] = std::sin(static_cast<double>(i));
    variances[i] = std::exp2(static_cast<double>(i % 7) - 5);  // from 1/32 to 2
  }
  const auto network = exact_denoiser(Gaussian::diagonal(mean, variances));
  const VpLinear schedule;
  const auto end = knot_at(schedule, 0);
  const auto grid = [&](int steps) {  // uniform in log SNR, then the clean end
    std::vector<Knot> knots;
    for (int i = 0; i < steps; ++i)
      knots.push_back(knot_at(schedule, schedule.time(-9.2 + 17.2 * i / (steps - 1))));
    knots.push_back(end);
    return Grid::through(knots);
  };
  const auto ddim = [&](int steps) { return ancestral(grid(steps)); };
  const auto ddpm = [&](int steps) { return make_plan(grid(steps), DdpmOptions{}); };
  const auto differences = [&](const auto& make, const auto& noise_of) {
    std::vector<double> result;
    Points before;
    for (const int steps : {20, 40, 80, 160}) {
      const SamplingPlan plan = make(steps);
      const Points x = sample<Points>(plan, network, {8, 60}, noise_of(plan));
      if (steps > 20) result.push_back(rms_difference(before, x));
      before = x;
    }
    return result;
  };
  const auto by_draw = [](const SamplingPlan&) { return PhiloxNoise{6}; };
  for (const BrownianClock clock : clocks) {
    const auto by_path = [&](const SamplingPlan& plan) {
      return BrownianNoise{6, plan, {.clock = clock}};
    };
    for (const auto& [path, draw] :
         {std::pair(differences(ddim, by_path), differences(ddim, by_draw)),
          std::pair(differences(ddpm, by_path), differences(ddpm, by_draw))}) {
      CAPTURE(static_cast<int>(clock), path, draw);
      CHECK(path[0] < draw[0] / 5);
      CHECK(path[2] < draw[2] / 20);
      for (std::size_t i = 1; i < path.size(); ++i) CHECK(path[i] < 0.65 * path[i - 1]);
      CHECK(draw[2] > 0.5 * draw[0]);
    }
  }
}

TEST_CASE("The samples of a Brownian run are distributed as they should be") {
  const auto network =
      exact_denoiser(Gaussian::isotropic(Eigen::VectorXd::Constant(250, 0.7), 0.3));
  const SamplingPlan plan = ancestral(uniform_grid(-10, 9, 100));
  const Points x = sample<Points>(plan, network, {16, 250}, BrownianNoise{10, plan});
  const Points y = sample<Points>(plan, network, {16, 250}, PhiloxNoise{10});
  const auto moments = [](const Points& points) {
    double sum = 0, squares = 0;
    for (Eigen::Index i = 0; i < points.size(); ++i) {
      sum += points.data()[i];
      squares += points.data()[i] * points.data()[i];
    }
    const double mean = sum / static_cast<double>(points.size());
    return std::pair(mean, squares / static_cast<double>(points.size()) - mean * mean);
  };
  const auto [mean, variance] = moments(x);
  CHECK(std::abs(mean - 0.7) < 4 * std::sqrt(0.3 / 4000));
  CHECK(std::abs(variance - 0.3) < 4 * 0.3 * std::sqrt(2.0 / 4000) + 0.02);  // 100 steps
  const auto [other_mean, other_variance] = moments(y);
  CHECK(std::abs(variance - other_variance) < 6 * 0.3 * std::sqrt(2.0 / 4000));
  CHECK(mean != other_mean);
}

TEST_CASE("Pure noise and clean data are levels too") {
  const SamplingPlan plan = DdimSampler{RectifiedFlow(), {.steps = 4, .eta = 1}}.plan();
  REQUIRE(plan[0].at.alpha == 0);
  REQUIRE(plan[3].to.sigma == 0);
  for (const BrownianClock clock : clocks) {
    const BrownianNoise noise(1, plan, {.clock = clock});
    for (std::uint64_t draw = 1; draw <= 3; ++draw) {
      CHECK(noise.on_path(draw));
      const auto z = normals(noise, 0, draw, 0, 10'000);
      CHECK(std::abs(correlation(z, z) - 1) < 0.06);
    }
  }
}

TEST_CASE("BrownianNoise names what it refuses") {
  const SamplingPlan plan = ancestral(uniform_grid(-5, 5, 7));
  const SamplingPlan longer = ancestral(uniform_grid(-5, 5, 8));
  const BrownianNoise noise(1, plan);
  CHECK_NOTHROW(noise.require(10, 8, 1000));
  check_error([&] { noise.require(10, 9, 1000); },
              {"takes 9 draws", "plan of 8", "plan that is run"});
  const auto network = exact_denoiser(Gaussian::isotropic(Eigen::VectorXd::Zero(2), 1));
  check_error([&] { sample<Points>(longer, network, {1, 2}, noise); }, {"takes 9 draws"});
  check_error([&] { noise.require(std::uint64_t{1} << 49, 2, 16); }, {"sample is"});
  check_error([&] { normals(noise, 0, 2, 8, 16); }, {"element 8", "multiple of 16"});
  check_error([&] { BrownianNoise(1, plan, {.clock = static_cast<BrownianClock>(3)}); },
              {"BrownianOptions::clock is 3"});
  check_error([&] { BrownianNoise(1, plan, {.first_sample = std::uint64_t{1} << 48}); },
              {"first_sample"});
  Stage broken = stage(-1, 1, {0}, 1);
  broken.to.sigma = std::numeric_limits<double>::quiet_NaN();
  const SamplingPlan hollow = plan_of({stage(-2, -1, {}, 0), broken});
  check_error([&] { BrownianNoise(1, hollow); }, {"stage 1", "nan", "log-SNR"});
}
