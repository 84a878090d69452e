#ifndef DIFFUSION_TESTS_STEERING_ZOO_HPP
#define DIFFUSION_TESTS_STEERING_ZOO_HPP

// What the matrix of steering methods runs on: clips of 4 frames of 2 pixels, Gaussian, with their
// perfect networks. A run that is affine in its noises is read off exactly, by unit impulses for
// noise, and held against its definition, which is propagated by dense matrices and knows nothing
// of denoisers made of denoisers, edits or Jacobians. Types are erased, so that one run is compiled
// for all methods.

#include <diffusion/denoiser/exact/exact_denoiser.hpp>
#include <diffusion/denoiser/exact/linear_posterior.hpp>
#include <diffusion/guidance/conditions.hpp>
#include <diffusion/sampling/sample.hpp>

#include <Eigen/Dense>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "exact_edit.hpp"
#include "exact_inverse.hpp"
#include "generated_block.hpp"

namespace steering {

using namespace diffusion;
using exact::Case;
using inverse::Law;
using inverse::Matrix;
using inverse::Vector;
using Clip = Eigen::Tensor<double, 3, Eigen::RowMajor>;  // clip, frame, pixel
using Network = std::function<void(const Clip&, const Query&, Clip&)>;

constexpr Eigen::Index frames = 4, width = 2, d = frames * width;
constexpr int steps = 6;
constexpr double exact_to = 1e-9;  // what counts as exact

// ---- noise, networks and edits of one type each ------------------------------------------------

struct Noise {
  using Fill = std::function<void(std::uint64_t, std::uint64_t, std::uint64_t, std::span<float>)>;
  Fill source;
  void fill(std::uint64_t sample, std::uint64_t draw, std::uint64_t element,
            std::span<float> out) const {
    source(sample, draw, element, out);
  }
};
template <class N>
Noise noise_of(N noise) {
  return {[noise](std::uint64_t sample, std::uint64_t draw, std::uint64_t element,
                  std::span<float> out) { noise.fill(sample, draw, element, out); }};
}
/// Sample 0 has zeros; sample 1 + j a one at normal j, counted through from draw `before`.
inline Noise impulses(Eigen::Index first = 0, std::uint64_t before = 0) {
  return noise_of(inverse::Source{.d = static_cast<std::uint64_t>(d),
                                  .first = static_cast<std::uint64_t>(first),
                                  .before = before});
}
inline Noise normals(std::uint64_t seed) {
  return noise_of(inverse::Source{.random = true, .seed = seed});
}

template <class D>
Network hold(D denoiser) {
  auto held = std::make_shared<D>(std::move(denoiser));
  return [held](const Clip& x, const Query& query, Clip& out) { (*held)(x, query, out); };
}
inline Network exact_network(const Gaussian& data, const PredictionType& type) {
  return exact_denoiser(data, type);
}

/// Condition k is the k-th Gaussian.
struct ConditionalNetwork {
  std::vector<Gaussian> data;
  PredictionType type;
  void operator()(const Clip& x, const Query& query, const Conditions<int>& conditions,
                  Clip& out) const {
    const Knot at = diffusion::detail::level_of(query);
    diffusion::detail::predict_points(
        x, query.batched, d, out, [&](std::size_t sample, const Eigen::VectorXd& point) {
          return exact_prediction(data[static_cast<std::size_t>(conditions[sample])], type, point,
                                  at);
        });
  }
};

using Run = Stepper<Clip, diffusion::detail::HeldNoise<const Noise&>>;

/// Any edit or callback of such a run.
class AnyEdit {
 public:
  template <class E>
  explicit AnyEdit(E edit) {
    auto held = std::make_shared<E>(std::move(edit));
    if constexpr (requires(E & e, const Run& run, Clip& x) { e.edit_start(run, x); })
      start_ = [held](const Run& run, Clip& x) { held->edit_start(run, x); };
    if constexpr (requires(E & e, const Run& run, Clip& x0) { e.edit_x0(run, x0); })
      x0_ = [held](const Run& run, Clip& x0) { held->edit_x0(run, x0); };
    if constexpr (requires(E & e, const Run& run) { e(run); })
      before_ = [held](const Run& run) { (*held)(run); };
    if constexpr (requires(E & e, const Run& run, Clip& x) { e.edit_state(run, x); })
      state_ = [held](const Run& run, Clip& x) { held->edit_state(run, x); };
  }
  void edit_start(const Run& run, Clip& x) {
    if (start_) start_(run, x);
  }
  void edit_x0(const Run& run, Clip& x0) {
    if (x0_) x0_(run, x0);
  }
  void operator()(const Run& run) {
    if (before_) before_(run);
  }
  void edit_state(const Run& run, Clip& x) {
    if (state_) state_(run, x);
  }

