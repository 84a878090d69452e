#ifndef DIFFUSION_GUIDANCE_SLICES_HPP
#define DIFFUSION_GUIDANCE_SLICES_HPP

#include <diffusion/denoiser/query.hpp>
#include <diffusion/error.hpp>
#include <diffusion/guidance/asking.hpp>
#include <diffusion/tensor/lane.hpp>
#include <diffusion/tensor/state.hpp>

#include <cstddef>
#include <functional>
#include <utility>

/// What guidance by a gradient needs beside the gradient: the state behind the network's input, the
/// stretches of a batch that stand at one level, the scale of a moment.
namespace diffusion::detail {

/// Calls act(x) with the state itself, where the denoiser was given input_scale times the state.
template <State T, class F>
void at_state(const T& input, const Query& query, KeptTensor& kept, const F& act) {
  if (query.input_scale == 1) return act(input);
  using Owner = TensorOf<T>;
  using S = ScalarOf<T>;
  const auto shape = StateTraits<T>::shape(input);
  Owner& state = kept.get<Owner>(shape);
  const S* from = StateTraits<T>::data(input);
  S* to = StateTraits<Owner>::data(state);
  const auto per_scale = static_cast<Compute<S>>(1 / query.input_scale);
  for (std::size_t i = 0; i < blocks_of<T>(shape, false).total(); ++i)
    to[i] = static_cast<S>(per_scale * static_cast<Compute<S>>(from[i]));
  decltype(auto) seen = seen_as<T>(state);
  act(std::as_const(seen));
}

/// Calls act(moment, sample, first, count) for every stretch of elements of a sample at one level:
/// for the whole sample, or, where slices have levels of their own, for each slice with its own.
template <class F>
void for_each_slice(const Query& query, const Blocks& blocks, const F& act) {
  const std::size_t slices = query.levels.empty() ? blocks.batch : query.levels.size();
  const std::size_t per_sample = blocks.batch == 0 ? 0 : slices / blocks.batch;
  if (query.levels.empty() && !query.times.empty())
    fail(text("the query has ", query.times.size(),
              " times but one level; guidance by a gradient needs the level of every slice"));
  if (per_sample * blocks.batch != slices || blocks.size % (per_sample == 0 ? 1 : per_sample) != 0)
    fail(text("the query has ", slices, " levels for ", blocks.batch, " samples of ", blocks.size,
              " elements; they must divide each sample into equal slices"));
  for (std::size_t slice = 0; slice < slices; ++slice) {
    Query moment = query;
    if (!query.levels.empty()) {
      moment.t = query.levels[slice].t;
      moment.alpha = query.levels[slice].alpha;
      moment.sigma = query.levels[slice].sigma;
      moment.times = {};
      moment.levels = {};
    }
    const std::size_t count = blocks.size / per_sample;
    act(std::as_const(moment), slice / per_sample, slice % per_sample * count, count);
  }
}

/// The constant, or what the function gives at a moment. Fails where that is not finite.
inline double scale_at(const char* name, double constant,
                       const std::function<double(const Query&)>& function, const Query& moment) {
  const double scale = function ? function(moment) : constant;
  if (!is_finite(scale))
    fail(text(name, " is ", scale, " at t = ", moment.t, "; it must be finite"));
  return scale;
}

/// Fails unless a gradient kept its shape and is finite; `what` begins the message.
template <State T>
void require_gradient(const char* what, const TensorOf<T>& gradient, const ShapeOf<T>& shape,
                      const Query& query) {
  using Owner = StateTraits<TensorOf<T>>;
  if (Owner::shape(gradient) != shape)
    fail(text(what, " was given the shape ", shape_text(Owner::shape(gradient)),
              "; it must keep that of the state, ", shape_text(shape)));
  const Blocks blocks = blocks_of<T>(shape, query.batched);
  const auto* values = Owner::data(gradient);
  for (std::size_t i = 0; i < blocks.total(); ++i)
    if (!is_finite(static_cast<double>(values[i])))
      fail(text(what, " is ", static_cast<double>(values[i]), " for sample ", i / blocks.size,
                ", element ", i % blocks.size, ", at t = ", query.t, "; it must be finite"));
}

}  // namespace diffusion::detail

#endif  // DIFFUSION_GUIDANCE_SLICES_HPP
