#ifndef DIFFUSION_TESTS_NOISE_STATISTICS_NORMALS_HPP
#define DIFFUSION_TESTS_NOISE_STATISTICS_NORMALS_HPP

#include <Eigen/Core>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <numbers>
#include <span>
#include <string>
#include <vector>

#include "noise_statistics/distributions.hpp"

namespace statistics {

/// E[x^k] of a standard normal: (k - 1)!! for even k.
inline double normal_moment(int k) {
  if (k % 2 == 1) return 0;
  double moment = 1;
  for (int i = k - 1; i > 1; i -= 2) moment *= i;
  return moment;
}

/// x, (x^2 - 1) / sqrt(2), |x|: functions of a normal with mean 0 and variance 1.
inline float squared(float x) { return (x * x - 1) / std::numbers::sqrt2_v<float>; }
inline float magnitude(float x) {
  const float mean = std::sqrt(2 / std::numbers::pi_v<float>);
  return (std::abs(x) - mean) / std::sqrt(1 - mean * mean);
}

/// The sum of products of two stretches. Floats within a block: the rounding is far below the
/// standard deviation of such a sum.
inline double product_sum(std::span<const float> a, std::span<const float> b) {
  using Vector = Eigen::Map<const Eigen::VectorXf>;
  return static_cast<double>(Vector(a.data(), static_cast<Eigen::Index>(a.size()))
                                 .dot(Vector(b.data(), static_cast<Eigen::Index>(b.size()))));
}

/// Counts of x in cells of width 1 / `per_unit` from -limit to limit, all that lies beyond in the
/// outermost.
class Histogram {
 public:
  Histogram(int limit, int per_unit)
      : limit_(limit),
        per_unit_(per_unit),
        counts_(static_cast<std::size_t>(2 * limit * per_unit)) {}

  std::size_t cells() const { return counts_.size(); }
  double count(std::size_t cell) const { return counts_[cell]; }
  double left(std::size_t cell) const { return static_cast<double>(cell) / per_unit_ - limit_; }

  std::size_t cell(float x) const {
    // The sum is exact in double, so that no number is put on the wrong side of an edge.
    const double at = (static_cast<double>(x) + limit_) * per_unit_;
    return static_cast<std::size_t>(std::clamp(at, 0.0, static_cast<double>(cells() - 1)));
  }
  void add(std::span<const float> x) {
    for (const float value : x) ++counts_[cell(value)];
  }

  std::vector<double> probabilities() const {
    std::vector<double> p(cells());
    for (std::size_t i = 0; i < cells(); ++i) {
      const double low = i == 0 ? -40 : left(i), high = i + 1 == cells() ? 40 : left(i + 1);
      p[i] = low > 0 ? normal_below(-low) - normal_below(-high)
                     : normal_below(high) - normal_below(low);
    }
    return p;
  }

  /// Numbers above `bound` > 0 or below -bound, an edge of the cells.
  double beyond(double bound, double side) const {
    double sum = 0;
    for (std::size_t i = 0; i < cells(); ++i)
      if (side > 0 ? left(i) >= bound : left(i) + 1.0 / per_unit_ <= -bound) sum += counts_[i];
    return sum;
  }

  const std::vector<double>& counts() const { return counts_; }

 private:
  int limit_, per_unit_;
  std::vector<double> counts_;
};

/// Everything about a stream of numbers that comes in blocks: moments, distribution, and how each
/// depends on those that came 1 to 64 before it.
class NormalStream {
 public:
  static constexpr std::size_t block = 1u << 14;
  static constexpr std::size_t lags = 64;
  static constexpr std::size_t sorted_size = 1u << 18;  ///< numbers that are sorted at a time

  /// `x.size()` is `block`.
  void add(std::span<const float> x) {
    add_moments(x);
    histogram_.add(x);
    add_lags(x);
    // One stretch of `sorted_size` in eight is sorted, the first in any case.
    if (static_cast<std::size_t>(count_ / static_cast<double>(sorted_size)) % 8 == 0) add_sorted(x);
    count_ += static_cast<double>(x.size());
    const auto [low, high] = std::minmax_element(x.begin(), x.end());
    lowest_ = std::min(lowest_, static_cast<double>(*low));
    highest_ = std::max(highest_, static_cast<double>(*high));
  }

  std::vector<Result> results(const std::string& group) const {
    std::vector<Result> all;
    for (int k = 1; k <= 8; ++k) {
      all.push_back(mean_result(group, "mean of x^" + std::to_string(k), count_, raw_moment(k),
                                normal_moment(k),
                                normal_moment(2 * k) - normal_moment(k) * normal_moment(k)));
      all.back().again = k > 2;  // the Hermite polynomials say it without correlation
    }
    add_hermite(group, all);
    add_distribution(group, all);
    add_z_results(all, group, "x at lags 1 to 64", count_, lag_z(on_x_), lag_names());
    add_z_results(all, group, "x^2 at lags 1 to 64", count_, lag_z(on_squares_), lag_names());
    add_z_results(all, group, "x and x^2 at lags 1 to 64", count_, lag_z(on_both_), lag_names());
    return all;
  }

  const Histogram& histogram() const { return histogram_; }
  double count() const { return count_; }
  double lowest() const { return lowest_; }
  double highest() const { return highest_; }

