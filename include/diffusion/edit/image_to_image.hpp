#ifndef DIFFUSION_EDIT_IMAGE_TO_IMAGE_HPP
#define DIFFUSION_EDIT_IMAGE_TO_IMAGE_HPP

#include <diffusion/error.hpp>
#include <diffusion/plan/plan.hpp>
#include <diffusion/samplers/sampler.hpp>
#include <diffusion/sampling/sample.hpp>
#include <diffusion/schedule/grid.hpp>

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <type_traits>
#include <utility>
#include <vector>

/// Image to image (SDEdit: Meng et al. 2021, arXiv 2108.01073): a picture is noised to a level in
/// the middle of a grid and sampled from there. How far is said by a share of the steps or by a
/// level: two functions, since the two are not the same.
namespace diffusion {

/// The steps of `steps` that image to image of a strength in (0, 1] takes: floor(steps * strength)
/// with the product rounded as a double, at most all. That is diffusers' rule, init_timestep =
/// min(int(n * strength), n), with its trap: 0.29 of 100 steps is 28, as 0.29 * 100 is just below
/// 29 in binary. 0: the strength is too small for that many steps.
inline int steps_of_strength(int steps, double strength) {
  detail::require_at_least("steps", steps, 1);
  if (detail::is_nan(strength) || !(strength > 0 && strength <= 1))
    fail(detail::text("the strength is ", strength, "; it must lie in (0, 1]"));
  return static_cast<int>((std::min)(std::floor(steps * strength), static_cast<double>(steps)));
}

/// By share of the steps: the last `steps_of_strength` of a grid. How much noise that is depends on
/// the spacing. Fails where no step is left.
inline Grid grid_from_strength(const Grid& grid, double strength) {
  const int steps = steps_of_strength(grid.size(), strength);
  if (steps == 0)
    fail(detail::text("the strength is ", strength, "; of ", grid.size(),
                      " steps that leaves none, it must be at least ", 1.0 / grid.size()));
  return grid.cut(grid.size() - steps);
}

/// By noise level: the part of a grid that starts at the level nearest to s = sigma / alpha in log
/// s, among those where a step of it starts. Fails unless s > 0 is finite.
inline Grid grid_from_level(const Grid& grid, double s) {
  detail::require_range("the level s = sigma / alpha", s, 1e-300, 1e300);
  int nearest = -1;
  double least = 0;
  for (int i = 0; i < grid.size(); ++i) {
    const Knot& from = grid[i].from;
    if (from.sigma == 0 || from.alpha == 0) continue;
    const double distance = std::abs(std::log(detail::ratio_of(from) / s));
    if (nearest >= 0 && distance >= least) continue;
    nearest = i;
    least = distance;
  }
  if (nearest < 0) fail("no step of the grid starts with noise and signal both");
  return grid.cut(nearest);
}

/// By noise level, exactly: starts at s = sigma / alpha itself, by a first step of its own to the
/// grid's next level below. `between` is `knots_between(sampler.schedule(), grid)`. Fails unless s
/// lies above the grid's last level and at most at its first.
inline Grid grid_from_level(const Grid& grid, double s, const KnotAt& between) {
  detail::require_range("the level s = sigma / alpha", s, 1e-300, 1e300);
  detail::require_knots(between, "a grid that starts at a level of its own");
  constexpr double rounding = 1e-9;
  const double most = detail::ratio_of(grid.start()), end = detail::ratio_of(grid.finish());
  if (!(s <= most * (1 + rounding) && s > end * (1 + rounding)))
    fail(detail::text("the level s = sigma / alpha is ", s, "; it must be above ", end,
                      ", where the grid ends, and at most ", most, ", where it starts"));
  int i = 0;  // the step in which it lies
  while (detail::ratio_of(grid[i].to) >= s * (1 - rounding)) ++i;
  const Grid rest = grid.cut(i);
  if (std::abs(detail::ratio_of(rest.start()) - s) <= rounding * s) return rest;
  std::vector<GridStep> steps(rest.begin(), rest.end());
  steps.front().from = between(-2 * std::log(s));
  StateSpace space = rest.space();
  space.initial_scale = 0;
  return Grid(std::move(steps), rest.first_step(), space);
}

/// A picture with noise at the level where a plan starts: alpha y + sigma n, n the noise that a run
/// from the same source begins with (draw 0).
template <ReadableState P, class N>
TensorOf<P> noised_start(const PlanView& plan, const P& picture, N& noise, bool batch = true) {
  using Tensor = TensorOf<P>;
  using Real = detail::Compute<ScalarOf<Tensor>>;
  if (plan.stages.empty()) fail("the plan has 0 stages; it needs at least 1");
  const auto shape = StateTraits<P>::shape(picture);
  detail::require_extents("the picture", shape);
  const Knot at = plan.stages.front().at;
  const auto alpha = static_cast<Real>(at.alpha), sigma = static_cast<Real>(at.sigma);
  const auto* y = StateTraits<P>::data(picture);
  Tensor x = StateTraits<Tensor>::make(shape);
  auto* to = StateTraits<Tensor>::data(x);
  detail::for_each_normal<Real>(noise, 0, blocks_of<P>(shape, batch), [&](std::size_t i, Real n) {
    to[i] = static_cast<ScalarOf<Tensor>>(alpha * static_cast<Real>(y[i]) + sigma * n);
  });
  return x;
}

/// Image to image with a plan of one's own, such as `repaint_plan` of a part of a grid: noises the
/// picture to the level where the plan starts, samples, and returns the result. Callbacks and edits
/// as for `sample`. Fails like `sample`.
template <ReadableState P, class D, class N, class... Callbacks>
TensorOf<P> image_to_image(const SamplingPlan& plan, D&& denoiser, const P& picture, N&& noise,
                           const SampleOptions& options = {}, Callbacks&&... callbacks) {
  using Tensor = TensorOf<P>;
  using Held = detail::HeldNoise<N&&>;
  const auto shape = StateTraits<P>::shape(picture);
  detail::require_extents("the picture", shape);
  SampleOptions checked = options;  // all of it before the source gives its first number
  checked.prediction_type = diffusion::prediction_type_of(denoiser, options.prediction_type);
  const Blocks blocks = Stepper<Tensor, Held>::check(
      plan, shape, checked, diffusion::declared_output_shape<Tensor>(denoiser, shape));
  detail::RunNoise<ScalarOf<Tensor>, Held>::require(noise, plan, blocks, true);
  Tensor x = noised_start(plan.view(), picture, noise, options.batch);
  const SampleResult result =
      sample_in_place(plan, denoiser, x, noise, options, std::forward<Callbacks>(callbacks)...);
  if (result.status == Status::not_finite)
    fail(detail::text("the state is not finite after stage ", result.stage, " of ", plan.size(),
                      "; look at the picture, the network's output and the prediction type"));
  return x;
}

/// A sampler that makes plans on parts of its grid: all of the library's are.
template <class Sampler>
concept PlansGrids = requires(const Sampler& sampler, const Grid& grid) {
  { sampler.grid() } -> std::same_as<Grid>;
  { sampler.plan(grid) } -> std::same_as<SamplingPlan>;
};

/// Image to image from where `start` starts, a part of the sampler's grid (`grid_from_level`,
/// `grid_from_strength`). The plan is made anew for it, so that a multistep method begins there at
/// its first order, and the noise is added at the very level of its first stage.
template <PlansGrids Sampler, ReadableState P, class D, class N, class... Callbacks>
TensorOf<P> image_to_image(const Sampler& sampler, D&& denoiser, const P& picture,
                           const Grid& start, N&& noise, const SampleOptions& options = {},
                           Callbacks&&... callbacks) {
  return image_to_image(sampler.plan(start), denoiser, picture, noise, options,
                        std::forward<Callbacks>(callbacks)...);
}

/// Image to image by a strength, a share in (0, 1] of the sampler's steps.
///
///     Image changed = image_to_image(sampler, network, picture, 0.6, PhiloxNoise{42}, options);
template <PlansGrids Sampler, ReadableState P, class D, std::floating_point Strength, class N,
          class... Callbacks>
TensorOf<P> image_to_image(const Sampler& sampler, D&& denoiser, const P& picture,
                           Strength strength, N&& noise, const SampleOptions& options = {},
                           Callbacks&&... callbacks) {
  return image_to_image(sampler, denoiser, picture,
                        grid_from_strength(sampler.grid(), static_cast<double>(strength)), noise,
                        options, std::forward<Callbacks>(callbacks)...);
}

}  // namespace diffusion

#endif  // DIFFUSION_EDIT_IMAGE_TO_IMAGE_HPP
