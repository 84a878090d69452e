// Few steps and flow: LCM, TCD, consistency models, sCM, Heun and ancestral sampling on a flow.
// Laws, the papers' weights, equivalences, orders, cuts, errors.

#include <diffusion/noise/philox.hpp>
#include <diffusion/plan/laws.hpp>
#include <diffusion/samplers/consistency.hpp>
#include <diffusion/samplers/ddim.hpp>
#include <diffusion/samplers/flow.hpp>
#include <diffusion/samplers/heun.hpp>
#include <diffusion/samplers/lcm.hpp>
#include <diffusion/samplers/tcd.hpp>
#include <diffusion/sampling/sample.hpp>
#include <diffusion/schedule/continuous.hpp>
#include <diffusion/schedule/flow_shift.hpp>
#include <diffusion/schedule/noise_schedule.hpp>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numbers>
#include <optional>
#include <string>
#include <vector>

#include "catch.hpp"
#include "law_checks.hpp"
#include "plan_numbers.hpp"
#include "support.hpp"

using namespace diffusion;
using Catch::Approx;

namespace {

const double not_a_number = std::numeric_limits<double>::quiet_NaN();

/// f(name, schedule) for the kinds of schedules; the last four start at pure noise.
template <class F>
void for_every_schedule(const F& f) {
  f("linear VP", VpLinear());
  f("exploding", VarianceExploding());
  f("discrete", NoiseSchedule<>::scaled_linear());
  f("cosine VP", VpCosine());
  f("flow", RectifiedFlow());
  f("TrigFlow", TrigFlow());
  f("discrete, zero terminal SNR", NoiseSchedule<>::linear({.rescale_zero_terminal_snr = true}));
}

template <class S, class F>
void for_every_plan(const S& schedule, int steps, const GridOptions& grid, const F& f) {
  f("LCM", LcmSampler<S>(schedule, {.steps = steps, .grid = grid}).plan());
  for (const double eta : {0.0, 0.3, 1.0}) {
    f("TCD", TcdSampler<S>(schedule, {.steps = steps, .eta = eta, .grid = grid}).plan());
    f("flow ancestral",
      FlowAncestralSampler<S>(schedule, {.steps = steps, .grid = grid, .eta = eta}).plan());
  }
  for (const double amount : {0.0, 0.5, 50.0})
    f("flow Heun",
      FlowHeunSampler<S>(schedule, {.steps = steps, .grid = grid, .churn = {.amount = amount}})
          .plan());
}

bool same_rows(const SamplingPlan& a, const SamplingPlan& b) {
  return std::equal(a.stages().begin(), a.stages().end(), b.stages().begin(), b.stages().end());
}

/// Mean and variance of the result for data N(mean, variance), with a network that knows its way:
/// `gain(at)` is the derivative of its answer, which is right for the mean.
numbers::Moments moments_with(const SamplingPlan& plan, double mean, double variance,
                              const std::function<double(const Knot& at)>& gain) {
  const auto size = 2 + static_cast<std::size_t>(plan.draws());
  const numbers::Denoiser network = [&](const numbers::Vector& x, const Knot& at) {
    numbers::Vector answer(x.size());
    numbers::add(answer, gain(at), x);
    answer[0] += mean * (1 - gain(at) * at.alpha);
    return answer;
  };
  std::vector<numbers::Vector> draws;
  for (std::size_t k = 2; k < size; ++k) {
    draws.emplace_back(size);
    draws.back()[k] = 1;
  }
  const Knot start = plan[0].at;
  numbers::Vector x(size);
  x[0] = start.alpha * mean;
  x[1] = std::sqrt(start.alpha * start.alpha * variance + start.sigma * start.sigma);
  x = numbers::run(plan, network, x, draws);
  numbers::Moments result{x[0], 0};
  for (std::size_t k = 1; k < size; ++k) result.variance += x[k] * x[k];
  return result;
}

}  // namespace

TEST_CASE("The laws hold on every schedule, for 1 to 5 and 20 steps, and for either end") {
  for_every_schedule([](const std::string& schedule_name, const auto& schedule) {
    for (const int steps : {1, 2, 3, 4, 5, 20})
      for (const bool to_one : {true, false}) {
        const GridOptions grid{.spacing = TimestepSpacing::trailing, .set_alpha_to_one = to_one};
        for_every_plan(schedule, steps, grid, [&](const char* name, const SamplingPlan& plan) {
          INFO(schedule_name << ", " << name << ", " << steps << " steps, to_one " << to_one);
          check_all_laws(plan, 1e-11);
          CHECK(plan.steps() == steps);
        });
      }
  });
}

