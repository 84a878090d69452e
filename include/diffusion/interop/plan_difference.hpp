#ifndef DIFFUSION_INTEROP_PLAN_DIFFERENCE_HPP
#define DIFFUSION_INTEROP_PLAN_DIFFERENCE_HPP

#include <diffusion/error.hpp>
#include <diffusion/plan/plan.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

/// How two plans of the same run differ, in words.
namespace diffusion::detail {

/// A number with so many digits, for sentences.
inline std::string brief(double value, int digits = 4) {
  std::array<char, 32> buffer{};
  std::snprintf(buffer.data(), buffer.size(), "%.*g", digits, value);
  return buffer.data();
}

/// "1 stage", "2 stages", "2 draws of noise".
inline std::string counted(int count, const std::string& thing) {
  const std::size_t noun = (std::min)(thing.find(" of "), thing.size());
  return text(count, " ", thing.substr(0, noun), count == 1 ? "" : "s", thing.substr(noun));
}

/// One difference: of which kind, and in a sentence. Plain data: threads may share what none of
/// them writes.
struct PlanDifference {
  std::string kind, sentence;
};

/// Compares a plan with ours, in everything that changes a number of the result; what differs only
/// by rounding is equal. In sentences e[-1] is the last estimate before a stage, n[0] the first
/// draw of the run. Used by one thread.
class PlanComparison {
 public:
  PlanComparison(const SamplingPlan& theirs, const SamplingPlan& ours)
      : theirs_(theirs), ours_(ours) {
    compare_traits(theirs.traits(), ours.traits());
    count("stage", theirs.size(), ours.size());
    count("step", theirs.steps(), ours.steps());
    count("network call", theirs.network_calls(), ours.network_calls());
    count("draw of noise", theirs.draws(), ours.draws());
    pair_stages();
    compare_levels();
    if (theirs.network_calls() == ours.network_calls()) compare_weights();
    if (found_.empty()) compare_labels();
  }

  std::vector<PlanDifference> found() && { return std::move(found_); }

 private:
  using Numbers = std::vector<double>;

  static bool differ(double a, double b) {
    return std::abs(a - b) > 1e-9 * (std::max)({1.0, std::abs(a), std::abs(b)});
  }
  static bool differ(const Numbers& a, const Numbers& b) {
    if (a.size() != b.size()) return true;
    for (std::size_t i = 0; i < a.size(); ++i)
      if (differ(a[i], b[i])) return true;
    return false;
  }

  void add(const std::string& kind, const std::string& sentence) {
    found_.push_back({kind, sentence});
  }

  void compare_traits(const PlanTraits& a, const PlanTraits& b) {
    const bool clips = a.clipping.kind != Clipping::Kind::none;
    if (a.epsilon_rule != b.epsilon_rule && clips)
      add("epsilon", a.epsilon_rule == EpsilonRule::raw
                         ? "beside a clipped x0 stands the network's epsilon; ours is derived anew"
                         : "beside a clipped x0 epsilon is derived anew; ours is the network's");
    if (!(a.clipping == b.clipping))
      add("clipping", "x0 is " + words(a.clipping) + "; ours is " + words(b.clipping));
    if (a.basis != b.basis && a.slots > 0 && b.slots > 0)
      add("basis", text("the history keeps ", words(a.basis), "; ours keeps ", words(b.basis)));
    if (differ(a.initial_scale, b.initial_scale))
      add("start", text("the first noise is multiplied by ", brief(a.initial_scale), "; ours by ",
                        brief(b.initial_scale)));
  }

  static std::string words(const Clipping& clipping) {
    switch (clipping.kind) {
      case Clipping::Kind::none:
        return "not clipped";
      case Clipping::Kind::range:
        return "clipped to " + brief(clipping.limit);
      case Clipping::Kind::dynamic:
        return text("thresholded (quantile ", brief(clipping.ratio), ", at most ",
                    brief(clipping.maximum), ")");
    }
    return {};
  }
  static const char* words(Basis basis) {
    return basis == Basis::x0 ? "x0" : basis == Basis::eps ? "epsilon" : "the network's output";
  }

