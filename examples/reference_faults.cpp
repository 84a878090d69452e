// Two faults of the reference, by the error on data whose exact flow is known: third-order
// DPM-Solver++ that is of second order, and PNDM of a network that predicts v.
#include <diffusion/interop/diffusers_config.hpp>
#include <diffusion/samplers/dpm_solver.hpp>
#include <diffusion/schedule/continuous.hpp>
#include <support/canvas.hpp>
#include <three_peaks.hpp>

#include <array>
#include <cstdio>
#include <exception>
#include <functional>
#include <string>
#include <vector>

namespace {

using diffusion::Behaviour;
using diffusion::ThirdOrder;

constexpr int points = 200;

double third_order(int order, ThirdOrder third, int steps) {
  const diffusion::GridOptions even_in_log_snr{
      .set_alpha_to_one = false, .sigmas = {.rule = diffusion::SigmaRule::exponential}};
  const diffusion::DpmSolverSampler sampler{diffusion::VpLinear(),
                                            {.steps = steps,
                                             .order = order,
                                             .lower_order_final = diffusion::LowerOrderFinal::never,
                                             .third_order = third,
                                             .grid = even_in_log_snr}};
  return examples::three_peaks::flow_error(sampler.plan(), points);
}

double pndm_of_v(Behaviour behaviour, int steps) {
  const auto config = diffusion::parse_diffusers_config(
      R"({"_class_name": "PNDMScheduler", "skip_prk_steps": true, "steps_offset": 1,
          "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012,
          "prediction_type": "v_prediction"})",
      {.behaviour = behaviour});
  return examples::three_peaks::flow_error(config.plan(steps), points, config.prediction_type);
}

/// Adds a line, and prints its errors.
void add(examples::Panel& panel, const std::string& label, const std::vector<int>& steps,
         const std::function<double(int)>& error) {
  std::vector<double> xs, ys;
  std::printf("%-28s", label.c_str());
  for (const int n : steps) {
    xs.push_back(n);
    ys.push_back(error(n));
    std::printf("  %.1e", ys.back());
  }
  std::printf("\n");
  panel.add_line(label, xs, ys);
  panel.series.back().dot_radius = 3;
}

examples::Panel empty(const std::string& title) {
  return {.title = title,
          .x = {.label = "steps", .logarithmic = true},
          .y = {.label = "distance from the exact flow", .logarithmic = true},
          .legend = examples::Legend::lower_left};
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const std::string file = argc > 1 ? argv[1] : "reference-faults.png";
    std::array panels{empty("DPM-Solver++, multistep"), empty("PNDM (PLMS), network predicts v")};
    const std::vector<int> steps{20, 40, 80, 160, 320, 640};
    add(panels[0], "order 2", steps, [](int n) { return third_order(2, ThirdOrder::exact, n); });
    add(panels[0], "order 3 as in diffusers", steps,
        [](int n) { return third_order(3, ThirdOrder::diffusers, n); });
    add(panels[0], "order 3", steps, [](int n) { return third_order(3, ThirdOrder::exact, n); });
    const std::vector<int> fewer{10, 20, 40, 100, 200, 500};
    add(panels[1], "history of v, as in diffusers", fewer,
        [](int n) { return pndm_of_v(Behaviour::compatible, n); });
    add(panels[1], "history of epsilon", fewer,
        [](int n) { return pndm_of_v(Behaviour::correct, n); });
    examples::write_png(file, examples::draw_panels(panels, 2, 480, 360));
    std::printf("wrote %s\n", file.c_str());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "reference-faults: %s\n", error.what());
    return 1;
  }
}
