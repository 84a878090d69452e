// Pictures carried back to the noise that they come from, and sampled again: how far the copies are
// from the pictures, by the way of inverting and the number of steps.
#include <diffusion/diffusion.hpp>
#include <diffusion/edit/inversion.hpp>
#include <support/gallery.hpp>

#include <cstdio>
#include <string>
#include <vector>

using diffusion::InversionMethod;
using examples::Gallery;
using examples::Pictures;

namespace {

/// The copies by every method, as strips, and their errors as a table of the number of steps.
class Copies {
 public:
  Copies(Gallery& gallery, const Pictures& pictures)
      : gallery_(gallery), pictures_(pictures), labels_(gallery.labels()) {}

  template <class Sampler>
  void add(const std::string& name, const Sampler& sampler, InversionMethod method) {
    auto network = gallery_.guided(labels_, 1);
    const auto found =
        diffusion::invert(sampler, network, pictures_, {.method = method, .tolerance = 1e-4});
    const Pictures back = diffusion::resume(sampler, network, found);
    char title[80];
    std::snprintf(title, sizeof title, "%d steps, %s: %d calls, mean distance %.4f", found.steps(),
                  name.c_str(), found.network_calls, examples::mean_distance(back, pictures_));
    std::printf("%s\n", title);
    gallery_.add(title, back, labels_);
  }

  void add_all(int steps) {
    const diffusion::GridOptions grid{.spacing = diffusion::TimestepSpacing::trailing,
                                      .set_alpha_to_one = false};
    const diffusion::DdimSampler ddim{gallery_.schedule(), {.steps = steps, .grid = grid}};
    const diffusion::DpmSolverSampler dpm{gallery_.schedule(), {.steps = steps, .grid = grid}};
    add("DDIM, told the state's time", ddim, InversionMethod::reversed);
    add("DDIM, told the target's time", ddim, InversionMethod::target_time);
    add("DPM-Solver++ 2M walked back", dpm, InversionMethod::reversed);
    add("DDIM, fixed point", ddim, InversionMethod::fixed_point);
  }

 private:
  Gallery& gallery_;
  const Pictures& pictures_;
  std::vector<int> labels_;
};

}  // namespace

int main(int argc, char** argv) {
  return examples::gallery(
      argc, argv, "inversion", "inverts pictures in several ways and samples them again",
      [](Gallery& gallery) {
        const diffusion::DdimSampler sampler{
            gallery.schedule(),
            {.steps = 30, .grid = {.spacing = diffusion::TimestepSpacing::trailing}}};
        const Pictures pictures = gallery.sample(sampler, gallery.guided(gallery.labels()));
        gallery.add("the pictures", pictures, gallery.labels());
        Copies copies(gallery, pictures);
        for (const int steps : {10, 30}) copies.add_all(steps);
      });
}
