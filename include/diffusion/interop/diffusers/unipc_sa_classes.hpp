#ifndef DIFFUSION_INTEROP_DIFFUSERS_UNIPC_SA_CLASSES_HPP
#define DIFFUSION_INTEROP_DIFFUSERS_UNIPC_SA_CLASSES_HPP

#include <diffusion/interop/diffusers/multistep_keys.hpp>
#include <diffusion/samplers/sa_solver.hpp>
#include <diffusion/samplers/unipc.hpp>

#include <array>
#include <string>

/// UniPCMultistepScheduler and SASolverScheduler.
namespace diffusion::detail {

/// Fails where a key holds an object of Python's.
inline void require_null(ConfigKeys& keys, const char* key, const char* what) {
  if (keys.has(key))
    fail(text(keys.class_name(), ": ", key, " is given; it must be null, for ", what,
              " cannot be read from a file"));
  keys.optional_number(key, unit);
}

inline UniPcFactor read_unipc_factor(ConfigKeys& keys) {
  static constexpr std::array<Named<UniPcFactor>, 5> names = {{{"bh1", UniPcFactor::bh1},
                                                               {"bh2", UniPcFactor::bh2},
                                                               {"midpoint", UniPcFactor::bh2},
                                                               {"heun", UniPcFactor::bh2},
                                                               {"logrho", UniPcFactor::bh2}}};
  const auto factor = keys.choice<UniPcFactor>("solver_type", "bh2", names);
  const std::string name = keys.resolved().at("solver_type");
  if (name != "bh1" && name != "bh2")
    keys.note(DiffusersNote::Kind::overruled, "solver_type", "bh2 is used instead");
  return factor;
}

/// Levels of a flow begin at 1; those of other rules at the table's end.
inline MultistepRule read_unipc_rule(ConfigKeys& keys, const DiffusersConfig& config) {
  MultistepRule rule = read_multistep_sigmas(keys, false, true);
  read_multistep_spacing(keys, config, rule);
  read_dynamic_shift(keys, rule);
  rule.demands_mu = true;
  rule.rounds = rule.sigmas == MultistepSigmas::karras;
  rule.final_sigma = keys.choice<FinalSigma>("final_sigmas_type", "zero", final_sigma_names);
  if (rule.final_sigma == FinalSigma::table && rule.sigmas != MultistepSigmas::timesteps)
    rule.final_sigma = FinalSigma::repeated;
  const auto terminal =
      keys.optional_number("shift_terminal", {0, inside_unit.high, "it must lie in [0, 1)"});
  if (terminal && !rule.flow)
    fail(keys.class_name() + ": shift_terminal is given; it needs use_flow_sigmas");
  rule.shift_terminal = terminal.value_or(0);
  if (rule.sigmas == MultistepSigmas::flow) rule.sigmas = MultistepSigmas::flow_from_one;
  return rule;
}

inline void note_unipc(ConfigKeys& keys, const UniPcOptions& options, const MultistepRule& rule) {
  const bool ends_clean = rule.final_sigma == FinalSigma::zero;
  if (options.factor == UniPcFactor::bh1 && ends_clean)
    keys.note(DiffusersNote::Kind::questionable, "solver_type",
              "diffusers makes NaN of it where the final sigma is zero; here the last step is of "
              "first order, which is its limit");
  if (options.form == SolverForm::noise && ends_clean)
    keys.note(DiffusersNote::Kind::questionable, "predict_x0",
              "diffusers makes NaN of it where the final sigma is zero; here the last step is of "
              "first order");
  if (!options.lower_order_final && ends_clean && options.order > 1)
    keys.note(DiffusersNote::Kind::questionable, "lower_order_final",
              "diffusers makes infinities of it where the final sigma is zero; here the last step "
              "is of first order all the same");
}

inline void read_unipc(ConfigKeys& keys, DiffusersConfig& config) {
  read_multistep_trained(keys, config, {});
  UniPcOptions options;
  options.order = keys.integer("solver_order", 2, 1, 4);
  options.form = keys.flag("predict_x0", true) ? SolverForm::data : SolverForm::noise;
  options.factor = read_unipc_factor(keys);
  options.lower_order_final = keys.flag("lower_order_final", true);
  static constexpr NumberLimit step{-1e9, 1e9, "it must be a whole number"};
  for (const double i : keys.numbers("disable_corrector", step, nlohmann::json::array(), 1'000'000))
    options.disable_corrector.push_back(static_cast<int>(i));
  require_null(keys, "solver_p", "another scheduler");
  options.asks_at_zero_step = config.behaviour == Behaviour::compatible;
  options.clipping = read_thresholding(keys);
  if (options.form == SolverForm::noise && options.clipping.kind != Clipping::Kind::none &&
      config.behaviour == Behaviour::compatible) {
    options.clipping = Clipping::none();
    keys.note(DiffusersNote::Kind::overruled, "thresholding", "without predict_x0 it is ignored");
  }
  const MultistepRule rule = read_unipc_rule(keys, config);
  check_flow_prediction(keys, config, rule, options.form == SolverForm::data);
  note_unipc(keys, options, rule);
  set_multistep_method(config, rule);
  config.method.plan = [options](const Grid& grid, const DiffusersRun&) {
    return make_plan(grid, options);
  };
}

inline void read_sa_solver(ConfigKeys& keys, DiffusersConfig& config) {
  static constexpr std::array<Named<SolverForm>, 2> forms = {
      {{"data_prediction", SolverForm::data}, {"noise_prediction", SolverForm::noise}}};
  const bool compatible = config.behaviour == Behaviour::compatible;
  read_multistep_trained(keys, config, {.rescales = false});
  SaSolverOptions options;
  options.predictor = keys.integer("predictor_order", 2, 1, 4);
  options.corrector = keys.integer("corrector_order", 2, 1, 4);
  options.form = keys.choice<SolverForm>("algorithm_type", "data_prediction", forms);
  options.lower_order_final = keys.flag("lower_order_final", true);
  options.tau = tau_between_times(1, 200, 800);
  require_null(keys, "tau_func", "a function");
  options.learned_variance = read_idle_variance(keys, config);
  options.halved_line = options.asks_at_zero_step = options.draws_unused = compatible;
  options.clipping = read_thresholding(keys);
  if (compatible && options.form == SolverForm::noise &&
      options.clipping.kind != Clipping::Kind::none)
    fail(keys.class_name() +
         ": thresholding is true; diffusers fails with it where algorithm_type is "
         "noise_prediction (the correct behaviour does not)");
  MultistepRule rule = read_multistep_sigmas(keys, false);
  refuse_sigmas_beside_flow(keys, rule);
  read_multistep_spacing(keys, config, rule);
  read_lambda_min(keys, rule);
  rule.rounds = rule.sigmas == MultistepSigmas::karras;
  rule.final_sigma =
      rule.sigmas == MultistepSigmas::timesteps ? FinalSigma::table : FinalSigma::repeated;
  check_flow_prediction(keys, config, rule, options.form == SolverForm::data);
  set_multistep_method(config, rule);
  config.method.level = {};  // it noises by its table of betas
  config.method.plan = [options](const Grid& grid, const DiffusersRun&) {
    return make_plan(grid, options);
  };
}

}  // namespace diffusion::detail

#endif  // DIFFUSION_INTEROP_DIFFUSERS_UNIPC_SA_CLASSES_HPP
