#ifndef DIFFUSION_SAMPLERS_QUADRATURE_HPP
#define DIFFUSION_SAMPLERS_QUADRATURE_HPP

#include <array>
#include <cmath>

/// Integrals that samplers have no closed form of.
namespace diffusion::detail {

/// The integral of a smooth f from `low` to `high`, low <= high: the rule of Gauss and Legendre of
/// 8 points on pieces of at most `longest`.
template <class F>
double integral(const F& f, double low, double high, double longest = 0.5) {
  constexpr std::array<std::array<double, 2>, 4> rule = {
      {{0.1834346424956498, 0.3626837833783620},
       {0.5255324099163290, 0.3137066458778873},
       {0.7966664774136267, 0.2223810344533745},
       {0.9602898564975363, 0.1012285362903763}}};
  const int pieces = static_cast<int>(std::ceil((high - low) / longest));
  const double half = pieces > 0 ? (high - low) / pieces / 2 : 0;
  double sum = 0;
  for (int k = 0; k < pieces; ++k)
    for (const auto& [x, w] : rule)
      sum += w * (f(low + half * (2 * k + 1 - x)) + f(low + half * (2 * k + 1 + x)));
  return half * sum;
}

}  // namespace diffusion::detail

#endif  // DIFFUSION_SAMPLERS_QUADRATURE_HPP
