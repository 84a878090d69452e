// The error of inverting and sampling again against the number of steps: DDIM in two ways, methods
// of second order and a fixed point, on a mixture whose perfect network is known.
#include <diffusion/denoiser/exact/exact_denoiser.hpp>
#include <diffusion/edit/inversion.hpp>
#include <diffusion/samplers/ddim.hpp>
#include <diffusion/samplers/dpm_solver.hpp>
#include <diffusion/samplers/heun.hpp>
#include <diffusion/schedule/noise_schedule.hpp>
#include <support/canvas.hpp>

#include <cmath>
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

using namespace diffusion;
using Points = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

namespace {

const auto schedule = NoiseSchedule<>::linear();
const auto cluster = [](double x, double y) {
  return Gaussian::isotropic(Eigen::Vector2d(x, y), 0.02);
};
const GaussianMixture data({{0.4, cluster(-0.8, 0.2)}, {0.6, cluster(0.7, -0.4)}});
/// The perfect network, going by the time that it is told, as one that was trained does.
struct Network {
  void operator()(const Points& x, double t, Points& eps) const {
    const Knot at = knot_at(schedule, t);
    for (Eigen::Index i = 0; i < x.rows(); ++i)
      eps.row(i) = data.eps(x.row(i).transpose(), at).transpose();
  }
};

/// Steps evenly spaced in log sigma / alpha.
GridOptions levels(int steps) {
  GridOptions grid{.set_alpha_to_one = false};
  for (int i = 0; i <= steps; ++i)
    grid.own_sigmas.push_back(50 * std::pow(0.0004, 1.0 * i / steps));
  return grid;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const std::string file = argc > 1 ? argv[1] : "inversion-errors.png";
    Points pictures(4, 2);
    pictures << -0.7, 0.3, 0.8, -0.5, 0.6, -0.3, -0.9, 0.1;
    examples::Panel panel{.title = "inverted and sampled again: error of the copy",
                          .x = {.label = "steps", .logarithmic = true},
                          .y = {.label = "root mean square", .logarithmic = true},
                          .legend = examples::Legend::upper_right};
    const auto add = [&](const char* name, InversionMethod method, const auto& sampler_on) {
      std::vector<double> steps, errors;
      for (int n = 8; n <= 512; n *= 2) {
        const auto found = invert(sampler_on(levels(n)), Network{}, pictures,
                                  {.method = method, .round_trip = true, .tolerance = 1e-6});
        steps.push_back(n);
        errors.push_back(*found.round_trip);
        std::printf("%s, %d steps: %.2g\n", name, n, errors.back());
      }
      panel.add_line(name, steps, errors);
    };
    const auto ddim = [](const auto& grid) { return DdimSampler{schedule, {.grid = grid}}; };
    const auto dpm = [](const auto& grid) { return DpmSolverSampler{schedule, {.grid = grid}}; };
    const auto heun = [](const auto& grid) { return HeunSampler{schedule, {.grid = grid}}; };
    add("DDIM, the state's time", InversionMethod::reversed, ddim);
    add("DDIM, the target's time", InversionMethod::target_time, ddim);
    add("DPM-Solver++ 2M", InversionMethod::reversed, dpm);
    add("Heun", InversionMethod::reversed, heun);
    add("DDIM, fixed point to 1e-6", InversionMethod::fixed_point, ddim);
    examples::write_png(file, examples::draw_panels(std::vector{panel}, 1, 640, 420));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "inversion-errors: %s\n", error.what());
    return 1;
  }
}
