#ifndef DIFFUSION_GUIDANCE_COMPOSED_HPP
#define DIFFUSION_GUIDANCE_COMPOSED_HPP

#include <diffusion/guidance/guidance.hpp>

#include <cstddef>
#include <utility>
#include <vector>

namespace diffusion {

/// The rule of composed conditions, u + g sum_i w_i (c_i - u) (Liu et al. 2022, arXiv 2206.01714):
/// in terms of densities p(x) prod (p(x | c_i) / p(x))^(g w_i), so all conditions at once ("and"),
/// and those with a negative weight not ("not"). GuidanceOptions::scale is g, 1 unless set; outside
/// the interval the answer is c_1 alone. Rescaling goes by c_1. Branch 0 is u, branch i c_i.
/// Linear, so the same whatever the network predicts. Immutable; safe to share between threads.
class ComposedRule {
 public:
  /// Fails without weights and for a weight that is not finite.
  explicit ComposedRule(std::vector<double> weights, GuidanceOptions options = {})
      : weights_(std::move(weights)), options_(std::move(options)) {
    detail::check(options_);
    detail::require_convention_g("ComposedRule", options_);
    if (weights_.empty()) fail("ComposedRule has 0 weights; it needs one for each condition");
    for (const double& weight : weights_) detail::require_finite("ComposedRule: a weight", weight);
  }

  std::size_t branches() const { return 1 + weights_.size(); }
  std::size_t main() const { return 1; }
  bool asks(std::size_t branch, const Query& query, std::size_t batch) const {
    if (branch == main()) return true;
    const bool counts = branch == 0 || weights_[branch - 1] != 0;
    return counts && detail::any_inside(options_, query, batch);
  }
  const GuidanceOptions& options() const { return options_; }

  template <class S>
  void operator()(const BranchPredictions<S>& f, S* out) const {
    if (!f[0] || !detail::holds(options_.interval, f.query()))
      return detail::answer(f, main(), out);
    const double scale = detail::plain_scale(options_, f.query(), f.sample());
    const S* base = f[0];
    for (std::size_t i = 0; i < weights_.size(); ++i) {
      if (weights_[i] == 0) continue;
      detail::go(base, {{f[i + 1], f[0], scale * weights_[i]}}, out, f.size());
      base = out;
    }
    if (base != out) detail::answer(f, 0, out);  // no condition counts
  }

 private:
  std::vector<double> weights_;
  GuidanceOptions options_;
};

/// A condition for each sample and how much it counts: negative, that it is not to hold. Plain
/// data: threads may share what none of them writes.
template <class Condition>
struct WeightedConditions {
  std::vector<Condition> conditions;
  double weight = 1;
};

/// Guidance by several weighted conditions: see ComposedRule; for the network see
/// ClassifierFreeGuidance. Two conditions of weight g each go twice as far from u as one does.
/// Not thread-safe: it holds buffers, made at the first call and kept; one object per run at a
/// time.
template <class Network, class Condition>
class ComposedGuidance : public Guidance<Network, Condition, ComposedRule> {
 public:
  /// Fails without conditions and for weights that are not finite.
  ComposedGuidance(Network network, std::vector<WeightedConditions<Condition>> conditions,
                   Condition null, GuidanceOptions options = {})
      : Guidance<Network, Condition, ComposedRule>(
            std::move(network), {}, lists(conditions, std::move(null)), branches(conditions.size()),
            ComposedRule(weights(conditions), std::move(options))) {}

 private:
  using Given = std::vector<WeightedConditions<Condition>>;

  static std::vector<ConditionList<Condition>> lists(Given& given, Condition null) {
    auto lists = detail::lists_of(ConditionList<Condition>::for_all(std::move(null)));
    for (auto& each : given)
      lists.push_back(ConditionList<Condition>::one_each(std::move(each.conditions)));
    return lists;
  }
  static std::vector<double> weights(const Given& given) {
    std::vector<double> weights;
    for (const auto& each : given) weights.push_back(each.weight);
    return weights;
  }
  static std::vector<GuidanceBranch> branches(std::size_t conditions) {
    std::vector<GuidanceBranch> branches(conditions + 1);
    for (std::size_t k = 0; k < branches.size(); ++k) branches[k].list = k;
    return branches;
  }
};
/// Deduced from the network, the conditions and what stands for none.
template <class Network, class Condition>
ComposedGuidance(Network, std::vector<WeightedConditions<Condition>>, Condition,
                 GuidanceOptions = {}) -> ComposedGuidance<Network, Condition>;

}  // namespace diffusion

#endif  // DIFFUSION_GUIDANCE_COMPOSED_HPP
