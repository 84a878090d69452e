// The variational bound: its terms against published values, quadrature and closed forms; for
// Gaussian data its expectation is known, so that its distance from -log p is too.

#include "catch.hpp"
#include "support.hpp"

#include <diffusion/forward/variational_bound.hpp>
#include <diffusion/noise/philox.hpp>
#include <diffusion/noise/recorded.hpp>
#include <diffusion/noise/torch_cpu_noise.hpp>
#include <diffusion/schedule/continuous.hpp>
#include <diffusion/schedule/noise_schedule.hpp>
#include <diffusion/schedule/schedule.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numbers>
#include <span>
#include <string>
#include <utility>
#include <vector>

using namespace diffusion;
using support::Vector;
using Tensor = support::RowMajor<double, 3>;

namespace {

/// Data N(mu, s^2) in every element, with what is known of it.
struct Gaussian {
  double mu = 0.2, s = 0.6;

  double state_variance(const Knot& at) const {
    return at.alpha * at.alpha * s * s + at.sigma * at.sigma;
  }
  /// Var[x0 | x_t], the least error of an estimate of x0.
  double error(const Knot& at) const { return s * s * at.sigma * at.sigma / state_variance(at); }
  double mean_square() const { return mu * mu + s * s; }
  /// E[-log p(x0)].
  double entropy() const { return std::log(2 * std::numbers::pi * std::numbers::e * s * s) / 2; }
  double nll(double x) const {
    return (std::log(2 * std::numbers::pi * s * s) + (x - mu) * (x - mu) / (s * s)) / 2;
  }
  double x0(double x, const Knot& at) const {
    return mu + at.alpha * s * s / state_variance(at) * (x - at.alpha * mu);
  }

  Vector errors(const VariationalBound& bound) const {
    Vector list;
    for (const Knot& level : bound.levels()) list.push_back(error(level));
    return list;
  }
};

/// The levels of a schedule in continuous time, T even steps of it.
template <class S>
std::vector<Knot> even_levels(const S& schedule, int count) {
  std::vector<Knot> levels;
  for (int i = 1; i <= count; ++i)
    levels.push_back(knot_at(schedule, static_cast<double>(i) / count));
  return levels;
}

/// KL(N(m, v) || N(m', v')).
double kl(double m, double v, double m2, double v2) {
  return (v / v2 - 1 - std::log(v / v2) + (m - m2) * (m - m2) / v2) / 2;
}

/// What the bound of an exact denoiser loses, in expectation, where step variances are `model`: the
/// true p(x_s | x_t) of Gaussian data is Gaussian, with a variance of its own, so every step loses
/// the divergence between two Gaussians of one mean. From Bayes' rule, not from the posterior.
template <class ModelVariance>
double expected_gap(const Gaussian& data, const std::vector<Knot>& levels,
                    const ModelVariance& model) {
  const Knot& last = levels.back();
  double gap = kl(last.alpha * data.mu, data.state_variance(last), 0, 1);
  for (std::size_t i = 0; i < levels.size(); ++i) {
    const Knot from = levels[i], to = i == 0 ? Knot{0, 1, 0} : levels[i - 1];
    const double ratio = from.alpha / to.alpha;  // x_t = ratio x_s + fresh noise
    const double fresh = from.sigma * from.sigma - ratio * ratio * to.sigma * to.sigma;
    const double precision = 1 / data.state_variance(to) + ratio * ratio / fresh;
    gap += kl(0, 1 / precision, 0, model(i, fresh, to, from));
  }
  return gap;
}

}  // namespace

