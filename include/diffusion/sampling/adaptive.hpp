#ifndef DIFFUSION_SAMPLING_ADAPTIVE_HPP
#define DIFFUSION_SAMPLING_ADAPTIVE_HPP

#include <diffusion/error.hpp>
#include <diffusion/noise/philox.hpp>
#include <diffusion/samplers/dpm_solver_singlestep.hpp>
#include <diffusion/sampling/sample.hpp>
#include <diffusion/schedule/sigma_grid.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

namespace diffusion {

/// Options of `sample_adaptively`. Levels are s = sigma / alpha. Plain data: threads may share what
/// none of them writes.
struct AdaptiveOptions {
  int order = 3;            ///< of the result, 2 or 3; the method of one order less tells its error
  double rtol = 0.05;       ///< error allowed, as a share of the state's elements, >= 0
  double atol = 1.0 / 128;  ///< error allowed in any case, > 0: a grey level of 256
  double first_step = 0.05;  ///< first step in lambda = log(alpha / sigma), 1e-9 to 100
  double safety = 0.9;       ///< a next step is this times what the error allows; 0.01 to 1
  double integral = 1;       ///< how StepController answers the error, 0.01 to 10 ...
  double proportional = 0;   ///< ... and its change, 0 to 10; 1 and 0 are the paper's
  SolverForm form = SolverForm::noise;  ///< DPM-Solver; data: DPM-Solver++
  double s_start = 0;     ///< where x stands; 0: the schedule's most noise, see `adaptive_start`
  double s_end = 0;       ///< where the steps end; 0: the schedule's least noise, see there
  bool denoise = true;    ///< end at clean data, by one step of DDIM, which is one more call
  int max_trials = 1000;  ///< trial steps, rejected ones too, after which it gives up
  StateSpace space{};     ///< how the network sees the state
  Clipping clipping{};    ///< what is done to the estimate of x0
};

/// How an adaptive run ended. Plain data: threads may share what none of them writes.
struct AdaptiveResult {
  Status status = Status::done;  ///< `cancelled`: max_trials were not enough
  int accepted = 0;              ///< steps that were taken
  int rejected = 0;              ///< trial steps whose error was too large
  int network_calls = 0;         ///< those of rejected trials too, whose first answer is used again
  std::vector<Knot> knots;       ///< the levels that the run went through, the first included
  bool done() const { return status == Status::done; }
};

/// The step size of an embedded pair of methods: proportional-integral control (Gustafsson 1991,
/// ACM Trans. Math. Softw. 17; Hairer and Wanner 1996, Solving Ordinary Differential Equations II,
/// section IV.2). With the error e of a trial, 1 being what is allowed, the step is multiplied with
///
///   safety * e^(-(integral + proportional) / order) * e_before^(proportional / order)
///
/// held within [1/5, 5]. For one run; not thread-safe.
class StepController {
 public:
  /// `order`, 1 to 100, is that of the pair's better method; the others as in AdaptiveOptions.
  /// Fails where one is out of its range.
  StepController(double first_step, int order, double safety, double integral, double proportional)
      : step_(first_step),
        safety_(safety),
        integral_(integral / order),
        proportional_(proportional / order) {
    detail::require_range("first_step", first_step, 1e-9, 100.0);
    detail::require_range("order", order, 1, 100);
    detail::require_range("safety", safety, 0.01, 1.0);
    detail::require_range("integral", integral, 0.01, 10.0);
    detail::require_range("proportional", proportional, 0.0, 10.0);
  }

  double step() const { return step_; }

  /// Takes the error of a trial of the length `tried`; says whether it is accepted, and sets the
  /// next step. A rejected one is made smaller.
  bool accepts(double error, double tried) {
    const double e = (std::max)(error, 1e-10);
    const bool accepted = e <= 1;
    const double change = accepted ? proportional_ : 0;
    const double factor = safety_ * std::pow(e, -integral_ - change) * std::pow(before_, change);
    if (accepted) before_ = e;
    step_ = tried * std::clamp(factor, 0.2, accepted ? 5.0 : 0.9);
    return accepted;
  }

