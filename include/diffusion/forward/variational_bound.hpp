#ifndef DIFFUSION_FORWARD_VARIATIONAL_BOUND_HPP
#define DIFFUSION_FORWARD_VARIATIONAL_BOUND_HPP

#include <diffusion/denoiser/denoiser.hpp>
#include <diffusion/denoiser/prediction_type.hpp>
#include <diffusion/forward/bound_terms.hpp>
#include <diffusion/plan/plan.hpp>
#include <diffusion/samplers/ddpm.hpp>
#include <diffusion/schedule/knot.hpp>
#include <diffusion/schedule/noise_schedule.hpp>
#include <diffusion/tensor/normals.hpp>
#include <diffusion/tensor/state.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numeric>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

namespace diffusion {

/// What the last step, p(x0 | x_1), is the probability of.
enum class Decoder {
  discretised,  ///< values on a grid: bits are those of a lossless code
  continuous    ///< a density in the units of x0
};

/// Options of VariationalBound. Plain data: threads may share what none of them writes.
struct BoundOptions {
  VarianceType variance = VarianceType::fixed_small;  ///< of p(x_s | x_t)
  /// Variance of p(x0 | x_1), > 0. 0: sigma_1^2 for fixed_large, that of the step before for
  /// fixed_small, whose own is 0, and what the network says where it is learned. The reference
  /// takes the step before for both.
  double decoder_variance = 0;
  Decoder decoder = Decoder::discretised;  ///< what p(x0 | x_1) is
  double low = -1;                         ///< discretised: the least value of the data
  double high = 1;                         ///< discretised: the largest, above low
  int values = 256;        ///< discretised: how many evenly spaced values it has, >= 2
  double prior_scale = 1;  ///< p(x_T) = N(0, prior_scale^2), > 0
  Clipping clipping{};     ///< of the estimate of x0: none or range
  PredictionType prediction_type = PredictionType::epsilon;  ///< unless the denoiser declares one
  bool batch = true;  ///< false: the whole tensor is one sample
};

/// The bound of one sample, term by term, in nats a dimension. Plain data: threads may share what
/// none of them writes.
struct BoundTerms {
  double prior = 0;           ///< KL(q(x_T | x0) || p(x_T))
  std::vector<double> steps;  ///< steps[i]: the KL of the step from level i + 1 to level i
  double decoder = 0;         ///< -log p(x0 | x_1)

  /// The bound: the sum of all terms.
  double total() const { return std::accumulate(steps.begin(), steps.end(), prior + decoder); }
};

/// The variational bound on -log p(x0) of a model that samples by DDPM's steps over a list of
/// levels (Ho, Jain and Abbeel 2020, arXiv 2006.11239, eq. 5; learned variances: Nichol and
/// Dhariwal 2021, arXiv 2102.09672, eq. 15):
///
///     -log p(x0) <= KL(q(x_T | x0) || p(x_T)) + sum_t KL(q(x_s | x_t, x0) || p(x_s | x_t))
///                   - log p(x0 | x_1)     in expectation over q(x_1, ..., x_T | x0).
///
/// Means of p come from the model's estimate of x0, variances from `BoundOptions::variance`.
/// Immutable; safe to share between threads, each with a denoiser and noise of its own.
class VariationalBound {
 public:
  /// Levels from the least noise, x_1, to the most, x_T: at least one, log-SNR strictly falling,
  /// sigma above 0 at all, alpha above 0 at all but the last. Fails otherwise, or where an option
  /// is out of its range.
  explicit VariationalBound(std::vector<Knot> levels, const BoundOptions& options = {})
      : levels_(std::move(levels)), options_(options) {
    check_options();
    if (levels_.empty()) fail("the bound has 0 levels; it needs at least 1");
    for (const Knot& level : levels_)
      if (!(level.sigma > 0 && detail::is_finite(level.sigma) && detail::is_finite(level.alpha)))
        fail(detail::text("a level of the bound has alpha = ", level.alpha,
                          ", sigma = ", level.sigma, "; both must be finite, sigma above 0"));
    for (std::size_t i = 0; i + 1 < levels_.size(); ++i)
      steps_.push_back(BoundStep(levels_[i + 1], levels_[i]));
    decoder_large_ = 2 * std::log(levels_.front().sigma);
    decoder_small_ = steps_.empty() ? decoder_large_ : steps_.front().log_small;
  }

