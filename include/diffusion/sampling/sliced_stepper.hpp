#ifndef DIFFUSION_SAMPLING_SLICED_STEPPER_HPP
#define DIFFUSION_SAMPLING_SLICED_STEPPER_HPP

#include <diffusion/denoiser/denoiser.hpp>
#include <diffusion/sampling/options.hpp>
#include <diffusion/sampling/sliced_core.hpp>
#include <diffusion/sampling/sliced_map.hpp>
#include <diffusion/sampling/sliced_schedule.hpp>
#include <diffusion/sampling/stepper.hpp>

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <limits>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

namespace diffusion {

/// A run of a plan in which every slice of the state (sample, frame, token: see Slices) stands at a
/// stage of its own, one *tick* at a time. A tick is one call of the network, for all slices at
/// once, and moves every slice that is behind its schedule by one ask; a step of Heun is two ticks.
/// Slices that are where they are to be do not change, to the last bit. Stages that ask no network
/// are gone through with the tick that leads to them (those at the start of the plan, at once).
///
///     SlicedStepper run(plan, x, noise, Slices::along(1), schedule, options);
///     while (!run.done()) {
///       network(run.input(), run.query(), run.output());
///       run.advance();
///     }
///
/// The network is told times and levels by slice in `Query::times` and `Query::levels` (slice b P +
/// p is part p of sample b), or, while all slices are alike, by the scalars alone. `levels` are of
/// what the network is given, input = alpha x0 + sigma eps, so `Query::input_scale` is 1 beside
/// them. The scalars are those of the noisiest slice that moves; a slice that is done is told the
/// level at the plan's end.
///
/// Noise by address: each slice has the draws and elements that it has in a plain run, so slices
/// that go in step make, bit for bit, a Stepper's run, and so do any others where the network
/// treats slices alone. A sequential source needs slices that draw in step. Range clipping goes by
/// slice; a dynamic threshold is the quantile over the whole sample, each slice read at its own
/// level. Plans with Langevin steps are refused.
///
/// Diffusion forcing: Chen et al. 2024, arXiv 2407.01392. The plan must outlive the run. Nothing is
/// allocated after construction. Not thread-safe itself; many may share one plan.
template <State T, class Noise>
class SlicedStepper {
  using Traits = StateTraits<T>;
  using Scalar = ScalarOf<T>;
  using Core = detail::SlicedCore<Scalar, Noise>;

 public:
  using Tensor = TensorOf<T>;

  /// Starts with the state x, in which each slice is at the level where the schedule starts it.
  /// `output_shape` as for a Stepper. Fails where plan, slices, schedule and state do not fit.
  template <std::convertible_to<T> X, class Source>
  SlicedStepper(PlanView plan, X&& x, Source&& noise, const Slices& slices, SliceSchedule schedule,
                const SampleOptions& options = {},
                const std::optional<ShapeOf<T>>& output_shape = std::nullopt)
      : shape_(Traits::shape(x)),
        schedule_(std::move(schedule)),
        output_(Traits::make(check(plan, shape_, slices, schedule_, options, output_shape))),
        core_(plan, options, blocks_of<T>(shape_, options.batch),
              elements_of(output_) / blocks_of<T>(shape_, options.batch).batch,
              detail::layout_of<T>(slices, shape_, options.batch), noise,
              blocks_of<T>(shape_, options.batch)),
        scaled_(scaled_input(plan, shape_)),
        x_(std::forward<X>(x)) {
    static_assert(AddressedNoise<std::remove_cvref_t<Source>> || std::is_lvalue_reference_v<Source>,
                  "a sequential noise source is referred to: it must outlive the run, so give it "
                  "a name");
    std::fill_n(StateTraits<Tensor>::data(output_), elements_of(output_),
                std::numeric_limits<Scalar>::quiet_NaN());
    for (std::size_t i = 0; i < core_.slices(); ++i)
      core_.place(i, schedule_.start[i % schedule_.columns()]);
    core_.settle(Traits::data(x_));
    go_on();
  }

  /// All that can be wrong with a run before it starts; fails with what it is, or returns the shape
  /// of the network's output.
  static ShapeOf<T> check(const PlanView& plan, const ShapeOf<T>& shape, const Slices& slices,
                          const SliceSchedule& schedule, const SampleOptions& options,
                          const std::optional<ShapeOf<T>>& output_shape = std::nullopt) {
    const Blocks blocks = Stepper<T, Noise>::check(plan, shape, options, output_shape);
    Core::check(plan, options);
    const detail::SliceLayout layout = detail::layout_of<T>(slices, shape, options.batch);
    check_schedule(schedule, plan.steps(), blocks.batch, layout.parts);
    if constexpr (!AddressedNoise<std::remove_cvref_t<Noise>>)
      detail::require_in_step(plan, schedule);
    const std::vector<int> first = detail::first_stages(plan);
    for (const int step : schedule.start)
      detail::check_start(plan, first[static_cast<std::size_t>(step)], step);
    return output_shape ? *output_shape
                        : default_output_shape<T>(shape, plan.learns_variance(), options.batch);
  }

  /// Whether the schedule has been worked off.
  bool done() const { return row_ > schedule_.rows.size(); }
  /// Every tick asks.
  bool asks() const { return !done(); }

  /// What the network is given: the state, each slice scaled where the plan says so.
  const T& input() {
    require_tick();
    if (!core_.scales_input()) return x_;
    core_.scale_input(Traits::data(std::as_const(x_)), StateTraits<Tensor>::data(*scaled_));
    if constexpr (detail::is_view<T>) {
      scaled_view_.emplace(Traits::over(*scaled_));
      return *scaled_view_;
    } else {
      return *scaled_;
    }
  }
  /// What the network is told; valid until the next `advance`.
  Query query() const {
    require_tick();
    return core_.query();
  }
  /// Where the network's output goes before `advance`.
  Tensor& output() { return output_; }
  const Tensor& output() const { return output_; }

