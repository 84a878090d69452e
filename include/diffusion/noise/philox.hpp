#ifndef DIFFUSION_NOISE_PHILOX_HPP
#define DIFFUSION_NOISE_PHILOX_HPP

#include <diffusion/error.hpp>
#include <diffusion/noise/noise.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

namespace diffusion {

namespace detail {

/// One round of Philox 4x32: two 32x32 -> 64 bit products, their halves swapped across.
constexpr void philox_round(std::uint32_t& x0, std::uint32_t& x1, std::uint32_t& x2,
                            std::uint32_t& x3, std::uint32_t key0, std::uint32_t key1) {
  const std::uint64_t product0 = std::uint64_t{x0} * 0xD2511F53u;
  const std::uint64_t product1 = std::uint64_t{x2} * 0xCD9E8D57u;
  x0 = static_cast<std::uint32_t>(product1 >> 32) ^ x1 ^ key0;
  x1 = static_cast<std::uint32_t>(product1);
  x2 = static_cast<std::uint32_t>(product0 >> 32) ^ x3 ^ key1;
  x3 = static_cast<std::uint32_t>(product0);
}

/// The ten rounds on four words in place. A fold and no loop, so that a loop around it vectorises.
[[gnu::always_inline]] constexpr void philox_rounds(std::uint32_t& x0, std::uint32_t& x1,
                                                    std::uint32_t& x2, std::uint32_t& x3,
                                                    std::array<std::uint32_t, 2> key) {
  const auto next = [&] {
    philox_round(x0, x1, x2, x3, key[0], key[1]);
    key[0] += 0x9E3779B9u;
    key[1] += 0xBB67AE85u;
  };
  next(), next(), next(), next(), next();
  next(), next(), next(), next(), next();
}

}  // namespace detail

/// The Philox 4x32-10 block function: 128 random bits for a counter and a key. Salmon, Moraes, Dror
/// and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011; the key moves on by the Weyl
/// constants after each round. Integers only: the same bits everywhere.
constexpr std::array<std::uint32_t, 4> philox4x32_10(std::array<std::uint32_t, 4> counter,
                                                     std::array<std::uint32_t, 2> key) {
  detail::philox_rounds(counter[0], counter[1], counter[2], counter[3], key);
  return counter;
}

namespace detail {

// Everything below is arithmetic without branches, library calls or error flags, so that loops of a
// fixed length over it become vector code under a plain -O2.

/// The uniform in (0, 1] of the radius: the 30 upper bits k of the word as (k + 1/2) / 2^30 =
/// (2k + 1) / 2^31, rounded once, to float. Its least value, 2^-31, lets the normals reach 6.55.
constexpr float radius_uniform(std::uint32_t word) {
  return static_cast<float>(static_cast<std::int32_t>((word >> 1) | 1u)) * 0x1p-31f;
}

/// The uniform in [0, 1) of the angle, in turns: the 24 upper bits of the word.
constexpr float angle_uniform(std::uint32_t word) {
  return static_cast<float>(static_cast<std::int32_t>(word >> 8)) * 0x1p-24f;
}

/// -2 log(u) for u in [2^-31, 1], relative error 2e-7, exactly 0 for u = 1. With u = (1 + f) 2^e,
/// f in [sqrt(1/2) - 1, sqrt(2) - 1], it is f p(f) - 2 log(2) e, p minimax of degree 8.
constexpr float minus_two_log(float u) {
  constexpr std::uint32_t sqrt_half = 0x3F3504F3u;
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(u) - sqrt_half;
  const float e = static_cast<float>(static_cast<std::int32_t>(bits) >> 23);
  const float f = std::bit_cast<float>((bits & 0x007FFFFFu) + sqrt_half) - 1.0f;
  float p = -1.744469851e-1f;
  p = p * f + 2.873367965e-1f;
  p = p * f - 2.990453541e-1f;
  p = p * f + 3.312478662e-1f;
  p = p * f - 3.991366625e-1f;
  p = p * f + 5.000414848e-1f;
  p = p * f - 6.666837335e-1f;
  p = p * f + 9.999997616e-1f;
  p = p * f - 2.0f;
  return p * f - 1.386294361f * e;
}

/// sqrt(x) for x = 0 and normal x > 0: the bit trick for 1/sqrt(x) (3.5e-2), one Newton step
/// (2e-3), one step of third order (1e-8 before rounding). std::sqrt sets errno and would keep g++
/// from vectorising.
constexpr float square_root(float x) {
  const float guess = std::bit_cast<float>(0x5F3759DFu - (std::bit_cast<std::uint32_t>(x) >> 1));
  const float inverse = guess * (1.5f - 0.5f * x * guess * guess);
  const float root = x * inverse;
  const float rest = 1.0f - root * inverse;
  return root + root * rest * (0.5f + 0.375f * rest);
}

/// Box-Muller on two words: r cos(2 pi v) and r sin(2 pi v), r = sqrt(-2 log u). The angle is taken
/// modulo half a turn, to t quarter turns in [-1, 1); the other half is a sign of r. Sine and
/// cosine of t quarter turns are minimax polynomials in t^2 (3e-9 and 2e-10 before rounding).
constexpr void box_muller(std::uint32_t radius_word, std::uint32_t angle_word, float& first,
                          float& second) {
  constexpr std::uint32_t quarter = 0x400000u;  // of a turn of 2^24
  const std::uint32_t turned = (angle_word >> 8) + quarter;
  const std::uint32_t in_half = turned & (2 * quarter - 1);
  const float t = static_cast<float>(static_cast<std::int32_t>(in_half - quarter)) * 0x1p-22f;
  const std::uint32_t sign = (turned << 8) & 0x80000000u;
  const float root = square_root(minus_two_log(radius_uniform(radius_word)));
  const float r = std::bit_cast<float>(std::bit_cast<std::uint32_t>(root) ^ sign);

  const float z = t * t;
  float sine = 1.508205605e-4f;
  sine = sine * z - 4.672227893e-3f;
  sine = sine * z + 7.968848199e-2f;
  sine = sine * z - 6.459633708e-1f;
  sine = sine * z + 1.570796251f;
  float cosine = -2.382491948e-5f;
  cosine = cosine * z + 9.177248576e-4f;
  cosine = cosine * z - 2.086268924e-2f;
  cosine = cosine * z + 2.536693215e-1f;
  cosine = cosine * z - 1.233700514f;
  cosine = cosine * z + 1.0f;
  first = r * cosine;
  second = r * (t * sine);
}

/// How many Philox blocks, and normals, are made at a time.
inline constexpr std::uint32_t philox_lanes = 16;
inline constexpr std::size_t philox_chunk = 4 * philox_lanes;

/// The `philox_chunk` normals of the blocks at `counter` and, word 0 counted up, after it. All
/// normals come from this one function, in loops of one fixed length: that is why element k does
/// not depend on the call that made it.
inline void philox_normals(std::array<std::uint32_t, 4> counter, std::array<std::uint32_t, 2> key,
                           float* out) {
  constexpr std::uint32_t lanes = philox_lanes;
  alignas(64) std::uint32_t radius[2 * lanes];  // words 0 of all lanes, then words 2
  alignas(64) std::uint32_t angle[2 * lanes];   // words 1, then words 3
  for (std::uint32_t lane = 0; lane < lanes; ++lane) {
    std::uint32_t x0 = counter[0] + lane, x1 = counter[1], x2 = counter[2], x3 = counter[3];
    philox_rounds(x0, x1, x2, x3, key);
    radius[lane] = x0;
    angle[lane] = x1;
    radius[lanes + lane] = x2;
    angle[lanes + lane] = x3;
  }
  alignas(64) float first[2 * lanes];
  alignas(64) float second[2 * lanes];
  for (std::uint32_t i = 0; i < 2 * lanes; ++i)
    box_muller(radius[i], angle[i], first[i], second[i]);
  for (std::uint32_t lane = 0; lane < lanes; ++lane) {
    out[4 * lane] = first[lane];
    out[4 * lane + 1] = second[lane];
    out[4 * lane + 2] = first[lanes + lane];
    out[4 * lane + 3] = second[lanes + lane];
  }
}

}  // namespace detail

/// Standard normals by address, from Philox 4x32-10 and Box-Muller. Immutable: copy it, share it
/// between threads. Sample s of a source made with `first_sample` f is sample f + s of the source
/// without: a part of a batch gets the noise that it gets in the whole.
///
/// Address layout, the same in every version of the library:
///   key        the seed, {low word, high word}
///   counter 0  element / 4
///   counter 1  draw, low word
///   counter 2  first_sample + sample, low word
///   counter 3  (first_sample + sample) >> 32 in the low half, draw >> 32 in the high half
/// The four words w of a block are the elements 4b, 4b + 1, 4b + 2, 4b + 3:
///   sqrt(-2 log u(w0)) {cos, sin}(2 pi v(w1)), then the same from w2 and w3,
///   u(w) = ((w >> 2) + 1/2) / 2^30 rounded to float, v(w) = (w >> 8) / 2^24.
/// Samples and draws lie below 2^48, elements below 2^34.
///
/// Normals are always made in float, so the noise does not change with the scalar type of the
/// state. The uniforms are the same bits on every machine; the normals are within 1e-6 of the
/// formula in exact arithmetic (2e-6 where the radius exceeds 4), and within one program element k
/// of a draw is the same bits whatever the calls.
class PhiloxNoise {
 public:
  /// `first_sample` < 2^48.
  explicit PhiloxNoise(std::uint64_t seed, std::uint64_t first_sample = 0)
      : seed_(seed), first_sample_(first_sample) {
    if (first_sample >= index_limit)
      fail(detail::text("first_sample is ", first_sample, "; it must lie below ", index_limit));
  }

