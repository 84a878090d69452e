// Guidance by a classifier and by a loss against what is exactly known: the exact classifier makes
// the conditional network of the unconditional one, a linear measurement its posterior mean.

#include "catch.hpp"
#include "support.hpp"

#include <diffusion/denoiser/exact/exact_classifier.hpp>
#include <diffusion/denoiser/exact/exact_vector_jacobian.hpp>
#include <diffusion/guidance/classifier_free.hpp>
#include <diffusion/guidance/classifier_guidance.hpp>
#include <diffusion/guidance/loss_guidance.hpp>
#include <diffusion/noise/philox.hpp>
#include <diffusion/samplers/ddim.hpp>
#include <diffusion/samplers/ddpm.hpp>
#include <diffusion/samplers/dpm_solver.hpp>
#include <diffusion/samplers/euler.hpp>
#include <diffusion/samplers/heun.hpp>
#include <diffusion/samplers/lcm.hpp>
#include <diffusion/samplers/sde.hpp>
#include <diffusion/sampling/sample.hpp>
#include <diffusion/schedule/continuous.hpp>
#include <diffusion/schedule/noise_schedule.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <numbers>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace {

using namespace diffusion;
using Eigen::Index;
using Points = support::RowMajor<double, 2>;
using Vector = Eigen::VectorXd;

Vector vector(double a, double b) { return (Vector(2) << a, b).finished(); }

GaussianMixture mixture() {
  Eigen::Matrix2d turned;
  turned << 0.5, 0.3, 0.3, 0.4;
  return {{0.2, Gaussian::isotropic(vector(-1, 0.5), 0.1)},
          {0.5, Gaussian(vector(1.2, 0.3), turned)},
          {0.3, Gaussian::diagonal(vector(0, -1.5), vector(0.3, 0.05))}};
}

struct Level {
  double alpha, sigma, input_scale;
};
constexpr Level levels[] = {{0.9, std::numbers::pi / 9, 1},
                            {0.6, 0.8, 1},
                            {0.02, 0.9998, 1},
                            {1, 3, 1},
                            {1, 20, 0.05},
                            {0.3, 0.7, 1.7}};

/// What a run would ask at a level, and points that may be met there, as the network is given them.
struct Moment {
  Query query;
  Points input;
};

Moment moment(const Level& level, const PredictionType& type, Index count = 4) {
  Moment result{{.t = 0.5,
                 .alpha = level.alpha,
                 .sigma = level.sigma,
                 .input_scale = level.input_scale,
                 .prediction_type = type},
                Points(count, 2)};
  support::Random random(5);
  for (Index i = 0; i < result.input.size(); ++i)
    result.input.data()[i] = level.input_scale * (level.alpha * random.uniform(-1.5, 1.5) +
                                                  level.sigma * random.normal());
  return result;
}

double largest_difference(const Points& a, const Points& b) {
  const Eigen::Tensor<double, 0, Eigen::RowMajor> most = (a - b).abs().maximum();
  return most(0);
}
double largest(const Points& a) {
  const Eigen::Tensor<double, 0, Eigen::RowMajor> most = a.abs().maximum();
  return most(0);
}

std::string error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

struct Named {
  std::string name;
  SamplingPlan plan;
};

template <class S>
void add_plans(const std::string& name, const S& schedule, const GridOptions& grid,
               std::vector<Named>& plans) {
  const auto add = [&](const char* sampler, const auto& made) {
    plans.push_back({std::string(sampler) + ", " + name, made.plan()});
  };
  add("DDIM", DdimSampler{schedule, {.steps = 12, .grid = grid}});
  add("Heun", HeunSampler{schedule, {.steps = 12, .grid = grid}});
  add("DPM++ 2M", DpmSolverSampler{schedule, {.steps = 12, .grid = grid}});
  add("Euler ancestral", EulerAncestralSampler{schedule, {.steps = 12, .grid = grid}});
  add("LCM", LcmSampler{schedule, {.steps = 12, .grid = grid}});
}

