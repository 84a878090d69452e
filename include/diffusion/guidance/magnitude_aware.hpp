#ifndef DIFFUSION_GUIDANCE_MAGNITUDE_AWARE_HPP
#define DIFFUSION_GUIDANCE_MAGNITUDE_AWARE_HPP

#include <diffusion/guidance/classifier_free.hpp>

#include <cmath>

namespace diffusion {

/// The rule of magnitude-aware guidance, MAMBO-G (arXiv 2508.03442): u + g' (c - u) with
/// g' = 1 + (g - 1) exp(-alpha |c - u| / |u|), sample by sample: the further the two predictions
/// are apart, the less the scale counts. On the predictions as they are. Immutable; safe to share
/// between threads.
class MagnitudeAwareRule : public TwoBranchRule {
 public:
  /// `damping` is the paper's alpha, >= 0; 0 is classifier-free guidance.
  explicit MagnitudeAwareRule(GuidanceOptions options, double damping = 8)
      : TwoBranchRule(std::move(options)), damping_(damping) {
    detail::require_range("MagnitudeAwareRule: damping", damping, 0.0,
                          (std::numeric_limits<double>::max)());
  }

  template <class S>
  void operator()(const BranchPredictions<S>& f, S* out) const {
    const double scale = this->scale(f);
    if (scale == neutral()) return detail::answer(f, main(), out);
    double apart = 0;
    for (std::size_t i = 0; i < f.size(); ++i) {
      const double d = static_cast<double>(f[1][i]) - static_cast<double>(f[0][i]);
      apart += d * d;
    }
    // No u at all: whatever c says is far from it, unless it says nothing either.
    const double own = detail::dot(f[0], f[0], f.size());
    const double damped = apart == 0 || damping_ == 0 ? 1
                          : own == 0                  ? 0
                                     : std::exp(-damping_ * std::sqrt(apart / own));
    const double used = neutral() + (scale - neutral()) * damped;
    detail::go(f[base()], {{f[1], f[0], used}}, out, f.size());
  }

 private:
  double damping_;
};

}  // namespace diffusion

#endif  // DIFFUSION_GUIDANCE_MAGNITUDE_AWARE_HPP
