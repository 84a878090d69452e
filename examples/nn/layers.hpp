#ifndef DIFFUSION_EXAMPLES_NN_LAYERS_HPP
#define DIFFUSION_EXAMPLES_NN_LAYERS_HPP

#include "attention_hook.hpp"
#include "feature_map.hpp"
#include "gemm.hpp"
#include "safetensors.hpp"
#include "unet2d_config.hpp"

#include <Eigen/Core>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace nn {

template <class Scalar>
using ArrayMap = Eigen::Map<Eigen::Array<Scalar, Eigen::Dynamic, 1>>;
template <class Scalar>
using ConstArrayMap = Eigen::Map<const Eigen::Array<Scalar, Eigen::Dynamic, 1>>;
template <class Scalar>
using RowMatrix = Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// y = act(scale * x + shift) over `count` numbers; y may be x.
template <class Scalar>
void affine_activation(Activation act, const Scalar* from, Index count, Scalar scale, Scalar shift,
                       Scalar* to) {
  const ConstArrayMap<Scalar> x(from, count);
  ArrayMap<Scalar> y(to, count);
  switch (act) {
    case Activation::silu:
      y = (scale * x + shift) / (Scalar(1) + (-(scale * x + shift)).exp());
      return;
    case Activation::relu:
      y = (scale * x + shift).max(Scalar(0));
      return;
    case Activation::gelu:
      y = (scale * x + shift).unaryExpr([](Scalar v) {
        return v / 2 * (1 + std::erf(v / std::numbers::sqrt2_v<Scalar>));
      });
      return;
    case Activation::mish:
      // tanh(log(1 + e)) = (e^2 + 2 e) / (e^2 + 2 e + 2), and 1 to the last digit from v = 20 on.
      y = (scale * x + shift).unaryExpr([](Scalar v) {
        const Scalar e = std::exp(std::min(v, Scalar(20)));
        return v * (e * (e + 2) / (e * (e + 2) + 2));
      });
      return;
  }
}

/// y = W x + b on vectors.
template <class Scalar>
class Linear {
 public:
  Linear(Parameters<Scalar>& parameters, const std::string& name, Index in, Index out) {
    // No memory before the file has shown that it holds as much: a config may claim anything.
    const auto weight = parameters.take(name + ".weight", {out, in});
    const auto bias = parameters.take(name + ".bias", {out});
    weight_ = Eigen::Map<const RowMatrix<Scalar>>(weight.data(), out, in);
    bias_ = Eigen::Map<const Eigen::Matrix<Scalar, Eigen::Dynamic, 1>>(bias.data(), out);
  }

  Index in() const { return weight_.cols(); }
  Index out() const { return weight_.rows(); }

  void operator()(const Scalar* x, Scalar* y) const {
    using Vector = Eigen::Matrix<Scalar, Eigen::Dynamic, 1>;
    Eigen::Map<Vector> result(y, out());
    result = bias_;
    result.noalias() += weight_ * Eigen::Map<const Vector>(x, in());
  }

 private:
  RowMatrix<Scalar> weight_;
  Eigen::Matrix<Scalar, Eigen::Dynamic, 1> bias_;
};

/// The shape of a convolution: kernel and stride alike in both directions.
struct ConvShape {
  Index in = 0, out = 0;
  Index kernel = 3, stride = 1;         ///< kernel 1 or 3
  Index pad_before = 1, pad_after = 1;  ///< zeros above and left, below and right
  Index enlarge = 1;  ///< the input is enlarged so many times first, each pixel repeated

  Index extent(Index pixels) const {
    const Index padded = pixels * enlarge + pad_before + pad_after;
    return padded < kernel ? 0 : (padded - kernel) / stride + 1;
  }
};

