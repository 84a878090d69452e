// Configurations of the DPM-Solver family: what is refused, what is noted, where the two behaviours
// differ.

#include <diffusion/interop/diffusers_config.hpp>
#include <diffusion/plan/laws.hpp>

#include <algorithm>
#include <string>
#include <vector>

#include "catch.hpp"

using namespace diffusion;
using Catch::Approx;

namespace {

DiffusersConfig read(const std::string& name, const std::string& keys,
                     Behaviour behaviour = Behaviour::compatible) {
  return parse_diffusers_config(
      R"({"_class_name": ")" + name + R"(")" + (keys.empty() ? "" : ", " + keys) + "}",
      {.behaviour = behaviour});
}

bool has_note(const DiffusersConfig& config, DiffusersNote::Kind kind, const std::string& key) {
  return std::any_of(config.notes.begin(), config.notes.end(), [&](const DiffusersNote& note) {
    return note.kind == kind && note.key == key;
  });
}

const std::string multistep = "DPMSolverMultistepScheduler";
const std::string singlestep = "DPMSolverSinglestepScheduler";
const std::string inverse = "DPMSolverMultistepInverseScheduler";
const std::string deis = "DEISMultistepScheduler";
const std::string edm = "EDMDPMSolverMultistepScheduler";
const std::string cosine = "CosineDPMSolverMultistepScheduler";

}  // namespace

TEST_CASE("What diffusers fails at, or makes NaN of, is refused by name when it is read") {
  struct Row {
    std::string name, keys, says;
  };
  const Row rows[] = {
      {multistep, R"("algorithm_type": "dpmsolver")", "sigma_min"},
      {multistep, R"("algorithm_type": "deis")", "sigma_min"},
      {multistep, R"("algorithm_type": "euler")", "algorithm_type is \"euler\""},
      {multistep, R"("solver_type": "rk4")", "solver_type is \"rk4\""},
      {multistep, R"("solver_order": 0)", "solver_order is 0"},
      {multistep, R"("final_sigmas_type": "one")", "final_sigmas_type is \"one\""},
      {multistep, R"("beta_schedule": "sigmoid")", "beta_schedule is \"sigmoid\""},
      {multistep, R"("use_karras_sigmas": true, "use_beta_sigmas": true)", "at most one"},
      {multistep, R"("use_karras_sigmas": true, "use_flow_sigmas": true)", "use_flow_sigmas"},
      {multistep, R"("prediction_type": "flow_prediction")", "use_flow_sigmas"},
      {multistep,
       R"("prediction_type": "flow_prediction", "use_flow_sigmas": true,
          "algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min")",
       "flow_prediction"},
      {multistep, R"("prediction_type": "v_prediction", "use_flow_sigmas": true)", "v_prediction"},
      {multistep, R"("lambda_min_clipped": NaN)", "lambda_min_clipped is nan"},
      {multistep, R"("flow_shift": 0)", "flow_shift is 0"},
      {singlestep, R"("solver_order": 4)", "solver_order is 4"},
      {singlestep, R"("algorithm_type": "sde-dpmsolver")", "algorithm_type"},
      {singlestep,
       R"("algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min", "thresholding": true)",
       "thresholding"},
      {inverse, R"("algorithm_type": "sde-dpmsolver++")", "adds no noise"},
      {deis, R"("solver_type": "rk4")", "solver_type"},
      {edm, R"("prediction_type": "sample")", "prediction_type"},
      {edm, R"("sigma_min": 90)", "below sigma_max"},
      {edm, R"("algorithm_type": "dpmsolver")", "algorithm_type"},
      {cosine, R"("sigma_schedule": "linear")", "sigma_schedule"},
  };
  for (const Row& row : rows) {
    CAPTURE(row.name, row.keys);
    CHECK_THROWS_WITH(read(row.name, row.keys), contains(row.says));
  }
}

