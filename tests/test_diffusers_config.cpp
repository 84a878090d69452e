// Reading diffusers' scheduler_config.json.

#include <diffusion/interop/diffusers_config.hpp>

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "catch.hpp"

namespace {

using namespace diffusion;
using Kind = DiffusersNote::Kind;

DiffusersConfig parse(const std::string& text, Behaviour behaviour = Behaviour::compatible,
                      const std::string& load_as = {}) {
  return parse_diffusers_config(text, {.behaviour = behaviour, .load_as = load_as});
}

/// A configuration of the class with these further keys, as they stand in the file.
std::string file(const std::string& class_name, const std::string& keys = {}) {
  return R"({"_class_name": ")" + class_name + "\"" + (keys.empty() ? "" : ", " + keys) + "}";
}

std::string message_of(const std::string& text, const std::string& load_as = {}) {
  try {
    parse(text, Behaviour::compatible, load_as);
  } catch (const Error& error) {
    return error.what();
  }
  return "(nothing was wrong)";
}

/// The notes of a kind, as "key: text" lines.
std::string notes(const DiffusersConfig& config, Kind kind) {
  std::string lines;
  for (const DiffusersNote& note : config.notes)
    if (note.kind == kind) lines += note.key + ": " + note.text + "\n";
  return lines;
}

std::vector<double> table(const DiffusersConfig& config) {
  const auto schedule = config.schedule();
  return {schedule.alphas_cumprod().begin(), schedule.alphas_cumprod().end()};
}

}  // namespace

TEST_CASE("every class has its own defaults") {
  const auto schedule = NoiseSchedule<>::linear();
  const DiffusersRun run{.steps = 20, .eta = 0.5};
  for (const std::string name : {"DDPMScheduler", "DDPMParallelScheduler"}) {
    const DiffusersConfig config = parse(file(name));
    const DdpmSampler expected(schedule,
                               {.steps = 20, .clipping = Clipping::range(1), .noise_at_end = true});
    CHECK(config.class_name == name);
    CHECK(config.prediction_type == PredictionType::epsilon);
    CHECK(config.plan(run) == expected.plan());
    CHECK(config.notes.empty());
  }
  for (const std::string name : {"DDIMScheduler", "DDIMParallelScheduler"}) {
    const DdimSampler expected(schedule, {.steps = 20,
                                          .eta = 0.5,
                                          .grid = {.previous = PreviousTimestep::stride},
                                          .clipping = Clipping::range(1),
                                          .epsilon = EpsilonRule::raw});
    CHECK(parse(file(name)).plan(run) == expected.plan());
  }
  const DdimInverseSampler inverse(schedule, {.steps = 20,
                                              .grid = {.previous = PreviousTimestep::stride},
                                              .clipping = Clipping::range(1),
                                              .epsilon = EpsilonRule::raw});
  CHECK(parse(file("DDIMInverseScheduler")).plan(run) == inverse.plan());
}

TEST_CASE("the keys of the betas") {
  const NoiseScheduleOptions options{.train_timesteps = 40, .beta_start = 0.001, .beta_end = 0.03};
  const std::string numbers = R"("num_train_timesteps": 40, "beta_start": 1e-3, "beta_end": 0.03)";
  const auto expected = [&](BetaSchedule kind) {
    const auto schedule = NoiseSchedule<>::make(kind, options);
    return std::vector<double>(schedule.alphas_cumprod().begin(), schedule.alphas_cumprod().end());
  };
  const auto with = [&](const std::string& name) {
    return table(parse(file("DDPMScheduler", numbers + R"(, "beta_schedule": ")" + name + "\"")));
  };
  CHECK(with("linear") == expected(BetaSchedule::linear));
  CHECK(with("scaled_linear") == expected(BetaSchedule::scaled_linear));
  CHECK(with("squaredcos_cap_v2") == expected(BetaSchedule::squaredcos_cap_v2));
  CHECK(with("sigmoid") == expected(BetaSchedule::sigmoid));
  CHECK(with("laplace") == expected(BetaSchedule::laplace));
}

