#ifndef DIFFUSION_EXAMPLES_NN_CLASSIFIER_HPP
#define DIFFUSION_EXAMPLES_NN_CLASSIFIER_HPP

#include "reversible.hpp"
#include "safetensors.hpp"
#include "unet2d_config.hpp"

#include <Eigen/Core>
#include <unsupported/Eigen/CXX11/Tensor>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace nn {

/// The fields of a classifier's config.json, as training/train_classifiers.py writes it. All must
/// be there; time_channels and time_width are null in a network that hears no timestep.
struct ClassifierConfig {
  std::int64_t in_channels = 1;
  std::int64_t sample_size = 28;               ///< height and width of the pictures
  std::vector<std::int64_t> block_channels{};  ///< two convolutions and a 2x2 pooling each
  std::int64_t features = 128;                 ///< width of the hidden layer
  std::int64_t classes = 20;
  Activation activation = Activation::relu;  ///< relu or silu
  Pooling pooling = Pooling::max;
  std::optional<std::int64_t> time_channels{};  ///< cosines and sines of the timestep, even
  std::optional<std::int64_t> time_width{};     ///< width of the time embedding

  bool hears_time() const { return time_channels.has_value(); }
  /// Height and width after the last pooling.
  std::int64_t last_side() const { return sample_size >> block_channels.size(); }

  /// @throws std::runtime_error that names the field, its value and what it may be
  static ClassifierConfig read(const std::filesystem::path& path);
  /// The same from the text of the file.
  static ClassifierConfig parse(std::string_view text);
};

/// A small convolutional classifier with reverse mode: which class a picture shows, and how that
/// answer changes with the pixels. With a time embedding it classifies noised pictures, as
/// classifier guidance needs it (Dhariwal and Nichol 2021, arXiv 2105.05233). Scalar is float or
/// double; the templates are compiled once, in classifier.cpp.
///
/// Each block is two 3x3 convolutions with an activation each and a 2x2 pooling; the first
/// convolution's bias depends on the time. Then a hidden layer with activation, and one number, the
/// score, for each class: softmax(scores) are the probabilities.
///
/// A call splits the batch over the threads, sample by sample, as Unet2d does; the result of one
/// sample does not depend on the others or on the threads. One object serves one call at a time.
template <class Scalar>
class PictureClassifier {
 public:
  using Batch = Eigen::Tensor<Scalar, 4, Eigen::RowMajor>;
  using Scores = Eigen::Tensor<Scalar, 2, Eigen::RowMajor>;  ///< [batch, classes]

  /// Reads `folder`/config.json and `folder`/model.safetensors.
  /// @throws std::runtime_error that names the file and the field or tensor at fault
  static PictureClassifier load(const std::filesystem::path& folder);

  PictureClassifier(const ClassifierConfig& config, const SafeTensors& weights);

  PictureClassifier(PictureClassifier&&) noexcept;
  PictureClassifier& operator=(PictureClassifier&&) noexcept;
  ~PictureClassifier();

  const ClassifierConfig& config() const;

  /// How many samples are worked on at a time; at first 1.
  /// @throws std::invalid_argument if `threads` is not from 1 to 1024
  void set_threads(int threads);
  int threads() const;

  /// The scores of all classes.
  /// @param x     [batch, in_channels, sample_size, sample_size]
  /// @param times the timestep, one for all or one a sample; none if the network hears no time
  /// @param out   becomes [batch, classes]
  /// @throws std::runtime_error if a shape or a time is not what the network takes
  void operator()(const Batch& x, std::span<const double> times, Scores& out);

  /// The gradient in x of log p(class | x), sample by sample: out becomes of the shape of x.
  /// @param classes a class for each sample, 0 to classes - 1
  void gradient(const Batch& x, std::span<const double> times, std::span<const int> classes,
                Batch& out);

 private:
  class Implementation;
  std::unique_ptr<Implementation> implementation_;
};

/// log p(class | x) of every class from the scores of one picture, in place.
template <class Scalar>
void log_softmax(std::span<Scalar> scores) {
  ArrayMap<Scalar> values(scores.data(), static_cast<Index>(scores.size()));
  values -= values.maxCoeff();
  values -= std::log(values.exp().sum());
}

extern template class PictureClassifier<float>;
extern template class PictureClassifier<double>;

}  // namespace nn

#endif
