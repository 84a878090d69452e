#ifndef DIFFUSION_TENSOR_STATE_TRAITS_HPP
#define DIFFUSION_TENSOR_STATE_TRAITS_HPP

#include <diffusion/error.hpp>

#include <Eigen/Core>

#include <concepts>
#include <cstddef>
#include <limits>
#include <string>
#include <type_traits>

namespace diffusion {

/// How the library sees a type of tensor: contiguous memory and a shape. Specialise it for a type
/// of your own:
///
///     using Scalar = float;                           // or double, Eigen::half, Eigen::bfloat16
///     using Shape = std::array<Eigen::Index, rank>;   // in the order of the type itself
///     using Tensor = ...;                             // owns its memory; T itself if T does
///     static constexpr bool row_major = ...;          // the first extent is the slowest in memory
///     static Scalar* data(T& x);
///     static const Scalar* data(const T& x);
///     static Shape shape(const T& x);
///     static Tensor make(const Shape& shape);         // numbers of any value
///     static T over(Tensor& storage);                 // only where T is not Tensor: a view of it
///     static bool fits(const Shape& shape);           // only where not every shape can be made,
///     static std::string sizes();                     // and which can
///
/// The batch is the slowest dimension in memory (the first of a row-major tensor, the last of a
/// column-major one), so that a sample is one block.
template <class T>
struct StateTraits {};

/// The numbers that a state may hold. Sixteen-bit ones are computed with in float.
template <class S>
concept StateScalar = std::same_as<S, float> || std::same_as<S, double> ||
    std::same_as<S, Eigen::half> || std::same_as<S, Eigen::bfloat16>;

/// A state that can be read: every State, and the views of memory that is const (a TensorMap or Map
/// of a const type, a span or StateView of const elements), for which StateTraits have no data(T&)
/// and no over(). Data and noise that are handed to the forward process need no more.
template <class T>
concept ReadableState = requires(const T& c, const typename StateTraits<T>::Shape& shape) {
  requires StateScalar<typename StateTraits<T>::Scalar>;
  typename StateTraits<T>::Tensor;
  { StateTraits<T>::data(c) } -> std::same_as<const typename StateTraits<T>::Scalar*>;
  { StateTraits<T>::shape(c) } -> std::convertible_to<typename StateTraits<T>::Shape>;
  { StateTraits<T>::make(shape) } -> std::same_as<typename StateTraits<T>::Tensor>;
};

/// A state that the sampling loop can work on: what StateTraits says of it.
template <class T>
concept State = ReadableState<T> && requires(T& x) {
  { StateTraits<T>::data(x) } -> std::same_as<typename StateTraits<T>::Scalar*>;
};

/// The type of a state's elements.
template <ReadableState T>
using ScalarOf = typename StateTraits<T>::Scalar;
/// The type of a state's shape: an array of extents.
template <ReadableState T>
using ShapeOf = typename StateTraits<T>::Shape;
/// What the loop allocates and gives to a denoiser as `out`: T itself, or what owns memory of T's
/// kind where T is a view.
template <ReadableState T>
using TensorOf = typename StateTraits<T>::Tensor;

/// How a state splits into samples: `batch` blocks of `size` elements, one behind the other. Plain
/// data: threads may share what none of them writes.
struct Blocks {
  std::size_t batch = 0;
  std::size_t size = 0;  ///< elements of one sample
  std::size_t total() const { return batch * size; }
};

/// The samples of a state of this shape; not batched: the whole of it is one.
template <ReadableState T>
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

namespace detail {

/// Fails where a dimension is below 1 or there are too many elements to count; `what` begins the
/// message.
template <class Shape>
void require_extents(const char* what, const Shape& shape) {
  Eigen::Index room = (std::numeric_limits<Eigen::Index>::max)();
  for (const auto extent : shape) {
    if (extent < 1)
      fail(
          text(what, " has the shape ", shape_text(shape), "; every dimension must be at least 1"));
    room /= extent;
  }
  if (room == 0)
    fail(text(what, " has the shape ", shape_text(shape),
              "; it must not have more elements than memory has"));
}

/// Whether a state is a view of memory that it does not own.
template <class T>
inline constexpr bool is_view = false;
template <ReadableState T>
inline constexpr bool is_view<T> = !std::same_as<T, TensorOf<T>>;

/// Whether T can have this shape. Types of fixed size have but one.
template <State T>
bool fits(const ShapeOf<T>& shape) {
  if constexpr (requires { StateTraits<T>::fits(shape); })
    return StateTraits<T>::fits(shape);
  else
    return true;
}

/// Fails unless T can have this shape; `what` begins the message.
template <State T>
void require_fit(const char* what, const ShapeOf<T>& shape) {
  if constexpr (requires { StateTraits<T>::fits(shape); })
    if (!StateTraits<T>::fits(shape))
      fail(text(what, " has the shape ", shape_text(shape), ", but its type holds ",
                StateTraits<T>::sizes(), " only; use a type of dynamic size"));
}

/// Memory that the library allocated, seen as the state's own type: itself, or a view of it.
template <State T>
decltype(auto) seen_as(TensorOf<T>& storage) {
  if constexpr (is_view<T>)
    return StateTraits<T>::over(storage);
  else
    return (storage);
}

/// What a view that can only be read takes over from the owner of its kind of memory.
template <class View, class Owner>
struct ReadOnlyTraits {
  using Tensor = typename Owner::Tensor;
  using Scalar = typename Owner::Scalar;
  using Shape = typename Owner::Shape;
  static constexpr bool row_major = Owner::row_major;

  static const Scalar* data(const View& x) { return x.data(); }
  static Tensor make(const Shape& shape) { return Owner::make(shape); }
};

/// The same for a view that can be written to.
template <class View, class Owner>
struct ViewTraits : ReadOnlyTraits<View, Owner> {
  using ReadOnlyTraits<View, Owner>::data;
  static typename Owner::Scalar* data(View& x) { return x.data(); }
};

}  // namespace detail
}  // namespace diffusion

#endif  // DIFFUSION_TENSOR_STATE_TRAITS_HPP
