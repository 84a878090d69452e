#ifndef DIFFUSION_SAMPLERS_ANY_SAMPLER_HPP
#define DIFFUSION_SAMPLERS_ANY_SAMPLER_HPP

#include <diffusion/samplers/consistency.hpp>
#include <diffusion/samplers/ddim.hpp>
#include <diffusion/samplers/ddpm.hpp>
#include <diffusion/samplers/deis.hpp>
#include <diffusion/samplers/dpm2.hpp>
#include <diffusion/samplers/dpm_solver.hpp>
#include <diffusion/samplers/dpm_solver_sde.hpp>
#include <diffusion/samplers/dpm_solver_singlestep.hpp>
#include <diffusion/samplers/er_sde.hpp>
#include <diffusion/samplers/euler.hpp>
#include <diffusion/samplers/flow.hpp>
#include <diffusion/samplers/gradient_estimation.hpp>
#include <diffusion/samplers/heun.hpp>
#include <diffusion/samplers/ipndm.hpp>
#include <diffusion/samplers/lcm.hpp>
#include <diffusion/samplers/lms.hpp>
#include <diffusion/samplers/pndm.hpp>
#include <diffusion/samplers/res.hpp>
#include <diffusion/samplers/sa_solver.hpp>
#include <diffusion/samplers/sde.hpp>
#include <diffusion/samplers/tcd.hpp>
#include <diffusion/samplers/unipc.hpp>

#include <concepts>
#include <functional>
#include <string>
#include <utility>
#include <variant>

/// A sampler that is chosen while the program runs, by its options or by a name.
namespace diffusion {

/// The options of any sampler: which alternative it holds says which sampler it is. Plain data:
/// threads may share what none of them writes.
using SamplerOptions =
    std::variant<DdimOptions, DdimInverseOptions, DdpmOptions, EulerOptions, EulerAncestralOptions,
                 HeunOptions, Dpm2Options, LmsOptions, DpmSolverOptions, DpmSolverSinglestepOptions,
                 DpmSolverAncestralOptions, DpmSolverSdeOptions, DeisOptions, UniPcOptions,
                 SaSolverOptions, PndmOptions, IpndmOptions, LcmOptions, ConsistencyOptions,
                 TcdOptions, FlowHeunOptions, FlowAncestralOptions, ReverseSdeOptions,
                 EulerMaruyamaOptions, ErSdeOptions, ResOptions, ResSinglestepOptions,
                 GradientEstimationOptions>;

/// What samplers need of a schedule, whatever its type: grids, and levels between their knots.
/// Immutable; safe to share between threads.
class AnySchedule {
 public:
  /// Any schedule, discrete or continuous; it is copied.
  template <class S>
  explicit AnySchedule(const S& schedule) {
    detail::require_schedule<S>();
    discrete_ = DiscreteSchedule<S>;
    grid_ = [schedule](int steps, const GridOptions& options) {
      return make_grid(schedule, steps, options);
    };
    between_ = [schedule](const Grid& grid) { return knots_between(schedule, grid); };
    knot_ = [schedule](double share) {
      const double first = schedule.first_time(), last = schedule.last_time();
      return knot_at(schedule, first + share * (last - first));
    };
    tcd_ = [schedule](const Grid& grid, const TcdOptions& options) {
      return TcdSampler<S>(schedule, options).plan(grid);
    };
  }

  /// `make_grid` of the schedule.
  Grid grid(int steps, const GridOptions& options = {}) const { return grid_(steps, options); }
  /// `knots_between` of the schedule and a grid.
  KnotAt between(const Grid& grid) const { return between_(grid); }
  /// The knot at a share of the schedule's times, 0: the least noise, 1: the most.
  Knot knot(double share) const { return knot_(share); }
  /// Whether the schedule was made of training timesteps.
  bool discrete() const { return discrete_; }
  /// The plan of TCD, whose steps jump to other times of the schedule.
  SamplingPlan plan(const Grid& grid, const TcdOptions& options) const {
    return tcd_(grid, options);
  }

 private:
  std::function<Grid(int, const GridOptions&)> grid_;
  std::function<KnotAt(const Grid&)> between_;
  std::function<Knot(double)> knot_;
  bool discrete_ = false;
  std::function<SamplingPlan(const Grid&, const TcdOptions&)> tcd_;
};

/// The plan of any sampler on a grid of a schedule; the options' own `steps` and `grid` are not
/// read. Fails as the sampler does.
inline SamplingPlan make_plan(const Grid& grid, const SamplerOptions& options,
                              const AnySchedule& schedule) {
  return std::visit(
      [&](const auto& one) {
        if constexpr (requires { make_plan(grid, one, KnotAt{}); })
          return make_plan(grid, one, schedule.between(grid));
        else if constexpr (requires { make_plan(grid, one); })
          return make_plan(grid, one);
        else
          return schedule.plan(grid, one);
      },
      options);
}

/// A sampler chosen while the program runs, on a schedule: plans of any number of steps. Immutable;
/// safe to share between threads.
class AnySampler {
 public:
  /// `options.grid` picks the levels; `options.steps` is what `plan()` takes.
  AnySampler(AnySchedule schedule, SamplerOptions options, std::string name = {})
      : schedule_(std::move(schedule)), options_(std::move(options)), name_(std::move(name)) {}
  /// The same on any schedule.
  template <class S>
  requires(!std::same_as<S, AnySchedule>)
      AnySampler(const S& schedule, SamplerOptions options, std::string name = {})
      : AnySampler(AnySchedule(schedule), std::move(options), std::move(name)) {}

  /// What it was called when it was made; may be empty.
  const std::string& name() const { return name_; }
  const SamplerOptions& options() const { return options_; }
  /// The options' own number of steps, >= 1.
  int steps() const {
    return std::visit([](const auto& one) { return one.steps; }, options_);
  }
  /// Which levels the options pick.
  const GridOptions& grid_options() const {
    return std::visit([](const auto& one) -> const GridOptions& { return one.grid; }, options_);
  }

  /// The grid of that many steps.
  Grid grid(int steps) const { return schedule_.grid(steps, grid_options()); }
  Grid grid() const { return grid(steps()); }
  /// The plan of that many steps of the grid.
  SamplingPlan plan(int steps) const { return plan(grid(steps)); }
  SamplingPlan plan() const { return plan(steps()); }
  /// The plan on a grid of one's own, such as a part of `grid(n)` for image to image.
  SamplingPlan plan(const Grid& grid) const { return make_plan(grid, options_, schedule_); }

 private:
  AnySchedule schedule_;
  SamplerOptions options_;
  std::string name_;
};

}  // namespace diffusion

#endif  // DIFFUSION_SAMPLERS_ANY_SAMPLER_HPP
