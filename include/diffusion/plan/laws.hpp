#ifndef DIFFUSION_PLAN_LAWS_HPP
#define DIFFUSION_PLAN_LAWS_HPP

#include <diffusion/plan/plan.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>
#include <vector>

namespace diffusion {

/// How far a plan is from the three laws that a correct sampler keeps, the worst over its stages.
///
/// The plan is run on data that is one point c, whose exact denoiser always answers x0 = c. The
/// state is then a row of weights on c, on the initial noise and on every draw:
///  - mean:       the weight of c is alpha of the stage's resulting knot;
///  - variance:   the squares of the other weights sum to its sigma^2;
///  - continuity: a stage ends at the level where the next begins.
///
/// Plain data: threads may share what none of them writes.
struct Laws {
  double mean = 0;        ///< largest |weight of c - alpha|
  double variance = 0;    ///< largest |sum of squares - sigma^2|
  double continuity = 0;  ///< largest difference of alpha or sigma between `to` and the next `at`
  double worst() const { return (std::max)({mean, variance, continuity}); }
};

namespace detail {

using Weights = std::vector<double>;  // on c, on the initial noise, on draw 0, draw 1, ...

inline void add(Weights& sum, double weight, const Weights& part) {
  if (weight == 0) return;
  for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += weight * part[i];
}

inline void compare(Laws& laws, const Weights& x, const Knot& to) {
  double variance = 0;
  for (std::size_t i = 1; i < x.size(); ++i) variance += x[i] * x[i];
  laws.mean = (std::max)(laws.mean, std::abs(x[0] - to.alpha));
  laws.variance = (std::max)(laws.variance, std::abs(variance - to.sigma * to.sigma));
}

}  // namespace detail

/// Runs a plan on a point mass, symbolically. Clipping, learned variance (taken as factor 1),
/// weights on raw outputs or a history of these (they depend on the prediction type), and Langevin
/// stages, whose weights depend on data, are outside the laws. Cost: stages * draws.
inline Laws check_laws(const PlanView& plan) {
  if (plan.stages.empty()) fail("the plan has 0 stages; it needs at least 1");
  const auto draws = static_cast<std::size_t>(plan.draws());
  const auto slots = static_cast<std::size_t>(plan.traits.slots);
  detail::Weights x(2 + draws), saved(2 + draws), c(2 + draws);
  std::vector<detail::Weights> history(slots, detail::Weights(2 + draws));
  c[0] = 1;
  x[0] = plan.stages.front().at.alpha;
  x[1] = plan.stages.front().at.sigma;

  Laws laws;
  const Stage* before = nullptr;
  for (const Stage& stage : plan.stages) {
    if (before) {
      laws.continuity = (std::max)({laws.continuity, std::abs(before->to.alpha - stage.at.alpha),
                                    std::abs(before->to.sigma - stage.at.sigma)});
    }
    before = &stage;
    if (stage.save) saved = x;
    detail::Weights eps(2 + draws);  // (x - alpha c) / sigma
    if (stage.at.sigma != 0) {
      detail::add(eps, 1 / stage.at.sigma, x);
      detail::add(eps, -stage.at.alpha / stage.at.sigma, c);
    } else {
      eps[1] = 1;  // its limit at clean data, where an inversion starts: the initial noise
    }
    detail::Weights next(2 + draws);
    detail::add(next, stage.x, x);
    detail::add(next, stage.x0, c);
    detail::add(next, stage.eps, eps);
    detail::add(next, stage.saved, saved);
    for (const Term& term : stage.history)
      if (term.source >= 0)
        detail::add(next, term.weight, history[static_cast<std::size_t>(term.source)]);
    for (const Term& term : stage.noise)
      if (term.source >= 0) next[2 + static_cast<std::size_t>(term.source)] += term.weight;
    if (stage.keep >= 0)
      history[static_cast<std::size_t>(stage.keep)] = plan.traits.basis == Basis::x0 ? c : eps;
    x = std::move(next);
    detail::compare(laws, x, stage.to);
  }
  return laws;
}

/// The same for a plan.
inline Laws check_laws(const SamplingPlan& plan) { return check_laws(plan.view()); }

}  // namespace diffusion

#endif  // DIFFUSION_PLAN_LAWS_HPP
