#ifndef DIFFUSION_TESTS_SUPPORT_HPP
#define DIFFUSION_TESTS_SUPPORT_HPP

// What several tests share: reproducible numbers, random plans, and a second implementation of the
// sampling loop, in double, one element at a time, from the definitions. It knows nothing of
// lowering, slots, lanes or conversions, so it can tell whether these are right.

#include <diffusion/denoiser/prediction_type.hpp>
#include <diffusion/plan/plan.hpp>
#include <diffusion/tensor/state.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numbers>
#include <random>
#include <vector>

namespace support {

using diffusion::Basis;
using diffusion::Clipping;
using diffusion::EpsilonRule;
using diffusion::NoiseScale;
using diffusion::PlanTraits;
using diffusion::PredictionType;
using diffusion::Stage;
using diffusion::Term;

using Vector = std::vector<double>;
template <class S, int Rank>
using RowMajor = Eigen::Tensor<S, Rank, Eigen::RowMajor>;
template <class S, int Rank>
using ColMajor = Eigen::Tensor<S, Rank, Eigen::ColMajor>;

/// The same numbers on every compiler and machine.
class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}
  double uniform(double low, double high) {
    return low + (high - low) * static_cast<double>(engine_() >> 11) * 0x1p-53;
  }
  int integer(int low, int high) {  // both included
    return low + static_cast<int>(engine_() % static_cast<std::uint64_t>(high - low + 1));
  }
  bool chance(double p) { return uniform(0, 1) < p; }
  double normal() {
    const double radius = std::sqrt(-2 * std::log(1 - uniform(0, 1)));
    return radius * std::cos(2 * std::numbers::pi * uniform(0, 1));
  }
  Vector normals(std::size_t n) {
    Vector values(n);
    for (double& value : values) value = normal();
    return values;
  }

 private:
  std::mt19937_64 engine_;
};

// ---- the definitions ---------------------------------------------------------------------------

/// What a network answers, f = on_x0 x0 + on_eps eps, by the definition of its prediction type.
struct Definition {
  double on_x0, on_eps;
};

inline Definition definition(PredictionType type, double alpha, double sigma) {
  switch (type.kind) {
    case PredictionType::Kind::epsilon:
      return {0, 1};
    case PredictionType::Kind::sample:
      return {1, 0};
    case PredictionType::Kind::v:
      return {-sigma / type.sigma_data, type.sigma_data * alpha};
    case PredictionType::Kind::flow:
      return {-1, 1};
    case PredictionType::Kind::data_flow:
      return {1, -1};
    case PredictionType::Kind::score:
      return {0, -1 / sigma};
    case PredictionType::Kind::edm: {  // F of D = c_skip x + c_out F, x = z / alpha at s = sigma /
                                       // alpha
      const double s = sigma / alpha, sd = type.sigma_data;
      const double above = s - type.sigma_min;
      const double c_skip = sd * sd / (above * above + sd * sd);
      const double c_out = above * sd / std::sqrt(s * s + sd * sd);
      return {(1 - c_skip) / c_out, -c_skip * s / c_out};
    }
  }
  return {0, 0};
}

struct Estimates {
  double x0, eps;
};

/// x0 and eps from z = alpha_z x0 + sigma_z eps, the level of the network's input, and the
/// definition of its output f, by Cramer's rule.
inline Estimates estimates(PredictionType type, const Stage& s, double x, double f) {
  const double z = s.input_scale * x;
  const double alpha = s.input_scale * s.at.alpha;
  const double sigma = s.input_scale * s.at.sigma;
  const auto [on_x0, on_eps] = definition(type, alpha, sigma);
  const double determinant = alpha * on_eps - sigma * on_x0;
  return {(z * on_eps - sigma * f) / determinant, (alpha * f - z * on_x0) / determinant};
}

