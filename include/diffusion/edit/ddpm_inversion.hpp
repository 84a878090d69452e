#ifndef DIFFUSION_EDIT_DDPM_INVERSION_HPP
#define DIFFUSION_EDIT_DDPM_INVERSION_HPP

#include <diffusion/edit/inversion.hpp>
#include <diffusion/edit/inversion_loop.hpp>
#include <diffusion/error.hpp>
#include <diffusion/noise/noise.hpp>
#include <diffusion/noise/recorded.hpp>
#include <diffusion/plan/plan.hpp>
#include <diffusion/sampling/sample.hpp>
#include <diffusion/tensor/normals.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

namespace diffusion {

/// Options of `invert_ddpm`. Plain data: threads may share what none of them writes.
struct DdpmInversionOptions {
  int skip_noisy = 0;  ///< as in InversionOptions
  int skip_clean = 0;  ///< as in InversionOptions
  /// A step without noise (the last, where it leads to sigma = 0) lands where the network says and
  /// not on the picture. true: its row takes what is missing as one more term, with weight 1; the
  /// picture comes back exactly. false: the paper's choice; the sampler's rows as they are.
  bool carry_remainder = true;
};

/// What an edit-friendly inversion has found: a plan, the states that it goes through and the noise
/// that it adds on the way. Stage k of the plan leads from states[k] to states[k + 1]. Plain data:
/// threads may share what none of them writes.
template <State T>
struct DdpmInversion {
  SamplingPlan plan;      ///< the sampler's rows
  std::vector<T> states;  ///< one a stage, the noisiest first, then the picture as it comes back
  std::vector<std::vector<double>> maps;  ///< the noise of each draw of the plan
  /// The root mean square of what rows without noise have left to the remainder, of the worst
  /// sample of the worst such row.
  double remainder = 0;
  int network_calls = 0;

  /// The stages from k on as a plan; 0 <= k < plan.size().
  SamplingPlan plan_from(int k) const {
    detail::require_range("k", k, 0, plan.size() - 1);
    std::vector<Stage> rows(plan.stages().begin() + k, plan.stages().end());
    const auto draws = static_cast<std::int32_t>(draws_before(k));
    for (Stage& row : rows)
      if (row.draws > 0) row.noise[0].source -= draws;
    return SamplingPlan(std::move(rows), plan.traits());
  }
  /// The noise of the stages from k on, as a source to run `plan_from(k)` with; its maps are
  /// copied.
  RecordedNoise noise_from(int k) const {
    detail::require_range("k", k, 0, plan.size() - 1);
    return RecordedNoise({maps.begin() + draws_before(k), maps.end()});
  }
  /// How many draws are made before stage k.
  std::ptrdiff_t draws_before(int k) const {
    std::ptrdiff_t draws = 0;
    for (int i = 0; i < k; ++i) draws += plan[i].draws;
    return draws;
  }
};

namespace detail {

/// A source that gives the same number everywhere.
struct ConstantNoise {
  float value = 0;
  void fill(std::uint64_t, std::uint64_t, std::uint64_t, std::span<float> out) const {
    std::fill(out.begin(), out.end(), value);
  }
};

/// A source that gives the numbers of one tensor, which must outlive it.
struct MapNoise {
  const double* numbers;
  std::size_t sample_size;
  template <class Real>
  void fill(std::uint64_t sample, std::uint64_t, std::uint64_t element, std::span<Real> out) const {
    const double* from = numbers + sample * sample_size + element;
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<Real>(from[i]);
  }
};

/// The term of a stage that adds noise, -1 for none. Fails where the stage does not stand alone.
inline int noise_term(const Stage& stage, int i, std::int32_t drawn) {
  const auto refuse = [i](const char* why) {
    fail(text("stage ", i, " of the plan ", why,
              "; edit-friendly inversion is for samplers whose stages stand alone, with one fresh "
              "noise each: DDPM, DDIM with eta > 0, Euler ancestral, LCM"));
  };
  for (const Term& term : stage.history)
    if (term.source >= 0) refuse("reads an earlier estimate");
  if (stage.saved != 0) refuse("reads the saved state");
  if (stage.langevin_snr > 0) refuse("is a Langevin step");
  int found = -1;
  for (std::size_t k = 0; k < stage.noise.size(); ++k) {
    if (stage.noise[k].source < 0 || stage.noise[k].weight == 0) continue;
    if (found >= 0) refuse("weighs two draws of noise");
    if (stage.noise[k].source < drawn) refuse("weighs an earlier draw of noise");
    found = static_cast<int>(k);
  }
  return found;
}

inline bool adds_noise(const Stage& stage) {
  return std::any_of(stage.noise.begin(), stage.noise.end(),
                     [](const Term& term) { return term.source >= 0 && term.weight != 0; });
}

/// The sampler's rows, each with at most one noise term, its first; rows without one get one of
/// weight 1, if a remainder is carried. Fails where a stage does not stand alone or none adds
/// noise.
inline SamplingPlan rows_with_noise(const SamplingPlan& plan, bool carry_remainder) {
  std::vector<Stage> rows(plan.stages().begin(), plan.stages().end());
  std::int32_t before = 0, drawn = 0;
  bool adds = false;
  for (int i = 0; i < plan.size(); ++i) {
    Stage& row = rows[static_cast<std::size_t>(i)];
    const int k = noise_term(row, i, before);
    before += row.draws;
    adds = adds || k >= 0;
    const double weight = k >= 0 ? row.noise[static_cast<std::size_t>(k)].weight : 1;
    row.noise = {};
    row.draws = k >= 0 || carry_remainder ? 1 : 0;
    if (k < 0) row.noise_scale = {};
    if (row.draws == 1) row.noise[0] = {drawn++, weight};
  }
  if (!adds)
    fail(
        "no stage of the plan adds noise; edit-friendly inversion needs a sampler that does (eta > "
        "0), one without is for invert");
  return SamplingPlan(std::move(rows), plan.traits());
}

/// Finds the noise maps, a stage after the other.
template <class Loop, State T>
class NoiseMaps {
 public:
  NoiseMaps(Loop& loop, DdpmInversion<T>& found) : loop_(loop), found_(found) {}

