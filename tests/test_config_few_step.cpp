// Readers of the configurations of few-step and flow classes: what golden data does not show, which
// is errors, notes, the samplers' own behaviour, and that what was read is written back.

#include <diffusion/interop/diffusers_config.hpp>
#include <diffusion/plan/laws.hpp>
#include <diffusion/plan/lowering.hpp>

#include <cmath>
#include <limits>
#include <numbers>
#include <string>
#include <utility>
#include <vector>

#include "catch.hpp"

using namespace diffusion;
using Catch::Approx;

namespace {

using Json = nlohmann::json;

DiffusersConfig read(const std::string& name, Json keys = Json::object(),
                     Behaviour behaviour = Behaviour::compatible) {
  keys["_class_name"] = name;
  return read_diffusers_config(keys, {.behaviour = behaviour});
}

const std::string euler = "FlowMatchEulerDiscreteScheduler",
                  heun = "FlowMatchHeunDiscreteScheduler", flow_lcm = "FlowMatchLCMScheduler",
                  flow_map = "FlowMapEulerDiscreteScheduler", ltx = "LTXEulerAncestralRFScheduler",
                  lcm = "LCMScheduler", tcd = "TCDScheduler",
                  consistency = "CMStochasticIterativeScheduler",
                  decoder = "ConsistencyDecoderScheduler", scm = "SCMScheduler";

/// The kinds of notes about a key, "" where there is none.
std::string kinds_of_notes(const DiffusersConfig& config, const std::string& key) {
  std::string kinds;
  for (const DiffusersNote& note : config.notes)
    if (note.key == key)
      kinds += note.kind == DiffusersNote::Kind::ignored     ? "ignored "
               : note.kind == DiffusersNote::Kind::overruled ? "overruled "
                                                             : "questionable ";
  return kinds;
}

template <class Make>
std::string message_of(const Make& make) {
  try {
    make();
  } catch (const Error& error) {
    return error.what();
  }
  return "(nothing was wrong)";
}

}  // namespace

TEST_CASE("What each class reads is written back and reads to the same plan") {
  const std::pair<std::string, Json> configs[] = {
      {euler, {{"shift", 3}, {"use_beta_sigmas", true}, {"shift_terminal", 0.1}}},
      {euler, {{"use_karras_sigmas", true}, {"sigma_min", 0.03}, {"sigma_max", 0.9}}},
      {euler, {{"stochastic_sampling", true}, {"invert_sigmas", true}}},
      {heun, {{"shift", 2}}},
      {flow_lcm, {{"num_train_timesteps", 500}}},
      {flow_map, {{"shift", 3}}},
      {ltx, {{"eta", 0.5}, {"shift", 3}}},
      {lcm, {{"clip_sample", true}, {"timestep_scaling", 1}}},
      {tcd, {{"original_inference_steps", 20}}},
      {consistency, {{"rho", 5}, {"s_noise", 0.5}}},
      {decoder, {{"sigma_data", 1}}},
      {scm, {{"sigma_data", 1}}},
  };
  const DiffusersRun run{.steps = 2};
  for (const auto& [name, keys] : configs)
    for (const Behaviour behaviour : {Behaviour::compatible, Behaviour::correct}) {
      const auto config = read(name, keys, behaviour);
      INFO(config.resolved.dump());
      const auto again = read_diffusers_config(config.resolved, {.behaviour = behaviour});
      CHECK(again.plan(run) == config.plan(run));
      CHECK(again.resolved == config.resolved);
      CHECK(again.prediction_type == config.prediction_type);
      CHECK(kinds_of_notes(config, keys.begin().key()).find("ignored") == std::string::npos);
    }
}

TEST_CASE("The samplers' own behaviour keeps the laws") {
  for (const std::string& name : {euler, heun, flow_lcm, flow_map, ltx, lcm, tcd, scm, decoder})
    for (const bool several : {false, true}) {
      if (several && (name == decoder)) continue;
      INFO(name);
      Json keys = Json::object();
      if (name == lcm) keys["timestep_scaling"] = 1e6;  // its boundary moves the mean
      const auto config = read(name, keys, Behaviour::correct);
      const DiffusersRun run{.steps = several ? 5 : 2, .s_churn = 1};
      const Laws laws = check_laws(config.plan(run));
      CHECK(laws.mean < 1e-11);
      CHECK(laws.variance < 1e-11);
      CHECK(laws.continuity < 1e-11);
    }
  const Laws laws = check_laws(read(consistency, {}, Behaviour::correct).plan(3));
  CHECK(laws.mean < 1e-12);
  CHECK(laws.variance < 1e-9);
  CHECK(laws.continuity > 0);  // sigma_min, see ConsistencySampler
}

