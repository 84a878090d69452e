// The reader of scheduler_config.json. A configuration that is read makes a schedule and a plan of
// finite weights, or says by diffusion::Error why it does not.
#include <diffusion/error.hpp>
#include <diffusion/interop/diffusers_config.hpp>

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>

#include "fuzz.hpp"

namespace {

using diffusion::DiffusersConfig;

void require_finite(std::initializer_list<double> values) {
  for (const double value : values)
    fuzz::require(diffusion::detail::is_finite(value), "a plan's numbers are finite");
}

void check_plan(const diffusion::SamplingPlan& plan) {
  fuzz::require(!plan.stages().empty(), "a plan has stages");
  for (const diffusion::Stage& s : plan.stages()) {
    require_finite({s.at.t, s.at.alpha, s.at.sigma, s.to.t, s.to.alpha, s.to.sigma});
    require_finite({s.input_scale, s.x, s.saved, s.x0, s.eps, s.raw, s.noise_scale.offset,
                    s.noise_scale.slope});
    for (const diffusion::Term& term : s.history) require_finite({term.weight});
    for (const diffusion::Term& term : s.noise) require_finite({term.weight});
  }
}

void check_notes(const DiffusersConfig& config) {
  for (const diffusion::DiffusersNote& note : config.notes)
    fuzz::require(note.text.starts_with(note.key), "a note begins with its key");
}

void check_run(const DiffusersConfig& config, std::size_t choice) {
  const int train_timesteps = config.train_timesteps;
  if (train_timesteps > 2000) return;  // it would only be slow
  if (config.betas)
    fuzz::require(config.schedule<double>().train_timesteps() == train_timesteps,
                  "the schedule has the timesteps");
  diffusion::DiffusersRun run;
  run.steps = 1 + static_cast<int>(choice % 60);
  run.eta = static_cast<double>(choice / 60 % 3) / 2;
  run.use_clipped_model_output = choice / 180 % 2 == 1;
  check_plan(choice / 360 % 2 == 1 ? config.plan<double>(run) : config.plan<float>(run));
}

/// Reads in one of the ways that there are, and makes a plan of it if `run`.
void check(std::string_view text, const diffusion::DiffusersReading& reading, bool run) {
  try {
    const DiffusersConfig config = diffusion::parse_diffusers_config(text, reading);
    check_notes(config);
    fuzz::require(config.train_timesteps >= 1, "there are training timesteps");
    if (run) check_run(config, fuzz::choice(text));
  } catch (const diffusion::Error& error) {
    fuzz::require_message(error.what());
  }
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text = fuzz::text_of(data, size);
  const std::size_t way = fuzz::choice(text) / 720;
  const auto classes = diffusion::diffusers_class_names();
  const auto compatible = diffusion::Behaviour::compatible;
  check(text, {.behaviour = compatible, .load_as = {}}, way % 3 == 0);
  check(text, {.behaviour = diffusion::Behaviour::correct, .load_as = {}}, way % 3 == 1);
  check(text, {.behaviour = compatible, .load_as = classes[way / 3 % classes.size()]},
        way % 3 == 2);
  return 0;
}
