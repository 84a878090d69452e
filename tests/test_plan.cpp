// Plans as data: what is refused, which slots estimates get, how rows are folded for a prediction
// type, how a plan prints and compares. The laws are in test_laws.cpp.

#include "catch.hpp"
#include "support.hpp"

#include <diffusion/plan/lowering.hpp>
#include <diffusion/plan/plan.hpp>
#include <diffusion/plan/print.hpp>
#include <diffusion/samplers/ddim.hpp>
#include <diffusion/samplers/ddpm.hpp>
#include <diffusion/schedule/continuous.hpp>
#include <diffusion/schedule/noise_schedule.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

using namespace diffusion;
using support::Random;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

/// A row that asks, at a level where everything is defined, and reads these estimates.
Stage asking(std::vector<int> estimates = {}) {
  Stage s;
  s.at = {10, 0.8, 0.6};
  s.to = {5, 0.9, 0.4};
  s.x = 1;
  for (std::size_t k = 0; k < estimates.size(); ++k) s.history[k] = {estimates[k], 0.25};
  return s;
}

Stage silent(std::vector<int> estimates = {}) {
  Stage s = asking(std::move(estimates));
  s.ask = false;
  return s;
}

/// The most estimates that are alive at once: made in or before a stage, read after it.
int most_alive(const std::vector<Stage>& rows) {
  std::vector<std::size_t> made, last_read;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    for (const Term& term : rows[i].history)
      if (term.source >= 0) last_read[static_cast<std::size_t>(term.source)] = i;
    if (rows[i].ask) made.push_back(i), last_read.push_back(0);
  }
  int most = 0;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    int alive = 0;
    for (std::size_t e = 0; e < made.size(); ++e) alive += made[e] <= i && last_read[e] > i;
    most = std::max(most, alive);
  }
  return most;
}

/// Follows which estimate lies in which slot, and compares with the numbers that the rows name.
void check_slots(const std::vector<Stage>& rows) {
  const SamplingPlan plan(rows, {});
  REQUIRE(plan.traits().slots == most_alive(rows));
  std::vector<int> content(static_cast<std::size_t>(plan.traits().slots), -1);
  int made = 0;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const Stage& stage = plan.stages()[i];
    for (std::size_t k = 0; k < rows[i].history.size(); ++k) {
      const int source = stage.history[k].source;
      REQUIRE(stage.history[k].weight == rows[i].history[k].weight);
      REQUIRE((source < 0 ? -1 : content[static_cast<std::size_t>(source)]) ==
              rows[i].history[k].source);
    }
    REQUIRE(stage.keep < plan.traits().slots);
    if (stage.keep >= 0) {
      REQUIRE(rows[i].ask);
      content[static_cast<std::size_t>(stage.keep)] = made;
    }
    made += rows[i].ask ? 1 : 0;
  }
}

}  // namespace

TEST_CASE("Every estimate lies in its slot when it is read, and there are no slots too many") {
  SECTION("no history, no slot") {
    check_slots({asking(), asking(), asking()});
    const SamplingPlan plan({asking(), asking()}, {});
    CHECK(plan[0].keep == -1);
  }
  SECTION("multistep with 1 to 4 earlier estimates") {
    for (int order = 1; order <= 4; ++order) {
      std::vector<Stage> rows;
      for (int i = 0; i < 12; ++i) {
        std::vector<int> read;
        for (int k = 1; k <= std::min(order, i); ++k) read.push_back(i - k);
        rows.push_back(asking(read));
      }
      CAPTURE(order);
      check_slots(rows);
      CHECK(SamplingPlan(rows, {}).traits().slots == order);
    }
  }
  SECTION("a slot is rewritten in the stage that reads it last") {
    const SamplingPlan plan({asking(), asking({0}), asking({1})}, {});
    CHECK(plan.traits().slots == 1);
    CHECK(plan[0].keep == 0);
    CHECK(plan[1].history[0].source == 0);
    CHECK(plan[1].keep == 0);
    CHECK(plan[2].keep == -1);  // nobody reads the last one
  }
  SECTION("an old estimate outlives younger ones; stages without an ask have no number") {
    check_slots({asking(), silent({0}), asking({0}), asking({1}), silent(), asking({0, 2})});
  }
  SECTION("random plans") {
    Random random(1);
    for (int i = 0; i < 500; ++i) check_slots(support::random_rows(random, {.stages = 20}));
  }
}

