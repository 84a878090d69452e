#ifndef DIFFUSION_VIDEO_WINDOWS_HPP
#define DIFFUSION_VIDEO_WINDOWS_HPP

#include <diffusion/denoiser/denoiser.hpp>
#include <diffusion/denoiser/wrapped.hpp>
#include <diffusion/guidance/asking.hpp>
#include <diffusion/tensor/state.hpp>
#include <diffusion/video/boxes.hpp>
#include <diffusion/video/frame_layout.hpp>
#include <diffusion/video/free_noise.hpp>
#include <diffusion/video/window_plan.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace diffusion {

/// Options of WindowedDenoiser. Plain data: threads may share what none of them writes.
struct WindowOptions {
  std::vector<WindowAxis> axes{};  ///< at least one, each of another dimension
  /// How many windows are joined in one call of the network, along the batch; 0: all of them. An
  /// unbatched state, and one whose type fixes its size, is asked for one window after the other.
  std::size_t windows_per_call = 0;
  std::uint64_t seed = 0;  ///< of jittered offsets
};

namespace detail {

/// The shape of a window: that of the whole, but for the extents of the windows' dimensions.
template <State T>
ShapeOf<T> window_shape(ShapeOf<T> shape, const std::vector<WindowAxis>& axes) {
  using Extent = typename ShapeOf<T>::value_type;
  for (const WindowAxis& axis : axes) shape[axis.dimension] = static_cast<Extent>(axis.size);
  return shape;
}

/// The windows of a state of these extents (the slowest dimension first); `places` says which of
/// them each axis is along.
inline BoxGrid window_grid(const std::vector<std::size_t>& extents,
                           const std::vector<WindowAxis>& axes,
                           const std::vector<std::size_t>& places,
                           const std::vector<Eigen::Index>& offsets) {
  std::vector<std::vector<AxisWindow>> sides;
  for (const std::size_t extent : extents) sides.push_back({AxisWindow::whole(extent)});
  for (std::size_t k = 0; k < axes.size(); ++k)
    sides[places[k]] =
        axis_windows(axes[k], static_cast<Eigen::Index>(extents[places[k]]), offsets[k]);
  return BoxGrid(std::move(sides));
}

}  // namespace detail

/// MultiDiffusion (Bar-Tal et al. 2023, arXiv 2302.08113): a denoiser for states that are larger
/// than the network can see, made of the network. It is asked for overlapping windows of the state
/// and answers, at each element, the weighted mean of the windows' predictions. Panoramas by
/// windows along the width, long clips by windows along the frames, both at once; and with any
/// sampler, schedule and prediction type, for at a given state the mean of predictions is that of
/// the estimates. Where windows agree, as those of a network that looks at each element alone, the
/// mean is their answer, bit for bit.
///
///     WindowedDenoiser wide{network, {.axes = {{.dimension = 3, .size = 64, .stride = 48}}}};
///
/// Windows are joined along the batch: row r of a call is sample r % batch of its window r / batch,
/// the last axis the fastest. So one condition a sample goes outside,
/// ClassifierFreeGuidance{WindowedDenoiser{network, ...}, conditions, null}: a windowed conditional
/// network is itself one, asked for a window at a time; and one condition a window goes inside:
/// WindowedDenoiser{ClassifierFreeGuidance{network, conditions, null}, ...} with a condition for
/// every row of the one joined call. Along the batch (frames that are samples) windows must stand
/// inside guidance, which doubles the batch.
///
/// Query::times and levels, where slices have their own, are cut up with the state: slices are
/// samples, or the indices along the dimension of the one axis. Fails for windows that do not fit
/// or leave an element out. Not thread-safe: it holds buffers, made at the first call; one object
/// per run at a time.
template <class Inner>
class WindowedDenoiser : public WrappedDenoiser<Inner> {
 public:
  WindowedDenoiser(Inner inner, WindowOptions options)
      : WrappedDenoiser<Inner>(std::move(inner)), options_(std::move(options)) {
    if (options_.axes.empty()) fail("WindowOptions::axes has 0 axes; it needs at least 1");
    for (std::size_t i = 0; i < options_.axes.size(); ++i)
      for (std::size_t j = 0; j < i; ++j)
        if (options_.axes[i].dimension == options_.axes[j].dimension)
          fail(detail::text("WindowOptions::axes has two axes of dimension ",
                            options_.axes[i].dimension, "; a dimension has one"));
  }

