// The rules of guidance, each against its own formula; how they are asked; what is refused.
#include "catch.hpp"
#include "support.hpp"

#include <diffusion/guidance/autoguidance.hpp>
#include <diffusion/guidance/cfg_plus_plus.hpp>
#include <diffusion/guidance/classifier_free.hpp>
#include <diffusion/guidance/composed.hpp>
#include <diffusion/guidance/frequency_decoupled.hpp>
#include <diffusion/guidance/image_text.hpp>
#include <diffusion/guidance/magnitude_aware.hpp>
#include <diffusion/guidance/perturbed.hpp>
#include <diffusion/guidance/projected.hpp>
#include <diffusion/guidance/tangential.hpp>
#include <diffusion/guidance/zero_star.hpp>

#include <Eigen/Dense>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

using namespace diffusion;
using support::same_bits;

namespace {

using Image = Eigen::Tensor<double, 4, Eigen::RowMajor>;
using Sample = Eigen::VectorXd;
constexpr double no_number = std::numeric_limits<double>::quiet_NaN();

constexpr Eigen::Index batch = 3, size = 2 * 6 * 4;
const std::vector<int> with(batch, 1);

// What the network answers under condition k, wherever the sample stands in the call.
double answer_of(int condition, Eigen::Index sample, Eigen::Index i) {
  const auto n = static_cast<double>(1 + i + size * sample);
  return std::sin(n * (1.7 + 0.3 * condition)) + 0.2 * condition * std::cos(0.1 * n);
}
Sample prediction(int condition, Eigen::Index sample) {
  Sample f(size);
  for (Eigen::Index i = 0; i < size; ++i) f[i] = answer_of(condition, sample, i);
  return f;
}
// The network; `other` is added to its conditions.
auto network(int other = 0) {
  return [other](const Image& x, double, const Conditions<int>& conditions, Image& out) {
    for (Eigen::Index n = 0; n < x.dimension(0); ++n)
      for (Eigen::Index i = 0; i < size; ++i)
        out.data()[n * size + i] =
            answer_of(conditions[static_cast<std::size_t>(n)] + other, n % batch, i);
  };
}

Image state() {
  return support::tensor_of<Image>({batch, 2, 6, 4}, support::Random(1).normals(batch * size));
}
Sample of(const Image& x, Eigen::Index sample) {
  return Eigen::Map<const Sample>(x.data() + sample * size, size);
}

// Ten steps of which `step` is asked, at a level in the middle.
Query at(int step = 4) {
  return {.t = 500,
          .alpha = 0.8,
          .sigma = 0.6,
          .input_scale = 0.5,
          .to_alpha = 0.9,
          .to_sigma = 0.4,
          .step = step,
          .steps = 10};
}

template <class Guided>
Image ask(Guided guided, const Query& query = at()) {
  guided.begin_run();
  Image out(batch, 2, 6, 4);
  guided(state(), query, out);
  return out;
}
template <class Rule>
Image by(Rule rule, const Query& query = at()) {
  return ask(ClassifierFreeGuidance{network(), with, 0, std::move(rule)}, query);
}

using Formula = std::function<Sample(const Sample& u, const Sample& c, Eigen::Index sample)>;

// What every sample of an answer must be, from its predictions without (0) and with (1) condition.
void check(const Image& got, const Formula& formula) {
  for (Eigen::Index n = 0; n < batch; ++n) {
    const Sample expected = formula(prediction(0, n), prediction(1, n), n);
    CHECK((of(got, n) - expected).cwiseAbs().maxCoeff() <
          1e-12 * std::max(1.0, expected.cwiseAbs().maxCoeff()));
  }
}
void check_is(const Image& got, int condition) {
  check(got, [&](auto&, auto&, Eigen::Index n) { return prediction(condition, n); });
}

// d without its part along c, and that part times eta.
Sample projected(const Sample& d, const Sample& c, double eta) {
  const Sample along = d.dot(c) / c.squaredNorm() * c;
  return d - along + eta * along;
}

}  // namespace

