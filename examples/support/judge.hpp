#ifndef DIFFUSION_EXAMPLES_JUDGE_HPP
#define DIFFUSION_EXAMPLES_JUDGE_HPP

#include <nn/classifier.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <filesystem>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace examples {

/// Says which class a finished picture shows: the classifier of a folder's judge/, which has seen
/// no network of ours and guides none.
///
///     examples::Judge judge("examples/models/digits-and-clothing-classifier");
///     std::cout << judge.recognised(pictures, labels) << '\n';
///
/// Pictures are [count, 1, 28, 28] in [-1, 1]. One object serves one call at a time.
class Judge {
 public:
  using Pictures = nn::PictureClassifier<float>::Batch;
  using Probabilities = nn::PictureClassifier<float>::Scores;  ///< [count, classes], rows sum to 1

  explicit Judge(const std::filesystem::path& folder)
      : network_(nn::PictureClassifier<float>::load(folder / "judge")) {
    network_.set_threads(static_cast<int>(std::max(1U, std::thread::hardware_concurrency())));
  }

  int class_count() const { return static_cast<int>(network_.config().classes); }

  Probabilities probabilities(const Pictures& pictures) {
    Probabilities result;
    network_(pictures, std::span<const double>(), result);
    for (Eigen::Index i = 0; i < result.dimension(0); ++i) nn::log_softmax(row(result, i));
    for (float& value : std::span(result.data(), static_cast<std::size_t>(result.size())))
      value = std::exp(value);
    return result;
  }

  /// The likeliest class of every picture.
  std::vector<int> classes(const Pictures& pictures) {
    Probabilities scores;
    network_(pictures, std::span<const double>(), scores);
    std::vector<int> result;
    for (Eigen::Index i = 0; i < scores.dimension(0); ++i) {
      const auto of = row(scores, i);
      result.push_back(static_cast<int>(std::max_element(of.begin(), of.end()) - of.begin()));
    }
    return result;
  }

  /// The share of the pictures whose likeliest class is that of `labels`, 0 to 1.
  double recognised(const Pictures& pictures, const std::vector<int>& labels) {
    if (labels.size() != static_cast<std::size_t>(pictures.dimension(0)) || labels.empty())
      throw std::invalid_argument(std::to_string(labels.size()) + " labels for " +
                                  std::to_string(pictures.dimension(0)) +
                                  " pictures, must be one for each and at least one");
    const std::vector<int> found = classes(pictures);
    std::size_t right = 0;
    for (std::size_t i = 0; i < labels.size(); ++i) right += found[i] == labels[i] ? 1 : 0;
    return static_cast<double>(right) / static_cast<double>(labels.size());
  }

 private:
  static std::span<float> row(Probabilities& scores, Eigen::Index i) {
    const Eigen::Index classes = scores.dimension(1);
    return {scores.data() + i * classes, static_cast<std::size_t>(classes)};
  }

  nn::PictureClassifier<float> network_;
};

}  // namespace examples

#endif  // DIFFUSION_EXAMPLES_JUDGE_HPP
