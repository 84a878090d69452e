#ifndef DIFFUSION_INTEROP_DIFFUSERS_MULTISTEP_KEYS_HPP
#define DIFFUSION_INTEROP_DIFFUSERS_MULTISTEP_KEYS_HPP

#include <diffusion/interop/diffusers/multistep_grid.hpp>

#include <array>
#include <limits>
#include <span>
#include <string>
#include <vector>

/// The keys that DPM-Solver, DEIS, UniPC and SA-Solver share.
namespace diffusion::detail {

inline constexpr std::array<Named<PredictionType>, 4> multistep_prediction_names = {{
    {"epsilon", PredictionType::epsilon},
    {"sample", PredictionType::sample},
    {"v_prediction", PredictionType::v},
    {"flow_prediction", PredictionType::flow},
}};

/// The betas and the prediction type. A rescaled table keeps `terminal_alpha_cumprod`, where that
/// is less than the entry before it; elsewhere only the levels of the rule do.
inline void read_multistep_trained(ConfigKeys& keys, DiffusersConfig& config,
                                   const BetaDefaults& defaults) {
  config.betas = read_betas(keys, BetaNames(beta_schedule_names).first(3), defaults);
  keep_terminal(*config.betas);
  config.train_timesteps = config.betas->options.train_timesteps;
  config.prediction_type =
      keys.choice<PredictionType>("prediction_type", "epsilon", multistep_prediction_names);
}

/// Dynamic thresholding alone: these classes do not clip.
inline Clipping read_thresholding(ConfigKeys& keys) {
  const bool dynamic = keys.flag("thresholding", false);
  const double ratio = keys.number("dynamic_thresholding_ratio", 0.995, unit);
  const double maximum = keys.number("sample_max_value", 1, positive);
  return dynamic ? Clipping::dynamic(ratio, maximum) : Clipping::none();
}

/// Whether the network answers a variance too, of which these classes make no use.
inline bool read_idle_variance(ConfigKeys& keys, const DiffusersConfig& config) {
  static constexpr std::array<Named<bool>, 6> names = {{{"learned", true},
                                                        {"learned_range", true},
                                                        {"fixed_small", false},
                                                        {"fixed_small_log", false},
                                                        {"fixed_large", false},
                                                        {"fixed_large_log", false}}};
  const bool learned = keys.optional_choice<bool>("variance_type", names).value_or(false);
  if (learned && config.prediction_type != PredictionType::epsilon)
    keys.note(DiffusersNote::Kind::overruled, "variance_type",
              "without prediction_type epsilon the network's output is taken as it is");
  return learned && config.prediction_type == PredictionType::epsilon;
}

/// use_*_sigmas, flow_shift, and, where a rule has ends, the keys sigma_min and sigma_max, which
/// the reference heeds although it calls them unknown, but in the class that `lists_ends`.
inline MultistepRule read_multistep_sigmas(ConfigKeys& keys, bool knows_lu,
                                           bool lists_ends = false) {
  MultistepRule rule;
  struct Use {
    const char* key;
    MultistepSigmas sigmas;
  };
  using enum MultistepSigmas;
  const char* chosen = nullptr;
  for (const Use& use : {Use{"use_karras_sigmas", karras}, Use{"use_lu_lambdas", lu},
                         Use{"use_exponential_sigmas", exponential}, Use{"use_beta_sigmas", beta},
                         Use{"use_flow_sigmas", flow}}) {
    if (use.sigmas == lu && !knows_lu) continue;
    if (!keys.flag(use.key, false)) continue;
    rule.flow = rule.flow || use.sigmas == flow;
    if (!chosen) {
      rule.sigmas = use.sigmas;
      chosen = use.key;
    } else if (use.sigmas == lu || rule.sigmas == lu) {
      keys.note(DiffusersNote::Kind::overruled, use.key, std::string(chosen) + " is used instead");
    } else if (use.sigmas != flow) {
      fail(keys.class_name() + ": " + chosen + " and " + use.key +
           " are true; at most one of them may be");
    }
  }
  rule.flow_shift = keys.number("flow_shift", 1, positive);
  if (lists_ends) {
    rule.sigma_min = keys.optional_number("sigma_min", positive);
    rule.sigma_max = keys.optional_number("sigma_max", positive);
  } else if (rule.sigmas == karras || rule.sigmas == exponential || rule.sigmas == beta)
    for (auto [key, end] :
         {std::pair{"sigma_min", &rule.sigma_min}, std::pair{"sigma_max", &rule.sigma_max}})
      if (keys.has(key)) {
        *end = keys.number(key, 1, positive);
        keys.note(DiffusersNote::Kind::questionable, key,
                  "the class does not list it, but takes it as an end of its sigmas");
      }
  return rule;
}

/// Fails where levels beyond 1 would be read as those of a flow: diffusers makes NaN of them.
inline void refuse_sigmas_beside_flow(const ConfigKeys& keys, const MultistepRule& rule) {
  if (rule.flow && rule.sigmas != MultistepSigmas::flow)
    fail(keys.class_name() +
         ": use_flow_sigmas is true; use_karras_sigmas, use_lu_lambdas, use_exponential_sigmas and "
         "use_beta_sigmas must then be false, for their levels are not those of a flow");
}

inline void read_multistep_spacing(ConfigKeys& keys, const DiffusersConfig& config,
                                   MultistepRule& rule) {
  read_spacing(keys, spacing_names, "linspace", config.train_timesteps - 1, rule);
}

inline void read_lambda_min(ConfigKeys& keys, MultistepRule& rule) {
  const double infinity = std::numeric_limits<double>::infinity();
  static constexpr NumberLimit below{-std::numeric_limits<double>::infinity(), largest_finite,
                                     "it must be a finite number or -Infinity"};
  rule.lambda_min_clipped = keys.number("lambda_min_clipped", -infinity, below);
}

inline void read_dynamic_shift(ConfigKeys& keys, MultistepRule& rule) {
  rule.dynamic_shift = keys.flag("use_dynamic_shifting", false);
  rule.time_shift = keys.choice<TimeShift>("time_shift_type", "exponential", time_shift_names);
}

/// What the reference makes of a prediction type it does not mean for the states at hand cannot be
/// right, and of some makes an error itself.
inline void check_flow_prediction(const ConfigKeys& keys, const DiffusersConfig& config,
                                  const MultistepRule& rule, bool knows_flow) {
  const bool flow = config.prediction_type == PredictionType::flow;
  if (flow && !knows_flow)
    fail(keys.class_name() +
         ": prediction_type is \"flow_prediction\"; with this algorithm_type it must be epsilon, "
         "sample or v_prediction");
  if (flow && !rule.flow)
    fail(keys.class_name() +
         ": prediction_type is \"flow_prediction\"; it needs use_flow_sigmas, for a flow's network "
         "is trained on (1 - s) x0 + s eps");
  if (rule.flow && config.prediction_type == PredictionType::v)
    fail(keys.class_name() +
         ": prediction_type is \"v_prediction\"; with use_flow_sigmas it must be another, for v "
         "belongs to variance preserving states");
}

/// What the classes call sigmas, of the plan on a whole grid.
inline auto multistep_sigmas_of(bool flow) {
  return [flow](const SamplingPlan& plan) {
    std::vector<double> sigmas;
    for (const Stage& stage : plan.stages()) sigmas.push_back(multistep_sigma(stage.at, flow));
    sigmas.push_back(multistep_sigma(plan[plan.size() - 1].to, flow));
    return sigmas;
  };
}

/// The class's list of sigmas by a rule.
inline std::vector<double> listed_multistep_sigmas(const DiffusersBetas& betas,
                                                   const MultistepRule& rule,
                                                   const DiffusersRun& run,
                                                   TablePrecision precision) {
  return with_schedule(betas, precision, [&]<class Scalar>(const NoiseSchedule<Scalar>& schedule) {
    return multistep_levels(sigma_table(betas, schedule), rule, run).sigmas;
  });
}

/// Grid, levels and sigmas by a rule.
inline void set_multistep_method(DiffusersConfig& config, const MultistepRule& rule) {
  config.method.grid = [betas = *config.betas, rule](const DiffusersRun& run,
                                                     TablePrecision precision) {
    return multistep_grid(betas, rule, run, precision);
  };
  config.method.level = [grid = config.method.grid](double t, const DiffusersRun& run,
                                                    TablePrecision precision) {
    return multistep_level(grid(run, precision), t);
  };
  config.method.listed_sigmas = [betas = *config.betas, rule](const DiffusersRun& run,
                                                              TablePrecision precision) {
    return listed_multistep_sigmas(betas, rule, run, precision);
  };
}

}  // namespace diffusion::detail

#endif  // DIFFUSION_INTEROP_DIFFUSERS_MULTISTEP_KEYS_HPP
