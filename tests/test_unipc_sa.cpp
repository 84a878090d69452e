// UniPC and SA-Solver: the laws, both papers' methods written out with a corrected state, what
// they are equal to, orders, ends of the schedules, cuts, errors.

#include <diffusion/noise/philox.hpp>
#include <diffusion/plan/laws.hpp>
#include <diffusion/samplers/ddim.hpp>
#include <diffusion/samplers/sa_solver.hpp>
#include <diffusion/samplers/unipc.hpp>
#include <diffusion/sampling/stepper.hpp>
#include <diffusion/schedule/continuous.hpp>
#include <diffusion/schedule/noise_schedule.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "catch.hpp"
#include "plan_numbers.hpp"
#include "support.hpp"

using namespace diffusion;
using Catch::Approx;
using numbers::Vector;

namespace {

const double not_a_number = std::numeric_limits<double>::quiet_NaN();

/// f(name, schedule, starts at alpha = 0).
template <class F>
void for_every_schedule(const F& f) {
  f("linear VP", VpLinear(), false);
  f("exploding", VarianceExploding(), false);
  f("discrete", NoiseSchedule<>::scaled_linear(), false);
  f("cosine VP", VpCosine(), true);
  f("flow", RectifiedFlow(), true);
  f("zero terminal SNR", NoiseSchedule<>::linear({.rescale_zero_terminal_snr = true}), true);
}

void check_all_laws(const SamplingPlan& plan, bool variance = true) {
  double scale = 1;
  for (const Stage& s : plan.stages()) scale = std::max(scale, s.at.sigma * s.at.sigma);
  const Laws laws = check_laws(plan);
  CHECK(laws.mean <= (variance ? 1e-10 : 1e-8));  // noise of up to 1e8 goes in and out
  CHECK(laws.continuity <= 1e-11);
  if (variance) CHECK(laws.variance <= 1e-9 * scale);
}

Grid even_log(int n) { return Grid::through(numbers::even_in_log(n)); }

/// Variance preserving levels, uneven in lambda.
Grid uneven_grid(int n) {
  std::vector<Knot> knots;
  for (int i = 0; i <= n; ++i) {
    const double lambda = -2 + 4.0 * i / n + 0.2 * std::sin(1.3 * i);
    const double alpha = 1 / std::sqrt(1 + std::exp(-2 * lambda));
    knots.push_back({10.0 * (n - i), alpha, alpha * std::exp(-lambda)});
  }
  return Grid::through(knots);
}

Vector network(const Vector& x, const Knot& at) {
  return {std::sin(3 * x[0] + at.t), std::cos(x[1] - at.t) - 0.3 * x[1]};
}

/// The solution of a small linear system by elimination.
Vector solved(std::vector<Vector> rows, Vector b) {
  const std::size_t n = b.size();
  for (std::size_t k = 0; k < n; ++k) {
    std::size_t pivot = k;
    for (std::size_t i = k; i < n; ++i)
      if (std::abs(rows[i][k]) > std::abs(rows[pivot][k])) pivot = i;
    std::swap(rows[k], rows[pivot]);
    std::swap(b[k], b[pivot]);
    for (std::size_t i = k + 1; i < n; ++i) {
      const double factor = rows[i][k] / rows[k][k];
      for (std::size_t j = k; j < n; ++j) rows[i][j] -= factor * rows[k][j];
      b[i] -= factor * b[k];
    }
  }
  for (std::size_t k = n; k-- > 0;) {
    for (std::size_t j = k + 1; j < n; ++j) b[k] -= rows[k][j] * b[j];
    b[k] /= rows[k][k];
  }
  return b;
}

double lambda_of(const Knot& knot) { return std::log(knot.alpha) - std::log(knot.sigma); }

/// UniPC as its paper writes it: the vector rho of sum rho_m D_m B(h), and a corrected state.
class WrittenUniPc {
 public:
  WrittenUniPc(const Grid& grid, const UniPcOptions& options) : grid_(grid), o_(options) {}

  Vector run(Vector x) {
    std::vector<Vector> m;
    Vector start;
    int order = 1;
    for (int i = 0; i < grid_.size(); ++i) {
      Vector now = network(x, grid_[i].from);
      if (o_.form == SolverForm::noise)
        for (std::size_t k = 0; k < x.size(); ++k)
          now[k] = (x[k] - grid_[i].from.alpha * now[k]) / grid_[i].from.sigma;
      const auto& off = o_.disable_corrector;
      if (i > 0 && o_.corrector && std::find(off.begin(), off.end(), i - 1) == off.end())
        x = update(i - 1, start, m, order, &now);
      m.push_back(now);
      start = x;
      order = std::min(o_.order, i + 1);
      if (o_.lower_order_final) order = std::min(order, grid_.size() - i);
      x = update(i, start, m, order, nullptr);
    }
    return x;
  }

