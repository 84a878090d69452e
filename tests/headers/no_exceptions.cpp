// Compiled without exceptions and without run-time types: the core must not need them.
#include <diffusion/diffusion.hpp>

using Image = Eigen::Tensor<float, 3, Eigen::RowMajor>;

Image sample_without_exceptions() {
  const auto schedule = diffusion::NoiseSchedule<>::linear();
  const auto network = [](const Image& x, double, Image& out) { out = x; };
  diffusion::TorchCpuNoise noise{1};
  Image x = diffusion::sample<Image>(diffusion::DdpmSampler{schedule, {.steps = 5}}, network,
                                     {2, 3, 4}, noise);
  diffusion::ClassifierFreeGuidance guided(
      [](const Image& z, double, const diffusion::Conditions<int>&, Image& out) { out = z; },
      std::vector<int>{1, 2}, 0, {.scale = 2});
  diffusion::sample_in_place(diffusion::DdimSampler{schedule, {.steps = 5}}, guided, x,
                             diffusion::PhiloxNoise{1});
  return x;
}
