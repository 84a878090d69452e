// Guidance by a classifier: a network that is told no class, steered to one by the gradient of a
// classifier of noised pictures, in both forms. Another classifier judges (--score).
#include <diffusion/guidance/classifier_guidance.hpp>
#include <diffusion/samplers/ddim.hpp>
#include <diffusion/samplers/ddpm.hpp>
#include <nn/classifier.hpp>
#include <support/gallery.hpp>

#include <cstdio>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace {

using examples::Pictures;

void make(examples::Gallery& gallery) {
  auto guide = nn::PictureClassifier<float>::load(std::filesystem::path(gallery.arguments().judge) /
                                                  "guide");
  guide.set_threads(gallery.model().network.threads());
  const std::vector<int> labels = gallery.labels();

  const std::vector<int> no_class(gallery.count(), gallery.model().null_class());
  const auto network = [&](const Pictures& x, double t, Pictures& eps) {
    gallery.model().network(x, t, no_class, eps);
  };
  const auto gradient = [&](const Pictures& x, const diffusion::Query& query, Pictures& out) {
    guide.gradient(x, std::span(&query.t, 1), labels, out);
  };

  const diffusion::GridOptions trailing{.spacing = diffusion::TimestepSpacing::trailing};
  const diffusion::DdimSampler ddim{gallery.schedule(), {.steps = 50, .grid = trailing}};
  const diffusion::DdpmSampler ddpm{gallery.schedule(), {.steps = 100, .grid = trailing}};

  gallery.add("no guidance, DDIM", gallery.sample(ddim, network), labels);
  for (const double scale : {1.0, 3.0, 10.0}) {
    diffusion::ClassifierGuidance guided{network, gradient, {.scale = scale}};
    const std::string title = "score, scale " + std::to_string(static_cast<int>(scale)) + ", DDIM";
    gallery.add(title, gallery.sample(ddim, guided), labels);
  }
  for (const double scale : {1.0, 3.0, 10.0}) {
    diffusion::ClassifierMeanShift shift{gradient, {.scale = scale}};
    const std::string title = "mean, scale " + std::to_string(static_cast<int>(scale)) + ", DDPM";
    gallery.add(title, gallery.sample(ddpm, network, shift), labels);
  }
}

}  // namespace

int main(int argc, char** argv) {
  return examples::gallery(argc, argv, "classifier-guidance",
                           "steers a network without classes by a classifier's gradient", make);
}
