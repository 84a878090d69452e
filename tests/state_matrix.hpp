#ifndef DIFFUSION_TESTS_STATE_MATRIX_HPP
#define DIFFUSION_TESTS_STATE_MATRIX_HPP

// The reference's DDIM in every kind of state of one scalar: its trajectories are followed in both
// layouts, in ranks 1 to 5, by tensors, matrices, arrays, maps, vectors, spans and views.
//
// Two cases, both with a batch of two and 48 numbers a sample: one with fresh noise in every step,
// and one with dynamic thresholding, whose quantile tells whether a sample is what it should be: a
// block of memory. A state of rank 1 holds one of the two, with .batch = false.

#include "catch.hpp"
#include "golden_check/data.hpp"
#include "golden_check/models.hpp"
#include "support.hpp"

#include <diffusion/noise/recorded.hpp>
#include <diffusion/sampling/sample.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <fstream>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace state_matrix {

using diffusion::ShapeOf;
using diffusion::State;
using diffusion::StateTraits;
using support::Vector;

/// Largest error of a state, in units of max(1, its largest element). The data are the reference's
/// in double. Single precision is what it grants itself there (golden/README.md). A sixteen-bit
/// state and its network's answer are rounded in each of five steps: half to 2^-11, bfloat16 to
/// 2^-8 of their size, and a step multiplies what was there by up to 2.
template <class S>
constexpr double tolerance = 1e-9;
template <>
inline constexpr double tolerance<float> = 1e-5;
template <>
inline constexpr double tolerance<Eigen::half> = 10 * 0x1p-11;
template <>
inline constexpr double tolerance<Eigen::bfloat16> = 10 * 0x1p-8;

constexpr Eigen::Index elements = 48;  // of a sample

struct Case {
  std::string name;
  diffusion::SamplingPlan plan;
  diffusion::PredictionType type;
  Vector initial;
  std::vector<Vector> noise;   // of each step that draws
  std::vector<Vector> states;  // after each step
};

inline Case read_case(const golden::Json& one) {
  const auto config = golden::config_of(one);
  const auto run = golden::run_of(one, config);
  return {one.at("name"),
          config.plan(config.grid<double>(run), run),
          config.prediction_type,
          golden::numbers(one.at("initial_sample")),
          golden::tensors(one.at("noise")),
          golden::tensors(one.at("trajectory"))};
}

inline const std::vector<Case>& cases() {
  static const std::vector<Case> list = [] {
    std::ifstream file(DIFFUSION_GOLDEN_DIR "/ddim.json");
    const golden::Json data = golden::Json::parse(file);
    std::vector<Case> read;
    for (const golden::Json& one : data.at("cases"))
      if (one.at("name") == "ddim/eta1_no_clip_sd" ||
          one.at("name") == "ddim/thresholding_ratio_0.7")
        read.push_back(read_case(one));
    if (read.size() != 2) throw std::runtime_error("ddim.json lacks a case");
    return read;
  }();
  return list;
}

/// A case, or one of its two samples.
inline Case part_of(Case whole, std::size_t sample) {
  const auto cut = [&](Vector& values) {
    const auto begin = values.begin() + static_cast<std::ptrdiff_t>(sample) * elements;
    values = Vector(begin, begin + elements);
  };
  cut(whole.initial);
  for (Vector& values : whole.noise) cut(values);
  for (Vector& values : whole.states) cut(values);
  return whole;
}

/// The reference's "wave", element by element; small, since it is compiled for every kind.
struct Wave {
  template <class S>
  static void answer(const S* x, std::size_t n, double t, S* out) {
    for (std::size_t i = 0; i < n; ++i)
      out[i] = static_cast<S>(golden::wave(static_cast<double>(x[i]), t));
  }
  template <State T>
  void operator()(const T& x, double t, diffusion::TensorOf<T>& out) const {
    using Owner = diffusion::TensorOf<T>;
    const std::size_t n = diffusion::blocks_of<T>(StateTraits<T>::shape(x), false).total();
    answer(StateTraits<T>::data(x), n, t, StateTraits<Owner>::data(out));
  }
};

template <class S>
void require_close(const S* values, const Vector& expected) {
  Vector got;
  for (std::size_t i = 0; i < expected.size(); ++i) got.push_back(static_cast<double>(values[i]));
  REQUIRE(support::relative_error(got, expected) <= tolerance<S>);
}

template <class S>
void require_same(const S* a, const S* b, std::size_t n) {
  REQUIRE(std::equal(a, a + n, b));
}

