// Loss weightings: whatever the network answers, the loss in x0 is the same; each paper's own
// formula comes out; the ends of a schedule.

#include "catch.hpp"
#include "support.hpp"

#include <diffusion/forward/forward_diffusion.hpp>
#include <diffusion/forward/loss_weighting.hpp>
#include <diffusion/schedule/continuous.hpp>
#include <diffusion/schedule/noise_schedule.hpp>
#include <diffusion/schedule/schedule.hpp>

#include <cmath>
#include <cstddef>
#include <functional>
#include <limits>
#include <string>
#include <vector>

using namespace diffusion;
using support::Vector;
using enum PredictionType::Kind;

namespace {

using AnyWeighting = std::function<ErrorWeights(const Knot&)>;

struct Named {
  std::string name;
  AnyWeighting weighting;
};

std::vector<Named> all_weightings() {
  std::vector<Named> list;
  for (const PredictionType type : all_prediction_types)
    list.push_back({"constant " + std::string(name(type)), ConstantWeighting(type)});
  list.push_back({"min-SNR", MinSnrWeighting(5)});
  list.push_back({"soft min-SNR", SoftMinSnrWeighting(4)});
  list.push_back({"truncated SNR", TruncatedSnrWeighting()});
  list.push_back({"P2", P2Weighting({.k = 1, .gamma = 0.5})});
  list.push_back({"EDM", EdmWeighting(0.5)});
  list.push_back({"own", [](const Knot& at) {
                    return ErrorWeights{at.alpha, at.sigma * at.sigma / at.alpha};
                  }});
  return list;
}

/// Levels where everything is finite: variance preserving, flow, exploding, and nobody's.
std::vector<Knot> levels() {
  std::vector<Knot> knots;
  const auto linear = NoiseSchedule<>::linear();
  for (const double t : {0.0, 3.0, 250.0, 612.5, 999.0}) knots.push_back(linear.knot(t));
  for (const double t : {0.01, 0.3, 0.5, 0.98}) {
    knots.push_back(knot_at(VpCosine(), t));
    knots.push_back(knot_at(RectifiedFlow(), t));
    knots.push_back(knot_at(VarianceExploding(), t));
  }
  knots.push_back({0, 0.3, 1.7});
  return knots;
}

constexpr double nothing = 0;
const double infinity = std::numeric_limits<double>::infinity();

}  // namespace

TEST_CASE("The weighted loss is the same for every prediction type") {
  using Tensor = support::RowMajor<double, 2>;
  support::Random random(5);
  const auto knots = levels();
  const std::size_t batch = knots.size(), size = 7;
  const Vector x0 = random.normals(batch * size), eps = random.normals(batch * size);
  const Vector guess = random.normals(batch * size);  // of x0
  for (const auto& [name, weighting] : all_weightings()) {
    // From the definition: w |x0 - guess|^2.
    Vector expected;
    for (std::size_t i = 0; i < batch; ++i) {
      double squares = 0;
      for (std::size_t k = i * size; k < (i + 1) * size; ++k)
        squares += std::pow(x0[k] - guess[k], 2) / static_cast<double>(size);
      expected.push_back(weighting(knots[i]).on_x0 * squares);
    }
    for (const PredictionType type : all_prediction_types) {
      INFO(name << ", " << diffusion::name(type));
      Vector f, target;
      for (std::size_t k = 0; k < batch * size; ++k) {
        const Knot& at = knots[k / size];
        const auto [on_x0, on_eps] = support::definition(type, at.alpha, at.sigma);
        const double x = at.alpha * x0[k] + at.sigma * eps[k];
        target.push_back(on_x0 * x0[k] + on_eps * eps[k]);
        f.push_back(on_x0 * guess[k] + on_eps * (x - at.alpha * guess[k]) / at.sigma);
      }
      const auto shape = ShapeOf<Tensor>{static_cast<Eigen::Index>(batch), size};
      const auto prediction = support::tensor_of<Tensor>(shape, f);
      const auto truth = support::tensor_of<Tensor>(shape, target);
      const auto losses = sample_losses(prediction, truth, knots, weighting, type);
      REQUIRE(losses.size() == batch);
      double mean = 0;
      for (std::size_t i = 0; i < batch; ++i) {
        CAPTURE(i, knots[i].alpha, knots[i].sigma);
        CHECK(losses[i] == Approx(expected[i]).epsilon(1e-9));
        mean += expected[i] / static_cast<double>(batch);
      }
      CHECK(weighted_loss(prediction, truth, knots, weighting, type) == Approx(mean).epsilon(1e-9));
    }
  }
}