TEST_CASE("What diffusers fails at in a run is refused when the grid or the plan is made") {
  struct Row {
    std::string name, keys;
    DiffusersRun run;
    std::string says;
  };
  const std::string third = R"("solver_order": 3, "algorithm_type": "sde-dpmsolver++")";
  const Row rows[] = {
      {multistep, "", {.steps = 0}, "steps is 0"},
      {multistep, "", {.steps = 1001}, "steps is 1001"},
      {multistep, R"("timestep_spacing": "leading")", {.steps = 1000}, "at most 999"},
      {multistep, "", {.mu = 0.5}, "use_dynamic_shifting"},
      {multistep, "", {.timesteps = {10, 20}}, "timesteps[1] is 20"},
      {multistep, R"("use_karras_sigmas": true)", {.timesteps = {20, 10}}, "own timesteps"},
      {multistep, "", {.sigmas = {2, 1}}, "own sigmas"},
      {multistep, R"("lambda_min_clipped": 50)", {.steps = 5}, "lambda_min_clipped is 50"},
      {multistep,
       R"("solver_order": 3, "algorithm_type": "sde-dpmsolver", "final_sigmas_type": "sigma_min")",
       {.steps = 20},
       "no third order"},
      {edm, third, {.steps = 20}, "no third order"},
      {edm, "", {.timesteps = {20, 10}}, "own timesteps"},
  };
  for (const Row& row : rows) {
    CAPTURE(row.name, row.keys, row.says);
    const auto config = read(row.name, row.keys);
    CHECK_THROWS_WITH(config.plan(row.run), contains(row.says));
  }
  // Where the correct behaviour has a formula there is nothing to refuse.
  CHECK(check_laws(read(edm, third, Behaviour::correct).plan(20)).mean < 1e-9);
}

TEST_CASE("Keys that are overruled or questionable are noted") {
  using enum DiffusersNote::Kind;
  CHECK(has_note(read(multistep, R"("solver_order": 5)"), questionable, "solver_order"));
  CHECK(has_note(read(multistep, R"("solver_order": 3)"), questionable, "solver_order"));
  CHECK_FALSE(has_note(read(multistep, R"("solver_order": 3)", Behaviour::correct), questionable,
                       "solver_order"));
  CHECK(has_note(read(multistep, R"("use_karras_sigmas": true, "use_lu_lambdas": true)"), overruled,
                 "use_lu_lambdas"));
  CHECK(has_note(read(multistep, R"("steps_offset": 1)"), overruled, "steps_offset"));
  CHECK(has_note(read(multistep, R"("use_karras_sigmas": true, "sigma_min": 0.1)"), questionable,
                 "sigma_min"));
  CHECK(has_note(read(multistep, R"("sigma_min": 0.1)"), ignored, "sigma_min"));
  CHECK(has_note(read(singlestep, ""), overruled, "lower_order_final"));
  CHECK(has_note(read(deis, R"("solver_type": "bh2")"), overruled, "solver_type"));
  CHECK(
      has_note(read(deis, R"("rescale_betas_zero_snr": true)"), ignored, "rescale_betas_zero_snr"));
  for (const std::string& name : {multistep, inverse, deis, edm, cosine})
    CHECK(read(name, "").notes.empty());
}

TEST_CASE("Third order, and the runs that count as short, differ between the two behaviours") {
  const std::string keys = R"("solver_order": 3)";
  const auto compatible = read(multistep, keys),
             correct = read(multistep, keys, Behaviour::correct);
  const auto grid = compatible.grid({.steps = 20});
  const auto old_plan = compatible.plan(grid, {}), new_plan = correct.plan(grid, {});
  CHECK(old_plan[1] == new_plan[1]);
  CHECK_FALSE(old_plan[2] == new_plan[2]);
  // 20 steps are not short for the reference also where 5 of them are left; for us 5 are.
  const auto late_old = compatible.plan(grid.cut(15), {}),
             late_new = correct.plan(grid.cut(15), {});
  CHECK(late_old[3].history[1].source >= 0);
  CHECK(late_new[3].history[1].source == -1);
}

TEST_CASE("A configuration reads back from what it was resolved to") {
  for (const std::string& keys :
       {std::string(R"("use_karras_sigmas": true, "final_sigmas_type": "sigma_min")"),
        std::string(R"("solver_type": "bh2", "variance_type": "learned_range")"),
        std::string(R"("rescale_betas_zero_snr": true, "timestep_spacing": "trailing")")}) {
    const auto config = read(multistep, keys);
    CHECK(read_diffusers_config(config.resolved).plan(7) == config.plan(7));
  }
  for (const std::string& name : {singlestep, inverse, deis, edm, cosine}) {
    const auto config = read(name, "");
    CHECK(read_diffusers_config(config.resolved).plan(7) == config.plan(7));
  }
}

TEST_CASE("A level told twice is asked once") {
  // Karras' last level is sigma_min, where the last step ends.
  const auto config =
      read(multistep, R"("use_karras_sigmas": true, "final_sigmas_type": "sigma_min")");
  const SamplingPlan plan = config.plan(20);
  CHECK(plan.size() == 20);
  CHECK(plan[19].at.sigma == Approx(plan[19].to.sigma).epsilon(1e-12));
  CHECK(check_laws(plan).worst() < 1e-9);
  const auto learned = read(multistep, R"("variance_type": "learned")").plan(3);
  CHECK(learned.view().learns_variance());
}
