#ifndef DIFFUSION_SAMPLING_STEPPER_HPP
#define DIFFUSION_SAMPLING_STEPPER_HPP

#include <diffusion/denoiser/denoiser.hpp>
#include <diffusion/denoiser/thresholding.hpp>
#include <diffusion/plan/lowering.hpp>
#include <diffusion/sampling/options.hpp>
#include <diffusion/sampling/run_noise.hpp>
#include <diffusion/tensor/update.hpp>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <limits>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

namespace diffusion {

/// A run of a plan, one stage at a time, for networks that are asked elsewhere (a queue, another
/// device, a control loop); `sample` is written on it. The whole state of a run is in here: two
/// steppers may be interleaved, and a copy made in mid-run goes on by itself (a sequential noise
/// source is referred to, not copied; a state that is a map shares its memory, and assigning such a
/// stepper writes through the map).
///
///     Stepper run(plan, x, noise, options);
///     while (!run.done()) {
///       if (run.asks()) network(run.input(), run.timestep(), run.output());
///       run.advance();
///     }
///
/// The plan must outlive the run. Nothing is allocated after construction. Not thread-safe itself;
/// many steppers may share one plan.
template <State T, class Noise>
class Stepper {
  using Traits = StateTraits<T>;
  using Scalar = ScalarOf<T>;
  using Real = detail::Compute<Scalar>;
  using Buffer = std::vector<Scalar>;

 public:
  using Tensor = TensorOf<T>;

  /// Starts a run at the plan's first stage with the state x. `output_shape` is asked for by
  /// denoisers with a shape of their own; std::nullopt: that of x (2C channels for a learned
  /// variance). Fails where the plan does not fit the state or the prediction type.
  template <std::convertible_to<T> X, class Source>
  Stepper(PlanView plan, X&& x, Source&& noise, const SampleOptions& options = {},
          const std::optional<ShapeOf<T>>& output_shape = std::nullopt)
      : plan_(plan),
        options_(options),
        shape_(Traits::shape(x)),
        blocks_(check(plan, shape_, options, output_shape)),
        output_(Traits::make(output_shape_of(plan, shape_, options, output_shape))),
        output_size_(elements_of(output_) / blocks_.batch),
        noise_(noise, plan, blocks_),
        scaled_(Traits::make(scales_input(plan) ? shape_ : ShapeOf<T>{})),
        slots_(static_cast<std::size_t>(plan.traits.slots), Buffer(blocks_.total())),
        saved_(plan.saves_state() ? blocks_.total() : 0),
        clips_(blocks_.batch),
        absolute_(plan.traits.clipping.kind == Clipping::Kind::dynamic ? blocks_.size : 0),
        x_(std::forward<X>(x)) {
    // A network that never writes its output is told as not finite, not sampled from garbage.
    std::fill_n(StateTraits<Tensor>::data(output_), output_size_ * blocks_.batch,
                std::numeric_limits<Scalar>::quiet_NaN());
    static_assert(AddressedNoise<std::remove_cvref_t<Source>> || std::is_lvalue_reference_v<Source>,
                  "a sequential noise source is referred to: it must outlive the run, so give it "
                  "a name");
  }

  /// All that can be wrong with a run before it starts; fails with what it is.
  static Blocks check(const PlanView& plan, const ShapeOf<T>& shape, const SampleOptions& options,
                      const std::optional<ShapeOf<T>>& output_shape = std::nullopt) {
    if (plan.stages.empty()) fail("the plan has 0 stages; it needs at least 1");
    const Blocks blocks = blocks_of<T>(shape, options.batch);
    if (blocks.total() == 0)
      fail(detail::text("the state has the shape ", shape_text(shape),
                        "; every dimension must be at least 1"));
    const bool learned = plan.learns_variance();
    const ShapeOf<T> declared = output_shape_of(plan, shape, options, output_shape);
    const Blocks out = blocks_of<T>(declared, options.batch);
    const std::size_t wanted = blocks.size * (learned ? 2 : 1);
    if (out.batch != blocks.batch || out.size < wanted)
      fail(detail::text("the network's output has the shape ", shape_text(declared),
                        " for a state ", shape_text(shape), "; each of ", blocks.batch,
                        " samples needs at least ", wanted, " elements"));
    check_registers(plan);
    for (const Stage& stage : plan.stages) lower(stage, plan.traits, options.prediction_type);
    return blocks;
  }

