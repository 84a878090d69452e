// The laws that a correct sampler keeps on data of one point, for every sampler on every schedule
// and grid, and for plans written by hand that use every feature of a stage.

#include "catch.hpp"
#include "support.hpp"

#include <diffusion/noise/recorded.hpp>
#include <diffusion/plan/laws.hpp>
#include <diffusion/samplers/ddim.hpp>
#include <diffusion/samplers/ddpm.hpp>
#include <diffusion/sampling/sample.hpp>
#include <diffusion/schedule/continuous.hpp>
#include <diffusion/schedule/noise_schedule.hpp>

#include <algorithm>
#include <cmath>
#include <span>
#include <string>
#include <utility>
#include <vector>

using namespace diffusion;

namespace {

constexpr double tolerance = 1e-9;
using enum TimestepSpacing;
constexpr TimestepSpacing spacings[] = {leading, trailing, linspace, quadratic};

/// Calls check(name, schedule) for every schedule of the library.
template <class Check>
void for_every_schedule(const Check& check) {
  for (int kind = 0; kind <= static_cast<int>(BetaSchedule::jsd); ++kind)
    for (const bool zero_snr : {false, true}) {
      NoiseScheduleOptions options;
      options.rescale_zero_terminal_snr = zero_snr;
      check("beta schedule " + std::to_string(kind) + (zero_snr ? ", zero SNR" : ""),
            NoiseSchedule<>::make(static_cast<BetaSchedule>(kind), options));
    }
  check("VpLinear", VpLinear());
  check("VpCosine", VpCosine());
  check("VarianceExploding", VarianceExploding());
  check("RectifiedFlow", RectifiedFlow());
}

/// Variances of VE schedules reach 2500: the tolerance is relative to the largest.
double scale_of(const SamplingPlan& plan) {
  double scale = 1;
  for (const Stage& s : plan.stages())
    scale = std::max({scale, s.at.sigma * s.at.sigma, s.to.sigma * s.to.sigma});
  return scale;
}

void check_all_laws(const SamplingPlan& plan) {
  const Laws laws = check_laws(plan);
  CHECK(laws.mean <= tolerance);
  CHECK(laws.variance <= tolerance * scale_of(plan));
  CHECK(laws.continuity <= tolerance);
}

template <class S>
void check_samplers(const S& schedule, int steps, const GridOptions& grid) {
  for (const double eta : {0.0, 0.3, 1.0}) {
    INFO("DDIM, eta " << eta);
    check_all_laws(DdimSampler<S>(schedule, {.steps = steps, .eta = eta, .grid = grid}).plan());
  }
  {
    INFO("DDIM inverse");
    check_all_laws(DdimInverseSampler<S>(schedule, {.steps = steps, .grid = grid}).plan());
  }
  using enum VarianceType;
  for (const VarianceType variance :
       {fixed_small, fixed_small_log, fixed_large, fixed_large_log, learned, learned_range}) {
    INFO("DDPM, variance type " << static_cast<int>(variance));
    const SamplingPlan plan =
        DdpmSampler<S>(schedule, {.steps = steps, .grid = grid, .variance = variance}).plan();
    const Laws laws = check_laws(plan);
    CHECK(laws.mean <= tolerance);
    CHECK(laws.continuity <= tolerance);
    if (variance == fixed_small || variance == fixed_small_log)
      CHECK(laws.variance <= tolerance * scale_of(plan));
  }
}

}  // namespace

TEST_CASE("DDPM, DDIM and its inverse keep the laws on every schedule, spacing and step count") {
  for_every_schedule([](const std::string& name, const auto& schedule) {
    for (const TimestepSpacing spacing : spacings)
      for (const int steps : {1, 2, 3, 4, 5, 20}) {
        for (const bool to_one : {true, false}) {
          INFO(name << ", spacing " << static_cast<int>(spacing) << ", " << steps << " steps");
          check_samplers(schedule, steps, {.spacing = spacing, .set_alpha_to_one = to_one});
        }
      }
  });
}

TEST_CASE("The same with 1000 steps") {
  for_every_schedule([](const std::string& name, const auto& schedule) {
    INFO(name);
    using S = std::remove_cvref_t<decltype(schedule)>;
    const GridOptions grid{.spacing = trailing};
    check_all_laws(DdimSampler<S>(schedule, {.steps = 1000, .grid = grid}).plan());
    check_all_laws(DdimSampler<S>(schedule, {.steps = 1000, .eta = 0.3, .grid = grid}).plan());
    check_all_laws(DdimInverseSampler<S>(schedule, {.steps = 1000, .grid = grid}).plan());
    check_all_laws(DdpmSampler<S>(schedule, {.steps = 1000, .grid = grid}).plan());
  });
}

TEST_CASE("Single-precision tables keep the laws of their own levels") {
  const auto schedule = NoiseSchedule<float>::scaled_linear();
  check_all_laws(DdimSampler{schedule, {.steps = 50, .eta = 0.3}}.plan());
  check_all_laws(DdpmSampler{schedule, {.steps = 50}}.plan());
}

