// A noise level for each token: a field of 24 x 24 correlated numbers, in tokens of 3 x 3, sampled
// with the exact network, which is told the level of every element. On the left the field is known,
// to the right it is kept less and less (a soft mask), and on the far right it is free.
#include <diffusion/noise/philox.hpp>
#include <diffusion/samplers/ddim.hpp>
#include <diffusion/sampling/sliced.hpp>
#include <diffusion/schedule/noise_schedule.hpp>
#include <diffusion/video/forcing.hpp>
#include <support/contact_sheet.hpp>
#include <support/correlated_field.hpp>
#include <support/gallery_arguments.hpp>

#include <cmath>
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

using examples::Fields;

int main(int argc, char** argv) {
  std::string file = "per-token.png";
  if (const auto code = examples::read_output_argument(argc, argv, "per-token",
                                                       "Fills in a field, token by token.", file))
    return *code;
  try {
    constexpr int side = 24, elements = side * side, tokens = 8;  // 8 x 8 tokens
    const auto token_of = [](int i) { return i / side / 3 * tokens + i % side / 3; };
    const examples::CorrelatedField data(side);
    const Eigen::VectorXf field = data.draw(7).cast<float>();
    Fields x(16, 1, side, side), mask(1, 1, side, side);
    for (Eigen::Index i = 0; i < x.size(); ++i) x.data()[i] = field(i % elements);
    const Fields given = x;

    constexpr int steps = 40;
    std::vector<int> starts(tokens * tokens), map(elements);
    for (int i = 0; i < elements; ++i) {
      const double strength = std::min(1.0, std::max(0.0, (token_of(i) % tokens - 1) / 5.0));
      map[static_cast<std::size_t>(i)] = token_of(i);
      starts[static_cast<std::size_t>(token_of(i))] = diffusion::step_at_strength(steps, strength);
      mask.data()[i] = static_cast<float>(1 - 2 * strength);
    }
    const auto schedule = diffusion::joining(steps, starts);
    const auto slices = diffusion::Slices::by_element(map);
    const auto plan = diffusion::DdimSampler{
        diffusion::NoiseSchedule<>::linear(),
        {.steps = steps,
         .eta = 1}}.plan();
    const diffusion::SampleOptions options{.prediction_type = diffusion::PredictionType::sample};
    diffusion::slice_levels(plan, x, diffusion::PhiloxNoise{1}, slices, schedule, options);
    const Fields start = x;
    diffusion::sample_sliced_in_place(
        plan,
        [&](const Fields& in, const diffusion::Query& query, Fields& x0) {
          data.clean(in, query, token_of, x0);
        },
        x, diffusion::PhiloxNoise{1}, slices, schedule, options);

    double kept = 0, changed[tokens] = {};
    for (Eigen::Index i = 0; i < x.size(); ++i) {
      const double d = static_cast<double>(std::abs(x.data()[i] - given.data()[i]));
      const int column = static_cast<int>(i % side) / 3;
      changed[column] += d / static_cast<double>(x.size() / tokens);
      if (column < 2) kept = std::max(kept, d);
    }
    std::printf("known tokens: largest difference %g\nmean difference by column:", kept);
    for (const double d : changed) std::printf(" %.3f", d);
    examples::ContactSheet sheet(1);
    sheet.add("the field, and how much of it is kept",
              {examples::tiles_of(given)[0], examples::tiles_of(mask)[0]});
    sheet.add("where the run starts: each token at its own level", examples::tiles_of(start));
    sheet.add("where it ends, seeds 0 to 15", examples::tiles_of(x));
    examples::write_png(file, sheet.image());
    std::printf("\nwrote %s\n", file.c_str());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "per-token: %s\n", error.what());
    return 1;
  }
}
