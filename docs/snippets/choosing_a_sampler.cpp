// docs/choosing-a-sampler.md: the error of five samplers at four budgets, where the exact answer is
// known.
#include <diffusion/samplers/ddim.hpp>
#include <diffusion/samplers/deis.hpp>
#include <diffusion/samplers/dpm_solver.hpp>
#include <diffusion/samplers/heun.hpp>
#include <diffusion/samplers/unipc.hpp>
#include <diffusion/schedule/noise_schedule.hpp>

#include <three_peaks.hpp>

#include <cstdio>

template <class Sampler>
void print(const char* name, const Sampler& sampler_of) {
  std::printf("%-10s", name);
  for (const int calls : {4, 10, 20, 50})
    std::printf("  %.1e", examples::three_peaks::flow_error(sampler_of(calls).plan(), 200));
  std::printf("\n");
}

int main() {
  using namespace diffusion;
  const auto schedule = NoiseSchedule<>::scaled_linear({.beta_start = 0.00085, .beta_end = 0.012});
  const GridOptions karras{.set_alpha_to_one = false, .sigmas = {.rule = SigmaRule::karras}};

  std::printf("calls           4       10       20       50\n");
  print("DDIM", [&](int calls) { return DdimSampler{schedule, {.steps = calls, .grid = karras}}; });
  print("DPM++ 2M", [&](int calls) {
    return DpmSolverSampler{schedule, {.steps = calls, .order = 2, .grid = karras}};
  });
  print("UniPC 3", [&](int calls) {
    return UniPcSampler{schedule, {.steps = calls, .order = 3, .grid = karras}};
  });
  print("DEIS 3", [&](int calls) {
    return DeisSampler{schedule, {.steps = calls, .order = 3, .grid = karras}};
  });
  print("Heun", [&](int calls) {
    return HeunSampler{schedule, {.steps = calls / 2, .grid = karras}};  // two calls a step
  });
}
