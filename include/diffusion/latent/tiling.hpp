#ifndef DIFFUSION_LATENT_TILING_HPP
#define DIFFUSION_LATENT_TILING_HPP

#include <diffusion/latent/codec.hpp>
#include <diffusion/video/boxes.hpp>
#include <diffusion/video/frame_layout.hpp>
#include <diffusion/video/window_plan.hpp>

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

namespace diffusion {

/// Tiles along one dimension that the codec shortens, in elements of the latent. Plain data:
/// threads may share what none of them writes.
struct TileAxis {
  std::size_t dimension = 2;  ///< as the type counts them; one of the codec's
  Eigen::Index size = 64;     ///< of a tile, at least 1; where the latent is shorter, there is one
  /// What neighbouring tiles share, 0 to size - 1. Along a causal dimension at least 1: the first
  /// element of a later tile is there for the codec to start from, and is thrown away.
  Eigen::Index overlap = 8;
  /// How much of a tile is thrown away on a side where another one goes on, at most half of the
  /// overlap (of what is left of it, along a causal dimension): all of that, and tiles meet without
  /// a blend. What is left of the overlap is blended by linear weights. With a margin as wide as
  /// the codec looks, tiles give what the whole would.
  Eigen::Index margin = 0;
};

namespace detail {

/// One tile of one dimension: the elements that go in and those that come out.
struct TileSide {
  AxisWindow in, out;
};

/// n elements from `begin` on.
inline AxisWindow stretch(Eigen::Index begin, Eigen::Index n) {
  AxisWindow side = AxisWindow::whole(static_cast<std::size_t>(n));
  for (std::size_t& at : side.at) at += static_cast<std::size_t>(begin);
  return side;
}

/// 0 up to the margin, then linear to 1 over what is left of an overlap; i counts from its begin.
inline double tile_ramp(Eigen::Index i, Eigen::Index overlap, Eigen::Index margin) {
  if (i < margin) return 0;
  const double ramp = static_cast<double>(overlap - 2 * margin);
  const double along = static_cast<double>(i - margin) + 0.5;
  return along < ramp ? along / ramp : 1;
}

inline void check_tile(const TileAxis& tile, const CodecAxis& codec) {
  const auto of = [&](const char* name) {
    return text("TileAxis::", name, " of dimension ", tile.dimension);
  };
  const Eigen::Index lost = codec.causal ? 1 : 0;
  require_at_least(of("size").c_str(), tile.size, Eigen::Index{1} + lost);
  require_range(of("overlap").c_str(), tile.overlap, lost, tile.size - 1);
  require_range(of("margin").c_str(), tile.margin, Eigen::Index{0}, (tile.overlap - lost) / 2);
}

/// The tiles along a dimension of a latent of `extent` elements, for decoding or encoding.
///
/// Latent elements [a, a + n) belong to the picture's [r a, r a + r n), or, causal, to
/// [r a, r a + r (n - 1) + 1): of these the first is right in the first tile only.
inline std::vector<TileSide> tile_sides(const TileAxis& tile, const CodecAxis& codec,
                                        Eigen::Index extent, bool decode) {
  check_tile(tile, codec);
  const Eigen::Index r = codec.factor, scale = decode ? r : 1;
  const Eigen::Index size = (std::min)(tile.size, extent);
  const auto picture = [&](Eigen::Index n) { return codec.causal ? 1 + r * (n - 1) : r * n; };
  std::vector<Eigen::Index> begins{0};
  while (begins.back() + size < extent)
    begins.push_back((std::min)(begins.back() + tile.size - tile.overlap, extent - size));

  const auto out_begin = [&](std::size_t k) { return scale * begins[k]; };
  const auto out_end = [&](std::size_t k) {
    return out_begin(k) + (decode ? picture(size) : size);
  };
  const auto valid = [&](std::size_t k) { return out_begin(k) + (codec.causal && k > 0 ? 1 : 0); };
  std::vector<AxisWindow> in, out;
  for (std::size_t k = 0; k < begins.size(); ++k) {
    in.push_back(decode ? stretch(begins[k], size) : stretch(r * begins[k], picture(size)));
    out.push_back(stretch(out_begin(k), out_end(k) - out_begin(k)));
    for (std::size_t i = 0; i < out[k].at.size(); ++i) {
      const auto at = static_cast<Eigen::Index>(out[k].at[i]);
      double weight = at < valid(k) ? 0 : 1;
      if (k > 0)
        weight = (std::min)(
            weight, tile_ramp(at - valid(k), out_end(k - 1) - valid(k), scale * tile.margin));
      if (k + 1 < begins.size())
        weight = (std::min)(
            weight, tile_ramp(out_end(k) - 1 - at, out_end(k) - valid(k + 1), scale * tile.margin));
      out[k].weight[i] = weight;
    }
  }
  weigh_together(out, static_cast<std::size_t>(decode ? picture(extent) : extent), tile.dimension);
  std::vector<TileSide> sides;
  for (std::size_t k = 0; k < begins.size(); ++k)
    sides.push_back({std::move(in[k]), std::move(out[k])});
  return sides;
}

/// The tiles of all dimensions: boxes of what goes in, and of what comes out.
struct TileGrid {
  BoxGrid in, out;
};

template <State T>
TileGrid tile_grid(const CodecShape& codec, const ShapeOf<T>& latent, const ShapeOf<T>& in,
                   const ShapeOf<T>& out, const std::vector<TileAxis>& tiles, bool decode) {
  std::vector<std::vector<AxisWindow>> from, to;
  for (const std::size_t extent : memory_extents<T>(in))
    from.push_back({AxisWindow::whole(extent)});
  for (const std::size_t extent : memory_extents<T>(out)) to.push_back({AxisWindow::whole(extent)});
  std::vector<std::size_t> seen;
  for (const TileAxis& tile : tiles) {
    const CodecAxis* axis = nullptr;
    for (const CodecAxis& candidate : codec.axes)
      if (candidate.dimension == tile.dimension) axis = &candidate;
    if (!axis)
      fail(text("tiles along dimension ", tile.dimension, ", which is none of the codec's"));
    if (std::find(seen.begin(), seen.end(), tile.dimension) != seen.end())
      fail(text("dimension ", tile.dimension, " has tiles twice; it has them once"));
    seen.push_back(tile.dimension);
    const std::size_t d = memory_dimension<T>("TileAxis::dimension", latent, tile.dimension);
    from[d].clear();
    to[d].clear();
    for (TileSide& side :
         tile_sides(tile, *axis, static_cast<Eigen::Index>(latent[tile.dimension]), decode)) {
      from[d].push_back(std::move(side.in));
      to[d].push_back(std::move(side.out));
    }
  }
  return {BoxGrid(std::move(from)), BoxGrid(std::move(to))};
}

/// The shape of a box.
template <State T>
ShapeOf<T> box_shape(const Box& box) {
  ShapeOf<T> shape{};
  for (std::size_t d = 0; d < shape.size(); ++d)
    shape[StateTraits<T>::row_major ? d : shape.size() - 1 - d] =
        static_cast<typename ShapeOf<T>::value_type>(box[d]->at.size());
  return shape;
}

/// to = the blend of f(tile of `from`) over all tiles.
template <State T, class F>
void for_tiles(const T& from, T& to, const TileGrid& grid, const F& f) {
  const auto in_extents = memory_extents<T>(StateTraits<T>::shape(from));
  const auto out_extents = memory_extents<T>(StateTraits<T>::shape(to));
  std::fill_n(StateTraits<T>::data(to), blocks_of<T>(StateTraits<T>::shape(to), false).total(),
              ScalarOf<T>{0});
  for (std::size_t k = 0; k < grid.in.count(); ++k) {
    const Box in = grid.in.box(k), out = grid.out.box(k);
    T tile = StateTraits<T>::make(box_shape<T>(in));
    T result = StateTraits<T>::make(box_shape<T>(out));
    gather_box(StateTraits<T>::data(from), in_extents, in, StateTraits<T>::data(tile));
    f(std::as_const(tile), result);
    blend_box(StateTraits<T>::data(result), out, out_extents, StateTraits<T>::data(to));
  }
}

}  // namespace detail

/// `codec.decode(latent)`, tile by tile, in the memory that one tile takes. Equal to the whole,
/// but for rounding, wherever the decoder looks no further than the tiles' margin; nearer to a seam
/// than that, off by what it would have seen there. A decoder that looks at everything (attention,
/// group normalisation) sees tiles only: seams can be seen, the less the wider the overlap. Along a
/// causal dimension a later tile's decoder starts anew: it remembers a tile, not the whole past.
///
/// One tile at a time, the last axis the fastest. Fails for tiles and shapes that do not fit.
template <class Encode, class Decode, State T>
T tiled_decode(LatentCodec<Encode, Decode>& codec, const T& latent,
               const std::vector<TileAxis>& tiles) {
  const auto shape = StateTraits<T>::shape(latent);
  const auto picture_shape = codec.shape().picture_of(shape);
  const detail::TileGrid grid =
      detail::tile_grid<T>(codec.shape(), shape, shape, picture_shape, tiles, true);
  T z = latent;
  codec.scaling().decode(z);
  T picture = StateTraits<T>::make(picture_shape);
  detail::for_tiles(z, picture, grid, [&](const T& from, T& to) { codec.decode_raw(from, to); });
  return picture;
}

/// `codec.encode(picture)`, tile by tile; everything as for tiled_decode, sizes in elements of the
/// latent here too.
template <class Encode, class Decode, State T>
T tiled_encode(LatentCodec<Encode, Decode>& codec, const T& picture,
               const std::vector<TileAxis>& tiles) {
  const auto shape = StateTraits<T>::shape(picture);
  const auto latent_shape = codec.shape().latent_of(shape);
  const detail::TileGrid grid =
      detail::tile_grid<T>(codec.shape(), latent_shape, shape, latent_shape, tiles, false);
  T latent = StateTraits<T>::make(latent_shape);
  detail::for_tiles(picture, latent, grid,
                    [&](const T& from, T& to) { codec.encode_raw(from, to); });
  codec.scaling().encode(latent);
  return latent;
}

}  // namespace diffusion

#endif  // DIFFUSION_LATENT_TILING_HPP
