#ifndef DIFFUSION_SAMPLING_SLICED_MAP_HPP
#define DIFFUSION_SAMPLING_SLICED_MAP_HPP

#include <diffusion/error.hpp>
#include <diffusion/tensor/lane.hpp>
#include <diffusion/tensor/state_traits.hpp>

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

namespace diffusion {

/// Which elements of a state share a level: how each sample splits into parts. A *slice* is one
/// part of one sample; slice b P + p is part p of sample b, P parts a sample. Immutable; safe to
/// share between threads.
class Slices {
 public:
  /// A slice for each sample of the batch.
  static Slices samples() { return {}; }

  /// A slice for each index along a dimension of the state, counted as in its shape: the frames of
  /// (batch, frame, ...) are along(1), those of (batch, channel, frame, height, width) along(2).
  /// The dimension of the batch gives samples().
  static Slices along(int dimension) {
    detail::require_at_least("the dimension of Slices::along", dimension, 0);
    Slices slices;
    slices.dimension_ = dimension;
    return slices;
  }

  /// Tokens, patches, or what one likes: `part_of[i]` is the part of element i of a sample, in the
  /// order of memory, the same for all samples. Parts are numbered from 0, each with an element.
  static Slices by_element(std::vector<int> part_of) {
    if (part_of.empty()) fail("the map of slices has 0 elements; it needs one per element");
    const int last = *std::max_element(part_of.begin(), part_of.end());
    detail::require_range("the number of a slice", last, 0, static_cast<int>(part_of.size()) - 1);
    std::vector<int> elements(static_cast<std::size_t>(last) + 1);
    for (const int part : part_of) {
      detail::require_at_least("the number of a slice", part, 0);
      ++elements[static_cast<std::size_t>(part)];
    }
    for (std::size_t part = 0; part < elements.size(); ++part)
      if (elements[part] == 0)
        fail(detail::text("slice ", part, " of the map has 0 elements; slices 0 to ", last,
                          " need at least 1 each"));
    Slices slices;
    slices.part_of_ = std::move(part_of);
    return slices;
  }

  int dimension() const { return dimension_; }  ///< of along(), else -1
  const std::vector<int>& map() const { return part_of_; }

 private:
  Slices() = default;
  int dimension_ = -1;
  std::vector<int> part_of_;
};

namespace detail {

/// A stretch of a sample's memory that belongs to one part, at most a chunk long.
struct SlicePiece {
  std::size_t offset = 0;  ///< its first element in the sample
  std::size_t within = 0;  ///< the same, counted over the elements of the part alone
  std::size_t count = 0;
  std::size_t part = 0;
};

/// How every sample of a state splits.
struct SliceLayout {
  std::size_t parts = 1;
  std::vector<SlicePiece> pieces;  // in the order of memory

  /// Adds elements [offset, offset + count) to a part whose `within` have been added before.
  void add(std::size_t part, std::size_t offset, std::size_t within, std::size_t count) {
    for (std::size_t i = 0; i < count; i += chunk_size)
      pieces.push_back({offset + i, within + i, (std::min)(chunk_size, count - i), part});
  }
};

/// Part k of an array (outer, extent, inner) is index k of the middle.
inline SliceLayout layout_along(std::size_t outer, std::size_t extent, std::size_t inner) {
  SliceLayout layout{extent, {}};
  for (std::size_t o = 0; o < outer; ++o)
    for (std::size_t k = 0; k < extent; ++k)
      layout.add(k, (o * extent + k) * inner, o * inner, inner);
  return layout;
}

inline SliceLayout layout_by_element(const std::vector<int>& part_of) {
  SliceLayout layout;
  layout.parts = static_cast<std::size_t>(*std::max_element(part_of.begin(), part_of.end())) + 1;
  std::vector<std::size_t> within(layout.parts);
  for (std::size_t begin = 0, end = 0; begin < part_of.size(); begin = end) {
    const int part = part_of[begin];
    while (end < part_of.size() && part_of[end] == part) ++end;
    std::size_t& before = within[static_cast<std::size_t>(part)];
    layout.add(static_cast<std::size_t>(part), begin, before, end - begin);
    before += end - begin;
  }
  return layout;
}

/// Whether slices lie along the dimension of the batch: they are its samples.
template <ReadableState T>
bool along_batch(int dimension, const ShapeOf<T>& shape, bool batched) {
  if (!batched || dimension < 0) return false;
  return dimension == (StateTraits<T>::row_major ? 0 : static_cast<int>(shape.size()) - 1);
}

/// The layout of the slices of a state; fails where they do not fit its shape.
template <ReadableState T>
SliceLayout layout_of(const Slices& slices, const ShapeOf<T>& shape, bool batched) {
  const std::size_t size = blocks_of<T>(shape, batched).size;
  if (!slices.map().empty()) {
    if (slices.map().size() != size)
      fail(text("the map of slices has ", slices.map().size(), " elements; a sample of the state ",
                shape_text(shape), " has ", size));
    return layout_by_element(slices.map());
  }
  if (slices.dimension() < 0 || along_batch<T>(slices.dimension(), shape, batched))
    return layout_along(1, 1, size);
  const auto d = static_cast<std::size_t>(slices.dimension());
  if (d >= shape.size())
    fail(text("slices lie along dimension ", d, "; the state ", shape_text(shape), " has ",
              shape.size(), " dimensions"));
  const auto product = [&](std::size_t begin, std::size_t end) {
    std::size_t p = 1;
    for (std::size_t i = begin; i < end; ++i) p *= static_cast<std::size_t>(shape[i]);
    return p;
  };
  const std::size_t before = product(0, d), after = product(d + 1, shape.size());
  const auto extent = static_cast<std::size_t>(shape[d]);
  const std::size_t inner = StateTraits<T>::row_major ? after : before;
  return layout_along(size / (extent * inner), extent, inner);
}

}  // namespace detail
}  // namespace diffusion

#endif  // DIFFUSION_SAMPLING_SLICED_MAP_HPP
