#ifndef DIFFUSION_INTEROP_DIFFUSERS_GUIDER_HPP
#define DIFFUSION_INTEROP_DIFFUSERS_GUIDER_HPP

#include <diffusion/guidance/classifier_free.hpp>
#include <diffusion/guidance/frequency_decoupled.hpp>
#include <diffusion/guidance/magnitude_aware.hpp>
#include <diffusion/guidance/perturbed.hpp>
#include <diffusion/guidance/projected.hpp>
#include <diffusion/guidance/tangential.hpp>
#include <diffusion/guidance/zero_star.hpp>
#include <diffusion/interop/config_keys.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace diffusion {

/// A rule of guidance chosen at run time. Not thread-safe: some rules remember.
class DiffusersRule {
 public:
  using Any =
      std::variant<ClassifierFreeRule, ZeroStarRule, ProjectedRule, ProjectedMixRule,
                   MagnitudeAwareRule, TangentialRule, PerturbedRule, FrequencyDecoupledRule>;

  DiffusersRule(Any rule) : rule_(std::move(rule)) {}  // NOLINT: every rule is one

  std::size_t branches() const {
    return std::visit([](const auto& rule) { return rule.branches(); }, rule_);
  }
  std::size_t main() const {
    return std::visit([](const auto& rule) { return rule.main(); }, rule_);
  }
  bool asks(std::size_t branch, const Query& query, std::size_t batch) const {
    return std::visit([&](const auto& rule) { return rule.asks(branch, query, batch); }, rule_);
  }
  const GuidanceOptions& options() const {
    return std::visit([](const auto& rule) -> const GuidanceOptions& { return rule.options(); },
                      rule_);
  }
  template <class S>
  void operator()(const BranchPredictions<S>& f, S* out) {
    std::visit([&](auto& rule) { rule(f, out); }, rule_);
  }
  void begin_run() {
    const auto begin = [](auto& rule) {
      if constexpr (requires { rule.begin_run(); }) rule.begin_run();
    };
    std::visit(begin, rule_);
  }

 private:
  Any rule_;
};

/// A guider of diffusers: the `guider_config.json` of a modular pipeline, read as that library
/// reads it. Its rule has two branches (without and with condition: ClassifierFreeGuidance; for
/// AutoGuidance the worse network and the good one) or three (with a perturbed network:
/// PerturbedGuidance), whose networks you bring; which layers are skipped or blurred is their
/// affair. diffusers counts a step for every ask of the network. Plain data: threads may share what
/// none of them writes.
struct DiffusersGuider {
  std::string class_name;
  DiffusersRule rule;
  std::vector<DiffusersNote> notes;  ///< keys without effect
  nlohmann::json resolved;           ///< the class and every key that it reads, defaults filled in
};

namespace detail {

inline constexpr NumberLimit any_number{-largest_finite, largest_finite,
                                        "it must be a finite number"};
inline constexpr NumberLimit from_zero{0, largest_finite,
                                       "it must be a finite number of at least 0"};

/// The keys that the constructor of a guider class takes.
class GuiderKeys {
 public:
  GuiderKeys(const nlohmann::json& object, const std::string& class_name, GuidanceCalls how)
      : calls(how), object_(object), keys_(object, class_name), class_name_(class_name) {
    enabled = keys_.flag("enabled", true);
    convention =
        keys_.flag("use_original_formulation", false) ? ScaleConvention::w : ScaleConvention::g;
  }

  double number(const char* key, double otherwise, const NumberLimit& limit = any_number) {
    return keys_.number(key, otherwise, limit);
  }
  /// The same, where null stands for 0.
  double number_or_null(const char* key, double otherwise) {
    return keys_.is_null(key) ? 0 : keys_.number(key, otherwise, any_number);
  }
  int step(const char* key, int otherwise) {
    return keys_.integer(key, otherwise, (std::numeric_limits<int>::min)(),
                         (std::numeric_limits<int>::max)());
  }
  bool frequency_space() {
    static constexpr Named<bool> spaces[] = {{"data", false}, {"freq", true}};
    return keys_.choice<bool>("guidance_rescale_space", "data", spaces);
  }
  /// Keys about the inside of a network, which is the user's.
  void pass(std::initializer_list<const char*> names) {
    for (const char* name : names) keys_.is_null(name);
  }