  bool done() const { return stage_ == plan_.size(); }
  bool asks() const { return stage().ask; }

  /// What the network is given at this stage: the state, scaled where the plan says so.
  const T& input() {
    if (stage().input_scale == 1) return x_;
    const Scalar* from = Traits::data(std::as_const(x_));
    Scalar* to = StateTraits<Tensor>::data(scaled_);
    const Real scale = static_cast<Real>(stage().input_scale);
    for (std::size_t i = 0; i < blocks_.total(); ++i)
      to[i] = static_cast<Scalar>(scale * static_cast<Real>(from[i]));
    if constexpr (std::is_same_v<T, Tensor>) {
      return scaled_;
    } else {
      scaled_input_.emplace(Traits::over(scaled_));
      return *scaled_input_;
    }
  }
  double timestep() const { return stage().at.t; }
  Query query() const {
    const Stage& s = stage();
    return {.t = s.at.t,
            .alpha = s.at.alpha,
            .sigma = s.at.sigma,
            .stage = stage_,
            .step = step(),
            .steps = steps(),
            .prediction_type = options_.prediction_type,
            .batched = options_.batch,
            .samples = blocks_.batch};
  }
  /// Where the network's output goes before `advance`.
  Tensor& output() { return output_; }
  const Tensor& output() const { return output_; }

  /// The estimate of x0 (clipped as the plan clips) from the state and the output. Does not
  /// advance and may be called any number of times. Only at a stage that asks.
  Tensor preview() const {
    Tensor x0 = Traits::make(shape_);
    preview(x0);
    return x0;
  }
  void preview(Tensor& x0) const {
    if (done() || !asks()) fail("there is no x0 to preview: this stage asks no network");
    check_output();
    if (Traits::shape(x_) != StateTraits<Tensor>::shape(x0)) x0 = Traits::make(shape_);
    LoweredStage row = lowered(stage());
    for (const double w : {row.estimate.x, row.estimate.f, row.estimate.d})
      if (!detail::is_finite(w))
        fail(detail::text("x0 is undefined for prediction type ", name(options_.prediction_type),
                          " at t = ", timestep(), " (alpha = ", stage().at.alpha, ")"));
    row.result = row.estimate;
    row.clips = row.estimate.d != 0;
    std::vector<Clip> clips(blocks_.batch);
    std::vector<Real> absolute(absolute_.size());
    if (row.clips) find_clips(row, clips, absolute);
    Scalar* to = StateTraits<Tensor>::data(x0);
    std::copy_n(Traits::data(x_), blocks_.total(), to);
    update(Stage{}, row, clips, 0, all_chunks(), [&](std::size_t sample) {
      Buffers at;
      at.x = to + sample * blocks_.size;
      at.f = output_of(sample);
      return at;
    });
  }

  /// Takes the output and goes to the next stage. Afterwards `finite()` tells whether the new
  /// state is finite (true where the check is switched off).
  void advance() {
    if (done()) fail("the run is at its end; there is no stage to advance to");
    check_output();
    noise_.enter(stage());
    const Stage now = stage().langevin_snr > 0 ? langevin(stage()) : stage();
    const LoweredStage row = lowered(now);
    if (row.clips) find_clips(row, clips_, absolute_);
    Scalar* x = Traits::data(x_);
    std::atomic<bool> finite{true};
    options_.device.parallel_for(all_chunks(), grain, [&](std::size_t begin, std::size_t end) {
      const auto buffers = [&](std::size_t sample) { return buffers_of(now, sample, x); };
      if (!update(now, row, clips_, begin, end, buffers)) finite = false;
    });
    finite_ = finite;
    network_calls_ += now.ask ? 1 : 0;
    ++stage_;
  }