/// The samplers of the tests on three schedules.
const std::vector<Named>& plans() {
  static const std::vector<Named> made = [] {
    std::vector<Named> list;
    const GridOptions trailing{.spacing = TimestepSpacing::trailing};
    GridOptions before_pure_noise;  // where epsilon knows no x0
    for (int i = 0; i < 12; ++i) before_pure_noise.timesteps.push_back(0.98 - 0.08 * i);
    add_plans("VP", NoiseSchedule<>::linear(), trailing, list);
    add_plans("flow", RectifiedFlow(), before_pure_noise, list);
    add_plans("VE", VarianceExploding(), trailing, list);
    return list;
  }();
  return made;
}

const PredictionType run_types[] = {PredictionType::epsilon, PredictionType::v,
                                    PredictionType::flow};

}  // namespace

// ---- the score form -----------------------------------------------------------------------------

TEST_CASE("with the exact classifier at scale 1 the answer is the conditional network's") {
  const GaussianMixture data = mixture();
  const std::vector<int> classes{0, 1, 2, 1};
  for (const PredictionType& type : all_prediction_types)
    for (const Level& level : levels) {
      const auto [query, input] = moment(level, type);
      ClassifierGuidance guided{exact_denoiser(data, type), ExactClassifierGradient(data, classes)};
      CHECK(guided.prediction_type() == type);
      const auto conditional = exact_conditional_denoiser(data, type);
      Points is(4, 2), should(4, 2), before(4, 2);
      guided(input, query, is);
      conditional(input, query, classes, should);
      guided.inner()(input, query, before);
      CAPTURE(name(type), level.alpha, level.sigma, level.input_scale);
      CHECK(largest_difference(is, should) < 1e-10 * (1 + largest(should)));
      CHECK(largest_difference(before, should) > 1e-3 * largest(should));  // it had to change
    }
}

TEST_CASE("the guided score of Gaussians is (1 - s) that of p(x) + s that of p(x | c)") {
  const Gaussian wide = Gaussian::isotropic(vector(0.3, 0), 2),
                 narrow = Gaussian::diagonal(vector(1, -1), vector(0.5, 1));
  const ExactConditionalDenoiser model({narrow}, wide);
  const auto scale_at = [](const Query& query) { return 1 + query.sigma; };
  for (const PredictionType& type : all_prediction_types)
    for (const Level& level : levels) {
      const auto [query, input] = moment(level, type, 3);
      ClassifierGuidance guided{exact_denoiser(wide, type),
                                ExactClassifierGradient(model, {0, -1, 0}),
                                {.scale_at = scale_at}};
      Points answer(3, 2);
      guided(input, query, answer);
      std::vector<double> eps(6);
      estimate_eps(query, input.data(), answer.data(), 6, eps.data());
      const double s = 1 + level.sigma, a = level.alpha, v = level.sigma * level.sigma;
      const double mean[2] = {1, -1}, variance[2] = {0.5, 1}, own_mean[2] = {0.3, 0};
      for (std::size_t i = 0; i < 6; ++i) {
        const std::size_t d = i % 2;
        const double x = input.data()[i] / level.input_scale;
        const double score = -(x - a * own_mean[d]) / (2 * a * a + v);
        const double score_c = -(x - a * mean[d]) / (a * a * variance[d] + v);
        const double wanted = i / 2 == 1 ? score : (1 - s) * score + s * score_c;
        CAPTURE(name(type), level.alpha, level.sigma, i);
        CHECK(-eps[i] / level.sigma == Approx(wanted).epsilon(1e-9).margin(1e-9));
      }
    }
}

TEST_CASE("guided by the exact classifier every sampler samples the class") {
  const GaussianMixture data = mixture();
  const std::vector<int> classes{0, 1, 2, 2, 1, 0};
  for (const auto& [sampler, plan] : plans())
    for (const PredictionType& type : run_types) {
      ClassifierGuidance guided{exact_denoiser(data, type), ExactClassifierGradient(data, classes)};
      ClassifierFreeGuidance conditional{exact_conditional_denoiser(data, type), classes, -1};
      const auto is = sample<Points>(plan, guided, {6, 2}, PhiloxNoise{1});
      const auto should = sample<Points>(plan, conditional, {6, 2}, PhiloxNoise{1});
      const auto without = sample<Points>(plan, guided.inner(), {6, 2}, PhiloxNoise{1});
      CAPTURE(sampler, name(type));
      CHECK(largest_difference(is, should) < 1e-7);
      CHECK(largest_difference(without, should) > 0.1);
    }
}

