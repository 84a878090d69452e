#ifndef DIFFUSION_TENSOR_STATE_VIEW_HPP
#define DIFFUSION_TENSOR_STATE_VIEW_HPP

#include <diffusion/tensor/tensor_state.hpp>

#include <array>
#include <concepts>
#include <cstddef>
#include <tuple>
#include <type_traits>

namespace diffusion {

/// A pointer and a shape: a state in memory that belongs to somebody else. Row-major unless said
/// otherwise, so (batch, channel, height, width) for pictures. The loop allocates Eigen::Tensor of
/// the same scalar, rank and layout.
///
///     StateView view(pointer, std::array<Eigen::Index, 4>{16, 3, 32, 32});
///     sample_in_place(plan, network, view, PhiloxNoise{42});
///
/// Made from any state of the same scalar, rank and layout too, so that a denoiser with parameters
/// (StateView<const float, 4> x, double t, StateView<float, 4> out) takes them all. As thread-safe
/// as the memory that it refers to.
template <class S, std::size_t Rank, int Layout = Eigen::RowMajor>
class StateView {
 public:
  using Shape = std::array<Eigen::Index, Rank>;
  static constexpr bool row_major = (Layout & Eigen::RowMajor) != 0;

  StateView(S* data, const Shape& shape) : data_(data), shape_(shape) {}

  // clang-format off
  template <class T>
    requires(!std::same_as<std::remove_const_t<T>, StateView> && State<std::remove_const_t<T>> &&
             (std::is_const_v<S> || !std::is_const_v<T>) &&
             std::same_as<ScalarOf<std::remove_const_t<T>>, std::remove_const_t<S>> &&
             std::tuple_size_v<ShapeOf<std::remove_const_t<T>>> == Rank &&
             (Rank < 2 || StateTraits<std::remove_const_t<T>>::row_major == row_major))
  StateView(T& state)  // NOLINT(google-explicit-constructor)
      : data_(StateTraits<std::remove_const_t<T>>::data(state)),
        shape_(StateTraits<std::remove_const_t<T>>::shape(state)) {}
  // clang-format on

  S* data() const { return data_; }
  const Shape& shape() const { return shape_; }
  Eigen::Index size() const {
    Eigen::Index total = 1;
    for (const Eigen::Index extent : shape_) total *= extent;
    return total;
  }
  /// An element by its place in memory.
  S& operator[](Eigen::Index i) const { return data_[i]; }

 private:
  S* data_;
  Shape shape_;
};

/// What the loop allocates beside a view is a tensor.
template <class S, std::size_t Rank, int Layout>
struct StateTraits<StateView<S, Rank, Layout>>
    : detail::ViewTraits<StateView<S, Rank, Layout>,
                         StateTraits<Eigen::Tensor<S, static_cast<int>(Rank), Layout>>> {
  using View = StateView<S, Rank, Layout>;
  using Owner = Eigen::Tensor<S, static_cast<int>(Rank), Layout>;
  static typename View::Shape shape(const View& x) { return x.shape(); }
  static View over(Owner& storage) {
    return View(storage.data(), StateTraits<Owner>::shape(storage));
  }
};

/// A view that can only be read.
template <class S, std::size_t Rank, int Layout>
struct StateTraits<StateView<const S, Rank, Layout>>
    : detail::ReadOnlyTraits<StateView<const S, Rank, Layout>,
                             StateTraits<Eigen::Tensor<S, static_cast<int>(Rank), Layout>>> {
  using View = StateView<const S, Rank, Layout>;
  static typename View::Shape shape(const View& x) { return x.shape(); }
};

}  // namespace diffusion

#endif  // DIFFUSION_TENSOR_STATE_VIEW_HPP
