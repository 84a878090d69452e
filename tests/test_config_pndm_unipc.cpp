// PNDMScheduler, IPNDMScheduler, UniPCMultistepScheduler and SASolverScheduler as configurations:
// what golden data does not cover. Errors, notes, and where compatible and correct differ.

#include <diffusion/interop/diffusers_config.hpp>
#include <diffusion/plan/laws.hpp>

#include <algorithm>
#include <string>
#include <vector>

#include "catch.hpp"

using namespace diffusion;
using Catch::Approx;
using Catch::Matchers::Contains;

namespace {

DiffusersConfig read(const std::string& name, nlohmann::json keys = nlohmann::json::object(),
                     Behaviour behaviour = Behaviour::compatible) {
  keys["_class_name"] = name;
  return read_diffusers_config(keys, {.behaviour = behaviour});
}

const char* const pndm = "PNDMScheduler";
const char* const ipndm = "IPNDMScheduler";
const char* const unipc = "UniPCMultistepScheduler";
const char* const sa = "SASolverScheduler";

/// The keys of the notes of a kind.
std::vector<std::string> noted(const DiffusersConfig& config, DiffusersNote::Kind kind) {
  std::vector<std::string> keys;
  for (const DiffusersNote& note : config.notes)
    if (note.kind == kind) keys.push_back(note.key);
  return keys;
}
using Keys = std::vector<std::string>;
constexpr auto questionable = DiffusersNote::Kind::questionable;
constexpr auto overruled = DiffusersNote::Kind::overruled;
constexpr auto ignored = DiffusersNote::Kind::ignored;

}  // namespace

TEST_CASE("PNDM: the reference's previous timesteps break continuity, the list's do not") {
  for (const char* spacing : {"linspace", "trailing", "leading"})
    for (const bool skip : {true, false})
      for (const int steps : {4, 7, 10}) {
        INFO(spacing << ", " << steps << " steps, skip_prk_steps " << skip);
        const nlohmann::json keys = {{"timestep_spacing", spacing}, {"skip_prk_steps", skip}};
        const auto as_python = read(pndm, keys).plan(steps);
        const auto right = read(pndm, keys, Behaviour::correct).plan(steps);
        CHECK(check_laws(right).worst() <= 1e-10);
        const double gap = check_laws(as_python).continuity;
        if (std::string(spacing) == "leading" && (skip || 1000 / steps % 2 == 0))
          CHECK(gap <= 1e-12);
        else if (std::string(spacing) == "linspace")
          CHECK(gap > 1e-3);
      }
}

TEST_CASE("PNDM image to image: the reference ends a step early, on noise that is still there") {
  const nlohmann::json keys = {{"skip_prk_steps", true}, {"steps_offset", 1}};
  const DiffusersRun run{.steps = 10};
  const auto python = read(pndm, keys);
  const auto right = read(pndm, keys, Behaviour::correct);
  for (const int cut : {2, 4}) {
    const auto plan = python.plan(python.grid(run).cut(cut + 1), run);
    const Laws laws = check_laws(plan);
    INFO("cut " << cut << ": continuity " << laws.continuity << ", mean " << laws.mean);
    CHECK(laws.continuity > 0.05);
    CHECK(check_laws(right.plan(right.grid(run).cut(cut), run)).worst() <= 1e-10);
  }
  CHECK(check_laws(python.plan(run)).worst() <= 1e-10);
  CHECK_THROWS_WITH(read(pndm).plan(read(pndm).grid(run).cut(4), run),
                    Contains("cannot do it") && Contains("skip_prk_steps"));
}

TEST_CASE("PNDM with v: a history of v, which depends on the level, or of epsilon") {
  const nlohmann::json keys = {{"skip_prk_steps", true}, {"prediction_type", "v_prediction"}};
  CHECK(read(pndm, keys).plan(8).traits().basis == Basis::raw);
  CHECK(read(pndm, keys, Behaviour::correct).plan(8).traits().basis == Basis::eps);
  CHECK(check_laws(read(pndm, keys, Behaviour::correct).plan(8)).worst() <= 1e-10);
}

TEST_CASE("iPNDM: the reference drops the first estimate of x0") {
  const Laws python = check_laws(read(ipndm).plan(10));
  CHECK(python.mean > 0.1);
  CHECK(check_laws(read(ipndm, {}, Behaviour::correct).plan(10)).worst() <= 1e-10);
}

TEST_CASE("Where the reference makes NaN or infinities, the plan is finite and keeps the laws") {
  for (const nlohmann::json& keys :
       {nlohmann::json{{"solver_type", "bh1"}}, nlohmann::json{{"predict_x0", false}},
        nlohmann::json{{"lower_order_final", false}, {"solver_order", 3}}}) {
    const auto config = read(unipc, keys);
    CHECK(noted(config, questionable) ==
          Keys{keys.contains("solver_order") ? "lower_order_final" : keys.begin().key()});
    for (const int steps : {1, 2, 3, 4, 5, 20})
      CHECK(check_laws(config.plan(steps)).worst() <= 1e-8);
  }
}

