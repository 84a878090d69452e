// The program explain-config: its options, what it writes, and what it says to bad arguments. What
// it prints for whole configurations is compared by CMakeLists.txt.
#include <diffusion/interop/diffusers_config.hpp>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

#include "catch.hpp"
#include "program.hpp"

namespace {

const std::string data = std::string(DIFFUSION_TEST_DATA) + "/explain/";
const std::string policy = data + "diffusion-policy-ddim.json ";

Outcome run(const std::string& arguments) { return run_program("explain-config", arguments); }

std::string scheduler(const std::string& name) {
  return R"({"_class_name": ")" + name + R"(Scheduler"})";
}

}  // namespace

TEST_CASE("every option of a run reaches the plan") {
  struct Row {
    std::string scheduler, options, says;
  };
  const std::vector<Row> rows = {
      {"DDIM", "--steps 4", "timesteps         750 500 250 0\n"},
      {"DDIM", "--timesteps 900,3", "timesteps         900 3\n"},
      {"DDIM", "--timesteps 900,3", "steps             2\n"},
      {"DDIM", "--eta 1", "draws of noise    20\n"},
      {"DDIM", "--use-clipped-model-output", "Python's behaviour and ours are the same here.\n"},
      {"DDIM", "--set timestep_spacing=trailing --steps 2", "timesteps         999 499\n"},
      {"DDIM", "--set 'timestep_spacing=\"trailing\"' --steps 2", "timesteps         999 499\n"},
      {"DDIM", "--set num_train_timesteps=10 --set steps_offset=1 --steps 2",
       "timesteps         6 1"},
      {"DDIM", "--load-as DDPMScheduler", "scheduler         DDPMScheduler\n"},
      {"DDIM", "--correct", "behaviour         correct: the samplers' own\n"},
      {"DDIM", "--whole --steps 30", "  29  yes    0"},
      {"DDIM", "--steps 30", "and 22 stages more (--whole)\n"},
      {"LMSDiscrete", "--order 1", "x0"},
      {"LCM", "--original-steps 20 --steps 2", "timesteps         999 499\n"},
      {"LCM", "--strength 0.5 --steps 2", "timesteps         499"},
      {"FlowMatchEulerDiscrete", "--set use_dynamic_shifting=true --mu 0 --steps 2",
       "network calls     2\n"},
      {"FlowMatchEulerDiscrete", "--sigmas 0.5,0.25", "sigmas            0.5 0.25 0\n"},
      {"SCM", "--steps 2 --max-timestep 1.5 --intermediate-timestep 1", "timesteps         1.5 1"},
      {"EulerDiscrete", "--s-churn 5 --s-tmin 1 --s-tmax 50 --s-noise 1.01", "draws of noise"},
  };
  for (const Row& row : rows) {
    const Scratch file("explain.json");
    std::ofstream(file.path) << scheduler(row.scheduler);
    const Outcome outcome = run(file.path + " " + row.options);
    INFO(row.scheduler << " " << row.options << "\n" << outcome.said);
    CHECK(outcome.code == 0);
    CHECK_THAT(outcome.said, contains(row.says));
  }
}

TEST_CASE("a pipeline's folder and its components") {
  const std::string model = std::string(DIFFUSION_MODELS_DIR) + "/digits-and-clothing";
  for (const std::string path : {"", "/", "/model_index.json", "/scheduler"})
    CHECK_THAT(run(model + path + " --steps 5").said,
               contains("timesteps         999 799 599 399 199\n"));
  CHECK_THAT(run(model + " --component unet").said, contains("UNet2DModel"));
}

TEST_CASE("the configuration with all its keys, as a file that reads back") {
  const Outcome written = run(policy + "--set lambda_min=1 --set clip_sample=false --write");
  CHECK(written.code == 0);
  const auto config = diffusion::parse_diffusers_config(written.said);
  const auto expected = diffusion::load_diffusers_config(data + "diffusion-policy-ddim.json")
                            .with("clip_sample", false);
  CHECK(config.resolved == expected.resolved);
  CHECK(config.plan(8) == expected.plan(8));
  CHECK(config.notes.empty());
}

