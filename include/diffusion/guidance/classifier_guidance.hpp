#ifndef DIFFUSION_GUIDANCE_CLASSIFIER_GUIDANCE_HPP
#define DIFFUSION_GUIDANCE_CLASSIFIER_GUIDANCE_HPP

#include <diffusion/denoiser/denoiser.hpp>
#include <diffusion/denoiser/estimate.hpp>
#include <diffusion/denoiser/wrapped.hpp>
#include <diffusion/guidance/slices.hpp>
#include <diffusion/plan/stage.hpp>

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <functional>
#include <span>
#include <utility>

/// Classifier guidance: the gradient of a classifier of noisy data, which the user supplies, steers
/// an unconditional network (Dhariwal and Nichol 2021, arXiv 2105.05233). In two forms: a denoiser
/// made of a denoiser, for every sampler (ClassifierGuidance), and a shift of the mean of samplers
/// that add noise (ClassifierMeanShift).
namespace diffusion {

/// The gradient in x of log p(y | x) for the y of each sample, which the callable knows:
///
///     void gradient(const Tensor& x, const Query& query, Tensor& out)
///
/// x is the state itself at the level (query.alpha, query.sigma), not scaled by query.input_scale;
/// out has its shape. Anything whose gradient is wanted may stand for log p. Where the state is a
/// view, x is a view and out owns its memory: TensorOf.
// clang-format off
template <class G, class T>
concept ClassifierGradient =
    State<T> && std::invocable<G&, const T&, const Query&, TensorOf<T>&>;
// clang-format on

/// Options of ClassifierGuidance. Threads may share what none of them writes, if `scale_at` may be
/// called by several at once.
struct ClassifierGuidanceOptions {
  double scale = 1;  ///< s, any finite number: 0 is no guidance, 1 what Bayes' rule says
  std::function<double(const Query&)> scale_at{};  ///< if set: s of a moment, in place of `scale`
};

/// Classifier guidance in its score form (arXiv 2105.05233, algorithm 2): a denoiser made of an
/// unconditional denoiser and a gradient, with the score of p(x) p(y | x)^s,
///
///     eps <- eps - s sigma grad,   that is   x0 <- x0 + s (sigma^2 / alpha) grad
///
/// whatever the network predicts. It is exact: with the exact classifier and s = 1 it is the
/// conditional network. Slices may have levels of their own. At alpha = 0 the answer stays: the
/// state is pure noise there and knows nothing of y; at sigma = 0 nothing is left to guide.
///
///     ClassifierGuidance guided{network, gradient, {.scale = 3}};
///
/// Fails for a scale that is not finite, and where the gradient is not finite or has another shape.
/// Not thread-safe: it holds buffers, made at the first call and kept; one object per run at a
/// time.
template <class Inner, class Gradient>
class ClassifierGuidance : public WrappedDenoiser<Inner> {
 public:
  ClassifierGuidance(Inner inner, Gradient gradient, ClassifierGuidanceOptions options = {})
      : WrappedDenoiser<Inner>(std::move(inner)),
        gradient_(std::move(gradient)),
        options_(std::move(options)) {
    detail::scale_at("ClassifierGuidanceOptions::scale", options_.scale, {}, {});
  }

  template <State T>
  void operator()(const T& x, const Query& query, TensorOf<T>& out) {
    static_assert(ClassifierGradient<Gradient, T>,
                  "the gradient of a classifier must be callable as (const Tensor& x, const "
                  "Query& query, Tensor& out)");
    using Owner = TensorOf<T>;
    ask<T>(this->inner(), x, query, out);
    const auto shape = StateTraits<T>::shape(x);
    const Blocks blocks = blocks_of<T>(shape, query.batched);
    bool guides = false;
    detail::for_each_slice(query, blocks,
                           [&](const Query& at, auto...) { guides = guides || shift(at) != 0; });
    if (!guides) return;
    Owner& gradient = kept_gradient_.template get<Owner>(shape);
    detail::at_state(x, query, kept_state_,
                     [&](const T& state) { gradient_(state, query, gradient); });
    detail::require_gradient<T>("the gradient of the classifier", gradient, shape, query);
    add(query, blocks, StateTraits<Owner>::data(std::as_const(gradient)), out);
  }

