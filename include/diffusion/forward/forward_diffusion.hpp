#ifndef DIFFUSION_FORWARD_FORWARD_DIFFUSION_HPP
#define DIFFUSION_FORWARD_FORWARD_DIFFUSION_HPP

#include <diffusion/denoiser/prediction_type.hpp>
#include <diffusion/schedule/noise_schedule.hpp>
#include <diffusion/tensor/lane.hpp>
#include <diffusion/tensor/state.hpp>

#include <cmath>
#include <cstddef>
#include <span>
#include <utility>

namespace diffusion {

/// A Gaussian transition of a diffusion: mean = from_x * x + from_x0 * x0, and its variance.
struct GaussianKernel {
  double from_x = 0;   ///< weight of the state that the transition starts from
  double from_x0 = 0;  ///< weight of the clean data
  double variance = 0;
};

/// The forward process of a schedule, q(x_t | x_0) = N(alpha x_0, sigma^2) and what follows from it
/// (Ho, Jain and Abbeel 2020, arXiv 2006.11239, section 2). Tensors are (batch, ...), with one
/// timestep per sample; timesteps are times of the schedule. Scalar is that of the schedule's
/// table (NoiseSchedule<Scalar>). Immutable; safe to share between threads.
template <class Scalar = double>
class ForwardDiffusion {
 public:
  explicit ForwardDiffusion(NoiseSchedule<Scalar> schedule) : schedule_(std::move(schedule)) {}

  const NoiseSchedule<Scalar>& schedule() const { return schedule_; }

  /// The mean's weight on x0 and the variance of q(x_t | x_0): eq. 4. Times in [0, T - 1].
  GaussianKernel marginal(double t) const {
    const Knot knot = level(t);
    return {0, knot.alpha, knot.sigma * knot.sigma};
  }
  /// alpha^2 / sigma^2, at least 0.
  double snr(double t) const { return std::exp(level(t).log_snr()); }

  /// q(x_t | x_{t-1}) = N(sqrt(1 - beta_t) x_{t-1}, beta_t): eq. 2. Whole t in [0, T - 1], where
  /// t - 1 = -1 is the clean data.
  GaussianKernel one_step(int t) const { return step(t - 1, t); }

  /// q(x_t | x_s) for s < t; s = -1 is the clean data.
  GaussianKernel step(double s, double t) const {
    const Knot from = level(s);
    const Knot to = level(t);
    if (!(s < t)) fail(detail::text("q(x_t | x_s) has s = ", s, "; it must be less than t = ", t));
    return {to.alpha / from.alpha, 0, to.sigma * to.sigma * fresh_share(to, from)};
  }

  /// The posterior q(x_s | x_t, x_0), s < t: eq. 6 and 7 for s = t - 1.
  GaussianKernel posterior(double s, double t) const {
    const Knot to = level(s);
    const Knot from = level(t);
    if (!(s < t))
      fail(detail::text("q(x_s | x_t, x_0) has s = ", s, "; it must be less than t = ", t));
    const double k = fresh_share(from, to);
    const double ratio = to.sigma / from.sigma;
    return {from.alpha / to.alpha * ratio * ratio, to.alpha * k, to.sigma * to.sigma * k};
  }

  /// x_t = alpha x_0 + sigma eps, one timestep per sample. `out` may be x0 or eps.
  template <State T>
  void add_noise(const T& x0, const T& eps, std::span<const double> timesteps, T& out) const {
    combine(x0, eps, timesteps, out, [](const Knot& knot) {
      return Target{knot.alpha, knot.sigma};
    });
  }
  template <State T>
  TensorOf<T> add_noise(const T& x0, const T& eps, std::span<const double> timesteps) const {
    TensorOf<T> out = StateTraits<T>::make(StateTraits<T>::shape(x0));
    add_noise(x0, eps, timesteps, out);
    return out;
  }

  /// What a perfect network of this prediction type answers: eps, x0, v, flow or score.
  template <State T>
  void training_target(PredictionType type, const T& x0, const T& eps,
                       std::span<const double> timesteps, T& out) const {
    combine(x0, eps, timesteps, out, [type](const Knot& knot) { return target(type, knot); });
  }
  template <State T>
  TensorOf<T> training_target(PredictionType type, const T& x0, const T& eps,
                              std::span<const double> timesteps) const {
    TensorOf<T> out = StateTraits<T>::make(StateTraits<T>::shape(x0));
    training_target(type, x0, eps, timesteps, out);
    return out;
  }

 private:
  Knot level(double t) const {
    if (t == -1) return {-1, 1, 0};
    detail::require_range("timestep", t, 0.0, schedule_.last_time());
    return schedule_.knot(t);
  }

  static double fresh_share(const Knot& noisy, const Knot& clean) {
    return -std::expm1(noisy.log_snr() - clean.log_snr());
  }

  template <class T, class WeightsAt>
  void combine(const T& x0, const T& eps, std::span<const double> timesteps, T& out,
               const WeightsAt& weights_at) const {
    using S = ScalarOf<T>;
    using Real = detail::Compute<S>;
    const auto shape = StateTraits<T>::shape(x0);
    const Blocks blocks = blocks_of<T>(shape, true);
    for (const T* other : {&eps, static_cast<const T*>(&out)})
      if (StateTraits<T>::shape(*other) != shape)
        fail(detail::text("a tensor has the shape ", shape_text(StateTraits<T>::shape(*other)),
                          "; it must be that of x0, ", shape_text(shape)));
    if (timesteps.size() != blocks.batch)
      fail(detail::text(timesteps.size(), " timesteps were given for a batch of ", blocks.batch,
                        "; one per sample is needed"));
    for (std::size_t sample = 0; sample < blocks.batch; ++sample) {
      const Target weights = weights_at(level(timesteps[sample]));
      const auto on_x0 = static_cast<Real>(weights.on_x0);
      const auto on_eps = static_cast<Real>(weights.on_eps);
      const std::size_t first = sample * blocks.size;
      detail::transform_lanes(StateTraits<T>::data(x0) + first, StateTraits<T>::data(eps) + first,
                              StateTraits<T>::data(out) + first, blocks.size,
                              [=](const auto& x, const auto& e) { return on_x0 * x + on_eps * e; });
    }
  }

  NoiseSchedule<Scalar> schedule_;
};

}  // namespace diffusion

#endif  // DIFFUSION_FORWARD_FORWARD_DIFFUSION_HPP
