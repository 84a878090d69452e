#ifndef DIFFUSION_INVERSE_DDNM_PLUS_HPP
#define DIFFUSION_INVERSE_DDNM_PLUS_HPP

#include <diffusion/inverse/problem.hpp>
#include <diffusion/plan/stage.hpp>
#include <diffusion/tensor/lane.hpp>
#include <diffusion/tensor/state.hpp>

#include <Eigen/Core>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <span>
#include <type_traits>
#include <utility>

namespace diffusion {

/// DDNM+ (Wang, Yu and Zhang 2022, arXiv 2212.00490, section 3.3): an edit over a sampler that adds
/// noise. In a measured direction of singular value s, y says x0 up to the deviation tau = sigma_y
/// / s; a stage that weighs x0 with a and adds noise of deviation w then becomes
///
///     x0' = x0 + lambda (ybar - x0),   lambda = min(1, w / (a tau))
///     noise of deviation sqrt(w^2 - (a lambda tau)^2) in place of w
///
/// so that the noise of y is a part of the stage's own. Without noise (sigma_y = 0) it is Ddnm.
/// What enters depends on the sampler: little where steps are many, since w and a / w are then
/// small, and nothing in a stage that adds no noise, as the last. The history of samplers of
/// several steps has noise of y in it that is not accounted for. Learned variances are refused,
/// samplers without noise too. To be given to `sample` among the callbacks.
///
/// Not thread-safe: it holds shares; one object per run at a time. Fails for a state that does not
/// fit the problem.
template <LinearOperator A>
class DdnmPlus {
  static_assert(SpectralOperator<A>,
                "DDNM+ works on singular vectors: the operator must have singular_values(), "
                "to_right(), from_right(), to_left() and from_left()");

 public:
  explicit DdnmPlus(InverseProblem<A> problem) : problem_(std::move(problem)) {
    problem_.op().singular_values();  // fails where it was not computed
  }

  const InverseProblem<A>& problem() const { return problem_; }

  template <class Run, class T>
  void edit_start(const Run& run, T& x) {
    blocks_ = problem_.template blocks<T>(StateTraits<T>::shape(x), run.options().batch);
    left_.resize(0);
    if (run.plan().learns_variance())
      fail("DDNM+ must know how much noise a stage adds; this plan learns its variance");
    const auto& stages = run.plan().stages;
    if (problem_.sigma_y() > 0 &&
        std::all_of(stages.begin(), stages.end(), [](const Stage& s) { return added(s) == 0; }))
      fail(detail::text("sigma_y is ", problem_.sigma_y(),
                        " and the plan adds no noise; DDNM+ needs "
                        "a sampler that does (Ddnm works with all)"));
  }

  template <class Run, class Tensor>
  void edit_x0(const Run& run, Tensor& x0) {
    const Stage& stage = run.stage();
    const Vector& s = problem_.op().singular_values();
    Vector share = Vector::Zero(s.size());
    left_ = Vector::Ones(s.size());
    for (Eigen::Index i = 0; i < s.size(); ++i) {
      if (!(s[i] > 0)) continue;
      const double w = added(stage), carried = weight(stage) * problem_.sigma_y() / s[i];
      share[i] = w >= carried ? 1 : w / carried;
      const double taken = share[i] * carried;
      if (w > 0) left_[i] = std::sqrt((std::max)(0.0, (w - taken) * (w + taken))) / w;
    }
    for (std::size_t sample = 0; sample < blocks_.batch; ++sample) {
      auto* data = StateTraits<Tensor>::data(x0) + sample * blocks_.size;
      const Vector estimate = detail::sample_vector(data, blocks_.size);
      Vector z = problem_.op().to_left(problem_.residual(sample, estimate));
      for (Eigen::Index i = 0; i < s.size(); ++i) z[i] = s[i] > 0 ? share[i] / s[i] * z[i] : 0;
      detail::store_sample(estimate + problem_.op().from_right(z), data);
    }
  }

  /// Takes the share of y out of the noise that the stage has added.
  template <class Run, class T>
  void edit_state(const Run& run, T& x) {
    if (left_.size() == 0 || problem_.sigma_y() == 0) return;
    for (std::size_t sample = 0; sample < blocks_.batch; ++sample) {
      auto* data = StateTraits<T>::data(x) + sample * blocks_.size;
      const Vector noise = noise_of(run, sample);
      const Vector z = problem_.op().to_right(noise);
      const Vector change = (left_.array() - 1) * z.array();
      detail::store_sample(
          detail::sample_vector(data, blocks_.size) + problem_.op().from_right(change), data);
    }
    left_.resize(0);
  }

 private:
  using Vector = Eigen::VectorXd;

  /// The deviation of what a stage adds.
  static double added(const Stage& stage) {
    double square = 0;
    for (const Term& term : stage.noise)
      if (term.source >= 0) square += term.weight * term.weight;
    return std::sqrt(square);
  }
  /// The weight of x0 in a stage, with eps = (x - alpha x0) / sigma.
  static double weight(const Stage& stage) {
    const double by_eps = stage.eps == 0 ? 0 : stage.eps * stage.at.alpha / stage.at.sigma;
    return std::abs(stage.x0 - by_eps);
  }

  template <class Run>
  Vector noise_of(const Run& run, std::size_t sample) const {
    using T = std::remove_cvref_t<decltype(run.state())>;
    std::array<detail::Compute<ScalarOf<T>>, detail::chunk_size> chunk;
    Vector sum = Vector::Zero(static_cast<Eigen::Index>(blocks_.size));
    for (std::size_t k = 0; k < max_noise; ++k) {
      const Term& term = run.last().noise[k];
      if (term.source < 0 || term.weight == 0) continue;
      for (std::size_t begin = 0; begin < blocks_.size; begin += chunk.size()) {
        const std::size_t n = (std::min)(chunk.size(), blocks_.size - begin);
        run.fill_draw(k, sample, begin, std::span(chunk.data(), n));
        for (std::size_t i = 0; i < n; ++i)
          sum[static_cast<Eigen::Index>(begin + i)] += term.weight * static_cast<double>(chunk[i]);
      }
    }
    return sum;
  }

  InverseProblem<A> problem_;
  Blocks blocks_;
  Vector left_;  // of the stage's noise, by direction; empty: nothing to take
};

}  // namespace diffusion

#endif  // DIFFUSION_INVERSE_DDNM_PLUS_HPP
