#ifndef DIFFUSION_SAMPLERS_WEIGHTS_HPP
#define DIFFUSION_SAMPLERS_WEIGHTS_HPP

#include <diffusion/error.hpp>

#include <array>
#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

/// The arithmetic that multistep and exponential samplers share.
namespace diffusion::detail {

/// k!, k >= 0.
inline double factorial(int k) { return k < 2 ? 1 : k * factorial(k - 1); }

/// phi_k(z) = integral over 0 .. 1 of exp((1 - u) z) u^(k-1) / (k-1)! du, phi_0(z) = exp(z), the
/// functions of exponential integrators (Hochbruck and Ostermann 2010, Acta Numerica 19, eq. 2.10):
/// phi_(k+1)(z) = (phi_k(z) - 1/k!) / z, which cancels near 0, where the Taylor series is used.
/// k >= 0, z finite or -inf, where phi_k is 0.
inline double phi(int k, double z) {
  if (k == 0) return std::exp(z);
  if (!is_finite(z)) return 0;
  if (std::abs(z) < 1) {  // sum of z^j / (j + k)!
    double term = 1 / factorial(k);
    double sum = term;
    for (int j = 1; j < 24; ++j) {
      term *= z / (j + k);
      sum += term;
    }
    return sum;
  }
  return k == 1 ? std::expm1(z) / z : (phi(k - 1, z) - 1 / factorial(k - 1)) / z;
}

/// Weights w with sum w_j p(nodes_j) = F(p) for every polynomial p of degree below n, where
/// F(u^m) = moments[m]: the interpolation through n >= 1 different nodes, put under a linear
/// functional F such as an integral. Solves the dual Vandermonde system by the algorithm of Bjorck
/// and Pereyra (1970), which is exact to rounding for the few nodes of a multistep method.
inline std::vector<double> interpolatory_weights(std::span<const double> nodes,
                                                 std::span<const double> moments) {
  const std::size_t n = nodes.size();
  if (n == 0) return {};
  std::vector<double> w(moments.begin(), moments.begin() + static_cast<std::ptrdiff_t>(n));
  for (std::size_t k = 0; k + 1 < n; ++k)
    for (std::size_t i = n - 1; i > k; --i) w[i] -= nodes[k] * w[i - 1];
  for (std::size_t k = n - 1; k-- > 0;) {
    for (std::size_t i = k + 1; i < n; ++i) w[i] /= nodes[i] - nodes[i - k - 1];
    for (std::size_t i = k; i + 1 < n; ++i) w[i] -= w[i + 1];
  }
  return w;
}

/// The weights of Adams and Bashforth's method of an order, 1 to 4, for even steps, on the newest
/// derivative, the one before, and so on: 1; 3/2, -1/2; 23/12, -16/12, 5/12; ...
inline std::vector<double> adams_bashforth_weights(int order) {
  constexpr std::array<double, 4> nodes = {0, -1, -2, -3};
  constexpr std::array<double, 4> moments = {1, 1.0 / 2, 1.0 / 3, 1.0 / 4};
  const auto n = static_cast<std::size_t>(order);
  return interpolatory_weights(std::span(nodes).first(n), std::span(moments).first(n));
}

}  // namespace diffusion::detail

#endif  // DIFFUSION_SAMPLERS_WEIGHTS_HPP
