// The forward process: kernels compose, the posterior is Bayes' rule, targets lead back.

#include "catch.hpp"
#include "support.hpp"

#include <diffusion/forward/forward_diffusion.hpp>
#include <diffusion/schedule/noise_schedule.hpp>

#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

using namespace diffusion;
using support::Vector;

namespace {

/// All schedules in double and in single precision, with and without zero terminal SNR.
template <class Check>
void for_every_process(const Check& check) {
  for (int kind = 0; kind <= static_cast<int>(BetaSchedule::jsd); ++kind)
    for (const bool zero_snr : {false, true}) {
      NoiseScheduleOptions options;
      options.rescale_zero_terminal_snr = zero_snr;
      const auto schedule = static_cast<BetaSchedule>(kind);
      INFO("beta schedule " << kind << ", zero SNR " << zero_snr);
      check(ForwardDiffusion<>{NoiseSchedule<>::make(schedule, options)});
      check(ForwardDiffusion<float>{NoiseSchedule<float>::make(schedule, options)});
    }
}

/// x -> from_x x + N(0, variance), after what came before.
void compose(double& weight, double& variance, const GaussianKernel& kernel) {
  weight *= kernel.from_x;
  variance = kernel.from_x * kernel.from_x * variance + kernel.variance;
}

}  // namespace

TEST_CASE("One-step kernels compose to the closed jump") {
  for_every_process([](const auto& process) {
    double weight = 1, variance = 0, worst = 0;
    for (int t = 0; t < process.schedule().train_timesteps(); ++t) {
      compose(weight, variance, process.one_step(t));
      const GaussianKernel jump = process.marginal(t);
      REQUIRE(jump.from_x == 0);
      worst =
          std::max({worst, std::abs(weight - jump.from_x0), std::abs(variance - jump.variance)});
    }
    CHECK(worst < 1e-12);
  });
}

TEST_CASE("A step is N(sqrt(1 - beta) x, beta)") {
  const ForwardDiffusion<> process{NoiseSchedule<>::scaled_linear()};
  for (int t = 0; t < 1000; ++t) {
    const double beta = process.schedule().betas()[static_cast<std::size_t>(t)];
    CHECK(process.one_step(t).variance == Approx(beta).epsilon(1e-9));
    CHECK(process.one_step(t).from_x == Approx(std::sqrt(1 - beta)).epsilon(1e-12));
    CHECK(process.one_step(t).from_x0 == 0);
  }
}

TEST_CASE("Longer steps compose as well, also between whole timesteps") {
  const ForwardDiffusion<> process{NoiseSchedule<>::squaredcos_cap_v2()};
  double weight = 1, variance = 0, before = -1;
  for (const double t : {3.0, 17.5, 400.25, 999.0}) {
    compose(weight, variance, process.step(before, t));
    CHECK(weight == Approx(process.marginal(t).from_x0).epsilon(1e-12));
    CHECK(variance == Approx(process.marginal(t).variance).epsilon(1e-12));
    before = t;
  }
}

TEST_CASE("The posterior is Bayes' rule") {
  // q(x_s | x_t, x_0) ~ q(x_t | x_s) q(x_s | x_0): precisions add, means are weighed by them.
  for_every_process([](const auto& process) {
    for (const auto& [s, t] : std::vector<std::pair<double, double>>{
             {0, 1}, {10, 11}, {10, 500}, {498, 499}, {20.5, 333.3}, {3, 998}}) {
      const GaussianKernel prior = process.marginal(s), step = process.step(s, t);
      const double precision = 1 / prior.variance + step.from_x * step.from_x / step.variance;
      const GaussianKernel posterior = process.posterior(s, t);
      CAPTURE(s, t);
      CHECK(posterior.variance == Approx(1 / precision).epsilon(1e-9));
      CHECK(posterior.from_x0 == Approx(prior.from_x0 / prior.variance / precision).epsilon(1e-9));
      CHECK(posterior.from_x == Approx(step.from_x / step.variance / precision).epsilon(1e-9));
    }
  });
}