TEST_CASE("The prior term of known schedules") {
  // Published order: DDPM, arXiv 2006.11239, section 4, about 1e-5 bits a dimension. Here for data
  // spread evenly over [-1, 1], E[x0^2] = 1/3.
  const auto prior = [](const NoiseSchedule<>& schedule) {
    return bits(prior_kl(schedule.knot(schedule.last_time()), 1.0 / 3));
  };
  CHECK(prior(NoiseSchedule<>::linear()) == Approx(9.705e-6).epsilon(1e-4));
  CHECK(prior(NoiseSchedule<>::squaredcos_cap_v2()) == Approx(5.8e-10).epsilon(1e-2));
  CHECK(prior(NoiseSchedule<>::scaled_linear({.beta_start = 0.00085, .beta_end = 0.012})) ==
        Approx(1.13e-3).epsilon(5e-3));
  CHECK(prior(NoiseSchedule<>::linear({.rescale_zero_terminal_snr = true})) == 0);
  // By the definition, where it is large enough for it.
  const Knot early{0, 0.8, 0.6};
  CHECK(prior_kl(early, 0.25, 1.5) == Approx(kl(0.8 * 0.5, 0.36, 0, 2.25)).epsilon(1e-14));
}

TEST_CASE("A step's KL is that of the posterior and the model") {
  const auto schedule = NoiseSchedule<>::linear();
  const auto betas = schedule.betas();
  const auto abar = schedule.alphas_cumprod();
  for (const std::size_t t : {1u, 2u, 50u, 500u, 999u}) {
    const BoundStep step(schedule.knot(static_cast<double>(t)),
                         schedule.knot(static_cast<double>(t) - 1));
    const double small = betas[t] * (1 - abar[t - 1]) / (1 - abar[t]);
    const double on_x0 = std::sqrt(abar[t - 1]) * betas[t] / (1 - abar[t]);
    CAPTURE(t);
    CHECK(std::exp(step.log_small) == Approx(small).epsilon(1e-9));
    CHECK(std::exp(step.log_large) == Approx(betas[t]).epsilon(1e-9));
    const double off = 0.3;
    CHECK(step.kl(off * off, step.log_small) ==
          Approx(on_x0 * on_x0 * off * off / small / 2).epsilon(1e-9));
    CHECK(step.kl(off * off, step.log_large) ==
          Approx(kl(on_x0 * off, small, 0, betas[t])).epsilon(1e-7));
    CHECK(step.kl(0, step.log_small) == 0);
  }
  // For fixed_small it is half the growth of the SNR times the error (Kingma et al. 2021, eq. 13).
  const Knot from = schedule.knot(300), to = schedule.knot(250);
  CHECK(BoundStep(from, to).kl(0.7, BoundStep(from, to).log_small) ==
        Approx(0.5 * (std::exp(to.log_snr()) - std::exp(from.log_snr())) * 0.7).epsilon(1e-12));
}

TEST_CASE("The discretised decoder is a distribution over the values") {
  for (const double deviation : {3e-4, 0.01, 0.3, 5.0})
    for (const double mean : {-1.4, -1.0, -0.3, 0.77, 1.0}) {
      double total = 0;
      for (int value = 0; value < 256; ++value)
        total +=
            std::exp(-discretised_normal_nll(value / 127.5 - 1, mean, 2 * std::log(deviation)));
      CAPTURE(deviation, mean);
      CHECK(total == Approx(1).epsilon(1e-11));
    }
  // Another grid: 3 values in [0, 2].
  double total = 0;
  for (const double x : {0.0, 1.0, 2.0})
    total += std::exp(-discretised_normal_nll(x, 0.4, std::log(0.5), 1, 0, 2));
  CHECK(total == Approx(1).epsilon(1e-14));
  // A narrow bin has the density times its width.
  CHECK(discretised_normal_nll(0.2, 0.5, std::log(0.09), 1e-5) ==
        Approx(normal_nll(0.09, std::log(0.09)) - std::log(1e-5)).epsilon(1e-9));
  // Far out: finite, and by the tail's leading terms, z = (distance to the near edge) / sigma.
  const double sigma = 1e-3, z = (1.5 - 1.0 / 255) / sigma;
  CHECK(discretised_normal_nll(-0.5, 1, 2 * std::log(sigma)) ==
        Approx(z * z / 2 + std::log(z) + std::log(2 * std::numbers::pi) / 2).epsilon(1e-9));
  CHECK(discretised_normal_nll(-1, 1, 2 * std::log(sigma)) > 1e6);
  CHECK(discretised_normal_nll(1, 1, 2 * std::log(sigma)) < 1e-4);
}