 private:
  /// The state after step i; `next`: the estimate at its end, for the corrector.
  Vector update(int i, const Vector& x, const std::vector<Vector>& m, int order,
                const Vector* next) const {
    const Knot &from = grid_[i].from, &to = grid_[i].to;
    const double h = lambda_of(to) - lambda_of(from);
    const double hh = o_.form == SolverForm::data ? -h : h;
    const double b_h = o_.factor == UniPcFactor::bh1 ? hh : std::expm1(hh);
    const auto newest = static_cast<std::size_t>(i);
    Vector r;
    std::vector<Vector> d;  // (m_k - m_0) / r_k
    const auto add = [&](double at, const Vector& value) {
      r.push_back(at);
      d.push_back({(value[0] - m[newest][0]) / at, (value[1] - m[newest][1]) / at});
    };
    for (int k = 1; k < order; ++k)
      add((lambda_of(grid_[i - k].from) - lambda_of(from)) / h, m[newest - std::size_t(k)]);
    if (next) add(1, *next);
    std::vector<Vector> powers(r.size(), Vector(r.size(), 1.0));
    Vector b;
    double phi = std::expm1(hh) / hh - 1, factorial = 1;  // hh phi_2
    for (std::size_t k = 0; k < r.size(); ++k) {
      for (std::size_t j = 0; j < r.size(); ++j) powers[k][j] = std::pow(r[j], double(k));
      b.push_back(phi * factorial / b_h);
      factorial *= static_cast<double>(k) + 2;
      phi = phi / hh - 1 / factorial;
    }
    const Vector rho = r.size() == 1 ? Vector{0.5} : solved(powers, b);
    const bool data = o_.form == SolverForm::data;
    const double carry = data ? to.sigma / from.sigma : to.alpha / from.alpha;
    const double scale = data ? to.alpha : to.sigma;
    Vector result(2);
    for (std::size_t e = 0; e < 2; ++e) {
      double sum = 0;
      for (std::size_t k = 0; k < r.size(); ++k) sum += rho[k] * d[k][e];
      result[e] = carry * x[e] - scale * std::expm1(hh) * m[newest][e] - scale * b_h * sum;
    }
    return result;
  }

  const Grid& grid_;
  UniPcOptions o_;
};

/// SA-Solver as its paper writes it: integrals of Lagrange's polynomials, here by Simpson's rule.
class WrittenSaSolver {
 public:
  WrittenSaSolver(const Grid& grid, const SaSolverOptions& options) : grid_(grid), o_(options) {}

  Vector run(Vector x, const std::vector<Vector>& draws) {
    std::vector<Vector> m;
    Vector start;
    int corrector = 0;
    for (int i = 0; i < grid_.size(); ++i) {
      Vector now = network(x, grid_[i].from);
      if (o_.form == SolverForm::noise)
        for (std::size_t k = 0; k < x.size(); ++k)
          now[k] = (x[k] - grid_[i].from.alpha * now[k]) / grid_[i].from.sigma;
      m.push_back(now);
      if (i > 0 && corrector > 0)
        x = update(i - 1, start, m, i, corrector, draws[std::size_t(i) - 1]);
      start = x;
      const int left = grid_.size() - i;
      const int predictor = std::min({o_.predictor, i + 1, left});
      corrector = std::min({o_.corrector, i + 2, left + 1});
      x = update(i, start, m, i, predictor, draws[std::size_t(i)]);
    }
    return x;
  }

