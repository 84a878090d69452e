// Damaged pictures restored by DPS: after each step the state moves against the residual's
// gradient, without derivatives of the network, and with its Jacobian.
#include <diffusion/inverse/dps.hpp>
#include <support/restoration.hpp>

int main(int argc, char** argv) {
  return examples::gallery(
      argc, argv, "dps", "restores damaged pictures by DPS", [](examples::Gallery& gallery) {
        examples::Restoration restoration(gallery);
        const diffusion::DdimSampler sampler{
            gallery.schedule(),
            {.steps = 50,
             .eta = 1,
             .grid = {.spacing = diffusion::TimestepSpacing::trailing},
             .clipping = diffusion::Clipping::range(1)}};
        auto network = restoration.network();
        const diffusion::SymmetricJacobian twice{network};
        const diffusion::IsotropicJacobian isotropic{.data_deviation = 0.5};
        restoration.each([&](const auto& problem, const auto& show) {
          // Found by trying: what has been made small by the damage needs longer steps.
          const diffusion::DpsOptions step{.zeta = 1.5 / problem.op().singular_values().maxCoeff()};
          show("DPS, no Jacobian",
               restoration.sample(sampler, network, diffusion::Dps{problem, isotropic, step}));
          show("DPS", restoration.sample(sampler, twice, diffusion::Dps{problem, twice, step}));
        });
      });
}