TEST_CASE("a scale of 0, clean data and pure noise ask for no gradient") {
  int asked = 0;
  const auto gradient = [&](const Points&, const Query&, Points& out) {
    ++asked;
    out.setConstant(1.0);
  };
  const auto network = [](const Points& x, double, Points& out) { out = x; };
  const auto [query, input] = moment({0.6, 0.8, 1}, PredictionType::v);
  Points out(4, 2);
  ClassifierGuidance none{network, gradient, {.scale = 0}};
  none(input, query, out);
  CHECK(asked == 0);
  CHECK(largest_difference(out, input) == 0);
  ClassifierGuidance guided{network, gradient};
  for (const auto& [alpha, sigma] : {std::pair{0.0, 1.0}, {1.0, 0.0}}) {
    guided(input, {.alpha = alpha, .sigma = sigma, .prediction_type = PredictionType::v}, out);
    CHECK(asked == 0);
    CHECK(largest_difference(out, input) == 0);
  }
  guided(input, query, out);
  CHECK(asked == 1);
  CHECK(largest_difference(out, input) > 0.1);
}

TEST_CASE("slices at levels of their own are guided each at its own") {
  const auto network = [](const Points&, const Query&, Points& out) { out.setConstant(0.25); };
  const auto classifier = [](const Points& x, const Query&, Points& out) { out = x * 0.5; };
  const auto loss = [](const Points& x0, const Query&, Points& out) { out = x0 - 0.5; };
  const Knot list[] = {{1, 0.6, 0.8}, {2, 0.8, 0.6}, {3, 1, 0}, {4, 0.1, 0.99}};
  const double times[] = {1, 2, 3, 4};
  Points x(2, 4);
  x.setValues({{1, -2, 3, 0.5}, {0.2, 0.4, -1, 2}});
  const auto scale = [](const Query& query) { return query.t; };
  ClassifierGuidance guided{network, classifier, {.scale_at = scale}};
  LossGuidance pulled{network, loss, {.strength_at = scale}};
  for (const PredictionType& type : run_types) {
    Query query{.prediction_type = type, .times = times, .levels = list};
    Points together(2, 4), alone(1, 2), together_pulled(2, 4);
    guided(x, query, together);
    pulled(x, query, together_pulled);
    for (Index slice = 0; slice < 4; ++slice) {
      const Knot& at = list[slice];
      const Query own{.t = at.t, .alpha = at.alpha, .sigma = at.sigma, .prediction_type = type};
      const Eigen::array<Index, 2> begin{slice / 2, slice % 2 * 2}, size{1, 2};
      const Points part = x.slice(begin, size);
      guided(part, own, alone);
      CHECK(largest_difference(alone, Points(together.slice(begin, size))) < 1e-15);
      pulled(part, own, alone);
      CHECK(largest_difference(alone, Points(together_pulled.slice(begin, size))) < 1e-15);
    }
  }
  const std::span<const Knot> three(list, 3);
  CHECK(error_of([&] { guided(x, {.times = times, .levels = three}, x); }) ==
        "the query has 3 levels for 2 samples of 4 elements; they must divide each sample into "
        "equal slices");
  CHECK(error_of([&] { guided(x, {.times = times}, x); }) ==
        "the query has 4 times but one level; guidance by a gradient needs the level of every "
        "slice");
}

