#ifndef DIFFUSION_DENOISER_RAW_DENOISER_HPP
#define DIFFUSION_DENOISER_RAW_DENOISER_HPP

#include <diffusion/denoiser/query.hpp>
#include <diffusion/tensor/state.hpp>

#include <algorithm>
#include <concepts>

namespace diffusion {

/// The extents of a state, the slowest in memory first, whatever its layout: what ONNX Runtime,
/// TensorRT or LibTorch call the shape of the buffer. A row-major (16, 3, 32, 32) and a
/// column-major (32, 32, 3, 16) are both 16 x 3 x 32 x 32.
template <State T>
ShapeOf<T> memory_shape(ShapeOf<T> shape) {
  if constexpr (!StateTraits<T>::row_major) std::reverse(shape.begin(), shape.end());
  return shape;
}

/// A denoiser over raw buffers, for runtimes of their own: for a state of floats
///
///     void network(const float* x, double t, float* out, std::span<const Eigen::Index> shape)
///     void network(const float* x, const Query& query, float* out,
///                  std::span<const Eigen::Index> shape)
///
/// x and out lie as the state does, without gaps; they never overlap. `shape` is that of x as
/// `memory_shape` has it, so shape[0] is the batch (unless the state is one sample) and the last
/// extent is contiguous. `out` has as many numbers, or those of the output shape where the
/// network declares one or learns a variance (then each sample has twice the channels).
// clang-format off
template <class D, class T>
concept RawDenoiser =
    State<T> && std::invocable<D&, const ScalarOf<T>*, double, ScalarOf<T>*, const ShapeOf<T>&>;
template <class D, class T>
concept RawQueryingDenoiser =
    State<T> &&
    std::invocable<D&, const ScalarOf<T>*, const Query&, ScalarOf<T>*, const ShapeOf<T>&>;
// clang-format on

namespace detail {

/// The memory of an input and an output, and the input's shape: f(const S* x, S* out, shape).
template <State T, class F>
void with_buffers(const T& x, TensorOf<T>& out, const F& f) {
  f(StateTraits<T>::data(x), StateTraits<TensorOf<T>>::data(out),
    memory_shape<T>(StateTraits<T>::shape(x)));
}

}  // namespace detail
}  // namespace diffusion

#endif  // DIFFUSION_DENOISER_RAW_DENOISER_HPP
