// Diffusion forcing: pictures of one batch, each at a noise level of its own. What the network sees
// and what it makes of it while the levels rise along a staircase; and the same pictures with a
// strength each, all in one run.
#include <diffusion/diffusion.hpp>
#include <diffusion/sampling/sliced.hpp>
#include <diffusion/video/forcing.hpp>
#include <support/gallery.hpp>
#include <support/slice_network.hpp>

#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

using examples::Pictures;

int main(int argc, char** argv) {
  return examples::gallery(
      argc, argv, "diffusion-forcing", "samples pictures at a noise level each",
      [](examples::Gallery& gallery) {
        constexpr int steps = 20;
        const auto plan =
            diffusion::DpmSolverSampler{
                gallery.schedule(),
                {.steps = steps, .grid = {.spacing = diffusion::TimestepSpacing::trailing}}}
                .plan();
        const std::vector<int> labels = gallery.labels();
        auto& network = gallery.model().network;
        const diffusion::SampleOptions options{.prediction_type =
                                                   gallery.model().scheduler.prediction_type};
        const auto guided = [&](std::vector<int> classes) {
          return diffusion::ClassifierFreeGuidance{examples::conditional_by_picture(network),
                                                   std::move(classes),
                                                   gallery.model().null_class(),
                                                   {.scale = 2}};
        };

        const auto schedule = diffusion::pyramid(steps, gallery.count(), 2);
        Pictures x = gallery.noise(), x0 = x;
        diffusion::sample_sliced_in_place(
            plan, guided(labels), x, examples::SeedPerPicture{0}, diffusion::Slices::samples(),
            schedule, options, [&](const auto& run) {
              if (run.ticks() != 26) return;
              gallery.add("call " + std::to_string(run.ticks() + 1) + ": the state", run.state());
              run.preview(x0);
              gallery.add("what the network takes it for", x0);
            });
        gallery.add("two steps behind each other: the pictures", x, labels);
        const Pictures plain = gallery.sample(plan, gallery.guided(labels));
        gallery.add("all together", plain, labels);
        std::printf("pictures that differ in a bit: %d of %zu\n",
                    std::equal(x.data(), x.data() + x.size(), plain.data()) ? 0 : 1,
                    gallery.count());

        // A strength for each: the first is kept as it is, the last is made from noise.
        const auto ddim =
            diffusion::DdimSampler{
                gallery.schedule(),
                {.steps = steps, .grid = {.spacing = diffusion::TimestepSpacing::trailing}}}
                .plan();
        std::vector<int> starts, others;
        for (std::size_t i = 0; i < gallery.count(); ++i) {
          starts.push_back(diffusion::step_at_strength(steps, static_cast<double>(i % 16) / 15));
          others.push_back((labels[i] + 5) % 20);
        }
        const auto joining = diffusion::joining(steps, starts);
        const auto slices = diffusion::Slices::samples();
        const examples::SeedPerPicture noise{1000};
        diffusion::slice_levels(ddim, x, noise, slices, joining, options);
        diffusion::sample_sliced_in_place(ddim, guided(others), x, noise, slices, joining, options);
        gallery.add("towards another class, strength 0 to 1", x);
      });
}
