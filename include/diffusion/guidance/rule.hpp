#ifndef DIFFUSION_GUIDANCE_RULE_HPP
#define DIFFUSION_GUIDANCE_RULE_HPP

#include <diffusion/denoiser/estimate.hpp>
#include <diffusion/denoiser/query.hpp>
#include <diffusion/guidance/arithmetic.hpp>
#include <diffusion/guidance/options.hpp>

#include <Eigen/Core>

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <initializer_list>
#include <span>
#include <utility>
#include <vector>

namespace diffusion {

/// What a rule of guidance sees of one sample: its prediction in every branch. A view; valid during
/// the call of the rule only. Immutable.
template <class S>
class BranchPredictions {
 public:
  BranchPredictions(std::span<const void* const> branches, const S* input, std::size_t size,
                    std::size_t sample, std::size_t batch, std::span<const Eigen::Index> extents,
                    const Query& query)
      : branches_(branches),
        input_(input),
        size_(size),
        sample_(sample),
        batch_(batch),
        extents_(extents),
        query_(query) {}

  /// The prediction of a branch; null where the rule has not asked for it.
  const S* operator[](std::size_t branch) const { return static_cast<const S*>(branches_[branch]); }
  const S* input() const { return input_; }       ///< what the network was given
  std::size_t size() const { return size_; }      ///< how many numbers each of these has
  std::size_t sample() const { return sample_; }  ///< which of the batch this is
  std::size_t batch() const { return batch_; }
  /// The extents of the sample, the slowest in memory first.
  std::span<const Eigen::Index> extents() const { return extents_; }
  /// The moment, for this sample: its own level where samples differ in theirs.
  const Query& query() const { return query_; }

 private:
  std::span<const void* const> branches_;
  const S* input_;
  std::size_t size_, sample_, batch_;
  std::span<const Eigen::Index> extents_;
  const Query& query_;
};

/// A rule of guidance: which branches it combines, which of them it needs at a moment, and the
/// prediction that it makes of them, sample by sample:
///
///     std::size_t branches() const;                     // how many there are
///     std::size_t main() const;                         // the one that stands for no guidance
///     bool asks(std::size_t branch, const Query& query, std::size_t batch) const;
///     const GuidanceOptions& options() const;           // calls, rescale and scales are read
///     template <class S> void operator()(const BranchPredictions<S>& f, S* out);
///     void begin_run();                                 // optional: forgets what it remembers
///
/// The main branch must always be asked for. Where it alone is, `out` is f[main()] itself.
template <class R>
concept GuidanceRule = requires(R& rule, const R& constant, const Query& query,
                                const BranchPredictions<double>& f, double* out) {
  { constant.branches() } -> std::convertible_to<std::size_t>;
  { constant.main() } -> std::convertible_to<std::size_t>;
  { constant.asks(std::size_t{}, query, std::size_t{}) } -> std::convertible_to<bool>;
  { constant.options() } -> std::convertible_to<const GuidanceOptions&>;
  rule(f, out);
};

/// In which terms a rule that is not linear looks at the predictions.
enum class GuidanceSpace {
  prediction,  ///< the network's answers as they are
  x0,          ///< the estimates of the clean data
  eps,         ///< the estimates of the noise
};

/// What the rules on two predictions have in common: branch 0 is u, the prediction without the
/// condition (or of the worse network), branch 1 is c. A base class; whoever derives adds
/// operator(). Immutable; safe to share between threads.
class TwoBranchRule {
 public:
  explicit TwoBranchRule(GuidanceOptions options) : options_(std::move(options)) {
    detail::check(options_);
  }

  std::size_t branches() const { return 2; }
  std::size_t main() const { return 1; }
  bool asks(std::size_t branch, const Query& query, std::size_t batch) const {
    return branch == main() || detail::guides(options_, query, batch);
  }
  const GuidanceOptions& options() const { return options_; }

 protected:
  /// The scale of the sample; the neutral one where u was not asked for.
  template <class S>
  double scale(const BranchPredictions<S>& f) const {
    return f[0] ? detail::scale_of(options_, f.query(), f.sample())
                : detail::neutral_scale(options_);
  }
  double neutral() const { return detail::neutral_scale(options_); }
  /// What the scale is counted from: u or c.
  std::size_t base() const { return options_.convention == ScaleConvention::g ? 0 : 1; }

 private:
  GuidanceOptions options_;
};

namespace detail {

/// out = base + sum scale (to - from).
template <class S>
void go(const S* base, std::initializer_list<Direction<S>> ways, S* out, std::size_t n) {
  go(base, std::span<const Direction<S>>(ways.begin(), ways.size()), out, n);
}

/// The prediction of one branch is the answer.
template <class S>
void answer(const BranchPredictions<S>& f, std::size_t branch, S* out) {
  if (f[branch] != out) std::copy_n(f[branch], f.size(), out);
}

/// How predictions are seen in a space: a input + b f. Where the answer has no say in it (b = 0) or
/// the type leaves it undefined they are seen as they are.
struct SpaceMap {
  double a = 0, b = 1;
};
inline SpaceMap space_map(GuidanceSpace space, const Query& query) {
  if (space == GuidanceSpace::prediction) return {};
  const Conversion c = conversion_of(query);
  const SpaceMap map = space == GuidanceSpace::x0 ? SpaceMap{c.a, c.b} : SpaceMap{c.p, c.q};
  return is_finite(map.a) && is_finite(map.b) && map.b != 0 ? map : SpaceMap{};
}

/// A prediction in a space, in double.
template <class S>
void see(const SpaceMap& map, const S* input, const S* f, std::size_t n,
         std::vector<double>& seen) {
  seen.resize(n);
  for (std::size_t i = 0; i < n; ++i)
    seen[i] = map.a * static_cast<double>(input[i]) + map.b * static_cast<double>(f[i]);
}

}  // namespace detail
}  // namespace diffusion

#endif  // DIFFUSION_GUIDANCE_RULE_HPP
