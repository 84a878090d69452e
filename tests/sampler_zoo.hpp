#ifndef DIFFUSION_TESTS_SAMPLER_ZOO_HPP
#define DIFFUSION_TESTS_SAMPLER_ZOO_HPP

// All samplers of the library, by name, each with representative options, and what is known of
// them that a plan does not show.

#include <diffusion/samplers/any_sampler.hpp>
#include <diffusion/samplers/cogvideox.hpp>
#include <diffusion/samplers/restart.hpp>

#include <functional>
#include <map>
#include <string>
#include <vector>

namespace zoo {

using namespace diffusion;

/// Which laws a sampler breaks by its own nature, on data of one point.
enum class Breaks { nothing, variance, mean_and_variance, continuity };

/// In which variable the steps of the order test are even.
enum class Even { log_sigma, sigma };

using Plan = std::function<SamplingPlan(const Grid&, const AnySchedule&)>;

struct Sampler {
  std::string name;
  Plan plan;
  /// Of the deterministic method as its theory has it, with exact history; 0: stochastic.
  int order = 0;
  /// Stages at the start that, given exact history, end at the exact state.
  int warm = 0;
  Even even = Even::log_sigma;
  int calls = 1;  ///< steps of the grid that make one Runge-Kutta step
  /// The plan with exact history, where it is not `plan`.
  Plan with_history = {};

