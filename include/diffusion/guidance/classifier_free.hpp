#ifndef DIFFUSION_GUIDANCE_CLASSIFIER_FREE_HPP
#define DIFFUSION_GUIDANCE_CLASSIFIER_FREE_HPP

#include <diffusion/denoiser/denoiser.hpp>
#include <diffusion/tensor/lane.hpp>

#include <algorithm>
#include <any>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <type_traits>
#include <utility>
#include <vector>

namespace diffusion {

/// The conditions of one network call, one per sample of its batch. A view: nothing is copied, so
/// a condition may be of any type, also one that can only be moved. Immutable; valid during the
/// call only.
template <class Condition>
class Conditions {
 public:
  /// The first `nulls` samples have the null condition, the others those of the list in order.
  Conditions(const std::vector<Condition>& list, const Condition& null, std::size_t nulls,
             std::size_t size)
      : list_(&list), null_(&null), nulls_(nulls), size_(size) {}

  std::size_t size() const { return size_; }
  const Condition& operator[](std::size_t sample) const {
    return sample < nulls_ ? *null_ : (*list_)[sample - nulls_];
  }

 private:
  const std::vector<Condition>* list_;
  const Condition* null_;
  std::size_t nulls_;
  std::size_t size_;
};

namespace detail {

/// A tensor of whatever type is asked for, made at the first use and kept while the shape stays.
class KeptTensor {
 public:
  template <State Tensor>
  Tensor& get(const ShapeOf<Tensor>& shape) {
    Tensor* tensor = std::any_cast<Tensor>(&kept_);
    if (!tensor || StateTraits<Tensor>::shape(*tensor) != shape)
      tensor = &kept_.emplace<Tensor>(StateTraits<Tensor>::make(shape));
    return *tensor;
  }

 private:
  std::any kept_;
};

}  // namespace detail

/// How guidance asks its network for the two predictions.
enum class GuidanceCalls {
  /// Once, on a batch of twice the size, the unconditional half first; Query::branch is 0 and
  /// Query::samples counts both halves. Unbatched states, and those whose type fixes the size of
  /// the batch, are asked separately all the same.
  joined,
  separate,  ///< twice, on the batch itself; Query::branch is 0 without and 1 with condition
};

/// Options of ClassifierFreeGuidance. Plain data: threads may share what none of them writes.
struct GuidanceOptions {
  double scale = 1;  ///< g of u + g (c - u): 1 is no guidance, 0 no condition; any finite number
  GuidanceCalls calls = GuidanceCalls::joined;
  /// 0 to 1: how far each sample's result is brought back to the standard deviation of c, against
  /// pictures that guidance makes too contrasty (Lin et al. 2023, arXiv 2305.08891, eq. 15, 16).
  double rescale = 0;
};

namespace detail {

/// The standard deviation of n numbers.
template <class S>
double standard_deviation(const S* x, std::size_t n) {
  double mean = 0;
  for (std::size_t i = 0; i < n; ++i) mean += static_cast<double>(x[i]);
  mean /= static_cast<double>(n);
  double squares = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const double d = static_cast<double>(x[i]) - mean;
    squares += d * d;
  }
  return std::sqrt(squares / static_cast<double>(n));
}

}  // namespace detail

/// Classifier-free guidance (Ho and Salimans 2022, arXiv 2207.12598): a denoiser made of a
/// conditional network,
///
///     void network(const Tensor& x, double t, const Conditions<Condition>& conditions,
///                  Tensor& out)
///
/// (or with `const Query&` in place of t; or over raw buffers, (const S* x, double t, conditions,
/// S* out, shape), see RawDenoiser), which answers u + g (c - u) for its predictions u
/// without and c with the condition. The paper's w is g - 1. Where the network learns a variance,
/// its half of the channels comes from the conditional prediction. One condition per sample; the
/// null condition stands for none. At g = 1 only the conditional network is asked.
///
/// Not thread-safe: it holds buffers, made at the first call and kept; one object per run at a
/// time.
template <class Network, class Condition>
class ClassifierFreeGuidance {
  static_assert(!std::is_same_v<Condition, bool>,
                "std::vector<bool> holds no bools that could be referred to; use int for bool");