 private:
  /// Step i by `count` estimates, that of knot `newest` and before.
  Vector update(int i, const Vector& x, const std::vector<Vector>& m, int newest, int count,
                const Vector& noise) const {
    const Knot &from = grid_[i].from, &to = grid_[i].to;
    const double tau = o_.tau(from), k = 1 + tau * tau;
    const double a = lambda_of(from), b = lambda_of(to);
    const bool data = o_.form == SolverForm::data;
    Vector result(2);
    const double carry =
        data ? to.sigma / from.sigma * std::exp(-tau * tau * (b - a)) : to.alpha / from.alpha;
    const double added = data ? to.sigma * std::sqrt(1 - std::exp(-2 * tau * tau * (b - a)))
                              : tau * to.sigma * std::sqrt(std::exp(2 * (b - a)) - 1);
    for (std::size_t e = 0; e < 2; ++e) result[e] = carry * x[e] + added * noise[e];
    for (int j = 0; j < count; ++j) {
      double integral = 0;
      const int pieces = 200;
      for (int p = 0; p <= pieces; ++p) {
        const double lambda = a + (b - a) * p / pieces;
        double lagrange = 1;
        for (int l = 0; l < count; ++l)
          if (l != j)
            lagrange *= (lambda - level(newest - l)) / (level(newest - j) - level(newest - l));
        const double weight = p == 0 || p == pieces ? 1 : p % 2 == 1 ? 4 : 2;
        integral += weight * lagrange * std::exp(data ? k * lambda : -lambda);
      }
      integral *= (b - a) / pieces / 3;
      const double factor =
          data ? k * to.sigma * std::exp(-tau * tau * b) * integral : -k * to.alpha * integral;
      for (std::size_t e = 0; e < 2; ++e)
        result[e] += factor * m[static_cast<std::size_t>(newest - j)][e];
    }
    return result;
  }
  double level(int i) const { return lambda_of(grid_[i].from); }

  const Grid& grid_;
  SaSolverOptions o_;
};

void check_same(const Vector& a, const Vector& b, double tolerance) {
  for (std::size_t k = 0; k < a.size(); ++k)
    CHECK(a[k] == Approx(b[k]).epsilon(tolerance).margin(tolerance));
}

/// The same rows, whatever their steps' numbers and the draws that nobody reads.
void check_same_rows(const SamplingPlan& a, const SamplingPlan& b, double tolerance = 0) {
  REQUIRE(a.size() == b.size());
  for (int i = 0; i < a.size(); ++i) {
    const Stage &s = a[i], &t = b[i];
    CHECK(s.ask == t.ask);
    CHECK(s.at == t.at);
    CHECK(s.to == t.to);
    CHECK(s.keep == t.keep);
    const auto same = [&](double u, double v) { CHECK(std::abs(u - v) <= tolerance); };
    same(s.x, t.x);
    same(s.x0, t.x0);
    same(s.eps, t.eps);
    for (std::size_t k = 0; k < s.history.size(); ++k) {
      CHECK(s.history[k].source == t.history[k].source);
      same(s.history[k].weight, t.history[k].weight);
    }
  }
}

}  // namespace

TEST_CASE("UniPC keeps the laws on every schedule, for 1 to 5 and 20 steps, to either end") {
  for_every_schedule([](const std::string& name, const auto& schedule, bool from_noise) {
    using S = std::remove_cvref_t<decltype(schedule)>;
    for (const int steps : {1, 2, 3, 4, 5, 20})
      for (const bool to_one : {true, false})
        for (const SolverForm form : {SolverForm::data, SolverForm::noise})
          for (const int order : {1, 2, 3, 4}) {
            UniPcOptions options{.steps = steps, .order = order, .form = form};
            options.grid = {.spacing = TimestepSpacing::trailing, .set_alpha_to_one = to_one};
            options.lower_order_final = steps % 2 == 0;
            options.factor = order % 2 == 0 ? UniPcFactor::bh1 : UniPcFactor::bh2;
            options.corrector = steps != 3;
            INFO(name << ", " << steps << " steps, order " << order << ", to_one " << to_one);
            if (from_noise && form == SolverForm::noise)
              CHECK_THROWS_WITH(UniPcSampler<S>(schedule, options).plan(),
                                Catch::Matchers::Contains("alpha = 0"));
            else
              check_all_laws(UniPcSampler<S>(schedule, options).plan());
          }
  });
}

