// Log-likelihood by the probability flow ODE, against the closed forms of Gaussians and mixtures.

#include "catch.hpp"
#include "support.hpp"

#include <diffusion/denoiser/exact/exact_denoiser.hpp>
#include <diffusion/likelihood/exact_jacobian.hpp>
#include <diffusion/likelihood/ode_likelihood.hpp>
#include <diffusion/schedule/continuous.hpp>
#include <diffusion/schedule/noise_schedule.hpp>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numbers>
#include <span>
#include <string>
#include <vector>

using namespace diffusion;

namespace {

using Points = support::RowMajor<double, 2>;

Gaussian correlated() {
  return {Eigen::Vector3d(0.5, -1, 0.2),
          Eigen::Matrix3d{{0.9, 0.3, 0.1}, {0.3, 0.5, -0.2}, {0.1, -0.2, 0.7}}};
}
GaussianMixture bumps() {
  return GaussianMixture{
      {1, Gaussian::isotropic(Eigen::Vector2d(-1, 0), 0.09)},
      {3, Gaussian(Eigen::Vector2d(1, 0.5), Eigen::Matrix2d{{0.3, 0.1}, {0.1, 0.2}})}};
}

/// `count` points about the data.
Points points_of(Eigen::Index dimension, int count) {
  support::Random random(7);
  Points x(count, dimension);
  for (Eigen::Index i = 0; i < x.size(); ++i) x.data()[i] = random.uniform(-1.5, 1.5);
  return x;
}
Eigen::VectorXd row(const Points& x, Eigen::Index i) {
  return Eigen::Map<const Eigen::VectorXd>(x.data() + i * x.dimension(1), x.dimension(1));
}

/// Where the prior is the state's own distribution, the ODE alone makes errors.
template <class P>
std::function<double(std::span<const double>)> own_prior(const P& data, const Knot& at) {
  return [=](std::span<const double> x) {
    return data.log_density(Eigen::Map<const Eigen::VectorXd>(x.data(), data.dimension()), at);
  };
}

LikelihoodOptions precise() {
  LikelihoodOptions options;
  options.ode = {.rtol = 1e-10, .atol = 1e-10};
  options.trace = Trace::exact;
  return options;
}

/// The largest difference from the closed form over some points.
template <class P, class S, class J = CentralDifferences>
double error_of(const P& data, const S& schedule, PredictionType type, LikelihoodOptions options,
                J jacobian = {}) {
  const Knot from = knot_at(schedule, options.from.value_or(schedule.first_time()));
  const Knot to = knot_at(schedule, options.to.value_or(schedule.last_time()));
  if (!options.prior) options.prior = own_prior(data, to);
  const Points x = points_of(data.dimension(), 5);
  const auto found = log_likelihood(schedule, exact_denoiser(data, type), x, options, jacobian);
  double worst = 0;
  for (Eigen::Index i = 0; i < x.dimension(0); ++i) {
    const double expected = data.log_density(row(x, i), from);
    worst = std::max(worst, std::abs(found.log_density[static_cast<std::size_t>(i)] - expected));
  }
  return worst;
}

template <class P, class S>
double exact_error(const P& data, const S& schedule, PredictionType type,
                   const LikelihoodOptions& options) {
  return error_of(data, schedule, type, options, ExactJacobian(data, type));
}

/// The slope of -log error against log steps.
double order(OdeMethod method, FlowVariable variable) {
  std::vector<double> x, y;
  for (const int steps : {20, 40, 80}) {
    LikelihoodOptions options = precise();
    options.ode = {.method = method, .steps = steps};
    options.variable = variable;
    options.from = 0.1;  // sigma / alpha from 0.3 to 2: even steps in each variable
    options.to = 0.4;
    x.push_back(std::log(steps));
    y.push_back(-std::log(exact_error(bumps(), VpLinear(), PredictionType::v, options)));
  }
  return (y[2] - y[0]) / (x[2] - x[0]);
}

}  // namespace

// ---- the closed form ---------------------------------------------------------------------------