TEST_CASE("A plan that reads what was never made is refused by name") {
  const auto refused = [](std::vector<Stage> rows, const std::string& part,
                          PlanTraits traits = {}) {
    CHECK_THROWS_WITH(SamplingPlan(std::move(rows), traits), contains(part));
  };
  refused({}, "0 stages");
  refused({asking({0})}, "stage 0 reads estimate 0; 0 have been made");
  refused({asking(), silent(), asking({1})}, "stage 2 reads estimate 1; 1 have been made");

  Stage noisy = asking();
  noisy.noise[1] = {0, 1};
  refused({noisy}, "stage 0 reads draw 0; 0 have been made");
  noisy.draws = 1;
  CHECK_NOTHROW(SamplingPlan({noisy}, {}));
  noisy.noise[1].source = 1;
  refused({noisy}, "reads draw 1; 1 have been made");
  noisy.draws = -1;
  refused({noisy}, "makes -1 draws");

  Stage restoring = asking();
  restoring.saved = 0.5;
  refused({restoring}, "saved state");
  restoring.save = true;
  CHECK_NOTHROW(SamplingPlan({restoring}, {}));

  for (double Stage::*part : {&Stage::x0, &Stage::eps, &Stage::raw}) {
    Stage s = silent();
    s.*part = 1;
    refused({s}, "does not ask");
  }
  Stage learned = silent();
  learned.noise_scale = {NoiseScale::Kind::root, 0, 0};
  refused({learned}, "does not ask");
}

TEST_CASE("Weights that are not finite, and traits out of range, are refused") {
  const auto refused = [](Stage stage, PlanTraits traits = {}) {
    CHECK_THROWS_AS(SamplingPlan({asking(), stage}, traits), Error);
  };
  for (const double bad : {infinity, -infinity, std::numeric_limits<double>::quiet_NaN()}) {
    for (double Stage::*part :
         {&Stage::x, &Stage::x0, &Stage::eps, &Stage::raw, &Stage::saved, &Stage::input_scale}) {
      Stage s = asking();
      s.save = true;
      s.*part = bad;
      refused(s);
    }
    Stage s = asking();
    s.history[2] = {0, bad};
    refused(s);
    s = asking();
    s.draws = 1;
    s.noise[0] = {0, bad};
    refused(s);
    for (double NoiseScale::*part : {&NoiseScale::offset, &NoiseScale::slope}) {
      s = asking();
      s.noise_scale.kind = NoiseScale::Kind::exponential;
      s.noise_scale.*part = bad;
      refused(s);
    }
    refused(asking(), {.clipping = Clipping::range(bad)});
    refused(asking(), {.clipping = Clipping::dynamic(bad)});
    refused(asking(), {.initial_scale = bad});
  }
  refused(asking(), {.clipping = Clipping::range(0)});
  refused(asking(), {.clipping = Clipping::dynamic(1.01)});
  refused(asking(), {.clipping = Clipping::dynamic(-0.01)});
  refused(asking(), {.clipping = Clipping::dynamic(0.9, -0.5)});
  refused(asking(), {.initial_scale = -1});
}

TEST_CASE("A Langevin stage needs what it measures: an ask, noise, and a level with noise") {
  Stage s = asking();
  s.langevin_snr = 0.16;
  CHECK_THROWS_WITH(SamplingPlan({s}, {}), contains("Langevin"));
  s.draws = 1;
  s.noise[0] = {0, 0};  // the weight comes from the data
  CHECK_NOTHROW(SamplingPlan({s}, {}));
  s.at.sigma = 0;
  CHECK_THROWS_WITH(SamplingPlan({s}, {}), contains("Langevin"));
  s.at.sigma = 1;
  s.ask = false;
  CHECK_THROWS_WITH(SamplingPlan({s}, {}), contains("Langevin"));
  s.ask = true;
  s.langevin_snr = -1;
  CHECK_THROWS_WITH(SamplingPlan({s}, {}), contains("langevin_snr"));
}

// ---- lowering ----------------------------------------------------------------------------------