  /// Takes states[k + 1] as where stage k should lead, and leaves there where it does lead. `bare`:
  /// the sampler's own row adds no noise.
  void solve(int k, bool bare) {
    Stage stage = found_.plan[k];
    const bool noisy = stage.draws == 1;
    if (noisy) stage.noise[0].source = 0;
    stage.keep = -1;
    const PlanView view{{&stage, 1}, found_.plan.traits()};
    const T& x = found_.states[static_cast<std::size_t>(k)];
    T& target = found_.states[static_cast<std::size_t>(k) + 1];

    auto silent = loop_.start(view, x, ConstantNoise{0});
    if (stage.ask) loop_.ask_network(silent, {k, stage.step - first_step(), found_.plan.steps()});
    const auto answer = silent.output();
    const T mean = after(std::move(silent));
    if (bare)
      found_.remainder =
          (std::max)(found_.remainder, worst_sample_error(target, mean, loop_.blocks()));
    if (!noisy) {
      target = mean;
      return;
    }
    std::vector<double> map = difference(target, mean);
    if (stage.noise_scale.kind == NoiseScale::Kind::fixed) {
      for (double& z : map) z /= stage.noise[0].weight;
    } else {
      const std::vector<double> weight =
          difference(after(with(view, x, answer, ConstantNoise{1})), mean);
      for (std::size_t i = 0; i < map.size(); ++i) map[i] = weight[i] != 0 ? map[i] / weight[i] : 0;
    }
    target = after(with(view, x, answer, MapNoise{map.data(), loop_.blocks().size}));
    found_.maps.push_back(std::move(map));
  }

 private:
  int first_step() const { return found_.plan[0].step; }

  template <class Output, class N>
  Stepper<T, N> with(const PlanView& view, const T& x, const Output& answer, const N& noise) const {
    auto run = loop_.start(view, x, noise);
    run.output() = answer;
    return run;
  }

  template <class Run>
  T after(Run run) const {
    run.advance();
    if (!run.finite())
      fail(
          "the state is not finite in an inversion; look at the network's output, the prediction "
          "type and the range of the data");
    return std::move(run).state();
  }

  std::vector<double> difference(const T& a, const T& b) const {
    const auto* of_a = StateTraits<T>::data(a);
    const auto* of_b = StateTraits<T>::data(b);
    std::vector<double> d(loop_.blocks().total());
    for (std::size_t i = 0; i < d.size(); ++i)
      d[i] = static_cast<double>(of_a[i]) - static_cast<double>(of_b[i]);
    return d;
  }

