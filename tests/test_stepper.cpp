// Runs by hand: the stepper, copies in mid-run, previews; and what must not change a result: the
// device, the batch, the order in which noise is made.

#include "catch.hpp"
#include "support.hpp"

#include <diffusion/noise/philox.hpp>
#include <diffusion/noise/recorded.hpp>
#include <diffusion/noise/torch_cpu_noise.hpp>
#include <diffusion/samplers/ddim.hpp>
#include <diffusion/samplers/ddpm.hpp>
#include <diffusion/sampling/sample.hpp>
#include <diffusion/schedule/noise_schedule.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <new>
#include <span>
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
using Matrix = Rows<double>;

/// Plans that use history, saved state, old draws, no-ask stages, scaled inputs, learned variance.
SamplingPlan random_plan(int trial, bool learned = false) {
  Random random(static_cast<std::uint64_t>(trial) + 100);
  const Clipping clippings[] = {Clipping::none(), Clipping::range(0.6), Clipping::dynamic(0.8, 2)};
  return SamplingPlan(support::random_rows(random, {.stages = 9, .learned_variance = learned}),
                      {.basis = static_cast<Basis>(trial % 3),
                       .epsilon_rule = static_cast<EpsilonRule>(trial % 2),
                       .clipping = clippings[trial % 3]});
}

SamplingPlan ddim(int steps, double eta) {
  return DdimSampler{NoiseSchedule<>::linear(), {.steps = steps, .eta = eta}}.plan();
}

Matrix start_state(Eigen::Index batch, Eigen::Index size) {
  return support::tensor_of<Matrix>({batch, size},
                                    Random(7).normals(static_cast<std::size_t>(batch * size)));
}

template <class Run>
void step(Run& run) {
  const std::size_t batch = 2;
  if (run.asks()) TestNetwork{batch}(run.input(), run.timestep(), run.output());
  run.advance();
}

}  // namespace

// ---- the stepper -------------------------------------------------------------------------------

TEST_CASE("A run by hand is the run that sample makes") {
  for (int trial = 0; trial < 6; ++trial) {
    const SamplingPlan plan = random_plan(trial);
    Matrix x = start_state(2, 50);
    Stepper run(plan, x, PhiloxNoise{1});
    sample_in_place(plan, TestNetwork{2}, x, PhiloxNoise{1});
    int stages = 0;
    CHECK(run.stages() == plan.size());
    while (!run.done()) {
      CHECK(run.stage_number() == stages);
      CHECK(run.stage() == plan[stages]);
      step(run);
      CHECK(run.finite());
      ++stages;
    }
    CHECK(stages == plan.size());
    CHECK(run.step() == run.steps());
    CHECK(run.network_calls() == plan.network_calls());
    CHECK(same_bits(run.state(), x));
    const Matrix taken = std::move(run).state();
    CHECK(same_bits(taken, x));
  }
}

TEST_CASE("Interleaved steppers and copies in mid-run go on as if they were alone") {
  for (int trial = 0; trial < 12; ++trial) {
    const SamplingPlan plan = random_plan(trial, trial % 4 == 3), other = random_plan(trial + 50);
    const auto doubled = plan.view().learns_variance();
    Matrix x = start_state(2, 50), y = x;
    Stepper first(plan, x, PhiloxNoise{1}), second(other, y, PhiloxNoise{2});
    sample_in_place(plan, TestNetwork{2}, x, PhiloxNoise{1});
    sample_in_place(other, TestNetwork{2}, y, PhiloxNoise{2});
    std::vector<decltype(first)> copies;
    while (!first.done() || !second.done()) {
      if (!first.done()) {
        copies.push_back(first);
        step(first);
      }
      if (!second.done()) step(second);
    }
    CAPTURE(trial, doubled);
    CHECK(same_bits(first.state(), x));
    CHECK(same_bits(second.state(), y));
    for (auto& copy : copies) {  // each made at another stage
      while (!copy.done()) step(copy);
      CHECK(same_bits(copy.state(), x));
      CHECK(copy.network_calls() == plan.network_calls());
    }
  }
}