TEST_CASE("Network calls are known from the plan") {
  const RectifiedFlow flow;
  CHECK(LcmSampler{flow, LcmOptions{}}.plan().network_calls() == 4);
  CHECK(TcdSampler{flow, TcdOptions{}}.plan().network_calls() == 4);
  CHECK(ConsistencySampler{VarianceExploding(), ConsistencyOptions{}}.plan().network_calls() == 2);
  CHECK(FlowAncestralSampler{flow, FlowAncestralOptions{}}.plan().network_calls() == 20);
  CHECK(FlowHeunSampler{flow, FlowHeunOptions{}}.plan().network_calls() == 39);
  CHECK(FlowHeunSampler{VarianceExploding(), {.grid = {.set_alpha_to_one = false}}}
            .plan()
            .network_calls() == 40);
}

TEST_CASE("LCM: the paper's weights, with and without its boundary condition") {
  const auto schedule = NoiseSchedule<>::scaled_linear({.beta_start = 0.00085, .beta_end = 0.012});
  const GridOptions grid{.timesteps = lcm_timesteps(1000, 4)};
  CHECK(grid.timesteps == std::vector<double>{999, 759, 499, 259});
  const SamplingPlan plan = LcmSampler{schedule, {.grid = grid}}.plan();
  CHECK(plan[0].x0 == schedule.alpha(759));
  CHECK(plan[0].noise[0].weight == schedule.sigma(759));
  CHECK(plan[0].x == 0);
  CHECK(plan[3].x0 == 1);
  CHECK(plan[3].draws == 0);

  const SamplingPlan bounded =
      LcmSampler{schedule, {.grid = grid, .timestep_scaling = 0.1, .sigma_data = 0.5}}.plan();
  const double t = 75.9, c_skip = 0.25 / (t * t + 0.25), c_out = t / std::sqrt(t * t + 0.25);
  CHECK(bounded[1].x == Approx(schedule.alpha(499) * c_skip).epsilon(1e-14));
  CHECK(bounded[1].x0 == Approx(schedule.alpha(499) * c_out).epsilon(1e-14));

  // By its nature it moves the mean of a point c: c_out + c_skip alpha instead of 1.
  const Laws laws = check_laws(bounded);
  double mean = 0;
  for (const Stage& row : bounded.stages()) {
    const double s = row.at.t * 0.1, norm = s * s + 0.25;
    const double off = s / std::sqrt(norm) + 0.25 / norm * row.at.alpha - 1;
    mean = std::max(mean, std::abs(off * row.to.alpha));
  }
  CHECK(mean > 1e-5);
  CHECK(laws.mean == Approx(mean).epsilon(1e-3));
  CHECK(laws.continuity == 0);
}

TEST_CASE("The timesteps of LCM's distillation") {
  CHECK(lcm_timesteps(1000, 3) == std::vector<double>{999, 679, 339});
  CHECK(lcm_timesteps(1000, 4, 20) == std::vector<double>{999, 749, 499, 249});
  CHECK(lcm_timesteps(1000, 4, 50, 0.6) == std::vector<double>{599, 459, 299, 159});
  CHECK(lcm_timesteps(1000, 1) == std::vector<double>{999});
  CHECK(lcm_timesteps(777, 2, 33) == std::vector<double>{758, 390});  // 33 times 23 is 759
  CHECK(lcm_timesteps(1000, 1000, 1000).back() == 0);
}