/// A convolution as the product of the weights, [out, in * kernel^2], with the matrix of patches.
/// That matrix is not written down: the rows are views of the zero-padded input, shifted
/// (`ShiftedPlanes`), for a stride s after its pixels have been sorted into s^2 pictures by the
/// remainders of their coordinates. A 1x1 kernel reads the input itself.
template <class Scalar>
class Conv2d {
 public:
  Conv2d(Parameters<Scalar>& parameters, const std::string& name, const ConvShape& shape,
         const std::vector<std::int64_t>& kernel_extents)
      : shape_(shape) {
    std::vector<std::int64_t> weight_shape{shape.out, shape.in};
    weight_shape.insert(weight_shape.end(), kernel_extents.begin(), kernel_extents.end());
    weight_ = PackedMatrix<Scalar>(shape.out, shape.in * shape.kernel * shape.kernel,
                                   parameters.take(name + ".weight", weight_shape));
    bias_ = parameters.take(name + ".bias", {shape.out});
  }

  Conv2d(Parameters<Scalar>& parameters, const std::string& name, const ConvShape& shape)
      : Conv2d(parameters, name, shape, {shape.kernel, shape.kernel}) {}

  const ConvShape& shape() const { return shape_; }
  const std::vector<Scalar>& bias() const { return bias_; }

  FeatureMap<Scalar> result(Arena<Scalar>& arena, const FeatureMap<Scalar>& x) const {
    return arena.map(shape_.out, shape_.extent(x.height), shape_.extent(x.width));
  }

  /// @param bias     in place of the layer's own, if not null
  /// @param residual added to the result, if not null; may be out.data
  void operator()(Arena<Scalar>& scratch, const FeatureMap<Scalar>& x,
                  const FeatureMap<Scalar>& out, const Scalar* bias = nullptr,
                  const Scalar* residual = nullptr) const {
    if (bias == nullptr) bias = bias_.data();
    if (is_pointwise()) {
      const std::array<Index, 1> no_shift{0};
      const FeatureMap<Scalar> line{out.data, out.channels, 1, out.pixels()};
      multiply<Scalar>(weight_, {x.data, x.pixels(), x.channels, no_shift},
                       {line, line.width, bias, residual});
      return;
    }
    const typename Arena<Scalar>::Scope scope(scratch);
    const Phases phases = split(scratch, x);
    std::array<Index, 9> shifts{};
    std::size_t count = 0;
    for (Index ky = 0; ky < shape_.kernel; ++ky)
      for (Index kx = 0; kx < shape_.kernel; ++kx)
        shifts[count++] = phases.offset(ky, kx, shape_.stride);
    multiply<Scalar>(weight_,
                     {phases.data, phases.plane(shape_.stride), x.channels,
                      std::span<const Index>(shifts).first(count)},
                     {out, phases.width, bias, residual});
  }

 private:
  struct Phases {
    Scalar* data;
    Index height, width;  // of one phase

    Index plane(Index stride) const { return stride * stride * height * width; }
    Index offset(Index y, Index x, Index stride) const {
      const Index phase = y % stride * stride + x % stride;
      return (phase * height + y / stride) * width + x / stride;
    }
  };

  bool is_pointwise() const {
    return shape_.kernel == 1 && shape_.stride == 1 && shape_.enlarge == 1 &&
           shape_.pad_before == 0 && shape_.pad_after == 0;
  }

  /// The enlarged and padded input, sorted by phase.
  Phases split(Arena<Scalar>& scratch, const FeatureMap<Scalar>& x) const {
    const Index stride = shape_.stride;
    const auto phase_extent = [&](Index pixels) {
      return (pixels * shape_.enlarge + shape_.pad_before + shape_.pad_after + stride - 1) / stride;
    };
    Phases phases{nullptr, phase_extent(x.height), phase_extent(x.width)};
    const Index plane = phases.plane(stride);
    // The kernel's last rows read beyond the last plane by less than two rows and a tile.
    const Index count = x.channels * plane;
    const Index beyond = 2 * shape_.kernel + detail::tile_columns<Scalar>;
    phases.data = scratch.take(count + beyond);
    std::fill_n(phases.data, count + beyond, Scalar(0));
    for (Index c = 0; c < x.channels; ++c)
      for (Index y = 0; y < x.height * shape_.enlarge; ++y) {
        const Scalar* from = x.channel(c) + y / shape_.enlarge * x.width;
        Scalar* to = phases.data + c * plane;
        copy_row(from, x.width, y + shape_.pad_before, phases, to);
      }
    return phases;
  }

