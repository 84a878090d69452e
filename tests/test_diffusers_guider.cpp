// guider_config.json: the defaults of every class, what a configuration changes, what is refused.
// That each class then computes what diffusers does, golden-check tests.
#include "catch.hpp"

#include <diffusion/interop/diffusers_guider.hpp>

#include <nlohmann/json.hpp>

#include <functional>
#include <set>
#include <string>
#include <vector>

using namespace diffusion;
using nlohmann::json;

namespace {

DiffusersGuider read(const std::string& name, json keys = json::object()) {
  keys["_class_name"] = name;
  return read_diffusers_guider(keys);
}

// Which branches a guider asks for at a step of 10.
std::set<std::size_t> asked(const DiffusersGuider& guider, int step) {
  Query query;
  query.step = step;
  query.steps = 10;
  std::set<std::size_t> branches;
  for (std::size_t k = 0; k < guider.rule.branches(); ++k)
    if (guider.rule.asks(k, query, 1)) branches.insert(k);
  return branches;
}

// What a guider makes of one number without (u) and with condition (c), and a perturbed one (p).
double guided(DiffusersGuider guider, int step, double u, double c, double p = 0) {
  Query query;
  query.step = step;
  query.steps = 10;
  const double input = 0, numbers[] = {u, c, p};
  std::vector<const void*> branches(guider.rule.branches(), nullptr);
  for (const std::size_t k : asked(guider, step)) branches[k] = &numbers[k];
  const Eigen::Index extents[] = {1};
  double out = 0;
  guider.rule(BranchPredictions<double>(branches, &input, 1, 0, 1, extents, query), &out);
  return out;
}

using Branches = std::set<std::size_t>;

}  // namespace

TEST_CASE("Guiders without keys have the defaults of their classes") {
  CHECK(read("ClassifierFreeGuidance").rule.options().scale == 7.5);
  CHECK(read("AutoGuidance").rule.options().scale == 7.5);
  CHECK(read("MagnitudeAwareGuidance").rule.options().scale == 10);
  CHECK(read("AdaptiveProjectedMixGuidance").rule.options().scale == 3.5);
  for (const char* name : {"ClassifierFreeGuidance", "TangentialClassifierFreeGuidance",
                           "AdaptiveProjectedGuidance", "FrequencyDecoupledGuidance"})
    for (const int step : {0, 9}) CHECK(asked(read(name), step) == Branches{0, 1});
  CHECK(guided(read("ClassifierFreeGuidance"), 0, 1, 3) == 16);         // 1 + 7.5 * 2
  CHECK(guided(read("ClassifierFreeZeroStarGuidance"), 0, 1, 3) == 0);  // zero in the first step
  CHECK(guided(read("ClassifierFreeZeroStarGuidance"), 1, 1, 3) == Approx(3));  // u becomes 3
  // Skipped layers count after step int(0.01 10) to before int(0.2 10); smoothed ones always but
  // at the first.
  CHECK(asked(read("SkipLayerGuidance"), 0) == Branches{0, 1});
  CHECK(asked(read("SkipLayerGuidance"), 1) == Branches{0, 1, 2});
  CHECK(asked(read("PerturbedAttentionGuidance"), 2) == Branches{0, 1});
  CHECK(asked(read("SmoothedEnergyGuidance"), 9) == Branches{0, 1, 2});
  CHECK(guided(read("SkipLayerGuidance"), 1, 1, 3, 2) == Approx(1 + 7.5 * 2 + 2.8 * 1));
}

