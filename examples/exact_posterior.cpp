// What can be known exactly when the data is a mixture of Gaussians: the data itself, what one
// noisy point says of its x0, what one measurement says of it, and the same by sampling with the
// posterior's denoiser.
#include <diffusion/denoiser/exact/exact_denoiser.hpp>
#include <diffusion/denoiser/exact/linear_posterior.hpp>
#include <diffusion/diffusion.hpp>
#include <support/canvas.hpp>

#include <cstdio>
#include <exception>
#include <string>
#include <vector>

namespace {

using Points = Eigen::Tensor<double, 2, Eigen::RowMajor>;  // point, coordinate

diffusion::GaussianMixture three_clusters() {
  using diffusion::Gaussian;
  return {
      {.weight = 2,
       .gaussian = Gaussian(Eigen::Vector2d(-1.0, 0.6), Eigen::Matrix2d{{0.2, 0.15}, {0.15, 0.2}})},
      {.weight = 1,
       .gaussian = Gaussian::diagonal(Eigen::Vector2d(0.9, 0.9), Eigen::Vector2d(0.02, 0.15))},
      {.weight = 2, .gaussian = Gaussian::isotropic(Eigen::Vector2d(0.2, -1.1), 0.06)}};
}

/// Points in the colour of the component of `data` that most likely made them.
examples::Panel scatter(const std::string& title, const Points& points,
                        const diffusion::GaussianMixture& data) {
  examples::Panel panel{.title = title,
                        .x = {.label = "", .low = -2.2, .high = 2.2},
                        .y = {.label = "", .low = -2.2, .high = 2.2},
                        .same_scale = true,
                        .show_axes = false,
                        .legend = examples::Legend::none};
  std::vector<std::vector<examples::Point>> dots(static_cast<std::size_t>(data.size()));
  for (Eigen::Index i = 0; i < points.dimension(0); ++i) {
    Eigen::Index likeliest = 0;
    data.posterior(Eigen::Vector2d(points(i, 0), points(i, 1)), {0, 1, 0}).maxCoeff(&likeliest);
    dots[static_cast<std::size_t>(likeliest)].push_back({points(i, 0), points(i, 1)});
  }
  for (std::size_t k = 0; k < dots.size(); ++k)
    panel.add_dots("", dots[k], examples::series_color(k).with_opacity(0.5), 1.3);
  return panel;
}

void mark(examples::Panel& panel, double x, double y) {
  panel.add_dots("", {{x, y}}, examples::black, 5);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const std::string file = argc > 1 ? argv[1] : "exact-posterior.png";
    const diffusion::GaussianMixture data = three_clusters();
    const Eigen::array<Eigen::Index, 2> shape{1500, 2};
    std::vector<examples::Panel> panels;

    panels.push_back(scatter(
        "data x0", diffusion::draw_data<Points>(data, shape, diffusion::PhiloxNoise{1}), data));

    // A noisy point x = x0 + 0.6 eps is a measurement too; its mean is what a network answers.
    const Eigen::Vector2d x(-0.1, 0.3);
    const double sigma = 0.6;
    const Eigen::Matrix2d one = Eigen::Matrix2d::Identity();
    const auto given_x = posterior(data, {one, x, sigma * sigma * one});
    panels.push_back(
        scatter("x0 given x (dot)",
                diffusion::draw_data<Points>(given_x, shape, diffusion::PhiloxNoise{2}), data));
    mark(panels.back(), x[0], x[1]);
    std::printf("E[x0 | x] = (%.3f, %.3f), twice (%.3f, %.3f)\n", given_x.mean()[0],
                given_x.mean()[1], data.x0(x, {0, 1, sigma})[0], data.x0(x, {0, 1, sigma})[1]);

    // Only x0[0] + x0[1] is measured, as -0.4, with a deviation of 0.15.
    const diffusion::LinearMeasurement measured{Eigen::MatrixXd{{1, 1}}, Eigen::VectorXd{{-0.4}},
                                                Eigen::MatrixXd{{0.15 * 0.15}}};
    const auto given_y = posterior(data, measured);
    panels.push_back(
        scatter("x0 given y, drawn",
                diffusion::draw_data<Points>(given_y, shape, diffusion::PhiloxNoise{3}), data));
    const auto network = diffusion::exact_denoiser(given_y, diffusion::PredictionType::v);
    const diffusion::DdimSampler sampler{diffusion::VpCosine(), {.steps = 100}};
    panels.push_back(scatter(
        "x0 given y, by DDIM",
        diffusion::sample<Points>(sampler, network, shape, diffusion::PhiloxNoise{4}), data));

    examples::write_png(file, examples::draw_panels(panels, 4, 300, 320));
    std::printf("wrote %s\n", file.c_str());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "exact-posterior: %s\n", error.what());
    return 1;
  }
}
