#ifndef DIFFUSION_SAMPLING_STEPPER_HPP
#define DIFFUSION_SAMPLING_STEPPER_HPP

#include <diffusion/denoiser/denoiser.hpp>
#include <diffusion/sampling/options.hpp>
#include <diffusion/sampling/run_core.hpp>

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <limits>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>

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
  using Core = detail::RunCore<Scalar, Noise>;

 public:
  using Tensor = TensorOf<T>;

  /// Starts a run at the plan's first stage with the state x. `output_shape` is asked for by
  /// denoisers with a shape of their own; std::nullopt: that of x (2C channels for a learned
  /// variance). Fails where the plan does not fit the state or the prediction type.
  template <std::convertible_to<T> X, class Source>
  Stepper(PlanView plan, X&& x, Source&& noise, const SampleOptions& options = {},
          const std::optional<ShapeOf<T>>& output_shape = std::nullopt)
      : shape_(Traits::shape(x)),
        blocks_(check(plan, shape_, options, output_shape)),
        output_(Traits::make(output_shape_of(plan, shape_, options, output_shape))),
        core_(plan, options, blocks_, elements_of(output_) / blocks_.batch, noise),
        scaled_(scaled_input(plan, shape_)),
        x_(std::forward<X>(x)) {
    // A network that never writes its output is told as not finite, not sampled from garbage.
    std::fill_n(StateTraits<Tensor>::data(output_), elements_of(output_),
                std::numeric_limits<Scalar>::quiet_NaN());
    static_assert(AddressedNoise<std::remove_cvref_t<Source>> || std::is_lvalue_reference_v<Source>,
                  "a sequential noise source is referred to: it must outlive the run, so give it "
                  "a name");
  }

  /// All that can be wrong with a run before it starts; fails with what it is.
  static Blocks check(const PlanView& plan, const ShapeOf<T>& shape, const SampleOptions& options,
                      const std::optional<ShapeOf<T>>& output_shape = std::nullopt) {
    if (plan.stages.empty()) fail("the plan has 0 stages; it needs at least 1");
    detail::require_extents("the state", shape);
    const Blocks blocks = blocks_of<T>(shape, options.batch);
    const ShapeOf<T> declared = output_shape_of(plan, shape, options, output_shape);
    detail::require_fit<Tensor>("the network's output", declared);
    output_blocks<T>(declared, shape, plan.learns_variance(), options.batch);
    Core::check(plan, options);
    return blocks;
  }

  bool done() const { return core_.done(); }
  bool asks() const { return !done() && core_.stage().ask; }

  /// What the network is given at this stage: the state, scaled where the plan says so.
  const T& input() {
    if (stage().input_scale == 1) return x_;
    core_.scale_input(Traits::data(std::as_const(x_)), StateTraits<Tensor>::data(*scaled_));
    if constexpr (detail::is_view<T>) {
      scaled_view_.emplace(Traits::over(*scaled_));
      return *scaled_view_;
    } else {
      return *scaled_;
    }
  }
  double timestep() const { return stage().at.t; }
  Query query() const {
    const Stage& s = stage();
    return {.t = s.at.t,
            .alpha = s.at.alpha,
            .sigma = s.at.sigma,
            .input_scale = s.input_scale,
            .to_alpha = s.to.alpha,
            .to_sigma = s.to.sigma,
            .stage = stage_number(),
            .step = step(),
            .steps = steps(),
            .prediction_type = options().prediction_type,
            .batched = options().batch,
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
    if (!asks()) fail("there is no x0 to preview: this stage asks no network");
    check_output();
    if (Traits::shape(x_) != StateTraits<Tensor>::shape(x0)) x0 = Traits::make(shape_);
    core_.preview(Traits::data(x_), answer(), StateTraits<Tensor>::data(x0));
  }

  /// Makes x0 the estimate of this stage: writes the output that says so. Where the output has no
  /// say in x0 (at sigma = 0, for most prediction types) nothing changes. Only at a stage that
  /// asks.
  void set_x0(const Tensor& x0) {
    if (!asks()) fail("there is no x0 to set: this stage asks no network");
    check_output();
    if (StateTraits<Tensor>::shape(x0) != shape_)
      fail(detail::text("x0 has the shape ", shape_text(StateTraits<Tensor>::shape(x0)),
                        "; that of the state is ", shape_text(shape_)));
    core_.set_x0(Traits::data(std::as_const(x_)), StateTraits<Tensor>::data(x0),
                 StateTraits<Tensor>::data(output_));
  }

  /// Takes the output and goes to the next stage. Afterwards `finite()` tells whether the new
  /// state is finite (true where the check is switched off).
  void advance() {
    if (done()) fail("the run is at its end; there is no stage to advance to");
    check_output();
    core_.advance(Traits::data(x_), answer());
  }

  bool finite() const { return core_.finite(); }
  /// The state where the run stands; after `done()`, the sample.
  const T& state() const& { return x_; }
  T&& state() && { return std::move(x_); }
  /// The state, to be changed between two stages; its shape must stay.
  T& writable_state() { return x_; }
  /// After a change by hand: whether the state is still finite; `finite()` tells it too.
  bool recheck_finite() { return core_.recheck_finite(Traits::data(std::as_const(x_))); }

  int stage_number() const { return core_.stage_number(); }
  int stages() const { return plan().size(); }
  int step() const { return done() ? steps() : stage().step - plan().stages.front().step; }
  int steps() const { return plan().steps(); }
  int network_calls() const { return core_.network_calls(); }
  /// The plan's stage that comes next: its knots, weights and whether it asks. Fails at the end, as
  /// all that is said of it does: input(), timestep(), query().
  const Stage& stage() const {
    if (done()) fail("the run is at its end; no stage comes next");
    return core_.stage();
  }
  /// The stage that has just been run: its `to` is the level of the state. Fails before the first.
  const Stage& last() const {
    if (stage_number() == 0) fail("the run is at its start; no stage has been run");
    return plan().stages[static_cast<std::size_t>(stage_number() - 1)];
  }
  /// The normals of draw `last().noise[k]`, k < max_noise, of a sample from `element` on.
  void fill_draw(std::size_t k, std::size_t sample, std::size_t element,
                 std::span<detail::Compute<Scalar>> out) const {
    const Stage& stage = last();
    if (k >= stage.noise.size() || stage.noise[k].source < 0)
      fail(detail::text("the stage that was run has no noise term ", k));
    if (sample >= blocks_.batch || element + out.size() > blocks_.size)
      fail(detail::text("elements ", element, " to ", element + out.size(), " of sample ", sample,
                        " are not in the state: ", blocks_.batch, " samples of ", blocks_.size));
    core_.fill_draw(stage.noise[k].source, sample, element, out);
  }
  const PlanView& plan() const { return core_.plan(); }
  const SampleOptions& options() const { return core_.options(); }

 private:
  static std::optional<Tensor> scaled_input(const PlanView& plan, const ShapeOf<T>& shape) {
    const bool scales = std::any_of(plan.stages.begin(), plan.stages.end(),
                                    [](const Stage& s) { return s.input_scale != 1; });
    return scales ? std::optional<Tensor>(Traits::make(shape)) : std::nullopt;
  }
  static ShapeOf<T> output_shape_of(const PlanView& plan, const ShapeOf<T>& shape,
                                    const SampleOptions& options,
                                    const std::optional<ShapeOf<T>>& declared) {
    return declared ? *declared
                    : default_output_shape<T>(shape, plan.learns_variance(), options.batch);
  }

  static std::size_t elements_of(const Tensor& x) {
    return blocks_of<Tensor>(StateTraits<Tensor>::shape(x), false).total();
  }
  const Scalar* answer() const { return StateTraits<Tensor>::data(output_); }

  // A network that assigns to its output may have given it another shape.
  void check_output() const {
    const std::size_t given = core_.output_size() * blocks_.batch;
    if (elements_of(output_) == given) return;
    fail(detail::text("the network changed its output to ", elements_of(output_),
                      " elements; it must keep the ", given, " that it was given"));
  }

  ShapeOf<T> shape_;
  Blocks blocks_;
  Tensor output_;
  Core core_;
  std::optional<Tensor> scaled_;  // input_scale * x, where a stage scales
  std::optional<T> scaled_view_;  // the same, seen as the state's type where that is a view
  T x_;  // last: where a buffer cannot be had, the caller still has the state
};

/// A stepper of the state and the noise that it is given: an addressed source is copied, a
/// sequential one referred to.
template <State T, class N, class... Options>
Stepper(const SamplingPlan&, T, N&&, Options&&...) -> Stepper<T, detail::HeldNoise<N&&>>;
/// The same for a view of a plan.
template <State T, class N, class... Options>
Stepper(PlanView, T, N&&, Options&&...) -> Stepper<T, detail::HeldNoise<N&&>>;

}  // namespace diffusion

#endif  // DIFFUSION_SAMPLING_STEPPER_HPP
