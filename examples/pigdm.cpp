// Damaged pictures restored by PiGDM: without derivatives, and with the network's Jacobian, which
// is symmetric and so costs one more call.
#include <diffusion/inverse/pigdm.hpp>
#include <support/restoration.hpp>

int main(int argc, char** argv) {
  return examples::gallery(
      argc, argv, "pigdm", "restores damaged pictures by PiGDM", [](examples::Gallery& gallery) {
        examples::Restoration restoration(gallery);
        const diffusion::DdimSampler sampler{
            gallery.schedule(),
            {.steps = 30,
             .grid = {.spacing = diffusion::TimestepSpacing::trailing},
             .clipping = diffusion::Clipping::range(1)}};
        auto network = restoration.network();
        const diffusion::SymmetricJacobian twice{network};
        const diffusion::PigdmOptions options{.data_deviation = 0.5};
        restoration.each([&](const auto& problem, const auto& show) {
          show("PiGDM, no Jacobian",
               restoration.sample(sampler, diffusion::Pigdm{network, problem, options}));
          show("PiGDM",
               restoration.sample(sampler, diffusion::Pigdm{twice, problem, twice, options}));
        });
      });
}