TEST_CASE("A copy made between the answer and the update keeps the answer") {
  const SamplingPlan plan = random_plan(0);
  Stepper run(plan, start_state(2, 20), PhiloxNoise{1});
  TestNetwork{2}(run.input(), run.timestep(), run.output());
  auto copy = run;
  run.output().setZero();
  Stepper expected(plan, start_state(2, 20), PhiloxNoise{1});
  step(expected);
  copy.advance();
  CHECK(same_bits(copy.state(), expected.state()));
  run.advance();
  CHECK_FALSE(same_bits(run.state(), expected.state()));
}

TEST_CASE("A preview changes nothing and is x0 by hand") {
  for (int trial = 0; trial < 12; ++trial) {
    const SamplingPlan plan = random_plan(trial);
    const PredictionType type = all_prediction_types[trial % 7];
    Matrix x = start_state(2, 33);
    Stepper run(plan, x, PhiloxNoise{1}, SampleOptions{.prediction_type = type});
    sample_in_place(plan, TestNetwork{2}, x, PhiloxNoise{1}, {.prediction_type = type});
    while (!run.done()) {
      if (run.asks()) {
        TestNetwork{2}(run.input(), run.timestep(), run.output());
        const Matrix before = run.state(), once = run.preview(), twice = run.preview();
        Matrix into(2, 33);
        run.preview(into);
        CHECK(same_bits(once, twice));
        CHECK(same_bits(once, into));
        CHECK(same_bits(before, run.state()));
        Vector expected;
        for (Eigen::Index sample = 0; sample < 2; ++sample) {
          Vector x0;
          for (Eigen::Index i = 0; i < 33; ++i)
            x0.push_back(
                support::estimates(type, run.stage(), before(sample, i), run.output()(sample, i))
                    .x0);
          support::clip(plan.traits().clipping, x0);
          expected.insert(expected.end(), x0.begin(), x0.end());
        }
        CHECK(support::relative_error(support::values_of(once), expected) < 1e-13);
      } else {
        CHECK_THROWS_WITH(run.preview(), contains("asks no network"));
      }
      run.advance();
    }
    CHECK(same_bits(run.state(), x));
    CHECK_THROWS_AS(run.preview(), Error);
  }
}

TEST_CASE("At the end of a run no stage comes next, and asking for it fails") {
  const SamplingPlan plan = ddim(1, 0);
  Stepper run(plan, start_state(1, 5), PhiloxNoise{1});
  step(run);
  REQUIRE(run.done());
  CHECK_FALSE(run.asks());
  CHECK(run.step() == 1);
  CHECK_THROWS_WITH(run.stage(), contains("no stage comes next"));
  CHECK_THROWS_WITH(run.input(), contains("no stage comes next"));
  CHECK_THROWS_WITH(run.timestep(), contains("no stage comes next"));
  CHECK_THROWS_WITH(run.query(), contains("no stage comes next"));
  CHECK_THROWS_WITH(run.advance(), contains("at its end"));
}

namespace {

/// A state whose memory runs out: only so many can be made.
struct Scarce {
  static inline int left = 0;
  std::vector<float> values;
};

}  // namespace

template <>
struct diffusion::StateTraits<Scarce> {
  using Tensor = Scarce;
  using Scalar = float;
  using Shape = std::array<Eigen::Index, 1>;
  static constexpr bool row_major = true;
  static float* data(Scarce& x) { return x.values.data(); }
  static const float* data(const Scarce& x) { return x.values.data(); }
  static Shape shape(const Scarce& x) { return {static_cast<Eigen::Index>(x.values.size())}; }
  static Scarce make(const Shape& shape) {
    if (Scarce::left-- == 0) throw std::bad_alloc();
    return {std::vector<float>(static_cast<std::size_t>(shape[0]))};
  }
};

