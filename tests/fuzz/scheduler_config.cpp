// The reader of scheduler_config.json. A configuration that is read makes a schedule and a plan of
// finite weights, or says by diffusion::Error why it does not; what is written of it reads back to
// the same plan; and its report is sentences.
#include <diffusion/error.hpp>
#include <diffusion/interop/diffusers_report.hpp>

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
                    s.noise_scale.slope, s.langevin_snr});
    for (const diffusion::Term& term : s.history) require_finite({term.weight});
    for (const diffusion::Term& term : s.noise) require_finite({term.weight});
  }
}

void check_notes(const DiffusersConfig& config) {
  for (const diffusion::DiffusersNote& note : config.notes)
    fuzz::require(note.text.starts_with(note.key), "a note begins with its key");
}

/// Takes choices out of one number, the first the lowest digit.
class Choices {
 public:
  explicit Choices(std::size_t number) : number_(number) {}
  std::size_t one_of(std::size_t count) {
    const std::size_t choice = number_ % count;
    number_ /= count;
    return choice;
  }

 private:
  std::size_t number_;
};

/// A run as a caller may ask for it, sensible or not.
diffusion::DiffusersRun run_of(Choices& choices) {
  diffusion::DiffusersRun run;
  run.steps = 1 + static_cast<int>(choices.one_of(60));
  if (choices.one_of(2) == 1) run.eta = static_cast<double>(choices.one_of(3)) / 2;
  run.use_clipped_model_output = choices.one_of(2) == 1;
  const std::size_t kind = choices.one_of(8);
  if (kind == 0) run.mu = 0.25 * static_cast<double>(choices.one_of(20)) - 1;
  if (kind == 1) run.s_churn = 0.5 * static_cast<double>(1 + choices.one_of(40));
  if (kind == 2) run.timesteps = {40, 20.5, 3};
  if (kind == 3) run.timesteps = {30, 10};
  if (kind == 4) run.sigmas = {0.9, 0.5, 0.01};
  if (kind == 5) run.original_steps = 1 + static_cast<int>(choices.one_of(100));
  if (kind == 5) run.strength = 0.1 * static_cast<double>(1 + choices.one_of(10));
  if (kind == 6) run.order = 1 + static_cast<int>(choices.one_of(4));
  return run;
}

/// What is said of a run: sentences on one line, not too long.
void check_report(const DiffusersConfig& config, const diffusion::DiffusersRun& run) {
  for (const std::string& warning : diffusion::warnings(config, run))
    fuzz::require_message(warning);
  for (const std::string& difference : diffusion::behaviour_differences(config, run))
    fuzz::require_message(difference);
}

void check_run(const DiffusersConfig& config, std::size_t choice) {
  const int train_timesteps = config.train_timesteps;
  if (train_timesteps > 2000) return;  // it would only be slow
  if (config.betas)
    fuzz::require(config.schedule<double>().train_timesteps() == train_timesteps,
                  "the schedule has the timesteps");
  Choices choices(choice);
  const bool in_double = choices.one_of(2) == 1;
  const auto run = run_of(choices);
  const auto plan = in_double ? config.plan<double>(run) : config.plan<float>(run);
  check_plan(plan);

  const auto again = diffusion::parse_diffusers_config(to_scheduler_config(config),
                                                       {.behaviour = config.behaviour});
  fuzz::require((in_double ? again.plan<double>(run) : again.plan<float>(run)) == plan,
                "what is written reads back to the same plan");
  config.timesteps(plan);
  if (run.steps <= 20) check_report(config, run);
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
  const std::size_t way = fuzz::choice(text) / 1'000'003;
  const auto classes = diffusion::diffusers_class_names();
  const auto compatible = diffusion::Behaviour::compatible;
  check(text, {.behaviour = compatible, .load_as = {}}, way % 3 == 0);
  check(text, {.behaviour = diffusion::Behaviour::correct, .load_as = {}}, way % 3 == 1);
  check(text, {.behaviour = compatible, .load_as = classes[way / 3 % classes.size()]},
        way % 3 == 2);
  return 0;
}
