#ifndef DIFFUSION_TENSOR_NORMALS_HPP
#define DIFFUSION_TENSOR_NORMALS_HPP

#include <diffusion/noise/noise.hpp>
#include <diffusion/tensor/lane.hpp>
#include <diffusion/tensor/state_traits.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

/// Standard normals for the samples of a state, out of either kind of source.
namespace diffusion::detail {

/// Fails where the source cannot give `draws` tensors of this shape, before the first is taken.
template <class N>
void require_draws(N& noise, std::size_t draws, const Blocks& blocks) {
  const std::size_t batch = blocks.batch, size = blocks.size;
  if constexpr (AddressedNoise<N>) {
    if constexpr (requires { noise.require(batch, draws, size); })
      noise.require(batch, draws, size);
  } else {
    require_noise(noise, draws, blocks.total());
  }
}

/// The normals of at most a chunk of elements of one sample, from `element` on. A source that knows
/// floats only gives them to states of any type.
template <class Real, class N>
void fill_normals(const N& noise, std::uint64_t draw, std::uint64_t sample, std::uint64_t element,
                  std::span<Real> out) {
  if constexpr (requires { noise.fill(sample, draw, element, out); }) {
    noise.fill(sample, draw, element, out);
  } else {
    std::array<float, chunk_size> chunk;
    noise.fill(sample, draw, element, std::span<float>(chunk.data(), out.size()));
    std::copy_n(chunk.data(), out.size(), out.data());
  }
}

/// f(i, n_i) for all elements i of `blocks`, n_i standard normal: draw `draw` of an addressed
/// source, the next tensor of a sequential one. Real is float or double, the type in which the
/// source is asked.
template <class Real, class N, class F>
void for_each_normal(N& noise, std::uint64_t draw, const Blocks& blocks, const F& f) {
  if constexpr (AddressedNoise<N>) {
    std::array<Real, chunk_size> chunk;
    for (std::size_t sample = 0; sample < blocks.batch; ++sample)
      for (std::size_t i = 0; i < blocks.size; i += chunk_size) {
        const std::size_t n = (std::min)(chunk_size, blocks.size - i);
        fill_normals(noise, draw, sample, i, std::span<Real>(chunk.data(), n));
        for (std::size_t k = 0; k < n; ++k) f(sample * blocks.size + i + k, chunk[k]);
      }
  } else {
    std::vector<Real> normals(blocks.total());
    noise.fill(std::span<Real>(normals));
    for (std::size_t i = 0; i < normals.size(); ++i) f(i, normals[i]);
  }
}

}  // namespace diffusion::detail

#endif  // DIFFUSION_TENSOR_NORMALS_HPP