TEST_CASE("Both conventions of the scale, scales of the samples and of the moment") {
  check(by(ClassifierFreeRule{{.scale = 3}}),
        [](const Sample& u, const Sample& c, auto) { return u + 3 * (c - u); });
  check(by(ClassifierFreeRule{{.scale = 2, .convention = ScaleConvention::w}}),
        [](const Sample& u, const Sample& c, auto) { return c + 2 * (c - u); });
  const std::vector<double> scales{-1, 1, 4};
  check(by(ClassifierFreeRule{{.scales = scales}}),
        [&](const Sample& u, const Sample& c, Eigen::Index n) -> Sample {
          return u + scales[static_cast<std::size_t>(n)] * (c - u);
        });
  const auto fading = [](const Query& query) { return 1 + query.sigma * query.t; };
  check(by(ClassifierFreeRule{{.scale_at = fading}}),
        [](const Sample& u, const Sample& c, auto) { return u + 301 * (c - u); });
  check_is(by(ClassifierFreeRule{{.scale = 1}}), 1);
  check_is(by(ClassifierFreeRule{{.scale = 0, .convention = ScaleConvention::w}}), 1);
}

TEST_CASE("The scale of a moment is that of each sample where they differ in their times") {
  const std::vector<double> times{7, 1, 4};
  const std::vector<Knot> levels{{7, 0.6, 0.8}, {1, 1, 0}, {4, 0.8, 0.6}};
  Query query = at();
  query.times = times;
  query.levels = levels;
  const auto by_time = [](const Query& own) { return own.t + own.sigma; };
  const Image got = by(ClassifierFreeRule{{.scale_at = by_time}}, query);
  check(got, [&](const Sample& u, const Sample& c, Eigen::Index n) -> Sample {
    const Knot& level = levels[static_cast<std::size_t>(n)];
    return u + (level.t + level.sigma) * (c - u);
  });
  // By noise: only the first sample has sigma / alpha above 1.
  const Image part = by(ClassifierFreeRule{{.scale = 2, .interval = {.sigma_min = 1}}}, query);
  check(part, [](const Sample& u, const Sample& c, Eigen::Index n) -> Sample {
    return n == 0 ? Sample(u + 2 * (c - u)) : c;
  });
}

TEST_CASE("An interval begins with step int(start n) and ends before int(stop n)") {
  const GuidanceInterval interval{.start = 0.25, .stop = 0.75};
  for (const int steps : {4, 7, 10})
    for (int step = 0; step < steps; ++step) {
      Query query = at(step);
      query.steps = steps;
      const int first = steps / 4, last = 3 * steps / 4;
      const bool on = step >= first && step < last;
      CAPTURE(steps, step);
      check(by(ClassifierFreeRule{{.scale = 3, .interval = interval}}, query),
            [on](const Sample& u, const Sample& c, auto) -> Sample {
              return on ? Sample(u + 3 * (c - u)) : c;
            });
    }
}

TEST_CASE("An interval of noise leaves its lower end out and has its upper end") {
  const auto on = [](double sigma) {
    Query query = at();
    query.alpha = 0.5;
    query.sigma = sigma / 2;
    const Image got =
        by(ClassifierFreeRule{{.scale = 3, .interval = {.sigma_min = 0.5, .sigma_max = 2}}}, query);
    return (of(got, 0) - prediction(1, 0)).norm() > 0.1;
  };
  CHECK_FALSE(on(0.25));
  CHECK_FALSE(on(0.5));
  CHECK(on(0.75));
  CHECK(on(2));
  CHECK_FALSE(on(2.25));
}

TEST_CASE("Off, guidance asks the conditional network alone, on") {
  int calls = 0;
  const auto counting = [&](const Image& x, double, const Conditions<int>&, Image& out) {
    ++calls;
    out = x;
  };
  const GuidanceOptions options{
      .scale = 3, .calls = GuidanceCalls::separate, .interval = {.start = 0.5}};
  ClassifierFreeGuidance guided(counting, with, 0, options);
  Image out(batch, 2, 6, 4);
  guided(state(), at(4), out);
  CHECK(calls == 1);
  guided(state(), at(5), out);
  CHECK(calls == 3);
}