TEST_CASE("LCM and TCD with own timesteps and a strength: the end that the reference forgets") {
  const DiffusersRun run{.timesteps = {999, 759, 499, 259}, .strength = 0.5};
  const auto plan = read(lcm).plan(run), own = read(lcm, {}, Behaviour::correct).plan(run);
  REQUIRE(plan.size() == 2);
  CHECK(plan[0].at.t == 499);
  CHECK(plan[1].to.sigma == plan[1].at.sigma);  // noised again to where it came from
  CHECK(plan[1].noise[0].weight == plan[1].at.sigma);
  CHECK(own[1].to.sigma == 0);
  CHECK(own.draws() == 1);
  CHECK(read(tcd).plan(run).draws() == 2);
  CHECK(read(tcd, {}, Behaviour::correct).plan(run).draws() == 1);
}

TEST_CASE("TCD ends at the level of timestep 0 in the reference, at clean data here") {
  const DiffusersRun run{.steps = 4};
  const auto config = read(tcd);
  CHECK(config.plan(run)[3].to.sigma == config.schedule().sigma(0));
  CHECK(read(tcd, {}, Behaviour::correct).plan(run)[3].to.sigma == 0);
  CHECK(config.plan(run)[0].noise[0].weight > 0);  // eta is 0.3 unless given
  CHECK(config.plan({.steps = 4, .eta = 0}).draws() == 0);
}

TEST_CASE("TCD's jump is rounded down in the precision of the tables") {
  // (1 - 0.9) 10 is just below 1 in double, and 1 in single precision.
  const DiffusersRun run{.eta = 0.9, .timesteps = {999, 10}};
  const auto config = read(tcd);
  const auto double_plan = config.plan<double>(run), single_plan = config.plan<float>(run);
  const auto wide = config.schedule<double>();
  const auto narrow = config.schedule<float>();
  const auto ratio = [](const auto& schedule, double s) {
    return schedule.alpha(10) / schedule.alpha(s) * schedule.sigma(s);
  };
  CHECK(double_plan[0].eps == Approx(ratio(wide, 0)).epsilon(1e-12));
  CHECK(single_plan[0].eps == Approx(ratio(narrow, 1)).epsilon(1e-12));
}

TEST_CASE("A flow's shift is applied to ends that have it already, in the reference") {
  const Json keys{{"shift", 3}};
  const auto last = [](const DiffusersConfig& config) {
    const auto plan = config.plan(4);
    return plan[plan.size() - 1].at.sigma;
  };
  const double once = 3 * 0.001 / (1 + 2 * 0.001);
  for (const auto& name : {euler, heun, flow_lcm}) {
    CHECK(last(read(name, keys, Behaviour::correct)) == Approx(once).epsilon(1e-12));
    CHECK(last(read(name, keys)) == Approx(3 * once / (1 + 2 * once)).epsilon(1e-12));
  }
}

TEST_CASE("Inverted sigmas: the state's weights exchanged, for a velocity towards the data") {
  const auto config = read(euler, {{"invert_sigmas", true}});
  CHECK(config.prediction_type == PredictionType::data_flow);
  const auto plan = config.plan({.sigmas = {1, 0.5}});
  CHECK(plan[0].at == Knot{0, 0, 1});
  CHECK(plan[1].to == Knot{1000, 1, 0});
  CHECK(config.sigmas({.sigmas = {1, 0.5}}) == std::vector<double>{0, 0.5, 1});
  CHECK(check_laws(plan).worst() < 1e-15);
  const LoweredStage row = lower(plan[1], plan.traits(), config.prediction_type);
  CHECK(row.result.x == Approx(1).epsilon(1e-15));
  CHECK(row.result.f == Approx(0.5).epsilon(1e-15));
  CHECK(row.estimate.f == Approx(0.5).epsilon(1e-15));

  const Json stochastic{{"invert_sigmas", true}, {"stochastic_sampling", true}};
  CHECK(kinds_of_notes(read(euler, stochastic), "invert_sigmas") == "questionable ");
  CHECK(read(euler, stochastic).plan(3)[2].to.sigma == 1);
  CHECK(read(euler, stochastic, Behaviour::correct).plan(3)[2].to.sigma == 0);
}

TEST_CASE("FlowMatchLCM tells own timesteps unshifted") {
  const DiffusersRun run{.timesteps = {1000, 500}};
  const auto config = read(flow_lcm, {{"shift", 3}});
  CHECK(config.plan(run)[1].at.t == 500);
  CHECK(config.plan(run)[1].at.sigma == 0.75);
  CHECK(config.level(500, run).sigma == 0.75);
  CHECK(kinds_of_notes(config, "shift") == "questionable ");
  const auto own = read(flow_lcm, {{"shift", 3}}, Behaviour::correct);
  CHECK(own.plan(run)[1].at.t == 750);
}

