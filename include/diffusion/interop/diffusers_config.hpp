#ifndef DIFFUSION_INTEROP_DIFFUSERS_CONFIG_HPP
#define DIFFUSION_INTEROP_DIFFUSERS_CONFIG_HPP

#include <diffusion/interop/diffusers/ddpm_ddim.hpp>
#include <diffusion/interop/diffusers/dpm_classes.hpp>
#include <diffusion/interop/diffusers/edm_dpm_classes.hpp>
#include <diffusion/interop/diffusers/edm_euler_class.hpp>
#include <diffusion/interop/diffusers/few_step_classes.hpp>
#include <diffusion/interop/diffusers/flow_classes.hpp>
#include <diffusion/interop/diffusers/karras_classes.hpp>
#include <diffusion/interop/diffusers/minimax_class.hpp>
#include <diffusion/interop/diffusers/pndm_classes.hpp>
#include <diffusion/interop/diffusers/prior_classes.hpp>
#include <diffusion/interop/diffusers/repaint_class.hpp>
#include <diffusion/interop/diffusers/sde_classes.hpp>
#include <diffusion/interop/diffusers/unipc_sa_classes.hpp>
#include <diffusion/interop/diffusers/video_classes.hpp>
#include <diffusion/interop/diffusers_keys.hpp>
#include <diffusion/interop/diffusers_types.hpp>
#include <diffusion/interop/diffusers_unsupported.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdint>
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
    {"PNDMScheduler", read_pndm},
    {"IPNDMScheduler", read_ipndm},
    {"UniPCMultistepScheduler", read_unipc},
    {"SASolverScheduler", read_sa_solver},
    {"DPMSolverMultistepScheduler", read_dpm_multistep},
    {"DPMSolverMultistepInverseScheduler", read_dpm_inverse},
    {"DPMSolverSinglestepScheduler", read_dpm_singlestep},
    {"DEISMultistepScheduler", read_deis},
    {"EDMDPMSolverMultistepScheduler", read_edm_dpm},
    {"CosineDPMSolverMultistepScheduler", read_cosine_dpm},
    {"EulerDiscreteScheduler", read_euler},
    {"EulerAncestralDiscreteScheduler", read_euler_ancestral},
    {"HeunDiscreteScheduler", read_heun},
    {"LMSDiscreteScheduler", read_lms},
    {"KDPM2DiscreteScheduler", read_kdpm2},
    {"KDPM2AncestralDiscreteScheduler", read_kdpm2_ancestral},
    {"DPMSolverSDEScheduler", read_dpm_solver_sde},
    {"EDMEulerScheduler", read_edm_euler},
    {"FlowMatchEulerDiscreteScheduler", read_flow_euler},
    {"FlowMatchHeunDiscreteScheduler", read_flow_heun},
    {"FlowMatchLCMScheduler", read_flow_lcm},
    {"FlowMapEulerDiscreteScheduler", read_flow_map},
    {"LTXEulerAncestralRFScheduler", read_ltx_ancestral},
    {"LCMScheduler", read_lcm},
    {"TCDScheduler", read_tcd},
    {"CMStochasticIterativeScheduler", read_consistency},
    {"ConsistencyDecoderScheduler", read_consistency_decoder},
    {"SCMScheduler", read_scm},
    {"UnCLIPScheduler", read_unclip},
    {"DDPMWuerstchenScheduler", read_wuerstchen},
    {"CogVideoXDDIMScheduler", read_cogvideox_ddim},
    {"CogVideoXDPMScheduler", read_cogvideox_dpm},
    {"ScoreSdeVeScheduler", read_ve_sde},
    {"ScoreSdeVpScheduler", read_vp_sde},
    {"RePaintScheduler", read_repaint},
    {"MiniMaxH3Scheduler", read_minimax},
};

inline std::vector<std::string_view> class_names() {
  std::vector<std::string_view> names;
  for (const DiffusersClass& known : diffusers_classes) names.push_back(known.name);
  return names;
}

inline const DiffusersClass& diffusers_class(const nlohmann::json& object,
                                             const std::string& load_as) {
  nlohmann::json name = load_as;
  if (load_as.empty()) {
    if (!object.contains("_class_name"))
      fail(
          "_class_name is missing; it must name the scheduler class, such as \"DDIMScheduler\", "
          "unless a class is chosen to read the file (load_as)");
    name = object.at("_class_name");
    if (!name.is_string())
      fail(text("_class_name is ", shown(name),
                "; it must be the name of a scheduler class, such as \"DDIMScheduler\""));
  }
  for (const DiffusersClass& known : diffusers_classes)
    if (name == known.name) return known;
  fail(text(load_as.empty() ? "_class_name" : "the scheduler class", " is ", shown(name), "; ",
            unsupported(name.get_ref<const std::string&>(), class_names())));
}

}  // namespace detail

inline DiffusersConfig load_diffusers_config(const std::filesystem::path& path,
                                             const DiffusersReading& reading = {});

/// The scheduler classes that can be read.
inline std::vector<std::string> diffusers_class_names() {
  std::vector<std::string> names;
  for (const std::string_view name : detail::class_names()) names.emplace_back(name);
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
  DiffusersConfig config =
      read_diffusers_config(changed, {.behaviour = behaviour, .load_as = class_name});
  for (const DiffusersNote& note : notes)  // what the pipeline's index said
    if (note.key == "_class_name") config.notes.push_back(note);
  return config;
}

/// Reads a configuration from the text of its file: JSON, where Infinity, -Infinity and NaN may
/// stand bare, as Python writes them.
inline DiffusersConfig parse_diffusers_config(std::string_view text,
                                              const DiffusersReading& reading = {}) {
  return read_diffusers_config(detail::parse_python_object(text), reading);
}

