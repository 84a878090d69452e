// Error against network calls for all samplers, where the right answer is known: three peaks on a
// line. Samplers of the ODE are compared with where the exact flow leads from the same noise; those
// that add noise can only be compared by the distribution of their points. Prints the numbers as
// Markdown tables.
#include <compared_samplers.hpp>
#include <diffusion/sampling/adaptive.hpp>
#include <diffusion/schedule/noise_schedule.hpp>
#include <support/canvas.hpp>
#include <support/progress.hpp>
#include <three_peaks.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <functional>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

using diffusion::GridOptions;
using diffusion::Knot;
using diffusion::SamplingPlan;
using diffusion::SigmaRule;
using examples::Kind;
using examples::three_peaks::Points;
using Sampler = examples::ComparedSampler<diffusion::NoiseSchedule<>>;

const auto schedule = diffusion::NoiseSchedule<>::scaled_linear(
    {.beta_start = 0.00085, .beta_end = 0.012});  // Stable Diffusion's
constexpr int ode_points = 1000, law_points = 20'000;
const std::vector<int> ode_calls{4, 5, 6, 8, 10, 14, 20, 28, 40, 50, 64, 90, 128};
const std::vector<int> table_calls{4, 10, 20, 50, 128};

struct GridRule {
  std::string name;
  GridOptions options;
};

// All end at the least level of the schedule, s = sigma / alpha = 0.029: what a last jump to clean
// data adds is the same for all samplers, so it is left out.
const std::vector<GridRule> grid_rules{
    {"Karras", {.set_alpha_to_one = false, .sigmas = {.rule = SigmaRule::karras}}},
    {"uniform in log SNR", {.set_alpha_to_one = false, .sigmas = {.rule = SigmaRule::exponential}}},
    {"KL-optimal", {.set_alpha_to_one = false, .sigmas = {.rule = SigmaRule::kl_optimal}}},
    {"beta, of the times", {.set_alpha_to_one = false, .sigmas = {.rule = SigmaRule::beta_times}}},
    {"even in time", {.spacing = diffusion::TimestepSpacing::trailing, .set_alpha_to_one = false}},
};

// ---- what is measured ---------------------------------------------------------------------------

/// Calls and errors of one line of a panel or table.
struct Curve {
  std::string name{};
  std::vector<examples::Point> points{};

  /// The error at so many calls, or a few less where the method cannot use all; "-" for none.
  std::string at(int calls) const {
    const examples::Point* best = nullptr;
    for (const examples::Point& point : points)
      if (point.x <= calls && point.x > 0.85 * calls) best = &point;
    if (!best) return "-";
    std::array<char, 32> text{};
    std::snprintf(text.data(), text.size(), best->y < 1e-3 ? "%.5f" : "%.4f", best->y);
    return text.data();
  }
  Curve renamed(std::string other) const { return {std::move(other), points}; }
};

enum class Error { flow, law };

Curve curve_of(const Sampler& sampler, const GridOptions& grid, Error error,
               const std::vector<int>& budgets) {
  Curve curve{sampler.name, {}};
  for (const int budget : budgets) {
    const std::optional<SamplingPlan> plan = sampler.within(schedule, budget, grid);
    if (!plan) continue;
    curve.points.push_back({static_cast<double>(plan->network_calls()),
                            error == Error::law
                                ? examples::three_peaks::law_error(*plan, law_points)
                                : examples::three_peaks::flow_error(*plan, ode_points)});
  }
  return curve;
}

/// DPM-Solver that picks its steps by their error; the number of calls follows.
Curve adaptive_curve() {
  Curve curve{"adaptive DPM-Solver", {}};
  for (const double tolerance : {1.0, 0.2, 0.05, 0.01, 0.003, 0.001}) {
    const diffusion::AdaptiveOptions options{
        .rtol = tolerance, .atol = tolerance / 6, .first_step = 0.3, .denoise = false};
    const Knot start = diffusion::adaptive_start(schedule, options);
    const Points noise = examples::three_peaks::noise(ode_points, 1, 1);
    Points x = noise;
    const diffusion::AdaptiveResult result = diffusion::sample_adaptively(
        schedule, diffusion::exact_denoiser(examples::three_peaks::peaks()), x, options);
    curve.points.push_back(
        {static_cast<double>(result.network_calls),
         examples::three_peaks::flow_error(x, noise, start, result.knots.back())});
  }
  return curve;
}

constexpr Knot clean{0, 1, 0};

