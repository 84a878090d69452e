#ifndef DIFFUSION_VIDEO_ROLLOUT_HPP
#define DIFFUSION_VIDEO_ROLLOUT_HPP

#include <diffusion/error.hpp>
#include <diffusion/noise/noise.hpp>
#include <diffusion/sampling/sample.hpp>
#include <diffusion/tensor/normals.hpp>
#include <diffusion/video/continuation.hpp>
#include <diffusion/video/frames.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

namespace diffusion {

/// The noise of a part of a long clip, as a source for a run on that part: frame f of the part has
/// the noise that the inner source has for frame begin + f of the whole, so a frame's noise does
/// not depend on how the clip is cut into blocks. Immutable; as thread-safe as the inner source.
template <AddressedNoise Source>
class ClipPartNoise {
 public:
  /// `whole` is the layout of the long clip. Fails for frames that it has not.
  ClipPartNoise(Source source, const FrameLayout& whole, std::uint64_t begin, std::uint64_t frames)
      : source_(std::move(source)), whole_(whole), part_(whole), begin_(begin) {
    whole.check();
    detail::require_at_least("the frames of a part", frames, std::uint64_t{1});
    if (begin > whole.frames || frames > whole.frames - begin)
      fail(detail::text("a part has frames ", begin, " to ", begin + frames - 1, " of a clip of ",
                        whole.frames));
    part_.frames = frames;
  }

  /// The normals of elements element, element + 1, ... of a draw of a sample of the part;
  /// `element` is a multiple of `noise_block`.
  void fill(std::uint64_t sample, std::uint64_t draw, std::uint64_t element,
            std::span<float> out) const {
    write(sample, draw, element, out);
  }

  /// The same normals, widened.
  void fill(std::uint64_t sample, std::uint64_t draw, std::uint64_t element,
            std::span<double> out) const {
    write(sample, draw, element, out);
  }

  /// Fails where a sample of a run is not a part of the clip, or the inner source cannot deliver.
  void require(std::uint64_t samples, std::uint64_t draws, std::uint64_t elements) const {
    part_.require_elements(elements);
    if constexpr (requires { source_.require(samples, draws, elements); }) {
      if (part_.inner > 0)
        source_.require(samples, draws, elements / part_.frames * whole_.frames);
      else
        source_.require((samples + part_.frames - 1) / part_.frames * whole_.frames, draws,
                        elements);
    }
  }

 private:
  static constexpr std::size_t chunk = 64;

  template <class Scalar>
  void write(std::uint64_t sample, std::uint64_t draw, std::uint64_t element,
             std::span<Scalar> out) const {
    part_.for_each_run(sample, element, out.size(),
                       [&](std::uint64_t frame, std::size_t begin, std::size_t count) {
                         for (std::size_t i = begin; i < begin + count; i += chunk) {
                           const auto at = place(sample, element + i, begin_ + frame);
                           const std::size_t n = (std::min)(chunk, begin + count - i);
                           const auto skip = static_cast<std::size_t>(at.element % noise_block);
                           alignas(64) float normals[chunk + noise_block];
                           source_.fill(at.sample, draw, at.element - skip,
                                        std::span<float>(normals, skip + n));
                           std::copy_n(normals + skip, n, out.data() + i);
                         }
                       });
  }

  FrameLayout::Place place(std::uint64_t sample, std::uint64_t element, std::uint64_t frame) const {
    if (part_.inner == 0) return {sample / part_.frames * whole_.frames + frame, element};
    const std::uint64_t run = element / part_.inner / part_.frames;
    return {sample, (run * whole_.frames + frame) * part_.inner + element % part_.inner};
  }

