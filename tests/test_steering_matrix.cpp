// Every method of guidance with every sampler and prediction type, on Gaussian clips: the law of
// the run against the definition. `test-steering-matrix "[.print]"` prints the table of
// docs/steering.md; edits, and restoration and clips are in the two tests beside this one.

#include "steering_zoo.hpp"

#include <diffusion/denoiser/exact/exact_vector_jacobian.hpp>
#include <diffusion/guidance/autoguidance.hpp>
#include <diffusion/guidance/cfg_plus_plus.hpp>
#include <diffusion/guidance/classifier_free.hpp>
#include <diffusion/guidance/classifier_guidance.hpp>
#include <diffusion/guidance/composed.hpp>
#include <diffusion/guidance/frequency_decoupled.hpp>
#include <diffusion/guidance/image_text.hpp>
#include <diffusion/guidance/loss_guidance.hpp>
#include <diffusion/guidance/magnitude_aware.hpp>
#include <diffusion/guidance/perturbed.hpp>
#include <diffusion/guidance/projected.hpp>
#include <diffusion/guidance/tangential.hpp>
#include <diffusion/guidance/zero_star.hpp>

using namespace steering;

namespace {

// Conditions: none, what is wanted, what is not, a part of what is wanted, and worse networks.
enum : int { none, wanted, unwanted, part, worse, perturbed };
const std::vector<Gaussian>& data() {
  static const std::vector<Gaussian> all = [] {
    const Gaussian prior = clips();
    LinearMeasurement first = halves();
    first.A = first.A.topRows(1).eval();
    first.y = first.y.head(1).eval();
    first.R = first.R.topLeftCorner(1, 1).eval();
    const Matrix C = posterior(prior, halves()).covariance();
    const Vector mean = posterior(prior, halves()).mean();
    return std::vector<Gaussian>{prior,
                                 posterior(prior, halves()),
                                 posterior(prior, halves(-0.5, 1)),
                                 posterior(prior, first),
                                 Gaussian(mean, C + 0.1 * Matrix::Identity(d, d)),
                                 Gaussian(mean, Matrix(1.4 * C))};
  }();
  return all;
}

Matrix x0_of(int condition, const Matrix& x, const Stage& s) {
  return estimate(data()[static_cast<std::size_t>(condition)], x, s.at);
}
ConditionalNetwork network(const PredictionType& type) { return {data(), type}; }
/// A network that does not look at conditions 0 and 1.
ConditionalNetwork blind(const PredictionType& type) {
  return {{data()[wanted], data()[wanted], data()[wanted]}, type};
}
Network plain(const PredictionType& type) { return exact_network(data()[wanted], type); }

/// One condition a sample; the batch is known only when the network is asked.
template <class Make>
Network for_batch(const Make& make) {
  using Guided = decltype(make(std::size_t{1}));
  auto made = std::make_shared<std::optional<Guided>>();
  return [make, made](const Clip& x, const Query& query, Clip& out) {
    if (!*made) made->emplace(make(static_cast<std::size_t>(x.dimension(0))));
    (**made)(x, query, out);
  };
}
std::vector<int> all(std::size_t batch, int condition = wanted) {
  return std::vector<int>(batch, condition);
}

template <class Rule>
Network by_rule(const ConditionalNetwork& of, const Rule& rule, int without = none) {
  return for_batch([=](std::size_t batch) {
    return ClassifierFreeGuidance{of, all(batch), without, rule};
  });
}
template <class Rule>
Row linear_rule(const std::string& name, const std::string& against, const Rule& rule,
                const std::function<double(const Stage&)>& scale, int without = none) {
  return guided(
      name, against,
      [=](const PredictionType& type) { return by_rule(network(type), rule, without); },
      [=](const Matrix& x, const Stage& s) -> Matrix {
        const Matrix u = x0_of(without, x, s);
        return u + scale(s) * (x0_of(wanted, x, s) - u);
      });
}
template <class Rule>
Row other_rule(const std::string& name, const Rule& rule) {
  return finite(
      name, "plain run if c = u",
      [=](const PredictionType& type) { return by_rule(network(type), rule); },
      [=](const PredictionType& type) { return by_rule(blind(type), rule); }, plain);
}

/// The gradient of log p(y | x): the difference of the scores.
void gradient(const Clip& x, const Query& query, Clip& out) {
  const Knot at{query.t, query.alpha, query.sigma};
  diffusion::detail::predict_points(
      x, query.batched, d, out, [&](std::size_t, const Eigen::VectorXd& point) -> Vector {
        return data()[wanted].score(point, at) - data()[none].score(point, at);
      });
}
/// The same from y = A x0 + noise: J A^T (A Cov[x0 | x] A^T + R)^-1 (y - A x0).
Matrix defined_gradient(const Matrix& x, const Knot& at) {
  const LinearMeasurement m = halves();
  const Matrix C = clips().covariance(), J = jacobian(clips(), at);
  const Matrix V = C - at.alpha * J * C;
  return J * m.A.transpose() * (m.A * V * m.A.transpose() + m.R).inverse() *
         residual(m, estimate(clips(), x, at));
}

/// dL/dx0 of L = |y - A x0|^2 / 2.
void loss_gradient(const Clip& x0, const Query& query, Clip& out) {
  const LinearMeasurement m = halves();
  diffusion::detail::predict_points(x0, query.batched, d, out,
                                    [&](std::size_t, const Eigen::VectorXd& point) -> Vector {
                                      return m.A.transpose() * (m.A * point - m.y);
                                    });
}

std::vector<Row> rows() {
  const auto always = [](double g) { return [g](const Stage&) { return g; }; };
  const auto inside = [](const Stage& s) {
    const double noise = s.at.sigma / s.at.alpha;
    return noise > 0.5 && noise <= 5 ? 2.0 : 1.0;
  };
  std::vector<Row> rows;
  rows.push_back(linear_rule("classifier-free, g = 2", "u + g (c - u)",
                             ClassifierFreeRule{{.scale = 2}}, always(2)));
  rows.push_back(linear_rule("the same, convention w = 1", "g = 2",
                             ClassifierFreeRule{{.scale = 1, .convention = ScaleConvention::w}},
                             always(2)));
  rows.push_back(linear_rule(
      "the same, in an interval of noise", "g = 2 inside",
      ClassifierFreeRule{{.scale = 2, .interval = {.sigma_min = 0.5, .sigma_max = 5}}}, inside));
  rows.push_back(linear_rule("negative condition", "n + g (c - n)",
                             ClassifierFreeRule{{.scale = 2}}, always(2), unwanted));
  rows.push_back(other_rule("rescaled, 0.7", ClassifierFreeRule{{.scale = 2, .rescale = 0.7}}));
  for (const double weight : {0.5, -0.5})
    rows.push_back(guided(
        weight > 0 ? "composed, and" : "composed, not", "u + sum w (c - u)",
        [=](const PredictionType& type) {
          return for_batch([=](std::size_t batch) {
            return ComposedGuidance{network(type),
                                    std::vector<WeightedConditions<int>>{
                                        {all(batch), 1.5}, {all(batch, unwanted), weight}},
                                    static_cast<int>(none)};
          });
        },
        [=](const Matrix& x, const Stage& s) -> Matrix {
          const Matrix u = x0_of(none, x, s);
          return u + 1.5 * (x0_of(wanted, x, s) - u) + weight * (x0_of(unwanted, x, s) - u);
        }));
  rows.push_back(guided(
      "image and text", "u + s (i - u) + g (c - i)",
      [](const PredictionType& type) {
        return for_batch([=](std::size_t batch) {
          return ImageTextGuidance{network(type),          all(batch),   all(batch, part),
                                   static_cast<int>(none), {.scale = 3}, 1.5};
        });
      },
      [](const Matrix& x, const Stage& s) -> Matrix {
        const Matrix u = x0_of(none, x, s), i = x0_of(part, x, s);
        return u + 1.5 * (i - u) + 3 * (x0_of(wanted, x, s) - i);
      }));
  rows.push_back(linear_rule("CFG++, lambda = 0.5", "g = lambda s / (s - s')",
                             CfgPlusPlusRule{{.scale = 0.5}}, [](const Stage& s) {
                               const double noise = s.at.sigma * s.to.alpha;
                               const double step = noise - s.to.sigma * s.at.alpha;
                               return std::abs(step) < 1e-12 * noise ? 0.5 : 0.5 * noise / step;
                             }));
  rows.push_back(other_rule("CFG-Zero*", ZeroStarRule{{.scale = 2}}));
  rows.push_back(linear_rule("APG, eta = 1", "u + g (c - u)",
                             ProjectedRule{{.scale = 2}, {.eta = 1}}, always(2)));
  rows.push_back(other_rule("APG, eta = 0, momentum",
                            ProjectedRule{{.scale = 2}, {.limit = 1, .momentum = -0.5}}));
  rows.push_back(other_rule("tangential", TangentialRule{{.scale = 2}}));
  rows.push_back(other_rule("magnitude-aware", MagnitudeAwareRule{{.scale = 2}, 1}));
  rows.push_back(linear_rule("frequency-decoupled, one scale", "u + g (c - u)",
                             FrequencyDecoupledRule{{{.scale = 2}, {.scale = 2}}}, always(2)));
  rows.push_back(other_rule(
      "frequency-decoupled, two scales",
      FrequencyDecoupledRule{{{.scale = 3, .parallel = 0.5}, {.scale = 2, .rescale = 0.5}}}));
  rows.push_back(guided(
      "autoguidance", "b + g (c - b)",
      [](const PredictionType& type) {
        return for_batch([=](std::size_t batch) {
          ConditionalNetwork bad = network(type);
          bad.data[wanted] = data()[worse];
          return AutoGuidance{network(type), bad, all(batch), {.scale = 2}};
        });
      },
      [](const Matrix& x, const Stage& s) -> Matrix {
        const Matrix b = x0_of(worse, x, s);
        return b + 2 * (x0_of(wanted, x, s) - b);
      }));
  rows.push_back(guided(
      "a perturbed third prediction", "u + g (c - u) + s (c - p)",
      [](const PredictionType& type) {
        return for_batch([=](std::size_t batch) {
          ConditionalNetwork bad = network(type);
          bad.data[wanted] = data()[perturbed];
          return PerturbedGuidance{network(type), bad, all(batch), static_cast<int>(none),
                                   PerturbedRule{{.scale = 2}, {.scale = 1.5}}};
        });
      },
      [](const Matrix& x, const Stage& s) -> Matrix {
        const Matrix u = x0_of(none, x, s), c = x0_of(wanted, x, s);
        Matrix x0 = u + 2 * (c - u);
        if (s.step > 0) x0 += 1.5 * (c - x0_of(perturbed, x, s));
        return x0;
      }));
  for (const double scale : {1.0, 2.0})
    rows.push_back(guided(
        scale == 1 ? "classifier guidance, s = 1" : "classifier guidance, s = 2",
        scale == 1 ? "p(x0 given y); u at alpha = 0" : "u + s (c - u); u at alpha = 0",
        [=](const PredictionType& type) {
          return hold(ClassifierGuidance{exact_network(clips(), type), gradient, {.scale = scale}});
        },
        [=](const Matrix& x, const Stage& s) -> Matrix {
          const Matrix u = x0_of(none, x, s);
          if (s.at.alpha == 0) return u;  // a score of pure noise says nothing of y
          return u + scale * (x0_of(wanted, x, s) - u);
        }));
  rows.push_back(edited(
      "classifier guidance, shift of the mean", "x' + s w^2 grad",
      [](const SamplingPlan&) {
        return AnyEdit(ClassifierMeanShift{gradient, {.scale = 2}});
      },
      {.state = [](Propagation&, Matrix& x, const Stage& s, const Matrix& before, const Matrix&) {
        double variance = 0;
        for (const Term& term : s.noise)
          if (term.source >= 0) variance += term.weight * term.weight;
        if (variance > 0) x += 2 * variance * defined_gradient(before, s.at);
      }}));
  const auto down = [](const Matrix& x0) -> Matrix {
    return -halves().A.transpose() * residual(halves(), x0);
  };
  rows.push_back(guided(
      "guidance by a loss", "x0 - k dL/dx0",
      [](const PredictionType& type) {
        return hold(LossGuidance{exact_network(clips(), type), loss_gradient, {.strength = 2}});
      },
      [=](const Matrix& x, const Stage& s) -> Matrix {
        const Matrix x0 = estimate(clips(), x, s.at);
        return x0 - 2 * down(x0);
      }));
  rows.push_back(guided(
      "the same through the network", "x0 - k J dL/dx0",
      [](const PredictionType& type) {
        return hold(LossGuidance{exact_network(clips(), type),
                                 loss_gradient,
                                 {.strength = 2},
                                 exact_vector_jacobian(clips())});
      },
      [=](const Matrix& x, const Stage& s) -> Matrix {
        const Matrix x0 = estimate(clips(), x, s.at);
        return x0 - 2 * jacobian(clips(), s.at) * down(x0);
      }));
  return rows;
}

const Table& table() {
  static const Table made = make_table("guidance", "test_steering_matrix.cpp", rows());
  return made;
}

}  // namespace

TEST_CASE("Guidance is what it says with every sampler and prediction type") { table().check(); }
TEST_CASE("docs/steering.md shows the matrix of guidance as it is") { table().check_page(); }
TEST_CASE("The matrix of guidance, printed", "[.print]") { table().print(); }
