#ifndef DIFFUSION_TENSOR_LANE_HPP
#define DIFFUSION_TENSOR_LANE_HPP

#include <Eigen/Core>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

/// The unit of all tensor arithmetic: 16 elements, counted from the start of a sample. A fixed-size
/// Eigen array of that length becomes whole SIMD packets with no scalar head or tail, so every
/// element goes through the same instructions wherever it stands: results do not depend on how
/// work is split. Tails are padded to a lane.
namespace diffusion::detail {

inline constexpr std::size_t lane_size = 16;
inline constexpr std::size_t chunk_lanes = 16;  ///< lanes that are worked on while in cache
inline constexpr std::size_t chunk_size = chunk_lanes * lane_size;

/// Sixteen-bit types are stored as they are and computed in float.
template <class S>
using Compute = std::conditional_t<sizeof(S) < sizeof(float), float, S>;

template <class S>
using Lane = Eigen::Array<Compute<S>, static_cast<int>(lane_size), 1>;

template <class S>
auto load(const S* p) {
  using Stored = Eigen::Array<S, static_cast<int>(lane_size), 1>;
  return Eigen::Map<const Stored>(p).template cast<Compute<S>>();
}

template <class S, class Expression>
void store(S* p, const Expression& lane) {
  using Stored = Eigen::Array<S, static_cast<int>(lane_size), 1>;
  Eigen::Map<Stored>(p, lane_size) = lane.template cast<S>();
}

/// out[i] = f(a[i], b[i]), lane by lane, the last one in a padded copy. `out` may be a or b.
template <class S, class F>
void transform_lanes(const S* a, const S* b, S* out, std::size_t n, const F& f) {
  const auto lane = [&f](const S* x, const S* y, S* to) {
    const Lane<S> result = f(load(x), load(y));
    store(to, result);
  };
  const std::size_t whole = n / lane_size * lane_size;
  for (std::size_t i = 0; i < whole; i += lane_size) lane(a + i, b + i, out + i);
  if (whole == n) return;
  S padded[3][lane_size] = {};
  std::copy(a + whole, a + n, padded[0]);
  std::copy(b + whole, b + n, padded[1]);
  lane(padded[0], padded[1], padded[2]);
  std::copy_n(padded[2], n - whole, out + whole);
}

/// Looks for infinities and NaNs by their bits: under -ffast-math comparisons cannot see them.
template <class S>
class FiniteCheck {
  using Real = Compute<S>;
  using Bits = std::conditional_t<sizeof(Real) == 8, std::uint64_t, std::uint32_t>;
  static constexpr Bits magnitude = static_cast<Bits>(~Bits{0}) >> 1;
  static constexpr Bits infinity =
      sizeof(Real) == 8 ? static_cast<Bits>(0x7ff0000000000000u) : static_cast<Bits>(0x7f800000u);

 public:
  void see(const Lane<S>& lane) {
    Bits bits[lane_size];
    std::memcpy(bits, lane.data(), sizeof(bits));
    for (std::size_t i = 0; i < lane_size; ++i) {
      const Bits b = bits[i] & magnitude;
      largest_ = largest_ < b ? b : largest_;
    }
  }
  bool finite() const { return largest_ < infinity; }

 private:
  static_assert(sizeof(Real) == sizeof(Bits), "the state's scalar must have 2, 4 or 8 bytes");
  Bits largest_ = 0;
};

}  // namespace diffusion::detail

#endif  // DIFFUSION_TENSOR_LANE_HPP
