// Noise schedules: against the reference's tables, closed forms, published values and inverses.

#include <algorithm>
#include <cmath>
#include <fstream>
#include <functional>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <numbers>
#include <random>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "catch.hpp"
#include "diffusion/schedule/continuous.hpp"
#include "diffusion/schedule/noise_schedule.hpp"
#include "diffusion/schedule/schedule.hpp"
#include "refusals.hpp"

using namespace diffusion;
using nlohmann::json;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

const std::map<std::string, BetaSchedule> kinds = {
    {"linear", BetaSchedule::linear},
    {"scaled_linear", BetaSchedule::scaled_linear},
    {"squaredcos_cap_v2", BetaSchedule::squaredcos_cap_v2},
    {"sigmoid", BetaSchedule::sigmoid},
    {"laplace", BetaSchedule::laplace},
    {"exp", BetaSchedule::exp},
    {"quadratic", BetaSchedule::quadratic},
    {"constant", BetaSchedule::constant},
    {"jsd", BetaSchedule::jsd},
};

json golden(const std::string& name) {
  std::ifstream file(std::string(DIFFUSION_GOLDEN_DIR) + "/" + name);
  REQUIRE(file);
  return json::parse(file);
}

// The schedule of a golden case. `betas` is the reference's list, which after an SNR shift, or a
// raised last entry, still belongs to the schedule before it.
template <class Scalar>
struct Reference {
  NoiseSchedule<Scalar> schedule, of_betas;
};

template <class Scalar>
Reference<Scalar> reference(const json& row) {
  const json& config = row["config"];
  if (!config["trained_betas"].is_null()) {
    const auto schedule =
        NoiseSchedule<Scalar>::from_betas(config["trained_betas"].get<std::vector<double>>());
    return {schedule, schedule};
  }
  NoiseScheduleOptions options{.train_timesteps = config["num_train_timesteps"].get<int>(),
                               .beta_start = config["beta_start"].get<double>(),
                               .beta_end = config["beta_end"].get<double>()};
  const BetaSchedule kind = kinds.at(config["beta_schedule"].get<std::string>());
  const bool shifted = config.contains("snr_shift_scale");
  const bool rescaled = config.value("rescale_betas_zero_snr", false);
  options.rescale_zero_terminal_snr = rescaled && !shifted;
  const auto of_betas = NoiseSchedule<Scalar>::make(kind, options);
  options.rescale_zero_terminal_snr = rescaled;
  if (shifted) options.snr_shift_scale = config["snr_shift_scale"].get<double>();
  const std::string scheduler = row["scheduler"];
  if (rescaled && (scheduler.starts_with("Euler") || scheduler.starts_with("DPMSolver")))
    options.terminal_alpha_cumprod = std::ldexp(1.0, -24);
  return {NoiseSchedule<Scalar>::make(kind, options), of_betas};
}

template <class Scalar>
double sum(std::span<const Scalar> values) {
  double total = 0;
  for (const Scalar value : values) total += static_cast<double>(value);
  return total;
}

// Largest |table - expected| / scale(expected) over the entries that the case lists.
template <class Scalar, class Scale>
double worst(const json& row, const char* name, std::span<const Scalar> table, Scale scale) {
  const std::vector<double> expected = row[name].get<std::vector<double>>();
  double error = 0;
  for (std::size_t k = 0; k < expected.size(); ++k) {
    const std::size_t i = row.contains("indices") ? row["indices"][k].get<std::size_t>() : k;
    REQUIRE(i < table.size());
    const double wanted = static_cast<double>(static_cast<Scalar>(expected[k]));
    error = std::max(error, std::abs(static_cast<double>(table[i]) - wanted) / scale(wanted));
  }
  return error;
}

const NoiseScheduleOptions stable_diffusion{
    .train_timesteps = 1000, .beta_start = 0.00085, .beta_end = 0.012};

}  // namespace

TEST_CASE("double tables equal the reference's to 1e-9") {
  const json file = golden("schedules.json");
  const auto one = [](double) { return 1.0; };
  int rows = 0;
  for (const json& row : file["cases"]) {
    if (row["coefficients"] != "float64") continue;
    CAPTURE(row["name"].get<std::string>());
    const auto [schedule, of_betas] = reference<double>(row);
    CHECK(schedule.train_timesteps() == row["config"]["num_train_timesteps"].get<int>());
    CHECK(worst(row, "betas", of_betas.betas(), one) <= 1e-9);
    CHECK(worst(row, "alphas_cumprod", schedule.alphas_cumprod(), one) <= 1e-9);
    if (row.contains("sum_betas")) {
      CHECK(sum(of_betas.betas()) == Approx(row["sum_betas"].get<double>()).epsilon(1e-9));
      CHECK(sum(schedule.alphas_cumprod()) ==
            Approx(row["sum_alphas_cumprod"].get<double>()).epsilon(1e-9));
    }
    ++rows;
  }
  CHECK(rows == 29);
}