TEST_CASE("TCD: down to (1 - eta) t', and back up with fresh noise") {
  const RectifiedFlow flow;
  const SamplingPlan plan = TcdSampler{flow, {.steps = 2, .eta = 0.4}}.plan();
  // From t = 1 to 0.5 by way of s = 0.3: alpha_s = 0.7.
  CHECK(plan[0].x0 == 0.5);
  CHECK(plan[0].eps == Approx(0.5 / 0.7 * 0.3).epsilon(1e-14));
  CHECK(plan[0].noise[0].weight == Approx(std::sqrt(0.25 - 0.25 / 0.49 * 0.09)).epsilon(1e-14));
  CHECK(plan[1].x0 == 1);
  CHECK(plan[1].draws == 0);

  for_every_schedule([](const std::string& name, const auto& schedule) {
    INFO(name);
    const TcdOptions tcd{.steps = 5, .eta = 0};
    const DdimOptions ddim{.steps = 5, .grid = tcd.grid};
    const SamplingPlan a = TcdSampler{schedule, tcd}.plan(), b = DdimSampler{schedule, ddim}.plan();
    CHECK(same_rows(a, b));
    // eta = 1 starts from the least noise there is: LCM where that is none.
    const SamplingPlan all = TcdSampler{schedule, {.steps = 5, .eta = 1}}.plan();
    const double least = knot_at(schedule, schedule.first_time()).sigma;
    for (int i = 0; i < 4; ++i) {
      CHECK(all[i].x0 == all[i].to.alpha);
      CHECK(all[i].eps ==
            Approx(all[i].to.alpha * least / knot_at(schedule, schedule.first_time()).alpha)
                .margin(1e-7));
    }
  });
}

TEST_CASE("Consistency models: the noise that is missing to an answer at sigma_min") {
  const Grid grid = grid_of({{9, 1, 80.0}, {5, 1, 2.5}, {2, 1, 0.3}, {1, 1, 0.2}});
  const SamplingPlan plan = make_plan(grid, ConsistencyOptions{.sigma_min = 0.2});
  CHECK(plan[0].noise[0].weight == Approx(std::sqrt(2.5 * 2.5 - 0.04)).epsilon(1e-14));
  CHECK(plan[1].noise[0].weight == Approx(std::sqrt(0.09 - 0.04)).epsilon(1e-14));
  CHECK(plan[2].draws == 0);
  CHECK(plan[0].input_scale == Approx(1 / std::hypot(80.0, 0.5)).epsilon(1e-14));
  for (const Stage& row : plan.stages()) CHECK(row.x0 == 1);

  // By its nature: the next ask takes the answer's own noise for granted.
  const Laws laws = check_laws(plan);
  CHECK(laws.mean == 0);
  CHECK(laws.variance < 1e-14);
  CHECK(laws.continuity == Approx(0.3 - std::sqrt(0.09 - 0.04)).epsilon(1e-12));

  // On a variance preserving level the noise is in its units.
  const Grid preserving = grid_of({{9, 0.1, 0.9}, {5, 0.6, 0.8}, {0, 1, 0}});
  const SamplingPlan scaled =
      make_plan(preserving, ConsistencyOptions{.sigma_min = 0.5, .sigma_data = 0});
  CHECK(scaled[0].noise[0].weight == Approx(std::sqrt(0.64 - 0.09)).epsilon(1e-14));
  CHECK(scaled[0].input_scale == 1);
}

TEST_CASE("A consistency model keeps the data's mean and variance for any number of steps") {
  const double mean = 1.7, variance = 0.36;
  const auto way_to_data = [&](const Knot& at) {  // of the probability flow, for Gaussian data
    return std::sqrt(variance / (at.alpha * at.alpha * variance + at.sigma * at.sigma));
  };
  for_every_schedule([&](const std::string& name, const auto& schedule) {
    for (const int steps : {1, 2, 3, 4, 5, 20}) {
      INFO(name << ", " << steps << " steps");
      const auto result =
          moments_with(LcmSampler{schedule, {.steps = steps}}.plan(), mean, variance, way_to_data);
      CHECK(result.mean == Approx(mean).epsilon(1e-12));
      CHECK(result.variance == Approx(variance).epsilon(1e-12));
    }
  });

  const double least = 0.05;
  const auto way_to_least = [&](const Knot& at) {
    const double s = at.sigma / at.alpha;
    return std::sqrt((variance + least * least) / (variance + s * s)) / at.alpha;
  };
  const VarianceExploding schedule({.sigma_min = least, .sigma_max = 80});
  for (const int steps : {1, 2, 3, 5}) {
    const ConsistencySampler sampler{schedule, {.steps = steps, .sigma_min = least}};
    const auto result = moments_with(sampler.plan(), mean, variance, way_to_least);
    CHECK(result.mean == Approx(mean).epsilon(1e-12));
    CHECK(result.variance == Approx(variance + least * least).epsilon(1e-12));
  }
}

