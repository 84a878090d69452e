#ifndef DIFFUSION_EDIT_INVERSION_LOOP_HPP
#define DIFFUSION_EDIT_INVERSION_LOOP_HPP

#include <diffusion/error.hpp>
#include <diffusion/noise/philox.hpp>
#include <diffusion/plan/plan.hpp>
#include <diffusion/sampling/sample.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

/// What the inversions share: a run made of parts, and solving a step of sampling for its start.
namespace diffusion::detail {

/// A copy of a state that owns its memory.
template <ReadableState X>
TensorOf<X> owned_copy(const X& x) {
  const auto shape = StateTraits<X>::shape(x);
  require_extents("the picture", shape);
  TensorOf<X> copy = StateTraits<X>::make(shape);
  std::copy_n(StateTraits<X>::data(x), blocks_of<X>(shape, false).total(),
              StateTraits<TensorOf<X>>::data(copy));
  return copy;
}

/// The root mean square of (a - b) over each sample.
template <State T>
std::vector<double> sample_errors(const T& a, const T& b, const Blocks& blocks) {
  const auto* of_a = StateTraits<T>::data(a);
  const auto* of_b = StateTraits<T>::data(b);
  std::vector<double> errors;
  for (std::size_t sample = 0; sample < blocks.batch; ++sample) {
    double sum = 0;
    for (std::size_t i = sample * blocks.size; i < (sample + 1) * blocks.size; ++i) {
      const double d = static_cast<double>(of_a[i]) - static_cast<double>(of_b[i]);
      sum += d * d;
    }
    errors.push_back(std::sqrt(sum / static_cast<double>(blocks.size)));
  }
  return errors;
}

template <State T>
double worst_sample_error(const T& a, const T& b, const Blocks& blocks) {
  const std::vector<double> errors = sample_errors(a, b, blocks);
  return *std::max_element(errors.begin(), errors.end());
}

/// Where a part of a run stands in the whole, as a Query says it.
struct PartOfRun {
  int stage = 0, step = 0, steps = 1;
};

/// Runs plans from states that are handed in, and tells the denoiser the numbers of the whole run.
/// For one inversion; not thread-safe.
template <class D, State T>
class InversionLoop {
 public:
  /// `learned_variance`: the network has 2C channels, whether the part that is run reads them or
  /// not.
  InversionLoop(D& denoiser, const T& like, const SampleOptions& options, bool learned_variance)
      : denoiser_(denoiser),
        options_(options),
        output_shape_(output_shape(denoiser, like, options, learned_variance)),
        blocks_(blocks_of<T>(StateTraits<T>::shape(like), options.batch)) {
    options_.prediction_type = prediction_type_of(denoiser, options.prediction_type);
    begin_run(denoiser);
  }

  const Blocks& blocks() const { return blocks_; }
  const SampleOptions& options() const { return options_; }
  int network_calls() const { return network_calls_; }
  bool late() const { return std::chrono::steady_clock::now() >= options_.deadline; }

  /// A run of the plan, which must outlive it, from x.
  template <class N>
  Stepper<T, N> start(const PlanView& plan, T x, const N& noise) const {
    return Stepper<T, N>(plan, std::move(x), noise, options_, output_shape_);
  }

  template <class Run>
  void ask_network(Run& run, const PartOfRun& part) {
    Query query = run.query();
    query.stage += part.stage;
    query.step += part.step;
    query.steps = part.steps;
    ask(denoiser_, run.input(), query, run.output());
    ++network_calls_;
  }

  /// x after the whole of a plan without noise; before(step, x) is called as each of its steps
  /// begins, and ends the run with false.
  template <class Before>
  T run(const PlanView& plan, T x, const PartOfRun& part, Before&& before) {
    auto run = start(plan, std::move(x), PhiloxNoise{0});
    int begun = -1;
    while (!run.done()) {
      if (run.step() != begun && !before(begun = run.step(), run.state())) break;
      if (run.asks()) ask_network(run, part);
      run.advance();
      if (!run.finite())
        fail(text("the state is not finite after stage ", run.stage_number() + part.stage,
                  " of an inversion; look at the network's output, the prediction type and the "
                  "range of the data"));
    }
    return std::move(run).state();
  }
  T run(const PlanView& plan, T x, const PartOfRun& part) {
    return run(plan, std::move(x), part, [](int, const T&) { return true; });
  }