TEST_CASE("a learned variance passes through guidance as it is") {
  const auto network = [](const Points&, const Query&, Points& out) { out.setConstant(7.0); };
  const auto classifier = [](const Points&, const Query&, Points& out) { out.setConstant(1.0); };
  const auto loss = [](const Points&, const Query&, Points& out) { out.setConstant(1.0); };
  const Query query{.alpha = 0.6, .sigma = 0.8};
  Points x(3, 2), out(3, 4);
  x.setZero();
  ClassifierGuidance guided{network, classifier};
  LossGuidance pulled{network, loss};
  guided(x, query, out);
  for (Index i = 0; i < 12; ++i) CHECK(out.data()[i] == (i % 4 < 2 ? Approx(7 - 0.8) : Approx(7)));
  pulled(x, query, out);  // x0 = -7 sigma / alpha - 1
  for (Index i = 0; i < 12; ++i) CHECK(out.data()[i] == (i % 4 < 2 ? Approx(7 + 0.75) : Approx(7)));
}

TEST_CASE("guidance takes states of other kinds") {
  const auto network = [](const auto&, const Query&, auto& out) {
    std::fill_n(out.data(), out.size(), typename std::decay_t<decltype(out)>::value_type(1));
  };
  const auto gradient = [](const auto&, const Query&, auto& out) {
    std::fill_n(out.data(), out.size(), typename std::decay_t<decltype(out)>::value_type(1));
  };
  const SamplingPlan plan = DdimSampler{NoiseSchedule<>::linear(), {.steps = 5}}.plan();
  std::vector<float> values(40, 1.0f), same(40, 1.0f);
  const SampleOptions one{.batch = false};
  const auto copy = values;
  sample_in_place(plan, ClassifierGuidance{network, gradient}, values, PhiloxNoise{1}, one);
  sample_in_place(plan, ClassifierGuidance{network, gradient}, std::span<float>(same),
                  PhiloxNoise{1}, one);
  CHECK(values == same);
  CHECK(values != copy);
  sample_in_place(plan, LossGuidance{network, gradient}, values, PhiloxNoise{1}, one);
  sample_in_place(plan, LossGuidance{network, gradient}, std::span<float>(same), PhiloxNoise{1},
                  one);
  CHECK(values == same);
  const SamplingPlan ddpm = DdpmSampler{NoiseSchedule<>::linear(), {.steps = 5}}.plan();
  for (const GradientAt where : {GradientAt::state, GradientAt::mean}) {
    ClassifierMeanShift shift{gradient, {.gradient_at = where}};
    sample_in_place(ddpm, network, values, PhiloxNoise{1}, one, shift);
    sample_in_place(ddpm, network, std::span<float>(same), PhiloxNoise{1}, one, shift);
    CHECK(values == same);
  }
}

// ---- the shift of the mean ----------------------------------------------------------------------

namespace {

/// Keeps the state after each stage.
struct Recorder {
  std::vector<Points> states;
  template <class Run, class T>
  void edit_state(const Run&, T& x) {
    states.push_back(x);
  }
};

struct NoNoise {
  void fill(std::uint64_t, std::uint64_t, std::uint64_t, std::span<float> out) const {
    std::fill(out.begin(), out.end(), 0.0f);
  }
};

/// The largest difference of what DDPM makes by the two forms, from the same noise.
double difference_of_forms(int steps, GradientAt where, double scale) {
  const GaussianMixture data = mixture();
  const std::vector<int> classes{0, 1, 2, 1, 0, 2, 2, 2};
  const SamplingPlan plan = DdpmSampler{NoiseSchedule<>::linear(), {.steps = steps}}.plan();
  const auto network = exact_denoiser(data);
  const ExactClassifierGradient gradient(data, classes);
  // Like noises for all numbers of steps would need a Brownian path; the mean over seeds does.
  double sum = 0;
  for (std::uint64_t seed = 1; seed <= 4; ++seed) {
    ClassifierGuidance guided{network, gradient, {.scale = scale}};
    const auto score = sample<Points>(plan, guided, {8, 2}, PhiloxNoise{seed});
    const auto shifted =
        sample<Points>(plan, network, {8, 2}, PhiloxNoise{seed}, {},
                       ClassifierMeanShift{gradient, {.scale = scale, .gradient_at = where}});
    const Eigen::Tensor<double, 0, Eigen::RowMajor> mean = (score - shifted).abs().mean();
    sum += mean(0);
  }
  return sum / 4;
}

}  // namespace