 private:
  double step_, safety_, integral_, proportional_;
  double before_ = 1;
};

namespace detail {

inline void check_adaptive(const AdaptiveOptions& o) {
  require_range("AdaptiveOptions::order", o.order, 2, 3);
  require_range("AdaptiveOptions::rtol", o.rtol, 0.0, 1e6);
  require_range("AdaptiveOptions::atol", o.atol, 1e-300, 1e6);
  StepController(o.first_step, o.order, o.safety, o.integral, o.proportional);
  require_range("AdaptiveOptions::max_trials", o.max_trials, 1, 1'000'000'000);
}

/// One call of the method after the other: the plan of a single Runge-Kutta step.
inline SamplingPlan runge_kutta_plan(std::span<const Knot> knots, const AdaptiveOptions& options) {
  const Grid grid = Grid::through(knots, {options.space.sigma_data, 0});
  constexpr int calls[] = {1, 2, 3};
  return make_plan(
      grid,
      DpmSolverSinglestepOptions{
          .form = options.form, .solver = SolverType::heun, .clipping = options.clipping},
      std::span(calls).first(static_cast<std::size_t>(grid.size())));
}

/// The largest root mean square over a sample of (a - b) / max(atol, rtol max(|a|, |before|)).
template <class T>
double worst_error(const T& a, const T& b, const T& before, const AdaptiveOptions& options,
                   bool batch) {
  const Blocks blocks = blocks_of<T>(StateTraits<T>::shape(a), batch);
  const auto at = [](const T& state, std::size_t i) {
    return static_cast<double>(StateTraits<T>::data(state)[i]);
  };
  double worst = 0;
  for (std::size_t sample = 0; sample < blocks.batch; ++sample) {
    double sum = 0;
    for (std::size_t i = sample * blocks.size; i < (sample + 1) * blocks.size; ++i) {
      const double size = (std::max)(std::abs(at(a, i)), std::abs(at(before, i)));
      const double e = (at(a, i) - at(b, i)) / (std::max)(options.atol, options.rtol * size);
      sum += e * e;
    }
    worst = (std::max)(worst, std::sqrt(sum / static_cast<double>(blocks.size)));
  }
  return worst;
}

}  // namespace detail

/// The level at which `sample_adaptively` starts: s_start, or the schedule's most noise, or, where
/// that is pure noise, the level next to it (a timestep, or a thousandth of the range of time). The
/// initial state is sqrt(alpha^2 + sigma^2) of it times standard normal noise.
template <class S>
Knot adaptive_start(const S& schedule, const AdaptiveOptions& options = {}) {
  const detail::Levels<S> levels(schedule);
  return levels.knot(options.s_start != 0
                         ? levels.within("AdaptiveOptions::s_start", options.s_start)
                         : levels.most());
}

namespace detail {

/// One run: the state, the level it stands at, and what the next trial needs.
template <class S, class D, class T>
class AdaptiveRun {
  using Run = Stepper<T, PhiloxNoise>;

 public:
  AdaptiveRun(const S& schedule, D& denoiser, T& x, const AdaptiveOptions& options,
              const SampleOptions& run)
      : denoiser_(denoiser),
        x_(x),
        options_(options),
        run_(run),
        levels_(schedule),
        declared_(declared_output_shape<T>(denoiser, StateTraits<T>::shape(x))),
        controller_(options.first_step, options.order, options.safety, options.integral,
                    options.proportional),
        first_(x) {
    s_end_ = options.s_end != 0 ? levels_.within("AdaptiveOptions::s_end", options.s_end)
                                : levels_.least();
    result_.knots.push_back(adaptive_start(schedule, options));
    s_ = ratio_of(result_.knots[0]);
    if (!(s_ > s_end_))
      fail(text("AdaptiveOptions::s_end is ", s_end_, "; it must be below where the run starts, ",
                s_));
  }

  AdaptiveResult sample() && {
    while (s_ > s_end_ && result_.done()) {
      if (result_.accepted + result_.rejected == options_.max_trials)
        result_.status = Status::cancelled;
      else if (std::chrono::steady_clock::now() >= run_.deadline)
        result_.status = Status::deadline;
      else
        try_step();
    }
    if (result_.done() && options_.denoise) denoise();
    return std::move(result_);
  }