  /// The estimate of x0 (clipped as the plan clips) from the state and the output; slices that are
  /// done are themselves.
  Tensor preview() const {
    Tensor x0 = Traits::make(shape_);
    preview(x0);
    return x0;
  }
  void preview(Tensor& x0) const {
    require_tick();
    check_output();
    if (Traits::shape(x_) != StateTraits<Tensor>::shape(x0)) x0 = Traits::make(shape_);
    core_.preview(Traits::data(x_), answer(), StateTraits<Tensor>::data(x0));
  }

  /// Makes x0 the estimate of this tick, for the slices that move: writes the output that says so.
  void set_x0(const Tensor& x0) {
    require_tick();
    check_output();
    if (StateTraits<Tensor>::shape(x0) != shape_)
      fail(detail::text("x0 has the shape ", shape_text(StateTraits<Tensor>::shape(x0)),
                        "; that of the state is ", shape_text(shape_)));
    core_.set_x0(Traits::data(std::as_const(x_)), StateTraits<Tensor>::data(x0),
                 StateTraits<Tensor>::data(output_));
  }

  /// Takes the output and ends the tick. Afterwards `finite()` tells whether what has changed is
  /// finite (true where the check is switched off).
  void advance() {
    require_tick();
    check_output();
    core_.advance(Traits::data(x_), answer());
    go_on();
  }

  bool finite() const { return core_.finite(); }
  const T& state() const& { return x_; }
  T&& state() && { return std::move(x_); }
  /// The state, to be changed between ticks; its shape must stay.
  T& writable_state() { return x_; }
  /// After a change by hand: whether the state is still finite; `finite()` tells it too.
  bool recheck_finite() { return core_.recheck_finite(Traits::data(std::as_const(x_))); }

  /// How many slices there are: samples times parts.
  std::size_t slices() const { return core_.slices(); }
  std::size_t parts() const { return core_.parts(); }
  /// Whether a slice changes with this tick.
  bool moves(std::size_t slice) const { return core_.moves(checked(slice)); }
  /// The step to which a slice has come, n = steps() when it is done.
  int step(std::size_t slice) const { return core_.step(checked(slice)); }
  /// The stage of the plan that is a slice's next, stages() when it is done.
  int stage_number(std::size_t slice) const { return core_.stage(checked(slice)); }
  /// The time and level of what the network is given of a slice.
  const Knot& level(std::size_t slice) const { return core_.level(checked(slice)); }

  int steps() const { return plan().steps(); }
  int stages() const { return plan().size(); }
  /// The row of the schedule that is worked on, rows() at the end.
  int row() const { return static_cast<int>(row_) - 1; }
  int rows() const { return static_cast<int>(schedule_.rows.size()); }
  /// Ticks that have been made; each has asked the network once.
  int ticks() const { return core_.network_calls(); }
  int network_calls() const { return core_.network_calls(); }
  const SliceSchedule& schedule() const { return schedule_; }
  const PlanView& plan() const { return core_.plan(); }
  const SampleOptions& options() const { return core_.options(); }

 private:
  static std::optional<Tensor> scaled_input(const PlanView& plan, const ShapeOf<T>& shape) {
    const bool scales = std::any_of(plan.stages.begin(), plan.stages.end(),
                                    [](const Stage& s) { return s.input_scale != 1; });
    return scales ? std::optional<Tensor>(Traits::make(shape)) : std::nullopt;
  }
  static std::size_t elements_of(const Tensor& x) {
    return blocks_of<Tensor>(StateTraits<Tensor>::shape(x), false).total();
  }
  const Scalar* answer() const { return StateTraits<Tensor>::data(output_); }

  // Aims at the next rows until a slice has to move for one.
  void go_on() {
    while (!done() && !core_.moving()) {
      if (row_ < schedule_.rows.size())
        for (std::size_t i = 0; i < slices(); ++i)
          core_.aim(i, schedule_.rows[row_][i % schedule_.columns()]);
      ++row_;
    }
    core_.tell();
  }

  void require_tick() const {
    if (done()) fail("the run is at the end of its schedule; no tick comes next");
  }
  std::size_t checked(std::size_t slice) const {
    if (slice >= slices()) fail(detail::text("slice is ", slice, "; the run has ", slices()));
    return slice;
  }
  // A network that assigns to its output may have given it another shape.
  void check_output() const {
    const std::size_t given = core_.output_size() * core_.blocks().batch;
    if (elements_of(output_) == given) return;
    fail(detail::text("the network changed its output to ", elements_of(output_),
                      " elements; it must keep the ", given, " that it was given"));
  }

  ShapeOf<T> shape_;
  SliceSchedule schedule_;
  Tensor output_;
  Core core_;
  std::optional<Tensor> scaled_;  // the input, where a stage scales
  std::optional<T> scaled_view_;  // the same, seen as the state's type where that is a view
  std::size_t row_ = 0;           // the row after the one that is worked on
  T x_;                           // last: where a buffer cannot be had, the caller still has it
};

/// A stepper of the state and the noise that it is given: an addressed source is copied, a
/// sequential one referred to.
template <State T, class N, class... Options>
SlicedStepper(const SamplingPlan&, T, N&&, Options&&...)
    -> SlicedStepper<T, detail::HeldNoise<N&&>>;
/// The same for a view of a plan.
template <State T, class N, class... Options>
SlicedStepper(PlanView, T, N&&, Options&&...) -> SlicedStepper<T, detail::HeldNoise<N&&>>;

}  // namespace diffusion

#endif  // DIFFUSION_SAMPLING_SLICED_STEPPER_HPP
