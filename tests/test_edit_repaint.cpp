// RePaint: its walk, the laws of its plans, the exact posterior that it comes near to, and the
// scheduler class of the reference in both behaviours.

#include "catch.hpp"
#include "exact_edit.hpp"
#include "refusals.hpp"

#include <diffusion/edit/inpaint.hpp>
#include <diffusion/edit/repaint.hpp>
#include <diffusion/interop/diffusers_config.hpp>
#include <diffusion/noise/philox.hpp>
#include <diffusion/plan/laws.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

using namespace diffusion;
using Catch::Approx;
using exact::Points;

namespace {

/// The steps still to be done, from stop to stop of the walk, one step at a time.
std::vector<int> positions(int n, const RepaintOptions& options) {
  std::vector<int> at{n};
  for (const auto& stretch : detail::repaint_walk(n, options)) {
    while (at.back() < stretch.begin) at.push_back(at.back() + 1);
    while (at.back() > stretch.end) at.push_back(at.back() - 1);
  }
  return at;
}

/// Two unit normals of correlation 0.8, of which the first is known.
Gaussian correlated() {
  Eigen::MatrixXd covariance(2, 2);
  covariance << 1, 0.8, 0.8, 1;
  return Gaussian(Eigen::VectorXd::Zero(2), covariance);
}
constexpr double known = 1.5;

/// The exact law of RePaint's result there.
exact::Law repainted(const SamplingPlan& plan, PredictionType type) {
  Points picture(1, 2), mask(1, 2);
  picture.setValues({{known, 0}});
  mask.setValues({{1, 0}});
  const exact::UnitNoise noise{2};
  return exact::law_of(sample<Points>(plan, exact_denoiser(correlated(), type),
                                      {exact::batch_of(plan, 2), 2}, noise, {},
                                      Inpaint(picture, mask, noise)));
}

TEST_CASE("the walk of RePaint has unit steps, ends clean and counts what the paper counts") {
  // 250 steps, jumps of 10, each stretch 10 times: 4570 transitions, of which 2410 ask the network
  // (the setting of the paper's tables).
  const auto at = positions(250, {});
  CHECK(at.size() - 1 == 4570);
  CHECK(at.front() == 250);
  CHECK(at.back() == 0);
  for (std::size_t i = 1; i < at.size(); ++i) REQUIRE(std::abs(at[i] - at[i - 1]) == 1);
  int asks = 0;
  for (std::size_t i = 1; i < at.size(); ++i) asks += at[i] < at[i - 1] ? 1 : 0;
  CHECK(asks == 2410);
  for (int level = 1; level <= 240; ++level)  // every step but the first and last is done 10 times
    CHECK(std::count(at.begin(), at.end(), level) >= 10);

  CHECK(positions(4, {.jump_length = 2, .jump_n_sample = 2}) ==
        std::vector<int>{4, 3, 2, 1, 2, 3, 2, 1, 0});
  // diffusers: timesteps 3 2 1 0 (1 0), counted by where the steps lead
  CHECK(positions(4, {.jump_length = 2, .jump_n_sample = 2, .from_clean = true}) ==
        std::vector<int>{4, 3, 2, 1, 0, 1, 2, 1, 0});
}

TEST_CASE("RePaint's plans keep the laws of their samplers") {
  for (const auto& [name, sampler, type] : exact::cases(12)) {
    for (const bool from_clean : {false, true}) {
      const RepaintOptions options{.jump_length = 3, .jump_n_sample = 3, .from_clean = from_clean};
      const SamplingPlan plan = repaint_plan(sampler, options);
      const Laws laws = check_laws(plan), plain = check_laws(sampler.plan());
      INFO(name << ", from_clean " << from_clean);
      CHECK(laws.continuity < 1e-12);
      CHECK(laws.mean < 1e-10 + 4 * plain.mean);
      CHECK(laws.variance < 1e-9 + 4 * plain.variance);
      const int places = 3;  // 1, 4, 7 steps before the end, or 0, 3, 6
      CHECK(std::count_if(plan.stages().begin(), plan.stages().end(), [](const Stage& s) {
              return !s.ask && s.to.sigma > s.at.sigma;
            }) == 2 * places);
      CHECK(plan.steps() == 12 + 2 * places * 3);
    }
    const SamplingPlan none = repaint_plan(sampler, {.jump_length = 50, .jump_n_sample = 1});
    CHECK(none.size() == sampler.plan().size());
  }
}

TEST_CASE("without an edit RePaint samples the data") {
  // The covariance of the result: 1 and 0.8, but for the error of so few steps, with or without
  // jumps.
  struct Row {
    SamplerOptions options;
    double tolerance;
  };
  for (const auto& [options, tolerance] :
       std::vector<Row>{{EulerAncestralOptions{.steps = 40}, 0.16},
                        {DpmSolverOptions{.steps = 40, .order = 2}, 0.04}}) {
    const AnySampler sampler{NoiseSchedule<>::scaled_linear(), options};
    for (const int n_sample : {1, 3}) {
      const auto plan = repaint_plan(sampler, {.jump_length = 5, .jump_n_sample = n_sample});
      const exact::UnitNoise noise{2};
      const auto law = exact::law_of(
          sample<Points>(plan, exact_denoiser(correlated()), {exact::batch_of(plan, 2), 2}, noise));
      CHECK(law.mean.norm() < 1e-12);
      CHECK(law.covariance(0, 0) == Approx(1).margin(tolerance));
      CHECK(law.covariance(0, 1) == Approx(0.8).margin(tolerance));
    }
  }
}

TEST_CASE("RePaint's conditional mean tends to the exact posterior's with more resampling") {
  // Exactly: mean 0.8 * 1.5 = 1.2, variance 1 - 0.64 = 0.36.
  std::vector<double> bias;
  const AnySampler sampler{NoiseSchedule<>::scaled_linear(), EulerAncestralOptions{.steps = 40}};
  for (const int n_sample : {1, 2, 4, 8}) {
    const auto plan = repaint_plan(sampler, {.jump_length = 5, .jump_n_sample = n_sample});
    const auto law = repainted(plan, PredictionType::epsilon);
    CHECK(law.mean[0] == known);
    CHECK(law.covariance(0, 0) == 0);
    bias.push_back(std::abs(law.mean[1] - 1.2));
    INFO("n_sample " << n_sample << ": mean " << law.mean[1] << ", variance "
                     << law.covariance(1, 1));
  }
  for (std::size_t i = 1; i < bias.size(); ++i) CHECK(bias[i] < 0.8 * bias[i - 1]);
  CHECK(bias.back() < 0.2 * bias.front());
}

TEST_CASE("RePaint runs with every sampler and prediction type, and jumps help each") {
  for (const auto& [name, sampler, type] : exact::cases(20)) {
    INFO(name);
    const double plain = repainted(sampler.plan(), type).mean[1];
    const double jumped =
        repainted(repaint_plan(sampler, {.jump_length = 4, .jump_n_sample = 6}), type).mean[1];
    INFO(plain << " to " << jumped);
    CHECK(std::abs(jumped - 1.2) < std::abs(plain - 1.2));
  }
}

// ---- the reference's class --------------------------------------------------------------------

nlohmann::json repaint_file() { return {{"_class_name", "RePaintScheduler"}, {"eta", 1.0}}; }

TEST_CASE("RePaintScheduler: compatible jumps to too much noise, correct keeps the laws") {
  DiffusersRun run;
  run.steps = 8;
  run.jump_length = 3;
  run.jump_n_sample = 2;
  const auto compatible = read_diffusers_config(repaint_file());
  const auto correct = read_diffusers_config(repaint_file(), {.behaviour = Behaviour::correct});
  const auto theirs = compatible.plan(run), ours = correct.plan(run);
  CHECK(compatible.timesteps(theirs) == std::vector<double>{875, 750, 625, 500, 375, 500, 625,
                                                            750, 625, 500, 375, 250, 125, 0,
                                                            125, 250, 375, 250, 125, 0});
  CHECK(ours.traits().clipping.kind == Clipping::Kind::range);
  CHECK(theirs.traits().epsilon_rule == EpsilonRule::raw);
  CHECK(ours.traits().epsilon_rule == EpsilonRule::rederived);

  double least = 1,
         most = 0;  // alpha^2 of the state after a jump by that which the network is told
  for (int i = 1; i < theirs.size(); ++i)
    if (theirs[i].ask && !theirs[i - 1].ask) {
      const double ratio = theirs[i - 1].to.alpha / theirs[i].at.alpha;
      least = std::min(least, ratio * ratio);
      most = std::max(most, ratio * ratio);
    }
  INFO("from " << least << " to " << most);
  CHECK(least > 0.3);
  CHECK(most < 0.5);
  CHECK(check_laws(theirs).continuity > 0.05);
  CHECK(check_laws(ours).worst() < 1e-12);

  run.steps = 5;  // too few for jumps: none, as in Python
  run.jump_length = run.jump_n_sample = 10;
  CHECK(compatible.plan(run).size() == 5);
  CHECK(correct.plan(run).size() == 5);
  run.steps = 5000;  // more steps than timesteps: all timesteps
  run.jump_n_sample = 1;
  CHECK(correct.plan(run).size() == 1000);
}

TEST_CASE("RePaintScheduler: its keys, and a run that it cannot do") {
  using nlohmann::json;
  const auto plan = [](const DiffusersRun& run) {
    read_diffusers_config(repaint_file()).plan(run);
  };
  DiffusersRun timed, still;
  timed.timesteps = {900, 500};
  still.jump_length = 0;
  check_refusals({
      {"eta",
       [] {
         read_diffusers_config(json{{"_class_name", "RePaintScheduler"}, {"eta", 2}});
       },
       {"RePaintScheduler: eta is 2; it must be a number in [0, 1]"}},
      {"schedule",
       [] {
         read_diffusers_config(
             json{{"_class_name", "RePaintScheduler"}, {"beta_schedule", "laplace"}});
       },
       {"beta_schedule is \"laplace\""}},
      {"own timesteps", [&] { plan(timed); }, {"own timesteps are given (2)"}},
      {"no jump", [&] { plan(still); }, {"jump_length is 0"}},
  });
}

TEST_CASE("jumps that do not fit are refused") {
  const DdimSampler sampler{NoiseSchedule<>::scaled_linear(), {.steps = 10}};
  struct Row {
    RepaintOptions options;
    std::string says;
  };
  for (const Row& row : std::vector<Row>{
           {{.jump_length = 10, .jump_n_sample = 2}, "jump_length is 10; with 10 steps it must be"},
           {{.jump_length = 0}, "jump_length is 0; it must lie in [1,"},
           {{.jump_length = 2, .jump_n_sample = 0}, "jump_n_sample is 0; it must lie in [1,"},
           {{.jump_length = 2, .jump_n_sample = 20000}, "jump_n_sample is 20000"},
           {{.jump_length = 10, .jump_n_sample = 2, .from_clean = true}, "jump_length is 10"},
       })
    check_refusals(
        {{row.says.c_str(), [&] { repaint_plan(sampler, row.options); }, {row.says.c_str()}}});
  CHECK(repaint_plan(sampler, {.jump_length = 9, .jump_n_sample = 2}).steps() == 19);
}

}  // namespace
