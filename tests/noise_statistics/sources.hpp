#ifndef DIFFUSION_TESTS_NOISE_STATISTICS_SOURCES_HPP
#define DIFFUSION_TESTS_NOISE_STATISTICS_SOURCES_HPP

#include <diffusion/noise/philox.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace statistics {

/// The place of a number: `element` is a multiple of 16.
struct Address {
  std::uint64_t seed = 0;
  std::uint64_t sample = 0;
  std::uint64_t draw = 0;
  std::uint64_t element = 0;
};

/// What is tested: normals by address, and the random words that they are made of.
struct Source {
  std::function<void(const Address&, std::span<float>)> normals;
  std::function<void(const Address&, std::span<std::uint32_t>)> words;
};

/// The counter and key of the documented layout, written down a second time.
inline std::array<std::uint32_t, 4> philox_counter(const Address& a) {
  return {static_cast<std::uint32_t>(a.element / 4), static_cast<std::uint32_t>(a.draw),
          static_cast<std::uint32_t>(a.sample),
          static_cast<std::uint32_t>(a.sample >> 32 | a.draw >> 32 << 16)};
}
inline std::array<std::uint32_t, 2> philox_key(const Address& a) {
  return {static_cast<std::uint32_t>(a.seed), static_cast<std::uint32_t>(a.seed >> 32)};
}

/// The words of elements element, element + 1, ...; `out.size()` is a multiple of 16.
inline void philox_words(const Address& address, std::span<std::uint32_t> out) {
  constexpr std::uint32_t lanes = 4;
  auto counter = philox_counter(address);
  const auto key = philox_key(address);
  for (std::size_t begin = 0; begin < out.size(); begin += 4 * lanes) {
    std::uint32_t w[4][lanes];  // in lanes, as the library makes them: it vectorises
    for (std::uint32_t i = 0; i < lanes; ++i) {
      std::uint32_t x0 = counter[0] + i, x1 = counter[1], x2 = counter[2], x3 = counter[3];
      diffusion::detail::philox_rounds(x0, x1, x2, x3, key);
      w[0][i] = x0;
      w[1][i] = x1;
      w[2][i] = x2;
      w[3][i] = x3;
    }
    for (std::size_t i = 0; i < 4 * lanes; ++i) out[begin + i] = w[i % 4][i / 4];
    counter[0] += lanes;
  }
}

inline Source philox_source() {
  return {[](const Address& a, std::span<float> out) {
            diffusion::PhiloxNoise(a.seed).fill(a.sample, a.draw, a.element, out);
          },
          philox_words};
}

// ---- faulty sources: what the tests must find
// ----------------------------------------------------

/// The three parts of the tests: of a stream of normals, of neighbouring addresses, of words.
enum class Part { normals, addresses, bits };

/// A fault, the part of the tests that must find it, and part of the name of the result that does.
struct Fault {
  std::string name;
  std::string found_by;
  Part part;
  Source source;
};

namespace detail {

inline Source changed_normals(const std::function<float(float)>& change) {
  Source source = philox_source();
  source.normals = [change, right = source.normals](const Address& a, std::span<float> out) {
    right(a, out);
    for (float& x : out) x = change(x);
  };
  return source;
}

inline Source changed_words(const std::function<std::uint32_t(std::uint32_t)>& change) {
  Source source = philox_source();
  source.words = [change](const Address& a, std::span<std::uint32_t> out) {
    philox_words(a, out);
    for (std::uint32_t& w : out) w = change(w);
  };
  return source;
}

/// Both normals and words from another address.
inline Source moved(const std::function<Address(Address)>& move) {
  const Source right = philox_source();
  return {[=](const Address& a, std::span<float> out) { right.normals(move(a), out); },
          [=](const Address& a, std::span<std::uint32_t> out) { right.words(move(a), out); }};
}

/// Each number holds a share of that of a neighbouring place.
inline Source mixed(float share, const std::function<Address(Address)>& neighbour) {
  Source source = philox_source();
  source.normals = [=, right = source.normals](const Address& a, std::span<float> out) {
    std::vector<float> other(out.size());
    right(a, out);
    right(neighbour(a), other);
    const float rest = std::sqrt(1 - share * share);
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = rest * out[i] + share * other[i];
  };
  return source;
}

/// Box-Muller over half the circle: the two numbers of a pair have one sign.
inline Source pair_of_one_sign() {
  Source source = philox_source();
  source.normals = [right = source.normals](const Address& a, std::span<float> out) {
    right(a, out);
    for (std::size_t i = 0; i + 1 < out.size(); i += 2)
      out[i + 1] = std::copysign(out[i + 1], out[i]);
  };
  return source;
}

/// The linear congruential generator "randu", one stream a seed.
inline Source randu() {
  Source source = philox_source();
  source.words = [](const Address& a, std::span<std::uint32_t> out) {
    std::uint32_t state = static_cast<std::uint32_t>(a.seed + a.sample + a.draw + a.element) | 1u;
    for (std::uint32_t& w : out) {
      state *= 65539u;
      w = state << 1;
    }
  };
  return source;
}

}  // namespace detail

