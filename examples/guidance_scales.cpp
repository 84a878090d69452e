// What the scale of classifier-free guidance does. Above, the plane, where everything is known: the
// first of three clusters is asked for, and with the scale the points leave the others behind, and
// in the end their own cluster too. Below, the bundled network asked for shirts.
#include <diffusion/denoiser/exact/gaussian_mixture.hpp>
#include <diffusion/diffusion.hpp>
#include <support/canvas.hpp>
#include <support/model_folder.hpp>

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <exception>
#include <span>
#include <string>
#include <vector>

namespace {

constexpr std::array<double, 4> scales{1, 2, 4, 8};
constexpr int width = 280, shirts = 9;
const diffusion::GridOptions trailing{.spacing = diffusion::TimestepSpacing::trailing};

using Points = Eigen::Tensor<double, 2, Eigen::RowMajor>;  // point, coordinate

Points sample_points(const diffusion::GaussianMixture& data, double scale) {
  // Condition 0, 1, 2: that cluster; 3: all of them. It answers x0.
  const auto network = [&data](const Points& x, const diffusion::Query& query,
                               const diffusion::Conditions<int>& conditions, Points& x0) {
    const diffusion::Knot at{query.t, query.alpha, query.sigma};
    for (Eigen::Index i = 0; i < x.dimension(0); ++i) {
      const Eigen::Vector2d z(x(i, 0), x(i, 1));
      const int cluster = conditions[static_cast<std::size_t>(i)];
      const Eigen::Vector2d answer =
          cluster == 3 ? data.x0(z, at) : data.component(cluster).gaussian.x0(z, at);
      for (int k = 0; k < 2; ++k) x0(i, k) = answer[k];
    }
  };
  diffusion::ClassifierFreeGuidance guided{network, std::vector<int>(500, 0), 3, {.scale = scale}};
  const diffusion::DdimSampler sampler{diffusion::NoiseSchedule<>::linear(),
                                       {.steps = 100, .grid = trailing}};
  return diffusion::sample<Points>(sampler, guided, {500, 2}, diffusion::PhiloxNoise{1},
                                   {.prediction_type = diffusion::PredictionType::sample});
}

examples::Panel points_at(double scale) {
  Eigen::MatrixXd centers(2, 3);
  centers << -0.8, 0.6, 0.5,  //
      0, 0.8, -0.7;
  examples::Panel panel{.title = "scale " + std::to_string(std::lround(scale)),
                        .x = {.low = -2.9, .high = 1.5},
                        .y = {.low = -2.2, .high = 2.2},
                        .same_scale = true,
                        .show_axes = false,
                        .legend = examples::Legend::none};
  for (int k = 0; k < 3; ++k) {  // circles of twice the standard deviation
    examples::Series circle{.color = k == 0 ? examples::series_color(1) : examples::grey};
    for (double angle = 0; angle < 6.3; angle += 0.05)
      circle.points.push_back(
          {centers(0, k) + 0.7 * std::cos(angle), centers(1, k) + 0.7 * std::sin(angle)});
    panel.series.push_back(circle);
  }
  const Points end =
      sample_points(diffusion::GaussianMixture::about_points(centers, 0.35 * 0.35), scale);
  std::vector<examples::Point> dots;
  for (Eigen::Index i = 0; i < end.dimension(0); ++i) dots.push_back({end(i, 0), end(i, 1)});
  panel.add_dots("", dots, examples::Color{0, 80, 150, 0.5}, 1.5);
  return panel;
}

void draw_shirts(examples::Canvas& canvas, examples::Model& model, double scale, int left,
                 int top) {
  using Pictures = nn::Unet2d<float>::Batch;
  diffusion::ClassifierFreeGuidance guided{examples::conditional(model.network),
                                           std::vector<int>(shirts, 16),  // the class of shirts
                                           model.null_class(),
                                           {.scale = scale}};
  const diffusion::DdimSampler sampler{
      model.scheduler.schedule<double>(),
      {.steps = 25, .grid = trailing, .clipping = diffusion::Clipping::range()}};
  const Pictures pictures = diffusion::sample<Pictures>(
      sampler, guided, {shirts, 1, model.height(), model.width()}, diffusion::PhiloxNoise{1},
      {.prediction_type = model.scheduler.prediction_type});
  const auto size = static_cast<std::size_t>(pictures.size() / shirts);
  for (int i = 0; i < shirts; ++i) {
    const std::span<const float> one(pictures.data() + static_cast<std::size_t>(i) * size, size);
    const auto tile = examples::image_from_planes(one, 1, static_cast<int>(model.height()),
                                                  static_cast<int>(model.width()));
    canvas.picture(tile, left + i % 3 * 3 * tile.width, top + i / 3 * 3 * tile.height, 3);
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const std::string folder = argc > 1 ? argv[1] : "examples/models/digits-and-clothing";
    const std::string file = argc > 2 ? argv[2] : "guidance-scales.png";
    auto model = examples::load_model(folder);
    examples::Canvas canvas(width * static_cast<int>(scales.size()), 310 + 3 * 84 + 6);
    int left = 0;
    for (const double scale : scales) {
      draw_panel(canvas, points_at(scale), left, 0, width, 300);
      draw_shirts(canvas, model, scale, left + 8, 306);
      left += width;
    }
    examples::write_png(file, canvas.image());
    std::printf("wrote %s\n", file.c_str());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "guidance-scales: %s\n", error.what());
    return 1;
  }
}
