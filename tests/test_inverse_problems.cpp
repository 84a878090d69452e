// Methods for inverse problems against exact posteriors. On Gaussian data everything is affine in
// the noises: the law that a method samples is worked out from its definition (exact_inverse.hpp),
// read off the run itself, and held against the posterior. `test-inverse-problems "[print]"` prints
// the tables of docs/inverse-problems.md.

#include "catch.hpp"
#include "exact_inverse.hpp"
#include "generated_block.hpp"
#include "support.hpp"

#include <diffusion/denoiser/exact/exact_vector_jacobian.hpp>
#include <diffusion/inverse/ddnm.hpp>
#include <diffusion/inverse/ddnm_plus.hpp>
#include <diffusion/inverse/ddrm.hpp>
#include <diffusion/inverse/dps.hpp>
#include <diffusion/inverse/jacobians.hpp>
#include <diffusion/inverse/pigdm.hpp>
#include <diffusion/samplers/ddim.hpp>
#include <diffusion/samplers/dpm_solver.hpp>
#include <diffusion/samplers/euler.hpp>
#include <diffusion/samplers/heun.hpp>
#include <diffusion/samplers/lcm.hpp>
#include <diffusion/schedule/continuous.hpp>
#include <diffusion/schedule/noise_schedule.hpp>

#include <algorithm>
#include <cstdio>
#include <iostream>
#include <limits>
#include <map>
#include <string>
#include <utility>

namespace {

using namespace inverse;
using Problem = InverseProblem<DenseOperator>;
/// One type for all networks, so that few runs are compiled.
using Network = std::function<void(const Points&, const Query&, Points&)>;

constexpr PredictionType types[] = {PredictionType::epsilon, PredictionType::v,
                                    PredictionType::flow};

// ---- the setting -------------------------------------------------------------------------------

/// Four neighbours of correlation 0.6; the averages of two pairs are measured.
Gaussian correlated() {
  Matrix C(4, 4);
  for (Eigen::Index i = 0; i < 4; ++i)
    for (Eigen::Index j = 0; j < 4; ++j)
      C(i, j) = 0.8 * std::pow(0.6, static_cast<double>(std::abs(i - j)));
  return Gaussian(Vector{{0.4, -0.2, 0.1, 0.3}}, C);
}
LinearMeasurement averages(double sigma_y) {
  return {.A = Matrix{{0.5, 0.5, 0, 0}, {0, 0, 0.5, 0.5}},
          .y = Vector{{0.9, -0.6}},
          .R = sigma_y * sigma_y * Matrix::Identity(2, 2)};
}

template <class Data>
Network network_of(const Data& data, const PredictionType& type) {
  return exact_denoiser(data, type);
}

struct SamplerCase {
  const char* name;
  bool adds_noise;
  std::function<SamplingPlan(const Grid&)> plan;
};
const std::vector<SamplerCase>& samplers() {
  static const std::vector<SamplerCase> all = {
      {"DDIM", false, [](const Grid& g) { return make_plan(g, DdimOptions{}); }},
      {"Euler ancestral", true,
       [](const Grid& g) { return make_plan(g, EulerAncestralOptions{}); }},
      {"DPM++ 2M", false, [](const Grid& g) { return make_plan(g, DpmSolverOptions{}); }},
      {"Heun", false, [](const Grid& g) { return make_plan(g, HeunOptions{}); }},
      {"LCM", true, [](const Grid& g) { return make_plan(g, LcmOptions{}); }},
  };
  return all;
}
Grid grid_of(int steps) {
  return make_grid(NoiseSchedule<>::scaled_linear(), steps, {.spacing = TimestepSpacing::trailing});
}

template <class... Edits>
Points sampled(const SamplingPlan& plan, const PredictionType& type, const Network& network,
               const Shape& shape, const Source& noise, Edits&&... edits) {
  return sample<Points>(plan, network, shape, noise, {.prediction_type = type}, edits...);
}

// ---- what each method is, with dense matrices --------------------------------------------------

struct Dense {
  Matrix A, C;
  Vector y;
  double sigma_y;
  Eigen::SelfAdjointEigenSolver<Matrix> outer, inner;  // of A A^T and A^T A

  Dense(const Gaussian& prior, const LinearMeasurement& measured)
      : A(measured.A),
        C(prior.covariance()),
        y(measured.y),
        sigma_y(std::sqrt(measured.R(0, 0))),
        outer(A * A.transpose()),
        inner(A.transpose() * A) {}

