#ifndef DIFFUSION_SCHEDULE_GRID_HPP
#define DIFFUSION_SCHEDULE_GRID_HPP

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include <diffusion/error.hpp>
#include <diffusion/schedule/knot.hpp>
#include <diffusion/schedule/schedule.hpp>
#include <diffusion/schedule/sigma_grid.hpp>
#include <diffusion/schedule/sigma_spacing.hpp>
#include <diffusion/schedule/timesteps.hpp>

namespace diffusion {

/// One step of a sampler: the noise level that it starts from and the one that it ends at. Plain
/// data: threads may share what none of them writes.
struct GridStep {
  Knot from, to;
  friend bool operator==(const GridStep&, const GridStep&) = default;
};

/// How the state of a run is written down, and what a network sees of it. Plain data: threads may
/// share what none of them writes.
struct StateSpace {
  /// > 0: the network sees x / sqrt(sigma^2 + sigma_data^2 alpha^2), its input's deviation for data
  /// of this one (EDM: Karras et al. 2022, arXiv 2206.00364, table 1; 1 for a variance preserving
  /// network whose state is x / alpha). 0: it sees x itself.
  double sigma_data = 0;
  /// > 0: the initial state is this times standard normal noise. 0: sqrt(alpha^2 + sigma^2) of the
  /// first knot.
  double initial_scale = 0;
  friend bool operator==(const StateSpace&, const StateSpace&) = default;
};

/// The steps of one run, in order. What samplers make plans from, and what edits act on: cut it to
/// start in the middle (image to image), reverse it (inversion). Immutable, so threads may share
/// it; never empty.
class Grid {
 public:
  /// Fails unless there is a step and every knot has a finite t and finite alpha, sigma >= 0 that
  /// are not both 0. `first_step` >= 0 is the number of steps[0] in the grid that this is part of.
  explicit Grid(std::vector<GridStep> steps, int first_step = 0, StateSpace space = {})
      : steps_(std::move(steps)), first_step_(first_step), space_(space) {
    if (steps_.empty()) fail("a grid has 0 steps; it must have at least 1");
    detail::require_at_least("first_step", first_step, 0);
    detail::require_range("StateSpace::sigma_data", space.sigma_data, 0.0, 1e6);
    detail::require_range("StateSpace::initial_scale", space.initial_scale, 0.0, 1e6);
    for (std::size_t i = 0; i < steps_.size(); ++i) {
      check(steps_[i].from, i, "from");
      check(steps_[i].to, i, "to");
    }
  }

  /// From each knot to the next: n knots, n >= 2, make n - 1 steps.
  static Grid through(std::span<const Knot> knots, StateSpace space = {}) {
    detail::require_at_least("number of knots", knots.size(), std::size_t{2});
    std::vector<GridStep> steps;
    for (std::size_t i = 0; i + 1 < knots.size(); ++i) steps.push_back({knots[i], knots[i + 1]});
    return Grid(std::move(steps), 0, space);
  }

  int size() const { return static_cast<int>(steps_.size()); }
  /// Step i, 0 <= i < size(), unchecked.
  const GridStep& operator[](int i) const { return steps_[static_cast<std::size_t>(i)]; }
  auto begin() const { return steps_.begin(); }
  auto end() const { return steps_.end(); }

  /// Where the run starts: the level of the state that is given to the first step.
  Knot start() const { return steps_.front().from; }
  /// Where the run ends.
  Knot finish() const { return steps_.back().to; }

  /// The number of the first step in the grid that this one was cut from; 0 for a whole one.
  int first_step() const { return first_step_; }

  const StateSpace& space() const { return space_; }
  /// The same steps for a state that is written down otherwise.
  Grid with_space(StateSpace space) const { return Grid(steps_, first_step_, space); }

  /// What the network's input is, times the state, at a level of this grid.
  double input_scale(const Knot& at) const {
    if (space_.sigma_data == 0) return 1;
    return 1 / std::hypot(at.sigma, space_.sigma_data * at.alpha);
  }