TEST_CASE("For Gaussian data the bound is above -log p by the divergence of the steps") {
  // An identity, at any number of steps: E[bound] - E[-log p] = KL(p(x_T) || N(0, 1)) + the sum of
  // the divergences of the true steps and the model's.
  for (const Gaussian data : {Gaussian{0.2, 0.6}, Gaussian{0, 1}, Gaussian{-1, 1.7}})
    for (const int count : {1, 2, 10, 100}) {
      const auto levels = even_levels(VpLinear(), count);
      const auto check = [&](VarianceType type, const auto& model) {
        const VariationalBound bound(levels, {.variance = type, .decoder = Decoder::continuous});
        const BoundTerms terms = bound.expected(data.errors(bound), data.mean_square());
        REQUIRE(terms.steps.size() == static_cast<std::size_t>(count) - 1);
        const double gap = terms.total() - data.entropy();
        CAPTURE(data.mu, data.s, count, gap);
        CHECK(gap > -1e-12);
        CHECK(gap == Approx(expected_gap(data, levels, model)).epsilon(1e-7).margin(1e-12));
      };
      const auto large = [](std::size_t, double fresh, const Knot&, const Knot&) { return fresh; };
      const auto small_of = [](double fresh, const Knot& to, const Knot& from) {
        return fresh * to.sigma * to.sigma / (from.sigma * from.sigma);
      };
      check(VarianceType::fixed_large, large);
      check(VarianceType::fixed_small,
            [&](std::size_t i, double fresh, const Knot& to, const Knot& from) {
              if (i > 0) return small_of(fresh, to, from);
              if (levels.size() == 1) return fresh;
              const double ratio = levels[1].alpha / levels[0].alpha;
              const double sigma = levels[0].sigma;
              const double next = levels[1].sigma * levels[1].sigma - ratio * ratio * sigma * sigma;
              return small_of(next, levels[0], levels[1]);
            });
    }
}

TEST_CASE("The bound comes down to -log p as the steps grow more, like 1 / T") {
  // As far as the levels reach: what is left is the divergence of x_T from the prior.
  const Gaussian data;
  const auto gap = [&](const auto& schedule, int count, VarianceType type) {
    const VariationalBound bound(even_levels(schedule, count),
                                 {.variance = type, .decoder = Decoder::continuous});
    const Knot last = bound.levels().back();
    return bound.expected(data.errors(bound), data.mean_square()).total() - data.entropy() -
           kl(last.alpha * data.mu, data.state_variance(last), 0, 1);
  };
  const auto check = [&](const auto& schedule, const std::string& name) {
    INFO(name);
    const auto large = VarianceType::fixed_large;
    const double g10 = gap(schedule, 10, large), g100 = gap(schedule, 100, large),
                 g1000 = gap(schedule, 1000, large), g4000 = gap(schedule, 4000, large);
    CAPTURE(g10, g100, g1000, g4000);
    CHECK(g10 > g100);
    CHECK(g100 / g1000 == Approx(10).epsilon(0.1));
    CHECK(g1000 / g4000 == Approx(4).epsilon(0.02));
    CHECK(g4000 < 1e-3);
  };
  check(VpLinear(), "linear");
  check(VpCosine(), "cosine");
}

