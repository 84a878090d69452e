#ifndef DIFFUSION_TENSOR_DENSE_STATE_HPP
#define DIFFUSION_TENSOR_DENSE_STATE_HPP

#include <diffusion/tensor/state_traits.hpp>

#include <Eigen/Core>

#include <array>
#include <string>

/// States that are Eigen's matrices and arrays, of dynamic or fixed size, or a contiguous Map of
/// one. A type with one row or one column has rank 1. Otherwise a row-major matrix holds a sample
/// in each row and a column-major one, Eigen's default, in each column.
namespace diffusion {

namespace detail {

/// The traits that matrices and arrays share.
template <class Plain>
struct DenseTraits {
  static constexpr int rows = Plain::RowsAtCompileTime;
  static constexpr int cols = Plain::ColsAtCompileTime;
  static constexpr bool vector = rows == 1 || cols == 1;

  using Tensor = Plain;
  using Scalar = typename Plain::Scalar;
  using Shape = std::array<Eigen::Index, vector ? 1 : 2>;
  static constexpr bool row_major = Plain::IsRowMajor;

  static Scalar* data(Plain& x) { return x.data(); }
  static const Scalar* data(const Plain& x) { return x.data(); }
  template <class Dense>
  static Shape shape(const Dense& x) {
    if constexpr (vector)
      return {x.size()};
    else
      return {x.rows(), x.cols()};
  }
  static Plain make(const Shape& shape) {
    require_fit<Plain>("a matrix", shape);
    Plain x;
    if constexpr (vector)
      x.resize(shape[0]);
    else
      x.resize(shape[0], shape[1]);
    return x;
  }

  static bool fits(const Shape& shape) {
    const auto one = [](Eigen::Index extent, Extent allowed) {
      if (allowed.fixed != Eigen::Dynamic) return extent == allowed.fixed;
      return allowed.largest == Eigen::Dynamic || extent <= allowed.largest;
    };
    if constexpr (vector)
      return one(shape[0], length);
    else
      return one(shape[0], row_count) && one(shape[1], col_count);
  }
  static std::string sizes() {
    const auto one = [](Extent allowed) {
      if (allowed.fixed != Eigen::Dynamic) return std::to_string(allowed.fixed);
      if (allowed.largest != Eigen::Dynamic) return "at most " + std::to_string(allowed.largest);
      return std::string("any");
    };
    if constexpr (vector)
      return one(length);
    else
      return one(row_count) + " x " + one(col_count);
  }

 private:
  struct Extent {
    int fixed, largest;  // or Eigen::Dynamic
  };
  static constexpr Extent row_count{rows, Plain::MaxRowsAtCompileTime};
  static constexpr Extent col_count{cols, Plain::MaxColsAtCompileTime};
  static constexpr Extent length = cols == 1 ? row_count : col_count;
};

/// A map without strides: its elements stand one behind the other.
template <class Plain, int Options>
struct DenseMapTraits
    : ViewTraits<Eigen::Map<Plain, Options, Eigen::Stride<0, 0>>, DenseTraits<Plain>> {
  using Map = Eigen::Map<Plain, Options, Eigen::Stride<0, 0>>;
  static auto shape(const Map& x) { return DenseTraits<Plain>::shape(x); }
  static Map over(Plain& storage) {
    if constexpr (DenseTraits<Plain>::vector)
      return Map(storage.data(), storage.size());
    else
      return Map(storage.data(), storage.rows(), storage.cols());
  }
};

template <class Plain, int Options>
struct ReadOnlyMapTraits
    : ReadOnlyTraits<Eigen::Map<const Plain, Options, Eigen::Stride<0, 0>>, DenseTraits<Plain>> {
  using Map = Eigen::Map<const Plain, Options, Eigen::Stride<0, 0>>;
  static auto shape(const Map& x) { return DenseTraits<Plain>::shape(x); }
};

}  // namespace detail

template <class S, int Rows, int Cols, int Options, int MaxRows, int MaxCols>
struct StateTraits<Eigen::Matrix<S, Rows, Cols, Options, MaxRows, MaxCols>>
    : detail::DenseTraits<Eigen::Matrix<S, Rows, Cols, Options, MaxRows, MaxCols>> {};

template <class S, int Rows, int Cols, int Options, int MaxRows, int MaxCols>
struct StateTraits<Eigen::Array<S, Rows, Cols, Options, MaxRows, MaxCols>>
    : detail::DenseTraits<Eigen::Array<S, Rows, Cols, Options, MaxRows, MaxCols>> {};

template <class S, int Rows, int Cols, int Options, int MaxRows, int MaxCols, int MapOptions>
struct StateTraits<Eigen::Map<Eigen::Matrix<S, Rows, Cols, Options, MaxRows, MaxCols>, MapOptions,
                              Eigen::Stride<0, 0>>>
    : detail::DenseMapTraits<Eigen::Matrix<S, Rows, Cols, Options, MaxRows, MaxCols>, MapOptions> {
};

template <class S, int Rows, int Cols, int Options, int MaxRows, int MaxCols, int MapOptions>
struct StateTraits<Eigen::Map<Eigen::Array<S, Rows, Cols, Options, MaxRows, MaxCols>, MapOptions,
                              Eigen::Stride<0, 0>>>
    : detail::DenseMapTraits<Eigen::Array<S, Rows, Cols, Options, MaxRows, MaxCols>, MapOptions> {};

/// A map that can only be read.
template <class S, int Rows, int Cols, int Options, int MaxRows, int MaxCols, int MapOptions>
struct StateTraits<Eigen::Map<const Eigen::Matrix<S, Rows, Cols, Options, MaxRows, MaxCols>,
                              MapOptions, Eigen::Stride<0, 0>>>
    : detail::ReadOnlyMapTraits<Eigen::Matrix<S, Rows, Cols, Options, MaxRows, MaxCols>,
                                MapOptions> {};

/// A map that can only be read.
template <class S, int Rows, int Cols, int Options, int MaxRows, int MaxCols, int MapOptions>
struct StateTraits<Eigen::Map<const Eigen::Array<S, Rows, Cols, Options, MaxRows, MaxCols>,
                              MapOptions, Eigen::Stride<0, 0>>>
    : detail::ReadOnlyMapTraits<Eigen::Array<S, Rows, Cols, Options, MaxRows, MaxCols>,
                                MapOptions> {};

}  // namespace diffusion

#endif  // DIFFUSION_TENSOR_DENSE_STATE_HPP
