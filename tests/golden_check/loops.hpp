#ifndef DIFFUSION_TESTS_GOLDEN_CHECK_LOOPS_HPP
#define DIFFUSION_TESTS_GOLDEN_CHECK_LOOPS_HPP

#include <diffusion/edit/inpaint.hpp>
#include <diffusion/forward/forward_diffusion.hpp>
#include <diffusion/noise/philox.hpp>
#include <diffusion/noise/recorded.hpp>
#include <diffusion/plan/print.hpp>
#include <diffusion/sampling/sample.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numbers>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "data.hpp"
#include "models.hpp"

/// Sampling loops, compared stage by stage.
namespace golden {

/// How the classes that add churn after the ask read the network's output there: as if it had been
/// asked about the state with that noise.
struct ChurnedReading {
  double share;       ///< s^ = (1 + share) s
  double s_noise;     ///< factor on the noise between
  bool at_old_level;  ///< the output is read at s all the same (Euler with v)
};

/// What a loop must give, stage by stage; steps are counted from the first that is taken.
struct Trajectory {
  std::vector<int> steps;  ///< after which stages the state is known
  std::vector<Numbers> states;
  std::vector<Numbers> predictions;  ///< x0 of the same stages; an empty one is not known
  bool predicts_means = false;       ///< they are the states without the stage's noise instead
  bool bounded = false;              ///< they are LCM's answers c_skip x + c_out x0 instead
  std::vector<int> noise_steps;      ///< the stage that drew each noise tensor
  std::optional<ChurnedReading> churned = {};  ///< how x0 is read at stages that draw
};

inline Trajectory trajectory_of(const Json& one) {
  Trajectory expected;
  expected.states = tensors(one.at("trajectory"));
  expected.noise_steps = one.at("noise_step").get<std::vector<int>>();
  if (one.contains("trajectory_steps"))
    expected.steps = one.at("trajectory_steps").get<std::vector<int>>();
  else
    for (std::size_t i = 0; i < expected.states.size(); ++i)
      expected.steps.push_back(static_cast<int>(i));
  if (expected.steps.size() != expected.states.size())
    throw std::runtime_error("trajectory and trajectory_steps have different lengths");
  if (one.contains("pred_original_sample")) {
    for (const Json& x0 : one.at("pred_original_sample"))
      expected.predictions.push_back(x0.is_null() ? Numbers{} : numbers(x0));
    if (expected.predictions.size() != expected.steps.size())
      throw std::runtime_error("pred_original_sample and trajectory have different lengths");
  }
  return expected;
}

/// The same where a step has several stages, of which each draws once and the last one's result is
/// known.
inline Trajectory by_last_stage(const Trajectory& by_step, int stages) {
  Trajectory expected = by_step;
  for (int& step : expected.steps) step = (step + 1) * stages - 1;
  for (std::size_t k = 0; k < expected.noise_steps.size(); ++k) {
    const auto begin = by_step.noise_steps.begin(), here = begin + static_cast<std::ptrdiff_t>(k);
    const auto before = std::count(begin, here, *here);
    expected.noise_steps[k] = *here * stages + static_cast<int>(before);
  }
  return expected;
}

/// The state without the noise that the stage has added to it.
template <class Scalar>
Numbers mean_of(const Tensor<Scalar>& state, const diffusion::Stage& stage,
                const std::vector<Numbers>& draws) {
  Numbers mean = numbers(state);
  for (const diffusion::Term& term : stage.noise)
    if (term.source >= 0)
      for (std::size_t i = 0; i < mean.size(); ++i)
        mean[i] -= term.weight * draws.at(static_cast<std::size_t>(term.source))[i];
  return mean;
}

/// What a stage of LCM noises: its weights on state and x0, divided by alpha'.
inline Numbers bounded(const diffusion::Stage& stage, const Numbers& state, Numbers x0) {
  for (std::size_t i = 0; i < x0.size(); ++i)
    x0[i] = (stage.x * state[i] + stage.x0 * x0[i]) / stage.to.alpha;
  return x0;
}

/// The x0 of a stage whose state x gets the noise n after the network has answered f. States are
/// x0 + s eps.
inline Numbers read_churned(const ChurnedReading& reading, const diffusion::Stage& stage,
                            const diffusion::PredictionType& type, const Numbers& x,
                            const Numbers& f, const Numbers& n) {
  const double s = stage.at.sigma, raised = s * (1 + reading.share);
  const double noise = reading.s_noise * std::sqrt(raised * raised - s * s);
  const double level = reading.at_old_level ? s : raised;
  const auto c =
      diffusion::conversion(type, {stage.at.t, 1, level}, 1 / std::hypot(level, type.sigma_data));
  Numbers x0(x.size());
  for (std::size_t i = 0; i < x0.size(); ++i) x0[i] = c.a * (x[i] + noise * n.at(i)) + c.b * f[i];
  return x0;
}

/// A stage in words: its row of the plan, and how the network's output is read there.
inline std::string describe(const diffusion::PlanView& plan, int stage,
                            diffusion::PredictionType type) {
  const auto at = static_cast<std::size_t>(stage);
  const diffusion::PlanView row{plan.stages.subspan(at, 1), plan.traits};
  const auto c = diffusion::conversion(type, plan.stages[at].at, plan.stages[at].input_scale);
  return text("stage ", stage, " of ", plan.size(), ":\n", diffusion::to_table(row),
              "prediction type ", diffusion::name(type), ": x0 = ", c.a, " x + ", c.b,
              " f, eps = ", c.p, " x + ", c.q, " f\n");
}

/// The same where entry i of the reference's loop is the plan's step i, of one or many stages that
/// draw once each.
inline Trajectory by_step(const diffusion::SamplingPlan& plan, Trajectory expected) {
  std::vector<int> first, last;  // stage of each step
  for (int i = 0; i < plan.size(); ++i) {
    if (i == 0 || plan[i].step != plan[i - 1].step) first.push_back(i);
    last.resize(first.size());
    last.back() = i;
  }
  for (int& step : expected.steps) step = last.at(static_cast<std::size_t>(step));
  int before = -1, stage = 0;
  for (int& step : expected.noise_steps) {
    stage = step == before ? stage + 1 : first.at(static_cast<std::size_t>(step));
    before = step;
    step = stage;
  }
  return expected;
}

/// An edit that leaves everything as it is.
struct NoEdit {
  template <class Run, class T>
  void edit_state(const Run&, T&) {}
};

/// Runs a plan from x, asking `ask(x, query, out)`, and compares every known stage: the predicted
/// x0, the state after `edit`, and how much noise was drawn.
template <class Scalar, class Ask, class Edit = NoEdit>
void compare_run(Case& check, const diffusion::SamplingPlan& plan, Tensor<Scalar> x,
                 const std::vector<Numbers>& noise, const diffusion::SampleOptions& options,
                 const Trajectory& expected, const Ask& ask, Edit edit = {}) {
  check.require(noise.size() == expected.noise_steps.size(),
                "noise and noise_step have different lengths");
  diffusion::RecordedNoise recorded(noise);
  diffusion::Stepper run(plan, std::move(x), recorded, options);
  if constexpr (requires { edit.edit_start(run, run.writable_state()); })
    edit.edit_start(run, run.writable_state());
  std::size_t known = 0;
  while (!run.done()) {
    const int stage = run.stage_number();
    const bool compares = known < expected.steps.size() && expected.steps[known] == stage;
    if (run.asks()) ask(run.input(), run.query(), run.output());
    const auto compare = [&](const char* what, const Numbers& wanted, const Numbers& got) {
      check.compare(text(what, " of step ", stage), wanted, got,
                    [&] { return describe(plan, stage, options.prediction_type); });
    };
    const bool predicts =
        compares && !expected.predictions.empty() && !expected.predictions[known].empty();
    const auto drawn_here =
        std::find(expected.noise_steps.begin(), expected.noise_steps.end(), stage);
    if (predicts && expected.churned && drawn_here != expected.noise_steps.end()) {
      const auto k = static_cast<std::size_t>(drawn_here - expected.noise_steps.begin());
      compare("pred_original_sample", expected.predictions[known],
              read_churned(*expected.churned, plan[stage], options.prediction_type,
                           numbers(run.state()), numbers(run.output()), noise[k]));
    } else if (predicts && !expected.predicts_means) {
      const Numbers x0 = numbers(run.preview());
      compare("pred_original_sample", expected.predictions[known],
              expected.bounded ? bounded(plan[stage], numbers(run.state()), x0) : x0);
    }

    const std::size_t left = recorded.remaining();
    run.advance();
    edit.edit_state(run, run.writable_state());
    const auto drawn = static_cast<std::ptrdiff_t>(left - recorded.remaining());
    const auto wanted = std::count(expected.noise_steps.begin(), expected.noise_steps.end(), stage);
    if (drawn != wanted)
      check.require(
          false, text("step ", stage, " draws ", drawn, " tensors of noise instead of ", wanted));
    if (predicts && expected.predicts_means)
      compare("pred_original_sample", expected.predictions[known],
              mean_of(run.state(), plan[stage], noise));
    if (compares) compare("trajectory", expected.states[known++], numbers(run.state()));
  }
  check.require(known == expected.steps.size(),
                text("the plan has ", plan.size(), " stages; the trajectory goes on to ",
                     expected.steps.empty() ? 0 : expected.steps.back()));
  check.require(recorded.remaining() == 0,
                text(recorded.remaining(), " tensors of noise are left over"));
}

/// The state before the first step; image to image is checked to start from the noised picture.
template <class Scalar>
Tensor<Scalar> initial_state(Case& check, const Json& one, const diffusion::Knot& level) {
  const Shape shape = shape_of(one.at("shape"));
  const Numbers initial = numbers(one.at("initial_sample"));
  if (one.contains("begin_index")) {
    Tensor<Scalar> noised(shape);
    diffusion::add_noise(tensor<Scalar>(numbers(one.at("clean_sample")), shape),
                         tensor<Scalar>(numbers(one.at("clean_noise")), shape), level, noised);
    check.compare("initial_sample", initial, numbers(noised));
  }
  return tensor<Scalar>(initial, shape);
}

/// Not-finite values are compared, not refused.
inline diffusion::SampleOptions options_of(const diffusion::DiffusersConfig& config) {
  diffusion::SampleOptions options;
  options.prediction_type = config.prediction_type;
  options.check_finite = false;
  return options;
}

/// Churn is divided by the length of the class's list of sigmas.
inline ChurnedReading churned_reading(const Json& one, const diffusion::DiffusersConfig& config,
                                      const diffusion::DiffusersRun& run) {
  const double count = static_cast<double>(one.at("sigmas").size()) - 1;
  return {std::min(run.s_churn / count, std::numbers::sqrt2 - 1), run.s_noise,
          config.class_name == "EulerDiscreteScheduler" &&
              config.prediction_type == diffusion::PredictionType::v};
}

template <class Scalar>
void check_loop(Case& check, const Json& one) {
  const auto config = config_of(one);
  const auto run = run_of(one, config);
  const auto grid = config.grid<Scalar>(run);
  const auto whole = config.plan(grid, run);
  compare_timesteps(check, numbers(one.at("timesteps")), config.timesteps(whole));
  check.compare("init_noise_sigma", number(one.at("init_noise_sigma")),
                whole.traits().initial_scale);
  compare_sigmas(check, one, config.sigmas<Scalar>(run));

  // begin_index counts asks; a plan is cut where a step begins.
  const int begin = one.value("begin_index", 0);
  const auto plan = config.plan(grid.cut(whole[begin].step), run);
  auto x = initial_state<Scalar>(check, one,
                                 one.contains("begin_index")
                                     ? noising_level<Scalar>(config, run, whole, begin)
                                     : diffusion::Knot{});
  const auto model = network<Scalar>(one.at("model"));
  const std::string loop = one.at("loop");
  Trajectory expected = trajectory_of(one);
  expected.bounded = config.class_name == "LCMScheduler";
  expected.predicts_means = loop == "sde_ve" || loop == "sde_vp";
  if (run.s_churn > 0) expected.churned = churned_reading(one, config, run);
  if (loop == "sde_ve") expected = by_last_stage(expected, plan.size() / plan.steps());
  const auto ask = [&](const Tensor<Scalar>& z, const diffusion::Query& query,
                       Tensor<Scalar>& out) { model(z, query.t, out); };
  const auto noise = tensors(one.at("noise"));
  if (loop != "repaint")
    return compare_run(check, plan, std::move(x), noise, options_of(config), expected, ask);
  const Shape shape = shape_of(one.at("shape"));
  const auto known = [&](const char* name) { return tensor<Scalar>(numbers(one.at(name)), shape); };
  compare_run(check, plan, std::move(x), noise, options_of(config), by_step(plan, expected), ask,
              diffusion::Inpaint(known("original_image"), known("mask"), diffusion::PhiloxNoise{0},
                                 diffusion::KnownNoise::draw));
}

inline void run_loop(Report& report, const Json& one) {
  report.run(one.at("name"), tolerance_of(one), [&](Case& check) {
    in_precision(one, [&](auto scalar) { check_loop<decltype(scalar)>(check, one); });
  });
}

}  // namespace golden

#endif  // DIFFUSION_TESTS_GOLDEN_CHECK_LOOPS_HPP