  /// y - A x0.
  Matrix residual(const Matrix& x0) const {
    Matrix r = -A * x0;
    r.col(0) += y;
    return r;
  }
  Matrix jacobian(const Knot& at) const {
    const Matrix one = Matrix::Identity(C.rows(), C.rows());
    return at.alpha * C * (at.alpha * at.alpha * C + at.sigma * at.sigma * one).inverse();
  }
  /// A^T (variance A A^T + sigma_y^2)^-1.
  Matrix gain(double variance) const {
    const Matrix one = Matrix::Identity(A.rows(), A.rows());
    return A.transpose() * (variance * A * A.transpose() + sigma_y * sigma_y * one).inverse();
  }
};

Method predicted_ddnm(const Dense& p) {
  return {.x0 = [p](const Matrix& x0, const Stage& s) -> Matrix {
    Vector share = p.outer.eigenvalues();
    for (double& l : share)
      l = std::min(1.0, std::sqrt(l) * s.to.sigma / (s.to.alpha * p.sigma_y)) / l;
    const Matrix& Q = p.outer.eigenvectors();
    return x0 + p.A.transpose() * Q * share.asDiagonal() * Q.transpose() * p.residual(x0);
  }};
}

double added_noise(const Stage& s) { return std::hypot(s.noise[0].weight, s.noise[1].weight); }

Method predicted_ddnm_plus(const Dense& p, const Propagation& law) {
  const auto directions = [p](const Stage& s, auto&& f) {  // f(v, tau, weight of x0, added noise)
    const double a = std::abs(s.x0 - s.eps * s.at.alpha / s.at.sigma);
    for (Eigen::Index i = 0; i < p.inner.eigenvalues().size(); ++i)
      if (p.inner.eigenvalues()[i] > 1e-12)
        f(Vector(p.inner.eigenvectors().col(i)), p.sigma_y / std::sqrt(p.inner.eigenvalues()[i]), a,
          added_noise(s), p.inner.eigenvalues()[i]);
  };
  return {.x0 = [=](const Matrix& x0, const Stage& s) -> Matrix {
            Matrix moved = x0;
            directions(s, [&](const Vector& v, double tau, double a, double w, double l) {
              const double lambda = w >= a * tau ? 1 : w / (a * tau);
              moved += lambda / l * v * (v.transpose() * p.A.transpose() * p.residual(x0));
            });
            return moved;
          },
          .state =
              [=, &law](Matrix& x, const Stage& s, const Matrix&, const Matrix&, const Matrix&) {
                Matrix noise = Matrix::Zero(x.rows(), x.cols());
                for (const Term& term : s.noise)
                  if (term.source >= 0) noise += term.weight * law.unit(1 + term.source);
                if (noise.isZero(0)) return;
                directions(s, [&](const Vector& v, double tau, double a, double w, double) {
                  const double taken = std::min(w, a * tau);
                  const double left = std::sqrt(std::max(0.0, (w - taken) * (w + taken))) / w;
                  x += (left - 1) * v * (v.transpose() * noise);
                });
              }};
}

Method predicted_ddrm(const Dense& p, const DdrmOptions& o) {
  const auto measured = [p](Matrix& x, auto&& target) {  // target(v, ybar, tau) a row of weights
    for (Eigen::Index i = 0; i < p.inner.eigenvalues().size(); ++i) {
      const double l = p.inner.eigenvalues()[i];
      if (l <= 1e-12) continue;
      const Vector v = p.inner.eigenvectors().col(i);
      const Eigen::RowVectorXd now = v.transpose() * x;
      x += v * (target(v, v.dot(p.A.transpose() * p.y) / l, p.sigma_y / std::sqrt(l)) - now);
    }
  };
  return {.start =
              [=](Matrix& x, const Knot& at) {
                const Matrix n = x / std::hypot(at.alpha, at.sigma);
                measured(x, [&](const Vector& v, double ybar, double tau) {
                  const double variance = at.sigma * at.sigma - std::pow(at.alpha * tau, 2);
                  Eigen::RowVectorXd row = v.transpose() * n;
                  row *= variance < 0 ? at.sigma : std::sqrt(variance);
                  if (variance >= 0) row[0] += at.alpha * ybar;
                  return row;
                });
              },
          .state =
              [=](Matrix& x, const Stage& s, const Matrix& own, const Matrix& before,
                  const Matrix& x0) {
                const double kept = std::sqrt(1 - o.eta * o.eta);
                if (o.unmeasured == Unmeasured::paper)
                  x = s.to.alpha * x0 +
                      s.to.sigma * (kept / s.at.sigma * (before - s.at.alpha * x0) + o.eta * own);
                measured(x, [&](const Vector& v, double ybar, double tau) {
                  const Eigen::RowVectorXd estimate = v.transpose() * x0, n = v.transpose() * own;
                  Eigen::RowVectorXd gap = -estimate;
                  gap[0] += ybar;
                  if (s.to.sigma < s.to.alpha * tau)
                    return Eigen::RowVectorXd(s.to.alpha * estimate +
                                              kept * s.to.sigma / tau * gap +
                                              o.eta * s.to.sigma * n);
                  const double fresh =
                      s.to.sigma * s.to.sigma - std::pow(s.to.alpha * tau * o.eta_b, 2);
                  return Eigen::RowVectorXd(s.to.alpha * (estimate + o.eta_b * gap) +
                                            std::sqrt(std::max(0.0, fresh)) * n);
                });
              }};
}

double isotropic_variance(const Knot& at, double variance) {
  return variance * at.sigma * at.sigma / (at.alpha * at.alpha * variance + at.sigma * at.sigma);
}

Method predicted_pigdm(const Dense& p, double variance, bool exact_jacobian) {
  return {.x0 = [=](const Matrix& x0, const Stage& s) -> Matrix {
    const double r2 = isotropic_variance(s.at, variance);
    const Matrix g = p.gain(r2) * p.residual(x0);
    if (!exact_jacobian) return x0 + r2 * g;
    return x0 + s.at.sigma * s.at.sigma / s.at.alpha * p.jacobian(s.at) * g;
  }};
}

Method predicted_dps_score(const Dense& p) {
  return {.x0 = [=](const Matrix& x0, const Stage& s) -> Matrix {
    return x0 + s.at.sigma * s.at.sigma / s.at.alpha / p.sigma_y / p.sigma_y * p.jacobian(s.at) *
                    p.A.transpose() * p.residual(x0);
  }};
}

Method predicted_dps(const Dense& p, double zeta) {
  return {.state = [=](Matrix& x, const Stage& s, const Matrix&, const Matrix&, const Matrix& x0) {
    if (s.at.sigma != s.to.sigma || s.at.alpha != s.to.alpha)
      x += zeta * p.jacobian(s.at) * p.A.transpose() * p.residual(x0);
  }};
}

// ---- the methods, defined and real -------------------------------------------------------------

struct MethodCase {
  std::string name;
  std::function<Method(const Propagation&)> predicted;
  RealRun real;
  bool needs_noise = false;
};

/// All methods for data of a distribution; those of `predicted` are for a Gaussian only.
template <class Data>
std::vector<MethodCase> methods(const Data& data, const LinearMeasurement& measured,
                                double data_deviation, const Dense& dense) {
  const double sigma_y = std::sqrt(measured.R(0, 0)), variance = data_deviation * data_deviation;
  const Problem problem(DenseOperator(measured.A), measured.y, sigma_y);
  const auto vjp = exact_vector_jacobian(data);
  const PigdmOptions pigdm{.data_deviation = data_deviation};
  const DpsOptions plain{.zeta = 0.3, .normalised = false};
  const DdrmOptions over_sampler{.unmeasured = Unmeasured::sampler};
  std::vector<MethodCase> all;
  all.push_back({"DDNM", [=](const Propagation&) { return predicted_ddnm(dense); },
                 [=](const auto& plan, const auto& type, const auto& noise, const Source&,
                     const auto& shape) {
                   return sampled(plan, type, Ddnm{network_of(data, type), problem}, shape, noise);
                 }});
  all.push_back({"DDNM+", [=](const Propagation& law) { return predicted_ddnm_plus(dense, law); },
                 [=](const auto& plan, const auto& type, const auto& noise, const Source&,
                     const auto& shape) {
                   return sampled(plan, type, network_of(data, type), shape, noise,
                                  DdnmPlus{problem});
                 },
                 true});
  for (const DdrmOptions& options : {DdrmOptions{}, over_sampler})
    all.push_back({options.unmeasured == Unmeasured::paper ? "DDRM" : "DDRM, sampler's rest",
                   [=](const Propagation&) { return predicted_ddrm(dense, options); },
                   [=](const auto& plan, const auto& type, const auto& noise, const Source& own,
                       const auto& shape) {
                     return sampled(plan, type, network_of(data, type), shape, noise,
                                    Ddrm{problem, own, options});
                   }});
  all.push_back(
      {"PiGDM, no Jacobian",
       [=](const Propagation&) { return predicted_pigdm(dense, variance, false); },
       [=](const auto& plan, const auto& type, const auto& noise, const Source&,
           const auto& shape) {
         return sampled(plan, type, Pigdm{network_of(data, type), problem, pigdm}, shape, noise);
       }});
  all.push_back({"PiGDM",
                 [=](const Propagation&) { return predicted_pigdm(dense, variance, true); },
                 [=](const auto& plan, const auto& type, const auto& noise, const Source&,
                     const auto& shape) {
                   return sampled(plan, type, Pigdm{network_of(data, type), problem, vjp, pigdm},
                                  shape, noise);
                 }});
  all.push_back(
      {"DPS, score", [=](const Propagation&) { return predicted_dps_score(dense); },
       [=](const auto& plan, const auto& type, const auto& noise, const Source&,
           const auto& shape) {
         return sampled(plan, type, DpsScore{network_of(data, type), problem, vjp}, shape, noise);
       }});
  all.push_back(
      {"DPS, zeta 0.3 plain", [=](const Propagation&) { return predicted_dps(dense, plain.zeta); },
       [=](const auto& plan, const auto& type, const auto& noise, const Source&,
           const auto& shape) {
         return sampled(plan, type, network_of(data, type), shape, noise, Dps{problem, vjp, plain});
       }});
  return all;
}

// ---- tables ------------------------------------------------------------------------------------

constexpr int table_steps = 20;
constexpr double table_noise = 0.3;

struct Cell {
  Bias predicted, measured;
  double disagreement = 0;  ///< of weights, the worst of the three prediction types
};
using Table = std::map<std::string, std::map<std::string, Cell>>;

constexpr const char* ideal = "denoiser of the posterior";
const std::vector<std::string> method_names = {"DDNM",
                                               "DDNM+",
                                               "DDRM",
                                               "DDRM, sampler's rest",
                                               "PiGDM, no Jacobian",
                                               "PiGDM",
                                               "DPS, score",
                                               "DPS, zeta 0.3 plain"};

const Table& gaussian_table() {
  static const Table made = [] {
    const Gaussian prior = correlated();
    const LinearMeasurement measured = averages(table_noise);
    const Gaussian exact = posterior(prior, measured);
    Table table;
    const auto add = [&](const MethodCase& method, const Gaussian& data) {
      for (const SamplerCase& sampler : samplers()) {
        if (method.needs_noise && !sampler.adds_noise) continue;
        const SamplingPlan plan = sampler.plan(grid_of(table_steps));
        Cell& cell = table[method.name][sampler.name];
        for (const PredictionType& type : types) {
          Propagation law(data);
          const Matrix predicted = law.run(plan, type, method.predicted(law));
          const Matrix real = read_off(plan, type, 4, method.real);
          cell.predicted = bias_of(law_of(predicted), exact, prior);
          cell.measured = bias_of(law_of(real), exact, prior);
          const bool finite = predicted.allFinite() && real.allFinite();
          cell.disagreement = std::max(cell.disagreement,
                                       finite ? (predicted - real).cwiseAbs().maxCoeff() : 1e300);
        }
      }
    };
    for (const MethodCase& method :
         methods(prior, measured, std::sqrt(0.8), Dense(prior, measured)))
      add(method, prior);
    add({ideal, [](const Propagation&) { return Method{}; },
         [&](const auto& plan, const auto& type, const auto& noise, const Source&,
             const auto& shape) {
           return sampled(plan, type, network_of(exact, type), shape, noise);
         }},
        exact);
    return table;
  }();
  return made;
}

std::string number(double x) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2f", x);
  return text;
}

