// The operators of inverse problems: transposes, decompositions, and what they do, against matrices
// and sums written out here.

#include "catch.hpp"
#include "support.hpp"

#include <diffusion/inverse/operators.hpp>
#include <diffusion/inverse/problem.hpp>
#include <diffusion/noise/philox.hpp>

#include <Eigen/Dense>

#include <algorithm>
#include <cmath>
#include <complex>
#include <cstddef>
#include <functional>
#include <limits>
#include <numbers>
#include <string>
#include <vector>

namespace {

using namespace diffusion;
using Matrix = Eigen::MatrixXd;
using Vector = Eigen::VectorXd;

Vector random_vector(support::Random& random, Eigen::Index n) {
  Vector v(n);
  for (double& value : v) value = random.normal();
  return v;
}

Matrix random_matrix(support::Random& random, Eigen::Index rows, Eigen::Index columns) {
  Matrix m(rows, columns);
  for (Eigen::Index i = 0; i < m.size(); ++i) m.data()[i] = random.normal();
  return m;
}

/// The operator as a matrix, column by column.
template <LinearOperator A>
Matrix matrix_of(const A& a) {
  Matrix m(a.outputs(), a.inputs());
  for (Eigen::Index i = 0; i < a.inputs(); ++i) m.col(i) = a.apply(Vector::Unit(a.inputs(), i));
  return m;
}

/// An operator without a decomposition, as a user may write one: differences of neighbours.
struct Differences {
  Eigen::Index size = 6;
  Eigen::Index inputs() const { return size; }
  Eigen::Index outputs() const { return size - 1; }
  Vector apply(const Vector& x) const { return x.tail(size - 1) - x.head(size - 1); }
  Vector transpose(const Vector& y) const {
    Vector x = Vector::Zero(size);
    x.tail(size - 1) += y;
    x.head(size - 1) -= y;
    return x;
  }
};
static_assert(LinearOperator<Differences> && !SpectralOperator<Differences>);
static_assert(SpectralOperator<IdentityOperator> && SpectralOperator<MaskOperator>);
static_assert(SpectralOperator<DenseOperator> && SpectralOperator<SeparableOperator>);

template <LinearOperator A>
void check_transpose(const A& a) {
  support::Random random(3);
  for (int i = 0; i < 5; ++i)
    CHECK(adjoint_error(a, random_vector(random, a.inputs()), random_vector(random, a.outputs())) <
          1e-14);
  const Matrix m = matrix_of(a);
  const Vector y = random_vector(random, a.outputs());
  CHECK((a.transpose(y) - m.transpose() * y).norm() < 1e-12);
}

/// A = U diag(s) V^T with orthonormal U and V, and from_* the transposes of to_*.
template <SpectralOperator A>
void check_decomposition(const A& a) {
  support::Random random(4);
  const Vector s = a.singular_values();
  const Vector x = random_vector(random, a.inputs()), y = random_vector(random, a.outputs());
  const Vector z = random_vector(random, s.size());
  REQUIRE(s.minCoeff() >= 0);
  REQUIRE(s.size() <= (std::min)(a.inputs(), a.outputs()));
  CHECK((a.apply(x) - a.from_left((s.array() * a.to_right(x).array()).matrix())).norm() < 1e-12);
  CHECK((a.transpose(y) - a.from_right((s.array() * a.to_left(y).array()).matrix())).norm() <
        1e-12);
  CHECK((a.to_right(a.from_right(z)) - z).norm() < 1e-12);
  CHECK((a.to_left(a.from_left(z)) - z).norm() < 1e-12);
  CHECK(std::abs(a.from_right(z).dot(x) - z.dot(a.to_right(x))) < 1e-12);
  CHECK(std::abs(a.from_left(z).dot(y) - z.dot(a.to_left(y))) < 1e-12);
}

template <SpectralOperator A>
void check_operator(const A& a) {
  check_transpose(a);
  check_decomposition(a);
}

Vector mask_of(std::initializer_list<double> values) {
  Vector mask(static_cast<Eigen::Index>(values.size()));
  std::copy(values.begin(), values.end(), mask.data());
  return mask;
}

/// The message of what fails, or "nothing failed".
std::string message_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.what();
  }
  return "nothing failed";
}

}  // namespace

