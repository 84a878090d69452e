// The reader of NumPy arrays, and the writer: what was read is written and read back the same.
#include <support/npy.hpp>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <numeric>
#include <span>
#include <stdexcept>

#include "fuzz.hpp"

namespace {

bool same_bits(float a, float b) {
  return std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b);
}

void check(const examples::NpyArray& array, std::size_t file_size) {
  const std::size_t count =
      std::find(array.shape.begin(), array.shape.end(), 0u) != array.shape.end()
          ? 0
          : std::accumulate(array.shape.begin(), array.shape.end(), std::size_t{1},
                            std::multiplies<>());
  fuzz::require(array.values.size() == count, "there are as many values as the shape holds");
  fuzz::require(4 * count < file_size, "the values fit into the file");
  const auto again = examples::decode_npy(examples::encode_npy(array.values, array.shape));
  fuzz::require(again.shape == array.shape, "the shape is written and read back");
  fuzz::require(std::equal(again.values.begin(), again.values.end(), array.values.begin(),
                           array.values.end(), same_bits),
                "the values are written and read back");
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  examples::NpyArray array;
  try {
    array = examples::decode_npy(std::span(data, size));
  } catch (const std::runtime_error& error) {
    fuzz::require_message(error.what());
    return 0;
  }
  check(array, size);
  return 0;
}
