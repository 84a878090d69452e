#ifndef DIFFUSION_GUIDANCE_ASKING_HPP
#define DIFFUSION_GUIDANCE_ASKING_HPP

#include <diffusion/denoiser/denoiser.hpp>
#include <diffusion/guidance/conditions.hpp>

#include <any>
#include <concepts>
#include <cstddef>
#include <span>
#include <vector>

/// How a conditional network is asked: one of
///
///     void network(const Tensor& x, double t, const Conditions<Condition>& conditions,
///                  Tensor& out)
///     void network(const S* x, double t, const Conditions<Condition>& conditions, S* out, shape)
///
/// or with `const Query&` in place of t; see Denoiser and RawDenoiser for x, out and shape.
namespace diffusion::detail {

/// No second network.
struct NoNetwork {};

/// A tensor of whatever type is asked for, made at the first use and kept while the shape stays.
class KeptTensor {
 public:
  template <State Tensor>
  Tensor& get(const ShapeOf<Tensor>& shape) {
    Tensor* tensor = std::any_cast<Tensor>(&kept_);
    if (!tensor || StateTraits<Tensor>::shape(*tensor) != shape)
      tensor = &kept_.emplace<Tensor>(StateTraits<Tensor>::make(shape));
    return *tensor;
  }

 private:
  std::any kept_;
};

template <class Network, class S, class Condition, class Shape>
void ask_conditional_raw(Network& network, const S* x, const Query& query,
                         const Conditions<Condition>& conditions, S* out, const Shape& shape) {
  if constexpr (std::invocable<Network&, const S*, double, const Conditions<Condition>&, S*,
                               const Shape&>) {
    network(x, query.t, conditions, out, shape);
  } else {
    static_assert(
        std::invocable<Network&, const S*, const Query&, const Conditions<Condition>&, S*,
                       const Shape&>,
        "a conditional network must be callable as (const Tensor& x, double t, const "
        "Conditions<Condition>& conditions, Tensor& out), as (const Scalar* x, double t, const "
        "Conditions<Condition>& conditions, Scalar* out, std::span<const Eigen::Index> shape), "
        "or with const Query& for t");
    network(x, query, conditions, out, shape);
  }
}

/// Asks a conditional network of any form.
template <class Network, class Tensor, class Condition, class Out>
void ask_conditional(Network& network, const Tensor& x, const Query& query,
                     const Conditions<Condition>& conditions, Out& out) {
  if constexpr (std::invocable<Network&, const Tensor&, double, const Conditions<Condition>&,
                               Out&>) {
    network(x, query.t, conditions, out);
  } else if constexpr (std::invocable<Network&, const Tensor&, const Query&,
                                      const Conditions<Condition>&, Out&>) {
    network(x, query, conditions, out);
  } else {
    with_buffers(x, out, [&](const auto* from, auto* to, const auto& extents) {
      ask_conditional_raw(network, from, query, conditions, to, extents);
    });
  }
}

/// A network that assigns to its output may have given it another shape.
template <class Tensor>
void require_kept(const Tensor& answer, const ShapeOf<Tensor>& wanted) {
  const auto shape = StateTraits<Tensor>::shape(answer);
  if (shape != wanted)
    fail(text("the network changed its output to the shape ", shape_text(shape),
              "; it must keep the ", shape_text(wanted), " that it was given"));
}

/// The shape of so many times the samples.
template <class Tensor>
ShapeOf<Tensor> times_batch(ShapeOf<Tensor> shape, std::size_t count) {
  using Extent = typename ShapeOf<Tensor>::value_type;
  shape[StateTraits<Tensor>::row_major ? 0 : shape.size() - 1] *= static_cast<Extent>(count);
  return shape;
}

/// A list, count times over, in the memory of `kept`.
template <class T>
std::span<const T> repeated(std::span<const T> list, std::size_t count, std::vector<T>& kept) {
  kept.clear();
  for (std::size_t k = 0; k < count; ++k) kept.insert(kept.end(), list.begin(), list.end());
  return kept;
}

}  // namespace diffusion::detail

#endif  // DIFFUSION_GUIDANCE_ASKING_HPP
