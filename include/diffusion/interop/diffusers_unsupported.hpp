#ifndef DIFFUSION_INTEROP_DIFFUSERS_UNSUPPORTED_HPP
#define DIFFUSION_INTEROP_DIFFUSERS_UNSUPPORTED_HPP

#include <diffusion/error.hpp>
#include <diffusion/spelling.hpp>

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

/// What is said of a scheduler class that cannot be read: why, where that is known, and which of
/// those that can is the nearest.
namespace diffusion::detail {

/// A class of diffusers that is left out on purpose. Plain data: threads may share what none of
/// them writes.
struct UnsupportedClass {
  std::string_view name;
  std::string_view why;
  std::string_view nearest;  ///< empty: none comes near
};

inline constexpr std::string_view samples_tokens =
    "it chooses among tokens, and everything here samples real numbers";
inline constexpr std::string_view changes_resolution =
    "its runs change the resolution on their way, which is a loop around several plans";

inline constexpr UnsupportedClass unsupported_classes[] = {
    {"AmusedScheduler", samples_tokens, ""},
    {"BlockRefinementScheduler", samples_tokens, ""},
    {"DiscreteDDIMScheduler", samples_tokens, ""},
    {"EntropyBoundScheduler", samples_tokens, ""},
    {"VQDiffusionScheduler", samples_tokens, ""},
    {"HeliosScheduler", changes_resolution, "UniPCMultistepScheduler"},
    {"HeliosDMDScheduler", changes_resolution, "FlowMatchEulerDiscreteScheduler"},
    {"KarrasVeScheduler", "diffusers has withdrawn it", "EDMEulerScheduler"},
};

/// Flax's classes are PyTorch's with another first syllable; pipelines read them as such.
inline std::string_view without_flax(std::string_view name) {
  if (name.starts_with("Flax")) name.remove_prefix(4);
  return name;
}

/// The name that is nearest: the shortest that begins like it, else the nearest in spelling. Of a
/// long one only the beginning is looked at.
inline std::string_view nearest_name(std::string_view name,
                                     const std::vector<std::string_view>& known) {
  constexpr std::size_t longest = 100;
  name = without_flax(name).substr(0, longest);
  std::string_view stem = name;
  if (stem.ends_with("Scheduler")) stem.remove_suffix(9);
  std::string_view nearest;
  for (const std::string_view one : known)
    if (!stem.empty() && letters_apart(stem, one.substr(0, stem.size())) == 0 &&
        (nearest.empty() || one.size() < nearest.size()))
      nearest = one;
  if (!nearest.empty()) return nearest;
  return *std::min_element(known.begin(), known.end(),
                           [name](std::string_view a, std::string_view b) {
                             return letters_apart(name, a) < letters_apart(name, b);
                           });
}

/// Why a class cannot be read, and what can be instead: the end of a sentence.
inline std::string unsupported(std::string_view name, const std::vector<std::string_view>& known) {
  std::string sentence = "it is not supported";
  std::string_view nearest = nearest_name(name, known);
  for (const UnsupportedClass& one : unsupported_classes) {
    if (name != one.name) continue;
    sentence += text(": ", one.why);
    if (one.nearest.empty()) return sentence;
    if (std::find(known.begin(), known.end(), one.nearest) != known.end()) nearest = one.nearest;
  }
  return text(sentence, "; the nearest class that is supported is ", nearest,
              ", which reads the file where it is named instead (load_as)");
}

}  // namespace diffusion::detail

#endif  // DIFFUSION_INTEROP_DIFFUSERS_UNSUPPORTED_HPP
