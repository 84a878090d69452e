// Prompt-to-prompt on a network of classes: the attention of one run, put into a run of another
// class from the same noise, keeps where things are.
#include <diffusion/diffusion.hpp>
#include <support/attention_store.hpp>
#include <support/background.hpp>
#include <support/gallery.hpp>

#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

using examples::Gallery;
using examples::Pictures;

namespace {

void edit(Gallery& gallery) {
  constexpr int steps = 20;
  const std::vector<int> before = gallery.labels(), after = examples::partners_of(before);
  const diffusion::DdimSampler sampler{
      gallery.schedule(),
      {.steps = steps, .grid = {.spacing = diffusion::TimestepSpacing::trailing}}};
  examples::AttentionStore attention(gallery.model().network);
  const auto guided = [&](const std::vector<int>& labels) {
    return diffusion::ClassifierFreeGuidance{
        attention.network(), labels, gallery.model().null_class(), {.scale = 2}};
  };

  attention.record(steps);
  const Pictures pictures = gallery.sample(sampler, guided(before));
  gallery.add("the first class", pictures, before);
  for (const double share : {0.0, 0.25, 0.5, 1.0}) {
    const int stages = static_cast<int>(std::lround(share * steps));
    attention.inject(stages);
    const Pictures edited = gallery.sample(sampler, guided(after));
    const std::string title =
        "the other class, attention of the first for " + std::to_string(stages) + " of 20 steps";
    gallery.add(title, edited, after);
    std::printf("%s: changed by %.3f, outside the object by %.4f\n", title.c_str(),
                examples::mean_distance(edited, pictures),
                examples::background_difference(edited, pictures));
  }
}

}  // namespace

int main(int argc, char** argv) {
  return examples::gallery(argc, argv, "attention-edit",
                           "puts the attention of one class's run into that of another", edit);
}
