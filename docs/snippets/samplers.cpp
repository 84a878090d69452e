// A sampler by its name elsewhere: docs/samplers.md.

#include <diffusion/plan/laws.hpp>
#include <diffusion/samplers/sampler_by_name.hpp>
#include <diffusion/schedule/noise_schedule.hpp>

#include <cstdio>

int main() {
  using namespace diffusion;
  const auto schedule = NoiseSchedule<>::scaled_linear({.beta_start = 0.00085, .beta_end = 0.012});
  for (const char* name : {"DPM++ 2M Karras", "euler_ancestral", "uni_pc_bh2 simple"}) {
    const AnySampler sampler = sampler_by_name(name, schedule);
    const SamplingPlan plan = sampler.plan(20);
    std::printf("%-18s %2d calls, %2d draws, keeps %d\n", sampler.name().c_str(),
                plan.network_calls(), plan.draws(), plan.traits().slots);
  }
  try {
    sampler_by_name("DPM++ 2N Karras", schedule);
  } catch (const Error& error) {
    std::printf("%s\n", error.what());
  }

  AnySampler own(schedule, DpmSolverOptions{.order = 3, .eta = 1});  // any options, no name
  std::printf("%s\n", check_laws(own.plan(20)).worst() < 1e-9 ? "keeps the laws" : "breaks them");
}
