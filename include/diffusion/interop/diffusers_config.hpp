#ifndef DIFFUSION_INTEROP_DIFFUSERS_CONFIG_HPP
#define DIFFUSION_INTEROP_DIFFUSERS_CONFIG_HPP

#include <diffusion/interop/diffusers/ddpm_ddim.hpp>
#include <diffusion/interop/diffusers/minimax_class.hpp>
#include <diffusion/interop/diffusers_keys.hpp>
#include <diffusion/interop/diffusers_types.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

/// Reads the `scheduler_config.json` of a diffusers model folder as that library reads it: each
/// scheduler class with its own defaults for keys that are missing. Needs nlohmann/json; nothing
/// else in the library does.
///
///     const auto config = load_diffusers_config("model/scheduler/scheduler_config.json");
///     const SamplingPlan plan = config.plan({.steps = 50, .eta = 0});
///     sample<Image>(plan, network, shape, noise, {.prediction_type = config.prediction_type});
namespace diffusion {

namespace detail {

/// How a scheduler class reads a configuration.
struct DiffusersClass {
  std::string_view name;
  /// Fills in everything but the class's name, what is given, and the notes.
  void (*read)(ConfigKeys& keys, DiffusersConfig& config);
};

inline constexpr DiffusersClass diffusers_classes[] = {
    {"DDPMScheduler", read_ddpm},
    {"DDPMParallelScheduler", read_ddpm},
    {"DDIMScheduler", read_ddim},
    {"DDIMParallelScheduler", read_ddim},
    {"DDIMInverseScheduler", read_ddim_inverse},
    {"MiniMaxH3Scheduler", read_minimax},
};

inline std::string listed_class_names() {
  std::string names;
  for (const DiffusersClass& known : diffusers_classes)
    names += (names.empty() ? "" : ", ") + std::string(known.name);
  return names;
}

inline const DiffusersClass& diffusers_class(const nlohmann::json& object,
                                             const std::string& load_as) {
  nlohmann::json name = load_as;
  if (load_as.empty()) {
    if (!object.contains("_class_name"))
      fail("_class_name is missing; it must be one of " + listed_class_names() +
           ", unless the class is named otherwise");
    name = object.at("_class_name");
  }
  for (const DiffusersClass& known : diffusers_classes)
    if (name == known.name) return known;
  fail(text(load_as.empty() ? "_class_name" : "the scheduler class", " is ", shown(name),
            "; supported are ", listed_class_names()));
}

}  // namespace detail

/// The scheduler classes that can be read.
inline std::vector<std::string> diffusers_class_names() {
  std::vector<std::string> names;
  for (const auto& known : detail::diffusers_classes) names.emplace_back(known.name);
  return names;
}

/// Reads a configuration from the object that its file holds. Fails for a class that is not
/// supported and for values that the class does not allow; other keys end up in `notes`.
///
/// A class may read another's file, as `from_config` does: DDIM's drives DDPM. Keys that the file
/// lacks then have the defaults of the class that reads.
inline DiffusersConfig read_diffusers_config(const nlohmann::json& object,
                                             const DiffusersReading& reading = {}) {
  if (!object.is_object())
    fail(detail::text("the scheduler configuration is a JSON ", object.type_name(),
                      "; it must be an object"));
  const auto& known = detail::diffusers_class(object, reading.load_as);
  detail::ConfigKeys keys(object, std::string(known.name));
  DiffusersConfig config;
  config.class_name = known.name;
  config.behaviour = reading.behaviour;
  known.read(keys, config);
  config.notes = keys.notes();
  config.given = object;
  config.resolved = keys.resolved();
  return config;
}

inline DiffusersConfig DiffusersConfig::with(const std::string& key, nlohmann::json value) const {
  nlohmann::json changed = given;
  changed[key] = std::move(value);
  const auto defaults = changed.find("_use_default_values");
  if (defaults != changed.end())  // the key is no longer its class's default
    defaults->erase(std::remove(defaults->begin(), defaults->end(), nlohmann::json(key)),
                    defaults->end());
  return read_diffusers_config(changed, {.behaviour = behaviour, .load_as = class_name});
}

/// Reads a configuration from the text of its file: JSON, where Infinity, -Infinity and NaN may
/// stand bare, as Python writes them.
inline DiffusersConfig parse_diffusers_config(std::string_view text,
                                              const DiffusersReading& reading = {}) {
  return read_diffusers_config(detail::parse_python_object(text), reading);
}

/// Reads a configuration from a file.
inline DiffusersConfig load_diffusers_config(const std::filesystem::path& file,
                                             const DiffusersReading& reading = {}) {
  std::error_code no_such_file;
  if (!std::filesystem::is_regular_file(file, no_such_file))
    fail(detail::text("there is no file ", file.string(),
                      "; a diffusers model keeps it as scheduler/scheduler_config.json"));
  std::ifstream stream(file, std::ios::binary);
  const std::string content{std::istreambuf_iterator<char>(stream), {}};
  if (stream.bad() || !stream.is_open()) fail("cannot read " + file.string());
  try {
    return parse_diffusers_config(content, reading);
  } catch (const Error& error) {
    fail(file.string() + ": " + error.what());
  }
}

}  // namespace diffusion

#endif  // DIFFUSION_INTEROP_DIFFUSERS_CONFIG_HPP
