// A thousand small steps of noise, and one jump to the same level: the same distribution. Writes a
// digit on its way by either, and prints what the steps make of its mean and its variance.
#include <diffusion/diffusion.hpp>
#include <support/contact_sheet.hpp>
#include <support/studio.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

namespace {

using examples::Pictures;
constexpr int shown[] = {0, 49, 99, 199, 299, 399, 499, 699, 999};

bool is_shown(int t) { return std::ranges::find(shown, t) != std::end(shown); }

}  // namespace

int main(int argc, char** argv) {
  try {
    const std::string folder = argc > 1 ? argv[1] : "examples/models/digits-and-clothing";
    const std::string file = argc > 2 ? argv[2] : "learn-chain-and-jump.png";
    examples::Studio studio(folder);
    const diffusion::DdimSampler sampler{
        studio.schedule(),
        {.steps = 25, .grid = {.spacing = diffusion::TimestepSpacing::trailing}}};
    const Pictures digit = studio.sample(sampler, {5}, 2, 3);
    const diffusion::ForwardDiffusion<> forward{studio.schedule()};

    std::vector<examples::Image> chain = examples::tiles_of(digit);
    std::vector<examples::Image> jump = chain;
    Pictures x = digit;
    double weight = 1, variance = 0;  // x_t = weight x_0 + noise of this variance, step by step
    std::printf("   t   steps: weight, variance       jump: alpha, sigma^2\n");
    for (int t = 0; t < forward.schedule().train_timesteps(); ++t) {
      const diffusion::GaussianKernel step = forward.one_step(t);
      const auto keep = static_cast<float>(step.from_x);
      const auto add = static_cast<float>(std::sqrt(step.variance));
      x = keep * x + add * studio.noise(1, static_cast<std::uint64_t>(1000 + t));
      weight *= step.from_x;
      variance = step.from_x * step.from_x * variance + step.variance;
      if (!is_shown(t)) continue;

      const diffusion::GaussianKernel closed = forward.marginal(t);
      std::printf("%4d   %.12f %.12f   %.12f %.12f\n", t, weight, variance, closed.from_x0,
                  closed.variance);
      chain.push_back(examples::tiles_of(x).front());
      jump.push_back(examples::tiles_of(forward.add_noise(digit, studio.noise(1, 7),
                                                          std::vector<double>{double(t)}))
                         .front());
    }
    examples::ContactSheet sheet(1, 3);
    sheet.add("x0, then t = 0, 49, 99, 199, 299, 399, 499, 699, 999: step by step, q(x_t | x_t-1)",
              chain);
    sheet.add("in one jump, q(x_t | x_0)", jump);
    examples::write_png(file, sheet.image());
    std::printf("wrote %s\n", file.c_str());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "chain-and-jump: %s\n", error.what());
    return 1;
  }
}
