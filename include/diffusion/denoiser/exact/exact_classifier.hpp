#ifndef DIFFUSION_DENOISER_EXACT_EXACT_CLASSIFIER_HPP
#define DIFFUSION_DENOISER_EXACT_EXACT_CLASSIFIER_HPP

#include <diffusion/denoiser/exact/exact_denoiser.hpp>

#include <Eigen/Core>

#include <cstddef>
#include <utility>
#include <vector>

namespace diffusion {

/// The exact classifier of noisy data as classifier guidance asks it (ClassifierGradient): the
/// gradient in x of log p(k | x) = log p(x | k) - log p(x) + const, the difference of two scores,
/// for a class k of each sample; 0 for the class -1, which is data without condition.
///
///     const GaussianMixture mixture{...};
///     ClassifierGuidance guided{exact_denoiser(mixture),
///                               ExactClassifierGradient(mixture, classes)};
///
/// Const calls are thread-safe. Allocates; made for checking, not for speed.
class ExactClassifierGradient {
 public:
  /// Each component of the mixture is a class. Fails for a class that there is not.
  ExactClassifierGradient(const GaussianMixture& mixture, std::vector<int> classes)
      : ExactClassifierGradient(exact_conditional_denoiser(mixture), std::move(classes)) {}
  /// Any classes and any data without condition, which need not be their mixture.
  ExactClassifierGradient(ExactConditionalDenoiser model, std::vector<int> classes)
      : model_(std::move(model)), classes_(std::move(classes)) {
    for (const int k : classes_) model_.data(k);
  }

  /// Fails unless there is a class for each sample, where a sample has another dimension, where
  /// slices have times of their own, and where there is no density (sigma = 0, singular data).
  template <State T>
  void operator()(const T& x, const Query& query, TensorOf<T>& out) const {
    const Blocks blocks = blocks_of<T>(StateTraits<T>::shape(x), query.batched);
    if (classes_.size() != blocks.batch)
      fail(detail::text("the classifier has ", classes_.size(), " classes for a batch of ",
                        blocks.batch, "; it needs one per sample"));
    if (!query.times.empty())
      fail(detail::text("the query has ", query.times.size(),
                        " times; an exact classifier needs one time for all samples"));
    const Knot at{query.t, query.alpha, query.sigma};
    detail::predict_points(x, query.batched, model_.data(-1).dimension(), out,
                           [&](std::size_t sample, const Eigen::VectorXd& point) {
                             return Eigen::VectorXd(model_.data(classes_[sample]).score(point, at) -
                                                    model_.data(-1).score(point, at));
                           });
  }

 private:
  ExactConditionalDenoiser model_;
  std::vector<int> classes_;
};

}  // namespace diffusion

#endif  // DIFFUSION_DENOISER_EXACT_EXACT_CLASSIFIER_HPP