TEST_CASE("With the posterior's mean instead, LCM's variance is too small: no consistency model") {
  const auto moments = numbers::moments(LcmSampler{VpCosine(), {.steps = 2}}.plan(), 1.7, 0.36);
  // The last answer has the gain g on a state of variance alpha^2 v g0^2 + sigma^2.
  const Knot at = VpCosine().knot(0.5);
  const double gain = at.alpha * 0.36 / (at.alpha * at.alpha * 0.36 + at.sigma * at.sigma);
  CHECK(moments.variance == Approx(gain * gain * at.sigma * at.sigma).epsilon(1e-12));
}

TEST_CASE("TrigFlow: levels, times, and sCM on it") {
  const TrigFlow schedule({.sigma_data = 0.4});
  CHECK(schedule.alpha(std::numbers::pi / 2) == 0);
  CHECK(schedule.sigma(std::numbers::pi / 2) == 0.4);
  for (const double t : {0.0, 1e-6, 0.3, 1.0, 1.5, std::numbers::pi / 2}) {
    CHECK(schedule.time(schedule.log_snr(t)) == Approx(t).epsilon(1e-12).margin(1e-300));
    const Knot knot = schedule.knot(t);
    CHECK(std::hypot(knot.alpha, knot.sigma / 0.4) == Approx(1).epsilon(1e-15));
  }
  CHECK(scm_times(2) == std::vector<double>{std::numbers::pi / 2, 1.3});
  CHECK(scm_times(2, 1.1)[1] == 1.1);
  CHECK(scm_times(4)[3] == Approx(std::numbers::pi / 8).epsilon(1e-15));

  const SamplingPlan plan = scm_sampler(2, {.sigma_data = 0.4}).plan();
  CHECK(plan[0].x0 == std::cos(1.3));
  CHECK(plan[0].noise[0].weight == Approx(0.4 * std::sin(1.3)).epsilon(1e-15));
  CHECK(plan.traits().initial_scale == Approx(0.4).epsilon(1e-15));
  check_all_laws(plan, 1e-11);
  // The network's answer read as the paper does: x0 = cos t x - sin t F, F on data's scale.
  const Conversion c =
      conversion({PredictionType::Kind::v, 0.4}, schedule.knot(1.3), plan[1].input_scale);
  CHECK(c.a == Approx(std::cos(1.3)).epsilon(1e-14));
  CHECK(c.b == Approx(-std::sin(1.3)).epsilon(1e-14));
}

TEST_CASE("Flow Heun: the trapezoidal rule of the velocity") {
  const Grid grid = grid_of({{1, 0, 1}, {0.5, 0.5, 0.5}, {0, 1, 0}});
  const SamplingPlan plan = make_plan(grid, FlowHeunOptions{});
  REQUIRE(plan.size() == 3);
  // v = eps - x0: x~ = x - h v, x' = x - h / 2 (v + v~), h = 0.5.
  CHECK(plan[0].x0 == 0.5);
  CHECK(plan[0].eps == 0.5);
  CHECK(plan[1].saved == 0.5);
  CHECK(plan[1].x == 0.5);
  CHECK(plan[1].x0 == 0.25);
  CHECK(plan[1].eps == -0.25);
  CHECK(plan[2].x0 == 1);
  CHECK(plan[2].eps == 0);

  // On alpha = 1 it is Heun's method in sigma, whatever form the rows have.
  const Grid exploding = grid_of(numbers::even_in_log(6));
  const numbers::Denoiser data = numbers::denoiser_of({});
  CHECK(numbers::run(make_plan(exploding, FlowHeunOptions{}), data, {2.5})[0] ==
        Approx(numbers::run(make_plan(exploding, HeunOptions{}), data, {2.5})[0]).epsilon(1e-13));
}

