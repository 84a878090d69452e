// DPM-Solver in all its forms and DEIS: laws, closed forms, equivalences, orders, faults of the
// reference, cuts, errors.

#include <diffusion/noise/philox.hpp>
#include <diffusion/plan/laws.hpp>
#include <diffusion/samplers/ddim.hpp>
#include <diffusion/samplers/deis.hpp>
#include <diffusion/samplers/dpm_solver.hpp>
#include <diffusion/samplers/dpm_solver_singlestep.hpp>
#include <diffusion/sampling/stepper.hpp>
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
constexpr auto data_form = SolverForm::data, noise_form = SolverForm::noise;
constexpr auto never = LowerOrderFinal::never;

/// f(name, schedule); the last two start at pure noise, where the noise form cannot.
template <class F>
void for_every_schedule(const F& f) {
  f("linear VP", VpLinear(), true);
  f("exploding", VarianceExploding(), true);
  f("discrete", NoiseSchedule<>::scaled_linear(), true);
  f("flow", RectifiedFlow(), false);
  f("discrete, zero SNR", NoiseSchedule<>::linear({.rescale_zero_terminal_snr = true}), false);
}

Grid even(int n) { return grid_of(numbers::even_in_log(n)); }

/// Some variance preserving levels, unevenly spaced.
std::vector<Knot> some_knots() {
  std::vector<Knot> knots;
  for (const double s : {7.0, 4.1, 2.9, 1.2, 0.8, 0.3, 0.11})
    knots.push_back({s, 1 / std::hypot(1, s), s / std::hypot(1, s)});
  return knots;
}

/// x0 of ask i, whatever the state.
double answer(int i) { return std::sin(2.3 * i + 0.4); }
double draw(int i) { return std::cos(1.7 * i); }

double result_of(const SamplingPlan& plan) {
  int asked = 0;
  std::vector<numbers::Vector> draws;
  for (int i = 0; i < plan.draws(); ++i) draws.push_back({draw(i)});
  const numbers::Denoiser told = [&](const numbers::Vector&, const Knot&) {
    return numbers::Vector{answer(asked++)};
  };
  return numbers::run(plan, told, {0.37}, draws)[0];
}

/// The same by the formulas as the papers' code writes them: D1 and D2 in the classical shape.
struct ByHand {
  double eta = 0;
  bool heun = false, halved = false, flipped = false;

  double data(const std::vector<Knot>& knots, int order) const {
    double x = 0.37;
    for (int i = 0; i + 1 < static_cast<int>(knots.size()); ++i) {
      const Knot &s = knots[static_cast<std::size_t>(i)],
                 &t = knots[static_cast<std::size_t>(i) + 1];
      const double h = lambda(t) - lambda(s), z = (1 + eta) * h;
      const int k = std::min(order, i + 1);
      double sum = (1 - std::exp(-z)) * answer(i);
      const auto past = [&](int age) { return lambda(knots[static_cast<std::size_t>(i - age)]); };
      const double r0 = k > 1 ? (lambda(s) - past(1)) / h : 1;
      const double slope0 = k > 1 ? (answer(i) - answer(i - 1)) / r0 : 0;
      const double one = (std::exp(-z) - 1) / z + 1;
      if (k == 2) sum += heun ? one * slope0 : 0.5 * (1 - std::exp(-z)) * slope0;
      if (k == 3) {
        const double r1 = (past(1) - past(2)) / h;
        const double slope1 = (answer(i - 1) - answer(i - 2)) / r1;
        const double d1 = slope0 + r0 / (r0 + r1) * (slope0 - slope1);
        const double d2 = (slope0 - slope1) / (r0 + r1);
        const double two = (1 - std::exp(-z) - z) / (z * z);
        sum += one * d1 + (halved ? 1 : 2) * (flipped ? two - 0.5 : two + 0.5) * d2;
      }
      x = t.sigma / s.sigma * std::exp(-eta * h) * x + t.alpha * sum;
      if (eta > 0) x += t.sigma * std::sqrt(1 - std::exp(-2 * eta * h)) * draw(i);
    }
    return x;
  }