/// Clips the x0 of one sample; the quantile by sorting.
inline void clip(const Clipping& clipping, Vector& x0) {
  if (clipping.kind == Clipping::Kind::none) return;
  double bound = clipping.limit, scale = 1;
  if (clipping.kind == Clipping::Kind::dynamic) {
    Vector sorted;
    for (const double value : x0) sorted.push_back(std::abs(value));
    std::sort(sorted.begin(), sorted.end());
    const double rank = clipping.ratio * static_cast<double>(sorted.size() - 1);
    const auto below = static_cast<std::size_t>(rank);
    const std::size_t above = std::min(below + 1, sorted.size() - 1);
    const double quantile =
        sorted[below] + (rank - static_cast<double>(below)) * (sorted[above] - sorted[below]);
    bound = std::min(std::max(quantile, 1.0), clipping.maximum);
    scale = 1 / bound;
  }
  for (double& value : x0) value = scale * std::min(std::max(value, -bound), bound);
}

// ---- a network without weights -----------------------------------------------------------------

/// What the test network answers for element `i` of a sample whose value there is z.
inline double answer(double z, double t, std::size_t i) {
  return 0.8 * std::sin(1.7 * z + 0.01 * t + 0.37 * static_cast<double>(i % 50));
}
/// The second half of its channels, in (0, 1).
inline double variance_answer(double z, double t, std::size_t i) {
  return 0.5 + 0.4 * std::cos(z - 0.02 * t + 0.11 * static_cast<double>(i % 50));
}

/// The same as a denoiser of tensors of `batch` samples.
struct TestNetwork {
  std::size_t batch;
  template <class T>
  void operator()(const T& x, double t, diffusion::TensorOf<T>& out) const {
    const std::size_t size = static_cast<std::size_t>(x.size()) / batch;
    const std::size_t stride = static_cast<std::size_t>(out.size()) / batch;
    for (std::size_t sample = 0; sample < batch; ++sample)
      for (std::size_t i = 0; i < stride; ++i) {
        const auto z = static_cast<double>(x.data()[sample * size + i % size]);
        const double f = i < size ? answer(z, t, i) : variance_answer(z, t, i - size);
        out.data()[sample * stride + i] = static_cast<diffusion::ScalarOf<T>>(f);
      }
  }
};

// ---- the loop, once more -----------------------------------------------------------------------

struct Trajectory {
  std::vector<Vector> states;  ///< after each stage
  std::vector<Vector> x0;      ///< the clipped estimate of each stage, empty where none is asked
};

/// Runs rows whose history terms are *numbers of estimates*, on the test network. `draws` are the
/// plan's draws, each of the whole state.
inline Trajectory reference_run(const std::vector<Stage>& rows, const PlanTraits& traits,
                                PredictionType type, std::size_t batch, Vector x,
                                const std::vector<Vector>& draws) {
  const std::size_t size = x.size() / batch;
  std::vector<Vector> kept;  // every estimate that was ever made
  Vector saved;
  Trajectory trajectory;
  for (const Stage& s : rows) {
    if (s.save) saved = x;
    Vector f(x.size()), x0(x.size()), eps(x.size()), learned(x.size(), 1.0);
    for (std::size_t sample = 0; sample < batch && s.ask; ++sample) {
      Vector clipped(size);
      for (std::size_t i = 0; i < size; ++i) {
        const std::size_t at = sample * size + i;
        const double z = s.input_scale * x[at];
        f[at] = answer(z, s.at.t, i);
        const Estimates e = estimates(type, s, x[at], f[at]);
        clipped[i] = e.x0;
        eps[at] = e.eps;
        const double v = variance_answer(z, s.at.t, i);
        if (s.noise_scale.kind == NoiseScale::Kind::root) learned[at] = std::sqrt(v);
        if (s.noise_scale.kind == NoiseScale::Kind::exponential)
          learned[at] = std::exp(s.noise_scale.offset + s.noise_scale.slope * v);
      }
      clip(traits.clipping, clipped);
      for (std::size_t i = 0; i < size; ++i) {
        const std::size_t at = sample * size + i;
        x0[at] = clipped[i];
        if (traits.clipping.kind != Clipping::Kind::none &&
            traits.epsilon_rule == EpsilonRule::rederived)
          eps[at] = (x[at] - s.at.alpha * x0[at]) / s.at.sigma;
      }
    }
    Vector next(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) {
      next[i] = s.x * x[i] + s.x0 * x0[i] + s.eps * eps[i] + s.raw * f[i];
      if (s.saved != 0) next[i] += s.saved * saved[i];
      for (const Term& term : s.history)
        if (term.source >= 0)
          next[i] += term.weight * kept[static_cast<std::size_t>(term.source)][i];
      for (const Term& term : s.noise)
        if (term.source >= 0)
          next[i] += term.weight * learned[i] * draws[static_cast<std::size_t>(term.source)][i];
    }
    if (s.ask)
      kept.push_back(traits.basis == Basis::x0 ? x0 : traits.basis == Basis::eps ? eps : f);
    x = next;
    trajectory.states.push_back(x);
    trajectory.x0.push_back(s.ask ? x0 : Vector());
  }
  return trajectory;
}

