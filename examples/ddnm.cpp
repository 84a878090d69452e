// Damaged pictures restored by DDNM: the estimate is brought in line with what was measured.
#include <diffusion/inverse/ddnm.hpp>
#include <diffusion/inverse/ddnm_plus.hpp>
#include <support/restoration.hpp>

int main(int argc, char** argv) {
  return examples::gallery(
      argc, argv, "ddnm", "restores damaged pictures by DDNM", [](examples::Gallery& gallery) {
        examples::Restoration restoration(gallery);
        const diffusion::DdimSampler sampler{
            gallery.schedule(),
            {.steps = 50,
             .eta = 0.85,
             .grid = {.spacing = diffusion::TimestepSpacing::trailing},
             .clipping = diffusion::Clipping::range(1)}};
        auto network = restoration.network();
        restoration.each([&](const auto& problem, const auto& show) {
          show("DDNM", restoration.sample(sampler, diffusion::Ddnm{network, problem}));
          show("DDNM+", restoration.sample(sampler, network, diffusion::DdnmPlus{problem}));
        });
      });
}