  bool finite() const { return finite_; }
  /// The state where the run stands; after `done()`, the sample.
  const T& state() const& { return x_; }
  T&& state() && { return std::move(x_); }

  int stage_number() const { return stage_; }
  int stages() const { return plan_.size(); }
  int step() const { return done() ? steps() : stage().step - plan_.stages.front().step; }
  int steps() const { return plan_.steps(); }
  int network_calls() const { return network_calls_; }
  /// The plan's stage that comes next: its knots, weights and whether it asks.
  const Stage& stage() const { return plan_.stages[static_cast<std::size_t>(stage_)]; }
  const PlanView& plan() const { return plan_; }
  const SampleOptions& options() const { return options_; }

 private:
  /// A view may come from rows that no SamplingPlan has checked (a constexpr array, a file).
  static void check_registers(const PlanView& plan) {
    std::int32_t draws = 0;
    bool saved = false;
    for (int i = 0; i < plan.size(); ++i) {
      const Stage& s = plan.stages[static_cast<std::size_t>(i)];
      const auto require = [i](const char* what, std::int32_t source, std::int32_t limit) {
        if (source >= limit)
          fail(detail::text("stage ", i, " names ", what, " ", source, "; the plan has ", limit));
      };
      draws += s.draws;
      saved = saved || s.save;
      require("slot", s.keep, plan.traits.slots);
      for (const Term& term : s.history) require("slot", term.source, plan.traits.slots);
      for (const Term& term : s.noise) require("draw", term.source, draws);
      require("saved state", s.saved != 0 ? 0 : -1, saved ? 1 : 0);
    }
  }
  static bool scales_input(const PlanView& plan) {
    return std::ranges::any_of(plan.stages, [](const Stage& s) { return s.input_scale != 1; });
  }
  static ShapeOf<T> output_shape_of(const PlanView& plan, const ShapeOf<T>& shape,
                                    const SampleOptions& options,
                                    const std::optional<ShapeOf<T>>& declared) {
    return declared ? *declared
                    : default_output_shape<T>(shape, plan.learns_variance(), options.batch);
  }

  using Clip = detail::ClipBound<Real>;
  using Buffers = detail::SampleBuffers<Scalar>;
  static constexpr std::size_t grain = 64;  // chunks: 16 Ki elements, the least worth a thread

  LoweredStage lowered(const Stage& stage) const {
    return lower(stage, plan_.traits, options_.prediction_type);
  }

  static std::size_t elements_of(const Tensor& x) {
    return blocks_of<Tensor>(StateTraits<Tensor>::shape(x), false).total();
  }

  // A network that assigns to its output may have given it another shape.
  void check_output() const {
    if (elements_of(output_) == output_size_ * blocks_.batch) return;
    fail(detail::text("the network changed its output to ", elements_of(output_),
                      " elements; it must keep the ", output_size_ * blocks_.batch,
                      " that it was given"));
  }

  const Scalar* output_of(std::size_t sample) const {
    return StateTraits<Tensor>::data(output_) + sample * output_size_;
  }

