// ILVR: pictures of one class that look from afar like pictures of another: their means over blocks
// of pixels are those of a reference, what is inside the blocks is sampled.
#include <diffusion/diffusion.hpp>
#include <diffusion/edit/ilvr.hpp>
#include <support/gallery.hpp>

#include <cstdio>
#include <utility>
#include <vector>

using examples::Pictures;

int main(int argc, char** argv) {
  return examples::gallery(
      argc, argv, "ilvr", "samples pictures that look from afar like a reference",
      [](examples::Gallery& gallery) {
        const diffusion::EulerAncestralSampler sampler{
            gallery.schedule(),
            {.steps = 25, .grid = {.spacing = diffusion::TimestepSpacing::trailing}}};
        const std::vector<int> from{14, 19, 9, 12, 16, 3, 17, 8}, to{16, 17, 4, 16, 10, 8, 19, 3};
        std::vector<int> before, after;
        for (std::size_t i = 0; i < gallery.count(); ++i) {
          before.push_back(from[i % from.size()]);
          after.push_back(to[i % to.size()]);
        }
        const diffusion::DdimSampler maker{gallery.schedule(), {.steps = 25}};
        const Pictures references = gallery.sample(maker, gallery.guided(before));
        gallery.add("the references", references, before);
        for (const auto& [factor, free_steps] : {std::pair{2, 5}, {4, 5}, {7, 5}}) {
          Pictures x = gallery.noise(1000);
          gallery.run(
              sampler, gallery.guided(after), x,
              diffusion::Ilvr(references, examples::SeedPerPicture{2000},
                              diffusion::IlvrOptions{.factor = factor, .free_steps = free_steps}));
          char title[80];
          std::snprintf(title, sizeof title, "other classes; blocks of %d, last %d steps free",
                        factor, free_steps);
          gallery.add(title, x, after);
          std::printf("  mean distance to the references %.3f\n",
                      examples::mean_distance(x, references));
        }
      });
}
