#ifndef DIFFUSION_TESTS_NOISE_STATISTICS_PAIRS_HPP
#define DIFFUSION_TESTS_NOISE_STATISTICS_PAIRS_HPP

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "noise_statistics/distributions.hpp"
#include "noise_statistics/normals.hpp"
#include "noise_statistics/sources.hpp"

namespace statistics {

/// Whether two streams are independent of each other, number by number.
class PairStatistics {
 public:
  static constexpr std::size_t kinds = 5;
  static const std::array<std::string, kinds>& names() {
    static const std::array<std::string, kinds> all{"x y", "x^2 y^2", "x y^2", "x^2 y", "|x| |y|"};
    return all;
  }

  void add(std::span<const float> x, std::span<const float> y) {
    apply(squared, x, x2_);
    apply(squared, y, y2_);
    apply(magnitude, x, ax_);
    apply(magnitude, y, ay_);
    sums_[0] += product_sum(x, y);
    sums_[1] += product_sum(x2_, y2_);
    sums_[2] += product_sum(x, y2_);
    sums_[3] += product_sum(x2_, y);
    sums_[4] += product_sum(ax_, ay_);
    for (std::size_t i = 0; i < x.size(); ++i)
      ++cells_[axis_.cell(x[i]) * axis_.cells() + axis_.cell(y[i])];
    count_ += static_cast<double>(x.size());
  }

  double count() const { return count_; }
  double z(std::size_t kind) const { return sums_[kind] / std::sqrt(count_); }

  /// Chi-square over the cells of the plane.
  ChiSquare plane() const {
    const auto p = axis_.probabilities();
    std::vector<double> expected;
    for (const double a : p)
      for (const double b : p) expected.push_back(count_ * a * b);
    return {cells_, expected};
  }

 private:
  static void apply(float (*function)(float), std::span<const float> x, std::vector<float>& out) {
    out.resize(x.size());
    std::transform(x.begin(), x.end(), out.begin(), function);
  }

  double count_ = 0;
  std::array<double, kinds> sums_{};
  Histogram axis_{4, 4};
  std::vector<double> cells_ = std::vector<double>(axis_.cells() * axis_.cells());
  std::vector<float> x2_, y2_, ax_, ay_;
};

inline void add_plane_result(std::vector<Result>& all, const std::string& group,
                             const std::string& name, std::span<const PairStatistics> pairs) {
  double value = 0, freedom = 0, count = 0;
  for (const PairStatistics& pair : pairs) {
    const ChiSquare chi = pair.plane();
    value += chi.value;
    freedom += chi.freedom();
    count += pair.count();
  }
  all.push_back(chi_square_result(group, name + ": cells of the plane", count, value, freedom));
}

/// Elements 2i and 2i + 1, which `PhiloxNoise` makes at once by Box-Muller, and 2i + 1 and 2i + 2.
class NeighboursInStream {
 public:
  void add(std::span<const float> x) {
    const std::size_t half = x.size() / 2;
    first_.resize(half);
    second_.resize(half);
    for (std::size_t i = 0; i < half; ++i) {
      first_[i] = x[2 * i];
      second_[i] = x[2 * i + 1];
    }
    pairs_[0].add(first_, second_);
    pairs_[1].add(std::span(second_).first(half - 1), std::span(first_).last(half - 1));
  }

  std::vector<Result> results(const std::string& group) const {
    std::vector<Result> all;
    const std::array<std::string, 2> names{"elements 2i, 2i + 1", "elements 2i + 1, 2i + 2"};
    for (std::size_t i = 0; i < names.size(); ++i) {
      for (std::size_t kind = 0; kind < PairStatistics::kinds; ++kind)
        all.push_back(mean_result(group, names[i] + ": " + PairStatistics::names()[kind],
                                  pairs_[i].count(),
                                  pairs_[i].z(kind) / std::sqrt(pairs_[i].count()), 0, 1));
      add_plane_result(all, group, names[i], std::span(pairs_).subspan(i, 1));
    }
    return all;
  }

 private:
  std::array<PairStatistics, 2> pairs_;
  std::vector<float> first_, second_;
};

/// The same element in neighbouring places: every pair out of ten streams whose addresses differ
/// by the least step, and by the least step of the upper word, of each part of an address.
class NeighbouringAddresses {
 public:
  static constexpr std::size_t stretch = 1024;  ///< elements of one address

  explicit NeighbouringAddresses(std::uint64_t seed) : seed_(seed) {}

  /// The next `stretch` elements of all streams.
  void advance(const Source& source) {
    // Base addresses two apart, so that the neighbours of one are not the next: 1000 samples, then
    // the next draws.
    const Address base{seed_, 2 * (step_ % 1000), 2 * (step_ / 1000), 0};
    ++step_;
    const auto addresses = neighbours(base);
    for (std::size_t i = 0; i < addresses.size(); ++i) {
      streams_[i].resize(stretch);
      source.normals(addresses[i], streams_[i]);
    }
    std::size_t pair = 0;
    for (std::size_t i = 0; i < streams_.size(); ++i)
      for (std::size_t j = i + 1; j < streams_.size(); ++j)
        pairs_[pair++].add(streams_[i], streams_[j]);
  }

  std::vector<Result> results(const std::string& group) const {
    std::vector<Result> all;
    std::vector<std::string> labels;
    for (std::size_t i = 0; i < names().size(); ++i)
      for (std::size_t j = i + 1; j < names().size(); ++j)
        labels.push_back(names()[i] + " and " + names()[j]);
    for (std::size_t kind = 0; kind < PairStatistics::kinds; ++kind) {
      std::vector<double> z;
      for (const PairStatistics& pair : pairs_) z.push_back(pair.z(kind));
      add_z_results(all, group, PairStatistics::names()[kind], pairs_[0].count(), z, labels);
    }
    add_plane_result(all, group, "45 pairs of addresses", pairs_);
    return all;
  }

 private:
  static constexpr std::size_t count = 10;
  static constexpr std::uint64_t upper = std::uint64_t{1} << 32;

  static std::array<Address, count> neighbours(const Address& base) {
    std::array<Address, count> all;
    all.fill(base);
    all[1].element += 1u << 20;
    all[2].element += std::uint64_t{1} << 33;
    all[3].sample += 1;
    all[4].sample += upper;
    all[5].draw += 1;
    all[6].draw += upper;
    all[7].seed += 1;
    all[8].seed += upper;
    all[9].sample += 1;
    all[9].draw += 1;
    return all;
  }
  static const std::array<std::string, count>& names() {
    static const std::array<std::string, count> all{
        "base",     "element + 2^20", "element + 2^33", "sample + 1",  "sample + 2^32",
        "draw + 1", "draw + 2^32",    "seed + 1",       "seed + 2^32", "sample + 1, draw + 1"};
    return all;
  }

  std::uint64_t seed_, step_ = 0;
  std::array<std::vector<float>, count> streams_;
  std::vector<PairStatistics> pairs_ = std::vector<PairStatistics>(count * (count - 1) / 2);
};

}  // namespace statistics

#endif  // DIFFUSION_TESTS_NOISE_STATISTICS_PAIRS_HPP
