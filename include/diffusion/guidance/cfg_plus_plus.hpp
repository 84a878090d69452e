#ifndef DIFFUSION_GUIDANCE_CFG_PLUS_PLUS_HPP
#define DIFFUSION_GUIDANCE_CFG_PLUS_PLUS_HPP

#include <diffusion/guidance/classifier_free.hpp>

#include <cmath>

namespace diffusion {

/// The scale g with which classifier-free guidance takes the step of CFG++ from the level `at` to
/// the level `to`: lambda s / (s - s') with s = sigma / alpha. A stage that does not change s has
/// no such step: lambda itself.
inline double cfg_plus_plus_scale(double lambda, const Knot& at, const Knot& to) {
  const double noise = at.sigma * to.alpha, step = noise - to.sigma * at.alpha;
  constexpr double rounding = 1e-12;  // a fused multiply-add leaves some where nothing moves
  return std::abs(step) <= rounding * noise ? lambda : lambda * (noise / step);
}

/// The rule of CFG++ (Chung et al. 2024, arXiv 2406.08070): a DDIM step whose x0 comes
/// from u + lambda (c - u), but whose noise comes from u,
///
///     x' = alpha' x0(u + lambda (c - u)) + sigma' eps(u).
///
/// That is the step of classifier-free guidance with g = lambda s / (s - s'), large where steps are
/// small beside the noise and lambda in the last step to clean data; so it is a rule that works
/// with every sampler and type of prediction. GuidanceOptions::scale is lambda, usually 0 to 1; at
/// lambda = 0 only u counts. Exactly the paper's for DDIM with eta = 0 and for Euler. Elsewhere it
/// is guidance with that scale in each stage: multistep samplers carry the guided estimates of
/// earlier steps on, samplers with noise lead to less noise than s' before they add theirs, and the
/// second ask of Heun's method, at a level where the stage ends too, has g = lambda. Needs one
/// level for all parts of a sample. Immutable; safe to share between threads.
class CfgPlusPlusRule : public TwoBranchRule {
 public:
  explicit CfgPlusPlusRule(GuidanceOptions options) : TwoBranchRule(std::move(options)) {
    detail::require_convention_g("CfgPlusPlusRule", this->options());
  }

  bool asks(std::size_t branch, const Query& query, std::size_t batch) const {
    return branch == main() || detail::any_inside(options(), query, batch);
  }

  template <class S>
  void operator()(const BranchPredictions<S>& f, S* out) const {
    const Query& query = f.query();
    if (!f[0] || !detail::holds(options().interval, query)) return detail::answer(f, main(), out);
    if (!query.times.empty() || detail::is_nan(query.to_sigma))
      fail("CfgPlusPlusRule needs the level to which a stage leads; slices differ in theirs");
    const double lambda = detail::plain_scale(options(), query, f.sample());
    const double g = cfg_plus_plus_scale(lambda, {query.t, query.alpha, query.sigma},
                                         {0, query.to_alpha, query.to_sigma});
    detail::go(f[0], {{f[1], f[0], g}}, out, f.size());
  }
};

}  // namespace diffusion

#endif  // DIFFUSION_GUIDANCE_CFG_PLUS_PLUS_HPP
