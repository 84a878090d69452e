#ifndef DIFFUSION_PLAN_EXPORT_HPP
#define DIFFUSION_PLAN_EXPORT_HPP

#include <diffusion/error.hpp>
#include <diffusion/plan/fields.hpp>
#include <diffusion/plan/plan.hpp>

#include <array>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

/// Plans as text, exact to the last bit: JSON for other programs, C++ for a constexpr table that is
/// compiled in. `interop/plan_json.hpp` reads the JSON.
namespace diffusion {

namespace detail {

inline constexpr std::string_view plan_format = "diffusion plan";
inline constexpr int plan_version = 1;

/// The shortest decimal that is read back as the same number, with a point or an exponent, in every
/// locale. Fails for what JSON and C++ have no number for.
inline std::string exact_number(const double& value) {
  if (!is_finite(value)) fail(text("the plan holds ", value, "; only finite numbers are exported"));
  std::array<char, 32> buffer{};
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value).ptr;
  std::string number(buffer.data(), end);
  if (number.find_first_of(".e") == std::string::npos) number += ".0";
  return number;
}

template <ListedEnum E>
std::string_view enumerator(E value) {
  const auto number = static_cast<std::size_t>(value);
  if (number >= EnumNames<E>::names.size())
    fail(text("the plan holds number ", number, " of ", EnumNames<E>::type, "; it has ",
              EnumNames<E>::names.size()));
  return EnumNames<E>::names[number];
}

inline bool is_default(const Term& term) {
  return term.source == Term{}.source && magnitude_bits(term.weight) == 0 &&
         !std::signbit(term.weight);
}

/// How many terms have to be written: what is behind them is as a new Term is.
template <std::size_t N>
std::size_t written_terms(const std::array<Term, N>& terms) {
  std::size_t count = N;
  while (count > 0 && is_default(terms[count - 1])) --count;
  return count;
}

/// The terms that have to be written, each by `text_of`, with commas between.
template <std::size_t N, class TextOf>
std::string listed_terms(const std::array<Term, N>& terms, const TextOf& text_of) {
  std::string list;
  for (std::size_t i = 0; i < written_terms(terms); ++i)
    list += (i == 0 ? "" : ", ") + text_of(terms[i]);
  return list;
}

/// Values as JSON, every field by name. Holds nothing; safe to share between threads.
struct JsonText {
  std::string operator()(bool value) const { return value ? "true" : "false"; }
  std::string operator()(const double& value) const { return exact_number(value); }
  std::string operator()(std::int32_t value) const { return std::to_string(value); }
  template <ListedEnum E>
  std::string operator()(E value) const {
    return "\"" + std::string(enumerator(value)) + "\"";
  }
  template <std::size_t N>
  std::string operator()(const std::array<Term, N>& terms) const {
    return "[" + listed_terms(terms, *this) + "]";
  }
  template <Listed T>
  std::string operator()(const T& object) const {
    std::string fields;
    Fields<T>::visit(object, [&](const char* name, const auto& field) {
      fields += (fields.empty() ? "\"" : ", \"") + std::string(name) + "\": " + (*this)(field);
    });
    return "{" + fields + "}";
  }
};

/// Values as C++ initialisers; fields that are as in a new object are left out. Holds nothing; safe
/// to share between threads.
struct CppText {
  std::string operator()(bool value) const { return value ? "true" : "false"; }
  std::string operator()(const double& value) const { return exact_number(value); }
  std::string operator()(std::int32_t value) const { return std::to_string(value); }
  template <ListedEnum E>
  std::string operator()(E value) const {
    return std::string(EnumNames<E>::type) + "::" + std::string(enumerator(value));
  }
  template <std::size_t N>
  std::string operator()(const std::array<Term, N>& terms) const {
    return "{{" + listed_terms(terms, *this) + "}}";
  }
  template <Listed T>
  std::string operator()(const T& object) const {
    std::vector<std::string> defaults;
    const T made{};
    Fields<T>::visit(made,
                     [&](const char*, const auto& field) { defaults.push_back((*this)(field)); });
    std::string fields;
    std::size_t i = 0;
    Fields<T>::visit(object, [&](const char* name, const auto& field) {
      const std::string value = (*this)(field);
      if (value != defaults[i++])
        fields += (fields.empty() ? "." : ", .") + std::string(name) + " = " + value;
    });
    return "{" + fields + "}";
  }
};

/// Fails unless a name can stand in C++: letters, digits and single underscores, a letter first.
inline void require_identifier(std::string_view name) {
  const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  bool good = !name.empty() && name.size() <= 200 && letter(name[0]);
  for (const char c : name) good = good && (letter(c) || (c >= '0' && c <= '9') || c == '_');
  if (!good || name.find("__") != std::string_view::npos)
    fail(text("the name of the exported plan is \"", name.substr(0, 200),
              "\"; it must be letters, digits and single underscores, a letter first"));
}

}  // namespace detail

/// The plan as JSON, one line a stage, every field of Stage and PlanTraits under its own name,
/// enumerators as words. Numbers are the shortest decimals that read back as the same bits. History
/// sources and `keep` are slots, as in the plan; terms behind the last that is used are left out.
/// Fails for a number that is not finite.
inline std::string to_json(const PlanView& plan) {
  const detail::JsonText json;
  std::string lines;
  for (const Stage& stage : plan.stages) lines += (lines.empty() ? "" : ",\n") + json(stage);
  return "{\"format\": \"" + std::string(detail::plan_format) +
         "\", \"version\": " + std::to_string(detail::plan_version) +
         ",\n\"traits\": " + json(plan.traits) + ",\n\"stages\": [\n" + lines + "\n]}\n";
}

/// The same for a plan.
inline std::string to_json(const SamplingPlan& plan) { return to_json(plan.view()); }

/// The plan as a C++20 header: `NAME_stages`, a constexpr array, `NAME_traits`, and
/// `constexpr diffusion::PlanView NAME()`, which is sampled like any plan and needs no memory and
/// no computation at run time. `name` is letters, digits and single underscores, a letter first,
/// and no keyword. Fails for another, for a plan without stages, and for a number that is not
/// finite.
inline std::string to_constexpr(const PlanView& plan, std::string_view name) {
  detail::require_identifier(name);
  if (plan.stages.empty()) fail("a plan has 0 stages; it needs at least 1");
  const detail::CppText cpp;
  const std::string own(name), count = std::to_string(plan.stages.size());
  const std::string guard = "DIFFUSION_PLAN_" + own + "_HPP";
  std::string source = "// Written by diffusion::to_constexpr: stages " + count +
                       ", network calls " + std::to_string(plan.network_calls()) +
                       ", draws of noise " + std::to_string(plan.draws()) + ".\n#ifndef " + guard +
                       "\n#define " + guard +
                       "\n\n#include <diffusion/plan/plan.hpp>\n\n#include <array>\n\n"
                       "inline constexpr std::array<diffusion::Stage, " +
                       count + "> " + own + "_stages{{\n";
  for (const Stage& stage : plan.stages) source += "    " + cpp(stage) + ",\n";
  return source + "}};\n\ninline constexpr diffusion::PlanTraits " + own + "_traits" +
         cpp(plan.traits) + ";\n\nconstexpr diffusion::PlanView " + own + "() { return {" + own +
         "_stages, " + own + "_traits}; }\n\n#endif  // " + guard + "\n";
}

/// The same for a plan.
inline std::string to_constexpr(const SamplingPlan& plan, std::string_view name) {
  return to_constexpr(plan.view(), name);
}

}  // namespace diffusion

#endif  // DIFFUSION_PLAN_EXPORT_HPP
