#ifndef DIFFUSION_SCHEDULE_NOISE_SCHEDULE_HPP
#define DIFFUSION_SCHEDULE_NOISE_SCHEDULE_HPP

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <functional>
#include <limits>
#include <numbers>
#include <span>
#include <utility>
#include <vector>

#include <diffusion/error.hpp>
#include <diffusion/schedule/arithmetic.hpp>
#include <diffusion/schedule/knot.hpp>

namespace diffusion {

/// How the variances beta_0, ..., beta_(T-1) of the forward steps are made. b0 is beta_start, b1
/// is beta_end, u runs evenly over 0 ... 1; an abar(u) is discretised as
/// beta_i = min(1 - abar((i + 1) / T) / abar(i / T), max_beta).
enum class BetaSchedule {
  linear,             ///< b0 + u (b1 - b0): DDPM (Ho et al. 2020, arXiv 2006.11239)
  scaled_linear,      ///< (sqrt b0 + u (sqrt b1 - sqrt b0))^2: latent diffusion
  squaredcos_cap_v2,  ///< abar = cos^2((u + 0.008) / 1.008 pi/2): arXiv 2102.09672, eq. 17
  sigmoid,            ///< b0 + (b1 - b0) / (1 + exp(6 - 12 u))
  laplace,            ///< abar = sqrt(snr / (1 + snr)), log snr Laplace-distributed: 2407.03297
  exp,                ///< abar = exp(-12 u)
  quadratic,          ///< DDPM's "quad": scaled_linear's formula, worked out in double precision
  constant,           ///< DDPM's "const": b1 throughout
  jsd                 ///< DDPM's "jsd": 1/T, 1/(T-1), ..., 1/2, 1 (ends at zero SNR)
};

/// What a `NoiseSchedule` is made of. Plain data: threads may share what none of them writes.
struct NoiseScheduleOptions {
  int train_timesteps = 1000;  ///< T, 1 to 1000000
  double beta_start = 0.0001;  ///< first beta, in (0, 1); read by linear, (scaled, quad), sigmoid
  double beta_end = 0.02;      ///< last beta, in (0, 1); read by the same and by constant
  double max_beta = 0.999;     ///< largest beta of the schedules made from an abar(u), in (0, 1]
  double snr_shift_scale = 1;  ///< SNR is divided by it (> 0) before any rescaling: CogVideoX
  /// Rescale sqrt(abar) so that the last timestep is pure noise (arXiv 2305.08891, algorithm 1).
  bool rescale_zero_terminal_snr = false;
  /// With the rescaling: what the last abar is raised to, in [0, the one before). The reference's
  /// Euler, DPM-Solver and UniPC take 2^-24, since they cannot start at zero SNR.
  double terminal_alpha_cumprod = 0;
};

/// The discrete noise schedule of a network trained at T timesteps:
///
///     x_t = alpha_t x0 + sigma_t eps,  alpha_t = sqrt(abar_t),  sigma_t = sqrt(1 - abar_t),
///     abar_t = (1 - beta_0) (1 - beta_1) ... (1 - beta_t),  t = 0, ..., T - 1.
///
/// `betas` and `alphas_cumprod` always belong together, also after a shift or a rescaling (where
/// the reference sometimes leaves the old betas beside the new alphas_cumprod).
///
/// Between whole timesteps log(alpha^2 / sigma^2) is interpolated linearly in t, which is the same
/// as k-diffusion's interpolation of log(sigma / alpha); diffusers interpolates sigma / alpha
/// itself. Only in the interval that ends at zero SNR, where the logarithm has no end, is alpha
/// interpolated linearly.
///
/// Scalar is the type of the tables. `NoiseSchedule<float>` has the reference's single-precision
/// tables bit for bit (of sigmoid, a few betas differ in the last bit, as its exp does); sigma_t^2
/// is then 1 - abar_t in single precision, as there. Everything else is double.
///
/// Immutable once made, so that threads may share it.
template <class Scalar = double>
class NoiseSchedule {
  static_assert(std::floating_point<Scalar>, "NoiseSchedule<Scalar>: Scalar is float or double");