TEST_CASE("A negative condition takes the null's place, for all samples or for each") {
  const ClassifierFreeGuidance one{network(), with, 2, {.scale = 3}};
  check(ask(one), [](auto&, const Sample& c, Eigen::Index n) -> Sample {
    return prediction(2, n) + 3 * (c - prediction(2, n));
  });
  const std::vector<int> negatives{2, 0, 5};
  const ClassifierFreeGuidance each{network(), with, negatives, {.scale = 3}};
  check(ask(each), [&](auto&, const Sample& c, Eigen::Index n) -> Sample {
    const Sample u = prediction(negatives[static_cast<std::size_t>(n)], n);
    return u + 3 * (c - u);
  });
}

TEST_CASE("Several weighted conditions, and, not") {
  const ComposedGuidance guided{
      network(), {{with, 3}, {{2, 3, 4}, 0.5}, {{5, 5, 5}, -1}}, 0, {.scale = 2}};
  check(ask(guided), [](const Sample& u, const Sample& c, Eigen::Index n) -> Sample {
    const Sample second = prediction(2 + static_cast<int>(n), n), third = prediction(5, n);
    return u + 2 * (3 * (c - u) + 0.5 * (second - u) - (third - u));
  });
  const ComposedGuidance single{network(), {{with, 3}}, 0};
  CHECK(same_bits(ask(single), by(ClassifierFreeRule{{.scale = 3}})));
  const ComposedGuidance none{network(), {{with, 0}}, 0};
  check_is(ask(none), 0);
  const ComposedGuidance off{network(), {{with, 3}, {with, 2}}, 0, {.interval = {.start = 0.5}}};
  check_is(ask(off), 1);
}

TEST_CASE("Image and text: u + s_I (i - u) + s_T (c - i)") {
  const std::vector<int> images{2, 3, 2};
  const auto guide = [&](double text, double image, const Query& query = at()) {
    return ask(
        ImageTextGuidance{
            network(), with, images, 0, {.scale = text, .interval = {.stop = 0.8}}, image},
        query);
  };
  for (const double image_scale : {1.5, 1.0, 0.0})
    for (const double text : {7.5, 1.0})
      check(guide(text, image_scale),
            [&](const Sample& u, const Sample& c, Eigen::Index n) -> Sample {
              const Sample i = prediction(images[static_cast<std::size_t>(n)], n);
              return u + image_scale * (i - u) + text * (c - i);
            });
  check_is(guide(7.5, 1.5, at(8)), 1);
}

TEST_CASE("Autoguidance goes on from the worse network past the good one") {
  const AutoGuidance guided{network(), network(4), with, {.scale = 2.5}};
  check(ask(guided), [](auto&, const Sample& c, Eigen::Index n) -> Sample {
    return prediction(5, n) + 2.5 * (c - prediction(5, n));
  });
}

TEST_CASE("A perturbed network pushes away from what it says") {
  const auto guide = [](double scale, ScaleConvention convention, int step) {
    return ask(PerturbedGuidance{network(), network(4), with, 0,
                                 PerturbedRule{{.scale = scale, .convention = convention},
                                               {.scale = 3, .start = 0.2, .stop = 0.6}}},
               at(step));
  };
  const auto g = ScaleConvention::g, w = ScaleConvention::w;
  const auto p = [](Eigen::Index n) { return prediction(5, n); };
  for (const int step : {2, 6})  // int(0.2 10) itself is left out, as int(0.6 10) is
    check(guide(5, g, step),
          [](const Sample& u, const Sample& c, auto) -> Sample { return u + 5 * (c - u); });
  for (const int step : {3, 5}) {
    check(guide(5, g, step), [&](const Sample& u, const Sample& c, Eigen::Index n) -> Sample {
      return u + 5 * (c - u) + 3 * (c - p(n));
    });
    check(guide(4, w, step), [&](const Sample& u, const Sample& c, Eigen::Index n) -> Sample {
      return c + 4 * (c - u) + 3 * (c - p(n));
    });
    check(guide(1, g, step),
          [&](auto&, const Sample& c, Eigen::Index n) -> Sample { return p(n) + 3 * (c - p(n)); });
  }
  check_is(guide(1, g, 7), 1);
}

TEST_CASE("CFG++ has the scale lambda s / (s - s') inside its interval") {
  const double s = 0.6 / 0.8, s_end = 0.4 / 0.9, scale = 0.7 * s / (s - s_end);
  check(by(CfgPlusPlusRule{{.scale = 0.7}}),
        [&](const Sample& u, const Sample& c, auto) -> Sample { return u + scale * (c - u); });
  check_is(by(CfgPlusPlusRule{{.scale = 0}}), 0);
  check_is(by(CfgPlusPlusRule{{.scale = 0.7, .interval = {.stop = 0.4}}}), 1);
}

