// docs/schedule.md: a schedule in numbers, a grid on it, and a schedule of one's own.
#include <diffusion/schedule/grid.hpp>
#include <diffusion/schedule/noise_schedule.hpp>

#include <cmath>
#include <cstdio>

// alpha and sigma on the quarter circle, and its log-SNR 2 log(alpha / sigma) turned round.
struct QuarterCircle {
  double alpha(double t) const { return std::cos(t); }
  double sigma(double t) const { return std::sin(t); }
  double time(double log_snr) const { return std::atan(std::exp(-log_snr / 2)); }
  double first_time() const { return 0; }
  double last_time() const { return 1.5; }
};
static_assert(diffusion::Schedule<QuarterCircle>);

int main() {
  const auto schedule = diffusion::NoiseSchedule<>::linear();
  std::printf("   t   alpha   sigma  log SNR\n");
  for (const double t : {0.0, 250.0, 500.0, 750.0, 999.0})
    std::printf("%4.0f  %.4f  %.4f  %7.2f\n", t, schedule.alpha(t), schedule.sigma(t),
                schedule.log_snr(t));
  std::printf("as much noise as data at t = %.2f\n\n", schedule.time(0));

  for (const auto spacing :
       {diffusion::TimestepSpacing::leading, diffusion::TimestepSpacing::trailing}) {
    for (const auto& [from, to] : diffusion::make_grid(schedule, 4, {.spacing = spacing}))
      std::printf("%3.0f -> %3.0f   ", from.t, to.t);
    std::printf("\n");
  }

  const diffusion::Grid own = diffusion::make_grid(QuarterCircle{}, 3);
  for (const auto& [from, to] : own) std::printf("%.1f -> %.1f   ", from.t, to.t);
  std::printf("\n");
}
