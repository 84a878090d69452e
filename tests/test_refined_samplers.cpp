// Gradient estimation, RES, ER-SDE and Restart: laws, closed forms, equivalences, orders, errors.

#include <diffusion/plan/laws.hpp>
#include <diffusion/samplers/ddim.hpp>
#include <diffusion/samplers/ddpm.hpp>
#include <diffusion/samplers/dpm_solver.hpp>
#include <diffusion/samplers/er_sde.hpp>
#include <diffusion/samplers/gradient_estimation.hpp>
#include <diffusion/samplers/res.hpp>
#include <diffusion/samplers/restart.hpp>
#include <diffusion/schedule/continuous.hpp>
#include <diffusion/schedule/noise_schedule.hpp>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "law_checks.hpp"
#include "plan_numbers.hpp"

using namespace diffusion;
using Catch::Approx;

namespace {

const double not_a_number = std::numeric_limits<double>::quiet_NaN();

double identity(double s) { return s; }
double square(double s) { return s * s; }

/// f(name, schedule) for the kinds of schedules; the last two start at pure noise.
template <class F>
void for_every_schedule(const F& f) {
  f("linear VP", VpLinear());
  f("exploding", VarianceExploding());
  f("discrete", NoiseSchedule<>::scaled_linear());
  f("cosine VP", VpCosine());
  f("flow", RectifiedFlow());
  f("discrete, zero terminal SNR", NoiseSchedule<>::linear({.rescale_zero_terminal_snr = true}));
}

/// Every deterministic or stochastic variant as f(name, plan).
template <class S, class F>
void for_every_plan(const S& schedule, int steps, const GridOptions& grid, const F& f) {
  for (const double gamma : {1.0, 1.5, 2.0})
    f("gradient estimation",
      GradientEstimationSampler<S>(schedule, {.steps = steps, .gamma = gamma, .grid = grid})
          .plan());
  f("RES", ResSampler<S>(schedule, {.steps = steps, .grid = grid}).plan());
  for (const double c2 : {0.25, 0.5, 1.0})
    f("RES, single step",
      ResSinglestepSampler<S>(schedule, {.steps = steps, .c2 = c2, .grid = grid}).plan());
  for (const int order : {1, 2, 3}) {
    f("ER-SDE 5", ErSdeSampler<S>(schedule, {.steps = steps, .order = order, .grid = grid}).plan());
    f("ER-SDE, s",
      ErSdeSampler<S>(schedule,
                      {.steps = steps, .order = order, .noise_scale = identity, .grid = grid})
          .plan());
    f("ER-SDE, s^2",
      ErSdeSampler<S>(schedule,
                      {.steps = steps, .order = order, .noise_scale = square, .grid = grid})
          .plan());
  }
}

void check_same_plan(const SamplingPlan& a, const SamplingPlan& b) {
  CHECK(a.traits() == b.traits());
  check_same_rows(a, b);
}

/// The same numbers, as weights on a one-point's x0 and eps do not tell: on random estimates.
void check_same_results(const SamplingPlan& a, const SamplingPlan& b) {
  const numbers::Denoiser odd = [](const numbers::Vector& x, const Knot& at) {
    return numbers::Vector{std::sin(3 * x[0] + at.t), std::cos(x[1] - at.t)};
  };
  const std::vector<numbers::Vector> draws(100, {0.3, -0.8});
  const auto x = numbers::run(a, odd, {0.7, -1.1}, draws);
  const auto y = numbers::run(b, odd, {0.7, -1.1}, draws);
  for (int k = 0; k < 2; ++k)
    CHECK(x[static_cast<std::size_t>(k)] ==
          Approx(y[static_cast<std::size_t>(k)]).epsilon(1e-11).margin(1e-12));
}

}  // namespace

TEST_CASE("The laws hold on every schedule, for 1 to 5 and 20 steps, and for either end") {
  for_every_schedule([](const std::string& schedule_name, const auto& schedule) {
    for (const int steps : {1, 2, 3, 4, 5, 20})
      for (const bool to_one : {true, false}) {
        if (!to_one && steps == 1) continue;  // a discrete run may start and end at timestep 0
        const GridOptions grid{.spacing = TimestepSpacing::trailing, .set_alpha_to_one = to_one};
        for_every_plan(schedule, steps, grid, [&](const char* name, const SamplingPlan& plan) {
          INFO(schedule_name << ", " << name << ", " << steps << " steps, to_one " << to_one);
          check_all_laws(plan, 1e-11);
        });
      }
  });
}

