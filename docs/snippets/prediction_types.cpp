// docs/prediction-types.md: one state, five answers, the same estimate.
#include <diffusion/denoiser/prediction_type.hpp>
#include <diffusion/schedule/noise_schedule.hpp>

#include <cstdio>

int main() {
  const diffusion::Knot at = diffusion::NoiseSchedule<>::linear().knot(300);
  const double x0 = 0.8, eps = -0.5;  // known here; a network sees x alone
  const double x = at.alpha * x0 + at.sigma * eps;
  std::printf("alpha %.4f, sigma %.4f, x %.4f\n\n", at.alpha, at.sigma, x);

  std::printf("type     answer f    x0 = a x + b f           eps = p x + q f\n");
  for (const diffusion::PredictionType type : diffusion::all_prediction_types) {
    const diffusion::Target perfect = diffusion::target(type, at);
    const double f = perfect.on_x0 * x0 + perfect.on_eps * eps;
    const diffusion::Conversion c = diffusion::conversion(type, at);
    std::printf("%-7s  %8.4f  %6.3f x %+6.3f f = %4.1f  %6.3f x %+6.3f f = %4.1f\n",
                diffusion::name(type).data(), f, c.a, c.b, c.a * x + c.b * f, c.p, c.q,
                c.p * x + c.q * f);
  }
}