 public:
  /// Fails for a scale that is not finite and a rescale outside [0, 1]. The number of conditions is
  /// checked when sampling.
  ClassifierFreeGuidance(Network network, std::vector<Condition> conditions, Condition null,
                         GuidanceOptions options = {})
      : network_(std::move(network)),
        conditions_(std::move(conditions)),
        null_(std::move(null)),
        options_(options) {
    detail::require_enumerator("GuidanceOptions::calls", options.calls, 2);
    if (!detail::is_finite(options.scale))
      fail(detail::text("GuidanceOptions::scale is ", options.scale, "; it must be finite"));
    detail::require_range("GuidanceOptions::rescale", options.rescale, 0.0, 1.0);
  }

  template <State Tensor>
  void operator()(const Tensor& x, const Query& query, TensorOf<Tensor>& out) {
    const auto shape = StateTraits<Tensor>::shape(x);
    const std::size_t first_extent = blocks_of<Tensor>(shape, true).batch;
    const std::size_t batch = query.samples > 0 ? query.samples : first_extent;
    if (conditions_.size() != batch)
      fail(detail::text("guidance has ", conditions_.size(), " conditions for a batch of ", batch,
                        "; it needs one per sample"));
    Query asked = query;
    asked.branch = 1;
    if (options_.scale == 1) return call(x, asked, {conditions_, null_, 0, batch}, out);

    using Owner = TensorOf<Tensor>;
    const auto out_shape = StateTraits<Owner>::shape(out);
    const std::size_t n = blocks_of<Tensor>(shape, false).total();
    const std::size_t answers = blocks_of<Owner>(out_shape, false).total();
    // A state that is one sample has no dimension along which two could be joined.
    if (options_.calls == GuidanceCalls::separate || !query.batched ||
        !detail::fits<Owner>(doubled<Owner>(shape)) ||
        !detail::fits<Owner>(doubled<Owner>(out_shape))) {
      Owner& without = second_.template get<Owner>(out_shape);
      call(x, asked, {conditions_, null_, 0, batch}, out);
      asked.branch = 0;
      call(x, asked, {conditions_, null_, batch, batch}, without);
      require_shape(without, out_shape);
      require_shape(out, out_shape);
      guide(data(without), data(out), out, {batch, n / batch});
    } else {
      Owner& twice = first_.template get<Owner>(doubled<Owner>(shape));
      Owner& both = second_.template get<Owner>(doubled<Owner>(out_shape));
      const auto* state = StateTraits<Tensor>::data(x);
      std::copy_n(state, n, StateTraits<Owner>::data(twice));
      std::copy_n(state, n, StateTraits<Owner>::data(twice) + n);
      asked.branch = 0;
      asked.samples = 2 * batch;
      times_.assign(query.times.begin(), query.times.end());
      times_.insert(times_.end(), query.times.begin(), query.times.end());
      asked.times = times_;
      const Tensor& input = detail::seen_as<Tensor>(twice);
      call(input, asked, {conditions_, null_, batch, 2 * batch}, both);
      require_shape(both, doubled<Owner>(out_shape));
      guide(data(both), data(both) + answers, out, {batch, n / batch});
    }
  }

  // What the network declares holds for the guided network too.
  PredictionType prediction_type() requires requires(Network& network) {
    network.prediction_type();
  }
  { return network_.prediction_type(); }
  void begin_run() requires requires(Network& network) { network.begin_run(); }
  { network_.begin_run(); }
  template <class Shape>
  requires requires(Network& network, const Shape& input) { network.output_shape(input); }
  Shape output_shape(const Shape& input) { return network_.output_shape(input); }

 private:
  template <class Tensor>
  static auto* data(const Tensor& x) {
    return StateTraits<Tensor>::data(x);
  }

