#ifndef DIFFUSION_GUIDANCE_GUIDANCE_HPP
#define DIFFUSION_GUIDANCE_GUIDANCE_HPP

#include <diffusion/guidance/arithmetic.hpp>
#include <diffusion/guidance/asking.hpp>
#include <diffusion/guidance/options.hpp>
#include <diffusion/guidance/rule.hpp>

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

namespace diffusion {

/// A branch of guidance: what it is conditioned on, and who is asked. Plain data: threads may share
/// what none of them writes.
struct GuidanceBranch {
  std::size_t list = 0;  ///< which list of conditions
  bool other = false;    ///< the second network
};

/// Guidance: a denoiser that asks a conditional network (see ClassifierFreeGuidance) for the
/// predictions of several branches, each with conditions of its own or from a second network, and
/// makes one of them by a rule (see GuidanceRule). Works with every sampler, schedule and type of
/// prediction. Where the network learns a variance, its half of the channels comes from the rule's
/// main branch. The classes with a name (ClassifierFreeGuidance, AutoGuidance, ...) say which
/// branches there are; write one of these for a rule of your own.
///
/// Not thread-safe: it holds buffers, made at the first call and kept; one object per run at a
/// time.
template <class Network, class Condition, class Rule, class Other = detail::NoNetwork>
class Guidance {
 public:
  /// Fails where the rule wants another number of branches. The number of conditions is checked
  /// when sampling. `other` is asked only by branches that say so.
  Guidance(Network network, Other other, std::vector<ConditionList<Condition>> lists,
           std::vector<GuidanceBranch> branches, Rule rule)
      : network_(std::move(network)),
        other_(std::move(other)),
        lists_(std::move(lists)),
        branches_(std::move(branches)),
        rule_(std::move(rule)) {
    if (rule_.branches() != branches_.size())
      fail(detail::text("the rule of guidance combines ", rule_.branches(), " predictions; ",
                        branches_.size(), " are asked for"));
  }

  template <State Tensor>
  void operator()(const Tensor& x, const Query& query, TensorOf<Tensor>& out) {
    using Owner = TensorOf<Tensor>;
    using S = ScalarOf<Owner>;
    const auto shape = StateTraits<Tensor>::shape(x);
    const std::size_t first_extent = blocks_of<Tensor>(shape, true).batch;
    const std::size_t batch = query.samples > 0 ? query.samples : first_extent;
    require_counts(batch);

    asked_.clear();
    for (std::size_t k = 0; k < branches_.size(); ++k)
      if (rule_.asks(k, query, batch)) asked_.push_back(k);
    predictions_.assign(branches_.size(), nullptr);
    const auto out_shape = StateTraits<Owner>::shape(out);
    if (asked_.size() == 1) {
      call(x, query, batch, asked_, out, out_shape);
      predictions_[asked_[0]] = StateTraits<Owner>::data(out);
    } else {
      ask_networks(x, query, batch, out_shape);
    }
    combine<S>(x, query, batch, out);
  }

  // What the network declares holds for the guided network too.
  PredictionType prediction_type() requires requires(Network& network) {
    network.prediction_type();
  }
  { return network_.prediction_type(); }
  void begin_run() {
    if constexpr (requires(Network & network) { network.begin_run(); }) network_.begin_run();
    if constexpr (requires(Other & other) { other.begin_run(); }) other_.begin_run();
    if constexpr (requires(Rule & rule) { rule.begin_run(); }) rule_.begin_run();
  }
  template <class Shape>
  requires requires(Network& network, const Shape& input) { network.output_shape(input); }
  Shape output_shape(const Shape& input) { return network_.output_shape(input); }

 private:
  using Numbers = std::span<const std::size_t>;
  static constexpr bool has_other = !std::same_as<Other, detail::NoNetwork>;

  void require_counts(std::size_t batch) const {
    for (const ConditionList<Condition>& list : lists_)
      if (!list.shared && list.values.size() != batch)
        fail(detail::text("guidance has ", list.values.size(), " conditions for a batch of ", batch,
                          "; it needs one per sample"));
    const std::size_t scales = rule_.options().scales.size();
    if (scales != 0 && scales != batch)
      fail(detail::text("GuidanceOptions::scales has ", scales, " numbers for a batch of ", batch,
                        "; it needs one per sample"));
  }

  /// Asks both networks for their branches of `asked_`, in one call each or in several.
  template <class Tensor, class Shape>
  void ask_networks(const Tensor& x, const Query& query, std::size_t batch, const Shape& shape) {
    using Owner = TensorOf<Tensor>;
    kept_.resize(branches_.size());
    for (const bool other : {false, true}) {
      group_.clear();
      for (const std::size_t k : asked_)
        if (branches_[k].other == other) group_.push_back(k);
      if (group_.size() > 1 && joins<Tensor>(query, StateTraits<Tensor>::shape(x), shape)) {
        ask_joined(x, query, batch, shape, joined_[other ? 1 : 0]);
        continue;
      }
      for (const std::size_t k : group_) {
        Owner& answer = kept_[k].template get<Owner>(shape);
        call(x, query, batch, Numbers(&k, 1), answer, shape);
        predictions_[k] = StateTraits<Owner>::data(answer);
      }
    }
  }

