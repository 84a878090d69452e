#ifndef DIFFUSION_SAMPLING_OPTIONS_HPP
#define DIFFUSION_SAMPLING_OPTIONS_HPP

#include <diffusion/denoiser/prediction_type.hpp>
#include <diffusion/tensor/device.hpp>

#include <chrono>
#include <string_view>

namespace diffusion {

/// How a plan is run. Everything that belongs to the method is in the plan instead. Plain data:
/// several runs may use one, if the device may be shared.
struct SampleOptions {
  /// What the network answers; a denoiser that declares its own prediction type overrules this.
  PredictionType prediction_type = PredictionType::epsilon;
  /// false: the whole state is one sample, its first dimension no batch.
  bool batch = true;
  /// Stop when the state holds an infinity or a NaN (told by its bits, also under -ffast-math).
  bool check_finite = true;
  /// Where the updates run; by default on the calling thread. Must outlive the run.
  DeviceRef device{};
  /// No network call starts after this moment.
  std::chrono::steady_clock::time_point deadline = (std::chrono::steady_clock::time_point::max)();
};

/// Why a run ended.
enum class Status {
  done,
  cancelled,   ///< a callback said so
  deadline,    ///< SampleOptions::deadline passed
  not_finite,  ///< the state holds an infinity or a NaN
};

/// "done", "cancelled", "deadline" or "not finite".
inline constexpr std::string_view name(Status status) {
  constexpr std::string_view names[] = {"done", "cancelled", "deadline", "not finite"};
  return names[static_cast<int>(status)];
}

/// How a run ended. The state is whatever had been reached by then. Plain data: threads may share
/// what none of them writes.
struct SampleResult {
  Status status = Status::done;
  int stage = 0;          ///< stages that were completed
  int network_calls = 0;  ///< times that the network was asked
  bool done() const { return status == Status::done; }
};

/// What a callback answers; a callback may also return nothing.
enum class Verdict { proceed, cancel };

}  // namespace diffusion

#endif  // DIFFUSION_SAMPLING_OPTIONS_HPP
