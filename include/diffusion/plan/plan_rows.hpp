#ifndef DIFFUSION_PLAN_PLAN_ROWS_HPP
#define DIFFUSION_PLAN_PLAN_ROWS_HPP

#include <diffusion/error.hpp>
#include <diffusion/plan/plan.hpp>
#include <diffusion/schedule/grid.hpp>

#include <cmath>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

namespace diffusion {

namespace detail {

/// What the initial noise is multiplied with: what the grid says, or the deviation of the state for
/// data of unit variance, which is 1 on every variance-preserving schedule.
inline double initial_scale(const Grid& grid) {
  if (grid.space().initial_scale > 0) return grid.space().initial_scale;
  const double scale = std::hypot(grid.start().alpha, grid.start().sigma);
  return std::abs(scale - 1) < 1e-6 ? 1 : scale;
}

}  // namespace detail

/// The rows of a plan in the making: counts estimates and draws, so that a sampler says "the
/// estimate of one ask ago" and "fresh noise" and never a number. Refers to the grid, which must
/// outlive it. Not thread-safe: it grows; one per plan.
class PlanRows {
 public:
  /// `basis` is what the sampler weighs and keeps: x0, eps or the raw output.
  PlanRows(const Grid& grid, Basis basis) : grid_(grid), basis_(basis) {}

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
  /// The same with DDIM's row, which carries both estimates on: x' = alpha' x0 + sigma' eps.
  Stage& ddim(int i) { return ddim(i, grid_[i].from, grid_[i].to); }
  Stage& ddim(int i, const Knot& at, const Knot& to) {
    Stage& row = ask(i, at, to);
    row.x0 = to.alpha;
    row.eps = to.sigma;
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
    fail(detail::text("a row of the plan reads more than ", max_history, " earlier estimates"));
  }
  /// Weights on the newest estimate, the one before, and so on, times `factor`.
  void weigh(std::span<const double> weights, double factor = 1) {
    for (std::size_t age = 0; age < weights.size(); ++age)
      weigh(static_cast<int>(age), factor * weights[age]);
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
    fail(detail::text("a row of the plan reads more than ", max_noise, " draws of noise"));
  }

  /// The plan; `traits` needs no basis and no initial scale.
  SamplingPlan plan(PlanTraits traits = {}) && {
    traits.basis = basis_;
    traits.initial_scale = detail::initial_scale(grid_);
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

}  // namespace diffusion

#endif  // DIFFUSION_PLAN_PLAN_ROWS_HPP