  double noise(const std::vector<Knot>& knots, int order) const {
    double x = 0.37;
    std::vector<double> eps;
    for (int i = 0; i + 1 < static_cast<int>(knots.size()); ++i) {
      const Knot &s = knots[static_cast<std::size_t>(i)],
                 &t = knots[static_cast<std::size_t>(i) + 1];
      eps.push_back((x - s.alpha * answer(i)) / s.sigma);
      const double h = lambda(t) - lambda(s), grown = std::exp(h) - 1;
      const int k = std::min(order, i + 1);
      const auto past = [&](int age) { return lambda(knots[static_cast<std::size_t>(i - age)]); };
      const auto e = [&](int age) { return eps[static_cast<std::size_t>(i - age)]; };
      const double r0 = k > 1 ? (lambda(s) - past(1)) / h : 1;
      const double slope0 = k > 1 ? (e(0) - e(1)) / r0 : 0;
      double sum = grown * e(0);
      if (k == 2) sum += heun ? (grown / h - 1) * slope0 : 0.5 * grown * slope0;
      if (k == 3) {
        const double r1 = (past(1) - past(2)) / h, slope1 = (e(1) - e(2)) / r1;
        const double d2 = (slope0 - slope1) / (r0 + r1);
        sum += (grown / h - 1) * (slope0 + r0 * d2) +
               (halved ? 1 : 2) * ((grown - h) / (h * h) - 0.5) * d2;
      }
      x = t.alpha / s.alpha * x - (1 + eta) * t.sigma * sum;
      if (eta > 0) x += t.sigma * std::sqrt(eta * (std::exp(2 * h) - 1)) * draw(i);
    }
    return x;
  }

  static double lambda(const Knot& knot) { return std::log(knot.alpha / knot.sigma); }
};

template <class S, class F>
void for_every_plan(const S& schedule, int steps, const GridOptions& grid, bool noisy_too,
                    const F& f) {
  for (const int order : {1, 2, 3, 4})
    for (const SolverType solver : {SolverType::midpoint, SolverType::heun}) {
      for (const double eta : {0.0, 0.4, 1.0})
        f("DPM++", DpmSolverSampler<S>(
                       schedule,
                       {.steps = steps, .order = order, .eta = eta, .solver = solver, .grid = grid})
                       .plan());
      if (order < 4)
        for (const double eta : {0.0, 1.0})
          f("DPM++ singlestep",
            DpmSolverSinglestepSampler<S>(
                schedule,
                {.steps = steps, .order = order, .eta = eta, .solver = solver, .grid = grid})
                .plan());
      if (!noisy_too) continue;
      f("DPM-Solver",
        DpmSolverSampler<S>(
            schedule,
            {.steps = steps, .order = order, .form = noise_form, .solver = solver, .grid = grid})
            .plan());
      if (order < 4)
        f("DPM-Solver singlestep",
          DpmSolverSinglestepSampler<S>(
              schedule,
              {.steps = steps, .order = order, .form = noise_form, .solver = solver, .grid = grid})
              .plan());
      f("DEIS", DeisSampler<S>(schedule, {.steps = steps, .order = order, .grid = grid}).plan());
    }
  for (const double eta : {0.0, 0.5, 1.0})
    f("2S ancestral",
      DpmSolverAncestralSampler<S>(schedule, {.steps = steps, .eta = eta, .grid = grid}).plan());
}

bool finite(const SamplingPlan& plan) { return std::isfinite(result_of(plan)); }

}  // namespace

TEST_CASE("The laws hold on every schedule, for 1 to 5 and 20 steps, and for either end") {
  for_every_schedule([](const std::string& name, const auto& schedule, bool noisy_too) {
    for (const int steps : {1, 2, 3, 4, 5, 20})
      for (const bool to_one : {true, false}) {
        if (!to_one && steps == 1) continue;  // a discrete run may start and end at timestep 0
        const GridOptions grid{.spacing = TimestepSpacing::trailing, .set_alpha_to_one = to_one};
        for_every_plan(schedule, steps, grid, noisy_too,
                       [&](const char* kind, const SamplingPlan& plan) {
                         INFO(name << ", " << kind << ", " << steps << " steps, to_one " << to_one);
                         check_all_laws(plan);
                         CHECK(finite(plan));
                         CHECK(plan.steps() == steps);
                       });
      }
  });
}

TEST_CASE("The laws hold on Karras levels down to zero and to sigma_min") {
  for (const bool to_one : {true, false}) {
    const GridOptions grid{.set_alpha_to_one = to_one, .sigmas = {.rule = SigmaRule::karras}};
    for_every_plan(NoiseSchedule<>::scaled_linear(), 8, grid, true,
                   [&](const char* kind, const SamplingPlan& plan) {
                     INFO(kind << ", to_one " << to_one);
                     check_all_laws(plan);
                   });
  }
}

