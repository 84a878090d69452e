// Image to image: where it starts by strength and by level, that the noise is of that very level,
// the closed forms on Gaussian data, and differential image to image.

#include "catch.hpp"
#include "exact_edit.hpp"
#include "refusals.hpp"
#include "support.hpp"

#include <diffusion/edit/differential.hpp>
#include <diffusion/edit/image_to_image.hpp>
#include <diffusion/noise/philox.hpp>
#include <diffusion/plan/laws.hpp>

#include <cmath>
#include <cstddef>
#include <functional>
#include <limits>
#include <string>
#include <vector>

using namespace diffusion;
using Catch::Approx;
using exact::Points;

namespace {

const double not_a_number = std::numeric_limits<double>::quiet_NaN();

/// Independent normal coordinates, N(0.4, 0.36) each.
constexpr double mu = 0.4, variance = 0.36;
Gaussian data(Eigen::Index d = 1) {
  return Gaussian::isotropic(Eigen::VectorXd::Constant(d, mu), variance);
}

Points constant(Eigen::Index batch, Eigen::Index d, double value) {
  Points points(batch, d);
  points.setConstant(value);
  return points;
}

/// The exact law of image to image of the picture y on that data.
exact::Law edited(const AnySampler& sampler, const Grid& start, PredictionType type, double y) {
  const Eigen::Index batch = exact::batch_of(sampler.plan(start), 1);
  return exact::law_of(image_to_image(sampler, exact_denoiser(data(), type), constant(batch, 1, y),
                                      start, exact::UnitNoise{1}));
}

TEST_CASE("a strength is a number of steps, rounded as diffusers rounds") {
  struct Row {
    int steps;
    double strength;
    int expected;
  };
  for (const Row& row : std::vector<Row>{{50, 1, 50},
                                         {50, 0.8, 40},
                                         {50, 0.75, 37},
                                         {50, 0.3, 15},
                                         {50, 0.01, 0},
                                         {10, 0.99, 9},
                                         {100, 0.29, 28},  // 28.999999999999996
                                         {100, 0.57, 56},
                                         {1, 1, 1}}) {
    INFO(row.steps << " steps, strength " << row.strength);
    CHECK(steps_of_strength(row.steps, row.strength) == row.expected);
  }
  const Grid grid = make_grid(NoiseSchedule<>::scaled_linear(), 50);
  CHECK(grid_from_strength(grid, 0.6).start() == grid[20].from);
  CHECK(grid_from_strength(grid, 0.6).first_step() == 20);
  CHECK(grid_from_strength(grid, 1) == grid);
}

TEST_CASE("a level is a level: the nearest knot, or exactly") {
  const auto schedule = NoiseSchedule<>::scaled_linear();
  const DdimSampler sampler{schedule, {.steps = 20}};
  const Grid grid = sampler.grid();
  const KnotAt between = knots_between(schedule, grid);
  const auto s = [](const Knot& knot) { return knot.sigma / knot.alpha; };
  for (int i = 0; i < grid.size(); ++i) {
    CHECK(grid_from_level(grid, s(grid[i].from)).first_step() == i);
    CHECK(grid_from_level(grid, 1.01 * s(grid[i].from)).first_step() == i);
    const Grid same = grid_from_level(grid, s(grid[i].from), between);
    CHECK(same == grid.cut(i));
  }
  CHECK(grid_from_level(grid, 1e9).first_step() == 0);
  CHECK(grid_from_level(grid, 1e-9).first_step() == 19);
  for (const double wanted : {5.0, 1.0, 0.3, 0.05}) {
    const Grid cut = grid_from_level(grid, wanted, between);
    INFO(wanted);
    CHECK(s(cut.start()) == Approx(wanted).epsilon(1e-9));
    CHECK(cut.contiguous());
    CHECK(cut.finish() == grid.finish());
    CHECK(s(cut[0].to) < wanted);
    CHECK(cut.first_step() + cut.size() == grid.size());
    CHECK(check_laws(sampler.plan(cut)).worst() < 1e-12);
  }
}

TEST_CASE("the noise has the level of the first stage, for every sampler and schedule") {
  const Points picture = constant(40, 1, 0.7);
  for (const auto& [name, sampler, type] : exact::cases(10)) {
    const SamplingPlan plan = sampler.plan(grid_from_strength(sampler.grid(), 0.5));
    exact::UnitNoise noise{1};
    const auto law = exact::law_of(noised_start(plan.view(), picture, noise));
    INFO(name);
    CHECK(law.mean[0] == Approx(0.7 * plan[0].at.alpha).epsilon(1e-12));
    CHECK(law.covariance(0, 0) == Approx(plan[0].at.sigma * plan[0].at.sigma).epsilon(1e-12));
    CHECK(check_laws(plan).continuity < 1e-12);
  }
}

TEST_CASE("image to image on Gaussian data: mean and variance in closed form") {
  // The state at the start is N(alpha y, sigma^2). The flow of the ODE keeps (x - alpha mu) /
  // sqrt(D), D = alpha^2 v + sigma^2; the reverse SDE draws from the posterior of x0.
  const double y = 1.9;
  const std::vector<std::pair<std::string, SamplerOptions>> odes = {
      {"DDIM", DdimOptions{.steps = 500}},
      {"DPM++ 2M", DpmSolverOptions{.steps = 500, .order = 2}},
      {"Heun", HeunOptions{.steps = 500}}};
  const AnySchedule schedule{NoiseSchedule<>::scaled_linear()};
  for (const double strength : {0.2, 0.5, 0.9})
    for (const auto& [name, options] : odes) {
      const AnySampler sampler(schedule, options);
      const Grid start = grid_from_strength(sampler.grid(), strength);
      const auto [t, alpha, sigma] = start.start();
      const double D = alpha * alpha * variance + sigma * sigma;
      const auto law = edited(sampler, start, PredictionType::epsilon, y);
      INFO(name << ", strength " << strength);
      const double tolerance = name == "DDIM" ? 0.02 : 0.004;
      CHECK(law.mean[0] ==
            Approx(mu + std::sqrt(variance / D) * alpha * (y - mu)).margin(tolerance));
      CHECK(law.covariance(0, 0) == Approx(variance * sigma * sigma / D).margin(tolerance));
    }
  for (const double strength : {0.2, 0.5, 0.9}) {
    const AnySampler sampler(schedule, EulerAncestralOptions{.steps = 500});
    const Grid start = grid_from_strength(sampler.grid(), strength);
    const auto [t, alpha, sigma] = start.start();
    const double D = alpha * alpha * variance + sigma * sigma, gain = alpha * variance / D;
    const auto law = edited(sampler, start, PredictionType::v, y);
    INFO("Euler a, strength " << strength);
    CHECK(law.mean[0] == Approx(mu + gain * alpha * (y - mu)).margin(0.01));
    CHECK(law.covariance(0, 0) ==
          Approx(variance * sigma * sigma / D + gain * gain * sigma * sigma).margin(0.01));
  }
}

TEST_CASE("image to image runs with every sampler and prediction type, by strength and level") {
  for (const auto& [name, sampler, type] : exact::cases(30)) {
    INFO(name);
    const auto weak = edited(sampler, grid_from_strength(sampler.grid(), 0.1), type, 1.9);
    const auto strong = edited(sampler, grid_from_strength(sampler.grid(), 1), type, 1.9);
    CHECK(std::abs(weak.mean[0] - 1.9) < 0.35);
    CHECK(strong.mean[0] == Approx(mu).margin(0.15));
    CHECK(strong.covariance(0, 0) == Approx(variance).margin(0.25));
    const auto level = edited(sampler, grid_from_level(sampler.grid(), 0.5), type, 1.9);
    CHECK(std::abs(level.mean[0] - mu) < std::abs(weak.mean[0] - mu) + 1e-9);
  }
}

TEST_CASE("a multistep method starts anew where the grid is cut") {
  const AnySampler sampler{NoiseSchedule<>::scaled_linear(),
                           DpmSolverOptions{.steps = 20, .order = 2}};
  const Points picture = constant(3, 2, 0.5);
  const Points a = image_to_image(sampler, exact_denoiser(data(2)), picture, 0.5, PhiloxNoise{3});
  const SamplingPlan plan = sampler.plan(sampler.grid().cut(10));
  CHECK(plan[0].history[0].source < 0);
  const Points b = image_to_image(plan, exact_denoiser(data(2)), picture, PhiloxNoise{3});
  CHECK(support::same_bits(a, b));
}

TEST_CASE("differential: one strength everywhere is image to image of that strength") {
  for (const auto& options :
       std::vector<SamplerOptions>{DdimOptions{.steps = 20}, HeunOptions{.steps = 20}})
    for (const double strength : {0.25, 0.6, 1.0}) {
      const AnySampler sampler{NoiseSchedule<>::scaled_linear(), options};
      const Points picture = constant(3, 4, 0.5);
      const Points plain =
          image_to_image(sampler, exact_denoiser(data(4)), picture, strength, PhiloxNoise{3});
      const Points held = sample<Points>(
          sampler, exact_denoiser(data(4)), {3, 4}, PhiloxNoise{3}, {},
          Differential(sampler.grid(), picture, constant(1, 1, strength), PhiloxNoise{3}));
      INFO("strength " << strength);
      for (Eigen::Index i = 0; i < plain.size(); ++i)
        CHECK(held.data()[i] == Approx(plain.data()[i]).margin(1e-12));
    }
}

TEST_CASE("differential: each pixel has the law of its own strength, and 0 keeps it") {
  const AnySampler sampler{NoiseSchedule<>::scaled_linear(),
                           DpmSolverOptions{.steps = 200, .order = 2}};
  const SamplingPlan plan = sampler.plan();
  const std::vector<double> map = {0, 0.004, 0.3, 0.7, 1};
  const Eigen::Index batch = exact::batch_of(plan, 5);
  Points strengths(1, 5);
  for (int i = 0; i < 5; ++i) strengths(0, i) = map[static_cast<std::size_t>(i)];
  for (const KnownNoise kind : {KnownNoise::fixed, KnownNoise::fresh}) {
    const exact::UnitNoise noise{5};
    const auto law = exact::law_of(
        sample<Points>(plan, exact_denoiser(data(5)), {batch, 5}, noise, {},
                       Differential(sampler.grid(), constant(1, 1, 1.9), strengths, noise, kind)));
    for (int i = 0; i < 5; ++i) {
      INFO("strength " << map[static_cast<std::size_t>(i)]);
      if (i < 2) {
        CHECK(law.mean[i] == 1.9);
        CHECK(law.covariance(i, i) == 0);
        continue;
      }
      const auto own =
          edited(sampler, grid_from_strength(sampler.grid(), map[static_cast<std::size_t>(i)]),
                 PredictionType::epsilon, 1.9);
      // The history of a held pixel is that of its estimates while held: another start-up.
      CHECK(law.mean[i] == Approx(own.mean[0]).margin(5e-3));
      CHECK(law.covariance(i, i) == Approx(own.covariance(0, 0)).margin(5e-3));
    }
  }
}

TEST_CASE("differential runs with every sampler and prediction type; levels are right throughout") {
  for (const auto& [name, sampler, type] : exact::cases(12)) {
    INFO(name);
    const SamplingPlan plan = sampler.plan();
    const Eigen::Index batch = exact::batch_of(plan, 2);
    Points strengths(1, 2);
    strengths.setValues({{0, 0.5}});
    const exact::UnitNoise noise{2};
    const double middle = grid_from_strength(sampler.grid(), 0.5).start().log_snr();
    const auto law = exact::law_of(sample<Points>(
        plan, exact_denoiser(data(2), type), {batch, 2}, noise, {},
        Differential(sampler.grid(), constant(1, 2, 1.9), strengths, noise),
        exact::Watch{[&](const Stage& stage, const Points& x) {
          const auto now = exact::law_of(x);
          for (int i = 0; i < 2; ++i)
            if (i == 0 || stage.to.log_snr() < middle - 1e-6) {
              CHECK(now.mean[i] == Approx(1.9 * stage.to.alpha).epsilon(1e-12));
              CHECK(now.covariance(i, i) ==
                    Approx(stage.to.sigma * stage.to.sigma).epsilon(1e-12).margin(1e-15));
            }
        }}));
    CHECK(law.mean[0] == 1.9);
    CHECK(std::abs(law.mean[1] - mu) < 1.4);
    CHECK(law.covariance(1, 1) < 0.7);
  }
}

TEST_CASE("strengths and levels out of range are refused") {
  const auto schedule = NoiseSchedule<>::scaled_linear();
  const DdimSampler sampler{schedule, {.steps = 10}};
  const Grid grid = sampler.grid();
  const Points y = constant(2, 2, 0.5);
  const auto network = exact_denoiser(data(2));
  const auto between = knots_between(schedule, grid);
  const auto differential = [&](const Points& picture, const Points& map) {
    sample<Points>(sampler, network, {2, 2}, PhiloxNoise{1}, {},
                   Differential(grid, picture, map, PhiloxNoise{1}));
  };
  struct Row {
    std::function<void()> make;
    std::string says;
  };
  const std::string unit = "it must lie in (0, 1]";
  for (const Row& row : std::vector<Row>{
           {[&] { image_to_image(sampler, network, y, 0.0, PhiloxNoise{1}); },
            "the strength is 0; " + unit},
           {[&] { image_to_image(sampler, network, y, -0.5, PhiloxNoise{1}); }, unit},
           {[&] { image_to_image(sampler, network, y, 1.01, PhiloxNoise{1}); },
            "the strength is 1.01; " + unit},
           {[&] { image_to_image(sampler, network, y, not_a_number, PhiloxNoise{1}); }, unit},
           {[&] { image_to_image(sampler, network, y, 0.05, PhiloxNoise{1}); },
            "the strength is 0.05; of 10 steps that leaves none, it must be at least 0.1"},
           {[&] { steps_of_strength(0, 0.5); }, "steps is 0"},
           {[&] { grid_from_level(grid, 0); }, "the level s = sigma / alpha is 0"},
           {[&] { grid_from_level(grid, not_a_number); }, "the level s"},
           {[&] { grid_from_level(grid, 1e4, between); }, "is 10000; it must be above 0"},
           {[&] { grid_from_level(grid, -1, between); }, "is -1"},
           {[&] { grid_from_level(grid, 1, KnotAt{}); }, "needs the knots between"},
           {[&] { image_to_image(sampler, network, Points(0, 2), 0.5, PhiloxNoise{1}); }, "0x2"},
           {[&] { differential(y, constant(1, 1, 1.5)); },
            "the map of strengths holds 1.5 as element 0; every number must lie in [0, 1]"},
           {[&] { differential(y, constant(1, 1, -0.1)); }, "holds -0.1"},
           {[&] { differential(y, constant(1, 1, not_a_number)); }, "must be finite"},
           {[&] { differential(constant(1, 1, not_a_number), y); },
            "the known picture holds nan as element 0"},
           {[&] { differential(y, constant(3, 2, 0.5)); },
            "the map of strengths has the shape 3x2; each dimension must be that of the state"},
           {[&] { differential(constant(2, 3, 0.5), y); }, "the known picture has the shape 2x3"},
           {[&] { Differential(grid, y, y, PhiloxNoise{1}, KnownNoise::draw); },
            "its KnownNoise must be fixed or fresh"},
       }) {
    check_refusals({{row.says.c_str(), row.make, {row.says.c_str()}}});
  }
}

}  // namespace
