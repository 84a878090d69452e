// Levels picked by sigma / alpha: closed forms, published and recorded numbers, every rule on every
// schedule, and every refusal.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <functional>
#include <limits>
#include <numbers>
#include <string>
#include <vector>

#include "catch.hpp"
#include "diffusion/plan/laws.hpp"
#include "diffusion/samplers/ddim.hpp"
#include "diffusion/schedule/beta_quantile.hpp"
#include "diffusion/schedule/continuous.hpp"
#include "diffusion/schedule/grid.hpp"
#include "diffusion/schedule/noise_schedule.hpp"
#include "diffusion/schedule/sigma_spacing.hpp"
#include "refusals.hpp"

using namespace diffusion;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();
using Levels = std::vector<double>;

constexpr SigmaRule rules[] = {
    SigmaRule::karras,      SigmaRule::exponential, SigmaRule::polyexponential,
    SigmaRule::beta,        SigmaRule::kl_optimal,  SigmaRule::align_your_steps,
    SigmaRule::sgm_uniform, SigmaRule::simple,      SigmaRule::beta_times};

std::string name_of(SigmaRule rule) { return sigma_rule_names[static_cast<std::size_t>(rule)]; }

bool is_level_rule(SigmaRule rule) { return rule < SigmaRule::align_your_steps; }

/// Stable Diffusion's schedule: s from 0.0292 to 14.6.
NoiseSchedule<> stable_diffusion() {
  return NoiseSchedule<>::scaled_linear({.beta_start = 0.00085, .beta_end = 0.012});
}

double ratio(const Knot& knot) { return knot.alpha == 0 ? infinity : knot.sigma / knot.alpha; }

Levels ratios_of(const Grid& grid) {
  Levels levels;
  for (const GridStep& step : grid) levels.push_back(ratio(step.from));
  levels.push_back(ratio(grid.finish()));
  return levels;
}

Levels times_of(const Grid& grid) {
  Levels times;
  for (const GridStep& step : grid) times.push_back(step.from.t);
  return times;
}

bool falls(const Levels& levels) {
  for (std::size_t i = 1; i < levels.size(); ++i)
    if (!(levels[i] < levels[i - 1])) return false;
  return true;
}

/// Relative to each expected value, or absolute where that is 0.
void check_close(const Levels& levels, const Levels& expected, double tolerance) {
  REQUIRE(levels.size() == expected.size());
  for (std::size_t i = 0; i < levels.size(); ++i) {
    CAPTURE(i, levels[i], expected[i]);
    const double unit = expected[i] == 0 ? 1 : std::abs(expected[i]);
    CHECK(std::abs(levels[i] - expected[i]) <= tolerance * unit);
  }
}

}  // namespace

// ------------------------------------------------------------------------------------------------
// The Beta law

TEST_CASE("quantiles of Beta laws with closed forms") {
  for (const double q : {1e-8, 0.001, 0.1, 0.3, 0.5, 0.77, 0.99, 0.999999}) {
    CAPTURE(q);
    CHECK(beta_quantile(q, 1, 1) == Approx(q).epsilon(1e-13));
    const double sine = std::sin(std::numbers::pi / 2 * q);
    CHECK(beta_quantile(q, 0.5, 0.5) == Approx(sine * sine).epsilon(1e-13));
    for (const double a : {0.3, 0.6, 2.5, 40.0}) {
      CHECK(beta_quantile(q, a, 1) == Approx(std::pow(q, 1 / a)).epsilon(1e-12));
      CHECK(beta_quantile(q, 1, a) == Approx(-std::expm1(std::log1p(-q) / a)).epsilon(1e-12));
    }
    const double x = beta_quantile(q, 2, 2);
    CHECK(x * x * (3 - 2 * x) == Approx(q).epsilon(1e-12));
  }
  CHECK(beta_quantile(0, 0.6, 0.6) == 0);
  CHECK(beta_quantile(1, 0.6, 0.6) == 1);
  CHECK(beta_quantile(1e-300, 0.6, 0.6) == 0);  // its logarithm is -1151
}

