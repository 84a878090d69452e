#ifndef DIFFUSION_INTEROP_DIFFUSERS_DPM_CLASSES_HPP
#define DIFFUSION_INTEROP_DIFFUSERS_DPM_CLASSES_HPP

#include <diffusion/interop/diffusers/multistep_keys.hpp>
#include <diffusion/samplers/deis.hpp>
#include <diffusion/samplers/dpm_solver.hpp>
#include <diffusion/samplers/dpm_solver_singlestep.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <span>
#include <string>
#include <vector>

/// DPMSolverMultistepScheduler, its inverse, DPMSolverSinglestepScheduler, DEISMultistepScheduler.
namespace diffusion::detail {

/// What algorithm_type says. Plain data: threads may share what none of them writes.
struct DpmAlgorithm {
  SolverForm form = SolverForm::data;
  double eta = 0;
  bool renamed = false;  ///< another class's, for which this one takes its own
};

inline constexpr std::array<Named<DpmAlgorithm>, 5> dpm_algorithm_names = {{
    {"deis", {SolverForm::data, 0, true}},
    {"dpmsolver++", {SolverForm::data, 0, false}},
    {"sde-dpmsolver++", {SolverForm::data, 1, false}},
    {"dpmsolver", {SolverForm::noise, 0, false}},
    {"sde-dpmsolver", {SolverForm::noise, 1, false}},
}};

inline constexpr std::array<Named<SolverType>, 5> dpm_solver_type_names = {{
    {"midpoint", SolverType::midpoint},
    {"heun", SolverType::heun},
    {"logrho", SolverType::midpoint},
    {"bh1", SolverType::midpoint},
    {"bh2", SolverType::midpoint},
}};

/// algorithm_type, one of the first `known`.
inline DpmAlgorithm read_dpm_algorithm(ConfigKeys& keys, std::size_t known) {
  const auto algorithm =
      keys.choice("algorithm_type", "dpmsolver++",
                  std::span<const Named<DpmAlgorithm>>(dpm_algorithm_names).first(known));
  if (algorithm.renamed)
    keys.note(DiffusersNote::Kind::overruled, "algorithm_type", "read as dpmsolver++");
  return algorithm;
}

inline SolverType read_dpm_solver_type(ConfigKeys& keys) {
  return keys.choice<SolverType>("solver_type", "midpoint", dpm_solver_type_names);
}

/// final_sigmas_type of a class that allows zero with the data form only.
inline FinalSigma read_dpm_final_sigma(ConfigKeys& keys, const DpmAlgorithm& algorithm) {
  const auto last = keys.choice<FinalSigma>("final_sigmas_type", "zero", final_sigma_names);
  if (last == FinalSigma::zero && (algorithm.form == SolverForm::noise || algorithm.renamed))
    fail(keys.class_name() +
         ": final_sigmas_type is \"zero\"; with this algorithm_type it must be \"sigma_min\"");
  return last;
}

/// solver_order; the reference takes the formula of order 3 for whatever is above.
inline int read_dpm_order(ConfigKeys& keys) {
  const int order = keys.integer("solver_order", 2, 1, 1'000'000);
  if (order > 3) keys.note(DiffusersNote::Kind::questionable, "solver_order", "read as 3");
  return (std::min)(order, 3);
}

/// A multistep class: its options, and what of the reference's rules is not in them. Plain data:
/// threads may share what none of them writes.
struct DpmClass {
  DpmSolverOptions options;
  bool compatible = true;
  bool third_order_sde = true;  ///< the reference has a formula for it

