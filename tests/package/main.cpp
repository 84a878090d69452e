// A user's program: samples, checks one result against what is known, prints another.
#if __has_include(<diffusion.hpp>)
#include <diffusion.hpp>  // the single header
#else
#include <diffusion/diffusion.hpp>
#endif

#include <cmath>
#include <cstdio>

using Image = Eigen::Tensor<float, 3, Eigen::RowMajor>;

int main() {
  const diffusion::DdpmSampler sampler{diffusion::NoiseSchedule<>::linear(), {.steps = 5}};
  float slope = 0;
  const auto network = [&](const Image& x, double, Image& x0) {
    x0 = x.constant(0.5F) + slope * x;
  };
  const auto pictures = [&] {
    return diffusion::sample<Image>(sampler, network, {2, 3, 5}, diffusion::PhiloxNoise{42},
                                    {.prediction_type = diffusion::PredictionType::sample});
  };

  // The data is one point, 0.5: every sampler ends there.
  const Image known = pictures();
  for (Eigen::Index i = 0; i < known.size(); ++i) {
    if (!(std::abs(known.data()[i] - 0.5F) < 1e-5F)) return 1;
  }

  // Something that depends on the noise, bit for bit.
  std::printf("%d.%d.%d\n", diffusion::version.major, diffusion::version.minor,
              diffusion::version.patch);
  slope = 0.1F;
  const Image noisy = pictures();
  for (Eigen::Index i = 0; i < noisy.size(); ++i) {
    std::printf("%a\n", static_cast<double>(noisy.data()[i]));
  }
}