/// A perfect consistency model in LCM's sampler: what a distilled network would be at its best.
Curve distilled_curve() {
  Curve curve{"LCM, perfectly distilled network", {}};
  const auto network = [](const Points& x, const diffusion::Query& query, Points& out) {
    const Knot at{query.t, query.alpha, query.sigma};
    for (Eigen::Index i = 0; i < x.size(); ++i)
      out(i, 0) = examples::three_peaks::flow(x(i, 0), at, clean);
  };
  for (const int steps : {1, 4}) {
    const SamplingPlan plan = diffusion::LcmSampler{schedule, {.steps = steps}}.plan();
    Points x = examples::three_peaks::noise(law_points, plan.traits().initial_scale, 2);
    diffusion::sample_in_place(plan, network, x, diffusion::PhiloxNoise{2},
                               {.prediction_type = diffusion::PredictionType::sample});
    curve.points.push_back(
        {static_cast<double>(steps), examples::three_peaks::law_error(x, clean)});
  }
  return curve;
}

/// Points drawn from the data themselves: what lies below this cannot be told from it.
double least_law_error() {
  const diffusion::GaussianMixture data = examples::three_peaks::peaks();
  Points x(law_points, 1);
  for (int i = 0; i < law_points; ++i) {
    Eigen::VectorXd normals(data.normals());
    diffusion::PhiloxNoise{3}.fill(
        static_cast<std::uint64_t>(i), 0, 0,
        std::span<double>(normals.data(), static_cast<std::size_t>(normals.size())));
    x(i, 0) = data.from_normals(normals)[0];
  }
  return examples::three_peaks::law_error(x, clean);
}

/// Runs the jobs on all cores; `each` is called after every one, by one thread at a time.
void run_all(const std::vector<std::function<void()>>& jobs, const std::function<void()>& each) {
  std::atomic<std::size_t> next{0};
  std::mutex mutex;
  std::exception_ptr failure;
  const auto work = [&] {
    for (std::size_t i = next++; i < jobs.size(); i = next++) {
      try {
        jobs[i]();
        const std::lock_guard lock(mutex);
        each();
      } catch (...) {
        const std::lock_guard lock(mutex);
        failure = std::current_exception();
      }
    }
  };
  std::vector<std::thread> threads;
  for (unsigned k = 1; k < std::max(1U, std::thread::hardware_concurrency()); ++k)
    threads.emplace_back(work);
  work();
  for (std::thread& thread : threads) thread.join();
  if (failure) std::rethrow_exception(failure);
}

struct Measured {
  std::vector<Sampler> samplers = examples::compared_samplers<diffusion::NoiseSchedule<>>();
  std::vector<Curve> curves{};                // of each sampler, on Karras' grid
  std::vector<Curve> law_of_ode{};            // of DDIM and DPM++ 2M
  std::vector<std::vector<Curve>> by_grid{};  // of DDIM, DPM++ 2M and Heun, on each grid
  Curve adaptive{}, distilled{};

  const Sampler& named(const std::string& name) const {
    return *std::find_if(samplers.begin(), samplers.end(),
                         [&](const Sampler& sampler) { return sampler.name == name; });
  }
  std::vector<Curve> of(Kind kind) const {
    std::vector<Curve> chosen;
    for (std::size_t i = 0; i < samplers.size(); ++i)
      if (samplers[i].kind == kind) chosen.push_back(curves[i]);
    return chosen;
  }
};

Measured measure() {
  Measured all;
  const GridOptions& grid = grid_rules[0].options;
  const std::vector<Sampler> of_ode{all.named("DDIM"), all.named("DPM++ 2M")};
  const std::vector<Sampler> gridded{all.named("DDIM"), all.named("DPM++ 2M"), all.named("Heun")};
  all.curves.resize(all.samplers.size());
  all.law_of_ode.resize(of_ode.size());
  all.by_grid.resize(gridded.size(), std::vector<Curve>(grid_rules.size()));

  std::vector<std::function<void()>> jobs{[&] { all.adaptive = adaptive_curve(); },
                                          [&] { all.distilled = distilled_curve(); }};
  for (std::size_t i = 0; i < all.samplers.size(); ++i)
    jobs.push_back([&, i] {
      const bool noisy = all.samplers[i].stochastic();
      all.curves[i] = curve_of(all.samplers[i], grid, noisy ? Error::law : Error::flow,
                               noisy ? table_calls : ode_calls);
    });
  for (std::size_t i = 0; i < of_ode.size(); ++i)
    jobs.push_back(
        [&, i] { all.law_of_ode[i] = curve_of(of_ode[i], grid, Error::law, table_calls); });
  for (std::size_t i = 0; i < gridded.size(); ++i)
    for (std::size_t rule = 0; rule < grid_rules.size(); ++rule)
      jobs.push_back([&, i, rule] {
        all.by_grid[i][rule] =
            curve_of(gridded[i], grid_rules[rule].options, Error::flow, ode_calls)
                .renamed(gridded[i].name + ", " + grid_rules[rule].name);
      });
  examples::Progress progress("samplers", static_cast<long>(jobs.size()));
  run_all(jobs, [&] { progress.advance(); });
  return all;
}