TEST_CASE("float tables equal the reference's single-precision ones") {
  const json file = golden("schedules.json");
  const auto relative = [](double expected) { return expected == 0 ? 1.0 : std::abs(expected); };
  std::vector<std::string> inexact;
  int rows = 0;
  for (const json& row : file["cases"]) {
    // CogVideoX makes its tables in double precision in either case: see the test above.
    if (row["coefficients"] != "float32" || row["config"].contains("snr_shift_scale")) continue;
    const std::string name = row["name"];
    CAPTURE(name);
    const auto [schedule, of_betas] = reference<float>(row);
    const double betas = worst(row, "betas", of_betas.betas(), relative);
    const double products = worst(row, "alphas_cumprod", schedule.alphas_cumprod(), relative);
    CHECK(betas <= 1e-7);
    CHECK(products <= 1e-7);
    // Sums over the whole tables, of which the listed entries are only a part. They are of doubles
    // and depend on the order of summation: 1e-14 of them is less than a last bit of an entry.
    const bool exact =
        betas == 0 && products == 0 &&
        sum(of_betas.betas()) == Approx(row["sum_betas"].get<double>()).epsilon(1e-14) &&
        sum(schedule.alphas_cumprod()) ==
            Approx(row["sum_alphas_cumprod"].get<double>()).epsilon(1e-14);
    if (!exact) inexact.push_back(name);
    ++rows;
  }
  // All others are equal bit for bit; in these, exp differs from the reference's in the last bit.
  CHECK(inexact == std::vector<std::string>{"sigmoid_100", "sigmoid_1000"});
  CHECK(rows == 27);
}

TEST_CASE("published levels of noise at the last timestep") {
  // SNR and alpha of arXiv 2305.08891, table 1, in double precision; bits per dimension of the
  // prior term of the variational bound for data with E[x0^2] = 1/3.
  const auto prior_bits = [](const NoiseSchedule<>& schedule) {
    const double product = schedule.alphas_cumprod().back();
    return (product * (1.0 / 3 - 1) - std::log1p(-product)) / 2 / std::numbers::ln2;
  };
  const auto linear = NoiseSchedule<>::linear();
  CHECK(std::exp(linear.log_snr(999)) == Approx(4.03599e-05).epsilon(2e-6));
  CHECK(linear.alpha(999) == Approx(0.0063528).epsilon(1e-5));
  CHECK(prior_bits(linear) == Approx(9.705e-06).epsilon(1e-4));
  const auto cosine = NoiseSchedule<>::squaredcos_cap_v2();
  CHECK(std::exp(cosine.log_snr(999)) == Approx(2.42877e-09).epsilon(2e-6));
  CHECK(cosine.alpha(999) == Approx(4.92825e-05).epsilon(2e-6));
  CHECK(prior_bits(cosine) == Approx(5.8e-10).epsilon(1e-2));
  const auto latent = NoiseSchedule<>::scaled_linear(stable_diffusion);
  CHECK(std::exp(latent.log_snr(999)) == Approx(0.0046819).epsilon(1e-5));
  CHECK(latent.alpha(999) == Approx(0.0682649).epsilon(1e-6));
  CHECK(prior_bits(latent) == Approx(1.13e-3).epsilon(5e-3));
  // The same schedule's sigma / alpha, as k-diffusion prints it.
  CHECK(latent.sigma(0) / latent.alpha(0) == Approx(0.0291672).epsilon(2e-6));
  CHECK(latent.sigma(999) / latent.alpha(999) == Approx(14.6146).epsilon(4e-6));
}

TEST_CASE("times between timesteps, by the logarithm of sigma") {
  // Karras et al.'s 15 sigmas for Stable Diffusion and the times that k-diffusion finds for them,
  // from sigmas of five digits. Interpolation of sigma itself is 0.008 away at the last but one.
  const auto schedule = NoiseSchedule<>::scaled_linear(stable_diffusion);
  const std::vector<double> times = {999,      947.6224, 889.5464, 823.0464, 745.8676,
                                     655.3113, 549.0170, 427.4898, 298.6582, 179.8307,
                                     89.9427,  36.5918,  12.0011,  2.8839,   0};
  const double most = std::exp(-schedule.log_snr(999) / 2);
  const double least = std::exp(-schedule.log_snr(0) / 2);
  for (int i = 0; i < 15; ++i) {
    const double root =
        std::pow(most, 1 / 7.0) + i / 14.0 * (std::pow(least, 1 / 7.0) - std::pow(most, 1 / 7.0));
    CAPTURE(i);
    CHECK(schedule.time(-14 * std::log(root)) ==
          Approx(times[static_cast<std::size_t>(i)]).margin(6e-4));
  }
}

