#ifndef DIFFUSION_EXAMPLES_GIF_HPP
#define DIFFUSION_EXAMPLES_GIF_HPP

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include <gif_lib.h>

#include "support/file.hpp"
#include "support/image.hpp"

namespace examples {

struct GifOptions {
  int delay = 8;         ///< hundredths of a second that a frame stays, 0 to 65535
  int last_delay = 150;  ///< the same for the last frame
  bool loop = true;      ///< start again after the last frame, for ever

  /// At most 256 colours, looked up with the pixels of grey frames. Empty: shades of grey.
  /// RGB frames do not use it: each of their pixels takes the nearest of 6 x 7 x 6 fixed colours.
  std::vector<std::array<std::uint8_t, 3>> palette{};
};

namespace detail {

[[noreturn]] inline void fail_gif(int error) {
  const char* reason = GifErrorString(error);
  throw std::runtime_error(std::string("cannot encode a GIF: ") +
                           (reason != nullptr ? reason : "unknown error"));
}

/// Closes the encoder wherever it is left; `finish` reports what closing meets.
class GifEncoder {
 public:
  explicit GifEncoder(Bytes& bytes) {
    int error = 0;
    const auto append = [](GifFileType* gif, const GifByteType* data, int size) {
      auto* out = static_cast<Bytes*>(gif->UserData);
      out->insert(out->end(), data, data + size);
      return size;
    };
    gif_ = EGifOpen(&bytes, append, &error);
    if (gif_ == nullptr) fail_gif(error);
  }
  ~GifEncoder() {
    if (gif_ != nullptr) EGifCloseFile(gif_, nullptr);
  }
  GifEncoder(const GifEncoder&) = delete;
  GifEncoder& operator=(const GifEncoder&) = delete;

  GifFileType* handle() const { return gif_; }

  void check(int status) const {
    if (status == GIF_ERROR) fail_gif(gif_->Error);
  }

  void finish() {
    int error = 0;
    GifFileType* gif = gif_;
    gif_ = nullptr;
    if (EGifCloseFile(gif, &error) == GIF_ERROR) fail_gif(error);
  }

 private:
  GifFileType* gif_ = nullptr;
};

// Levels of red, green and blue of the fixed palette: 252 colours, the eye being keenest on green.
inline constexpr std::array<int, 3> cube_levels{6, 7, 6};

/// A value of 0..255 as the nearest of `levels` equal steps.
inline int to_level(int value, int levels) { return (value * (levels - 1) + 127) / 255; }

inline std::vector<GifColorType> gif_palette(const GifOptions& options, int channels) {
  std::vector<GifColorType> colors;
  if (channels == 3) {
    const auto value = [](int level, int levels) {
      return static_cast<GifByteType>(level * 255 / (levels - 1));
    };
    const auto [reds, greens, blues] = cube_levels;
    for (int r = 0; r < reds; ++r) {
      for (int g = 0; g < greens; ++g) {
        for (int b = 0; b < blues; ++b) {
          colors.push_back({value(r, reds), value(g, greens), value(b, blues)});
        }
      }
    }
  } else if (options.palette.empty()) {
    for (int i = 0; i < 256; ++i) {
      const auto shade = static_cast<GifByteType>(i);
      colors.push_back({shade, shade, shade});
    }
  } else {
    for (const auto& [r, g, b] : options.palette) colors.push_back({r, g, b});
  }
  colors.resize(256, GifColorType{0, 0, 0});  // the format wants a power of two
  return colors;
}

/// The palette indices of one row.
inline void gif_row(const Image& image, int y, std::vector<GifPixelType>& row) {
  for (int x = 0; x < image.width; ++x) {
    int index = image.at(x, y);
    if (image.channels == 3) {
      index = 0;
      for (int channel = 0; channel < 3; ++channel) {
        const int levels = cube_levels[static_cast<std::size_t>(channel)];
        index = index * levels + to_level(image.at(x, y, channel), levels);
      }
    }
    row[static_cast<std::size_t>(x)] = static_cast<GifPixelType>(index);
  }
}

inline void put_loop(const GifEncoder& gif) {
  // The application block that browsers read: sub-block 1, repetitions in two bytes, 0 for ever.
  const std::array<std::uint8_t, 3> forever{1, 0, 0};
  gif.check(EGifPutExtensionLeader(gif.handle(), APPLICATION_EXT_FUNC_CODE));
  gif.check(EGifPutExtensionBlock(gif.handle(), 11, "NETSCAPE2.0"));
  gif.check(EGifPutExtensionBlock(gif.handle(), 3, forever.data()));
  gif.check(EGifPutExtensionTrailer(gif.handle()));
}

inline void put_delay(const GifEncoder& gif, int delay) {
  const GraphicsControlBlock control{.DisposalMode = DISPOSE_DO_NOT,
                                     .UserInputFlag = false,
                                     .DelayTime = delay,
                                     .TransparentColor = NO_TRANSPARENT_COLOR};
  std::array<GifByteType, 4> bytes{};
  EGifGCBToExtension(&control, bytes.data());
  gif.check(EGifPutExtension(gif.handle(), GRAPHICS_EXT_FUNC_CODE, 4, bytes.data()));
}

}  // namespace detail

/// The bytes of an animated GIF of frames of one size, all grey or all RGB.
inline Bytes encode_gif(std::span<const Image> frames, const GifOptions& options = {}) {
  if (frames.empty()) throw std::invalid_argument("a GIF of no frames");
  if (options.palette.size() > 256) {
    throw std::invalid_argument("a palette of " + std::to_string(options.palette.size()) +
                                " colours; a GIF takes at most 256");
  }
  for (const int delay : {options.delay, options.last_delay}) {
    if (delay < 0 || delay > 65535) {
      throw std::invalid_argument("a GIF delay of " + std::to_string(delay) +
                                  "; it must lie in [0, 65535] hundredths of a second");
    }
  }
  const Image& first = frames.front();
  for (const Image& frame : frames) {
    if (frame.width != first.width || frame.height != first.height ||
        frame.channels != first.channels) {
      throw std::invalid_argument("the frames of a GIF differ in size or channels");
    }
  }

  Bytes bytes;
  detail::GifEncoder gif(bytes);
  const auto colors = detail::gif_palette(options, first.channels);
  const std::unique_ptr<ColorMapObject, void (*)(ColorMapObject*)> map(
      GifMakeMapObject(256, colors.data()), GifFreeMapObject);
  if (map == nullptr) throw std::bad_alloc();

  EGifSetGifVersion(gif.handle(), true);
  gif.check(EGifPutScreenDesc(gif.handle(), first.width, first.height, 8, 0, map.get()));
  if (options.loop) detail::put_loop(gif);
  std::vector<GifPixelType> row(static_cast<std::size_t>(first.width));
  for (const Image& frame : frames) {
    detail::put_delay(gif, &frame == &frames.back() ? options.last_delay : options.delay);
    gif.check(EGifPutImageDesc(gif.handle(), 0, 0, frame.width, frame.height, /*interlaced=*/false,
                               nullptr));
    for (int y = 0; y < frame.height; ++y) {
      detail::gif_row(frame, y, row);
      gif.check(EGifPutLine(gif.handle(), row.data(), frame.width));
    }
  }
  gif.finish();
  return bytes;
}

/// Writes an animated GIF file; throws std::runtime_error with the reason when that fails.
inline void write_gif(const std::string& path, std::span<const Image> frames,
                      const GifOptions& options = {}) {
  write_file(path, encode_gif(frames, options));
}

}  // namespace examples

#endif  // DIFFUSION_EXAMPLES_GIF_HPP
