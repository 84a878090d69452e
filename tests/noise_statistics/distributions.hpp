#ifndef DIFFUSION_TESTS_NOISE_STATISTICS_DISTRIBUTIONS_HPP
#define DIFFUSION_TESTS_NOISE_STATISTICS_DISTRIBUTIONS_HPP

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numbers>
#include <span>
#include <string>
#include <utility>
#include <vector>

/// Statistical tests of noise sources: what they measure and how likely that is by chance.
namespace statistics {

/// Both tails of a distribution at a value: P(statistic >= value) and P(statistic <= value).
struct Tails {
  double above = 1;
  double below = 1;

  /// The probability of anything as far out, on either side.
  double two_sided() const { return std::min(1.0, 2 * std::min(above, below)); }
};

/// What one test measured.
struct Result {
  std::string group;
  std::string name;
  double count = 0;     ///< numbers, pairs or words that went in
  double value = 0;     ///< what was measured
  double expected = 0;  ///< its mean for a perfect source
  double error = 0;     ///< its exact standard deviation for a perfect source; 0: not normal
  Tails tails{};
  bool again = false;  ///< says in other words what other results say: not independent of them
};

inline double normal_below(double z) { return 0.5 * std::erfc(-z / std::numbers::sqrt2); }
inline double normal_density(double z) {
  return std::exp(-z * z / 2) / std::sqrt(2 * std::numbers::pi);
}
inline Tails normal_tails(double z) { return {normal_below(-z), normal_below(z)}; }

/// The regularised incomplete gamma functions {Q, P}(a, x): the series below a + 1, above it the
/// continued fraction by Lentz's method. About sqrt(a) terms.
inline Tails gamma_tails(double a, double x) {
  if (x <= 0) return {1, 0};
  const double front = std::exp(a * std::log(x) - x - std::lgamma(a));
  constexpr double small = 1e-16;
  if (x < a + 1) {
    double term = 1 / a, sum = term;
    for (double n = a + 1; term > sum * small; n += 1) sum += term *= x / n;
    const double below = std::min(1.0, front * sum);
    return {1 - below, below};
  }
  constexpr double tiny = std::numeric_limits<double>::min() / small;
  double b = x + 1 - a, c = 1 / tiny, d = 1 / b, fraction = d;
  for (double n = 1; n < 1e7; n += 1) {
    const double numerator = -n * (n - a);
    b += 2;
    d = 1 / std::max(tiny, numerator * d + b);
    c = std::max(tiny, b + numerator / c);
    fraction *= c * d;
    if (std::abs(c * d - 1) < small * 8) break;
  }
  const double above = std::min(1.0, front * fraction);
  return {above, 1 - above};
}

inline Tails chi_square_tails(double value, double freedom) {
  return gamma_tails(freedom / 2, value / 2);
}

/// A Poisson count; both tails hold the count itself.
inline Tails poisson_tails(double count, double mean) {
  return {count <= 0 ? 1.0 : gamma_tails(count, mean).below, gamma_tails(count + 1, mean).above};
}

/// Kolmogorov's distribution for the largest distance of n numbers, with Stephens' correction for
/// finite n ("Use of the Kolmogorov-Smirnov ... statistics without extensive tables", 1970).
inline Tails kolmogorov_tails(double distance, double n) {
  const double x = distance * (std::sqrt(n) + 0.12 + 0.11 / std::sqrt(n));
  if (x < 0.3) return {1, 0};
  if (x < 1.2) {  // the series of the theta function that converges here
    double below = 0;
    for (int k = 1; k < 20; k += 2)
      below += std::exp(-k * k * std::numbers::pi * std::numbers::pi / (8 * x * x));
    below *= std::sqrt(2 * std::numbers::pi) / x;
    return {1 - below, below};
  }
  double above = 0;
  for (int k = 1; k < 20; ++k) above += (k % 2 == 1 ? 2 : -2) * std::exp(-2.0 * k * k * x * x);
  return {above, 1 - above};
}

/// The limit distribution of Anderson and Darling's A^2, after Marsaglia and Marsaglia, "Evaluating
/// the Anderson-Darling distribution", 2004 (errors below 2e-6).
inline Tails anderson_darling_tails(double x) {
  double below = 0;
  if (x > 0 && x < 2) {
    const double series =
        2.00012 +
        (0.247105 - (0.0649821 - (0.0347962 - (0.011672 - 0.00168691 * x) * x) * x) * x) * x;
    below = std::exp(-1.2337141 / x) / std::sqrt(x) * series;
  } else if (x >= 2) {
    const double series =
        1.0776 - (2.30695 - (0.43424 - (0.082433 - (0.008056 - 0.0003146 * x) * x) * x) * x) * x;
    below = std::exp(-std::exp(std::min(series, 700.0)));
    if (x > 30) below = 1;  // the fit ends; the tail is below 1e-13
  }
  return {x > 30 ? std::exp(-x) : 1 - below, below};
}

// ---- tests of lists of numbers
// -------------------------------------------------------------------

/// A mean of `count` values that have this mean and this variance for a perfect source.
inline Result mean_result(std::string group, std::string name, double count, double mean,
                          double expected, double variance) {
  const double error = std::sqrt(variance / count);
  return {std::move(group),
          std::move(name),
          count,
          mean,
          expected,
          error,
          normal_tails((mean - expected) / error)};
}

/// Chi-square of counts that have these expectations; cells that expect less than `least` are
/// counted as one.
struct ChiSquare {
  double value = 0;
  double cells = 0;
  double freedom() const { return cells - 1; }

