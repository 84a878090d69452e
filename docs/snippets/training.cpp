// docs/training.md: levels for a batch, targets, and a weighted loss that does not depend on what
// the network answers.
#include <diffusion/forward/forward_diffusion.hpp>
#include <diffusion/forward/level_distribution.hpp>
#include <diffusion/forward/loss_weighting.hpp>
#include <diffusion/noise/philox.hpp>
#include <diffusion/schedule/noise_schedule.hpp>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <span>
#include <vector>

using Batch = Eigen::Tensor<double, 2, Eigen::RowMajor>;  // sample, pixel
using diffusion::PredictionType;

int main() {
  const diffusion::ForwardDiffusion forward{diffusion::NoiseSchedule<>::linear()};
  const std::uint64_t training_step = 17;

  // Five samples, five timesteps, one in every fifth of 0 ... 999.
  const diffusion::UniformTimesteps distribution{1000};
  const diffusion::PhiloxUniforms uniforms{42};
  const std::vector<double> times =
      diffusion::draw_levels(distribution, uniforms, training_step, 5);

  std::vector<diffusion::Knot> knots;
  for (const double t : times) knots.push_back(forward.schedule().knot(t));

  Batch x0(5, 8), eps(5, 8);
  x0.setConstant(0.5);
  for (std::size_t i = 0; i < 5; ++i)
    diffusion::PhiloxNoise{42}.fill(i, training_step, 0, std::span<double>(eps.data() + 8 * i, 8));
  const Batch x = forward.add_noise(x0, eps, times);

  for (std::size_t i = 0; i < 5; ++i)
    std::printf(
        "t = %3.0f  SNR %8.4f  weight of eps %.4f, of v %.4f\n", times[i], diffusion::snr(knots[i]),
        diffusion::output_weight(diffusion::MinSnrWeighting{5}, knots[i], PredictionType::epsilon),
        diffusion::output_weight(diffusion::MinSnrWeighting{5}, knots[i], PredictionType::v));

  // A network that takes every picture for grey, x0 = 0.4, told in three ways.
  const auto answer = [&](PredictionType type) {
    Batch f(5, 8);
    for (Eigen::Index i = 0; i < 40; ++i) {
      const diffusion::Knot& at = knots[static_cast<std::size_t>(i / 8)];
      const double guessed_eps = (x.data()[i] - at.alpha * 0.4) / at.sigma;
      const auto [on_x0, on_eps] = diffusion::target(type, at);
      f.data()[i] = on_x0 * 0.4 + on_eps * guessed_eps;
    }
    return f;
  };
  for (const PredictionType type :
       {PredictionType::epsilon, PredictionType::sample, PredictionType::v}) {
    const Batch target = forward.training_target(type, x0, eps, times);
    const double loss =
        diffusion::weighted_loss(answer(type), target, knots, diffusion::MinSnrWeighting{5}, type);
    const double plain = diffusion::weighted_loss(answer(type), target, knots,
                                                  diffusion::ConstantWeighting{type}, type);
    std::printf("%-8s min-SNR %.6f  plain %.6f\n", diffusion::name(type).data(), loss, plain);
  }
}