TEST_CASE("Known violation: the noise form of the SDE has a variance that is too large") {
  // One first-order step on one point: the weight of eps is s' (1 - eta (e^h - 1)), that of the
  // draw s' sqrt(eta (e^2h - 1)).
  for (const double eta : {0.3, 1.0, 2.0}) {
    const std::vector<Knot> knots{{0, 0.6, 0.8}, {0, 0.8, 0.6}};
    const double growth = 0.8 / 0.6 * 0.8 / 0.6 - 1;  // e^h - 1
    const SamplingPlan plan =
        make_plan(grid_of(knots), DpmSolverOptions{.form = noise_form, .eta = eta});
    const double ratio = 1 + (eta + eta * eta) * growth * growth;
    CHECK(check_laws(plan).variance == Approx(0.36 * (ratio - 1)).epsilon(1e-12));
    CHECK(check_laws(plan).mean < 1e-14);
  }
}

TEST_CASE("The rows are the papers' formulas") {
  const auto knots = some_knots();
  const Grid grid = grid_of(knots);
  for (const int order : {1, 2, 3})
    for (const bool heun : {false, true})
      for (const double eta : {0.0, 0.5, 1.0})
        for (const ThirdOrder third :
             {ThirdOrder::exact, ThirdOrder::halved, ThirdOrder::diffusers}) {
          CAPTURE(order, heun, eta, static_cast<int>(third));
          DpmSolverOptions options{.order = order,
                                   .eta = eta,
                                   .solver = heun ? SolverType::heun : SolverType::midpoint,
                                   .lower_order_final = never,
                                   .third_order = third};
          ByHand hand{.eta = eta, .heun = heun, .halved = third != ThirdOrder::exact};
          hand.flipped = third == ThirdOrder::diffusers && eta > 0;
          CHECK(result_of(make_plan(grid, options)) ==
                Approx(hand.data(knots, order)).epsilon(1e-12));
          if (third == ThirdOrder::diffusers && eta > 0) continue;  // it has none
          options.form = noise_form;
          CHECK(result_of(make_plan(grid, options)) ==
                Approx(hand.noise(knots, order)).epsilon(1e-11));
        }
}

TEST_CASE("Singlestep rows are the papers' algorithms with r1 = 1/3, r2 = 2/3") {
  const double h = 0.9, third = h / 3;
  std::vector<Knot> knots;  // lambda from -1 in three steps of h / 3
  for (int i = 0; i <= 3; ++i) {
    const double s = std::exp(1 - third * i);
    knots.push_back({s, 1 / std::hypot(1, s), s / std::hypot(1, s)});
  }
  const auto step = [&](int to, double weighted) {  // (sigma' / sigma) x + alpha' weighted
    const Knot& t = knots[static_cast<std::size_t>(to)];
    return t.sigma / knots[0].sigma * 0.37 + t.alpha * weighted;
  };
  const auto one = [](double z) { return 1 - std::exp(-z); };
  const auto two = [](double z) { return (std::exp(-z) - 1) / z + 1; };
  const double d1 = answer(1) - answer(0), d2 = answer(2) - answer(0);
  const DpmSolverSinglestepOptions third_order{.order = 3, .lower_order_final = false};
  // Algorithm 2 of arXiv 2206.00927 in the data form: D1 of the last estimate alone.
  CHECK(result_of(make_plan(grid_of(knots), third_order)) ==
        Approx(step(3, one(h) * answer(0) + two(h) * d2 / (2.0 / 3))).epsilon(1e-13));
  DpmSolverSinglestepOptions heun = third_order;
  heun.solver = SolverType::heun;
  const double slope1 = d1 * 3, slope2 = d2 * 1.5;
  const double line = (2.0 / 3 * slope1 - 1.0 / 3 * slope2) * 3;
  const double bend = 2 * (slope2 - slope1) * 3;
  const double curve = -((std::exp(-h) - 1 + h) / (h * h) - 0.5);
  CHECK(result_of(make_plan(grid_of(knots), heun)) ==
        Approx(step(3, one(h) * answer(0) + two(h) * line + curve * bend)).epsilon(1e-13));
  // Algorithm 1 with r1 = 1/2 over the first two of the steps: the middle estimate alone.
  const Grid first_two = grid_of({knots[0], knots[1], knots[2]});
  CHECK(result_of(make_plan(first_two,
                            DpmSolverSinglestepOptions{.order = 2, .lower_order_final = false})) ==
        Approx(step(2, one(2 * third) * answer(1))).epsilon(1e-13));
  // dpmpp_2s_ancestral without noise is that, with the middle found by the schedule.
  const auto middle = [](double log_snr) {
    const double s = std::exp(-log_snr / 2);
    return Knot{s, 1 / std::hypot(1, s), s / std::hypot(1, s)};
  };
  CHECK(result_of(make_plan(grid_of({knots[0], knots[2]}), DpmSolverAncestralOptions{.eta = 0},
                            middle)) == Approx(step(2, one(2 * third) * answer(1))).epsilon(1e-13));
}

