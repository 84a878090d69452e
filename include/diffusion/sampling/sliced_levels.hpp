#ifndef DIFFUSION_SAMPLING_SLICED_LEVELS_HPP
#define DIFFUSION_SAMPLING_SLICED_LEVELS_HPP

#include <diffusion/denoiser/query.hpp>
#include <diffusion/plan/plan.hpp>

#include <cmath>
#include <cstddef>
#include <vector>

namespace diffusion::detail {

/// What a network is told, and given, of each slice of a run.
class SliceLevels {
 public:
  SliceLevels(const PlanView& plan, std::size_t slices)
      : told_(told_levels(plan)), scales_(slices, 1), levels_(slices), times_(slices) {}

  /// Works it out for slices that stand at these stages; `moves(i)` says whether slice i moves.
  template <class Moves>
  void tell(const std::vector<int>& stages, const Moves& moves) {
    alike_ = true;
    leader_ = 0;
    bool found = false;
    for (std::size_t i = 0; i < stages.size(); ++i) {
      const Told& told = told_[static_cast<std::size_t>(stages[i])];
      levels_[i] = told.level;
      times_[i] = told.level.t;
      scales_[i] = told.scale;
      alike_ = alike_ && told == told_[static_cast<std::size_t>(stages[0])];
      if (moves(i) && (!found || noisier(i, leader_))) leader_ = i;
      found = found || moves(i);
    }
  }

  /// The noisiest slice that moves, the first of several.
  std::size_t leader() const { return leader_; }
  /// The time and level of what the network is given of a slice.
  const Knot& level(std::size_t slice) const { return levels_[slice]; }
  /// What the slice is multiplied with for the network.
  double scale(std::size_t slice) const { return scales_[slice]; }
  bool scales_any() const {
    for (const double scale : scales_)
      if (scale != 1) return true;
    return false;
  }

  /// Puts into a query, which speaks of the leader's stage, what the slices are told; nothing while
  /// all are alike.
  void put_into(Query& query) const {
    if (alike_) return;
    query.alpha = levels_[leader_].alpha;
    query.sigma = levels_[leader_].sigma;
    query.to_alpha *= query.input_scale;
    query.to_sigma *= query.input_scale;
    query.input_scale = 1;
    query.times = times_;
    query.levels = levels_;
  }

 private:
  struct Told {
    Knot level;
    double scale = 1;
    friend bool operator==(const Told&, const Told&) = default;
  };

  bool noisier(std::size_t i, std::size_t k) const {
    return levels_[i].sigma * levels_[k].alpha > levels_[k].sigma * levels_[i].alpha;
  }

  // Of each stage, and of the plan's end. A network that sees the state scaled is, at the end,
  // given what its deviation there asks for.
  static std::vector<Told> told_levels(const PlanView& plan) {
    std::vector<Told> told;
    Told last;  // of the stages that ask, with the state's own level
    for (const Stage& s : plan.stages) {
      told.push_back(
          {{s.at.t, s.input_scale * s.at.alpha, s.input_scale * s.at.sigma}, s.input_scale});
      if (s.ask) last = {s.at, s.input_scale};
    }
    const Knot& to = plan.stages.back().to;
    double scale = last.scale;
    if (scale != 1) {  // 1 / scale^2 = sigma^2 + sigma_data^2 alpha^2, see StateSpace
      const double data = 1 / (scale * scale) - last.level.sigma * last.level.sigma;
      const double ratio = last.level.alpha > 0 ? to.alpha / last.level.alpha : 0;
      if (data > 0 && ratio > 0) scale = 1 / std::sqrt(to.sigma * to.sigma + data * ratio * ratio);
    }
    told.push_back({{to.t, scale * to.alpha, scale * to.sigma}, scale});
    return told;
  }

  std::vector<Told> told_;
  std::vector<double> scales_;
  std::vector<Knot> levels_;
  std::vector<double> times_;
  std::size_t leader_ = 0;
  bool alike_ = true;
};

}  // namespace diffusion::detail

#endif  // DIFFUSION_SAMPLING_SLICED_LEVELS_HPP
