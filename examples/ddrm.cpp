// Damaged pictures restored by DDRM: what was measured moves by rules of its own, in the directions
// of the damage's singular vectors.
#include <diffusion/inverse/ddrm.hpp>
#include <support/restoration.hpp>

int main(int argc, char** argv) {
  using diffusion::DdrmOptions;
  return examples::gallery(
      argc, argv, "ddrm", "restores damaged pictures by DDRM", [](examples::Gallery& gallery) {
        examples::Restoration restoration(gallery);
        const diffusion::DdimSampler sampler{
            gallery.schedule(),
            {.steps = 20,
             .grid = {.spacing = diffusion::TimestepSpacing::trailing},
             .clipping = diffusion::Clipping::range(1)}};
        auto network = restoration.network();
        const examples::SeedPerPicture noise{examples::Restoration::own};
        restoration.each([&](const auto& problem, const auto& show) {
          show("DDRM", restoration.sample(sampler, network, diffusion::Ddrm{problem, noise}));
          const DdrmOptions rest{.unmeasured = diffusion::Unmeasured::sampler};
          show("DDRM over DDIM",
               restoration.sample(sampler, network, diffusion::Ddrm{problem, noise, rest}));
        });
      });
}
