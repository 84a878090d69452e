#ifndef DIFFUSION_PLAN_FIELDS_HPP
#define DIFFUSION_PLAN_FIELDS_HPP

#include <diffusion/plan/plan.hpp>
#include <diffusion/plan/stage.hpp>
#include <diffusion/schedule/knot.hpp>

#include <array>
#include <string_view>

/// The fields of a plan, by name: the one list from which plans are written and read. A new field
/// of a struct is one more line here; the test of the exports counts bytes and fails without it.
namespace diffusion::detail {

/// Fields<T>::visit(object, f) calls f(name, field) for every field, in the order of declaration.
template <class T>
struct Fields {};

template <>
struct Fields<Knot> {
  template <class Object, class F>
  static constexpr void visit(Object& o, F&& f) {
    f("t", o.t);
    f("alpha", o.alpha);
    f("sigma", o.sigma);
  }
};

template <>
struct Fields<Term> {
  template <class Object, class F>
  static constexpr void visit(Object& o, F&& f) {
    f("source", o.source);
    f("weight", o.weight);
  }
};

template <>
struct Fields<NoiseScale> {
  template <class Object, class F>
  static constexpr void visit(Object& o, F&& f) {
    f("kind", o.kind);
    f("offset", o.offset);
    f("slope", o.slope);
  }
};

template <>
struct Fields<Stage> {
  template <class Object, class F>
  static constexpr void visit(Object& o, F&& f) {
    f("ask", o.ask);
    f("input_scale", o.input_scale);
    f("at", o.at);
    f("to", o.to);
    f("x", o.x);
    f("x0", o.x0);
    f("eps", o.eps);
    f("raw", o.raw);
    f("saved", o.saved);
    f("save", o.save);
    f("history", o.history);
    f("keep", o.keep);
    f("noise", o.noise);
    f("draws", o.draws);
    f("noise_scale", o.noise_scale);
    f("langevin_snr", o.langevin_snr);
    f("step", o.step);
  }
};

template <>
struct Fields<Clipping> {
  template <class Object, class F>
  static constexpr void visit(Object& o, F&& f) {
    f("kind", o.kind);
    f("limit", o.limit);
    f("ratio", o.ratio);
    f("maximum", o.maximum);
  }
};

template <>
struct Fields<PlanTraits> {
  template <class Object, class F>
  static constexpr void visit(Object& o, F&& f) {
    f("basis", o.basis);
    f("epsilon_rule", o.epsilon_rule);
    f("clipping", o.clipping);
    f("initial_scale", o.initial_scale);
    f("slots", o.slots);
  }
};

/// A struct whose fields are listed.
template <class T>
concept Listed = requires(T& object) {
  Fields<T>::visit(object, [](const char*, auto&) {});
};

/// EnumNames<E>: the enumeration's type in C++ and its enumerators, in order from 0.
template <class E>
struct EnumNames {};

template <>
struct EnumNames<NoiseScale::Kind> {
  static constexpr std::string_view type = "diffusion::NoiseScale::Kind";
  static constexpr std::array<std::string_view, 3> names{"fixed", "exponential", "root"};
};

template <>
struct EnumNames<Clipping::Kind> {
  static constexpr std::string_view type = "diffusion::Clipping::Kind";
  static constexpr std::array<std::string_view, 3> names{"none", "range", "dynamic"};
};

template <>
struct EnumNames<EpsilonRule> {
  static constexpr std::string_view type = "diffusion::EpsilonRule";
  static constexpr std::array<std::string_view, 2> names{"rederived", "raw"};
};

template <>
struct EnumNames<Basis> {
  static constexpr std::string_view type = "diffusion::Basis";
  static constexpr std::array<std::string_view, 3> names{"x0", "eps", "raw"};
};

/// An enumeration whose enumerators are listed.
template <class E>
concept ListedEnum = requires {
  EnumNames<E>::names;
};

}  // namespace diffusion::detail

#endif  // DIFFUSION_PLAN_FIELDS_HPP
