// docs/learn/ddpm.md: the chain and the jump, the posterior and the sampler's row, and what the
// noise of the reverse step is for, in numbers.
#include <diffusion/diffusion.hpp>
#include <diffusion/forward/bound_terms.hpp>

#include <cstdio>
#include <utility>
#include <vector>

int main() {
  const auto schedule = diffusion::NoiseSchedule<>::linear();
  const diffusion::ForwardDiffusion<> forward{schedule};

  double weight = 1, variance = 0;  // x_t = weight x_0 + noise of this variance
  for (int t = 0; t <= 499; ++t) {
    const diffusion::GaussianKernel step = forward.one_step(t);
    weight *= step.from_x;
    variance = step.from_x * step.from_x * variance + step.variance;
  }
  const diffusion::GaussianKernel jump = forward.marginal(499);
  std::printf("500 steps %.9f %.9f\n", weight, variance);
  std::printf("one jump  %.9f %.9f\n", jump.from_x0, jump.variance);

  const diffusion::DdpmSampler sampler{schedule, {.steps = 4}};  // 750, 500, 250, 0
  const diffusion::SamplingPlan plan = sampler.plan();
  const diffusion::GaussianKernel posterior = forward.posterior(500, 750);
  const double deviation = plan[0].noise[0].weight;
  std::printf("posterior %.9f %.9f %.9f\n", posterior.from_x, posterior.from_x0,
              posterior.variance);
  std::printf("plan      %.9f %.9f %.9f\n", plan[0].x, plan[0].x0, deviation * deviation);

  std::vector<diffusion::Stage> rows(plan.stages().begin(), plan.stages().end());
  for (diffusion::Stage& row : rows) row.noise = {};
  const diffusion::SamplingPlan silent{std::move(rows), plan.traits()};
  std::printf("variance missed by %.3f with noise, %.3f without\n",
              diffusion::check_laws(plan).variance, diffusion::check_laws(silent).variance);

  const double prior = diffusion::prior_kl(schedule.knot(999), 1.0 / 3);
  std::printf("prior term %.3e bits per dimension\n", diffusion::bits(prior));
}
