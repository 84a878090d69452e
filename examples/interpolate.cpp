// A walk from one noise to the next and from one class to another: every picture of the GIF is
// sampled from what lies between.
#include <diffusion/diffusion.hpp>
#include <diffusion/edit/interpolation.hpp>
#include <support/background.hpp>
#include <support/gallery.hpp>
#include <support/gif.hpp>

#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

using diffusion::Conditions;
using examples::Gallery;
using examples::Pictures;
using ClassVector = std::vector<float>;

namespace {

/// The network as guidance asks it: a class's vector, or one between two, for each picture.
auto by_vectors(nn::Unet2d<float>& network) {
  return [&network, all = ClassVector()](const Pictures& x, double t,
                                         const Conditions<ClassVector>& classes,
                                         Pictures& out) mutable {
    all.clear();
    for (std::size_t i = 0; i < classes.size(); ++i)
      all.insert(all.end(), classes[i].begin(), classes[i].end());
    network.call_with_class_vectors(x, t, all, out);
  };
}

void walk(Gallery& gallery) {
  constexpr int frames = 16;
  auto& network = gallery.model().network;
  const diffusion::DdimSampler sampler{
      gallery.schedule(), {.steps = 12, .grid = {.spacing = diffusion::TimestepSpacing::trailing}}};
  const std::vector<int> from = gallery.labels(), to = examples::partners_of(from);
  const Pictures first = gallery.noise(0), second = gallery.noise(1000);
  std::vector<examples::Image> images;
  for (int frame = 0; frame <= frames; ++frame) {
    const double share = static_cast<double>(frame) / frames;
    std::vector<ClassVector> classes;
    for (std::size_t i = 0; i < from.size(); ++i)
      classes.push_back(diffusion::interpolate_condition(network.class_vector(from[i]),
                                                         network.class_vector(to[i]), share));
    diffusion::ClassifierFreeGuidance guided{by_vectors(network),
                                             classes,
                                             network.class_vector(gallery.model().null_class()),
                                             {.scale = 2}};
    Pictures x = diffusion::interpolate(first, second, share);
    gallery.run(sampler, guided, x);
    examples::ContactSheet sheet(1, 2);
    sheet.add("", examples::tiles_of(x));
    images.push_back(sheet.image());
    if (frame % 4 == 0)
      gallery.add(std::to_string(frame) + " of 16 on the way", x, 2 * frame < frames ? from : to);
  }
  std::filesystem::path file = gallery.arguments().output;
  examples::write_gif(file.replace_extension(".gif").string(), images);
  std::printf("wrote %s\n", file.string().c_str());
}

}  // namespace

int main(int argc, char** argv) {
  return examples::gallery(argc, argv, "interpolate",
                           "walks between two noises and two classes (a PNG and a GIF)", walk);
}