TEST_CASE("single-precision tables on request") {
  const DiffusersConfig config = parse(file("DDIMScheduler"));
  const auto expected = NoiseSchedule<float>::linear();
  const auto got = config.schedule<float>();
  CHECK(std::equal(got.betas().begin(), got.betas().end(), expected.betas().begin(),
                   expected.betas().end()));
  CHECK_FALSE(config.plan<float>({.steps = 10}) == config.plan({.steps = 10}));
}

TEST_CASE("trained betas") {
  const std::string betas = R"("trained_betas": [0.1, 0.2, 0.3, 0.4])";
  const DiffusersConfig whole =
      parse(file("DDIMScheduler", R"("num_train_timesteps": 4, )" + betas));
  CHECK(table(whole).size() == 4);
  CHECK(table(whole)[1] == Approx(0.9 * 0.8).epsilon(1e-15));

  SECTION("more of them than timesteps: the first are used") {
    const DiffusersConfig part =
        parse(file("DDIMScheduler", R"("num_train_timesteps": 2, )" + betas));
    const std::vector<double> all = table(whole);
    CHECK(table(part) == std::vector<double>(all.begin(), all.begin() + 2));
    CHECK_THAT(notes(part, Kind::questionable), contains("num_train_timesteps is 2"));
  }
  SECTION("zero SNR is made of all of them") {
    const DiffusersConfig rescaled = parse(file(
        "DDIMScheduler", R"("num_train_timesteps": 4, "rescale_betas_zero_snr": true, )" + betas));
    CHECK(table(rescaled).back() == 0);
    CHECK(table(rescaled).front() == Approx(0.9).epsilon(1e-14));
  }
  SECTION("the schedule that they replace is noted") {
    const DiffusersConfig both = parse(
        file("DDIMScheduler", R"("num_train_timesteps": 4, "beta_schedule": "linear", )" + betas));
    CHECK_THAT(notes(both, Kind::overruled), contains("beta_schedule is \"linear\""));
  }
}

TEST_CASE("prediction types and zero SNR") {
  const auto type = [](const std::string& name) {
    return parse(file("DDIMScheduler", R"("prediction_type": ")" + name + "\"")).prediction_type;
  };
  CHECK(type("epsilon") == PredictionType::epsilon);
  CHECK(type("sample") == PredictionType::sample);
  CHECK(type("v_prediction") == PredictionType::v);

  const std::string zero = R"("rescale_betas_zero_snr": true)";
  const DiffusersConfig epsilon = parse(file("DDIMScheduler", zero));
  CHECK(table(epsilon).back() == 0);
  CHECK_THAT(notes(epsilon, Kind::questionable), contains("rescale_betas_zero_snr is true"));
  const std::string v = R"(, "prediction_type": "v_prediction")";
  CHECK(parse(file("DDIMScheduler", zero + v)).notes.empty());
}