 private:
  void try_step() {
    const double left = std::log(s_ / s_end_);
    const bool last = controller_.step() >= left * (1 - 1e-9);
    const double h = last ? left : controller_.step();
    const double s_to = last ? s_end_ : s_ * std::exp(-h);
    std::vector<Knot> knots{result_.knots.back()};
    for (int k = 1; k < options_.order; ++k)
      knots.push_back(levels_.knot(s_ * std::exp(-h * k / options_.order)));
    knots.push_back(levels_.knot(s_to));
    std::vector<Knot> fewer = knots;  // the lower order leaves out the last level in between
    fewer.erase(fewer.end() - 2);

    const SamplingPlan plan = runge_kutta_plan(knots, options_);
    const SamplingPlan lower_plan = runge_kutta_plan(fewer, options_);
    Run trial(plan, x_, silence_, run_, declared_),
        lower(lower_plan, x_, silence_, run_, declared_);
    if (!run_both(trial, lower)) {
      result_.status = Status::not_finite;
      return;
    }
    const double error = worst_error(lower.state(), trial.state(), x_, options_, run_.batch);
    if (!controller_.accepts(error, h)) {
      ++result_.rejected;
      return;
    }
    ++result_.accepted;
    x_ = std::move(trial).state();
    asked_ = false;
    result_.knots.push_back(knots.back());
    s_ = s_to;
  }

  /// Runs both on the same answers; false where a state is not finite.
  bool run_both(Run& trial, Run& lower) {
    while (!trial.done()) {
      const bool first = trial.stage_number() == 0;
      if (first && asked_)
        trial.output() = first_;
      else
        answer(trial);
      if (first && !asked_) first_ = trial.output();
      asked_ = true;
      if (!lower.done()) {
        lower.output() = trial.output();
        lower.advance();
      }
      trial.advance();
      if (!trial.finite() || !lower.finite()) return false;
    }
    return true;
  }

  void denoise() {
    const Knot end = result_.knots.back(), clean{end.t, 1, 0};
    const SamplingPlan plan =
        make_plan(Grid::through(std::vector{end, clean}, {options_.space.sigma_data, 0}),
                  DpmSolverOptions{.order = 1, .clipping = options_.clipping});
    Run step(plan, x_, silence_, run_, declared_);
    answer(step);
    step.advance();
    if (!step.finite()) result_.status = Status::not_finite;
    x_ = std::move(step).state();
    result_.knots.push_back(clean);
  }

  void answer(Run& run) {
    ask(denoiser_, run.input(), run.query(), run.output());
    ++result_.network_calls;
  }

  D& denoiser_;
  T& x_;
  const AdaptiveOptions& options_;
  const SampleOptions& run_;
  Levels<S> levels_;
  std::optional<ShapeOf<T>> declared_;
  StepController controller_;
  PhiloxNoise silence_{0};  // no plan here draws
  AdaptiveResult result_;
  double s_ = 0, s_end_ = 0;
  T first_;             // the network's answer at the present state ...
  bool asked_ = false;  // ... if it has been asked there
};

}  // namespace detail

/// Samples with steps whose size follows from the error: DPM-Solver-12 (order 2) or DPM-Solver-23
/// (order 3) with a step controller (Lu et al. 2022, arXiv 2206.00927; k-diffusion's
/// dpm_adaptive). A trial is a short plan of 2 or 3 calls; the method of one order less runs beside
/// it on the same answers. No plan says how many calls there will be: the result does.
///
/// x is the state at `adaptive_start`, an owner of its memory, and holds the sample at the end; all
/// samples of a batch take the steps of the worst. The network is asked as by `sample`; one with a
/// memory of its own calls (momentum) sees rejected trials too. Fails for options out of range.
template <class S, class D, State T>
AdaptiveResult sample_adaptively(const S& schedule, D&& denoiser, T& x,
                                 const AdaptiveOptions& options = {}, SampleOptions run = {}) {
  static_assert(!detail::is_view<T>, "an adaptive run needs a state that owns its memory");
  detail::check_adaptive(options);
  run.prediction_type = prediction_type_of(denoiser, run.prediction_type);
  detail::AdaptiveRun<S, std::remove_reference_t<D>, T> adaptive(schedule, denoiser, x, options,
                                                                 run);
  begin_run(denoiser);
  return std::move(adaptive).sample();
}

}  // namespace diffusion

#endif  // DIFFUSION_SAMPLING_ADAPTIVE_HPP
