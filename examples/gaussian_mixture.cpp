// Sampling where everything is known: a ring of eight Gaussians in the plane. The exact denoiser
// needs no training, so what goes wrong here is the sampler's fault alone. Writes a picture of the
// points on their way from noise to data, by DDPM (above) and by DDIM (below).
#include <diffusion/diffusion.hpp>
#include <support/canvas.hpp>

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

using Points = Eigen::Tensor<double, 2, Eigen::RowMajor>;  // point, coordinate

constexpr int modes = 8;
constexpr double spread = 0.08;  // standard deviation of a mode; the ring has radius 1

std::array<double, 2> center(int mode) {
  const double angle = 2 * std::numbers::pi * mode / modes;
  return {std::cos(angle), std::sin(angle)};
}

// E[x0 | x] of a mixture: each mode's own Gaussian answer, weighed by how likely the mode is.
// x = alpha x0 + sigma eps makes mode m a Gaussian N(alpha c_m, alpha^2 spread^2 + sigma^2).
void exact_denoiser(const Points& x, const diffusion::Query& query, Points& x0) {
  const double variance = query.alpha * query.alpha * spread * spread + query.sigma * query.sigma;
  const double gain = query.alpha * spread * spread / variance;
  for (Eigen::Index i = 0; i < x.dimension(0); ++i) {
    std::array<double, modes> log_weight{};
    double largest = -1e300;
    for (int m = 0; m < modes; ++m) {
      const auto c = center(m);
      const double dx = x(i, 0) - query.alpha * c[0];
      const double dy = x(i, 1) - query.alpha * c[1];
      log_weight[static_cast<std::size_t>(m)] = -(dx * dx + dy * dy) / (2 * variance);
      largest = std::max(largest, log_weight[static_cast<std::size_t>(m)]);
    }
    double sum = 0;
    x0(i, 0) = x0(i, 1) = 0;
    for (int m = 0; m < modes; ++m) {
      const auto c = center(m);
      const double weight = std::exp(log_weight[static_cast<std::size_t>(m)] - largest);
      sum += weight;
      for (int k = 0; k < 2; ++k) {
        const double mean = c[static_cast<std::size_t>(k)];
        x0(i, k) += weight * (mean + gain * (x(i, k) - query.alpha * mean));
      }
    }
    x0(i, 0) /= sum;
    x0(i, 1) /= sum;
  }
}

examples::Panel panel_of(const Points& points, const std::string& title) {
  examples::Panel panel;
  panel.title = title;
  panel.x = {.label = "", .low = -2.5, .high = 2.5};
  panel.y = {.label = "", .low = -2.5, .high = 2.5};
  panel.same_scale = true;
  panel.show_axes = false;
  std::vector<examples::Point> dots;
  for (Eigen::Index i = 0; i < points.dimension(0); ++i)
    dots.push_back({points(i, 0), points(i, 1)});
  panel.add_dots("", std::move(dots), examples::Color{31, 88, 158, 0.5}, 1.2);
  return panel;
}

template <class Sampler>
void add_row(std::vector<examples::Panel>& panels, const std::string& title,
             const Sampler& sampler) {
  const diffusion::PhiloxNoise noise{7};
  const auto watch = [&](const auto& run) {
    for (const int percent : {0, 60, 76, 86, 94})  // most of the way nothing is to be seen
      if (run.step() == run.steps() * percent / 100)
        panels.push_back(
            panel_of(run.state(), title + ", t = " + std::to_string(std::lround(run.timestep()))));
  };
  const Points end =
      diffusion::sample<Points>(sampler, exact_denoiser, {2000, 2}, noise,
                                {.prediction_type = diffusion::PredictionType::sample}, watch);
  panels.push_back(panel_of(end, title + ", the end"));
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