TEST_CASE("quantiles of Beta laws, worked out with 40 digits") {
  struct Case {
    double a, b;
    Levels quantiles;  // at 0.0001, 0.05, 0.25, 0.4, 0.75, 0.9
  };
  const Case cases[] = {
      {0.6,
       0.6,
       {3.9983771581377217e-7, 0.012554456873611407, 0.175680378652695015, 0.362700990753214348,
        0.824319621347304986, 0.960415594411219166}},
      {0.6,
       3.0,
       {6.3566428269897179e-8, 0.0020072475352666362, 0.0304090125816111479, 0.0699530588932833046,
        0.251087823591142779, 0.425171083275389736}},
      {2.0,
       5.0,
       {0.0025909288174617772, 0.0628498917083543819, 0.161162916790326523, 0.222583533615423862,
        0.389479485200724429, 0.510316306551491669}},
      {20.0,
       3.5,
       {0.493533672372620722, 0.717576696874721851, 0.808089391700537658, 0.842238175573723506,
        0.904595279059609177, 0.935426643122457329}},
  };
  const Levels shares = {0.0001, 0.05, 0.25, 0.4, 0.75, 0.9};
  for (const Case& c : cases) {
    Levels quantiles;
    for (const double q : shares) quantiles.push_back(beta_quantile(q, c.a, c.b));
    CAPTURE(c.a, c.b);
    check_close(quantiles, c.quantiles, 1e-13);
  }
}

TEST_CASE("Beta laws: inverse, mirror image, rising") {
  for (const double a : {0.1, 0.6, 1.0, 7.0, 50.0})
    for (const double b : {0.1, 0.6, 1.0, 7.0, 50.0}) {
      double before = 0;
      for (int i = 1; i < 40; ++i) {
        const double q = i / 40.0, x = beta_quantile(q, a, b);
        CAPTURE(a, b, q, x);
        CHECK(x >= before);
        // Near 1, x itself has only so many digits of 1 - x.
        if (x < 1 - 1e-4) CHECK(beta_distribution(x, a, b) == Approx(q).epsilon(1e-11));
        const double share = i / 64.0;  // so that 1 - share is exact
        CHECK(std::abs(beta_distribution(share, a, b) + beta_distribution(1 - share, b, a) - 1) <=
              1e-13);
        before = x;
      }
    }
}

// ------------------------------------------------------------------------------------------------
// Levels

TEST_CASE("rules of levels in closed form") {
  const double low = 0.01, high = 100;
  const Levels decades = {100, 10, 1, 0.1, 0.01};
  check_close(exponential_sigmas(5, low, high), decades, 1e-14);
  check_close(polyexponential_sigmas(5, low, high), decades, 1e-14);
  // (1 - i/4)^2 of the four decades
  check_close(polyexponential_sigmas(5, low, high, 2),
              {100, std::pow(10, 0.25), 0.1, std::pow(10, -1.75), 0.01}, 1e-14);
  check_close(karras_sigmas(5, low, high, 2), {100, 56.625625, 25.5025, 6.630625, 0.01}, 1e-14);
  for (const double rho : {0.5, 1.0, 2.0, 7.0, 30.0}) {
    const Levels sigmas = karras_sigmas(9, low, high, rho);
    for (std::size_t i = 0; i < 9; ++i) {
      const double u = static_cast<double>(i) / 8;
      const double root = (1 - u) * std::pow(high, 1 / rho) + u * std::pow(low, 1 / rho);
      CHECK(sigmas[i] == Approx(std::pow(root, rho)).epsilon(1e-13));
    }
  }
  check_close(karras_sigmas(5, 1, 9, 1), {9, 7, 5, 3, 1}, 1e-14);
  // arctan of these is pi/3, pi/4, pi/6
  const double root = std::sqrt(3.0);
  check_close(kl_optimal_sigmas(3, 1 / root, root), {root, 1, 1 / root}, 1e-14);
  check_close(kl_optimal_sigmas(3, 2 / root, 2 * root, 2), {2 * root, 2, 2 / root}, 1e-14);
  // the arcsine law
  check_close(beta_sigmas(4, 1, 5, 0.5, 0.5), {5, 4, 2, 1}, 1e-14);
  check_close(beta_sigmas(5, 1, 9, 1, 1), {9, 7, 5, 3, 1}, 1e-14);
}

TEST_CASE("published levels") {
  // EDM, 18 steps from 80 to 0.002.
  const Levels edm = {80,      57.58598, 40.78557, 28.37458, 19.35245, 12.91008,
                      8.40094, 5.31519,  3.25682,  1.92334,  1.08817,  0.58535,
                      0.29644, 0.13952,  0.05995,  0.02293,  0.00753,  0.002};
  const Levels edm_now = karras_sigmas(18, 0.002, 80);
  REQUIRE(edm_now.size() == edm.size());
  for (std::size_t i = 0; i < edm.size(); ++i) CHECK(std::abs(edm_now[i] - edm[i]) < 6e-6);

  // Stable Diffusion, Karras, 15 levels: as k-diffusion prints them, in single precision.
  const Grid grid = make_grid(stable_diffusion(), 15, {.sigmas = {.rule = SigmaRule::karras}});
  check_close(ratios_of(grid),
              {14.6146, 10.8198, 7.9029, 5.6878, 4.0277, 2.8016, 1.9104, 1.2741, 0.82887, 0.52426,
               0.32112, 0.18956, 0.10720, 0.057632, 0.029168, 0},
              3e-5);
  const Levels printed = {999,      947.6224, 889.5464, 823.0464, 745.8676,
                          655.3113, 549.0170, 427.4898, 298.6582, 179.8307,
                          89.9427,  36.5918,  12.0011,  2.8839,   0};
  const Levels times = times_of(grid);
  REQUIRE(times.size() == printed.size());
  for (std::size_t i = 0; i < times.size(); ++i) CHECK(std::abs(times[i] - printed[i]) < 2e-3);
}

