// Configurations of Euler, Heun, LMS, KDPM2, DPM-Solver SDE and EDM: what is refused, what is
// noted, and what the samplers' own behaviour does otherwise than the reference.

#include <diffusion/interop/diffusers_config.hpp>
#include <diffusion/plan/laws.hpp>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "catch.hpp"

using namespace diffusion;
using Catch::Approx;
using Json = nlohmann::json;

namespace {

const char* const classes[] = {"EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler",
                               "HeunDiscreteScheduler",  "LMSDiscreteScheduler",
                               "KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler",
                               "DPMSolverSDEScheduler",  "EDMEulerScheduler"};

DiffusersConfig read(const std::string& name, Json keys = Json::object(),
                     Behaviour behaviour = Behaviour::compatible) {
  keys["_class_name"] = name;
  return read_diffusers_config(keys, {.behaviour = behaviour});
}

template <class Make>
std::string message_of(const Make& make) {
  try {
    make();
  } catch (const Error& error) {
    return error.what();
  }
  return "accepted";
}

std::vector<std::string> noted(const DiffusersConfig& config) {
  std::vector<std::string> keys;
  for (const DiffusersNote& note : config.notes) keys.push_back(note.key);
  std::sort(keys.begin(), keys.end());
  return keys;
}

using Keys = std::vector<std::string>;

}  // namespace

TEST_CASE("Values that a class does not allow are refused, by key") {
  struct Row {
    const char* name;
    Json keys;
    const char* key;
  };
  const Row rows[] = {
      {"EulerDiscreteScheduler", {{"interpolation_type", "cubic"}}, "interpolation_type"},
      {"EulerDiscreteScheduler", {{"timestep_type", "whole"}}, "timestep_type"},
      {"EulerDiscreteScheduler", {{"final_sigmas_type", "one"}}, "final_sigmas_type"},
      {"EulerDiscreteScheduler", {{"sigma_min", 0}}, "sigma_min"},
      {"EulerDiscreteScheduler", {{"sigma_max", "80"}}, "sigma_max"},
      {"EulerDiscreteScheduler", {{"beta_schedule", "exp"}}, "beta_schedule"},
      {"EulerDiscreteScheduler",
       {{"use_karras_sigmas", true}, {"use_beta_sigmas", true}},
       "use_beta_sigmas are both true"},
      {"EulerAncestralDiscreteScheduler", {{"prediction_type", "sample"}}, "prediction_type"},
      {"KDPM2DiscreteScheduler", {{"prediction_type", "sample"}}, "prediction_type"},
      {"DPMSolverSDEScheduler", {{"noise_sampler_seed", -1}}, "noise_sampler_seed"},
      {"HeunDiscreteScheduler", {{"clip_sample_range", 0}}, "clip_sample_range"},
      {"HeunDiscreteScheduler", {{"timestep_spacing", "even"}}, "timestep_spacing"},
      {"LMSDiscreteScheduler", {{"steps_offset", -1}}, "steps_offset"},
      {"EDMEulerScheduler", {{"sigma_schedule", "linear"}}, "sigma_schedule"},
      {"EDMEulerScheduler", {{"prediction_type", "sample"}}, "prediction_type"},
      {"EDMEulerScheduler", {{"rho", 0}}, "rho"},
  };
  for (const Row& row : rows) {
    const std::string message = message_of([&] { read(row.name, row.keys); });
    INFO(message);
    CHECK(message.find(row.key) != std::string::npos);
    CHECK(message.find(row.name) == 0);
  }
}

TEST_CASE("Runs that the reference refuses or makes NaN of are refused when the grid is made") {
  const auto refused = [](const DiffusersConfig& config, const DiffusersRun& run,
                          const char* words) {
    const std::string message = message_of([&] { config.plan(run); });
    INFO(message);
    CHECK(message.find(words) != std::string::npos);
  };
  const auto euler = read("EulerDiscreteScheduler");
  const auto karras = read("EulerDiscreteScheduler", {{"use_karras_sigmas", true}});
  refused(euler, {.steps = 0}, "steps");
  refused(euler, {.timesteps = {10, 20}}, "timesteps[1]");
  refused(euler, {.timesteps = {10}, .sigmas = {1, 0}}, "both given");
  refused(euler, {.sigmas = {1}}, "at least 2");
  refused(euler, {.sigmas = {1, 0, 0}}, "sigmas[1]");
  refused(euler, {.sigmas = {1, 2, 0}}, "sigmas[1]");
  refused(euler, {.sigmas = {std::nan(""), 0}}, "sigmas[0]");
  refused(karras, {.timesteps = {20, 10}}, "use_karras_sigmas");
  refused(euler, {.steps = 5, .s_churn = -1}, "Churn::amount");
  refused(read("LMSDiscreteScheduler"), {.steps = 5, .order = 6}, "order");
  refused(read("EDMEulerScheduler"), {.timesteps = {3, 2}}, "timesteps");
  refused(read("HeunDiscreteScheduler", {{"timestep_spacing", "leading"}}), {.steps = 2000},
          "steps");
  CHECK(message_of([&] { euler.level(17.3, {.steps = 10}); }).find("not one of the run's") !=
        std::string::npos);
}

TEST_CASE("Keys without effect and doubtful ones are noted") {
  CHECK(noted(read("EulerDiscreteScheduler")) == Keys{});
  CHECK(noted(read("EulerDiscreteScheduler", {{"sigma_min", 0.1}, {"steps_offset", 1}})) ==
        Keys{"sigma_min", "steps_offset"});
  CHECK(noted(read("EulerDiscreteScheduler", {{"timestep_type", "continuous"}})) ==
        Keys{"timestep_type"});
  CHECK(noted(read("EulerDiscreteScheduler", {{"interpolation_type", "log_linear"}})) ==
        Keys{"interpolation_type"});
  CHECK(noted(read("DPMSolverSDEScheduler", {{"noise_sampler_seed", 3}})) ==
        Keys{"noise_sampler_seed"});
  CHECK(noted(read("HeunDiscreteScheduler", {{"rescale_betas_zero_snr", true}})) ==
        Keys{"rescale_betas_zero_snr"});
}

