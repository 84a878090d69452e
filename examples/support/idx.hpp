#ifndef DIFFUSION_EXAMPLES_IDX_HPP
#define DIFFUSION_EXAMPLES_IDX_HPP

#include <stb/stb_image.h>

#include <support/file.hpp>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <limits>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace examples {

/// An array of bytes out of an IDX file: the format of MNIST and Fashion-MNIST.
struct IdxArray {
  std::vector<std::size_t> shape;
  Bytes values;  ///< in C order
};

namespace detail {

/// What is in a gzip file (RFC 1952) of one member. Throws std::runtime_error where it is none.
inline Bytes gunzip(const std::string& path, std::span<const std::uint8_t> file) {
  const auto broken = [&] { return std::runtime_error(path + " is not a whole gzip file"); };
  const auto byte = [&](std::size_t i) -> std::uint8_t {
    if (i >= file.size()) throw broken();
    return file[i];
  };
  std::size_t at = 10;
  const unsigned flags = byte(3);
  if (byte(2) != 8) throw broken();
  if ((flags & 4U) != 0) at += std::size_t{2} + byte(at) + 256U * byte(at + 1);
  for (const unsigned text : {8U, 16U})  // name and comment, each ended by a zero
    if ((flags & text) != 0)
      while (byte(at++) != 0) {
      }
  if ((flags & 2U) != 0) at += 2;
  if (file.size() < at + 8 ||
      file.size() > static_cast<std::size_t>((std::numeric_limits<int>::max)()))
    throw broken();
  std::uint32_t size = 0;  // the last four bytes, the lowest first
  for (std::size_t i = 0; i < 4; ++i) size |= std::uint32_t{file[file.size() - 4 + i]} << (8 * i);
  int found = 0;  // the trailer goes along: the decoder reads ahead
  const std::unique_ptr<char, decltype(&std::free)> content(
      stbi_zlib_decode_noheader_malloc(reinterpret_cast<const char*>(file.data() + at),
                                       static_cast<int>(file.size() - at), &found),
      &std::free);
  if (!content || static_cast<std::uint32_t>(found) != size) throw broken();
  return Bytes(content.get(), content.get() + found);
}

}  // namespace detail

/// Reads an IDX file of bytes, as it is or compressed by gzip. Throws std::runtime_error with the
/// path and what is wrong.
inline IdxArray read_idx(const std::string& path) {
  Bytes file = read_file(path);
  if (file.size() >= 18 && file[0] == 0x1f && file[1] == 0x8b) file = detail::gunzip(path, file);
  if (file.size() < 4 || file[0] != 0 || file[1] != 0 || file[2] != 8)
    throw std::runtime_error(path + " is not an IDX file of bytes");
  const std::size_t rank = file[3], start = 4 + 4 * rank;
  if (file.size() < start) throw std::runtime_error(path + " ends within its sizes");
  IdxArray array;
  std::size_t total = 1;
  for (std::size_t i = 0; i < rank; ++i) {
    std::size_t extent = 0;
    for (std::size_t k = 0; k < 4; ++k) extent = 256 * extent + file[4 + 4 * i + k];
    array.shape.push_back(extent);
    if (extent > 0 && total > file.size() / extent)
      total = (std::numeric_limits<std::size_t>::max)();  // more than there can be
    else
      total *= extent;
  }
  if (file.size() - start != total)
    throw std::runtime_error(path + " holds " + std::to_string(file.size() - start) +
                             " bytes of data, which is not what its sizes say");
  array.values.assign(file.begin() + static_cast<std::ptrdiff_t>(start), file.end());
  return array;
}

/// The IDX file of a folder with this name, with or without .gz at its end. Throws where there is
/// neither.
inline IdxArray read_idx(const std::filesystem::path& folder, const std::string& name) {
  const std::filesystem::path plain = folder / name, packed = folder / (name + ".gz");
  if (std::filesystem::exists(plain)) return read_idx(plain.string());
  if (std::filesystem::exists(packed)) return read_idx(packed.string());
  throw std::runtime_error("there is no " + plain.string() + " and no " + packed.string());
}

}  // namespace examples

#endif  // DIFFUSION_EXAMPLES_IDX_HPP
