#ifndef DIFFUSION_SAMPLING_RUN_NOISE_HPP
#define DIFFUSION_SAMPLING_RUN_NOISE_HPP

#include <diffusion/noise/noise.hpp>
#include <diffusion/plan/plan.hpp>
#include <diffusion/plan/slots.hpp>
#include <diffusion/tensor/lane.hpp>
#include <diffusion/tensor/normals.hpp>

#include <algorithm>
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
    require(source, plan, blocks, true);
  }

  /// Fails where an address of the run lies outside the source's layout. Draw 0 has its address
  /// whether the initial state is drawn or given.
  static void require(const N& source, const PlanView& plan, const Blocks& blocks, bool) {
    require_draws(source, static_cast<std::size_t>(plan.draws()) + 1, blocks);
  }

  void enter(const Stage&) {}

  /// Normals of the plan's draw `draw` for `count` elements of a sample from `element` on.
  void fill(std::int32_t draw, std::size_t sample, std::size_t element, std::size_t count,
            Compute<S>* out) const {
    fill_normals(source_, static_cast<std::uint64_t>(draw) + 1, sample, element,
                 std::span<Compute<S>>(out, count));
  }

 private:
  N source_;
};

/// Noise of a run over a sequential source, which is referred to, not copied.
template <class S, SequentialNoise N>
class RunNoise<S, N&> {
 public:
  RunNoise(N& source, const PlanView& plan, const Blocks& blocks)
      : source_(&source), slots_(plan), blocks_(blocks) {
    require(source, plan, blocks, false);
    const std::size_t unread =
        std::count(slots_.slot_of.begin(), slots_.slot_of.end(), -1) > 0 ? 1u : 0u;
    buffers_.assign(static_cast<std::size_t>(slots_.slots) + unread,
                    std::vector<Compute<S>>(blocks.total()));
  }

  /// Fails where the source cannot give the plan's draws and, `initial`, the initial state.
  static void require(N& source, const PlanView& plan, const Blocks& blocks, bool initial) {
    require_draws(source, static_cast<std::size_t>(plan.draws()) + (initial ? 1 : 0), blocks);
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

 private:
  N* source_;
  DrawSlots slots_;
  Blocks blocks_;
  std::vector<std::vector<Compute<S>>> buffers_;
  std::size_t drawn_ = 0;
};

/// The noise terms of one stage for one sample, as the update asks for them. A type of scalar and
/// source alone: the update is compiled once for states of any kind and rank.
template <class S, class N>
struct StageNoise {
  const RunNoise<S, N>& noise;
  const Stage& stage;
  std::size_t sample;
  void operator()(std::size_t k, std::size_t element, std::size_t count, Compute<S>* out) const {
    noise.fill(stage.noise[k].source, sample, element, count, out);
  }
};

/// The initial state: scale times standard normals.
template <class S, class N>
void draw_initial(N& noise, const Blocks& blocks, S* x, double scale) {
  using Real = Compute<S>;
  for_each_normal<Real>(
      noise, 0, blocks,
      [x, by = static_cast<Real>(scale)](std::size_t i, Real n) { x[i] = static_cast<S>(by * n); });
}

/// Addressed sources are copied into a run, sequential ones referred to.
template <class N>
using HeldNoise = std::conditional_t<AddressedNoise<std::remove_cvref_t<N>>, std::remove_cvref_t<N>,
                                     std::remove_reference_t<N>&>;

}  // namespace diffusion::detail

#endif  // DIFFUSION_SAMPLING_RUN_NOISE_HPP