TEST_CASE("thresholding comes before clipping") {
  const auto clipping = [](const std::string& keys) {
    return parse(file("DDIMScheduler", keys)).plan({.steps = 5}).traits().clipping;
  };
  CHECK(clipping("") == Clipping::range(1));
  CHECK(clipping(R"("clip_sample": false)") == Clipping::none());
  CHECK(clipping(R"("clip_sample": null)") == Clipping::none());
  CHECK(clipping(R"("clip_sample_range": 2.5)") == Clipping::range(2.5));
  CHECK(clipping(R"("thresholding": true)") == Clipping::dynamic(0.995, 1));
  CHECK(clipping(R"("thresholding": true, "clip_sample": false, "sample_max_value": 3,
                    "dynamic_thresholding_ratio": 0.9)") == Clipping::dynamic(0.9, 3));
  const DiffusersConfig both =
      parse(file("DDPMScheduler", R"("thresholding": true, "clip_sample": true)"));
  CHECK_THAT(notes(both, Kind::overruled), contains("clip_sample is true"));
  CHECK(parse(file("DDPMScheduler", R"("thresholding": true)")).notes.empty());
}

TEST_CASE("timesteps") {
  const auto times = [](const std::string& keys, const DiffusersRun& run) {
    std::vector<double> list;
    const SamplingPlan plan = parse(file("DDIMScheduler", keys)).plan(run);
    for (const Stage& stage : plan.stages()) list.push_back(stage.at.t);
    return list;
  };
  CHECK(times("", {.steps = 4}) == std::vector<double>{750, 500, 250, 0});
  CHECK(times(R"("steps_offset": 1)", {.steps = 4}) == std::vector<double>{751, 501, 251, 1});
  CHECK(times(R"("timestep_spacing": "trailing")", {.steps = 4}) ==
        std::vector<double>{999, 749, 499, 249});
  CHECK(times(R"("timestep_spacing": "linspace")", {.steps = 4}) ==
        std::vector<double>{999, 666, 333, 0});
  CHECK(times("", {.timesteps = {900, 3}}) == std::vector<double>{900, 3});

  const DiffusersConfig offset =
      parse(file("DDIMScheduler", R"("timestep_spacing": "trailing", "steps_offset": 1)"));
  CHECK_THAT(notes(offset, Kind::overruled), contains("steps_offset is 1"));
  CHECK(parse(file("DDIMScheduler", R"("steps_offset": 1)")).notes.empty());
}

TEST_CASE("where sampling ends") {
  const auto finish = [](const std::string& name, const std::string& keys) {
    return parse(file(name, keys)).grid({.steps = 10}).finish().sigma;
  };
  const double first = NoiseSchedule<>::linear().sigma(0);
  CHECK(finish("DDIMScheduler", "") == 0);
  CHECK(finish("DDIMScheduler", R"("set_alpha_to_one": false)") == first);
  CHECK(finish("DDPMScheduler", R"("set_alpha_to_one": false)") == 0);  // not a key of DDPM's

  const std::string inverse = "DDIMInverseScheduler";
  CHECK(finish(inverse, "") == 0);
  CHECK(finish(inverse, R"("set_alpha_to_one": false)") == first);
  CHECK(finish(inverse, R"("set_alpha_to_zero": false)") == first);
  CHECK(finish(inverse, R"("set_alpha_to_zero": null, "set_alpha_to_one": false)") == first);
  const std::string both = R"("set_alpha_to_zero": true, "set_alpha_to_one": false)";
  CHECK(finish(inverse, both) == 0);
  CHECK_THAT(notes(parse(file(inverse, both)), Kind::overruled),
             contains("set_alpha_to_one is false"));
  CHECK_THAT(notes(parse(file("DDIMScheduler", both)), Kind::ignored),
             contains("set_alpha_to_zero is true"));
}

TEST_CASE("variance types") {
  const auto variance = [](const std::string& name) {
    return parse(file("DDPMScheduler", R"("variance_type": ")" + name + "\"")).plan(10);
  };
  const auto own = [](VarianceType type) {
    return DdpmSampler(NoiseSchedule<>::linear(), {.steps = 10,
                                                   .clipping = Clipping::range(1),
                                                   .variance = type,
                                                   .noise_at_end = true})
        .plan();
  };
  CHECK(variance("fixed_small") == own(VarianceType::fixed_small));
  CHECK(variance("fixed_small_log") == own(VarianceType::fixed_small_log));
  CHECK(variance("fixed_large") == own(VarianceType::fixed_large));
  CHECK(variance("fixed_large_log") == own(VarianceType::fixed_large_log));
  CHECK(variance("learned") == own(VarianceType::learned));
  CHECK(variance("learned_range") == own(VarianceType::learned_range));
  CHECK_THAT(notes(parse(file("DDPMScheduler", R"("variance_type": "fixed_large_log")")),
                   Kind::questionable),
             contains("variance_type is \"fixed_large_log\""));
}

