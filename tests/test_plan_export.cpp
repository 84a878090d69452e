// Plans as text: JSON that is read back bit for bit, what the reader refuses, and the C++ text.
// That the C++ compiles and samples the same bits is export_plan/test_compiled_plans.cpp.

#include "catch.hpp"
#include "export_plan/plans.hpp"
#include "support.hpp"

#include <diffusion/interop/plan_json.hpp>
#include <diffusion/noise/philox.hpp>
#include <diffusion/plan/export.hpp>
#include <diffusion/plan/fields.hpp>
#include <diffusion/sampling/sample.hpp>

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

using namespace diffusion;

namespace {

// ---- the list of fields ------------------------------------------------------------------------

/// The size of a struct of the listed fields, in their order: less than that of the real one if one
/// is missing (unless it fits into the gaps between the others).
template <class T>
constexpr std::size_t listed_size() {
  std::size_t size = 0;
  T object{};
  detail::Fields<T>::visit(object, [&](const char*, auto& field) {
    using Field = std::remove_reference_t<decltype(field)>;
    size = (size + alignof(Field) - 1) / alignof(Field) * alignof(Field) + sizeof(Field);
  });
  return (size + alignof(T) - 1) / alignof(T) * alignof(T);
}
static_assert(listed_size<Knot>() == sizeof(Knot), "plan/fields.hpp lacks a field of Knot");
static_assert(listed_size<Term>() == sizeof(Term), "plan/fields.hpp lacks a field of Term");
static_assert(listed_size<NoiseScale>() == sizeof(NoiseScale),
              "plan/fields.hpp lacks a field of NoiseScale");
static_assert(listed_size<Stage>() == sizeof(Stage), "plan/fields.hpp lacks a field of Stage");
static_assert(listed_size<Clipping>() == sizeof(Clipping),
              "plan/fields.hpp lacks a field of Clipping");
static_assert(listed_size<PlanTraits>() == sizeof(PlanTraits),
              "plan/fields.hpp lacks a field of PlanTraits");

/// All numbers of an object as bits: == takes -0 for 0.
template <class T>
void append_bits(const T& value, std::vector<std::uint64_t>& bits) {
  if constexpr (detail::Listed<T>)
    detail::Fields<T>::visit(value,
                             [&](const char*, const auto& field) { append_bits(field, bits); });
  else if constexpr (std::is_same_v<T, double>)
    bits.push_back(std::bit_cast<std::uint64_t>(value));
  else if constexpr (std::is_arithmetic_v<T> || std::is_enum_v<T>)
    bits.push_back(static_cast<std::uint64_t>(value));
  else
    for (const Term& term : value) append_bits(term, bits);
}
std::vector<std::uint64_t> bits_of(const PlanView& plan) {
  std::vector<std::uint64_t> bits;
  append_bits(plan.traits, bits);
  for (const Stage& stage : plan.stages) append_bits(stage, bits);
  return bits;
}

void check_round_trip(const SamplingPlan& plan) {
  const SamplingPlan back = plan_from_json(to_json(plan));
  CHECK(back == plan);
  CHECK(bits_of(back) == bits_of(plan));
  CHECK(to_json(back) == to_json(plan));
}

std::string message_of(const std::string& json) {
  try {
    plan_from_json(json);
  } catch (const Error& error) {
    return error.what();
  }
  return "it was read";
}

/// A plan of one stage with this text for it.
std::string one_stage(const std::string& stage, const std::string& traits = "{}") {
  return R"({"format": "diffusion plan", "version": 1, "traits": )" + traits + R"(, "stages": [)" +
         stage + "]}";
}

}  // namespace

// ---- JSON --------------------------------------------------------------------------------------

TEST_CASE("Plans go out as JSON and come back bit for bit") {
  SECTION("DDIM") { check_round_trip(plans::ddim()); }
  SECTION("DDPM") { check_round_trip(plans::ddpm()); }
  SECTION("learned variance") { check_round_trip(plans::ddpm_learned()); }
  SECTION("multistep") { check_round_trip(plans::multistep()); }
  SECTION("dynamic clipping") {
    check_round_trip(
        DdimSampler{VpCosine(), {.steps = 3, .clipping = Clipping::dynamic(0.9, 1.7)}}.plan());
  }
}

