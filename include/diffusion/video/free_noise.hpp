#ifndef DIFFUSION_VIDEO_FREE_NOISE_HPP
#define DIFFUSION_VIDEO_FREE_NOISE_HPP

#include <diffusion/noise/philox.hpp>
#include <diffusion/video/noise_priors.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace diffusion {

/// Options of free_noise. Plain data: threads may share what none of them writes.
struct FreeNoiseOptions {
  std::uint64_t window = 16;               ///< frames that the network was trained on, at least 1
  std::uint64_t stride = 4;                ///< frames that are shuffled together, 1 to window
  std::uint64_t seed = 0;                  ///< of the shuffles
  FrameDraws draws = FrameDraws::initial;  ///< the paper's; all: the sampler's noise too
};

namespace detail {

/// A whole number below n, by a counter: 64 bits modulo n, whose bias is below n / 2^64.
inline std::uint64_t random_below(std::uint64_t n, std::uint64_t seed, std::uint64_t counter) {
  const auto low = [](std::uint64_t x) { return static_cast<std::uint32_t>(x); };
  const auto words = philox4x32_10({low(counter), low(counter >> 32), 0, 0x66726565u},
                                   {low(seed), low(seed >> 32)});
  return (std::uint64_t{words[0]} << 32 | words[1]) % n;
}

}  // namespace detail

/// Which frame of the first window each frame's noise is taken from: the first `window` frames are
/// themselves, every further `stride` frames those of one window before, shuffled.
inline std::vector<std::uint64_t> free_noise_frames(std::uint64_t frames,
                                                    const FreeNoiseOptions& options) {
  const auto [window, stride, seed, draws] = options;
  detail::require_at_least("FreeNoiseOptions::window", window, std::uint64_t{1});
  detail::require_range("FreeNoiseOptions::stride", stride, std::uint64_t{1}, window);
  if (frames < window)
    fail(detail::text("free noise has a window of ", window, " frames; the clip has ", frames,
                      ", it must be at least as long"));
  std::vector<std::uint64_t> from(static_cast<std::size_t>(frames));
  for (std::uint64_t f = 0; f < window; ++f) from[static_cast<std::size_t>(f)] = f;
  for (std::uint64_t begin = window; begin < frames; begin += stride) {
    std::vector<std::uint64_t> block(
        from.begin() + static_cast<std::ptrdiff_t>(begin - window),
        from.begin() + static_cast<std::ptrdiff_t>(begin - window + stride));
    for (std::uint64_t k = stride - 1; k > 0; --k)  // Fisher and Yates
      std::swap(block[static_cast<std::size_t>(k)],
                block[static_cast<std::size_t>(detail::random_below(k + 1, seed, begin + k))]);
    const auto count = static_cast<std::ptrdiff_t>((std::min)(stride, frames - begin));
    std::copy_n(block.begin(), count, from.begin() + static_cast<std::ptrdiff_t>(begin));
  }
  return from;
}

/// FreeNoise (Qiu et al. 2023, arXiv 2310.15169): noise for a clip that is longer than the network
/// was trained on. The first window has the source's noise; later frames use it again, a window
/// later, in an order shuffled within `stride` frames. Windows that begin at a multiple of the
/// stride, where that divides the window, see independent noise of every frame of the first window,
/// each once; frames further apart have the same noise or none in common, which holds a long clip
/// together. Use it with windows of the same size and stride (video/windows.hpp).
template <AddressedNoise Source>
FrameNoise<Source> free_noise(Source source, const FrameLayout& layout,
                              const FreeNoiseOptions& options = {}) {
  layout.check();
  std::vector<std::vector<FrameTerm>> rows;
  for (const std::uint64_t frame : free_noise_frames(layout.frames, options))
    rows.push_back({{frame, 1, false}});
  return {std::move(source), std::nullopt, layout, std::move(rows), options.draws};
}

}  // namespace diffusion

#endif  // DIFFUSION_VIDEO_FREE_NOISE_HPP