TEST_CASE("closed forms of the discrete schedules") {
  const int count = GENERATE(1, 2, 7, 100, 1000);
  CAPTURE(count);
  NoiseScheduleOptions options{.train_timesteps = count, .beta_start = 0.001, .beta_end = 0.03};
  const auto betas = [&](BetaSchedule kind, int i) {
    return NoiseSchedule<>::make(kind, options).betas()[static_cast<std::size_t>(i)];
  };
  for (int i = 0; i < count; i += std::max(1, count / 9)) {
    CAPTURE(i);
    const double u = count == 1 ? 0 : i / (count - 1.0);
    const double root = std::sqrt(0.001) + u * (std::sqrt(0.03) - std::sqrt(0.001));
    CHECK(betas(BetaSchedule::linear, i) == Approx(0.001 + u * 0.029).epsilon(1e-13));
    CHECK(betas(BetaSchedule::scaled_linear, i) == Approx(root * root).epsilon(1e-13));
    CHECK(betas(BetaSchedule::quadratic, i) == Approx(root * root).epsilon(1e-13));
    CHECK(betas(BetaSchedule::constant, i) == 0.03);
    CHECK(betas(BetaSchedule::sigmoid, i) ==
          Approx(0.001 + 0.029 / (1 + std::exp(6 - 12 * u))).epsilon(1e-12));
  }
  options.max_beta = 1;
  for (int i = 0; i < count; i += std::max(1, count / 9)) {
    CAPTURE(i);
    const auto product = [&](BetaSchedule kind) {
      return NoiseSchedule<>::make(kind, options).alphas_cumprod()[static_cast<std::size_t>(i)];
    };
    const double u = (i + 1.0) / count;
    CHECK(product(BetaSchedule::constant) == Approx(std::pow(0.97, i + 1)).epsilon(1e-12));
    CHECK(product(BetaSchedule::jsd) == Approx(1 - u).margin(1e-12));
    CHECK(product(BetaSchedule::exp) == Approx(std::exp(-12 * u)).epsilon(1e-11));
    const double cosine = VpCosine().alpha(u);
    CHECK(product(BetaSchedule::squaredcos_cap_v2) == Approx(cosine * cosine).margin(1e-12));
    // Laplace: snr = exp of half a Laplace quantile, up to the 1e-6 in the logarithm.
    const auto bar = [](double v) {
      const double tail = 1 - 2 * std::abs(0.5 - v) + 1e-6;
      const double snr = v <= 0.5 ? 1 / std::sqrt(tail) : std::sqrt(tail);
      return std::sqrt(snr / (1 + snr));
    };
    CHECK(product(BetaSchedule::laplace) == Approx(bar(u) / bar(0)).epsilon(1e-11));
  }
}

TEMPLATE_TEST_CASE("every schedule keeps its laws", "", double, float) {
  const double last_bit = std::numeric_limits<TestType>::epsilon();
  for (const auto& [name, kind] : kinds) {
    for (const int variant : {0, 1, 2, 3}) {
      CAPTURE(name, variant);
      NoiseScheduleOptions options{.train_timesteps = 200, .beta_end = 0.05};
      options.rescale_zero_terminal_snr = variant == 1 || variant == 3;
      if (variant == 2) options.snr_shift_scale = 4;
      if (variant == 3) options.terminal_alpha_cumprod = std::ldexp(1.0, -40);
      const auto schedule = NoiseSchedule<TestType>::make(kind, options);
      REQUIRE(schedule.train_timesteps() == 200);
      REQUIRE(schedule.first_time() == 0);
      REQUIRE(schedule.last_time() == 199);
      double product = 1, before = infinity;
      bool products = true, falling = true, unit = true;
      for (int i = 0; i < 200; ++i) {
        const auto k = static_cast<std::size_t>(i);
        const double beta = static_cast<double>(schedule.betas()[k]);
        const double listed = static_cast<double>(schedule.alphas_cumprod()[k]);
        const Knot knot = schedule.knot(i);
        product *= 1 - beta;
        // Near zero SNR the last betas round to almost 1: 1 - beta keeps an absolute precision.
        products = products && std::abs(product - listed) <= 400 * last_bit * (1e-3 + listed);
        product = listed;
        falling = falling && schedule.log_snr(i) < before;
        before = schedule.log_snr(i);
        unit = unit &&
               std::abs(knot.alpha * knot.alpha + knot.sigma * knot.sigma - 1) <= last_bit &&
               knot.t == i && knot.alpha == schedule.alpha(i) && knot.sigma == schedule.sigma(i) &&
               knot.alpha == std::sqrt(listed);
      }
      CHECK(products);
      CHECK(falling);
      CHECK(unit);
    }
  }
}

