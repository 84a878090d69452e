#ifndef DIFFUSION_PLAN_PLAN_HPP
#define DIFFUSION_PLAN_PLAN_HPP

#include <diffusion/error.hpp>
#include <diffusion/plan/slots.hpp>
#include <diffusion/plan/stage.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace diffusion {

/// What is done to the estimate of the clean data before it is used. Plain data: threads may share
/// what none of them writes.
struct Clipping {
  enum class Kind : std::uint8_t {
    none,
    range,    ///< clamp to [-limit, limit]
    dynamic,  ///< clamp to [-s, s] and divide by s; s per sample, see `ratio`
  };
  Kind kind = Kind::none;
  double limit = 1;      ///< range: the largest |x0|, > 0
  double ratio = 0.995;  ///< dynamic: s is this quantile of |x0| over everything but the batch ...
  double maximum = 1;    ///< ... held within [1, maximum] (Saharia et al. 2022, arXiv 2205.11487);
                         ///< a maximum in (0, 1) is s itself

  static constexpr Clipping none() { return {}; }
  static constexpr Clipping range(double limit = 1) { return {Kind::range, limit, 0.995, 1}; }
  /// With maximum = 1, diffusers' default, this is the clamp of `range()`: give a larger one.
  static constexpr Clipping dynamic(double ratio = 0.995, double maximum = 1) {
    return {Kind::dynamic, 1, ratio, maximum};
  }
  friend bool operator==(const Clipping&, const Clipping&) = default;
};

/// Which noise estimate a row weighs beside a clipped x0.
enum class EpsilonRule : std::uint8_t {
  rederived,  ///< (x - alpha x0) / sigma: x0 and eps always recombine to x (default)
  raw,        ///< p x + q f, as if nothing had been clipped
};

/// What the history slots of a plan hold.
enum class Basis : std::uint8_t { x0, eps, raw };

/// What a plan needs beside its stages. Plain data: threads may share what none of them writes.
struct PlanTraits {
  Basis basis = Basis::x0;
  EpsilonRule epsilon_rule = EpsilonRule::rederived;
  Clipping clipping{};
  double initial_scale = 1;  ///< the initial state is this times standard normal noise
  std::int32_t slots = 0;    ///< history buffers
  friend bool operator==(const PlanTraits&, const PlanTraits&) = default;
};

/// A plan as the loop reads it: a view of stages that live in a SamplingPlan or a constexpr array.
/// Threads may share a view while nobody writes the rows.
struct PlanView {
  std::span<const Stage> stages;
  PlanTraits traits;

  int size() const { return static_cast<int>(stages.size()); }
  int steps() const { return stages.empty() ? 0 : stages.back().step - stages.front().step + 1; }
  int network_calls() const {
    return static_cast<int>(
        std::count_if(stages.begin(), stages.end(), [](const Stage& s) { return s.ask; }));
  }
  int draws() const {
    int sum = 0;
    for (const Stage& stage : stages) sum += stage.draws;
    return sum;
  }
  bool saves_state() const {
    return std::any_of(stages.begin(), stages.end(), [](const Stage& s) { return s.save; });
  }
  bool learns_variance() const {
    return std::any_of(stages.begin(), stages.end(), [](const Stage& s) {
      return s.noise_scale.kind != NoiseScale::Kind::fixed;
    });
  }
};

/// An immutable table of weights that one loop runs. Made by a sampler's `plan()`; safe to share
/// between threads, compare and copy. A run's own state lives elsewhere (see Stepper).
class SamplingPlan {
 public:
  /// Checks and finishes rows as a sampler writes them. In these rows a history term's source is
  /// the *number* of an estimate: the network's first answer is number 0, the next number 1, and
  /// so on. `keep` and `slots` are set here. Fails where a row reads an estimate or a draw that is
  /// never made, a state never saved, or holds a weight that is not finite.
  SamplingPlan(std::vector<Stage> rows, PlanTraits traits)
      : stages_(std::move(rows)), traits_(traits) {
    check_traits();
    check_rows();
    assign_slots();
  }

  PlanView view() const& { return {stages_, traits_}; }
  PlanView view() const&& = delete;
  operator PlanView() const& { return view(); }  // NOLINT(google-explicit-constructor)
  operator PlanView() const&& = delete;

  std::span<const Stage> stages() const { return stages_; }
  const Stage& operator[](int i) const { return stages_[static_cast<std::size_t>(i)]; }
  const PlanTraits& traits() const { return traits_; }
  int size() const { return view().size(); }
  int steps() const { return view().steps(); }
  int network_calls() const { return view().network_calls(); }
  int draws() const { return view().draws(); }

  friend bool operator==(const SamplingPlan&, const SamplingPlan&) = default;

