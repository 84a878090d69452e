// The example programs' pictures, plots, arrays and progress bars.

#include <gif_lib.h>
#include <unistd.h>

#include <array>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "catch.hpp"
#include "support/canvas.hpp"
#include "support/gif.hpp"
#include "support/image.hpp"
#include "support/npy.hpp"
#include "support/progress.hpp"

namespace {

using examples::Bytes;
using examples::Image;

/// A file name in the system's folder for such files, removed at the end.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& name)
      : path_(std::filesystem::temp_directory_path() /
              ("diffusion-test-" + std::to_string(getpid()) + "-" + name)) {}
  ~TemporaryFile() {
    std::error_code ignored;
    std::filesystem::remove(path_, ignored);
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  std::string path() const { return path_.string(); }

 private:
  std::filesystem::path path_;
};

/// A picture in which every pixel differs from its neighbours.
Image pattern(int width, int height, int channels, int seed = 0) {
  Image image(width, height, channels);
  for (std::size_t i = 0; i < image.pixels.size(); ++i) {
    image.pixels[i] =
        static_cast<std::uint8_t>((i * 37 + i / 7 + static_cast<std::size_t>(seed) * 101) % 256);
  }
  return image;
}

// ---- .npy ---------------------------------------------------------------------------------------

/// A .npy file with this header text, padded by nothing, and this many bytes of zeros behind it.
Bytes npy_file(const std::string& header, std::size_t data_bytes, int version = 1) {
  Bytes bytes{0x93, 'N', 'U', 'M', 'P', 'Y', static_cast<std::uint8_t>(version), 0};
  for (int i = 0; i < (version == 1 ? 2 : 4); ++i) {
    bytes.push_back(static_cast<std::uint8_t>(header.size() >> (8 * i)));
  }
  bytes.insert(bytes.end(), header.begin(), header.end());
  bytes.resize(bytes.size() + data_bytes);
  return bytes;
}

}  // namespace

TEST_CASE("npy: what is written is read back bit for bit", "[support]") {
  const float infinity = std::numeric_limits<float>::infinity();
  std::vector<float> values(2 * 3 * 4 * 5);
  std::iota(values.begin(), values.end(), -7.25F);
  values[3] = infinity;
  values[4] = -infinity;
  values[5] = std::numeric_limits<float>::denorm_min();
  const std::vector<std::size_t> shape{2, 3, 4, 5};
  const TemporaryFile file("round-trip.npy");
  examples::write_npy(file.path(), values, shape);
  const examples::NpyArray array = examples::read_npy(file.path());
  CHECK(array.shape == shape);
  CHECK(array.values == values);
}

TEST_CASE("npy: the file is laid out as the format says", "[support]") {
  const std::vector<float> values{1.0F, -2.0F};
  const Bytes bytes = examples::encode_npy(values, std::vector<std::size_t>{2});
  REQUIRE(bytes.size() == 128 + 8);
  CHECK(std::string(bytes.begin(), bytes.begin() + 6) == "\x93NUMPY");
  CHECK(bytes[6] == 1);
  CHECK(bytes[7] == 0);
  CHECK(bytes[8] + 256 * bytes[9] == 118);
  const std::string header(bytes.begin() + 10, bytes.begin() + 128);
  CHECK_THAT(header, contains("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }"));
  CHECK(header.back() == '\n');
  // 1.0 is 3f800000, -2.0 is c0000000, low byte first.
  CHECK(Bytes(bytes.begin() + 128, bytes.end()) == Bytes{0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0});
}

TEST_CASE("npy: every rank is read back", "[support]") {
  const auto shape =
      GENERATE(std::vector<std::size_t>{}, std::vector<std::size_t>{7},
               std::vector<std::size_t>{0, 3}, std::vector<std::size_t>{1, 1, 1, 1, 1, 2});
  std::size_t count = 1;
  for (const std::size_t axis : shape) count *= axis;
  const std::vector<float> values(count, 0.5F);
  const examples::NpyArray array = examples::decode_npy(examples::encode_npy(values, shape));
  CHECK(array.shape == shape);
  CHECK(array.values == values);
}

TEST_CASE("npy: a shape that does not match the values is refused", "[support]") {
  const std::vector<float> values(5);
  CHECK_THROWS_WITH(examples::encode_npy(values, std::vector<std::size_t>{2, 3}),
                    contains("(2, 3)") && contains("5 values"));
}