  const WindowOptions& options() const { return options_; }

  template <State T>
  void operator()(const T& x, const Query& query, TensorOf<T>& out) {
    answer(x, query, out, !query.batched ? 1 : options_.windows_per_call,
           [this](const auto& window, const Query& asked, auto& to) {
             using Window = std::remove_cvref_t<decltype(window)>;
             ask<Window>(this->inner(), window, asked, to);
           });
  }

  /// As a conditional network: every window has the conditions of the whole.
  template <State T, class Condition>
  void operator()(const T& x, const Query& query, const Conditions<Condition>& conditions,
                  TensorOf<T>& out) {
    const std::size_t batch = StateTraits<T>::row_major ? 0 : StateTraits<T>::shape(x).size() - 1;
    for (const WindowAxis& axis : options_.axes)
      if (query.batched && axis.dimension == batch)
        fail(detail::text("windows along dimension ", batch,
                          ", the batch, split what guidance has conditions for: put the guidance "
                          "inside, WindowedDenoiser{ClassifierFreeGuidance{...}, ...}"));
    answer(x, query, out, 1, [&](const auto& window, const Query& asked, auto& to) {
      detail::ask_conditional(this->inner(), window, asked, conditions, to);
    });
  }

 private:
  template <class T, class Ask>
  void answer(const T& x, const Query& query, TensorOf<T>& out, std::size_t per_call,
              const Ask& ask_window) {
    using Owner = TensorOf<T>;
    using S = ScalarOf<T>;
    const auto shape = StateTraits<T>::shape(x);
    const auto out_shape = StateTraits<Owner>::shape(out);
    const auto places = places_of<T>(shape, out_shape);
    const auto extents = detail::memory_extents<T>(shape);
    const auto out_extents = detail::memory_extents<Owner>(out_shape);
    prepare(extents, out_extents, places, query.step);

    const auto one = detail::window_shape<Owner>(shape, options_.axes);
    const auto one_out = detail::window_shape<Owner>(out_shape, options_.axes);
    const std::size_t size = blocks_of<Owner>(one, false).total();
    const std::size_t out_size = blocks_of<Owner>(one_out, false).total();
    if (per_call == 0) per_call = grid_.count();
    if (!detail::fits<Owner>(detail::times_batch<Owner>(one, (std::min)(per_call, grid_.count()))))
      per_call = 1;
    detail::require_fit<Owner>("a window", one);

    std::fill_n(StateTraits<Owner>::data(out), blocks_of<Owner>(out_shape, false).total(), S{0});
    for (std::size_t first = 0; first < grid_.count(); first += per_call) {
      const std::size_t count = (std::min)(per_call, grid_.count() - first);
      const auto joined = detail::times_batch<Owner>(one_out, count);
      Owner& in = in_.template get<Owner>(detail::times_batch<Owner>(one, count));
      Owner& to = to_.template get<Owner>(joined);
      for (std::size_t k = 0; k < count; ++k)
        detail::gather_box(StateTraits<T>::data(x), extents, grid_.box(first + k),
                           StateTraits<Owner>::data(in) + k * size);
      decltype(auto) seen = detail::seen_as<T>(in);
      const T& windows = seen;
      ask_window(windows, query_of(query, extents, places, first, count), to);
      detail::require_kept(to, joined);
      for (std::size_t k = 0; k < count; ++k)
        detail::blend_box(StateTraits<Owner>::data(to) + k * out_size, out_grid_.box(first + k),
                          out_extents, StateTraits<Owner>::data(out));
    }
  }

