// docs/learn/applications.md, docs/learn/video.md: image to image, inversion, and a clip, on data of
// a known kind.
#include <diffusion/denoiser/exact/exact_denoiser.hpp>
#include <diffusion/diffusion.hpp>

#include <cmath>
#include <cstdio>

using Points = Eigen::Tensor<double, 2, Eigen::RowMajor>;
using Clip = Eigen::Tensor<float, 5, Eigen::RowMajor>;  // batch, frame, channel, height, width
using Vector = Eigen::VectorXd;

int main() {
  const auto schedule = diffusion::NoiseSchedule<>::linear();
  const diffusion::DdimSampler sampler{schedule, {.steps = 50}};
  const diffusion::GaussianMixture data{{0.5, diffusion::Gaussian::isotropic(Vector{{-1}}, 0.02)},
                                        {0.5, diffusion::Gaussian::isotropic(Vector{{1}}, 0.02)}};
  const auto right = diffusion::exact_denoiser(data.component(1).gaussian);

  // Image to image: the point -1, to be made like data about 1, by noising it to a level.
  Points picture(1, 1), noise(1, 1);
  picture(0, 0) = -1;
  noise(0, 0) = 0.3;
  for (const double strength : {0.2, 0.5, 0.8}) {
    const int begin = 50 - static_cast<int>(std::lround(strength * 50));
    const diffusion::Grid grid = sampler.grid().cut(begin);
    Points x(1, 1);
    diffusion::add_noise(picture, noise, grid.start(), x);
    diffusion::sample_in_place(sampler.plan(grid), right, x, diffusion::PhiloxNoise{1});
    std::printf("strength %.1f: %6.3f\n", strength, x(0, 0));
  }

  // Inversion: to the noise that DDIM turns into this point, and back.
  for (const int steps : {10, 50, 250}) {
    const diffusion::DdimSampler there{schedule, {.steps = steps}};
    const diffusion::DdimInverseSampler back{schedule, {.steps = steps}};
    Points x = picture;
    diffusion::sample_in_place(back, diffusion::exact_denoiser(data), x, diffusion::PhiloxNoise{1});
    diffusion::sample_in_place(there, diffusion::exact_denoiser(data), x,
                               diffusion::PhiloxNoise{1});
    std::printf("inverted and back, %3d steps: off by %.3f\n", steps, std::abs(x(0, 0) + 1));
  }

  // A clip is a state like any other.
  const auto still = [&](const Clip& x, const diffusion::Query& q, Clip& eps) {
    eps = (x - static_cast<float>(q.alpha) * 0.25F) / static_cast<float>(q.sigma);
  };
  const Clip clip =
      diffusion::sample<Clip>(sampler, still, {2, 8, 1, 4, 4}, diffusion::PhiloxNoise{1});
  std::printf("%ld frames, %.3f in the last corner of the last\n",
              static_cast<long>(clip.dimension(1)), static_cast<double>(clip(1, 7, 0, 3, 3)));
}
