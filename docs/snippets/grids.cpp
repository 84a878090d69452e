// docs/grids.md: levels by rule, on two schedules, and one's own.
#include <diffusion/samplers/ddim.hpp>
#include <diffusion/schedule/continuous.hpp>
#include <diffusion/schedule/grid.hpp>
#include <diffusion/schedule/noise_schedule.hpp>

#include <cstddef>
#include <cstdio>

using diffusion::SigmaRule;

void print(const char* name, const diffusion::Grid& grid) {
  std::printf("%-16s", name);
  for (const auto& [from, to] : grid) std::printf("  %7.3f", from.sigma / from.alpha);
  std::printf("  then %.3f\n", grid.finish().sigma / grid.finish().alpha);
}

int main() {
  const auto schedule =
      diffusion::NoiseSchedule<>::scaled_linear({.beta_start = 0.00085, .beta_end = 0.012});
  for (const auto rule : {SigmaRule::karras, SigmaRule::exponential, SigmaRule::beta,
                          SigmaRule::kl_optimal, SigmaRule::align_your_steps})
    print(diffusion::sigma_rule_names[static_cast<std::size_t>(rule)],
          diffusion::make_grid(schedule, 5, {.sigmas = {.rule = rule}}));

  // Every sampler takes a grid's options, on every schedule.
  const diffusion::DdimSampler sampler{
      diffusion::RectifiedFlow{{.time_scale = 1000}},
      {.steps = 5, .grid = {.sigmas = {.rule = SigmaRule::karras, .sigma_max = 80}}}};
  std::printf("\ntold on a flow:");
  for (const auto& [from, to] : sampler.grid()) std::printf("  %.2f", from.t);

  // Levels of your own; the run ends at the last of them instead of at clean data.
  const diffusion::Grid own = diffusion::make_grid(
      schedule, 0, {.set_alpha_to_one = false, .own_sigmas = {14.6, 3, 0.5, 0.1}});
  std::printf("\n\n");
  print("own levels", own);
}
