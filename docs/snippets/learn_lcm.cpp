// docs/learn/acceleration.md: an exact student, sampled in a few steps, beside an ordinary network.
#include <diffusion/denoiser/exact/exact_denoiser.hpp>
#include <diffusion/diffusion.hpp>

#include <cstdio>

using Points = Eigen::Tensor<double, 2, Eigen::RowMajor>;
using Vector = Eigen::VectorXd;

double variance(const Points& x) {
  const Eigen::Map<const Eigen::ArrayXd> values(x.data(), x.size());
  return (values - values.mean()).square().mean();
}

int main() {
  const auto data = diffusion::Gaussian::isotropic(Vector{{0.5}}, 0.25);
  const auto schedule = diffusion::NoiseSchedule<>::linear();
  const auto network = diffusion::exact_denoiser(data);

  // What the student is to learn: the end, x0, of the path that goes through x at time t.
  const auto student = [&](const Points& x, double t, Points& x0) {
    x0.resize(x.dimensions());
    for (Eigen::Index i = 0; i < x.size(); ++i)
      x0(i, 0) = data.flow(Vector{{x(i, 0)}}, schedule.knot(t), diffusion::Knot{0, 1, 0})[0];
  };

  std::printf("variance of the data    0.25\n");
  for (const int steps : {1, 2, 4, 8}) {
    const diffusion::LcmSampler lcm{schedule,
                                    {.grid = {.timesteps = diffusion::lcm_timesteps(1000, steps)}}};
    const diffusion::PhiloxNoise noise{7};
    const Points mean = diffusion::sample<Points>(lcm, network, {100'000, 1}, noise);
    const Points end = diffusion::sample<Points>(
        lcm, student, {100'000, 1}, noise, {.prediction_type = diffusion::PredictionType::sample});
    std::printf("%d steps: student %.2f, network that predicts the mean %.2f\n", steps,
                variance(end), variance(mean));
  }
}
