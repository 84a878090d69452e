// What a scheduler configuration's reader says beyond plans: where it finds the file, which class
// it suggests, that what it writes reads back, what it warns of, where Python and we differ.
#include <diffusion/interop/diffusers_report.hpp>

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <functional>
#include <limits>
#include <set>
#include <string>
#include <vector>

#include "catch.hpp"
#include "golden_check/data.hpp"

namespace {

using namespace diffusion;
using Kind = DiffusersNote::Kind;
using Texts = std::vector<std::string>;
using nlohmann::json;

DiffusersConfig parse(const std::string& text, Behaviour behaviour = Behaviour::compatible) {
  return parse_diffusers_config(text, {.behaviour = behaviour});
}

/// A configuration of the class with these further keys, as they stand in the file.
std::string file(const std::string& class_name, const std::string& keys = {}) {
  return R"({"_class_name": ")" + class_name + "\"" + (keys.empty() ? "" : ", " + keys) + "}";
}

/// What `call` fails with.
std::string message(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "(nothing was wrong)";
}

std::string message_of(const std::string& text) {
  return message([&] { parse(text); });
}

/// A folder of its own for each test, removed at the end.
class Folder {
 public:
  Folder()
      : path_(std::filesystem::temp_directory_path() /
              ("diffusion-test-" + std::to_string(getpid()) + "-pipeline")) {
    std::filesystem::create_directories(path_);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() { std::filesystem::remove_all(path_); }

  const std::filesystem::path& path() const { return path_; }
  void write(const std::string& name, const std::string& text) const {
    std::filesystem::create_directories((path_ / name).parent_path());
    std::ofstream(path_ / name) << text;
  }
  DiffusersConfig load(const std::string& name = {}, const DiffusersReading& reading = {}) const {
    return load_diffusers_config(name.empty() ? path_ : path_ / name, reading);
  }
  std::string failure(const std::string& name = {}, const DiffusersReading& reading = {}) const {
    return message([&] { load(name, reading); });
  }

 private:
  std::filesystem::path path_;
};

}  // namespace

// ---- where the file is --------------------------------------------------------------------------

TEST_CASE("a pipeline's folder, its index, a scheduler's folder, a file") {
  const Folder folder;
  folder.write("model_index.json",
               R"({"_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.30.0",
                   "scheduler": ["diffusers", "DDIMScheduler"],
                   "prior_scheduler": ["diffusers", "DDPMScheduler"],
                   "unet": ["diffusers", "UNet2DConditionModel"],
                   "safety_checker": [null, null], "requires_safety_checker": false})");
  folder.write("scheduler/scheduler_config.json", file("DDIMScheduler", R"("beta_end": 0.01)"));
  folder.write("prior_scheduler/scheduler_config.json",
               file("DDPMScheduler", R"("beta_end": 0.03)"));

  for (const std::string name :
       {"", "model_index.json", "scheduler", "scheduler/", "scheduler/scheduler_config.json"}) {
    INFO(name);
    const DiffusersConfig config = folder.load(name);
    CHECK(config.class_name == "DDIMScheduler");
    CHECK(config.resolved.at("beta_end") == 0.01);
    CHECK(config.notes.empty());
  }
  for (const std::string name : {"", "model_index.json"}) {
    const DiffusersConfig prior = folder.load(name, {.component = "prior_scheduler"});
    CHECK(prior.class_name == "DDPMScheduler");
    CHECK(prior.resolved.at("beta_end") == 0.03);
  }
  CHECK(folder.load("", {.load_as = "DDPMScheduler"}).class_name == "DDPMScheduler");
  CHECK(folder.load("", {.behaviour = Behaviour::correct}).behaviour == Behaviour::correct);

  const std::string index = (folder.path() / "model_index.json").string() + ": ";
  CHECK(folder.failure("", {.component = "sampler"}) ==
        index + "there is no component \"sampler\"; its schedulers are prior_scheduler, scheduler");
  CHECK(folder.failure("", {.component = "safety_checker"}) ==
        index +
            "safety_checker is [null,null]: the pipeline was saved without it; its schedulers "
            "are prior_scheduler, scheduler");
  CHECK_THAT(folder.failure("", {.component = "unet"}),
             contains(index + "the scheduler class is \"UNet2DConditionModel\"; it is not"));
  CHECK_THAT(folder.failure("", {.component = "requires_safety_checker"}),
             contains("is false; it must be a pair of library and class name"));
}

TEST_CASE("an index in the working folder") {
  const Folder folder;
  folder.write("model_index.json", R"({"scheduler": ["diffusers", "DDIMScheduler"]})");
  folder.write("scheduler/scheduler_config.json", file("DDIMScheduler"));
  const auto before = std::filesystem::current_path();
  std::filesystem::current_path(folder.path());
  CHECK(load_diffusers_config("model_index.json").class_name == "DDIMScheduler");
  CHECK(load_diffusers_config(".").class_name == "DDIMScheduler");
  std::filesystem::current_path(before);
}

