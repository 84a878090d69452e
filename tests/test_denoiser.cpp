// The denoiser: its three forms, what it is told, and what it may declare.

#include "catch.hpp"
#include "support.hpp"

#include <diffusion/noise/philox.hpp>
#include <diffusion/samplers/ddim.hpp>
#include <diffusion/samplers/ddpm.hpp>
#include <diffusion/sampling/sample.hpp>
#include <diffusion/schedule/noise_schedule.hpp>

#include <array>
#include <cstddef>
#include <vector>

using namespace diffusion;
using support::TestNetwork;

namespace {

using support::ColMajor;
using support::RowMajor;
using Matrix = RowMajor<double, 2>;

SamplingPlan ddim(int steps) {
  return DdimSampler{NoiseSchedule<>::linear(), {.steps = steps}}.plan();
}

}  // namespace

TEST_CASE("The three forms of a denoiser give the same bits") {
  const SamplingPlan plan = ddim(5);
  const TestNetwork network{2};
  const auto writing = [&](const Matrix& x, double t, Matrix& out) { network(x, t, out); };
  const auto querying = [&](const Matrix& x, const Query& q, Matrix& out) { network(x, q.t, out); };
  const auto returning = [&](const Matrix& x, double t) -> Matrix {
    Matrix out(x.dimensions());
    network(x, t, out);
    return out;
  };
  const Matrix a = sample<Matrix>(plan, writing, {2, 33}, PhiloxNoise{1});
  const Matrix b = sample<Matrix>(plan, querying, {2, 33}, PhiloxNoise{1});
  const Matrix c = sample<Matrix>(plan, returning, {2, 33}, PhiloxNoise{1});
  CHECK(support::same_bits(a, b));
  CHECK(support::same_bits(a, c));
  static_assert(!Denoiser<int, Matrix>);
  static_assert(!Denoiser<void (*)(const Matrix&), Matrix>);
}

TEST_CASE("A query tells the level, the stage, the step and the prediction type") {
  const SamplingPlan whole = DdimSampler{NoiseSchedule<>::linear(), {.steps = 10}}.plan();
  const Grid rest = DdimSampler{NoiseSchedule<>::linear(), {.steps = 10}}.grid().cut(4);
  const SamplingPlan cut = make_plan(rest, DdimOptions{.steps = 10});
  for (const SamplingPlan* plan : {&whole, &cut}) {
    int asked = 0;
    const Matrix* seen = nullptr;
    const auto network = [&](const Matrix& x, const Query& q, Matrix& out) {
      const Stage& stage = (*plan)[asked];
      CHECK(q.t == stage.at.t);
      CHECK(q.alpha == stage.at.alpha);
      CHECK(q.sigma == stage.at.sigma);
      CHECK(q.stage == asked);
      CHECK(q.step == asked);
      CHECK(q.steps == plan->size());
      CHECK(q.branch == 0);
      CHECK(q.prediction_type == PredictionType::v);
      CHECK(q.times.empty());
      CHECK(q.samples == 3);
      CHECK(x.data() != out.data());
      CHECK((seen == nullptr || seen == &x));
      seen = &x;
      out.setZero();
      ++asked;
    };
    sample<Matrix>(*plan, network, {3, 4}, PhiloxNoise{1}, {.prediction_type = PredictionType::v});
    CHECK(asked == plan->size());
  }
}

namespace {

struct DeclaringNetwork {
  TestNetwork network;
  int runs = 0;
  int calls_since = -1;
  PredictionType prediction_type() const { return PredictionType::v; }
  void begin_run() { ++runs, calls_since = 0; }
  void operator()(const Matrix& x, const Query& q, Matrix& out) {
    REQUIRE(q.prediction_type == PredictionType::v);
    ++calls_since;
    network(x, q.t, out);
  }
};

}  // namespace

TEST_CASE("A denoiser declares its prediction type, and is told when a run begins") {
  const SamplingPlan plan = ddim(4);
  DeclaringNetwork network{{2}};
  const Matrix declared = sample<Matrix>(plan, network, {2, 9}, PhiloxNoise{1},
                                         {.prediction_type = PredictionType::sample});
  CHECK(network.runs == 1);
  CHECK(network.calls_since == 4);
  CHECK(support::same_bits(declared, sample<Matrix>(plan, TestNetwork{2}, {2, 9}, PhiloxNoise{1},
                                                    {.prediction_type = PredictionType::v})));
  sample<Matrix>(plan, network, {2, 9}, PhiloxNoise{1});
  CHECK(network.runs == 2);
  CHECK(network.calls_since == 4);
}

