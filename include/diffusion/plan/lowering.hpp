#ifndef DIFFUSION_PLAN_LOWERING_HPP
#define DIFFUSION_PLAN_LOWERING_HPP

#include <diffusion/denoiser/prediction_type.hpp>
#include <diffusion/plan/plan.hpp>

#include <limits>

namespace diffusion {

/// A weighted sum of the three vectors that an ask leaves: the state x, the network's output f,
/// and the clipped estimate d = clip(a x + b f). Plain data: threads may share what none of them
/// writes.
struct Combination {
  double x = 0;
  double f = 0;
  double d = 0;
};

/// A stage folded for one prediction type: x0 and eps are gone, only x, f and (if the plan clips)
/// d remain. History, noise and saved state keep the stage's own weights. Plain data: threads may
/// share what none of them writes.
struct LoweredStage {
  Combination result;    ///< this ask's part of the new state
  Combination kept;      ///< the estimate that goes to slot `keep`
  Combination estimate;  ///< x0 itself, clipped where the plan clips: previews
  double a = 0, b = 0;   ///< d = clip(a x + b f)
  bool clips = false;    ///< whether d is needed for result or kept
};

namespace detail {

/// Adds weight * (on_x x + on_f f + on_d d) to a combination. A zero weight adds nothing, even
/// where the coefficients are infinite; a weight on an undefined estimate fails.
inline void add(Combination& sum, double weight, const Combination& part, const Stage& stage,
                PredictionType type, const char* what) {
  if (weight == 0) return;
  if (!is_finite(part.x) || !is_finite(part.f) || !is_finite(part.d))
    fail(text(what, " is undefined for prediction type ", name(type), " at t = ", stage.at.t,
              " (alpha = ", stage.at.alpha, ", sigma = ", stage.at.sigma,
              "); use a prediction type that is finite there (v at both ends), or a schedule or "
              "timesteps that stop short of it"));
  sum.x += weight * part.x;
  sum.f += weight * part.f;
  sum.d += weight * part.d;
}

}  // namespace detail

/// Folds the estimates of one stage into weights on x, f and d. Fails where the stage weighs an
/// estimate that the prediction type leaves undefined at its level.
inline LoweredStage lower(const Stage& stage, const PlanTraits& traits, PredictionType type) {
  LoweredStage row;
  row.result.x = stage.x;
  if (!stage.ask) return row;
  row.result.f = stage.raw;

  const Conversion c = conversion(type, stage.at, stage.input_scale);
  const double alpha = stage.at.alpha;
  const double sigma = stage.at.sigma;
  const bool clips = traits.clipping.kind != Clipping::Kind::none;
  const bool defined = detail::is_finite(c.a) && detail::is_finite(c.b);
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const Combination x0 = !clips    ? Combination{c.a, c.b, 0}
                         : defined ? Combination{0, 0, 1}
                                   : Combination{nan, nan, nan};
  const Combination eps = !clips || traits.epsilon_rule == EpsilonRule::raw
                              ? Combination{c.p, c.q, 0}
                          : defined ? Combination{1 / sigma, 0, -alpha / sigma}
                                    : Combination{nan, nan, nan};

  detail::add(row.result, stage.x0, x0, stage, type, "x0");
  detail::add(row.result, stage.eps, eps, stage, type, "eps");
  if (stage.keep >= 0) {
    if (traits.basis == Basis::x0) detail::add(row.kept, 1, x0, stage, type, "x0");
    if (traits.basis == Basis::eps) detail::add(row.kept, 1, eps, stage, type, "eps");
    if (traits.basis == Basis::raw) row.kept.f = 1;
  }
  row.a = c.a;
  row.b = c.b;
  row.estimate = x0;
  row.clips = row.result.d != 0 || row.kept.d != 0;
  return row;
}

}  // namespace diffusion

#endif  // DIFFUSION_PLAN_LOWERING_HPP