TEST_CASE("the class that the index names reads the file") {
  const Folder folder;
  folder.write("scheduler/scheduler_config.json", file("DDIMScheduler", R"("beta_end": 0.03)"));
  const auto index = [&](const std::string& entry) {
    folder.write("model_index.json", "{\"scheduler\": " + entry + "}");
  };
  index(R"(["diffusers", "DDPMScheduler"])");
  const DiffusersConfig config = folder.load();
  CHECK(config.class_name == "DDPMScheduler");
  CHECK(config.resolved.at("beta_end") == 0.03);
  const std::string difference =
      "_class_name is \"DDIMScheduler\"; model_index.json names DDPMScheduler, which reads the "
      "file";
  REQUIRE(config.notes.size() == 1);
  CHECK(config.notes[0].kind == Kind::overruled);
  CHECK(config.notes[0].key == "_class_name");
  CHECK(config.notes[0].text == difference);
  REQUIRE(config.with("beta_end", 0.02).notes.size() == 1);  // still true
  CHECK(config.with("beta_end", 0.02).notes[0].text == difference);

  // Chosen by the caller, a class needs no explanation; the scheduler's own folder has no index.
  CHECK(folder.load("", {.load_as = "DDIMScheduler"}).notes.empty());
  CHECK(folder.load("scheduler").class_name == "DDIMScheduler");

  index(R"(["diffusers", "FlaxDDIMScheduler"])");  // PyTorch's pipelines read it so
  CHECK(folder.load().class_name == "DDIMScheduler");
  CHECK(folder.load().notes.empty());

  folder.write("scheduler/scheduler_config.json", R"({"_class_name": 3})");
  CHECK(folder.load().class_name == "DDIMScheduler");
  REQUIRE(folder.load().notes.size() == 1);
  CHECK_THAT(folder.load().notes[0].text, contains("_class_name is 3; model_index.json names"));
}

TEST_CASE("folders that are not whole") {
  const Folder folder;
  const std::string path = folder.path().string();
  CHECK(folder.failure() ==
        path + " is a folder with neither scheduler_config.json nor model_index.json in it");
  CHECK(folder.failure("nothing") ==
        "there is no file " + (folder.path() / "nothing").string() +
            "; a diffusers model keeps it as scheduler/scheduler_config.json");
  CHECK_THAT(folder.failure("model_index.json"), contains("there is no file"));

  folder.write("prior/scheduler_config.json", file("DDPMScheduler"));  // an index is not needed
  CHECK(folder.load("", {.component = "prior"}).class_name == "DDPMScheduler");

  folder.write("model_index.json", R"({"scheduler": ["diffusers", "DDIMScheduler"]})");
  CHECK_THAT(folder.failure(),
             contains("there is no file " + path + "/scheduler/scheduler_config"));
}

TEST_CASE("indexes that are none") {
  const Folder folder;
  folder.write("scheduler/scheduler_config.json", file("DDIMScheduler"));
  struct Row {
    std::string index, says;
  };
  const std::string pair = "it must be a pair of library and class name";
  const std::vector<Row> rows = {
      {"", "not JSON"},
      {"[]", "is a JSON array; it must be an object"},
      {"{}", "there is no component \"scheduler\"; it names no scheduler"},
      {R"({"scheduler": null})", "scheduler is null; " + pair},
      {R"({"scheduler": "DDIMScheduler"})", "scheduler is \"DDIMScheduler\"; " + pair},
      {R"({"scheduler": ["diffusers"]})", "scheduler is [\"diffusers\"]; " + pair},
      {R"({"scheduler": ["a", "b", "c"]})", "scheduler is [\"a\",\"b\",\"c\"]; " + pair},
      {R"({"scheduler": ["diffusers", 3]})", "the class of scheduler is 3; it must be"},
      {R"({"scheduler": [null, null]})",
       "scheduler is [null,null]: the pipeline was saved without it; it names no scheduler"},
      {R"({"scheduler": ["diffusers", ""]})", "the class of scheduler is \"\"; it must be"},
      {R"({"scheduler": ["diffusers", "DDIMSchedular"]})",
       "the scheduler class is \"DDIMSchedular\"; it is not supported; the nearest class that is "
       "supported is DDIMScheduler"},
  };
  for (const Row& row : rows) {
    folder.write("model_index.json", row.index);
    INFO(row.index);
    CHECK_THAT(folder.failure(), contains((folder.path() / "model_index.json").string() + ": "));
    CHECK_THAT(folder.failure(), contains(row.says));
  }
  // Nothing of a hostile file gets into a message at length, or as it is.
  std::string many = "{";
  for (int i = 0; i < 500; ++i)
    many += "\"\\u001b[31m" + std::to_string(i) + "\": [\"\", \"" + std::to_string(i) +
            "Scheduler\"], ";
  const Texts hostile = {many + "\"a\": 1}",
                         R"({"scheduler": ["", ")" + std::string(100'000, 'x') + "\"]}",
                         R"({"scheduler": ["", "\n\u0000\u001b[31m"]})"};
  for (const std::string& index : hostile) {
    folder.write("model_index.json", index);
    const std::string said = folder.failure();
    CHECK(said.size() < 800);
    CHECK(std::all_of(said.begin(), said.end(), [](char c) { return c >= ' '; }));
  }
}

