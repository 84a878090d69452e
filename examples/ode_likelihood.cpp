// How exact the log-likelihood by the probability flow ODE is, where the truth is known: the three
// integrators by network calls, and Hutchinson's estimates by probes.
#include <diffusion/denoiser/exact/exact_denoiser.hpp>
#include <diffusion/likelihood/exact_jacobian.hpp>
#include <diffusion/likelihood/ode_likelihood.hpp>
#include <diffusion/noise/philox.hpp>
#include <diffusion/schedule/noise_schedule.hpp>
#include <support/canvas.hpp>
#include <support/image.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace {

using State = Eigen::Tensor<double, 2, Eigen::RowMajor>;  // point, coordinate

const auto schedule = diffusion::NoiseSchedule<>::linear();

Eigen::VectorXd point(const State& x, Eigen::Index i) {
  return Eigen::Map<const Eigen::VectorXd>(x.data() + i * x.dimension(1), x.dimension(1));
}

diffusion::GaussianMixture two_bumps() {
  using diffusion::Gaussian;
  return {{.weight = 1, .gaussian = Gaussian::isotropic(Eigen::Vector2d(-1, 0), 0.04)},
          {.weight = 3,
           .gaussian = Gaussian(Eigen::Vector2d(1, 0.5), Eigen::Matrix2d{{0.3, 0.1}, {0.1, 0.2}})}};
}

/// Neighbouring coordinates go together: what makes Hutchinson's estimate err.
diffusion::Gaussian chain(Eigen::Index dimension) {
  Eigen::MatrixXd covariance(dimension, dimension);
  for (Eigen::Index i = 0; i < dimension; ++i)
    for (Eigen::Index k = 0; k < dimension; ++k)
      covariance(i, k) = 0.5 * std::pow(0.7, static_cast<double>(std::abs(i - k)));
  return {Eigen::VectorXd::Zero(dimension), covariance};
}

/// Runs with the exact prior, so that the integration alone errs.
template <class P>
diffusion::LogLikelihood<State> run(const P& data, const State& x,
                                    diffusion::LikelihoodOptions options) {
  options.prior = [&](std::span<const double> latent) {
    return data.log_density(Eigen::Map<const Eigen::VectorXd>(latent.data(), data.dimension()),
                            schedule.knot(999));
  };
  return diffusion::log_likelihood(schedule, diffusion::exact_denoiser(data), x, options,
                                   diffusion::ExactJacobian(data));
}

examples::Panel integrators() {
  const auto data = two_bumps();
  const State x = diffusion::draw_data<State>(data, {64, 2}, diffusion::PhiloxNoise{1});
  examples::Panel panel{.title = "largest error of log p, exact trace",
                        .x = {.label = "network calls", .logarithmic = true},
                        .y = {.label = "nats", .logarithmic = true},
                        .legend = examples::Legend::lower_left};
  const auto add = [&](const std::string& name, const std::vector<diffusion::OdeOptions>& odes) {
    std::vector<double> calls, errors;
    for (const diffusion::OdeOptions& ode : odes) {
      const auto found = run(data, x, {.ode = ode, .trace = diffusion::Trace::exact});
      double worst = 0;
      for (Eigen::Index i = 0; i < x.dimension(0); ++i)
        worst = std::max(worst, std::abs(found.log_density[static_cast<std::size_t>(i)] -
                                         data.log_density(point(x, i), schedule.knot(0))));
      calls.push_back(found.network_calls);
      errors.push_back(worst);
      std::printf("%-16s %4d calls, error %.1e\n", name.c_str(), found.network_calls, worst);
    }
    panel.add_line(name, calls, errors);
  };
  std::vector<diffusion::OdeOptions> heun, rk4, adaptive;
  for (const int calls : {20, 40, 80, 160, 320, 640, 1280}) {
    heun.push_back({.method = diffusion::OdeMethod::heun, .steps = calls / 2});
    rk4.push_back({.method = diffusion::OdeMethod::rk4, .steps = calls / 4});
  }
  for (int digits = 1; digits <= 10; ++digits)
    adaptive.push_back({.rtol = std::pow(10, -digits), .atol = std::pow(10, -digits)});
  add("Heun", heun);
  add("RK4", rk4);
  add("Dormand-Prince", adaptive);
  return panel;
}

examples::Panel estimates() {
  const auto data = chain(16);
  const State x = diffusion::draw_data<State>(data, {1, 16}, diffusion::PhiloxNoise{1});
  const double truth = data.log_density(point(x, 0), schedule.knot(0));
  examples::Panel panel{.title = "Hutchinson, 16 dimensions: error of log p",
                        .x = {.label = "probes", .logarithmic = true},
                        .y = {.label = "nats", .low = 0.1, .high = 10, .logarithmic = true},
                        .legend = examples::Legend::lower_left};
  for (const auto& [name, trace] : {std::pair{"gaussian", diffusion::Trace::gaussian},
                                    std::pair{"rademacher", diffusion::Trace::rademacher}}) {
    std::vector<double> counts, errors, claimed;
    for (const int probes : {1, 4, 16, 64, 256}) {
      double squares = 0, claim = 0;
      constexpr std::uint64_t runs = 40;
      for (std::uint64_t seed = 0; seed < runs; ++seed) {
        const auto found = run(data, x,
                               {.ode = {.method = diffusion::OdeMethod::rk4, .steps = 25},
                                .trace = trace,
                                .probes = probes,
                                .probe_noise = diffusion::PhiloxNoise{seed}});
        const double error = found.log_density[0] - truth;
        squares += error * error / runs;
        if (probes > 1) claim += found.standard_error[0] / runs;
      }
      counts.push_back(probes);
      errors.push_back(std::sqrt(squares));
      std::printf("%-10s %3d probes: error %.3f, standard_error %.3f\n", name, probes,
                  errors.back(), claim);
    }
    panel.add_line(name, counts, errors);
  }
  return panel;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const std::string file = argc > 1 ? argv[1] : "likelihood.png";
    const std::vector<examples::Panel> panels{integrators(), estimates()};
    examples::write_png(file, examples::draw_panels(panels, 2, 480, 360));
    std::printf("wrote %s\n", file.c_str());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "ode-likelihood: %s\n", error.what());
    return 1;
  }
}