TEST_CASE("Where a buffer cannot be had the caller still has the state") {
  Stage scaled = ddim(1, 0)[0];
  scaled.input_scale = 0.5;
  const SamplingPlan plan({scaled}, {});
  const auto network = [](const Scarce& x, double, Scarce& out) { out = x; };
  for (int makes = 0; makes < 2; ++makes) {  // the output's buffer, the scaled input's
    Scarce x{std::vector<float>(8, 1.0F)};
    Scarce::left = makes;
    CHECK_THROWS_AS(sample_in_place(plan, network, x, PhiloxNoise{1}), std::bad_alloc);
    CHECK(x.values == std::vector<float>(8, 1.0F));
  }
  Scarce x{std::vector<float>(8, 1.0F)};
  Scarce::left = 2;
  CHECK(sample_in_place(plan, network, x, PhiloxNoise{1}).done());
}

// ---- devices -----------------------------------------------------------------------------------

namespace {

/// Random ranges, down to single elements, the last one first.
struct ShuffledDevice {
  Random random{3};
  int calls = 0;
  template <class F>
  void parallel_for(std::size_t n, std::size_t grain, const F& f) {
    REQUIRE(grain >= 1);
    ++calls;
    for (std::size_t end = n; end > 0;) {
      const auto size = static_cast<std::size_t>(random.integer(1, 3));
      const std::size_t begin = end > size ? end - size : 0;
      f(begin, end);
      end = begin;
    }
  }
};

/// Three threads, each with its share.
struct ThreadDevice {
  template <class F>
  void parallel_for(std::size_t n, std::size_t, const F& f) {
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < 3; ++i)
      threads.emplace_back([&f, begin = n * i / 3, end = n * (i + 1) / 3] { f(begin, end); });
    for (std::thread& thread : threads) thread.join();
  }
};

}  // namespace

TEMPLATE_TEST_CASE("A result does not depend on the device", "", float, double) {
  using Tensor = Rows<TestType>;
  ShuffledDevice shuffled;
  ThreadDevice threads;
  for (int trial = 0; trial < 12; ++trial) {
    const SamplingPlan plan = random_plan(trial, trial % 2 == 1);
    const Eigen::Index batch = 3, size = trial < 6 ? 1500 + 7 * trial : 256 * (trial - 5);
    const Tensor start = support::tensor_of<Tensor>(
        {batch, size}, Random(7).normals(static_cast<std::size_t>(batch * size)));
    const auto run = [&](SampleOptions options) {
      Tensor x = start;
      CHECK(sample_in_place(plan, TestNetwork{3}, x, PhiloxNoise{1}, options).done());
      return x;
    };
    const Tensor alone = run({});
    CAPTURE(trial, size);
    CHECK(same_bits(run({.device = shuffled}), alone));
    CHECK(same_bits(run({.device = threads}), alone));
    // The check sees what any part of the work made.
    Tensor bad = start;
    bad(1, size - 1) = std::numeric_limits<TestType>::infinity();
    SamplingPlan keep({Stage{.ask = false, .x = 1}}, {});
    CHECK(sample_in_place(keep, TestNetwork{3}, bad, PhiloxNoise{1}, {.device = threads}).status ==
          Status::not_finite);
  }
  CHECK(shuffled.calls == 12 * 9);
}

// ---- noise -------------------------------------------------------------------------------------

TEMPLATE_TEST_CASE("A sample gets in a batch, bit for bit, what it gets alone", "", float, double) {
  using Tensor = Rows<TestType>;
  for (const Eigen::Index size : {1, 15, 16, 17, 100, 300})
    for (const bool learned : {false, true}) {
      const SamplingPlan plan = random_plan(static_cast<int>(size), learned);
      const Tensor batch = sample<Tensor>(plan, TestNetwork{5}, {5, size}, PhiloxNoise{9, 1000});
      for (Eigen::Index k = 0; k < 5; ++k) {
        const PhiloxNoise own(9, 1000 + static_cast<std::uint64_t>(k));
        const Tensor alone = sample<Tensor>(plan, TestNetwork{1}, {1, size}, own);
        CAPTURE(size, k, learned);
        CHECK(std::equal(alone.data(), alone.data() + size, batch.data() + k * size));
      }
    }
}

