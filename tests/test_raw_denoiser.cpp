// The denoiser over raw buffers: every kind of state, guidance, learned variance, both forms.

#include "catch.hpp"
#include "support.hpp"

#include <diffusion/diffusion.hpp>

#include <array>
#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

using namespace diffusion;
using support::ColMajor;
using support::RowMajor;
using support::same_bits;

namespace {

using Extents = std::vector<Eigen::Index>;

Extents list_of(std::span<const Eigen::Index> shape) { return {shape.begin(), shape.end()}; }

std::size_t count(std::span<const Eigen::Index> shape) {
  std::size_t total = 1;
  for (const Eigen::Index extent : shape) total *= static_cast<std::size_t>(extent);
  return total;
}

template <class S>
S wave(S x, double t) {
  return static_cast<S>(0.8 * std::sin(1.3 * static_cast<double>(x) + 0.01 * t));
}

/// The same network, as a runtime's function and as one of tensors.
template <class S>
void raw_network(const S* x, double t, S* out, std::span<const Eigen::Index> shape) {
  for (std::size_t i = 0; i < count(shape); ++i) out[i] = wave(x[i], t);
}

struct TensorNetwork {
  template <State T>
  void operator()(const T& x, double t, TensorOf<T>& out) const {
    using Owner = TensorOf<T>;
    const auto n = blocks_of<T>(StateTraits<T>::shape(x), false).total();
    for (std::size_t i = 0; i < n; ++i)
      StateTraits<Owner>::data(out)[i] = wave(StateTraits<T>::data(x)[i], t);
  }
};

SamplingPlan ddim() {
  return DdimSampler{NoiseSchedule<>::linear(), {.steps = 4, .eta = 0.5}}.plan();
}

template <State T>
void compare(const ShapeOf<T>& shape) {
  using S = ScalarOf<T>;
  using Owner = TensorOf<T>;
  const auto raw = sample<T>(ddim(), raw_network<S>, shape, PhiloxNoise{3});
  const auto tensors = sample<T>(ddim(), TensorNetwork{}, shape, PhiloxNoise{3});
  const auto n = blocks_of<T>(shape, false).total();
  CHECK(std::equal(StateTraits<Owner>::data(raw), StateTraits<Owner>::data(raw) + n,
                   StateTraits<Owner>::data(tensors)));
}

}  // namespace

TEST_CASE("A denoiser over raw buffers does what one of tensors does, in every kind of state") {
  compare<RowMajor<float, 4>>({2, 3, 4, 5});
  compare<ColMajor<double, 3>>({4, 3, 2});
  compare<RowMajor<Eigen::half, 2>>({2, 7});
  compare<Eigen::TensorFixedSize<float, Eigen::Sizes<2, 3>, Eigen::RowMajor>>({2, 3});
  compare<Eigen::MatrixXf>({5, 3});
  compare<Eigen::Matrix<float, 5, 3>>({5, 3});
  compare<Eigen::ArrayXd>({6});
  compare<std::span<Eigen::bfloat16>>({6});
  compare<std::array<double, 6>>({6});
  compare<StateView<float, 3>>({2, 3, 4});

  // In place, through a map: x is the map's memory, out another.
  std::vector<float> memory(12, 0.5f);
  const float* seen = nullptr;
  const auto look = [&](const float* x, double t, float* out, std::span<const Eigen::Index> shape) {
    seen = x;
    CHECK((out + 12 <= x || x + 12 <= out));
    raw_network(x, t, out, shape);
  };
  sample_in_place(ddim(), look, Eigen::Map<Eigen::MatrixXf>(memory.data(), 4, 3), PhiloxNoise{1});
  CHECK(seen == memory.data());
}

TEST_CASE("The shape of raw buffers is given slowest first, whatever the layout") {
  Extents shape;
  const auto look = [&](const float* x, double t, float* out, std::span<const Eigen::Index> s) {
    shape = list_of(s);
    raw_network(x, t, out, s);
  };
  sample<RowMajor<float, 4>>(ddim(), look, {2, 3, 4, 5}, PhiloxNoise{1});
  CHECK(shape == Extents{2, 3, 4, 5});
  sample<ColMajor<float, 4>>(ddim(), look, {5, 4, 3, 2}, PhiloxNoise{1});
  CHECK(shape == Extents{2, 3, 4, 5});
  sample<Eigen::MatrixXf>(ddim(), look, {5, 3}, PhiloxNoise{1});
  CHECK(shape == Extents{3, 5});
  sample<Eigen::VectorXf>(ddim(), look, {5}, PhiloxNoise{1}, {.batch = false});
  CHECK(shape == Extents{5});

  // An array by value, and what is deduced, are as good as a span.
  const auto array = [&](const float* x, double t, float* out, std::array<Eigen::Index, 2> s) {
    raw_network(x, t, out, s);
  };
  const auto deduced = [&](const auto* x, double t, auto* out, const auto& s) {
    raw_network(x, t, out, std::span<const Eigen::Index>(s));
  };
  const auto a = sample<RowMajor<float, 2>>(ddim(), array, {2, 9}, PhiloxNoise{1});
  const auto b = sample<RowMajor<float, 2>>(ddim(), deduced, {2, 9}, PhiloxNoise{1});
  CHECK(same_bits(a, b));
}

