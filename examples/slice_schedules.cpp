// When which frame is denoised: the ready schedules of runs in slices, a column a frame, from noise
// (dark) to clean (light), a row a call of the network, from above to below.
#include <diffusion/video/forcing.hpp>
#include <support/canvas.hpp>
#include <support/gallery_arguments.hpp>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

namespace {

constexpr int steps = 12, frames = 8, cell = 14;

void draw(examples::Canvas& canvas, const std::string& title, const std::string& below,
          const diffusion::SliceSchedule& schedule, int left) {
  canvas.text({left + cell * frames / 2.0, 22}, title, 9, examples::black, examples::Align::center);
  canvas.text({left + cell * frames / 2.0, 40}, below, 8, examples::grey, examples::Align::center);
  const auto row = [&](const std::vector<int>& levels, int top) {
    for (std::size_t k = 0; k < levels.size(); ++k) {
      const double share = static_cast<double>(levels[k]) / steps;
      const auto mix = [share](double dark, double light) {
        return static_cast<std::uint8_t>(dark + share * (light - dark));
      };
      const double x = left + cell * static_cast<double>(k);
      canvas.rectangle(x, top, x + cell - 1, top + 4, {mix(0, 250), mix(40, 225), mix(90, 140)});
    }
  };
  int top = 52;
  row(schedule.start, top);
  for (const std::vector<int>& levels : schedule.rows) row(levels, top += 5);
  char calls[40];
  std::snprintf(calls, sizeof calls, "%zu calls", schedule.rows.size());
  canvas.text({left + cell * frames / 2.0, top + 24.0}, calls, 8, examples::grey,
              examples::Align::center);
}

}  // namespace

int main(int argc, char** argv) {
  std::string file = "slice-schedules.png";
  if (const auto code = examples::read_output_argument(argc, argv, "slice-schedules",
                                                       "Draws when which frame is denoised.", file))
    return *code;
  try {
    examples::Canvas canvas(860, 450);
    draw(canvas, "full sequence", "a plain run", diffusion::full_sequence(steps, frames), 20);
    draw(canvas, "pyramid", "uncertainty 2", diffusion::pyramid(steps, frames, 2), 160);
    draw(canvas, "rolling", "window of 3", diffusion::rolling(steps, frames, 3), 300);
    draw(canvas, "autoregressive", "blocks of 2", diffusion::autoregressive(steps, frames, 2), 440);
    draw(canvas, "autoregressive", "2 frames known",
         diffusion::autoregressive(steps, frames).known(0, steps).known(1, steps), 580);
    draw(canvas, "joining", "strength 0 to 1",
         diffusion::joining(steps, {12, 10, 9, 7, 5, 3, 2, 0}), 720);
    examples::write_png(file, canvas.image());
    std::printf("wrote %s\n", file.c_str());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "slice-schedules: %s\n", error.what());
    return 1;
  }
}