TEST_CASE("CFG-Zero*: the nearest multiple of u, and zeros in the first steps") {
  for (const auto convention : {ScaleConvention::g, ScaleConvention::w})
    check(by(ZeroStarRule{{.scale = 4, .convention = convention}}),
          [&](const Sample& u, const Sample& c, auto) -> Sample {
            const double nearest = c.dot(u) / (u.squaredNorm() + 1e-8);
            const Sample v = nearest * u;
            return (convention == ScaleConvention::g ? v : c) + 4 * (c - v);
          });
  for (const int step : {0, 1, 2}) {
    const Image got = by(ZeroStarRule{{.scale = 1}, 2}, at(step));
    check(got, [&](auto&, const Sample& c, auto) -> Sample { return (step < 2 ? 0 : 1) * c; });
  }
}

TEST_CASE("Magnitude-aware: the scale falls with the distance of the predictions") {
  for (const double damping : {0.0, 0.7, 8.0})
    check(by(MagnitudeAwareRule{{.scale = 6}, damping}),
          [&](const Sample& u, const Sample& c, auto) -> Sample {
            const double g = 1 + 5 * std::exp(-damping * (c - u).norm() / u.norm());
            return u + g * (c - u);
          });
}

TEST_CASE("Projected guidance in terms of predictions, of x0 and of eps") {
  // An epsilon network was given input = 0.5 x: x0 = (2 input - 0.6 f) / 0.8.
  for (const auto convention : {ScaleConvention::g, ScaleConvention::w}) {
    const auto base = [&](const Sample& u, const Sample& c) {
      return convention == ScaleConvention::g ? u : c;
    };
    const GuidanceOptions options{.scale = 5, .convention = convention};
    for (const GuidanceSpace space : {GuidanceSpace::prediction, GuidanceSpace::eps})
      check(by(ProjectedRule{options, {.eta = 0.3, .space = space}}),
            [&](const Sample& u, const Sample& c, auto) -> Sample {
              return base(u, c) + 5 * projected(c - u, c, 0.3);
            });
    check(by(ProjectedRule{options, {.eta = 0.3}}),
          [&](const Sample& u, const Sample& c, Eigen::Index n) -> Sample {
            const Sample input = of(state(), n);
            const Sample x0_c = (2 * input - 0.6 * c) / 0.8, x0_u = (2 * input - 0.6 * u) / 0.8;
            const Sample x0 = base(x0_u, x0_c) + 5 * projected(x0_c - x0_u, x0_c, 0.3);
            return (2 * input - 0.8 * x0) / 0.6;
          });
  }
  // eta = 1 and no limit is classifier-free guidance.
  check(by(ProjectedRule{{.scale = 5}, {.eta = 1}}),
        [](const Sample& u, const Sample& c, auto) -> Sample { return u + 5 * (c - u); });
}

TEST_CASE("Projected guidance: the limit, by whole samples and by dimensions") {
  const auto raw = GuidanceSpace::prediction;
  check(by(ProjectedRule{{.scale = 5}, {.eta = 0, .limit = 2, .space = raw}}),
        [](const Sample& u, const Sample& c, auto) -> Sample {
          const Sample d = c - u;
          return u + 5 * projected(std::min(1.0, 2 / d.norm()) * d, c, 0);
        });
  // Over height and width, each channel by itself.
  for (const std::vector<int>& dimensions : {std::vector<int>{1, 2}, std::vector<int>{-1, -2}})
    check(by(ProjectedRule{{.scale = 5},
                           {.eta = 0.2, .limit = 1, .dimensions = dimensions, .space = raw}}),
          [](const Sample& u, const Sample& c, auto) -> Sample {
            Sample out = u;
            for (const Eigen::Index begin : {Eigen::Index{0}, size / 2}) {
              const Sample part = c.segment(begin, size / 2);
              const Sample d = part - u.segment(begin, size / 2);
              out.segment(begin, size / 2) +=
                  5 * projected(std::min(1.0, 1 / d.norm()) * d, part, 0.2);
            }
            return out;
          });
  // Over the channels, each pixel by itself.
  check(by(ProjectedRule{{.scale = 5}, {.eta = 0.2, .dimensions = {0}, .space = raw}}),
        [](const Sample& u, const Sample& c, auto) -> Sample {
          Sample out = u;
          for (Eigen::Index i = 0; i < size / 2; ++i) {
            const Eigen::Vector2d part(c[i], c[i + size / 2]);
            const Eigen::Vector2d d = part - Eigen::Vector2d(u[i], u[i + size / 2]);
            const Eigen::Vector2d along = d.dot(part) / part.squaredNorm() * part;
            const Eigen::Vector2d update = d - 0.8 * along;
            out[i] += 5 * update[0];
            out[i + size / 2] += 5 * update[1];
          }
          return out;
        });
}

