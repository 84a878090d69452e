#ifndef DIFFUSION_EXAMPLES_NN_REVERSIBLE_HPP
#define DIFFUSION_EXAMPLES_NN_REVERSIBLE_HPP

#include "feature_map.hpp"
#include "gemm.hpp"
#include "layers.hpp"
#include "safetensors.hpp"

#include <Eigen/Core>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

/// Layers with reverse mode: `forward` makes y out of x, `backward` the gradient in x of any number
/// whose gradient in y is given. The parameters are fixed: nothing here is trained.
namespace nn {

enum class Pooling { max, average };

/// A 3x3 convolution with a border of zeros, stride 1. Its transpose is a convolution too, with the
/// kernels turned by half a turn and the channels exchanged.
template <class Scalar>
class ReversibleConv {
 public:
  ReversibleConv(Parameters<Scalar>& parameters, const std::string& name, Index in, Index out)
      : no_bias_(static_cast<std::size_t>(in), Scalar(0)) {
    const auto weight = parameters.take(name + ".weight", {out, in, 3, 3});
    bias_ = parameters.take(name + ".bias", {out});
    std::vector<Scalar> turned(weight.size());
    for (Index o = 0; o < out; ++o)
      for (Index i = 0; i < in; ++i)
        for (Index k = 0; k < taps; ++k)
          turned[static_cast<std::size_t>((i * out + o) * taps + taps - 1 - k)] =
              weight[static_cast<std::size_t>((o * in + i) * taps + k)];
    weight_ = PackedMatrix<Scalar>(out, in * taps, weight);
    turned_ = PackedMatrix<Scalar>(in, out * taps, turned);
  }

  Index in() const { return turned_.rows(); }
  Index out() const { return weight_.rows(); }
  const std::vector<Scalar>& bias() const { return bias_; }

  /// @param bias in place of the layer's own, if not null
  void forward(Arena<Scalar>& scratch, const FeatureMap<Scalar>& x, const FeatureMap<Scalar>& y,
               const Scalar* bias = nullptr) const {
    convolve(scratch, weight_, x, bias != nullptr ? bias : bias_.data(), y);
  }
  void backward(Arena<Scalar>& scratch, const FeatureMap<Scalar>& grad_y,
                const FeatureMap<Scalar>& grad_x) const {
    convolve(scratch, turned_, grad_y, no_bias_.data(), grad_x);
  }

 private:
  static constexpr Index taps = 9;

  static void convolve(Arena<Scalar>& scratch, const PackedMatrix<Scalar>& weight,
                       const FeatureMap<Scalar>& x, const Scalar* bias,
                       const FeatureMap<Scalar>& y) {
    const typename Arena<Scalar>::Scope scope(scratch);
    const Index width = x.width + 2, plane = (x.height + 2) * width;
    // The kernel's last rows read beyond the last plane by less than two rows and a tile.
    const Index count = x.channels * plane + 2 * width + detail::tile_columns<Scalar>;
    Scalar* padded = scratch.take(count);
    std::fill_n(padded, count, Scalar(0));
    for (Index c = 0; c < x.channels; ++c)
      for (Index row = 0; row < x.height; ++row)
        std::copy_n(x.channel(c) + row * x.width, x.width,
                    padded + c * plane + (row + 1) * width + 1);
    std::array<Index, taps> shifts{};
    for (Index k = 0; k < taps; ++k) shifts[static_cast<std::size_t>(k)] = k / 3 * width + k % 3;
    multiply<Scalar>(weight, {padded, plane, x.channels, shifts}, {y, width, bias, nullptr});
  }

  PackedMatrix<Scalar> weight_, turned_;
  std::vector<Scalar> bias_, no_bias_;
};

/// y = W x + b on vectors.
template <class Scalar>
class ReversibleLinear {
  using Vector = Eigen::Matrix<Scalar, Eigen::Dynamic, 1>;