TEST_CASE("SA-Solver keeps the laws; the noise form's variance grows by its known ratio") {
  for_every_schedule([](const std::string& name, const auto& schedule, bool from_noise) {
    using S = std::remove_cvref_t<decltype(schedule)>;
    for (const int steps : {1, 2, 3, 4, 5, 20})
      for (const double tau : {0.0, 0.4, 1.0})
        for (const int order : {1, 2, 3, 4}) {
          SaSolverOptions options{.steps = steps, .predictor = order, .corrector = 5 - order};
          options.grid.spacing = TimestepSpacing::trailing;
          options.tau = constant_tau(tau);
          options.halved_line = order == 2;
          INFO(name << ", " << steps << " steps, order " << order << ", tau " << tau);
          check_all_laws(SaSolverSampler<S>(schedule, options).plan());
          options.form = SolverForm::noise;
          if (!from_noise) check_all_laws(SaSolverSampler<S>(schedule, options).plan(), tau == 0);
        }
  });

  for (const double tau : {0.3, 1.0, 2.0}) {
    const Grid step = Grid::through(std::vector<Knot>{{5, 1, 5}, {4, 1, 4}});
    SaSolverOptions options{.form = SolverForm::noise, .tau = constant_tau(tau)};
    const double grown = check_laws(make_plan(step, options)).variance / 16;
    const double expected = (tau * tau + std::pow(tau, 4)) * std::pow(5.0 / 4 - 1, 2);
    CHECK(grown == Approx(expected).epsilon(1e-12));
  }
}

TEST_CASE("UniPC is the paper's method with a corrected state") {
  for (const int n : {1, 2, 3, 4, 5, 9}) {
    const Grid grid = uneven_grid(n);
    for (const SolverForm form : {SolverForm::data, SolverForm::noise})
      for (const UniPcFactor factor : {UniPcFactor::bh1, UniPcFactor::bh2})
        for (const int order : {1, 2, 3, 4})
          for (const bool lower : {true, false})
            for (const std::vector<int>& off : {std::vector<int>{}, std::vector<int>{0, 3}}) {
              UniPcOptions options{.order = order, .form = form, .factor = factor};
              options.lower_order_final = lower;
              options.disable_corrector = off;
              INFO(n << " steps, order " << order);
              const Vector x = {0.7, -1.1};
              check_same(numbers::run(make_plan(grid, options), network, x),
                         WrittenUniPc(grid, options).run(x), 1e-9);
            }
  }
}

TEST_CASE("SA-Solver is the paper's method with a corrected state and its noise") {
  const std::vector<Vector> draws(9, {0.3, -0.8});
  for (const int n : {1, 2, 3, 4, 5, 9}) {
    const Grid grid = uneven_grid(n);
    for (const SolverForm form : {SolverForm::data, SolverForm::noise})
      for (const double tau : {0.0, 0.5, 1.0})
        for (const int predictor : {1, 2, 3, 4})
          for (const int corrector : {0, 1, 2, 3, 4}) {
            SaSolverOptions options{.predictor = predictor, .corrector = corrector, .form = form};
            options.tau = tau_between_times(tau, 15, 65);
            options.draws_unused = true;
            INFO(n << " steps, predictor " << predictor << ", corrector " << corrector);
            const Vector x = {0.7, -1.1};
            check_same(numbers::run(make_plan(grid, options), network, x, draws),
                       WrittenSaSolver(grid, options).run(x, draws), 1e-7);  // Simpson's error
          }
  }
}

TEST_CASE("Equal methods: UniP-1 is DDIM; SA-Solver without noise is UniPC with B1") {
  const Grid grid = uneven_grid(8);
  const Vector x = {0.7, -1.1};
  const Vector ddim = numbers::run(make_plan(grid, DdimOptions{}), network, x);
  for (const SolverForm form : {SolverForm::data, SolverForm::noise}) {
    check_same(
        numbers::run(make_plan(grid, UniPcOptions{.order = 1, .form = form, .corrector = false}),
                     network, x),
        ddim, 1e-13);
    check_same(numbers::run(make_plan(grid, SaSolverOptions{.predictor = 1,
                                                            .corrector = 0,
                                                            .form = form,
                                                            .tau = constant_tau(0)}),
                            network, x),
               ddim, 1e-13);
  }
  for (const int order : {1, 2, 3}) {
    const UniPcOptions unipc{.order = order, .factor = UniPcFactor::bh1};
    SaSolverOptions sa{.predictor = order, .corrector = order + 1, .tau = constant_tau(0)};
    sa.halved_line = true;
    CHECK(make_plan(grid, unipc) == make_plan(grid, sa));
  }
  // B(h) matters in steps with two estimates only.
  UniPcOptions bh1{.order = 3, .factor = UniPcFactor::bh1}, bh2{.order = 3};
  const auto one = make_plan(grid, bh1), two = make_plan(grid, bh2);
  CHECK(one[1] != two[1]);
  CHECK(one[4] == two[4]);
}

