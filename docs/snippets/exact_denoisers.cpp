// docs/exact-denoisers.md: a network without training, and what it knows.
#include <diffusion/denoiser/exact/exact_denoiser.hpp>
#include <diffusion/denoiser/exact/linear_posterior.hpp>
#include <diffusion/diffusion.hpp>

#include <cstdio>

using diffusion::Gaussian;
using Points = Eigen::Tensor<double, 2, Eigen::RowMajor>;  // point, coordinate

int main() {
  const diffusion::GaussianMixture data{
      {.weight = 1, .gaussian = Gaussian::isotropic(Eigen::Vector2d(-1, 0), 0.04)},
      {.weight = 3,
       .gaussian = Gaussian(Eigen::Vector2d(1, 0.5), Eigen::Matrix2d{{0.3, 0.1}, {0.1, 0.2}})}};

  // At any level, about any x.
  const diffusion::Knot at = diffusion::VpCosine().knot(0.4);
  const Eigen::Vector2d x(0.1, -0.2);
  const Eigen::VectorXd x0 = data.x0(x, at), eps = data.eps(x, at), classes = data.posterior(x, at);
  std::printf("log p(x)  %.4f\n", data.log_density(x, at));
  std::printf("E[x0|x]   %.4f %.4f\n", x0[0], x0[1]);
  std::printf("E[eps|x]  %.4f %.4f\n", eps[0], eps[1]);
  std::printf("p(k|x)    %.4f %.4f\n\n", classes[0], classes[1]);

  // As a network: 4,000 points, and how many came to the first component.
  const diffusion::DdimSampler sampler{diffusion::VpCosine(), {.steps = 50}};
  const auto network = diffusion::exact_denoiser(data, diffusion::PredictionType::v);
  const Points points =
      diffusion::sample<Points>(sampler, network, {4000, 2}, diffusion::PhiloxNoise{1});
  int left = 0;
  for (Eigen::Index i = 0; i < 4000; ++i) left += points(i, 0) < -0.4;
  std::printf("on the left: %.0f %%\n\n", left / 40.0);

  // Is a sampler of the order that it claims? Its errors against the exact flow.
  const Gaussian one = data.component(1).gaussian;
  for (const int steps : {20, 40, 80, 160}) {
    const auto plan = diffusion::DdimSampler{diffusion::RectifiedFlow(), {.steps = steps}}.plan();
    Points state(1, 2);
    state.setValues({{0.7, -1.2}});
    const Eigen::Vector2d exact =
        one.flow(Eigen::Vector2d(0.7, -1.2), plan[0].at, plan[steps - 1].to);
    sample_in_place(plan, diffusion::exact_denoiser(one, diffusion::PredictionType::flow), state,
                    diffusion::PhiloxNoise{1});
    std::printf("%3d steps: error %.4f\n", steps, std::abs(state(0, 0) - exact[0]));
  }

  // What a measurement of the sum of both coordinates says of x0.
  const diffusion::LinearMeasurement measured{
      .A = Eigen::MatrixXd{{1, 1}}, .y = Eigen::VectorXd{{-0.6}}, .R = Eigen::MatrixXd{{0.01}}};
  const diffusion::GaussianMixture given_y = posterior(data, measured);
  std::printf("\nE[x0|y]   %.4f %.4f\n", given_y.mean()[0], given_y.mean()[1]);
  std::printf("p(k|y)    %.4f %.4f\n", given_y.component(0).weight, given_y.component(1).weight);
}
