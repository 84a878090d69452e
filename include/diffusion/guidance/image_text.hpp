#ifndef DIFFUSION_GUIDANCE_IMAGE_TEXT_HPP
#define DIFFUSION_GUIDANCE_IMAGE_TEXT_HPP

#include <diffusion/guidance/guidance.hpp>

#include <cstddef>
#include <utility>
#include <vector>

namespace diffusion {

/// The rule of two conditions of which the second is given on top of the first, image and text of
/// InstructPix2Pix (Brooks et al. 2022, arXiv 2211.09800, eq. 3):
///
///     u + s_I (i - u) + s_T (c - i)
///
/// with u without both, i with the image alone and c with both. GuidanceOptions::scale is s_T (in
/// convention w: s_T - 1). Outside the interval the answer is c. Branches 0, 1, 2: u, i, c. Linear,
/// so the same whatever the network predicts. Immutable; safe to share between threads.
class ImageTextRule {
 public:
  /// Fails for scales that are not finite.
  explicit ImageTextRule(GuidanceOptions options, double image_scale = 1.5)
      : options_(std::move(options)), image_scale_(image_scale) {
    detail::check(options_);
    detail::require_finite("ImageTextRule: image_scale", image_scale);
  }

  std::size_t branches() const { return 3; }
  std::size_t main() const { return 2; }
  bool asks(std::size_t branch, const Query& query, std::size_t batch) const {
    if (branch == main()) return true;
    if (!detail::any_inside(options_, query, batch)) return false;
    if (branch == 0) return image_scale_ != 1;
    return image_scale_ != 1 || detail::guides(options_, query, batch);
  }
  const GuidanceOptions& options() const { return options_; }

  template <class S>
  void operator()(const BranchPredictions<S>& f, S* out) const {
    if (!f[1] || !detail::holds(options_.interval, f.query()))
      return detail::answer(f, main(), out);
    const double text =
        1 + detail::scale_of(options_, f.query(), f.sample()) - detail::neutral_scale(options_);
    if (f[0])
      detail::go(f[0], {{f[1], f[0], image_scale_}, {f[2], f[1], text}}, out, f.size());
    else
      detail::go(f[1], {{f[2], f[1], text}}, out, f.size());
  }

 private:
  GuidanceOptions options_;
  double image_scale_;
};

/// Guidance by two conditions, the second on top of the first: see ImageTextRule; for the network
/// see ClassifierFreeGuidance. A condition is whatever stands for the pair of both: `both` has one
/// a sample, `images` the same without the text, and `none` neither. Not thread-safe: it holds
/// buffers, made at the first call and kept; one object per run at a time.
template <class Network, class Condition>
class ImageTextGuidance : public Guidance<Network, Condition, ImageTextRule> {
 public:
  /// Fails for scales that are not finite.
  ImageTextGuidance(Network network, std::vector<Condition> both, std::vector<Condition> images,
                    Condition none, GuidanceOptions options, double image_scale = 1.5)
      : Guidance<Network, Condition, ImageTextRule>(
            std::move(network), {},
            detail::lists_of(ConditionList<Condition>::for_all(std::move(none)),
                             ConditionList<Condition>::one_each(std::move(images)),
                             ConditionList<Condition>::one_each(std::move(both))),
            {{0}, {1}, {2}}, ImageTextRule(std::move(options), image_scale)) {}
};
/// Deduced from the network and the conditions.
template <class Network, class Condition>
ImageTextGuidance(Network, std::vector<Condition>, std::vector<Condition>, Condition,
                  GuidanceOptions, double = 1.5) -> ImageTextGuidance<Network, Condition>;

}  // namespace diffusion

#endif  // DIFFUSION_GUIDANCE_IMAGE_TEXT_HPP
