#ifndef DIFFUSION_EXAMPLES_IMAGE_HPP
#define DIFFUSION_EXAMPLES_IMAGE_HPP

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include <stb/stb_image.h>
#include <stb/stb_image_write.h>

#include "support/file.hpp"

namespace examples {

/// Eight-bit picture, grey (1 channel) or RGB (3), rows from the top, channels of a pixel together.
struct Image {
  int width = 0;
  int height = 0;
  int channels = 1;
  Bytes pixels;  ///< height * width * channels

  Image() = default;

  /// Throws std::invalid_argument unless 1 <= width, height <= 32768 and channels is 1 or 3.
  Image(int width_, int height_, int channels_, std::uint8_t fill = 0)
      : width(width_), height(height_), channels(channels_) {
    const int limit = 32768;
    if (std::min(width, height) < 1 || std::max(width, height) > limit) {
      throw std::invalid_argument("a picture is " + std::to_string(width) + " x " +
                                  std::to_string(height) + "; each side must lie in [1, " +
                                  std::to_string(limit) + "]");
    }
    if (channels != 1 && channels != 3) {
      throw std::invalid_argument("a picture has " + std::to_string(channels) +
                                  " channels; it must have 1 (grey) or 3 (RGB)");
    }
    pixels.assign(static_cast<std::size_t>(width) * static_cast<std::size_t>(height) *
                      static_cast<std::size_t>(channels),
                  fill);
  }

  std::size_t index(int x, int y, int channel = 0) const {
    const auto row = static_cast<std::size_t>(y) * static_cast<std::size_t>(width);
    return (row + static_cast<std::size_t>(x)) * static_cast<std::size_t>(channels) +
           static_cast<std::size_t>(channel);
  }
  std::uint8_t& at(int x, int y, int channel = 0) { return pixels[index(x, y, channel)]; }
  std::uint8_t at(int x, int y, int channel = 0) const { return pixels[index(x, y, channel)]; }

