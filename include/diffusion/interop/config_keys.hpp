#ifndef DIFFUSION_INTEROP_CONFIG_KEYS_HPP
#define DIFFUSION_INTEROP_CONFIG_KEYS_HPP

#include <diffusion/error.hpp>

#include <nlohmann/json.hpp>

#include <cmath>
#include <cstddef>
#include <functional>
#include <limits>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

/// Typed values out of a JSON object that Python wrote, with errors that name key, value and limit.
namespace diffusion {

/// What a configuration says that has no effect or an unexpected one. Plain data: threads may share
/// what none of them writes.
struct DiffusersNote {
  enum class Kind {
    ignored,      ///< the class does not know the key
    overruled,    ///< another key makes this one irrelevant
    questionable  ///< read as it stands, but it may not be what was meant
  };
  Kind kind;
  std::string key;
  std::string text;  ///< one sentence: key, value, what follows
};

namespace detail {

/// JSON as Python writes it, with bare Infinity, -Infinity and NaN where a number may stand: these
/// become strings that start with a NUL, which `python_number` reads.
inline std::string quote_infinities(std::string_view text) {
  std::string quoted;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size();) {
    if (in_string && text[i] == '\\' && i + 1 < text.size()) {
      quoted += text.substr(i, 2);
      i += 2;
      continue;
    }
    if (text[i] == '"') in_string = !in_string;
    std::size_t length = 0;
    if (!in_string)
      for (const std::string_view word : {"-Infinity", "Infinity", "NaN"})
        if (length == 0 && text.substr(i, word.size()) == word) length = word.size();
    if (length > 0) {
      quoted.append("\"\\u0000").append(text.substr(i, length)).append("\"");
      i += length;
    } else {
      quoted += text[i++];
    }
  }
  return quoted;
}

/// Turns a string of `quote_infinities` into the number that it stands for.
inline void restore_infinity(nlohmann::json& value) {
  if (!value.is_string()) return;
  const auto& text = value.get_ref<const std::string&>();
  if (text.empty() || text[0] != '\0') return;
  const double infinity = std::numeric_limits<double>::infinity();
  value = text[1] == '-'   ? -infinity
          : text[1] == 'I' ? infinity
                           : std::numeric_limits<double>::quiet_NaN();
}

/// What JSON says about a text that is none, on one line and not too long: it repeats the text.
inline std::string printable(std::string_view text) {
  constexpr std::size_t longest = 200;
  std::string line(text.substr(0, longest));
  for (char& c : line)
    if (static_cast<unsigned char>(c) < ' ' || c == '\x7f') c = '?';
  return text.size() > longest ? line + " ..." : line;
}

/// The object of a configuration file. Values and the entries of lists may be infinite. Deep
/// nesting is refused, for copies and messages of a JSON value are made by recursion.
inline nlohmann::json parse_python_object(std::string_view text) {
  static constexpr int deepest = 64;
  const auto check_depth = [](int depth, nlohmann::json::parse_event_t, nlohmann::json&) {
    if (depth > deepest)
      fail(detail::text("the scheduler configuration is not JSON with values of at most ", deepest,
                        " levels"));
    return true;
  };
  nlohmann::json object;
  try {
    object = nlohmann::json::parse(quote_infinities(text), check_depth);
  } catch (const nlohmann::json::exception& error) {
    fail(detail::text("the scheduler configuration is not JSON: ", printable(error.what())));
  }
  if (!object.is_object())
    fail(detail::text("the scheduler configuration is a JSON ", object.type_name(),
                      "; it must be an object"));
  for (nlohmann::json& value : object) {
    restore_infinity(value);
    if (value.is_array())
      for (nlohmann::json& entry : value) restore_infinity(entry);
  }
  return object;
}

/// A value as it is shown in messages.
inline std::string shown(const nlohmann::json& value) {
  if (value.is_number_float()) return text(value.get<double>());
  std::string shown = value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  constexpr std::size_t longest = 60;
  if (shown.size() > longest) shown = shown.substr(0, longest) + " ...";
  return shown;
}

/// A name that a configuration may give and what it stands for.
template <class T>
struct Named {
  std::string_view name;
  T value;
};

/// The numbers that a key may have, in words for its message.
struct NumberLimit {
  double low, high;
  std::string_view words;
};

inline constexpr double least_positive = (std::numeric_limits<double>::min)();
inline constexpr double largest_finite = (std::numeric_limits<double>::max)();
inline constexpr NumberLimit inside_unit{least_positive,
                                         1 - std::numeric_limits<double>::epsilon() / 2,
                                         "it must lie strictly between 0 and 1"};
inline constexpr NumberLimit unit{0, 1, "it must be a number in [0, 1]"};
inline constexpr NumberLimit positive{least_positive, largest_finite,
                                      "it must be a positive, finite number"};
inline constexpr NumberLimit at_least_one{1, largest_finite,
                                          "it must be a finite number of at least 1"};

/// Takes typed values out of a configuration, key by key; knows which keys nobody asked for.
class ConfigKeys {
 public:
  ConfigKeys(const nlohmann::json& object, std::string class_name)
      : object_(object), class_name_(std::move(class_name)) {
    resolved_["_class_name"] = class_name_;
    skip_defaults();
  }

