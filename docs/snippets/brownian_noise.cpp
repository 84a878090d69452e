// docs/noise.md: the same seed at two numbers of steps, with noise by draw and by path.
#include <diffusion/denoiser/exact/exact_denoiser.hpp>
#include <diffusion/denoiser/exact/gaussian.hpp>
#include <diffusion/noise/brownian_noise.hpp>
#include <diffusion/noise/philox.hpp>
#include <diffusion/samplers/ddim.hpp>
#include <diffusion/sampling/sample.hpp>
#include <diffusion/schedule/noise_schedule.hpp>

#include <cstdio>

using Points = Eigen::Tensor<float, 2, Eigen::RowMajor>;

float mean_distance(const Points& a, const Points& b) {
  const Eigen::Tensor<float, 0, Eigen::RowMajor> mean = (a - b).abs().mean();
  return mean(0);
}

int main() {
  const auto data = diffusion::Gaussian::isotropic(Eigen::VectorXd::Constant(100, 0.5), 0.25);
  const auto network = diffusion::exact_denoiser(data);
  const auto plan_of = [](int steps) {
    const diffusion::GridOptions grid{.spacing = diffusion::TimestepSpacing::trailing};
    const diffusion::DdimSampler sampler{diffusion::NoiseSchedule<>::linear(),
                                         {.steps = steps, .eta = 1, .grid = grid}};
    return sampler.plan();
  };

  const auto endpoint = [&](const auto& source, int steps) {
    const diffusion::SamplingPlan plan = plan_of(steps);
    return diffusion::sample<Points>(plan, network, {4, 100}, source(plan));
  };
  const auto by_draw = [](const auto&) { return diffusion::PhiloxNoise{42}; };
  const auto by_path = [](const auto& plan) { return diffusion::BrownianNoise{42, plan}; };

  std::printf("mean distance     by draw  by path\n");
  for (const int steps : {20, 80, 320})
    std::printf(
        "%3d and %3d steps  %.2f     %.2f\n", steps, 2 * steps,
        static_cast<double>(mean_distance(endpoint(by_draw, steps), endpoint(by_draw, 2 * steps))),
        static_cast<double>(mean_distance(endpoint(by_path, steps), endpoint(by_path, 2 * steps))));
}