  /// The same run with x / alpha as its state, as k-diffusion writes it: every knot becomes
  /// (1, sigma / alpha), and the network's input stays what it was. Fails where alpha is 0.
  Grid in_sigma_space() const {
    const auto scaled = [](const Knot& knot) {
      if (knot.alpha == 0)
        fail(
            "a knot of the grid has alpha = 0; sigma / alpha is infinite there, so the state "
            "cannot be x / alpha: start from a level with some signal");
      return Knot{knot.t, 1, knot.sigma / knot.alpha};
    };
    std::vector<GridStep> steps;
    for (const GridStep& step : steps_) steps.push_back({scaled(step.from), scaled(step.to)});
    return Grid(std::move(steps), first_step_, {space_.sigma_data > 0 ? space_.sigma_data : 1, 0});
  }

  /// Whether each step starts from the level at which the one before ended.
  bool contiguous(double tolerance = 1e-12) const {
    for (int i = 0; i + 1 < size(); ++i)
      if (!same_level((*this)[i].to, (*this)[i + 1].from, tolerance)) return false;
    return true;
  }

  /// Steps begin, ..., size() - 1.
  Grid cut(int begin) const { return cut(begin, size()); }

  /// Steps begin, ..., end - 1; 0 <= begin < end <= size(). They keep their numbers: the result's
  /// first_step() is begin steps later.
  Grid cut(int begin, int end) const {
    detail::require_range("begin of the cut", begin, 0, size() - 1);
    detail::require_range("end of the cut", end, begin + 1, size());
    StateSpace space = space_;
    if (begin > 0) space.initial_scale = 0;
    return Grid({steps_.begin() + begin, steps_.begin() + end}, first_step_ + begin, space);
  }

  /// The same steps backwards: the last one first, each from its `to` to its `from`, knots
  /// unchanged. Numbered anew from 0.
  Grid reversed() const {
    std::vector<GridStep> steps;
    for (auto step = steps_.rbegin(); step != steps_.rend(); ++step)
      steps.push_back({step->to, step->from});
    return Grid(std::move(steps), 0, {space_.sigma_data, 0});
  }

  friend bool operator==(const Grid&, const Grid&) = default;

 private:
  static void check(const Knot& knot, std::size_t step, const char* end) {
    const auto require = [&](bool good, const char* part, double value, const char* limit) {
      if (!good)
        fail(detail::text(part, " of ", end, " in grid step ", step, " is ", value, "; it must be ",
                          limit));
    };
    require(detail::is_finite(knot.t), "t", knot.t, "finite");
    require(detail::is_finite(knot.alpha) && knot.alpha >= 0, "alpha", knot.alpha,
            "finite and at least 0");
    require(detail::is_finite(knot.sigma) && knot.sigma >= 0, "sigma", knot.sigma,
            "finite and at least 0");
    require(knot.alpha > 0 || knot.sigma > 0, "sigma", knot.sigma, "above 0 where alpha is 0");
  }

