#ifndef DIFFUSION_DENOISER_QUERY_HPP
#define DIFFUSION_DENOISER_QUERY_HPP

#include <diffusion/denoiser/prediction_type.hpp>
#include <diffusion/schedule/knot.hpp>

#include <cstddef>
#include <span>

namespace diffusion {

/// What a denoiser may know about the moment at which it is asked. Plain data, made anew for every
/// ask; `times` and `levels` are valid during the ask only.
struct Query {
  double t = 0;      ///< the time that the network is told
  double alpha = 1;  ///< the level of the state, alpha x0 + sigma eps
  double sigma = 0;
  double input_scale = 1;  ///< what the denoiser is given is this times the state
  double to_alpha = 1;     ///< the level to which the stage leads
  double to_sigma = 0;
  int stage = 0;   ///< the plan's stage that asks
  int step = 0;    ///< the grid's step that it belongs to
  int steps = 1;   ///< how many steps the plan has
  int branch = 0;  ///< which of several asks of one stage this is (guidance numbers them)
  PredictionType prediction_type = PredictionType::epsilon;
  std::span<const double> times{};  ///< one time per slice (sample, frame, element) where these
                                    ///< differ, else empty
  std::span<const Knot> levels{};   ///< with `times`: the level of each slice
  bool batched = true;              ///< false: x is one sample, its first dimension no batch
  std::size_t samples = 0;  ///< samples in x (1 for an unbatched state); 0: as many as x's batch
};

}  // namespace diffusion

#endif  // DIFFUSION_DENOISER_QUERY_HPP