TEST_CASE("Plans with everything that a stage has come back") {
  support::Random random(3);
  for (int trial = 0; trial < 60; ++trial) {
    const SamplingPlan plan(
        support::random_rows(random, {.stages = 1 + trial % 12,
                                      .learned_variance = trial % 3 == 0,
                                      .noise = trial % 2 == 0}),
        {.basis = trial % 5 == 0 ? Basis::raw : Basis::x0, .initial_scale = 1.0 / 3});
    check_round_trip(plan);
  }
}

TEST_CASE("Numbers are exact") {
  Stage row;
  row.at = {-0.0, 0.1, 5e-324};
  row.to = {1e300, 1.0 / 3, std::nextafter(1.0, 2.0)};
  row.x = -0.0;
  row.x0 = 123456789012345680.0;
  row.eps = std::numeric_limits<double>::max();
  row.raw = std::numeric_limits<double>::min();
  check_round_trip(SamplingPlan({row}, {}));
  support::Random random(11);
  for (int trial = 0; trial < 2000; ++trial) {
    const auto exponent = static_cast<int>(random.uniform(-1070, 1000));
    const double value = std::ldexp(random.uniform(-2, 2), exponent);
    const std::string text = detail::exact_number(value);
    CHECK(std::strtod(text.c_str(), nullptr) == value);
    CHECK(nlohmann::json::parse(text).get<double>() == value);
  }
}

TEST_CASE("A plan that is read samples the same bits") {
  const SamplingPlan plan = plans::ddim();
  const SamplingPlan back = plan_from_json(to_json(plan));
  using Tensor = support::RowMajor<float, 2>;
  const auto network = [](const Tensor& x, double t, Tensor& out) {
    out = x * 0.5f + static_cast<float>(t) * 1e-4f;
  };
  CHECK(support::same_bits(sample<Tensor>(plan, network, {2, 33}, PhiloxNoise{1}),
                           sample<Tensor>(back, network, {2, 33}, PhiloxNoise{1})));
}

TEST_CASE("Fields that are missing have their defaults") {
  const SamplingPlan plan = plan_from_json(one_stage(R"({"x0": 0.5, "ask": true})"));
  Stage row;
  row.x0 = 0.5;
  CHECK(plan == SamplingPlan({row}, {}));
  CHECK(plan_from_json(one_stage(R"({"x": 2, "step": 3.0})"))[0].step == 3);  // 2 and 3.0 will do
}

TEST_CASE("Slots of another allocation mean the same plan") {
  // Three slots where one would do.
  const std::string stages = R"({"eps": 1, "keep": 2},
      {"eps": 1, "history": [{"source": 2, "weight": 0.25}], "keep": 0},
      {"eps": 1, "history": [{"source": 0, "weight": 0.5}]})";
  const SamplingPlan plan = plan_from_json(one_stage(stages, R"({"basis": "eps", "slots": 3})"));
  std::vector<Stage> rows(3);
  for (Stage& row : rows) row.eps = 1;
  rows[1].history[0] = {0, 0.25};
  rows[2].history[0] = {1, 0.5};
  CHECK(plan == SamplingPlan(rows, {.basis = Basis::eps}));
  CHECK(plan.traits().slots == 1);
}

TEST_CASE("Files") {
  const auto file =
      std::filesystem::temp_directory_path() /
      ("diffusion-plan-" + std::to_string(std::hash<std::string>{}(__FILE__)) + ".json");
  std::ofstream(file) << to_json(plans::ddpm());
  CHECK(load_plan(file) == plans::ddpm());
  std::ofstream(file) << "[]";
  CHECK_THROWS_WITH(load_plan(file),
                    contains(file.string() + ": the plan: the whole is []; it must be an object"));
  std::filesystem::remove(file);
  CHECK_THROWS_WITH(load_plan(file), contains(file.string() + " cannot be read"));
}

// ---- hostile JSON ------------------------------------------------------------------------------