  /// Row y of a padded picture; its pixels go to the phases in turn.
  void copy_row(const Scalar* from, Index width, Index y, const Phases& phases, Scalar* to) const {
    const Index stride = shape_.stride;
    for (Index first = 0; first < stride; ++first) {
      Scalar* row = to + phases.offset(y, first + shape_.pad_before, stride);
      if (shape_.enlarge == 1 && stride == 1) {
        std::copy_n(from, width, row);
      } else if (shape_.enlarge == 1) {
        for (Index x = first; x < width; x += stride) *row++ = from[x];
      } else if (shape_.enlarge == 2 && stride == 1) {
        for (Index x = 0; x < width; ++x) row[2 * x] = row[2 * x + 1] = from[x];
      } else {
        for (Index x = first; x < width * shape_.enlarge; x += stride)
          *row++ = from[x / shape_.enlarge];
      }
    }
  }

  ConvShape shape_;
  PackedMatrix<Scalar> weight_;
  std::vector<Scalar> bias_;
};

inline ConvShape conv3x3(Index in, Index out) { return {.in = in, .out = out}; }

inline ConvShape conv1x1(Index in, Index out) {
  return {.in = in, .out = out, .kernel = 1, .pad_before = 0, .pad_after = 0};
}

/// A linear layer on every pixel: a 1x1 convolution whose weights are saved as [out, in].
template <class Scalar>
Conv2d<Scalar> pixelwise_linear(Parameters<Scalar>& parameters, const std::string& name, Index in,
                                Index out) {
  return Conv2d<Scalar>(parameters, name, conv1x1(in, out), {});
}

/// Group normalisation (Wu and He 2018): zero mean and unit variance over each group of channels,
/// then scale and shift by channel.
template <class Scalar>
class GroupNorm {
 public:
  GroupNorm(Parameters<Scalar>& parameters, const std::string& name, Index channels,
            std::optional<Index> groups, double eps)
      : groups_(groups.value_or(0)), eps_(eps) {
    if (groups_ < 1 || channels % groups_ != 0)
      detail::fail("config.json: " + quoted_groups(groups) + " groups for the " +
                   std::to_string(channels) + " channels of " + detail::quoted(name) +
                   ", must divide them");
    weight_ = parameters.take(name + ".weight", {channels});
    bias_ = parameters.take(name + ".bias", {channels});
  }

  /// out = act(norm(x) * (1 + scale) + shift); scale and shift, one a channel, may be null; act may
  /// be absent.
  void operator()(const FeatureMap<Scalar>& x, std::optional<Activation> act,
                  const FeatureMap<Scalar>& out, const Scalar* scale = nullptr,
                  const Scalar* shift = nullptr) const {
    const Index width = x.channels / groups_;
    for (Index g = 0; g < groups_; ++g) {
      const auto [mean, deviation] = moments(x, g * width, width);
      for (Index c = g * width; c < (g + 1) * width; ++c) {
        const auto i = static_cast<std::size_t>(c);
        double a = static_cast<double>(weight_[i]) / deviation;
        double b = static_cast<double>(bias_[i]) - mean * a;
        if (scale != nullptr) {
          a *= 1.0 + static_cast<double>(scale[c]);
          b *= 1.0 + static_cast<double>(scale[c]);
          b += static_cast<double>(shift[c]);
        }
        apply(act, x.channel(c), x.pixels(), static_cast<Scalar>(a), static_cast<Scalar>(b),
              out.channel(c));
      }
    }
  }

 private:
  struct Moments {
    double mean, deviation;
  };

  static std::string quoted_groups(std::optional<Index> groups) {
    return groups ? std::to_string(*groups) : "null";
  }

  static void apply(std::optional<Activation> act, const Scalar* x, Index count, Scalar a, Scalar b,
                    Scalar* y) {
    if (act)
      affine_activation(*act, x, count, a, b, y);
    else
      ArrayMap<Scalar>(y, count) = ConstArrayMap<Scalar>(x, count) * a + b;
  }