TEST_CASE("Network calls are known from the plan") {
  const VpLinear schedule;
  CHECK(ResSampler(schedule, {.steps = 20}).plan().network_calls() == 20);
  // The last step, to clean data, asks once.
  CHECK(ResSinglestepSampler(schedule, {.steps = 20}).plan().network_calls() == 39);
  CHECK(GradientEstimationSampler(schedule, {.steps = 20}).plan().network_calls() == 20);
  CHECK(ErSdeSampler(schedule, {.steps = 20}).plan().network_calls() == 20);
  CHECK(ErSdeSampler(schedule, {.steps = 20}).plan().traits().slots == 2);
  CHECK(ErSdeSampler(schedule, {.steps = 20, .noise_scale = identity}).plan().draws() == 0);
}

TEST_CASE("Gradient estimation: weights of the paper, and DDIM with gamma = 1") {
  const Grid grid = grid_of({{9, 1, 4.0}, {5, 1, 2.5}, {2, 1, 0.5}, {1, 1, 0.1}});
  const SamplingPlan plan = make_plan(grid, GradientEstimationOptions{.gamma = 2});
  // x' = x + (s' - s) (2 eps - eps_before), in weights on x0 and eps where x = x0 + s eps.
  CHECK(plan[0].eps == Approx(2.5).epsilon(1e-14));
  CHECK(plan[1].x0 == 1);
  CHECK(plan[1].eps == Approx(2.5 - 2.0 * 2).epsilon(1e-14));
  CHECK(plan[1].history[0].weight == Approx(2.0).epsilon(1e-14));
  CHECK(plan[2].eps == Approx(0.5 - 0.4 * 2).epsilon(1e-14));
  CHECK(plan[2].history[0].weight == Approx(0.4).epsilon(1e-14));

  const VpCosine schedule;
  check_same_plan(GradientEstimationSampler(schedule, {.steps = 9, .gamma = 1}).plan(),
                  DdimSampler(schedule, {.steps = 9}).plan());
}

TEST_CASE("RES: the weights of its papers, written out") {
  const double s0 = 3, s1 = 1.2, s2 = 0.7;
  const Grid grid = grid_of({{3, 1, s0}, {2, 1, s1}, {1, 1, s2}});
  const SamplingPlan plan = make_plan(grid, ResOptions{});
  const double h0 = std::log(s0 / s1), h = std::log(s1 / s2);
  const double phi1 = (1 - std::exp(-h)) / h, phi2 = (std::exp(-h) - 1 + h) / (h * h);
  const double b2 = -phi2 * h / h0;  // c2 = -h0 / h
  CHECK(plan[1].x == Approx(std::exp(-h)).epsilon(1e-14));
  CHECK(plan[1].x0 == Approx(h * (phi1 - b2)).epsilon(1e-13));
  CHECK(plan[1].history[0].weight == Approx(h * b2).epsilon(1e-13));

  const SamplingPlan single = make_plan(grid, ResSinglestepOptions{.c2 = 0.3}, exploding);
  REQUIRE(single.size() == 4);
  CHECK(single[2].to.sigma == Approx(s1 * std::exp(-0.3 * h)).epsilon(1e-14));
  CHECK(single[3].saved == Approx(std::exp(-h)).epsilon(1e-14));
  CHECK(single[3].x0 == Approx(h * phi2 / 0.3).epsilon(1e-13));
  CHECK(single[3].history[0].weight == Approx(h * (phi1 - phi2 / 0.3)).epsilon(1e-13));
}

TEST_CASE("RES, multistep, is DPM-Solver++ 2M of the heun type") {
  for_every_schedule([](const std::string& name, const auto& schedule) {
    INFO(name);
    using S = std::remove_cvref_t<decltype(schedule)>;
    const Grid grid = ResSampler<S>(schedule, {.steps = 12}).grid();
    check_same_results(
        make_plan(grid, ResOptions{}),
        make_plan(grid, DpmSolverOptions{.order = 2,
                                         .solver = SolverType::heun,
                                         .lower_order_final = LowerOrderFinal::never}));
  });
}