TEMPLATE_TEST_CASE("time is the inverse of log_snr on tables", "", double, float) {
  std::mt19937 bits(7);
  for (const auto& [name, kind] : kinds) {
    for (const bool zero_snr : {false, true}) {
      CAPTURE(name, zero_snr);
      const auto schedule = NoiseSchedule<TestType>::make(
          kind, {.train_timesteps = 300, .rescale_zero_terminal_snr = zero_snr});
      double worst_time = 0, worst_level = 0;
      for (int i = 0; i < 500; ++i) {
        const double t = i < 300 ? i : 299.0 * static_cast<double>(bits()) / 4294967296.0;
        const double lambda = schedule.log_snr(t);
        worst_time = std::max(worst_time, std::abs(schedule.time(lambda) - t));
        if (lambda > -infinity)
          worst_level = std::max(worst_level, std::abs(schedule.knot(t).log_snr() - lambda));
      }
      CHECK(worst_time <= 1e-9);
      CHECK(worst_level <= 1e-9);
      CHECK(schedule.time(infinity) == 0);
      CHECK(schedule.time(schedule.log_snr(0) + 1) == 0);
      CHECK(schedule.time(-infinity) == 299);
      const bool ends_at_zero = schedule.alphas_cumprod().back() == 0;
      CHECK(ends_at_zero == (zero_snr || kind == BetaSchedule::jsd));
      if (ends_at_zero) {
        CHECK(schedule.log_snr(299) == -infinity);
        CHECK(schedule.alpha(299) == 0);
        CHECK(schedule.sigma(299) == 1);
        CHECK(schedule.alpha(298.5) == Approx(schedule.alpha(298) / 2).epsilon(1e-12));
        CHECK(schedule.time(-1e6) == Approx(299).margin(1e-9));
      } else {
        CHECK(schedule.time(schedule.log_snr(299) - 1) == 299);
      }
    }
  }
}

TEST_CASE("between timesteps log-SNR is linear") {
  const auto schedule = NoiseSchedule<>::scaled_linear(stable_diffusion);
  for (const int i : {0, 1, 500, 998})
    for (const double fraction : {0.001, 0.25, 0.5, 0.999}) {
      const double expected =
          (1 - fraction) * schedule.log_snr(i) + fraction * schedule.log_snr(i + 1);
      CAPTURE(i, fraction);
      CHECK(schedule.log_snr(i + fraction) == Approx(expected).epsilon(1e-12));
      const Knot knot = schedule.knot(i + fraction);
      CHECK(knot.t == i + fraction);
      CHECK(knot.log_snr() == Approx(expected).epsilon(1e-12));
      CHECK(knot.alpha * knot.alpha + knot.sigma * knot.sigma == Approx(1).epsilon(1e-14));
    }
}

TEST_CASE("rescaling to zero terminal SNR is affine in alpha") {
  const auto schedule = NoiseSchedule<>::scaled_linear(stable_diffusion);
  const auto rescaled = schedule.rescaled_to_zero_terminal_snr();
  const double first = schedule.alpha(0), last = schedule.alpha(999);
  for (int t = 0; t < 1000; t += 37) {
    CAPTURE(t);
    CHECK(rescaled.alpha(t) ==
          Approx((schedule.alpha(t) - last) * first / (first - last)).epsilon(1e-11));
  }
  CHECK(rescaled.alpha(0) == Approx(first).epsilon(1e-14));
  CHECK(rescaled.alphas_cumprod().back() == 0);
  CHECK(rescaled.betas().back() == 1);
  const auto twice = rescaled.rescaled_to_zero_terminal_snr();
  for (int t = 0; t < 1000; t += 37)
    CHECK(twice.alpha(t) == Approx(rescaled.alpha(t)).epsilon(1e-11));
  const auto raised = rescaled.with_terminal_alpha_cumprod(std::ldexp(1.0, -24));
  CHECK(raised.alphas_cumprod().back() == std::ldexp(1.0, -24));
  CHECK(raised.alphas_cumprod()[998] == rescaled.alphas_cumprod()[998]);
}

