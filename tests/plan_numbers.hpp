#ifndef DIFFUSION_TESTS_PLAN_NUMBERS_HPP
#define DIFFUSION_TESTS_PLAN_NUMBERS_HPP

// Plans run on plain numbers, from the definition of a stage: no tensors, no networks. A state is a
// vector, so that it may also be a row of weights on 1, on the initial noise and on every draw.

#include <diffusion/plan/plan.hpp>
#include <diffusion/schedule/grid.hpp>

#include <cmath>
#include <cstddef>
#include <functional>
#include <vector>

namespace numbers {

using diffusion::Basis;
using diffusion::Knot;
using diffusion::SamplingPlan;
using diffusion::Stage;
using diffusion::Term;
using Vector = std::vector<double>;
/// x0 of a state at a level.
using Denoiser = std::function<Vector(const Vector& x, const Knot& at)>;

inline void add(Vector& sum, double weight, const Vector& part) {
  for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += weight * part[i];
}

/// Runs a plan. `draws[k]` is draw k. `after(stage, x)` may change the state after a stage.
inline Vector run(const SamplingPlan& plan, const Denoiser& denoiser, Vector x,
                  const std::vector<Vector>& draws = {},
                  const std::function<void(int stage, Vector& x)>& after = {}) {
  std::vector<Vector> slots(static_cast<std::size_t>(plan.traits().slots), x);
  Vector saved = x;
  for (int i = 0; i < plan.size(); ++i) {
    const Stage& s = plan[i];
    if (s.save) saved = x;
    Vector x0(x.size()), eps(x.size()), next(x.size());
    if (s.ask) {
      x0 = denoiser(x, s.at);
      for (std::size_t k = 0; k < x.size(); ++k) eps[k] = (x[k] - s.at.alpha * x0[k]) / s.at.sigma;
    }
    add(next, s.x, x);
    add(next, s.x0, x0);
    add(next, s.eps, eps);
    add(next, s.saved, saved);
    for (const Term& term : s.history)
      if (term.source >= 0) add(next, term.weight, slots[static_cast<std::size_t>(term.source)]);
    for (const Term& term : s.noise)
      if (term.source >= 0) add(next, term.weight, draws.at(static_cast<std::size_t>(term.source)));
    if (s.keep >= 0)
      slots[static_cast<std::size_t>(s.keep)] = plan.traits().basis == Basis::x0 ? x0 : eps;
    x = next;
    if (after) after(i, x);
  }
  return x;
}

/// Mean and variance of the result where the initial noise and all draws are standard normal and
/// the data is N(mean, variance), whose exact denoiser is linear.
struct Moments {
  double mean, variance;
};

inline Moments moments(const SamplingPlan& plan, double mean, double variance) {
  const auto size = 2 + static_cast<std::size_t>(plan.draws());
  const Denoiser exact = [&](const Vector& x, const Knot& at) {
    const double gain =
        at.alpha * variance / (at.alpha * at.alpha * variance + at.sigma * at.sigma);
    Vector x0(x.size());
    add(x0, gain, x);
    x0[0] += mean * (1 - gain * at.alpha);
    return x0;
  };
  std::vector<Vector> draws;
  for (std::size_t k = 2; k < size; ++k) {
    draws.emplace_back(size);
    draws.back()[k] = 1;
  }
  const Knot start = plan[0].at;  // the right law at the start, not that of pure noise
  Vector x(size);
  x[0] = start.alpha * mean;
  x[1] = std::sqrt(start.alpha * start.alpha * variance + start.sigma * start.sigma);
  x = run(plan, exact, x, draws);
  Moments result{x[0], 0};
  for (std::size_t k = 1; k < size; ++k) result.variance += x[k] * x[k];
  return result;
}

/// Data of two points' neighbourhoods, in one dimension.
struct Mixture {
  double weight[2] = {0.3, 0.7}, mean[2] = {-1, 1.5}, variance[2] = {0.09, 0.25};

