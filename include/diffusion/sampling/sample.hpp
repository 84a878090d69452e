#ifndef DIFFUSION_SAMPLING_SAMPLE_HPP
#define DIFFUSION_SAMPLING_SAMPLE_HPP

#include <diffusion/sampling/stepper.hpp>

#include <chrono>
#include <concepts>
#include <initializer_list>
#include <optional>
#include <type_traits>
#include <utility>

namespace diffusion {

namespace detail {

// What an edit may do: see `sample`.
template <class E, class Run, class T>
concept EditsStart = requires(E& edit, const Run& run, T& x) {
  edit.edit_start(run, x);
};
template <class E, class Run>
concept EditsX0 = requires(E& edit, const Run& run, typename Run::Tensor& x0) {
  edit.edit_x0(run, x0);
};
template <class E, class Run, class T>
concept EditsState = requires(E& edit, const Run& run, T& x) {
  edit.edit_state(run, x);
};
template <class E, class Run, class T>
concept Edits = EditsStart<E, Run, T> || EditsX0<E, Run> || EditsState<E, Run, T>;

/// Calls one callback; it sees the run and may answer Verdict::cancel. An edit need not be one.
template <class T, class Callback, class Run>
bool proceeds(Callback& callback, const Run& run) {
  if constexpr (std::invocable<Callback&, const Run&>) {
    using Answer = std::invoke_result_t<Callback&, const Run&>;
    static_assert(std::is_void_v<Answer> || std::is_same_v<Answer, Verdict>,
                  "a callback must return nothing or a diffusion::Verdict");
    if constexpr (std::is_void_v<Answer>)
      callback(run);
    else
      return callback(run) == Verdict::proceed;
  } else {
    static_assert(
        Edits<Callback, Run, T>,
        "a callback must be callable as (const auto& run); run is a const diffusion::Stepper; an "
        "edit must have edit_start(run, x), edit_x0(run, x0) or edit_state(run, x)");
  }
  return true;
}

/// The edits among the callbacks, in the order given.
template <class T, class Run, class... Callbacks>
class EditsOf {
  static constexpr bool of_x0 = (EditsX0<Callbacks, Run> || ...);
  static constexpr bool of_state = (EditsState<Callbacks, Run, T> || ...);

 public:
  explicit EditsOf(const Run& run) {
    if constexpr (of_x0) x0_.emplace(StateTraits<T>::make(StateTraits<T>::shape(run.state())));
  }
  void start(Run& run, Callbacks&... callbacks) { (start_one(callbacks, run), ...); }
  void x0(Run& run, Callbacks&... callbacks) {
    if constexpr (of_x0) {
      if (!run.asks()) return;
      run.preview(*x0_);
      (x0_one(callbacks, run, *x0_), ...);
      run.set_x0(*x0_);
    }
  }
  void state(Run& run, Callbacks&... callbacks) {
    if constexpr (of_state) {
      (state_one(callbacks, run), ...);
      run.recheck_finite();
    }
  }

 private:
  template <class E>
  static void start_one(E& edit, Run& run) {
    if constexpr (EditsStart<E, Run, T>) edit.edit_start(std::as_const(run), run.writable_state());
  }
  template <class E>
  static void x0_one(E& edit, const Run& run, typename Run::Tensor& x0) {
    if constexpr (EditsX0<E, Run>) edit.edit_x0(run, x0);
  }
  template <class E>
  static void state_one(E& edit, Run& run) {
    if constexpr (EditsState<E, Run, T>) edit.edit_state(std::as_const(run), run.writable_state());
  }

