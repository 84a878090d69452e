// Why the reverse step adds noise, and how much of it: DDPM as it is, with its larger variance, and
// with its noise left out; on points, whose exact denoiser is known, and on the bundled network.
#include <diffusion/denoiser/exact/exact_denoiser.hpp>
#include <diffusion/diffusion.hpp>
#include <support/canvas.hpp>
#include <support/contact_sheet.hpp>
#include <support/points.hpp>
#include <support/studio.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <exception>
#include <numbers>
#include <string>
#include <utility>
#include <vector>

namespace {

using examples::Points;

constexpr int modes = 8;
constexpr double spread = 0.08;  // standard deviation of a mode; the ring has radius 1

Eigen::MatrixXd centers() {
  Eigen::MatrixXd ring(2, modes);
  for (int mode = 0; mode < modes; ++mode) {
    const double angle = 2 * std::numbers::pi * mode / modes;
    ring.col(mode) << std::cos(angle), std::sin(angle);
  }
  return ring;
}

/// The plan with every noise term left out: each step goes to the posterior's mean.
diffusion::SamplingPlan without_noise(const diffusion::SamplingPlan& plan) {
  std::vector<diffusion::Stage> rows(plan.stages().begin(), plan.stages().end());
  for (diffusion::Stage& row : rows) row.noise = {};
  return {std::move(rows), plan.traits()};
}

struct Ring {
  double radius;  ///< mean distance of the modes' means from the middle; of the data 1
  double spread;  ///< standard deviation within a mode; of the data `spread`
};

/// Each point belongs to the centre that is nearest to it.
Ring measure(const Points& points) {
  const Eigen::MatrixXd ring = centers();
  Eigen::MatrixXd sums = Eigen::MatrixXd::Zero(2, modes);
  Eigen::VectorXd counts = Eigen::VectorXd::Zero(modes);
  double squares = 0;
  for (Eigen::Index i = 0; i < points.dimension(0); ++i) {
    const Eigen::Vector2d point(points(i, 0), points(i, 1));
    Eigen::Index nearest = 0;
    (ring.colwise() - point).colwise().squaredNorm().minCoeff(&nearest);
    sums.col(nearest) += point;
    counts[nearest] += 1;
    squares += point.squaredNorm();
  }
  Ring result{0, 0};
  for (int mode = 0; mode < modes; ++mode) {
    const Eigen::Vector2d mean = sums.col(mode) / counts[mode];
    result.radius += mean.norm() / modes;
    squares -= counts[mode] * mean.squaredNorm();
  }
  result.spread = std::sqrt(squares / 2 / counts.sum());
  return result;
}

using Schedule = diffusion::NoiseSchedule<>;

/// The three ways, and DDIM, which needs no noise because its step is another one.
std::vector<std::pair<std::string, diffusion::SamplingPlan>> plans(const Schedule& schedule,
                                                                   int steps) {
  const diffusion::GridOptions grid{.spacing = diffusion::TimestepSpacing::trailing};
  using diffusion::VarianceType;
  const auto ddpm = [&](VarianceType variance) {
    return diffusion::DdpmSampler{schedule, {.steps = steps, .grid = grid, .variance = variance}}
        .plan();
  };
  return {{"fixed_small", ddpm(VarianceType::fixed_small)},
          {"fixed_large", ddpm(VarianceType::fixed_large)},
          {"no noise", without_noise(ddpm(VarianceType::fixed_small))},
          {"DDIM", diffusion::DdimSampler{schedule, {.steps = steps, .grid = grid}}.plan()}};
}

void draw_points(const std::string& file) {
  const auto mixture = diffusion::GaussianMixture::about_points(centers(), spread * spread);
  const auto network = diffusion::exact_denoiser(mixture);
  const auto schedule = Schedule::linear();
  std::vector<examples::Panel> panels{examples::panel_of(
      diffusion::draw_data<Points>(mixture, {2000, 2}, diffusion::PhiloxNoise{8}), "the data",
      1.6)};
  std::printf("%-26s radius  spread of a mode\n", "");
  std::printf("%-26s %.4f  %.4f\n", "the data", 1.0, spread);
  for (const int steps : {500, 100, 20})
    for (const auto& [title, plan] : plans(schedule, steps)) {
      const Points points =
          diffusion::sample<Points>(plan, network, {2000, 2}, diffusion::PhiloxNoise{7});
      const std::string name = title + ", " + std::to_string(steps) + " steps";
      const Ring ring = measure(points);
      std::printf("%-26s %.4f  %.4f\n", name.c_str(), ring.radius, ring.spread);
      if (steps == 100) panels.push_back(examples::panel_of(points, name, 1.6));
    }
  examples::write_png(file, examples::draw_panels(panels, 5, 220, 240));
  std::printf("wrote %s\n", file.c_str());
}

void draw_digits(examples::Studio& studio, const std::string& file) {
  examples::ContactSheet sheet(2);
  for (const auto& [title, plan] : plans(studio.schedule(), 100))
    sheet.add(title + ", 100 steps",
              examples::tiles_of(studio.sample(plan, {0, 2, 3, 5, 11, 15, 17, 18}, 1, 1)));
  examples::write_png(file, sheet.image());
  std::printf("wrote %s\n", file.c_str());
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const std::string folder = argc > 1 ? argv[1] : "examples/models/digits-and-clothing";
    const std::string out = argc > 2 ? std::string(argv[2]) + "/" : "";
    draw_points(out + "learn-reverse-noise.png");
    examples::Studio studio(folder);
    draw_digits(studio, out + "learn-reverse-noise-digits.png");
  } catch (const std::exception& error) {
    std::fprintf(stderr, "reverse-noise: %s\n", error.what());
    return 1;
  }
}
