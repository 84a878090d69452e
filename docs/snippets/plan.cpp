// docs/plan.md: a plan as a table, the laws that it keeps, and what they say of a wrong one.
#include <diffusion/plan/laws.hpp>
#include <diffusion/plan/print.hpp>
#include <diffusion/samplers/ddim.hpp>
#include <diffusion/samplers/ddpm.hpp>
#include <diffusion/schedule/noise_schedule.hpp>

#include <cstdio>
#include <vector>

void show(const char* title, const diffusion::SamplingPlan& plan) {
  const diffusion::Laws laws = diffusion::check_laws(plan);
  std::printf("%s: mean off by %.4f, variance by %.4f, continuity by %.4f\n", title, laws.mean,
              laws.variance, laws.continuity);
}

int main() {
  const auto schedule = diffusion::NoiseSchedule<>::linear();
  const diffusion::DdimSampler ddim{schedule, {.steps = 4}};
  const diffusion::DdpmSampler ddpm{schedule, {.steps = 4}};
  std::printf("%s\n", to_table(ddim.plan()).c_str());
  std::printf("%s\n", to_table(ddpm.plan()).c_str());
  show("DDIM", ddim.plan());
  show("DDPM", ddpm.plan());

  // A plan is data: copy its rows, and make a mistake in one.
  const diffusion::SamplingPlan plan = ddpm.plan();
  std::vector<diffusion::Stage> rows(plan.stages().begin(), plan.stages().end());
  rows[1].noise[0].weight *= 1.1;
  show("too much noise", diffusion::SamplingPlan(rows, plan.traits()));

  // The last two steps alone: where image to image begins.
  std::printf("\n%s", to_table(ddim.plan(ddim.grid().cut(2))).c_str());
}
