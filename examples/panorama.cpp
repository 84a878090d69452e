// A picture five times as wide as the network can see, by overlapping windows: without overlap the
// seams can be seen, with more of it they go.
#include <diffusion/diffusion.hpp>
#include <diffusion/video/windows.hpp>
#include <support/clip_measures.hpp>
#include <support/gallery.hpp>

#include <cstdio>
#include <string>
#include <utility>
#include <vector>

namespace {

constexpr Eigen::Index size = 28, width = 5 * size;

void make(examples::Gallery& gallery) {
  const diffusion::DdimSampler sampler{gallery.schedule(),
                                       {.steps = 20,
                                        .grid = {.spacing = diffusion::TimestepSpacing::trailing},
                                        .clipping = diffusion::Clipping::range(1)}};
  const std::vector<int> labels{8, 11, 15, 19};  // eights, trousers, sandals, ankle boots
  const auto count = static_cast<Eigen::Index>(labels.size());
  gallery.sheet() = examples::ContactSheet(2);
  const std::vector<std::pair<int, bool>> covers{{28, false}, {21, false}, {14, false}, {7, true}};
  for (const auto& [stride, jitter] : covers) {
    diffusion::WindowedDenoiser wide{examples::conditional(gallery.model().network),
                                     {{{.dimension = 3,
                                        .size = size,
                                        .stride = stride,
                                        .wrap = stride < 28,
                                        .blend = diffusion::WindowBlend::gaussian,
                                        .jitter = jitter}}}};
    const auto pictures = diffusion::sample<examples::Pictures>(
        sampler,
        diffusion::ClassifierFreeGuidance{wide, labels, gallery.model().null_class(),
                                          diffusion::GuidanceOptions{.scale = 2}},
        {count, 1, size, width}, diffusion::PhiloxNoise{0},
        {.prediction_type = gallery.model().scheduler.prediction_type});
    const std::string name = "stride " + std::to_string(stride) + (jitter ? ", jittered" : "");
    const auto steps = examples::column_steps(pictures, {28, 56, 84, 112});
    std::printf("%-20s step from column to column: %.3f at multiples of 28, %.3f elsewhere\n",
                name.c_str(), steps.at_seams, steps.elsewhere);
    for (const auto& tile : examples::tiles_of(pictures)) gallery.sheet().add(name, {tile});
  }
}

}  // namespace

int main(int argc, char** argv) {
  return examples::gallery(argc, argv, "panorama", "shows wide pictures made by windows", make);
}
