#ifndef DIFFUSION_GUIDANCE_AUTOGUIDANCE_HPP
#define DIFFUSION_GUIDANCE_AUTOGUIDANCE_HPP

#include <diffusion/guidance/classifier_free.hpp>

#include <concepts>
#include <utility>
#include <vector>

namespace diffusion {

/// Autoguidance (Karras et al. 2024, arXiv 2406.02507): guidance away from a worse network, b + g
/// (c - b), where both are asked with the same conditions. The worse one must be bad in the same
/// way, only more so: smaller, or trained for less long. Works for networks without conditions too,
/// which then do not look at them. For the networks see ClassifierFreeGuidance; branch 0 is the
/// worse one's. What is declared (prediction type, output shape) is that of the good network. In
/// the options' place may stand another rule on two predictions. Not thread-safe: it holds
/// buffers, made at the first call and kept; one object per run at a time.
template <class Network, class Worse, class Condition, class Rule = ClassifierFreeRule>
class AutoGuidance : public Guidance<Network, Condition, Rule, Worse> {
 public:
  /// Fails for a scale that is not finite and a rescale outside [0, 1].
  AutoGuidance(Network network, Worse worse, std::vector<Condition> conditions,
               GuidanceOptions options) requires std::same_as<Rule, ClassifierFreeRule>
      : AutoGuidance(std::move(network), std::move(worse), std::move(conditions),
                     ClassifierFreeRule(std::move(options))) {}
  AutoGuidance(Network network, Worse worse, std::vector<Condition> conditions, Rule rule)
      : Guidance<Network, Condition, Rule, Worse>(
            std::move(network), std::move(worse),
            detail::lists_of(ConditionList<Condition>::one_each(std::move(conditions))),
            {{0, true}, {0, false}}, std::move(rule)) {}
};
/// Deduced from the networks and the conditions.
template <class Network, class Worse, class Condition>
AutoGuidance(Network, Worse, std::vector<Condition>, GuidanceOptions)
    -> AutoGuidance<Network, Worse, Condition, ClassifierFreeRule>;

}  // namespace diffusion

#endif  // DIFFUSION_GUIDANCE_AUTOGUIDANCE_HPP
