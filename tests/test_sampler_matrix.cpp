// Every sampler x grid x schedule x prediction type x number of steps, on the exact Gaussian: a
// plan is refused with a reason, or it keeps the laws and its run is finite and, at 20 steps, ends
// at the data's mean and deviation within the sampler's tolerance. `test-sampler-matrix "[print]"`
// prints the tables of docs/samplers.md.

#include "catch.hpp"
#include "exact_gaussian.hpp"
#include "generated_block.hpp"
#include "sampler_zoo.hpp"

#include <diffusion/plan/laws.hpp>
#include <diffusion/schedule/continuous.hpp>
#include <diffusion/schedule/flow_shift.hpp>
#include <diffusion/schedule/noise_schedule.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <iostream>
#include <map>
#include <optional>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

namespace {

using namespace diffusion;

constexpr int step_counts[] = {1, 2, 3, 4, 5, 20};

struct ScheduleCase {
  std::string name;
  AnySchedule schedule;
  bool sigma_space = false;  ///< the state is x / alpha
};

std::vector<ScheduleCase> schedules() {
  return {
      {"VP discrete", AnySchedule(NoiseSchedule<>::scaled_linear())},
      {"as x / alpha", AnySchedule(NoiseSchedule<>::scaled_linear()), true},
      {"zero SNR",
       AnySchedule(NoiseSchedule<>::scaled_linear({.rescale_zero_terminal_snr = true}))},
      {"VP linear", AnySchedule(VpLinear())},
      {"VP cosine", AnySchedule(VpCosine())},
      {"VE", AnySchedule(VarianceExploding())},
      {"flow", AnySchedule(RectifiedFlow())},
      {"flow, shift 3", AnySchedule(ShiftedFlow(3))},
  };
}

struct GridCase {
  std::string name;
  GridOptions options;
  /// A rule of levels that spends most of 20 steps at the noisy end where the levels range over
  /// many powers of ten: no tolerance.
  bool coarse = false;
};

std::vector<GridCase> grids() {
  const auto rule = [](SigmaRule which, double rho = 0) {
    return GridOptions{.sigmas = {.rule = which, .rho = rho}};
  };
  return {
      {"leading", {.spacing = TimestepSpacing::leading}},
      {"trailing", {.spacing = TimestepSpacing::trailing}},
      {"linspace", {.spacing = TimestepSpacing::linspace}},
      {"Karras", rule(SigmaRule::karras)},
      {"exponential", rule(SigmaRule::exponential)},
      {"polyexp. 1.5", rule(SigmaRule::polyexponential, 1.5)},
      {"beta", rule(SigmaRule::beta), true},
      {"beta times", rule(SigmaRule::beta_times)},
      {"KL-optimal", rule(SigmaRule::kl_optimal), true},
      {"AYS", rule(SigmaRule::align_your_steps)},
      {"SGM uniform", rule(SigmaRule::sgm_uniform)},
      {"simple", rule(SigmaRule::simple)},
  };
}

/// What became of all the runs of one kind.
struct Summary {
  int runs = 0, refused = 0;
  double error = 0;  ///< the largest at 20 steps, in deviations of the data
  void add(const Summary& other) {
    runs += other.runs;
    refused += other.refused;
    error = (std::max)(error, other.error);
  }
};

struct Matrix {
  std::vector<std::string> samplers, schedules, grids;
  std::map<std::string, std::map<std::string, Summary>> by_schedule, by_grid, by_type;
  std::map<std::string, int> reasons;
  std::vector<std::string> failures;
  int runs = 0, refused = 0;
};

/// What a reason says of itself, and what it means. Others are failures.
struct Reason {
  const char* says;
  const char* meaning;
};
constexpr Reason known_reasons[] = {
    {"is undefined for prediction type", "epsilon and score say nothing of x0 at alpha = 0"},
    {"noise form", "a solver's noise form (and DEIS) weighs epsilon alone, at alpha = 0 too"},
    {"PNDM", "PNDM and PLMS divide by the alpha of their first level"},
    {"score-based",
     "SDE samplers divide by alpha; Euler-Maruyama is for variance preserving levels"},
    {"variance preserving SDE",
     "SDE samplers divide by alpha; Euler-Maruyama is for variance preserving levels"},
    {"sqrt(alpha^2 + sigma^2)",
     "SDE samplers divide by alpha; Euler-Maruyama is for variance preserving levels"},
    {"less noise", "RES and ER-SDE: one step that ends at the level where it starts"},
    {"0 stages", "flow ancestral: the same, which is no step"},
};

class Runner {
 public:
  explicit Runner(Matrix& matrix) : matrix_(matrix) {}