TEST_CASE("a file that is too large is not read") {
  const Folder folder;
  folder.write("large.json", "");
  std::filesystem::resize_file(folder.path() / "large.json", (64 << 20) + 1);  // sparse
  CHECK_THAT(folder.failure("large.json"),
             contains("large.json has 67108865 bytes; a configuration has at most 67108864"));
}

// ---- classes that cannot be read ----------------------------------------------------------------

TEST_CASE("a class that is not supported is named, with the nearest that is") {
  struct Row {
    std::string class_name, says, nearest;
  };
  const std::string no = "it is not supported", tokens = no + ": it chooses among tokens";
  const std::vector<Row> rows = {
      {"FlaxDDIMScheduler", no, "DDIMScheduler"},
      {"FlaxDPMSolverMultistepScheduler", no, "DPMSolverMultistepScheduler"},
      {"DPMSolverMultistepSchedular", no, "DPMSolverMultistepScheduler"},
      {"FlowUniPCMultistepScheduler", no, "UniPCMultistepScheduler"},
      {"ddimscheduler", no, "DDIMScheduler"},
      {"Euler", no, "EulerDiscreteScheduler"},
      {"LMSScheduler", no, "LMSDiscreteScheduler"},
      {"dpmsolvermultistep", no, "DPMSolverMultistepScheduler"},
      {"KarrasVeScheduler", no + ": diffusers has withdrawn it", "EDMEulerScheduler"},
      {"HeliosScheduler", no + ": its runs change the resolution", "UniPCMultistepScheduler"},
      {"HeliosDMDScheduler", no + ": its runs change", "FlowMatchEulerDiscreteScheduler"},
      {"VQDiffusionScheduler", tokens, ""},
      {"AmusedScheduler", tokens, ""},
      {"BlockRefinementScheduler", tokens, ""},
      {"DiscreteDDIMScheduler", tokens, ""},
      {"EntropyBoundScheduler", tokens, ""},
  };
  for (const Row& row : rows) {
    const std::string said = message_of(file(row.class_name));
    INFO(said);
    CHECK_THAT(said, contains("_class_name is \"" + row.class_name + "\"; " + row.says));
    const std::string nearest = "the nearest class that is supported is ";
    if (row.nearest.empty())
      CHECK(said.find(nearest) == std::string::npos);
    else
      CHECK_THAT(said,
                 contains(nearest + row.nearest + ", which reads the file where it is named"));
  }
  // Every class that is said to be left out is, and every one that is suggested can be read.
  const Texts known = diffusers_class_names();
  const auto is_known = [&](std::string_view name) {
    return std::find(known.begin(), known.end(), name) != known.end();
  };
  for (const auto& one : detail::unsupported_classes) {
    INFO(one.name);
    CHECK_FALSE(is_known(one.name));
    CHECK((one.nearest.empty() || is_known(one.nearest)));
  }
}

TEST_CASE("classes by distance of spelling") {
  CHECK(detail::letters_apart("", "") == 0);
  CHECK(detail::letters_apart("abc", "") == 3);
  CHECK(detail::letters_apart("", "abc") == 3);
  CHECK(detail::letters_apart("kitten", "sitting") == 3);
  CHECK(detail::letters_apart("flaw", "lawn") == 2);
  CHECK(detail::letters_apart("DDIM", "ddIM") == 0);
}

