// Adaptive DPM-Solver: its controller, its errors against tolerances, its calls; and that the
// samplers of refined solvers resume bit for bit.

#include <diffusion/denoiser/exact/exact_denoiser.hpp>
#include <diffusion/denoiser/exact/gaussian.hpp>
#include <diffusion/denoiser/exact/gaussian_mixture.hpp>
#include <diffusion/noise/philox.hpp>
#include <diffusion/samplers/er_sde.hpp>
#include <diffusion/samplers/res.hpp>
#include <diffusion/samplers/restart.hpp>
#include <diffusion/sampling/adaptive.hpp>
#include <diffusion/schedule/continuous.hpp>
#include <diffusion/schedule/noise_schedule.hpp>
#include <diffusion/tensor/state.hpp>

#include <chrono>
#include <cmath>
#include <limits>
#include <vector>

#include "catch.hpp"
#include "support.hpp"

using namespace diffusion;
using Catch::Approx;

namespace {

using Points = Eigen::Array<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Denoising = ExactDenoiser<Gaussian>;

const double not_a_number = std::numeric_limits<double>::quiet_NaN();

Gaussian some_gaussian() {
  return Gaussian::diagonal(Eigen::Vector2d(0.5, -1), Eigen::Vector2d(0.36, 0.04));
}

Points some_points() {
  Points x(3, 2);
  x << 0.7, -0.3, -1.4, 0.9, 0.2, 2.1;
  return x;
}

/// Where the exact flow carries some points that start at `from`.
Points exact_end(const Gaussian& data, const Points& x, const Knot& from, const Knot& to) {
  Points end = x;
  for (Eigen::Index i = 0; i < x.rows(); ++i) {
    const Eigen::VectorXd row = x.row(i).matrix().transpose();
    end.row(i) = data.flow(row, from, to).transpose().array();
  }
  return end;
}

/// A run without the last call, and how far from the exact flow it ends.
template <class S>
double error_of(const S& schedule, AdaptiveOptions options, AdaptiveResult& result) {
  options.denoise = false;
  const Gaussian data = some_gaussian();
  const Points start = some_points();
  Points x = start;
  Denoising denoiser(data);
  result = sample_adaptively(schedule, denoiser, x, options);
  CHECK(result.done());
  return (x - exact_end(data, start, result.knots.front(), result.knots.back())).abs().maxCoeff();
}

}  // namespace

TEST_CASE("StepController: what errors do to the step") {
  StepController controller(0.1, 3, 0.9, 1, 0);
  CHECK(controller.accepts(1, 0.1));
  CHECK(controller.step() == Approx(0.09));
  CHECK(controller.accepts(1.0 / 8, 0.1));
  CHECK(controller.step() == Approx(0.18));  // the cube root of 8
  CHECK_FALSE(controller.accepts(8, 0.1));
  CHECK(controller.step() == Approx(0.045));
  CHECK_FALSE(controller.accepts(1.0001, 0.1));  // a rejected step shrinks, if only by a tenth
  CHECK(controller.step() <= 0.09 * (1 + 1e-12));
  CHECK(controller.accepts(0, 0.1));
  CHECK(controller.step() == Approx(0.5));  // at most five times
  CHECK_FALSE(controller.accepts(1e9, 0.1));
  CHECK(controller.step() == Approx(0.02));  // at least a fifth

  StepController calm(0.1, 2, 1, 0.4, 0.3);  // the change counts: an error that falls is trusted
  CHECK(calm.accepts(0.25, 0.1));
  CHECK(calm.step() == Approx(0.1 * std::pow(0.25, -0.35)));
  CHECK(calm.accepts(0.25, 0.1));
  CHECK(calm.step() == Approx(0.1 * std::pow(0.25, -0.2)));

  const double nan = std::nan("");
  CHECK_THROWS_AS(StepController(nan, 3, 0.9, 1, 0), Error);
  CHECK_THROWS_AS(StepController(0.1, 0, 0.9, 1, 0), Error);
  CHECK_THROWS_AS(StepController(0.1, 3, nan, 1, 0), Error);
  CHECK_THROWS_AS(StepController(0.1, 3, 0.9, 0, 0), Error);
  CHECK_THROWS_AS(StepController(0.1, 3, 0.9, 1, nan), Error);
}

TEST_CASE("The error falls with the tolerance, on every schedule, for both orders and forms") {
  const auto check = [](const auto& schedule) {
    for (const int order : {2, 3})
      for (const SolverForm form : {SolverForm::noise, SolverForm::data}) {
        double before = 1e300;
        int calls = 0;
        for (const double tolerance : {1e-2, 1e-3, 1e-4}) {
          AdaptiveResult result;
          const AdaptiveOptions options{
              .order = order, .rtol = tolerance, .atol = tolerance, .form = form, .s_end = 0.01};
          const double error = error_of(schedule, options, result);
          INFO("order " << order << ", form " << static_cast<int>(form) << ", tolerance "
                        << tolerance << ": " << result.network_calls << " calls, error " << error);
          CHECK(error < before);
          CHECK(result.network_calls > calls);
          CHECK(error < 30 * tolerance);
          before = error;
          calls = result.network_calls;
        }
      }
  };
  check(VpLinear());
  check(VpCosine());
  check(VarianceExploding());
  check(RectifiedFlow());
  check(NoiseSchedule<>::scaled_linear());
}