TEST_CASE("levels and times as the reference has them in double precision") {
  const auto check = [](int steps, SigmaSpacing spacing, const Levels& sigmas,
                        const Levels& times) {
    const Grid grid = make_grid(stable_diffusion(), steps, {.sigmas = spacing});
    CAPTURE(name_of(spacing.rule));
    check_close(ratios_of(grid), sigmas, 1e-12);
    check_close(times_of(grid), times, 1e-9);
  };
  check(6, {.rule = SigmaRule::karras},
        {14.614641229333636, 6.082149208471235, 2.232154544358536, 0.6925703768065329,
         0.16975657575723405, 0.02916715815172038, 0},
        {999, 837.1204031934532, 593.5014532378677, 248.75525750474853, 29.80574563342011, 0});
  check(
      6, {.rule = SigmaRule::karras, .sigma_min = 0.05, .sigma_max = 10},
      {10, 4.557873112292888, 1.8807064781277496, 0.6825411358569369, 0.2085585390631862, 0.05, 0},
      {933.5067739489957, 774.4648741348665, 544.4598102540591, 244.8686047152774,
       43.50854964923454, 1.933854355560301});
  check(8, {.rule = SigmaRule::exponential},
        {14.614641229333636, 6.012969619807388, 2.4739439772326968, 1.0178662440476438,
         0.4187854293816967, 0.1723028314260542, 0.07089135302836969, 0.029167158151720367, 0},
        {999, 834.7381765286234, 621.9594677819149, 359.21299050381197, 133.40532323616964,
         30.652228334281006, 4.830237615827017, 0});
  check(10, {.rule = SigmaRule::beta},
        {14.614641229333635, 13.927784745507248, 12.49098020224188, 10.597607817837723,
         8.442436693675619, 6.201371693809737, 4.046200569647633, 2.152828185243476,
         0.7160236419781086, 0.029167158151720367, 0},
        {999, 991.02315085218, 972.6390824965425, 943.9331944324737, 902.1652242884489,
         841.1445021556934, 746.9447046779446, 583.3075346738281, 257.7292407572944, 0});
}

TEST_CASE("n levels fall from sigma_max to sigma_min, n = 1 included") {
  const double ends[][2] = {{0.0292, 14.6}, {0.002, 80}, {1e-4, 1e4}, {0.5, 0.5001}};
  for (const auto& [low, high] : ends)
    for (const int n : {1, 2, 3, 4, 5, 20, 1000}) {
      const std::vector<Levels> all = {karras_sigmas(n, low, high),
                                       karras_sigmas(n, low, high, 0.5),
                                       exponential_sigmas(n, low, high),
                                       polyexponential_sigmas(n, low, high, 0.7),
                                       kl_optimal_sigmas(n, low, high),
                                       kl_optimal_sigmas(n, low, high, 0.3),
                                       beta_sigmas(n, low, high),
                                       beta_sigmas(n, low, high, 2, 0.4),
                                       polyexponential_sigmas(n, low, high, 1.8)};
      for (std::size_t i = 0; i < all.size(); ++i) {
        CAPTURE(i, n, low, high);
        REQUIRE(all[i].size() == static_cast<std::size_t>(n));
        CHECK(all[i].front() == high);
        if (n > 1) CHECK(all[i].back() == low);
        CHECK(falls(all[i]));
      }
    }
}

