#ifndef DIFFUSION_GUIDANCE_OPTIONS_HPP
#define DIFFUSION_GUIDANCE_OPTIONS_HPP

#include <diffusion/denoiser/query.hpp>
#include <diffusion/error.hpp>
#include <diffusion/schedule/knot.hpp>

#include <cstddef>
#include <functional>
#include <limits>
#include <vector>

namespace diffusion {

/// How guidance asks its network for the predictions of its branches.
enum class GuidanceCalls {
  /// Once for all branches of a network, on a batch so many times the size, the first branch first;
  /// Query::branch is 0 and Query::samples counts all of them. Unbatched states, and those whose
  /// type fixes the size of the batch, are asked separately all the same.
  joined,
  separate,  ///< once a branch, on the batch itself; Query::branch is the branch's number
};

/// What a scale means: with u the prediction without and c with the condition,
enum class ScaleConvention {
  g,  ///< u + g (c - u), as most programs have it: 1 is no guidance
  w,  ///< c + w (c - u), as the paper has it (arXiv 2207.12598, eq. 6): w = g - 1, 0 is no guidance
};

/// When guidance is on: by steps, as diffusers limits it, and by noise (Kynkaanniemi et al. 2024,
/// arXiv 2404.07724); both limits hold. Elsewhere only the conditional prediction is asked for and
/// is the answer. Plain data: threads may share what none of them writes.
struct GuidanceInterval {
  double start = 0;      ///< from step int(start n) of n on, 0 to 1
  double stop = 1;       ///< to before step int(stop n), start to 1
  double sigma_min = 0;  ///< above this sigma / alpha, >= 0; 0: no limit
  double sigma_max = std::numeric_limits<double>::infinity();  ///< and up to this, >= sigma_min
};

/// What all rules of guidance have in common. Plain data: threads may share what none of them
/// writes.
struct GuidanceOptions {
  double scale = 1;  ///< g of u + g (c - u): 1 is no guidance, 0 no condition; any finite number
  GuidanceCalls calls = GuidanceCalls::joined;
  /// 0 to 1: how far each sample's result is brought back to the standard deviation of c, against
  /// pictures that guidance makes too contrasty (Lin et al. 2023, arXiv 2305.08891, eq. 15, 16).
  double rescale = 0;
  ScaleConvention convention = ScaleConvention::g;  ///< what all the scales here mean
  std::vector<double> scales{};                     ///< if not empty: one a sample, for `scale`
  std::function<double(const Query&)> scale_at{};   ///< if set: the scale of a moment, for `scale`
  GuidanceInterval interval{};                      ///< when guidance is on
};

namespace detail {

inline void check(const GuidanceInterval& interval) {
  require_range("GuidanceInterval::start", interval.start, 0.0, 1.0);
  require_range("GuidanceInterval::stop", interval.stop, interval.start, 1.0);
  require_at_least("GuidanceInterval::sigma_min", interval.sigma_min, 0.0);
  require_at_least("GuidanceInterval::sigma_max", interval.sigma_max, interval.sigma_min);
}

inline void require_finite(const char* name, const double& value) {
  if (!is_finite(value)) fail(text(name, " is ", value, "; it must be finite"));
}

inline void check(const GuidanceOptions& options) {
  require_enumerator("GuidanceOptions::calls", options.calls, 2);
  require_enumerator("GuidanceOptions::convention", options.convention, 2);
  require_finite("GuidanceOptions::scale", options.scale);
  for (const double& scale : options.scales) require_finite("GuidanceOptions::scales", scale);
  require_range("GuidanceOptions::rescale", options.rescale, 0.0, 1.0);
  check(options.interval);
  if (!options.scales.empty() && options.scale_at)
    fail(
        "GuidanceOptions::scales and scale_at are both given; a sample's scale can come from one "
        "of them only");
}

/// Fails for the convention w, which not every rule has.
inline void require_convention_g(const char* rule, const GuidanceOptions& options) {
  if (options.convention != ScaleConvention::g)
    fail(text(rule, ": GuidanceOptions::convention is w; its scale is defined as g only"));
}

/// What is known of the moment for one sample of a batch: where samples differ in their times, its
/// own; where even parts of a sample do, its own list of them. Where the stage of one slice leads
/// is not known.
inline Query query_of_sample(const Query& query, std::size_t batch, std::size_t sample) {
  Query own = query;
  if (query.times.empty()) return own;
  own.to_alpha = own.to_sigma = std::numeric_limits<double>::quiet_NaN();
  const std::size_t slices = query.times.size() / batch;
  const auto part = [&](auto list) {
    return list.size() == query.times.size() ? list.subspan(sample * slices, slices)
                                             : list.first(0);
  };
  own.times = part(query.times);
  own.levels = part(query.levels);
  own.t = own.times[0];
  if (slices > 1 || own.levels.empty()) return own;
  own.alpha = own.levels[0].alpha;
  own.sigma = own.levels[0].sigma;
  own.times = {};
  own.levels = {};
  return own;
}

/// Whether the moment of one sample lies in the interval.
inline bool holds(const GuidanceInterval& interval, const Query& query) {
  const auto step = [&](double share) { return static_cast<int>(share * query.steps); };
  if (query.step < step(interval.start) || query.step >= step(interval.stop)) return false;
  if (interval.sigma_min == 0 && !(interval.sigma_max < std::numeric_limits<double>::infinity()))
    return true;
  if (!query.times.empty())
    fail(
        "GuidanceInterval: sigma_min and sigma_max are set, but parts of a sample differ in their "
        "levels; limit guidance by start and stop instead");
  const double s = ratio_of({query.t, query.alpha, query.sigma});
  return (interval.sigma_min == 0 || s > interval.sigma_min) && s <= interval.sigma_max;
}

/// The scale that leaves the conditional prediction as it is.
inline double neutral_scale(const GuidanceOptions& options) {
  return options.convention == ScaleConvention::g ? 1 : 0;
}

/// The scale of a sample at its moment, inside the interval or not.
inline double plain_scale(const GuidanceOptions& options, const Query& query, std::size_t sample) {
  if (!options.scales.empty()) return options.scales[sample];
  if (!options.scale_at) return options.scale;
  const double scale = options.scale_at(query);
  if (!is_finite(scale))
    fail(text("GuidanceOptions::scale_at gives ", scale, " at t = ", query.t,
              "; it must be finite"));
  return scale;
}

/// The scale of a sample at its moment, neutral outside the interval.
inline double scale_of(const GuidanceOptions& options, const Query& query, std::size_t sample) {
  return holds(options.interval, query) ? plain_scale(options, query, sample)
                                        : neutral_scale(options);
}

/// Whether f(query, sample) holds for a sample of the batch.
template <class F>
bool any_sample(const Query& query, std::size_t batch, const F& f) {
  for (std::size_t sample = 0; sample < batch; ++sample)
    if (f(query_of_sample(query, batch, sample), sample)) return true;
  return false;
}

/// Whether any sample's scale differs from the neutral one.
inline bool guides(const GuidanceOptions& options, const Query& query, std::size_t batch) {
  return any_sample(query, batch, [&](const Query& own, std::size_t sample) {
    return scale_of(options, own, sample) != neutral_scale(options);
  });
}

/// Whether any sample is in the interval.
inline bool any_inside(const GuidanceOptions& options, const Query& query, std::size_t batch) {
  return any_sample(query, batch,
                    [&](const Query& own, std::size_t) { return holds(options.interval, own); });
}

}  // namespace detail
}  // namespace diffusion

#endif  // DIFFUSION_GUIDANCE_OPTIONS_HPP
