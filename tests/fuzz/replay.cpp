// Runs one fuzz target on files: every file named, and every file of the folders named. It needs no
// fuzzer, so any compiler checks the committed inputs: replay-npy tests/fuzz/corpus/npy
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <string>
#include <vector>

#include <support/file.hpp>

#include "fuzz.hpp"

namespace {

std::vector<std::string> files_of(const std::filesystem::path& path) {
  if (!std::filesystem::is_directory(path)) return {path.string()};
  std::vector<std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(path))
    files.push_back(entry.path().string());
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace

int main(int argc, char** argv) {
  std::size_t count = 0;
  try {
    for (int i = 1; i < argc; ++i)
      for (const std::string& file : files_of(argv[i])) {
        const examples::Bytes bytes = examples::read_file(file);
        std::fprintf(stderr, "%s\n", file.c_str());  // the last one, should the target end us
        LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
        ++count;
      }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "replay: %s\n", error.what());
    return 1;
  }
  std::printf("%zu inputs, no finding\n", count);
  return count > 0 ? 0 : 2;
}