TEST_CASE("Known violations: the reference's stride breaks continuity where the list is uneven") {
  const auto schedule = NoiseSchedule<>::linear();
  const auto laws = [&](TimestepSpacing spacing, int steps) {
    const GridOptions grid{.spacing = spacing, .previous = PreviousTimestep::stride};
    return check_laws(DdimSampler{schedule, {.steps = steps, .grid = grid}}.plan());
  };
  CHECK(laws(leading, 10).worst() <= tolerance);
  CHECK(laws(trailing, 10).worst() <= tolerance);  // 10 divides 1000
  for (const Laws& broken : {laws(linspace, 10), laws(trailing, 7)}) {
    CHECK(broken.continuity > 1e-3);
    CHECK(broken.continuity < 0.1);
    CHECK(broken.mean > 1e-5);
  }
}

TEST_CASE("Known violations: fixed_large adds too much noise for data of one point") {
  const Laws laws = check_laws(
      DdpmSampler{NoiseSchedule<>::linear(), {.steps = 10, .variance = VarianceType::fixed_large}}
          .plan());
  CHECK(laws.mean <= tolerance);
  CHECK(laws.variance > 0.01);
}

TEST_CASE("Known violations: noise at the clean end is the reference's, and breaks the variance") {
  const GridOptions grid{.spacing = trailing};
  for (const VarianceType variance : {VarianceType::fixed_small, VarianceType::fixed_large}) {
    const DdpmOptions options{
        .steps = 10, .grid = grid, .variance = variance, .noise_at_end = true};
    const SamplingPlan plan = DdpmSampler{NoiseSchedule<>::linear(), options}.plan();
    const double last = plan[9].noise[0].weight;
    CHECK(last == Approx(variance == VarianceType::fixed_small ? 1e-10 : plan[9].at.sigma));
    CHECK(check_laws(plan).mean <= tolerance);
  }
}

TEST_CASE("The laws find a wrong weight, a wrong noise and a wrong order of stages") {
  const SamplingPlan plan = DdimSampler{NoiseSchedule<>::linear(), {.steps = 10, .eta = 1}}.plan();
  const auto changed = [&](auto change) {
    std::vector<Stage> rows(plan.stages().begin(), plan.stages().end());
    change(rows);
    return check_laws(SamplingPlan(rows, plan.traits()));
  };
  CHECK(changed([](auto&) {}).worst() <= tolerance);
  CHECK(changed([](auto& rows) { rows[3].x0 *= 1.001; }).mean > 1e-5);
  CHECK(changed([](auto& rows) { rows[3].noise[0].weight *= 1.01; }).variance > 1e-5);
  CHECK(changed([](auto& rows) { rows[4].noise[0].source = 3; }).variance > 1e-5);
  CHECK(changed([](auto& rows) {
          rows.erase(rows.begin() + 5);
          rows.resize(5);
        }).continuity <= tolerance);
  CHECK(changed([](auto& rows) { std::swap(rows[2].at, rows[3].at); }).continuity > 1e-3);
}

// ---- plans written by hand ---------------------------------------------------------------------

