// Differential image to image: each pixel has a strength of its own, here none on the left and all
// on the right, so that the pictures turn into others from one side to the other.
#include <diffusion/diffusion.hpp>
#include <diffusion/edit/differential.hpp>
#include <support/gallery.hpp>

#include <cmath>
#include <cstdio>
#include <vector>

using examples::Pictures;

int main(int argc, char** argv) {
  return examples::gallery(
      argc, argv, "differential", "changes pictures more to the right than to the left",
      [](examples::Gallery& gallery) {
        const diffusion::DdimSampler sampler{
            gallery.schedule(),
            {.steps = 25, .grid = {.spacing = diffusion::TimestepSpacing::trailing}}};
        // Coats become shirts, boots sneakers, nines fours: the left side may well stay as it is.
        const std::vector<int> from{14, 19, 9, 12, 16, 3, 17, 8}, to{16, 17, 4, 16, 10, 8, 19, 3};
        std::vector<int> before, after;
        for (std::size_t i = 0; i < gallery.count(); ++i) {
          before.push_back(from[i % from.size()]);
          after.push_back(to[i % to.size()]);
        }
        const Pictures pictures = gallery.sample(sampler, gallery.guided(before));
        gallery.add("the pictures", pictures, before);

        Pictures ramp(1, 1, pictures.dimension(2), pictures.dimension(3));
        const auto width = static_cast<double>(ramp.dimension(3) - 1);
        for (Eigen::Index row = 0; row < ramp.dimension(2); ++row)
          for (Eigen::Index column = 0; column < ramp.dimension(3); ++column)
            ramp(0, 0, row, column) = static_cast<float>(static_cast<double>(column) / width);
        Pictures map = pictures;
        for (Eigen::Index i = 0; i < map.size(); ++i)
          map.data()[i] = 2 * ramp.data()[i % ramp.size()] - 1;
        gallery.add("strength: none (black) to all (white)", map);

        const examples::SeedPerPicture noise{1000};
        const auto add = [&](const char* title, const Pictures& strengths) {
          const Pictures x =
              gallery.sample(sampler, gallery.guided(after),
                             diffusion::Differential(sampler.grid(), pictures, strengths, noise));
          gallery.add(title, x, after);
          const Eigen::Tensor<float, 1, Eigen::RowMajor> change =
              (x - pictures).abs().mean(Eigen::array<int, 3>{0, 1, 2});
          std::printf("  mean change in columns 0, 7, 14, 21: %.3f %.3f %.3f %.3f\n",
                      static_cast<double>(change(0)), static_cast<double>(change(7)),
                      static_cast<double>(change(14)), static_cast<double>(change(21)));
        };
        add("as another class, more to the right", ramp);
        Pictures even(1, 1, 1, 1);
        for (const float strength : {0.5f, 0.75f}) {
          even.setConstant(strength);
          char title[60];
          std::snprintf(title, sizeof title, "everywhere %.2f (image to image)",
                        static_cast<double>(strength));
          add(title, even);
        }
      });
}
