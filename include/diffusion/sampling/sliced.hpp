#ifndef DIFFUSION_SAMPLING_SLICED_HPP
#define DIFFUSION_SAMPLING_SLICED_HPP

#include <diffusion/sampling/sample.hpp>
#include <diffusion/sampling/sliced_stepper.hpp>

#include <algorithm>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

namespace diffusion {

namespace detail {

/// Whether a denoiser asks to be told more than one time for all.
template <class D, class T>
inline constexpr bool takes_query = QueryingDenoiser<D, T> || RawQueryingDenoiser<D, T>;

/// The loop itself, on a state that can be written to.
template <class Held, class Plan, class D, State T, class N, class... Callbacks>
SampleResult run_sliced(const Plan& plan, D& denoiser, T& x, N& noise, const Slices& slices,
                        const SliceSchedule& schedule, SampleOptions options,
                        Callbacks&... callbacks) {
  static_assert(takes_query<D, T>,
                "slices stand at several times: the denoiser of a sliced run must take a Query, "
                "(const Tensor& x, const Query& query, Tensor& out), and look at its times");
  decltype(auto) table = plan_of(plan);
  options.prediction_type = prediction_type_of(denoiser, options.prediction_type);
  begin_run(denoiser);

  using Run = SlicedStepper<T, Held>;
  const auto shape = StateTraits<T>::shape(x);
  const auto declared = declared_output_shape<T>(denoiser, shape);
  Run run(table, std::move(x), noise, slices, schedule, options, declared);
  const GiveBack<T, Run> give_back{x, run};  // NOLINT(bugprone-use-after-move): refills x
  EditsOf<T, Run, Callbacks...> edits(run);
  edits.start(run, callbacks...);
  while (!run.done()) {
    if (std::chrono::steady_clock::now() >= options.deadline)
      return {Status::deadline, run.ticks(), run.network_calls()};
    if (!run.finite()) return {Status::not_finite, run.ticks(), run.network_calls()};
    const Query query = run.query();
    if constexpr (QueryingDenoiser<D, T>)
      denoiser(run.input(), query, run.output());
    else
      with_buffers(run.input(), run.output(), [&](const auto* from, auto* to, const auto& extents) {
        denoiser(from, query, to, extents);
      });
    edits.x0(run, callbacks...);
    if (!(proceeds<T>(callbacks, std::as_const(run)) && ...))
      return {Status::cancelled, run.ticks(), run.network_calls() + 1};
    run.advance();
    edits.state(run, callbacks...);
  }
  return {run.finite() ? Status::done : Status::not_finite, run.ticks(), run.network_calls()};
}

}  // namespace detail

/// Runs a plan from the state x, in place, every slice in its own time: see SlicedStepper for what
/// a slice and a tick are, SliceSchedule for when which slice moves, `slice_levels` for a state
/// whose slices start at several levels. The denoiser takes a Query. Callbacks are called in every
/// tick after the network has answered, as callback(const SlicedStepper&), and may cancel; edits
/// act on all slices at once, and are those that do not ask for `run.last()`, as slices have come
/// from several stages. In the result, `stage` counts ticks. Otherwise as `sample_in_place`.
template <class Plan, class D, class X, class N, class... Callbacks>
SampleResult sample_sliced_in_place(const Plan& plan, D&& denoiser, X&& x, N&& noise,
                                    const Slices& slices, const SliceSchedule& schedule,
                                    const SampleOptions& options = {}, Callbacks&&... callbacks) {
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
    return detail::run_sliced<Held>(plan, denoiser, view, noise, slices, schedule, options,
                                    callbacks...);
  } else if constexpr (written) {
    return detail::run_sliced<Held>(plan, denoiser, x, noise, slices, schedule, options,
                                    callbacks...);
  } else {
    static_assert(written,
                  "a state that is sampled in place must be a variable that is not const, or a "
                  "view of one");
    return {};
  }
}

