// Three ways to treat the estimate of a clean picture under guidance, side by side: the same
// network, seed and steps. See docs/clipping.md.
#include <diffusion/diffusion.hpp>
#include <support/canvas.hpp>
#include <support/model_folder.hpp>
#include <support/progress.hpp>

#include <algorithm>
#include <array>
#include <cstdio>
#include <exception>
#include <numeric>
#include <span>
#include <string>
#include <thread>
#include <vector>

namespace {

struct Rule {
  const char* title;
  diffusion::Clipping clipping;
  diffusion::EpsilonRule epsilon;
};

using diffusion::Clipping;
using diffusion::EpsilonRule;
const std::array<Rule, 3> rules{
    {{"no clipping", Clipping::none(), EpsilonRule::rederived},
     {"clipped x0, epsilon re-derived from it", Clipping::range(1), EpsilonRule::rederived},
     {"clipped x0 beside the raw epsilon", Clipping::range(1), EpsilonRule::raw}}};

}  // namespace

int main(int argc, char** argv) {
  try {
    const std::string folder = argc > 1 ? argv[1] : "examples/models/digits-and-clothing";
    const std::string file = argc > 2 ? argv[2] : "clipping-rules.png";
    auto model = examples::load_model(folder);
    model.network.set_threads(static_cast<int>(std::max(1u, std::thread::hardware_concurrency())));
    std::vector<int> labels(static_cast<std::size_t>(model.null_class()));
    std::iota(labels.begin(), labels.end(), 0);
    const auto classes = static_cast<int>(labels.size());

    constexpr int side = 56;
    constexpr int margin = 22;
    examples::Canvas canvas(classes * side, static_cast<int>(rules.size()) * (side + margin));
    examples::Progress progress("sampling", 50 * static_cast<long>(rules.size()));
    int top = 0;
    for (const Rule& rule : rules) {
      const diffusion::DdimSampler sampler{
          model.scheduler.schedule<double>(),
          {.steps = 50,
           .grid = {.spacing = diffusion::TimestepSpacing::trailing},
           .clipping = rule.clipping,
           .epsilon = rule.epsilon}};
      diffusion::ClassifierFreeGuidance guided{
          examples::conditional(model.network), labels, model.null_class(), {.scale = 2}};
      using Pictures = nn::Unet2d<float>::Batch;
      const Pictures pictures = diffusion::sample<Pictures>(
          sampler, guided,
          {classes, model.network.config().in_channels, model.height(), model.width()},
          diffusion::PhiloxNoise{1}, {.prediction_type = model.scheduler.prediction_type},
          [&](const auto&) { progress.advance(); });
      canvas.text({4, top + 15.0}, rule.title, 10);
      const auto size = static_cast<std::size_t>(pictures.size() / classes);
      for (int i = 0; i < classes; ++i) {
        const auto tile = examples::image_from_planes(
            std::span<const float>(pictures.data() + static_cast<std::size_t>(i) * size, size),
            static_cast<int>(pictures.dimension(1)), static_cast<int>(pictures.dimension(2)),
            static_cast<int>(pictures.dimension(3)));
        canvas.picture(tile, i * side, top + margin, side / tile.width);
      }
      top += side + margin;
    }
    examples::write_png(file, canvas.image());
    std::printf("wrote %s\n", file.c_str());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "clipping-rules: %s\n", error.what());
    return 1;
  }
}
