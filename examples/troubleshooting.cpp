// What wrong settings look like: the same network, seed and classes throughout, one thing wrong in
// each strip but the first. See docs/troubleshooting.md.
#include <diffusion/diffusion.hpp>
#include <support/contact_sheet.hpp>
#include <support/progress.hpp>
#include <support/studio.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <exception>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace {

using examples::Pictures;

/// How the bundled network is to be sampled; each case changes a member or two.
struct Setting {
  diffusion::NoiseSchedule<> schedule = diffusion::NoiseSchedule<>::linear();
  diffusion::TimestepSpacing spacing = diffusion::TimestepSpacing::trailing;
  int steps = 50;
  diffusion::Clipping clipping{};
  diffusion::EpsilonRule epsilon = diffusion::EpsilonRule::rederived;
  diffusion::PredictionType prediction_type = diffusion::PredictionType::epsilon;
  double guidance = 2;
  double time_factor = 1;   ///< the network is told t times this
  double start_factor = 1;  ///< on the initial noise

  diffusion::DdimSampler<diffusion::NoiseSchedule<>> sampler() const {
    return diffusion::DdimSampler{
        schedule,
        {.steps = steps, .grid = {.spacing = spacing}, .clipping = clipping, .epsilon = epsilon}};
  }
};

/// Pictures of the bundled network under one setting each, all from the same noise.
class Bench {
 public:
  explicit Bench(const std::string& folder) : studio_(folder) {}

  Pictures sample(const Setting& setting) {
    Pictures x = studio_.noise(labels_.size(), 1);
    x = x * static_cast<float>(setting.start_factor);
    run(setting, setting.sampler().plan(), x);
    return x;
  }

  /// Image to image: noised to the level where step `noised` starts, sampled from step `begin` on.
  Pictures remake(const Pictures& pictures, int noised, int begin) {
    const Setting setting;
    const diffusion::Grid grid = setting.sampler().grid();
    Pictures x(pictures.dimensions());
    diffusion::add_noise(pictures, studio_.noise(labels_.size(), 2), grid[noised].from, x);
    run(setting, setting.sampler().plan(grid.cut(begin)), x);
    return x;
  }

 private:
  void run(const Setting& setting, const diffusion::SamplingPlan& plan, Pictures& x) {
    const auto network = [&, ask = examples::conditional(studio_.model().network)](
                             const Pictures& z, double t, const diffusion::Conditions<int>& classes,
                             Pictures& out) mutable {
      ask(z, t * setting.time_factor, classes, out);
    };
    diffusion::ClassifierFreeGuidance guided{
        network, labels_, studio_.model().null_class(), {.scale = setting.guidance}};
    diffusion::sample_in_place(plan, guided, x, diffusion::PhiloxNoise{1},
                               {.prediction_type = setting.prediction_type});
  }

  examples::Studio studio_;
  std::vector<int> labels_{3, 5, 8, 11, 15, 18};  // three digits, trousers, a sandal, a bag
};

/// Grey pictures made red: the picture as the red plane, half of it as the green one, a shade as
/// the blue one. `interleaved` reads the planes as if the three colours of a pixel stood side by
/// side, `reversed` takes blue for red.
std::vector<examples::Image> in_colour(const Pictures& pictures, bool interleaved, bool reversed) {
  std::vector<examples::Image> tiles;
  const auto height = static_cast<int>(pictures.dimension(2));
  const auto width = static_cast<int>(pictures.dimension(3));
  const auto plane = static_cast<std::size_t>(height) * static_cast<std::size_t>(width);
  for (std::size_t i = 0; i < static_cast<std::size_t>(pictures.dimension(0)); ++i) {
    std::vector<float> values(3 * plane);
    const float* from = pictures.data() + i * plane;
    for (std::size_t k = 0; k < plane; ++k) {
      const std::size_t row = k / static_cast<std::size_t>(width);
      const std::size_t column = k % static_cast<std::size_t>(width);
      values[k] = from[k];
      values[plane + k] = 0.5F * (from[k] - 1);
      values[2 * plane + k] = -0.8F + 0.4F * static_cast<float>(row + column) / 28;
    }
    if (reversed)
      std::swap_ranges(values.begin(), values.begin() + static_cast<long>(plane),
                       values.begin() + static_cast<long>(2 * plane));
    if (interleaved) {
      std::vector<float> taken(values.size());
      for (std::size_t k = 0; k < plane; ++k)
        for (std::size_t c = 0; c < 3; ++c) taken[c * plane + k] = values[3 * k + c];
      values = taken;
    }
    tiles.push_back(examples::image_from_planes(std::span<const float>(values), 3, height, width));
  }
  return tiles;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    using diffusion::Clipping;
    using diffusion::EpsilonRule;
    using diffusion::NoiseSchedule;
    using diffusion::PredictionType;
    using diffusion::TimestepSpacing;
    const std::string folder = argc > 1 ? argv[1] : "examples/models/digits-and-clothing";
    const std::string file = argc > 2 ? argv[2] : "troubleshooting.png";
    Bench bench(folder);
    examples::ContactSheet sheet(3);
    examples::Progress progress("sampling", 18);
    const auto add = [&](const std::string& title, const Pictures& pictures) {
      sheet.add(title, examples::tiles_of(pictures));
      progress.advance();
    };
    const Pictures right = bench.sample({});
    add("1 right", right);
    add("2 read as v", bench.sample({.prediction_type = PredictionType::v}));
    add("3 read as x0", bench.sample({.prediction_type = PredictionType::sample}));
    add("4 scaled_linear for linear", bench.sample({.schedule = NoiseSchedule<>::scaled_linear()}));
    add("5 cosine for linear", bench.sample({.schedule = NoiseSchedule<>::squaredcos_cap_v2()}));
    add("6 told t / 1000", bench.sample({.time_factor = 0.001}));
    add("7 clipped x0 beside raw epsilon",
        bench.sample({.clipping = Clipping::range(1), .epsilon = EpsilonRule::raw}));
    add("8 guidance 15", bench.sample({.guidance = 15}));
    add("9 guidance 15, clipped", bench.sample({.clipping = Clipping::range(1), .guidance = 15}));
    add("10 leading, 3 steps", bench.sample({.spacing = TimestepSpacing::leading, .steps = 3}));
    add("11 trailing, 3 steps", bench.sample({.steps = 3}));
    add("12 start of deviation 14.6", bench.sample({.start_factor = 14.6}));
    add("13 start of deviation 0.5", bench.sample({.start_factor = 0.5}));
    add("14 image to image, too noisy", bench.remake(right, 20, 30));
    add("15 image to image, too clean", bench.remake(right, 30, 20));
    const Pictures half = 0.5F * (right + 1.0F);
    add("16 input in [0, 1]", bench.remake(half, 35, 35));
    add("17 [-1, 1] shown as [0, 1]", Pictures(2.0F * right - 1.0F));
    const Eigen::array<int, 4> rows_and_columns{0, 1, 3, 2};
    add("18 column-major read as row-major", Pictures(right.shuffle(rows_and_columns)));
    sheet.add("19 colour, right", in_colour(right, false, false));
    sheet.add("20 planes read as interleaved", in_colour(right, true, false));
    sheet.add("21 blue for red", in_colour(right, false, true));
    examples::write_png(file, sheet.image());
    std::printf("wrote %s\n", file.c_str());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "troubleshooting: %s\n", error.what());
    return 1;
  }
}
