#ifndef DIFFUSION_GUIDANCE_ZERO_STAR_HPP
#define DIFFUSION_GUIDANCE_ZERO_STAR_HPP

#include <diffusion/guidance/classifier_free.hpp>

#include <algorithm>
#include <vector>

namespace diffusion {

/// The s for which s u comes nearest to c: <c, u> / (|u|^2 + 1e-8), on n numbers (Fan et al. 2025,
/// arXiv 2503.18886).
template <class S>
double zero_star_scale(const S* c, const S* u, std::size_t n) {
  return detail::dot(c, u, n) / (detail::dot(u, u, n) + 1e-8);
}

/// The rule of CFG-Zero* (Fan et al. 2025, arXiv 2503.18886): s u + g (c - s u), s the number for
/// which s u comes nearest to c; and the answer 0 in the first `zero_steps` steps, where networks
/// that answer a velocity know least: the state then stays. For them the paper has zero_steps = 1
/// (as diffusers has for all); with other predictions 0 means something else, so the default is
/// none. On the predictions as they are. Immutable; safe to share between threads.
class ZeroStarRule : public TwoBranchRule {
 public:
  /// Fails for zero_steps < 0.
  explicit ZeroStarRule(GuidanceOptions options, int zero_steps = 0)
      : TwoBranchRule(std::move(options)), zero_steps_(zero_steps) {
    detail::require_at_least("ZeroStarRule: zero_steps", zero_steps, 0);
  }

  template <class S>
  void operator()(const BranchPredictions<S>& f, S* out) {
    if (f.query().step < zero_steps_) {
      std::fill_n(out, f.size(), S(0));
      return;
    }
    const double scale = this->scale(f);
    if (scale == neutral()) return detail::answer(f, main(), out);
    const double nearest = zero_star_scale(f[1], f[0], f.size());
    const double s = base() == 0 ? nearest * (1 - scale) : -nearest * scale;  // the weight of u
    const double on_c = base() == 0 ? scale : 1 + scale;
    for (std::size_t i = 0; i < f.size(); ++i)
      out[i] =
          static_cast<S>(on_c * static_cast<double>(f[1][i]) + s * static_cast<double>(f[0][i]));
  }

 private:
  int zero_steps_;
};

}  // namespace diffusion

#endif  // DIFFUSION_GUIDANCE_ZERO_STAR_HPP
