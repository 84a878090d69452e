#ifndef DIFFUSION_TESTS_EXACT_GAUSSIAN_HPP
#define DIFFUSION_TESTS_EXACT_GAUSSIAN_HPP

// The exact mean and variance of what a plan makes of Gaussian data, whose perfect network is
// linear: every buffer of the run is a row of weights on 1, on the initial noise and on each draw.
// The plan is lowered as the loop does it, so that what it refuses is refused here too.

#include <diffusion/plan/lowering.hpp>
#include <diffusion/plan/plan.hpp>

#include <cmath>
#include <cstddef>
#include <vector>

namespace exact {

using namespace diffusion;

struct Moments {
  double mean = 0, variance = 0;
};

struct Gaussian {
  double mean = 0.4, variance = 0.36;

  Moments at(const Knot& knot) const {
    return {knot.alpha * mean, knot.alpha * knot.alpha * variance + knot.sigma * knot.sigma};
  }

  /// f = slope x + offset, for a perfect network that sees scale * x.
  struct Line {
    double slope, offset;
  };
  Line network(const PredictionType& type, const Knot& knot, double scale) const {
    const double gain = knot.alpha * variance / at(knot).variance;
    const Line x0{gain, mean * (1 - gain * knot.alpha)};
    const Line eps{(1 - knot.alpha * x0.slope) / knot.sigma, -knot.alpha * x0.offset / knot.sigma};
    const Target f = target(type, {knot.t, scale * knot.alpha, scale * knot.sigma});
    return {f.on_x0 * x0.slope + f.on_eps * eps.slope, f.on_x0 * x0.offset + f.on_eps * eps.offset};
  }
};

class Propagation {
 public:
  /// From the data's law at the plan's first level. Langevin steps have the size that they have in
  /// many dimensions, where the norms of noise and score are their expectations.
  Moments run(const SamplingPlan& plan, const PredictionType& type, const Gaussian& data) {
    width_ = 2 + static_cast<std::size_t>(plan.draws());
    slots_.assign(static_cast<std::size_t>(plan.traits().slots) * width_, 0);
    saved_.assign(width_, 0);
    next_.assign(width_, 0);
    x_.assign(width_, 0);
    const Moments start = data.at(plan[0].at);
    x_[0] = start.mean;
    x_[1] = std::sqrt(start.variance);
    for (const Stage& stage : plan.stages()) step(stage, plan.traits(), type, data);
    Moments result{x_[0], 0};
    for (std::size_t k = 1; k < width_; ++k) result.variance += x_[k] * x_[k];
    return result;
  }

 private:
  using Row = std::vector<double>;

  void step(Stage stage, const PlanTraits& traits, const PredictionType& type,
            const Gaussian& data) {
    if (stage.save) saved_ = x_;
    Gaussian::Line f{0, 0};
    if (stage.ask) f = data.network(type, stage.at, stage.input_scale);
    if (stage.langevin_snr > 0) langevin(stage, type, f);
    const LoweredStage row = lower(stage, traits, type);
    next_.assign(width_, 0);
    add(row.result, f, next_.data());
    add(stage.saved, saved_.data());
    for (const Term& term : stage.history)
      if (term.source >= 0) add(term.weight, slot(term.source));
    for (const Term& term : stage.noise)
      if (term.source >= 0) next_[2 + static_cast<std::size_t>(term.source)] += term.weight;
    if (stage.keep >= 0) {
      double* kept = slot(stage.keep);
      for (std::size_t k = 0; k < width_; ++k) kept[k] = 0;
      add(row.kept, f, kept);
    }
    x_.swap(next_);
  }

  /// x' = x + h score + sqrt(2 h) n, h = 2 (snr |n| / |score|)^2.
  void langevin(Stage& stage, const PredictionType& type, const Gaussian::Line& f) const {
    const Conversion c = conversion(type, stage.at, stage.input_scale);
    double square = 0;
    for (std::size_t k = 0; k < width_; ++k) {
      const double eps = (c.p + c.q * f.slope) * x_[k] + (k == 0 ? c.q * f.offset : 0);
      square += eps * eps;
    }
    const double sigma = stage.at.sigma;
    const double h = 2 * stage.langevin_snr * stage.langevin_snr * sigma * sigma / square;
    stage.eps = -h / sigma;
    stage.noise[0].weight = std::sqrt(2 * h);
  }

  void add(const Combination& weights, const Gaussian::Line& f, double* sum) const {
    const double on_x = weights.x + weights.f * f.slope;
    for (std::size_t k = 0; k < width_; ++k) sum[k] += on_x * x_[k];
    sum[0] += weights.f * f.offset;
  }
  void add(double weight, const double* row) {
    if (weight == 0) return;
    for (std::size_t k = 0; k < width_; ++k) next_[k] += weight * row[k];
  }
  double* slot(int number) { return slots_.data() + static_cast<std::size_t>(number) * width_; }

  std::size_t width_ = 0;
  Row x_, next_, saved_, slots_;
};

}  // namespace exact

#endif  // DIFFUSION_TESTS_EXACT_GAUSSIAN_HPP
