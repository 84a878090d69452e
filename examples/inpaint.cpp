// Inpainting: the left half of each picture is known, the rest is sampled to go with it: by
// blending states or by replacing x0, with a mask that ends sharply or softly.
#include <diffusion/diffusion.hpp>
#include <diffusion/edit/inpaint.hpp>
#include <support/gallery.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

using examples::Pictures;

namespace {

/// 1 on the left, 0 on the right, falling over `width` columns about the middle; for all pictures.
Pictures left_half(const Pictures& like, double width) {
  Pictures mask(1, 1, like.dimension(2), like.dimension(3));
  const double middle = static_cast<double>(mask.dimension(3)) / 2;
  for (Eigen::Index row = 0; row < mask.dimension(2); ++row)
    for (Eigen::Index column = 0; column < mask.dimension(3); ++column) {
      const double right = static_cast<double>(column) + 0.5 - middle;
      mask(0, 0, row, column) = static_cast<float>(
          width > 0 ? std::clamp(0.5 - right / width, 0.0, 1.0) : (right < 0 ? 1.0 : 0.0));
    }
  return mask;
}

/// The mean of |a - b| where the mask is 1.
double distance_where_known(const Pictures& a, const Pictures& b, const Pictures& mask) {
  double sum = 0, count = 0;
  const Eigen::Index plane = mask.size();
  for (Eigen::Index i = 0; i < a.size(); ++i)
    if (mask.data()[i % plane] == 1) {
      sum += static_cast<double>(std::abs(a.data()[i] - b.data()[i]));
      ++count;
    }
  return sum / count;
}

}  // namespace

int main(int argc, char** argv) {
  return examples::gallery(
      argc, argv, "inpaint", "completes pictures of which one half is known",
      [](examples::Gallery& gallery) {
        const diffusion::EulerAncestralSampler sampler{
            gallery.schedule(),
            {.steps = 25, .grid = {.spacing = diffusion::TimestepSpacing::trailing}}};
        const std::vector<int> labels = gallery.labels();
        const diffusion::DdimSampler maker{gallery.schedule(), {.steps = 25}};
        const Pictures pictures = gallery.sample(maker, gallery.guided(labels));
        gallery.add("the pictures", pictures, labels);

        const Pictures sharp = left_half(pictures, 0), soft = left_half(pictures, 10);
        Pictures seen = pictures;
        for (Eigen::Index i = 0; i < seen.size(); ++i)
          seen.data()[i] = sharp.data()[i % sharp.size()] * (seen.data()[i] + 1) - 1;
        gallery.add("what is known of them", seen, labels);
        const auto add = [&](const std::string& title, auto edit, const Pictures& mask) {
          Pictures x = gallery.noise(1000);
          gallery.run(sampler, gallery.guided(labels), x, edit);
          gallery.add(title, x, labels);
          std::printf("  mean distance where it is known %.4f, everywhere %.3f\n",
                      distance_where_known(x, pictures, mask),
                      examples::mean_distance(x, pictures));
        };
        const examples::SeedPerPicture noise{2000};
        add("blended states", diffusion::Inpaint(pictures, sharp, noise), sharp);
        add("replaced x0", diffusion::InpaintX0(pictures, sharp), sharp);
        add("blended states, soft mask", diffusion::Inpaint(pictures, soft, noise), soft);
        add("replaced x0, soft mask", diffusion::InpaintX0(pictures, soft), soft);
      });
}
