#ifndef DIFFUSION_INTEROP_PLAN_JSON_HPP
#define DIFFUSION_INTEROP_PLAN_JSON_HPP

#include <diffusion/error.hpp>
#include <diffusion/interop/config_keys.hpp>
#include <diffusion/plan/export.hpp>
#include <diffusion/plan/fields.hpp>
#include <diffusion/plan/plan.hpp>

#include <nlohmann/json.hpp>

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

/// Reads plans that `to_json` wrote, or another program in the same form. Needs nlohmann/json.
namespace diffusion {

namespace detail {

inline constexpr std::size_t most_stages = 1'000'000;
inline constexpr std::int64_t most_draws = 1'000'000'000;  // of a whole plan

[[noreturn]] inline void reject_value(const std::string& key, const nlohmann::json& value,
                                      std::string_view limit) {
  fail(text("the plan: ", key, " is ", shown(value), "; ", limit));
}

/// Reads values into the fields of a plan; `key` is where they stand, for messages. Holds nothing;
/// safe to share between threads.
struct JsonReader {
  void operator()(const nlohmann::json& value, const std::string& key, bool& to) const {
    if (!value.is_boolean()) reject_value(key, value, "it must be true or false");
    to = value.get<bool>();
  }
  void operator()(const nlohmann::json& value, const std::string& key, double& to) const {
    if (!value.is_number()) reject_value(key, value, "it must be a number");
    to = value.get<double>();
    if (!is_finite(to)) reject_value(key, value, "it must be finite");
  }
  void operator()(const nlohmann::json& value, const std::string& key, std::int32_t& to) const {
    constexpr std::int32_t largest = (std::numeric_limits<std::int32_t>::max)() - 1;
    const double number = value.is_number() ? value.get<double>() : -2;
    if (!(number >= -1 && number <= largest && number == std::floor(number)))
      reject_value(key, value, text("it must be a whole number in [-1, ", largest, "]"));
    to = static_cast<std::int32_t>(number);
  }
  template <ListedEnum E>
  void operator()(const nlohmann::json& value, const std::string& key, E& to) const {
    std::string names;
    for (std::size_t i = 0; i < EnumNames<E>::names.size(); ++i) {
      if (value == EnumNames<E>::names[i]) {
        to = static_cast<E>(i);
        return;
      }
      names += (names.empty() ? "\"" : ", \"") + std::string(EnumNames<E>::names[i]) + "\"";
    }
    reject_value(key, value, "it must be one of " + names);
  }
  template <std::size_t N>
  void operator()(const nlohmann::json& value, const std::string& key,
                  std::array<Term, N>& to) const {
    if (!value.is_array() || value.size() > N)
      reject_value(key, value, text("it must be a list of at most ", N, " terms"));
    for (std::size_t i = 0; i < value.size(); ++i) (*this)(value[i], text(key, "[", i, "]"), to[i]);
  }
  /// Fields that are missing stay as they are; keys that are no field are refused.
  template <Listed T>
  void operator()(const nlohmann::json& value, const std::string& key, T& to) const {
    if (!value.is_object()) reject_value(key, value, "it must be an object");
    std::size_t known = 0;
    Fields<T>::visit(to, [&](const char* name, auto& field) {
      const auto found = value.find(name);
      if (found == value.end()) return;
      ++known;
      (*this)(*found, key + "." + name, field);
    });
    if (known == value.size()) return;
    for (const auto& [name, member] : value.items()) {
      bool is_field = false;
      Fields<T>::visit(
          to, [&, &own = name](const char* field, auto&) { is_field = is_field || own == field; });
      if (!is_field) reject_value(key + "." + printable(name), member, "a plan has no such field");
    }
  }
};

/// What a SamplingPlan does not check, since samplers cannot get it wrong.
inline void check_read_stage(const Stage& stage, const std::string& key, std::int32_t slots) {
  const auto require = [&](bool good, const char* field, double value, const std::string& limit) {
    if (!good) fail(text("the plan: ", key, ".", field, " is ", value, "; ", limit));
  };
  for (const auto& [name, knot] : {std::pair{"at", stage.at}, std::pair{"to", stage.to}}) {
    const std::string field(name);
    require(knot.alpha >= 0, (field + ".alpha").c_str(), knot.alpha, "it must be at least 0");
    require(knot.sigma >= 0, (field + ".sigma").c_str(), knot.sigma, "it must be at least 0");
    require(knot.alpha > 0 || knot.sigma > 0, (field + ".sigma").c_str(), knot.sigma,
            "it must be above 0 where alpha is 0");
  }
  require(stage.step >= 0, "step", stage.step, "it must be at least 0");
  require(stage.draws >= 0, "draws", stage.draws, "it must be at least 0");
  require(stage.keep < slots, "keep", stage.keep, text("the plan has ", slots, " slots"));
  require(stage.keep < 0 || stage.ask, "keep", stage.keep,
          "it must be -1 where the network is not asked");
}

/// Slots back to the numbers of estimates, from which a SamplingPlan assigns slots anew.
class SlotReader {
 public:
  explicit SlotReader(std::int32_t slots) : holds_(static_cast<std::size_t>(slots), -1) {}

