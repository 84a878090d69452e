#ifndef DIFFUSION_INVERSE_OPERATORS_HPP
#define DIFFUSION_INVERSE_OPERATORS_HPP

#include <diffusion/error.hpp>

#include <Eigen/Core>
#include <Eigen/SVD>

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <limits>
#include <utility>
#include <vector>

/// What was done to the data before it was measured: y = A x0 + noise. An operator works on one
/// sample, its elements in the order of memory, in double.
namespace diffusion {

/// A linear operator A of m rows and d columns:
///
///     Eigen::Index inputs() const;                            // d, elements of a sample
///     Eigen::Index outputs() const;                           // m, elements of a measurement
///     Eigen::VectorXd apply(const Eigen::VectorXd& x) const;      // A x
///     Eigen::VectorXd transpose(const Eigen::VectorXd& y) const;  // A^T y
///
/// `adjoint_error` tells whether the last two belong together.
template <class A>
concept LinearOperator = requires(const A& a, const Eigen::VectorXd& v) {
  { a.inputs() } -> std::convertible_to<Eigen::Index>;
  { a.outputs() } -> std::convertible_to<Eigen::Index>;
  { a.apply(v) } -> std::convertible_to<Eigen::VectorXd>;
  { a.transpose(v) } -> std::convertible_to<Eigen::VectorXd>;
};

/// An operator whose singular value decomposition is known, A = U diag(s) V^T with r columns in U
/// (m, r) and V (d, r), r being at most the smaller of m and d:
///
///     const Eigen::VectorXd& singular_values() const;             // s, r numbers >= 0, any order
///     Eigen::VectorXd to_right(const Eigen::VectorXd& x) const;   // V^T x
///     Eigen::VectorXd from_right(const Eigen::VectorXd& z) const; // V z
///     Eigen::VectorXd to_left(const Eigen::VectorXd& y) const;    // U^T y
///     Eigen::VectorXd from_left(const Eigen::VectorXd& w) const;  // U w
///
/// What lies outside of V, and a direction whose value is 0, is not measured. DDRM needs this;
/// the other methods are faster with it.
template <class A>
concept SpectralOperator = LinearOperator<A> && requires(const A& a, const Eigen::VectorXd& v) {
  { a.singular_values() } -> std::convertible_to<Eigen::VectorXd>;
  { a.to_right(v) } -> std::convertible_to<Eigen::VectorXd>;
  { a.from_right(v) } -> std::convertible_to<Eigen::VectorXd>;
  { a.to_left(v) } -> std::convertible_to<Eigen::VectorXd>;
  { a.from_left(v) } -> std::convertible_to<Eigen::VectorXd>;
};

/// |<A x, y> - <x, A^T y>| / (|A x| |y| + |x| |A^T y|): 0 up to rounding where `transpose` is the
/// transpose of `apply`. Try it with a few random x and y when writing an operator.
template <LinearOperator A>
double adjoint_error(const A& a, const Eigen::VectorXd& x, const Eigen::VectorXd& y) {
  const Eigen::VectorXd forth = a.apply(x), back = a.transpose(y);
  const double scale = forth.norm() * y.norm() + x.norm() * back.norm();
  return scale == 0 ? 0 : std::abs(forth.dot(y) - x.dot(back)) / scale;
}

namespace detail {

/// Fails unless an operator is given a vector of the size that it takes.
inline void require_operand(const char* what, Eigen::Index size, Eigen::Index wanted) {
  if (size != wanted) fail(text(what, " has ", size, " elements; the operator takes ", wanted));
}

/// Fails where a matrix or vector is empty or holds an infinity or a NaN.
inline void require_numbers(const char* what, const Eigen::Ref<const Eigen::MatrixXd>& values) {
  if (values.size() == 0)
    fail(text(what, " is ", values.rows(), "x", values.cols(), "; it must not be empty"));
  for (Eigen::Index column = 0; column < values.cols(); ++column)
    for (Eigen::Index row = 0; row < values.rows(); ++row)
      if (!is_finite(values(row, column)))
        fail(text(what, " holds ", values(row, column), "; every number must be finite"));
}

/// A thin decomposition. Plain data: threads may share what none of them writes.
struct ThinSvd {
  Eigen::MatrixXd u, v;  ///< (m, r), (d, r)
  Eigen::VectorXd s;     ///< r, descending
};

inline ThinSvd thin_svd(const Eigen::MatrixXd& matrix) {
  const Eigen::BDCSVD<Eigen::MatrixXd> svd(matrix, Eigen::ComputeThinU | Eigen::ComputeThinV);
  return {svd.matrixU(), svd.matrixV(), svd.singularValues()};
}

/// Singular values below `tolerance` times the largest are those of directions that a measurement
/// cannot tell from nothing: they become 0.
inline void cut_off(Eigen::VectorXd& s, double tolerance) {
  require_range("the tolerance of singular values", tolerance, 0.0, 1.0);
  const double least = tolerance * s.maxCoeff();
  for (double& value : s)
    if (value < least) value = 0;
}

}  // namespace detail

/// A = 1: the data itself, with noise. Immutable; safe to share between threads.
class IdentityOperator {
 public:
  /// `size` elements a sample, at least 1.
  explicit IdentityOperator(Eigen::Index size) {
    detail::require_at_least("the size of an identity", size, Eigen::Index{1});
    s_ = Eigen::VectorXd::Ones(size);
  }

