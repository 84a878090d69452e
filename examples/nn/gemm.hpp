#ifndef DIFFUSION_EXAMPLES_NN_GEMM_HPP
#define DIFFUSION_EXAMPLES_NN_GEMM_HPP

#include "feature_map.hpp"

#include <Eigen/Core>

#include <algorithm>
#include <span>
#include <vector>

namespace nn {

/// The left factor of a product, [rows, depth], stored as the kernel reads it: blocks of
/// `block_rows` rows, in each the columns one after another.
template <class Scalar>
class PackedMatrix {
 public:
  // A tile of the result, block_rows by three packets, stays in registers: 8 x 3 of AVX-512's 32,
  // 4 x 3 of the 16 of AVX and SSE.
  static constexpr int block_rows = EIGEN_ARCH_DEFAULT_NUMBER_OF_REGISTERS >= 32 ? 8 : 4;

  PackedMatrix() = default;

  /// @param values the matrix in C order
  PackedMatrix(Index rows, Index depth, const std::vector<Scalar>& values)
      : rows_(rows), depth_(depth) {
    values_.reserve(values.size());
    for (Index first = 0; first < rows; first += block_rows)
      for (Index k = 0; k < depth; ++k)
        for (Index row = first; row < std::min<Index>(rows, first + block_rows); ++row)
          values_.push_back(values[static_cast<std::size_t>(row * depth + k)]);
  }

  Index rows() const { return rows_; }
  Index depth() const { return depth_; }
  const Scalar* block(Index first_row) const { return values_.data() + first_row * depth_; }

 private:
  Index rows_ = 0, depth_ = 0;
  std::vector<Scalar, Eigen::aligned_allocator<Scalar>> values_;
};

/// The right factor of a product, [planes * shifts, columns], that is never written down: row
/// p * shifts.size() + s is the `columns` numbers from data + p * plane_stride + shifts[s] on.
/// A convolution's matrix of patches is of this form (the rows are the padded picture, shifted);
/// with the single shift 0 it is an ordinary matrix. Up to a packet beyond `columns` is read.
template <class Scalar>
struct ShiftedPlanes {
  const Scalar* data;
  Index plane_stride, planes;
  std::span<const Index> shifts;
};

/// Where the result goes: column n of the product is pixel (n / row_stride, n % row_stride) of
/// `out`; columns that fall right of the picture are dropped.
template <class Scalar>
struct ProductTarget {
  FeatureMap<Scalar> out;
  Index row_stride;
  const Scalar* bias;      ///< one a row of the product, added
  const Scalar* residual;  ///< of the shape of `out`, added; may be `out.data`; may be null
};

namespace detail {

template <class Scalar>
using Packet = typename Eigen::internal::packet_traits<Scalar>::type;

template <class Scalar>
inline constexpr int packet_size = Eigen::internal::unpacket_traits<Packet<Scalar>>::size;

inline constexpr int tile_packets = 3;

template <class Scalar>
inline constexpr int tile_columns = tile_packets* packet_size<Scalar>;

/// Rows x (Packets * packet_size) of the product. Each number is summed over the depth in order,
/// wherever in the product it stands: the split into tiles does not show in the result.
template <class Scalar, int Rows, int Packets>
void multiply_tile(const Scalar* left, const ShiftedPlanes<Scalar>& right, Index column,
                   Scalar* tile) {
  using Eigen::internal::ploadu;
  using Eigen::internal::pmadd;
  using Eigen::internal::pset1;
  using Eigen::internal::pstoreu;
  using P = Packet<Scalar>;
  P sums[Rows][Packets];
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 3
    for (int p = 0; p < Packets; ++p) sums[r][p] = pset1<P>(Scalar(0));

  const Scalar* plane = right.data + column;
  for (Index i = 0; i < right.planes; ++i, plane += right.plane_stride)
    for (const Index shift : right.shifts) {
      P columns[Packets];
#pragma GCC unroll 3
      for (int p = 0; p < Packets; ++p)
        columns[p] = ploadu<P>(plane + shift + p * packet_size<Scalar>);
#pragma GCC unroll 8
      for (int r = 0; r < Rows; ++r) {
        const P weight = pset1<P>(left[r]);
#pragma GCC unroll 3
        for (int p = 0; p < Packets; ++p) sums[r][p] = pmadd(weight, columns[p], sums[r][p]);
      }
      left += Rows;
    }

#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 3
    for (int p = 0; p < Packets; ++p)
      pstoreu(tile + r * tile_columns<Scalar> + p * packet_size<Scalar>, sums[r][p]);
}

/// The tile of a size known at run time: looks for it from the largest down.
template <class Scalar, int Rows = PackedMatrix<Scalar>::block_rows, int Packets = tile_packets>
void multiply_tile(Index rows, Index packets, const Scalar* left,
                   const ShiftedPlanes<Scalar>& right, Index column, Scalar* tile) {
  if constexpr (Rows > 1)
    if (rows < Rows)
      return multiply_tile<Scalar, Rows - 1, Packets>(rows, packets, left, right, column, tile);
  if constexpr (Packets > 1)
    if (packets < Packets)
      return multiply_tile<Scalar, Rows, Packets - 1>(rows, packets, left, right, column, tile);
  multiply_tile<Scalar, Rows, Packets>(left, right, column, tile);
}

/// Copies `rows` rows of a tile, which begins at `column`, to their pixels, with bias and residual.
template <class Scalar>
void store_tile(const Scalar* tile, Index first_row, Index rows, Index column, Index columns,
                const ProductTarget<Scalar>& target) {
  const FeatureMap<Scalar>& out = target.out;
  for (Index n = 0; n < columns;) {
    const Index y = (column + n) / target.row_stride;
    const Index x = (column + n) % target.row_stride;
    const Index stretch = std::min(columns - n, target.row_stride - x);
    const Index length = std::min(stretch, out.width - x);
    for (Index r = 0; r < rows && length > 0; ++r) {
      const Index at = (first_row + r) * out.pixels() + y * out.width + x;
      const Scalar* from = tile + r * tile_columns<Scalar> + n;
      const Scalar bias = target.bias[first_row + r];
      Scalar* to = out.data + at;
      if (target.residual == nullptr) {
        for (Index i = 0; i < length; ++i) to[i] = from[i] + bias;
      } else {
        const Scalar* residual = target.residual + at;
        for (Index i = 0; i < length; ++i) to[i] = residual[i] + (from[i] + bias);
      }
    }
    n += stretch;
  }
}

}  // namespace detail

/// out = left * right + bias (+ residual).
template <class Scalar>
void multiply(const PackedMatrix<Scalar>& left, const ShiftedPlanes<Scalar>& right,
              const ProductTarget<Scalar>& target) {
  constexpr Index block_rows = PackedMatrix<Scalar>::block_rows;
  constexpr Index packet = detail::packet_size<Scalar>;
  const Index columns = target.out.height * target.row_stride;
  alignas(64) Scalar tile[block_rows * detail::tile_columns<Scalar>];
  for (Index column = 0; column < columns; column += detail::tile_columns<Scalar>) {
    const Index width = std::min<Index>(detail::tile_columns<Scalar>, columns - column);
    for (Index row = 0; row < left.rows(); row += block_rows) {
      const Index rows = std::min(block_rows, left.rows() - row);
      detail::multiply_tile<Scalar>(rows, (width + packet - 1) / packet, left.block(row), right,
                                    column, tile);
      detail::store_tile(tile, row, rows, column, width, target);
    }
  }
}

}  // namespace nn

#endif
