// Samplers that are the same method: against loops that are written out here, and against each
// other; the same run with x / alpha as its state; cut runs; runs that are saved and resumed.

#include "catch.hpp"
#include "plan_numbers.hpp"
#include "sampler_zoo.hpp"

#include <diffusion/noise/philox.hpp>
#include <diffusion/sampling/stepper.hpp>
#include <diffusion/schedule/continuous.hpp>
#include <diffusion/schedule/noise_schedule.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <string>
#include <vector>

namespace {

using namespace diffusion;
using Catch::Approx;
using numbers::Vector;

struct Place {
  std::string name;
  AnySchedule schedule;
  Grid grid;
};

/// Grids of 9 steps that begin above alpha = 0.
std::vector<Place> places() {
  std::vector<Place> list;
  const auto add = [&](const char* name, const AnySchedule& schedule, SigmaRule rule, bool clean) {
    const GridOptions options{
        .spacing = TimestepSpacing::trailing, .set_alpha_to_one = clean, .sigmas = {.rule = rule}};
    list.push_back({name, schedule, schedule.grid(9, options)});
  };
  const AnySchedule discrete{NoiseSchedule<>::scaled_linear()};
  for (const bool clean : {true, false}) {
    add("VP discrete, trailing", discrete, SigmaRule::none, clean);
    add("VP discrete, Karras", discrete, SigmaRule::karras, clean);
    add("VP linear, exponential", AnySchedule{VpLinear()}, SigmaRule::exponential, clean);
    add("VE, Karras", AnySchedule{VarianceExploding()}, SigmaRule::karras, clean);
    add("flow, KL-optimal", AnySchedule{RectifiedFlow()}, SigmaRule::kl_optimal, clean);
  }
  return list;
}

/// The answers for mixed data.
double x0_of(double x, const Knot& at) { return numbers::Mixture{}.x0(x, at); }

/// What comes of x with these draws, which any number of stages may use.
double run(const SamplingPlan& plan, double x) {
  std::vector<Vector> draws;
  for (int k = 0; k < plan.draws(); ++k) draws.push_back({std::sin(1.7 * k + 1)});
  return numbers::run(plan, numbers::denoiser_of(numbers::Mixture{}), {x}, draws)[0];
}

double draw(int k) { return std::sin(1.7 * k + 1); }

double eps_of(double x, double x0, const Knot& at) { return (x - at.alpha * x0) / at.sigma; }
double lambda(const Knot& knot) { return std::log(knot.alpha / knot.sigma); }

// The methods as their papers or programs write them.

double ddim(const Grid& grid, double x) {
  for (const auto& [at, to] : grid) {
    const double x0 = x0_of(x, at);
    x = to.alpha * x0 + to.sigma * eps_of(x, x0, at);
  }
  return x;
}

double euler_in_sigma(const Grid& grid, double x) {
  double y = x / grid.start().alpha;
  for (const auto& [at, to] : grid) {
    const double s = at.sigma / at.alpha, x0 = x0_of(at.alpha * y, at);
    y += (to.sigma / to.alpha - s) * (y - x0) / s;
  }
  return grid.finish().alpha * y;
}

double dpm_solver_1(const Grid& grid, double x, SolverForm form) {
  for (const auto& [at, to] : grid) {
    const double x0 = x0_of(x, at);
    if (to.sigma == 0) return to.alpha * x0;
    const double h = lambda(to) - lambda(at);
    x = form == SolverForm::data
            ? to.sigma / at.sigma * x - to.alpha * std::expm1(-h) * x0
            : to.alpha / at.alpha * x - to.sigma * std::expm1(h) * eps_of(x, x0, at);
  }
  return x;
}

/// Ho et al. 2020, eq. 6 and 7, with alpha_t^2 / alpha_s^2 for their alpha_t.
double ddpm(const Grid& grid, double x) {
  int k = 0;
  for (const auto& [at, to] : grid) {
    const double x0 = x0_of(x, at), a = at.alpha / to.alpha;
    const double beta = at.sigma * at.sigma - a * a * to.sigma * to.sigma;
    const double variance = at.sigma * at.sigma;
    x = to.alpha * beta / variance * x0 + a * to.sigma * to.sigma / variance * x;
    if (to.sigma > 0) x += std::sqrt(beta / variance) * to.sigma * draw(k++);
  }
  return x;
}

/// k-diffusion's sample_dpmpp_2m_sde, midpoint, on y = x / alpha.
double two_m_sde(const Grid& grid, double x, double eta) {
  double y = x / grid.start().alpha, before = 0, h_before = 0;
  int k = 0;
  for (const auto& [at, to] : grid) {
    const double x0 = x0_of(at.alpha * y, at);
    if (to.sigma == 0) return to.alpha * x0;
    const double s = at.sigma / at.alpha, s_to = to.sigma / to.alpha;
    const double h = std::log(s / s_to), shrink = -std::expm1(-h - eta * h);
    y = s_to / s * std::exp(-eta * h) * y + shrink * x0;
    if (k > 0) y += 0.5 * shrink * (x0 - before) * h / h_before;
    if (eta > 0) y += s_to * std::sqrt(-std::expm1(-2 * eta * h)) * draw(k);
    ++k;
    before = x0;
    h_before = h;
  }
  return grid.finish().alpha * y;
}

using Method = std::function<double(const Place&, double x)>;

Method planned(const SamplerOptions& options) {
  return [options](const Place& place, double x) {
    return run(make_plan(place.grid, options, place.schedule), x);
  };
}
Method written(const std::function<double(const Grid&, double)>& loop) {
  return [loop](const Place& place, double x) { return loop(place.grid, x); };
}

void check_same(const char* what, const Method& method, const Method& other) {
  for (const Place& place : places())
    for (const double start : {-1.3, 0.2, 2.9}) {
      const double x = start * std::hypot(place.grid.start().alpha, place.grid.start().sigma);
      INFO(what << ", " << place.name << ", from " << x);
      CHECK(method(place, x) == Approx(other(place, x)).epsilon(1e-9).margin(1e-9));
    }
}

bool same_weights(const Stage& a, const Stage& b) {
  Stage plain = a;
  plain.keep = b.keep;  // slots and draws are numbered anew
  for (std::size_t i = 0; i < plain.noise.size(); ++i) {
    if ((a.noise[i].source < 0) != (b.noise[i].source < 0)) return false;
    plain.noise[i].source = b.noise[i].source;
  }
  return plain == b;
}

/// Lets a run go on by one stage, with a network that is not linear.
template <class Run>
void advance(Run& run) {
  if (run.asks()) run.output() = (0.7 * run.input()).tanh() * std::cos(run.timestep() / 500);
  run.advance();
}

}  // namespace