TEST_CASE("Align Your Steps: the tables, and between their entries") {
  using enum AlignYourSteps;
  CHECK(align_your_steps_sigmas(stable_diffusion_1, 11) ==
        Levels{14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029});
  CHECK(align_your_steps_sigmas(stable_video_diffusion, 11)[1] == 54.5);
  CHECK(align_your_steps_sigmas(deepfloyd_stage_1, 11)[9] == 0.030);
  for (const auto network :
       {stable_diffusion_1, stable_diffusion_xl, stable_video_diffusion, deepfloyd_stage_1}) {
    const Levels table = align_your_steps_sigmas(network, 11);
    const Levels twice = align_your_steps_sigmas(network, 21);
    for (std::size_t i = 0; i < 10; ++i) {
      CHECK(twice[2 * i] == table[i]);
      CHECK(twice[2 * i + 1] == Approx(std::sqrt(table[i] * table[i + 1])).epsilon(1e-14));
    }
    CHECK(align_your_steps_sigmas(network, 1) == Levels{table.front()});
    CHECK(align_your_steps_sigmas(network, 2) == Levels{table.front(), table.back()});
    for (const int n : {3, 4, 5, 20, 1000}) {
      const Levels levels = align_your_steps_sigmas(network, n);
      CHECK(levels.size() == static_cast<std::size_t>(n));
      CHECK(falls(levels));
      CHECK(levels.front() == table.front());
      CHECK(levels.back() == table.back());
    }
  }
  // The timesteps that were published beside the levels are those levels.
  const auto schedule = stable_diffusion();
  for (const auto network : {stable_diffusion_1, stable_diffusion_xl}) {
    const Levels times = align_your_steps_timesteps(network);
    const Levels levels = align_your_steps_sigmas(network, 11);
    for (std::size_t i = 0; i < 10; ++i)
      CHECK(ratio(schedule.knot(times[i])) == Approx(levels[i]).epsilon(0.015));
  }
  // 10 steps end at clean data in place of the table's last level.
  const Grid grid = make_grid(schedule, 10, {.sigmas = {.rule = SigmaRule::align_your_steps}});
  CHECK(grid.size() == 10);
  CHECK(grid.start() == schedule.knot(999));  // 14.615 is 14.61464 rounded
  CHECK(ratio(grid[9].from) == Approx(0.152).epsilon(1e-14));
  CHECK(grid.finish() == Knot{-1, 1, 0});
  const Grid held = make_grid(
      schedule, 10, {.set_alpha_to_one = false, .sigmas = {.rule = SigmaRule::align_your_steps}});
  CHECK(held.size() == 10);
  CHECK(held.finish() == schedule.knot(0));
}

TEST_CASE("times of sgm_uniform, simple and beta_times") {
  CHECK(sgm_uniform_times(4, 0, 1) == Levels{1, 0.75, 0.5, 0.25});
  CHECK(sgm_uniform_times(1, 0, 999) == Levels{999});
  CHECK(simple_timesteps(1000, 4) == Levels{999, 749, 499, 249});
  CHECK(simple_timesteps(1000, 3) == Levels{999, 666, 333});
  CHECK(simple_timesteps(1000, 1) == Levels{999});
  CHECK(simple_timesteps(3, 3) == Levels{2, 1, 0});
  CHECK(beta_times(1, 0, 999) == Levels{999});
  check_close(beta_times(4, 0, 1, 1, 1), {1, 0.75, 0.5, 0.25}, 1e-14);
  check_close(beta_times(3, 0, 4, 0.5, 0.5), {4, 3, 1}, 1e-14);
  for (const int n : {1, 2, 3, 4, 5, 20, 1000}) {
    CHECK(falls(sgm_uniform_times(n, 0, 999)));
    CHECK(falls(simple_timesteps(1000, n)));
    CHECK(falls(beta_times(n, 0, 999)));
    CHECK(beta_times(n, 0, 999).size() == static_cast<std::size_t>(n));
  }
  const auto schedule = stable_diffusion();
  const auto times = [&](SigmaSpacing spacing) {
    return times_of(make_grid(schedule, 4, {.sigmas = spacing}));
  };
  CHECK(times({.rule = SigmaRule::sgm_uniform}) == Levels{999, 749.25, 499.5, 249.75});
  CHECK(times({.rule = SigmaRule::simple}) == Levels{999, 749, 499, 249});
  CHECK(times({.rule = SigmaRule::sgm_uniform,
               .sigma_min = ratio(schedule.knot(100)),
               .sigma_max = ratio(schedule.knot(500))}) == Levels{500, 400, 300, 200});
}

namespace {

/// What n Euler steps make of x = 1, over the exact solution, for data N(0, c^2) in sigma space.
double euler_factor(const Levels& sigmas, double c) {
  double x = 1;
  for (std::size_t i = 1; i < sigmas.size(); ++i) {
    const double s = sigmas[i - 1];
    x *= 1 + (sigmas[i] - s) * s / (s * s + c * c);
  }
  return x * std::hypot(sigmas.front(), c) / std::hypot(sigmas.back(), c);
}

}  // namespace

