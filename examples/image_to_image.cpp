// Pictures made into others, in two ways: noised to a level and sampled from there under another
// class (SDEdit), and inverted by DDIM under one class and sampled under another.
#include <diffusion/diffusion.hpp>
#include <support/contact_sheet.hpp>
#include <support/studio.hpp>

#include <cmath>
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

using examples::mean_distance;
using examples::Pictures;

int main(int argc, char** argv) {
  try {
    const std::string folder = argc > 1 ? argv[1] : "examples/models/digits-and-clothing";
    const std::string file = argc > 2 ? argv[2] : "learn-image-to-image.png";
    examples::Studio studio(folder);
    constexpr int steps = 50;
    const diffusion::GridOptions grid{.spacing = diffusion::TimestepSpacing::trailing};
    const diffusion::DdimSampler sampler{studio.schedule(), {.steps = steps, .grid = grid}};
    const std::vector<int> before{4, 3, 1, 7, 12, 15, 17, 10};
    const std::vector<int> after{9, 8, 7, 2, 14, 19, 19, 13};
    const Pictures pictures = studio.sample(sampler, before, 2, 21);

    examples::ContactSheet sheet(2);
    sheet.add("the pictures", examples::tiles_of(pictures));
    for (const double strength : {0.2, 0.4, 0.6, 0.7, 0.8, 0.9, 1.0}) {
      const int begin = steps - static_cast<int>(std::lround(strength * steps));
      const diffusion::Grid rest = sampler.grid().cut(begin);
      Pictures x = pictures;
      diffusion::add_noise(pictures, studio.noise(before.size(), 22), rest.start(), x);
      studio.run(sampler.plan(rest), after, 2, 23, x);
      char title[60];
      std::snprintf(title, sizeof title, "strength %.1f: from t = %.0f", strength, rest.start().t);
      sheet.add(title, examples::tiles_of(x));
      std::printf("%s, mean distance to the pictures %.3f\n", title, mean_distance(x, pictures));
    }

    const diffusion::DdimInverseSampler inverse{studio.schedule(), {.steps = steps, .grid = grid}};
    Pictures noise = pictures;
    studio.run(inverse, before, 1, 0, noise);
    Pictures back = noise;
    studio.run(sampler, before, 1, 0, back);
    sheet.add("inverted, and back", examples::tiles_of(back));
    std::printf("inverted, and back: mean distance to the pictures %.3f\n",
                mean_distance(back, pictures));
    Pictures edited = noise;
    studio.run(sampler, after, 2, 0, edited);
    sheet.add("inverted, then the other class", examples::tiles_of(edited));
    std::printf("inverted, then the other class: mean distance to the pictures %.3f\n",
                mean_distance(edited, pictures));
    examples::write_png(file, sheet.image());
    std::printf("wrote %s\n", file.c_str());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "image-to-image: %s\n", error.what());
    return 1;
  }
}
