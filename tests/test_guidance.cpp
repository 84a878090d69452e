// Classifier-free guidance: u + g (c - u), asked for in one call or two, with conditions of any
// type.

#include "catch.hpp"
#include "support.hpp"

#include <diffusion/guidance/classifier_free.hpp>
#include <diffusion/noise/philox.hpp>
#include <diffusion/samplers/ddim.hpp>
#include <diffusion/samplers/ddpm.hpp>
#include <diffusion/sampling/sample.hpp>
#include <diffusion/schedule/noise_schedule.hpp>

#include <cmath>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

using namespace diffusion;
using support::same_bits;

namespace {

template <class S>
using Image = Eigen::Tensor<S, 3, Eigen::RowMajor>;
using Embedding = Eigen::Tensor<float, 1>;
using Handle = std::unique_ptr<int>;

// What a condition does to the answer.
double effect(int condition) { return 0.3 * condition; }
double effect(const std::string& condition) { return 0.2 * static_cast<double>(condition.size()); }
double effect(const Embedding& condition) {
  const Eigen::Tensor<float, 0> sum = condition.sum();
  return static_cast<double>(sum());
}
double effect(const Handle& condition) { return condition ? 0.25 * *condition : 0; }

double conditional(double x, double t, double strength, std::size_t i) {
  return support::answer(x, t, i) * (1 - strength) + std::cos(x + strength);
}

/// A conditional network, elementwise; every sample has a condition of its own. What lies behind
/// the state's own size (a learned variance) is 10 + the condition's effect.
template <class Condition>
struct ConditionalNetwork {
  template <class T, class Out>
  void operator()(const T& x, double t, const Conditions<Condition>& conditions, Out& out) const {
    const std::size_t batch = conditions.size();
    const std::size_t size = static_cast<std::size_t>(x.size()) / batch;
    const std::size_t stride = static_cast<std::size_t>(out.size()) / batch;
    REQUIRE(size * batch == static_cast<std::size_t>(x.size()));
    for (std::size_t sample = 0; sample < batch; ++sample)
      for (std::size_t i = 0; i < stride; ++i) {
        const double strength = effect(conditions[sample]);
        const double f =
            i < size ? conditional(static_cast<double>(x.data()[sample * size + i]), t, strength, i)
                     : 10 + strength;
        out.data()[sample * stride + i] = static_cast<ScalarOf<Out>>(f);
      }
  }
};

std::vector<Handle> handles() {
  std::vector<Handle> list;
  for (const int number : {3, 1, 4}) list.push_back(std::make_unique<int>(number));
  return list;
}

Embedding embedding(float first, float second) {
  Embedding e(2);
  e.setValues({first, second});
  return e;
}

template <class S>
Image<S> state() {
  return support::tensor_of<Image<S>>({3, 2, 19}, support::Random(1).normals(3 * 2 * 19));
}

/// Joined calls, separate calls and the formula agree for every scale. `list()` makes three
/// conditions, `null()` the null condition.
template <class S, class List, class Null>
void check_condition_type(const List& list, const Null& null) {
  using Condition = decltype(null());
  const double tolerance = sizeof(S) == 4 ? 1e-6 : 1e-12;
  const Image<S> x = state<S>();
  const std::vector<Condition> conditions = list();
  for (const double g : {0.0, 1.0, 2.0, -1.0}) {
    std::vector<double> expected;
    for (Eigen::Index i = 0; i < x.size(); ++i) {
      const auto sample = static_cast<std::size_t>(i / 38),
                 element = static_cast<std::size_t>(i % 38);
      const auto value = static_cast<double>(x.data()[i]);
      const double u = conditional(value, 500, effect(null()), element);
      const double c = conditional(value, 500, effect(conditions[sample]), element);
      expected.push_back(u + g * (c - u));
    }
    for (const GuidanceCalls calls : {GuidanceCalls::joined, GuidanceCalls::separate}) {
      ClassifierFreeGuidance guided(ConditionalNetwork<Condition>(), list(), null(),
                                    {.scale = g, .calls = calls});
      Image<S> out(x.dimensions());
      guided(x, Query{.t = 500}, out);
      CAPTURE(g, static_cast<int>(calls));
      CHECK(support::relative_error(support::values_of(out), expected) < tolerance);
    }
  }
}

}  // namespace

