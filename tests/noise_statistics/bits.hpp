#ifndef DIFFUSION_TESTS_NOISE_STATISTICS_BITS_HPP
#define DIFFUSION_TESTS_NOISE_STATISTICS_BITS_HPP

#include <diffusion/noise/philox.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "noise_statistics/distributions.hpp"
#include "noise_statistics/sources.hpp"

namespace statistics {

/// The orders in which the words of a source can be read: along the elements of one draw of one
/// sample, or 16 elements each of one sample, draw or seed after another.
enum class Order { elements, samples, draws, seeds };
inline constexpr std::array<std::string_view, 4> order_names{"elements", "samples", "draws",
                                                             "seeds"};

/// Fills `out` with the words from number `begin` on; both are multiples of 16.
inline void ordered_words(const Source& source, Order order, const Address& start,
                          std::uint64_t begin, std::span<std::uint32_t> out) {
  constexpr std::uint64_t elements = std::uint64_t{1} << 34;  // of one sample
  if (order == Order::elements) {
    while (!out.empty()) {
      Address at = start;
      at.sample += begin / elements;
      at.element = begin % elements;
      const auto piece = out.first(std::min<std::size_t>(out.size(), elements - at.element));
      source.words(at, piece);
      out = out.subspan(piece.size());
      begin += piece.size();
    }
    return;
  }
  for (std::size_t i = 0; i < out.size(); i += 16) {
    Address at = start;
    (order == Order::samples ? at.sample
     : order == Order::draws ? at.draw
                             : at.seed) += (begin + i) / 16;
    source.words(at, out.subspan(i, 16));
  }
}

/// Everything about a stream of random words that comes in blocks.
class BitStream {
 public:
  static constexpr std::size_t block = 1u << 14;
  static constexpr std::size_t lags = 16;

  /// `w.size()` is `block`.
  void add(std::span<const std::uint32_t> w) {
    add_ones(w);
    add_parts(w);
    add_lags(w);
    add_ranks(w);
    for (std::size_t i = 0; i < w.size() && repetitions_ < most_repetitions; i += birthdays)
      add_birthdays(w.subspan(i, birthdays));
    count_ += static_cast<double>(w.size());
  }

  std::vector<Result> results(const std::string& group) const {
    std::vector<Result> all;
    double ones = 0;
    std::vector<double> z;
    std::vector<std::string> labels;
    for (std::size_t bit = 0; bit < 32; ++bit) {
      ones += ones_[bit];
      z.push_back((ones_[bit] - count_ / 2) / std::sqrt(count_ / 4));
      labels.push_back("bit " + std::to_string(bit));
    }
    all.push_back(mean_result(group, "ones", 32 * count_, ones / (32 * count_), 0.5, 0.25));
    add_z_results(all, group, "ones at each place", count_, z, labels);
    all.push_back(mean_result(group, "runs: changes from bit to bit", changed_of_,
                              changes_ / changed_of_, 0.5, 0.25));
    add_uniform(all, group, "8 bits of a word", bytes_);
    add_uniform(all, group, "16 bits of a word", halves_);
    add_uniform(all, group, "the upper 8 bits of two words", upper_);
    add_uniform(all, group, "the lower 8 bits of two words", lower_);
    add_lag_results(all, group);
    add_rank_result(all, group);
    // Marsaglia's birthday spacings: of m = 2^12 birthdays in a year of 2^32 days, m^3 / 2^34 = 4
    // spacings are expected to be equal to others, a Poisson count.
    const double mean = 4 * repetitions_;
    all.push_back({group, "birthday spacings, 4096 words each", repetitions_ * birthdays,
                   equal_spacings_, mean, std::sqrt(mean), poisson_tails(equal_spacings_, mean)});
    return all;
  }

 private:
  static constexpr std::size_t birthdays = 1u << 12;
  static constexpr double most_repetitions = 4000;

  void add_ones(std::span<const std::uint32_t> w) {
    for (unsigned bit = 0; bit < 32; ++bit) {
      std::uint32_t ones = 0;
      for (const std::uint32_t word : w) ones += word >> bit & 1u;
      ones_[bit] += ones;
    }
    std::size_t changes = 0;
    for (std::size_t i = 0; i + 1 < w.size(); ++i)
      changes += static_cast<std::size_t>(std::popcount(w[i] ^ (w[i] >> 1 | w[i + 1] << 31)));
    changes_ += static_cast<double>(changes);
    changed_of_ += 32 * static_cast<double>(w.size() - 1);
  }

  void add_parts(std::span<const std::uint32_t> w) {
    for (const std::uint32_t word : w) {
      ++halves_[word & 0xFFFFu];
      ++halves_[word >> 16];
      for (int shift = 0; shift < 32; shift += 8) ++bytes_[word >> shift & 0xFFu];
    }
    for (std::size_t i = 0; i + 1 < w.size(); i += 2) {
      ++upper_[(w[i] >> 24) << 8 | w[i + 1] >> 24];
      ++lower_[(w[i] & 0xFFu) << 8 | (w[i + 1] & 0xFFu)];
    }
  }

  void add_lags(std::span<const std::uint32_t> w) {
    for (std::size_t lag = 1; lag <= lags; ++lag) {
      std::size_t different = 0;
      for (std::size_t i = 0; i + lag < w.size(); ++i)
        different += static_cast<std::size_t>(std::popcount(w[i] ^ w[i + lag]));
      const double bits = 32 * static_cast<double>(w.size() - lag);
      different_[lag - 1] += static_cast<double>(different) - bits / 2;
      compared_[lag - 1] += bits;
    }
  }

