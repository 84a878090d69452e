// docs/latents.md: a made-up autoencoder around the loop, and its decoder on tiles.
#include <diffusion/latent/codec.hpp>
#include <diffusion/latent/tiling.hpp>
#include <diffusion/noise/philox.hpp>
#include <diffusion/samplers/ddim.hpp>
#include <diffusion/sampling/sample.hpp>
#include <diffusion/schedule/noise_schedule.hpp>

#include <algorithm>
#include <array>
#include <cstdio>

using Tensor = Eigen::Tensor<float, 4, Eigen::RowMajor>;  // batch, channel, height, width

// A latent to 8 x 8 pixels, each the mean of the latents beside it.
void decode(const Tensor& z, Tensor& picture) {
  for (Eigen::Index i = 0; i < picture.dimension(2); ++i)
    for (Eigen::Index j = 0; j < picture.dimension(3); ++j) {
      const Eigen::Index x = j / 8, last = z.dimension(3) - 1;
      picture(0, 0, i, j) = (z(0, 0, i / 8, std::max<Eigen::Index>(x - 1, 0)) + z(0, 0, i / 8, x) +
                             z(0, 0, i / 8, std::min(x + 1, last))) /
                            3;
    }
}
Tensor encode(const Tensor& picture) {
  const Eigen::array<Eigen::Index, 4> start{0, 0, 0, 0}, every{1, 1, 8, 8};
  return picture.stridedSlice(start, picture.dimensions(), every);
}

int main() {
  const diffusion::CodecShape shape{
      .channel_dimension = 1,
      .picture_channels = 1,
      .latent_channels = 1,
      .axes = {{.dimension = 2, .factor = 8}, {.dimension = 3, .factor = 8}}};
  diffusion::LatentCodec codec(encode, decode, shape, {.scale = 0.5});

  const diffusion::DdimSampler sampler{diffusion::NoiseSchedule<>::scaled_linear(), {.steps = 20}};
  const auto network = [](const Tensor& x, double, Tensor& eps) { eps = 0.9F * x; };
  const Tensor latent =
      diffusion::sample<Tensor>(sampler, network, {1, 1, 4, 24}, diffusion::PhiloxNoise{1}, {},
                                diffusion::DecodedPreview(
                                    codec,
                                    [](int step, const Tensor& picture) {
                                      std::printf("step %2d: a preview of %d x %d\n", step,
                                                  static_cast<int>(picture.dimension(2)),
                                                  static_cast<int>(picture.dimension(3)));
                                    },
                                    10));
  const Tensor picture = codec.decode(latent);
  std::printf("the picture is %d x %d\n\n", static_cast<int>(picture.dimension(2)),
              static_cast<int>(picture.dimension(3)));

  struct Tiles {
    Eigen::Index overlap, margin;
  };
  for (const auto& [overlap, margin] : {Tiles{0, 0}, Tiles{2, 0}, Tiles{2, 1}}) {
    const Tensor tiled = diffusion::tiled_decode(
        codec, latent, {{.dimension = 3, .size = 10, .overlap = overlap, .margin = margin}});
    const Tensor error = (tiled - picture).abs();
    const float worst = *std::max_element(error.data(), error.data() + error.size());
    std::printf("overlap %d, margin %d: %s\n", static_cast<int>(overlap), static_cast<int>(margin),
                worst < 1e-6F ? "equal to the whole" : "a seam can be seen");
  }
  const auto clip =
      diffusion::CodecShape::clips().picture_of(std::array<Eigen::Index, 5>{1, 16, 13, 60, 90});
  std::printf("13 latent frames of 60 x 90 are %d frames of %d x %d\n", static_cast<int>(clip[2]),
              static_cast<int>(clip[3]), static_cast<int>(clip[4]));
}
