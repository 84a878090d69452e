#ifndef DIFFUSION_TESTS_GOLDEN_CHECK_GUIDERS_HPP
#define DIFFUSION_TESTS_GOLDEN_CHECK_GUIDERS_HPP

#include <diffusion/guidance/classifier_free.hpp>
#include <diffusion/samplers/ddim.hpp>
#include <diffusion/schedule/noise_schedule.hpp>

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "loops.hpp"

/// guiders.json: guidance by itself, in loops, and single functions.
namespace golden {

/// The options that guidance has at one step of n. The interval is that of the reference: active
/// when int(start n) <= step < int(stop n). Its "original formulation" c + w (c - u) has g = w + 1.
inline diffusion::GuidanceOptions guidance_at(const Json& guider, int step, int n) {
  const auto bound = [&](const char* key) { return static_cast<int>(number(guider.at(key)) * n); };
  const bool active =
      guider.at("enabled").get<bool>() && step >= bound("start") && step < bound("stop");
  if (!active) return {};
  const bool original = guider.at("use_original_formulation");
  return {.scale = number(guider.at("guidance_scale")) + (original ? 1 : 0),
          .rescale = number(guider.at("guidance_rescale"))};
}

inline void require_classifier_free(const Json& guider) {
  if (guider.at("_class_name") != "ClassifierFreeGuidance")
    throw Skip{guider.at("_class_name").get<std::string>()};
  require_keys(guider, "the guider",
               {"_class_name", "enabled", "guidance_rescale", "guidance_scale", "start", "stop",
                "use_original_formulation"});
}

/// Guidance on one call: predict(condition, sample, element) for conditions 1 and (null) 0.
/// Returns the number of conditions that were asked for.
template <class Scalar, class Predict>
int guide(const Tensor<Scalar>& x, const diffusion::Query& query, Tensor<Scalar>& out,
          const diffusion::GuidanceOptions& options, const Predict& predict) {
  int asked = 0;
  const auto network = [&](const Tensor<Scalar>& z, double,
                           const diffusion::Conditions<int>& conditions, Tensor<Scalar>& f) {
    asked += static_cast<int>(z.dimension(0) / x.dimension(0));
    const Eigen::Index size = z.size() / z.dimension(0);
    for (Eigen::Index sample = 0; sample < z.dimension(0); ++sample)
      for (Eigen::Index i = 0; i < size; ++i)
        f.data()[sample * size + i] =
            predict(conditions[static_cast<std::size_t>(sample)], z.data()[sample * size + i],
                    sample % x.dimension(0) * size + i);
  };
  const std::vector<int> conditions(static_cast<std::size_t>(x.dimension(0)), 1);
  diffusion::ClassifierFreeGuidance guidance(network, conditions, 0, options);
  guidance(x, query, out);
  return asked;
}

/// A guider on given predictions, with both ways to ask.
inline void check_guider(Case& check, const Json& one) {
  const Json& guider = one.at("config");
  require_classifier_free(guider);
  const Shape shape = shape_of(one.at("shape"));
  const int n = one.at("num_inference_steps");
  for (const Json& call : one.at("calls")) {
    const int step = call.at("step");
    const Numbers predictions[] = {numbers(call.at("pred_uncond")), numbers(call.at("pred_cond"))};
    using Calls = diffusion::GuidanceCalls;
    for (const Calls calls : {Calls::joined, Calls::separate}) {
      auto options = guidance_at(guider, step, n);
      options.calls = calls;
      Tensor<double> x(shape), out(shape);
      x.setZero();
      const int asked =
          guide(x, {}, out, options, [&](int condition, double, Eigen::Index element) {
            return predictions[condition].at(static_cast<std::size_t>(element));
          });
      check.compare(text("pred of step ", step), numbers(call.at("pred")), numbers(out));
      check.compare(text("num_conditions of step ", step), number(call.at("num_conditions")),
                    asked);
    }
  }
}

inline void run_guider(Report& report, const Json& one, std::size_t index) {
  const std::string guider = one.at("guider");
  report.run(text("guiders/", index, "/", guider), 1e-9,
             [&](Case& check) { check_guider(check, one); });
}

/// Sampling under guidance.
inline void check_guided_loop(Case& check, const Json& one) {
  const auto config = config_of(one);
  const Json& guider = one.at("guider");
  require_classifier_free(guider);
  const auto plan = config.plan({.steps = one.at("num_inference_steps").get<int>()});
  compare_timesteps(check, numbers(one.at("timesteps")), timesteps_of(plan));
  const auto ask = [&](const Tensor<double>& x, const diffusion::Query& query,
                       Tensor<double>& out) {
    guide(x, query, out, guidance_at(guider, query.step, query.steps),
          [&](int condition, double value, Eigen::Index) {
            return condition == 1 ? wave(value, query.t) : unconditional_wave(value, query.t);
          });
  };
  compare_run(check, plan,
              tensor<double>(numbers(one.at("initial_sample")), shape_of(one.at("shape"))),
              tensors(one.at("noise")), options_of(config), trajectory_of(one), ask);
}

inline void run_guided_loop(Report& report, const Json& one) {
  const std::string name = one.at("name");
  report.run("guiders/loops/" + name, 1e-9, [&](Case& check) { check_guided_loop(check, one); });
}

/// Dynamic thresholding as a plan does it: one stage whose network predicts x0, of which the result
/// is all that is kept.
inline void check_thresholding(Case& check, const Json& one) {
  const auto sample = tensor<double>(numbers(one.at("sample")), shape_of(one.at("shape")));
  const auto clipping = diffusion::Clipping::dynamic(number(one.at("dynamic_thresholding_ratio")),
                                                     number(one.at("sample_max_value")));
  const auto schedule = diffusion::NoiseSchedule<>::linear();
  const auto plan = diffusion::make_plan(diffusion::make_grid(schedule, 1),
                                         diffusion::DdimOptions{.steps = 1, .clipping = clipping});
  diffusion::SampleOptions options;
  options.prediction_type = diffusion::PredictionType::sample;
  Trajectory expected;
  expected.steps = {0};
  expected.states = {numbers(one.at("out"))};
  compare_run(
      check, plan, Tensor<double>(sample), {}, options, expected,
      [&](const Tensor<double>&, const diffusion::Query&, Tensor<double>& out) { out = sample; });
}

/// Rescaling as guidance does it: at scale 2 the prediction u = 2 c - r makes r of c before it is
/// rescaled.
inline void check_rescaling(Case& check, const Json& one) {
  const Shape shape = shape_of(one.at("shape"));
  const Numbers c = numbers(one.at("noise_pred_text")), r = numbers(one.at("noise_cfg"));
  Tensor<double> x(shape), out(shape);
  x.setZero();
  guide(x, {}, out, {.scale = 2, .rescale = number(one.at("guidance_rescale"))},
        [&](int condition, double, Eigen::Index element) {
          const auto i = static_cast<std::size_t>(element);
          return condition == 1 ? c.at(i) : 2 * c.at(i) - r.at(i);
        });
  check.compare("out", numbers(one.at("out")), numbers(out));
}

inline void run_guider_function(Report& report, const Json& one, std::size_t index) {
  const std::string function = one.at("function");
  report.run(text("guiders/functions/", index, "/", function), 1e-9, [&](Case& check) {
    if (function == "dynamic_thresholding")
      check_thresholding(check, one);
    else if (function == "rescale_noise_cfg")
      check_rescaling(check, one);
    else
      throw Skip{function};
  });
}

}  // namespace golden

#endif  // DIFFUSION_TESTS_GOLDEN_CHECK_GUIDERS_HPP
