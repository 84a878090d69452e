// The same noise in fewer and fewer steps: DDIM and DDPM on the bundled network, and how far DDIM
// is from its own answer with a thousand.
#include <diffusion/diffusion.hpp>
#include <support/contact_sheet.hpp>
#include <support/progress.hpp>
#include <support/studio.hpp>

#include <cstdio>
#include <exception>
#include <string>
#include <vector>

using examples::mean_distance;
using examples::Pictures;

int main(int argc, char** argv) {
  try {
    const std::string folder = argc > 1 ? argv[1] : "examples/models/digits-and-clothing";
    const std::string file = argc > 2 ? argv[2] : "learn-fewer-steps.png";
    examples::Studio studio(folder);
    const std::vector<int> labels{2, 4, 6, 9, 11, 14, 15, 18};
    const diffusion::GridOptions grid{.spacing = diffusion::TimestepSpacing::trailing};
    const std::vector<int> ddim_steps{1000, 100, 50, 20, 10, 5, 2, 1}, ddpm_steps{1000, 50, 10, 5};
    long calls = 0;
    for (const int steps : ddim_steps) calls += steps;
    for (const int steps : ddpm_steps) calls += steps;
    examples::Progress progress("sampling", calls);
    const auto count = [&](const auto&) { progress.advance(); };

    examples::ContactSheet sheet(2);
    Pictures best;
    std::string table = "DDIM steps   mean distance to 1000\n";
    for (const int steps : ddim_steps) {
      const diffusion::DdimSampler ddim{studio.schedule(), {.steps = steps, .grid = grid}};
      const Pictures pictures = studio.sample(ddim, labels, 2, 11, count);
      if (steps == 1000) best = pictures;
      table += std::to_string(steps) + "  " + std::to_string(mean_distance(pictures, best)) + "\n";
      sheet.add("DDIM, " + std::to_string(steps) + " steps", examples::tiles_of(pictures));
    }
    for (const int steps : ddpm_steps) {
      const diffusion::DdpmSampler ddpm{studio.schedule(), {.steps = steps, .grid = grid}};
      sheet.add("DDPM, " + std::to_string(steps) + " steps",
                examples::tiles_of(studio.sample(ddpm, labels, 2, 11, count)));
    }
    examples::write_png(file, sheet.image());
    std::printf("%swrote %s\n", table.c_str(), file.c_str());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "fewer-steps: %s\n", error.what());
    return 1;
  }
}
