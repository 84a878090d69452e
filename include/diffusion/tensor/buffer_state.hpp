#ifndef DIFFUSION_TENSOR_BUFFER_STATE_HPP
#define DIFFUSION_TENSOR_BUFFER_STATE_HPP

#include <diffusion/tensor/state_traits.hpp>

#include <array>
#include <cstddef>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

/// States of rank 1 from the standard library: std::span, and what owns memory of its kind,
/// std::vector and, where the extent is fixed, std::array.
namespace diffusion {

/// A vector: rank 1, of any length.
template <class S, class Allocator>
struct StateTraits<std::vector<S, Allocator>> {
  using Tensor = std::vector<S, Allocator>;
  using Scalar = S;
  using Shape = std::array<Eigen::Index, 1>;
  static constexpr bool row_major = true;

  static Scalar* data(Tensor& x) { return x.data(); }
  static const Scalar* data(const Tensor& x) { return x.data(); }
  static Shape shape(const Tensor& x) { return {static_cast<Eigen::Index>(x.size())}; }
  static Tensor make(const Shape& shape) { return Tensor(static_cast<std::size_t>(shape[0])); }
};

/// An array: rank 1, of its own length.
template <class S, std::size_t N>
struct StateTraits<std::array<S, N>> {
  using Tensor = std::array<S, N>;
  using Scalar = S;
  using Shape = std::array<Eigen::Index, 1>;
  static constexpr bool row_major = true;

  static Scalar* data(Tensor& x) { return x.data(); }
  static const Scalar* data(const Tensor& x) { return x.data(); }
  static Shape shape(const Tensor&) { return {static_cast<Eigen::Index>(N)}; }
  static Tensor make(const Shape& shape) {
    detail::require_fit<Tensor>("an array", shape);
    return Tensor{};
  }
  static bool fits(const Shape& shape) { return shape[0] == static_cast<Eigen::Index>(N); }
  static std::string sizes() { return std::to_string(N); }
};

namespace detail {
template <class S, std::size_t N>
using SpanOwner = std::conditional_t<N == std::dynamic_extent, std::vector<S>, std::array<S, N>>;
}  // namespace detail

/// A view of memory; what the loop allocates is a vector, or an array where the extent is fixed.
template <class S, std::size_t N>
struct StateTraits<std::span<S, N>>
    : detail::ViewTraits<std::span<S, N>, StateTraits<detail::SpanOwner<S, N>>> {
  using Shape = std::array<Eigen::Index, 1>;
  static Shape shape(const std::span<S, N>& x) { return {static_cast<Eigen::Index>(x.size())}; }
  static std::span<S, N> over(detail::SpanOwner<S, N>& storage) { return storage; }
};

/// A span that can only be read.
template <class S, std::size_t N>
struct StateTraits<std::span<const S, N>>
    : detail::ReadOnlyTraits<std::span<const S, N>, StateTraits<detail::SpanOwner<S, N>>> {
  using Shape = std::array<Eigen::Index, 1>;
  static Shape shape(const std::span<const S, N>& x) {
    return {static_cast<Eigen::Index>(x.size())};
  }
};

}  // namespace diffusion

#endif  // DIFFUSION_TENSOR_BUFFER_STATE_HPP