TEST_CASE("fixed_small keeps a distance from -log p however many steps there are") {
  // Near the data sigma_i^2 grows like i where beta > 0 at t = 0; step i loses (1/(i-1) - log(i /
  // (i-1))) / 2 there, which sums to half of Euler's constant, and the decoder half of log 2 - 1/2
  // +
  // ... with the variance of the second step, half of sigma_1^2.
  const Gaussian data;
  double before = 0;
  const double limit = std::numbers::egamma / 2 + (2 - 1 - std::log(2.0)) / 2;
  for (const int count : {100, 1000, 10000, 100000}) {
    const VariationalBound bound(even_levels(VpLinear(), count), {.decoder = Decoder::continuous});
    const BoundTerms terms = bound.expected(data.errors(bound), data.mean_square());
    const double gap = terms.total() - terms.prior - data.entropy();
    CAPTURE(count, gap, limit);
    if (count > 100) CHECK(std::abs(gap - limit) < std::abs(before - limit) / 2);
    before = gap;
  }
  CHECK(before == Approx(limit).epsilon(0.01));
}

// ---- over tensors ------------------------------------------------------------------------------

namespace {

/// The exact network of Gaussian data, for any prediction type.
struct ExactNetwork {
  Gaussian data;
  template <class X, class Out>
  void operator()(const X& x, const Query& q, Out& out) const {
    const Knot at{q.t, q.alpha, q.sigma};
    const auto [on_x0, on_eps] = support::definition(q.prediction_type, at.alpha, at.sigma);
    for (Eigen::Index i = 0; i < x.size(); ++i) {
      const double z = static_cast<double>(x.data()[i]), d = data.x0(z, at);
      out.data()[i] = static_cast<std::decay_t<decltype(out.data()[0])>>(
          on_x0 * d + on_eps * (z - at.alpha * d) / at.sigma);
    }
  }
};

Tensor gaussian_data(const Gaussian& data, Eigen::Index batch, Eigen::Index size) {
  Tensor x(batch, 1, size);
  support::Random random(77);
  for (Eigen::Index i = 0; i < x.size(); ++i) x.data()[i] = data.mu + data.s * random.normal();
  return x;
}

}  // namespace

TEST_CASE("The sampled bound agrees with its expectation, and is above -log p") {
  const Gaussian data;
  const Eigen::Index batch = 300, size = 200;
  const Tensor x0 = gaussian_data(data, batch, size);
  for (const VarianceType type : {VarianceType::fixed_small, VarianceType::fixed_large}) {
    const VariationalBound bound(even_levels(VpLinear(), 40),
                                 {.variance = type, .decoder = Decoder::continuous});
    const auto terms = bound.estimate(x0, ExactNetwork{data}, PhiloxNoise{3});
    REQUIRE(terms.size() == 300);
    // Bound minus -log p of the very sample: its mean over samples is the gap.
    Vector gaps;
    double mean = 0, variance = 0;
    for (std::size_t i = 0; i < terms.size(); ++i) {
      double nll = 0;
      for (Eigen::Index k = 0; k < size; ++k)
        nll += data.nll(x0(static_cast<Eigen::Index>(i), 0, k)) / static_cast<double>(size);
      gaps.push_back(terms[i].total() - nll);
      mean += gaps.back() / 300;
    }
    for (const double gap : gaps) variance += (gap - mean) * (gap - mean) / 299;
    const double standard_error = std::sqrt(variance / 300);
    const double expected =
        bound.expected(data.errors(bound), data.mean_square()).total() - data.entropy();
    CAPTURE(mean, expected, standard_error);
    CHECK(standard_error < 0.01);
    CHECK(std::abs(mean - expected) < 4 * standard_error);
    CHECK(mean > 2 * standard_error);
  }
}

