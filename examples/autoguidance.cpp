// Autoguidance: away from a worse network instead of from no condition. The worse one is the same
// network with the weights of each tensor rounded to 49 values.
#include <diffusion/guidance/autoguidance.hpp>
#include <diffusion/samplers/ddim.hpp>
#include <nlohmann/json.hpp>
#include <support/file.hpp>
#include <support/gallery.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace {

/// The network of a folder with every weight rounded to a multiple of the largest of its tensor
/// divided by `levels`. The weights of the file are of 16 bits.
nn::Unet2d<float> rounded(const std::string& folder, const nn::Unet2dConfig& config, float levels) {
  examples::Bytes file = examples::read_file(folder + "/unet/diffusion_pytorch_model.safetensors");
  std::uint64_t length = 0;
  std::memcpy(&length, file.data(), sizeof length);
  const auto header = nlohmann::json::parse(file.begin() + 8,
                                            file.begin() + 8 + static_cast<std::ptrdiff_t>(length));
  for (const auto& [name, tensor] : header.items()) {
    if (!tensor.contains("shape") || tensor.at("dtype") != "F16") continue;
    const auto begin = tensor.at("data_offsets").at(0).get<std::size_t>();
    const auto end = tensor.at("data_offsets").at(1).get<std::size_t>();
    std::vector<Eigen::half> weights((end - begin) / 2);
    std::memcpy(weights.data(), file.data() + 8 + length + begin, end - begin);
    float largest = 0;
    for (const Eigen::half w : weights) largest = std::max(largest, std::abs(float(w)));
    const float step = largest / levels;
    if (step > 0)
      for (Eigen::half& w : weights) w = Eigen::half(step * std::round(float(w) / step));
    std::memcpy(file.data() + 8 + length + begin, weights.data(), end - begin);
  }
  return {config, nn::SafeTensors::parse(std::as_bytes(std::span(file)))};
}

void make(examples::Gallery& gallery) {
  const diffusion::DdimSampler sampler{gallery.schedule(),
                                       {.steps = 25,
                                        .grid = {.spacing = diffusion::TimestepSpacing::trailing},
                                        .clipping = diffusion::Clipping::range()}};
  nn::Unet2d<float>& good = gallery.model().network;
  nn::Unet2d<float> worse = rounded(gallery.arguments().model, good.config(), 24);
  worse.set_threads(2);
  const auto labels = gallery.labels(4);
  const auto add = [&](const std::string& title, auto guided) {
    gallery.add(title, gallery.sample(sampler, guided), labels);
  };
  const auto away = [&](double scale) {
    return diffusion::AutoGuidance{
        examples::conditional(good), examples::conditional(worse), labels, {.scale = scale}};
  };
  add("the worse network", away(0));
  add("the network", away(1));
  add("autoguidance, scale 1.5", away(1.5));
  add("autoguidance, scale 2", away(2));
  add("classifier-free guidance, scale 2", gallery.guided(labels, 2));
}

}  // namespace

int main(int argc, char** argv) {
  return examples::gallery(argc, argv, "autoguidance",
                           "guides a network away from a worse one: itself with coarse weights",
                           make);
}
