#include "catch.hpp"

#include <diffusion/latent/codec.hpp>
#include <diffusion/latent/tiling.hpp>
#include <diffusion/noise/philox.hpp>
#include <diffusion/samplers/ddim.hpp>
#include <diffusion/sampling/sample.hpp>
#include <diffusion/schedule/noise_schedule.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "support.hpp"

using namespace diffusion;

namespace {

using Picture = Eigen::Tensor<double, 4, Eigen::RowMajor>;  // batch, channel, height, width
using Clip = Eigen::Tensor<double, 3, Eigen::RowMajor>;     // batch, channel, frame
using Index = Eigen::Index;

/// x convolved with (1, .., 1) of this radius over dimension 2 or 3, zeros outside.
Picture box_blur(const Picture& x, Index radius, std::size_t dimension) {
  Picture y(x.dimensions());
  y.setZero();
  const Index extent = x.dimension(dimension);
  for (Index b = 0; b < x.dimension(0); ++b)
    for (Index c = 0; c < x.dimension(1); ++c)
      for (Index i = 0; i < x.dimension(2); ++i)
        for (Index j = 0; j < x.dimension(3); ++j)
          for (Index k = -radius; k <= radius; ++k) {
            const Index at = (dimension == 2 ? i : j) + k;
            if (at < 0 || at >= extent) continue;
            y(b, c, i, j) += (dimension == 2 ? x(b, c, at, j) : x(b, c, i, at)) /
                             static_cast<double>(2 * radius + 1 + std::abs(k));
          }
  return y;
}

/// A convolutional autoencoder that looks `radius` latents around: 2 channels, 1 latent channel,
/// factor 4 in height and 2 in width.
constexpr Index tall = 4, wide = 2, radius = 2;
struct Decode {
  void operator()(const Picture& z, Picture& x) const {
    const Picture seen = box_blur(box_blur(z, radius, 2), radius, 3);
    for (Index b = 0; b < x.dimension(0); ++b)
      for (Index c = 0; c < 2; ++c)
        for (Index i = 0; i < x.dimension(2); ++i)
          for (Index j = 0; j < x.dimension(3); ++j)
            x(b, c, i, j) = static_cast<double>(1 + c) * seen(b, 0, i / tall, j / wide) +
                            0.1 * static_cast<double>((i % tall) * (j % wide));
  }
};
struct Encode {
  Picture operator()(const Picture& x) const {
    Picture z(x.dimension(0), 1, x.dimension(2) / tall, x.dimension(3) / wide);
    z.setZero();
    for (Index b = 0; b < x.dimension(0); ++b)
      for (Index i = 0; i < x.dimension(2); ++i)
        for (Index j = 0; j < x.dimension(3); ++j)
          z(b, 0, i / tall, j / wide) += (x(b, 0, i, j) - x(b, 1, i, j)) / double(tall * wide);
    return box_blur(box_blur(z, radius, 2), radius, 3);
  }
};
CodecShape picture_shape() { return {1, 2, 1, {{2, tall}, {3, wide}}}; }
auto picture_codec(LatentScaling scaling = {}) {
  return LatentCodec(Encode{}, Decode{}, picture_shape(), std::move(scaling));
}

/// A causal autoencoder of frames that looks `past` latents back, factor 3: the first latent is the
/// first frame.
constexpr Index past = 2, every = 3;
Clip look_back(const Clip& z) {
  Clip seen(z.dimensions());
  for (Index b = 0; b < z.dimension(0); ++b)
    for (Index f = 0; f < z.dimension(2); ++f) {
      seen(b, 0, f) = 0;
      for (Index k = 0; k <= past; ++k)
        seen(b, 0, f) += z(b, 0, std::max(f - k, Index{0})) / static_cast<double>(1 + k);
    }
  return seen;
}
struct DecodeClip {
  void operator()(const Clip& z, Clip& x) const {
    const Clip seen = look_back(z);
    for (Index b = 0; b < x.dimension(0); ++b)
      for (Index f = 0; f < x.dimension(2); ++f)
        x(b, 0, f) = seen(b, 0, (f + every - 1) / every) * (1 + 0.1 * double(f % every));
  }
};
struct EncodeClip {
  void operator()(const Clip& x, Clip& z) const {
    Clip mean(z.dimensions());
    mean.setZero();
    for (Index b = 0; b < x.dimension(0); ++b)
      for (Index f = 0; f < x.dimension(2); ++f)
        mean(b, 0, (f + every - 1) / every) += x(b, 0, f) / (f == 0 ? 1.0 : double(every));
    z = look_back(mean);
  }
};
auto clip_codec() {
  return LatentCodec(EncodeClip{}, DecodeClip{}, CodecShape{1, 1, 1, {{2, every, true}}});
}

template <class T>
T random_state(const ShapeOf<T>& shape, std::uint64_t seed) {
  T x = StateTraits<T>::make(shape);
  PhiloxNoise{seed}.fill(0, 0, 0, std::span<double>(x.data(), static_cast<std::size_t>(x.size())));
  return x;
}

template <class T>
double worst(const T& a, const T& b) {
  const Eigen::Tensor<double, 0, Eigen::RowMajor> largest = (a - b).abs().maximum();
  return largest(0);
}

struct Row {
  std::string what;
  std::function<void()> act;
  std::vector<std::string> says;  // each must stand in the message
};

void check_errors(const std::vector<Row>& table) {
  for (const Row& row : table) {
    INFO(row.what);
    std::string message;
    try {
      row.act();
    } catch (const Error& error) {
      message = error.what();
    }
    REQUIRE(!message.empty());
    for (const std::string& part : row.says) CHECK_THAT(message, contains(part));
  }
}

}  // namespace

