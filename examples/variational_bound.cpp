// The variational bound, term by term, where the exact denoiser is known: which steps cost how
// much, and how far above -log p the sum lies for T steps.
#include <diffusion/forward/variational_bound.hpp>
#include <diffusion/schedule/continuous.hpp>
#include <diffusion/schedule/schedule.hpp>
#include <support/canvas.hpp>
#include <support/image.hpp>

#include <cmath>
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

namespace {

/// Data that is -0.6 or 0.6, each with a deviation of 0.2. Whatever the noise, the state has two
/// bumps as well, and the perfect estimate of x0 and its error are known.
struct TwoBumps {
  double place = 0.6, deviation = 0.2;

  double variance(const diffusion::Knot& at) const {  // of a bump of the state
    return at.alpha * at.alpha * deviation * deviation + at.sigma * at.sigma;
  }
  double density(double x, const diffusion::Knot& at) const {
    const double width = std::sqrt(variance(at)), m = at.alpha * place;
    return (diffusion::normal_density((x - m) / width) +
            diffusion::normal_density((x + m) / width)) /
           (2 * width);
  }
  /// Var[x0 | x]: within the bumps, and between them where x does not tell which it is.
  double error(double x, const diffusion::Knot& at) const {
    const double v = variance(at), side = std::tanh(at.alpha * place * x / v);
    const double between = place * at.sigma * at.sigma / v;
    return deviation * deviation * at.sigma * at.sigma / v + between * between * (1 - side * side);
  }
  double mean_square() const { return place * place + deviation * deviation; }

  /// The mean of f(x) over the state, by the trapezoid rule.
  template <class F>
  double mean_over(const diffusion::Knot& at, const F& f) const {
    const double reach = at.alpha * place + 10 * std::sqrt(variance(at));
    constexpr int steps = 1500;
    double sum = 0;
    for (int i = 0; i <= steps; ++i) {
      const double x = reach * (2.0 * i / steps - 1);
      sum += density(x, at) * f(x);
    }
    return sum * 2 * reach / steps;
  }
  double entropy() const {
    const diffusion::Knot clean{0, 1, 0};
    return mean_over(clean, [&](double x) { return -std::log(density(x, clean)); });
  }
};

/// The expected bound over T even steps of a schedule.
template <class S>
diffusion::BoundTerms bound_of(const TwoBumps& data, const S& schedule, int steps,
                               diffusion::VarianceType type) {
  std::vector<diffusion::Knot> levels;
  std::vector<double> errors;
  for (int i = 1; i <= steps; ++i) {
    const diffusion::Knot at = diffusion::knot_at(schedule, static_cast<double>(i) / steps);
    levels.push_back(at);
    errors.push_back(data.mean_over(at, [&](double x) { return data.error(x, at); }));
  }
  const diffusion::VariationalBound bound(
      levels, {.variance = type, .decoder = diffusion::Decoder::continuous});
  return bound.expected(errors, data.mean_square());
}

struct Figure {
  TwoBumps data{};
  double entropy = data.entropy();
  examples::Panel terms{.title = "bits a dimension of step t, T = 1000",
                        .x = {.label = "t", .logarithmic = true},
                        .y = {.logarithmic = true},
                        .legend = examples::Legend::lower_left};
  examples::Panel sum{.title = "decoder and steps up to t, T = 1000",
                      .x = {.label = "t", .logarithmic = true},
                      .y = {.label = "bits a dimension"},
                      .legend = examples::Legend::lower_right};
  examples::Panel gap{.title = "bound above -log p",
                      .x = {.label = "T", .logarithmic = true},
                      .y = {.label = "bits a dimension", .logarithmic = true},
                      .legend = examples::Legend::lower_left};

  template <class S>
  void add(const std::string& name, const S& schedule) {
    using diffusion::VarianceType;
    for (const VarianceType type : {VarianceType::fixed_large, VarianceType::fixed_small}) {
      const bool large = type == VarianceType::fixed_large;
      const std::string label = name + (large ? ", large" : ", small");
      const auto result = bound_of(data, schedule, 1000, type);
      std::vector<double> at, one, sums, counts, gaps;
      double so_far = result.decoder;
      for (std::size_t i = 0; i < result.steps.size(); ++i) {
        at.push_back(static_cast<double>(i) + 2);
        one.push_back(diffusion::bits(result.steps[i]));
        sums.push_back(diffusion::bits(so_far += result.steps[i]));
      }
      terms.add_line(label, at, one);
      sum.add_line(label, at, sums);
      for (const int steps : {10, 20, 50, 100, 200, 500, 1000, 2000, 4000}) {
        counts.push_back(steps);
        gaps.push_back(diffusion::bits(bound_of(data, schedule, steps, type).total() - entropy));
      }
      gap.add_line(label, counts, gaps);
      std::printf("%-14s prior %.2g, gap at T = 10, 100, 1000, 4000: %.4f %.4f %.5f %.5f\n",
                  label.c_str(), diffusion::bits(result.prior), gaps[0], gaps[3], gaps[6], gaps[8]);
    }
  }
};

}  // namespace

int main(int argc, char** argv) {
  try {
    const std::string file = argc > 1 ? argv[1] : "variational-bound.png";
    Figure figure;
    figure.add("linear", diffusion::VpLinear{});
    figure.add("cosine", diffusion::VpCosine{});
    const double bits = diffusion::bits(figure.entropy);
    figure.sum.series.push_back({.label = "-log p",
                                 .points = {{1, bits}, {1000, bits}},
                                 .color = examples::black,
                                 .line_width = 1});
    const std::vector<examples::Panel> panels{figure.terms, figure.sum, figure.gap};
    examples::write_png(file, examples::draw_panels(panels, 3, 430, 360));
    std::printf("-log p = %.5f bits a dimension; wrote %s\n", bits, file.c_str());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "variational-bound: %s\n", error.what());
    return 1;
  }
}