  /// Channel by channel in Scalar, over the channels in double: large pictures lose nothing.
  Moments moments(const FeatureMap<Scalar>& x, Index first, Index width) const {
    const auto count = static_cast<double>(width * x.pixels());
    double sum = 0.0;
    for (Index c = first; c < first + width; ++c)
      sum += static_cast<double>(ConstArrayMap<Scalar>(x.channel(c), x.pixels()).sum());
    const double mean = sum / count;
    double squares = 0.0;
    for (Index c = first; c < first + width; ++c)
      squares += static_cast<double>(
          (ConstArrayMap<Scalar>(x.channel(c), x.pixels()) - static_cast<Scalar>(mean))
              .square()
              .sum());
    return {mean, std::sqrt(squares / count + eps_)};
  }

  Index groups_;
  double eps_;
  std::vector<Scalar> weight_, bias_;
};

/// Self-attention over the pixels (Vaswani et al. 2017), with the residual: in place,
/// x <- (x + out(softmax(q k^T / sqrt(head_dim)) v)) / rescale.
template <class Scalar>
class Attention {
 public:
  struct Options {
    Index channels = 0;
    Index head_dim = 0;
    std::optional<Index> groups;  ///< of the norm in front; none: no norm
    double eps = 0.0;
    double rescale = 1.0;
  };

  Attention(Parameters<Scalar>& parameters, const std::string& name, const Options& options)
      : head_dim_(options.head_dim),
        heads_(heads(options)),
        rescale_(static_cast<Scalar>(options.rescale)),
        query_(projection(parameters, name, "to_q", "query", options.channels, inner())),
        key_(projection(parameters, name, "to_k", "key", options.channels, inner())),
        value_(projection(parameters, name, "to_v", "value", options.channels, inner())),
        out_(projection(parameters, name, "to_out.0", "proj_attn", inner(), options.channels)) {
    if (options.groups)
      norm_.emplace(parameters, name + ".group_norm", options.channels, options.groups,
                    options.eps);
  }

  /// @param probe shows the probabilities to its hook and is moved on to the next layer
  void operator()(Arena<Scalar>& scratch, const FeatureMap<Scalar>& x,
                  AttentionProbe<Scalar>& probe) const {
    const typename Arena<Scalar>::Scope scope(scratch);
    FeatureMap<Scalar> normed = x;
    if (norm_) {
      normed = scratch.map(x.channels, x.height, x.width);
      (*norm_)(x, std::nullopt, normed);
    }
    const auto project = [&](const Conv2d<Scalar>& layer) {
      const auto result = layer.result(scratch, x);
      layer(scratch, normed, result);
      return result;
    };
    const auto q = project(query_), k = project(key_), v = project(value_);
    ArrayMap<Scalar>(q.data, q.size()) /= std::sqrt(static_cast<Scalar>(head_dim_));
    const auto mixed = scratch.map(inner(), x.height, x.width);
    for (Index head = 0; head < heads_; ++head)
      attend(scratch, q.channel(head * head_dim_), k.channel(head * head_dim_),
             v.channel(head * head_dim_), x.pixels(), mixed.channel(head * head_dim_), probe, head);
    ++probe.layer;
    out_(scratch, mixed, x, nullptr, x.data);
    if (rescale_ != Scalar(1)) ArrayMap<Scalar>(x.data, x.size()) /= rescale_;
  }

 private:
  Index inner() const { return heads_ * head_dim_; }

  static Index heads(const Options& options) {
    if (options.head_dim > options.channels)
      detail::fail("config.json: attention_head_dim is " + std::to_string(options.head_dim) +
                   ", must be at most the width of its block, " + std::to_string(options.channels));
    return options.channels / options.head_dim;
  }

  /// A projection under its name of today, or the one in files from before 2023.
  static Conv2d<Scalar> projection(Parameters<Scalar>& parameters, const std::string& name,
                                   const std::string& today, const std::string& old, Index in,
                                   Index out) {
    const std::string& used = parameters.has(name + "." + old + ".weight") ? old : today;
    return pixelwise_linear(parameters, name + "." + used, in, out);
  }

