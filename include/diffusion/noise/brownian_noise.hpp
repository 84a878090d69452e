#ifndef DIFFUSION_NOISE_BROWNIAN_NOISE_HPP
#define DIFFUSION_NOISE_BROWNIAN_NOISE_HPP

#include <diffusion/error.hpp>
#include <diffusion/noise/philox.hpp>
#include <diffusion/plan/plan.hpp>
#include <diffusion/plan/stage.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <vector>

namespace diffusion {

/// The time in which a path of BrownianNoise runs, made of SNR = alpha^2 / sigma^2.
enum class BrownianClock {
  snr,       ///< SNR, as it rises: that of the bridge from noise to data which DDPM, DDIM with
             ///< eta = 1, Euler ancestral and DPM-Solver++ SDE walk along
  sigma,     ///< s = sigma / alpha, as it falls: k-diffusion's, and what DPM-Solver SDE couples by
  variance,  ///< s^2, as it falls: that of the noise that the forward process adds
};

namespace detail {

/// A virtual Brownian tree: a path W over a clock c, fixed by one standard normal for each node of
/// a tree that halves an interval of levels again and again. W is 0 at level 0; a node's normal z
/// says how far W at the middle m of its interval [l, r] lies from the straight line between the
/// ends: by z sqrt((c_m - c_l) (c_r - c_m) / (c_r - c_l)). So W is a sum of one hat function for
/// each node (Levy 1948, Ciesielski 1961), of which all but `depth` + 1 are 0 at a given level.
///
/// A level is |log SNR| in steps of 2^-16, from -64 to 64, so that c is exp(level) or its root.
class BrownianTree {
 public:
  /// Nodes' numbers and weights. Node 0 is W at the last level, node 1 its middle, nodes 2 n and
  /// 2 n + 1 are those of the halves of node n.
  using Weights = std::map<std::uint64_t, double>;

  static constexpr int depth = 23;
  static constexpr std::int64_t levels = std::int64_t{1} << depth;

  explicit BrownianTree(BrownianClock clock) : clock_(clock) {}

  /// 1 where levels rise as noise gets less, else -1.
  std::int64_t direction() const { return clock_ == BrownianClock::snr ? 1 : -1; }

  /// The level that is nearest to a log-SNR; beyond the ends, the end.
  std::int64_t level(double log_snr) const {
    const double position = static_cast<double>(direction()) * log_snr;
    return std::llround((std::clamp(position, -reach, reach) + reach) / resolution);
  }

  /// What weighs the nodes' normals in (W(to) - W(from)) / sqrt(|c_to - c_from|), for two different
  /// levels: the squares add up to 1.
  Weights increment(std::int64_t from, std::int64_t to) const {
    Weights weights;
    add_path(to, 1, weights);
    add_path(from, -1, weights);
    const double deviation = std::sqrt(std::abs(between(from, to)));
    for (auto& [node, weight] : weights) weight /= deviation;
    return weights;
  }

 private:
  static constexpr double reach = 64;
  static constexpr double resolution = 2 * reach / static_cast<double>(levels);

  /// c(right) - c(left), without cancellation.
  double between(std::int64_t left, std::int64_t right) const {
    const double power = clock_ == BrownianClock::sigma ? 0.5 : 1;
    const double start = power * (static_cast<double>(left) * resolution - reach);
    return std::exp(start) * std::expm1(power * static_cast<double>(right - left) * resolution);
  }

  /// Adds the hat functions at a level, times `sign`.
  void add_path(std::int64_t level, double sign, Weights& weights) const {
    weights[0] += sign * between(0, level) / std::sqrt(between(0, levels));
    std::int64_t left = 0, right = levels;
    for (std::uint64_t node = 1; level != left && level != right;) {
      const std::int64_t middle = (left + right) / 2;
      const double below = between(left, middle), above = between(middle, right);
      const bool lower = level <= middle;
      const double height = lower ? between(left, level) / below : between(level, right) / above;
      weights[node] += sign * height * std::sqrt(below / (below + above) * above);
      (lower ? right : left) = middle;
      node = 2 * node + (lower ? 0 : 1);
    }
  }

  BrownianClock clock_;
};

}  // namespace detail

/// Options of BrownianNoise. Plain data: threads may share what none of them writes.
struct BrownianOptions {
  BrownianClock clock = BrownianClock::snr;
  std::uint64_t first_sample = 0;  ///< as in PhiloxNoise, below 2^48
};

/// Noise that does not depend on the number of steps: the draws of a plan are the increments of one
/// Brownian path per element, from the level where the stage that reads a draw starts to the level
/// where it ends. Two plans of the same seed see the same path, so a run of more steps refines the
/// picture of a run of fewer, instead of making another one.
///
/// An addressed source, made for one plan. Draw 0, the initial state, is that of
/// PhiloxNoise{seed, first_sample}; of draw d + 1, element by element,
///
///     n = (W(c_to) - W(c_from)) / sqrt(|c_to - c_from|),
///
/// a standard normal, independent of the plan's other draws. Levels are rounded to 2^-16 of log
/// SNR; up to that increments add up to those of longer steps, to 2e-6 (the rounding of float).
/// Where a draw has no stretch of the path to itself it is PhiloxNoise's: the second fresh draw of
/// a stage, steps to more noise, and levels that the plan has been through before (restarts); of
/// overlapping steps the later one takes what is left. Each number costs some 35 of PhiloxNoise's.
///
/// Immutable; safe to share between threads.
class BrownianNoise {
 public:
  /// Fails where an option is out of its range or a level of the plan is not a number.
  BrownianNoise(std::uint64_t seed, const PlanView& plan, const BrownianOptions& options = {})
      : normals_(seed, options.first_sample) {
    detail::require_enumerator("BrownianOptions::clock", options.clock, 3);
    draws_ = std::make_shared<const std::vector<Nodes>>(nodes_of(plan, options.clock));
  }