 private:
  std::function<void(const Run&, Clip&)> start_, x0_, state_;
  std::function<void(const Run&)> before_;
};

// ---- the data ----------------------------------------------------------------------------------

inline Matrix over_pixels(const Matrix& of_frames, const Matrix& of_pixels) {
  Matrix all(d, d);
  for (Eigen::Index f = 0; f < frames; ++f)
    for (Eigen::Index g = 0; g < frames; ++g)
      all.block(f * width, g * width, width, width) = of_frames(f, g) * of_pixels;
  return all;
}
/// Frames of correlation 0.6 with the next, pixels of 0.3; every window of frames is alike.
inline Gaussian clips() {
  Matrix of_frames(frames, frames);
  for (Eigen::Index f = 0; f < frames; ++f)
    for (Eigen::Index g = 0; g < frames; ++g)
      of_frames(f, g) = 0.8 * std::pow(0.6, static_cast<double>(std::abs(f - g)));
  return Gaussian(Vector::Constant(d, 0.4), over_pixels(of_frames, Matrix{{1, 0.3}, {0.3, 1}}));
}
inline Gaussian independent() { return Gaussian::isotropic(Vector::Constant(d, 0.4), 0.36); }

/// The means of both halves of the clip are measured.
inline LinearMeasurement halves(double y0 = 0.9, double y1 = -0.6, double sigma_y = 0.3) {
  Matrix A = Matrix::Zero(2, d);
  A.row(0).head(d / 2).setConstant(0.25);
  A.row(1).tail(d / 2).setConstant(0.25);
  return {.A = A, .y = Vector{{y0, y1}}, .R = sigma_y * sigma_y * Matrix::Identity(2, 2)};
}
inline Clip clip_of(const Vector& values) {
  Clip clip(1, frames, width);
  for (Eigen::Index i = 0; i < d; ++i) clip.data()[i] = values[i];
  return clip;
}
inline Vector picture() { return Vector{{0.8, -0.3, 1.1, 0.2, -0.7, 0.5, 0.1, 1.4}}; }

// ---- what is so by definition ------------------------------------------------------------------

/// E[x0 | x] as weights.
inline Matrix estimate(const Gaussian& data, const Matrix& x, const Knot& at) {
  const Matrix C = data.covariance(), one = Matrix::Identity(C.rows(), C.cols());
  const Matrix gain =
      at.alpha * C * (at.alpha * at.alpha * C + at.sigma * at.sigma * one).inverse();
  Matrix x0 = gain * x;
  x0.col(0) += data.mean() - at.alpha * gain * data.mean();
  return x0;
}
/// d x0 / d x, symmetric.
inline Matrix jacobian(const Gaussian& data, const Knot& at) {
  const Matrix C = data.covariance(), one = Matrix::Identity(C.rows(), C.cols());
  return at.alpha * C * (at.alpha * at.alpha * C + at.sigma * at.sigma * one).inverse();
}
/// y - A x0.
inline Matrix residual(const LinearMeasurement& measured, const Matrix& x0) {
  Matrix r = -measured.A * x0;
  r.col(0) += measured.y;
  return r;
}

/// A method on weights: column 0 is the constant, then the initial noise, the plan's draws, and
/// draws of its own. What is missing does nothing; without x0 the data's own is taken.
class Propagation;
struct Definition {
  std::function<void(Propagation& law, Matrix& x, const Knot& at)> start{};
  std::function<Matrix(const Matrix& x, const Stage& stage)> x0{};
  /// x: the new state; then the state before, and x0.
  std::function<void(Propagation& law, Matrix& x, const Stage& stage, const Matrix& before,
                     const Matrix& x0)>
      state{};
  Matrix root = Matrix::Identity(d, d);  ///< the initial noise is this times normals
  bool root_of_draws = false;            ///< the plan's draws, too
};

class Propagation {
 public:
  explicit Propagation(const SamplingPlan& plan) : plan_(plan) {
    width_ = 1 + d * (plan.draws() + 2 * plan.size() + 6);
    own_ = 1 + plan.draws();
  }

  Matrix run(const Gaussian& data, const PredictionType& type, const Definition& method,
             const std::optional<Matrix>& from = {}) {
    slots_.assign(static_cast<std::size_t>(plan_.traits().slots), zero());
    saved_ = zero();
    Matrix x = from ? *from : Matrix(plan_.traits().initial_scale * (method.root * unit(0)));
    if (method.start) method.start(*this, x, plan_[0].at);
    for (int k = 0; k < plan_.size(); ++k) x = step(plan_[k], data, type, method, x);
    return x;
  }

