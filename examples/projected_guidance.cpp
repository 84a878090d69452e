// Rules against what a high scale does to pictures, side by side.
#include <diffusion/guidance/projected.hpp>
#include <diffusion/guidance/tangential.hpp>
#include <diffusion/guidance/zero_star.hpp>
#include <diffusion/samplers/ddim.hpp>
#include <support/gallery.hpp>

#include <cmath>
#include <cstdio>
#include <string>
#include <utility>

namespace {

// The share of pixels that are neither quite black nor quite white.
double grey(const examples::Pictures& pictures) {
  Eigen::Index count = 0;
  for (Eigen::Index i = 0; i < pictures.size(); ++i)
    if (std::abs(pictures.data()[i]) < 0.9f) ++count;
  return static_cast<double>(count) / static_cast<double>(pictures.size());
}

void make(examples::Gallery& gallery) {
  const diffusion::DdimSampler sampler{gallery.schedule(),
                                       {.steps = 25,
                                        .grid = {.spacing = diffusion::TimestepSpacing::trailing},
                                        .clipping = diffusion::Clipping::range()}};
  const auto labels = gallery.labels(4);
  const auto add = [&](const std::string& title, auto rule) {
    diffusion::ClassifierFreeGuidance guided{examples::conditional(gallery.model().network), labels,
                                             gallery.model().null_class(), std::move(rule)};
    const examples::Pictures pictures = gallery.sample(sampler, guided);
    gallery.add(title, pictures, labels);
    std::printf("%-44s %4.1f %% of the pixels grey\n", title.c_str(), 100 * grey(pictures));
  };

  const diffusion::GuidanceOptions high{.scale = 8};
  const diffusion::GuidanceOptions high_w{.scale = 7, .convention = diffusion::ScaleConvention::w};
  add("scale 1", diffusion::ClassifierFreeRule{{.scale = 1}});
  add("scale 8", diffusion::ClassifierFreeRule{high});
  add("scale 8, rescale 0.7", diffusion::ClassifierFreeRule{{.scale = 8, .rescale = 0.7}});
  add("scale 8, projected", diffusion::ProjectedRule{high_w});
  add("scale 8, projected, |d| to 3, momentum -0.5",
      diffusion::ProjectedRule{high_w, {.limit = 3, .momentum = -0.5}});
  add("scale 8, tangential", diffusion::TangentialRule{high});
  add("scale 8, Zero*", diffusion::ZeroStarRule{high});
}

}  // namespace

int main(int argc, char** argv) {
  return examples::gallery(argc, argv, "projected-guidance",
                           "compares rules of guidance at a high scale", make);
}