 public:
  using Options = NoiseScheduleOptions;

  static NoiseSchedule linear(const Options& o = {}) { return make(BetaSchedule::linear, o); }
  static NoiseSchedule scaled_linear(const Options& o = {}) {
    return make(BetaSchedule::scaled_linear, o);
  }
  static NoiseSchedule squaredcos_cap_v2(const Options& o = {}) {
    return make(BetaSchedule::squaredcos_cap_v2, o);
  }
  static NoiseSchedule sigmoid(const Options& o = {}) { return make(BetaSchedule::sigmoid, o); }
  static NoiseSchedule laplace(const Options& o = {}) { return make(BetaSchedule::laplace, o); }
  static NoiseSchedule exp(const Options& o = {}) { return make(BetaSchedule::exp, o); }
  static NoiseSchedule quadratic(const Options& o = {}) { return make(BetaSchedule::quadratic, o); }
  static NoiseSchedule constant(const Options& o = {}) { return make(BetaSchedule::constant, o); }
  static NoiseSchedule jsd(const Options& o = {}) { return make(BetaSchedule::jsd, o); }

  /// The schedule `kind` with `options`. Fails where an option is out of its range.
  static NoiseSchedule make(BetaSchedule kind, const Options& options = {}) {
    check(kind, options);
    NoiseSchedule schedule(betas_of(kind, options));
    if (options.snr_shift_scale != 1) schedule = schedule.snr_shifted(options.snr_shift_scale);
    if (options.rescale_zero_terminal_snr) schedule = schedule.rescaled_to_zero_terminal_snr();
    if (options.terminal_alpha_cumprod != 0)
      schedule = schedule.with_terminal_alpha_cumprod(options.terminal_alpha_cumprod);
    return schedule;
  }

  /// The schedule with these betas, each in (0, 1); the last may be 1, which is zero SNR there.
  static NoiseSchedule from_betas(const std::vector<double>& betas) {
    check_length("betas", betas.size());
    return NoiseSchedule(std::vector<Scalar>(to_scalars(betas)));
  }

  /// The schedule with these cumulative products, strictly falling from below 1; the last may be 0.
  static NoiseSchedule from_alphas_cumprod(const std::vector<double>& alphas_cumprod) {
    check_length("alphas_cumprod", alphas_cumprod.size());
    return from_products(to_scalars(alphas_cumprod));
  }

  /// T, the number of timesteps that the network was trained at.
  int train_timesteps() const { return static_cast<int>(betas_.size()); }
  /// beta_t, the variance that forward step t adds; T entries.
  std::span<const Scalar> betas() const { return betas_; }
  /// abar_t = alpha_t^2; T entries, strictly falling.
  std::span<const Scalar> alphas_cumprod() const { return alphas_cumprod_; }

  /// Time of the least noise.
  double first_time() const { return 0; }
  /// Time of the most noise, T - 1.
  double last_time() const { return train_timesteps() - 1; }

  /// Weight of the data at time t in [0, T - 1].
  double alpha(double t) const { return knot(t).alpha; }
  /// Standard deviation of the noise at time t in [0, T - 1].
  double sigma(double t) const { return knot(t).sigma; }

  /// log(alpha^2 / sigma^2) at time t in [0, T - 1]; -inf at the end of a zero-SNR schedule.
  double log_snr(double t) const {
    const auto [i, fraction] = position(t);
    if (fraction == 0) return log_snrs_[i];
    if (alphas_cumprod_[i + 1] == 0) return knot(t).log_snr();
    return log_snrs_[i] + fraction * (log_snrs_[i + 1] - log_snrs_[i]);
  }

