// docs/learn/conditional.md: guidance by the exact classifier is guidance without one, and what
// guidance does to the variance of a Gaussian.
#include <diffusion/denoiser/exact/exact_denoiser.hpp>
#include <diffusion/diffusion.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <vector>

using Points = Eigen::Tensor<double, 2, Eigen::RowMajor>;
using Vector = Eigen::VectorXd;

// Data N(0, 1) of the class, N(0, 2) of all, on alpha = 1: what a plan makes of the variance.
double guided_variance(const diffusion::SamplingPlan& plan, double scale) {
  const double sigma_max = plan[0].at.sigma;
  double variance = 2 + sigma_max * sigma_max;
  for (const diffusion::Stage& row : plan.stages()) {
    const double sigma = row.at.sigma;
    const double c = sigma / (1 + sigma * sigma), u = sigma / (2 + sigma * sigma);
    const double eps = u + scale * (c - u);  // of x
    const double x0 = 1 - sigma * eps;
    const double gain = row.x + row.x0 * x0 + row.eps * eps;
    const double fresh = row.noise[0].weight;
    variance = gain * gain * variance + fresh * fresh;
  }
  return variance;
}

int main() {
  const diffusion::GaussianMixture data{{0.5, diffusion::Gaussian::isotropic(Vector{{-1, 0}}, 0.2)},
                                        {0.5, diffusion::Gaussian::isotropic(Vector{{1, 0}}, 0.2)}};
  const auto schedule = diffusion::NoiseSchedule<>::linear();
  const diffusion::DdimSampler sampler{schedule, {.steps = 20}};

  // eps - sigma g grad log p(class | x), one step after another
  const auto by_classifier = [&](const Points& x, const diffusion::Query& query, Points& eps) {
    const diffusion::Knot at{query.t, query.alpha, query.sigma};
    for (Eigen::Index i = 0; i < x.dimension(0); ++i) {
      const Vector point{{x(i, 0), x(i, 1)}};
      const Vector gradient = data.log_posterior_gradient(1, point, at);
      const Vector guided = data.eps(point, at) - at.sigma * 3 * gradient;
      eps(i, 0) = guided[0];
      eps(i, 1) = guided[1];
    }
  };
  diffusion::ClassifierFreeGuidance without_classifier{
      diffusion::exact_conditional_denoiser(data), std::vector<int>{1, 1, 1}, -1, {.scale = 3}};

  const diffusion::PhiloxNoise noise{1};
  const Points a = diffusion::sample<Points>(sampler, by_classifier, {3, 2}, noise);
  const Points b = diffusion::sample<Points>(sampler, without_classifier, {3, 2}, noise);
  double worst = 0;
  for (Eigen::Index i = 0; i < a.size(); ++i)
    worst = std::max(worst, std::abs(a.data()[i] - b.data()[i]));
  std::printf("the first point %.4f %.4f, by either; the two differ by less than 1e-9: %s\n",
              a(0, 0), a(0, 1), worst < 1e-9 ? "yes" : "no");

  const diffusion::VarianceExploding ve{{.sigma_min = 0.01, .sigma_max = 100}};
  const diffusion::DdimSampler ode{ve, {.steps = 1000}};
  const diffusion::DdpmSampler sde{ve, {.steps = 1000}};
  std::printf("scale   DDIM  2^(1-g)    DDPM  (2-2^(2-2g))/(2g-1)\n");
  for (const double g : {1.0, 1.5, 3.0, 5.0})
    std::printf("%5.1f %6.3f   %6.3f  %6.3f  %6.3f\n", g, guided_variance(ode.plan(), g),
                std::exp2(1 - g), guided_variance(sde.plan(), g),
                (2 - std::exp2(2 - 2 * g)) / (2 * g - 1));
}
