#ifndef DIFFUSION_EXAMPLES_CLIP_MEASURES_HPP
#define DIFFUSION_EXAMPLES_CLIP_MEASURES_HPP

#include <support/studio.hpp>

#include <set>

namespace examples {

/// How much clips flicker: the mean |difference| between a frame and the next, over all pixels.
/// Each `frames` consecutive pictures are a clip.
inline double flicker(const Pictures& pictures, Eigen::Index frames) {
  double sum = 0;
  int pairs = 0;
  for (Eigen::Index i = 0; i + 1 < pictures.dimension(0); ++i) {
    if (i % frames == frames - 1) continue;  // the next one is another clip's
    const Eigen::Tensor<float, 0, Eigen::RowMajor> mean =
        (pictures.chip(i + 1, 0) - pictures.chip(i, 0)).abs().mean();
    sum += static_cast<double>(mean(0));
    ++pairs;
  }
  return sum / pairs;
}

/// The mean |difference| between a column of pixels and the one before, over all pictures.
struct ColumnSteps {
  double at_seams;   ///< of the columns where something begins anew
  double elsewhere;  ///< of all others
};

inline ColumnSteps column_steps(const Pictures& pictures, const std::set<Eigen::Index>& seams) {
  double sum[2] = {0, 0};
  int columns[2] = {0, 0};
  for (Eigen::Index x = 1; x < pictures.dimension(3); ++x) {
    const Eigen::Tensor<float, 0, Eigen::RowMajor> mean =
        (pictures.chip(x, 3) - pictures.chip(x - 1, 3)).abs().mean();
    const int k = seams.count(x) > 0 ? 0 : 1;
    sum[k] += static_cast<double>(mean(0));
    ++columns[k];
  }
  return {sum[0] / columns[0], sum[1] / columns[1]};
}

}  // namespace examples

#endif  // DIFFUSION_EXAMPLES_CLIP_MEASURES_HPP
