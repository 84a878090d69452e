// Compares the library with the reference's numbers: golden-check FILE... reads every format that
// golden/README.md describes, prints a line for each case, and closes with a count. Exit code 0:
// nothing failed; 1: something did; 2: bad usage, or a file that is not what it should be.

#include <CLI/CLI.hpp>

#include <cstdio>
#include <exception>
#include <fstream>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

#include "golden_check/data.hpp"
#include "golden_check/diffusers_tests.hpp"
#include "golden_check/functions.hpp"
#include "golden_check/guiders.hpp"
#include "golden_check/loops.hpp"
#include "golden_check/random.hpp"
#include "golden_check/report.hpp"
#include "golden_check/tables.hpp"

namespace {

using golden::Json;
using golden::Report;

Json read_file(const std::string& name) {
  std::ifstream stream(name);
  if (!stream) throw std::runtime_error("it cannot be opened");
  Json file = Json::parse(stream);
  if (!file.is_object()) throw std::runtime_error("it holds no JSON object");
  return file;
}

// A case of `cases`, told by what it holds.
void run_case(Report& report, const Json& one, std::size_t index) {
  if (one.contains("trajectory") || one.contains("loop"))
    golden::run_loop(report, one);
  else if (one.contains("betas"))
    golden::run_schedule(report, one);
  else if (one.contains("noisy"))
    golden::run_add_noise(report, one, index);
  else if (one.contains("guider"))
    golden::run_guider(report, one, index);
  else if (one.contains("text"))
    golden::run_scheduler_config(report, one);
  else if (one.contains("timesteps") && one.contains("scheduler"))
    golden::run_timesteps(report, one, index);
  else if (one.contains("function"))
    golden::run_function(report, one, index);
  else
    throw std::runtime_error("the kind of case " + std::to_string(index) + " is not known");
}

void run_list(const Json& file, const char* name, const auto& run) {
  if (!file.contains(name)) return;
  if (!file.at(name).is_array())
    throw std::runtime_error("\"" + std::string(name) + "\" is not a list");
  if (file.at(name).empty()) throw std::runtime_error("\"" + std::string(name) + "\" is empty");
  for (std::size_t i = 0; i < file.at(name).size(); ++i) run(file.at(name)[i], i);
}

void run_file(Report& report, const Json& file) {
  const bool known = file.contains("cases") || file.contains("full_loop") ||
                     file.contains("cpu_sequences") || file.contains("cuda_randn");
  if (!known) throw std::runtime_error("it is none of the formats of golden/README.md");
  if (file.contains("full_loop")) golden::run_diffusers_tests(report, file);
  if (file.contains("cpu_sequences")) golden::run_torch_randn(report, file);
  if (file.contains("cuda_randn")) golden::run_torch_cuda_randn(report, file);
  run_list(file, "cases", [&](const Json& one, std::size_t i) { run_case(report, one, i); });
  run_list(file, "functions",
           [&](const Json& one, std::size_t i) { golden::run_guider_function(report, one, i); });
  run_list(file, "loops",
           [&](const Json& one, std::size_t) { golden::run_guided_loop(report, one); });
}

int check(const std::vector<std::string>& files, const std::optional<std::string>& explained) {
  Report report(explained);
  bool readable = true;
  for (const std::string& name : files) {
    try {
      run_file(report, read_file(name));
    } catch (const std::exception& error) {  // the other files are checked all the same
      std::fprintf(stderr, "golden-check: %s: %s\n", name.c_str(), error.what());
      readable = false;
    }
  }
  if (readable && explained && !report.found()) {
    std::fprintf(stderr, "golden-check: no case is called \"%s\"\n", explained->c_str());
    return 2;
  }
  report.print_sum();
  if (!readable) return 2;
  return report.good() ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Compares the library with golden data; exit code 1 where a case fails.");
  std::vector<std::string> files;
  std::optional<std::string> explained;
  app.add_option("FILE", files, "golden files")->required();
  app.add_option("--explain", explained,
                 "only the case of this name: print the first stage that differs")
      ->type_name("CASE");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help
    std::fprintf(stderr, "golden-check: %s\n", error.what());
    return 2;
  }
  return check(files, explained);
}
