#ifndef DIFFUSION_TESTS_FUZZ_HPP
#define DIFFUSION_TESTS_FUZZ_HPP

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string_view>

/// One run of a reader on the bytes of a file. libFuzzer calls it with millions of inputs, and
/// replay.cpp with the committed ones. Whatever a reader does but succeed or throw what it
/// documents ends the program, and so is a finding.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace fuzz {

/// Ends the program unless `holds`.
inline void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "finding: not so: %s\n", what);
  std::abort();
}

inline std::string_view text_of(const std::uint8_t* data, std::size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

/// A number that depends on all of the input: to choose arguments that a file does not hold.
inline std::size_t choice(std::string_view text) { return std::hash<std::string_view>{}(text); }

/// Whether an error message is one that can be printed: it says something, on one line, and does
/// not repeat a long file.
inline void require_message(std::string_view message) {
  require(!message.empty(), "an error has a message");
  require(message.size() < 1000, "an error's message is shorter than 1000 bytes");
  require(message.find('\n') == std::string_view::npos, "an error's message is one line");
  require(message.find('\0') == std::string_view::npos, "an error's message holds no NUL");
}

}  // namespace fuzz

#endif  // DIFFUSION_TESTS_FUZZ_HPP