TEST_CASE("DDIM is DPM-Solver-1, Euler in sigma space, and the first of every family") {
  const Method method = planned(DdimOptions{});
  check_same("DDIM", method, written(ddim));
  check_same("Euler in sigma", method, written(euler_in_sigma));
  for (const SolverForm form : {SolverForm::data, SolverForm::noise}) {
    check_same("DPM-Solver-1", method,
               written([form](const Grid& grid, double x) { return dpm_solver_1(grid, x, form); }));
    check_same("DPM-Solver, order 1", method, planned(DpmSolverOptions{.order = 1, .form = form}));
    check_same("singlestep, order 1", method,
               planned(DpmSolverSinglestepOptions{.order = 1, .form = form}));
    check_same("UniP-1", method,
               planned(UniPcOptions{.order = 1, .form = form, .corrector = false}));
    check_same("SA-Solver, tau 0, predictor 1", method,
               planned(SaSolverOptions{
                   .predictor = 1, .corrector = 0, .form = form, .tau = constant_tau(0)}));
  }
  check_same("Euler", method, planned(EulerOptions{}));
  check_same("Euler a, eta 0", method, planned(EulerAncestralOptions{.eta = 0}));
  check_same("LMS 1", method, planned(LmsOptions{.order = 1}));
  check_same("DEIS 1", method, planned(DeisOptions{.order = 1}));
  check_same("iPNDM 1", method, planned(IpndmOptions{.order = 1}));
  check_same("gradient estimation 1", method, planned(GradientEstimationOptions{.gamma = 1}));
  check_same("TCD, eta 0", method, planned(TcdOptions{.eta = 0}));
  check_same("flow ancestral, eta 0", method, planned(FlowAncestralOptions{.eta = 0}));
  check_same("ER-SDE 1 without noise", method,
             planned(ErSdeOptions{.order = 1, .noise_scale = [](double s) { return s; }}));
}