/// Samples in slices: draws the initial state, runs the plan, and returns the state at the
/// schedule's end. All slices must start at step 0. Fails when the state is not finite.
template <State T, class Plan, class D, class N, class... Callbacks>
TensorOf<T> sample_sliced(const Plan& plan, D&& denoiser, const ShapeOf<T>& shape, N&& noise,
                          const Slices& slices, const SliceSchedule& schedule,
                          const SampleOptions& options = {}, Callbacks&&... callbacks) {
  using Tensor = TensorOf<T>;
  using Held = detail::HeldNoise<N&&>;
  decltype(auto) table = detail::plan_of(plan);
  detail::require_extents("the state", shape);
  detail::require_fit<Tensor>("the state", shape);
  for (std::size_t i = 0; i < schedule.columns(); ++i)
    if (schedule.start[i] != 0)
      fail(detail::text("slice ", i, " starts at step ", schedule.start[i],
                        ", but the state is drawn as noise; give a state, with slice_levels and "
                        "sample_sliced_in_place"));
  SampleOptions checked = options;  // all of it before the source gives its first number
  checked.prediction_type = diffusion::prediction_type_of(denoiser, options.prediction_type);
  SlicedStepper<Tensor, Held>::check(table, shape, slices, schedule, checked,
                                     diffusion::declared_output_shape<Tensor>(denoiser, shape));
  const Blocks blocks = blocks_of<Tensor>(shape, options.batch);
  detail::RunNoise<ScalarOf<Tensor>, Held>::require(noise, table, blocks, true);
  Tensor x = StateTraits<Tensor>::make(shape);
  detail::draw_initial(noise, blocks, StateTraits<Tensor>::data(x),
                       PlanView(table).traits.initial_scale);
  const SampleResult result =
      detail::run_sliced<Held>(table, denoiser, x, noise, slices, schedule, options, callbacks...);
  if (result.status == Status::not_finite)
    fail(detail::text("the state is not finite after tick ", result.stage, " (",
                      result.network_calls,
                      " network calls); look at the network's output, the prediction type and the "
                      "range of the data"));
  return x;
}

/// The state from which a schedule starts, made of data in place: a slice that starts at step 0
/// becomes noise (nothing of its data is left), one that starts in the middle alpha data + sigma
/// noise at the level of that step, and one that is known stays as it is. The noise is draw 0 of
/// an addressed source, so `start` = 0 for all gives the state with which `sample` begins.
template <class Plan, State T, AddressedNoise N>
void slice_levels(const Plan& plan, T& x, const N& noise, const Slices& slices,
                  const SliceSchedule& schedule, const SampleOptions& options = {}) {
  using S = ScalarOf<T>;
  using Real = detail::Compute<S>;
  decltype(auto) table = detail::plan_of(plan);
  const PlanView view = table;
  const auto shape = StateTraits<T>::shape(x);
  SlicedStepper<T, N>::check(view, shape, slices, schedule, options);
  const detail::SliceLayout layout = detail::layout_of<T>(slices, shape, options.batch);
  const std::vector<int> first = detail::first_stages(view);
  const Blocks blocks = blocks_of<T>(shape, options.batch);
  S* data = StateTraits<T>::data(x);
  std::vector<Real> normals(blocks.size);
  for (std::size_t sample = 0; sample < blocks.batch; ++sample, data += blocks.size) {
    for (std::size_t i = 0; i < blocks.size; i += detail::chunk_size)
      detail::fill_normals(
          noise, 0, sample, i,
          std::span<Real>(normals).subspan(i, (std::min)(detail::chunk_size, blocks.size - i)));
    for (const detail::SlicePiece& piece : layout.pieces) {
      const int step = schedule.start[(sample * layout.parts + piece.part) % schedule.columns()];
      if (step == view.steps()) continue;
      const auto stage = static_cast<std::size_t>(first[static_cast<std::size_t>(step)]);
      const Knot& at = view.stages[stage].at;
      const Real scale = static_cast<Real>(step == 0 ? view.traits.initial_scale : at.sigma);
      const Real alpha = static_cast<Real>(at.alpha);
      for (std::size_t i = piece.offset; i < piece.offset + piece.count; ++i) {
        const Real fresh = scale * normals[i];
        data[i] = static_cast<S>(step == 0 ? fresh : alpha * static_cast<Real>(data[i]) + fresh);
      }
    }
  }
}

}  // namespace diffusion

#endif  // DIFFUSION_SAMPLING_SLICED_HPP
