// Samplers by the names of other programs, and what their plans say of them.
// `test-sampler-names "[print]"` prints the tables of docs/samplers.md.

#include "catch.hpp"
#include "generated_block.hpp"

#include <diffusion/plan/lowering.hpp>
#include <diffusion/samplers/sampler_by_name.hpp>
#include <diffusion/schedule/continuous.hpp>
#include <diffusion/schedule/noise_schedule.hpp>

#include <iostream>
#include <set>
#include <string>
#include <vector>

namespace {

using namespace diffusion;

const AnySchedule& stable_diffusion() {
  static const AnySchedule schedule(
      NoiseSchedule<>::scaled_linear({.beta_start = 0.00085, .beta_end = 0.012}));
  return schedule;
}

/// The plan of options on the same grid, made without any name.
template <class Options>
SamplingPlan plan_of(Options options, int steps, const GridOptions& grid) {
  const Grid knots = stable_diffusion().grid(steps, grid);
  return make_plan(knots, SamplerOptions(options), stable_diffusion());
}

std::vector<std::string> all_names(const SamplerName& one) {
  std::vector<std::string> names{one.name};
  names.insert(names.end(), one.a1111.begin(), one.a1111.end());
  names.insert(names.end(), one.comfyui.begin(), one.comfyui.end());
  if (!one.diffusers.empty()) names.push_back(one.diffusers);
  return names;
}

std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (const auto& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

std::string names_table() {
  std::string text = "| sampler | A1111 | ComfyUI | diffusers | Automatic | they do otherwise |\n";
  text += "|---|---|---|---|---|---|\n";
  for (const SamplerName& one : sampler_names()) {
    std::string python = one.diffusers;
    if (!one.keys.empty()) python += (python.empty() ? "" : ", ") + one.keys;
    text += "| " + one.name + " | " + joined(one.a1111) + " | " + joined(one.comfyui) + " | " +
            python + " | " + one.automatic + " | " + one.note + " |\n";
  }
  return text;
}

std::string grids_table() {
  std::string text = "| grid | also | diffusers | they do otherwise |\n|---|---|---|---|\n";
  for (const GridName& one : grid_names())
    text += "| " + one.name + " | " + joined(one.aliases) + " | " + one.diffusers + " | " +
            one.note + " |\n";
  return text;
}

std::string refused_table() {
  std::string text = "| name | why, or what instead |\n|---|---|\n";
  for (const auto* list : {&refused_sampler_names(), &refused_grid_names()})
    for (const RefusedName& one : *list) text += "| " + one.name + " | " + one.reason + " |\n";
  return text;
}

bool runs(const SamplingPlan& plan, const PredictionType& type) {
  try {
    for (const Stage& stage : plan.stages()) lower(stage, plan.traits(), type);
    return true;
  } catch (const Error&) {
    return false;
  }
}

/// What can start at alpha = 0, as zero-SNR schedules and flows do: "all", "all but epsilon, score"
/// or "-".
std::string from_pure_noise(const AnySampler& sampler) {
  try {
    const SamplingPlan plan = sampler.plan(10);
    std::string missing;
    for (const PredictionType& type : all_prediction_types)
      if (!runs(plan, type)) missing += (missing.empty() ? "" : ", ") + std::string(name(type));
    return missing.empty() ? "all" : "all but " + missing;
  } catch (const Error&) {
    return "-";
  }
}

std::string schedules_of(const AnySampler& exploding, const AnySampler& flow) {
  const auto plans = [](const AnySampler& sampler) {
    try {
      return sampler.plan(sampler.grid(10).cut(1)).size() > 0;
    } catch (const Error&) {
      return false;
    }
  };
  if (plans(exploding) && plans(flow)) return "any";
  return "variance preserving";
}

std::string properties_table() {
  const AnySchedule cosine{VpCosine()}, exploding{VarianceExploding()}, flow{RectifiedFlow()};
  std::string text =
      "| sampler | order | calls for 20 steps | estimates kept | state kept | draws | "
      "schedules | predictions at alpha = 0 |\n|---|--:|--:|--:|---|--:|---|---|\n";
  for (const SamplerName& one : sampler_names()) {
    const SamplingPlan plan = sampler_by_name(one.name, "Trailing", stable_diffusion()).plan(20);
    const auto on = [&](const AnySchedule& schedule) {
      return sampler_by_name(one.name, "Trailing", schedule);
    };
    text += "| " + one.name + " | " + std::to_string(one.order) + " | " +
            std::to_string(plan.network_calls()) + " | " + std::to_string(plan.traits().slots) +
            " | " + (plan.view().saves_state() ? "yes" : "") + " | " +
            std::to_string(plan.draws()) + " | " + schedules_of(on(exploding), on(flow)) + " | " +
            from_pure_noise(on(cosine)) + " |\n";
  }
  return text;
}

}  // namespace

TEST_CASE("The names that other programs use give the plans of the options") {
  const auto& schedule = stable_diffusion();
  const GridOptions karras{.sigmas = {.rule = SigmaRule::karras}};
  const SamplingPlan multistep =
      plan_of(DpmSolverOptions{.lower_order_final = LowerOrderFinal::never}, 20, karras);
  for (const char* name : {"DPM++ 2M Karras", "dpmpp_2m_karras", "dpm++ 2m KARRAS", "k_dpmpp_2m_ka",
                           "DPMSolverMultistepScheduler karras", "DPM++ 2M Automatic"}) {
    INFO(name);
    const AnySampler sampler = sampler_by_name(name, schedule);
    CHECK(sampler.plan(20) == multistep);
    CHECK(sampler.name() == "DPM++ 2M Karras");
    CHECK(sampler.steps() == 20);
    CHECK(sampler.plan() == multistep);
  }
  CHECK(sampler_by_name("dpmpp_2m", "karras", schedule).plan(20) == multistep);
  CHECK(sampler_by_name("DPM++ 2M", "Automatic", schedule).plan(20) == multistep);

  CHECK(sampler_by_name("Euler a", schedule).plan(7) ==
        plan_of(EulerAncestralOptions{}, 7, {.spacing = TimestepSpacing::linspace}));
  CHECK(sampler_by_name("euler_ancestral_sgm_uniform", schedule).plan(7) ==
        plan_of(EulerAncestralOptions{}, 7, {.sigmas = {.rule = SigmaRule::sgm_uniform}}));
  CHECK(sampler_by_name("uni_pc_bh2 simple", schedule).plan(9) ==
        plan_of(UniPcOptions{.order = 3}, 9, {.sigmas = {.rule = SigmaRule::simple}}));
  CHECK(sampler_by_name("DPM2 a Exponential", schedule).plan(9) ==
        plan_of(Dpm2Options{.eta = 1}, 9, {.sigmas = {.rule = SigmaRule::exponential}}));
  CHECK(sampler_by_name("DDIM DDIM uniform", schedule).plan(10) ==
        plan_of(DdimOptions{}, 10, {.steps_offset = 1}));
  CHECK(sampler_by_name("DPM++ 3M SDE AYS XL", schedule).name() == "DPM++ 3M SDE AYS XL");
}

TEST_CASE("Every name of a sampler with every name of a grid is understood as these two") {
  for (const SamplerName& one : sampler_names())
    for (const GridName& on : grid_names()) {
      const std::string expected = one.name + " " + on.name;
      std::vector<std::string> aliases = on.aliases;
      aliases.push_back(on.name);
      for (const std::string& sampler : all_names(one))
        for (const std::string& grid : aliases) {
          const std::string name = sampler + " " + grid;
          if (sampler_by_name(name, stable_diffusion()).name() == expected) continue;
          FAIL_CHECK(name << " is " << sampler_by_name(name, stable_diffusion()).name());
        }
    }
}

TEST_CASE("No name stands for two things, and none that is refused is known") {
  std::set<std::string> samplers, grids;
  for (const SamplerName& one : sampler_names()) {
    std::set<std::string> own;
    for (const auto& name : detail::plain_names(one)) own.insert(name);
    for (const auto& name : own) {
      INFO(name);
      CHECK(samplers.insert(name).second);
    }
  }
  for (const GridName& one : grid_names())
    for (const auto& name : detail::plain_names(one)) {
      INFO(name);
      CHECK(grids.insert(name).second);
    }
  for (const RefusedName& one : refused_sampler_names()) {
    INFO(one.name);
    CHECK(samplers.insert(detail::plain_name(one.name)).second);
    CHECK_THROWS_WITH(sampler_by_name(one.name, stable_diffusion()),
                      contains("not supported: " + one.reason));
    CHECK_THROWS_WITH(sampler_by_name(one.name + " karras", stable_diffusion()),
                      contains(one.reason));
  }
  for (const RefusedName& one : refused_grid_names()) {
    INFO(one.name);
    CHECK(grids.insert(detail::plain_name(one.name)).second);
    CHECK_THROWS_WITH(sampler_by_name("Euler", one.name, stable_diffusion()), contains(one.reason));
  }
  for (const SamplerName& one : sampler_names())
    CHECK_NOTHROW(sampler_by_name(one.name, "Automatic", stable_diffusion()));
}

TEST_CASE("A name that is not known is answered with the nearest that are") {
  const auto& schedule = stable_diffusion();
  CHECK_THROWS_WITH(sampler_by_name("DPM+ 2M", schedule),
                    contains("sampler \"DPM+ 2M\" is not known; the nearest are DPM++ 2M"));
  CHECK_THROWS_WITH(sampler_by_name("DPM++ 2N Karras", schedule),
                    contains("nearest are DPM++ 2M, DPM++ 2S, "));
  CHECK_THROWS_WITH(sampler_by_name("Euller", schedule), contains("nearest are Euler, Euler a"));
  CHECK_THROWS_WITH(sampler_by_name("Euler", "Karas", schedule),
                    contains("grid \"Karas\" is not known; the nearest are Karras"));
  CHECK_THROWS_WITH(sampler_by_name("", schedule), contains("has no letters"));
  CHECK_THROWS_WITH(sampler_by_name("++", schedule), contains("is not known"));
  CHECK_THROWS_WITH(sampler_by_name("Euler", "", schedule), contains("grid \"\" is not known"));
}

TEST_CASE("A sampler by name runs on every kind of schedule, with any number of steps") {
  const AnySchedule continuous{VpLinear()}, exploding{VarianceExploding()};
  for (const SamplerName& one : sampler_names())
    for (const int steps : {1, 2, 3, 4, 5, 20}) {
      CAPTURE(one.name, steps);
      const AnySampler on_discrete = sampler_by_name(one.name, "Karras", stable_diffusion());
      CHECK(on_discrete.plan(steps).steps() == steps);
      CHECK(on_discrete.plan(on_discrete.grid(steps)) == on_discrete.plan(steps));
      CHECK(sampler_by_name(one.name, "DDIM uniform", continuous).plan(steps).steps() == steps);
      if (one.name != "Score SDE VP")
        CHECK(sampler_by_name(one.name, "Exponential", exploding).plan(steps).steps() == steps);
    }
}

TEST_CASE("docs/samplers.md shows the names and properties as they are") {
  INFO("test-sampler-names \"[print]\" prints the tables");
  CHECK(generated::block("samplers.md", "properties") == properties_table());
  CHECK(generated::block("samplers.md", "names") == names_table());
  CHECK(generated::block("samplers.md", "grid names") == grids_table());
  CHECK(generated::block("samplers.md", "refused names") == refused_table());
}

TEST_CASE("The tables, printed", "[.print]") {
  const auto print = [](const char* name, const std::string& text) {
    std::cout << "<!-- " << name << ": made by tests/test_sampler_names.cpp -->\n"
              << text << "<!-- end of " << name << " -->\n\n";
  };
  print("properties", properties_table());
  print("names", names_table());
  print("grid names", grids_table());
  print("refused names", refused_table());
}
