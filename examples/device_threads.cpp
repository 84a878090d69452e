// The updates of a run on a pool of threads: which thread takes which part of a step, and how much
// faster steps with noise become. The results are compared bit by bit.
#define EIGEN_USE_THREADS
#include <diffusion/diffusion.hpp>
#include <support/canvas.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <exception>
#include <string>
#include <vector>

namespace {

using Samples = Eigen::Tensor<float, 2, Eigen::RowMajor>;
using Run = diffusion::Stepper<Samples, diffusion::PhiloxNoise>;

Run start(const diffusion::SamplingPlan& plan, int batch, int elements,
          diffusion::DeviceRef device = {}) {
  const Samples x = Samples(batch, elements).setZero();
  Run run(plan, x, diffusion::PhiloxNoise{1}, diffusion::SampleOptions{.device = device});
  run.output().setZero();  // what a network would answer plays no part here
  return run;
}

// A device of our own, a pool that shows who updates what: a row is a sample, a cell 256 numbers.
struct WatchedPool {
  Eigen::ThreadPoolDevice& pool;
  examples::Canvas& canvas;
  template <class F>
  void parallel_for(std::size_t n, std::size_t grain, const F& f) const {
    std::vector<std::size_t> thread_of(n);  // 0: the calling one
    diffusion::DeviceRef(pool).parallel_for(n, grain, [&](std::size_t begin, std::size_t end) {
      for (std::size_t i = begin; i < end; ++i)
        thread_of[i] = static_cast<std::size_t>(pool.currentThreadId() + 1);
      f(begin, end);
    });
    for (std::size_t i = 0; i < n; ++i) {
      const int cell = static_cast<int>(i), left = 30 + cell % 192 * 2, top = 44 + cell / 192 * 20;
      canvas.rectangle(left, top, left + 2, top + 16, examples::series_color(thread_of[i]));
    }
  }
};

std::chrono::duration<double> time_of_20_steps(Run& run) {
  const auto begin = std::chrono::steady_clock::now();
  for (int step = 0; step < 20; ++step) run.advance();
  return std::chrono::steady_clock::now() - begin;
}

// The median of one thread's time over the device's, taken in turns. Fails for other bits.
double times_as_fast(const diffusion::SamplingPlan& plan, int elements,
                     diffusion::DeviceRef device) {
  Run alone = start(plan, 1, elements), shared = start(plan, 1, elements, device);
  std::vector<double> ratios(31);
  for (double& ratio : ratios) ratio = time_of_20_steps(alone) / time_of_20_steps(shared);
  const auto bytes = sizeof(float) * static_cast<std::size_t>(elements);
  if (std::memcmp(alone.state().data(), shared.state().data(), bytes) != 0)
    diffusion::fail("threads changed the result of " + std::to_string(elements) + " elements");
  std::nth_element(ratios.begin(), ratios.begin() + 15, ratios.end());
  return ratios[15];
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const std::string file = argc > 1 ? argv[1] : "device-threads.png";
    const auto plan = diffusion::DdpmSampler{diffusion::NoiseSchedule<>::linear()}.plan();
    examples::Canvas canvas(920, 330);
    canvas.text({88, 24}, "12 samples, 4 threads: who updates what");
    Eigen::ThreadPool three(3);
    Eigen::ThreadPoolDevice four(&three, 4);
    WatchedPool watched{four, canvas};
    Run run = start(plan, 12, 192 * 256, watched);
    for (int step = 0; step < 10; ++step) run.advance();  // the last of them stays on the canvas
    examples::Panel panel{.title = "one thread's time over that of n",
                          .x = {.label = "elements of the state", .logarithmic = true},
                          .y = {.label = "times as fast", .low = 0}};
    for (const int n : {2, 4, 8}) {
      Eigen::ThreadPool pool(n - 1);
      Eigen::ThreadPoolDevice device(&pool, n);
      std::vector<double> sizes, speeds;
      for (int size = 1 << 12; size <= 1 << 21; size *= 2) {
        sizes.push_back(size);
        speeds.push_back(times_as_fast(plan, size, device));
        std::printf("%d threads, %7d elements: %.2f times as fast\n", n, size, speeds.back());
      }
      panel.add_line(std::to_string(n) + " threads", sizes, speeds);
    }
    draw_panel(canvas, panel, 460, 0, 460, 330);
    examples::write_png(file, canvas.image());
    std::printf("the same bits on any number of threads\nwrote %s\n", file.c_str());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "device-threads: %s\n", error.what());
    return 1;
  }
}
