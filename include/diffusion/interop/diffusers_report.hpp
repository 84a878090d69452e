#ifndef DIFFUSION_INTEROP_DIFFUSERS_REPORT_HPP
#define DIFFUSION_INTEROP_DIFFUSERS_REPORT_HPP

#include <diffusion/interop/diffusers_config.hpp>
#include <diffusion/plan/laws.hpp>
#include <diffusion/plan/lowering.hpp>
#include <diffusion/plan/print.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <optional>
#include <string>
#include <vector>

/// What a person wants to know of a scheduler configuration before a run: what will surprise, and
/// where Python's behaviour and the samplers' own differ.
namespace diffusion {

namespace detail {

inline std::string percent(double share) { return text(std::round(share * 1000) / 10, " %"); }

inline void warn_about_start(const DiffusersConfig& config, const SamplingPlan& plan,
                             std::vector<std::string>& warnings) {
  const Knot& start = plan[0].at;
  const double signal = start.alpha / std::hypot(start.alpha, start.sigma);
  if (config.class_name.find("Inverse") != std::string::npos || signal <= 0.01) return;
  warnings.push_back(text("starts at t = ", start.t,
                          config.betas ? text(" of ", config.train_timesteps) : std::string(), ": ",
                          percent(signal),
                          " of the signal is assumed absent, for sampling starts from pure noise"));
}

inline void warn_about_end(const DiffusersConfig& config, const SamplingPlan& plan,
                           std::vector<std::string>& warnings) {
  const Knot& end = plan.stages().back().to;
  const double noise = end.sigma / std::hypot(end.alpha, end.sigma);
  if (config.class_name.find("Inverse") == std::string::npos && noise > 0.001)
    warnings.push_back(text("ends with noise of deviation ", number(end.sigma),
                            " left in the sample (alpha there: ", number(end.alpha), ")"));
}

inline void warn_about_continuity(const SamplingPlan& plan, std::vector<std::string>& warnings) {
  double worst = 0;
  int where = 0;
  for (int i = 0; i + 1 < plan.size(); ++i) {
    const double gap = (std::max)(std::abs(plan[i].to.alpha - plan[i + 1].at.alpha),
                                  std::abs(plan[i].to.sigma - plan[i + 1].at.sigma));
    if (gap <= worst) continue;
    worst = gap;
    where = i;
  }
  if (worst > 1e-4)
    warnings.push_back(
        text("stage ", where, " leads to t = ", number(plan[where].to.t),
             ", but the next takes the state for one of t = ", number(plan[where + 1].at.t),
             " (alpha or sigma is off by ", number(worst), ")"));
}

inline void warn_about_prediction(const DiffusersConfig& config, const SamplingPlan& plan,
                                  std::vector<std::string>& warnings) {
  try {
    for (const Stage& stage : plan.stages()) lower(stage, plan.traits(), config.prediction_type);
  } catch (const Error& error) {
    warnings.push_back(text("cannot be run: ", error.what()));
  }
}

/// The first and the largest difference of a number of two plans' stages.
template <class Value>
std::optional<std::string> stage_difference(const char* what, const SamplingPlan& a,
                                            const SamplingPlan& b, const Value& value) {
  int count = 0, first = 0;
  double worst = 0;
  for (int i = 0; i < a.size(); ++i) {
    const double off = std::abs(value(a[i]) - value(b[i]));
    if (off <= 1e-12) continue;
    if (count++ == 0) first = i;
    worst = (std::max)(worst, off);
  }
  if (count == 0) return std::nullopt;
  return text(what, " of ", count, " of ", a.size(), " stages differ, by at most ", number(worst),
              "; the first is stage ", first, ": ", number(value(a[first])), " and ",
              number(value(b[first])));
}

inline double history_weight(const Stage& stage) {
  double sum = 0;
  for (const Term& term : stage.history) sum += term.weight;
  return sum;
}

}  // namespace detail

/// What of a run may not be what was meant, one sentence each: signal that is assumed absent at the
/// start, noise left at the end, steps that do not meet, levels at which the network's prediction
/// does not tell what the plan needs. Empty: nothing to say.
inline std::vector<std::string> warnings(const DiffusersConfig& config, const DiffusersRun& run) {
  const SamplingPlan plan = config.plan(run);
  std::vector<std::string> found;
  detail::warn_about_start(config, plan, found);
  detail::warn_about_end(config, plan, found);
  detail::warn_about_continuity(plan, found);
  detail::warn_about_prediction(config, plan, found);
  return found;
}

/// Where Python's behaviour and the samplers' own differ for this configuration and run, one
/// sentence each, compatible first; empty: nowhere.
inline std::vector<std::string> behaviour_differences(const DiffusersConfig& config,
                                                      const DiffusersRun& run) {
  const auto plan_as = [&](Behaviour behaviour) {
    return read_diffusers_config(config.given,
                                 {.behaviour = behaviour, .load_as = config.class_name})
        .plan(run);
  };
  const SamplingPlan a = plan_as(Behaviour::compatible), b = plan_as(Behaviour::correct);
  std::vector<std::string> found;
  const auto note = [&](const std::optional<std::string>& difference) {
    if (difference) found.push_back(*difference);
  };
  if (a == b) return found;
  if (a.traits().epsilon_rule != b.traits().epsilon_rule)
    found.push_back(a.traits().epsilon_rule == EpsilonRule::raw
                        ? "epsilon beside a clipped x0 is the raw one; ours is re-derived from it"
                        : "epsilon beside a clipped x0 is re-derived; ours is the raw one");
  if (!(a.traits().clipping == b.traits().clipping)) found.push_back("the clipping of x0 differs");
  if (a.traits().basis != b.traits().basis)
    found.push_back("the history holds another estimate (x0, epsilon or raw output)");
  if (a.traits().initial_scale != b.traits().initial_scale)
    found.push_back(detail::text("the initial noise is scaled by ", a.traits().initial_scale,
                                 "; ours by ", b.traits().initial_scale));
  if (a.network_calls() != b.network_calls())
    found.push_back(detail::text("the network is asked ", a.network_calls(), " times; ours asks ",
                                 b.network_calls(), " times"));
  if (a.draws() != b.draws())
    found.push_back(
        detail::text(a.draws(), " normals are drawn an element; ours draws ", b.draws()));
  if (a.size() != b.size()) return found;
  note(detail::stage_difference("the times told", a, b, [](const Stage& s) { return s.at.t; }));
  note(detail::stage_difference("alpha at the end", a, b,
                                [](const Stage& s) { return s.to.alpha; }));
  note(detail::stage_difference("the weight of the state", a, b,
                                [](const Stage& s) { return s.x; }));
  note(detail::stage_difference("the weight of x0", a, b, [](const Stage& s) { return s.x0; }));
  note(detail::stage_difference("the weight of epsilon", a, b,
                                [](const Stage& s) { return s.eps; }));
  note(detail::stage_difference("the weight of the history", a, b, detail::history_weight));
  return found;
}

}  // namespace diffusion

#endif  // DIFFUSION_INTEROP_DIFFUSERS_REPORT_HPP
