// docs/from-diffusers.md: its C++ gives the numbers that its Python gave, and its Python is what
// was run.

#include "../docs/snippets/from_diffusers.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "catch.hpp"
#include "support.hpp"

namespace {

using namespace from_diffusers;
using nlohmann::json;

const std::string data = DIFFUSION_TEST_DATA;
const std::string scheduler = DIFFUSION_MODELS_DIR "/digits-and-clothing/scheduler";

// Both sides work in float32: a few units in the last place of numbers near 1, and more where
// hundreds of them add up or a step divides by a small alpha.
constexpr double tight = 1e-6;
constexpr double loose = 1e-5;

json python() {
  std::ifstream file(data + "/from_diffusers.json");
  return json::parse(file);
}

diffusion::DiffusersConfig config() {
  return diffusion::load_diffusers_config(scheduler + "/scheduler_config.json");
}

Image image(const diffusion::ShapeOf<Image>& shape, const json& values) {
  return support::tensor_of<Image>(shape, values.get<std::vector<double>>());
}

double error(const Image& x, const json& expected) {
  return support::relative_error(support::values_of(x), expected.get<std::vector<double>>());
}

using Lines = std::vector<std::string>;

/// The lines of a file without the blanks at either end.
Lines lines_of(const std::string& path) {
  std::ifstream file(path);
  if (!file) throw std::runtime_error("cannot read " + path);
  Lines lines;
  for (std::string line; std::getline(file, line);) {
    const std::size_t begin = line.find_first_not_of(" \t");
    const std::size_t end = line.find_last_not_of(" \t\r");
    lines.push_back(begin == std::string::npos ? "" : line.substr(begin, end - begin + 1));
  }
  return lines;
}

/// The fenced blocks of a language.
std::vector<Lines> blocks_of(const Lines& page, const std::string& language) {
  std::vector<Lines> blocks;
  bool inside = false;
  for (const std::string& line : page) {
    if (!inside && line == "```" + language) {
      inside = true;
      blocks.emplace_back();
    } else if (inside && line == "```") {
      inside = false;
    } else if (inside) {
      blocks.back().push_back(line);
    }
  }
  return blocks;
}

}  // namespace

TEST_CASE("the configuration and what Python loads from it") {
  const Configuration read = configuration(scheduler);
  CHECK((read.ddim.plan(5).traits().clipping.kind != diffusion::Clipping::Kind::none) ==
        python()["configuration"]["ddim_clips"].get<bool>());
  CHECK(python()["configuration"]["ddpm_variance"] == "fixed_small");
  CHECK(read.as_ddpm.resolved.at("variance_type") == "fixed_small");
}

TEST_CASE("timesteps, alphas_cumprod and init_noise_sigma") {
  const ByHand ours = by_hand();
  const json expected = python()["by_hand"];
  CHECK(ours.timesteps == expected["timesteps"].get<std::vector<double>>());
  // torch.cumprod multiplies in float, we in double before rounding: bit for bit nevertheless.
  CHECK(ours.alphas_cumprod == expected["alphas_cumprod"].get<std::vector<float>>());
  CHECK(ours.init_noise_sigma == expected["init_noise_sigma"].get<double>());
}

TEST_CASE("add_noise and get_velocity, a timestep for each sample") {
  const json expected = python()["forward"];
  const Image x0 = image({3, 1, 2, 2}, expected["x0"]);
  diffusion::TorchCpuNoise generator{1};
  const Image noise = randn({3, 1, 2, 2}, generator);
  CHECK(error(noise, expected["noise"]) < tight);
  const Forward ours = forward(x0, noise);
  CHECK(error(ours.noisy, expected["noisy"]) < tight);
  CHECK(error(ours.velocity, expected["velocity"]) < tight);
}

TEST_CASE("scale_model_input, step().pred_original_sample and prev_sample") {
  const json expected = python()["one_step"];
  const OneStep ours = one_step(config(), image({2, 1, 2, 3}, expected["start"]));
  CHECK(ours.t == expected["t"].get<double>());
  CHECK(error(ours.model_input, expected["model_input"]) == 0);
  // x0 = (x - sigma eps) / alpha with alpha = 0.006 at t = 999: numbers near 100.
  CHECK(error(ours.pred_original_sample, expected["pred_original_sample"]) < loose);
  CHECK(error(ours.prev_sample, expected["prev_sample"]) < loose);
}

TEST_CASE("the whole loop, with the generator") {
  const json cases = python()["whole_loop"];
  REQUIRE(cases.size() == 3);
  for (const json& expected : cases) {
    const Image ours = whole_loop(scheduler, expected["steps"].get<int>(),
                                  expected["eta"].get<double>(), expected["seed"].get<unsigned>());
    INFO(expected["steps"] << " steps, eta " << expected["eta"]);
    CHECK(error(ours, expected["sample"]) < loose);
  }
  const json ancestral = python()["ancestral_loop"];
  CHECK(error(ancestral_loop(configuration(scheduler).as_ddpm, ancestral["steps"].get<int>(),
                             ancestral["seed"].get<unsigned>()),
              ancestral["sample"]) < loose);
}

TEST_CASE("guidance by chunk(2)") {
  const json expected = python()["guided_loop"];
  CHECK(
      error(guided_loop(config(), expected["steps"].get<int>(),
                        expected["guidance_scale"].get<double>(), expected["seed"].get<unsigned>()),
            expected["sample"]) < loose);
}

TEST_CASE("image to image from a strength") {
  const json expected = python()["image_to_image"];
  const int steps = expected["steps"].get<int>();
  CHECK(error(image_to_image(config(), image({2, 1, 2, 3}, expected["picture"]), steps,
                             expected["strength"].get<double>(), expected["seed"].get<unsigned>()),
              expected["sample"]) < loose);
}

TEST_CASE("where the defaults differ, Python's are said in two options") {
  const json expected = python()["defaults"];
  const Image start = image({2, 1, 2, 3}, expected["start"]);
  const Defaults ours = defaults(start, expected["steps"].get<int>());
  CHECK(error(ours.compatible, expected["sample"]) < loose);
  CHECK(error(ours.correct, expected["sample"]) > 0.01);
}

TEST_CASE("a learned variance") {
  const json expected = python()["learned_variance"];
  CHECK(error(learned_variance(expected["steps"].get<int>(), expected["seed"].get<unsigned>()),
              expected["sample"]) < loose);
}

TEST_CASE("the page's Python is what was run") {
  const Lines script = lines_of(data + "/../python/make_from_diffusers.py");
  const std::vector<Lines> blocks =
      blocks_of(lines_of(data + "/../../docs/from-diffusers.md"), "python");
  REQUIRE(blocks.size() >= 7);
  for (const Lines& block : blocks) {
    INFO(block.front());
    CHECK(std::search(script.begin(), script.end(), block.begin(), block.end()) != script.end());
  }
}
