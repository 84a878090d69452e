#ifndef DIFFUSION_VERSION_HPP
#define DIFFUSION_VERSION_HPP

#include <compare>

// The one place that holds the version: the build reads these three lines.
#define DIFFUSION_VERSION_MAJOR 0
#define DIFFUSION_VERSION_MINOR 1
#define DIFFUSION_VERSION_PATCH 0

namespace diffusion {

/// The version of the headers, as semantic versioning has it: while major is 0, a new minor version
/// may change the interface. Plain data: threads may share what none of them writes.
struct Version {
  int major = 0;
  int minor = 0;
  int patch = 0;

  friend constexpr auto operator<=>(const Version&, const Version&) = default;
};

/// The version of these headers.
inline constexpr Version version{.major = DIFFUSION_VERSION_MAJOR,
                                 .minor = DIFFUSION_VERSION_MINOR,
                                 .patch = DIFFUSION_VERSION_PATCH};

}  // namespace diffusion

#endif  // DIFFUSION_VERSION_HPP