TEST_CASE("kl_optimal is the best for Euler on a Gaussian, and no neighbour is better") {
  for (const double c : {0.5, 1.0, 2.0}) {
    const Levels best = kl_optimal_sigmas(12, 0.002, 80, c);
    const double error = std::abs(std::log(euler_factor(best, c)));
    CAPTURE(c, error);
    for (const Levels& other :
         {karras_sigmas(12, 0.002, 80), exponential_sigmas(12, 0.002, 80),
          beta_sigmas(12, 0.002, 80), kl_optimal_sigmas(12, 0.002, 80, 3 * c)})
      CHECK(std::abs(std::log(euler_factor(other, c))) > error);
    for (std::size_t i = 1; i + 1 < best.size(); ++i)
      for (const double factor : {0.99, 1.01}) {
        Levels moved = best;
        moved[i] *= factor;
        CHECK(std::abs(std::log(euler_factor(moved, c))) > error);
      }
  }
}

// ------------------------------------------------------------------------------------------------
// Grids

namespace {

/// alpha^2 + sigma^2 is neither 1 nor 1 - 2 alpha sigma: no curve that the library knows.
struct Ellipse {
  double alpha(double t) const { return 2 * std::cos(t); }
  double sigma(double t) const { return std::sin(t); }
  double time(double log_snr) const { return std::atan(2 * std::exp(-log_snr / 2)); }
  double first_time() const { return 0.01; }
  double last_time() const { return 1.55; }
};

/// Whether a knot lies where the schedule is at the time that the knot's own level has.
template <class S>
double distance_to(const S& schedule, const Knot& knot) {
  if (knot.sigma == 0 || knot.alpha == 0) return 0;
  const Knot at = knot_at(schedule, schedule.time(knot.log_snr()));
  return std::max(std::abs(at.alpha - knot.alpha), std::abs(at.sigma - knot.sigma)) /
         std::max(1.0, at.sigma);
}

template <class S>
void check_grid(const std::string& name, const S& schedule, SigmaRule rule, int steps,
                bool to_clean) {
  CAPTURE(name, name_of(rule), steps, to_clean);
  const GridOptions options{.set_alpha_to_one = to_clean, .sigmas = {.rule = rule}};
  if (DiscreteSchedule<S> && rule == SigmaRule::simple && steps == 1000 && !to_clean) {
    CHECK_THROWS_AS(make_grid(schedule, steps, options), Error);  // the last step would stand still
    return;
  }
  const Grid grid = make_grid(schedule, steps, options);
  REQUIRE(grid.size() == steps);
  CHECK(grid.contiguous(0));
  const Levels levels = ratios_of(grid);
  CHECK(falls(levels));
  const bool clean_first = knot_at(schedule, schedule.first_time()).sigma == 0;
  if (to_clean || (clean_first && rule > SigmaRule::align_your_steps))
    CHECK(ratio(grid.finish()) == 0);
  else
    CHECK(levels.back() > 0);
  double off = 0;
  for (const GridStep& step : grid) off = std::max(off, distance_to(schedule, step.from));
  CHECK(off < 1e-12);

  // DDIM runs on it with the laws, to 1e-12 of the largest variance.
  const DdimSampler ddim(schedule, {.steps = steps, .grid = options});
  const Laws laws = check_laws(ddim.plan());
  const double largest = std::max(1.0, grid.start().sigma * grid.start().sigma);
  CHECK(laws.mean <= 1e-12);
  CHECK(laws.variance <= 1e-12 * largest);
  CHECK(laws.continuity == 0);
}

template <class Check>
void for_every_schedule(const Check& check) {
  check("linear", NoiseSchedule<>::linear());
  check("stable diffusion", stable_diffusion());
  check("cosine", NoiseSchedule<>::squaredcos_cap_v2());
  check("zero terminal SNR", NoiseSchedule<>::scaled_linear({.rescale_zero_terminal_snr = true}));
  check("VpLinear", VpLinear({.time_scale = 1000}));
  check("VpCosine", VpCosine());
  check("VarianceExploding", VarianceExploding());
  check("EDM",
        VarianceExploding(
            {.sigma_min = 0.002, .sigma_max = 80, .time_input = VeTimeInput::quarter_log_sigma}));
  check("RectifiedFlow", RectifiedFlow({.time_scale = 1000}));
  check("Ellipse", Ellipse());
}

}  // namespace

TEST_CASE("every rule on every schedule: contiguous, falling, on the curve, DDIM keeps the laws") {
  for_every_schedule([](const char* name, const auto& schedule) {
    for (const SigmaRule rule : rules)
      for (const int steps : {1, 2, 3, 4, 5, 20, 1000})
        for (const bool to_clean : {true, false}) check_grid(name, schedule, rule, steps, to_clean);
  });
}