TEST_CASE("The two sides of a weighting say the same") {
  for (const auto& [name, weighting] : all_weightings())
    for (const Knot& at : levels()) {
      const ErrorWeights w = weighting(at);
      INFO(name << " at alpha " << at.alpha << ", sigma " << at.sigma);
      CHECK(w.on_x0 > 0);
      CHECK(w.on_eps * std::pow(at.alpha / at.sigma, 2) == Approx(w.on_x0).epsilon(1e-12));
    }
}

TEST_CASE("A constant weighting is 1 on the output of its own type") {
  for (const PredictionType type : all_prediction_types)
    for (const Knot& at : levels())
      CHECK(output_weight(ConstantWeighting(type), at, type) == Approx(1).epsilon(1e-12));
}

TEST_CASE("The formulas of the papers, where alpha^2 + sigma^2 = 1") {
  const auto schedule = NoiseSchedule<>::squaredcos_cap_v2();
  for (const double t : {0.0, 100.0, 333.3, 500.0, 750.0, 999.0}) {
    const Knot at = schedule.knot(t);
    const double s = at.alpha * at.alpha / (at.sigma * at.sigma);
    CAPTURE(t, s);
    const auto weights = [&](const AnyWeighting& w, double on_sample, double on_eps, double on_v) {
      CHECK(output_weight(w, at, sample) == Approx(on_sample).epsilon(1e-11));
      CHECK(output_weight(w, at, epsilon) == Approx(on_eps).epsilon(1e-11));
      CHECK(output_weight(w, at, v) == Approx(on_v).epsilon(1e-11));
    };
    for (const double g : {1.0, 5.0, 20.0}) {  // Hang et al.
      const double m = std::min(s, g);
      weights(MinSnrWeighting(g), m, m / s, m / (s + 1));
    }
    weights(TruncatedSnrWeighting(), std::max(s, 1.0), std::max(1.0, 1 / s),
            std::max(s, 1.0) / (s + 1));
    for (const double g : {0.0, 0.5, 1.0, 1.7}) {  // Choi et al. weigh eps
      const double p = 1 / std::pow(0.8 + s, g);
      weights(P2Weighting({0.8, g}), s * p, p, s / (s + 1) * p);
    }
    // SNR + 1 is the plain error of v (Salimans and Ho), and EDM's weighting with sigma_data = 1.
    weights(ConstantWeighting(v), s + 1, (s + 1) / s, 1);
    weights(EdmWeighting(1), s + 1, (s + 1) / s, 1);
    weights(ConstantWeighting(epsilon), s, 1, s / (s + 1));
    weights(ConstantWeighting(sample), 1, 1 / s, 1 / (s + 1));
  }
}

TEST_CASE("The formulas of the papers, where alpha = 1 or alpha + sigma = 1") {
  for (const double sigma : {0.002, 0.1, 0.5, 3.0, 80.0}) {
    const Knot at{0, 1, sigma};
    CAPTURE(sigma);
    for (const double d : {0.5, 1.3}) {
      const double edm = (sigma * sigma + d * d) / std::pow(sigma * d, 2);
      CHECK(output_weight(EdmWeighting(d), at, sample) == Approx(edm).epsilon(1e-12));
      // EDM's inner network answers F, D = c_skip x + c_out F, and its error counts once.
      const double c_out = sigma * d / std::sqrt(sigma * sigma + d * d);
      CHECK(edm * c_out * c_out == Approx(1).epsilon(1e-12));
      // k-diffusion's soft-min-snr is a weight of that inner error.
      const double inner = std::pow(sigma * d / (sigma * sigma + d * d), 2);
      CHECK(SoftMinSnrWeighting(1 / (d * d))(at).on_x0 * c_out * c_out ==
            Approx(inner).epsilon(1e-12));
    }
    CHECK(output_weight(SoftMinSnrWeighting(4), at, sample) ==
          Approx(1 / (sigma * sigma + 0.25)).epsilon(1e-12));
    CHECK(output_weight(ConstantWeighting(epsilon), at, sample) ==
          Approx(1 / (sigma * sigma)).epsilon(1e-12));
  }
  for (const double t : {0.01, 0.5, 0.99}) {  // x0 = x - t f
    const double s = std::pow((1 - t) / t, 2);
    CHECK(output_weight(MinSnrWeighting(5), {t, 1 - t, t}, flow) ==
          Approx(std::min(s, 5.0) * t * t).epsilon(1e-12));
  }
}