TEST_CASE("Momentum adds up over the asks of a run and is forgotten at the next") {
  const auto raw = GuidanceSpace::prediction;
  ClassifierFreeGuidance guided{
      network(), with, 0, ProjectedRule{{.scale = 2}, {.eta = 1, .momentum = -0.5, .space = raw}}};
  Image out(batch, 2, 6, 4);
  for (int run = 0; run < 2; ++run) {
    guided.begin_run();
    double sum = 0;  // how often d has been added
    for (int step = 0; step < 4; ++step) {
      sum = 1 - 0.5 * sum;
      guided(state(), at(step), out);
      check(out, [&](const Sample& u, const Sample& c, auto) -> Sample {
        return u + 2 * sum * (c - u);
      });
    }
  }
  // The mixed rule gathers momentum before it uses it.
  ClassifierFreeGuidance mixed{
      network(), with, 0,
      ProjectedMixRule{{.scale = 2}, 7, 1, {.eta = 1, .momentum = -0.5, .space = raw}}};
  mixed.begin_run();
  for (int step = 0; step < 3; ++step) {
    mixed(state(), at(step), out);
    const double scale = step < 2 ? 2 : 7 * 0.75;  // 1, 0.5, 0.75
    check(out,
          [&](const Sample& u, const Sample& c, auto) -> Sample { return u + scale * (c - u); });
  }
}

TEST_CASE("Tangential guidance keeps the first singular direction of both predictions") {
  const auto tangent = [](const Sample& u, const Sample& c) -> Sample {
    Eigen::MatrixXd rows(2, size);
    rows.row(0) = c;
    rows.row(1) = u;
    const Eigen::JacobiSVD<Eigen::MatrixXd> svd(rows, Eigen::ComputeThinV);
    const Sample first = svd.matrixV().col(0);
    return u.dot(first) * first;
  };
  for (const GuidanceSpace space : {GuidanceSpace::prediction, GuidanceSpace::eps})
    check(by(TangentialRule{{.scale = 3}, space}),
          [&](const Sample& u, const Sample& c, auto) -> Sample {
            return tangent(u, c) + 3 * (c - tangent(u, c));
          });
  check(by(TangentialRule{{.scale = 3, .convention = ScaleConvention::w}, GuidanceSpace::x0}),
        [&](const Sample& u, const Sample& c, Eigen::Index n) -> Sample {
          const Sample input = of(state(), n);
          const Sample x0_c = (2 * input - 0.6 * c) / 0.8, x0_u = (2 * input - 0.6 * u) / 0.8;
          const Sample x0 = x0_c + 3 * (x0_c - tangent(x0_u, x0_c));
          return (2 * input - 0.8 * x0) / 0.6;
        });
}

