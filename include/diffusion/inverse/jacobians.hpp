#ifndef DIFFUSION_INVERSE_JACOBIANS_HPP
#define DIFFUSION_INVERSE_JACOBIANS_HPP

#include <diffusion/denoiser/denoiser.hpp>
#include <diffusion/denoiser/estimate.hpp>
#include <diffusion/denoiser/vector_jacobian.hpp>
#include <diffusion/inverse/problem.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <memory>
#include <type_traits>
#include <utility>
#include <vector>

/// What stands for d x0 / d x where the network has no reverse mode. All are VectorJacobians.
namespace diffusion {

/// d x0 / d x as it is for data of the same deviation sd in every direction,
///
///     alpha sd^2 / (alpha^2 sd^2 + sigma^2)   times the identity
///
/// which has the right size at every level: alpha sd^2 / sigma^2 in noise, 1 / alpha near the data.
/// What it leaves out is that some directions are more certain than others. Plain data: threads may
/// share what none of them writes.
struct IsotropicJacobian {
  double data_deviation = 1;  ///< sd, > 0

  double factor(const Query& query) const {
    const double variance = data_deviation * data_deviation;
    return query.alpha * variance /
           (query.alpha * query.alpha * variance + query.sigma * query.sigma);
  }
  /// The variance of x0 given x for such data, sigma^2 / alpha times the factor.
  double variance(const Query& query) const {
    const double variance = data_deviation * data_deviation, noise = query.sigma * query.sigma;
    return variance * noise / (query.alpha * query.alpha * variance + noise);
  }
  template <State T>
  void operator()(const T&, const Query& query, const TensorOf<T>& v, TensorOf<T>& out) const;
};

/// d x0 / d x with the network's epsilon held fixed: x0 = (x - sigma eps) / alpha gives
///
///     1 / alpha   times the identity
///
/// the form of methods that do not differentiate the network. Near the data it is right; in noise
/// it is far too large (by sigma^2 / alpha^2 for data of deviation 1), and fails at alpha = 0.
/// Plain data: threads may share what none of them writes.
struct FrozenNoiseJacobian {
  template <State T>
  void operator()(const T&, const Query& query, const TensorOf<T>& v, TensorOf<T>& out) const;
};

namespace detail {

/// out = factor v.
template <State Tensor>
void scale_into(const Tensor& v, double factor, Tensor& out) {
  using Traits = StateTraits<Tensor>;
  const std::size_t n = blocks_of<Tensor>(Traits::shape(v), false).total();
  for (std::size_t i = 0; i < n; ++i)
    Traits::data(out)[i] =
        static_cast<ScalarOf<Tensor>>(factor * static_cast<double>(Traits::data(v)[i]));
}

/// Memory of the library's own as the state's type, to be read.
template <State T>
decltype(auto) seen_as_const(TensorOf<T>& storage) {
  if constexpr (is_view<T>)
    return StateTraits<T>::over(storage);
  else
    return std::as_const(storage);
}

/// f(x) for the state x of which the denoiser was given `input`, query.input_scale times it.
template <State T, class F>
void with_state(const T& input, const Query& query, const F& f) {
  if (query.input_scale == 1) return f(input);
  const auto shape = StateTraits<T>::shape(input);
  TensorOf<T> x = StateTraits<TensorOf<T>>::make(shape);
  const std::size_t n = blocks_of<T>(shape, false).total();
  for (std::size_t i = 0; i < n; ++i)
    StateTraits<TensorOf<T>>::data(x)[i] = static_cast<ScalarOf<T>>(
        static_cast<double>(StateTraits<T>::data(input)[i]) / query.input_scale);
  f(seen_as_const<T>(x));
}

/// The gradients of all samples in a tensor of their own: gradient(sample) each.
template <State T, class Gradient>
TensorOf<T> gradients(const ShapeOf<T>& shape, const Blocks& blocks, const Gradient& gradient) {
  TensorOf<T> v = StateTraits<TensorOf<T>>::make(shape);
  for (std::size_t sample = 0; sample < blocks.batch; ++sample)
    store_sample(gradient(sample), StateTraits<TensorOf<T>>::data(v) + sample * blocks.size);
  return v;
}

}  // namespace detail

template <State T>
void IsotropicJacobian::operator()(const T&, const Query& query, const TensorOf<T>& v,
                                   TensorOf<T>& out) const {
  detail::require_inside("IsotropicJacobian::data_deviation", data_deviation, 0.0,
                         std::numeric_limits<double>::infinity());
  detail::scale_into(v, factor(query), out);
}

template <State T>
void FrozenNoiseJacobian::operator()(const T&, const Query& query, const TensorOf<T>& v,
                                     TensorOf<T>& out) const {
  if (query.alpha == 0)
    fail("the Jacobian with frozen noise is 1 / alpha; alpha is 0, it must be positive");
  detail::scale_into(v, 1 / query.alpha, out);
}

/// A vector-Jacobian product for networks without reverse mode. The Jacobian of a perfect network,
/// alpha / sigma^2 Cov[x0 | x], is symmetric, so J^T v = J v, and J v is a difference of two
/// answers,
///
///     J v = (x0(x + h v) - x0(x)) / h,   h = step |x| / |v| for each sample
///
/// A trained network's Jacobian is symmetric as far as it is a good network. It is the denoiser and
/// its product in one: give it to a method as both, and a product costs one more call of the
/// network, since it remembers the last answer (asked at another x it makes that call too).
///
///     const SymmetricJacobian network{trained};
///     Pigdm restored{network, problem, network};
///
/// Copies share the network and the memory, so they are for one run at a time; not thread-safe.
template <class D>
class SymmetricJacobian {
 public:
  /// `step`: the length of the difference as a share of |x|, in [1e-8, 1]: 0.01 for networks in
  /// float, 1e-5 in double.
  explicit SymmetricJacobian(D denoiser, double step = 0.01)
      : shared_(std::make_shared<Shared>(std::move(denoiser))), step_(step) {
    detail::require_range("the step of SymmetricJacobian", step, 1e-8, 1.0);
  }

