#ifndef DIFFUSION_GUIDANCE_PERTURBED_HPP
#define DIFFUSION_GUIDANCE_PERTURBED_HPP

#include <diffusion/guidance/guidance.hpp>

#include <cstddef>
#include <utility>
#include <vector>

namespace diffusion {

/// The third prediction of PerturbedRule. Plain data: threads may share what none of them writes.
struct PerturbedOptions {
  double scale = 3;  ///< of the direction away from the perturbed prediction; 0 is none
  /// On after step int(start n) of n, that step not included as in diffusers, 0 to 1 ...
  double start = 0;
  double stop = 1;  ///< ... to before step int(stop n), start to 1
};

/// The rule of guidance away from a network that was disturbed, on top of classifier-free guidance:
///
///     u + g (c - u) + s (c - p)
///
/// with p the prediction, under the same conditions, of a network some of whose layers are skipped
/// (skip-layer guidance), whose attention maps are the identity (Ahn et al. 2024, arXiv 2403.17377)
/// or smoothed (Hong 2024, arXiv 2408.00760). Where g is neutral, p takes u's place: p + s (c - p).
/// Branches 0, 1, 2: u, c, p. Linear, so the same whatever the network predicts. Immutable; safe to
/// share between threads.
class PerturbedRule {
 public:
  /// Fails for options outside their ranges.
  explicit PerturbedRule(GuidanceOptions options, PerturbedOptions perturbed = {})
      : options_(std::move(options)), perturbed_(perturbed) {
    detail::check(options_);
    detail::require_finite("PerturbedOptions::scale", perturbed.scale);
    detail::require_range("PerturbedOptions::start", perturbed.start, 0.0, 1.0);
    detail::require_range("PerturbedOptions::stop", perturbed.stop, perturbed.start, 1.0);
  }

  std::size_t branches() const { return 3; }
  std::size_t main() const { return 1; }
  bool asks(std::size_t branch, const Query& query, std::size_t batch) const {
    if (branch == 0) return detail::guides(options_, query, batch);
    return branch == main() || perturbs(query);
  }
  const GuidanceOptions& options() const { return options_; }

  template <class S>
  void operator()(const BranchPredictions<S>& f, S* out) const {
    const double neutral = detail::neutral_scale(options_);
    const double scale = f[0] ? detail::scale_of(options_, f.query(), f.sample()) : neutral;
    const bool counts_from_c = options_.convention == ScaleConvention::w;
    if (!f[2]) {
      if (scale == neutral) return detail::answer(f, main(), out);
      return detail::go(f[counts_from_c ? 1 : 0], {{f[1], f[0], scale}}, out, f.size());
    }
    if (scale == neutral)
      return detail::go(f[counts_from_c ? 1 : 2], {{f[1], f[2], perturbed_.scale}}, out, f.size());
    detail::go(f[counts_from_c ? 1 : 0], {{f[1], f[0], scale}, {f[1], f[2], perturbed_.scale}}, out,
               f.size());
  }

 private:
  bool perturbs(const Query& query) const {
    const auto step = [&](double share) { return static_cast<int>(share * query.steps); };
    return perturbed_.scale != 0 && step(perturbed_.start) < query.step &&
           query.step < step(perturbed_.stop);
  }

  GuidanceOptions options_;
  PerturbedOptions perturbed_;
};

/// Classifier-free guidance with a third prediction, of a network that you have disturbed: see
/// PerturbedRule; for the networks see ClassifierFreeGuidance. The disturbed one may be the same
/// with a flag set. Not thread-safe: it holds buffers, made at the first call and kept; one object
/// per run at a time.
template <class Network, class Perturbed, class Condition, class Rule = PerturbedRule>
class PerturbedGuidance : public Guidance<Network, Condition, Rule, Perturbed> {
 public:
  PerturbedGuidance(Network network, Perturbed perturbed, std::vector<Condition> conditions,
                    Condition null, Rule rule)
      : Guidance<Network, Condition, Rule, Perturbed>(
            std::move(network), std::move(perturbed),
            detail::lists_of(ConditionList<Condition>::for_all(std::move(null)),
                             ConditionList<Condition>::one_each(std::move(conditions))),
            {{0}, {1}, {1, true}}, std::move(rule)) {}
};

}  // namespace diffusion

#endif  // DIFFUSION_GUIDANCE_PERTURBED_HPP
