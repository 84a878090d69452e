// The reader of networks' config.json, and the network that is built after it: without weights, so
// that it may not be built, but may not take memory for what the config claims either.
#include <nn/safetensors.hpp>
#include <nn/unet2d.hpp>
#include <nn/unet2d_config.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <stdexcept>

#include "fuzz.hpp"

namespace {

nn::SafeTensors no_weights() {
  constexpr std::array<unsigned char, 10> file{2, 0, 0, 0, 0, 0, 0, 0, '{', '}'};
  return nn::SafeTensors::parse(std::as_bytes(std::span(file)));
}

void check(const nn::Unet2dConfig& config) {
  fuzz::require(config.levels() >= 1 && config.levels() <= 16, "there are 1 to 16 levels");
  fuzz::require(config.down_block_types.size() == config.levels(), "a block down for each level");
  fuzz::require(config.up_block_types.size() == config.levels(), "a block up for each level");
  fuzz::require(config.time_embedding_dim > 0, "the time embedding has a width");
  for (const std::int64_t width : config.block_out_channels)
    fuzz::require(width > 0, "widths are positive");
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const auto config = nn::Unet2dConfig::parse(fuzz::text_of(data, size));
    check(config);
    const nn::Unet2d<float> network(config, no_weights());
    fuzz::require(false, "a network without weights is refused");
  } catch (const std::runtime_error& error) {
    fuzz::require_message(error.what());
  }
  return 0;
}
