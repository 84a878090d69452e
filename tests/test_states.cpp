// What a state may be beside a tensor of floats: sixteen-bit scalars, and types of one's own.
#include "catch.hpp"

#include <diffusion/diffusion.hpp>

#include <array>
#include <cmath>
#include <cstddef>
#include <vector>

using namespace diffusion;

/// A state of one's own: rows of numbers in a std::vector.
struct Rows {
  std::array<Eigen::Index, 2> extents{};  // sample, element
  std::vector<double> values;
};

template <>
struct diffusion::StateTraits<Rows> {
  using Tensor = Rows;
  using Scalar = double;
  using Shape = std::array<Eigen::Index, 2>;
  static constexpr bool row_major = true;
  static double* data(Rows& x) { return x.values.data(); }
  static const double* data(const Rows& x) { return x.values.data(); }
  static Shape shape(const Rows& x) { return x.extents; }
  static Rows make(const Shape& shape) {
    return {shape, std::vector<double>(static_cast<std::size_t>(shape[0] * shape[1]))};
  }
};

namespace {

template <class S>
using Image = Eigen::Tensor<S, 3, Eigen::RowMajor>;

const NoiseSchedule<> schedule = NoiseSchedule<>::linear();

/// Answers tanh(x) / 2, whatever the type of the state.
struct Network {
  template <class T>
  void operator()(const T& x, double, T& out) const {
    using S = ScalarOf<T>;
    const auto blocks = blocks_of<T>(StateTraits<T>::shape(x), false);
    const S* from = StateTraits<T>::data(x);
    S* to = StateTraits<T>::data(out);
    for (std::size_t i = 0; i < blocks.total(); ++i)
      to[i] = static_cast<S>(std::tanh(static_cast<double>(from[i])) / 2);
  }
};

}  // namespace

TEMPLATE_TEST_CASE("Sixteen-bit states follow the double one", "", Eigen::half, Eigen::bfloat16) {
  const double precision = std::is_same_v<TestType, Eigen::half> ? 0x1p-10 : 0x1p-7;
  for (const Clipping& clipping :
       {Clipping::none(), Clipping::range(1), Clipping::dynamic(0.9, 2)}) {
    for (const double eta : {0.0, 1.0}) {
      const auto plan =
          DdimSampler{schedule, {.steps = 8, .eta = eta, .clipping = clipping}}.plan();
      const auto expected = sample<Image<double>>(plan, Network{}, {3, 2, 19}, PhiloxNoise{5});
      const auto got = sample<Image<TestType>>(plan, Network{}, {3, 2, 19}, PhiloxNoise{5});
      double largest = 1, error = 0;
      for (Eigen::Index i = 0; i < expected.size(); ++i) {
        largest = std::max(largest, std::abs(expected.data()[i]));
        error = std::max(error, std::abs(expected.data()[i] - static_cast<double>(got.data()[i])));
      }
      CHECK(error <= 16 * precision * largest);  // eight steps, each rounds state and output
    }
  }
}

TEST_CASE("A state of one's own is sampled and guided like a tensor") {
  const auto plan = DdimSampler{schedule, {.steps = 6, .eta = 0.5}}.plan();
  using Matrix = Eigen::Tensor<double, 2, Eigen::RowMajor>;
  const Matrix expected = sample<Matrix>(plan, Network{}, {3, 21}, PhiloxNoise{5});
  const Rows got = sample<Rows>(plan, Network{}, {3, 21}, PhiloxNoise{5});
  CHECK(std::equal(got.values.begin(), got.values.end(), expected.data()));

  const auto conditional = [](const auto& x, double t, const Conditions<int>& c, auto& out) {
    Network{}(x, t, out);
    auto* to = StateTraits<std::remove_cvref_t<decltype(out)>>::data(out);
    for (std::size_t i = 0; i < 21 * c.size(); ++i) to[i] += 0.01 * c[i / 21];
  };
  for (const GuidanceCalls calls : {GuidanceCalls::joined, GuidanceCalls::separate}) {
    ClassifierFreeGuidance guided(conditional, std::vector<int>{1, 2, 3}, 0,
                                  {.scale = 3, .calls = calls});
    const Matrix wanted = sample<Matrix>(plan, guided, {3, 21}, PhiloxNoise{5});
    const Rows rows = sample<Rows>(plan, guided, {3, 21}, PhiloxNoise{5});
    CHECK(std::equal(rows.values.begin(), rows.values.end(), wanted.data()));
  }
}

