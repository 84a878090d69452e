// The sampling loop: against a second implementation, and everything that a caller sees of it.
// Runs by hand, copies, devices and noise are in test_stepper.cpp.

#include "catch.hpp"
#include "support.hpp"

#include <diffusion/noise/philox.hpp>
#include <diffusion/noise/recorded.hpp>
#include <diffusion/samplers/ddim.hpp>
#include <diffusion/sampling/sample.hpp>
#include <diffusion/schedule/noise_schedule.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <limits>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

using namespace diffusion;
using support::Random;
using support::TestNetwork;
using support::Vector;

namespace {

using support::ColMajor;
using support::RowMajor;
using Matrix = RowMajor<double, 2>;

SamplingPlan ddim(int steps, double eta = 0, Clipping clipping = {}) {
  const DdimOptions options{.steps = steps, .eta = eta, .clipping = clipping};
  return DdimSampler{NoiseSchedule<>::linear(), options}.plan();
}

/// A random plan, run by the library in T and by the reference in double.
template <class T>
void compare_with_reference(Random& random, const ShapeOf<T>& shape, bool batched, int trial,
                            int stages, double tolerance) {
  const Blocks blocks = blocks_of<T>(shape, batched);
  const bool has_channels = shape.size() > (batched ? 1u : 0u);
  const support::RandomPlanOptions options{.stages = stages,
                                           .learned_variance = has_channels && trial % 3 == 2};
  const std::vector<Stage> rows = support::random_rows(random, options);
  const Clipping clippings[] = {Clipping::none(), Clipping::range(0.7), Clipping::range(0.7),
                                Clipping::dynamic(0.9, 1.5)};
  const PlanTraits traits{.basis = static_cast<Basis>(random.integer(0, 2)),
                          .epsilon_rule = static_cast<EpsilonRule>(random.integer(0, 1)),
                          .clipping = clippings[random.integer(0, 3)]};
  const SamplingPlan plan(rows, traits);
  const PredictionType type = all_prediction_types[trial % 7];

  const Vector start = random.normals(blocks.total());
  std::vector<Vector> draws;
  for (int i = 0; i < plan.draws(); ++i) draws.push_back(random.normals(blocks.total()));
  RecordedNoise noise(draws);
  T x = support::tensor_of<T>(shape, start);
  const auto expected =
      support::reference_run(rows, traits, type, blocks.batch, support::values_of(x), draws);

  double worst_state = 0, worst_preview = 0;
  const SampleResult result = sample_in_place(
      plan, TestNetwork{blocks.batch}, x, noise, {.prediction_type = type, .batch = batched},
      [&](const auto& run) {
        const auto stage = static_cast<std::size_t>(run.stage_number());
        if (stage > 0)
          worst_state = std::max(
              worst_state,
              support::relative_error(support::values_of(run.state()), expected.states[stage - 1]));
        if (run.asks())
          worst_preview = std::max(
              worst_preview,
              support::relative_error(support::values_of(run.preview()), expected.x0[stage]));
      });
  worst_state =
      std::max(worst_state, support::relative_error(support::values_of(x), expected.states.back()));
  INFO("shape " << shape_text(shape) << ", batched " << batched << ", trial " << trial);
  CHECK(result.done());
  CHECK(result.stage == plan.size());
  CHECK(result.network_calls == plan.network_calls());
  CHECK(noise.remaining() == 0);
  CHECK(worst_state <= tolerance);
  CHECK(worst_preview <= tolerance);
}

template <class T>
void compare_shape(std::uint64_t seed, const ShapeOf<T>& shape) {
  Random random(seed);
  for (int trial = 0; trial < 30; ++trial)
    for (const bool batched : {true, false})
      compare_with_reference<T>(random, shape, batched, trial, 8, 1e-11);
}

}  // namespace

