// RePaint: a picture of which one half is known, completed by a network that is not told the class.
// What is filled in goes with what is known the better, the more often it is sampled anew.
#include <diffusion/diffusion.hpp>
#include <diffusion/edit/inpaint.hpp>
#include <diffusion/edit/repaint.hpp>
#include <support/gallery.hpp>

#include <cstdio>
#include <string>
#include <vector>

using examples::Pictures;

int main(int argc, char** argv) {
  return examples::gallery(
      argc, argv, "repaint", "completes pictures of which the upper half is known",
      [](examples::Gallery& gallery) {
        const std::vector<int> labels = gallery.labels();
        const diffusion::DdimSampler maker{gallery.schedule(), {.steps = 25}};
        const Pictures pictures = gallery.sample(maker, gallery.guided(labels));
        gallery.add("the pictures", pictures, labels);

        Pictures mask(1, 1, pictures.dimension(2), pictures.dimension(3));
        mask.setZero();
        for (Eigen::Index i = 0; i < mask.size() / 2; ++i) mask.data()[i] = 1;
        Pictures seen = pictures;
        for (Eigen::Index i = 0; i < seen.size(); ++i)
          seen.data()[i] = mask.data()[i % mask.size()] * (seen.data()[i] + 1) - 1;
        gallery.add("what is known of them", seen, labels);

        // No class is told: what belongs below has to be read off what is above.
        auto network =
            gallery.guided(std::vector<int>(labels.size(), gallery.model().null_class()), 1);
        const diffusion::EulerAncestralSampler sampler{
            gallery.schedule(),
            {.steps = 25, .grid = {.spacing = diffusion::TimestepSpacing::trailing}}};
        for (const int times : {1, 2, 4}) {
          const auto plan =
              diffusion::repaint_plan(sampler, {.jump_length = 5, .jump_n_sample = times});
          Pictures x = gallery.noise(1000);
          gallery.run(plan, network, x,
                      diffusion::Inpaint(pictures, mask, examples::SeedPerPicture{2000}));
          char title[80];
          std::snprintf(title, sizeof title, "each stretch sampled %d time%s: %d calls", times,
                        times == 1 ? "" : "s", plan.network_calls());
          gallery.add(title, x, labels);
          std::printf("  mean distance to the pictures %.3f\n",
                      examples::mean_distance(x, pictures));
        }
      });
}