TEST_CASE("the shapes of pictures and latents belong together") {
  using Shape4 = std::array<Index, 4>;
  using Shape5 = std::array<Index, 5>;
  const CodecShape pictures = CodecShape::pictures(16);
  CHECK(pictures.picture_of(Shape4{2, 16, 8, 9}) == Shape4{2, 3, 64, 72});
  CHECK(pictures.latent_of(Shape4{2, 3, 64, 72}) == Shape4{2, 16, 8, 9});
  const CodecShape clips = CodecShape::clips();
  CHECK(clips.picture_of(Shape5{1, 16, 13, 60, 90}) == Shape5{1, 3, 49, 480, 720});
  CHECK(clips.latent_of(Shape5{1, 3, 49, 480, 720}) == Shape5{1, 16, 13, 60, 90});
  CHECK(clips.latent_of(Shape5{1, 3, 1, 8, 8}) == Shape5{1, 16, 1, 1, 1});
}

TEST_CASE("a codec scales, shifts and runs the user's functions") {
  auto codec = picture_codec({.scale = 0.5, .shift = 0.25});
  auto plain = picture_codec();
  const auto x = random_state<Picture>({2, 2, 8, 6}, 1);
  const Picture z = plain.encode(x);
  CHECK(worst(codec.encode(x), Picture((z - 0.25) * 0.5)) < 1e-15);
  CHECK(worst(codec.decode(Picture((z - 0.25) * 0.5)), plain.decode(z)) < 1e-13);
}

TEST_CASE("previews are decoded every so many steps") {
  auto codec = picture_codec();
  const DdimSampler sampler{NoiseSchedule<>::linear(), {.steps = 7}};
  const auto network = [](const Picture& x, double, Picture& out) { out = 0.3 * x; };
  std::vector<int> steps;
  std::vector<Picture> seen, previews;
  sample<Picture>(sampler, network, {1, 1, 3, 4}, PhiloxNoise{1}, {},
                  DecodedPreview(
                      codec,
                      [&](int step, const Picture& picture) {
                        steps.push_back(step);
                        seen.push_back(picture);
                      },
                      3),
                  [&](const auto& run) { previews.push_back(run.preview()); });
  CHECK(steps == std::vector<int>{0, 3, 6});
  for (std::size_t k = 0; k < 3; ++k) CHECK(worst(seen[k], codec.decode(previews[3 * k])) == 0);
}

TEST_CASE("tiles whose margin is as wide as the codec looks give what the whole gives") {
  auto codec = picture_codec({.scale = 1.7, .shift = -0.2});
  const auto z = random_state<Picture>({2, 1, 23, 17}, 2);
  const auto x = random_state<Picture>({1, 2, 23 * tall, 17 * wide}, 3);
  const Picture decoded = codec.decode(z), encoded = codec.encode(x);
  for (const Index size : {9, 12, 16})
    for (const Index overlap : {4, 5, 7}) {
      const std::vector<TileAxis> tiles{{2, size, overlap, radius}, {3, size, overlap, radius}};
      CHECK(worst(tiled_decode(codec, z, tiles), decoded) < 1e-13);
      CHECK(worst(tiled_encode(codec, x, tiles), encoded) < 1e-13);
      CHECK(worst(tiled_decode(codec, z, {{3, size, overlap, radius}}), decoded) < 1e-13);
    }
  CHECK(worst(tiled_decode(codec, z, {{2, 64, 8}, {3, 64, 8}}), decoded) == 0);  // one tile
}

TEST_CASE("causal tiles of frames give what the whole gives") {
  auto codec = clip_codec();
  const auto z = random_state<Clip>({2, 1, 21}, 4);
  const auto x = random_state<Clip>({2, 1, 1 + every * 20}, 5);
  const Clip decoded = codec.decode(z), encoded = codec.encode(x);
  REQUIRE(decoded.dimension(2) == 61);
  for (const Index size : {6, 8, 11})
    for (const Index margin : {past - 1, past}) {
      const std::vector<TileAxis> tiles{{2, size, 2 * margin + 1, margin}};
      CHECK(worst(tiled_decode(codec, z, tiles), decoded) < 1e-13);
      if (margin == past) CHECK(worst(tiled_encode(codec, x, tiles), encoded) < 1e-13);
    }
  // With a smaller margin the seam is off, but no frame is lost or doubled: where nothing looks
  // back, as for constant latents, all is as it was.
  Clip constant(1, 1, 21);
  constant.setConstant(0.5);
  CHECK(worst(tiled_decode(codec, constant, {{2, 6, 1, 0}}), codec.decode(constant)) < 1e-13);
}

