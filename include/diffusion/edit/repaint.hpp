#ifndef DIFFUSION_EDIT_REPAINT_HPP
#define DIFFUSION_EDIT_REPAINT_HPP

#include <diffusion/error.hpp>
#include <diffusion/plan/join.hpp>
#include <diffusion/plan/plan.hpp>
#include <diffusion/schedule/grid.hpp>

#include <algorithm>
#include <concepts>
#include <optional>
#include <utility>
#include <vector>

namespace diffusion {

/// Options of `repaint_plan`. Plain data: threads may share what none of them writes.
struct RepaintOptions {
  int jump_length = 10;    ///< steps that a jump goes back, >= 1 (the paper's j)
  int jump_n_sample = 10;  ///< how often each stretch is sampled, 1 to 10'000 (the paper's r)
  /// The last place to jump from: the clean end, as in diffusers, which then jumps at most to where
  /// the first step ends; else one step before the end, as in the authors' code.
  bool from_clean = false;
};

namespace detail {

/// The places from which a run of n steps jumps back, in steps that are still to be done, in the
/// order in which it comes to them: jump_length apart, the last one 1 (0 with from_clean), and none
/// so high that a jump led above the start (with from_clean: to it).
inline std::vector<int> repaint_places(int n, const RepaintOptions& options) {
  require_range("RepaintOptions::jump_length", options.jump_length, 1, 1'000'000);
  require_range("RepaintOptions::jump_n_sample", options.jump_n_sample, 1, 10'000);
  const int last = options.from_clean ? 0 : 1, highest = options.from_clean ? n - 1 : n;
  std::vector<int> places;
  for (int place = last; place + options.jump_length <= highest; place += options.jump_length)
    places.push_back(place);
  std::reverse(places.begin(), places.end());
  return places;
}

/// A grid's steps that a run takes in one go: from where `begin` steps are still to be done, to
/// where `end` are. `jumps`: it then goes back.
struct RepaintStretch {
  int begin, end;
  bool jumps;
};

/// The whole walk over n steps.
inline std::vector<RepaintStretch> repaint_walk(int n, const RepaintOptions& options) {
  std::vector<RepaintStretch> walk;
  int begin = n;
  for (const int place : repaint_places(n, options))
    for (int k = 1; k < options.jump_n_sample; ++k) {
      walk.push_back({begin, place, true});
      begin = place + options.jump_length;
    }
  walk.push_back({begin, 0, false});
  return walk;
}

}  // namespace detail

/// The plan of RePaint (Lugmayr et al. 2022, arXiv 2201.09865, section 4.2) on any sampler's grid:
/// the run jumps back by `jump_length` steps at places that far apart, until each stretch has been
/// sampled `jump_n_sample` times, so that what is filled in can settle with what is known. A jump
/// is one stage without a network call that adds the noise of its levels. The plan alone samples as
/// the sampler does and keeps the laws if that does; with `Inpaint` beside it, it is RePaint.
/// `plan_of(grid)` is the sampler's plan on a part of the run; a multistep method starts anew after
/// each jump. The network calls are those of all the parts.
///
/// Fails where a jump is to be made and none fits into the grid.
template <class PlanOf>
SamplingPlan repaint_plan(const Grid& grid, const PlanOf& plan_of, const RepaintOptions& options) {
  const int n = grid.size();
  if (options.jump_n_sample > 1 && detail::repaint_places(n, options).empty())
    fail(detail::text("RepaintOptions::jump_length is ", options.jump_length, "; with ", n,
                      " steps it must be at most ", n - 1, " (or jump_n_sample 1: no jumps)"));
  PlanJoin join;
  std::optional<Knot> below;  // where the next jump starts
  for (const auto& stretch : detail::repaint_walk(n, options)) {
    const SamplingPlan part = plan_of(grid.cut(n - stretch.begin, n - stretch.end));
    if (below) join.add_noise(*below, part[0].at);
    join.add(part);
    below = part[part.size() - 1].to;
  }
  return std::move(join).plan();
}

/// The same with a sampler on its own grid.
template <class Sampler>
requires requires(const Sampler& sampler, const Grid& grid) {
  { sampler.plan(grid) } -> std::same_as<SamplingPlan>;
  { sampler.grid() } -> std::same_as<Grid>;
}
SamplingPlan repaint_plan(const Sampler& sampler, const RepaintOptions& options = {}) {
  return repaint_plan(
      sampler.grid(), [&](const Grid& part) { return sampler.plan(part); }, options);
}

}  // namespace diffusion

#endif  // DIFFUSION_EDIT_REPAINT_HPP
