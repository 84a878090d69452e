#ifndef DIFFUSION_EXAMPLES_STUDIO_HPP
#define DIFFUSION_EXAMPLES_STUDIO_HPP

#include <diffusion/guidance/classifier_free.hpp>
#include <diffusion/noise/philox.hpp>
#include <diffusion/sampling/sample.hpp>
#include <diffusion/schedule/noise_schedule.hpp>
#include <support/model_folder.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace examples {

using Pictures = nn::Unet2d<float>::Batch;

/// The mean of |a - b| over all pixels of pictures of the same shape.
inline double mean_distance(const Pictures& a, const Pictures& b) {
  const Eigen::Tensor<float, 0, Eigen::RowMajor> mean = (a - b).abs().mean();
  return static_cast<double>(mean(0));
}

/// The network of a model folder, for programs that compare settings: each call gives one picture
/// for each label, and the same seed the same noise.
class Studio {
 public:
  explicit Studio(const std::string& folder) : model_(load_model(folder)) {
    model_.network.set_threads(static_cast<int>(std::max(1U, std::thread::hardware_concurrency())));
  }

  Model& model() { return model_; }
  /// The schedule that the network was trained with.
  diffusion::NoiseSchedule<> schedule() const { return model_.scheduler.schedule<double>(); }

  /// Standard normal pictures, those with which `sample` starts.
  Pictures noise(std::size_t count, std::uint64_t seed) const {
    const auto channels = static_cast<Eigen::Index>(model_.network.config().in_channels);
    Pictures x(static_cast<Eigen::Index>(count), channels, model_.height(), model_.width());
    const std::size_t size = count == 0 ? 0 : static_cast<std::size_t>(x.size()) / count;
    for (std::size_t i = 0; i < count; ++i)
      diffusion::PhiloxNoise{seed}.fill(i, 0, 0, std::span<float>(x.data() + i * size, size));
    return x;
  }

  /// Pictures from noise, by a sampler or a plan.
  template <class Plan, class... Callbacks>
  Pictures sample(const Plan& plan, const std::vector<int>& labels, double guidance,
                  std::uint64_t seed, Callbacks&&... callbacks) {
    Pictures x = noise(labels.size(), seed);
    run(plan, labels, guidance, seed, x, std::forward<Callbacks>(callbacks)...);
    return x;
  }

  /// Runs a plan from the state x. `seed` is that of the noise which the plan adds.
  template <class Plan, class... Callbacks>
  void run(const Plan& plan, const std::vector<int>& labels, double guidance, std::uint64_t seed,
           Pictures& x, Callbacks&&... callbacks) {
    diffusion::ClassifierFreeGuidance guided{
        conditional(model_.network), labels, model_.null_class(), {.scale = guidance}};
    diffusion::sample_in_place(plan, guided, x, diffusion::PhiloxNoise{seed},
                               {.prediction_type = model_.scheduler.prediction_type},
                               std::forward<Callbacks>(callbacks)...);
  }

 private:
  Model model_;
};

}  // namespace examples

#endif  // DIFFUSION_EXAMPLES_STUDIO_HPP