TEST_CASE("2S ancestral is k-diffusion's dpmpp_2s_ancestral") {
  const double s = 3, s_to = 1.4;
  for (const double eta : {0.3, 1.0}) {
    const double up =
        std::min(s_to, eta * std::sqrt(s_to * s_to * (s * s - s_to * s_to) / (s * s)));
    const double down = std::sqrt(s_to * s_to - up * up), h = std::log(s / down);
    const double expected = down / s * 0.37 - std::expm1(-h) * answer(1) + up * draw(0);
    const SamplingPlan plan = make_plan(grid_of({{s, 1, s}, {s_to, 1, s_to}}),
                                        DpmSolverAncestralOptions{.eta = eta}, exploding);
    CHECK(result_of(plan) == Approx(expected).epsilon(1e-13));
    CHECK(plan[1].at.sigma == Approx(std::sqrt(s * down)).epsilon(1e-14));
    CHECK(plan.network_calls() == 2);
  }
}

TEST_CASE("DEIS rows are the integrals of the polynomial in log rho") {
  // Weights of eps: alpha' times the integral over rho of the Lagrange polynomial in log rho,
  // here by Simpson's rule.
  const auto knots = some_knots();
  for (const int order : {1, 2, 3, 4}) {
    const SamplingPlan plan =
        make_plan(grid_of(knots), DeisOptions{.order = order, .lower_order_final = never});
    const Stage& row = plan[3];
    const auto rho = [&](int i) {
      return knots[static_cast<std::size_t>(i)].sigma / knots[static_cast<std::size_t>(i)].alpha;
    };
    const auto lagrange = [&](int age, double at) {
      double product = 1;
      for (int other = 0; other < order; ++other)
        if (other != age)
          product *= std::log(at / rho(3 - other)) / std::log(rho(3 - age) / rho(3 - other));
      return product;
    };
    double history = 0;
    for (int age = 0; age < order; ++age) {
      const int n = 2000;
      double integral = 0;
      for (int i = 0; i <= n; ++i)
        integral += (i == 0 || i == n ? 1
                     : i % 2 == 0     ? 2
                                      : 4) *
                    lagrange(age, rho(3) + (rho(4) - rho(3)) * i / n);
      integral *= knots[4].alpha * (rho(4) - rho(3)) / (3 * n);
      CAPTURE(order, age);
      if (age == 0) CHECK(row.eps == Approx(integral).epsilon(1e-11));
      if (age > 0) history += integral;
    }
    double sum = 0;
    for (const Term& term : row.history)
      if (term.source >= 0) sum += term.weight;
    CHECK(sum == Approx(history).epsilon(1e-10).margin(1e-13));
    CHECK(row.x == Approx(knots[4].alpha / knots[3].alpha).epsilon(1e-15));
  }
}

TEST_CASE("Equivalences: DDIM, Euler, DEIS, the SDE without noise") {
  const auto schedule = NoiseSchedule<>::scaled_linear();
  const Grid grid = make_grid(schedule, 9);
  const double ddim = result_of(make_plan(grid, DdimOptions{}));
  CHECK(result_of(make_plan(grid, DpmSolverOptions{.order = 1})) == Approx(ddim).epsilon(1e-12));
  CHECK(result_of(make_plan(grid, DpmSolverOptions{.order = 1, .form = noise_form})) ==
        Approx(ddim).epsilon(1e-12));
  CHECK(result_of(make_plan(grid, DeisOptions{.order = 1})) == Approx(ddim).epsilon(1e-12));
  CHECK(result_of(make_plan(grid, DpmSolverSinglestepOptions{.order = 1})) ==
        Approx(ddim).epsilon(1e-12));
  // Order 1 of the SDE with eta = 1 is DDIM's with eta = 1, which is DDPM's.
  CHECK(result_of(make_plan(grid, DpmSolverOptions{.order = 1, .eta = 1})) ==
        Approx(result_of(make_plan(grid, DdimOptions{.eta = 1}))).epsilon(1e-12));
  // In sigma space it is Euler's method: x + (s' - s) eps.
  const SamplingPlan euler = make_plan(even(5), DpmSolverOptions{.order = 1});
  for (const Stage& row : euler.stages()) {
    CHECK(row.x + row.x0 == Approx(1).epsilon(1e-14));
    CHECK(row.x0 == Approx((row.at.sigma - row.to.sigma) / row.at.sigma).epsilon(1e-13));
  }
  // Order 2: one integral in two bases gives two methods; of the same form DEIS is the heun type.
  CHECK(make_plan(grid, DeisOptions{.order = 3}) ==
        make_plan(grid,
                  DpmSolverOptions{.order = 3, .form = noise_form, .solver = SolverType::heun}));
  // The SDE's rows go over into those of the ODE: 2M SDE with eta = 0 is 2M.
  const auto tiny = make_plan(grid, DpmSolverOptions{.eta = 1e-13}),
             none = make_plan(grid, DpmSolverOptions{});
  for (int i = 0; i < grid.size(); ++i) {
    CHECK(tiny[i].x == Approx(none[i].x).epsilon(1e-11));
    CHECK(tiny[i].x0 == Approx(none[i].x0).epsilon(1e-11));
  }
}