TEST_CASE("The reader names key, value and limit") {
  struct Case {
    std::string json, message;
  };
  const std::string deep(100, '[');
  const std::vector<Case> cases{
      {"", "the plan is not JSON"},
      {"{", "the plan is not JSON"},
      {deep, "the plan is not JSON with values of at most 8 levels"},
      {"[1]", "the plan: the whole is [1]; it must be an object"},
      {"{}", "the plan has no key \"format\""},
      {R"({"format": "plan"})", "format is \"plan\"; it must be \"diffusion plan\""},
      {R"({"format": "diffusion plan", "version": 2})", "version is 2; this reader knows 1"},
      {R"({"format": "diffusion plan", "version": 1, "extra": 0})",
       "extra is 0; a plan has no such field"},
      {R"({"format": "diffusion plan", "version": 1})", "the plan has no key \"stages\""},
      {R"({"format": "diffusion plan", "version": 1, "stages": [{}]})",
       "the plan has no key \"traits\""},
      {one_stage(""), "stages is []; it must be a list of 1 to 1000000 stages"},
      {one_stage("1"), "stages[0] is 1; it must be an object"},
      {one_stage(R"({"y": 1})"), "stages[0].y is 1; a plan has no such field"},
      {one_stage(R"({"x": "1"})"), "stages[0].x is \"1\"; it must be a number"},
      {one_stage(R"({"x": null})"), "stages[0].x is null; it must be a number"},
      {one_stage(R"({"x": 1e999})"), "the plan is not JSON"},
      {one_stage(R"({"x": NaN})"), "the plan is not JSON"},
      {one_stage(R"({"ask": 1})"), "stages[0].ask is 1; it must be true or false"},
      {one_stage(R"({"at": [1]})"), "stages[0].at is [1]; it must be an object"},
      {one_stage(R"({"at": {"alpha": -0.5}})"),
       "stages[0].at.alpha is -0.5; it must be at least 0"},
      {one_stage(R"({"to": {"sigma": -1}})"), "stages[0].to.sigma is -1; it must be at least 0"},
      {one_stage(R"({"to": {"alpha": 0, "sigma": 0}})"),
       "stages[0].to.sigma is 0; it must be above 0 where alpha is 0"},
      {one_stage(R"({"step": -1})"), "stages[0].step is -1; it must be at least 0"},
      {one_stage(R"({"step": 1.5})"), "stages[0].step is 1.5; it must be a whole number in [-1, "},
      {one_stage(R"({"step": 2147483647})"), "stages[0].step is 2147483647; it must be a whole"},
      {one_stage(R"({"draws": -1})"), "stages[0].draws is -1; it must be at least 0"},
      {one_stage(R"({"draws": 2000000000})"), "all stages together make at most 1000000000 draws"},
      {one_stage(R"({"draws": 1e30})"), "it must be a whole number in [-1, 2147483646]"},
      {one_stage(R"({"draws": 1, "noise": [{"source": 1, "weight": 1}]})"),
       "stage 0 reads draw 1; 1 have been made"},
      {one_stage(R"({"noise": [{}, {}, {}]})"), "it must be a list of at most 2 terms"},
      {one_stage(R"({"noise": {"source": 0}})"), "it must be a list of at most 2 terms"},
      {one_stage(R"({"history": [{"weight": true}]})"),
       "stages[0].history[0].weight is true; it must be a number"},
      {one_stage(R"({"history": [{"source": 0}]})"),
       "stages[0].history[0].source is 0; the plan has 0 slots"},
      {one_stage(R"({"history": [{"source": 0}]})", R"({"slots": 1})"),
       "stages[0].history[0].source is 0; no earlier stage keeps a value there"},
      {one_stage(R"({"keep": 1})", R"({"slots": 1})"), "stages[0].keep is 1; the plan has 1 slots"},
      {one_stage(R"({"keep": 0, "ask": false})", R"({"slots": 1})"),
       "stages[0].keep is 0; it must be -1 where the network is not asked"},
      {one_stage("{}", R"({"slots": 2147483646})"), "traits.slots is 2147483646; it must be a "},
      {one_stage("{}", R"({"slots": -1})"), "traits.slots is -1; it must be a whole number from 0"},
      {one_stage("{}", R"({"basis": "v"})"),
       "traits.basis is \"v\"; it must be one of \"x0\", \"eps\", \"raw\""},
      {one_stage("{}", R"({"basis": 1})"), "traits.basis is 1; it must be one of"},
      {one_stage("{}", R"({"clipping": {"kind": "range", "limit": 0}})"),
       "Clipping::limit is 0; it must be positive"},
      {one_stage("{}", R"({"initial_scale": -1})"), "PlanTraits::initial_scale is -1"},
      {one_stage(R"({"saved": 1})"), "stage 0 reads the saved state"},
      {one_stage(R"({"ask": false, "x0": 1})"), "stage 0 weighs an estimate but does not ask"},
  };
  for (const Case& c : cases) {
    INFO(c.json.substr(0, 200));
    CHECK_THAT(message_of(c.json), contains(c.message));
  }
}