TEST_CASE("shifting divides every SNR") {
  const auto schedule = NoiseSchedule<>::scaled_linear(stable_diffusion);
  for (const double scale : {0.2, 1.0, 3.0, 50.0}) {
    const auto shifted = schedule.snr_shifted(scale);
    for (int t = 0; t < 1000; t += 111) {
      CAPTURE(scale, t);
      CHECK(shifted.log_snr(t) == Approx(schedule.log_snr(t) - std::log(scale)).epsilon(1e-10));
    }
  }
}

TEST_CASE("schedules from lists") {
  const auto schedule = NoiseSchedule<>::from_betas({0.1, 0.2, 0.5, 1});
  CHECK(schedule.train_timesteps() == 4);
  CHECK(schedule.alphas_cumprod()[2] == Approx(0.36).epsilon(1e-15));
  CHECK(schedule.alphas_cumprod()[3] == 0);
  const auto same = NoiseSchedule<>::from_alphas_cumprod({0.9, 0.72, 0.36, 0});
  for (std::size_t i = 0; i < 4; ++i)
    CHECK(same.betas()[i] == Approx(schedule.betas()[i]).epsilon(1e-14));
  const auto one = NoiseSchedule<float>::from_betas({0.25});
  CHECK(one.knot(0) == Knot{0, std::sqrt(0.75), 0.5});
  CHECK(one.time(0) == 0);
}

// ------------------------------------------------------------------------------------------------
// Continuous schedules

TEST_CASE("closed forms of the continuous schedules") {
  for (const double t : {0.0, 1e-6, 0.01, 0.3, 0.5, 0.9, 0.999, 1.0}) {
    CAPTURE(t);
    const double integral = 0.1 * t + 19.9 * t * t / 2;
    CHECK(VpLinear().alpha(t) == Approx(std::exp(-integral / 2)).epsilon(1e-14));
    CHECK(VpLinear().sigma(t) == Approx(std::sqrt(1 - std::exp(-integral))).margin(1e-10));
    const auto root = [](double u) { return std::cos((u + 0.008) / 1.008 * std::numbers::pi / 2); };
    CHECK(VpCosine().alpha(t) == Approx(root(t) / root(0)).margin(1e-14));
    CHECK(VpCosine().sigma(t) ==
          Approx(std::sqrt(1 - std::pow(root(t) / root(0), 2))).margin(1e-9));
    CHECK(VpCosine({.s = 0}).alpha(t) == Approx(std::cos(std::numbers::pi / 2 * t)).margin(1e-14));
    CHECK(VpCosine({.s = 0}).sigma(t) == Approx(std::sin(std::numbers::pi / 2 * t)).margin(1e-14));
    CHECK(VarianceExploding().alpha(t) == 1);
    CHECK(VarianceExploding().sigma(t) == Approx(0.01 * std::pow(5000, t)).epsilon(1e-13));
    CHECK(RectifiedFlow().alpha(t) == 1 - t);
    CHECK(RectifiedFlow().sigma(t) == t);
  }
  CHECK(VpLinear().knot(0) == Knot{0, 1, 0});
  CHECK(VpCosine().knot(0) == Knot{0, 1, 0});
  CHECK(VpCosine().knot(1) == Knot{1, 0, 1});
  CHECK(RectifiedFlow().knot(1) == Knot{1, 0, 1});
  CHECK(VarianceExploding().sigma(0) == 0.01);
  CHECK(VarianceExploding().sigma(1) == 50);
}

TEST_CASE("small noise keeps its digits in the continuous schedules") {
  // To first order in t, far below where 1 - alpha^2 has any digits left.
  const double t = 1e-18;
  CHECK(VpLinear().sigma(t) == Approx(std::sqrt(0.1 * t)).epsilon(1e-14));
  const double quarter = std::numbers::pi / 2 / 1.008;
  CHECK(VpCosine().sigma(t) ==
        Approx(std::sqrt(2 * std::tan(0.008 * quarter) * quarter * t)).epsilon(1e-13));
  CHECK(VpLinear().log_snr(t) == Approx(-std::log(0.1 * t)).epsilon(1e-14));
}

