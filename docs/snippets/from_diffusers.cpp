// Prints what the functions of docs/from-diffusers.md give, to two decimals.
#include "from_diffusers.hpp"

#include <array>
#include <cmath>
#include <cstdio>
#include <utility>

namespace {

void print(const char* name, const from_diffusers::Image& x) {
  std::printf("%-20s", name);
  for (Eigen::Index i = 0; i < std::min<Eigen::Index>(x.size(), 4); ++i)
    std::printf(" %8.2f", static_cast<double>(x.data()[i]));
  std::printf("\n");
}

from_diffusers::Image ramp(Eigen::Index batch, Eigen::Index height, Eigen::Index width) {
  from_diffusers::Image x(batch, 1, height, width);
  for (Eigen::Index i = 0; i < x.size(); ++i)
    x.data()[i] = -1 + 2 * static_cast<float>(i) / static_cast<float>(x.size() - 1);
  return x;
}

}  // namespace

int main() {
  using namespace from_diffusers;
  // The scheduler of the bundled model, as its file has it.
  const auto config = diffusion::parse_diffusers_config(
      R"({"_class_name": "DDIMScheduler", "clip_sample": false, "timestep_spacing": "trailing"})");

  const ByHand scheduler = by_hand();
  for (std::size_t i = 0; i < scheduler.timesteps.size(); ++i)
    std::printf("t = %3.0f, alphas_cumprod[t] = %.6f\n", scheduler.timesteps[i],
                static_cast<double>(scheduler.alphas_cumprod[i]));
  std::printf("init_noise_sigma = %g\n", scheduler.init_noise_sigma);

  diffusion::TorchCpuNoise one{1};
  const Image x0 = ramp(3, 2, 2);
  const Forward noised = forward(x0, randn(x0.dimensions(), one));
  print("noisy", noised.noisy);
  print("velocity", noised.velocity);

  diffusion::TorchCpuNoise two{2};
  const OneStep step = one_step(config, randn({2, 1, 2, 3}, two));
  print("pred_original_sample", step.pred_original_sample);
  print("prev_sample", step.prev_sample);

  print("guided, scale 3", guided_loop(config, 10, 3, 7));
  print("image to image", image_to_image(config, ramp(2, 2, 3), 10, 0.6, 8));
}
