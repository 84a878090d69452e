#ifndef DIFFUSION_SAMPLING_RUN_NOISE_HPP
#define DIFFUSION_SAMPLING_RUN_NOISE_HPP

#include <diffusion/noise/noise.hpp>
#include <diffusion/plan/plan.hpp>
#include <diffusion/plan/slots.hpp>
#include <diffusion/tensor/lane.hpp>
#include <diffusion/tensor/state.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>
#include <vector>

/// How a run gets its noise: an addressed source is asked for the very elements that are updated,
/// at the moment when they are; a sequential source for whole tensors, in order, before the update.
namespace diffusion::detail {

/// One value of every draw's buffer number for a sequential source; -1: drawn and thrown away.
struct DrawSlots {
  std::vector<std::int32_t> slot_of;
  std::int32_t slots = 0;

  explicit DrawSlots(const PlanView& plan) {
    slot_of.assign(static_cast<std::size_t>(plan.draws()), -1);
    std::vector<std::size_t> last_read(slot_of.size(), 0);  // 1 + stage, 0 where nobody reads it
    for (std::size_t i = 0; i < plan.stages.size(); ++i)
      for (const Term& term : plan.stages[i].noise)
        if (term.source >= 0) last_read[static_cast<std::size_t>(term.source)] = i + 1;
    Slots table;
    std::size_t draw = 0;
    for (std::size_t i = 0; i < plan.stages.size(); ++i)
      for (std::int32_t k = 0; k < plan.stages[i].draws; ++k, ++draw)
        if (last_read[draw] > 0)  // drawn before anything is read here: only what is read no more
          slot_of[draw] = table.take(i, last_read[draw]);
    slots = table.count();
  }
};

/// Noise of a run over an addressed source: draw 0 is the initial state, draw d + 1 the plan's d.
template <class S, class N>
class RunNoise {
  static_assert(
      AddressedNoise<N>,
      "a noise source needs fill(sample, draw, element, span<float>) const, or, not const, "
      "fill(span<float>) and fill(span<double>); not 42 but PhiloxNoise{42}");

 public:
  RunNoise(const N& source, const PlanView& plan, const Blocks& blocks) : source_(source) {
    require(source, plan.draws(), blocks);
  }

  /// Fails where an address of the run lies outside the source's layout.
  static void require(const N& source, int draws, const Blocks& blocks) {
    const std::size_t samples = blocks.batch;
    const std::size_t all_draws = static_cast<std::size_t>(draws) + 1;  // the initial state's too
    const std::size_t elements = blocks.size;
    if constexpr (requires { source.require(samples, all_draws, elements); })
      source.require(samples, all_draws, elements);
  }

  void enter(const Stage&) {}

  /// Normals of the plan's draw `draw` for `count` elements of a sample from `element` on.
  void fill(std::int32_t draw, std::size_t sample, std::size_t element, std::size_t count,
            Compute<S>* out) const {
    normals(source_, static_cast<std::uint64_t>(draw) + 1, sample, element, count, out);
  }

  /// The initial state: scale times standard normals.
  static void initial(const N& source, const Blocks& blocks, S* x, double scale) {
    std::array<Compute<S>, chunk_size> chunk;
    for (std::size_t sample = 0; sample < blocks.batch; ++sample)
      for (std::size_t i = 0; i < blocks.size; i += chunk_size) {
        const std::size_t n = std::min(chunk_size, blocks.size - i);
        normals(source, 0, sample, i, n, chunk.data());
        for (std::size_t k = 0; k < n; ++k)
          x[sample * blocks.size + i + k] =
              static_cast<S>(static_cast<Compute<S>>(scale) * chunk[k]);
      }
  }

 private:
  template <class Real>
  static void normals(const N& source, std::uint64_t draw, std::uint64_t sample,
                      std::uint64_t element, std::size_t count, Real* out) {
    if constexpr (requires(std::span<Real> span) { source.fill(0, 0, 0, span); }) {
      source.fill(sample, draw, element, std::span<Real>(out, count));
    } else {  // a source of floats only, for a state of another type
      std::array<float, chunk_size> chunk;
      source.fill(sample, draw, element, std::span<float>(chunk.data(), count));
      std::copy_n(chunk.data(), count, out);
    }
  }

  N source_;
};

/// Noise of a run over a sequential source, which is referred to, not copied.
template <class S, SequentialNoise N>
class RunNoise<S, N&> {
 public:
  RunNoise(N& source, const PlanView& plan, const Blocks& blocks)
      : source_(&source), slots_(plan), blocks_(blocks) {
    require(source, plan.draws(), blocks);
    const std::size_t unread = std::ranges::count(slots_.slot_of, -1) > 0 ? 1u : 0u;
    buffers_.assign(static_cast<std::size_t>(slots_.slots) + unread,
                    std::vector<Compute<S>>(blocks.total()));
  }

  static void require(N& source, int draws, const Blocks& blocks) {
    require_noise(source, static_cast<std::size_t>(draws), blocks.total());
  }

  void enter(const Stage& stage) {
    for (std::int32_t k = 0; k < stage.draws; ++k) {
      const std::int32_t slot = slots_.slot_of[drawn_++];
      source_->fill(std::span<Compute<S>>(slot >= 0 ? buffers_[static_cast<std::size_t>(slot)]
                                                    : buffers_.back()));
    }
  }

  void fill(std::int32_t draw, std::size_t sample, std::size_t element, std::size_t count,
            Compute<S>* out) const {
    const auto slot = static_cast<std::size_t>(slots_.slot_of[static_cast<std::size_t>(draw)]);
    std::copy_n(buffers_[slot].data() + sample * blocks_.size + element, count, out);
  }

  static void initial(N& source, const Blocks& blocks, S* x, double scale) {
    std::vector<Compute<S>> normals(blocks.total());
    source.fill(std::span<Compute<S>>(normals));
    for (std::size_t i = 0; i < normals.size(); ++i)
      x[i] = static_cast<S>(static_cast<Compute<S>>(scale) * normals[i]);
  }

 private:
  N* source_;
  DrawSlots slots_;
  Blocks blocks_;
  std::vector<std::vector<Compute<S>>> buffers_;
  std::size_t drawn_ = 0;
};

/// Addressed sources are copied into a run, sequential ones referred to.
template <class N>
using HeldNoise = std::conditional_t<AddressedNoise<std::remove_cvref_t<N>>, std::remove_cvref_t<N>,
                                     std::remove_reference_t<N>&>;

}  // namespace diffusion::detail

#endif  // DIFFUSION_SAMPLING_RUN_NOISE_HPP