TEST_CASE("A configuration's keys do what they do in Python") {
  const auto cfg = [](json keys) { return read("ClassifierFreeGuidance", std::move(keys)); };
  CHECK(guided(cfg({{"guidance_scale", 3}, {"use_original_formulation", true}}), 0, 1, 3) == 9);
  CHECK(asked(cfg({{"start", 0.25}, {"stop", 0.75}}), 1) == Branches{1});
  CHECK(asked(cfg({{"start", 0.25}, {"stop", 0.75}}), 2) == Branches{0, 1});
  CHECK(asked(cfg({{"start", 0.25}, {"stop", 0.75}}), 7) == Branches{1});
  CHECK(asked(cfg({{"enabled", false}}), 5) == Branches{1});
  CHECK(asked(cfg({{"guidance_scale", 1 + 1e-10}}), 5) == Branches{1});  // as math.isclose has it
  CHECK(asked(cfg({{"guidance_scale", 0}}), 5) == Branches{0, 1});
  const json off = {{"enabled", false}};
  CHECK(guided(read("ClassifierFreeZeroStarGuidance", off), 0, 1, 3) == 3);
  CHECK(asked(read("SmoothedEnergyGuidance", off), 5) == Branches{1});
  CHECK(asked(read("FrequencyDecoupledGuidance", off), 5) == Branches{1});
  CHECK(read("ClassifierFreeGuidance").resolved.at("guidance_scale") == 7.5);
  const auto noted = cfg({{"guidance_scal", 3}});
  REQUIRE(noted.notes.size() == 1);
  CHECK(noted.notes[0].key == "guidance_scal");
  CHECK(parse_diffusers_guider(R"({"_class_name": "AutoGuidance", "guidance_scale": 2})",
                               GuidanceCalls::separate)
            .rule.options()
            .calls == GuidanceCalls::separate);
}

TEST_CASE("Bands of frequencies may each have their interval") {
  const auto guider =
      read("FrequencyDecoupledGuidance",
           {{"guidance_scales", {4, 2}}, {"start", {0.0, 0.5}}, {"stop", {0.3, 0.8}}});
  for (const auto& [step, branches] :
       {std::pair{0, Branches{0, 1}}, {4, {0, 1}}, {6, {0, 1}}, {8, {1}}})
    CHECK(asked(guider, step) == branches);
}

TEST_CASE("Guiders that cannot be are refused with key, value and limit") {
  struct Row {
    std::string name;
    json keys;
    std::vector<std::string> says;
  };
  const std::string cfg = "ClassifierFreeGuidance", apg = "AdaptiveProjectedGuidance",
                    fdg = "FrequencyDecoupledGuidance";
  const std::vector<Row> table{
      {"CFG", {}, {"_class_name is \"CFG\"", "\"ClassifierFreeGuidance\"", "\"AutoGuidance\""}},
      {cfg, {{"guidance_scale", "big"}}, {"guidance_scale is \"big\"", "finite number"}},
      {cfg, {{"guidance_rescale", 1.5}}, {"guidance_rescale is 1.5", "[0, 1]"}},
      {cfg, {{"start", 1}}, {"start is 1", "below 1"}},
      {cfg, {{"start", 0.5}, {"stop", 0.4}}, {"stop is 0.4", "at least start, 0.5"}},
      {cfg, {{"enabled", 1}}, {"enabled is 1", "true or false"}},
      {apg, {{"adaptive_projected_guidance_momentum", 2}}, {"momentum is 2", "[-1, 1]"}},
      {apg, {{"adaptive_projected_guidance_norm_dim", 0}}, {"norm_dim has 0", "not 0"}},
      {"MagnitudeAwareGuidance", {{"alpha", -1}}, {"alpha is -1", "at least 0"}},
      {"SkipLayerGuidance",
       {{"skip_layer_guidance_start", 0.5}},
       {"skip_layer_guidance_stop is 0.2", "0.5"}},
      {fdg, {{"guidance_scales", json::array()}}, {"guidance_scales has 0", "at least 1"}},
      {fdg, {{"parallel_weights", {1, 2, 3}}}, {"parallel_weights has 3", "has 2"}},
      {fdg, {{"guidance_rescale_space", "time"}}, {"\"time\"", "\"data\", \"freq\""}},
  };
  for (const Row& row : table) {
    CAPTURE(row.name, row.keys.dump());
    try {
      read(row.name, row.keys.is_null() ? json::object() : row.keys);
      FAIL_CHECK("nothing was thrown");
    } catch (const Error& error) {
      for (const std::string& part : row.says) CHECK_THAT(error.what(), contains(part));
    }
  }
  CHECK_THROWS_WITH(read_diffusers_guider(json::array()), contains("JSON array"));
  CHECK_THROWS_WITH(read_diffusers_guider(json::object()), contains("_class_name is missing"));
  CHECK_THROWS_WITH(load_diffusers_guider("no/such/file"), contains("no/such/file"));
}