TEST_CASE("The posterior in the words of the DDPM paper") {
  const ForwardDiffusion<> process{NoiseSchedule<>::linear()};
  const auto abar = process.schedule().alphas_cumprod();
  const auto betas = process.schedule().betas();
  for (std::size_t t = 1; t < 1000; ++t) {
    const GaussianKernel q = process.posterior(static_cast<double>(t) - 1, static_cast<double>(t));
    const double beta = betas[t], rest = 1 - abar[t];
    CHECK(q.from_x0 == Approx(std::sqrt(abar[t - 1]) * beta / rest).epsilon(1e-9));
    CHECK(q.from_x == Approx(std::sqrt(1 - beta) * (1 - abar[t - 1]) / rest).epsilon(1e-9));
    CHECK(q.variance == Approx((1 - abar[t - 1]) / rest * beta).epsilon(1e-9));
  }
  const GaussianKernel end = process.posterior(-1, 0);
  CHECK((end.from_x == 0 && end.from_x0 == 1 && end.variance == 0));
}

TEST_CASE("The ends: clean data and pure noise") {
  const ForwardDiffusion<> process{NoiseSchedule<>::linear({.rescale_zero_terminal_snr = true})};
  CHECK(process.marginal(-1).from_x0 == 1);
  CHECK(process.marginal(-1).variance == 0);
  CHECK(process.snr(-1) == std::numeric_limits<double>::infinity());
  CHECK(process.marginal(999).from_x0 == 0);
  CHECK(process.marginal(999).variance == 1);
  CHECK(process.snr(999) == 0);
  CHECK(process.one_step(999).from_x == 0);
  CHECK(process.one_step(999).variance == 1);
  const GaussianKernel posterior = process.posterior(998, 999);  // x_T says nothing: the marginal
  CHECK(posterior.from_x == 0);
  CHECK(posterior.from_x0 == process.marginal(998).from_x0);
  CHECK(posterior.variance == process.marginal(998).variance);
}

TEST_CASE("SNR is alpha^2 / sigma^2") {
  const ForwardDiffusion<> process{NoiseSchedule<>::linear()};
  for (const double t : {0.0, 1.0, 250.5, 999.0}) {
    const GaussianKernel q = process.marginal(t);
    CHECK(process.snr(t) == Approx(q.from_x0 * q.from_x0 / q.variance).epsilon(1e-12));
  }
  // Published: SNR(T) of the linear schedule is 4.036e-5 (Lin et al. 2023, arXiv 2305.08891, table
  // 1).
  CHECK(process.snr(999) == Approx(4.03599e-5).epsilon(1e-4));
}

// ---- tensors -----------------------------------------------------------------------------------