TEST_CASE("What a class resolves reads back to the same plans") {
  for (const char* name : classes)
    for (const Behaviour behaviour : {Behaviour::compatible, Behaviour::correct}) {
      INFO(name);
      const auto config = read(name, Json::object(), behaviour);
      const auto again = read_diffusers_config(config.resolved, {.behaviour = behaviour});
      CHECK(again.resolved == config.resolved);
      CHECK(again.plan(7) == config.plan(7));
      CHECK(check_laws(again.plan(7)).worst() <= 1e-9);
    }
}

TEST_CASE("The samplers' own behaviour: churn before the ask, levels told right, LMS cut anew") {
  const auto correct = Behaviour::correct;
  SECTION("Churn") {
    const DiffusersRun run{.steps = 6, .s_churn = 4};
    for (const char* name : {"EulerDiscreteScheduler", "EDMEulerScheduler"}) {
      const SamplingPlan plan = read(name, Json::object(), correct).plan(run);
      const double scale = plan[0].to.sigma * plan[0].to.sigma;
      CHECK(check_laws(plan).worst() <= 1e-9 * scale);
      CHECK(plan.network_calls() == 6);
      CHECK(read(name).plan(run)[0].raw != 0);
    }
  }
  SECTION("log_linear: as many levels as steps, down to clean data, told their times") {
    const Json keys = {{"interpolation_type", "log_linear"}};
    const auto grid = read("EulerDiscreteScheduler", keys, correct).grid({.steps = 6});
    const auto compatible = read("EulerDiscreteScheduler", keys).grid({.steps = 6});
    CHECK(grid.finish().sigma == 0);
    CHECK(compatible.finish().sigma > 0);
    const auto schedule = read("EulerDiscreteScheduler").schedule();
    for (const GridStep& step : grid)
      CHECK(std::exp(-schedule.log_snr(step.from.t) / 2) == Approx(step.from.sigma).epsilon(1e-9));
    CHECK(std::exp(-schedule.log_snr(compatible[3].from.t) / 2) > 1.5 * compatible[3].from.sigma);
  }
  SECTION("KDPM2: Karras' timesteps as they are") {
    const Json keys = {{"use_karras_sigmas", true}};
    const double told = read("KDPM2DiscreteScheduler", keys, correct).grid({.steps = 6})[2].from.t;
    CHECK(std::nearbyint(told) ==
          read("KDPM2DiscreteScheduler", keys).grid({.steps = 6})[2].from.t);
    CHECK(told != std::nearbyint(told));
  }
  SECTION("LMS") {
    const auto compatible = read("LMSDiscreteScheduler");
    const auto own = read("LMSDiscreteScheduler", Json::object(), correct);
    const DiffusersRun run{.steps = 8};
    const Grid cut = compatible.grid(run).cut(3);
    CHECK(check_laws(own.plan(cut, run)).worst() <= 1e-9);
    CHECK(check_laws(compatible.plan(cut, run)).variance > 0.1);
    const Grid single = compatible.grid<float>(run).cut(3);  // found again in single precision
    CHECK(compatible.plan(single, run)[0].eps ==
          Approx(compatible.plan(cut, run)[0].eps).epsilon(1e-4));
  }
  SECTION("EDM: own sigmas are sigmas") {
    const DiffusersRun run{.sigmas = {10, 3, 1}};
    CHECK(read("EDMEulerScheduler", Json::object(), correct).grid(run)[1].from.sigma == 3);
    const DiffusersRun places{.sigmas = {0, 0.5, 1}};
    const Grid grid = read("EDMEulerScheduler").grid(places);
    CHECK(grid[0].from.sigma == Approx(80).epsilon(1e-12));
    CHECK(grid[2].from.sigma == Approx(0.002).epsilon(1e-12));
  }
  SECTION("DPM-Solver SDE: one path's noise") {
    CHECK(read("DPMSolverSDEScheduler", Json::object(), correct).plan(5)[1].noise[1].source == 1);
    CHECK(read("DPMSolverSDEScheduler").plan(5)[1].noise[1].source == -1);
  }
  SECTION("Predictions that the reference's step refuses") {
    for (const char* name : {"EulerAncestralDiscreteScheduler", "KDPM2DiscreteScheduler"})
      CHECK(read(name, {{"prediction_type", "sample"}}, correct).prediction_type ==
            PredictionType::sample);
  }
  SECTION("Velocities are the timestep's own") {
    const auto compatible = read("EulerDiscreteScheduler");
    const auto own = read("EulerDiscreteScheduler", Json::object(), correct);
    CHECK(own.velocity_level(999, {.steps = 10}) == own.schedule().knot(999));
    CHECK(compatible.velocity_level(999, {.steps = 10}) == own.schedule().knot(0));
  }
}

TEST_CASE("Rescaled cosine betas, whose last but one alphas_cumprod is below 2^-24") {
  const auto config = read("EulerDiscreteScheduler", {{"beta_schedule", "squaredcos_cap_v2"},
                                                      {"rescale_betas_zero_snr", true},
                                                      {"prediction_type", "v_prediction"},
                                                      {"timestep_spacing", "trailing"}});
  const Grid grid = config.grid({.steps = 10});
  CHECK(grid.start().sigma == Approx(std::sqrt(0x1p24 - 1)).epsilon(1e-12));
  CHECK(check_laws(config.plan({.steps = 10})).mean <= 1e-9);
}
