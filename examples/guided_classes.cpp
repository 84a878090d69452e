// The same noise under more and more guidance: what the scale of classifier-free guidance does.
#include <diffusion/diffusion.hpp>
#include <support/contact_sheet.hpp>
#include <support/studio.hpp>

#include <cmath>
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

int main(int argc, char** argv) {
  try {
    const std::string folder = argc > 1 ? argv[1] : "examples/models/digits-and-clothing";
    const std::string file = argc > 2 ? argv[2] : "learn-guided-classes.png";
    examples::Studio studio(folder);
    const diffusion::DdimSampler sampler{studio.schedule(),
                                         {.steps = 50,
                                          .grid = {.spacing = diffusion::TimestepSpacing::trailing},
                                          .clipping = diffusion::Clipping::range(1)}};
    examples::ContactSheet sheet(2);
    for (const double scale : {0.0, 1.0, 2.0, 4.0, 8.0, 16.0}) {
      const auto mixed = studio.sample(sampler, {2, 4, 5, 9, 11, 13, 15, 19}, scale, 4);
      const auto sandals = studio.sample(sampler, std::vector<int>(8, 15), scale, 5);
      sheet.add("scale " + std::to_string(std::lround(scale)), examples::tiles_of(mixed));
      sheet.add("scale " + std::to_string(std::lround(scale)) + ", sandals only",
                examples::tiles_of(sandals));
    }
    examples::write_png(file, sheet.image());
    std::printf("wrote %s\n", file.c_str());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "guided-classes: %s\n", error.what());
    return 1;
  }
}
