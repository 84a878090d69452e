#ifndef DIFFUSION_TESTS_PAGE_CHECKS_HPP
#define DIFFUSION_TESTS_PAGE_CHECKS_HPP

// What is checked of the documentation without running it. Pages are README.md, CHANGELOG.md,
// docs/**/*.md and examples/**/*.md.
//  - A ```cpp block of README.md or docs/ stands, as lines in a row, in a file of docs/snippets/ or
//    examples/, which are compiled; the white space around lines and empty lines do not count.
//  - A block after a line that ends in "prints" is ```text, and stands in a docs/snippets/*.output
//    or tests/data/explain/*.output, with which the output of a program is compared.
//  - Every relative link and picture leads to a file, and to a heading where it names one.
//  - Every page of docs/ can be reached from docs/README.md.
//  - No line of prose is longer than 120 columns (blocks and tables are not prose).

#include <algorithm>
#include <cctype>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace pages {

namespace fs = std::filesystem;

struct Line {
  std::size_t number = 0;  ///< in its file, from 1
  std::string text{};
};
using Lines = std::vector<Line>;

struct Fault {
  std::string file{};  ///< relative to the root
  std::size_t line = 0;
  std::string text{};
};

/// "docs/plan.md:12: what is wrong", for terminals and editors.
inline std::string to_text(const Fault& fault) {
  return fault.file + ":" + std::to_string(fault.line) + ": " + fault.text;
}

/// What stands between two fences.
struct Block {
  std::string language{};
  std::string before{};  ///< the last line above it that is not empty
  std::size_t line = 0;  ///< of the opening fence
  Lines lines{};
};

struct Link {
  std::string target{};
  std::size_t line = 0;
};

struct Page {
  std::string file{};  ///< relative to the root, with slashes
  Lines prose{};       ///< everything outside blocks
  std::vector<Block> blocks{};
  std::vector<Link> links{};
  std::set<std::string> anchors{};  ///< of its headings
};

inline constexpr std::size_t widest_prose = 120;

// ---- text ---------------------------------------------------------------------------------------

inline std::string trimmed(std::string_view text) {
  constexpr std::string_view white = " \t\r";
  const std::size_t first = text.find_first_not_of(white);
  if (first == std::string_view::npos) return {};
  return std::string(text.substr(first, text.find_last_not_of(white) - first + 1));
}

inline Lines read_lines(const fs::path& file) {
  std::ifstream stream(file, std::ios::binary);
  if (!stream) throw std::runtime_error("cannot read " + file.string());
  Lines lines;
  for (std::string text; std::getline(stream, text);) {
    if (text.ends_with('\r')) text.pop_back();
    lines.push_back({lines.size() + 1, text});
  }
  return lines;
}

/// How many columns a line takes: the characters of its UTF-8, not its bytes.
inline std::size_t columns(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(
      text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) >> 6) != 2; }));
}

/// The line without its `code`.
inline std::string without_code(std::string_view text) {
  std::string rest;
  bool code = false;
  for (const char c : text) {
    if (c == '`') code = !code;
    if (!code) rest += c;
  }
  return rest;
}

/// What a heading is called in links: small letters, no punctuation, hyphens for spaces.
inline std::string anchor_of(std::string_view heading) {
  std::string anchor;
  for (const char c : trimmed(heading)) {
    const auto letter = static_cast<unsigned char>(c);
    if (c == ' ')
      anchor += '-';
    else if (letter >= 128 || std::isalnum(letter) || c == '-' || c == '_')
      anchor += static_cast<char>(std::tolower(letter));
  }
  return anchor;
}

inline void add_links(const Line& line, std::vector<Link>& links) {
  const std::string text = without_code(line.text);
  for (std::size_t at = text.find("]("); at != std::string::npos; at = text.find("](", at)) {
    at += 2;
    const std::size_t end = std::min(text.find(')', at), text.size());
    links.push_back({text.substr(at, std::min(text.find(' ', at), end) - at), line.number});
  }
}

