#ifndef DIFFUSION_INTEROP_DIFFUSERS_TYPES_HPP
#define DIFFUSION_INTEROP_DIFFUSERS_TYPES_HPP

#include <diffusion/denoiser/prediction_type.hpp>
#include <diffusion/error.hpp>
#include <diffusion/interop/config_keys.hpp>
#include <diffusion/plan/plan.hpp>
#include <diffusion/schedule/grid.hpp>
#include <diffusion/schedule/noise_schedule.hpp>

#include <nlohmann/json.hpp>

#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

/// What reading a scheduler configuration gives; see diffusers_config.hpp.
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

/// What the caller of a scheduler chooses: the arguments of `set_timesteps` and `step`. A class
/// reads those that it has. Plain data: threads may share what none of them writes.
struct DiffusersRun {
  int steps = 50;                  ///< num_inference_steps, 1 to the number of training timesteps
  std::optional<double> eta = {};  ///< DDIM (0), TCD (0.3): noise per step, in [0, 1]
  bool use_clipped_model_output = false;  ///< DDIM: epsilon re-derived from the clipped x0
  /// Own timesteps, falling, each step ending at the next; `steps` is then not read.
  std::vector<double> timesteps = {};
  /// Own sigmas, falling, without the final one, for the classes that take them.
  std::vector<double> sigmas = {};
  std::optional<double> mu = {};            ///< dynamic shift of flow matching
  double strength = 1;                      ///< LCM, TCD: the share of the original steps in use
  std::optional<int> original_steps = {};   ///< LCM, TCD: original_inference_steps
  std::optional<double> max_timestep = {};  ///< sCM: where it starts, 1.5708
  /// sCM: where a run of two steps is divided, 1.3; 0: in halves, as with other numbers of steps.
  std::optional<double> intermediate_timestep = {};
  double s_churn = 0;                      ///< Euler, EDM, flow-matching Heun: churn, >= 0
  double s_tmin = 0;                       ///< from this sigma ...
  double s_tmax = detail::largest_finite;  ///< ... to this
  double s_noise = 1;                      ///< factor on the noise that is added
  int order = 4;                           ///< LMS: order of the method
  int jump_length = 10;                    ///< RePaint: steps that a jump goes back, >= 1
  int jump_n_sample = 10;                  ///< RePaint: how often each stretch is sampled, >= 1
};

/// In which precision the reference's tables are made; weights are always worked out in double.
enum class TablePrecision { float64, float32 };

/// What a scheduler class is: how it makes grids and plans. Immutable; safe to share between
/// threads.
struct DiffusersMethod {
  /// The steps that `set_timesteps` makes, from noise to data.
  std::function<Grid(const DiffusersRun&, TablePrecision)> grid;
  /// The plan on a grid, which may be a part of the former.
  std::function<SamplingPlan(const Grid&, const DiffusersRun&)> plan;
  /// The level that `add_noise` gives a timestep; a class with a table of betas needs none.
  std::function<Knot(double t, const DiffusersRun&, TablePrecision)> level;
  /// The level alpha eps - sigma x0 of which `get_velocity` gives; none: that of the betas.
  std::function<Knot(double t, const DiffusersRun&, TablePrecision)> velocity_level;
  /// The numbers that the class calls sigmas, of the plan on a whole grid, the final one included;
  /// none: it has none.
  std::function<std::vector<double>(const SamplingPlan&)> sigmas;
  /// The same of a run, for a class whose list goes on after the levels of its steps.
  std::function<std::vector<double>(const DiffusersRun&, TablePrecision)> listed_sigmas;
  /// The list that the class calls timesteps, of such a plan; none: what the network is told.
  std::function<std::vector<double>(const SamplingPlan&)> timesteps;
};

/// How a configuration is read. Plain data: threads may share what none of them writes.
struct DiffusersReading {
  Behaviour behaviour = Behaviour::compatible;
  /// The class that reads it, as in `DDPMScheduler.from_config(...)`; empty: its `_class_name`.
  std::string load_as = {};
  /// Of a pipeline's folder: which of its schedulers.
  std::string component = "scheduler";
};

