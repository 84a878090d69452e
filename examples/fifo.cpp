// A FIFO queue (Kim et al. 2024, arXiv 2405.11473): a window of pictures, each a step noisier than
// the one before. Every call of the network finishes the first; it leaves, and noise enters behind.
// Writes an animation: above the queue, below what has left it.
#include <diffusion/diffusion.hpp>
#include <diffusion/video/rolling.hpp>
#include <support/gallery.hpp>
#include <support/gif.hpp>
#include <support/slice_network.hpp>

#include <cstdio>
#include <exception>
#include <string>
#include <vector>

using examples::Pictures;

namespace {

// Six shades, so that the animation is small.
examples::Image tile(const Pictures& batch, Eigen::Index i) {
  const Pictures one = batch.slice(Eigen::array<Eigen::Index, 4>{i, 0, 0, 0},
                                   Eigen::array<Eigen::Index, 4>{1, 1, 28, 28});
  examples::Image image = examples::tiles_of(one)[0];
  for (auto& pixel : image.pixels) pixel = static_cast<std::uint8_t>(pixel / 43 * 51);
  return image;
}

}  // namespace

int main(int argc, char** argv) {
  examples::GalleryArguments arguments;
  arguments.output = "fifo.gif";
  if (const auto code = examples::read_gallery_arguments(argc, argv, "fifo",
                                                         "animates a queue of pictures", arguments))
    return *code;
  try {
    constexpr int steps = 12;
    examples::Studio studio(arguments.model);
    const auto plan =
        diffusion::DpmSolverSampler{
            studio.schedule(),
            {.steps = steps, .grid = {.spacing = diffusion::TimestepSpacing::trailing}}}
            .plan();
    diffusion::FrameQueue<Pictures, examples::SeedPerPicture> queue(
        plan, {steps, 1, 28, 28}, 0, examples::SeedPerPicture{0}, {},
        {.prediction_type = studio.model().scheduler.prediction_type});
    std::vector<int> classes(steps);  // of the pictures in the window: they move with it
    std::vector<examples::Image> frames;
    Pictures left(arguments.count, 1, 28, 28);
    left.setConstant(-1);
    while (queue.next_frame() < static_cast<std::uint64_t>(arguments.count)) {
      for (int i = 0; i < steps; ++i)
        classes[static_cast<std::size_t>(i)] = (static_cast<int>(queue.front()) + i) % 20;
      diffusion::ClassifierFreeGuidance guided{
          examples::conditional_by_picture(studio.model().network),
          classes,
          studio.model().null_class(),
          {.scale = 2}};
      guided(queue.input(), queue.query(), queue.output());
      queue.advance();
      examples::Image frame(std::max(steps, 16) * 30 + 2, 2 * 30 + 2, 1, 119);
      for (int i = 0; i < steps; ++i) paste(frame, tile(queue.window(), i), 2 + 30 * i, 2);
      const auto number = static_cast<Eigen::Index>(queue.next_frame());
      if (queue.ready()) left.chip(number, 0) = queue.pop().chip(0, 0);
      for (int i = 0; i < std::min(16, arguments.count); ++i)
        paste(frame, tile(left, i), 2 + 30 * i, 32);
      frames.push_back(std::move(frame));
    }
    examples::write_gif(arguments.output, frames, {.delay = 30});
    std::printf("%d calls for %d pictures, wrote %s\n", queue.ticks(), arguments.count,
                arguments.output.c_str());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "fifo: %s\n", error.what());
    return 1;
  }
}