 private:
  /// What the answer gains a unit of the gradient.
  double shift(const Query& at) const {
    if (at.alpha == 0 || at.sigma == 0) return 0;
    const double s = detail::scale_at("ClassifierGuidanceOptions::scale_at", options_.scale,
                                      options_.scale_at, at);
    const double b = detail::conversion_of(at, {at.t, at.alpha, at.sigma}).b;
    return s == 0 || b == 0 ? 0 : s * at.sigma * at.sigma / (at.alpha * b);
  }

  template <class S, class Owner>
  void add(const Query& query, const Blocks& blocks, const S* gradient, Owner& out) const {
    const std::size_t stride = output_stride(out, blocks);
    S* f = StateTraits<Owner>::data(out);
    detail::for_each_slice(
        query, blocks,
        [&](const Query& at, std::size_t sample, std::size_t first, std::size_t count) {
          const auto by = static_cast<detail::Compute<S>>(shift(at));
          const S* from = gradient + sample * blocks.size + first;
          S* to = f + sample * stride + first;
          detail::transform_lanes(to, from, to, count, [by](const auto& answer, const auto& g) {
            return answer + by * g;
          });
        });
  }

  template <class Owner>
  static std::size_t output_stride(const Owner& out, const Blocks& blocks) {
    return blocks_of<Owner>(StateTraits<Owner>::shape(out), false).total() / blocks.batch;
  }

  Gradient gradient_;
  ClassifierGuidanceOptions options_;
  detail::KeptTensor kept_gradient_, kept_state_;
};

/// Where ClassifierMeanShift takes the gradient.
enum class GradientAt {
  state,  ///< at the state before the stage, at its level, as OpenAI's guided-diffusion does
  /// At the mean of the state after the stage, at that level: where the paper expands log p(y | x)
  /// (arXiv 2105.05233, section 4.1).
  mean,
};

/// Options of ClassifierMeanShift. Threads may share what none of them writes, if `scale_at` may be
/// called by several at once.
struct MeanShiftOptions {
  double scale = 1;                                ///< s, any finite number
  std::function<double(const Query&)> scale_at{};  ///< if set: s of a moment, in place of `scale`
  GradientAt gradient_at = GradientAt::state;
};

/// Classifier guidance as a shift of the mean (arXiv 2105.05233, algorithm 1), for samplers that
/// add noise (DDPM, the ancestral ones, SDE solvers): a stage that adds noise of variance w^2 to
/// its result moves it by s w^2 grad as well. An edit: give it to `sample` beside the unconditional
/// network,
///
///     sample<Image>(DdpmSampler{...}, network, shape, noise, {},
///                   ClassifierMeanShift{gradient, {.scale = 3}});
///
/// `gradient` is a ClassifierGradient; it is asked once for every stage that adds noise. Equal to
/// the score form to first order in the step only (half of the noise's effect is in the drift), and
/// no guidance at all where no noise is added: there use ClassifierGuidance. Fails, before the
/// first stage, for plans whose noise is learned or sized by the data; and where the gradient is
/// not finite or has another shape. Not thread-safe: it holds buffers; one object per run at a
/// time.
template <class Gradient>
class ClassifierMeanShift {
 public:
  explicit ClassifierMeanShift(Gradient gradient, MeanShiftOptions options = {})
      : gradient_(std::move(gradient)), options_(std::move(options)) {
    detail::scale_at("MeanShiftOptions::scale", options_.scale, {}, {});
    detail::require_enumerator("MeanShiftOptions::gradient_at", options_.gradient_at, 2);
  }

  template <class Run, class T>
  void edit_start(const Run& run, T&) {
    for (const Stage& stage : run.plan().stages) {
      const bool learned = stage.noise_scale.kind != NoiseScale::Kind::fixed;
      if (noise_variance(stage) > 0 && (learned || stage.langevin_snr > 0))
        fail(detail::text(
            "the mean of step ", stage.step, " cannot be shifted: its noise is ",
            learned ? "learned by the network" : "sized by the data",
            ", so its variance is not known beforehand; guide by ClassifierGuidance instead"));
    }
  }

  /// Before a stage: the gradient at its state.
  template <class Run>
  void operator()(const Run& run) {
    if (options_.gradient_at != GradientAt::state || noise_variance(run.stage()) == 0) return;
    moment_ = run.query();
    take(run.state());
  }

