#ifndef DIFFUSION_EXAMPLES_GALLERY_HPP
#define DIFFUSION_EXAMPLES_GALLERY_HPP

#include <diffusion/guidance/classifier_free.hpp>
#include <diffusion/noise/philox.hpp>
#include <support/contact_sheet.hpp>
#include <support/gallery_arguments.hpp>
#include <support/judge.hpp>
#include <support/studio.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace examples {

/// Noise in which every picture of a batch has a seed of its own: picture i has seed first + i, so
/// it does not depend on what else is in the batch.
struct SeedPerPicture {
  std::uint64_t first = 0;
  void fill(std::uint64_t sample, std::uint64_t draw, std::uint64_t element,
            std::span<float> out) const {
    diffusion::PhiloxNoise{first + sample}.fill(0, draw, element, out);
  }
};

/// What the programs of the gallery share: the network, one seed a picture, strips of pictures
/// under titles, a classifier that judges them, and the writing of one PNG.
class Gallery {
 public:
  explicit Gallery(GalleryArguments arguments)
      : arguments_(std::move(arguments)), studio_(arguments_.model), sheet_(1) {
    if (arguments_.score) judge_.emplace(arguments_.judge);
  }

  Studio& studio() { return studio_; }
  Model& model() { return studio_.model(); }
  diffusion::NoiseSchedule<> schedule() const { return studio_.schedule(); }
  const GalleryArguments& arguments() const { return arguments_; }
  std::size_t count() const { return static_cast<std::size_t>(arguments_.count); }
  bool scores() const { return judge_.has_value(); }

  /// The class of each picture, classes from `first` on in turn, `classes` of them.
  std::vector<int> labels(int first = 0, int classes = 20) const {
    std::vector<int> labels;
    for (int i = 0; i < arguments_.count; ++i) labels.push_back(first + i % classes);
    return labels;
  }

  /// Standard normal pictures, seed i for picture i.
  Pictures noise(std::uint64_t first_seed = 0) {
    Pictures x(static_cast<Eigen::Index>(count()),
               static_cast<Eigen::Index>(model().network.config().in_channels), model().height(),
               model().width());
    const std::size_t size = static_cast<std::size_t>(x.size()) / count();
    for (std::size_t i = 0; i < count(); ++i)
      SeedPerPicture{first_seed}.fill(i, 0, 0, std::span<float>(x.data() + i * size, size));
    return x;
  }

  /// The network under classifier-free guidance, one class for each picture.
  auto guided(std::vector<int> labels, double scale = 2) {
    return diffusion::ClassifierFreeGuidance{
        conditional(model().network), std::move(labels), model().null_class(), {.scale = scale}};
  }

  /// Pictures by a plan or sampler from noise, seed i for picture i. `edits` go to the run.
  template <class Plan, class Denoiser, class... Edits>
  Pictures sample(const Plan& plan, Denoiser&& denoiser, Edits&&... edits) {
    Pictures x = noise();
    run(plan, denoiser, x, std::forward<Edits>(edits)...);
    return x;
  }

  /// Runs a plan or sampler from the state x.
  template <class Plan, class Denoiser, class... Edits>
  void run(const Plan& plan, Denoiser&& denoiser, Pictures& x, Edits&&... edits) {
    diffusion::sample_in_place(plan, denoiser, x, SeedPerPicture{0},
                               {.prediction_type = model().scheduler.prediction_type},
                               std::forward<Edits>(edits)...);
  }

  /// A strip of the first pictures under a title; where pictures are judged, prints how many of
  /// them are recognised as what `labels` say (none given: not judged).
  void add(const std::string& title, const Pictures& pictures,
           const std::vector<int>& labels = {}) {
    std::vector<Image> tiles = tiles_of(pictures);
    tiles.resize(std::min(tiles.size(), static_cast<std::size_t>(arguments_.shown)));
    sheet_.add(title, std::move(tiles));
    if (judge_ && !labels.empty())
      std::printf("%-44s %5.1f %% of %zu recognised\n", title.c_str(),
                  100 * judge_->recognised(pictures, labels), labels.size());
  }
  Judge* judge() { return judge_ ? &*judge_ : nullptr; }
  ContactSheet& sheet() { return sheet_; }

  void write() const {
    write_png(arguments_.output, sheet_.image());
    std::printf("wrote %s\n", arguments_.output.c_str());
  }

 private:
  GalleryArguments arguments_;
  Studio studio_;
  ContactSheet sheet_;
  std::optional<Judge> judge_;
};

/// main() of a program of the gallery: reads the command line, calls body(Gallery&), writes its
/// strips to `program`.png. Returns the exit code: 2 for a bad command line, 1 for what failed.
template <class Body>
int gallery(int argc, char** argv, const std::string& program, const std::string& does,
            const Body& body) {
  GalleryArguments arguments;
  arguments.output = program + ".png";
  if (const auto code = read_gallery_arguments(argc, argv, program, does, arguments)) return *code;
  try {
    Gallery made(arguments);
    body(made);
    made.write();
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s: %s\n", program.c_str(), error.what());
    return 1;
  }
}

}  // namespace examples

#endif  // DIFFUSION_EXAMPLES_GALLERY_HPP
