// Faults of the reference that docs/reference-faults.md shows and that no other test asserts
// through a configuration: what `compatible` repeats, what it refuses to repeat, and what `correct`
// does.

#include <diffusion/denoiser/exact/exact_denoiser.hpp>
#include <diffusion/interop/diffusers_config.hpp>
#include <diffusion/plan/laws.hpp>
#include <diffusion/sampling/sample.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <string>

#include "catch.hpp"
#include "plan_numbers.hpp"

using namespace diffusion;
using Catch::Approx;

namespace {

DiffusersConfig read(const std::string& name, nlohmann::json keys, Behaviour behaviour) {
  keys["_class_name"] = name;
  return read_diffusers_config(keys, {.behaviour = behaviour});
}

/// The power of the number of steps by which the error falls from n to 2 n, n at most 120.
double order_of(const DiffusersConfig& config, const DiffusersConfig& best, int n) {
  const numbers::Denoiser data = numbers::denoiser_of(numbers::Mixture{});
  const auto result = [&](const DiffusersConfig& c, int steps) {
    const SamplingPlan plan = c.plan(steps);
    return numbers::run(plan, data, {0.7 * plan.traits().initial_scale})[0];
  };
  const double exact = result(best, 960);
  return std::log2(std::abs(result(config, n) - exact) / std::abs(result(config, 2 * n) - exact));
}

/// Sample 0 without noise, sample k + 1 with a one for draw k.
struct OneEach {
  template <class Real>
  void fill(std::uint64_t sample, std::uint64_t draw, std::uint64_t, std::span<Real> out) const {
    std::fill(out.begin(), out.end(), sample == draw + 1 ? Real{1} : Real{0});
  }
};

/// Mean and variance of a run's result on data N(0.5, 0.36), exactly; also of plans whose rows
/// depend on the prediction type.
numbers::Moments moments(const DiffusersConfig& config, const DiffusersRun& run) {
  using Points = Eigen::Tensor<double, 2, Eigen::RowMajor>;
  const SamplingPlan plan = config.plan(run);
  const Knot start = plan[0].at;
  Points x(plan.draws() + 2, 1);
  x.setConstant(start.alpha * 0.5);
  x(1, 0) += std::sqrt(start.alpha * start.alpha * 0.36 + start.sigma * start.sigma);
  const auto data = Gaussian::isotropic(Eigen::VectorXd::Constant(1, 0.5), 0.36);
  sample_in_place(plan, exact_denoiser(data, config.prediction_type), x, OneEach{});
  numbers::Moments result{x(0, 0), 0};
  for (Eigen::Index i = 1; i < x.size(); ++i) result.variance += std::pow(x(i, 0) - x(0, 0), 2);
  return result;
}

}  // namespace

TEST_CASE("Third order: of second order as in Python, of third as it is meant") {
  const nlohmann::json multistep = {{"solver_order", 3}, {"use_lu_lambdas", true}};
  const nlohmann::json edm = {{"solver_order", 3},
                              {"sigma_schedule", "exponential"},
                              {"sigma_max", 20},
                              {"sigma_min", 0.02}};
  for (const auto& [name, keys] : {std::pair{"DPMSolverMultistepScheduler", multistep},
                                   std::pair{"EDMDPMSolverMultistepScheduler", edm}}) {
    const auto python = read(name, keys, Behaviour::compatible);
    const auto right = read(name, keys, Behaviour::correct);
    const double as_python = order_of(python, right, 60), as_meant = order_of(right, right, 60);
    INFO(name << ": " << as_python << " in Python, " << as_meant);
    CHECK(as_python < 2.3);
    CHECK(as_meant > 2.7);
  }
}