  /// After a stage: the shift.
  template <class Run, class T>
  void edit_state(const Run& run, T& x) {
    const double variance = noise_variance(run.last());
    if (variance == 0) return;
    if (options_.gradient_at == GradientAt::mean) take_at_mean(run, x);
    const double s =
        detail::scale_at("MeanShiftOptions::scale_at", options_.scale, options_.scale_at, moment_);
    using Owner = TensorOf<T>;
    const auto shape = StateTraits<T>::shape(x);
    const auto* gradient = StateTraits<Owner>::data(kept_gradient_.template get<Owner>(shape));
    auto* state = StateTraits<T>::data(x);
    const auto by = static_cast<detail::Compute<ScalarOf<T>>>(s * variance);
    detail::transform_lanes(std::as_const(state), gradient, state,
                            blocks_of<T>(shape, false).total(),
                            [by](const auto& value, const auto& g) { return value + by * g; });
  }

 private:
  /// Draws that a stage weighs twice count once, with the sum of their weights.
  static double noise_variance(const Stage& stage) {
    double variance = 0;
    for (std::size_t k = 0; k < stage.noise.size(); ++k) {
      const auto same = [&](const Term& term) { return term.source == stage.noise[k].source; };
      if (stage.noise[k].source < 0 ||
          std::any_of(stage.noise.begin(), stage.noise.begin() + static_cast<std::ptrdiff_t>(k),
                      same))
        continue;
      double weight = 0;
      for (const Term& term : stage.noise)
        if (same(term)) weight += term.weight;
      variance += weight * weight;
    }
    return variance;
  }

  template <class T>
  void take(const T& x) {
    static_assert(ClassifierGradient<Gradient, T>,
                  "the gradient of a classifier must be callable as (const Tensor& x, const "
                  "Query& query, Tensor& out)");
    using Owner = TensorOf<T>;
    const auto shape = StateTraits<T>::shape(x);
    Owner& gradient = kept_gradient_.template get<Owner>(shape);
    gradient_(x, std::as_const(moment_), gradient);
    detail::require_gradient<T>("the gradient of the classifier", gradient, shape, moment_);
  }

  /// At x without the noise that the stage has just added.
  template <class Run, class T>
  void take_at_mean(const Run& run, const T& x) {
    using S = ScalarOf<T>;
    using Real = detail::Compute<S>;
    using Owner = TensorOf<T>;
    const auto shape = StateTraits<T>::shape(x);
    const Blocks blocks = blocks_of<T>(shape, run.options().batch);
    const Stage& stage = run.last();
    moment_ = {.t = stage.to.t,
               .alpha = stage.to.alpha,
               .sigma = stage.to.sigma,
               .to_alpha = stage.to.alpha,
               .to_sigma = stage.to.sigma,
               .stage = run.stage_number() - 1,
               .step = stage.step - run.plan().stages.front().step,
               .steps = run.steps(),
               .prediction_type = run.options().prediction_type,
               .batched = run.options().batch,
               .samples = blocks.batch};
    Owner& mean = kept_mean_.template get<Owner>(shape);
    S* to = StateTraits<Owner>::data(mean);
    std::copy_n(StateTraits<T>::data(x), blocks.total(), to);
    std::array<Real, detail::chunk_size> normals;
    for (std::size_t k = 0; k < stage.noise.size(); ++k) {
      if (stage.noise[k].source < 0 || stage.noise[k].weight == 0) continue;
      const auto weight = static_cast<Real>(stage.noise[k].weight);
      for (std::size_t i = 0; i < blocks.total();) {
        const std::size_t element = i % blocks.size;
        const std::size_t n = (std::min)(normals.size(), blocks.size - element);
        run.fill_draw(k, i / blocks.size, element, std::span(normals).first(n));
        for (std::size_t j = 0; j < n; ++j, ++i)
          to[i] = static_cast<S>(static_cast<Real>(to[i]) - weight * normals[j]);
      }
    }
    decltype(auto) seen = detail::seen_as<T>(mean);
    take<T>(seen);
  }

  Gradient gradient_;
  MeanShiftOptions options_;
  Query moment_{};  // where the gradient was taken
  detail::KeptTensor kept_gradient_, kept_mean_;
};

}  // namespace diffusion

#endif  // DIFFUSION_GUIDANCE_CLASSIFIER_GUIDANCE_HPP
