#ifndef DIFFUSION_EXAMPLES_COMPARED_SAMPLERS_HPP
#define DIFFUSION_EXAMPLES_COMPARED_SAMPLERS_HPP

#include <diffusion/samplers/ddim.hpp>
#include <diffusion/samplers/ddpm.hpp>
#include <diffusion/samplers/deis.hpp>
#include <diffusion/samplers/dpm2.hpp>
#include <diffusion/samplers/dpm_solver.hpp>
#include <diffusion/samplers/dpm_solver_sde.hpp>
#include <diffusion/samplers/dpm_solver_singlestep.hpp>
#include <diffusion/samplers/er_sde.hpp>
#include <diffusion/samplers/euler.hpp>
#include <diffusion/samplers/gradient_estimation.hpp>
#include <diffusion/samplers/heun.hpp>
#include <diffusion/samplers/ipndm.hpp>
#include <diffusion/samplers/lcm.hpp>
#include <diffusion/samplers/lms.hpp>
#include <diffusion/samplers/pndm.hpp>
#include <diffusion/samplers/res.hpp>
#include <diffusion/samplers/restart.hpp>
#include <diffusion/samplers/sa_solver.hpp>
#include <diffusion/samplers/sde.hpp>
#include <diffusion/samplers/tcd.hpp>
#include <diffusion/samplers/unipc.hpp>

#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace examples {

/// What a sampler is compared with: its own kind.
enum class Kind {
  multistep_x0,   ///< one call a step, earlier estimates of x0
  multistep_eps,  ///< one call a step, earlier estimates of the noise
  single_step,    ///< several calls a step, no history
  stochastic,     ///< adds noise, one call a step
  stochastic_two  ///< adds noise, two or more calls a step
};

/// A sampler with its usual options on one schedule: plans of any number of steps on any grid.
template <class S>
struct ComparedSampler {
  std::string name;
  Kind kind;
  std::function<diffusion::SamplingPlan(const S& schedule, int steps,
                                        const diffusion::GridOptions& grid)>
      plan;

  bool stochastic() const { return kind == Kind::stochastic || kind == Kind::stochastic_two; }

  /// The plan of the most steps that costs at most `calls` network calls; none: even a single step
  /// costs more, or the method refuses so few.
  std::optional<diffusion::SamplingPlan> within(const S& schedule, int calls,
                                                const diffusion::GridOptions& grid) const {
    for (int steps = calls; steps >= 1; --steps) {
      try {
        diffusion::SamplingPlan made = plan(schedule, steps, grid);
        if (made.network_calls() <= calls) return made;
      } catch (const diffusion::Error&) {
        return std::nullopt;
      }
    }
    return std::nullopt;
  }
};

/// How `Sampler` plans with these options, but for the number of steps and the grid.
template <class S, template <class> class Sampler, class Options>
auto plans_of(Options options) {
  return [options](const S& schedule, int steps, const diffusion::GridOptions& grid) {
    Options chosen = options;
    chosen.steps = steps;
    chosen.grid = grid;
    return Sampler<S>{schedule, chosen}.plan();
  };
}

/// Heun with one restart from s = 0.1 to 0.3 and three steps down again.
template <class S>
auto restarted_heun() {
  return [](const S& schedule, int steps, const diffusion::GridOptions& grid) {
    const diffusion::HeunSampler<S> heun{schedule, {.steps = steps, .grid = grid}};
    return diffusion::restart_plan(heun);
  };
}

