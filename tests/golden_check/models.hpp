#ifndef DIFFUSION_TESTS_GOLDEN_CHECK_MODELS_HPP
#define DIFFUSION_TESTS_GOLDEN_CHECK_MODELS_HPP

#include <cmath>
#include <cstddef>
#include <functional>
#include <stdexcept>
#include <string>

#include "data.hpp"

/// The closed-form networks of golden/README.md, "Models", element by element.
namespace golden {

template <class Scalar>
Scalar wave(Scalar x, double t) {
  return std::tanh(Scalar(0.7) * x) * static_cast<Scalar>(std::cos(0.002 * t)) + Scalar(0.1) * x;
}

/// What guided loops use without condition; `wave` is their prediction with it.
template <class Scalar>
Scalar unconditional_wave(Scalar x, double t) {
  return std::tanh(Scalar(0.5) * x) * static_cast<Scalar>(std::sin(0.003 * t)) + Scalar(0.05) * x;
}

template <class Scalar>
Scalar diffusers_dummy(Scalar x, double t) {
  return x * static_cast<Scalar>(t) / static_cast<Scalar>(t + 1);
}

template <class Scalar>
using Network = std::function<void(const Tensor<Scalar>& x, double t, Tensor<Scalar>& out)>;

template <class Scalar, class F>
Network<Scalar> elementwise(F f) {
  return [f](const Tensor<Scalar>& x, double t, Tensor<Scalar>& out) {
    for (Eigen::Index i = 0; i < x.size(); ++i) out.data()[i] = f(x.data()[i], t);
  };
}

/// Twice the channels: `mean` first, then `variance`, sample by sample.
template <class Scalar, class F, class G>
Network<Scalar> with_variance(F mean, G variance) {
  return [mean, variance](const Tensor<Scalar>& x, double t, Tensor<Scalar>& out) {
    const Eigen::Index size = x.size() / x.dimension(0);
    for (Eigen::Index sample = 0; sample < x.dimension(0); ++sample)
      for (Eigen::Index i = 0; i < size; ++i) {
        const Scalar value = x.data()[sample * size + i];
        Scalar* to = out.data() + 2 * sample * size + i;
        to[0] = mean(value, t);
        to[size] = variance(value, t);
      }
  };
}

template <class Scalar>
Network<Scalar> network(const std::string& name) {
  const auto half_wave = [](Scalar x, double t) { return wave(Scalar(0.5) * x, t); };
  if (name == "wave") return elementwise<Scalar>(wave<Scalar>);
  if (name == "diffusers_dummy") return elementwise<Scalar>(diffusers_dummy<Scalar>);
  if (name == "wave+wave") return with_variance<Scalar>(wave<Scalar>, half_wave);
  if (name == "wave+wave_squared")
    return with_variance<Scalar>(wave<Scalar>, [half_wave](Scalar x, double t) {
      return half_wave(x, t) * half_wave(x, t);
    });
  throw std::runtime_error("the model \"" + name + "\" is not known");
}

}  // namespace golden

#endif  // DIFFUSION_TESTS_GOLDEN_CHECK_MODELS_HPP
