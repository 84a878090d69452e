#ifndef DIFFUSION_FORWARD_DIAGONAL_GAUSSIAN_HPP
#define DIFFUSION_FORWARD_DIAGONAL_GAUSSIAN_HPP

#include <diffusion/error.hpp>
#include <diffusion/forward/normal_distribution.hpp>
#include <diffusion/tensor/lane.hpp>
#include <diffusion/tensor/normals.hpp>
#include <diffusion/tensor/state.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>
#include <vector>

namespace diffusion {

/// The least log variance, as in the reference's autoencoders (AutoencoderKL).
inline constexpr double log_variance_low = -30;
/// The largest log variance, as there.
inline constexpr double log_variance_high = 20;

/// N(mean, exp(log_variance)) with independent elements, as the encoder of a variational
/// autoencoder gives it for a batch (Kingma and Welling 2013, arXiv 1312.6114). T is a state that
/// owns its memory, (batch, ...). Divergences and likelihoods are in nats, one number a sample,
/// summed over its elements and computed in double. Immutable; safe to share between threads.
template <State T>
class DiagonalGaussian {
  static_assert(!detail::is_view<T>, "a DiagonalGaussian keeps its tensors: T must own its memory");

 public:
  /// What the tensors hold.
  using Scalar = ScalarOf<T>;

  /// From two tensors of one shape. Log variances are held within [-30, 20].
  DiagonalGaussian(T mean, T log_variance)
      : mean_(std::move(mean)), log_variance_(std::move(log_variance)) {
    require_same_shape("the log variance", log_variance_);
    detail::require_extents("the mean", StateTraits<T>::shape(mean_));
    Scalar* v = StateTraits<T>::data(log_variance_);
    for (std::size_t i = 0; i < blocks().total(); ++i)
      v[i] = static_cast<Scalar>(std::clamp(static_cast<Real>(v[i]),
                                            static_cast<Real>(log_variance_low),
                                            static_cast<Real>(log_variance_high)));
  }

  /// From an encoder's output, (batch, 2C, ...): C channels of means, then C of log variances. The
  /// channels are the dimension next to the batch. Fails unless their number is even.
  static DiagonalGaussian from_moments(const T& moments) {
    auto shape = StateTraits<T>::shape(moments);
    const auto rank = shape.size();
    const std::size_t channel = StateTraits<T>::row_major ? 1 : rank - 2;
    if (rank < 2 || shape[channel] % 2 != 0)
      fail(detail::text("the moments have the shape ", shape_text(shape),
                        "; the dimension next to the batch must be even, means then log "
                        "variances"));
    shape[channel] /= 2;
    T mean = StateTraits<T>::make(shape), log_variance = StateTraits<T>::make(shape);
    const Blocks half = blocks_of<T>(shape, true);
    const Scalar* from = StateTraits<T>::data(moments);
    for (std::size_t sample = 0; sample < half.batch; ++sample, from += 2 * half.size) {
      const std::size_t to = sample * half.size;
      std::copy_n(from, half.size, StateTraits<T>::data(mean) + to);
      std::copy_n(from + half.size, half.size, StateTraits<T>::data(log_variance) + to);
    }
    return DiagonalGaussian(std::move(mean), std::move(log_variance));
  }

  /// The mean, as it was given.
  const T& mean() const { return mean_; }
  /// The log variance, held within its range.
  const T& log_variance() const { return log_variance_; }
  /// The most likely value, the mean.
  const T& mode() const { return mean_; }

  /// mean + exp(log_variance / 2) n, n standard normal: draw `draw` of an addressed source, the
  /// next tensor of a sequential one. A run asks for draw 0 too: give it another seed.
  template <class Source>
  T sample(Source&& noise, std::uint64_t draw = 0) const {
    static_assert(NoiseSource<std::remove_cvref_t<Source>>,
                  "a noise source is needed: not 42 but PhiloxNoise{42}");
    constexpr bool addressed = AddressedNoise<std::remove_cvref_t<Source>>;
    detail::require_draws(noise, addressed ? static_cast<std::size_t>(draw) + 1 : 1, blocks());
    T z = StateTraits<T>::make(StateTraits<T>::shape(mean_));
    Scalar* to = StateTraits<T>::data(z);
    detail::for_each_normal<Real>(noise, draw, blocks(),
                                  [&](std::size_t i, Real n) { to[i] = at(i, n); });
    return z;
  }

  /// The sample that these normals make, of the mean's shape: mean + exp(log_variance / 2) eps.
  T reparameterised(const T& eps) const {
    require_same_shape("eps", eps);
    T z = StateTraits<T>::make(StateTraits<T>::shape(mean_));
    Scalar* to = StateTraits<T>::data(z);
    const Scalar* n = StateTraits<T>::data(eps);
    for (std::size_t i = 0; i < blocks().total(); ++i) to[i] = at(i, static_cast<Real>(n[i]));
    return z;
  }

  /// KL to N(0, 1), the regulariser of an autoencoder.
  std::vector<double> kl() const {
    return sums([this](std::size_t i) { return normal_kl(square(m(i)), v(i), 0); });
  }

  /// KL to another one of the same shape.
  std::vector<double> kl(const DiagonalGaussian& other) const {
    require_same_shape("the mean of the other Gaussian", other.mean_);
    return sums(
        [&](std::size_t i) { return normal_kl(square(m(i) - other.m(i)), v(i), other.v(i)); });
  }

  /// -log of the density at x, of the mean's shape.
  std::vector<double> nll(const T& x) const {
    require_same_shape("x", x);
    const Scalar* at = StateTraits<T>::data(x);
    return sums([&](std::size_t i) { return normal_nll(square(number(at[i]) - m(i)), v(i)); });
  }

 private:
  using Real = detail::Compute<Scalar>;

  static double number(Scalar x) { return static_cast<double>(static_cast<Real>(x)); }
  static double square(double x) { return x * x; }
  double m(std::size_t i) const { return number(StateTraits<T>::data(mean_)[i]); }
  double v(std::size_t i) const { return number(StateTraits<T>::data(log_variance_)[i]); }

  Scalar at(std::size_t i, Real n) const {
    const Real deviation = std::exp(static_cast<Real>(StateTraits<T>::data(log_variance_)[i]) / 2);
    return static_cast<Scalar>(static_cast<Real>(StateTraits<T>::data(mean_)[i]) + deviation * n);
  }

  Blocks blocks() const { return blocks_of<T>(StateTraits<T>::shape(mean_), true); }

  template <class F>
  std::vector<double> sums(const F& f) const {
    const Blocks all = blocks();
    std::vector<double> results(all.batch, 0.0);
    for (std::size_t i = 0; i < all.total(); ++i) results[i / all.size] += f(i);
    return results;
  }

  void require_same_shape(const char* what, const T& other) const {
    if (StateTraits<T>::shape(other) == StateTraits<T>::shape(mean_)) return;
    fail(detail::text(what, " has the shape ", shape_text(StateTraits<T>::shape(other)),
                      "; it must be that of the mean, ", shape_text(StateTraits<T>::shape(mean_))));
  }

  T mean_, log_variance_;
};

}  // namespace diffusion

#endif  // DIFFUSION_FORWARD_DIAGONAL_GAUSSIAN_HPP