// ---- what is shown ------------------------------------------------------------------------------

void print_table(const std::vector<Curve>& curves, const std::vector<int>& calls) {
  std::printf("\n| calls |");
  for (const int n : calls) std::printf(" %d |", n);
  std::printf("\n|---|");
  for (std::size_t i = 0; i < calls.size(); ++i) std::printf("---|");
  std::printf("\n");
  for (const Curve& curve : curves) {
    std::printf("| %s |", curve.name.c_str());
    for (const int n : calls) std::printf(" %s |", curve.at(n).c_str());
    std::printf("\n");
  }
}

void print(const Measured& all) {
  std::printf("Root mean square distance from where the exact flow leads from the same noise:\n");
  for (const Kind kind : {Kind::multistep_x0, Kind::multistep_eps, Kind::single_step})
    print_table(all.of(kind), table_calls);
  std::vector<int> calls;  // that the tolerances led to
  for (const examples::Point& point : all.adaptive.points)
    calls.push_back(static_cast<int>(point.x));
  print_table({all.adaptive}, calls);
  for (const std::vector<Curve>& curves : all.by_grid) print_table(curves, table_calls);
  std::printf(
      "\nMean distance of the points' distribution from the data's (perfect points: %.4f):\n",
      least_law_error());
  for (const Kind kind : {Kind::stochastic, Kind::stochastic_two})
    print_table(all.of(kind), table_calls);
  print_table(all.law_of_ode, table_calls);
  print_table({all.distilled}, {1, 4});
}

examples::Panel panel_of(const std::string& title, const std::string& label,
                         const std::vector<Curve>& curves, const Curve* compared = nullptr) {
  examples::Panel panel{
      .title = title,
      .x = {.label = "network calls, 4 to 128", .low = 3.6, .high = 142, .logarithmic = true},
      .y = {.label = label, .low = 1e-5, .high = 1, .logarithmic = true},
      .legend = examples::Legend::lower_left};
  if (compared)
    panel.series.push_back({.label = compared->name,
                            .points = compared->points,
                            .color = examples::Color{190, 190, 190},
                            .line_width = 4});
  for (std::size_t i = 0; i < curves.size(); ++i)
    panel.series.push_back({.label = curves[i].name,
                            .points = curves[i].points,
                            .color = examples::series_color(i),
                            .line_width = 1.5,
                            .dot_radius = 2.5});
  return panel;
}

examples::Panel law_panel(const std::string& title, const Measured& all, Kind kind) {
  const Curve ddim = all.law_of_ode[0].renamed("DDIM, no noise");
  examples::Panel panel = panel_of(title, "distance of distributions", all.of(kind), &ddim);
  const double least = least_law_error();
  panel.series.push_back({.label = "perfect points",
                          .points = {{3.6, least}, {142, least}},
                          .color = examples::black,
                          .line_width = 1});
  return panel;
}

examples::Image picture(const Measured& all) {
  const std::string label = "distance from the exact flow";
  const Curve& ddim = all.curves[0];
  std::vector<Curve> x0 = all.of(Kind::multistep_x0), single = all.of(Kind::single_step);
  x0.erase(x0.begin());  // DDIM
  single.push_back(all.adaptive);
  std::vector<Curve> grids;
  for (std::size_t rule = 0; rule < grid_rules.size(); ++rule)
    grids.push_back(all.by_grid[1][rule].renamed(grid_rules[rule].name));
  const std::array panels{
      panel_of("one call a step, from x0", label, x0, &ddim),
      panel_of("one call a step, from epsilon", label, all.of(Kind::multistep_eps), &ddim),
      panel_of("several calls a step", label, single, &ddim),
      law_panel("adding noise, one call a step", all, Kind::stochastic),
      law_panel("adding noise, several calls a step", all, Kind::stochastic_two),
      panel_of("DPM++ 2M on five grids", label, grids)};
  return examples::draw_panels(panels, 3, 450, 430);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const std::string file = argc > 1 ? argv[1] : "sampler-errors.png";
    const Measured all = measure();
    print(all);
    examples::write_png(file, picture(all));
    std::printf("\nwrote %s\n", file.c_str());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "compare-samplers: %s\n", error.what());
    return 1;
  }
}
