// Exact mathematics: data N(mu, s^2) has an exact denoiser, linear in the state, so that a plan
// turns Gaussians into Gaussians whose mean and variance follow from its weights. Compared with
// sampling, with closed forms, and with the solution of the differential equation.

#include "catch.hpp"
#include "support.hpp"

#include <diffusion/noise/philox.hpp>
#include <diffusion/plan/lowering.hpp>
#include <diffusion/samplers/ddim.hpp>
#include <diffusion/samplers/ddpm.hpp>
#include <diffusion/sampling/sample.hpp>
#include <diffusion/schedule/continuous.hpp>
#include <diffusion/schedule/noise_schedule.hpp>

#include <cmath>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

using namespace diffusion;

namespace {

using Tensor = Eigen::Tensor<double, 3, Eigen::RowMajor>;

struct Moments {
  double mean, variance;
};

/// Data N(mu, s^2). At the level (alpha, sigma) its state has the variance D = alpha^2 s^2 +
/// sigma^2; E[x0 | x] = mu + alpha s^2 (x - alpha mu) / D and E[eps | x] = sigma (x - alpha mu) /
/// D.
struct Gaussian {
  double mu = 0.4, s = 0.5;

  double variance(double alpha, double sigma) const {
    return alpha * alpha * s * s + sigma * sigma;
  }
  Moments marginal(const Knot& at) const { return {at.alpha * mu, variance(at.alpha, at.sigma)}; }

  /// The exact network f = slope x + offset, of any prediction type.
  struct Network {
    double slope, offset;
  };
  Network network(PredictionType type, const Knot& at) const {
    const double d = variance(at.alpha, at.sigma), x0 = at.alpha * s * s / d, eps = at.sigma / d;
    const auto [on_x0, on_eps] = support::definition(type, at.alpha, at.sigma);
    const double slope = on_x0 * x0 + on_eps * eps;
    return {slope, on_x0 * mu - slope * at.alpha * mu};
  }

  void operator()(const Tensor& x, const Query& q, Tensor& out) const {
    const Network n = network(q.prediction_type, {q.t, q.alpha, q.sigma});
    out = n.slope * x + n.offset;
  }
};

/// Mean and variance after every stage of a plan without history, from its weights.
std::vector<Moments> propagate(const SamplingPlan& plan, PredictionType type, const Gaussian& data,
                               Moments state) {
  std::vector<Moments> moments;
  for (const Stage& stage : plan.stages()) {
    const LoweredStage row = lower(stage, plan.traits(), type);
    const auto [slope, offset] = data.network(type, stage.at);
    const double factor = row.result.x + row.result.f * slope;
    state.mean = factor * state.mean + row.result.f * offset;
    state.variance *= factor * factor;
    for (const Term& term : stage.noise)
      if (term.source >= 0) state.variance += term.weight * term.weight;
    moments.push_back(state);
  }
  return moments;
}

Moments start_of(const SamplingPlan& plan) {
  return {0, plan.traits().initial_scale * plan.traits().initial_scale};
}

constexpr std::size_t count = 100'000;

Moments moments_of(const Tensor& x) {
  const auto n = static_cast<double>(x.size());
  double sum = 0, squares = 0;
  for (Eigen::Index i = 0; i < x.size(); ++i) sum += x.data()[i];
  for (Eigen::Index i = 0; i < x.size(); ++i) squares += std::pow(x.data()[i] - sum / n, 2);
  return {sum / n, squares / (n - 1)};
}

/// Within 5 standard errors of the mean and of the variance of a Gaussian.
void check_sampled(const Moments& sampled, const Moments& expected) {
  const auto n = static_cast<double>(count);
  CHECK(std::abs(sampled.mean - expected.mean) < 5 * std::sqrt(expected.variance / n));
  CHECK(std::abs(sampled.variance - expected.variance) < 5 * expected.variance * std::sqrt(2 / n));
}

/// The slope of log(error) over log(steps) for each doubling: 1 is first order.
void check_first_order(const std::vector<double>& errors) {
  for (std::size_t i = 0; i + 1 < errors.size(); ++i) {
    CAPTURE(i, errors[i], errors[i + 1]);
    CHECK(std::log2(errors[i] / errors[i + 1]) > 0.9);
    CHECK(std::log2(errors[i] / errors[i + 1]) < 1.1);
  }
}

/// What a deterministic plan makes of one number.
double carry(const SamplingPlan& plan, const Gaussian& data, double x,
             PredictionType type = PredictionType::epsilon) {
  return propagate(plan, type, data, {x, 0}).back().mean;
}

}  // namespace