TEMPLATE_TEST_CASE("Joined calls, separate calls and u + g (c - u) agree", "", float, double) {
  SECTION("labels") {
    check_condition_type<TestType>([] { return std::vector<int>{3, 1, 4}; }, [] { return 0; });
  }
  SECTION("texts") {
    check_condition_type<TestType>(
        [] {
          return std::vector<std::string>{"a cat", "", "two dogs"};
        },
        [] { return std::string("-"); });
  }
  SECTION("embeddings") {
    check_condition_type<TestType>(
        [] {
          return std::vector<Embedding>{embedding(0.1f, 0.5f), embedding(-1, 0), embedding(0, 2)};
        },
        [] { return embedding(0, 0.25f); });
  }
  SECTION("handles that can only be moved") {
    check_condition_type<TestType>(handles, [] { return Handle(); });
  }
}

TEST_CASE("Whole runs with joined and with separate calls agree") {
  const SamplingPlan plan = DdimSampler{NoiseSchedule<>::linear(), {.steps = 10}}.plan();
  const auto run = [&](auto scalar, GuidanceCalls calls) {
    ClassifierFreeGuidance guided(ConditionalNetwork<Handle>(), handles(), Handle(),
                                  {.scale = 2, .calls = calls});
    return support::values_of(
        sample<Image<decltype(scalar)>>(plan, guided, {3, 2, 19}, PhiloxNoise{1}));
  };
  CHECK(support::relative_error(run(1.0, GuidanceCalls::joined),
                                run(1.0, GuidanceCalls::separate)) < 1e-12);
  CHECK(support::relative_error(run(1.f, GuidanceCalls::joined),
                                run(1.f, GuidanceCalls::separate)) < 1e-6);
}

TEST_CASE("The calls: how many, on what batch, with which conditions and branch") {
  struct Call {
    Eigen::Index batch;
    int branch;
    std::vector<int> conditions;
    bool operator==(const Call&) const = default;
  };
  std::vector<Call> calls;
  const auto network = [&](const Image<float>& x, const Query& query,
                           const Conditions<int>& conditions, Image<float>& out) {
    std::vector<int> seen;
    for (std::size_t i = 0; i < conditions.size(); ++i) seen.push_back(conditions[i]);
    calls.push_back({x.dimension(0), query.branch, seen});
    CHECK(query.t == 321);
    CHECK(query.alpha == 0.25);
    CHECK(x.dimension(0) == out.dimension(0));
    CHECK(query.samples == (query.branch == 1 || x.dimension(0) == 3 ? 3u : 6u));
    CHECK(static_cast<const void*>(x.data()) != out.data());
    out.setZero();
  };
  const Image<float> x = state<float>();
  Image<float> out(x.dimensions());
  const Query query{.t = 321, .alpha = 0.25, .branch = 7, .samples = 3};
  const auto ask = [&](double scale, GuidanceCalls how) {
    calls.clear();
    ClassifierFreeGuidance guided(network, std::vector<int>{5, 6, 7}, -1,
                                  {.scale = scale, .calls = how});
    guided(x, query, out);
    return calls;
  };
  const Call with{3, 1, {5, 6, 7}}, without{3, 0, {-1, -1, -1}};
  CHECK(ask(2, GuidanceCalls::separate) == std::vector<Call>{without, with});
  CHECK(ask(2, GuidanceCalls::joined) == std::vector<Call>{{6, 0, {-1, -1, -1, 5, 6, 7}}});
  CHECK(ask(1, GuidanceCalls::separate) == std::vector<Call>{with});
  CHECK(ask(1, GuidanceCalls::joined) == std::vector<Call>{with});
}

TEST_CASE("One condition per sample: other numbers are refused, with both of them") {
  for (const std::size_t given : {0u, 2u, 4u}) {
    ClassifierFreeGuidance guided(ConditionalNetwork<int>(), std::vector<int>(given, 1), 0,
                                  {.scale = 1});
    Image<float> out(3, 2, 19);
    CHECK_THROWS_WITH(guided(state<float>(), Query(), out),
                      contains(std::to_string(given) + " conditions") && contains("batch of 3"));
  }
}

