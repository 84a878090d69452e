// Noise for clips: the network knows single pictures only, so a clip is a batch of frames of one
// class. How much the frames' noises share decides how much the clip flickers. Rows of the GIF:
// independent noise, mixed noise with alpha 1 and 3, progressive noise with alpha 3.
#include <diffusion/diffusion.hpp>
#include <diffusion/video/noise_priors.hpp>
#include <support/clip_measures.hpp>
#include <support/gallery.hpp>
#include <support/gif.hpp>

#include <cstddef>
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

namespace {

constexpr int frames = 8;

void make(examples::Gallery& gallery) {
  const diffusion::DpmSolverSampler sampler{
      gallery.schedule(), {.steps = 10, .clipping = diffusion::Clipping::range(1)}};
  const auto layout = diffusion::FrameLayout::samples(frames);
  const diffusion::PhiloxNoise own{0}, shared{1};
  const std::vector<std::pair<std::string, diffusion::FrameNoise<diffusion::PhiloxNoise>>> priors{
      {"independent", diffusion::mixed_noise(own, shared, layout, {.alpha = 0})},
      {"mixed, alpha 1", diffusion::mixed_noise(own, shared, layout, {.alpha = 1})},
      {"mixed, alpha 3", diffusion::mixed_noise(own, shared, layout, {.alpha = 3})},
      {"progressive, alpha 3", diffusion::progressive_noise(own, layout, {.alpha = 3})}};
  std::vector<int> labels;
  for (const int label : gallery.labels()) labels.insert(labels.end(), frames, label);

  std::vector<std::vector<examples::Image>> tiles(frames);  // of each frame of the GIF
  for (const auto& [name, noise] : priors) {
    const auto count = static_cast<Eigen::Index>(labels.size());
    const auto clips = diffusion::sample<examples::Pictures>(
        sampler, gallery.guided(labels, 1), {count, 1, 28, 28}, noise,
        {.prediction_type = gallery.model().scheduler.prediction_type});
    std::printf("%-22s a frame differs from the next by %.3f", name.c_str(),
                examples::flicker(clips, frames));
    if (gallery.scores())
      std::printf(", %.1f %% of %zu frames recognised",
                  100 * gallery.judge()->recognised(clips, labels), labels.size());
    std::printf("\n");
    const auto pictures = examples::tiles_of(clips);
    for (std::size_t i = 0; i < pictures.size(); ++i)
      if (i / frames < static_cast<std::size_t>(gallery.arguments().shown))
        tiles[i % frames].push_back(pictures[i]);
  }
  std::vector<examples::Image> gif;
  for (const auto& frame : tiles)
    gif.push_back(examples::tile_grid(frame, static_cast<int>(frame.size() / priors.size())));
  examples::write_gif(gallery.arguments().output, gif, {.delay = 25, .last_delay = 25});
}

}  // namespace

int main(int argc, char** argv) {
  examples::GalleryArguments arguments;
  arguments.output = "noise-priors.gif";
  if (const auto code = examples::read_gallery_arguments(
          argc, argv, "noise-priors", "shows clips of shared and of independent noise", arguments))
    return *code;
  try {
    examples::Gallery gallery(arguments);
    make(gallery);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "noise-priors: %s\n", error.what());
    return 1;
  }
}