TEMPLATE_TEST_CASE("laws and inverses of the continuous schedules", "", VpLinear, VpCosine,
                   VarianceExploding, RectifiedFlow) {
  const TestType schedule;
  static_assert(Schedule<TestType> && !DiscreteSchedule<TestType>);
  CHECK(schedule.first_time() == 0);
  CHECK(schedule.last_time() == 1);
  double before = infinity;
  for (int i = 0; i <= 1000; ++i) {
    const double t = i / 1000.0;
    CAPTURE(t);
    const double lambda = schedule.log_snr(t);
    const Knot knot = schedule.knot(t);
    REQUIRE(knot.alpha == schedule.alpha(t));
    REQUIRE(knot.sigma == schedule.sigma(t));
    REQUIRE(knot.t == t);
    REQUIRE((i == 0 || lambda < before));
    before = lambda;
    REQUIRE(schedule.time(lambda) == Approx(t).margin(2e-13));
    if (knot.alpha > 0 && knot.sigma > 0)
      REQUIRE(lambda == Approx(knot.log_snr()).epsilon(1e-10).margin(1e-12));
    else
      REQUIRE(lambda == knot.log_snr());
    if (std::is_same_v<TestType, VpLinear> || std::is_same_v<TestType, VpCosine>)
      REQUIRE(knot.alpha * knot.alpha + knot.sigma * knot.sigma == Approx(1).epsilon(1e-14));
  }
  CHECK(schedule.time(infinity) == 0);
  CHECK(schedule.time(-infinity) == 1);
  CHECK(schedule.time(1e4) == Approx(0).margin(1e-12));
  CHECK(schedule.time(-1e4) == Approx(1).margin(1e-12));
}

TEST_CASE("what the network is told on continuous schedules") {
  CHECK(VpLinear({.time_scale = 999}).knot(0.5).t == 499.5);
  CHECK(VpCosine({.time_scale = 1000}).knot(0.25).t == 250);
  CHECK(RectifiedFlow({.time_scale = 1000}).knot(0.25).t == 250);
  CHECK(RectifiedFlow({.time_scale = 1000}).knot(0.25).sigma == 0.25);
  const VarianceExploding sigmas(
      {.sigma_min = 0.002, .sigma_max = 80, .time_input = VeTimeInput::sigma, .time_scale = 2});
  CHECK(sigmas.knot(1).t == 160);
  const VarianceExploding edm(
      {.sigma_min = 0.002, .sigma_max = 80, .time_input = VeTimeInput::quarter_log_sigma});
  CHECK(edm.knot(1).t == Approx(std::log(80) / 4).epsilon(1e-14));
  CHECK(VarianceExploding({.time_scale = 3}).knot(0.5).t == 1.5);
}

TEST_CASE("the discrete twin of VP linear agrees to first order in 1/T") {
  const VpLinear continuous;
  std::vector<double> errors;
  for (const int count : {500, 1000, 2000, 4000, 8000}) {
    const auto twin = NoiseSchedule<>::linear(
        {.train_timesteps = count, .beta_start = 0.1 / count, .beta_end = 20.0 / count});
    double error = 0;
    for (int i = 0; i < count; ++i) {
      const double t = (i + 1.0) / count;
      error = std::max({error, std::abs(twin.alpha(i) - continuous.alpha(t)),
                        std::abs(twin.sigma(i) - continuous.sigma(t))});
    }
    errors.push_back(error);
  }
  for (std::size_t i = 0; i + 1 < errors.size(); ++i) {
    const double slope = std::log2(errors[i] / errors[i + 1]);
    CAPTURE(i, slope, errors[i]);
    CHECK(slope == Approx(1).margin(0.05));
  }
  CHECK(errors.back() < 1e-3);
}

// ------------------------------------------------------------------------------------------------
// The concept

namespace {

struct Cosine {  // what the concept's documentation asks of a user, and no more
  double alpha(double t) const { return std::cos(t); }
  double sigma(double t) const { return std::sin(t); }
  double time(double log_snr) const { return std::atan(std::exp(-log_snr / 2)); }
  double first_time() const { return 0; }
  double last_time() const { return std::numbers::pi / 2; }
};

struct Told : Cosine {
  Knot knot(double t) const { return {100 * t, alpha(t), sigma(t)}; }
  double log_snr(double t) const { return -2 * std::log(std::tan(t)); }
};

struct NoInverse {
  double alpha(double) const { return 1; }
  double sigma(double) const { return 1; }
  double first_time() const { return 0; }
  double last_time() const { return 1; }
};

}  // namespace

TEST_CASE("the schedule concept") {
  static_assert(DiscreteSchedule<NoiseSchedule<double>> && DiscreteSchedule<NoiseSchedule<float>>);
  static_assert(Schedule<Cosine> && Schedule<Told> && !DiscreteSchedule<Cosine>);
  static_assert(!Schedule<NoInverse> && !Schedule<int>);
  CHECK(knot_at(Cosine{}, 0.5) == Knot{0.5, std::cos(0.5), std::sin(0.5)});
  CHECK(knot_at(Told{}, 0.5).t == 50);
  CHECK(log_snr_at(Cosine{}, 0.5) == Approx(-2 * std::log(std::tan(0.5))).epsilon(1e-14));
  CHECK(log_snr_at(Told{}, 0.5) == -2 * std::log(std::tan(0.5)));
  CHECK(log_snr_at(Cosine{}, 0) == infinity);
  CHECK(knot_at(NoiseSchedule<>::linear(), 10) == NoiseSchedule<>::linear().knot(10));
}