  Loop& loop_;
  DdpmInversion<T>& found_;
};

/// x = alpha x0 + sigma n at a level, n being draw `draw` of the source.
template <State T, class N>
T noised_picture(const T& x0, const Knot& at, N& noise, std::uint64_t draw, const Blocks& blocks) {
  using Real = Compute<ScalarOf<T>>;
  T x = x0;
  auto* data = StateTraits<T>::data(x);
  for_each_normal<Real>(noise, draw, blocks, [&](std::size_t i, Real n) {
    data[i] = static_cast<ScalarOf<T>>(at.alpha * static_cast<double>(data[i]) +
                                       at.sigma * static_cast<double>(n));
  });
  return x;
}

}  // namespace detail

/// Edit-friendly inversion of a sampler that adds noise (Huberman-Spiegelglas, Kulikov and Michaeli
/// 2023, arXiv 2304.06140, algorithm 1): the picture is noised to the level of every stage, each
/// time with noise of its own, and the noise that the sampler would have to add to go from one such
/// state to the next is solved for. These maps are larger than normal noise and hold the picture's
/// layout: run with them under another condition, the sampler keeps it.
///
///     const auto found = invert_ddpm(sampler, source, picture, PhiloxNoise{1});
///     Image edited = resume(found, target, 20);  // another condition, from stage 20 on
///
/// `noise` gives the draws 0, 1, ... for the stages (a sequential source in that order). For every
/// sampler whose stages stand alone: DDPM (also with a learned variance), DDIM with eta > 0, Euler
/// ancestral, LCM. Fails for others, and where none of the stages adds noise. Where the grid ends
/// with noise left, the picture counts as the state there.
template <PlansOnGrids Sampler, class D, ReadableState X, class N>
DdpmInversion<TensorOf<X>> invert_ddpm(const Sampler& sampler, D&& denoiser, const X& picture,
                                       N&& noise, const DdpmInversionOptions& options = {},
                                       const SampleOptions& run = {}) {
  static_assert(NoiseSource<std::remove_cvref_t<N>>,
                "a noise source needs fill(sample, draw, element, span<float>) const, or "
                "fill(span<float>) and fill(span<double>)");
  using T = TensorOf<X>;
  const Grid grid = detail::inverted_steps(
      sampler.grid(), {.skip_noisy = options.skip_noisy, .skip_clean = options.skip_clean});
  const SamplingPlan plan = sampler.plan(grid);
  DdpmInversion<T> found{detail::rows_with_noise(plan, options.carry_remainder), {}, {}};
  const T copy = detail::owned_copy(picture);
  using Loop = detail::InversionLoop<std::remove_reference_t<D>, T>;
  Loop loop(denoiser, copy, run, plan.view().learns_variance());
  detail::require_draws(noise, static_cast<std::size_t>(found.plan.size()), loop.blocks());
  for (int k = 0; k < found.plan.size(); ++k)
    found.states.push_back(detail::noised_picture(copy, found.plan[k].at, noise,
                                                  static_cast<std::uint64_t>(k), loop.blocks()));
  found.states.push_back(copy);
  detail::NoiseMaps<Loop, T> maps(loop, found);
  for (int k = 0; k < found.plan.size(); ++k) {
    if (loop.late())
      fail(detail::text("the deadline has passed after ", k, " of ", found.plan.size(), " stages"));
    maps.solve(k, !detail::adds_noise(plan[k]));
  }
  found.network_calls = loop.network_calls();
  return found;
}

/// Samples from stage k of an edit-friendly inversion with its noise. Under the denoiser that was
/// inverted with this gives the picture back, up to rounding (and, without the remainder, up to
/// what the last row leaves); under another it is an edit, which keeps more the larger k is.
/// Callbacks and edits as for `sample_in_place`. Fails where the state is not finite.
template <State T, class D, class... Callbacks>
T resume(const DdpmInversion<T>& inversion, D&& denoiser, int k = 0, const SampleOptions& run = {},
         Callbacks&&... callbacks) {
  RecordedNoise noise = inversion.noise_from(k);
  T x = inversion.states[static_cast<std::size_t>(k)];
  const SampleResult result =
      sample_in_place(inversion.plan_from(k), denoiser, x, noise, run, callbacks...);
  if (result.status == Status::not_finite)
    fail(detail::text("the state is not finite after stage ", result.stage + k, " of ",
                      inversion.plan.size(),
                      "; look at the network's output, the prediction type and the range of the "
                      "data"));
  return x;
}

}  // namespace diffusion

#endif  // DIFFUSION_EDIT_DDPM_INVERSION_HPP
