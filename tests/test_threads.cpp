// What may be shared between threads: eight of them use one schedule, sampler, plan, denoiser and
// noise source at once, and get what one thread gets. Meant for the thread sanitizer as well.

#include "catch.hpp"
#include "support.hpp"

#include <diffusion/diffusion.hpp>

#include <atomic>
#include <cstddef>
#include <span>
#include <string>
#include <thread>
#include <vector>

using namespace diffusion;
using support::same_bits;
using support::TestNetwork;
using support::Vector;

namespace {

using Image = Eigen::Tensor<float, 3, Eigen::RowMajor>;

constexpr std::size_t threads = 8;

/// What work(k) gives for k = 0 to 7, all at once.
template <class Work>
auto at_once(const Work& work) {
  std::vector<decltype(work(std::size_t{}))> results(threads);
  std::atomic<std::size_t> ready{0};
  std::vector<std::thread> pool;
  for (std::size_t k = 0; k < threads; ++k)
    pool.emplace_back([&, k] {
      ++ready;
      while (ready < threads) std::this_thread::yield();  // so that they truly meet
      results[k] = work(k);
    });
  for (std::thread& thread : pool) thread.join();
  return results;
}

/// The same, one after the other.
template <class Work>
auto in_turn(const Work& work) {
  std::vector<decltype(work(std::size_t{}))> results;
  for (std::size_t k = 0; k < threads; ++k) results.push_back(work(k));
  return results;
}

void compare(const std::vector<Image>& a, const std::vector<Image>& b) {
  REQUIRE(a.size() == threads);
  for (std::size_t k = 0; k < threads; ++k) CHECK(same_bits(a[k], b[k]));
}

/// A device that starts a thread for half of the work.
struct TwoThreads {
  template <class F>
  void parallel_for(std::size_t n, std::size_t, const F& f) const {
    std::thread half([&] { f(0, n / 2); });
    f(n / 2, n);
    half.join();
  }
};

}  // namespace

TEST_CASE("Eight threads run one plan with one denoiser and one noise source") {
  const auto schedule = NoiseSchedule<>::scaled_linear();
  const SamplingPlan plan =
      DdimSampler{schedule, {.steps = 8, .eta = 0.5, .clipping = Clipping::dynamic(0.9, 2)}}.plan();
  const TestNetwork network{2};
  const PhiloxNoise noise{7};
  const auto work = [&](std::size_t) { return sample<Image>(plan, network, {2, 3, 100}, noise); };
  compare(at_once(work), in_turn(work));
}

TEST_CASE("Eight threads plan with one schedule, grid and sampler, each in its own way") {
  const auto schedule = NoiseSchedule<>::squaredcos_cap_v2();
  const DdimSampler ddim{schedule, {.steps = 6, .eta = 1}};
  const DdpmSampler ddpm{schedule, {.steps = 7}};
  const Grid grid = ddim.grid();
  const auto work = [&](std::size_t k) {
    const PhiloxNoise noise{k};
    switch (k % 4) {
      case 0:
        return sample<Image>(ddim, TestNetwork{2}, {2, 3, 50}, noise);
      case 1:
        return sample<Image>(ddpm, TestNetwork{2}, {2, 3, 50}, noise);
      case 2:
        return sample<Image>(ddim.plan(grid.cut(2)), TestNetwork{2}, {2, 3, 50}, noise);
      default:
        return sample<Image>(DdimSampler{schedule, {.steps = 3}}, TestNetwork{2}, {2, 3, 50},
                             noise);
    }
  };
  compare(at_once(work), in_turn(work));
}

TEST_CASE("Eight threads share the forward process, its schedule and a noise source") {
  const ForwardDiffusion<> forward(NoiseSchedule<>::linear());
  const PhiloxNoise noise{3};
  Image clean(2, 3, 40);
  clean.setConstant(0.25f);
  const auto work = [&](std::size_t k) {
    Image eps(2, 3, 40);
    for (std::size_t sample = 0; sample < 2; ++sample)
      noise.fill(sample, k, 0, std::span<float>(eps.data() + 120 * sample, 120));
    const Vector times{10.0 * static_cast<double>(k), 999.0};
    Image noisy = forward.add_noise(clean, eps, times);
    forward.training_target(PredictionType::v, clean, noisy, times, noisy);
    return noisy;
  };
  compare(at_once(work), in_turn(work));
}

TEST_CASE("Eight threads guide, each with an object of its own, one network and one plan") {
  const SamplingPlan plan = DdimSampler{NoiseSchedule<>::linear(), {.steps = 5}}.plan();
  const auto network = [](const Image& x, double t, const Conditions<int>& conditions, Image& out) {
    TestNetwork{conditions.size()}(x, t + 50 * conditions[conditions.size() - 1], out);
  };
  const auto work = [&](std::size_t k) {
    ClassifierFreeGuidance guided(network, std::vector<int>{1, static_cast<int>(k)}, 0,
                                  {.scale = 4, .rescale = 0.5});
    return sample<Image>(plan, guided, {2, 3, 40}, PhiloxNoise{1});
  };
  compare(at_once(work), in_turn(work));
}

TEST_CASE("Steppers on one plan advance on eight threads, each by itself, and may change hands") {
  const SamplingPlan plan = DdimSampler{NoiseSchedule<>::linear(), {.steps = 8, .eta = 1}}.plan();
  Image start(2, 3, 40);
  start.setConstant(0.5f);
  Stepper first(plan, start, PhiloxNoise{5});
  const auto step = [](auto& run) {
    TestNetwork{2}(run.input(), run.timestep(), run.output());
    run.advance();
  };
  for (int i = 0; i < 3; ++i) step(first);  // begun here, copied, finished elsewhere
  const auto work = [&](std::size_t) {
    auto run = first;
    while (!run.done()) step(run);
    return Image(run.state());
  };
  compare(at_once(work), in_turn(work));
}

TEST_CASE("A device is shared by the runs of eight threads") {
  const TwoThreads device;
  const SampleOptions options{.device = device};
  const SamplingPlan plan = DdpmSampler{NoiseSchedule<>::linear(), {.steps = 4}}.plan();
  const auto work = [&](std::size_t k) {
    return sample<Image>(plan, TestNetwork{2}, {2, 3, 1000}, PhiloxNoise{k}, options);
  };
  compare(at_once(work), in_turn(work));
}

TEST_CASE("Errors are thrown on the thread that made them, and the handler may be set by any") {
  const auto work = [](std::size_t k) -> std::string {
    set_error_handler(set_error_handler(nullptr));
    try {
      NoiseSchedule<>::linear({.train_timesteps = -static_cast<int>(k)});
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  const auto messages = at_once(work);
  for (std::size_t k = 1; k < threads; ++k)
    CHECK_THAT(messages[k], contains("-" + std::to_string(k)));
}
