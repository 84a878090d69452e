#ifndef DIFFUSION_TESTS_GOLDEN_CHECK_DATA_HPP
#define DIFFUSION_TESTS_GOLDEN_CHECK_DATA_HPP

#include <diffusion/interop/diffusers_config.hpp>
#include <diffusion/tensor/state.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <initializer_list>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "report.hpp"

/// Golden data as the library's types. What the files hold is described in golden/README.md.
namespace golden {

using Json = nlohmann::json;

template <class Scalar>
using Tensor = Eigen::Tensor<Scalar, 4, Eigen::RowMajor>;
using Shape = std::array<Eigen::Index, 4>;

/// A number; "nan", "inf" and "-inf" are strings.
inline double number(const Json& value) {
  const double infinity = std::numeric_limits<double>::infinity();
  if (value == "inf") return infinity;
  if (value == "-inf") return -infinity;
  if (value == "nan") return std::numeric_limits<double>::quiet_NaN();
  return value.get<double>();
}

inline Numbers numbers(const Json& list) {
  Numbers numbers;
  numbers.reserve(list.size());
  for (const Json& value : list) numbers.push_back(number(value));
  return numbers;
}

inline std::vector<Numbers> tensors(const Json& list) {
  std::vector<Numbers> tensors;
  for (const Json& tensor : list) tensors.push_back(numbers(tensor));
  return tensors;
}

/// A shape of up to four dimensions; missing ones at the end are 1.
inline Shape shape_of(const Json& list) {
  if (list.empty() || list.size() > 4)
    throw std::runtime_error("a shape has " + std::to_string(list.size()) +
                             " dimensions; 1 to 4 are expected");
  Shape shape{1, 1, 1, 1};
  for (std::size_t i = 0; i < list.size(); ++i) {
    shape[i] = list[i].get<Eigen::Index>();
    if (shape[i] < 1 || shape[i] > 1'000'000)
      throw std::runtime_error("a shape has the extent " + std::to_string(shape[i]));
  }
  return shape;
}

template <class Scalar>
Tensor<Scalar> tensor(const Numbers& values, const Shape& shape) {
  Tensor<Scalar> tensor(shape);
  if (static_cast<std::size_t>(tensor.size()) != values.size())
    throw std::runtime_error("a tensor of shape " + diffusion::shape_text(shape) + " has " +
                             std::to_string(values.size()) + " numbers");
  std::transform(values.begin(), values.end(), tensor.data(),
                 [](double x) { return static_cast<Scalar>(x); });
  return tensor;
}

template <class Scalar>
Numbers numbers(const Tensor<Scalar>& tensor) {
  return Numbers(tensor.data(), tensor.data() + tensor.size());
}

/// How exact a case is: 1e-9 where it was made in double, 1e-5 in single precision.
inline double tolerance_of(const Json& one) {
  return one.value("coefficients", "") == "float32" ? 1e-5 : 1e-9;
}

/// Calls check(Scalar{}) with the precision of the case.
template <class Check>
void in_precision(const Json& one, const Check& check) {
  const Json& precision = one.at("coefficients");
  if (precision == "float32")
    check(float{});
  else if (precision == "float64")
    check(double{});
  else
    throw std::runtime_error("\"coefficients\" is " + precision.dump() +
                             "; it must be float32 or float64");
}

inline void require_supported(const std::string& scheduler) {
  const auto known = diffusion::diffusers_class_names();
  if (std::find(known.begin(), known.end(), scheduler) == known.end()) throw Skip{scheduler};
}

/// A configuration as JSON that can hold no infinity writes it, as the reader wants it.
inline Json with_infinities(Json config) {
  for (Json& value : config)
    if (value == "inf" || value == "-inf" || value == "nan") value = number(value);
  return config;
}

/// The configuration of a case.
inline diffusion::DiffusersConfig config_of(const Json& one) {
  require_supported(one.at("scheduler"));
  return diffusion::read_diffusers_config(with_infinities(one.at("config")),
                                          {.load_as = one.at("scheduler")});
}

/// Fails for keys that are not among those that the caller handles: nothing is passed over.
inline void require_keys(const Json& object, const char* what,
                         std::initializer_list<const char*> handled) {
  for (const auto& [key, value] : object.items())
    if (std::find(handled.begin(), handled.end(), key) == handled.end())
      throw Unhandled(std::string(what) + " has the key \"" + key +
                      "\", which is not handled for this scheduler");
}

/// The run that `set_timesteps` and `step_kwargs` ask for. set_timesteps null: every training
/// timestep.
inline diffusion::DiffusersRun run_of(const Json& one, const diffusion::DiffusersConfig& config) {
  diffusion::DiffusersRun run;
  const Json& set = one.at("set_timesteps");
  if (set.is_null()) {
    for (int t = config.train_timesteps - 1; t >= 0; --t) run.timesteps.push_back(t);
  } else {
    require_keys(
        set, "set_timesteps",
        {"num_inference_steps", "timesteps", "sigmas", "mu", "strength", "original_inference_steps",
         "max_timesteps", "intermediate_timesteps", "jump_length", "jump_n_sample"});
    const auto has = [&](const char* key) { return set.contains(key) && !set.at(key).is_null(); };
    if (has("num_inference_steps")) run.steps = set.at("num_inference_steps");
    if (has("timesteps")) run.timesteps = numbers(set.at("timesteps"));
    if (has("sigmas")) run.sigmas = numbers(set.at("sigmas"));
    if (has("mu")) run.mu = number(set.at("mu"));
    if (has("strength")) run.strength = number(set.at("strength"));
    if (has("original_inference_steps")) run.original_steps = set.at("original_inference_steps");
    run.jump_length = set.value("jump_length", run.jump_length);
    run.jump_n_sample = set.value("jump_n_sample", run.jump_n_sample);
    if (has("max_timesteps")) run.max_timestep = number(set.at("max_timesteps"));
    if (set.contains("intermediate_timesteps"))  // null is not the default
      run.intermediate_timestep =
          has("intermediate_timesteps") ? number(set.at("intermediate_timesteps")) : 0;
  }
  const Json kwargs = one.value("step_kwargs", Json::object());
  require_keys(
      kwargs, "step_kwargs",
      {"eta", "use_clipped_model_output", "s_churn", "s_tmin", "s_tmax", "s_noise", "order"});
  const auto take = [&](const char* key, double& value) {
    if (kwargs.contains(key)) value = number(kwargs.at(key));
  };
  if (kwargs.contains("eta")) run.eta = number(kwargs.at("eta"));
  take("s_churn", run.s_churn);
  take("s_tmin", run.s_tmin);
  take("s_tmax", run.s_tmax);
  take("s_noise", run.s_noise);
  run.order = kwargs.value("order", run.order);
  run.use_clipped_model_output =
      kwargs.value("use_clipped_model_output", run.use_clipped_model_output);
  return run;
}

/// What the network is told at each stage of a plan.
inline Numbers timesteps_of(const diffusion::SamplingPlan& plan) {
  Numbers times;
  for (const diffusion::Stage& stage : plan.stages()) times.push_back(stage.at.t);
  return times;
}

/// The level at which a class's add_noise puts the timestep of a stage; where the network is told
/// the same at several levels, the class goes by the place in the run.
template <class Scalar>
diffusion::Knot noising_level(const diffusion::DiffusersConfig& config,
                              const diffusion::DiffusersRun& run,
                              const diffusion::SamplingPlan& plan, int stage) {
  const diffusion::Knot& at = plan[stage].at;
  const bool several =
      std::any_of(plan.stages().begin(), plan.stages().end(), [&](const diffusion::Stage& other) {
        return other.ask && other.at.t == at.t && !diffusion::same_level(other.at, at);
      });
  if (several && config.method.level) return at;
  return config.level<Scalar>(at.t, run);
}

/// Timesteps of single-precision cases are within 2e-3 (they need not be whole elsewhere); those of
/// double-precision ones are measured like everything else.
inline void compare_timesteps(Case& check, const Numbers& expected, const Numbers& got) {
  constexpr double single = 2e-3;
  if (check.tolerance() > 1e-9)
    check.compare_absolutely("timesteps", expected, got, single);
  else
    check.compare("timesteps", expected, got);
}

/// The scheduler's own list of sigmas, where it has one.
inline void compare_sigmas(Case& check, const Json& one, const Numbers& got) {
  if (one.contains("sigmas") && !one.at("sigmas").is_null())
    check.compare("sigmas", numbers(one.at("sigmas")), got);
}

}  // namespace golden

#endif  // DIFFUSION_TESTS_GOLDEN_CHECK_DATA_HPP
