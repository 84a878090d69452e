#ifndef DIFFUSION_EDIT_INTERPOLATION_HPP
#define DIFFUSION_EDIT_INTERPOLATION_HPP

#include <diffusion/error.hpp>
#include <diffusion/tensor/state.hpp>

#include <cmath>
#include <cstddef>
#include <numbers>
#include <span>
#include <type_traits>
#include <vector>

namespace diffusion {

/// How two vectors are joined by a path.
enum class Interpolation {
  linear,  ///< (1 - s) a + s b: vectors halfway between independent ones are too short by sqrt(2)
  /// Along the great circle of the directions, the length going linearly from one's to the
  /// other's.
  spherical,
};

namespace detail {

/// The lengths of two vectors and the angle between them, 0 to pi.
struct VectorPair {
  double length_a, length_b, angle;
};

/// The angle is found from the sum and the difference of the directions, so that it is exact where
/// these are nearly the same or opposite (a cosine is not). 0 where a vector is 0.
template <class A, class B>
VectorPair vector_pair(const A* a, const B* b, std::size_t n) {
  double aa = 0, bb = 0;
  for (std::size_t i = 0; i < n; ++i) {
    aa += static_cast<double>(a[i]) * static_cast<double>(a[i]);
    bb += static_cast<double>(b[i]) * static_cast<double>(b[i]);
  }
  const double length_a = std::sqrt(aa), length_b = std::sqrt(bb);
  if (length_a == 0 || length_b == 0) return {length_a, length_b, 0};
  double sum = 0, difference = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const double u = static_cast<double>(a[i]) / length_a;
    const double v = static_cast<double>(b[i]) / length_b;
    sum += (u + v) * (u + v);
    difference += (u - v) * (u - v);
  }
  return {length_a, length_b, 2 * std::atan2(std::sqrt(difference), std::sqrt(sum))};
}

/// From a to its opposite through a direction at right angles to both: of each pair of elements
/// (u, v) it is (-v, u), or, where these are all 0, the first axis.
template <class A, class Out>
void through_the_side(const A* a, std::size_t n, double length, double share, Out* out) {
  const std::size_t paired = n / 2 * 2;
  double square = 0;
  for (std::size_t i = 0; i < paired; ++i)
    square += static_cast<double>(a[i]) * static_cast<double>(a[i]);
  if (n < 2) fail("two opposite vectors of one element have no great circle; interpolate linearly");
  const double ahead = std::cos(share * std::numbers::pi) * length;
  const double aside = std::sin(share * std::numbers::pi) * length;
  const double unit = std::sqrt([&] {
    double sum = square;
    if (n != paired) sum += static_cast<double>(a[n - 1]) * static_cast<double>(a[n - 1]);
    return sum;
  }());
  const double side = std::sqrt(square);
  for (std::size_t i = 0; i < paired; i += 2) {
    const double u = static_cast<double>(a[i]), v = static_cast<double>(a[i + 1]);
    const double beside_u = side > 0 ? -v / side : i == 0 ? 1 : 0;
    const double beside_v = side > 0 ? u / side : 0;
    out[i] = static_cast<Out>(ahead * u / unit + aside * beside_u);
    out[i + 1] = static_cast<Out>(ahead * v / unit + aside * beside_v);
  }
  if (n != paired) out[n - 1] = static_cast<Out>(ahead * static_cast<double>(a[n - 1]) / unit);
}

/// out = the vector at `share` of the way from a to b; out may be either.
template <class A, class B, class Out>
void interpolate_vector(Interpolation path, const A* a, const B* b, std::size_t n, double share,
                        Out* out) {
  double on_a = 1 - share, on_b = share;
  if (path == Interpolation::spherical && share > 0 && share < 1) {
    const VectorPair pair = vector_pair(a, b, n);
    const double length = (1 - share) * pair.length_a + share * pair.length_b;
    constexpr double rounding = 1e-6;  // below, the directions' difference is that of float numbers
    if (std::numbers::pi - pair.angle < rounding) return through_the_side(a, n, length, share, out);
    if (pair.angle > rounding) {
      const double sine = std::sin(pair.angle);
      on_a = length / pair.length_a * std::sin((1 - share) * pair.angle) / sine;
      on_b = length / pair.length_b * std::sin(share * pair.angle) / sine;
    }
  }
  for (std::size_t i = 0; i < n; ++i)
    out[i] = static_cast<Out>(on_a * static_cast<double>(a[i]) + on_b * static_cast<double>(b[i]));
}

inline void check_interpolation(Interpolation path, std::span<const double> shares) {
  require_enumerator("Interpolation", path, 2);
  for (const double& share : shares) require_range("share", share, 0.0, 1.0);
}

}  // namespace detail