TEST_CASE("A learned variance that is right leaves the prior term only, at any number of steps") {
  const Gaussian data;
  const Tensor x0 = gaussian_data(data, 100, 60);
  for (const bool range : {false, true})
    for (const int count : {2, 7}) {
      const auto levels = even_levels(VpLinear(), count);
      const VariationalBound bound(
          levels, {.variance = range ? VarianceType::learned_range : VarianceType::learned,
                   .decoder = Decoder::continuous,
                   .prediction_type = PredictionType::v});
      const auto network = [&](const Tensor& x, const Query& q, Tensor& out) {
        const std::size_t i = levels.size() - 1 - static_cast<std::size_t>(q.step);
        const Knot from = levels[i], to = i == 0 ? Knot{0, 1, 0} : levels[i - 1];
        const double ratio = from.alpha / to.alpha;
        const double fresh = from.sigma * from.sigma - ratio * ratio * to.sigma * to.sigma;
        const double right = 1 / (1 / data.state_variance(to) + ratio * ratio / fresh);
        double told = right;
        if (range) {  // where between the two the logarithm lies
          const double large = i == 0 ? std::log(fresh) : bound.steps()[i - 1].log_large;
          const double small = bound.steps()[i == 0 ? 0 : i - 1].log_small;
          told = 2 * (std::log(right) - small) / (large - small) - 1;
        }
        Tensor f(x.dimensions());
        ExactNetwork{data}(x, q, f);
        out.chip(0, 1) = f.chip(0, 1);
        out.chip(1, 1).setConstant(told);
      };
      const auto terms = bound.estimate(x0, network, PhiloxNoise{8});
      double mean = 0, squares = 0;
      for (std::size_t i = 0; i < terms.size(); ++i) {
        double nll = 0;
        for (Eigen::Index k = 0; k < 60; ++k)
          nll += data.nll(x0(static_cast<Eigen::Index>(i), 0, k)) / 60;
        const double gap = terms[i].total() - nll;
        mean += gap / 100;
        squares += gap * gap / 100;
      }
      const Knot& last = levels.back();
      const double left = kl(last.alpha * data.mu, data.state_variance(last), 0, 1);
      const double standard_error = std::sqrt((squares - mean * mean) / 99);
      CAPTURE(range, count, mean, left, standard_error);
      CHECK(standard_error < 0.02);
      CHECK(std::abs(mean - left) < 4 * standard_error);
    }
}

TEST_CASE("Every prediction type gives the same terms, and so does every state and source") {
  const Gaussian data{0, 0.4};
  const Tensor x0 = gaussian_data(data, 3, 17);
  BoundOptions options{.variance = VarianceType::fixed_large, .decoder = Decoder::continuous};
  const auto levels = even_levels(VpLinear(), 5);
  const auto reference =
      VariationalBound(levels, options).estimate(x0, ExactNetwork{data}, PhiloxNoise{5});
  const auto compare = [&](const std::vector<BoundTerms>& terms, double tolerance) {
    REQUIRE(terms.size() == 3);
    for (std::size_t i = 0; i < 3; ++i) {
      CHECK(terms[i].prior == Approx(reference[i].prior).epsilon(tolerance));
      CHECK(terms[i].decoder == Approx(reference[i].decoder).margin(tolerance));
      for (std::size_t k = 0; k < 4; ++k)
        CHECK(terms[i].steps[k] == Approx(reference[i].steps[k]).epsilon(tolerance));
      CHECK(terms[i].total() == Approx(terms[i].prior + terms[i].steps[0] + terms[i].steps[1] +
                                       terms[i].steps[2] + terms[i].steps[3] + terms[i].decoder));
    }
  };
  for (const PredictionType type : all_prediction_types) {
    options.prediction_type = type;
    INFO(name(type));
    compare(VariationalBound(levels, options).estimate(x0, ExactNetwork{data}, PhiloxNoise{5}),
            1e-10);
  }
  options.prediction_type = PredictionType::epsilon;
  const VariationalBound bound(levels, options);

  Eigen::MatrixXf columns(17, 3);
  Eigen::Tensor<float, 2> reversed(17, 3);
  std::vector<double> memory(x0.data(), x0.data() + x0.size());
  for (Eigen::Index i = 0; i < x0.size(); ++i)
    columns.data()[i] = reversed.data()[i] = static_cast<float>(x0.data()[i]);
  compare(bound.estimate(columns, ExactNetwork{data}, PhiloxNoise{5}), 1e-4);
  compare(bound.estimate(reversed, ExactNetwork{data}, PhiloxNoise{5}), 1e-4);
  using Map = Eigen::TensorMap<support::RowMajor<double, 2>>;
  const auto on_maps = [&](const Map& x, const Query& q, support::RowMajor<double, 2>& out) {
    ExactNetwork{data}(x, q, out);
  };
  compare(bound.estimate(Map(memory.data(), 3, 17), on_maps, PhiloxNoise{5}), 1e-12);

  // A sequential source gives the noisiest level first.
  std::vector<Vector> tensors;
  for (std::size_t level = 5; level-- > 0;) {
    Vector tensor(3 * 17);
    for (std::size_t sample = 0; sample < 3; ++sample)
      PhiloxNoise{5}.fill(sample, level, 0, std::span<double>(tensor).subspan(sample * 17, 17));
    tensors.push_back(tensor);
  }
  RecordedNoise recorded(tensors);
  compare(bound.estimate(x0, ExactNetwork{data}, recorded), 1e-12);
  CHECK(recorded.remaining() == 0);

  // Unbatched, it is one sample with the mean of the three.
  options.batch = false;
  const auto whole =
      VariationalBound(levels, options).estimate(x0, ExactNetwork{data}, TorchCpuNoise{5});
  REQUIRE(whole.size() == 1);
  CHECK(whole[0].prior ==
        Approx((reference[0].prior + reference[1].prior + reference[2].prior) / 3));
}

