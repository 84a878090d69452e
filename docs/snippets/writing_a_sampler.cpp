// docs/writing-a-sampler.md: the laws, a sample, and the order of a sampler of one's own.
#include <diffusion/noise/philox.hpp>
#include <diffusion/plan/laws.hpp>
#include <diffusion/plan/print.hpp>
#include <diffusion/samplers/ddim.hpp>
#include <diffusion/sampling/sample.hpp>
#include <diffusion/schedule/continuous.hpp>

#include <adams_bashforth.hpp>

#include <cmath>
#include <cstdio>

using Points = Eigen::Tensor<double, 2, Eigen::RowMajor>;

// Data N(2, 0.5^2), whose denoiser and whose way from noise to data are known.
constexpr double mean = 2, deviation = 0.5;

void exact(const Points& x, const diffusion::Query& query, Points& eps) {
  const double variance = std::pow(query.alpha * deviation, 2) + std::pow(query.sigma, 2);
  eps = query.sigma / variance * (x - query.alpha * mean);
}

// Where the exact solution takes x from a level to clean data.
double exact_end(double x, const diffusion::Knot& from) {
  return mean +
         deviation * (x - from.alpha * mean) / std::hypot(from.alpha * deviation, from.sigma);
}

template <class Sampler>
double error(const Sampler& sampler) {
  const diffusion::Knot start = sampler.grid().start();
  Points x(1, 1);
  x(0, 0) = 1.5;
  diffusion::sample_in_place(sampler, exact, x, diffusion::PhiloxNoise{0});
  return std::abs(x(0, 0) - exact_end(1.5, start));
}

int main() {
  const diffusion::VpLinear schedule;
  const AdamsBashforthSampler sampler{schedule, {.steps = 4}};
  const diffusion::SamplingPlan plan = sampler.plan();
  std::printf("%s", to_table(plan).c_str());
  std::printf("off the laws by %.6f\n", diffusion::check_laws(plan).worst());

  const Points drawn = diffusion::sample<Points>(sampler, exact, {3, 1}, diffusion::PhiloxNoise{1});
  std::printf("three samples: %.3f %.3f %.3f\n\n", drawn(0, 0), drawn(1, 0), drawn(2, 0));

  const auto ddim = [&](int steps) {
    return error(diffusion::DdimSampler{schedule, {.steps = steps}});
  };
  const auto own = [&](int steps) {
    return error(AdamsBashforthSampler{schedule, {.steps = steps}});
  };
  std::printf("calls     DDIM  order  Adams-Bashforth  order\n");
  for (int n = 10; n <= 320; n *= 2)
    std::printf("%5d  %.1e  %5.2f          %.1e  %5.2f\n", n, ddim(n),
                std::log2(ddim(n / 2) / ddim(n)), own(n), std::log2(own(n / 2) / own(n)));
}
