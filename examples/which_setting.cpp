// Asks a network what it was trained for: pictures are noised by every schedule, and its answer is
// compared with what a network of each prediction type should answer. The smallest error wins.
//
//     which-setting MODEL_FOLDER [PICTURES.npy]
//
// PICTURES.npy holds float32 [pictures, channels, height, width] of the data that the network was
// trained on, in its range, one for each class in turn; without it pictures of the network's own
// are taken.
#include <diffusion/diffusion.hpp>
#include <support/names.hpp>
#include <support/npy.hpp>
#include <support/studio.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdio>
#include <exception>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using diffusion::PredictionType;
using examples::Pictures;

struct Row {
  std::string schedule, told;
  PredictionType type;
  double error;  ///< mean square of the difference, over that of the target
};

double mean_square(const Pictures& x) {
  const Eigen::Tensor<float, 0, Eigen::RowMajor> mean = x.square().mean();
  return static_cast<double>(mean(0));
}

Pictures read_pictures(const std::string& file) {
  const auto array = examples::read_npy(file);
  if (array.shape.size() != 4)
    throw std::runtime_error(file + " must hold [pictures, channels, height, width]");
  Pictures pictures(
      static_cast<Eigen::Index>(array.shape[0]), static_cast<Eigen::Index>(array.shape[1]),
      static_cast<Eigen::Index>(array.shape[2]), static_cast<Eigen::Index>(array.shape[3]));
  std::ranges::copy(array.values, pictures.data());
  return pictures;
}

Pictures own_pictures(examples::Studio& studio, const std::vector<int>& labels) {
  const diffusion::DdimSampler sampler{studio.schedule(), {.steps = 50}};
  return studio.sample(sampler, labels, 1, 1);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const std::string folder = argc > 1 ? argv[1] : "examples/models/digits-and-clothing";
    examples::Studio studio(folder);
    const int classes = std::max(1, studio.model().null_class());
    const auto labels_for = [&](std::size_t count) {
      std::vector<int> labels;
      for (std::size_t i = 0; i < count; ++i) labels.push_back(static_cast<int>(i) % classes);
      return labels;
    };
    const Pictures x0 = argc > 2
                            ? read_pictures(argv[2])
                            : own_pictures(studio, labels_for(static_cast<std::size_t>(classes)));
    const auto count = static_cast<std::size_t>(x0.dimension(0));
    const std::vector<int> labels = labels_for(count);
    const Pictures eps = studio.noise(count, 2);

    std::vector<Row> rows;
    constexpr std::array types{PredictionType::epsilon, PredictionType::sample, PredictionType::v,
                               PredictionType::flow};
    Pictures answer;
    for (const auto& [name, kind] : examples::beta_schedule_names()) {
      const diffusion::ForwardDiffusion<> forward{diffusion::NoiseSchedule<>::make(kind)};
      for (const double unit : {1.0, 0.001}) {
        std::array<double, types.size()> errors{};
        for (const double t : {100.0, 300.0, 500.0, 700.0, 900.0}) {
          const std::vector<double> times(count, t);
          studio.model().network(forward.add_noise(x0, eps, times), t * unit, labels, answer);
          for (std::size_t k = 0; k < types.size(); ++k) {
            const Pictures target = forward.training_target(types[k], x0, eps, times);
            errors[k] += mean_square(answer - target) / mean_square(target) / 5;
          }
        }
        for (std::size_t k = 0; k < types.size(); ++k)
          rows.push_back({name, unit == 1 ? "t" : "t / 1000", types[k], errors[k]});
      }
    }
    std::ranges::sort(rows, {}, &Row::error);
    std::printf("%-18s %-9s %-10s error\n", "schedule", "told", "answers");
    for (std::size_t i = 0; i < 8; ++i)
      std::printf("%-18s %-9s %-10s %.4f\n", rows[i].schedule.c_str(), rows[i].told.c_str(),
                  std::string(name(rows[i].type)).c_str(), rows[i].error);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "which-setting: %s\n", error.what());
    return 1;
  }
}