  void count(const std::string& thing, int a, int b) {
    if (a != b) add(thing, text(counted(a, thing), "; ours: ", b));
  }

  /// The stages with their history by age, which slots do not tell: source 1 is the last estimate
  /// that was made before the stage.
  static std::vector<Stage> by_age(const SamplingPlan& plan) {
    std::vector<std::int32_t> made(static_cast<std::size_t>(plan.traits().slots), 0);
    std::int32_t estimates = 0;
    std::vector<Stage> stages(plan.stages().begin(), plan.stages().end());
    for (Stage& stage : stages) {
      for (Term& term : stage.history)
        if (term.source >= 0) term.source = estimates - made[static_cast<std::size_t>(term.source)];
      std::sort(stage.history.begin(), stage.history.end(), [](const Term& a, const Term& b) {
        return static_cast<std::uint32_t>(a.source) < static_cast<std::uint32_t>(b.source);
      });
      if (stage.keep >= 0) made[static_cast<std::size_t>(stage.keep)] = estimates;
      if (stage.ask) ++estimates;
    }
    return stages;
  }

  /// Stage by stage; plans of different length call by call, as far as both go.
  void pair_stages() {
    auto a = by_age(theirs_), b = by_age(ours_);
    if (a.size() != b.size()) {
      pair_is_ = "network call";
      for (auto* stages : {&a, &b})
        stages->erase(std::remove_if(stages->begin(), stages->end(),
                                     [](const Stage& stage) { return !stage.ask; }),
                      stages->end());
    }
    for (std::size_t i = 0; i < (std::min)(a.size(), b.size()); ++i)
      pairs_.emplace_back(a[i], b[i]);
  }

  /// Some numbers of every pair that `compares`: how often they differ, and the first in full.
  template <class Value, class Show, class Counts>
  void compare(const std::string& what, const Value& value, const Show& show,
               const Counts& compares) {
    int differing = 0, first = 0;
    for (std::size_t i = 0; i < pairs_.size(); ++i) {
      const auto& [a, b] = pairs_[i];
      if (compares(a, b) && differ(value(a), value(b)) && differing++ == 0)
        first = static_cast<int>(i);
    }
    if (differing == 0) return;
    const auto& [a, b] = pairs_[static_cast<std::size_t>(first)];
    int digits = 4;
    while (digits < 10 && show(a, digits) == show(b, digits)) digits += 2;
    add(what, text(what, " differs in ", differing, " of ",
                   counted(static_cast<int>(pairs_.size()), pair_is_), "; in ", pair_is_, " ",
                   first, " it is ", show(a, digits), ", ours ", show(b, digits)));
  }
  template <class Value, class Counts>
  void compare_number(const std::string& what, const Value& value, const Counts& compares) {
    compare(
        what, value, [&](const Stage& s, int digits) { return brief(value(s), digits); }, compares);
  }

  static bool same_levels(const Stage& a, const Stage& b) {
    return !differ({a.at.alpha, a.at.sigma, a.to.alpha, a.to.sigma},
                   {b.at.alpha, b.at.sigma, b.to.alpha, b.to.sigma});
  }

  void compare_levels() {
    const auto always = [](const Stage&, const Stage&) { return true; };
    const auto level = [&](const std::string& what, const auto& knot) {
      compare(
          what,
          [&](const Stage& s) {
            return Numbers{knot(s).alpha, knot(s).sigma};
          },
          [&](const Stage& s, int digits) {
            return text("alpha=", brief(knot(s).alpha, digits),
                        " sigma=", brief(knot(s).sigma, digits));
          },
          always);
    };
    compare_number(
        "the time told", [](const Stage& s) { return s.at.t; }, always);
    level("the level before", [](const Stage& s) { return s.at; });
    level("the level after", [](const Stage& s) { return s.to; });
    compare_number(
        "the scale of the input", [](const Stage& s) { return s.input_scale; }, always);
  }

