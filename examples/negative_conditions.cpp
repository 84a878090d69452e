// Several conditions at once: a condition in the null's place that is not wanted, one that must not
// hold, two that are to hold together.
#include <diffusion/guidance/classifier_free.hpp>
#include <diffusion/guidance/composed.hpp>
#include <diffusion/samplers/ddim.hpp>
#include <support/gallery.hpp>

#include <string>
#include <vector>

namespace {

constexpr int shirt = 16, tshirt = 10, sneaker = 17, boot = 19;

void make(examples::Gallery& gallery) {
  const diffusion::DdimSampler sampler{gallery.schedule(),
                                       {.steps = 25,
                                        .grid = {.spacing = diffusion::TimestepSpacing::trailing},
                                        .clipping = diffusion::Clipping::range()}};
  const auto all = [&](int label) { return std::vector<int>(gallery.count(), label); };
  const auto network = examples::conditional(gallery.model().network);
  const int null = gallery.model().null_class();
  const auto add = [&](const std::string& title, auto guided, const std::vector<int>& labels) {
    gallery.add(title, gallery.sample(sampler, guided), labels);
  };

  add("shirt, scale 2", gallery.guided(all(shirt), 2), all(shirt));
  add("shirt, T-shirt as negative, scale 2",
      diffusion::ClassifierFreeGuidance{network, all(shirt), tshirt, {.scale = 2}}, all(shirt));
  add("3 shirt, not 1 T-shirt",
      diffusion::ComposedGuidance{network, {{all(shirt), 3}, {all(tshirt), -1}}, null}, all(shirt));
  add("sneaker and boot",
      diffusion::ComposedGuidance{network, {{all(sneaker), 1}, {all(boot), 1}}, null}, {});
  add("4 and 9", diffusion::ComposedGuidance{network, {{all(4), 1}, {all(9), 1}}, null}, {});
}

}  // namespace

int main(int argc, char** argv) {
  return examples::gallery(argc, argv, "negative-conditions",
                           "makes pictures by several conditions: and, not, negative", make);
}