std::string gaussian_text() {
  const Table& table = gaussian_table();
  std::string text = "| method | |";
  for (const SamplerCase& sampler : samplers()) text += std::string(" ") + sampler.name + " |";
  text += "\n|---|---|";
  for (std::size_t i = 0; i < samplers().size(); ++i) text += "--:|";
  const auto line = [&](const std::string& name, bool measured) {
    text += measured ? "\n| | measured |" : "\n| " + name + " | predicted |";
    for (const SamplerCase& sampler : samplers()) {
      const auto& row = table.at(name);
      const auto found = row.find(sampler.name);
      if (found == row.end()) {
        text += " - |";
        continue;
      }
      const Bias& bias = measured ? found->second.measured : found->second.predicted;
      text += " " + number(bias.mean) + ", " + number(bias.spread) + " |";
    }
  };
  for (const bool measured : {false, true}) line(ideal, measured);
  for (const std::string& name : method_names)
    for (const bool measured : {false, true}) line(name, measured);
  return text + "\n";
}

// ---- a mixture ---------------------------------------------------------------------------------

GaussianMixture three_peaks() {
  return {{.weight = 2, .gaussian = Gaussian::isotropic(Vector{{-1, 0.6}}, 0.04)},
          {.weight = 1, .gaussian = Gaussian::isotropic(Vector{{0.2, -1}}, 0.09)},
          {.weight = 2, .gaussian = Gaussian(Vector{{1, 0.5}}, Matrix{{0.2, 0.12}, {0.12, 0.1}})}};
}
LinearMeasurement sum_of_two() {
  return {.A = Matrix{{0.6, 0.8}}, .y = Vector{{0.3}}, .R = Matrix{{0.04}}};
}

