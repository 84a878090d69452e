#ifndef DIFFUSION_TESTS_GOLDEN_CHECK_GUIDERS_HPP
#define DIFFUSION_TESTS_GOLDEN_CHECK_GUIDERS_HPP

#include <diffusion/guidance/classifier_free.hpp>
#include <diffusion/guidance/laplacian_pyramid.hpp>
#include <diffusion/guidance/perturbed.hpp>
#include <diffusion/guidance/zero_star.hpp>
#include <diffusion/interop/diffusers_guider.hpp>
#include <diffusion/samplers/ddim.hpp>
#include <diffusion/schedule/noise_schedule.hpp>

#include <cstddef>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "loops.hpp"

/// guiders.json: guidance by itself, in loops, and single functions.
namespace golden {

using Guided = std::function<void(const Tensor<double>&, const diffusion::Query&, Tensor<double>&)>;

/// Guidance as a guider's configuration has it, on a network that counts in `asked` the samples
/// that it is asked for: predict(branch, value, t, element) for branches 0 (without condition), 1
/// (with it) and 2 (perturbed).
template <class Predict>
Guided guided_by(const Json& config, Eigen::Index batch, diffusion::GuidanceCalls calls,
                 Eigen::Index& asked, const Predict& predict) {
  const auto guider = diffusion::read_diffusers_guider(with_infinities(config), calls);
  for (const diffusion::DiffusersNote& note : guider.notes) throw Unhandled(note.text);
  const auto network = [batch, &asked, predict](bool perturbed) {
    return [=, &asked](const Tensor<double>& z, double t,
                       const diffusion::Conditions<int>& conditions, Tensor<double>& f) {
      asked += z.dimension(0);
      const Eigen::Index size = z.size() / z.dimension(0);
      for (Eigen::Index sample = 0; sample < z.dimension(0); ++sample)
        for (Eigen::Index i = 0; i < size; ++i)
          f.data()[sample * size + i] =
              predict(perturbed ? 2 : conditions[static_cast<std::size_t>(sample)],
                      z.data()[sample * size + i], t, sample % batch * size + i);
    };
  };
  const std::vector<int> conditions(static_cast<std::size_t>(batch), 1);
  const auto begun = [](auto guided) -> Guided {
    guided.begin_run();
    return [guided](const Tensor<double>& x, const diffusion::Query& query,
                    Tensor<double>& out) mutable { guided(x, query, out); };
  };
  if (guider.rule.branches() == 3)
    return begun(
        diffusion::PerturbedGuidance(network(false), network(true), conditions, 0, guider.rule));
  return begun(diffusion::ClassifierFreeGuidance(network(false), conditions, 0, guider.rule));
}

/// A guider on given predictions, with both ways to ask.
inline void check_guider(Case& check, const Json& one) {
  const Shape shape = shape_of(one.at("shape"));
  using Calls = diffusion::GuidanceCalls;
  for (const Calls calls : {Calls::joined, Calls::separate}) {
    Numbers predictions[3];
    Eigen::Index asked = 0;
    const Guided guided =
        guided_by(one.at("config"), shape[0], calls, asked,
                  [&predictions](int branch, double, double, Eigen::Index element) {
                    return predictions[branch].at(static_cast<std::size_t>(element));
                  });
    for (const Json& call : one.at("calls")) {
      predictions[0] = numbers(call.at("pred_uncond"));
      predictions[1] = numbers(call.at("pred_cond"));
      if (call.contains("pred_cond_skip")) predictions[2] = numbers(call.at("pred_cond_skip"));
      const int step = call.at("step");
      diffusion::Query query;
      query.step = step;
      query.steps = one.at("num_inference_steps");
      Tensor<double> x(shape), out(shape);
      x.setZero();
      asked = 0;
      guided(x, query, out);
      check.compare(text("pred of step ", step), numbers(call.at("pred")), numbers(out));
      check.compare(text("num_conditions of step ", step), number(call.at("num_conditions")),
                    static_cast<double>(asked / shape[0]));
    }
  }
}

inline void run_guider(Report& report, const Json& one, std::size_t index) {
  const std::string guider = one.at("guider");
  report.run(text("guiders/", index, "/", guider), 1e-9,
             [&](Case& check) { check_guider(check, one); });
}

/// Sampling under guidance. The guider counts asks as its steps.
inline void check_guided_loop(Case& check, const Json& one) {
  const auto config = config_of(one);
  const auto plan = config.plan({.steps = one.at("num_inference_steps").get<int>()});
  compare_timesteps(check, numbers(one.at("timesteps")), timesteps_of(plan));
  const Shape shape = shape_of(one.at("shape"));
  Eigen::Index asked = 0;
  const Guided guided =
      guided_by(one.at("guider"), shape[0], diffusion::GuidanceCalls::joined, asked,
                [](int branch, double value, double t, Eigen::Index) {
                  if (branch > 1) throw Unhandled("loops have no perturbed prediction");
                  return branch == 1 ? wave(value, t) : unconditional_wave(value, t);
                });
  compare_run(check, plan, tensor<double>(numbers(one.at("initial_sample")), shape),
              tensors(one.at("noise")), options_of(config), trajectory_of(one),
              [&](const Tensor<double>& x, diffusion::Query query, Tensor<double>& out) {
                query.step = query.stage;
                query.steps = plan.size();
                guided(x, query, out);
              });
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

/// One sample after the other, as torch flattens them.
inline void check_rescaling(Case& check, const Json& one) {
  const auto batch = one.at("shape").at(0).get<std::size_t>();
  const Numbers c = numbers(one.at("noise_pred_text"));
  Numbers guided = numbers(one.at("noise_cfg"));
  const std::size_t size = guided.size() / batch;
  for (std::size_t i = 0; i < guided.size(); i += size)
    diffusion::rescale_guided(guided.data() + i, c.data() + i, size,
                              number(one.at("guidance_rescale")));
  check.compare("out", numbers(one.at("out")), guided);
}

inline void check_zero_star_scale(Case& check, const Json& one) {
  const auto size = one.at("shape").at(1).get<std::size_t>();
  const Numbers c = numbers(one.at("cond")), u = numbers(one.at("uncond"));
  Numbers scales;
  for (std::size_t i = 0; i < c.size(); i += size)
    scales.push_back(diffusion::zero_star_scale(c.data() + i, u.data() + i, size));
  check.compare("out", numbers(one.at("out")), scales);
}

/// The planes of a tensor, each made into others: make(plane, k-th result of all planes).
template <class Make>
std::vector<Numbers> by_planes(const Json& one, const Make& make) {
  const auto shape = one.at("shape").get<std::vector<std::size_t>>();
  const Numbers values = numbers(one.at("sample"));
  diffusion::Plane plane{shape[2], shape[3], {}};
  std::vector<Numbers> results;
  for (auto from = values.begin(); from != values.end();) {
    const auto to = from + static_cast<std::ptrdiff_t>(shape[2] * shape[3]);
    plane.values.assign(from, to);
    from = to;
    const std::vector<diffusion::Plane> made = make(plane);
    results.resize(made.size());
    for (std::size_t k = 0; k < made.size(); ++k)
      results[k].insert(results[k].end(), made[k].values.begin(), made[k].values.end());
  }
  return results;
}

inline void check_resizing(Case& check, const Json& one, bool down) {
  const auto size = one.at("out_shape").get<std::vector<std::size_t>>();
  const auto got = by_planes(one, [&](const diffusion::Plane& plane) {
    auto made = down ? diffusion::pyramid_down(plane)
                     : diffusion::pyramid_up(plane, 2 * plane.height, 2 * plane.width);
    check.require(made.height == size[2] && made.width == size[3], "the plane has another size");
    return std::vector<diffusion::Plane>{made};
  });
  check.compare("out", numbers(one.at("out")), got.at(0));
}

inline void check_pyramid(Case& check, const Json& one) {
  const auto got = by_planes(one, [&](const diffusion::Plane& plane) {
    return diffusion::laplacian_pyramid(plane, one.at("levels").get<std::size_t>());
  });
  const auto expected = tensors(one.at("out"));
  check.require(got.size() == expected.size(), "the pyramid has another number of bands");
  for (std::size_t k = 0; k < expected.size(); ++k)
    check.compare(text("out[", k, "]"), expected[k], got.at(k));
}

inline void run_guider_function(Report& report, const Json& one, std::size_t index) {
  const std::string function = one.at("function");
  report.run(text("guiders/functions/", index, "/", function), 1e-9, [&](Case& check) {
    if (function == "dynamic_thresholding")
      check_thresholding(check, one);
    else if (function == "rescale_noise_cfg")
      check_rescaling(check, one);
    else if (function == "cfg_zero_star_scale")
      check_zero_star_scale(check, one);
    else if (function == "pyrdown" || function == "pyrup")
      check_resizing(check, one, function == "pyrdown");
    else if (function == "laplacian_pyramid")
      check_pyramid(check, one);
    else
      throw Unhandled("the function \"" + function + "\" is not known");
  });
}

}  // namespace golden

#endif  // DIFFUSION_TESTS_GOLDEN_CHECK_GUIDERS_HPP