  /// A network that assigns to its output may have given it another shape.
  template <class Tensor>
  static void require_shape(const Tensor& answer, const ShapeOf<Tensor>& wanted) {
    const auto shape = StateTraits<Tensor>::shape(answer);
    if (shape != wanted)
      fail(detail::text("the network changed its output to the shape ", shape_text(shape),
                        "; it must keep the ", shape_text(wanted), " that it was given"));
  }

  template <class Tensor, class Out>
  void call(const Tensor& x, const Query& query, const Conditions<Condition>& conditions,
            Out& out) {
    if constexpr (std::invocable<Network&, const Tensor&, double, const Conditions<Condition>&,
                                 Out&>) {
      network_(x, query.t, conditions, out);
    } else if constexpr (std::invocable<Network&, const Tensor&, const Query&,
                                        const Conditions<Condition>&, Out&>) {
      network_(x, query, conditions, out);
    } else {
      detail::with_buffers(x, out, [&](const auto* from, auto* to, const auto& extents) {
        call_raw(from, query, conditions, to, extents);
      });
    }
  }

  template <class S, class Shape>
  void call_raw(const S* x, const Query& query, const Conditions<Condition>& conditions, S* out,
                const Shape& shape) {
    if constexpr (std::invocable<Network&, const S*, double, const Conditions<Condition>&, S*,
                                 const Shape&>) {
      network_(x, query.t, conditions, out, shape);
    } else {
      static_assert(
          std::invocable<Network&, const S*, const Query&, const Conditions<Condition>&, S*,
                         const Shape&>,
          "a conditional network must be callable as (const Tensor& x, double t, const "
          "Conditions<Condition>& conditions, Tensor& out), as (const Scalar* x, double t, const "
          "Conditions<Condition>& conditions, Scalar* out, std::span<const Eigen::Index> shape), "
          "or with const Query& for t");
      network_(x, query, conditions, out, shape);
    }
  }

  template <class Tensor>
  static ShapeOf<Tensor> doubled(ShapeOf<Tensor> shape) {
    shape[StateTraits<Tensor>::row_major ? 0 : shape.size() - 1] *= 2;
    return shape;
  }

  /// out = u + g (c - u), rescaled, on as many elements of each sample's answer as the state has, c
  /// on those that follow. c may stand in `out`.
  template <class S, class Tensor>
  void guide(const S* u, const S* c, Tensor& out, const Blocks& state) const {
    const std::size_t size = state.size;
    const std::size_t stride =
        blocks_of<Tensor>(StateTraits<Tensor>::shape(out), false).total() / state.batch;
    const auto g = static_cast<detail::Compute<S>>(options_.scale);
    S* to = StateTraits<Tensor>::data(out);
    for (std::size_t i = 0; i < state.batch; ++i, u += stride, c += stride, to += stride) {
      const double wanted = options_.rescale > 0 ? detail::standard_deviation(c, size) : 0;
      detail::transform_lanes(u, c, to, size, [g](const auto& without, const auto& with) {
        return without + g * (with - without);
      });
      if (options_.rescale > 0) rescale(to, size, wanted);
      if (c != to) std::copy(c + size, c + stride, to + size);
    }
  }

  /// Brings n numbers towards the standard deviation `wanted`; numbers that are all equal stay.
  template <class S>
  void rescale(S* x, std::size_t n, double wanted) const {
    const double found = detail::standard_deviation(x, n);
    if (found == 0) return;
    const double factor = 1 + options_.rescale * (wanted / found - 1);
    for (std::size_t i = 0; i < n; ++i) x[i] = static_cast<S>(factor * static_cast<double>(x[i]));
  }

  Network network_;
  std::vector<Condition> conditions_;
  Condition null_;
  GuidanceOptions options_;
  detail::KeptTensor first_, second_;
  std::vector<double> times_;  // of the joined batch, where samples have times of their own
};

}  // namespace diffusion

#endif  // DIFFUSION_GUIDANCE_CLASSIFIER_FREE_HPP
