#ifndef DIFFUSION_EDIT_INVERSION_HPP
#define DIFFUSION_EDIT_INVERSION_HPP

#include <diffusion/edit/inversion_loop.hpp>
#include <diffusion/error.hpp>
#include <diffusion/samplers/ddim.hpp>
#include <diffusion/sampling/sample.hpp>
#include <diffusion/schedule/grid.hpp>

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

namespace diffusion {

/// How the steps of a sampler are undone.
enum class InversionMethod {
  /// The network is asked where the state stands and told that level's time: the sampler's own plan
  /// on the grid walked backwards. DDIM inversion (Song, Meng and Ermon 2020, arXiv 2010.02502,
  /// section 4.3); with DPM-Solver++ its inverse, of its order.
  reversed,
  /// The same, but told the time of the noisier level where the step ends, which the step of
  /// sampling would be told: diffusers' DDIMInverseScheduler, prompt-to-prompt's authors.
  target_time,
  /// Each step of sampling is solved for the state where it began, by iteration: sampling then
  /// leads back to the picture within the tolerance (AIDI: Pan et al. 2023, arXiv 2309.04907). For
  /// samplers whose steps stand alone; several network calls a step.
  fixed_point,
};

/// Options of `invert`. Plain data: threads may share what none of them writes.
struct InversionOptions {
  InversionMethod method = InversionMethod::target_time;
  /// Steps at the noisy end of the grid that are left out, 0 to n - 1: the inversion ends at a
  /// level between, and sampling begins there. Less is changed.
  int skip_noisy = 0;
  /// Steps at the clean end that are left out: the picture counts as the state where they began.
  int skip_clean = 0;
  bool keep_trajectory = false;  ///< keep the state at every knot, to begin at any of them
  bool round_trip = false;       ///< sample again and tell the error: as many calls more
  int iterations = 20;           ///< fixed_point: corrections of a step, 1 to 10,000
  double tolerance = 1e-5;       ///< fixed_point: root mean square of a step's error that is enough
  bool accelerate = true;        ///< fixed_point: by Anderson's method with a memory of one
};

/// What an inversion has found. `k` counts the knots of `grid` in the order of sampling: 0 is the
/// noise, steps() the picture. Plain data: threads may share what none of them writes.
template <State T>
struct Inversion {
  T noise;                    ///< the state at knot 0, from which the sampler makes the picture
  std::vector<T> trajectory;  ///< by knot, the picture last; empty unless it was asked to be kept
  Grid grid;                  ///< the steps that were inverted, in the order of sampling
  /// The root mean square of (picture sampled from the noise) - picture, of the worst sample; if
  /// asked for.
  std::optional<double> round_trip = {};
  /// fixed_point: the largest error that was left in a step, likewise; above the tolerance where
  /// the iterations were not enough.
  double residual = 0;
  int network_calls = 0;         ///< those of the round trip not counted
  Status status = Status::done;  ///< or `deadline`: `noise` is the state that was reached