TEST_CASE("The discretised bound: bits of a lossless code") {
  // 8-bit data that the network knows: every step is free, and the decoder's bin has it all.
  Tensor x0(2, 3, 4);
  for (Eigen::Index i = 0; i < x0.size(); ++i)
    x0.data()[i] = static_cast<double>(37 * i % 256) / 127.5 - 1;
  const VariationalBound bound(
      NoiseSchedule<>::linear(),
      {.clipping = Clipping::range(), .prediction_type = PredictionType::sample});
  int asked = 0;
  const auto knows = [&](const Tensor&, double t, Tensor& out) {
    CHECK(t == 999 - asked++);
    out = x0;
  };
  const auto known = bound.estimate(x0, knows, PhiloxNoise{1});
  CHECK(asked == 1000);
  for (const BoundTerms& terms : known) {
    CHECK(*std::max_element(terms.steps.begin(), terms.steps.end()) == 0);
    // Half a bin is 0.53 of the decoder's deviation, sqrt of half of beta_0.
    const double scale = 1 / 255.0 / std::exp(bound.steps()[0].log_small / 2);
    CHECK(bits(terms.decoder) < -std::log2(std::erf(scale / std::sqrt(2.0))) + 1e-9);
    CHECK(terms.decoder > 0);
  }
  // Estimates are clipped: one that is far out counts as the end of the range.
  const auto far = [&](const Tensor&, double, Tensor& out) { out.setConstant(50); };
  const auto edge = [&](const Tensor&, double, Tensor& out) { out.setConstant(1); };
  const auto clipped = bound.estimate(x0, far, PhiloxNoise{1});
  CHECK(clipped[0].total() == bound.estimate(x0, edge, PhiloxNoise{1})[0].total());
  CHECK(clipped[0].total() > known[0].total());
  // The decoder's variance can be given.
  const VariationalBound wide(
      NoiseSchedule<>::linear(),
      {.decoder_variance = 0.04, .prediction_type = PredictionType::sample});
  double expected = 0;
  for (Eigen::Index i = 0; i < 12; ++i)
    expected += discretised_normal_nll(x0.data()[i], x0.data()[i], std::log(0.04)) / 12;
  asked = 0;
  CHECK(wide.estimate(x0, knows, PhiloxNoise{1})[0].decoder == Approx(expected).epsilon(1e-12));
}