  const std::string& class_name() const { return class_name_; }

  /// Whether the key is there with a value other than null.
  bool has(const char* key) const {
    return object_.contains(key) && !object_.at(key).is_null() && !defaults_.contains(key);
  }

  /// Whether the key is there with the value null, which is then resolved: for a key that has a
  /// value of its own otherwise.
  bool is_null(const char* key) {
    const nlohmann::json* value = find(key);
    if (!value || !value->is_null()) return false;
    resolved_[key] = nullptr;
    return true;
  }

  /// null is false, as in Python.
  bool flag(const char* key, bool otherwise) {
    const nlohmann::json* value = find(key);
    if (!value) return resolve(key, otherwise);
    if (value->is_null()) return resolve(key, false);
    if (!value->is_boolean()) reject(key, *value, "it must be true or false");
    return resolve(key, value->get<bool>());
  }

  /// A flag that a configuration may give by an old name, which then is the one that counts.
  bool renamed_flag(const char* key, const char* old_name, bool otherwise) {
    const bool value = flag(key, otherwise);
    asked_.insert(old_name);
    if (!has(old_name)) return value;  // null is as if it were missing
    const bool used = flag(old_name, value);
    resolved_.erase(old_name);
    if (has(key))
      note(DiffusersNote::Kind::overruled, key, text(old_name, ", its old name, is used instead"));
    return resolve(key, used);
  }

  double number(const char* key, double otherwise, const NumberLimit& limit) {
    const nlohmann::json* value = find(key);
    if (!value) return resolve(key, otherwise);
    const double number = value->is_number() ? value->get<double>() : limit.low;
    if (!value->is_number() || !(number >= limit.low && number <= limit.high))
      reject(key, *value, limit.words);
    return resolve(key, number);
  }

  /// A number, or nothing where the key is missing or null.
  std::optional<double> optional_number(const char* key, const NumberLimit& limit) {
    if (has(key)) return number(key, limit.low, limit);
    asked_.insert(key);
    resolved_[key] = nullptr;
    return std::nullopt;
  }

  int integer(const char* key, int otherwise, int low, int high) {
    const nlohmann::json* value = find(key);
    if (!value) return resolve(key, otherwise);
    const std::string limit = text("it must be a whole number in [", low, ", ", high, "]");
    if (!value->is_number()) reject(key, *value, limit);
    const double number = value->get<double>();
    if (!(number >= low && number <= high && number == std::floor(number)))
      reject(key, *value, limit);
    return resolve(key, static_cast<int>(number));
  }

  template <class T>
  T choice(const char* key, std::string_view otherwise, std::span<const Named<T>> choices) {
    const nlohmann::json* value = find(key);
    for (const Named<T>& choice : choices)
      if (value ? *value == choice.name : otherwise == choice.name) {
        resolved_[key] = choice.name;
        return choice.value;
      }
    std::string names;
    for (const Named<T>& choice : choices)
      names += (names.empty() ? "\"" : ", \"") + std::string(choice.name) + "\"";
    reject(key, value ? *value : nlohmann::json(otherwise), "it must be one of " + names);
  }

  /// One of the choices, or nothing where the key is missing or null.
  template <class T>
  std::optional<T> optional_choice(const char* key, std::span<const Named<T>> choices) {
    if (has(key)) return choice<T>(key, "", choices);
    asked_.insert(key);
    resolved_[key] = nullptr;
    return std::nullopt;
  }