TEST_CASE("The soft min-SNR touches the hard one at both ends and is half of it at the corner") {
  const SoftMinSnrWeighting soft(5);
  const MinSnrWeighting hard(5);
  for (const double sigma : {1e-4, 1e4})
    CHECK(soft({0, 1, sigma}).on_x0 == Approx(hard({0, 1, sigma}).on_x0).epsilon(1e-6));
  const Knot corner{0, std::sqrt(5.0), 1};
  CHECK(soft(corner).on_x0 == Approx(hard(corner).on_x0 / 2).epsilon(1e-12));
}

TEST_CASE("At the ends the weight is the limit, or the weighting is refused") {
  const Knot noise{999, 0, 1}, clean{0, 1, 0};
  // Limits at alpha = 0 and at sigma = 0; infinity: refused.
  const auto check = [](const AnyWeighting& w, PredictionType type, const Knot& end, double limit) {
    INFO(name(type) << " at alpha " << end.alpha);
    if (limit == infinity)
      CHECK_THROWS_WITH(output_weight(w, end, type), contains("infinite") &&
                                                         contains(std::string(name(type))) &&
                                                         contains("alpha = "));
    else
      CHECK(output_weight(w, end, type) == Approx(limit).margin(1e-300));
    // The limit from the inside, 1e-6 away.
    const Knot near{0, end.alpha == 0 ? 1e-6 : 1, end.alpha == 0 ? 1 : 1e-6};
    const double inside = output_weight(w, near, type);
    if (limit == infinity)
      CHECK(inside > 1e3);
    else
      CHECK(inside == Approx(limit).epsilon(1e-4).margin(1e-4));
  };
  check(MinSnrWeighting(5), epsilon, noise, 1);
  check(MinSnrWeighting(5), v, noise, nothing);
  check(MinSnrWeighting(5), sample, noise, nothing);
  check(MinSnrWeighting(5), flow, noise, nothing);
  check(MinSnrWeighting(5), sample, clean, 5);
  check(MinSnrWeighting(5), epsilon, clean, nothing);
  check(MinSnrWeighting(5), v, clean, nothing);
  check(SoftMinSnrWeighting(4), epsilon, noise, 1);
  check(SoftMinSnrWeighting(4), v, noise, nothing);
  check(SoftMinSnrWeighting(4), sample, clean, 4);
  check(SoftMinSnrWeighting(4), flow, clean, nothing);
  check(TruncatedSnrWeighting(), sample, noise, 1);
  check(TruncatedSnrWeighting(), v, noise, 1);
  check(TruncatedSnrWeighting(), epsilon, noise, infinity);
  check(TruncatedSnrWeighting(), epsilon, clean, 1);
  check(TruncatedSnrWeighting(), sample, clean, infinity);
  check(P2Weighting({2, 1}), epsilon, noise, 0.5);
  check(P2Weighting({2, 1}), v, noise, nothing);
  check(P2Weighting({2, 1}), sample, clean, 1);
  check(P2Weighting({2, 2}), sample, clean, nothing);
  check(P2Weighting({2, 0.5}), sample, clean, infinity);
  check(P2Weighting({2, 0}), epsilon, clean, 1);
  check(EdmWeighting(0.5), v, noise, 4);
  check(EdmWeighting(0.5), epsilon, noise, infinity);
  check(EdmWeighting(0.5), v, clean, 1);
  check(EdmWeighting(0.5), sample, clean, infinity);
  for (const PredictionType type : {epsilon, sample, v, flow})
    for (const Knot& end : {noise, clean}) check(ConstantWeighting(type), type, end, 1);
  // Where alpha and sigma are not 1 at the ends.
  CHECK(output_weight(ConstantWeighting(epsilon), {0, 2, 0}, v) == Approx(0.25));
  CHECK(output_weight(ConstantWeighting(epsilon), {0, 0, 2}, score) == Approx(4));
  CHECK(P2Weighting({2, 2})(noise).on_x0 == 0);
  check(ConstantWeighting(epsilon), v, noise, nothing);
  check(ConstantWeighting(v), sample, noise, 1);
  check(ConstantWeighting(v), epsilon, clean, 1);
  check(ConstantWeighting(sample), epsilon, noise, infinity);
  check(ConstantWeighting(score), epsilon, clean, infinity);
}

