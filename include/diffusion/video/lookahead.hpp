#ifndef DIFFUSION_VIDEO_LOOKAHEAD_HPP
#define DIFFUSION_VIDEO_LOOKAHEAD_HPP

#include <diffusion/denoiser/denoiser.hpp>
#include <diffusion/denoiser/wrapped.hpp>
#include <diffusion/guidance/asking.hpp>
#include <diffusion/sampling/sliced_map.hpp>

#include <algorithm>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

namespace diffusion {

/// Options of LookaheadDenoiser. Plain data: threads may share what none of them writes.
struct LookaheadOptions {
  int dimension = 0;       ///< of the state that counts frames
  std::size_t frames = 1;  ///< frames that the network takes at once
  /// Ask in steps of half as many frames and keep the later half of each answer, so that noisy
  /// frames are denoised beside cleaner ones before them; twice the calls.
  bool lookahead = true;
};

/// A denoiser of a long window made of one of fewer frames, as FIFO-Diffusion asks it (Kim et al.
/// 2024, arXiv 2405.11473: latent partitioning, and lookahead denoising where it is switched on).
/// The first frames of the window take the first call's answer, as nothing is before them. Times
/// and levels are told by frame.
///
/// Not thread-safe: it holds buffers, made at the first call and kept; one object per run.
template <class Inner>
class LookaheadDenoiser : public WrappedDenoiser<Inner> {
 public:
  /// Fails for 0 frames, and for an odd number of them with lookahead. That the window divides into
  /// such steps is checked when it is asked.
  LookaheadDenoiser(Inner inner, LookaheadOptions options)
      : WrappedDenoiser<Inner>(std::move(inner)), options_(options) {
    detail::require_at_least("LookaheadOptions::dimension", options.dimension, 0);
    detail::require_at_least("LookaheadOptions::frames", options.frames, std::size_t{1});
    if (options.lookahead && options.frames % 2 != 0)
      fail(detail::text("LookaheadOptions::frames is ", options.frames,
                        "; with lookahead it must be even"));
  }

  template <State Tensor>
  void operator()(const Tensor& x, const Query& query, TensorOf<Tensor>& out) {
    using Owner = TensorOf<Tensor>;
    const auto shape = StateTraits<Tensor>::shape(x);
    const auto out_shape = StateTraits<Owner>::shape(out);
    const detail::SliceLayout state = layout<Tensor>(shape), answer = layout<Owner>(out_shape);
    const std::size_t window = state.parts, n = options_.frames, stride = step();
    if (answer.parts != window)
      fail(detail::text("the network's output has ", answer.parts, " frames for ", window));
    if (window < n || (window - n) % stride != 0)
      fail(detail::text("a window of ", window, " frames cannot be asked for ", n,
                        " at a time in steps of ", stride, "; it needs ", n, " + a multiple of ",
                        stride));
    Owner& part = in_.template get<Owner>(cut(shape));
    Owner& part_out = out_.template get<Owner>(cut(out_shape));
    for (std::size_t begin = 0; begin + n <= window; begin += stride) {
      copy(state, StateTraits<Tensor>::data(x), begin, StateTraits<Owner>::data(part));
      Query asked = told(query, window, begin);
      if (detail::along_batch<Tensor>(options_.dimension, shape, query.batched)) asked.samples = n;
      const Tensor& seen = detail::seen_as<Tensor>(part);
      ask(this->inner(), seen, asked, part_out);
      if (StateTraits<Owner>::shape(part_out) != cut(out_shape))
        fail(detail::text("the network changed its output to the shape ",
                          shape_text(StateTraits<Owner>::shape(part_out)), "; it must keep the ",
                          shape_text(cut(out_shape)), " that it was given"));
      keep(answer, StateTraits<Owner>::data(part_out), begin, begin == 0 ? 0 : n - stride,
           StateTraits<Owner>::data(out));
    }
  }

 private:
  std::size_t step() const { return options_.lookahead ? options_.frames / 2 : options_.frames; }

  // All dimensions but that of the frames count as inside or outside of them, the batch too.
  template <class Tensor>
  detail::SliceLayout layout(const ShapeOf<Tensor>& shape) const {
    return detail::layout_of<Tensor>(Slices::along(options_.dimension), shape, false);
  }
  template <class Shape>
  Shape cut(Shape shape) const {
    shape[static_cast<std::size_t>(options_.dimension)] =
        static_cast<Eigen::Index>(options_.frames);
    return shape;
  }

  // Frames [begin, begin + n) one behind the other in a tensor of their own: pieces come in the
  // order of memory, and leaving out some keeps it.
  template <class S>
  void copy(const detail::SliceLayout& layout, const S* from, std::size_t begin, S* to) const {
    for (const detail::SlicePiece& piece : layout.pieces)
      if (piece.part >= begin && piece.part < begin + options_.frames)
        to = std::copy_n(from + piece.offset, piece.count, to);
  }
  // The way back, for all but the first `skip` of them.
  template <class S>
  void keep(const detail::SliceLayout& layout, const S* from, std::size_t begin, std::size_t skip,
            S* to) const {
    for (const detail::SlicePiece& piece : layout.pieces) {
      if (piece.part < begin || piece.part >= begin + options_.frames) continue;
      if (piece.part >= begin + skip) std::copy_n(from, piece.count, to + piece.offset);
      from += piece.count;
    }
  }

  // The query for some frames: frame p of stream b is slice b P + p.
  Query told(const Query& query, std::size_t window, std::size_t begin) {
    Query asked = query;
    times_.clear();
    levels_.clear();
    const std::size_t n = options_.frames;
    const auto take = [&](const auto& all, auto& some) {
      for (std::size_t first = begin; first + n <= all.size(); first += window)
        for (std::size_t k = 0; k < n; ++k) some.push_back(all[first + k]);
    };
    take(query.times, times_);
    take(query.levels, levels_);
    asked.times = times_;
    asked.levels = levels_;
    return asked;
  }

  LookaheadOptions options_;
  detail::KeptTensor in_, out_;
  std::vector<double> times_;
  std::vector<Knot> levels_;
};

}  // namespace diffusion

#endif  // DIFFUSION_VIDEO_LOOKAHEAD_HPP
