// docs/configs.md: a pipeline's scheduler, what is to be said of it, and how it is written back.
#include <diffusion/interop/diffusers_report.hpp>

#include <iostream>
#include <string>
#include <vector>

void print(const std::vector<std::string>& sentences) {
  for (const std::string& sentence : sentences) std::cout << "- " << sentence << "\n";
}

int main() {
  // A pipeline: its model_index.json names the class, scheduler/ holds the file.
  const auto config = diffusion::load_diffusers_config("examples/models/digits-and-clothing");
  const diffusion::SamplingPlan plan = config.plan(20);
  std::cout << config.class_name << ", " << plan.network_calls()
            << " calls from t = " << plan[0].at.t << "\n\n";

  // A file that was another scheduler's once.
  const auto second_hand = diffusion::parse_diffusers_config(R"({
      "_class_name": "DDIMScheduler", "num_train_timesteps": 100,
      "beta_schedule": "squaredcos_cap_v2", "timestep_spacing": "linspace",
      "steps_offset": 1, "solver_order": 2})");
  for (const diffusion::DiffusersNote& note : second_hand.notes)
    std::cout << "- " << note.text << "\n";
  std::cout << "\n";

  const diffusion::DiffusersRun run{.steps = 8};
  print(diffusion::warnings(second_hand, run));
  std::cout << "\n";
  print(diffusion::behaviour_differences(second_hand, run));
  std::cout << "\n";

  const auto ours = diffusion::read_diffusers_config(second_hand.given,
                                                     {.behaviour = diffusion::Behaviour::correct});
  std::cout << "with our behaviour: " << diffusion::warnings(ours, run).size() << " warnings\n\n";

  const auto changed = config.with("clip_sample", true).with("timestep_spacing", "leading");
  std::cout << to_scheduler_config(changed) << "\n";

  try {
    diffusion::parse_diffusers_config(R"({"_class_name": "EulerScheduler"})");
  } catch (const diffusion::Error& error) {
    std::cout << error.what() << "\n";
  }
}
