// PNDM and iPNDM: the laws, weights of the papers, both warm-ups written out, orders, ends, cuts,
// errors.

#include <diffusion/noise/philox.hpp>
#include <diffusion/plan/laws.hpp>
#include <diffusion/samplers/ddim.hpp>
#include <diffusion/samplers/ipndm.hpp>
#include <diffusion/samplers/pndm.hpp>
#include <diffusion/sampling/stepper.hpp>
#include <diffusion/schedule/continuous.hpp>
#include <diffusion/schedule/noise_schedule.hpp>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "catch.hpp"
#include "law_checks.hpp"
#include "plan_numbers.hpp"
#include "support.hpp"

using namespace diffusion;
using Catch::Approx;
using numbers::Vector;

namespace {

template <class F>
void for_every_schedule(const F& f) {
  f("linear VP", VpLinear(), false);
  f("exploding", VarianceExploding(), false);
  f("discrete", NoiseSchedule<>::scaled_linear(), false);
  f("cosine VP", VpCosine(), true);
  f("flow", RectifiedFlow(), true);
  f("zero terminal SNR", NoiseSchedule<>::linear({.rescale_zero_terminal_snr = true}), true);
}

Grid even_in_s(int n) { return Grid::through(numbers::even_in_s(n)); }
Grid even_log(int n) { return Grid::through(numbers::even_in_log(n)); }

Vector network(const Vector& x, const Knot& at) {
  return {std::sin(3 * x[0] + at.t), std::cos(x[1] - at.t) - 0.3 * x[1]};
}

/// PNDM on levels (1, s), where the equation is dx/ds = eps, in the books' words.
Vector written(const Grid& grid, PndmWarmUp warm_up, Vector x) {
  std::vector<Vector> slopes;
  const auto slope = [](const Vector& z, double s) {
    const Vector x0 = network(z, {s, 1, s});
    return Vector{(z[0] - x0[0]) / s, (z[1] - x0[1]) / s};
  };
  const auto moved = [](const Vector& z, double h, const Vector& e) {
    return Vector{z[0] + h * e[0], z[1] + h * e[1]};
  };
  const double weights[4][4] = {
      {1}, {1.5, -0.5}, {23. / 12, -16. / 12, 5. / 12}, {55. / 24, -59. / 24, 37. / 24, -9. / 24}};
  for (int i = 0; i < grid.size(); ++i) {
    const double s = grid[i].from.sigma, h = grid[i].to.sigma - s;
    const Vector a = slope(x, s);
    slopes.insert(slopes.begin(), a);
    if (warm_up == PndmWarmUp::runge_kutta && i < 3) {
      const Vector b = slope(moved(x, h / 2, a), s + h / 2);
      const Vector c = slope(moved(x, h / 2, b), s + h / 2);
      const Vector d = slope(moved(x, h, c), s + h);
      for (std::size_t e = 0; e < 2; ++e) x[e] += h / 6 * (a[e] + 2 * b[e] + 2 * c[e] + d[e]);
    } else if (warm_up == PndmWarmUp::multistep && i == 0) {
      const Vector b = slope(moved(x, h, a), s + h);
      for (std::size_t e = 0; e < 2; ++e) x[e] += h / 2 * (a[e] + b[e]);
    } else {
      const std::size_t order = std::min<std::size_t>(slopes.size(), 4);
      for (std::size_t k = 0; k < order; ++k) x = moved(x, h * weights[order - 1][k], slopes[k]);
    }
  }
  return x;
}

void check_same(const Vector& a, const Vector& b, double tolerance) {
  for (std::size_t k = 0; k < a.size(); ++k)
    CHECK(a[k] == Approx(b[k]).epsilon(tolerance).margin(tolerance));
}

}  // namespace

