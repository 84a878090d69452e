#include "support/gallery_arguments.hpp"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <cstdio>

namespace examples {

namespace {

std::optional<int> parse(CLI::App& app, const std::string& program, int argc, char** argv) {
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    std::fputs(app.help().c_str(), stdout);
    return 0;
  } catch (const CLI::ParseError& error) {
    std::fprintf(stderr, "%s: %s (see --help)\n", program.c_str(), error.what());
    return 2;
  }
  return std::nullopt;
}

}  // namespace

std::optional<int> read_gallery_arguments(int argc, char** argv, const std::string& program,
                                          const std::string& does, GalleryArguments& arguments) {
  CLI::App app(does, program);
  app.add_option("--model", arguments.model, "folder of the network")->capture_default_str();
  app.add_option("--judge", arguments.judge, "folder of the classifier")->capture_default_str();
  app.add_option("--output", arguments.output, "the picture that is written")
      ->capture_default_str();
  CLI::Option* count = app.add_option("--count", arguments.count,
                                      "pictures, with seeds from 0 on; the first 16 are shown")
                           ->check(CLI::Range(1, 10000))
                           ->capture_default_str();
  app.add_flag("--score", arguments.score,
               "have the classifier judge the pictures, 240 unless --count says otherwise");
  if (const auto code = parse(app, program, argc, argv)) return code;
  if (arguments.score && count->empty()) arguments.count = 240;
  arguments.shown = std::min(arguments.count, 16);
  return std::nullopt;
}

std::optional<int> read_output_argument(int argc, char** argv, const std::string& program,
                                        const std::string& does, std::string& output) {
  CLI::App app(does, program);
  app.add_option("--output", output, "the picture that is written")->capture_default_str();
  return parse(app, program, argc, argv);
}

}  // namespace examples
