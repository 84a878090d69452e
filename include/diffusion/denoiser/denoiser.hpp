#ifndef DIFFUSION_DENOISER_DENOISER_HPP
#define DIFFUSION_DENOISER_DENOISER_HPP

#include <diffusion/denoiser/prediction_type.hpp>
#include <diffusion/denoiser/query.hpp>
#include <diffusion/denoiser/raw_denoiser.hpp>
#include <diffusion/tensor/state.hpp>

#include <concepts>
#include <cstddef>
#include <optional>
#include <type_traits>

namespace diffusion {

/// The four forms of a denoiser, the function that the user plugs in. x is (batch, ...); `out`
/// has the shape that the network declares (that of x, unless the plan learns a variance: then
/// twice the channels), is allocated by the loop, and never aliases x.
///
///   void network(const Tensor& x, double t, Tensor& out)               preferred
///   void network(const Tensor& x, const Query& query, Tensor& out)
///   void network(const Scalar* x, double t, Scalar* out, shape)        see RawDenoiser; or a Query
///   Tensor network(const Tensor& x, double t)                          allocates; no expression
///
/// Where the state is a view (a map, a span), x is a view too and `out` owns its memory: TensorOf.
/// A denoiser is called by the thread that samples, once at a time; share one between threads only
/// if its operator() may be called by several at once.
///
/// Optional members: `void begin_run()`, called before a run, for denoisers with memory;
/// `PredictionType prediction_type() const`, which overrules the option of the same name;
/// `Shape output_shape(const Shape& input) const`, where `out` has a shape of its own.
// clang-format off
template <class D, class T>
concept WritingDenoiser = State<T> && std::invocable<D&, const T&, double, TensorOf<T>&>;
template <class D, class T>
concept QueryingDenoiser = State<T> && std::invocable<D&, const T&, const Query&, TensorOf<T>&>;
template <class D, class T>
concept ReturningDenoiser = State<T> && std::invocable<D&, const T&, double>;
// clang-format on

template <class D, class T>
concept Denoiser = WritingDenoiser<D, T> || QueryingDenoiser<D, T> || ReturningDenoiser<D, T> ||
    RawDenoiser<D, T> || RawQueryingDenoiser<D, T>;

/// Asks a denoiser of any form.
template <class T, class D>
void ask(D& denoiser, const T& x, const Query& query, TensorOf<T>& out) {
  constexpr bool only_if_not_const = !Denoiser<D, T> && Denoiser<std::remove_const_t<D>, T>;
  static_assert(!only_if_not_const,
                "the denoiser is const, but its operator() is not: declare operator() const, or "
                "pass an object that is not");
  static_assert(Denoiser<D, T> || only_if_not_const,
                "a denoiser must be callable as (const Tensor& x, double t, Tensor& out), as "
                "(const Tensor& x, const Query& query, Tensor& out), as (const Scalar* x, double "
                "t, Scalar* out, std::span<const Eigen::Index> shape), or return a Tensor from "
                "(const Tensor& x, double t)");
  if constexpr (WritingDenoiser<D, T>) {
    denoiser(x, query.t, out);
  } else if constexpr (QueryingDenoiser<D, T>) {
    denoiser(x, query, out);
  } else if constexpr (ReturningDenoiser<D, T>) {
    using Returned = std::remove_cvref_t<std::invoke_result_t<D&, const T&, double>>;
    static_assert(std::is_same_v<Returned, TensorOf<T>>,
                  "a denoiser that returns its prediction must return a tensor; an Eigen "
                  "expression would refer to temporaries that are gone: write "
                  "[](const Tensor& x, double t) -> Tensor { ... }");
    out = denoiser(x, query.t);
  } else if constexpr (RawDenoiser<D, T>) {
    detail::with_buffers(x, out, [&](const auto* from, auto* to, const auto& shape) {
      denoiser(from, query.t, to, shape);
    });
  } else if constexpr (RawQueryingDenoiser<D, T>) {
    detail::with_buffers(x, out, [&](const auto* from, auto* to, const auto& shape) {
      denoiser(from, query, to, shape);
    });
  }
}

/// Calls a denoiser's begin_run, where it has one.
template <class D>
void begin_run(D& denoiser) {
  if constexpr (requires { denoiser.begin_run(); })
    denoiser.begin_run();
  else
    static_assert(
        !requires(std::remove_const_t<D> & d) { d.begin_run(); },
        "the denoiser is const, but its begin_run() is not: it would keep the memory of "
        "another run");
}

/// The prediction type that a denoiser declares, or the given one.
template <class D>
PredictionType prediction_type_of(D& denoiser, PredictionType otherwise) {
  if constexpr (requires {
                  { denoiser.prediction_type() } -> std::convertible_to<PredictionType>;
                })
    return denoiser.prediction_type();
  else
    return otherwise;
}

/// The shape of an output unless the denoiser declares another: that of the input, or, where a
/// variance is learned, with twice the channels (the dimension next to the batch).
template <State T>
ShapeOf<T> default_output_shape(const ShapeOf<T>& input, bool learned_variance, bool batched) {
  ShapeOf<T> shape = input;
  if (!learned_variance) return shape;
  const std::size_t channel = batched ? 1 : 0;
  if (shape.size() <= channel)
    fail(detail::text("a learned variance doubles the dimension next to the batch; the state ",
                      shape_text(input), " has no such dimension"));
  shape[StateTraits<T>::row_major ? channel : shape.size() - 1 - channel] *= 2;
  return shape;
}

/// How an output of this shape splits into samples. Fails unless there are as many as the state has
/// and each has a number for every element of the state, two where a variance is learned.
template <State T>
Blocks output_blocks(const ShapeOf<T>& output, const ShapeOf<T>& state, bool learned_variance,
                     bool batched) {
  const Blocks blocks = blocks_of<T>(state, batched);
  const Blocks out = blocks_of<T>(output, batched);
  const std::size_t wanted = blocks.size * (learned_variance ? 2 : 1);
  if (out.batch != blocks.batch || out.size < wanted)
    fail(detail::text("the network's output has the shape ", shape_text(output), " for a state ",
                      shape_text(state), "; each of ", blocks.batch, " samples needs at least ",
                      wanted, " elements"));
  return out;
}

/// The shape that a denoiser declares for its output, if it does.
template <State T, class D>
std::optional<ShapeOf<T>> declared_output_shape(D& denoiser, const ShapeOf<T>& input) {
  if constexpr (requires {
                  { denoiser.output_shape(input) } -> std::convertible_to<ShapeOf<T>>;
                })
    return denoiser.output_shape(input);
  else
    return std::nullopt;
}

}  // namespace diffusion

#endif  // DIFFUSION_DENOISER_DENOISER_HPP
