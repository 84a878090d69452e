// Checks the pages of a source tree: check-pages ROOT. One line for every fault, FILE:LINE: what is
// wrong; status 1 where there is one.
#include "page_checks.hpp"

#include <cstdio>
#include <exception>
#include <stdexcept>
#include <string>

int main(int argc, char** argv) {
  try {
    if (argc != 2) throw std::invalid_argument("usage: check-pages ROOT");
    const pages::fs::path root = argv[1];
    const auto all = pages::read_pages(root);
    if (all.empty()) throw std::invalid_argument("there are no pages in " + root.string());
    const auto faults = pages::check_all(root, all);
    for (const pages::Fault& fault : faults) std::printf("%s\n", to_text(fault).c_str());
    std::size_t blocks = 0, links = 0;
    for (const pages::Page& page : all) {
      blocks += page.blocks.size();
      links += page.links.size();
    }
    std::printf("%zu pages, %zu blocks, %zu links: %zu faults\n", all.size(), blocks, links,
                faults.size());
    return faults.empty() ? 0 : 1;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "check-pages: %s\n", error.what());
    return 2;
  }
}
