#ifndef DIFFUSION_DENOISER_DENOISER_HPP
#define DIFFUSION_DENOISER_DENOISER_HPP

#include <diffusion/denoiser/prediction_type.hpp>
#include <diffusion/tensor/state.hpp>

#include <concepts>
#include <cstddef>
#include <optional>
#include <span>
#include <type_traits>

namespace diffusion {

/// What a denoiser may know about the moment at which it is asked.
struct Query {
  double t = 0;      ///< the time that the network is told
  double alpha = 1;  ///< the level of the state, x = alpha x0 + sigma eps
  double sigma = 0;
  int stage = 0;   ///< the plan's stage that asks
  int step = 0;    ///< the grid's step that it belongs to
  int steps = 1;   ///< how many steps the plan has
  int branch = 0;  ///< which of several asks of one stage this is (guidance numbers them)
  PredictionType prediction_type = PredictionType::epsilon;
  std::span<const double> times{};  ///< one time per sample where these differ, else empty
  bool batched = true;              ///< false: x is one sample, its first dimension no batch
  std::size_t samples = 0;  ///< samples in x (1 for an unbatched state); 0: as many as x's batch
};

/// The three forms of a denoiser, the function that the user plugs in. x is (batch, ...); `out`
/// has the shape that the network declares (that of x, unless the plan learns a variance: then
/// twice the channels), is allocated by the loop, and never aliases x.
///
///   void network(const Tensor& x, double t, Tensor& out)            preferred
///   void network(const Tensor& x, const Query& query, Tensor& out)
///   Tensor network(const Tensor& x, double t)                       allocates; no expression
///
/// Optional members: `void begin_run()`, called before a run, for denoisers with memory;
/// `PredictionType prediction_type() const`, which overrules the option of the same name;
/// `Shape output_shape(const Shape& input) const`, where `out` has a shape of its own.
// clang-format off: version 14 takes these for comparisons
template <class D, class T>
concept WritingDenoiser = State<T> && std::invocable < D&,
        const T&, double, TensorOf<T>
& > ;
template <class D, class T>
concept QueryingDenoiser = State<T> && std::invocable < D&,
        const T&, const Query&, TensorOf<T>
& > ;
template <class D, class T>
concept ReturningDenoiser = State<T> && std::invocable<D&, const T&, double>;
// clang-format on

template <class D, class T>
concept Denoiser = WritingDenoiser<D, T> || QueryingDenoiser<D, T> || ReturningDenoiser<D, T>;

/// Asks a denoiser of any form.
template <class T, class D>
void ask(D& denoiser, const T& x, const Query& query, TensorOf<T>& out) {
  static_assert(Denoiser<D, T>,
                "a denoiser must be callable as (const Tensor& x, double t, Tensor& out), as "
                "(const Tensor& x, const Query& query, Tensor& out), or return a Tensor from "
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
  }
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
