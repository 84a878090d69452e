// Guidance in a part of the noise levels only: at the noisiest it changes what the picture shows,
// in the middle how clearly, at the least noisy nothing that could be seen.
#include <diffusion/guidance/classifier_free.hpp>
#include <diffusion/samplers/ddim.hpp>
#include <support/gallery.hpp>

#include <cstdio>
#include <string>
#include <utility>
#include <vector>

namespace {

constexpr int sandal = 15;

void make(examples::Gallery& gallery) {
  const diffusion::DdimSampler sampler{gallery.schedule(),
                                       {.steps = 32,
                                        .grid = {.spacing = diffusion::TimestepSpacing::trailing},
                                        .clipping = diffusion::Clipping::range()}};
  const std::vector<int> labels(gallery.count(), sandal);
  examples::Pictures plain;  // without guidance
  const auto add = [&](const std::string& title, diffusion::GuidanceOptions options) {
    diffusion::ClassifierFreeGuidance guided{examples::conditional(gallery.model().network), labels,
                                             gallery.model().null_class(), std::move(options)};
    const examples::Pictures pictures = gallery.sample(sampler, guided);
    if (plain.size() == 0) plain = pictures;
    gallery.add(title, pictures, labels);
    std::printf("%-44s %.3f from scale 1\n", title.c_str(),
                examples::mean_distance(pictures, plain));
  };

  add("sandal, scale 1", {.scale = 1});
  add("scale 6, always", {.scale = 6});
  add("scale 6, sigma / alpha above 3", {.scale = 6, .interval = {.sigma_min = 3}});
  add("scale 6, from 0.3 to 3", {.scale = 6, .interval = {.sigma_min = 0.3, .sigma_max = 3}});
  add("scale 6, up to 0.3", {.scale = 6, .interval = {.sigma_max = 0.3}});
  add("scale from 1 to 6 with the steps", {.scale_at = [](const diffusion::Query& query) {
        return 1 + 5 * query.step / (query.steps - 1.0);
      }});
}

}  // namespace

int main(int argc, char** argv) {
  return examples::gallery(argc, argv, "guidance-interval",
                           "guides by the same scale in different intervals of noise", make);
}