TEST_CASE("Frequency-decoupled guidance") {
  // The same scale in all bands is classifier-free guidance, also of sizes that do not halve.
  check(by(FrequencyDecoupledRule{{{.scale = 4}, {.scale = 4}}}),
        [](const Sample& u, const Sample& c, auto) -> Sample { return u + 4 * (c - u); });
  // Two bands: the details with one scale, what is left with the other.
  const auto details = [](const Sample& x) {
    Sample fine(size);
    for (const Eigen::Index begin : {Eigen::Index{0}, size / 2}) {
      const Plane plane{6, 4, std::vector<double>(x.data() + begin, x.data() + begin + size / 2)};
      const Plane rest = pyramid_up(pyramid_down(plane), 6, 4);
      for (std::size_t i = 0; i < 24; ++i)
        fine[begin + static_cast<Eigen::Index>(i)] = plane.values[i] - rest.values[i];
    }
    return fine;
  };
  check(by(FrequencyDecoupledRule{{{.scale = 7}, {.scale = 1}}}),
        [&](const Sample& u, const Sample& c, auto) -> Sample { return c + 6 * details(c - u); });
  check(by(FrequencyDecoupledRule{{{.scale = 7, .interval = {.stop = 0.4}}, {.scale = 7}}}),
        [&](const Sample& u, const Sample& c, auto) -> Sample {
          return u + 7 * (c - u) - 6 * details(c - u);
        });
  check(by(FrequencyDecoupledRule{{{.scale = 5, .parallel = 0.25, .rescale = 0.5}}}),
        [&](const Sample& u, const Sample& c, auto) -> Sample {
          const Sample guided = u + 5 * projected(c - u, c, 0.25);
          const auto deviation = [](const Sample& x) {
            return (x.array() - x.mean()).matrix().norm();
          };
          return (0.5 + 0.5 * deviation(c) / deviation(guided)) * guided;
        });
}

TEST_CASE("A Laplacian pyramid gives its picture back, whatever the size") {
  support::Random random(3);
  for (const auto& [height, width] : {std::pair{8, 8}, std::pair{7, 5}, std::pair{12, 9}}) {
    const auto h = static_cast<std::size_t>(height), w = static_cast<std::size_t>(width);
    const Plane plane{h, w, random.normals(h * w)};
    for (const std::size_t bands : {1u, 2u, 3u}) {
      const auto pyramid = laplacian_pyramid(plane, bands);
      CHECK(pyramid.size() == bands);
      CHECK(support::relative_error(from_laplacian_pyramid(pyramid).values, plane.values) < 1e-14);
    }
    // A picture of one colour has no details.
    const Plane flat{h, w, std::vector<double>(h * w, 0.7)};
    const std::vector<Plane> bands = laplacian_pyramid(flat, 2);
    for (const double value : bands[0].values) CHECK(std::abs(value) < 1e-15);
  }
}

TEST_CASE("Numbers that are all equal, or all zero, stay finite under every rule") {
  for (const double c : {0.0, 2.0})
    for (const double u : {0.0, 2.0, -1.0}) {
      const auto flat = [&](const Image& x, double, const Conditions<int>& k, Image& out) {
        for (Eigen::Index n = 0; n < x.dimension(0); ++n)
          std::fill_n(out.data() + n * size, size, k[static_cast<std::size_t>(n)] == 1 ? c : u);
      };
      const GuidanceOptions options{.scale = 3, .rescale = 1};
      const auto finite = [&](auto rule) {
        const Image got = ask(ClassifierFreeGuidance{flat, with, 0, std::move(rule)});
        CAPTURE(c, u);
        CHECK(of(got, 0).allFinite());
      };
      finite(ClassifierFreeRule{options});
      finite(ZeroStarRule{options, 1});
      finite(MagnitudeAwareRule{options});
      finite(TangentialRule{options, GuidanceSpace::prediction});
      finite(ProjectedRule{options, {.limit = 1, .space = GuidanceSpace::prediction}});
      finite(FrequencyDecoupledRule{{{.scale = 3, .parallel = 0, .rescale = 1}}, options});
    }
}

