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

/// The edit distance of two words.
inline std::size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t corner = row[0]++;
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t replaced = corner + (a[i] == b[j] ? 0 : 1);
      corner = row[j + 1];
      row[j + 1] = (std::min)({replaced, row[j] + 1, corner + 1});
    }
  }
  return row.back();
}

/// The supported class that is most like `name`: of a few that are known to be kin, that one; else
/// the nearest in spelling.
inline std::string_view nearest_class(std::string_view name) {
  constexpr std::pair<std::string_view, std::string_view> kin[] = {
      {"RePaintScheduler", "DDPMScheduler"},
      {"KarrasVeScheduler", "EDMEulerScheduler"},
  };
  for (const auto& [unsupported, nearest] : kin)
    if (name == unsupported) return nearest;
  if (name.starts_with("Flax")) name.remove_prefix(4);
  std::string_view nearest;
  for (const DiffusersClass& known : diffusers_classes)
    if (nearest.empty() || distance(name, known.name) < distance(name, nearest))
      nearest = known.name;
  return nearest;
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
  std::string nearest;
  if (name.is_string())
    nearest = text("; the nearest that is supported is ",
                   nearest_class(name.get_ref<const std::string&>()),
                   ", which reads the file if it is named instead (load_as)");
  fail(text(load_as.empty() ? "_class_name" : "the scheduler class", " is ", shown(name), nearest,
            "; supported are ", listed_class_names()));
}

}  // namespace detail

inline DiffusersConfig load_diffusers_config(const std::filesystem::path& path,
                                             const DiffusersReading& reading = {});

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

namespace detail {

inline std::string content_of(const std::filesystem::path& file) {
  std::error_code no_such_file;
  if (!std::filesystem::is_regular_file(file, no_such_file))
    fail(text("there is no file ", file.string(),
              "; a diffusers model keeps it as scheduler/scheduler_config.json"));
  std::ifstream stream(file, std::ios::binary);
  std::string content{std::istreambuf_iterator<char>(stream), {}};
  if (stream.bad() || !stream.is_open()) fail("cannot read " + file.string());
  return content;
}

/// The scheduler class that a pipeline's model_index.json names for a component.
inline std::string indexed_class(const nlohmann::json& index, const std::string& component) {
  const auto entry = index.find(component);
  if (entry == index.end()) {
    std::string others;
    for (const auto& [key, value] : index.items())
      if (key.find("scheduler") != std::string::npos) others += (others.empty() ? "" : ", ") + key;
    fail(text("model_index.json has no component \"", printable(component), "\"; ",
              others.empty() ? "it names no scheduler" : "its schedulers are " + others));
  }
  if (!entry->is_array() || entry->size() != 2 || !(*entry)[1].is_string())
    fail(text(component, " of model_index.json is ", shown(*entry),
              "; it must be a pair of library and class name"));
  return (*entry)[1].get<std::string>();
}

/// A pipeline's folder: the class is the one that its index names, whatever the file says.
inline DiffusersConfig load_indexed(const std::filesystem::path& folder, DiffusersReading reading) {
  const std::filesystem::path index = folder / "model_index.json";
  std::string named;
  try {
    named = indexed_class(parse_python_object(content_of(index)), reading.component);
  } catch (const Error& error) {
    fail(index.string() + ": " + error.what());
  }
  const bool chosen = !reading.load_as.empty();
  if (!chosen) reading.load_as = named;
  DiffusersConfig config =
      load_diffusers_config(folder / reading.component / "scheduler_config.json", reading);
  const std::string own = config.given.value("_class_name", named);
  if (!chosen && own != named)
    config.notes.push_back({DiffusersNote::Kind::overruled, "_class_name",
                            text("_class_name is ", printable(own), "; model_index.json names ",
                                 named, ", which reads the file")});
  return config;
}

}  // namespace detail

/// Reads a configuration from `path`: a file, a folder that holds scheduler_config.json, or a
/// pipeline's folder or its model_index.json, which names the class and where the file is.
inline DiffusersConfig load_diffusers_config(const std::filesystem::path& path,
                                             const DiffusersReading& reading) {
  std::error_code ignored;
  if (path.filename() == "model_index.json")
    return detail::load_indexed(path.parent_path(), reading);
  if (std::filesystem::is_directory(path, ignored)) {
    if (std::filesystem::exists(path / "model_index.json", ignored))
      return detail::load_indexed(path, reading);
    if (std::filesystem::exists(path / "scheduler_config.json", ignored))
      return load_diffusers_config(path / "scheduler_config.json", reading);
  }
  const std::string content = detail::content_of(path);
  try {
    return parse_diffusers_config(content, reading);
  } catch (const Error& error) {
    fail(path.string() + ": " + error.what());
  }
}

/// The configuration as the text of a scheduler_config.json: every key that its class reads, with
/// the value in use. Read again, it gives the same plans. Infinities stand bare, as Python writes
/// and reads them.
inline std::string to_scheduler_config(const DiffusersConfig& config) {
  nlohmann::json object = config.resolved;
  for (nlohmann::json& value : object)
    if (value.is_number_float() && !detail::is_finite(value.get<double>()))
      value = detail::is_nan(value.get<double>()) ? "\x01NaN"
              : value.get<double>() < 0           ? "\x01-Infinity"
                                                  : "\x01Infinity";
  std::string text = object.dump(2) + "\n";
  for (const std::string word : {"NaN", "-Infinity", "Infinity"}) {
    const std::string quoted = "\"\\u0001" + word + "\"";
    for (auto at = text.find(quoted); at != std::string::npos; at = text.find(quoted, at))
      text.replace(at, quoted.size(), word);
  }
  return text;
}

}  // namespace diffusion

#endif  // DIFFUSION_INTEROP_DIFFUSERS_CONFIG_HPP
