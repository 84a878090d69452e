#ifndef DIFFUSION_SCHEDULE_SIGMA_GRID_HPP
#define DIFFUSION_SCHEDULE_SIGMA_GRID_HPP

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include <diffusion/error.hpp>
#include <diffusion/schedule/knot.hpp>
#include <diffusion/schedule/schedule.hpp>
#include <diffusion/schedule/sigma_spacing.hpp>

/// From levels s = sigma / alpha to the knots of any schedule, by its own inverse `time(log_snr)`.
namespace diffusion::detail {

/// The knot with sigma / alpha = s on the curve that `at`, whose own ratio is s but for rounding,
/// lies on: exploding (alpha = 1), straight (alpha + sigma = 1), or else the circle through it,
/// which variance preserving schedules are. What rounding is left is that of one division.
inline Knot with_ratio(const Knot& at, double s) {
  if (at.alpha == 1) return {at.t, 1, s};
  if (std::abs(at.alpha + at.sigma - 1) < 1e-15) return {at.t, 1 / (1 + s), s / (1 + s)};
  const double alpha = std::hypot(at.alpha, at.sigma) / std::hypot(1.0, s);
  return {at.t, alpha, s * alpha};
}

/// The levels of a schedule by s. Reads the schedule, which must outlive it.
template <class S>
class Levels {
 public:
  explicit Levels(const S& schedule)
      : schedule_(schedule),
        first_(schedule.first_time()),
        last_(schedule.last_time()),
        low_(ratio_of(knot_at(schedule, first_))),
        high_(ratio_of(knot_at(schedule, last_))) {}

  /// The least s that is not 0: the schedule's own, or that of `inner_time`.
  double least() const { return inner(low_, "least", "sigma_min", first_ + inwards()); }
  /// The largest finite s.
  double most() const { return inner(high_, "most", "sigma_max", last_ - inwards()); }

  /// s in the schedule's range. Published levels are rounded, so up to 1 % outside is the end.
  double within(const char* name, const double& s) const {
    if (is_nan(s) || s < 0.99 * low_ || s > 1.01 * high_)
      fail(text(name, " is ", s, "; sigma / alpha of this schedule lies in [", low_, ", ", high_,
                "]"));
    return (std::min)((std::max)(s, low_), high_);
  }

  /// The time of a level; whole where a discrete schedule has it to 12 digits.
  double time(double s) const {
    if (s >= high_) return last_;
    if (s <= low_) return first_;
    const double t = (std::min)((std::max)(schedule_.time(-2 * std::log(s)), first_), last_);
    if constexpr (DiscreteSchedule<S>) {
      const double whole = std::nearbyint(t);
      if (std::abs(t - whole) < 1e-6 &&
          std::abs(ratio_of(knot_at(schedule_, whole)) - s) <= 1e-12 * s)
        return whole;
    }
    return t;
  }

  /// The knot of a level: the table's where it has it, else with sigma / alpha = s.
  Knot knot(double s) const {
    const double t = time(s);
    const Knot at = knot_at(schedule_, t);
    const bool tabled = DiscreteSchedule<S> && t == std::nearbyint(t);
    return tabled || t == last_ || t == first_ ? at : with_ratio(at, s);
  }

 private:
  /// How far inside an end without a usable level the one lies that is taken for it: a timestep,
  /// or a thousandth of the range.
  double inwards() const { return DiscreteSchedule<S> ? 1 : (last_ - first_) / 1000; }

  double inner(double s, const char* end, const char* option, double inner_time) const {
    if (s > 0 && is_finite(s)) return s;
    const double stand_in =
        inner_time < first_ || inner_time > last_ ? s : ratio_of(knot_at(schedule_, inner_time));
    if (!(stand_in > 0) || !is_finite(stand_in))
      fail(text("sigma / alpha of the level of ", end, " noise is ", s,
                ", and of the one next to it ", stand_in, "; set SigmaSpacing::", option,
                " to a level of the schedule that is above 0 and finite"));
    return stand_in;
  }