  Matrix zero() const { return Matrix::Zero(d, width_); }
  /// Draw 0 is the initial one.
  Matrix unit(Eigen::Index draw) const {
    Matrix weights = zero();
    weights.middleCols(1 + draw * d, d).setIdentity();
    return weights;
  }
  /// Normals that nothing else has.
  Matrix fresh() { return unit(own_++); }
  /// alpha y + sigma n.
  Matrix noised(const Vector& y, const Matrix& n, const Knot& at) const {
    Matrix x = at.sigma * n;
    x.col(0) += at.alpha * y;
    return x;
  }

 private:
  Matrix step(const Stage& s, const Gaussian& data, const PredictionType& type,
              const Definition& method, const Matrix& x) {
    if (s.save) saved_ = x;
    Matrix next = s.x * x;
    Matrix x0 = zero(), eps = zero(), raw = zero();
    if (s.ask) {
      x0 = method.x0 ? method.x0(x, s) : estimate(data, x, s.at);
      if (s.at.sigma > 0) eps = (x - s.at.alpha * x0) / s.at.sigma;
      const Target f =
          target(type, {s.at.t, s.input_scale * s.at.alpha, s.input_scale * s.at.sigma});
      raw = f.on_x0 * x0 + f.on_eps * eps;
      next += s.x0 * x0 + s.eps * eps + s.raw * raw;
    }
    if (s.saved != 0) next += s.saved * saved_;
    for (const Term& term : s.history)
      if (term.source >= 0) next += term.weight * slots_[static_cast<std::size_t>(term.source)];
    for (const Term& term : s.noise) {
      if (term.source < 0) continue;
      const Matrix n = unit(1 + term.source);
      next += term.weight * (method.root_of_draws ? Matrix(method.root * n) : n);
    }
    if (s.keep >= 0)
      slots_[static_cast<std::size_t>(s.keep)] = plan_.traits().basis == Basis::x0    ? x0
                                                 : plan_.traits().basis == Basis::eps ? eps
                                                                                      : raw;
    if (method.state) method.state(*this, next, s, x, x0);
    return next;
  }

  const SamplingPlan& plan_;
  Eigen::Index width_ = 0, own_ = 0;
  std::vector<Matrix> slots_;
  Matrix saved_;
};

inline Law defined(const SamplingPlan& plan, const Gaussian& data, const PredictionType& type,
                   const Definition& method = {}) {
  return inverse::law_of(Propagation(plan).run(data, type, method));
}

// ---- what a run does ---------------------------------------------------------------------------

inline Eigen::Index impulse_batch(const SamplingPlan& plan) {
  return 1 + d * (plan.draws() + 2 * plan.size() + 6);
}

inline Clip sampled(const SamplingPlan& plan, const PredictionType& type, const Network& network,
                    Eigen::Index batch, const Noise& noise,
                    const std::optional<AnyEdit>& edit = {}) {
  const SampleOptions options{.prediction_type = type};
  if (!edit) return sample<Clip>(plan, network, {batch, frames, width}, noise, options);
  AnyEdit acting = *edit;
  return sample<Clip>(plan, network, {batch, frames, width}, noise, options, acting);
}
/// Of a batch that was given impulses.
inline Law law_of_batch(const Clip& x) {
  const Matrix rows = Eigen::Map<const Matrix>(x.data(), d, x.dimension(0));
  const Matrix weights = rows.rightCols(rows.cols() - 1).colwise() - Vector(rows.col(0));
  return {rows.col(0), weights * weights.transpose()};
}
inline Law run_law(const SamplingPlan& plan, const PredictionType& type, const Network& network,
                   const std::optional<AnyEdit>& edit = {}, const Noise& noise = impulses()) {
  return law_of_batch(sampled(plan, type, network, impulse_batch(plan), noise, edit));
}

inline double apart(const Law& a, const Law& b) {
  return (std::max)((a.mean - b.mean).cwiseAbs().maxCoeff(),
                    (a.covariance - b.covariance).cwiseAbs().maxCoeff());
}
inline double apart(const Clip& a, const Clip& b) {
  double most = 0;
  for (Eigen::Index i = 0; i < a.size(); ++i)
    most = (std::max)(most, std::abs(a.data()[i] - b.data()[i]));
  return most;
}
inline bool all_finite(const Clip& x) {
  return std::all_of(x.data(), x.data() + x.size(),
                     [](double value) { return std::isfinite(value); });
}

// ---- the table ---------------------------------------------------------------------------------

struct Result {
  /// exact: `error` must be rounding. number: it must be below `limit` and is printed. finite: the
  /// run has only finite numbers, and the error of the law beside it must be rounding.
  enum Kind { exact, number, finite, refused } kind;
  double error = 0;
  std::string why{};  ///< refused: the short reason
  double limit = exact_to;
};
struct Row {
  std::string method, against;
  std::function<Result(const Case&)> run;
};

inline std::string text_of(const Result& worst) {
  char text[32];
  switch (worst.kind) {
    case Result::exact:
      return "exact";
    case Result::finite:
      return "finite";
    case Result::refused:
      return worst.why;
    default:
      std::snprintf(text, sizeof text, worst.error < 1e-4 ? "< 1e-4" : "%.4f", worst.error);
  }
  return text;
}

/// Rows methods, columns samplers, each cell the worst of its prediction types; what is wrong goes
/// to `failures`.
inline std::string table_of(const std::vector<Row>& rows, std::vector<std::string>& failures) {
  std::vector<std::string> columns;
  const auto sampler = [](const Case& c) { return c.name.substr(0, c.name.find(',')); };
  for (const Case& c : exact::cases(steps))
    if (columns.empty() || columns.back() != sampler(c)) columns.push_back(sampler(c));
  std::string text = "| method | against |";
  for (const std::string& column : columns) text += " " + column + " |";
  text += "\n|---|---|";
  for (std::size_t i = 0; i < columns.size(); ++i) text += "--:|";
  for (const Row& row : rows) {
    std::map<std::string, Result> cells;
    for (const Case& c : exact::cases(steps)) {
      const auto wrong = [&](const std::string& what) {
        failures.push_back(row.method + ", " + c.name + ": " + what);
      };
      Result result{Result::refused};
      try {
        result = row.run(c);
      } catch (const Error& error) {
        wrong(error.what());
      }
      if (!(result.error <= result.limit)) wrong("off by " + std::to_string(result.error));
      const auto [at, first] = cells.try_emplace(sampler(c), result);
      if (at->second.kind != result.kind) wrong("another kind of result than the types before");
      at->second.error = (std::max)(at->second.error, result.error);
    }
    text += "\n| " + row.method + " | " + row.against + " |";
    for (const std::string& column : columns) text += " " + text_of(cells.at(column)) + " |";
  }
  return text + "\n";
}

/// The three test cases of a table, the last one behind "[.print]".
struct Table {
  std::string name, file;
  std::string text;
  std::vector<std::string> failures;

