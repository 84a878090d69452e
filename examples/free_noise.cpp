// FreeNoise: noise for a clip longer than a window uses the noise of the first window again and
// again, shuffled. The network sees one frame at a time, so a noise is a picture here: the same
// ones come back in every window, in another order.
#include <diffusion/diffusion.hpp>
#include <diffusion/video/free_noise.hpp>
#include <support/gallery.hpp>

#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

namespace {

void make(examples::Gallery& gallery) {
  const diffusion::DpmSolverSampler sampler{
      gallery.schedule(), {.steps = 12, .clipping = diffusion::Clipping::range(1)}};
  const auto layout = diffusion::FrameLayout::samples(gallery.count());
  const diffusion::FreeNoiseOptions options{.window = 6, .stride = 3, .seed = 1};
  std::printf("frames have the noise of frame");
  for (const std::uint64_t frame : diffusion::free_noise_frames(gallery.count(), options))
    std::printf(" %d", static_cast<int>(frame));
  std::printf("\n");
  for (const int label : {4, 18}) {  // fours and bags
    const std::vector<int> labels(gallery.count(), label);
    const auto clip = [&](const auto& noise) {
      return diffusion::sample<examples::Pictures>(
          sampler, gallery.guided(labels), {static_cast<Eigen::Index>(gallery.count()), 1, 28, 28},
          noise, {.prediction_type = gallery.model().scheduler.prediction_type});
    };
    const diffusion::PhiloxNoise noise{0};
    gallery.add("class " + std::to_string(label) + ", noise of its own for each frame", clip(noise),
                labels);
    gallery.add("class " + std::to_string(label) + ", free noise, window 6, stride 3",
                clip(diffusion::free_noise(noise, layout, options)), labels);
  }
}

}  // namespace

int main(int argc, char** argv) {
  return examples::gallery(argc, argv, "free-noise", "shows clips of free noise", make);
}
