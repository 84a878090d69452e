#ifndef DIFFUSION_INVERSE_DDRM_HPP
#define DIFFUSION_INVERSE_DDRM_HPP

#include <diffusion/inverse/problem.hpp>
#include <diffusion/noise/philox.hpp>
#include <diffusion/schedule/knot.hpp>
#include <diffusion/tensor/normals.hpp>
#include <diffusion/tensor/state.hpp>

#include <Eigen/Core>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>
#include <utility>

namespace diffusion {

/// Who moves what was not measured.
enum class Unmeasured {
  paper,    ///< Ddrm, by the paper's rule: of the sampler only levels and estimates remain
  sampler,  ///< the sampler, as without Ddrm
};

/// Options of Ddrm. Plain data: threads may share what none of them writes.
struct DdrmOptions {
  double eta = 0.85;  ///< how much of the noise is fresh, 0 to 1; 0.85 is the paper's
  double eta_b = 1;   ///< how much of y goes into x0 where the level hides its noise, 0 to 1
  Unmeasured unmeasured = Unmeasured::paper;
  bool start_from_y = true;  ///< put y into the initial state; false where that is a noised picture
};

/// DDRM, denoising diffusion restoration models (Kawar, Elad, Ermon and Song 2022, arXiv
/// 2201.11793, eq. 7 and 8): an edit over a sampler. In the directions of the operator's singular
/// vectors V, where y says ybar = U^T y / s with the deviation tau = sigma_y / s, the state that
/// leaves a stage for the level (alpha', sigma') is replaced by
///
///     alpha' xbar0 + sqrt(1 - eta^2) sigma' (ybar - xbar0) / tau + eta sigma' n     sigma' <
///     alpha' tau alpha' ((1 - eta_b) xbar0 + eta_b ybar) + sqrt(sigma'^2 - (alpha' tau eta_b)^2) n
///     otherwise
///
/// xbar0 = V^T x0 with the (clipped) x0 of the stage, n fresh normals; and what was not measured by
/// alpha' x0 + sigma' (sqrt(1 - eta^2) eps + eta n), or left to the sampler. Nothing of the sampler
/// is replaced but its result: history and saved states stay. The initial state gets ybar likewise.
/// A stage that does not ask (churn) is left alone. eta here is not DDIM's: at 1 all noise is
/// fresh. For any sampler, schedule and prediction type, and operators with a singular value
/// decomposition. To be given to `sample` among the callbacks.
///
/// n is draw 1 + stage of a source of its own: give it another seed than the run's. Not
/// thread-safe: it holds estimates; one object per run at a time. Fails for a state that does not
/// fit the problem.
template <LinearOperator A, AddressedNoise Noise = PhiloxNoise>
class Ddrm {
  static_assert(SpectralOperator<A>,
                "DDRM works on singular vectors: the operator must have singular_values(), "
                "to_right(), from_right(), to_left() and from_left()");

 public:
  Ddrm(InverseProblem<A> problem, Noise noise, DdrmOptions options = {})
      : problem_(std::move(problem)), noise_(std::move(noise)), options_(options) {
    detail::require_range("DdrmOptions::eta", options.eta, 0.0, 1.0);
    detail::require_range("DdrmOptions::eta_b", options.eta_b, 0.0, 1.0);
    detail::require_enumerator("DdrmOptions::unmeasured", options.unmeasured, 2);
    problem_.op().singular_values();  // fails where it was not computed
  }

  const InverseProblem<A>& problem() const { return problem_; }

  template <class Run, class T>
  void edit_start(const Run& run, T& x) {
    estimated_ = false;
    blocks_ = problem_.template blocks<T>(StateTraits<T>::shape(x), run.options().batch);
    if (!options_.start_from_y) return;
    const Knot at = run.plan().stages.front().at;
    const double scale = run.plan().traits.initial_scale;
    each_sample(x, [&](std::size_t sample, Vector& state) {
      const Vector n = problem_.op().to_right(state) / scale;
      replace(sample, state, [&](Eigen::Index i, double ybar, double tau) {
        const double carried = at.alpha * tau;
        if (at.sigma < carried) return at.sigma * n[i];
        return at.alpha * ybar + root(at.sigma, carried) * n[i];
      });
    });
  }

