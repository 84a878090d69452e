#ifndef DIFFUSION_LIKELIHOOD_ODE_LIKELIHOOD_HPP
#define DIFFUSION_LIKELIHOOD_ODE_LIKELIHOOD_HPP

#include <diffusion/denoiser/denoiser.hpp>
#include <diffusion/denoiser/prediction_type.hpp>
#include <diffusion/denoiser/query.hpp>
#include <diffusion/error.hpp>
#include <diffusion/likelihood/flow_path.hpp>
#include <diffusion/likelihood/runge_kutta.hpp>
#include <diffusion/noise/philox.hpp>
#include <diffusion/schedule/schedule.hpp>
#include <diffusion/tensor/lane.hpp>
#include <diffusion/tensor/normals.hpp>
#include <diffusion/tensor/state.hpp>

#include <Eigen/Core>

#include <cmath>
#include <concepts>
#include <cstddef>
#include <functional>
#include <limits>
#include <numbers>
#include <numeric>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

namespace diffusion {

/// How the divergence of the flow, the trace of its Jacobian, is found.
enum class Trace {
  exact,       ///< one derivative for every dimension: for small states
  rademacher,  ///< Hutchinson's estimate, probes of random signs; exact for diagonal Jacobians
  gaussian,    ///< Hutchinson's estimate, probes of standard normals
};

/// Options of log_likelihood. Plain data: threads may share what none of them writes.
struct LikelihoodOptions {
  OdeOptions ode{};
  FlowVariable variable = FlowVariable::automatic;
  Trace trace = Trace::rademacher;
  int probes = 1;                ///< of Hutchinson's estimate, 1 to 1000000; kept through the run
  PhiloxNoise probe_noise{0};    ///< draw k is probe k: the sign of its normals, or these
  std::optional<double> from{};  ///< time of the data, the schedule's first if not given
  std::optional<double> to{};    ///< time of the prior, the schedule's last if not given
  /// The prior at `to` is N(0, prior_scale^2) for every element. 0: sqrt(alpha^2 + sigma^2), the
  /// deviation from which samplers start: 1 on variance preserving schedules and flows,
  /// sqrt(1 + sigma_max^2) on variance exploding ones.
  double prior_scale = 0;
  /// In place of that normal: the log density of a sample of the state at `to`, where it is known.
  std::function<double(std::span<const double>)> prior{};
  PredictionType prediction_type = PredictionType::epsilon;  ///< unless the denoiser declares one
  /// > 0: the network sees x / sqrt(sigma^2 + sigma_data^2 alpha^2), as EDM's. 0: it sees x.
  double sigma_data = 0;
  bool batch = true;  ///< false: the whole tensor is one sample
};

/// What log_likelihood found. Plain data: threads may share what none of them writes.
template <class Tensor>
struct LogLikelihood {
  std::vector<double> log_density;  ///< of each sample of x, at the level of x, in nats
  /// Of each sample, where there are at least two probes: the deviation of their mean.
  std::vector<double> standard_error;
  std::vector<double> log_prior;  ///< of each sample's latent
  Tensor latent;                  ///< the state at the end: the noise that makes x
  OdeCount ode;              ///< evaluations of the flow, each one network call and derivatives
  int network_calls = 0;     ///< asks of the denoiser, for the whole batch at once
  int derivative_calls = 0;  ///< calls of the Jacobian-vector product
};

/// Takes the place of a Jacobian-vector product: (f(z + h w) - f(z - h w)) / 2h, two network calls.
/// Plain data: threads may share what none of them writes.
struct CentralDifferences {
  double step = 0;  ///< h, > 0; 0: the cube root of the rounding of the state's scalar
};

/// Minus log density in bits a dimension, for data that lie on a grid of this bin width and were
/// spread over their bins: -log_density / (d log 2) - log2(bin). 2 / 255 is that of bytes brought
/// to [-1, 1]: with p(bin) = p(x) bin, the code length of a byte.
inline double bits_per_dimension(double log_density, std::size_t dimension,
                                 double bin = 2.0 / 255) {
  detail::require_at_least("dimension", dimension, std::size_t{1});
  detail::require_inside("bin", bin, 0.0, std::numeric_limits<double>::infinity());
  return -(log_density / static_cast<double>(dimension) + std::log(bin)) / std::numbers::ln2;
}

namespace detail {

inline void check_likelihood_options(const LikelihoodOptions& o) {
  constexpr double largest = (std::numeric_limits<double>::max)();
  check_ode_options(o.ode);
  require_enumerator("LikelihoodOptions::trace", o.trace, 3);
  require_range("LikelihoodOptions::probes", o.probes, 1, 1'000'000);
  require_range("LikelihoodOptions::prior_scale", o.prior_scale, 0.0, largest);
  require_range("LikelihoodOptions::sigma_data", o.sigma_data, 0.0, 1e6);
}

template <class S>
double as_double(S x) {
  return static_cast<double>(static_cast<Compute<S>>(x));
}

/// The right-hand side: the flow of all samples, and, behind it, of each sample the divergence by
/// each probe (for an exact trace one).
template <class T, class S, class D, class J>
class LikelihoodField {
  using Tensor = TensorOf<T>;
  using Scalar = ScalarOf<Tensor>;
  using Traits = StateTraits<Tensor>;