TEST_CASE("Joined and separate calls give the same bits under every rule") {
  const auto both = [](const auto& guided_by) {
    const Image joined = ask(guided_by(GuidanceCalls::joined));
    CHECK(same_bits(joined, ask(guided_by(GuidanceCalls::separate))));
  };
  const auto rule = [&](const auto& make) {
    both([&](GuidanceCalls calls) {
      const GuidanceOptions options{.scale = 3, .calls = calls, .rescale = 0.5};
      return ClassifierFreeGuidance{network(), with, 0, make(options)};
    });
  };
  rule([](const GuidanceOptions& options) { return ClassifierFreeRule{options}; });
  rule([](const GuidanceOptions& options) { return CfgPlusPlusRule{options}; });
  rule([](const GuidanceOptions& options) { return ZeroStarRule{options}; });
  rule([](const GuidanceOptions& options) { return MagnitudeAwareRule{options}; });
  rule([](const GuidanceOptions& options) { return TangentialRule{options}; });
  rule([](const GuidanceOptions& options) { return ProjectedRule{options}; });
  rule([](const GuidanceOptions& options) {
    return FrequencyDecoupledRule{{{.scale = 2}, {.scale = 3}}, options};
  });
  both([](GuidanceCalls calls) {
    return ComposedGuidance{network(), {{with, 3}, {with, 2}}, 0, {.calls = calls}};
  });
  both([](GuidanceCalls calls) {
    return ImageTextGuidance{network(), with, with, 0, {.scale = 2, .calls = calls}};
  });
  both([](GuidanceCalls calls) {
    return AutoGuidance{network(), network(3), with, {.scale = 2, .calls = calls}};
  });
  both([](GuidanceCalls calls) {
    return PerturbedGuidance{network(), network(3), with, 0,
                             PerturbedRule{{.scale = 2, .calls = calls}}};
  });
}

TEST_CASE(
    "Branches are numbered, joined ones counted, and the second network is called by itself") {
  struct Call {
    int network, branch;
    std::size_t samples;
    bool operator==(const Call&) const = default;
  };
  std::vector<Call> calls;
  const auto recording = [&](int number) {
    return [&calls, number](const Image& x, const Query& query, const Conditions<int>& conditions,
                            Image& out) {
      calls.push_back({number, query.branch, conditions.size()});
      out = x;
    };
  };
  for (const GuidanceCalls how : {GuidanceCalls::joined, GuidanceCalls::separate}) {
    calls.clear();
    ask(PerturbedGuidance{recording(1), recording(2), with, 0,
                          PerturbedRule{{.scale = 2, .calls = how}}});
    CHECK(calls == (how == GuidanceCalls::joined
                        ? std::vector<Call>{{1, 0, 2 * batch}, {2, 2, batch}}
                        : std::vector<Call>{{1, 0, batch}, {1, 1, batch}, {2, 2, batch}}));
  }
}

