#ifndef DIFFUSION_TESTS_GOLDEN_CHECK_DIFFUSERS_TESTS_HPP
#define DIFFUSION_TESTS_GOLDEN_CHECK_DIFFUSERS_TESTS_HPP

#include <diffusion/forward/forward_diffusion.hpp>
#include <diffusion/noise/recorded.hpp>
#include <diffusion/noise/torch_cpu_noise.hpp>
#include <diffusion/sampling/sample.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "data.hpp"
#include "loops.hpp"
#include "models.hpp"

/// diffusers_tests.json: the reference's own tests, replayed in single precision as there, within
/// the tests' own tolerances.
namespace golden {

/// The sample of those tests: k / total, the batch running fastest; `flipped` is their noise.
inline Tensor<float> dummy_sample(const Shape& shape, bool flipped = false) {
  Tensor<float> sample(shape);
  const Eigen::Index total = sample.size(), batch = shape[0], size = total / batch;
  for (Eigen::Index b = 0; b < batch; ++b)
    for (Eigen::Index i = 0; i < size; ++i) {
      const Eigen::Index k = i * batch + b;
      sample.data()[b * size + i] =
          static_cast<float>(flipped ? total - 1 - k : k) / static_cast<float>(total);
    }
  return sample;
}

inline double sum_of_magnitudes(const Tensor<float>& x) {
  double sum = 0;
  for (Eigen::Index i = 0; i < x.size(); ++i) sum += std::abs(static_cast<double>(x.data()[i]));
  return sum;
}

inline void compare_with_test(Case& check, const Json& one, double sum, double count) {
  const auto compare = [&](const std::string& what, double got) {
    const Json& expected = one.at("expected_" + what);
    if (!expected.is_null())
      check.compare_absolutely(what, {number(expected)}, {got},
                               number(one.at("tolerance_" + what)));
  };
  compare("sum", sum);
  compare("mean", sum / count);
}

template <class Noise>
Tensor<float> replay(const diffusion::SamplingPlan& plan, Tensor<float> x, Noise&& noise,
                     const diffusion::DiffusersConfig& config, const std::string& model) {
  diffusion::sample_in_place(plan, network<float>(model), x, noise, options_of(config));
  return x;
}

/// The same where the network sees the state itself although its class scales it.
template <class Noise>
Tensor<float> replay_unscaled(const diffusion::SamplingPlan& plan, Tensor<float> x, Noise&& noise,
                              const diffusion::DiffusersConfig& config, const std::string& model) {
  const auto ask = network<float>(model);
  diffusion::Stepper run(plan, Eigen::TensorMap<Tensor<float>>(x.data(), x.dimensions()), noise,
                         options_of(config));
  while (!run.done()) {
    if (run.asks()) ask(x, run.stage().at.t, run.output());
    run.advance();
  }
  return x;
}

/// The same where the state itself is scaled for the network, at every ask, and the step goes on
/// from the scaled one. A second ask in a step of the reference goes back to the step's start, so
/// that there the scale only reaches the estimate.
template <class Noise>
Tensor<float> replay_scaled(const diffusion::SamplingPlan& plan, Tensor<float> x, Noise&& noise,
                            const diffusion::DiffusersConfig& config, const std::string& model) {
  const auto ask = network<float>(model);
  diffusion::Stepper run(plan, Eigen::TensorMap<Tensor<float>>(x.data(), x.dimensions()), noise,
                         options_of(config));
  int step = -1;
  while (!run.done()) {
    const diffusion::Stage stage = run.stage();
    const bool begins = stage.step != step;
    step = stage.step;
    const Tensor<float> before = x;
    if (run.asks()) {
      x = x * static_cast<float>(stage.input_scale);
      ask(x, stage.at.t, run.output());
    }
    run.advance();
    if (!begins && stage.ask && stage.x != 0)
      x = x + before * static_cast<float>(stage.x * (1 - stage.input_scale));
  }
  return x;
}

/// The steps of a grid twice over: a second pass that keeps the first one's history.
inline diffusion::Grid repeated(const diffusion::Grid& grid) {
  std::vector<diffusion::GridStep> steps(grid.begin(), grid.end());
  steps.insert(steps.end(), grid.begin(), grid.end());
  return diffusion::Grid(std::move(steps));
}

inline void check_full_loop(Case& check, const Json& one) {
  const auto config = config_of(one);
  const auto run = run_of(one, config);
  const int begin = one.value("t_start", one.value("skip_first", 0));
  const auto grid = config.grid<float>(run).cut(begin);
  const auto plan = config.plan(one.at("loop") == "standard_twice" ? repeated(grid) : grid, run);

  Tensor<float> x = dummy_sample(shape_of(one.at("shape")));
  if (one.at("multiply_init_noise_sigma").get<bool>())
    x = x * static_cast<float>(config.plan<float>(run).traits().initial_scale);
  if (one.contains("t_start")) {
    const Tensor<float> clean = x;
    diffusion::add_noise(clean, dummy_sample(shape_of(one.at("shape")), true),
                         config.level<float>(plan[0].at.t, run), x);
  }
  check.compare("steps", number(one.at("steps")),
                one.at("loop") == "sde_ve" ? plan.steps() : plan.size());
  const auto run_with = [&](auto& noise) {
    const std::string scaling = one.at("scale_model_input"), model = one.at("model");
    if (scaling == "in_place") return replay_scaled(plan, std::move(x), noise, config, model);
    if (scaling == "none") return replay_unscaled(plan, std::move(x), noise, config, model);
    return replay(plan, std::move(x), noise, config, model);
  };
  if (one.contains("noise")) {
    diffusion::RecordedNoise noise(tensors(one.at("noise")));
    x = run_with(noise);
  } else {
    const Json& seed = one.at("seed");
    diffusion::TorchCpuNoise noise(seed.is_null() ? 0 : seed.get<std::uint64_t>());
    x = run_with(noise);
  }
  compare_with_test(check, one, sum_of_magnitudes(x), static_cast<double>(x.size()));
}

/// One step from the timesteps 0, 1 and 2, each to t - N / n, of the sample, the sample + 0.1 and
/// the sample - 0.1, without noise: DDPM gets noise of zeros.
inline void check_batch_step(Case& check, const Json& one) {
  const auto config = config_of(one);
  const Json& set = one.at("set_timesteps");
  const int n = config.train_timesteps;
  const int stride = n / (set.is_null() ? n : set.at("num_inference_steps").get<int>());
  const float shifts[] = {0, 0.1f, -0.1f};
  double sum = 0, count = 0;
  for (int t = 0; t < 3; ++t) {
    const bool to_one = config.resolved.value("set_alpha_to_one", true);
    const auto grid = diffusion::make_grid(
        config.schedule<float>(), 1, {.set_alpha_to_one = to_one, .pairs = {{t, t - stride}}});
    const auto plan = config.plan(grid, run_of(one, config));
    const Tensor<float> x = dummy_sample(shape_of(one.at("shape"))) + shifts[t];
    const auto zeros = std::vector<Numbers>(static_cast<std::size_t>(plan.draws()),
                                            Numbers(static_cast<std::size_t>(x.size()), 0.0));
    diffusion::RecordedNoise silence(zeros);
    sum += sum_of_magnitudes(replay(plan, x, silence, config, one.at("model")));
    count += static_cast<double>(x.size());
  }
  compare_with_test(check, one, sum, count);
}

/// What the class calls the variance of one step, DDPM's and unCLIP's from t to t - 1, DDIM's (at
/// eta = 1) between two given timesteps. Of fixed_small_log it is the deviation; where a variance
/// is predicted, its logarithm.
inline double variance_of_step(const diffusion::DiffusersConfig& config, const Json& one) {
  const Numbers times = numbers(one.at("timesteps"));
  const auto schedule = config.schedule<float>();
  const double from = times.at(0);
  const double to = times.size() > 1 ? times[1] : from - 1;
  const diffusion::Knot clean{-1, 1, 0};
  const diffusion::Grid grid({{schedule.knot(from), to < 0 ? clean : schedule.knot(to)}});
  const auto plan = config.plan(grid, {.steps = 1, .eta = 1});
  if (one.contains("predicted_variance")) {
    const auto& scale = plan[0].noise_scale;
    return 2 * (scale.offset + scale.slope * number(one.at("predicted_variance")));
  }
  const diffusion::Term& noise = plan[0].noise[0];
  const double deviation = noise.source < 0 ? 0 : noise.weight;
  const bool is_root = config.resolved.value("variance_type", "") == "fixed_small_log";
  return is_root ? deviation : deviation * deviation;
}

inline void check_variance(Case& check, const Json& one) {
  const auto config = config_of(one);
  check.compare_absolutely("variance", {number(one.at("expected"))},
                           {variance_of_step(config, one)}, number(one.at("tolerance")));
}

inline void check_test_timesteps(Case& check, const Json& one) {
  const auto config = config_of(one);
  const auto plan = config.plan<float>(run_of(one, config));
  Numbers previous;
  for (const diffusion::Stage& stage : plan.stages()) previous.push_back(stage.to.t);
  if (one.contains("expected_timesteps"))
    check.compare("timesteps", numbers(one.at("expected_timesteps")), config.timesteps(plan));
  if (one.contains("expected_previous_timestep"))
    check.compare("previous timesteps", numbers(one.at("expected_previous_timestep")), previous);
}

inline void run_diffusers_tests(Report& report, const Json& file) {
  const auto name = [](const char* kind, const Json& one, std::size_t index) {
    return text("diffusers_tests/", kind, "/", index, "/", one.at("test").get<std::string>());
  };
  std::size_t index = 0;
  for (const Json& one : file.at("full_loop"))
    report.run(name("full_loop", one, index++), 0, [&](Case& check) {
      if (one.at("loop") == "batch_step_no_noise")
        check_batch_step(check, one);
      else
        check_full_loop(check, one);
    });
  index = 0;
  for (const Json& one : file.at("variance"))
    report.run(name("variance", one, index++), 0, [&](Case& check) { check_variance(check, one); });
  index = 0;
  for (const Json& one : file.at("timesteps"))
    report.run(name("timesteps", one, index++), 1e-9,
               [&](Case& check) { check_test_timesteps(check, one); });
}

}  // namespace golden

#endif  // DIFFUSION_TESTS_GOLDEN_CHECK_DIFFUSERS_TESTS_HPP