TEST_CASE("DDPM and DDIM sample the mean and variance that their weights say") {
  const Gaussian data;
  const auto check = [&](const std::string& name, const SamplingPlan& plan, PredictionType type) {
    INFO(name);
    const Moments expected = propagate(plan, type, data, start_of(plan)).back();
    const Tensor x =
        sample<Tensor>(plan, data, {100, 1, 1000}, PhiloxNoise{17}, {.prediction_type = type});
    REQUIRE(static_cast<std::size_t>(x.size()) == count);
    check_sampled(moments_of(x), expected);
  };
  const auto linear = NoiseSchedule<>::linear();
  using enum PredictionType::Kind;
  check("DDPM", DdpmSampler{linear, {.steps = 20}}.plan(), epsilon);
  check("DDPM large",
        DdpmSampler{linear, {.steps = 20, .variance = VarianceType::fixed_large}}.plan(), v);
  for (const double eta : {0.0, 0.5, 1.0})
    check("DDIM", DdimSampler{linear, {.steps = 20, .eta = eta}}.plan(), sample);
  check("flow", DdimSampler{RectifiedFlow(), {.steps = 20}}.plan(), flow);
  check("flow, ancestral", DdpmSampler{RectifiedFlow(), {.steps = 20}}.plan(), flow);
  check("VE, ancestral", DdimSampler{VarianceExploding(), {.steps = 20, .eta = 1}}.plan(), score);
}

TEST_CASE("A step of DDIM on Gaussian data multiplies the deviation by its closed form") {
  // delta' = delta (alpha alpha' s^2 + sigma sigma') / D, from eq. 12 with the exact estimates.
  const Gaussian data{-0.7, 1.3};
  const auto check = [&](const SamplingPlan& plan) {
    Moments state{0.9, 0.36};
    double deviation = 0.9 - plan[0].at.alpha * data.mu, variance = 0.36;
    const auto moments = propagate(plan, PredictionType::v, data, state);
    for (int i = 0; i < plan.size(); ++i) {
      const Knot &at = plan[i].at, &to = plan[i].to;
      const double factor = (at.alpha * to.alpha * data.s * data.s + at.sigma * to.sigma) /
                            data.variance(at.alpha, at.sigma);
      deviation *= factor;
      variance *= factor * factor;
      const Moments& m = moments[static_cast<std::size_t>(i)];
      CHECK(m.mean == Approx(to.alpha * data.mu + deviation).epsilon(1e-12).margin(1e-12));
      CHECK(m.variance == Approx(variance).epsilon(1e-11));
    }
  };
  check(DdimSampler{NoiseSchedule<>::squaredcos_cap_v2(), {.steps = 25}}.plan());
  check(DdimSampler{VpCosine(), {.steps = 25}}.plan());
  check(DdimSampler{RectifiedFlow(), {.steps = 25}}.plan());
}

TEST_CASE("DDPM with the large variance is exact for standard normal data, at any step count") {
  const Gaussian data{0, 1};
  for (const int steps : {1, 2, 5, 50, 1000}) {
    const DdpmOptions options{.steps = steps, .variance = VarianceType::fixed_large};
    const SamplingPlan plan = DdpmSampler{NoiseSchedule<>::linear(), options}.plan();
    const auto moments = propagate(plan, PredictionType::epsilon, data, {0, 1});
    for (std::size_t i = 0; i + 1 < moments.size(); ++i)
      CHECK(moments[i].variance == Approx(1).epsilon(1e-12));
    // The last step gives E[x0 | x] = alpha x, without noise.
    const double alpha = plan[steps - 1].at.alpha;
    CHECK(moments.back().variance == Approx(alpha * alpha).epsilon(1e-12));
  }
}