namespace detail {

inline std::string content_of(const std::filesystem::path& file) {
  constexpr std::uintmax_t largest = 64 << 20;
  std::error_code failed;
  if (std::filesystem::is_directory(file, failed))
    fail(file.string() +
         " is a folder with neither scheduler_config.json nor model_index.json in it");
  if (!std::filesystem::is_regular_file(file, failed))
    fail(text("there is no file ", file.string(),
              "; a diffusers model keeps it as scheduler/scheduler_config.json"));
  if (const auto size = std::filesystem::file_size(file, failed); !failed && size > largest)
    fail(text(file.string(), " has ", size, " bytes; a configuration has at most ", largest));
  std::ifstream stream(file, std::ios::binary);
  std::string content{std::istreambuf_iterator<char>(stream), {}};
  if (stream.bad() || !stream.is_open()) fail("cannot read " + file.string());
  return content;
}

/// The schedulers of a pipeline, in words.
inline std::string listed_schedulers(const nlohmann::json& index) {
  std::string names;
  for (const auto& [key, value] : index.items())
    if (value.is_array() && value.size() == 2 && value[1].is_string() &&
        value[1].get_ref<const std::string&>().ends_with("Scheduler"))
      names += (names.empty() ? "" : ", ") + printable(key);
  if (names.empty()) return "it names no scheduler";
  return "its schedulers are " + printable(names);
}

/// The scheduler class that a pipeline's model_index.json names for a component.
inline std::string indexed_class(const nlohmann::json& index, const std::string& component) {
  const auto entry = index.find(component);
  if (entry == index.end())
    fail(text("there is no component \"", printable(component), "\"; ", listed_schedulers(index)));
  if (!entry->is_array() || entry->size() != 2)
    fail(text(printable(component), " is ", shown(*entry),
              "; it must be a pair of library and class name"));
  const nlohmann::json& name = (*entry)[1];
  if (name.is_null())  // [null, null]: an optional component
    fail(text(printable(component), " is ", shown(*entry), ": the pipeline was saved without it; ",
              listed_schedulers(index)));
  if (!name.is_string() || name.get_ref<const std::string&>().empty())
    fail(text("the class of ", printable(component), " is ", shown(name),
              "; it must be a class name"));
  return std::string(without_flax(name.get_ref<const std::string&>()));
}

/// A pipeline's folder: the class is the one that its index names, whatever the file says.
inline DiffusersConfig load_indexed(const std::filesystem::path& folder, DiffusersReading reading) {
  const std::filesystem::path index = folder / "model_index.json";
  const std::string content = content_of(index);
  const bool chosen = !reading.load_as.empty();
  std::string named;
  try {
    named = indexed_class(parse_python_object(content), reading.component);
    if (!chosen) reading.load_as = diffusers_class({}, named).name;
  } catch (const Error& error) {
    fail(index.string() + ": " + error.what());
  }
  DiffusersConfig config =
      load_diffusers_config(folder / reading.component / "scheduler_config.json", reading);
  const auto own = config.given.find("_class_name");
  if (!chosen && own != config.given.end() && *own != named)
    config.notes.push_back({DiffusersNote::Kind::overruled, "_class_name",
                            text("_class_name is ", shown(*own), "; model_index.json names ", named,
                                 ", which reads the file")});
  return config;
}

}  // namespace detail

/// Reads a configuration from `path`: a file, a folder that holds scheduler_config.json, or a
/// pipeline's folder or its model_index.json, which names the class of each component. Fails where
/// a file is missing, larger than 64 MB or wrong; messages begin with its path.
inline DiffusersConfig load_diffusers_config(const std::filesystem::path& path,
                                             const DiffusersReading& reading) {
  const auto holds = [&path](const std::filesystem::path& file) {
    std::error_code ignored;
    return std::filesystem::is_regular_file(path / file, ignored);
  };
  if (path.filename() == "model_index.json")
    return detail::load_indexed(path.parent_path(), reading);
  if (holds("model_index.json")) return detail::load_indexed(path, reading);
  const std::filesystem::path part =
      std::filesystem::path(reading.component) / "scheduler_config.json";
  for (const std::filesystem::path& file : {std::filesystem::path("scheduler_config.json"), part})
    if (holds(file)) return load_diffusers_config(path / file, reading);
  const std::string content = detail::content_of(path);
  try {
    return parse_diffusers_config(content, reading);
  } catch (const Error& error) {
    fail(path.string() + ": " + error.what());
  }
}

namespace detail {

/// A value as Python's json module writes it: infinities and NaN stand bare.
inline std::string python_text(const nlohmann::json& value) {
  if (value.is_number_float() && !is_finite(value.get<double>()))
    return is_nan(value.get<double>()) ? "NaN" : value.get<double>() < 0 ? "-Infinity" : "Infinity";
  if (!value.is_array()) return value.dump();
  std::string list;
  for (const nlohmann::json& entry : value) list += (list.empty() ? "" : ", ") + python_text(entry);
  return "[" + list + "]";
}

}  // namespace detail

/// The configuration as the text of a scheduler_config.json: every key that its class reads, with
/// the value in use. Read again, it gives the same plans. Infinities stand bare, as Python writes
/// and reads them.
inline std::string to_scheduler_config(const DiffusersConfig& config) {
  std::string lines;
  for (const auto& [key, value] : config.resolved.items())
    lines += detail::text(lines.empty() ? "" : ",\n", "  ", nlohmann::json(key).dump(), ": ",
                          detail::python_text(value));
  return "{\n" + lines + "\n}\n";
}

}  // namespace diffusion

#endif  // DIFFUSION_INTEROP_DIFFUSERS_CONFIG_HPP