TEST_CASE("a stage that adds noise of variance w^2 is moved by s w^2 grad") {
  const SamplingPlan plan = DdpmSampler{NoiseSchedule<>::linear(), {.steps = 4}}.plan();
  const auto network = [](const Points& x, double, Points& out) { out = x * 0.9; };
  const auto gradient = [](const Points& x, const Query& query, Points& out) {
    out = x.square() + query.t;
  };
  Points start(3, 300);  // more than a chunk of noise a sample
  support::Random random(2);
  for (Index i = 0; i < start.size(); ++i) start.data()[i] = random.normal();
  const auto first_state = [&](auto&& noise, auto&&... edits) {
    Points x = start;
    Recorder recorder;
    sample_in_place(plan, network, x, noise, {}, edits..., recorder);
    return recorder.states.front();
  };
  const Stage& stage = plan[0];
  const double variance = stage.noise[0].weight * stage.noise[0].weight;
  const auto plain = first_state(PhiloxNoise{3});
  const auto at_state = first_state(PhiloxNoise{3}, ClassifierMeanShift{gradient, {.scale = 2}});
  const auto at_mean = first_state(
      PhiloxNoise{3}, ClassifierMeanShift{gradient, {.scale = 2, .gradient_at = GradientAt::mean}});
  const auto mean = first_state(NoNoise{});
  const Points wanted_state = plain + (start.square() + stage.at.t) * (2 * variance);
  const Points wanted_mean = plain + (mean.square() + stage.to.t) * (2 * variance);
  CHECK(variance > 0);
  CHECK(largest_difference(at_state, wanted_state) < 1e-9);
  CHECK(largest_difference(at_mean, wanted_mean) < 1e-9);
  CHECK(largest_difference(at_state, at_mean) > 0.01);
}

TEST_CASE("the shift of the mean is the score form to first order in the step") {
  for (const GradientAt where : {GradientAt::state, GradientAt::mean}) {
    const double errors[] = {difference_of_forms(125, where, 1), difference_of_forms(250, where, 1),
                             difference_of_forms(500, where, 1),
                             difference_of_forms(1000, where, 1)};
    CAPTURE(static_cast<int>(where), errors[0], errors[1], errors[2], errors[3]);
    const double slope = std::log2(errors[0] / errors[3]) / 3;
    CHECK(slope > 0.75);
    CHECK(slope < 1.35);
    CHECK(errors[3] < 0.01);
  }
}

TEST_CASE("the shift of the mean does nothing where no noise is added") {
  const GaussianMixture data = mixture();
  const SamplingPlan plan = DdimSampler{NoiseSchedule<>::linear(), {.steps = 7}}.plan();
  int asked = 0;
  const auto gradient = [&](const Points&, const Query&, Points& out) {
    ++asked;
    out.setZero();
  };
  const auto network = exact_denoiser(data);
  const auto with = sample<Points>(plan, network, {3, 2}, PhiloxNoise{1}, {},
                                   ClassifierMeanShift{gradient, {.scale = 5}});
  CHECK(largest_difference(with, sample<Points>(plan, network, {3, 2}, PhiloxNoise{1})) == 0);
  CHECK(asked == 0);
  const SamplingPlan ddpm = DdpmSampler{NoiseSchedule<>::linear(), {.steps = 7}}.plan();
  sample<Points>(ddpm, network, {3, 2}, PhiloxNoise{1}, {}, ClassifierMeanShift{gradient});
  CHECK(asked == 6);  // the last step adds none
}

// ---- guidance by a loss -------------------------------------------------------------------------

TEST_CASE("without a Jacobian a loss moves x0 down its gradient, whatever is predicted") {
  const GaussianMixture data = mixture();
  const auto gradient = [](const Points& x0, const Query&, Points& out) { out = x0.cube() - 0.2; };
  const auto strength = [](const Query& query) { return 0.1 * query.alpha; };
  for (const PredictionType& type : all_prediction_types)
    for (const Level& level : levels) {
      const auto [query, input] = moment(level, type);
      LossGuidance guided{exact_denoiser(data, type), gradient, {.strength_at = strength}};
      Points answer(4, 2), before(4, 2), is(4, 2), x0(4, 2);
      guided(input, query, answer);
      guided.inner()(input, query, before);
      estimate_x0(query, input.data(), answer.data(), 8, is.data());
      estimate_x0(query, input.data(), before.data(), 8, x0.data());
      const Points should = x0 - (x0.cube() - 0.2) * (0.1 * level.alpha);
      CAPTURE(name(type), level.alpha, level.sigma);
      CHECK(largest_difference(is, should) < 1e-9);
    }
}

