#ifndef DIFFUSION_SAMPLING_RUN_CORE_HPP
#define DIFFUSION_SAMPLING_RUN_CORE_HPP

#include <diffusion/denoiser/thresholding.hpp>
#include <diffusion/plan/lowering.hpp>
#include <diffusion/sampling/options.hpp>
#include <diffusion/sampling/run_noise.hpp>
#include <diffusion/tensor/update.hpp>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace diffusion::detail {

/// What a run does with numbers, whatever the shape and type of its state: memory goes in and out
/// as pointers, a sample after the other. So it is compiled once for a scalar and a noise source.
/// Holds the position of the run and all buffers that do not depend on the state's type.
template <class S, class Noise>
class RunCore {
  using Real = Compute<S>;
  using Buffer = std::vector<S>;
  using Clip = ClipBound<Real>;
  using Buffers = SampleBuffers<S>;

 public:
  /// `output_size`: elements of one sample's output.
  template <class Source>
  RunCore(const PlanView& plan, const SampleOptions& options, const Blocks& blocks,
          std::size_t output_size, Source& noise)
      : plan_(plan),
        options_(options),
        blocks_(blocks),
        output_size_(output_size),
        noise_(noise, plan, blocks_),
        slots_(static_cast<std::size_t>(plan.traits.slots), Buffer(blocks_.total())),
        saved_(plan.saves_state() ? blocks_.total() : 0),
        clips_(blocks_.batch),
        absolute_(plan.traits.clipping.kind == Clipping::Kind::dynamic ? blocks_.size : 0) {}

  /// Fails for a plan that cannot be run with these options.
  static void check(const PlanView& plan, const SampleOptions& options) {
    check_registers(plan);
    for (const Stage& stage : plan.stages) lower(stage, plan.traits, options.prediction_type);
  }

  const PlanView& plan() const { return plan_; }
  const SampleOptions& options() const { return options_; }
  const Blocks& blocks() const { return blocks_; }
  std::size_t output_size() const { return output_size_; }
  int stage_number() const { return stage_; }
  int network_calls() const { return network_calls_; }
  bool finite() const { return finite_; }
  bool done() const { return stage_ == plan_.size(); }
  const Stage& stage() const { return plan_.stages[static_cast<std::size_t>(stage_)]; }

  /// What the network sees: the state times the stage's scale.
  void scale_input(const S* x, S* to) const {
    const Real scale = static_cast<Real>(stage().input_scale);
    for (std::size_t i = 0; i < blocks_.total(); ++i)
      to[i] = static_cast<S>(scale * static_cast<Real>(x[i]));
  }

  /// The estimate of x0 from a state and an output, clipped as the plan clips.
  void preview(const S* x, const S* output, S* x0) const {
    LoweredStage row = lowered(stage());
    for (const double w : {row.estimate.x, row.estimate.f, row.estimate.d})
      if (!is_finite(w))
        fail(text("x0 is undefined for prediction type ", name(options_.prediction_type),
                  " at t = ", stage().at.t, " (alpha = ", stage().at.alpha, ")"));
    row.result = row.estimate;
    row.clips = row.estimate.d != 0;
    std::vector<Clip> clips(blocks_.batch);
    std::vector<Real> absolute(absolute_.size());
    if (row.clips) find_clips(row, x, output, clips, absolute);
    std::copy_n(x, blocks_.total(), x0);
    update(Stage{}, row, clips, 0, all_chunks(), [&](std::size_t sample) {
      Buffers at;
      at.x = x0 + sample * blocks_.size;
      at.f = output + sample * output_size_;
      return at;
    });
  }

