#ifndef DIFFUSION_VIDEO_FREQUENCY_MIX_HPP
#define DIFFUSION_VIDEO_FREQUENCY_MIX_HPP

#include <diffusion/error.hpp>
#include <diffusion/tensor/lane.hpp>
#include <diffusion/tensor/state.hpp>
#include <diffusion/video/frame_layout.hpp>

#include <cmath>
#include <complex>
#include <cstddef>
#include <functional>
#include <numbers>
#include <utility>
#include <vector>

namespace diffusion {

/// How much of a frequency a low-pass filter lets through: a function of d^2, the squared distance
/// from frequency 0, where 1 is the filter's own limit, with values in [0, 1]. Immutable; safe to
/// share between threads if the function is.
class FrequencyFilter {
 public:
  /// A filter of your own.
  explicit FrequencyFilter(std::function<double(double)> gain) : gain_(std::move(gain)) {
    if (!gain_) fail("a frequency filter needs a function of d^2");
  }

  /// exp(-d^2 / 2).
  static FrequencyFilter gaussian() {
    return FrequencyFilter([](double d2) { return std::exp(-d2 / 2); });
  }
  /// 1 / (1 + d^(2 order)), order at least 1: 1/2 at the limit, the steeper the higher the order.
  static FrequencyFilter butterworth(int order = 4) {
    detail::require_range("the order of a Butterworth filter", order, 1, 1000);
    return FrequencyFilter([order](double d2) { return 1 / (1 + std::pow(d2, order)); });
  }
  /// 1 up to the limit, 0 beyond.
  static FrequencyFilter ideal() {
    return FrequencyFilter([](double d2) { return d2 <= 1 ? 1.0 : 0.0; });
  }

  /// Fails where the gain lies outside [0, 1].
  double operator()(double d2) const {
    const double gain = gain_(d2);
    detail::require_range("the gain of the frequency filter", gain, 0.0, 1.0);
    return gain;
  }

 private:
  std::function<double(double)> gain_;
};

/// A dimension in which frequencies count, d^2 = sum over axes of (frequency / limit)^2,
/// frequencies from 0 to 1, the highest that the dimension can hold. Plain data: threads may share
/// what none of them writes.
struct FilterAxis {
  std::size_t dimension = 0;  ///< as the state's type counts them
  double limit = 0.25;        ///< > 0
};

/// How the two parts of a mix of low and high frequencies are weighed, for a filter of gain h.
enum class FrequencyMix {
  /// h low + sqrt(1 - h^2) high: the mix of two unit noises is unit noise.
  keep_variance,
  /// h low + (1 - h) high, the paper's: loses variance where 0 < h < 1, as h^2 + (1 - h)^2.
  complement,
};

namespace detail {

/// Fails for axes that a state of this shape has not.
template <State T>
void check_filter_axes(const ShapeOf<T>& shape, const std::vector<FilterAxis>& axes) {
  if (axes.empty()) fail("the frequency filter has 0 axes; it needs at least 1");
  for (std::size_t i = 0; i < axes.size(); ++i) {
    memory_dimension<T>("FilterAxis::dimension", shape, axes[i].dimension);
    if (!(axes[i].limit > 0) || is_nan(axes[i].limit))
      fail(text("FilterAxis::limit of dimension ", axes[i].dimension, " is ", axes[i].limit,
                "; it must be positive"));
    for (std::size_t j = 0; j < i; ++j)
      if (axes[i].dimension == axes[j].dimension)
        fail(text("the frequency filter has dimension ", axes[i].dimension,
                  " twice; a dimension has one axis"));
  }
}

/// The discrete Fourier transform along dimensions of a block of memory, by its definition, in
/// double: n operations per element and dimension of n. `strides` says where the next element of a
/// dimension lies. The inverse divides by n.
class Fourier {
 public:
  using Complex = std::complex<double>;

  explicit Fourier(std::size_t n) : line_(n), roots_(n) {
    for (std::size_t k = 0; k < n; ++k)
      roots_[k] =
          std::polar(1.0, -2 * std::numbers::pi * static_cast<double>(k) / static_cast<double>(n));
  }