TEST_CASE("npy: other versions and other spellings of the header are read", "[support]") {
  const int version = GENERATE(1, 2, 3);
  const examples::NpyArray array = examples::decode_npy(
      npy_file("{\"shape\" :(2,3) , 'fortran_order':False,'descr': '<f4'}    \n", 24, version));
  CHECK(array.shape == std::vector<std::size_t>{2, 3});
  CHECK(array.values == std::vector<float>(6, 0.0F));
}

TEST_CASE("npy: malformed files are refused with the reason", "[support]") {
  struct Row {
    std::string header;
    std::size_t data_bytes;
    std::string reason;
  };
  const std::string good = "{'descr': '<f4', 'fortran_order': False, 'shape': ";
  const Row row = GENERATE_COPY(
      Row{"{'descr': '<f8', 'fortran_order': False, 'shape': (1,), }", 8, "<f8"},
      Row{"{'descr': '>f4', 'fortran_order': False, 'shape': (1,), }", 4, ">f4"},
      Row{"{'descr': '<f4', 'fortran_order': True, 'shape': (1,), }", 4, "C order"},
      Row{"{'descr': '<f4', 'fortran_order': False}", 4, "lacks a key"},
      Row{good + "(2,), 'shape': (2,)}", 8, "repeated key"},
      Row{good + "(2,), 'more': (2,)}", 8, "unknown or repeated key 'more'"},
      Row{good + "(2,)} and more", 8, "does not end"}, Row{good + "(2,), ", 8, "lacks ''' "},
      Row{good + "(-2,)}", 8, "not a tuple"}, Row{good + "(2 3)}", 24, "lacks ')'"},
      Row{good + "2}", 8, "lacks '('"}, Row{good + "(3,)}", 8, "holds more than the file"},
      Row{good + "(1,)}", 8, "8 bytes of data, its shape 4"},
      Row{good + "(2,)}", 9, "9 bytes of data"},
      Row{good + "(99999999999999999999,)}", 8, "too long"},
      // 2^64 values: a product that wraps would be 0.
      Row{good + "(4294967296, 4294967296)}", 8, "holds more than the file"},
      Row{"{'descr", 8, "without an end"}, Row{"", 8, "lacks '{'"});
  CAPTURE(row.header);
  std::string reason = row.reason;
  while (reason.back() == ' ') reason.pop_back();
  CHECK_THROWS_WITH(examples::decode_npy(npy_file(row.header, row.data_bytes)), contains(reason));
}

TEST_CASE("npy: an error does not repeat a long or unprintable header", "[support]") {
  const auto error = [](const std::string& header) {
    try {
      examples::decode_npy(npy_file(header, 8));
    } catch (const std::runtime_error& refused) {
      return std::string(refused.what());
    }
    return std::string("no error");
  };
  const std::string many(5000, 'x');
  CHECK(error("{'descr': '" + many + "'") ==
        "its type is '" + many.substr(0, 60) + "...'; only '<f4' (float32) is read");
  CHECK(error("{'" + many + "':") ==
        "its header has an unknown or repeated key '" + many.substr(0, 60) + "...'");
  CHECK(error(std::string("{'descr': 'a\0\n\x1b\xff'", 17)) ==
        "its type is 'a???"
        "?'; only '<f4' (float32) is read");
}

