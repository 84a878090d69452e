#ifndef DIFFUSION_TENSOR_TENSOR_STATE_HPP
#define DIFFUSION_TENSOR_TENSOR_STATE_HPP

#include <diffusion/tensor/state_traits.hpp>

#include <unsupported/Eigen/CXX11/Tensor>

#include <array>
#include <cstddef>
#include <string>

/// States that are Eigen's tensors: Tensor, TensorFixedSize, and a TensorMap of either.
namespace diffusion {

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

/// Eigen::Tensor of any rank and layout.
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

/// A tensor of fixed size: the shape of a run must be its own.
template <class S, std::ptrdiff_t... Extents, int Options, class Index>
struct StateTraits<Eigen::TensorFixedSize<S, Eigen::Sizes<Extents...>, Options, Index>> {
  using Tensor = Eigen::TensorFixedSize<S, Eigen::Sizes<Extents...>, Options, Index>;
  using Scalar = S;
  using Shape = std::array<Eigen::Index, sizeof...(Extents)>;
  static constexpr bool row_major = (Options & Eigen::RowMajor) != 0;
  static constexpr Shape extents{Extents...};

  static Scalar* data(Tensor& x) { return x.data(); }
  static const Scalar* data(const Tensor& x) { return x.data(); }
  static Shape shape(const Tensor&) { return extents; }
  static Tensor make(const Shape& shape) {
    detail::require_fit<Tensor>("a tensor", shape);
    return Tensor();
  }
  static bool fits(const Shape& shape) { return shape == extents; }
  static std::string sizes() { return shape_text(extents); }
};

/// A view of memory as a tensor; what the loop allocates is the tensor itself.
template <class Plain, int Options, template <class> class Pointer>
struct StateTraits<Eigen::TensorMap<Plain, Options, Pointer>>
    : detail::ViewTraits<Eigen::TensorMap<Plain, Options, Pointer>, StateTraits<Plain>> {
  using Map = Eigen::TensorMap<Plain, Options, Pointer>;
  using Shape = typename StateTraits<Plain>::Shape;
  static Shape shape(const Map& x) {
    if constexpr (requires { StateTraits<Plain>::extents; })
      return StateTraits<Plain>::extents;
    else
      return detail::shape_of<Shape>(x);
  }
  static Map over(Plain& storage) { return Map(storage.data(), storage.dimensions()); }
};

/// A view of memory that can only be read.
template <class Plain, int Options, template <class> class Pointer>
struct StateTraits<Eigen::TensorMap<const Plain, Options, Pointer>>
    : detail::ReadOnlyTraits<Eigen::TensorMap<const Plain, Options, Pointer>, StateTraits<Plain>> {
  using Shape = typename StateTraits<Plain>::Shape;
  static Shape shape(const Eigen::TensorMap<const Plain, Options, Pointer>& x) {
    return detail::shape_of<Shape>(x);
  }
};

}  // namespace diffusion

#endif  // DIFFUSION_TENSOR_TENSOR_STATE_HPP
