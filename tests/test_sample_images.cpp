// The program sample-images: the same pictures as Python for the same seed, and what it says to bad
// arguments. Python's pictures were made by tests/python/make_reference_pictures.py.
#include "catch.hpp"
#include "program.hpp"

#include <support/gif.hpp>
#include <support/image.hpp>
#include <support/npy.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

namespace {

const std::string model = std::string(DIFFUSION_MODELS_DIR) + "/digits-and-clothing";
const std::string student = model + "-lcm";
const std::string pictures = std::string(DIFFUSION_TEST_DATA) + "/pictures/";
const std::string student_pictures = std::string(DIFFUSION_TEST_DATA) + "/lcm-pictures/";

Outcome run(const std::string& arguments) { return run_program("sample-images", arguments); }

double largest_difference(const examples::NpyArray& a, const examples::NpyArray& b) {
  REQUIRE(a.shape == b.shape);
  double largest = 0;
  for (std::size_t i = 0; i < a.values.size(); ++i) {
    const double difference = std::abs(static_cast<double>(a.values[i]) - b.values[i]);
    if (!(difference <= largest)) largest = difference;
  }
  return largest;
}

/// Writes a model folder: a network of the test data or of the bundled model with some fields of
/// its config.json changed, and the bundled scheduler with some fields changed.
void write_model(const std::string& folder, const std::string& network,
                 const nlohmann::json& unet_fields, const nlohmann::json& scheduler_fields = {}) {
  const auto write_changed = [](const std::string& from, const std::string& to,
                                const nlohmann::json& fields) {
    std::ifstream stream(from);
    auto config = nlohmann::json::parse(stream);
    if (!fields.is_null()) config.update(fields);
    std::ofstream(to) << config;
  };
  std::filesystem::create_directories(folder + "/unet");
  std::filesystem::create_directories(folder + "/scheduler");
  write_changed(network + "/config.json", folder + "/unet/config.json", unet_fields);
  write_changed(model + "/scheduler/scheduler_config.json",
                folder + "/scheduler/scheduler_config.json", scheduler_fields);
  const std::string weights = "/diffusion_pytorch_model.safetensors";
  std::filesystem::create_symlink(std::filesystem::absolute(network + weights),
                                  folder + "/unet" + weights);
}

struct BadRow {
  std::string arguments;
  std::vector<std::string> says;
};

void check_refused(const BadRow& row) {
  const Outcome outcome = run(row.arguments);
  INFO(row.arguments);
  INFO(outcome.said);
  CHECK(outcome.code == 2);
  CHECK(std::count(outcome.said.begin(), outcome.said.end(), '\n') == 1);
  for (const std::string& part : row.says) CHECK_THAT(outcome.said, contains(part));
}

/// Runs the cases that were recorded in a folder; `named`: with the sampler that they name.
void check_like_python(const std::string& network, const std::string& recorded, bool named) {
  std::ifstream stream(recorded + "cases.json");
  const auto cases = nlohmann::json::parse(stream).at("cases");
  REQUIRE(cases.size() >= 4);
  const std::size_t checked = std::min<std::size_t>(cases.size(), DIFFUSION_REFERENCE_PICTURES);
  for (std::size_t i = 0; i < checked; ++i) {
    const auto& expected = cases[i];
    const auto file = expected.at("file").get<std::string>();
    INFO(file);
    const Scratch output("pictures.npy");
    std::string arguments = network + " --noise torch-cpu --output " + output.path;
    if (named) arguments += " --sampler " + expected.at("sampler").get<std::string>();
    for (const char* key : {"steps", "class", "count", "seed", "guidance"})
      arguments += std::string(" --") + key + " " + expected.at(key).dump();
    if (expected.at("sampler") == "ddim") arguments += " --eta " + expected.at("eta").dump();
    const Outcome outcome = run(arguments);
    INFO(outcome.said);
    REQUIRE(outcome.code == 0);
    CHECK(
        largest_difference(examples::read_npy(output.path), examples::read_npy(recorded + file)) <=
        expected.at("tolerance").get<double>());
  }
}

}  // namespace

TEST_CASE("the same seed gives the same pictures as in Python") {
  check_like_python(model, pictures, true);
}

TEST_CASE("the distilled student gives the pictures of Python's LCMScheduler") {
  SECTION("by the name of its sampler") { check_like_python(student, student_pictures, true); }
  SECTION("by its folder") { check_like_python(student, student_pictures, false); }
}

TEST_CASE("a distilled folder knows its timesteps") {
  const Scratch four("four.npy"), unnamed("unnamed.npy");
  REQUIRE(run(student + " --class 0 --sampler LCM --steps 4 --output " + four.path).code == 0);
  REQUIRE(run(student + " --class 0 --output " + unnamed.path).code == 0);
  CHECK(largest_difference(examples::read_npy(four.path), examples::read_npy(unnamed.path)) == 0);
  const BadRow rows[] = {
      {student + " --spacing linspace", {"--spacing", "distillation"}},
      {student + " --sampler lcm --spacing linspace", {"--spacing", "distillation"}},
      {student + " --sampler lcm --steps 51", {"51", "50"}},
  };
  for (const BadRow& row : rows) check_refused(row);
}