  /// The time in [0, T - 1] whose log-SNR this is; beyond the ends, the end. Fails for NaN.
  double time(double log_snr) const {
    if (detail::is_nan(log_snr)) fail("log_snr is not a number; it must be one or infinite");
    const auto below =
        std::upper_bound(log_snrs_.begin(), log_snrs_.end(), log_snr, std::greater<double>());
    if (below == log_snrs_.begin()) return first_time();
    if (below == log_snrs_.end()) return last_time();
    const std::size_t i = static_cast<std::size_t>(below - log_snrs_.begin()) - 1;
    if (log_snr == log_snrs_[i]) return static_cast<double>(i);
    const double fraction = alphas_cumprod_[i + 1] == 0
                                ? 1 - std::sqrt(detail::logistic(log_snr)) / table_alpha(i)
                                : (log_snrs_[i] - log_snr) / (log_snrs_[i] - log_snrs_[i + 1]);
    return static_cast<double>(i) + (std::max)(fraction, 0.0);
  }

  /// {t, alpha, sigma} at time t in [0, T - 1].
  Knot knot(double t) const {
    const auto [i, fraction] = position(t);
    if (fraction == 0) return {t, table_alpha(i), table_sigma(i)};
    if (alphas_cumprod_[i + 1] == 0) {
      const double alpha = table_alpha(i) * (1 - fraction);
      return {t, alpha, std::sqrt((1 - alpha) * (1 + alpha))};
    }
    const double lambda = log_snrs_[i] + fraction * (log_snrs_[i + 1] - log_snrs_[i]);
    return {t, std::sqrt(detail::logistic(lambda)), std::sqrt(detail::logistic(-lambda))};
  }

  /// This schedule with sqrt(abar) shifted to end at 0 and scaled to begin where it began: Lin et
  /// al. 2023, arXiv 2305.08891, algorithm 1. Needs T >= 2.
  NoiseSchedule rescaled_to_zero_terminal_snr() const {
    detail::require_at_least("train_timesteps of a rescaling to zero terminal SNR",
                             train_timesteps(), 2);
    const Scalar first = std::sqrt(alphas_cumprod_.front());
    const Scalar last = std::sqrt(alphas_cumprod_.back());
    const Scalar scale = first / (first - last);
    std::vector<Scalar> betas;
    betas.reserve(betas_.size());
    Scalar before = 1;
    for (const Scalar product : alphas_cumprod_) {
      const Scalar root = (std::sqrt(product) - last) * scale;
      const Scalar rescaled = detail::rounded(root * root);
      betas.push_back(1 - rescaled / before);
      before = rescaled;
    }
    return NoiseSchedule(std::move(betas));
  }

  /// This schedule with every SNR alpha^2 / sigma^2 divided by `scale` > 0, as CogVideoX does:
  /// abar' = abar / (scale + (1 - scale) abar).
  NoiseSchedule snr_shifted(double scale) const {
    check_snr_shift(scale);
    const Scalar keep = static_cast<Scalar>(scale), rest = static_cast<Scalar>(1 - scale);
    std::vector<Scalar> shifted;
    shifted.reserve(betas_.size());
    for (const Scalar product : alphas_cumprod_)
      shifted.push_back(product / (keep + detail::rounded(rest * product)));
    return from_products(std::move(shifted));
  }

  /// This schedule with the last abar replaced, by a value in [0, the one before).
  NoiseSchedule with_terminal_alpha_cumprod(double value) const {
    std::vector<Scalar> products = alphas_cumprod_;
    products.back() = static_cast<Scalar>(value);
    return from_products(std::move(products));
  }

 private:
  static constexpr int max_train_timesteps = 1'000'000;

  explicit NoiseSchedule(std::vector<Scalar> betas)
      : NoiseSchedule(checked_betas(std::move(betas)), {}) {}

