#ifndef DIFFUSION_TESTS_EXPORT_PLAN_PLANS_HPP
#define DIFFUSION_TESTS_EXPORT_PLAN_PLANS_HPP

// The plans that are exported: one of each kind of row. Both the program that writes them and the
// one into which they are compiled make them.

#include <diffusion/plan/plan.hpp>
#include <diffusion/samplers/ddim.hpp>
#include <diffusion/samplers/ddpm.hpp>
#include <diffusion/schedule/continuous.hpp>
#include <diffusion/schedule/grid.hpp>
#include <diffusion/schedule/noise_schedule.hpp>

#include <cstddef>
#include <utility>
#include <vector>

namespace plans {

inline diffusion::SamplingPlan ddim() {
  return diffusion::DdimSampler{diffusion::NoiseSchedule<>::linear(),
                                {.steps = 12, .eta = 0.3, .clipping = diffusion::Clipping::range()}}
      .plan();
}

inline diffusion::SamplingPlan ddpm() {
  return diffusion::DdpmSampler{diffusion::NoiseSchedule<>::squaredcos_cap_v2(), {.steps = 20}}
      .plan();
}

inline diffusion::SamplingPlan ddpm_learned() {
  return diffusion::DdpmSampler{diffusion::NoiseSchedule<>::scaled_linear(),
                                {.steps = 15, .variance = diffusion::VarianceType::learned_range}}
      .plan();
}

/// Adams and Bashforth's method of third order in sigma, on x / alpha, with a first state that is
/// kept and a last stage that does not ask.
inline diffusion::SamplingPlan multistep() {
  const diffusion::Grid grid =
      diffusion::make_grid(diffusion::VarianceExploding({.sigma_min = 0.05, .sigma_max = 30}), 8);
  std::vector<diffusion::Stage> rows;
  for (int i = 0; i < grid.size(); ++i) {
    diffusion::Stage row;
    row.at = grid[i].from;
    row.to = grid[i].to;
    row.step = i;
    row.input_scale = 1 / (1 + row.at.sigma);
    const double h = row.to.sigma - row.at.sigma;
    row.x = 1;
    row.save = i == 0;
    row.saved = i == 3 ? -0.001 : 0;
    row.eps = i == 0 ? h : i == 1 ? 1.5 * h : 23 * h / 12;
    if (i == 1) row.history[0] = {0, -0.5 * h};
    if (i >= 2) {
      row.history[0] = {i - 1, -16 * h / 12};
      row.history[2] = {i - 2, 5 * h / 12};
    }
    rows.push_back(row);
  }
  diffusion::Stage last;
  last.ask = false;
  last.at = last.to = grid.finish();
  last.step = grid.size() - 1;
  last.x = 0.99;
  last.noise[1] = {1, 0.01};
  last.draws = 2;
  rows.push_back(last);
  return diffusion::SamplingPlan(std::move(rows), {.basis = diffusion::Basis::eps,
                                                   .epsilon_rule = diffusion::EpsilonRule::raw,
                                                   .initial_scale = 30.0 / 0.999});
}

}  // namespace plans

#endif  // DIFFUSION_TESTS_EXPORT_PLAN_PLANS_HPP
