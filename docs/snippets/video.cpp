// docs/video.md: noise for clips, windows over a long clip, and its continuation. A frame is one
// number, and a frame goes with the one before: AR(1) data, whose exact network is known.
#include <diffusion/denoiser/exact/exact_denoiser.hpp>
#include <diffusion/denoiser/exact/exact_vector_jacobian.hpp>
#include <diffusion/noise/philox.hpp>
#include <diffusion/samplers/ddim.hpp>
#include <diffusion/sampling/sample.hpp>
#include <diffusion/schedule/noise_schedule.hpp>
#include <diffusion/video/continuation.hpp>
#include <diffusion/video/free_noise.hpp>
#include <diffusion/video/noise_priors.hpp>
#include <diffusion/video/windows.hpp>

#include <cmath>
#include <cstdint>
#include <cstdio>

using Clips = Eigen::Tensor<double, 2, Eigen::RowMajor>;  // batch, frame

// Frames of variance 1, each 0.9 of the one before and something new.
diffusion::Gaussian frames_of(Eigen::Index count) {
  Eigen::MatrixXd covariance(count, count);
  for (Eigen::Index f = 0; f < count; ++f)
    for (Eigen::Index g = 0; g < count; ++g)
      covariance(f, g) = std::pow(0.9, std::abs(static_cast<double>(f - g)));
  return {Eigen::VectorXd::Zero(count), covariance};
}

double mean_product(const Clips& clips, Eigen::Index f, Eigen::Index g) {
  double sum = 0;
  for (Eigen::Index i = 0; i < clips.dimension(0); ++i) sum += clips(i, f) * clips(i, g);
  return sum / static_cast<double>(clips.dimension(0));
}

void priors() {
  const diffusion::PhiloxNoise own{1}, shared{2};
  const auto layout = diffusion::FrameLayout::along<Clips>({1, 5}, 1);  // frames: dimension 1
  const auto mixed = diffusion::mixed_noise(own, shared, layout, {.alpha = 1});
  const auto progressive = diffusion::progressive_noise(own, layout, {.alpha = 1});
  std::printf("frame      ");
  for (int f = 0; f < 5; ++f) std::printf(" %5d", f);
  std::printf("\nmixed      ");
  for (int f = 0; f < 5; ++f) std::printf(" %.3f", mixed.covariance()(0, f));
  std::printf("\nprogressive");
  for (int f = 0; f < 5; ++f) std::printf(" %.3f", progressive.covariance()(0, f));
  std::printf("\nfree noise ");
  for (const std::uint64_t frame :
       diffusion::free_noise_frames(16, {.window = 8, .stride = 4, .seed = 3}))
    std::printf(" %d", static_cast<int>(frame));
  std::printf("\n\n");
}

int main() {
  priors();
  const diffusion::DdimSampler sampler{diffusion::NoiseSchedule<>::linear(), {.steps = 40}};
  const diffusion::PhiloxNoise noise{7};

  const auto network = diffusion::exact_denoiser(frames_of(8));  // sees 8 frames at a time
  for (const Eigen::Index stride : {8, 6, 5}) {
    diffusion::WindowedDenoiser wide{network,
                                     {{{.dimension = 1,
                                        .size = 8,
                                        .stride = stride,
                                        .blend = diffusion::WindowBlend::gaussian}}}};
    const Clips clips = diffusion::sample<Clips>(sampler, wide, {500, 23}, noise);
    const double seam = mean_product(clips, stride - 1, stride) /
                        std::sqrt(mean_product(clips, stride - 1, stride - 1) *
                                  mean_product(clips, stride, stride));
    std::printf("stride %d: neighbours at a seam have correlation %.2f\n", static_cast<int>(stride),
                seam);
  }
  std::printf("\n");

  Clips context(1, 3);
  context.setValues({{0.9, 1.2, 1.5}});  // so the next frame is 1.35 on average
  const Clips known = diffusion::with_frames_after(context, 8, 1);
  const Clips mask = diffusion::first_frames_mask<Clips>({500, 8}, 1, 3);
  for (const double weight : {0.0, 2.0, 4.0}) {
    diffusion::ReconstructionGuidance guided{network, diffusion::exact_vector_jacobian(network),
                                             known, mask,
                                             diffusion::ReconstructionOptions{.weight = weight}};
    const Clips clips = diffusion::sample<Clips>(
        sampler, guided, {500, 8}, noise, {},
        diffusion::continue_by_replacement(context, 8, 1, diffusion::PhiloxNoise{8}));
    double next = 0;
    for (Eigen::Index i = 0; i < 500; ++i) next += clips(i, 3) / 500;
    std::printf("weight %.0f: the next frame is %.2f on average\n", weight, next);
  }
}