TEST_CASE("A lowered row equals the row itself, for every prediction type, basis and clipping") {
  Random random(2);
  const Clipping clippings[] = {Clipping::none(), Clipping::range(0.7), Clipping::range(5)};
  for (int trial = 0; trial < 2000; ++trial) {
    const PredictionType type = all_prediction_types[trial % 7];
    PlanTraits traits;
    traits.clipping = clippings[trial % 3];
    traits.epsilon_rule = random.chance(0.5) ? EpsilonRule::raw : EpsilonRule::rederived;
    traits.basis = static_cast<Basis>(random.integer(0, 2));
    Stage stage = support::random_rows(random, {.stages = 1})[0];
    stage.keep = 0;
    const LoweredStage row = lower(stage, traits, type);

    const double x = random.uniform(-2, 2), f = random.uniform(-2, 2);
    const support::Estimates e = support::estimates(type, stage, x, f);
    std::vector<double> clipped = {e.x0};
    support::clip(traits.clipping, clipped);
    const bool raw_eps =
        traits.clipping.kind == Clipping::Kind::none || traits.epsilon_rule == EpsilonRule::raw;
    const double x0 = clipped[0];
    const double eps = raw_eps ? e.eps : (x - stage.at.alpha * x0) / stage.at.sigma;

    const double limit = traits.clipping.limit;
    const double d = std::min(std::max(row.a * x + row.b * f, -limit), limit);
    const auto value = [&](const Combination& c) { return c.x * x + c.f * f + c.d * d; };
    const double kept = traits.basis == Basis::x0 ? x0 : traits.basis == Basis::eps ? eps : f;
    INFO(name(type) << ", trial " << trial);
    CHECK(value(row.result) == Approx(stage.x * x + stage.x0 * x0 + stage.eps * eps + stage.raw * f)
                                   .margin(1e-13)
                                   .epsilon(1e-13));
    CHECK(value(row.kept) == Approx(kept).margin(1e-13).epsilon(1e-13));
    CHECK(value(row.estimate) == Approx(x0).margin(1e-13).epsilon(1e-13));
    if (traits.clipping.kind == Clipping::Kind::none) CHECK_FALSE(row.clips);
    if (row.result.d != 0 || row.kept.d != 0) CHECK(row.clips);
  }
}

TEST_CASE("Without an ask only the state's weight remains") {
  Stage stage = silent();
  stage.x = 0.7;
  const LoweredStage row = lower(stage, {.clipping = Clipping::range()}, PredictionType::v);
  CHECK(row.result.x == 0.7);
  CHECK((row.result.f == 0 && row.result.d == 0 && !row.clips));
}

TEST_CASE("Estimates that a level leaves undefined are refused, v and flow never") {
  using enum PredictionType::Kind;
  const auto at = [](double alpha, double sigma, double x0, double eps) {
    Stage s;
    s.at = {999, alpha, sigma};
    s.x0 = x0;
    s.eps = eps;
    return s;
  };
  const Stage x0_of_noise = at(0, 1, 1, 0), eps_of_noise = at(0, 1, 0, 1);
  const Stage x0_of_data = at(1, 0, 1, 0), eps_of_data = at(1, 0, 0, 1);
  const PlanTraits plain, clipped{.clipping = Clipping::range()};

  for (const PredictionType type : {epsilon, score}) {
    CHECK_THROWS_WITH(lower(x0_of_noise, plain, type), contains("x0 is undefined") &&
                                                           contains(std::string(name(type))) &&
                                                           contains("alpha = 0"));
    CHECK_THROWS_WITH(lower(eps_of_noise, clipped, type), contains("eps is undefined"));
    CHECK_NOTHROW(lower(eps_of_noise, plain, type));
    CHECK_NOTHROW(lower(x0_of_data, plain, type));
  }
  CHECK_THROWS_WITH(lower(eps_of_data, plain, sample),
                    contains("eps is undefined") && contains("sigma = 0"));
  CHECK_NOTHROW(lower(x0_of_data, plain, sample));
  CHECK_NOTHROW(lower(x0_of_noise, plain, sample));
  CHECK_NOTHROW(lower(eps_of_noise, plain, sample));
  for (const PredictionType type : {v, flow})
    for (const Stage& s : {x0_of_noise, eps_of_noise, x0_of_data, eps_of_data})
      CHECK_NOTHROW(lower(s, plain, type));

  // What is kept counts like what is weighed, and what is not weighed does not count.
  Stage kept = at(0, 1, 0, 0);
  CHECK_NOTHROW(lower(kept, plain, epsilon));
  kept.keep = 0;
  CHECK_THROWS_AS(lower(kept, {.basis = Basis::x0}, epsilon), Error);
  CHECK_NOTHROW(lower(kept, {.basis = Basis::raw}, epsilon));
  CHECK_NOTHROW(lower(kept, {.basis = Basis::eps}, epsilon));
}

// ---- the data type -----------------------------------------------------------------------------

