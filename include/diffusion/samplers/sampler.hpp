#ifndef DIFFUSION_SAMPLERS_SAMPLER_HPP
#define DIFFUSION_SAMPLERS_SAMPLER_HPP

#include <diffusion/error.hpp>
#include <diffusion/plan/plan_rows.hpp>
#include <diffusion/schedule/grid.hpp>
#include <diffusion/schedule/schedule.hpp>

#include <functional>
#include <utility>

namespace diffusion {

/// The knot of a level that lies between those of a grid, by its log(alpha^2 / sigma^2): for
/// samplers that ask the network in the middle of a step.
using KnotAt = std::function<Knot(double log_snr)>;

/// The knots of a schedule, written down as the grid's are: as they are, or, on a grid in sigma
/// space (alpha = 1), divided by alpha. Levels beyond the schedule's ends are its ends.
template <class S>
KnotAt knots_between(const S& schedule, const Grid& grid) {
  const bool sigma_space = grid.start().alpha == 1 && grid.start().sigma > 0;
  return [schedule, sigma_space](double log_snr) {
    const Knot knot = knot_at(schedule, schedule.time(log_snr));
    return sigma_space ? Knot{knot.t, 1, knot.sigma / knot.alpha} : knot;
  };
}

/// What every sampler is made of: a schedule and options that hold `steps` and `grid`. A sampler
/// adds an ordinary function of a grid and the options, `make_plan(grid, options)`; with stages
/// between the grid's knots, `make_plan(grid, options, knot_at)`. Immutable; safe to share between
/// threads.
template <class S, class Options>
class GridSampler {
  static_assert((detail::require_schedule<S>(), true));

 public:
  /// Options are checked when a grid or plan is made.
  explicit GridSampler(S schedule, Options options = {})
      : schedule_(std::move(schedule)), options_(std::move(options)) {}

  const S& schedule() const { return schedule_; }
  const Options& options() const { return options_; }
  /// The grid that the options ask for.
  Grid grid() const { return make_grid(schedule_, options_.steps, options_.grid); }
  /// The plan on that grid.
  SamplingPlan plan() const { return plan(grid()); }
  /// The plan on a grid of one's own, such as a part of `grid()` for image to image.
  SamplingPlan plan(const Grid& grid) const {
    if constexpr (requires { make_plan(grid, options_, KnotAt{}); })
      return make_plan(grid, options_, knots_between(schedule_, grid));
    else
      return make_plan(grid, options_);
  }

 private:
  S schedule_;
  Options options_;
};

namespace detail {

/// `fresh_share` of a step that adds noise, which must not lead to more of it.
inline double noise_share(const GridStep& step, int i) {
  const double share = fresh_share(step.from, step.to);
  if (!(share >= 0))
    fail(text("step ", i, " of the grid goes from sigma / alpha = ", step.from.sigma, " / ",
              step.from.alpha, " to ", step.to.sigma, " / ", step.to.alpha,
              "; a sampler that adds noise needs a step to less of it (or DDIM with eta = 0)"));
  return share;
}

/// Fails where a sampler with stages between the grid's knots was not told how to find them.
inline void require_knots(const KnotAt& knot_at, const char* sampler) {
  if (!knot_at) fail(text(sampler, " needs the knots between those of the grid: a KnotAt"));
}

[[noreturn]] inline void fail_at_pure_noise(const char* method, int step) {
  fail(text("step ", step, " of the grid starts at alpha = 0, where ", method,
            " needs sigma / alpha; start from a level with some signal"));
}

}  // namespace detail
}  // namespace diffusion

#endif  // DIFFUSION_SAMPLERS_SAMPLER_HPP
