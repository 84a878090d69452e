// Compiled with -ffast-math, where isnan is constant: what is not finite must be told all the same.
#include "catch.hpp"

#include <diffusion/diffusion.hpp>

#include <cmath>
#include <limits>
#include <vector>

using namespace diffusion;
using Image = Eigen::Tensor<float, 3, Eigen::RowMajor>;

namespace {
// Made at run time, so that the compiler cannot assume it away.
double not_a_number() {
  static volatile double zero = 0;
  return zero / zero;
}
}  // namespace

TEST_CASE("with -ffast-math: a state that is not finite ends the run") {
  const DdimSampler sampler{NoiseSchedule<>::linear(), {.steps = 3, .clipping = Clipping::range()}};
  const auto broken = [](const Image& x, double t, Image& out) {
    out = x.constant(t < 500 ? static_cast<float>(not_a_number()) : 0.5F);
  };
  Image x(2, 3, 5);
  x.setConstant(0.25F);
  const SampleResult result = sample_in_place(sampler, broken, x, PhiloxNoise{1});
  CHECK(result.status == Status::not_finite);
  CHECK(result.stage == 2);  // asked at t = 666 and 333
}

TEST_CASE("with -ffast-math: undefined estimates and weights are refused") {
  const auto zero = NoiseSchedule<>::linear({.rescale_zero_terminal_snr = true});
  const DdimSampler sampler{zero, {.steps = 2, .grid = {.spacing = TimestepSpacing::trailing}}};
  const auto network = [](const Image& x, double, Image& out) { out = x; };
  CHECK_THROWS_WITH(sample<Image>(sampler, network, {1, 2, 3}, PhiloxNoise{1}),
                    contains("x0 is undefined"));
  CHECK_THROWS_AS(SamplingPlan({Stage{.x0 = not_a_number()}}, {}), Error);
  CHECK_THROWS_AS(Grid({GridStep{{1, not_a_number(), 0.5}, {0, 1, 0}}}), Error);
}

TEST_CASE("with -ffast-math: options that are not a number are refused") {
  const double nan = not_a_number();
  const auto linear = NoiseSchedule<>::linear();
  const auto plan = [&](DdimOptions options) {
    options.steps = 5;
    return DdimSampler{linear, options}.plan();
  };
  CHECK_THROWS_AS(plan({.eta = nan}), Error);
  CHECK_THROWS_AS(plan({.grid = {.timesteps = {500, nan}}}), Error);
  CHECK_THROWS_AS(plan({.grid = {.pairs = {{500, nan}}}}), Error);
  CHECK_THROWS_AS(plan({.clipping = Clipping::range(nan)}), Error);
  CHECK_THROWS_AS(plan({.clipping = Clipping::dynamic(nan)}), Error);
  CHECK_THROWS_AS(plan({.clipping = Clipping::dynamic(0.9, nan)}), Error);

  CHECK_THROWS_AS(NoiseSchedule<>::linear({.beta_start = nan}), Error);
  CHECK_THROWS_AS(NoiseSchedule<>::linear({.snr_shift_scale = nan}), Error);
  CHECK_THROWS_AS(NoiseSchedule<>::squaredcos_cap_v2({.max_beta = nan}), Error);
  CHECK_THROWS_AS(NoiseSchedule<>::from_betas({0.1, nan}), Error);
  CHECK_THROWS_AS(NoiseSchedule<float>::from_alphas_cumprod({0.9, nan}), Error);
  CHECK_THROWS_AS(linear.time(nan), Error);
  CHECK_THROWS_AS(linear.alpha(nan), Error);
  CHECK_THROWS_AS(VpLinear({.beta_max = nan}), Error);
  CHECK_THROWS_AS(VpCosine({.s = nan}), Error);
  CHECK_THROWS_AS(VarianceExploding({.sigma_min = nan}), Error);
  CHECK_THROWS_AS(RectifiedFlow().alpha(nan), Error);
  CHECK_THROWS_AS(RectifiedFlow().time(nan), Error);
}

TEST_CASE("with -ffast-math: sampling gives what it gives without") {
  // The data is one point, 0.5: DDPM and DDIM end there, whatever the noise.
  const auto schedule = NoiseSchedule<>::scaled_linear();
  const auto exact = [](const Image& x, double, Image& x0) { x0 = x.constant(0.5F); };
  const SampleOptions options{.prediction_type = PredictionType::sample};
  const Image ddim = sample<Image>(DdimSampler{schedule, {.steps = 20, .eta = 0.5}}, exact,
                                   {2, 3, 7}, PhiloxNoise{1}, options);
  const Image ddpm = sample<Image>(DdpmSampler{schedule, {.steps = 20}}, exact, {2, 3, 7},
                                   PhiloxNoise{1}, options);
  for (Eigen::Index i = 0; i < ddim.size(); ++i) {
    CHECK(std::abs(ddim.data()[i] - 0.5F) < 1e-5F);
    CHECK(std::abs(ddpm.data()[i] - 0.5F) < 1e-5F);
  }
}