  Eigen::Index inputs() const { return s_.size(); }
  Eigen::Index outputs() const { return s_.size(); }
  Eigen::VectorXd apply(const Eigen::VectorXd& x) const { return checked("x", x); }
  Eigen::VectorXd transpose(const Eigen::VectorXd& y) const { return checked("y", y); }
  const Eigen::VectorXd& singular_values() const { return s_; }
  Eigen::VectorXd to_right(const Eigen::VectorXd& x) const { return checked("x", x); }
  Eigen::VectorXd from_right(const Eigen::VectorXd& z) const { return checked("z", z); }
  Eigen::VectorXd to_left(const Eigen::VectorXd& y) const { return checked("y", y); }
  Eigen::VectorXd from_left(const Eigen::VectorXd& w) const { return checked("w", w); }

 private:
  const Eigen::VectorXd& checked(const char* what, const Eigen::VectorXd& v) const {
    detail::require_operand(what, v.size(), s_.size());
    return v;
  }

  Eigen::VectorXd s_;
};

/// Some elements of a sample and not the others: inpainting. A measurement holds the kept elements
/// in their order. Immutable; safe to share between threads.
class MaskOperator {
 public:
  /// One number for each element of a sample: 1 where it is kept, 0 where it is missing. Fails for
  /// other numbers, and where none is kept.
  explicit MaskOperator(const Eigen::VectorXd& mask) : inputs_(mask.size()) {
    for (Eigen::Index i = 0; i < mask.size(); ++i) {
      if (mask[i] != 0 && mask[i] != 1)
        fail(detail::text("element ", i, " of the mask is ", mask[i],
                          "; a measurement either has an element, 1, or has it not, 0 (soft masks "
                          "are for editing)"));
      if (mask[i] == 1) kept_.push_back(i);
    }
    if (kept_.empty())
      fail(detail::text("the mask keeps none of ", mask.size(), " elements; it must keep some"));
    s_ = Eigen::VectorXd::Ones(outputs());
  }

