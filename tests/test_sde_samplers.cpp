// The samplers of score models' SDEs, DDPM between any two levels (unCLIP, Wuerstchen), CogVideoX:
// laws and the ratios by which their nature breaks them, closed forms, readers, errors.

#include <diffusion/interop/diffusers_config.hpp>
#include <diffusion/plan/laws.hpp>
#include <diffusion/samplers/cogvideox.hpp>
#include <diffusion/samplers/ddim.hpp>
#include <diffusion/samplers/ddpm.hpp>
#include <diffusion/samplers/dpm_solver.hpp>
#include <diffusion/samplers/sde.hpp>
#include <diffusion/schedule/clipped_cosine.hpp>
#include <diffusion/schedule/continuous.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <string>
#include <vector>

#include "catch.hpp"
#include "law_checks.hpp"
#include "plan_numbers.hpp"

using namespace diffusion;
using Catch::Approx;

namespace {

const double not_a_number = std::numeric_limits<double>::quiet_NaN();

DiffusersConfig read(const nlohmann::json& object, Behaviour behaviour = Behaviour::compatible) {
  return read_diffusers_config(object, {.behaviour = behaviour});
}

bool has_note(const DiffusersConfig& config, const std::string& key) {
  return std::any_of(config.notes.begin(), config.notes.end(),
                     [&](const DiffusersNote& note) { return note.key == key; });
}

}  // namespace

TEST_CASE("The predictor of the reverse SDE: its weights, and the ratio by which it misses") {
  const double s = 4, s_to = 1.5;
  const Grid grid = grid_of({{9, 1, s}, {3, 1, s_to}});
  const SamplingPlan plan = make_plan(grid, ReverseSdeOptions{.correct_steps = 0});
  const double added = s * s - s_to * s_to;
  CHECK(plan[0].x == 1);
  CHECK(plan[0].eps == Approx(-added / s).epsilon(1e-14));
  CHECK(plan[0].noise[0].weight == Approx(std::sqrt(added)).epsilon(1e-14));

  // One-point data: the mean is right, the variance r + 1 / r - 1 times what it should be.
  const Laws laws = check_laws(plan);
  const double r = s_to * s_to / (s * s);
  CHECK(laws.mean < 1e-14);
  CHECK(laws.variance == Approx((r + 1 / r - 2) * s_to * s_to).epsilon(1e-12));

  const SamplingPlan ancestral =
      make_plan(grid, ReverseSdeOptions{.correct_steps = 0, .predictor = SdePredictor::ancestral});
  CHECK(check_laws(ancestral).worst() < 1e-12);
}

TEST_CASE("Without corrector, the ancestral predictor is DDIM with eta = 1") {
  const VarianceExploding exploding;
  const VpLinear preserving;
  const auto check = [](const Grid& grid) {
    const SamplingPlan a = make_plan(
        grid, ReverseSdeOptions{.correct_steps = 0, .predictor = SdePredictor::ancestral});
    const SamplingPlan b = make_plan(grid, DdimOptions{.eta = 1});
    for (int i = 0; i < a.size(); ++i) {  // weights of x0 and eps in x = alpha x0 + sigma eps
      const Knot at = a[i].at;
      CHECK(a[i].x * at.alpha == Approx(b[i].x0).epsilon(1e-12));
      CHECK(a[i].x * at.sigma + a[i].eps == Approx(b[i].eps).epsilon(1e-10).margin(1e-12));
      const double noise = a[i].noise[0].source < 0 ? 0 : a[i].noise[0].weight;
      CHECK(noise == Approx(b[i].noise[0].source < 0 ? 0 : b[i].noise[0].weight).epsilon(1e-12));
    }
  };
  check(make_grid(exploding, 10));
  check(make_grid(preserving, 10));
  check(make_grid(exploding, 1));
}

