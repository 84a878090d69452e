// The reader of networks' weights.
#include <nn/safetensors.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>

#include "fuzz.hpp"

namespace {

std::size_t bytes_of(const nn::TensorView& tensor) {
  std::size_t bytes = nn::detail::size_of(tensor.dtype);
  for (const std::int64_t extent : tensor.shape) {
    if (extent == 0) return 0;
    bytes *= static_cast<std::size_t>(extent);
  }
  return bytes;
}

void check(const nn::SafeTensors& file, std::size_t file_size) {
  std::size_t covered = 0;
  nn::Parameters<float> parameters(file);
  for (const auto& [name, tensor] : file.tensors()) {
    covered += tensor.bytes.size();
    fuzz::require(bytes_of(tensor) == tensor.bytes.size(), "the shape is that of the bytes");
    const auto values = nn::values_of<double>(tensor);
    fuzz::require(values.size() * nn::detail::size_of(tensor.dtype) == tensor.bytes.size(),
                  "there are as many values as the bytes hold");
    fuzz::require(parameters.take(name, tensor.shape).size() == values.size(),
                  "a tensor is taken by its name and shape");
  }
  parameters.check_all_taken();
  fuzz::require(covered + 8 <= file_size, "the tensors lie within the file");
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    check(nn::SafeTensors::parse(std::as_bytes(std::span(data, size))), size);
  } catch (const std::runtime_error& error) {
    fuzz::require_message(error.what());
  }
  return 0;
}
