// docs/learn/acceleration.md: DDIM with eta = 1 is DDPM; DDIM's error is first order.
#include <diffusion/denoiser/exact/exact_denoiser.hpp>
#include <diffusion/diffusion.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>

using Points = Eigen::Tensor<double, 2, Eigen::RowMajor>;
using Vector = Eigen::VectorXd;

int main() {
  const auto data = diffusion::Gaussian::isotropic(Vector{{0.5}}, 0.25);
  const auto network = diffusion::exact_denoiser(data);
  const auto schedule = diffusion::NoiseSchedule<>::linear();

  const diffusion::DdimSampler ddim{schedule, {.steps = 50, .eta = 1}};
  const diffusion::DdpmSampler ddpm{schedule, {.steps = 50}};
  const diffusion::PhiloxNoise noise{3};
  const Points a = diffusion::sample<Points>(ddim, network, {4, 1}, noise);
  const Points b = diffusion::sample<Points>(ddpm, network, {4, 1}, noise);
  double worst = 0;
  for (Eigen::Index i = 0; i < a.size(); ++i)
    worst = std::max(worst, std::abs(a.data()[i] - b.data()[i]));
  std::printf("eta = 1 and DDPM differ by less than 1e-12: %s\n", worst < 1e-12 ? "yes" : "no");

  // Where the deterministic path ends exactly, and where DDIM ends in n steps.
  const diffusion::VpLinear continuous;
  const diffusion::Knot start = continuous.knot(1), end = continuous.knot(0.01);
  for (const int steps : {10, 20, 40, 80, 160}) {
    std::vector<diffusion::Knot> knots;
    for (int i = 0; i <= steps; ++i) {  // even in log SNR
      const double share = static_cast<double>(i) / steps;
      knots.push_back(continuous.knot(
          continuous.time(start.log_snr() + share * (end.log_snr() - start.log_snr()))));
    }
    const auto plan =
        diffusion::make_plan(diffusion::Grid::through(knots), diffusion::DdimOptions{});
    Points x(1, 1);
    x(0, 0) = 1.5;
    const Vector exact = data.flow(Vector{{1.5}}, start, end);
    diffusion::sample_in_place(plan, network, x, noise);
    std::printf("%4d steps: error %.5f\n", steps, std::abs(x(0, 0) - exact[0]));
  }
}