  ChiSquare(std::span<const double> counts, std::span<const double> expected, double least = 10) {
    double rest = 0, rest_expected = 0;
    for (std::size_t i = 0; i < counts.size(); ++i)
      if (expected[i] < least) {
        rest += counts[i];
        rest_expected += expected[i];
      } else {
        add(counts[i], expected[i]);
      }
    if (rest_expected > 0.5) add(rest, rest_expected);
  }

 private:
  void add(double count, double expectation) {
    value += (count - expectation) * (count - expectation) / expectation;
    ++cells;
  }
};

inline Result chi_square_result(std::string group, std::string name, double count, double value,
                                double freedom) {
  return {std::move(group),
          std::move(name),
          count,
          value,
          freedom,
          std::sqrt(2 * freedom),
          chi_square_tails(value, freedom)};
}

/// Many independent standard normal z of one kind: their chi-square, and the largest |z|.
inline void add_z_results(std::vector<Result>& results, const std::string& group,
                          const std::string& name, double count, std::span<const double> z,
                          const std::vector<std::string>& labels) {
  double square = 0;
  std::size_t largest = 0;
  for (std::size_t i = 0; i < z.size(); ++i) {
    square += z[i] * z[i];
    if (std::abs(z[i]) > std::abs(z[largest])) largest = i;
  }
  const auto n = static_cast<double>(z.size());
  results.push_back(chi_square_result(
      group, name + ": all " + std::to_string(z.size()) + ", chi-square", count, square, n));
  const double one = normal_tails(std::abs(z[largest])).two_sided();
  const double none_larger = n * std::log1p(-std::min(one, 1 - 1e-16));
  results.push_back({group,
                     name + ": largest |z|, " + labels[largest],
                     count,
                     std::abs(z[largest]),
                     0,
                     0,
                     {-std::expm1(none_larger), std::exp(none_larger)}});
  results.back().again = true;
}

/// Kolmogorov-Smirnov's distance and Anderson-Darling's A^2 of numbers that should be uniform.
/// `values` is sorted; `below(i)` and `above(i)` are P(X < i-th) and P(X > i-th), both accurate.
struct Distance {
  double kolmogorov = 0;
  double anderson_darling = 0;

  template <class Below, class Above>
  Distance(std::size_t size, Below&& below, Above&& above) {
    const auto n = static_cast<double>(size);
    double sum = 0;
    for (std::size_t i = 0; i < size; ++i) {
      const auto rank = static_cast<double>(i);
      const double p = below(i), q = above(i);
      kolmogorov = std::max({kolmogorov, p - rank / n, (rank + 1) / n - p});
      sum += (2 * rank + 1) * std::log(p) + (2 * (n - rank) - 1) * std::log(q);
    }
    anderson_darling = -n - sum / n;
  }
};

/// Whether p-values are uniform: Kolmogorov-Smirnov on them.
inline Result uniform_result(std::string group, std::string name, std::vector<double> p) {
  std::sort(p.begin(), p.end());
  const auto clamped = [](double x) { return std::clamp(x, 1e-300, 1.0); };
  const Distance distance(
      p.size(), [&](std::size_t i) { return clamped(p[i]); },
      [&](std::size_t i) { return clamped(1 - p[i]); });
  const auto n = static_cast<double>(p.size());
  return {std::move(group),
          std::move(name),
          n,
          distance.kolmogorov,
          0,
          0,
          kolmogorov_tails(distance.kolmogorov, n)};
}

}  // namespace statistics

#endif  // DIFFUSION_TESTS_NOISE_STATISTICS_DISTRIBUTIONS_HPP
