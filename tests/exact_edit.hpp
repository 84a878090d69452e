#ifndef DIFFUSION_TESTS_EXACT_EDIT_HPP
#define DIFFUSION_TESTS_EXACT_EDIT_HPP

// The exact mean and covariance of what an edited run makes of Gaussian data: with the perfect
// network everything is affine in the noises, so a batch in which each sample has one normal of one
// draw set to 1 and the others 0, and a last one without any, tells all weights. Edits whose noise
// comes from the same source are counted with it.

#include <diffusion/denoiser/exact/exact_denoiser.hpp>
#include <diffusion/samplers/any_sampler.hpp>
#include <diffusion/sampling/sample.hpp>
#include <diffusion/schedule/continuous.hpp>
#include <diffusion/schedule/noise_schedule.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace exact {

using namespace diffusion;
using Points = Eigen::Tensor<double, 2, Eigen::RowMajor>;

/// Sample k of the batch has the normal k of all draws and elements, counted through, set to 1.
struct UnitNoise {
  std::uint64_t dimension;
  void fill(std::uint64_t sample, std::uint64_t draw, std::uint64_t element,
            std::span<float> out) const {
    for (std::size_t k = 0; k < out.size(); ++k)
      out[k] = sample == draw * dimension + element + k ? 1.0f : 0.0f;
  }
};

/// The batch that the draws of a plan need, and those of an edit behind them.
inline Eigen::Index batch_of(const SamplingPlan& plan, Eigen::Index dimension) {
  return (plan.draws() + plan.size() + 3) * dimension + 1;
}

struct Law {
  Eigen::VectorXd mean;
  Eigen::MatrixXd covariance;
};

inline Law law_of(const Points& x) {
  const Eigen::Index last = x.dimension(0) - 1, d = x.dimension(1);
  Law law{Eigen::VectorXd(d), Eigen::MatrixXd::Zero(d, d)};
  for (Eigen::Index i = 0; i < d; ++i) law.mean[i] = x(last, i);
  for (Eigen::Index k = 0; k < last; ++k)
    for (Eigen::Index i = 0; i < d; ++i)
      for (Eigen::Index j = 0; j < d; ++j)
        law.covariance(i, j) += (x(k, i) - law.mean[i]) * (x(k, j) - law.mean[j]);
  return law;
}

/// The samplers, schedules and prediction types that every edit must work with.
struct Case {
  std::string name;
  AnySampler sampler;
  PredictionType type;
};

inline std::vector<Case> cases(int steps) {
  const AnySchedule discrete{NoiseSchedule<>::scaled_linear()}, flow{RectifiedFlow()};
  const std::vector<std::pair<std::string, SamplerOptions>> samplers = {
      {"DDIM", DdimOptions{.steps = steps}},
      {"Euler a", EulerAncestralOptions{.steps = steps}},
      {"DPM++ 2M", DpmSolverOptions{.steps = steps, .order = 2}},
      {"Heun", HeunOptions{.steps = steps}},
      {"LCM", LcmOptions{.steps = steps}},
  };
  std::vector<Case> cases;
  for (const auto& [name, options] : samplers) {
    cases.push_back({name + ", epsilon", {discrete, options}, PredictionType::epsilon});
    cases.push_back({name + ", v", {discrete, options}, PredictionType::v});
    cases.push_back({name + ", flow", {flow, options}, PredictionType::flow});
  }
  return cases;
}

/// An edit that calls f(stage, x) after each stage: what edits before it have left.
template <class F>
struct Watch {
  F f;
  template <class Run, class T>
  void edit_state(const Run& run, T& x) {
    f(run.last(), x);
  }
};
template <class F>
Watch(F) -> Watch<F>;

}  // namespace exact

#endif  // DIFFUSION_TESTS_EXACT_EDIT_HPP