  Eigen::Index inputs() const { return inputs_; }
  Eigen::Index outputs() const { return static_cast<Eigen::Index>(kept_.size()); }
  Eigen::VectorXd apply(const Eigen::VectorXd& x) const {
    detail::require_operand("x", x.size(), inputs());
    Eigen::VectorXd y(outputs());
    for (std::size_t i = 0; i < kept_.size(); ++i) y[static_cast<Eigen::Index>(i)] = x[kept_[i]];
    return y;
  }
  Eigen::VectorXd transpose(const Eigen::VectorXd& y) const {
    detail::require_operand("y", y.size(), outputs());
    Eigen::VectorXd x = Eigen::VectorXd::Zero(inputs());
    for (std::size_t i = 0; i < kept_.size(); ++i) x[kept_[i]] = y[static_cast<Eigen::Index>(i)];
    return x;
  }
  const Eigen::VectorXd& singular_values() const { return s_; }
  Eigen::VectorXd to_right(const Eigen::VectorXd& x) const { return apply(x); }
  Eigen::VectorXd from_right(const Eigen::VectorXd& z) const { return transpose(z); }
  Eigen::VectorXd to_left(const Eigen::VectorXd& y) const { return same(y); }
  Eigen::VectorXd from_left(const Eigen::VectorXd& w) const { return same(w); }

 private:
  const Eigen::VectorXd& same(const Eigen::VectorXd& y) const {
    detail::require_operand("y", y.size(), outputs());
    return y;
  }

  Eigen::Index inputs_;
  std::vector<Eigen::Index> kept_;
  Eigen::VectorXd s_;
};

/// Whether an operator finds its singular value decomposition when it is made.
enum class Svd { compute, skip };

/// Any matrix. Immutable; safe to share between threads.
class DenseOperator {
 public:
  /// A (m, d), finite. The decomposition costs O(m d min(m, d)), once; without it what needs it
  /// fails. Singular values below `tolerance`, 0 to 1, times the largest count as 0.
  explicit DenseOperator(Eigen::MatrixXd matrix, Svd svd = Svd::compute, double tolerance = 1e-9)
      : matrix_(std::move(matrix)) {
    detail::require_numbers("the operator's matrix", matrix_);
    if (svd == Svd::skip) return;
    svd_ = detail::thin_svd(matrix_);
    detail::cut_off(svd_.s, tolerance);
  }

  const Eigen::MatrixXd& matrix() const { return matrix_; }
  Eigen::Index inputs() const { return matrix_.cols(); }
  Eigen::Index outputs() const { return matrix_.rows(); }
  Eigen::VectorXd apply(const Eigen::VectorXd& x) const {
    detail::require_operand("x", x.size(), inputs());
    return matrix_ * x;
  }
  Eigen::VectorXd transpose(const Eigen::VectorXd& y) const {
    detail::require_operand("y", y.size(), outputs());
    return matrix_.transpose() * y;
  }

  /// Whether the decomposition was computed; all below fails where it was not.
  bool has_svd() const { return svd_.s.size() > 0; }
  const Eigen::VectorXd& singular_values() const { return svd().s; }
  Eigen::VectorXd to_right(const Eigen::VectorXd& x) const {
    detail::require_operand("x", x.size(), inputs());
    return svd().v.transpose() * x;
  }
  Eigen::VectorXd from_right(const Eigen::VectorXd& z) const {
    detail::require_operand("z", z.size(), svd().s.size());
    return svd().v * z;
  }
  Eigen::VectorXd to_left(const Eigen::VectorXd& y) const {
    detail::require_operand("y", y.size(), outputs());
    return svd().u.transpose() * y;
  }
  Eigen::VectorXd from_left(const Eigen::VectorXd& w) const {
    detail::require_operand("w", w.size(), svd().s.size());
    return svd().u * w;
  }

 private:
  const detail::ThinSvd& svd() const {
    if (!has_svd())
      fail(detail::text("the ", outputs(), "x", inputs(),
                        " operator was made with Svd::skip and has no singular value "
                        "decomposition; make it with Svd::compute"));
    return svd_;
  }

