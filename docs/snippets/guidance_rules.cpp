// docs/guidance.md: other rules than u + g (c - u), and one of one's own.
#include <diffusion/guidance/autoguidance.hpp>
#include <diffusion/guidance/cfg_plus_plus.hpp>
#include <diffusion/guidance/composed.hpp>
#include <diffusion/guidance/projected.hpp>
#include <diffusion/noise/philox.hpp>
#include <diffusion/samplers/ddim.hpp>
#include <diffusion/sampling/sample.hpp>
#include <diffusion/schedule/noise_schedule.hpp>

#include <array>
#include <cstddef>
#include <cstdio>
#include <utility>
#include <vector>

using Points = Eigen::Tensor<double, 2, Eigen::RowMajor>;

// Data of two classes, each N(center, 0.5^2), and of none, N(0, 1.1^2).
constexpr std::array<double, 3> center{-1, 1, 0}, deviation{0.5, 0.5, 1.1};

void network(const Points& x, const diffusion::Query& query,
             const diffusion::Conditions<int>& classes, Points& eps) {
  for (std::size_t i = 0; i < classes.size(); ++i) {
    const auto k = static_cast<std::size_t>(classes[i]);
    const double variance =
        query.alpha * query.alpha * deviation[k] * deviation[k] + query.sigma * query.sigma;
    const auto row = static_cast<Eigen::Index>(i);
    eps(row, 0) = query.sigma / variance * (x(row, 0) - query.alpha * center[k]);
  }
}

// A rule of one's own: half way between u + g (c - u) and c.
class HalfRule : public diffusion::TwoBranchRule {
 public:
  explicit HalfRule(diffusion::GuidanceOptions options) : TwoBranchRule(std::move(options)) {}

  template <class S>
  void operator()(const diffusion::BranchPredictions<S>& f, S* out) const {
    const double half = f[0] ? (1 + scale(f)) / 2 : 1;  // f[0] is null where u is not asked for
    for (std::size_t i = 0; i < f.size(); ++i)
      out[i] = half == 1 ? f[1][i] : static_cast<S>(f[0][i] + half * (f[1][i] - f[0][i]));
  }
};

template <class Guided>
void show(const char* what, Guided guided) {
  const diffusion::DdimSampler sampler{
      diffusion::NoiseSchedule<>::linear(),
      {.steps = 100, .grid = {.spacing = diffusion::TimestepSpacing::trailing}}};
  const Points x = diffusion::sample<Points>(sampler, guided, {3, 1}, diffusion::PhiloxNoise{5});
  std::printf("%-22s %6.3f %6.3f %6.3f\n", what, x(0, 0), x(1, 0), x(2, 0));
}

int main() {
  using namespace diffusion;
  const std::vector<int> classes{0, 1, 1};
  show("scale 4", ClassifierFreeGuidance{network, classes, 2, {.scale = 4}});
  show("the same as w = 3",
       ClassifierFreeGuidance{network, classes, 2, {.scale = 3, .convention = ScaleConvention::w}});
  show("in the first half only",
       ClassifierFreeGuidance{network, classes, 2, {.scale = 4, .interval = {.stop = 0.5}}});
  show("1, 2 and 8", ClassifierFreeGuidance{network, classes, 2, {.scales = {1, 2, 8}}});
  show("away from the other",
       ClassifierFreeGuidance{network, classes, std::vector<int>{1, 0, 0}, {.scale = 1.5}});
  show("both at once", ComposedGuidance{network, {{{0, 0, 0}, 1}, {{1, 1, 1}, 1}}, 2});
  show("CFG++", ClassifierFreeGuidance{network, classes, 2, CfgPlusPlusRule{{.scale = 0.6}}});
  show("limited in length",
       ClassifierFreeGuidance{network, classes, 2,
                              ProjectedRule{{.scale = 4}, {.eta = 1, .limit = 0.3}}});
  show("a rule of one's own", ClassifierFreeGuidance{network, classes, 2, HalfRule{{.scale = 7}}});
}