  std::vector<GridStep> steps_;
  int first_step_;
  StateSpace space_;
};

/// Where a step of a discrete schedule ends.
enum class PreviousTimestep {
  from_list,  ///< at the next timestep of the list: right for every spacing
  /// At t - N / n, rounded down, whatever the list says, as the reference's DDIM and PNDM do. The
  /// same for leading spacing, and for trailing where n divides N; else the grid is not contiguous.
  stride
};

/// How `make_grid` picks the steps. At most one of `timesteps`, `pairs`, `sigmas` and `own_sigmas`
/// may be given; `spacing` and `steps_offset` are then not used, nor, but with `sigmas`, the number
/// of steps. Plain data: threads may share what none of them writes.
struct GridOptions {
  TimestepSpacing spacing = TimestepSpacing::leading;
  int steps_offset = 0;  ///< added to leading and quadratic timesteps, 0 to N - 1
  /// End at clean data (1, 0), "final sigma zero"; else at the schedule's first level, or at the
  /// least of the levels of `sigmas` or `own_sigmas`, "final sigma_min".
  bool set_alpha_to_one = true;
  PreviousTimestep previous = PreviousTimestep::from_list;
  /// Own times, strictly falling, each in [first_time, last_time]; whole or not.
  std::vector<double> timesteps = {};
  /// Own steps (from, to): from in [first_time, last_time], to at most last_time and not equal to
  /// from; a `to` below first_time (a negative timestep) means past the end.
  std::vector<std::pair<double, double>> pairs = {};
  SigmaSpacing sigmas{};  ///< by sigma / alpha: Karras and others
  /// Own levels sigma / alpha, strictly falling, in the schedule's range (up to 1 % outside is its
  /// end). A last one of 0 is clean data, which is else added with `set_alpha_to_one`.
  std::vector<double> own_sigmas = {};
};

namespace detail {

/// What `make_grid` has to know of a schedule to pick times. Plain data: threads may share what
/// none of them writes.
struct TimeRange {
  double first, last;
  bool starts_clean;    ///< sigma(first) = 0
  int train_timesteps;  ///< 0: continuous
};

/// Times of n steps on a continuous schedule, see `make_grid`.
inline std::vector<double> spaced_times(const TimeRange& range, int steps,
                                        TimestepSpacing spacing) {
  require_range("steps", steps, 1, 1'000'000);
  const int even =
      spacing == TimestepSpacing::linspace && !range.starts_clean && steps > 1 ? steps - 1 : steps;
  std::vector<double> times;
  for (int i = 0; i < steps; ++i) {
    const double gone = static_cast<double>(i) / even;
    const double share = spacing == TimestepSpacing::quadratic ? gone * (2 - gone) : gone;
    times.push_back((std::max)(range.last - (range.last - range.first) * share, range.first));
  }
  return times;
}

/// Fails unless `value`, entry i of the list `name`, lies in [low, high].
inline void require_entry(const char* name, std::size_t i, const double& value, double low,
                          double high) {
  if (is_nan(value) || value < low || value > high)
    require_range(text(name, "[", i, "]").c_str(), value, low, high);
}

inline void check_times(const std::vector<double>& times, const TimeRange& range) {
  for (std::size_t i = 0; i < times.size(); ++i) {
    require_entry("timesteps", i, times[i], range.first, range.last);
    if (i > 0 && !(times[i] < times[i - 1]))
      fail(text("timesteps[", i, "] is ", times[i], "; it must be less than timesteps[", i - 1,
                "] = ", times[i - 1]));
    if (range.starts_clean && times[i] == range.first)
      fail(text("timesteps[", i, "] is ", times[i],
                ", where there is no noise to remove; it must be above ", range.first,
                " (the end of the last step is added)"));
  }
}

inline void check_pairs(const std::vector<std::pair<double, double>>& pairs,
                        const TimeRange& range) {
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    const auto& [from, to] = pairs[i];
    require_entry("from of pairs", i, from, range.first, range.last);
    if (is_nan(to) || to > range.last)
      fail(text("to of pairs[", i, "] is ", to, "; it must be at most ", range.last));
    if (from == to)
      fail(text("to of pairs[", i, "] is ", to, "; it must differ from `from`, which is the same"));
  }
}

/// Whether the options pick levels, not times. Fails where they say both.
inline bool picks_sigmas(const GridOptions& options) {
  const bool rule = options.sigmas.rule != SigmaRule::none, own = !options.own_sigmas.empty();
  if (!rule && !own) return false;
  if (rule && own)
    fail(text("own_sigmas has ", options.own_sigmas.size(),
              " entries; with a rule in GridOptions::sigmas it must be empty"));
  if (!options.timesteps.empty() || !options.pairs.empty())
    fail(text("timesteps has ", options.timesteps.size(), " and pairs ", options.pairs.size(),
              " entries; with ", own ? "own_sigmas" : "GridOptions::sigmas",
              " both must be empty"));
  require_enumerator("previous timestep", options.previous, 2);
  if (options.previous == PreviousTimestep::stride)
    fail("previous timestep is stride; steps between levels of sigma must be from_list");
  return true;
}

/// The (from, to) times of every step; a `to` below range.first is past the end.
inline std::vector<std::pair<double, double>> step_times(const TimeRange& range, int steps,
                                                         const GridOptions& options) {
  const int n = range.train_timesteps;
  require_range("spacing", static_cast<int>(options.spacing), 0, 3);
  require_range("previous timestep", static_cast<int>(options.previous), 0, 1);
  require_range(n == 0 ? "steps_offset of a continuous schedule" : "steps_offset",
                options.steps_offset, 0, (std::max)(n - 1, 0));
  if (n == 0 && options.previous == PreviousTimestep::stride)
    fail("previous timestep is stride; a continuous schedule has none, it must be from_list");
  if (!options.pairs.empty()) {
    if (!options.timesteps.empty())
      fail(text("timesteps has ", options.timesteps.size(), " entries beside ",
                options.pairs.size(), " pairs; one of the two must be empty"));
    check_pairs(options.pairs, range);
    return options.pairs;
  }
  std::vector<double> times = options.timesteps;
  if (!times.empty())
    check_times(times, range);
  else if (n == 0)
    times = spaced_times(range, steps, options.spacing);
  else
    times = spaced_timesteps(n, steps, options.spacing, options.steps_offset);

  if (options.previous == PreviousTimestep::stride)
    require_range("number of timesteps with stride", times.size(), std::size_t{1},
                  static_cast<std::size_t>(n));
  const double past_the_end = range.first - 1;
  const int stride = n / static_cast<int>(times.size());
  std::vector<std::pair<double, double>> pairs;
  for (std::size_t i = 0; i < times.size(); ++i) {
    const double next = i + 1 < times.size() ? times[i + 1] : past_the_end;
    pairs.emplace_back(times[i],
                       options.previous == PreviousTimestep::stride ? times[i] - stride : next);
  }
  return pairs;
}

/// The knot where sampling ends: clean data, or the level of least noise that was trained.
template <class S>
Knot end_knot(const S& schedule, bool set_alpha_to_one) {
  Knot end = knot_at(schedule, schedule.first_time());
  if (!set_alpha_to_one || end.sigma == 0) return end;
  return {DiscreteSchedule<S> ? -1 : end.t, 1, 0};
}

template <class S>
Grid grid_on(const S& schedule, int steps, const GridOptions& options) {
  TimeRange range{schedule.first_time(), schedule.last_time(), false, 0};
  require_at_least("last_time of the schedule", range.last, range.first);
  range.starts_clean = knot_at(schedule, range.first).sigma == 0;
  if constexpr (DiscreteSchedule<S>) range.train_timesteps = schedule.train_timesteps();
  if (picks_sigmas(options))
    return Grid::through(sigma_knots(schedule, steps, options.sigmas, options.own_sigmas,
                                     options.set_alpha_to_one, end_knot(schedule, true)));
  const Knot end = end_knot(schedule, options.set_alpha_to_one);
  std::vector<GridStep> grid;
  for (const auto& [from, to] : step_times(range, steps, options))
    grid.push_back({knot_at(schedule, from), to < range.first ? end : knot_at(schedule, to)});
  return Grid(std::move(grid));
}

}  // namespace detail

