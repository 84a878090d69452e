// One run on the calling thread, on Eigen's thread pool and on a device of our own.
#define EIGEN_USE_THREADS  // for Eigen::ThreadPoolDevice; the library itself needs it nowhere

#include <diffusion/diffusion.hpp>

#include <algorithm>
#include <cstdio>
#include <thread>
#include <vector>

using namespace diffusion;
using Image = Eigen::Tensor<float, 4, Eigen::RowMajor>;

/// Two threads, each with a half.
struct TwoThreads {
  template <class F>
  void parallel_for(std::size_t n, std::size_t grain, const F& f) const {
    if (n <= grain) return f(0, n);
    std::thread other([&] { f(0, n / 2); });
    f(n / 2, n);
    other.join();
  }
};

bool same(const Image& a, const Image& b) {
  return std::equal(a.data(), a.data() + a.size(), b.data());
}

int main() {
  const DdimSampler sampler{NoiseSchedule<>::linear(), {.steps = 10, .eta = 1}};
  const auto network = [](const Image& x, double, Image& out) { out = 0.5f * x; };
  const auto run = [&](const SampleOptions& options) {
    return sample<Image>(sampler, network, {4, 3, 128, 128}, PhiloxNoise{42}, options);
  };
  const Image alone = run({});

  Eigen::ThreadPool pool(4);
  Eigen::ThreadPoolDevice device(&pool, 4);
  const Image pooled = run({.device = device});

  const TwoThreads two;
  const Image halves = run({.device = two});

  std::printf("thread pool: %s bits\n", same(pooled, alone) ? "the same" : "other");
  std::printf("own device:  %s bits\n", same(halves, alone) ? "the same" : "other");
}
