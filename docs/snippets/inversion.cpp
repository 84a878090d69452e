// docs/inversion.md: a point is inverted in every way, resumed, edited; two noises are joined.
#include <diffusion/denoiser/exact/exact_denoiser.hpp>
#include <diffusion/edit/ddpm_inversion.hpp>
#include <diffusion/edit/interpolation.hpp>
#include <diffusion/edit/inversion.hpp>
#include <diffusion/samplers/ddim.hpp>
#include <diffusion/samplers/ddpm.hpp>
#include <diffusion/samplers/dpm_solver.hpp>
#include <diffusion/schedule/noise_schedule.hpp>

#include <cmath>
#include <cstdio>

using Points = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using diffusion::InversionMethod;

// Data about (mean, 0), of deviation 1/2, and its perfect network.
auto network_about(double mean) {
  return diffusion::exact_denoiser(diffusion::Gaussian::isotropic(Eigen::Vector2d(mean, 0), 0.25));
}

int main() {
  const auto schedule = diffusion::NoiseSchedule<>::linear();
  const diffusion::GridOptions grid{.spacing = diffusion::TimestepSpacing::trailing,
                                    .set_alpha_to_one = false};
  const auto network = network_about(-1);
  Points picture(1, 2);
  picture << -1.2, 0.4;

  for (const int steps : {25, 50, 100}) {
    const diffusion::DdimSampler ddim{schedule, {.steps = steps, .grid = grid}};
    const diffusion::DpmSolverSampler dpm{schedule, {.steps = steps, .grid = grid}};
    const auto error = [&](const auto& sampler, InversionMethod method) {
      return *diffusion::invert(sampler, network, picture, {.method = method, .round_trip = true})
                  .round_trip;
    };
    std::printf("%3d steps: DDIM %.3f, DPM-Solver++ 2M %.3f, fixed point below 1e-4: %s\n", steps,
                error(ddim, InversionMethod::target_time), error(dpm, InversionMethod::reversed),
                error(ddim, InversionMethod::fixed_point) < 1e-4 ? "yes" : "no");
  }

  const diffusion::DdimSampler sampler{schedule, {.steps = 50, .grid = grid}};
  const auto found = diffusion::invert(
      sampler, network, picture,
      {.method = InversionMethod::fixed_point, .keep_trajectory = true, .round_trip = true});
  std::printf("noise (%.2f, %.2f) at sigma %.4f, %d calls\n", found.noise(0, 0), found.noise(0, 1),
              found.knot(0).sigma, found.network_calls);
  const Points again = diffusion::resume(sampler, network, found, 30);
  std::printf("from knot 30 again (%.2f, %.2f)\n", again(0, 0), again(0, 1));

  const auto other = network_about(2);
  for (const int skip : {0, 20, 35}) {
    const Points edited =
        diffusion::edit_by_inversion(sampler, network, other, picture,
                                     {.method = InversionMethod::fixed_point, .skip_noisy = skip});
    std::printf("edited from step %2d: (%.2f, %.2f)\n", skip, edited(0, 0), edited(0, 1));
  }

  const diffusion::DdpmSampler ddpm{schedule, {.steps = 50, .grid = grid}};
  const auto maps = diffusion::invert_ddpm(ddpm, network, picture, diffusion::PhiloxNoise{1});
  const Points back = diffusion::resume(maps, network);
  const Points moved = diffusion::resume(maps, other);
  std::printf("edit-friendly: back to rounding: %s; edited (%.2f, %.2f)\n",
              (back - picture).norm() < 1e-12 ? "yes" : "no", moved(0, 0), moved(0, 1));

  Points a(1, 2), b(1, 2);
  a << 1, 0;
  b << 0, 1;
  const Points line = diffusion::interpolate(a, b, 0.5, diffusion::Interpolation::linear);
  const Points circle = diffusion::interpolate(a, b, 0.5);
  std::printf("halfway: %.3f long on the line, %.3f on the circle\n", line.norm(), circle.norm());
}
