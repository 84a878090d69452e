#ifndef DIFFUSION_EXAMPLES_CONTACT_SHEET_HPP
#define DIFFUSION_EXAMPLES_CONTACT_SHEET_HPP

#include "support/canvas.hpp"
#include "support/image.hpp"

#include <algorithm>
#include <cstddef>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace examples {

/// The pictures of a batch [pictures, channels, height, width] with values in [-1, 1].
template <class Batch>
std::vector<Image> tiles_of(const Batch& batch) {
  const auto count = static_cast<std::size_t>(batch.dimension(0));
  const std::size_t size = count == 0 ? 0 : static_cast<std::size_t>(batch.size()) / count;
  std::vector<Image> tiles;
  for (std::size_t i = 0; i < count; ++i)
    tiles.push_back(image_from_planes(
        std::span<const typename Batch::Scalar>(batch.data() + i * size, size),
        static_cast<int>(batch.dimension(1)), static_cast<int>(batch.dimension(2)),
        static_cast<int>(batch.dimension(3))));
  return tiles;
}

/// Strips of pictures, each under a title, in columns of strips from the upper left.
class ContactSheet {
 public:
  /// `columns` strips beside each other, each pixel `scale` wide.
  explicit ContactSheet(int columns = 1, int scale = 2) : columns_(columns), scale_(scale) {}

  void add(std::string title, std::vector<Image> tiles) {
    strips_.push_back({std::move(title), std::move(tiles)});
  }

  Image image() const {
    int width = 0, height = 0;
    for (const Strip& strip : strips_) {
      int across = 0;
      for (const Image& tile : strip.tiles) {
        across += tile.width * scale_ + gap;
        height = std::max(height, tile.height * scale_);
      }
      width = std::max({width, across, static_cast<int>(stroke_text_width(strip.title))});
    }
    const int strip_width = width + margin, strip_height = height + title_height;
    const int rows = (static_cast<int>(strips_.size()) + columns_ - 1) / columns_;
    Canvas canvas(columns_ * strip_width + margin, rows * strip_height + margin);
    for (std::size_t i = 0; i < strips_.size(); ++i) {
      const int column = static_cast<int>(i) % columns_, row = static_cast<int>(i) / columns_;
      int left = margin + column * strip_width;
      const int top = row * strip_height;
      canvas.text({static_cast<double>(left), top + title_height - 7.0}, strips_[i].title);
      for (const Image& tile : strips_[i].tiles) {
        canvas.picture(tile, left, top + title_height, scale_);
        left += tile.width * scale_ + gap;
      }
    }
    return canvas.image();
  }

 private:
  struct Strip {
    std::string title;
    std::vector<Image> tiles;
  };
  static constexpr int gap = 2, margin = 14, title_height = 26;

  int columns_, scale_;
  std::vector<Strip> strips_;
};

}  // namespace examples

#endif  // DIFFUSION_EXAMPLES_CONTACT_SHEET_HPP