TEST_CASE("PNDM and iPNDM keep the laws on every schedule, for 1 to 5 and 20 steps") {
  for_every_schedule([](const std::string& name, const auto& schedule, bool from_noise) {
    using S = std::remove_cvref_t<decltype(schedule)>;
    for (const int steps : {1, 2, 3, 4, 5, 20})
      for (const TimestepSpacing spacing : {TimestepSpacing::trailing, TimestepSpacing::linspace})
        for (const bool to_one : {true, false}) {
          INFO(name << ", " << steps << " steps, to_one " << to_one);
          const GridOptions grid{.spacing = spacing, .set_alpha_to_one = to_one};
          for (const int order : {1, 2, 3, 4})
            check_all_laws(
                IpndmSampler<S>(schedule, {.steps = steps, .order = order, .grid = grid}).plan());
          for (const PndmWarmUp warm_up : {PndmWarmUp::runge_kutta, PndmWarmUp::multistep}) {
            const PndmSampler<S> pndm(schedule, {.steps = steps, .warm_up = warm_up, .grid = grid});
            if (from_noise && pndm.grid().start().alpha == 0)
              CHECK_THROWS_WITH(pndm.plan(), Catch::Matchers::Contains("alpha = 0"));
            else
              check_all_laws(pndm.plan());
          }
        }
  });
}

TEST_CASE("Network calls") {
  for (const int n : {1, 2, 3, 4, 5, 20}) {
    const Grid grid = even_in_s(n);
    CHECK(make_plan(grid, IpndmOptions{}).network_calls() == n);
    CHECK(make_plan(grid, PndmOptions{}, exploding).network_calls() == n + 1);
    const PndmOptions runge_kutta{.warm_up = PndmWarmUp::runge_kutta};
    const auto plan = make_plan(grid, runge_kutta, exploding);
    CHECK(plan.network_calls() == n + 3 * std::min(n, 3));
    CHECK(plan.steps() == n);
  }
  // Clean data is not asked about.
  std::vector<Knot> knots = {{5, 1, 5}, {-1, 1, 0}};
  for (const PndmWarmUp warm_up : {PndmWarmUp::runge_kutta, PndmWarmUp::multistep})
    CHECK(make_plan(Grid::through(knots), PndmOptions{.warm_up = warm_up}, exploding)
              .network_calls() == 1);
}

TEST_CASE("After the warm-up the weights are Adams and Bashforth's") {
  const double expected[] = {55. / 24, -59. / 24, 37. / 24, -9. / 24};
  for (const PndmWarmUp warm_up : {PndmWarmUp::runge_kutta, PndmWarmUp::multistep}) {
    const auto plan = make_plan(even_in_s(12), PndmOptions{.warm_up = warm_up}, exploding);
    const Stage& row = plan[plan.size() - 1];
    const double h = row.to.sigma - row.at.sigma;
    CHECK(row.x == 1);
    CHECK(row.eps / h == Approx(expected[0]).epsilon(1e-12));
    std::vector<double> history;
    for (const Term& term : row.history)
      if (term.source >= 0) history.push_back(term.weight / h);
    REQUIRE(history.size() == 3);
    for (std::size_t k = 0; k < 3; ++k) CHECK(history[k] == Approx(expected[k + 1]).epsilon(1e-12));
    CHECK(make_plan(even_in_s(12), IpndmOptions{})[11].eps == Approx(row.eps).epsilon(1e-12));
  }
}

TEST_CASE("PNDM is the textbooks' methods, with both warm-ups") {
  const Vector x = {0.7, -1.1};
  for (const PndmWarmUp warm_up : {PndmWarmUp::runge_kutta, PndmWarmUp::multistep})
    for (const int n : {1, 2, 3, 4, 5, 11})
      for (const Grid& grid : {even_in_s(n), even_log(n)}) {
        INFO(n << " steps");
        const auto plan = make_plan(grid, PndmOptions{.warm_up = warm_up}, exploding);
        check_same(numbers::run(plan, network, x), written(grid, warm_up, x), 1e-11);
      }
  check_same(numbers::run(make_plan(even_log(6), IpndmOptions{.order = 1}), network, x),
             numbers::run(make_plan(even_log(6), DdimOptions{}), network, x), 1e-13);
}

