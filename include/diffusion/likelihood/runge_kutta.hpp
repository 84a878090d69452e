#ifndef DIFFUSION_LIKELIHOOD_RUNGE_KUTTA_HPP
#define DIFFUSION_LIKELIHOOD_RUNGE_KUTTA_HPP

#include <diffusion/error.hpp>

#include <Eigen/Core>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

/// Explicit Runge-Kutta methods for dy/dt = f(t, y) on vectors of doubles.
namespace diffusion {

/// Which explicit Runge-Kutta method.
enum class OdeMethod {
  heun,            ///< second order, two evaluations a step, `steps` equal steps
  rk4,             ///< the classical fourth order, four evaluations a step, `steps` equal steps
  dormand_prince,  ///< fifth order, six evaluations a step, steps chosen by rtol and atol
};

/// How an ODE is integrated. Plain data: threads may share what none of them writes.
struct OdeOptions {
  OdeMethod method = OdeMethod::dormand_prince;
  int steps = 50;  ///< heun, rk4: equal steps, 1 to 10000000
  /// dormand_prince: in a step no element's estimated error exceeds atol + rtol |y|. rtol in
  /// [1e-14, 1), atol >= 0.
  double rtol = 1e-5;
  double atol = 1e-5;
  int max_steps = 10'000;  ///< dormand_prince: taken and rejected steps before it gives up, >= 1
};

/// What an integration took. Plain data: threads may share what none of them writes.
struct OdeCount {
  int steps = 0;        ///< taken
  int rejected = 0;     ///< tried, and repeated with a smaller step
  int evaluations = 0;  ///< of f
};

namespace detail {

/// The coefficients of an explicit method; `error` is b less the weights of the embedded one.
/// Plain data: threads may share what none of them writes.
struct Tableau {
  int stages;
  std::array<double, 7> c;
  std::array<std::array<double, 6>, 7> a;
  std::array<double, 7> b, error;
};

inline constexpr Tableau heun_tableau{2, {0, 1}, {{{}, {1}}}, {0.5, 0.5}, {}};
inline constexpr Tableau rk4_tableau{4,
                                     {0, 0.5, 0.5, 1},
                                     {{{}, {0.5}, {0, 0.5}, {0, 0, 1}}},
                                     {1.0 / 6, 1.0 / 3, 1.0 / 3, 1.0 / 6},
                                     {}};
/// Dormand and Prince 1980, J. Comp. Appl. Math. 6, table 2 (RK5(4)7M). The last stage is the first
/// of the next step.
inline constexpr Tableau dormand_prince_tableau{
    7,
    {0, 1.0 / 5, 3.0 / 10, 4.0 / 5, 8.0 / 9, 1, 1},
    {{{},
      {1.0 / 5},
      {3.0 / 40, 9.0 / 40},
      {44.0 / 45, -56.0 / 15, 32.0 / 9},
      {19372.0 / 6561, -25360.0 / 2187, 64448.0 / 6561, -212.0 / 729},
      {9017.0 / 3168, -355.0 / 33, 46732.0 / 5247, 49.0 / 176, -5103.0 / 18656},
      {35.0 / 384, 0, 500.0 / 1113, 125.0 / 192, -2187.0 / 6784, 11.0 / 84}}},
    {35.0 / 384, 0, 500.0 / 1113, 125.0 / 192, -2187.0 / 6784, 11.0 / 84, 0},
    {35.0 / 384 - 5179.0 / 57600, 0, 500.0 / 1113 - 7571.0 / 16695, 125.0 / 192 - 393.0 / 640,
     -2187.0 / 6784 + 92097.0 / 339200, 11.0 / 84 - 187.0 / 2100, -1.0 / 40}};

inline void check_ode_options(const OdeOptions& options) {
  require_enumerator("OdeOptions::method", options.method, 3);
  if (options.method == OdeMethod::dormand_prince) {
    require_range("OdeOptions::rtol", options.rtol, 1e-14,
                  1 - std::numeric_limits<double>::epsilon());
    require_range("OdeOptions::atol", options.atol, 0.0, (std::numeric_limits<double>::max)());
    require_range("OdeOptions::max_steps", options.max_steps, 1, 100'000'000);
  } else {
    require_range("OdeOptions::steps", options.steps, 1, 10'000'000);
  }
}

/// One run of a method. f(t, y, dy) writes the derivative; it never sees a t outside the range.
template <class F>
class RungeKutta {
 public:
  using Vector = Eigen::VectorXd;

  RungeKutta(const Tableau& tableau, F& f, Vector& y)
      : tableau_(tableau),
        f_(f),
        y_(y),
        k_(static_cast<std::size_t>(tableau.stages), Vector(y.size())) {}