TEST_CASE("Ends: sigma 0 with every factor and form, and steps that go nowhere") {
  std::vector<Knot> knots = numbers::even_in_log(5);
  knots.push_back({-1, 1, 0});
  for (const UniPcFactor factor : {UniPcFactor::bh1, UniPcFactor::bh2})
    for (const SolverForm form : {SolverForm::data, SolverForm::noise})
      for (const bool lower : {true, false}) {
        UniPcOptions options{.order = 3, .form = form, .factor = factor};
        options.lower_order_final = lower;
        const auto plan = make_plan(Grid::through(knots), options);
        check_all_laws(plan);
        if (form == SolverForm::data) {  // x0 of the corrected state, which x does not enter
          CHECK(plan[5].x == 0);
          CHECK(plan[5].x0 == 1);
          for (const Term& term : plan[5].history) CHECK(term.source == -1);
        }
      }

  // A repeated level costs nothing and changes nothing, in the middle or at the end.
  const Grid once = even_log(6);
  for (const std::size_t at : {std::size_t{3}, std::size_t{6}}) {
    std::vector<Knot> repeated = numbers::even_in_log(6);
    repeated.insert(repeated.begin() + static_cast<std::ptrdiff_t>(at), repeated[at]);
    UniPcOptions options{.order = 3};
    options.lower_order_final = false;
    const auto twice = make_plan(Grid::through(repeated), options);
    CHECK(twice.size() == 7);
    CHECK(twice.network_calls() == 6);
    const Vector x = {0.7, -1.1};
    check_same(numbers::run(twice, network, x), numbers::run(make_plan(once, options), network, x),
               1e-14);
    SaSolverOptions sa{.predictor = 3, .corrector = 3, .tau = constant_tau(0)};
    sa.lower_order_final = false;
    check_same(numbers::run(make_plan(Grid::through(repeated), sa), network, x),
               numbers::run(make_plan(once, sa), network, x), 1e-14);
  }
  std::vector<Knot> stays = numbers::even_in_log(4);
  stays.push_back(stays.back());
  const auto corrected = make_plan(Grid::through(stays), UniPcOptions{.asks_at_zero_step = true});
  CHECK(corrected.network_calls() == 5);
  CHECK(corrected[4].x == 1);
  check_all_laws(corrected);
}

TEST_CASE("A run that starts in the middle ramps its order anew") {
  const Grid grid = uneven_grid(9);
  for (const int k : {1, 2, 4, 8}) {
    std::vector<Knot> rest;
    for (int i = k; i < 9; ++i) rest.push_back(grid[i].from);
    rest.push_back(grid.finish());
    check_same_rows(make_plan(grid.cut(k), UniPcOptions{.order = 3}),
                    make_plan(Grid::through(rest), UniPcOptions{.order = 3}));
    check_same_rows(
        make_plan(grid.cut(k), SaSolverOptions{.predictor = 3, .corrector = 3}),
        make_plan(Grid::through(rest), SaSolverOptions{.predictor = 3, .corrector = 3}));
  }
  // Steps whose correction is off are those of the whole run.
  UniPcOptions off{.order = 2};
  off.disable_corrector = {5};
  const auto plan = make_plan(grid.cut(4), off),
             all = make_plan(grid.cut(4), UniPcOptions{.order = 2});
  CHECK(plan[1].x0 == all[1].x0);
  CHECK(plan[2].x0 != all[2].x0);
}

TEST_CASE("A run that is copied in the middle and finished is the same, bit for bit") {
  const Grid grid = uneven_grid(8);
  for (const SamplingPlan& plan :
       {make_plan(grid, UniPcOptions{.order = 4}),
        make_plan(grid, SaSolverOptions{.predictor = 3, .corrector = 3})}) {
    PhiloxNoise noise{7};
    const Eigen::VectorXd start = Eigen::VectorXd::LinSpaced(5, -1, 1);
    const auto step = [](auto& run) {
      if (run.asks()) run.output() = (1.7 * run.input().array()).sin().matrix();
      run.advance();
    };
    Stepper run(plan, start, noise);
    for (int i = 0; i < 4; ++i) step(run);
    auto saved = run;
    while (!run.done()) step(run);
    while (!saved.done()) step(saved);
    CHECK(support::same_bits(run.state(), saved.state()));
  }
}

