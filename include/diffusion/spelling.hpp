#ifndef DIFFUSION_SPELLING_HPP
#define DIFFUSION_SPELLING_HPP

#include <algorithm>
#include <cstddef>
#include <string_view>
#include <vector>

/// For messages that suggest what may have been meant.
namespace diffusion::detail {

/// How many letters have to be put in, left out or changed to make one word of the other
/// (Levenshtein's distance), small and capital letters being alike.
inline std::size_t letters_apart(std::string_view a, std::string_view b) {
  const auto alike = [](char c, char d) {
    const auto lower = [](char letter) {
      return letter >= 'A' && letter <= 'Z' ? static_cast<char>(letter - 'A' + 'a') : letter;
    };
    return lower(c) == lower(d);
  };
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t corner = row[0]++;
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t replaced = corner + (alike(a[i], b[j]) ? 0 : 1);
      corner = row[j + 1];
      row[j + 1] = (std::min)({replaced, row[j] + 1, corner + 1});
    }
  }
  return row.back();
}

}  // namespace diffusion::detail

#endif  // DIFFUSION_SPELLING_HPP
