#ifndef DIFFUSION_TENSOR_STATE_HPP
#define DIFFUSION_TENSOR_STATE_HPP

#include <diffusion/tensor/buffer_state.hpp>
#include <diffusion/tensor/dense_state.hpp>
#include <diffusion/tensor/state_traits.hpp>
#include <diffusion/tensor/state_view.hpp>
#include <diffusion/tensor/tensor_state.hpp>

#include <type_traits>

/// All kinds of state, and what is said of a type that is none.
namespace diffusion::detail {

template <class T>
concept HasOtherScalar = requires {
  typename StateTraits<T>::Scalar;
  requires !StateScalar<typename StateTraits<T>::Scalar>;
};
template <class T>
concept HasConstElements = requires(T& x) {
  requires std::is_const_v<std::remove_pointer_t<decltype(x.data())>>;
};
template <class T>
concept HasStrides = requires(const T& x) {
  x.data();
  x.innerStride();
};

template <class>
inline constexpr bool never = false;

/// Says in one sentence why a type is not a state.
template <class T>
constexpr void require_state() {
  if constexpr (State<T>) {
  } else if constexpr (HasOtherScalar<T>) {
    static_assert(never<T>,
                  "the scalar of a state must be float, double, Eigen::half or Eigen::bfloat16");
  } else if constexpr (HasConstElements<T>) {
    static_assert(never<T>, "a state is written to: neither it nor its elements may be const");
  } else if constexpr (HasStrides<T>) {
    static_assert(
        never<T>,
        "a state must be contiguous: a Map with strides, a Block or a Ref is not; copy it "
        "into a Matrix, or map its whole memory");
  } else {
    static_assert(
        never<T>,
        "a state must be an Eigen Tensor, TensorFixedSize, Matrix, Array or a contiguous "
        "Map of one, a std::vector, array or span, a diffusion::StateView, or a type with "
        "its own diffusion::StateTraits");
  }
}

}  // namespace diffusion::detail

#endif  // DIFFUSION_TENSOR_STATE_HPP
