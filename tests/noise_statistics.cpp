// Statistics of the noise on as many numbers as one likes: moments, distribution, independence of
// neighbours in every direction, and the random words below. docs/noise-statistics.md shows what
// came out. With --bits it writes the words themselves, for the batteries of others:
//   noise-statistics --bits | dieharder -g 200 -a
#include <support/canvas.hpp>
#include <support/command_line.hpp>
#include <support/image.hpp>
#include <support/progress.hpp>

#include <CLI/CLI.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <limits>
#include <string>
#include <vector>

#include "noise_statistics/discretisation.hpp"
#include "noise_statistics/report.hpp"
#include "noise_statistics/sources.hpp"

namespace {

using namespace statistics;

struct Settings {
  std::uint64_t numbers = 100'000'000;
  std::uint64_t seed = 1;
  std::uint64_t start = 0;
  std::string fault, figure;
  std::string order = "elements";
  bool bits = false;
};

int write_bits(const Source& source, const Settings& settings) {
  const auto order = static_cast<Order>(
      std::find(order_names.begin(), order_names.end(), settings.order) - order_names.begin());
  std::vector<std::uint32_t> w(1u << 14);
  for (std::uint64_t done = 0;; done += w.size()) {
    ordered_words(source, order, {settings.seed, settings.start, settings.start, 0}, done, w);
    if (std::fwrite(w.data(), sizeof w[0], w.size(), stdout) != w.size()) return 0;
  }
}

// ---- the report
// ----------------------------------------------------------------------------------

void print(const std::vector<Result>& all) {
  std::string group;
  for (const Result& r : all) {
    if (r.group != group) {
      group = r.group;
      std::printf("\n%s\n%-54s %10s %14s %14s %12s %7s %9s\n", group.c_str(), "", "numbers",
                  "value", "expected", "+-", "z", "p");
    }
    std::printf("%-54s %10.4g %14.8g", r.name.c_str(), r.count, r.value);
    if (r.error > 0)
      std::printf(" %14.8g %12.3g %7.2f", r.expected, r.error, (r.value - r.expected) / r.error);
    else
      std::printf(" %14s %12s %7s", "", "", "");
    const double p = r.tails.two_sided();
    std::printf(" %9.2g%s\n", p, p < 1e-9 ? "  FAULT" : p < 1e-3 ? "  small" : "");
  }
}

void print_discretisation() {
  std::printf("\nwhat 2^30 radii and 2^24 angles change, by sums over all of them\n");
  const auto moments = moment_errors(std::uint64_t{1} << 30);
  for (std::size_t k = 0; k < moments.size(); ++k)
    std::printf("E[x^%zu] is that of a normal times 1 %+.2e\n", 2 * k + 2, moments[k]);
  for (const double bound : {3.0, 4.0, 5.0, 5.5, 6.0, 6.25, 6.5})
    std::printf("P(x > %-4g) is %.4e, a normal's %.4e, ratio 1 %+.2e\n", bound, exact_tail(bound),
                normal_below(-bound), exact_tail(bound) / normal_below(-bound) - 1);
  const double largest = std::sqrt(62 * std::log(2.0));
  std::printf("largest |x| %.4f; a normal lies beyond it with probability %.2e\n", largest,
              2 * normal_below(-largest));
}

/// The one-sided p-values, sorted, without those of results that only repeat others.
std::vector<double> independent_p_values(const std::vector<Result>& all) {
  std::vector<double> p;
  for (const Result& r : all)
    if (!r.again) p.push_back(r.tails.above);
  std::sort(p.begin(), p.end());
  return p;
}

/// The share of p-values below each limit beside what chance gives.
void print_verdict(const std::vector<Result>& all) {
  std::printf("\n%zu results; two-sided p below", all.size());
  for (const double limit : {0.1, 0.01, 0.001, 0.0001}) {
    const auto below = std::count_if(all.begin(), all.end(),
                                     [&](const Result& r) { return r.tails.two_sided() < limit; });
    std::printf(" %g: %ld (%.1f expected);", limit, static_cast<long>(below),
                limit * static_cast<double>(all.size()));
  }
  const Result& least = least_likely(all);
  std::printf("\nleast p %.2g: %s: %s\n", least.tails.two_sided(), least.group.c_str(),
              least.name.c_str());
  const Result uniform = uniform_result("", "", independent_p_values(all));
  std::printf(
      "p-values of the %.0f results that do not repeat others, against uniform: "
      "Kolmogorov-Smirnov %.3f, p %.2g\n",
      uniform.count, uniform.value, uniform.tails.above);
}

// ---- the figure
// ----------------------------------------------------------------------------------

examples::Panel density_panel(const NormalStream& stream) {
  examples::Panel panel{.title = "density of " + std::to_string(std::lround(stream.count() / 1e6)) +
                                 " million normals",
                        .x = {.label = "x", .low = -7, .high = 7},
                        .y = {.low = 1e-10, .high = 1, .logarithmic = true},
                        .legend = examples::Legend::lower_center};
  const Histogram& histogram = stream.histogram();
  constexpr std::size_t together = 8;  // cells of 1/64 to one of 1/8
  std::vector<examples::Point> measured;
  for (std::size_t i = 0; i < histogram.cells(); i += together) {
    double sum = 0;
    for (std::size_t k = 0; k < together; ++k) sum += histogram.count(i + k);
    const double middle = histogram.left(i) + 0.0625;
    if (sum > 0) measured.push_back({middle, sum / (stream.count() * 0.125)});
  }
  std::vector<double> x, y;
  for (double at = -6.9; at <= 6.9; at += 0.05) {
    x.push_back(at);
    y.push_back(normal_density(at));
  }
  panel.add_line("exp(-x^2/2) / sqrt(2 pi)", x, y);
  panel.add_dots("PhiloxNoise", measured, examples::series_color(1), 2.2);
  return panel;
}

examples::Panel deviation_panel(const NormalStream& stream) {
  examples::Panel panel{.title = "counts in cells of 1/64, in standard deviations",
                        .x = {.label = "x", .low = -7, .high = 7},
                        .y = {.low = -5, .high = 5},
                        .legend = examples::Legend::none};
  const Histogram& histogram = stream.histogram();
  const auto probability = histogram.probabilities();
  std::vector<examples::Point> points;
  for (std::size_t i = 0; i < histogram.cells(); ++i) {
    const double expected = probability[i] * stream.count();
    if (expected > 10)
      points.push_back(
          {histogram.left(i) + 1.0 / 128, (histogram.count(i) - expected) / std::sqrt(expected)});
  }
  panel.add_dots("", points, examples::series_color(0), 1.8);
  return panel;
}

examples::Panel p_value_panel(const std::vector<Result>& all) {
  const auto p = independent_p_values(all);
  examples::Panel panel{.title = std::to_string(p.size()) + " p-values, sorted",
                        .x = {.label = "rank / number of results", .low = 0, .high = 1},
                        .y = {.label = "p", .low = 0, .high = 1},
                        .legend = examples::Legend::upper_left};
  std::vector<examples::Point> points;
  for (std::size_t i = 0; i < p.size(); ++i)
    points.push_back({(static_cast<double>(i) + 0.5) / static_cast<double>(p.size()), p[i]});
  panel.add_line("uniform", std::array{0.0, 1.0}, std::array{0.0, 1.0});
  panel.add_dots("P(statistic >= measured)", points, examples::series_color(1), 2.2);
  return panel;
}

int report(const Source& source, const Settings& settings) {
  // Tested: the normals once, as many of addresses, a quarter as many words in each order, and of
  // PyTorch's generator a quarter.
  const std::uint64_t quarter = settings.numbers / 4;
  std::uint64_t done = 0;
  const std::uint64_t total = 3 * settings.numbers + quarter;
  examples::Progress progress("numbers, millions", static_cast<long>(total / 1'000'000) + 1);
  const Advance advance = [&](std::uint64_t more) {
    done += more;
    progress.update(static_cast<long>(done / 1'000'000));
  };
  NormalStream stream;
  auto all = test_normals(source, settings.seed, settings.numbers, advance, stream);
  append(all, test_addresses(source, settings.seed, settings.numbers, advance));
  append(all, test_bits(source, settings.seed, quarter, advance));
  append(all, test_torch(settings.seed, quarter, advance));
  append(all, avalanche_results("Philox 4x32-10, one block", 4096));
  progress.update(std::numeric_limits<long>::max());

  print(all);
  std::printf("\nlowest and highest of the %.4g normals: %.4f and %.4f\n", stream.count(),
              stream.lowest(), stream.highest());
  print_discretisation();
  print_verdict(all);
  if (!settings.figure.empty()) {
    const std::vector<examples::Panel> panels{density_panel(stream), deviation_panel(stream),
                                              p_value_panel(all)};
    examples::write_png(settings.figure, examples::draw_panels(panels, 3, 400, 330));
    std::printf("wrote %s\n", settings.figure.c_str());
  }
  return least_likely(all).tails.two_sided() < 1e-9 ? 1 : 0;
}

int run(int argc, char** argv) {
  Settings settings;
  CLI::App app(
      "Tests the noise source PhiloxNoise and prints what was measured beside what a\n"
      "perfect source gives; exit code 1 when that is not credible (p < 1e-9).");
  app.footer(
      "examples:\n"
      "  noise-statistics --numbers 1000000000 --figure noise-statistics.png\n"
      "  noise-statistics --fault \"variance half a percent too large\"\n"
      "  noise-statistics --bits --order draws --seed 7 | dieharder -g 200 -a");
  examples::add_whole_number<std::uint64_t>(app, "--numbers", settings.numbers, 4'000'000,
                                            1'000'000'000'000, "how many normals are tested");
  examples::add_whole_number<std::uint64_t>(app, "--seed", settings.seed, 0,
                                            std::numeric_limits<std::uint64_t>::max(), "the seed");
  app.add_option("--figure", settings.figure, "draws densities and p-values as a PNG file");
  app.add_option("--fault", settings.fault,
                 "tests a source with this fault instead (any other word lists them)");
  app.add_flag("--bits", settings.bits, "writes the random words to standard output, without end");
  app.add_option("--order", settings.order,
                 "of the words: along the elements, or 16 elements each of one of the samples, "
                 "draws or seeds after another")
      ->check(CLI::IsMember({"elements", "samples", "draws", "seeds"}))
      ->capture_default_str();
  examples::add_whole_number<std::uint64_t>(app, "--start", settings.start, 0, 1'000'000'000,
                                            "sample and draw where the words begin");
  CLI11_PARSE(app, argc, argv);
  const Source source = settings.fault.empty() ? philox_source() : fault_named(settings.fault);
  return settings.bits ? write_bits(source, settings) : report(source, settings);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "noise-statistics: %s\n", error.what());
    return 2;
  }
}