  /// Along which dimension, counted from the slowest in memory, each axis is; fails where windows
  /// do not fit.
  template <class T>
  std::vector<std::size_t> places_of(const ShapeOf<T>& shape,
                                     const ShapeOf<TensorOf<T>>& out_shape) const {
    std::vector<std::size_t> places;
    for (const WindowAxis& axis : options_.axes) {
      places.push_back(detail::memory_dimension<T>("WindowAxis::dimension", shape, axis.dimension));
      const auto extent = shape[axis.dimension];
      detail::check_axis(axis, static_cast<Eigen::Index>(extent));
      if (out_shape[axis.dimension] != extent)
        fail(detail::text("the output has ", out_shape[axis.dimension],
                          " elements along dimension ", axis.dimension, ", where the state has ",
                          extent, " and windows; they must be the same"));
    }
    return places;
  }

  /// Makes the windows of a step, unless they are those of the last call.
  void prepare(const std::vector<std::size_t>& extents, const std::vector<std::size_t>& out_extents,
               const std::vector<std::size_t>& places, int step) {
    std::vector<Eigen::Index> offsets;
    for (const WindowAxis& axis : options_.axes)
      offsets.push_back(axis.jitter ? static_cast<Eigen::Index>(detail::random_below(
                                          static_cast<std::uint64_t>(axis.stride), options_.seed,
                                          static_cast<std::uint64_t>(step) << 8 | axis.dimension))
                                    : 0);
    if (extents == extents_ && out_extents == out_extents_ && offsets == offsets_) return;
    grid_ = detail::window_grid(extents, options_.axes, places, offsets);
    out_grid_ = detail::window_grid(out_extents, options_.axes, places, offsets);
    extents_ = extents;
    out_extents_ = out_extents;
    offsets_ = std::move(offsets);
  }

  /// What the network is told of `count` windows from `first` on.
  Query query_of(const Query& query, const std::vector<std::size_t>& extents,
                 const std::vector<std::size_t>& places, std::size_t first, std::size_t count) {
    Query asked = query;
    const detail::Box box = grid_.box(first);
    asked.samples = query.batched ? count * box[0]->at.size() : 1;
    cut(query.times, query, extents, places, first, count, times_);
    cut(query.levels, query, extents, places, first, count, levels_);
    if (!query.times.empty()) asked.times = times_;
    if (!query.levels.empty()) asked.levels = levels_;
    return asked;
  }

  /// One entry per slice of the whole -> one per slice of each window.
  template <class Entry>
  void cut(std::span<const Entry> slices, const Query& query,
           const std::vector<std::size_t>& extents, const std::vector<std::size_t>& places,
           std::size_t first, std::size_t count, std::vector<Entry>& windows) const {
    windows.clear();
    if (slices.empty()) return;
    const std::size_t samples = query.batched ? extents[0] : 1;
    const std::size_t d = places[0];
    const bool by_sample = slices.size() == samples;
    if (!by_sample && !(places.size() == 1 && slices.size() == samples * extents[d]))
      fail(detail::text("the query has times for ", slices.size(),
                        " slices; windows need one for "
                        "each of ",
                        samples, " samples, or for each index of the one axis"));
    for (std::size_t k = 0; k < count; ++k) {
      const detail::Box box = grid_.box(first + k);
      for (std::size_t row = 0; row < (query.batched ? box[0]->at.size() : 1); ++row) {
        const std::size_t sample = query.batched ? box[0]->at[row] : 0;
        if (by_sample)
          windows.push_back(slices[sample]);
        else
          for (const std::size_t at : box[d]->at)
            windows.push_back(slices[sample * extents[d] + at]);
      }
    }
  }

  WindowOptions options_;
  detail::KeptTensor in_, to_;
  detail::BoxGrid grid_, out_grid_;  // of the state and of the output
  std::vector<std::size_t> extents_, out_extents_;
  std::vector<Eigen::Index> offsets_;
  std::vector<double> times_;
  std::vector<Knot> levels_;
};

}  // namespace diffusion

#endif  // DIFFUSION_VIDEO_WINDOWS_HPP