/// Follows a case in a state of type T, step by step, and from `sample`.
template <State T>
void follow(const Case& one, const ShapeOf<T>& shape, bool batched) {
  using Traits = StateTraits<T>;
  using S = diffusion::ScalarOf<T>;
  auto storage = Traits::make(shape);
  auto x = [&] {
    if constexpr (diffusion::detail::is_view<T>)
      return Traits::over(storage);
    else
      return storage;
  }();
  for (std::size_t i = 0; i < one.initial.size(); ++i)
    Traits::data(x)[i] = static_cast<S>(one.initial[i]);

  INFO(one.name << ", shape " << diffusion::shape_text(shape));
  const diffusion::SampleOptions options{.prediction_type = one.type, .batch = batched};
  diffusion::RecordedNoise noise(one.noise);
  const auto result =
      diffusion::sample_in_place(one.plan, Wave{}, x, noise, options, [&](const auto& run) {
        const auto stage = static_cast<std::size_t>(run.stage_number());
        if (stage > 0) require_close<S>(Traits::data(run.state()), one.states[stage - 1]);
      });
  REQUIRE(result.stage == static_cast<int>(one.states.size()));
  require_close<S>(Traits::data(x), one.states.back());

  std::vector<Vector> all = one.noise;
  all.insert(all.begin(), one.initial);
  diffusion::RecordedNoise with_start(all);
  const auto sampled = diffusion::sample<T>(one.plan, Wave{}, shape, with_start, options);
  const S* same = StateTraits<diffusion::TensorOf<T>>::data(sampled);
  require_same(same, Traits::data(x), one.initial.size());
}

template <State T>
void follow_all(const ShapeOf<T>& shape) {
  for (const Case& one : cases()) {
    if (shape.size() > 1) {
      follow<T>(one, shape, true);
    } else {
      for (const std::size_t sample : {0u, 1u}) follow<T>(part_of(one, sample), shape, false);
    }
  }
}

// ---- the kinds ---------------------------------------------------------------------------------

/// Tensor, TensorFixedSize, maps, and a view.
template <class S, int Layout, Eigen::Index... Extents>
void follow_tensors() {
  constexpr std::size_t rank = sizeof...(Extents);
  using Dynamic = Eigen::Tensor<S, static_cast<int>(rank), Layout>;
  using Fixed = Eigen::TensorFixedSize<S, Eigen::Sizes<Extents...>, Layout>;
  const std::array<Eigen::Index, rank> shape{Extents...};
  follow_all<Dynamic>(shape);
  follow_all<Fixed>(shape);
  follow_all<Eigen::TensorMap<Dynamic>>(shape);
  follow_all<diffusion::StateView<S, rank, Layout>>(shape);
  if constexpr (rank == 3) follow_all<Eigen::TensorMap<Fixed>>(shape);
}

/// A matrix or array type and its map.
template <class Plain>
void follow_dense(const ShapeOf<Plain>& shape) {
  follow_all<Plain>(shape);
  follow_all<Eigen::Map<Plain>>(shape);
}

template <class S, int Layout, int Rows, int Cols>
void follow_matrices() {
  follow_dense<Eigen::Matrix<S, Eigen::Dynamic, Eigen::Dynamic, Layout>>({Rows, Cols});
  follow_dense<Eigen::Array<S, Eigen::Dynamic, Eigen::Dynamic, Layout>>({Rows, Cols});
  follow_dense<Eigen::Matrix<S, Rows, Cols, Layout>>({Rows, Cols});
  follow_dense<Eigen::Array<S, Rows, Cols, Layout>>({Rows, Cols});
}

template <class S>
void follow_vectors() {
  follow_dense<Eigen::Vector<S, Eigen::Dynamic>>({elements});
  follow_dense<Eigen::RowVector<S, Eigen::Dynamic>>({elements});
  follow_dense<Eigen::Vector<S, elements>>({elements});
  follow_dense<Eigen::Array<S, Eigen::Dynamic, 1>>({elements});
  follow_dense<Eigen::Array<S, 1, elements, Eigen::RowMajor>>({elements});
  follow_all<std::vector<S>>({elements});
  follow_all<std::span<S>>({elements});
  follow_all<std::array<S, elements>>({elements});
  follow_all<std::span<S, elements>>({elements});
}

template <class S>
void follow_every_kind() {
  constexpr int row = Eigen::RowMajor, col = Eigen::ColMajor;
  SECTION("vectors, arrays and spans") { follow_vectors<S>(); }
  SECTION("matrices, row-major") { follow_matrices<S, row, 2, 48>(); }
  SECTION("matrices, column-major") { follow_matrices<S, col, 48, 2>(); }
  SECTION("tensors, row-major") {
    follow_tensors<S, row, 48>();
    follow_tensors<S, row, 2, 48>();
    follow_tensors<S, row, 2, 3, 16>();
    follow_tensors<S, row, 2, 3, 4, 4>();
    follow_tensors<S, row, 2, 3, 2, 2, 4>();
  }
  SECTION("tensors, column-major") {
    follow_tensors<S, col, 48>();
    follow_tensors<S, col, 48, 2>();
    follow_tensors<S, col, 16, 3, 2>();
    follow_tensors<S, col, 4, 4, 3, 2>();
    follow_tensors<S, col, 4, 2, 2, 3, 2>();
  }
}

}  // namespace state_matrix

#endif  // DIFFUSION_TESTS_STATE_MATRIX_HPP