// ------------------------------------------------------------------------------------------------
// Errors

namespace {

std::function<void()> made(NoiseScheduleOptions options, BetaSchedule kind = BetaSchedule::linear) {
  return [=] { NoiseSchedule<>::make(kind, options); };
}

std::function<void()> from_betas(std::vector<double> betas) {
  return [=] { NoiseSchedule<>::from_betas(betas); };
}

std::function<void()> from_products(std::vector<double> products) {
  return [=] { NoiseSchedule<>::from_alphas_cumprod(products); };
}

}  // namespace

TEST_CASE("bad noise schedules are refused with value and limit") {
  const auto schedule = NoiseSchedule<>::linear({.train_timesteps = 10});
  check_refusals({
      {"no timesteps", made({.train_timesteps = 0}), {"train_timesteps is 0", "[1, 1000000]"}},
      {"fewer", made({.train_timesteps = -3}), {"train_timesteps is -3", "[1, 1000000]"}},
      {"too many", made({.train_timesteps = 1000001}), {"is 1000001", "[1, 1000000]"}},
      {"start 0", made({.beta_start = 0}), {"beta_start is 0", "between 0 and 1"}},
      {"start 1", made({.beta_start = 1}), {"beta_start is 1", "between 0 and 1"}},
      {"start NaN", made({.beta_start = not_a_number}), {"beta_start is", "nan", "between 0"}},
      {"end below", made({.beta_end = -0.5}), {"beta_end is -0.5", "between 0 and 1"}},
      {"end above", made({.beta_end = 1.5}), {"beta_end is 1.5", "between 0 and 1"}},
      {"end infinite", made({.beta_end = infinity}), {"beta_end is inf", "between 0 and 1"}},
      {"max 0", made({.max_beta = 0}), {"max_beta is 0", "above 0 and at most 1"}},
      {"max above", made({.max_beta = 1.25}), {"max_beta is 1.25", "at most 1"}},
      {"shift 0", made({.snr_shift_scale = 0}), {"snr_shift_scale is 0", "between 0 and"}},
      {"shift below", made({.snr_shift_scale = -2}), {"snr_shift_scale is -2", "between 0"}},
      {"shift infinite", made({.snr_shift_scale = infinity}), {"is inf", "between 0 and 1.79"}},
      {"terminal below",
       made({.rescale_zero_terminal_snr = true, .terminal_alpha_cumprod = -0.1}),
       {"terminal_alpha_cumprod is -0.1", "[0, 1]"}},
      {"terminal above",
       made({.rescale_zero_terminal_snr = true, .terminal_alpha_cumprod = 0.75}),
       {"alphas_cumprod[999] is 0.75", "[0, "}},
      {"terminal alone", made({.terminal_alpha_cumprod = 0.5}), {"is 0.5", "must be 0"}},
      {"rescaling one",
       made({.train_timesteps = 1, .rescale_zero_terminal_snr = true}),
       {"is 1", "at least 2"}},
      {"no such kind", made({}, static_cast<BetaSchedule>(9)), {"schedule is 9", "[0, 8]"}},
      {"no such kind", made({}, static_cast<BetaSchedule>(-1)), {"schedule is -1", "[0, 8]"}},
      {"no betas", from_betas({}), {"betas has 0", "1 to 1000000"}},
      {"NaN in betas", from_betas({0.1, not_a_number, 0.2}), {"betas[1] is", "nan", "above 0"}},
      {"infinity in betas", from_betas({0.1, 0.2, infinity}), {"betas[2] is inf", "at most 1"}},
      {"0 in betas", from_betas({0, 0.1}), {"betas[0] is 0", "above 0"}},
      {"below 0 in betas", from_betas({0.1, -0.25}), {"betas[1] is -0.25", "above 0"}},
      {"1 in betas", from_betas({0.1, 1, 0.2}), {"betas[1] is 1", "below 1"}},
      {"last beta above 1", from_betas({0.1, 1.5}), {"betas[1] is 1.5", "at most 1"}},
      {"no products", from_products({}), {"alphas_cumprod has 0", "1 to 1000000"}},
      {"first product 1", from_products({1, 0.5}), {"alphas_cumprod[0] is 1", "[0, 1)"}},
      {"rising products", from_products({0.5, 0.75}), {"[1] is 0.75", "[0, 0.5)"}},
      {"equal products", from_products({0.9, 0.5, 0.5}), {"[2] is 0.5", "[0, 0.5)"}},
      {"product below 0", from_products({0.5, -0.1}), {"[1] is -0.1", "[0, 0.5)"}},
      {"NaN product", from_products({0.5, not_a_number}), {"[1] is", "nan", "[0, 0.5)"}},
      {"time below", [&] { schedule.alpha(-1); }, {"timestep t is -1", "[0, 9]"}},
      {"time above", [&] { schedule.sigma(9.5); }, {"timestep t is 9.5", "[0, 9]"}},
      {"NaN time", [&] { schedule.knot(not_a_number); }, {"timestep t is", "nan", "[0, 9]"}},
      {"time of log_snr", [&] { schedule.log_snr(1e9); }, {"is 1000000000", "[0, 9]"}},
      {"NaN log_snr", [&] { schedule.time(not_a_number); }, {"log_snr is not a number", "must be"}},
      {"shift by -1", [&] { schedule.snr_shifted(-1); }, {"snr_shift_scale is -1", "between 0"}},
      {"terminal 1", [&] { schedule.with_terminal_alpha_cumprod(1); }, {"[9] is 1", "[0, 0.9"}},
  });
}