/// The samplers that the comparing programs show.
template <class S>
std::vector<ComparedSampler<S>> compared_samplers() {
  using namespace diffusion;
  const Churn churn{.amount = 10, .s_min = 0.05, .s_max = 50};
  return {
      {"DDIM", Kind::multistep_x0, plans_of<S, DdimSampler>(DdimOptions{})},
      {"DPM++ 2M", Kind::multistep_x0, plans_of<S, DpmSolverSampler>(DpmSolverOptions{})},
      {"DPM++ 3M", Kind::multistep_x0, plans_of<S, DpmSolverSampler>(DpmSolverOptions{.order = 3})},
      {"UniPC 2", Kind::multistep_x0, plans_of<S, UniPcSampler>(UniPcOptions{})},
      {"UniPC 3", Kind::multistep_x0, plans_of<S, UniPcSampler>(UniPcOptions{.order = 3})},
      {"RES 2M", Kind::multistep_x0, plans_of<S, ResSampler>(ResOptions{})},
      {"gradient estimation", Kind::multistep_x0,
       plans_of<S, GradientEstimationSampler>(GradientEstimationOptions{})},

      {"DPM-Solver 2M", Kind::multistep_eps,
       plans_of<S, DpmSolverSampler>(DpmSolverOptions{.form = SolverForm::noise})},
      {"DEIS 3", Kind::multistep_eps, plans_of<S, DeisSampler>(DeisOptions{})},
      {"LMS 4", Kind::multistep_eps, plans_of<S, LmsSampler>(LmsOptions{})},
      {"iPNDM 4", Kind::multistep_eps, plans_of<S, IpndmSampler>(IpndmOptions{})},
      {"PLMS", Kind::multistep_eps, plans_of<S, PndmSampler>(PndmOptions{})},
      {"PNDM", Kind::multistep_eps,
       plans_of<S, PndmSampler>(PndmOptions{.warm_up = PndmWarmUp::runge_kutta})},

      {"Heun", Kind::single_step, plans_of<S, HeunSampler>(HeunOptions{})},
      {"DPM2", Kind::single_step, plans_of<S, Dpm2Sampler>(Dpm2Options{})},
      {"DPM++ 2S", Kind::single_step,
       plans_of<S, DpmSolverSinglestepSampler>(DpmSolverSinglestepOptions{})},
      {"DPM++ 3S", Kind::single_step,
       plans_of<S, DpmSolverSinglestepSampler>(DpmSolverSinglestepOptions{.order = 3})},
      {"RES 2S", Kind::single_step, plans_of<S, ResSinglestepSampler>(ResSinglestepOptions{})},

      {"DDPM, Euler a", Kind::stochastic,
       plans_of<S, EulerAncestralSampler>(EulerAncestralOptions{})},
      {"DPM++ 2M SDE", Kind::stochastic, plans_of<S, DpmSolverSampler>(DpmSolverOptions{.eta = 1})},
      {"DPM++ 3M SDE", Kind::stochastic,
       plans_of<S, DpmSolverSampler>(DpmSolverOptions{.order = 3, .eta = 1})},
      {"SA-Solver", Kind::stochastic, plans_of<S, SaSolverSampler>(SaSolverOptions{})},
      {"ER-SDE 3", Kind::stochastic, plans_of<S, ErSdeSampler>(ErSdeOptions{})},
      {"Euler-Maruyama", Kind::stochastic,
       plans_of<S, EulerMaruyamaSampler>(EulerMaruyamaOptions{})},
      {"LCM", Kind::stochastic, plans_of<S, LcmSampler>(LcmOptions{})},
      {"TCD", Kind::stochastic, plans_of<S, TcdSampler>(TcdOptions{})},

      {"Heun, churn 10", Kind::stochastic_two,
       plans_of<S, HeunSampler>(HeunOptions{.churn = churn})},
      {"Heun, restart", Kind::stochastic_two, restarted_heun<S>()},
      {"DPM2 a", Kind::stochastic_two, plans_of<S, Dpm2Sampler>(Dpm2Options{.eta = 1})},
      {"DPM++ 2S a", Kind::stochastic_two,
       plans_of<S, DpmSolverAncestralSampler>(DpmSolverAncestralOptions{})},
      {"DPM++ SDE", Kind::stochastic_two, plans_of<S, DpmSolverSdeSampler>(DpmSolverSdeOptions{})},
      {"predictor-corrector", Kind::stochastic_two,
       plans_of<S, ReverseSdeSampler>(ReverseSdeOptions{})},
  };
}

}  // namespace examples

#endif  // DIFFUSION_EXAMPLES_COMPARED_SAMPLERS_HPP