TEST_CASE("Orders on the exact Gaussian and mixture") {
  struct Method {
    const char* name;
    std::function<SamplingPlan(int)> plan;
    double order;
    int warm;
    int first = 16;  // steps from where the errors are their leading term
  };
  const auto multistep = [](int order, SolverForm form, SolverType type, ThirdOrder third) {
    return [=](int n) {
      return make_plan(even(n), DpmSolverOptions{.order = order,
                                                 .form = form,
                                                 .solver = type,
                                                 .lower_order_final = never,
                                                 .third_order = third});
    };
  };
  const auto single = [](int order, SolverForm form, SolverType type) {
    return [=](int n) {
      return make_plan(even(3 * n / 4 * (order == 3 ? 2 : 1) / order * order),
                       {.order = order, .form = form, .solver = type, .lower_order_final = false});
    };
  };
  using enum SolverType;
  const auto exact_third = ThirdOrder::exact;
  const Method methods[] = {
      {"DPM++ 1", multistep(1, data_form, midpoint, exact_third), 1, 0},
      {"DPM++ 2M midpoint", multistep(2, data_form, midpoint, exact_third), 2, 1},
      {"DPM++ 2M heun", multistep(2, data_form, heun, exact_third), 2, 1},
      {"DPM++ 3M", multistep(3, data_form, midpoint, exact_third), 3, 2},
      {"DPM++ 4M", multistep(4, data_form, midpoint, exact_third), 4, 3},
      {"DPM 2M midpoint", multistep(2, noise_form, midpoint, exact_third), 2, 1},
      {"DPM 2M heun", multistep(2, noise_form, heun, exact_third), 2, 1},
      {"DPM 3M", multistep(3, noise_form, midpoint, exact_third), 3, 2, 32},
      {"DEIS 3", [](int n) { return make_plan(even(n), DeisOptions{.lower_order_final = never}); },
       3, 2, 32},
      {"DEIS 4",
       [](int n) {
         return make_plan(even(n), DeisOptions{.order = 4, .lower_order_final = never});
       },
       4, 3},
      {"DPM++ 2S", single(2, data_form, midpoint), 2, 0},
      {"DPM++ 2S heun", single(2, data_form, heun), 2, 0},
      {"DPM++ 3S", single(3, data_form, midpoint), 3, 0},
      {"DPM++ 3S heun", single(3, data_form, heun), 3, 0},
      {"DPM 3S", single(3, noise_form, midpoint), 3, 0},
      {"2S ancestral, eta 0",
       [](int n) { return make_plan(even(n), DpmSolverAncestralOptions{.eta = 0}, exploding); }, 2,
       0},
  };
  for (const auto& [data_name, data] : {std::pair{"Gaussian", numbers::gaussian(0.5, 0.36)},
                                        std::pair{"mixture", numbers::Mixture{}}})
    for (const Method& method : methods) {
      const auto exact = numbers::order_of_plan(method.plan, data, method.warm, method.first);
      const auto own =
          method.warm > 0 ? numbers::order_of_plan(method.plan, data, 0, method.first) : exact;
      INFO(method.name << " on a " << data_name << ": order " << exact.slope << " (" << exact.points
                       << " points), own start " << own.slope << " (" << own.points << ")");
      CHECK(exact.slope >= method.order - 0.15);
      CHECK(own.slope >= std::min(method.order, 2.0) - 0.15);
    }
}

