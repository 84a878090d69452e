#ifndef DIFFUSION_DENOISER_PREDICTION_TYPE_HPP
#define DIFFUSION_DENOISER_PREDICTION_TYPE_HPP

#include <diffusion/error.hpp>
#include <diffusion/schedule/knot.hpp>

#include <cmath>
#include <string_view>

namespace diffusion {

/// What a network was trained to answer for z = alpha x0 + sigma eps: a kind, which is a prediction
/// type by itself (`PredictionType::epsilon`), and for two of the kinds the standard deviation of
/// the data (`PredictionType{PredictionType::Kind::edm, 0.5}`). Plain data: threads may share what
/// none of them writes.
struct PredictionType {
  enum class Kind {
    epsilon,  ///< the noise eps (Ho et al. 2020, arXiv 2006.11239, eq. 12)
    sample,   ///< the clean data x0
    /// sigma_data alpha eps - sigma x0 / sigma_data (Salimans and Ho 2022, arXiv 2202.00512,
    /// appendix D). With sigma_data also what TrigFlow's networks answer (Lu and Song 2024, arXiv
    /// 2410.11081, where z is sin(t) sigma_data eps + cos(t) x0), and -F of an EDM network.
    v,
    flow,   ///< eps - x0, the velocity of rectified flow (Liu et al. 2022, arXiv 2209.03003)
    score,  ///< -eps / sigma, the gradient of log q(z) (Song et al. 2020, arXiv 2011.13456)
    /// F of x0 = c_skip x / alpha + c_out F with s = sigma / alpha,
    /// c_skip = sd^2 / ((s - sigma_min)^2 + sd^2), c_out = (s - sigma_min) sd / sqrt(s^2 + sd^2)
    /// (Karras et al. 2022, arXiv 2206.00364, table 1, sigma_min = 0; consistency models, where
    /// x0 = x at sigma_min: Song et al. 2023, arXiv 2303.01469, appendix C).
    edm,
    /// x0 - eps: flow's velocity where time runs from noise to data, as in many papers.
    data_flow,
  };

  static const PredictionType epsilon, sample, v, flow, score, edm, data_flow;

  Kind kind = Kind::epsilon;
  double sigma_data = 1;  ///< sd, standard deviation of the data, > 0; read by v and edm
  double sigma_min = 0;   ///< the level where edm is the identity, >= 0

  /// A kind is a prediction type for data of unit deviation.
  constexpr PredictionType(Kind what, double deviation = 1, double smallest = 0)  // NOLINT
      : kind(what), sigma_data(deviation), sigma_min(smallest) {}
  constexpr PredictionType() = default;

