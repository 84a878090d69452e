#ifndef DIFFUSION_SCHEDULE_ARITHMETIC_HPP
#define DIFFUSION_SCHEDULE_ARITHMETIC_HPP

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

/// Arithmetic that schedules share: stable logistic functions, and ranges whose every bit equals
/// those of NumPy and PyTorch, so that tables and timesteps do too.
namespace diffusion::detail {

/// 1 / (1 + exp(-x)) without overflow: alpha^2 of a variance preserving level with log-SNR x.
inline double logistic(double x) {
  if (x >= 0) return 1 / (1 + std::exp(-x));
  const double e = std::exp(x);
  return e / (1 + e);
}

/// log(1 + exp(x)) without overflow.
inline double softplus(double x) { return (std::max)(x, 0.0) + std::log1p(std::exp(-std::abs(x))); }

/// The value, rounded to its type here: a compiler may not fuse the operation that made it with
/// the next one, which would change the last bit on machines with a fused multiply-add.
template <class Scalar>
Scalar rounded(Scalar value) {
  volatile Scalar stored = value;
  return stored;
}

/// `count` numbers from `start` to `stop`, both included, as `numpy.linspace` rounds them.
inline std::vector<double> numpy_linspace(double start, double stop, int count) {
  std::vector<double> values(static_cast<std::size_t>(count), start);
  if (count == 1) return values;
  const double step = (stop - start) / (count - 1);
  for (int i = 0; i < count; ++i) values[static_cast<std::size_t>(i)] = rounded(i * step) + start;
  values.back() = stop;
  return values;
}

/// `count` numbers from `start` to `stop`, both included, as `torch.linspace` rounds them in type
/// Scalar: from the two ends towards the middle, in pairs of registers of 32 bytes whose first
/// element is a fused multiply-add and whose others add multiples of the step to it; what is left
/// over at the end one by one.
template <class Scalar>
std::vector<Scalar> torch_linspace(double start, double stop, int count) {
  const Scalar first = static_cast<Scalar>(start), last = static_cast<Scalar>(stop);
  std::vector<Scalar> values(static_cast<std::size_t>(count), first);
  if (count == 1) return values;
  const Scalar step = (last - first) / static_cast<Scalar>(count - 1);
  const auto at = [&](int i) {
    return i < count / 2 ? std::fma(step, static_cast<Scalar>(i), first)
                         : std::fma(-step, static_cast<Scalar>(count - 1 - i), last);
  };
  constexpr int width = 32 / static_cast<int>(sizeof(Scalar));
  const int paired = count - count % (2 * width);
  for (int i = 0; i < count; ++i) {
    const int lane = i < paired ? i % width : 0;
    values[static_cast<std::size_t>(i)] = at(i - lane) + rounded(step * static_cast<Scalar>(lane));
  }
  return values;
}

}  // namespace diffusion::detail

#endif  // DIFFUSION_SCHEDULE_ARITHMETIC_HPP