namespace {

constexpr double times[] = {0, 12, 500.5, 999, 999, 3, -1};

/// One sample per time; a and b are x0 and eps.
template <class T>
void check_tensors(const ShapeOf<T>& shape, double tolerance) {
  const ForwardDiffusion<> process{NoiseSchedule<>::scaled_linear()};
  const std::size_t total = blocks_of<T>(shape, true).total(), size = total / std::size(times);
  support::Random random(1);
  const T x0 = support::tensor_of<T>(shape, random.normals(total));
  const T eps = support::tensor_of<T>(shape, random.normals(total));
  const T noised = process.add_noise(x0, eps, times);
  Vector expected;
  for (std::size_t i = 0; i < total; ++i) {
    const GaussianKernel q = process.marginal(times[i / size]);
    expected.push_back(q.from_x0 * static_cast<double>(x0.data()[i]) +
                       std::sqrt(q.variance) * static_cast<double>(eps.data()[i]));
  }
  INFO(shape_text(shape));
  CHECK(support::relative_error(support::values_of(noised), expected) < tolerance);

  T in_x0 = x0, in_eps = eps, into = StateTraits<T>::make(shape);
  process.add_noise(in_x0, eps, times, in_x0);
  process.add_noise(x0, in_eps, times, in_eps);
  process.add_noise(x0, eps, times, into);
  CHECK(support::same_bits(in_x0, noised));
  CHECK(support::same_bits(in_eps, noised));
  CHECK(support::same_bits(into, noised));

  // Targets lead back to x0 and eps by the conversion of their type, where it is finite.
  for (const PredictionType type : all_prediction_types) {
    if (type == PredictionType::score) continue;  // times hold clean data: see below
    const T f = process.training_target(type, x0, eps, times);
    Vector x0_back, eps_back, x0_true, eps_true;
    for (std::size_t i = 0; i < total; ++i) {
      const double t = times[i / size], x = noised.data()[i], y = f.data()[i];
      const Knot at = t == -1 ? Knot{-1, 1, 0} : process.schedule().knot(t);
      const Conversion c = conversion(type, at);
      if (std::isfinite(c.a) && std::isfinite(c.b)) {
        x0_back.push_back(c.a * x + c.b * y);
        x0_true.push_back(x0.data()[i]);
      }
      if (std::isfinite(c.p) && std::isfinite(c.q)) {
        eps_back.push_back(c.p * x + c.q * y);
        eps_true.push_back(eps.data()[i]);
      }
    }
    INFO(name(type));
    CHECK(x0_true.size() == total);
    CHECK(eps_true.size() == (type == PredictionType::sample ? total - size : total));
    // At 999, alpha = 0.068: rounding is divided by it, at 0 by sigma = 0.029.
    CHECK(support::relative_error(x0_back, x0_true) < 50 * tolerance);
    CHECK(support::relative_error(eps_back, eps_true) < 50 * tolerance);
  }
}

}  // namespace

TEST_CASE("Noising and training targets, one timestep per sample, in any rank and layout") {
  check_tensors<Eigen::Tensor<double, 1, Eigen::RowMajor>>({7}, 1e-14);
  check_tensors<Eigen::Tensor<double, 2, Eigen::RowMajor>>({7, 33}, 1e-14);
  check_tensors<Eigen::Tensor<double, 4, Eigen::RowMajor>>({7, 2, 3, 5}, 1e-14);
  check_tensors<Eigen::Tensor<double, 2>>({33, 7}, 1e-14);
  check_tensors<Eigen::Tensor<double, 3>>({5, 16, 7}, 1e-14);
  check_tensors<Eigen::Tensor<float, 4, Eigen::RowMajor>>({7, 2, 3, 5}, 5e-7);
}

TEST_CASE("Training targets by their definitions") {
  using Tensor = Eigen::Tensor<double, 2, Eigen::RowMajor>;
  const ForwardDiffusion<> process{NoiseSchedule<>::linear()};
  const Tensor x0 = support::tensor_of<Tensor>({1, 1}, {0.5});
  const Tensor eps = support::tensor_of<Tensor>({1, 1}, {-1.25});
  const std::vector<double> t = {600};
  const double alpha = std::sqrt(process.schedule().alphas_cumprod()[600]);
  const double sigma = std::sqrt(1 - alpha * alpha);
  const auto target = [&](PredictionType type) {
    return process.training_target(type, x0, eps, t)(0, 0);
  };
  CHECK(target(PredictionType::epsilon) == -1.25);
  CHECK(target(PredictionType::sample) == 0.5);
  CHECK(target(PredictionType::v) == Approx(alpha * -1.25 - sigma * 0.5).epsilon(1e-12));
  CHECK(target(PredictionType::flow) == -1.75);
  CHECK(target(PredictionType::score) == Approx(1.25 / sigma).epsilon(1e-12));
}