TEST_CASE("DDPM that is told the variance of the true posterior is exact for all Gaussian data") {
  // Var[x' | x] = small + (alpha' k)^2 Var[x0 | x], k = 1 - SNR / SNR', small = sigma'^2 k
  // (Bao et al. 2022, arXiv 2201.06503, theorem 1); learned_range interpolates to it in logarithm.
  const Gaussian data{0.4, 0.7};
  for (const bool range : {false, true}) {
    const DdpmOptions options{
        .steps = 8, .variance = range ? VarianceType::learned_range : VarianceType::learned};
    const SamplingPlan plan = DdpmSampler{VpLinear(), options}.plan();
    const auto network = [&](const Tensor& x, const Query& q, Tensor& out) {
      const Knot at{q.t, q.alpha, q.sigma}, to = plan[q.stage].to;
      const auto [slope, offset] = data.network(PredictionType::epsilon, at);
      const double k = 1 - std::pow(at.alpha * to.sigma / (at.sigma * to.alpha), 2);
      const double left = std::pow(data.s * at.sigma, 2) / data.variance(at.alpha, at.sigma);
      const double small = to.sigma * to.sigma * k, large = at.sigma * at.sigma * k;
      const double variance = small + std::pow(to.alpha * k, 2) * left;
      const double told =
          range ? 2 * std::log(variance / small) / std::log(large / small) - 1 : variance;
      out.chip(0, 1) = slope * x.chip(0, 1) + offset;
      out.chip(1, 1).setConstant(to.sigma == 0 ? 0 : told);
    };
    // From the exact distribution of the first level.
    const Moments first = data.marginal(plan[0].at);
    Tensor x = sample<Tensor>(SamplingPlan({Stage{.ask = false, .x = 1}}, {}), data, {100, 1, 1000},
                              PhiloxNoise{21});
    x = std::sqrt(first.variance) * x + first.mean;
    sample_in_place(plan, network, x, PhiloxNoise{22}, {}, [&](const auto& run) {
      check_sampled(moments_of(run.state()), data.marginal(run.stage().at));
    });
    const Knot last = plan[7].at;  // then comes E[x0 | x]
    const double factor = last.alpha * data.s * data.s / data.variance(last.alpha, last.sigma);
    check_sampled(moments_of(x), {data.mu, factor * factor * data.marginal(last).variance});
  }
}

TEST_CASE("DDIM's error falls at first order, on every continuous schedule") {
  // The solution of the equation: (x - alpha mu) / sqrt(D) is constant along it.
  const Gaussian data{0.4, 0.5};
  const auto errors = [&](const auto& schedule, int first_steps, PredictionType type) {
    std::vector<double> list;
    for (int steps = first_steps; steps <= 16 * first_steps; steps *= 2) {
      const DdimOptions options{.steps = steps, .grid = {.set_alpha_to_one = false}};
      const SamplingPlan plan = DdimSampler{schedule, options}.plan();
      const Knot &from = plan[0].at, &to = plan[steps - 1].to;
      const double start = from.alpha * data.mu + 1.1 * from.sigma;
      const double exact = to.alpha * data.mu +
                           (start - from.alpha * data.mu) *
                               std::sqrt(data.marginal(to).variance / data.marginal(from).variance);
      list.push_back(std::abs(carry(plan, data, start, type) - exact));
    }
    return list;
  };
  check_first_order(errors(VpLinear(), 80, PredictionType::epsilon));
  check_first_order(errors(VpCosine(), 80, PredictionType::v));
  check_first_order(errors(VarianceExploding(), 80, PredictionType::epsilon));
  check_first_order(errors(RectifiedFlow(), 80, PredictionType::flow));
}

TEST_CASE("DDPM's variance approaches that of the data at first order") {
  const Gaussian data{0.4, 0.5};
  std::vector<double> errors;
  for (int steps = 320; steps <= 5120; steps *= 2) {
    const SamplingPlan plan = DdpmSampler{VpLinear(), {.steps = steps}}.plan();
    const auto first = data.marginal(plan[0].at);
    const auto last = propagate(plan, PredictionType::epsilon, data, first).back();
    CHECK(last.mean == Approx(data.mu).epsilon(1e-10));
    errors.push_back(std::abs(last.variance - data.s * data.s));
  }
  check_first_order(errors);
}

