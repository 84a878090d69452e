// The fifteen lines of the README: a schedule, a sampler, a network, a sample.
#include <diffusion/diffusion.hpp>

#include <iostream>

using Image = Eigen::Tensor<float, 4, Eigen::RowMajor>;  // batch, channel, height, width

int main() {
  const auto schedule = diffusion::NoiseSchedule<>::linear();  // the one that the network knows
  const diffusion::DdimSampler sampler{schedule, {.steps = 20}};

  // Your network goes here. This one is exact for pictures that are all of one grey, 0.5.
  const auto network = [&](const Image& x, double t, Image& epsilon) {
    const auto alpha = static_cast<float>(schedule.alpha(t));
    const auto sigma = static_cast<float>(schedule.sigma(t));
    epsilon = (x - alpha * 0.5F) / sigma;
  };

  const Image pictures =
      diffusion::sample<Image>(sampler, network, {2, 1, 3, 3}, diffusion::PhiloxNoise{42});
  std::cout << pictures.reshape(Eigen::array<Eigen::Index, 2>{2, 9}) << "\n";  // 0.5 throughout
}