TEST_CASE("The loss of training targets on any state") {
  // A network that answers 0 has the loss w / b^2-weighted E|target|^2.
  const auto check = [](auto make) {
    using T = decltype(make());
    const ForwardDiffusion<> process{NoiseSchedule<>::linear()};
    T x0 = make(), eps = make(), zero = make();
    const std::size_t total = blocks_of<T>(StateTraits<T>::shape(x0), true).total();
    support::Random random(2);
    for (std::size_t i = 0; i < total; ++i) {
      StateTraits<T>::data(x0)[i] = static_cast<ScalarOf<T>>(random.normal());
      StateTraits<T>::data(eps)[i] = static_cast<ScalarOf<T>>(random.normal());
      StateTraits<T>::data(zero)[i] = static_cast<ScalarOf<T>>(0.F);
    }
    const Vector times = {10, 900};
    std::vector<Knot> knots;
    for (const double t : times) knots.push_back(process.schedule().knot(t));
    const T truth = process.training_target(epsilon, x0, eps, times);
    double squares = 0;
    for (std::size_t i = 0; i < total; ++i)
      squares += std::pow(static_cast<double>(static_cast<float>(StateTraits<T>::data(eps)[i])), 2);
    CHECK(weighted_loss(zero, truth, knots, ConstantWeighting(epsilon), epsilon) ==
          Approx(squares / static_cast<double>(total)).epsilon(1e-6));
  };
  check([] { return support::RowMajor<float, 4>(2, 3, 4, 5); });
  check([] { return support::ColMajor<double, 3>(4, 5, 2); });
  check([] { return support::RowMajor<Eigen::half, 2>(2, 8); });
  check([] { return Eigen::MatrixXf(6, 2); });
}

TEST_CASE("What does not fit is refused by name") {
  CHECK_THROWS_WITH(MinSnrWeighting(0), contains("gamma") && contains("0"));
  CHECK_THROWS_WITH(SoftMinSnrWeighting(-1), contains("gamma") && contains("-1"));
  CHECK_THROWS_WITH(EdmWeighting(0), contains("sigma_data"));
  CHECK_THROWS_WITH(P2Weighting({.k = 0}), contains("P2Options::k"));
  CHECK_THROWS_WITH(P2Weighting({.gamma = -0.5}), contains("P2Options::gamma"));
  CHECK_THROWS_AS(MinSnrWeighting(std::nan("")), Error);
  CHECK_THROWS_WITH(ConstantWeighting(static_cast<PredictionType::Kind>(9)), contains("9"));
  using Tensor = support::RowMajor<double, 2>;
  Tensor two(2, 3), other(2, 4), none(0, 3);
  two.setZero();
  other.setZero();
  const std::vector<Knot> knots = {{0, 1, 1}, {0, 1, 2}}, one = {{0, 1, 1}};
  const ConstantWeighting plain(epsilon);
  CHECK_THROWS_WITH(weighted_loss(two, other, knots, plain, epsilon),
                    contains("2x3") && contains("2x4"));
  CHECK_THROWS_WITH(weighted_loss(two, two, one, plain, epsilon),
                    contains("1 knots") && contains("batch of 2"));
  CHECK_THROWS_WITH(weighted_loss(none, none, {}, plain, epsilon), contains("0x3"));
}