  std::uint64_t seed() const { return seed_; }
  std::uint64_t first_sample() const { return first_sample_; }

  /// Writes the normals of elements element, element + 1, ... of one draw of one sample. `element`
  /// is a multiple of `noise_block`, element + out.size() at most 2^34, draw and
  /// first_sample + sample below 2^48.
  void fill(std::uint64_t sample, std::uint64_t draw, std::uint64_t element,
            std::span<float> out) const {
    write(sample, draw, element, out);
  }

  /// The same normals, widened.
  void fill(std::uint64_t sample, std::uint64_t draw, std::uint64_t element,
            std::span<double> out) const {
    write(sample, draw, element, out);
  }

  /// Fails unless a run of `samples` samples of `elements` numbers each, with draws below `draws`,
  /// lies within the layout: for checks before a run.
  void require(std::uint64_t samples, std::uint64_t draws, std::uint64_t elements) const {
    check(samples == 0 ? 0 : samples - 1, draws == 0 ? 0 : draws - 1, 0, elements);
  }

  friend bool operator==(const PhiloxNoise&, const PhiloxNoise&) = default;

 private:
  static constexpr std::uint64_t index_limit = std::uint64_t{1} << 48;  // of samples and draws
  static constexpr std::uint64_t element_limit = std::uint64_t{1} << 34;

