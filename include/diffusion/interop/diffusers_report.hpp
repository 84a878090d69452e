#ifndef DIFFUSION_INTEROP_DIFFUSERS_REPORT_HPP
#define DIFFUSION_INTEROP_DIFFUSERS_REPORT_HPP

#include <diffusion/interop/diffusers_config.hpp>
#include <diffusion/interop/plan_difference.hpp>
#include <diffusion/plan/lowering.hpp>

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>
#include <vector>

/// What a person wants to know of a scheduler configuration before a run: what will surprise, and
/// where Python's behaviour and the samplers' own differ.
namespace diffusion {

namespace detail {

/// A share of one in percent, with two digits.
inline std::string percent(double share) {
  return brief(100 * share, share < 0.995 ? 2 : 3) + " %";
}

inline double deviation(const Knot& knot) { return std::hypot(knot.alpha, knot.sigma); }

/// Whether a plan leads from data to noise.
inline bool inverts(const SamplingPlan& plan) {
  return plan.stages().back().to.log_snr() < plan[0].at.log_snr();
}

inline void warn_about_start(const DiffusersConfig& config, const SamplingPlan& plan,
                             std::vector<std::string>& warnings) {
  constexpr double unseen = 0.02;
  const Knot& start = plan[0].at;
  const double signal = start.alpha / deviation(start);
  if (inverts(plan) || signal <= unseen) return;
  warnings.push_back(text("starts at t=", brief(start.t),
                          config.betas ? text(" of ", config.train_timesteps) : std::string(), ": ",
                          percent(signal), " of the signal is assumed absent"));
}

inline void warn_about_end(const SamplingPlan& plan, std::vector<std::string>& warnings) {
  constexpr double unseen = 0.001;
  const Stage& last = plan.stages().back();
  if (inverts(plan)) return;
  if (last.to.sigma / deviation(last.to) > unseen)
    warnings.push_back(text("ends at sigma=", brief(last.to.sigma),
                            ": noise of this deviation stays in the result"));
  double added = 0;
  for (const Term& term : last.noise) added = std::hypot(added, term.weight);
  if (last.to.sigma == 0 && added > unseen)
    warnings.push_back(text("the last stage adds noise of deviation ", brief(added),
                            " to clean data, and nothing removes it"));
}

inline void warn_about_continuity(const SamplingPlan& plan, std::vector<std::string>& warnings) {
  constexpr double unseen = 1e-4;
  double worst = 0;
  int where = 0, count = 0;
  for (int i = 0; i + 1 < plan.size(); ++i) {
    const Knot &to = plan[i].to, &next = plan[i + 1].at;
    const double gap =
        (std::max)(std::abs(to.alpha - next.alpha), std::abs(to.sigma - next.sigma)) /
        (std::max)(1.0, deviation(next));
    if (gap > unseen) ++count;
    if (gap <= worst * (1 + 1e-9)) continue;  // of equal ones the first, whatever the rounding
    worst = gap;
    where = i;
  }
  if (count == 0) return;
  const Knot &to = plan[where].to, &next = plan[where + 1].at;
  warnings.push_back(text(counted(count, "stage"), " of ", plan.size(),
                          count == 1 ? " does" : " do",
                          " not end where the next begins; the worst, number ", where,
                          ", ends at alpha=", brief(to.alpha), " sigma=", brief(to.sigma),
                          ", and the next takes the state for one of alpha=", brief(next.alpha),
                          " sigma=", brief(next.sigma)));
}

inline void warn_about_prediction(const DiffusersConfig& config, const SamplingPlan& plan,
                                  std::vector<std::string>& warnings) {
  try {
    for (const Stage& stage : plan.stages()) lower(stage, plan.traits(), config.prediction_type);
  } catch (const Error& error) {
    warnings.push_back(text("cannot be run: ", error.what()));
  }
}

/// A plan, or why there is none. Plain data: threads may share what none of them writes.
struct PlanAttempt {
  std::optional<SamplingPlan> plan = {};
  std::string refusal = {};
};

/// The run of a configuration that is read in one of the two ways. Used by one thread.
class RunReading {
 public:
  RunReading(const DiffusersConfig& config, Behaviour behaviour, const DiffusersRun& run)
      : run_(run) {
    try {
      config_ = read_diffusers_config(config.given,
                                      {.behaviour = behaviour, .load_as = config.class_name});
      grid_ = config_.grid(run);
    } catch (const Error& error) {
      refusal_ = error.what();
    }
  }

