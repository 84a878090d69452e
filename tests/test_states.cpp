// What a state may be beside a tensor of floats: sixteen-bit scalars, matrices, arrays, maps,
// spans, views, and types of one's own. The reference's trajectories in all of them:
// state_matrix.hpp.
#include "catch.hpp"
#include "support.hpp"

#include <diffusion/diffusion.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <span>
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
  template <class T, class Out>
  void operator()(const T& x, double, Out& out) const {
    using S = ScalarOf<T>;
    const auto blocks = blocks_of<T>(StateTraits<T>::shape(x), false);
    const S* from = StateTraits<T>::data(x);
    S* to = StateTraits<Out>::data(out);
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

namespace {

/// A conditional network for every kind of state: the wave of x, moved by the sample's condition.
struct Conditional {
  template <State T, class Out>
  void operator()(const T& x, double t, const Conditions<int>& c, Out& out) const {
    Network{}(x, t, out);
    auto* to = StateTraits<Out>::data(out);
    const std::size_t n = blocks_of<T>(StateTraits<T>::shape(x), false).total();
    for (std::size_t i = 0; i < n; ++i)
      to[i] += static_cast<ScalarOf<T>>(0.1 * c[i / (n / c.size())]);
  }
};

/// Samples with guidance, and is equal to the same numbers in a tensor.
template <State T>
void guide(const ShapeOf<T>& shape, Eigen::Index batch, bool batched = true) {
  using S = ScalarOf<T>;
  const auto n = static_cast<Eigen::Index>(blocks_of<T>(shape, false).total());
  const std::vector<int> conditions = batched ? std::vector<int>{1, 2, 3, 4} : std::vector<int>{1};
  for (const GuidanceCalls calls : {GuidanceCalls::joined, GuidanceCalls::separate}) {
    ClassifierFreeGuidance guided(Conditional{}, conditions, 0,
                                  {.scale = 2.5, .calls = calls, .rescale = 0.3});
    const auto plan = DdimSampler{schedule, {.steps = 4, .eta = 1}}.plan();
    const auto expected = sample<Eigen::Tensor<S, 2, Eigen::RowMajor>>(
        plan, guided, {batch, n / batch}, PhiloxNoise{5}, {.batch = batched});
    const auto got = sample<T>(plan, guided, shape, PhiloxNoise{5}, {.batch = batched});
    const S* data = StateTraits<TensorOf<T>>::data(got);
    CHECK(std::equal(data, data + n, expected.data()));
  }
}

}  // namespace

TEST_CASE("States of every kind are guided") {
  guide<Eigen::Tensor<float, 3>>({5, 2, 4}, 4);
  guide<Eigen::TensorFixedSize<double, Eigen::Sizes<4, 7>, Eigen::RowMajor>>({4, 7}, 4);
  guide<Eigen::MatrixXf>({7, 4}, 4);
  guide<Eigen::Matrix<float, 7, 4>>({7, 4}, 4);               // cannot hold two: asked twice
  guide<Eigen::Matrix<float, 7, Eigen::Dynamic>>({7, 4}, 4);  // can
  guide<Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, 0, 7, 6>>({7, 4}, 4);
  guide<Eigen::ArrayXd>({4}, 4);
  guide<Eigen::ArrayXd>({9}, 1, false);
  guide<std::span<float>>({4}, 4);
  guide<std::array<float, 9>>({9}, 1, false);
  guide<StateView<double, 2>>({4, 6}, 4);
}

TEST_CASE("A shape that a type of fixed size cannot have is refused before the run") {
  const DdimSampler sampler{schedule, {.steps = 2}};
  const auto refuse = [&](auto make, const auto& shape, const char* message) {
    using T = decltype(make());
    CHECK_THROWS_WITH(sample<T>(sampler, Network{}, shape, PhiloxNoise{1}), contains(message));
  };
  using Shape1 = std::array<Eigen::Index, 1>;
  using Shape2 = std::array<Eigen::Index, 2>;
  refuse([] { return Eigen::Matrix3f(); }, Shape2{3, 4}, "3x4, but its type holds 3 x 3 only");
  refuse([] { return Eigen::Matrix<float, 3, Eigen::Dynamic>(); }, Shape2{4, 4}, "3 x any only");
  refuse([] { return Eigen::Matrix<float, Eigen::Dynamic, 2, 0, 8, 2>(); }, Shape2{9, 2},
         "at most 8 x 2 only");
  refuse([] { return Eigen::Vector4d(); }, Shape1{3}, "holds 4 only");
  refuse([] { return std::array<double, 4>(); }, Shape1{5}, "holds 4 only");
  refuse([] { return Eigen::TensorFixedSize<float, Eigen::Sizes<2, 3>>(); }, Shape2{3, 2},
         "3x2, but its type holds 2x3 only; use a type of dynamic size");

  // A learned variance doubles the channels.
  const DdpmSampler learns{schedule, {.steps = 2, .variance = VarianceType::learned}};
  Eigen::Matrix3f x = Eigen::Matrix3f::Zero();
  CHECK_THROWS_WITH(sample_in_place(learns, Network{}, x, PhiloxNoise{1}),
                    contains("the network's output has the shape 6x3") && contains("3 x 3 only"));
  // So may a denoiser.
  struct Wide {
    void operator()(const Eigen::Matrix3f&, double, Eigen::Matrix3f&) const {}
    std::array<Eigen::Index, 2> output_shape(const std::array<Eigen::Index, 2>&) const {
      return {5, 3};
    }
  };
  CHECK_THROWS_WITH(sample_in_place(sampler, Wide{}, x, PhiloxNoise{1}), contains("5x3"));
}

TEST_CASE("A learned variance doubles the rows of column-major samples, the columns of others") {
  const auto plan =
      DdpmSampler{schedule, {.steps = 4, .variance = VarianceType::learned_range}}.plan();
  using Tensor = Eigen::Tensor<float, 2, Eigen::RowMajor>;
  const Tensor expected = sample<Tensor>(plan, support::TestNetwork{3}, {3, 10}, PhiloxNoise{2});
  const auto columns =
      sample<Eigen::MatrixXf>(plan, support::TestNetwork{3}, {10, 3}, PhiloxNoise{2});
  using RowArray = Eigen::Array<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  const auto rows = sample<RowArray>(plan, support::TestNetwork{3}, {3, 10}, PhiloxNoise{2});
  CHECK(support::same_bits(columns, expected));
  CHECK(support::same_bits(rows, expected));
  // A vector that is one sample.
  const auto one = sample<Eigen::VectorXf>(plan, support::TestNetwork{1}, {10}, PhiloxNoise{2},
                                           {.batch = false});
  CHECK(std::equal(one.data(), one.data() + 10, expected.data()));
}

TEST_CASE("The batch is the slowest dimension, and the only one of a vector") {
  const auto batch_of = [](auto make, const auto& shape) {
    return blocks_of<decltype(make())>(shape, true).batch;
  };
  using Shape1 = std::array<Eigen::Index, 1>;
  using Shape2 = std::array<Eigen::Index, 2>;
  CHECK(batch_of([] { return Eigen::MatrixXf(); }, Shape2{5, 3}) == 3);
  CHECK(batch_of([] { return Eigen::Matrix<float, 5, 3, Eigen::RowMajor>(); }, Shape2{5, 3}) == 5);
  CHECK(batch_of([] { return Eigen::VectorXf(); }, Shape1{7}) == 7);
  CHECK(batch_of([] { return std::vector<float>(); }, Shape1{7}) == 7);
  CHECK(blocks_of<std::span<float>>({7}, false).size == 7);

  // Each number of a batched vector gets the noise of a sample of its own.
  const auto plan = DdimSampler{schedule, {.steps = 3}}.plan();
  const auto alone = sample<Eigen::VectorXf>(plan, Network{}, {4}, PhiloxNoise{5});
  const auto whole =
      sample<Eigen::VectorXf>(plan, Network{}, {4}, PhiloxNoise{5}, {.batch = false});
  CHECK(alone(0) == whole(0));
  CHECK(alone(1) == sample<Eigen::VectorXf>(plan, Network{}, {1}, PhiloxNoise{5, 1})(0));
  CHECK(alone(1) != whole(1));
}

TEST_CASE("A view is sampled in place in its owner's memory, made on the spot or named") {
  const auto plan = DdimSampler{schedule, {.steps = 3}}.plan();
  const auto fresh = [] { return std::vector<float>{0.5f, -1, 2, 0.25f, 1, -0.5f}; };
  std::vector<float> expected = fresh();
  sample_in_place(plan, Network{}, expected, PhiloxNoise{1});
  CHECK(expected != fresh());
  const auto check = [&](auto sample_it) {
    std::vector<float> memory = fresh();
    sample_it(memory);
    CHECK(memory == expected);
  };
  check([&](auto& m) { sample_in_place(plan, Network{}, std::span(m), PhiloxNoise{1}); });
  check([&](auto& m) {
    sample_in_place(plan, Network{}, std::span<float, 6>(m.data(), 6), PhiloxNoise{1});
  });
  check([&](auto& m) {
    const StateView view(m.data(), std::array<Eigen::Index, 2>{2, 3});
    sample_in_place(plan, Network{}, view, PhiloxNoise{1});
  });
  check([&](auto& m) {
    sample_in_place(plan, Network{}, Eigen::Map<Eigen::MatrixXf>(m.data(), 3, 2), PhiloxNoise{1});
  });
  check([&](auto& m) {
    Eigen::TensorMap<Eigen::Tensor<float, 1>> map(m.data(), 6);
    sample_in_place(plan, Network{}, map, PhiloxNoise{1});
  });
  check([&](auto& m) {
    Stepper run(plan, std::span(m), PhiloxNoise{1});
    while (!run.done()) {
      Network{}(run.input(), run.timestep(), run.output());
      run.advance();
    }
  });
  // A denoiser with parameters of views takes tensors too.
  check([&](auto& m) {
    const auto views = [](StateView<const float, 2> x, double t, StateView<float, 2> out) {
      CHECK((t >= 0 && x.shape() == out.shape()));
      for (Eigen::Index i = 0; i < x.size(); ++i)
        out[i] = static_cast<float>(std::tanh(static_cast<double>(x[i])) / 2);
    };
    Eigen::Tensor<float, 2, Eigen::RowMajor> tensor(2, 3);
    std::copy(m.begin(), m.end(), tensor.data());
    sample_in_place(plan, views, tensor, PhiloxNoise{1});
    for (std::size_t i = 0; i < 6; ++i) m[i] = tensor.data()[i];
  });
}

TEST_CASE("Noise is added to states of every kind, and of kinds mixed") {
  const ForwardDiffusion<> forward(schedule);
  std::vector<float> clean{0.5f, -1, 2, 0.25f, 1, -0.5f}, eps{1, 2, -3, 0.5f, 0, -1}, expected(6);
  const std::vector<double> times{100, 500};
  for (std::size_t i = 0; i < 6; ++i) {
    const Knot knot = schedule.knot(times[i / 3]);
    expected[i] =
        static_cast<float>(knot.alpha) * clean[i] + static_cast<float>(knot.sigma) * eps[i];
  }
  const auto close = [&](const auto& x) {
    for (Eigen::Index i = 0; i < 6; ++i)
      CHECK(x.data()[i] == Approx(expected[static_cast<std::size_t>(i)]).margin(1e-6));
  };
  using Map = Eigen::Map<Eigen::MatrixXf>;
  const Map x0(clean.data(), 3, 2), noise(eps.data(), 3, 2);
  close(forward.add_noise(x0, noise, times));
  Eigen::Matrix<float, 3, 2> fixed;
  forward.add_noise(x0, noise, times, fixed);
  close(fixed);
  const StateView rows(clean.data(), std::array<Eigen::Index, 2>{2, 3});
  const StateView noises(eps.data(), std::array<Eigen::Index, 2>{2, 3});
  close(forward.add_noise(rows, noises, times));
  const auto target = forward.training_target(PredictionType::epsilon, rows, noises, times);
  CHECK(std::equal(eps.begin(), eps.end(), target.data()));
  std::vector<float> out(6);
  std::span<float> flat(out);
  add_noise(clean, eps, schedule.knot(100), flat);  // one level: a vector's batch does not matter
  CHECK(out[2] == Approx(expected[2]));
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
