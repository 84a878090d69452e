#ifndef DIFFUSION_SAMPLING_SLICED_CORE_HPP
#define DIFFUSION_SAMPLING_SLICED_CORE_HPP

#include <diffusion/denoiser/query.hpp>
#include <diffusion/denoiser/thresholding.hpp>
#include <diffusion/plan/lowering.hpp>
#include <diffusion/sampling/options.hpp>
#include <diffusion/sampling/run_core.hpp>
#include <diffusion/sampling/run_noise.hpp>
#include <diffusion/sampling/sliced_levels.hpp>
#include <diffusion/sampling/sliced_map.hpp>
#include <diffusion/sampling/sliced_schedule.hpp>
#include <diffusion/tensor/update.hpp>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace diffusion::detail {

/// What a run of slices does with numbers, whatever the type of its state. Every slice stands at a
/// stage that asks, or at the plan's end: stages that do not ask are gone through as soon as a
/// slice comes to them. All buffers have the state's size; each slice uses its own part of them.
template <class S, class Noise>
class SlicedCore {
  using Real = Compute<S>;
  using Clip = ClipBound<Real>;

 public:
  /// `addressed`: the samples, and elements of each, that noise is asked for. The state must be
  /// `place`d and `settle`d before anything else.
  template <class Source>
  SlicedCore(const PlanView& plan, const SampleOptions& options, const Blocks& blocks,
             std::size_t output_size, SliceLayout layout, Source& noise, const Blocks& addressed)
      : plan_(plan),
        options_(options),
        blocks_(blocks),
        output_size_(output_size),
        layout_(std::move(layout)),
        noise_(noise, plan, addressed),
        first_(first_stages(plan)),
        slots_(static_cast<std::size_t>(plan.traits.slots), std::vector<S>(blocks_.total())),
        saved_(plan.saves_state() ? blocks_.total() : 0),
        clips_(blocks_.batch, Clip{static_cast<Real>(plan.traits.clipping.limit), 1}),
        absolute_(plan.traits.clipping.kind == Clipping::Kind::dynamic ? blocks_.size : 0),
        stage_(slices()),
        target_(slices()),
        runs_(slices()),
        levels_(plan, slices()) {
    for (const Stage& stage : plan.stages) {
      lowered_.push_back(lower(stage, plan.traits, options.prediction_type));
      rows_.emplace_back(stage, lowered_.back());
    }
  }

  /// Fails for a plan that cannot be run in slices with these options.
  static void check(const PlanView& plan, const SampleOptions& options) {
    RunCore<S, Noise>::check(plan, options);
    for (int i = 0; i < plan.size(); ++i)
      if (plan.stages[static_cast<std::size_t>(i)].langevin_snr > 0)
        fail(text("stage ", i,
                  " of the plan is a Langevin step, whose size comes from all samples "
                  "together; slices cannot run it each at its own time"));
  }

  const PlanView& plan() const { return plan_; }
  const SampleOptions& options() const { return options_; }
  const Blocks& blocks() const { return blocks_; }
  const SliceLayout& layout() const { return layout_; }
  std::size_t output_size() const { return output_size_; }
  std::size_t parts() const { return layout_.parts; }
  std::size_t slices() const { return blocks_.batch * layout_.parts; }
  int network_calls() const { return network_calls_; }
  bool finite() const { return finite_; }

  int stage(std::size_t slice) const { return stage_[slice]; }
  bool at_end(std::size_t slice) const { return stage_[slice] == plan_.size(); }
  bool moves(std::size_t slice) const { return stage_[slice] < target_[slice]; }
  bool moving() const {
    for (std::size_t i = 0; i < slices(); ++i)
      if (moves(i)) return true;
    return false;
  }
  int step(std::size_t slice) const {
    return at_end(slice) ? plan_.steps() : row(slice).step - plan_.stages.front().step;
  }
  /// What the network is told of a slice: the level of what it is given.
  const Knot& level(std::size_t slice) const { return levels_.level(slice); }

  /// Where each slice's noise comes from: sample `streams[slice]` of the source, elements counted
  /// over the slice alone. Without: as a run of the whole state.
  void give_streams(std::vector<std::uint64_t> streams) { streams_ = std::move(streams); }
  std::vector<std::uint64_t>& streams() { return streams_; }

  /// Puts a slice to the start of a step; its history is that of a run that starts there.
  void place(std::size_t slice, int step) {
    stage_[slice] = target_[slice] = first_[static_cast<std::size_t>(step)];
  }
  /// From now on a slice is to go until it has come to a step.
  void aim(std::size_t slice, int step) { target_[slice] = first_[static_cast<std::size_t>(step)]; }

