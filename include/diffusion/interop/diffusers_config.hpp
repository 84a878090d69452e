#ifndef DIFFUSION_INTEROP_DIFFUSERS_CONFIG_HPP
#define DIFFUSION_INTEROP_DIFFUSERS_CONFIG_HPP

#include <diffusion/denoiser/prediction_type.hpp>
#include <diffusion/error.hpp>
#include <diffusion/interop/config_keys.hpp>
#include <diffusion/samplers/ddim.hpp>
#include <diffusion/samplers/ddpm.hpp>
#include <diffusion/schedule/noise_schedule.hpp>

#include <nlohmann/json.hpp>

#include <array>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <variant>
#include <vector>

/// Reads the `scheduler_config.json` of a diffusers model folder as that library reads it: each
/// scheduler class with its own defaults for keys that are missing. Needs nlohmann/json; nothing
/// else in the library does.
///
///     const auto config = load_diffusers_config("model/scheduler/scheduler_config.json");
///     const SamplingPlan plan = config.plan({.steps = 50, .eta = 0});
///     sample<Image>(plan, network, shape, noise, {.prediction_type = config.prediction_type});
namespace diffusion {

/// Whose rules a configuration follows where the reference and we differ.
enum class Behaviour {
  /// What Python gives, number for number: DDIM steps to t - T / n whatever the list of timesteps,
  /// weighs a clipped x0 beside the raw epsilon (unless use_clipped_model_output), and DDPM adds
  /// noise at a last step with t > 0. Two things that cannot be meant are not repeated: the
  /// timestep -1 that its trailing spacing appends for some numbers of steps (61 of 1000), and the
  /// NaN of variance_type fixed_large_log.
  compatible,
  /// The samplers' own defaults.
  correct,
};

/// The table of betas that a configuration describes. Plain data: threads may share what none of
/// them writes.
struct DiffusersBetas {
  BetaSchedule kind = BetaSchedule::linear;
  NoiseScheduleOptions options{};
  std::vector<double> trained;  ///< if not empty: these, the first train_timesteps of them

  template <class Scalar = double>
  NoiseSchedule<Scalar> schedule() const {
    if (trained.empty()) return NoiseSchedule<Scalar>::make(kind, options);
    auto table = NoiseSchedule<Scalar>::from_betas(trained);
    if (options.snr_shift_scale != 1) table = table.snr_shifted(options.snr_shift_scale);
    if (options.rescale_zero_terminal_snr) table = table.rescaled_to_zero_terminal_snr();
    if (options.terminal_alpha_cumprod != 0)
      table = table.with_terminal_alpha_cumprod(options.terminal_alpha_cumprod);
    const auto used = static_cast<std::size_t>(options.train_timesteps);
    if (used == trained.size()) return table;
    return NoiseSchedule<Scalar>::from_betas(
        {table.betas().begin(), table.betas().begin() + static_cast<std::ptrdiff_t>(used)});
  }
};

/// The sampler that a scheduler class is, with its options. One alternative per family.
using DiffusersMethod = std::variant<DdpmOptions, DdimOptions, DdimInverseOptions>;

/// What the caller of a scheduler chooses: the arguments of `set_timesteps` and `step`. Plain data:
/// threads may share what none of them writes.
struct DiffusersRun {
  int steps = 50;  ///< 1 to the number of training timesteps
  double eta = 0;  ///< DDIM: noise per step, in [0, 1]; other methods do not read it
  bool use_clipped_model_output = false;  ///< DDIM: epsilon re-derived from the clipped x0
  /// Own timesteps, falling, each step ending at the next; `steps` is then not read.
  std::vector<double> timesteps = {};
};

/// How a configuration is read. Plain data: threads may share what none of them writes.
struct DiffusersReading {
  Behaviour behaviour = Behaviour::compatible;
  /// The class that reads it, as in `DDPMScheduler.from_config(...)`; empty: its `_class_name`.
  std::string load_as = {};
};

/// A scheduler configuration that was read: which noise schedule, prediction type and sampler.
/// Change what a program's options overrule. Plain data: threads may share what none of them
/// writes.
struct DiffusersConfig {
  std::string class_name;  ///< the class that read it
  DiffusersBetas betas;
  PredictionType prediction_type = PredictionType::epsilon;
  DiffusersMethod method;
  std::vector<DiffusersNote> notes;