  /// Whether the branches of `group_` can be one call. A state that is one sample has no dimension
  /// along which two could be joined.
  template <class Tensor, class Shape>
  bool joins(const Query& query, const ShapeOf<Tensor>& in, const Shape& out) const {
    using Owner = TensorOf<Tensor>;
    return rule_.options().calls == GuidanceCalls::joined && query.batched &&
           detail::fits<Owner>(detail::times_batch<Owner>(in, group_.size())) &&
           detail::fits<Owner>(detail::times_batch<Owner>(out, group_.size()));
  }

  template <class Tensor, class Shape>
  void ask_joined(const Tensor& x, const Query& query, std::size_t batch, const Shape& out_shape,
                  std::array<detail::KeptTensor, 2>& buffers) {
    using Owner = TensorOf<Tensor>;
    const auto shape = StateTraits<Tensor>::shape(x);
    const auto joined_shape = detail::times_batch<Owner>(out_shape, group_.size());
    Owner& input = buffers[0].template get<Owner>(detail::times_batch<Owner>(shape, group_.size()));
    Owner& answer = buffers[1].template get<Owner>(joined_shape);
    const std::size_t n = blocks_of<Tensor>(shape, false).total();
    const std::size_t answers = blocks_of<Owner>(out_shape, false).total();
    for (std::size_t k = 0; k < group_.size(); ++k)
      std::copy_n(StateTraits<Tensor>::data(x), n, StateTraits<Owner>::data(input) + k * n);
    const Tensor& seen = detail::seen_as<Tensor>(input);
    call(seen, query, batch, group_, answer, joined_shape);
    for (std::size_t k = 0; k < group_.size(); ++k)
      predictions_[group_[k]] = StateTraits<Owner>::data(answer) + k * answers;
  }

  /// Asks the branches of one network in one call.
  template <class Tensor, class Out, class Shape>
  void call(const Tensor& x, const Query& query, std::size_t batch, Numbers branches, Out& out,
            const Shape& shape) {
    parts_.clear();
    for (const std::size_t k : branches) parts_.push_back(&lists_[branches_[k].list]);
    Query asked = query;
    asked.branch = branches.size() == 1 ? static_cast<int>(branches[0]) : 0;
    if (branches.size() > 1) {
      asked.samples = branches.size() * batch;
      asked.times = detail::repeated(query.times, branches.size(), times_);
      asked.levels = detail::repeated(query.levels, branches.size(), levels_);
    }
    const Conditions<Condition> conditions(parts_, batch);
    if constexpr (has_other) {
      if (branches_[branches[0]].other) {
        detail::ask_conditional(other_, x, asked, conditions, out);
        return detail::require_kept(out, shape);
      }
    }
    detail::ask_conditional(network_, x, asked, conditions, out);
    detail::require_kept(out, shape);
  }

  /// The rule, sample by sample, on as many elements of each answer as the state has; the main
  /// branch's own elements behind them.
  template <class S, class Tensor>
  void combine(const Tensor& x, const Query& query, std::size_t batch, TensorOf<Tensor>& out) {
    using Owner = TensorOf<Tensor>;
    const auto extents = memory_shape<Tensor>(StateTraits<Tensor>::shape(x));
    const std::size_t size =
        blocks_of<Tensor>(StateTraits<Tensor>::shape(x), false).total() / batch;
    const std::size_t stride =
        blocks_of<Owner>(StateTraits<Owner>::shape(out), false).total() / batch;
    of_sample_.resize(branches_.size());
    S* to = StateTraits<Owner>::data(out);
    const S* input = StateTraits<Tensor>::data(x);
    for (std::size_t sample = 0; sample < batch; ++sample, to += stride, input += size) {
      for (std::size_t k = 0; k < branches_.size(); ++k)
        of_sample_[k] = prediction<S>(k) ? prediction<S>(k) + sample * stride : nullptr;
      const Query own = detail::query_of_sample(query, batch, sample);
      const BranchPredictions<S> answers(
          of_sample_, input, size, sample, batch,
          std::span<const Eigen::Index>(extents).subspan(query.batched ? 1 : 0), own);
      rule_(answers, to);
      const S* main = answers[rule_.main()];
      if (main == to) continue;
      if (rule_.options().rescale > 0) rescale_guided(to, main, size, rule_.options().rescale);
      std::copy(main + size, main + stride, to + size);
    }
  }

  template <class S>
  const S* prediction(std::size_t k) const {
    return static_cast<const S*>(predictions_[k]);
  }

  Network network_;
  Other other_;
  std::vector<ConditionList<Condition>> lists_;
  std::vector<GuidanceBranch> branches_;
  Rule rule_;

  std::vector<std::size_t> asked_, group_;  // branches: of this moment, of one network of these
  std::vector<const void*> predictions_;    // of all samples, by branch; null: not asked
  std::vector<const void*> of_sample_;
  std::vector<const ConditionList<Condition>*> parts_;
  std::vector<detail::KeptTensor> kept_;                     // answers by branch
  std::array<std::array<detail::KeptTensor, 2>, 2> joined_;  // by network: input, answers
  std::vector<double> times_;                                // of a joined batch whose slices
  std::vector<Knot> levels_;                                 // differ in their times
};

}  // namespace diffusion

#endif  // DIFFUSION_GUIDANCE_GUIDANCE_HPP
