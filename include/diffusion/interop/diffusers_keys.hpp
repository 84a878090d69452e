#ifndef DIFFUSION_INTEROP_DIFFUSERS_KEYS_HPP
#define DIFFUSION_INTEROP_DIFFUSERS_KEYS_HPP

#include <diffusion/interop/config_keys.hpp>
#include <diffusion/interop/diffusers_types.hpp>
#include <diffusion/schedule/flow_shift.hpp>

#include <array>
#include <cstddef>
#include <optional>
#include <span>
#include <string_view>

/// The keys that many scheduler classes share.
namespace diffusion::detail {

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

inline constexpr std::array<Named<TimeShift>, 2> time_shift_names = {{
    {"exponential", TimeShift::exponential},
    {"linear", TimeShift::linear},
}};

using BetaNames = std::span<const Named<BetaSchedule>>;
using SpacingNames = std::span<const Named<TimestepSpacing>>;

/// What a class takes for betas that its configuration does not give. Plain data: threads may share
/// what none of them writes.
struct BetaDefaults {
  double start = 0.0001, end = 0.02;
  std::string_view schedule = "linear";
  bool rescales = true;  ///< whether the class knows rescale_betas_zero_snr
};
/// Those of the classes that were made for Stable Diffusion.
inline constexpr BetaDefaults latent_betas{0.00085, 0.012, "linear"};
inline constexpr BetaDefaults scaled_latent_betas{0.00085, 0.012, "scaled_linear"};

/// The keys that make the table of betas; all classes that have one share their names but not their
/// defaults, nor the schedules that they know.
inline DiffusersBetas read_betas(ConfigKeys& keys, BetaNames known,
                                 const BetaDefaults& defaults = {}) {
  constexpr int longest = 1'000'000;
  DiffusersBetas betas;
  NoiseScheduleOptions& options = betas.options;
  options.train_timesteps = keys.integer("num_train_timesteps", 1000, 1, longest);
  options.beta_start = keys.number("beta_start", defaults.start, inside_unit);
  options.beta_end = keys.number("beta_end", defaults.end, inside_unit);
  betas.kind = keys.choice("beta_schedule", defaults.schedule, known);
  if (defaults.rescales)
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

/// timestep_spacing and steps_offset into the members `spacing` and `steps_offset` of options.
template <class Options>
void read_spacing(ConfigKeys& keys, SpacingNames known, std::string_view otherwise, int most_offset,
                  Options& options) {
  options.spacing = keys.choice("timestep_spacing", otherwise, known);
  options.steps_offset = keys.integer("steps_offset", 0, 0, most_offset);
  if (options.steps_offset > 0 && options.spacing != TimestepSpacing::leading)
    keys.note(DiffusersNote::Kind::overruled, "steps_offset",
              "it moves leading timesteps only, not those of this timestep_spacing");
}

inline GridOptions read_grid(ConfigKeys& keys, SpacingNames known, int train_timesteps) {
  GridOptions grid;
  read_spacing(keys, known, "leading", train_timesteps - 1, grid);
  return grid;
}

/// That one of some flags which is true, if any. Fails where two are.
template <class T>
std::optional<T> only_true(ConfigKeys& keys, std::span<const Named<T>> flags) {
  const Named<T>* chosen = nullptr;
  for (const Named<T>& flag : flags) {
    if (!keys.flag(flag.name.data(), false)) continue;
    if (chosen)
      fail(text(keys.class_name(), ": ", chosen->name, " and ", flag.name,
                " are both true; at most one of them may be"));
    chosen = &flag;
  }
  return chosen ? std::optional<T>(chosen->value) : std::nullopt;
}

inline Clipping read_range_clipping(ConfigKeys& keys, bool clips_by_default = true) {
  const bool clips = keys.flag("clip_sample", clips_by_default);
  const double limit = keys.number("clip_sample_range", 1, positive);
  return clips ? Clipping::range(limit) : Clipping::none();
}

/// Dynamic thresholding comes before clipping.
inline Clipping read_clipping(ConfigKeys& keys, bool clips_by_default = true) {
  const Clipping range = read_range_clipping(keys, clips_by_default);
  const bool dynamic = keys.flag("thresholding", false);
  const double ratio = keys.number("dynamic_thresholding_ratio", 0.995, unit);
  const double maximum = keys.number("sample_max_value", 1, positive);
  if (!dynamic) return range;
  if (range.kind != Clipping::Kind::none && keys.has("clip_sample"))
    keys.note(DiffusersNote::Kind::overruled, "clip_sample", "thresholding is used instead");
  return Clipping::dynamic(ratio, maximum);
}

/// The betas and the prediction type of a class that knows the first `known` beta schedules.
inline void read_trained(ConfigKeys& keys, DiffusersConfig& config, std::size_t known,
                         const BetaDefaults& defaults = {}) {
  config.betas = read_betas(keys, BetaNames(beta_schedule_names).first(known), defaults);
  config.train_timesteps = config.betas->options.train_timesteps;
  config.prediction_type = read_prediction_type(keys, *config.betas);
}

/// A number as the reference's tables hold it.
inline double in_precision(double value, TablePrecision precision) {
  return precision == TablePrecision::float32 ? static_cast<double>(static_cast<float>(value))
                                              : value;
}

/// The grid of a class whose timesteps are whole ones of a table of betas.
inline std::function<Grid(const DiffusersRun&, TablePrecision)> grid_of_timesteps(
    const DiffusersBetas& betas, const GridOptions& options) {
  return [betas, options](const DiffusersRun& run, TablePrecision precision) {
    GridOptions chosen = options;
    if (!run.timesteps.empty()) {
      chosen.timesteps = run.timesteps;
      chosen.previous = PreviousTimestep::from_list;
    }
    return with_schedule(betas, precision, [&](const auto& schedule) {
      return make_grid(schedule, run.steps, chosen);
    });
  };
}

}  // namespace diffusion::detail

#endif  // DIFFUSION_INTEROP_DIFFUSERS_KEYS_HPP