  std::optional<typename Run::Tensor> x0_;
};

/// Gives a state that was moved into a run back to its owner, however the run is left. A view needs
/// no way back.
template <class T, class Run>
struct GiveBack {
  T& owner;
  Run& run;
  ~GiveBack() {
    if constexpr (!is_view<T>) owner = std::move(run).state();
  }
};

/// What stands for the shape where the type that was asked for is no state and has none.
struct AnyShape {
  AnyShape(std::initializer_list<Eigen::Index>) {}  // NOLINT(google-explicit-constructor)
  template <class Shape>
  AnyShape(const Shape&) {}  // NOLINT(google-explicit-constructor)
};

template <class Sampler>
concept MakesPlans = requires(const Sampler& sampler) {
  { sampler.plan() } -> std::same_as<SamplingPlan>;
};

/// The plan itself, the view itself, or what a sampler plans.
template <class Plan>
decltype(auto) plan_of(const Plan& plan) {
  if constexpr (std::is_same_v<Plan, SamplingPlan> || std::is_same_v<Plan, PlanView>) {
    return (plan);
  } else {
    static_assert(
        MakesPlans<Plan>,
        "what is sampled must be a SamplingPlan, a PlanView, or a sampler: an object with "
        "a member SamplingPlan plan() const");
    return plan.plan();
  }
}

/// The loop itself, on a state that can be written to. Held says how a run keeps the noise source.
template <class Held, class Plan, class D, State T, class N, class... Callbacks>
SampleResult run_in_place(const Plan& plan, D& denoiser, T& x, N& noise, SampleOptions options,
                          Callbacks&... callbacks) {
  decltype(auto) table = plan_of(plan);
  options.prediction_type = prediction_type_of(denoiser, options.prediction_type);
  begin_run(denoiser);

  using Run = Stepper<T, Held>;
  const auto declared = declared_output_shape<T>(denoiser, StateTraits<T>::shape(x));
  Run run(table, std::move(x), noise, options, declared);  // takes x when all else is made
  const GiveBack<T, Run> give_back{x, run};  // NOLINT(bugprone-use-after-move): refills x
  EditsOf<T, Run, Callbacks...> edits(run);
  edits.start(run, callbacks...);
  while (!run.done()) {
    if (std::chrono::steady_clock::now() >= options.deadline)
      return {Status::deadline, run.stage_number(), run.network_calls()};
    if (run.asks()) ask(denoiser, run.input(), run.query(), run.output());
    edits.x0(run, callbacks...);
    if (!(proceeds<T>(callbacks, std::as_const(run)) && ...))
      return {Status::cancelled, run.stage_number(), run.network_calls() + (run.asks() ? 1 : 0)};
    run.advance();
    edits.state(run, callbacks...);
    if (!run.finite()) return {Status::not_finite, run.stage_number(), run.network_calls()};
  }
  return {Status::done, run.stage_number(), run.network_calls()};
}

}  // namespace detail

/// The loop: runs a plan from the state x, in place. `plan` is a SamplingPlan, a PlanView, or a
/// sampler, which is asked for its plan. x is a variable, or a view of one (a Map, a span, a
/// StateView), which may be made on the spot. Callbacks are called at every stage after the network
/// has answered and before the state is updated, as callback(const Stepper&): `run.step()`,
/// `run.state()`, `run.preview()` and so on are at hand; one that returns Verdict::cancel ends the
/// run. An *edit* among them has one or more of the members
///
///     void edit_start(const Run& run, T& x)       once, before the first stage
///     void edit_x0(const Run& run, Tensor& x0)    after the network's answer: may change x0
///     void edit_state(const Run& run, T& x)       after the update by the stage run.last()
///
/// as templates or for the Stepper in question; edits act in the order given, callbacks see the x0
/// that edits have left. Allocates before the first stage, not after. Fails for a plan that does
/// not fit; how the run itself ended is in the result, and x holds the state that was reached. Any
/// number of runs may share a plan; each needs its own state and, unless it may be shared,
/// denoiser.
template <class Plan, class D, class X, class N, class... Callbacks>
SampleResult sample_in_place(const Plan& plan, D&& denoiser, X&& x, N&& noise,
                             SampleOptions options = {}, Callbacks&&... callbacks) {
  static_assert(NoiseSource<std::remove_cvref_t<N>>,
                "a noise source needs fill(sample, draw, element, span<float>) const, or "
                "fill(span<float>) and fill(span<double>)");
  using T = std::remove_cvref_t<X>;
  using Held = detail::HeldNoise<N&&>;
  constexpr bool written =
      std::is_lvalue_reference_v<X> && !std::is_const_v<std::remove_reference_t<X>>;
  if constexpr (!State<T>) {
    detail::require_state<T>();
    return {};
  } else if constexpr (detail::is_view<T>) {
    T view = x;
    return detail::run_in_place<Held>(plan, denoiser, view, noise, options, callbacks...);
  } else if constexpr (written) {
    return detail::run_in_place<Held>(plan, denoiser, x, noise, options, callbacks...);
  } else {
    static_assert(written,
                  "a state that is sampled in place must be a variable that is not const, or a "
                  "view of one");
    return {};
  }
}

/// Samples: draws the initial state, runs the plan, and returns the state at its end. Fails when
/// the state is not finite; a run that a callback or the deadline ended returns what it had.
///
/// What comes back, and what the denoiser is given, is TensorOf<T>: T, or the owner of a view's
/// kind.
///
///     Image pictures = sample<Image>(sampler, network, {16, 3, 32, 32}, PhiloxNoise{42});
template <State T, class Plan, class D, class N, class... Callbacks>
TensorOf<T> sample(const Plan& plan, D&& denoiser, const ShapeOf<T>& shape, N&& noise,
                   const SampleOptions& options = {}, Callbacks&&... callbacks) {
  using Tensor = TensorOf<T>;
  using Held = detail::HeldNoise<N&&>;
  using Noise = detail::RunNoise<ScalarOf<Tensor>, Held>;
  decltype(auto) table = detail::plan_of(plan);
  detail::require_extents("the state", shape);
  detail::require_fit<Tensor>("the state", shape);
  SampleOptions checked = options;  // all of it before the source gives its first number
  checked.prediction_type = diffusion::prediction_type_of(denoiser, options.prediction_type);
  const Blocks blocks = Stepper<Tensor, Held>::check(
      table, shape, checked, diffusion::declared_output_shape<Tensor>(denoiser, shape));
  Noise::require(noise, table, blocks, true);
  Tensor x = StateTraits<Tensor>::make(shape);
  detail::draw_initial(noise, blocks, StateTraits<Tensor>::data(x),
                       PlanView(table).traits.initial_scale);
  const SampleResult result =
      detail::run_in_place<Held>(table, denoiser, x, noise, options, callbacks...);
  if (result.status == Status::not_finite)
    fail(detail::text("the state is not finite after stage ", result.stage, " of ",
                      PlanView(table).size(), " (", result.network_calls,
                      " network calls); look at the network's output, the prediction type and the "
                      "range of the data"));
  return x;
}

/// What is said when the type that is asked for is no state.
// clang-format off
template <class T, class Plan, class D, class N, class... Callbacks>
  requires(!State<T>)
T sample(const Plan&, D&&, const detail::AnyShape&, N&&, const SampleOptions& = {},
         Callbacks&&...) {
  detail::require_state<T>();
  fail("what is sampled is no state");
}
// clang-format on

}  // namespace diffusion

#endif  // DIFFUSION_SAMPLING_SAMPLE_HPP
