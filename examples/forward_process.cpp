// The forward process in pictures: a digit noised at ten levels, and alpha, sigma and log-SNR of
// every schedule as curves. The digit is sampled from the bundled network, and noised as in its
// training.
#include <diffusion/diffusion.hpp>
#include <support/canvas.hpp>
#include <support/image.hpp>
#include <support/model_folder.hpp>
#include <support/names.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <exception>
#include <span>
#include <string>
#include <vector>

namespace {

using Picture = nn::Unet2d<float>::Batch;

Picture sample_digit(examples::Model& model, int digit) {
  const diffusion::DdimSampler sampler{
      model.scheduler.schedule<double>(),
      {.steps = 25, .grid = {.spacing = diffusion::TimestepSpacing::trailing}}};
  diffusion::ClassifierFreeGuidance guided{examples::conditional(model.network),
                                           std::vector<int>{digit},
                                           model.null_class(),
                                           {.scale = 2}};
  const auto& config = model.network.config();
  return diffusion::sample<Picture>(
      sampler, guided, {1, config.in_channels, model.height(), model.width()},
      diffusion::PhiloxNoise{3}, {.prediction_type = model.scheduler.prediction_type});
}

// Copies of the picture, each at its own timestep, in one call.
void draw_noised(const Picture& picture, const diffusion::NoiseSchedule<>& schedule,
                 const std::string& file) {
  std::vector<double> timesteps;
  for (const double percent : {0, 5, 10, 20, 30, 40, 50, 60, 80, 100})
    timesteps.push_back(
        std::floor(std::min(percent * schedule.train_timesteps() / 100, schedule.last_time())));
  const auto copies = static_cast<int>(timesteps.size());
  const Picture x0 = picture.broadcast(Eigen::array<Eigen::Index, 4>{copies, 1, 1, 1});
  Picture eps(x0.dimensions());
  diffusion::TorchCpuNoise{5}.fill(
      std::span<float>(eps.data(), static_cast<std::size_t>(eps.size())));
  const diffusion::ForwardDiffusion<> forward{schedule};
  const Picture noised = forward.add_noise(x0, eps, timesteps);

  examples::Canvas canvas(copies * 96 + 8, 96 + 30);
  const auto pixels = static_cast<std::size_t>(picture.size());
  for (std::size_t i = 0; i < timesteps.size(); ++i) {
    const auto tile = examples::image_from_planes(
        std::span<const float>(noised.data() + i * pixels, pixels),
        static_cast<int>(picture.dimension(1)), static_cast<int>(picture.dimension(2)),
        static_cast<int>(picture.dimension(3)));
    const int left = 8 + static_cast<int>(i) * 96;
    canvas.picture(tile, left, 8, 88 / tile.width);
    canvas.text({left + 42.0, 116.0}, "t = " + std::to_string(static_cast<int>(timesteps[i])), 9,
                examples::black, examples::Align::center);
  }
  examples::write_png(file, canvas.image());
}

struct Curves {
  examples::Panel alpha{
      .title = "alpha(t)", .x = {.label = "t / T"}, .legend = examples::Legend::none};
  examples::Panel sigma{
      .title = "sigma(t)", .x = {.label = "t / T"}, .legend = examples::Legend::none};
  examples::Panel log_snr{.title = "log SNR(t)",
                          .x = {.label = "t / T"},
                          .y = {.low = -14, .high = 36},
                          .legend = examples::Legend::upper_right};

  template <class S>
  void add(const std::string& name, const S& schedule) {
    std::vector<double> t, a, s, l;
    for (int i = 1; i < 500; ++i) {
      const double share = i / 500.0;
      const double time =
          schedule.first_time() + share * (schedule.last_time() - schedule.first_time());
      t.push_back(share);
      a.push_back(schedule.alpha(time));
      s.push_back(schedule.sigma(time));
      l.push_back(diffusion::log_snr_at(schedule, time));
    }
    alpha.add_line(name, t, a);
    if (s.back() > 1.01) s.assign(s.size(), std::nan(""));  // of another order than the others
    sigma.add_line(name, t, s);
    log_snr.add_line(name, t, l);
  }
};

void draw_schedules(const std::string& file) {
  Curves discrete;
  for (const auto& [name, kind] : examples::beta_schedule_names())
    discrete.add(name, diffusion::NoiseSchedule<>::make(kind));
  Curves continuous;
  continuous.add("VP linear", diffusion::VpLinear{});
  continuous.add("VP cosine", diffusion::VpCosine{});
  continuous.add("rectified flow", diffusion::RectifiedFlow{});
  continuous.add("VE", diffusion::VarianceExploding{});
  continuous.sigma.title = "sigma(t), without VE (to 50)";
  const std::vector<examples::Panel> panels{discrete.alpha,   discrete.sigma,   discrete.log_snr,
                                            continuous.alpha, continuous.sigma, continuous.log_snr};
  examples::write_png(file, examples::draw_panels(panels, 3, 430, 330));
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const std::string folder = argc > 1 ? argv[1] : "examples/models/digits-and-clothing";
    const std::string out = argc > 2 ? std::string(argv[2]) + "/" : "";
    auto model = examples::load_model(folder);
    draw_noised(sample_digit(model, 5), model.scheduler.schedule<double>(),
                out + "forward-noising.png");
    draw_schedules(out + "schedules.png");
    std::printf("wrote %sforward-noising.png and %sschedules.png\n", out.c_str(), out.c_str());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "forward-process: %s\n", error.what());
    return 1;
  }
}
