// Every check of the pages finds the fault that it is there for, and says where it is.
#include "page_checks.hpp"

#include "catch.hpp"

#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

namespace {

namespace fs = std::filesystem;

/// A small tree of documentation without a fault, in a folder that goes away with it.
class Tree {
 public:
  Tree() : root_(fs::temp_directory_path() / ("diffusion-pages-" + std::to_string(number()))) {
    fs::remove_all(root_);
    write("README.md", "# Us\n\n[docs](docs/README.md)\n\n```cpp\nint one = 1;\n```\n");
    write("docs/README.md", "# Index\n\n- [plan](plan.md#what-it-is)\n");
    write("docs/plan.md",
          "# Plan\n\n## What it is!\n\n![picture](images/plan.png)\n\n"
          "```cpp\nint main() {\n  one();\n}\n```\n\nIt prints\n\n```text\n  a  b\n\n1\n```\n");
    write("docs/images/plan.png", "not looked into");
    write("docs/snippets/plan.cpp", "void one();\nint main() {\n\n    one();\n}\n");
    write("docs/snippets/plan.output", "first\n  a  b\n\n1\nlast\n");
    write("examples/one.cpp", "int one = 1;\n");
  }
  Tree(const Tree&) = delete;
  Tree& operator=(const Tree&) = delete;
  ~Tree() { fs::remove_all(root_); }

  void write(const std::string& file, const std::string& text) const {
    fs::create_directories((root_ / file).parent_path());
    std::ofstream(root_ / file, std::ios::binary) << text;
  }
  void remove(const std::string& file) const { fs::remove(root_ / file); }

  /// The faults, one text each.
  std::vector<std::string> faults() const {
    std::vector<std::string> texts;
    for (const auto& fault : pages::check_all(root_, pages::read_pages(root_)))
      texts.push_back(to_text(fault));
    return texts;
  }

 private:
  static long long number() {
    static int made = 0;
    return std::chrono::steady_clock::now().time_since_epoch().count() + ++made;
  }
  fs::path root_;
};

using Texts = std::vector<std::string>;

}  // namespace

TEST_CASE("pages: a tree without a fault") { CHECK(Tree().faults().empty()); }

TEST_CASE("pages: code that is compiled nowhere") {
  const Tree tree;
  tree.write("README.md", "[docs](docs/README.md)\n\n```cpp\n  int two = 2;\n```\n");
  CHECK(tree.faults() ==
        Texts{"README.md:4: 'int two = 2;' is in no file of docs/snippets/ or examples/"});
}

TEST_CASE("pages: code that goes on otherwise than in its file") {
  const Tree tree;
  tree.write("docs/snippets/plan.cpp", "int main() {\n  int x;\n  one();\n}\n");
  CHECK(tree.faults() ==
        Texts{"docs/plan.md:9: 'one();' does not follow in any file of docs/snippets/ or "
              "examples/; the lines before it end at docs/snippets/plan.cpp:1"});
}

TEST_CASE("pages: a block that is empty or never closed") {
  const Tree tree;
  tree.write("README.md", "[docs](docs/README.md)\n```cpp\n```\n\n```cpp\nint one = 1;\nmore\n");
  CHECK(tree.faults() ==
        Texts{"README.md:2: the block is empty",
              "README.md:7: 'more' does not follow in any file of docs/snippets/ or examples/; "
              "the lines before it end at examples/one.cpp:1"});
}

TEST_CASE("pages: output that no program prints") {
  const Tree tree;
  tree.write("docs/snippets/plan.output", "first\n a  b\n\n1\nlast\n");  // a column to the left
  CHECK(tree.faults() == Texts{"docs/plan.md:16: '  a  b' is in no .output of docs/snippets/"});
}

TEST_CASE("pages: output that would not be looked at") {
  const Tree tree;
  tree.write("README.md", "[docs](docs/README.md)\n\nThis prints:\n\n```\n42\n```\n");
  CHECK(tree.faults() == Texts{"README.md:5: what a program prints stands in a ```text block"});
}

TEST_CASE("pages: links that lead nowhere") {
  const Tree tree;
  tree.remove("docs/images/plan.png");
  tree.write("examples/training/README.md", "[up](../nothing.md), [home](https://example.org/x)\n");
  tree.write("CHANGELOG.md", "`[not a link](x)`, [out](../../secret)\n");
  const Texts faults = tree.faults();
  REQUIRE(faults.size() == 3);
  CHECK(faults[0] == "CHANGELOG.md:1: the link leads to ../../secret, which is missing");
  CHECK(faults[1] == "docs/plan.md:5: the link leads to docs/images/plan.png, which is missing");
  CHECK(faults[2] ==
        "examples/training/README.md:1: the link leads to examples/nothing.md, which is missing");
}

TEST_CASE("pages: a heading that is not there") {
  const Tree tree;
  tree.write("docs/README.md", "# Index\n\n- [plan](plan.md#what-it-was) [here](#index)\n");
  CHECK(tree.faults() == Texts{"docs/README.md:3: docs/plan.md has no heading #what-it-was"});
}

TEST_CASE("pages: a page that cannot be reached") {
  const Tree tree;
  tree.write("docs/learn/island.md", "# Island\n\n[index](../README.md)\n");
  CHECK(tree.faults() ==
        Texts{"docs/learn/island.md:1: no way of links leads here from docs/README.md"});
}

TEST_CASE("pages: prose that is too wide") {
  const Tree tree;
  const std::string letters = "ä";  // two bytes, one column
  std::string wide;
  for (int i = 0; i < 120; ++i) wide += letters;
  tree.write("CHANGELOG.md", wide + "\n| " + wide + " |\n```\n" + wide + wide + "\n```\n");
  CHECK(tree.faults().empty());
  tree.write("CHANGELOG.md", "\n" + wide + "!\n");
  CHECK(tree.faults() == Texts{"CHANGELOG.md:2: the line has 121 columns; at most 120"});
}
