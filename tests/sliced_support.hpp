#ifndef DIFFUSION_TESTS_SLICED_SUPPORT_HPP
#define DIFFUSION_TESTS_SLICED_SUPPORT_HPP

// What the tests of runs in slices share: networks that look at the time of each slice, plans that
// use everything a plan can, and schedules of any kind.

#include "support.hpp"

#include <diffusion/denoiser/query.hpp>
#include <diffusion/sampling/sliced_schedule.hpp>
#include <diffusion/schedule/continuous.hpp>
#include <diffusion/schedule/noise_schedule.hpp>

#include "sampler_zoo.hpp"

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

namespace sliced {

using namespace diffusion;
using support::Random;

/// A network that treats elements alone, each with the time of its slice: `part_of[i]` is the part
/// of element i of a sample.
struct ElementNetwork {
  std::vector<std::size_t> part_of;
  std::size_t parts;
  template <class T>
  void operator()(const T& x, const Query& query, TensorOf<T>& out) const {
    const std::size_t size = part_of.size(), batch = static_cast<std::size_t>(x.size()) / size;
    const std::size_t stride = static_cast<std::size_t>(out.size()) / batch;
    for (std::size_t sample = 0; sample < batch; ++sample)
      for (std::size_t i = 0; i < stride; ++i) {
        const std::size_t element = i % size;
        const double t =
            query.times.empty() ? query.t : query.times[sample * parts + part_of[element]];
        const auto z = static_cast<double>(x.data()[sample * size + element]);
        const double f =
            i < size ? support::answer(z, t, element) : support::variance_answer(z, t, element);
        out.data()[sample * stride + i] = static_cast<ScalarOf<T>>(f);
      }
  }
};

/// Plans that use history, saved state, old draws, no-ask stages, scaled inputs, learned variance.
inline SamplingPlan random_plan(int trial, bool learned, Clipping clipping) {
  Random random(static_cast<std::uint64_t>(trial) + 100);
  return SamplingPlan(support::random_rows(random, {.stages = 9, .learned_variance = learned}),
                      {.basis = static_cast<Basis>(trial % 3),
                       .epsilon_rule = static_cast<EpsilonRule>(trial % 2),
                       .clipping = clipping});
}

struct NamedPlan {
  std::string name;
  SamplingPlan plan;
};

/// Every sampler of the library on a grid of six steps: variance preserving, in the form in which
/// the network sees a scaled state, and on flow's schedule. A sampler that is refused on one of
/// these is left out there; so are plans with Langevin steps.
inline std::vector<NamedPlan> zoo_plans() {
  const AnySchedule vp(NoiseSchedule<>::scaled_linear()), flow{RectifiedFlow()};
  const GridOptions options{.spacing = TimestepSpacing::trailing, .set_alpha_to_one = true};
  struct Space {
    std::string name;
    Grid grid;
    const AnySchedule& schedule;
  };
  const Space spaces[] = {{"VP", vp.grid(6, options), vp},
                          {"x / alpha", vp.grid(6, options).in_sigma_space(), vp},
                          {"flow", flow.grid(7, options).cut(1), flow}};
  std::vector<NamedPlan> plans;
  const auto add = [&](const zoo::Sampler& sampler, const Space& space) {
    const SamplingPlan plan = sampler.plan(space.grid, space.schedule);
    for (const Stage& stage : plan.stages())
      if (stage.langevin_snr > 0) return;
    plans.push_back({sampler.name + ", " + space.name, plan});
  };
  for (const auto& sampler : zoo::samplers())
    for (const Space& space : spaces) {
      try {
        add(sampler, space);
      } catch (const Error&) {
      }
    }
  return plans;
}

/// The samplers that zoo_plans leaves out altogether.
inline std::vector<std::string> left_out(const std::vector<NamedPlan>& plans) {
  std::vector<std::string> names;
  for (const auto& sampler : zoo::samplers()) {
    bool found = false;
    for (const NamedPlan& plan : plans)
      found = found || plan.name.rfind(sampler.name + ", ", 0) == 0;
    if (!found) names.push_back(sampler.name);
  }
  return names;
}

/// Every slice goes on by 0 to 2 steps a row, until all are done.
inline SliceSchedule random_schedule(Random& random, int steps, std::size_t columns) {
  std::vector<int> now(columns);
  SliceSchedule schedule = SliceSchedule::from_noise(columns, {});
  for (bool done = false; !done;) {
    done = true;
    for (int& step : now) {
      step = std::min(steps, step + random.integer(0, 2));
      done = done && step == steps;
    }
    schedule.rows.push_back(now);
  }
  return schedule;
}

}  // namespace sliced

#endif  // DIFFUSION_TESTS_SLICED_SUPPORT_HPP