TEST_CASE("Flow Heun is of second order, even in t on a flow, in sigma on alpha = 1") {
  const double start = 3.7, first = numbers::s_first, last = numbers::s_last;
  const auto time = [](double s) { return s / (1 + s); };
  const auto on_flow = [&](int n) {
    std::vector<Knot> knots;
    for (int i = 0; i <= n; ++i) {
      const double t = i == n ? time(last) : time(first) + (time(last) - time(first)) * i / n;
      knots.push_back({t, 1 - t, t});
    }
    return make_plan(grid_of(knots), FlowHeunOptions{});
  };
  const auto in_sigma = [](int n) {
    return make_plan(grid_of(numbers::even_in_s(n)), FlowHeunOptions{});
  };
  for (const auto& data : {numbers::gaussian(1.2, 0.3), numbers::Mixture{}}) {
    const double end = numbers::flow(data, start, first, last);
    const auto flow_order = numbers::order_of([&](int n) {
      const double x =
          numbers::run(on_flow(n), numbers::denoiser_of(data), {start * (1 - time(first))})[0];
      return std::abs(x / (1 - time(last)) - end);
    });
    const auto sigma_order = numbers::order_of_plan(in_sigma, data);
    INFO("orders " << flow_order.slope << " (" << flow_order.points << " points), "
                   << sigma_order.slope << " (" << sigma_order.points << ")");
    CHECK(flow_order.slope >= 1.85);
    CHECK(sigma_order.slope >= 1.85);
  }
}

TEST_CASE("Flow ancestral: the weights, DDIM with eta = 0, and the data's moments in the limit") {
  const Grid grid = grid_of({{1, 0, 1}, {0.6, 0.4, 0.6}, {0, 1, 0}});
  const SamplingPlan plan = make_plan(grid, FlowAncestralOptions{});
  // t_down = 0.6 * 0.6 = 0.36, then alpha 0.64 is brought to 0.4.
  CHECK(plan[0].x0 == 0.4);
  CHECK(plan[0].eps == Approx(0.4 / 0.64 * 0.36).epsilon(1e-14));
  CHECK(plan[0].noise[0].weight ==
        Approx(std::sqrt(0.36 - std::pow(0.4 / 0.64 * 0.36, 2))).epsilon(1e-14));
  CHECK(plan[1].draws == 0);

  for_every_schedule([](const std::string& name, const auto& schedule) {
    INFO(name);
    const SamplingPlan none = FlowAncestralSampler{schedule, {.steps = 5, .eta = 0}}.plan();
    CHECK(same_rows(none, DdimSampler{schedule, {.steps = 5}}.plan()));
  });

  const auto off = [](int steps) {
    const FlowAncestralSampler sampler{ShiftedFlow(3), {.steps = steps}};
    const auto moments = numbers::moments(sampler.plan(), 1.7, 0.36);
    return std::hypot(moments.mean - 1.7, moments.variance - 0.36);
  };
  CHECK(off(800) < 0.01);
  CHECK(off(200) / off(800) == Approx(4).epsilon(0.15));  // first order
}

TEST_CASE("Known violations: diffusers' churn and its ancestral step without noise") {
  const Grid grid = grid_of({{1, 0.2, 0.8}, {0.5, 0.5, 0.5}, {0, 1, 0}});
  const FlowHeunOptions churned{.churn = {.amount = 1}, .churn_after_ask = true};
  const SamplingPlan plan = make_plan(grid, churned);
  // sigma grows to 4 / 3 of it: the network was asked before, and alpha stays what it was.
  CHECK(plan[0].noise[0].weight == Approx(0.8 * std::sqrt(16.0 / 9 - 1)).epsilon(1e-14));
  CHECK(plan[1].draws == 1);
  CHECK(plan[0].x == 1);
  CHECK(check_laws(plan).mean > 0.05);
  CHECK(check_laws(plan).variance > 0.05);
  CHECK_THROWS_WITH(make_plan(grid_of({{1, 0.6, 0.8}, {0, 1, 0}}), churned),
                    Catch::Matchers::Contains("alpha = 0.6, sigma = 0.8"));

  // It does not converge to the data; churn as a stage of its own does.
  const auto moments = [](bool after, int steps) {
    const FlowHeunOptions options{.steps = steps, .churn = {.amount = 2}, .churn_after_ask = after};
    return numbers::moments(FlowHeunSampler{RectifiedFlow(), options}.plan(), 1.7, 0.36);
  };
  CHECK(moments(true, 160).mean > 2.2);
  CHECK(moments(false, 160).mean == Approx(1.7).epsilon(1e-4));
  CHECK(moments(false, 160).variance == Approx(0.36).epsilon(1e-3));

  // Without noise the state stays at t_down, where the next step takes it for t'.
  const SamplingPlan still =
      make_plan(grid, FlowAncestralOptions{.s_noise = 0, .as_diffusers = true});
  const double down = 0.5 * 0.5 / 0.8;
  CHECK(still[0].x0 == Approx(1 - down).epsilon(1e-14));
  CHECK(check_laws(still).mean == Approx(1 - down - 0.5).epsilon(1e-12));
  CHECK(check_laws(make_plan(grid, FlowAncestralOptions{.s_noise = 0})).mean < 1e-14);

  // Rows that lead nowhere: asked and ignored there, left out here.
  const Grid idle = grid_of({{1, 0.2, 0.8}, {0, 1, 0}, {0, 1, 0}});
  CHECK(make_plan(idle, FlowAncestralOptions{.as_diffusers = true}).network_calls() == 2);
  CHECK(make_plan(idle, FlowAncestralOptions{}).network_calls() == 1);
}

