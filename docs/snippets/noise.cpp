// docs/noise.md: one sample's noise in a batch and alone, and sources of one's own.
#include <diffusion/noise/philox.hpp>
#include <diffusion/samplers/ddpm.hpp>
#include <diffusion/sampling/sample.hpp>
#include <diffusion/schedule/noise_schedule.hpp>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <span>

struct MyAddressedNoise {
  // Elements element, element + 1, ... of one draw of one sample. element is a multiple of 16.
  void fill(std::uint64_t sample, std::uint64_t draw, std::uint64_t element,
            std::span<float> out) const;
};

struct MySequentialNoise {
  void fill(std::span<float> out);  // the next tensor
  void fill(std::span<double> out);
  void require(std::size_t tensors, std::size_t elements);  // optional
};

// Noise that is no noise, to see who asks for what.
void MyAddressedNoise::fill(std::uint64_t sample, std::uint64_t draw, std::uint64_t element,
                            std::span<float> out) const {
  std::printf("sample %d, draw %d, elements from %d\n", static_cast<int>(sample),
              static_cast<int>(draw), static_cast<int>(element));
  for (float& z : out) z = 0;
}

void MySequentialNoise::fill(std::span<float> out) {
  std::printf("a tensor of %d elements\n", static_cast<int>(out.size()));
  for (float& z : out) z = 0;
}
void MySequentialNoise::fill(std::span<double> out) {
  for (double& z : out) z = 0;
}
void MySequentialNoise::require(std::size_t, std::size_t) {}  // it has as much as anybody wants

using Points = Eigen::Tensor<float, 2, Eigen::RowMajor>;

int main() {
  const diffusion::DdpmSampler sampler{diffusion::NoiseSchedule<>::linear(), {.steps = 20}};
  const auto network = [](const Points& x, double, Points& eps) { eps = 0.9F * x; };

  const Points batch =
      diffusion::sample<Points>(sampler, network, {64, 100}, diffusion::PhiloxNoise{42});
  const Points alone =
      diffusion::sample<Points>(sampler, network, {1, 100}, diffusion::PhiloxNoise{42, 7});
  int same = 0;
  for (int i = 0; i < 100; ++i) same += batch(7, i) == alone(0, i);
  std::printf("sample 7 of 64 and alone: %d of 100 numbers are the same bits\n\n", same);

  const diffusion::DdpmSampler two_steps{diffusion::NoiseSchedule<>::linear(), {.steps = 2}};
  diffusion::sample<Points>(two_steps, network, {2, 5}, MyAddressedNoise{});
  MySequentialNoise in_order;
  diffusion::sample<Points>(two_steps, network, {2, 5}, in_order);
}
