// docs/classifier-guidance.md: a classifier's gradient, in both forms, and a loss of one's own.
#include <diffusion/denoiser/exact/exact_denoiser.hpp>
#include <diffusion/diffusion.hpp>
#include <diffusion/guidance/classifier_guidance.hpp>
#include <diffusion/guidance/loss_guidance.hpp>

#include <cstdio>
#include <vector>

using diffusion::Gaussian;
using diffusion::Query;
using Points = Eigen::Tensor<double, 2, Eigen::RowMajor>;  // sample, coordinate

int main() {
  const auto about = [](double mean) {
    return Gaussian::isotropic(Eigen::VectorXd::Constant(1, mean), 0.04);
  };
  const diffusion::GaussianMixture data{{.weight = 1, .gaussian = about(-1)},
                                        {.weight = 1, .gaussian = about(1)}};
  const auto network = diffusion::exact_denoiser(data);  // knows no classes

  const std::vector<int> classes{0, 0, 1, 1};
  const auto gradient = [&](const Points& x, const Query& query, Points& out) {
    const diffusion::Knot level{query.t, query.alpha, query.sigma};
    for (Eigen::Index i = 0; i < x.size(); ++i) {
      const int k = classes[static_cast<std::size_t>(i)];
      out(i, 0) = data.log_posterior_gradient(k, Eigen::VectorXd::Constant(1, x(i, 0)), level)[0];
    }
  };

  const auto print = [](const char* title, const Points& x) {
    std::printf("%-18s %6.2f %6.2f %6.2f %6.2f\n", title, x(0, 0), x(1, 0), x(2, 0), x(3, 0));
  };
  const auto schedule = diffusion::NoiseSchedule<>::linear();
  const diffusion::DdimSampler ddim{schedule, {.steps = 100}};
  const diffusion::PhiloxNoise noise{3};
  print("no guidance", sample<Points>(ddim, network, {4, 1}, noise));
  for (const double scale : {1.0, 5.0}) {
    diffusion::ClassifierGuidance guided{network, gradient, {.scale = scale}};
    print(scale == 1 ? "scale 1" : "scale 5", sample<Points>(ddim, guided, {4, 1}, noise));
  }

  const diffusion::DdpmSampler ddpm{schedule, {.steps = 1000}};
  diffusion::ClassifierMeanShift shift{gradient, {.scale = 1}};
  print("mean shift", sample<Points>(ddpm, network, {4, 1}, noise, {}, shift));

  const auto loss_gradient = [](const Points& x0, const Query&, Points& out) {
    out = x0 - 0.5;  // of (x0 - 0.5)^2 / 2
  };
  diffusion::LossGuidance pulled{
      network, loss_gradient, {.strength_at = [](const Query& q) { return 0.3 * q.alpha; }}};
  print("loss", sample<Points>(ddim, pulled, {4, 1}, noise));
}
