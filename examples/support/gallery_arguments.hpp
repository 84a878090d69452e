#ifndef DIFFUSION_EXAMPLES_GALLERY_ARGUMENTS_HPP
#define DIFFUSION_EXAMPLES_GALLERY_ARGUMENTS_HPP

#include <optional>
#include <string>

namespace examples {

/// What every program of the gallery takes on its command line.
struct GalleryArguments {
  std::string model = "examples/models/digits-and-clothing";
  std::string judge = "examples/models/digits-and-clothing-classifier";
  std::string output;  ///< the picture
  int count = 16;      ///< pictures: seeds 0 to count - 1
  bool score = false;  ///< judge them with the classifier
  int shown = 16;      ///< of these, so many are in the picture, from seed 0 on
};

/// Reads the command line of `program`, which `does` something and writes `output`. Where there is
/// nothing to be run (--help, a mistake: then one line was printed), the exit code.
std::optional<int> read_gallery_arguments(int argc, char** argv, const std::string& program,
                                          const std::string& does, GalleryArguments& arguments);

/// The same for a program without a network, which takes only --output FILE and --help.
std::optional<int> read_output_argument(int argc, char** argv, const std::string& program,
                                        const std::string& does, std::string& output);

}  // namespace examples

#endif  // DIFFUSION_EXAMPLES_GALLERY_ARGUMENTS_HPP