constexpr Eigen::Index mixture_samples = 500;

Points posterior_samples(const GaussianMixture& data, std::uint64_t seed) {
  support::Random random(seed);
  Points x(mixture_samples, data.dimension());
  for (Eigen::Index i = 0; i < mixture_samples; ++i) {
    Vector z(data.normals());
    for (double& value : z) value = random.normal();
    const Vector point = data.from_normals(z);
    for (Eigen::Index k = 0; k < point.size(); ++k) x(i, k) = point[k];
  }
  return x;
}

/// The mean over 12 directions of the plane of the distance between the sorted projections.
double sliced_distance(const Points& a, const Points& b) {
  double sum = 0;
  for (int k = 0; k < 12; ++k) {
    const double angle = std::numbers::pi * k / 12;
    const auto projected = [angle](const Points& x) {
      std::vector<double> values;
      for (Eigen::Index i = 0; i < x.dimension(0); ++i)
        values.push_back(std::cos(angle) * x(i, 0) + std::sin(angle) * x(i, 1));
      std::sort(values.begin(), values.end());
      return values;
    };
    const auto p = projected(a), q = projected(b);
    for (std::size_t i = 0; i < p.size(); ++i)
      sum += std::abs(p[i] - q[i]) / static_cast<double>(p.size());
  }
  return sum / 12;
}

struct Distance {
  double mean = 0, sliced = 0;
};
using Distances = std::map<std::string, std::map<std::string, Distance>>;

/// By DDIM and Euler ancestral, 50 steps. "exact draws" says how far two draws of the posterior
/// itself are.
const Distances& mixture_distances() {
  static const Distances made = [] {
    const GaussianMixture prior = three_peaks();
    const LinearMeasurement measured = sum_of_two();
    const GaussianMixture exact = posterior(prior, measured);
    const Points reference = posterior_samples(exact, 1);
    const auto distance = [&](const Points& x) {
      return Distance{(law_of_samples(x).mean - exact.mean()).norm(),
                      sliced_distance(x, reference)};
    };
    const double deviation = std::sqrt(prior.covariance().trace() / 2);
    Distances all;
    for (const std::size_t which : {std::size_t{0}, std::size_t{1}}) {
      const SamplerCase& sampler = samplers()[which];
      const SamplingPlan plan = sampler.plan(grid_of(50));
      for (const MethodCase& method : methods(
               prior, measured, deviation, Dense(Gaussian::isotropic(prior.mean(), 1), measured)))
        if (!method.needs_noise || sampler.adds_noise)
          all[method.name][sampler.name] =
              distance(method.real(plan, PredictionType::epsilon, {.random = true, .seed = 5},
                                   {.random = true, .seed = 6}, {mixture_samples, 2}));
      all[ideal][sampler.name] = distance(
          sampled(plan, PredictionType::epsilon, network_of(exact, PredictionType::epsilon),
                  {mixture_samples, 2}, {.random = true, .seed = 5}));
      all["no measurement"][sampler.name] = distance(
          sampled(plan, PredictionType::epsilon, network_of(prior, PredictionType::epsilon),
                  {mixture_samples, 2}, {.random = true, .seed = 5}));
      all["exact draws"][sampler.name] = distance(posterior_samples(exact, 2));
    }
    return all;
  }();
  return made;
}

std::string mixture_text() {
  const Distances& all = mixture_distances();
  std::string text = "| method | DDIM: mean | sliced | Euler ancestral: mean | sliced |\n";
  text += "|---|--:|--:|--:|--:|";
  std::vector<std::string> rows = method_names;
  rows.insert(rows.begin(), {"exact draws", ideal});
  rows.push_back("no measurement");
  for (const std::string& name : rows) {
    text += "\n| " + name + " |";
    for (const char* sampler : {"DDIM", "Euler ancestral"}) {
      const auto& row = all.at(name);
      const auto found = row.find(sampler);
      text += found == row.end()
                  ? " - | - |"
                  : " " + number(found->second.mean) + " | " + number(found->second.sliced) + " |";
    }
  }
  return text + "\n";
}

void check_block(const std::string& name, const std::string& made) {
  INFO(name << " in docs/inverse-problems.md; test-inverse-problems \"[print]\" prints it");
  CHECK(generated::block("inverse-problems.md", name) == made);
}

