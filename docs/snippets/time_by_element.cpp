// docs/time-by-element.md: frames at levels of their own, and a stream of frames.
#include <diffusion/noise/philox.hpp>
#include <diffusion/samplers/ddim.hpp>
#include <diffusion/sampling/sliced.hpp>
#include <diffusion/schedule/noise_schedule.hpp>
#include <diffusion/video/forcing.hpp>
#include <diffusion/video/rolling.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdio>

using Clip = Eigen::Tensor<float, 3, Eigen::RowMajor>;  // batch, frame, element

// A network for one clip: it is told the level of each frame. Data N(0, 0.5^2), frame by frame.
void network(const Clip& x, const diffusion::Query& query, Clip& eps) {
  for (Eigen::Index k = 0; k < x.dimension(1); ++k) {
    diffusion::Knot at{query.t, query.alpha, query.sigma};
    if (!query.levels.empty()) at = query.levels[static_cast<std::size_t>(k)];
    const double gain = at.sigma / (at.alpha * at.alpha * 0.25 + at.sigma * at.sigma);
    for (Eigen::Index i = 0; i < x.dimension(2); ++i)
      eps(0, k, i) = static_cast<float>(gain * static_cast<double>(x(0, k, i)));
  }
}

int main() {
  const auto plan =
      diffusion::DdimSampler{diffusion::NoiseSchedule<>::linear(), {.steps = 4, .eta = 1}}.plan();

  const auto schedule = diffusion::pyramid(4, 3, 1);  // 4 steps, 3 frames, each 1 step behind
  std::printf("%s", schedule.text().c_str());
  const Clip clip =
      diffusion::sample_sliced<Clip>(plan, network, {1, 3, 100}, diffusion::PhiloxNoise{42},
                                     diffusion::Slices::along(1), schedule);
  const Clip plain =
      diffusion::sample<Clip>(plan, network, {1, 3, 100}, diffusion::PhiloxNoise{42});
  std::printf("the plain run's numbers: %s\n",
              std::equal(clip.data(), clip.data() + clip.size(), plain.data()) ? "yes" : "no");

  diffusion::FrameQueue<Clip, diffusion::PhiloxNoise> queue(plan, {1, 4, 100}, 1,
                                                            diffusion::PhiloxNoise{42});
  for (int k = 0; k < 3; ++k) {
    const Clip frame = queue.next(network);
    std::printf("frame %d after %d calls, %d numbers\n", k, queue.ticks(),
                static_cast<int>(frame.size()));
  }
}