 private:
  static std::optional<ShapeOf<T>> output_shape(D& denoiser, const T& like,
                                                const SampleOptions& options,
                                                bool learned_variance) {
    const auto shape = StateTraits<T>::shape(like);
    const auto declared = declared_output_shape<T>(denoiser, shape);
    return declared
               ? declared
               : std::optional(default_output_shape<T>(shape, learned_variance, options.batch));
  }

  D& denoiser_;
  SampleOptions options_;
  std::optional<ShapeOf<T>> output_shape_;
  Blocks blocks_;
  int network_calls_ = 0;
};

/// Fails where a plan adds noise.
inline void require_deterministic(const SamplingPlan& plan) {
  for (int i = 0; i < plan.size(); ++i) {
    const Stage& stage = plan[i];
    for (const Term& term : stage.noise)
      if (term.source >= 0 && term.weight != 0)
        fail(text("stage ", i, " of the plan adds noise with weight ", term.weight,
                  "; only a sampler without noise can be inverted (eta = 0, no churn); for one "
                  "with noise there is invert_ddpm"));
    if (stage.langevin_snr > 0)
      fail(text("stage ", i,
                " of the plan is a Langevin step, which adds noise; only a sampler "
                "without noise can be inverted"));
  }
}

/// The stages of each step of a plan, which must stand alone.
inline std::vector<PlanView> steps_alone(const PlanView& plan) {
  std::vector<PlanView> steps;
  std::size_t begin = 0;
  for (std::size_t end = 1; end <= plan.stages.size(); ++end) {
    if (end < plan.stages.size() && plan.stages[end].step == plan.stages[begin].step) continue;
    steps.push_back({plan.stages.subspan(begin, end - begin), plan.traits});
    std::vector<bool> kept(static_cast<std::size_t>(plan.traits.slots), false);
    bool saved = false;
    for (std::size_t i = begin; i < end; ++i) {
      const Stage& stage = plan.stages[i];
      saved = saved || stage.save;
      bool alone = stage.saved == 0 || saved;
      for (const Term& term : stage.history)
        alone = alone && (term.source < 0 || kept[static_cast<std::size_t>(term.source)]);
      if (!alone)
        fail(text("stage ", i,
                  " of the plan reads what an earlier step has left; a fixed point is "
                  "found for steps that stand alone (DDIM, Euler, Heun, DPM2), a sampler with a "
                  "memory is walked backwards: InversionMethod::reversed"));
      if (stage.keep >= 0) kept[static_cast<std::size_t>(stage.keep)] = true;
    }
    begin = end;
  }
  return steps;
}

/// dx' / dx of a step between two levels where the estimate of the noise does not answer to x, or,
/// near pure noise, where that of the data does not: whichever leaves less to the iteration for
/// data of unit variance.
inline double step_slope(const Knot& from, const Knot& to) {
  const double ratio = from.alpha == 0 ? 0 : ratio_of(to) / ratio_of(from);
  const bool by_data = from.alpha * from.alpha <= ratio * from.sigma * from.sigma;
  const double slope = by_data ? to.sigma / from.sigma : to.alpha / from.alpha;
  if (!(is_finite(slope) && slope > 0))
    fail(text("a step leads from sigma / alpha = ", from.sigma, " / ", from.alpha, " to ", to.sigma,
              " / ", to.alpha, "; its end does not tell where it began"));
  return slope;
}

/// How long a fixed point is looked for.
struct FixedPointLimits {
  int iterations;
  double tolerance;
  bool accelerate;
};

/// Solves F(x) = x' for x, F being a step of sampling, by x <- x + (x' - F(x)) / slope, for each
/// sample of a batch by itself; accelerated, by Anderson's method with a memory of one (AIDI: Pan
/// et al. 2023, arXiv 2309.04907).
template <class Loop, State T>
class FixedPoint {
 public:
  FixedPoint(Loop& loop, const FixedPointLimits& limits) : loop_(loop), limits_(limits) {}

