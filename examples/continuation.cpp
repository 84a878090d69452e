// Continuation: of each picture the left half is known, the right half is sampled by a network that
// is not told the class: by replacement, and with reconstruction guidance beside. Judged by whether
// what comes out is of the class that the left half came from. Columns stand for frames: a clip is
// continued by the same lines.
#include <diffusion/diffusion.hpp>
#include <diffusion/inverse/jacobians.hpp>
#include <diffusion/video/continuation.hpp>
#include <support/clip_measures.hpp>
#include <support/gallery.hpp>

#include <cstdio>
#include <string>
#include <vector>

namespace {

constexpr Eigen::Index known = 14, width = 28;

void make(examples::Gallery& gallery) {
  using examples::Pictures;
  const diffusion::SamplingPlan plan = diffusion::DdimSampler{
      gallery.schedule(),
      {.steps = 20,
       .grid = {.spacing = diffusion::TimestepSpacing::trailing},
       .clipping =
           diffusion::Clipping::range(1)}}.plan();
  const auto labels = gallery.labels();
  const Pictures whole = gallery.sample(plan, gallery.guided(labels));
  Pictures left(whole.dimension(0), 1, 28, known);
  diffusion::copy_frames(whole, 0, left, 0, known, 3);
  const auto report = [&](const std::string& name, const Pictures& pictures) {
    const auto steps = examples::column_steps(pictures, {known});
    std::printf("%-30s step to the next column: %.3f at the middle, %.3f elsewhere\n", name.c_str(),
                steps.at_seams, steps.elsewhere);
    gallery.add(name, pictures, labels);
  };
  report("the pictures", whole);
  const Pictures picture = diffusion::with_frames_after(left, width, 3);
  gallery.add("what is known of them", picture);
  const auto mask = diffusion::first_frames_mask<Pictures>(
      diffusion::StateTraits<Pictures>::shape(picture), 3, known);
  for (const double weight : {0.0, 2.0, 6.0}) {
    const diffusion::SymmetricJacobian network{gallery.guided(labels, 0)};  // scale 0: no class
    diffusion::ReconstructionGuidance guided{network, network, picture, mask,
                                             diffusion::ReconstructionOptions{.weight = weight}};
    Pictures x = gallery.noise(1000);
    gallery.run(plan, guided, x,
                diffusion::continue_by_replacement(left, width, 3, examples::SeedPerPicture{2000}));
    report(weight == 0 ? "replacement" : "guided, weight " + std::to_string(int(weight)), x);
  }
}

}  // namespace

int main(int argc, char** argv) {
  return examples::gallery(argc, argv, "continuation", "continues half pictures", make);
}
