// docs/bound.md: the bound of an exact network, in expectation and sampled, and an autoencoder's
// Gaussian.
#include <diffusion/forward/diagonal_gaussian.hpp>
#include <diffusion/forward/latent_scaling.hpp>
#include <diffusion/forward/variational_bound.hpp>
#include <diffusion/noise/philox.hpp>
#include <diffusion/schedule/noise_schedule.hpp>

#include <cmath>
#include <cstddef>
#include <cstdio>
#include <numbers>
#include <vector>

using Batch = Eigen::Tensor<double, 2, Eigen::RowMajor>;  // sample, element

int main() {
  const auto schedule = diffusion::NoiseSchedule<>::linear();

  // How much x_T still tells of x0, for data spread evenly over [-1, 1].
  const double left = diffusion::prior_kl(schedule.knot(999), 1.0 / 3);
  std::printf("prior: %.3e bits a dimension\n", diffusion::bits(left));

  // Data N(0, 0.5^2). The best estimate of x0 is off by this much at each level.
  const auto error = [](const diffusion::Knot& at) {
    return 0.25 * at.sigma * at.sigma / (0.25 * at.alpha * at.alpha + at.sigma * at.sigma);
  };
  const diffusion::VariationalBound bound{schedule,
                                          {.variance = diffusion::VarianceType::fixed_large,
                                           .decoder = diffusion::Decoder::continuous}};
  std::vector<double> errors;
  for (const diffusion::Knot& level : bound.levels()) errors.push_back(error(level));
  const diffusion::BoundTerms expected = bound.expected(errors, 0.25);
  const double entropy = std::log(2 * std::numbers::pi * std::numbers::e * 0.25) / 2;
  std::printf("bound: %.4f nats, -log p: %.4f nats\n", expected.total(), entropy);

  // The same, sampled: 4 samples of 2500 elements, one draw of x_t at each of the 1000 levels.
  Batch x0(4, 2500);
  for (int i = 0; i < 4; ++i)
    for (int k = 0; k < 2500; ++k) x0(i, k) = 0.5 * diffusion::normal_quantile((k + 0.5) / 2500);
  const auto network = [](const Batch& x, const diffusion::Query& at, Batch& eps) {
    eps = x * at.sigma / (0.25 * at.alpha * at.alpha + at.sigma * at.sigma);
  };
  double mean = 0;
  for (const diffusion::BoundTerms& terms : bound.estimate(x0, network, diffusion::PhiloxNoise{1}))
    mean += terms.total() / 4;
  std::printf("sampled: within 0.05 of it: %s\n",
              std::abs(mean - expected.total()) < 0.05 ? "yes" : "no");

  // An encoder's output: one sample, 2 x 1 channels, 3 elements; means, then log variances.
  Eigen::Tensor<float, 3, Eigen::RowMajor> moments(1, 2, 3);
  moments.setValues({{{0.5F, -1, 2}, {-4, -4, -100}}});
  using Gaussian = diffusion::DiagonalGaussian<Eigen::Tensor<float, 3, Eigen::RowMajor>>;
  const Gaussian q = Gaussian::from_moments(moments);
  std::printf("KL to N(0, 1): %.3f nats\n", q.kl()[0]);

  auto latent = q.sample(diffusion::PhiloxNoise{1});
  const diffusion::LatentScaling scaling{.scale = 0.3611, .shift = 0.1159};
  scaling.encode(latent);
  std::printf("latent: %.3f\n", static_cast<double>(latent(0, 0, 2)));  // its variance is exp(-30)
  scaling.decode(latent);
  std::printf("back: %.3f\n", static_cast<double>(latent(0, 0, 2)));
}