TEST_CASE("Text that is broken anywhere is read or refused, and nothing else") {
  const std::string good = to_json(plans::multistep());
  support::Random random(5);
  const std::string letters = "0123456789-+.eE\"{}[],: truefalsn\\\x01\xff";
  int refused = 0;
  for (int trial = 0; trial < 1500; ++trial) {
    std::string text = good;
    for (int changes = random.integer(1, 4); changes > 0; --changes) {
      const auto at =
          static_cast<std::size_t>(random.integer(0, static_cast<int>(text.size()) - 1));
      const auto letter =
          static_cast<std::size_t>(random.integer(0, static_cast<int>(letters.size()) - 1));
      if (random.chance(0.3))
        text.erase(at, static_cast<std::size_t>(random.integer(1, 30)));
      else
        text[at] = letters[letter];
    }
    try {
      const SamplingPlan plan = plan_from_json(text);
      CHECK(plan_from_json(to_json(plan)) == plan);
    } catch (const Error&) {
      ++refused;
    }
  }
  CHECK(refused > 500);
}

// ---- C++ ---------------------------------------------------------------------------------------

TEST_CASE("The C++ text holds what differs from a new object, and nothing more") {
  Stage row;
  row.at = {999, 0.25, 1};
  row.x = -0.0;
  row.eps = 2;
  row.history[1] = {-1, 0.5};
  row.noise_scale.kind = NoiseScale::Kind::root;
  CHECK(to_constexpr(SamplingPlan({row}, {.basis = Basis::raw}), "tiny") ==
        "// Written by diffusion::to_constexpr: stages 1, network calls 1, draws of noise 0.\n"
        "#ifndef DIFFUSION_PLAN_tiny_HPP\n"
        "#define DIFFUSION_PLAN_tiny_HPP\n\n"
        "#include <diffusion/plan/plan.hpp>\n\n"
        "#include <array>\n\n"
        "inline constexpr std::array<diffusion::Stage, 1> tiny_stages{{\n"
        "    {.at = {.t = 999.0, .alpha = 0.25, .sigma = 1.0}, .x = -0.0, .eps = 2.0, "
        ".history = {{{}, {.weight = 0.5}}}, "
        ".noise_scale = {.kind = diffusion::NoiseScale::Kind::root}},\n"
        "}};\n\n"
        "inline constexpr diffusion::PlanTraits tiny_traits{.basis = diffusion::Basis::raw};\n\n"
        "constexpr diffusion::PlanView tiny() { return {tiny_stages, tiny_traits}; }\n\n"
        "#endif  // DIFFUSION_PLAN_tiny_HPP\n");
}

TEST_CASE("What cannot be exported is refused") {
  std::vector<Stage> rows(1);
  const SamplingPlan plan(rows, {});
  for (const char* name : {"", "1a", "a-b", "a b", "_a", "a__b", "a\n", "\xc3\xa4"})
    CHECK_THROWS_WITH(to_constexpr(plan, name), contains("it must be letters, digits"));
  CHECK_THROWS_WITH(to_constexpr(PlanView{}, "none"), contains("a plan has 0 stages"));
  rows[0].to.alpha = std::numeric_limits<double>::infinity();
  CHECK_THROWS_WITH(to_json(PlanView{rows, {}}), contains("the plan holds inf"));
  rows[0].to.alpha = std::numeric_limits<double>::quiet_NaN();
  CHECK_THROWS_WITH(to_constexpr(PlanView{rows, {}}, "bad"), contains("the plan holds nan"));
  rows[0] = Stage{};
  CHECK_THROWS_WITH(to_json(PlanView{rows, {.basis = static_cast<Basis>(7)}}),
                    contains("number 7 of diffusion::Basis"));
}