 public:
  LikelihoodField(const FlowPath<S>& path, D& denoiser, J& jacobian, const ShapeOf<T>& shape,
                  const LikelihoodOptions& options)
      : path_(path),
        denoiser_(denoiser),
        jacobian_(jacobian),
        options_(options),
        blocks_(blocks_of<T>(shape, options.batch)),
        type_(prediction_type_of(denoiser, options.prediction_type)),
        x_(Traits::make(shape)),
        direction_(Traits::make(shape)) {
    const auto declared = declared_output_shape<T>(denoiser, shape);
    out_shape_ = declared ? *declared : shape;
    stride_ = output_blocks<T>(out_shape_, shape, false, options.batch).size;
    out_ = Traits::make(out_shape_);
    change_ = Traits::make(out_shape_);
    if constexpr (differences) {
      require_range("CentralDifferences::step", jacobian.step, 0.0, 1e6);
      moved_ = Traits::make(shape);
      minus_ = Traits::make(out_shape_);
    }
    if (options.trace != Trace::exact) make_probes();
    for (const Knot& end : {path.from(), path.to()}) FlowWeights(type_, end, input_scale(end));
  }

  const Blocks& blocks() const { return blocks_; }
  std::size_t probes() const {
    return options_.trace == Trace::exact ? 1 : static_cast<std::size_t>(options_.probes);
  }
  int network_calls() const { return network_calls_; }
  int derivative_calls() const { return derivative_calls_; }

  void operator()(double place, const Eigen::VectorXd& y, Eigen::VectorXd& dy) {
    const auto point = path_.at(place);
    const Knot& at = point.knot;
    const double scale = input_scale(at), radius = point.radius();
    const FlowWeights v(type_, at, scale);
    const Query query{.t = at.t,
                      .alpha = at.alpha,
                      .sigma = at.sigma,
                      .input_scale = scale,
                      .stage = evaluations_++,
                      .prediction_type = type_,
                      .batched = options_.batch,
                      .samples = blocks_.batch};
    Scalar* const x = Traits::data(x_);
    for (std::size_t i = 0; i < blocks_.total(); ++i)
      x[i] = static_cast<Scalar>(static_cast<Compute<Scalar>>(scale * radius * y[index(i)]));
    ask_network(x_, query, out_);

    const Scalar* const f = Traits::data(std::as_const(out_));
    for (std::size_t sample = 0; sample < blocks_.batch; ++sample)
      for (std::size_t i = 0; i < blocks_.size; ++i) {
        const Eigen::Index k = index(sample * blocks_.size + i);
        dy[k] = point.rate * (v.on_x * radius * y[k] + v.on_f * as_double(f[sample * stride_ + i]));
      }
    // w^T (d v / d y) w, d v / d y = radius (on_x + on_f scale J), J the network's Jacobian.
    trace(query, [&](std::size_t sample, std::size_t probe, double squares, double product) {
      dy[index(blocks_.total() + sample * probes() + probe)] =
          point.rate * radius * (v.on_x * squares + v.on_f * scale * product);
    });
  }

 private:
  static constexpr bool differences = std::same_as<std::remove_const_t<J>, CentralDifferences>;
  static Eigen::Index index(std::size_t i) { return static_cast<Eigen::Index>(i); }

  double input_scale(const Knot& at) const {
    const double deviation = options_.sigma_data;
    return deviation == 0 ? 1 : 1 / std::hypot(at.sigma, deviation * at.alpha);
  }

  void make_probes() {
    require_draws(options_.probe_noise, probes(), blocks_);
    for (std::size_t probe = 0; probe < probes(); ++probe) {
      probes_.push_back(Traits::make(Traits::shape(x_)));
      Scalar* const w = Traits::data(probes_.back());
      for_each_normal<double>(options_.probe_noise, probe, blocks_, [&](std::size_t i, double n) {
        const double value = options_.trace == Trace::gaussian ? n : n < 0 ? -1 : 1;
        w[i] = static_cast<Scalar>(static_cast<Compute<Scalar>>(value));
      });
    }
  }