TEST_CASE("bad arguments get one line and exit code 2") {
  struct Row {
    std::string arguments;
    std::vector<std::string> says;
  };
  const std::vector<Row> rows = {
      {"", {"FILE", "required"}},
      {"nowhere.json", {"there is no file nowhere.json"}},
      {data, {"is a folder with neither"}},
      {data + "flux.1-dev.output", {"flux.1-dev.output", "not JSON"}},
      {policy + "more.json", {"more.json"}},
      {policy + "--steps 0", {"--steps is 0; it must be a whole number in [1, 1000000]"}},
      {policy + "--steps many", {"--steps is many; it must be a whole number"}},
      {policy + "--steps 2.5", {"--steps is 2.5; it must be a whole number"}},
      {policy + "--steps 101", {"steps is 101", "[1, 100]"}},
      {policy + "--steps", {"--steps"}},
      {policy + "--eta x", {"--eta", "x"}},
      {policy + "--eta nan", {"eta is nan", "[0, 1]"}},
      {policy + "--eta 1.5", {"eta is 1.5", "[0, 1]"}},
      {policy + "--timesteps 5,7", {"timesteps[1] is 7"}},
      {policy + "--timesteps 5,x", {"--timesteps", "x"}},
      {policy + "--timesteps 100", {"timesteps[0] is 100", "[0, 99]"}},
      {policy + "--order 6", {"--order is 6; it must be a whole number in [1, 5]"}},
      {policy + "--original-steps 0", {"--original-steps is 0; it must be a whole number"}},
      {policy + "--mu many", {"--mu", "many"}},
      {policy + "--set beta_end", {"--set is beta_end; it must be KEY=VALUE"}},
      {policy + "--set =1", {"--set is =1; it must be KEY=VALUE"}},
      {policy + "--set beta_end=2", {"DDIMScheduler: beta_end is 2", "between 0 and 1"}},
      {policy + "--set timestep_spacing=log", {"timestep_spacing is \"log\"", "\"leading\""}},
      {policy + "--load-as Euler", {"\"Euler\"; it is not supported", "EulerDiscreteScheduler"}},
      {policy + "--load-as HeliosScheduler", {"it is not supported", "UniPCMultistepScheduler"}},
      {std::string(DIFFUSION_MODELS_DIR) + "/digits-and-clothing --component prior",
       {"model_index.json: there is no component \"prior\"; its schedulers are scheduler"}},
      {data + "flux.1-dev.json", {"mu is missing"}},
      {policy + "--loud", {"--loud"}},
  };
  for (const Row& row : rows) {
    const Outcome outcome = run(row.arguments);
    INFO(row.arguments);
    INFO(outcome.said);
    CHECK(outcome.code == 2);
    CHECK(std::count(outcome.said.begin(), outcome.said.end(), '\n') == 1);
    CHECK_THAT(outcome.said, contains("explain-config: "));
    for (const std::string& part : row.says) CHECK_THAT(outcome.said, contains(part));
  }
}

TEST_CASE("help names every option") {
  const Outcome help = run("--help");
  CHECK(help.code == 0);
  for (const char* option : {"FILE",
                             "--steps",
                             "--timesteps",
                             "--sigmas",
                             "--mu",
                             "--eta",
                             "--use-clipped-model-output",
                             "--order",
                             "--strength",
                             "--original-steps",
                             "--max-timestep",
                             "--intermediate-timestep",
                             "--s-churn",
                             "--s-tmin",
                             "--s-tmax",
                             "--s-noise",
                             "--correct",
                             "--whole",
                             "--write",
                             "--set",
                             "--load-as",
                             "--component"})
    CHECK_THAT(help.said, contains(option));
}