TEST_CASE("Every operator's transpose is its transpose, and its decomposition its own") {
  support::Random random(1);
  check_operator(IdentityOperator(7));
  check_operator(MaskOperator(mask_of({1, 0, 0, 1, 1, 0})));
  check_operator(DenseOperator(random_matrix(random, 3, 7)));
  check_operator(DenseOperator(random_matrix(random, 7, 3)));
  check_operator(SeparableOperator(2, random_matrix(random, 3, 5), random_matrix(random, 6, 4)));
  check_operator(block_average({3, 8, 12}, 4));
  for (const Boundary boundary : {Boundary::periodic, Boundary::zero, Boundary::mirror})
    check_operator(blur({2, 9, 7}, gaussian_kernel(1, 2), boundary));
  check_transpose(DenseOperator(random_matrix(random, 4, 6), Svd::skip));
  check_transpose(Differences{});
}

TEST_CASE("A wrong transpose is told") {
  struct Wrong : Differences {
    Vector transpose(const Vector& y) const { return -Differences::transpose(y); }
  };
  support::Random random(2);
  CHECK(adjoint_error(Wrong{}, random_vector(random, 6), random_vector(random, 5)) > 0.1);
}

TEST_CASE("Masks keep elements in order") {
  const MaskOperator a(mask_of({0, 1, 1, 0, 1}));
  const Vector x = mask_of({10, 11, 12, 13, 14});
  CHECK(a.apply(x) == mask_of({11, 12, 14}));
  CHECK(a.transpose(a.apply(x)) == mask_of({0, 11, 12, 0, 14}));
}

TEST_CASE("Block averages are averages of blocks, each channel by itself") {
  const PictureSize size{2, 4, 6};
  const auto a = block_average(size, 2);
  CHECK(a.output_size().height == 2);
  CHECK(a.output_size().width == 3);
  support::Random random(5);
  const Vector x = random_vector(random, size.total()), y = a.apply(x);
  for (Eigen::Index c = 0; c < 2; ++c)
    for (Eigen::Index i = 0; i < 2; ++i)
      for (Eigen::Index j = 0; j < 3; ++j) {
        double sum = 0;
        for (Eigen::Index k = 0; k < 4; ++k) sum += x[c * 24 + (2 * i + k / 2) * 6 + 2 * j + k % 2];
        CHECK(y[c * 6 + i * 3 + j] == Approx(sum / 4).epsilon(1e-13));
      }
  // A A^T = 1 / f^2.
  CHECK((a.singular_values().array() - 0.5).abs().maxCoeff() < 1e-14);
}

TEST_CASE("A periodic blur is a convolution, and its singular values the kernel's spectrum") {
  const Eigen::Index n = 12;
  const Vector kernel = mask_of({0.1, 0.2, 0.4, 0.25, 0.05});  // not symmetric
  const auto a = blur({1, n, n}, kernel, Boundary::periodic);
  std::vector<double> spectrum, expected;
  for (Eigen::Index k = 0; k < n; ++k) {
    std::complex<double> sum = 0;
    for (Eigen::Index i = 0; i < kernel.size(); ++i)
      sum += kernel[i] * std::polar(1.0, 2 * std::numbers::pi * static_cast<double>(k * i) /
                                             static_cast<double>(n));
    spectrum.push_back(std::abs(sum));
  }
  for (const double u : spectrum)
    for (const double v : spectrum) expected.push_back(u * v);
  const Vector& s = a.singular_values();
  std::vector<double> values(s.data(), s.data() + s.size());
  std::sort(values.begin(), values.end());
  std::sort(expected.begin(), expected.end());
  REQUIRE(values.size() == expected.size());
  for (std::size_t i = 0; i < values.size(); ++i) CHECK(std::abs(values[i] - expected[i]) < 1e-12);
  // A shifted picture is blurred to the shifted result.
  support::Random random(6);
  const Vector x = random_vector(random, n * n), y = a.apply(x);
  Vector shifted(n * n), wanted(n * n);
  for (Eigen::Index i = 0; i < n * n; ++i) {
    const Eigen::Index to = (i / n + 5) % n * n + (i % n + 3) % n;
    shifted[to] = x[i];
    wanted[to] = y[i];
  }
  CHECK((a.apply(shifted) - wanted).norm() < 1e-12);
}