TEST_CASE("LTX: own sigmas hold the end, where the reference asks once more") {
  const DiffusersRun run{.sigmas = {1, 0.5, 0}};
  CHECK(read(ltx).plan(run).network_calls() == 3);
  CHECK(read(ltx, {}, Behaviour::correct).plan(run).network_calls() == 2);
  CHECK(read(ltx).plan(3).network_calls() == 3);
  // Keys of the class whose sigmas it takes otherwise.
  const auto sigmas = read(ltx, {{"shift", 3}}).sigmas({.steps = 3});
  CHECK(sigmas == read(euler, {{"shift", 3}}).sigmas({.steps = 3}));
}

TEST_CASE("sCM starts a little past pi / 2, where the weight of the data is negative") {
  const auto plan = read(scm).plan(2);
  CHECK(plan[0].at.t == 1.5708);
  CHECK(plan[0].at.alpha == std::cos(1.5708));
  CHECK(plan[0].at.alpha < 0);
  CHECK(plan.traits().initial_scale == 1);
  CHECK(plan.draws() == 2);
  const auto own = read(scm, {}, Behaviour::correct).plan(2);
  CHECK(own[0].at.alpha == 0);
  CHECK(own.traits().initial_scale == Approx(0.5).epsilon(1e-10));
  CHECK(own.draws() == 1);
  CHECK(read(scm).timesteps(plan) == std::vector<double>{1.5708, 1.3, 0});

  const DiffusersRun halves{.steps = 2, .intermediate_timestep = 0};
  CHECK(read(scm).plan(halves)[1].at.t == Approx(0.7854).epsilon(1e-12));
}

TEST_CASE("Consistency: draws that are not used, and the level that add_noise gives") {
  const auto config = read(consistency);
  CHECK(config.plan(4).draws() == 4);
  CHECK(config.plan(1).draws() == 0);
  CHECK(read(consistency, {}, Behaviour::correct).plan(4).draws() == 3);
  const auto plan = config.plan(4);
  CHECK(plan[0].at.sigma == Approx(80).epsilon(1e-12));
  CHECK(plan.traits().initial_scale == 80);
  CHECK(config.level(plan[2].at.t).sigma == Approx(plan[2].at.sigma).epsilon(1e-12));
}

TEST_CASE("Keys without effect are noted by name") {
  for (const std::string& name : {lcm, tcd}) {
    const auto config = read(name, {{"timestep_spacing", "trailing"},
                                    {"steps_offset", 1},
                                    {"set_alpha_to_one", false},
                                    {"skip_prk_steps", true}});
    for (const char* key : {"timestep_spacing", "steps_offset", "set_alpha_to_one"})
      CHECK(kinds_of_notes(config, key).find("overruled ") != std::string::npos);
    CHECK(kinds_of_notes(config, "skip_prk_steps") == "ignored ");
    CHECK(read(name).notes.empty());
  }
  CHECK(kinds_of_notes(read(tcd, {{"clip_sample", true}}), "clip_sample") == "overruled ");
  CHECK(kinds_of_notes(read(tcd, {{"clip_sample", true}}, Behaviour::correct), "clip_sample") ==
        "");
  CHECK(kinds_of_notes(read(lcm, {{"clip_sample", true}}), "clip_sample") == "");
  const Json dynamic{{"shift", 3}, {"use_dynamic_shifting", true}};
  CHECK(kinds_of_notes(read(euler, dynamic), "shift") == "overruled ");
  // Ends that diffusers takes although it says that it does not.
  CHECK(kinds_of_notes(read(euler, {{"sigma_min", 0.1}}), "sigma_min") == "ignored ");
  CHECK(kinds_of_notes(read(euler, {{"sigma_min", 0.1}, {"use_karras_sigmas", true}}),
                       "sigma_min") == "");
}