TEST_CASE("A raw denoiser may ask for the whole query") {
  int stage = 0;
  const auto network = [&](const double* x, const Query& query, double* out,
                           std::span<const Eigen::Index> shape) {
    CHECK(query.stage == stage++);
    CHECK(query.samples == 3);
    CHECK(query.alpha * query.alpha + query.sigma * query.sigma == Approx(1));
    raw_network(x, query.t, out, shape);
  };
  const auto got = sample<RowMajor<double, 2>>(ddim(), network, {3, 20}, PhiloxNoise{1});
  CHECK(stage == 4);
  CHECK(same_bits(
      got, sample<RowMajor<double, 2>>(ddim(), raw_network<double>, {3, 20}, PhiloxNoise{1})));
}

TEST_CASE("Where a variance is learned the raw output has twice the channels of each sample") {
  const auto plan =
      DdpmSampler{NoiseSchedule<>::linear(), {.steps = 5, .variance = VarianceType::learned_range}}
          .plan();
  const auto raw = [](const float* x, double t, float* out, std::span<const Eigen::Index> shape) {
    const std::size_t batch = static_cast<std::size_t>(shape[0]), size = count(shape) / batch;
    for (std::size_t i = 0; i < batch; ++i)
      for (std::size_t k = 0; k < 2 * size; ++k)
        out[i * 2 * size + k] = static_cast<float>(
            k < size ? support::answer(static_cast<double>(x[i * size + k]), t, k)
                     : support::variance_answer(static_cast<double>(x[i * size + k - size]), t,
                                                k - size));
  };
  using Image = RowMajor<float, 3>;
  const Image got = sample<Image>(plan, raw, {2, 3, 5}, PhiloxNoise{1});
  CHECK(same_bits(got, sample<Image>(plan, support::TestNetwork{2}, {2, 3, 5}, PhiloxNoise{1})));
}

TEST_CASE("A conditional network over raw buffers is guided like one of tensors") {
  using Image = ColMajor<float, 3>;
  const auto tensors = [](const auto& x, double t, const Conditions<int>& c, auto& out) {
    const Eigen::Index size = x.size() / static_cast<Eigen::Index>(c.size());
    for (Eigen::Index i = 0; i < x.size(); ++i)
      out.data()[i] = wave(x.data()[i], t + 100 * c[static_cast<std::size_t>(i / size)]);
  };
  const auto raw = [](const float* x, double t, const Conditions<int>& c, float* out,
                      std::span<const Eigen::Index> shape) {
    CHECK(shape.size() == 3);
    CHECK(static_cast<std::size_t>(shape[0]) == c.size());
    const std::size_t size = count(shape) / c.size();
    for (std::size_t i = 0; i < count(shape); ++i) out[i] = wave(x[i], t + 100 * c[i / size]);
  };
  const auto querying = [&](const float* x, const Query& query, const Conditions<int>& c,
                            float* out, std::span<const Eigen::Index> shape) {
    CHECK(query.samples == c.size());
    raw(x, query.t, c, out, shape);
  };
  for (const GuidanceCalls calls : {GuidanceCalls::joined, GuidanceCalls::separate}) {
    const GuidanceOptions options{.scale = 3, .calls = calls};
    ClassifierFreeGuidance a(tensors, std::vector<int>{1, 2}, 0, options);
    ClassifierFreeGuidance b(raw, std::vector<int>{1, 2}, 0, options);
    ClassifierFreeGuidance c(querying, std::vector<int>{1, 2}, 0, options);
    const Image expected = sample<Image>(ddim(), a, {5, 3, 2}, PhiloxNoise{1});
    CHECK(same_bits(sample<Image>(ddim(), b, {5, 3, 2}, PhiloxNoise{1}), expected));
    CHECK(same_bits(sample<Image>(ddim(), c, {5, 3, 2}, PhiloxNoise{1}), expected));
  }
}

TEST_CASE("Which form a denoiser has is told by its parameters") {
  using T = Eigen::MatrixXf;
  struct Raw {
    void operator()(const float*, double, float*, std::span<const Eigen::Index>) const {}
  };
  STATIC_REQUIRE(RawDenoiser<Raw, T>);
  STATIC_REQUIRE(Denoiser<Raw, T>);
  STATIC_REQUIRE_FALSE(WritingDenoiser<Raw, T>);
  STATIC_REQUIRE_FALSE(Denoiser<Raw, Eigen::MatrixXd>);  // floats, not doubles
  struct Mutable {
    void operator()(const float*, double, float*, std::span<const Eigen::Index>) {}
  };
  STATIC_REQUIRE(Denoiser<Mutable, T>);
  STATIC_REQUIRE_FALSE(Denoiser<const Mutable, T>);
  STATIC_REQUIRE_FALSE(RawDenoiser<TensorNetwork, T>);
}
