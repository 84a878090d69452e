// Editing on data that are known exactly, pairs of unit normals of correlation 0.8:
// docs/editing.md.

#include <diffusion/denoiser/exact/exact_denoiser.hpp>
#include <diffusion/edit/differential.hpp>
#include <diffusion/edit/ilvr.hpp>
#include <diffusion/edit/image_to_image.hpp>
#include <diffusion/edit/inpaint.hpp>
#include <diffusion/edit/repaint.hpp>
#include <diffusion/noise/philox.hpp>
#include <diffusion/samplers/dpm_solver.hpp>
#include <diffusion/samplers/euler.hpp>
#include <diffusion/schedule/noise_schedule.hpp>

#include <cstdio>

using namespace diffusion;
using Points = Eigen::Tensor<double, 2, Eigen::RowMajor>;

namespace {

double mean(const Points& x, Eigen::Index column) {
  double sum = 0;
  for (Eigen::Index i = 0; i < x.dimension(0); ++i) sum += x(i, column);
  return sum / static_cast<double>(x.dimension(0));
}

Points point(double first, double second) {
  Points x(1, 2);
  x.setValues({{first, second}});
  return x;
}

}  // namespace

int main() {
  Eigen::MatrixXd covariance(2, 2);
  covariance << 1, 0.8, 0.8, 1;
  const auto network = exact_denoiser(Gaussian(Eigen::VectorXd::Zero(2), covariance));
  const auto schedule = NoiseSchedule<>::scaled_linear();

  const DpmSolverSampler solver{schedule, {.steps = 20}};
  Points pictures(2000, 2);
  pictures.setConstant(1.5);
  for (const double strength : {0.2, 0.5, 0.8}) {
    const Points x = image_to_image(solver, network, pictures, strength, PhiloxNoise{1});
    const Knot start = grid_from_strength(solver.grid(), strength).start();
    std::printf("strength %.1f: from t = %3.0f, sigma %.2f, mean %.2f\n", strength, start.t,
                start.sigma, mean(x, 0));
  }
  const Grid exactly = grid_from_level(solver.grid(), 1.0, knots_between(schedule, solver.grid()));
  std::printf("from sigma / alpha = 1: t = %.1f, then %d steps\n", exactly.start().t,
              exactly.size());

  const EulerAncestralSampler sampler{schedule, {.steps = 40}};
  const Points picture = point(1.5, 0), mask = point(1, 0);
  for (const int times : {1, 2, 4, 8}) {
    const SamplingPlan plan = repaint_plan(sampler, {.jump_length = 5, .jump_n_sample = times});
    const Points x = sample<Points>(plan, network, {2000, 2}, PhiloxNoise{1}, {},
                                    Inpaint(picture, mask, PhiloxNoise{1}));
    std::printf("sampled %d times: %3d calls, known %.2f, filled in %.2f\n", times,
                plan.network_calls(), mean(x, 0), mean(x, 1));
  }
  const Points replaced =
      sample<Points>(sampler, network, {2000, 2}, PhiloxNoise{1}, {}, InpaintX0(picture, mask));
  std::printf("replaced x0: known %.2f, filled in %.2f\n", mean(replaced, 0), mean(replaced, 1));

  const Points changed =
      sample<Points>(solver, network, {2000, 2}, PhiloxNoise{1}, {},
                     Differential(solver.grid(), pictures, point(0, 0.7), PhiloxNoise{1}));
  std::printf("differential: %.2f stays, %.2f changes\n", mean(changed, 0), mean(changed, 1));

  const Points coarse =
      sample<Points>(sampler, network, {2000, 2}, PhiloxNoise{1}, {},
                     Ilvr(point(2, 0.4), PhiloxNoise{1}, IlvrOptions{.factor = 2}));
  std::printf("ILVR: %.2f and %.2f, together %.2f\n", mean(coarse, 0), mean(coarse, 1),
              mean(coarse, 0) + mean(coarse, 1));
}
