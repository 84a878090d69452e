// docs/denoiser.md: the three forms of a denoiser, and one that declares what it answers.
#include <diffusion/noise/philox.hpp>
#include <diffusion/samplers/ddim.hpp>
#include <diffusion/sampling/sample.hpp>
#include <diffusion/schedule/noise_schedule.hpp>

#include <cstdio>
#include <exception>

using Image = Eigen::Tensor<float, 4, Eigen::RowMajor>;

// All four know pictures of one grey only, 0.5, for which the answer is known.
constexpr float grey = 0.5F;

struct Network {
  int calls = 0;
  void begin_run() { calls = 0; }
  diffusion::PredictionType prediction_type() const { return diffusion::PredictionType::sample; }
  void operator()(const Image&, double, Image& x0) {
    ++calls;
    x0.setConstant(grey);
  }
};

int main() {
  const auto schedule = diffusion::NoiseSchedule<>::linear();
  const diffusion::DdimSampler sampler{schedule, {.steps = 10}};
  const auto show = [&](const char* form, auto&& denoiser) {
    const Image x =
        diffusion::sample<Image>(sampler, denoiser, {1, 1, 2, 2}, diffusion::PhiloxNoise{1});
    std::printf("%-8s %.4f\n", form, static_cast<double>(x(0, 0, 1, 1)));
  };

  // Writes its answer into memory that the loop owns. A schedule turns t into a level.
  show("writing", [&](const Image& x, double t, Image& eps) {
    const auto alpha = static_cast<float>(schedule.alpha(t));
    const auto sigma = static_cast<float>(schedule.sigma(t));
    eps = (x - alpha * grey) / sigma;
  });

  // The same, told more than the time: the level itself, the step, the branch of guidance.
  show("query", [](const Image& x, const diffusion::Query& query, Image& eps) {
    eps = (x - static_cast<float>(query.alpha) * grey) / static_cast<float>(query.sigma);
  });

  // Returns a tensor of its own, which costs an allocation a call. Name the type: an Eigen
  // expression would refer to what is gone by then.
  show("return", [&](const Image& x, double t) -> Image {
    return (x - static_cast<float>(schedule.alpha(t)) * grey) /
           static_cast<float>(schedule.sigma(t));
  });

  Network network;
  show("object", network);
  std::printf("asked %d times\n", network.calls);

  try {
    show("wrong", [](const Image&, double, Image& eps) { eps.resize(1, 1, 2, 3); });
  } catch (const std::exception& error) {
    std::printf("%s\n", error.what());
  }
}
