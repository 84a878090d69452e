#ifndef DIFFUSION_PLAN_STAGE_HPP
#define DIFFUSION_PLAN_STAGE_HPP

#include <diffusion/schedule/knot.hpp>

#include <array>
#include <cstdint>
#include <type_traits>

namespace diffusion {

inline constexpr int max_history = 4;  ///< earlier estimates that one stage may weigh
inline constexpr int max_noise = 2;    ///< fresh or earlier draws of noise that one stage may weigh

/// A weight on a numbered vector: a history slot or a draw of noise. source -1: no term. Plain
/// data: threads may share what none of them writes.
struct Term {
  std::int32_t source = -1;
  double weight = 0;
  friend bool operator==(const Term&, const Term&) = default;
};

/// A factor on the stage's noise that comes from the network: the second half v of its output's
/// channels (learned variance; Nichol and Dhariwal 2021, arXiv 2102.09672, eq. 15). Plain data:
/// threads may share what none of them writes.
struct NoiseScale {
  enum class Kind : std::uint8_t {
    fixed,        ///< 1
    exponential,  ///< exp(offset + slope v): v interpolates between two log variances
    root,         ///< sqrt(v): v is the variance
  };
  Kind kind = Kind::fixed;
  double offset = 0;
  double slope = 0;
  friend bool operator==(const NoiseScale&, const NoiseScale&) = default;
};

/// One row of a sampling plan:
///
///   f  = network(input_scale * x, at.t)                            if ask
///   x0 = a x + b f (then clipped), eps = p x + q f                 by prediction type, at `at`
///   x' = x_weight x + x0 .. + eps .. + raw f + saved s + sum history + sum noise
///
/// Plain numbers, trivially copyable, so that a plan lives in a vector or in a constexpr array.
/// Plain data: threads may share what none of them writes.
struct Stage {
  bool ask = true;         ///< whether the network is asked
  double input_scale = 1;  ///< the network sees input_scale * x
  Knot at{};               ///< the level where x stands, and the time that the network is told
  Knot to{};               ///< the level of the result

  double x = 0;    ///< weight on the state
  double x0 = 0;   ///< weight on the estimate of the clean data (clipped, if the plan clips)
  double eps = 0;  ///< weight on the estimate of the noise (by the plan's EpsilonRule)
  double raw = 0;  ///< weight on the network's output as it is

  double saved = 0;   ///< weight on the saved state
  bool save = false;  ///< copy x to the saved state before the update

  std::array<Term, max_history> history{};  ///< weights on earlier estimates, by slot
  std::int32_t keep = -1;                   ///< slot that receives this stage's estimate, or -1

  std::array<Term, max_noise> noise{};  ///< weights on draws, numbered through the whole plan
  std::int32_t draws = 0;               ///< draws that a sequential source must make here
  NoiseScale noise_scale{};             ///< learned variance

  double langevin_snr = 0;  ///< > 0: a Langevin step whose size comes from the data (see Stepper)
  std::int32_t step = 0;    ///< the step of the grid to which this stage belongs

  friend bool operator==(const Stage&, const Stage&) = default;
};
static_assert(std::is_trivially_copyable_v<Stage>);

}  // namespace diffusion

#endif  // DIFFUSION_PLAN_STAGE_HPP
