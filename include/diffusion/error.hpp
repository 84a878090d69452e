#ifndef DIFFUSION_ERROR_HPP
#define DIFFUSION_ERROR_HPP

#include <atomic>
#include <bit>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <sstream>
#include <stdexcept>
#include <string>
#include <type_traits>

/// Errors: every one leaves through `fail`. Options are checked when a schedule, grid or plan is
/// made, shapes when sampling starts; the sampling loop itself never fails.
namespace diffusion {

/// What `fail` throws. The message names the value, the limit and the way out. Safe to read from
/// several threads, as every exception.
class Error : public std::invalid_argument {
 public:
  using std::invalid_argument::invalid_argument;
};

/// Called with the message before `fail` ends the program, in builds without exceptions.
using ErrorHandler = void (*)(const char* message);

namespace detail {
inline std::atomic<ErrorHandler>& error_handler() {
  static std::atomic<ErrorHandler> handler{nullptr};
  return handler;
}
}  // namespace detail

/// Sets the handler of builds without exceptions and returns the one before. The handler must not
/// return; where it does, the program is aborted. Thread-safe.
inline ErrorHandler set_error_handler(ErrorHandler handler) {
  return detail::error_handler().exchange(handler);
}

/// The one way out for errors: throws `Error`, or, built without exceptions, calls the handler.
[[noreturn]] inline void fail(const std::string& message) {
#if defined(__cpp_exceptions) || defined(_CPPUNWIND)
  throw Error(message);
#else
  if (ErrorHandler handler = detail::error_handler().load()) handler(message.c_str());
  std::fprintf(stderr, "diffusion: %s\n", message.c_str());
  std::abort();
#endif
}

namespace detail {

// Infinities and NaNs are told by their bits: under -ffast-math std::isfinite and comparisons are
// folded to true. Numbers come by reference, because compilers may then also assume that none is
// passed by value.

/// The bits of a number without its sign: above those of infinity for a NaN.
inline std::uint64_t magnitude_bits(const double& value) {
  return std::bit_cast<std::uint64_t>(value) << 1 >> 1;
}
inline constexpr std::uint64_t infinity_bits = 0x7ff0000000000000u;

/// Whether a number is neither infinite nor NaN.
inline bool is_finite(const double& value) { return magnitude_bits(value) < infinity_bits; }

/// Whether a value is NaN; a whole number never is.
template <class Number>
bool is_nan(const Number& value) {
  if constexpr (std::is_floating_point_v<Number>)
    return magnitude_bits(static_cast<double>(value)) > infinity_bits;
  else
    return false;
}

/// Streams all arguments into one string, numbers with enough digits to tell them apart.
template <class... Parts>
std::string text(const Parts&... parts) {
  std::ostringstream stream;
  stream.precision(10);
  (stream << ... << parts);
  return stream.str();
}

/// Fails unless low <= value <= high. NaN fails.
template <class Number>
void require_range(const char* name, const Number& value, Number low, Number high) {
  if (!is_nan(value) && value >= low && value <= high) return;
  fail(text(name, " is ", value, "; it must lie in [", low, ", ", high, "]"));
}

/// Fails unless value >= low. NaN fails.
template <class Number>
void require_at_least(const char* name, const Number& value, Number low) {
  if (!is_nan(value) && value >= low) return;
  fail(text(name, " is ", value, "; it must be at least ", low));
}

/// Fails unless low < value < high. NaN fails.
template <class Number>
void require_inside(const char* name, const Number& value, Number low, Number high) {
  if (!is_nan(value) && value > low && value < high) return;
  fail(text(name, " is ", value, "; it must lie strictly between ", low, " and ", high));
}

/// Fails unless an enumerator is one of the first `count`: a cast can make any.
template <class Enum>
void require_enumerator(const char* name, Enum value, int count) {
  require_range(name, static_cast<int>(value), 0, count - 1);
}

}  // namespace detail
}  // namespace diffusion

#endif  // DIFFUSION_ERROR_HPP