  template <class Scalar = double>
  NoiseSchedule<Scalar> schedule() const {
    return betas.schedule<Scalar>();
  }

  /// The grid's options of whichever method it is.
  GridOptions& grid_options() {
    return std::visit([](auto& options) -> GridOptions& { return options.grid; }, method);
  }
  const GridOptions& grid_options() const {
    return std::visit([](const auto& options) -> const GridOptions& { return options.grid; },
                      method);
  }

  /// The grid of a run, from noise to data (an inversion walks it backwards). `Scalar` is that of
  /// the schedule's tables: float for the reference's own single precision.
  template <class Scalar = double>
  Grid grid(const DiffusersRun& run) const {
    GridOptions options = grid_options();
    if (!run.timesteps.empty()) {
      options.timesteps = run.timesteps;
      options.previous = PreviousTimestep::from_list;
    }
    return make_grid(schedule<Scalar>(), run.steps, options);
  }

  template <class Scalar = double>
  SamplingPlan plan(const DiffusersRun& run) const {
    return plan(grid<Scalar>(run), run);
  }

  /// The plan on a grid of one's own, such as a part of `grid(run)` for image to image.
  SamplingPlan plan(const Grid& grid, const DiffusersRun& run) const {
    return std::visit([&](const auto& options) { return plan_of(grid, run, options); }, method);
  }

