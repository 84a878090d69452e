// FreeInit: a clip is sampled several times, each time from noise whose low frequencies over frames
// and pixels are those of the last result, noised again. The runs start at t = 749, where the
// network expects a little signal that plain noise has not, as many video models do at their first
// step. Each picture is a frame, the batch the clip.
#include <diffusion/diffusion.hpp>
#include <diffusion/video/free_init.hpp>
#include <support/clip_measures.hpp>
#include <support/gallery.hpp>

#include <cstdio>
#include <string>
#include <vector>

namespace {

void make(examples::Gallery& gallery) {
  const diffusion::Grid grid =
      make_grid(gallery.schedule(), 20, {.spacing = diffusion::TimestepSpacing::trailing}).cut(5);
  const diffusion::SamplingPlan plan =
      make_plan(grid, diffusion::DpmSolverOptions{.clipping = diffusion::Clipping::range(1)});
  std::printf("starts at t = %.0f, alpha = %.3f\n", plan[0].at.t, plan[0].at.alpha);
  for (const int label : {3, 18}) {  // threes and bags
    const std::vector<int> labels(gallery.count(), label);
    const auto frames = static_cast<Eigen::Index>(gallery.count());
    for (const int runs : {1, 2, 4}) {
      const auto clip = diffusion::sample_free_init<examples::Pictures>(
          plan, gallery.guided(labels, 1), {frames, 1, 28, 28}, diffusion::PhiloxNoise{0},
          {.iterations = runs,
           .filter = diffusion::FrequencyFilter::gaussian(),
           .axes = {{0, 0.25}, {2, 0.5}, {3, 0.5}}},
          {.prediction_type = gallery.model().scheduler.prediction_type});
      const std::string name = std::to_string(runs) + (runs == 1 ? " run" : " runs");
      std::printf("class %2d, %-7s a frame differs from the next by %.3f\n", label, name.c_str(),
                  examples::flicker(clip, frames));
      gallery.add("class " + std::to_string(label) + ", " + name, clip, labels);
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  return examples::gallery(argc, argv, "free-init", "shows clips by FreeInit", make);
}