std::string message_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.what();
  }
  return "nothing failed";
}

}  // namespace

TEST_CASE(
    "Each run has the law that its method's definition predicts, for every sampler and type") {
  for (const auto& [method, row] : gaussian_table())
    for (const auto& [sampler, cell] : row) {
      CAPTURE(method, sampler);
      CHECK(cell.disagreement < 1e-8);
      CHECK(cell.measured.mean < 2);
      CHECK(cell.measured.spread > 0.1);
      CHECK(cell.measured.spread < 2);
    }
}

TEST_CASE("Samples have the predicted mean and covariance, within five standard errors") {
  const Gaussian prior = correlated();
  const LinearMeasurement measured = averages(table_noise);
  const Eigen::Index n = 1500;
  for (const MethodCase& method : methods(prior, measured, 1, Dense(prior, measured))) {
    const SamplingPlan plan = samplers()[4].plan(grid_of(8));  // LCM: all noises count
    Propagation law(prior);
    const Law wanted = law_of(law.run(plan, PredictionType::v, method.predicted(law)));
    const Law found = law_of_samples(method.real(
        plan, PredictionType::v, {.random = true, .seed = 1}, {.random = true, .seed = 2}, {n, 4}));
    for (Eigen::Index i = 0; i < 4; ++i) {
      CAPTURE(method.name, i);
      const double variance = wanted.covariance(i, i), count = static_cast<double>(n);
      CHECK(std::abs(found.mean[i] - wanted.mean[i]) < 5 * std::sqrt(variance / count));
      CHECK(std::abs(found.covariance(i, i) / variance - 1) < 5 * std::sqrt(2 / count));
      for (Eigen::Index j = 0; j < i; ++j) {
        const double error = std::sqrt(
            (variance * wanted.covariance(j, j) + std::pow(wanted.covariance(i, j), 2)) / count);
        CHECK(std::abs(found.covariance(i, j) - wanted.covariance(i, j)) < 5 * error);
      }
    }
  }
}

TEST_CASE("PiGDM is exact for an isotropic Gaussian: it tends to the posterior, at DDIM's order") {
  const Gaussian prior = Gaussian::isotropic(Vector{{0.3, -0.5, 0.2, 0.1}}, 0.49);
  const LinearMeasurement measured = averages(0.2);
  const Gaussian exact = posterior(prior, measured);
  const Dense dense(prior, measured);
  const auto all = methods(prior, measured, 0.7, dense);
  double before = 0;
  for (const int steps : {10, 40, 160}) {
    const SamplingPlan plan = samplers()[0].plan(make_grid(VpCosine(), steps));
    const auto error = [&](std::size_t method) {
      const Law law = law_of(read_off(plan, PredictionType::v, 4, all[method].real));
      return std::max((law.mean - exact.mean()).cwiseAbs().maxCoeff(),
                      (law.covariance - exact.covariance()).cwiseAbs().maxCoeff());
    };
    const double now = error(5);
    CAPTURE(steps, now, before);
    CHECK(error(4) == Approx(now).margin(1e-9));  // the isotropic Jacobian is the exact one
    if (before > 0) {
      CHECK(before / now > 2.5);
      CHECK(before / now < 6);
    }
    before = now;
  }
  CHECK(before < 0.02);
}

TEST_CASE("The answer of PiGDM is E[x0 | x, y] for isotropic data; that of the DPS score is not") {
  // x = alpha x0 + sigma eps is one more measurement of x0, independent of y.
  const double c = 0.49, sigma_y = 0.2;
  const Gaussian prior = Gaussian::isotropic(Vector{{0.3, -0.5, 0.2, 0.1}}, c);
  const LinearMeasurement measured = averages(sigma_y);
  const Problem problem(DenseOperator(measured.A), measured.y, sigma_y);
  const Knot at{0.4, 0.6, 0.8};
  const Vector point{{0.5, -1, 0.3, 0.7}};
  LinearMeasurement both{Matrix(6, 4), Vector(6), Matrix::Zero(6, 6)};
  both.A << measured.A, at.alpha * Matrix::Identity(4, 4);
  both.y << measured.y, point;
  both.R.diagonal() << Vector::Constant(2, sigma_y * sigma_y),
      Vector::Constant(4, at.sigma * at.sigma);
  const Vector exact = posterior(prior, both).mean();

  Points x(1, 4), out(1, 4);
  for (Eigen::Index i = 0; i < 4; ++i) x(0, i) = 2 * point[i];  // the network sees twice the state
  const Query query{.t = at.t,
                    .alpha = at.alpha,
                    .sigma = at.sigma,
                    .input_scale = 2,
                    .prediction_type = PredictionType::v,
                    .samples = 1};
  const Network network = network_of(prior, PredictionType::v);
  const auto vjp = exact_vector_jacobian(prior);
  const auto x0_of = [&](auto&& denoiser) {
    denoiser(x, query, out);
    Points x0(1, 4);
    estimate_x0(query, x.data(), out.data(), 4, x0.data());
    return Vector(Eigen::Map<const Vector>(x0.data(), 4));
  };
  const PigdmOptions options{.data_deviation = 0.7};
  CHECK((x0_of(Pigdm{network, problem, options}) - exact).norm() < 1e-12);
  CHECK((x0_of(Pigdm{network, problem, vjp, options}) - exact).norm() < 1e-12);

  // In closed form: in a measured direction of singular value s PiGDM moves by the share
  // s^2 r^2 / (s^2 r^2 + sigma_y^2) of y's distance, the DPS score by s^2 r^2 / sigma_y^2.
  const double r2 = isotropic_variance(at, c), s2 = 0.5;
  const Vector plain = x0_of(network), dps = x0_of(DpsScore{network, problem, vjp});
  const double factor = (s2 * r2 + sigma_y * sigma_y) / (sigma_y * sigma_y);
  CHECK((dps - plain - factor * (exact - plain)).norm() < 1e-12);
  CHECK(factor > 2);
}

