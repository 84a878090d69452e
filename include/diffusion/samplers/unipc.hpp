#ifndef DIFFUSION_SAMPLERS_UNIPC_HPP
#define DIFFUSION_SAMPLERS_UNIPC_HPP

#include <diffusion/error.hpp>
#include <diffusion/samplers/predictor_corrector.hpp>

#include <vector>

namespace diffusion {

/// The function B(h) of UniPC, which matters only where a line runs through two estimates: in the
/// predictor of order 2 and the corrector of order 1. All other weights are free of it.
enum class UniPcFactor {
  bh1,  ///< B1(h) = h
  bh2,  ///< B2(h) = exp(h) - 1
};

/// Options of UniPcSampler. Plain data: threads may share what none of them writes.
struct UniPcOptions {
  int steps = 20;      ///< steps of the grid, >= 1, at most the training timesteps
  int order = 2;       ///< of the predictor, 1 to 4; the corrector's is one more
  GridOptions grid{};  ///< which timesteps
  Clipping clipping{};
  SolverForm form = SolverForm::data;  ///< what is interpolated, x0 or eps
  UniPcFactor factor = UniPcFactor::bh2;
  bool corrector = true;                    ///< false: UniP, the predictor alone
  std::vector<int> disable_corrector = {};  ///< steps whose results are not corrected
  bool lower_order_final = true;            ///< at most the order of the steps that are left
  bool asks_at_zero_step = false;  ///< ask, to correct, in a last step between equal levels
};

/// The rows of UniPC.
inline SamplingPlan make_plan(const Grid& grid, const UniPcOptions& options) {
  detail::require_range("UniPcOptions::order", options.order, 1, 4);
  detail::require_enumerator("UniPcOptions::factor", options.factor, 2);
  const bool bh1 = options.factor == UniPcFactor::bh1;
  return detail::predictor_corrector_plan(
      grid,
      {.form = options.form,
       .line = bh1 ? detail::LineMoment::half : detail::LineMoment::half_average,
       .predictor = options.order,
       .corrector = options.corrector ? options.order + 1 : 0,
       .lower_order_final = options.lower_order_final,
       .asks_at_zero_step = options.asks_at_zero_step,
       .uncorrected = options.disable_corrector},
      options.clipping);
}

/// UniPC, a predictor and corrector of any order for the diffusion ODE (Zhao et al. 2023, arXiv
/// 2302.04867). Order p + 1 for `order` = p (p without corrector; 1 is then DDIM), one network call
/// a step, p earlier estimates; deterministic. A step to clean data is of order 1, with bh1 too.
/// The noise form cannot start at alpha = 0. Immutable; safe to share between threads.
template <class S>
struct UniPcSampler : GridSampler<S, UniPcOptions> {
  using GridSampler<S, UniPcOptions>::GridSampler;
};
/// Deduced from schedule and options.
template <class S>
UniPcSampler(S, UniPcOptions = {}) -> UniPcSampler<S>;

}  // namespace diffusion

#endif  // DIFFUSION_SAMPLERS_UNIPC_HPP
