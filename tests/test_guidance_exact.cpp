// Guidance against closed forms: the variance that guided samplers give Gaussian data, CFG++ as a
// scale, and products of Gaussians.
#include "catch.hpp"
#include "support.hpp"

#include <diffusion/denoiser/estimate.hpp>
#include <diffusion/guidance/cfg_plus_plus.hpp>
#include <diffusion/guidance/classifier_free.hpp>
#include <diffusion/guidance/composed.hpp>
#include <diffusion/noise/philox.hpp>
#include <diffusion/plan/lowering.hpp>
#include <diffusion/samplers/ddim.hpp>
#include <diffusion/sampling/sample.hpp>
#include <diffusion/schedule/noise_schedule.hpp>
#include <diffusion/schedule/sigma_spacing.hpp>

#include <cmath>
#include <cstddef>
#include <numbers>
#include <vector>

using namespace diffusion;

namespace {

// Data with p(x|c) = N(0, 1) and p(x) = N(0, 2), exploding variance (alpha = 1). Bradley and
// Nakkiran 2024, arXiv 2408.09000: guidance g ends at these variances.
double ode_variance(double g) { return std::pow(2, 1 - g); }
double sde_variance(double g) {
  const double h = 2 * g - 1;  // 2 (1 - 2^-h) / h -> 2 log 2
  return std::abs(h) < 1e-6 ? 2 * std::numbers::ln2 : -2 * std::expm1(-h * std::numbers::ln2) / h;
}

SamplingPlan exploding(int steps, double eta) {
  std::vector<Knot> knots;
  for (const double s : kl_optimal_sigmas(steps, 1e-3, 200)) knots.push_back({s, 1, s});
  knots.push_back({0, 1, 0});
  return make_plan(Grid::through(knots), DdimOptions{.eta = eta});
}

// The noise that the exact networks see at x, divided by x: eps = slope x.
double slope(double data_variance, double sigma) { return sigma / (data_variance + sigma * sigma); }

// The variance that a plan gives, stage by stage: it is linear in x and its noise independent.
double propagated(const SamplingPlan& plan, double g) {
  double variance = plan[0].at.sigma * plan[0].at.sigma;
  for (const Stage& stage : plan.stages()) {
    const LoweredStage row = lower(stage, plan.traits(), PredictionType::epsilon);
    const double u = slope(2, stage.at.sigma), c = slope(1, stage.at.sigma);
    const double factor = row.result.x + row.result.f * (u + g * (c - u));
    variance *= factor * factor;
    for (const Term& term : stage.noise) variance += term.weight * term.weight;
  }
  return variance;
}

using Points = Eigen::Tensor<double, 2, Eigen::RowMajor>;

// Condition 1 is c, 0 none.
void network(const Points& x, const Query& query, const Conditions<int>& conditions, Points& eps) {
  for (Eigen::Index i = 0; i < x.dimension(0); ++i) {
    const double data = conditions[static_cast<std::size_t>(i)] == 1 ? 1 : 2;
    eps(i, 0) = slope(data, query.sigma) * x(i, 0);
  }
}

double sampled(const SamplingPlan& plan, const GuidanceOptions& options, std::size_t count) {
  ClassifierFreeGuidance guided(network, std::vector<int>(count, 1), 0, options);
  const Points x =
      sample<Points>(plan, guided, {static_cast<Eigen::Index>(count), 1}, PhiloxNoise{11});
  double squares = 0;
  for (Eigen::Index i = 0; i < x.size(); ++i) squares += x.data()[i] * x.data()[i];
  return squares / static_cast<double>(count);
}

}  // namespace

TEST_CASE("Guided variance is 2^(1-g) by the ODE and (2-2^(2-2g))/(2g-1) by the SDE") {
  std::vector<double> scales{0, 0.5, 1, 1.5, 2, 3, 5};
  support::Random random(7);
  for (int i = 0; i < 20; ++i) scales.push_back(random.uniform(0, 6));
  const SamplingPlan ode = exploding(1000, 0), sde = exploding(1000, 1);
  for (const double g : scales) {
    CAPTURE(g);
    CHECK(propagated(ode, g) == Approx(ode_variance(g)).epsilon(0.02));
    CHECK(propagated(sde, g) == Approx(sde_variance(g)).epsilon(0.02));
  }
  // Where the formula's denominator is zero its limit stands.
  CHECK(sde_variance(0.5) == Approx(sde_variance(0.5 + 1e-5)).epsilon(1e-4));
  CHECK(ode_variance(1) == 1);  // no guidance: the data's own
  CHECK(sde_variance(1) == Approx(1));
  CHECK(sde_variance(3) == Approx(0.3875));  // the published 0.38750
}