TEST_CASE("with a Jacobian a loss is classifier guidance by its own gradient in x") {
  const GaussianMixture data = mixture();
  const auto loss = [](const Vector& x0) {
    return 0.7 * x0.squaredNorm() - std::sin(x0[0] * x0[1]);
  };
  const auto gradient = [](const Points& x0, const Query&, Points& out) {
    for (Index i = 0; i < x0.dimension(0); ++i) {
      const double a = x0(i, 0), b = x0(i, 1);
      out(i, 0) = 1.4 * a - b * std::cos(a * b);
      out(i, 1) = 1.4 * b - a * std::cos(a * b);
    }
  };
  // The gradient of -L(x0(x)) in x by differences.
  const auto slope = [&](const Points& x, const Query& query, Points& out) {
    const Knot at{query.t, query.alpha, query.sigma};
    const double h = 1e-5;
    for (Index i = 0; i < x.dimension(0); ++i)
      for (Index d = 0; d < 2; ++d) {
        Vector up = vector(x(i, 0), x(i, 1)), down = up;
        up[d] += h;
        down[d] -= h;
        out(i, d) = -(loss(data.x0(up, at)) - loss(data.x0(down, at))) / (2 * h);
      }
  };
  const auto strength = [](const Query& q) { return 1.5 * q.sigma * q.sigma / q.alpha; };
  for (const PredictionType& type : all_prediction_types)
    for (const Level& level : levels) {
      const auto [query, input] = moment(level, type);
      LossGuidance by_loss{exact_denoiser(data, type),
                           gradient,
                           {.strength_at = strength},
                           exact_vector_jacobian(data)};
      ClassifierGuidance by_slope{exact_denoiser(data, type), slope, {.scale = 1.5}};
      Points is(4, 2), should(4, 2);
      by_loss(input, query, is);
      by_slope(input, query, should);
      CAPTURE(name(type), level.alpha, level.sigma);
      CHECK(largest_difference(is, should) < 1e-6 * (1 + largest(should)));
    }
}

TEST_CASE("with the right loss the estimate is the posterior's mean: x0 and y = x0 + noise") {
  // Prior N(0.5, 2), y = x0 + N(0, 0.3): grad_x log p(y | x) = J^T (y - x0(x)) / (Var[x0|x] + 0.3).
  const Gaussian prior = Gaussian::isotropic(vector(0.5, 0.5), 2);
  const double y = 1.7, measured = 0.3;
  const auto gradient = [&](const Points& x0, const Query& q, Points& out) {
    const double variance = 1 / (1 / 2.0 + q.alpha * q.alpha / (q.sigma * q.sigma));
    out = (x0 - y) / (variance + measured);
  };
  const auto strength = [](const Query& q) { return q.sigma * q.sigma / q.alpha; };
  for (const Level& level : levels) {
    const auto [query, input] = moment(level, PredictionType::v);
    LossGuidance guided{exact_denoiser(prior, PredictionType::v),
                        gradient,
                        {.strength_at = strength},
                        exact_vector_jacobian(prior)};
    Points answer(4, 2), x0(4, 2);
    guided(input, query, answer);
    estimate_x0(query, input.data(), answer.data(), 8, x0.data());
    const double by_x = level.alpha * level.alpha / (level.sigma * level.sigma);
    for (Index i = 0; i < 8; ++i) {
      const double x = input.data()[i] / level.input_scale / level.alpha;
      const double should = (0.5 / 2 + by_x * x + y / measured) / (1 / 2.0 + by_x + 1 / measured);
      CAPTURE(level.alpha, level.sigma, i);
      CHECK(x0.data()[i] == Approx(should).epsilon(1e-9));
    }
  }
}