TEST_CASE("levels of a grid are those of the rule, to rounding, and its ends the schedule's") {
  for_every_schedule([](const char* name, const auto& schedule) {
    for (const SigmaRule rule : rules) {
      if (!is_level_rule(rule)) continue;
      CAPTURE(name, name_of(rule));
      const SigmaSpacing spacing{.rule = rule, .sigma_min = 0.05, .sigma_max = 10};
      Levels expected = detail::spaced_sigmas(spacing, 20, 0.05, 10);
      check_close(
          ratios_of(make_grid(schedule, 19, {.set_alpha_to_one = false, .sigmas = spacing})),
          expected, 1e-12);
      expected.push_back(0);
      check_close(ratios_of(make_grid(schedule, 20, {.sigmas = spacing})), expected, 1e-12);

      const Grid whole =
          make_grid(schedule, 7, {.set_alpha_to_one = false, .sigmas = {.rule = rule}});
      const Knot first = knot_at(schedule, schedule.first_time());
      const Knot last = knot_at(schedule, schedule.last_time());
      if (last.alpha > 0) CHECK(whole.start() == last);
      if (first.sigma > 0) CHECK(whole.finish() == first);
    }
  });
}

TEST_CASE("where a schedule has no finite s, the level next to it is the rule's end") {
  const GridOptions karras{.set_alpha_to_one = false, .sigmas = {.rule = SigmaRule::karras}};
  const auto zero = NoiseSchedule<>::linear({.rescale_zero_terminal_snr = true});
  CHECK(make_grid(zero, 10, karras).start() == zero.knot(998));
  const RectifiedFlow flow;
  const Grid grid = make_grid(flow, 10, karras);
  CHECK(grid.start().t == Approx(0.999).epsilon(1e-12));
  CHECK(ratio(grid.start()) == Approx(999).epsilon(1e-12));
  CHECK(ratio(grid.finish()) == Approx(1 / 999.0).epsilon(1e-12));
  CHECK(same_level(make_grid(VpLinear(), 10, karras).finish(), VpLinear().knot(0.001), 1e-15));
  CHECK(same_level(make_grid(VpCosine(), 10, karras).start(), VpCosine().knot(0.999), 1e-15));
  // Rules of times start at pure noise, as a trailing spacing does.
  CHECK(make_grid(flow, 4, {.sigmas = {.rule = SigmaRule::simple}}).start() == Knot{1, 0, 1});
  CHECK(make_grid(zero, 4, {.sigmas = {.rule = SigmaRule::simple}}).start() == Knot{999, 0, 1});
}

TEST_CASE("the knots of whole timesteps are the table's") {
  const auto schedule = stable_diffusion();
  const auto single =
      NoiseSchedule<float>::scaled_linear({.beta_start = 0.00085, .beta_end = 0.012});
  const auto check = [](const auto& table) {
    for (const double t : {999.0, 998.0, 500.0, 3.0, 1.0, 0.0}) {
      const Knot knot = table.knot(t);
      CHECK(make_grid(table, 1, {.own_sigmas = {ratio(knot)}}).start() == knot);
    }
  };
  check(schedule);
  check(single);
}

TEST_CASE("own levels") {
  const auto schedule = stable_diffusion();
  const Grid added = make_grid(schedule, 50, {.own_sigmas = {10, 1, 0.1}});
  check_close(ratios_of(added), {10, 1, 0.1, 0}, 1e-15);
  CHECK(added.finish() == Knot{-1, 1, 0});
  CHECK(make_grid(schedule, 50, {.own_sigmas = {10, 1, 0.1, 0}}) == added);
  CHECK(make_grid(schedule, 50, {.set_alpha_to_one = false, .own_sigmas = {10, 1, 0.1, 0}}) ==
        added);
  const Grid held = make_grid(schedule, 50, {.set_alpha_to_one = false, .own_sigmas = {10, 1}});
  CHECK(held.size() == 1);
  CHECK(ratio(held.finish()) == Approx(1).epsilon(1e-15));
  // alpha = 0 is s = infinity, where a schedule has it.
  const Grid flow = make_grid(RectifiedFlow(), 1, {.own_sigmas = {infinity, 1}});
  CHECK(flow.start() == Knot{1, 0, 1});
  CHECK(flow[1].from == Knot{0.5, 0.5, 0.5});
  // kl_optimal for data of another deviation
  const Levels sigmas = kl_optimal_sigmas(5, 0.05, 10, 0.5);
  CHECK(make_grid(schedule, 0, {.own_sigmas = sigmas}).size() == 5);
}