  /// All T timesteps of a discrete schedule.
  template <class Scalar>
  explicit VariationalBound(const NoiseSchedule<Scalar>& schedule, const BoundOptions& options = {})
      : VariationalBound(levels_of(schedule), options) {}

  /// From the least noise to the most.
  std::span<const Knot> levels() const { return levels_; }
  /// steps()[i] goes from level i + 1 to level i.
  std::span<const BoundStep> steps() const { return steps_; }
  /// As they were given.
  const BoundOptions& options() const { return options_; }

  /// The expectation of the bound for data with the mean square `mean_square` = E[x0^2] and a model
  /// whose estimate of x0 at level i is off by errors[i] in the mean square: exact where these are
  /// known. Fails for learned variances and for a discretised decoder.
  BoundTerms expected(std::span<const double> errors, double mean_square) const {
    if (errors.size() != levels_.size())
      fail(detail::text(errors.size(), " errors were given for ", levels_.size(),
                        " levels; one for each is needed"));
    if (learned() || options_.decoder == Decoder::discretised)
      fail("the expected bound needs a fixed variance and a continuous decoder");
    for (const double error : errors)
      detail::require_range("an error", error, 0.0, (std::numeric_limits<double>::max)());
    BoundTerms terms;
    terms.prior = prior_kl(levels_.back(), mean_square, options_.prior_scale);
    for (std::size_t i = 1; i < levels_.size(); ++i)
      terms.steps.push_back(element_term(i, errors[i], log_variance(i, 0)));
    terms.decoder = element_term(0, errors[0], log_variance(0, 0));
    return terms;
  }

  /// An estimate of the bound for each sample of x0, (batch, ...), with one draw of x_t at every
  /// level; its mean over the noise is the bound. Asks the denoiser once a level, from the noisiest
  /// down, Query::step counting up. Draw i of an addressed source makes x_t at levels()[i]; a
  /// sequential one gives a tensor a level, in the order of asking. Fails where x0, the network's
  /// output or the prediction type does not fit.
  template <State T, class D, class Source>
  std::vector<BoundTerms> estimate(const T& x0, D&& denoiser, Source&& noise) const {
    static_assert(NoiseSource<std::remove_cvref_t<Source>>,
                  "a noise source is needed: not 42 but PhiloxNoise{42}");
    using Tensor = TensorOf<T>;
    const auto shape = StateTraits<T>::shape(x0);
    detail::require_extents("x0", shape);
    const Blocks blocks = blocks_of<T>(shape, options_.batch);
    const PredictionType type = prediction_type_of(denoiser, options_.prediction_type);
    for (const Knot& level : levels_) check_estimate(type, level);
    const ScalarOf<T>* const clean = StateTraits<T>::data(x0);
    check_data(clean, blocks.total());
    detail::require_draws(noise, levels_.size(), blocks);
    begin_run(denoiser);

    Tensor x = StateTraits<T>::make(shape);
    const auto declared = declared_output_shape<T>(denoiser, shape);
    const auto out_shape =
        declared ? *declared : default_output_shape<T>(shape, learned(), options_.batch);
    Tensor out = StateTraits<T>::make(out_shape);
    const std::size_t stride = output_blocks<T>(out_shape, shape, learned(), options_.batch).size;
    std::vector<BoundTerms> terms = prior_terms(clean, blocks);
    for (std::size_t i = levels_.size(); i-- > 0;) {
      diffuse(clean, i, noise, blocks, StateTraits<Tensor>::data(x));
      ask<T>(denoiser, detail::seen_as<T>(x), query(i, type, blocks), out);
      if (StateTraits<Tensor>::shape(out) != out_shape)
        fail(detail::text("the network gave its output the shape ",
                          shape_text(StateTraits<Tensor>::shape(out)), "; it must keep ",
                          shape_text(out_shape)));
      for (std::size_t sample = 0; sample < blocks.batch; ++sample) {
        const std::size_t first = sample * blocks.size;
        const double term = sample_term(
            i, conversion(type, levels_[i]), clean + first,
            StateTraits<Tensor>::data(std::as_const(x)) + first,
            StateTraits<Tensor>::data(std::as_const(out)) + sample * stride, blocks.size);
        (i == 0 ? terms[sample].decoder : terms[sample].steps[i - 1]) = term;
      }
    }
    return terms;
  }