 public:
  ReversibleLinear(Parameters<Scalar>& parameters, const std::string& name, Index in, Index out) {
    const auto weight = parameters.take(name + ".weight", {out, in});
    const auto bias = parameters.take(name + ".bias", {out});
    weight_ = Eigen::Map<const RowMatrix<Scalar>>(weight.data(), out, in);
    bias_ = Eigen::Map<const Vector>(bias.data(), out);
  }

  Index in() const { return weight_.cols(); }
  Index out() const { return weight_.rows(); }

  void forward(const Scalar* x, Scalar* y) const {
    Eigen::Map<Vector> result(y, out());
    result = bias_;
    result.noalias() += weight_ * Eigen::Map<const Vector>(x, in());
  }
  void backward(const Scalar* grad_y, Scalar* grad_x) const {
    Eigen::Map<Vector>(grad_x, in()).noalias() =
        weight_.transpose() * Eigen::Map<const Vector>(grad_y, out());
  }

 private:
  RowMatrix<Scalar> weight_;
  Vector bias_;
};

/// grad = grad * act'(x), in place. The derivative of relu at 0 is 0. Only relu and silu.
template <class Scalar>
void activation_backward(Activation act, const Scalar* from, Index count, Scalar* grad) {
  const ConstArrayMap<Scalar> x(from, count);
  ArrayMap<Scalar> g(grad, count);
  if (act == Activation::relu) {
    g = (x > Scalar(0)).select(g, Scalar(0));
    return;
  }
  for (Index i = 0; i < count; ++i) {
    const Scalar gate = Scalar(1) / (Scalar(1) + std::exp(-x[i]));
    g[i] *= gate * (Scalar(1) + x[i] * (Scalar(1) - gate));
  }
}

namespace detail {

/// Where the largest of the four numbers of a 2x2 window stands; the first of equal ones.
template <class Scalar>
Index largest_of_window(const Scalar* corner, Index width) {
  Index best = 0;
  for (const Index at : {Index{1}, width, width + 1})
    if (corner[at] > corner[best]) best = at;
  return best;
}

/// Calls act(where in x the window's corner stands, where in y its result) for every 2x2 window.
template <class Scalar, class Act>
void for_each_window(const FeatureMap<Scalar>& x, const FeatureMap<Scalar>& y, const Act& act) {
  for (Index c = 0; c < y.channels; ++c)
    for (Index row = 0; row < y.height; ++row)
      for (Index column = 0; column < y.width; ++column)
        act(c * x.pixels() + 2 * row * x.width + 2 * column,
            c * y.pixels() + row * y.width + column);
}

}  // namespace detail

/// 2x2 windows without overlap; a last odd row or column is left out. y is half as high and wide.
template <class Scalar>
void pool(Pooling kind, const FeatureMap<Scalar>& x, const FeatureMap<Scalar>& y) {
  detail::for_each_window(x, y, [&](Index from, Index to) {
    const Scalar* corner = x.data + from;
    y.data[to] = kind == Pooling::max
                     ? corner[detail::largest_of_window(corner, x.width)]
                     : (corner[0] + corner[1] + corner[x.width] + corner[x.width + 1]) / Scalar(4);
  });
}

/// The gradient in x, given x and the gradient in y.
template <class Scalar>
void pool_backward(Pooling kind, const FeatureMap<Scalar>& x, const FeatureMap<Scalar>& grad_y,
                   const FeatureMap<Scalar>& grad_x) {
  std::fill_n(grad_x.data, grad_x.size(), Scalar(0));
  detail::for_each_window(x, grad_y, [&](Index from, Index to) {
    Scalar* corner = grad_x.data + from;
    const Scalar gradient = grad_y.data[to];
    if (kind == Pooling::max) {
      corner[detail::largest_of_window(x.data + from, x.width)] = gradient;
    } else {
      for (const Index at : {Index{0}, Index{1}, x.width, x.width + 1})
        corner[at] = gradient / Scalar(4);
    }
  });
}

}  // namespace nn

#endif
