#ifndef DIFFUSION_VIDEO_BOXES_HPP
#define DIFFUSION_VIDEO_BOXES_HPP

#include <diffusion/tensor/lane.hpp>
#include <diffusion/tensor/state_traits.hpp>
#include <diffusion/video/window_plan.hpp>

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

/// Boxes of a state: copied out, and put back as a weighted mean.
namespace diffusion::detail {

/// The extents of a state, the slowest dimension in memory first.
template <ReadableState T>
std::vector<std::size_t> memory_extents(const ShapeOf<T>& shape) {
  std::vector<std::size_t> extents;
  for (const auto extent : shape) extents.push_back(static_cast<std::size_t>(extent));
  if (!StateTraits<T>::row_major) std::reverse(extents.begin(), extents.end());
  return extents;
}

/// All combinations of the windows of each dimension, the last dimension the fastest.
class BoxGrid {
 public:
  BoxGrid() = default;
  /// The windows of each dimension, the slowest in memory first.
  explicit BoxGrid(std::vector<std::vector<AxisWindow>> sides) : sides_(std::move(sides)) {
    count_ = 1;
    for (const auto& windows : sides_) count_ *= windows.size();
  }

  std::size_t count() const { return count_; }
  Box box(std::size_t k) const {
    Box box(sides_.size());
    for (std::size_t d = sides_.size(); d-- > 0; k /= sides_[d].size())
      box[d] = &sides_[d][k % sides_[d].size()];
    return box;
  }

 private:
  std::vector<std::vector<AxisWindow>> sides_;
  std::size_t count_ = 0;
};

/// The elements of a box, one behind the other.
template <class S>
void gather_box(const S* whole, const std::vector<std::size_t>& extents, const Box& box, S* to) {
  for_each_in_box(box, extents,
                  [&](std::size_t at, std::size_t in_box, double) { to[in_box] = whole[at]; });
}

/// Takes a box into the weighted mean of all boxes so far, which begins with zeros.
template <class S>
void blend_box(const S* answers, const Box& box, const std::vector<std::size_t>& extents, S* mean) {
  using Real = Compute<S>;
  for_each_in_box(box, extents, [&](std::size_t at, std::size_t in_box, double share) {
    const Real before = static_cast<Real>(mean[at]);
    const Real answer = static_cast<Real>(answers[in_box]);
    if (share == 1)
      mean[at] = answers[in_box];
    else if (share > 0)
      mean[at] = static_cast<S>(before + static_cast<Real>(share) * (answer - before));
  });
}

}  // namespace diffusion::detail

#endif  // DIFFUSION_VIDEO_BOXES_HPP