TEST_CASE("a class that is not named") {
  CHECK(message_of("{}") ==
        "_class_name is missing; it must name the scheduler class, such as \"DDIMScheduler\", "
        "unless a class is chosen to read the file (load_as)");
  CHECK(message_of(R"({"_class_name": null})") ==
        "_class_name is null; it must be the name of a scheduler class, such as \"DDIMScheduler\"");
  const std::string said = message_of(file(std::string(300'000, 'D')));
  CHECK(said.size() < 400);
}

// ---- writing back -------------------------------------------------------------------------------

namespace {

/// Infinities, which golden data writes as strings, as numbers.
json with_numbers(json config) {
  const double infinity = std::numeric_limits<double>::infinity();
  for (json& value : config)
    if (value == "-inf" || value == "inf") value = value == "inf" ? infinity : -infinity;
  return config;
}

bool same_notes(const std::vector<DiffusersNote>& few, const std::vector<DiffusersNote>& many) {
  return std::all_of(few.begin(), few.end(), [&](const DiffusersNote& a) {
    return std::any_of(many.begin(), many.end(), [&](const DiffusersNote& b) {
      return a.kind == b.kind && a.key == b.key && a.text == b.text;
    });
  });
}

std::string listed(const std::vector<DiffusersNote>& notes) {
  std::string list;
  for (const DiffusersNote& note : notes) list += note.text + "\n";
  return list;
}

/// Whether all that makes the numbers of a run is equal but for rounding; written from the fields
/// of a stage, not from what the report compares.
bool nearly_equal(const SamplingPlan& a, const SamplingPlan& b) {
  const auto numbers = [](const Stage& s) {
    std::vector<double> list = {s.ask ? 1.0 : 0.0,
                                s.input_scale,
                                s.at.t,
                                s.at.alpha,
                                s.at.sigma,
                                s.to.t,
                                s.to.alpha,
                                s.to.sigma,
                                s.x,
                                s.x0,
                                s.eps,
                                s.raw,
                                s.saved,
                                s.save ? 1.0 : 0.0,
                                s.langevin_snr,
                                s.noise_scale.offset,
                                s.noise_scale.slope,
                                static_cast<double>(s.draws),
                                static_cast<double>(s.step)};
    for (const Term& term : s.history) list.push_back(term.weight);
    for (const Term& term : s.noise) list.push_back(term.weight);
    return list;
  };
  const bool clips = a.traits().clipping.kind != Clipping::Kind::none;
  if (a.size() != b.size() || a.traits().clipping != b.traits().clipping ||
      (clips && a.traits().epsilon_rule != b.traits().epsilon_rule))
    return false;
  for (int i = 0; i < a.size(); ++i) {
    const auto of_a = numbers(a[i]), of_b = numbers(b[i]);
    for (std::size_t k = 0; k < of_a.size(); ++k)
      if (!(std::abs(of_a[k] - of_b[k]) <=
            1e-8 * std::max({1.0, std::abs(of_a[k]), std::abs(of_b[k])})))
        return false;
  }
  return true;
}

/// A configuration and one of its runs, and what is true of every one.
struct Published {
  std::string name;
  json object;
  std::string load_as;
  json run_of;
};

void check_written(const Published& one, Behaviour behaviour) {
  const DiffusersConfig config =
      read_diffusers_config(one.object, {.behaviour = behaviour, .load_as = one.load_as});
  const DiffusersRun run = golden::run_of(one.run_of, config);
  const std::string text = to_scheduler_config(config);
  INFO(text);
  const DiffusersConfig again = parse(text, behaviour);
  CHECK(again.class_name == config.class_name);
  CHECK(again.prediction_type == config.prediction_type);
  CHECK(again.train_timesteps == config.train_timesteps);
  CHECK(again.plan<double>(run) == config.plan<double>(run));
  CHECK(again.plan<float>(run) == config.plan<float>(run));
  CHECK(to_scheduler_config(again) == text);
  INFO("first reading: " << listed(config.notes));
  INFO("second reading: " << listed(again.notes));
  CHECK(same_notes(again.notes, config.notes));
}

/// Whatever can be said of it is said on one line each, and nothing is kept back.
void check_report(const Published& one) {
  const auto config = read_diffusers_config(one.object, {.load_as = one.load_as});
  const DiffusersRun run = golden::run_of(one.run_of, config);
  const auto ours =
      read_diffusers_config(one.object, {.behaviour = Behaviour::correct, .load_as = one.load_as});
  Texts said = behaviour_differences(config, run);
  const bool equal = nearly_equal(config.plan(run), ours.plan(run));
  CHECK((equal || !said.empty()));
  for (const std::string& warning : warnings(config, run)) said.push_back(warning);
  for (const std::string& sentence : said) {
    INFO(sentence);
    CHECK(sentence.size() < 300);
    CHECK(std::all_of(sentence.begin(), sentence.end(), [](char c) { return c >= ' '; }));
    CHECK(sentence.find("nan") == std::string::npos);
  }
}

void check_published(const std::vector<Published>& all) {
  const Texts known = diffusers_class_names();
  for (const Published& one : all) {
    INFO(one.name);
    const std::string class_name =
        one.load_as.empty() ? one.object.value("_class_name", "") : one.load_as;
    REQUIRE(std::find(known.begin(), known.end(), class_name) != known.end());
    check_written(one, Behaviour::compatible);
    check_written(one, Behaviour::correct);
    check_report(one);
  }
}

json golden_file(const std::filesystem::path& path) {
  std::ifstream stream(path);
  // What is large and not looked at here is not kept.
  const std::set<std::string> unread = {"trajectory",     "noise",        "pred_original_sample",
                                        "initial_sample", "clean_sample", "clean_noise"};
  return json::parse(stream, [&](int, json::parse_event_t event, json& value) {
    return event != json::parse_event_t::key || !unread.contains(value.get<std::string>());
  });
}

}  // namespace

TEST_CASE("published configurations read back as they are written") {
  std::vector<Published> all;
  const json cases =
      golden_file(std::string(DIFFUSION_GOLDEN_DIR) + "/scheduler_configs.json").at("cases");
  for (const json& one : cases)
    all.push_back({one.at("name"), detail::parse_python_object(one.at("text").get<std::string>()),
                   one.value("load_as", ""), one});
  REQUIRE(all.size() >= 48);
  check_published(all);
}

TEST_CASE("the configurations of the golden runs read back as they are written") {
  std::vector<Published> all;
  std::set<std::string> seen;
  for (const auto& entry : std::filesystem::directory_iterator(DIFFUSION_GOLDEN_DIR)) {
    if (entry.path().extension() != ".json") continue;
    const json content = golden_file(entry.path());
    for (const json& one : content.value("cases", json::array()))
      if (one.is_object() && one.contains("loop") && one.contains("scheduler") &&
          seen.insert(one.at("scheduler").dump() + one.at("config").dump()).second)
        all.push_back({one.at("name"), with_numbers(one.at("config")), one.at("scheduler"), one});
  }
  REQUIRE(all.size() >= 400);
  check_published(all);
}

TEST_CASE("infinities are written bare, as Python writes them") {
  const std::string given =
      file("DPMSolverMultistepScheduler", R"("lambda_min_clipped": -Infinity)");
  const DiffusersConfig config = parse(given);
  const std::string text = to_scheduler_config(config);
  CHECK_THAT(text, contains("\n  \"lambda_min_clipped\": -Infinity,\n"));
  CHECK(text.starts_with("{\n  \"_class_name\": \"DPMSolverMultistepScheduler\",\n"));
  CHECK(text.ends_with("\n}\n"));
  CHECK(parse(text).plan(10) == config.plan(10));

  const double infinity = std::numeric_limits<double>::infinity();
  CHECK(detail::python_text({1.5, -infinity, {infinity}, nullptr, "Infinity"}) ==
        R"([1.5, -Infinity, [Infinity], null, "Infinity"])");
  CHECK(detail::python_text(std::numeric_limits<double>::quiet_NaN()) == "NaN");
}

TEST_CASE("what is written holds every digit and every key") {
  const DiffusersConfig config =
      parse(file("DDIMScheduler", R"("beta_start": 0.1000000000000000055, "num_train_timesteps": 3,
                          "trained_betas": [0.10000000000000002, 0.2, 0.3], "unknown": 1)"));
  const std::string text = to_scheduler_config(config);
  CHECK_THAT(text, contains("\"trained_betas\": [0.10000000000000002, 0.2, 0.3]"));
  CHECK(text.find("unknown") == std::string::npos);
  CHECK(json::parse(text) == config.resolved);
  CHECK(config.resolved.at("timestep_spacing") == "leading");  // a default
}

TEST_CASE("what a program changes is checked as in a file") {
  const DiffusersConfig config = parse(
      file("DDIMScheduler", R"("beta_end": 0.01, "_use_default_values": ["beta_end", "odd"])"));
  CHECK(config.resolved.at("beta_end") == 0.02);
  CHECK(config.with("beta_end", 0.01).resolved.at("beta_end") == 0.01);  // no longer a default
  const auto refusal = [&](const std::string& key, const json& value) {
    return message([&] { config.with(key, value); });
  };
  CHECK(refusal("beta_end", 2) ==
        "DDIMScheduler: beta_end is 2; it must lie strictly between 0 and 1");
  CHECK_THAT(refusal("timestep_spacing", "log"), contains("timestep_spacing is \"log\""));
  CHECK_THAT(refusal("num_train_timesteps", 1e9), contains("num_train_timesteps is 1000000000"));

  const DiffusersConfig odd = config.with("odd_key", 3);
  REQUIRE(odd.notes.size() == 1);
  CHECK(odd.notes[0].text == "odd_key is 3; DDIMScheduler does not read it");

  const DiffusersConfig ours = parse(file("DDIMScheduler"), Behaviour::correct);
  CHECK(ours.with("clip_sample", false).behaviour == Behaviour::correct);
  CHECK(ours.with("_class_name", "DDPMScheduler").class_name == "DDIMScheduler");  // as it was read
}

// ---- warnings -----------------------------------------------------------------------------------

namespace {

Texts warnings_of(const std::string& text, const DiffusersRun& run,
                  Behaviour behaviour = Behaviour::compatible) {
  return warnings(parse(text, behaviour), run);
}

DiffusersRun steps(int n) {
  DiffusersRun run;
  run.steps = n;
  return run;
}

const std::string latent = R"("beta_schedule": "scaled_linear", "beta_start": 0.00085,
                              "beta_end": 0.012)";

}  // namespace

TEST_CASE("a start at which data still shows") {
  // Diffusion Policy on a real robot.
  const std::string policy =
      file("DDIMScheduler", R"("num_train_timesteps": 100, "beta_schedule": "squaredcos_cap_v2")");
  CHECK(warnings_of(policy, steps(8)) ==
        Texts{"starts at t=84 of 100: 23 % of the signal is assumed absent"});
  CHECK(warnings_of(policy, steps(100)).empty());
  CHECK(warnings_of(policy, steps(8), Behaviour::correct).size() == 1);
  CHECK(warnings_of(policy, {.timesteps = {0}}) ==
        Texts{"starts at t=0 of 100: 100 % of the signal is assumed absent"});
  CHECK(warnings_of(file("DDIMScheduler", latent), steps(20)) ==
        Texts{"starts at t=950 of 1000: 9.1 % of the signal is assumed absent"});
  // The limit: alpha is 0.0197 at timestep 880 of the linear schedule, and 0.0206 at 875.
  CHECK(warnings_of(file("DDIMScheduler"), {.timesteps = {880}}).empty());
  CHECK(warnings_of(file("DDIMScheduler"), {.timesteps = {875}}) ==
        Texts{"starts at t=875 of 1000: 2.1 % of the signal is assumed absent"});
  // No table of betas; sigma 5 of x0 + sigma eps.
  CHECK(warnings_of(file("EDMEulerScheduler", R"("sigma_max": 5)"), steps(10)) ==
        Texts{"starts at t=0.4024: 20 % of the signal is assumed absent"});
  // Inversion starts at data, which is what is meant.
  CHECK(warnings_of(file("DDIMInverseScheduler", latent), steps(20)).empty());
  CHECK(warnings_of(file("DPMSolverMultistepInverseScheduler", latent), steps(20)).empty());
}

TEST_CASE("noise that stays") {
  const std::string all = R"("timestep_spacing": "trailing")";
  CHECK(warnings_of(file("DDIMScheduler", all + R"(, "set_alpha_to_one": false)"), steps(20)) ==
        Texts{"ends at sigma=0.01: noise of this deviation stays in the result"});
  // fixed_large is the noise of a whole step, sqrt(1 - abar) at timestep 99.
  const std::string ddpm = file("DDPMScheduler", all + R"(, "variance_type": "fixed_large")");
  CHECK(warnings_of(ddpm, steps(10)) ==
        Texts{"the last stage adds noise of deviation 0.3209 to clean data, and nothing removes "
              "it"});
  CHECK(warnings_of(ddpm, steps(10), Behaviour::correct).empty());
}

TEST_CASE("steps that do not meet") {
  const std::string linspace = file("DDIMScheduler", R"("timestep_spacing": "linspace")");
  const SamplingPlan plan = parse(linspace).plan(7);
  int apart = 0;
  for (int i = 0; i + 1 < plan.size(); ++i)
    if (std::abs(plan[i].to.alpha - plan[i + 1].at.alpha) > 1e-4) ++apart;
  const Texts said = warnings_of(linspace, steps(7));
  REQUIRE(said.size() == 1);
  CHECK_THAT(said[0],
             contains(std::to_string(apart) +
                      " stages of 7 do not end where the next begins; the worst, number "));
  CHECK(warnings_of(linspace, steps(7), Behaviour::correct).empty());
}

TEST_CASE("predictions that do not tell what a plan needs") {
  const std::string zero = R"("rescale_betas_zero_snr": true, "timestep_spacing": "trailing")";
  const Texts said = warnings_of(file("DDIMScheduler", zero), steps(5));
  REQUIRE(said.size() == 1);
  CHECK_THAT(said[0], contains("cannot be run: x0 is undefined for prediction type epsilon at t = "
                               "999"));
  CHECK(
      warnings_of(file("DDIMScheduler", zero + R"(, "prediction_type": "v_prediction")"), steps(5))
          .empty());
}

TEST_CASE("a run that has no plan is refused, not warned of") {
  CHECK_THAT(message([] { warnings_of(file("DDIMScheduler"), steps(0)); }), contains("steps is 0"));
}

// ---- differences --------------------------------------------------------------------------------

namespace {

Texts kinds(const SamplingPlan& a, const SamplingPlan& b) {
  Texts kinds;
  for (const auto& difference : detail::PlanComparison(a, b).found())
    kinds.push_back(difference.kind);
  return kinds;
}

Texts differences(const std::string& text, const DiffusersRun& run) {
  const Texts said = behaviour_differences(parse(text), run);
  CHECK(behaviour_differences(parse(text, Behaviour::correct), run) == said);  // however it is read
  return said;
}

}  // namespace

TEST_CASE("no difference of two plans goes unsaid") {
  // Without history: rows that count estimates are rows that name slots.
  std::vector<Stage> rows(3);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const auto k = static_cast<double>(i);
    rows[i] = {.at = {900 - k, 0.1 + 0.1 * k, 0.9},
               .to = {899 - k, 0.2 + 0.1 * k, 0.9},
               .x = 0.5,
               .x0 = 0.3,
               .eps = 0.2,
               .draws = 1,
               .step = static_cast<std::int32_t>(i)};
    rows[i].noise[0] = {static_cast<std::int32_t>(i), 0.1};
  }
  rows[0].save = true;
  const PlanTraits traits{.clipping = Clipping::range()};
  const SamplingPlan plan(rows, traits);
  CHECK(kinds(plan, plan).empty());

  struct Row {
    const char* kind;
    std::function<void(Stage&)> change;
  };
  const std::vector<Row> changes = {
      {"the time told", [](Stage& s) { s.at.t += 1; }},
      {"the level before", [](Stage& s) { s.at.alpha += 0.01; }},
      {"the level before", [](Stage& s) { s.at.sigma += 0.01; }},
      {"the level after", [](Stage& s) { s.to.alpha += 0.01; }},
      {"the level after", [](Stage& s) { s.to.sigma += 0.01; }},
      {"the scale of the input", [](Stage& s) { s.input_scale = 0.5; }},
      {"the weight of the state", [](Stage& s) { s.x += 0.01; }},
      {"the weight of x0", [](Stage& s) { s.x0 += 1e-8; }},
      {"the weight of epsilon", [](Stage& s) { s.eps += 0.01; }},
      {"the weight of the output", [](Stage& s) { s.raw = 0.1; }},
      {"the weight of the saved state", [](Stage& s) { s.saved = 0.1; }},
      {"the weight of the history",
       [](Stage& s) {
         s.history[0] = {0, 0.1};
       }},
      {"the weight of the noise", [](Stage& s) { s.noise[0].weight = 0.2; }},
      {"the weight of the noise", [](Stage& s) { s.noise[0].source = 0; }},
      {"the factor on the noise", [](Stage& s) { s.noise_scale.kind = NoiseScale::Kind::root; }},
      {"the factor on the noise", [](Stage& s) { s.noise_scale.slope = 1; }},
      {"the Langevin step", [](Stage& s) { s.langevin_snr = 0.1; }},
      {"draw of noise", [](Stage& s) { s.draws = 2; }},
      {"network call",
       [](Stage& s) {
         s.ask = false;
         s.x0 = s.eps = 0;
       }},
      {"labels", [](Stage& s) { s.to.t += 1; }},
      {"labels", [](Stage& s) { s.save = true; }},
  };
  for (const Row& row : changes) {
    INFO(row.kind);
    std::vector<Stage> changed = rows;
    row.change(changed[1]);
    const Texts found = kinds(plan, SamplingPlan(changed, traits));
    CHECK(std::find(found.begin(), found.end(), row.kind) != found.end());
    CHECK(found.size() == 1);
  }
  std::vector<Stage> shorter = rows, joined = rows, close = rows;
  shorter.pop_back();
  CHECK(kinds(plan, SamplingPlan(shorter, traits)) ==
        Texts{"stage", "step", "network call", "draw of noise"});
  joined[2].step = 1;
  CHECK(kinds(plan, SamplingPlan(joined, traits)) == Texts{"step"});
  close[1].x0 *= 1 + 1e-12;  // rounding
  close[1].at.t *= 1 - 1e-12;
  CHECK(kinds(plan, SamplingPlan(close, traits)).empty());

  const auto with_traits = [&](auto change) {
    PlanTraits changed = traits;
    change(changed);
    return SamplingPlan(rows, changed);
  };
  CHECK(kinds(plan, with_traits([](PlanTraits& t) { t.epsilon_rule = EpsilonRule::raw; })) ==
        Texts{"epsilon"});
  CHECK(kinds(plan, with_traits([](PlanTraits& t) { t.clipping = Clipping::range(2); })) ==
        Texts{"clipping"});
  CHECK(kinds(plan, with_traits([](PlanTraits& t) { t.initial_scale = 2; })) == Texts{"start"});
  CHECK(kinds(plan, with_traits([](PlanTraits& t) { t.basis = Basis::eps; })).empty());  // no slots
  std::vector<Stage> keeping = rows;
  keeping[2].history[0] = {0, 0.1};
  CHECK(kinds(SamplingPlan(keeping, {.basis = Basis::x0}),
              SamplingPlan(keeping, {.basis = Basis::eps})) == Texts{"basis"});
  // The same estimates in other slots, because a weight of 0 keeps another one alive.
  std::vector<Stage> crowded = keeping;
  crowded.push_back(rows[2]);
  crowded.push_back(rows[2]);
  crowded[3].history[0] = {2, 0.1};
  std::vector<Stage> idle = crowded;
  idle[4].history[0] = {0, 0};
  const SamplingPlan some(crowded, {}), more(idle, {});
  CHECK(some[3].history[0].source != more[3].history[0].source);
  CHECK(kinds(some, more).empty());

  // Without clipping there is but one epsilon.
  CHECK(kinds(SamplingPlan(rows, {.epsilon_rule = EpsilonRule::raw}),
              SamplingPlan(rows, {.epsilon_rule = EpsilonRule::rederived}))
            .empty());
}

TEST_CASE("where Python's behaviour and ours differ, in words") {
  const std::string raw = "beside a clipped x0 stands the network's epsilon; ours is derived anew";
  const std::string no_clip = R"("clip_sample": false)";
  CHECK(differences(file("DDIMScheduler"), steps(10)) == Texts{raw});
  CHECK(
      differences(file("DDIMScheduler"), {.steps = 10, .use_clipped_model_output = true}).empty());
  CHECK(differences(file("DDIMScheduler", no_clip), steps(7)).empty());
  CHECK(differences(file("DDPMScheduler"), steps(10)).empty());  // it ends at t = 0
  CHECK(differences(file("DDPMScheduler", R"("timestep_spacing": "trailing")"), steps(10)) ==
        Texts{"10 draws of noise; ours: 9"});  // and here with noise of deviation 1e-10
  CHECK(differences(file("DDIMScheduler", no_clip + R"(, "timestep_spacing": "linspace")"),
                    steps(7)) ==
        Texts{"the level after differs in 6 of 7 stages; in stage 0 it is alpha=0.02409 "
              "sigma=0.9997, ours alpha=0.02982 sigma=0.9996"});
}

TEST_CASE("differences of the multistep classes") {
  struct Row {
    std::string class_name, keys;
    Texts says;  // parts of its sentences, in order
  };
  const std::string plms = R"("skip_prk_steps": true)";
  const std::vector<Row> rows = {
      // An order that Python takes for reached where there is no history yet.
      {"LMSDiscreteScheduler",
       "",
       {"begun at t=444 (image to image): the weight of epsilon differs in 3 of 5 stages; in stage "
        "0 it is 1.023, ours 1.462",
        "begun at t=444 (image to image): the weight of the history differs in 2 of 5 stages"}},
      // PLMS asks twice in its first step, which is begun anew in the middle.
      {"PNDMScheduler",
       plms,
       {"11 steps; ours: 10", "begun at t=500 (image to image): 6 stages; ours: 7"}},
      {"PNDMScheduler",
       plms + R"(, "prediction_type": "v_prediction")",
       {"the history keeps the network's output; ours keeps epsilon"}},
      {"IPNDMScheduler",
       "",
       {"the weight of x0 differs in 1 of 10 stages; in stage 0 it is 0, ours 0.2199"}},
      {"DPMSolverMultistepScheduler", "", {}},
      {"DPMSolverMultistepScheduler",
       R"("solver_order": 3)",
       {"the weight of x0 differs in 6 of 10 stages; in stage 2 it is 0.08025, ours 0.08352",
        "the weight of the history differs in 6 of 10 stages; in stage 2 it is -0.04809 e[-1] "
        "+ 0.01227 e[-2], ours -0.05428 e[-1] + 0.01519 e[-2]"}},
      {"DPMSolverMultistepScheduler",
       R"("solver_order": 3, "algorithm_type": "sde-dpmsolver++")",
       {"the weight of x0 differs in 6 of 10 stages", "the weight of the history differs in 6"}},
      {"UniPCMultistepScheduler", R"("solver_type": "bh1")", {}},
      {"EulerDiscreteScheduler", "", {}},
      {"HeunDiscreteScheduler", "", {}},
      {"DEISMultistepScheduler", "", {}},
  };
  for (const Row& row : rows) {
    INFO(row.class_name << " " << row.keys);
    const Texts said = differences(file(row.class_name, row.keys), steps(10));
    CHECK(said.empty() == row.says.empty());
    REQUIRE(said.size() >= row.says.size());
    for (std::size_t i = 0; i < row.says.size(); ++i)
      CHECK(std::any_of(said.begin(), said.end(), [&](const std::string& sentence) {
        return sentence.find(row.says[i]) != std::string::npos;
      }));
  }
  // Churn: Python asks before it adds the noise, we after.
  const Texts churn = differences(file("EulerDiscreteScheduler"), {.steps = 10, .s_churn = 5});
  REQUIRE_FALSE(churn.empty());
  CHECK(churn[0] == "10 stages; ours: 20");
}

TEST_CASE("differences where one of the two is refused") {
  // Runge-Kutta steps cannot begin in the middle in Python.
  const Texts said = differences(file("PNDMScheduler"), steps(10));
  REQUIRE_FALSE(said.empty());
  CHECK_THAT(said.back(), contains("begun at t=700 (image to image): Python's is refused: "));
  CHECK_THAT(message([] { differences(file("DDIMScheduler"), steps(0)); }), contains("steps is 0"));
}

TEST_CASE("numbers in sentences") {
  CHECK(detail::percent(0.2317) == "23 %");
  CHECK(detail::percent(0.0912) == "9.1 %");
  CHECK(detail::percent(0.994) == "99 %");
  CHECK(detail::percent(1) == "100 %");
  CHECK(detail::percent(0.9999) == "100 %");
  CHECK(detail::counted(1, "stage") == "1 stage");
  CHECK(detail::counted(0, "network call") == "0 network calls");
  CHECK(detail::counted(2, "draw of noise") == "2 draws of noise");
  CHECK(detail::brief(1234567) == "1.235e+06");
  CHECK(detail::brief(0.5, 2) == "0.5");
}