TEST_CASE("The same run on variance preserving and exploding levels, and with a history of v") {
  std::vector<Knot> preserving, exploded;
  for (const Knot& knot : numbers::even_in_log(7)) {
    const double alpha = 1 / std::hypot(1.0, knot.sigma);
    preserving.push_back({knot.t, alpha, alpha * knot.sigma});
    exploded.push_back(knot);
  }
  const auto between = [](double log_snr) {
    const Knot knot = exploding(log_snr);
    const double alpha = 1 / std::hypot(1.0, knot.sigma);
    return Knot{knot.t, alpha, alpha * knot.sigma};
  };
  // A network of x / alpha, so that both see the same.
  const numbers::Denoiser scaled = [](const Vector& x, const Knot& at) {
    return network({x[0] / at.alpha, x[1] / at.alpha}, at);
  };
  for (const PndmWarmUp warm_up : {PndmWarmUp::runge_kutta, PndmWarmUp::multistep}) {
    const PndmOptions options{.warm_up = warm_up};
    const double alpha = preserving[0].alpha, last = preserving.back().alpha;
    Vector a = numbers::run(make_plan(Grid::through(preserving), options, between), scaled,
                            {0.7 * alpha, -1.1 * alpha});
    const Vector b =
        numbers::run(make_plan(Grid::through(exploded), options, exploding), scaled, {0.7, -1.1});
    check_same({a[0] / last, a[1] / last}, b, 1e-11);
  }
  // With one v only the two histories are the same step: eps = alpha v + sigma x.
  const Grid one = Grid::through(std::vector<Knot>{preserving[0], preserving[1]});
  std::vector<Knot> ends = {preserving[0], {-1, 1, 0}};
  for (const Grid& grid : {Grid::through(ends)}) {
    const Stage by_eps = make_plan(grid, PndmOptions{}, between)[0];
    const Stage by_v = make_plan(grid, PndmOptions{.history = Basis::raw}, between)[0];
    CHECK(by_v.x == Approx(by_eps.x + by_eps.eps * by_v.at.sigma).epsilon(1e-13));
    CHECK(by_v.raw == Approx(by_eps.eps * by_v.at.alpha).epsilon(1e-13));
  }
  // An average of v of different levels is no estimate: its law is off.
  const Stage after =
      make_plan(Grid::through(preserving), PndmOptions{.history = Basis::raw}, between)[5];
  double sum = after.raw;
  for (const Term& term : after.history)
    if (term.source >= 0) sum += term.weight;
  CHECK(sum == Approx(after.at.alpha * after.to.sigma - after.at.sigma * after.to.alpha));
}

TEST_CASE("iPNDM from pure noise: the reference drops the first x0, which breaks the mean") {
  const Grid grid =
      Grid::through(std::vector<Knot>{{1, 0, 1}, {0.6, 0.6, 0.8}, {0.3, 0.8, 0.6}, {0, 1, 0}});
  const auto plan = make_plan(grid, IpndmOptions{});
  check_all_laws(plan);
  CHECK(plan[0].x0 == 0.6);
  CHECK(plan[0].eps == 0.8);
  const auto dropped = make_plan(grid, IpndmOptions{.least_alpha = 1e-8});
  CHECK(dropped[0].x0 == 0);
  CHECK(dropped[0].eps == 0.8);
  CHECK(check_laws(dropped).mean == Approx(0.6));  // all of alpha x0 is missing
  for (int i = 1; i < 3; ++i) CHECK(dropped[i] == plan[i]);

  const Grid later = Grid::through(std::vector<Knot>{{1, 0.1, 1}, {1, 0, 1}, {0.3, 0.8, 0.6}});
  CHECK_THROWS_WITH(make_plan(later, IpndmOptions{}), Catch::Matchers::Contains("alpha = 0"));
}

TEST_CASE("A run that starts in the middle warms up there") {
  const Grid grid = even_in_s(9);
  for (const int k : {1, 2, 5, 8}) {
    std::vector<Knot> rest;
    for (int i = k; i < 9; ++i) rest.push_back(grid[i].from);
    rest.push_back(grid.finish());
    const Grid own = Grid::through(rest);
    check_same_rows(make_plan(grid.cut(k), IpndmOptions{}), make_plan(own, IpndmOptions{}));
    for (const PndmWarmUp warm_up : {PndmWarmUp::runge_kutta, PndmWarmUp::multistep}) {
      const PndmOptions options{.warm_up = warm_up};
      const auto plan = make_plan(grid.cut(k), options, exploding);
      check_same_rows(plan, make_plan(own, options, exploding));
      check_all_laws(plan);
    }
  }
}