 private:
  template <class Scalar>
  static std::vector<Knot> levels_of(const NoiseSchedule<Scalar>& schedule) {
    std::vector<Knot> levels;
    for (int t = 0; t < schedule.train_timesteps(); ++t) levels.push_back(schedule.knot(t));
    return levels;
  }

  bool learned() const {
    return options_.variance == VarianceType::learned ||
           options_.variance == VarianceType::learned_range;
  }
  double bin() const { return (options_.high - options_.low) / (options_.values - 1); }

  /// The model's log variance in the step that starts at this level; `v` is what the network says
  /// of it, where it does.
  double log_variance(std::size_t level, double v) const {
    if (level == 0 && options_.decoder_variance > 0) return std::log(options_.decoder_variance);
    const double log_small = level == 0 ? decoder_small_ : steps_[level - 1].log_small;
    const double log_large = level == 0 ? decoder_large_ : steps_[level - 1].log_large;
    switch (options_.variance) {
      case VarianceType::fixed_small:
      case VarianceType::fixed_small_log:
        return log_small;
      case VarianceType::fixed_large:
      case VarianceType::fixed_large_log:
        return log_large;
      case VarianceType::learned:
        return std::log(v);
      case VarianceType::learned_range:
        break;
    }
    return log_small + (v + 1) / 2 * (log_large - log_small);
  }

  /// A term that depends on the squared error alone: that of a step, or of a continuous decoder.
  double element_term(std::size_t level, double error, double log_variance) const {
    return level > 0 ? steps_[level - 1].kl(error, log_variance) : normal_nll(error, log_variance);
  }

  /// The term of one sample at one level, a mean over its elements.
  template <class S>
  double sample_term(std::size_t level, const Conversion& c, const S* x0, const S* x, const S* f,
                     std::size_t size) const {
    const auto mean_over = [size](const auto& term) {
      double sum = 0;
      for (std::size_t i = 0; i < size; ++i) sum += term(i);
      return sum / static_cast<double>(size);
    };
    const bool clips = options_.clipping.kind == Clipping::Kind::range;
    const double limit = options_.clipping.limit;
    const auto estimate = [&](std::size_t i) {
      const double d = c.a * number(x[i]) + c.b * number(f[i]);
      return clips ? std::clamp(d, -limit, limit) : d;
    };
    const auto error = [&](std::size_t i) {
      const double difference = number(x0[i]) - estimate(i);
      return difference * difference;
    };
    const bool own_variance = learned();
    const auto variance = [&](std::size_t i) {
      return log_variance(level, own_variance ? number(f[size + i]) : 0);
    };
    if (level == 0 && options_.decoder == Decoder::discretised)
      return mean_over([&](std::size_t i) {
        return discretised_normal_nll(number(x0[i]), estimate(i), variance(i), bin(), options_.low,
                                      options_.high);
      });
    if (own_variance)
      return mean_over([&](std::size_t i) { return element_term(level, error(i), variance(i)); });
    return element_term(level, mean_over(error), variance(0));  // linear in the error
  }