  /// A scale so close to the neutral one that the class takes it for that.
  double scale(double value) const {
    const double neutral = convention == ScaleConvention::g ? 1 : 0;
    const double larger = (std::max)(std::abs(value), std::abs(neutral));
    return std::abs(value - neutral) <= 1e-9 * larger ? neutral : value;
  }

  /// What most classes have in common.
  GuidanceOptions common(double scale_otherwise) {
    GuidanceOptions options;
    options.calls = calls;
    options.convention = convention;
    options.scale = scale(number("guidance_scale", scale_otherwise));
    options.rescale = number("guidance_rescale", 0, unit);
    options.interval = interval("start", "stop", 0, 1);
    return options;
  }

  /// Steps from int(start n) to before int(stop n); none where the guider is switched off.
  GuidanceInterval interval(const char* start, const char* stop, double first, double last) {
    const double from = number(start, first, from_limit), to = number(stop, last, unit);
    require_order(start, stop, from, to);
    return enabled ? GuidanceInterval{.start = from, .stop = to}
                   : GuidanceInterval{.start = 0, .stop = 0};
  }
  void require_order(const char* start, const char* stop, double from, double to) const {
    if (to < from)
      fail(text(class_name_, ": ", stop, " is ", to, "; it must be at least ", start, ", ", from));
  }

  /// One number a band: a list of as many, or a number for all of them.
  std::vector<double> by_band(const char* key, std::size_t bands, double otherwise,
                              const NumberLimit& limit) {
    if (!object_.contains(key) || !object_.at(key).is_array()) {
      const double all = keys_.is_null(key) ? otherwise : keys_.number(key, otherwise, limit);
      return std::vector<double>(bands, all);
    }
    const auto list = keys_.numbers(key, limit, nullptr, most_bands);
    if (list.size() != bands)
      fail(text(class_name_, ": ", key, " has ", list.size(), " numbers; guidance_scales has ",
                bands));
    return list;
  }
  std::vector<double> scales(const char* key, std::vector<double> otherwise) {
    if (!keys_.has(key)) {
      keys_.is_null(key);
      return otherwise;
    }
    auto list = keys_.numbers(key, any_number, nullptr, most_bands);
    if (list.empty()) fail(text(class_name_, ": ", key, " has 0 numbers; it needs at least 1"));
    for (double& value : list) value = scale(value);
    return list;
  }

  /// Dimensions as torch counts them, the batch being 0; ours begin behind it.
  std::vector<int> dimensions(const char* key) {
    if (!keys_.has(key)) {
      keys_.is_null(key);
      return {};
    }
    constexpr NumberLimit limit{-16, 16, "it must be a whole number in [-16, 16]"};
    const bool single = !object_.at(key).is_array();
    const auto list = single ? std::vector<double>{number(key, 1, limit)}
                             : keys_.numbers(key, limit, nullptr, 16);
    std::vector<int> dimensions;
    for (const double d : list) {
      if (d == 0 || d != std::floor(d))
        fail(text(class_name_, ": ", key, " has ", d,
                  "; it must name dimensions of a sample: not 0, the batch"));
      dimensions.push_back(static_cast<int>(d > 0 ? d - 1 : d));
    }
    return dimensions;
  }

  const ConfigKeys& keys() const { return keys_; }

  GuidanceCalls calls;
  bool enabled = true;
  ScaleConvention convention = ScaleConvention::g;

  static constexpr NumberLimit from_limit{0, 1 - std::numeric_limits<double>::epsilon() / 2,
                                          "it must be at least 0 and below 1"};