TEST_CASE("DDPM is DDIM with eta 1, Euler a, ER-SDE 1 with s^2, and the ancestral reverse SDE") {
  const Method method = written(ddpm);
  check_same("DDPM", method, planned(DdpmOptions{}));
  check_same("DDIM, eta 1", method, planned(DdimOptions{.eta = 1}));
  check_same("Euler a", method, planned(EulerAncestralOptions{}));
  check_same("ER-SDE 1", method,
             planned(ErSdeOptions{.order = 1, .noise_scale = [](double s) { return s * s; }}));
  check_same("reverse SDE", method,
             planned(ReverseSdeOptions{.correct_steps = 0, .predictor = SdePredictor::ancestral}));
  check_same("DPM-Solver++ 1 SDE, SA-Solver 1", planned(DpmSolverOptions{.order = 1, .eta = 1}),
             planned(SaSolverOptions{.predictor = 1, .corrector = 0}));
}

TEST_CASE("DPM++ 2M and 2M SDE are k-diffusion's loops") {
  const auto loop = [](double eta) {
    return written([eta](const Grid& grid, double x) { return two_m_sde(grid, x, eta); });
  };
  const auto options = [](double eta) {
    return planned(DpmSolverOptions{.eta = eta, .lower_order_final = LowerOrderFinal::never});
  };
  for (const double eta : {0.0, 0.4, 1.0}) check_same("2M SDE", loop(eta), options(eta));
  check_same("UniP-2 is 2M", options(0),
             planned(UniPcOptions{.corrector = false, .lower_order_final = false}));
  check_same("CogVideoX", options(1), [](const Place& place, double x) {
    const SamplingPlan plan = cogvideox_dpm_plan(place.grid, false);
    std::vector<Vector> draws;  // every second-order step makes an idle draw first
    for (int i = 0, k = 0; i < place.grid.size(); ++i) {
      if (i > 0) draws.push_back({100});
      draws.push_back({draw(k++)});
    }
    return numbers::run(plan, numbers::denoiser_of(numbers::Mixture{}), {x}, draws)[0];
  });
}

TEST_CASE("Other methods that are the same") {
  const auto never = LowerOrderFinal::never;
  check_same("RES 2M, DPM++ 2M heun", planned(ResOptions{}),
             planned(DpmSolverOptions{.solver = SolverType::heun, .lower_order_final = never}));
  check_same("DEIS 3, DPM-Solver 3M heun", planned(DeisOptions{.lower_order_final = never}),
             planned(DpmSolverOptions{.order = 3,
                                      .form = SolverForm::noise,
                                      .solver = SolverType::heun,
                                      .lower_order_final = never}));
  check_same("DPM++ SDE and 2S ancestral without noise", planned(DpmSolverSdeOptions{.eta = 0}),
             planned(DpmSolverAncestralOptions{.eta = 0}));
  for (const Place& place : places()) {
    if (place.schedule.knot(0).sigma > 0) continue;  // TCD with eta 1 goes back to the first time
    INFO(place.name << ": TCD with eta 1 is LCM");
    const auto end = [&](const SamplerOptions& options) {
      return run(make_plan(place.grid, options, place.schedule), 0.8);
    };
    CHECK(end(TcdOptions{.eta = 1}) == Approx(end(LcmOptions{})).epsilon(1e-9));
  }
  const AnySchedule exploding{VarianceExploding()};
  const Grid grid = exploding.grid(12, {.sigmas = {.rule = SigmaRule::karras}});
  CHECK(run(make_plan(grid, SamplerOptions(HeunOptions{}), exploding), 30) ==
        Approx(run(make_plan(grid, SamplerOptions(FlowHeunOptions{}), exploding), 30))
            .epsilon(1e-12));
}

