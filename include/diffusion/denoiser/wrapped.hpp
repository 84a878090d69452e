#ifndef DIFFUSION_DENOISER_WRAPPED_HPP
#define DIFFUSION_DENOISER_WRAPPED_HPP

#include <diffusion/denoiser/denoiser.hpp>

#include <utility>

namespace diffusion {

/// What a denoiser made of a denoiser has in common with the one inside: the prediction type, the
/// shape of the output and the memory of a run are the inner one's. A base class; whoever derives
/// adds operator()(const Tensor& x, const Query& query, TensorOf<Tensor>& out). Holds the inner
/// denoiser by value (std::ref for one that lives elsewhere). As thread-safe as that one.
template <class Inner>
class WrappedDenoiser {
 public:
  explicit WrappedDenoiser(Inner inner) : inner_(std::move(inner)) {}

  Inner& inner() { return inner_; }
  const Inner& inner() const { return inner_; }

  PredictionType prediction_type() const requires requires(const Inner& inner) {
    inner.prediction_type();
  }
  { return inner_.prediction_type(); }
  void begin_run() requires requires(Inner& inner) { inner.begin_run(); }
  { inner_.begin_run(); }
  template <class Shape>
  requires requires(Inner& inner, const Shape& input) { inner.output_shape(input); }
  Shape output_shape(const Shape& input) { return inner_.output_shape(input); }

 private:
  Inner inner_;
};

}  // namespace diffusion

#endif  // DIFFUSION_DENOISER_WRAPPED_HPP