TEST_CASE(
    "Without noise DDNM and PiGDM without Jacobian are one, and give back what was measured") {
  const Gaussian prior = correlated();
  const LinearMeasurement measured = averages(0);
  const Problem problem(DenseOperator(measured.A), measured.y);
  const Source noise{.random = true, .seed = 3};
  for (const SamplerCase& sampler : samplers())
    for (const PredictionType& type : types) {
      CAPTURE(sampler.name, name(type));
      const SamplingPlan plan = sampler.plan(grid_of(10));
      const Network network = network_of(prior, type);
      const Points ddnm = sampled(plan, type, Ddnm{network, problem}, {5, 4}, noise);
      const Points pigdm = sampled(plan, type, Pigdm{network, problem}, {5, 4}, noise);
      const Points ddrm =
          sampled(plan, type, network, {5, 4}, noise, Ddrm{problem, Source{.random = true}});
      for (Eigen::Index i = 0; i < ddnm.size(); ++i)
        CHECK(std::abs(ddnm.data()[i] - pigdm.data()[i]) < 1e-9);
      for (const Points* x : {&ddnm, &pigdm, &ddrm})
        CHECK((measure(problem.op(), *x).colwise() - measured.y).cwiseAbs().maxCoeff() < 1e-9);
    }
}

TEST_CASE("DDNM and PiGDM without noise work with an operator that has no decomposition") {
  struct Plain {
    Matrix m;
    Eigen::Index inputs() const { return m.cols(); }
    Eigen::Index outputs() const { return m.rows(); }
    Vector apply(const Vector& x) const { return m * x; }
    Vector transpose(const Vector& y) const { return m.transpose() * y; }
  };
  const Gaussian prior = correlated();
  const SamplingPlan plan = samplers()[0].plan(grid_of(6));
  const Source noise{.random = true, .seed = 3};
  const PredictionType type = PredictionType::v;
  const Network network = network_of(prior, type);
  for (const double sigma_y : {0.0, 0.3}) {
    const LinearMeasurement measured = averages(sigma_y);
    const Problem spectral(DenseOperator(measured.A), measured.y, sigma_y);
    const InverseProblem<Plain> plain({measured.A}, measured.y, sigma_y);
    const Points a = sampled(plan, type, Pigdm{network, spectral}, {3, 4}, noise);
    const Points b = sampled(plan, type, Pigdm{network, plain}, {3, 4}, noise);
    for (Eigen::Index i = 0; i < a.size(); ++i) CHECK(std::abs(a.data()[i] - b.data()[i]) < 1e-9);
    if (sigma_y > 0) {
      CHECK(message_of([&] { Ddnm(network, plain); })
                .find("sigma_y is 0.3 and the operator has no "
                      "singular value") == 0);
      continue;
    }
    const Points c = sampled(plan, type, Ddnm{network, plain}, {3, 4}, noise);
    for (Eigen::Index i = 0; i < a.size(); ++i) CHECK(std::abs(a.data()[i] - c.data()[i]) < 1e-9);
  }
}

TEST_CASE("Where a prediction cannot say x0 it stays as it is") {
  const Gaussian prior = correlated();
  const LinearMeasurement measured = averages(0.3);
  const Problem problem(DenseOperator(measured.A), measured.y, 0.3);
  Points x(1, 4), plain(1, 4), guided(1, 4);
  x.setConstant(0.7);
  const auto unchanged = [&](const PredictionType& type, double alpha, double sigma) {
    const Query query{.alpha = alpha,
                      .sigma = sigma,
                      .to_alpha = 0.5,
                      .to_sigma = 0.5,
                      .prediction_type = type,
                      .samples = 1};
    const Network network = network_of(prior, type);
    network(x, query, plain);
    bool all = true;
    const auto same = [&] { all = all && support::same_bits(plain, guided); };
    Ddnm{network, problem}(x, query, guided), same();
    Pigdm{network, problem}(x, query, guided), same();
    DpsScore{network, problem}(x, query, guided), same();
    return all;
  };
  CHECK(unchanged(PredictionType::epsilon, 0, 1));  // eps says nothing of x0 in pure noise
  CHECK_FALSE(unchanged(PredictionType::v, 0, 1));
  CHECK(unchanged(PredictionType::v, 1, 0));  // clean: x0 is x
  CHECK(unchanged(PredictionType::epsilon, 1, 0));
  // Near alpha = 0 epsilon is changed little by a large change of x0, and x0 is still exact.
  const double alpha = 1e-4;
  const Query query{.alpha = alpha,
                    .sigma = 1,
                    .to_sigma = 1,
                    .prediction_type = PredictionType::epsilon,
                    .samples = 1};
  const Network network = network_of(prior, PredictionType::epsilon);
  network(x, query, plain);
  const Problem exact(DenseOperator(measured.A), measured.y);
  Ddnm{network, exact}(x, query, guided);
  Points x0(1, 4);
  estimate_x0(query, x.data(), guided.data(), 4, x0.data());
  CHECK((measure(exact.op(), x0) - measured.y).cwiseAbs().maxCoeff() < 1e-9);
  for (Eigen::Index i = 0; i < 4; ++i)
    CHECK(std::abs(guided.data()[i] - plain.data()[i]) < 3 * alpha);
}

