#ifndef DIFFUSION_DENOISER_EXACT_EXACT_DENOISER_HPP
#define DIFFUSION_DENOISER_EXACT_EXACT_DENOISER_HPP

#include <diffusion/denoiser/denoiser.hpp>
#include <diffusion/denoiser/exact/gaussian.hpp>
#include <diffusion/denoiser/exact/gaussian_mixture.hpp>
#include <diffusion/denoiser/prediction_type.hpp>
#include <diffusion/noise/noise.hpp>
#include <diffusion/tensor/normals.hpp>
#include <diffusion/tensor/state.hpp>

#include <Eigen/Core>

#include <concepts>
#include <cstddef>
#include <iterator>
#include <type_traits>
#include <utility>
#include <vector>

namespace diffusion {

/// A distribution of data whose diffusion is known exactly: Gaussian, GaussianMixture, or your own
/// with these members.
template <class P>
concept ExactDistribution = requires(const P& p, const Eigen::VectorXd& x, const Knot& at) {
  { p.dimension() } -> std::convertible_to<Eigen::Index>;
  { p.x0(x, at) } -> std::convertible_to<Eigen::VectorXd>;
  { p.eps(x, at) } -> std::convertible_to<Eigen::VectorXd>;
  { p.score(x, at) } -> std::convertible_to<Eigen::VectorXd>;
  { p.normals() } -> std::convertible_to<Eigen::Index>;
  { p.from_normals(x) } -> std::convertible_to<Eigen::VectorXd>;
};

/// What a perfect network of this prediction type answers at x: E[f | x] for the f that it is
/// trained on. The score fails where the data has none.
template <ExactDistribution P>
Eigen::VectorXd exact_prediction(const P& data, PredictionType type, const Eigen::VectorXd& x,
                                 const Knot& at) {
  if (type == PredictionType::score) return data.score(x, at);
  const auto [on_x0, on_eps] = target(type, at);
  Eigen::VectorXd sum = Eigen::VectorXd::Zero(x.size());
  if (on_x0 != 0) sum += on_x0 * data.x0(x, at);
  if (on_eps != 0) sum += on_eps * data.eps(x, at);
  return sum;
}

namespace detail {

/// How states are read as points: the elements of a sample in the order of memory.
template <State T>
Blocks points_of(const ShapeOf<T>& shape, bool batched, Eigen::Index dimension) {
  const Blocks blocks = blocks_of<T>(shape, batched);
  if (blocks.size != static_cast<std::size_t>(dimension))
    fail(text("a sample of the state ", shape_text(shape), " has ", blocks.size,
              " elements; the distribution has ", dimension, " dimensions, they must be the same"));
  return blocks;
}

template <class S>
Eigen::VectorXd point_from(const S* sample, std::size_t size) {
  Eigen::VectorXd x(static_cast<Eigen::Index>(size));
  for (std::size_t i = 0; i < size; ++i)
    x[static_cast<Eigen::Index>(i)] = static_cast<double>(sample[i]);
  return x;
}

template <class S>
void store_point(const Eigen::VectorXd& point, S* sample) {
  for (Eigen::Index i = 0; i < point.size(); ++i) sample[i] = static_cast<S>(point[i]);
}

/// out = predict(sample number, point) for every sample of x.
template <State T, class Predict>
void predict_points(const T& x, bool batched, Eigen::Index dimension, TensorOf<T>& out,
                    const Predict& predict) {
  using Output = StateTraits<TensorOf<T>>;
  const Blocks blocks = points_of<T>(StateTraits<T>::shape(x), batched, dimension);
  const auto answers = blocks_of<TensorOf<T>>(Output::shape(out), batched);
  if (answers.batch != blocks.batch || answers.size != blocks.size)
    fail(text("the output has the shape ", shape_text(Output::shape(out)),
              "; it must have that of the state, ", shape_text(StateTraits<T>::shape(x)),
              " (an exact denoiser answers no variance)"));
  for (std::size_t sample = 0; sample < blocks.batch; ++sample)
    store_point(
        predict(sample, point_from(StateTraits<T>::data(x) + sample * blocks.size, blocks.size)),
        Output::data(out) + sample * blocks.size);
}

/// The level of what the denoiser is given, which may be a multiple of the state.
inline Knot level_of(const Query& query) {
  if (!query.times.empty())
    fail(text("the query has ", query.times.size(),
              " times but one level; an exact denoiser needs one time for all samples"));
  return {query.t, query.input_scale * query.alpha, query.input_scale * query.sigma};
}

}  // namespace detail

/// The perfect network for data of a known distribution, as a denoiser for any run: each sample of
/// the state is one point, its elements in the order of memory, computed in double whatever the
/// state's scalar. Declares its prediction type, so that SampleOptions need not. It is told alpha
/// and sigma by the Query, so it works on every schedule. Fails where a sample has not
/// `dimension()` elements. Const calls are thread-safe. Allocates; made for checking, not for
/// speed.
///
///     const auto network = exact_denoiser(mixture, PredictionType::v);
///     Points points = sample<Points>(sampler, network, {1000, 2}, PhiloxNoise{1});
template <ExactDistribution P>
class ExactDenoiser {
 public:
  explicit ExactDenoiser(P data, PredictionType type = PredictionType::epsilon)
      : data_(std::move(data)), type_(type) {
    detail::check_prediction_type(type);
  }