TEST_CASE("Maps are noised in their owner's memory") {
  using Tensor = Eigen::Tensor<double, 2, Eigen::RowMajor>;
  using Map = Eigen::TensorMap<Tensor>;
  const ForwardDiffusion<float> process{NoiseSchedule<float>::linear()};
  Vector a = {1, 2, 3, 4}, b = {0.5, -0.5, 1, -1};
  Map x0(a.data(), 2, 2);
  const Map eps(b.data(), 2, 2);
  const std::vector<double> t = {100, 900};
  process.add_noise(x0, eps, t, x0);
  const Knot late = process.schedule().knot(900);
  CHECK(a[3] == Approx(late.alpha * 4 - late.sigma).epsilon(1e-14));
}

TEST_CASE("Data and noise may lie in memory that is const") {
  using Tensor = Eigen::Tensor<float, 2, Eigen::RowMajor>;
  using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  const std::vector<float> a = {1, 2, 3, 4}, b = {-1, 1, 2, -2};
  const ForwardDiffusion<> process{NoiseSchedule<>::linear()};
  const Eigen::TensorMap<const Tensor> tensor(a.data(), 2, 2);
  const Eigen::Map<const Matrix> matrix(b.data(), 2, 2);
  const StateView<const float, 2> view(b.data(), {2, 2});
  const std::vector<double> t = {100, 900}, each = {100, 100, 900, 900};
  const Tensor expected = process.add_noise(tensor, view, t);
  for (Eigen::Index i = 0; i < 4; ++i) {
    const auto k = static_cast<std::size_t>(i);
    const Knot knot = process.schedule().knot(each[k]);
    CHECK(expected.data()[i] == Approx(knot.alpha * a[k] + knot.sigma * b[k]).epsilon(1e-6));
  }
  Tensor out(2, 2);
  process.add_noise(tensor, matrix, t, out);
  CHECK(support::same_bits(out, expected));
  add_noise(tensor, view, process.schedule().knot(100), out);
  CHECK(out(0, 1) == expected(0, 1));

  const std::span<const float> flat(a), eps(b);
  const std::vector<float> spans =
      process.training_target(PredictionType::epsilon, flat, eps, each);
  CHECK(spans == b);
  const Eigen::Map<const Eigen::ArrayXf> array(a.data(), 4);
  const Eigen::ArrayXf noisy = process.add_noise(array, eps, each);
  for (Eigen::Index i = 0; i < 4; ++i) CHECK(noisy[i] == expected.data()[i]);
}

TEST_CASE("What does not fit is refused by name") {
  using Tensor = Eigen::Tensor<double, 2, Eigen::RowMajor>;
  const ForwardDiffusion<> process{NoiseSchedule<>::linear()};
  Tensor x(2, 3), other(2, 4);
  x.setZero();
  other.setZero();
  const std::vector<double> two = {1, 2}, three = {1, 2, 3}, late = {1, 1000}, early = {1, -2};
  const std::vector<double> nan = {1, std::numeric_limits<double>::quiet_NaN()}, clean = {1, -1};
  CHECK_THROWS_WITH(process.add_noise(x, x, three),
                    contains("3 timesteps") && contains("batch of 2"));
  CHECK_THROWS_WITH(process.add_noise(x, other, two), contains("2x4") && contains("2x3"));
  CHECK_THROWS_WITH(process.add_noise(x, x, two, other), contains("2x4") && contains("2x3"));
  CHECK_THROWS_WITH(process.add_noise(x, x, late), contains("1000") && contains("999"));
  CHECK_THROWS_WITH(process.add_noise(x, x, early), contains("-2") && contains("[0, 999]"));
  CHECK_THROWS_WITH(process.add_noise(x, x, nan), contains("nan"));
  CHECK_THROWS_WITH(process.training_target(PredictionType::score, x, x, clean), contains("sigma"));
  CHECK_THROWS_WITH(process.step(5, 5), contains("s = 5") && contains("t = 5"));
  CHECK_THROWS_WITH(process.posterior(6, 5), contains("s = 6") && contains("t = 5"));
  CHECK_THROWS_AS(process.one_step(1000), Error);
  CHECK_THROWS_AS(process.one_step(-1), Error);
  CHECK_THROWS_AS(process.marginal(999.5), Error);
}