/// Splits a page into prose and blocks.
inline Page parse(const std::string& file, const Lines& lines) {
  Page page{.file = file};
  std::optional<Block> block;
  std::size_t indent = 0;
  std::string before;
  for (const Line& line : lines) {
    const std::string text = trimmed(line.text);
    if (text.starts_with("```") && !block) {
      indent = line.text.find('`');
      block = Block{.language = trimmed(text.substr(3)), .before = before, .line = line.number};
    } else if (text == "```") {
      page.blocks.push_back(*std::exchange(block, std::nullopt));
      before.clear();
    } else if (block) {
      const std::size_t cut = std::min(indent, line.text.size() - trimmed(line.text).size());
      block->lines.push_back({line.number, line.text.substr(std::min(cut, line.text.size()))});
    } else {
      page.prose.push_back(line);
      add_links(line, page.links);
      if (text.starts_with('#')) {
        const std::string anchor = anchor_of(text.substr(text.find_first_not_of('#')));
        std::string unique = anchor;
        for (int i = 1; !page.anchors.insert(unique).second; ++i)
          unique = anchor + "-" + std::to_string(i);
      }
      if (!text.empty()) before = text;
    }
  }
  if (block) page.blocks.push_back(*block);  // never closed: its lines are found nowhere
  return page;
}

// ---- files --------------------------------------------------------------------------------------

/// The files below a folder whose name ends so, relative to the root, in order; a folder that does
/// not exist has none.
inline std::vector<std::string> files_below(const fs::path& root, const std::string& folder,
                                            std::string_view ending) {
  std::vector<std::string> files;
  if (!fs::is_directory(root / folder)) return files;
  for (const auto& entry : fs::recursive_directory_iterator(root / folder)) {
    const std::string name = entry.path().lexically_relative(root).generic_string();
    if (entry.is_regular_file() && name.ends_with(ending)) files.push_back(name);
  }
  std::sort(files.begin(), files.end());
  return files;
}

inline std::vector<Page> read_pages(const fs::path& root) {
  std::vector<std::string> files;
  for (const char* file : {"README.md", "CHANGELOG.md"})
    if (fs::exists(root / file)) files.emplace_back(file);
  for (const char* folder : {"docs", "examples"})
    for (const std::string& file : files_below(root, folder, ".md")) files.push_back(file);
  std::vector<Page> result;
  for (const std::string& file : files) result.push_back(parse(file, read_lines(root / file)));
  return result;
}

/// A text in which blocks are looked up.
struct Source {
  std::string file{};
  Lines lines{};
};

/// Without the white space around lines and without empty lines.
inline Lines code_lines(const Lines& lines) {
  Lines result;
  for (const Line& line : lines)
    if (const std::string text = trimmed(line.text); !text.empty())
      result.push_back({line.number, text});
  return result;
}

/// Without the white space at the ends of lines.
inline Lines output_lines(const Lines& lines) {
  Lines result;
  for (const Line& line : lines) {
    const std::size_t last = line.text.find_last_not_of(" \t\r");
    result.push_back({line.number, line.text.substr(0, last == std::string::npos ? 0 : last + 1)});
  }
  return result;
}

// ---- checks -------------------------------------------------------------------------------------

/// How many lines of the block stand in a row in the text from line `first` on.
inline std::size_t matches(const Lines& block, const Lines& text, std::size_t first) {
  std::size_t n = 0;
  while (n < block.size() && first + n < text.size() && block[n].text == text[first + n].text) ++n;
  return n;
}

/// A fault unless the lines stand in one of the sources; it names the nearest place.
inline std::optional<Fault> look_up(const std::string& file, const Block& block, const Lines& lines,
                                    const std::vector<Source>& sources, const std::string& where) {
  if (lines.empty()) return Fault{file, block.line, "the block is empty"};
  std::size_t most = 0;
  std::string nearest;
  for (const Source& source : sources) {
    for (std::size_t i = 0; i < source.lines.size(); ++i) {
      const std::size_t n = matches(lines, source.lines, i);
      if (n == lines.size()) return std::nullopt;
      if (n <= most) continue;
      most = n;
      nearest = source.file + ":" + std::to_string(source.lines[i + n - 1].number);
    }
  }
  const Line& line = lines[most];
  if (most == 0) return Fault{file, line.number, "'" + line.text + "' is in no " + where};
  return Fault{file, line.number,
               "'" + line.text + "' does not follow in any " + where +
                   "; the lines before it end at " + nearest};
}

inline bool is_documentation(const Page& page) {
  return page.file == "README.md" || page.file.starts_with("docs/");
}