TEST_CASE("What cannot be meant is refused by name") {
  struct Row {
    std::string name;
    Json keys;
    DiffusersRun run;
    std::vector<const char*> words;
  };
  const Row rows[] = {
      {euler, {{"shift", 0}}, {}, {"shift is 0", "positive"}},
      {euler, {{"shift_terminal", 1}}, {}, {"shift_terminal is 1", "below 1"}},
      {euler, {{"time_shift_type", "cubic"}}, {}, {"time_shift_type is \"cubic\"", "linear"}},
      {euler,
       {{"use_karras_sigmas", true}, {"use_beta_sigmas", true}},
       {},
       {"use_karras_sigmas and use_beta_sigmas", "at most one"}},
      {euler, {{"use_dynamic_shifting", true}}, {}, {"mu is missing", "use_dynamic_shifting"}},
      {euler,
       {{"use_dynamic_shifting", true}, {"time_shift_type", "linear"}},
       {.mu = -1},
       {"mu is -1", "positive"}},
      {euler, {}, {.steps = 0}, {"steps is 0"}},
      {euler, {}, {.sigmas = {1.5, 0.5}}, {"sigmas[0] is 1.5", "[0, 1]"}},
      {euler, {}, {.timesteps = {2000}}, {"timesteps / num_train_timesteps[0] is 2"}},
      {euler, {{"base_shift", "a"}}, {}, {"base_shift is \"a\"", "number"}},
      {flow_lcm,
       {{"scale_factors", {0.5, 1}}},
       {},
       {"scale_factors is [0.5,1]", "resizes the state", "null"}},
      {flow_lcm, {{"upscale_mode", "magic"}}, {}, {"upscale_mode is \"magic\"", "bicubic"}},
      {heun, {}, {.timesteps = {1000, 500}}, {"a number of steps only"}},
      {flow_map, {}, {.sigmas = {-0.5}}, {"sigmas[0] is -0.5"}},
      {ltx, {{"invert_sigmas", true}}, {}, {"invert_sigmas is true", "must be false"}},
      {ltx, {{"eta", -1}}, {}, {"eta is -1", "at least 0"}},
      {ltx, {}, {.timesteps = {1000, 0}}, {"timesteps[0] is 1000", "[0, 1]"}},
      {lcm, {}, {.steps = 51}, {"steps is 51", "[1, 50]"}},
      {lcm, {{"num_train_timesteps", 20}}, {.steps = 4}, {"original_steps is 50", "[1, 20]"}},
      {lcm, {}, {.steps = 4, .strength = 0.05}, {"[1, 2]", "strength 0.05"}},
      {lcm, {}, {.timesteps = {999}, .strength = 0.5}, {"strength is 0.5", "none of the 1"}},
      {lcm, {}, {.timesteps = {499, 999}}, {"timesteps[1] is 999", "less than"}},
      {lcm, {{"timestep_scaling", 0}}, {.steps = 4}, {"timestep_scaling is 0", "positive"}},
      {lcm, {{"beta_schedule", "laplace"}}, {.steps = 4}, {"beta_schedule is \"laplace\""}},
      {tcd, {}, {.steps = 30, .original_steps = 20}, {"steps is 30", "[1, 20]"}},
      {tcd, {}, {.steps = 4, .eta = 1.1}, {"eta is 1.1"}},
      {consistency, {}, {.steps = 41}, {"steps is 41", "[1, 40]"}},
      {consistency, {{"sigma_max", 0.001}}, {.steps = 2}, {"sigma_max is 0.001", "sigma_min"}},
      {consistency, {{"num_train_timesteps", 1}}, {.steps = 1}, {"num_train_timesteps is 1"}},
      {consistency, {}, {.timesteps = {0, 22}}, {"must fall"}},
      {consistency, {}, {.timesteps = {40}}, {"a timestep is 40", "[0, 39]"}},
      {decoder, {}, {.steps = 4}, {"steps is 4", "1008 and 512"}},
      {decoder, {{"num_train_timesteps", 1000}}, {.steps = 2}, {"num_train_timesteps is 1000"}},
      {scm, {{"prediction_type", "epsilon"}}, {.steps = 2}, {"prediction_type", "trigflow"}},
      {scm, {}, {.steps = 2, .max_timestep = 2}, {"a timestep of TrigFlow is 2"}},
      {scm, {}, {.steps = 3, .intermediate_timestep = 1.3}, {"intermediate_timestep is 1.3"}},
      {scm, {}, {.timesteps = {1}}, {"timesteps has 1 entry"}},
      {scm, {}, {.timesteps = {1, 0}, .max_timestep = 1.5}, {"beside max_timestep"}},
  };
  for (const Row& row : rows) {
    const std::string message = message_of([&] { read(row.name, row.keys).plan(row.run); });
    INFO(row.name << " " << row.keys << ": " << message);
    for (const char* word : row.words) CHECK(message.find(word) != std::string::npos);
  }
}

TEST_CASE("One step of a flow that is stretched to a terminal has nothing to stretch") {
  // diffusers divides 0 by 0.
  const auto sigmas = read(euler, {{"shift_terminal", 0.1}}).sigmas({.steps = 1});
  CHECK(sigmas == std::vector<double>{1, 0});
}
