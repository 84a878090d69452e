#ifndef DIFFUSION_GUIDANCE_CLASSIFIER_FREE_HPP
#define DIFFUSION_GUIDANCE_CLASSIFIER_FREE_HPP

#include <diffusion/guidance/guidance.hpp>

#include <concepts>
#include <cstddef>
#include <utility>
#include <vector>

namespace diffusion {

/// The rule of classifier-free guidance, u + g (c - u) (Ho and Salimans 2022, arXiv 2207.12598, eq.
/// 6, where w is g - 1). Linear, so the same whatever the network predicts. Immutable; safe to
/// share between threads.
class ClassifierFreeRule : public TwoBranchRule {
 public:
  explicit ClassifierFreeRule(GuidanceOptions options) : TwoBranchRule(std::move(options)) {}

  template <class S>
  void operator()(const BranchPredictions<S>& f, S* out) const {
    const double scale = this->scale(f);
    if (scale == neutral()) return detail::answer(f, main(), out);
    detail::go(f[base()], {{f[1], f[0], scale}}, out, f.size());
  }
};

/// Classifier-free guidance (Ho and Salimans 2022, arXiv 2207.12598): a denoiser made of a
/// conditional network,
///
///     void network(const Tensor& x, double t, const Conditions<Condition>& conditions,
///                  Tensor& out)
///
/// (or with `const Query&` in place of t; or over raw buffers, (const S* x, double t, conditions,
/// S* out, shape), see RawDenoiser), which answers u + g (c - u) for its predictions u
/// without and c with the condition. The paper's w is g - 1: see ScaleConvention. Where the network
/// learns a variance, its half of the channels comes from the conditional prediction. One condition
/// per sample; the null condition stands for none. A negative condition, of what is not wanted,
/// takes the null's place: one for all samples, or a list of one for each. At g = 1 only the
/// conditional network is asked.
///
/// In the options' place may stand another rule on u and c, such as ProjectedRule: see
/// GuidanceRule.
///
/// Not thread-safe: it holds buffers, made at the first call and kept; one object per run at a
/// time.
template <class Network, class Condition, class Rule = ClassifierFreeRule>
class ClassifierFreeGuidance : public Guidance<Network, Condition, Rule> {
 public:
  using List = ConditionList<Condition>;

  /// Fails for a scale that is not finite and a rescale outside [0, 1]. The number of conditions is
  /// checked when sampling.
  ClassifierFreeGuidance(
      Network network, std::vector<Condition> conditions, Condition null,
      GuidanceOptions options = {}) requires std::same_as<Rule, ClassifierFreeRule>
      : ClassifierFreeGuidance(std::move(network), std::move(conditions), std::move(null),
                               ClassifierFreeRule(std::move(options))) {}
  ClassifierFreeGuidance(
      Network network, std::vector<Condition> conditions, std::vector<Condition> negatives,
      GuidanceOptions options = {}) requires std::same_as<Rule, ClassifierFreeRule>
      : ClassifierFreeGuidance(std::move(network), std::move(conditions), std::move(negatives),
                               ClassifierFreeRule(std::move(options))) {}

  ClassifierFreeGuidance(Network network, std::vector<Condition> conditions, Condition null,
                         Rule rule)
      : ClassifierFreeGuidance(std::move(network), List::for_all(std::move(null)),
                               List::one_each(std::move(conditions)), std::move(rule)) {}
  ClassifierFreeGuidance(Network network, std::vector<Condition> conditions,
                         std::vector<Condition> negatives, Rule rule)
      : ClassifierFreeGuidance(std::move(network), List::one_each(std::move(negatives)),
                               List::one_each(std::move(conditions)), std::move(rule)) {}

 private:
  ClassifierFreeGuidance(Network network, List without, List with, Rule rule)
      : Guidance<Network, Condition, Rule>(std::move(network), {},
                                           detail::lists_of(std::move(without), std::move(with)),
                                           {{0}, {1}}, std::move(rule)) {}
};
/// Deduced from the network, the conditions and what stands for none.
template <class Network, class Condition>
ClassifierFreeGuidance(Network, std::vector<Condition>, Condition, GuidanceOptions = {})
    -> ClassifierFreeGuidance<Network, Condition, ClassifierFreeRule>;
/// The same.
template <class Network, class Condition>
ClassifierFreeGuidance(Network, std::vector<Condition>, std::vector<Condition>,
                       GuidanceOptions = {})
    -> ClassifierFreeGuidance<Network, Condition, ClassifierFreeRule>;

}  // namespace diffusion

#endif  // DIFFUSION_GUIDANCE_CLASSIFIER_FREE_HPP
