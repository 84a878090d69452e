#include "support/model_folder.hpp"

#include <diffusion/interop/diffusers_config.hpp>

#include <stdexcept>
#include <string>

namespace examples {

Model load_model(const std::filesystem::path& folder, const std::string& load_as) {
  if (!std::filesystem::is_directory(folder))
    throw std::invalid_argument("there is no folder " + folder.string());
  Model model{nn::Unet2d<float>::load(folder / "unet"),
              diffusion::load_diffusers_config(folder / "scheduler" / "scheduler_config.json",
                                               {.load_as = load_as})};
  const nn::ClassEmbedding kind = model.network.config().class_embedding;
  if (kind == nn::ClassEmbedding::timestep || kind == nn::ClassEmbedding::identity)
    throw std::invalid_argument(
        std::string("unet/config.json: class_embed_type is \"") +
        (kind == nn::ClassEmbedding::timestep ? "timestep" : "identity") +
        "\"; it must be null: classes, if any, are the numbers below num_class_embeds");
  return model;
}

}  // namespace examples
