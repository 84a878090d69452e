// CFG++ beside classifier-free guidance: x0 is guided, the noise that goes back is not.
#include <diffusion/guidance/cfg_plus_plus.hpp>
#include <diffusion/samplers/ddim.hpp>
#include <support/gallery.hpp>

#include <string>
#include <utility>
#include <vector>

namespace {

void make(examples::Gallery& gallery) {
  const auto labels = gallery.labels();
  const auto add = [&](const std::string& title, int steps, auto rule) {
    const diffusion::DdimSampler sampler{gallery.schedule(),
                                         {.steps = steps,
                                          .grid = {.spacing = diffusion::TimestepSpacing::trailing},
                                          .clipping = diffusion::Clipping::range()}};
    diffusion::ClassifierFreeGuidance guided{examples::conditional(gallery.model().network), labels,
                                             gallery.model().null_class(), std::move(rule)};
    gallery.add(title + ", " + std::to_string(steps) + " steps", gallery.sample(sampler, guided),
                labels);
  };
  for (const int steps : {10, 30}) {
    add("guidance, scale 2", steps, diffusion::ClassifierFreeRule{{.scale = 2}});
    add("guidance, scale 8", steps, diffusion::ClassifierFreeRule{{.scale = 8}});
    add("CFG++, lambda 0.2", steps, diffusion::CfgPlusPlusRule{{.scale = 0.2}});
    add("CFG++, lambda 0.6", steps, diffusion::CfgPlusPlusRule{{.scale = 0.6}});
  }
}

}  // namespace

int main(int argc, char** argv) {
  return examples::gallery(argc, argv, "cfg-plus-plus",
                           "compares CFG++ with classifier-free guidance", make);
}