  // What a stage reads and writes of one sample.
  Buffers buffers_of(const Stage& now, std::size_t sample, Scalar* x) {
    const std::size_t offset = sample * blocks_.size;
    Buffers at;
    at.x = x + offset;
    if (now.ask) at.f = output_of(sample);
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

  std::size_t chunks_per_sample() const {
    return (blocks_.size + detail::chunk_size - 1) / detail::chunk_size;
  }
  std::size_t all_chunks() const { return blocks_.batch * chunks_per_sample(); }

  // Updates chunks [begin, end), counted through all samples, of the buffers that
  // buffers_of(sample) names; returns whether the results are finite.
  template <class BuffersOf>
  bool update(const Stage& now, const LoweredStage& lowered, const std::vector<Clip>& clips,
              std::size_t begin, std::size_t end, const BuffersOf& buffers_of) const {
    const detail::UpdateRow<Scalar> row(now, lowered);
    detail::FiniteCheck<Scalar> check;
    const std::size_t per_sample = chunks_per_sample();
    while (begin < end) {
      const std::size_t sample = begin / per_sample;
      const std::size_t first = begin % per_sample;
      const std::size_t last = std::min(per_sample, first + (end - begin));
      const auto noise = [&](std::size_t k, std::size_t element, std::size_t count, Real* out) {
        noise_.fill(now.noise[k].source, sample, element, count, out);
      };
      detail::update_sample(row, buffers_of(sample), first * detail::chunk_size,
                            std::min(last * detail::chunk_size, blocks_.size), clips[sample], noise,
                            options_.check_finite ? &check : nullptr);
      begin += last - first;
    }
    return check.finite();
  }

  // The clamp of every sample's x0: the plan's range, or the quantile of |a x + b f|.
  void find_clips(const LoweredStage& row, std::vector<Clip>& clips,
                  std::vector<Real>& absolute) const {
    const Clipping& clipping = plan_.traits.clipping;
    if (clipping.kind == Clipping::Kind::range) {
      std::ranges::fill(clips, Clip{static_cast<Real>(clipping.limit), 1});
      return;
    }
    const Scalar* x = Traits::data(x_);
    const Real a = static_cast<Real>(row.a);
    const Real b = static_cast<Real>(row.b);
    for (std::size_t sample = 0; sample < blocks_.batch; ++sample, x += blocks_.size) {
      const Scalar* f = output_of(sample);
      for (std::size_t i = 0; i < blocks_.size; ++i) {
        const Real x0 = a * static_cast<Real>(x[i]) + b * static_cast<Real>(f[i]);
        // A NaN has no rank; the update sees it and ends the run.
        absolute[i] = detail::is_finite(static_cast<double>(x0)) ? std::abs(x0) : Real{0};
      }
      const Real s = dynamic_threshold(std::span<Real>(absolute), clipping.ratio, clipping.maximum);
      clips[sample] = {s, 1 / s};
    }
  }

  // A Langevin corrector step (Song et al. 2020, arXiv 2011.13456, algorithm 4) as a row: the
  // step size is h = 2 (snr |noise| / |score|)^2, norms averaged over the batch, and
  // x' = x + h score + sqrt(2 h) noise with score = -eps / sigma.
  Stage langevin(const Stage& stage) const {
    const Conversion c = conversion(options_.prediction_type, stage.at, stage.input_scale);
    double score_norms = 0;
    double noise_norms = 0;
    const Scalar* x = Traits::data(x_);
    Real normals[detail::chunk_size];
    for (std::size_t sample = 0; sample < blocks_.batch; ++sample, x += blocks_.size) {
      const Scalar* f = output_of(sample);
      double score_square = 0;
      double noise_square = 0;
      for (std::size_t begin = 0; begin < blocks_.size; begin += detail::chunk_size) {
        const std::size_t n = std::min(detail::chunk_size, blocks_.size - begin);
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
  ShapeOf<T> shape_;
  Blocks blocks_;
  Tensor output_;
  std::size_t output_size_;  // elements of one sample's output
  detail::RunNoise<Scalar, Noise> noise_;
  Tensor scaled_;                  // input_scale * x, where a stage scales
  std::optional<T> scaled_input_;  // the same, seen as the state's type
  std::vector<Buffer> slots_;
  Buffer saved_;
  std::vector<Clip> clips_;
  std::vector<Real> absolute_;
  T x_;  // last: where a buffer cannot be had, the caller still has the state
  int stage_ = 0;
  int network_calls_ = 0;
  bool finite_ = true;
};

template <State T, class N, class... Options>
Stepper(const SamplingPlan&, T, N&&, Options&&...) -> Stepper<T, detail::HeldNoise<N&&>>;
template <State T, class N, class... Options>
Stepper(PlanView, T, N&&, Options&&...) -> Stepper<T, detail::HeldNoise<N&&>>;

}  // namespace diffusion

#endif  // DIFFUSION_SAMPLING_STEPPER_HPP