TEST_CASE("The flow gives the log density of a Gaussian on every schedule") {
  const Gaussian data = correlated();
  const auto v = PredictionType::v, epsilon = PredictionType::epsilon;
  CHECK(exact_error(data, VpLinear(), epsilon, precise()) < 1e-8);  // from clean data
  CHECK(exact_error(data, VpCosine(), v, precise()) < 1e-8);        // to zero SNR
  CHECK(exact_error(data, RectifiedFlow(), v, precise()) < 1e-8);
  CHECK(exact_error(data, RectifiedFlow(), PredictionType::flow, precise()) < 1e-8);
  CHECK(exact_error(data, VarianceExploding(), epsilon, precise()) < 1e-8);
  CHECK(exact_error(data, NoiseSchedule<>::linear(), epsilon, precise()) < 1e-8);
  CHECK(exact_error(data, NoiseSchedule<>::squaredcos_cap_v2(), v, precise()) < 1e-8);
  CHECK(exact_error(data, NoiseSchedule<>::linear({.rescale_zero_terminal_snr = true}), v,
                    precise()) < 1e-8);
}

TEST_CASE("The flow gives the log density of a mixture, for every prediction type and variable") {
  for (const PredictionType type : all_prediction_types)
    CHECK(exact_error(bumps(), VarianceExploding({.sigma_min = 0.1, .sigma_max = 20}), type,
                      precise()) < 1e-8);
  for (const auto variable : {FlowVariable::log_snr, FlowVariable::sigma, FlowVariable::angle}) {
    LikelihoodOptions options = precise();
    options.variable = variable;
    CHECK(exact_error(bumps(), NoiseSchedule<>::linear(), PredictionType::v, options) < 1e-8);
  }
  LikelihoodOptions options = precise();
  options.variable = FlowVariable::sigma;  // from sigma = 0 on
  CHECK(exact_error(bumps(), VpLinear(), PredictionType::v, options) < 1e-8);
}

TEST_CASE("A network with EDM's input scaling is asked what it was trained on") {
  LikelihoodOptions options = precise();
  options.sigma_data = 0.5;
  const VarianceExploding schedule({.sigma_min = 0.1, .sigma_max = 20});
  const PredictionType edm{PredictionType::Kind::edm, 0.5};
  for (const PredictionType& type : {edm, PredictionType::epsilon})
    CHECK(exact_error(bumps(), schedule, type, options) < 1e-8);
}

TEST_CASE("Central differences take the place of the derivative") {
  // In double with h = 6e-6 the differences are good to about 1e-10 of the network's answers.
  CHECK(error_of(bumps(), NoiseSchedule<>::linear(), PredictionType::epsilon, precise()) < 1e-6);
  CHECK(error_of(bumps(), NoiseSchedule<>::linear(), PredictionType::epsilon, precise(),
                 CentralDifferences{.step = 1e-4}) < 1e-5);
}

TEST_CASE("The prior is what samplers start from") {
  // N(0, 1) stays N(0, 1) on a variance preserving schedule, and N(0, 1 + sigma^2) on the other.
  const Gaussian standard = Gaussian::isotropic(Eigen::Vector2d(0, 0), 1);
  const Points x = points_of(2, 3);
  const auto check = [&](const auto& schedule, double prior_scale) {
    LikelihoodOptions options = precise();
    options.prior_scale = prior_scale;
    const auto found = log_likelihood(schedule, exact_denoiser(standard, PredictionType::v), x,
                                      options, ExactJacobian(standard, PredictionType::v));
    const Knot from = knot_at(schedule, schedule.first_time());
    for (std::size_t i = 0; i < 3; ++i)
      CHECK(found.log_density[i] ==
            Approx(standard.log_density(row(x, static_cast<Eigen::Index>(i)), from)).margin(1e-8));
  };
  check(VpLinear(), 0);
  check(VarianceExploding(), 0);
  check(VarianceExploding(), std::hypot(1, 50));
  check(RectifiedFlow(), 1);

  // Another prior gives another model: the difference is that of the priors.
  LikelihoodOptions wide = precise();
  wide.prior_scale = 2;
  const auto found = log_likelihood(VpLinear(), exact_denoiser(standard, PredictionType::v), x,
                                    wide, ExactJacobian(standard, PredictionType::v));
  const double squares = row(x, 0).squaredNorm();  // the flow of N(0, 1) stands still
  CHECK(found.log_prior[0] ==
        Approx(-squares / 8 - std::log(2 * std::numbers::pi * 4)).margin(1e-8));
  CHECK(found.log_density[0] == Approx(found.log_prior[0]).margin(1e-8));
}

