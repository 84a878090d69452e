// Says what a scheduler_config.json means: schedule, timesteps, sigmas, signal-to-noise ratios,
// network calls, the plan, what may not be what was meant, and where Python and we differ.
//
//     explain-config model --steps 20
#include <diffusion/interop/diffusers_report.hpp>
#include <diffusion/plan/print.hpp>
#include <support/command_line.hpp>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <cmath>
#include <cstddef>
#include <cstdio>
#include <exception>
#include <iostream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using diffusion::DiffusersConfig;
using diffusion::DiffusersRun;

/// What the command line asks for.
struct Request {
  std::string file;
  diffusion::DiffusersReading reading;
  std::vector<std::string> changes;  // KEY=VALUE
  DiffusersRun run;
  bool whole = false, write = false;
};

/// Without what is only rounding, so that it reads the same wherever it is printed.
double tidy(double value) { return std::abs(value) < 1e-9 ? 0 : value; }

std::string number(double value) { return diffusion::detail::brief(tidy(value), 5); }

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

/// A level by its signal-to-noise ratio and as it makes a sample.
std::string level(const diffusion::Knot& knot) {
  if (tidy(knot.sigma) == 0) return "clean data";
  if (tidy(knot.alpha) <= 0) return "0: pure noise";  // TrigFlow starts a little past it
  return number(std::exp(knot.log_snr())) + ": " + number(knot.alpha) + " x0 + " +
         number(knot.sigma) + " eps";
}

void print_schedule(const DiffusersConfig& config) {
  if (!config.betas) {
    print("schedule", "the class's own levels, no table of betas");
    return;
  }
  const auto schedule = config.schedule();
  const std::string kind = config.betas->trained.empty()
                               ? config.resolved.value("beta_schedule", std::string())
                               : "trained betas";
  print("schedule", kind + ", " + std::to_string(config.train_timesteps) + " timesteps");
  for (const double t : {schedule.first_time(), schedule.last_time()})
    print("SNR at t = " + number(t), level(schedule.knot(t)));
}

void print_prediction(const diffusion::PredictionType& type) {
  std::string words(name(type));
  if (type.sigma_data != 1) words += ", data of deviation " + number(type.sigma_data);
  if (type.sigma_min != 0) words += ", exact at sigma " + number(type.sigma_min);
  print("prediction", words);
}

/// The stages with weights that are not rounding.
std::vector<diffusion::Stage> tidy_stages(const diffusion::SamplingPlan& plan) {
  std::vector<diffusion::Stage> stages(plan.stages().begin(), plan.stages().end());
  for (diffusion::Stage& s : stages) {
    for (diffusion::Knot* knot : {&s.at, &s.to})
      *knot = {tidy(knot->t), tidy(knot->alpha), tidy(knot->sigma)};
    for (double* weight : {&s.x, &s.x0, &s.eps, &s.raw, &s.saved}) *weight = tidy(*weight);
    for (diffusion::Term& term : s.history) term.weight = tidy(term.weight);
    for (diffusion::Term& term : s.noise) term.weight = tidy(term.weight);
  }
  return stages;
}

void print_stages(const diffusion::SamplingPlan& plan, bool whole) {
  constexpr std::size_t few = 8, longest = 12;
  const std::vector<diffusion::Stage> stages = tidy_stages(plan);
  const bool cut = !whole && stages.size() > longest;
  diffusion::PlanView view{stages, plan.traits()};
  if (cut) view.stages = view.stages.first(few);
  std::cout << "\n";
  std::istringstream table(to_table(view));
  for (std::string line; std::getline(table, line);)
    std::cout << line.substr(0, line.find_last_not_of(' ') + 1) << "\n";
  if (cut) std::cout << "and " << stages.size() - few << " stages more (--whole)\n";
}

void print_plan(const DiffusersConfig& config, const diffusion::SamplingPlan& plan,
                const Request& request) {
  print("timesteps", listed(config.timesteps(plan)));
  const std::vector<double> sigmas = config.sigmas(request.run);
  if (!sigmas.empty()) print("sigmas", listed(sigmas));
  print("first SNR", level(plan[0].at));
  print("last SNR", level(plan.stages().back().at));
  print("the result", level(plan.stages().back().to));
  print("steps", std::to_string(plan.steps()));
  print("network calls", std::to_string(plan.network_calls()));
  print("draws of noise", std::to_string(plan.draws()));
  print("initial noise", "times " + number(plan.traits().initial_scale));
  print_stages(plan, request.whole);
}

void print_list(const std::string& title, const std::vector<std::string>& lines) {
  if (lines.empty()) return;
  std::cout << "\n" << title << "\n";
  for (const std::string& line : lines) std::cout << "- " << line << "\n";
}