TEST_CASE("SA-Solver: compatible asks, draws and halves as the reference; correct does not") {
  const nlohmann::json keys = {{"use_karras_sigmas", true}};
  const auto python = read(sa, keys).plan(10);
  const auto right = read(sa, keys, Behaviour::correct).plan(10);
  CHECK(python.network_calls() == 10);  // the last step goes nowhere and only corrects
  CHECK(right.network_calls() == 9);
  CHECK(python.draws() == 10);
  CHECK(right.draws() < 10);
  CHECK(check_laws(python).worst() <= 1e-9);
  CHECK(check_laws(right).worst() <= 1e-9);
}

TEST_CASE("Notes") {
  CHECK(noted(read(pndm, {{"prediction_type", "sample"}}), questionable) ==
        Keys{"prediction_type"});
  CHECK(noted(read(pndm, {{"rescale_betas_zero_snr", true}}), ignored) ==
        Keys{"rescale_betas_zero_snr"});
  CHECK(noted(read(ipndm, {{"beta_start", 0.1}}), ignored) == Keys{"beta_start"});
  CHECK(noted(read(ipndm, {{"trained_betas", {1.0, 0.5, 0.0}}}), questionable) ==
        Keys{"trained_betas"});
  CHECK(noted(read(unipc, {{"solver_type", "heun"}}), overruled) == Keys{"solver_type"});
  CHECK(noted(read(unipc, {{"thresholding", true},
                           {"predict_x0", false},
                           {"final_sigmas_type", "sigma_min"}}),
              overruled) == Keys{"thresholding"});
  CHECK(noted(read(unipc), questionable).empty());
  CHECK(noted(read(sa), questionable).empty());
}

TEST_CASE("What was read is written back to the same plans") {
  for (const char* name : {pndm, ipndm, unipc, sa}) {
    const auto config = read(name);
    const auto again = read_diffusers_config(config.resolved);
    CHECK(again.resolved == config.resolved);
    CHECK(again.plan(9) == config.plan(9));
  }
  const auto off = read(unipc, {{"disable_corrector", {0, 2}},
                                {"use_flow_sigmas", true},
                                {"prediction_type", "flow_prediction"},
                                {"shift_terminal", 0.1}});
  CHECK(read_diffusers_config(off.resolved).plan(9) == off.plan(9));
}

TEST_CASE("Errors name class, key, value and limit") {
  CHECK_THROWS_WITH(read(unipc, {{"solver_order", 5}}),
                    "UniPCMultistepScheduler: solver_order is 5; it must be a whole number in "
                    "[1, 4]");
  CHECK_THROWS_WITH(read(unipc, {{"solver_p", {{"_class_name", "DDIMScheduler"}}}}),
                    Contains("solver_p is given"));
  CHECK_THROWS_WITH(read(unipc, {{"shift_terminal", 0.1}}), Contains("use_flow_sigmas"));
  CHECK_THROWS_WITH(read(unipc, {{"disable_corrector", {0, "one"}}}),
                    Contains("disable_corrector[1] is \"one\""));
  CHECK_THROWS_WITH(read(unipc, {{"use_karras_sigmas", true}, {"use_beta_sigmas", true}}),
                    Contains("at most one"));
  CHECK_THROWS_WITH(read(unipc, {{"use_dynamic_shifting", true}}).plan(4),
                    Contains("mu is missing"));
  CHECK_THROWS_WITH(read(unipc, {{"prediction_type", "flow_prediction"},
                                 {"use_flow_sigmas", true},
                                 {"predict_x0", false}}),
                    Contains("flow_prediction"));
  CHECK_THROWS_WITH(read(sa, {{"predictor_order", 0}}), Contains("predictor_order is 0"));
  CHECK_THROWS_WITH(read(sa, {{"corrector_order", 5}}), Contains("corrector_order is 5"));
  CHECK_THROWS_WITH(read(sa, {{"tau_func", "lambda t: 1"}}), Contains("tau_func is given"));
  const nlohmann::json fails = {{"thresholding", true}, {"algorithm_type", "noise_prediction"}};
  CHECK_THROWS_WITH(read(sa, fails), Contains("thresholding is true"));
  CHECK_NOTHROW(read(sa, fails, Behaviour::correct));
  CHECK_THROWS_WITH(read(pndm).plan(3), Contains("steps is 3") && Contains("at least 4"));
  CHECK_NOTHROW(read(pndm, {}, Behaviour::correct).plan(3));
  CHECK_THROWS_WITH(read(pndm).plan(DiffusersRun{.timesteps = {900, 500, 0}}),
                    Contains("takes none"));
  CHECK_THROWS_WITH(read(ipndm, {{"trained_betas", {0.5}}}), Contains("1 entry"));
  CHECK_THROWS_WITH(read(ipndm, {{"trained_betas", {0.5, 1.5}}}), Contains("trained_betas[1]"));
  CHECK_THROWS_WITH(read(ipndm).plan(0), Contains("steps is 0"));
}
