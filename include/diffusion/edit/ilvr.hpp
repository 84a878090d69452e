#ifndef DIFFUSION_EDIT_ILVR_HPP
#define DIFFUSION_EDIT_ILVR_HPP

#include <diffusion/edit/known_picture.hpp>
#include <diffusion/error.hpp>
#include <diffusion/tensor/state.hpp>

#include <algorithm>
#include <cstddef>
#include <vector>

namespace diffusion {

/// Options of Ilvr. Plain data: threads may share what none of them writes.
struct IlvrOptions {
  int factor = 4;      ///< blocks of this many pixels a side have the reference's means, >= 1
  int free_steps = 0;  ///< the last steps of the run, which are left alone, >= 0
  KnownNoise noise = KnownNoise::fresh;
};

namespace detail {

/// Rows of pixels in memory, and blocks of them: width is the fastest dimension, height the next;
/// of a state with one dimension beside the batch, only width.
struct PixelBlocks {
  std::size_t width = 1, height = 1, planes = 1;
  std::size_t wide = 1, high = 1;  ///< pixels of a block

  /// Fails unless `factor` divides both.
  template <State Tensor>
  static PixelBlocks of(const ShapeOf<Tensor>& shape, bool batched, int factor) {
    const std::size_t rank = shape.size();
    const auto extent = [&](std::size_t k) {  // k = 0 is the fastest
      return static_cast<std::size_t>(shape[StateTraits<Tensor>::row_major ? rank - 1 - k : k]);
    };
    const std::size_t spatial = (std::min)(rank - (batched && rank > 0 ? 1 : 0), std::size_t{2});
    PixelBlocks blocks;
    const auto f = static_cast<std::size_t>(factor);
    if (spatial > 0) blocks.width = extent(0), blocks.wide = f;
    if (spatial > 1) blocks.height = extent(1), blocks.high = f;
    const std::size_t total = blocks_of<Tensor>(shape, false).total();
    blocks.planes = total / (blocks.width * blocks.height);
    if (spatial == 0 || blocks.width % blocks.wide != 0 || blocks.height % blocks.high != 0)
      fail(text("IlvrOptions::factor is ", factor, "; it must divide height and width of the ",
                "pictures, ", blocks.height, " and ", blocks.width));
    return blocks;
  }

  /// f(first, wide, high): the element where each block starts.
  template <class F>
  void for_each(const F& f) const {
    for (std::size_t plane = 0; plane < planes; ++plane)
      for (std::size_t row = 0; row < height; row += high)
        for (std::size_t column = 0; column < width; column += wide)
          f((plane * height + row) * width + column);
  }
};

}  // namespace detail

/// Iterative latent variable refinement (Choi et al. 2021, arXiv 2108.02938, algorithm 1): a
/// reference picture y says what the result looks like from afar. After each stage that asks,
///
///     x <- x + low(alpha' y + sigma' n) - low(x)
///
/// where low is a linear low pass: here the mean of each block of factor x factor pixels, spread
/// over the block. So the result has the reference's block means, and with free_steps = 0 exactly
/// those. Height and width are the two fastest dimensions in memory; a state with one dimension
/// beside the batch has blocks along it.
///
/// The reference is like the picture of Inpaint: extents of 1 are repeated. Any sampler, schedule
/// and prediction type. Fails for options out of range, numbers that are not finite and, when the
/// run starts, shapes that do not fit. Not thread-safe: it holds buffers, made at the start; one
/// object per run at a time. No network calls of its own.
template <State Tensor, class Held>
class Ilvr {
 public:
  template <ReadableState P, class N>
  Ilvr(const P& reference, N&& noise, const IlvrOptions& options = {})
      : known_(reference, noise, options.noise), options_(options) {
    detail::require_edit_source<N>();
    detail::require_range("IlvrOptions::factor", options.factor, 1, 1'000'000);
    detail::require_range("IlvrOptions::free_steps", options.free_steps, 0, 1'000'000);
  }

  template <class Run, class T>
  void edit_start(const Run& run, T&) {
    known_.start(run);
    blocks_ = detail::PixelBlocks::of<Tensor>(StateTraits<Tensor>::shape(run.state()),
                                              run.options().batch, options_.factor);
  }

  template <class Run, class T>
  void edit_state(const Run& run, T& x) {
    const Stage& stage = run.last();
    const int steps_left = run.steps() - 1 - (stage.step - run.plan().stages.front().step);
    if (!stage.ask || steps_left < options_.free_steps) return;
    known_.next(run);
    using S = ScalarOf<Tensor>;
    S* data = StateTraits<T>::data(x);
    blocks_.for_each([&](std::size_t first) { refine(first, stage.to, data); });
  }

 private:
  /// Gives the block that starts at an element the reference's mean.
  template <class S>
  void refine(std::size_t first, const Knot& level, S* x) const {
    using Real = detail::Compute<S>;
    double missing = 0;
    for (std::size_t row = 0; row < blocks_.high; ++row)
      for (std::size_t k = 0; k < blocks_.wide; ++k) {
        const std::size_t i = first + row * blocks_.width + k;
        missing += static_cast<double>(known_.at(i, level)) - static_cast<double>(x[i]);
      }
    const auto mean = static_cast<Real>(missing / static_cast<double>(blocks_.wide * blocks_.high));
    for (std::size_t row = 0; row < blocks_.high; ++row)
      for (std::size_t k = 0; k < blocks_.wide; ++k) {
        S& pixel = x[first + row * blocks_.width + k];
        pixel = static_cast<S>(static_cast<Real>(pixel) + mean);
      }
  }

  detail::KnownPicture<Tensor, Held> known_;
  IlvrOptions options_;
  detail::PixelBlocks blocks_;
};
/// Deduced from reference and noise source.
template <ReadableState P, class N, class... Options>
Ilvr(const P&, N&&, Options...) -> Ilvr<TensorOf<P>, detail::HeldNoise<N&&>>;

}  // namespace diffusion

#endif  // DIFFUSION_EDIT_ILVR_HPP