TEST_CASE("The latent is where the closed form's flow ends") {
  const Gaussian data = correlated();
  const auto schedule = NoiseSchedule<>::linear();
  const Points x = points_of(3, 4);
  const auto found =
      log_likelihood(schedule, exact_denoiser(data), x, precise(), ExactJacobian(data));
  for (Eigen::Index i = 0; i < 4; ++i)
    CHECK(
        (row(found.latent, i) - data.flow(row(x, i), schedule.knot(0), schedule.knot(999))).norm() <
        1e-8);
}

TEST_CASE("Part of a schedule") {
  LikelihoodOptions options = precise();
  options.from = 0.2;
  options.to = 0.7;
  CHECK(exact_error(bumps(), VpLinear(), PredictionType::epsilon, options) < 1e-8);
}

// ---- Hutchinson's estimate ---------------------------------------------------------------------

TEST_CASE("Signs as probes are exact for a diagonal Jacobian") {
  const Gaussian data =
      Gaussian::diagonal(Eigen::Vector3d(0.1, -0.3, 0.8), Eigen::Vector3d(0.4, 1.3, 0.2));
  for (const std::uint64_t seed : {1U, 2U, 3U}) {
    LikelihoodOptions options = precise();
    options.trace = Trace::rademacher;
    options.probe_noise = PhiloxNoise{seed};
    CHECK(exact_error(data, VpLinear(), PredictionType::v, options) < 1e-8);
  }
  LikelihoodOptions options = precise();
  options.trace = Trace::rademacher;
  options.probes = 5;
  options.prior = own_prior(data, VpLinear().knot(1));
  const auto found = log_likelihood(VpLinear(), exact_denoiser(data), points_of(3, 2), options,
                                    ExactJacobian(data));
  REQUIRE(found.standard_error.size() == 2);
  CHECK(found.standard_error[0] < 1e-10);
}

TEST_CASE("Hutchinson's estimates agree with the exact trace within their own error") {
  const Gaussian data = correlated();
  for (const Trace trace : {Trace::rademacher, Trace::gaussian}) {
    LikelihoodOptions options = precise();
    options.ode = {.rtol = 1e-6, .atol = 1e-6};
    options.trace = trace;
    options.probes = 2000;
    options.prior = own_prior(data, VpLinear().knot(1));
    const Points x = points_of(3, 2);
    const auto found = log_likelihood(VpLinear(), exact_denoiser(data, PredictionType::v), x,
                                      options, ExactJacobian(data, PredictionType::v));
    for (std::size_t i = 0; i < 2; ++i) {
      const double exact =
          data.log_density(row(x, static_cast<Eigen::Index>(i)), VpLinear().knot(0));
      INFO("standard error " << found.standard_error[i]);
      CHECK(found.standard_error[i] > 1e-3);  // it is an estimate ...
      CHECK(found.standard_error[i] < 0.1);
      CHECK(std::abs(found.log_density[i] - exact) < 4 * found.standard_error[i]);  // ... that fits
    }
  }
}

TEST_CASE("Probes are addressed: a part of a batch gets what it gets in the whole") {
  const Gaussian data = correlated();
  LikelihoodOptions options;
  options.ode = {.method = OdeMethod::rk4, .steps = 10};
  const Points x = points_of(3, 4);
  const Points second =
      x.slice(Eigen::array<Eigen::Index, 2>{2, 0}, Eigen::array<Eigen::Index, 2>{2, 3});
  const auto whole = log_likelihood(VpLinear(), exact_denoiser(data), x, options);
  options.probe_noise = PhiloxNoise(0, 2);
  const auto part = log_likelihood(VpLinear(), exact_denoiser(data), second, options);
  CHECK(part.log_density[0] == whole.log_density[2]);
  CHECK(part.log_density[1] == whole.log_density[3]);
}

// ---- integration -------------------------------------------------------------------------------

TEST_CASE("The fixed methods have their order in every variable") {
  for (const auto variable : {FlowVariable::log_snr, FlowVariable::sigma, FlowVariable::angle}) {
    CHECK(order(OdeMethod::heun, variable) > 1.85);
    CHECK(order(OdeMethod::rk4, variable) > 3.85);
  }
}