TEST_CASE("the distilled folder is small") {
  std::uintmax_t bytes = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(student))
    if (entry.is_regular_file()) bytes += entry.file_size();
  CHECK(bytes > 1'000'000);
  CHECK(bytes <= 4'000'000);
}

TEST_CASE("a picture does not depend on those beside it, nor on threads") {
  const Scratch alone("alone.npy"), among("among.npy");
  REQUIRE(run(model + " --class 0 --count 2 --steps 4 --seed 3 --threads 1 --output " + alone.path)
              .code == 0);
  REQUIRE(run(model + " --class 0,7,10-11 --count 2 --steps 4 --seed 3 --threads 2 --output " +
              among.path)
              .code == 0);
  const auto first = examples::read_npy(alone.path);
  const auto all = examples::read_npy(among.path);
  REQUIRE(all.shape == std::vector<std::size_t>{8, 1, 28, 28});
  CHECK(std::equal(first.values.begin(), first.values.end(), all.values.begin()));
}

TEST_CASE("PNG and GIF show the pictures") {
  const Scratch png("grid.png"), gif("film.gif");
  REQUIRE(run(model + " --class 0-3 --count 3 --steps 3 --output " + png.path).code == 0);
  const examples::Image grid = examples::read_png(png.path);
  CHECK(grid.width > grid.height);  // a column for each of 4 classes, 3 rows
  CHECK(*std::max_element(grid.pixels.begin(), grid.pixels.end()) > 200);
  REQUIRE(run(model + " --class 3 --count 1 --steps 3 --output " + gif.path).code == 0);
  CHECK(std::filesystem::file_size(gif.path) > 500);
}

TEST_CASE("bad arguments get one line and exit code 2") {
  const std::vector<BadRow> rows = {
      {"", {"MODEL_FOLDER", "required"}},
      {"nowhere", {"no folder nowhere"}},
      {model + "/scheduler", {"config.json"}},
      {model + " --steps 0", {"steps is 0", "[1, 1000]"}},
      {model + " --steps 1001", {"steps is 1001", "[1, 1000]"}},
      {model + " --steps many", {"--steps is many", "whole number in [1, 1000]"}},
      {model + " --steps 0x10", {"--steps is 0x10", "whole number in [1, 1000]"}},
      {model + " --steps 2.5", {"--steps is 2.5", "whole number in [1, 1000]"}},
      {model + " --steps ''", {"--steps is empty", "whole number in [1, 1000]"}},
      {model + " --sampler eler", {"sampler \"eler\" is not known", "Euler"}},
      {model + " --sampler ''", {"the name of a sampler is \"\""}},
      {model + " --sampler 'euler a' --eta 0.5", {"--eta", "ddim", "euler a has none"}},
      {model + " --sampler unipc --clip raw", {"--clip raw", "ddim"}},
      {model + " --spacing even", {"--spacing", "even"}},
      {model + " --eta 1.5", {"eta is 1.5", "[0, 1]"}},
      {model + " --eta -1", {"eta is -1", "[0, 1]"}},
      {model + " --sampler ddpm --eta 0.5", {"--eta", "ddim"}},
      {model + " --class 21", {"21 is not a class", "0 to 20"}},
      {model + " --class -1", {"-1 is not a class", "0 to 20"}},
      {model + " --class three", {"three", "class number"}},
      {model + " --class 0,", {"--class 0,", "\"\"", "class number"}},
      {model + " --class 3-", {"--class 3-", "\"\"", "class number"}},
      {model + " --class 0,,1", {"--class 0,,1", "\"\"", "class number"}},
      {model + " --class 5-3", {"5-3", "backwards"}},
      {model + " --count 0", {"--count is 0", "[1, 1000000]"}},
      {model + " --count 1000001", {"--count is 1000001", "[1, 1000000]"}},
      {model + " --count 2000 --class 0,1", {"--count 2000", "32768", "FILE.npy"}},
      {model + " --guidance nan", {"--guidance", "finite"}},
      {model + " --seed -1",
       {"--seed is -1; it must be a whole number in [0, 18446744073709551615]"}},
      {model + " --seed x",
       {"--seed is x; it must be a whole number in [0, 18446744073709551615]"}},
      {model + " --seed 18446744073709551616", {"--seed is 18446744073709551616;"}},
      {model + " --noise cuda", {"--noise", "cuda"}},
      {model + " --threads 0", {"--threads is 0", "[1, 1024]"}},
      {model + " --threads 0x2", {"--threads is 0x2", "[1, 1024]"}},
      {model + " --clip hard", {"--clip", "hard"}},
      {model + " --output picture.bmp", {"picture.bmp", ".png"}},
      {model + " --output nowhere/picture.png", {"no folder nowhere"}},
      {model + " --loud", {"--loud"}},
  };
  for (const BadRow& row : rows) check_refused(row);
  const Scratch folder("folder.png");
  std::filesystem::create_directory(folder.path);
  check_refused({model + " --output " + folder.path, {folder.path, "is a folder"}});
  const Outcome help = run("--help");
  CHECK(help.code == 0);
  for (const char* option : {"--sampler", "--steps", "--spacing", "--eta", "--guidance", "--class",
                             "--count", "--seed", "--noise", "--threads", "--output"})
    CHECK_THAT(help.said, contains(option));
}