TEST_CASE("The loop equals a naive loop, for every rank and both layouts") {
  compare_shape<RowMajor<double, 1>>(1, {37});
  compare_shape<RowMajor<double, 2>>(2, {3, 129});
  compare_shape<RowMajor<double, 3>>(3, {2, 5, 7});
  compare_shape<RowMajor<double, 4>>(4, {3, 2, 5, 31});
  compare_shape<RowMajor<double, 5>>(5, {2, 2, 3, 5, 11});
  compare_shape<ColMajor<double, 1>>(6, {16});
  compare_shape<ColMajor<double, 2>>(7, {31, 4});
  compare_shape<ColMajor<double, 3>>(8, {9, 2, 3});
  compare_shape<ColMajor<double, 4>>(9, {6, 5, 2, 3});
  compare_shape<ColMajor<double, 5>>(10, {2, 3, 3, 2, 2});
}

TEST_CASE("The loop equals a naive loop, for every size of a sample from 1 to 130") {
  Random random(11);
  for (Eigen::Index size = 1; size <= 130; ++size) {
    const int trial = static_cast<int>(size);
    compare_with_reference<RowMajor<double, 2>>(random, {3, size}, true, trial, 5, 1e-11);
    compare_with_reference<RowMajor<float, 2>>(random, {2, size}, true, trial, 3, 5e-5);
  }
  for (const Eigen::Index size : {255, 256, 257, 511, 513, 1000, 1040})
    compare_with_reference<RowMajor<double, 2>>(random, {2, size}, true, 3, 5, 1e-11);
}

TEST_CASE("A map is sampled in its owner's memory") {
  using Map = Eigen::TensorMap<Matrix>;
  const SamplingPlan plan = ddim(6, 0.5);
  Random random(12);
  const Vector start = random.normals(2 * 45);
  Matrix owned = support::tensor_of<Matrix>({2, 45}, start);
  Vector memory = start;
  Map map(memory.data(), 2, 45);
  CHECK(sample_in_place(plan, TestNetwork{2}, map, PhiloxNoise{3}).done());
  CHECK(sample_in_place(plan, TestNetwork{2}, owned, PhiloxNoise{3}).done());
  CHECK(map.data() == memory.data());
  CHECK(memory == support::values_of(owned));

  // Where the input is scaled it lies in another tensor; the network still sees a map of it.
  Stage scaled;
  scaled.input_scale = 0.5;
  scaled.at = {1, 0.8, 0.6};
  scaled.raw = 1;
  const auto copy = [](const Map& x, double, Matrix& out) { out = x; };
  memory = start;
  CHECK(sample_in_place(SamplingPlan({scaled}, {}), copy, map, PhiloxNoise{3}).done());
  for (std::size_t i = 0; i < start.size(); ++i) REQUIRE(memory[i] == 0.5 * start[i]);
}

// ---- callbacks, endings ------------------------------------------------------------------------

TEST_CASE("Callbacks see every stage after the network's answer, in order") {
  const SamplingPlan plan = ddim(5);
  int asked = 0;
  const auto network = [&](const Matrix& x, double t, Matrix& out) {
    ++asked;
    TestNetwork{1}(x, t, out);
  };
  std::vector<int> steps;
  std::string order;
  sample<Matrix>(
      plan, network, {1, 8}, PhiloxNoise{1}, {},
      [&](const auto& run) {
        CHECK(asked == run.stage_number() + 1);
        CHECK(run.steps() == 5);
        CHECK(run.timestep() == plan[run.step()].at.t);
        steps.push_back(run.step());
        order += 'a';
      },
      [&](const auto&) -> Verdict { return order += 'b', Verdict::proceed; });
  CHECK(steps == std::vector<int>{0, 1, 2, 3, 4});
  CHECK(order == "ababababab");
}