inline std::vector<Fault> check_blocks(const fs::path& root, const std::vector<Page>& all) {
  std::vector<Source> code, outputs;
  for (const char* folder : {"docs/snippets", "examples"})
    for (const char* ending : {".cpp", ".hpp"})
      for (const std::string& file : files_below(root, folder, ending))
        code.push_back({file, code_lines(read_lines(root / file))});
  for (const char* folder : {"docs/snippets", "tests/data/explain"})
    for (const std::string& file : files_below(root, folder, ".output"))
      outputs.push_back({file, output_lines(read_lines(root / file))});

  std::vector<Fault> faults;
  const auto add = [&faults](const std::optional<Fault>& fault) {
    if (fault) faults.push_back(*fault);
  };
  for (const Page& page : all) {
    if (!is_documentation(page)) continue;
    for (const Block& block : page.blocks) {
      const bool printed = block.before.ends_with("prints") || block.before.ends_with("prints:");
      if (block.language == "cpp")
        add(look_up(page.file, block, code_lines(block.lines), code,
                    "file of docs/snippets/ or examples/"));
      else if (printed && block.language == "text")
        add(look_up(page.file, block, output_lines(block.lines), outputs,
                    ".output of docs/snippets/"));
      else if (printed)
        faults.push_back(
            {page.file, block.line, "what a program prints stands in a ```text block"});
    }
  }
  return faults;
}

/// Where a link leads, relative to the root; nothing for one that leaves the tree.
inline std::optional<std::string> destination(const Page& page, const Link& link) {
  if (link.target.find(':') != std::string::npos) return std::nullopt;  // https:, mailto:
  const std::string path = link.target.substr(0, link.target.find('#'));
  if (path.empty()) return page.file;
  return (fs::path(page.file).parent_path() / path).lexically_normal().generic_string();
}

inline std::vector<Fault> check_links(const fs::path& root, const std::vector<Page>& all) {
  std::map<std::string, const Page*> by_file;
  for (const Page& page : all) by_file[page.file] = &page;
  std::vector<Fault> faults;
  for (const Page& page : all) {
    for (const Link& link : page.links) {
      const auto file = destination(page, link);
      if (!file) continue;
      if (file->starts_with("..") || file->starts_with("/") || !fs::exists(root / *file)) {
        faults.push_back(
            {page.file, link.line, "the link leads to " + *file + ", which is missing"});
        continue;
      }
      const std::size_t hash = link.target.find('#');
      const auto target = by_file.find(*file);
      if (hash == std::string::npos || target == by_file.end()) continue;
      const std::string anchor = link.target.substr(hash + 1);
      if (!target->second->anchors.contains(anchor))
        faults.push_back({page.file, link.line, *file + " has no heading #" + anchor});
    }
  }
  return faults;
}

inline std::vector<Fault> check_reach(const std::vector<Page>& all) {
  std::map<std::string, const Page*> unseen;
  for (const Page& page : all)
    if (page.file.starts_with("docs/")) unseen[page.file] = &page;
  std::vector<std::string> next{"docs/README.md"};
  while (!next.empty()) {
    const auto found = unseen.find(next.back());
    next.pop_back();
    if (found == unseen.end()) continue;
    const Page& page = *found->second;
    unseen.erase(found);
    for (const Link& link : page.links)
      if (auto file = destination(page, link)) next.push_back(*file);
  }
  std::vector<Fault> faults;
  for (const auto& [file, page] : unseen)
    faults.push_back({file, 1, "no way of links leads here from docs/README.md"});
  return faults;
}

inline std::vector<Fault> check_widths(const std::vector<Page>& all) {
  std::vector<Fault> faults;
  for (const Page& page : all)
    for (const Line& line : page.prose)
      if (const std::size_t n = columns(line.text);
          n > widest_prose && !trimmed(line.text).starts_with('|'))
        faults.push_back({page.file, line.number,
                          "the line has " + std::to_string(n) + " columns; at most " +
                              std::to_string(widest_prose)});
  return faults;
}

inline std::vector<Fault> check_all(const fs::path& root, const std::vector<Page>& all) {
  std::vector<Fault> faults;
  for (const auto& part :
       {check_blocks(root, all), check_links(root, all), check_reach(all), check_widths(all)})
    faults.insert(faults.end(), part.begin(), part.end());
  return faults;
}

}  // namespace pages

#endif  // DIFFUSION_TESTS_PAGE_CHECKS_HPP
