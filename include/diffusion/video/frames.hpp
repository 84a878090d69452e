#ifndef DIFFUSION_VIDEO_FRAMES_HPP
#define DIFFUSION_VIDEO_FRAMES_HPP

#include <diffusion/error.hpp>
#include <diffusion/tensor/state.hpp>
#include <diffusion/video/frame_layout.hpp>

#include <algorithm>
#include <cstddef>
#include <utility>

/// Frames of a state, along any of its dimensions: copied, cut out, masked.
namespace diffusion {

namespace detail {

/// Fails unless frames [begin, begin + count) are there.
template <ReadableState T>
void require_frames(const char* what, const ShapeOf<T>& shape, std::size_t dimension,
                    Eigen::Index begin, Eigen::Index count) {
  memory_dimension<T>("the dimension of frames", shape, dimension);
  const auto frames = static_cast<Eigen::Index>(shape[dimension]);
  if (begin < 0 || count < 0 || begin > frames || count > frames - begin)
    fail(text(what, " takes frames ", begin, " to ", begin + count - 1, " along dimension ",
              dimension, " of ", shape_text(shape), ", which has ", frames));
}

/// A shape with another extent in one dimension.
template <class Shape>
Shape with_extent(Shape shape, std::size_t dimension, Eigen::Index extent) {
  shape[dimension] = static_cast<typename Shape::value_type>(extent);
  return shape;
}

}  // namespace detail

/// Copies `count` frames of `from`, `from_begin` the first, to `to` from `to_begin` on. Both have
/// the same extents in all other dimensions. Fails for frames that are not there.
template <ReadableState A, State B>
void copy_frames(const A& from, Eigen::Index from_begin, B& to, Eigen::Index to_begin,
                 Eigen::Index count, std::size_t dimension) {
  const auto a = StateTraits<A>::shape(from);
  const auto b = StateTraits<B>::shape(to);
  static_assert(std::is_same_v<ScalarOf<A>, ScalarOf<B>> && std::is_same_v<ShapeOf<A>, ShapeOf<B>>,
                "frames are copied between states of the same scalar and rank");
  static_assert(StateTraits<A>::row_major == StateTraits<B>::row_major,
                "frames are copied between states of the same layout");
  detail::require_frames<A>("copying", a, dimension, from_begin, count);
  detail::require_frames<B>("copying", b, dimension, to_begin, count);
  if (detail::with_extent(a, dimension, 1) != detail::with_extent(b, dimension, 1))
    fail(detail::text("frames along dimension ", dimension, " are copied from ", shape_text(a),
                      " to ", shape_text(b), "; all other extents must be the same"));
  const FrameLayout source = FrameLayout::along<A>(a, dimension, false);
  const FrameLayout target = FrameLayout::along<B>(b, dimension, false);
  const std::size_t inner = source.inner;
  for (std::size_t run = 0; run < source.outer; ++run)
    std::copy_n(StateTraits<A>::data(from) +
                    (run * source.frames + static_cast<std::size_t>(from_begin)) * inner,
                static_cast<std::size_t>(count) * inner,
                StateTraits<B>::data(to) +
                    (run * target.frames + static_cast<std::size_t>(to_begin)) * inner);
}

/// A clip of `frames` frames that begins with those of `context` and goes on with zeros: the known
/// picture of a continuation.
template <State T>
TensorOf<T> with_frames_after(const T& context, Eigen::Index frames, std::size_t dimension) {
  using Tensor = TensorOf<T>;
  const auto shape = StateTraits<T>::shape(context);
  detail::memory_dimension<T>("the dimension of frames", shape, dimension);
  const auto known = static_cast<Eigen::Index>(shape[dimension]);
  if (frames < known) fail(detail::text("a clip of ", frames, " frames cannot begin with ", known));
  const auto whole = detail::with_extent(shape, dimension, frames);
  Tensor clip = StateTraits<Tensor>::make(whole);
  std::fill_n(StateTraits<Tensor>::data(clip), blocks_of<Tensor>(whole, false).total(),
              ScalarOf<Tensor>{0});
  copy_frames(context, 0, clip, 0, known, dimension);
  return clip;
}

/// The mask of a clip of this shape whose first `known` frames are known: 1 for them, 0 for the
/// others, of extent 1 in every other dimension, as the edits that take masks repeat it.
template <State T>
TensorOf<T> first_frames_mask(const ShapeOf<T>& shape, std::size_t dimension, Eigen::Index known) {
  using Tensor = TensorOf<T>;
  detail::require_frames<T>("the mask", shape, dimension, 0, known);
  ShapeOf<T> ones = shape;
  for (auto& extent : ones) extent = 1;
  ones[dimension] = shape[dimension];
  Tensor mask = StateTraits<Tensor>::make(ones);
  for (Eigen::Index f = 0; f < static_cast<Eigen::Index>(shape[dimension]); ++f)
    StateTraits<Tensor>::data(mask)[f] = static_cast<ScalarOf<T>>(f < known ? 1.F : 0.F);
  return mask;
}

}  // namespace diffusion

#endif  // DIFFUSION_VIDEO_FRAMES_HPP
