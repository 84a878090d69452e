#ifndef DIFFUSION_FORWARD_FORWARD_DIFFUSION_HPP
#define DIFFUSION_FORWARD_FORWARD_DIFFUSION_HPP

#include <diffusion/denoiser/prediction_type.hpp>
#include <diffusion/schedule/noise_schedule.hpp>
#include <diffusion/tensor/lane.hpp>
#include <diffusion/tensor/state.hpp>

#include <cmath>
#include <cstddef>
#include <span>
#include <type_traits>
#include <utility>

namespace diffusion {

/// A Gaussian transition of a diffusion: mean = from_x * x + from_x0 * x0, and its variance. Plain
/// data: threads may share what none of them writes.
struct GaussianKernel {
  double from_x = 0;   ///< weight of the state that the transition starts from
  double from_x0 = 0;  ///< weight of the clean data
  double variance = 0;
};

namespace detail {

/// out = on_x0 x0 + on_eps eps, on `size` elements from `first` on.
template <ReadableState X, ReadableState E, State Out>
void mix(const X& x0, const E& eps, Out& out, std::size_t first, std::size_t size,
         const Target& weights) {
  using Real = Compute<ScalarOf<Out>>;
  const auto on_x0 = static_cast<Real>(weights.on_x0);
  const auto on_eps = static_cast<Real>(weights.on_eps);
  transform_lanes(StateTraits<X>::data(x0) + first, StateTraits<E>::data(eps) + first,
                  StateTraits<Out>::data(out) + first, size,
                  [=](const auto& x, const auto& e) { return on_x0 * x + on_eps * e; });
}

/// Fails unless all have the shape of x0; returns how it splits into samples.
template <ReadableState X, ReadableState E, State Out>
Blocks matching_blocks(const X& x0, const E& eps, const Out& out) {
  static_assert(
      std::is_same_v<ScalarOf<X>, ScalarOf<Out>> && std::is_same_v<ScalarOf<E>, ScalarOf<Out>>,
      "x0, eps and out must have the same scalar");
  const auto shape = StateTraits<X>::shape(x0);
  static_assert(std::is_same_v<ShapeOf<X>, ShapeOf<E>> && std::is_same_v<ShapeOf<X>, ShapeOf<Out>>,
                "x0, eps and out must have the same rank");
  static_assert(shape.size() < 2 || (StateTraits<X>::row_major == StateTraits<Out>::row_major &&
                                     StateTraits<E>::row_major == StateTraits<Out>::row_major),
                "x0, eps and out must be all row-major or all column-major");
  const auto require = [&](const auto& other) {
    if (other != shape)
      fail(text("a tensor has the shape ", shape_text(other), "; it must be that of x0, ",
                shape_text(shape)));
  };
  require(StateTraits<E>::shape(eps));
  require(StateTraits<Out>::shape(out));
  return blocks_of<X>(shape, true);
}

}  // namespace detail

/// x = alpha x0 + sigma eps, all samples at one level of any schedule: where a cut grid starts
/// (image to image). `out` has the shape of both and may be either. The three may be of different
/// kinds (a Matrix, a Map), but not of different scalars, ranks or layouts.
template <ReadableState X, ReadableState E, State Out>
void add_noise(const X& x0, const E& eps, const Knot& at, Out& out) {
  const Blocks blocks = detail::matching_blocks(x0, eps, out);
  for (std::size_t sample = 0; sample < blocks.batch; ++sample)
    detail::mix(x0, eps, out, sample * blocks.size, blocks.size, {at.alpha, at.sigma});
}

/// The forward process of a schedule, q(x_t | x_0) = N(alpha x_0, sigma^2) and what follows from it
/// (Ho, Jain and Abbeel 2020, arXiv 2006.11239, section 2). Tensors are (batch, ...), with one
/// timestep per sample; timesteps lie in [0, T - 1], or are -1, the clean data. Scalar is that of
/// the schedule's table (NoiseSchedule<Scalar>). Immutable; safe to share between threads.
template <class Scalar = double>
class ForwardDiffusion {
 public:
  explicit ForwardDiffusion(NoiseSchedule<Scalar> schedule) : schedule_(std::move(schedule)) {}