TEST_CASE("A symmetric Jacobian by one more call") {
  const GaussianMixture prior = three_peaks();
  int calls = 0;
  const PredictionType type = PredictionType::epsilon;
  const Network exact = network_of(prior, type);
  const Network counted = [&](const Points& x, const Query& query, Points& out) {
    ++calls;
    exact(x, query, out);
  };
  const SymmetricJacobian<Network> network(counted, 1e-5);
  const auto vjp = exact_vector_jacobian(prior);
  Points input(3, 2), v(3, 2), out(3, 2), jv(3, 2), wanted(3, 2);
  support::Random random(9);
  for (Eigen::Index i = 0; i < 6; ++i) input.data()[i] = random.normal();
  for (Eigen::Index i = 0; i < 4; ++i) v.data()[i] = random.normal();  // the third is 0
  v.data()[4] = v.data()[5] = 0;
  const Query query{
      .alpha = 0.8, .sigma = 0.6, .input_scale = 0.5, .prediction_type = type, .samples = 3};
  const Points x = input / 0.5;
  network(input, query, out);
  CHECK(calls == 1);
  network(x, query, v, jv);
  CHECK(calls == 2);
  vjp(x, query, v, wanted);
  for (Eigen::Index i = 0; i < 6; ++i)
    CHECK(std::abs(jv.data()[i] - wanted.data()[i]) < 2e-4 * (1 + std::abs(wanted.data()[i])));
  const Points elsewhere = x + 0.1;
  network(elsewhere, query, v, jv);
  CHECK(calls == 4);  // asked at another x, it must know x0 there too
  vjp(elsewhere, query, v, wanted);
  CHECK(std::abs(jv(1, 1) - wanted(1, 1)) < 2e-4);

  const LinearMeasurement measured = sum_of_two();
  const Problem problem(DenseOperator(measured.A), measured.y, 0.2);
  const Source noise{.random = true};
  const SamplingPlan plan = samplers()[0].plan(grid_of(10));
  const Points a = sampled(plan, type, Pigdm{exact, problem, vjp}, {4, 2}, noise);
  calls = 0;
  const Points b = sampled(plan, type, Pigdm{network, problem, network}, {4, 2}, noise);
  CHECK(calls == 20);
  for (Eigen::Index i = 0; i < a.size(); ++i) CHECK(std::abs(a.data()[i] - b.data()[i]) < 2e-3);
}

TEST_CASE("The paper's DPS: steps of a given length against the residual") {
  const Gaussian prior = correlated();
  const LinearMeasurement measured = averages(0.3);
  const Problem problem(DenseOperator(measured.A), measured.y, 0.3);
  const PredictionType type = PredictionType::v;
  const SamplingPlan plan = samplers()[0].plan(grid_of(30));
  const Network network = network_of(prior, type);
  const Source noise{.random = true, .seed = 8};
  const auto residual = [&](double zeta, bool normalised) {
    Dps dps{problem, IsotropicJacobian{}, {.zeta = zeta, .normalised = normalised}};
    const Points x = sampled(plan, type, network, {40, 4}, noise, dps);
    return (measure(problem.op(), x).colwise() - measured.y).colwise().norm().mean();
  };
  const double none = residual(0, true);
  CHECK(residual(0, false) == none);
  CHECK(residual(0.1, true) < 0.8 * none);
  CHECK(residual(0.3, true) < residual(0.1, true));
  // One move by hand: at the second to last level nothing else has been touched.
  Points x = sampled(samplers()[0].plan(grid_of(1)), type, network, {1, 4}, noise);
  const Points moved = sampled(samplers()[0].plan(grid_of(1)), type, network, {1, 4}, noise,
                               Dps{problem, FrozenNoiseJacobian{}, {.zeta = 0.5}});
  const Vector r = measured.y - measured.A * Eigen::Map<const Vector>(x.data(), 4);
  const double alpha = grid_of(1).start().alpha;
  const Vector step = 0.5 / alpha * measured.A.transpose() * r / r.norm();
  for (Eigen::Index i = 0; i < 4; ++i)
    CHECK(moved.data()[i] == Approx(x.data()[i] + step[i]).epsilon(1e-9));
}

TEST_CASE("Float states of another layout are restored as double ones are") {
  using Columns = Eigen::Tensor<float, 2>;  // (elements, batch)
  const Gaussian prior = correlated();
  const LinearMeasurement measured = averages(0.3);
  const Problem problem(DenseOperator(measured.A), measured.y, 0.3);
  const PredictionType type = PredictionType::v;
  const SamplingPlan plan = samplers()[1].plan(grid_of(8));
  const Source noise{.random = true, .seed = 4}, own{.random = true, .seed = 5};
  const auto same = [](const Points& a, const Columns& b) {
    double worst = 0;
    for (Eigen::Index i = 0; i < a.size(); ++i)
      worst = std::max(worst, std::abs(a.data()[i] - static_cast<double>(b.data()[i])));
    return worst;
  };
  const auto network = exact_denoiser(prior, type);
  const Points a = sampled(plan, type, Pigdm{network, problem}, {3, 4}, noise, Ddrm{problem, own});
  const Columns b =
      sample<Columns>(plan, Pigdm{network, problem}, {4, 3}, noise, {}, Ddrm{problem, own});
  CHECK(same(a, b) < 1e-4);
  const Columns one = sample<Columns>(plan, Pigdm{network, problem}, {4, 1}, noise,
                                      {.batch = false}, Ddrm{problem, own});
  for (Eigen::Index i = 0; i < 4; ++i) CHECK(std::abs(a(0, i) - double{one(i, 0)}) < 1e-4);
}

TEST_CASE("Methods on a mixture: nearer to its posterior than the prior is") {
  const Distances& all = mixture_distances();
  for (const char* sampler : {"DDIM", "Euler ancestral"}) {
    const Distance& without = all.at("no measurement").at(sampler);
    CHECK(all.at(ideal).at(sampler).sliced < 0.1);
    for (const std::string& name : method_names)
      if (all.at(name).count(sampler) > 0) {
        const Distance& with = all.at(name).at(sampler);
        CAPTURE(name, sampler, with.mean, with.sliced, without.sliced);
        // DPS's score trusts y so much that by DDIM it does more harm than good here.
        const bool harmed = name == "DPS, score" && sampler == std::string("DDIM");
        CHECK((with.sliced < without.sliced) == !harmed);
        CHECK(with.sliced > 0.01);
      }
  }
}