TEST_CASE("guidance by a loss runs on every sampler and lowers the loss") {
  const GaussianMixture data = mixture();
  const auto gradient = [](const Points& x0, const Query&, Points& out) { out = x0 - 0.4; };
  const auto loss = [](const Points& x) {
    const Eigen::Tensor<double, 0, Eigen::RowMajor> mean = (x - 0.4).square().mean();
    return mean(0);
  };
  for (const auto& [sampler, plan] : plans())
    for (const PredictionType& type : run_types) {
      const auto network = exact_denoiser(data, type);
      const auto without = sample<Points>(plan, network, {50, 2}, PhiloxNoise{1});
      const auto free = sample<Points>(plan, LossGuidance{network, gradient, {.strength = 0.4}},
                                       {50, 2}, PhiloxNoise{1});
      const auto through = sample<Points>(
          plan, LossGuidance{network, gradient, {.strength = 0.4}, exact_vector_jacobian(network)},
          {50, 2}, PhiloxNoise{1});
      CAPTURE(sampler, name(type), loss(without), loss(free), loss(through));
      CHECK(loss(free) < 0.8 * loss(without));
      CHECK(loss(through) < loss(without));
    }
}

TEST_CASE("the exact vector-Jacobian product is the transposed derivative of x0") {
  const GaussianMixture data = mixture();
  const auto vjp = exact_vector_jacobian(exact_denoiser(data));
  for (const Level& level : levels) {
    const auto [query, input] = moment(level, PredictionType::epsilon);
    Points state = input / level.input_scale, v(4, 2), out(4, 2);
    v.setValues({{1, 0}, {0, 1}, {0.3, -0.4}, {2, 2}});
    vjp(state, query, v, out);
    const Knot at{0, level.alpha, level.sigma};
    const double h = 1e-5 * (1 + level.sigma);
    for (Index i = 0; i < 4; ++i)
      for (Index d = 0; d < 2; ++d) {
        Vector up = vector(state(i, 0), state(i, 1)), down = up;
        up[d] += h;
        down[d] -= h;
        const Vector column = (data.x0(up, at) - data.x0(down, at)) / (2 * h);
        CHECK(out(i, d) ==
              Approx(column[0] * v(i, 0) + column[1] * v(i, 1)).epsilon(1e-5).margin(1e-7));
      }
  }
}

// ---- what is refused ----------------------------------------------------------------------------

