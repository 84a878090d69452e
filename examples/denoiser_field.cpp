// What a perfect network answers: E[x0 | x] for data of three clusters, drawn as a line from x to
// its answer, at four levels of noise.
#include <diffusion/denoiser/exact/gaussian_mixture.hpp>
#include <diffusion/noise/philox.hpp>
#include <support/canvas.hpp>

#include <cstdint>
#include <cstdio>
#include <exception>
#include <limits>
#include <string>
#include <vector>

namespace {

examples::Panel field(const diffusion::GaussianMixture& data, double sigma) {
  char title[32];
  std::snprintf(title, sizeof title, "sigma = %g", sigma);
  examples::Panel panel{.title = title,
                        .x = {.low = -2, .high = 2},
                        .y = {.low = -2, .high = 2},
                        .same_scale = true,
                        .show_axes = false,
                        .legend = examples::Legend::none};

  // The data themselves, a hundred points of each cluster.
  std::vector<examples::Point> points;
  for (int i = 0; i < 300; ++i) {
    double z[2];
    diffusion::PhiloxNoise{2}.fill(static_cast<std::uint64_t>(i), 0, 0, z);
    const Eigen::Vector2d x =
        data.component(i % 3).gaussian.from_normals(Eigen::Vector2d(z[0], z[1]));
    points.push_back({x[0], x[1]});
  }
  panel.add_dots("data", points, examples::Color{213, 94, 0, 0.45}, 1.6);

  // A line without end points is interrupted by a point that is not a number.
  const double nan = std::numeric_limits<double>::quiet_NaN();
  examples::Series ways{.color = examples::Color{110, 110, 110, 0.6}, .line_width = 0.8};
  std::vector<examples::Point> answers;
  for (double y = -1.8; y <= 1.81; y += 0.4) {
    for (double x = -1.8; x <= 1.81; x += 0.4) {
      const Eigen::Vector2d x0 = data.x0(Eigen::Vector2d(x, y), {0, 1, sigma});
      ways.points.insert(ways.points.end(), {{x, y}, {x0[0], x0[1]}, {nan, nan}});
      answers.push_back({x0[0], x0[1]});
    }
  }
  panel.series.push_back(ways);
  panel.add_dots("answers", answers, examples::Color{0, 80, 150, 0.9}, 2.2);
  return panel;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const std::string file = argc > 1 ? argv[1] : "denoiser-field.png";
    Eigen::MatrixXd centers(2, 3);
    centers << -1.1, 1.2, 0.4,  //
        -0.9, -0.5, 1.3;
    const auto data = diffusion::GaussianMixture::about_points(centers, 0.15 * 0.15);
    std::vector<examples::Panel> panels;
    for (const double sigma : {5.0, 1.0, 0.5, 0.1}) panels.push_back(field(data, sigma));
    examples::write_png(file, examples::draw_panels(panels, 4, 300, 320));
    std::printf("wrote %s\n", file.c_str());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "denoiser-field: %s\n", error.what());
    return 1;
  }
}