namespace {

struct HandMade {
  std::string name;
  std::vector<Stage> rows;
  PlanTraits traits;
};

Stage from_to(const Knot& at, const Knot& to, int step) {
  Stage s;
  s.at = at;
  s.to = to;
  s.step = step;
  return s;
}

std::vector<Knot> knots_of(int steps) {
  std::vector<Knot> knots;
  const VpLinear schedule;
  for (int i = 0; i < steps; ++i) knots.push_back(schedule.knot(1 - 0.97 * i / (steps - 1)));
  return knots;
}

/// Heun's method in s = sigma / alpha (Karras et al. 2022, algorithm 1), its corrector telescoped:
/// x' = x_mid + alpha' (s' - s) / 2 (eps2 - eps1).
HandMade heun() {
  const auto knots = knots_of(6);
  HandMade plan{"Heun", {}, {.basis = Basis::eps}};
  for (int i = 0; i + 1 < static_cast<int>(knots.size()); ++i) {
    const Knot from = knots[static_cast<std::size_t>(i)],
               to = knots[static_cast<std::size_t>(i) + 1];
    Stage euler = from_to(from, to, i), correct = from_to(to, to, i);
    euler.x0 = to.alpha;
    euler.eps = to.sigma;
    const double half = to.alpha * (to.sigma / to.alpha - from.sigma / from.alpha) / 2;
    correct.x = 1;
    correct.eps = half;
    correct.history[0] = {2 * i, -half};
    plan.rows.insert(plan.rows.end(), {euler, correct});
  }
  return plan;
}

/// Euler's method with churn: more noise in a stage of its own, then down.
HandMade churn() {
  HandMade plan{"churn", {}, {}};
  const double sigmas[] = {3, 1.5, 0.8, 0.4, 0.1};
  for (int i = 0; i < 4; ++i) {
    const Knot from{sigmas[i], 1, sigmas[i]}, more{1.4 * sigmas[i], 1, 1.4 * sigmas[i]};
    const Knot to{sigmas[i + 1], 1, sigmas[i + 1]};
    Stage up = from_to(from, more, i), down = from_to(more, to, i);
    up.ask = false;
    up.x = 1;
    up.draws = 1;
    up.noise[0] = {i, std::sqrt(more.sigma * more.sigma - from.sigma * from.sigma)};
    down.input_scale = 1 / std::sqrt(1 + more.sigma * more.sigma);
    down.x = 1;
    down.eps = to.sigma - more.sigma;
    plan.rows.insert(plan.rows.end(), {up, down});
  }
  return plan;
}

/// DPM-Solver-2 (Lu et al. 2022, algorithm 1): the second ask starts from the saved state.
HandMade singlestep() {
  const auto knots = knots_of(5);
  HandMade plan{"saved state", {}, {.basis = Basis::eps}};
  const VpLinear schedule;
  for (int i = 0; i + 1 < static_cast<int>(knots.size()); ++i) {
    const Knot from = knots[static_cast<std::size_t>(i)],
               to = knots[static_cast<std::size_t>(i) + 1];
    const Knot mid = schedule.knot(schedule.time((from.log_snr() + to.log_snr()) / 2));
    const double h = (to.log_snr() - from.log_snr()) / 2;
    Stage half = from_to(from, mid, i), whole = from_to(mid, to, i);
    half.save = true;
    half.x = mid.alpha / from.alpha;
    half.eps = -mid.sigma * std::expm1(h / 2);
    whole.saved = to.alpha / from.alpha;
    whole.eps = -to.sigma * std::expm1(h);
    plan.rows.insert(plan.rows.end(), {half, whole});
  }
  return plan;
}

/// Two asks a step, both from the saved state, whose noises are one Brownian path: the second
/// stage reads the first one's draw again, rho n1 + sqrt(1 - rho^2) n2 (DPM-Solver SDE).
HandMade brownian() {
  HandMade plan{"Brownian", {}, {}};
  const double sigmas[] = {2, 1.2, 0.7, 0.3};
  for (int i = 0; i < 3; ++i) {
    const double s = sigmas[i], end = sigmas[i + 1], middle = std::sqrt(s * end);
    const Knot from{s, 1, s}, mid{middle, 1, middle}, to{end, 1, end};
    const double rho = std::sqrt((s - middle) / (s - end));
    const auto down = [&](Stage& stage, double target, double& keep, double& up) {
      up = target * std::sqrt(1 - target * target / (s * s));  // Euler ancestral, eta 1
      const double lower = target * target / s;
      keep = lower / s;
      stage.x0 = 1 - keep;
    };
    Stage first = from_to(from, mid, i), second = from_to(mid, to, i);
    double up = 0;
    down(first, middle, first.x, up);
    first.save = true;
    first.draws = 2;
    first.noise[0] = {2 * i, up};
    down(second, end, second.saved, up);
    second.noise = {Term{2 * i, rho * up}, Term{2 * i + 1, std::sqrt(1 - rho * rho) * up}};
    plan.rows.insert(plan.rows.end(), {first, second});
  }
  return plan;
}

std::vector<HandMade> hand_made() { return {heun(), churn(), singlestep(), brownian()}; }

}  // namespace

TEST_CASE("Heun, churn, saved state and Brownian coupling keep the laws") {
  for (const HandMade& made : hand_made()) {
    INFO(made.name);
    check_all_laws(SamplingPlan(made.rows, made.traits));
  }
  CHECK(SamplingPlan(heun().rows, {}).traits().slots == 1);
  CHECK(SamplingPlan(brownian().rows, {}).draws() == 6);
}

TEST_CASE("Heun, churn, saved state and Brownian coupling run as they are written") {
  using Tensor = Eigen::Tensor<double, 2, Eigen::RowMajor>;
  const std::size_t batch = 3, size = 21;
  for (const HandMade& made : hand_made()) {
    const SamplingPlan plan(made.rows, made.traits);
    support::Random random(5);
    std::vector<std::vector<double>> draws;
    for (int i = 0; i < plan.draws(); ++i) draws.push_back(random.normals(batch * size));
    const std::vector<double> start = random.normals(batch * size);
    for (const PredictionType type : all_prediction_types) {
      Tensor x(static_cast<Eigen::Index>(batch), static_cast<Eigen::Index>(size));
      std::copy(start.begin(), start.end(), x.data());
      RecordedNoise noise(draws);
      const SampleResult result =
          sample_in_place(plan, support::TestNetwork{batch}, x, noise, {.prediction_type = type});
      CHECK(result.done());
      CHECK(result.network_calls == plan.network_calls());
      CHECK(noise.remaining() == 0);
      const auto expected =
          support::reference_run(made.rows, made.traits, type, batch, start, draws).states.back();
      double worst = 0, largest = 1;
      for (std::size_t i = 0; i < expected.size(); ++i) {
        worst = std::max(worst, std::abs(x.data()[i] - expected[i]));
        largest = std::max(largest, std::abs(expected[i]));
      }
      INFO(made.name << ", " << name(type));
      CHECK(worst <= 1e-12 * largest);
    }
  }
}