TEST_CASE(
    "Fault of the reference: multistep order 3 with the second difference halved is of second") {
  const auto plan = [](ThirdOrder third) {
    return [third](int n) {
      return make_plan(
          even(n), DpmSolverOptions{.order = 3, .lower_order_final = never, .third_order = third});
    };
  };
  for (const numbers::Mixture& data : {numbers::gaussian(0.5, 0.36), numbers::Mixture{}}) {
    const auto faulty = numbers::order_of_plan(plan(ThirdOrder::diffusers), data, 2);
    const auto right = numbers::order_of_plan(plan(ThirdOrder::exact), data, 2);
    INFO("as diffusers: " << faulty.slope << ", exact: " << right.slope);
    CHECK(faulty.slope < 2.2);
    CHECK(right.slope > 2.85);
  }
}

TEST_CASE("Fault of the reference: the sign of the second difference in third-order SDE++") {
  // x0 a parabola in lambda: the right weights give its integral, diffusers' are off by O(h).
  const auto deviation = [](double h, ThirdOrder third) {
    std::vector<Knot> knots;
    for (int i = 0; i < 4; ++i) knots.push_back({0, 1, std::exp(-h * i)});
    const SamplingPlan plan = make_plan(
        grid_of(knots),
        DpmSolverOptions{.order = 3, .eta = 1, .lower_order_final = never, .third_order = third});
    const Stage& row = plan[2];  // at u = 0, the others at -1, -2
    // 2h int e^(-2h (1-u)) u^2 du over 0 .. 1
    const double z = 2 * h, integral = 1 - 2 / z + 2 / (z * z) * -std::expm1(-z);
    double sum = 0;
    for (const Term& term : row.history) {
      if (term.source < 0) continue;
      // Estimate 0 (u = -2) was kept first, so has slot 0.
      sum += term.weight * (term.source == plan[0].keep ? 4 : 1);
    }
    return (sum - integral) / integral;
  };
  for (const double h : {0.2, 0.1, 0.05}) {
    CAPTURE(h);
    CHECK(std::abs(deviation(h, ThirdOrder::exact)) < 1e-9);
    CHECK(deviation(h, ThirdOrder::halved) == Approx(-0.5).margin(1e-9));
    CHECK(deviation(h, ThirdOrder::diffusers) < -1);  // not even of the right sign
  }
}

TEST_CASE("Stochastic: mean and variance converge to the data's") {
  const double mean = 0.5, variance = 0.36;
  const double target = variance + numbers::s_last * numbers::s_last;
  struct Method {
    const char* name;
    std::function<SamplingPlan(int)> plan;
    double limit;  // of the error of the variance at 256 steps
  };
  const Method methods[] = {
      {"1, SDE", [](int n) { return make_plan(even(n), DpmSolverOptions{.order = 1, .eta = 1}); },
       1e-2},
      {"2M SDE", [](int n) { return make_plan(even(n), DpmSolverOptions{.eta = 1}); }, 1e-3},
      {"2M SDE, eta 0.4", [](int n) { return make_plan(even(n), DpmSolverOptions{.eta = 0.4}); },
       1e-3},
      {"2M SDE heun",
       [](int n) {
         return make_plan(even(n), DpmSolverOptions{.eta = 1, .solver = SolverType::heun});
       },
       1e-3},
      {"3M SDE", [](int n) { return make_plan(even(n), DpmSolverOptions{.order = 3, .eta = 1}); },
       1e-3},
      {"2M SDE of the noise form",
       [](int n) { return make_plan(even(n), DpmSolverOptions{.form = noise_form, .eta = 1}); },
       3e-2},
      {"2S SDE", [](int n) { return make_plan(even(n), DpmSolverSinglestepOptions{.eta = 1}); },
       2e-2},
      {"2S ancestral",
       [](int n) { return make_plan(even(n), DpmSolverAncestralOptions{}, exploding); }, 1e-2},
  };
  for (const Method& method : methods) {
    const auto error = [&](int n) {
      const auto got = numbers::moments(method.plan(n), mean, variance);
      return std::pair{std::abs(got.mean - mean), std::abs(got.variance - target)};
    };
    const auto [mean64, variance64] = error(64);
    const auto [mean256, variance256] = error(256);
    INFO(method.name << ": mean " << mean64 << ", " << mean256 << ", variance " << variance64
                     << ", " << variance256);
    CHECK(mean256 < 1e-2);
    CHECK(mean256 < 0.5 * mean64 + 1e-9);
    CHECK(variance256 < method.limit);
    CHECK(variance256 < 0.5 * variance64);
  }
}