TEST_CASE("ER-SDE of order 1: s is DDIM, s^2 is DDPM") {
  for_every_schedule([](const std::string& name, const auto& schedule) {
    INFO(name);
    using S = std::remove_cvref_t<decltype(schedule)>;
    const auto plan = [&](double (*phi)(double)) {
      return ErSdeSampler<S>(schedule, {.steps = 10, .order = 1, .noise_scale = phi}).plan();
    };
    check_same_results(plan(identity), DdimSampler<S>(schedule, {.steps = 10}).plan());
    const SamplingPlan ddpm = DdimSampler<S>(schedule, {.steps = 10, .eta = 1}).plan();
    const SamplingPlan er_sde = plan(square);
    for (int i = 0; i < er_sde.size(); ++i) {
      CHECK(er_sde[i].x0 + er_sde[i].x == Approx(ddpm[i].x0).epsilon(1e-12));
      CHECK(er_sde[i].eps == Approx(ddpm[i].eps).epsilon(1e-11).margin(1e-13));
      CHECK(er_sde[i].noise[0].weight == Approx(ddpm[i].noise[0].weight).epsilon(1e-11));
    }
  });
}

TEST_CASE("ER-SDE: the integrals in closed form") {
  const Grid grid = grid_of({{3, 1, 3.0}, {2, 1, 1.2}, {1, 1, 0.7}, {0, 1, 0.2}});
  const double s = 1.2, s_to = 0.7, before = 3.0, r_ode = s_to / s, r_sde = r_ode * r_ode;
  SECTION("phi = s, order 2: (s' - s) + s' log(s / s') on the slope of x0") {
    const SamplingPlan plan = make_plan(grid, ErSdeOptions{.order = 2, .noise_scale = identity});
    const double slope = ((s_to - s) + s_to * std::log(s / s_to)) / (s - before);
    CHECK(plan[1].x0 == Approx(1 + slope).epsilon(1e-13));  // r x is r x0 + r s eps
    CHECK(plan[1].eps == Approx(r_ode * s).epsilon(1e-13));
    CHECK(plan[1].history[0].weight == Approx(-slope).epsilon(1e-13));
  }
  SECTION("phi = s^2, order 2: (s' - s) + s'^2 (1 / s' - 1 / s)") {
    const SamplingPlan plan = make_plan(grid, ErSdeOptions{.order = 2, .noise_scale = square});
    const double slope = ((s_to - s) + s_to * s_to * (1 / s_to - 1 / s)) / (s - before);
    CHECK(plan[1].x0 == Approx(1 + slope).epsilon(1e-13));
    CHECK(plan[1].eps == Approx(r_sde * s).epsilon(1e-13));
    CHECK(plan[1].noise[0].weight == Approx(std::sqrt(s_to * s_to - r_sde * r_sde * s * s)));
  }
  SECTION("phi = s, order 3: the parabola's integral") {
    const SamplingPlan plan = make_plan(grid, ErSdeOptions{.order = 3, .noise_scale = identity});
    // A denoiser that is a parabola in s is integrated exactly: s' int x0(u) / u^2 du over [s', s].
    const auto parabola = [](double u) { return 2 - 3 * u + 0.5 * u * u; };
    const double a = 0.7, b = 0.2;
    const double integral = b * (2 * (1 / b - 1 / a) - 3 * std::log(a / b) + 0.5 * (a - b));
    const double got = (plan[2].x0 - b / a) * parabola(0.7) +
                       plan[2].history[0].weight * parabola(1.2) +
                       plan[2].history[1].weight * parabola(3.0);
    CHECK(got == Approx(integral).epsilon(1e-12));
  }
}