TEST_CASE("compatible and correct behaviour") {
  const std::string ddim = file("DDIMScheduler", R"("timestep_spacing": "linspace")");
  const DiffusersRun run{.steps = 7, .eta = 1};
  const DiffusersConfig as_python = parse(ddim), as_meant = parse(ddim, Behaviour::correct);

  // The reference's grid does not hang together where n does not divide N; ours does.
  CHECK_FALSE(as_python.grid(run).contiguous());
  CHECK(as_meant.grid(run).contiguous());
  CHECK(as_python.plan(run).traits().epsilon_rule == EpsilonRule::raw);
  CHECK(as_meant.plan(run).traits().epsilon_rule == EpsilonRule::rederived);
  DiffusersRun clipped = run;
  clipped.use_clipped_model_output = true;
  CHECK(as_python.plan(clipped).traits().epsilon_rule == EpsilonRule::rederived);
  const DdimSampler own(NoiseSchedule<>::linear(), {.steps = 7,
                                                    .eta = 1,
                                                    .grid = {.spacing = TimestepSpacing::linspace},
                                                    .clipping = Clipping::range(1)});
  CHECK(as_meant.plan(run) == own.plan());

  // DDPM's last step from t > 0 to clean data: the reference draws noise there.
  const std::string ddpm = file("DDPMScheduler", R"("timestep_spacing": "trailing")");
  CHECK(parse(ddpm).plan(run).draws() == 7);
  CHECK(parse(ddpm, Behaviour::correct).plan(run).draws() == 6);
}

TEST_CASE("a class reads another's file") {
  const std::string keys = R"("beta_schedule": "scaled_linear", "beta_start": 0.00085,
      "beta_end": 0.012, "clip_sample": false, "timestep_spacing": "trailing")";
  const std::string ddim = file("DDIMScheduler", keys + R"(, "set_alpha_to_one": false)");
  const DiffusersRun run{.steps = 10};

  const DiffusersConfig ddpm = parse(ddim, Behaviour::compatible, "DDPMScheduler");
  CHECK(ddpm.class_name == "DDPMScheduler");
  CHECK(ddpm.plan(run) == parse(file("DDPMScheduler", keys)).plan(run));
  CHECK(notes(ddpm, Kind::ignored) ==
        "set_alpha_to_one: set_alpha_to_one is false; DDPMScheduler does not read it\n");

  const DiffusersConfig inverse = parse(ddim, Behaviour::compatible, "DDIMInverseScheduler");
  CHECK(inverse.class_name == "DDIMInverseScheduler");
  CHECK(inverse.plan(run).stages().back().to == parse(ddim).plan(run)[0].at);

  SECTION("the file's class may be one that is not supported, or missing") {
    CHECK(parse(file("FlaxDDIMScheduler"), Behaviour::compatible, "DDIMScheduler").class_name ==
          "DDIMScheduler");
    CHECK(parse("{}", Behaviour::compatible, "DDIMScheduler").class_name == "DDIMScheduler");
  }
  SECTION("keys that only hold the first class's defaults are not carried over") {
    const std::string live = file("DDIMScheduler", R"("clip_sample": false, "thresholding": true,
             "_use_default_values": ["clip_sample", "thresholding"])");
    CHECK(parse(live, Behaviour::compatible, "DDPMScheduler").plan(run).traits().clipping ==
          Clipping::range(1));
  }
}