TEST_CASE("A learned variance comes from the conditional prediction, in both layouts") {
  const std::vector<int> conditions = {3, 1, 4};
  for (const GuidanceCalls calls : {GuidanceCalls::joined, GuidanceCalls::separate})
    for (const double g : {0.0, 1.0, 2.0, -1.0}) {
      ClassifierFreeGuidance guided(ConditionalNetwork<int>(), conditions, 0,
                                    {.scale = g, .calls = calls});
      const Image<double> x = state<double>();
      Image<double> plain(x.dimensions()), learned(3, 4, 19);
      guided(x, Query{.t = 9}, plain);
      guided(x, Query{.t = 9}, learned);
      Eigen::Tensor<double, 3> column(19, 4, 3), column_x(19, 2, 3);
      std::copy(x.data(), x.data() + x.size(), column_x.data());
      guided(column_x, Query{.t = 9}, column);
      for (Eigen::Index n = 0; n < 3; ++n)
        for (Eigen::Index c = 0; c < 4; ++c)
          for (Eigen::Index i = 0; i < 19; ++i) {
            const double expected =
                c < 2 ? plain(n, c, i) : 10 + effect(conditions[static_cast<std::size_t>(n)]);
            REQUIRE(learned(n, c, i) == expected);
            REQUIRE(column.data()[n * 76 + c * 19 + i] == expected);
          }
    }
  const DdpmOptions options{.steps = 5, .variance = VarianceType::learned};
  ClassifierFreeGuidance guided(ConditionalNetwork<int>(), conditions, 0, {.scale = 2});
  CHECK_NOTHROW(sample<Image<double>>(DdpmSampler{NoiseSchedule<>::linear(), options}, guided,
                                      {3, 2, 19}, PhiloxNoise{1}));
}

TEST_CASE("Rescaling brings each sample back to the deviation of the conditional prediction") {
  const auto deviation = [](const Image<double>& x, Eigen::Index sample) {
    const double* data = x.data() + sample * 38;
    double mean = 0, squares = 0;
    for (int i = 0; i < 38; ++i) mean += data[i] / 38;
    for (int i = 0; i < 38; ++i) squares += (data[i] - mean) * (data[i] - mean) / 38;
    return std::sqrt(squares);
  };
  const Image<double> x = state<double>();
  const auto guided = [&](GuidanceOptions options) {
    ClassifierFreeGuidance guidance(ConditionalNetwork<int>(), std::vector<int>{3, 1, 4}, 0,
                                    options);
    Image<double> out(x.dimensions());
    guidance(x, Query{.t = 9}, out);
    return out;
  };
  const Image<double> conditional_only = guided({}), plain = guided({.scale = 3});
  for (const GuidanceCalls calls : {GuidanceCalls::joined, GuidanceCalls::separate}) {
    const Image<double> whole = guided({.scale = 3, .calls = calls, .rescale = 1});
    const Image<double> part = guided({.scale = 3, .calls = calls, .rescale = 0.3});
    for (Eigen::Index n = 0; n < 3; ++n) {
      const double ratio = deviation(conditional_only, n) / deviation(plain, n);
      CHECK(deviation(whole, n) == Approx(deviation(conditional_only, n)).epsilon(1e-12));
      for (Eigen::Index i = 0; i < 38; ++i) {
        const Eigen::Index at = n * 38 + i;
        CHECK(whole.data()[at] == Approx(ratio * plain.data()[at]).epsilon(1e-12));
        CHECK(part.data()[at] == Approx((0.3 * ratio + 0.7) * plain.data()[at]).epsilon(1e-12));
      }
    }
  }
}

TEST_CASE("Buffers follow the state: other batches, types and maps") {
  ClassifierFreeGuidance guided(ConditionalNetwork<int>(), std::vector<int>{3, 1, 4}, 0,
                                {.scale = 2});
  const SamplingPlan plan = DdimSampler{NoiseSchedule<>::linear(), {.steps = 3}}.plan();
  const auto wide = sample<Image<double>>(plan, guided, {3, 2, 19}, PhiloxNoise{1});
  const auto narrow = sample<Image<double>>(plan, guided, {3, 1, 5}, PhiloxNoise{1});
  sample<Image<float>>(plan, guided, {3, 2, 19}, PhiloxNoise{1});
  CHECK(same_bits(narrow, sample<Image<double>>(plan, guided, {3, 1, 5}, PhiloxNoise{1})));

  // One plan of no stage's effect gives the initial state, to start a map from.
  const SamplingPlan nothing({Stage{.ask = false, .x = 1}}, {});
  Image<double> start = sample<Image<double>>(nothing, guided, {3, 2, 19}, PhiloxNoise{1});
  Eigen::TensorMap<Image<double>> map(start.data(), 3, 2, 19);
  CHECK(sample_in_place(plan, guided, map, PhiloxNoise{1}).done());
  CHECK(same_bits(start, wide));
}

