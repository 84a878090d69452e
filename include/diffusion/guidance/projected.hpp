#ifndef DIFFUSION_GUIDANCE_PROJECTED_HPP
#define DIFFUSION_GUIDANCE_PROJECTED_HPP

#include <diffusion/guidance/classifier_free.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <utility>
#include <vector>

namespace diffusion {

/// What projected guidance does to the difference d = c - u. Plain data: threads may share what
/// none of them writes.
struct ProjectedOptions {
  double eta = 0;       ///< how much of d along c is kept: 1 all, 0 none; any finite number
  double limit = 0;     ///< the longest that d may be, >= 0; 0: no limit
  double momentum = 0;  ///< d + momentum times the d before; usually -0.75 to -0.5; in [-1, 1]
  /// Which dimensions of a sample (0 the slowest in memory, -1 the fastest) norms and projections
  /// are taken over, the others each by itself; empty: all.
  std::vector<int> dimensions{};
  GuidanceSpace space = GuidanceSpace::x0;  ///< in terms of what; diffusers: of the predictions
};

namespace detail {

/// Which numbers of a sample a norm is taken over: group[i] is that of number i.
class Groups {
 public:
  void split(std::span<const Eigen::Index> extents, std::size_t size,
             const std::vector<int>& dimensions) {
    group_.assign(dimensions.empty() ? 0 : size, 0);
    count_ = 1;
    if (dimensions.empty()) return;
    const int rank = static_cast<int>(extents.size());
    std::vector<bool> within(extents.size(), false);
    for (const int d : dimensions) {
      if (d < -rank || d >= rank)
        fail(text("ProjectedOptions::dimensions has ", d, " for a sample of ", rank,
                  " dimensions; it must lie in [", -rank, ", ", rank - 1, "]"));
      within[static_cast<std::size_t>(d < 0 ? d + rank : d)] = true;
    }
    std::size_t stride = 1;  // in memory
    for (std::size_t d = extents.size(); d-- > 0;) {
      const auto extent = static_cast<std::size_t>(extents[d]);
      if (!within[d]) {
        for (std::size_t i = 0; i < size; ++i) group_[i] += count_ * (i / stride % extent);
        count_ *= extent;
      }
      stride *= extent;
    }
  }
  std::size_t count() const { return count_; }
  std::size_t operator[](std::size_t i) const { return group_.empty() ? 0 : group_[i]; }

 private:
  std::vector<std::size_t> group_;
  std::size_t count_ = 1;
};

/// The update of projected guidance, with its memory.
class Projection {
 public:
  explicit Projection(ProjectedOptions options) : options_(std::move(options)) {
    require_finite("ProjectedOptions::eta", options_.eta);
    require_range("ProjectedOptions::limit", options_.limit, 0.0,
                  (std::numeric_limits<double>::max)());
    require_range("ProjectedOptions::momentum", options_.momentum, -1.0, 1.0);
    require_enumerator("ProjectedOptions::space", options_.space, 3);
  }

  void forget() { memory_.clear(); }

  /// d = (c - u) b + momentum d, in the space of the options; remembered.
  template <class S>
  void remember(const BranchPredictions<S>& f) {
    const std::size_t n = f.size();
    map_ = space_map(options_.space, f.query());
    if (memory_.size() != f.batch() * n) memory_.assign(f.batch() * n, 0);
    d_ = memory_.data() + f.sample() * n;
    for (std::size_t i = 0; i < n; ++i) {
      const double difference = static_cast<double>(f[1][i]) - static_cast<double>(f[0][i]);
      d_[i] = map_.b * difference + options_.momentum * d_[i];
    }
  }

  /// out = base + scale (d across c + eta d along c), d no longer than the limit.
  template <class S>
  void apply(const BranchPredictions<S>& f, const S* base, double scale, S* out) {
    const std::size_t n = f.size();
    groups_.split(f.extents(), n, options_.dimensions);
    see(map_, f.input(), f[1], n, c_);
    cc_.assign(groups_.count(), 0);
    cd_.assign(groups_.count(), 0);
    dd_.assign(groups_.count(), 0);
    for (std::size_t i = 0; i < n; ++i) {
      cc_[groups_[i]] += c_[i] * c_[i];
      cd_[groups_[i]] += c_[i] * d_[i];
      dd_[groups_[i]] += d_[i] * d_[i];
    }
    for (std::size_t i = 0; i < n; ++i) {
      const std::size_t g = groups_[i];
      const double norm = std::sqrt(dd_[g]);
      const double shrink = options_.limit > 0 && norm > options_.limit ? options_.limit / norm : 1;
      const double along = cd_[g] / (std::max)(cc_[g], 1e-24) * c_[i];
      const double update = shrink * (d_[i] - along + options_.eta * along) / map_.b;
      out[i] = static_cast<S>(static_cast<double>(base[i]) + scale * update);
    }
  }

 private:
  ProjectedOptions options_;
  SpaceMap map_;
  std::vector<double> memory_;  // the last d of every sample
  double* d_ = nullptr;         // that of the sample at hand
  Groups groups_;
  std::vector<double> c_, cc_, cd_, dd_;
};

}  // namespace detail

/// The rule of adaptive projected guidance, APG (Sadat et al. 2024, arXiv 2410.02416): the part of
/// d = c - u along c, which makes pictures too saturated, is weakened; d may be limited in length
/// and given a negative momentum, which takes away what it had in the step before. Convention w is
/// the paper's c + w d, convention g counts from u as diffusers does: with a d that was changed
/// these are two methods. Not thread-safe: it remembers the d before; begin_run forgets it.
class ProjectedRule : public TwoBranchRule {
 public:
  /// Fails for options outside their ranges.
  explicit ProjectedRule(GuidanceOptions options, ProjectedOptions projected = {})
      : TwoBranchRule(std::move(options)), projection_(std::move(projected)) {}

  template <class S>
  void operator()(const BranchPredictions<S>& f, S* out) {
    const double scale = this->scale(f);
    if (scale == neutral()) return detail::answer(f, main(), out);
    projection_.remember(f);
    projection_.apply(f, f[base()], scale, out);
  }
  void begin_run() { projection_.forget(); }

 private:
  detail::Projection projection_;
};

/// The rule that begins as classifier-free guidance and goes on as projected guidance with a scale
/// of its own, as HunyuanImage 2.1 is sampled; the momentum gathers from the start. Not
/// thread-safe: see ProjectedRule.
class ProjectedMixRule : public TwoBranchRule {
 public:
  /// Plain guidance up to and with step `last_plain_step`. Fails for options outside their ranges.
  ProjectedMixRule(GuidanceOptions options, double projected_scale, int last_plain_step,
                   ProjectedOptions projected = {})
      : TwoBranchRule(std::move(options)),
        projection_(std::move(projected)),
        projected_scale_(projected_scale),
        last_plain_step_(last_plain_step) {
    detail::require_finite("ProjectedMixRule: projected_scale", projected_scale);
  }

  template <class S>
  void operator()(const BranchPredictions<S>& f, S* out) {
    const double scale = this->scale(f);
    if (scale == neutral()) return detail::answer(f, main(), out);
    projection_.remember(f);
    if (f.query().step > last_plain_step_ && projected_scale_ != neutral())
      projection_.apply(f, f[base()], projected_scale_, out);
    else
      detail::go(f[base()], {{f[1], f[0], scale}}, out, f.size());
  }
  void begin_run() { projection_.forget(); }

 private:
  detail::Projection projection_;
  double projected_scale_;
  int last_plain_step_;
};

}  // namespace diffusion

#endif  // DIFFUSION_GUIDANCE_PROJECTED_HPP
