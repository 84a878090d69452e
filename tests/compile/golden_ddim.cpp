// What a build of the library must be able to do, whatever the compiler, its library and its flags:
// give the reference's DDIM numbers, plan without infinities, and tell when a state is not finite.
// Needs Eigen alone. golden-ddim [TOLERANCE] prints the worst error; exit code 1 where one exceeds
// the tolerance (default 1e-5, in units of max(1, the largest expected value); the state is float).
#include <diffusion/diffusion.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

namespace {

using namespace diffusion;
using Image = Eigen::Tensor<float, 4, Eigen::RowMajor>;

// ---- the reference's numbers --------------------------------------------------------------------

/// A case of golden/ddim.json.
struct GoldenCase {
  std::string name;
  BetaSchedule beta_schedule = BetaSchedule::linear;
  NoiseScheduleOptions schedule;
  PredictionType prediction_type = PredictionType::epsilon;
  DdimOptions options;
  bool dummy = false;  ///< the model: x t / (t + 1), else the wave
  std::array<Eigen::Index, 4> shape{};
  std::vector<double> initial;
  std::vector<std::vector<double>> noise;
  std::vector<double> expected;  ///< the sample after the last step
};

std::vector<GoldenCase> golden_cases() {
  std::vector<GoldenCase> cases;
#include "golden_ddim.inc"
  return cases;
}

/// Both models of the golden file, and one that breaks half-way: one type, compiled once.
struct Network {
  bool dummy = false;
  double broken_below = -1;  ///< answers NaN at times below
  double nan = 0;

  void operator()(const Image& x, double t, Image& out) const {
    for (Eigen::Index i = 0; i < x.size(); ++i) {
      const double z = static_cast<double>(x.data()[i]);
      const double answer =
          dummy ? z * t / (t + 1) : std::tanh(0.7 * z) * std::cos(0.002 * t) + 0.1 * z;
      out.data()[i] = static_cast<float>(t < broken_below ? nan : answer);
    }
  }
};

/// The error of one case; 1e300 for a run that did not end well.
double error_of(const GoldenCase& golden) {
  const auto schedule = NoiseSchedule<>::make(golden.beta_schedule, golden.schedule);
  Image x(golden.shape);
  for (Eigen::Index i = 0; i < x.size(); ++i)
    x.data()[i] = static_cast<float>(golden.initial[static_cast<std::size_t>(i)]);
  RecordedNoise noise(golden.noise);
  const SampleResult result =
      sample_in_place(DdimSampler(schedule, golden.options), Network{.dummy = golden.dummy}, x,
                      noise, {.prediction_type = golden.prediction_type});
  if (!result.done()) return 1e300;

  double worst = 0;
  double largest = 1;
  for (Eigen::Index i = 0; i < x.size(); ++i) {
    const double expected = golden.expected[static_cast<std::size_t>(i)];
    worst = std::max(worst, std::abs(static_cast<double>(x.data()[i]) - expected));
    largest = std::max(largest, std::abs(expected));
  }
  return worst / largest;
}

bool check_golden(double tolerance) {
  double worst = 0;
  const std::vector<GoldenCase> cases = golden_cases();
  for (const GoldenCase& golden : cases) {
    const double error = error_of(golden);
    if (error > tolerance) std::printf("%s differs by %.3g\n", golden.name.c_str(), error);
    worst = std::max(worst, error);
  }
  std::printf("golden DDIM: %zu cases, worst error %.3g, tolerance %.3g\n", cases.size(), worst,
              tolerance);
  return cases.size() >= 20 && worst <= tolerance;
}

// ---- plans --------------------------------------------------------------------------------------

/// Counts the stages that hold a number that is not finite, by their bits.
class PlanCheck {
 public:
  void see(const char* what, const SamplingPlan& plan) {
    ++plans_;
    const bool good = detail::is_finite(plan.traits().initial_scale) &&
                      std::all_of(plan.stages().begin(), plan.stages().end(), finite);
    if (good) return;
    std::printf("a plan of %s holds a number that is not finite\n", what);
    ++bad_;
  }
  bool good() const {
    std::printf("plans: %d, %d of them not finite\n", plans_, bad_);
    return plans_ > 0 && bad_ == 0;
  }