namespace {

struct WideNetwork {
  Eigen::Index channels;
  using Tensor = RowMajor<double, 3>;
  std::array<Eigen::Index, 3> output_shape(const std::array<Eigen::Index, 3>& x) const {
    return {x[0], channels, x[2]};
  }
  void operator()(const Tensor& x, double, Tensor& out) const {
    REQUIRE(out.dimension(1) == channels);
    for (Eigen::Index n = 0; n < out.dimension(0); ++n)
      for (Eigen::Index c = 0; c < channels; ++c)
        for (Eigen::Index i = 0; i < out.dimension(2); ++i)
          out(n, c, i) = c < x.dimension(1) ? 0.1 * x(n, c, i) : 1e30;
  }
};

}  // namespace

TEST_CASE("A denoiser declares the shape of its output; what is too small is refused") {
  using Tensor = RowMajor<double, 3>;
  const SamplingPlan plan = ddim(3);
  const Tensor wide = sample<Tensor>(plan, WideNetwork{5}, {2, 2, 7}, PhiloxNoise{1});
  const Tensor same = sample<Tensor>(plan, WideNetwork{2}, {2, 2, 7}, PhiloxNoise{1});
  CHECK(support::same_bits(wide, same));
  CHECK_THROWS_WITH(sample<Tensor>(plan, WideNetwork{1}, {2, 2, 7}, PhiloxNoise{1}),
                    contains("2x1x7") && contains("2x2x7") && contains("14"));
}

TEST_CASE("A learned variance is the second half of the channels, in both layouts and any plan") {
  const auto run = [](auto tensor, auto shape, std::size_t channel, int steps) {
    using Tensor = decltype(tensor);
    const DdpmOptions options{.steps = steps, .variance = VarianceType::learned};
    const SamplingPlan plan = DdpmSampler{NoiseSchedule<>::linear(), options}.plan();
    const auto network = [&](const Tensor& x, double, Tensor& out) {
      REQUIRE(out.dimensions()[channel] == 2 * x.dimensions()[channel]);
      out.setConstant(0.25);  // the variance
      const Eigen::array<Eigen::Index, 3> first{};
      out.slice(first, x.dimensions()) = 0.1 * x;  // epsilon
    };
    const Tensor start =
        sample<Tensor>(SamplingPlan({{.ask = false, .x = 1}}, {}), network, shape, PhiloxNoise{4});
    Tensor x = start, expected = start;
    sample_in_place(plan, network, x, PhiloxNoise{4});
    for (int i = 0; i < steps; ++i) {
      const Stage& s = plan[i];
      const auto weight = s.x + s.x0 * (1 - 0.1 * s.at.sigma) / s.at.alpha;
      // The plan's draw i is draw i + 1 of the source: ask it through a plan that adds it alone.
      std::vector<Stage> rows(static_cast<std::size_t>(i) + 1, Stage{.ask = false, .draws = 1});
      rows.back().noise[0] = {i, s.noise[0].source < 0 ? 0.0 : 0.5};
      Tensor noise = start;
      sample_in_place(SamplingPlan(rows, {}), network, noise, PhiloxNoise{4});
      expected = weight * expected + noise;
    }
    return support::relative_error(support::values_of(x), support::values_of(expected));
  };
  for (const int steps : {1, 3}) {
    CHECK(run(RowMajor<double, 3>(), ShapeOf<RowMajor<double, 3>>{2, 3, 5}, 1, steps) < 1e-12);
    CHECK(run(ColMajor<double, 3>(), ShapeOf<ColMajor<double, 3>>{5, 3, 2}, 1, steps) < 1e-12);
  }
  const SamplingPlan learned =
      DdpmSampler{NoiseSchedule<>::linear(), {.steps = 3, .variance = VarianceType::learned}}
          .plan();
  using Line = RowMajor<double, 1>;
  CHECK_THROWS_WITH(sample<Line>(learned, TestNetwork{4}, {4}, PhiloxNoise{1}),
                    contains("no such dimension"));
}