TEST_CASE("A plan on a part of a grid ramps its order from there, as one made anew") {
  const auto knots = some_knots();
  const Grid grid = grid_of(knots);
  for (int begin = 1; begin < grid.size(); ++begin) {
    const Grid cut = grid.cut(begin), anew(std::vector<GridStep>(cut.begin(), cut.end()));
    const auto same = [](const SamplingPlan& a, const SamplingPlan& b) {
      CHECK(a.traits() == b.traits());
      for (int i = 0; i < a.size(); ++i) {
        Stage row = b[i];
        row.step = a[i].step;
        CHECK(row == a[i]);
      }
    };
    same(make_plan(cut, DpmSolverOptions{.order = 3}),
         make_plan(anew, DpmSolverOptions{.order = 3}));
    same(make_plan(cut, DeisOptions{}), make_plan(anew, DeisOptions{}));
    same(make_plan(cut, DpmSolverSinglestepOptions{.order = 3}),
         make_plan(anew, DpmSolverSinglestepOptions{.order = 3}));
    CHECK(make_plan(cut, DpmSolverOptions{.order = 3})[0].history[0].source == -1);
    check_all_laws(make_plan(cut, DpmSolverOptions{.order = 3, .eta = 1}));
  }
}

TEST_CASE("A saved run that is resumed is the uninterrupted one, bit for bit") {
  const Grid grid = make_grid(NoiseSchedule<>::scaled_linear(), 7);
  const auto finish = [](auto& run) {
    while (!run.done()) {
      if (run.asks()) run.output() = (0.7 * run.input()).tanh() * std::cos(run.timestep() / 500);
      run.advance();
    }
    return Eigen::ArrayXd(run.state());
  };
  for (const SamplingPlan& plan :
       {make_plan(grid, DpmSolverOptions{.order = 3}), make_plan(grid, DpmSolverOptions{.eta = 1}),
        make_plan(grid, DpmSolverSinglestepOptions{.order = 3, .eta = 1}),
        make_plan(grid, DeisOptions{})}) {
    const Eigen::ArrayXd start = Eigen::ArrayXd::LinSpaced(5, -1, 2);
    Stepper whole(plan, Eigen::ArrayXd(start), PhiloxNoise{3});
    std::vector<decltype(whole)> saved;
    Stepper run(plan, Eigen::ArrayXd(start), PhiloxNoise{3});
    while (!run.done()) {
      saved.push_back(run);
      if (run.asks()) run.output() = (0.7 * run.input()).tanh() * std::cos(run.timestep() / 500);
      run.advance();
    }
    const Eigen::ArrayXd expected = finish(whole);
    for (auto& copy : saved) CHECK((finish(copy) == expected).all());
  }
}

TEST_CASE("The end: lower orders, sigma zero, levels told twice") {
  const auto history = [](const Stage& row) {
    return std::count_if(row.history.begin(), row.history.end(),
                         [](const Term& term) { return term.source >= 0; });
  };
  using enum LowerOrderFinal;
  const auto orders = [&](int n, LowerOrderFinal lowers, bool euler) {
    std::vector<long> made;
    const auto plan = make_plan(
        even(n),
        DpmSolverOptions{.order = 3, .lower_order_final = lowers, .euler_at_final = euler});
    for (const Stage& row : plan.stages()) made.push_back(1 + history(row));
    return made;
  };
  CHECK(orders(6, short_runs, false) == std::vector<long>{1, 2, 3, 3, 2, 1});
  CHECK(orders(6, LowerOrderFinal::never, false) == std::vector<long>{1, 2, 3, 3, 3, 3});
  CHECK(orders(6, LowerOrderFinal::never, true) == std::vector<long>{1, 2, 3, 3, 3, 1});
  CHECK(orders(15, short_runs, false).back() == 3);
  CHECK(orders(15, always, false).back() == 1);

  auto knots = numbers::even_in_log(15);
  knots.back() = {0, 1, 0};  // infinitely far: first order, and all of x0
  for (const SolverForm form : {data_form, noise_form}) {
    const auto plan = make_plan(grid_of(knots), DpmSolverOptions{.order = 3, .form = form});
    const Stage& last = plan[14];
    CHECK(history(last) == 0);
    CHECK(last.x + (form == data_form ? 0 : last.eps / last.at.sigma) == Approx(0).margin(1e-15));
  }
  knots.back() = knots[14];
  const auto stays = make_plan(grid_of(knots), DpmSolverOptions{.order = 3, .eta = 1});
  CHECK(stays[14].x == 1);
  CHECK_FALSE(stays[14].ask);
  CHECK(stays.network_calls() == 14);
  CHECK(singlestep_orders(7, 3, true, false) == std::vector<int>{1, 2, 3, 1, 2, 3, 1});
  CHECK(singlestep_orders(6, 3, true, false) == std::vector<int>{1, 2, 3, 1, 2, 1});
  CHECK(singlestep_orders(5, 3, true, false) == std::vector<int>{1, 2, 3, 1, 2});
  CHECK(singlestep_orders(4, 2, true, false) == std::vector<int>{1, 2, 1, 1});
  CHECK(singlestep_orders(4, 2, false, true) == std::vector<int>{1, 2, 1, 1});
  CHECK(singlestep_orders(4, 2, false, false) == std::vector<int>{1, 2, 1, 2});
}