void explain(const DiffusersConfig& config, const Request& request) {
  const diffusion::SamplingPlan plan = config.plan(request.run);  // fails before all else
  print("scheduler", config.class_name);
  print("behaviour", config.behaviour == diffusion::Behaviour::compatible
                         ? "compatible: what Python gives"
                         : "correct: the samplers' own");
  print_prediction(config.prediction_type);
  print_schedule(config);
  print_plan(config, plan, request);

  std::vector<std::string> notes;
  for (const diffusion::DiffusersNote& note : config.notes) notes.push_back(note.text);
  print_list("Keys to know of:", notes);
  print_list("Warnings:", diffusion::warnings(config, request.run));
  const auto differences = diffusion::behaviour_differences(config, request.run);
  if (differences.empty()) std::cout << "\nPython's behaviour and ours are the same here.\n";
  print_list("Python's behaviour and ours differ here:", differences);
}

/// KEY=VALUE, the value as JSON or, where it is none, as a word.
DiffusersConfig changed(const DiffusersConfig& config, const std::string& change) {
  const std::size_t equals = change.find('=');
  if (equals == 0 || equals == std::string::npos)
    throw std::invalid_argument("--set is " + change + "; it must be KEY=VALUE");
  const std::string word = change.substr(equals + 1);
  nlohmann::json value = nlohmann::json::parse(word, nullptr, false);
  if (value.is_discarded()) value = word;
  return config.with(change.substr(0, equals), value);
}

void answer(const Request& request) {
  DiffusersConfig config = diffusion::load_diffusers_config(request.file, request.reading);
  for (const std::string& change : request.changes) config = changed(config, change);
  if (request.write)
    std::cout << to_scheduler_config(config);
  else
    explain(config, request);
}

void declare_reading(CLI::App& app, Request& request) {
  app.add_option("FILE", request.file,
                 "a scheduler_config.json, its folder, or a pipeline's folder")
      ->required();
  app.add_option("--load-as", request.reading.load_as, "the class that reads it, not its own");
  app.add_option("--component", request.reading.component, "which scheduler of a pipeline")
      ->capture_default_str();
  app.add_option("--set", request.changes, "KEY=VALUE: change or add a key; may be repeated")
      ->allow_extra_args(false);
  app.add_flag_callback(
      "--correct", [&] { request.reading.behaviour = diffusion::Behaviour::correct; },
      "the samplers' own behaviour, not Python's");
  app.add_flag("--write", request.write, "print the configuration with all its keys, no more");
  app.add_flag("--whole", request.whole, "print every stage of the plan");
}

void declare_run(CLI::App& app, DiffusersRun& run) {
  run.steps = 20;
  examples::add_whole_number(app, "--steps", run.steps, 1, 1'000'000, "num_inference_steps");
  app.add_option("--timesteps", run.timesteps, "own timesteps, T1,T2,...")->delimiter(',');
  app.add_option("--sigmas", run.sigmas, "own sigmas, S1,S2,...")->delimiter(',');
  app.add_option("--mu", run.mu, "dynamic shift of flow matching");
  app.add_option("--eta", run.eta, "DDIM, TCD: noise per step");
  app.add_flag("--use-clipped-model-output", run.use_clipped_model_output,
               "DDIM: derive epsilon anew of the clipped x0");
  examples::add_whole_number(app, "--order", run.order, 1, 5, "LMS: order of the method");
  app.add_option("--strength", run.strength, "LCM, TCD: share of the original steps")
      ->capture_default_str();
  app.add_option_function<std::string>(
         "--original-steps",
         [&run](const std::string& text) {
           run.original_steps = examples::whole_number("--original-steps", text, 1, 1'000'000);
         },
         "LCM, TCD: original_inference_steps")
      ->type_name("INT");
  app.add_option("--max-timestep", run.max_timestep, "sCM: where it starts");
  app.add_option("--intermediate-timestep", run.intermediate_timestep,
                 "sCM: where two steps are divided; 0: in halves");
  app.add_option("--s-churn", run.s_churn, "Euler, EDM: churn")->capture_default_str();
  app.add_option("--s-tmin", run.s_tmin, "churn from this sigma ...")->capture_default_str();
  app.add_option("--s-tmax", run.s_tmax, "... to this one");
  app.add_option("--s-noise", run.s_noise, "factor on the noise of churn")->capture_default_str();
}

}  // namespace

int main(int argc, char** argv) {
  Request request;
  CLI::App app{"Says what a scheduler configuration of diffusers means."};
  declare_reading(app, request);
  declare_run(app, request.run);
  try {
    app.parse(argc, argv);
    answer(request);
  } catch (const CLI::CallForHelp& help) {
    return app.exit(help);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "explain-config: %s\n", error.what());
    return 2;
  }
}
