#ifndef DIFFUSION_PLAN_JOIN_HPP
#define DIFFUSION_PLAN_JOIN_HPP

#include <diffusion/error.hpp>
#include <diffusion/plan/plan.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace diffusion {

/// Plans run one after another as one plan, with stages of one's own between them. Each part keeps
/// its history to itself: a multistep method starts anew in every part. Not thread-safe; the plan
/// that it makes is.
class PlanJoin {
 public:
  /// Adds a plan. Fails where its basis, epsilon rule or clipping is not that of the others.
  void add(const SamplingPlan& plan) {
    PlanTraits traits = plan.traits();
    if (rows_.empty()) {
      traits_ = traits;
    } else {
      traits.initial_scale = traits_.initial_scale;
      traits.slots = traits_.slots;
      if (traits != traits_)
        fail("plans that are joined must have one basis, one epsilon rule and one clipping");
    }
    const int first = plan[0].step, begins = steps_;
    const std::int32_t draws = draws_;
    std::vector<std::int32_t> estimate_in(static_cast<std::size_t>(plan.traits().slots), -1);
    for (Stage row : plan.stages()) {
      for (Term& term : row.history)  // from slots back to numbers
        if (term.source >= 0) term.source = estimate_in[static_cast<std::size_t>(term.source)];
      for (Term& term : row.noise)
        if (term.source >= 0) term.source += draws;
      if (row.keep >= 0) estimate_in[static_cast<std::size_t>(row.keep)] = estimates_;
      row.step = begins + row.step - first;
      steps_ = row.step + 1;
      estimates_ += row.ask ? 1 : 0;
      draws_ += row.draws;
      rows_.push_back(row);
    }
  }

  /// Adds a stage that leads to more noise, without asking: x' = (alpha' / alpha) x + s n, with the
  /// variance that the level `to` has for one-point data, times s_noise^2. It belongs to the step
  /// that follows.
  void add_noise(const Knot& from, const Knot& to, double s_noise = 1) {
    const double share = detail::fresh_share(to, from);
    if (from.alpha == 0 || !(share >= 0))
      fail(detail::text("a jump goes from sigma / alpha = ", from.sigma, " / ", from.alpha, " to ",
                        to.sigma, " / ", to.alpha, "; it must lead to more noise"));
    Stage row;
    row.ask = false;
    row.at = from;
    row.to = to;
    row.x = to.alpha / from.alpha;
    row.draws = 1;
    row.noise[0] = {draws_++, s_noise * to.sigma * std::sqrt(share)};
    row.step = steps_;
    rows_.push_back(row);
  }

  /// The plan of all that was added.
  SamplingPlan plan() && { return SamplingPlan(std::move(rows_), traits_); }

 private:
  std::vector<Stage> rows_;
  PlanTraits traits_;
  std::int32_t steps_ = 0, estimates_ = 0, draws_ = 0;
};

}  // namespace diffusion

#endif  // DIFFUSION_PLAN_JOIN_HPP