TEST_CASE("What does not fit is refused by name") {
  const auto linear = NoiseSchedule<>::linear({.train_timesteps = 10});
  CHECK_THROWS_WITH(VariationalBound(std::vector<Knot>{}), contains("0 levels"));
  CHECK_THROWS_WITH(VariationalBound({{0, 1, 0}, {1, 0.5, 0.5}}), contains("sigma = 0"));
  CHECK_THROWS_WITH(VariationalBound({{1, 0.5, 0.5}, {0, 0.9, 0.1}}), contains("less noise"));
  CHECK_THROWS_WITH(VariationalBound({{0, 0, 1}, {1, 0, 2}}), contains("less noise"));
  CHECK_THROWS_WITH(VariationalBound(linear, {.decoder_variance = -1}),
                    contains("decoder_variance is -1"));
  CHECK_THROWS_WITH(VariationalBound(linear, {.low = 1, .high = 1}), contains("low is 1"));
  CHECK_THROWS_WITH(VariationalBound(linear, {.values = 1}), contains("values is 1"));
  CHECK_THROWS_WITH(VariationalBound(linear, {.prior_scale = 0}), contains("prior_scale is 0"));
  CHECK_THROWS_WITH(VariationalBound(linear, {.clipping = Clipping::dynamic()}),
                    contains("dynamic"));
  CHECK_THROWS_AS(VariationalBound(linear, {.variance = static_cast<VarianceType>(9)}), Error);
  CHECK_THROWS_WITH(prior_kl({0, 1, 0}, 1), contains("sigma"));
  CHECK_THROWS_WITH(prior_kl({0, 0.1, 1}, -1), contains("mean_square is -1"));
  CHECK_THROWS_WITH(prior_kl({0, 0.1, 1}, std::nan("")), contains("mean_square"));

  const VariationalBound bound(linear);
  Tensor x(2, 2, 3), none(0, 2, 3);
  x.setZero();
  const auto network = [](const Tensor& in, double, Tensor& out) { out = in; };
  CHECK_THROWS_WITH(bound.estimate(none, network, PhiloxNoise{1}), contains("0x2x3"));
  CHECK_THROWS_WITH(bound.expected(Vector(10), 1), contains("continuous"));
  x(0, 0, 0) = 255;
  CHECK_THROWS_WITH(bound.estimate(x, network, PhiloxNoise{1}),
                    contains("255") && contains("[-1, 1]"));
  x.setZero();
  RecordedNoise short_of({Vector(12)});
  CHECK_THROWS_WITH(bound.estimate(x, network, short_of), contains("10 noise tensors"));
  const auto grows = [](const Tensor&, double, Tensor& out) {
    out.resize(1, 1, 1);
    out.setZero();
  };
  CHECK_THROWS_WITH(bound.estimate(x, grows, PhiloxNoise{1}), contains("1x1x1"));
  struct Small {
    std::array<Eigen::Index, 3> output_shape(const std::array<Eigen::Index, 3>&) const {
      return {2, 1, 3};
    }
    void operator()(const Tensor&, double, Tensor& out) const { out.setZero(); }
  };
  CHECK_THROWS_WITH(bound.estimate(x, Small{}, PhiloxNoise{1}), contains("2x1x3"));
  const VariationalBound zero_snr(
      NoiseSchedule<>::linear({.train_timesteps = 10, .rescale_zero_terminal_snr = true}));
  CHECK_THROWS_WITH(zero_snr.estimate(x, network, PhiloxNoise{1}),
                    contains("epsilon") && contains("alpha = 0"));
  const VariationalBound fixed(linear, {.decoder = Decoder::continuous});
  CHECK_THROWS_WITH(fixed.expected(Vector(9), 1), contains("9 errors") && contains("10 levels"));
  CHECK_THROWS_WITH(fixed.expected(Vector(10, -0.5), 1), contains("an error is -0.5"));
}
