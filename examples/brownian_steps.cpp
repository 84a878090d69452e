// The same seed at 10, 20, 40 and 80 steps of a stochastic sampler: noise numbered by draw makes
// another picture for each number of steps, one Brownian path refines the same.
#include <diffusion/noise/brownian_noise.hpp>
#include <diffusion/noise/philox.hpp>
#include <diffusion/samplers/ddim.hpp>
#include <support/contact_sheet.hpp>
#include <support/studio.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

namespace {

using examples::Pictures;

constexpr std::array<int, 4> step_counts{10, 20, 40, 80};
constexpr std::uint64_t seed = 3;
const std::vector<int> labels{0, 3, 5, 11, 15, 18};

diffusion::SamplingPlan plan_of(const examples::Studio& studio, int steps) {
  return diffusion::DdimSampler{
      studio.schedule(),
      {.steps = steps, .eta = 1, .grid = {.spacing = diffusion::TimestepSpacing::trailing}}}
      .plan();
}

template <class Noise>
Pictures sample(examples::Studio& studio, const diffusion::SamplingPlan& plan, const Noise& noise) {
  examples::Model& model = studio.model();
  Pictures x = studio.noise(labels.size(), seed);
  diffusion::ClassifierFreeGuidance guided{
      examples::conditional(model.network), labels, model.null_class(), {.scale = 2}};
  diffusion::sample_in_place(plan, guided, x, noise,
                             {.prediction_type = model.scheduler.prediction_type});
  return x;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    examples::Studio studio(argc > 1 ? argv[1] : "examples/models/digits-and-clothing");
    const std::string file = (argc > 2 ? std::string(argv[2]) + "/" : "") + "brownian-steps.png";
    examples::ContactSheet sheet(2);
    std::vector<Pictures> by_draw, by_path;
    for (const int steps : step_counts) {
      const diffusion::SamplingPlan plan = plan_of(studio, steps);
      by_draw.push_back(sample(studio, plan, diffusion::PhiloxNoise{seed}));
      by_path.push_back(sample(studio, plan, diffusion::BrownianNoise{seed, plan}));
      const std::string count = ", " + std::to_string(steps) + " steps";
      sheet.add("PhiloxNoise" + count, examples::tiles_of(by_draw.back()));
      sheet.add("BrownianNoise" + count, examples::tiles_of(by_path.back()));
    }
    std::printf("mean distance of pixels  PhiloxNoise  BrownianNoise\n");
    for (std::size_t i = 1; i < step_counts.size(); ++i)
      std::printf("%2d and %2d steps          %.3f        %.3f\n", step_counts[i - 1],
                  step_counts[i], examples::mean_distance(by_draw[i - 1], by_draw[i]),
                  examples::mean_distance(by_path[i - 1], by_path[i]));
    examples::write_png(file, sheet.image());
    std::printf("wrote %s\n", file.c_str());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "brownian-steps: %s\n", error.what());
    return 1;
  }
}
