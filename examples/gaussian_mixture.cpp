// Sampling where everything is known: a ring of eight Gaussians in the plane. The exact denoiser
// needs no training, so what goes wrong here is the sampler's fault alone. Writes a picture of the
// points on their way from noise to data, by DDPM (above) and by DDIM (below).
#include <diffusion/denoiser/exact/exact_denoiser.hpp>
#include <diffusion/diffusion.hpp>
#include <support/canvas.hpp>
#include <support/points.hpp>

#include <cmath>
#include <cstdio>
#include <exception>
#include <numbers>
#include <string>
#include <utility>
#include <vector>

namespace {

using examples::Points;

// Eight modes of equal weight on a circle of radius 1.
diffusion::GaussianMixture ring() {
  constexpr int modes = 8;
  constexpr double spread = 0.08;  // standard deviation of a mode
  Eigen::Matrix2Xd centers(2, modes);
  for (int m = 0; m < modes; ++m) {
    const double angle = 2 * std::numbers::pi * m / modes;
    centers.col(m) << std::cos(angle), std::sin(angle);
  }
  return diffusion::GaussianMixture::about_points(centers, spread * spread);
}

template <class Sampler>
void add_row(std::vector<examples::Panel>& panels, const std::string& title,
             const Sampler& sampler) {
  const diffusion::PhiloxNoise noise{7};
  const auto watch = [&](const auto& run) {
    for (const int percent : {0, 60, 76, 86, 94})  // most of the way nothing is to be seen
      if (run.step() == run.steps() * percent / 100)
        panels.push_back(examples::panel_of(
            run.state(), title + ", t = " + std::to_string(std::lround(run.timestep())), 2.5));
  };
  const auto network = diffusion::exact_denoiser(ring());
  const Points end = diffusion::sample<Points>(sampler, network, {2000, 2}, noise, {}, watch);
  panels.push_back(examples::panel_of(end, title + ", the end", 2.5));
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const std::string file = argc > 1 ? argv[1] : "gaussian-mixture.png";
    const auto schedule = diffusion::NoiseSchedule<>::linear();
    const auto grid = diffusion::GridOptions{.spacing = diffusion::TimestepSpacing::trailing};
    std::vector<examples::Panel> panels;
    add_row(panels, "DDPM", diffusion::DdpmSampler{schedule, {.steps = 500, .grid = grid}});
    add_row(panels, "DDIM", diffusion::DdimSampler{schedule, {.steps = 50, .grid = grid}});
    examples::write_png(file, examples::draw_panels(panels, 6, 220, 240));
    std::printf("wrote %s\n", file.c_str());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "gaussian-mixture: %s\n", error.what());
    return 1;
  }
}