  /// Variances in (0, 1), of which the last may be 1; empty where the key is missing or null.
  std::vector<double> betas(const char* key, std::size_t longest) {
    const nlohmann::json* value = find(key);
    resolved_[key] = value ? *value : nlohmann::json();
    if (!value || value->is_null()) return {};
    if (!value->is_array() || value->empty() || value->size() > longest)
      reject(key, *value, text("it must be null or a list of 1 to ", longest, " numbers"));
    std::vector<double> numbers;
    for (const nlohmann::json& entry : *value) {
      const bool last = numbers.size() + 1 == value->size();
      const double beta = entry.is_number() ? entry.get<double>() : 0;
      if (!(beta > 0 && (beta < 1 || (last && beta == 1))))
        reject(text(key, "[", numbers.size(), "]"), entry,
               last ? "it must be above 0 and at most 1" : "it must lie strictly between 0 and 1");
      numbers.push_back(beta);
    }
    return numbers;
  }

  /// A list of numbers, each within the limit; empty where the key is missing or null, which is
  /// then resolved as `otherwise`.
  std::vector<double> numbers(const char* key, const NumberLimit& limit,
                              const nlohmann::json& otherwise, std::size_t longest) {
    const nlohmann::json* value = find(key);
    resolved_[key] = has(key) ? *value : otherwise;
    if (!has(key)) return {};
    if (!value->is_array() || value->size() > longest)
      reject(key, *value, text("it must be null or a list of at most ", longest, " numbers"));
    std::vector<double> numbers;
    for (const nlohmann::json& entry : *value) {
      const double number = entry.is_number() ? entry.get<double>() : limit.low;
      if (!entry.is_number() || !(number >= limit.low && number <= limit.high))
        reject(text(key, "[", numbers.size(), "]"), entry, limit.words);
      numbers.push_back(number);
    }
    return numbers;
  }

  void note(DiffusersNote::Kind kind, const char* key, const std::string& consequence) {
    const std::string value = object_.contains(key) ? shown(object_.at(key)) : "missing";
    notes_.push_back({kind, key, text(key, " is ", value, "; ", consequence)});
  }

  /// The class and every key that was asked for, with the value that was given back.
  const nlohmann::json& resolved() const { return resolved_; }

  /// All notes, with one for each key that nobody asked for. Keys with a leading underscore are
  /// the file's own affairs.
  std::vector<DiffusersNote> notes() const {
    std::vector<DiffusersNote> all = notes_;
    for (const auto& [key, value] : object_.items())
      if (!asked_.contains(key) && !key.starts_with('_'))
        all.push_back({DiffusersNote::Kind::ignored, key,
                       text(key, " is ", shown(value), "; ", class_name_, " does not read it")});
    return all;
  }

 private:
  const nlohmann::json* find(const char* key) {
    asked_.insert(key);
    return object_.contains(key) && !defaults_.contains(key) ? &object_.at(key) : nullptr;
  }

  template <class T>
  T resolve(const char* key, T value) {
    resolved_[key] = value;
    return value;
  }

  [[noreturn]] void reject(const std::string& key, const nlohmann::json& value,
                           std::string_view limit) const {
    fail(text(class_name_, ": ", key, " is ", shown(value), "; ", limit));
  }

  /// A configuration that was taken from a live scheduler lists the keys whose values are only its
  /// class's defaults; another class puts its own in their place.
  void skip_defaults() {
    const auto list = object_.find("_use_default_values");
    if (list == object_.end()) return;
    if (!list->is_array()) reject("_use_default_values", *list, "it must be a list of keys");
    for (const nlohmann::json& key : *list) {
      if (!key.is_string()) reject("_use_default_values", *list, "it must be a list of keys");
      defaults_.insert(key.get<std::string>());
    }
  }

  const nlohmann::json& object_;
  std::string class_name_;
  std::set<std::string, std::less<>> asked_, defaults_;
  std::vector<DiffusersNote> notes_;
  nlohmann::json resolved_ = nlohmann::json::object();
};

}  // namespace detail
}  // namespace diffusion

#endif  // DIFFUSION_INTEROP_CONFIG_KEYS_HPP
