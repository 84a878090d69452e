// Plans that were compiled in: the header is written by export-plans when the tests are built.

#include "catch.hpp"
#include "exported_plans.hpp"
#include "plans.hpp"
#include "support.hpp"

#include <diffusion/noise/philox.hpp>
#include <diffusion/sampling/sample.hpp>

#include <algorithm>
#include <array>
#include <cmath>

using namespace diffusion;

// They are constants: nothing of them is worked out at run time.
static_assert(ddim_12().stages.size() == 12);
static_assert(ddim_12_stages[0].at.alpha > 0);
static_assert(ddim_12_traits.clipping.kind == Clipping::Kind::range);
static_assert(ddpm_learned_15_stages[3].noise_scale.kind == NoiseScale::Kind::exponential);
static_assert(multistep_8_stages.back().draws == 2);

namespace {

/// A network that is no linear function of x, with as many output channels as it is given.
template <class Tensor>
struct Network {
  bool twice = false;  ///< answers a variance too

  std::array<Eigen::Index, 3> output_shape(const std::array<Eigen::Index, 3>& in) const {
    return {in[0], (twice ? 2 : 1) * in[1], in[2]};
  }
  void operator()(const Tensor& x, double t, Tensor& out) const {
    using Scalar = typename Tensor::Scalar;
    const auto scale = static_cast<Scalar>(1 / (1 + t));
    const Eigen::Index sample = x.dimension(1) * x.dimension(2);
    const Eigen::Index stride = out.dimension(1) * out.dimension(2);
    for (Eigen::Index b = 0; b < x.dimension(0); ++b)
      for (Eigen::Index i = 0; i < stride; ++i) {
        const Scalar z = x.data()[b * sample + i % sample];
        out.data()[b * stride + i] = z / (1 + z * z) + scale;
      }
  }
};

template <class Scalar>
void check_samples(const SamplingPlan& made, const PlanView& compiled) {
  CHECK(SamplingPlan(made).traits() == compiled.traits);
  REQUIRE(made.stages().size() == compiled.stages.size());
  CHECK(std::equal(made.stages().begin(), made.stages().end(), compiled.stages.begin()));

  using Tensor = support::RowMajor<Scalar, 3>;
  const Network<Tensor> network{compiled.learns_variance()};
  const Tensor expected = sample<Tensor>(made, network, {3, 2, 37}, PhiloxNoise{5});
  const Tensor found = sample<Tensor>(compiled, network, {3, 2, 37}, PhiloxNoise{5});
  CHECK(support::same_bits(expected, found));
  CHECK(std::abs(expected(0, 0, 0)) > 0);
}

void check(const SamplingPlan& made, const PlanView& compiled) {
  check_samples<float>(made, compiled);
  check_samples<double>(made, compiled);
}

}  // namespace

TEST_CASE("A compiled plan is the plan, and samples the same bits") {
  SECTION("DDIM") { check(plans::ddim(), ddim_12()); }
  SECTION("DDPM") { check(plans::ddpm(), ddpm_20()); }
  SECTION("DDPM with a learned variance") { check(plans::ddpm_learned(), ddpm_learned_15()); }
  SECTION("a multistep method") { check(plans::multistep(), multistep_8()); }
}
