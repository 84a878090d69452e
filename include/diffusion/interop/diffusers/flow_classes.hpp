#ifndef DIFFUSION_INTEROP_DIFFUSERS_FLOW_CLASSES_HPP
#define DIFFUSION_INTEROP_DIFFUSERS_FLOW_CLASSES_HPP

#include <diffusion/interop/diffusers/few_step_classes.hpp>
#include <diffusion/interop/diffusers_keys.hpp>
#include <diffusion/samplers/ddim.hpp>
#include <diffusion/samplers/flow.hpp>
#include <diffusion/samplers/lcm.hpp>
#include <diffusion/schedule/flow_shift.hpp>
#include <diffusion/schedule/sigma_spacing.hpp>

#include <array>
#include <cmath>
#include <cstddef>
#include <optional>
#include <string>
#include <utility>
#include <vector>

/// FlowMatchEulerDiscreteScheduler, FlowMatchHeunDiscreteScheduler, FlowMatchLCMScheduler,
/// FlowMapEulerDiscreteScheduler, LTXEulerAncestralRFScheduler.
namespace diffusion::detail {

/// How the classes pick sigmas, which are the times of a flow with levels (1 - sigma, sigma). Plain
/// data: threads may share what none of them writes.
struct FlowRule {
  int train_timesteps = 1000;
  double shift = 1;
  bool dynamic = false;  ///< shift by the run's mu instead
  TimeShift type = TimeShift::exponential;
  double terminal = 0;                   ///< > 0: stretched to end there
  SigmaRule rule = SigmaRule::none;      ///< karras, exponential or beta between the two ends
  std::optional<double> smallest, most;  ///< ends for `rule`
  bool invert = false;                   ///< the class's sigmas are 1 - sigma
  /// The run's own timesteps are told as they are, while its sigmas are shifted.
  bool tells_own_times = false;
  /// The reference takes its own list's ends, which are shifted, and shifts what lies between once
  /// more.
  bool shifts_twice = true;
};

/// Numbers in [0, 1].
inline std::vector<double> checked_sigmas(const char* name, const std::vector<double>& sigmas) {
  for (std::size_t i = 0; i < sigmas.size(); ++i)
    require_range(text(name, "[", i, "]").c_str(), sigmas[i], 0.0, 1.0);
  return sigmas;
}

/// The times before they are shifted: own sigmas, own timesteps, or n even ones from N to 1.
inline std::vector<double> unshifted_sigmas(const FlowRule& rule, const DiffusersRun& run,
                                            TablePrecision precision) {
  if (!run.sigmas.empty()) return checked_sigmas("sigmas", run.sigmas);
  const double n = rule.train_timesteps;
  std::vector<double> times = run.timesteps;
  if (times.empty()) {
    require_range("steps", run.steps, 1, 1'000'000);
    const bool shifted = rule.shifts_twice && !rule.dynamic;
    const auto end = [&](double t) {
      return in_precision(shifted ? shifted_time(t, rule.shift) : t, precision) * n;
    };
    times = numpy_linspace(end(1), end(1 / n), run.steps);
  }
  for (double& t : times) t /= n;
  return checked_sigmas("timesteps / num_train_timesteps", times);
}

/// The sigmas of a run, falling, without the final zero.
inline std::vector<double> flow_sigmas(const FlowRule& rule, const DiffusersRun& run,
                                       TablePrecision precision) {
  std::vector<double> sigmas = unshifted_sigmas(rule, run, precision);
  if (rule.dynamic && !run.mu)
    fail(
        "mu is missing; with use_dynamic_shifting it must be given, such as dynamic_shift_mu of "
        "the picture's size");
  const double shift = rule.dynamic ? shift_of_mu(*run.mu, rule.type) : rule.shift;
  for (double& s : sigmas) s = shifted_time(s, shift);
  if (rule.terminal > 0) sigmas = stretched_to_terminal(std::move(sigmas), rule.terminal);
  if (rule.rule != SigmaRule::none) {
    const double least = rule.smallest.value_or(sigmas.back());
    const double most = rule.most.value_or(sigmas.front());
    const int n = static_cast<int>(sigmas.size());
    sigmas = spaced_sigmas({.rule = rule.rule}, n, least, most);
  }
  for (double& s : sigmas) s = in_precision(s, precision);
  return sigmas;
}

/// The steps through sigmas, the last of them the end. Inverted sigmas are the weights of the data;
/// `swap` writes these down as if they were those of the noise.
inline Grid flow_grid(const FlowRule& rule, const std::vector<double>& sigmas,
                      TablePrecision precision, bool swap = false) {
  std::vector<Knot> knots;
  for (const double sigma : sigmas) {
    const double own = in_precision(rule.invert ? 1 - sigma : sigma, precision);
    const double t = in_precision(own * rule.train_timesteps, precision);
    const Knot knot{t, 1 - own, own};
    knots.push_back(rule.invert && !swap ? Knot{t, knot.sigma, knot.alpha} : knot);
  }
  return Grid::through(knots, {0, 1});
}

inline Grid flow_grid(const FlowRule& rule, const DiffusersRun& run, TablePrecision precision,
                      bool swap = false) {
  std::vector<double> sigmas = flow_sigmas(rule, run, precision);
  sigmas.push_back(0);
  const Grid grid = flow_grid(rule, sigmas, precision, swap);
  if (!rule.tells_own_times || rule.invert || run.timesteps.empty()) return grid;
  std::vector<GridStep> steps(grid.begin(), grid.end());
  if (steps.size() != run.timesteps.size())
    fail(text("timesteps has ", run.timesteps.size(), " entries beside ", steps.size(),
              " sigmas; there must be as many"));
  for (std::size_t i = 0; i < steps.size(); ++i) {
    steps[i].from.t = in_precision(run.timesteps[i], precision);
    if (i > 0) steps[i - 1].to.t = steps[i].from.t;
  }
  return Grid(std::move(steps), 0, grid.space());
}

/// Where the classes' scale_noise puts a timestep; one that is told unshifted is looked up.
inline Knot flow_level(const FlowRule& rule, double t, const DiffusersRun& run,
                       TablePrecision precision) {
  if (rule.tells_own_times && !run.timesteps.empty())
    for (const GridStep& step : flow_grid(rule, run, precision, true))
      if (std::abs(step.from.t - t) <= 2e-3) return step.from;
  require_range("timestep", t, 0.0, static_cast<double>(rule.train_timesteps));
  return {t, 1 - t / rule.train_timesteps, t / rule.train_timesteps};
}

/// The sigmas of stages on a grid of `flow_grid`, the end included.
inline std::vector<double> sigmas_of(const SamplingPlan& plan, bool by_alpha) {
  const auto of = [by_alpha](const Knot& knot) { return by_alpha ? knot.alpha : knot.sigma; };
  std::vector<double> sigmas;
  for (const Stage& stage : plan.stages()) sigmas.push_back(of(stage.at));
  sigmas.push_back(of(plan.stages().back().to));
  return sigmas;
}

inline constexpr NumberLimit finite_number{-largest_finite, largest_finite,
                                           "it must be a finite number"};
inline constexpr NumberLimit not_negative{0, largest_finite,
                                          "it must be a finite number of at least 0"};
inline constexpr NumberLimit terminal_limit{0, 1 - 1e-9, "it must be at least 0 and below 1"};

/// The rule of sigmas that at most one of three keys asks for, and ends that diffusers takes for it
/// where a file has them.
inline void read_flow_spacing(ConfigKeys& keys, FlowRule& rule) {
  static constexpr std::array<Named<SigmaRule>, 3> flags = {{
      {"use_karras_sigmas", SigmaRule::karras},
      {"use_exponential_sigmas", SigmaRule::exponential},
      {"use_beta_sigmas", SigmaRule::beta},
  }};
  const auto chosen = only_true<SigmaRule>(keys, flags);
  if (!chosen) return;
  rule.rule = *chosen;
  if (keys.has("sigma_min")) rule.smallest = keys.number("sigma_min", 0, unit);
  if (keys.has("sigma_max")) rule.most = keys.number("sigma_max", 1, unit);
}

inline FlowRule read_flow_rule(ConfigKeys& keys, DiffusersConfig& config) {
  FlowRule rule;
  rule.train_timesteps = keys.integer("num_train_timesteps", 1000, 1, 1'000'000);
  rule.shift = keys.number("shift", 1, positive);
  rule.dynamic = keys.flag("use_dynamic_shifting", false);
  rule.type = keys.choice<TimeShift>("time_shift_type", "exponential", time_shift_names);
  rule.invert = keys.flag("invert_sigmas", false);
  rule.terminal = keys.optional_number("shift_terminal", terminal_limit).value_or(0);
  read_flow_spacing(keys, rule);
  // What pipelines make mu from.
  for (const auto& [key, value] : {std::pair{"base_shift", 0.5}, std::pair{"max_shift", 1.15}})
    keys.number(key, value, finite_number);
  for (const auto& [key, value] :
       {std::pair{"base_image_seq_len", 256}, std::pair{"max_image_seq_len", 4096}})
    keys.integer(key, value, 1, 1'000'000'000);
  if (rule.dynamic && rule.shift != 1)
    keys.note(DiffusersNote::Kind::overruled, "shift", "use_dynamic_shifting shifts by mu instead");
  rule.shifts_twice = config.behaviour == Behaviour::compatible;
  config.train_timesteps = rule.train_timesteps;
  config.prediction_type = PredictionType::flow;
  return rule;
}

/// Grid, levels and sigmas of the classes with all of the rule's keys. `swap`: see `flow_grid`.
inline void set_flow_method(DiffusersConfig& config, const FlowRule& rule, bool swap = false) {
  const bool exchanged = rule.invert && !swap;
  if (exchanged) config.prediction_type = PredictionType::data_flow;
  config.method.grid = [rule, swap](const DiffusersRun& run, TablePrecision precision) {
    return flow_grid(rule, run, precision, swap);
  };
  config.method.level = [rule](double t, const DiffusersRun& run, TablePrecision precision) {
    return flow_level(rule, t, run, precision);
  };
  config.method.sigmas = [exchanged](const SamplingPlan& plan) {
    return sigmas_of(plan, exchanged);
  };
}

/// Stochastic sampling with inverted sigmas noises towards the data in the reference.
inline bool swaps_inverted(ConfigKeys& keys, const DiffusersConfig& config, const FlowRule& rule) {
  if (!rule.invert) return false;
  const bool compatible = config.behaviour == Behaviour::compatible;
  if (compatible)
    keys.note(DiffusersNote::Kind::questionable, "invert_sigmas",
              "stochastic sampling then takes noise for data, and ends at noise");
  return compatible;
}

inline void read_flow_euler(ConfigKeys& keys, DiffusersConfig& config) {
  const FlowRule rule = read_flow_rule(keys, config);
  const bool compatible = config.behaviour == Behaviour::compatible;
  if (keys.flag("stochastic_sampling", false)) {
    set_flow_method(config, rule, swaps_inverted(keys, config, rule));
    config.method.plan = [compatible](const Grid& grid, const DiffusersRun&) {
      return make_plan(grid, LcmOptions{.draw_at_end = compatible});
    };
  } else {
    set_flow_method(config, rule);
    config.method.plan = [](const Grid& grid, const DiffusersRun&) {
      return make_plan(grid, DdimOptions{});
    };
  }
}

/// No number is allowed.
inline constexpr NumberLimit resizing{
    1, 0, "it resizes the state between steps, which no plan does; it must be null"};
inline constexpr std::array<Named<bool>, 7> upscale_modes = {{{"nearest", true},
                                                              {"linear", true},
                                                              {"bilinear", true},
                                                              {"bicubic", true},
                                                              {"trilinear", true},
                                                              {"area", true},
                                                              {"nearest-exact", true}}};

inline void read_flow_lcm(ConfigKeys& keys, DiffusersConfig& config) {
  FlowRule rule = read_flow_rule(keys, config);
  rule.tells_own_times = config.behaviour == Behaviour::compatible;
  if (rule.tells_own_times && (rule.shift != 1 || rule.dynamic || rule.terminal > 0))
    keys.note(DiffusersNote::Kind::questionable, rule.dynamic ? "use_dynamic_shifting" : "shift",
              "a run's own timesteps are told to the network unshifted, while its sigmas are not");
  keys.optional_number("scale_factors", resizing);
  keys.choice<bool>("upscale_mode", "bicubic", upscale_modes);
  set_flow_method(config, rule, swaps_inverted(keys, config, rule));
  const bool compatible = config.behaviour == Behaviour::compatible;
  config.method.plan = [compatible](const Grid& grid, const DiffusersRun&) {
    return make_plan(grid, LcmOptions{.draw_at_end = compatible});
  };
}

inline void read_flow_heun(ConfigKeys& keys, DiffusersConfig& config) {
  FlowRule rule;
  rule.train_timesteps = keys.integer("num_train_timesteps", 1000, 1, 1'000'000);
  rule.shift = keys.number("shift", 1, positive);
  const bool compatible = config.behaviour == Behaviour::compatible;
  rule.shifts_twice = compatible;
  config.train_timesteps = rule.train_timesteps;
  config.prediction_type = PredictionType::flow;
  set_flow_method(config, rule);
  config.method.grid = [rule](const DiffusersRun& run, TablePrecision precision) {
    if (!run.timesteps.empty() || !run.sigmas.empty())
      fail("FlowMatchHeunDiscreteScheduler takes a number of steps only, no timesteps or sigmas");
    return flow_grid(rule, run, precision);
  };
  config.method.plan = [rule, compatible](const Grid& grid, const DiffusersRun& run) {
    const FlowHeunOptions options{.churn = {run.s_churn, run.s_tmin, run.s_tmax, run.s_noise},
                                  .churn_after_ask = compatible};
    const RectifiedFlow flow({.time_scale = static_cast<double>(rule.train_timesteps)});
    return make_plan(grid, options, knots_between(flow, grid));
  };
}

/// Its tables are in double precision always.
inline void read_flow_map(ConfigKeys& keys, DiffusersConfig& config) {
  FlowRule rule;
  rule.train_timesteps = keys.integer("num_train_timesteps", 1000, 1, 1'000'000);
  rule.shift = keys.number("shift", 1, positive);
  config.train_timesteps = rule.train_timesteps;
  config.prediction_type = PredictionType::flow;
  config.method.grid = [rule](const DiffusersRun& run, TablePrecision) {
    DiffusersRun own = run;
    if (run.sigmas.empty() && run.timesteps.empty()) {
      require_range("steps", run.steps, 1, 1'000'000);
      own.sigmas = torch_linspace<double>(1, 0, run.steps + 1);
      own.sigmas.pop_back();
    }
    return flow_grid(rule, own, TablePrecision::float64);
  };
  config.method.plan = [](const Grid& grid, const DiffusersRun&) {
    return make_plan(grid, DdimOptions{});
  };
  config.method.level = [rule](double t, const DiffusersRun& run, TablePrecision precision) {
    return flow_level(rule, t, run, precision);
  };
  config.method.sigmas = [](const SamplingPlan& plan) { return sigmas_of(plan, false); };
}

/// A run's own list holds the end, and the reference asks the network there once more; without one
/// the class picks sigmas as FlowMatchEulerDiscreteScheduler does, by that class's keys.
inline void read_ltx_ancestral(ConfigKeys& keys, DiffusersConfig& config) {
  FlowAncestralOptions options;
  options.eta = keys.number("eta", 1, not_negative);
  options.s_noise = keys.number("s_noise", 1, not_negative);
  const FlowRule rule = read_flow_rule(keys, config);
  if (rule.invert)
    fail(keys.class_name() +
         ": invert_sigmas is true; its first step would then start from sigma = 0, it must be "
         "false");
  const bool compatible = config.behaviour == Behaviour::compatible;
  options.as_diffusers = compatible;
  const auto grid_of = [rule, compatible](const DiffusersRun& run, TablePrecision precision) {
    if (run.sigmas.empty() && run.timesteps.empty()) return flow_grid(rule, run, precision);
    // Timesteps are taken for sigmas.
    std::vector<double> sigmas = run.sigmas.empty() ? checked_sigmas("timesteps", run.timesteps)
                                                    : checked_sigmas("sigmas", run.sigmas);
    for (double& s : sigmas) s = in_precision(s, precision);
    if (compatible) sigmas.push_back(sigmas.back());
    return flow_grid(rule, sigmas, precision);
  };
  config.method.grid = grid_of;
  config.method.plan = [options](const Grid& grid, const DiffusersRun&) {
    return make_plan(grid, options);
  };
  config.method.level = [rule](double t, const DiffusersRun& run, TablePrecision precision) {
    return flow_level(rule, t, run, precision);
  };
  config.method.sigmas = [](const SamplingPlan& plan) {
    std::vector<double> sigmas = sigmas_of(plan, false);
    const Stage& last = plan.stages().back();
    if (same_level(last.at, last.to)) sigmas.pop_back();
    return sigmas;
  };
}

}  // namespace diffusion::detail

#endif  // DIFFUSION_INTEROP_DIFFUSERS_FLOW_CLASSES_HPP