TEST_CASE("A grey picture that is one sample is guided by two calls") {
  const auto conditional = [](const Image<float>& x, const Query& query, const Conditions<int>& c,
                              Image<float>& out) {
    CHECK(x.dimension(0) == 1);
    CHECK(c.size() == 1);
    CHECK_FALSE(query.batched);
    out = x * static_cast<float>(c[0]);
  };
  ClassifierFreeGuidance guided(conditional, std::vector<int>{1}, 0, {.scale = 2});
  const auto plan = DdimSampler{schedule, {.steps = 2}}.plan();
  sample<Image<float>>(plan, guided, {1, 4, 5}, PhiloxNoise{1}, {.batch = false});
}

TEST_CASE("A network that never writes its output is told, not sampled from garbage") {
  const auto silent = [](const Image<float>&, double, Image<float>) {};
  CHECK_THROWS_WITH(
      sample<Image<float>>(DdimSampler{schedule, {.steps = 3}}, silent, {1, 2, 3}, PhiloxNoise{1}),
      contains("stage 1 of 3"));
}

TEST_CASE("A run that is refused takes nothing from a sequential source") {
  TorchCpuNoise used{3}, fresh{3};
  const auto zero = NoiseSchedule<>::linear({.rescale_zero_terminal_snr = true});
  const DdimSampler sampler{zero, {.steps = 2, .grid = {.spacing = TimestepSpacing::trailing}}};
  CHECK_THROWS_AS(sample<Image<float>>(sampler, Network{}, {1, 2, 3}, used), Error);
  std::vector<float> a(20), b(20);
  used.fill(std::span<float>(a));
  fresh.fill(std::span<float>(b));
  CHECK(a == b);
}

TEST_CASE("A view of rows that nobody checked is checked before it runs") {
  const Knot noisy{999, 0.1, 0.9}, clean{-1, 1, 0};
  const std::array<Stage, 1> rows{
      Stage{.at = noisy, .to = clean, .x0 = 1, .history = {Term{3, 1.0}}}};
  Image<float> x(1, 2, 3);
  x.setZero();
  CHECK_THROWS_WITH(sample_in_place(PlanView{rows, {}}, Network{}, x, PhiloxNoise{1}),
                    contains("slot 3"));
  const std::array<Stage, 1> draws{
      Stage{.at = noisy, .to = clean, .x0 = 1, .noise = {Term{2, 1.0}}, .draws = 1}};
  CHECK_THROWS_WITH(sample_in_place(PlanView{draws, {}}, Network{}, x, PhiloxNoise{1}),
                    contains("draw 2"));
  const std::array<Stage, 1> saved{Stage{.at = noisy, .to = clean, .x0 = 1, .saved = 1}};
  CHECK_THROWS_WITH(sample_in_place(PlanView{saved, {}}, Network{}, x, PhiloxNoise{1}),
                    contains("saved state"));
}

TEST_CASE("Noising at the knot where a cut grid starts") {
  const Grid grid = make_grid(RectifiedFlow({.time_scale = 1000}), 10);
  const Knot start = grid.cut(5).start();
  Image<double> x0(2, 1, 17), eps(2, 1, 17), x(2, 1, 17);
  x0.setConstant(0.5);
  eps.setConstant(-2);
  add_noise(x0, eps, start, x);
  CHECK(start.t == Approx(500));
  for (Eigen::Index i = 0; i < x.size(); ++i)
    CHECK(x.data()[i] == Approx(start.alpha * 0.5 - start.sigma * 2));
  Image<double> other(2, 1, 3);
  CHECK_THROWS_WITH(add_noise(x0, other, start, x), contains("2x1x3"));
}