TEST_CASE("A plan from the middle is the plan of the cut grid") {
  for_every_schedule([](const std::string& name, const auto& schedule) {
    const auto check = [&](const char* what, const auto& sampler) {
      INFO(name << ", " << what);
      const SamplingPlan whole = sampler.plan(), cut = sampler.plan(sampler.grid().cut(3));
      const auto tail = whole.stages().last(static_cast<std::size_t>(cut.size()));
      for (int i = 0; i < cut.size(); ++i) {  // the same but for the numbers of draws
        Stage expected = tail[static_cast<std::size_t>(i)];
        for (std::size_t k = 0; k < expected.noise.size(); ++k)
          expected.noise[k].source = cut[i].noise[k].source;
        CHECK(cut[i] == expected);
      }
      CHECK(cut[0].step == 3);
    };
    check("LCM", LcmSampler{schedule, {.steps = 6}});
    check("TCD", TcdSampler{schedule, {.steps = 6}});
    check("flow ancestral", FlowAncestralSampler{schedule, {.steps = 6}});
    check("flow Heun", FlowHeunSampler{schedule, {.steps = 6, .churn = {.amount = 1}}});
  });
}

TEST_CASE("A copy of a run goes on as the run does, bit for bit, at every stage") {
  using Tensor = support::RowMajor<double, 2>;
  const auto check = [](const SamplingPlan& plan) {
    const PhiloxNoise noise{5};
    const support::TestNetwork network{2};
    const auto finish = [&](auto run) {
      while (!run.done()) {
        if (run.asks()) network(run.input(), run.timestep(), run.output());
        run.advance();
      }
      return Tensor(run.state());
    };
    support::Random random(7);
    const Tensor start = support::tensor_of<Tensor>({2, 17}, random.normals(34));
    const SampleOptions options{.prediction_type = PredictionType::v};
    Stepper run(plan, start, noise, options);
    const Tensor expected = finish(run);
    while (!run.done()) {
      CHECK(support::same_bits(finish(run), expected));
      if (run.asks()) network(run.input(), run.timestep(), run.output());
      run.advance();
    }
  };
  check(FlowHeunSampler{VpCosine(), {.steps = 4, .churn = {.amount = 1}}}.plan());
  check(TcdSampler{VpCosine(), {.steps = 4}}.plan());
  check(LcmSampler{VpCosine(), {.steps = 4, .timestep_scaling = 3}}.plan());
  check(FlowAncestralSampler{VpCosine(), {.steps = 4}}.plan());
}

TEST_CASE("Pure noise and clean data: what is finite, and what is refused by name") {
  const RectifiedFlow flow;
  const auto refused = [](const SamplingPlan& plan, PredictionType type) {
    try {
      for (const Stage& stage : plan.stages()) lower(stage, plan.traits(), type);
      return std::string();
    } catch (const Error& error) {
      return std::string(error.what());
    }
  };
  const auto lcm = LcmSampler{flow, LcmOptions{}}.plan();
  const auto heun = FlowHeunSampler{flow, {.steps = 3}}.plan();
  for (const auto& type : {PredictionType::v, PredictionType::flow, PredictionType::sample})
    for (const auto& plan : {lcm, heun}) CHECK(refused(plan, type).empty());
  CHECK_THAT(refused(lcm, PredictionType::epsilon), contains("x0 is undefined"));
}