TEST_CASE("Orders on a Gaussian and on a mixture, with exact history and with the own start") {
  struct Method {
    const char* name;
    std::function<SamplingPlan(int)> plan;
    double order;
    int warm;  // steps before the full order
  };
  const auto er_sde = [](int order) {
    return [order](int n) {
      return make_plan(grid_of(numbers::even_in_s(n)),
                       ErSdeOptions{.order = order, .noise_scale = identity});
    };
  };
  const auto gradient = [](double gamma) {
    return [gamma](int n) {
      return make_plan(grid_of(numbers::even_in_s(n)), GradientEstimationOptions{.gamma = gamma});
    };
  };
  const Method methods[] = {
      {"RES", [](int n) { return make_plan(grid_of(numbers::even_in_log(n)), ResOptions{}); }, 2,
       1},
      {"RES, single step",
       [](int n) {
         return make_plan(grid_of(numbers::even_in_log(n)), ResSinglestepOptions{}, exploding);
       },
       2, 0},
      {"RES, single step, c2 = 1/4",
       [](int n) {
         return make_plan(grid_of(numbers::even_in_log(n)), ResSinglestepOptions{.c2 = 0.25},
                          exploding);
       },
       2, 0},
      {"ER-SDE, s, order 1", er_sde(1), 1, 0},
      {"ER-SDE, s, order 2", er_sde(2), 2, 1},
      {"ER-SDE, s, order 3", er_sde(3), 3, 2},
      {"gradient estimation, 2", gradient(2), 1, 1},
      {"gradient estimation, 1.5", gradient(1.5), 2, 1},
  };
  for (const auto& [data_name, data] : {std::pair{"Gaussian", numbers::gaussian(0.5, 0.36)},
                                        std::pair{"mixture", numbers::Mixture{}}})
    for (const Method& method : methods) {
      const auto exact = numbers::order_of_plan(method.plan, data, method.warm);
      const auto own = numbers::order_of_plan(method.plan, data);
      INFO(method.name << " on a " << data_name << ": order " << exact.slope << " (" << exact.points
                       << " points), own start " << own.slope << " (" << own.points << ")");
      CHECK(exact.slope >= method.order - 0.15);
      CHECK(own.slope >= std::min(method.order, 2.0) - 0.15);
    }
}

TEST_CASE(
    "ER-SDE's own third-order formula, whose slope is a first difference, is of second order") {
  const numbers::Mixture data = numbers::gaussian(0.5, 0.36);
  const double start = 3.7, end = numbers::flow(data, start, numbers::s_first, numbers::s_last);
  const auto paper = [&](int n) {
    std::vector<double> s, x0;
    double x = start, exact = start;
    for (const Knot& knot : numbers::even_in_s(n)) s.push_back(knot.sigma);
    for (std::size_t i = 0; i + 1 < s.size(); ++i) {
      const double d = s[i + 1] - s[i], ratio = s[i + 1] / s[i];
      x0.push_back(data.x0(x, {0, 1, s[i]}));
      x = ratio * x + (1 - ratio) * x0[i];
      const double log = std::log(s[i] / s[i + 1]);
      if (i >= 2) {
        const double slope = (x0[i] - x0[i - 1]) / (s[i] - s[i - 1]);
        const double slope_before = (x0[i - 1] - x0[i - 2]) / (s[i - 1] - s[i - 2]);
        const double bend = (slope - slope_before) / ((s[i] - s[i - 2]) / 2);
        x += (d + s[i + 1] * log) * slope;
        x += (d * d / 2 + s[i + 1] * (-d - s[i] * log)) * bend;
      } else {  // exact history
        exact = x = numbers::flow(data, exact, s[i], s[i + 1], 400);
      }
    }
    return std::abs(x - end);
  };
  const auto order = numbers::order_of(paper);
  INFO("slope " << order.slope << " of " << order.points << " points");
  CHECK(order.slope > 1.8);
  CHECK(order.slope < 2.3);
}

TEST_CASE("ER-SDE with noise: mean and variance come to those of the data") {
  for (const int order : {1, 2, 3}) {
    const auto error = [&](int n) {
      const auto plan = make_plan(grid_of(numbers::even_in_log(n)), ErSdeOptions{.order = order});
      const auto got = numbers::moments(plan, 0.5, 0.36);
      const double variance = 0.36 + numbers::s_last * numbers::s_last;
      return std::max(std::abs(got.mean - 0.5), std::abs(got.variance - variance));
    };
    INFO("order " << order << ": " << error(25) << " " << error(50) << " " << error(100));
    CHECK(error(100) < 0.02);
    CHECK(error(100) < 0.6 * error(50));
    CHECK(error(50) < 0.6 * error(25));
  }
}

TEST_CASE("A cut run is planned anew: the order grows again") {
  const VpLinear schedule;
  const GridOptions options{};
  const Grid grid = make_grid(schedule, 10, options);
  const Grid rest = grid.cut(4);
  const Grid fresh(std::vector<GridStep>(rest.begin(), rest.end()));
  check_same_plan(make_plan(rest, ResOptions{}), make_plan(fresh, ResOptions{}));
  check_same_plan(make_plan(rest, ErSdeOptions{}), make_plan(fresh, ErSdeOptions{}));
  check_same_plan(make_plan(rest, GradientEstimationOptions{}),
                  make_plan(fresh, GradientEstimationOptions{}));
  CHECK(make_plan(rest, ResOptions{})[0].step == 4);
  CHECK(make_plan(rest, ResOptions{})[0].history[0].source == -1);
  CHECK(make_plan(rest, ErSdeOptions{})[1].history[1].source == -1);
}