TEST_CASE("what the network is told") {
  const auto schedule = stable_diffusion();
  const auto grid = [&](ToldTime told) {
    return make_grid(schedule, 4, {.sigmas = {.rule = SigmaRule::karras, .told = told}});
  };
  const Grid exact = grid(ToldTime::exact);
  const Levels times = times_of(exact);
  CHECK(times.front() == 999);
  CHECK(times.back() == 0);
  CHECK(times[1] != std::nearbyint(times[1]));
  for (std::size_t i = 0; i < 4; ++i) {
    CHECK(times_of(grid(ToldTime::nearest))[i] == std::nearbyint(times[i]));
    CHECK(times_of(grid(ToldTime::below))[i] == std::floor(times[i]));
  }
  CHECK(ratios_of(grid(ToldTime::nearest)) == ratios_of(exact));
  const VarianceExploding told_sigma({.time_input = VeTimeInput::sigma});
  for (const GridStep& step : make_grid(told_sigma, 20, {.sigmas = {.rule = SigmaRule::karras}}))
    CHECK(step.from.t == Approx(step.from.sigma).epsilon(1e-13));
}

// ------------------------------------------------------------------------------------------------
// Errors

namespace {

std::function<void()> discrete(int steps, GridOptions options) {
  return [=] { make_grid(stable_diffusion(), steps, options); };
}

std::function<void()> continuous(int steps, GridOptions options) {
  return [=] { make_grid(RectifiedFlow(), steps, options); };
}

struct OneLevel {  // pure noise and nothing else
  double alpha(double) const { return 0; }
  double sigma(double) const { return 1; }
  double time(double) const { return 0; }
  double first_time() const { return 0; }
  double last_time() const { return 1; }
};

}  // namespace