  void transform(Complex* data, std::size_t stride, bool inverse) {
    const std::size_t n = roots_.size();
    for (std::size_t k = 0; k < n; ++k) line_[k] = data[k * stride];
    for (std::size_t k = 0; k < n; ++k) {
      Complex sum = 0;
      for (std::size_t j = 0, phase = 0; j < n; ++j) {
        const Complex root = inverse ? std::conj(roots_[phase]) : roots_[phase];
        sum += Complex(line_[j].real() * root.real() - line_[j].imag() * root.imag(),
                       line_[j].real() * root.imag() + line_[j].imag() * root.real());
        phase = phase + k < n ? phase + k : phase + k - n;
      }
      data[k * stride] = inverse ? sum / static_cast<double>(n) : sum;
    }
  }

  /// All lines along one dimension of `total` elements, `stride` apart along it.
  void lines(std::vector<Complex>& data, std::size_t stride, bool inverse) {
    const std::size_t n = roots_.size();
    for (std::size_t outer = 0; outer < data.size(); outer += n * stride)
      for (std::size_t inner = 0; inner < stride; ++inner)
        transform(data.data() + outer + inner, stride, inverse);
  }

 private:
  std::vector<Complex> line_, roots_;
};

/// A dimension of a block of memory in which frequencies count.
struct FrequencyAxis {
  std::size_t extent, stride;
  double limit;

  /// (frequency / limit)^2 at place k of the transform, frequency 0 to 1.
  double square(std::size_t k) const {
    const std::size_t turns = k <= extent - k ? k : extent - k;
    const double f = 2 * static_cast<double>(turns) / static_cast<double>(extent);
    return f == 0 ? 0 : f / limit * (f / limit);
  }
};

}  // namespace detail

/// out = low frequencies of `low` + high frequencies of `high`, over the dimensions of `axes`, each
/// stretch of the others (sample, channel) by itself. All three have one shape; out may be either.
/// Computed in double. Made for clips of some hundred elements along each axis: the cost is that
/// many operations an element.
template <State T>
void mix_frequencies(const T& low, const T& high, T& out, const std::vector<FilterAxis>& axes,
                     const FrequencyFilter& filter,
                     FrequencyMix mix = FrequencyMix::keep_variance) {
  const auto shape = StateTraits<T>::shape(low);
  detail::check_filter_axes<T>(shape, axes);
  detail::require_enumerator("FrequencyMix", mix, 2);
  for (const auto& other : {StateTraits<T>::shape(high), StateTraits<T>::shape(out)})
    if (other != shape)
      fail(detail::text("frequencies of the shapes ", shape_text(shape), " and ", shape_text(other),
                        " are mixed; they must be the same"));
  std::vector<detail::FrequencyAxis> lines;
  for (const FilterAxis& axis : axes) {
    const std::size_t at = detail::memory_dimension<T>("FilterAxis", shape, axis.dimension);
    std::size_t stride = 1;
    for (std::size_t d = at + 1; d < shape.size(); ++d)
      stride *=
          static_cast<std::size_t>(shape[StateTraits<T>::row_major ? d : shape.size() - 1 - d]);
    lines.push_back({static_cast<std::size_t>(shape[axis.dimension]), stride, axis.limit});
  }
  const std::size_t total = blocks_of<T>(shape, false).total();
  using Complex = detail::Fourier::Complex;
  const auto filtered = [&](const ScalarOf<T>* from, bool passes_low) {
    std::vector<Complex> data(total);
    for (std::size_t i = 0; i < total; ++i) data[i] = static_cast<double>(from[i]);
    for (const auto& line : lines) detail::Fourier(line.extent).lines(data, line.stride, false);
    for (std::size_t i = 0; i < total; ++i) {
      double d2 = 0;
      for (const auto& line : lines) d2 += line.square(i / line.stride % line.extent);
      const double h = filter(d2);
      data[i] *= passes_low                        ? h
                 : mix == FrequencyMix::complement ? 1 - h
                                                   : std::sqrt((1 - h) * (1 + h));
    }
    for (const auto& line : lines) detail::Fourier(line.extent).lines(data, line.stride, true);
    return data;
  };
  const std::vector<Complex> below = filtered(StateTraits<T>::data(low), true);
  const std::vector<Complex> above = filtered(StateTraits<T>::data(high), false);
  for (std::size_t i = 0; i < total; ++i)
    StateTraits<T>::data(out)[i] = static_cast<ScalarOf<T>>(
        static_cast<detail::Compute<ScalarOf<T>>>(below[i].real() + above[i].real()));
}

}  // namespace diffusion

#endif  // DIFFUSION_VIDEO_FREQUENCY_MIX_HPP