TEST_CASE("A run that is copied in the middle and finished is the same, bit for bit") {
  for (const PndmWarmUp warm_up : {PndmWarmUp::runge_kutta, PndmWarmUp::multistep})
    for (const int at : {1, 2, 3, 6, 13}) {
      const auto plan = make_plan(even_in_s(10), PndmOptions{.warm_up = warm_up}, exploding);
      if (at >= plan.size()) continue;
      PhiloxNoise noise{7};
      const Eigen::VectorXd start = 3 * Eigen::VectorXd::LinSpaced(5, -1, 1);
      const auto step = [](auto& run) {
        run.output() = (1.7 * run.input().array()).sin().matrix();
        run.advance();
      };
      Stepper run(plan, start, noise);
      for (int i = 0; i < at; ++i) step(run);
      auto saved = run;
      while (!run.done()) step(run);
      while (!saved.done()) step(saved);
      CHECK(support::same_bits(run.state(), saved.state()));
    }
}

TEST_CASE("Orders on steps that are even in sigma / alpha") {
  const auto order = [](const auto& plan, const numbers::Mixture& data) {
    const double end = numbers::flow(data, 3.7, numbers::s_first, numbers::s_last);
    return numbers::order_of(
        [&](int n) {
          return std::abs(numbers::run(plan(n), numbers::denoiser_of(data), {3.7})[0] - end);
        },
        128, 2048);  // below 128 steps the error changes its sign
  };
  for (const auto& data : {numbers::gaussian(0.5, 0.25), numbers::Mixture{}}) {
    const auto runge_kutta = order(
        [](int n) {
          return make_plan(even_in_s(n), PndmOptions{.warm_up = PndmWarmUp::runge_kutta},
                           exploding);
        },
        data);
    const auto multistep =
        order([](int n) { return make_plan(even_in_s(n), PndmOptions{}, exploding); }, data);
    CHECK(runge_kutta.points >= 3);
    CHECK(runge_kutta.slope >= 3.75);
    CHECK(multistep.slope >= 2.85);
    for (const int k : {1, 2, 3, 4}) {
      const auto plan = [k](int n) { return make_plan(even_in_s(n), IpndmOptions{.order = k}); };
      INFO("iPNDM of order " << k);
      CHECK(numbers::order_of_plan(plan, data).slope >= std::min(k, 2) - 0.2);
      // With exact history; the sign of the error changes along the way for order 4.
      CHECK(numbers::order_of_plan(plan, data, k - 1).slope >= std::min(k, 3) - 0.15);
    }
    // Elsewhere the weights for even steps are of second order, for smooth steps.
    const auto smooth = [](int n) { return make_plan(even_log(n), IpndmOptions{}); };
    const double slope = numbers::order_of_plan(smooth, data).slope;
    CHECK(slope >= 1.7);
    CHECK(slope <= 2.3);
  }
}

TEST_CASE("Errors name the option, its value and the limit") {
  const Grid grid = even_in_s(4);
  CHECK_THROWS_WITH(make_plan(grid, IpndmOptions{.order = 0}),
                    "IpndmOptions::order is 0; it must lie in [1, 4]");
  CHECK_THROWS_WITH(make_plan(grid, IpndmOptions{.order = 5}),
                    "IpndmOptions::order is 5; it must lie in [1, 4]");
  CHECK_THROWS_WITH(make_plan(grid, IpndmOptions{.least_alpha = std::nan("")}),
                    Catch::Matchers::Contains("IpndmOptions::least_alpha is nan"));
  CHECK_THROWS_WITH(make_plan(grid, PndmOptions{.warm_up = static_cast<PndmWarmUp>(2)}, exploding),
                    Catch::Matchers::Contains("PndmOptions::warm_up is 2"));
  CHECK_THROWS_WITH(make_plan(grid, PndmOptions{.history = Basis::x0}, exploding),
                    "PndmOptions::history is x0; it must be eps or raw");
  CHECK_THROWS_WITH(make_plan(grid, PndmOptions{.warm_up = PndmWarmUp::runge_kutta}, KnotAt{}),
                    Catch::Matchers::Contains("KnotAt"));
  const Grid noise = Grid::through(std::vector<Knot>{{1, 0, 1}, {0.5, 0.5, 0.5}, {0, 1, 0}});
  for (const PndmWarmUp warm_up : {PndmWarmUp::runge_kutta, PndmWarmUp::multistep})
    CHECK_THROWS_WITH(make_plan(noise, PndmOptions{.warm_up = warm_up}, exploding),
                      "step 0 of the grid starts at alpha = 0, where PNDM needs sigma / alpha; "
                      "start from a level with some signal");
}