/// The grid of `steps` steps on any schedule.
///
/// Discrete schedules: the timesteps of the spacing (`spaced_timesteps`), each step ending at the
/// next; the last ends past the list, at (t = -1, alpha = 1, sigma = 0), or at the knot of
/// timestep 0 without `set_alpha_to_one`.
///
/// Continuous schedules have no N, so a spacing only says how the n times lie in
/// [first_time, last_time]. The first is always last_time. leading and trailing: evenly, each 1/n
/// of the range, ending at first_time. linspace: the same where first_time is free of noise; else
/// (variance exploding) first_time is itself the last of the n. quadratic: the distances to
/// first_time are the squares of even ones. The last step ends at first_time's knot, or, where
/// that has noise and with `set_alpha_to_one`, at (1, 0), told the same time.
///
/// By levels (`GridOptions::sigmas`), on every schedule: n levels s = sigma / alpha, then clean
/// data; without `set_alpha_to_one` n + 1 levels, so that every step leads to less noise. The knots
/// have s to rounding and are told `schedule.time(-2 log s)`. Where the schedule itself ends at
/// s = 0 or begins at s = infinity (zero terminal SNR), the rule's own end is the timestep next to
/// it, or, in continuous time, the level a thousandth of the time range inside.
///
/// Fails where an option or the number of steps is out of range, before anything is sampled.
template <class S>
Grid make_grid(const S& schedule, int steps, const GridOptions& options = {}) {
  detail::require_schedule<S>();
  if constexpr (Schedule<S>) return detail::grid_on(schedule, steps, options);
}

}  // namespace diffusion

#endif  // DIFFUSION_SCHEDULE_GRID_HPP