 private:
  static constexpr std::size_t most_bands = 32;
  const nlohmann::json& object_;
  ConfigKeys keys_;
  std::string class_name_;
};

inline DiffusersRule::Any read_cfg(GuiderKeys& keys) {
  return ClassifierFreeRule(keys.common(7.5));
}

inline DiffusersRule::Any read_autoguidance(GuiderKeys& keys) {
  keys.pass({"auto_guidance_layers", "auto_guidance_config", "dropout"});
  return ClassifierFreeRule(keys.common(7.5));
}

inline DiffusersRule::Any read_zero_star(GuiderKeys& keys) {
  GuidanceOptions options = keys.common(7.5);
  const int zero_steps = keys.step("zero_init_steps", 1);
  return ZeroStarRule(std::move(options), keys.enabled ? (std::max)(zero_steps, 0) : 0);
}

inline DiffusersRule::Any read_apg(GuiderKeys& keys) {
  GuidanceOptions options = keys.common(7.5);
  ProjectedOptions projected;
  projected.eta = keys.number("eta", 1);
  projected.limit = (std::max)(0.0, keys.number("adaptive_projected_guidance_rescale", 15));
  projected.momentum = keys.number_or_null("adaptive_projected_guidance_momentum", 0);
  projected.dimensions = keys.dimensions("adaptive_projected_guidance_norm_dim");
  projected.space = GuidanceSpace::prediction;
  return ProjectedRule(std::move(options), std::move(projected));
}

inline DiffusersRule::Any read_apg_mix(GuiderKeys& keys) {
  GuidanceOptions options = keys.common(3.5);
  ProjectedOptions projected;
  projected.eta = keys.number("eta", 0);
  projected.limit = (std::max)(0.0, keys.number("adaptive_projected_guidance_rescale", 10));
  projected.momentum = keys.number_or_null("adaptive_projected_guidance_momentum", -0.5);
  projected.space = GuidanceSpace::prediction;
  const double scale = keys.scale(keys.number("adaptive_projected_guidance_scale", 10));
  return ProjectedMixRule(std::move(options), scale,
                          keys.step("adaptive_projected_guidance_start_step", 5),
                          std::move(projected));
}

inline DiffusersRule::Any read_magnitude_aware(GuiderKeys& keys) {
  GuidanceOptions options = keys.common(10);
  return MagnitudeAwareRule(std::move(options), keys.number("alpha", 8, from_zero));
}

inline DiffusersRule::Any read_tangential(GuiderKeys& keys) {
  return TangentialRule(keys.common(7.5), GuidanceSpace::prediction);
}

/// The three classes with a perturbed network name their keys differently.
inline DiffusersRule::Any read_perturbed(GuiderKeys& keys, const char* scale, const char* start,
                                         const char* stop, double first, double last) {
  GuidanceOptions options = keys.common(7.5);
  PerturbedOptions perturbed;
  perturbed.scale = keys.number(scale, 2.8);
  if (!keys.enabled) perturbed.scale = 0;
  const double from = keys.number(start, first, GuiderKeys::from_limit);
  const double to = keys.number(stop, last, unit);
  keys.require_order(start, stop, from, to);
  perturbed.start = from;
  perturbed.stop = to;
  return PerturbedRule(std::move(options), perturbed);
}
inline DiffusersRule::Any read_skip_layer(GuiderKeys& keys) {
  keys.pass({"skip_layer_guidance_layers", "skip_layer_config"});
  return read_perturbed(keys, "skip_layer_guidance_scale", "skip_layer_guidance_start",
                        "skip_layer_guidance_stop", 0.01, 0.2);
}
inline DiffusersRule::Any read_perturbed_attention(GuiderKeys& keys) {
  keys.pass({"perturbed_guidance_layers", "perturbed_guidance_config"});
  return read_perturbed(keys, "perturbed_guidance_scale", "perturbed_guidance_start",
                        "perturbed_guidance_stop", 0.01, 0.2);
}
inline DiffusersRule::Any read_smoothed_energy(GuiderKeys& keys) {
  keys.pass(
      {"seg_guidance_layers", "seg_guidance_config", "seg_blur_sigma", "seg_blur_threshold_inf"});
  return read_perturbed(keys, "seg_guidance_scale", "seg_guidance_start", "seg_guidance_stop", 0,
                        1);
}

inline DiffusersRule::Any read_frequency_decoupled(GuiderKeys& keys) {
  keys.pass({"upcast_to_double"});
  const auto scales = keys.scales("guidance_scales", {10, 5});
  const std::size_t count = scales.size();
  const auto parallel = keys.by_band("parallel_weights", count, 1, any_number);
  const auto rescale = keys.by_band("guidance_rescale", count, 0, unit);
  const auto start = keys.by_band("start", count, 0, GuiderKeys::from_limit);
  const auto stop = keys.by_band("stop", count, 1, unit);
  const bool in_bands = keys.frequency_space();
  std::vector<FrequencyBand> bands(count);
  for (std::size_t k = 0; k < count; ++k) {
    keys.require_order("start", "stop", start[k], stop[k]);
    bands[k] = {scales[k], parallel[k], in_bands ? rescale[k] : 0, {start[k], stop[k]}};
  }
  GuidanceOptions options;
  options.calls = keys.calls;
  options.convention = keys.convention;
  options.rescale = in_bands ? 0 : rescale[0];
  options.interval = {.start = *std::min_element(start.begin(), start.end()),
                      .stop = *std::max_element(stop.begin(), stop.end())};
  if (!keys.enabled) options.interval = {.start = 0, .stop = 0};
  return FrequencyDecoupledRule(std::move(bands), std::move(options));
}

struct GuiderClass {
  std::string_view name;
  DiffusersRule::Any (*read)(GuiderKeys&);
};
inline constexpr GuiderClass guider_classes[] = {
    {"ClassifierFreeGuidance", read_cfg},
    {"AutoGuidance", read_autoguidance},
    {"ClassifierFreeZeroStarGuidance", read_zero_star},
    {"AdaptiveProjectedGuidance", read_apg},
    {"AdaptiveProjectedMixGuidance", read_apg_mix},
    {"MagnitudeAwareGuidance", read_magnitude_aware},
    {"TangentialClassifierFreeGuidance", read_tangential},
    {"SkipLayerGuidance", read_skip_layer},
    {"PerturbedAttentionGuidance", read_perturbed_attention},
    {"SmoothedEnergyGuidance", read_smoothed_energy},
    {"FrequencyDecoupledGuidance", read_frequency_decoupled},
};

}  // namespace detail