/// A scheduler configuration that was read: a sampler chosen at run time. Immutable but for its
/// notes: what a program overrules it says with `with`. Threads may share what none of them writes.
struct DiffusersConfig {
  std::string class_name;  ///< the class that read it
  Behaviour behaviour = Behaviour::compatible;
  /// The table of betas, for the classes that have one.
  std::optional<DiffusersBetas> betas;
  int train_timesteps = 1000;
  PredictionType prediction_type = PredictionType::epsilon;
  DiffusersMethod method;
  std::vector<DiffusersNote> notes;
  nlohmann::json given;     ///< what was read
  nlohmann::json resolved;  ///< every key that the class reads, with the value used: a
                            ///< configuration that reads back to the same plans

  /// The same configuration with one key changed or added, read anew: checked as in a file.
  DiffusersConfig with(const std::string& key, nlohmann::json value) const;

  /// The schedule of the betas. Fails for a class that has none.
  template <class Scalar = double>
  NoiseSchedule<Scalar> schedule() const {
    if (!betas) fail(class_name + " has no table of betas, so no discrete noise schedule");
    return betas->schedule<Scalar>();
  }

  /// The grid of a run, from noise to data (an inversion walks it backwards). `Scalar` is that of
  /// the reference's tables: float for its own single precision.
  template <class Scalar = double>
  Grid grid(const DiffusersRun& run) const {
    return method.grid(run, precision<Scalar>());
  }

  template <class Scalar = double>
  SamplingPlan plan(const DiffusersRun& run) const {
    return plan(grid<Scalar>(run), run);
  }
  /// The plan of so many steps.
  SamplingPlan plan(int steps) const {
    DiffusersRun run;
    run.steps = steps;
    return plan(run);
  }
  /// The plan on a grid of one's own, such as a part of `grid(run)` for image to image.
  SamplingPlan plan(const Grid& grid, const DiffusersRun& run) const {
    return method.plan(grid, run);
  }

  /// The level alpha x0 + sigma eps at which the class's `add_noise` puts a timestep.
  template <class Scalar = double>
  Knot level(double t, const DiffusersRun& run = {}) const {
    return method.level ? method.level(t, run, precision<Scalar>()) : schedule<Scalar>().knot(t);
  }

  /// The level whose velocity alpha eps - sigma x0 the class's `get_velocity` gives a timestep.
  template <class Scalar = double>
  Knot velocity_level(double t, const DiffusersRun& run = {}) const {
    return method.velocity_level ? method.velocity_level(t, run, precision<Scalar>())
                                 : schedule<Scalar>().knot(t);
  }

  /// The class's sigmas after `set_timesteps`, the final one included; empty: it has none.
  template <class Scalar = double>
  std::vector<double> sigmas(const DiffusersRun& run) const {
    if (method.listed_sigmas) return method.listed_sigmas(run, precision<Scalar>());
    return method.sigmas ? method.sigmas(plan<Scalar>(run)) : std::vector<double>{};
  }

  /// The class's list of timesteps, of the plan on a whole grid.
  std::vector<double> timesteps(const SamplingPlan& plan) const {
    if (method.timesteps) return method.timesteps(plan);
    std::vector<double> times;
    for (const Stage& stage : plan.stages()) times.push_back(stage.at.t);
    return times;
  }

 private:
  template <class Scalar>
  static constexpr TablePrecision precision() {
    return std::is_same_v<Scalar, float> ? TablePrecision::float32 : TablePrecision::float64;
  }
};

namespace detail {

/// Calls make(schedule) with the table in the precision that is asked for.
template <class Make>
auto with_schedule(const DiffusersBetas& betas, TablePrecision precision, const Make& make) {
  return precision == TablePrecision::float32 ? make(betas.schedule<float>())
                                              : make(betas.schedule<double>());
}

}  // namespace detail
}  // namespace diffusion

#endif  // DIFFUSION_INTEROP_DIFFUSERS_TYPES_HPP