  /// report(sample, probe, w^T w, w^T J w): for an exact trace the sums over all unit vectors w.
  template <class Report>
  void trace(const Query& query, const Report& report) {
    const Scalar* const change = Traits::data(std::as_const(change_));
    if (options_.trace != Trace::exact) {
      for (std::size_t probe = 0; probe < probes(); ++probe) {
        derive(query, probes_[probe]);
        const Scalar* const w = Traits::data(std::as_const(probes_[probe]));
        for (std::size_t sample = 0; sample < blocks_.batch; ++sample) {
          double squares = 0, product = 0;
          for (std::size_t i = 0; i < blocks_.size; ++i) {
            const double direction = as_double(w[sample * blocks_.size + i]);
            squares += direction * direction;
            product += direction * as_double(change[sample * stride_ + i]);
          }
          report(sample, probe, squares, product);
        }
      }
      return;
    }
    std::vector<double> sums(blocks_.batch, 0);
    Scalar* const w = Traits::data(direction_);
    for (std::size_t i = 0; i < blocks_.size; ++i) {
      for (std::size_t k = 0; k < blocks_.total(); ++k)
        w[k] = static_cast<Scalar>(k % blocks_.size == i ? 1.0f : 0.0f);
      derive(query, direction_);
      for (std::size_t sample = 0; sample < blocks_.batch; ++sample)
        sums[sample] += as_double(change[sample * stride_ + i]);
    }
    for (std::size_t sample = 0; sample < blocks_.batch; ++sample)
      report(sample, 0, static_cast<double>(blocks_.size), sums[sample]);
  }

  /// change = J w.
  void derive(const Query& query, const Tensor& w) {
    if constexpr (!differences) {
      ++derivative_calls_;
      jacobian_(std::as_const(x_), query, w, change_);
      check_shape(change_, "the Jacobian-vector product");
    } else {
      using Real = Compute<Scalar>;
      const double rounding = as_double(Eigen::NumTraits<Scalar>::epsilon());
      const double h = jacobian_.step > 0 ? jacobian_.step : std::cbrt(rounding);
      moved_along(w, h);
      ask_network(moved_, query, change_);
      moved_along(w, -h);
      ask_network(moved_, query, minus_);
      Scalar* const plus = Traits::data(change_);
      const Scalar* const minus = Traits::data(std::as_const(minus_));
      for (std::size_t i = 0; i < blocks_.batch * stride_; ++i)
        plus[i] = static_cast<Scalar>(
            static_cast<Real>((as_double(plus[i]) - as_double(minus[i])) / (2 * h)));
    }
  }

  void moved_along(const Tensor& w, double h) {
    const Scalar *x = Traits::data(std::as_const(x_)), *direction = Traits::data(w);
    Scalar* const to = Traits::data(moved_);
    for (std::size_t i = 0; i < blocks_.total(); ++i)
      to[i] = static_cast<Scalar>(
          static_cast<Compute<Scalar>>(as_double(x[i]) + h * as_double(direction[i])));
  }

  void ask_network(Tensor& x, const Query& query, Tensor& out) {
    ++network_calls_;
    ask<T>(denoiser_, seen_as<T>(x), query, out);
    check_shape(out, "the network");
  }

  void check_shape(const Tensor& out, const char* who) const {
    if (Traits::shape(out) != out_shape_)
      fail(text(who, " gave its output the shape ", shape_text(Traits::shape(out)),
                "; it must keep ", shape_text(out_shape_)));
  }

  const FlowPath<S>& path_;
  D& denoiser_;
  J& jacobian_;
  const LikelihoodOptions& options_;
  Blocks blocks_;
  PredictionType type_;
  ShapeOf<T> out_shape_{};
  std::size_t stride_ = 0;  ///< elements of one sample of the output
  Tensor x_, direction_;
  Tensor out_, change_, moved_, minus_;
  std::vector<Tensor> probes_;
  int evaluations_ = 0, network_calls_ = 0, derivative_calls_ = 0;
};

/// log N(0, scale^2) of all elements together.
inline double log_normal_prior(std::span<const double> x, double scale) {
  double squares = 0;
  for (const double value : x) squares += value * value;
  const double log_variance = 2 * std::log(scale);
  return -(squares / (scale * scale) +
           static_cast<double>(x.size()) * (log_variance + std::log(2 * std::numbers::pi))) /
         2;
}

/// Mean and deviation of the mean.
struct ProbeMean {
  double mean = 0, error = 0;