TEST_CASE("The tolerance governs the error of Dormand and Prince's method") {
  int evaluations = 0;
  for (const double tolerance : {1e-4, 1e-6, 1e-8, 1e-10}) {
    Eigen::VectorXd y{{1, 0}};  // a circle
    const auto count = integrate_ode(
        [](double, const Eigen::VectorXd& at, Eigen::VectorXd& dy) { dy << -at[1], at[0]; }, 0, 10,
        y, {.rtol = tolerance, .atol = tolerance});
    CHECK((y - Eigen::Vector2d(std::cos(10), std::sin(10))).norm() < 30 * tolerance);
    CHECK(count.evaluations > evaluations);
    CHECK(count.evaluations == 1 + 6 * (count.steps + count.rejected));
    evaluations = count.evaluations;
  }
}

TEST_CASE("Dormand and Prince's method is of the fifth order, and steps back too") {
  const auto solve = [](double from, double to, double tolerance) {
    Eigen::VectorXd y{{std::exp(std::sin(from))}};
    const auto f = [](double t, const Eigen::VectorXd& at, Eigen::VectorXd& dy) {
      dy = std::cos(t) * at;
    };
    integrate_ode(f, from, to, y, {.rtol = tolerance, .atol = 0});
    return std::abs(y[0] - std::exp(std::sin(to)));
  };
  CHECK(solve(0, 3, 1e-9) < 1e-8);
  CHECK(solve(3, 0, 1e-9) < 1e-8);
  CHECK(solve(1, 1, 1e-9) == 0);
}

TEST_CASE("Calls are counted") {
  const Gaussian data = correlated();
  const Points x = points_of(3, 2);
  int asked = 0;
  const auto network = [&](const Points& z, const Query& query, Points& out) {
    ++asked;
    exact_denoiser(data)(z, query, out);
  };
  LikelihoodOptions options;
  options.ode = {.method = OdeMethod::heun, .steps = 10};
  options.probes = 3;
  auto found = log_likelihood(VpLinear(), network, x, options);
  CHECK(found.ode.evaluations == 20);
  CHECK(found.network_calls == 20 * (1 + 2 * 3));
  CHECK(found.network_calls == asked);
  CHECK(found.derivative_calls == 0);

  options.trace = Trace::exact;
  found = log_likelihood(VpLinear(), network, x, options, ExactJacobian(data));
  CHECK(found.network_calls == 20);
  CHECK(found.derivative_calls == 20 * 3);
  CHECK(found.standard_error.empty());
}

// ---- states and forms --------------------------------------------------------------------------

TEST_CASE("Any state and form of denoiser") {
  const Gaussian data = correlated();
  const Points x = points_of(3, 2);
  LikelihoodOptions options = precise();
  options.ode = {.rtol = 1e-5, .atol = 1e-5};
  const auto schedule = NoiseSchedule<>::linear();
  const auto expected = log_likelihood(schedule, exact_denoiser(data), x, options);

  const support::RowMajor<float, 2> floats = x.cast<float>();
  const auto single = log_likelihood(schedule, exact_denoiser(data), floats, options);
  CHECK(single.log_density[1] == Approx(expected.log_density[1]).margin(0.02));

  const Eigen::MatrixXd columns = Eigen::Map<const Eigen::MatrixXd>(x.data(), 3, 2);
  const auto matrix = log_likelihood(schedule, exact_denoiser(data), columns, options);
  CHECK(matrix.log_density[1] == Approx(expected.log_density[1]).margin(1e-9));

  std::vector<double> one(x.data(), x.data() + 3);
  options.batch = false;
  const auto alone = log_likelihood(schedule, exact_denoiser(data), one, options);
  CHECK(alone.log_density.size() == 1);
  CHECK(alone.log_density[0] == Approx(expected.log_density[0]).margin(1e-3));

  // A network that answers a variance too: its first half is read.
  struct WithVariance {
    Gaussian data;
    std::array<Eigen::Index, 2> output_shape(const std::array<Eigen::Index, 2>& in) const {
      return {in[0], 2 * in[1]};
    }
    void operator()(const Points& z, const Query& query, Points& out) const {
      Points mean(z.dimension(0), 3);
      exact_denoiser(data)(z, query, mean);
      out.setConstant(1e6);
      for (Eigen::Index i = 0; i < z.dimension(0); ++i)
        for (Eigen::Index k = 0; k < 3; ++k) out(i, k) = mean(i, k);
    }
  };
  options.batch = true;
  const auto with_variance = log_likelihood(schedule, WithVariance{data}, x, options);
  CHECK(with_variance.log_density[1] == Approx(expected.log_density[1]).margin(1e-9));
}

