// What samplers make of the same noise in 4, 8, 16 and 32 network calls, beside what they make of
// it in 1,000, on the bundled network. Prints how far they are from there, as Markdown tables.
// Samplers that add noise see one Brownian path each, so that more calls refine the same picture.
#include <compared_samplers.hpp>
#include <diffusion/noise/brownian_noise.hpp>
#include <support/canvas.hpp>
#include <support/contact_sheet.hpp>
#include <support/progress.hpp>
#include <support/studio.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace {

using examples::Pictures;
using Sampler = examples::ComparedSampler<diffusion::NoiseSchedule<>>;

const std::vector<int> labels{2, 4, 6, 9, 11, 14, 15, 18};  // picture k has seed k
constexpr std::array<std::size_t, 4> shown{0, 2, 4, 6};     // of them in the picture
constexpr std::array<int, 4> budgets{4, 8, 16, 32};
constexpr int reference_calls = 1000;

const diffusion::GridOptions beta_times{.sigmas = {.rule = diffusion::SigmaRule::beta_times}};

/// A seed for each picture of the batch: 0, 1, 2, ...
class SeedForEach {
 public:
  explicit SeedForEach(const diffusion::SamplingPlan& plan) {
    for (std::size_t k = 0; k < labels.size(); ++k) paths_.emplace_back(k, plan);
  }
  template <class Real>
  void fill(std::uint64_t picture, std::uint64_t draw, std::uint64_t element,
            std::span<Real> out) const {
    paths_[static_cast<std::size_t>(picture)].fill(0, draw, element, out);
  }

 private:
  std::vector<diffusion::BrownianNoise> paths_;
};

/// The network under one guidance scale.
class Painter {
 public:
  Painter(examples::Studio& studio, double guidance, examples::Progress& progress)
      : studio_(studio), guidance_(guidance), progress_(progress) {}

  diffusion::NoiseSchedule<> schedule() const { return studio_.schedule(); }

  Pictures sample(const diffusion::SamplingPlan& plan) {
    examples::Model& model = studio_.model();
    const SeedForEach noise(plan);
    Pictures x = studio_.noise(labels.size(), 0);
    const std::size_t size = static_cast<std::size_t>(x.size()) / labels.size();
    for (std::size_t k = 0; k < labels.size(); ++k)
      noise.fill(k, 0, 0, std::span<float>(x.data() + k * size, size));
    diffusion::ClassifierFreeGuidance guided{
        examples::conditional(model.network), labels, model.null_class(), {.scale = guidance_}};
    diffusion::sample_in_place(plan, guided, x, noise,
                               {.prediction_type = model.scheduler.prediction_type},
                               [&](const auto&) { progress_.advance(); });
    return x;
  }

 private:
  examples::Studio& studio_;
  double guidance_;
  examples::Progress& progress_;
};

/// Root mean square of a - b over all pixels.
double distance(const Pictures& a, const Pictures& b) {
  const Eigen::Tensor<float, 0, Eigen::RowMajor> mean = (a - b).square().mean();
  return std::sqrt(static_cast<double>(mean(0)));
}

/// What one sampler made within each budget, and what there is to compare it with.
struct Row {
  std::string name;
  std::vector<std::optional<Pictures>> pictures;
  std::optional<Pictures> reference;

  /// The distance from the reference, "-" where a picture is missing.
  std::string error(std::size_t i) const {
    if (!pictures[i] || !reference) return "-";
    std::array<char, 32> text{};
    std::snprintf(text.data(), text.size(), "%.4f", distance(*pictures[i], *reference));
    return text.data();
  }
};

Row row_of(const Sampler& sampler, Painter& painter, const diffusion::GridOptions& grid,
           const std::optional<Pictures>& reference) {
  Row row{sampler.name, {}, reference};
  for (const int calls : budgets) {
    const auto plan = sampler.within(painter.schedule(), calls, grid);
    row.pictures.push_back(plan ? std::optional(painter.sample(*plan)) : std::nullopt);
  }
  return row;
}

void print_table(const std::vector<Row>& rows) {
  std::printf("\n| calls |");
  for (const int calls : budgets) std::printf(" %d |", calls);
  std::printf("\n|---|---|---|---|---|\n");
  for (const Row& row : rows) {
    std::printf("| %s |", row.name.c_str());
    for (std::size_t i = 0; i < budgets.size(); ++i) std::printf(" %s |", row.error(i).c_str());
    std::printf("\n");
  }
}

