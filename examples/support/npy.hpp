#ifndef DIFFUSION_EXAMPLES_NPY_HPP
#define DIFFUSION_EXAMPLES_NPY_HPP

#include <bit>
#include <cctype>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "support/file.hpp"

namespace examples {

/// An array of NumPy's .npy format: float32, C order (the last axis is contiguous).
struct NpyArray {
  std::vector<std::size_t> shape;  ///< empty for a single number
  std::vector<float> values;
};

namespace detail {

inline constexpr std::string_view npy_magic = "\x93NUMPY";

/// The product of the axes; throws if it exceeds `limit`, before it can overflow.
inline std::size_t element_count(std::span<const std::size_t> shape, std::size_t limit) {
  std::size_t count = 1;
  for (const std::size_t axis : shape) {
    if (axis == 0) return 0;
    if (count > limit / axis) throw std::runtime_error("its shape holds more than the file");
    count *= axis;
  }
  if (count > limit) throw std::runtime_error("its shape holds more than the file");
  return count;
}

/// Text of a header as an error message repeats it: on one line, not too long.
inline std::string printable(std::string_view text) {
  constexpr std::size_t longest = 60;
  std::string line(text.substr(0, longest));
  for (char& c : line)
    if (std::isprint(static_cast<unsigned char>(c)) == 0) c = '?';
  return text.size() > longest ? line + "..." : line;
}

/// Reads the Python literal of a .npy header, of which only one form is ever written:
/// {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }, the keys in any order.
class NpyHeaderReader {
 public:
  explicit NpyHeaderReader(std::string_view text) : rest_(text) {}

  std::vector<std::size_t> read_shape() {
    bool has_descr = false;
    bool has_order = false;
    bool has_shape = false;
    std::vector<std::size_t> shape;
    expect("{");
    while (!accept("}")) {
      const std::string key = quoted();
      expect(":");
      if (key == "descr" && !has_descr) {
        has_descr = true;
        const std::string type = quoted();
        if (type != "<f4")
          fail("its type is '" + printable(type) + "'; only '<f4' (float32) is read");
      } else if (key == "fortran_order" && !has_order) {
        has_order = true;
        if (!accept("False")) fail("it is not in C order");
      } else if (key == "shape" && !has_shape) {
        has_shape = true;
        shape = tuple();
      } else {
        fail("its header has an unknown or repeated key '" + printable(key) + "'");
      }
      if (!accept(",")) {
        expect("}");
        break;
      }
    }
    skip_space();
    if (!rest_.empty()) fail("its header does not end after '}'");
    if (!has_descr || !has_order || !has_shape) fail("its header lacks a key");
    return shape;
  }

 private:
  [[noreturn]] static void fail(const std::string& reason) { throw std::runtime_error(reason); }

  void skip_space() {
    while (!rest_.empty() && std::isspace(static_cast<unsigned char>(rest_.front())) != 0) {
      rest_.remove_prefix(1);
    }
  }

  bool accept(std::string_view token) {
    skip_space();
    if (!rest_.starts_with(token)) return false;
    rest_.remove_prefix(token.size());
    return true;
  }

  void expect(std::string_view token) {
    if (!accept(token)) fail("its header lacks '" + std::string(token) + "'");
  }

  std::string quoted() {
    skip_space();
    const char quote = rest_.starts_with('"') ? '"' : '\'';
    expect(std::string_view(&quote, 1));
    const std::size_t end = rest_.find(quote);
    if (end == std::string_view::npos) fail("its header has a string without an end");
    std::string text(rest_.substr(0, end));
    rest_.remove_prefix(end + 1);
    return text;
  }

  std::size_t number() {
    skip_space();
    std::size_t value = 0;
    std::size_t digits = 0;
    while (!rest_.empty() && std::isdigit(static_cast<unsigned char>(rest_.front())) != 0) {
      if (++digits > 15) fail("an axis of its shape is too long");
      value = 10 * value + static_cast<std::size_t>(rest_.front() - '0');
      rest_.remove_prefix(1);
    }
    if (digits == 0) fail("its shape is not a tuple of numbers");
    return value;
  }

  std::vector<std::size_t> tuple() {
    std::vector<std::size_t> axes;
    expect("(");
    while (!accept(")")) {
      axes.push_back(number());
      if (axes.size() > 32) fail("its shape has more than 32 axes");
      if (!accept(",")) {
        expect(")");
        break;
      }
    }
    return axes;
  }

