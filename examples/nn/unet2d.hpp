#ifndef DIFFUSION_EXAMPLES_NN_UNET2D_HPP
#define DIFFUSION_EXAMPLES_NN_UNET2D_HPP

#include "attention_hook.hpp"
#include "safetensors.hpp"
#include "unet2d_config.hpp"

#include <Eigen/Core>
#include <unsupported/Eigen/CXX11/Tensor>

#include <filesystem>
#include <memory>
#include <span>
#include <vector>

namespace nn {

/// The network of diffusers' UNet2DModel (Ho, Jain and Abbeel 2020, with the blocks of Song et al.
/// 2021), read from the folder that diffusers saves. Scalar is float or double; the templates are
/// compiled once, in unet2d.cpp.
///
/// ```
/// auto network = nn::Unet2d<float>::load("model/unet");
/// network.set_threads(2);
/// network(x, t, labels, prediction);  // x: batch, channel, height, width
/// ```
///
/// A call splits the batch over the threads, sample by sample; each sample is computed on its own,
/// so the result of one does not depend on the others or on the threads. The scratch memory of a
/// call is kept for the next, so one object serves one call at a time.
template <class Scalar>
class Unet2d {
 public:
  using Batch = Eigen::Tensor<Scalar, 4, Eigen::RowMajor>;

  /// Reads `folder`/config.json and `folder`/diffusion_pytorch_model.safetensors.
  /// @throws std::runtime_error that names the file and the field or tensor at fault: one that is
  ///         missing, has the wrong shape or is of no use to the network is an error too
  static Unet2d load(const std::filesystem::path& folder);

  Unet2d(const Unet2dConfig& config, const SafeTensors& weights);

  Unet2d(Unet2d&&) noexcept;
  Unet2d& operator=(Unet2d&&) noexcept;
  ~Unet2d();

  const Unet2dConfig& config() const;

  /// How many samples are worked on at a time; at first 1.
  /// @throws std::invalid_argument if `threads` is not from 1 to 1024
  void set_threads(int threads);
  int threads() const;

  /// The network's output for a batch at one timestep.
  /// @param x      [batch, in_channels, height, width]
  /// @param t      timestep as the network was trained with, 0 to 999 for most
  /// @param labels a class for each sample, or empty if the network has no classes
  /// @param out    becomes [batch, out_channels, height, width]
  /// @throws std::runtime_error if a shape, a label or t is not what the network takes
  void operator()(const Batch& x, double t, std::span<const int> labels, Batch& out);

  /// The same with one timestep for each sample.
  void operator()(const Batch& x, std::span<const double> t, std::span<const int> labels,
                  Batch& out);

  /// For a network with class_embed_type "identity", and in place of labels for one with a table
  /// of classes: a vector for each sample, [batch, time_embedding_dim] in C order, added to the
  /// time embedding.
  void call_with_class_vectors(const Batch& x, double t, std::span<const Scalar> class_vectors,
                               Batch& out);

  /// The vector that stands for a class, time_embedding_dim numbers: one between two of them is a
  /// class in between.
  /// @throws std::runtime_error if the network has no table of classes, or not this one
  std::vector<Scalar> class_vector(int label) const;

  /// From now on `hook` is shown the attention probabilities of every call and may replace them; an
  /// empty one ends that. Without a hook nothing is spent on it. Not to be set during a call.
  void set_attention_hook(AttentionHook<Scalar> hook);

 private:
  class Implementation;
  std::unique_ptr<Implementation> implementation_;
};

extern template class Unet2d<float>;
extern template class Unet2d<double>;

}  // namespace nn

#endif
