// Prints a sampling plan as a table: what a sampler is, once its grid is known.
#include <diffusion/diffusion.hpp>
#include <support/command_line.hpp>
#include <support/names.hpp>

#include <CLI/CLI.hpp>

#include <cstdio>
#include <exception>
#include <iostream>
#include <string>

int main(int argc, char** argv) {
  std::string sampler = "ddim";
  std::string schedule_name = "linear";
  int steps = 10;
  double eta = 0;
  std::string spacing = "leading";

  CLI::App app{
      "Prints a sampling plan: one line a stage, the weights on the state x, the estimates "
      "x0 and eps, and the noise n."};
  app.add_option("--sampler", sampler, "ddim, ddim-inverse or ddpm")
      ->check(CLI::IsMember({"ddim", "ddim-inverse", "ddpm"}))
      ->capture_default_str();
  app.add_option("--schedule", schedule_name, "the betas, for 1000 training timesteps")
      ->check(CLI::IsMember(examples::keys(examples::beta_schedule_names())))
      ->capture_default_str();
  examples::add_whole_number(app, "--steps", steps, 1, 1000, "steps, 1 to 1000");
  app.add_option("--eta", eta, "DDIM's noise, 0 to 1")->capture_default_str();
  app.add_option("--spacing", spacing, "of the timesteps")
      ->check(CLI::IsMember(examples::keys(examples::spacing_names())))
      ->capture_default_str();
  try {
    app.parse(argc, argv);
    const auto schedule =
        diffusion::NoiseSchedule<>::make(examples::beta_schedule_names().at(schedule_name));
    const diffusion::GridOptions grid{.spacing = examples::spacing_names().at(spacing)};
    const auto show = [](const diffusion::SamplingPlan& plan) {
      const diffusion::Laws laws = diffusion::check_laws(plan);
      std::cout << plan << plan.steps() << " steps, " << plan.network_calls() << " network calls, "
                << plan.draws() << " draws; off the laws by at most: mean " << laws.mean
                << ", variance " << laws.variance << ", continuity " << laws.continuity << "\n";
    };
    if (sampler == "ddim")
      show(diffusion::DdimSampler{schedule, {.steps = steps, .eta = eta, .grid = grid}}.plan());
    else if (sampler == "ddpm")
      show(diffusion::DdpmSampler{schedule, {.steps = steps, .grid = grid}}.plan());
    else
      show(diffusion::DdimInverseSampler{schedule, {.steps = steps, .grid = grid}}.plan());
  } catch (const CLI::CallForHelp& help) {
    return app.exit(help);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "print-plan: %s\n", error.what());
    return 2;
  }
}
