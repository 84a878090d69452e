#ifndef DIFFUSION_FORWARD_LOSS_WEIGHTING_HPP
#define DIFFUSION_FORWARD_LOSS_WEIGHTING_HPP

#include <diffusion/denoiser/prediction_type.hpp>
#include <diffusion/error.hpp>
#include <diffusion/schedule/knot.hpp>
#include <diffusion/tensor/state.hpp>

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <limits>
#include <span>
#include <vector>

/// How much the error at a noise level counts in training. At a level (alpha, sigma) the errors of
/// all prediction types are multiples of each other: with x0 = a x + b f and eps = p x + q f,
///
///     |x0 - x0'|^2 = b^2 |f - f'|^2,   |eps - eps'|^2 = q^2 |f - f'|^2 = SNR |x0 - x0'|^2.
///
/// So a weighting is one function of the level, and the weight of a network's own squared error
/// follows from its prediction type: whatever the network answers, the loss is the same.
namespace diffusion {

/// One weight, said twice: of |x0 - x0'|^2, and of |eps - eps'|^2 = SNR |x0 - x0'|^2. Both, because
/// at the ends of a schedule one of them may be infinite and the other not. Plain data: threads may
/// share what none of them writes.
struct ErrorWeights {
  double on_x0;   ///< w
  double on_eps;  ///< w / SNR
};

/// A weighting: a const function of the level. Own ones are lambdas,
///     [](const Knot& at) { return ErrorWeights{at.alpha, at.sigma * at.sigma / at.alpha}; }
template <class W>
concept LossWeighting = requires(const W& weighting, const Knot& at) {
  { weighting(at) } -> std::same_as<ErrorWeights>;
};

/// alpha^2 / sigma^2; infinite where sigma = 0.
inline double snr(const Knot& at) {
  if (at.sigma == 0) return std::numeric_limits<double>::infinity();
  const double ratio = at.alpha / at.sigma;
  return ratio * ratio;
}

/// The plain mean squared error of a network of type `type`, whatever the level: `epsilon` is the
/// simple loss of DDPM (Ho et al. 2020, arXiv 2006.11239, eq. 14), w = SNR; `sample` is w = 1; `v`
/// with alpha^2 + sigma^2 = 1 is w = SNR + 1 (Salimans and Ho 2022, arXiv 2202.00512, section 4);
/// `flow` is the loss of rectified flow (arXiv 2209.03003, eq. 1). This is what is usually meant by
/// a constant weighting: 1 on the network's own output. Immutable; safe to share between threads.
class ConstantWeighting {
 public:
  /// The prediction type whose plain error this is.
  explicit ConstantWeighting(PredictionType type) : type_(type) {
    detail::check_prediction_type(type);
  }
  /// The two weights at a level.
  ErrorWeights operator()(const Knot& at) const {
    const Conversion c = conversion(type_, at);
    return {1 / (c.b * c.b), 1 / (c.q * c.q)};
  }

 private:
  PredictionType type_;
};

/// Min-SNR-gamma, w = min(SNR, gamma): Hang et al. 2023, arXiv 2303.09556. There, on
/// alpha^2 + sigma^2 = 1, the network's own error gets min(SNR, gamma) for `sample`, min(SNR,
/// gamma) / SNR for `epsilon`, min(SNR, gamma) / (SNR + 1) for `v`. gamma > 0. Immutable; safe to
/// share between threads.
class MinSnrWeighting {
 public:
  /// Fails unless gamma is above 0 and finite.
  explicit MinSnrWeighting(double gamma = 5) : gamma_(gamma) {
    detail::require_inside("gamma of a min-SNR weighting", gamma, 0.0,
                           std::numeric_limits<double>::infinity());
  }
  /// The two weights at a level.
  ErrorWeights operator()(const Knot& at) const {
    const double s = snr(at);
    return {(std::min)(s, gamma_), (std::min)(1.0, gamma_ / s)};
  }

 private:
  double gamma_;
};

/// The same with a smooth corner, w = 1 / (1 / SNR + 1 / gamma): Crowson et al. 2024, arXiv
/// 2401.11605, where alpha = 1 and w = 1 / (sigma^2 + 1 / gamma). k-diffusion's
/// soft-min-snr is gamma = 1 / sigma_data^2. gamma > 0. Immutable; safe to share between threads.
class SoftMinSnrWeighting {
 public:
  /// Fails unless gamma is above 0 and finite.
  explicit SoftMinSnrWeighting(double gamma = 4) : gamma_(gamma) {
    detail::require_inside("gamma of a soft min-SNR weighting", gamma, 0.0,
                           std::numeric_limits<double>::infinity());
  }
  /// The two weights at a level.
  ErrorWeights operator()(const Knot& at) const {
    const double s = snr(at);
    return {1 / (1 / s + 1 / gamma_), 1 / (1 + s / gamma_)};
  }