TEST_CASE("the seam error falls with the overlap") {
  auto codec = picture_codec();
  const auto z = random_state<Picture>({4, 1, 8, 64}, 6);
  const Picture whole = codec.decode(z);  // root mean square 0.27
  const auto error = [&](Index overlap, Index margin) {
    return worst(tiled_decode(codec, z, {{3, 24, overlap, margin}}), whole);
  };
  // Measured: 0.460, 0.238, 0.095, 0.068, 0.041 for overlaps 0, 2, 4, 8, 12 that are blended; of an
  // overlap of 4, a margin of 1 leaves 0.081, of 2, as far as the decoder looks, nothing.
  CHECK(error(0, 0) == Approx(0.46).margin(0.01));
  CHECK(error(2, 0) < 0.6 * error(0, 0));
  CHECK(error(4, 0) < 0.5 * error(2, 0));
  CHECK(error(8, 0) < 0.8 * error(4, 0));
  CHECK(error(12, 0) < 0.7 * error(8, 0));
  CHECK(error(4, 1) < error(4, 0));
  CHECK(error(4, 1) > 0.01);
  CHECK(error(4, 2) < 1e-13);
}

TEST_CASE("what is wrong with latents and tiles is said") {
  auto codec = picture_codec();
  auto clips = clip_codec();
  const auto decode = [&](const ShapeOf<Picture>& shape, std::vector<TileAxis> tiles) {
    tiled_decode(codec, random_state<Picture>(shape, 1), tiles);
  };
  const auto tile = [&](TileAxis axis) { decode({1, 1, 20, 20}, {axis}); };
  const auto encode = [&](const ShapeOf<Picture>& shape) {
    codec.encode(random_state<Picture>(shape, 1));
  };
  const auto shape = [](CodecShape codec_shape) {
    codec_shape.picture_of(std::array<Index, 4>{1, 1, 8, 8});
  };
  check_errors({
      {"channels",
       [&] {
         encode({1, 3, 8, 8});
       },
       {"1x3x8x8", "2 channels"}},
      {"latent channels",
       [&] {
         decode({1, 4, 8, 8}, {});
       },
       {"1x4x8x8", "1 channels"}},
      {"height",
       [&] {
         encode({1, 2, 10, 8});
       },
       {"10", "dimension 2", "multiple of 4"}},
      {"width",
       [&] {
         encode({1, 2, 8, 7});
       },
       {"7", "dimension 3", "multiple of 2"}},
      {"frames",
       [&] {
         clips.encode(random_state<Clip>({1, 1, 6}, 1));
       },
       {"6", "one more than a multiple of 3"}},
      {"dimension",
       [&] {
         shape({1, 2, 1, {{4, 2}}});
       },
       {"dimension 4", "1x1x8x8"}},
      {"factor",
       [&] {
         shape({1, 2, 1, {{2, 0}}});
       },
       {"factor", "0"}},
      {"channels as an axis",
       [&] {
         shape({1, 2, 1, {{1, 2}}});
       },
       {"1", "channels"}},
      {"axis twice",
       [&] {
         shape({1, 2, 1, {{2, 2}, {2, 2}}});
       },
       {"dimension 2 twice"}},
      {"tile size",
       [&] {
         tile({2, 0, 0, 0});
       },
       {"size of dimension 2", "0"}},
      {"overlap",
       [&] {
         tile({3, 8, 8, 0});
       },
       {"overlap of dimension 3", "8", "7"}},
      {"negative overlap",
       [&] {
         tile({3, 8, -1, 0});
       },
       {"overlap", "-1"}},
      {"margin",
       [&] {
         tile({3, 8, 5, 3});
       },
       {"margin of dimension 3", "3", "2"}},
      {"batch",
       [&] {
         tile({0, 8, 2, 0});
       },
       {"dimension 0", "none"}},
      {"twice",
       [&] {
         decode({1, 1, 20, 20}, {{2, 8, 2}, {2, 8, 2}});
       },
       {"dimension 2", "twice"}},
      {"causal overlap",
       [&] {
         tiled_decode(clips, random_state<Clip>({1, 1, 20}, 1), {{2, 8, 0, 0}});
       },
       {"overlap", "0", "[1, 7]"}},
      {"causal margin",
       [&] {
         tiled_decode(clips, random_state<Clip>({1, 1, 20}, 1), {{2, 8, 4, 2}});
       },
       {"margin", "2", "[0, 1]"}},
      {"decoder of another shape",
       [&] {
         const auto wrong = [](const Picture& z) { return z; };
         LatentCodec bad(Encode{}, wrong, picture_shape());
         bad.decode(random_state<Picture>({1, 1, 2, 2}, 1));
       },
       {"decoder", "1x1x2x2", "1x2x8x4"}},
      {"every",
       [&] {
         DecodedPreview(
             codec, [](int, const Picture&) {}, 0);
       },
       {"every", "0"}},
      {"scale",
       [&] {
         auto bad = picture_codec({.scale = 0});
         bad.encode(random_state<Picture>({1, 2, 8, 8}, 1));
       },
       {"scale", "0"}},
  });
}