TEST_CASE("Correctors are asks at the level of the step, with their own draws") {
  const VarianceExploding schedule;
  const ReverseSdeSampler sampler(schedule, {.steps = 7, .correct_steps = 2, .snr = 0.2});
  const SamplingPlan plan = sampler.plan();
  CHECK(plan.network_calls() == 21);
  CHECK(plan.steps() == 7);
  CHECK(plan.draws() == 20);  // none in the last predictor, which ends at clean data
  CHECK(plan[1].langevin_snr == 0.2);
  CHECK(plan[1].to == plan[1].at);
  CHECK(plan[2].langevin_snr == 0);
  CHECK(plan[1].noise[0].source == 1);
  const SamplingPlan noisy =
      ReverseSdeSampler(schedule, {.steps = 7, .correct_steps = 2, .noise_at_end = true}).plan();
  CHECK(noisy.draws() == 21);
  CHECK(noisy[20].noise[0].weight == Approx(noisy[20].at.sigma).epsilon(1e-12));
}

TEST_CASE("Euler and Maruyama: weights, and the ratio by which the mean misses") {
  const Knot from{1, std::exp(-0.3), std::sqrt(-std::expm1(-0.6))};
  const Knot to{0.5, std::exp(-0.2), std::sqrt(-std::expm1(-0.4))};
  const SamplingPlan plan = make_plan(grid_of({from, to}), EulerMaruyamaOptions{});
  const double B = 0.2;  // 2 log(alpha' / alpha)
  CHECK(plan[0].x == Approx(1 + B / 2).epsilon(1e-13));
  CHECK(plan[0].eps == Approx(-B / from.sigma).epsilon(1e-13));
  CHECK(plan[0].noise[0].weight == Approx(std::sqrt(B)).epsilon(1e-13));
  const Laws laws = check_laws(plan);
  CHECK(laws.mean ==
        Approx(to.alpha * std::abs((1 + B / 2) * std::exp(-B / 2) - 1)).epsilon(1e-10));
  const double variance = std::pow((1 + B / 2) * from.sigma - B / from.sigma, 2) + B;
  CHECK(laws.variance == Approx(std::abs(variance - to.sigma * to.sigma)).epsilon(1e-10));
}

TEST_CASE("Mean and variance of both SDEs come to those of the data, at first order") {
  const auto check = [](const auto& plan_of, const Knot& end) {
    const double variance = end.alpha * end.alpha * 0.36 + end.sigma * end.sigma;
    const auto error = [&](int n) {
      const auto got = numbers::moments(plan_of(n), 0.5, 0.36);
      return std::max(std::abs(got.mean - end.alpha * 0.5), std::abs(got.variance - variance));
    };
    INFO(error(50) << " " << error(100) << " " << error(200));
    CHECK(error(200) < 0.02);
    CHECK(error(200) < 0.6 * error(100));
    CHECK(error(100) < 0.65 * error(50));
  };
  for (const SdePredictor predictor : {SdePredictor::reverse_diffusion, SdePredictor::ancestral})
    check(
        [&](int n) {
          return make_plan(grid_of(numbers::even_in_log(n)),
                           {.correct_steps = 0, .predictor = predictor});
        },
        {0, 1, numbers::s_last});
  const VpLinear schedule;
  const auto knots = [&](int n) {
    std::vector<Knot> list;
    for (int i = 0; i <= n; ++i) list.push_back(schedule.knot(1 - 0.99 * i / n));
    return list;
  };
  check([&](int n) { return make_plan(grid_of(knots(n)), EulerMaruyamaOptions{}); },
        schedule.knot(0.01));
}

