#ifndef DIFFUSION_NOISE_NOISE_HPP
#define DIFFUSION_NOISE_NOISE_HPP

#include <cstddef>
#include <cstdint>
#include <span>

/// Noise sources: where the standard normal numbers of a run come from.
namespace diffusion {

/// A call of an addressed source starts at an element that is a multiple of this number.
inline constexpr std::uint64_t noise_block = 16;

/// Noise by address: the normal of (sample, draw, element) is a pure function of the source, so any
/// stretch of it can be made at any time, by any thread. `fill` writes the elements
/// element, element + 1, ... of one draw of one sample; `element` is a multiple of `noise_block`,
/// `out` has any length, and the numbers do not depend on how the calls are split. Draw 0 is the
/// initial state of a run; draw d of a plan is asked for as d + 1.
template <class N>
concept AddressedNoise = requires(const N& n, std::uint64_t sample, std::uint64_t draw,
                                  std::uint64_t element, std::span<float> out) {
  n.fill(sample, draw, element, out);
};

/// Noise in order: each call writes the next tensor, whole. Such a source has a position, so a run
/// takes it by reference. It may also have `require(tensors, elements)`, see `require_noise`.
template <class N>
concept SequentialNoise =
    !AddressedNoise<N> && requires(N & n, std::span<float> floats, std::span<double> doubles) {
  n.fill(floats);
  n.fill(doubles);
};

/// What a run takes its noise from.
template <class N>
concept NoiseSource = AddressedNoise<N> || SequentialNoise<N>;

/// Called before a run that will take `tensors` tensors of `elements` numbers each: a source that
/// cannot deliver them says so here, since the loop itself never fails. A source without a member
/// `require` delivers any number of any size.
template <NoiseSource N>
void require_noise(N& noise, std::size_t tensors, std::size_t elements) {
  if constexpr (requires { noise.require(tensors, elements); }) noise.require(tensors, elements);
}

}  // namespace diffusion

#endif  // DIFFUSION_NOISE_NOISE_HPP