  /// Writes the output whose estimate at x is x0.
  void set_x0(const S* x, const S* x0, S* output) const {
    const Conversion c = conversion(options_.prediction_type, stage().at, stage().input_scale);
    if (!is_finite(c.a) || !is_finite(c.b))
      fail(text("x0 is undefined for prediction type ", name(options_.prediction_type),
                " at t = ", stage().at.t, " (alpha = ", stage().at.alpha, ")"));
    if (c.b == 0) return;
    const Real a = static_cast<Real>(c.a);
    const Real per_b = static_cast<Real>(1 / c.b);
    for (std::size_t sample = 0; sample < blocks_.batch; ++sample, output += output_size_)
      for (std::size_t i = 0; i < blocks_.size; ++i, ++x, ++x0)
        output[i] = static_cast<S>((static_cast<Real>(*x0) - a * static_cast<Real>(*x)) * per_b);
  }

  /// Normals of the stage that has just been run.
  void fill_draw(std::int32_t draw, std::size_t sample, std::size_t element,
                 std::span<Real> out) const {
    noise_.fill(draw, sample, element, out.size(), out.data());
  }

  /// Looks at the whole state, where the check is not switched off.
  bool recheck_finite(const S* x) {
    if (options_.check_finite)
      finite_ = finite_ && std::all_of(x, x + blocks_.total(), [](const S& value) {
                  return is_finite(static_cast<double>(value));
                });
    return finite_;
  }

  /// Takes the output, updates the state and goes to the next stage.
  void advance(S* x, const S* output) {
    noise_.enter(stage());
    const Stage now = stage().langevin_snr > 0 ? langevin(stage(), x, output) : stage();
    const LoweredStage row = lowered(now);
    if (row.clips) find_clips(row, x, output, clips_, absolute_);
    std::atomic<bool> finite{true};
    options_.device.parallel_for(all_chunks(), grain, [&](std::size_t begin, std::size_t end) {
      const auto buffers = [&](std::size_t sample) { return buffers_of(now, sample, x, output); };
      if (!update(now, row, clips_, begin, end, buffers)) finite = false;
    });
    finite_ = finite;
    network_calls_ += now.ask ? 1 : 0;
    ++stage_;
  }

 private:
  static constexpr std::size_t grain = 64;  // chunks: 16 Ki elements, the least worth a thread

  /// A view may come from rows that no SamplingPlan has checked (a constexpr array, a file).
  static void check_registers(const PlanView& plan) {
    std::int32_t draws = 0;
    bool saved = false;
    for (int i = 0; i < plan.size(); ++i) {
      const Stage& s = plan.stages[static_cast<std::size_t>(i)];
      const auto require = [i](const char* what, std::int32_t source, std::int32_t limit) {
        if (source >= limit)
          fail(text("stage ", i, " names ", what, " ", source, "; the plan has ", limit));
      };
      draws += s.draws;
      saved = saved || s.save;
      require("slot", s.keep, plan.traits.slots);
      for (const Term& term : s.history) require("slot", term.source, plan.traits.slots);
      for (const Term& term : s.noise) require("draw", term.source, draws);
      require("saved state", s.saved != 0 ? 0 : -1, saved ? 1 : 0);
    }
  }

  LoweredStage lowered(const Stage& stage) const {
    return lower(stage, plan_.traits, options_.prediction_type);
  }