  double x0(double x, const Knot& at) const {
    double top = 0, bottom = 0;
    for (int k = 0; k < 2; ++k) {
      const double v = at.alpha * at.alpha * variance[k] + at.sigma * at.sigma;
      const double d = x - at.alpha * mean[k];
      const double p = weight[k] * std::exp(-d * d / (2 * v)) / std::sqrt(v);
      top += p * (mean[k] + at.alpha * variance[k] / v * d);
      bottom += p;
    }
    return top / bottom;
  }
};

/// N(mean, variance) as a mixture of one.
inline Mixture gaussian(double mean, double variance) {
  return {{0.5, 0.5}, {mean, mean}, {variance, variance}};
}

inline Denoiser denoiser_of(const Mixture& data) {
  return [data](const Vector& x, const Knot& at) {
    Vector x0;
    for (const double element : x) x0.push_back(data.x0(element, at));
    return x0;
  };
}

/// The probability flow of y = x / alpha from s to s_to, dy/ds = eps, by the classical method of
/// Runge and Kutta in log s.
inline double flow(const Mixture& data, double y, double s, double s_to, int steps = 4000) {
  const double h = std::log(s_to / s) / steps;
  const auto slope = [&](double at, double z) {  // dy / dlog s = s eps
    const double level = std::exp(at);
    return z - data.x0(z, Knot{0, 1, level});
  };
  double at = std::log(s);
  for (int i = 0; i < steps; ++i, at += h) {
    const double a = slope(at, y), b = slope(at + h / 2, y + h / 2 * a);
    const double c = slope(at + h / 2, y + h / 2 * b), d = slope(at + h, y + h * c);
    y += h / 6 * (a + 2 * b + 2 * c + d);
  }
  return y;
}

/// Levels of a variance exploding run from 5 to 0.05.
inline constexpr double s_first = 5, s_last = 0.05;
inline std::vector<Knot> even_in_log(int n) {
  std::vector<Knot> knots;
  for (int i = 0; i <= n; ++i) {
    const double s = i == n ? s_last : s_first * std::pow(s_last / s_first, double(i) / n);
    knots.push_back({s, 1, s});
  }
  return knots;
}
inline std::vector<Knot> even_in_s(int n) {
  std::vector<Knot> knots;
  for (int i = 0; i <= n; ++i) {
    const double s = s_first + (s_last - s_first) * i / n;
    knots.push_back({s, 1, s});
  }
  return knots;
}

/// The least-squares slope of log error over log steps, negated, over doublings of the steps whose
/// error is in [1e-10, 1e-3]. -1 where there are fewer than three.
struct Order {
  double slope = -1;
  int points = 0;
};

inline Order order_of(const std::function<double(int steps)>& error, int first = 8,
                      int last = 8192) {
  std::vector<double> logs, errors;
  for (int n = first; n <= last; n *= 2) {
    const double e = error(n);
    if (e < 1e-10 || e > 1e-3) continue;
    logs.push_back(std::log(n));
    errors.push_back(std::log(e));
  }
  Order order;
  order.points = static_cast<int>(logs.size());
  if (order.points < 3) return order;
  double x = 0, y = 0, xx = 0, xy = 0;
  for (std::size_t i = 0; i < logs.size(); ++i) {
    x += logs[i];
    y += errors[i];
    xx += logs[i] * logs[i];
    xy += logs[i] * errors[i];
  }
  const double n = order.points;
  order.slope = -(n * xy - x * y) / (n * xx - x * x);
  return order;
}

/// The order of a deterministic method on a mixture. `plan(n)` has n steps of the levels above;
/// `warm`: how many of the first stages end at the exact state, so that the history is exact;
/// `first`: the least number of steps.
inline Order order_of_plan(const std::function<SamplingPlan(int)>& plan, const Mixture& data,
                           int warm = 0, int first = 8) {
  const double start = 3.7;  // far from the mean, where nothing cancels
  const double end = flow(data, start, s_first, s_last);
  return order_of(
      [&](int n) {
        double s = s_first, y = start;
        const SamplingPlan made = plan(n);
        const auto exact = [&](int stage, Vector& x) {
          if (stage >= warm) return;
          y = flow(data, y, s, made[stage].to.sigma, 400);
          s = made[stage].to.sigma;
          x[0] = y;
        };
        return std::abs(run(made, denoiser_of(data), {start}, {}, exact)[0] - end);
      },
      first);
}

}  // namespace numbers

#endif  // DIFFUSION_TESTS_PLAN_NUMBERS_HPP
