#ifndef DIFFUSION_EXAMPLES_FILE_HPP
#define DIFFUSION_EXAMPLES_FILE_HPP

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

/// What the example programs share: pictures, plots, arrays, progress. Not part of the library.
namespace examples {

using Bytes = std::vector<std::uint8_t>;

/// Writes the whole file, replacing what was there. Throws std::runtime_error with the system's
/// reason when any of it fails, a full disk included.
inline void write_file(const std::string& path, std::span<const std::uint8_t> bytes) {
  errno = 0;
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
  file.close();
  if (!file) throw std::runtime_error("cannot write " + path + ": " + std::strerror(errno));
}

/// Reads the whole file. Throws std::runtime_error with the system's reason.
inline Bytes read_file(const std::string& path) {
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot open " + path + ": " + std::strerror(errno));
  Bytes bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  if (file.bad()) throw std::runtime_error("cannot read " + path + ": " + std::strerror(errno));
  return bytes;
}

}  // namespace examples

#endif  // DIFFUSION_EXAMPLES_FILE_HPP
