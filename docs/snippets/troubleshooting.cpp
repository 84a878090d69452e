// docs/troubleshooting.md: ask the network what it was trained for, and what is refused before it
// can become a wrong picture.
#include <diffusion/denoiser/exact/exact_denoiser.hpp>
#include <diffusion/diffusion.hpp>

#include <cstdio>
#include <limits>
#include <string>
#include <vector>

using Points = Eigen::Tensor<double, 2, Eigen::RowMajor>;  // sample, element
using diffusion::PredictionType;

namespace {

template <class Attempt>
void try_it(const Attempt& attempt) {
  try {
    attempt();
    std::printf("- nothing was refused\n");
  } catch (const diffusion::Error& error) {
    std::printf("- %s\n", error.what());
  }
}

}  // namespace

int main() {
  const auto schedule = diffusion::NoiseSchedule<>::linear();
  const diffusion::ForwardDiffusion<> forward{schedule};
  // Data that one has, and a network of which one has forgotten what it answers (it is v).
  const auto data = diffusion::Gaussian::isotropic(Eigen::VectorXd::Constant(4, 0.5), 0.1);
  const auto network = diffusion::exact_denoiser(data, PredictionType::v);
  const Points x0 = diffusion::draw_data<Points>(data, {200, 4}, diffusion::PhiloxNoise{1});
  const Points eps =
      diffusion::draw_data<Points>(diffusion::Gaussian::isotropic(Eigen::VectorXd::Zero(4), 1),
                                   {200, 4}, diffusion::PhiloxNoise{2});

  for (const PredictionType type :
       {PredictionType::epsilon, PredictionType::sample, PredictionType::v, PredictionType::flow}) {
    std::printf("%-8s", std::string(name(type)).c_str());
    for (const double t : {100.0, 500.0, 900.0}) {
      const std::vector<double> times(200, t);
      const Points x = forward.add_noise(x0, eps, times);
      const Points target = forward.training_target(type, x0, eps, times);
      Points answer(200, 4);
      diffusion::ask(network, x, {.t = t, .alpha = schedule.alpha(t), .sigma = schedule.sigma(t)},
                     answer);
      const Eigen::Tensor<double, 0, Eigen::RowMajor> error = (answer - target).square().mean();
      std::printf("  t = %3.0f: %.3f", t, error(0));
    }
    std::printf("\n");
  }

  const auto zero = [](const Points& x, double, Points& out) { out = 0.0 * x; };
  const diffusion::PhiloxNoise noise{1};
  try_it([&] {  // epsilon says nothing of x0 where there is no signal
    const auto ends_at_noise =
        diffusion::NoiseSchedule<>::linear({.rescale_zero_terminal_snr = true});
    const diffusion::DdimSampler sampler{
        ends_at_noise, {.grid = {.spacing = diffusion::TimestepSpacing::trailing}}};
    diffusion::sample<Points>(sampler, zero, {2, 4}, noise);
  });
  try_it([&] {  // a sigma where a timestep belongs
    const diffusion::DdimSampler sampler{schedule, {.grid = {.timesteps = {14.6, 2.9, 2.9}}}};
    diffusion::sample<Points>(sampler, zero, {2, 4}, noise);
  });
  const diffusion::DdimSampler sampler{schedule, {.steps = 20}};
  try_it([&] {  // a network that answers another shape
    const auto halved = [](const Points& x, double, Points& out) {
      out = Points(1, x.dimension(1));
    };
    diffusion::sample<Points>(sampler, halved, {2, 4}, noise);
  });
  try_it([&] {  // a network that overflows
    const auto infinite = [](const Points& x, double t, Points& out) {
      out = x * (t < 500 ? std::numeric_limits<double>::infinity() : 1.0);
    };
    diffusion::sample<Points>(sampler, infinite, {2, 4}, noise);
  });
}