TEST_CASE("A plan counts its stages, steps, asks and draws") {
  Stage first = asking(), churn = silent(), last = asking({0});
  first.draws = 2;
  churn.draws = 1;
  first.step = 3, churn.step = 4, last.step = 4;
  churn.save = true;
  const SamplingPlan plan({first, churn, last}, {});
  CHECK(plan.size() == 3);
  CHECK(plan.steps() == 2);
  CHECK(plan.network_calls() == 2);
  CHECK(plan.draws() == 3);
  CHECK(plan.view().saves_state());
  CHECK_FALSE(plan.view().learns_variance());
}

TEST_CASE("Equal plans compare equal, and every number counts") {
  const NoiseSchedule<> schedule = NoiseSchedule<>::linear();
  const SamplingPlan plan = DdimSampler{schedule, {.steps = 10, .eta = 0.5}}.plan();
  CHECK(plan == DdimSampler(schedule, {.steps = 10, .eta = 0.5}).plan());
  CHECK_FALSE(plan == DdimSampler(schedule, {.steps = 10, .eta = 0.4}).plan());
  const std::vector<Stage> rows(plan.stages().begin(), plan.stages().end());
  const auto other = [&](auto change) {
    std::vector<Stage> changed = rows;
    PlanTraits traits = plan.traits();
    change(changed[4], traits);
    return SamplingPlan(changed, traits);
  };
  CHECK(plan == other([](Stage&, PlanTraits&) {}));
  CHECK_FALSE(plan == other([](Stage& s, PlanTraits&) { s.eps = std::nextafter(s.eps, 2.0); }));
  CHECK_FALSE(plan == other([](Stage& s, PlanTraits&) { s.at.t += 1; }));
  CHECK_FALSE(plan == other([](Stage& s, PlanTraits&) { s.noise[0].weight = 0; }));
  CHECK_FALSE(plan == other([](Stage& s, PlanTraits&) { s.step += 1; }));
  CHECK_FALSE(plan == other([](Stage&, PlanTraits& t) { t.clipping = Clipping::range(); }));
  CHECK_FALSE(plan == other([](Stage&, PlanTraits& t) { t.initial_scale = 2; }));
}

TEST_CASE("A stage can live in a constexpr array") {
  static constexpr Stage stages[] = {{.at = {1, 0.6, 0.8}, .to = {0, 1, 0}, .x0 = 1}};
  const PlanView plan{stages, {}};
  CHECK(plan.size() == 1);
  CHECK(plan.network_calls() == 1);
  CHECK(to_table(plan).find("0.6") != std::string::npos);
}

TEST_CASE("A plan prints as a table, one line a stage, without empty columns") {
  Stage heun = asking({0});
  heun.eps = 0.125;
  heun.step = 7;
  heun.draws = 1;
  heun.noise[0] = {0, 0.375};
  Stage first = asking();
  first.step = 7;
  const SamplingPlan plan({first, heun}, {.basis = Basis::eps});
  std::ostringstream stream;
  stream << plan;
  const std::string table = stream.str();
  CHECK(table == to_table(plan));
  CHECK(std::count(table.begin(), table.end(), '\n') == 3);
  for (const char* part : {"step", "alpha", "eps", "noise", "0.125", "0.25 e0", "0.375 n0"}) {
    CAPTURE(part, table);
    CHECK(table.find(part) != std::string::npos);
  }
  CHECK(table.find("saved") == std::string::npos);
  CHECK(table.find("raw") == std::string::npos);
  std::istringstream lines(table);
  std::string line;
  std::getline(lines, line);
  const std::size_t width = line.size();
  while (std::getline(lines, line)) CHECK(line.size() == width);
}

TEST_CASE("DDIM moves either way on a schedule, but adds noise only on the way to the data") {
  // A pair that ends at more noise than it starts from: the ODE walked backwards, as in inversion.
  const NoiseSchedule<> schedule = NoiseSchedule<>::linear();
  GridOptions up;
  up.pairs = {{200, 600}, {600, 100}};
  const SamplingPlan plan = DdimSampler{schedule, {.steps = 2, .grid = up}}.plan();
  CHECK(plan[0].x0 == schedule.alpha(600));
  CHECK(plan[0].eps == Approx(schedule.sigma(600)).epsilon(1e-15));
  CHECK_THROWS_WITH(DdimSampler(schedule, {.steps = 2, .eta = 0.5, .grid = up}).plan(),
                    contains("step 0 of the grid") && contains("eta = 0"));
  CHECK_THROWS_WITH(DdpmSampler(schedule, {.steps = 2, .grid = up}).plan(),
                    contains("step 0 of the grid"));
}