  Eigen::MatrixXd matrix_;
  detail::ThinSvd svd_;
};

/// The extents of a picture in memory, the slowest first: a row-major (batch, channels, height,
/// width) and a column-major (width, height, channels, batch) are both channels x height x width.
/// Plain data: threads may share what none of them writes.
struct PictureSize {
  Eigen::Index channels = 1;
  Eigen::Index height = 1;
  Eigen::Index width = 1;
  Eigen::Index total() const { return channels * height * width; }
};

/// Every channel X (height, width) of a picture becomes R X C^T: blur that is the product of a
/// vertical and a horizontal one, averages of blocks, cropping. The decomposition is that of R and
/// C, found once. Immutable; safe to share between threads.
class SeparableOperator {
  using Map = Eigen::Map<Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>;
  using ConstMap =
      Eigen::Map<const Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>;

 public:
  /// R (rows of the measurement, height), C (columns of the measurement, width), finite; at least
  /// one channel. Singular values below `tolerance`, 0 to 1, times the largest count as 0: those of
  /// a blur fall fast, and what they would bring back is noise.
  SeparableOperator(Eigen::Index channels, Eigen::MatrixXd rows, Eigen::MatrixXd columns,
                    double tolerance = 1e-9)
      : channels_(channels), r_(std::move(rows)), c_(std::move(columns)) {
    detail::require_at_least("the number of channels", channels, Eigen::Index{1});
    detail::require_numbers("the matrix of rows", r_);
    detail::require_numbers("the matrix of columns", c_);
    by_rows_ = detail::thin_svd(r_);
    by_columns_ = detail::thin_svd(c_);
    const Eigen::Index rank = by_rows_.s.size() * by_columns_.s.size();
    s_.resize(channels * rank);
    for (Eigen::Index k = 0; k < channels; ++k)
      Map(s_.data() + k * rank, by_rows_.s.size(), by_columns_.s.size()) =
          by_rows_.s * by_columns_.s.transpose();
    detail::cut_off(s_, tolerance);
  }

  PictureSize input_size() const { return {channels_, r_.cols(), c_.cols()}; }
  PictureSize output_size() const { return {channels_, r_.rows(), c_.rows()}; }
  Eigen::Index inputs() const { return input_size().total(); }
  Eigen::Index outputs() const { return output_size().total(); }
  Eigen::VectorXd apply(const Eigen::VectorXd& x) const { return each("x", x, r_, c_); }
  Eigen::VectorXd transpose(const Eigen::VectorXd& y) const {
    return each("y", y, r_.transpose(), c_.transpose());
  }
  const Eigen::VectorXd& singular_values() const { return s_; }
  Eigen::VectorXd to_right(const Eigen::VectorXd& x) const {
    return each("x", x, by_rows_.v.transpose(), by_columns_.v.transpose());
  }
  Eigen::VectorXd from_right(const Eigen::VectorXd& z) const {
    return each("z", z, by_rows_.v, by_columns_.v);
  }
  Eigen::VectorXd to_left(const Eigen::VectorXd& y) const {
    return each("y", y, by_rows_.u.transpose(), by_columns_.u.transpose());
  }
  Eigen::VectorXd from_left(const Eigen::VectorXd& w) const {
    return each("w", w, by_rows_.u, by_columns_.u);
  }

 private:
  /// left X right^T of every channel.
  template <class Left, class Right>
  Eigen::VectorXd each(const char* what, const Eigen::VectorXd& x, const Left& left,
                       const Right& right) const {
    const Eigen::Index from = left.cols() * right.cols(), to = left.rows() * right.rows();
    detail::require_operand(what, x.size(), channels_ * from);
    Eigen::VectorXd y(channels_ * to);
    for (Eigen::Index k = 0; k < channels_; ++k)
      Map(y.data() + k * to, left.rows(), right.rows()).noalias() =
          left * ConstMap(x.data() + k * from, left.cols(), right.cols()) * right.transpose();
    return y;
  }