  template <class S>
  std::vector<BoundTerms> prior_terms(const S* x0, const Blocks& blocks) const {
    std::vector<BoundTerms> terms(blocks.batch);
    for (BoundTerms& sample : terms) {
      double squares = 0;
      for (std::size_t i = 0; i < blocks.size; ++i, ++x0) squares += number(*x0) * number(*x0);
      sample.prior = prior_kl(levels_.back(), squares / static_cast<double>(blocks.size),
                              options_.prior_scale);
      sample.steps.resize(steps_.size());
    }
    return terms;
  }

  /// x = alpha x0 + sigma n.
  template <class S, class N>
  void diffuse(const S* x0, std::size_t level, N& noise, const Blocks& blocks, S* x) const {
    using Real = detail::Compute<S>;
    const auto alpha = static_cast<Real>(levels_[level].alpha);
    const auto sigma = static_cast<Real>(levels_[level].sigma);
    detail::for_each_normal<Real>(noise, level, blocks, [=](std::size_t i, Real n) {
      x[i] = static_cast<S>(alpha * static_cast<Real>(x0[i]) + sigma * n);
    });
  }

  Query query(std::size_t level, PredictionType type, const Blocks& blocks) const {
    const Knot& at = levels_[level];
    const int step = static_cast<int>(levels_.size() - 1 - level);
    return {.t = at.t,
            .alpha = at.alpha,
            .sigma = at.sigma,
            .stage = step,
            .step = step,
            .steps = static_cast<int>(levels_.size()),
            .prediction_type = type,
            .batched = options_.batch,
            .samples = blocks.batch};
  }

  template <class S>
  static double number(S x) {
    return static_cast<double>(static_cast<detail::Compute<S>>(x));
  }

  static void check_estimate(PredictionType type, const Knot& at) {
    const Conversion c = conversion(type, at);
    if (!detail::is_finite(c.a) || !detail::is_finite(c.b))
      fail(detail::text("x0 is undefined for prediction type ", name(type), " at t = ", at.t,
                        " (alpha = ", at.alpha, ", sigma = ", at.sigma,
                        "); use a prediction type that is finite there (v, sample), or levels "
                        "that stop short of it"));
  }

  template <class S>
  void check_data(const S* x0, std::size_t total) const {
    if (options_.decoder == Decoder::continuous) return;
    const double slack = bin() / 2;
    for (std::size_t i = 0; i < total; ++i)
      if (!(number(x0[i]) >= options_.low - slack && number(x0[i]) <= options_.high + slack))
        fail(detail::text("x0 holds ", number(x0[i]), "; a discretised decoder of ",
                          options_.values, " values needs data in [", options_.low, ", ",
                          options_.high, "]: scale it, or use Decoder::continuous"));
  }

  void check_options() const {
    const BoundOptions& o = options_;
    const double infinity = std::numeric_limits<double>::infinity();
    detail::require_enumerator("BoundOptions::variance", o.variance, 6);
    detail::require_enumerator("BoundOptions::decoder", o.decoder, 2);
    detail::require_range("BoundOptions::decoder_variance", o.decoder_variance, 0.0,
                          (std::numeric_limits<double>::max)());
    if (!detail::is_finite(o.low) || !detail::is_finite(o.high) || !(o.low < o.high))
      fail(detail::text("BoundOptions::low is ", o.low, " and high ", o.high,
                        "; both must be finite, low below high"));
    detail::require_at_least("BoundOptions::values", o.values, 2);
    detail::require_inside("BoundOptions::prior_scale", o.prior_scale, 0.0, infinity);
    detail::check_prediction_type(o.prediction_type);
    if (o.clipping.kind != Clipping::Kind::none && o.clipping.kind != Clipping::Kind::range)
      fail("BoundOptions::clipping is dynamic; the bound knows none and range");
    detail::require_inside("Clipping::limit", o.clipping.limit, 0.0, infinity);
  }

  std::vector<Knot> levels_;
  BoundOptions options_;
  std::vector<BoundStep> steps_;
  double decoder_small_ = 0, decoder_large_ = 0;  ///< log variances
};

}  // namespace diffusion

#endif  // DIFFUSION_FORWARD_VARIATIONAL_BOUND_HPP