 private:
  void check_traits() const {
    const Clipping& c = traits_.clipping;
    detail::require_enumerator("Clipping::kind", c.kind, 3);
    detail::require_enumerator("PlanTraits::epsilon_rule", traits_.epsilon_rule, 2);
    detail::require_enumerator("PlanTraits::basis", traits_.basis, 3);
    if (c.kind == Clipping::Kind::range && !(c.limit > 0 && detail::is_finite(c.limit)))
      fail(detail::text("Clipping::limit is ", c.limit, "; it must be positive and finite"));
    if (c.kind == Clipping::Kind::dynamic) {
      detail::require_range("Clipping::ratio", c.ratio, 0.0, 1.0);
      if (!(c.maximum > 0 && detail::is_finite(c.maximum)))
        fail(detail::text("Clipping::maximum is ", c.maximum, "; it must be positive and finite"));
    }
    detail::require_range("PlanTraits::initial_scale", traits_.initial_scale, 0.0, 1e6);
  }

  void check_rows() const {
    if (stages_.empty()) fail("a plan has 0 stages; it needs at least 1");
    int estimates = 0;
    int draws = 0;
    bool saved = false;
    for (std::size_t i = 0; i < stages_.size(); ++i) {
      const Stage& s = stages_[i];
      check_numbers(s, i);
      check_ask(s, i);
      saved = saved || s.save;
      if (s.saved != 0 && !saved)
        fail(detail::text("stage ", i, " reads the saved state; none has been saved up to it"));
      draws += s.draws;
      for (const Term& term : s.history)
        if (term.source >= estimates)
          fail(detail::text("stage ", i, " reads estimate ", term.source, "; ", estimates,
                            " have been made before it"));
      for (const Term& term : s.noise)
        if (term.source >= draws)
          fail(detail::text("stage ", i, " reads draw ", term.source, "; ", draws,
                            " have been made up to it"));
      if (s.ask) ++estimates;
    }
  }

  static void check_numbers(const Stage& s, std::size_t i) {
    const auto require_finite = [i](double weight) {
      if (!detail::is_finite(weight)) fail(detail::text("stage ", i, " holds the weight ", weight));
    };
    for (const double weight : {s.x, s.x0, s.eps, s.raw, s.saved, s.input_scale,
                                s.noise_scale.offset, s.noise_scale.slope, s.langevin_snr})
      require_finite(weight);
    for (const Term& term : s.history) require_finite(term.weight);
    for (const Term& term : s.noise) require_finite(term.weight);
    if (s.draws < 0) fail(detail::text("stage ", i, " makes ", s.draws, " draws; at least 0"));
    if (s.langevin_snr < 0)
      fail(detail::text("stage ", i, " has langevin_snr ", s.langevin_snr, "; at least 0"));
  }

  static void check_ask(const Stage& s, std::size_t i) {
    const bool learned = s.noise_scale.kind != NoiseScale::Kind::fixed;
    if (!s.ask && (s.x0 != 0 || s.eps != 0 || s.raw != 0 || learned))
      fail(detail::text("stage ", i, " weighs an estimate but does not ask the network"));
    if (s.langevin_snr > 0 && !(s.ask && s.at.sigma > 0 && s.noise[0].source >= 0))
      fail(detail::text("stage ", i,
                        " is a Langevin step; it must ask the network, at a level with sigma > 0, "
                        "and have a first noise term"));
  }

  /// Register allocation by one scan: an estimate lives from the stage that makes it to the last
  /// that reads it, and may take over a slot in the very stage that reads that slot last.
  void assign_slots() {
    const std::size_t n = stages_.size();
    std::vector<std::size_t> last_read;  // of each estimate: 1 + stage, 0 where nobody reads it
    for (std::size_t i = 0; i < n; ++i) {
      for (const Term& term : stages_[i].history)
        if (term.source >= 0) last_read[static_cast<std::size_t>(term.source)] = i + 1;
      if (stages_[i].ask) last_read.push_back(0);
    }
    std::vector<std::int32_t> slot_of(last_read.size(), -1);
    detail::Slots slots;
    std::size_t number = 0;
    for (std::size_t i = 0; i < n; ++i) {
      Stage& stage = stages_[i];
      for (Term& term : stage.history)
        if (term.source >= 0) term.source = slot_of[static_cast<std::size_t>(term.source)];
      stage.keep = -1;
      if (!stage.ask) continue;
      if (last_read[number] > 0)  // free for a value made here: also what is read here last
        stage.keep = slot_of[number] = slots.take(i + 1, last_read[number]);
      ++number;
    }
    traits_.slots = slots.count();
  }

  std::vector<Stage> stages_;
  PlanTraits traits_;
};

}  // namespace diffusion

#endif  // DIFFUSION_PLAN_PLAN_HPP
