#ifndef DIFFUSION_SAMPLERS_SAMPLER_HPP
#define DIFFUSION_SAMPLERS_SAMPLER_HPP

#include <diffusion/plan/plan.hpp>
#include <diffusion/schedule/grid.hpp>
#include <diffusion/schedule/schedule.hpp>

#include <cmath>
#include <utility>

namespace diffusion {

/// What every sampler is made of: a schedule and options that hold `steps` and `grid`. A sampler
/// adds `plan(grid)`, an ordinary function of a grid and the options, and `plan()`, which makes
/// the grid itself. Immutable; safe to share between threads.
template <class S, class Options>
class GridSampler {
  static_assert((detail::require_schedule<S>(), true));

 public:
  const S& schedule() const { return schedule_; }
  const Options& options() const { return options_; }
  Grid grid() const { return make_grid(schedule_, options_.steps, options_.grid); }

 protected:
  GridSampler(S schedule, Options options)
      : schedule_(std::move(schedule)), options_(std::move(options)) {}

 private:
  S schedule_;
  Options options_;
};

namespace detail {

/// The standard deviation of the state's distribution for data of unit variance: what the initial
/// noise is multiplied with. 1 on every variance-preserving schedule.
inline double initial_scale(const Knot& start) {
  const double scale = std::hypot(start.alpha, start.sigma);
  return std::abs(scale - 1) < 1e-6 ? 1 : scale;
}

/// A stage that asks once and goes from one knot of the grid to the next.
inline Stage stage_of(const Grid& grid, int i) {
  Stage stage;
  stage.at = grid[i].from;
  stage.to = grid[i].to;
  stage.step = grid.first_step() + i;
  return stage;
}

/// `fresh_share` of a step that adds noise, which must not lead to more of it.
inline double noise_share(const Stage& row, int step) {
  const double share = fresh_share(row.at, row.to);
  if (!(share >= 0))
    fail(text("step ", step, " of the grid goes from sigma / alpha = ", row.at.sigma, " / ",
              row.at.alpha, " to ", row.to.sigma, " / ", row.to.alpha,
              "; a sampler that adds noise needs a step to less of it (or DDIM with eta = 0)"));
  return share;
}

/// Gives a stage one noise term of the plan's next draw; a weight of zero only consumes the draw.
inline void add_noise_term(Stage& stage, double weight, int& drawn) {
  if (weight != 0) stage.noise[0] = {drawn, weight};
  stage.draws = 1;
  ++drawn;
}

}  // namespace detail
}  // namespace diffusion

#endif  // DIFFUSION_SAMPLERS_SAMPLER_HPP