  const std::optional<Grid>& grid() const { return grid_; }

  /// The plan from a step of the grid on.
  PlanAttempt plan(int begin) const {
    if (!grid_) return {std::nullopt, refusal_};
    try {
      return {config_.plan(grid_->cut(begin), run_), {}};
    } catch (const Error& error) {
      return {std::nullopt, error.what()};
    }
  }

  /// The step that starts at a level; none: the step of that number.
  int step_from(const Knot& level, int number) const {
    for (int i = 0; i < grid_->size(); ++i)
      if (same_level((*grid_)[i].from, level, 1e-9 * deviation(level))) return i;
    return (std::min)(number, grid_->size() - 1);
  }

 private:
  const DiffusersRun& run_;
  DiffusersConfig config_;
  std::optional<Grid> grid_;
  std::string refusal_;
};

inline std::vector<PlanDifference> differences(const PlanAttempt& python, const PlanAttempt& ours) {
  if (!python.plan && !ours.plan) fail(ours.refusal);
  if (!python.plan) return {{"refusal", "Python's is refused: " + python.refusal}};
  if (!ours.plan) return {{"refusal", "ours is refused: " + ours.refusal}};
  return PlanComparison(*python.plan, *ours.plan).found();
}

/// What differs in a run that begins in the middle of Python's grid and with a picture, not with
/// noise.
inline std::vector<PlanDifference> later_differences(const RunReading& python,
                                                     const RunReading& ours) {
  const int begin = python.grid()->size() / 2;
  const Knot level = (*python.grid())[begin].from;
  const PlanAttempt theirs = python.plan(begin), own = ours.plan(ours.step_from(level, begin));
  if (!theirs.plan && !own.plan) return {};  // such a run cannot be cut at all
  std::vector<PlanDifference> found;
  for (const PlanDifference& difference : differences(theirs, own))
    if (difference.kind != "start")
      found.push_back({difference.kind, text("begun at t=", brief(level.t),
                                             " (image to image): ", difference.sentence)});
  return found;
}

}  // namespace detail

/// What of a run may not be what was meant, one sentence each: signal that is assumed absent at the
/// start (from 2 % on), noise left at the end, steps that do not meet, levels at which the
/// network's prediction does not tell what the plan needs. Empty: nothing to say. Fails where the
/// run has no plan.
inline std::vector<std::string> warnings(const DiffusersConfig& config, const DiffusersRun& run) {
  const SamplingPlan plan = config.plan(run);
  std::vector<std::string> found;
  detail::warn_about_start(config, plan, found);
  detail::warn_about_end(plan, found);
  detail::warn_about_continuity(plan, found);
  detail::warn_about_prediction(config, plan, found);
  return found;
}

/// Where Python's behaviour and the samplers' own differ for this configuration and run, one
/// sentence each, Python's first; whichever way `config` was read. Then what differs besides in a
/// run that begins in the middle of the grid, as image to image does. Empty: nowhere but in
/// rounding. Fails where both refuse the run.
inline std::vector<std::string> behaviour_differences(const DiffusersConfig& config,
                                                      const DiffusersRun& run) {
  const detail::RunReading python(config, Behaviour::compatible, run);
  const detail::RunReading ours(config, Behaviour::correct, run);
  auto found = detail::differences(python.plan(0), ours.plan(0));
  if (python.grid() && ours.grid()) {
    const auto has = [&](const std::string& kind) {
      return std::any_of(found.begin(), found.end(),
                         [&](const detail::PlanDifference& one) { return one.kind == kind; });
    };
    for (const auto& later : detail::later_differences(python, ours))
      if (!has(later.kind)) found.push_back(later);
  }
  std::vector<std::string> sentences;
  for (const auto& difference : found) sentences.push_back(difference.sentence);
  return sentences;
}

}  // namespace diffusion

#endif  // DIFFUSION_INTEROP_DIFFUSERS_REPORT_HPP