  bool done() const { return status == Status::done; }
  int steps() const { return grid.size(); }
  /// The level of knot k, 0 <= k <= steps().
  Knot knot(int k) const {
    detail::require_range("k", k, 0, steps());
    return k < steps() ? grid[k].from : grid.finish();
  }
  /// The state at knot k; other than 0 only where the trajectory was kept.
  const T& state(int k) const {
    detail::require_range("k", k, 0, steps());
    if (k == 0) return noise;
    if (trajectory.empty())
      fail(detail::text("the state at knot ", k,
                        " was not kept; set InversionOptions::keep_trajectory"));
    return trajectory[static_cast<std::size_t>(k)];
  }
};

namespace detail {

/// The steps that are inverted; fails where they do not follow each other.
inline Grid inverted_steps(const Grid& whole, const InversionOptions& options) {
  require_enumerator("InversionOptions::method", options.method, 3);
  require_range("InversionOptions::skip_noisy", options.skip_noisy, 0, whole.size() - 1);
  require_range("InversionOptions::skip_clean", options.skip_clean, 0,
                whole.size() - 1 - options.skip_noisy);
  require_range("InversionOptions::iterations", options.iterations, 1, 10'000);
  require_range("InversionOptions::tolerance", options.tolerance, 0.0, 1e6);
  const Grid grid = whole.cut(options.skip_noisy, whole.size() - options.skip_clean);
  if (!grid.contiguous())
    fail(
        "the steps of the grid do not begin where the ones before end, so there is no way back; "
        "take PreviousTimestep::from_list");
  return grid;
}

/// One step of DDIM from clean data, where no network has been trained: it is told the next level's
/// time, x0 is the picture, and nothing is clipped.
inline SamplingPlan first_inverse_step(const Grid& grid) {
  return make_plan(grid.cut(grid.size() - 1), DdimInverseOptions{.time = InversionTime::target});
}

/// The rows with each call told the time of the level where its step ends.
inline std::vector<Stage> told_the_target(const SamplingPlan& plan) {
  std::vector<Stage> rows(plan.stages().begin(), plan.stages().end());
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (i > 0 && rows[i].step == rows[i - 1].step)
      fail(text("step ", rows[i].step, " of the plan has more than one stage; ",
                "InversionMethod::target_time is for one network call a step"));
    rows[i].at.t = rows[i].to.t;
  }
  return rows;
}

/// One inversion: the loop, and what it records.
template <class Sampler, class D, State T>
class Inverter {
 public:
  Inverter(const Sampler& sampler, D& denoiser, const T& picture, Grid grid,
           const InversionOptions& options, const SampleOptions& run)
      : sampler_(sampler),
        options_(options),
        plan_(sampler.plan(grid)),
        loop_(denoiser, picture, run, plan_.view().learns_variance()),
        found_{.noise = picture, .trajectory = {}, .grid = std::move(grid)} {
    require_deterministic(plan_);
  }

  Inversion<T> invert() && {
    if (options_.method == InversionMethod::fixed_point)
      solve_steps();
    else
      walk_back();
    if (options_.keep_trajectory) {
      found_.trajectory.push_back(found_.noise);
      std::reverse(found_.trajectory.begin(), found_.trajectory.end());
    }
    found_.network_calls = loop_.network_calls();
    return std::move(found_);
  }

 private:
  const Grid& grid() const { return found_.grid; }

  /// Called with the state at a knot, the cleanest first; false where there is no more time.
  bool record(const T& x) {
    if (loop_.late()) {
      found_.status = Status::deadline;
      return false;
    }
    if (options_.keep_trajectory) found_.trajectory.push_back(x);
    return true;
  }

  void walk_back() {
    const int n = grid().size();
    const int clean = grid().finish().sigma == 0 ? 1 : 0;
    const auto before = [this](int, const T& x) { return record(x); };
    T x = found_.noise;
    if (clean == 1) {
      const SamplingPlan step = first_inverse_step(grid());
      x = loop_.run(step, std::move(x), {0, 0, n}, before);
    }
    if (found_.done() && clean < n) {
      const SamplingPlan plan = sampler_.plan(grid().cut(0, n - clean).reversed());
      std::vector<Stage> rows(plan.stages().begin(), plan.stages().end());
      if (options_.method == InversionMethod::target_time) rows = told_the_target(plan);
      x = loop_.run(PlanView{rows, plan.traits()}, std::move(x), {clean, clean, n}, before);
    }
    found_.noise = std::move(x);
  }

  void solve_steps() {
    const std::vector<PlanView> steps = steps_alone(plan_);
    if (static_cast<int>(steps.size()) != grid().size())
      fail(text("the plan has ", steps.size(), " steps on a grid of ", grid().size(),
                "; a fixed point is found for plans with a step for each of the grid's"));
    FixedPoint<InversionLoop<D, T>, T> point(
        loop_, {options_.iterations, options_.tolerance, options_.accelerate});
    for (int k = grid().size() - 1; k >= 0 && record(found_.noise); --k) {
      const PlanView& step = steps[static_cast<std::size_t>(k)];
      const int stage = static_cast<int>(step.stages.data() - plan_.stages().data());
      found_.residual = (std::max)(
          found_.residual,
          point.solve(step, grid()[k].from, grid()[k].to, {stage, k, grid().size()}, found_.noise));
      if (!is_finite(found_.residual))
        fail(text("step ", k,
                  " of the grid has no finite fixed point; look at the network's "
                  "output, the prediction type and the range of the data"));
    }
  }

