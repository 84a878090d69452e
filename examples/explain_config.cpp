// Says what a scheduler_config.json means: schedule, timesteps, sigmas, signal-to-noise ratios,
// network calls, the plan, and what may not be what was meant.
//
//     explain-config model/scheduler/scheduler_config.json --steps 20
#include <diffusion/interop/diffusers_report.hpp>
#include <diffusion/plan/laws.hpp>
#include <diffusion/plan/print.hpp>
#include <support/command_line.hpp>

#include <CLI/CLI.hpp>

#include <cmath>
#include <cstddef>
#include <cstdio>
#include <exception>
#include <iostream>
#include <string>
#include <vector>

namespace {

using diffusion::detail::number;

/// A list on one line; a long one without its middle.
std::string listed(const std::vector<double>& numbers) {
  constexpr std::size_t shown = 6;
  std::string line;
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    if (numbers.size() > 2 * shown && i == shown) {
      line += " ...";
      i = numbers.size() - shown;
    }
    line += (line.empty() ? "" : " ") + number(numbers[i]);
  }
  return line;
}

void print(const std::string& name, const std::string& value) {
  std::cout << name << std::string(name.size() < 18 ? 18 - name.size() : 1, ' ') << value << "\n";
}

std::string snr(const diffusion::Knot& knot) {
  if (knot.sigma == 0) return "clean data";
  if (knot.alpha == 0) return "0, pure noise";
  return number(std::exp(knot.log_snr())) + ", x = " + number(knot.alpha) + " x0 + " +
         number(knot.sigma) + " eps";
}

void print_schedule(const diffusion::DiffusersConfig& config) {
  if (!config.betas) {
    print("schedule", "the class's own sigmas, no table of betas");
    return;
  }
  const auto schedule = config.schedule();
  const std::string kind = config.resolved.value("beta_schedule", std::string("trained betas"));
  print("schedule", (config.betas->trained.empty() ? kind : std::string("trained betas")) + ", " +
                        std::to_string(config.train_timesteps) + " training timesteps");
  print("SNR of t = 0", snr(schedule.knot(0)));
  print("SNR of the last t", snr(schedule.knot(schedule.last_time())));
}

void print_plan(const diffusion::DiffusersConfig& config, const diffusion::DiffusersRun& run,
                bool whole) {
  const diffusion::SamplingPlan plan = config.plan(run);
  std::vector<double> times;
  for (const diffusion::Stage& stage : plan.stages()) times.push_back(stage.at.t);
  print("timesteps", listed(times));
  const std::vector<double> sigmas = config.sigmas(run);
  if (!sigmas.empty()) print("sigmas", listed(sigmas));
  print("first SNR", snr(plan[0].at));
  print("last SNR", snr(plan.stages().back().at));
  print("result", snr(plan.stages().back().to));
  print("steps", std::to_string(plan.steps()));
  print("network calls", std::to_string(plan.network_calls()));
  print("normals drawn", std::to_string(plan.draws()) + " an element");
  print("initial noise", "times " + number(plan.traits().initial_scale));
  std::cout << "\n";
  if (!whole && plan.size() > 12) {
    const diffusion::PlanView view = plan.view();
    std::cout << to_table(diffusion::PlanView{view.stages.first(8), view.traits}) << "... and "
              << plan.size() - 8 << " stages more (--whole)\n";
  } else {
    std::cout << plan;
  }
}

void print_list(const std::string& title, const std::vector<std::string>& lines) {
  if (lines.empty()) return;
  std::cout << "\n" << title << "\n";
  for (const std::string& line : lines) std::cout << "- " << line << "\n";
}

void explain(const std::string& file, const diffusion::DiffusersReading& reading, int steps,
             bool whole) {
  const auto config = diffusion::load_diffusers_config(file, reading);
  diffusion::DiffusersRun run;
  run.steps = steps;
  print("scheduler", config.class_name);
  print("behaviour", config.behaviour == diffusion::Behaviour::compatible
                         ? "compatible: what Python gives"
                         : "correct: the samplers' own");
  print("prediction", std::string(name(config.prediction_type)));
  print_schedule(config);
  print_plan(config, run, whole);
  std::vector<std::string> notes;
  for (const diffusion::DiffusersNote& note : config.notes) notes.push_back(note.text);
  print_list("Keys to know of:", notes);
  print_list("Warnings:", diffusion::warnings(config, run));
  print_list("Python and we differ here; Python's first:",
             diffusion::behaviour_differences(config, run));
}

}  // namespace

int main(int argc, char** argv) {
  std::string file, load_as, component = "scheduler";
  int steps = 20;
  bool correct = false, whole = false;
  CLI::App app{
      "Says what a scheduler configuration of diffusers means. FILE is a scheduler_config.json, "
      "its folder, or a pipeline's folder."};
  app.add_option("FILE", file, "the configuration")->required();
  examples::add_whole_number(app, "--steps", steps, 1, 1000, "num_inference_steps, 1 to 1000");
  app.add_option("--load-as", load_as, "the class that reads it, instead of its own");
  app.add_option("--component", component, "which scheduler of a pipeline")->capture_default_str();
  app.add_flag("--correct", correct, "the samplers' own behaviour instead of Python's");
  app.add_flag("--whole", whole, "print every stage");
  try {
    app.parse(argc, argv);
    explain(
        file,
        {.behaviour = correct ? diffusion::Behaviour::correct : diffusion::Behaviour::compatible,
         .load_as = load_as,
         .component = component},
        steps, whole);
  } catch (const CLI::CallForHelp& help) {
    return app.exit(help);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "explain-config: %s\n", error.what());
    return 2;
  }
}