TEST_CASE("What the SDEs cannot start from, and options out of range, are refused") {
  const Grid grid = make_grid(VarianceExploding(), 5);
  const Grid pure = make_grid(VpCosine(), 5);
  CHECK_THROWS_WITH(make_plan(pure, ReverseSdeOptions{}), contains("starts at alpha = 0"));
  CHECK_THROWS_WITH(make_plan(pure, EulerMaruyamaOptions{}), contains("starts at alpha = 0"));
  CHECK_THROWS_WITH(make_plan(grid, EulerMaruyamaOptions{}), contains("variance preserving"));
  CHECK_THROWS_WITH(make_plan(grid, ReverseSdeOptions{.correct_steps = -1}),
                    contains("correct_steps is -1"));
  CHECK_THROWS_WITH(make_plan(grid, ReverseSdeOptions{.snr = not_a_number}),
                    contains("snr is nan"));
  CHECK_THROWS_WITH(make_plan(grid_of({{1, 1, 1.0}, {2, 1, 2.0}}), ReverseSdeOptions{}),
                    contains("a step to less of it"));
  CHECK_THROWS_WITH(
      make_plan(make_grid(VpLinear(), 5),
                EulerMaruyamaOptions{.beta_integral = [](const GridStep&) { return -1.0; }}),
      contains("integral of beta"));
  CHECK_THROWS_WITH(make_plan(make_grid(VpLinear(), 5),
                              DdpmOptions{.beta = [](const GridStep&) { return not_a_number; }}),
                    contains("DdpmOptions::beta"));
}

TEST_CASE("ClippedCosine: Wuerstchen's levels, their ends and their inverse") {
  const ClippedCosine plain;
  const double angle = (0.4 + 0.008) / 1.008 * std::numbers::pi / 2;
  const double begin = 0.008 / 1.008 * std::numbers::pi / 2;
  CHECK(plain.alpha(0.4) == Approx(std::cos(angle) / std::cos(begin)).epsilon(1e-14));
  CHECK(plain.alpha(1) == Approx(0.01).epsilon(1e-14));
  CHECK(plain.sigma(0) == Approx(0.01).epsilon(1e-14));
  CHECK(plain.alpha(0) == Approx(std::sqrt(0.9999)).epsilon(1e-15));
  for (const double scaler : {0.5, 1.0, 2.5}) {
    const ClippedCosine schedule({.s = 0.01, .scaler = scaler});
    const double warped = scaler > 1 ? 1 - std::pow(0.7, scaler) : std::pow(0.3, scaler);
    CHECK(schedule.alpha(0.3) == Approx(ClippedCosine({.s = 0.01}).alpha(warped)).epsilon(1e-13));
    for (const double t : {0.2, 0.5, 0.8}) {
      CHECK(schedule.time(schedule.knot(t).log_snr()) == Approx(t).epsilon(1e-10));
      CHECK(std::hypot(schedule.alpha(t), schedule.sigma(t)) == Approx(1).epsilon(1e-13));
    }
  }
  static_assert(Schedule<ClippedCosine>);
  CHECK(check_laws(DdpmSampler(plain, {.steps = 20}).plan()).worst() < 1e-11);
  CHECK_THROWS_WITH(ClippedCosine({.scaler = 0}), contains("scaler is 0"));
  CHECK_THROWS_WITH(ClippedCosine({.s = not_a_number}), contains("s is nan"));
  CHECK_THROWS_WITH(ClippedCosine({.smallest = 0.5}), contains("smallest is 0.5"));
  CHECK_THROWS_WITH(plain.alpha(1.5), contains("time t is 1.5"));
}

TEST_CASE(
    "CogVideoX's DPM solver is DPM++ 2M SDE of the midpoint type with another count of draws") {
  const VpLinear schedule;
  for (const int steps : {1, 2, 3, 4, 5, 20}) {
    const Grid grid = make_grid(schedule, steps);
    const SamplingPlan cog = cogvideox_dpm_plan(grid, true);
    const SamplingPlan dpm = make_plan(
        grid, DpmSolverOptions{.order = 2, .eta = 1, .lower_order_final = LowerOrderFinal::never});
    REQUIRE(cog.size() == dpm.size());
    for (int i = 0; i < cog.size(); ++i) {
      CHECK(cog[i].x == Approx(dpm[i].x).epsilon(1e-12).margin(1e-14));
      CHECK(cog[i].x0 == Approx(dpm[i].x0).epsilon(1e-12));
      CHECK(cog[i].history[0].weight == Approx(dpm[i].history[0].weight).epsilon(1e-12));
      CHECK(cog[i].noise[0].weight == Approx(dpm[i].noise[0].weight).epsilon(1e-12));
      CHECK(cog[i].draws == (i == 0 || i + 1 == steps ? 1 : 2));
    }
    CHECK(check_laws(cog).worst() < 1e-11);
  }
}

