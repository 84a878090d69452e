#ifndef DIFFUSION_TESTS_NOISE_STATISTICS_REPORT_HPP
#define DIFFUSION_TESTS_NOISE_STATISTICS_REPORT_HPP

#include <diffusion/noise/torch_cpu_noise.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "noise_statistics/bits.hpp"
#include "noise_statistics/normals.hpp"
#include "noise_statistics/pairs.hpp"
#include "noise_statistics/sources.hpp"

namespace statistics {

/// Called with how many numbers more were tested.
using Advance = std::function<void(std::uint64_t)>;

inline void append(std::vector<Result>& all, const std::vector<Result>& more) {
  all.insert(all.end(), more.begin(), more.end());
}

/// Normals in order: draws of one sample, of 2^20 elements each.
inline std::vector<Result> test_normals(const Source& source, std::uint64_t seed,
                                        std::uint64_t numbers, const Advance& advance,
                                        NormalStream& stream) {
  constexpr std::uint64_t elements = 1u << 20;
  NeighboursInStream neighbours;
  std::vector<float> x(NormalStream::block);
  for (std::uint64_t done = 0; done < numbers; done += x.size()) {
    source.normals({seed, 7, done / elements, done % elements}, x);
    stream.add(x);
    neighbours.add(x);
    advance(x.size());
  }
  auto all = stream.results("normals");
  append(all, neighbours.results("normals"));
  return all;
}

/// Normals of ten neighbouring addresses, `numbers` in all.
inline std::vector<Result> test_addresses(const Source& source, std::uint64_t seed,
                                          std::uint64_t numbers, const Advance& advance) {
  NeighbouringAddresses addresses(seed);
  constexpr std::uint64_t each = 10 * NeighbouringAddresses::stretch;
  for (std::uint64_t done = 0; done < numbers; done += each) {
    addresses.advance(source);
    advance(each);
  }
  return addresses.results("addresses");
}

/// Words in each of the four orders, `numbers` of each.
inline std::vector<Result> test_bits(const Source& source, std::uint64_t seed,
                                     std::uint64_t numbers, const Advance& advance) {
  std::vector<Result> all;
  std::vector<std::uint32_t> w(BitStream::block);
  for (std::size_t order = 0; order < order_names.size(); ++order) {
    BitStream stream;
    for (std::uint64_t done = 0; done < numbers; done += w.size()) {
      ordered_words(source, static_cast<Order>(order), {seed, 3, 5, 0}, done, w);
      stream.add(w);
      advance(w.size());
    }
    append(all, stream.results("bits, " + std::string(order_names[order])));
  }
  return all;
}

/// Normals of PyTorch's generator, in float.
inline std::vector<Result> test_torch(std::uint64_t seed, std::uint64_t numbers,
                                      const Advance& advance) {
  diffusion::TorchCpuNoise noise(seed);
  NormalStream stream;
  NeighboursInStream neighbours;
  std::vector<float> x(NormalStream::block);
  for (std::uint64_t done = 0; done < numbers; done += x.size()) {
    noise.fill(std::span(x));
    stream.add(x);
    neighbours.add(x);
    advance(x.size());
  }
  auto all = stream.results("TorchCpuNoise");
  append(all, neighbours.results("TorchCpuNoise"));
  return all;
}

/// The least two-sided p of all results, and which one has it.
inline const Result& least_likely(const std::vector<Result>& all) {
  return *std::min_element(all.begin(), all.end(), [](const Result& a, const Result& b) {
    return a.tails.two_sided() < b.tails.two_sided();
  });
}

}  // namespace statistics

#endif  // DIFFUSION_TESTS_NOISE_STATISTICS_REPORT_HPP
