// The C++ side of docs/from-diffusers.md, one function for each part of the page. Used by the
// program beside this file, which prints, and by the test that compares with Python's numbers.
#ifndef DIFFUSION_SNIPPETS_FROM_DIFFUSERS_HPP
#define DIFFUSION_SNIPPETS_FROM_DIFFUSERS_HPP

#include <diffusion/diffusion.hpp>
#include <diffusion/interop/diffusers_config.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <variant>
#include <vector>

namespace from_diffusers {

using Image = Eigen::Tensor<float, 4, Eigen::RowMajor>;  // batch, channel, height, width

inline void network(const Image& x, double t, Image& out) {
  out = x.tanh() * static_cast<float>(0.5 + t / 2000);
}

inline void conditional_network(const Image& x, double t, const diffusion::Conditions<float>& c,
                                Image& out) {
  for (std::size_t i = 0; i < c.size(); ++i) {
    const auto sample = static_cast<Eigen::Index>(i);
    out.chip(sample, 0) = (x.chip(sample, 0) + c[i]).tanh() * static_cast<float>(0.5 + t / 2000);
  }
}

/// torch.randn(shape, generator=g)
inline Image randn(const diffusion::ShapeOf<Image>& shape, diffusion::TorchCpuNoise& g) {
  Image noise(shape);
  g.fill(std::span<float>(noise.data(), static_cast<std::size_t>(noise.size())));
  return noise;
}

struct Configuration {
  diffusion::DiffusersConfig ddim, as_ddpm;
};
inline Configuration configuration(const std::string& folder) {
  const auto scheduler = diffusion::load_diffusers_config(folder + "/scheduler_config.json");

  const auto as_ddpm = diffusion::load_diffusers_config(folder + "/scheduler_config.json",
                                                        {.load_as = "DDPMScheduler"});
  return {scheduler, as_ddpm};
}

struct ByHand {
  std::vector<double> timesteps;
  std::vector<float> alphas_cumprod;
  double init_noise_sigma;
};
inline ByHand by_hand() {
  const auto schedule = diffusion::NoiseSchedule<float>::scaled_linear(
      {.train_timesteps = 1000, .beta_start = 0.00085, .beta_end = 0.012});
  const diffusion::DdimSampler sampler{
      schedule, {.steps = 5, .grid = {.steps_offset = 1, .set_alpha_to_one = false}}};

  std::vector<double> timesteps;
  for (const diffusion::GridStep& step : sampler.grid()) timesteps.push_back(step.from.t);
  std::vector<float> alpha_cumprod;
  for (const double t : timesteps)
    alpha_cumprod.push_back(schedule.alphas_cumprod()[static_cast<std::size_t>(t)]);
  const double noise_scale = sampler.plan().traits().initial_scale;
  return {timesteps, alpha_cumprod, noise_scale};
}

struct Forward {
  Image noisy, velocity;
};
inline Forward forward(const Image& x0, const Image& noise) {
  const diffusion::ForwardDiffusion<float> forward{diffusion::NoiseSchedule<float>::linear()};

  const std::vector<double> timesteps{10, 500, 999};
  const Image noisy = forward.add_noise(x0, noise, timesteps);
  const Image velocity =
      forward.training_target(diffusion::PredictionType::v, x0, noise, timesteps);
  return {noisy, velocity};
}

struct OneStep {
  double t;
  Image model_input, pred_original_sample, prev_sample;
};
inline OneStep one_step(const diffusion::DiffusersConfig& config, const Image& x) {
  const diffusion::SamplingPlan plan = config.plan<float>({.steps = 4});
  diffusion::Stepper run(plan, x, diffusion::PhiloxNoise{0});

  const double t = run.timestep();
  const Image model_input = run.input();
  network(model_input, t, run.output());
  const Image preview = run.preview();
  run.advance();
  const Image next = run.state();
  return {t, model_input, preview, next};
}

inline Image whole_loop(const std::string& folder, int steps, double eta, std::uint64_t seed) {
  const auto config = diffusion::load_diffusers_config(folder + "/scheduler_config.json");
  diffusion::TorchCpuNoise generator{seed};
  const auto plan = config.plan<float>({.steps = steps, .eta = eta});
  return diffusion::sample<Image>(plan, network, {2, 1, 2, 3}, generator,
                                  {.prediction_type = config.prediction_type});
}

inline Image ancestral_loop(const diffusion::DiffusersConfig& as_ddpm, int steps,
                            std::uint64_t seed) {
  diffusion::TorchCpuNoise generator{seed};
  const auto plan = as_ddpm.plan<float>({.steps = steps});
  return diffusion::sample<Image>(plan, network, {2, 1, 2, 3}, generator);
}

inline Image guided_loop(const diffusion::DiffusersConfig& config, int steps, double guidance_scale,
                         std::uint64_t seed) {
  diffusion::TorchCpuNoise generator{seed};
  const std::vector<float> condition{0.5F, -1.0F};
  const float null = 0;
  diffusion::ClassifierFreeGuidance guided{
      conditional_network, condition, null, {.scale = guidance_scale}};
  const auto plan = config.plan<float>({.steps = steps});
  return diffusion::sample<Image>(plan, guided, {2, 1, 2, 3}, generator);
}

inline Image image_to_image(const diffusion::DiffusersConfig& config, const Image& picture,
                            int steps, double strength, std::uint64_t seed) {
  diffusion::TorchCpuNoise generator{seed};
  const int begin = steps - std::min(static_cast<int>(steps * strength), steps);
  const diffusion::Grid grid = config.grid<float>({.steps = steps}).cut(begin);
  const Image noise = randn(picture.dimensions(), generator);
  Image x(picture.dimensions());
  diffusion::add_noise(picture, noise, grid.start(), x);
  diffusion::sample_in_place(config.plan(grid, {}), network, x, generator);
  return x;
}

struct Defaults {
  Image compatible, correct;
};
inline Defaults defaults(Image start, int steps) {
  const diffusion::DdimSampler python{diffusion::NoiseSchedule<float>::linear(),
                                      {.steps = steps,
                                       .grid = {.spacing = diffusion::TimestepSpacing::linspace,
                                                .previous = diffusion::PreviousTimestep::stride},
                                       .clipping = diffusion::Clipping::range(1),
                                       .epsilon = diffusion::EpsilonRule::raw}};
  const diffusion::DdimSampler ours{diffusion::NoiseSchedule<float>::linear(),
                                    {.steps = steps,
                                     .grid = {.spacing = diffusion::TimestepSpacing::linspace},
                                     .clipping = diffusion::Clipping::range(1)}};
  Image compatible = start;
  diffusion::sample_in_place(python, network, compatible, diffusion::PhiloxNoise{0});
  diffusion::sample_in_place(ours, network, start, diffusion::PhiloxNoise{0});
  return {compatible, start};
}

inline Image learned_variance(int steps, std::uint64_t seed) {
  diffusion::TorchCpuNoise generator{seed};
  const diffusion::DdpmSampler sampler{
      diffusion::NoiseSchedule<float>::linear(),
      {.steps = steps, .variance = diffusion::VarianceType::learned_range, .noise_at_end = true}};
  const auto twice_the_channels = [](const Image& x, double t, Image& out) {
    const Image epsilon = x.tanh() * static_cast<float>(0.5 + t / 2000);
    out = epsilon.concatenate(Image(x.tanh()), 1);
  };
  return diffusion::sample<Image>(sampler, twice_the_channels, {2, 1, 2, 3}, generator);
}

}  // namespace from_diffusers

#endif  // DIFFUSION_SNIPPETS_FROM_DIFFUSERS_HPP