TEST_CASE("PLMS after its warm-up is Adams and Bashforth's method") {
  for (const Place& place : places()) {
    INFO(place.name);
    const SamplingPlan plan = make_plan(place.grid, SamplerOptions(PndmOptions{}), place.schedule);
    CHECK(plan.size() == place.grid.size() + 1);
    for (int i = 4; i < plan.size(); ++i) {
      const Knot &at = plan[i].at, &to = plan[i].to;
      const double change = to.sigma - at.sigma * to.alpha / at.alpha;
      CHECK(plan[i].eps == Approx(change * 55 / 24).epsilon(1e-12));
      std::vector<double> weights;
      for (const Term& term : plan[i].history)
        if (term.source >= 0) weights.push_back(term.weight / change * 24);
      std::sort(weights.begin(), weights.end());
      REQUIRE(weights.size() == 3);
      CHECK(weights[0] == Approx(-59).epsilon(1e-10));
      CHECK(weights[1] == Approx(-9).epsilon(1e-10));
      CHECK(weights[2] == Approx(37).epsilon(1e-10));
    }
  }
}

TEST_CASE("The same run with x / alpha as its state, for every sampler") {
  const AnySchedule schedule{NoiseSchedule<>::scaled_linear()};
  for (const bool clean : {true, false}) {
    const Grid grid =
        schedule.grid(8, {.set_alpha_to_one = clean, .sigmas = {.rule = SigmaRule::karras}});
    const Grid scaled = grid.in_sigma_space();
    for (const auto& sampler : zoo::samplers()) {
      // These are written for the state that they are given; Langevin steps need many dimensions.
      if (sampler.name.find("flow") == 0 || sampler.name == "Euler-Maruyama" ||
          sampler.name == "DDPM large" || sampler.name == "consistency" ||
          sampler.name == "predictor-corrector")
        continue;
      INFO(sampler.name);
      const double x = 0.8, y = x / grid.start().alpha;
      const double first = run(sampler.plan(grid, schedule), x) / grid.finish().alpha;
      CHECK(run(sampler.plan(scaled, schedule), y) == Approx(first).epsilon(1e-9).margin(1e-9));
    }
  }
}

TEST_CASE("A plan that is made from the middle of a grid is that of the grid that is left") {
  const AnySchedule schedule{VpLinear()};
  const Grid grid = schedule.grid(8, {.sigmas = {.rule = SigmaRule::karras}});
  for (const auto& sampler : zoo::samplers()) {
    if (sampler.name == "Heun restart") continue;  // its interval is a part of the grid it is given
    const SamplingPlan whole = sampler.plan(grid, schedule);
    for (int k = 1; k < grid.size(); ++k) {
      INFO(sampler.name << ", cut at " << k);
      const SamplingPlan cut = sampler.plan(grid.cut(k), schedule);
      std::vector<GridStep> left;
      for (int i = k; i < grid.size(); ++i) left.push_back(grid[i]);
      CHECK(cut == sampler.plan(Grid(left, k), schedule));
      CHECK(cut.steps() == grid.size() - k);
      CHECK(cut[0].step == k);
      // Without history it is the end of the whole plan, weight for weight.
      if (whole.traits().slots > 0 || sampler.calls > 1) continue;
      const int skipped = whole.size() - cut.size();
      for (int i = 0; i < cut.size(); ++i) CHECK(same_weights(cut[i], whole[skipped + i]));
    }
  }
}

TEST_CASE("A run that is saved at any stage and resumed is the uninterrupted one, bit for bit") {
  const AnySchedule schedule{NoiseSchedule<>::scaled_linear()};
  const Grid grid = schedule.grid(6, {.sigmas = {.rule = SigmaRule::karras}});
  Eigen::ArrayXd start(5);
  start << -1, -0.3, 0.2, 0.9, 2;
  for (const auto& sampler : zoo::samplers()) {
    INFO(sampler.name);
    const SamplingPlan plan = sampler.plan(grid, schedule);
    Stepper whole(plan, Eigen::ArrayXd(start), PhiloxNoise{3});
    std::vector<decltype(whole)> saved;
    while (!whole.done()) {
      saved.push_back(whole);
      advance(whole);
    }
    CHECK(static_cast<int>(saved.size()) == plan.size());
    CHECK(whole.state().isFinite().all());
    for (auto& copy : saved) {
      while (!copy.done()) advance(copy);
      CHECK((copy.state() == whole.state()).all());
    }
  }
}
