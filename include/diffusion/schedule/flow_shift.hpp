#ifndef DIFFUSION_SCHEDULE_FLOW_SHIFT_HPP
#define DIFFUSION_SCHEDULE_FLOW_SHIFT_HPP

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include <diffusion/error.hpp>
#include <diffusion/schedule/continuous.hpp>
#include <diffusion/schedule/knot.hpp>

/// Time shifts of rectified flow: larger pictures need more of the steps at high noise, since noise
/// hides less of a picture the more pixels show the same thing.
namespace diffusion {

namespace detail {
inline void require_shift(double shift) {
  require_inside("shift", shift, 0.0, std::numeric_limits<double>::infinity());
}
inline void require_terminal(const char* name, const double& terminal) {
  if (is_nan(terminal) || terminal < 0 || terminal >= 1)
    fail(text(name, " is ", terminal, "; it must be at least 0 and below 1"));
}
}  // namespace detail

/// The shifted time k t / (1 + (k - 1) t) of t in [0, 1], for a shift k > 0: k = 1 changes nothing,
/// a larger one moves all times but 0 and 1 towards noise. The noise-to-data ratio t / (1 - t) is
/// multiplied by k, so shifts by k and then by m are one by k m. Esser et al. 2024, arXiv
/// 2403.03206, eq. 23, where k = sqrt(m / n) for m pixels instead of n.
inline double shifted_time(double t, double shift) {
  detail::require_time(t);
  detail::require_shift(shift);
  return shift * t / (shift * t + (1 - t));  // k t / (1 + (k - 1) t), never above 1
}

/// How a shift comes from the parameter mu that pipelines make from a picture's size.
enum class TimeShift {
  exponential,  ///< shift = exp(mu): t becomes e^mu / (e^mu + 1 / t - 1)
  linear,       ///< shift = mu, which must be positive
};

/// The shift that stands for mu. Fails unless it comes out positive and finite.
inline double shift_of_mu(double mu, TimeShift type = TimeShift::exponential) {
  detail::require_enumerator("time shift type", type, 2);
  const double shift = type == TimeShift::exponential ? std::exp(mu) : mu;
  if (!detail::is_finite(shift) || !(shift > 0))
    fail(detail::text("mu is ", mu, ", which makes the shift ", shift,
                      "; it must be positive and finite"));
  return shift;
}

/// Options of `dynamic_shift_mu`: mu is base_shift at base_seq_len patches and max_shift at
/// max_seq_len. The defaults are Flux's. Plain data: threads may share what none of them writes.
struct DynamicShiftOptions {
  double base_seq_len = 256;  ///< patches of the smaller picture, > 0
  double max_seq_len = 4096;  ///< patches of the larger picture, other than base_seq_len, > 0
  double base_shift = 0.5;    ///< mu of the smaller picture, finite
  double max_shift = 1.15;    ///< mu of the larger picture, finite
};

/// mu for a picture of `image_seq_len` patches, on the straight line through the options' two
/// points, beyond them too. A latent of h x w in patches of 2 x 2, as Flux has them, is h w / 4
/// patches. Known as calculate_shift in diffusers' pipelines.
inline double dynamic_shift_mu(double image_seq_len, const DynamicShiftOptions& options = {}) {
  const double infinity = std::numeric_limits<double>::infinity();
  detail::require_inside("image_seq_len", image_seq_len, 0.0, infinity);
  detail::require_inside("base_seq_len", options.base_seq_len, 0.0, infinity);
  detail::require_inside("max_seq_len", options.max_seq_len, 0.0, infinity);
  detail::require_inside("base_shift", options.base_shift, -infinity, infinity);
  detail::require_inside("max_shift", options.max_shift, -infinity, infinity);
  if (options.base_seq_len == options.max_seq_len)
    fail(detail::text("max_seq_len is ", options.max_seq_len,
                      "; it must differ from base_seq_len, which is the same"));
  const double share =
      (image_seq_len - options.base_seq_len) / (options.max_seq_len - options.base_seq_len);
  return options.base_shift + share * (options.max_shift - options.base_shift);
}

/// Falling times, stretched about t = 1 so that the last one is `terminal` in [0, 1): 1 - t is
/// multiplied by (1 - terminal) / (1 - times.back()). A first time of 1 stays. Where all times are
/// 1, as in a run of one step, there is nothing to stretch and they stay (diffusers divides 0 by
/// 0). Known as shift_terminal.
inline std::vector<double> stretched_to_terminal(std::vector<double> times, double terminal) {
  detail::require_terminal("terminal", terminal);
  for (const double t : times) detail::require_time(t);
  if (times.empty() || times.back() == 1) return times;
  const double scale = (1 - terminal) / (1 - times.back());
  for (double& t : times) t = (std::max)(1 - (1 - t) * scale, 0.0);
  times.back() = terminal;
  return times;
}

/// Rectified flow with shifted time: the u in [0, 1] that grids spread evenly stands for
/// t = shifted_time(u, shift), with alpha = 1 - t and sigma = t. The network is told t *
/// time_scale. `ShiftedFlow{3.0}` is what Stable Diffusion 3 is sampled on. Immutable; safe to
/// share between threads.
class ShiftedFlow {
 public:
  /// `shift` > 0, see `shifted_time`; fails otherwise.
  explicit ShiftedFlow(double shift, const RectifiedFlowOptions& options = {})
      : flow_(options), shift_(shift) {
    detail::require_shift(shift);
  }