  const Sampler& sampler_;
  const InversionOptions& options_;
  SamplingPlan plan_;  // of sampling
  InversionLoop<D, T> loop_;
  Inversion<T> found_;
};

}  // namespace detail

/// What can be inverted: a sampler that plans on a grid of one's own.
template <class Sampler>
concept PlansOnGrids = requires(const Sampler& sampler, const Grid& grid) {
  { sampler.grid() } -> std::same_as<Grid>;
  { sampler.plan(grid) } -> std::same_as<SamplingPlan>;
};

/// Samples from knot k of an inversion to the picture: 0 begins at the noise, and any other knot at
/// the state that was kept. The sampler may be another, with a grid of its own not being read, and
/// the denoiser another too: that is an edit. Callbacks and edits as for `sample_in_place`. Fails
/// where the sampler adds noise, or the state is not finite.
template <PlansOnGrids Sampler, class D, State T, class... Callbacks>
T resume(const Sampler& sampler, D&& denoiser, const Inversion<T>& inversion, int k = 0,
         const SampleOptions& run = {}, Callbacks&&... callbacks) {
  T x = inversion.state(k);
  if (k == inversion.steps()) return x;
  const SamplingPlan plan = sampler.plan(inversion.grid.cut(k));
  detail::require_deterministic(plan);
  const SampleResult result = sample_in_place(plan, denoiser, x, PhiloxNoise{0}, run, callbacks...);
  if (result.status == Status::not_finite)
    fail(detail::text("the state is not finite after stage ", result.stage, " of ", plan.size(),
                      "; look at the network's output, the prediction type and the range of the "
                      "data"));
  return x;
}

/// Inversion: carries a picture (or a batch of them, each by itself) back to the noise from which a
/// deterministic sampler makes it. `denoiser` is the one to sample with, guidance included (little
/// of it: guided inversion strays); it is asked on TensorOf<X>.
///
/// The grid's clean end, sigma = 0, no network was trained at: there x0 is the picture and the
/// network is told the next level's time. One that predicts x0 says nothing of the noise there
/// and is refused; skip_clean = 1, or GridOptions::set_alpha_to_one = false, stops short of it. So
/// is, when the noise is sampled from, one that predicts eps at a start of pure noise (skip_noisy).
///
/// Fails for a sampler that adds noise, for a grid with gaps, and where the state is not finite.
/// Sampling from the noise gives the picture back with an error that falls with the number of steps
/// at the sampler's order; for a fixed point, with the tolerance at any number of steps.
template <PlansOnGrids Sampler, class D, ReadableState X>
Inversion<TensorOf<X>> invert(const Sampler& sampler, D&& denoiser, const X& picture,
                              const InversionOptions& options = {}, const SampleOptions& run = {}) {
  using T = TensorOf<X>;
  const Grid grid = detail::inverted_steps(sampler.grid(), options);
  const T copy = detail::owned_copy(picture);
  Inversion<T> found = detail::Inverter<Sampler, std::remove_reference_t<D>, T>(
                           sampler, denoiser, copy, grid, options, run)
                           .invert();
  if (options.round_trip && found.done()) {
    const T back = resume(sampler, denoiser, found, 0, run);
    found.round_trip = detail::worst_sample_error(
        back, copy, blocks_of<T>(StateTraits<T>::shape(copy), run.batch));
  }
  return found;
}

/// An edit: inverts a picture under one denoiser (what it shows) and samples from there under
/// another (what it should show). The more steps of the noisy end are skipped
/// (InversionOptions::skip_noisy), the more of the picture is kept. Fails as `invert` and `resume`
/// do; a deadline ends it as an error would.
template <PlansOnGrids Sampler, class Source, class Target, ReadableState X>
TensorOf<X> edit_by_inversion(const Sampler& sampler, Source&& source, Target&& target,
                              const X& picture, const InversionOptions& options = {},
                              const SampleOptions& run = {}) {
  const auto found = invert(sampler, source, picture, options, run);
  if (!found.done()) fail("the deadline has passed before the picture was inverted");
  return resume(sampler, target, found, 0, run);
}

}  // namespace diffusion

#endif  // DIFFUSION_EDIT_INVERSION_HPP
