#ifndef DIFFUSION_EDIT_DIFFERENTIAL_HPP
#define DIFFUSION_EDIT_DIFFERENTIAL_HPP

#include <diffusion/edit/image_to_image.hpp>
#include <diffusion/edit/known_picture.hpp>
#include <diffusion/schedule/grid.hpp>
#include <diffusion/tensor/state.hpp>

#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

namespace diffusion {

/// Differential image to image (Levin and Fried 2023, arXiv 2306.00950): a strength for each pixel.
/// Each is held on the noised picture, alpha' y + sigma' n, until the run comes down to the level
/// where image to image of its own strength starts, and is sampled from there on. Strengths are
/// shares of the steps of `grid`, by `steps_of_strength`; a pixel of strength 0 (or less than a
/// step) stays as it is, one of strength 1 is sampled from the start. Unlike a soft mask this mixes
/// no two noises, so the level of the noise is right everywhere.
///
/// `grid` is the grid of the run, or the larger one that it is a part of; picture and strengths as
/// picture and mask of Inpaint, strengths in [0, 1]. With KnownNoise::fixed a pixel starts with the
/// noise that it has been held with, as in image to image. Levels are compared by sigma / alpha, so
/// any sampler and jumps back (`repaint_plan`) will do: a jump above a pixel's level holds it anew.
///
/// Fails for strengths outside [0, 1], numbers that are not finite and, when the run starts, shapes
/// that do not fit. Not thread-safe: it holds buffers, made at the start; one object per run at a
/// time. No network calls of its own.
template <State Tensor, class Held>
class Differential {
 public:
  template <ReadableState P, ReadableState M, class N>
  Differential(const Grid& grid, const P& picture, const M& strengths, N&& noise,
               KnownNoise kind = KnownNoise::fixed)
      : known_(picture, noise, kind), strengths_("the map of strengths", strengths) {
    detail::require_edit_source<N>();
    if (kind == KnownNoise::draw)
      fail(
          "a differential run is held from its start, where no stage has drawn; its KnownNoise "
          "must be fixed or fresh");
    strengths_.require_unit();
    for (const GridStep& step : grid) levels_.push_back(detail::ratio_of(step.from));
  }

  template <class Run, class T>
  void edit_start(const Run& run, T& x) {
    known_.start(run);
    strengths_.fit(StateTraits<Tensor>::shape(run.state()));
    free_below_.clear();
    for (std::size_t i = 0; i < strengths_.size(); ++i)
      free_below_.push_back(level_of(static_cast<double>(strengths_[i])));
    hold(run.stage().at, x);
  }

  template <class Run, class T>
  void edit_state(const Run& run, T& x) {
    known_.next(run);
    hold(run.last().to, x);
  }

 private:
  /// sigma / alpha where a pixel starts; below 0: never.
  double level_of(double strength) const {
    const auto n = static_cast<int>(levels_.size());
    const int steps = strength > 0 ? steps_of_strength(n, strength) : 0;
    return steps == 0 ? -1 : levels_[static_cast<std::size_t>(n - steps)];
  }

  template <class T>
  void hold(const Knot& at, T& x) const {
    constexpr double rounding = 1e-9;
    const double level = detail::ratio_of(at) * (1 + rounding);
    auto* to = StateTraits<T>::data(x);
    for (std::size_t i = 0; i < known_.size(); ++i)
      if (level >= free_below_[i]) to[i] = static_cast<ScalarOf<Tensor>>(known_.at(i, at));
  }

  detail::KnownPicture<Tensor, Held> known_;
  detail::Repeated<Tensor> strengths_;
  std::vector<double> levels_;      // where the steps of the grid start
  std::vector<double> free_below_;  // of each element
};
/// Deduced from picture and noise source.
template <ReadableState P, ReadableState M, class N, class... Kind>
Differential(const Grid&, const P&, const M&, N&&, Kind...)
    -> Differential<TensorOf<P>, detail::HeldNoise<N&&>>;

}  // namespace diffusion

#endif  // DIFFUSION_EDIT_DIFFERENTIAL_HPP