  /// The normals of elements element, element + 1, ... of a draw of a sample. `element` is a
  /// multiple of 16; limits as for PhiloxNoise, and the draw is one of the plan's.
  void fill(std::uint64_t sample, std::uint64_t draw, std::uint64_t element,
            std::span<float> out) const {
    write(sample, draw, element, out);
  }

  /// The same normals, widened.
  void fill(std::uint64_t sample, std::uint64_t draw, std::uint64_t element,
            std::span<double> out) const {
    write(sample, draw, element, out);
  }

  /// Fails where a run takes more draws than the plan of this source has, or where PhiloxNoise
  /// would.
  void require(std::uint64_t samples, std::uint64_t draws, std::uint64_t elements) const {
    if (draws > draws_->size())
      fail(detail::text("the run takes ", draws,
                        " draws, the initial state included, but this "
                        "BrownianNoise was made for a plan of ",
                        draws_->size(), ": make it for the plan that is run"));
    normals_.require(samples, draws, elements);
  }

  /// Whether draw `draw` >= 1 of the plan is an increment of the path.
  bool on_path(std::uint64_t draw) const {
    return draw < draws_->size() && !(*draws_)[static_cast<std::size_t>(draw)].empty();
  }

 private:
  struct Node {
    std::uint64_t draw;  // where in PhiloxNoise's address space its normals lie
    float weight;
  };
  using Nodes = std::vector<Node>;

  /// PhiloxNoise's draws from here on are the tree's nodes: no plan has so many.
  static constexpr std::uint64_t first_node = std::uint64_t{1} << 47;
  static constexpr double negligible = 1e-9;  // far below the rounding of float

  /// The nodes of every draw, the initial state's first; none where it is PhiloxNoise's.
  static std::vector<Nodes> nodes_of(const PlanView& plan, BrownianClock clock) {
    const detail::BrownianTree tree(clock);
    const std::int64_t direction = tree.direction();
    std::vector<Nodes> draws(static_cast<std::size_t>(plan.draws()) + 1);
    std::vector<bool> read(draws.size(), false);
    std::optional<std::int64_t> reached;  // up to where the path is used
    for (std::size_t i = 0; i < plan.stages.size(); ++i) {
      const Stage& stage = plan.stages[i];
      for (const Term& term : stage.noise) {
        if (term.source < 0) continue;
        const std::size_t draw = static_cast<std::size_t>(term.source) + 1;
        if (read.at(draw)) continue;
        read[draw] = true;
        std::int64_t from = level_of(tree, stage.at, i);
        const std::int64_t to = level_of(tree, stage.to, i);
        if (reached && (*reached - from) * direction > 0) from = *reached;
        if ((to - from) * direction <= 0) continue;
        reached = to;
        for (const auto& [node, weight] : tree.increment(from, to))
          if (std::abs(weight) > negligible)
            draws[draw].push_back({first_node + node, static_cast<float>(weight)});
      }
    }
    return draws;
  }

  static std::int64_t level_of(const detail::BrownianTree& tree, const Knot& knot, std::size_t i) {
    const double log_snr = knot.log_snr();
    if (detail::is_nan(log_snr))
      fail(detail::text("stage ", i, " of the plan has the level alpha = ", knot.alpha,
                        ", sigma = ", knot.sigma, ", whose log-SNR is not a number"));
    return tree.level(log_snr);
  }

  /// Whole chunks of one length, as in PhiloxNoise, so that an element does not depend on the call
  /// that made it.
  template <class Scalar>
  void write(std::uint64_t sample, std::uint64_t draw, std::uint64_t element,
             std::span<Scalar> out) const {
    if (!on_path(draw)) return normals_.fill(sample, draw, element, out);
    constexpr std::size_t chunk = detail::philox_chunk;
    for (std::size_t begin = 0; begin < out.size(); begin += chunk) {
      const std::size_t count = (std::min)(chunk, out.size() - begin);
      alignas(64) float sum[chunk] = {};
      alignas(64) float normals[chunk] = {};
      for (const Node& node : (*draws_)[static_cast<std::size_t>(draw)]) {
        normals_.fill(sample, node.draw, element + begin, std::span<float>(normals, count));
        for (std::size_t i = 0; i < chunk; ++i) sum[i] += node.weight * normals[i];
      }
      std::copy_n(sum, count, out.data() + begin);
    }
  }

  PhiloxNoise normals_;
  std::shared_ptr<const std::vector<Nodes>> draws_;
};

}  // namespace diffusion

#endif  // DIFFUSION_NOISE_BROWNIAN_NOISE_HPP