/// The first few pictures of every row, under the number of calls.
examples::Image picture(const std::vector<Row>& rows) {
  constexpr int scale = 2, label_width = 132, header = 34, gap = 14;
  const std::vector<examples::Image> tiles = examples::tiles_of(*rows[0].reference);
  const int side = scale * tiles[0].width + 2;
  const int block = static_cast<int>(shown.size()) * side + gap,
            height = scale * tiles[0].height + 6;
  const int columns = static_cast<int>(budgets.size()) + 1;
  examples::Canvas canvas(label_width + columns * block,
                          header + height * static_cast<int>(rows.size()) + 8);
  for (int column = 0; column < columns; ++column) {
    const bool last = column + 1 == columns;
    const int calls = last ? reference_calls : budgets[static_cast<std::size_t>(column)];
    canvas.text({label_width + (column + 0.5) * block - gap / 2.0, header - 12.0},
                std::to_string(calls) + " calls", 9, examples::black, examples::Align::center);
  }
  int top = header;
  for (const Row& row : rows) {
    canvas.text({10.0, top + height / 2.0}, row.name);
    std::vector<std::optional<Pictures>> cells = row.pictures;
    cells.push_back(row.reference);
    int left = label_width;
    for (const std::optional<Pictures>& cell : cells) {
      int x = left;
      for (std::size_t k = 0; cell && k < shown.size(); ++k, x += side)
        canvas.picture(examples::tiles_of(*cell)[shown[k]], x, top, scale);
      left += block;
    }
    top += height;
  }
  return canvas.image();
}

class Comparison {
 public:
  Comparison(examples::Studio& studio, double guidance)
      : progress_("sampling", calls()), painter_(studio, guidance, progress_) {}

  void run() {
    flow_end_ = painter_.sample(plan("UniPC 3", reference_calls));
    path_end_ = painter_.sample(plan("DPM++ 2M SDE", reference_calls));
    for (const std::string& name : of_ode) rows_.push_back(row(name, beta_times, flow_end_));
    for (const std::string& name : of_sde) rows_.push_back(row(name, beta_times, path_end_));
    rows_.push_back(row("LCM", beta_times, std::nullopt));
    for (const auto& [name, grid] : grids)
      for (const std::string& sampler : gridded) {
        by_grid_.push_back(row(sampler, grid, flow_end_));
        by_grid_.back().name += ", " + name;
      }
  }

  void print() const {
    std::printf("Root mean square distance of pixels, in [-1, 1], from %d calls:\n",
                reference_calls);
    print_table({rows_.begin(), rows_.end() - 1});
    print_table(by_grid_);
  }
  examples::Image image() const { return picture(rows_); }

 private:
  using Named = std::vector<std::string>;
  inline static const Named of_ode{"DDIM",  "DPM++ 2M", "DPM++ 3M", "UniPC 2",  "UniPC 3", "DEIS 3",
                                   "LMS 4", "PLMS",     "Heun",     "DPM++ 2S", "DPM++ 3S"};
  inline static const Named of_sde{"DDPM, Euler a", "DPM++ 2M SDE", "DPM++ 3M SDE", "SA-Solver"};
  inline static const Named gridded{"DDIM", "DPM++ 2M", "UniPC 3"};
  inline static const std::vector<std::pair<std::string, diffusion::GridOptions>> grids{
      {"even in time", {.spacing = diffusion::TimestepSpacing::trailing}},
      {"Karras", {.sigmas = {.rule = diffusion::SigmaRule::karras}}},
      {"uniform in log SNR", {.sigmas = {.rule = diffusion::SigmaRule::exponential}}},
      {"KL-optimal", {.sigmas = {.rule = diffusion::SigmaRule::kl_optimal}}}};

  static long calls() {
    long sum = 0;
    for (const int budget : budgets) sum += budget;
    return 2 * reference_calls + sum * static_cast<long>(of_ode.size() + of_sde.size() + 1 +
                                                         grids.size() * gridded.size());
  }
  const Sampler& named(const std::string& name) const {
    return *std::find_if(samplers_.begin(), samplers_.end(),
                         [&](const Sampler& sampler) { return sampler.name == name; });
  }
  diffusion::SamplingPlan plan(const std::string& name, int steps) {
    return named(name).plan(painter_.schedule(), steps, beta_times);
  }
  Row row(const std::string& name, const diffusion::GridOptions& grid,
          const std::optional<Pictures>& reference) {
    return row_of(named(name), painter_, grid, reference);
  }

  std::vector<Sampler> samplers_ = examples::compared_samplers<diffusion::NoiseSchedule<>>();
  examples::Progress progress_;
  Painter painter_;
  std::optional<Pictures> flow_end_, path_end_;
  std::vector<Row> rows_, by_grid_;
};

}  // namespace

int main(int argc, char** argv) {
  try {
    const std::string folder = argc > 1 ? argv[1] : "examples/models/digits-and-clothing";
    const std::string file = argc > 2 ? argv[2] : "sampler-pictures.png";
    const double guidance = argc > 3 ? std::stod(argv[3]) : 1;
    examples::Studio studio(folder);
    Comparison comparison(studio, guidance);
    comparison.run();
    comparison.print();
    examples::write_png(file, comparison.image());
    std::printf("\nwrote %s\n", file.c_str());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "sampler-pictures: %s\n", error.what());
    return 1;
  }
}