TEST_CASE("Churn after the ask does not sample the data, churn before it does") {
  const auto both = [](const char* name, double churn) {
    const DiffusersRun run{.steps = 200, .s_churn = churn};
    return std::pair{moments(read(name, {}, Behaviour::compatible), run),
                     moments(read(name, {}, Behaviour::correct), run)};
  };
  const auto euler = both("EulerDiscreteScheduler", 40);
  CHECK(euler.first.variance > 0.40);  // of 0.36, which Euler's own error makes smaller:
  CHECK(euler.second.mean == Approx(0.5).epsilon(1e-9));
  CHECK(euler.second.variance < 0.36);
  const auto edm = both("EDMEulerScheduler", 40);
  CHECK(edm.first.mean < 0.45);
  CHECK(edm.second.mean == Approx(0.5).epsilon(1e-9));
  const auto flow = both("FlowMatchHeunDiscreteScheduler", 2);
  CHECK(flow.first.mean > 0.65);
  CHECK(flow.second.mean == Approx(0.5).epsilon(1e-5));
  CHECK(flow.second.variance == Approx(0.36).epsilon(1e-3));
}

TEST_CASE("DDPM's noise in a last step to clean data") {
  const nlohmann::json keys = {
      {"variance_type", "fixed_large"}, {"timestep_spacing", "trailing"}, {"clip_sample", false}};
  const auto python = read("DDPMScheduler", keys, Behaviour::compatible);
  const auto right = read("DDPMScheduler", keys, Behaviour::correct);
  const Stage last = python.plan(10)[9];
  CHECK(last.to.sigma == 0);
  CHECK(last.noise[0].weight == Approx(last.at.sigma));  // all of it, at t = 99
  CHECK(right.plan(10)[9].draws == 0);
  const double added = last.at.sigma * last.at.sigma;
  CHECK(moments(python, {.steps = 10}).variance ==
        Approx(moments(right, {.steps = 10}).variance + added).epsilon(1e-9));
}

TEST_CASE("fixed_large_log: the reference takes the root of a logarithm") {
  const nlohmann::json keys = {{"variance_type", "fixed_large_log"}};
  const auto schedule = NoiseSchedule<>::linear();
  CHECK(std::isnan(std::sqrt(std::log(schedule.betas()[500]))));
  for (const Behaviour behaviour : {Behaviour::compatible, Behaviour::correct})
    CHECK(read("DDPMScheduler", keys, behaviour).plan(10) ==
          read("DDPMScheduler", {{"variance_type", "fixed_large"}}, behaviour).plan(10));
}

TEST_CASE("UniPC's B1 at sigma 0: infinity times zero in the reference, a step of DDIM here") {
  const double h = std::numeric_limits<double>::infinity(), B = -h;  // B1(h) of the data form
  CHECK(std::isnan(B * 0.0));
  for (const int order : {1, 2, 3}) {
    const nlohmann::json keys = {{"solver_type", "bh1"}, {"solver_order", order}};
    for (const Behaviour behaviour : {Behaviour::compatible, Behaviour::correct}) {
      const SamplingPlan plan = read("UniPCMultistepScheduler", keys, behaviour).plan(10);
      CHECK(plan[9].to.sigma == 0);
      CHECK(plan[9].x0 == Approx(1));
      CHECK(check_laws(plan).worst() < 1e-8);
    }
  }
}

TEST_CASE("Trailing timesteps end with -1 for 61 of 1000 steps in the reference, never here") {
  const nlohmann::json keys = {{"timestep_spacing", "trailing"}, {"clip_sample", false}};
  for (const Behaviour behaviour : {Behaviour::compatible, Behaviour::correct}) {
    const SamplingPlan plan = read("DDIMScheduler", keys, behaviour).plan(61);
    CHECK(plan.size() == 61);
    CHECK(plan[60].at.t >= 0);
  }
}

TEST_CASE("PNDM of a network that predicts v: a history of v costs an order") {
  const nlohmann::json keys = {
      {"skip_prk_steps", true}, {"steps_offset", 1}, {"prediction_type", "v_prediction"}};
  const auto error = [&](Behaviour behaviour, int steps) {
    const numbers::Moments m = moments(read("PNDMScheduler", keys, behaviour), {.steps = steps});
    return std::abs(m.mean - 0.5) + std::abs(m.variance - 0.36);
  };
  CHECK(error(Behaviour::compatible, 20) > 0.05);
  CHECK(error(Behaviour::correct, 20) < 0.01);
  CHECK(error(Behaviour::compatible, 100) > 10 * error(Behaviour::correct, 100));
}
