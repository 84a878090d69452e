// What a sampler is: the weights of its plan, step by step. DDIM with growing eta, whose weight
// goes over from the estimated noise to fresh noise, and DDPM.
#include <diffusion/diffusion.hpp>
#include <support/canvas.hpp>

#include <cstdio>
#include <exception>
#include <string>
#include <utility>
#include <vector>

namespace {

using diffusion::Stage;

void add_weights(examples::Panel& panel, const char* label, const diffusion::SamplingPlan& plan,
                 examples::Color color, double (*weight)(const Stage&)) {
  examples::Series line{.label = label, .color = color, .line_width = 1.2, .dot_radius = 3};
  for (const Stage& stage : plan.stages())
    line.points.push_back({static_cast<double>(stage.step), weight(stage)});
  panel.series.push_back(line);
}

examples::Panel panel_of(const std::string& title, const diffusion::SamplingPlan& plan,
                         bool weighs_state) {
  examples::Panel panel{.title = title,
                        .x = {.label = "step", .low = -0.5, .high = 19.5},
                        .y = {.low = -0.04, .high = 1.5},
                        .legend = examples::Legend::upper_center};
  using examples::series_color;
  add_weights(panel, "x0", plan, series_color(0), [](const Stage& s) { return s.x0; });
  if (weighs_state)
    add_weights(panel, "x", plan, series_color(3), [](const Stage& s) { return s.x; });
  else
    add_weights(panel, "eps", plan, series_color(2), [](const Stage& s) { return s.eps; });
  add_weights(panel, "fresh noise", plan, series_color(1),
              [](const Stage& s) { return s.noise[0].weight; });
  return panel;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const std::string file = argc > 1 ? argv[1] : "plan-weights.png";
    const auto schedule = diffusion::NoiseSchedule<>::linear();
    const diffusion::GridOptions grid{.spacing = diffusion::TimestepSpacing::trailing};
    std::vector<examples::Panel> panels;
    for (const auto& [title, eta] :
         {std::pair{"DDIM, eta = 0", 0.0}, {"DDIM, eta = 0.5", 0.5}, {"DDIM, eta = 1", 1.0}}) {
      const diffusion::DdimSampler ddim{schedule, {.steps = 20, .eta = eta, .grid = grid}};
      panels.push_back(panel_of(title, ddim.plan(), false));
    }
    const diffusion::DdpmSampler ddpm{schedule, {.steps = 20, .grid = grid}};
    panels.push_back(panel_of("DDPM: the same as eta = 1", ddpm.plan(), true));
    examples::write_png(file, examples::draw_panels(panels, 4, 320, 320));
    std::printf("wrote %s\n", file.c_str());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "plan-weights: %s\n", error.what());
    return 1;
  }
}
