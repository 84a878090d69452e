#ifndef DIFFUSION_EXAMPLES_BACKGROUND_HPP
#define DIFFUSION_EXAMPLES_BACKGROUND_HPP

#include <support/studio.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace examples {

/// The mean of |a - b| outside of what the pictures show, for pictures on black, values -1 to 1:
/// over the pixels with nothing brighter than `level` within `margin` pixels in either picture.
inline double background_difference(const Pictures& a, const Pictures& b, float level = -0.5f,
                                    Eigen::Index margin = 2) {
  const Eigen::Index height = a.dimension(2), width = a.dimension(3);
  double sum = 0;
  std::size_t count = 0;
  for (Eigen::Index picture = 0; picture < a.dimension(0); ++picture) {
    const auto shows = [&](Eigen::Index y, Eigen::Index x) {
      return std::max(a(picture, 0, y, x), b(picture, 0, y, x)) > level;
    };
    const auto near_object = [&](Eigen::Index y, Eigen::Index x) {
      for (Eigen::Index v = std::max<Eigen::Index>(0, y - margin);
           v <= std::min(height - 1, y + margin); ++v)
        for (Eigen::Index u = std::max<Eigen::Index>(0, x - margin);
             u <= std::min(width - 1, x + margin); ++u)
          if (shows(v, u)) return true;
      return false;
    };
    for (Eigen::Index y = 0; y < height; ++y)
      for (Eigen::Index x = 0; x < width; ++x)
        if (!near_object(y, x)) {
          sum += static_cast<double>(std::abs(a(picture, 0, y, x) - b(picture, 0, y, x)));
          ++count;
        }
  }
  return count == 0 ? 0 : sum / static_cast<double>(count);
}

/// The class that a picture of each class is turned into: one that resembles it. Each other's.
inline int partner_of(int label) {
  constexpr int partners[] = {6, 7, 3, 2, 9, 8, 0, 1, 5, 4, 12, 13, 10, 11, 16, 17, 14, 15, 19, 18};
  return partners[label];
}
inline std::vector<int> partners_of(std::vector<int> labels) {
  std::transform(labels.begin(), labels.end(), labels.begin(), partner_of);
  return labels;
}

}  // namespace examples

#endif  // DIFFUSION_EXAMPLES_BACKGROUND_HPP
