#ifndef DIFFUSION_GUIDANCE_TANGENTIAL_HPP
#define DIFFUSION_GUIDANCE_TANGENTIAL_HPP

#include <diffusion/guidance/classifier_free.hpp>

#include <cmath>
#include <vector>

namespace diffusion {

namespace detail {

/// What is left of u when it keeps only the first right singular direction of the two rows c and u:
/// on_c c + on_u u. With the angle w for which cos(w) c + sin(w) u is the longest, that direction
/// is this vector, normalised. Plain data: threads may share what none of them writes.
struct Tangential {
  double on_c = 0, on_u = 0;
};
inline Tangential tangential(double cc, double cu, double uu) {
  const double w = std::atan2(2 * cu, cc - uu) / 2;
  const double a = std::cos(w), b = std::sin(w);
  const double square = a * a * cc + 2 * a * b * cu + b * b * uu;
  if (square <= 0) return {0, 1};  // both are zero
  const double along = (a * cu + b * uu) / square;
  return {a * along, b * along};
}

}  // namespace detail

/// The rule of tangential classifier-free guidance (Kwon et al. 2025, arXiv 2503.18137): of the two
/// rows c and u only the first right singular direction is kept in u, which takes away what of u is
/// at odds with c; then u' + g (c - u'). On the estimates of the noise by default, which are scores
/// but for a factor, as in the paper; diffusers takes the predictions as they are. Not thread-safe:
/// it holds buffers.
class TangentialRule : public TwoBranchRule {
 public:
  explicit TangentialRule(GuidanceOptions options, GuidanceSpace space = GuidanceSpace::eps)
      : TwoBranchRule(std::move(options)), space_(space) {
    detail::require_enumerator("TangentialRule: space", space, 3);
  }

  template <class S>
  void operator()(const BranchPredictions<S>& f, S* out) {
    const double scale = this->scale(f);
    if (scale == neutral()) return detail::answer(f, main(), out);
    const std::size_t n = f.size();
    const detail::SpaceMap map = detail::space_map(space_, f.query());
    detail::see(map, f.input(), f[1], n, c_);
    detail::see(map, f.input(), f[0], n, u_);
    const double *c = c_.data(), *u = u_.data();
    const auto kept =
        detail::tangential(detail::dot(c, c, n), detail::dot(c, u, n), detail::dot(u, u, n));
    for (std::size_t i = 0; i < n; ++i) {
      const double tangent = kept.on_c * c[i] + kept.on_u * u[i];
      const double guided = (base() == 0 ? tangent : c[i]) + scale * (c[i] - tangent);
      out[i] = static_cast<S>((guided - map.a * static_cast<double>(f.input()[i])) / map.b);
    }
  }

 private:
  GuidanceSpace space_;
  std::vector<double> c_, u_;
};

}  // namespace diffusion

#endif  // DIFFUSION_GUIDANCE_TANGENTIAL_HPP