  /// A tail is made as a whole chunk and cut.
  template <class Scalar>
  void write(std::uint64_t sample, std::uint64_t draw, std::uint64_t element,
             std::span<Scalar> out) const {
    check(sample, draw, element, out.size());
    const std::uint64_t index = first_sample_ + sample;
    const auto low = [](std::uint64_t x) { return static_cast<std::uint32_t>(x); };
    const std::uint32_t high = low(index >> 32) | low(draw >> 32) << 16;
    std::uint32_t block = low(element / 4);
    alignas(64) float normals[detail::philox_chunk];
    for (std::size_t begin = 0; begin < out.size(); begin += detail::philox_chunk) {
      detail::philox_normals({block, low(draw), low(index), high}, {low(seed_), low(seed_ >> 32)},
                             normals);
      const std::size_t left = out.size() - begin;
      if (left >= detail::philox_chunk)  // a copy of known length needs no call
        std::copy_n(normals, detail::philox_chunk, out.data() + begin);
      else
        std::copy_n(normals, left, out.data() + begin);
      block += detail::philox_lanes;
    }
  }

  void check(std::uint64_t sample, std::uint64_t draw, std::uint64_t element,
             std::uint64_t size) const {
    if (element % noise_block != 0)
      fail(detail::text("noise was asked for from element ", element, "; it must be a multiple of ",
                        noise_block));
    if (element > element_limit || size > element_limit - element)
      fail(detail::text("noise was asked for ", size, " elements from element ", element,
                        "; a sample holds at most ", element_limit,
                        ": split the state into more samples"));
    if (draw >= index_limit)
      fail(detail::text("draw is ", draw, "; it must lie below ", index_limit));
    if (sample >= index_limit - first_sample_)
      fail(detail::text("sample is ", sample, " and first_sample ", first_sample_,
                        "; their sum must lie below ", index_limit));
  }

  std::uint64_t seed_;
  std::uint64_t first_sample_;
};

}  // namespace diffusion

#endif  // DIFFUSION_NOISE_PHILOX_HPP
