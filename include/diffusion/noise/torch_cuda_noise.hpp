#ifndef DIFFUSION_NOISE_TORCH_CUDA_NOISE_HPP
#define DIFFUSION_NOISE_TORCH_CUDA_NOISE_HPP

#include <diffusion/error.hpp>
#include <diffusion/noise/philox.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numbers>
#include <span>
#include <type_traits>

namespace diffusion {

/// The GPU whose numbers are wanted, and where its generator stands. The numbers of a tensor depend
/// on the GPU once it has more elements than the GPU runs threads at a time, `multiprocessors *
/// threads_per_multiprocessor`; `torch.cuda.get_device_properties(0)` tells both, as
/// multi_processor_count and max_threads_per_multi_processor. Some GPUs: H100 SXM 132 and 2048
/// (the default), A100 108 and 2048, V100 80 and 2048, RTX 4090 128 and 1536, RTX 3090 82 and 1536,
/// T4 40 and 1024. Plain data: threads may share what none of them writes.
struct TorchCudaOptions {
  int multiprocessors = 132;              ///< of the GPU, 1 to 65536
  int threads_per_multiprocessor = 2048;  ///< that it runs at a time, 256 to 65536
  std::uint64_t offset = 0;               ///< the generator's `get_offset()`, a multiple of 4
};

/// PyTorch's CUDA generator: each `fill` of n numbers is `torch.randn(n, device="cuda",
/// generator=g)`, in float32 or float64 after the scalar, for `g` on that device after
/// `manual_seed(seed)`; float to 1e-5 (the GPU's fast sine and cosine differ in the last digits),
/// double to 1e-12. Half precision is PyTorch's float32 stream, rounded. A sequential source: pass
/// it by reference.
///
/// Philox 4x32-10 (see `philox4x32_10`): the key is the seed, words 0 and 1 of the counter say how
/// often the generator was called, words 2 and 3 are the GPU thread. PyTorch runs blocks of 256
/// threads, one thread for each element up to as many as the GPU holds. Each call gives a thread
/// four floats, or two doubles, that lie as many elements apart as there are threads; so up to that
/// size every element is the first number of its own thread. A call moves the generator on by as
/// many counters as a thread used.
///
/// Box and Muller (1958) with the sine first, as cuRAND does it: of words (x, y) for float,
///
///     sqrt(-2 log u) sin v, sqrt(-2 log u) cos v,
///     u = (x + 1/2) / 2^32, v = 2 pi (y + 1/2) / 2^32
///
/// and for double with 53 bits out of two words each. Compared with what PyTorch 2.11 gave on an
/// H100 for up to 200,000 numbers; the stride of larger tensors is taken from PyTorch's source
/// alone. Not thread-safe: it has a position; one per run.
class TorchCudaNoise {
 public:
  /// Fails where an option is out of its range.
  explicit TorchCudaNoise(std::uint64_t seed, const TorchCudaOptions& options = {})
      : key_{low(seed), low(seed >> 32)}, options_(options), counter_(options.offset / 4) {
    detail::require_range("TorchCudaOptions::multiprocessors", options.multiprocessors, 1, 65536);
    detail::require_range("TorchCudaOptions::threads_per_multiprocessor",
                          options.threads_per_multiprocessor, static_cast<int>(block), 65536);
    if (options.offset % 4 != 0)
      fail(detail::text("TorchCudaOptions::offset is ", options.offset,
                        "; it must be a multiple of 4, as PyTorch's is"));
  }

  /// The next tensor, in float32. At most 2^28 elements.
  void fill(std::span<float> out) { fill_any(out); }

  /// The next tensor, in float64. At most 2^28 elements.
  void fill(std::span<double> out) { fill_any(out); }

  /// Fails where a tensor has more than 2^28 elements (2 GiB of float64): PyTorch makes larger ones
  /// in parts, which this source does not follow.
  void require(std::size_t, std::size_t elements) const {
    if (elements > element_limit)
      fail(detail::text("a tensor of PyTorch's CUDA noise has ", elements,
                        " elements; it may have at most ", element_limit));
  }

  /// The generator's `get_offset()` in PyTorch after the same calls.
  std::uint64_t offset() const { return 4 * counter_; }

 private:
  static constexpr std::size_t block = 256;
  static constexpr std::size_t element_limit = std::size_t{1} << 28;

  static std::uint32_t low(std::uint64_t x) { return static_cast<std::uint32_t>(x); }

  /// How many threads PyTorch runs for a tensor of n > 0 elements: whole blocks.
  std::size_t threads(std::size_t n) const {
    const auto resident = static_cast<std::size_t>(options_.threads_per_multiprocessor) / block;
    const std::size_t most = static_cast<std::size_t>(options_.multiprocessors) * resident;
    return block * (std::min)(most, (n + block - 1) / block);
  }

  template <class Scalar>
  void fill_any(std::span<Scalar> out) {
    constexpr std::size_t numbers = std::is_same_v<Scalar, double> ? 2 : 4;
    const std::size_t n = out.size();
    require(1, n);
    if (n == 0) return;
    const std::size_t stride = threads(n);
    for (std::size_t begin = 0; begin < n; begin += numbers * stride, ++counter_)
      for (std::size_t thread = 0; thread < (std::min)(stride, n - begin); ++thread) {
        const auto words =
            philox4x32_10({low(counter_), low(counter_ >> 32), low(thread), 0}, key_);
        std::array<Scalar, numbers> normals;
        transform(words, normals);
        for (std::size_t i = 0, at = begin + thread; i < numbers && at < n; ++i, at += stride)
          out[at] = normals[i];
      }
  }

  static void transform(const std::array<std::uint32_t, 4>& words, std::array<float, 4>& normals) {
    constexpr float turn = 0x1p-32f * 6.2831855f;
    for (std::size_t i = 0; i < 4; i += 2) {
      const float u = std::fma(static_cast<float>(words[i]), 0x1p-32f, 0x1p-33f);
      const float v = std::fma(static_cast<float>(words[i + 1]), turn, turn / 2);
      const float radius = std::sqrt(-2 * std::log(u));
      normals[i] = radius * std::sin(v);
      normals[i + 1] = radius * std::cos(v);
    }
  }

  static void transform(const std::array<std::uint32_t, 4>& words, std::array<double, 2>& normals) {
    const auto bits = [&](std::size_t i) {  // cuRAND takes 53 of the 64 by an exclusive or
      return static_cast<double>(words[i] ^ std::uint64_t{words[i + 1]} << (53 - 32));
    };
    const double u = bits(0) * 0x1p-53 + 0x1p-54;
    const double half_turns = bits(2) * 0x1p-52 + 0x1p-53;
    const double radius = std::sqrt(-2 * std::log(u));
    normals[0] = radius * std::sin(std::numbers::pi * half_turns);
    normals[1] = radius * std::cos(std::numbers::pi * half_turns);
  }

  std::array<std::uint32_t, 2> key_;
  TorchCudaOptions options_;
  std::uint64_t counter_;
};

}  // namespace diffusion

#endif  // DIFFUSION_NOISE_TORCH_CUDA_NOISE_HPP