TEST_CASE("npy: a file cut anywhere is refused", "[support]") {
  const std::vector<float> values{1.0F, 2.0F, 3.0F};
  const Bytes whole = examples::encode_npy(values, std::vector<std::size_t>{3});
  for (std::size_t size = 0; size < whole.size(); ++size) {
    CAPTURE(size);
    // A copy of its own, so that a sanitizer sees a read behind its end.
    const Bytes cut(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
    CHECK_THROWS_AS(examples::decode_npy(cut), std::runtime_error);
  }
  Bytes wrong_version = whole;
  wrong_version[6] = 4;
  CHECK_THROWS_WITH(examples::decode_npy(wrong_version), contains("version is 4"));
  Bytes wrong_magic = whole;
  wrong_magic[1] = 'n';
  CHECK_THROWS_WITH(examples::decode_npy(wrong_magic), contains("does not begin"));
}

TEST_CASE("files: errors name the file and the reason", "[support]") {
  CHECK_THROWS_WITH(examples::read_npy("no-such-folder/a.npy"),
                    contains("no-such-folder/a.npy") && contains("No such file"));
  CHECK_THROWS_WITH(examples::write_png("no-such-folder/a.png", Image(1, 1, 1)),
                    contains("no-such-folder/a.png") && contains("No such file"));
  const TemporaryFile file("not-a-picture");
  examples::write_file(file.path(), Bytes{1, 2, 3});
  CHECK_THROWS_WITH(examples::read_png(file.path()), contains("not-a-picture"));
  CHECK_THROWS_WITH(examples::read_npy(file.path()), contains("not-a-picture"));
}

TEST_CASE("files: a full disk is an error", "[support]") {
  if (!std::filesystem::exists("/dev/full")) return;
  CHECK_THROWS_WITH(examples::write_file("/dev/full", Bytes(100000)), contains("No space"));
}

// ---- pictures -----------------------------------------------------------------------------------

TEST_CASE("image: [-1, 1] maps to 0..255, rounded and clamped", "[support]") {
  CHECK(examples::to_byte(-1) == 0);
  CHECK(examples::to_byte(1) == 255);
  CHECK(examples::to_byte(0) == 128);
  CHECK(examples::to_byte(-0.25) == 96);  // 95.625
  CHECK(examples::to_byte(1e30) == 255);
  CHECK(examples::to_byte(-1e30) == 0);
  CHECK(examples::to_byte(std::nan("")) == 0);
}

TEST_CASE("image: planes of a network become pixels", "[support]") {
  // Three planes of 1 x 2.
  const std::vector<float> values{-1, 1, 0, 0, 1, -1};
  const Image image = examples::image_from_planes<float>(values, 3, 1, 2);
  CHECK(image.width == 2);
  CHECK(image.height == 1);
  CHECK(image.pixels == Bytes{0, 128, 255, 255, 128, 0});
  CHECK_THROWS_WITH(examples::image_from_planes<float>(values, 1, 1, 2),
                    contains("6 values") && contains("2"));
}

TEST_CASE("image: sizes and channels are checked", "[support]") {
  CHECK_THROWS_WITH(Image(0, 5, 1), contains("0 x 5") && contains("[1, 32768]"));
  CHECK_THROWS_WITH(Image(5, 32769, 1), contains("5 x 32769") && contains("[1, 32768]"));
  CHECK_THROWS_WITH(Image(5, 5, 2), contains("2 channels"));
  CHECK_THROWS_WITH(examples::upscale(Image(1, 1, 1), 0), contains("0"));
}

TEST_CASE("image: a PNG decodes to the same pixels", "[support]") {
  const int channels = GENERATE(1, 3);
  const Image image = pattern(23, 17, channels);
  const TemporaryFile file("picture.png");
  examples::write_png(file.path(), image);
  CHECK(examples::read_png(file.path()) == image);
}

TEST_CASE("image: upscaling repeats pixels", "[support]") {
  Image image(2, 1, 1);
  image.pixels = {10, 20};
  const Image large = examples::upscale(image, 3);
  CHECK(large.width == 6);
  CHECK(large.height == 3);
  const Bytes row{10, 10, 10, 20, 20, 20};
  for (int y = 0; y < 3; ++y) {
    CHECK(Bytes(large.pixels.begin() + 6 * y, large.pixels.begin() + 6 * y + 6) == row);
  }
}

TEST_CASE("image: a grid has its tiles at their places and background between", "[support]") {
  std::vector<Image> tiles;
  for (std::uint8_t i = 0; i < 5; ++i) {
    tiles.emplace_back(4, 3, 1, static_cast<std::uint8_t>(50 + i));
  }
  const int padding = 2;
  const Image grid = examples::tile_grid(tiles, 3, padding, 7);
  REQUIRE(grid.width == 3 * 4 + 4 * padding);
  REQUIRE(grid.height == 2 * 3 + 3 * padding);
  for (int y = 0; y < grid.height; ++y) {
    for (int x = 0; x < grid.width; ++x) {
      const int column = x / 6;
      const int row = y / 5;
      const bool inside = x % 6 >= 2 && y % 5 >= 2 && 3 * row + column < 5;
      CAPTURE(x, y);
      CHECK(int{grid.at(x, y)} == (inside ? 50 + 3 * row + column : 7));
    }
  }
}

TEST_CASE("image: grids are checked", "[support]") {
  const std::vector<Image> unequal{Image(4, 3, 1), Image(4, 4, 1)};
  CHECK_THROWS_WITH(examples::tile_grid(unequal, 2), contains("4 x 4") && contains("4 x 3"));
  const std::vector<Image> mixed{Image(4, 3, 1), Image(4, 3, 3)};
  CHECK_THROWS_WITH(examples::tile_grid(mixed, 2), contains("3 channels"));
  CHECK_THROWS_WITH(examples::tile_grid(mixed, 0), contains("0 columns"));
  CHECK_THROWS_WITH(examples::tile_grid(mixed, 1, -1), contains("padding -1"));
  CHECK_THROWS_WITH(examples::tile_grid(std::vector<Image>{}, 1), contains("no pictures"));
  // Fewer tiles than columns: no empty columns.
  CHECK(examples::tile_grid(std::vector<Image>{Image(4, 3, 1)}, 9, 1).width == 6);
}

// ---- GIF ----------------------------------------------------------------------------------------

namespace {

struct DecodedGif {
  struct Frame {
    Image image;
    int delay;
  };
  std::vector<Frame> frames;
  bool loops = false;
};

struct GifInput {
  const Bytes* bytes;
  std::size_t next = 0;
};

/// Reads a GIF with giflib's decoder; colours are looked up, so that frames are RGB.
DecodedGif decode_gif(const Bytes& bytes) {
  GifInput input{.bytes = &bytes};
  int error = 0;
  GifFileType* gif = DGifOpen(
      &input,
      [](GifFileType* file, GifByteType* out, int size) {
        auto* from = static_cast<GifInput*>(file->UserData);
        const auto wanted = static_cast<std::size_t>(size);
        const std::size_t count = std::min(wanted, from->bytes->size() - from->next);
        std::copy_n(from->bytes->begin() + static_cast<std::ptrdiff_t>(from->next), count, out);
        from->next += count;
        return static_cast<int>(count);
      },
      &error);
  REQUIRE(gif != nullptr);
  REQUIRE(DGifSlurp(gif) == GIF_OK);
  DecodedGif decoded;
  for (int i = 0; i < gif->ImageCount; ++i) {
    const SavedImage& saved = gif->SavedImages[i];
    Image image(saved.ImageDesc.Width, saved.ImageDesc.Height, 3);
    for (std::size_t p = 0; p < image.pixels.size() / 3; ++p) {
      const GifColorType color = gif->SColorMap->Colors[saved.RasterBits[p]];
      image.pixels[3 * p] = color.Red;
      image.pixels[3 * p + 1] = color.Green;
      image.pixels[3 * p + 2] = color.Blue;
    }
    GraphicsControlBlock control{};
    REQUIRE(DGifSavedExtensionToGCB(gif, i, &control) == GIF_OK);
    decoded.frames.push_back({image, control.DelayTime});
    for (int e = 0; e < saved.ExtensionBlockCount; ++e) {
      const ExtensionBlock& block = saved.ExtensionBlocks[e];
      const std::string text(reinterpret_cast<const char*>(block.Bytes),
                             static_cast<std::size_t>(block.ByteCount));
      if (text == "NETSCAPE2.0") decoded.loops = true;
    }
  }
  DGifCloseFile(gif, nullptr);
  return decoded;
}

}  // namespace

TEST_CASE("gif: grey frames decode to the same pixels, with their delays", "[support]") {
  // Large enough for the code table to fill and start anew.
  const std::vector<Image> frames{pattern(120, 90, 1, 0), pattern(120, 90, 1, 1),
                                  pattern(120, 90, 1, 2)};
  const bool loop = GENERATE(true, false);
  const TemporaryFile file("frames.gif");
  examples::write_gif(file.path(), frames, {.delay = 5, .last_delay = 300, .loop = loop});
  const DecodedGif decoded = decode_gif(examples::read_file(file.path()));
  REQUIRE(decoded.frames.size() == 3);
  CHECK(decoded.loops == loop);
  for (std::size_t i = 0; i < 3; ++i) {
    CHECK(decoded.frames[i].image == examples::to_rgb(frames[i]));
    CHECK(decoded.frames[i].delay == (i == 2 ? 300 : 5));
  }
}

TEST_CASE("gif: the given palette is used", "[support]") {
  Image frame(2, 1, 1);
  frame.pixels = {1, 0};
  const DecodedGif decoded = decode_gif(
      examples::encode_gif(std::vector<Image>{frame}, {.palette = {{1, 2, 3}, {4, 5, 6}}}));
  REQUIRE(decoded.frames.size() == 1);
  CHECK(decoded.frames[0].image.pixels == Bytes{4, 5, 6, 1, 2, 3});
}

TEST_CASE("gif: RGB frames come back in the nearest fixed colours", "[support]") {
  const Image frame = pattern(64, 64, 3);
  const DecodedGif decoded = decode_gif(examples::encode_gif(std::vector<Image>{frame}));
  REQUIRE(decoded.frames.size() == 1);
  const Image& image = decoded.frames[0].image;
  // Half a step of red and blue is 25.5, of green 21.25; the levels themselves are cut to integers.
  int worst = 0;
  for (std::size_t i = 0; i < frame.pixels.size(); ++i) {
    worst = std::max(worst, std::abs(int{frame.pixels[i]} - int{image.pixels[i]}));
  }
  CHECK(worst <= 26);
}

TEST_CASE("gif: frames and options are checked", "[support]") {
  const std::vector<Image> good{Image(4, 3, 1)};
  const std::vector<Image> unequal{Image(4, 3, 1), Image(4, 4, 1)};
  CHECK_THROWS_WITH(examples::encode_gif(std::vector<Image>{}), contains("no frames"));
  CHECK_THROWS_WITH(examples::encode_gif(unequal), contains("differ"));
  CHECK_THROWS_WITH(examples::encode_gif(good, {.delay = -1}), contains("-1"));
  CHECK_THROWS_WITH(examples::encode_gif(good, {.last_delay = 65536}), contains("65536"));
  examples::GifOptions options;
  options.palette.resize(257);
  CHECK_THROWS_WITH(examples::encode_gif(good, options), contains("257"));
}

// ---- progress -----------------------------------------------------------------------------------

TEST_CASE("progress: durations read as people say them", "[support]") {
  CHECK(examples::duration_text(0) == "0 s");
  CHECK(examples::duration_text(59.4) == "59 s");
  CHECK(examples::duration_text(59.6) == "1 min 00 s");
  CHECK(examples::duration_text(185) == "3 min 05 s");
  CHECK(examples::duration_text(7800) == "2 h 10 min");
}

TEST_CASE("progress: the text tells the share done and the time left", "[support]") {
  CHECK(examples::progress_text("sampling", 0, 50, 0) == "sampling  0/50 (0 %)");
  // 10 of 50 took 4 s: 40 more take 16 s.
  CHECK(examples::progress_text("sampling", 10, 50, 4) == "sampling  10/50 (20 %), 16 s left");
  CHECK(examples::progress_text("sampling", 50, 50, 75) ==
        "sampling  50/50 (100 %), took 1 min 15 s");
  CHECK(examples::progress_bar(0, 4, 8) == "[        ]");
  CHECK(examples::progress_bar(1, 4, 8) == "[##      ]");
  CHECK(examples::progress_bar(4, 4, 8) == "[########]");
}

TEST_CASE("progress: plain lines for a file, a redrawn line for a terminal", "[support]") {
  const TemporaryFile file("progress.txt");
  const bool terminal = GENERATE(false, true);
  std::FILE* out = std::fopen(file.path().c_str(), "wb");
  REQUIRE(out != nullptr);
  {
    examples::Progress progress("job", 40, out, terminal);
    for (int i = 0; i < 40; ++i) progress.advance();
  }
  std::fclose(out);
  const Bytes bytes = examples::read_file(file.path());
  const std::string text(bytes.begin(), bytes.end());
  const auto lines = std::count(text.begin(), text.end(), '\n');
  CHECK_THAT(text, contains("job  40/40 (100 %), took "));
  CHECK(text.back() == '\n');
  if (terminal) {
    CHECK(lines == 1);
    CHECK(text.front() == '\r');
    CHECK_THAT(text, contains("[##############################]"));
  } else {
    CHECK(lines == 10);
    CHECK_THAT(text, contains("job  4/40 (10 %), ") && !contains("\r"));
  }
}

// ---- plots --------------------------------------------------------------------------------------

TEST_CASE("canvas: a line covers the pixels that it covers", "[support]") {
  examples::Canvas canvas(20, 10);
  canvas.line({3, 5}, {17, 5}, {0, 0, 0}, 2);  // rows 4 and 5 whole, from x = 3 to 17
  for (int x = 4; x < 16; ++x) {
    CAPTURE(x);
    CHECK(int{canvas.image().at(x, 3)} == 255);
    CHECK(int{canvas.image().at(x, 4)} == 0);
    CHECK(int{canvas.image().at(x, 5)} == 0);
    CHECK(int{canvas.image().at(x, 6)} == 255);
  }
  CHECK(int{canvas.image().at(0, 5)} == 255);
  CHECK(int{canvas.image().at(19, 5)} == 255);
}

TEST_CASE("canvas: a disc has its area", "[support]") {
  const double radius = GENERATE(3.0, 7.5, 20.25);
  examples::Canvas canvas(60, 60);
  canvas.disc({30.3, 29.6}, radius, {0, 0, 0});
  double area = 0;
  for (int y = 0; y < 60; ++y) {
    for (int x = 0; x < 60; ++x) area += 1 - canvas.image().at(x, y) / 255.0;
  }
  const double pi = 3.14159265358979;
  CHECK(area == Approx(pi * radius * radius).epsilon(0.02));
}

TEST_CASE("canvas: the joints of a transparent line are not darker", "[support]") {
  examples::Canvas canvas(30, 30);
  const std::array<examples::Point, 3> corner{examples::Point{5, 5}, examples::Point{15, 15},
                                              examples::Point{25, 5}};
  canvas.polyline(corner, examples::Color{0, 0, 0, 0.5}, 6);
  const auto [darkest, lightest] =
      std::minmax_element(canvas.image().pixels.begin(), canvas.image().pixels.end());
  CHECK(int{*darkest} == 128);
  CHECK(int{*lightest} == 255);
}

TEST_CASE("canvas: what is not finite or outside is left out", "[support]") {
  const double infinity = std::numeric_limits<double>::infinity();
  examples::Canvas canvas(20, 20);
  const Image blank = canvas.image();
  canvas.disc({infinity, 3}, 2, examples::black);
  canvas.disc({-1e12, 1e12}, 2, examples::black);
  canvas.line({std::nan(""), 0}, {std::nan(""), 9}, examples::black);
  CHECK(canvas.image() == blank);

  canvas.clip(0, 0, 10, 20);
  canvas.line({0, 10}, {20, 10}, examples::black, 3);
  CHECK(canvas.image().at(5, 10) < 100);
  CHECK(int{canvas.image().at(10, 10)} == 255);
}

TEST_CASE("canvas: every printable character has strokes and no two are alike", "[support]") {
  CHECK(examples::stroke_text(" ").empty());
  for (char a = '!'; a <= '~'; ++a) {
    CAPTURE(a);
    const auto strokes = examples::stroke_text(std::string(1, a));
    CHECK(!strokes.empty());
    for (const auto& stroke : strokes) {
      CHECK(stroke.size() >= 2);
      for (const examples::Point& point : stroke) {
        CHECK((point.x >= 0 && point.x <= 8));
        CHECK((point.y >= -9 && point.y <= 3));
      }
    }
    for (char b = '!'; b < a; ++b) {
      CHECK((a == 'l' || examples::detail::glyph(a) != examples::detail::glyph(b)));
    }
  }
  // The width of a text is where its last letter ends.
  CHECK(examples::stroke_text_width("") == 0);
  CHECK(examples::stroke_text_width("oo") == Approx(5 + examples::detail::letter_gap + 5));
}

TEST_CASE("plot: ticks are round and lie in the range", "[support]") {
  const auto labels = [](const std::vector<examples::Tick>& ticks) {
    std::vector<std::string> result;
    for (const examples::Tick& tick : ticks) result.push_back(tick.label);
    return result;
  };
  using Labels = std::vector<std::string>;
  CHECK(labels(examples::ticks(0, 1, 5)) == Labels{"0", "0.2", "0.4", "0.6", "0.8", "1"});
  CHECK(labels(examples::ticks(-1.04, 1.04, 4)) == Labels{"-1", "-0.5", "0", "0.5", "1"});
  CHECK(labels(examples::ticks(0, 1000, 5)) == Labels{"0", "200", "400", "600", "800", "1000"});
  CHECK(labels(examples::ticks(2e-4, 50, 6, true)) == Labels{"1e-3", "1e-2", "1e-1", "1e0", "1e1"});
  CHECK(examples::ticks(1, 1, 5).empty());
}

TEST_CASE("plot: points land where the axes say", "[support]") {
  // One dark dot in the middle of the range is the middle of the frame, on either kind of axis.
  const bool logarithmic = GENERATE(false, true);
  examples::Panel panel;
  panel.x = {.low = 1, .high = 100, .logarithmic = logarithmic};
  panel.y = {.low = 1, .high = 100, .logarithmic = logarithmic};
  panel.show_axes = false;
  const double middle = logarithmic ? 10 : 50.5;
  panel.add_dots("", {{middle, middle}}, {255, 0, 0}, 4);
  const Image image = examples::draw_panels(std::vector<examples::Panel>{panel}, 1, 200, 150);
  double sum_x = 0;
  double sum_y = 0;
  double count = 0;
  for (int y = 0; y < image.height; ++y) {
    for (int x = 0; x < image.width; ++x) {
      if (image.at(x, y, 0) - image.at(x, y, 1) < 128) continue;
      sum_x += x + 0.5;
      sum_y += y + 0.5;
      ++count;
    }
  }
  REQUIRE(count > 30);
  CHECK(sum_x / count == Approx((8 + 200 - 16) / 2.0).margin(0.6));
  CHECK(sum_y / count == Approx((12 + 150 - 8) / 2.0).margin(0.6));
}

TEST_CASE("plot: the legend keeps out of the way of the data", "[support]") {
  using examples::Legend;
  const examples::detail::Rectangle plot{0, 0, 100, 100};
  const std::vector<examples::Point> all_but_lower_left{
      {90, 10}, {10, 10}, {90, 90}, {50, 10}, {65, 90}};
  const auto box =
      examples::detail::legend_box(plot, Legend::automatic, 40, 20, all_but_lower_left);
  CHECK(box.left == 8);
  CHECK(box.bottom == 92);
  // Asked for, it stands where it is wanted.
  const auto wanted =
      examples::detail::legend_box(plot, Legend::upper_right, 40, 20, all_but_lower_left);
  CHECK(wanted.right == 92);
  CHECK(wanted.top == 8);
}

TEST_CASE("plot: panels with data of every kind are drawn", "[support]") {
  const double infinity = std::numeric_limits<double>::infinity();
  examples::Panel curves;
  curves.title = "curves";
  curves.x.label = "t";
  curves.y.label = "value";
  curves.add_line("a", std::vector<double>{0, 1, 2}, std::vector<double>{infinity, 1, -infinity});
  curves.add_line("b", std::vector<double>{0, 1, 2}, std::vector<double>{0, 0.5, std::nan("")});
  examples::Panel empty;
  const Image image =
      examples::draw_panels(std::vector<examples::Panel>{curves, empty}, 2, 300, 200);
  CHECK(image.width == 600);
  CHECK(image.height == 200);
  const auto first = examples::series_color(0);
  bool found = false;
  for (int y = 0; y < image.height; ++y) {
    for (int x = 0; x < 300; ++x) {
      found = found || (image.at(x, y, 0) == first.red && image.at(x, y, 1) == first.green &&
                        image.at(x, y, 2) == first.blue);
    }
  }
  CHECK(found);

  CHECK_THROWS_WITH(curves.add_line("c", std::vector<double>{1}, std::vector<double>{1, 2}),
                    contains("1 x and 2 y"));
  CHECK_THROWS_WITH(examples::draw_panels(std::vector<examples::Panel>{}, 1), contains("0 panels"));
  curves.y.low = 3;
  curves.y.high = 2;
  CHECK_THROWS_WITH(examples::draw_panels(std::vector<examples::Panel>{curves}, 1),
                    contains("value") && contains("3.0"));
}