TEST_CASE("A callback cancels: the state that was reached comes back, every ask is counted") {
  const SamplingPlan plan = ddim(6);
  for (int last = 0; last < 6; ++last) {
    Matrix x = support::tensor_of<Matrix>({1, 20}, Random(1).normals(20));
    Matrix at_cancel(1, 20);
    int asked = 0, later = 0;
    const auto network = [&](const Matrix& z, double t, Matrix& out) {
      ++asked;
      TestNetwork{1}(z, t, out);
    };
    const SampleResult result = sample_in_place(
        plan, network, x, PhiloxNoise{1}, {},
        [&](const auto& run) {
          at_cancel = run.state();
          return run.step() == last ? Verdict::cancel : Verdict::proceed;
        },
        [&](const auto&) { ++later; });
    CHECK(result.status == Status::cancelled);
    CHECK_FALSE(result.done());
    CHECK(result.stage == last);
    CHECK(asked == last + 1);
    CHECK(result.network_calls == asked);
    CHECK(later == last);  // a cancel is not passed on
    CHECK(support::same_bits(x, at_cancel));
  }
  const auto cancel = [](const auto&) { return Verdict::cancel; };
  CHECK_NOTHROW(sample<Matrix>(plan, TestNetwork{1}, {1, 4}, PhiloxNoise{1}, {}, cancel));
}

TEST_CASE("No network call starts after the deadline") {
  const SamplingPlan plan = ddim(6);
  using std::chrono::steady_clock;
  int asked = 0;
  const Vector start = Random(2).normals(20);
  Matrix x = support::tensor_of<Matrix>({1, 20}, start);
  const auto count = [&](const Matrix&, double, Matrix& out) { ++asked, out.setZero(); };
  SampleResult result =
      sample_in_place(plan, count, x, PhiloxNoise{1}, {.deadline = steady_clock::now()});
  CHECK(result.status == Status::deadline);
  CHECK((result.stage == 0 && result.network_calls == 0 && asked == 0));
  CHECK(support::values_of(x) == start);

  const auto deadline = steady_clock::now() + std::chrono::seconds(2);
  const auto slow = [&](const Matrix& z, double t, Matrix& out) {
    if (++asked == 3) std::this_thread::sleep_until(deadline);
    TestNetwork{1}(z, t, out);
  };
  result = sample_in_place(plan, slow, x, PhiloxNoise{1}, {.deadline = deadline});
  CHECK(result.status == Status::deadline);
  CHECK((result.stage == 3 && result.network_calls == 3 && asked == 3));
}

TEST_CASE("A state that is not finite ends the run at its stage, clipped or not") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double infinity = std::numeric_limits<double>::infinity();
  const auto run = [](const Clipping& clipping, double bad, Eigen::Index at, bool check,
                      auto scalar) {
    using Tensor = RowMajor<decltype(scalar), 2>;
    int asked = 0;
    const auto network = [&](const Tensor& x, double t, Tensor& out) {
      TestNetwork{2}(x, t, out);
      if (++asked == 3) out.data()[at] = static_cast<decltype(scalar)>(bad);
    };
    const Vector start = Random(3).normals(2 * 277);
    Tensor x = support::tensor_of<Tensor>({2, 277}, start);
    return sample_in_place(ddim(5, 0, clipping), network, x, PhiloxNoise{1},
                           {.check_finite = check});
  };
  for (const Clipping& clipping : {Clipping::none(), Clipping::range(), Clipping::dynamic(0.9, 2)})
    for (const double bad : {nan, infinity, -infinity})
      for (const Eigen::Index at : {0, 15, 272, 276, 277, 553}) {
        CAPTURE(bad, at, static_cast<int>(clipping.kind));
        for (const SampleResult& result :
             {run(clipping, bad, at, true, double()), run(clipping, bad, at, true, float())}) {
          CHECK(result.status == Status::not_finite);
          CHECK(result.stage == 3);
          CHECK(result.network_calls == 3);
        }
        CHECK(run(clipping, bad, at, false, double()).status == Status::done);
      }
}