  friend constexpr bool operator==(const PredictionType&, const PredictionType&) = default;
};

inline constexpr PredictionType PredictionType::epsilon{Kind::epsilon};
inline constexpr PredictionType PredictionType::sample{Kind::sample};
inline constexpr PredictionType PredictionType::v{Kind::v};
inline constexpr PredictionType PredictionType::flow{Kind::flow};
inline constexpr PredictionType PredictionType::score{Kind::score};
inline constexpr PredictionType PredictionType::edm{Kind::edm};
inline constexpr PredictionType PredictionType::data_flow{Kind::data_flow};

/// Every kind of prediction, for data of unit deviation, in the order of the enumeration.
inline constexpr PredictionType all_prediction_types[] = {
    PredictionType::epsilon, PredictionType::sample, PredictionType::v,        PredictionType::flow,
    PredictionType::score,   PredictionType::edm,    PredictionType::data_flow};

/// The kind as a word: "epsilon", "sample", "v", "flow", "score", "edm" or "data_flow"; "unknown"
/// for a number that is no kind.
inline constexpr std::string_view name(const PredictionType& type) {
  constexpr std::string_view names[] = {"epsilon", "sample", "v",        "flow",
                                        "score",   "edm",    "data_flow"};
  const int kind = static_cast<int>(type.kind);
  return kind >= 0 && kind < 7 ? names[kind] : "unknown";
}

/// How a network's output f is read at a state x: x0 = a x + b f and eps = p x + q f.
/// Where the level leaves one of them undefined (epsilon at alpha = 0, sample at sigma = 0) the
/// coefficients are infinite; whoever uses them must check. Plain data: threads may share what none
/// of them writes.
struct Conversion {
  double a, b;  ///< x0 = a x + b f
  double p, q;  ///< eps = p x + q f
};

namespace detail {

/// Fails unless the kind is one and the deviations are in their ranges.
inline void check_prediction_type(const PredictionType& type) {
  const int kind = static_cast<int>(type.kind);
  if (kind < 0 || kind > static_cast<int>(PredictionType::Kind::data_flow))
    fail(text("prediction type number ", kind, " is not one of 0 to 6"));
  if (!(type.sigma_data > 0 && is_finite(type.sigma_data)))
    fail(text("sigma_data of the prediction type is ", type.sigma_data,
              "; it must be positive and finite"));
  if (!(type.sigma_min >= 0 && is_finite(type.sigma_min)))
    fail(text("sigma_min of the prediction type is ", type.sigma_min,
              "; it must be at least 0 and finite"));
}

/// What is known of an EDM network at a level: x0 = c_skip x + c_out F. Plain data: threads may
/// share what none of them writes.
struct EdmPreconditioning {
  double above;  ///< alpha (s - sigma_min)
  double c_skip, c_out;
  double noise_share;  ///< 1 - alpha c_skip
};

inline EdmPreconditioning edm_preconditioning(const PredictionType& type, const Knot& at) {
  const double sd = type.sigma_data;
  const double above = at.sigma - type.sigma_min * at.alpha;
  const double d = above * above + sd * at.alpha * sd * at.alpha;
  return {above, sd * sd * at.alpha / d, above * sd / std::hypot(at.sigma, sd * at.alpha),
          above * above / d};
}

/// The conversion of an EDM network. eps = (x - alpha x0) / sigma, written so that nothing cancels
/// and clean data is a limit like any other.
inline Conversion edm_conversion(const PredictionType& type, const Knot& at) {
  const double sd = type.sigma_data;
  const auto [above, c_skip, c_out, share] = edm_preconditioning(type, at);
  if (type.sigma_min == 0) {
    const double norm = std::hypot(at.sigma, sd * at.alpha);
    return {c_skip, c_out, at.sigma / norm / norm, -at.alpha * sd / norm};
  }
  return {c_skip, c_out, share / at.sigma, -at.alpha * c_out / at.sigma};
}

}  // namespace detail

/// The conversion at the level `at` of x, for a network that sees z = input_scale * x.
/// Solves z = alpha_z x0 + sigma_z eps and the definition of f for x0 and eps; alpha^2 + sigma^2
/// and alpha + sigma need not be one. An edm network's is the same for every input_scale.
inline Conversion conversion(const PredictionType& type, const Knot& at, double input_scale = 1) {
  detail::check_prediction_type(type);
  const double alpha = input_scale * at.alpha;  // the level of z
  const double sigma = input_scale * at.sigma;
  const double c = input_scale;
  switch (type.kind) {
    case PredictionType::Kind::epsilon:
      return {1 / at.alpha, -at.sigma / at.alpha, 0, 1};
    case PredictionType::Kind::sample:
      return {0, 1, 1 / at.sigma, -at.alpha / at.sigma};
    case PredictionType::Kind::v: {
      const double sd = type.sigma_data;
      const double d = sd * alpha * sd * alpha + sigma * sigma;
      return {c * sd * sd * alpha / d, -sd * sigma / d, c * sigma / d, sd * alpha / d};
    }
    case PredictionType::Kind::flow: {
      const double d = alpha + sigma;
      return {c / d, -sigma / d, c / d, alpha / d};
    }
    case PredictionType::Kind::data_flow: {
      const double d = alpha + sigma;
      return {c / d, sigma / d, c / d, -alpha / d};
    }
    case PredictionType::Kind::score:
      return {1 / at.alpha, at.sigma * sigma / at.alpha, 0, -sigma};
    case PredictionType::Kind::edm:
      break;
  }
  return detail::edm_conversion(type, at);
}

/// The output that a perfect network gives for (x0, eps) at the level of its own input:
/// f = on_x0 * x0 + on_eps * eps. Training targets; `conversion` inverts it. Plain data: threads
/// may share what none of them writes.
struct Target {
  double on_x0, on_eps;
};

/// What a perfect network of this type answers at the level `at`. Fails where that is undefined: a
/// score at sigma = 0, edm at its own sigma_min.
inline Target target(const PredictionType& type, const Knot& at) {
  detail::check_prediction_type(type);
  switch (type.kind) {
    case PredictionType::Kind::epsilon:
      return {0, 1};
    case PredictionType::Kind::sample:
      return {1, 0};
    case PredictionType::Kind::v:
      return {-at.sigma / type.sigma_data, type.sigma_data * at.alpha};
    case PredictionType::Kind::flow:
      return {-1, 1};
    case PredictionType::Kind::data_flow:
      return {1, -1};
    case PredictionType::Kind::score:
      if (at.sigma == 0) fail("the score target is -eps / sigma; sigma is 0, it must be positive");
      return {0, -1 / at.sigma};
    case PredictionType::Kind::edm:
      break;
  }
  const double sd = type.sigma_data;
  const double norm = std::hypot(at.sigma, sd * at.alpha);
  if (type.sigma_min == 0) return {at.sigma / (sd * norm), -sd * at.alpha / norm};
  const auto [above, c_skip, c_out, share] = detail::edm_preconditioning(type, at);
  if (above == 0)
    fail(detail::text("the edm target is undefined at sigma = ", at.sigma,
                      ", where the network's output has no effect; sigma must be above sigma_min "
                      "alpha"));
  return {share / c_out, -c_skip * at.sigma / c_out};
}

}  // namespace diffusion

#endif  // DIFFUSION_DENOISER_PREDICTION_TYPE_HPP