inline std::vector<Fault> faults() {
  using std::uint32_t;
  using std::uint64_t;
  const auto next_sample = [](Address a) { return ++a.sample, a; };
  const auto next_element = [](Address a) { return a.element += 16, a; };
  return {
      {"mean 0.005", "mean of x^1", Part::normals,
       detail::changed_normals([](float x) { return x + 0.005f; })},
      {"variance half a percent too large", "mean of x^2", Part::normals,
       detail::changed_normals([](float x) { return 1.0025f * x; })},
      {"slightly skewed", "mean of He_3(x)", Part::normals,
       detail::changed_normals([](float x) { return x + 0.003f * (x * x - 1); })},
      {"tails end at 4", "beyond", Part::normals,
       detail::changed_normals([](float x) { return std::clamp(x, -4.0f, 4.0f); })},
      {"half precision", "histogram", Part::normals,
       detail::changed_normals([](float x) { return std::round(x * 100) / 100; })},
      {"neighbouring samples correlate by 0.01", "x y", Part::addresses,
       detail::mixed(0.01f, next_sample)},
      {"elements correlate by 0.01 at lag 16", "x at lags", Part::normals,
       detail::mixed(0.01f, next_element)},
      {"a pair shares its sign", "elements 2i, 2i + 1", Part::normals, detail::pair_of_one_sign()},
      {"the next draw is the next sample", "x y", Part::addresses, detail::moved([](Address a) {
         a.sample += a.draw;
         a.draw = 0;
         return a;
       })},
      {"upper words of sample and draw collide", "x y", Part::addresses,
       detail::moved([](Address a) {
         a.sample ^= a.draw >> 32 << 32;
         a.draw &= 0xFFFFFFFFu;
         return a;
       })},
      {"the seed's upper word is ignored", "x y", Part::addresses, detail::moved([](Address a) {
         a.seed &= 0xFFFFFFFFu;
         return a;
       })},
      {"a bit is set in one word of 122 too many", "ones", Part::bits,
       detail::changed_words([](uint32_t w) { return w % 61 == 7 ? w | 0x00010000u : w; })},
      {"the lowest bit repeats the next", "16 bits", Part::bits,
       detail::changed_words([](uint32_t w) { return (w & ~1u) | (w >> 1 & 1u); })},
      {"a linear congruential generator", "rank", Part::bits, detail::randu()},
      {"16 bits for 32", "birthday", Part::bits,
       detail::changed_words([](uint32_t w) { return (w & 0xFFFFu) * 0x10001u; })},
  };
}

inline Source fault_named(const std::string& name) {
  std::string names;
  for (const Fault& fault : faults()) {
    if (fault.name == name) return fault.source;
    names += "\n  " + fault.name;
  }
  throw std::invalid_argument("there is no fault \"" + name + "\"; there are" + names);
}

}  // namespace statistics

#endif  // DIFFUSION_TESTS_NOISE_STATISTICS_SOURCES_HPP
