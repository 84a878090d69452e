#ifndef DIFFUSION_DENOISER_ESTIMATE_HPP
#define DIFFUSION_DENOISER_ESTIMATE_HPP

#include <diffusion/denoiser/prediction_type.hpp>
#include <diffusion/denoiser/query.hpp>
#include <diffusion/error.hpp>
#include <diffusion/tensor/lane.hpp>

#include <cstddef>

/// The estimates behind a network's answer, for denoisers that are made of denoisers: what is to be
/// changed is x0, what has to be answered is f, whatever the network predicts.
namespace diffusion {

namespace detail {

/// How an answer f to `query` is read on what the denoiser was given (input_scale times the state):
/// x0 = a input + b f, eps = p input + q f.
inline Conversion conversion_of(const Query& query, const Knot& level) {
  Conversion c = conversion(query.prediction_type, level, query.input_scale);
  c.a /= query.input_scale;
  c.p /= query.input_scale;
  return c;
}
inline Conversion conversion_of(const Query& query) {
  if (!query.levels.empty() || !query.times.empty())
    fail("the estimate of x0 is asked for with one level for all, but the slices differ in theirs");
  return conversion_of(query, {query.t, query.alpha, query.sigma});
}

[[noreturn]] inline void fail_undefined(const char* what, const Query& query) {
  fail(text(what, " is undefined for prediction type ", name(query.prediction_type),
            " at t = ", query.t, " (alpha = ", query.alpha, ", sigma = ", query.sigma, ")"));
}

/// x0 = a input + b f for one level; fails where the prediction type leaves it undefined.
struct X0Map {
  double a, b;
};
inline X0Map x0_map(const Query& query) {
  const Conversion c = conversion_of(query);
  if (!is_finite(c.a) || !is_finite(c.b)) fail_undefined("x0", query);
  return {c.a, c.b};
}

}  // namespace detail

/// The estimate of x0 that the answer f to `query` means, on n elements: `input` is what the
/// denoiser was given, input_scale times the state. x0 may be f or input itself. Fails where x0 is
/// undefined (epsilon at alpha = 0) and where slices have levels of their own.
template <class S>
void estimate_x0(const Query& query, const S* input, const S* f, std::size_t n, S* x0) {
  using Real = detail::Compute<S>;
  const detail::X0Map map = detail::x0_map(query);
  const Real a = static_cast<Real>(map.a), b = static_cast<Real>(map.b);
  for (std::size_t i = 0; i < n; ++i)
    x0[i] = static_cast<S>(a * static_cast<Real>(input[i]) + b * static_cast<Real>(f[i]));
}

/// The answer f whose estimate is x0; false, and f untouched, where the answer has no say in x0 (b
/// = 0: sigma = 0 for most types). f may be x0 itself.
template <class S>
bool prediction_from_x0(const Query& query, const S* input, const S* x0, std::size_t n, S* f) {
  using Real = detail::Compute<S>;
  const detail::X0Map map = detail::x0_map(query);
  if (map.b == 0) return false;
  const Real a = static_cast<Real>(map.a), per_b = static_cast<Real>(1 / map.b);
  for (std::size_t i = 0; i < n; ++i)
    f[i] = static_cast<S>((static_cast<Real>(x0[i]) - a * static_cast<Real>(input[i])) * per_b);
  return true;
}

/// The estimate of eps that the answer f means. eps may be f or input itself. Fails where eps is
/// undefined (sample at sigma = 0).
template <class S>
void estimate_eps(const Query& query, const S* input, const S* f, std::size_t n, S* eps) {
  using Real = detail::Compute<S>;
  const Conversion c = detail::conversion_of(query);
  if (!detail::is_finite(c.p) || !detail::is_finite(c.q)) detail::fail_undefined("eps", query);
  const Real p = static_cast<Real>(c.p), q = static_cast<Real>(c.q);
  for (std::size_t i = 0; i < n; ++i)
    eps[i] = static_cast<S>(p * static_cast<Real>(input[i]) + q * static_cast<Real>(f[i]));
}

/// The answer f whose estimate is eps; false, and f untouched, where the answer has no say in it (q
/// = 0: alpha = 0 for most types other than epsilon). f may be eps itself.
template <class S>
bool prediction_from_eps(const Query& query, const S* input, const S* eps, std::size_t n, S* f) {
  using Real = detail::Compute<S>;
  const Conversion c = detail::conversion_of(query);
  if (!detail::is_finite(c.p) || !detail::is_finite(c.q)) detail::fail_undefined("eps", query);
  if (c.q == 0) return false;
  const Real p = static_cast<Real>(c.p), per_q = static_cast<Real>(1 / c.q);
  for (std::size_t i = 0; i < n; ++i)
    f[i] = static_cast<S>((static_cast<Real>(eps[i]) - p * static_cast<Real>(input[i])) * per_q);
  return true;
}

}  // namespace diffusion

#endif  // DIFFUSION_DENOISER_ESTIMATE_HPP