  const S& schedule_;
  double first_, last_, low_, high_;
};

/// The knots of a rule of times: n of them, and the level at which the last would end.
template <class S>
std::vector<Knot> time_rule_knots(const S& schedule, int steps, const SigmaSpacing& spacing) {
  const Levels<S> levels(schedule);
  double first = schedule.first_time(), last = schedule.last_time();
  if (spacing.sigma_min > 0)
    first = levels.time(levels.within("SigmaSpacing::sigma_min", spacing.sigma_min));
  if (spacing.sigma_max > 0)
    last = levels.time(levels.within("SigmaSpacing::sigma_max", spacing.sigma_max));
  std::vector<double> times;
  if (spacing.rule == SigmaRule::beta_times)
    times = beta_times(steps, first, last, spacing.beta_a, spacing.beta_b);
  else if (spacing.rule == SigmaRule::sgm_uniform || !DiscreteSchedule<S>)
    times = sgm_uniform_times(steps, first, last);
  if constexpr (DiscreteSchedule<S>)
    if (spacing.rule == SigmaRule::simple)
      times = simple_timesteps(schedule.train_timesteps(), steps);
  times.push_back(first);
  std::vector<Knot> knots;
  for (const double t : times) knots.push_back(knot_at(schedule, t));
  return knots;
}

/// The knots of a rule of levels, the last one at the least of them.
template <class S>
std::vector<Knot> level_rule_knots(const S& schedule, int count, const SigmaSpacing& spacing) {
  const Levels<S> levels(schedule);
  double least = 0, most = 0;
  if (spacing.rule != SigmaRule::align_your_steps) {
    least = spacing.sigma_min > 0 ? levels.within("SigmaSpacing::sigma_min", spacing.sigma_min)
                                  : levels.least();
    most = spacing.sigma_max > 0 ? levels.within("SigmaSpacing::sigma_max", spacing.sigma_max)
                                 : levels.most();
  }
  std::vector<Knot> knots;
  for (const double s : spaced_sigmas(spacing, count, least, most))
    knots.push_back(levels.knot(levels.within("a level of the rule", s)));
  return knots;
}

/// The knots of own levels; 0 is clean data.
template <class S>
std::vector<Knot> own_sigma_knots(const S& schedule, const std::vector<double>& sigmas,
                                  const Knot& clean) {
  const Levels<S> levels(schedule);
  std::vector<Knot> knots;
  for (std::size_t i = 0; i < sigmas.size(); ++i) {
    const double& s = sigmas[i];
    if (i > 0 && !(s < sigmas[i - 1]))
      fail(text("own_sigmas[", i, "] is ", s, "; it must be less than own_sigmas[", i - 1,
                "] = ", sigmas[i - 1]));
    // By bits, since -ffast-math may take a NaN for equal to 0.
    const bool ends = magnitude_bits(s) == 0 && i > 0 && i + 1 == sigmas.size();
    knots.push_back(ends ? clean
                         : levels.knot(levels.within(text("own_sigmas[", i, "]").c_str(), s)));
  }
  return knots;
}

template <class S>
void tell(std::vector<Knot>& knots, ToldTime told) {
  if (told == ToldTime::exact) return;
  if (!DiscreteSchedule<S>)
    fail(text("SigmaSpacing::told is ", static_cast<int>(told),
              "; on a continuous schedule, which ",
              "has no whole timesteps, it must be exact (0)"));
  for (Knot& knot : knots)
    knot.t = told == ToldTime::nearest ? std::nearbyint(knot.t) : std::floor(knot.t);
}

/// Fails unless each knot has less noise than the one before.
inline void check_falling(const std::vector<Knot>& knots) {
  for (std::size_t i = 1; i < knots.size(); ++i)
    if (!(ratio_of(knots[i]) < ratio_of(knots[i - 1])))
      fail(text("sigma / alpha of level ", i, " is ", ratio_of(knots[i]),
                "; it must be below that of level ", i - 1, ", which is ", ratio_of(knots[i - 1])));
}

/// The knots that a run by levels goes through, first to last. `clean`: the knot of clean data, at
/// which it ends with `to_clean`; else it ends at the least of the levels.
template <class S>
std::vector<Knot> sigma_knots(const S& schedule, int steps, const SigmaSpacing& spacing,
                              const std::vector<double>& own_sigmas, bool to_clean,
                              const Knot& clean) {
  check_sigma_spacing(spacing);
  std::vector<Knot> knots;
  bool spare_end = true;  // whether the last knot is one that a run to clean data leaves out
  if (!own_sigmas.empty()) {
    knots = own_sigma_knots(schedule, own_sigmas, clean);
    spare_end = knots.back().sigma == 0;
    if (!to_clean && knots.size() < 2)
      fail(
          "own_sigmas has 1 entry; without set_alpha_to_one it must have at least 2, the last of "
          "them the end");
  } else {
    require_range("steps", steps, 1, max_levels - 1);
    if (is_time_rule(spacing.rule)) {
      knots = time_rule_knots(schedule, steps, spacing);
    } else {
      spare_end = !to_clean || spacing.rule == SigmaRule::align_your_steps;
      knots = level_rule_knots(schedule, spare_end ? steps + 1 : steps, spacing);
    }
  }
  if (to_clean && spare_end) knots.pop_back();
  tell<S>(knots, spacing.told);
  if (to_clean) knots.push_back(clean);
  check_falling(knots);
  return knots;
}

}  // namespace diffusion::detail

#endif  // DIFFUSION_SCHEDULE_SIGMA_GRID_HPP