  NoiseSchedule(std::vector<Scalar> betas, std::vector<Scalar> products)
      : betas_(std::move(betas)),
        alphas_cumprod_(products.empty() ? products_of(betas_) : std::move(products)) {
    check_products(alphas_cumprod_);
    log_snrs_.reserve(alphas_cumprod_.size());
    for (const Scalar product : alphas_cumprod_)
      log_snrs_.push_back(product == 0 ? -std::numeric_limits<double>::infinity()
                                       : std::log(static_cast<double>(product)) -
                                             std::log(static_cast<double>(1 - product)));
  }

  static NoiseSchedule from_products(std::vector<Scalar> products) {
    check_products(products);
    std::vector<Scalar> betas;
    betas.reserve(products.size());
    Scalar before = 1;
    for (const Scalar product : products) {
      betas.push_back((before - product) / before);
      before = product;
    }
    return NoiseSchedule(std::move(betas), std::move(products));
  }

  static std::vector<Scalar> to_scalars(const std::vector<double>& values) {
    std::vector<Scalar> scalars;
    scalars.reserve(values.size());
    for (const double value : values) scalars.push_back(static_cast<Scalar>(value));
    return scalars;
  }

  /// Cumulative products of 1 - beta, accumulated in double and rounded entry by entry.
  static std::vector<Scalar> products_of(const std::vector<Scalar>& betas) {
    std::vector<Scalar> products;
    products.reserve(betas.size());
    double product = 1;
    for (const Scalar beta : betas) {
      product *= static_cast<double>(1 - beta);
      products.push_back(static_cast<Scalar>(product));
    }
    return products;
  }

  static std::vector<Scalar> betas_of(BetaSchedule kind, const Options& o) {
    const int count = o.train_timesteps;
    switch (kind) {
      case BetaSchedule::linear:
        return detail::torch_linspace<Scalar>(o.beta_start, o.beta_end, count);
      case BetaSchedule::scaled_linear:
        return squares(
            detail::torch_linspace<Scalar>(std::sqrt(o.beta_start), std::sqrt(o.beta_end), count));
      case BetaSchedule::quadratic:
        return to_scalars(NoiseSchedule<double>::squares(
            detail::numpy_linspace(std::sqrt(o.beta_start), std::sqrt(o.beta_end), count)));
      case BetaSchedule::sigmoid:
        return sigmoid_betas(o);
      case BetaSchedule::squaredcos_cap_v2:
        return discretised(o, [](double u) {
          const double root = std::cos((u + 0.008) / 1.008 * std::numbers::pi / 2);
          return root * root;
        });
      case BetaSchedule::laplace:
        return discretised(o, [](double u) {
          const double log_snr =
              -0.5 * std::copysign(1.0, 0.5 - u) * std::log(1 - 2 * std::abs(0.5 - u) + 1e-6);
          return std::sqrt(detail::logistic(log_snr));
        });
      case BetaSchedule::exp:
        return discretised(o, [](double u) { return std::exp(-12 * u); });
      case BetaSchedule::constant:
        return std::vector<Scalar>(static_cast<std::size_t>(count),
                                   static_cast<Scalar>(o.beta_end));
      case BetaSchedule::jsd:
        break;
    }
    std::vector<Scalar> betas;
    for (int i = 0; i < count; ++i) betas.push_back(static_cast<Scalar>(1.0 / (count - i)));
    return betas;
  }

  static std::vector<Scalar> squares(std::vector<Scalar> values) {
    for (Scalar& value : values) value = detail::rounded(value * value);
    return values;
  }

  static std::vector<Scalar> sigmoid_betas(const Options& o) {
    const Scalar height = static_cast<Scalar>(o.beta_end - o.beta_start);
    std::vector<Scalar> betas = detail::torch_linspace<Scalar>(-6, 6, o.train_timesteps);
    for (Scalar& beta : betas) {
      const Scalar share = 1 / (1 + static_cast<Scalar>(std::exp(-static_cast<double>(beta))));
      beta = detail::rounded(share * height) + static_cast<Scalar>(o.beta_start);
    }
    return betas;
  }