TEST_CASE("Guidance refuses what it cannot do, with the value and the limit") {
  struct Row {
    std::string what;
    std::function<void()> act;
    std::vector<std::string> says;
  };
  const auto options = [](GuidanceOptions given) { ClassifierFreeRule{std::move(given)}; };
  const auto projected_by = [](ProjectedOptions given) {
    by(ProjectedRule{{.scale = 2}, std::move(given)});
  };
  const std::vector<double> times{1, 2, 3}, parts{1, 2, 3, 4, 5, 6};
  Query differing = at(), finer = at();
  differing.times = times;
  finer.times = parts;
  const std::vector<Row> table{
      {"scale of a sample",
       [&] {
         options({.scales = {1, no_number}});
       },
       {"scales is nan", "finite"}},
      {"number of scales",
       [] {
         by(ClassifierFreeRule{{.scales = {1, 2}}});
       },
       {"scales has 2 numbers", "batch of 3"}},
      {"scale of a moment",
       [] { by(ClassifierFreeRule{{.scale_at = [](const Query&) { return no_number; }}}); },
       {"scale_at gives nan", "finite"}},
      {"two sources of scales",
       [&] {
         options({.scales = {1, 2, 3}, .scale_at = [](const Query&) { return 1.0; }});
       },
       {"scales and scale_at are both given"}},
      {"convention",
       [&] { options({.convention = static_cast<ScaleConvention>(2)}); },
       {"convention is 2", "[0, 1]"}},
      {"start", [&] { options({.interval = {.start = -0.1}}); }, {"start is -0.1", "[0, 1]"}},
      {"start nan",
       [&] { options({.interval = {.start = no_number}}); },
       {"start is nan", "[0, 1]"}},
      {"stop",
       [&] { options({.interval = {.start = 0.5, .stop = 0.4}}); },
       {"stop is 0.4", "[0.5, 1]"}},
      {"sigma_min",
       [&] { options({.interval = {.sigma_min = -1}}); },
       {"sigma_min is -1", "least 0"}},
      {"sigma_max",
       [&] { options({.interval = {.sigma_min = 2, .sigma_max = 1}}); },
       {"sigma_max is 1", "least 2"}},
      {"noise of parts",
       [&] { by(ClassifierFreeRule{{.scale = 2, .interval = {.sigma_min = 1}}}, finer); },
       {"sigma_min and sigma_max are set", "differ"}},
      {"too few negatives",
       [] {
         ask(ClassifierFreeGuidance{network(), with, std::vector<int>{1, 2}, {.scale = 2}});
       },
       {"2 conditions", "batch of 3"}},
      {"no conditions to compose",
       [] { ComposedGuidance(network(), std::vector<WeightedConditions<int>>{}, 0); },
       {"0 weights"}},
      {"weight",
       [] {
         ComposedRule({1, no_number});
       },
       {"weight is nan", "finite"}},
      {"composed conditions",
       [] {
         ask(ComposedGuidance{network(), {{with, 1}, {{1, 2}, 1}}, 0});
       },
       {"2 conditions", "batch of 3"}},
      {"convention of composed",
       [] { ComposedRule({1}, {.convention = ScaleConvention::w}); },
       {"ComposedRule", "convention is w"}},
      {"image scale",
       [] { ImageTextRule({.scale = 2}, no_number); },
       {"image_scale is nan", "finite"}},
      {"images",
       [] {
         ask(ImageTextGuidance{network(), with, {1, 2}, 0, {.scale = 2}});
       },
       {"2 conditions", "batch of 3"}},
      {"perturbed scale",
       [] { PerturbedRule({}, {.scale = no_number}); },
       {"scale is nan", "finite"}},
      {"perturbed start", [] { PerturbedRule({}, {.start = 2}); }, {"start is 2", "[0, 1]"}},
      {"perturbed stop",
       [] { PerturbedRule({}, {.start = 0.5, .stop = 0.1}); },
       {"stop is 0.1", "[0.5, 1]"}},
      {"three predictions for a rule of two",
       [] { PerturbedGuidance(network(), network(), with, 0, ClassifierFreeRule{{.scale = 2}}); },
       {"combines 2 predictions", "3 are asked"}},
      {"zero steps", [] { ZeroStarRule({}, -1); }, {"zero_steps is -1", "least 0"}},
      {"damping", [] { MagnitudeAwareRule({}, no_number); }, {"damping is nan"}},
      {"tangential space",
       [] { TangentialRule({}, static_cast<GuidanceSpace>(3)); },
       {"space is 3", "[0, 2]"}},
      {"eta", [&] { projected_by({.eta = no_number}); }, {"eta is nan", "finite"}},
      {"limit", [&] { projected_by({.limit = -1}); }, {"limit is -1", "[0"}},
      {"momentum", [&] { projected_by({.momentum = 1.5}); }, {"momentum is 1.5", "[-1, 1]"}},
      {"dimensions",
       [&] { projected_by({.dimensions = {3}}); },
       {"dimensions has 3", "3 dimensions", "[-3, 2]"}},
      {"x0 of times that differ inside a sample",
       [&] { by(ProjectedRule{{.scale = 2}}, finer); },
       {"slices differ"}},
      {"no bands", [] { FrequencyDecoupledRule({}); }, {"0 bands"}},
      {"scale of a band",
       [] { FrequencyDecoupledRule(std::vector<FrequencyBand>{{.scale = no_number}}); },
       {"scale is nan"}},
      {"rescale of a band",
       [] { FrequencyDecoupledRule(std::vector<FrequencyBand>{{.rescale = 2}}); },
       {"rescale is 2", "[0, 1]"}},
      {"too many bands",
       [] { by(FrequencyDecoupledRule{std::vector<FrequencyBand>(4, {.scale = 2})}); },
       {"1x1", "at least 2"}},
      {"CFG++ with w",
       [] { CfgPlusPlusRule({.convention = ScaleConvention::w}); },
       {"CfgPlusPlusRule", "convention is w"}},
      {"CFG++ of slices",
       [&] { by(CfgPlusPlusRule{{.scale = 0.6}}, differing); },
       {"slices differ"}},
  };
  for (const Row& row : table) {
    CAPTURE(row.what);
    try {
      row.act();
      FAIL_CHECK("nothing was thrown");
    } catch (const Error& error) {
      for (const std::string& part : row.says) CHECK_THAT(error.what(), contains(part));
    }
  }
}