TEST_CASE("guidance by a gradient refuses what it cannot use, by value and limit") {
  const double nan = std::numeric_limits<double>::quiet_NaN(), infinity = HUGE_VAL;
  const auto network = [](const Points& x, const Query&, Points& out) { out = x; };
  const auto ones = [](const Points&, const Query&, Points& out) { out.setConstant(1.0); };
  const auto broken = [&](const Points&, const Query&, Points& out) {
    out.setConstant(1.0);
    out(2, 1) = nan;
  };
  const auto wrong = [](const Points&, const Query&, Points& out) {
    out = Points(4, 3);
    out.setZero();
  };
  const auto to_nan = [nan](const Query&) { return nan; };
  const auto vjp_broken = [&](const Points&, const Query&, const Points&, Points& out) {
    out.setConstant(infinity);
  };
  const auto vjp_wrong = [](const Points&, const Query&, const Points&, Points& out) {
    out = Points(1, 2);
    out.setZero();
  };
  const Moment given = moment({0.6, 0.8, 1}, PredictionType::epsilon);
  Points out(4, 2);
  const auto guide = [&](auto guided) {
    return [&, guided]() mutable { guided(given.input, given.query, out); };
  };
  const SamplingPlan learned =
      DdpmSampler{NoiseSchedule<>::linear(), {.steps = 3, .variance = VarianceType::learned_range}}
          .plan();
  const SamplingPlan langevin = ReverseSdeSampler{VarianceExploding(), {.steps = 3}}.plan();
  const SamplingPlan ddpm = DdpmSampler{NoiseSchedule<>::linear(), {.steps = 3}}.plan();
  const auto shift = [&](const SamplingPlan& plan, auto edit) {
    return [&network, &plan, edit]() mutable {
      sample<Points>(plan, network, {4, 2}, PhiloxNoise{1}, {}, edit);
    };
  };
  const GaussianMixture data = mixture();
  const ExactClassifierGradient three(data, {0, 1, 2});
  const std::pair<std::function<void()>, std::string> cases[] = {
      {guide(ClassifierGuidance{network, broken}),
       "the gradient of the classifier is nan for sample 2, element 1, at t = 0.5; it must be "
       "finite"},
      {guide(ClassifierGuidance{network, wrong}),
       "the gradient of the classifier was given the shape 4x3; it must keep that of the state, "
       "4x2"},
      {guide(ClassifierGuidance{network, ones, {.scale_at = to_nan}}),
       "ClassifierGuidanceOptions::scale_at is nan at t = 0.5; it must be finite"},
      {[&] {
         ClassifierGuidance{network, ones, {.scale = infinity}};
       },
       "ClassifierGuidanceOptions::scale is inf"},
      {guide(ClassifierGuidance{exact_denoiser(data), three}),
       "the classifier has 3 classes for a batch of 4; it needs one per sample"},
      {[&] {
         ExactClassifierGradient(data, {0, 3});
       },
       "condition is 3; it must lie in [-1, 2]"},
      {[&] {
         ClassifierMeanShift{ones, {.scale = nan}};
       },
       "MeanShiftOptions::scale is nan"},
      {[&] {
         ClassifierMeanShift{ones, {.gradient_at = static_cast<GradientAt>(2)}};
       },
       "MeanShiftOptions::gradient_at is 2; it must lie in [0, 1]"},
      {shift(ddpm, ClassifierMeanShift{broken}), "is nan for sample 2, element 1"},
      {shift(ddpm, ClassifierMeanShift{broken, {.gradient_at = GradientAt::mean}}),
       "is nan for sample 2, element 1"},
      {shift(ddpm, ClassifierMeanShift{wrong}), "was given the shape 4x3"},
      {shift(ddpm, ClassifierMeanShift{ones, {.scale_at = to_nan}}),
       "MeanShiftOptions::scale_at is nan"},
      {shift(learned, ClassifierMeanShift{ones}),
       "the mean of step 0 cannot be shifted: its noise is learned by the network"},
      {shift(langevin, ClassifierMeanShift{ones}),
       "the mean of step 0 cannot be shifted: its noise is sized by the data"},
      {guide(LossGuidance{network, broken}), "the gradient of the loss is nan for sample 2"},
      {guide(LossGuidance{network, wrong}), "the gradient of the loss was given the shape 4x3"},
      {[&] {
         LossGuidance{network, ones, {.strength = nan}};
       },
       "LossGuidanceOptions::strength is nan"},
      {guide(LossGuidance{network, ones, {.strength_at = to_nan}}),
       "LossGuidanceOptions::strength_at is nan at t = 0.5"},
      {guide(LossGuidance{network, ones, {}, vjp_broken}),
       "the vector-Jacobian product is inf for sample 0, element 0"},
      {guide(LossGuidance{network, ones, {}, vjp_wrong}),
       "the vector-Jacobian product has the shape 1x2; it must have that of the state, 4x2"},
  };
  for (const auto& [call, message] : cases) CHECK_THAT(error_of(call), contains(message));
  Points x(4, 2);
  x.setZero();
  const Query at_noise{.t = 1, .alpha = 0, .sigma = 1};
  LossGuidance epsilon{network, ones};
  CHECK_THAT(error_of([&] { epsilon(x, at_noise, out); }),
             contains("x0 is undefined for prediction type epsilon at t = 1"));
  const double times[] = {1, 2, 3, 4};
  CHECK_THAT(error_of([&] {
               three(Points(x.slice(Eigen::array<Index, 2>{0, 0}, Eigen::array<Index, 2>{3, 2})),
                     Query{.times = times}, out);
             }),
             contains("the query has 4 times"));
}
