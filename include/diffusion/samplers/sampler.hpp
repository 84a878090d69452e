#ifndef DIFFUSION_SAMPLERS_SAMPLER_HPP
#define DIFFUSION_SAMPLERS_SAMPLER_HPP

#include <diffusion/plan/plan.hpp>
#include <diffusion/schedule/grid.hpp>
#include <diffusion/schedule/schedule.hpp>

#include <cmath>
#include <cstddef>
#include <functional>
#include <span>
#include <utility>
#include <vector>

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

/// What the initial noise is multiplied with: what the grid says, or the deviation of the state for
/// data of unit variance, which is 1 on every variance-preserving schedule.
inline double initial_scale(const Grid& grid) {
  if (grid.space().initial_scale > 0) return grid.space().initial_scale;
  const double scale = std::hypot(grid.start().alpha, grid.start().sigma);
  return std::abs(scale - 1) < 1e-6 ? 1 : scale;
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

/// The rows of a plan in the making: counts estimates and draws, so that a sampler says "the
/// estimate of one ask ago" and "fresh noise" and never a number.
class Rows {
 public:
  /// `basis` is what the sampler weighs and keeps: x0, eps or the raw output.
  Rows(const Grid& grid, Basis basis) : grid_(grid), basis_(basis) {}

  /// A stage of step i of the grid that asks at its `from` and leads to its `to`. The reference is
  /// valid until the next stage is made; all weights are 0.
  Stage& ask(int i) { return ask(i, grid_[i].from, grid_[i].to); }
  /// The same between other knots.
  Stage& ask(int i, const Knot& at, const Knot& to) {
    Stage& row = add(i, at, to);
    row.input_scale = grid_.input_scale(at);
    ++asked_;
    return row;
  }
  /// A stage that does not ask: churn, jumps.
  Stage& move(int i, const Knot& at, const Knot& to) {
    Stage& row = add(i, at, to);
    row.ask = false;
    return row;
  }

  /// How many estimates have been made, that of the newest stage included.
  int asked() const { return asked_; }

  /// Adds a weight to the estimate that was made `age` asks ago; 0: by the newest stage itself.
  void weigh(int age, double weight) {
    Stage& row = rows_.back();
    if (age == 0) {
      (basis_ == Basis::x0 ? row.x0 : basis_ == Basis::eps ? row.eps : row.raw) += weight;
      return;
    }
    if (weight == 0) return;
    const int number = asked_ - age - (row.ask ? 1 : 0);
    for (Term& term : row.history)
      if (term.source < 0 || term.source == number) {
        term = {number, term.weight + weight};
        return;
      }
    fail(text("a row of the plan reads more than ", max_history, " earlier estimates"));
  }
  /// Weights on the newest estimate, the one before, and so on.
  void weigh(std::span<const double> weights) {
    for (std::size_t age = 0; age < weights.size(); ++age)
      weigh(static_cast<int>(age), weights[age]);
  }

  /// Fresh noise for the newest stage. A weight of zero only consumes the draw. Returns the draw's
  /// number, for `again`.
  int noise(double weight) {
    Stage& row = rows_.back();
    ++row.draws;
    if (weight != 0) again(drawn_, weight);
    return drawn_++;
  }
  /// The noise of an earlier draw.
  void again(int draw, double weight) {
    for (Term& term : rows_.back().noise)
      if (term.source < 0) {
        term = {draw, weight};
        return;
      }
    fail(text("a row of the plan reads more than ", max_noise, " draws of noise"));
  }

  /// The plan; `traits` needs no basis and no initial scale.
  SamplingPlan plan(PlanTraits traits = {}) && {
    traits.basis = basis_;
    traits.initial_scale = initial_scale(grid_);
    return SamplingPlan(std::move(rows_), traits);
  }

 private:
  Stage& add(int i, const Knot& at, const Knot& to) {
    Stage row;
    row.at = at;
    row.to = to;
    row.step = grid_.first_step() + i;
    rows_.push_back(row);
    return rows_.back();
  }

  const Grid& grid_;
  Basis basis_;
  std::vector<Stage> rows_;
  int asked_ = 0;
  int drawn_ = 0;
};

}  // namespace detail
}  // namespace diffusion

#endif  // DIFFUSION_SAMPLERS_SAMPLER_HPP
