// The loop allocates nothing: every allocation of the program is counted, whoever makes it (new,
// malloc, Eigen, the standard library). A program of its own, since it replaces malloc; under
// sanitizers, which have replaced it already, their hook counts.

#define EIGEN_USE_THREADS  // for Eigen::ThreadPoolDevice

#include "catch.hpp"
#include "support.hpp"

#include <diffusion/guidance/classifier_free.hpp>
#include <diffusion/noise/philox.hpp>
#include <diffusion/noise/torch_cpu_noise.hpp>
#include <diffusion/samplers/ddim.hpp>
#include <diffusion/samplers/ddpm.hpp>
#include <diffusion/sampling/sample.hpp>
#include <diffusion/schedule/noise_schedule.hpp>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <string>
#include <vector>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif

namespace {
std::atomic<long> allocations = 0;
}

#ifdef SANITIZED
extern "C" int __sanitizer_install_malloc_and_free_hooks(  // NOLINT
    void (*on_malloc)(const volatile void*, std::size_t), void (*on_free)(const volatile void*));
namespace {
const bool installed =
    __sanitizer_install_malloc_and_free_hooks(
        [](const volatile void*, std::size_t) { ++allocations; }, [](const volatile void*) {}) != 0;
}
#else
// glibc's own names for what it also calls malloc, calloc, realloc and memalign.
extern "C" {
void* __libc_malloc(std::size_t size);                           // NOLINT
void* __libc_calloc(std::size_t count, std::size_t size);        // NOLINT
void* __libc_realloc(void* old, std::size_t size);               // NOLINT
void* __libc_memalign(std::size_t alignment, std::size_t size);  // NOLINT

void* malloc(std::size_t size) {
  ++allocations;
  return __libc_malloc(size);
}
void* calloc(std::size_t count, std::size_t size) {
  ++allocations;
  return __libc_calloc(count, size);
}
void* realloc(void* old, std::size_t size) {
  ++allocations;
  return __libc_realloc(old, size);
}
void* aligned_alloc(std::size_t alignment, std::size_t size) {
  ++allocations;
  return __libc_memalign(alignment, size);
}
int posix_memalign(void** out, std::size_t alignment, std::size_t size) {
  ++allocations;
  *out = __libc_memalign(alignment, size);
  return *out || size == 0 ? 0 : 12;  // ENOMEM
}
}
namespace {
const bool installed = true;
}
#endif

using namespace diffusion;
using support::Vector;

namespace {

template <class S>
using Image = Eigen::Tensor<S, 3, Eigen::RowMajor>;

/// Runs a plan and returns how often something was allocated from the first callback, when the
/// network has been asked once, to the end of the run.
template <class S, class Noise>
long allocations_of(const SamplingPlan& plan, Noise&& noise, PredictionType type) {
  Image<S> x(3, 2, 301);
  x.setConstant(S{0.5});
  long first = 0;
  int stages = 0;
  const SampleResult result = sample_in_place(plan, support::TestNetwork{3}, x, noise,
                                              {.prediction_type = type}, [&](const auto&) {
                                                if (stages++ == 0) first = allocations;
                                              });
  const long last = allocations;
  REQUIRE(result.done());
  REQUIRE(stages == plan.size());
  REQUIRE(first > 0);
  return last - first;
}

}  // namespace

TEST_CASE("Every kind of allocation is counted") {
  REQUIRE(installed);
  const auto counts = [](auto&& allocate) {
    const long before = allocations;
    allocate();
    return allocations - before;
  };
  static void* volatile kept;  // so that no compiler may leave an allocation out
  CHECK(counts([] { kept = nullptr; }) == 0);
  CHECK(counts([] { kept = new int(1); }) == 1);
  delete static_cast<int*>(kept);
  CHECK(counts([] { kept = std::malloc(3); }) == 1);
  std::free(kept);
  CHECK(counts([] { kept = std::calloc(3, 3); }) == 1);
  std::free(kept);
#ifndef SANITIZED  // the thread sanitizer's hook does not see this one
  CHECK(counts([] { kept = std::aligned_alloc(64, 64); }) == 1);
  std::free(kept);
#endif
  CHECK(counts([] { kept = Vector(10).data(); }) == 1);
  CHECK(counts([] { kept = Image<float>(1, 2, 3).data(); }) == 1);
  CHECK(counts([] { kept = Eigen::ArrayXd(9).data(); }) == 1);
  struct alignas(128) Wide {
    double value[16];
  };
  CHECK(counts([] { kept = new Wide; }) == 1);
  delete static_cast<Wide*>(kept);
}