TEMPLATE_TEST_CASE("An element does not know how long its sample is", "", float, double) {
  // Elementwise plans: the first n elements of a long sample are a sample of n elements.
  using Tensor = Rows<TestType>;
  for (int trial = 0; trial < 6; ++trial) {
    if (trial % 3 == 2) continue;  // dynamic thresholding looks at the whole sample
    const SamplingPlan plan = random_plan(trial);
    const Tensor whole = sample<Tensor>(plan, TestNetwork{1}, {1, 300}, PhiloxNoise{9});
    for (Eigen::Index size = 1; size <= 130; ++size) {
      const Tensor part = sample<Tensor>(plan, TestNetwork{1}, {1, size}, PhiloxNoise{9});
      REQUIRE(std::equal(part.data(), part.data() + size, whole.data()));
    }
  }
}

TEST_CASE("An addressed source is asked for draw 0 at the start and d + 1 in the plan") {
  const SamplingPlan plan = ddim(4, 1);
  const std::size_t batch = 2, size = 50;
  const PhiloxNoise noise{5};
  const auto draw = [&](std::uint64_t number) {
    Vector values(batch * size);
    for (std::size_t sample = 0; sample < batch; ++sample)
      noise.fill(sample, number, 0, std::span<double>(values).subspan(sample * size, size));
    return values;
  };
  std::vector<Vector> draws;
  for (int d = 0; d < plan.draws(); ++d) draws.push_back(draw(static_cast<std::uint64_t>(d) + 1));
  const std::vector<Stage> rows(plan.stages().begin(), plan.stages().end());
  const auto expected =
      support::reference_run(rows, plan.traits(), PredictionType::epsilon, batch, draw(0), draws);
  const Matrix x = sample<Matrix>(plan, TestNetwork{batch}, {2, 50}, noise);
  CHECK(support::relative_error(support::values_of(x), expected.states.back()) < 1e-12);
}

TEST_CASE("An addressed source is asked beforehand for as many draws as the run takes") {
  struct Table {
    PhiloxNoise noise{1};
    std::size_t draws;
    void fill(std::uint64_t sample, std::uint64_t draw, std::uint64_t element,
              std::span<float> out) const {
      CHECK(draw < draws);
      noise.fill(sample, draw, element, out);
    }
    void require(std::size_t samples, std::size_t wanted, std::size_t elements) const {
      CHECK(samples == 2);
      CHECK(elements == 5);
      if (wanted > draws) fail(detail::text(wanted, " draws wanted"));
    }
  };
  const SamplingPlan plan = ddim(3, 1);
  const auto draws = static_cast<std::size_t>(plan.draws()) + 1;  // the initial state's too
  Matrix x = start_state(2, 5);
  CHECK(sample_in_place(plan, TestNetwork{2}, x, Table{.draws = draws}).done());
  sample<Matrix>(plan, TestNetwork{2}, {2, 5}, Table{.draws = draws});
  const Table less{.draws = draws - 1};
  CHECK_THROWS_WITH(sample_in_place(plan, TestNetwork{2}, x, less), contains("draws wanted"));
  CHECK_THROWS_WITH(sample<Matrix>(plan, TestNetwork{2}, {2, 5}, less), contains("draws wanted"));
}

TEST_CASE("The initial state has the scale of the plan's first level") {
  SamplingPlan nothing({Stage{.ask = false, .x = 1}}, {.initial_scale = 3.5});
  const Matrix scaled = sample<Matrix>(nothing, TestNetwork{1}, {1, 40}, PhiloxNoise{2});
  nothing = SamplingPlan({Stage{.ask = false, .x = 1}}, {});
  const Matrix plain = sample<Matrix>(nothing, TestNetwork{1}, {1, 40}, PhiloxNoise{2});
  for (Eigen::Index i = 0; i < 40; ++i) CHECK(scaled(0, i) == 3.5 * plain(0, i));
}