TEST_CASE("sample throws when the state is not finite, and says at which stage") {
  const auto network = [](const Matrix&, double t, Matrix& out) {
    out.setConstant(t < 500 ? std::numeric_limits<double>::quiet_NaN() : 0.1);
  };
  CHECK_THROWS_WITH(sample<Matrix>(ddim(10), network, {2, 3}, PhiloxNoise{1}),
                    contains("not finite after stage 6 of 10") && contains("6 network calls"));
  CHECK_NOTHROW(sample<Matrix>(ddim(10), network, {2, 3}, PhiloxNoise{1}, {.check_finite = false}));
}

TEST_CASE("The state comes back when the network or a callback throws, and before the run") {
  const SamplingPlan plan = ddim(5);
  const Vector start = Random(4).normals(30);
  Matrix reached(2, 15);
  const auto thrower = [&](int at) {
    return [&, at, asked = 0](const Matrix& x, double t, Matrix& out) mutable {
      reached = x;
      if (asked++ == at) throw std::runtime_error("network down");
      TestNetwork{2}(x, t, out);
    };
  };
  for (const int at : {0, 3}) {
    Matrix x = support::tensor_of<Matrix>({2, 15}, start);
    CHECK_THROWS_WITH(sample_in_place(plan, thrower(at), x, PhiloxNoise{1}), "network down");
    CHECK(support::same_bits(x, reached));
  }
  Matrix x = support::tensor_of<Matrix>({2, 15}, start);
  CHECK_THROWS_AS(sample_in_place(plan, TestNetwork{2}, x, PhiloxNoise{1}, {},
                                  [](const auto&) { throw std::out_of_range("callback"); }),
                  std::out_of_range);
  CHECK(support::values_of(x) == start);

  // An output that the network made of another size.
  const auto resizing = [](const Matrix&, double, Matrix& out) { out = Matrix(1, 15); };
  CHECK_THROWS_WITH(sample_in_place(plan, resizing, x, PhiloxNoise{1}),
                    contains("15") && contains("30"));
  CHECK(support::values_of(x) == start);

  // Before the run: an estimate that is undefined, noise that does not suffice.
  NoiseScheduleOptions zero_snr;
  zero_snr.rescale_zero_terminal_snr = true;
  const DdimSampler pure_noise{NoiseSchedule<>::linear(zero_snr),
                               {.steps = 5, .grid = {.spacing = TimestepSpacing::trailing}}};
  int asked = 0;
  const auto counting = [&](const Matrix&, double, Matrix& out) { ++asked, out.setZero(); };
  CHECK_THROWS_WITH(sample_in_place(pure_noise, counting, x, PhiloxNoise{1}),
                    contains("x0 is undefined") && contains("epsilon"));
  RecordedNoise short_noise({Vector(30), Vector(30)});
  CHECK_THROWS_WITH(sample_in_place(ddim(5, 1), counting, x, short_noise),
                    contains("5") && contains("2"));
  RecordedNoise small_noise(std::vector<Vector>(5, Vector(29)));
  CHECK_THROWS_WITH(sample_in_place(ddim(5, 1), counting, x, small_noise),
                    contains("29") && contains("30"));
  const PhiloxNoise last_address(1, (std::uint64_t{1} << 48) - 1);  // for one sample, not for two
  CHECK_THROWS_WITH(sample_in_place(ddim(5, 1), counting, x, last_address),
                    contains("first_sample"));
  CHECK(asked == 0);
  CHECK(support::values_of(x) == start);
  CHECK_NOTHROW(sample_in_place(pure_noise, counting, x, PhiloxNoise{1},
                                {.prediction_type = PredictionType::v}));
}

TEST_CASE("A shape without elements is refused") {
  CHECK_THROWS_WITH(sample<Matrix>(ddim(3), TestNetwork{1}, {0, 4}, PhiloxNoise{1}),
                    contains("0x4") && contains("at least 1"));
  CHECK_THROWS_WITH(sample<Matrix>(ddim(3), TestNetwork{1}, {2, -1}, PhiloxNoise{1}),
                    contains("2x-1"));
  Matrix x(3, 0);
  CHECK_THROWS_WITH(sample_in_place(ddim(3), TestNetwork{1}, x, PhiloxNoise{1}), contains("3x0"));
}