// ---- random plans ------------------------------------------------------------------------------

struct RandomPlanOptions {
  int stages = 8;
  bool learned_variance = false;
  bool noise = true;
};

/// Rows with every feature of a stage, history by number. The levels are nobody's schedule:
/// alpha^2 + sigma^2 is not 1, and input_scale neither.
inline std::vector<Stage> random_rows(Random& random, const RandomPlanOptions& options) {
  std::vector<Stage> rows;
  std::int32_t made = 0, drawn = 0;
  bool saved = false;
  const auto weight = [&] { return random.chance(0.25) ? 0.0 : random.uniform(-0.6, 0.6); };
  for (int i = 0; i < options.stages; ++i) {
    Stage s;
    s.step = i / 2;
    s.ask = i == 0 || random.chance(0.8);
    s.at = {random.uniform(0, 999), random.uniform(0.3, 1.2), random.uniform(0.3, 1.5)};
    s.to = {random.uniform(0, 999), random.uniform(0.3, 1.2), random.uniform(0.3, 1.5)};
    s.x = weight();
    if (s.ask) {
      s.input_scale = random.chance(0.5) ? 1 : random.uniform(0.4, 1.6);
      s.x0 = weight();
      s.eps = weight();
      s.raw = random.chance(0.3) ? weight() : 0;
    }
    s.save = random.chance(0.3);
    saved = saved || s.save;
    if (saved) s.saved = weight();
    for (Term& term : s.history)
      if (made > 0 && random.chance(0.5))
        term = {random.integer(std::max(0, made - 5), made - 1), random.uniform(-0.4, 0.4)};
    if (options.noise) {
      s.draws = random.integer(0, 2);
      drawn += s.draws;
      for (Term& term : s.noise)
        if (drawn > 0 && random.chance(0.6))
          term = {random.integer(std::max(0, drawn - 4), drawn - 1), random.uniform(-0.5, 0.5)};
    }
    if (options.learned_variance && s.ask)
      s.noise_scale = i % 2 == 0 ? NoiseScale{NoiseScale::Kind::exponential, -0.3, 0.7}
                                 : NoiseScale{NoiseScale::Kind::root, 0, 0};
    if (s.ask) ++made;
    rows.push_back(s);
  }
  return rows;
}

// ---- tensors -----------------------------------------------------------------------------------

template <diffusion::State T>
T tensor_of(const diffusion::ShapeOf<T>& shape, const Vector& values) {
  T x = diffusion::StateTraits<T>::make(shape);
  for (std::size_t i = 0; i < values.size(); ++i)
    x.data()[i] = static_cast<diffusion::ScalarOf<T>>(values[i]);
  return x;
}

template <class T>
Vector values_of(const T& x) {
  return Vector(x.data(), x.data() + x.size());
}

/// Whether two tensors are the same, bit for bit (no NaNs).
template <class A, class B>
bool same_bits(const A& a, const B& b) {
  return a.size() == b.size() && std::equal(a.data(), a.data() + a.size(), b.data());
}

/// The largest difference, in units of max(1, the largest expected value).
inline double relative_error(const Vector& values, const Vector& expected) {
  double worst = values.size() == expected.size() ? 0 : 1e300;
  double largest = 1;
  for (std::size_t i = 0; i < std::min(values.size(), expected.size()); ++i) {
    const double error = std::abs(values[i] - expected[i]);
    worst = error <= worst ? worst : error;
    if (error != error) worst = 1e300;
    largest = std::max(largest, std::abs(expected[i]));
  }
  return worst / largest;
}

}  // namespace support

#endif  // DIFFUSION_TESTS_SUPPORT_HPP
