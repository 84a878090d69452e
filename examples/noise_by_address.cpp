// Noise by address: a million numbers beside the normal density, and one sample's noise as it is
// made in a batch of 64, alone, and by a machine that has only the second half of the batch.
#include <diffusion/noise/philox.hpp>
#include <support/canvas.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <numbers>
#include <span>
#include <string>
#include <vector>

namespace {

examples::Panel histogram(std::size_t count) {
  std::vector<float> normals(count);
  diffusion::PhiloxNoise{42}.fill(0, 0, 0, normals);
  constexpr double width = 0.2;
  constexpr int bins = 50;  // from -5 to 5
  std::array<double, bins> counted{};
  for (const float z : normals) {
    const double bin = std::floor((static_cast<double>(z) + 5) / width);
    if (bin >= 0 && bin < bins) ++counted[static_cast<std::size_t>(bin)];
  }
  std::vector<double> at, density;
  std::vector<examples::Point> dots;
  for (int i = 0; i < bins; ++i) {
    const double z = -5 + (i + 0.5) * width;
    at.push_back(z);
    density.push_back(std::exp(-z * z / 2) / std::sqrt(2 * std::numbers::pi));
    dots.push_back(
        {z, counted[static_cast<std::size_t>(i)] / (static_cast<double>(count) * width)});
  }
  examples::Panel panel{.title = "a million numbers of PhiloxNoise{42}",
                        .x = {.label = "z", .low = -5.2, .high = 5.2},
                        .y = {.label = "density", .low = 1e-6, .high = 3, .logarithmic = true},
                        .legend = examples::Legend::lower_center};
  panel.add_line("normal density", at, density);
  panel.add_dots("counted", dots, examples::series_color(1), 2.8);
  return panel;
}

// The noise of a sample's initial state, 28 x 28.
void draw_noise(examples::Canvas& canvas, const diffusion::PhiloxNoise& noise, std::uint64_t sample,
                int left, const std::array<std::string, 2>& words) {
  std::array<float, 28 * 28> z{};
  noise.fill(sample, 0, 0, z);
  for (float& value : z) value /= 2.5F;  // to grey levels
  canvas.picture(examples::image_from_planes(std::span<const float>(z), 1, 28, 28), left, 60, 6);
  canvas.text({left + 84.0, 252}, words[0], 9, examples::black, examples::Align::center);
  canvas.text({left + 84.0, 274}, words[1], 9, examples::grey, examples::Align::center);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const std::string file = argc > 1 ? argv[1] : "noise-by-address.png";
    examples::Canvas canvas(1130, 320);
    draw_panel(canvas, histogram(1'000'000), 0, 0, 400, 320);
    const diffusion::PhiloxNoise whole{42}, alone{42, 40}, second_half{42, 32};
    draw_noise(canvas, whole, 40, 420, {"sample 40 of 64", "PhiloxNoise{42}"});
    draw_noise(canvas, alone, 0, 600, {"alone", "PhiloxNoise{42, 40}"});
    draw_noise(canvas, second_half, 8, 780, {"sample 8 of the last 32", "PhiloxNoise{42, 32}"});
    draw_noise(canvas, whole, 41, 960, {"its neighbour", "sample 41 of 64"});
    examples::write_png(file, canvas.image());
    std::printf("wrote %s\n", file.c_str());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "noise-by-address: %s\n", error.what());
    return 1;
  }
}