TEST_CASE("CogVideoX: correct keeps the laws where compatible steps by a stride") {
  for (const char* class_name : {"CogVideoXDDIMScheduler", "CogVideoXDPMScheduler"})
    for (const int steps : {1, 2, 3, 7, 20}) {
      INFO(class_name << ", " << steps << " steps");
      const nlohmann::json object = {{"_class_name", class_name},
                                     {"timestep_spacing", "trailing"},
                                     {"prediction_type", "v_prediction"},
                                     {"rescale_betas_zero_snr", true}};
      CHECK(check_laws(read(object, Behaviour::correct).plan(steps)).worst() < 1e-10);
      const Laws stride = check_laws(read(object).plan(steps));
      if (1000 % steps == 0)
        CHECK(stride.continuity < 1e-12);
      else
        CHECK(stride.continuity > 1e-3);
    }
}

TEST_CASE("CogVideoX: a clipping that the class ignores is told") {
  const nlohmann::json object = {{"_class_name", "CogVideoXDDIMScheduler"}, {"clip_sample", true}};
  CHECK(has_note(read(object), "clip_sample"));
  CHECK(read(object).plan(5).traits().clipping == Clipping::none());
  CHECK_FALSE(has_note(read({{"_class_name", "CogVideoXDDIMScheduler"}}), "clip_sample"));
}

TEST_CASE("unCLIP is DDPM on evenly rounded timesteps") {
  const auto unclip = read({{"_class_name", "UnCLIPScheduler"}});
  const auto ddpm = read({{"_class_name", "DDPMScheduler"},
                          {"beta_schedule", "squaredcos_cap_v2"},
                          {"timestep_spacing", "linspace"}});
  const SamplingPlan a = unclip.plan(12), b = ddpm.plan(12);
  REQUIRE(a.size() == b.size());
  for (int i = 0; i < a.size(); ++i) {
    CHECK(a[i].at == b[i].at);
    CHECK(a[i].x == Approx(b[i].x).epsilon(1e-11));
    CHECK(a[i].x0 == Approx(b[i].x0).epsilon(1e-11));
    CHECK(a[i].noise[0].weight == Approx(b[i].noise[0].weight).epsilon(1e-11));
  }
  CHECK(check_laws(
            read({{"_class_name", "UnCLIPScheduler"}, {"clip_sample", false}}, Behaviour::correct)
                .plan(12))
            .worst() < 1e-11);
  CHECK_THROWS_WITH(unclip.plan(1), contains("num_inference_steps is 1"));
  CHECK_THROWS_WITH(read({{"_class_name", "UnCLIPScheduler"}, {"beta_schedule", "linear"}}),
                    contains("squaredcos_cap_v2"));
  CHECK_THROWS_WITH(read({{"_class_name", "UnCLIPScheduler"}, {"variance_type", "fixed_small"}}),
                    contains("variance_type"));
  CHECK_THROWS_WITH(read({{"_class_name", "UnCLIPScheduler"}, {"prediction_type", "v_prediction"}}),
                    contains("prediction_type"));
}