 private:
  void add_moments(std::span<const float> x) {
    std::array<double, 8> sums{};
    for (const float value : x) {
      const auto v = static_cast<double>(value);
      double power = v;
      for (double& sum : sums) {
        sum += power;
        power *= v;
      }
    }
    for (std::size_t k = 0; k < sums.size(); ++k) powers_[k] += static_cast<long double>(sums[k]);
  }

  void add_lags(std::span<const float> x) {
    squares_.resize(x.size());
    std::transform(x.begin(), x.end(), squares_.begin(), squared);
    const std::span<const float> s(squares_);
    for (std::size_t lag = 1; lag <= lags; ++lag) {
      const std::size_t n = x.size() - lag;
      on_x_[lag - 1] += product_sum(x.first(n), x.last(n));
      on_squares_[lag - 1] += product_sum(s.first(n), s.last(n));
      on_both_[lag - 1] += product_sum(x.first(n), s.last(n));
      pairs_[lag - 1] += static_cast<double>(n);
    }
  }

  void add_sorted(std::span<const float> x) {
    waiting_.insert(waiting_.end(), x.begin(), x.end());
    if (waiting_.size() < sorted_size) return;
    std::sort(waiting_.begin(), waiting_.end());
    const Distance distance(
        waiting_.size(),
        [&](std::size_t i) { return normal_below(static_cast<double>(waiting_[i])); },
        [&](std::size_t i) { return normal_below(-static_cast<double>(waiting_[i])); });
    kolmogorov_.push_back(
        kolmogorov_tails(distance.kolmogorov, static_cast<double>(waiting_.size())).above);
    anderson_darling_.push_back(anderson_darling_tails(distance.anderson_darling).above);
    waiting_.clear();
  }

  double raw_moment(int k) const {
    return static_cast<double>(powers_[static_cast<std::size_t>(k - 1)]) / count_;
  }

  /// Hermite polynomials of different degrees are uncorrelated and He_k has the variance k!: these
  /// say separately what the moments say together.
  void add_hermite(const std::string& group, std::vector<Result>& all) const {
    std::array<std::array<double, 9>, 9> he{};  // he[k][j] x^j
    he[0][0] = he[1][1] = 1;
    for (std::size_t k = 2; k <= 8; ++k)
      for (std::size_t j = 0; j <= k; ++j)
        he[k][j] = (j > 0 ? he[k - 1][j - 1] : 0) - static_cast<double>(k - 1) * he[k - 2][j];
    double square = 0, factorial = 2;
    for (std::size_t k = 1; k <= 8; ++k) {
      if (k > 2) factorial *= static_cast<double>(k);
      double mean = he[k][0];
      for (std::size_t j = 1; j <= k; ++j) mean += he[k][j] * raw_moment(static_cast<int>(j));
      const Result result = mean_result(group, "mean of He_" + std::to_string(k) + "(x)", count_,
                                        mean, 0, k == 1 ? 1 : factorial);
      square += mean / result.error * (mean / result.error);
      if (k > 2) all.push_back(result);  // the first two are the moments themselves
    }
    all.push_back(chi_square_result(group, "He_1 to He_8, chi-square", count_, square, 8));
    all.back().again = true;
  }

  void add_distribution(const std::string& group, std::vector<Result>& all) const {
    auto expected = histogram_.probabilities();
    for (double& p : expected) p *= count_;
    const ChiSquare chi(histogram_.counts(), expected);
    all.push_back(
        chi_square_result(group, "histogram, cells of 1/64", count_, chi.value, chi.freedom()));
    for (const double bound : {3.0, 4.0, 5.0, 6.0})
      for (const double side : {-1.0, 1.0}) {
        const double mean = count_ * normal_below(-bound);
        if (mean < 1) continue;
        const double found = histogram_.beyond(bound, side);
        all.push_back(
            {group, (side < 0 ? "beyond -" : "beyond ") + std::to_string(static_cast<int>(bound)),
             count_, found, mean, std::sqrt(mean), poisson_tails(found, mean)});
        all.back().again = true;
      }
    const std::string each = ", each of 2^18 numbers";
    all.push_back(uniform_result(group, "Kolmogorov-Smirnov" + each, kolmogorov_));
    all.push_back(uniform_result(group, "Anderson-Darling" + each, anderson_darling_));
  }

  using LagSums = std::array<double, lags>;

  std::vector<double> lag_z(const LagSums& sums) const {
    std::vector<double> z(lags);
    for (std::size_t i = 0; i < lags; ++i) z[i] = sums[i] / std::sqrt(pairs_[i]);
    return z;
  }
  static std::vector<std::string> lag_names() {
    std::vector<std::string> names;
    for (std::size_t i = 1; i <= lags; ++i) names.push_back("lag " + std::to_string(i));
    return names;
  }

  double count_ = 0, lowest_ = 0, highest_ = 0;
  std::array<long double, 8> powers_{};
  Histogram histogram_{7, 64};
  LagSums on_x_{}, on_squares_{}, on_both_{}, pairs_{};
  std::vector<float> squares_, waiting_;
  std::vector<double> kolmogorov_, anderson_darling_;
};

}  // namespace statistics

#endif  // DIFFUSION_TESTS_NOISE_STATISTICS_NORMALS_HPP
