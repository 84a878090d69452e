#ifndef DIFFUSION_EXAMPLES_MODEL_FOLDER_HPP
#define DIFFUSION_EXAMPLES_MODEL_FOLDER_HPP

#include <diffusion/guidance/classifier_free.hpp>
#include <diffusion/interop/diffusers_types.hpp>
#include <nn/unet2d.hpp>

#include <cstdint>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace examples {

/// A model as diffusers saves it: unet/ (config.json and weights) and scheduler/.
struct Model {
  nn::Unet2d<float> network;
  diffusion::DiffusersConfig scheduler;

  /// Classes that the network knows, the null class included; 0 for none.
  int classes() const { return static_cast<int>(network.config().num_class_embeds); }
  /// The class that stands for none: by our training script's convention the last.
  int null_class() const { return classes() - 1; }
  /// Sides of the pictures. Throws where the network's configuration does not tell.
  Eigen::Index height() const { return sample_size().first; }
  Eigen::Index width() const { return sample_size().second; }

 private:
  std::pair<std::int64_t, std::int64_t> sample_size() const {
    if (!network.config().sample_size)
      throw std::runtime_error("unet/config.json has no sample_size: the side of the pictures");
    return *network.config().sample_size;
  }
};

/// Reads a folder. `load_as` is the scheduler class that reads the scheduler's configuration, by
/// default the one that it names. Throws where a file is missing or wrong, and for networks whose
/// classes are not the numbers of a table.
Model load_model(const std::filesystem::path& folder, const std::string& load_as = {});

/// The network as guidance asks it: one class for each sample.
inline auto conditional(nn::Unet2d<float>& network) {
  return [&network, labels = std::vector<int>()](const nn::Unet2d<float>::Batch& x, double t,
                                                 const diffusion::Conditions<int>& classes,
                                                 nn::Unet2d<float>::Batch& out) mutable {
    labels.clear();
    for (std::size_t i = 0; i < classes.size(); ++i) labels.push_back(classes[i]);
    network(x, t, labels, out);
  };
}

}  // namespace examples

#endif  // DIFFUSION_EXAMPLES_MODEL_FOLDER_HPP
