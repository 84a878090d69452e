#ifndef DIFFUSION_TESTS_PROGRAM_HPP
#define DIFFUSION_TESTS_PROGRAM_HPP

#include <sys/wait.h>

#include <unistd.h>

#include <array>
#include <cstdio>
#include <filesystem>
#include <string>

#include "catch.hpp"

/// How a program ended, and what it said on either stream.
struct Outcome {
  int code = -1;
  std::string said;
};

/// Runs one of the examples' programs.
inline Outcome run_program(const std::string& name, const std::string& arguments) {
  const std::string command =
      std::string(DIFFUSION_PROGRAMS_DIR) + "/" + name + " " + arguments + " 2>&1";
  std::FILE* pipe = popen(command.c_str(), "r");
  REQUIRE(pipe != nullptr);
  Outcome outcome;
  std::array<char, 4096> buffer{};
  while (std::fgets(buffer.data(), static_cast<int>(buffer.size()), pipe))
    outcome.said += buffer.data();
  outcome.code = WEXITSTATUS(pclose(pipe));
  return outcome;
}

/// A path of its own for each test and process, removed at the end.
struct Scratch {
  std::string path;
  explicit Scratch(const std::string& name)
      : path((std::filesystem::temp_directory_path() /
              ("diffusion-" + std::to_string(::getpid()) + "-" + name))
                 .string()) {}
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() { std::filesystem::remove_all(path); }
};

#endif  // DIFFUSION_TESTS_PROGRAM_HPP