  PredictionType prediction_type() const requires requires(const D& d) { d.prediction_type(); }
  { return shared_->denoiser.prediction_type(); }
  void begin_run() const {
    shared_->input.clear();
    diffusion::begin_run(shared_->denoiser);
  }
  template <class Shape>
  requires requires(D& d, const Shape& input) { d.output_shape(input); }
  Shape output_shape(const Shape& input) const { return shared_->denoiser.output_shape(input); }

  /// The network's answer, remembered.
  template <State T>
  void operator()(const T& input, const Query& query, TensorOf<T>& out) const {
    ask(shared_->denoiser, input, query, out);
    remember(input, out);
  }

  /// out = J v at the state x.
  template <State T>
  void operator()(const T& x, const Query& query, const TensorOf<T>& v, TensorOf<T>& out) const {
    using Traits = StateTraits<TensorOf<T>>;
    const auto shape = StateTraits<T>::shape(x);
    const Blocks blocks = blocks_of<T>(shape, query.batched);
    const Conversion c = detail::conversion_of(query);
    if (!detail::is_finite(c.a) || !detail::is_finite(c.b))
      detail::fail_undefined("d x0 / d x", query);
    TensorOf<T> input = Traits::make(shape);
    fill_input(StateTraits<T>::data(x), query.input_scale, Traits::data(input), blocks.total());
    const auto out_shape = declared_output_shape<T>(shared_->denoiser, shape).value_or(shape);
    TensorOf<T> answer = Traits::make(out_shape);
    if (!knows(input)) {
      ask(shared_->denoiser, detail::seen_as_const<T>(input), query, answer);
      remember(input, answer);
    }
    const std::vector<double> h = moved(v, blocks, query.input_scale, input);
    ask(shared_->denoiser, detail::seen_as_const<T>(input), query, answer);
    difference(v, answer, h, c, query.input_scale, blocks, out);
  }

 private:
  struct Shared {
    explicit Shared(D d) : denoiser(std::move(d)) {}
    D denoiser;
    std::vector<double> input, answer;  // of the last ask
  };

  template <class S>
  static void fill_input(const S* x, double scale, S* input, std::size_t n) {
    for (std::size_t i = 0; i < n; ++i)
      input[i] = static_cast<S>(scale * static_cast<double>(x[i]));
  }
  template <State A>
  static std::vector<double> values(const A& x) {
    const auto* data = StateTraits<A>::data(x);
    const std::size_t n = blocks_of<A>(StateTraits<A>::shape(x), false).total();
    std::vector<double> copy(n);
    for (std::size_t i = 0; i < n; ++i) copy[i] = static_cast<double>(data[i]);
    return copy;
  }
  template <State A, State B>
  void remember(const A& input, const B& answer) const {
    shared_->input = values(input);
    shared_->answer = values(answer);
  }
  /// The same up to the rounding of input_scale.
  template <State A>
  bool knows(const A& input) const {
    const std::vector<double> now = values(input);
    const double tolerance = 4 * static_cast<double>(Eigen::NumTraits<ScalarOf<A>>::epsilon());
    return now.size() == shared_->input.size() &&
           std::equal(now.begin(), now.end(), shared_->input.begin(), [&](double a, double b) {
             return std::abs(a - b) <= tolerance * std::abs(b);
           });
  }

  /// Moves the input of each sample by h v; returns each h, 0 where v is 0.
  template <State Tensor>
  std::vector<double> moved(const Tensor& v, const Blocks& blocks, double scale,
                            Tensor& input) const {
    std::vector<double> h(blocks.batch);
    for (std::size_t sample = 0; sample < blocks.batch; ++sample) {
      const std::size_t begin = sample * blocks.size;
      auto* to = StateTraits<Tensor>::data(input) + begin;
      const auto direction =
          detail::sample_vector(StateTraits<Tensor>::data(v) + begin, blocks.size);
      const auto from = detail::sample_vector(to, blocks.size);
      const double length = direction.norm();
      if (length == 0) continue;
      h[sample] = step_ * (std::max)(from.norm() / scale, 1e-3) / length;
      detail::store_sample(from + scale * h[sample] * direction, to);
    }
    return h;
  }

  /// (x0 - x0 before) / h = a input_scale v + b (f - f before) / h.
  template <State Tensor>
  void difference(const Tensor& v, const Tensor& answer, const std::vector<double>& h,
                  const Conversion& c, double scale, const Blocks& blocks, Tensor& out) const {
    const auto* f = StateTraits<Tensor>::data(answer);
    const std::size_t stride = shared_->answer.size() / blocks.batch;
    for (std::size_t sample = 0; sample < blocks.batch; ++sample)
      for (std::size_t i = 0; i < blocks.size; ++i) {
        const std::size_t at = sample * blocks.size + i, k = sample * stride + i;
        const double change = static_cast<double>(f[k]) - shared_->answer[k];
        const double jv = c.a * scale * static_cast<double>(StateTraits<Tensor>::data(v)[at]) +
                          (h[sample] == 0 ? 0 : c.b * change / h[sample]);
        StateTraits<Tensor>::data(out)[at] = static_cast<ScalarOf<Tensor>>(jv);
      }
  }

  std::shared_ptr<Shared> shared_;
  double step_;
};

}  // namespace diffusion

#endif  // DIFFUSION_INVERSE_JACOBIANS_HPP