  /// On data of one point.
  Breaks breaks() const;
  /// In the end of a run of 20 steps: the error of mean and deviation of the exact Gaussian's, in
  /// deviations, on any schedule and any grid that is not coarse there.
  double tolerance() const;
};

inline Plan plan_of(const SamplerOptions& options) {
  return [options](const Grid& grid, const AnySchedule& schedule) {
    return make_plan(grid, options, schedule);
  };
}

/// Heun that goes twice through the middle third of its grid.
inline SamplingPlan restarted(const Grid& grid, const AnySchedule& schedule) {
  const auto heun = [&](const Grid& part) {
    return make_plan(part, SamplerOptions(HeunOptions{}), schedule);
  };
  const int n = grid.size(), low = 2 * n / 3, high = n / 3;
  if (n < 3 || grid[high].from.alpha == 0) return heun(grid);
  const auto s = [](const Knot& knot) { return knot.sigma / knot.alpha; };
  const RestartInterval interval{
      .s_min = s(grid[low].from), .s_max = s(grid[high].from), .steps = low - high};
  return restart_plan(grid, schedule.between(grid), heun, {.intervals = {interval}});
}

inline Breaks Sampler::breaks() const {
  static const std::map<std::string, Breaks> others = {
      {"DDPM large", Breaks::variance},
      {"DPM-Solver 2M SDE", Breaks::variance},
      {"SA-Solver noise, tau 0.3", Breaks::variance},
      {"reverse SDE", Breaks::variance},
      {"predictor-corrector", Breaks::mean_and_variance},
      {"Euler-Maruyama", Breaks::mean_and_variance},
      {"consistency", Breaks::continuity},
  };
  const auto found = others.find(name);
  return found == others.end() ? Breaks::nothing : found->second;
}

/// Where the tolerance is not 0.3. Ancestral samplers and consistency models read from the
/// posterior's mean have too little variance with 20 steps; high orders overshoot where steps are
/// long; in the noise form of the SDE the noise can grow without bound, so there is none.
inline double Sampler::tolerance() const {
  static const std::map<std::string, double> others = {
      {"DPM-Solver 2S", 0.4},
      {"DPM++ 4M", 0.85},
      {"UniPC 2 bh1", 0.9},
      {"DDPM", 0.4},
      {"DDPM large", 0.4},
      {"Euler a", 0.4},
      {"flow ancestral", 0.4},
      {"Heun restart", 0.9},
      {"DPM2 a", 0.45},
      {"DPM++ 2S SDE", 0.45},
      {"DPM++ 2M SDE heun", 0.75},
      {"DPM++ 3M SDE", 2},
      {"DPM-Solver 2M SDE", 1e300},
      {"SA-Solver", 0.8},
      {"SA-Solver noise, tau 0.3", 1e300},
      {"reverse SDE", 0.8},
      {"reverse SDE ancestral", 0.4},
      {"predictor-corrector", 0.75},
      {"Euler-Maruyama", 0.4},
      {"LCM", 0.5},
      {"TCD", 0.35},
      {"consistency", 0.5},
  };
  const auto found = others.find(name);
  return found == others.end() ? 0.3 : found->second;
}

/// All of them.
inline std::vector<Sampler> samplers() {
  using enum SolverForm;
  const auto never = LowerOrderFinal::never;
  const auto heun = SolverType::heun;
  const Churn churn{.amount = 4, .s_min = 0.05, .s_max = 50};
  const auto multistep = [&](int order, SolverForm form, SolverType type = SolverType::midpoint) {
    return plan_of(
        DpmSolverOptions{.order = order, .form = form, .solver = type, .lower_order_final = never});
  };
  const auto sde = [&](int order, SolverForm form, SolverType type = SolverType::midpoint) {
    return plan_of(DpmSolverOptions{.order = order, .form = form, .eta = 1, .solver = type});
  };
  const auto unipc = [](int order, SolverForm form, UniPcFactor factor, bool corrector = true,
                        int uncorrected = 0) {
    UniPcOptions options{.order = order, .form = form, .factor = factor, .corrector = corrector};
    options.lower_order_final = false;
    for (int i = 0; i < uncorrected; ++i) options.disable_corrector.push_back(i);
    return plan_of(options);
  };
  const auto sa = [](double tau, SolverForm form) {
    return plan_of(SaSolverOptions{.form = form, .tau = constant_tau(tau)});
  };
  const auto er = [](int order, bool noisy) {
    ErSdeOptions options{.order = order};
    if (!noisy) options.noise_scale = [](double s) { return s; };
    return plan_of(options);
  };
  const auto singlestep = [&](int order, SolverForm form, double eta = 0) {
    return plan_of(DpmSolverSinglestepOptions{
        .order = order, .form = form, .eta = eta, .lower_order_final = false});
  };
  using enum UniPcFactor;
  constexpr Even log_sigma = Even::log_sigma, sigma = Even::sigma;
  return {
      // Deterministic, one step at a time.
      {"DDIM", plan_of(DdimOptions{}), 1},
      {"Euler", plan_of(EulerOptions{}), 1, 0, sigma},
      {"Heun", plan_of(HeunOptions{}), 2, 0, sigma},
      {"flow Heun", plan_of(FlowHeunOptions{}), 2, 0, sigma},
      {"DPM2", plan_of(Dpm2Options{}), 2},
      {"DPM++ 2S", singlestep(2, data), 2, 0, log_sigma, 2},
      {"DPM++ 3S", singlestep(3, data), 3, 0, log_sigma, 3},
      {"DPM-Solver 2S", singlestep(2, noise), 2, 0, log_sigma, 2},
      {"DPM-Solver 3S", singlestep(3, noise), 3, 0, log_sigma, 3},
      {"RES 2S", plan_of(ResSinglestepOptions{}), 2},
      // Deterministic, multistep.
      {"LMS 2", plan_of(LmsOptions{.order = 2}), 2, 1, sigma},
      {"LMS 3", plan_of(LmsOptions{.order = 3}), 3, 2, sigma},
      {"LMS 4", plan_of(LmsOptions{}), 4, 3, sigma},
      {"DPM++ 2M", multistep(2, data), 2, 1},
      {"DPM++ 2M heun", multistep(2, data, heun), 2, 1},
      {"DPM++ 3M", multistep(3, data), 3, 2},
      {"DPM++ 4M", multistep(4, data), 4, 3},
      {"DPM-Solver 2M", multistep(2, noise), 2, 1},
      {"DPM-Solver 3M", multistep(3, noise), 3, 2},
      {"DEIS 2", plan_of(DeisOptions{.order = 2, .lower_order_final = never}), 2, 1},
      {"DEIS 3", plan_of(DeisOptions{.lower_order_final = never}), 3, 2},
      {"DEIS 4", plan_of(DeisOptions{.order = 4, .lower_order_final = never}), 4, 3},
      {"UniP 2", unipc(2, data, bh2, false), 2, 1},
      {"UniPC 1", unipc(1, data, bh2), 2, 1, log_sigma, 1, unipc(1, data, bh2, true, 1)},
      {"UniPC 2", unipc(2, data, bh2), 3, 2, log_sigma, 1, unipc(2, data, bh2, true, 2)},
      {"UniPC 2 bh1", unipc(2, data, bh1), 3, 2, log_sigma, 1, unipc(2, data, bh1, true, 2)},
      {"UniPC 3", unipc(3, data, bh2), 4, 3, log_sigma, 1, unipc(3, data, bh2, true, 3)},
      {"UniPC 2 noise", unipc(2, noise, bh2), 3},
      {"SA-Solver tau 0",
       plan_of(SaSolverOptions{.corrector = 3, .tau = constant_tau(0), .lower_order_final = false}),
       3},
      {"RES 2M", plan_of(ResOptions{}), 2, 1},
      {"ER-SDE 2 without noise", er(2, false), 2, 1},
      {"ER-SDE 3 without noise", er(3, false), 3, 2},
      {"gradient estimation 1.5", plan_of(GradientEstimationOptions{.gamma = 1.5}), 2, 1, sigma},
      {"gradient estimation 2", plan_of(GradientEstimationOptions{}), 1, 1},
      {"iPNDM", plan_of(IpndmOptions{}), 4, 3, sigma},
      {"PLMS", plan_of(PndmOptions{}), 4, 4, sigma},
      {"PNDM", plan_of(PndmOptions{.warm_up = PndmWarmUp::runge_kutta}), 4, 12, sigma},
      // Stochastic.
      {"DDIM eta 0.5", plan_of(DdimOptions{.eta = 0.5})},
      {"DDPM", plan_of(DdpmOptions{})},
      {"DDPM large", plan_of(DdpmOptions{.variance = VarianceType::fixed_large})},
      {"Euler churn", plan_of(EulerOptions{.churn = churn})},
      {"Euler a", plan_of(EulerAncestralOptions{})},
      {"Heun churn", plan_of(HeunOptions{.churn = churn})},
      {"Heun restart", restarted},
      {"flow Heun churn", plan_of(FlowHeunOptions{.churn = churn})},
      {"flow ancestral", plan_of(FlowAncestralOptions{})},
      {"DPM2 a", plan_of(Dpm2Options{.eta = 1})},
      {"DPM++ SDE", plan_of(DpmSolverSdeOptions{})},
      {"DPM++ 2S a", plan_of(DpmSolverAncestralOptions{})},
      {"DPM++ 2S SDE", singlestep(2, data, 1)},
      {"DPM++ 2M SDE", sde(2, data)},
      {"DPM++ 2M SDE heun", sde(2, data, heun)},
      {"DPM++ 3M SDE", sde(3, data)},
      {"DPM-Solver 2M SDE", sde(2, noise)},
      {"CogVideoX DPM",
       [](const Grid& grid, const AnySchedule&) { return cogvideox_dpm_plan(grid, true); }},
      {"SA-Solver", sa(1, data)},
      {"SA-Solver noise, tau 0.3", sa(0.3, noise)},
      {"ER-SDE 3", er(3, true)},
      {"reverse SDE", plan_of(ReverseSdeOptions{.correct_steps = 0})},
      {"reverse SDE ancestral",
       plan_of(ReverseSdeOptions{.correct_steps = 0, .predictor = SdePredictor::ancestral})},
      {"predictor-corrector", plan_of(ReverseSdeOptions{})},
      {"Euler-Maruyama", plan_of(EulerMaruyamaOptions{})},
      // For networks that answer with clean data at once.
      {"LCM", plan_of(LcmOptions{})},
      {"TCD", plan_of(TcdOptions{})},
      {"consistency", plan_of(ConsistencyOptions{})},
  };
}

}  // namespace zoo

#endif  // DIFFUSION_TESTS_SAMPLER_ZOO_HPP