  /// The rank over {0, 1} of 32 words.
  static int rank(std::span<const std::uint32_t> words) {
    std::array<std::uint32_t, 32> rows{};
    std::copy(words.begin(), words.end(), rows.begin());
    int found = 0;
    for (unsigned bit = 0; bit < 32; ++bit) {
      const auto begin = rows.begin() + found;
      const auto pivot =
          std::find_if(begin, rows.end(), [&](std::uint32_t row) { return row >> bit & 1u; });
      if (pivot == rows.end()) continue;
      std::iter_swap(begin, pivot);
      for (auto row = begin + 1; row != rows.end(); ++row)
        if (*row >> bit & 1u) *row ^= *begin;
      ++found;
    }
    return found;
  }

  void add_ranks(std::span<const std::uint32_t> w) {
    for (std::size_t i = 0; i < w.size(); i += 32)
      ++ranks_[static_cast<std::size_t>(std::min(3, 32 - rank(w.subspan(i, 32))))];
  }

  void add_birthdays(std::span<const std::uint32_t> w) {
    std::vector<std::uint32_t> days(w.begin(), w.end());
    std::sort(days.begin(), days.end());
    for (std::size_t i = days.size() - 1; i > 0; --i) days[i] -= days[i - 1];
    std::sort(days.begin(), days.end());
    for (std::size_t i = 1; i < days.size(); ++i)
      if (days[i] == days[i - 1]) ++equal_spacings_;
    ++repetitions_;
  }

  static void add_uniform(std::vector<Result>& all, const std::string& group,
                          const std::string& name, const std::vector<double>& cells) {
    double total = 0;
    for (const double cell : cells) total += cell;
    const std::vector<double> expected(cells.size(), total / static_cast<double>(cells.size()));
    const ChiSquare chi(cells, expected, 0);
    all.push_back(chi_square_result(group, name + ", chi-square", total, chi.value, chi.freedom()));
  }

  void add_lag_results(std::vector<Result>& all, const std::string& group) const {
    std::vector<double> z;
    std::vector<std::string> labels;
    for (std::size_t i = 0; i < lags; ++i) {
      z.push_back(different_[i] / std::sqrt(compared_[i] / 4));
      labels.push_back("lag " + std::to_string(i + 1));
    }
    add_z_results(all, group, "bits that differ at lags 1 to 16", count_, z, labels);
  }

  /// Of n x n matrices of random bits, the share 2^(-k^2) prod_{i > k} (1 - 2^-i)^2 / prod (...)
  /// has the rank n - k.
  void add_rank_result(std::vector<Result>& all, const std::string& group) const {
    std::array<double, 4> expected{};
    double rest = count_ / 32;
    for (int k = 0; k < 3; ++k) {
      const int r = 32 - k;
      double share = std::exp2(r * (64.0 - r) - 1024.0);
      for (int i = 0; i < r; ++i) {
        const double factor = 1 - std::exp2(i - 32);
        share *= factor * factor / (1 - std::exp2(i - r));
      }
      expected[static_cast<std::size_t>(k)] = share * count_ / 32;
      rest -= share * count_ / 32;
    }
    expected[3] = rest;
    const ChiSquare chi(ranks_, expected, 5);
    all.push_back(chi_square_result(group, "rank of 32 x 32 bits, chi-square", count_, chi.value,
                                    chi.freedom()));
  }

  double count_ = 0, changes_ = 0, changed_of_ = 0, equal_spacings_ = 0, repetitions_ = 0;
  std::array<double, 32> ones_{};
  std::array<double, lags> different_{}, compared_{};
  std::array<double, 4> ranks_{};
  std::vector<double> bytes_ = std::vector<double>(256);
  std::vector<double> halves_ = std::vector<double>(65536);
  std::vector<double> upper_ = std::vector<double>(65536);
  std::vector<double> lower_ = std::vector<double>(65536);
};

/// Strict avalanche: one changed bit of counter or key (192 of them) changes each of the 128 bits
/// of the block with probability 1/2.
inline std::vector<Result> avalanche_results(const std::string& group, int blocks) {
  std::mt19937_64 bits(20111112);
  std::vector<double> changed(192 * 128);
  for (int n = 0; n < blocks; ++n) {
    std::array<std::uint32_t, 6> input{};
    for (std::uint32_t& word : input) word = static_cast<std::uint32_t>(bits());
    const auto block = [](const std::array<std::uint32_t, 6>& in) {
      return diffusion::philox4x32_10({in[0], in[1], in[2], in[3]}, {in[4], in[5]});
    };
    const auto before = block(input);
    for (std::size_t flip = 0; flip < 192; ++flip) {
      auto other = input;
      other[flip / 32] ^= std::uint32_t{1} << flip % 32;
      const auto after = block(other);
      for (std::size_t word = 0; word < 4; ++word)
        for (std::size_t bit = 0; bit < 32; ++bit)
          changed[flip * 128 + word * 32 + bit] += (before[word] ^ after[word]) >> bit & 1u;
    }
  }
  std::vector<Result> all;
  std::vector<double> z;
  std::vector<std::string> labels;
  for (std::size_t i = 0; i < changed.size(); ++i) {
    z.push_back((changed[i] - blocks / 2.0) / std::sqrt(blocks / 4.0));
    labels.push_back("input " + std::to_string(i / 128) + ", output " + std::to_string(i % 128));
  }
  add_z_results(all, group, "a changed bit changes others", blocks, z, labels);
  return all;
}

}  // namespace statistics

#endif  // DIFFUSION_TESTS_NOISE_STATISTICS_BITS_HPP