TEST_CASE("a single-precision table must fall in single precision") {
  CHECK_NOTHROW(NoiseSchedule<>::from_betas({1e-9, 0.1}));
  CHECK_THROWS_WITH(NoiseSchedule<float>::from_betas({1e-9, 0.1}),
                    contains("alphas_cumprod[0] is 1") && contains("[0, 1)"));
}

TEST_CASE("bad continuous schedules are refused with value and limit") {
  check_refusals({
      {"beta_min below", [] { VpLinear({.beta_min = -1}); }, {"beta_min is -1", "[0, "}},
      {"beta_min infinite", [] { VpLinear({.beta_min = infinity}); }, {"beta_min is inf", "[0, "}},
      {"beta_max below",
       [] { VpLinear({.beta_min = 5, .beta_max = 5}); },
       {"beta_max is 5", "between 5 and inf"}},
      {"beta_max infinite", [] { VpLinear({.beta_max = infinity}); }, {"beta_max is inf", "0.1"}},
      {"scale 0", [] { VpLinear({.time_scale = 0}); }, {"time_scale is 0", "between 0"}},
      {"scale infinite", [] { VpLinear({.time_scale = infinity}); }, {"is inf", "between 0"}},
      {"s below", [] { VpCosine({.s = -0.5}); }, {"s is -0.5", "[0, 1]"}},
      {"s above", [] { VpCosine({.s = 1.5}); }, {"s is 1.5", "[0, 1]"}},
      {"scale below", [] { VpCosine({.time_scale = -1}); }, {"time_scale is -1", "between 0"}},
      {"scale NaN", [] { VpCosine({.time_scale = not_a_number}); }, {"is", "nan", "between 0"}},
      {"sigma_min 0", [] { VarianceExploding({.sigma_min = 0}); }, {"sigma_min is 0", "between 0"}},
      {"sigma_min above",
       [] { VarianceExploding({.sigma_min = 60}); },
       {"sigma_max is 50", "between 60 and inf"}},
      {"sigma_max infinite",
       [] { VarianceExploding({.sigma_max = infinity}); },
       {"sigma_max is inf", "between 0.01"}},
      {"input below",
       [] { VarianceExploding({.time_input = static_cast<VeTimeInput>(-1)}); },
       {"time_input is -1", "[0, 2]"}},
      {"input above",
       [] { VarianceExploding({.time_input = static_cast<VeTimeInput>(3)}); },
       {"time_input is 3", "[0, 2]"}},
      {"scale below", [] { VarianceExploding({.time_scale = -1}); }, {"is -1", "between 0"}},
      {"scale above", [] { VarianceExploding({.time_scale = infinity}); }, {"inf", "between 0"}},
      {"scale below", [] { RectifiedFlow({.time_scale = -1}); }, {"is -1", "between 0"}},
      {"scale above", [] { RectifiedFlow({.time_scale = infinity}); }, {"inf", "between 0"}},
      {"time below", [] { VpLinear().alpha(-0.25); }, {"time t is -0.25", "[0, 1]"}},
      {"time above", [] { VpCosine().sigma(1.25); }, {"time t is 1.25", "[0, 1]"}},
      {"time NaN", [] { VarianceExploding().knot(not_a_number); }, {"time t is", "nan", "[0, 1]"}},
      {"time above", [] { RectifiedFlow().log_snr(2); }, {"time t is 2", "[0, 1]"}},
      {"NaN log_snr", [] { VpLinear().time(not_a_number); }, {"log_snr is not", "must be"}},
      {"NaN log_snr", [] { RectifiedFlow().time(not_a_number); }, {"log_snr is not", "must be"}},
  });
}