TEST_CASE("DDIM on the continuous schedule and on its discrete twin agree to O(1/T)") {
  const Gaussian data{0.4, 0.5};
  const DdimOptions options{.steps = 10, .grid = {.spacing = TimestepSpacing::trailing}};
  const SamplingPlan continuous = DdimSampler{VpLinear(), options}.plan();
  std::vector<double> differences;
  for (int train = 250; train <= 4000; train *= 2) {
    const auto twin = NoiseSchedule<>::linear(
        {.train_timesteps = train, .beta_start = 0.1 / train, .beta_end = 20.0 / train});
    const SamplingPlan discrete = DdimSampler{twin, options}.plan();
    differences.push_back(std::abs(carry(discrete, data, 1.3) - carry(continuous, data, 1.3)));
  }
  CHECK(differences.back() < 1e-3);
  check_first_order(differences);
}

TEST_CASE("DDPM with the small variance is DDIM with eta 1, weight for weight") {
  const auto check = [](const auto& schedule, int steps, const GridOptions& grid) {
    using S = std::remove_cvref_t<decltype(schedule)>;
    const SamplingPlan ddpm = DdpmSampler<S>(schedule, {.steps = steps, .grid = grid}).plan();
    const SamplingPlan ddim =
        DdimSampler<S>(schedule, {.steps = steps, .eta = 1, .grid = grid}).plan();
    for (const PredictionType type : all_prediction_types) {
      const bool at_noise = ddpm[0].at.alpha == 0;
      if (at_noise && (type == PredictionType::epsilon || type == PredictionType::score)) continue;
      for (int i = 0; i < steps; ++i) {
        const LoweredStage a = lower(ddpm[i], ddpm.traits(), type);
        const LoweredStage b = lower(ddim[i], ddim.traits(), type);
        CHECK(a.result.x == Approx(b.result.x).epsilon(1e-10).margin(1e-12));
        CHECK(a.result.f == Approx(b.result.f).epsilon(1e-10).margin(1e-12));
        CHECK(ddpm[i].noise[0].weight == Approx(ddim[i].noise[0].weight).epsilon(1e-12));
      }
    }
  };
  check(NoiseSchedule<>::linear(), 50, {});
  check(NoiseSchedule<>::scaled_linear(), 7, {.spacing = TimestepSpacing::linspace});
  check(VpCosine(), 20, {});
  check(RectifiedFlow(), 20, {});
  check(VarianceExploding(), 20, {});
}

TEST_CASE("DDIM is Euler's method in sigma / alpha") {
  const auto check = [](const auto& schedule) {
    using S = std::remove_cvref_t<decltype(schedule)>;
    const SamplingPlan plan = DdimSampler<S>(schedule, {.steps = 30}).plan();
    for (const Stage& stage : plan.stages()) {
      const LoweredStage row = lower(stage, plan.traits(), PredictionType::epsilon);
      const Knot &at = stage.at, &to = stage.to;
      CHECK(row.result.x == Approx(to.alpha / at.alpha).epsilon(1e-12));
      CHECK(row.result.f == Approx(to.alpha * (to.sigma / to.alpha - at.sigma / at.alpha))
                                .epsilon(1e-12)
                                .margin(1e-12));
    }
  };
  check(VarianceExploding());  // alpha = 1: x' = x + (sigma' - sigma) eps
  check(NoiseSchedule<>::linear());
}

TEST_CASE("Inversion and DDIM make a round trip, whose error falls at first order") {
  const Gaussian data{0.4, 0.5};
  std::vector<double> errors;
  for (int steps = 40; steps <= 1280; steps *= 2) {
    const SamplingPlan there = DdimInverseSampler{VpLinear(), {.steps = steps}}.plan();
    const SamplingPlan back = DdimSampler{VpLinear(), {.steps = steps}}.plan();
    REQUIRE(there[0].at.sigma == 0);
    REQUIRE(same_level(there[steps - 1].to, back[0].at));
    errors.push_back(std::abs(carry(back, data, carry(there, data, 0.9)) - 0.9));
  }
  CHECK(errors.back() < 0.02);
  check_first_order(errors);
}