  void check() const {
    std::string first;
    for (std::size_t i = 0; i < failures.size() && i < 20; ++i) first += failures[i] + "\n";
    INFO(failures.size() << " failures, first\n" << first);
    CHECK(failures.empty());
    CHECK(text.size() > 500);
  }
  void check_page() const {
    INFO(name << " in docs/steering.md; the test's \"[.print]\" prints it");
    CHECK(generated::block("steering.md", name) == text);
  }
  void print() const {
    std::cout << "<!-- " << name << ": made by tests/" << file << " -->\n"
              << text << "<!-- end of " << name << " -->\n";
  }
};
inline Table make_table(const char* name, const char* file, const std::vector<Row>& rows) {
  Table table{name, file, {}, {}};
  table.text = table_of(rows, table.failures);
  return table;
}

// ---- rows --------------------------------------------------------------------------------------

using MakeNetwork = std::function<Network(const PredictionType&)>;
using MakeEdit = std::function<AnyEdit(const SamplingPlan&)>;

/// A denoiser made of a denoiser, against E[x0 | x] by its definition.
inline Row guided(const std::string& name, const std::string& against, const MakeNetwork& network,
                  const std::function<Matrix(const Matrix& x, const Stage& stage)>& x0) {
  return {name, against, [=](const Case& c) -> Result {
            const SamplingPlan plan = c.sampler.plan();
            return {Result::exact, apart(run_law(plan, c.type, network(c.type)),
                                         defined(plan, clips(), c.type, {.x0 = x0}))};
          }};
}

/// What is not linear: finite, and the plain run where the network `same` has nothing to guide by.
inline Row finite(const std::string& name, const std::string& against, const MakeNetwork& network,
                  const MakeNetwork& same, const MakeNetwork& plain) {
  return {name, against, [=](const Case& c) -> Result {
            const SamplingPlan plan = c.sampler.plan();
            const Clip x = sampled(plan, c.type, network(c.type), 16, normals(1));
            const Clip a = sampled(plan, c.type, same(c.type), 16, normals(1));
            const Clip b = sampled(plan, c.type, plain(c.type), 16, normals(1));
            const bool changed = apart(x, b) > 1e-3;
            // CFG-Zero* divides by its norm plus 1e-8, so it is off by that.
            return {Result::finite, all_finite(x) && changed ? apart(a, b) : HUGE_VAL, {}, 1e-6};
          }};
}

/// An edit of a run of the data's own network, against its definition.
inline Row edited(const std::string& name, const std::string& against, const MakeEdit& edit,
                  const Definition& definition) {
  return {name, against, [=](const Case& c) -> Result {
            const SamplingPlan plan = c.sampler.plan();
            return {Result::exact,
                    apart(run_law(plan, c.type, exact_network(clips(), c.type), edit(plan)),
                          defined(plan, clips(), c.type, definition))};
          }};
}

}  // namespace steering

#endif  // DIFFUSION_TESTS_STEERING_ZOO_HPP
