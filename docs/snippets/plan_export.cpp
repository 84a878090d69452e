// docs/plan.md: a plan goes out as JSON and as C++, and comes back.
#include <diffusion/interop/plan_json.hpp>
#include <diffusion/plan/export.hpp>
#include <diffusion/samplers/ddim.hpp>
#include <diffusion/schedule/continuous.hpp>

#include <cstdio>
#include <string>

int main() {
  const diffusion::DdimSampler sampler{diffusion::RectifiedFlow(), {.steps = 2}};
  const diffusion::SamplingPlan plan = sampler.plan();

  const std::string json = to_json(plan);
  const diffusion::SamplingPlan back = diffusion::plan_from_json(json);
  std::printf("the same plan: %s\n\n", back == plan ? "yes" : "no");

  std::printf("%s\n", to_constexpr(plan, "two_steps").c_str());

  try {
    diffusion::plan_from_json(R"({"format": "diffusion plan", "version": 1, "traits": {},
                                  "stages": [{"x0": 1, "at": {"sigma": -1}}]})");
  } catch (const diffusion::Error& error) {
    std::printf("%s\n", error.what());
  }
}