TEST_CASE("bad levels are refused with value and limit") {
  const SigmaSpacing karras{.rule = SigmaRule::karras};
  using Sigmas = std::vector<double>;
  const std::vector<Refusal> refusals = {
      {"no levels", [] { karras_sigmas(0, 1, 2); }, {"number of levels is 0", "[1, "}},
      {"many", [] { exponential_sigmas(2000000, 1, 2); }, {"is 2000000", "[1, "}},
      {"sigma_min 0", [] { karras_sigmas(3, 0, 2); }, {"sigma_min is 0", "[1e-150, 2]"}},
      {"sigma_min above", [] { beta_sigmas(3, 3, 2); }, {"sigma_min is 3", ", 2]"}},
      {"equal", [] { kl_optimal_sigmas(3, 2, 2); }, {"sigma_min is 2", "3 levels", "below"}},
      {"NaN", [] { karras_sigmas(3, not_a_number, 2); }, {"sigma_min is", "nan"}},
      {"infinite", [] { karras_sigmas(3, 1, infinity); }, {"sigma_max is inf"}},
      {"rho", [] { karras_sigmas(3, 1, 2, 0); }, {"rho is 0", "[0.01, 1000]"}},
      {"rho", [] { polyexponential_sigmas(3, 1, 2, -1); }, {"rho is -1", "[0.01, 1000]"}},
      {"NaN rho", [] { karras_sigmas(3, 1, 2, not_a_number); }, {"rho is", "nan"}},
      {"too close", [] { polyexponential_sigmas(50, 1, 2, 900); }, {"must be below level"}},
      {"a", [] { beta_sigmas(3, 1, 2, 0); }, {"a of the Beta law is 0", "[0.1, 50]"}},
      {"b", [] { beta_times(3, 1, 2, 1, 99); }, {"b of the Beta law is 99", "[0.1, 50]"}},
      {"q", [] { beta_quantile(1.5, 1, 1); }, {"q of the Beta law is 1.5", "[0, 1]"}},
      {"x", [] { beta_distribution(-1, 1, 1); }, {"x of the Beta law is -1", "[0, 1]"}},
      {"c", [] { kl_optimal_sigmas(3, 1, 2, 0); }, {"c is 0", "[0.001, 1000]"}},
      {"table",
       [] { align_your_steps_sigmas(static_cast<AlignYourSteps>(4), 3); },
       {"Align Your Steps table is 4", "[0, 3]"}},
      {"no timesteps",
       [] { align_your_steps_timesteps(AlignYourSteps::stable_video_diffusion); },
       {"table 2", "align_your_steps_sigmas"}},
      {"simple", [] { simple_timesteps(10, 11); }, {"steps is 11", "[1, 10]"}},
      {"sgm", [] { sgm_uniform_times(0, 0, 1); }, {"number of times is 0"}},
      {"sgm", [] { sgm_uniform_times(3, 2, 1); }, {"last time is 1", "at least 2"}},

      {"rule", discrete(3, {.sigmas = {.rule = static_cast<SigmaRule>(10)}}), {"is 10", "[0, 9]"}},
      {"steps", discrete(0, {.sigmas = karras}), {"steps is 0", "[1, 1000000]"}},
      {"own rho", discrete(3, {.sigmas = {.rule = SigmaRule::karras, .rho = -7}}), {"rho is -7"}},
      {"own a", discrete(3, {.sigmas = {.rule = SigmaRule::beta, .beta_a = 0}}), {"law is 0"}},
      {"above",
       discrete(3, {.sigmas = {.rule = SigmaRule::karras, .sigma_max = 80}}),
       {"sigma_max is 80", "[0.02916", "14.614"}},
      {"below",
       discrete(3, {.sigmas = {.rule = SigmaRule::karras, .sigma_min = 0.002}}),
       {"sigma_min is 0.002", "[0.02916"}},
      {"NaN",
       discrete(3, {.sigmas = {.rule = SigmaRule::karras, .sigma_min = not_a_number}}),
       {"sigma_min is", "nan"}},
      {"swapped",
       discrete(3, {.sigmas = {.rule = SigmaRule::karras, .sigma_min = 3, .sigma_max = 2}}),
       {"sigma_min is 3", ", 2]"}},
      {"own ends",
       discrete(3, {.sigmas = {.rule = SigmaRule::align_your_steps, .sigma_min = 0.1}}),
       {"are 0.1, 0", "align_your_steps", "must be 0"}},
      {"own ends",
       discrete(3, {.sigmas = {.rule = SigmaRule::simple, .sigma_max = 3}}),
       {"are 0, 3", "simple", "must be 0"}},
      {"a table of another network",
       discrete(3, {.sigmas = {.rule = SigmaRule::align_your_steps,
                               .table = AlignYourSteps::stable_video_diffusion}}),
       {"is 700", "14.614"}},
      {"simple", discrete(1001, {.sigmas = {.rule = SigmaRule::simple}}), {"1001", "[1, 1000]"}},
      {"told",
       continuous(3, {.sigmas = {.rule = SigmaRule::karras, .told = ToldTime::nearest}}),
       {"told is 1", "continuous", "exact"}},
      {"told",
       discrete(3, {.sigmas = {.rule = SigmaRule::karras, .told = ToldTime(3)}}),
       {"told is 3", "[0, 2]"}},
      {"two lists", discrete(3, {.sigmas = karras, .own_sigmas = {3, 2}}), {"own_sigmas has 2"}},
      {"times too", discrete(3, {.timesteps = {5, 3}, .sigmas = karras}), {"timesteps has 2"}},
      {"pairs too", discrete(3, {.pairs = {{5, 3}}, .own_sigmas = {3, 2}}), {"pairs 1", "empty"}},
      {"stride",
       discrete(3, {.previous = PreviousTimestep::stride, .sigmas = karras}),
       {"stride", "from_list"}},
      {"rising", discrete(3, {.own_sigmas = {1, 2}}), {"own_sigmas[1] is 2", "less than", "= 1"}},
      {"0 first", discrete(3, {.own_sigmas = Sigmas{0}}), {"own_sigmas[0] is 0", "[0.02916"}},
      {"0 inside", discrete(3, {.own_sigmas = {3, 0, -1}}), {"own_sigmas[1] is 0"}},
      {"far above", discrete(3, {.own_sigmas = {20, 3}}), {"own_sigmas[0] is 20", "14.614"}},
      {"infinite", discrete(3, {.own_sigmas = {infinity, 3}}), {"own_sigmas[0] is inf"}},
      {"NaN", discrete(3, {.own_sigmas = {3, not_a_number}}), {"own_sigmas[1] is", "nan"}},
      {"one and no end",
       discrete(3, {.set_alpha_to_one = false, .own_sigmas = Sigmas{3}}),
       {"1 entry", "at least 2"}},
      {"both are the end", discrete(3, {.own_sigmas = {14.7, 14.65}}), {"level 1 is 14.61"}},
      {"nothing to stand for",
       [=] { make_grid(OneLevel(), 3, {.sigmas = karras}); },
       {"noise is inf", "SigmaSpacing::sigma_"}},
      {"one level",
       [=] { make_grid(NoiseSchedule<>::from_betas({0.5}), 3, {.sigmas = karras}); },
       {"sigma_min is 1", "3 levels"}},
  };
  check_refusals(refusals);
}