 private:
  static SamplingPlan plan_of(const Grid& grid, const DiffusersRun&, const DdpmOptions& options) {
    return ddpm_plan(grid, options);
  }
  static SamplingPlan plan_of(const Grid& grid, const DiffusersRun& run, DdimOptions options) {
    options.eta = run.eta;
    if (run.use_clipped_model_output) options.epsilon = EpsilonRule::rederived;
    return ddim_plan(grid, options);
  }
  static SamplingPlan plan_of(const Grid& grid, const DiffusersRun&,
                              const DdimInverseOptions& options) {
    return ddim_inverse_plan(grid, options);
  }
};

namespace detail {

inline constexpr std::array<Named<BetaSchedule>, 6> beta_schedule_names = {{
    {"linear", BetaSchedule::linear},
    {"scaled_linear", BetaSchedule::scaled_linear},
    {"squaredcos_cap_v2", BetaSchedule::squaredcos_cap_v2},
    {"laplace", BetaSchedule::laplace},
    {"sigmoid", BetaSchedule::sigmoid},
    {"exp", BetaSchedule::exp},
}};

inline constexpr std::array<Named<TimestepSpacing>, 3> spacing_names = {{
    {"leading", TimestepSpacing::leading},
    {"trailing", TimestepSpacing::trailing},
    {"linspace", TimestepSpacing::linspace},
}};

inline constexpr std::array<Named<PredictionType>, 3> prediction_type_names = {{
    {"epsilon", PredictionType::epsilon},
    {"sample", PredictionType::sample},
    {"v_prediction", PredictionType::v},
}};

inline constexpr std::array<Named<VarianceType>, 6> variance_type_names = {{
    {"fixed_small", VarianceType::fixed_small},
    {"fixed_small_log", VarianceType::fixed_small_log},
    {"fixed_large", VarianceType::fixed_large},
    {"fixed_large_log", VarianceType::fixed_large_log},
    {"learned", VarianceType::learned},
    {"learned_range", VarianceType::learned_range},
}};

using BetaNames = std::span<const Named<BetaSchedule>>;
using SpacingNames = std::span<const Named<TimestepSpacing>>;

/// The keys that make the table of betas; all classes that have one share names and defaults but
/// not the schedules that they know.
inline DiffusersBetas read_betas(ConfigKeys& keys, BetaNames known) {
  constexpr int longest = 1'000'000;
  DiffusersBetas betas;
  NoiseScheduleOptions& options = betas.options;
  options.train_timesteps = keys.integer("num_train_timesteps", 1000, 1, longest);
  options.beta_start = keys.number("beta_start", 0.0001, inside_unit);
  options.beta_end = keys.number("beta_end", 0.02, inside_unit);
  betas.kind = keys.choice("beta_schedule", "linear", known);
  options.rescale_zero_terminal_snr = keys.flag("rescale_betas_zero_snr", false);
  betas.trained = keys.betas("trained_betas", longest);
  if (betas.trained.empty()) return betas;

  const auto used = static_cast<std::size_t>(options.train_timesteps);
  if (betas.trained.size() < used)
    fail(text(keys.class_name(), ": trained_betas has ", betas.trained.size(),
              " entries; num_train_timesteps is ", used, ", so it must have at least as many"));
  if (betas.trained.size() > used)
    keys.note(
        DiffusersNote::Kind::questionable, "num_train_timesteps",
        text("of the ", betas.trained.size(), " trained_betas only the first ", used, " are used"));
  for (const char* key : {"beta_schedule", "beta_start", "beta_end"})
    if (keys.has(key))
      keys.note(DiffusersNote::Kind::overruled, key, "trained_betas are used instead");
  return betas;
}

inline PredictionType read_prediction_type(ConfigKeys& keys, const DiffusersBetas& betas) {
  const auto type =
      keys.choice<PredictionType>("prediction_type", "epsilon", prediction_type_names);
  if (type == PredictionType::epsilon && betas.options.rescale_zero_terminal_snr)
    keys.note(DiffusersNote::Kind::questionable, "rescale_betas_zero_snr",
              "the last timestep is pure noise, where a prediction of epsilon does not tell x0: "
              "such a network can only start before it");
  return type;
}

inline GridOptions read_grid(ConfigKeys& keys, SpacingNames known, int train_timesteps) {
  GridOptions grid;
  grid.spacing = keys.choice("timestep_spacing", "leading", known);
  grid.steps_offset = keys.integer("steps_offset", 0, 0, train_timesteps - 1);
  if (grid.steps_offset > 0 && grid.spacing != TimestepSpacing::leading)
    keys.note(DiffusersNote::Kind::overruled, "steps_offset",
              "it moves leading timesteps only, not those of this timestep_spacing");
  return grid;
}

inline Clipping read_range_clipping(ConfigKeys& keys) {
  const bool clips = keys.flag("clip_sample", true);
  const double limit = keys.number("clip_sample_range", 1, positive);
  return clips ? Clipping::range(limit) : Clipping::none();
}

/// Dynamic thresholding comes before clipping.
inline Clipping read_clipping(ConfigKeys& keys) {
  const Clipping range = read_range_clipping(keys);
  const bool dynamic = keys.flag("thresholding", false);
  const double ratio = keys.number("dynamic_thresholding_ratio", 0.995, unit);
  const double maximum = keys.number("sample_max_value", 1, at_least_one);
  if (!dynamic) return range;
  if (range.kind != Clipping::Kind::none && keys.has("clip_sample"))
    keys.note(DiffusersNote::Kind::overruled, "clip_sample", "thresholding is used instead");
  return Clipping::dynamic(ratio, maximum);
}

inline DiffusersMethod read_ddpm(ConfigKeys& keys, int train_timesteps, Behaviour behaviour) {
  DdpmOptions options;
  options.grid = read_grid(keys, spacing_names, train_timesteps);
  options.clipping = read_clipping(keys);
  options.variance = keys.choice<VarianceType>("variance_type", "fixed_small", variance_type_names);
  options.noise_at_end = behaviour == Behaviour::compatible;
  if (options.variance == VarianceType::fixed_large_log)
    keys.note(DiffusersNote::Kind::questionable, "variance_type",
              "read as fixed_large; diffusers itself makes NaN of it");
  return options;
}

inline DiffusersMethod read_ddim(ConfigKeys& keys, int train_timesteps, Behaviour behaviour) {
  const bool compatible = behaviour == Behaviour::compatible;
  DdimOptions options;
  options.grid = read_grid(keys, spacing_names, train_timesteps);
  options.grid.set_alpha_to_one = keys.flag("set_alpha_to_one", true);
  options.clipping = read_clipping(keys);
  if (compatible) {
    options.grid.previous = PreviousTimestep::stride;
    options.epsilon = EpsilonRule::raw;
  }
  return options;
}

inline DiffusersMethod read_ddim_inverse(ConfigKeys& keys, int train_timesteps,
                                         Behaviour behaviour) {
  DdimInverseOptions options;
  options.grid = read_grid(keys, SpacingNames(spacing_names).first(2), train_timesteps);
  options.grid.set_alpha_to_one = keys.flag("set_alpha_to_one", true);
  const bool old_name = keys.flag("set_alpha_to_zero", options.grid.set_alpha_to_one);
  if (keys.has("set_alpha_to_zero")) {  // null is as if it were missing
    options.grid.set_alpha_to_one = old_name;
    if (keys.has("set_alpha_to_one"))
      keys.note(DiffusersNote::Kind::overruled, "set_alpha_to_one",
                "set_alpha_to_zero, its old name, is used instead");
  }
  options.clipping = read_range_clipping(keys);
  if (behaviour == Behaviour::compatible) {
    options.grid.previous = PreviousTimestep::stride;
    options.epsilon = EpsilonRule::raw;
  }
  return options;
}

/// How a scheduler class reads a configuration.
struct DiffusersClass {
  std::string_view name;
  std::size_t beta_schedules;  ///< it knows this many, the first, of beta_schedule_names
  DiffusersMethod (*read)(ConfigKeys& keys, int train_timesteps, Behaviour behaviour);
};

inline constexpr std::array<DiffusersClass, 5> diffusers_classes = {{
    {"DDPMScheduler", 5, read_ddpm},
    {"DDPMParallelScheduler", 5, read_ddpm},
    {"DDIMScheduler", 3, read_ddim},
    {"DDIMParallelScheduler", 3, read_ddim},
    {"DDIMInverseScheduler", 3, read_ddim_inverse},
}};

inline std::string listed_class_names() {
  std::string names;
  for (const DiffusersClass& known : diffusers_classes)
    names += (names.empty() ? "" : ", ") + std::string(known.name);
  return names;
}

inline const DiffusersClass& diffusers_class(const nlohmann::json& object,
                                             const std::string& load_as) {
  nlohmann::json name = load_as;
  if (load_as.empty()) {
    if (!object.contains("_class_name"))
      fail("_class_name is missing; it must be one of " + listed_class_names() +
           ", unless the class is named otherwise");
    name = object.at("_class_name");
  }
  for (const DiffusersClass& known : diffusers_classes)
    if (name == known.name) return known;
  fail(text(load_as.empty() ? "_class_name" : "the scheduler class", " is ", shown(name),
            "; supported are ", listed_class_names()));
}

}  // namespace detail

/// The scheduler classes that can be read.
inline std::vector<std::string> diffusers_class_names() {
  std::vector<std::string> names;
  for (const auto& known : detail::diffusers_classes) names.emplace_back(known.name);
  return names;
}

/// Reads a configuration from the object that its file holds. Fails for a class that is not
/// supported and for values that the class does not allow; other keys end up in `notes`.
///
/// A class may read another's file, as `from_config` does: DDIM's drives DDPM. Keys that the file
/// lacks then have the defaults of the class that reads.
inline DiffusersConfig read_diffusers_config(const nlohmann::json& object,
                                             const DiffusersReading& reading = {}) {
  if (!object.is_object())
    fail(detail::text("the scheduler configuration is a JSON ", object.type_name(),
                      "; it must be an object"));
  const auto& known = detail::diffusers_class(object, reading.load_as);
  detail::ConfigKeys keys(object, std::string(known.name));
  DiffusersConfig config;
  config.class_name = known.name;
  config.betas = detail::read_betas(
      keys, detail::BetaNames(detail::beta_schedule_names).first(known.beta_schedules));
  config.prediction_type = detail::read_prediction_type(keys, config.betas);
  config.method = known.read(keys, config.betas.options.train_timesteps, reading.behaviour);
  config.notes = keys.notes();
  return config;
}

/// Reads a configuration from the text of its file: JSON, where Infinity, -Infinity and NaN may
/// stand bare, as Python writes them.
inline DiffusersConfig parse_diffusers_config(std::string_view text,
                                              const DiffusersReading& reading = {}) {
  return read_diffusers_config(detail::parse_python_object(text), reading);
}

/// Reads a configuration from a file.
inline DiffusersConfig load_diffusers_config(const std::filesystem::path& file,
                                             const DiffusersReading& reading = {}) {
  std::error_code no_such_file;
  if (!std::filesystem::is_regular_file(file, no_such_file))
    fail(detail::text("there is no file ", file.string(),
                      "; a diffusers model keeps it as scheduler/scheduler_config.json"));
  std::ifstream stream(file, std::ios::binary);
  const std::string content{std::istreambuf_iterator<char>(stream), {}};
  if (stream.bad() || !stream.is_open()) fail("cannot read " + file.string());
  try {
    return parse_diffusers_config(content, reading);
  } catch (const Error& error) {
    fail(file.string() + ": " + error.what());
  }
}

}  // namespace diffusion

#endif  // DIFFUSION_INTEROP_DIFFUSERS_CONFIG_HPP