TEST_CASE("Plans that are joined give what they give one after another") {
  const VpLinear schedule;
  const Grid grid = make_grid(schedule, 12);
  const auto plan_of = [](const Grid& part) { return make_plan(part, ErSdeOptions{}); };
  {
    PlanJoin one;
    one.add(plan_of(grid));
    CHECK(std::move(one).plan() == plan_of(grid));
  }
  PlanJoin join;
  join.add(plan_of(grid.cut(0, 5)));
  join.add(plan_of(grid.cut(5)));
  const SamplingPlan joined = std::move(join).plan();
  CHECK(joined.steps() == 12);
  CHECK(joined.draws() == 11);
  const numbers::Denoiser odd = [](const numbers::Vector& x, const Knot& at) {
    return numbers::Vector{std::sin(3 * x[0] + at.t)};
  };
  std::vector<numbers::Vector> draws;
  for (int k = 0; k < 11; ++k) draws.push_back({std::cos(k)});
  const auto whole = numbers::run(joined, odd, {0.4}, draws);
  const auto half = numbers::run(plan_of(grid.cut(0, 5)), odd, {0.4}, draws);
  const auto rest = numbers::run(plan_of(grid.cut(5)), odd, half, {draws.begin() + 5, draws.end()});
  CHECK(whole == rest);

  PlanJoin unlike;
  unlike.add(plan_of(grid));
  CHECK_THROWS_WITH(unlike.add(make_plan(grid, DdimOptions{})), contains("one basis"));
}

TEST_CASE("Restart: the laws, the calls and the levels, with one-step and multistep samplers") {
  for_every_schedule([](const std::string& name, const auto& schedule) {
    INFO(name);
    using S = std::remove_cvref_t<decltype(schedule)>;
    const RestartOptions restart{
        .intervals = {{.s_min = 1, .s_max = 3, .steps = 4, .repeats = 2},
                      {.s_min = 0.1, .s_max = 0.4, .steps = 3, .repeats = 3}}};
    const auto check = [&](const auto& sampler, int calls) {
      const SamplingPlan plan = restart_plan(sampler, restart);
      check_all_laws(plan, 1e-11);
      CHECK(plan.network_calls() == calls);
      CHECK(plan.steps() == 20 + 2 * 4 + 3 * 3);
      const auto jumps = std::count_if(plan.stages().begin(), plan.stages().end(),
                                       [](const Stage& stage) { return !stage.ask; });
      CHECK(jumps == 5);
    };
    check(DdimSampler<S>(schedule, {.steps = 20}), 37);
    check(ResSampler<S>(schedule, {.steps = 20}), 37);
    check(ErSdeSampler<S>(schedule, {.steps = 20}), 37);
  });
}

TEST_CASE("Restart: nothing to repeat is the sampler itself; a jump adds the right noise") {
  const VarianceExploding schedule({.sigma_min = 0.01, .sigma_max = 10});
  const ResSampler sampler(schedule, {.steps = 20});
  CHECK(restart_plan(sampler, {.intervals = {}}) == sampler.plan());

  const SamplingPlan plan = restart_plan(
      sampler,
      {.intervals = {{.s_min = 0.1, .s_max = 0.5, .steps = 3, .repeats = 1}}, .s_noise = 1.5});
  const Stage* jump = nullptr;
  for (const Stage& stage : plan.stages())
    if (!stage.ask) jump = &stage;
  REQUIRE(jump != nullptr);
  CHECK(jump->x == 1);
  CHECK(jump->to.sigma == Approx(0.5).epsilon(1e-13));
  CHECK(jump->noise[0].weight ==
        Approx(1.5 * std::sqrt(0.25 - jump->at.sigma * jump->at.sigma)).epsilon(1e-12));
  const Stage& after = *(jump + 1);  // a multistep method starts anew
  CHECK(after.history[0].source == -1);
  CHECK(after.step == jump->step);
}