TEST_CASE("a folder that does not fit together is refused before sampling") {
  const std::string networks = std::string(DIFFUSION_TEST_DATA) + "/unet/";
  struct Row {
    std::string network;
    nlohmann::json unet_fields;
    std::string arguments;
    std::vector<std::string> says;
  };
  const nlohmann::json unchanged = nlohmann::json::object();
  const nlohmann::json square = {{"sample_size", 16}};
  const std::vector<Row> rows = {
      {model + "/unet", {{"sample_size", 30}}, "", {"1 x 30 x 30", "multiples of 4"}},
      {model + "/unet", {{"sample_size", nullptr}}, "", {"sample_size"}},
      // More than any machine has, and more than fits a picture file.
      {model + "/unet", {{"sample_size", 1 << 20}}, "--output x.npy", {"too much memory", "GB"}},
      {model + "/unet", {{"sample_size", 1 << 20}}, "", {"32768"}},
      {networks + "class_timestep", square, "", {"class_embed_type", "timestep"}},
      {networks + "class_identity", square, "", {"class_embed_type", "identity"}},
      {networks + "four_levels", unchanged, "", {"--output", "2 channels", "FILE.npy"}},
      {networks + "four_levels", unchanged, "--output x.gif", {"--output", "2 channels"}},
      {networks + "four_levels", unchanged, "--output x.npy", {"answers 3 channels for 2"}},
      // A network that knows 20 timesteps under a scheduler of 1000.
      {networks + "learned_time", square, "", {"timestep 999", "19"}},
  };
  for (const Row& row : rows) {
    const Scratch folder("model");
    write_model(folder.path, row.network, row.unet_fields);
    check_refused({folder.path + " " + row.arguments, row.says});
  }
}

TEST_CASE("numbers are decimal and file names of either case") {
  const Scratch plain("plain.npy"), zeros("zeros.NPY"), picture("grid.PNG");
  const std::string few = model + " --class 4 --count 1 --threads 2 ";
  REQUIRE(run(few + "--steps 10 --seed 8 --output " + plain.path).code == 0);
  REQUIRE(run(few + "--steps 010 --seed 08 --output " + zeros.path).code == 0);
  CHECK(examples::read_npy(plain.path).values == examples::read_npy(zeros.path).values);
  REQUIRE(run(few + "--steps 2 --output " + picture.path).code == 0);
  CHECK(examples::read_png(picture.path).width ==
        64);  // 28 pixels and a margin of 2, twice as large
}

TEST_CASE("quadratic spacing steps from each timestep to the next") {
  // Full noise makes DDIM the same as DDPM, which has no stride: only if DDIM uses none either.
  const Scratch ddim("ddim.npy"), ddpm("ddpm.npy");
  const std::string run_of_8 = model + " --class 4 --spacing quadratic --steps 8 --seed 2 ";
  REQUIRE(run(run_of_8 + "--sampler ddim --eta 1 --output " + ddim.path).code == 0);
  REQUIRE(run(run_of_8 + "--sampler ddpm --output " + ddpm.path).code == 0);
  CHECK(largest_difference(examples::read_npy(ddim.path), examples::read_npy(ddpm.path)) <= 1e-3);
}

TEST_CASE("a sampler by name runs on the folder's schedule, with its clipping") {
  // Euler's method is DDIM; on even steps DDIM's stride is the next timestep.
  const Scratch ddim("ddim.npy"), euler("euler.npy"), other("other.npy");
  const std::string run_of_8 = model + " --class 4 --spacing trailing --steps 8 --seed 2 ";
  REQUIRE(run(run_of_8 + "--sampler ddim --clip rederived --output " + ddim.path).code == 0);
  REQUIRE(run(run_of_8 + "--sampler euler --clip rederived --output " + euler.path).code == 0);
  REQUIRE(run(model + " --class 4 --steps 8 --seed 2 --sampler 'DPM++ 2M Karras' --output " +
              other.path)
              .code == 0);
  CHECK(largest_difference(examples::read_npy(ddim.path), examples::read_npy(euler.path)) <= 1e-3);
  CHECK(largest_difference(examples::read_npy(ddim.path), examples::read_npy(other.path)) > 0.01);
}