TEST_CASE("An inversion is the plan of the reversed grid") {
  const Grid grid = even(400);
  const auto data = numbers::denoiser_of(numbers::Mixture{});
  const double there = numbers::run(make_plan(grid, DpmSolverOptions{}), data, {3.7})[0];
  CHECK(numbers::run(make_plan(grid.reversed(), DpmSolverOptions{}), data, {there})[0] ==
        Approx(3.7).epsilon(1e-3));
  check_all_laws(make_plan(grid.reversed(), DpmSolverOptions{.order = 3}));
}

TEST_CASE("A step from clean data to clean data changes nothing and asks nothing") {
  const SamplingPlan plan =
      make_plan(grid_of({{1, 1, 1}, {0, 1, 0}, {0, 1, 0}}), DpmSolverOptions{.order = 3});
  REQUIRE(plan.size() == 2);
  CHECK(plan.network_calls() == 1);
  CHECK(plan[1].x == 1);
}

TEST_CASE("Options and grids that cannot be are refused, by name") {
  const Grid grid = even(6);
  const auto multistep = [&](const DpmSolverOptions& options) { make_plan(grid, options); };
  CHECK_THROWS_WITH(multistep({.order = 0}), contains("order is 0") && contains("[1, 4]"));
  CHECK_THROWS_WITH(multistep({.order = 5}), contains("order is 5"));
  CHECK_THROWS_WITH(multistep({.eta = -0.1}), contains("eta is -0.1"));
  CHECK_THROWS_WITH(multistep({.eta = not_a_number}), contains("eta is nan"));
  CHECK_THROWS_WITH(multistep({.form = static_cast<SolverForm>(2)}), contains("form is 2"));
  CHECK_THROWS_WITH(multistep({.solver = static_cast<SolverType>(-1)}), contains("solver is -1"));
  CHECK_THROWS_WITH(multistep({.lower_order_final = static_cast<LowerOrderFinal>(3)}),
                    contains("lower_order_final is 3"));
  CHECK_THROWS_WITH(multistep({.third_order = static_cast<ThirdOrder>(3)}),
                    contains("third_order is 3"));
  CHECK_THROWS_WITH(make_plan(grid.reversed(), DpmSolverOptions{.eta = 1}),
                    contains("to less noise"));
  CHECK_THROWS_WITH(make_plan(grid, DeisOptions{.order = 5}), contains("DeisOptions::order is 5"));
  CHECK_THROWS_WITH(make_plan(grid, DpmSolverSinglestepOptions{.order = 4}),
                    contains("order is 4"));
  CHECK_THROWS_WITH(make_plan(grid, DpmSolverSinglestepOptions{.eta = 11}), contains("eta is 11"));
  CHECK_THROWS_WITH(make_plan(grid, DpmSolverAncestralOptions{.eta = 1.5}, exploding),
                    contains("eta is 1.5"));
  CHECK_THROWS_WITH(make_plan(grid.reversed(), DpmSolverAncestralOptions{}, exploding),
                    contains("step 0") && contains("less of it"));
  CHECK_THROWS_WITH(make_plan(grid, DpmSolverAncestralOptions{}, KnotAt{}), contains("KnotAt"));
  const Grid noise = grid_of({{1, 0, 1}, {0.5, 0.5, 0.5}});
  CHECK_THROWS_WITH(make_plan(noise, DpmSolverOptions{.form = noise_form}), contains("alpha = 0"));
  CHECK_THROWS_WITH(make_plan(noise, DeisOptions{}), contains("alpha = 0"));
  const Grid clean = grid_of({{0, 1, 0}, {0.5, 0.5, 0.5}});
  CHECK_THROWS_WITH(make_plan(clean, DpmSolverOptions{}), contains("from sigma > 0"));
  const auto knots = some_knots();
  CHECK_THROWS_WITH(make_plan(grid_of({knots[0], knots[0], knots[1]}),
                              DpmSolverSinglestepOptions{.order = 2, .lower_order_final = false}),
                    contains("are the same"));
}
