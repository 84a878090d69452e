// Where grids put their steps, and what that is worth to DDIM on data whose perfect network is
// known: three narrow peaks on a line. Prints the errors as a table.
#include <diffusion/diffusion.hpp>
#include <diffusion/schedule/sigma_spacing.hpp>
#include <support/canvas.hpp>

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

namespace {

using diffusion::GridOptions;
using diffusion::SigmaRule;

const auto schedule =
    diffusion::NoiseSchedule<>::scaled_linear({.beta_start = 0.00085, .beta_end = 0.012});

struct Rule {
  const char* name;
  GridOptions options;
};

const std::array rules{
    Rule{"trailing", {.spacing = diffusion::TimestepSpacing::trailing}},
    Rule{"karras", {.sigmas = {.rule = SigmaRule::karras}}},
    Rule{"exponential", {.sigmas = {.rule = SigmaRule::exponential}}},
    Rule{"beta", {.sigmas = {.rule = SigmaRule::beta}}},
    Rule{"beta_times", {.sigmas = {.rule = SigmaRule::beta_times}}},
    Rule{"kl_optimal", {.sigmas = {.rule = SigmaRule::kl_optimal}}},
    Rule{"align_your_steps", {.sigmas = {.rule = SigmaRule::align_your_steps}}},
};

// The data: sum of weight N(mean, deviation^2).
struct Peak {
  double weight, mean;
};
constexpr std::array peaks{Peak{0.5, -0.8}, Peak{0.3, 0.1}, Peak{0.2, 0.7}};
constexpr double deviation = 0.05;

/// The share of x / alpha below z where sigma / alpha = s.
double share_below(double z, double s) {
  double share = 0;
  for (const Peak& peak : peaks)
    share +=
        peak.weight * std::erfc((peak.mean - z) / std::sqrt(2.0) / std::hypot(deviation, s)) / 2;
  return share;
}

double quantile(double share, double s) {
  double low = -100 - 10 * s, high = -low;
  for (int i = 0; i < 200; ++i) {
    const double middle = (low + high) / 2;
    (share_below(middle, s) < share ? low : high) = middle;
  }
  return (low + high) / 2;
}

/// E[x0 | x]: what the perfect network answers.
double perfect_x0(double x, const diffusion::Knot& at) {
  const double z = x / at.alpha, s = at.sigma / at.alpha;
  const double variance = deviation * deviation + s * s;
  double total = 0, sum = 0;
  for (const Peak& peak : peaks) {
    const double off = z - peak.mean;
    const double density = peak.weight * std::exp(-off * off / (2 * variance));
    total += density;
    sum += density * (peak.mean + deviation * deviation / variance * off);
  }
  return sum / total;
}

/// Root mean square distance from where the exact flow leads: it keeps every point's quantile.
double ddim_error(int steps, const GridOptions& options) {
  const diffusion::DdimSampler ddim{schedule, {.steps = steps, .grid = options}};
  const diffusion::SamplingPlan plan = ddim.plan();
  const diffusion::Knot start = plan.stages().front().at;
  double sum = 0;
  constexpr int points = 500;
  for (int i = 0; i < points; ++i) {
    const double share = (i + 0.5) / points;
    double x = start.alpha * quantile(share, start.sigma / start.alpha);
    for (const diffusion::Stage& stage : plan.stages()) {
      const double x0 = perfect_x0(x, stage.at);
      x = stage.x0 * x0 + stage.eps * (x - stage.at.alpha * x0) / stage.at.sigma;
    }
    const double off = x - quantile(share, 0);
    sum += off * off;
  }
  return std::sqrt(sum / points);
}

examples::Series line(std::size_t rule) {
  return {.label = rules[rule].name,
          .color = examples::series_color(rule),
          .line_width = 1.4,
          .dot_radius = 2.5};
}

void add_levels(examples::Panel& levels, examples::Panel& times) {
  for (std::size_t r = 0; r < rules.size(); ++r) {
    examples::Series by_level = line(r), by_time = line(r);
    const diffusion::Grid grid = diffusion::make_grid(schedule, 12, rules[r].options);
    for (int i = 0; i < grid.size(); ++i) {
      const diffusion::Knot& at = grid[i].from;
      by_level.points.push_back({static_cast<double>(i), at.sigma / at.alpha});
      by_time.points.push_back({static_cast<double>(i), at.t});
    }
    levels.series.push_back(by_level);
    times.series.push_back(by_time);
  }
}

void add_errors(examples::Panel& errors) {
  std::printf("error with     5       10      20      50 steps\n");
  for (std::size_t r = 0; r < rules.size(); ++r) {
    examples::Series series = line(r);
    std::printf("%-16s", rules[r].name);
    for (const int steps : {3, 5, 7, 10, 14, 20, 28, 40, 50, 80, 120}) {
      const double error = ddim_error(steps, rules[r].options);
      series.points.push_back({static_cast<double>(steps), error});
      if (steps == 5 || steps == 10 || steps == 20 || steps == 50) std::printf("  %.4f", error);
    }
    std::printf("\n");
    errors.series.push_back(series);
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const std::string file = argc > 1 ? argv[1] : "grids.png";
    examples::Panel levels{.title = "12 steps: sigma / alpha",
                           .x = {.label = "step"},
                           .y = {.low = 0.02, .high = 30, .logarithmic = true},
                           .legend = examples::Legend::lower_left};
    examples::Panel times{.title = "the same: timestep told",
                          .x = {.label = "step"},
                          .legend = examples::Legend::none};
    examples::Panel errors{.title = "error of DDIM on three peaks",
                           .x = {.label = "steps", .logarithmic = true},
                           .y = {.low = 0.01, .high = 1, .logarithmic = true},
                           .legend = examples::Legend::none};
    add_levels(levels, times);
    add_errors(errors);
    const std::array panels{levels, times, errors};
    examples::write_png(file, examples::draw_panels(panels, 3, 430, 400));
    std::printf("wrote %s\n", file.c_str());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "grids: %s\n", error.what());
    return 1;
  }
}
