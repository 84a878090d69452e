#ifndef DIFFUSION_TESTS_COMPILE_FAIL_FAULT_HPP
#define DIFFUSION_TESTS_COMPILE_FAIL_FAULT_HPP

// What the programs with a fault share. Each compiles, and with -D FAULT fails with the sentence
// in its comment.
#include <diffusion/diffusion.hpp>

#include <cmath>
#include <vector>

using namespace diffusion;
using Image = Eigen::Tensor<float, 3, Eigen::RowMajor>;

/// A network for any state.
struct AnyNetwork {
  template <class X, class Out>
  void operator()(const X&, double, Out& out) const {
    out.data()[0] = {};
  }
};

inline Image start() { return Image(2, 3, 4); }
inline const SamplingPlan& plan() {
  static const SamplingPlan made = DdimSampler{RectifiedFlow(), {.steps = 5}}.plan();
  return made;
}
inline DdimSampler<RectifiedFlow> sampler() { return DdimSampler{RectifiedFlow(), {.steps = 5}}; }

#endif  // DIFFUSION_TESTS_COMPILE_FAIL_FAULT_HPP