  /// Keeps the estimate and the state before the stage; x0 stays as it is.
  template <class Run, class Tensor>
  void edit_x0(const Run& run, Tensor& x0) {
    using Traits = StateTraits<std::remove_cvref_t<decltype(run.state())>>;
    x0_.resize(static_cast<Eigen::Index>(blocks_.size), static_cast<Eigen::Index>(blocks_.batch));
    before_.resizeLike(x0_);
    for (std::size_t sample = 0; sample < blocks_.batch; ++sample) {
      const auto column = static_cast<Eigen::Index>(sample);
      const std::size_t begin = sample * blocks_.size;
      x0_.col(column) = detail::sample_vector(StateTraits<Tensor>::data(x0) + begin, blocks_.size);
      before_.col(column) = detail::sample_vector(Traits::data(run.state()) + begin, blocks_.size);
    }
    estimated_ = true;
  }

  template <class Run, class T>
  void edit_state(const Run& run, T& x) {
    if (!estimated_) return;
    estimated_ = false;
    const Knot at = run.last().at, to = run.last().to;
    const auto draw = static_cast<std::uint64_t>(run.stage_number());
    each_sample(x, [&](std::size_t sample, Vector& state) {
      const auto column = static_cast<Eigen::Index>(sample);
      const Vector x0 = x0_.col(column), fresh = normals(draw, sample);
      if (options_.unmeasured == Unmeasured::paper)
        state = to.alpha * x0 +
                to.sigma * (kept() * noise_of(before_.col(column), x0, at) + options_.eta * fresh);
      const Vector xbar0 = problem_.op().to_right(x0), n = problem_.op().to_right(fresh);
      replace(sample, state, [&](Eigen::Index i, double ybar, double tau) {
        return step(xbar0[i], ybar, tau, n[i], to);
      });
    });
  }

 private:
  using Vector = Eigen::VectorXd;

  double kept() const { return std::sqrt(1 - options_.eta * options_.eta); }
  static double root(double all, double part) {
    return std::sqrt((std::max)(0.0, (all - part) * (all + part)));
  }
  static Vector noise_of(const Vector& x, const Vector& x0, const Knot& at) {
    if (at.sigma == 0) return Vector::Zero(x.size());
    return (x - at.alpha * x0) / at.sigma;
  }

  /// One measured direction at the level where the stage ends.
  double step(double xbar0, double ybar, double tau, double n, const Knot& to) const {
    if (to.sigma < to.alpha * tau)
      return to.alpha * xbar0 + kept() * to.sigma * (ybar - xbar0) / tau +
             options_.eta * to.sigma * n;
    const double mixed = (1 - options_.eta_b) * xbar0 + options_.eta_b * ybar;
    return to.alpha * mixed + root(to.sigma, to.alpha * tau * options_.eta_b) * n;
  }

  /// Sets the state's component in every measured direction i to target(i, ybar_i, tau_i).
  template <class Target>
  void replace(std::size_t sample, Vector& state, const Target& target) const {
    const A& a = problem_.op();
    const Vector& s = a.singular_values();
    const Vector seen = a.to_left(problem_.y(sample)), now = a.to_right(state);
    Vector change = Vector::Zero(s.size());
    for (Eigen::Index i = 0; i < s.size(); ++i)
      if (s[i] > 0) change[i] = target(i, seen[i] / s[i], problem_.sigma_y() / s[i]) - now[i];
    state += a.from_right(change);
  }

  template <class T, class F>
  void each_sample(T& x, const F& f) const {
    for (std::size_t sample = 0; sample < blocks_.batch; ++sample) {
      auto* data = StateTraits<T>::data(x) + sample * blocks_.size;
      Vector state = detail::sample_vector(data, blocks_.size);
      f(sample, state);
      detail::store_sample(state, data);
    }
  }

  Vector normals(std::uint64_t draw, std::size_t sample) const {
    Vector n(static_cast<Eigen::Index>(blocks_.size));
    for (std::size_t i = 0; i < blocks_.size; i += detail::chunk_size)
      detail::fill_normals(
          noise_, draw, sample, i,
          std::span<double>(n.data() + i, (std::min)(detail::chunk_size, blocks_.size - i)));
    return n;
  }

  InverseProblem<A> problem_;
  Noise noise_;
  DdrmOptions options_;
  Blocks blocks_;
  Eigen::MatrixXd x0_, before_;  // a column a sample, of the stage that is being run
  bool estimated_ = false;
};

}  // namespace diffusion

#endif  // DIFFUSION_INVERSE_DDRM_HPP