// From 64 steps on: below, parts of the error cancel, and its sign changes.
TEST_CASE("Orders, with exact history and from their own start") {
  const auto on = [](const char* what, const auto& plan, int warm, double gaussian,
                     double mixture) {
    for (const bool mixed : {false, true}) {
      const auto data = mixed ? numbers::Mixture{} : numbers::gaussian(0.5, 0.25);
      const auto order = numbers::order_of_plan(plan, data, warm, 64);
      INFO(what << ", " << (mixed ? "mixture" : "Gaussian") << ", slope " << order.slope << " of "
                << order.points << " points");
      CHECK(order.points >= 3);
      CHECK(order.slope >= (mixed ? mixture : gaussian));
    }
  };
  for (const int order : {1, 2, 3}) {
    INFO("order " << order);
    for (const bool corrector : {false, true}) {
      const int k = order + (corrector ? 1 : 0);
      const auto plan = [=](int warm) {
        return [=](int n) {
          UniPcOptions options{.order = order, .corrector = corrector};
          options.lower_order_final = false;
          for (int i = 0; i < warm; ++i) options.disable_corrector.push_back(i);
          return make_plan(even_log(n), options);
        };
      };
      on("exact history", plan(k - 1), k - 1, k - 0.15, k - 0.15);
      on("own start", plan(0), 0, std::min(k, 2) - 0.15, std::min(k, 2) - 0.15);
    }
    const auto sa = [=](int n) {
      SaSolverOptions options{.predictor = order, .corrector = order + 1};
      options.tau = constant_tau(0);
      options.lower_order_final = false;
      return make_plan(even_log(n), options);
    };
    on("SA-Solver, own start", sa, 0, std::min(order + 1, 2) - 0.15, std::min(order + 1, 2) - 0.15);
  }
}

TEST_CASE("With noise, mean and variance of Gaussian data come out in the limit") {
  const double mean = 0.5, variance = 0.25;
  for (const SolverForm form : {SolverForm::data, SolverForm::noise})
    for (const int corrector : {0, 2, 3}) {
      double before = 1;
      for (const int n : {16, 64, 256}) {
        const auto law = numbers::moments(
            make_plan(even_log(n), SaSolverOptions{.corrector = corrector, .form = form}), mean,
            variance);
        const double error =
            std::abs(law.mean - mean) + std::abs(law.variance - (variance + 0.05 * 0.05));
        INFO(n << " steps, corrector " << corrector << ", error " << error << " after " << before);
        CHECK(error < before / 2);
        before = error;
      }
      CHECK(before < 0.01);
    }
}

TEST_CASE("Tau is a function of the level") {
  const Knot at{500, 0.6, 0.8};
  CHECK(constant_tau(0.3)(at) == 0.3);
  CHECK(tau_between_times(0.3, 200, 800)(at) == 0.3);
  CHECK(tau_between_times(0.3, 501, 800)(at) == 0);
  CHECK(tau_between_levels(0.3, 1, 2)(at) == 0.3);
  CHECK(tau_between_levels(0.3, 2, 3)(at) == 0);
  CHECK(make_plan(even_log(5), SaSolverOptions{.tau = constant_tau(0)}).draws() == 0);
  CHECK(make_plan(even_log(5), SaSolverOptions{}).draws() == 5);
}

TEST_CASE("Errors name the option, its value and the limit") {
  const Grid grid = even_log(4);
  const auto unipc = [&](int order) { return make_plan(grid, UniPcOptions{.order = order}); };
  CHECK_THROWS_WITH(unipc(0), "UniPcOptions::order is 0; it must lie in [1, 4]");
  CHECK_THROWS_WITH(unipc(5), "UniPcOptions::order is 5; it must lie in [1, 4]");
  CHECK_THROWS_WITH(make_plan(grid, SaSolverOptions{.predictor = 5}),
                    "SaSolverOptions::predictor is 5; it must lie in [1, 4]");
  CHECK_THROWS_WITH(make_plan(grid, SaSolverOptions{.corrector = -1}),
                    "SaSolverOptions::corrector is -1; it must lie in [0, 4]");
  for (const double tau : {not_a_number, -0.5, 1e300})
    CHECK_THROWS_WITH(make_plan(grid, SaSolverOptions{.tau = constant_tau(tau)}),
                      Catch::Matchers::Contains("tau is "));
  CHECK_THROWS_WITH(make_plan(grid, UniPcOptions{.form = static_cast<SolverForm>(7)}),
                    Catch::Matchers::Contains("form is 7"));
  CHECK_THROWS_WITH(make_plan(grid, UniPcOptions{.factor = static_cast<UniPcFactor>(-1)}),
                    Catch::Matchers::Contains("UniPcOptions::factor is -1"));
  CHECK_THROWS_AS(make_plan(grid.reversed(), SaSolverOptions{}), Error);
}