  void run(const zoo::Sampler& sampler, const ScheduleCase& schedule, const GridCase& grid,
           const Grid& knots, int steps, bool clean) {
    place_ = sampler.name + ", " + schedule.name + ", " + grid.name +
             (clean ? ", to zero, " : ", to sigma_min, ") + std::to_string(steps) + " steps";
    std::optional<SamplingPlan> plan;
    std::string reason;
    try {
      plan = sampler.plan(knots, schedule.schedule);
    } catch (const Error& error) {
      reason = error.what();
    }
    if (plan) check_laws_of(*plan, sampler);
    for (const PredictionType& type : all_prediction_types) {
      Summary one{1, 0, 0};
      if (plan) {
        reason.clear();
        try {
          one.error = error_of(*plan, type, steps == 20 && !grid.coarse ? sampler.tolerance() : 0);
        } catch (const Error& error) {
          reason = error.what();
        }
      }
      if (!reason.empty()) {
        one.refused = 1;
        count(reason);
      }
      if (steps != 20) one.error = 0;
      ++matrix_.runs;
      matrix_.refused += one.refused;
      matrix_.by_grid[sampler.name][grid.name].add(one);
      if (grid.coarse) one.error = 0;
      matrix_.by_schedule[sampler.name][schedule.name].add(one);
      matrix_.by_type[schedule.name][std::string(name(type))].add(one);
    }
  }

 private:
  void check_laws_of(const SamplingPlan& plan, const zoo::Sampler& sampler) {
    const Laws laws = check_laws(plan);
    double scale = 1;  // noise forms have weights of up to e^h, which cancel
    for (const Stage& stage : plan.stages()) {
      for (const double weight : {stage.at.sigma, stage.x, stage.x0, stage.eps, stage.saved})
        scale = (std::max)(scale, std::abs(weight));
      for (const Term& term : stage.history) scale = (std::max)(scale, std::abs(term.weight));
    }
    using zoo::Breaks;
    if (sampler.breaks() != Breaks::continuity && !(laws.continuity <= 1e-12 * scale))
      fail("continuity", laws.continuity);
    const bool free_mean = sampler.breaks() == Breaks::mean_and_variance;
    if (!free_mean && !(laws.mean <= 1e-9 * scale)) fail("mean", laws.mean);
    if (!free_mean && sampler.breaks() != Breaks::variance &&
        !(laws.variance <= 1e-9 * scale * scale))
      fail("variance", laws.variance);
  }

  double error_of(const SamplingPlan& plan, const PredictionType& type, double tolerance) {
    const exact::Gaussian data;
    const exact::Moments end = propagation_.run(plan, type, data);
    if (!std::isfinite(end.mean) || !std::isfinite(end.variance)) {
      fail("not finite", end.mean);
      return 0;
    }
    const exact::Moments goal = data.at(plan[plan.size() - 1].to);
    const double deviation = std::sqrt(goal.variance);
    const double error = (std::max)(std::abs(end.mean - goal.mean) / deviation,
                                    std::abs(std::sqrt(end.variance) / deviation - 1));
    if (tolerance > 0 && !(error <= tolerance)) fail("error at the end", error);
    return error;
  }

  void count(const std::string& reason) {
    for (const Reason& known : known_reasons)
      if (reason.find(known.says) != std::string::npos) {
        ++matrix_.reasons[known.meaning];
        return;
      }
    matrix_.failures.push_back(place_ + ": refused for another reason, " + reason);
  }

  void fail(const char* what, double value) {
    std::ostringstream text;
    text << place_ << ": " << what << " " << value;
    matrix_.failures.push_back(text.str());
  }

