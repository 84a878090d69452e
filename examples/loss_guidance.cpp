// Guidance by a loss: pictures that are to be as bright as asked for, or the same left and right,
// by the gradient of a function of x0 that no network has learned.
#include <diffusion/guidance/loss_guidance.hpp>
#include <diffusion/samplers/ddim.hpp>
#include <support/gallery.hpp>

#include <cstdio>
#include <string>
#include <vector>

namespace {

using diffusion::Query;
using examples::Pictures;

Pictures mirrored(const Pictures& x) {
  return x.reverse(Eigen::array<bool, 4>{false, false, false, true});
}

double brightness(const Pictures& x) {
  const Eigen::Tensor<float, 0, Eigen::RowMajor> mean = x.mean();
  return static_cast<double>(mean(0));
}

// The gradient of n / 2 (mean - wanted)^2 for each picture of n pixels: a step of length 1 along it
// makes the mean what is wanted.
auto brightness_gradient(float wanted) {
  return [wanted](const Pictures& x0, const Query&, Pictures& out) {
    const Eigen::array<Eigen::Index, 4> one{x0.dimension(0), 1, 1, 1};
    const Eigen::array<Eigen::Index, 4> all{1, x0.dimension(1), x0.dimension(2), x0.dimension(3)};
    const Eigen::Tensor<float, 1, Eigen::RowMajor> mean = x0.mean(Eigen::array<int, 3>{1, 2, 3});
    out = (mean - wanted).reshape(one).broadcast(all);
  };
}

// The gradient of |x0 - mirrored x0|^2 / 4: a step of 1 / 2 along it makes the two the same.
void asymmetry_gradient(const Pictures& x0, const Query&, Pictures& out) {
  out = x0 - mirrored(x0);
}

void make(examples::Gallery& gallery) {
  const diffusion::DdimSampler sampler{
      gallery.schedule(), {.steps = 25, .grid = {.spacing = diffusion::TimestepSpacing::trailing}}};
  const std::vector<int> labels = gallery.labels();
  const auto add = [&](const std::string& title, const Pictures& pictures) {
    gallery.add(title, pictures, labels);
    std::printf("%-44s brightness %.3f, asymmetry %.3f\n", title.c_str(), brightness(pictures),
                examples::mean_distance(pictures, mirrored(pictures)));
  };
  const auto with_loss = [&](const auto& gradient, double strength) {
    const auto fading_in = [strength](const Query& query) { return strength * query.alpha; };
    diffusion::LossGuidance steered{gallery.guided(labels), gradient, {.strength_at = fading_in}};
    return gallery.sample(sampler, steered);
  };

  add("no loss", gallery.sample(sampler, gallery.guided(labels)));
  add("mean -0.8, k = 0.2 alpha", with_loss(brightness_gradient(-0.8F), 0.2));
  add("mean -0.2, k = 0.2 alpha", with_loss(brightness_gradient(-0.2F), 0.2));
  add("symmetric, k = 0.05 alpha", with_loss(asymmetry_gradient, 0.05));
  add("symmetric, k = 0.25 alpha", with_loss(asymmetry_gradient, 0.25));
}

}  // namespace

int main(int argc, char** argv) {
  return examples::gallery(argc, argv, "loss-guidance",
                           "steers pictures by the gradient of a loss on x0", make);
}
