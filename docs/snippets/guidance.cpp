// docs/guidance.md: a network of three conditions, asked for one, at growing scales.
#include <diffusion/guidance/classifier_free.hpp>
#include <diffusion/noise/philox.hpp>
#include <diffusion/samplers/ddim.hpp>
#include <diffusion/sampling/sample.hpp>
#include <diffusion/schedule/noise_schedule.hpp>

#include <array>
#include <cstddef>
#include <cstdio>
#include <vector>

using Points = Eigen::Tensor<double, 2, Eigen::RowMajor>;

// Data of two classes, each N(center, 0.5^2); class 2 stands for no condition, where the network
// knows only that the data spread wider, N(0, 1.1^2).
constexpr std::array<double, 3> center{-1, 1, 0}, deviation{0.5, 0.5, 1.1};

int main() {
  int asked = 0;
  const auto network = [&asked](const Points& x, const diffusion::Query& query,
                                const diffusion::Conditions<int>& classes, Points& eps) {
    ++asked;
    for (std::size_t i = 0; i < classes.size(); ++i) {
      const auto k = static_cast<std::size_t>(classes[i]);
      const double variance =
          query.alpha * query.alpha * deviation[k] * deviation[k] + query.sigma * query.sigma;
      const auto row = static_cast<Eigen::Index>(i);
      eps(row, 0) = query.sigma / variance * (x(row, 0) - query.alpha * center[k]);
    }
  };

  const diffusion::DdimSampler sampler{
      diffusion::NoiseSchedule<>::linear(),
      {.steps = 100, .grid = {.spacing = diffusion::TimestepSpacing::trailing}}};
  const std::vector<int> classes{0, 1, 1};
  for (const double scale : {0.0, 1.0, 2.0, 4.0}) {
    asked = 0;
    diffusion::ClassifierFreeGuidance guided{network, classes, 2, {.scale = scale}};
    const Points x = diffusion::sample<Points>(sampler, guided, {3, 1}, diffusion::PhiloxNoise{5});
    std::printf("scale %.0f: %6.3f %6.3f %6.3f, %d network calls\n", scale, x(0, 0), x(1, 0),
                x(2, 0), asked);
  }
}