  const P& data() const { return data_; }
  PredictionType prediction_type() const { return type_; }

  template <State T>
  void operator()(const T& x, const Query& query, TensorOf<T>& out) const {
    const Knot at = detail::level_of(query);
    detail::predict_points(x, query.batched, data_.dimension(), out,
                           [&](std::size_t, const Eigen::VectorXd& point) {
                             return exact_prediction(data_, type_, point, at);
                           });
  }

 private:
  P data_;
  PredictionType type_;
};

/// The ExactDenoiser of a distribution.
template <ExactDistribution P>
ExactDenoiser<P> exact_denoiser(P data, PredictionType type = PredictionType::epsilon) {
  return ExactDenoiser<P>(std::move(data), type);
}

/// The perfect conditional network, for trying guidance: condition k >= 0 is data of the k-th
/// class, condition -1 is data without condition. Called by ClassifierFreeGuidance with one
/// condition per sample:
///
///     const auto network = exact_conditional_denoiser(mixture);
///     ClassifierFreeGuidance guided{network, std::vector<int>{0, 1}, -1,
///                                   GuidanceOptions{.scale = 2}};
///
/// Everything else as for ExactDenoiser. Const calls are thread-safe.
class ExactConditionalDenoiser {
 public:
  /// At least one class, all of the dimension of the unconditional data, which need not be their
  /// mixture.
  ExactConditionalDenoiser(std::vector<GaussianMixture> classes, GaussianMixture unconditional,
                           PredictionType type = PredictionType::epsilon)
      : classes_(std::move(classes)), unconditional_(std::move(unconditional)), type_(type) {
    detail::require_at_least("the number of classes", classes_.size(), std::size_t{1});
    detail::check_prediction_type(type);
    for (const GaussianMixture& data : classes_)
      detail::require_size("the mean of a class", data.dimension(), unconditional_.dimension());
  }

  /// Data of class k, or without condition for -1.
  const GaussianMixture& data(int k) const {
    detail::require_range("condition", k, -1, static_cast<int>(classes_.size()) - 1);
    return k < 0 ? unconditional_ : classes_[static_cast<std::size_t>(k)];
  }
  PredictionType prediction_type() const { return type_; }

  /// `conditions[i]` is the condition of sample i.
  template <State T, class Conditions>
  void operator()(const T& x, const Query& query, const Conditions& conditions,
                  TensorOf<T>& out) const {
    const Knot at = detail::level_of(query);
    detail::predict_points(x, query.batched, unconditional_.dimension(), out,
                           [&](std::size_t sample, const Eigen::VectorXd& point) {
                             const int k = static_cast<int>(conditions[sample]);
                             return exact_prediction(data(k), type_, point, at);
                           });
  }

 private:
  std::vector<GaussianMixture> classes_;
  GaussianMixture unconditional_;
  PredictionType type_;
};

/// Every component of a mixture is a class, the mixture itself the unconditional data.
inline ExactConditionalDenoiser exact_conditional_denoiser(
    const GaussianMixture& mixture, PredictionType type = PredictionType::epsilon) {
  std::vector<GaussianMixture> classes;
  for (int k = 0; k < mixture.size(); ++k) classes.emplace_back(mixture.component(k).gaussian);
  return ExactConditionalDenoiser(std::move(classes), mixture, type);
}

/// Samples of the data itself, exact and at once: what a sampler is to arrive at. An addressed
/// source is asked for draw 0 of each sample, which is also where a run starts, so give it another
/// seed than the run's; a sequential one for one tensor of normals() numbers a sample. Fails where
/// a sample of `shape` has not `dimension()` elements.
template <State T, ExactDistribution P, class N>
TensorOf<T> draw_data(const P& data, const ShapeOf<T>& shape, N&& noise, bool batched = true) {
  using Tensor = TensorOf<T>;
  static_assert(NoiseSource<std::remove_cvref_t<N>>,
                "a noise source needs fill(sample, draw, element, span<float>) const, or "
                "fill(span<float>) and fill(span<double>)");
  const Blocks blocks = detail::points_of<T>(shape, batched, data.dimension());
  const auto per_sample = static_cast<std::size_t>(data.normals());
  const Blocks drawn{blocks.batch, per_sample};
  std::vector<double> normals(drawn.total());
  detail::require_draws(noise, 1, drawn);
  detail::for_each_normal<double>(noise, 0, drawn,
                                  [&](std::size_t i, double n) { normals[i] = n; });
  Tensor x = StateTraits<Tensor>::make(shape);
  for (std::size_t sample = 0; sample < blocks.batch; ++sample)
    detail::store_point(Eigen::VectorXd(data.from_normals(
                            detail::point_from(normals.data() + sample * per_sample, per_sample))),
                        StateTraits<Tensor>::data(x) + sample * blocks.size);
  return x;
}

}  // namespace diffusion

#endif  // DIFFUSION_DENOISER_EXACT_EXACT_DENOISER_HPP