  std::string_view rest_;
};

inline void append_little_endian(Bytes& bytes, std::uint32_t value, int size) {
  for (int i = 0; i < size; ++i) bytes.push_back(static_cast<std::uint8_t>(value >> (8 * i)));
}

inline std::uint32_t little_endian(std::span<const std::uint8_t> bytes) {
  std::uint32_t value = 0;
  for (std::size_t i = 0; i < bytes.size(); ++i) value |= std::uint32_t{bytes[i]} << (8 * i);
  return value;
}

}  // namespace detail

/// The bytes of a .npy file, version 1.0. Throws unless the shape holds as many values as given.
inline Bytes encode_npy(std::span<const float> values, std::span<const std::size_t> shape) {
  std::size_t count = 1;
  std::string axes;
  for (const std::size_t axis : shape) {
    count *= axis;
    axes += std::to_string(axis) + (shape.size() == 1 ? "," : ", ");
  }
  if (shape.size() > 1) axes.resize(axes.size() - 2);
  if (count != values.size()) {
    throw std::invalid_argument("an array of shape (" + axes + ") cannot hold " +
                                std::to_string(values.size()) + " values");
  }
  std::string header = "{'descr': '<f4', 'fortran_order': False, 'shape': (" + axes + "), }";
  const std::size_t before = detail::npy_magic.size() + 4;
  while ((before + header.size() + 1) % 64 != 0) header += ' ';  // the data are to be aligned
  header += '\n';
  if (header.size() > 65535) throw std::invalid_argument("a .npy array with too many axes");

  Bytes bytes(detail::npy_magic.begin(), detail::npy_magic.end());
  bytes.push_back(1);
  bytes.push_back(0);
  detail::append_little_endian(bytes, static_cast<std::uint32_t>(header.size()), 2);
  bytes.insert(bytes.end(), header.begin(), header.end());
  bytes.reserve(bytes.size() + 4 * values.size());
  for (const float value : values) {
    detail::append_little_endian(bytes, std::bit_cast<std::uint32_t>(value), 4);
  }
  return bytes;
}

/// Reads the bytes of a .npy file, versions 1 to 3. Throws std::runtime_error with the reason when
/// they are anything but a float32 array in C order, complete and with nothing behind it.
inline NpyArray decode_npy(std::span<const std::uint8_t> bytes) {
  const std::size_t magic = detail::npy_magic.size();
  if (bytes.size() < magic + 4 || std::memcmp(bytes.data(), detail::npy_magic.data(), magic) != 0) {
    throw std::runtime_error("it does not begin as a .npy file does");
  }
  const int version = bytes[magic];
  if (version < 1 || version > 3) {
    throw std::runtime_error("its version is " + std::to_string(version) +
                             "; versions 1 to 3 are read");
  }
  const std::size_t length_size = version == 1 ? 2 : 4;
  const std::size_t header_begin = magic + 2 + length_size;
  if (bytes.size() < header_begin) throw std::runtime_error("it ends within its header");
  const std::size_t header_size = detail::little_endian(bytes.subspan(magic + 2, length_size));
  if (header_size > bytes.size() - header_begin) {
    throw std::runtime_error("it ends within its header");
  }
  const auto header = bytes.subspan(header_begin, header_size);
  const auto data = bytes.subspan(header_begin + header_size);

  NpyArray array;
  array.shape =
      detail::NpyHeaderReader({reinterpret_cast<const char*>(header.data()), header.size()})
          .read_shape();
  const std::size_t count = detail::element_count(array.shape, data.size() / 4);
  if (data.size() != 4 * count) {
    throw std::runtime_error("it holds " + std::to_string(data.size()) +
                             " bytes of data, its shape " + std::to_string(4 * count));
  }
  array.values.resize(count);
  for (std::size_t i = 0; i < count; ++i) {
    array.values[i] = std::bit_cast<float>(detail::little_endian(data.subspan(4 * i, 4)));
  }
  return array;
}

/// Writes a .npy file; throws std::runtime_error with the reason when that fails.
inline void write_npy(const std::string& path, std::span<const float> values,
                      std::span<const std::size_t> shape) {
  write_file(path, encode_npy(values, shape));
}

/// Reads a .npy file; the errors of `decode_npy`, with the file's name.
inline NpyArray read_npy(const std::string& path) {
  const Bytes bytes = read_file(path);
  try {
    return decode_npy(bytes);
  } catch (const std::runtime_error& error) {
    throw std::runtime_error("cannot read " + path + ": " + error.what());
  }
}

}  // namespace examples

#endif  // DIFFUSION_EXAMPLES_NPY_HPP