  /// Goes through the stages that do not ask, wherever a slice stands at one.
  void settle(S* x) {
    while (mark([this](std::size_t i) { return !at_end(i) && !row(i).ask; })) update(x, nullptr);
  }

  /// Takes the output and moves, by one ask, every slice that is not where it is to be.
  void advance(S* x, const S* output) {
    find_clips(x, output, clips_, absolute_);
    mark([this](std::size_t i) { return moves(i); });
    finite_ = true;
    update(x, output);
    ++network_calls_;
    settle(x);
  }

  /// Works out what the network is to be told, when all slices stand, and aim, where they are to.
  void tell() {
    levels_.tell(stage_, [this](std::size_t i) { return moves(i); });
  }

  /// What the network sees: each slice of the state times its scale.
  bool scales_input() const { return levels_.scales_any(); }
  void scale_input(const S* x, S* to) const {
    for_each_piece([&](std::size_t sample, const SlicePiece& piece, std::size_t slice) {
      const Real scale = static_cast<Real>(levels_.scale(slice));
      const std::size_t begin = sample * blocks_.size + piece.offset;
      for (std::size_t i = begin; i < begin + piece.count; ++i)
        to[i] = static_cast<S>(scale * static_cast<Real>(x[i]));
    });
  }

  /// The scalars are those of the noisiest slice that moves.
  Query query() const {
    const std::size_t leader = levels_.leader();
    const Stage& s = row(leader);
    Query query{.t = s.at.t,
                .alpha = s.at.alpha,
                .sigma = s.at.sigma,
                .input_scale = s.input_scale,
                .to_alpha = s.to.alpha,
                .to_sigma = s.to.sigma,
                .stage = stage_[leader],
                .step = step(leader),
                .steps = plan_.steps(),
                .prediction_type = options_.prediction_type,
                .batched = options_.batch,
                .samples = blocks_.batch};
    levels_.put_into(query);
    return query;
  }

  /// The estimate of x0, clipped as the plan clips; of a slice at its end, the slice itself.
  void preview(const S* x, const S* output, S* x0) const {
    std::vector<Clip> clips = clips_;
    std::vector<Real> absolute = absolute_;
    find_clips(x, output, clips, absolute);
    std::copy_n(x, blocks_.total(), x0);
    for_each_piece([&](std::size_t sample, const SlicePiece& piece, std::size_t slice) {
      if (at_end(slice)) return;
      LoweredStage estimate = lowered_[static_cast<std::size_t>(stage_[slice])];
      for (const double w : {estimate.estimate.x, estimate.estimate.f, estimate.estimate.d})
        if (!is_finite(w)) fail_undefined(slice);
      estimate.result = estimate.estimate;
      estimate.clips = estimate.estimate.d != 0;
      SampleBuffers<S> at;
      at.x = x0 + sample * blocks_.size + piece.offset;
      at.f = output + sample * output_size_ + piece.offset;
      const auto none = [](std::size_t, std::size_t, std::size_t, Real*) {};
      update_sample(UpdateRow<S>(Stage{}, estimate), at, 0, piece.count, clips[sample], none,
                    static_cast<FiniteCheck<S>*>(nullptr));
    });
  }

  /// Writes the output that says so: x0 is the estimate of every slice that moves, where the output
  /// has a say in it.
  void set_x0(const S* x, const S* x0, S* output) const {
    for_each_piece([&](std::size_t sample, const SlicePiece& piece, std::size_t slice) {
      if (!moves(slice)) return;
      const Conversion c =
          conversion(options_.prediction_type, row(slice).at, row(slice).input_scale);
      if (!is_finite(c.a) || !is_finite(c.b)) fail_undefined(slice);
      if (c.b == 0) return;
      const Real a = static_cast<Real>(c.a), per_b = static_cast<Real>(1 / c.b);
      const std::size_t begin = sample * blocks_.size + piece.offset;
      S* f = output + sample * output_size_ + piece.offset;
      for (std::size_t i = begin; i < begin + piece.count; ++i, ++f)
        *f = static_cast<S>((static_cast<Real>(x0[i]) - a * static_cast<Real>(x[i])) * per_b);
    });
  }