TEST_CASE("keys that the class does not know are noted") {
  const DiffusersConfig config =
      parse(file("DDIMScheduler", R"("skip_prk_steps": true, "lambda_min_clipped": -Infinity,
           "odd": NaN, "list": [Infinity], "_diffusers_version": "0.30.0")"));
  CHECK(notes(config, Kind::ignored) ==
        "lambda_min_clipped: lambda_min_clipped is -inf; DDIMScheduler does not read it\n"
        "list: list is [null]; DDIMScheduler does not read it\n"
        "odd: odd is nan; DDIMScheduler does not read it\n"
        "skip_prk_steps: skip_prk_steps is true; DDIMScheduler does not read it\n");
  CHECK(config.notes.size() == 4);
}

TEST_CASE("words for infinities stay as they are inside strings") {
  const auto config = parse(file("DDIMScheduler", R"("note": "a \" -Infinity \\", "b": Infinity)"));
  CHECK_THAT(notes(config, Kind::ignored), contains(R"(note is "a \" -Infinity \\")"));
  CHECK_THAT(notes(config, Kind::ignored), contains("b is inf"));
}

TEST_CASE("options that a program overrules") {
  const DiffusersConfig config =
      parse(file("DDIMScheduler")).with("timestep_spacing", "trailing").with("clip_sample", false);
  const SamplingPlan plan = config.plan({.steps = 10});
  CHECK(plan[0].at.t == 999);
  CHECK(plan.traits().clipping == Clipping::none());

  // A part of a grid, as image to image needs it.
  const DiffusersRun run{.steps = 10};
  const SamplingPlan half = config.plan(config.grid(run).cut(5), run);
  CHECK(half.size() == 5);
  CHECK(half[0].step == 5);
}

TEST_CASE("malformed configurations name key, value and limit") {
  struct Row {
    std::string keys;
    std::vector<std::string> parts;
  };
  const std::string schedules = R"("linear", "scaled_linear", "squaredcos_cap_v2")";
  const std::vector<Row> rows = {
      {R"("num_train_timesteps": 0)", {"num_train_timesteps is 0", "[1, 1000000]"}},
      {R"("num_train_timesteps": -5)", {"num_train_timesteps is -5", "[1, 1000000]"}},
      {R"("num_train_timesteps": 1000001)", {"is 1000001", "[1, 1000000]"}},
      {R"("num_train_timesteps": 1e300)", {"num_train_timesteps is 1e+300", "[1, 1000000]"}},
      {R"("num_train_timesteps": 99.5)", {"num_train_timesteps is 99.5", "whole number"}},
      {R"("num_train_timesteps": "1000")", {"num_train_timesteps is \"1000\"", "whole number"}},
      {R"("num_train_timesteps": null)", {"num_train_timesteps is null", "whole number"}},
      {R"("num_train_timesteps": Infinity)", {"num_train_timesteps is inf", "whole number"}},
      {R"("num_train_timesteps": true)", {"num_train_timesteps is true", "whole number"}},
      {R"("beta_start": 0)", {"beta_start is 0", "strictly between 0 and 1"}},
      {R"("beta_start": -0.1)", {"beta_start is -0.1", "strictly between 0 and 1"}},
      {R"("beta_start": 1)", {"beta_start is 1", "strictly between 0 and 1"}},
      {R"("beta_start": NaN)", {"beta_start is nan", "strictly between 0 and 1"}},
      {R"("beta_start": "0.1")", {"beta_start is \"0.1\"", "strictly between 0 and 1"}},
      {R"("beta_end": 1.5)", {"beta_end is 1.5", "strictly between 0 and 1"}},
      {R"("beta_end": -Infinity)", {"beta_end is -inf", "strictly between 0 and 1"}},
      {R"("beta_end": [0.02])", {"beta_end is [0.02]", "strictly between 0 and 1"}},
      {R"("beta_schedule": "cosine")", {"beta_schedule is \"cosine\"", schedules}},
      {R"("beta_schedule": "sigmoid")", {"beta_schedule is \"sigmoid\"", schedules}},
      {R"("beta_schedule": 3)", {"beta_schedule is 3", schedules}},
      {R"("beta_schedule": null)", {"beta_schedule is null", schedules}},
      {R"("trained_betas": [])", {"trained_betas is []", "1 to 1000000 numbers"}},
      {R"("trained_betas": 0.1)", {"trained_betas is 0.1", "1 to 1000000 numbers"}},
      {R"("trained_betas": [0.1, 0])", {"trained_betas[1] is 0", "above 0 and at most 1"}},
      {R"("trained_betas": [0.1, 1.5])", {"trained_betas[1] is 1.5", "above 0 and at most 1"}},
      {R"("trained_betas": [1, 0.1])", {"trained_betas[0] is 1", "strictly between 0 and 1"}},
      {R"("trained_betas": ["a", 0.1])", {"trained_betas[0] is \"a\"", "between 0 and 1"}},
      {R"("trained_betas": [NaN, 0.1])", {"trained_betas[0] is nan", "between 0 and 1"}},
      {R"("trained_betas": [0.1, 0.2])", {"trained_betas has 2 entries", "1000", "at least"}},
      {R"("rescale_betas_zero_snr": 1)", {"rescale_betas_zero_snr is 1", "true or false"}},
      {R"("prediction_type": "v")", {"\"v\"", R"("epsilon", "sample", "v_prediction")"}},
      {R"("prediction_type": false)", {"prediction_type is false", "\"v_prediction\""}},
      {R"("timestep_spacing": "log")", {"\"log\"", R"("leading", "trailing", "linspace")"}},
      {R"("steps_offset": -1)", {"steps_offset is -1", "[0, 999]"}},
      {R"("steps_offset": 1000)", {"steps_offset is 1000", "[0, 999]"}},
      {R"("steps_offset": 0.5)", {"steps_offset is 0.5", "whole number"}},
      {R"("set_alpha_to_one": "no")", {"set_alpha_to_one is \"no\"", "true or false"}},
      {R"("clip_sample": "yes")", {"clip_sample is \"yes\"", "true or false"}},
      {R"("clip_sample_range": 0)", {"clip_sample_range is 0", "positive, finite"}},
      {R"("clip_sample_range": -1)", {"clip_sample_range is -1", "positive, finite"}},
      {R"("clip_sample_range": Infinity)", {"clip_sample_range is inf", "positive, finite"}},
      {R"("thresholding": 0)", {"thresholding is 0", "true or false"}},
      {R"("dynamic_thresholding_ratio": -0.1)", {"ratio is -0.1", "[0, 1]"}},
      {R"("dynamic_thresholding_ratio": 1.1)", {"ratio is 1.1", "[0, 1]"}},
      {R"("sample_max_value": 0)", {"sample_max_value is 0", "positive"}},
      {R"("sample_max_value": Infinity)", {"sample_max_value is inf", "finite"}},
      {R"("_use_default_values": "all")", {"_use_default_values is \"all\"", "list of keys"}},
      {R"("_use_default_values": [3])", {"_use_default_values is [3]", "list of keys"}},
  };
  for (const Row& row : rows) {
    const std::string message = message_of(file("DDIMScheduler", row.keys));
    INFO(row.keys);
    CHECK_THAT(message, contains("DDIMScheduler"));
    for (const std::string& part : row.parts) CHECK_THAT(message, contains(part));
  }
  CHECK_THAT(message_of(file("DDPMScheduler", R"("variance_type": "tiny")")),
             contains("variance_type is \"tiny\"") && contains("\"learned_range\""));
  CHECK_THAT(message_of(file("DDPMScheduler", R"("beta_schedule": "exp")")),
             contains("beta_schedule is \"exp\"") && contains("\"laplace\", \"sigmoid\""));
  CHECK_THAT(message_of(file("DDIMInverseScheduler", R"("timestep_spacing": "linspace")")),
             contains("timestep_spacing is \"linspace\"") && contains("\"leading\", \"trailing\""));
  CHECK_THAT(message_of(file("DDIMInverseScheduler", R"("set_alpha_to_zero": 7)")),
             contains("set_alpha_to_zero is 7") && contains("true or false"));
}

TEST_CASE("classes that are not supported are named, and the nearest that is") {
  CHECK_THAT(message_of(file("FlaxDDIMScheduler")),
             contains("_class_name is \"FlaxDDIMScheduler\"") && contains("is DDIMScheduler"));
  CHECK_THAT(message_of(R"({"_class_name": 3})"),
             contains("_class_name is 3") && contains("name of a scheduler class"));
  CHECK_THAT(message_of("{}"), contains("_class_name is missing") && contains("load_as"));
  CHECK_THAT(message_of(file("DDIMScheduler"), "DDIMSchedule"),
             contains("the scheduler class is \"DDIMSchedule\"") && contains("is DDIMScheduler"));
  const std::vector<std::string> known = diffusers_class_names();
  for (const char* name : {"DDPMScheduler", "DDPMParallelScheduler", "DDIMScheduler",
                           "DDIMParallelScheduler", "DDIMInverseScheduler"})
    CHECK(std::count(known.begin(), known.end(), name) == 1);
}

TEST_CASE("text that is no configuration") {
  CHECK_THAT(message_of(""), contains("not JSON"));
  CHECK_THAT(message_of("{\"a\": "), contains("not JSON"));
  CHECK_THAT(message_of("{\"a\": Inf}"), contains("not JSON") && contains("line 1"));
  CHECK_THAT(message_of("[1, 2]"), contains("JSON array") && contains("object"));
  CHECK_THAT(message_of("-Infinity"), contains("object"));
  CHECK_THAT(message_of(std::string("{\"\xff\": \"\xfe\"}")), contains("not JSON"));
  CHECK_THAT(message_of(std::string(100000, '[')), contains("not JSON"));
}

TEST_CASE("deep nesting is refused, before a message or a copy of it overflows the stack") {
  const auto nested = [](std::size_t depth) {
    return file("DDIMScheduler",
                "\"unknown\": " + std::string(depth, '[') + std::string(depth, ']'));
  };
  CHECK(message_of(nested(64)) == "(nothing was wrong)");
  CHECK_THAT(message_of(nested(65)), contains("not JSON with values of at most 64 levels"));
  CHECK_THAT(message_of(nested(1'000'000)), contains("not JSON with values of at most 64 levels"));
}

TEST_CASE("text that is no JSON is not repeated at length, nor its control characters") {
  const std::string message = message_of("{\"a\": \"" + std::string(5000, 'x'));
  CHECK_THAT(message, contains("not JSON") && contains("..."));
  CHECK(message.size() < 300);
  const std::string unprintable = message_of("{\"a\": \"\x1b[31m\n\"}");
  CHECK_THAT(unprintable, contains("not JSON"));
  CHECK(unprintable.find('\x1b') == std::string::npos);
  CHECK(unprintable.find('\n') == std::string::npos);
}

TEST_CASE("long values are cut short in messages") {
  const std::string message =
      message_of(file("DDIMScheduler", R"("beta_start": ")" + std::string(5000, 'x') + "\""));
  CHECK_THAT(message, contains("xxx ..."));
  CHECK(message.size() < 200);
}

TEST_CASE("options of a run are checked when its plan is made") {
  const DiffusersConfig config = parse(file("DDIMScheduler"));
  CHECK_THROWS_WITH(config.plan({.steps = 0}), contains("steps is 0") && contains("[1, 1000]"));
  CHECK_THROWS_WITH(config.plan({.steps = 1001}), contains("steps is 1001"));
  CHECK_THROWS_WITH(config.plan({.steps = 5, .eta = 1.5}), contains("eta is 1.5"));
  CHECK_THROWS_WITH(config.plan({.timesteps = {5, 7}}), contains("timesteps[1] is 7"));
}

TEST_CASE("reading a file") {
  const auto path = std::filesystem::temp_directory_path() /
                    ("diffusion-test-" + std::to_string(getpid()) + "-scheduler_config.json");
  const auto write = [&](const std::string& text) { std::ofstream(path) << text; };
  write(file("DDPMScheduler", R"("clip_sample": false)"));
  CHECK(load_diffusers_config(path).class_name == "DDPMScheduler");
  CHECK(load_diffusers_config(path, {.load_as = "DDIMScheduler"}).class_name == "DDIMScheduler");
  write(file("DDPMScheduler", R"("beta_end": 2)"));
  CHECK_THROWS_WITH(load_diffusers_config(path),
                    contains(path.string()) && contains("beta_end is 2"));
  std::filesystem::remove(path);
  CHECK_THROWS_WITH(load_diffusers_config(path),
                    contains("there is no file") && contains(path.string()));
  CHECK_THROWS_WITH(load_diffusers_config(path.parent_path() / "nothing"),
                    contains("there is no file"));
}