  SamplingPlan plan(const Grid& grid) const {
    if (!compatible) return make_plan(grid, options);
    // A run is short by its whole list, also where it starts in the middle.
    const bool lowers =
        options.lower_order_final != LowerOrderFinal::never && grid.first_step() + grid.size() < 15;
    DpmSolverOptions counted = options;
    counted.lower_order_final = lowers ? LowerOrderFinal::always : LowerOrderFinal::never;
    const bool euler = options.euler_at_final || grid.finish().sigma == 0;
    for (int i = 2; i < grid.size() && options.eta > 0 && !third_order_sde; ++i)
      if (order_of_step(i, grid.size(), options.order, lowers, euler) == 3)
        fail(
            text("solver_order is 3; diffusers has no third order for this algorithm_type and "
                 "fails at step ",
                 grid.first_step() + i,
                 " (take 2, or read the configuration with the correct behaviour)"));
    return make_plan(grid, counted);
  }
};

/// What the multistep classes share of a configuration, EDM's and the cosine one too.
inline DpmClass read_dpm_class(ConfigKeys& keys, const DpmAlgorithm& algorithm,
                               Behaviour behaviour) {
  DpmClass dpm;
  dpm.compatible = behaviour == Behaviour::compatible;
  DpmSolverOptions& options = dpm.options;
  options.form = algorithm.form;
  options.eta = algorithm.eta;
  options.order = read_dpm_order(keys);
  options.solver = read_dpm_solver_type(keys);
  const bool lowers = keys.flag("lower_order_final", true);
  options.lower_order_final = lowers ? LowerOrderFinal::short_runs : LowerOrderFinal::never;
  options.third_order = dpm.compatible ? ThirdOrder::diffusers : ThirdOrder::exact;
  if (options.order == 3 && dpm.compatible)
    keys.note(DiffusersNote::Kind::questionable, "solver_order",
              "diffusers' third order is of second order; the correct behaviour's is of third");
  return dpm;
}

inline void set_plan(DiffusersConfig& config, const DpmClass& dpm) {
  config.method.plan = [dpm](const Grid& grid, const DiffusersRun&) { return dpm.plan(grid); };
}

inline void read_dpm_multistep(ConfigKeys& keys, DiffusersConfig& config) {
  read_multistep_trained(keys, config, {});
  const auto algorithm = read_dpm_algorithm(keys, 5);
  DpmClass dpm = read_dpm_class(keys, algorithm, config.behaviour);
  dpm.options.euler_at_final = keys.flag("euler_at_final", false);
  dpm.options.clipping = read_thresholding(keys);
  dpm.options.learned_variance = read_idle_variance(keys, config);
  dpm.third_order_sde = algorithm.form == SolverForm::data;
  MultistepRule rule = read_multistep_sigmas(keys, true);
  rule.final_sigma = read_dpm_final_sigma(keys, algorithm);
  rule.rounds = (rule.sigmas == MultistepSigmas::karras || rule.sigmas == MultistepSigmas::lu) &&
                config.betas->kind != BetaSchedule::squaredcos_cap_v2;
  read_multistep_spacing(keys, config, rule);
  read_lambda_min(keys, rule);
  read_dynamic_shift(keys, rule);
  refuse_sigmas_beside_flow(keys, rule);
  check_flow_prediction(keys, config, rule, algorithm.form == SolverForm::data);
  set_multistep_method(config, rule);
  set_plan(config, dpm);
}

inline void read_deis(ConfigKeys& keys, DiffusersConfig& config) {
  static constexpr std::array<Named<bool>, 3> algorithms = {
      {{"deis", false}, {"dpmsolver", true}, {"dpmsolver++", true}}};
  static constexpr std::array<Named<bool>, 5> types = {
      {{"logrho", false}, {"midpoint", true}, {"heun", true}, {"bh1", true}, {"bh2", true}}};
  read_multistep_trained(keys, config, {.rescales = false});
  if (keys.choice<bool>("algorithm_type", "deis", algorithms))
    keys.note(DiffusersNote::Kind::overruled, "algorithm_type", "read as deis");
  if (keys.choice<bool>("solver_type", "logrho", types))
    keys.note(DiffusersNote::Kind::overruled, "solver_type", "read as logrho");
  DpmClass dpm;
  dpm.compatible = config.behaviour == Behaviour::compatible;
  dpm.options.form = SolverForm::noise;
  dpm.options.order = read_dpm_order(keys);
  dpm.options.solver = SolverType::heun;
  if (!keys.flag("lower_order_final", true)) dpm.options.lower_order_final = LowerOrderFinal::never;
  dpm.options.clipping = read_thresholding(keys);
  MultistepRule rule = read_multistep_sigmas(keys, false);
  rule.final_sigma =
      rule.sigmas == MultistepSigmas::timesteps ? FinalSigma::table : FinalSigma::repeated;
  rule.rounds = rule.sigmas == MultistepSigmas::karras;
  read_multistep_spacing(keys, config, rule);
  read_dynamic_shift(keys, rule);
  refuse_sigmas_beside_flow(keys, rule);
  check_flow_prediction(keys, config, rule, true);
  set_multistep_method(config, rule);
  set_plan(config, dpm);
}

inline void read_dpm_singlestep(ConfigKeys& keys, DiffusersConfig& config) {
  read_multistep_trained(keys, config, {.rescales = false});
  const auto algorithm = read_dpm_algorithm(keys, 4);
  DpmSolverSinglestepOptions options;
  options.form = algorithm.form;
  options.eta = algorithm.eta;
  options.order = keys.integer("solver_order", 2, 1, 3);
  options.solver = read_dpm_solver_type(keys);
  options.lower_order_final = keys.flag("lower_order_final", false);
  options.clipping = read_thresholding(keys);
  options.learned_variance = read_idle_variance(keys, config);
  const bool compatible = config.behaviour == Behaviour::compatible;
  options.third_order = compatible ? ThirdOrder::diffusers : ThirdOrder::exact;
  if (options.clipping != Clipping::none() && options.form == SolverForm::noise)
    fail(keys.class_name() +
         ": thresholding is true; with algorithm_type dpmsolver it must be false (diffusers fails "
         "with it)");
  MultistepRule rule = read_multistep_sigmas(keys, false);
  rule.final_sigma = read_dpm_final_sigma(keys, algorithm);
  rule.rounds = rule.sigmas == MultistepSigmas::karras;
  read_lambda_min(keys, rule);
  read_dynamic_shift(keys, rule);
  refuse_sigmas_beside_flow(keys, rule);
  check_flow_prediction(keys, config, rule, algorithm.form == SolverForm::data);
  const bool to_zero = rule.final_sigma == FinalSigma::zero;
  if (!options.lower_order_final && to_zero && options.order > 1)
    keys.note(DiffusersNote::Kind::overruled, "lower_order_final",
              "a run to a final sigma of zero ends with lower orders");
  options.lower_order_final = options.lower_order_final || to_zero;
  set_multistep_method(config, rule);
  config.method.plan = [options, compatible](const Grid& grid, const DiffusersRun&) {
    if (!compatible) return make_plan(grid, options);
    const auto orders = singlestep_orders(grid.first_step() + grid.size(), options.order,
                                          options.lower_order_final, grid.finish().sigma == 0);
    return make_plan(
        grid, options,
        std::span<const int>(orders).subspan(static_cast<std::size_t>(grid.first_step())));
  };
}

inline void read_dpm_inverse(ConfigKeys& keys, DiffusersConfig& config) {
  read_multistep_trained(keys, config, {.rescales = false});
  const auto algorithm = read_dpm_algorithm(keys, 5);
  if (algorithm.eta > 0)
    fail(keys.class_name() +
         ": algorithm_type is an SDE's; it must be dpmsolver or dpmsolver++, for an inversion adds "
         "no noise (diffusers makes NaN)");
  DpmClass dpm = read_dpm_class(keys, algorithm, config.behaviour);
  dpm.options.euler_at_final = keys.flag("euler_at_final", false);
  dpm.options.clipping = read_thresholding(keys);
  dpm.options.learned_variance = read_idle_variance(keys, config);
  MultistepRule rule = read_multistep_sigmas(keys, false);
  rule.rises = true;
  rule.final_sigma = FinalSigma::repeated;
  rule.rounds = rule.sigmas == MultistepSigmas::karras;
  read_multistep_spacing(keys, config, rule);
  read_lambda_min(keys, rule);
  refuse_sigmas_beside_flow(keys, rule);
  check_flow_prediction(keys, config, rule, algorithm.form == SolverForm::data);
  if (rule.flow)
    keys.note(DiffusersNote::Kind::questionable, "use_flow_sigmas",
              "diffusers' inverse runs from noise to data on a flow");
  set_multistep_method(config, rule);
  config.method.plan = [dpm](const Grid& grid, const DiffusersRun&) {
    return dpm.plan(grid.reversed().with_space({.initial_scale = 1}));
  };
}

}  // namespace diffusion::detail

#endif  // DIFFUSION_INTEROP_DIFFUSERS_DPM_CLASSES_HPP