  const NoiseSchedule<Scalar>& schedule() const { return schedule_; }

  /// The mean's weight on x0 and the variance of q(x_t | x_0): eq. 4.
  GaussianKernel marginal(double t) const {
    const Knot knot = level(t);
    return {0, knot.alpha, knot.sigma * knot.sigma};
  }
  /// alpha^2 / sigma^2, at least 0; infinite for the clean data.
  double snr(double t) const { return std::exp(level(t).log_snr()); }

  /// q(x_t | x_{t-1}) = N(sqrt(1 - beta_t) x_{t-1}, beta_t): eq. 2. Whole t in [0, T - 1], where
  /// t - 1 = -1 is the clean data.
  GaussianKernel one_step(int t) const { return step(t - 1, t); }

  /// q(x_t | x_s) for s < t; s = -1 is the clean data.
  GaussianKernel step(double s, double t) const {
    const Knot from = level(s);
    const Knot to = level(t);
    if (!(s < t)) fail(detail::text("q(x_t | x_s) has s = ", s, "; it must be less than t = ", t));
    return {to.alpha / from.alpha, 0, to.sigma * to.sigma * detail::fresh_share(to, from)};
  }

  /// The posterior q(x_s | x_t, x_0), s < t: eq. 6 and 7 for s = t - 1.
  GaussianKernel posterior(double s, double t) const {
    const Knot to = level(s);
    const Knot from = level(t);
    if (!(s < t))
      fail(detail::text("q(x_s | x_t, x_0) has s = ", s, "; it must be less than t = ", t));
    const double k = detail::fresh_share(from, to);
    const double ratio = to.sigma / from.sigma;
    return {from.alpha / to.alpha * ratio * ratio, to.alpha * k, to.sigma * to.sigma * k};
  }

  /// x_t = alpha x_0 + sigma eps, one timestep per sample. `out` may be x0 or eps.
  template <ReadableState X, ReadableState E, State Out>
  void add_noise(const X& x0, const E& eps, std::span<const double> timesteps, Out& out) const {
    combine(x0, eps, timesteps, out, [](const Knot& knot) {
      return Target{knot.alpha, knot.sigma};
    });
  }
  template <ReadableState X, ReadableState E>
  TensorOf<X> add_noise(const X& x0, const E& eps, std::span<const double> timesteps) const {
    TensorOf<X> out = StateTraits<X>::make(StateTraits<X>::shape(x0));
    add_noise(x0, eps, timesteps, out);
    return out;
  }

  /// What a perfect network of this prediction type answers: eps, x0, v, flow or score.
  template <ReadableState X, ReadableState E, State Out>
  void training_target(PredictionType type, const X& x0, const E& eps,
                       std::span<const double> timesteps, Out& out) const {
    combine(x0, eps, timesteps, out, [type](const Knot& knot) { return target(type, knot); });
  }
  template <ReadableState X, ReadableState E>
  TensorOf<X> training_target(PredictionType type, const X& x0, const E& eps,
                              std::span<const double> timesteps) const {
    TensorOf<X> out = StateTraits<X>::make(StateTraits<X>::shape(x0));
    training_target(type, x0, eps, timesteps, out);
    return out;
  }

 private:
  Knot level(double t) const {
    if (t == -1) return {-1, 1, 0};
    detail::require_range("timestep", t, 0.0, schedule_.last_time());
    return schedule_.knot(t);
  }

  template <class X, class E, class Out, class WeightsAt>
  void combine(const X& x0, const E& eps, std::span<const double> timesteps, Out& out,
               const WeightsAt& weights_at) const {
    const Blocks blocks = detail::matching_blocks(x0, eps, out);
    if (timesteps.size() != blocks.batch)
      fail(detail::text(timesteps.size(), " timesteps were given for a batch of ", blocks.batch,
                        "; one per sample is needed"));
    for (std::size_t sample = 0; sample < blocks.batch; ++sample)
      detail::mix(x0, eps, out, sample * blocks.size, blocks.size,
                  weights_at(level(timesteps[sample])));
  }

  NoiseSchedule<Scalar> schedule_;
};

}  // namespace diffusion

#endif  // DIFFUSION_FORWARD_FORWARD_DIFFUSION_HPP
