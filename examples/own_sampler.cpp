// What a second evaluation in memory is worth: the error of DDIM and of the sampler that
// docs/writing-a-sampler.md builds, over network calls, where the truth is known.
#include <diffusion/denoiser/exact/gaussian_mixture.hpp>
#include <diffusion/diffusion.hpp>
#include <support/canvas.hpp>

#include <cmath>
#include <cstdio>
#include <exception>
#include <numbers>
#include <string>
#include <vector>

#include "adams_bashforth.hpp"

namespace {

using Points = Eigen::Tensor<double, 2, Eigen::RowMajor>;  // point, coordinate

const diffusion::VpLinear schedule;

template <class Sampler>
Points run(const Sampler& sampler, const diffusion::GaussianMixture& data) {
  const auto exact = [&data](const Points& x, const diffusion::Query& query, Points& x0) {
    for (Eigen::Index i = 0; i < x.dimension(0); ++i) {
      const Eigen::Vector2d answer =
          data.x0(Eigen::Vector2d(x(i, 0), x(i, 1)), {query.t, query.alpha, query.sigma});
      x0(i, 0) = answer[0];
      x0(i, 1) = answer[1];
    }
  };
  return diffusion::sample<Points>(sampler, exact, {100, 2}, diffusion::PhiloxNoise{1},
                                   {.prediction_type = diffusion::PredictionType::sample});
}

double distance(const Points& a, const Points& b) {
  const Eigen::Tensor<double, 0, Eigen::RowMajor> squares = (a - b).square().sum();
  return std::sqrt(squares(0) / static_cast<double>(a.dimension(0)));
}

examples::Panel errors(const std::string& title, const diffusion::GaussianMixture& data) {
  examples::Panel panel{.title = title,
                        .x = {.label = "network calls", .low = 4, .high = 400, .logarithmic = true},
                        .y = {.label = "error", .low = 2e-6, .high = 1, .logarithmic = true},
                        .legend = examples::Legend::lower_left};
  using diffusion::TimestepSpacing;
  const diffusion::GridOptions quadratic{.spacing = TimestepSpacing::quadratic};
  const Points truth =
      run(AdamsBashforthSampler{schedule, {.steps = 4000, .grid = quadratic}}, data);
  for (const auto spacing : {TimestepSpacing::leading, TimestepSpacing::quadratic}) {
    const diffusion::GridOptions grid{.spacing = spacing};
    std::vector<double> calls, ddim, own;
    for (int steps = 5; steps <= 320; steps *= 2) {
      calls.push_back(steps);
      ddim.push_back(distance(
          truth, run(diffusion::DdimSampler{schedule, {.steps = steps, .grid = grid}}, data)));
      own.push_back(distance(
          truth, run(AdamsBashforthSampler{schedule, {.steps = steps, .grid = grid}}, data)));
    }
    const std::string times = spacing == TimestepSpacing::leading ? ", even" : ", quadratic";
    panel.add_line("DDIM" + times, calls, ddim);
    panel.add_line("Adams-Bashforth" + times, calls, own);
  }
  for (examples::Series& line : panel.series) line.dot_radius = 3.5;
  return panel;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const std::string file = argc > 1 ? argv[1] : "own-sampler.png";
    Eigen::MatrixXd ring(2, 8);
    for (int m = 0; m < 8; ++m)
      ring.col(m) << std::cos(std::numbers::pi * m / 4), std::sin(std::numbers::pi * m / 4);
    const Eigen::Vector2d center(2, -1);
    const std::vector<examples::Panel> panels{
        errors("one Gaussian", diffusion::GaussianMixture::about_points(center, 0.25)),
        errors("a ring of eight Gaussians", diffusion::GaussianMixture::about_points(ring, 0.01))};
    examples::write_png(file, examples::draw_panels(panels, 2, 480, 360));
    std::printf("wrote %s\n", file.c_str());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "own-sampler: %s\n", error.what());
    return 1;
  }
}