TEST_CASE("Boundaries: what lies beyond the edge") {
  const Vector kernel = mask_of({0.25, 0.5, 0.25}), x = mask_of({1, 2, 4, 8});
  CHECK((blur_matrix(4, kernel, Boundary::periodic) * x)[0] == Approx(0.25 * 8 + 0.5 + 0.5));
  CHECK((blur_matrix(4, kernel, Boundary::zero) * x)[0] == Approx(0.5 + 0.5));
  CHECK((blur_matrix(4, kernel, Boundary::mirror) * x)[0] == Approx(0.25 + 0.5 + 0.5));
  CHECK((blur_matrix(4, kernel, Boundary::mirror) * x)[3] == Approx(0.25 * 4 + 0.5 * 8 + 0.25 * 8));
  CHECK(gaussian_kernel(1.5, 4).sum() == Approx(1));
  CHECK(gaussian_kernel(1.5, 4)[3] / gaussian_kernel(1.5, 4)[4] == Approx(std::exp(-1 / 4.5)));
}

TEST_CASE("Singular values below the tolerance count as 0") {
  const auto all = blur({1, 16, 16}, gaussian_kernel(2, 6), Boundary::periodic, 0);
  const auto cut = blur({1, 16, 16}, gaussian_kernel(2, 6), Boundary::periodic, 0.1);
  const Vector s = all.singular_values(), t = cut.singular_values();
  const double largest = s.maxCoeff();
  int zeros = 0;
  for (Eigen::Index i = 0; i < s.size(); ++i) {
    CHECK(t[i] == (s[i] < 0.1 * largest ? 0 : s[i]));
    zeros += t[i] == 0;
  }
  CHECK(zeros > 0);
  CHECK(zeros < s.size());
}

TEST_CASE("Regularised inverses: by the decomposition, by conjugate gradients, by a matrix") {
  support::Random random(7);
  for (const auto& [rows, columns] : {std::pair<int, int>{3, 6}, {6, 3}, {5, 5}}) {
    const Matrix m = random_matrix(random, rows, columns);
    const DenseOperator spectral(m);
    struct Plain {  // hides the decomposition
      Matrix m;
      Eigen::Index inputs() const { return m.cols(); }
      Eigen::Index outputs() const { return m.rows(); }
      Vector apply(const Vector& x) const { return m * x; }
      Vector transpose(const Vector& y) const { return m.transpose() * y; }
    };
    const Plain plain{m};
    const Vector w = random_vector(random, rows);
    for (const double noise : {0.0, 0.3, 2.0}) {
      const double variance = 0.7;
      const Matrix inner = variance * m * m.transpose() + noise * Matrix::Identity(rows, rows);
      const Vector exact = noise == 0
                               ? Vector(m.completeOrthogonalDecomposition().solve(w) / variance)
                               : Vector(m.transpose() * inner.inverse() * w);
      CAPTURE(rows, columns, noise);
      CHECK((detail::regularised_inverse(spectral, w, variance, noise) - exact).norm() < 1e-9);
      CHECK((detail::regularised_inverse(plain, w, variance, noise) - exact).norm() < 1e-8);
    }
  }
  const Differences a;
  const Vector y = random_vector(random, 5);
  const Vector x = detail::regularised_inverse(a, y, 1, 0);
  CHECK((a.apply(x) - y).norm() < 1e-10);
  CHECK(std::abs(x.sum()) < 1e-10);  // the shortest solution has nothing of the null space
}

TEST_CASE("States are measured sample by sample, in any layout") {
  const PictureSize size{2, 4, 6};
  const auto a = block_average(size, 2);
  support::Random random(8);
  Eigen::Tensor<float, 4, Eigen::RowMajor> rows(3, 2, 4, 6);
  Eigen::Tensor<float, 4> columns(6, 4, 2, 3);
  for (Eigen::Index i = 0; i < rows.size(); ++i)
    columns.data()[i] = rows.data()[i] = static_cast<float>(random.normal());
  const Matrix y = measure(a, rows);
  REQUIRE(y.rows() == 12);
  REQUIRE(y.cols() == 3);
  CHECK(y == measure(a, columns));
  const Vector second = a.apply(detail::sample_vector(rows.data() + 48, 48));
  CHECK(y.col(1) == second);
  const Eigen::Tensor<float, 3, Eigen::RowMajor> one = rows.chip(1, 0);
  CHECK(measure(a, one, false) == second);
}

TEST_CASE("A noisy measurement has noise of the deviation asked for, from draw 0") {
  const IdentityOperator a(1000);
  Eigen::Tensor<double, 2, Eigen::RowMajor> x(8, 1000);
  x.setConstant(0.5);
  const Matrix y = measure(a, x, 0.2, PhiloxNoise{11});
  const double mean = y.mean();
  const double variance = (y.array() - mean).square().mean();
  CHECK(std::abs(mean - 0.5) < 4 * 0.2 / std::sqrt(8000.0));
  CHECK(std::abs(variance / 0.04 - 1) < 4 * std::sqrt(2 / 8000.0));
  std::vector<float> first(16);
  PhiloxNoise{11}.fill(3, 0, 0, first);
  CHECK(y(5, 3) == Approx(0.5 + 0.2 * static_cast<double>(first[5])).epsilon(1e-6));
}