  /// One head: all of [head_dim, pixels]. The scores are made for some queries at a time, so that
  /// their memory grows with the pixels and not with the square.
  void attend(Arena<Scalar>& scratch, const Scalar* query, const Scalar* key, const Scalar* value,
              Index pixels, Scalar* mixed, const AttentionProbe<Scalar>& probe, Index head) const {
    using Map = Eigen::Map<RowMatrix<Scalar>>;
    using ConstMap = Eigen::Map<const RowMatrix<Scalar>>;
    constexpr Index most_queries = 256;
    const typename Arena<Scalar>::Scope scope(scratch);
    const ConstMap q(query, head_dim_, pixels), k(key, head_dim_, pixels),
        v(value, head_dim_, pixels);
    Map result(mixed, head_dim_, pixels);
    Scalar* scores = scratch.take(std::min(most_queries, pixels) * pixels);
    for (Index first = 0; first < pixels; first += most_queries) {
      const Index queries = std::min(most_queries, pixels - first);
      Map s(scores, queries, pixels);
      s.noalias() = q.middleCols(first, queries).transpose() * k;
      for (Index i = 0; i < queries; ++i) {
        auto row = s.row(i).array();
        row = (row - row.maxCoeff()).exp().eval();
        row /= row.sum();
      }
      if (probe.hook != nullptr)
        (*probe.hook)({probe.sample, probe.layer, static_cast<int>(head), first, queries, pixels},
                      {scores, static_cast<std::size_t>(queries * pixels)});
      result.middleCols(first, queries).noalias() = v * s.transpose();
    }
  }

  Index head_dim_, heads_;
  Scalar rescale_;
  Conv2d<Scalar> query_, key_, value_, out_;
  std::optional<GroupNorm<Scalar>> norm_;
};

/// How a resnet block, or the picture beside the skip blocks, changes its size on the way.
enum class Resize { none, nearest_up, average_down, fir_up, fir_down };

inline Index resized(Resize how, Index extent) {
  switch (how) {
    case Resize::none:
      return extent;
    case Resize::nearest_up:
    case Resize::fir_up:
      return 2 * extent;
    case Resize::average_down:
    case Resize::fir_down:
      return extent / 2;
  }
  return extent;
}

/// One direction of a resize: output i is the weighted sum of `taps` inputs from `first(i)` on,
/// zero outside. The FIR filter is (1, 3, 3, 1), as in StyleGAN2 (Karras et al. 2020).
struct ResizeTaps {
  std::array<double, 4> weights{};
  Index count = 0, first = 0;

  static ResizeTaps of(Resize how, Index i) {
    const bool odd = i % 2 != 0;
    switch (how) {
      case Resize::none:
        return {{1.0}, 1, i};
      case Resize::nearest_up:
        return {{1.0}, 1, i / 2};
      case Resize::average_down:
        return {{0.5, 0.5}, 2, 2 * i};
      case Resize::fir_up:
        return odd ? ResizeTaps{{0.75, 0.25}, 2, i / 2} : ResizeTaps{{0.25, 0.75}, 2, i / 2 - 1};
      case Resize::fir_down:
        return {{0.125, 0.375, 0.375, 0.125}, 4, 2 * i - 1};
    }
    return {};
  }
};

/// The resized map, in `arena`.
template <class Scalar>
FeatureMap<Scalar> resize(Arena<Scalar>& arena, Resize how, const FeatureMap<Scalar>& x) {
  if (how == Resize::none) return x;
  const auto out = arena.map(x.channels, resized(how, x.height), resized(how, x.width));
  const auto weighted_pixel = [&](const Scalar* picture, const ResizeTaps& rows,
                                  const ResizeTaps& columns) {
    Scalar sum(0);
    for (Index a = 0; a < rows.count; ++a)
      for (Index b = 0; b < columns.count; ++b) {
        const Index y = rows.first + a, z = columns.first + b;
        if (y < 0 || y >= x.height || z < 0 || z >= x.width) continue;
        const double weight = rows.weights[static_cast<std::size_t>(a)] *
                              columns.weights[static_cast<std::size_t>(b)];
        sum += static_cast<Scalar>(weight) * picture[y * x.width + z];
      }
    return sum;
  };
  for (Index c = 0; c < x.channels; ++c)
    for (Index i = 0; i < out.height; ++i) {
      const ResizeTaps rows = ResizeTaps::of(how, i);
      Scalar* to = out.channel(c) + i * out.width;
      for (Index j = 0; j < out.width; ++j)
        to[j] = weighted_pixel(x.channel(c), rows, ResizeTaps::of(how, j));
    }
  return out;
}

}  // namespace nn

#endif