TEST_CASE("A sequential source gives the initial state, then the draws, used or not, in order") {
  // The last step of DDIM draws noise that no term uses, as the reference does.
  const SamplingPlan plan = ddim(5, 0.5);
  CHECK(plan.draws() == 5);
  CHECK(plan[4].noise[0].source == -1);
  const std::vector<Stage> rows(plan.stages().begin(), plan.stages().end());
  for (const std::size_t size : {3u, 33u}) {  // both of PyTorch's methods
    TorchCpuNoise source(11), same(11);
    std::vector<Vector> tensors(6, Vector(2 * size));
    for (Vector& tensor : tensors) same.fill(std::span<double>(tensor));
    const std::vector<Vector> draws(tensors.begin() + 1, tensors.end());
    const auto expected =
        support::reference_run(rows, plan.traits(), PredictionType::epsilon, 2, tensors[0], draws);
    const Matrix x =
        sample<Matrix>(plan, TestNetwork{2}, {2, static_cast<Eigen::Index>(size)}, source);
    CHECK(support::relative_error(support::values_of(x), expected.states.back()) < 1e-12);
    Vector next(4), next_of_same(4);
    source.fill(std::span<double>(next));
    same.fill(std::span<double>(next_of_same));
    CHECK(next == next_of_same);  // both have gone equally far
    RecordedNoise recorded(tensors);
    sample<Matrix>(plan, TestNetwork{2}, {2, static_cast<Eigen::Index>(size)}, recorded);
    CHECK(recorded.remaining() == 0);
  }
}

TEST_CASE("Old draws of a sequential source are kept as long as they are read") {
  // Random plans read draws of up to three stages before; compare_with_reference covers the sums.
  // Here: a draw of the first stage is read in the last, others come and go in between.
  std::vector<Stage> rows(6, Stage{.ask = false, .x = 0, .draws = 2});
  rows[5].noise = {Term{0, 1}, Term{11, 1}};
  rows[2].noise = {Term{2, 1}, Term{5, 1}};
  std::vector<Vector> tensors;
  for (int i = 0; i < 12; ++i) tensors.push_back(Vector(20, std::pow(2.0, i)));
  RecordedNoise noise(tensors);
  Matrix x = start_state(2, 10);
  sample_in_place(SamplingPlan(rows, {}), TestNetwork{2}, x, noise, {}, [&](const auto& run) {
    if (run.stage_number() == 3) CHECK(run.state()(1, 9) == 4 + 32);
  });
  CHECK(x(0, 0) == 1 + 2048);
  CHECK(noise.remaining() == 0);
}

// ---- the Langevin step -------------------------------------------------------------------------

TEST_CASE("A Langevin step takes its size from the norms of score and noise") {
  // x' = x + h score + sqrt(2 h) n, h = 2 (snr |n| / |score|)^2, norms averaged over the batch
  // (Song et al. 2021, algorithm 4).
  Stage stage;
  stage.at = stage.to = {7, 1, 0.8};
  stage.langevin_snr = 0.16;
  stage.draws = 1;
  stage.noise[0] = {0, 0};
  const std::size_t batch = 2, size = 300;
  for (const PredictionType type : all_prediction_types) {
    const Matrix start = start_state(2, 300);
    const Vector normals = Random(8).normals(batch * size);
    Vector score(batch * size);
    double score_norm = 0, noise_norm = 0;
    for (std::size_t sample = 0; sample < batch; ++sample) {
      double score_square = 0, noise_square = 0;
      for (std::size_t k = 0; k < size; ++k) {
        const std::size_t i = sample * size + k;
        const double x = start.data()[i];
        score[i] = -support::estimates(type, stage, x, support::answer(x, 7, k)).eps / 0.8;
        score_square += score[i] * score[i];
        noise_square += normals[i] * normals[i];
      }
      score_norm += std::sqrt(score_square) / 2;
      noise_norm += std::sqrt(noise_square) / 2;
    }
    const double ratio = 0.16 * noise_norm / score_norm, h = 2 * ratio * ratio;
    Vector expected(batch * size);
    for (std::size_t i = 0; i < expected.size(); ++i)
      expected[i] = start.data()[i] + h * score[i] + std::sqrt(2 * h) * normals[i];
    Matrix x = start;
    RecordedNoise noise({normals});
    const SampleResult result = sample_in_place(SamplingPlan({stage}, {}), TestNetwork{batch}, x,
                                                noise, {.prediction_type = type});
    CHECK(result.done());
    CHECK(support::relative_error(support::values_of(x), expected) < 1e-12);
  }
}
