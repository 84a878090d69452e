#ifndef DIFFUSION_NOISE_TORCH_CPU_NOISE_HPP
#define DIFFUSION_NOISE_TORCH_CPU_NOISE_HPP

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numbers>
#include <optional>
#include <random>
#include <span>
#include <type_traits>

namespace diffusion {

/// PyTorch's CPU generator: each `fill` of n numbers is `torch.randn(n, generator=g)`, in float32
/// or float64 after the scalar, for `g = torch.Generator().manual_seed(seed)`; double to 1e-12,
/// float to 2e-6 (PyTorch's own vector code differs in the last digits from machine to machine).
/// The same for PyTorch 1.13 and 2.11. A sequential source: pass it by reference.
///
/// The engine is the 32-bit Mersenne twister (Matsumoto and Nishimura 1998), seeded with the low 32
/// bits of the seed; PyTorch ignores the rest, so seeds that differ by 2^32 give the same numbers.
/// Two methods share it (Box and Muller 1958):
/// - fewer than 16 numbers: one at a time, in double whatever the scalar. A pair is made at once
///   and its second half kept for the next such number, across calls and scalars.
/// - 16 or more: a uniform for each number, then blocks of 16 are transformed, number j with j + 8.
///   Where 16 does not divide n, the last 16 are drawn anew and transformed again.
///
/// Not thread-safe: it has a position; one per run.
class TorchCpuNoise {
 public:
  /// Any seed; see above for its upper half.
  explicit TorchCpuNoise(std::uint64_t seed) : engine_(static_cast<std::uint32_t>(seed)) {}

  /// The next tensor, in float32.
  void fill(std::span<float> out) { fill_any(out); }

  /// The next tensor, in float64.
  void fill(std::span<double> out) { fill_any(out); }

  /// `torch.rand(n, generator=g)` in float32: uniforms in [0, 1). A normal kept by `fill` stays.
  void fill_uniform(std::span<float> out) { fill_uniforms(out); }

  /// The same in float64.
  void fill_uniform(std::span<double> out) { fill_uniforms(out); }

 private:
  static constexpr std::size_t block = 16;

  template <class Scalar>
  void fill_any(std::span<Scalar> out) {
    if (out.size() < block) {
      for (Scalar& x : out) x = static_cast<Scalar>(next_normal());
      return;
    }
    fill_uniforms(out);
    for (std::size_t begin = 0; begin + block <= out.size(); begin += block)
      transform(out.subspan(begin).template first<block>());
    if (out.size() % block == 0) return;
    const auto last = out.template last<block>();
    fill_uniforms<Scalar>(last);
    transform(last);
  }

  /// Uniforms to normals, 1 - u_j for the radius and u_{j+8} for the angle, rounded where PyTorch
  /// rounds.
  template <class Scalar>
  static void transform(std::span<Scalar, block> x) {
    constexpr Scalar two_pi = static_cast<Scalar>(2 * std::numbers::pi);
    for (std::size_t j = 0; j < block / 2; ++j) {
      const Scalar radius = std::sqrt(-2 * std::log(1 - x[j]));
      const Scalar angle = two_pi * x[j + block / 2];
      x[j] = radius * std::cos(angle);
      x[j + block / 2] = radius * std::sin(angle);
    }
  }

  double next_normal() {
    if (kept_) {
      const double normal = *kept_;
      kept_.reset();
      return normal;
    }
    const double angle = 2 * std::numbers::pi * uniform<double>();
    const double radius = std::sqrt(-2 * std::log1p(-uniform<double>()));
    kept_ = radius * std::sin(angle);
    return radius * std::cos(angle);
  }

  template <class Scalar>
  void fill_uniforms(std::span<Scalar> out) {
    for (Scalar& x : out) x = uniform<Scalar>();
  }

  /// In [0, 1): the low 24 bits of a word for float, the low 53 bits of two words for double.
  template <class Scalar>
  Scalar uniform() {
    if constexpr (std::is_same_v<Scalar, float>) {
      return static_cast<float>(word() & 0xFFFFFFu) * 0x1p-24f;
    } else {
      const std::uint64_t high = word();
      const std::uint64_t bits = high << 32 | word();
      return static_cast<double>(bits & 0x1FFFFFFFFFFFFFu) * 0x1p-53;
    }
  }

  std::uint32_t word() { return static_cast<std::uint32_t>(engine_()); }

  std::mt19937 engine_;
  std::optional<double> kept_;
};

}  // namespace diffusion

#endif  // DIFFUSION_NOISE_TORCH_CPU_NOISE_HPP
