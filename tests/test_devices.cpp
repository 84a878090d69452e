// Devices: a result is the same, bit for bit, on every device, in every batch, at every size. Also
// compiled with and without fused multiply-add (tests/devices): each build must agree with itself.

#define EIGEN_USE_THREADS  // for Eigen::ThreadPoolDevice

#include "catch.hpp"
#include "support.hpp"

#include <diffusion/diffusion.hpp>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <memory>
#include <mutex>
#include <set>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

using namespace diffusion;
using support::Random;
using support::same_bits;
using support::TestNetwork;
using support::Vector;

namespace {

template <class S>
using Rows = Eigen::Tensor<S, 2, Eigen::RowMajor>;

/// A pool with its device.
struct Pool {
  explicit Pool(int threads) : pool(threads), device(&pool, threads) {}
  Eigen::ThreadPool pool;
  Eigen::ThreadPoolDevice device;
};

/// Eigen's pool with every chunk on its own: the loop's grain would leave small states whole.
struct ChunkByChunk {
  const Eigen::ThreadPoolDevice& device;
  template <class F>
  void parallel_for(std::size_t n, std::size_t, const F& f) const {
    detail::parallel_for(device, n, 1, [&](std::size_t begin, std::size_t end) {
      for (std::size_t i = begin; i < end; ++i) f(i, i + 1);
    });
  }
};

/// Every chunk on its own, the last one first, on the calling thread.
struct Backwards {
  template <class F>
  void parallel_for(std::size_t n, std::size_t, const F& f) const {
    for (std::size_t i = n; i > 0; --i) f(i - 1, i);
  }
};

/// Plans of every feature whose arithmetic goes element by element: history, saved state, old
/// draws, scaled inputs, learned variance, clipping.
std::vector<SamplingPlan> plans() {
  std::vector<SamplingPlan> list;
  const auto schedule = NoiseSchedule<>::linear();
  list.push_back(
      DdimSampler{schedule, {.steps = 3, .eta = 0.7, .clipping = Clipping::range(0.9)}}.plan());
  for (const bool learned : {false, true}) {
    Random random(learned ? 5 : 6);
    list.emplace_back(support::random_rows(random, {.stages = 5, .learned_variance = learned}),
                      PlanTraits{.basis = Basis::eps});
  }
  return list;
}

template <class S>
Rows<S> start_state(Eigen::Index batch, Eigen::Index size) {
  Rows<S> x(batch, size);  // element i of sample k is the same in every shape
  for (Eigen::Index k = 0; k < batch; ++k) {
    const Vector values =
        Random(static_cast<std::uint64_t>(k) + 1).normals(static_cast<std::size_t>(size));
    for (Eigen::Index i = 0; i < size; ++i)
      x(k, i) = static_cast<S>(values[static_cast<std::size_t>(i)]);
  }
  return x;
}

template <class S>
Rows<S> run(const SamplingPlan& plan, Rows<S> x, DeviceRef device) {
  const auto batch = static_cast<std::size_t>(x.dimension(0));
  REQUIRE(sample_in_place(plan, TestNetwork{batch}, x, PhiloxNoise{1}, {.device = device}).done());
  return x;
}

}  // namespace

TEMPLATE_TEST_CASE("The result is the same bits on every device, for every size and batch", "",
                   float, double, Eigen::half, Eigen::bfloat16) {
  std::vector<std::unique_ptr<Pool>> pools;
  for (int threads = 1; threads <= 4; ++threads) pools.push_back(std::make_unique<Pool>(threads));
  Eigen::DefaultDevice calling;
  Backwards backwards;
  const std::vector<SamplingPlan> all = plans();
  std::vector<Rows<TestType>> longest;
  for (const SamplingPlan& plan : all)
    longest.push_back(run(plan, start_state<TestType>(5, 130), {}));
  for (Eigen::Index size = 1; size <= 130; ++size)
    for (Eigen::Index batch = 1; batch <= 5; ++batch) {
      const auto number = static_cast<std::size_t>(size + batch);
      const SamplingPlan& plan = all[number % all.size()];
      const Rows<TestType>& expected = longest[number % all.size()];
      const Rows<TestType> start = start_state<TestType>(batch, size);
      const Rows<TestType> alone = run(plan, start, {});
      CAPTURE(size, batch);
      for (Eigen::Index k = 0; k < batch; ++k)
        REQUIRE(std::equal(&alone(k, 0), &alone(k, 0) + size, &expected(k, 0)));
      REQUIRE(same_bits(run(plan, start, calling), alone));
      REQUIRE(same_bits(run(plan, start, backwards), alone));
      for (const auto& pool : pools) {
        ChunkByChunk chunks{pool->device};
        REQUIRE(same_bits(run(plan, start, chunks), alone));
      }
      REQUIRE(same_bits(run(plan, start, pools[number % 4]->device), alone));
    }
}