TEST_CASE("The same by sampling") {
  // 4,000 samples: the variance's own deviation is 2.2 %.
  const GuidanceOptions by_g{.scale = 3};
  const GuidanceOptions by_w{.scale = 2, .convention = ScaleConvention::w};
  CHECK(sampled(exploding(300, 0), by_g, 4000) == Approx(ode_variance(3)).epsilon(0.08));
  CHECK(sampled(exploding(300, 1), by_w, 4000) == Approx(sde_variance(3)).epsilon(0.08));
}

TEST_CASE("CFG++ is the scale with which guidance takes its DDIM step") {
  const auto f = [](double z, double t, int condition) {
    return std::sin(1.3 * z + condition) + 0.001 * t * condition;
  };
  const auto net = [&](const Points& x, double t, const Conditions<int>& conditions, Points& out) {
    for (Eigen::Index i = 0; i < x.size(); ++i)
      out.data()[i] = f(x.data()[i], t, conditions[static_cast<std::size_t>(i)]);
  };
  const SamplingPlan plan = DdimSampler{NoiseSchedule<>::linear(), {.steps = 7}}.plan();
  for (const PredictionType type :
       {PredictionType::epsilon, PredictionType::v, PredictionType::flow, PredictionType::sample})
    for (const double lambda : {0.0, 0.6, 1.0}) {
      CAPTURE(name(type), lambda);
      double x = 0.8;
      for (const Stage& stage : plan.stages()) {
        const Conversion read = conversion(type, stage.at);
        const double u = f(x, stage.at.t, 0), c = f(x, stage.at.t, 1);
        const double x0 = read.a * x + read.b * (u + lambda * (c - u));
        const double eps = read.p * x + read.q * u;
        x = stage.to.alpha * x0 + stage.to.sigma * eps;
      }
      ClassifierFreeGuidance guided(net, std::vector<int>{1}, 0,
                                    CfgPlusPlusRule{{.scale = lambda}});
      Points state(1, 1);
      state.setConstant(0.8);
      sample_in_place(plan, guided, state, PhiloxNoise{1}, {.prediction_type = type});
      CHECK(state(0, 0) == Approx(x).epsilon(1e-11));
    }
  CHECK(cfg_plus_plus_scale(0.6, {0, 0.5, 1}, {0, 1, 0}) == 0.6);    // the step to clean data
  CHECK(cfg_plus_plus_scale(0.6, {0, 0, 1}, {0, 0.5, 0.5}) == 0.6);  // the one from pure noise
  CHECK(cfg_plus_plus_scale(0.6, {0, 1, 2}, {0, 1, 1.5}) == Approx(2.4));
  CHECK(cfg_plus_plus_scale(0.6, {0, 1, 2}, {0, 1, 2}) == 0.6);  // no step at all
}

TEST_CASE("Composed conditions have the score of the product of their Gaussians") {
  struct Normal {
    double mean, variance;
  };
  const std::vector<Normal> laws{{0, 4}, {1, 0.5}, {-0.5, 0.8}, {2, 3}};  // 0: no condition
  const auto net = [&](const Points& x, const Query& query, const Conditions<int>& conditions,
                       Points& eps) {
    for (Eigen::Index i = 0; i < x.size(); ++i) {
      const Normal& law = laws[static_cast<std::size_t>(conditions[static_cast<std::size_t>(i)])];
      const double variance = query.alpha * query.alpha * law.variance + query.sigma * query.sigma;
      eps.data()[i] = query.sigma * (x.data()[i] - query.alpha * law.mean) / variance;
    }
  };
  // p(x) prod (p_i(x) / p(x))^w_i has the precision and the mean of summed exponents.
  const std::vector<double> weights{1, 2, -0.25};
  const Query query{.t = 3, .alpha = 0.8, .sigma = 0.6};
  double precision = 0, linear = 0, left = 1;
  const auto count = [&](const Normal& law, double weight) {
    const double variance = query.alpha * query.alpha * law.variance + query.sigma * query.sigma;
    precision += weight / variance;
    linear += weight * query.alpha * law.mean / variance;
  };
  for (std::size_t i = 0; i < 3; ++i) {
    count(laws[i + 1], weights[i]);
    left -= weights[i];
  }
  count(laws[0], left);

  ComposedGuidance guided(
      net, {{{1, 1, 1}, weights[0]}, {{2, 2, 2}, weights[1]}, {{3, 3, 3}, weights[2]}}, 0);
  Points x(3, 1), eps(3, 1);
  x.setValues({{-1.5}, {0.2}, {3}});
  guided(x, query, eps);
  for (Eigen::Index i = 0; i < 3; ++i)
    CHECK(eps(i, 0) == Approx(query.sigma * (precision * x(i, 0) - linear)).epsilon(1e-12));
}