  Eigen::Index channels_;
  Eigen::MatrixXd r_, c_;
  detail::ThinSvd by_rows_, by_columns_;
  Eigen::VectorXd s_;
};

/// Averages of blocks of factor x factor pixels: what super-resolution starts from. Fails unless
/// height and width are multiples of the factor, 1 or more.
inline SeparableOperator block_average(const PictureSize& size, Eigen::Index factor) {
  detail::require_at_least("the factor of block_average", factor, Eigen::Index{1});
  const auto averages = [factor](const char* what, Eigen::Index n) {
    detail::require_at_least(what, n, Eigen::Index{1});
    if (n % factor != 0)
      fail(detail::text(what, " is ", n, "; it must be a multiple of the factor ", factor));
    Eigen::MatrixXd matrix = Eigen::MatrixXd::Zero(n / factor, n);
    for (Eigen::Index i = 0; i < n; ++i) matrix(i / factor, i) = 1 / static_cast<double>(factor);
    return matrix;
  };
  return SeparableOperator(size.channels, averages("the picture's height", size.height),
                           averages("the picture's width", size.width));
}

/// What a blur finds beyond the edge of a picture.
enum class Boundary {
  periodic,  ///< the opposite edge: the operator is circulant
  zero,      ///< 0
  mirror,    ///< the picture again, mirrored at its edge
};

/// Weights exp(-(i / deviation)^2 / 2), i = -radius .. radius, that sum to 1. deviation > 0,
/// radius >= 0.
inline Eigen::VectorXd gaussian_kernel(double deviation, Eigen::Index radius) {
  detail::require_inside("the deviation of a kernel", deviation, 0.0,
                         std::numeric_limits<double>::infinity());
  detail::require_at_least("the radius of a kernel", radius, Eigen::Index{0});
  Eigen::VectorXd kernel(2 * radius + 1);
  for (Eigen::Index i = -radius; i <= radius; ++i) {
    const double z = static_cast<double>(i) / deviation;
    kernel[i + radius] = std::exp(-z * z / 2);
  }
  return kernel / kernel.sum();
}

/// The square matrix of a blur: row i weighs the elements i - radius .. i + radius. Fails for a
/// kernel of an even number of weights, and one longer than `n`.
inline Eigen::MatrixXd blur_matrix(Eigen::Index n, const Eigen::VectorXd& kernel,
                                   Boundary boundary) {
  detail::require_enumerator("Boundary", boundary, 3);
  detail::require_numbers("the kernel", kernel);
  if (kernel.size() % 2 == 0)
    fail(detail::text("the kernel has ", kernel.size(),
                      " weights; it must have a middle, so their "
                      "number must be odd"));
  if (kernel.size() > n)
    fail(detail::text("the kernel has ", kernel.size(),
                      " weights; it must have at most as many as "
                      "there are pixels, ",
                      n));
  const Eigen::Index radius = kernel.size() / 2;
  Eigen::MatrixXd matrix = Eigen::MatrixXd::Zero(n, n);
  for (Eigen::Index i = 0; i < n; ++i)
    for (Eigen::Index k = -radius; k <= radius; ++k) {
      Eigen::Index at = i + k;
      if (boundary == Boundary::periodic) at = (at + n) % n;
      if (boundary == Boundary::mirror) at = at < 0 ? -1 - at : at >= n ? 2 * n - 1 - at : at;
      if (at >= 0 && at < n) matrix(i, at) += kernel[k + radius];
    }
  return matrix;
}

/// Blur by the same kernel along rows and columns. `tolerance` as for SeparableOperator.
inline SeparableOperator blur(const PictureSize& size, const Eigen::VectorXd& kernel,
                              Boundary boundary = Boundary::mirror, double tolerance = 1e-9) {
  return SeparableOperator(size.channels, blur_matrix(size.height, kernel, boundary),
                           blur_matrix(size.width, kernel, boundary), tolerance);
}

}  // namespace diffusion

#endif  // DIFFUSION_INVERSE_OPERATORS_HPP
