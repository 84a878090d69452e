// docs/likelihood.md: the log density of points under a denoiser, and bits per dimension.
#include <diffusion/denoiser/exact/exact_denoiser.hpp>
#include <diffusion/likelihood/exact_jacobian.hpp>
#include <diffusion/likelihood/ode_likelihood.hpp>
#include <diffusion/schedule/continuous.hpp>

#include <cstdio>

using diffusion::Gaussian;
using Points = Eigen::Tensor<double, 2, Eigen::RowMajor>;  // point, coordinate

int main() {
  const diffusion::GaussianMixture data{
      {.weight = 1, .gaussian = Gaussian::isotropic(Eigen::Vector2d(-1, 0), 0.04)},
      {.weight = 3,
       .gaussian = Gaussian(Eigen::Vector2d(1, 0.5), Eigen::Matrix2d{{0.3, 0.1}, {0.1, 0.2}})}};
  Points x(2, 2);
  x.setValues({{-1.1, 0.1}, {0.4, 0.3}});

  const diffusion::VpLinear schedule;
  const auto network = diffusion::exact_denoiser(data, diffusion::PredictionType::v);

  // Any network: its derivatives come from central differences.
  const auto found =
      diffusion::log_likelihood(schedule, network, x, {.trace = diffusion::Trace::exact});
  // One that can say its Jacobian times a vector is asked for that.
  const auto known =
      diffusion::log_likelihood(schedule, network, x, {.trace = diffusion::Trace::exact},
                                diffusion::ExactJacobian(data, diffusion::PredictionType::v));
  // And for large states: random probes in place of one derivative a dimension.
  const auto estimated = diffusion::log_likelihood(
      schedule, network, x, {.trace = diffusion::Trace::rademacher, .probes = 400});

  for (std::size_t i = 0; i < 2; ++i) {
    const Eigen::Vector2d point(x(static_cast<Eigen::Index>(i), 0),
                                x(static_cast<Eigen::Index>(i), 1));
    std::printf("log p %.3f, by the flow %.3f and %.3f, estimated %.1f\n",
                data.log_density(point, schedule.knot(0)), found.log_density[i],
                known.log_density[i], estimated.log_density[i]);
  }
  std::printf("network calls per evaluation: %d, %d, %d\n",
              found.network_calls / found.ode.evaluations,
              known.network_calls / known.ode.evaluations,
              estimated.network_calls / estimated.ode.evaluations);
  std::printf("%.2f bits a dimension for data in steps of 0.01\n",
              diffusion::bits_per_dimension(found.log_density[0], 2, 0.01));
}
