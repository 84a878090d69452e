#ifndef DIFFUSION_TESTS_GENERATED_BLOCK_HPP
#define DIFFUSION_TESTS_GENERATED_BLOCK_HPP

// Tables in docs/*.md that a test makes: between two comments, and equal to what the test makes.

#include <fstream>
#include <sstream>
#include <string>

namespace generated {

/// What stands in docs/PAGE between "<!-- NAME: ... -->" and "<!-- end of NAME -->".
inline std::string block(const std::string& page, const std::string& name) {
  std::ifstream file(std::string(DIFFUSION_TEST_DATA) + "/../../docs/" + page);
  std::stringstream text;
  std::string line;
  bool inside = false;
  while (std::getline(file, line)) {
    if (line == "<!-- end of " + name + " -->") return text.str();
    if (inside) text << line << '\n';
    if (line.rfind("<!-- " + name + ":", 0) == 0) inside = true;
  }
  return inside ? "the block does not end" : "there is no such block";
}

}  // namespace generated

#endif  // DIFFUSION_TESTS_GENERATED_BLOCK_HPP