TEST_CASE("Bits per dimension") {
  CHECK(bits_per_dimension(0, 10, 1) == 0);
  CHECK(bits_per_dimension(-3 * std::numbers::ln2, 1, 1) == Approx(3));
  // Bytes spread evenly over [-1, 1]: a density of 1/2 an element, nearly 8 bits (256 bins do not
  // quite fit into the range of 255).
  CHECK(bits_per_dimension(100 * std::log(0.5), 100) == Approx(std::log2(255)));
  CHECK(bits_per_dimension(100 * std::log(255.0 / 512), 100) == Approx(8));
  CHECK_THROWS_WITH(bits_per_dimension(0, 0), contains("dimension is 0"));
  CHECK_THROWS_WITH(bits_per_dimension(0, 1, 0), contains("bin is 0"));
}

// ---- what is refused ---------------------------------------------------------------------------

TEST_CASE("Errors name the value and the limit") {
  const Gaussian data = correlated();
  const Points x = points_of(3, 1);
  const auto message = [&](const LikelihoodOptions& options, PredictionType type,
                           const auto& schedule) -> std::string {
    try {
      log_likelihood(schedule, exact_denoiser(data, type), x, options);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  const auto with = [](const auto& change) {
    LikelihoodOptions options;
    change(options);
    return options;
  };
  const auto eps = PredictionType::epsilon;
  const VpLinear vp;
  CHECK_THAT(message(with([](auto& o) { o.probes = 0; }), eps, vp), contains("probes is 0"));
  CHECK_THAT(message(with([](auto& o) { o.prior_scale = -1; }), eps, vp),
             contains("prior_scale is -1"));
  CHECK_THAT(message(with([](auto& o) { o.sigma_data = std::nan(""); }), eps, vp),
             contains("sigma_data is nan"));
  CHECK_THAT(message(with([](auto& o) { o.ode.rtol = 0; }), eps, vp), contains("rtol is 0"));
  CHECK_THAT(message(with([](auto& o) { o.ode.atol = -1; }), eps, vp), contains("atol is -1"));
  CHECK_THAT(
      message(with([](auto& o) { o.ode = {.method = OdeMethod::heun, .steps = 0}; }), eps, vp),
      contains("steps is 0"));
  CHECK_THAT(message(with([](auto& o) { o.from = 0.5, o.to = 0.4; }), eps, vp),
             contains("the second must have more noise"));
  CHECK_THAT(message(with([](auto& o) { o.from = 2; }), eps, vp), contains("time t is 2"));
  CHECK_THAT(message(with([](auto& o) { o.variable = FlowVariable::log_snr; }), eps, vp),
             contains("sigma is 0 where the likelihood starts"));
  CHECK_THAT(message(with([](auto& o) { o.variable = FlowVariable::sigma; }), PredictionType::flow,
                     RectifiedFlow()),
             contains("alpha is 0 where the likelihood ends"));
  CHECK_THAT(message({}, eps, RectifiedFlow()),
             contains("the flow is undefined for prediction type epsilon at t = 1"));
  CHECK_THAT(message({}, PredictionType::sample, vp),
             contains("the flow is undefined for prediction type sample at t = 0"));
  CHECK_THAT(message(with([](auto& o) { o.ode.max_steps = 3; }), eps, vp),
             contains("raise OdeOptions::max_steps"));

  const auto broken = [](const Points&, double t, Points& out) {
    out.setConstant(t > 0.5 ? std::numeric_limits<double>::quiet_NaN() : 0);
  };
  CHECK_THROWS_WITH(log_likelihood(vp, broken, x), contains("the derivative is not finite"));
  LikelihoodOptions fixed;
  fixed.ode = {.method = OdeMethod::rk4, .steps = 4};
  CHECK_THROWS_WITH(log_likelihood(vp, broken, x, fixed), contains("the log density of sample 0"));
  Points bad = x;
  bad(0, 1) = std::numeric_limits<double>::infinity();
  CHECK_THROWS_WITH(log_likelihood(vp, exact_denoiser(data), bad), contains("x holds inf"));
  const auto grows = [](const Points&, double, Points& out) {
    out = Points(1, 7);
    out.setZero();
  };
  CHECK_THROWS_WITH(log_likelihood(vp, grows, x), contains("the shape 1x7; it must keep 1x3"));
  CHECK_THROWS_WITH(log_likelihood(vp, exact_denoiser(data), x, {}, CentralDifferences{-1}),
                    contains("step is -1"));
}