  /// Takes x from the end of a step to its start; returns the worst sample's root mean square of
  /// x' - F(x).
  double solve(const PlanView& step, const Knot& from, const Knot& to, const PartOfRun& part,
               T& x) {
    const Blocks& blocks = loop_.blocks();
    const double slope = step_slope(from, to);
    const T target = x;
    scale(x, std::hypot(from.alpha, from.sigma) / std::hypot(to.alpha, to.sigma));
    T best = x;
    std::vector<double> best_error(blocks.batch, infinity());
    previous_error_.assign(blocks.batch, infinity());
    residual_.assign(blocks.total(), 0);
    mapped_.assign(blocks.total(), 0);
    for (int k = 0;; ++k) {
      const T end = loop_.run(step, x, part);
      const std::vector<double> errors = sample_errors(target, end, blocks);
      for (std::size_t sample = 0; sample < blocks.batch; ++sample)
        if (errors[sample] < best_error[sample]) {
          best_error[sample] = errors[sample];
          copy_sample(x, best, sample);
        }
      const double worst = *std::max_element(best_error.begin(), best_error.end());
      if (worst <= limits_.tolerance || k == limits_.iterations) {
        x = best;
        return worst;
      }
      for (std::size_t sample = 0; sample < blocks.batch; ++sample)
        if (best_error[sample] <= limits_.tolerance)
          copy_sample(best, x, sample);
        else
          improve(sample, errors[sample], target, end, slope, x);
    }
  }

 private:
  static double infinity() { return std::numeric_limits<double>::infinity(); }

  void scale(T& x, double factor) const {
    using Scalar = ScalarOf<T>;
    Scalar* data = StateTraits<T>::data(x);
    if (factor == 1) return;
    for (std::size_t i = 0; i < loop_.blocks().total(); ++i)
      data[i] = static_cast<Scalar>(factor * static_cast<double>(data[i]));
  }

  void copy_sample(const T& from, T& to, std::size_t sample) const {
    const std::size_t size = loop_.blocks().size;
    std::copy_n(StateTraits<T>::data(from) + sample * size, size,
                StateTraits<T>::data(to) + sample * size);
  }

  /// The next x of a sample, whose F(x) is `end`.
  void improve(std::size_t sample, double error, const T& target, const T& end, double slope,
               T& x) {
    const std::size_t size = loop_.blocks().size, first = sample * size;
    const auto* wanted = StateTraits<T>::data(target) + first;
    const auto* reached = StateTraits<T>::data(end) + first;
    auto* at = StateTraits<T>::data(x) + first;
    double* residual = residual_.data() + first;  // of the iterate before, then of this one
    double* mapped = mapped_.data() + first;      // where the plain iteration led, likewise
    double along = 0, square = 0;
    for (std::size_t i = 0; i < size; ++i) {
      const double r = (static_cast<double>(wanted[i]) - static_cast<double>(reached[i])) / slope;
      along += r * (r - residual[i]);
      square += (r - residual[i]) * (r - residual[i]);
    }
    // Where the error has grown, what was learned from the last two iterates misleads.
    const bool uses_both = limits_.accelerate && error < previous_error_[sample] &&
                           is_finite(previous_error_[sample]) && square > 0;
    const double mix = uses_both ? along / square : 0;
    for (std::size_t i = 0; i < size; ++i) {
      const double r = (static_cast<double>(wanted[i]) - static_cast<double>(reached[i])) / slope;
      const double plain = static_cast<double>(at[i]) + r;
      at[i] = static_cast<ScalarOf<T>>(plain - mix * (plain - mapped[i]));
      residual[i] = r;
      mapped[i] = plain;
    }
    previous_error_[sample] = error;
  }

  Loop& loop_;
  FixedPointLimits limits_;
  std::vector<double> previous_error_, residual_, mapped_;
};

}  // namespace diffusion::detail

#endif  // DIFFUSION_EDIT_INVERSION_LOOP_HPP
