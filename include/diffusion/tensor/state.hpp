#ifndef DIFFUSION_TENSOR_STATE_HPP
#define DIFFUSION_TENSOR_STATE_HPP

#include <diffusion/error.hpp>

#include <unsupported/Eigen/CXX11/Tensor>

#include <array>
#include <concepts>
#include <cstddef>
#include <string>
#include <type_traits>

namespace diffusion {

/// How the library sees a tensor type: contiguous memory and a shape. Specialise it for a type of
/// your own. The batch is the slowest dimension in memory (the first of a row-major tensor, the
/// last of a column-major one), so that a sample is one block.
template <class T>
struct StateTraits;

namespace detail {

/// The extents of an Eigen tensor or tensor map.
template <class Shape, class T>
Shape shape_of(const T& x) {
  Shape shape{};
  for (std::size_t i = 0; i < shape.size(); ++i)
    shape[i] = static_cast<Eigen::Index>(x.dimensions()[i]);
  return shape;
}

}  // namespace detail

template <class S, int Rank, int Options, class Index>
struct StateTraits<Eigen::Tensor<S, Rank, Options, Index>> {
  using Tensor = Eigen::Tensor<S, Rank, Options, Index>;
  using Scalar = S;
  using Shape = std::array<Eigen::Index, static_cast<std::size_t>(Rank)>;
  static constexpr bool row_major = (Options & Eigen::RowMajor) != 0;

  static Scalar* data(Tensor& x) { return x.data(); }
  static const Scalar* data(const Tensor& x) { return x.data(); }
  static Shape shape(const Tensor& x) { return detail::shape_of<Shape>(x); }
  static Tensor make(const Shape& shape) {
    Eigen::array<Index, static_cast<std::size_t>(Rank)> dimensions{};
    for (std::size_t i = 0; i < shape.size(); ++i) dimensions[i] = static_cast<Index>(shape[i]);
    return Tensor(dimensions);
  }
};

template <class Plain, int Options, template <class> class Pointer>
struct StateTraits<Eigen::TensorMap<Plain, Options, Pointer>> {
  using Map = Eigen::TensorMap<Plain, Options, Pointer>;
  using Owner = StateTraits<std::remove_const_t<Plain>>;
  using Tensor = typename Owner::Tensor;  ///< what the loop allocates for outputs
  using Scalar = typename Owner::Scalar;
  using Shape = typename Owner::Shape;
  static constexpr bool row_major = Owner::row_major;

  static Scalar* data(Map& x) { return x.data(); }
  static const Scalar* data(const Map& x) { return x.data(); }
  static Shape shape(const Map& x) { return detail::shape_of<Shape>(x); }
  static Tensor make(const Shape& shape) { return Owner::make(shape); }
  /// A map over another tensor's memory.
  static Map over(Tensor& storage) { return Map(storage.data(), storage.dimensions()); }
};

/// A state that the sampling loop can work on: what StateTraits says of it.
template <class T>
concept State = requires(T& x, const T& c, const typename StateTraits<T>::Shape& shape) {
  typename StateTraits<T>::Scalar;
  typename StateTraits<T>::Tensor;
  { StateTraits<T>::data(x) } -> std::same_as<typename StateTraits<T>::Scalar*>;
  { StateTraits<T>::shape(c) } -> std::convertible_to<typename StateTraits<T>::Shape>;
  { StateTraits<T>::make(shape) } -> std::same_as<typename StateTraits<T>::Tensor>;
};

template <State T>
using ScalarOf = typename StateTraits<T>::Scalar;
template <State T>
using ShapeOf = typename StateTraits<T>::Shape;
template <State T>
using TensorOf = typename StateTraits<T>::Tensor;

/// How a state splits into samples: `batch` blocks of `size` elements, one behind the other.
struct Blocks {
  std::size_t batch = 0;
  std::size_t size = 0;  ///< elements of one sample
  std::size_t total() const { return batch * size; }
};

template <State T>
Blocks blocks_of(const ShapeOf<T>& shape, bool batched) {
  std::size_t total = 1;
  for (const auto extent : shape) total *= static_cast<std::size_t>(extent);
  if (!batched || shape.empty()) return {1, total};
  const auto batch =
      static_cast<std::size_t>(StateTraits<T>::row_major ? shape.front() : shape.back());
  return {batch, batch == 0 ? 0 : total / batch};
}

/// "4x3x32x32", for messages.
template <class Shape>
std::string shape_text(const Shape& shape) {
  std::string text;
  for (const auto extent : shape) text += (text.empty() ? "" : "x") + std::to_string(extent);
  return text.empty() ? "scalar" : text;
}

}  // namespace diffusion

#endif  // DIFFUSION_TENSOR_STATE_HPP