  Source source_;
  FrameLayout whole_, part_;
  std::uint64_t begin_;
};

/// How a long clip is made block after block. Plain data: threads may share what none of them
/// writes.
struct RolloutOptions {
  std::size_t dimension = 1;  ///< of the frames, as the state's type counts them
  Eigen::Index block = 16;    ///< frames of one run, at least 1
  Eigen::Index context = 4;   ///< frames that a block has from those before it, 0 to block - 1
  /// Where the noise of known frames comes from, in sample_rollout.
  KnownNoise known = KnownNoise::fresh;
};

/// One block of a rollout. Plain data: threads may share what none of them writes.
struct RolloutBlock {
  int number = 0;
  Eigen::Index begin = 0;  ///< its first frame in the clip
  Eigen::Index known = 0;  ///< so many of its frames are there already; 0 for the first block
};

/// The blocks of a clip of `frames` frames. The last one is moved back to end where the clip does:
/// it knows more.
inline std::vector<RolloutBlock> rollout_blocks(Eigen::Index frames,
                                                const RolloutOptions& options) {
  detail::require_range("RolloutOptions::block", options.block, Eigen::Index{1}, frames);
  detail::require_range("RolloutOptions::context", options.context, Eigen::Index{0},
                        options.block - 1);
  std::vector<RolloutBlock> blocks;
  for (Eigen::Index made = 0; made < frames;) {
    const Eigen::Index wanted = made == 0 ? 0 : made - options.context;
    const Eigen::Index begin = (std::min)(wanted, frames - options.block);
    blocks.push_back({static_cast<int>(blocks.size()), begin, made - begin});
    made = begin + options.block;
  }
  return blocks;
}

/// Makes a long clip block after block: `sample_block(const RolloutBlock&, Tensor& x)` is given a
/// state of block.frames whose first block.known frames are those made before, zeros after them,
/// and leaves the sampled block in x. What it leaves in the known frames is not read.
template <State T, class SampleBlock>
TensorOf<T> roll_out(const ShapeOf<T>& shape, const RolloutOptions& options,
                     SampleBlock&& sample_block) {
  using Tensor = TensorOf<T>;
  detail::require_extents("the clip", shape);
  detail::memory_dimension<T>("RolloutOptions::dimension", shape, options.dimension);
  const std::size_t d = options.dimension;
  Tensor clip = StateTraits<Tensor>::make(shape);
  const auto part = detail::with_extent(shape, d, options.block);
  const std::size_t part_size = blocks_of<Tensor>(part, false).total();
  for (const RolloutBlock& block : rollout_blocks(static_cast<Eigen::Index>(shape[d]), options)) {
    Tensor x = StateTraits<Tensor>::make(part);
    std::fill_n(StateTraits<Tensor>::data(x), part_size, ScalarOf<Tensor>{0});
    copy_frames(clip, block.begin, x, 0, block.known, d);
    sample_block(block, x);
    if (StateTraits<Tensor>::shape(x) != part)
      fail(detail::text("block ", block.number, " of the rollout came back with the shape ",
                        shape_text(StateTraits<Tensor>::shape(x)), "; it must keep ",
                        shape_text(part)));
    copy_frames(x, block.known, clip, block.begin + block.known, options.block - block.known, d);
  }
  return clip;
}

/// Makes a long clip block after block by replacement: each block is a run of the plan in which the
/// frames known from before are put in at every stage (continue_by_replacement). `shape` is that of
/// the whole clip; the denoiser is asked for blocks. Frames take their noise by their place in the
/// clip (ClipPartNoise). Fails like `sample`.
template <State T, class Plan, class D, AddressedNoise N, class... Callbacks>
TensorOf<T> sample_rollout(const Plan& plan, D&& denoiser, const ShapeOf<T>& shape, const N& noise,
                           const RolloutOptions& rollout, const SampleOptions& options = {},
                           Callbacks&&... callbacks) {
  using Tensor = TensorOf<T>;
  decltype(auto) table = detail::plan_of(plan);
  const auto whole = FrameLayout::along<T>(shape, rollout.dimension, options.batch);
  return roll_out<T>(shape, rollout, [&](const RolloutBlock& block, Tensor& x) {
    const ClipPartNoise<N> part(noise, whole, static_cast<std::uint64_t>(block.begin),
                                static_cast<std::uint64_t>(rollout.block));
    const auto part_shape = StateTraits<Tensor>::shape(x);
    if (block.known == 0) {
      x = sample<Tensor>(table, denoiser, part_shape, part, options, callbacks...);
    } else {
      const auto mask = first_frames_mask<Tensor>(part_shape, rollout.dimension, block.known);
      x = sample<Tensor>(table, denoiser, part_shape, part, options,
                         Inpaint(x, mask, part, rollout.known), callbacks...);
    }
  });
}

}  // namespace diffusion

#endif  // DIFFUSION_VIDEO_ROLLOUT_HPP