/// Noise between two noises, each sample of a batch by itself: `shares` (one for all samples, or
/// one each, 0 to 1) of the way from a to b, along the sphere (Shoemake 1985; for the latents of
/// DDIM: Song, Meng and Ermon 2020, arXiv 2010.02502, section 5.3). Between independent standard
/// normal noises the result is as long as these are, which a network counts on; a straight line
/// passes through noise of half the variance. 0 gives a and 1 gives b, exactly. Opposite vectors
/// have no shortest way: it leads through a fixed direction at right angles. `out` may be a or b;
/// not batched: the whole state is one vector.
///
/// Fails for shapes that differ, a share outside [0, 1], a number of shares that is neither 1 nor
/// the batch.
template <ReadableState A, ReadableState B, State Out>
void interpolate(const A& a, const B& b, std::span<const double> shares, Out& out,
                 Interpolation path = Interpolation::spherical, bool batched = true) {
  static_assert(std::is_same_v<ShapeOf<A>, ShapeOf<B>> && std::is_same_v<ShapeOf<A>, ShapeOf<Out>>,
                "what is interpolated must have one rank");
  const auto shape = StateTraits<A>::shape(a);
  const auto require_same = [&](const char* name, const auto& other) {
    if (other != shape)
      fail(detail::text(name, " has the shape ", shape_text(other), "; it must have that of a, ",
                        shape_text(shape)));
  };
  require_same("b", StateTraits<B>::shape(b));
  require_same("out", StateTraits<Out>::shape(out));
  detail::check_interpolation(path, shares);
  const Blocks blocks = blocks_of<A>(shape, batched);
  if (shares.size() != 1 && shares.size() != blocks.batch)
    fail(detail::text("there are ", shares.size(), " shares for a batch of ", blocks.batch,
                      "; there must be 1 or one for each sample"));
  for (std::size_t sample = 0; sample < blocks.batch; ++sample) {
    const std::size_t first = sample * blocks.size;
    detail::interpolate_vector(
        path, StateTraits<A>::data(a) + first, StateTraits<B>::data(b) + first, blocks.size,
        shares[shares.size() == 1 ? 0 : sample], StateTraits<Out>::data(out) + first);
  }
}

/// The same with one share for all, as a new tensor.
template <ReadableState A, ReadableState B>
TensorOf<A> interpolate(const A& a, const B& b, double share,
                        Interpolation path = Interpolation::spherical, bool batched = true) {
  TensorOf<A> out = StateTraits<A>::make(StateTraits<A>::shape(a));
  interpolate(a, b, std::span<const double>(&share, 1), out, path, batched);
  return out;
}

/// A condition between two, as vectors of numbers (embeddings of classes or texts): a network that
/// takes such vectors is conditioned on what lies between. Straight by default: embeddings lie
/// where training has put them, not on a sphere. Fails for sizes that differ and a share outside
/// [0, 1].
template <class S>
std::vector<S> interpolate_condition(const std::vector<S>& a, const std::vector<S>& b, double share,
                                     Interpolation path = Interpolation::linear) {
  return interpolate(a, b, share, path, false);
}

}  // namespace diffusion

#endif  // DIFFUSION_EDIT_INTERPOLATION_HPP
