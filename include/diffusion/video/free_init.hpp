#ifndef DIFFUSION_VIDEO_FREE_INIT_HPP
#define DIFFUSION_VIDEO_FREE_INIT_HPP

#include <diffusion/sampling/sample.hpp>
#include <diffusion/video/frequency_mix.hpp>

#include <cstddef>
#include <type_traits>
#include <utility>

namespace diffusion {

/// Options of sample_free_init. Plain data: threads may share what none of them writes.
struct FreeInitOptions {
  int iterations = 3;  ///< runs of the plan, at least 1; 1 is a plain run
  FrequencyFilter filter = FrequencyFilter::butterworth(4);
  /// The dimensions in which frequencies count: of (batch, channel, frame, height, width) 2, 3, 4.
  std::vector<FilterAxis> axes{};
  FrequencyMix mix = FrequencyMix::keep_variance;
};

/// FreeInit (Wu et al. 2023, arXiv 2312.07537): samples several times, each time from noise whose
/// low frequencies are those of the last result, noised again:
///
///     z = alpha x0 + sigma eps      the result at the plan's first level, with the first noise
///     x = low(z) + high(eta)        eta fresh: the next run's initial state
///
/// which brings what a network has seen as a noised clip and a random start nearer to each other;
/// frames flicker less. `iterations` times the network calls of one run.
///
/// An addressed source gives eps as draw 0 and the i-th eta as draw d + i of a plan with d draws
/// (BrownianNoise has none beyond the plan's); a sequential one gives everything in order. Returns
/// the last result; a run that a callback or the deadline ended is the last. Fails like `sample`,
/// for axes that the state has not, and filters outside [0, 1].
template <State T, class Plan, class D, class N, class... Callbacks>
TensorOf<T> sample_free_init(const Plan& plan, D&& denoiser, const ShapeOf<T>& shape, N&& noise,
                             const FreeInitOptions& init, const SampleOptions& options = {},
                             Callbacks&&... callbacks) {
  using Tensor = TensorOf<T>;
  using S = ScalarOf<Tensor>;
  using Real = detail::Compute<S>;
  detail::require_at_least("FreeInitOptions::iterations", init.iterations, 1);
  decltype(auto) table = detail::plan_of(plan);
  const PlanView view(table);
  detail::require_extents("the state", shape);
  detail::require_fit<Tensor>("the state", shape);
  detail::check_filter_axes<Tensor>(shape, init.axes);
  const Blocks blocks = blocks_of<Tensor>(shape, options.batch);
  const auto draws = static_cast<std::size_t>(view.draws()) + 1;
  const auto runs = static_cast<std::size_t>(init.iterations);
  if constexpr (AddressedNoise<std::remove_cvref_t<N>>)
    detail::require_draws(noise, draws + runs - 1, blocks);
  else
    detail::require_draws(noise, draws * runs, blocks);
  if (view.stages.empty()) fail("the plan has 0 stages; it needs at least 1");

  Tensor first = StateTraits<Tensor>::make(shape);  // scale eps
  Tensor fresh = StateTraits<Tensor>::make(shape);  // scale eta
  const double scale = view.traits.initial_scale;
  const auto draw = [&](std::size_t number, Tensor& to) {
    detail::for_each_normal<Real>(noise, number, blocks, [&](std::size_t i, Real n) {
      StateTraits<Tensor>::data(to)[i] = static_cast<S>(static_cast<Real>(scale) * n);
    });
  };
  draw(0, first);
  Tensor x = first;
  for (std::size_t run = 1;; ++run) {
    const SampleResult result = sample_in_place(table, denoiser, x, noise, options, callbacks...);
    if (result.status == Status::not_finite)
      fail(detail::text("the state of FreeInit's run ", run, " is not finite after stage ",
                        result.stage, " of ", view.size()));
    if (run == runs || !result.done()) return x;
    const Knot start = view.stages.front().at;
    const auto alpha = static_cast<Real>(start.alpha);
    const auto sigma = static_cast<Real>(start.sigma / scale);  // of what has been scaled
    S* z = StateTraits<Tensor>::data(x);
    for (std::size_t i = 0; i < blocks.total(); ++i)
      z[i] = static_cast<S>(alpha * static_cast<Real>(z[i]) +
                            sigma * static_cast<Real>(StateTraits<Tensor>::data(first)[i]));
    draw(draws + run - 1, fresh);
    mix_frequencies(x, fresh, x, init.axes, init.filter, init.mix);
  }
}

}  // namespace diffusion

#endif  // DIFFUSION_VIDEO_FREE_INIT_HPP