TEST_CASE("Restart mends a coarse run: less of the error of its discretisation is left") {
  // Noise forgets: on a Gaussian, the variance that a few Euler steps miss comes back.
  const VarianceExploding schedule({.sigma_min = 0.02, .sigma_max = 10});
  const DdimSampler sampler(schedule, {.steps = 8, .grid = {.set_alpha_to_one = false}});
  const SamplingPlan restarted =
      restart_plan(sampler, {.intervals = {{.s_min = 0.1, .s_max = 2, .steps = 24, .repeats = 2}}});
  const double variance = 0.36 + 0.02 * 0.02;
  const double plain = std::abs(numbers::moments(sampler.plan(), 0, 0.36).variance - variance);
  const double mended = std::abs(numbers::moments(restarted, 0, 0.36).variance - variance);
  INFO(plain << " " << mended);
  CHECK(mended < 0.5 * plain);
}

TEST_CASE("Options and grids out of range are refused by name") {
  const Grid grid = make_grid(VpLinear(), 5);
  const Grid rising = grid_of({{1, 1, 1.0}, {2, 1, 2.0}});
  const KnotAt between = exploding;
  const auto plan_of = [](const Grid& part) { return make_plan(part, DdimOptions{}); };
  const auto restart = [&](const RestartInterval& one) {
    return restart_plan(grid, knots_between(VpLinear(), grid), plan_of, {.intervals = {one}});
  };
  CHECK_THROWS_WITH(make_plan(grid, GradientEstimationOptions{.gamma = not_a_number}),
                    contains("gamma is nan"));
  CHECK_THROWS_WITH(make_plan(grid, GradientEstimationOptions{.gamma = 0.9}),
                    contains("gamma is 0.9"));
  CHECK_THROWS_WITH(make_plan(grid, ResSinglestepOptions{.c2 = 0}, between), contains("c2 is 0"));
  CHECK_THROWS_WITH(make_plan(grid, ResSinglestepOptions{.c2 = not_a_number}, between),
                    contains("c2 is nan"));
  CHECK_THROWS_WITH(make_plan(rising, ResOptions{}), contains("less noise"));
  CHECK_THROWS_WITH(make_plan(rising, ResSinglestepOptions{}, between), contains("less noise"));
  CHECK_THROWS_WITH(make_plan(grid, ResSinglestepOptions{}, KnotAt{}), contains("KnotAt"));
  CHECK_THROWS_WITH(make_plan(grid, ErSdeOptions{.order = 0}), contains("order is 0"));
  CHECK_THROWS_WITH(make_plan(grid, ErSdeOptions{.order = 4}), contains("order is 4"));
  CHECK_THROWS_WITH(make_plan(grid, ErSdeOptions{.noise_scale = nullptr}),
                    contains("noise_scale is empty"));
  CHECK_THROWS_WITH(make_plan(grid, ErSdeOptions{.noise_scale = [](double) { return 1.0; }}),
                    contains("grow at least as s"));
  CHECK_THROWS_WITH(
      make_plan(grid, ErSdeOptions{.noise_scale = [](double) { return not_a_number; }}),
      contains("noise_scale is nan"));
  CHECK_THROWS_WITH(make_plan(rising, ErSdeOptions{}), contains("less noise"));
  CHECK_THROWS_WITH(ResSampler(VpLinear(), {.steps = 0}).plan(), contains("steps is 0"));
  CHECK_THROWS_WITH(restart({.s_min = not_a_number}), contains("s_min of intervals[0] is nan"));
  CHECK_THROWS_WITH(restart({.s_min = 1, .s_max = 0.5}), contains("s_max of intervals[0] is 0.5"));
  CHECK_THROWS_WITH(restart({.steps = 0}), contains("steps of intervals[0] is 0"));
  CHECK_THROWS_WITH(restart({.repeats = -1}), contains("repeats of intervals[0] is -1"));
  CHECK_THROWS_WITH(restart({.s_min = 0.001, .s_max = 0.002}), contains("above the level"));
  CHECK_THROWS_WITH(restart({.s_min = 1, .s_max = 1e6}), contains("s_max is 1000000"));
  CHECK_THROWS_WITH(restart_plan(DdimSampler(VpLinear(), {.steps = 1})),
                    contains("none to restart from"));
  CHECK_THROWS_WITH(
      restart_plan(grid, between, plan_of,
                   {.intervals = {{.s_min = 0.2, .s_max = 3}, {.s_min = 5, .s_max = 9}}}),
      contains("from the noisier to the cleaner"));
}
