#ifndef DIFFUSION_VIDEO_FRAME_LAYOUT_HPP
#define DIFFUSION_VIDEO_FRAME_LAYOUT_HPP

#include <diffusion/error.hpp>
#include <diffusion/tensor/state_traits.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace diffusion {

namespace detail {

/// The place in memory order, the slowest dimension first, of a dimension as the type counts it.
template <ReadableState T>
std::size_t memory_dimension(const char* what, const ShapeOf<T>& shape, std::size_t dimension) {
  if (dimension >= shape.size())
    fail(text(what, " is ", dimension, "; the shape ", shape_text(shape), " has dimensions 0 to ",
              static_cast<int>(shape.size()) - 1));
  return StateTraits<T>::row_major ? dimension : shape.size() - 1 - dimension;
}

}  // namespace detail

/// Where the frames of a clip lie. Two ways: each frame is a sample of its own, `frames`
/// consecutive samples are a clip (a picture network that is asked for (frames, 1, 28, 28)); or a
/// sample is a clip and one of its dimensions counts the frames, (batch, frames, channel, ...) or
/// (batch, channel, frames, ...). Plain data: threads may share what none of them writes.
struct FrameLayout {
  std::uint64_t frames = 1;  ///< of a clip, at least 1
  /// Elements from a frame to the next in memory; 0: frames are samples.
  std::uint64_t inner = 0;
  std::uint64_t outer = 1;  ///< how often the frames are run through within a sample (channels)

  /// Clips of `frames` consecutive samples.
  static FrameLayout samples(std::uint64_t frames) { return {frames, 0, 1}; }

  /// Frames along a dimension of a state of this shape, counted as the type counts it; along the
  /// batch, frames are samples and the whole batch is one clip.
  template <ReadableState T>
  static FrameLayout along(const ShapeOf<T>& shape, std::size_t dimension, bool batched = true) {
    const std::size_t at = detail::memory_dimension<T>("the dimension of frames", shape, dimension);
    detail::require_extents("the clip", shape);
    const auto extent = [&](std::size_t d) {
      return static_cast<std::uint64_t>(
          shape[StateTraits<T>::row_major ? d : shape.size() - 1 - d]);
    };
    if (batched && at == 0) return samples(extent(0));
    FrameLayout layout{extent(at), 1, 1};
    for (std::size_t d = batched ? 1 : 0; d < at; ++d) layout.outer *= extent(d);
    for (std::size_t d = at + 1; d < shape.size(); ++d) layout.inner *= extent(d);
    return layout;
  }

  /// Fails for a layout of no frames or no outer runs.
  void check() const {
    detail::require_at_least("FrameLayout::frames", frames, std::uint64_t{1});
    detail::require_at_least("FrameLayout::outer", outer, std::uint64_t{1});
  }

  /// Fails unless a sample of this many elements is a clip of this layout.
  void require_elements(std::uint64_t elements) const {
    if (inner == 0 || elements == outer * frames * inner) return;
    fail(detail::text("a sample has ", elements, " elements; the frame layout is ", outer, " x ",
                      frames, " frames x ", inner, " = ", outer * frames * inner));
  }

  /// f(frame, begin, count): splits the elements [element, element + size) of a sample into runs
  /// that each lie in one frame; `begin` counts from `element`.
  template <class F>
  void for_each_run(std::uint64_t sample, std::uint64_t element, std::size_t size,
                    const F& f) const {
    if (inner == 0) return f(sample % frames, std::size_t{0}, size);
    for (std::size_t begin = 0; begin < size;) {
      const std::uint64_t at = element + begin;
      const std::uint64_t left = inner - at % inner;
      const std::size_t count = left < size - begin ? static_cast<std::size_t>(left) : size - begin;
      f(at / inner % frames, begin, count);
      begin += count;
    }
  }

  /// A place in a source of noise. Plain data: threads may share what none of them writes.
  struct Place {
    std::uint64_t sample, element;
  };
  /// The same place of another frame of the clip.
  Place in_frame(std::uint64_t sample, std::uint64_t element, std::uint64_t frame) const {
    if (inner == 0) return {sample / frames * frames + frame, element};
    const std::uint64_t run = element / inner / frames;
    return {sample, (run * frames + frame) * inner + element % inner};
  }
  /// The same place of a clip of one frame.
  Place in_still(std::uint64_t sample, std::uint64_t element) const {
    if (inner == 0) return {sample / frames, element};
    return {sample, element / inner / frames * inner + element % inner};
  }
};

}  // namespace diffusion

#endif  // DIFFUSION_VIDEO_FRAME_LAYOUT_HPP