  explicit ProbeMean(std::span<const double> values) {
    const auto n = static_cast<double>(values.size());
    mean = std::accumulate(values.begin(), values.end(), 0.0) / n;
    double squares = 0;
    for (const double value : values) squares += (value - mean) * (value - mean);
    if (n > 1) error = std::sqrt(squares / (n - 1) / n);
  }
};

}  // namespace detail

/// The log density of data under the model that the probability flow ODE of a denoiser is: x is
/// carried along the flow to the noisy end of the schedule, where its density is the prior's, and
/// the divergence is summed up on the way (Chen et al. 2018, arXiv 1806.07366, eq. 8; Song et al.
/// 2021, arXiv 2011.13456, appendix D.2):
///
///     log p(x at from) = log prior(latent) + integral of the divergence, from `from` to `to`.
///
/// Works on every schedule and with every form of denoiser; x, (batch, ...), is a state at the
/// level `from`: clean data where sigma is 0 there, else a noisy state, and it is that state's
/// density which is found (that of x / alpha has d log alpha more). The network is told the
/// schedule's time between its knots. All samples take the same steps, so with dormand_prince a
/// sample's result depends, within the tolerance, on the others.
///
/// The trace needs derivatives of the network's output in its input z. `jacobian` is called as
///
///     jacobian(const Tensor& z, const Query& query, const Tensor& w, Tensor& out)  // out = J(z) w
///
/// or is CentralDifferences, which asks the network at z + h w and z - h w. Hutchinson's estimates
/// are without bias in the log density for as long as the steps do not depend on the probes
/// (Grathwohl et al. 2019, arXiv 1810.01367, section 3.1); see LogLikelihood::standard_error.
///
/// Everything is computed in double but the network. Fails where an option is out of its range, x
/// is not finite, the prediction type is undefined at an end, or the integration cannot go on.
template <State T, class S, class D, class J = CentralDifferences>
LogLikelihood<TensorOf<T>> log_likelihood(const S& schedule, D&& denoiser, const T& x,
                                          const LikelihoodOptions& options = {},
                                          J&& jacobian = {}) {
  using Tensor = TensorOf<T>;
  detail::require_schedule<S>();
  detail::check_likelihood_options(options);
  const auto shape = StateTraits<T>::shape(x);
  detail::require_extents("x", shape);
  const detail::FlowPath<S> path(schedule, options.variable,
                                 options.from.value_or(schedule.first_time()),
                                 options.to.value_or(schedule.last_time()));
  begin_run(denoiser);
  detail::LikelihoodField<T, S, std::remove_reference_t<D>, std::remove_reference_t<J>> field(
      path, denoiser, jacobian, shape, options);
  const Blocks blocks = field.blocks();
  const std::size_t total = blocks.total(), probes = field.probes();

  Eigen::VectorXd y =
      Eigen::VectorXd::Zero(static_cast<Eigen::Index>(total + blocks.batch * probes));
  const double start = path.at(path.begin()).radius(), end = path.at(path.end()).radius();
  for (std::size_t i = 0; i < total; ++i) {
    const double value = detail::as_double(StateTraits<T>::data(x)[i]);
    if (!detail::is_finite(value))
      fail(detail::text("x holds ", value, " at element ", i, "; every number must be finite"));
    y[static_cast<Eigen::Index>(i)] = value / start;
  }

  LogLikelihood<Tensor> result{{}, {}, {}, StateTraits<Tensor>::make(shape), {}, 0, 0};
  result.ode = integrate_ode(field, path.begin(), path.end(), y, options.ode);
  result.network_calls = field.network_calls();
  result.derivative_calls = field.derivative_calls();

  const double dimensions = static_cast<double>(blocks.size);
  const double scale = options.prior_scale > 0 ? options.prior_scale : end;
  for (std::size_t i = 0; i < total; ++i) {
    y[static_cast<Eigen::Index>(i)] *= end;
    StateTraits<Tensor>::data(result.latent)[i] = static_cast<ScalarOf<Tensor>>(
        static_cast<detail::Compute<ScalarOf<Tensor>>>(y[static_cast<Eigen::Index>(i)]));
  }
  for (std::size_t sample = 0; sample < blocks.batch; ++sample) {
    const std::span<const double> latent(y.data() + sample * blocks.size, blocks.size);
    const double log_prior =
        options.prior ? options.prior(latent) : detail::log_normal_prior(latent, scale);
    const detail::ProbeMean change({y.data() + total + sample * probes, probes});
    const double log_density = log_prior + change.mean + dimensions * std::log(end / start);
    if (!detail::is_finite(log_density))
      fail(detail::text("the log density of sample ", sample, " is ", log_density,
                        "; look at the network's answers, take more steps or dormand_prince"));
    result.log_prior.push_back(log_prior);
    result.log_density.push_back(log_density);
    if (probes > 1) result.standard_error.push_back(change.error);
  }
  return result;
}

}  // namespace diffusion

#endif  // DIFFUSION_LIKELIHOOD_ODE_LIKELIHOOD_HPP