  /// Weights follow from the levels, so those of other levels need no mention.
  void compare_weights() {
    const auto number = [&](const char* what, const auto& value) {
      compare_number(what, value, same_levels);
    };
    // Draws are numbered through the whole plan: where their number differs, so do all later ones'.
    const bool same_draws = theirs_.draws() == ours_.draws();
    const auto list = [&](const char* what, const char* name, const auto& terms) {
      const bool sources = *name == 'e' || same_draws;
      compare(
          what, [&](const Stage& s) { return flat(terms(s), sources); },
          [&](const Stage& s, int digits) { return shown_terms(terms(s), name, digits); },
          same_levels);
    };
    number("the weight of the state", [](const Stage& s) { return s.x; });
    number("the weight of x0", [](const Stage& s) { return s.x0; });
    number("the weight of epsilon", [](const Stage& s) { return s.eps; });
    number("the weight of the output", [](const Stage& s) { return s.raw; });
    number("the weight of the saved state", [](const Stage& s) { return s.saved; });
    list("the weight of the history", "e[-", [](const Stage& s) { return s.history; });
    list("the weight of the noise", "n[", [](const Stage& s) { return s.noise; });
    number("the Langevin step", [](const Stage& s) { return s.langevin_snr; });
    compare(
        "the factor on the noise",
        [](const Stage& s) {
          return Numbers{static_cast<double>(s.noise_scale.kind), s.noise_scale.offset,
                         s.noise_scale.slope};
        },
        [](const Stage& s, int) { return words(s.noise_scale); }, same_levels);
  }

  static std::string words(const NoiseScale& scale) {
    switch (scale.kind) {
      case NoiseScale::Kind::fixed:
        return "1";
      case NoiseScale::Kind::exponential:
        return "exp(" + brief(scale.offset) + " + " + brief(scale.slope) + " v)";
      case NoiseScale::Kind::root:
        return "sqrt(v)";
    }
    return {};
  }

  /// Terms without weight are none.
  static bool counts(const Term& term) { return term.source >= 0 && differ(term.weight, 0); }

  template <std::size_t N>
  static Numbers flat(const std::array<Term, N>& terms, bool sources) {
    Numbers numbers;
    for (const Term& term : terms)
      if (counts(term)) {
        numbers.push_back(sources ? term.source : 0);
        numbers.push_back(term.weight);
      }
    return numbers;
  }
  template <std::size_t N>
  static std::string shown_terms(const std::array<Term, N>& terms, const char* name, int digits) {
    std::string sum;
    for (const Term& term : terms) {
      if (!counts(term)) continue;
      const bool minus = term.weight < 0;
      sum += sum.empty() ? (minus ? "-" : "") : (minus ? " - " : " + ");
      sum += text(brief(std::abs(term.weight), digits), " ", name, term.source, "]");
    }
    return sum.empty() ? "0" : sum;
  }

  void compare_labels() {
    if (theirs_.size() != ours_.size()) return;
    for (const auto& [a, b] : pairs_)
      if (differ(a.to.t, b.to.t) || a.step != b.step || a.draws != b.draws || a.ask != b.ask ||
          a.save != b.save)
        return add("labels",
                   "the numbers are the same; the stages are labelled otherwise (steps, "
                   "times after a stage, or where noise is drawn)");
  }

  const SamplingPlan &theirs_, &ours_;
  std::vector<std::pair<Stage, Stage>> pairs_;
  std::string pair_is_ = "stage";
  std::vector<PlanDifference> found_;
};

}  // namespace diffusion::detail

#endif  // DIFFUSION_INTEROP_PLAN_DIFFERENCE_HPP