  friend bool operator==(const Image&, const Image&) = default;
};

/// [-1, 1] to 0..255, rounded to nearest; values outside are clamped, NaN is black.
inline std::uint8_t to_byte(double value) {
  if (!(value > -1)) return 0;
  return static_cast<std::uint8_t>(std::lround((std::min(value, 1.0) + 1) * 127.5));
}

/// The picture of values in [-1, 1], stored [channels, height, width] as networks have them.
template <class Scalar>
Image image_from_planes(std::span<const Scalar> values, int channels, int height, int width) {
  Image image(width, height, channels);
  if (values.size() != image.pixels.size()) {
    throw std::invalid_argument(std::to_string(values.size()) + " values for a picture of " +
                                std::to_string(image.pixels.size()));
  }
  std::size_t next = 0;
  for (int channel = 0; channel < channels; ++channel) {
    for (int y = 0; y < height; ++y) {
      for (int x = 0; x < width; ++x) {
        image.at(x, y, channel) = to_byte(static_cast<double>(values[next++]));
      }
    }
  }
  return image;
}

/// Grey becomes RGB; RGB stays.
inline Image to_rgb(const Image& image) {
  if (image.channels == 3) return image;
  Image rgb(image.width, image.height, 3);
  for (std::size_t i = 0; i < image.pixels.size(); ++i) {
    std::fill_n(rgb.pixels.begin() + static_cast<std::ptrdiff_t>(3 * i), 3, image.pixels[i]);
  }
  return rgb;
}

/// Every pixel becomes a square of factor x factor pixels.
inline Image upscale(const Image& image, int factor) {
  if (factor < 1) {
    throw std::invalid_argument("upscale by " + std::to_string(factor) + "; at least 1 is needed");
  }
  Image large(image.width * factor, image.height * factor, image.channels);
  for (int y = 0; y < large.height; ++y) {
    for (int x = 0; x < large.width; ++x) {
      for (int channel = 0; channel < image.channels; ++channel) {
        large.at(x, y, channel) = image.at(x / factor, y / factor, channel);
      }
    }
  }
  return large;
}

/// Copies `tile` into `image` with its upper left corner at (left, top); what lies outside is cut.
inline void paste(Image& image, const Image& tile, int left, int top) {
  if (tile.channels != image.channels) {
    throw std::invalid_argument("a tile of " + std::to_string(tile.channels) +
                                " channels in a picture of " + std::to_string(image.channels));
  }
  for (int y = std::max(0, -top); y < std::min(tile.height, image.height - top); ++y) {
    for (int x = std::max(0, -left); x < std::min(tile.width, image.width - left); ++x) {
      for (int channel = 0; channel < tile.channels; ++channel) {
        image.at(left + x, top + y, channel) = tile.at(x, y, channel);
      }
    }
  }
}

/// Lays tiles of one size out in rows of `columns`, from the upper left, with `padding` pixels of
/// `background` between and around them. The last row may be short.
inline Image tile_grid(std::span<const Image> tiles, int columns, int padding = 2,
                       std::uint8_t background = 0) {
  if (tiles.empty()) throw std::invalid_argument("a grid of no pictures");
  if (columns < 1 || padding < 0) {
    throw std::invalid_argument("a grid of " + std::to_string(columns) + " columns and padding " +
                                std::to_string(padding) +
                                "; at least 1 column and no negative padding are needed");
  }
  const Image& first = tiles.front();
  const int count = static_cast<int>(tiles.size());
  columns = std::min(columns, count);
  const int rows = (count + columns - 1) / columns;
  Image grid(columns * (first.width + padding) + padding, rows * (first.height + padding) + padding,
             first.channels, background);
  for (int i = 0; i < count; ++i) {
    const Image& tile = tiles[static_cast<std::size_t>(i)];
    if (tile.width != first.width || tile.height != first.height) {
      throw std::invalid_argument("picture " + std::to_string(i) + " of the grid is " +
                                  std::to_string(tile.width) + " x " + std::to_string(tile.height) +
                                  ", the first is " + std::to_string(first.width) + " x " +
                                  std::to_string(first.height));
    }
    paste(grid, tile, padding + (i % columns) * (first.width + padding),
          padding + (i / columns) * (first.height + padding));
  }
  return grid;
}

/// The bytes of a PNG file.
inline Bytes encode_png(const Image& image) {
  Bytes bytes;
  const auto append = [](void* context, void* data, int size) {
    const auto* begin = static_cast<const std::uint8_t*>(data);
    static_cast<Bytes*>(context)->insert(static_cast<Bytes*>(context)->end(), begin, begin + size);
  };
  if (stbi_write_png_to_func(append, &bytes, image.width, image.height, image.channels,
                             image.pixels.data(), image.width * image.channels) == 0) {
    throw std::runtime_error("cannot encode a PNG of " + std::to_string(image.width) + " x " +
                             std::to_string(image.height));
  }
  return bytes;
}

/// Writes a PNG file; throws std::runtime_error with the reason when that fails.
inline void write_png(const std::string& path, const Image& image) {
  write_file(path, encode_png(image));
}

/// Reads a picture file, grey or RGB as it is stored, an alpha channel dropped.
inline Image read_png(const std::string& path) {
  const Bytes bytes = read_file(path);
  int width = 0;
  int height = 0;
  int stored = 0;
  const int size = static_cast<int>(std::min<std::size_t>(bytes.size(), 1U << 30U));
  int channels = 0;
  if (stbi_info_from_memory(bytes.data(), size, &width, &height, &stored) != 0) {
    channels = stored < 3 ? 1 : 3;
  }
  stbi_uc* pixels = stbi_load_from_memory(bytes.data(), size, &width, &height, &stored, channels);
  if (pixels == nullptr) {
    throw std::runtime_error("cannot read " + path + " as a picture: " + stbi_failure_reason());
  }
  Image image(width, height, channels);
  std::copy_n(pixels, image.pixels.size(), image.pixels.begin());
  stbi_image_free(pixels);
  return image;
}

}  // namespace examples

#endif  // DIFFUSION_EXAMPLES_IMAGE_HPP