  template <class AlphaBar>
  static std::vector<Scalar> discretised(const Options& o, AlphaBar alpha_bar) {
    std::vector<Scalar> betas;
    const double count = o.train_timesteps;
    for (int i = 0; i < o.train_timesteps; ++i)
      betas.push_back(static_cast<Scalar>(
          (std::min)(1 - alpha_bar((i + 1) / count) / alpha_bar(i / count), o.max_beta)));
    return betas;
  }

  static void check(BetaSchedule kind, const Options& o) {
    detail::require_range("beta schedule", static_cast<int>(kind), 0,
                          static_cast<int>(BetaSchedule::jsd));
    detail::require_range("train_timesteps", o.train_timesteps, 1, max_train_timesteps);
    detail::require_inside("beta_start", o.beta_start, 0.0, 1.0);
    detail::require_inside("beta_end", o.beta_end, 0.0, 1.0);
    if (detail::is_nan(o.max_beta) || o.max_beta <= 0 || o.max_beta > 1)
      fail(detail::text("max_beta is ", o.max_beta, "; it must be above 0 and at most 1"));
    check_snr_shift(o.snr_shift_scale);
    detail::require_range("terminal_alpha_cumprod", o.terminal_alpha_cumprod, 0.0, 1.0);
    if (o.terminal_alpha_cumprod > 0 && !o.rescale_zero_terminal_snr)
      fail(detail::text("terminal_alpha_cumprod is ", o.terminal_alpha_cumprod,
                        "; without rescale_zero_terminal_snr it must be 0"));
  }

  static void check_snr_shift(double scale) {
    detail::require_inside("snr_shift_scale", scale, 0.0, (std::numeric_limits<double>::max)());
  }

  static void check_length(const char* name, std::size_t length) {
    if (length == 0 || length > static_cast<std::size_t>(max_train_timesteps))
      fail(detail::text(name, " has ", length, " entries; a schedule has 1 to ",
                        max_train_timesteps));
  }

  static std::vector<Scalar> checked_betas(std::vector<Scalar> betas) {
    for (std::size_t i = 0; i < betas.size(); ++i) {
      const bool may_be_one = i + 1 == betas.size();
      const bool below = betas[i] < 1 || (may_be_one && betas[i] == 1);
      if (!detail::is_nan(betas[i]) && betas[i] > 0 && below) continue;
      fail(detail::text("betas[", i, "] is ", betas[i], "; it must be above 0 and ",
                        may_be_one ? "at most 1" : "below 1 (only the last may be 1)"));
    }
    return betas;
  }

  static void check_products(const std::vector<Scalar>& products) {
    for (std::size_t i = 0; i < products.size(); ++i) {
      const Scalar before = i == 0 ? Scalar(1) : products[i - 1];
      if (!detail::is_nan(products[i]) && products[i] >= 0 && products[i] < before) continue;
      if (i == 0)
        fail(detail::text("alphas_cumprod[0] is ", products[0], "; it must be in [0, 1)"));
      fail(detail::text("alphas_cumprod[", i, "] is ", products[i], "; it must be in [0, ", before,
                        "), below the entry before it"));
    }
  }

  double table_alpha(std::size_t i) const {
    return std::sqrt(static_cast<double>(alphas_cumprod_[i]));
  }
  double table_sigma(std::size_t i) const {
    return std::sqrt(static_cast<double>(1 - alphas_cumprod_[i]));
  }

  struct Position {
    std::size_t index;
    double fraction;
  };
  Position position(double t) const {
    detail::require_range("timestep t", t, first_time(), last_time());
    const double whole = std::floor(t);
    return {static_cast<std::size_t>(whole), t - whole};
  }

  std::vector<Scalar> betas_, alphas_cumprod_;
  std::vector<double> log_snrs_;

  template <class>
  friend class NoiseSchedule;
};

}  // namespace diffusion

#endif  // DIFFUSION_SCHEDULE_NOISE_SCHEDULE_HPP
