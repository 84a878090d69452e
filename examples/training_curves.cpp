// Training in pictures: how much each loss weighting counts an error at each noise level, in x0 and
// on the output of a v-network, and how often each distribution visits it.
#include <diffusion/forward/level_distribution.hpp>
#include <diffusion/forward/loss_weighting.hpp>
#include <diffusion/schedule/knot.hpp>
#include <diffusion/schedule/noise_schedule.hpp>
#include <support/canvas.hpp>
#include <support/image.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

namespace {

constexpr double low = -10, high = 10;  // log SNR

/// alpha^2 + sigma^2 = 1 at this log SNR.
diffusion::Knot level(double log_snr) {
  return {0, 1 / std::sqrt(1 + std::exp(-log_snr)), 1 / std::sqrt(1 + std::exp(log_snr))};
}

struct Weightings {
  examples::Panel in_x0{.title = "weight of the error of x0",
                        .x = {.label = "log SNR"},
                        .y = {.low = 1e-6, .high = 1e4, .logarithmic = true},
                        .legend = examples::Legend::lower_right};
  examples::Panel in_v{.title = "weight of the error of a v-network",
                       .x = {.label = "log SNR"},
                       .y = {.low = 1e-6, .high = 1e4, .logarithmic = true},
                       .legend = examples::Legend::none};

  template <class W>
  void add(const std::string& name, const W& weighting) {
    std::vector<double> at, x0, v;
    for (double log_snr = low; log_snr <= high; log_snr += 0.05) {
      const diffusion::Knot knot = level(log_snr);
      at.push_back(log_snr);
      x0.push_back(weighting(knot).on_x0);
      v.push_back(diffusion::output_weight(weighting, knot, diffusion::PredictionType::v));
    }
    in_x0.add_line(name, at, x0);
    in_v.add_line(name, at, v);
    // Thinner and thinner, so that a line under another is seen.
    const auto before = static_cast<double>(in_x0.series.size() - 1);
    in_x0.series.back().line_width = in_v.series.back().line_width = 6 - 0.6 * before;
  }
};

/// The levels of a hundred thousand stratified uniforms, counted in bins of log SNR.
template <class D, class LogSnr>
void add_visits(examples::Panel& panel, const std::string& name, const D& distribution,
                const LogSnr& log_snr) {
  constexpr int count = 100'000;
  std::array<int, 96> bins{};
  const double width = (high - low) / static_cast<double>(bins.size());
  for (const double x :
       diffusion::draw_levels(distribution, diffusion::PhiloxUniforms{1}, 0, count)) {
    const double bin = std::floor((log_snr(x) - low) / width);
    if (bin >= 0 && bin < static_cast<double>(bins.size())) ++bins[static_cast<std::size_t>(bin)];
  }
  std::vector<double> at, density;
  for (std::size_t i = 0; i < bins.size(); ++i) {
    at.push_back(low + (static_cast<double>(i) + 0.5) * width);
    density.push_back(bins[i] / (count * width));
  }
  panel.add_line(name, at, density);
}

examples::Panel visits() {
  examples::Panel panel{.title = "how often a level is visited",
                        .x = {.label = "log SNR"},
                        .y = {.label = "density", .low = 0, .high = 0.3},
                        .legend = examples::Legend::upper_left};
  const auto linear = diffusion::NoiseSchedule<>::linear();
  const auto cosine = diffusion::NoiseSchedule<>::squaredcos_cap_v2();
  add_visits(panel, "uniform, linear", diffusion::UniformTimes{0, 999},
             [&](double t) { return linear.log_snr(t); });
  add_visits(panel, "uniform, cosine", diffusion::UniformTimes{0, 998},
             [&](double t) { return cosine.log_snr(t); });
  add_visits(panel, "EDM log-normal", diffusion::LogNormalSigmas{},
             [](double sigma) { return -2 * std::log(sigma); });
  add_visits(panel, "logit-normal, flow", diffusion::LogitNormalTimes{},
             [](double t) { return 2 * std::log((1 - t) / t); });
  return panel;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    using diffusion::PredictionType;
    const std::string file = argc > 1 ? argv[1] : "training-curves.png";
    Weightings weightings;
    weightings.add("constant, eps", diffusion::ConstantWeighting{PredictionType::epsilon});
    weightings.add("constant, v", diffusion::ConstantWeighting{PredictionType::v});
    weightings.add("constant, x0", diffusion::ConstantWeighting{PredictionType::sample});
    weightings.add("truncated SNR", diffusion::TruncatedSnrWeighting{});
    weightings.add("min-SNR-5", diffusion::MinSnrWeighting{5});
    weightings.add("soft min-SNR-5", diffusion::SoftMinSnrWeighting{5});
    weightings.add("P2, gamma 1", diffusion::P2Weighting{{.k = 1, .gamma = 1}});
    weightings.add("EDM", diffusion::EdmWeighting{0.5});
    const std::vector<examples::Panel> panels{weightings.in_x0, weightings.in_v, visits()};
    examples::write_png(file, examples::draw_panels(panels, 3, 430, 420));
    std::printf("wrote %s\n", file.c_str());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "training-curves: %s\n", error.what());
    return 1;
  }
}