  const OdeCount& count() const { return count_; }

  /// `steps` equal steps.
  void run(double from, double to, int steps) {
    for (int i = 0; i < steps; ++i) {
      const auto time = [&](int n) { return n == steps ? to : from + (to - from) * n / steps; };
      evaluate(0, time(i), y_);
      attempt(time(i), time(i + 1));
      y_.swap(next_);
      ++count_.steps;
    }
  }

  /// Steps by the error estimate: a step is repeated where that exceeds its limit, and the next is
  /// as long as the limit should allow (Hairer, Norsett and Wanner 1993, section II.4).
  void run(double from, double to, const OdeOptions& options) {
    double t = from, h = (to - from) / 50;
    evaluate(0, t, y_);
    while (t != to) {
      if (count_.steps + count_.rejected >= options.max_steps)
        fail(text("the integration reached ", t, " of ", from, " to ", to, " in ",
                  options.max_steps, " steps; raise OdeOptions::max_steps, rtol or atol"));
      const bool last = std::abs(h) >= std::abs(to - t) * (1 - 1e-12);
      const double end = last ? to : t + h;
      attempt(t, end);
      const double error = error_over_limit(options);
      const bool finite = is_finite(error);
      if (finite && error <= 1) {
        t = end;
        y_.swap(next_);
        k_.front().swap(k_.back());
        ++count_.steps;
      } else {
        ++count_.rejected;
        if (last) h = end - t;
        if (std::abs(h) < 1e-13 * std::abs(to - from))
          fail(text("the integration cannot go on at ", t, " of ", from, " to ", to,
                    ": the derivative is not finite, or jumps; look at the network there"));
      }
      h *= finite ? std::clamp(0.9 * std::pow((std::max)(error, 1e-10), -0.2), 0.2, 5.0) : 0.2;
    }
  }

 private:
  void evaluate(int stage, double t, const Vector& y) {
    f_(t, y, k_[static_cast<std::size_t>(stage)]);
    ++count_.evaluations;
  }

  /// The other stages, and `next_`; the first stage is there.
  void attempt(double from, double to) {
    const double h = to - from;
    for (int i = 1; i < tableau_.stages; ++i) {
      const auto row = static_cast<std::size_t>(i);
      sum(h, tableau_.a[row].data(), i);
      evaluate(i, tableau_.c[row] == 1 ? to : from + tableau_.c[row] * h, next_);
    }
    sum(h, tableau_.b.data(), tableau_.stages);
  }

  void sum(double h, const double* weights, int count) {
    next_ = y_;
    for (int j = 0; j < count; ++j)
      if (weights[j] != 0) next_ += h * weights[j] * k_[static_cast<std::size_t>(j)];
    last_h_ = h;
  }

  double error_over_limit(const OdeOptions& options) const {
    double worst = 0;
    for (Eigen::Index i = 0; i < y_.size(); ++i) {
      double error = 0;
      for (std::size_t j = 0; j < k_.size(); ++j) error += tableau_.error[j] * k_[j][i];
      const double limit =
          options.atol + options.rtol * (std::max)(std::abs(y_[i]), std::abs(next_[i]));
      const double share = error == 0 ? 0 : std::abs(last_h_ * error) / limit;
      if (!is_finite(share) || !is_finite(next_[i])) return std::numeric_limits<double>::infinity();
      worst = (std::max)(worst, share);
    }
    return worst;
  }

  const Tableau& tableau_;
  F& f_;
  Vector& y_;
  Vector next_;
  std::vector<Vector> k_;
  double last_h_ = 0;
  OdeCount count_;
};

}  // namespace detail

/// Takes y from `from` to `to`, either way, along dy/dt = f(t, y). f(double t, const
/// Eigen::VectorXd& y, Eigen::VectorXd& dy) writes the derivative. Fails where an option is out of
/// its range, and, for dormand_prince, after max_steps or where the derivative is not finite.
template <class F>
OdeCount integrate_ode(F&& f, double from, double to, Eigen::VectorXd& y,
                       const OdeOptions& options = {}) {
  detail::check_ode_options(options);
  const bool adaptive = options.method == OdeMethod::dormand_prince;
  const detail::Tableau& tableau = adaptive ? detail::dormand_prince_tableau
                                   : options.method == OdeMethod::rk4 ? detail::rk4_tableau
                                                                      : detail::heun_tableau;
  detail::RungeKutta run(tableau, f, y);
  if (adaptive)
    run.run(from, to, options);
  else
    run.run(from, to, options.steps);
  return run.count();
}

}  // namespace diffusion

#endif  // DIFFUSION_LIKELIHOOD_RUNGE_KUTTA_HPP