TEST_CASE("Options out of range are refused by name") {
  struct Row {
    const char* what;
    std::function<void()> make;
    std::vector<const char*> words;
  };
  const RectifiedFlow flow;
  const VarianceExploding exploding;
  const Grid up = grid_of({{1, 0.5, 0.5}, {2, 0.2, 0.8}});
  const Grid from_clean = grid_of({{1, 1, 0}, {2, 0.2, 0.8}});
  const Row rows[] = {
      {"LCM scaling",
       [&] {
         LcmSampler{flow, {.timestep_scaling = -1}}.plan();
       },
       {"timestep_scaling is -1", "[0, "}},
      {"LCM noise",
       [&] {
         LcmSampler{flow, {.s_noise = not_a_number}}.plan();
       },
       {"s_noise is nan"}},
      {"LCM sigma_data",
       [&] {
         LcmSampler{flow, {.sigma_data = 0}}.plan();
       },
       {"sigma_data is 0"}},
      {"LCM steps",
       [&] {
         LcmSampler{flow, {.steps = 0}}.plan();
       },
       {"steps is 0"}},
      {"LCM timesteps", [] { lcm_timesteps(1000, 51); }, {"steps is 51", "[1, 50]"}},
      {"LCM strength", [] { lcm_timesteps(1000, 4, 50, 0.05); }, {"[1, 2]", "strength 0.05"}},
      {"LCM strength", [] { lcm_timesteps(1000, 4, 50, not_a_number); }, {"strength is nan"}},
      {"LCM origin", [] { lcm_timesteps(1000, 4, 1001); }, {"original_steps is 1001"}},
      {"TCD eta",
       [&] {
         TcdSampler{flow, {.eta = 1.5}}.plan();
       },
       {"eta is 1.5", "[0, 1]"}},
      {"TCD eta",
       [&] {
         TcdSampler{flow, {.eta = not_a_number}}.plan();
       },
       {"eta is nan"}},
      {"sigma_min",
       [&] {
         ConsistencySampler{exploding, {.sigma_min = -1}}.plan();
       },
       {"sigma_min is -1"}},
      {"sigma_data",
       [&] {
         ConsistencySampler{exploding, {.sigma_data = not_a_number}}.plan();
       },
       {"sigma_data is nan"}},
      {"TrigFlow", [] { TrigFlow({.sigma_data = 0}); }, {"sigma_data is 0"}},
      {"TrigFlow time", [] { TrigFlow().alpha(1.6); }, {"time t is 1.6"}},
      {"TrigFlow SNR", [] { TrigFlow().time(not_a_number); }, {"log_snr is not a number"}},
      {"sCM", [] { scm_times(0); }, {"steps is 0"}},
      {"sCM", [] { scm_times(2, 2.0); }, {"between is 2"}},
      {"churn",
       [&] {
         FlowHeunSampler{flow, {.churn = {.amount = -1}}}.plan();
       },
       {"amount is -1", "[0, "}},
      {"churn's knots",
       [&] {
         make_plan(grid_of({{1, 0.5, 0.5}, {0, 1, 0}}), FlowHeunOptions{.churn = {.amount = 1}});
       },
       {"churn needs the knots"}},
      {"ancestral eta",
       [&] {
         FlowAncestralSampler{flow, {.eta = -0.1}}.plan();
       },
       {"eta is -0.1"}},
      {"ancestral eta",
       [&] {
         FlowAncestralSampler{flow, {.eta = 30}}.plan();
       },
       {"with eta = 30 step", "down to -"}},
      {"ancestral noise",
       [&] {
         FlowAncestralSampler{flow, {.s_noise = not_a_number}}.plan();
       },
       {"s_noise is nan"}},
      {"ancestral up", [&] { make_plan(up, FlowAncestralOptions{}); }, {"goes down to"}},
      {"ancestral from clean",
       [&] { make_plan(from_clean, FlowAncestralOptions{}); },
       {"from t = 0"}},
  };
  for (const Row& row : rows) {
    INFO(row.what);
    std::string message;
    try {
      row.make();
    } catch (const Error& error) {
      message = error.what();
    }
    INFO(message);
    for (const char* word : row.words) CHECK(message.find(word) != std::string::npos);
  }
}
