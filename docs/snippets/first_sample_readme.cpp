// README.md: the fifteen lines, with a network to go with them.
#include <unsupported/Eigen/CXX11/Tensor>

void my_unet(const Eigen::Tensor<float, 4, Eigen::RowMajor>& x, double t,
             Eigen::Tensor<float, 4, Eigen::RowMajor>& epsilon);

#include <diffusion/diffusion.hpp>

using Image = Eigen::Tensor<float, 4, Eigen::RowMajor>;  // batch, channel, height, width

int main() {
  const auto schedule = diffusion::NoiseSchedule<>::linear();  // the one that the network knows
  const diffusion::DdimSampler sampler{schedule, {.steps = 20}};

  const auto network = [&](const Image& x, double t, Image& epsilon) {
    my_unet(x, t, epsilon);  // yours: LibTorch, ONNX Runtime, TensorRT, your own code
  };

  const Image pictures =
      diffusion::sample<Image>(sampler, network, {16, 3, 32, 32}, diffusion::PhiloxNoise{42});
}

// A network that was trained on black pictures: whatever is there must be noise.
#include <cstdio>

void my_unet(const Image& x, double t, Image& epsilon) {
  static const auto schedule = diffusion::NoiseSchedule<>::linear();
  epsilon = (x + static_cast<float>(schedule.alpha(t))) / static_cast<float>(schedule.sigma(t));
  std::printf("asked about %d pictures at t = %.0f\n", static_cast<int>(x.dimension(0)), t);
}