TEMPLATE_TEST_CASE("The loop allocates nothing", "", float, double) {
  const auto schedule = NoiseSchedule<>::linear();
  const auto check = [](const std::string& name, const SamplingPlan& plan, auto&& noise) {
    for (const PredictionType type : {PredictionType::epsilon, PredictionType::v}) {
      INFO(name);
      CHECK(allocations_of<TestType>(plan, noise, type) == 0);
    }
  };
  check("DDIM", DdimSampler{schedule, {.steps = 10}}.plan(), PhiloxNoise{1});
  check("DDIM, eta 1", DdimSampler{schedule, {.steps = 10, .eta = 1}}.plan(), PhiloxNoise{1});
  check("DDPM", DdpmSampler{schedule, {.steps = 10}}.plan(), PhiloxNoise{1});
  check("DDPM, clipped", DdpmSampler{schedule, {.steps = 10, .clipping = Clipping::range()}}.plan(),
        PhiloxNoise{1});
  check("DDPM, dynamic thresholding",
        DdpmSampler{schedule, {.steps = 10, .clipping = Clipping::dynamic(0.9, 3)}}.plan(),
        PhiloxNoise{1});
  check("DDPM, learned variance",
        DdpmSampler{schedule, {.steps = 10, .variance = VarianceType::learned_range}}.plan(),
        PhiloxNoise{1});
  TorchCpuNoise torch(1);
  check("DDPM, sequential noise", DdpmSampler{schedule, {.steps = 10}}.plan(), torch);

  support::Random random(1);
  for (const Clipping& clipping :
       {Clipping::none(), Clipping::range(), Clipping::dynamic(0.9, 3)}) {
    const SamplingPlan plan(support::random_rows(random, {.stages = 12}), {.clipping = clipping});
    REQUIRE(plan.traits().slots > 1);
    REQUIRE(plan.view().saves_state());
    check("history, saved state, scaled input", plan, PhiloxNoise{1});
    check("history, saved state, old draws of a sequential source", plan, torch);
  }
  Stage langevin;
  langevin.at = langevin.to = {5, 0.8, 0.6};
  langevin.langevin_snr = 0.1;
  langevin.draws = 1;
  langevin.noise[0] = {0, 0};
  check("Langevin", SamplingPlan({langevin, langevin}, {}), PhiloxNoise{1});
}

TEST_CASE("A preview into a tensor of one's own makes the buffers of a clipping at most") {
  const SamplingPlan plan = DdimSampler{NoiseSchedule<>::linear(), {.steps = 4}}.plan();
  Image<float> x(3, 2, 301), x0(3, 2, 301);
  x.setConstant(0.5f);
  long most = 0;
  sample_in_place(plan, support::TestNetwork{3}, x, PhiloxNoise{1}, {}, [&](const auto& run) {
    const long before = allocations;
    run.preview(x0);
    most = std::max(most, allocations - before);
  });
  CHECK(most <= 2);
}

TEST_CASE("Guidance allocates at its first call only") {
  for (const GuidanceCalls calls : {GuidanceCalls::joined, GuidanceCalls::separate}) {
    const auto network = [](const Image<float>& x, double t, const Conditions<int>& conditions,
                            Image<float>& out) {
      support::TestNetwork{conditions.size()}(x, t, out);
    };
    ClassifierFreeGuidance guided(network, std::vector<int>{1, 2, 3}, 0,
                                  {.scale = 2, .calls = calls});
    const SamplingPlan plan = DdimSampler{NoiseSchedule<>::linear(), {.steps = 10}}.plan();
    Image<float> x(3, 2, 301);
    x.setConstant(0.5f);
    for (int run = 0; run < 2; ++run) {
      long first = 0, count = 0;
      sample_in_place(plan, guided, x, PhiloxNoise{1}, {},
                      [&](const auto& at) { (at.step() == 0 ? first : count) = allocations; });
      CHECK(count == first);
    }
  }
}

TEST_CASE("A pool of threads allocates nothing, by itself or in a run") {
  Eigen::ThreadPool pool(3);
  const Eigen::ThreadPoolDevice device(&pool, 3);
  const SamplingPlan plan = DdimSampler{NoiseSchedule<>::linear(), {.steps = 10, .eta = 1}}.plan();
  Image<float> x(3, 2, 256 * 64);
  x.setConstant(0.5f);
  long first = 0;
  int stages = 0;
  for (int run = 0; run < 2; ++run) {  // threads that have just started make things of their own
    stages = 0;
    sample_in_place(plan, support::TestNetwork{3}, x, PhiloxNoise{1}, {.device = device},
                    [&](const auto&) {
                      if (stages++ == 0) first = allocations;
                    });
  }
  CHECK(allocations == first);
  CHECK(stages == 10);
}