  // What a stage reads and writes of one sample.
  Buffers buffers_of(const Stage& now, std::size_t sample, S* x, const S* output) {
    const std::size_t offset = sample * blocks_.size;
    Buffers at;
    at.x = x + offset;
    if (now.ask) at.f = output + sample * output_size_;
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

  std::size_t chunks_per_sample() const { return (blocks_.size + chunk_size - 1) / chunk_size; }
  std::size_t all_chunks() const { return blocks_.batch * chunks_per_sample(); }

  // Updates chunks [begin, end), counted through all samples, of the buffers that
  // buffers_of(sample) names; returns whether the results are finite.
  template <class BuffersOf>
  bool update(const Stage& now, const LoweredStage& lowered, const std::vector<Clip>& clips,
              std::size_t begin, std::size_t end, const BuffersOf& buffers_of) const {
    const UpdateRow<S> row(now, lowered);
    FiniteCheck<S> check;
    const std::size_t per_sample = chunks_per_sample();
    while (begin < end) {
      const std::size_t sample = begin / per_sample;
      const std::size_t first = begin % per_sample;
      const std::size_t last = (std::min)(per_sample, first + (end - begin));
      const StageNoise<S, Noise> noise{noise_, now, sample};
      update_sample(row, buffers_of(sample), first * chunk_size,
                    (std::min)(last * chunk_size, blocks_.size), clips[sample], noise,
                    options_.check_finite ? &check : nullptr);
      begin += last - first;
    }
    return check.finite();
  }

  // The clamp of every sample's x0: the plan's range, or the quantile of |a x + b f|.
  void find_clips(const LoweredStage& row, const S* x, const S* output, std::vector<Clip>& clips,
                  std::vector<Real>& absolute) const {
    const Clipping& clipping = plan_.traits.clipping;
    if (clipping.kind == Clipping::Kind::range) {
      std::fill(clips.begin(), clips.end(), Clip{static_cast<Real>(clipping.limit), 1});
      return;
    }
    const Real a = static_cast<Real>(row.a);
    const Real b = static_cast<Real>(row.b);
    for (std::size_t sample = 0; sample < blocks_.batch; ++sample, x += blocks_.size) {
      const S* f = output + sample * output_size_;
      for (std::size_t i = 0; i < blocks_.size; ++i) {
        const Real x0 = a * static_cast<Real>(x[i]) + b * static_cast<Real>(f[i]);
        // A NaN has no rank; the update sees it and ends the run.
        absolute[i] = is_finite(static_cast<double>(x0)) ? std::abs(x0) : Real{0};
      }
      const Real s = dynamic_threshold(std::span<Real>(absolute), clipping.ratio, clipping.maximum);
      clips[sample] = {s, 1 / s};
    }
  }

  // A Langevin corrector step (Song et al. 2020, arXiv 2011.13456, algorithm 4) as a row: the
  // step size is h = 2 (snr |noise| / |score|)^2, norms averaged over the batch, and
  // x' = x + h score + sqrt(2 h) noise with score = -eps / sigma.
  Stage langevin(const Stage& stage, const S* x, const S* output) const {
    const Conversion c = conversion(options_.prediction_type, stage.at, stage.input_scale);
    double score_norms = 0;
    double noise_norms = 0;
    Real normals[chunk_size];
    for (std::size_t sample = 0; sample < blocks_.batch; ++sample, x += blocks_.size) {
      const S* f = output + sample * output_size_;
      double score_square = 0;
      double noise_square = 0;
      for (std::size_t begin = 0; begin < blocks_.size; begin += chunk_size) {
        const std::size_t n = (std::min)(chunk_size, blocks_.size - begin);
        noise_.fill(stage.noise[0].source, sample, begin, n, normals);
        for (std::size_t i = 0; i < n; ++i) {
          const double eps =
              c.p * static_cast<double>(x[begin + i]) + c.q * static_cast<double>(f[begin + i]);
          const double z = static_cast<double>(normals[i]);
          score_square += eps * eps;
          noise_square += z * z;
        }
      }
      score_norms += std::sqrt(score_square) / stage.at.sigma;
      noise_norms += std::sqrt(noise_square);
    }
    const double ratio = stage.langevin_snr * noise_norms / score_norms;
    const double h = 2 * ratio * ratio;
    Stage row = stage;
    row.x = 1 - h / stage.at.sigma * c.p;  // eps = p x + q f, as the network says it
    row.raw = -h / stage.at.sigma * c.q;
    row.noise[0].weight = std::sqrt(2 * h);
    return row;
  }

  PlanView plan_;
  SampleOptions options_;
  Blocks blocks_;
  std::size_t output_size_;
  RunNoise<S, Noise> noise_;
  std::vector<Buffer> slots_;
  Buffer saved_;
  std::vector<Clip> clips_;
  std::vector<Real> absolute_;
  int stage_ = 0;
  int network_calls_ = 0;
  bool finite_ = true;
};

}  // namespace diffusion::detail

#endif  // DIFFUSION_SAMPLING_RUN_CORE_HPP