TEMPLATE_TEST_CASE("Large states are shared out, and the result stays the same bits", "", float,
                   double) {
  for (const SamplingPlan& plan : plans())
    for (const Eigen::Index size : {256 * 64 * 3 + 37, 256 * 200, 17000}) {
      const Rows<TestType> start = start_state<TestType>(3, size);
      const Rows<TestType> alone = run(plan, start, {});
      for (int threads = 1; threads <= 4; ++threads) {
        Pool pool(threads);
        CAPTURE(size, threads);
        CHECK(same_bits(run(plan, start, pool.device), alone));
      }
    }
}

TEST_CASE("A pool gets ranges that cover all, of the grain at least, on several threads") {
  for (const int threads : {1, 2, 3, 4})
    for (const std::size_t grain : {1u, 10u, 64u})
      for (const std::size_t n : {1u, 9u, 64u, 65u, 129u, 1000u, 4097u}) {
        Pool pool(threads);
        std::mutex mutex;
        std::vector<std::pair<std::size_t, std::size_t>> ranges;
        DeviceRef(pool.device).parallel_for(n, grain, [&](std::size_t begin, std::size_t end) {
          const std::lock_guard lock(mutex);
          ranges.emplace_back(begin, end);
        });
        std::sort(ranges.begin(), ranges.end());
        std::size_t next = 0;
        for (const auto& [begin, end] : ranges) {
          CHECK(begin == next);
          CHECK(begin < end);
          CHECK((end - begin >= grain || end == n));
          next = end;
        }
        CHECK(next == n);
        CAPTURE(threads, grain, n);
        CHECK((ranges.size() > 1) == (threads > 1 && n > grain));
      }
}

TEST_CASE("The threads of a pool work at the same time") {
  // Each range waits for another one: with one thread at work this would never end.
  Pool pool(2);
  std::mutex mutex;
  std::set<std::thread::id> threads;
  std::atomic<int> inside{0};
  const DeviceRef device(pool.device);
  device.parallel_for(2, 1, [&](std::size_t, std::size_t) {
    ++inside;
    while (inside < 2) std::this_thread::yield();
    const std::lock_guard lock(mutex);
    threads.insert(std::this_thread::get_id());
  });
  CHECK(threads.size() == 2);
  CHECK(threads.count(std::this_thread::get_id()) == 1);  // the calling one is one of them
}

TEST_CASE("Runs that are started by all threads of the pool that they run on come to their end") {
  Pool pool(4);
  const SamplingPlan plan = plans()[0];
  const Rows<float> start = start_state<float>(2, 256 * 70);
  const Rows<float> expected = run(plan, start, {});
  std::vector<Rows<float>> results(12, start);
  Eigen::Barrier finished(static_cast<unsigned>(results.size()));
  for (Rows<float>& x : results)
    pool.pool.Schedule([&] {
      sample_in_place(plan, TestNetwork{2}, x, PhiloxNoise{1}, {.device = pool.device});
      finished.Notify();
    });
  // Meanwhile from outside, on the busy pool.
  CHECK(same_bits(run(plan, start, pool.device), expected));
  finished.Wait();
  for (const Rows<float>& x : results) CHECK(same_bits(x, expected));
}

TEST_CASE("Work that throws on the calling thread throws when all helpers have left") {
  Pool pool(4);
  const auto caller = std::this_thread::get_id();
  int thrown = 0;
  for (int trial = 0; trial < 50; ++trial) {
    std::atomic<int> inside{0};
    try {
      DeviceRef(pool.device).parallel_for(64, 1, [&](std::size_t, std::size_t) {
        if (std::this_thread::get_id() == caller) throw std::runtime_error("no more");
        ++inside;
        std::this_thread::yield();
        --inside;
      });
    } catch (const std::runtime_error&) {
      ++thrown;
    }
    CHECK(inside == 0);
  }
  CHECK(thrown > 0);  // now and then the helpers may have been faster
}

TEST_CASE("A device may be const, and Eigen's devices need no adapter") {
  const Pool pool(2);
  const Eigen::DefaultDevice calling{};
  const Backwards own{};
  const auto start = start_state<float>(2, 40);
  const auto expected = run(plans()[0], start, {});
  CHECK(same_bits(run(plans()[0], start, pool.device), expected));
  CHECK(same_bits(run(plans()[0], start, calling), expected));
  CHECK(same_bits(run(plans()[0], start, own), expected));
  STATIC_REQUIRE_FALSE(std::is_constructible_v<DeviceRef, int&>);
  STATIC_REQUIRE_FALSE(std::is_constructible_v<DeviceRef, Eigen::DefaultDevice>);  // a temporary
}