  Matrix& matrix_;
  exact::Propagation propagation_;
  std::string place_;
};

const Matrix& matrix() {
  static const Matrix made = [] {
    Matrix m;
    Runner runner(m);
    const auto all = zoo::samplers();
    for (const auto& sampler : all) m.samplers.push_back(sampler.name);
    for (const auto& grid : grids()) m.grids.push_back(grid.name);
    for (const auto& schedule : schedules()) {
      m.schedules.push_back(schedule.name);
      for (const auto& grid : grids())
        for (const int steps : step_counts)
          for (const bool clean : {true, false}) {
            GridOptions options = grid.options;
            options.set_alpha_to_one = clean;
            std::optional<Grid> knots;
            try {
              knots = schedule.schedule.grid(steps, options);
              if (schedule.sigma_space) knots = knots->in_sigma_space();
            } catch (const Error& error) {
              m.failures.push_back(schedule.name + ", " + grid.name + ": " + error.what());
              continue;
            }
            for (const auto& sampler : all)
              runner.run(sampler, schedule, grid, *knots, steps, clean);
          }
    }
    return m;
  }();
  return made;
}

/// "0.12", "> 10", or a dash where all was refused.
std::string cell(const Summary& summary, bool with_refusals) {
  if (summary.refused == summary.runs) return "-";
  char text[32];
  if (summary.error > 10)
    std::snprintf(text, sizeof text, "> 10");
  else
    std::snprintf(text, sizeof text, "%.2f", summary.error);
  std::string made = text;
  if (with_refusals && summary.refused > 0)
    made += " (" + std::to_string((100 * summary.refused + summary.runs / 2) / summary.runs) + ")";
  return made;
}

using Cells = std::map<std::string, std::map<std::string, Summary>>;

std::string table(const char* corner, const std::vector<std::string>& rows,
                  const std::vector<std::string>& columns, const Cells& cells, bool refusals) {
  std::string text = std::string("| ") + corner + " |";
  for (const auto& column : columns) text += " " + column + " |";
  text += "\n|---|";
  for (std::size_t i = 0; i < columns.size(); ++i) text += "--:|";
  for (const auto& row : rows) {
    text += "\n| " + row + " |";
    for (const auto& column : columns)
      text += " " + cell(cells.at(row).at(column), refusals) + " |";
  }
  return text + "\n";
}

std::string refusals_by_type(const Matrix& m) {
  std::string text = "| schedule |";
  for (const PredictionType& type : all_prediction_types)
    text += " " + std::string(name(type)) + " |";
  text += "\n|---|";
  for (std::size_t i = 0; i < std::size(all_prediction_types); ++i) text += "--:|";
  for (const auto& schedule : m.schedules) {
    text += "\n| " + schedule + " |";
    for (const PredictionType& type : all_prediction_types) {
      const Summary& one = m.by_type.at(schedule).at(std::string(name(type)));
      text += " " + std::to_string((100 * one.refused + one.runs / 2) / one.runs) + " |";
    }
  }
  return text + "\n";
}

std::string reasons(const Matrix& m) {
  std::vector<std::pair<int, std::string>> sorted;
  for (const auto& [reason, count] : m.reasons) sorted.emplace_back(-count, reason);
  std::sort(sorted.begin(), sorted.end());
  std::string text = "| runs | reason |\n|--:|---|\n";
  for (const auto& [count, reason] : sorted)
    text += "| " + std::to_string(-count) + " | " + reason + " |\n";
  return text;
}

void check_block(const std::string& name, const std::string& made) {
  INFO(name << " in docs/samplers.md; test-sampler-matrix \"[print]\" prints it");
  CHECK(generated::block("samplers.md", name) == made);
}

}  // namespace

TEST_CASE("Every combination is refused with a reason or is finite, keeps the laws and ends well") {
  const Matrix& m = matrix();
  std::string first;
  for (std::size_t i = 0; i < m.failures.size() && i < 20; ++i) first += m.failures[i] + "\n";
  INFO(m.failures.size() << " failures, first\n" << first);
  CHECK(m.failures.empty());
  const auto size = m.samplers.size() * m.schedules.size() * m.grids.size();
  CHECK(static_cast<std::size_t>(m.runs) == size * std::size(step_counts) * 2 * 7);
}

TEST_CASE("What is refused is what no formula could do") {
  const Matrix& m = matrix();
  // Away from alpha = 0, nothing but the sampler for another kind of schedule and steps that lead
  // nowhere: one step from timestep 0 to itself.
  for (const auto& sampler : m.samplers)
    for (const char* schedule : {"VP discrete", "VP linear", "VE"}) {
      CAPTURE(sampler, schedule);
      const Summary& one = m.by_schedule.at(sampler).at(schedule);
      const bool other = sampler == "Euler-Maruyama" && schedule == std::string("VE");
      CHECK((other ? one.refused == one.runs : one.refused <= one.runs / 12));
    }
  // v, flow and edm are defined at both ends.
  for (const auto& schedule : m.schedules) {
    const auto& row = m.by_type.at(schedule);
    CAPTURE(schedule);
    for (const char* type : {"sample", "flow", "edm", "data_flow"})
      CHECK(row.at(type).refused == row.at("v").refused);
    CHECK(row.at("epsilon").refused == row.at("score").refused);
    CHECK(row.at("epsilon").refused >= row.at("v").refused);
  }
}

TEST_CASE("docs/samplers.md shows the matrix as it is") {
  const Matrix& m = matrix();
  check_block("matrix by schedule", table("sampler", m.samplers, m.schedules, m.by_schedule, true));
  check_block("matrix by grid", table("sampler", m.samplers, m.grids, m.by_grid, false));
  check_block("refusals by prediction type", refusals_by_type(m));
  check_block("reasons", reasons(m));
}

TEST_CASE("The tables, printed", "[.print]") {
  const Matrix& m = matrix();
  const auto print = [](const std::string& name, const std::string& text) {
    std::cout << "<!-- " << name << ": made by tests/test_sampler_matrix.cpp -->\n"
              << text << "<!-- end of " << name << " -->\n\n";
  };
  print("matrix by schedule", table("sampler", m.samplers, m.schedules, m.by_schedule, true));
  print("matrix by grid", table("sampler", m.samplers, m.grids, m.by_grid, false));
  print("refusals by prediction type", refusals_by_type(m));
  print("reasons", reasons(m));
}
