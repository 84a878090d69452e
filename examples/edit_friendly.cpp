// Pictures turned into another class by three kinds of editing: noised and sampled again (SDEdit),
// inverted by DDIM, and inverted with noise maps of their own (edit-friendly inversion).
#include <diffusion/diffusion.hpp>
#include <diffusion/edit/ddpm_inversion.hpp>
#include <diffusion/edit/inversion.hpp>
#include <support/background.hpp>
#include <support/gallery.hpp>

#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

using examples::Gallery;
using examples::Pictures;

namespace {

constexpr int steps = 30;
const diffusion::GridOptions grid{.spacing = diffusion::TimestepSpacing::trailing};

void edit(Gallery& gallery) {
  const std::vector<int> before = gallery.labels(), after = examples::partners_of(before);
  const diffusion::DdimSampler ddim{gallery.schedule(), {.steps = steps, .grid = grid}};
  const diffusion::DdpmSampler ddpm{gallery.schedule(), {.steps = steps, .grid = grid}};
  auto source = gallery.guided(before, 1), target = gallery.guided(after, 3);
  const Pictures pictures = gallery.sample(ddim, gallery.guided(before));
  gallery.add("the pictures", pictures, before);
  const auto show = [&](const std::string& title, const Pictures& edited) {
    gallery.add(title, edited, title.ends_with("same class") ? before : after);
    std::printf("%-44s changed by %.3f, outside the object by %.4f\n", title.c_str(),
                examples::mean_distance(edited, pictures),
                examples::background_difference(edited, pictures));
  };
  show("pictures of the other class", gallery.sample(ddim, target));

  const auto inverted = diffusion::invert_ddpm(ddpm, source, pictures, diffusion::PhiloxNoise{77});
  show("edit-friendly, the same class", diffusion::resume(inverted, source));
  for (const double kept : {0.2, 0.4}) {
    const int begin = static_cast<int>(std::lround(kept * steps));
    const std::string where = ", from step " + std::to_string(begin) + " of 30";
    Pictures noised = pictures;
    diffusion::add_noise(pictures, gallery.noise(500), ddpm.grid()[begin].from, noised);
    gallery.run(ddpm.plan(ddpm.grid().cut(begin)), target, noised);
    show("noised and sampled" + where, noised);
    show("DDIM inversion" + where,
         diffusion::edit_by_inversion(ddim, source, target, pictures, {.skip_noisy = begin}));
    show("edit-friendly" + where, diffusion::resume(inverted, target, begin));
  }
}

}  // namespace

int main(int argc, char** argv) {
  return examples::gallery(argc, argv, "edit-friendly",
                           "turns pictures into another class by three kinds of editing", edit);
}
