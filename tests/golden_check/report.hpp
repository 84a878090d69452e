#ifndef DIFFUSION_TESTS_GOLDEN_CHECK_REPORT_HPP
#define DIFFUSION_TESTS_GOLDEN_CHECK_REPORT_HPP

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <functional>
#include <limits>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

/// How a value is compared with the expected one, and what is printed about it.
namespace golden {

using Numbers = std::vector<double>;

template <class... Parts>
std::string text(const Parts&... parts) {
  std::ostringstream stream;
  stream.precision(17);
  (stream << ... << parts);
  return stream.str();
}

/// |got - expected|; NaN equals NaN only and an infinity itself only, else the difference is
/// infinite.
inline double difference(double expected, double got) {
  if (expected == got || (std::isnan(expected) && std::isnan(got))) return 0;
  const double d = std::abs(got - expected);
  return std::isfinite(d) ? d : std::numeric_limits<double>::infinity();
}

/// The largest finite |x|, at least 1.
inline double scale_of(const Numbers& numbers) {
  double scale = 1;
  for (const double x : numbers)
    if (std::isfinite(x)) scale = std::max(scale, std::abs(x));
  return scale;
}

/// Up to twelve numbers of both from `first` on, side by side.
inline std::string side_by_side(const Numbers& expected, const Numbers& got, std::size_t first) {
  std::string lines = "  element  expected                got\n";
  for (std::size_t i = first; i < std::min(first + 12, expected.size()); ++i) {
    std::array<char, 100> line{};
    std::snprintf(line.data(), line.size(), "  %7zu  %-22.16g  %.16g\n", i, expected[i], got[i]);
    lines += line.data();
  }
  return lines;
}

/// Thrown where a case is of something that the library does not have yet.
struct Skip {
  std::string reason;
};

/// Thrown where a case asks for something that this program does not do: a failure of that case.
class Unhandled : public std::invalid_argument {
 public:
  using std::invalid_argument::invalid_argument;
};

/// One case: collects its comparisons and remembers the first that differs.
class Case {
 public:
  explicit Case(double tolerance) : tolerance_(tolerance) {}

  double tolerance() const { return tolerance_; }
  /// For the comparisons that follow.
  void set_tolerance(double tolerance) { tolerance_ = tolerance; }
  /// The largest error, as a part of what is measured against: it passes up to `tolerance`.
  double error() const { return error_; }
  /// What differed first; empty where nothing did.
  const std::string& failure() const { return failure_; }
  /// More about the first difference, on several lines.
  const std::string& explanation() const { return explanation_; }

  /// The measure: |error| <= tolerance * max(1, largest |expected|), for each number. `details`
  /// tell more about what is compared, for the explanation of a difference.
  void compare(const std::string& what, const Numbers& expected, const Numbers& got,
               const std::function<std::string()>& details = {}) {
    within(what, expected, got, scale_of(expected), tolerance_, details);
  }
  void compare(const std::string& what, double expected, double got) {
    compare(what, Numbers{expected}, Numbers{got});
  }

  /// |error| <= tolerance, whatever the size of the numbers.
  void compare_absolutely(const std::string& what, const Numbers& expected, const Numbers& got,
                          double tolerance) {
    within(what, expected, got, 1, tolerance, {});
  }

  void require(bool good, const std::string& what) {
    if (!good) note_failure(what, {});
  }

 private:
  void within(const std::string& what, const Numbers& expected, const Numbers& got, double scale,
              double tolerance, const std::function<std::string()>& details) {
    if (expected.size() != got.size()) {
      note_failure(text(what, ": ", got.size(), " numbers instead of ", expected.size()), details);
      return;
    }
    double error = 0;
    std::size_t worst = 0;
    for (std::size_t i = 0; i < expected.size(); ++i) {
      const double e = difference(expected[i], got[i]) / scale;
      if (e > error) {
        error = e;
        worst = i;
      }
    }
    error_ = std::max(error_, error);
    if (error <= tolerance) return;
    note_failure(text(what, "[", worst, "]: expected ", expected[worst], ", got ", got[worst]),
                 [&] {
                   return (details ? details() : "") +
                          side_by_side(expected, got, worst < 6 ? 0 : worst - 6);
                 });
  }

  void note_failure(const std::string& what, const std::function<std::string()>& details) {
    if (!failure_.empty()) return;
    failure_ = what;
    if (details) explanation_ = details();
  }

  double tolerance_;
  double error_ = 0;
  std::string failure_, explanation_;
};

/// Runs cases, prints a line each, and counts.
class Report {
 public:
  /// With a name: only that case is run, and what differs is explained.
  explicit Report(std::optional<std::string> explained) : explained_(std::move(explained)) {}

  /// Runs `check(case)`, which compares, or throws `Skip`. Other exceptions, the library's errors
  /// and what is wrong with the case itself, are failures of this case alone.
  template <class Check>
  void run(const std::string& name, double tolerance, const Check& check) {
    if (explained_ && *explained_ != name) return;
    found_ = true;
    Case one(tolerance);
    std::string failure;
    try {
      check(one);
      failure = one.failure();
    } catch (const Skip& skipped) {
      std::printf("skip           %s (%s)\n", name.c_str(), skipped.reason.c_str());
      ++skipped_;
      return;
    } catch (const std::exception& error) {
      failure = error.what();
    }
    ++(failure.empty() ? passed_ : failed_);
    std::printf("%s  %8.1e  %s%s%s\n", failure.empty() ? "pass" : "FAIL", one.error(), name.c_str(),
                failure.empty() ? "" : ": ", failure.c_str());
    if (!explained_) return;
    if (failure.empty())
      std::printf("nothing differs: the largest error is %.3g of at most %.3g\n", one.error(),
                  tolerance);
    else
      std::printf("%s", one.explanation().c_str());
  }

  void skip(const std::string& name, const std::string& reason) {
    run(name, 0, [&](Case&) { throw Skip{reason}; });
  }

  void print_sum() const {
    std::printf("%d passed, %d failed, %d skipped\n", passed_, failed_, skipped_);
  }
  bool good() const { return failed_ == 0; }
  /// Whether the case to be explained was met.
  bool found() const { return found_; }

 private:
  std::optional<std::string> explained_;
  int passed_ = 0, failed_ = 0, skipped_ = 0;
  bool found_ = false;
};

}  // namespace golden

#endif  // DIFFUSION_TESTS_GOLDEN_CHECK_REPORT_HPP
