#ifndef DIFFUSION_DENOISER_PREDICTION_TYPE_HPP
#define DIFFUSION_DENOISER_PREDICTION_TYPE_HPP

#include <diffusion/error.hpp>
#include <diffusion/schedule/knot.hpp>

#include <string_view>

namespace diffusion {

/// What a network was trained to answer for z = alpha x0 + sigma eps.
enum class PredictionType {
  epsilon,  ///< the noise eps (Ho et al. 2020, arXiv 2006.11239, eq. 12)
  sample,   ///< the clean data x0
  v,        ///< alpha eps - sigma x0 (Salimans and Ho 2022, arXiv 2202.00512, appendix D)
  flow,     ///< eps - x0, the velocity of rectified flow (Liu et al. 2022, arXiv 2209.03003)
  score,    ///< -eps / sigma, the gradient of log q(z) (Song et al. 2020, arXiv 2011.13456)
};

/// Every prediction type, in the order of the enumeration.
inline constexpr PredictionType all_prediction_types[] = {
    PredictionType::epsilon, PredictionType::sample, PredictionType::v, PredictionType::flow,
    PredictionType::score};

/// The enumerator as a word: "epsilon", "sample", "v", "flow" or "score".
inline constexpr std::string_view name(PredictionType type) {
  constexpr std::string_view names[] = {"epsilon", "sample", "v", "flow", "score"};
  return names[static_cast<int>(type)];
}

/// How a network's output f is read at a state x: x0 = a x + b f and eps = p x + q f.
/// Where the level leaves one of them undefined (epsilon at alpha = 0, sample at sigma = 0) the
/// coefficients are infinite; whoever uses them must check. Plain data: threads may share what none
/// of them writes.
struct Conversion {
  double a, b;  ///< x0 = a x + b f
  double p, q;  ///< eps = p x + q f
};

/// The conversion at the level `at` of x, for a network that sees z = input_scale * x.
/// Solves z = alpha_z x0 + sigma_z eps and the definition of f for x0 and eps; alpha^2 + sigma^2
/// and alpha + sigma need not be one.
inline Conversion conversion(PredictionType type, const Knot& at, double input_scale = 1) {
  const double alpha = input_scale * at.alpha;  // the level of z
  const double sigma = input_scale * at.sigma;
  const double c = input_scale;
  switch (type) {
    case PredictionType::epsilon:
      return {1 / at.alpha, -at.sigma / at.alpha, 0, 1};
    case PredictionType::sample:
      return {0, 1, 1 / at.sigma, -at.alpha / at.sigma};
    case PredictionType::v: {
      const double d = alpha * alpha + sigma * sigma;
      return {c * alpha / d, -sigma / d, c * sigma / d, alpha / d};
    }
    case PredictionType::flow: {
      const double d = alpha + sigma;
      return {c / d, -sigma / d, c / d, alpha / d};
    }
    case PredictionType::score:
      return {1 / at.alpha, at.sigma * sigma / at.alpha, 0, -sigma};
  }
  fail(detail::text("prediction type number ", static_cast<int>(type), " is not one of 0 to 4"));
}

/// The output that a perfect network gives for (x0, eps) at the level of its own input:
/// f = on_x0 * x0 + on_eps * eps. Training targets; `conversion` inverts it. Plain data: threads
/// may share what none of them writes.
struct Target {
  double on_x0, on_eps;
};

/// What a perfect network of this type answers at the level `at`. Fails for a score at sigma = 0.
inline Target target(PredictionType type, const Knot& at) {
  switch (type) {
    case PredictionType::epsilon:
      return {0, 1};
    case PredictionType::sample:
      return {1, 0};
    case PredictionType::v:
      return {-at.sigma, at.alpha};
    case PredictionType::flow:
      return {-1, 1};
    case PredictionType::score:
      if (at.sigma == 0) fail("the score target is -eps / sigma; sigma is 0, it must be positive");
      return {0, -1 / at.sigma};
  }
  fail(detail::text("prediction type number ", static_cast<int>(type), " is not one of 0 to 4"));
}

}  // namespace diffusion

#endif  // DIFFUSION_DENOISER_PREDICTION_TYPE_HPP