TEST_CASE("The result counts what was done") {
  const VpLinear schedule;
  const Gaussian data = some_gaussian();
  Points x = some_points();
  int asked = 0;
  Denoising exact(data);
  const auto counted = [&](const Points& z, const Query& query, Points& out) {
    ++asked;
    exact(z, query, out);
  };
  const AdaptiveOptions options{.rtol = 1e-3, .atol = 1e-3, .first_step = 2};
  const AdaptiveResult result = sample_adaptively(schedule, counted, x, options);
  CHECK(result.done());
  CHECK(result.network_calls == asked);
  CHECK(result.rejected > 0);  // the first step is far too long
  // A rejected trial keeps its first answer.
  CHECK(asked == 3 * result.accepted + 2 * result.rejected + 1);
  CHECK(result.knots.size() == static_cast<std::size_t>(result.accepted) + 2);
  CHECK(result.knots.front() == adaptive_start(schedule, options));
  CHECK(result.knots.back().sigma == 0);
  for (std::size_t i = 1; i < result.knots.size(); ++i)
    CHECK(result.knots[i].sigma < result.knots[i - 1].sigma);

  Points again = some_points();
  const AdaptiveResult twin = sample_adaptively(schedule, counted, again, options);
  CHECK((x == again).all());
  CHECK(twin.knots == result.knots);
}

TEST_CASE("Ends: chosen levels are met exactly, with and without the last call") {
  const VarianceExploding schedule({.sigma_min = 0.01, .sigma_max = 20});
  const Gaussian data = some_gaussian();
  const AdaptiveOptions options{
      .rtol = 1e-4, .atol = 1e-4, .s_start = 10, .s_end = 0.05, .denoise = false};
  Points x = some_points() * 10;
  const Points end = exact_end(data, x, Knot{0, 1, 10}, Knot{0, 1, 0.05});
  Denoising denoiser(data);
  const AdaptiveResult result = sample_adaptively(schedule, denoiser, x, options);
  CHECK(result.knots.front().sigma == Approx(10).epsilon(1e-14));
  CHECK(result.knots.back().sigma == Approx(0.05).epsilon(1e-14));
  CHECK((x - end).abs().maxCoeff() < 3e-3);
  CHECK(result.network_calls == 3 * result.accepted + 2 * result.rejected);
}

TEST_CASE("It gives up as it is told") {
  const VpLinear schedule;
  const Gaussian data = some_gaussian();
  Denoising denoiser(data);
  Points x = some_points();
  AdaptiveResult result =
      sample_adaptively(schedule, denoiser, x, {.rtol = 1e-6, .atol = 1e-6, .max_trials = 3});
  CHECK(result.status == Status::cancelled);
  CHECK(result.accepted + result.rejected == 3);

  SampleOptions late;
  late.deadline = std::chrono::steady_clock::now();
  result = sample_adaptively(schedule, denoiser, x, {}, late);
  CHECK(result.status == Status::deadline);
  CHECK(result.network_calls == 0);

  const auto broken = [](const Points& z, double, Points& out) {
    out = z * std::numeric_limits<double>::infinity();
  };
  const Points before = x;
  result = sample_adaptively(schedule, broken, x);
  CHECK(result.status == Status::not_finite);
  CHECK((x == before).all());  // the state before the step that failed
}

TEST_CASE("Options out of range are refused by name") {
  const VpLinear schedule;
  const auto refuse = [&](const AdaptiveOptions& options, const char* message) {
    Points x = some_points();
    const auto network = [](const Points& z, double, Points& out) { out = z; };
    CHECK_THROWS_WITH(sample_adaptively(schedule, network, x, options), contains(message));
  };
  refuse({.order = 1}, "order is 1");
  refuse({.order = 4}, "order is 4");
  refuse({.rtol = not_a_number}, "rtol is nan");
  refuse({.atol = 0}, "atol is 0");
  refuse({.first_step = 0}, "first_step is 0");
  refuse({.safety = 1.1}, "safety is 1.1");
  refuse({.integral = 0}, "integral is 0");
  refuse({.proportional = -1}, "proportional is -1");
  refuse({.s_start = -1}, "s_start is -1");
  refuse({.s_start = 1, .s_end = 2}, "s_end is 2");
  refuse({.s_end = not_a_number}, "s_end is nan");
  refuse({.max_trials = 0}, "max_trials is 0");
}

TEST_CASE("A saved run goes on bit for bit: RES, ER-SDE, Restart") {
  const VpLinear schedule;
  const Gaussian data = some_gaussian();
  const SamplingPlan plans[] = {ResSampler(schedule, {.steps = 8}).plan(),
                                ResSinglestepSampler(schedule, {.steps = 8}).plan(),
                                ErSdeSampler(schedule, {.steps = 8}).plan(),
                                restart_plan(ErSdeSampler(schedule, {.steps = 8}),
                                             {.intervals = {{.s_min = 0.4, .s_max = 2}}})};
  for (const SamplingPlan& plan : plans) {
    Denoising denoiser(data);
    const auto advance = [&](auto& run) {
      if (run.asks()) ask(denoiser, run.input(), run.query(), run.output());
      run.advance();
    };
    Stepper run(plan, some_points(), PhiloxNoise{5});
    std::vector<decltype(run)> saved;
    while (!run.done()) {
      saved.push_back(run);
      advance(run);
    }
    for (auto& copy : saved) {
      while (!copy.done()) advance(copy);
      CHECK((copy.state() == run.state()).all());
    }
  }
}