/// Reads a guider's configuration from the object that its file holds. Fails for a class that is
/// not known and for values that the class does not allow; keys that it does not read end up in
/// `notes`. `calls`: how the network is then asked.
inline DiffusersGuider read_diffusers_guider(const nlohmann::json& object,
                                             GuidanceCalls calls = GuidanceCalls::joined) {
  if (!object.is_object())
    fail(detail::text("the guider's configuration is a JSON ", object.type_name(),
                      "; it must be an object"));
  const nlohmann::json name = object.value("_class_name", nlohmann::json());
  std::string names;
  for (const detail::GuiderClass& known : detail::guider_classes) {
    names += (names.empty() ? "\"" : ", \"") + std::string(known.name) + "\"";
    if (name != known.name) continue;
    detail::GuiderKeys keys(object, std::string(known.name), calls);
    DiffusersRule rule = known.read(keys);
    return {std::string(known.name), std::move(rule), keys.keys().notes(), keys.keys().resolved()};
  }
  fail(detail::text("_class_name is ", name.is_null() ? "missing" : detail::shown(name),
                    "; it must be one of ", names));
}

/// The same from the text of the file.
inline DiffusersGuider parse_diffusers_guider(std::string_view text,
                                              GuidanceCalls calls = GuidanceCalls::joined) {
  return read_diffusers_guider(detail::parse_python_object(text), calls);
}

/// The same from a file, or from a folder that holds guider_config.json.
inline DiffusersGuider load_diffusers_guider(const std::filesystem::path& path,
                                             GuidanceCalls calls = GuidanceCalls::joined) {
  std::error_code failed;
  const auto file =
      std::filesystem::is_directory(path, failed) ? path / "guider_config.json" : path;
  std::ifstream stream(file, std::ios::binary);
  if (!stream)
    fail(detail::text("cannot open ", file.string(), "; it must be a guider_config.json"));
  std::ostringstream content;
  content << stream.rdbuf();
  return parse_diffusers_guider(content.str(), calls);
}

}  // namespace diffusion

#endif  // DIFFUSION_INTEROP_DIFFUSERS_GUIDER_HPP