TEST_CASE("What does not fit is refused") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const LinearMeasurement measured = averages(0.3);
  const DenseOperator a(measured.A);
  const Problem problem(a, measured.y, 0.3), clean(a, measured.y);
  const Problem three(a, Matrix::Zero(2, 3), 0.3);
  const Problem skipped(DenseOperator(measured.A, Svd::skip), measured.y, 0.3);
  const Gaussian prior = correlated();
  const PredictionType type = PredictionType::v;
  const Network network = network_of(prior, type);
  const Network wide = network_of(Gaussian::isotropic(Vector::Zero(5), 1), type);
  const Source noise{.random = true};
  const SamplingPlan ddim = samplers()[0].plan(grid_of(2)), euler = samplers()[1].plan(grid_of(2));
  struct Row {
    std::function<void()> f;
    const char* says;
  };
  const std::vector<Row> rows = {
      {[&] {
         sampled(ddim, type, Ddnm{wide, problem}, {2, 5}, noise);
       },
       "a sample of the state 2x5 has 5 elements; the operator takes 4"},
      {[&] {
         sampled(ddim, type, Pigdm{wide, problem}, {2, 5}, noise);
       },
       "the operator takes 4"},
      {[&] {
         sampled(ddim, type, DpsScore{wide, problem}, {2, 5}, noise);
       },
       "the operator takes 4"},
      {[&] {
         sampled(ddim, type, wide, {2, 5}, noise, Dps{problem});
       },
       "the operator takes 4"},
      {[&] {
         sampled(ddim, type, wide, {2, 5}, noise, Ddrm{problem, noise});
       },
       "the operator takes 4"},
      {[&] {
         sampled(euler, type, wide, {2, 5}, noise, DdnmPlus{problem});
       },
       "the operator takes 4"},
      {[&] {
         sampled(ddim, type, Ddnm{network, three}, {2, 4}, noise);
       },
       "there are 3 measurements for 2 samples"},
      {[&] {
         sampled(ddim, type, network, {2, 4}, noise, Ddrm{three, noise});
       },
       "there are 3 measurements for 2 samples"},
      {[&] {
         sampled(ddim, type, network, {2, 4}, noise, DdnmPlus{problem});
       },
       "sigma_y is 0.3 and the plan adds no noise"},
      {[&] { Ddrm(skipped, noise); }, "was made with Svd::skip"},
      {[&] { DdnmPlus(Problem(skipped)); }, "was made with Svd::skip"},
      {[&] { Ddrm(problem, noise, {.eta = 1.5}); }, "DdrmOptions::eta is 1.5"},
      {[&] { Ddrm(problem, noise, {.eta = nan}); }, "DdrmOptions::eta is nan"},
      {[&] { Ddrm(problem, noise, {.eta_b = -0.1}); }, "DdrmOptions::eta_b is -0.1"},
      {[&] { Ddrm(problem, noise, {.unmeasured = static_cast<Unmeasured>(7)}); },
       "DdrmOptions::unmeasured is 7"},
      {[&] { Pigdm(network, problem, PigdmOptions{.data_deviation = 0}); },
       "PigdmOptions::data_deviation is 0"},
      {[&] { Pigdm(network, problem, PigdmOptions{.data_deviation = nan}); },
       "PigdmOptions::data_deviation is nan"},
      {[&] {
         const PigdmOptions options{.variance = [](const Query&) { return -1.0; }};
         sampled(ddim, type, Pigdm{network, problem, options}, {2, 4}, noise);
       },
       "PigdmOptions::variance is -1"},
      {[&] { DpsScore(network, clean); }, "sigma_y is 0; DpsScore divides by its square"},
      {[&] { DpsScore(network, problem, IsotropicJacobian{}, -1); },
       "the strength of DpsScore is -1"},
      {[&] { Dps(problem, DpsOptions{.zeta = -1}); }, "DpsOptions::zeta is -1"},
      {[&] { Dps(problem, DpsOptions{.zeta = nan}); }, "DpsOptions::zeta is nan"},
      {[&] { SymmetricJacobian<Network>(network, 0); }, "the step of SymmetricJacobian is 0"},
      {[&] {
         sampled(ddim, type, network, {2, 4}, noise, Dps{problem, IsotropicJacobian{-1}});
       },
       "IsotropicJacobian::data_deviation is -1"},
      {[&] {
         Points x(2, 4), out(2, 4);
         const std::vector<double> times{0.1, 0.2};
         Query query{.alpha = 0.6, .sigma = 0.8, .prediction_type = type, .times = times};
         Ddnm{Network([](const Points&, const Query&, Points&) {}), problem}(x, query, out);
       },
       "one level for all, but the slices differ"},
  };
  for (const Row& row : rows) {
    const std::string message = message_of(row.f);
    CAPTURE(row.says, message);
    CHECK(message.find(row.says) != std::string::npos);
  }
}

TEST_CASE("docs/inverse-problems.md shows the tables as they are") {
  check_block("biases", gaussian_text());
  check_block("mixture", mixture_text());
}

TEST_CASE("The tables, printed", "[.print]") {
  const auto print = [](const std::string& name, const std::string& text) {
    std::cout << "<!-- " << name << ": made by tests/test_inverse_problems.cpp -->\n"
              << text << "<!-- end of " << name << " -->\n\n";
  };
  print("biases", gaussian_text());
  print("mixture", mixture_text());
}