TEST_CASE("What does not fit is refused with its size and the limit") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const MaskOperator mask(mask_of({1, 0, 1}));
  const auto average = block_average({1, 4, 4}, 2);
  const DenseOperator skipped(Matrix::Identity(2, 2), Svd::skip);
  const Eigen::Tensor<double, 2, Eigen::RowMajor> state(2, 5);
  struct Row {
    std::function<void()> f;
    const char* says;
  };
  const std::vector<Row> rows = {
      {[] { IdentityOperator(0); }, "is 0; it must be at least 1"},
      {[] {
         MaskOperator(mask_of({1, 0.5}));
       },
       "element 1 of the mask is 0.5"},
      {[&] { MaskOperator(mask_of({nan})); }, "element 0 of the mask is nan"},
      {[] {
         MaskOperator(mask_of({0, 0}));
       },
       "keeps none of 2 elements"},
      {[] { MaskOperator{Vector()}; }, "keeps none of 0 elements"},
      {[&] { mask.apply(Vector::Zero(4)); }, "x has 4 elements; the operator takes 3"},
      {[&] { mask.transpose(Vector::Zero(3)); }, "y has 3 elements; the operator takes 2"},
      {[] { DenseOperator(Matrix(0, 3)); }, "is 0x3; it must not be empty"},
      {[&] { DenseOperator(Matrix::Constant(2, 2, nan)); }, "holds nan"},
      {[] { DenseOperator(Matrix::Identity(2, 2), Svd::compute, 2); }, "tolerance"},
      {[&] { skipped.singular_values(); }, "the 2x2 operator was made with Svd::skip"},
      {[&] { skipped.to_right(Vector::Zero(2)); }, "has no singular value decomposition"},
      {[&] { DenseOperator(Matrix::Identity(2, 2)).apply(Vector::Zero(3)); },
       "x has 3 elements; the operator takes 2"},
      {[] { SeparableOperator(0, Matrix::Identity(2, 2), Matrix::Identity(2, 2)); },
       "the number of channels is 0"},
      {[&] { average.apply(Vector::Zero(15)); }, "x has 15 elements; the operator takes 16"},
      {[&] { average.from_right(Vector::Zero(5)); }, "z has 5 elements; the operator takes 4"},
      {[] {
         block_average({1, 6, 4}, 4);
       },
       "height is 6; it must be a multiple of the factor 4"},
      {[] {
         block_average({1, 4, 4}, 0);
       },
       "the factor of block_average is 0"},
      {[] { gaussian_kernel(0, 2); }, "the deviation of a kernel is 0"},
      {[] { gaussian_kernel(1, -1); }, "the radius of a kernel is -1"},
      {[] {
         blur({1, 8, 8}, mask_of({0.5, 0.5}));
       },
       "the kernel has 2 weights"},
      {[] {
         blur({1, 8, 4}, gaussian_kernel(1, 3));
       },
       "the kernel has 7 weights"},
      {[&] {
         blur({1, 8, 8}, mask_of({nan}));
       },
       "the kernel holds nan"},
      {[&] { measure(mask, state); }, "has 5 elements; the operator takes 3"},
      {[&] { measure(IdentityOperator(5), state, -1, PhiloxNoise{1}); }, "sigma_y is -1"},
      {[&] { InverseProblem(mask, Matrix::Zero(3, 1)); }, "the measurement is 3x1"},
      {[&] { InverseProblem(mask, Matrix(2, 0)); }, "must not be empty"},
      {[&] { InverseProblem(mask, Matrix::Constant(2, 1, nan)); }, "the measurement holds nan"},
      {[&] { InverseProblem(mask, Matrix::Zero(2, 1), -0.1); }, "sigma_y is -0.1"},
      {[&] { InverseProblem(mask, Matrix::Zero(2, 1), nan); }, "sigma_y is nan"},
      {[&] { InverseProblem(mask, Matrix::Zero(2, 1), 1 / 0.0); }, "sigma_y is inf"},
  };
  for (const Row& row : rows) {
    const std::string message = message_of(row.f);
    CAPTURE(row.says, message);
    CHECK(message.find(row.says) != std::string::npos);
  }
}