TEST_CASE("Times of the samples' own are told for both halves of the joined batch") {
  std::vector<double> told;
  const auto network = [&](const Image<float>& x, const Query& query, const Conditions<int>&,
                           Image<float>& out) {
    told.assign(query.times.begin(), query.times.end());
    CHECK(told.size() == query.samples);
    out = x;
  };
  ClassifierFreeGuidance joined(network, std::vector<int>{3, 1}, 0, {.scale = 2});
  Image<float> x(2, 3, 5), out(2, 3, 5);
  x.setZero();
  const std::vector<double> times{7, 4};
  joined(x, Query{.times = times, .samples = 2}, out);
  CHECK(told == std::vector<double>{7, 4, 7, 4});
}

TEST_CASE("The joined batch of a view is a view: a network may ask for just that type") {
  using Map = Eigen::TensorMap<Image<float>>;
  using Span = std::span<float>;
  const SamplingPlan plan = DdimSampler{NoiseSchedule<>::linear(), {.steps = 3}}.plan();
  const auto of_maps = [](const Map& x, double t, const Conditions<int>& conditions,
                          Image<float>& out) { ConditionalNetwork<int>()(x, t, conditions, out); };
  const auto of_spans = [](const Span& x, double t, const Conditions<int>& conditions,
                           std::vector<float>& out) {
    ConditionalNetwork<int>()(x, t, conditions, out);
  };
  for (const GuidanceCalls calls : {GuidanceCalls::joined, GuidanceCalls::separate}) {
    const GuidanceOptions options{.scale = 2, .calls = calls};
    const std::vector<int> conditions{3, 1};
    ClassifierFreeGuidance any(ConditionalNetwork<int>(), conditions, 0, options);
    Image<float> expected(2, 3, 5);
    expected.setConstant(0.5F);
    Image<float> x = expected;
    sample_in_place(plan, any, expected, PhiloxNoise{1});
    ClassifierFreeGuidance mapped(of_maps, conditions, 0, options);
    sample_in_place(plan, mapped, Map(x.data(), x.dimensions()), PhiloxNoise{1});
    CHECK(same_bits(x, expected));

    std::vector<float> wanted(2, 0.5F), y = wanted;
    sample_in_place(plan, any, wanted, PhiloxNoise{1});
    ClassifierFreeGuidance spanned(of_spans, conditions, 0, options);
    sample_in_place(plan, spanned, Span(y), PhiloxNoise{1});
    CHECK(same_bits(y, wanted));
  }
}

TEST_CASE("A state that is one sample has one condition, whatever its dimensions") {
  const SamplingPlan plan = DdimSampler{NoiseSchedule<>::linear(), {.steps = 3}}.plan();
  const auto run = [&](GuidanceCalls calls, std::vector<int> conditions, bool batch) {
    ClassifierFreeGuidance guided(ConditionalNetwork<int>(), std::move(conditions), 0,
                                  {.scale = 2, .calls = calls});
    const ShapeOf<Image<double>> whole{2, 2, 19}, one_sample{1, 4, 19};
    return sample<Image<double>>(plan, guided, batch ? one_sample : whole, PhiloxNoise{1},
                                 {.batch = batch});
  };
  const Image<double> expected = run(GuidanceCalls::joined, {3}, true);
  CHECK(same_bits(run(GuidanceCalls::joined, {3}, false), expected));
  CHECK(same_bits(run(GuidanceCalls::separate, {3}, false), expected));
  CHECK_THROWS_WITH(run(GuidanceCalls::joined, {3, 1}, false), contains("2 conditions"));
}

namespace {

/// A conditional network that declares all that a network may declare.
struct DeclaringNetwork {
  int* runs;
  PredictionType prediction_type() const { return PredictionType::v; }
  void begin_run() { ++*runs; }
  ShapeOf<Image<double>> output_shape(ShapeOf<Image<double>> input) const {
    input[1] *= 2;
    return input;
  }
  void operator()(const Image<double>& x, const Query& query, const Conditions<int>&,
                  Image<double>& out) const {
    CHECK(query.prediction_type == PredictionType::v);
    CHECK(out.size() == 2 * x.size());
    out.setZero();
  }
};

}  // namespace

TEST_CASE("What a network declares holds for the guided network too") {
  const SamplingPlan plan = DdimSampler{NoiseSchedule<>::linear(), {.steps = 3}}.plan();
  for (const GuidanceCalls calls : {GuidanceCalls::joined, GuidanceCalls::separate}) {
    int runs = 0;
    ClassifierFreeGuidance guided(DeclaringNetwork{&runs}, std::vector<int>{1, 2}, 0,
                                  {.scale = 2, .calls = calls});
    sample<Image<double>>(plan, guided, {2, 1, 4}, PhiloxNoise{1});
    CHECK(runs == 1);
  }
}