  /// Looks at the whole state, where the check is not switched off.
  bool recheck_finite(const S* x) {
    if (options_.check_finite)
      finite_ = finite_ && std::all_of(x, x + blocks_.total(), [](const S& value) {
                  return is_finite(static_cast<double>(value));
                });
    return finite_;
  }

  /// Moves what belongs to slice `from` to slice `to`, which has as many elements in pieces of the
  /// same lengths: state, history, saved state, stage and noise.
  void move_slice(std::size_t from, std::size_t to, S* x) {
    for (std::size_t i = 0, k = 0; i < layout_.pieces.size(); ++i) {
      if (layout_.pieces[i].part != from % parts()) continue;
      while (layout_.pieces[k].part != to % parts()) ++k;
      const std::size_t source = from / parts() * blocks_.size + layout_.pieces[i].offset;
      const std::size_t goal = to / parts() * blocks_.size + layout_.pieces[k].offset;
      const auto copy = [&, count = layout_.pieces[i].count](S* data) {
        std::copy_n(data + source, count, data + goal);
      };
      copy(x);
      if (!saved_.empty()) copy(saved_.data());
      for (std::vector<S>& slot : slots_) copy(slot.data());
      ++k;
    }
    stage_[to] = stage_[from];
    target_[to] = target_[from];
    if (!streams_.empty()) streams_[to] = streams_[from];
  }

  /// Normals of the initial state: those of a slice with a stream of its own, from an element on.
  void initial_normals(std::uint64_t stream, std::size_t element, std::size_t count,
                       Real* out) const {
    constexpr std::int32_t initial = -1;  // draw d of a plan is d + 1 of the source
    fill(initial, static_cast<std::size_t>(stream), element, count, out);
  }

  /// f(begin in the state, element of the slice, count) for all stretches of a slice.
  template <class F>
  void for_each_stretch(std::size_t slice, const F& f) const {
    for (const SlicePiece& piece : layout_.pieces)
      if (piece.part == slice % parts())
        f(slice / parts() * blocks_.size + piece.offset, piece.within, piece.count);
  }

 private:
  static constexpr std::size_t grain = 64;  // pieces, of up to a chunk each

  const Stage& row(std::size_t slice) const {
    return plan_.stages[static_cast<std::size_t>(stage_[slice])];
  }

  [[noreturn]] void fail_undefined(std::size_t slice) const {
    fail(text("x0 of slice ", slice, " is undefined for prediction type ",
              name(options_.prediction_type), " at t = ", row(slice).at.t,
              " (alpha = ", row(slice).at.alpha, ")"));
  }

  template <class F>
  void for_each_piece(const F& f) const {
    for (std::size_t sample = 0; sample < blocks_.batch; ++sample)
      for (const SlicePiece& piece : layout_.pieces)
        f(sample, piece, sample * parts() + piece.part);
  }

  /// Chooses the slices that the next update is for; whether there are any.
  template <class F>
  bool mark(const F& chosen) {
    bool any = false;
    for (std::size_t i = 0; i < slices(); ++i) {
      runs_[i] = chosen(i) ? 1 : 0;
      any = any || runs_[i] != 0;
    }
    return any;
  }

  // The row of its stage, for each slice that is marked.
  void update(S* x, const S* output) {
    for (std::size_t i = 0; i < slices(); ++i)
      for (; runs_[i] != 0 && entered_ <= stage_[i]; ++entered_)
        noise_.enter(plan_.stages[static_cast<std::size_t>(entered_)]);
    std::atomic<bool> finite{true};
    const std::size_t per_sample = layout_.pieces.size();
    options_.device.parallel_for(
        blocks_.batch * per_sample, grain, [&](std::size_t begin, std::size_t end) {
          FiniteCheck<S> check;
          for (std::size_t i = begin; i < end; ++i) {
            const SlicePiece& piece = layout_.pieces[i % per_sample];
            const std::size_t sample = i / per_sample, slice = sample * parts() + piece.part;
            if (runs_[slice] == 0) continue;
            update_sample(rows_[static_cast<std::size_t>(stage_[slice])],
                          buffers_of(row(slice), sample, piece.offset, x, output), 0, piece.count,
                          clips_[sample], noise_of(row(slice), sample, slice, piece),
                          options_.check_finite ? &check : nullptr);
          }
          if (!check.finite()) finite = false;
        });
    finite_ = finite_ && finite;
    for (std::size_t i = 0; i < slices(); ++i) stage_[i] += runs_[i];
  }

