// Decoding by tiles: a small made-up decoder (it looks 3 latents around and makes 4 x 4 pixels of
// each) on a latent as a whole, and in tiles. Below each picture, twenty times its error.
#include <diffusion/latent/tiling.hpp>
#include <diffusion/noise/philox.hpp>
#include <support/contact_sheet.hpp>
#include <support/gallery_arguments.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <exception>
#include <span>
#include <string>
#include <vector>

namespace {

using Tensor = Eigen::Tensor<float, 4, Eigen::RowMajor>;
constexpr Eigen::Index factor = 4, reach = 3;

// A pixel is a sum over the latents around its own, bent to [-1, 1].
void decode(const Tensor& z, Tensor& picture) {
  for (Eigen::Index i = 0; i < picture.dimension(2); ++i)
    for (Eigen::Index j = 0; j < picture.dimension(3); ++j) {
      const float y = (static_cast<float>(i) + 0.5F) / factor - 0.5F;
      const float x = (static_cast<float>(j) + 0.5F) / factor - 0.5F;
      float sum = 0;
      for (Eigen::Index a = -reach; a <= reach; ++a)
        for (Eigen::Index b = -reach; b <= reach; ++b) {
          const Eigen::Index row = i / factor + a, column = j / factor + b;
          if (row < 0 || row >= z.dimension(2) || column < 0 || column >= z.dimension(3)) continue;
          const float dy = y - static_cast<float>(row), dx = x - static_cast<float>(column);
          sum += z(0, 0, row, column) * std::exp(-(dy * dy + dx * dx) / 3);
        }
      picture(0, 0, i, j) = std::tanh(sum / 2);
    }
}

void make(const std::string& file) {
  Tensor z(1, 1, 24, 36);
  diffusion::PhiloxNoise{4}.fill(0, 0, 0, std::span(z.data(), 24 * 36));
  diffusion::LatentCodec codec([](const Tensor& x) { return x; },  // nothing is encoded here
                               decode, diffusion::CodecShape{1, 1, 1, {{2, factor}, {3, factor}}});
  const Tensor whole = codec.decode(z);
  examples::ContactSheet sheet(4);
  std::vector<examples::Image> errors;
  const auto show = [&](const std::string& name, const Tensor& picture) {
    const Tensor error = (picture - whole).abs();
    const float worst = *std::max_element(error.data(), error.data() + error.size());
    std::printf("%-24s largest error %.2g\n", name.c_str(), static_cast<double>(worst));
    sheet.add(name, examples::tiles_of(picture));
    errors.push_back(examples::tiles_of(Tensor(20.0F * error - 1.0F))[0]);
  };
  show("whole", whole);
  const auto tiled = [&](Eigen::Index overlap, Eigen::Index margin) {
    return tiled_decode(codec, z, {{2, 12, overlap, margin}, {3, 12, overlap, margin}});
  };
  show("no overlap", tiled(0, 0));
  show("overlap 6, blended", tiled(6, 0));
  show("overlap 6, margin 3", tiled(6, 3));
  for (const examples::Image& error : errors) sheet.add("error x 20", {error});
  examples::write_png(file, sheet.image());
  std::printf("wrote %s\n", file.c_str());
}

}  // namespace

int main(int argc, char** argv) {
  std::string file = "tiled-decode.png";
  if (const auto code = examples::read_output_argument(argc, argv, "tiled-decode",
                                                       "Decodes a latent by tiles.", file))
    return *code;
  try {
    make(file);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "tiled-decode: %s\n", error.what());
    return 1;
  }
}
