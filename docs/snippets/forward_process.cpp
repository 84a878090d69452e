// docs/forward-process.md: noising in one go and in two, and the way back where x0 is known.
#include <diffusion/forward/forward_diffusion.hpp>

#include <cmath>
#include <cstdio>
#include <vector>

using Pixels = Eigen::Tensor<float, 2, Eigen::RowMajor>;  // sample, pixel

int main() {
  const diffusion::ForwardDiffusion forward{diffusion::NoiseSchedule<>::linear()};

  Pixels x0(3, 2), eps(3, 2);
  x0.setValues({{1, -1}, {1, -1}, {1, -1}});
  eps.setValues({{0.5F, 0.5F}, {0.5F, 0.5F}, {0.5F, 0.5F}});
  const std::vector<double> timesteps{0, 300, 999};  // one for each sample
  const Pixels x = forward.add_noise(x0, eps, timesteps);
  for (int i = 0; i < 3; ++i)
    std::printf("t = %3.0f: %6.3f %6.3f\n", timesteps[static_cast<std::size_t>(i)],
                static_cast<double>(x(i, 0)), static_cast<double>(x(i, 1)));

  // From data to 300 and on to 500 is as good as to 500 at once.
  const auto to_300 = forward.marginal(300);
  const auto further = forward.step(300, 500);
  const auto to_500 = forward.marginal(500);
  std::printf("weight of x0: %.6f = %.6f\n", to_300.from_x0 * further.from_x, to_500.from_x0);
  std::printf("variance:     %.6f = %.6f\n",
              to_300.variance * further.from_x * further.from_x + further.variance,
              to_500.variance);

  const auto back = forward.posterior(300, 500);
  std::printf("x_300 given x_500 and x0: %.3f x_500 + %.3f x0, deviation %.3f\n", back.from_x,
              back.from_x0, std::sqrt(back.variance));
}