  // What a stage reads and writes of a piece of a sample.
  SampleBuffers<S> buffers_of(const Stage& now, std::size_t sample, std::size_t element, S* x,
                              const S* output) {
    const std::size_t offset = sample * blocks_.size + element;
    SampleBuffers<S> at;
    at.x = x + offset;
    if (now.ask) at.f = output + sample * output_size_ + element;
    if (now.noise_scale.kind != NoiseScale::Kind::fixed) at.learned = at.f + blocks_.size;
    if (!saved_.empty()) at.saved = saved_.data() + offset;
    if (now.keep >= 0) at.keep = slots_[static_cast<std::size_t>(now.keep)].data() + offset;
    for (std::size_t k = 0; k < now.history.size(); ++k)
      if (now.history[k].source >= 0)
        at.history[k] = slots_[static_cast<std::size_t>(now.history[k].source)].data() + offset;
    for (std::size_t k = 0; k < now.noise.size(); ++k)
      if (now.noise[k].source >= 0) at.noise_weight[k] = static_cast<Real>(now.noise[k].weight);
    return at;
  }

  auto noise_of(const Stage& now, std::size_t sample, std::size_t slice,
                const SlicePiece& piece) const {
    const bool own = !streams_.empty();
    const std::size_t stream = own ? static_cast<std::size_t>(streams_[slice]) : sample;
    const std::size_t first = own ? piece.within : piece.offset;
    return [this, &now, stream, first](std::size_t k, std::size_t element, std::size_t count,
                                       Real* out) {
      fill(now.noise[k].source, stream, first + element, count, out);
    };
  }

  // Normals from any element on: a source is asked from the start of a block.
  void fill(std::int32_t draw, std::size_t sample, std::size_t element, std::size_t count,
            Real* out) const {
    Real normals[chunk_size];
    while (count > 0) {
      const std::size_t skip = element % noise_block;
      const std::size_t n = (std::min)(count, chunk_size - skip);
      if (skip == 0) {
        noise_.fill(draw, sample, element, n, out);
      } else {
        noise_.fill(draw, sample, element - skip, skip + n, normals);
        std::copy_n(normals + skip, n, out);
      }
      element += n;
      out += n;
      count -= n;
    }
  }

  // The clamp of every sample's x0 where it is a quantile: over the whole sample, each slice's
  // estimate read at its own level; slices at their end are their own estimates.
  void find_clips(const S* x, const S* output, std::vector<Clip>& clips,
                  std::vector<Real>& absolute) const {
    const Clipping& clipping = plan_.traits.clipping;
    if (clipping.kind != Clipping::Kind::dynamic) return;
    for (std::size_t sample = 0; sample < blocks_.batch; ++sample) {
      const S* state = x + sample * blocks_.size;
      const S* f = output + sample * output_size_;
      for (const SlicePiece& piece : layout_.pieces) {
        const std::size_t slice = sample * parts() + piece.part;
        LoweredStage clean;
        clean.a = 1;
        const LoweredStage& row =
            at_end(slice) ? clean : lowered_[static_cast<std::size_t>(stage_[slice])];
        const Real a = static_cast<Real>(row.a);
        const Real b = static_cast<Real>(row.b);
        for (std::size_t i = piece.offset; i < piece.offset + piece.count; ++i) {
          const Real x0 = a * static_cast<Real>(state[i]) + b * static_cast<Real>(f[i]);
          absolute[i] = is_finite(static_cast<double>(x0)) ? std::abs(x0) : Real{0};
        }
      }
      const Real s = dynamic_threshold(std::span<Real>(absolute), clipping.ratio, clipping.maximum);
      clips[sample] = {s, 1 / s};
    }
  }

  PlanView plan_;
  SampleOptions options_;
  Blocks blocks_;
  std::size_t output_size_;
  SliceLayout layout_;
  RunNoise<S, Noise> noise_;
  std::vector<int> first_;  // stage of each step
  std::vector<LoweredStage> lowered_;
  std::vector<UpdateRow<S>> rows_;
  std::vector<std::vector<S>> slots_;
  std::vector<S> saved_;
  std::vector<Clip> clips_;
  std::vector<Real> absolute_;
  std::vector<int> stage_, target_;  // of each slice
  std::vector<char> runs_;           // slices that the update is for
  SliceLevels levels_;
  std::vector<std::uint64_t> streams_;
  int entered_ = 0;  // stages whose draws have been made
  int network_calls_ = 0;
  bool finite_ = true;
};

}  // namespace diffusion::detail

#endif  // DIFFUSION_SAMPLING_SLICED_CORE_HPP
