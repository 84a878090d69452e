// What a network is trained to answer: a digit on its way to noise, the target of every prediction
// type beside it, and how much an error in the answer moves the estimate of x0.
#include <diffusion/diffusion.hpp>
#include <support/canvas.hpp>

#include <cmath>
#include <cstdio>
#include <exception>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace {

using diffusion::PredictionType;
using Pictures = Eigen::Tensor<float, 3, Eigen::RowMajor>;  // copy, row, column

constexpr int side = 28, zoom = 3, column = side * zoom + 10, left_margin = 74;

// A five, drawn with the letters of the plots: the data in [-1, 1], once for every timestep.
Pictures digit(int copies) {
  examples::Canvas canvas(side, side, 0);
  canvas.text({14, 23}, "5", 18, {255, 255, 255}, examples::Align::center);
  Pictures x0(copies, side, side);
  for (int i = 0; i < copies; ++i)
    for (int y = 0; y < side; ++y)
      for (int x = 0; x < side; ++x)
        x0(i, y, x) = static_cast<float>(canvas.image().at(x, y)) / 127.5F - 1;
  return x0;
}

void draw_row(examples::Canvas& canvas, int row, const std::string& label, const Pictures& x) {
  const int top = 10 + row * column;
  canvas.text({left_margin - 10, top + side * zoom / 2 + 5.0}, label, 10, examples::black,
              examples::Align::right);
  for (int i = 0; i < x.dimension(0); ++i)
    canvas.picture(
        examples::image_from_planes(std::span<const float>(x.data() + i * side * side, side * side),
                                    1, side, side),
        left_margin + i * column, top, zoom);
}

// |b| of x0 = a x + b f: what an error of size 1 in the answer f does to x0.
examples::Panel sensitivity(const diffusion::NoiseSchedule<>& schedule) {
  examples::Panel panel{
      .title = "error of the x0 estimate, for an answer that is wrong by 1",
      .x = {.label = "log SNR (noise on the left, data on the right)", .low = -10, .high = 10},
      .y = {.label = "|b|", .low = 0.006, .high = 200, .logarithmic = true},
      .legend = examples::Legend::upper_right};
  for (const PredictionType type :
       {PredictionType::epsilon, PredictionType::sample, PredictionType::v, PredictionType::flow}) {
    std::vector<double> log_snr, b;
    for (double t = 0; t <= schedule.last_time(); ++t) {
      log_snr.push_back(schedule.log_snr(t));
      b.push_back(std::abs(diffusion::conversion(type, schedule.knot(t)).b));
    }
    panel.add_line(std::string(diffusion::name(type)), log_snr, b);
  }
  return panel;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const std::string file = argc > 1 ? argv[1] : "prediction-types.png";
    const auto schedule = diffusion::NoiseSchedule<>::linear();
    const diffusion::ForwardDiffusion<> forward{schedule};
    const std::vector<double> timesteps{0, 50, 100, 200, 300, 400, 600, 999};
    const auto copies = static_cast<int>(timesteps.size());

    const Pictures x0 = digit(copies);
    Pictures eps(x0.dimensions());
    for (int i = 0; i < copies; ++i)  // the same noise in every copy
      diffusion::PhiloxNoise{4}.fill(0, 0, 0, {eps.data() + i * side * side, side * side});

    examples::Canvas canvas(left_margin + copies * column, 5 * column + 40 + 330);
    draw_row(canvas, 0, "x", forward.add_noise(x0, eps, timesteps));
    int row = 1;
    for (const PredictionType type :
         {PredictionType::epsilon, PredictionType::sample, PredictionType::v, PredictionType::flow})
      draw_row(canvas, row++, std::string(diffusion::name(type)),
               forward.training_target(type, x0, eps, timesteps));
    for (int i = 0; i < copies; ++i)
      canvas.text({left_margin + i * column + side * zoom / 2.0, 5 * column + 24.0},
                  "t = " + std::to_string(std::lround(timesteps[static_cast<std::size_t>(i)])), 9,
                  examples::black, examples::Align::center);
    draw_panel(canvas, sensitivity(schedule), 20, 5 * column + 40, canvas.width() - 20.0, 325);
    examples::write_png(file, canvas.image());
    std::printf("wrote %s\n", file.c_str());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "prediction-types: %s\n", error.what());
    return 1;
  }
}