 private:
  static bool finite(const Stage& s) {
    std::vector<double> numbers{s.input_scale,
                                s.at.t,
                                s.at.alpha,
                                s.at.sigma,
                                s.to.t,
                                s.to.alpha,
                                s.to.sigma,
                                s.x,
                                s.x0,
                                s.eps,
                                s.raw,
                                s.saved,
                                s.langevin_snr,
                                s.noise_scale.offset,
                                s.noise_scale.slope};
    for (const Term& term : s.history) numbers.push_back(term.weight);
    for (const Term& term : s.noise) numbers.push_back(term.weight);
    return std::all_of(numbers.begin(), numbers.end(), detail::is_finite);
  }

  int plans_ = 0;
  int bad_ = 0;
};

/// The plans of every sampler on a schedule, over all spacings, ending clean (sigma = 0) and not.
template <class S>
void see_plans(PlanCheck& check, const char* name, const S& schedule) {
  for (const auto spacing : {TimestepSpacing::leading, TimestepSpacing::trailing,
                             TimestepSpacing::linspace, TimestepSpacing::quadratic})
    for (const bool clean_end : {true, false})
      for (const int steps : {1, 7}) {
        const GridOptions grid{.spacing = spacing, .set_alpha_to_one = clean_end};
        for (const double eta : {0.0, 1.0})
          check.see(name, DdimSampler(schedule, {.steps = steps, .eta = eta, .grid = grid}).plan());
        check.see(name, DdimInverseSampler(schedule, {.steps = steps, .grid = grid}).plan());
        for (const auto variance :
             {VarianceType::fixed_small, VarianceType::fixed_large, VarianceType::learned_range})
          check.see(
              name,
              DdpmSampler(schedule, {.steps = steps, .grid = grid, .variance = variance}).plan());
      }
}

bool check_plans() {
  PlanCheck check;
  for (const auto kind :
       {BetaSchedule::linear, BetaSchedule::scaled_linear, BetaSchedule::squaredcos_cap_v2,
        BetaSchedule::sigmoid, BetaSchedule::laplace, BetaSchedule::exp, BetaSchedule::quadratic,
        BetaSchedule::constant, BetaSchedule::jsd})
    see_plans(check, "a discrete schedule", NoiseSchedule<>::make(kind));
  see_plans(check, "zero terminal SNR",
            NoiseSchedule<>::scaled_linear({.rescale_zero_terminal_snr = true}));
  see_plans(check, "zero terminal SNR in float",
            NoiseSchedule<float>::linear({.rescale_zero_terminal_snr = true}));
  see_plans(check, "VpLinear", VpLinear());
  see_plans(check, "VpCosine", VpCosine());  // alpha is 0 at its end, sigma at its start
  see_plans(check, "VarianceExploding", VarianceExploding());
  see_plans(check, "RectifiedFlow", RectifiedFlow());
  return check.good();
}

// ---- states that break --------------------------------------------------------------------------

/// Made at run time, so that the compiler cannot assume it away.
double not_a_number() {
  static volatile double zero = 0;
  return zero / zero;
}

bool check_broken_state() {
  const DdimSampler sampler{NoiseSchedule<>::linear(), {.steps = 4}};  // asked at 750, 500, 250, 0
  Image x(2, 1, 3, 5);
  x.setConstant(0.25F);
  RecordedNoise none{{}};
  const SampleResult result =
      sample_in_place(sampler, Network{.broken_below = 600, .nan = not_a_number()}, x, none);
  const bool good = result.status == Status::not_finite && result.stage == 2;
  std::printf("a state that is not finite: %s\n", good ? "told" : "not told, or at a wrong stage");
  return good;
}

}  // namespace

int main(int argc, char** argv) {
  const double tolerance = argc > 1 ? std::atof(argv[1]) : 1e-5;
  const bool golden = check_golden(tolerance);
  const bool plans = check_plans();
  const bool broken = check_broken_state();
  return golden && plans && broken ? 0 : 1;
}
