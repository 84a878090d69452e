// Where diffusers and its papers differ, in numbers: what each configuration makes of data whose
// right answer is known, as Python does it (compatible) and as our samplers do (correct).
#include <diffusion/denoiser/exact/exact_denoiser.hpp>
#include <diffusion/interop/diffusers_config.hpp>
#include <diffusion/plan/laws.hpp>
#include <diffusion/sampling/sample.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <span>
#include <string>
#include <vector>

namespace {

using diffusion::Behaviour;
using diffusion::DiffusersConfig;
using diffusion::DiffusersRun;
using diffusion::Knot;
using diffusion::SamplingPlan;

// Data N(0.5, 0.6^2): its perfect network is linear in x, so every result is a weighted sum of 1,
// of the initial noise and of every draw.
constexpr double mean = 0.5, variance = 0.36;

/// Sample 0 is given no noise, sample k + 1 a one for draw k: what is left of each draw can be read
/// off the samples.
struct OneEach {
  template <class Real>
  void fill(std::uint64_t sample, std::uint64_t draw, std::uint64_t, std::span<Real> out) const {
    std::fill(out.begin(), out.end(), sample == draw + 1 ? Real{1} : Real{0});
  }
};

struct Moments {
  double mean, variance;
};

/// Mean and variance of what a plan makes, without sampling error, of a start that is right.
Moments moments(const SamplingPlan& plan, diffusion::PredictionType type) {
  using State = Eigen::Tensor<double, 2, Eigen::RowMajor>;
  const Knot start = plan[0].at;
  State x(plan.draws() + 2, 1);
  x.setConstant(start.alpha * mean);
  x(1, 0) += std::sqrt(start.alpha * start.alpha * variance + start.sigma * start.sigma);
  const auto data = diffusion::Gaussian::isotropic(Eigen::VectorXd::Constant(1, mean), variance);
  diffusion::sample_in_place(plan, diffusion::exact_denoiser(data, type), x, OneEach{});
  Moments result{x(0, 0), 0};
  for (Eigen::Index i = 1; i < x.size(); ++i)
    result.variance += (x(i, 0) - x(0, 0)) * (x(i, 0) - x(0, 0));
  return result;
}

std::string laws_broken_by(const SamplingPlan& plan) {
  for (const diffusion::Stage& stage : plan.stages())
    if (stage.raw != 0) return "-";  // rows that depend on the network's output have no laws
  const diffusion::Laws laws = diffusion::check_laws(plan);
  if (laws.worst() < 1e-7) return "0";
  char text[32];
  std::snprintf(text, sizeof text, "%.2g", laws.worst());
  return text;
}

struct Fault {
  const char* what;
  const char* keys;
  DiffusersRun run;
  int cut = 0;            // image to image: the step that it starts with
  int cut_as_python = 0;  // the same in the list of Python's stages
};

void print(const Fault& fault) {
  std::printf("%-34s", fault.what);
  for (const Behaviour behaviour : {Behaviour::compatible, Behaviour::correct}) {
    const DiffusersConfig config =
        diffusion::parse_diffusers_config(fault.keys, {.behaviour = behaviour});
    const int cut = behaviour == Behaviour::compatible ? fault.cut_as_python : fault.cut;
    const SamplingPlan plan = config.plan(config.grid(fault.run).cut(cut), fault.run);
    const Moments m = moments(plan, config.prediction_type);
    std::printf("  %7s %6.3f %6.3f", laws_broken_by(plan).c_str(), m.mean, m.variance);
  }
  std::printf("\n");
}

}  // namespace

int main() {
  const Fault faults[] = {
      {"DDIM, linspace, 100 steps",
       R"({"_class_name": "DDIMScheduler", "timestep_spacing": "linspace", "clip_sample": false})",
       {.steps = 100}},
      {"DDIM, trailing, 70 steps",
       R"({"_class_name": "DDIMScheduler", "timestep_spacing": "trailing", "clip_sample": false})",
       {.steps = 70}},
      {"PNDM, linspace, 10 steps",
       R"({"_class_name": "PNDMScheduler", "timestep_spacing": "linspace",
           "skip_prk_steps": true})",
       {.steps = 10}},
      {"PNDM, from step 4 of 10",
       R"({"_class_name": "PNDMScheduler", "skip_prk_steps": true, "steps_offset": 1})",
       {.steps = 10},
       4,
       5},
      {"PNDM, v, 20 steps",
       R"({"_class_name": "PNDMScheduler", "skip_prk_steps": true, "steps_offset": 1,
           "prediction_type": "v_prediction"})",
       {.steps = 20}},
      {"LMS, from step 3 of 8", R"({"_class_name": "LMSDiscreteScheduler"})", {.steps = 8}, 3, 3},
      {"iPNDM, 10 steps", R"({"_class_name": "IPNDMScheduler"})", {.steps = 10}},
      {"Euler, churn 40, 200 steps",
       R"({"_class_name": "EulerDiscreteScheduler"})",
       {.steps = 200, .s_churn = 40}},
      {"EDM Euler, churn 40, 200 steps",
       R"({"_class_name": "EDMEulerScheduler"})",
       {.steps = 200, .s_churn = 40}},
      {"flow Heun, churn 2, 40 steps",
       R"({"_class_name": "FlowMatchHeunDiscreteScheduler"})",
       {.steps = 40, .s_churn = 2}},
      {"DDPM, fixed_large, trailing, 10",
       R"({"_class_name": "DDPMScheduler", "variance_type": "fixed_large", "clip_sample": false,
           "timestep_spacing": "trailing"})",
       {.steps = 10}},
      {"Wuerstchen, 10 steps", R"({"_class_name": "DDPMWuerstchenScheduler"})", {.steps = 10}},
      {"CogVideoX DPM, trailing, 30 steps",
       R"({"_class_name": "CogVideoXDPMScheduler", "timestep_spacing": "trailing"})",
       {.steps = 30}},
      {"LCM, own timesteps, strength 0.5",
       R"({"_class_name": "LCMScheduler"})",
       {.timesteps = {499, 259}, .strength = 0.5}},
      {"score SDE VP, 100 steps", R"({"_class_name": "ScoreSdeVpScheduler"})", {.steps = 100}},
      {"SDE++ order 3, 50 steps",
       R"({"_class_name": "DPMSolverMultistepScheduler", "solver_order": 3,
           "algorithm_type": "sde-dpmsolver++", "use_lu_lambdas": true})",
       {.steps = 50}},
      {"RePaint, 8 steps, jumps of 3",
       R"({"_class_name": "RePaintScheduler", "eta": 1, "clip_sample": false})",
       {.steps = 8, .jump_length = 3, .jump_n_sample = 2}},
      {"UniPC B1, 10 steps",
       R"({"_class_name": "UniPCMultistepScheduler", "solver_type": "bh1"})",
       {.steps = 10}},
  };
  std::printf("%-34s  compatible             correct\n", "");
  std::printf("%-34s     laws   mean variance    laws   mean variance\n", "");
  for (const Fault& fault : faults) print(fault);
}