TEST_CASE("Wuerstchen: a last step without noise leaves too little of it; correct ends clean") {
  const nlohmann::json object = {{"_class_name", "DDPMWuerstchenScheduler"}};
  const SamplingPlan compatible = read(object).plan(10);
  CHECK(compatible.draws() == 10);
  CHECK(check_laws(compatible).variance > 1e-6);  // all of the last step's, sigma^2 = 0.0001
  CHECK(check_laws(compatible).variance <= 1e-4);
  const SamplingPlan correct = read(object, Behaviour::correct).plan(10);
  CHECK(check_laws(correct).worst() < 1e-11);
  CHECK(correct[9].to == Knot{0, 1, 0});
  CHECK(correct.draws() == 9);
  CHECK(read(object).timesteps(compatible).size() == 11);

  const auto own = [&](std::vector<double> times) {
    DiffusersRun run;
    run.timesteps = std::move(times);
    return read(object).plan(run);
  };
  CHECK(own({1, 0.5, 0.25}).size() == 2);
  CHECK(check_laws(own({1, 0.5, 0.25})).worst() < 1e-11);  // ends with noise, so it adds some
  CHECK_THROWS_WITH(own({1}), contains("number of timesteps"));
  CHECK_THROWS_WITH(own({1, 0.5, 0.5, 0}), contains("timesteps[2] is 0.5"));
  CHECK_THROWS_WITH(own({1.2, 0}), contains("timesteps[0] is 1.2"));
  CHECK_THROWS_WITH(own({1, not_a_number}), contains("timesteps[1] is nan"));
  CHECK_THROWS_WITH(read({{"_class_name", "DDPMWuerstchenScheduler"}, {"scaler", 0}}),
                    contains("scaler is 0"));
}

TEST_CASE("Score SDEs: what correct changes, and errors by name") {
  const nlohmann::json ve = {{"_class_name", "ScoreSdeVeScheduler"}};
  const SamplingPlan compatible = read(ve).plan(10),
                     correct = read(ve, Behaviour::correct).plan(10);
  CHECK(read(ve).prediction_type == PredictionType::score);
  CHECK(compatible.network_calls() == 20);
  CHECK(compatible.draws() == 20);
  CHECK(correct.draws() == 19);  // the result is the mean
  CHECK(compatible.traits().initial_scale == 1348);
  CHECK(check_laws(compatible).continuity < 1e-12);  // the levels of the weights ...
  CHECK(std::abs(compatible[4].at.t / compatible[4].at.sigma - 1) > 1e-6);  // ... are not told
  CHECK(correct[4].at.t == correct[4].at.sigma);

  const nlohmann::json vp = {{"_class_name", "ScoreSdeVpScheduler"}};
  const SamplingPlan stepped = read(vp).plan(10);
  CHECK(stepped[3].x == Approx(1 + (0.1 + stepped[3].at.t * 19.9) / 10 / 2).epsilon(1e-13));
  CHECK(stepped.draws() == 10);
  CHECK(read(vp, Behaviour::correct).plan(10).draws() == 9);

  const auto with = [](nlohmann::json object, const char* key, double value) {
    object[key] = value;
    return read(object);
  };
  CHECK_THROWS_WITH(with(ve, "sigma_min", 2000), contains("sigma_min is 2000"));
  CHECK_THROWS_WITH(with(ve, "sampling_eps", 2), contains("sampling_eps is 2"));
  CHECK_THROWS_WITH(with(ve, "correct_steps", 1.5), contains("correct_steps is 1.5"));
  CHECK_THROWS_WITH(with(ve, "snr", -1), contains("snr is -1"));
  CHECK_THROWS_WITH(with(vp, "beta_min", -1), contains("beta_min is -1"));
  CHECK_THROWS_WITH(with(vp, "sampling_eps", 0).plan(3), contains("sigma = 0"));
  DiffusersRun own;
  own.timesteps = {1, 0.5};
  CHECK_THROWS_WITH(read(ve).plan(own), contains("takes a number of steps"));
  CHECK_THROWS_WITH(read(vp).plan(0), contains("num_inference_steps"));
}
