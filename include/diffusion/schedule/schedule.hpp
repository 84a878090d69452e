#ifndef DIFFUSION_SCHEDULE_SCHEDULE_HPP
#define DIFFUSION_SCHEDULE_SCHEDULE_HPP

#include <concepts>

#include <diffusion/error.hpp>
#include <diffusion/schedule/knot.hpp>

namespace diffusion {

/// What a noise schedule is: the noise level x = alpha x0 + sigma eps as a function of time.
/// Time runs from `first_time()` (least noise) to `last_time()` (most); its unit is the
/// schedule's own. A user's type needs five functions:
///
///     struct MySchedule {
///       double alpha(double t) const;         // weight of the data, >= 0
///       double sigma(double t) const;         // standard deviation of the noise, >= 0
///       double time(double log_snr) const;    // inverse of log(alpha^2/sigma^2), clamped
///       double first_time() const;            // time of the least noise
///       double last_time() const;             // time of the most noise
///     };
///
/// Two more are used where they exist: `double log_snr(double t)`, where there is a more accurate
/// formula than log(alpha^2 / sigma^2), and `Knot knot(double t)`, where the network is told
/// something else than t. One more, `int train_timesteps()`, makes the schedule discrete: see
/// `DiscreteSchedule`.
template <class S>
concept Schedule = requires(const S& schedule, double x) {
  { schedule.alpha(x) } -> std::convertible_to<double>;
  { schedule.sigma(x) } -> std::convertible_to<double>;
  { schedule.time(x) } -> std::convertible_to<double>;
  { schedule.first_time() } -> std::convertible_to<double>;
  { schedule.last_time() } -> std::convertible_to<double>;
};

/// A schedule that was trained at the whole times 0, 1, ..., train_timesteps() - 1 only.
/// Timestep spacings pick among these; other schedules are sampled at any time.
template <class S>
concept DiscreteSchedule = Schedule<S> && requires(const S& schedule) {
  { schedule.train_timesteps() } -> std::convertible_to<int>;
};

namespace detail {
/// Says in one sentence what a type lacks that is used as a schedule.
template <class S>
constexpr void require_schedule() {
  static_assert(Schedule<S>,
                "a schedule needs the const members double alpha(double t), double sigma(double "
                "t), double time(double log_snr), double first_time(), double last_time()");
}
}  // namespace detail

/// The knot of `schedule` at time t: its own `knot(t)`, or {t, alpha(t), sigma(t)}.
template <class S>
Knot knot_at(const S& schedule, double t) {
  detail::require_schedule<S>();
  if constexpr (requires {
                  { schedule.knot(t) } -> std::convertible_to<Knot>;
                })
    return schedule.knot(t);
  else
    return {t, schedule.alpha(t), schedule.sigma(t)};
}

/// log(alpha^2 / sigma^2) of `schedule` at time t, from -inf (alpha = 0) to +inf (sigma = 0).
template <class S>
double log_snr_at(const S& schedule, double t) {
  detail::require_schedule<S>();
  if constexpr (requires {
                  { schedule.log_snr(t) } -> std::convertible_to<double>;
                })
    return schedule.log_snr(t);
  else
    return Knot{t, schedule.alpha(t), schedule.sigma(t)}.log_snr();
}

}  // namespace diffusion

#endif  // DIFFUSION_SCHEDULE_SCHEDULE_HPP