 private:
  double gamma_;
};

/// Truncated SNR, w = max(SNR, 1): the larger of the errors of x0 and of eps. Salimans and Ho 2022,
/// arXiv 2202.00512, section 4. Immutable; safe to share between threads.
class TruncatedSnrWeighting {
 public:
  /// The two weights at a level.
  ErrorWeights operator()(const Knot& at) const {
    const double s = snr(at);
    return {(std::max)(s, 1.0), (std::max)(1.0, 1 / s)};
  }
};

/// Options of P2Weighting. Plain data: threads may share what none of them writes.
struct P2Options {
  double k = 1;      ///< > 0: below it the SNR changes little
  double gamma = 1;  ///< >= 0; 0 is the simple loss, the paper takes 0.5 and 1
};

/// P2, w = SNR / (k + SNR)^gamma: the simple loss on eps, divided by (k + SNR)^gamma. Choi et al.
/// 2022, arXiv 2204.00227. Immutable; safe to share between threads.
class P2Weighting {
 public:
  /// Fails where an option is out of its range.
  explicit P2Weighting(const P2Options& options = {}) : options_(options) {
    const double infinity = std::numeric_limits<double>::infinity();
    detail::require_inside("P2Options::k", options.k, 0.0, infinity);
    detail::require_range("P2Options::gamma", options.gamma, 0.0,
                          (std::numeric_limits<double>::max)());
  }
  /// The two weights at a level.
  ErrorWeights operator()(const Knot& at) const {
    const double s = snr(at);
    const double on_eps = std::pow(options_.k + s, -options_.gamma);
    if (s < 1) return {s * on_eps, on_eps};
    return {std::pow(s, 1 - options_.gamma) * std::pow(1 + options_.k / s, -options_.gamma),
            on_eps};
  }

 private:
  P2Options options_;
};

/// EDM's, w = SNR + 1 / sigma_data^2, which for alpha = 1 is (sigma^2 + sigma_data^2) / (sigma
/// sigma_data)^2: Karras et al. 2022, arXiv 2206.00364, table 1; there it makes the plain mean
/// squared error of EDM's inner network. On alpha^2 + sigma^2 = 1 with sigma_data = 1 it is the
/// plain error of v. sigma_data > 0. Immutable; safe to share between threads.
class EdmWeighting {
 public:
  /// Fails unless sigma_data is above 0 and finite.
  explicit EdmWeighting(double sigma_data = 0.5) : precision_(1 / (sigma_data * sigma_data)) {
    detail::require_inside("sigma_data", sigma_data, 0.0, std::numeric_limits<double>::infinity());
  }
  /// The two weights at a level.
  ErrorWeights operator()(const Knot& at) const {
    const double s = snr(at);
    return {s + precision_, 1 + precision_ / s};
  }

 private:
  double precision_;
};

/// The weight of |f - f'|^2, f the output of a network of type `type` whose input is at the level
/// `at`: the limit at the ends of a schedule, where there is one. Fails where there is none: the
/// weighting asks for what this prediction type cannot tell (truncated SNR of epsilon at alpha =
/// 0).
template <LossWeighting W>
double output_weight(const W& weighting, const Knot& at, PredictionType type) {
  const ErrorWeights w = weighting(at);
  const Conversion c = conversion(type, at);
  if (detail::is_finite(w.on_x0) && detail::is_finite(c.b)) return w.on_x0 * c.b * c.b;
  if (detail::is_finite(w.on_eps) && detail::is_finite(c.q)) return w.on_eps * c.q * c.q;
  fail(
      detail::text("the loss weight is infinite for prediction type ", name(type), " at t = ", at.t,
                   " (alpha = ", at.alpha, ", sigma = ", at.sigma,
                   "); use another prediction type or weighting, or levels that stop short of it"));
}

/// The losses of a batch: for each sample output_weight times the mean over its elements of
/// (prediction - target)^2. One knot per sample; `target` from ForwardDiffusion::training_target.
/// Computed in double.
template <State T, LossWeighting W>
std::vector<double> sample_losses(const T& prediction, const T& target, std::span<const Knot> knots,
                                  const W& weighting, PredictionType type) {
  const auto shape = StateTraits<T>::shape(target);
  if (StateTraits<T>::shape(prediction) != shape)
    fail(detail::text("the prediction has the shape ",
                      shape_text(StateTraits<T>::shape(prediction)),
                      "; it must be that of the target, ", shape_text(shape)));
  detail::require_extents("the target", shape);
  const Blocks blocks = blocks_of<T>(shape, true);
  if (knots.size() != blocks.batch)
    fail(detail::text(knots.size(), " knots were given for a batch of ", blocks.batch,
                      "; one per sample is needed"));
  const auto* f = StateTraits<T>::data(prediction);
  const auto* y = StateTraits<T>::data(target);
  std::vector<double> losses;
  for (const Knot& at : knots) {
    double squares = 0;
    for (std::size_t i = 0; i < blocks.size; ++i, ++f, ++y) {
      const double error = static_cast<double>(*f) - static_cast<double>(*y);
      squares += error * error;
    }
    losses.push_back(output_weight(weighting, at, type) * squares /
                     static_cast<double>(blocks.size));
  }
  return losses;
}

/// The loss of a batch: the mean of `sample_losses`.
template <State T, LossWeighting W>
double weighted_loss(const T& prediction, const T& target, std::span<const Knot> knots,
                     const W& weighting, PredictionType type) {
  double sum = 0;
  for (const double loss : sample_losses(prediction, target, knots, weighting, type)) sum += loss;
  return sum / static_cast<double>(knots.size());
}

}  // namespace diffusion

#endif  // DIFFUSION_FORWARD_LOSS_WEIGHTING_HPP