  double shift() const { return shift_; }
  const RectifiedFlowOptions& options() const { return flow_.options(); }
  double first_time() const { return 0; }
  double last_time() const { return 1; }

  double alpha(double u) const {
    detail::require_time(u);
    return (1 - u) / (shift_ * u + (1 - u));
  }
  double sigma(double u) const { return shifted_time(u, shift_); }
  double log_snr(double u) const { return flow_.log_snr(u) - 2 * std::log(shift_); }

  double time(double log_snr) const { return flow_.time(log_snr + 2 * std::log(shift_)); }

  Knot knot(double u) const {
    const double t = sigma(u);
    return {t * options().time_scale, alpha(u), t};
  }

 private:
  RectifiedFlow flow_;
  double shift_;
};

/// The flow with its time shifted.
inline ShiftedFlow shifted(const RectifiedFlow& flow, double shift) {
  return ShiftedFlow(shift, flow.options());
}

/// A shifted flow shifted once more: the shifts multiply.
inline ShiftedFlow shifted(const ShiftedFlow& flow, double shift) {
  detail::require_shift(shift);
  return ShiftedFlow(flow.shift() * shift, flow.options());
}

/// Options of `flow_times`. Plain data: threads may share what none of them writes.
struct FlowTimesOptions {
  double shift = 1;           ///< see `shifted_time`, > 0
  double shift_terminal = 0;  ///< > 0: the last time after `stretched_to_terminal`, below 1
};

/// The n falling times of a run on rectified flow as pipelines choose them: 1, 1 - 1/n, ..., 1/n,
/// shifted, then stretched. For GridOptions::timesteps of a RectifiedFlow; the end at t = 0 is
/// added there. Without a terminal, `ShiftedFlow` has the same grid.
inline std::vector<double> flow_times(int steps, const FlowTimesOptions& options = {}) {
  detail::require_range("steps", steps, 1, 1'000'000);
  detail::require_terminal("FlowTimesOptions::shift_terminal", options.shift_terminal);
  std::vector<double> times;
  for (int i = 0; i < steps; ++i)
    times.push_back(shifted_time(1 - static_cast<double>(i) / steps, options.shift));
  return options.shift_terminal > 0 ? stretched_to_terminal(times, options.shift_terminal) : times;
}

}  // namespace diffusion

#endif  // DIFFUSION_SCHEDULE_FLOW_SHIFT_HPP