  void number(Stage& stage, const std::string& key) {
    for (std::size_t i = 0; i < stage.history.size(); ++i) {
      std::int32_t& source = stage.history[i].source;
      if (source < 0) continue;
      const auto slot = static_cast<std::size_t>(source);
      const std::string field = text(key, ".history[", i, "].source");
      if (slot >= holds_.size())
        fail(text("the plan: ", field, " is ", source, "; the plan has ", holds_.size(), " slots"));
      if (holds_[slot] < 0)
        fail(text("the plan: ", field, " is ", source, "; no earlier stage keeps a value there"));
      source = holds_[slot];
    }
    if (stage.keep >= 0) holds_[static_cast<std::size_t>(stage.keep)] = estimates_;
    if (stage.ask) ++estimates_;
  }

 private:
  std::vector<std::int32_t> holds_;  // which estimate, -1: none yet
  std::int32_t estimates_ = 0;
};

inline nlohmann::json parse_plan_text(std::string_view text_of_plan) {
  static constexpr int deepest = 8;
  const auto check_depth = [](int depth, nlohmann::json::parse_event_t, nlohmann::json&) {
    if (depth > deepest)
      fail(text("the plan is not JSON with values of at most ", deepest, " levels"));
    return true;
  };
  try {
    return nlohmann::json::parse(text_of_plan, check_depth);
  } catch (const nlohmann::json::exception& error) {
    fail(text("the plan is not JSON: ", printable(error.what())));
  }
}

}  // namespace detail

/// The plan in a text that `to_json` wrote: equal to the one that was written, bit for bit, where
/// that was a SamplingPlan. Fields that are missing have their defaults. Everything else is
/// refused, with key, value and limit: other keys, values of another type, numbers that are not
/// finite, levels below 0, slots that are not there or hold nothing yet, more than a million
/// stages, and whatever a SamplingPlan refuses.
inline SamplingPlan plan_from_json(std::string_view text_of_plan) {
  using detail::reject_value;
  const nlohmann::json object = detail::parse_plan_text(text_of_plan);
  if (!object.is_object()) reject_value("the whole", object, "it must be an object");
  const auto required = [&](const char* key) -> const nlohmann::json& {
    const auto found = object.find(key);
    if (found == object.end()) fail(detail::text("the plan has no key \"", key, "\""));
    return *found;
  };
  if (required("format") != detail::plan_format)
    reject_value("format", object.at("format"),
                 "it must be \"" + std::string(detail::plan_format) + "\"");
  if (required("version") != detail::plan_version)
    reject_value("version", object.at("version"),
                 detail::text("this reader knows ", detail::plan_version));
  for (const auto& [key, value] : object.items())
    if (key != "format" && key != "version" && key != "traits" && key != "stages")
      reject_value(detail::printable(key), value, "a plan has no such field");

  const nlohmann::json& list = required("stages");
  if (!list.is_array() || list.empty() || list.size() > detail::most_stages)
    reject_value("stages", list,
                 detail::text("it must be a list of 1 to ", detail::most_stages, " stages"));
  const detail::JsonReader read;
  PlanTraits traits;
  read(required("traits"), "traits", traits);
  if (traits.slots < 0 || static_cast<std::size_t>(traits.slots) > list.size())
    fail(detail::text("the plan: traits.slots is ", traits.slots,
                      "; it must be a whole number from 0 to the number of stages, ", list.size()));

  std::vector<Stage> rows;
  rows.reserve(list.size());
  detail::SlotReader slots(traits.slots);
  std::int64_t draws = 0;
  for (const nlohmann::json& value : list) {
    const std::string key = detail::text("stages[", rows.size(), "]");
    Stage stage;
    read(value, key, stage);
    detail::check_read_stage(stage, key, traits.slots);
    draws += stage.draws;
    if (draws > detail::most_draws)
      fail(detail::text("the plan: ", key, ".draws is ", stage.draws, "; all stages together make ",
                        "at most ", detail::most_draws, " draws"));
    slots.number(stage, key);
    rows.push_back(stage);
  }
  return SamplingPlan(std::move(rows), traits);
}

/// Reads a plan from a file. Messages begin with its path.
inline SamplingPlan load_plan(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  const std::string content{std::istreambuf_iterator<char>(stream),
                            std::istreambuf_iterator<char>()};
  if (!stream.is_open() || stream.bad())
    fail(file.string() + " cannot be read; it must be a plan as to_json writes it");
  try {
    return plan_from_json(content);
  } catch (const Error& error) {
    fail(file.string() + ": " + error.what());
  }
}

}  // namespace diffusion

#endif  // DIFFUSION_INTEROP_PLAN_JSON_HPP
